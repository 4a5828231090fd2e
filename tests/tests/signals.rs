//! SIGTERM and Ctrl-C: the agent delivers what it has read, keeps what it could not deliver, and goes on from there.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use rustix::process::Signal;
use skidder_tests::agent::{Agent, Ended, until};
use skidder_tests::generate::{Fleet, Log};
use skidder_tests::ledger::Ledger;
use skidder_tests::site::Site;
use skidder_tests::store::{Keep, Store};

/// A stop takes at most this long, whatever the stores do: Kubernetes kills a pod that takes longer after 30 s by default.
const STOP: Duration = Duration::from_secs(30);
/// And a second signal ends it within this.
const AT_ONCE: Duration = Duration::from_secs(10);
/// What it says when it was told to stop.
const STOPPING: &str = "told to stop: no more reading";

const FILE_SINK: &str = r#"
[sinks.out]
type = "file"
inputs = ["parse"]
path = "out/all.jsonl"
"#;

fn site(sink: &str) -> Site {
    let source = "data_dir = \"state\"\n[sources.pods]\ntype = \"kubernetes_logs\"\nroot = \"pods\"\n";
    let parse = "[transforms.parse]\ntype = \"json\"\ninputs = [\"pods\"]\n";
    Site::new([source, parse, sink].concat()).unwrap()
}

/// Delivers, stops in the middle of more, starts anew: each record once.
fn stops_and_continues(signal: Signal) {
    let (fleet, site) = (Fleet::new(11, 2), site(FILE_SINK));
    let mut logs: Vec<Log> = (0..2).map(|pod| Log::create(&fleet, &site.path("pods"), pod).unwrap()).collect();
    let mut grow = |records: u64| {
        for log in &mut logs {
            log.append(records).unwrap();
            log.flush().unwrap();
        }
        logs.iter().map(Log::records).collect::<Vec<_>>()
    };
    let arrived = |expected: &[u64]| {
        let mut ledger = Ledger::new(&fleet, expected);
        ledger.enter_lines(&site.read("out/all.jsonl"));
        (ledger.arrived(), ledger.close())
    };

    let mut expected = grow(500);
    for round in 0..3 {
        let agent = site.start().unwrap();
        let all: u64 = expected.iter().sum();
        // The last line may be half written while we look: then it is foreign for a moment.
        until(|| (arrived(&expected).0 == all).then_some(())).expect("the agent follows its files");
        expected = grow(500);
        agent.signal(signal).unwrap();
        let ended = agent.wait(STOP).unwrap();
        assert_clean(&ended, round);
        let (_, faults) = arrived(&expected);
        assert!(faults.twice.is_empty() && faults.foreign.is_empty() && faults.corrupt.is_empty(), "round {round}: {faults}");
    }
    site.once().unwrap();
    let (_, faults) = arrived(&expected);
    assert!(faults.is_none(), "{faults}");
}

fn assert_clean(ended: &Ended, round: u32) {
    assert_eq!(ended.code(), Some(0), "round {round}: a stop by request is a good end: {ended}");
}

#[test]
fn sigterm_drains_and_the_next_start_continues() {
    stops_and_continues(Signal::TERM);
}

#[test]
fn ctrl_c_drains_and_the_next_start_continues() {
    stops_and_continues(Signal::INT);
}

#[test]
fn what_a_dead_store_did_not_take_is_kept_over_a_stop() {
    let store = Store::start(Keep::Documents).unwrap();
    store.set_down(true);
    let dead = format!(
        "[sinks.store]\ntype = \"elasticsearch\"\ninputs = [\"parse\"]\nendpoints = [\"{}\"]\nmode = \"bulk\"\nindex = \"logs\"\n",
        store.url()
    );
    let (fleet, site) = (Fleet::new(12, 2), site(&[FILE_SINK, &dead].concat()));
    let written = fleet.write(&site.path("pods"), 200_000).unwrap();

    let mut agent = site.start().unwrap();
    // What the file has, the worker has also encoded for the store.
    let in_file = || site.read("out/all.jsonl").iter().filter(|byte| **byte == b'\n').count() as u64;
    until(|| (in_file() == written.total()).then_some(())).expect("the other sink gets everything");
    agent.signal(Signal::TERM).unwrap();
    // It waits for the store now, up to the limit of a stop; a second signal says not to. Sent before the first was seen it would
    // be one with that.
    until(|| agent.said().contains(STOPPING).then_some(())).expect("it stops");
    std::thread::sleep(Duration::from_millis(300));
    assert!(agent.is_running(), "a stop gives the store a chance to come back");
    agent.signal(Signal::TERM).unwrap();
    let ended = agent.wait(AT_ONCE).unwrap();
    assert_clean(&ended, 0);
    // The pods go away, and their logs with them: from here on the buffer alone has the records.
    std::fs::remove_dir_all(site.path("pods")).unwrap();
    std::fs::create_dir(site.path("pods")).unwrap();

    store.set_down(false);
    site.once().unwrap();
    let mut ledger = Ledger::new(&fleet, &written.records);
    store.documents().iter().for_each(|document| ledger.enter(document));
    let faults = ledger.close();
    assert!(faults.is_none() && store.counts().repeats == 0, "{faults}; {:?}", store.counts());
}

/// A run with a time limit below that of a stop once took the first signal for the second.
#[test]
fn a_time_limit_is_no_signal() {
    let store = Store::start(Keep::Documents).unwrap();
    store.set_down(true);
    let dead = format!(
        "[sinks.store]\ntype = \"elasticsearch\"\ninputs = [\"parse\"]\nendpoints = [\"{}\"]\nmode = \"bulk\"\nindex = \"logs\"\n",
        store.url()
    );
    let (fleet, site) = (Fleet::new(13, 1), site(&[FILE_SINK, &dead].concat()));
    let written = fleet.write(&site.path("pods"), 1_000).unwrap();
    let mut agent = Agent::start(site.root(), &["run", "--once", "--timeout", "15", "-c", "pipeline.toml"]).unwrap();
    let in_file = || site.read("out/all.jsonl").iter().filter(|byte| **byte == b'\n').count() as u64;
    until(|| (in_file() == written.total()).then_some(())).expect("the other sink gets everything");
    agent.signal(Signal::TERM).unwrap();
    until(|| agent.said().contains(STOPPING).then_some(())).expect("it stops");
    std::thread::sleep(Duration::from_millis(700));
    assert!(agent.is_running(), "the first signal leaves the store the time that is left");
    agent.signal(Signal::TERM).unwrap();
    let ended = agent.wait(AT_ONCE).unwrap();
    assert!(ended.stderr.contains("told to stop again"), "{ended}");
    assert_eq!(ended.code(), Some(1), "not all was delivered: {ended}");
}
