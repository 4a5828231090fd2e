//! The benchmark: how much input one core takes in a second of its time, and how much memory that needs.
//!
//! Logs are generated once and kept. The release build runs over them with `--once`, the agent on one core, harness and
//! store on another; a plain pass over the same files (read, count the newlines) in the same run is the measure of the
//! machine. Only processor time is compared, so a store that is slow, or a neighbour, lengthens a run and changes no figure
//! but by what it does to the caches.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Args;
use skidder_tests::agent::{self, Agent};
use skidder_tests::generate::Fleet;
use skidder_tests::measure::{Cost, Pinned, cores, cost, thread_cpu_time};
use skidder_tests::site::files_below;
use skidder_tests::store::{Keep, Store};
use skidder_tests::workspace;

use crate::scale::{self, Cores};
use crate::{backlog, print, say};

/// The longest that one run may take.
const RUN_LIMIT: Duration = Duration::from_secs(600);

/// Options of `bench`.
#[derive(Args)]
pub struct Options {
    /// How much log text to generate, in MiB.
    #[arg(long, default_value_t = 1024)]
    mib: u64,
    /// In how many pods.
    #[arg(long, default_value_t = 10)]
    pods: usize,
    /// How many of 1000 records hold personal data.
    #[arg(long, default_value_t = 50)]
    personal_per_mille: u32,
    /// How often each pipeline is run; the run that took the least processor time counts.
    #[arg(long, default_value_t = 3)]
    runs: u32,
    /// What is measured: any of the pipelines a, b, c, d for many files, e for what an outage costs (it needs 3 GiB of disk),
    /// and r for redaction alone, next to eight regular expressions one after another.
    #[arg(long, default_value = "abcder")]
    only: String,
    /// Real logs for r, beside those that it makes.
    #[arg(long)]
    logs: Vec<PathBuf>,
    /// The seed of the logs.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Also writes the table to this file.
    #[arg(long)]
    write: Option<PathBuf>,
}

/// A pipeline to measure.
struct Pipeline {
    letter: char,
    name: &'static str,
    /// What comes after parsing and enriching.
    more: &'static str,
    /// To the store, which then counts what came out.
    to_store: bool,
}

const PIPELINES: [Pipeline; 3] = [
    Pipeline { letter: 'a', name: "a: parse, enrich → blackhole", more: "", to_store: false },
    Pipeline {
        letter: 'b',
        name: "b: parse, enrich, redact → blackhole",
        more: "[transforms.clean]\ntype = \"redact\"\ninputs = [\"meta\"]\n",
        to_store: false,
    },
    Pipeline { letter: 'c', name: "c: parse, enrich → disk buffer, gzip, Elasticsearch", more: "", to_store: true },
];

/// What is read.
struct Logs {
    root: PathBuf,
    bytes: u64,
    records: u64,
}

/// A measured run.
struct Row {
    name: String,
    cost: Cost,
    records_out: Option<u64>,
}

/// Runs the benchmark and prints its table; fails where records in and out do not agree.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let redaction = if options.only.contains('r') { redaction(options)? } else { String::new() };
    if options.only == "r" {
        print(&redaction);
        return options.write.as_ref().map_or(Ok(()), |path| fs::write(path, &redaction).with_context(|| path.display().to_string()));
    }
    let binary = match std::env::var_os("SKIDDER_BIN") {
        Some(path) => PathBuf::from(path),
        None => {
            say("building the release build …");
            agent::build(&workspace::target().join("release")).map_err(anyhow::Error::msg)?
        }
    };
    let directory = workspace::target().join("bench");
    let cores = cores()?;
    let (agents, others) = (cores[0], *cores.last().context("no core")?);
    ensure!(agents != others, "the benchmark needs two cores: one for the agent, one for all else");
    let many = if options.only.contains('d') { scale::run(&binary, &directory, Cores { agent: agents, others })? } else { String::new() };
    let outage =
        if options.only.contains('e') { backlog::run(&binary, &directory, Cores { agent: agents, others })? } else { String::new() };
    if !options.only.contains(['a', 'b', 'c']) {
        print(&format!("{many}\n{outage}\n{redaction}"));
        return Ok(());
    }
    let logs = Logs::make(options, &directory)?;

    let reference = reference(&logs, agents)?;
    let mut rows = Vec::new();
    for pipeline in PIPELINES.iter().filter(|pipeline| options.only.contains(pipeline.letter)) {
        let mut best: Option<Row> = None;
        for round in 1..=options.runs.max(1) {
            say(&format!("{} ({round} of {}) …", pipeline.name, options.runs));
            let row = measure(pipeline, &binary, &directory, &logs, agents, others)?;
            best = best.filter(|best| best.cost.cpu <= row.cost.cpu).or(Some(row));
        }
        rows.extend(best);
    }
    let table = format!("{}\n{many}\n{outage}\n{redaction}", table(options, &logs, &reference, &rows));
    print(&table);
    if let Some(path) = &options.write {
        fs::write(path, &table).with_context(|| path.display().to_string())?;
    }
    for row in &rows {
        ensure!(row.records_out == Some(logs.records), "{}: {:?} records out, {} in", row.name, row.records_out, logs.records);
    }
    Ok(())
}

/// Redaction alone, as a program of its own on one core. It is built with the profile for measuring, which is a little slower than
/// the release build.
fn redaction(options: &Options) -> anyhow::Result<String> {
    let example = ["--locked", "--profile", "quick", "--package", "skidder-transforms", "--example", "redact_speed"];
    let cargo = || Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    say("building redact_speed …");
    ensure!(cargo().arg("build").args(example).status()?.success(), "redact_speed could not be built");
    let core = *cores()?.first().context("no core")?;
    let _pinned = Pinned::to(core)?;
    let output = cargo().arg("run").arg("--quiet").args(example).arg("--").args(&options.logs).output()?;
    ensure!(output.status.success(), "redact_speed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

impl Logs {
    /// The logs of these options, generated now or by an earlier run.
    fn make(options: &Options, directory: &Path) -> anyhow::Result<Logs> {
        let Options { mib, pods, personal_per_mille, seed, .. } = options;
        let root = directory.join(format!("pods-{mib}m-{pods}-{personal_per_mille}-{seed}"));
        let done = directory.join(format!("pods-{mib}m-{pods}-{personal_per_mille}-{seed}.done"));
        let known = fs::read_to_string(&done).unwrap_or_default();
        let known: Vec<u64> = known.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        if let [bytes, records] = known[..] {
            return Ok(Logs { root, bytes, records });
        }
        say(&format!("generating {mib} MiB of logs in {pods} pods …"));
        let _ = fs::remove_dir_all(&root);
        let begin = Instant::now();
        let fleet = Fleet::new(*seed, *pods).personal_per_mille(*personal_per_mille);
        let written = fleet.write(&root, mib << 20).with_context(|| format!("cannot write below {}", root.display()))?;
        say(&format!("{} records in {:.1} s", written.total(), begin.elapsed().as_secs_f64()));
        fs::write(done, format!("{} {}\n", written.bytes, written.total()))?;
        Ok(Logs { root, bytes: written.bytes, records: written.total() })
    }
}

/// The plain pass: every file read in blocks of 256 KiB and its newlines counted. Once before, to have the files in memory.
fn reference(logs: &Logs, core: usize) -> anyhow::Result<Row> {
    let _pinned = Pinned::to(core)?;
    let files = files_below(&logs.root)?;
    let mut block = vec![0; 256 << 10];
    let mut pass = || -> anyhow::Result<(Duration, Duration, u64)> {
        let (begin, before, mut lines) = (Instant::now(), thread_cpu_time(), 0);
        for path in &files {
            let mut file = File::open(path)?;
            while let length @ 1.. = file.read(&mut block)? {
                lines += memchr::memchr_iter(b'\n', &block[..length]).count() as u64;
            }
        }
        Ok((thread_cpu_time() - before, begin.elapsed(), lines))
    };
    say("reading everything once …");
    pass()?;
    let (cpu, wall, lines) = pass()?;
    ensure!(lines == logs.records, "{lines} lines in the logs and {} records: remove target/bench", logs.records);
    let cost = Cost { cpu, wall, peak_rss_bytes: 0 };
    Ok(Row { name: "read and count newlines".into(), cost, records_out: Some(lines) })
}

fn measure(pipeline: &Pipeline, binary: &Path, directory: &Path, logs: &Logs, agents: usize, others: usize) -> anyhow::Result<Row> {
    // The store's thread is started here and the agent below: each inherits the core of its moment.
    let pinned = Pinned::to(others)?;
    let store = Store::start(Keep::Counts)?;
    let site = directory.join("run");
    let _ = fs::remove_dir_all(&site);
    fs::create_dir_all(&site)?;
    fs::write(site.join("pipeline.toml"), pipeline.config(logs, &store))?;
    let mut command = agent::command_of(binary, &site);
    command.args(["run", "--once", "-c", "pipeline.toml"]);
    let agent = {
        let _agents = Pinned::to(agents)?;
        Agent::spawn(command).map_err(anyhow::Error::msg)?
    };
    let (cost, ended) = cost(agent, RUN_LIMIT).map_err(anyhow::Error::msg)?;
    drop(pinned);
    ensure!(ended.status.success(), "{}: {ended}", pipeline.name);
    let said = delivered(&ended.stderr).or_else(|| delivered(&String::from_utf8_lossy(&ended.stdout)));
    let records_out = if pipeline.to_store { Some(store.counts().stored) } else { said };
    if records_out.is_none() {
        say(&format!("no count of delivered records in what the agent said:\n{}", ended.stderr));
    }
    let _ = fs::remove_dir_all(&site);
    Ok(Row { name: pipeline.name.to_owned(), cost, records_out })
}

impl Pipeline {
    fn config(&self, logs: &Logs, store: &Store) -> String {
        let input = if self.more.is_empty() { "meta" } else { "clean" };
        let sink = if self.to_store {
            let url = store.url();
            format!(
                "type = \"elasticsearch\"\nendpoints = [\"{url}\"]\nmode = \"bulk\"\nindex = \"logs-%Y.%m.%d\"\ncompression = \"gzip\"\nbuffer = {{ type = \"disk\" }}\n"
            )
        } else {
            "type = \"blackhole\"\n".to_owned()
        };
        format!(
            r#"data_dir = "state"
[sources.pods]
type = "kubernetes_logs"
root = "{}"
[transforms.parse]
type = "json"
inputs = ["pods"]
[transforms.meta]
type = "enrich"
inputs = ["parse"]
[transforms.meta.fields]
env = "prod"
pod_name = "{{{{ kubernetes.pod_name }}}}"
region = "eu-1"
{}
[sinks.out]
inputs = ["{input}"]
{sink}"#,
            logs.root.display(),
            self.more
        )
    }
}

/// The number that stands before or after the word `delivered` in the agent's summary.
fn delivered(said: &str) -> Option<u64> {
    let clean: String = said.chars().filter(|c| !matches!(c, '_' | '\'' | '\u{202f}' | '\u{a0}')).collect();
    let number = |word: &&str| word.replace(',', "").parse::<u64>().ok();
    let words: Vec<&str> = clean.split(|c: char| c.is_whitespace() || "=:;|\"{}()".contains(c)).filter(|word| !word.is_empty()).collect();
    let at = words.iter().rposition(|word| word.trim_matches(',').eq_ignore_ascii_case("delivered"))?;
    let after = words.get(at + 1).and_then(number);
    let before = || words[at.saturating_sub(2)..at].iter().rev().find_map(number);
    after.or_else(before)
}

fn table(options: &Options, logs: &Logs, reference: &Row, rows: &[Row]) -> String {
    let mut out = String::new();
    let megabytes = logs.bytes as f64 / 1e6;
    let speed = |row: &Row| megabytes / row.cost.cpu.as_secs_f64().max(0.001);
    let _ = writeln!(
        out,
        "{megabytes:.0} MB of CRI lines in {} pods, {} records of {} B, personal data in {} of 1000; {}; least processor time of {} runs.\n",
        options.pods,
        logs.records,
        logs.bytes / logs.records.max(1),
        options.personal_per_mille,
        machine(),
        options.runs
    );
    out.push_str("| pipeline | MB per CPU-second | of the plain pass | CPU s | wall s | peak RSS MiB | records in | records out |\n");
    out.push_str("|---|---|---|---|---|---|---|---|\n");
    for row in rows.iter().chain([reference]) {
        let memory = match row.cost.peak_rss_bytes {
            0 => "–".to_owned(),
            bytes => format!("{:.1}", bytes as f64 / f64::from(1 << 20)),
        };
        let records = row.records_out.map_or("?".to_owned(), |records| records.to_string());
        let _ = writeln!(
            out,
            "| {} | {:.0} | {:.0} % | {:.2} | {:.2} | {memory} | {} | {records} |",
            row.name,
            speed(row),
            100.0 * speed(row) / speed(reference),
            row.cost.cpu.as_secs_f64(),
            row.cost.wall.as_secs_f64(),
            logs.records
        );
    }
    out
}

/// The processor, as the kernel names it.
fn machine() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split(": ").nth(1));
    model.unwrap_or("unknown processor").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_count_in_a_summary_of_any_form() {
        for said in [
            "1,234 records read, 1_234 delivered",
            "delivered: 1234",
            "{\"delivered\":1234}",
            "  delivered   1234 records",
            "1234 records delivered.",
        ] {
            let said = said.trim_end_matches('.');
            assert_eq!(delivered(said), Some(1234), "{said}");
        }
        assert_eq!(delivered("nothing of the kind"), None);
    }
}
