//! Elasticsearch 8 and 9, OpenSearch 2 and 3, the real servers: what is read arrives whole, field by field; through a faulty
//! front, with agent and server killed, nothing is lost and nothing there twice; and each error has its documented outcome.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use skidder_tests::agent::{Agent, Ended};
use skidder_tests::chance::{self, Chance};
use skidder_tests::client::{self, get, request};
use skidder_tests::front::Front;
use skidder_tests::mixed::{Mixed, members, rfc3339};
use skidder_tests::servers::{Kind, Server};
use skidder_tests::site::Site;
use skidder_tests::store::{Fault, Faults};

/// 2026-11-24T23:59:00Z: the records go to two days.
const BEGIN: i64 = 1_795_564_740_000_000_000;

/// How much of it a server gets: most goes to one. Bounded by the records among them that fit no dynamic mapping (lists of numbers and
/// objects), each of which costs the store a mapping that it refuses.
struct Amounts {
    /// Mixed records that are compared with what was read.
    records: u64,
    /// Mixed records through the faulty front.
    faulty: u64,
    /// Kills of the agent meanwhile, one of which takes the server too.
    kills: u64,
}

const ALL: Amounts = Amounts { records: 40_000, faulty: 24_000, kills: 8 };
const FEWER: Amounts = Amounts { records: 8_000, faulty: 12_000, kills: 4 };

/// The answer to a request that must succeed.
fn ask(server: &Server, method: &str, target: &str, body: &Value) -> Value {
    let text = if body.is_null() { String::new() } else { body.to_string() };
    let answer = request(method, server.url(), target, &[("content-type", "application/json")], text.as_bytes()).unwrap();
    assert!((200..300).contains(&answer.status), "{method} {target}: {} {}", answer.status, answer.text());
    answer.json()
}

fn is_opensearch(kind: Kind) -> bool {
    matches!(kind, Kind::OpenSearch2 | Kind::OpenSearch3)
}

/// Pods to a sink with these lines.
fn config(kind: Kind, url: &str, more: &str) -> String {
    let distribution = if is_opensearch(kind) { "opensearch" } else { "elasticsearch" };
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
distribution = "{distribution}"
on_conflict = "stringify"
request = {{ retry_initial_backoff_ms = 20, retry_max_duration_secs = 1 }}
{more}
"#
    )
}

fn skidder(site: &Site, arguments: &[&str]) -> Ended {
    Agent::run(site.root(), &[arguments, &["-c", "pipeline.toml"]].concat()).unwrap()
}

/// Gives the server the template that `skidder init` prints for the sink of the site.
fn init(server: &Server, site: &Site, name: &str) {
    let printed = skidder(site, &["init", "elasticsearch"]).expect_success().unwrap();
    let template: Value = serde_json::from_slice(&printed.stdout).unwrap();
    ask(server, "PUT", &format!("/_index_template/{name}"), &template);
}

#[derive(Deserialize)]
struct Found<'a> {
    #[serde(borrow)]
    hits: Hits<'a>,
}

#[derive(Deserialize)]
struct Hits<'a> {
    #[serde(borrow, default)]
    hits: Vec<Hit<'a>>,
}

#[derive(Deserialize)]
struct Hit<'a> {
    #[serde(borrow, rename = "_source")]
    source: &'a RawValue,
}

/// Compares each document with the record that was read: all fields, none lost, none twice.
fn check(server: &Server, index: &str, mixed: &Mixed, records: u64) {
    ask(server, "POST", &format!("/{index}/_refresh"), &Value::Null);
    let mut seen = vec![0u8; records as usize];
    let mut wrong = Vec::new();
    let step = 4_000;
    for from in (0..records).step_by(step) {
        let to = from + step as u64;
        let by_time: BTreeMap<String, u64> = (from..to).map(|seq| (rfc3339(mixed.record_nanos(seq)), seq)).collect();
        let range = json!({ "gte": rfc3339(mixed.record_nanos(from)), "lt": rfc3339(mixed.record_nanos(to)) });
        let query = json!({ "size": 10_000, "query": { "range": { "@timestamp": range } } }).to_string();
        let answer = client::post(server.url(), &format!("/{index}/_search"), &query).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        let found: Found<'_> = serde_json::from_slice(&answer.body).unwrap();
        for hit in found.hits.hits {
            let document: BTreeMap<String, Box<RawValue>> = members(hit.source.get().as_bytes()).unwrap().into_iter().collect();
            let time: String = serde_json::from_str(document["@timestamp"].get()).unwrap();
            let Some(seq) = by_time.get(&time).copied().filter(|seq| *seq < records) else {
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
        "{lost} lost (first {:?}), {twice} twice, {} differ: {:#?}",
        seen.iter().position(|count| *count == 0),
        wrong.len(),
        &wrong[..wrong.len().min(5)]
    );
    let count = ask(server, "GET", &format!("/{index}/_count"), &Value::Null);
    assert_eq!(count["count"].as_u64(), Some(records), "{count}");
}

/// What of the document is not as the record has it. A field that did not fit the mapping is below `_conflict`, as it was written.
fn differences(mixed: &Mixed, seq: u64, mut document: BTreeMap<String, Box<RawValue>>, wrong: &mut Vec<String>) {
    let short = |text: &str| text.chars().take(300).collect::<String>();
    let aside: BTreeMap<String, String> =
        document.remove("_conflict").map(|aside| serde_json::from_str(aside.get()).unwrap()).unwrap_or_default();
    let mut fields: BTreeMap<String, String> = mixed.record(seq).fields().into_iter().collect();
    for (key, text) in &aside {
        if !put_aside(&mut fields, key, text) {
            wrong.push(format!("record {seq}: {key} is aside, and was no {}", short(text)));
        }
    }
    for (name, json) in fields {
        let is = document.remove(&name).map(|value| value.get().to_owned()).unwrap_or_default();
        if is != json {
            wrong.push(format!("record {seq}, {name}: is {} and was {}", short(&is), short(&json)));
        }
    }
    let kubernetes: Value = document.remove("kubernetes").and_then(|value| serde_json::from_str(value.get()).ok()).unwrap_or_default();
    if kubernetes["pod_name"] != mixed.pod(seq).as_str() || kubernetes["pod_namespace"] != "shop" {
        wrong.push(format!("record {seq}: {kubernetes}"));
    }
    let stream = document.remove("stream").map(|value| value.get().to_owned()).unwrap_or_default();
    if stream != if seq.is_multiple_of(7) { "\"stderr\"" } else { "\"stdout\"" } {
        wrong.push(format!("record {seq}: stream {stream}"));
    }
    for name in ["@timestamp", "file", "source_type", "invalid_utf8"] {
        document.remove(name);
    }
    if !document.is_empty() {
        wrong.push(format!("record {seq} has more: {:?}", document.keys()));
    }
}

/// Takes from `fields` (names, and values as JSON) what is below `_conflict` as `key`; whether it was there, with this text.
fn put_aside(fields: &mut BTreeMap<String, String>, key: &str, text: &str) -> bool {
    let quoted = Value::from(text).to_string();
    if let Some(json) = fields.remove(key) {
        return json == text || json == quoted;
    }
    for (name, json) in fields.iter_mut().filter(|(name, _)| key.starts_with(&format!("{name}_"))) {
        let last = key[name.len() + 1..].rsplit('_').next().unwrap_or_default();
        for value in [text, &quoted] {
            let member = format!("\"{last}\":{value}");
            for part in [format!("{member},"), format!(",{member}"), member.clone()] {
                if json.contains(&part) {
                    *json = json.replacen(&part, "", 1);
                    return true;
                }
            }
        }
    }
    false
}

/// All that is shown on one kind of server.
fn prove(kind: Kind, amounts: &Amounts) {
    let mut server = Server::start(kind).unwrap();
    whole(kind, &server, amounts.records);
    through_faults_and_kills(kind, &mut server, amounts);
    items_have_their_outcomes(&server);
    a_strict_mapping_refuses_or_has_fields_aside(&server);
    a_blocked_index_is_an_outage(&server);
    no_index_is_made_where_a_stream_is_meant(kind, &server);
    a_busy_server_and_one_that_takes_little(&mut server);
}

/// Mixed records to a data stream, with the template that `init` prints; read back by a query on typed fields too.
fn whole(kind: Kind, server: &Server, records: u64) {
    let stream = "mode = \"data_stream\"\ndata_stream = { dataset = \"{{ kubernetes.pod_namespace }}\" }";
    let site = Site::new(config(kind, server.url(), stream)).unwrap();
    let before = skidder(&site, &["validate"]);
    assert!(before.code() == Some(1) && before.stderr.contains("no index template covers `logs-*-default`"), "{before}");
    init(server, &site, "whole");
    let after = skidder(&site, &["validate"]).expect_success().unwrap();
    assert!(String::from_utf8_lossy(&after.stdout).contains("the index template `whole` covers"), "{after}");

    let mixed = Mixed::new(1, 4, BEGIN);
    mixed.write(&site.path("pods"), 0, records).unwrap();
    let begin = Instant::now();
    let ended = site.once().unwrap();
    eprintln!("{kind:?}: {records} records in {:?}\n{}", begin.elapsed(), ended.stderr);
    assert!(letters(&site).is_empty(), "{:?}", letters(&site).first());
    check(server, "logs-shop-default", &mixed, records);

    let is = |seq: u64, level: &str| {
        let fields: BTreeMap<String, String> = mixed.record(seq).fields().into_iter().collect();
        fields.get("level").is_some_and(|found| found == level) && fields["ok"] == "true"
    };
    let (from, to) = (records / 4, records / 2);
    let expected = (from..to).filter(|seq| is(*seq, "\"Fatal\"")).count() as u64;
    let filter = json!([{ "term": { "level": "Fatal" } }, { "term": { "ok": true } }, { "range": { "seq": { "gte": from, "lt": to } } }]);
    let count = ask(server, "POST", "/logs-shop-default/_count", &json!({ "query": { "bool": { "filter": filter } } }));
    assert!(expected > 20 && count["count"].as_u64() == Some(expected), "{expected} and {count}");
    let thai = json!({ "query": { "match_phrase": { "message": "bay VN" } } });
    assert!(ask(server, "POST", "/logs-shop-default/_count", &thai)["count"].as_u64() > Some(50), "a query for words");
}

/// Indices by day, through a front that errs, with kills.
fn through_faults_and_kills(kind: Kind, server: &mut Server, amounts: &Amounts) {
    let seed = chance::seed();
    eprintln!("seed {seed}: repeat with SKIDDER_SEED={seed}");
    let mut chance = Chance::new(seed);
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
    let more = "index = \"faulty-%Y.%m.%d\"\nbatch = { max_bytes = \"128KiB\", timeout_secs = 0.2 }";
    let site = Site::new(config(kind, &front.url(), more)).unwrap();
    init(server, &site, "faulty");
    let slice = amounts.faulty / amounts.kills;
    for kill in 0..amounts.kills {
        let agent = site.start().unwrap();
        mixed.write(&site.path("pods"), kill * slice, (kill + 1) * slice).unwrap();
        std::thread::sleep(Duration::from_millis(200 + chance.below(2000)));
        if kill == amounts.kills / 2 {
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
    assert!(letters(&site).is_empty(), "{:?}", letters(&site).first());
    check(server, "faulty-*", &mixed, amounts.faulty);
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

/// What a strict mapping does not know is a dead letter, or aside where that was asked for.
fn a_strict_mapping_refuses_or_has_fields_aside(server: &Server) {
    let properties = json!({ "n": { "type": "long" }, "_conflict": { "type": "object", "enabled": false } });
    let more = ["message", "timestamp", "@timestamp", "file", "source_type"].map(|name| (name.to_owned(), json!({ "type": "keyword" })));
    let properties: serde_json::Map<_, _> = properties.as_object().unwrap().clone().into_iter().chain(more).collect();
    let text = "{\"n\":1}\n{\"n\":2,\"new\":\"x\"}\n";
    for (index, on_conflict, stored) in [("strict-reject", "reject", 1), ("strict-stringify", "stringify", 2)] {
        let mappings = json!({ "dynamic": "strict", "properties": properties });
        ask(server, "PUT", &format!("/{index}"), &json!({ "settings": { "number_of_replicas": 0 }, "mappings": mappings }));
        let site = file_site(server.url(), &format!("index = \"{index}\"\non_conflict = \"{on_conflict}\""));
        site.append("app.log", text).unwrap();
        site.once_with(&[]).unwrap();
        assert_eq!((count(server, index), letters(&site).len() as u64), (stored, 2 - stored), "{on_conflict}: {:?}", letters(&site));
    }
    let aside = ask(server, "GET", "/strict-stringify/_search?q=n:2", &Value::Null);
    assert_eq!(aside["hits"]["hits"][0]["_source"]["_conflict"], json!({ "new": "x" }), "{aside}");
}

/// Without a template the sink waits, and nothing is made in the place of the stream, whether the store can be told so or not.
fn no_index_is_made_where_a_stream_is_meant(kind: Kind, server: &Server) {
    let distribution = if is_opensearch(kind) { "opensearch" } else { "elasticsearch" };
    let stream = "mode = \"data_stream\"\ndata_stream = { type = \"app\", dataset = \"no_template\" }";
    let site = file_site(server.url(), &format!("{stream}\ndistribution = \"{distribution}\""));
    site.append("app.log", "{\"message\":\"waits\"}\n").unwrap();
    let ended = fails(&site);
    assert!(ended.stderr.contains("index_not_found_exception"), "{ended}");
    assert_eq!(get(server.url(), "/app-no_template-default").unwrap().status, 404);
    init(server, &site, "no-template");
    site.once().unwrap();
    assert_eq!(count(server, "app-no_template-default"), 1);
    assert!(get(server.url(), "/_cat/indices?h=index&expand_wildcards=all").unwrap().text().contains(".ds-app-no_template-default-"));
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
    prove(Kind::Elasticsearch8, &FEWER);
}

#[test]
fn elasticsearch_9() {
    prove(Kind::Elasticsearch9, &ALL);
}

#[test]
fn opensearch_2() {
    prove(Kind::OpenSearch2, &FEWER);
}

#[test]
fn opensearch_3() {
    prove(Kind::OpenSearch3, &FEWER);
}
