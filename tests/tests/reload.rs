//! SIGHUP: another configuration takes the place of the one at work, and every record is in its stores once all the same.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use skidder_tests::agent::{Agent, until};
use skidder_tests::client;
use skidder_tests::generate::{Fleet, Log};
use skidder_tests::ledger::Ledger;
use skidder_tests::site::Site;
use skidder_tests::store::{Fault, Faults, Keep, Store, dead_url};

/// A reload takes at most this long, whatever the stores do: they are waited for ten seconds.
const RELOAD: Duration = Duration::from_secs(20);
/// And a stop this long.
const STOP: Duration = Duration::from_secs(30);

const DONE: &str = "SIGHUP: the new configuration is at work";
const FAILED: &str = "SIGHUP: the configuration was not taken over";

/// What a configuration of these tests is made of.
struct Setup {
    api: String,
    store: String,
}

impl Setup {
    fn new(store: &Store) -> Setup {
        Setup { api: dead_url().unwrap(), store: store.url() }
    }

    /// Pods' logs into a file and a store, each record marked with `generation`; `linger` makes the sinks other ones, `more` stands at
    /// the end.
    fn config(&self, generation: u64, linger: u32, more: &str) -> String {
        let address = self.api.trim_start_matches("http://");
        format!(
            "data_dir = \"state\"\n[api]\naddress = \"{address}\"\n\
             [sources.pods]\ntype = \"kubernetes_logs\"\nroot = \"pods\"\n\
             [transforms.parse]\ntype = \"json\"\ninputs = [\"pods\"]\n\
             [transforms.mark]\ntype = \"enrich\"\ninputs = [\"parse\"]\nfields.generation = {generation}\n\
             [sinks.out]\ntype = \"file\"\ninputs = [\"mark\"]\npath = \"out/all.jsonl\"\nbatch.linger_ms = {linger}\n\
             [sinks.store]\ntype = \"elasticsearch\"\ninputs = [\"mark\"]\nendpoints = [\"{}\"]\nindex = \"logs\"\n\
             batch.linger_ms = {linger}\n{more}",
            self.store
        )
    }

    fn metrics(&self) -> String {
        client::get(&self.api, "/metrics").map(|answer| answer.text()).unwrap_or_default()
    }

    /// Whether a metric stands at `value`.
    fn stands(&self, metric: &str, value: u64) -> bool {
        let value_of = |line: &str| line.strip_prefix(metric)?.trim().parse::<f64>().ok();
        self.metrics().lines().find_map(value_of) == Some(value as f64)
    }
}

fn times(agent: &Agent, what: &str) -> usize {
    agent.said().matches(what).count()
}

/// Sends SIGHUP and waits until the agent has said `what` once more; how long that took.
fn hang_up(agent: &Agent, what: &str) -> Duration {
    let (before, begin) = (times(agent, what), Instant::now());
    agent.signal(Signal::HUP).unwrap();
    until(|| (times(agent, what) > before).then_some(())).unwrap_or_else(|| panic!("no `{what}`:\n{}", agent.said()));
    begin.elapsed()
}

fn grow(logs: &mut [Log<'_>], records: u64) {
    for log in logs {
        log.append(records).unwrap();
        log.flush().unwrap();
    }
}

fn written(logs: &[Log<'_>]) -> Vec<u64> {
    logs.iter().map(Log::records).collect()
}

fn in_file(site: &Site, path: &str) -> u64 {
    site.read(path).iter().filter(|byte| **byte == b'\n').count() as u64
}

fn stop(agent: Agent) {
    agent.signal(Signal::TERM).unwrap();
    let ended = agent.wait(STOP).unwrap();
    assert_eq!(ended.code(), Some(0), "{ended}");
    assert!(!ended.crashed(), "{ended}");
}

/// Every record once in the file and in the store.
fn account(fleet: &Fleet, expected: &[u64], site: &Site, store: &Store) {
    let mut ledger = Ledger::new(fleet, expected);
    ledger.enter_lines(&site.read("out/all.jsonl"));
    let faults = ledger.close();
    assert!(faults.is_none(), "the file: {faults}");
    let mut ledger = Ledger::new(fleet, expected);
    store.documents().iter().for_each(|document| ledger.enter(document));
    let faults = ledger.close();
    assert!(faults.is_none(), "the store: {faults}");
    assert_eq!(store.counts().repeats, 0, "nothing was even sent twice");
}

#[test]
fn twenty_reloads_while_logs_grow_lose_nothing_and_repeat_nothing() {
    const ROUNDS: u64 = 20;
    let store = Store::start(Keep::Documents).unwrap();
    let setup = Setup::new(&store);
    let (fleet, site) = (Fleet::new(31, 3).split_per_mille(100), Site::new(setup.config(0, 200, "")).unwrap());
    let mut logs: Vec<Log> = (0..3).map(|pod| Log::create(&fleet, &site.path("pods"), pod).unwrap()).collect();
    grow(&mut logs, 200);
    let agent = site.start().unwrap();
    until(|| (in_file(&site, "out/all.jsonl") > 0).then_some(())).expect("it ships");
    for round in 1..=ROUNDS {
        // Every third time the sinks are the same ones.
        let linger = if round % 3 == 0 { 200 } else { 20 + round as u32 };
        site.configure(setup.config(round, linger, "")).unwrap();
        let before = times(&agent, DONE);
        agent.signal(Signal::HUP).unwrap();
        while times(&agent, DONE) == before {
            grow(&mut logs, 20);
            std::thread::sleep(Duration::from_millis(2));
        }
        grow(&mut logs, 50);
    }
    let expected = written(&logs);
    let all: u64 = expected.iter().sum();
    until(|| (in_file(&site, "out/all.jsonl") == all && store.counts().stored == all).then_some(())).expect("all of it arrives");
    assert!(setup.stands("skidder_config_reloads_total{result=\"done\"}", ROUNDS), "{}", setup.metrics());
    assert!(setup.stands("skidder_config_reload_failed", 0), "{}", setup.metrics());
    stop(agent);
    account(&fleet, &expected, &site, &store);

    // Each record was marked by one of the configurations, and each pod's in their order.
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    for record in site.records("out/all.jsonl").unwrap() {
        let (pod, generation) = (record["kubernetes"]["pod_name"].to_string(), record["generation"].as_u64().unwrap());
        let newest = last.entry(pod).or_default();
        assert!(generation >= *newest, "{generation} after {newest}");
        *newest = generation;
    }
    assert_eq!(last.into_values().collect::<Vec<_>>(), [ROUNDS; 3], "the last ones have the newest mark");
}

#[test]
fn a_bad_configuration_is_refused_with_all_mistakes_and_the_one_before_goes_on() {
    let store = Store::start(Keep::Documents).unwrap();
    let setup = Setup::new(&store);
    let good = setup.config(1, 20, "");
    let (fleet, site) = (Fleet::new(32, 1), Site::new(&good).unwrap());
    let mut logs = vec![Log::create(&fleet, &site.path("pods"), 0).unwrap()];
    grow(&mut logs, 10);
    let agent = site.start().unwrap();
    until(|| (store.counts().stored == 10).then_some(())).expect("it ships");
    assert!(setup.stands("skidder_config_reload_failed", 0), "{}", setup.metrics());
    fs::write(site.path("short.key"), "short").unwrap();
    let key =
        format!("pseudonym_keys = [{{ id = \"k1\", file = \"{}\" }}]\nactions.email = \"pseudonym\"", site.path("short.key").display());
    let redact = |more: &str| format!("[transforms.clean]\ntype = \"redact\"\ninputs = [\"mark\"]\n{more}\n");
    let cases = [
        (redact("rules = [{ name = \"bad\", regex = \"(unclosed\" }]"), "transforms.clean.rules"),
        (redact(&key), "the key `k1` has 5 bytes"),
        ("require_redaction = \n".to_owned(), "pipeline.toml"),
        ("[sinks.more]\ntype = \"fiel\"\ninputs = [\"nobody\"]\n".to_owned(), "did you mean `file`"),
    ];
    let count = cases.len() as u64;
    for (more, message) in cases {
        site.configure(setup.config(2, 20, &more)).unwrap();
        hang_up(&agent, FAILED);
        assert!(agent.said().contains(message), "`{message}`:\n{}", agent.said());
        assert!(setup.stands("skidder_config_reload_failed", 1), "{}", setup.metrics());
        let before = store.counts().stored;
        grow(&mut logs, 10);
        until(|| (store.counts().stored == before + 10).then_some(())).expect("the one before goes on");
    }
    // A file that is away is a mistake like others.
    fs::remove_file(site.path("pipeline.toml")).unwrap();
    hang_up(&agent, FAILED);
    assert!(agent.said().contains("cannot read the configuration `pipeline.toml`"), "{}", agent.said());

    site.configure(&good).unwrap();
    hang_up(&agent, "SIGHUP: the configuration is the same as before");
    assert!(setup.stands("skidder_config_reload_failed", 0), "{}", setup.metrics());
    site.configure(setup.config(3, 20, "")).unwrap();
    hang_up(&agent, DONE);
    assert!(agent.said().contains("changed transform `mark`"), "{}", agent.said());
    for (result, value) in [("failed", count + 1), ("unchanged", 1), ("done", 1)] {
        assert!(setup.stands(&format!("skidder_config_reloads_total{{result=\"{result}\"}}"), value), "{}", setup.metrics());
    }
    let expected = written(&logs);
    stop(agent);
    account(&fleet, &expected, &site, &store);
    let marks = site.records("out/all.jsonl").unwrap();
    assert!(marks.iter().all(|record| record["generation"] == 1), "nothing came after the last reload");
}

/// A pseudonym key that is another: the file of the configuration is the same, and what it names is not.
#[test]
fn a_key_that_changed_is_a_change_though_the_file_is_the_same() {
    let store = Store::start(Keep::Documents).unwrap();
    let setup = Setup::new(&store);
    let keys = tempfile::tempdir().unwrap();
    let key = keys.path().join("pseudonym.key");
    fs::write(&key, "a".repeat(32)).unwrap();
    let clean = format!(
        "[transforms.clean]\ntype = \"redact\"\ninputs = [\"app\"]\npseudonym_keys = [{{ id = \"k1\", file = \"{}\" }}]\nactions.email = \"pseudonym\"\n\
         [sources.app]\ntype = \"file\"\ninclude = [\"logs/*.log\"]\nfollow_symlinks = false\n\
         [sinks.cleaned]\ntype = \"file\"\ninputs = [\"clean\"]\npath = \"out/clean.jsonl\"\nbatch.linger_ms = 20\n",
        key.display()
    );
    let site = Site::new(setup.config(1, 20, &clean)).unwrap();
    site.append("logs/a.log", "from jane.doe@example.com\n").unwrap();
    let agent = site.start().unwrap();
    until(|| (in_file(&site, "out/clean.jsonl") == 1).then_some(())).unwrap_or_else(|| panic!("it ships:\n{}", agent.said()));
    fs::write(keys.path().join("new"), "b".repeat(32)).unwrap();
    fs::rename(keys.path().join("new"), &key).unwrap();
    hang_up(&agent, DONE);
    assert!(agent.said().contains("changed transform `clean`"), "{}", agent.said());
    site.append("logs/a.log", "from jane.doe@example.com\n").unwrap();
    until(|| (in_file(&site, "out/clean.jsonl") == 2).then_some(())).expect("it goes on");
    stop(agent);
    let messages: Vec<Value> = site.records("out/clean.jsonl").unwrap().iter().map(|record| record["message"].clone()).collect();
    assert!(messages.iter().all(|message| message.to_string().contains("[EMAIL:k1:")), "{messages:?}");
    assert_ne!(messages[0], messages[1]);
}

#[test]
fn a_sink_is_removed_and_one_is_added_which_begins_where_the_others_are() {
    let store = Store::start(Keep::Documents).unwrap();
    let setup = Setup::new(&store);
    let with =
        |name: &str| format!("[sinks.{name}]\ntype = \"file\"\ninputs = [\"mark\"]\npath = \"out/{name}.jsonl\"\nbatch.linger_ms = 20\n");
    let (fleet, site) = (Fleet::new(33, 2), Site::new(setup.config(1, 20, &with("old"))).unwrap());
    let mut logs: Vec<Log> = (0..2).map(|pod| Log::create(&fleet, &site.path("pods"), pod).unwrap()).collect();
    grow(&mut logs, 300);
    let agent = site.start().unwrap();
    let everywhere = |paths: &[&str], count: u64| until(|| paths.iter().all(|path| in_file(&site, path) == count).then_some(()));
    everywhere(&["out/all.jsonl", "out/old.jsonl"], 600).expect("it ships");
    site.configure(setup.config(1, 20, &with("new"))).unwrap();
    hang_up(&agent, DONE);
    assert!(agent.said().contains("added sink `new`; removed sink `old`"), "{}", agent.said());
    grow(&mut logs, 100);
    everywhere(&["out/new.jsonl"], 200).expect("the new one gets what comes");
    everywhere(&["out/all.jsonl"], 800).expect("and so do the others");
    let metrics = setup.metrics();
    assert!(metrics.contains("component_id=\"new\"") && !metrics.contains("component_id=\"old\""), "{metrics}");
    // And back: what came meanwhile is brought to it as well.
    site.configure(setup.config(1, 20, &with("old"))).unwrap();
    hang_up(&agent, DONE);
    everywhere(&["out/old.jsonl"], 800).expect("it goes on where it stood");
    let expected = written(&logs);
    stop(agent);
    assert_eq!(in_file(&site, "out/new.jsonl"), 200);
    account(&fleet, &expected, &site, &store);
}

#[test]
fn the_only_sink_under_another_name_goes_on_where_it_was() {
    let store = Store::start(Keep::Documents).unwrap();
    let config = |name: &str| {
        format!(
            "data_dir = \"state\"\napi.enabled = false\n[sources.app]\ntype = \"file\"\ninclude = [\"logs/*.log\"]\n\
             [sinks.{name}]\ntype = \"elasticsearch\"\ninputs = [\"app\"]\nendpoints = [\"{}\"]\nindex = \"logs\"\nbatch.linger_ms = 20\n",
            store.url()
        )
    };
    let site = Site::new(config("store")).unwrap();
    site.append("logs/a.log", "one\n".repeat(30)).unwrap();
    let agent = site.start().unwrap();
    until(|| (store.counts().stored == 30).then_some(())).expect("it ships");
    site.configure(config("archive")).unwrap();
    hang_up(&agent, DONE);
    site.append("logs/a.log", "two\n".repeat(30)).unwrap();
    until(|| (store.counts().stored == 60).then_some(())).expect("it ships under the new name");
    stop(agent);
    assert_eq!(store.counts().repeats, 0, "what had gone out under the old name came again");
}

#[test]
fn what_is_bound_to_the_process_needs_a_restart_and_is_said_so() {
    let store = Store::start(Keep::Documents).unwrap();
    let setup = Setup::new(&store);
    let (fleet, site) = (Fleet::new(34, 1), Site::new(setup.config(1, 20, "")).unwrap());
    let mut logs = vec![Log::create(&fleet, &site.path("pods"), 0).unwrap()];
    grow(&mut logs, 10);
    let agent = site.start().unwrap();
    until(|| (store.counts().stored == 10).then_some(())).expect("it ships");
    let elsewhere = tempfile::tempdir().unwrap();
    let place = elsewhere.path().display();
    let sink = format!("[sinks.away]\ntype = \"file\"\ninputs = [\"mark\"]\npath = \"{place}/all.jsonl\"\n");
    let source = |links: bool| {
        format!(
            "[sources.away]\ntype = \"file\"\ninclude = [\"{place}/*.log\"]\nfollow_symlinks = {links}\n[sinks.void]\ntype = \"blackhole\"\ninputs = [\"away\"]\n"
        )
    };
    let good = setup.config(1, 20, "");
    for (config, message) in [
        (setup.config(2, 20, &sink), "it would write to `"),
        (setup.config(2, 20, &source(false)), "it would read `"),
        (setup.config(2, 20, &source(true)), "it has locked itself in"),
        (good.replace("\"state\"", "\"other\""), "`data_dir` is another"),
        (good.replace("[api]\n", "[api]\nenabled = false\n"), "the table `[api]` changed"),
        (format!("lockdown = \"off\"\n{good}"), "`lockdown` is another"),
        (
            setup.config(2, 20, "[sources.in]\ntype = \"stdin\"\n[sinks.void]\ntype = \"blackhole\"\ninputs = [\"in\"]\n"),
            "a source of the type `stdin`",
        ),
    ] {
        site.configure(config).unwrap();
        hang_up(&agent, FAILED);
        let said = agent.said();
        assert!(said.contains("this needs a restart of the agent: ") && said.contains(message), "`{message}`:\n{said}");
        assert!(setup.stands("skidder_config_reload_failed", 1), "{}", setup.metrics());
    }
    grow(&mut logs, 10);
    until(|| (store.counts().stored == 20).then_some(())).expect("the one before goes on");
    assert!(!site.path("other").exists());
    stop(agent);
    account(&fleet, &written(&logs), &site, &store);
}

/// Kubernetes writes the files of a ConfigMap into a directory of their own and swaps the link `..data` that leads there.
#[test]
fn a_config_map_that_is_swapped_is_read() {
    let store = Store::start(Keep::Documents).unwrap();
    let setup = Setup::new(&store);
    let site = Site::new("").unwrap();
    let mount = |number: u32, config: String| {
        let directory = format!("..2026_11_24_{number}");
        site.append(&format!("etc/{directory}/pipeline.toml"), config).unwrap();
        symlink(&directory, site.path("etc/..data_tmp")).unwrap();
        fs::rename(site.path("etc/..data_tmp"), site.path("etc/..data")).unwrap();
        if number > 1 {
            fs::remove_dir_all(site.path(&format!("etc/..2026_11_24_{}", number - 1))).unwrap();
        }
    };
    // The paths in it start from its directory.
    let config = |generation| {
        setup
            .config(generation, 20, "")
            .replace("\"state\"", "\"../state\"")
            .replace("\"pods\"\n[tr", "\"../pods\"\n[tr")
            .replace("\"out/", "\"../out/")
    };
    mount(1, config(1));
    symlink("..data/pipeline.toml", site.path("etc/pipeline.toml")).unwrap();
    let fleet = Fleet::new(35, 1);
    let mut logs = vec![Log::create(&fleet, &site.path("pods"), 0).unwrap()];
    grow(&mut logs, 10);
    let agent = Agent::start(site.root(), &["run", "-c", "etc/pipeline.toml"]).unwrap();
    let arrived = |count: u64| until(|| (in_file(&site, "out/all.jsonl") == count && store.counts().stored == count).then_some(()));
    arrived(10).expect("it ships");
    for number in 2..5 {
        mount(number, config(number.into()));
        hang_up(&agent, DONE);
        grow(&mut logs, 10);
        arrived(u64::from(number) * 10).expect("it goes on");
    }
    stop(agent);
    account(&fleet, &written(&logs), &site, &store);
    let marks: Vec<u64> = site.records("out/all.jsonl").unwrap().iter().map(|record| record["generation"].as_u64().unwrap()).collect();
    assert_eq!(marks, [1, 2, 3, 4].map(|mark| [mark; 10]).concat());
}

#[test]
fn a_stop_in_the_middle_of_a_reload_drains() {
    let store = Store::start(Keep::Documents).unwrap();
    let setup = Setup::new(&store);
    let (fleet, site) = (Fleet::new(36, 1), Site::new(setup.config(1, 20, "")).unwrap());
    let mut logs = vec![Log::create(&fleet, &site.path("pods"), 0).unwrap()];
    grow(&mut logs, 10);
    let agent = site.start().unwrap();
    until(|| (store.counts().stored == 10).then_some(())).expect("it ships");
    // The store takes its time for what is under way, so the reload waits for it.
    store.set_faults(Faults::script([Fault::Stall(Duration::from_secs(4))]));
    grow(&mut logs, 10);
    until(|| (in_file(&site, "out/all.jsonl") == 20).then_some(())).expect("the file has it");
    std::thread::sleep(Duration::from_millis(500));
    site.configure(setup.config(2, 30, "")).unwrap();
    agent.signal(Signal::HUP).unwrap();
    std::thread::sleep(Duration::from_millis(1_000));
    assert_eq!(times(&agent, DONE), 0, "it waits:\n{}", agent.said());
    grow(&mut logs, 10);
    agent.signal(Signal::TERM).unwrap();
    let ended = agent.wait(STOP).unwrap();
    assert_eq!(ended.code(), Some(0), "{ended}");
    assert!(ended.stderr.contains("told to stop while the sink was waited for"), "{ended}");
    assert!(ended.stderr.contains("stopped drained=true"), "{ended}");
    site.once().unwrap();
    account(&fleet, &written(&logs), &site, &store);
}

/// A store that is down, a buffer that is full, and a log that is only there because the agent holds it open.
#[test]
fn a_dead_store_does_not_hold_up_a_reload_and_deleted_logs_are_not_lost_by_it() {
    let store = Store::start(Keep::Documents).unwrap();
    let setup = Setup::new(&store);
    // Nothing ever answers: a send is under way when the reload comes.
    store.set_faults(Faults { by_chance: vec![(1_000, Fault::Stall(Duration::from_secs(3_600)))], ..Faults::default() });
    let config = |linger| setup.config(1, linger, "[sinks.store.buffer]\nmax_size = \"2MiB\"\n");
    let (fleet, site) = (Fleet::new(37, 2), Site::new(config(20)).unwrap());
    let written = fleet.write(&site.path("pods"), 40_000_000).unwrap();
    let agent = site.start().unwrap();
    until(|| (in_file(&site, "out/all.jsonl") == written.total()).then_some(())).expect("the file gets everything");
    assert!(agent.said().contains("reading goes on without this sink"), "the buffer is full:\n{}", agent.said());
    fs::remove_dir_all(site.path("pods")).unwrap();
    fs::create_dir(site.path("pods")).unwrap();
    for linger in [21, 22] {
        site.configure(config(linger)).unwrap();
        let took = hang_up(&agent, DONE);
        assert!(took < RELOAD, "{took:?}");
    }
    store.set_faults(Faults::default());
    until(|| (store.counts().stored == written.total()).then_some(())).unwrap_or_else(|| {
        panic!("{} of {} arrive:\n{}", store.counts().stored, written.total(), agent.said());
    });
    stop(agent);
    account(&fleet, &written.records, &site, &store);
}

#[test]
fn a_run_to_the_end_and_one_of_the_standard_input_keep_their_configuration() {
    let store = Store::start(Keep::Documents).unwrap();
    store.set_down(true);
    let setup = Setup::new(&store);
    let (fleet, site) = (Fleet::new(38, 1), Site::new(setup.config(1, 20, "")).unwrap());
    let written = fleet.write(&site.path("pods"), 10_000).unwrap();
    let agent = Agent::start(site.root(), &["run", "--once", "-c", "pipeline.toml"]).unwrap();
    until(|| (in_file(&site, "out/all.jsonl") == written.total()).then_some(())).expect("the file gets everything");
    hang_up(&agent, "SIGHUP: ");
    assert_eq!(times(&agent, DONE), 0, "{}", agent.said());
    store.set_down(false);
    agent.wait(STOP).unwrap().expect_success().unwrap();
    account(&fleet, &written.records, &site, &store);
}
