//! Batches as the sources make them, for the tests of transforms.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;

use skidder_pipeline::batch::{Batch, Field};
use skidder_pipeline::position::FileKey;
use skidder_pipeline::shared::{Shared, SharedFields};
use skidder_pipeline::transform::{Report, Transform};
use skidder_pipeline::value::{Kind, Span};

use crate::TransformConfig;

/// What a Kubernetes source knows of a container.
pub(crate) const KUBERNETES: &str = r#"{"pod_name":"atlas-7c9d","pod_namespace":"prod","pod_labels":{"app":"atlas","app.kubernetes.io/name":"atlas","owner":"jane.doe@example.com"},"pod_ip":"10.2.3.4"}"#;

/// The shared fields of a Kubernetes source.
pub(crate) fn kubernetes() -> Arc<Shared> {
    shared(&[("source_type", "\"kubernetes_logs\""), ("file", "\"/var/log/pods/x/0.log\""), ("kubernetes", KUBERNETES)])
}

/// Shared fields with these keys and these values in JSON.
pub(crate) fn shared(fields: &[(&str, &str)]) -> Arc<Shared> {
    let mut list = SharedFields::default();
    for (key, json) in fields {
        list.set(key.as_bytes(), skidder_pipeline::json::value(json.as_bytes()).unwrap());
    }
    Shared::new(list)
}

/// A batch of which each record has `timestamp`, `stream` and one of `lines` as `message`.
pub(crate) fn batch_with(shared: Arc<Shared>, lines: &[&str]) -> Batch {
    const TIME: &str = "2026-10-11T12:34:56.123456789Z";
    let mut batch = Batch::new(shared, FileKey([7; 16]));
    let mut spans = Vec::new();
    for line in lines {
        let time = batch.append(TIME.as_bytes());
        let stream = batch.append(b" stdout");
        batch.append(b" F ");
        let message = batch.append(line.as_bytes());
        batch.append(b"\n");
        spans.push((time, Span { start: stream.start + 1, end: stream.end }, message));
    }
    let [time_key, stream_key, message_key] = ["timestamp", "stream", "message"].map(|key| batch.append(key.as_bytes()));
    for (time, stream, message) in spans {
        let text = |key, value| Field { key, value, kind: Kind::Text };
        batch.push(u64::from(time.start), &[text(time_key, time), text(stream_key, stream), text(message_key, message)]);
    }
    batch
}

/// A batch of which each record has nothing but the members of one of `objects`.
pub(crate) fn batch_of(shared: Arc<Shared>, objects: &[&str]) -> Batch {
    let mut batch = Batch::new(shared, FileKey([7; 16]));
    for object in objects {
        let span = batch.append(object.as_bytes());
        let mut fields = Vec::new();
        skidder_pipeline::json::walk(batch.bytes(), span, &mut fields).unwrap();
        batch.push(0, &fields);
    }
    batch
}

/// The records as JSON, shared fields included.
pub(crate) fn lines(batch: &Batch) -> Vec<String> {
    batch
        .records()
        .map(|record| {
            let mut out = Vec::new();
            record.write_json(&mut out);
            String::from_utf8(out).unwrap()
        })
        .collect()
}

/// The records as JSON trees. Panics where a record is no JSON or has a key twice.
pub(crate) fn trees(batch: &Batch) -> Vec<serde_json::Value> {
    for record in batch.records() {
        let mut keys: Vec<&[u8]> = record.iter().map(|(key, _)| key).chain(batch.shared().iter().map(|(key, _)| key)).collect();
        keys.sort_unstable();
        let count = keys.len();
        keys.dedup();
        assert_eq!(count, keys.len(), "a key stands twice in {:?}", lines(batch));
    }
    lines(batch).iter().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

/// A transform from the text of its table.
pub(crate) fn transform(table: serde_json::Value) -> Box<dyn Transform> {
    let config: TransformConfig = serde_json::from_value(table).unwrap();
    config.build().map_err(|problems| format!("{problems:?}")).unwrap()
}

/// The problems with a transform's table, one text each: where, what, what to do.
pub(crate) fn problems(table: serde_json::Value) -> Vec<String> {
    let config: TransformConfig = serde_json::from_value(table).unwrap();
    let Err(problems) = config.build() else { return Vec::new() };
    problems.into_iter().map(|p| format!("{}: {}; {}", p.path.join("."), p.message, p.help.unwrap_or_default())).collect()
}

/// Applies a transform and gives what it reported.
pub(crate) fn apply(transform: &mut dyn Transform, batch: &mut Batch) -> Report {
    let mut report = Report::default();
    transform.apply(batch, &mut report);
    report
}
