//! The journal of a real systemd-journald, through the whole agent: kill -9 at random moments while it writes and rotates,
//! and every entry arrives, and none twice.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Map, Value};
use skidder_tests::agent::until;
use skidder_tests::chance::{Chance, seed};
use skidder_tests::journal::Journal;
use skidder_tests::site::Site;
use skidder_tests::store::{Fault, Faults, Keep, Store};

const KILLS: u64 = 25;
/// How many entries journald may be ahead of the store.
const AHEAD: u64 = 5_000;

fn config(journal: &Journal, url: &str) -> String {
    let directory = journal.directory();
    format!(
        r#"
data_dir = "state"
lockdown = "required"
api.address = "127.0.0.1:0"

[sources.journal]
type = "journald"
journal_directory = {directory:?}
include_matches = {{ SYSLOG_IDENTIFIER = ["test"] }}

[sinks.archive]
type = "file"
inputs = ["journal"]
path = "out/all.jsonl"
batch.timeout_secs = 0.02
batch.max_bytes = 8192

[sinks.store]
type = "elasticsearch"
inputs = ["journal"]
endpoints = ["{url}"]
mode = "bulk"
index = "logs"
batch.max_bytes = 8192
batch.timeout_secs = 0.02
request.retry_initial_backoff_ms = 10
"#
    )
}

#[test]
fn kills_while_journald_writes_and_rotates_lose_nothing_and_repeat_nothing() {
    let seed = seed();
    eprintln!("seed {seed}: repeat with SKIDDER_SEED={seed}");
    let journal = Journal::start("SystemMaxFileSize=1M", &[]).unwrap();
    let store = Store::start(Keep::Documents).unwrap();
    store.set_faults(Faults { seed, by_chance: vec![(30, Fault::CloseAfter), (10, Fault::Unavailable)], ..Faults::default() });
    let site = Site::new(config(&journal, &store.url())).unwrap();
    let (done, written) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut chance = Chance::of(seed, 2, 0);
            while !done.load(Ordering::Relaxed) {
                let count = written.load(Ordering::Relaxed);
                if count < store.counts().stored + AHEAD {
                    for number in count..count + 1 + chance.below(200) {
                        journal.say(&format!("entry {number}")).unwrap();
                        written.store(number + 1, Ordering::Relaxed);
                    }
                }
                if chance.below(40) == 0 {
                    journal.rotate().unwrap();
                }
                thread::sleep(Duration::from_micros(chance.below(20_000)));
            }
        });
        let killed = thread::scope(|inner| {
            let kill = || {
                for round in 0..KILLS {
                    let mut chance = Chance::of(seed, 1, round);
                    let stored = store.counts().stored;
                    let mut agent = site.start().unwrap();
                    let shipping =
                        round % 3 == 0 || until(|| (store.counts().stored > stored || !agent.is_running()).then_some(())).is_some();
                    thread::sleep(Duration::from_micros(chance.below(150_000)));
                    let running = agent.is_running();
                    let ended = agent.kill().unwrap();
                    assert!(shipping && running && !ended.crashed(), "seed {seed}, round {round}: {ended}");
                }
            };
            inner.spawn(kill).join()
        });
        done.store(true, Ordering::Relaxed);
        killed.unwrap();
    });
    let written = written.load(Ordering::Relaxed);
    journal.wait_for("SYSLOG_IDENTIFIER=test", usize::try_from(written).unwrap()).unwrap();
    site.once().unwrap();
    eprintln!("{written} entries in {} journals, {:?}", journal.files().len(), store.counts());
    assert!(journal.files().len() > 2, "it never rotated");
    let documents: Vec<Map<String, Value>> = store.documents().iter().map(|document| serde_json::from_slice(document).unwrap()).collect();
    for (place, records) in [("the store", documents), ("the file", site.records("out/all.jsonl").unwrap())] {
        let mut times = BTreeMap::<u64, u32>::new();
        for record in &records {
            let number = record["message"].as_str().unwrap().strip_prefix("entry ").unwrap().parse().unwrap();
            *times.entry(number).or_default() += 1;
        }
        let lost: Vec<u64> = (0..written).filter(|number| !times.contains_key(number)).take(5).collect();
        let twice: Vec<_> = times.iter().filter(|(_, times)| **times > 1).take(5).collect();
        assert!(lost.is_empty() && twice.is_empty(), "seed {seed}, {place}: lost {lost:?}, twice {twice:?}, of {written}");
    }
    let counts = store.counts();
    assert_eq!((counts.stored, counts.changed, counts.refused), (written, 0, 0), "seed {seed}");
}

/// A store that is down does not hold up the file, and gets all of it later, though journald has removed journals meanwhile.
#[test]
fn journals_that_are_removed_are_held_for_a_store_that_is_down() {
    let journal = Journal::start("", &[]).unwrap();
    let store = Store::start(Keep::Documents).unwrap();
    store.set_down(true);
    let small = config(&journal, &store.url()) + "buffer.type = \"disk\"\nbuffer.max_size = \"1MiB\"\n";
    let site = Site::new(small).unwrap();
    let agent = site.start().unwrap();
    let padding = "some text that makes entries longer ".repeat(20);
    let say = |number: u32| {
        // Text that does not compress to nothing.
        let mut chance = Chance::of(7, 7, u64::from(number));
        let noise: String = (0..40).map(|_| format!("{:016x}", chance.next())).collect();
        journal.say(&format!("entry {number} {noise} {padding}")).unwrap();
    };
    (0..4_000).for_each(say);
    journal.wait_for("SYSLOG_IDENTIFIER=test", 4_000).unwrap();
    let in_file = |count: usize| until(|| (site.records("out/all.jsonl").is_ok_and(|records| records.len() == count)).then_some(()));
    in_file(4_000).expect("the file gets all of it while the store is down");
    // All its threads are locked in by then (proc_pid_status(5)).
    let tasks = format!("/proc/{}/task", agent.pid().unwrap().as_raw_nonzero());
    for task in std::fs::read_dir(tasks).unwrap() {
        let status = std::fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        assert!(status.contains("NoNewPrivs:\t1") && status.contains("Seccomp:\t2"), "{status}");
    }
    // The store's buffer is full by now: what is beyond is in journals only, and journald removes one.
    journal.rotate().unwrap();
    let archived = journal.files().into_iter().find(|path| path.to_string_lossy().contains('@')).unwrap();
    std::fs::remove_file(archived).unwrap();
    (4_000..4_010).for_each(say);
    in_file(4_010).expect("the file gets the next journal too");
    store.set_down(false);
    until(|| (store.counts().stored == 4_010).then_some(())).unwrap_or_else(|| panic!("{:?}", store.counts()));
    drop(agent);
}

/// What the Debian package brings ships the journal, with what `redact` takes out gone.
#[test]
fn the_configuration_of_the_package_reads_the_journal() {
    let journal = Journal::start("", &[]).unwrap();
    journal
        .send(&[
            ("MESSAGE", b"login of anna.lindqvist@example.org"),
            ("PRIORITY", b"4"),
            ("SYSLOG_IDENTIFIER", b"test"),
            ("USER_MAIL", b"anna.lindqvist@example.org"),
        ])
        .unwrap();
    journal.wait_for("SYSLOG_IDENTIFIER=test", 1).unwrap();
    let text = std::fs::read_to_string(skidder_tests::workspace::root().join("packaging/debian/skidder.toml")).unwrap();
    let source = "[sources.system]\ntype = \"journald\"\n";
    assert!(text.contains(source) && text.contains("type = \"blackhole\""));
    let directory =
        format!("{source}journal_directory = {:?}\ninclude_matches = {{ SYSLOG_IDENTIFIER = [\"test\"] }}\n", journal.directory());
    let text = text.replace(source, &directory).replace("type = \"blackhole\"", "type = \"file\"\npath = \"out.jsonl\"");
    let site = Site::new(text.replace("/var/lib/skidder", "state")).unwrap();
    site.once().unwrap();
    let records = site.records("out.jsonl").unwrap();
    assert_eq!(records.len(), 1);
    let record = &records[0];
    assert_eq!((&record["level"], &record["identifier"], &record["env"]), (&"warning".into(), &"test".into(), &"unknown".into()));
    assert!(!String::from_utf8_lossy(&site.read("out.jsonl")).contains("anna.lindqvist"), "{record:?}");
    assert!(record["journald"]["USER_MAIL"].is_string());
}
