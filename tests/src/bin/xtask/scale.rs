//! What many files cost: 10,000 that nobody writes to, 1,000 that are written at once, and a start that knows 10,000.
//!
//! All of it is measured on the running agent, which keeps to one core; writer and harness keep to another.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal};
use skidder_tests::agent::{self, Agent};
use skidder_tests::generate::Fleet;
use skidder_tests::measure::{Pinned, cpu_time, own_memory, rss};

use crate::say;

/// How many files lie there.
const FILES: usize = 10_000;
/// How long the idle agent is watched. The kernel counts its time in ticks of 10 ms: enough to see 0.05 % of a core.
const WATCH: Duration = Duration::from_secs(20);
/// How much is written to files that are written at once: some tenths of a second of the agent's time, which comes in ticks of
/// 10 ms.
const WRITTEN_BYTES: u64 = 1 << 30;
/// How often the few and the many are measured, in turn; the pair of the middle counts, so that what a neighbour does to one run
/// decides nothing.
const PAIRS: usize = 3;
/// How much is appended to a file at a time: as a busy pod writes between two looks.
const APPEND_BYTES: usize = 64 << 10;
/// The longest that anything here may take.
const LIMIT: Duration = Duration::from_secs(300);

/// The cores to use.
#[derive(Clone, Copy)]
pub struct Cores {
    pub agent: usize,
    pub others: usize,
}

/// Measures, and gives the table.
pub fn run(binary: &Path, directory: &Path, cores: Cores) -> anyhow::Result<String> {
    let _pinned = Pinned::to(cores.others)?;
    let bench = Bench { binary, site: directory.join("scale"), cores };
    let mut table = String::from("| many files | measured | mark |\n|---|---|---|\n");
    let mut row = |what: &str, measured: String, mark: &str| table += &format!("| {what} | {measured} | {mark} |\n");

    say("idle: one file, then 10,000 …");
    let one = bench.idle(1)?;
    let many = bench.idle(FILES)?;
    row(
        "10,000 idle files: processor",
        format!("{:.2} % of a core ({:.2} % with one file)", many.core_percent, one.core_percent),
        "< 0.5 %",
    );
    let more = many.own_bytes.saturating_sub(one.own_bytes) as f64 / 1e6;
    let resident = [one.rss_bytes, many.rss_bytes].map(|bytes| bytes as f64 / 1e6);
    row(
        "10,000 idle files: memory over the idle agent",
        format!("{more:.1} MB (all that is resident: {:.1} MB, with one file {:.1} MB)", resident[1], resident[0]),
        "< 10 MB",
    );

    let mut pairs = Vec::new();
    for pair in 1..=PAIRS {
        say(&format!("written at once: 10, then 1,000 ({pair} of {PAIRS}) …"));
        let (few, many) = (bench.written_at_once(10)?, bench.written_at_once(1_000)?);
        pairs.push((100.0 * many / few, many, few));
    }
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (share, many, few) = pairs[PAIRS / 2];
    let (least, most) = (pairs[0].0, pairs[PAIRS - 1].0);
    row(
        "1,000 files written at once, against 10",
        format!("{many:.0} and {few:.0} MB per CPU-second: {share:.0} % ({least:.0} to {most:.0} % in {PAIRS} pairs)"),
        "≥ 80 %",
    );

    say("a start that knows 10,000 files …");
    let [first, last] = bench.start_with_known()?.map(|took| took.as_secs_f64());
    let took = format!("{first:.2} s where it is in the log that is first by name, {last:.2} s in the last");
    row("start with 10,000 files known: first new record out", took, "< 1 s");
    let _ = fs::remove_dir_all(&bench.site);
    Ok(table)
}

struct Bench<'a> {
    binary: &'a Path,
    site: PathBuf,
    cores: Cores,
}

struct Idle {
    core_percent: f64,
    /// All that is resident, and of that what is no page of a file.
    rss_bytes: u64,
    own_bytes: u64,
}

impl Bench<'_> {
    /// What an agent costs that has read `files` files to their ends.
    fn idle(&self, files: usize) -> anyhow::Result<Idle> {
        self.prepare(files, 1, BLACKHOLE)?;
        let agent = self.start()?;
        let pid = agent.pid().context("the agent has no process")?;
        settle(pid)?;
        // The times between two looks have grown to the longest by now, and the first full look is over.
        sleep(Duration::from_secs(12));
        let (before, begin) = (cpu_time(pid)?, Instant::now());
        sleep(WATCH);
        let spent = cpu_time(pid)?.saturating_sub(before);
        let core_percent = 100.0 * spent.as_secs_f64() / begin.elapsed().as_secs_f64();
        let idle = Idle { core_percent, rss_bytes: rss(pid)?, own_bytes: own_memory(pid)? };
        stop(agent)?;
        Ok(idle)
    }

    /// How many MB per second of its processor time the agent reads of files that all grow at once.
    fn written_at_once(&self, files: usize) -> anyhow::Result<f64> {
        let fleet = self.prepare(files, 1, BLACKHOLE)?;
        let mut logs = Vec::new();
        for pod in 0..files {
            logs.push(OpenOptions::new().append(true).open(fleet.log_file(&self.site.join("pods"), pod))?);
        }
        let (mut scratch, mut text) = (Vec::new(), Vec::new());
        let mut seq = 1;
        while text.len() < APPEND_BYTES {
            fleet.line(0, seq, &mut scratch, &mut text);
            seq += 1;
        }
        let agent = self.start()?;
        let pid = agent.pid().context("the agent has no process")?;
        settle(pid)?;
        let before = cpu_time(pid)?;
        let mut written = 0;
        while written < WRITTEN_BYTES {
            for log in &mut logs {
                log.write_all(&text)?;
                written += text.len() as u64;
            }
        }
        settle(pid)?;
        let spent = cpu_time(pid)?.saturating_sub(before);
        let unread = Self::unread(&logs, pid)?;
        ensure!(unread == 0, "{unread} bytes of {files} files are not read");
        stop(agent)?;
        Ok(written as f64 / 1e6 / spent.as_secs_f64().max(0.01))
    }

    /// How long it takes from the start to the first new record, where the state knows 10,000 files: in the log that is first by its
    /// path, and in the last. The agent looks at them in an order of its own, so one of them is about as late as can be.
    fn start_with_known(&self) -> anyhow::Result<[Duration; 2]> {
        let fleet = self.prepare(FILES, 1, ARCHIVE)?;
        let out = self.site.join("out/all.jsonl");
        let length = || fs::metadata(&out).map_or(0, |metadata| metadata.len());
        let agent = self.start()?;
        settle(agent.pid().context("the agent has no process")?)?;
        stop(agent)?;
        let lines = fs::read(&out)?.iter().filter(|byte| **byte == b'\n').count();
        ensure!(lines == FILES, "{lines} records of {FILES} came out");
        let path = |pod: &usize| fleet.log_file(&self.site.join("pods"), *pod);
        let first = (0..FILES).min_by_key(path).unwrap_or(0);
        let last = (0..FILES).max_by_key(path).unwrap_or(0);
        let mut took = [Duration::ZERO; 2];
        for (pod, took) in [first, last].into_iter().zip(&mut took) {
            let mut log = OpenOptions::new().append(true).open(path(&pod))?;
            let (mut scratch, mut text) = (Vec::new(), Vec::new());
            fleet.line(pod, 1, &mut scratch, &mut text);
            log.write_all(&text)?;
            let (before, begin) = (length(), Instant::now());
            let agent = self.start()?;
            while length() == before {
                ensure!(begin.elapsed() < LIMIT, "no record came");
                sleep(Duration::from_millis(1));
            }
            *took = begin.elapsed();
            stop(agent)?;
        }
        Ok(took)
    }

    /// How many bytes of the logs the agent cannot have read: it has read fewer bytes in all, says the kernel.
    fn unread(logs: &[fs::File], pid: Pid) -> anyhow::Result<u64> {
        let read = fs::read_to_string(format!("/proc/{pid}/io"))?;
        let read: u64 = read.lines().find_map(|line| line.strip_prefix("rchar: ")).and_then(|number| number.parse().ok()).unwrap_or(0);
        let there = logs.iter().map(|log| Ok(log.metadata()?.len())).sum::<anyhow::Result<u64>>()?;
        Ok(there.saturating_sub(read))
    }

    fn prepare(&self, files: usize, records: u64, sink: &str) -> anyhow::Result<Fleet> {
        let _ = fs::remove_dir_all(&self.site);
        fs::create_dir_all(&self.site)?;
        let fleet = Fleet::new(1, files);
        for pod in 0..files {
            let path = fleet.log_file(&self.site.join("pods"), pod);
            fs::create_dir_all(path.parent().context("a log lies in a directory")?)?;
            let (mut scratch, mut text) = (Vec::new(), Vec::new());
            (0..records).for_each(|seq| fleet.line(pod, seq, &mut scratch, &mut text));
            fs::write(path, text)?;
        }
        let source = "data_dir = \"state\"\n[sources.pods]\ntype = \"kubernetes_logs\"\nroot = \"pods\"\n";
        fs::write(self.site.join("pipeline.toml"), [source, sink].concat())?;
        Ok(fleet)
    }

    fn start(&self) -> anyhow::Result<Agent> {
        let mut command = agent::command_of(self.binary, &self.site);
        command.args(["run", "-c", "pipeline.toml"]);
        let _agents = Pinned::to(self.cores.agent)?;
        Agent::spawn(command).map_err(anyhow::Error::msg)
    }
}

const BLACKHOLE: &str = "[sinks.out]\ntype = \"blackhole\"\ninputs = [\"pods\"]\n";
const ARCHIVE: &str = "[sinks.out]\ntype = \"file\"\ninputs = [\"pods\"]\npath = \"out/all.jsonl\"\nbatch = { timeout_secs = 0.05 }\n";

/// Waits until the process has spent next to nothing for a while.
fn settle(pid: Pid) -> anyhow::Result<()> {
    let begin = Instant::now();
    let (mut spent, mut calm) = (cpu_time(pid)?, 0);
    while calm < 8 {
        ensure!(begin.elapsed() < LIMIT, "the agent does not come to rest");
        sleep(Duration::from_millis(250));
        let now = cpu_time(pid)?;
        calm = if now.saturating_sub(spent) <= Duration::from_millis(20) { calm + 1 } else { 0 };
        spent = now;
    }
    Ok(())
}

fn stop(agent: Agent) -> anyhow::Result<()> {
    agent.signal(Signal::TERM)?;
    let ended = agent.wait(LIMIT).map_err(anyhow::Error::msg)?;
    ensure!(ended.status.success(), "{ended}");
    Ok(())
}
