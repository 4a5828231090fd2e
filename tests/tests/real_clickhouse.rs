//! ClickHouse, the real engine: what is read arrives whole, field by field; through a faulty front, with agent and server killed
//! again and again, nothing is lost and nothing there twice; and each error has its documented outcome.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use skidder_tests::agent::{self, Agent};
use skidder_tests::chance::{self, Chance};
use skidder_tests::client::post;
use skidder_tests::front::Front;
use skidder_tests::mixed::Mixed;
use skidder_tests::real::{self, Account, Differences, Torment, fails, pods_site};
use skidder_tests::servers::{Kind, Server};
use skidder_tests::site::Site;
use skidder_tests::store::{Fault, Faults};
use skidder_tests::workspace;

/// 2026-11-24T06:00:00Z.
const BEGIN: i64 = 1_795_500_000_000_000_000;
const RECORDS: u64 = 200_000;
/// The answer to a query that must succeed.
fn query(server: &Server, sql: &str) -> String {
    let answer = post(server.url(), "/", sql).unwrap();
    assert_eq!(answer.status, 200, "{sql}: {}", answer.text());
    answer.text()
}

/// A ClickHouse with the table that `skidder init clickhouse` prints.
fn start() -> Server {
    let server = Server::start(Kind::ClickHouse).unwrap();
    let site = Site::new("").unwrap();
    let printed = Agent::run(site.root(), &["init", "clickhouse"]).unwrap().expect_success().unwrap();
    query(&server, String::from_utf8(printed.stdout).unwrap().trim());
    server
}

/// The lines of a sink.
fn sink(url: &str, more: &str) -> String {
    format!("type = \"clickhouse\"\nendpoints = [\"{url}\"]\n{more}")
}

/// A row of the default table.
#[derive(Deserialize)]
struct Row {
    nanos: i64,
    #[serde(rename = "Body")]
    body: String,
    #[serde(rename = "SeverityText")]
    severity_text: String,
    #[serde(rename = "SeverityNumber")]
    severity_number: u8,
    #[serde(rename = "TraceId")]
    trace_id: String,
    #[serde(rename = "SpanId")]
    span_id: String,
    #[serde(rename = "ServiceName")]
    service_name: String,
    #[serde(rename = "LogAttributes")]
    log_attributes: BTreeMap<String, String>,
    #[serde(rename = "ResourceAttributes")]
    resource_attributes: BTreeMap<String, String>,
}

/// Compares each row with the record that was read: all fields, none lost, none twice. The rows come in pieces, so that no
/// answer is larger than need be.
fn check(server: &Server, mixed: &Mixed, records: u64) {
    let mut account = Account::new(mixed, records);
    let step = 20_000;
    for from in (0..records).step_by(step) {
        let (start, end) = (mixed.record_nanos(from), mixed.record_nanos((from + step as u64).min(records)));
        let sql = format!(
            "SELECT toUnixTimestamp64Nano(Timestamp) AS nanos, Body, SeverityText, SeverityNumber, TraceId, SpanId, ServiceName, LogAttributes, \
             ResourceAttributes FROM default.otel_logs WHERE nanos >= {start} AND nanos < {end} FORMAT JSONEachRow \
             SETTINGS output_format_json_quote_64bit_integers = 0"
        );
        for line in query(server, &sql).lines() {
            let row: Row = serde_json::from_str(line).unwrap();
            account.enter(row.nanos, |seq, differences| compare(mixed, seq, &row, differences));
        }
    }
    assert_eq!(account.close(), Ok(0), "none lost, changed or twice");
    assert_eq!(query(server, "SELECT count() FROM default.otel_logs").trim(), records.to_string());
}

/// What of the row is not as the record has it.
fn compare(mixed: &Mixed, seq: u64, row: &Row, differences: &mut Differences<'_>) {
    let mut expected: BTreeMap<String, String> = BTreeMap::new();
    let (mut body, mut level, mut trace, mut span) = Default::default();
    for (name, json) in mixed.record(seq).fields() {
        // Texts as they are, all else as it was written.
        let plain = serde_json::from_str::<String>(&json).unwrap_or(json);
        match name.as_str() {
            "message" => body = plain,
            "level" => level = plain,
            "trace_id" => trace = plain,
            "span_id" => span = plain,
            _ => drop(expected.insert(name, plain)),
        }
    }
    differences.differ("Body", &row.body, &body);
    differences.differ("SeverityText", &row.severity_text, &level);
    differences.differ("SeverityNumber", &u64::from(row.severity_number), &real::severity(&level));
    differences.differ("TraceId", &row.trace_id, &trace);
    differences.differ("SpanId", &row.span_id, &span);
    differences.differ("ServiceName", &*row.service_name, "web-7c9d6f5b8c");
    let mut attributes = row.log_attributes.clone();
    differences.differ("log.iostream", &attributes.remove("log.iostream"), &Some(Mixed::stream(seq).to_owned()));
    let file = attributes.remove("log.file.path").unwrap_or_default();
    differences.differ("log.file.path", &file.ends_with("/app/0.log"), &true);
    differences.differ("LogAttributes", &attributes, &expected);
    differences.differ("k8s.pod.name", &row.resource_attributes.get("k8s.pod.name"), &Some(&mixed.pod(seq)));
    differences.differ("k8s.namespace.name", &row.resource_attributes.get("k8s.namespace.name"), &Some(&"shop".to_owned()));
}

#[test]
fn mixed_records_arrive_whole() {
    let server = start();
    let mixed = Mixed::new(1, 4, BEGIN);
    let site = pods_site(&sink(server.url(), "")).unwrap();
    mixed.write(&site.path("pods"), 0, RECORDS).unwrap();
    let valid = Agent::run(site.root(), &["validate", "-c", "pipeline.toml"]).unwrap().expect_success().unwrap();
    let said = String::from_utf8_lossy(&valid.stdout).into_owned();
    assert!(said.contains("sink `store`: ClickHouse 26 has default.otel_logs"), "{said}");
    let ended = site.once().unwrap();
    eprintln!("{}", ended.stderr);
    check(&server, &mixed, RECORDS);
    // Typed columns, as any client would ask for them.
    let errors = query(&server, "SELECT count() FROM default.otel_logs WHERE SeverityNumber >= 17 AND ServiceName != ''");
    assert!(errors.trim().parse::<u64>().unwrap() > 10_000, "{errors}");
}

#[test]
fn each_compression_is_one_that_the_engine_takes() {
    let server = start();
    for compression in ["zstd", "gzip", "none"] {
        query(&server, "TRUNCATE TABLE otel_logs");
        let mixed = Mixed::new(3, 2, BEGIN);
        let site = pods_site(&sink(server.url(), &format!("compression = \"{compression}\""))).unwrap();
        mixed.write(&site.path("pods"), 0, 10_000).unwrap();
        site.once().unwrap();
        check(&server, &mixed, 10_000);
    }
}

#[test]
fn nothing_is_lost_and_nothing_there_twice_through_faults_and_kills() {
    let seed = chance::seed();
    eprintln!("seed {seed}: repeat with SKIDDER_SEED={seed}");
    let mut server = start();
    let front = Front::start(server.url()).unwrap();
    let mixed = Mixed::new(seed, 4, BEGIN);
    let more = "batch = { max_bytes = \"256KiB\", timeout_secs = 0.2 }\nrequest = { retry_initial_backoff_ms = 20, retry_max_duration_secs = 1 }\n";
    let site = pods_site(&sink(&front.url(), more)).unwrap();
    front.set_faults(real::faults(seed, &[(60, Fault::TruncatedAnswer)]));
    let torment = Torment { records: RECORDS, kills: 16, server_kills: vec![2, 7, 12], pause: Duration::from_millis(1500) };
    torment.ship(&mut server, &site, &mixed, &mut Chance::new(seed), |_| {}).unwrap();
    let seen = front.seen();
    assert!(seen.ambiguous > 5, "{seen:?}");
    eprintln!("{seen:?}");
    check(&server, &mixed, RECORDS);
}

/// A site that ships one file to the server, with more lines for the sink.
fn file_site(server: &Server, more: &str) -> Site {
    let retry = "request = { retry_initial_backoff_ms = 20, retry_max_duration_secs = 1 }";
    real::file_site(&sink(server.url(), &format!("{retry}\n{more}"))).unwrap()
}

#[test]
fn each_error_has_its_outcome() {
    let server = Server::start(Kind::ClickHouse).unwrap();
    a_table_that_is_missing_pauses(&server);
    one_record_that_breaks_a_rule_goes_alone(&server);
    too_many_parts_are_waited_for(&server);
    many_partitions_are_halved(&server);
    columns_that_change_under_frozen_frames(&server);
    values_that_do_not_fit_are_kept_in_the_rest(&server);
    a_value_that_the_server_alone_can_judge_goes_alone(&server);
    the_rest_goes_to_a_column_of_json_or_is_missed_aloud(&server);
    a_window_too_small_for_the_fleet_is_said(&server);
    a_materialized_view_gets_each_block_once(&server);
}

fn a_table_that_is_missing_pauses(server: &Server) {
    let site = file_site(server, "table = \"missing\"");
    site.append("app.log", "{\"message\":\"one\"}\n").unwrap();
    let look = Agent::run(site.root(), &["validate", "-c", "pipeline.toml"]).unwrap();
    assert_eq!(look.code(), Some(1), "{look}");
    assert!(format!("{}{look}", String::from_utf8_lossy(&look.stdout)).contains("default.missing does not exist"), "{look}");
    Agent::run(site.root(), &["validate", "--offline", "-c", "pipeline.toml"]).unwrap().expect_success().unwrap();
    let said = fails(&site).unwrap().stderr;
    assert!(said.contains("paused") && said.contains("code 60 (UNKNOWN_TABLE)"), "{said}");
    query(
        server,
        "CREATE TABLE missing (message String) ENGINE = MergeTree ORDER BY tuple() SETTINGS non_replicated_deduplication_window = 1000",
    );
    site.once().unwrap();
    assert_eq!(query(server, "SELECT message FROM missing").trim(), "one");
    assert!(site.letters().unwrap().is_empty());
}

fn one_record_that_breaks_a_rule_goes_alone(server: &Server) {
    query(
        server,
        "CREATE TABLE ruled (n UInt32, message String, CONSTRAINT c CHECK message != 'bad') ENGINE = MergeTree ORDER BY n \
         SETTINGS non_replicated_deduplication_window = 1000",
    );
    let site = file_site(server, "table = \"ruled\"");
    let text: String = (0..1000)
        .map(|n| format!("{{\"n\":{n},\"message\":\"{}\"}}\n", if [3, 500, 501, 999].contains(&n) { "bad" } else { "ok" }))
        .collect();
    site.append("app.log", text).unwrap();
    let ended = site.once_with(&[]).unwrap();
    assert_eq!(ended.code(), Some(1), "{ended}");
    assert_eq!(query(server, "SELECT count(), sum(n) FROM ruled").trim(), format!("996\t{}", 499_500 - 3 - 500 - 501 - 999));
    let letters = site.letters().unwrap();
    let mut rejected: Vec<u64> = letters.iter().filter_map(|letter| letter["record"]["n"].as_u64()).collect();
    rejected.sort_unstable();
    assert_eq!(rejected, [3, 500, 501, 999], "{letters:#?}");
    assert!(letters[0]["reason"].as_str().unwrap().contains("Constraint"), "{}", letters[0]);
}

fn too_many_parts_are_waited_for(server: &Server) {
    query(
        server,
        "CREATE TABLE parted (message String) ENGINE = MergeTree ORDER BY tuple() \
         SETTINGS non_replicated_deduplication_window = 1000, parts_to_throw_insert = 1, parts_to_delay_insert = 1, max_delay_to_insert = 1",
    );
    query(server, "SYSTEM STOP MERGES parted");
    for text in ["a", "b", "c"] {
        let _ = post(server.url(), "/", &format!("INSERT INTO parted VALUES ('{text}')"));
    }
    let site = file_site(server, "table = \"parted\"");
    site.append("app.log", "{\"message\":\"late\"}\n").unwrap();
    fails(&site).unwrap();
    assert!(site.letters().unwrap().is_empty());
    query(server, "ALTER TABLE parted MODIFY SETTING parts_to_throw_insert = 3000, parts_to_delay_insert = 3000");
    site.once().unwrap();
    assert_eq!(query(server, "SELECT count() FROM parted WHERE message = 'late'").trim(), "1");
}

fn many_partitions_are_halved(server: &Server) {
    query(
        server,
        "CREATE TABLE daily (timestamp DateTime64(3), message String) ENGINE = MergeTree PARTITION BY toDate(timestamp) ORDER BY timestamp \
         SETTINGS non_replicated_deduplication_window = 1000",
    );
    let site = file_site(server, "table = \"daily\"\ntime_field = \"at\"");
    let text: String = (0..300).map(|n| format!("{{\"at\":{},\"message\":\"{n}\"}}\n", 1_700_000_000 + n * 86_400)).collect();
    site.append("app.log", text).unwrap();
    site.once().unwrap();
    assert_eq!(query(server, "SELECT count(), uniqExact(toDate(timestamp)) FROM daily").trim(), "300\t300");
}

fn columns_that_change_under_frozen_frames(server: &Server) {
    query(
        server,
        "CREATE TABLE changing (n UInt32, gone String, level String, attributes Map(LowCardinality(String), String)) ENGINE = MergeTree \
         ORDER BY n SETTINGS non_replicated_deduplication_window = 1000",
    );
    let front = Front::start(server.url()).unwrap();
    let site = file_site(server, "table = \"changing\"");
    let config = String::from_utf8(site.read("pipeline.toml")).unwrap().replace(server.url(), &front.url());
    std::fs::write(site.path("pipeline.toml"), config).unwrap();
    // The first run learns the columns and keeps them; in the second nothing gets through, so frames of rows wait.
    site.append("app.log", "{\"n\":0,\"gone\":\"g0\",\"level\":\"info\",\"x\":[1]}\n").unwrap();
    site.once().unwrap();
    front.set_faults(Faults { by_chance: vec![(1000, Fault::Unavailable)], ..Faults::default() });
    site.append("app.log", "{\"n\":1,\"gone\":\"g1\",\"level\":\"warn\",\"x\":{\"y\":1}}\n{\"n\":2,\"level\":null}\n").unwrap();
    fails(&site).unwrap();
    query(server, "ALTER TABLE changing MODIFY COLUMN level LowCardinality(Nullable(String))");
    query(server, "ALTER TABLE changing DROP COLUMN gone");
    query(server, "ALTER TABLE changing MODIFY COLUMN attributes Map(String, String)");
    query(server, "ALTER TABLE changing ADD COLUMN new UInt64 FIRST");
    front.set_faults(Faults::default());
    site.append("app.log", "{\"n\":3,\"gone\":\"g3\",\"level\":\"error\",\"new\":18446744073709551615}\n").unwrap();
    site.once().unwrap();
    // That run began with the columns that it knew; the next knows the new one.
    site.append("app.log", "{\"n\":4,\"level\":\"error\",\"new\":18446744073709551615}\n").unwrap();
    site.once().unwrap();
    let rows = query(server, "SELECT n, new, level, attributes['gone'], attributes['x'], attributes['new'] FROM changing ORDER BY n");
    let expected = [
        "0\t0\tinfo\t\t[1]\t",
        "1\t0\twarn\tg1\t{\"y\":1}\t",
        "2\t0\t\t\t\t",
        "3\t0\terror\tg3\t\t18446744073709551615",
        "4\t18446744073709551615\terror\t\t\t",
    ];
    assert_eq!(rows.lines().collect::<Vec<_>>(), expected);
    assert!(site.letters().unwrap().is_empty());
}

fn values_that_do_not_fit_are_kept_in_the_rest(server: &Server) {
    query(
        server,
        "CREATE TABLE typed (timestamp DateTime64(6), n UInt8, maybe Nullable(Int16), ratio Float64, ok Bool, day Date, at DateTime, id UUID, \
         ip IPv4, ip6 IPv6, kind Enum8('a' = 1, 'b' = 2), list Array(Int32), tags Map(String, UInt8), code FixedString(4), price Decimal(9, 2), \
         attributes Map(String, String)) ENGINE = MergeTree ORDER BY n SETTINGS non_replicated_deduplication_window = 1000",
    );
    // A Decimal makes all of it travel as JSON; without, as rows. The outcome is the same.
    for decimal in [true, false] {
        if !decimal {
            query(server, "TRUNCATE TABLE typed");
            query(server, "ALTER TABLE typed DROP COLUMN price");
        }
        let site = file_site(server, "table = \"typed\"");
        let fits = r#"{"n":1,"maybe":-7,"ratio":0.5,"ok":true,"day":"2026-11-24","at":"2026-11-24T10:00:00Z","id":"61f0c404-5cb3-11e7-907b-a6006ad3dba0","ip":"10.0.0.1","ip6":"::1","kind":"b","list":[1,-2],"tags":{"x":3},"code":"ab"}"#;
        let not = r#"{"n":300,"maybe":"x","ratio":1e400,"ok":"yes","day":"soon","at":1,"id":"no","ip":"::1","ip6":"x","kind":"c","list":[1,"x"],"tags":{"x":-3},"code":"abcde"}"#;
        site.append("app.log", format!("{fits}\n{not}\n")).unwrap();
        site.once().unwrap();
        let row = |n: u8| {
            let columns = "n, maybe, ratio, ok, day, at, id, ip, ip6, kind, list, tags, code";
            query(server, &format!("SELECT {columns} FROM typed WHERE n = {n} FORMAT JSONCompactEachRow SETTINGS session_timezone = 'UTC'"))
        };
        assert_eq!(
            row(1).trim(),
            r#"[1, -7, 0.5, true, "2026-11-24", "2026-11-24 10:00:00", "61f0c404-5cb3-11e7-907b-a6006ad3dba0", "10.0.0.1", "::1", "b", [1,-2], {"x":3}, "ab\u0000\u0000"]"#,
            "decimal: {decimal}"
        );
        let kept = query(server, "SELECT mapKeys(attributes) FROM typed WHERE n = 0 FORMAT JSONCompactEachRow");
        for column in ["n", "maybe", "ratio", "ok", "day", "at", "id", "ip", "ip6", "kind", "list", "tags", "code"] {
            assert!(kept.contains(&format!("\"{column}\"")), "{column} is not in {kept}");
        }
        assert_eq!(query(server, "SELECT attributes['ratio'], attributes['list'] FROM typed WHERE n = 0").trim(), "1e400\t[1,\"x\"]");
    }
}

/// A column whose type is written as JSON, so that the server is the first to see what does not fit.
fn a_value_that_the_server_alone_can_judge_goes_alone(server: &Server) {
    query(
        server,
        "CREATE TABLE priced (n UInt32, price Decimal(9, 2)) ENGINE = MergeTree ORDER BY n SETTINGS non_replicated_deduplication_window = 1000",
    );
    let site = file_site(server, "table = \"priced\"");
    let text: String = (0..300).map(|n| format!("{{\"n\":{n},\"price\":{}}}\n", if n == 150 { "\"dear\"" } else { "12.5" })).collect();
    site.append("app.log", text).unwrap();
    assert_eq!(site.once_with(&[]).unwrap().code(), Some(1));
    assert_eq!(query(server, "SELECT count(), sum(price) FROM priced").trim(), "299\t3737.5");
    let letters = site.letters().unwrap();
    assert!(letters.len() == 1 && letters[0]["record"]["n"] == 150, "{letters:?}");
}

fn the_rest_goes_to_a_column_of_json_or_is_missed_aloud(server: &Server) {
    let line = "{\"message\":\"m\",\"x\":{\"y\":7},\"a.b\":\"c\"}\n";
    query(
        server,
        "CREATE TABLE rest (message String, attributes JSON) ENGINE = MergeTree ORDER BY tuple() \
         SETTINGS non_replicated_deduplication_window = 1000",
    );
    let site = file_site(server, "table = \"rest\"");
    site.append("app.log", line).unwrap();
    site.once().unwrap();
    assert_eq!(query(server, "SELECT message, attributes.x.y, attributes.a.b FROM rest").trim(), "m\t7\tc");
    query(
        server,
        "CREATE TABLE no_rest (message String) ENGINE = MergeTree ORDER BY tuple() SETTINGS non_replicated_deduplication_window = 1000",
    );
    let site = file_site(server, "table = \"no_rest\"");
    let valid = Agent::run(site.root(), &["validate", "-c", "pipeline.toml"]).unwrap().expect_success().unwrap();
    assert!(format!("{}{valid}", String::from_utf8_lossy(&valid.stdout)).contains("no column"), "{valid}");
    site.append("app.log", line).unwrap();
    let ended = site.once().unwrap();
    assert!(ended.stderr.contains("fields have no column and are not stored"), "{ended}");
}

fn a_window_too_small_for_the_fleet_is_said(server: &Server) {
    query(
        server,
        "CREATE TABLE small (message String) ENGINE = MergeTree ORDER BY tuple() SETTINGS non_replicated_deduplication_window = 100",
    );
    let site = file_site(server, "table = \"small\"\nnodes = 4\nbatch.timeout_secs = 1");
    site.append("app.log", "{\"message\":\"m\"}\n").unwrap();
    // Four agents, an insert each a second, for ten minutes.
    let remedy = "ALTER TABLE default.small MODIFY SETTING non_replicated_deduplication_window = 2400";
    let said = |stored: &str| {
        let agent = site.start().unwrap();
        let arrived = agent::until(|| (query(server, "SELECT count() FROM small").trim() == stored).then_some(()));
        assert!(arrived.is_some(), "{stored} rows");
        // The look at the window is made beside the inserts, which do not wait for it.
        std::thread::sleep(Duration::from_secs(1));
        agent.kill().unwrap().stderr
    };
    let first = said("1");
    assert!(first.contains(remedy), "{first}");
    let valid = Agent::run(site.root(), &["validate", "-c", "pipeline.toml"]).unwrap();
    assert!(format!("{}{valid}", String::from_utf8_lossy(&valid.stdout)).contains(remedy), "{valid}");
    query(server, &remedy.replace("default.", ""));
    site.append("app.log", "{\"message\":\"m\"}\n").unwrap();
    let second = said("2");
    assert!(!second.contains("MODIFY SETTING"), "{second}");
}

/// An insert whose answer was lost is made again: the table refuses it, and so does the table behind its view.
fn a_materialized_view_gets_each_block_once(server: &Server) {
    let window = "SETTINGS non_replicated_deduplication_window = 1000";
    query(server, &format!("CREATE TABLE seen (message String) ENGINE = MergeTree ORDER BY tuple() {window}"));
    query(server, &format!("CREATE TABLE counted (hits UInt64) ENGINE = MergeTree ORDER BY tuple() {window}"));
    query(server, "CREATE MATERIALIZED VIEW counting TO counted AS SELECT count() AS hits FROM seen");
    let front = Front::start(server.url()).unwrap();
    let site = file_site(server, "table = \"seen\"");
    let config = String::from_utf8(site.read("pipeline.toml")).unwrap().replace(server.url(), &front.url());
    std::fs::write(site.path("pipeline.toml"), config).unwrap();
    front.set_faults(Faults { by_chance: vec![(500, Fault::CloseAfter)], seed: 5, ..Faults::default() });
    for round in 0..8 {
        site.append("app.log", format!("{{\"message\":\"{round}\"}}\n")).unwrap();
        site.once().unwrap();
    }
    assert!(front.seen().ambiguous > 3, "{:?}", front.seen());
    assert_eq!(query(server, "SELECT count(), (SELECT sum(hits) FROM counted) FROM seen").trim(), "8\t8");
}

#[test]
fn an_old_server_gets_what_it_understands() {
    let server = Server::start(Kind::ClickHouse18).unwrap();
    query(
        &server,
        "CREATE TABLE old (timestamp DateTime, n UInt32, message String, attributes String) ENGINE = MergeTree PARTITION BY toDate(timestamp) ORDER BY n",
    );
    let site = file_site(&server, "table = \"old\"\ncompression = \"gzip\"");
    let text: String = (0..5000).map(|n| format!("{{\"n\":{n},\"message\":\"тест {n}\",\"x\":{{\"y\":{n}}}}}\n")).collect();
    site.append("app.log", text).unwrap();
    let ended = site.once().unwrap();
    assert!(ended.stderr.contains("does not know insert_deduplication_token"), "{ended}");
    assert_eq!(query(&server, "SELECT count(), sum(n), any(message LIKE 'тест %') FROM old").trim(), "5000\t12497500\t1");
    assert_eq!(query(&server, "SELECT visitParamExtractRaw(attributes, 'x') FROM old WHERE n = 7").trim(), "{\"y\":7}");
}

/// The old server is the one with users of its own: the new engine runs in a process that has one.
#[test]
fn a_server_with_users_takes_what_they_may_store() {
    let server = Server::start(Kind::ClickHouse18).unwrap();
    query(&server, "CREATE TABLE guarded (n UInt32) ENGINE = MergeTree PARTITION BY n % 2 ORDER BY n");
    let site = |user: &str, password: &str| {
        let auth = format!("auth = {{ strategy = \"basic\", user = \"{user}\", password_file = \"password\" }}");
        let site = file_site(&server, &format!("table = \"guarded\"\ncompression = \"gzip\"\n{auth}"));
        std::fs::write(site.path("password"), password).unwrap();
        site.append("app.log", "{\"n\":1}\n").unwrap();
        site
    };
    for (user, password, code) in [
        ("shipper", "wrong", "code 193"),
        ("nobody", "right", "code 192"),
        ("reader", "right", "code 164"),
        ("stranger", "right", "code 60"),
    ] {
        let site = site(user, password);
        let ended = fails(&site).unwrap();
        assert!(ended.stderr.contains("paused") && ended.stderr.contains(code), "{user}: {ended}");
        assert!(site.letters().unwrap().is_empty());
    }
    assert_eq!(query(&server, "SELECT count() FROM guarded").trim(), "0");

    // When the file has the right password the sink goes on by itself.
    let site = site("shipper", "wrong");
    let running = site.start().unwrap();
    std::thread::sleep(Duration::from_secs(2));
    std::fs::write(site.path("password"), "right\n").unwrap();
    let arrived = agent::until(|| (query(&server, "SELECT count() FROM guarded").trim() == "1").then_some(()));
    let ended = running.kill().unwrap();
    assert!(arrived.is_some() && ended.stderr.contains("delivery is paused"), "{ended}");
    assert!(site.letters().unwrap().is_empty());
}

#[test]
fn the_example_does_what_its_readme_says() {
    let server = start();
    for round in ["first", "second"] {
        let mut command = agent::command(workspace::root()).unwrap();
        command.args(["run", "--once", "-c", "examples/clickhouse/pipeline.toml"]).env("CLICKHOUSE_URL", server.url());
        let ended = Agent::spawn(command).unwrap().wait(agent::DEADLINE).unwrap().expect_success().unwrap();
        let rows = query(&server, "SELECT count(), countIf(Body LIKE '%@example.com%'), uniqExact(ServiceName) FROM otel_logs");
        // Without a state each run is another sink to the table: its frames have other tokens.
        let expected = if round == "first" { "48\t0\t2" } else { "96\t0\t2" };
        assert_eq!(rows.trim(), expected, "{round}: {ended}");
    }
}
