//! The `file` sink over the real buffer and delivery, killed at random moments.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use skidder_pipeline::body::Bodies;
use skidder_pipeline::buffer::{Appended, BufferOptions, SinkBuffer};
use skidder_pipeline::delivery::{Bury, Delivery, control, dead_letters::Letter};
use skidder_pipeline::edge::{Chance, Clock, SplitMix, SystemClock};
use skidder_pipeline::frame::{FrameScope, freeze};
use skidder_pipeline::fs::RealFs;
use skidder_pipeline::position::{FileKey, Range};
use skidder_pipeline::queue::Queue;
use skidder_sinks::{SinkConfig, SinkContext, SinkParts};

struct NoLetters;

impl Bury for NoLetters {
    fn bury(&mut self, _: &[Letter]) -> std::io::Result<()> {
        panic!("a file refuses nothing")
    }
}

const FILE: FileKey = FileKey([9; 16]);
const RECORDS: u64 = 3000;

fn file_sink(dir: &Path) -> SinkParts {
    let table = serde_json::json!({
        "type": "file", "path": dir.join("out/{{ p }}.log"), "max_bytes": 20_000, "max_files": 90, "compression": "gzip",
    });
    let config: SinkConfig = serde_json::from_value(table).unwrap();
    config.build(&SinkContext { name: "file".into(), state_dir: Some(dir.join("state")), ..SinkContext::default() }).unwrap()
}

/// One life of the agent: goes on where the buffer says, until it is killed or all is written. Says whether all is.
async fn life(dir: &Path, mood: &mut SplitMix, last: bool) -> bool {
    let parts = file_sink(dir);
    let clock = Arc::new(SystemClock::new());
    let options = BufferOptions {
        disk: parts.buffer.disk,
        dir: dir.join("state"),
        max_bytes: parts.buffer.max_bytes,
        when_full: parts.buffer.when_full,
        sync_after: parts.buffer.sync_after,
        strict: false,
        min_free_bytes: Some(0),
        memory_bytes: 1 << 20,
    };
    let (buffer, recovered) = SinkBuffer::open(Arc::new(RealFs), options, [1; 16], clock.now());
    parts.transport.recover(&recovered.notes).unwrap();
    let queue = Arc::new(Queue::new(buffer, Arc::new(|| ()), Arc::default(), clock.now()));
    let (control, signal) = control();
    let delivery = Delivery {
        name: "file".into(),
        sink: parts.sink,
        transport: parts.transport,
        queue: queue.clone(),
        dead_letters: Box::new(NoLetters),
        options: parts.delivery,
        clock: clock.clone(),
        chance: Box::new(mood.clone()),
    };
    let running = tokio::spawn(delivery.run(signal));
    let upkeep = tokio::spawn(queue.clone().upkeep(clock.clone()));

    let mut scope = FrameScope::new([1; 16], "file".into(), [0; 16]);
    let mut bodies = Bodies::new(parts.compression, parts.limits);
    let mut at = queue.held(&FILE).map_or(0, |held| held.low_mark());
    let kill_at = at + if last { RECORDS } else { (mood.fraction() * 600.0) as u64 };
    while at < RECORDS && at < kill_at {
        let count = 1 + (mood.fraction() * 40.0) as u64;
        let end = (at + count).min(RECORDS);
        for n in at..end {
            bodies.write(["a.log", "b/b.log", "c.log"][(n % 3) as usize], format!("{n}\n").as_bytes(), 1);
        }
        let mut group = freeze(&mut bodies, vec![Range { file: FILE, start: at, end, marker: 0 }], &mut scope);
        while let Appended::Full(back) = queue.append(group, clock.now()) {
            group = back;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        at = end;
        if mood.fraction() < 0.3 {
            tokio::time::sleep(Duration::from_micros((mood.fraction() * 2000.0) as u64)).await;
        }
    }
    upkeep.abort();
    if last {
        control.drain(None);
        return running.await.unwrap().drained;
    }
    // As a kill does it: nothing is put back, nothing synced.
    running.abort();
    let _ = running.await;
    false
}

#[test]
fn killed_at_any_moment_every_record_is_in_its_file_once() {
    for seed in 0..8 {
        let dir = tempfile::tempdir().unwrap();
        let mut mood = SplitMix(seed);
        for _ in 0..12 {
            // Its end waits for a write under way: that the write of a frame is whole or none is what `recover` is tested for.
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(life(dir.path(), &mut mood, false));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        assert!(runtime.block_on(life(dir.path(), &mut mood, true)));
        let seen = records(dir.path());
        let lost = (0..RECORDS).filter(|n| !seen.contains_key(n)).count();
        let twice = seen.values().filter(|count| **count > 1).count();
        assert_eq!((lost, twice), (0, 0), "seed {seed}");

        // Notes that are lost cost what the last group began and nothing else: no file is emptied for want of a note.
        file_sink(dir.path()).transport.recover(&[]).unwrap();
        assert!(records(dir.path()).len() as u64 >= RECORDS - 41, "seed {seed}");
    }
}

/// The records in all files, and how often each is there.
fn records(dir: &Path) -> BTreeMap<u64, u32> {
    let mut seen = BTreeMap::new();
    for path in walk(&dir.join("out")) {
        let mut text = String::new();
        let bytes = std::fs::read(path).unwrap();
        if !bytes.is_empty() {
            flate2::read::MultiGzDecoder::new(&*bytes).read_to_string(&mut text).unwrap();
        }
        text.lines().for_each(|line| *seen.entry(line.parse().unwrap()).or_default() += 1);
    }
    seen
}

fn walk(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { all.extend(walk(&path)) } else { all.push(path) }
    }
    all
}
