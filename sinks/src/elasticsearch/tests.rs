#![allow(clippy::unwrap_used, clippy::panic)]

use serde_json::{Map, Value, json};
use skidder_pipeline::batch::Field;
use skidder_pipeline::value::Kind;

use super::*;
use crate::testing::{batch, encoded};

fn config(json: &str) -> ElasticsearchConfig {
    serde_json::from_str(json).unwrap()
}

fn parts(json: &str) -> SinkParts {
    config(json).build(&SinkContext::default()).unwrap()
}

/// Destination, ids and documents of what is encoded.
fn encode(config: &str, shared: &str, records: &[&str]) -> Vec<(String, Vec<String>, Vec<Value>)> {
    let bodies = encoded(parts(config).sink.encoder(), &batch(shared, records));
    bodies.into_iter().map(|(destination, body)| (destination, ids(&body), documents(&body))).collect()
}

fn ids(body: &str) -> Vec<String> {
    let action = |line: &str| serde_json::from_str::<Value>(line).unwrap()["create"]["_id"].as_str().unwrap().to_owned();
    body.lines().step_by(2).map(action).collect()
}

fn documents(body: &str) -> Vec<Value> {
    body.lines().skip(1).step_by(2).map(|line| serde_json::from_str(line).unwrap()).collect()
}

const PLAIN: &str = r#"{"endpoints":["http://localhost:9200"],"index":"logs"}"#;

#[test]
fn a_record_is_created_under_its_id_with_all_its_fields() {
    let shared = r#"{"env":"prod","kubernetes":{"pod_name":"web-1"}}"#;
    let records =
        [r#"{"timestamp":"2026-10-02T08:15:30Z","message":"é \"q\" \n\u0000","n":-1.5e3,"deep":{"a":[1,{}]}}"#, r#"{"message":null}"#];
    let (destination, ids, documents) = encode(PLAIN, shared, &records).remove(0);
    assert_eq!(destination, "logs");
    assert_eq!(ids.len(), 2);
    assert!(ids[0] < ids[1] && ids[0].len() == 24);
    assert_eq!(
        documents,
        [
            json!({"env": "prod", "kubernetes": {"pod_name": "web-1"}, "@timestamp": "2026-10-02T08:15:30Z",
                   "message": "é \"q\" \n\u{0}", "n": -1500.0, "deep": {"a": [1, {}]}}),
            json!({"env": "prod", "kubernetes": {"pod_name": "web-1"}, "message": null}),
        ]
    );
}

#[test]
fn the_store_gives_the_ids_where_it_is_asked_to() {
    let sink = parts(r#"{"endpoints":["http://localhost:9200"],"index":"logs","id":"auto"}"#).sink;
    let (_, body) = encoded(sink.encoder(), &batch("{}", &[r#"{"message":"a"}"#, r#"{"message":"b"}"#])).remove(0);
    assert_eq!(body, "{\"create\":{}}\n{\"message\":\"a\"}\n{\"create\":{}}\n{\"message\":\"b\"}\n");
    assert_eq!(sink.cut(body.as_bytes(), &[1]), b"{\"create\":{}}\n{\"message\":\"b\"}\n");
    assert_eq!(sink.show(body.as_bytes(), 1), b"{\"message\":\"b\"}");
}

#[test]
fn odd_content_stays_on_its_lines_and_stays_json() {
    let mut batch = batch(r#"{"s":{"a":1}}"#, &["{\"nested\":{\n \"x\" :\r\n [1,\n2]},\"\":\"empty key\"}", "{}"]);
    let text = "line one\nline two\r\u{1b}[31m\u{7f}\u{2028} \\ \" \0 é \u{1f600}";
    let (key, value) = (batch.append(b"message"), batch.append(text.as_bytes()));
    batch.push(900, &[Field { key, value, kind: Kind::Text }]);
    let body = encoded(parts(PLAIN).sink.encoder(), &batch).remove(0).1;
    assert_eq!(body.lines().count(), 6);
    assert_eq!(
        documents(&body),
        [json!({"s": {"a": 1}, "nested": {"x": [1, 2]}, "": "empty key"}), json!({"s": {"a": 1}}), json!({"s": {"a": 1}, "message": text})]
    );
}

#[test]
fn a_timestamp_gets_its_name_unless_it_is_taken() {
    let table = [
        ("{}", r#"{"timestamp":"a"}"#, json!({"@timestamp": "a"})),
        ("{}", r#"{"timestamp":"a","@timestamp":"b"}"#, json!({"timestamp": "a", "@timestamp": "b"})),
        (r#"{"@timestamp":"b"}"#, r#"{"timestamp":"a"}"#, json!({"timestamp": "a", "@timestamp": "b"})),
        (r#"{"timestamp":"a","x":1}"#, "{}", json!({"@timestamp": "a", "x": 1})),
        (r#"{"timestamp":"a"}"#, r#"{"@timestamp":"b"}"#, json!({"timestamp": "a", "@timestamp": "b"})),
        ("{}", r#"{"a":{"timestamp":"a"}}"#, json!({"a": {"timestamp": "a"}})),
    ];
    for (shared, record, expected) in table {
        let (_, _, documents) = encode(PLAIN, shared, &[record]).remove(0);
        assert_eq!(documents, [expected], "{shared} {record}");
    }
}

#[test]
fn labels_are_dedotted_where_metadata_stands() {
    let labels = r#"{"app":"a","app.kubernetes.io/name":"b","a.b":1,"a_b":2,"x.y":{"k.l":1}}"#;
    let dedotted = json!({"app": "a", "app_kubernetes_io/name": "b", "a_b": 1, "a_b_": 2, "x_y": {"k.l": 1}});
    let kept: Value = serde_json::from_str(labels).unwrap();
    let all =
        format!(r#"{{"kubernetes":{{"pod_labels":{labels},"a.b":{{"labels":{labels}}},"namespace_labels":{{}}}},"labels":{labels}}}"#);
    let expected =
        |labels: &Value| json!({"kubernetes": {"pod_labels": labels, "a.b": {"labels": kept}, "namespace_labels": {}}, "labels": labels});
    for (shared, own) in [(&*all, "{}"), ("{}", &*all)] {
        assert_eq!(encode(PLAIN, shared, &[own])[0].2, [expected(&dedotted)]);
        let keep = r#"{"endpoints":["http://localhost:9200"],"index":"logs","labels":"keep"}"#;
        assert_eq!(encode(keep, shared, &[own])[0].2, [expected(&kept)]);
    }
    // An application's own keys are its own.
    assert_eq!(
        encode(PLAIN, "{}", &[r#"{"data":{"labels":{"a.b":1}},"notlabels":{"a.b":1}}"#])[0].2[0]["data"],
        json!({"labels": {"a.b": 1}})
    );
}

#[test]
fn fields_choose_an_index_within_bounds() {
    let destinations = |config: &str, record: Value| {
        let config = format!(r#"{{"endpoints":["http://localhost:9200"],{config}}}"#);
        encode(&config, "{}", &[&record.to_string()]).remove(0).0
    };
    let index = r#""index":"logs-{{ env ?? \"no env\" }}-%Y.%m.%d""#;
    for (env, expected) in [
        (json!("Prod"), "logs-prod-2026.10.02"),
        (json!("../_all,*?x=1#é%2f"), "logs-..__all___x_1___2f-2026.10.02"),
        (json!(""), "logs-missing-2026.10.02"),
        (Value::Null, "logs-no_env-2026.10.02"),
        (json!({"a": 1}), "logs-__a__1_-2026.10.02"),
        (json!("x".repeat(500)), &*format!("logs-{}-2026.10.02", "x".repeat(63))),
    ] {
        assert_eq!(destinations(index, json!({"env": env, "timestamp": "2026-10-02T08:15:30Z"})), expected);
    }
    let stream = r#""mode":"data_stream","data_stream":{"dataset":"{{ app }}","namespace":"{{ env }}"}"#;
    assert_eq!(destinations(stream, json!({"app": "a-b", "env": "Prod-1"})), "logs-a_b-prod_1");
    assert_eq!(destinations(r#""mode":"data_stream""#, json!({})), "logs-generic-default");
    assert_eq!(destinations(r#""compression":"none""#, json!({"timestamp": 1})), "skidder-1970.01.01");
}

#[test]
fn every_mistake_is_found() {
    let problems = |config: &str| {
        let config = format!(r#"{{"endpoints":["http://localhost:9200"],{config}}}"#);
        let problems =
            serde_json::from_str::<ElasticsearchConfig>(&config).unwrap().build(&SinkContext::default()).err().unwrap_or_default();
        problems.iter().map(|p| p.path.join(".")).collect::<Vec<_>>()
    };
    for (table, expected) in [
        (r#""index":"{{ env }}""#, &["index"][..]),
        (r#""index":"-logs""#, &["index"]),
        (r#""index":"logs/{{ env }}""#, &["index"]),
        (r#""index":"Logs""#, &["index", "index"]),
        (r#""index":"logs-%H""#, &["index"]),
        (r#""index":"logs-{{ env }""#, &["index"]),
        (r#""index":"l{{ a }}{{ b }}{{ c }}{{ d }}{{ e }}""#, &["index"]),
        (r#""index":"""#, &["index"]),
        (r#""data_stream":{}"#, &["data_stream"]),
        (r#""mode":"data_stream","index":"x""#, &["index"]),
        (
            r#""mode":"data_stream","data_stream":{"type":"{{ a }}","dataset":"a-b","namespace":""}"#,
            &["data_stream.dataset", "data_stream.namespace", "data_stream"],
        ),
        (
            r#""batch":{"max_events":0},"buffer":{"max_size":1},"request":{"timeout_secs":-1},"index":"_x""#,
            &["index", "buffer.max_size", "batch.max_events", "request.timeout_secs"],
        ),
    ] {
        assert_eq!(problems(table), expected, "{table}");
    }
    assert!(serde_json::from_str::<ElasticsearchConfig>(r#"{"endpoints":[],"indx":"x"}"#).is_err());
    let none = config(r#"{"endpoints":[],"index":"_"}"#).build(&SinkContext::default()).unwrap_err();
    assert_eq!(none.len(), 2);
}

#[test]
fn names_are_those_of_the_schema_and_the_destination_goes_by_our_own() {
    let pod =
        r#"{"kubernetes":{"pod_name":"web-1","pod_namespace":"shop","pod_labels":{"app":"a","app.kubernetes.io/name":"b"}},"env":"prod"}"#;
    let record = r#"{"timestamp":"2026-10-02T08:15:30Z","message":"m","level":"warn"}"#;
    let with = |schema: &str| {
        let config = format!(
            r#"{{"endpoints":["http://localhost:9200"],"index":"logs-{{{{ kubernetes.pod_namespace }}}}-%Y.%m","schema":"{schema}"}}"#
        );
        let (destination, _, mut documents) = encode(&config, pod, &[record]).remove(0);
        assert_eq!(destination, "logs-shop-2026.10");
        documents.remove(0)
    };
    assert_eq!(
        with("ecs"),
        json!({"kubernetes.pod.name": "web-1", "kubernetes.namespace": "shop",
               "kubernetes.labels": {"app": "a", "app_kubernetes_io/name": "b"}, "service.environment": "prod", "service.name": "web",
               "@timestamp": "2026-10-02T08:15:30Z", "message": "m", "log.level": "warn"})
    );
    assert_eq!(
        with("otel"),
        json!({"k8s.pod.name": "web-1", "k8s.namespace.name": "shop", "k8s.pod.label": {"app": "a", "app_kubernetes_io/name": "b"},
               "deployment.environment.name": "prod", "service.name": "web", "@timestamp": "2026-10-02T08:15:30Z", "body": "m",
               "severity_text": "warn"})
    );
}

#[test]
fn times_that_are_written_otherwise_become_rfc_3339() {
    for (given, expected) in [
        ("1790928930", "2026-10-02T08:15:30Z"),
        ("1790928930.123456789", "2026-10-02T08:15:30.123456789Z"),
        ("1790928930123", "2026-10-02T08:15:30.123Z"),
        ("\"2026-10-02 08:15:30,5+02:00\"", "2026-10-02T06:15:30.5Z"),
        ("\"2026-10-02T08:15:30+02:00\"", "2026-10-02T08:15:30+02:00"),
        ("\"yesterday\"", "yesterday"),
    ] {
        for key in ["timestamp", "@timestamp"] {
            let (_, _, documents) = encode(PLAIN, "{}", &[&format!("{{\"{key}\":{given}}}")]).remove(0);
            assert_eq!(documents, [json!({"@timestamp": expected})], "{key} {given}");
        }
    }
    assert_eq!(encode(PLAIN, "{}", &[r#"{"timestamp":7}"#]).remove(0).2, [json!({"@timestamp": 7})]);
}

#[test]
fn parts_and_dead_letters_are_pairs_of_lines() {
    let sink = parts(PLAIN).sink;
    let body = encoded(sink.encoder(), &batch("{}", &[r#"{"a":0}"#, r#"{"a":1}"#, r#"{"a":2}"#])).remove(0).1;
    let part = String::from_utf8(sink.cut(body.as_bytes(), &[0, 2])).unwrap();
    assert_eq!(documents(&part), [json!({"a": 0}), json!({"a": 2})]);
    assert_eq!(ids(&part), [&*ids(&body)[0], &*ids(&body)[2]]);
    assert_eq!(sink.show(body.as_bytes(), 1), br#"{"a":1}"#);
    assert_eq!(sink.show(body.as_bytes(), 3), b"null");
}

#[test]
fn what_went_to_the_failure_store_is_delivered_and_counted() {
    let sink = parts(r#"{"endpoints":["http://localhost"]}"#).sink;
    let body = r#"{"errors":false,"items":[{"create":{"status":201}},{"create":{"status":201,"failure_store":"used"}},{"create":{"status":201,"failure_store":"not_enabled"}}]}"#;
    let response = Response { body: body.into(), ..Response::ok() };
    assert_eq!(sink.judge(&crate::testing::frame("x", &"{}\n{}\n".repeat(3), 3), &response), delivered(0));
    assert_eq!(sink.diverted(), 1);
}

fn delivered(duplicates: u32) -> Verdict {
    Verdict::Delivered { duplicates }
}

fn again(reason: &str) -> Verdict {
    Verdict::Retry { reason: reason.to_owned() }
}

fn pause(reason: &str) -> Verdict {
    Verdict::Pause { reason: reason.to_owned() }
}

fn partly(duplicates: u32, rejected: &[(u32, u16, &str)], retry: &[u32]) -> Verdict {
    let rejection =
        |(record, status, reason): &(u32, u16, &str)| Rejection { record: *record, status: *status, reason: (*reason).to_owned() };
    Verdict::Partly { duplicates, rejected: rejected.iter().map(rejection).collect(), retry: retry.into() }
}

use skidder_pipeline::sink::Rejection;

/// An answer with these items: status and type of error.
fn items(items: &[(u16, &str)]) -> String {
    let item = |(status, kind): &(u16, &str)| {
        let mut outcome = Map::from_iter([("status".to_owned(), json!(status))]);
        if !kind.is_empty() {
            outcome.insert("error".to_owned(), json!({"type": kind, "reason": format!("the \"{kind}\"")}));
        }
        json!({"create": outcome})
    };
    let errors = items.iter().any(|(status, _)| *status > 299);
    json!({"errors": errors, "took": 3, "items": items.iter().map(item).collect::<Vec<_>>()}).to_string()
}

const CONFLICT: (u16, &str) = (409, "version_conflict_engine_exception");
const BUSY: (u16, &str) = (429, "es_rejected_execution_exception");
const BAD: (u16, &str) = (400, "document_parsing_exception");
const DENIED: (u16, &str) = (403, "security_exception");
const BLOCKED: (u16, &str) = (403, "cluster_block_exception");
const TOO_MANY_SHARDS: (u16, &str) = (400, "validation_exception");
const HOMELESS: (u16, &str) = (404, "index_not_found_exception");

#[test]
fn answers_with_items_mean_what_they_say() {
    let bad = "document_parsing_exception: the \"document_parsing_exception\"";
    for (answer, expected) in [
        (vec![(201, ""), (200, "")], delivered(0)),
        (vec![(201, ""), CONFLICT], delivered(1)),
        (vec![CONFLICT, CONFLICT], delivered(2)),
        (vec![(201, ""), BUSY], partly(0, &[], &[1])),
        (vec![CONFLICT, BUSY, BAD, (503, "unavailable_shards_exception"), (201, "")], partly(1, &[(2, 400, bad)], &[1, 3])),
        (vec![BUSY, BUSY], partly(0, &[], &[0, 1])),
        (vec![BAD], partly(0, &[(0, 400, bad)], &[])),
        (vec![(201, ""), (400, "")], partly(0, &[(1, 400, "no reason given")], &[])),
        (vec![(201, ""), (404, "")], partly(0, &[(1, 404, "no reason given")], &[])),
        (vec![DENIED, DENIED], pause("no record may be stored (security_exception)")),
        (vec![(201, ""), DENIED], partly(0, &[(1, 403, "security_exception: the \"security_exception\"")], &[])),
        (vec![BLOCKED, BLOCKED], partly(0, &[], &[0, 1])),
        (vec![HOMELESS, HOMELESS], pause("the index does not exist and is not made (index_not_found_exception)")),
        (vec![TOO_MANY_SHARDS], pause("the index does not exist and is not made (validation_exception)")),
        (vec![(201, ""), (302, "")], partly(0, &[], &[1])),
    ] {
        assert_eq!(answer::judge(200, items(&answer).as_bytes(), answer.len() as u32), expected, "{answer:?}");
    }
}

#[test]
fn answers_to_the_whole_request_mean_what_they_say() {
    let fault = |kind: &str, reason: &str| json!({"error": {"root_cause": [], "type": kind, "reason": reason}, "status": 400}).to_string();
    let whole = items(&[(201, ""), BAD]);
    for (status, body, expected) in [
        (200, r#"{"errors":false}"#.to_owned(), delivered(0)),
        (200, whole[..whole.len() - 1].to_owned(), again("the answer is not one of `_bulk`, or not the whole of it")),
        (200, String::new(), again("the answer is not one of `_bulk`, or not the whole of it")),
        (200, "<html>it works</html>".to_owned(), again("the answer is not one of `_bulk`, or not the whole of it")),
        (200, items(&[BAD]), again("the answer is not about as many records as were sent")),
        (200, r#"{"errors":true,"items":[{"delete":{}},{}]}"#.to_owned(), again("the items of the answer cannot be read")),
        (200, format!("{{\"errors\":true,\"items\":[{}", " ".repeat(MAX)), Verdict::Split),
        (413, "too large".to_owned(), Verdict::Split),
        (429, fault("circuit_breaking_exception", "x"), again("HTTP 429, circuit_breaking_exception")),
        (500, String::new(), again("HTTP 500")),
        (502, "<html>".to_owned(), again("HTTP 502")),
        (503, fault("Has Content: secret", "x"), again("HTTP 503")),
        (504, String::new(), again("HTTP 504")),
        (401, fault("security_exception", "x"), pause("HTTP 401, security_exception")),
        (403, fault("security_exception", "x"), pause("HTTP 403, security_exception")),
        (403, fault("cluster_block_exception", "x"), again("HTTP 403, cluster_block_exception")),
        (404, r#"{"error":"no handler found","status":404}"#.to_owned(), pause("HTTP 404")),
        (307, String::new(), pause("HTTP 307")),
        (
            400,
            fault("illegal_argument_exception", "request [/_bulk] contains unrecognized parameter: [x]"),
            pause("HTTP 400, illegal_argument_exception"),
        ),
        (400, fault("illegal_argument_exception", "Malformed action/metadata line [3]"), Verdict::Split),
        (400, fault("x_content_parse_exception", "[1:3] x"), Verdict::Split),
        (400, "nginx".to_owned(), pause("HTTP 400")),
    ] {
        assert_eq!(answer::judge(status, body.as_bytes(), 2), expected, "{status} {}", &body[..body.len().min(100)]);
    }
    let alone = answer::judge(400, fault("x_content_parse_exception", "bad").as_bytes(), 1);
    assert_eq!(alone, Verdict::Reject { status: 400, reason: "x_content_parse_exception: bad".to_owned() });
}

const MAX: usize = crate::http::MAX_RESPONSE_BYTES;
