//! An OpenTelemetry Collector, the real one, by HTTP and gRPC: what is read arrives whole, field by field; with agent and server
//! killed again and again nothing is lost, and what came twice is counted; and each answer has its documented outcome.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Map, Value};
use skidder_tests::agent::{self, Agent};
use skidder_tests::chance::{self, Chance};
use skidder_tests::front::Front;
use skidder_tests::mixed::Mixed;
use skidder_tests::real::{self, Account, Differences, Torment, pods_site};
use skidder_tests::servers::{Kind, Server};
use skidder_tests::site::Site;
use skidder_tests::store::Fault;
use skidder_tests::workspace;

/// 2026-11-24T06:00:00Z.
const BEGIN: i64 = 1_795_500_000_000_000_000;
const RECORDS: u64 = 200_000;

/// A site that ships what pods write to the collector, with more lines for the sink.
fn site(endpoint: &str, more: &str) -> Site {
    pods_site(&format!("type = \"otlp\"\nendpoint = \"{endpoint}\"\n{more}")).unwrap()
}

fn grpc(server: &Server) -> String {
    format!("http://{}", fs::read_to_string(server.directory().join("grpc")).unwrap().trim())
}

/// Calls `each` with resource and record of all that the collector wrote: OTLP's JSON form.
fn read(server: &Server, mut each: impl FnMut(&Map<String, Value>, &Value)) {
    let text = fs::read(server.directory().join("out.jsonl")).unwrap_or_default();
    // A collector that was killed may leave half a line; what it had not written it had not answered either.
    for line in text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Value>(line).ok()) {
        for resource in line["resourceLogs"].as_array().into_iter().flatten() {
            let attributes = attributes(&resource["resource"]["attributes"]);
            for record in resource["scopeLogs"].as_array().into_iter().flatten().flat_map(|scope| scope["logRecords"].as_array().unwrap()) {
                each(&attributes, record);
            }
        }
    }
}

fn attributes(list: &Value) -> Map<String, Value> {
    list.as_array().into_iter().flatten().map(|pair| (pair["key"].as_str().unwrap().to_owned(), any(&pair["value"]))).collect()
}

/// An `AnyValue` as plain JSON, numbers as texts.
fn any(value: &Value) -> Value {
    let Some((kind, inside)) = value.as_object().and_then(|object| object.iter().next()) else { return Value::Null };
    match kind.as_str() {
        "intValue" => Value::from(format!("int {}", inside.as_str().map_or_else(|| inside.to_string(), str::to_owned))),
        "doubleValue" => Value::from(format!("double {:?}", inside.as_f64().unwrap().to_bits())),
        "kvlistValue" => attributes(&inside["values"]).into(),
        "arrayValue" => inside["values"].as_array().into_iter().flatten().map(any).collect(),
        _ => inside.clone(),
    }
}

/// What a JSON value is in the form of [`any`]: an integer where it fits, a double where that says the same, else the text.
fn expected(json: &str) -> Value {
    use serde_json::value::RawValue;
    match json.as_bytes()[0] {
        b'{' => {
            let members: BTreeMap<String, Box<RawValue>> = serde_json::from_str(json).unwrap();
            members.iter().map(|(key, value)| (key.clone(), expected(value.get()))).collect::<Map<_, _>>().into()
        }
        b'[' => serde_json::from_str::<Vec<Box<RawValue>>>(json).unwrap().iter().map(|value| expected(value.get())).collect(),
        b'-' | b'0'..=b'9' => {
            let is_integer = !json.contains(['.', 'e', 'E']) && json != "-0";
            match (json.parse::<i64>(), json.parse::<f64>()) {
                (Ok(integer), _) if is_integer => format!("int {integer}").into(),
                (_, Ok(double)) if double.is_finite() && (!is_integer || json == "-0") && json.len() < 25 => {
                    format!("double {:?}", double.to_bits()).into()
                }
                _ => json.into(),
            }
        }
        _ => serde_json::from_str(json).unwrap(),
    }
}

/// Compares each log record with the record that was read; how many came more than once.
fn check(server: &Server, mixed: &Mixed, records: u64) -> u64 {
    let mut account = Account::new(mixed, records);
    let mut ids = BTreeSet::new();
    read(server, |resource, record| {
        let nanos: i64 = record["timeUnixNano"].as_str().unwrap().parse().unwrap();
        account.enter(nanos, |seq, differences| compare(mixed, seq, resource, record, differences));
        ids.insert(attributes(&record["attributes"])["log.record.uid"].as_str().unwrap().to_owned());
    });
    let twice = account.close().unwrap();
    assert_eq!(ids.len() as u64, records, "each record has an id of its own, whenever it comes");
    twice
}

/// What of the log record is not as the record has it.
fn compare(mixed: &Mixed, seq: u64, resource: &Map<String, Value>, record: &Value, differences: &mut Differences<'_>) {
    let mut body = Value::Null;
    let (mut level, mut trace, mut span) = (Value::from(""), Value::from(""), Value::from(""));
    let mut rest = Map::new();
    for (name, json) in mixed.record(seq).fields() {
        let value = expected(&json);
        match name.as_str() {
            "message" => body = value,
            "level" => level = value,
            "trace_id" => trace = value,
            "span_id" => span = value,
            _ => drop(rest.insert(name, value)),
        }
    }
    if std::str::from_utf8(&mixed.record(seq).line).is_err() {
        rest.insert("invalid_utf8".to_owned(), true.into());
    }
    let number = real::severity(level.as_str().unwrap());
    let mut is = attributes(&record["attributes"]);
    is.remove("log.record.uid");
    differences.differ("log.iostream", &is.remove("log.iostream"), &Some(Mixed::stream(seq).into()));
    is.remove("log.file.path");
    let text = |key: &str| Value::from(record[key].as_str().unwrap_or_default());
    if body.is_null() {
        differences.differ("body", &any(&record["body"]), &rest.into());
        differences.differ("attributes", &is, &Map::new());
    } else {
        differences.differ("body", &any(&record["body"]), &body);
        differences.differ("attributes", &is, &rest);
    }
    differences.differ("severityText", &text("severityText"), &level);
    differences.differ("severityNumber", &record["severityNumber"].as_u64().unwrap_or(0), &number);
    differences.differ("traceId", &text("traceId"), &trace);
    differences.differ("spanId", &text("spanId"), &span);
    differences.differ("k8s.pod.name", &resource["k8s.pod.name"], &mixed.pod(seq).into());
    differences.differ("k8s.namespace.name", &resource["k8s.namespace.name"], &"shop".into());
    differences.differ("service.name", &resource["service.name"], &"web-7c9d6f5b8c".into());
}

#[test]
fn mixed_records_arrive_whole() {
    let seed = chance::seed();
    eprintln!("seed {seed}");
    for (protocol, compression) in [("http", "gzip"), ("grpc", "gzip"), ("http", "zstd"), ("grpc", "none")] {
        let server = Server::start(Kind::Collector).unwrap();
        let endpoint = if protocol == "grpc" { grpc(&server) } else { server.url().to_owned() };
        let mixed = Mixed::new(seed, 4, BEGIN);
        let records = if compression == "gzip" { RECORDS } else { RECORDS / 10 };
        let site = site(&endpoint, &format!("protocol = \"{protocol}\"\ncompression = \"{compression}\""));
        mixed.write(&site.path("pods"), 0, records).unwrap();
        let begin = Instant::now();
        site.once().unwrap();
        eprintln!("{records} records by {protocol}, {compression}, in {:?}", begin.elapsed());
        assert_eq!(check(&server, &mixed, records), 0);
    }
}

#[test]
fn nothing_is_lost_whatever_is_killed() {
    let seed = chance::seed();
    eprintln!("seed {seed}");
    for protocol in ["http", "grpc"] {
        let mut server = Server::start(Kind::Collector).unwrap();
        let front = Front::start(server.url()).unwrap();
        front.set_faults(real::faults(seed, &[(30, Fault::TooLarge)]));
        // The front speaks HTTP/1 alone: by gRPC it is kills, and the collector that is told to fail.
        let endpoint = if protocol == "grpc" { grpc(&server) } else { front.url() };
        let mixed = Mixed::new(seed, 4, BEGIN);
        let more = format!(
            "protocol = \"{protocol}\"\nbatch.max_bytes = \"512KiB\"\nbatch.linger_ms = 100\nrequest.retry_max_duration_secs = 1.0"
        );
        let site = site(&endpoint, &more);
        let torment = Torment { records: RECORDS, kills: 10, server_kills: vec![3, 7], pause: Duration::from_millis(800) };
        let fail_for_a_while = |server: &Server| {
            let file = server.directory().join("fail");
            fs::write(&file, "").unwrap();
            // Its file goes while the agent is at work.
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(700));
                fs::remove_file(file).unwrap();
            });
        };
        let ended = torment.ship(&mut server, &site, &mixed, &mut Chance::new(seed), fail_for_a_while).unwrap();
        let twice = check(&server, &mixed, RECORDS);
        eprintln!("{protocol}: the front: {:?}; {twice} of {RECORDS} records twice\n{}", front.seen(), ended.stderr);
    }
}

fn small(endpoint: &str, more: &str) -> Site {
    let site = site(endpoint, &format!("batch.linger_ms = 100\n{more}"));
    Mixed::new(1, 1, BEGIN).write(&site.path("pods"), 0, 100).unwrap();
    site
}

fn count(server: &Server) -> usize {
    let mut count = 0;
    read(server, |_, _| count += 1);
    count
}

#[test]
fn a_collector_that_fails_is_waited_for() {
    let server = Server::start(Kind::Collector).unwrap();
    for (protocol, endpoint) in [("http", server.url().to_owned()), ("grpc", grpc(&server))] {
        let before = count(&server);
        let fail = server.directory().join("fail");
        fs::write(&fail, "").unwrap();
        let site = small(&endpoint, &format!("protocol = \"{protocol}\"\nrequest.retry_max_duration_secs = 0.5"));
        let running = site.start().unwrap();
        std::thread::sleep(Duration::from_secs(3));
        assert_eq!(count(&server), before);
        let ended = running.kill().unwrap();
        let reason = if protocol == "http" { "HTTP 503" } else { "UNAVAILABLE" };
        assert!(ended.stderr.contains(reason), "{}", ended.stderr);
        fs::remove_file(&fail).unwrap();
        site.once().unwrap();
        assert_eq!(count(&server), before + 100);
    }
}

#[test]
fn what_is_too_large_for_grpc_is_split() {
    let server = Server::start(Kind::Collector).unwrap();
    // The receiver takes 4 MiB.
    let site = site(&grpc(&server), "protocol = \"grpc\"\nbatch.max_bytes = \"16MiB\"\ncompression = \"none\"");
    let mixed = Mixed::new(2, 4, BEGIN);
    mixed.write(&site.path("pods"), 0, 60_000).unwrap();
    site.once().unwrap();
    assert_eq!(check(&server, &mixed, 60_000), 0);
    let largest = fs::read(server.directory().join("out.jsonl")).unwrap().split(|byte| *byte == b'\n').count();
    assert!(largest > 4, "{largest} requests");
}

#[test]
fn a_wrong_protocol_or_path_pauses() {
    let server = Server::start(Kind::Collector).unwrap();
    for (endpoint, more, words) in [
        (server.url().to_owned(), "path = \"/v2/logs\"", "HTTP 404"),
        (server.url().to_owned(), "protocol = \"grpc\"", ""),
        (grpc(&server), "protocol = \"http\"", ""),
    ] {
        let site = small(&endpoint, more);
        let running = site.start().unwrap();
        std::thread::sleep(Duration::from_secs(4));
        let ended = running.kill().unwrap();
        eprintln!("{more}: {}", ended.stderr);
        assert!(ended.stderr.contains(words) && ended.stderr.contains("delivery is"), "{}", ended.stderr);
        assert!(site.read("state/dead-letters/store.ndjson").is_empty(), "nothing is given up for a wrong address");
    }
    assert_eq!(count(&server), 0);
}

#[test]
fn the_example_does_what_its_readme_says() {
    let server = Server::start(Kind::Collector).unwrap();
    let mut command = agent::command(workspace::root()).unwrap();
    command.args(["run", "--once", "-c", "examples/otlp/pipeline.toml"]).env("OTLP_URL", grpc(&server));
    Agent::spawn(command).unwrap().wait(agent::DEADLINE).unwrap().expect_success().unwrap();
    let mut pods = BTreeMap::new();
    read(&server, |resource, record| {
        assert_eq!(
            (resource["service.namespace"].as_str(), resource["deployment.environment.name"].as_str()),
            (Some("travel"), Some("demo"))
        );
        assert_eq!((record["severityText"].as_str().is_some(), record["traceId"].as_str().map(str::len)), (true, Some(32)));
        *pods.entry(resource["k8s.pod.name"].as_str().unwrap().to_owned()).or_insert(0) += 1;
    });
    assert_eq!(pods, BTreeMap::from([("places-0".to_owned(), 24), ("quests-0".to_owned(), 24)]));
}
