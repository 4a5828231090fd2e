//! Records as lines of `_bulk`.

use skidder_pipeline::batch::{Batch, Field};
use skidder_pipeline::body::Bodies;
use skidder_pipeline::id::RecordIds;
use skidder_pipeline::json;
use skidder_pipeline::shared::{PerShared, Shared};
use skidder_pipeline::sink::Encode;
use skidder_pipeline::value::{Kind, Value};

use super::{IdStrategy, Labels};
use crate::common::schema::{Renamer, Schema};
use crate::common::semantics::unix_nanos;
use crate::destination::Router;
use crate::lines::{write_member, write_some, write_value};

/// Writes two lines a record. `timestamp` becomes `@timestamp`, unless a record has that already.
pub struct BulkEncoder {
    router: Router,
    ids: IdStrategy,
    labels: Labels,
    /// Where fields have other names; the destination goes by those that they had.
    renamer: Option<Renamer>,
    ready: PerShared<Ready>,
}

/// What is the same for all records with the same shared fields.
struct Ready {
    /// The shared fields as members, without braces and without a `timestamp`.
    members: Vec<u8>,
    /// A shared `timestamp`, as JSON.
    timestamp: Option<Vec<u8>>,
    /// There is a shared `@timestamp`.
    has_at_timestamp: bool,
    /// The object of labels that is being written, and the keys in it.
    open: Option<&'static [u8]>,
    known: Vec<Vec<u8>>,
}

const TIMESTAMP: &[u8] = b"timestamp";
const AT_TIMESTAMP: &[u8] = b"@timestamp";

impl BulkEncoder {
    pub fn new(router: Router, ids: IdStrategy, labels: Labels, schema: Schema) -> BulkEncoder {
        BulkEncoder { router, ids, labels, renamer: schema.renamer(), ready: PerShared::new() }
    }
}

impl Encode for BulkEncoder {
    fn encode(&mut self, batch: &Batch, route: u8, out: &mut Bodies) {
        let (router, labels, has_id) = (&mut self.router, self.labels, self.ids == IdStrategy::Deterministic);
        router.begin(batch.shared());
        let original = batch;
        let batch = match &mut self.renamer {
            None => batch,
            Some(renamer) => renamer.rename(batch),
        };
        let ready = self.ready.get_or_make(batch.shared(), |shared| Ready::new(shared, labels));
        let ids = RecordIds::new(batch.file(), route);
        let bytes = batch.bytes();
        for (record, original) in batch.records().zip(original.records()) {
            let fields = record.fields();
            let rename = !ready.has_at_timestamp && !fields.iter().any(|field| field.key.of(bytes) == AT_TIMESTAMP);
            let timestamp = if rename { AT_TIMESTAMP } else { TIMESTAMP };

            let out = router.scratch(&original);
            if has_id {
                out.extend_from_slice(b"{\"create\":{\"_id\":\"");
                out.extend_from_slice(&ids.text(record.offset));
                out.extend_from_slice(b"\"}}\n{");
            } else {
                out.extend_from_slice(b"{\"create\":{}}\n{");
            }
            let mut comma = !ready.members.is_empty();
            out.extend_from_slice(&ready.members);
            if let Some(json) = &ready.timestamp {
                out.extend_from_slice(if comma { b",\"" } else { b"\"" });
                out.extend_from_slice(timestamp);
                out.extend_from_slice(b"\":");
                out.extend_from_slice(json);
                comma = true;
            }
            let is_special = |field: &Field| {
                let key = field.key.of(bytes);
                key == TIMESTAMP || key == AT_TIMESTAMP || (field.kind == Kind::Object && labels == Labels::Dedot && holds_metadata(key))
            };
            let mut rest = fields;
            while let Some((field, after)) = rest.split_first() {
                if is_special(field) {
                    let (key, value) = (field.key.of(bytes), Value { kind: field.kind, raw: field.value.of(bytes) });
                    if key == AT_TIMESTAMP || key == TIMESTAMP && rename {
                        write_time(value, comma, out);
                    } else if key == TIMESTAMP {
                        write_member(TIMESTAMP, value, comma, out);
                    } else {
                        write_dedotted(key, value, comma, out);
                    }
                    rest = after;
                } else {
                    rest = write_some(bytes, rest, comma, |field| !is_special(field), out);
                }
                comma = true;
            }
            out.extend_from_slice(b"}\n");
        }
        router.end(out);
    }
}

impl Ready {
    fn new(shared: &Shared, labels: Labels) -> Ready {
        let has_at_timestamp = shared.get(AT_TIMESTAMP).is_some();
        let mut ready = Ready { members: Vec::new(), timestamp: None, has_at_timestamp, open: None, known: Vec::new() };
        for (key, value) in shared.iter() {
            if ready.open.is_some_and(|of| !key.starts_with(of)) {
                ready.close_labels();
            }
            let comma = !ready.members.is_empty();
            if key == TIMESTAMP {
                let mut json = Vec::new();
                write_value(value, &mut json);
                ready.timestamp = Some(json);
            } else if let Some((of, label)) = LABELS.iter().find_map(|of| Some((of, key.strip_prefix(*of)?))) {
                ready.add_label(of, label, value, labels);
            } else if labels == Labels::Dedot {
                write_dedotted(key, value, comma, &mut ready.members);
            } else {
                write_member(key, value, comma, &mut ready.members);
            }
        }
        ready.close_labels();
        ready
    }

    /// Adds a label that has a field of its own: to the object of all labels of its kind, so that a mapping may be made for it.
    fn add_label(&mut self, of: &'static [u8], label: &[u8], value: Value<'_>, labels: Labels) {
        if self.open != Some(of) {
            self.close_labels();
            let comma = if self.members.is_empty() { &b"\""[..] } else { b",\"" };
            self.members.extend_from_slice(&[comma, &of[..of.len() - 1], b"\":{"].concat());
            self.open = Some(of);
        }
        let mut key: Vec<u8> = label.to_vec();
        if labels == Labels::Dedot {
            key.iter_mut().filter(|byte| **byte == b'.').for_each(|byte| *byte = b'_');
        }
        while self.known.contains(&key) {
            key.push(b'_');
        }
        write_member(&key, value, !self.known.is_empty(), &mut self.members);
        self.known.push(key);
    }

    fn close_labels(&mut self) {
        if self.open.take().is_some() {
            self.members.push(b'}');
            self.known.clear();
        }
    }
}

/// What the names of labels and annotations begin with in OpenTelemetry's words and in ECS's.
const LABELS: [&[u8]; 9] = [
    b"k8s.pod.label.",
    b"k8s.pod.annotation.",
    b"k8s.node.label.",
    b"k8s.namespace.label.",
    b"k8s.namespace.annotation.",
    b"kubernetes.labels.",
    b"kubernetes.annotations.",
    b"kubernetes.node.labels.",
    b"kubernetes.namespace_labels.",
];

/// Appends `@timestamp`, in RFC 3339 where it is a time that is written otherwise: Elasticsearch would take seconds for milliseconds.
/// What is no time stays, for the store to say so.
fn write_time(value: Value<'_>, comma: bool, out: &mut Vec<u8>) {
    let is_plain = value.kind.is_text() && value.raw.get(10) == Some(&b'T') && !value.raw.contains(&b',');
    let nanos = if is_plain { None } else { unix_nanos(value) };
    match nanos.and_then(|nanos| jiff::Timestamp::from_nanosecond(nanos.into()).ok()) {
        Some(time) => write_member(AT_TIMESTAMP, Value::text(time.to_string().as_bytes()), comma, out),
        None => write_member(AT_TIMESTAMP, value, comma, out),
    }
}

/// Appends a member, with the keys of labels and annotations in it dedotted where it is where the metadata stands.
fn write_dedotted(key: &[u8], value: Value<'_>, comma: bool, out: &mut Vec<u8>) {
    if value.kind == Kind::Object && holds_metadata(key) {
        out.extend_from_slice(if comma { b",\"" } else { b"\"" });
        out.extend_from_slice(key);
        out.extend_from_slice(b"\":");
        if holds_labels(key) {
            write_labels(value, out);
        } else {
            out.push(b'{');
            let mut comma = false;
            json::members(value, |key, value| {
                write_dedotted(key, value, comma, out);
                comma = true;
            });
            out.push(b'}');
        }
    } else {
        write_member(key, value, comma, out);
    }
}

/// Whether labels may be in the object called `key`.
fn holds_metadata(key: &[u8]) -> bool {
    key == b"kubernetes" || holds_labels(key)
}

/// `pod_labels`, `node_labels`, `pod_annotations`, `labels`, …
fn holds_labels(key: &[u8]) -> bool {
    let after = |word: &[u8]| key.strip_suffix(word).is_some_and(|before| matches!(before.last(), None | Some(b'_')));
    after(b"labels") || after(b"annotations")
}

/// Appends an object of labels with `_` in place of the dots in its keys. Two keys that become one (`a.b` and `a_b`) stay
/// two: the later gets another `_`.
fn write_labels(object: Value<'_>, out: &mut Vec<u8>) {
    let mut known: Vec<Vec<u8>> = Vec::new();
    out.push(b'{');
    json::members(object, |key, value| {
        let mut key: Vec<u8> = key.iter().map(|byte| if *byte == b'.' { b'_' } else { *byte }).collect();
        while known.contains(&key) {
            key.push(b'_');
        }
        write_member(&key, value, !known.is_empty(), out);
        known.push(key);
    });
    out.push(b'}');
}
