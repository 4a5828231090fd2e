//! The limits hold while every store is down, and logs grow: that of the memory, and those of the buffers on disk.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

use std::time::{Duration, Instant};

use skidder_tests::agent::DEADLINE;
use skidder_tests::generate::{Fleet, Log};
use skidder_tests::site::Site;
use skidder_tests::store::dead_url;

const LIMIT_MIB: u64 = 64;
const PODS: usize = 4;

/// What each buffer may take, and what it does then.
const BUFFERS: [(u64, &str); 3] = [(3 << 20, "block"), (3 << 20, "drop_oldest"), (64 << 20, "block")];
/// What it may take beyond: a segment of the least size, or a sixteenth of it.
const SEGMENT_BYTES: [u64; 3] = [1 << 20, 1 << 20, 4 << 20];

/// How long the logs grow at least: several times what the sinks may hold in memory goes by.
const GROWS: Duration = Duration::from_secs(6);

#[test]
fn the_limit_holds_while_every_store_is_down() {
    let dead = dead_url().unwrap();
    let sinks: String = (0..3)
        .map(|n| {
            let (max_size, when_full) = BUFFERS[n];
            // What is not compressed weighs most.
            let compression = ["gzip", "gzip", "none"][n];
            format!(
                "[sinks.store{n}]\ntype = \"elasticsearch\"\ninputs = [\"parse\"]\nendpoints = [\"{dead}\"]\nindex = \"logs\"\n\
                 compression = \"{compression}\"\nbuffer.max_size = {max_size}\nbuffer.when_full = \"{when_full}\"\n"
            )
        })
        .collect();
    let site = Site::new(format!(
        "data_dir = \"state\"\nmemory_limit = \"{LIMIT_MIB}MiB\"\n[api]\nenabled = false\n\
         [sources.pods]\ntype = \"kubernetes_logs\"\nroot = \"pods\"\n\
         [transforms.parse]\ntype = \"json\"\ninputs = [\"pods\"]\n{sinks}"
    ))
    .unwrap();
    let fleet = Fleet::new(5, PODS);
    let mut logs: Vec<Log> = (0..PODS).map(|pod| Log::create(&fleet, &site.path("pods"), pod).unwrap()).collect();
    let agent = site.start().unwrap();
    let pid = agent.pid().unwrap().as_raw_nonzero();
    // All buffers have something, so that the limit is under pressure.
    let is_pressed = || buffered(&site, 0) >= BUFFERS[0].0 && buffered(&site, 2) > 4 << 20;
    let begin = Instant::now();
    while begin.elapsed() < GROWS || !is_pressed() {
        assert!(begin.elapsed() < DEADLINE, "the buffers do not fill");
        for log in &mut logs {
            log.append(5_000).unwrap();
            log.flush().unwrap();
        }
        for (n, (max_size, _)) in BUFFERS.iter().enumerate() {
            let taken = buffered(&site, n);
            assert!(taken <= max_size + SEGMENT_BYTES[n], "the buffer of store{n} took {taken} of {max_size} bytes");
        }
    }
    let peak = peak_mib(pid).unwrap();
    let written: u64 = logs.iter().map(Log::records).sum();
    eprintln!(
        "peak {peak} MiB of {LIMIT_MIB} with {written} records and {} MiB on disk",
        (0..3).map(|n| buffered(&site, n)).sum::<u64>() >> 20
    );
    agent.kill().unwrap();
    assert!(peak < LIMIT_MIB, "{peak} MiB");
}

/// The bytes of a sink's segments.
fn buffered(site: &Site, sink: usize) -> u64 {
    let entries = std::fs::read_dir(site.path(&format!("state/sink-store{sink}"))).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.path().extension().is_some_and(|end| end == "seg"))
        .filter_map(|entry| Some(entry.metadata().ok()?.len()))
        .sum()
}

/// The most memory that the process ever had in use (`VmHWM`, proc(5)).
fn peak_mib(pid: impl std::fmt::Display) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()? >> 10)
}
