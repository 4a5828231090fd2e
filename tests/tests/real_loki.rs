//! Loki, the real server: what is read arrives whole, field by field; through a faulty front, with agent and server killed again and
//! again, nothing is lost and nothing there twice; and each answer has its documented outcome.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use skidder_tests::agent::{self, Agent};
use skidder_tests::chance::{self, Chance};
use skidder_tests::client::{get, percent_encode, post, request};
use skidder_tests::front::Front;
use skidder_tests::mixed::{Mixed, rfc3339};
use skidder_tests::real::{self, Account, Differences, Torment, pods_site};
use skidder_tests::servers::{Kind, Server};
use skidder_tests::site::Site;
use skidder_tests::store::{Fault, Faults};
use skidder_tests::workspace;

const RECORDS: u64 = 200_000;

/// What the mixed records need: some of their lines are longer than Loki takes by default. And streams that Loki does not split
/// itself, as `skidder init loki` has it.
const SETTINGS: [&str; 2] = ["-distributor.max-line-size=1MB", "-shard-streams.enabled=false"];

fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap()
}

/// Mixed records from some minutes ago: Loki asks its ingesters for what is new alone.
fn mixed() -> Mixed {
    let seed = chance::seed();
    let begin = now() - 600_000_000_000;
    eprintln!("seed {seed}, begin {begin}");
    Mixed::new(seed, 4, begin)
}

/// A site that ships what pods write to Loki at `url`, with more lines for the sink.
fn site(url: &str, more: &str) -> Site {
    pods_site(&format!("type = \"loki\"\nendpoint = \"{url}\"\n{more}")).unwrap()
}

/// An entry as a query gives it.
#[derive(Clone, Debug)]
struct Entry {
    nanos: i64,
    line: String,
    labels: BTreeMap<String, String>,
    metadata: BTreeMap<String, String>,
}

/// What a query for lines gives of a time span, with the structured metadata apart from the labels.
fn query(server: &Server, logql: &str, from: i64, to: i64) -> Vec<Entry> {
    let target = format!("/loki/api/v1/query_range?query={}&start={from}&end={to}&limit=5000&direction=forward", percent_encode(logql));
    let answer = request("GET", server.url(), &target, &[("X-Loki-Response-Encoding-Flags", "categorize-labels")], b"").unwrap();
    assert_eq!(answer.status, 200, "{logql}: {}", answer.text());
    let texts = |value: &Value| -> BTreeMap<String, String> {
        let object = value.as_object().into_iter().flatten();
        object.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect()
    };
    let json = answer.json();
    let streams = json["data"]["result"].as_array().unwrap();
    let entries = streams.iter().flat_map(|stream| {
        let labels = texts(&stream["stream"]);
        stream["values"].as_array().unwrap().iter().map(move |value| Entry {
            nanos: value[0].as_str().unwrap().parse().unwrap(),
            line: value[1].as_str().unwrap().to_owned(),
            labels: labels.clone(),
            metadata: texts(&value[2]["structuredMetadata"]),
        })
    });
    let entries: Vec<Entry> = entries.collect();
    assert!(entries.len() < 5000, "a query was cut: ask for less at once");
    entries
}

/// Compares each entry with the record that was read: all fields, none lost. How many are there more than once.
fn check(server: &Server, mixed: &Mixed, records: u64) -> u64 {
    let mut account = Account::new(mixed, records);
    let step = 2000;
    for from in (0..records).step_by(step) {
        let (start, end) = (mixed.record_nanos(from), mixed.record_nanos((from + step as u64).min(records)));
        for entry in query(server, r#"{namespace="shop"}"#, start, end) {
            account.enter(entry.nanos, |seq, differences| compare(mixed, seq, &entry, differences));
        }
    }
    account.close().unwrap()
}

/// What of the entry is not as the record has it.
fn compare(mixed: &Mixed, seq: u64, entry: &Entry, differences: &mut Differences<'_>) {
    let record = mixed.record(seq);
    let mut metadata = BTreeMap::from([
        ("stream", Mixed::stream(seq).to_owned()),
        ("pod", mixed.pod(seq)),
        ("pod_uid", format!("00000000-0000-4000-8000-{:012}", seq % 4)),
        ("container_restart_count", "0".to_owned()),
    ]);
    let line = match &record.members {
        // As it was written, byte by byte.
        Some(members) => {
            for name in ["level", "trace_id", "span_id"] {
                let value = members.iter().find(|(key, _)| key == name).and_then(|(_, value)| serde_json::from_str(value.get()).ok());
                metadata.extend(value.map(|value| (name, value)));
            }
            String::from_utf8(record.line.clone()).unwrap()
        }
        None => {
            metadata.insert("not_json", "true".to_owned());
            if std::str::from_utf8(&record.line).is_err() {
                metadata.insert("invalid_utf8", "true".to_owned());
            }
            String::from_utf8_lossy(&record.line).into_owned()
        }
    };
    differences.differ("line", &entry.line, &line);
    let mut found = entry.metadata.clone();
    found.remove("detected_level");
    // Where a read goes on in the midst of a file, after a kill, the first record has its id.
    found.remove("log_record_uid");
    let metadata: BTreeMap<String, String> = metadata.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    differences.differ("metadata", &found, &metadata);
    let labels = [("container", "app"), ("namespace", "shop"), ("service_name", "web-7c9d6f5b8c")];
    differences.differ("labels", &entry.labels, &labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
}

#[test]
fn mixed_records_arrive_whole() {
    let server = Server::start_with(Kind::Loki, &SETTINGS).unwrap();
    let mixed = mixed();
    let site = site(server.url(), "max_line_bytes = \"1MiB\"");
    mixed.write(&site.path("pods"), 0, RECORDS).unwrap();
    let begin = Instant::now();
    let ended = site.once().unwrap();
    eprintln!("{RECORDS} records in {:?}\n{}", begin.elapsed(), ended.stderr);
    assert_eq!(check(&server, &mixed, RECORDS), 0, "none twice");
    // As any client would ask: by label and structured metadata.
    let span = (mixed.record(0).nanos, mixed.record(9999).nanos);
    let fatal = query(&server, r#"{service_name="web-7c9d6f5b8c"} | level="Fatal" | stream="stderr""#, span.0, span.1);
    assert!(fatal.len() > 10 && fatal.iter().all(|entry| entry.line.contains("Fatal") && entry.metadata["stream"] == "stderr"));
    let trace = &fatal[0].metadata["trace_id"];
    let of_trace = query(&server, &format!(r#"{{namespace="shop"}} | trace_id="{trace}""#), span.0, span.1);
    assert_eq!(of_trace.len(), 1);
}

#[test]
fn as_json_they_arrive_whole_too() {
    const FEW: u64 = 20_000;
    let server = Server::start_with(Kind::Loki, &SETTINGS).unwrap();
    let mixed = mixed();
    let site = site(server.url(), "max_line_bytes = \"1MiB\"\nencoding = \"json\"");
    mixed.write(&site.path("pods"), 0, FEW).unwrap();
    site.once().unwrap();
    assert_eq!(check(&server, &mixed, FEW), 0, "none twice");
}

const FAST: &str = "max_line_bytes = \"1MiB\"\nbatch.linger_ms = 100\nrequest.retry_max_duration_secs = 1.0\n";

/// Ships records through a faulty front while agent and server are killed; how often.
fn torment(server: &mut Server, front: &Front, mixed: &Mixed, records: u64, seed: u64) -> u64 {
    let site = site(&front.url(), FAST);
    let torment = Torment { records, kills: 10, server_kills: vec![3, 7], pause: Duration::from_millis(1000) };
    let ended = torment.ship(server, &site, mixed, &mut Chance::new(seed), |_| {}).unwrap();
    eprintln!("the front: {:?}\n{}", front.seen(), ended.stderr);
    assert!(front.seen().ambiguous > 0);
    assert!(dead_letters(&site).is_empty());
    torment.kills + 2
}

#[test]
fn nothing_is_lost_whatever_is_killed() {
    let mut server = Server::start_with(Kind::Loki, &SETTINGS).unwrap();
    let front = Front::start(server.url()).unwrap();
    let seed = chance::seed();
    front.set_faults(real::faults(seed, &[]));
    let mixed = mixed();
    let kills = torment(&mut server, &front, &mixed, RECORDS, seed);
    let twice = check(&server, &mixed, RECORDS);
    let lost_answers = front.seen().ambiguous;
    eprintln!("{twice} of {RECORDS} records twice, after {lost_answers} lost answers and {kills} kills");
    // What lay before the last cut of a block in each of these requests, which hold some two thousand records.
    assert!(twice <= (lost_answers + kills) * 2000, "{twice}");
}

/// As long as all of a stream is in its head block, everything that comes again is recognised.
#[test]
fn within_lokis_window_nothing_is_there_twice() {
    const FEW: u64 = 700;
    let mut server = Server::start_with(Kind::Loki, &SETTINGS).unwrap();
    let front = Front::start(server.url()).unwrap();
    let seed = chance::seed();
    front.set_faults(real::faults(seed, &[(440, Fault::CloseAfter)]));
    let mixed = mixed();
    torment(&mut server, &front, &mixed, FEW, seed);
    assert_eq!(check(&server, &mixed, FEW), 0);
}

/// How many lines have come to Loki, stored or not.
fn received(server: &Server) -> u64 {
    let text = get(server.url(), "/metrics").unwrap().text();
    let lines = text.lines().filter(|line| line.starts_with("loki_distributor_lines_received_total{"));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() as u64
}

/// What is sent again after a lost answer is stored twice only so far as a block of the stream was cut within it.
#[test]
fn most_of_what_is_sent_again_is_recognised() {
    const MANY: u64 = 40_000;
    let server = Server::start_with(Kind::Loki, &SETTINGS).unwrap();
    let front = Front::start(server.url()).unwrap();
    let seed = chance::seed();
    front.set_faults(Faults { by_chance: vec![(300, Fault::CloseAfter)], seed, ..Faults::default() });
    let mixed = mixed();
    let site = site(&front.url(), "max_line_bytes = \"1MiB\"\nrequest.retry_max_duration_secs = 1.0");
    mixed.write(&site.path("pods"), 0, MANY).unwrap();
    site.once().unwrap();
    // Queries for lines show a line of one time once, however often it is stored; those that count count all.
    let stored = query_vector(&server, r#"sum(count_over_time({namespace="shop"}[1h]))"#);
    let twice = stored[0] as u64 - MANY;
    let again = received(&server) - MANY;
    eprintln!("{twice} of {again} lines that were sent again are there twice, {:?}", front.seen());
    assert!(again > MANY / 20, "too little was sent again: {again}");
    assert!(twice * 4 < again, "{twice} of {again}");
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

/// Ships once, and gives what Loki has in the end and the reasons and lines of the dead letters.
fn outcome(server: &Server, site: &Site, from: i64) -> (Vec<String>, Vec<(String, String)>) {
    assert_eq!(site.once_with(&[]).unwrap().code(), Some(1), "records were rejected");
    let stored = query(server, r#"{namespace="shop"}"#, from, now() + 3_600_000_000_000);
    let letter = |letter: &Value| {
        assert_eq!(letter["status"], 400);
        (letter["reason"].as_str().unwrap().to_owned(), letter["record"]["line"].as_str().unwrap().to_owned())
    };
    (stored.into_iter().map(|entry| entry.line).collect(), dead_letters(site).iter().map(letter).collect())
}

const SECOND: i64 = 1_000_000_000;

#[test]
fn what_loki_turns_away_becomes_dead_letters_and_the_rest_is_stored() {
    let now = now();
    // Too old, too new, too long a line: one request, one answer with all three.
    let server = Server::start_with(
        Kind::Loki,
        &["-validation.reject-old-samples=true", "-validation.reject-old-samples.max-age=2h", "-distributor.max-line-size=100B"],
    )
    .unwrap();
    let site = site(server.url(), "");
    let long = "long ".repeat(30);
    log(
        &site,
        &[
            (now - 3 * 3600 * SECOND, "old"),
            (now - 10 * SECOND, "good"),
            (now - 9 * SECOND, &long),
            (now + 1800 * SECOND, "new"),
            (now - 8 * SECOND, "good too"),
        ],
    );
    let (stored, letters) = outcome(&server, &site, now - 7200 * SECOND);
    assert_eq!(stored, ["good", "good too"]);
    let said = |line: &str| letters.iter().find(|(_, of)| of == line).map(|(reason, _)| reason.as_str()).unwrap_or_default();
    assert!(said("old").contains("has timestamp too old"), "{letters:?}");
    assert!(said("new").contains("has timestamp too new"), "{letters:?}");
    assert!(said(&long).contains("max entry size"), "{letters:?}");
    assert_eq!(letters.len(), 3);
}

#[test]
fn what_is_too_far_behind_its_stream_becomes_dead_letters_or_gets_a_time_that_loki_takes() {
    let now = now();
    let server = Server::start(Kind::Loki).unwrap();
    let behind: Vec<String> = (0..25).map(|i| format!("behind {i}")).collect();
    let mut lines = vec![(now - 20 * SECOND, "first")];
    lines.extend(behind.iter().zip(0..).map(|(text, i)| (now - (2 * 3600 - i) * SECOND, text.as_str())));
    lines.push((now - 10 * SECOND, "last"));
    let refused = site(server.url(), "labels.namespace = \"shop\"");
    log(&refused, &lines);
    let (stored, letters) = outcome(&server, &refused, now - 10_000 * SECOND);
    assert_eq!(stored, ["first", "last"]);
    assert_eq!(letters.iter().map(|(_, line)| line.clone()).collect::<Vec<_>>(), behind, "all 25, of which Loki lists ten");
    assert!(letters[0].0.contains("entry too far behind"), "{letters:?}");

    let more = "labels.namespace = \"shop\"\nlabels.run = \"2\"\non_too_old = \"rewrite_timestamp\"";
    let site = site(server.url(), more);
    log(&site, &lines);
    site.once().unwrap();
    let stored = query(&server, r#"{run="2"}"#, now - 10_000 * SECOND, now);
    assert_eq!(stored.len(), 27);
    let oldest = stored.iter().map(|entry| entry.nanos).min().unwrap();
    assert!(oldest >= now - 3600 * SECOND && stored.iter().filter(|entry| entry.metadata.contains_key("original_timestamp")).count() == 25);
    assert!(dead_letters(&site).is_empty());
}

/// Why a request holds one stream: were this not so, several could share one.
#[test]
fn loki_hides_what_became_of_all_streams_of_a_request_but_the_last() {
    let server = Server::start(Kind::Loki).unwrap();
    let now = now();
    let push = |streams: &[(&str, i64, &str)]| {
        let stream =
            |(app, nanos, line): &(&str, i64, &str)| serde_json::json!({"stream": {"app": app}, "values": [[nanos.to_string(), line]]});
        let body = serde_json::json!({"streams": streams.iter().map(stream).collect::<Vec<_>>()});
        post(server.url(), "/loki/api/v1/push", &body.to_string()).unwrap().status
    };
    assert_eq!(push(&[("a", now, "newest")]), 204);
    let behind = ("a", now - 7200 * SECOND, "lost");
    assert_eq!(push(&[behind]), 400);
    assert_eq!(push(&[("b", now, "other"), behind]), 400);
    assert_eq!(push(&[behind, ("b", now, "other")]), 204, "the success of the last stream hides that the first was thrown away");
    assert_eq!(query(&server, r#"{app="a"}"#, now - 10_000 * SECOND, now + 1).len(), 1);
}

#[test]
fn true_repeats_are_stored_and_what_is_sent_again_is_not() {
    let server = Server::start(Kind::Loki).unwrap();
    let front = Front::start(server.url()).unwrap();
    front.set_faults(Faults::script([Fault::CloseAfter, Fault::CloseAfter]));
    let at = now() - 10 * SECOND;
    let site = site(&front.url(), "request.retry_max_duration_secs = 1.0");
    log(&site, &[(at, "same"), (at, "same"), (at, "other"), (at, "same"), (at, "")]);
    site.once().unwrap();
    let mut stored: Vec<(i64, String)> =
        query(&server, r#"{namespace="shop"}"#, at - 1, at + SECOND).into_iter().map(|entry| (entry.nanos - at, entry.line)).collect();
    stored.sort();
    let expected = [(0, ""), (0, "other"), (0, "same"), (1, "same"), (2, "same")].map(|(nanos, line)| (nanos, line.to_owned()));
    assert_eq!(stored, expected);
    assert_eq!(front.seen().ambiguous, 2);
}

/// Runs the agent for some seconds, in which it must say `words`; how many records are stored then.
fn stored_after(server: &Server, site: &Site, words: &str) -> usize {
    let running = site.start().unwrap();
    std::thread::sleep(Duration::from_secs(4));
    let ended = running.kill().unwrap();
    assert!(ended.stderr.contains(words), "no word of {words}:\n{}", ended.stderr);
    query(server, r#"{namespace="shop"}"#, now() - 3600 * SECOND, now()).len()
}

#[test]
fn what_other_data_would_not_change_pauses_the_sink() {
    let at = now() - 10 * SECOND;
    let site = |server: &Server| {
        let site = site(server.url(), "batch.linger_ms = 100");
        log(&site, &[(at, "kept")]);
        site
    };
    // Ingestion is blocked: 260.
    let until = rfc3339(now() + 86_400 * SECOND);
    let mut server = Server::start_with(Kind::Loki, &[&format!("-limits.block-ingestion-until={until}")]).unwrap();
    let blocked = site(&server);
    assert_eq!(stored_after(&server, &blocked, "HTTP 260"), 0);
    // As an administrator may set it, it is thrown away with the answer of success.
    server.kill().unwrap();
    let flags = [format!("-limits.block-ingestion-until={until}"), "-limits.block-ingestion-status-code=200".to_owned()];
    server.restart_with(&flags.each_ref().map(String::as_str)).unwrap();
    let push = format!(r#"{{"streams":[{{"stream":{{"a":"b"}},"values":[["{at}","x"]]}}]}}"#);
    assert_eq!(post(server.url(), "/loki/api/v1/push", &push).unwrap().status, 204, "with 200 there is nothing to be seen");
    assert!(query(&server, r#"{a="b"}"#, at - SECOND, at + SECOND).is_empty());
    // Fewer labels than are sent, and no structured metadata.
    server.kill().unwrap();
    server.restart_with(&["-validation.max-label-names-per-series=1"]).unwrap();
    assert_eq!(stored_after(&server, &blocked, "Loki takes fewer labels"), 0);
    server.kill().unwrap();
    server.restart_with(&["-validation.allow-structured-metadata=false"]).unwrap();
    assert_eq!(stored_after(&server, &blocked, "takes no structured metadata"), 0);
    // What was kept meanwhile is delivered when the settings are right.
    server.kill().unwrap();
    server.restart_with(&[]).unwrap();
    blocked.once().unwrap();
    assert_eq!(query(&server, r#"{namespace="shop"}"#, at - SECOND, now()).len(), 1);
    assert!(dead_letters(&blocked).is_empty());
    assert_eq!(get(server.url(), "/ready").unwrap().status, 200);
}

#[test]
fn limits_on_rates_and_sizes_only_delay() {
    let at = now() - 100 * SECOND;
    let texts: Vec<String> = (0..4000).map(|i| format!("{i} {}", "text ".repeat(20))).collect();
    let lines: Vec<(i64, &str)> = texts.iter().zip(0..).map(|(text, i)| (at + i, text.as_str())).collect();
    for flags in [
        // A request may be no larger than the burst; the rate lets the rest follow.
        &["-distributor.ingestion-rate-limit-mb=0.2", "-distributor.ingestion-burst-size-mb=0.2"][..],
        &["-ingester.per-stream-rate-limit=200KB", "-ingester.per-stream-rate-limit-burst=200KB", "-shard-streams.enabled=false"],
        &["-distributor.max-recv-msg-size=4000"],
    ] {
        let server = Server::start_with(Kind::Loki, flags).unwrap();
        let more = "batch.max_bytes = \"64KiB\"\nbatch.linger_ms = 100\nrequest.retry_max_duration_secs = 2.0";
        let site = site(server.url(), more);
        log(&site, &lines);
        let begin = Instant::now();
        site.once().unwrap();
        let stored = query(&server, r#"{namespace="shop"}"#, at - 1, at + SECOND);
        eprintln!("{flags:?}: {:?}", begin.elapsed());
        assert_eq!(stored.len(), lines.len(), "{flags:?}");
        assert!(dead_letters(&site).is_empty());
    }
}

/// A server that takes each stream in order alone, as Loki's were before they took late records.
#[test]
fn a_stream_is_in_the_order_of_its_file() {
    let server = Server::start_with(Kind::Loki, &["-ingester.unordered-writes=false"]).unwrap();
    let at = now() - 100 * SECOND;
    let texts: Vec<String> = (0..30_000).map(|i| format!("{i} {}", "text ".repeat(10))).collect();
    let lines: Vec<(i64, &str)> = texts.iter().zip(0..).map(|(text, i)| (at + i, text.as_str())).collect();
    let site = site(server.url(), "batch.max_bytes = \"32KiB\"\nbatch.linger_ms = 20\nrequest.concurrency = 8");
    log(&site, &lines);
    site.once().unwrap();
    assert!(dead_letters(&site).is_empty());
    let count = query_vector(&server, r#"sum(count_over_time({namespace="shop"}[1h]))"#);
    assert_eq!(count, [30_000.0]);
}

/// What an instant query gives: the values.
fn query_vector(server: &Server, logql: &str) -> Vec<f64> {
    let answer = get(server.url(), &format!("/loki/api/v1/query?query={}", percent_encode(logql))).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let result = answer.json()["data"]["result"].clone();
    result.as_array().unwrap().iter().map(|sample| sample["value"][1].as_str().unwrap().parse().unwrap()).collect()
}

#[test]
fn a_stream_can_be_several_and_a_long_line_is_cut() {
    let server = Server::start(Kind::Loki).unwrap();
    let at = now() - 100 * SECOND;
    let sharded = site(server.url(), "stream_shard = 4");
    for pod in 0..12 {
        let text = format!("{} stdout F short\n{} stdout F {}\n", rfc3339(at), rfc3339(at + 1), "long ".repeat(60_000));
        sharded.append(&format!("pods/shop_web-{pod}_00000000-0000-4000-8000-0000000000{pod:02}/app/0.log"), text).unwrap();
    }
    sharded.once().unwrap();
    assert!(dead_letters(&sharded).is_empty());
    let stored = query(&server, r#"{namespace="shop"}"#, at - 1, at + SECOND);
    let streams: std::collections::BTreeSet<_> = stored.iter().map(|entry| format!("{:?}", entry.labels)).collect();
    assert_eq!(stored.len(), 24);
    assert!((2..=4 * 12).contains(&streams.len()), "{streams:?}");
    let shards: std::collections::BTreeSet<_> = stored.iter().filter_map(|entry| entry.labels.get("stream_shard")).collect();
    assert!((2..=4).contains(&shards.len()), "{shards:?} in {streams:?}");
    let cut: Vec<&Entry> = stored.iter().filter(|entry| entry.metadata.get("truncated").is_some_and(|value| value == "true")).collect();
    assert_eq!(cut.len(), 12);
    assert!(cut.iter().all(|entry| entry.line.len() <= 256 << 10 && entry.line.starts_with("long long ")), "as long as Loki takes");
}

#[test]
fn the_example_does_what_its_readme_says() {
    let server = Server::start(Kind::Loki).unwrap();
    let from = now() - 2 * 3600 * SECOND;
    let mut command = agent::command(workspace::root()).unwrap();
    command.args(["run", "--once", "-c", "examples/loki/pipeline.toml"]).env("LOKI_URL", server.url());
    Agent::spawn(command).unwrap().wait(agent::DEADLINE).unwrap().expect_success().unwrap();
    let stored = query(&server, r#"{env="demo"}"#, from, now());
    assert_eq!(stored.iter().filter(|entry| entry.metadata.contains_key("original_timestamp")).count(), 48);
    let place = query(&server, r#"{namespace="catalog"} | pod="places-0""#, from, now());
    assert!(place.len() == 24 && place.iter().all(|entry| !entry.line.contains("@example.com")));
}

#[test]
fn validate_looks_whether_pushes_are_taken() {
    let mut server = Server::start_with(Kind::Loki, &["-shard-streams.enabled=false"]).unwrap();
    let validate = |server: &Server, more: &str| {
        let site = site(server.url(), more);
        site.append("pods/.keep", "").unwrap();
        let ended = Agent::run(site.root(), &["validate", "-c", "pipeline.toml"]).unwrap();
        (ended.code(), format!("{}{}", String::from_utf8_lossy(&ended.stdout), ended.stderr))
    };
    let (code, said) = validate(&server, "");
    assert!(code == Some(0) && said.contains("Loki takes pushes"), "{said}");
    let (code, said) = validate(&server, "path = \"/push\"");
    assert!(code != Some(0) && said.contains("no push API"), "{said}");
    server.kill().unwrap();
    server.restart_with(&["-auth.enabled=true"]).unwrap();
    let (code, said) = validate(&server, "");
    assert!(code != Some(0) && said.contains("wants a tenant"), "{said}");
    let (code, said) = validate(&server, "tenant_id = \"t\"");
    assert!(code == Some(0) && said.contains("Loki takes pushes"), "{said}");
    // What `init` prints is a configuration that Loki takes.
    let printed = Agent::run(workspace::root(), &["init", "loki"]).unwrap().expect_success().unwrap();
    let text = String::from_utf8(printed.stdout).unwrap();
    assert!(text.contains("max_chunk_age: 120m") && text.contains("reject_old_samples_max_age: 168h"), "{text}");
}

#[test]
fn tenants_are_kept_apart() {
    let server = Server::start_with(Kind::Loki, &["-auth.enabled=true"]).unwrap();
    let at = now() - 10 * SECOND;
    let site = site(server.url(), "tenant_id = \"{{ kubernetes.pod_namespace }}\"");
    for namespace in ["shop", "bank"] {
        let text = format!("{} stdout F of {namespace}\n", rfc3339(at));
        site.append(&format!("pods/{namespace}_web_00000000-0000-4000-8000-000000000000/app/0.log"), text).unwrap();
    }
    site.once().unwrap();
    for namespace in ["shop", "bank"] {
        let target = format!("/loki/api/v1/query_range?query={}&start={}&end={}", percent_encode("{container=\"app\"}"), at - 1, at + 1);
        let answer = request("GET", server.url(), &target, &[("X-Scope-OrgID", namespace)], b"").unwrap().json();
        assert_eq!(answer["data"]["result"][0]["values"][0][1], format!("of {namespace}"), "{answer}");
        assert_eq!(answer["data"]["result"].as_array().unwrap().len(), 1);
    }
}
