//! What an operator does to a running agent: look at its counts, send refused records again.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use rustix::process::Signal;
use skidder_tests::agent::{Agent, Ended, until};
use skidder_tests::site::Site;
use skidder_tests::store::{Faults, Keep, Store, dead_url};

fn config(store: &str, more: &str) -> String {
    format!(
        "data_dir = \"state\"\n{more}\n[sources.app]\ntype = \"file\"\ninclude = [\"logs/*.log\"]\n\
         [sinks.store]\ntype = \"elasticsearch\"\ninputs = [\"app\"]\nendpoints = [\"{store}\"]\nindex = \"logs\"\n\
         batch.linger_ms = 20\n"
    )
}

fn dlq(site: &Site, args: &[&str]) -> Ended {
    Agent::run(site.root(), &[&["dlq"], args, &["-c", "pipeline.toml"]].concat()).unwrap()
}

fn said(ended: &Ended) -> String {
    String::from_utf8_lossy(&ended.stdout).into_owned()
}

#[test]
fn refused_records_are_listed_shown_and_sent_again() {
    let store = Store::start(Keep::Documents).unwrap();
    let refuse = || Faults { refuse: Some(b"bad".to_vec()), ..Faults::default() };
    store.set_faults(refuse());
    let site = Site::new(config(&store.url(), "[api]\nenabled = false")).unwrap();
    let lines: String = (0..1000).map(|n| format!("line {n} {}\n", if n % 4 == 0 { "bad" } else { "good" })).collect();
    site.append("logs/a.log", &lines).unwrap();
    let ended = site.once_with(&[]).unwrap();
    assert_eq!((ended.code(), store.counts().stored), (Some(1), 750), "{ended}");

    assert!(said(&dlq(&site, &["ls"])).starts_with("store: 250 dead letters"), "{}", said(&dlq(&site, &["ls"])));
    let shown = said(&dlq(&site, &["show", "--limit", "3"]));
    assert_eq!(shown.matches("(logs): 400 ").count(), 3, "{shown}");
    assert!(shown.contains("line 996 bad"), "{shown}");
    assert!(!dlq(&site, &["ls", "--sink", "stroe"]).status.success());

    // The store is the same: they are refused again and stay.
    let again = dlq(&site, &["replay"]);
    assert_eq!(again.code(), Some(1), "{again}");
    assert!(said(&again).contains("store: 0 delivered (0 of them were there already), 250 refused again, 250 stay"), "{}", said(&again));

    // It is down: nothing is lost by giving up.
    store.set_down(true);
    let in_vain = dlq(&site, &["replay", "--timeout", "0.3"]);
    assert!(in_vain.code() == Some(1) && said(&in_vain).contains("250 stay"), "{in_vain}");
    store.set_down(false);

    store.set_faults(Faults::default());
    let delivered = dlq(&site, &["replay", "--sink", "store"]).expect_success().unwrap();
    assert!(said(&delivered).contains("250 delivered (0 of them were there already), 0 refused again, 0 stay"), "{}", said(&delivered));
    let counts = store.counts();
    assert_eq!((counts.stored, counts.repeats), (1000, 0));
    let text: Vec<String> = store.documents().iter().map(|document| String::from_utf8_lossy(document).into_owned()).collect();
    for n in 0..1000 {
        assert_eq!(text.iter().filter(|text| text.contains(&format!("\"line {n} "))).count(), 1, "line {n}");
    }
    assert_eq!(said(&dlq(&site, &["ls"])), "no dead letters\n");
}

#[test]
fn letters_that_come_while_the_agent_runs_can_be_taken_away() {
    let store = Store::start(Keep::Documents).unwrap();
    store.set_faults(Faults { refuse: Some(b"bad".to_vec()), ..Faults::default() });
    let site = Site::new(config(&store.url(), "[api]\nenabled = false")).unwrap();
    site.append("logs/a.log", "bad 0\n").unwrap();
    let agent = site.start().unwrap();
    for round in 1..4 {
        until(|| (said(&dlq(&site, &["ls"])).starts_with("store: 1 dead letters")).then_some(())).expect("a letter");
        assert!(said(&dlq(&site, &["purge", "--all"])).contains("store: 1 dead letters thrown away"));
        site.append("logs/a.log", format!("bad {round}\n")).unwrap();
    }
    until(|| said(&dlq(&site, &["show", "--json"])).contains("bad 3").then_some(())).expect("the last letter");
    agent.signal(Signal::TERM).unwrap();
    agent.wait(Duration::from_secs(30)).unwrap().expect_success().unwrap();
}

/// The answer to a GET, status line and all.
fn get(address: &str, path: &str) -> Option<String> {
    let mut connection = TcpStream::connect(address).ok()?;
    connection.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).ok()?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).ok()?;
    Some(answer)
}

#[test]
fn counts_and_readiness_are_served_and_a_taken_port_is_no_reason_to_fail() {
    let store = Store::start(Keep::Documents).unwrap();
    let address = dead_url().unwrap().trim_start_matches("http://").to_owned();
    let site = Site::new(config(&store.url(), &format!("[api]\naddress = \"{address}\""))).unwrap();
    site.append("logs/a.log", "one\ntwo\n").unwrap();
    let agent = site.start().unwrap();
    let count = r#"skidder_component_sent_events_total{component_id="store",component_kind="sink",component_type="elasticsearch"} 2"#;
    until(|| get(&address, "/metrics").filter(|text| text.contains(count))).expect("the count of what was delivered");
    assert!(get(&address, "/ready").is_some_and(|answer| answer.starts_with("HTTP/1.1 200")));

    let second = Site::new(config(&store.url(), &format!("[api]\naddress = \"{address}\""))).unwrap();
    second.append("logs/a.log", "three\n").unwrap();
    let beside = second.start().unwrap();
    until(|| (store.counts().stored == 3).then_some(())).expect("it ships without an endpoint");
    for agent in [agent, beside] {
        agent.signal(Signal::TERM).unwrap();
        agent.wait(Duration::from_secs(30)).unwrap().expect_success().unwrap();
    }
}

#[test]
fn what_waits_can_be_looked_at_and_given_to_another_sink() {
    let store = Store::start(Keep::Documents).unwrap();
    let site = Site::new(config(&dead_url().unwrap(), "[api]\nenabled = false")).unwrap();
    let lines: String = (0..500).map(|n| format!("line {n}\n")).collect();
    site.append("logs/a.log", &lines).unwrap();
    let ended = site.once_with(&["--timeout", "1"]).unwrap();
    assert_eq!(ended.code(), Some(1), "{ended}");
    let buffer = |args: &[&str]| Agent::run(site.root(), &[&["buffer"], args, &["-c", "pipeline.toml"]].concat()).unwrap();

    let listed = said(&buffer(&["ls"]));
    assert!(listed.starts_with("store: 500 records wait in "), "{listed}");
    assert!(said(&buffer(&["verify"])).starts_with("store: ok; "));
    let exported = said(&buffer(&["export", "store"]).expect_success().unwrap());
    assert_eq!(exported.lines().count(), 500);
    assert!(exported.lines().all(|line| line.starts_with("{") && line.contains("\"line ")), "{exported}");
    assert_eq!(said(&buffer(&["export", "store", "--raw"])).lines().count(), 1000, "two lines of `_bulk` each");
    assert!(!buffer(&["drop", "store"]).status.success(), "what is in the configuration is not dropped");

    // The sink is renamed, and its log is gone: the buffer alone has the records.
    let renamed = config(&store.url(), "[api]\nenabled = false").replace("[sinks.store]", "[sinks.search]");
    std::fs::write(site.path("pipeline.toml"), renamed).unwrap();
    std::fs::remove_file(site.path("logs/a.log")).unwrap();
    assert!(said(&buffer(&["ls"])).contains("(not in the configuration)"));
    assert!(!buffer(&["export", "store"]).status.success());
    buffer(&["adopt", "store", "search"]).expect_success().unwrap();
    site.once().unwrap();
    assert_eq!((store.counts().stored, store.counts().repeats), (500, 0));

    // A buffer of nobody is warned of, and can be dropped.
    let orphan = site.path("state/sink-old");
    std::fs::rename(site.path("state/sink-search"), &orphan).unwrap();
    let warned = site.once_with(&[]).unwrap();
    assert!(warned.stderr.contains("belongs to a sink that is not in the configuration"), "{warned}");
    assert!(said(&buffer(&["drop", "old"])).contains("is gone"));
    assert!(!orphan.exists());
}

#[test]
fn a_sink_that_had_begun_under_its_new_name_still_gets_what_waits_under_the_old_one() {
    let store = Store::start(Keep::Documents).unwrap();
    let beside = "[api]\nenabled = false\n[sinks.files]\ntype = \"file\"\ninputs = [\"app\"]\npath = \"out/all.jsonl\"\n";
    let (down, renamed) = (config(&dead_url().unwrap(), beside), |text: String| text.replace("[sinks.store]", "[sinks.search]"));
    let site = Site::new(&down).unwrap();
    let lines = |from: u32, to: u32| (from..to).map(|n| format!("line {n}\n")).collect::<String>();
    site.append("logs/a.log", lines(0, 500)).unwrap();
    assert_eq!(site.once_with(&["--timeout", "1"]).unwrap().code(), Some(1));

    // The new name begins where the other sink is.
    std::fs::write(site.path("pipeline.toml"), renamed(down)).unwrap();
    site.append("logs/a.log", lines(500, 600)).unwrap();
    assert_eq!(site.once_with(&["--timeout", "1"]).unwrap().code(), Some(1));
    std::fs::remove_file(site.path("logs/a.log")).unwrap();
    let buffer = |args: &[&str]| Agent::run(site.root(), &[&["buffer"], args, &["-c", "pipeline.toml"]].concat()).unwrap();
    let listed = said(&buffer(&["ls"]));
    assert!(listed.contains("search: 100 records wait") && listed.contains("store: 500 records wait"), "{listed}");

    let adopted = buffer(&["adopt", "store", "search"]).expect_success().unwrap();
    assert!(said(&adopted).contains("with 500 records"), "{}", said(&adopted));
    let listed = said(&buffer(&["ls"]));
    assert!(listed.contains("search: 600 records wait") && !listed.contains("store:"), "{listed}");
    std::fs::write(site.path("pipeline.toml"), renamed(config(&store.url(), beside))).unwrap();
    site.once().unwrap();
    assert_eq!((store.counts().stored, store.counts().repeats), (600, 0));
}

#[test]
fn the_only_sink_goes_on_under_a_new_name_where_it_stopped_unless_it_asks_for_the_beginning() {
    let store = Store::start(Keep::Documents).unwrap();
    let (down, up) = (config(&dead_url().unwrap(), "[api]\nenabled = false"), config(&store.url(), "[api]\nenabled = false"));
    let site = Site::new(&up).unwrap();
    let lines = |from: u32, to: u32| (from..to).map(|n| format!("line {n}\n")).collect::<String>();
    site.append("logs/a.log", lines(0, 100)).unwrap();
    site.once().unwrap();
    // Some of what it has read waits, and some it has not read.
    std::fs::write(site.path("pipeline.toml"), down).unwrap();
    site.append("logs/a.log", lines(100, 300)).unwrap();
    assert_eq!(site.once_with(&["--timeout", "1"]).unwrap().code(), Some(1));
    site.append("logs/a.log", lines(300, 350)).unwrap();

    let under = |name: &str, more: &str| {
        let text = up.replace("[sinks.store]", &format!("[sinks.{name}]")) + more;
        std::fs::write(site.path("pipeline.toml"), text).unwrap();
        site.once_with(&[]).unwrap().expect_success().unwrap()
    };
    let ended = under("search", "");
    assert_eq!((store.counts().stored, store.counts().repeats), (150, 0), "{ended}");
    assert_eq!(ended.stderr.matches("reading goes on where they stopped").count(), 1, "{ended}");
    assert!(ended.stderr.contains("sinks=\"store\"") && ended.stderr.contains("skidder buffer adopt"), "{ended}");
    // From now on it stands for itself.
    assert!(!under("search", "").stderr.contains("reading goes on where they stopped"));
    Agent::run(site.root(), &["buffer", "adopt", "store", "search", "-c", "pipeline.toml"]).unwrap().expect_success().unwrap();
    under("search", "");
    assert_eq!((store.counts().stored, store.counts().repeats), (350, 0));

    // One that wants everything gets it; the ids are the same.
    under("everything", "start_from = \"beginning\"\n");
    assert_eq!((store.counts().stored, store.counts().repeats), (350, 350));
}

#[test]
fn a_sink_that_is_new_beside_others_starts_where_they_are_or_from_the_beginning() {
    let site = Site::new("").unwrap();
    let sink = |name: &str, more: &str| format!("[sinks.{name}]\ntype = \"file\"\ninputs = [\"app\"]\npath = \"out/{name}\"\n{more}");
    let source = "data_dir = \"state\"\n[api]\nenabled = false\n[sources.app]\ntype = \"file\"\ninclude = [\"logs/*.log\"]\n";
    let run = |sinks: &[String]| {
        std::fs::write(site.path("pipeline.toml"), [&[source.to_owned()], sinks].concat().concat()).unwrap();
        site.once().unwrap();
    };
    let first = sink("first", "");
    site.append("logs/a.log", "one\n").unwrap();
    run(std::slice::from_ref(&first));
    site.append("logs/a.log", "two\n").unwrap();
    run(&[first, sink("second", ""), sink("third", "start_from = \"beginning\"\n")]);
    let got = |name: &str| {
        let text = std::fs::read_to_string(site.path(&format!("out/{name}"))).unwrap();
        let records = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        records.map(|record| record["message"].as_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!([got("first"), got("second"), got("third")], ["one two", "two", "one two"]);
}

#[test]
fn a_second_agent_waits_for_the_first_and_says_which_it_is() {
    let store = Store::start(Keep::Documents).unwrap();
    let site = Site::new(config(&store.url(), "[api]\nenabled = false")).unwrap();
    site.append("logs/a.log", "one\n").unwrap();
    let first = site.start().unwrap();
    until(|| (store.counts().stored == 1).then_some(())).expect("the first ships");
    let holder = first.pid().unwrap().as_raw_nonzero().to_string();
    let second = site.start().unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    site.append("logs/a.log", "two\n").unwrap();
    until(|| (store.counts().stored == 2).then_some(())).expect("the first ships on");
    let killed = first.kill().unwrap();
    assert!(killed.was_killed());
    site.append("logs/a.log", "three\n").unwrap();
    until(|| (store.counts().stored == 3).then_some(())).expect("the second takes over");
    second.signal(Signal::TERM).unwrap();
    let ended = second.wait(Duration::from_secs(30)).unwrap().expect_success().unwrap();
    assert!(ended.stderr.contains("another agent holds the state directory") && ended.stderr.contains(&holder), "{ended}");
    // What was delivered when the first was killed may not have been put down yet: sent again, and known by its id.
    assert_eq!(store.counts().stored, 3);
}
