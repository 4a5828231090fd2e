//! Elasticsearch 8 and 9, OpenSearch 2 and 3, the real servers: what is read arrives whole, field by field; through a faulty
//! front, with agent and server killed, nothing is lost and nothing there twice; and each error has its documented outcome.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use skidder_tests::agent::{Agent, Ended, until};
use skidder_tests::chance::{self, Chance};
use skidder_tests::client::{self, get, request};
use skidder_tests::front::Front;
use skidder_tests::mixed::{Mixed, members, rfc3339};
use skidder_tests::real::{self, Account, Differences, Torment, fails, pods_site};
use skidder_tests::servers::{Kind, Server};
use skidder_tests::site::Site;
use skidder_tests::store::{Fault, Faults};

/// 2026-11-24T23:59:00Z: the records go to two days.
const BEGIN: i64 = 1_795_564_740_000_000_000;

/// Mixed records to indices whose mapping takes no new fields, whole and through faults.
const RECORDS: u64 = 200_000;

/// Mixed records to indices that map each field which comes. Few: each of those with a list of numbers and objects, which fit no
/// mapping that grows, costs the store a mapping that it refuses.
const MAPPED: u64 = 6_000;

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

/// The lines of a sink.
fn sink(kind: Kind, url: &str, more: &str) -> String {
    let distribution = if is_opensearch(kind) { "opensearch" } else { "elasticsearch" };
    format!(
        "type = \"elasticsearch\"\nendpoints = [\"{url}\"]\ndistribution = \"{distribution}\"\n\
         request = {{ retry_initial_backoff_ms = 20, retry_max_duration_secs = 1 }}\n{more}"
    )
}

/// A site that ships one file, with such a sink.
fn file_site(kind: Kind, url: &str, more: &str) -> Site {
    real::file_site(&sink(kind, url, more)).unwrap()
}

fn skidder(site: &Site, arguments: &[&str]) -> Ended {
    Agent::run(site.root(), &[arguments, &["-c", "pipeline.toml"]].concat()).unwrap()
}

/// What new fields come to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fields {
    /// They are mapped, as the template that `skidder init` prints has it.
    Mapped,
    /// They are kept as they are, and cannot be asked for: few are mapped from the beginning.
    Kept,
}

/// Gives the server the template that `skidder init` prints for the sink of the site.
fn init(server: &Server, site: &Site, name: &str, fields: Fields) {
    let printed = skidder(site, &["init", "elasticsearch"]).expect_success().unwrap();
    let mut template: Value = serde_json::from_slice(&printed.stdout).unwrap();
    if fields == Fields::Kept {
        let mappings = &mut template["template"]["mappings"];
        mappings["dynamic"] = json!(false);
        for (field, kind) in [("level", "keyword"), ("ok", "boolean"), ("seq", "long"), ("trace_id", "keyword")] {
            mappings["properties"][field] = json!({ "type": kind });
        }
    }
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
    let mut account = Account::new(mixed, records);
    let step = 4_000;
    for from in (0..records).step_by(step) {
        let to = from + step as u64;
        let by_time: BTreeMap<String, i64> = (from..to).map(|seq| mixed.record_nanos(seq)).map(|nanos| (rfc3339(nanos), nanos)).collect();
        let range = json!({ "gte": rfc3339(mixed.record_nanos(from)), "lt": rfc3339(mixed.record_nanos(to)) });
        let query = json!({ "size": 10_000, "query": { "range": { "@timestamp": range } } }).to_string();
        let answer = client::post(server.url(), &format!("/{index}/_search"), &query).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        let found: Found<'_> = serde_json::from_slice(&answer.body).unwrap();
        for hit in found.hits.hits {
            let document: BTreeMap<String, Box<RawValue>> = members(hit.source.get().as_bytes()).unwrap().into_iter().collect();
            let time: String = serde_json::from_str(document["@timestamp"].get()).unwrap();
            let nanos = by_time.get(&time).copied().unwrap_or(i64::MIN);
            account.enter(nanos, |seq, differences| compare(mixed, seq, document, differences));
        }
    }
    assert_eq!(account.close(), Ok(0), "none lost, changed or twice");
    let count = ask(server, "GET", &format!("/{index}/_count"), &Value::Null);
    assert_eq!(count["count"].as_u64(), Some(records), "{count}");
}

/// What of the document is not as the record has it. A field that did not fit the mapping is below `_conflict`, as it was written.
fn compare(mixed: &Mixed, seq: u64, mut document: BTreeMap<String, Box<RawValue>>, differences: &mut Differences<'_>) {
    let aside: BTreeMap<String, String> =
        document.remove("_conflict").map(|aside| serde_json::from_str(aside.get()).unwrap()).unwrap_or_default();
    let mut fields: BTreeMap<String, String> = mixed.record(seq).fields().into_iter().collect();
    for (key, text) in &aside {
        if !put_aside(&mut fields, key, text) {
            differences.note("aside", format!("{key} is aside, and was no {:.300}", text));
        }
    }
    for (name, json) in fields {
        let is = document.remove(&name).map(|value| value.get().to_owned()).unwrap_or_default();
        if is != json {
            differences.note("field", format!("{name} is {is:.300} and was {json:.300}"));
        }
    }
    let kubernetes: Value = document.remove("kubernetes").and_then(|value| serde_json::from_str(value.get()).ok()).unwrap_or_default();
    differences.differ("pod", &kubernetes["pod_name"], &mixed.pod(seq).into());
    differences.differ("namespace", &kubernetes["pod_namespace"], &"shop".into());
    let stream = document.remove("stream").map(|value| value.get().to_owned()).unwrap_or_default();
    differences.differ("stream", &stream, &format!("\"{}\"", Mixed::stream(seq)));
    for name in ["@timestamp", "file", "source_type", "invalid_utf8"] {
        document.remove(name);
    }
    differences.differ("more", &document.keys().collect::<Vec<_>>(), &vec![]);
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
fn prove(kind: Kind) {
    let mut server = Server::start(kind).unwrap();
    let begin = Instant::now();
    let step = |what: &str, server: &mut Server, prove: &mut dyn FnMut(&mut Server)| {
        let begin = Instant::now();
        prove(server);
        eprintln!("{kind:?}, {what}: {:.1} s", begin.elapsed().as_secs_f64());
    };
    step("mapped", &mut server, &mut |server| whole(kind, server, Fields::Mapped, MAPPED));
    step("whole", &mut server, &mut |server| whole(kind, server, Fields::Kept, RECORDS));
    step("mapped, faults", &mut server, &mut |server| through_faults_and_kills(kind, server, Fields::Mapped, MAPPED / 2));
    step("whole, faults", &mut server, &mut |server| through_faults_and_kills(kind, server, Fields::Kept, RECORDS));
    step("outcomes", &mut server, &mut |server| {
        items_have_their_outcomes(kind, server);
        a_strict_mapping_refuses_or_has_fields_aside(kind, server);
        a_blocked_index_is_an_outage(kind, server);
        no_index_is_made_where_a_stream_is_meant(kind, server);
        if kind == Kind::Elasticsearch9 {
            what_does_not_fit_is_in_the_failure_store(kind, server);
        }
        the_store_gives_the_ids_where_it_is_asked_to(kind, server);
        a_busy_server_and_one_that_takes_little(kind, server);
    });
    eprintln!("{kind:?}: {:.0} s", begin.elapsed().as_secs_f64());
}

/// Mixed records to a data stream; read back by a query on typed fields too.
fn whole(kind: Kind, server: &Server, fields: Fields, records: u64) {
    let name = if fields == Fields::Mapped { "mapped" } else { "kept" };
    let stream = format!(
        "mode = \"data_stream\"\ndata_stream = {{ dataset = \"{{{{ kubernetes.pod_namespace }}}}\", namespace = \"{name}\" }}\non_conflict = \"stringify\""
    );
    let site = pods_site(&sink(kind, server.url(), &stream)).unwrap();
    let before = skidder(&site, &["validate"]);
    assert!(before.code() == Some(1) && before.stderr.contains(&format!("no index template covers `logs-*-{name}`")), "{before}");
    init(server, &site, name, fields);
    let after = skidder(&site, &["validate"]).expect_success().unwrap();
    assert!(String::from_utf8_lossy(&after.stdout).contains(&format!("the index template `{name}` covers")), "{after}");

    let mixed = Mixed::new(1, 4, BEGIN);
    mixed.write(&site.path("pods"), 0, records).unwrap();
    let begin = Instant::now();
    let ended = site.once().unwrap();
    eprintln!("{kind:?}: {records} records in {:?}\n{}", begin.elapsed(), ended.stderr);
    let letters = site.letters().unwrap();
    assert!(letters.is_empty(), "{:?}", letters.first());
    let index = format!("logs-shop-{name}");
    check(server, &index, &mixed, records);

    let is = |seq: u64, level: &str| {
        let fields: BTreeMap<String, String> = mixed.record(seq).fields().into_iter().collect();
        fields.get("level").is_some_and(|found| found == level) && fields["ok"] == "true"
    };
    let (from, to) = (records / 4, records / 2);
    let expected = (from..to).filter(|seq| is(*seq, "\"Fatal\"")).count() as u64;
    let filter = json!([{ "term": { "level": "Fatal" } }, { "term": { "ok": true } }, { "range": { "seq": { "gte": from, "lt": to } } }]);
    let count = ask(server, "POST", &format!("/{index}/_count"), &json!({ "query": { "bool": { "filter": filter } } }));
    assert!(expected > 20 && count["count"].as_u64() == Some(expected), "{expected} and {count}");
    let words = json!({ "query": { "match_phrase": { "message": "bay VN" } } });
    assert!(ask(server, "POST", &format!("/{index}/_count"), &words)["count"].as_u64() > Some(50), "a query for words");
}

/// Indices by day, through a front that errs, with kills.
fn through_faults_and_kills(kind: Kind, server: &mut Server, fields: Fields, records: u64) {
    let seed = chance::seed();
    eprintln!("seed {seed}: repeat with SKIDDER_SEED={seed}");
    let front = Front::start(server.url()).unwrap();
    // Of the records that are kept whole some are large enough for a body of their own, which nothing can make smaller.
    let too_large = if fields == Fields::Mapped { 30 } else { 0 };
    front.set_faults(real::faults(seed, &[(60, Fault::TruncatedAnswer), (too_large, Fault::TooLarge)]));
    let mixed = Mixed::new(seed, 4, BEGIN);
    let name = if fields == Fields::Mapped { "faulty-mapped" } else { "faulty-kept" };
    // Small enough that hundreds of requests meet the faults, whatever chance decides.
    let size = if fields == Fields::Mapped { "64KiB" } else { "256KiB" };
    let more =
        format!("index = \"{name}-%Y.%m.%d\"\non_conflict = \"stringify\"\nbatch = {{ max_bytes = \"{size}\", timeout_secs = 0.2 }}");
    let site = pods_site(&sink(kind, &front.url(), &more)).unwrap();
    init(server, &site, name, fields);
    // Where the server starts again takes ten seconds of a core: once.
    let torment = match fields {
        Fields::Mapped => Torment { records, kills: 4, server_kills: vec![], pause: Duration::from_millis(1000) },
        Fields::Kept => Torment { records, kills: 10, server_kills: vec![5], pause: Duration::from_millis(1500) },
    };
    torment.ship(server, &site, &mixed, &mut Chance::new(seed), |_| {}).unwrap();
    let seen = front.seen();
    eprintln!("{seen:?}");
    assert!(seen.ambiguous > 5, "{seen:?}");
    let letters = site.letters().unwrap();
    assert!(letters.is_empty(), "{:?}", letters.first());
    check(server, &format!("{name}-*"), &mixed, records);
}

fn count(server: &Server, index: &str) -> u64 {
    ask(server, "POST", &format!("/{index}/_refresh"), &Value::Null);
    ask(server, "GET", &format!("/{index}/_count"), &Value::Null)["count"].as_u64().unwrap()
}

/// Conflicts of mappings go to the dead letters alone, labels of Kubernetes make none.
fn items_have_their_outcomes(kind: Kind, server: &Server) {
    let site = file_site(kind, server.url(), "index = \"items\"");
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
    let letters = site.letters().unwrap();
    assert_eq!(letters.len(), 2, "{letters:?}");
    assert!(
        letters.iter().all(|letter| letter["status"] == 400 && letter["reason"].as_str().unwrap().contains("parsing_exception")),
        "{letters:?}"
    );
    let labels = ask(server, "GET", "/items/_search?q=n:100", &Value::Null);
    assert_eq!(labels["hits"]["hits"][0]["_source"]["labels"]["app_kubernetes_io/name"], "web", "{labels}");
}

/// Blocked by an operator, and as a disk that is full to its flood stage does it.
fn a_blocked_index_is_an_outage(kind: Kind, server: &Server) {
    for block in ["write", "read_only_allow_delete"] {
        let (index, block) = (format!("blocked-{block}"), format!("index.blocks.{block}"));
        ask(server, "PUT", &format!("/{index}"), &json!({ "settings": { "number_of_replicas": 0, &block: true } }));
        let site = file_site(kind, server.url(), &format!("index = \"{index}\""));
        site.append("app.log", "{\"message\":\"waits\"}\n").unwrap();
        fails(&site).unwrap();
        assert!(site.letters().unwrap().is_empty());
        ask(server, "PUT", &format!("/{index}/_settings"), &json!({ &block: null }));
        site.once().unwrap();
        assert_eq!(count(server, &index), 1);
    }
}

/// What a strict mapping does not know is a dead letter, or aside where that was asked for.
fn a_strict_mapping_refuses_or_has_fields_aside(kind: Kind, server: &Server) {
    let properties = json!({ "n": { "type": "long" }, "_conflict": { "type": "object", "enabled": false } });
    let more = ["message", "timestamp", "@timestamp", "file", "source_type"].map(|name| (name.to_owned(), json!({ "type": "keyword" })));
    let properties: serde_json::Map<_, _> = properties.as_object().unwrap().clone().into_iter().chain(more).collect();
    let text = "{\"n\":1}\n{\"n\":2,\"new\":\"x\"}\n";
    for (index, on_conflict, stored) in [("strict-reject", "reject", 1), ("strict-stringify", "stringify", 2)] {
        let mappings = json!({ "dynamic": "strict", "properties": properties });
        ask(server, "PUT", &format!("/{index}"), &json!({ "settings": { "number_of_replicas": 0 }, "mappings": mappings }));
        let site = file_site(kind, server.url(), &format!("index = \"{index}\"\non_conflict = \"{on_conflict}\""));
        site.append("app.log", text).unwrap();
        site.once_with(&[]).unwrap();
        let letters = site.letters().unwrap();
        assert_eq!((count(server, index), letters.len() as u64), (stored, 2 - stored), "{on_conflict}: {letters:?}");
    }
    let aside = ask(server, "GET", "/strict-stringify/_search?q=n:2", &Value::Null);
    assert_eq!(aside["hits"]["hits"][0]["_source"]["_conflict"], json!({ "new": "x" }), "{aside}");
}

/// Elasticsearch keeps what the mapping refuses: delivered, no dead letter, and there with its reason.
fn what_does_not_fit_is_in_the_failure_store(kind: Kind, server: &Server) {
    let front = Front::start(server.url()).unwrap();
    let site = file_site(kind, &front.url(), "mode = \"data_stream\"\ndata_stream.dataset = \"diverted\"");
    init(server, &site, "diverted", Fields::Mapped);
    site.append("app.log", "{\"n\":1}\n").unwrap();
    site.once().unwrap();
    site.append("app.log", "{\"n\":{\"a\":1}}\n{\"n\":2}\n").unwrap();
    site.once().unwrap();
    assert!(site.letters().unwrap().is_empty());
    assert_eq!(count(server, "logs-diverted-default"), 2);
    let failures = || {
        ask(server, "POST", "/logs-diverted-default::failures/_refresh", &Value::Null);
        ask(server, "GET", "/logs-diverted-default::failures/_search", &Value::Null)["hits"]["hits"].as_array().unwrap().clone()
    };
    let kept = failures();
    assert_eq!(kept.len(), 1, "{kept:?}");
    let source = &kept[0]["_source"];
    assert!(source["document"]["source"]["n"]["a"] == 1 && source["error"]["type"] == "document_parsing_exception", "{source}");
    // There the store gives the ids: what is sent again after a lost answer is kept twice, as the sink's page says.
    front.set_faults(Faults::script([Fault::CloseAfter]));
    site.append("app.log", "{\"n\":{\"b\":1}}\n{\"n\":3}\n").unwrap();
    site.once().unwrap();
    assert_eq!((count(server, "logs-diverted-default"), failures().len()), (3, 3));
}

/// Then a lost answer has its records stored twice, and `validate` says so before.
fn the_store_gives_the_ids_where_it_is_asked_to(kind: Kind, server: &Server) {
    let front = Front::start(server.url()).unwrap();
    let site = file_site(kind, &front.url(), "index = \"named-by-the-store\"\nid = \"auto\"");
    let looked = skidder(&site, &["validate"]);
    assert!(format!("{}{looked}", String::from_utf8_lossy(&looked.stdout)).contains("stored at least once"), "{looked}");
    site.append("app.log", "{\"n\":1}\n{\"n\":2}\n").unwrap();
    site.once().unwrap();
    assert_eq!(count(server, "named-by-the-store"), 2);
    // Not each request is one that stores.
    front.set_faults(Faults { by_chance: vec![(500, Fault::CloseAfter)], ..Faults::default() });
    let mut records = 2;
    while count(server, "named-by-the-store") == records && records < 30 {
        site.append("app.log", "{\"n\":3}\n").unwrap();
        site.once().unwrap();
        records += 1;
    }
    let there = count(server, "named-by-the-store");
    assert!(there > records, "{records} records, some are there twice: {there}");
}

/// Without a template the sink waits, and nothing is made in the place of the stream, whether the store can be told so or not.
fn no_index_is_made_where_a_stream_is_meant(kind: Kind, server: &Server) {
    let stream = "mode = \"data_stream\"\ndata_stream = { type = \"app\", dataset = \"no_template\" }";
    let site = file_site(kind, server.url(), stream);
    site.append("app.log", "{\"message\":\"waits\"}\n").unwrap();
    let ended = fails(&site).unwrap();
    assert!(ended.stderr.contains("index_not_found_exception"), "{ended}");
    assert_eq!(get(server.url(), "/app-no_template-default").unwrap().status, 404);
    init(server, &site, "no-template", Fields::Mapped);
    site.once().unwrap();
    assert_eq!(count(server, "app-no_template-default"), 1);
    assert!(get(server.url(), "/_cat/indices?h=index&expand_wildcards=all").unwrap().text().contains(".ds-app-no_template-default-"));
}

/// 429 by its own limit of memory, 413 by its own limit of a request, and 429 for some of the records by its queue.
fn a_busy_server_and_one_that_takes_little(kind: Kind, server: &mut Server) {
    let site = file_site(kind, server.url(), "index = \"pressed\"\ncompression = \"none\"\nbatch = { max_bytes = \"4MiB\" }");
    let text: String = (0..6000).map(|n| format!("{{\"n\":{n},\"message\":\"{}\"}}\n", "x".repeat(500))).collect();
    site.append("app.log", &text).unwrap();
    server.kill().unwrap();
    server.restart_with(&["indexing_pressure.memory.limit=1kb"]).unwrap();
    fails(&site).unwrap();
    assert!(site.letters().unwrap().is_empty());
    server.kill().unwrap();
    server.restart_with(&["http.max_content_length=1mb", "thread_pool.write.size=1", "thread_pool.write.queue_size=1"]).unwrap();
    site.once().unwrap();
    assert!(site.letters().unwrap().is_empty());
    assert_eq!(count(server, "pressed"), 6000);

    // Each request is work for eight shards, of which one works and one may wait.
    ask(server, "PUT", "/crowded", &json!({ "settings": { "number_of_replicas": 0, "number_of_shards": 8 } }));
    let site = file_site(kind, server.url(), "index = \"crowded\"\nbatch = { max_bytes = \"256KiB\" }");
    site.append("app.log", text).unwrap();
    site.once().unwrap();
    assert!(site.letters().unwrap().is_empty());
    assert_eq!(count(server, "crowded"), 6000);
    let nodes = ask(server, "GET", "/_nodes/stats/thread_pool", &Value::Null)["nodes"].clone();
    let rejected: u64 = nodes.as_object().unwrap().values().filter_map(|node| node["thread_pool"]["write"]["rejected"].as_u64()).sum();
    let tried = ask(server, "GET", "/crowded/_stats/indexing", &Value::Null)["_all"]["primaries"]["indexing"].clone();
    assert!(rejected > 0, "the queue was never full");
    // What had room was not sent again: it would have been a conflict.
    assert_eq!((tried["index_total"].as_u64(), tried["index_failed"].as_u64()), (Some(6000), Some(0)), "{rejected} rejected, {tried}");
    eprintln!("{kind:?}: {rejected} times no room in the queue");
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

/// Elasticsearch's own security is not published where the others are from; OpenSearch's plugin asks for the same.
#[test]
fn a_store_with_users_takes_what_they_may_store() {
    let server = Server::start_with(Kind::OpenSearch2, &["secure"]).unwrap();
    // The user `admin` with the password `admin`.
    let admin = ("authorization", "Basic YWRtaW46YWRtaW4=");
    let ask = |method: &str, target: &str, body: &Value| {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let answer = request(method, server.url(), target, &[("content-type", "application/json"), admin], text.as_bytes()).unwrap();
        assert!((200..300).contains(&answer.status), "{method} {target}: {} {}", answer.status, answer.text());
        answer.json()
    };
    let api = "/_plugins/_security/api";
    ask("PUT", &format!("{api}/internalusers/shipper"), &json!({ "password": "Right-Pa55word" }));
    let bulk = ["create_index", "indices:data/write/bulk*", "indices:data/write/index", "indices:admin/mapping/put"];
    let role = |indices: &[&str]| {
        let rights = json!([{ "index_patterns": indices, "allowed_actions": bulk }]);
        ask(
            "PUT",
            &format!("{api}/roles/ship"),
            &json!({ "cluster_permissions": ["indices:data/write/bulk"], "index_permissions": rights }),
        );
    };
    role(&["allowed"]);
    ask("PUT", &format!("{api}/rolesmapping/ship"), &json!({ "users": ["shipper"] }));
    let stored = |index: &str| {
        let _ = request("POST", server.url(), &format!("/{index}/_refresh"), &[admin], b"");
        request("GET", server.url(), &format!("/{index}/_count"), &[admin], b"").unwrap().json()["count"].as_u64().unwrap_or(0)
    };
    let site = |index: &str| {
        let auth = "auth = { strategy = \"basic\", user = \"shipper\", password_file = \"password\" }";
        let site = file_site(Kind::OpenSearch2, server.url(), &format!("index = \"{index}\"\n{auth}"));
        site.append("app.log", "{\"message\":\"one\"}\n").unwrap();
        site
    };

    // The wrong password pauses the sink; when the file has the right one it goes on by itself.
    let wrong = site("allowed");
    std::fs::write(wrong.path("password"), "Wrong-Pa55word\n").unwrap();
    let looked = skidder(&wrong, &["validate"]);
    assert!(format!("{}{looked}", String::from_utf8_lossy(&looked.stdout)).contains("refuses the credentials (HTTP 401)"), "{looked}");
    let running = wrong.start().unwrap();
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(stored("allowed"), 0);
    std::fs::write(wrong.path("password"), "Right-Pa55word\n").unwrap();
    let arrived = until(|| (stored("allowed") == 1).then_some(()));
    let ended = running.kill().unwrap();
    assert!(arrived.is_some() && ended.stderr.contains("delivery is paused"), "{ended}");
    assert!(!ended.stderr.contains("Pa55word"), "{ended}");
    assert!(wrong.letters().unwrap().is_empty());

    // An index that this user may not write to: 403 for each record, and nothing is given up.
    let denied = site("denied");
    std::fs::write(denied.path("password"), "Right-Pa55word").unwrap();
    let ended = fails(&denied).unwrap();
    assert!(ended.stderr.contains("no record may be stored (security_exception)"), "{ended}");
    assert!(denied.letters().unwrap().is_empty());
    role(&["allowed", "denied"]);
    denied.once().unwrap();
    assert_eq!(stored("denied"), 1);
}
