//! Tests of the sink as a whole, without a server: what is encoded, cut, shown, converted and judged.
#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use serde_json::{Value, json};
use skidder_pipeline::batch::Batch;

use super::convert::{convert, mapper};
use super::encode::{RAW, RowEncoder};
use super::layout::{ColumnInfo, Form};
use super::tables::Described;
use super::*;
use crate::testing::{batch, frame, frames};

fn columns(infos: &[(&str, &str)]) -> Described {
    let info = |(name, of): &(&str, &str)| ColumnInfo { name: (*name).to_owned(), r#type: (*of).to_owned(), default_kind: String::new() };
    Described { columns: infos.iter().map(info).collect(), binary: true }
}

const OTEL: [(&str, &str); 8] = [
    ("Timestamp", "DateTime64(9)"),
    ("TraceId", "String"),
    ("SeverityText", "LowCardinality(String)"),
    ("SeverityNumber", "UInt8"),
    ("ServiceName", "LowCardinality(String)"),
    ("Body", "String"),
    ("ResourceAttributes", "Map(LowCardinality(String), String)"),
    ("LogAttributes", "Map(LowCardinality(String), String)"),
];

const SHARED: &str = r#"{"file":"/var/log/a","kubernetes":{"pod_name":"web-0","pod_namespace":"shop","pod_owner":"StatefulSet/web","pod_labels":{"app.kubernetes.io/name":"w"}}}"#;

struct Given {
    tables: Arc<Tables>,
    sink: ClickHouse,
}

fn given(described: Option<Described>) -> Given {
    let tables = Arc::new(Tables::new(Mapping::default(), None));
    if let Some(described) = described {
        tables.describe("default.t", described);
    }
    let destination = Arc::new(Destination::parse("default.t", confine).unwrap());
    Given { sink: ClickHouse { destination, tables: tables.clone(), time: None }, tables }
}

impl Given {
    /// The one frame of `batches`.
    fn frame(&self, batches: &[Batch]) -> Frame {
        let mapper = mapper(None, &self.tables);
        let mut encoder = RowEncoder::new(Router::new(self.sink.destination.clone()), self.tables.clone(), mapper);
        let mut frames = frames(|out| batches.iter().for_each(|batch| encoder.encode(batch, 0, out)));
        assert_eq!(frames.len(), 1);
        frames.remove(0)
    }

    fn shown(&self, body: &[u8], index: u32) -> Value {
        serde_json::from_slice(&self.sink.show(body, index)).unwrap()
    }
}

#[test]
fn a_record_becomes_a_row_of_the_table_of_opentelemetry() {
    let given = given(Some(columns(&OTEL)));
    let records = [
        r#"{"timestamp":"2026-11-24T06:00:00.000000001Z","level":"warn","message":"a\"b","trace_id":"0af7651916cd43dd8448eb211c80319c","stream":"stdout","n":1e400,"o":{"x":[1]}}"#,
        r#"{"timestamp":"2026-11-24T06:00:01Z","message":"","u":null}"#,
    ];
    let frame = given.frame(&[batch(SHARED, &records), batch(SHARED, &["{}"])]);
    assert_eq!(frame.header().records, 3);
    assert!(frame.header().destination.starts_with("default.t r"), "{}", frame.header().destination);
    let resource = json!({ "k8s.pod.name": "web-0", "k8s.namespace.name": "shop",
        "k8s.statefulset.name": "web", "k8s.pod.label.app.kubernetes.io/name": "w" });
    let expected = json!({ "Timestamp": "2026-11-24T06:00:00.000000001Z", "TraceId": "0af7651916cd43dd8448eb211c80319c", "SeverityText": "warn",
        "SeverityNumber": 13, "ServiceName": "web", "Body": "a\"b", "ResourceAttributes": resource,
        "LogAttributes": { "log.file.path": "/var/log/a", "log.iostream": "stdout", "n": "1e400", "o": "{\"x\":[1]}" } });
    assert_eq!(given.shown(frame.body(), 0), expected);
    assert_eq!(given.shown(frame.body(), 1)["LogAttributes"], json!({ "log.file.path": "/var/log/a", "u": "null" }));
    assert_eq!(given.shown(frame.body(), 2)["Timestamp"], "1970-01-01T00:00:00Z");
    assert_eq!(given.sink.show(frame.body(), 3), b"null");
    // A part has the head and its rows.
    let part = given.sink.cut(frame.body(), &[0, 2]);
    assert_eq!((given.shown(&part, 0), given.shown(&part, 1)), (expected, given.shown(frame.body(), 2)));
    assert_eq!(given.sink.show(&part, 2), b"null");
}

#[test]
fn records_from_before_the_columns_were_known_become_the_same_rows() {
    let records = [r#"{"timestamp":"2026-11-24T06:00:00Z","level":"info","message":"a","x":"ю"}"#, r#"{"message":"b","y":[1]}"#];
    let batches = [batch(SHARED, &records), batch("{}", &["{\"z\":1}"])];
    let unknown = given(None);
    let raw = unknown.frame(&batches);
    assert_eq!(raw.header().destination.as_ref(), "default.t raw");
    assert_eq!(unknown.shown(raw.body(), 2), json!({ "z": 1 }));
    assert_eq!(unknown.shown(raw.body(), 1)["kubernetes"]["pod_name"], "web-0");
    let known = given(Some(columns(&OTEL)));
    let rows = known.frame(&batches);
    let layout = known.tables.layout("default.t").unwrap();
    let (converted, form) = convert(raw.body(), RAW, &layout, mapper(None, &known.tables)).unwrap();
    assert_eq!((form, Bytes::from(converted)), (Form::Rows, rows.body().clone()));
}

#[test]
fn rows_for_columns_that_changed_become_json_for_those_that_are_there() {
    let before = given(Some(columns(&[
        ("n", "UInt32"),
        ("gone", "Array(String)"),
        ("maybe", "Nullable(String)"),
        ("attributes", "Map(String, String)"),
    ])));
    let frame = before.frame(&[batch("{}", &[r#"{"n":7,"gone":["a"],"x":{"y":1}}"#])]);
    let after = given(Some(columns(&[("n", "String"), ("maybe", "String"), ("attributes", "Map(String, String)")])));
    let layout = after.tables.layout("default.t").unwrap();
    let (body, form) = convert(frame.body(), "r0", &layout, mapper(None, &after.tables)).unwrap();
    assert_eq!(form, Form::Json);
    let row: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(row, json!({ "n": 7, "attributes": { "x": "{\"y\":1}", "gone": "[\"a\"]" } }));
    // And once more, from lines: what comes of a table that takes no rows.
    let (again, _) = convert(&body, "j0", &layout, mapper(None, &after.tables)).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&again).unwrap(), row);
}

#[test]
fn what_has_no_column_is_counted_where_none_takes_the_rest() {
    let given = given(Some(columns(&[("message", "String")])));
    given.frame(&[batch("{}", &[r#"{"message":"a","x":1,"y":2}"#])]);
    assert_eq!(given.tables.left_out.load(std::sync::atomic::Ordering::Relaxed), 2);
}

#[test]
fn what_is_known_of_tables_outlives_the_process() {
    let directory = tempfile::tempdir().unwrap();
    let cache = Some(directory.path().join("columns.json"));
    assert!(Tables::new(Mapping::default(), cache.clone()).layout("a.b").is_none());
    let layout = Tables::new(Mapping::default(), cache.clone()).describe("a.b", columns(&OTEL));
    assert_eq!(Tables::new(Mapping::default(), cache).layout("a.b"), Some(layout));
}

fn judge(status: u16, body: &str, records: u32) -> Verdict {
    let given = given(None);
    let response = Response { status, body: Bytes::copy_from_slice(body.as_bytes()), ..Response::ok() };
    given.sink.judge(&frame("default.t raw", &"{}\n".repeat(records as usize), records), &response)
}

#[test]
fn answers_mean_what_their_codes_say() {
    let said = |code: u32, text: &str| format!("Code: {code}. DB::Exception: {text}");
    assert_eq!(judge(200, "", 5), Verdict::Delivered { duplicates: 0 });
    // An exception after the headers.
    let retry = |reason: &str| Verdict::Retry { reason: reason.to_owned() };
    assert_eq!(judge(200, &said(241, "Memory limit exceeded. (MEMORY_LIMIT_EXCEEDED)"), 5), retry("code 241 (MEMORY_LIMIT_EXCEEDED)"));
    assert_eq!(judge(500, &said(252, "Too many parts (300). (TOO_MANY_PARTS) (version 26.9.2.1)"), 5), retry("code 252 (TOO_MANY_PARTS)"));
    assert_eq!(judge(500, &said(252, "Too many partitions for single INSERT block (more than 100)."), 5), Verdict::Split);
    for code in [159, 202, 209, 210, 242, 243, 319, 425, 999, 9999] {
        assert!(matches!(judge(500, &said(code, "x"), 5), Verdict::Retry { .. }), "{code}");
    }
    for code in [60, 81, 115, 192, 193, 497, 516] {
        assert!(matches!(judge(404, &said(code, "x"), 5), Verdict::Pause { .. }), "{code}");
    }
    let stale =
        said(117, "Type of 'a' must be UInt64, not UInt32: (while reading header): While executing BinaryRowInputFormat. (INCORRECT_DATA)");
    assert_eq!(judge(400, &stale, 5), retry("the table has other columns by now: code 117 (INCORRECT_DATA)"));
    // One record, named; early among many; not named; alone.
    let row = |row: u32| said(27, &format!("Cannot parse input: (at row {row})"));
    let Verdict::Partly { rejected, retry, duplicates: 0 } = judge(400, &row(3), 5) else { unreachable!("{:?}", judge(400, &row(3), 5)) };
    assert_eq!((rejected[0].record, rejected[0].status, retry), (2, 400, vec![0, 1, 3, 4]));
    assert_eq!(judge(400, &row(3), 1000), Verdict::Split);
    assert!(matches!(judge(400, &row(500), 1000), Verdict::Partly { .. }));
    assert_eq!(judge(400, &said(6, "Cannot parse"), 5), Verdict::Split);
    assert!(matches!(judge(400, &row(1), 1), Verdict::Reject { status: 400, .. }));
    // What is no ClickHouse's word.
    assert_eq!(judge(413, "", 5), Verdict::Split);
    assert!(matches!(judge(502, "<html>", 5), Verdict::Retry { .. }));
    assert!(matches!(judge(401, "", 5), Verdict::Pause { .. }));
}

fn problems(table: Value) -> Vec<String> {
    let config: ClickHouseConfig = serde_json::from_value(table).unwrap();
    let problems = config.build(&SinkContext::default()).err().unwrap_or_default();
    problems.into_iter().map(|problem| problem.path.join(".")).collect()
}

#[test]
fn every_mistake_is_found() {
    let endpoints = json!(["http://127.0.0.1:8123"]);
    assert_eq!(problems(json!({ "endpoints": endpoints })), [""; 0]);
    assert_eq!(problems(json!({ "endpoints": endpoints, "table": "logs_{{ env }}_%Y" })), [""; 0]);
    let wrong = json!({ "endpoints": endpoints, "database": "{{ env }}", "table": "a.b", "columns": { "c": "a b" }, "nodes": 0,
        "settings": { "async_insert": "1", "x y": "1" }, "time_field": "" });
    assert_eq!(problems(wrong), ["database", "table", "columns.c", "time_field", "nodes", "settings.async_insert", "settings.x y"]);
}
