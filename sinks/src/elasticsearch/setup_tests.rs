#![allow(clippy::unwrap_used)]

use super::*;
use crate::setup::Weight;
use crate::testing::store;

fn setup(url: &str, more: &str) -> Box<dyn Setup> {
    let config: ElasticsearchConfig = serde_json::from_str(&format!(r#"{{"endpoints":["{url}"]{more}}}"#)).unwrap();
    config.setup(&SinkContext { name: "es".into(), ..SinkContext::default() }).unwrap()
}

const STREAM: &str = r#","mode":"data_stream","data_stream":{"dataset":"app_{{ env }}"}"#;

/// What a store shows that answers these paths, by how they begin, and nothing else.
async fn seen(more: &str, answers: &[(&'static str, u16, &'static str)]) -> Vec<(Weight, String)> {
    let answers = answers.to_vec();
    let url = store(move |_, path, _| {
        let known = answers.iter().find(|(start, ..)| if *start == "/" { path == "/" } else { path.starts_with(start) });
        known.map_or((404, String::new()), |(_, status, body)| (*status, (*body).to_owned()))
    });
    let found = setup(&url.await, more).check().await;
    found.into_iter().map(|finding| (finding.weight, finding.message)).collect()
}

fn fine(message: &str) -> (Weight, String) {
    (Weight::Fine, message.to_owned())
}

fn fault(message: &str) -> (Weight, String) {
    (Weight::Fault, message.to_owned())
}

const GREETING: (&str, u16, &str) = ("/", 200, r#"{"version":{"number":"9.2.0"}}"#);
const TEMPLATES: (&str, u16, &str) = (
    "/_index_template",
    200,
    r#"{"index_templates":[
        {"name":"all","index_template":{"index_patterns":["*"],"priority":1}},
        {"name":"none","index_template":{"index_patterns":["metrics-*"],"priority":900,"data_stream":{}}},
        {"name":"ours","index_template":{"index_patterns":["x","logs-app_*"],"priority":500,"data_stream":{"hidden":false}}}]}"#,
);

#[tokio::test]
async fn a_store_that_has_everything_is_fine() {
    let answers = [
        GREETING,
        TEMPLATES,
        ("/_resolve/index/logs-app_*-default", 200, r#"{"indices":[],"data_streams":[{"name":"x"}]}"#),
        ("", 404, ""),
    ];
    assert_eq!(
        seen(STREAM, &answers).await,
        [fine("Elasticsearch 9.2.0 answers"), fine("the index template `ours` covers `logs-app_*-default`")]
    );
    assert_eq!(
        seen("", &[("/", 200, r#"{"version":{"number":"3.5.0","distribution":"opensearch"}}"#), TEMPLATES]).await,
        [fine("OpenSearch 3.5.0 answers"), fine("the index template `all` covers `skidder-*`")]
    );
}

#[tokio::test]
async fn what_is_missing_is_said() {
    let none = "no index template covers `logs-app_*-default`, so no data stream will be made";
    assert_eq!(seen(STREAM, &[("/_index_template", 200, "{}")]).await, [fine("the store answers"), fault(none)]);
    let all = r#"{"index_templates":[{"name":"all","index_template":{"index_patterns":["*"]}}]}"#;
    assert_eq!(
        seen(STREAM, &[("/_index_template", 200, all)]).await[1..],
        [fault("the index template `all`, which covers `logs-app_*-default`, makes no data streams")]
    );
    let doubts = seen("", &[("/_index_template", 200, "{}")]).await;
    assert_eq!(doubts[1].0, Weight::Doubtful, "{doubts:?}");
    // A store that does not say is no fault.
    assert_eq!(seen("", &[("/_index_template", 403, "{}")]).await[1].0, Weight::Doubtful);
    let plain = r#"{"indices":[{"name":"logs-app_b-default","data_stream":"x"},{"name":"logs-app_a-default","attributes":["open"]}]}"#;
    assert_eq!(
        seen(STREAM, &[TEMPLATES, ("/_resolve", 200, plain)]).await[2..],
        [fault("`logs-app_a-default` is an index, and a data stream is meant")]
    );
}

#[tokio::test]
async fn what_takes_from_the_promise_is_said() {
    let auto = setup("http://127.0.0.1:1", r#","id":"auto""#).check().await;
    assert!(auto[0].weight == Weight::Doubtful && auto[0].message.contains("at least once"), "{auto:?}");
    let keeps = r#"{"index_templates":[{"name":"keeps","index_template":{"index_patterns":["*"],"data_stream":{},
        "template":{"data_stream_options":{"failure_store":{"enabled":true}}}}}]}"#;
    let stringify = format!("{STREAM},\"on_conflict\":\"stringify\"");
    let found = seen(&stringify, &[("/_index_template", 200, keeps)]).await;
    assert!(found[1].0 == Weight::Doubtful && found[1].1.contains("has a failure store"), "{found:?}");
    let found = seen(STREAM, &[("/_index_template", 200, keeps)]).await;
    assert_eq!(found[1], fine("the index template `keeps` covers `logs-app_*-default`"));
}

#[tokio::test]
async fn rights_are_asked_for_where_the_store_knows_of_rights() {
    let rights = |text| [TEMPLATES, ("/_security/user/_has_privileges", 200, text)];
    let all = rights(r#"{"has_all_requested":true,"index":{"skidder-*":{"create_doc":true,"auto_configure":true}}}"#);
    assert_eq!(seen("", &all).await[2..], [fine("the credentials may create documents")]);
    let none = rights(r#"{"index":{"skidder-*":{"create_doc":false,"auto_configure":false}}}"#);
    assert_eq!(seen("", &none).await[2..], [fault("the credentials lack create_doc and auto_configure on `skidder-*`")]);
    let half = rights(r#"{"index":{"skidder-*":{"create_doc":true,"auto_configure":false}}}"#);
    assert_eq!(seen("", &half).await[2].0, Weight::Doubtful);
}

#[tokio::test]
async fn a_store_that_is_down_or_refuses_is_one_clear_fault() {
    let found = setup("http://127.0.0.1:1", "").check().await;
    assert!(found.len() == 1 && found[0].message.starts_with("the store cannot be reached: no connection"), "{found:?}");
    assert_eq!(seen("", &[("", 401, "{}")]).await, [fault("the store refuses the credentials (HTTP 401)")]);
    assert_eq!(seen("", &[("", 503, "{}")]).await, [fault("the store answers HTTP 503")]);
}

#[test]
fn the_template_is_for_the_names_of_the_sink() {
    let template = |more: &str| {
        let Needs { text, apply } = setup("http://localhost:9200", more).needs();
        (serde_json::from_str::<Value>(&text).unwrap(), apply)
    };
    let (stream, apply) = template(STREAM);
    assert_eq!(stream["index_patterns"], json!(["logs-app_*-default"]));
    assert_eq!(stream["template"]["data_stream_options"]["failure_store"]["enabled"], true);
    let (stringify, _) = template(&format!("{STREAM},\"on_conflict\":\"stringify\""));
    assert_eq!(stringify["template"]["data_stream_options"]["failure_store"]["enabled"], false);
    assert!(apply.contains("skidder init elasticsearch -c FILE --sink es |") && apply.contains("/_index_template/skidder-es\""), "{apply}");
    let (index, _) = template(r#","index":"logs-{{ env }}-%Y.%m","distribution":"opensearch""#);
    assert_eq!(index["index_patterns"], json!(["logs-*-*.*"]));
    assert!(index.get("data_stream").is_none() && index["template"].get("data_stream_options").is_none());
    assert_eq!(index["template"]["mappings"]["properties"]["kubernetes"]["properties"]["pod_labels"]["type"], "flat_object");
}

#[test]
fn patterns_are_those_of_elasticsearch() {
    for (pattern, name, yes) in [
        ("logs-*-*", "logs-a-b", true),
        ("logs-*-*", "logs-a", false),
        ("*", "x", true),
        ("logs", "logs", true),
        ("logs", "logs2", false),
        ("a*c", "abcc", true),
        ("a*c", "ab", false),
    ] {
        assert_eq!(fits(pattern, name), yes, "{pattern} {name}");
    }
}
