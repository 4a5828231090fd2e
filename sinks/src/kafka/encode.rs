//! Records as a partition holds them.

use std::sync::Arc;

use skidder_pipeline::batch::{Batch, RecordView};
use skidder_pipeline::body::Bodies;
use skidder_pipeline::edge::Clock;
use skidder_pipeline::id::RecordIds;
use skidder_pipeline::path::Path;
use skidder_pipeline::shared::PerShared;
use skidder_pipeline::sink::Encode;
use skidder_pipeline::template::Template;

use super::partitions::{Partitions, Place};
use super::records::{Record, hash};
use super::topic::Topic;
use crate::common::schema::{Renamer, Schema};
use crate::common::semantics::unix_nanos;
use crate::lines;

/// The header with the record's id, called as the other stores have it (OpenTelemetry's attribute).
pub const ID_HEADER: &str = "log.record.uid";

const NANOS_PER_MILLI: i64 = 1_000_000;

/// What the configuration says.
pub struct Settings {
    pub topic: Topic,
    /// None for no keys.
    pub key: Option<Template>,
    pub schema: Schema,
    pub time: Path,
    pub partitions: Arc<Partitions>,
    pub clock: Arc<dyn Clock>,
}

/// Writes a record of Kafka for each record: the JSON object as value.
pub struct RecordEncoder {
    settings: Arc<Settings>,
    /// Where fields have other names; topic, key and time go by those that they had.
    renamer: Option<Renamer>,
    ready: PerShared<Vec<u8>>,
    groups: Vec<Group>,
    value: Vec<u8>,
}

/// The records of a batch for one body.
struct Group {
    destination: String,
    encoded: Vec<u8>,
    records: u32,
    /// How many the body holds already.
    before: u32,
}

/// Where a record goes.
#[derive(Default)]
struct Way {
    topic: String,
    key: Option<String>,
    /// The index of its group.
    group: usize,
}

impl RecordEncoder {
    pub fn new(settings: Arc<Settings>) -> RecordEncoder {
        let renamer = (settings.schema != Schema::Vector).then(|| Renamer::new(settings.schema));
        RecordEncoder { settings, renamer, ready: PerShared::new(), groups: Vec::new(), value: Vec::new() }
    }
}

impl Encode for RecordEncoder {
    fn encode(&mut self, original: &Batch, route: u8, out: &mut Bodies) {
        let RecordEncoder { settings, renamer, ready, groups, value } = self;
        let batch = match renamer {
            None => original,
            Some(renamer) => renamer.rename(original),
        };
        let members = ready.get_or_make(batch.shared(), |shared| lines::shared_members(shared));
        let ids = RecordIds::new(original.file(), route);
        let shared = original.shared();
        // The records of a container mostly go one way, which is found once.
        let one_way = settings.topic.is_shared(shared) && settings.key.as_ref().is_none_or(|key| key.is_shared(shared));
        let mut way: Option<Way> = None;
        for (record, original) in batch.records().zip(original.records()) {
            value.clear();
            lines::write_line(&record, members, value);
            if way.is_none() || !one_way {
                way = Some(settings.way(&original, groups, out));
            }
            let Some(way) = &way else { continue };
            let id = ids.text(record.offset);
            let headers: [(&[u8], &[u8]); 2] = [(ID_HEADER.as_bytes(), &id), (b"content-type", b"application/json")];
            let record = Record {
                millis: settings.millis(&original),
                key: way.key.as_ref().map(|key| key.as_bytes()),
                value: value.trim_ascii_end(),
                headers: &headers,
            };
            let group = &mut groups[way.group];
            record.write(group.before + group.records, &mut group.encoded);
            group.records += 1;
        }
        for group in groups.drain(..) {
            out.write(&group.destination, &group.encoded, group.records);
        }
    }
}

impl Settings {
    fn way(&self, record: &RecordView<'_>, groups: &mut Vec<Group>, out: &Bodies) -> Way {
        let mut way = Way { key: self.key.as_ref().and_then(|key| key.render(record)), ..Way::default() };
        self.topic.render(record, &mut way.topic);
        let place = match &way.key {
            None => Place::Any,
            Some(key) => match (hash(key.as_bytes()), self.partitions.count(&way.topic)) {
                (hash, Some(count)) => Place::Partition(hash % count),
                (hash, None) => Place::Hash(hash),
            },
        };
        let destination = format!("{}{}", way.topic, place.tag());
        way.group = groups.iter().position(|group| group.destination == destination).unwrap_or_else(|| {
            let before = out.records_in(&destination);
            groups.push(Group { destination, encoded: Vec::new(), records: 0, before });
            groups.len() - 1
        });
        way
    }

    /// When the record happened, else now. Kafka knows no time before 1970.
    fn millis(&self, record: &RecordView<'_>) -> i64 {
        let nanos = record.get(&self.time).and_then(unix_nanos);
        (nanos.unwrap_or_else(|| self.clock.unix_nanos()) / NANOS_PER_MILLI).max(0)
    }
}
