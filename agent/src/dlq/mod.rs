//! `skidder dlq`: what stores refused, to be looked at, sent again, or thrown away. The agent may run meanwhile.

mod files;
mod replay;

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::config::{Builtin, Pipeline};
use crate::output::print;
use files::{Line, Shelved};

pub use replay::replay;

/// What to do.
#[derive(Clone, Debug)]
pub enum Task {
    /// A line for each sink that has dead letters.
    List,
    /// The letters themselves.
    Show {
        /// The newest so many of each sink.
        limit: usize,
        /// As they are on disk, one JSON object a line.
        json: bool,
    },
    /// Send them again.
    Replay {
        /// How long to go on trying.
        timeout: Option<Duration>,
    },
    /// Throw them away.
    Purge,
}

/// Does `task` with the dead letters of `sink`, or of all sinks that have some.
///
/// # Errors
/// Where the directory cannot be used, or the sink has no letters and is not in the configuration.
pub fn execute(pipeline: &Pipeline<Builtin>, sink: Option<&str>, task: &Task) -> anyhow::Result<ExitCode> {
    let data_dir = pipeline.kept_dir()?;
    let mut sinks = files::sinks(&data_dir)?;
    if let Some(name) = sink {
        if !sinks.iter().any(|sink| sink == name) && !pipeline.sinks.iter().any(|sink| sink.name == name) {
            bail!("no sink `{name}`: it is not in the configuration and has no dead letters");
        }
        sinks.retain(|sink| sink == name);
    }
    match task {
        Task::List => print(&list(pipeline, &data_dir, &sinks)?),
        Task::Show { limit, json } => {
            for sink in &sinks {
                show(&data_dir, sink, *limit, *json)?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Task::Replay { timeout } => replay(pipeline, &data_dir, &sinks, *timeout),
        Task::Purge => {
            let mut out = String::new();
            for sink in &sinks {
                let removed = files::purge(&data_dir, sink)?;
                writeln!(out, "{sink}: {removed} dead letters thrown away")?;
            }
            print(&out)
        }
    }
}

/// A letter as it is on disk, as far as people want to see it.
#[derive(Deserialize)]
struct Letter<'a> {
    #[serde(borrow, default)]
    time: std::borrow::Cow<'a, str>,
    #[serde(default)]
    destination: String,
    #[serde(default)]
    status: u16,
    #[serde(default)]
    reason: String,
    #[serde(borrow)]
    record: Option<&'a RawValue>,
}

fn list(pipeline: &Pipeline<Builtin>, data_dir: &Path, sinks: &[String]) -> anyhow::Result<String> {
    let mut out = String::new();
    for sink in sinks {
        let letters = Shelved::open(data_dir, sink)?;
        let time = |line: Option<&Line>| -> anyhow::Result<String> {
            let Some(line) = line else { return Ok("-".to_owned()) };
            let text = letters.read(line)?;
            Ok(serde_json::from_slice::<Letter<'_>>(&text).map_or_else(|_| "?".to_owned(), |letter| letter.time.into_owned()))
        };
        let (oldest, newest) = (time(letters.lines().first())?, time(letters.lines().last())?);
        let gone = if pipeline.sinks.iter().any(|named| named.name == *sink) { "" } else { "  (not in the configuration)" };
        writeln!(out, "{sink}: {} dead letters, {} bytes, from {oldest} to {newest}{gone}", letters.lines().len(), letters.bytes())?;
    }
    if out.is_empty() {
        out.push_str("no dead letters\n");
    }
    Ok(out)
}

fn show(data_dir: &Path, sink: &str, limit: usize, json: bool) -> anyhow::Result<()> {
    let letters = Shelved::open(data_dir, sink)?;
    let skip = letters.lines().len().saturating_sub(limit);
    for line in &letters.lines()[skip..] {
        let text = letters.read(line)?;
        if json {
            print(&String::from_utf8_lossy(&text))?;
            continue;
        }
        match serde_json::from_slice::<Letter<'_>>(&text) {
            Ok(Letter { time, destination, status, reason, record }) => {
                let to = if destination.is_empty() { String::new() } else { format!(" ({destination})") };
                let record = record.map_or("(the record could not be read back)", RawValue::get);
                print(&format!("{time} {sink}{to}: {status} {reason}\n  {record}\n"))?;
            }
            Err(error) => drop(print(&format!("{sink}: a letter that cannot be read: {error}\n"))?),
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests;
