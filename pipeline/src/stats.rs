//! Counts that anyone may read while the agent runs.

mod lost;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::transform::Report;
pub use lost::LostByPod;

/// A number that only grows (or, with [`Counter::set`], a gauge), readable from any thread.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `count`.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Sets it.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Reads it.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a source counts.
#[derive(Debug, Default)]
pub struct SourceStats {
    /// Records handed to the pipeline.
    pub records: Counter,
    /// Bytes read.
    pub bytes: Counter,
    /// Bytes that were lost before they could be read.
    pub lost_bytes: Counter,
    /// Among these, those of pods' logs.
    pub lost_by_pod: LostByPod,
    /// Records that were lost before they could be read, where bytes say nothing: entries of the journal.
    pub lost_records: Counter,
    /// Lines whose framing (CRI, Docker) could not be read and that went on as they were.
    pub malformed: Counter,
    /// Records that held bytes that are no UTF-8, replaced by U+FFFD.
    pub invalid_utf8: Counter,
    /// Records cut at the size limit.
    pub truncated: Counter,
    /// Records left out because they were longer than the size limit.
    pub dropped: Counter,
    /// Files that could not be opened or read.
    pub failed_files: Counter,
    /// Files that could have been read and were refused.
    pub refused_files: RefusedFiles,
    /// Bytes known to be in the files and not read yet; a gauge, for progress.
    pub unread_bytes: Counter,
}

/// Files that a source refused, by the reason.
#[derive(Debug, Default)]
pub struct RefusedFiles {
    /// Symbolic links, and what is reached through one.
    pub link: Counter,
    /// Directories, FIFOs, sockets and devices.
    pub not_regular: Counter,
    /// Files of users that are not trusted.
    pub owner: Counter,
    /// Files with more than one name.
    pub hard_link: Counter,
    /// Files that another source reads already.
    pub overlap: Counter,
}

impl RefusedFiles {
    /// Each reason, as a word for labels, with its count.
    pub fn by_reason(&self) -> [(&'static str, &Counter); 5] {
        [
            ("link", &self.link),
            ("not_regular", &self.not_regular),
            ("owner", &self.owner),
            ("hard_link", &self.hard_link),
            ("overlap", &self.overlap),
        ]
    }

    /// All together.
    pub fn total(&self) -> u64 {
        self.by_reason().iter().map(|(_, count)| count.get()).sum()
    }
}

/// What a sink counts.
#[derive(Debug, Default)]
pub struct SinkStats {
    /// Records that the store has.
    pub delivered: Counter,
    /// Records that the store had already (a repeat it recognised); among the delivered.
    pub duplicates: Counter,
    /// Records that the store took and keeps apart, since they did not fit; among the delivered.
    pub diverted: Counter,
    /// Records that the store refused for good: in the dead letters, or among the discarded.
    pub rejected: Counter,
    /// Refused records that were thrown away, as `on_reject = "drop"` asks; among the rejected.
    pub discarded: Counter,
    /// Dead letters that were removed to keep their bound.
    pub discarded_letters: Counter,
    /// Bytes of dead letters on disk; a gauge.
    pub dead_letter_bytes: Counter,
    /// Records given up by the overflow policy, or damaged in the buffer.
    pub lost: Counter,
    /// Records given up by the overflow policy; among the lost.
    pub dropped: Counter,
    /// Frames of the buffer that are damaged and in its quarantine.
    pub damaged_frames: Counter,
    /// Bytes cut from torn tails of the buffer; they are read from their sources again.
    pub torn_bytes: Counter,
    /// Bytes sent, compressed, repeats included.
    pub sent_bytes: Counter,
    /// Sends that were tried again.
    pub retries: Counter,
    /// Sends that got no answer, or one that asks for another try.
    pub failures: Counter,
    /// How the store does: 0 well, 1 failing, 2 waiting for a person; a gauge.
    pub standing: Counter,
    /// How many sends may be under way at once; a gauge.
    pub send_limit: Counter,
    /// How many are under way; a gauge.
    pub sending: Counter,
    /// Records waiting in the buffer; a gauge.
    pub buffered_records: Counter,
    /// Bytes waiting in the buffer; a gauge.
    pub buffered_bytes: Counter,
    /// The most bytes that may wait; a gauge.
    pub buffer_max_bytes: Counter,
    /// 1 where the directory of the buffer cannot be used; a gauge.
    pub buffer_degraded: Counter,
    /// Since when the oldest frame has been waiting, as [`crate::edge::Nanos`]; 0 where none waits; a gauge.
    pub oldest_waiting: Counter,
}

/// All counts of a pipeline, by component name.
#[derive(Debug, Default)]
pub struct Stats {
    /// By source.
    pub sources: BTreeMap<String, Arc<SourceStats>>,
    /// By sink.
    pub sinks: BTreeMap<String, Arc<SinkStats>>,
    transforms: Mutex<Report>,
}

impl Stats {
    /// Zero counts for the named sources and sinks.
    pub fn new(sources: impl Iterator<Item = String>, sinks: impl Iterator<Item = String>) -> Stats {
        let sources = sources.map(|name| (name, Arc::default())).collect();
        Stats { sources, sinks: sinks.map(|name| (name, Arc::default())).collect(), transforms: Mutex::default() }
    }

    /// Counts for the named sources and sinks that go on from these: those of the same name are the same.
    pub fn go_on(&self, sources: impl Iterator<Item = String>, sinks: impl Iterator<Item = String>) -> Stats {
        let source = |name: String| (self.sources.get(&name).cloned().unwrap_or_default(), name);
        let sink = |name: String| (self.sinks.get(&name).cloned().unwrap_or_default(), name);
        Stats {
            sources: sources.map(source).map(|(stats, name)| (name, stats)).collect(),
            sinks: sinks.map(sink).map(|(stats, name)| (name, stats)).collect(),
            transforms: Mutex::new(self.report()),
        }
    }

    /// Adds what transforms reported.
    pub fn add_report(&self, report: &Report) {
        self.transforms.lock().unwrap_or_else(PoisonError::into_inner).merge(report);
    }

    /// Counts what was taken out of records of namespaces that are gone together with others from now on.
    pub fn forget_namespaces(&self, is_there: impl Fn(&str) -> bool) {
        self.transforms.lock().unwrap_or_else(PoisonError::into_inner).forget_namespaces(is_there);
    }

    /// What all transforms reported so far.
    pub fn report(&self) -> Report {
        self.transforms.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
