//! Four real stores on one agent: one of them is down for a whole run, or takes requests and never answers, and the other three see
//! no delay.
//!
//! When a store has all records of a run is compared with when it had them in runs of the same test in which all four were up: a
//! ratio, since how fast the machine is today is nobody's fault.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

use std::net::TcpListener;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::process::Signal;
use serde_json::json;
use skidder_tests::agent::{DEADLINE, until};
use skidder_tests::client::{get, percent_encode, post, request};
use skidder_tests::mixed::Mixed;
use skidder_tests::servers::{Kind, Server};
use skidder_tests::site::Site;
use skidder_tests::store::dead_url;

const RECORDS: u64 = 40_000;

/// The names of the sinks, and of their types.
const STORES: [&str; 4] = ["elasticsearch", "clickhouse", "loki", "otlp"];

/// A store may be this many times slower than with all four up before it counts as delayed: what two runs of the same kind differ by on
/// a busy machine. A store that waited for the one that is down would wait for all of the run.
const DELAYED: f64 = 2.0;

struct Stores {
    servers: [Server; 4],
}

impl Stores {
    fn start() -> Stores {
        let kinds = [Kind::Elasticsearch9, Kind::ClickHouse, Kind::Loki, Kind::Collector];
        let stores = Stores {
            servers: kinds.map(|kind| {
                let settings: &[&str] = if kind == Kind::Loki { &["-distributor.max-line-size=1MB"] } else { &[] };
                Server::start_with(kind, settings).unwrap()
            }),
        };
        let template = json!({ "index_patterns": ["run-*"], "template": { "mappings": { "dynamic": false } } }).to_string();
        let headers = [("content-type", "application/json")];
        let answer = request("PUT", stores.servers[0].url(), "/_index_template/runs", &headers, template.as_bytes()).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        stores
    }

    fn sql(&self, sql: &str) -> String {
        let answer = post(self.servers[1].url(), "/", sql).unwrap();
        assert_eq!(answer.status, 200, "{sql}: {}", answer.text());
        answer.text()
    }

    /// How many records of a run a store has, as it says itself.
    fn count(&self, store: &str, run: usize) -> u64 {
        let text = |number: String| number.trim().parse().unwrap_or(0);
        match store {
            "elasticsearch" => {
                let url = self.servers[0].url();
                post(url, &format!("/run-{run}/_refresh"), "").unwrap();
                get(url, &format!("/run-{run}/_count")).unwrap().json()["count"].as_u64().unwrap_or(0)
            }
            "clickhouse" => text(self.sql(&format!("SELECT count() FROM run_{run}"))),
            "loki" => {
                let query = percent_encode(&format!("sum(count_over_time({{run=\"{run}\"}}[1h]))"));
                let answer = get(self.servers[2].url(), &format!("/loki/api/v1/query?query={query}")).unwrap().json();
                text(answer["data"]["result"][0]["value"][1].as_str().unwrap_or_default().to_owned())
            }
            _ => {
                let written = std::fs::read_to_string(self.servers[3].directory().join("out.jsonl")).unwrap_or_default();
                let of_run = format!(r#"{{"key":"run","value":{{"stringValue":"{run}"}}}}"#);
                let ours = written.lines().filter(|line| line.contains(&of_run));
                ours.map(|line| line.matches("\"log.record.uid\"").count() as u64).sum()
            }
        }
    }

    /// Ships all records, with the store `down` at that address in place of its own; when each of the others had them, from the
    /// beginning on.
    fn run(&self, run: usize, down: Option<(&str, &str)>) -> [Option<Duration>; 4] {
        self.sql(&format!(
            "CREATE TABLE run_{run} (timestamp DateTime64(9), message String, attributes Map(String, String)) ENGINE = MergeTree \
             ORDER BY timestamp SETTINGS non_replicated_deduplication_window = 1000"
        ));
        let api = dead_url().unwrap().trim_start_matches("http://").to_owned();
        let url = |index: usize| match down {
            Some((store, url)) if store == STORES[index] => url.to_owned(),
            _ => self.servers[index].url().to_owned(),
        };
        let (es, ch, loki, otlp) = (url(0), url(1), url(2), url(3));
        // So small a buffer that reading for the store which is down stops early.
        let common = "inputs = [\"parse\"]\nbuffer.max_size = \"1MiB\"\nbatch = { max_bytes = \"512KiB\", timeout_secs = 0.2 }";
        let site = Site::new(format!(
            r#"data_dir = "state"
[api]
address = "{api}"
[sources.pods]
type = "kubernetes_logs"
root = "pods"
[transforms.parse]
type = "json"
inputs = ["pods"]
[sinks.elasticsearch]
type = "elasticsearch"
endpoints = ["{es}"]
index = "run-{run}"
{common}
[sinks.clickhouse]
type = "clickhouse"
endpoints = ["{ch}"]
table = "run_{run}"
{common}
[sinks.loki]
type = "loki"
endpoint = "{loki}"
max_line_bytes = "1MiB"
labels = {{ run = "{run}" }}
{common}
[sinks.otlp]
type = "otlp"
endpoint = "{otlp}"
resource = {{ run = "{run}" }}
{common}
"#
        ))
        .unwrap();
        let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap();
        Mixed::new(run as u64, 4, now - 600_000_000_000).write(&site.path("pods"), 0, RECORDS).unwrap();
        let begin = Instant::now();
        let mut agent = site.start().unwrap();
        let mut arrived = [None; 4];
        let up = |index: usize| down.is_none_or(|(store, _)| store != STORES[index]);
        let all = until(|| {
            let metrics = get(&format!("http://{api}"), "/metrics").map(|answer| answer.text()).unwrap_or_default();
            for (index, store) in STORES.iter().enumerate() {
                let name = format!(r#"skidder_component_sent_events_total{{component_id="{store}","#);
                let line = metrics.lines().find(|line| line.starts_with(&name)).unwrap_or_default();
                if line.rsplit(' ').next() == Some(&RECORDS.to_string()) {
                    arrived[index].get_or_insert_with(|| begin.elapsed());
                }
            }
            let done = (0..4).all(|index| !up(index) || arrived[index].is_some());
            (done || !agent.is_running()).then_some(done)
        });
        if all != Some(true) {
            panic!("run {run} without {down:?}: {arrived:?} after {:?}; {}", begin.elapsed(), agent.kill().unwrap());
        }
        if let Some((store, _)) = down {
            // It waits for the one that is down, and does not end by itself.
            agent.signal(Signal::KILL).unwrap();
            assert!(agent.wait(DEADLINE).unwrap().was_killed());
            assert_eq!(self.count(store, run), 0);
        } else {
            agent.signal(Signal::TERM).unwrap();
            agent.wait(DEADLINE).unwrap().expect_success().unwrap();
        }
        for (index, store) in STORES.iter().enumerate().filter(|(index, _)| up(*index)) {
            // Loki shows what it took a moment later.
            let count = until(|| Some(self.count(store, run)).filter(|count| *count == RECORDS));
            assert!(count.is_some(), "{store} has {} records of run {run}, and said {:?}", self.count(store, run), arrived[index]);
        }
        eprintln!("run {run}, down: {}: {arrived:?}", down.map_or("none", |(store, _)| store));
        arrived
    }
}

#[test]
fn one_of_four_is_down_for_the_whole_run_and_the_others_see_no_delay() {
    let stores = Stores::start();
    // Nobody listens, or somebody who never says a word.
    let refuses = dead_url().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let hangs = format!("http://{}", silent.local_addr().unwrap());
    // What runs on Java is slow at first: that run is none to compare with.
    stores.run(0, None);
    let first = stores.run(1, None);
    let without: Vec<_> = STORES
        .iter()
        .enumerate()
        .map(|(index, store)| (*store, stores.run(index + 2, Some((store, if index % 2 == 0 { &refuses } else { &hangs })))))
        .collect();
    let last = stores.run(6, None);
    for (index, store) in STORES.iter().enumerate() {
        let with_all = first[index].unwrap().max(last[index].unwrap());
        for (down, arrived) in without.iter().filter(|(down, _)| down != store) {
            let ratio = arrived[index].unwrap().as_secs_f64() / with_all.as_secs_f64();
            eprintln!("{store} without {down}: {ratio:.2} of the time with all four");
            assert!(ratio < DELAYED, "{store} was delayed by {down}, which was down: {ratio:.2}");
        }
    }
}
