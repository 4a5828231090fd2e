//! Elasticsearch 8 and 9, OpenSearch 2 and 3, the real servers: what is read arrives whole, field by field; through a faulty
//! front, with agent and server killed, nothing is lost and nothing there twice; and each error has its documented outcome.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::value::RawValue;
use serde_json::{Value, json};
use skidder_tests::agent::{Agent, Ended};
use skidder_tests::chance::{self, Chance};
use skidder_tests::client::{self, get, request};
use skidder_tests::front::Front;
use skidder_tests::mixed::{Mixed, members};
use skidder_tests::servers::{Kind, Server};
use skidder_tests::site::Site;
use skidder_tests::store::{Fault, Faults};

/// 2026-11-24T23:59:00Z: the records of four pods go to two days.
const BEGIN: i64 = 1_795_564_740_000_000_000;
const RECORDS: u64 = 200_000;
/// What goes through the faulty front, and kills of the agent meanwhile, one of which takes the server too.
const FAULTY_RECORDS: u64 = 100_000;
const KILLS: u64 = 8;

/// The answer to a request that must succeed.
fn ask(server: &Server, method: &str, target: &str, body: &Value) -> Value {
    let text = if body.is_null() { String::new() } else { body.to_string() };
    let answer = request(method, server.url(), target, &[("content-type", "application/json")], text.as_bytes()).unwrap();
    assert!((200..300).contains(&answer.status), "{method} {target}: {} {}", answer.status, answer.text());
    answer.json()
}

/// A template under which every record can be stored: only the time is typed.
fn lenient(server: &Server, pattern: &str) {
    let template = json!({
        "index_patterns": [pattern],
        "template": {
            "settings": { "number_of_replicas": 0, "refresh_interval": "30s" },
            "mappings": { "dynamic": false, "properties": { "@timestamp": { "type": "date_nanos" }, "level": { "type": "keyword" } } }
        }
    });
    ask(server, "PUT", &format!("/_index_template/{}", pattern.trim_end_matches('*')), &template);
}

/// Pods to indices by day.
fn config(url: &str, index: &str, more: &str) -> String {
    format!(
        r#"data_dir = "state"
[sources.pods]
type = "kubernetes_logs"
root = "pods"
[transforms.parse]
type = "json"
inputs = ["pods"]
[sinks.store]
type = "elasticsearch"
inputs = ["parse"]
endpoints = ["{url}"]
index = "{index}-%Y.%m.%d"
request = {{ retry_initial_backoff_ms = 20, retry_max_duration_secs = 1 }}
{more}
"#
    )
}

/// Compares each document with the record that was read: all fields, none lost, none twice.
fn check(server: &Server, index: &str, mixed: &Mixed, records: u64) {
    ask(server, "POST", &format!("/{index}-*/_refresh"), &Value::Null);
    let count = ask(server, "GET", &format!("/{index}-*/_count"), &Value::Null);
    assert_eq!(count["count"].as_u64(), Some(records), "{count}");
    let mut seen = vec![0u8; records as usize];
    let mut wrong = Vec::new();
    let step = 4_000;
    for from in (0..records).step_by(step) {
        let (start, end) = (mixed.record(from).nanos, mixed.record(from + step as u64).nanos);
        let range = json!({ "gte": skidder_tests::mixed::rfc3339(start), "lt": skidder_tests::mixed::rfc3339(end) });
        let query = json!({ "size": 10_000, "query": { "range": { "@timestamp": range } } }).to_string();
        // Without a filter of the answer, which would write the documents anew.
        let answer = client::post(server.url(), &format!("/{index}-*/_search"), &query).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        #[derive(serde::Deserialize)]
        struct Found<'a> {
            #[serde(borrow)]
            hits: Hits<'a>,
        }
        #[derive(serde::Deserialize)]
        struct Hits<'a> {
            #[serde(borrow, default)]
            hits: Vec<Hit<'a>>,
        }
        #[derive(serde::Deserialize)]
        struct Hit<'a> {
            #[serde(borrow, rename = "_source")]
            source: &'a RawValue,
        }
        let times: BTreeMap<String, u64> =
            (from..from + step as u64).map(|seq| (skidder_tests::mixed::rfc3339(mixed.record_nanos(seq)), seq)).collect();
        let found: Found<'_> = serde_json::from_slice(&answer.body).unwrap();
        for hit in found.hits.hits {
            let document: BTreeMap<String, Box<RawValue>> = members(hit.source.get().as_bytes()).unwrap().into_iter().collect();
            let time: String = serde_json::from_str(document["@timestamp"].get()).unwrap();
            let Some(seq) = times.get(&time).copied() else {
                wrong.push(format!("no record has the time {time}"));
                continue;
            };
            seen[seq as usize] = seen[seq as usize].saturating_add(1);
            differences(mixed, seq, document, &mut wrong);
        }
    }
    let lost = seen.iter().filter(|count| **count == 0).count();
    let twice = seen.iter().filter(|count| **count > 1).count();
    assert!(
        lost == 0 && twice == 0 && wrong.is_empty(),
        "{lost} lost, {twice} twice, {} differ: {:#?}",
        wrong.len(),
        &wrong[..wrong.len().min(5)]
    );
}

/// What of the document is not as the record has it.
fn differences(mixed: &Mixed, seq: u64, mut document: BTreeMap<String, Box<RawValue>>, wrong: &mut Vec<String>) {
    let short = |text: &str| text.chars().take(300).collect::<String>();
    for (name, json) in mixed.record(seq).fields() {
        let is = document.remove(&name).map(|value| value.get().to_owned()).unwrap_or_default();
        let same = is == json
            || serde_json::from_str::<Value>(&is).ok().is_some_and(|is| serde_json::from_str::<Value>(&json).is_ok_and(|was| was == is));
        if !same {
            wrong.push(format!("record {seq}, {name}: is {} and was {}", short(&is), short(&json)));
        }
    }
    let kubernetes: Value = document.remove("kubernetes").and_then(|value| serde_json::from_str(value.get()).ok()).unwrap_or_default();
    if kubernetes["pod_name"] != mixed.pod(seq).as_str() || kubernetes["pod_namespace"] != "shop" {
        wrong.push(format!("record {seq}: {kubernetes}"));
    }
    let stream = document.remove("stream").map(|value| value.get().to_owned()).unwrap_or_default();
    if stream != if seq % 7 == 0 { "\"stderr\"" } else { "\"stdout\"" } {
        wrong.push(format!("record {seq}: stream {stream}"));
    }
    for name in ["@timestamp", "file", "source_type"] {
        document.remove(name);
    }
    if !document.is_empty() {
        wrong.push(format!("record {seq} has more: {:?}", document.keys()));
    }
}

/// All that is shown on one kind of server.
fn prove(kind: Kind) {
    let mut server = Server::start(kind).unwrap();
    lenient(&server, "whole-*");
    let mixed = Mixed::new(1, 4, BEGIN);
    let site = Site::new(config(server.url(), "whole", "")).unwrap();
    mixed.write(&site.path("pods"), 0, RECORDS).unwrap();
    let ended = site.once().unwrap();
    eprintln!("{kind:?}: {}", ended.stderr);
    check(&server, "whole", &mixed, RECORDS);
    drop(site);

    through_faults_and_kills(&mut server);
    items_have_their_outcomes(&server);
    a_blocked_index_is_an_outage(&server);
    a_data_stream_takes_records(&server);
    a_busy_server_and_one_that_takes_little(&mut server);
}

fn through_faults_and_kills(server: &mut Server) {
    let seed = chance::seed();
    eprintln!("seed {seed}: repeat with SKIDDER_SEED={seed}");
    let mut chance = Chance::new(seed);
    lenient(server, "faulty-*");
    let front = Front::start(server.url()).unwrap();
    let by_chance = vec![
        (40, Fault::TooMany { retry_after_s: None }),
        (40, Fault::Unavailable),
        (40, Fault::CloseBefore),
        (60, Fault::CloseAfter),
        (40, Fault::HalfRead),
        (60, Fault::TruncatedAnswer),
        (30, Fault::TooLarge),
    ];
    front.set_faults(Faults { by_chance, seed, ..Faults::default() });
    let mixed = Mixed::new(seed, 4, BEGIN);
    let site = Site::new(config(&front.url(), "faulty", "batch = { max_bytes = \"512KiB\", timeout_secs = 0.2 }")).unwrap();
    let slice = FAULTY_RECORDS / KILLS;
    for kill in 0..KILLS {
        let agent = site.start().unwrap();
        mixed.write(&site.path("pods"), kill * slice, (kill + 1) * slice).unwrap();
        std::thread::sleep(Duration::from_millis(200 + chance.below(2000)));
        if kill == KILLS / 2 {
            server.kill().unwrap();
            std::thread::sleep(Duration::from_millis(chance.below(500)));
            agent.kill().unwrap();
            server.restart().unwrap();
        } else {
            agent.kill().unwrap();
        }
    }
    site.once().unwrap();
    let seen = front.seen();
    assert!(seen.ambiguous > 5, "{seen:?}");
    eprintln!("{seen:?}");
    check(server, "faulty", &mixed, FAULTY_RECORDS);
}

/// A site whose source is one file of JSON lines, and whose sink has these lines too.
fn file_site(url: &str, more: &str) -> Site {
    Site::new(format!(
        r#"data_dir = "state"
[sources.app]
type = "file"
include = ["app.log"]
[transforms.parse]
type = "json"
inputs = ["app"]
[sinks.store]
type = "elasticsearch"
inputs = ["parse"]
endpoints = ["{url}"]
request = {{ retry_initial_backoff_ms = 20, retry_max_duration_secs = 1 }}
{more}
"#
    ))
    .unwrap()
}

/// `run --once` that cannot deliver within some seconds.
fn fails(site: &Site) -> Ended {
    let ended = site.once_with(&["--timeout", "4"]).unwrap();
    assert_eq!(ended.code(), Some(1), "{ended}");
    ended
}

fn letters(site: &Site) -> Vec<Value> {
    let shown = Agent::run(site.root(), &["dlq", "show", "--json", "-c", "pipeline.toml"]).unwrap().expect_success().unwrap();
    String::from_utf8_lossy(&shown.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn count(server: &Server, index: &str) -> u64 {
    ask(server, "POST", &format!("/{index}/_refresh"), &Value::Null);
    ask(server, "GET", &format!("/{index}/_count"), &Value::Null)["count"].as_u64().unwrap()
}

/// Conflicts of mappings go to the dead letters alone, labels of Kubernetes make none.
fn items_have_their_outcomes(server: &Server) {
    let site = file_site(server.url(), "index = \"items\"");
    ask(
        server,
        "PUT",
        "/items",
        &json!({ "settings": { "number_of_replicas": 0 }, "mappings": { "properties": { "n": { "type": "long" } } } }),
    );
    let mut text: String = (0..100).map(|n| format!("{{\"n\":{n},\"labels\":{{\"app\":\"web\"}}}}\n")).collect();
    text += "{\"n\":{\"not\":\"a number\"}}\n{\"n\":\"neither\"}\n{\"n\":100,\"labels\":{\"app.kubernetes.io/name\":\"web\",\"app\":\"web\"}}\n";
    site.append("app.log", text).unwrap();
    let ended = site.once_with(&[]).unwrap();
    assert_eq!(ended.code(), Some(1), "{ended}");
    assert_eq!(count(server, "items"), 101);
    let letters = letters(&site);
    assert_eq!(letters.len(), 2, "{letters:?}");
    assert!(
        letters.iter().all(|letter| letter["status"] == 400 && letter["reason"].as_str().unwrap().contains("parsing_exception")),
        "{letters:?}"
    );
    let labels = ask(server, "GET", "/items/_search?q=n:100", &Value::Null);
    assert_eq!(labels["hits"]["hits"][0]["_source"]["labels"]["app_kubernetes_io/name"], "web", "{labels}");
}

fn a_blocked_index_is_an_outage(server: &Server) {
    ask(server, "PUT", "/blocked", &json!({ "settings": { "number_of_replicas": 0, "index.blocks.write": true } }));
    let site = file_site(server.url(), "index = \"blocked\"");
    site.append("app.log", "{\"message\":\"waits\"}\n").unwrap();
    fails(&site);
    assert!(letters(&site).is_empty());
    ask(server, "PUT", "/blocked/_settings", &json!({ "index.blocks.write": null }));
    site.once().unwrap();
    assert_eq!(count(server, "blocked"), 1);
}

fn a_data_stream_takes_records(server: &Server) {
    let template = json!({ "index_patterns": ["logs-*"], "data_stream": {}, "priority": 500, "template": { "settings": { "number_of_replicas": 0 } } });
    ask(server, "PUT", "/_index_template/logs-skidder", &template);
    let site = file_site(server.url(), "mode = \"data_stream\"\ndata_stream = { dataset = \"app\" }");
    site.append("app.log", "{\"message\":\"one\"}\n{\"message\":\"two\"}\n").unwrap();
    site.once().unwrap();
    assert_eq!(count(server, "logs-app-default"), 2);
    // The same records again, as after a lost state of what was acknowledged.
    let answers = get(server.url(), "/_cat/indices?h=index").unwrap().text();
    assert!(answers.contains(".ds-logs-app-default-"), "{answers}");
}

/// 429 by its own limit of memory, and 413 by its own limit of a request.
fn a_busy_server_and_one_that_takes_little(server: &mut Server) {
    let site = file_site(server.url(), "index = \"pressed\"\ncompression = \"none\"\nbatch = { max_bytes = \"4MiB\" }");
    let text: String = (0..6000).map(|n| format!("{{\"n\":{n},\"message\":\"{}\"}}\n", "x".repeat(500))).collect();
    site.append("app.log", text).unwrap();
    server.kill().unwrap();
    server.restart_with(&["indexing_pressure.memory.limit=1kb"]).unwrap();
    fails(&site);
    assert!(letters(&site).is_empty());
    server.kill().unwrap();
    server.restart_with(&["http.max_content_length=1mb"]).unwrap();
    site.once().unwrap();
    assert!(letters(&site).is_empty());
    assert_eq!(count(server, "pressed"), 6000);
}

#[test]
fn elasticsearch_8() {
    prove(Kind::Elasticsearch8);
}

#[test]
fn elasticsearch_9() {
    prove(Kind::Elasticsearch9);
}

#[test]
fn opensearch_2() {
    prove(Kind::OpenSearch2);
}

#[test]
fn opensearch_3() {
    prove(Kind::OpenSearch3);
}
