#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Arc;

use super::*;
use crate::SinkContext;
use crate::common::TlsConfig;
use crate::http::HttpOptions;
use crate::testing::{frame, store};

fn transport(url: String, streams: bool, stringify: bool) -> BulkTransport {
    let endpoints = [url];
    let options = HttpOptions { endpoints: &endpoints, auth: None, tls: &TlsConfig::default(), context: &SinkContext::default() };
    BulkTransport::new(HttpClient::new(&options, &mut Vec::new()).unwrap(), streams, stringify)
}

/// What a store was asked: paths, without what is the same in all, and bodies.
type Asked = Arc<Mutex<Vec<(String, String)>>>;

fn note(asked: &Asked, path: &str, body: &[u8]) -> usize {
    let mut asked = asked.lock().unwrap();
    asked.push((path.replace(WANTED, "…"), String::from_utf8_lossy(body).into_owned()));
    asked.len()
}

fn paths(asked: &Asked) -> Vec<String> {
    asked.lock().unwrap().iter().map(|(path, _)| path.clone()).collect()
}

fn unknown(names: &str) -> (u16, String) {
    let reason = format!("request [/logs/_bulk] contains unrecognized parameters: {names} -> did you mean [require_alias]?");
    (400, json!({"error": {"type": "illegal_argument_exception", "reason": reason}, "status": 400}).to_string())
}

const STORED: &str = r#"{"errors":false,"items":[{"create":{"status":201}}]}"#;

#[tokio::test]
async fn what_a_store_does_not_know_is_left_out_from_there_on() {
    let asked = Asked::default();
    let kept = asked.clone();
    let url = store(move |_, path, body| {
        note(&kept, path, body);
        if path.contains("include_source") { unknown("[include_source_on_error]") } else { (200, STORED.to_owned()) }
    });
    let transport = transport(url.await, true, false);
    let frame = frame("logs", "{\"create\":{\"_id\":\"a\"}}\n{}\n", 1);
    for _ in 0..2 {
        assert_eq!(transport.send(&frame).await.unwrap().status, 200);
    }
    let with = "/logs/_bulk?…&include_source_on_error=false&require_data_stream=true";
    let without = "/logs/_bulk?…&require_data_stream=true";
    assert_eq!(paths(&asked), [with, without, without]);
}

#[tokio::test]
async fn requests_that_are_under_way_together_all_leave_it_out() {
    let url = store(
        move |_, path, _| if path.contains("include_source") { unknown("[include_source_on_error]") } else { (200, STORED.to_owned()) },
    );
    let transport = transport(url.await, false, false);
    let frame = frame("logs", "{}\n{}\n", 1);
    let (one, two) = tokio::join!(transport.send(&frame), transport.send(&frame));
    assert_eq!((one.unwrap().status, two.unwrap().status), (200, 200));
}

#[tokio::test]
async fn a_refusal_for_another_reason_is_the_answer() {
    let url = store(|_, _, _| unknown("[something_else]"));
    let frame = frame("logs", "{}\n{}\n", 1);
    assert_eq!(transport(url.await, true, false).send(&frame).await.unwrap().status, 400);
}

#[tokio::test]
async fn where_no_template_makes_a_stream_nothing_is_sent() {
    // As OpenSearch does: it knows neither parameter, and would make an index.
    let asked = Asked::default();
    let kept = asked.clone();
    let url = store(move |_, path, body| {
        let count = note(&kept, path, body);
        let templates = r#"{"index_templates":[{"name":"t","index_template":{"index_patterns":["logs-*"],"data_stream":{}}}]}"#;
        match path {
            path if path.contains("require_data_stream") => unknown("[include_source_on_error], [require_data_stream]"),
            "/_data_stream/logs-a" => (404, "{}".to_owned()),
            path if path.starts_with("/_index_template") => (200, if count < 4 { "{}".to_owned() } else { templates.to_owned() }),
            _ => (200, STORED.to_owned()),
        }
    });
    let transport = transport(url.await, true, false);
    let frame = frame("logs-a", "{}\n{}\n", 1);
    let answer = transport.send(&frame).await.unwrap();
    assert!(matches!(answer::judge(answer.status, &answer.body, 1), skidder_pipeline::sink::Verdict::Pause { .. }), "{answer:?}");
    assert_eq!(transport.send(&frame).await.unwrap().status, 200);
    assert_eq!(transport.send(&frame).await.unwrap().status, 200);
    let templates = super::setup::TEMPLATES;
    assert_eq!(
        paths(&asked)[1..],
        ["/_data_stream/logs-a", templates, "/_data_stream/logs-a", templates, "/logs-a/_bulk?…", "/logs-a/_bulk?…"]
    );
}

fn refused(reason: &str) -> Value {
    json!({"create": {"status": 400, "error": {"type": "document_parsing_exception", "reason": reason}}})
}

fn answer_of(items: &[Value]) -> (u16, String) {
    (200, json!({"errors": true, "items": items}).to_string())
}

const THREE: &str = "{\"create\":{\"_id\":\"0\"}}\n{\"a\":1}\n{\"create\":{\"_id\":\"1\"}}\n{\"n\":\"x\",\"o\":2,\"z\":3}\n{\"create\":{\"_id\":\"2\"}}\n{\"b\":1}\n";

#[tokio::test]
async fn fields_that_do_not_fit_are_moved_aside_one_after_the_other() {
    let asked = Asked::default();
    let kept = asked.clone();
    let stored = json!({"create": {"status": 201}});
    let url = store(move |_, path, body| match note(&kept, path, body) {
        1 => answer_of(&[
            stored.clone(),
            refused("failed to parse field [n] of type [long] in document"),
            json!({"create": {"status": 429}}),
        ]),
        2 => answer_of(&[refused("object mapping for [o] tried to parse field [o] as object, but found a concrete value")]),
        _ => (200, json!({"errors": false, "items": [stored]}).to_string()),
    });
    let answer = transport(url.await, false, true).send(&frame("logs", THREE, 3)).await.unwrap();
    let bodies: Vec<String> = asked.lock().unwrap().iter().map(|(_, body)| body.clone()).collect();
    assert_eq!(bodies[1], "{\"create\":{\"_id\":\"1\"}}\n{\"o\":2,\"z\":3,\"_conflict\":{\"n\":\"x\"}}\n");
    assert_eq!(bodies[2], "{\"create\":{\"_id\":\"1\"}}\n{\"z\":3,\"_conflict\":{\"n\":\"x\",\"o\":\"2\"}}\n");
    let verdict = answer::judge(answer.status, &answer.body, 3);
    assert_eq!(verdict, skidder_pipeline::sink::Verdict::Partly { duplicates: 0, rejected: vec![], retry: vec![2] });
}

#[tokio::test]
async fn what_cannot_be_moved_is_refused_and_what_is_not_known_is_sent_again() {
    let reason = "Limit of total fields [1000] has been exceeded";
    let url = store(move |_, _, _| answer_of(&[json!({"create": {"status": 201}}), refused(reason), json!({"create": {"status": 201}})]));
    let answer = transport(url.await, false, true).send(&frame("logs", THREE, 3)).await.unwrap();
    let skidder_pipeline::sink::Verdict::Partly { rejected, .. } = answer::judge(200, &answer.body, 3) else { panic!("{answer:?}") };
    assert_eq!((rejected.len(), rejected[0].record), (1, 1));

    let count = Mutex::new(0);
    let url = store(move |_, _, _| {
        let mut count = count.lock().unwrap();
        *count += 1;
        match *count {
            1 => answer_of(&[
                json!({"create": {"status": 201}}),
                refused("mapper [n] cannot be changed"),
                json!({"create": {"status": 201}}),
            ]),
            _ => (503, String::new()),
        }
    });
    let answer = transport(url.await, false, true).send(&frame("logs", THREE, 3)).await.unwrap();
    let verdict = answer::judge(answer.status, &answer.body, 3);
    assert_eq!(verdict, skidder_pipeline::sink::Verdict::Partly { duplicates: 0, rejected: vec![], retry: vec![1] });
}
