//! A record as a row: each column takes its part, and what no column takes goes to the one that takes the rest.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use skidder_pipeline::batch::{Batch, RecordView};
use skidder_pipeline::json;
use skidder_pipeline::path::Path;
use skidder_pipeline::shared::{PerShared, Shared};
use skidder_pipeline::value::{Kind, Value};

use super::coerce::{self, write_length, write_text};
use super::layout::{Column, Form, Layout, Source};
use super::rows;
use super::types::Type;
use crate::common::schema::{self, Place};
use crate::common::semantics::{Finder, Meaning};
use crate::lines::{write_member, write_value};

/// Writes rows. Pure, but for the count of what it had to leave out.
pub struct Mapper {
    finder: Finder,
    ready: PerShared<Vec<(Arc<Layout>, Ready)>>,
    /// For each of the record's own fields: whether a column has it.
    taken: Vec<bool>,
    scratch: Vec<u8>,
    /// Fields that no column takes, in tables where none takes the rest.
    left_out: Arc<AtomicU64>,
}

/// What is the same for all records with the same shared fields.
#[derive(Clone, Default)]
struct Ready {
    /// The value of a column that takes [`Source::Resource`], as it stands in a row.
    resource: Vec<u8>,
    /// What the column that takes the rest has of the shared fields: pairs of a map, or members of an object.
    rest: Vec<u8>,
    rest_count: usize,
}

/// What a column takes of a record.
enum Cell<'a> {
    Missing,
    Time(i64),
    Text(Vec<u8>),
    /// A value, and which of the record's own fields it is.
    Value(Value<'a>, Option<usize>),
}

impl Mapper {
    /// A mapper; `time` names the field that the time is read from before `timestamp`.
    pub fn new(time: Option<Path>, left_out: Arc<AtomicU64>) -> Mapper {
        Mapper { finder: Finder::new(time), ready: PerShared::new(), taken: Vec::new(), scratch: Vec::new(), left_out }
    }

    /// Begins a batch.
    pub fn begin(&mut self, batch: &Batch) {
        self.finder.begin(batch);
    }

    /// Appends `record`, of the batch that was begun, as a row of `layout`.
    pub fn write(&mut self, layout: &Arc<Layout>, record: &RecordView<'_>, id: &[u8], out: &mut Vec<u8>) {
        let ready = self.ready.get_or_make(record.shared(), |_| Vec::new());
        let index = match ready.iter().position(|(of, _)| Arc::ptr_eq(of, layout)) {
            Some(index) => index,
            None => {
                // More than a few layouts at a time are changes of tables.
                if ready.len() >= 8 {
                    ready.clear();
                }
                ready.push((layout.clone(), Ready::new(layout, record.shared())));
                ready.len() - 1
            }
        };
        let ready = &ready[index].1;
        let meaning = self.finder.find(record);
        self.taken.clear();
        self.taken.resize(record.fields().len(), false);
        let mut row =
            Row { record, meaning: &meaning, id, service: self.finder.service(), taken: &mut self.taken, ready, otel: layout.has_resource };
        match layout.form {
            Form::Rows => {
                for column in &layout.columns {
                    // All have a type: else it were no layout of rows.
                    if let Some(of) = &column.of
                        && !row.write(column, of, &mut self.scratch, out)
                    {
                        coerce::write_default(of, out);
                    }
                }
            }
            Form::Json => row.write_json(layout, &mut self.scratch, out),
        }
        if !layout.has_rest {
            let left = self.taken.iter().filter(|taken| !**taken).count();
            if left > 0 {
                self.left_out.fetch_add(left as u64, Ordering::Relaxed);
            }
        }
    }
}

struct Row<'r, 'a> {
    record: &'r RecordView<'a>,
    meaning: &'r Meaning<'a>,
    id: &'r [u8],
    service: &'r str,
    taken: &'r mut [bool],
    ready: &'r Ready,
    /// Whether names are OpenTelemetry's.
    otel: bool,
}

impl<'a> Row<'_, 'a> {
    /// Appends the value of a column. Says whether there is one: else nothing is appended.
    fn write(&mut self, column: &Column, of: &Type, scratch: &mut Vec<u8>, out: &mut Vec<u8>) -> bool {
        match column.source {
            Source::Resource => {
                out.extend_from_slice(&self.ready.resource);
                return true;
            }
            Source::Rest => {
                self.write_rest(of, scratch, out);
                return true;
            }
            _ => {}
        }
        match self.cell(&column.source) {
            Cell::Missing => false,
            Cell::Text(text) => coerce::write(of, Value::text(&text), out),
            Cell::Time(nanos) => {
                let done = coerce::write_time(of, nanos, out) || {
                    scratch.clear();
                    rows::write_time(nanos.into(), scratch);
                    coerce::write(of, Value { kind: Kind::String, raw: scratch.trim_ascii().trim_quotes() }, out)
                };
                if done && let Some(field) = self.meaning.time_field {
                    self.taken[field] = true;
                }
                done
            }
            Cell::Value(value, field) => {
                let done = coerce::write(of, value, out);
                if done && let Some(field) = field {
                    self.taken[field] = true;
                }
                done
            }
        }
    }

    fn cell(&mut self, source: &Source) -> Cell<'a> {
        let text = |text: String| Cell::Text(text.into_bytes());
        let meaning = self.meaning;
        match source {
            Source::Time => meaning.time.map_or(Cell::Missing, Cell::Time),
            Source::TraceId => match meaning.trace_id {
                None => Cell::Missing,
                Some(found) => {
                    self.taken[found.field] |= found.whole;
                    text(hex(&found.what))
                }
            },
            Source::SpanId => match meaning.span_id {
                None => Cell::Missing,
                Some(found) => {
                    self.taken[found.field] |= found.whole;
                    text(hex(&found.what))
                }
            },
            Source::SeverityText => match meaning.level {
                None => Cell::Missing,
                Some(found) => Cell::Value(found.what, found.whole.then_some(found.field)),
            },
            Source::SeverityNumber => match meaning.severity {
                None => Cell::Missing,
                Some(severity) => text(severity.0.to_string()),
            },
            Source::ServiceName => match meaning.service {
                None => Cell::Text(self.service.as_bytes().to_vec()),
                Some(found) => Cell::Value(found.what, found.whole.then_some(found.field)),
            },
            Source::Id => Cell::Text(self.id.to_vec()),
            Source::Field(path) => {
                let bytes = self.record.bytes();
                let own = self.record.fields().iter().position(|field| field.key.of(bytes) == path.first());
                match self.record.get(path) {
                    None => Cell::Missing,
                    // A value within a field: the field stays, for what else is in it.
                    Some(value) => Cell::Value(value, own.filter(|_| path.rest().is_empty())),
                }
            }
            Source::Resource | Source::Rest => Cell::Missing,
        }
    }

    /// What a field that no column takes is called: where the container's have OpenTelemetry's names, the stream has too.
    fn name<'k>(&self, key: &'k [u8]) -> &'k [u8] {
        if self.otel && key == b"stream" { b"log.iostream" } else { key }
    }

    fn write_rest(&self, of: &Type, scratch: &mut Vec<u8>, out: &mut Vec<u8>) {
        let bytes = self.record.bytes();
        let left = || self.record.fields().iter().zip(&*self.taken).filter(|(_, taken)| !**taken).map(|(field, _)| field);
        if let Type::Map(..) = of {
            write_length(self.ready.rest_count + left().count(), out);
            out.extend_from_slice(&self.ready.rest);
            for field in left() {
                write_text(&json::unescape(self.name(field.key.of(bytes))), out);
                write_text(&Value { kind: field.kind, raw: field.value.of(bytes) }.plain(), out);
            }
            return;
        }
        scratch.clear();
        scratch.push(b'{');
        scratch.extend_from_slice(&self.ready.rest);
        for field in left() {
            let value = Value { kind: field.kind, raw: field.value.of(bytes) };
            write_member(self.name(field.key.of(bytes)), value, scratch.len() > 1, scratch);
        }
        scratch.push(b'}');
        write_text(scratch, out);
    }

    /// A row of JSONEachRow: what is not there is left to the server.
    fn write_json(&mut self, layout: &Layout, scratch: &mut Vec<u8>, out: &mut Vec<u8>) {
        out.push(b'{');
        let mut comma = false;
        let mut binary = Vec::new();
        for column in &layout.columns {
            let start = out.len();
            out.extend_from_slice(if comma { b",\"" } else { b"\"" });
            json::escape(column.name.as_bytes(), out);
            out.extend_from_slice(b"\":");
            let written = match &column.of {
                Some(of) => {
                    binary.clear();
                    self.write(column, of, scratch, &mut binary) && rows::write_json(of, &mut &binary[..], out).is_some()
                }
                None => match self.cell(&column.source) {
                    Cell::Value(value, field) => {
                        write_value(value, out);
                        if let Some(field) = field {
                            self.taken[field] = true;
                        }
                        true
                    }
                    Cell::Text(text) => {
                        write_value(Value::text(&text), out);
                        true
                    }
                    Cell::Time(_) | Cell::Missing => false,
                },
            };
            if written {
                comma = true;
            } else {
                out.truncate(start);
            }
        }
        out.extend_from_slice(b"}\n");
    }
}

impl Ready {
    fn new(layout: &Layout, shared: &Shared) -> Ready {
        let mut ready = Ready::default();
        for column in &layout.columns {
            let Some(of) = &column.of else { continue };
            match column.source {
                Source::Resource => {
                    let mut pairs = Pairs::new(of);
                    for (name, value, place) in schema::otel(shared) {
                        if place == Place::Resource || !layout.has_rest {
                            pairs.add(&escaped(&name), value);
                        }
                    }
                    pairs.write_whole(&mut ready.resource);
                }
                Source::Rest if layout.has_resource => {
                    let mut pairs = Pairs::new(of);
                    for (name, value, _) in schema::otel(shared).iter().filter(|(_, _, place)| *place == Place::Record) {
                        pairs.add(&escaped(name), *value);
                    }
                    (ready.rest, ready.rest_count) = (pairs.bytes, pairs.count);
                }
                Source::Rest => {
                    let mut pairs = Pairs::new(of);
                    // Those that a column takes whole need no second place.
                    let has_place = |key: &[u8]| {
                        layout.columns.iter().any(|column| match &column.source {
                            Source::Field(path) => path.rest().is_empty() && path.first() == key,
                            _ => false,
                        })
                    };
                    for (key, value) in shared.iter().filter(|(key, _)| !has_place(key)) {
                        pairs.add_flat(key, value);
                    }
                    (ready.rest, ready.rest_count) = (pairs.bytes, pairs.count);
                }
                _ => {}
            }
        }
        ready
    }
}

/// Pairs of a map, or members of an object, being put together.
struct Pairs<'t> {
    of: &'t Type,
    bytes: Vec<u8>,
    count: usize,
}

impl<'t> Pairs<'t> {
    fn new(of: &'t Type) -> Pairs<'t> {
        Pairs { of, bytes: Vec::new(), count: 0 }
    }

    /// Adds a pair; the key is in its escaped form.
    fn add(&mut self, key: &[u8], value: Value<'_>) {
        match self.of {
            Type::Map(..) => {
                write_text(&json::unescape(key), &mut self.bytes);
                write_text(&value.plain(), &mut self.bytes);
            }
            _ => write_member(key, value, self.count > 0, &mut self.bytes),
        }
        self.count += 1;
    }

    /// Adds what is in `value`: in a map each member of an object under its whole path (`kubernetes.pod_name`).
    fn add_flat(&mut self, key: &[u8], value: Value<'_>) {
        if value.kind != Kind::Object || !matches!(self.of, Type::Map(..)) {
            return self.add(key, value);
        }
        json::members(value, |name, member| self.add_flat(&[key, b".", name].concat(), member));
    }

    /// Appends all of it as a value.
    fn write_whole(self, out: &mut Vec<u8>) {
        match self.of {
            Type::Map(..) => {
                write_length(self.count, out);
                out.extend_from_slice(&self.bytes);
            }
            of => {
                let text = [b"{", &self.bytes[..], b"}"].concat();
                if !coerce::write(of, Value { kind: if *of == Type::Json { Kind::Object } else { Kind::Text }, raw: &text }, out) {
                    coerce::write_default(of, out);
                }
            }
        }
    }
}

/// A name as a key.
fn escaped(name: &str) -> Vec<u8> {
    let mut key = Vec::new();
    json::escape(name.as_bytes(), &mut key);
    key
}

trait TrimQuotes {
    fn trim_quotes(&self) -> &[u8];
}

impl TrimQuotes for [u8] {
    fn trim_quotes(&self) -> &[u8] {
        self.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")).unwrap_or(self)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
