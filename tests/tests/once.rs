//! `skidder run --once`: to the end of what is there, then a summary and an exit code that says whether all was delivered.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::Write;
use std::time::Duration;

use skidder_tests::agent::{self, Agent};
use skidder_tests::generate::Fleet;
use skidder_tests::ledger::Ledger;
use skidder_tests::records::parse_lines;
use skidder_tests::site::{Site, files_below};
use skidder_tests::store::{Keep, Store};

const FILE_TO_CONSOLE: &str = r#"
[sources.app]
type = "file"
include = ["logs/*.log"]

[sinks.out]
type = "console"
inputs = ["app"]
"#;

fn messages(stdout: &[u8]) -> Vec<String> {
    let text = |record: serde_json::Map<_, _>| record["message"].as_str().unwrap().to_owned();
    parse_lines(stdout).unwrap().into_iter().map(text).collect()
}

#[test]
fn without_a_data_dir_each_run_starts_from_the_beginning_and_leaves_nothing() {
    let site = Site::new(FILE_TO_CONSOLE).unwrap();
    site.append("logs/app.log", "one\ntwo\nthree\n").unwrap();
    let before = files_below(site.root()).unwrap();
    for _ in 0..2 {
        assert_eq!(messages(&site.once().unwrap().stdout), ["one", "two", "three"]);
    }
    assert_eq!(files_below(site.root()).unwrap(), before, "state was left behind");
}

#[test]
fn with_a_data_dir_the_next_run_continues() {
    let site = Site::new(["data_dir = \"state\"\n", FILE_TO_CONSOLE].concat()).unwrap();
    site.append("logs/app.log", "one\ntwo\n").unwrap();
    assert_eq!(messages(&site.once().unwrap().stdout), ["one", "two"]);
    assert_eq!(messages(&site.once().unwrap().stdout), [""; 0]);
    site.append("logs/app.log", "three\n").unwrap();
    site.append("logs/other.log", "four\n").unwrap();
    let mut more = messages(&site.once().unwrap().stdout);
    more.sort();
    assert_eq!(more, ["four", "three"]);
}

#[test]
fn an_open_last_line_is_sent() {
    let site = Site::new(FILE_TO_CONSOLE).unwrap();
    site.append("logs/app.log", "whole\nopen").unwrap();
    assert_eq!(messages(&site.once().unwrap().stdout), ["whole", "open"]);
}

#[test]
fn the_summary_counts_what_was_read_delivered_and_redacted() {
    let redact = "[transforms.clean]\ntype = \"redact\"\ninputs = [\"app\"]\n";
    let site = Site::new([&FILE_TO_CONSOLE.replace("[\"app\"]", "[\"clean\"]"), redact].concat()).unwrap();
    let line = "paid by a@example.com and b@example.com\n";
    site.append("logs/app.log", line.repeat(1234)).unwrap();
    let ended = site.once().unwrap();
    let numbers: String = ended.stderr.chars().filter(|c| !matches!(c, ',' | '_' | '\u{202f}')).collect();
    assert!(numbers.contains("1234"), "no word of 1234 records: {ended}");
    assert!(numbers.contains("2468") && numbers.contains("email"), "no word of 2468 redacted addresses: {ended}");
    assert!(!ended.stderr.contains("@example.com") && !ended.stderr.contains("paid by"), "content of events in the log: {ended}");
}

#[test]
fn a_dead_store_fails_the_run_in_time_and_the_next_one_delivers() {
    let store = Store::start(Keep::Documents).unwrap();
    store.set_down(true);
    let config = format!(
        r#"
data_dir = "state"
[sources.pods]
type = "kubernetes_logs"
root = "pods"
[transforms.parse]
type = "json"
inputs = ["pods"]
[sinks.out]
type = "elasticsearch"
inputs = ["parse"]
endpoints = ["{}"]
mode = "bulk"
index = "logs"
"#,
        store.url()
    );
    let site = Site::new(config).unwrap();
    let fleet = Fleet::new(21, 3);
    let written = fleet.write(&site.path("pods"), 300_000).unwrap();

    let ended = site.once_with(&["--timeout", "2"]).unwrap();
    assert!(!ended.status.success() && !ended.crashed(), "nothing was delivered, so the run failed: {ended}");
    assert!(ended.took < Duration::from_secs(20), "{:?} for a timeout of 2 s", ended.took);

    store.set_down(false);
    site.once().unwrap();
    let mut ledger = Ledger::new(&fleet, &written.records);
    store.documents().iter().for_each(|document| ledger.enter(document));
    let faults = ledger.close();
    assert!(faults.is_none() && store.counts().repeats == 0, "{faults}; {:?}", store.counts());
}

#[test]
fn standard_input_is_read_to_its_end() {
    let site = Site::new("[sources.in]\ntype = \"stdin\"\n[sinks.out]\ntype = \"console\"\ninputs = [\"in\"]\n").unwrap();
    let mut command = agent::command(site.root()).unwrap();
    command.args(["run", "-c", "pipeline.toml"]);
    let agent = Agent::spawn_with_input(command, b"a\nb\nc").unwrap();
    let ended = agent.wait(Duration::from_secs(30)).unwrap().expect_success().unwrap();
    assert_eq!(messages(&ended.stdout), ["a", "b", "c"]);
}

#[test]
fn a_sink_that_is_dead_does_not_hold_up_the_others() {
    let store = Store::start(Keep::Documents).unwrap();
    store.set_down(true);
    let dead = format!(
        "[sinks.dead]\ntype = \"elasticsearch\"\ninputs = [\"app\"]\nendpoints = [\"{}\"]\nmode = \"bulk\"\nindex = \"logs\"\n",
        store.url()
    );
    let site = Site::new(["data_dir = \"state\"\n", FILE_TO_CONSOLE, &dead].concat()).unwrap();
    site.append("logs/app.log", "one\ntwo\n").unwrap();
    let ended = site.once_with(&["--timeout", "2"]).unwrap();
    assert!(!ended.status.success(), "{ended}");
    assert_eq!(messages(&ended.stdout), ["one", "two"]);
}

#[test]
fn two_sinks_of_one_source_get_everything() {
    let other = "[sinks.file]\ntype = \"file\"\ninputs = [\"app\"]\npath = \"out/all.jsonl\"\n";
    let site = Site::new([FILE_TO_CONSOLE, other].concat()).unwrap();
    let mut text = Vec::new();
    (0..5000).for_each(|n| writeln!(text, "line {n}").unwrap());
    site.append("logs/app.log", &text).unwrap();
    let ended = site.once().unwrap();
    assert_eq!(messages(&ended.stdout).len(), 5000);
    assert_eq!(messages(&site.read("out/all.jsonl")), messages(&ended.stdout));
}
