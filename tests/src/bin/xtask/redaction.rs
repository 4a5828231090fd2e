//! What redaction finds and what it takes for a find: over labelled lines made with a fresh seed, and over the logs of real
//! servers, in which there is nothing to find.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use clap::Args;
use skidder_tests::{agent, chance, redaction, workspace};

use crate::{print, say};

/// The page with the tables, and the lines that they stand between.
const PAGE: &str = "docs/redaction.md";
const BEGIN: &str = "<!-- cargo xtask redaction --write: begin -->\n";
const END: &str = "<!-- end -->\n";

/// How much of the servers' logs there must be, in MB, and how many false positives in one of them there may be.
const LEAST_MB: f64 = 50.0;
const MOST_PER_MB: f64 = 5.0;

/// How much of a line is shown around a find, in bytes.
const AROUND_BYTES: usize = 60;

/// Options of `redaction`.
#[derive(Args)]
pub struct Options {
    /// The seed of the labelled lines; another each time where it is not given.
    #[arg(long)]
    seed: Option<u64>,
    /// How many labelled lines are made.
    #[arg(long, default_value_t = 20_000)]
    lines: u64,
    /// Where the servers' logs are kept between runs: one file for each. They are made where they are missing.
    #[arg(long)]
    logs: Option<PathBuf>,
    /// Also writes the tables into docs/redaction.md.
    #[arg(long)]
    write: bool,
}

/// What was found in the log of one server.
struct Findings {
    server: String,
    mb: f64,
    /// By rule.
    counts: BTreeMap<String, u64>,
}

/// Prints the tables; fails where a mark is missed.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let binary = agent::binary().map_err(anyhow::Error::msg)?;
    let seed = options.seed.unwrap_or_else(|| chance::seed() % 1_000_000);
    say(&format!("{} labelled lines, seed {seed} …", options.lines));
    let score = redaction::score(binary, seed, options.lines).map_err(anyhow::Error::msg)?;
    let logs = options.logs.clone().unwrap_or_else(|| workspace::target().join("redaction/server-logs"));
    say(&format!("logs of real servers, in {} …", logs.display()));
    let made = Command::new("bash").arg(workspace::root().join("tests/redaction/server-logs.sh")).arg(&logs).status()?;
    ensure!(made.success(), "server-logs.sh: {made}");
    let mut files: Vec<PathBuf> = fs::read_dir(&logs)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    files.sort();
    let all = files.iter().map(|path| findings(binary, path)).collect::<anyhow::Result<Vec<_>>>()?;

    let tables = tables(seed, &score, &all);
    print(&tables);
    if options.write {
        write(&tables)?;
    }
    let mb: f64 = all.iter().map(|of| of.mb).sum();
    let found: u64 = all.iter().flat_map(|of| of.counts.values()).sum();
    ensure!(
        mb >= LEAST_MB,
        "{mb:.1} MB of servers' logs are too few: {LEAST_MB} MB wanted; remove those that are short in {}",
        logs.display()
    );
    ensure!(
        found as f64 <= MOST_PER_MB * mb,
        "{found} false positives in {mb:.1} MB of servers' logs; see *.found.txt in {}",
        logs.display()
    );
    Ok(())
}

/// What `redact` would take out of a log, IP addresses off; each find is written, with its surroundings, to `*.found.txt`.
fn findings(binary: &Path, log: &Path) -> anyhow::Result<Findings> {
    let server = log.file_stem().context("no name")?.to_string_lossy().into_owned();
    let notes_path = log.with_extension("notes");
    let status = Command::new(binary)
        .args(["redact", "--explain", "--dry-run", "--except", "network"])
        .stdin(File::open(log)?)
        .stdout(Stdio::null())
        .stderr(File::create(&notes_path)?)
        .status()?;
    ensure!(status.success(), "redact {}: {status}", log.display());
    let notes = fs::read_to_string(&notes_path)?;
    fs::remove_file(&notes_path)?;
    let mut lines = BufReader::new(File::open(log)?).split(b'\n').enumerate();
    let (mut counts, mut shown) = (BTreeMap::new(), String::new());
    let mut current = (0, Vec::new());
    for note in notes.lines() {
        // `12:30-40 email`
        let Some((number, rest)) = note.split_once(':') else { continue };
        let Some((span, rule)) = rest.split_once(' ') else { continue };
        let Some((start, end)) = span.split_once('-') else { continue };
        let (Ok(number), Ok(start), Ok(end)) = (number.parse::<usize>(), start.parse::<usize>(), end.parse::<usize>()) else { continue };
        while current.0 < number {
            let (index, line) = lines.next().context("a find beyond the last line")?;
            current = (index + 1, line?);
        }
        *counts.entry(rule.to_owned()).or_default() += 1;
        let part =
            |from: usize, to: usize| String::from_utf8_lossy(current.1.get(from..to.min(current.1.len())).unwrap_or_default()).into_owned();
        writeln!(
            shown,
            "{rule}\t{}«{}»{}",
            part(start.saturating_sub(AROUND_BYTES), start),
            part(start, end),
            part(end, end + AROUND_BYTES)
        )?;
    }
    fs::write(log.with_extension("found.txt"), shown)?;
    Ok(Findings { server, mb: fs::metadata(log)?.len() as f64 / 1e6, counts })
}

fn tables(seed: u64, score: &redaction::Score, all: &[Findings]) -> String {
    let mut text = String::from(
        "| set | size | values | recall | strict | false positives per MB | lines that are no longer JSON |\n|---|---|---|---|---|---|---|\n",
    );
    let percent = |share: f64| format!("{:.2} %", share * 100.0);
    // Writing to a String does not fail.
    let _ = writeln!(
        text,
        "| generator, seed {seed}, {} lines | {:.1} MB | {} | {} | {} | {:.1} | {} |",
        score.lines,
        score.mb,
        score.gold,
        percent(score.recall_full),
        percent(score.recall_strict),
        score.fp_per_mb,
        score.broken_json
    );
    text += "\n| logs of a real server, IP addresses off | size | false positives | per MB |\n|---|---|---|---|\n";
    let mut row = |name: &str, mb: f64, counts: &BTreeMap<String, u64>| {
        let found: u64 = counts.values().sum();
        let rules: Vec<String> = counts.iter().map(|(rule, count)| format!("{rule} {count}")).collect();
        let rules = if rules.is_empty() { String::new() } else { format!(": {}", rules.join(", ")) };
        let _ = writeln!(text, "| {name} | {mb:.1} MB | {found}{rules} | {:.2} |", found as f64 / mb.max(1e-6));
    };
    let (mut mb, mut sums) = (0.0, BTreeMap::new());
    for of in all {
        row(&of.server, of.mb, &of.counts);
        mb += of.mb;
        of.counts.iter().for_each(|(rule, count)| *sums.entry(rule.clone()).or_default() += count);
    }
    row("all", mb, &sums);
    text
}

/// Puts the tables in the place of those that stand in the page.
fn write(tables: &str) -> anyhow::Result<()> {
    let path = workspace::root().join(PAGE);
    let page = fs::read_to_string(&path)?;
    let (before, rest) = page.split_once(BEGIN).with_context(|| format!("{PAGE} has no line {BEGIN}"))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("{PAGE} has no line {END}"))?;
    fs::write(&path, format!("{before}{BEGIN}\n{tables}\n{END}{after}"))?;
    say(&format!("{PAGE} is written"));
    Ok(())
}
