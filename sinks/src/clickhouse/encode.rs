//! Batches as bodies of rows, or, before the table's columns are known, as records that become rows when they are sent.

use std::collections::HashMap;
use std::sync::Arc;

use skidder_pipeline::batch::{Batch, RecordView};
use skidder_pipeline::body::Bodies;
use skidder_pipeline::id::RecordIds;
use skidder_pipeline::shared::PerShared;
use skidder_pipeline::sink::Encode;

use super::layout::{Form, Layout};
use super::map::Mapper;
use super::tables::Tables;
use crate::destination::Router;
use crate::lines::{shared_members, write_line};

/// The layout's tag in the destination of bodies that hold records and no rows yet.
pub const RAW: &str = "raw";

/// Writes a row a record. What the table looks like it is told by [`Tables`]; it asks nobody.
pub struct RowEncoder {
    router: Router,
    tables: Arc<Tables>,
    mapper: Mapper,
    shared: PerShared<Vec<u8>>,
    /// The layouts of the batch at hand, so that one batch has one for each table.
    layouts: HashMap<String, Option<Arc<Layout>>>,
}

impl RowEncoder {
    pub fn new(router: Router, tables: Arc<Tables>, mapper: Mapper) -> RowEncoder {
        RowEncoder { router, tables, mapper, shared: PerShared::new(), layouts: HashMap::new() }
    }
}

impl Encode for RowEncoder {
    fn encode(&mut self, batch: &Batch, route: u8, out: &mut Bodies) {
        let ids = RecordIds::new(batch.file(), route);
        self.layouts.clear();
        self.mapper.begin(batch);
        self.router.begin(batch.shared());
        for record in batch.records() {
            let (table, rows) = self.router.scratch_of(&record);
            let layout = match self.layouts.get(table) {
                Some(layout) => layout,
                None => self.layouts.entry(table.to_owned()).or_insert_with(|| self.tables.layout(table)),
            };
            let id = ids.text(record.offset);
            match layout {
                Some(layout) => self.mapper.write(layout, &record, &id, rows),
                None => write_raw(&record, &id, self.shared.get_or_make(batch.shared(), |shared| shared_members(shared)), rows),
            }
        }
        let layouts = &self.layouts;
        self.router.end_with(|table, rows, records| {
            let layout = layouts.get(table).and_then(Option::as_ref);
            let destination = format!("{table} {}", layout.map_or(RAW, |layout| &layout.tag));
            match layout.filter(|layout| layout.form == Form::Rows && !out.is_open(&destination)) {
                Some(layout) => out.write(&destination, &[&layout.head, rows].concat(), records),
                None => out.write(&destination, rows, records),
            }
        });
    }
}

/// Appends the record as `{"id":"…","shared":{…},"own":{…}}` and a line feed.
fn write_raw(record: &RecordView<'_>, id: &[u8], shared: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"id\":\"");
    out.extend_from_slice(id);
    out.extend_from_slice(b"\",\"shared\":{");
    out.extend_from_slice(shared);
    out.extend_from_slice(b"},\"own\":");
    write_line(record, b"", out);
    out.pop();
    out.extend_from_slice(b"}\n");
}
