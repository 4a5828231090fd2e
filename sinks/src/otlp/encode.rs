//! Records as log records of a resource.

use std::collections::BTreeMap;
use std::sync::Arc;

use skidder_pipeline::batch::{Batch, RecordView};
use skidder_pipeline::body::Bodies;
use skidder_pipeline::edge::Clock;
use skidder_pipeline::id::RecordIds;
use skidder_pipeline::json;
use skidder_pipeline::path::Path;
use skidder_pipeline::shared::PerShared;
use skidder_pipeline::sink::Encode;
use skidder_pipeline::value::{Kind, Value};

use super::resource::Resource;
use super::value::{any, attribute, text_attribute};
use crate::common::proto;
use crate::common::semantics::{Finder, Meaning};

/// What the configuration says.
pub struct Settings {
    pub time: Option<Path>,
    pub resource: BTreeMap<String, String>,
    pub clock: Arc<dyn Clock>,
}

/// Writes one `ResourceLogs` a batch:
///
/// ```text
/// message ResourceLogs { Resource resource = 1; repeated ScopeLogs scope_logs = 2; string schema_url = 3; }
/// message ScopeLogs { InstrumentationScope scope = 1; repeated LogRecord log_records = 2; string schema_url = 3; }
/// message LogRecord { fixed64 time_unix_nano = 1; SeverityNumber severity_number = 2; string severity_text = 3; AnyValue body = 5;
///                     repeated KeyValue attributes = 6; bytes trace_id = 9; bytes span_id = 10; fixed64 observed_time_unix_nano = 11; }
/// ```
///
/// (opentelemetry-proto 1.9, `logs/v1/logs.proto`.)
pub struct OtlpEncoder {
    settings: Arc<Settings>,
    finder: Finder,
    ready: PerShared<Resource>,
    records: Vec<u8>,
    out: Vec<u8>,
}

impl OtlpEncoder {
    pub fn new(settings: Arc<Settings>) -> OtlpEncoder {
        let finder = Finder::new(settings.time.clone());
        OtlpEncoder { settings, finder, ready: PerShared::new(), records: Vec::new(), out: Vec::new() }
    }
}

impl Encode for OtlpEncoder {
    fn encode(&mut self, batch: &Batch, route: u8, bodies: &mut Bodies) {
        let OtlpEncoder { settings, finder, ready, records, out } = self;
        let resource = ready.get_or_make(batch.shared(), |shared| Resource::new(settings, shared));
        let ids = RecordIds::new(batch.file(), route);
        let observed = settings.clock.unix_nanos().max(0) as u64;
        records.clear();
        finder.begin(batch);
        for record in batch.records() {
            let meaning = finder.find(&record);
            proto::message(2, records, |out| {
                write_record(&record, &meaning, &ids.text(record.offset), observed, out);
                out.extend_from_slice(&resource.of_records);
            });
        }
        let scope_logs = resource.scope.len() + records.len();
        out.clear();
        proto::head(1, resource.message.len() + proto::bytes_len(2, scope_logs), out);
        out.extend_from_slice(&resource.message);
        proto::head(2, scope_logs, out);
        out.extend_from_slice(&resource.scope);
        out.extend_from_slice(records);
        bodies.write("", out, batch.len() as u32);
    }
}

fn write_record(record: &RecordView<'_>, meaning: &Meaning<'_>, id: &[u8], observed: u64, out: &mut Vec<u8>) {
    if let Some(time) = meaning.time.filter(|time| *time > 0) {
        proto::fixed64(1, time as u64, out);
    }
    if let Some(level) = meaning.level {
        proto::uint(2, meaning.severity.map_or(0, |severity| severity.0.into()), out);
        proto::bytes(3, &level.what.plain(), out);
    }
    let bytes = record.bytes();
    let fields = || record.fields().iter().map(|field| (field.key.of(bytes), Value { kind: field.kind, raw: field.value.of(bytes) }));
    // What other loggers call it.
    let body = [&b"message"[..], b"msg"].iter().find_map(|key| fields().position(|(name, value)| name == *key && value.kind.is_text()));
    let is_elsewhere = |index: usize, key: &[u8], value: Value<'_>| {
        let is = |found: Option<(usize, bool)>| found == Some((index, true));
        Some(index) == body
            || (key == b"timestamp" && meaning.time_field == Some(index) && value.kind.is_text())
            || (key == b"stream" && value.kind.is_text())
            || (is(meaning.level.map(|found| (found.field, found.whole))) && value.kind.is_text())
            || is(meaning.trace_id.map(|found| (found.field, found.whole)))
            || is(meaning.span_id.map(|found| (found.field, found.whole)))
    };
    let rest = || fields().enumerate().filter(|(index, (key, value))| !is_elsewhere(*index, key, *value)).map(|(_, field)| field);
    match body.and_then(|index| fields().nth(index)) {
        Some((_, value)) => {
            proto::message(5, out, |out| any(value, out));
            rest().for_each(|(key, value)| attribute(6, &json::unescape(key), value, out));
        }
        None => proto::message(5, out, |out| {
            proto::message(6, out, |out| rest().for_each(|(key, value)| attribute(1, &json::unescape(key), value, out)));
        }),
    }
    if let Some((_, stream)) = fields().find(|(key, value)| *key == b"stream" && value.kind != Kind::Object && value.kind.is_text()) {
        text_attribute(6, "log.iostream", &stream.plain(), out);
    }
    text_attribute(6, "log.record.uid", id, out);
    if let Some(trace) = meaning.trace_id {
        proto::bytes(9, &trace.what, out);
    }
    if let Some(span) = meaning.span_id {
        proto::bytes(10, &span.what, out);
    }
    proto::fixed64(11, observed, out);
}
