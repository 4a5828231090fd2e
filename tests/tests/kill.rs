//! Kill -9 at random moments, while logs grow and two sinks ship: every record arrives, and none twice.
//!
//! The logs are numbered ([`Fleet`]), partial lines and torn writes included, and a [`Ledger`] accounts for each record at
//! both sinks. Some kills come at any moment, that of the start included, some while it ships, and some in the microseconds
//! after something arrived, when the agent does not know of it yet.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use flate2::read::MultiGzDecoder;
use skidder_tests::agent::{DEADLINE, until};
use skidder_tests::chance::{Chance, seed};
use skidder_tests::generate::{Fleet, Log};
use skidder_tests::ledger::Ledger;
use skidder_tests::site::{Site, files_below};
use skidder_tests::store::{Fault, Faults, Keep, Store};

/// The records of each pod that are there before the first start: a backlog to catch up with.
const BACKLOG: u64 = 2_000;
/// How many records the logs may be ahead of the store: always something to ship, and never more than a slow machine can.
const AHEAD: u64 = 12_000;
const PODS: usize = 4;

/// The simple case: a file that grows, an index for all.
const PLAIN: Sinks = Sinks { index: "logs", files: "" };
/// Groups of bodies that count together, and files that are compressed and renamed.
const SEVERAL: Sinks =
    Sinks { index: "logs-{{ kubernetes.pod_name }}", files: "compression = \"gzip\"\nmax_bytes = 65536\nmax_files = 100" };

#[test]
fn fifty_kills_lose_nothing_and_repeat_nothing() {
    torture(50, &PLAIN, Faults::default());
}

#[test]
fn kills_with_several_destinations_and_files_that_rotate_lose_nothing_and_repeat_nothing() {
    torture(20, &SEVERAL, Faults::default());
}

#[test]
fn kills_and_a_store_that_answers_badly_lose_nothing_and_repeat_nothing() {
    // Above all: stored, and the answer lost.
    let by_chance = vec![(60, Fault::CloseAfter), (20, Fault::CloseBefore), (20, Fault::TruncatedAnswer), (20, Fault::Unavailable)];
    torture(15, &PLAIN, Faults { by_chance, busy_per_mille: 1, ..Faults::default() });
}

/// What may differ in how the sinks are set up.
struct Sinks {
    index: &'static str,
    /// Further options of the `file` sink.
    files: &'static str,
}

fn torture(kills: u32, sinks: &Sinks, faults: Faults) {
    let seed = seed();
    eprintln!("seed {seed}: repeat with SKIDDER_SEED={seed}");
    let fleet = Fleet::new(seed, PODS).split_per_mille(50);
    let store = Store::start(Keep::Documents).unwrap();
    store.set_faults(Faults { seed, ..faults });
    let site = Site::new(config(&store.url(), sinks)).unwrap();
    let mut logs: Vec<Log> = (0..PODS).map(|pod| Log::create(&fleet, &site.path("pods"), pod).unwrap()).collect();
    for log in &mut logs {
        log.append(BACKLOG).unwrap();
        log.flush().unwrap();
    }

    let done = AtomicBool::new(false);
    let written = thread::scope(|scope| {
        let writer = scope.spawn(|| write(logs, &store, &done, Chance::new(seed)));
        let killed = thread::scope(|inner| inner.spawn(|| (0..kills).for_each(|round| kill_once(&site, &store, seed, round))).join());
        done.store(true, Ordering::Relaxed);
        let written = writer.join().unwrap();
        killed.unwrap();
        written
    });
    site.once().unwrap();

    let mut at_store = Ledger::new(&fleet, &written);
    store.documents().iter().for_each(|document| at_store.enter(document));
    let mut in_files = Ledger::new(&fleet, &written);
    for file in files_below(&site.path("out")).unwrap() {
        in_files.enter_lines(&text_of(&file));
    }
    let (counts, total) = (store.counts(), written.iter().sum::<u64>());
    eprintln!("{total} records, {counts:?}");
    let faults = at_store.close();
    assert!(faults.is_none(), "seed {seed}, {total} records, the store: {faults}");
    let faults = in_files.close();
    assert!(faults.is_none(), "seed {seed}, {total} records, the files: {faults}");
    // A repeat is recognised by its id; had it another text, the id would not be that record's alone.
    assert_eq!((counts.stored, counts.changed, counts.refused), (total, 0, 0), "seed {seed}");
}

/// The text of a file, compressed or not.
fn text_of(path: &Path) -> Vec<u8> {
    let bytes = std::fs::read(path).unwrap();
    if !bytes.starts_with(b"\x1f\x8b") {
        return bytes;
    }
    let mut text = Vec::new();
    MultiGzDecoder::new(&*bytes).read_to_end(&mut text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text
}

/// One life of the agent, ended by force at a moment of one of four kinds.
fn kill_once(site: &Site, store: &Store, seed: u64, round: u32) {
    let mut chance = Chance::of(seed, 1, u64::from(round));
    let (stored, in_files) = (store.counts().stored, bytes_out(site));
    let mut agent = site.start().unwrap();
    let moment = match round % 4 {
        // While it starts and recovers, or later.
        0 => {
            thread::sleep(Duration::from_micros(chance.below(200_000)));
            Some(())
        }
        // While it ships.
        1 => {
            let shipping = until(|| (store.counts().stored > stored || !agent.is_running()).then_some(()));
            thread::sleep(Duration::from_micros(chance.below(60_000)));
            shipping
        }
        // As soon as the store has something more: the answer is on its way.
        2 => at_once(|| store.counts().stored > stored || !agent.is_running()),
        // As soon as a file is longer: that it was written is not on disk yet.
        _ => at_once(|| bytes_out(site) > in_files || !agent.is_running()),
    };
    let still_there = agent.is_running();
    let ended = agent.kill().unwrap();
    assert!(moment.is_some(), "seed {seed}, round {round}: nothing arrives; {ended}");
    assert!(still_there && !ended.crashed(), "seed {seed}, round {round}: it ended by itself: {ended}");
}

/// Waits for `happened` without sleeping, so that what comes next comes within microseconds.
fn at_once(mut happened: impl FnMut() -> bool) -> Option<()> {
    let begin = Instant::now();
    while begin.elapsed() < DEADLINE {
        if happened() {
            return Some(());
        }
        std::hint::spin_loop();
    }
    None
}

/// The bytes in the files of the `file` sink.
fn bytes_out(site: &Site) -> u64 {
    let entries = std::fs::read_dir(site.path("out")).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum()
}

/// Lets the logs grow until `done`: a few records here and there, the last line often cut off for a moment. Gives the
/// number of records of each pod.
fn write(mut logs: Vec<Log>, store: &Store, done: &AtomicBool, mut chance: Chance) -> Vec<u64> {
    while !done.load(Ordering::Relaxed) {
        if logs.iter().map(Log::records).sum::<u64>() < store.counts().stored + AHEAD {
            let log = &mut logs[chance.below(PODS as u64) as usize];
            log.append(1 + chance.below(20)).unwrap();
            log.flush_but(chance.below(600) as usize).unwrap();
        }
        thread::sleep(Duration::from_micros(chance.below(5_000)));
    }
    let finish = |log: &mut Log| {
        log.flush().unwrap();
        log.records()
    };
    logs.iter_mut().map(finish).collect()
}

/// Small buffers and batches, so that there are many frames, many answers and many moments to die between them.
fn config(url: &str, sinks: &Sinks) -> String {
    let Sinks { index, files } = sinks;
    format!(
        r#"
data_dir = "state"

[sources.pods]
type = "kubernetes_logs"
root = "pods"

[transforms.parse]
type = "json"
inputs = ["pods"]

[transforms.meta]
type = "enrich"
inputs = ["parse"]
[transforms.meta.fields]
env = "test"
pod_name = "{{{{ kubernetes.pod_name }}}}"
region = "eu-1"

[sinks.archive]
type = "file"
inputs = ["meta"]
path = "out/{{{{ kubernetes.pod_namespace }}}}.jsonl"
{files}
[sinks.archive.batch]
max_bytes = 8192
timeout_secs = 0.02

[sinks.store]
type = "elasticsearch"
inputs = ["meta"]
endpoints = ["{url}"]
mode = "bulk"
index = "{index}"
[sinks.store.batch]
max_bytes = 8192
timeout_secs = 0.02
[sinks.store.request]
retry_initial_backoff_ms = 10
[sinks.store.buffer]
type = "disk"
max_size = 33554432
"#
    )
}
