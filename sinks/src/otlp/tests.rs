//! Tests of the records that are written, and of what answers mean.
#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use serde_json::{Value, json};
use skidder_pipeline::delivery::single_out;

use super::*;
use crate::common::proto;
use crate::testing::{batch, frames};

const POD: &str = r#"{"file":"/var/log/x","source_type":"kubernetes_logs","kubernetes":{"pod_name":"web-7c9d6f5b8c-x2x4z","pod_namespace":"shop","container_restart_count":2},"region":"eu"}"#;

fn build(extra: Value) -> Result<SinkParts, Vec<String>> {
    let mut config = json!({ "endpoint": "http://127.0.0.1:4318" });
    config.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    let config: OtlpConfig = serde_json::from_value(config).unwrap();
    let problems = |problems: Vec<Problem>| problems.into_iter().map(|p| format!("{}: {}", p.path.join("."), p.message)).collect();
    config.build(&SinkContext::default()).map_err(problems)
}

fn sink(extra: Value) -> Arc<dyn Sink> {
    build(extra).unwrap().sink
}

fn frame(batches: &[(&str, &[&str])]) -> Frame {
    let mut encoder = sink(json!({"resource": {"service.namespace": "n", "cloud.region": "other"}})).encoder();
    frames(|out| batches.iter().for_each(|(shared, records)| encoder.encode(&batch(shared, records), 0, out))).remove(0)
}

fn shown(frame: &Frame) -> Vec<Value> {
    let sink = sink(json!({}));
    (0..frame.header().records).map(|index| serde_json::from_slice(&sink.show(frame.body(), index)).unwrap()).collect()
}

#[test]
fn records_stand_where_opentelemetry_has_places_for_them() {
    let records = [
        r#"{"message":"a \"b\"","timestamp":"2026-10-02T08:15:30.000000007Z","stream":"stderr","level":"warn","trace_id":"0af7651916cd43dd8448eb211c80319c","span_id":"b7ad6b7169203331","n":1.5}"#,
        r#"{"event":"x","big":9223372036854775807,"bigger":9223372036854775808,"exact":0.1,"long":1.00000000000000000001,"huge":1e400,"none":null,"nested":{"a":[1,{"b":false}],"é\n":""},"level":30}"#,
    ];
    let all = shown(&frame(&[(POD, &records)]));
    let mut first = all[0].clone();
    assert!(first.as_object_mut().unwrap().remove("observed_timestamp").is_some());
    let resource = json!({"k8s.pod.name": "web-7c9d6f5b8c-x2x4z", "k8s.namespace.name": "shop", "k8s.container.restart_count": 2, "cloud.region": "eu", "service.name": "web", "service.namespace": "n"});
    let id = first["attributes"]["log.record.uid"].as_str().unwrap().to_owned();
    assert_eq!(id.len(), 24);
    assert_eq!(
        first,
        json!({
            "timestamp": "2026-10-02T08:15:30.000000007Z", "severity_number": 13, "severity_text": "warn", "body": "a \"b\"",
            "attributes": {"n": 1.5, "log.iostream": "stderr", "log.file.path": "/var/log/x", "log.record.uid": id},
            "trace_id": "0af7651916cd43dd8448eb211c80319c", "span_id": "b7ad6b7169203331", "resource": resource,
        })
    );
    let second = &all[1];
    assert_eq!(
        (second["severity_number"].as_u64(), second["severity_text"].as_str(), second.get("timestamp")),
        (Some(9), Some("30"), None)
    );
    assert_eq!(
        second["body"],
        json!({"event": "x", "big": i64::MAX, "bigger": "9223372036854775808", "exact": 0.1, "long": "1.00000000000000000001", "huge": "1e400",
               "none": null, "nested": {"a": [1, {"b": false}], "é\n": ""}, "level": 30})
    );
    assert_ne!(second["attributes"]["log.record.uid"], json!(id));
}

#[test]
fn parts_hold_their_records_and_resources() {
    let frame =
        frame(&[(POD, &[r#"{"message":"0"}"#, r#"{"message":"1"}"#]), ("{}", &[r#"{"message":"2"}"#]), (POD, &[r#"{"message":"3"}"#])]);
    let sink = sink(json!({}));
    let body = frame.body();
    let bodies = |body: &[u8]| -> Vec<String> {
        (0..)
            .map(|i| sink.show(body, i))
            .take_while(|json| json != b"null")
            .map(|json| serde_json::from_slice::<Value>(&json).unwrap()["body"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(sink.cut(body, &[0, 1, 2, 3]), body.to_vec());
    assert_eq!(bodies(&sink.cut(body, &[1, 3])), ["1", "3"]);
    assert_eq!(proto::fields(&sink.cut(body, &[2])).count(), 1, "no resource without records");
    let mut each = Vec::new();
    single_out(&*sink, body, &[0, 2, 3], &mut each);
    assert_eq!(each.iter().map(|one| bodies(one)).collect::<Vec<_>>(), [["0"], ["2"], ["3"]]);
    let whole: Value = serde_json::from_slice(&sink.show(&each[2], 0)).unwrap();
    assert_eq!(whole["resource"]["k8s.namespace.name"], "shop");
}

fn judge(extra: Value, status: u16, retry_after: Option<u64>, body: &[u8], records: usize) -> Verdict {
    let records: Vec<&str> = vec!["{}"; records];
    let frame = frame(&[("{}", &records)]);
    let response = Response { status, retry_after: retry_after.map(Duration::from_secs), body: Bytes::copy_from_slice(body), note: None };
    sink(extra).judge(&frame, &response)
}

fn partial(refused: u64, message: &str) -> Vec<u8> {
    let mut out = Vec::new();
    proto::message(1, &mut out, |out| {
        proto::uint(1, refused, out);
        proto::bytes(2, message.as_bytes(), out);
    });
    out
}

#[test]
fn answers_by_http() {
    let http = |status, body: &[u8], records| judge(json!({}), status, None, body, records);
    let stored = Verdict::Delivered { duplicates: 0 };
    assert_eq!(http(200, b"", 3), stored);
    assert_eq!(http(200, b"{}", 3), stored, "an answer in JSON");
    assert_eq!(http(200, &partial(0, "deprecated"), 3), stored);
    let Verdict::Reject { status: 200, reason } = http(200, &partial(2, "no"), 3) else { panic!() };
    assert_eq!(reason, "partial success, 2 of 3 with this one refused: no");
    assert_eq!(judge(json!({"on_partial_success": "accept"}), 200, None, &partial(2, "no"), 3), stored);
    for status in [408, 429, 502, 503, 504] {
        assert!(matches!(http(status, b"", 3), Verdict::Retry { .. }), "{status}");
    }
    for status in [301, 401, 403, 404, 405, 415] {
        assert!(matches!(http(status, b"", 3), Verdict::Pause { .. }), "{status}");
    }
    assert_eq!((http(413, b"", 3), http(400, b"", 3)), (Verdict::Split, Verdict::Split));
    let mut status = Vec::new();
    proto::uint(1, 3, &mut status);
    proto::bytes(2, b"bad", &mut status);
    assert_eq!(http(400, &status, 1), Verdict::Reject { status: 400, reason: "HTTP 400: bad".to_owned() });
    assert_eq!(http(500, b"text", 3), Verdict::Reject { status: 500, reason: "HTTP 500: text".to_owned() });
}

#[test]
fn answers_by_grpc() {
    let grpc = |status, wait, body: &[u8], records| judge(json!({"protocol": "grpc"}), status, wait, body, records);
    assert_eq!(grpc(0, None, b"", 3), Verdict::Delivered { duplicates: 0 });
    assert!(matches!(grpc(0, None, &partial(3, "no"), 3), Verdict::Reject { .. }));
    for status in [1, 4, 10, 11, 14, 15] {
        assert!(matches!(grpc(status, None, b"", 3), Verdict::Retry { .. }), "{status}");
    }
    assert!(matches!(grpc(8, Some(1), b"", 3), Verdict::Retry { .. }));
    assert_eq!((grpc(8, None, b"", 3), grpc(3, None, b"", 2)), (Verdict::Split, Verdict::Split));
    for status in [5, 7, 12, 16] {
        assert!(matches!(grpc(status, None, b"", 3), Verdict::Pause { .. }), "{status}");
    }
    assert_eq!(grpc(3, None, b"why", 1), Verdict::Reject { status: 3, reason: "INVALID_ARGUMENT: why".to_owned() });
    for status in [2, 6, 9, 13] {
        assert!(matches!(grpc(status, None, b"", 3), Verdict::Reject { .. }), "{status}");
    }
}

#[test]
fn mistakes_are_found() {
    let problems = build(json!({"path": "v1", "headers": {"a b": "x", "ok": "a\nb"}, "time_field": "", "protocol": "grpc"})).unwrap_err();
    let places: Vec<&str> = problems.iter().map(|problem| problem.split(':').next().unwrap()).collect();
    assert_eq!(places, ["time_field", "path", "path", "headers.a b", "headers.ok"]);
    let secret = build(json!({"endpoint": "x", "headers": {"key": "hunter2"}})).unwrap_err();
    assert!(!secret.concat().contains("hunter2") && secret[0].starts_with("endpoint: not a URL"));
}
