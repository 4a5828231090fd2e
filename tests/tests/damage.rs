//! Damage to what waits, with its source gone: what was damaged is lost, to the frame, and is said to the record and the
//! byte; everything else arrives.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use skidder_tests::agent::{Agent, until};
use skidder_tests::chance::{Chance, seed};
use skidder_tests::client;
use skidder_tests::site::{Site, files_below};
use skidder_tests::store::{Keep, Store, dead_url};

const LINES: u64 = 60_000;

/// Frames without compression, so that the test can read what is in each of them.
fn config(store: &str, api: &str) -> String {
    format!(
        r#"data_dir = "state"
[api]
address = "{api}"
[sources.app]
type = "file"
include = ["logs/*.log"]
[sinks.store]
type = "elasticsearch"
inputs = ["app"]
endpoints = ["{store}"]
index = "logs"
compression = "none"
request.retry_max_duration_secs = 1
batch.max_bytes = 65536
batch.linger_ms = 20
buffer.max_size = "64MiB"
"#
    )
}

/// A frame in a segment, as the table of its format says (`pipeline/src/buffer/format.rs`).
struct Frame {
    path: PathBuf,
    all: Range<usize>,
    body: Range<usize>,
    records: u32,
    lines: BTreeSet<u64>,
}

fn frames(state: &Path) -> Vec<Frame> {
    let mut frames = Vec::new();
    for path in files_below(state).unwrap().into_iter().filter(|path| path.extension().is_some_and(|end| end == "seg")) {
        let bytes = std::fs::read(&path).unwrap();
        let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        let mut at = 64;
        while bytes.get(at..at + 4) == Some(b"SKFR") {
            let body = at + number(at + 4)..at + number(at + 4) + number(at + 56);
            let end = body.end.next_multiple_of(8);
            let text = String::from_utf8_lossy(&bytes[body.clone()]).into_owned();
            let lines = text.split("line ").skip(1).map(|rest| rest[..8].parse().unwrap()).collect();
            frames.push(Frame { path: path.clone(), all: at..end, body, records: number(at + 12) as u32, lines });
            at = end;
        }
        assert_eq!(at, bytes.len(), "frames up to the end of {}", path.display());
    }
    frames
}

fn flip(path: &Path, at: usize, bit: u64) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 1 << bit;
    std::fs::write(path, bytes).unwrap();
}

fn metric(api: &str, line: &str) -> Option<u64> {
    let text = client::request("GET", api, "/metrics", &[], b"").ok()?.text();
    let value = text.lines().find_map(|found| found.strip_prefix(line))?;
    value.trim().parse::<f64>().ok().map(|value| value as u64)
}

fn stop(agent: Agent) -> String {
    agent.signal(Signal::TERM).unwrap();
    agent.wait(Duration::from_secs(60)).unwrap().expect_success().unwrap().stderr
}

#[test]
fn what_is_damaged_is_lost_and_counted_and_the_rest_arrives() {
    let seed = seed();
    let mut chance = Chance::new(seed);
    let api = dead_url().unwrap();
    let address = api.trim_start_matches("http://");
    let site = Site::new(config(&dead_url().unwrap(), address)).unwrap();
    let lines: String = (0..LINES).map(|n| format!("line {n:08} {}\n", "x".repeat(100))).collect();
    site.append("logs/a.log", &lines).unwrap();
    let agent = site.start().unwrap();
    let waiting = "skidder_buffer_size_events{component_id=\"store\",component_kind=\"sink\",component_type=\"elasticsearch\"} ";
    until(|| (metric(&api, waiting) == Some(LINES)).then_some(())).expect("all of it waits");
    agent.kill().unwrap();
    std::fs::remove_dir_all(site.path("logs")).unwrap();
    std::fs::create_dir(site.path("logs")).unwrap();

    let all = frames(&site.path("state"));
    let held: u64 = all.iter().map(|frame| frame.lines.len() as u64).sum();
    assert!(all.len() > 15 && held == LINES, "{} frames with {held} lines", all.len());
    // But the last, which nobody can tell from a write that never finished: it is cut (docs/promise.md).
    let mut damaged = BTreeSet::new();
    while damaged.len() < 4 {
        damaged.insert(chance.below(all.len() as u64 - 1) as usize);
    }
    for index in &damaged {
        let body = &all[*index].body;
        flip(&all[*index].path, body.start + chance.below(body.len() as u64) as usize, chance.below(8));
    }
    let gone: BTreeSet<u64> = damaged.iter().flat_map(|index| all[*index].lines.iter().copied()).collect();
    let gone_bytes: u64 = damaged.iter().map(|index| all[*index].all.len() as u64).sum();
    let gone_records: u64 = damaged.iter().map(|index| u64::from(all[*index].records)).sum();
    assert_eq!(gone.len() as u64, gone_records);

    let store = Store::start(Keep::Documents).unwrap();
    std::fs::write(site.path("pipeline.toml"), config(&store.url(), address)).unwrap();
    let agent = site.start().unwrap();
    until(|| (store.counts().stored >= LINES - gone_records && metric(&api, waiting) == Some(0)).then_some(())).expect("the rest arrives");
    let about = "component_id=\"store\",component_kind=\"sink\",component_type=\"elasticsearch\"";
    let lost = format!("skidder_component_discarded_events_total{{{about},intentional=\"false\",reason=\"buffer_damaged\"}} ");
    assert_eq!(metric(&api, &lost), Some(gone_records), "seed {seed}");
    assert_eq!(metric(&api, &format!("skidder_buffer_quarantined_frames_total{{{about}}} ")), Some(4), "seed {seed}");
    let said = stop(agent);

    let arrived: BTreeSet<u64> = store
        .documents()
        .iter()
        .map(|document| {
            let text = String::from_utf8_lossy(document);
            text[text.find("line ").unwrap() + 5..][..8].parse().unwrap()
        })
        .collect();
    let missing: BTreeSet<u64> = (0..LINES).filter(|line| !arrived.contains(line)).collect();
    assert_eq!(missing, gone, "seed {seed}: exactly what was in the damaged frames");
    assert_eq!((store.counts().stored, store.counts().repeats), (LINES - gone_records, 0));
    let kept: u64 = files_below(&site.path("state/sink-store/quarantine")).unwrap().iter().map(|file| file.metadata().unwrap().len()).sum();
    assert_eq!(kept, gone_bytes, "the quarantine has the damaged frames, byte for byte");
    let bytes: u64 = said
        .split("put aside")
        .skip(1)
        .filter_map(|rest| rest.split_once("bytes=")?.1.split_whitespace().next()?.parse::<u64>().ok())
        .sum();
    assert_eq!(bytes, gone_bytes, "{said}");
}
