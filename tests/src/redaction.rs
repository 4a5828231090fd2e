//! Scores `skidder redact` on labelled log lines that are made anew each time.
//!
//! The generator and the scorer are Python programs below `tests/redaction`; what they need comes from PyPI into a directory
//! below the target directory, once.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{fs, io};

use serde::Deserialize;

use crate::workspace;

/// What the scorer found.
#[derive(Clone, Debug, Deserialize)]
pub struct Score {
    /// How many lines there were.
    pub lines: u64,
    /// Their size in millions of bytes.
    pub mb: f64,
    /// How many values to be found were in them.
    pub gold: u64,
    /// The share of values of which neither what was written nor what it stands for is left.
    pub recall_full: f64,
    /// The share of values of which no piece longer than four characters or 40 % is left.
    pub recall_strict: f64,
    /// Changes in each million of bytes that touch no value.
    pub fp_per_mb: f64,
    /// The share of changes that touch a value.
    pub precision: f64,
    /// Lines that were JSON before and are none after.
    pub broken_json: u64,
}

/// Makes `lines` lines from a seed and scores what `binary redact` does with them.
///
/// # Errors
/// What cannot be run: there is no Python with venv, or PyPI cannot be reached the first time.
pub fn score(binary: &Path, seed: u64, lines: u64) -> Result<Score, String> {
    let python = python()?;
    let directory = workspace::target().join("redaction");
    fs::create_dir_all(&directory).map_err(|error| error.to_string())?;
    let (set, result) = (directory.join(format!("made-{seed}.jsonl")), directory.join(format!("score-{seed}.json")));
    let here = workspace::root().join("tests/redaction");
    let output = fs::File::create(&set).map_err(|error| error.to_string())?;
    let mut made = Command::new(&python);
    made.arg(here.join("golog.py")).args(["--seed", &seed.to_string(), "--lines", &lines.to_string()]);
    succeed(made.stdout(output).stderr(Stdio::piped()))?;
    let command = format!("'{}' redact", binary.display());
    let scored = succeed(
        Command::new(&python)
            .arg(here.join("eval.py"))
            .args(["--name", "skidder", "--show", "20", "--cmd", &command, "--json"])
            .arg(&result)
            .arg(&set),
    )?;
    let text = fs::read_to_string(&result).map_err(|error| error.to_string())?;
    let scores: Vec<Score> = serde_json::from_str(&text).map_err(|error| format!("{}: {error}", result.display()))?;
    let score = scores.first().cloned().ok_or("the scorer gave no score")?;
    fs::write(directory.join("last.txt"), scored).map_err(|error| error.to_string())?;
    let _ = fs::remove_file(&set);
    Ok(score)
}

/// A Python with what the generator needs, made the first time.
fn python() -> Result<PathBuf, String> {
    let requirements = workspace::root().join("tests/redaction/requirements.txt");
    let wanted = fs::read_to_string(&requirements).map_err(|error| format!("{}: {error}", requirements.display()))?;
    let directory = workspace::target().join("redaction-venv");
    let (python, done) = (directory.join("bin/python"), directory.join("done.txt"));
    if fs::read_to_string(&done).is_ok_and(|known| known == wanted) {
        return Ok(python);
    }
    let remedy = |error: String| format!("the generator of labelled lines needs python3 with venv, and PyPI once: {error}");
    succeed(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&directory)).map_err(remedy)?;
    succeed(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]).arg(&requirements))
        .map_err(remedy)?;
    fs::write(done, wanted).map_err(|error| error.to_string())?;
    Ok(python)
}

/// What a command that succeeds writes to its standard output.
fn succeed(command: &mut Command) -> Result<String, String> {
    let shown = format!("{command:?}");
    let output = command.output().map_err(|error: io::Error| format!("{shown}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{shown}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr)))
}
