//! What an outage costs: a buffer of 1 GiB that fills while every store is down, the start after a kill, and the catching up.
//!
//! The agent keeps to one core; writer, store and harness keep to another.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use skidder_tests::agent::{self, Agent};
use skidder_tests::generate::{Fleet, Log};
use skidder_tests::measure::{Pinned, peak_rss};
use skidder_tests::site::files_below;
use skidder_tests::store::{Keep, Store, dead_url};

use crate::say;
use crate::scale::Cores;

/// What the buffer may take, and its segments: a sixteenth of it, 16 MiB at the most.
const BUFFER_BYTES: u64 = 1 << 30;
const SEGMENT_BYTES: u64 = 16 << 20;
/// More log text than fits in: a line of it is a little longer in the buffer.
const LOG_BYTES: u64 = 1300 << 20;
/// The default of `memory_limit`.
const MEMORY_LIMIT_BYTES: u64 = 64 << 20;
/// How fast logs grow while the agent catches up, in records a second (of some 400 bytes).
const INPUT_PER_SECOND: u64 = 20_000;
const LIMIT: Duration = Duration::from_secs(300);
const MIB: f64 = (1 << 20) as f64;

/// Measures, and gives the table; fails where a bound is broken.
pub fn run(binary: &Path, directory: &Path, cores: Cores) -> anyhow::Result<String> {
    let _pinned = Pinned::to(cores.others)?;
    let bench = Bench { binary, site: directory.join("backlog"), cores };
    let _ = fs::remove_dir_all(&bench.site);
    say("writing logs …");
    let fleet = Fleet::new(2, 8);
    fleet.write(&bench.site.join("pods"), LOG_BYTES)?;
    say("filling a buffer of 1 GiB while every store is down …");
    let filled = bench.fill()?;
    say("starting on it …");
    let caught_up = bench.catch_up()?;
    let _ = fs::remove_dir_all(&bench.site);

    let rss = filled.peak_rss_bytes.max(caught_up.peak_rss_bytes);
    let mut table = String::from("| after an outage | measured | mark |\n|---|---|---|\n");
    let mut row = |what: &str, measured: String, mark: &str| table += &format!("| {what} | {measured} | {mark} |\n");
    row("the most that a buffer of 1 GiB took", format!("{:.0} MiB", filled.peak_buffer_bytes as f64 / MIB), "≤ 1040 MiB");
    row("memory with every store down, and catching up", format!("{:.1} MiB", rss as f64 / MIB), "≤ 64 MiB");
    row("from a start after `kill -9` to the first request", format!("{:.0} ms", caught_up.first.as_secs_f64() * 1e3), "< 1 s");
    let times = caught_up.per_second / INPUT_PER_SECOND as f64;
    let measured = format!("{:.0} records a second while {INPUT_PER_SECOND} come in: {times:.1} times", caught_up.per_second);
    row("catching up", measured, "≥ 3 times");
    ensure!(filled.peak_buffer_bytes <= BUFFER_BYTES + SEGMENT_BYTES && rss <= MEMORY_LIMIT_BYTES, "a bound is broken:\n{table}");
    Ok(table)
}

struct Bench<'a> {
    binary: &'a Path,
    site: PathBuf,
    cores: Cores,
}

struct Filled {
    peak_buffer_bytes: u64,
    peak_rss_bytes: u64,
}

struct CaughtUp {
    first: Duration,
    per_second: f64,
    peak_rss_bytes: u64,
}

impl Bench<'_> {
    /// Lets the buffer fill, and the agent stand before it for a while; kills it.
    fn fill(&self) -> anyhow::Result<Filled> {
        let agent = self.start(&dead_url()?)?;
        let pid = agent.pid().context("no process")?;
        let mut filled = Filled { peak_buffer_bytes: 0, peak_rss_bytes: 0 };
        let (begin, mut full_since) = (Instant::now(), None);
        while full_since.is_none_or(|since: Instant| since.elapsed() < Duration::from_secs(3)) {
            ensure!(begin.elapsed() < LIMIT, "the buffer does not fill");
            filled.peak_buffer_bytes = filled.peak_buffer_bytes.max(self.buffered()?);
            filled.peak_rss_bytes = filled.peak_rss_bytes.max(peak_rss(pid)?);
            if filled.peak_buffer_bytes >= BUFFER_BYTES {
                full_since.get_or_insert_with(Instant::now);
            }
            sleep(Duration::from_millis(2));
        }
        agent.kill().map_err(anyhow::Error::msg)?;
        Ok(filled)
    }

    /// Starts on the full buffer with the store there and the logs growing, until as much has come as there was.
    fn catch_up(&self) -> anyhow::Result<CaughtUp> {
        let store = Store::start(Keep::Counts)?;
        let grown = Fleet::new(3, 1);
        let mut log = Log::create(&grown, &self.site.join("pods"), 0)?;
        let (done, written) = (AtomicBool::new(false), AtomicU64::new(0));
        scope(|threads| {
            let writer = threads.spawn(|| -> std::io::Result<()> {
                let begin = Instant::now();
                while !done.load(Ordering::Relaxed) {
                    let due = (begin.elapsed().as_secs_f64() * INPUT_PER_SECOND as f64) as u64;
                    log.append(due.saturating_sub(log.records()))?;
                    log.flush()?;
                    written.store(log.records(), Ordering::Relaxed);
                    sleep(Duration::from_millis(20));
                }
                Ok(())
            });
            let measured = self.measure(&store);
            done.store(true, Ordering::Relaxed);
            writer.join().map_err(|_| anyhow::anyhow!("the writer panicked"))??;
            measured
        })
    }

    fn measure(&self, store: &Store) -> anyhow::Result<CaughtUp> {
        let before = self.buffered()?;
        let begin = Instant::now();
        let agent = self.start(&store.url())?;
        let pid = agent.pid().context("no process")?;
        while store.counts().requests == 0 {
            ensure!(begin.elapsed() < LIMIT, "nothing is sent");
            sleep(Duration::from_millis(1));
        }
        let (first, sending) = (begin.elapsed(), Instant::now());
        while store.counts().text_bytes < before {
            ensure!(sending.elapsed() < LIMIT, "the backlog does not go");
            sleep(Duration::from_millis(5));
        }
        let per_second = store.counts().stored as f64 / sending.elapsed().as_secs_f64();
        let peak_rss_bytes = peak_rss(pid)?;
        agent.kill().map_err(anyhow::Error::msg)?;
        Ok(CaughtUp { first, per_second, peak_rss_bytes })
    }

    fn buffered(&self) -> anyhow::Result<u64> {
        let state = self.site.join("state/sink-store");
        let files = if state.exists() { files_below(&state)? } else { Vec::new() };
        let segments = files.iter().filter(|path| path.extension().is_some_and(|end| end == "seg"));
        // One may go while they are counted.
        Ok(segments.filter_map(|path| Some(path.metadata().ok()?.len())).sum())
    }

    /// Starts the agent: a sink with a buffer of 1 GiB without compression, and two more that are down.
    fn start(&self, store: &str) -> anyhow::Result<Agent> {
        let sink = |name: &str, url: &str, more: &str| {
            format!(
                "[sinks.{name}]\ntype = \"elasticsearch\"\ninputs = [\"pods\"]\nendpoints = [\"{url}\"]\nindex = \"logs\"\n\
                 request.retry_max_duration_secs = 1\n{more}\n"
            )
        };
        let dead = dead_url()?;
        let config = [
            "data_dir = \"state\"\n[api]\nenabled = false\n[sources.pods]\ntype = \"kubernetes_logs\"\nroot = \"pods\"\n".to_owned(),
            sink("store", store, "compression = \"none\"\nbuffer.max_size = \"1GiB\"\nbuffer.min_free = 0"),
            sink("second", &dead, "buffer.max_size = \"64MiB\"\nbuffer.when_full = \"drop_oldest\""),
            sink("third", &dead, "buffer.max_size = \"64MiB\"\nbuffer.when_full = \"drop_newest\""),
        ];
        fs::write(self.site.join("pipeline.toml"), config.concat())?;
        let mut command = agent::command_of(self.binary, &self.site);
        command.args(["run", "-c", "pipeline.toml"]);
        let _agents = Pinned::to(self.cores.agent)?;
        Agent::spawn(command).map_err(anyhow::Error::msg)
    }
}
