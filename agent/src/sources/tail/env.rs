//! What a source's tailing is given, and what its streams share.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use skidder_pipeline::edge::Clock;
use skidder_pipeline::position::FileKey;
use skidder_pipeline::source::{Held, SinkSet};
use skidder_pipeline::stats::SourceStats;

use super::super::assemble::Rules;
use super::super::claims::Claims;
use super::super::estate::Estate;
use super::super::framing::Format;
use super::super::identity::{Facts, Registry};
use super::discover::Describe;

/// What all streams of a source share.
pub(crate) struct Env {
    pub name: String,
    pub sinks: SinkSet,
    pub new_sinks: SinkSet,
    pub held: Arc<dyn Held>,
    pub claims: Arc<Claims>,
    /// Whom open logs are left to.
    pub estate: Arc<Estate>,
    pub stats: Arc<SourceStats>,
    /// Where losses are counted: for each sink that has them.
    pub losses: Arc<SourceStats>,
    pub clock: Arc<dyn Clock>,
    pub registry: Option<Arc<Mutex<Registry>>>,
    pub describe: Arc<dyn Describe>,
    pub rules: Arc<Rules>,
    pub format: Format,
    pub block_bytes: usize,
    pub once: bool,
    pub stopping: bool,
}

impl Env {
    /// What a fork for `sinks` shares. What it reads again is not counted again, unless it takes this one's place.
    pub(super) fn fork(&self, sinks: SinkSet) -> Env {
        let takes_over = self.sinks.without(sinks).is_empty();
        Env {
            name: self.name.clone(),
            sinks,
            new_sinks: SinkSet::default(),
            held: self.held.clone(),
            claims: self.claims.clone(),
            estate: self.estate.clone(),
            stats: if takes_over { self.stats.clone() } else { Arc::default() },
            losses: self.losses.clone(),
            clock: self.clock.clone(),
            registry: self.registry.clone(),
            describe: self.describe.clone(),
            rules: self.rules.clone(),
            ..*self
        }
    }

    pub(super) fn identify(
        &self,
        facts: &Facts,
        path: &Path,
        head: &[u8],
        fits: impl FnMut(&FileKey) -> io::Result<bool>,
    ) -> io::Result<FileKey> {
        match &self.registry {
            Some(registry) => registry.lock().unwrap_or_else(PoisonError::into_inner).identify(facts, path, head, fits),
            None => Err(io::Error::other("this source keeps no register of files")),
        }
    }

    /// Counts bytes of a unit's log that were lost before they could be read.
    pub(super) fn count_lost(&self, stats: &SourceStats, unit: &Path, bytes: u64) {
        stats.lost_bytes.add(bytes);
        if let Some((namespace, pod)) = self.describe.pod_of(unit) {
            stats.lost_by_pod.add(namespace, pod, bytes, self.clock.now());
        }
    }

    pub(super) fn line_timeout(&self) -> Option<Duration> {
        self.rules.multiline.as_ref().map(|multiline| multiline.timeout)
    }

    pub(super) fn has_last_line(&self) -> bool {
        self.rules.multiline.as_ref().is_some_and(|multiline| multiline.has_last_line())
    }
}

/// How a source tails.
#[derive(Clone, Copy)]
pub(crate) struct Settings {
    pub rescan: Duration,
    /// Whether what is there at the first scan, and was never met before, is skipped.
    pub from_end: bool,
    /// Files that were not written for longer are not opened.
    pub ignore_older: Option<Duration>,
    /// How much is read of each log, in bytes per second.
    pub rate: Option<u64>,
    /// How many bytes of deleted files are kept on the disk by being held open.
    pub max_held_bytes: u64,
}
