//! Kafka, the real server, read back by its own consumer: what is read arrives whole, field by field, in order; through a front that
//! cuts connections, with agent and broker killed again and again, nothing is lost and nothing there twice; and each error of the
//! broker has its documented outcome.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use skidder_tests::agent::{self, Agent, until};
use skidder_tests::chance::{self, Chance};
use skidder_tests::cutter::{Cuts, Cutter};
use skidder_tests::mixed::{Mixed, members, rfc3339};
use skidder_tests::servers::{Kind, Server};
use skidder_tests::site::Site;
use skidder_tests::workspace;

const RECORDS: u64 = 200_000;

fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap()
}

fn mixed(seed: u64) -> Mixed {
    let begin = now() - 600_000_000_000;
    eprintln!("seed {seed}, begin {begin}");
    Mixed::new(seed, 4, begin)
}

fn config(server: &str, topic: &str, more: &str) -> String {
    format!(
        r#"data_dir = "state"
[sources.pods]
type = "kubernetes_logs"
root = "pods"
[transforms.parse]
type = "json"
inputs = ["pods"]
[sinks.store]
type = "kafka"
inputs = ["parse"]
bootstrap_servers = ["{server}"]
topic = "{topic}"
request.retry_max_duration_secs = 1.0
{more}
"#
    )
}

/// Runs one of Kafka's own tools; what it wrote.
fn tool(class: &str, server: &str, arguments: &[&str]) -> Vec<u8> {
    let class = format!("org.apache.kafka.tools.{class}");
    let all = [&["tool", &class, "--bootstrap-server", server], arguments].concat();
    let output = Kind::Kafka.command(&all).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{class} {arguments:?}: {said}{}", String::from_utf8_lossy(&output.stdout));
    output.stdout
}

fn make_topic(server: &str, topic: &str, partitions: u32, settings: &[&str]) {
    let partitions = partitions.to_string();
    let mut arguments = vec!["--create", "--topic", topic, "--partitions", &partitions];
    settings.iter().for_each(|setting| arguments.extend(["--config", setting]));
    tool("TopicCommand", server, &arguments);
}

/// A record as Kafka's consumer gives it.
#[derive(Clone, Debug)]
struct Consumed {
    partition: u32,
    offset: u64,
    millis: i64,
    headers: BTreeMap<String, String>,
    key: String,
    value: String,
}

/// All that a topic holds.
fn consume(server: &str, topic: &str) -> Vec<Consumed> {
    let ends = String::from_utf8(tool("GetOffsetShell", server, &["--topic", topic])).unwrap();
    let count: u64 = ends.lines().filter_map(|line| line.rsplit_once(':')?.1.parse::<u64>().ok()).sum();
    if count == 0 {
        return Vec::new();
    }
    let (count, mut arguments) = (count.to_string(), vec!["--topic", topic, "--from-beginning", "--timeout-ms", "30000", "--max-messages"]);
    arguments.push(&count);
    for property in ["print.timestamp=true", "print.partition=true", "print.offset=true", "print.headers=true", "print.key=true"] {
        arguments.extend(["--formatter-property", property]);
    }
    // Now and then its group gives the consumer nothing for as long as it waits: then it is asked anew.
    let mut tries = (0..3).map(|_| String::from_utf8(tool("consumer.ConsoleConsumer", server, &arguments)).unwrap());
    let text = tries.find(|text| text.lines().count().to_string() == count).expect("the consumer stopped before the end three times");
    let record = |line: &str| {
        let parts: Vec<&str> = line.splitn(6, '\t').collect();
        let [time, partition, offset, headers, key, value] = parts[..] else { panic!("no record: {line}") };
        let number = |text: &str, name: &str| text.strip_prefix(name).unwrap().parse::<i64>().unwrap();
        Consumed {
            partition: number(partition, "Partition:") as u32,
            offset: number(offset, "Offset:") as u64,
            millis: number(time, "CreateTime:"),
            headers: headers.split(',').filter_map(|header| header.split_once(':')).map(|(a, b)| (a.to_owned(), b.to_owned())).collect(),
            key: key.to_owned(),
            value: value.to_owned(),
        }
    };
    let mut consumed: Vec<Consumed> = text.lines().map(record).collect();
    consumed.sort_by_key(|record| (record.partition, record.offset));
    consumed
}

/// Compares each record with the one that was read: all fields, none lost, those of a pod in their order. How many are there more
/// than once.
fn check(consumed: &[Consumed], mixed: &Mixed, records: u64) -> usize {
    let seqs: BTreeMap<String, u64> = (0..records).map(|seq| (rfc3339(mixed.record_nanos(seq)), seq)).collect();
    let mut seen = vec![0u8; records as usize];
    let mut ids: BTreeMap<u64, &str> = BTreeMap::new();
    let (mut wrong, mut last): (_, BTreeMap<&str, (u32, &str)>) = (BTreeMap::new(), BTreeMap::new());
    for record in consumed {
        let json: Vec<(String, String)> =
            members(record.value.as_bytes()).expect("an object").into_iter().map(|(name, value)| (name, value.get().to_owned())).collect();
        let time = json.iter().find(|(name, _)| name == "timestamp").map(|(_, value)| value.trim_matches('"')).unwrap_or_default();
        let Some(seq) = seqs.get(time).copied() else {
            wrong.insert("time", format!("no record has the time {time}"));
            continue;
        };
        seen[seq as usize] = seen[seq as usize].saturating_add(1);
        wrong.extend(differences(mixed, seq, record, &json));
        let id = record.headers["log.record.uid"].as_str();
        if *ids.entry(seq).or_insert(id) != id {
            wrong.insert("id", format!("record {seq} has two ids"));
        }
        // Ids of one file are in the order of its lines.
        let before = last.insert(&record.key, (record.partition, id));
        if before.is_some_and(|(partition, before)| partition != record.partition || (before > id && seen[seq as usize] == 1)) {
            wrong.insert("order", format!("record {seq} in partition {} comes after a later one: {before:?}, {id}", record.partition));
        }
    }
    let lost = seen.iter().filter(|count| **count == 0).count();
    assert!(
        lost == 0 && wrong.is_empty(),
        "{lost} lost (first {:?}); of each difference the last: {wrong:#?}",
        seen.iter().position(|count| *count == 0)
    );
    assert_eq!(ids.values().collect::<BTreeSet<_>>().len() as u64, records, "an id for each");
    seen.iter().filter(|count| **count > 1).count()
}

/// What of the record is not as it was read: which part, and how.
fn differences(mixed: &Mixed, seq: u64, is: &Consumed, json: &[(String, String)]) -> Vec<(&'static str, String)> {
    let was = mixed.record(seq);
    let uid = format!("00000000-0000-4000-8000-{:012}", seq % 4);
    let mut out = Vec::new();
    let mut differ = |what: &'static str, is: &str, was: &str| {
        if is != was {
            let short = |text: &str| text.chars().take(300).collect::<String>();
            out.push((what, format!("record {seq}: is {} and was {}", short(is), short(was))));
        }
    };
    differ("time", &is.millis.to_string(), &(was.nanos / 1_000_000).to_string());
    differ("key", &is.key, &uid);
    differ("content type", &is.headers["content-type"], "application/json");
    let member = |name: &str| json.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str()).unwrap_or_default();
    differ("stream", member("stream"), if seq.is_multiple_of(7) { "\"stderr\"" } else { "\"stdout\"" });
    let kubernetes: Value = serde_json::from_str(member("kubernetes")).unwrap_or_default();
    differ("pod", kubernetes["pod_name"].as_str().unwrap_or_default(), &mixed.pod(seq));
    differ("uid", kubernetes["pod_uid"].as_str().unwrap_or_default(), &uid);
    differ("namespace", kubernetes["pod_namespace"].as_str().unwrap_or_default(), "shop");
    // The record's own fields, each value as it was written, to the digit.
    let own: Vec<&(String, String)> =
        json.iter().filter(|(name, _)| !["source_type", "file", "kubernetes", "timestamp", "stream"].contains(&name.as_str())).collect();
    let mut fields = was.fields();
    fields.sort();
    let mut own: Vec<(String, String)> = own.into_iter().cloned().collect();
    own.sort();
    let text = |fields: &[(String, String)]| fields.iter().map(|(name, value)| format!("{name}={value} ")).collect::<String>();
    differ("fields", &text(&own), &text(&fields));
    out
}

#[test]
fn mixed_records_arrive_whole() {
    let server = Server::start_with(Kind::Kafka, &["num.partitions=3"]).unwrap();
    make_topic(server.url(), "logs", 5, &[]);
    let mixed = mixed(chance::seed());
    let site = Site::new(config(server.url(), "logs", "")).unwrap();
    mixed.write(&site.path("pods"), 0, RECORDS).unwrap();
    let begin = Instant::now();
    let ended = site.once().unwrap();
    eprintln!("{RECORDS} records in {:?}\n{}", begin.elapsed(), ended.stderr);
    let begin = Instant::now();
    let consumed = consume(server.url(), "logs");
    eprintln!("consumed in {:?}", begin.elapsed());
    assert_eq!(check(&consumed, &mixed, RECORDS), 0, "none twice");

    // The other ways to compress; a topic that is made by the broker, and by what a template says.
    for compression in ["gzip", "snappy", "lz4", "none"] {
        let more = format!("compression = \"{compression}\"\ncreate_topic = true\n");
        let site = Site::new(config(server.url(), &format!("{{{{ kubernetes.pod_namespace }}}}.{compression}"), &more)).unwrap();
        mixed.write(&site.path("pods"), 0, 5000).unwrap();
        site.once().unwrap();
        let consumed = consume(server.url(), &format!("shop.{compression}"));
        assert_eq!(check(&consumed, &mixed, 5000), 0, "{compression}");
    }
    keys_go_where_javas_producer_sends_them(&server);
    the_example_does_what_its_readme_says(&server);
}

fn keys_go_where_javas_producer_sends_them(server: &Server) {
    make_topic(server.url(), "keys", 7, &[]);
    let keys: Vec<String> = (0..40).map(|i| format!("key {i} ключ{}", "x".repeat(i))).collect();
    let lines: String = keys.iter().map(|key| format!("{key}|java\n")).collect();
    let site = Site::new(config(server.url(), "keys", "key = \"{{ key }}\"")).unwrap();
    site.append("java.txt", lines).unwrap();
    let input = fs::File::open(site.path("java.txt")).unwrap();
    let class = "org.apache.kafka.tools.ConsoleProducer";
    let properties = ["--reader-property", "parse.key=true", "--reader-property", "key.separator=|"];
    let all = [&["tool", class, "--bootstrap-server", server.url(), "--topic", "keys"], &properties[..]].concat();
    let output = Kind::Kafka.command(&all).stdin(input).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let ours: String = keys.iter().map(|key| format!("{} stdout F {{\"key\":\"{key}\"}}\n", rfc3339(now()))).collect();
    site.append("pods/shop_web_00000000-0000-4000-8000-000000000000/app/0.log", ours).unwrap();
    site.once().unwrap();
    let mut places: BTreeMap<String, (usize, BTreeSet<u32>)> = BTreeMap::new();
    for record in consume(server.url(), "keys") {
        let (count, partitions) = places.entry(record.key).or_default();
        *count += 1;
        partitions.insert(record.partition);
    }
    assert_eq!(places.len(), keys.len());
    assert!(places.values().all(|(count, partitions)| *count == 2 && partitions.len() == 1), "{places:?}");
    assert!(places.values().flat_map(|(_, partitions)| partitions).collect::<BTreeSet<_>>().len() > 4, "they are spread");
}

fn the_example_does_what_its_readme_says(server: &Server) {
    make_topic(server.url(), "example", 3, &[]);
    let mut command = agent::command(workspace::root()).unwrap();
    command.args(["run", "--once", "-c", "examples/kafka/pipeline.toml"]).env("KAFKA_SERVER", server.url());
    Agent::spawn(command).unwrap().wait(agent::DEADLINE).unwrap().expect_success().unwrap();
    let consumed = consume(server.url(), "example");
    assert_eq!(consumed.len(), 48);
    assert!(consumed.iter().all(|record| !record.value.contains("@example.com") && record.value.contains("\"env\":\"demo\"")));
}

const FAST: &str = "batch.linger_ms = 100\nrequest.timeout_secs = 10\n";

/// A broker behind a front that cuts connections: whoever asks it is told to come by the front.
fn behind(front: &Cutter, settings: &[&str]) -> Server {
    let advertised = format!("advertised.listeners=PLAINTEXT://{}", front.address());
    let server = Server::start_with(Kind::Kafka, &[&[advertised.as_str()], settings].concat()).unwrap();
    front.set_server(server.url());
    server
}

#[test]
fn nothing_is_lost_or_there_twice_whatever_is_killed() {
    let front = Cutter::start().unwrap();
    let mut server = behind(&front, &[]);
    make_topic(server.url(), "logs", 5, &[]);
    let seed = chance::seed();
    let mixed = mixed(seed);
    let site = Site::new(config(&front.address(), "logs", FAST)).unwrap();
    front.set_cuts(Cuts { request: 12, answer: 40, lost: 60, stall: (40, Duration::from_millis(400)), seed });
    let mut chance = Chance::new(seed);
    let (mut kills, mut written) = (0, 0);
    let mut running = site.start().unwrap();
    while written < RECORDS {
        let next = (written + RECORDS / 40).min(RECORDS);
        mixed.write(&site.path("pods"), written, next).unwrap();
        written = next;
        std::thread::sleep(Duration::from_millis(chance.below(500)));
        if chance.per_mille(500) {
            kills += 1;
            running.kill().unwrap();
            running = site.start().unwrap();
        }
        if written == RECORDS / 4 || written == RECORDS / 2 {
            server.kill().unwrap();
            std::thread::sleep(Duration::from_millis(300));
            server.restart().unwrap();
        }
    }
    running.kill().unwrap();
    let ended = site.once_with(&["--timeout", "100"]).unwrap().expect_success().unwrap();
    let seen = front.seen();
    front.set_cuts(Cuts::default());
    eprintln!("agent killed {kills} times, broker twice; the front: {seen:?}\n{}", ended.stderr);
    assert!(kills > 5 && seen.answers_lost > 10 && seen.requests_cut > 0, "the front did little: {seen:?}");
    assert!(dead_letters(&site).is_empty());
    let twice = check(&consume(server.url(), "logs"), &mixed, RECORDS);
    eprintln!(
        "{twice} of {RECORDS} records twice, after {} lost answers, {kills} kills of the agent and 2 of the broker",
        seen.answers_lost
    );
    assert_eq!(twice, 0);
}

fn dead_letters(site: &Site) -> Vec<Value> {
    let text = site.read("state/dead-letters/store.ndjson");
    String::from_utf8(text).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A pod's log of these times and texts.
fn log(site: &Site, lines: &[(i64, &str)]) {
    let text: String = lines.iter().map(|(nanos, text)| format!("{} stdout F {text}\n", rfc3339(*nanos))).collect();
    site.append("pods/shop_web_00000000-0000-4000-8000-000000000000/app/0.log", text).unwrap();
}

fn validate(site: &Site) -> (bool, String) {
    let ended = Agent::run(site.root(), &["validate", "-c", "pipeline.toml"]).unwrap();
    (ended.code() == Some(0), format!("{}{}", String::from_utf8_lossy(&ended.stdout), ended.stderr))
}

#[test]
fn what_the_broker_refuses_becomes_dead_letters_and_the_rest_is_stored() {
    let server = Server::start_with(Kind::Kafka, &["auto.create.topics.enable=false"]).unwrap();
    let now = now();

    // Too large for the topic: halved until it fits; what is too large alone becomes a dead letter.
    make_topic(server.url(), "small", 1, &["max.message.bytes=2000"]);
    let site = Site::new(config(server.url(), "small", "compression = \"none\"")).unwrap();
    let large = "large ".repeat(500);
    let lines: Vec<String> = (0..50).map(|i| if i == 20 { large.clone() } else { format!("line {i}") }).collect();
    log(&site, &lines.iter().map(|line| (now, line.as_str())).collect::<Vec<_>>());
    assert_eq!(site.once_with(&[]).unwrap().code(), Some(1), "a record was rejected");
    let messages: Vec<Value> = consume(server.url(), "small").iter().map(|record| serde_json::from_str(&record.value).unwrap()).collect();
    let expected: Vec<&String> = lines.iter().filter(|line| **line != large).collect();
    assert_eq!(messages.iter().map(|record| record["message"].as_str().unwrap()).collect::<Vec<_>>(), expected, "in their order");
    let letters = dead_letters(&site);
    assert!(letters.len() == 1 && letters[0]["record"]["message"] == large && letters[0]["status"] == 413, "{letters:?}");
    let (fine, said) = validate(&site);
    assert!(fine && said.contains("takes batches of 2000 bytes"), "{said}");

    // Times beyond what the topic takes: the broker says which, and those alone are refused.
    make_topic(server.url(), "timely", 1, &["message.timestamp.before.max.ms=3600000", "message.timestamp.after.max.ms=3600000"]);
    let site = Site::new(config(server.url(), "timely", "")).unwrap();
    let hours = 3600 * 1_000_000_000;
    log(&site, &[(now, "good"), (now - 2 * hours, "old"), (now, "good too"), (now + 2 * hours, "new")]);
    assert_eq!(site.once_with(&[]).unwrap().code(), Some(1), "records were rejected");
    assert_eq!(consume(server.url(), "timely").len(), 2);
    let letters = dead_letters(&site);
    assert_eq!(letters.iter().map(|letter| letter["record"]["message"].clone()).collect::<Vec<_>>(), ["old", "new"]);
    let is_said = |letter: &Value| letter["reason"].as_str().unwrap().starts_with("INVALID_TIMESTAMP (32)") && letter["status"] == 32;
    assert!(letters.iter().all(is_said), "{letters:?}");

    // A record without a key in a compacted topic.
    make_topic(server.url(), "compacted", 1, &["cleanup.policy=compact"]);
    let site = Site::new(config(server.url(), "compacted", "key = \"{{ user }}\"")).unwrap();
    log(&site, &[(now, "{\"user\":\"a\"}"), (now, "none")]);
    assert_eq!(site.once_with(&[]).unwrap().code(), Some(1), "a record was rejected");
    assert_eq!(consume(server.url(), "compacted").len(), 1);
    let letters = dead_letters(&site);
    assert!(letters.len() == 1 && letters[0]["reason"].as_str().unwrap().starts_with("INVALID_RECORD (87)"), "{letters:?}");
    assert!(validate(&site).1.contains("is compacted"));

    // A topic that is not there is an outage, and no loss.
    let site = Site::new(config(server.url(), "later", "")).unwrap();
    log(&site, &[(now, "patient")]);
    let (fine, said) = validate(&site);
    assert!(!fine && said.contains("the topic `later` does not exist"), "{said}");
    let ended = site.once_with(&["--timeout", "3"]).unwrap();
    assert!(ended.code() != Some(0) && ended.stderr.contains("the topic `later` does not exist: make it"), "{ended}");
    make_topic(server.url(), "later", 1, &[]);
    site.once().unwrap();
    assert_eq!(consume(server.url(), "later").len(), 1);
    assert!(dead_letters(&site).is_empty());
}

#[test]
fn who_we_are_is_shown_by_sasl_or_by_a_certificate() {
    let server = Server::start_with(Kind::Kafka, &["secure"]).unwrap();
    make_topic(server.url(), "logs", 1, &[]);
    let at = |name: &str| server.directory().join(name).display().to_string();
    let url = |name: &str| fs::read_to_string(server.directory().join(name)).unwrap().trim().to_owned();
    let (sasl, tls) = (url("sasl_url"), url("tls_url"));
    let trust = format!("tls.ca_file = \"{}\"\n", at("ca.pem"));
    let user = |mechanism: &str, user: &str, password: &str| {
        format!("{trust}sasl = {{ mechanism = \"{mechanism}\", user = \"{user}\", password = \"{password}\" }}\n")
    };
    let certificate = format!("{trust}tls.crt_file = \"{}\"\ntls.key_file = \"{}\"\n", at("client.pem"), at("client.key"));
    let ways = [
        (&sasl, user("plain", "alice", "secret")),
        (&sasl, user("scram-sha-256", "alice", "secret")),
        (&sasl, user("scram-sha-512", "alice", "secret")),
        (&tls, certificate.clone()),
        (&tls, format!("{}tls.verify_certificate = false\n", certificate.replace(&trust, ""))),
    ];
    for (index, (server, more)) in ways.iter().enumerate() {
        let site = Site::new(config(server, "logs", more)).unwrap();
        log(&site, &[(now(), &format!("way {index}"))]);
        let (fine, said) = validate(&site);
        assert!(fine && said.contains("the topic `logs` is there"), "{more}: {said}");
        site.once().unwrap();
    }
    let stored = consume(server.url(), "logs");
    assert_eq!(stored.len(), ways.len());
    // What is turned away waits, and says why without a secret.
    let refused = [
        (&sasl, user("plain", "alice", "hunter2"), "SASL_AUTHENTICATION_FAILED"),
        (&sasl, user("scram-sha-512", "alice", "hunter2"), "SASL_AUTHENTICATION_FAILED"),
        (&sasl, user("plain", "bob", "secret"), "may not write to the topic"),
        (&sasl, trust.clone(), "does this listener want `sasl`?"),
        (&tls, trust.clone(), "connection"),
        (&sasl, "tls = {}\n".to_owned(), "no connection by TLS"),
    ];
    for (server, more, expected) in refused {
        let site = Site::new(config(server, "logs", &more)).unwrap();
        log(&site, &[(now(), "refused")]);
        let ended = site.once_with(&["--timeout", "2"]).unwrap();
        let (fine, said) = validate(&site);
        assert!(ended.code() != Some(0) && !fine, "{more}");
        assert!(format!("{ended}{said}").contains(expected), "{more}: {ended}\n{said}");
        assert!(!format!("{ended}{said}").contains("hunter2"));
        assert!(dead_letters(&site).is_empty());
    }
    assert_eq!(consume(server.url(), "logs").len(), ways.len());
    // What `init` prints is what Kafka's tools take.
    let printed = Agent::run(workspace::root(), &["init", "kafka"]).unwrap().expect_success().unwrap();
    let text = String::from_utf8(printed.stdout).unwrap().replace("\\\n", " ");
    let line =
        text.lines().find(|line| line.starts_with("kafka-topics.sh")).unwrap().replace("replication-factor 3", "replication-factor 1");
    let words: Vec<&str> = line.split_whitespace().skip(3).map(|word| if word == "logs" { "made" } else { word }).collect();
    tool("TopicCommand", server.url(), &words);
    assert!(until(|| String::from_utf8(tool("TopicCommand", server.url(), &["--list"])).unwrap().contains("made").then_some(())).is_some());
}
