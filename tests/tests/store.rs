//! The test store itself: a test that trusts a store must be able to.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::Write;
use std::time::{Duration, Instant};

use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use skidder_tests::store::{Counts, Fault, Faults, Keep, Store, post};

const NDJSON: (&str, &str) = ("content-type", "application/x-ndjson");

fn bulk(records: &[(&str, &str)]) -> Vec<u8> {
    let lines = records.iter().map(|(id, text)| format!("{{\"create\":{{\"_index\":\"logs\",\"_id\":\"{id}\"}}}}\n{text}\n"));
    lines.collect::<String>().into_bytes()
}

fn send(store: &Store, body: &[u8]) -> (u16, Value) {
    let (status, answer) = post(store, "/_bulk", &[NDJSON], body).unwrap();
    (status, serde_json::from_slice(&answer).unwrap_or(Value::Null))
}

fn statuses(answer: &Value) -> Vec<u64> {
    answer["items"].as_array().unwrap().iter().map(|item| item["create"]["status"].as_u64().unwrap()).collect()
}

#[test]
fn a_second_document_with_an_id_is_refused() {
    let store = Store::start(Keep::Documents).unwrap();
    let (status, answer) = send(&store, &bulk(&[("a", "{\"n\":1}"), ("b", "{\"n\":2}")]));
    assert_eq!((status, &answer["errors"], statuses(&answer)), (200, &json!(false), vec![201, 201]));
    let (_, answer) = send(&store, &bulk(&[("b", "{\"n\":2}"), ("c", "{\"n\":3}"), ("a", "{\"n\":9}")]));
    assert_eq!((&answer["errors"], statuses(&answer)), (&json!(true), vec![409, 201, 409]));
    let counts = store.counts();
    assert_eq!((counts.stored, counts.repeats, counts.changed), (3, 2, 1));
    assert_eq!(store.documents(), [&b"{\"n\":1}"[..], b"{\"n\":2}", b"{\"n\":3}"]);
    assert_eq!(store.indices(), ["logs"]);
}

#[test]
fn gzip_and_the_index_of_the_path_are_understood() {
    let store = Store::start(Keep::Documents).unwrap();
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(b"{\"create\":{\"_id\":\"a\"}}\n{\"n\":1}\n").unwrap();
    let (status, _) = post(&store, "/app-logs/_bulk", &[NDJSON, ("content-encoding", "gzip")], &gzip.finish().unwrap()).unwrap();
    assert_eq!((status, store.indices()), (200, vec!["app-logs".to_owned()]));
}

#[test]
fn the_answer_holds_what_was_asked_for() {
    let store = Store::start(Keep::Documents).unwrap();
    let ask = |filter: &str| {
        let path = format!("/_bulk?filter_path={filter}");
        let (_, answer) = post(&store, &path, &[NDJSON], &bulk(&[("a", "{}"), ("b", "no JSON")])).unwrap();
        serde_json::from_slice::<Value>(&answer).unwrap()
    };
    let first = ask("errors,items.*.status,items.*.error.type");
    let refused = json!({"create":{"error":{"type":"document_parsing_exception"},"status":400}});
    assert_eq!(first, json!({"errors":true,"items":[{"create":{"status":201}}, refused]}));
    assert_eq!(ask("errors"), json!({"errors":true}));
    let again = ask("took%2Citems.*.error");
    assert_eq!(again["items"][0]["create"]["error"]["type"], "version_conflict_engine_exception");
    assert_eq!((again.get("errors"), &again["took"]), (None, &json!(1)));
}

#[test]
fn what_elasticsearch_refuses_is_refused() {
    let store = Store::start(Keep::Documents).unwrap();
    let good = bulk(&[("a", "{}")]);
    let status = |headers: &[(&str, &str)], body: &[u8]| post(&store, "/_bulk", headers, body).unwrap().0;
    assert_eq!(status(&[("content-type", "text/plain")], &good), 406, "content type");
    assert_eq!(status(&[NDJSON], &good[..good.len() - 1]), 400, "no newline at the end");
    assert_eq!(status(&[NDJSON], b"{\"create\":{}}\n{}\n"), 400, "no index");
    assert_eq!(status(&[NDJSON], b"{\"drop\":{}}\n{}\n"), 400, "unknown action");
    assert_eq!(status(&[NDJSON, ("content-encoding", "gzip")], &good), 400, "no gzip");
    let (_, answer) = send(&store, b"{\"create\":{\"_index\":\"logs-%Y\"}}\n{}\n");
    assert_eq!(answer["items"][0]["create"]["error"]["type"], "invalid_index_name_exception");
    assert_eq!((store.counts().stored, store.counts().refused), (0, 1));
}

#[test]
fn it_misbehaves_on_request() {
    let store = Store::start(Keep::Documents).unwrap();
    let stall = Duration::from_millis(80);
    let script = [
        Fault::TooMany { retry_after_s: Some(2) },
        Fault::Unavailable,
        Fault::CloseBefore,
        Fault::CloseAfter,
        Fault::TruncatedAnswer,
        Fault::Stall(stall),
    ];
    store.set_faults(Faults::script(script));
    let one = bulk(&[("a", "{}")]);
    let stored = || store.counts().stored;
    assert_eq!((send(&store, &one).0, stored()), (429, 0));
    assert_eq!((send(&store, &one).0, stored()), (503, 0));
    assert!(post(&store, "/_bulk", &[NDJSON], &one).is_err() && stored() == 0, "closed before");
    assert!(post(&store, "/_bulk", &[NDJSON], &one).is_err() && stored() == 1, "closed after");
    assert_eq!((send(&store, &bulk(&[("b", "{}")])), stored()), ((200, Value::Null), 2));
    let begin = Instant::now();
    assert_eq!((send(&store, &one).0, stored()), (200, 2));
    assert!(begin.elapsed() >= stall);

    store.set_faults(Faults { max_body_bytes: 60, refuse: Some(b"bad".to_vec()), ..Faults::default() });
    assert_eq!(send(&store, &bulk(&[("c", "{}"), ("d", "{}")])).0, 413);
    assert_eq!(statuses(&send(&store, &bulk(&[("c", "{\"bad\":1}")])).1), [400]);

    store.set_faults(Faults { busy_per_mille: 1000, ..Faults::default() });
    assert_eq!(statuses(&send(&store, &bulk(&[("e", "{}")])).1), [429]);
    assert_eq!(statuses(&send(&store, &bulk(&[("e", "{}")])).1), [201], "turned away once, not twice");

    store.set_down(true);
    assert!(post(&store, "/_bulk", &[NDJSON], &one).is_err());
    store.set_down(false);
    assert_eq!(send(&store, &one).0, 200);
}

#[test]
fn faults_by_chance_come_as_often_as_asked() {
    let store = Store::start(Keep::Documents).unwrap();
    store.set_faults(Faults { by_chance: vec![(300, Fault::Unavailable)], seed: 4, ..Faults::default() });
    let failed = (0..200).filter(|_| send(&store, &bulk(&[("a", "{}")])).0 == 503).count();
    assert!((40..80).contains(&failed), "{failed} of 200");
}

#[test]
fn counting_takes_everything_and_counts_it() {
    let store = Store::start(Keep::Counts).unwrap();
    let body = bulk(&[("a", "{}"), ("a", "{}"), ("b", "{}")]);
    let (_, answer) = post(&store, "/_bulk?filter_path=errors,items.*.status", &[NDJSON], &body).unwrap();
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!((&answer["errors"], statuses(&answer)), (&json!(false), vec![201, 201, 201]));
    let bytes = body.len() as u64;
    assert_eq!(store.counts(), Counts { requests: 1, stored: 3, wire_bytes: bytes, text_bytes: bytes, ..Counts::default() });
}
