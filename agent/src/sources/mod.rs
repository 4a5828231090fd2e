//! Where records come from: one file a source, one list.
//!
//! A source gives out chunks of whole records of one origin, each with the ranges of bytes that it accounts for. What the
//! sources of files share: [`tail`] follows the files, [`framing`] takes lines apart, [`join`] and [`multiline`] put
//! records together, [`identity`] says who a file is, [`assemble`] makes the batch. [`journald`] reads files of another kind, by itself.

mod assemble;
mod claims;
mod estate;
pub mod file;
pub mod framing;
#[cfg(test)]
mod fuzz;
mod identity;
mod join;
pub mod journald;
pub mod kubernetes_logs;
mod leftovers;
pub mod multiline;
mod overlap;
pub mod stdin;
mod tail;
#[cfg(test)]
mod testing;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use skidder_pipeline::edge::Clock;
use skidder_pipeline::problem::Problem;
use skidder_pipeline::source::{Held, SinkSet, Source};
use skidder_pipeline::stats::SourceStats;

use crate::metadata::Metadata;
use assemble::{MaxRecordAction, Rules};
pub use claims::Claims;
pub use estate::Estate;
use file::FileConfig;
use framing::Format;
use identity::Registry;
use journald::JournaldConfig;
use kubernetes_logs::KubernetesLogsConfig;
pub use leftovers::Leftovers;
use multiline::MultilineConfig;
use overlap::Reach;
pub(crate) use overlap::check_overlaps;
use stdin::StdinConfig;

/// The sources, by `type`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum SourceConfig {
    /// Files by path.
    File(FileConfig),
    /// The journal of systemd.
    Journald(JournaldConfig),
    /// The logs of a Kubernetes node's containers.
    KubernetesLogs(KubernetesLogsConfig),
    /// The standard input.
    Stdin(StdinConfig),
}

impl SourceConfig {
    /// All mistakes that the shape of the table does not show.
    pub fn check(&self) -> Vec<Problem> {
        match self {
            SourceConfig::File(config) => config.check(),
            SourceConfig::Journald(config) => config.check(),
            SourceConfig::KubernetesLogs(config) => config.check(),
            SourceConfig::Stdin(config) => config.check(),
        }
    }

    /// Whether it reads files, of which it keeps positions, and which another could read too.
    pub fn reads_files(&self) -> bool {
        !matches!(self, SourceConfig::Stdin(_))
    }

    /// The files that it may read; `None` where it reads none, or its options have mistakes.
    fn reach(&self, base_dir: &Path) -> Option<Reach> {
        match self {
            SourceConfig::File(config) => config.reach(base_dir),
            SourceConfig::Journald(config) => config.reach(base_dir),
            SourceConfig::KubernetesLogs(config) => config.reach(base_dir),
            SourceConfig::Stdin(_) => None,
        }
    }

    /// The files and directories that it reads, with all below them; `None` where links may lead it anywhere.
    pub fn reads(&self, base_dir: &Path) -> Option<Vec<PathBuf>> {
        match self {
            SourceConfig::File(config) => config.reads(base_dir),
            SourceConfig::Journald(config) => Some(config.roots(base_dir)),
            SourceConfig::KubernetesLogs(config) => Some(config.roots(base_dir)),
            SourceConfig::Stdin(_) => Some(Vec::new()),
        }
    }

    /// The source. Nothing is read before it is asked for a chunk.
    ///
    /// # Errors
    /// What [`SourceConfig::check`] finds, and a state directory that cannot be used.
    pub fn build(&self, context: SourceContext) -> anyhow::Result<Box<dyn Source>> {
        match self {
            SourceConfig::File(config) => config.build(context),
            SourceConfig::Journald(config) => config.build(context),
            SourceConfig::KubernetesLogs(config) => config.build(context),
            SourceConfig::Stdin(config) => config.build(context),
        }
    }
}

/// What a source is given beside its configuration.
pub struct SourceContext {
    /// Its name in the configuration.
    pub name: String,
    /// Where relative paths start: the directory of the configuration file.
    pub base_dir: PathBuf,
    /// The sinks that it feeds.
    pub sinks: SinkSet,
    /// Those of them that the state directory had never met before this start, though it is not new itself: they begin
    /// where the other sinks are. A sink that merely holds nothing yet must not be among them, or it would lose what was
    /// read for it and not frozen when the agent last died.
    pub new_sinks: SinkSet,
    /// What the sinks hold already.
    pub held: Arc<dyn Held>,
    /// Which source reads which file: one for all sources of the process.
    pub claims: Arc<Claims>,
    /// What the sources before a reload left, and what this one leaves: one for all sources of the process.
    pub estate: Arc<Estate>,
    /// Whether the configuration before the reload had the same source, with the same options.
    pub is_same: bool,
    /// What no source meets any more: one for all sources of the process.
    pub leftovers: Arc<Leftovers>,
    /// Where it counts.
    pub stats: Arc<SourceStats>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What is known of the pods of this node, where that is asked for.
    pub metadata: Option<Arc<Metadata>>,
    /// The directory for what must outlast the process.
    pub state_dir: PathBuf,
    /// The random number that was made with the state directory.
    pub epoch: [u8; 16],
    /// Whether to read what is there now and end.
    pub once: bool,
    /// Wakes the worker that asks this source.
    pub wake: Arc<dyn Fn() + Send + Sync>,
}

impl SourceContext {
    fn env(self, format: Format, rules: Rules, registry: Option<Arc<Mutex<Registry>>>, describe: Arc<dyn tail::Describe>) -> tail::Env {
        tail::Env {
            name: self.name,
            sinks: self.sinks,
            new_sinks: self.new_sinks,
            held: self.held,
            claims: self.claims,
            estate: self.estate,
            losses: self.stats.clone(),
            stats: self.stats,
            clock: self.clock,
            registry,
            describe,
            rules: Arc::new(rules),
            format,
            block_bytes: tail::BLOCK_BYTES,
            once: self.once,
            stopping: false,
        }
    }
}

fn rules(max_record_bytes: usize, max_record_action: MaxRecordAction, multiline: Option<&MultilineConfig>) -> anyhow::Result<Rules> {
    Ok(Rules { max_record_bytes, max_record_action, multiline: multiline.map(MultilineConfig::build).transpose()? })
}

/// 1 MiB: what the stores at hand take (Loki 256 KiB by default, Elasticsearch 100 MiB a request), many times what people read.
fn default_max_record_bytes() -> usize {
    1024 * 1024
}

fn default_rescan_interval_ms() -> u64 {
    10_000
}

/// 1 GiB: what a node spares without the kubelet beginning to evict.
fn default_max_held_bytes() -> u64 {
    1024 * 1024 * 1024
}

/// How a source tails, of what its configuration says.
fn settings(rescan_interval_ms: u64, ignore_older_secs: Option<u64>, rate: Option<u64>, max_held_bytes: u64) -> tail::Settings {
    let (rescan, ignore_older) = (Duration::from_millis(rescan_interval_ms), ignore_older_secs.map(Duration::from_secs));
    tail::Settings { rescan, from_end: false, ignore_older, rate, max_held_bytes }
}

/// The mistakes that all sources can have.
fn check_common(max_record_bytes: usize, rescan_interval_ms: u64, multiline: Option<&MultilineConfig>) -> Vec<Problem> {
    let mut problems = Vec::new();
    // Below a time stamp and a name no message says anything; above, a few records would fill the memory limit.
    if !(256..=16 * 1024 * 1024).contains(&max_record_bytes) {
        problems.push(Problem::at("max_record_bytes", "must be from 256 to 16777216 (16 MiB)"));
    }
    if !(100..=3_600_000).contains(&rescan_interval_ms) {
        problems.push(Problem::at("rescan_interval_ms", "must be from 100 to 3600000 (an hour)"));
    }
    problems.extend(multiline.map(MultilineConfig::check).unwrap_or_default());
    problems
}
