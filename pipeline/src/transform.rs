//! The trait of transforms, and what they report.

use std::sync::Arc;

use crate::batch::Batch;

/// A pure function on batches: no I/O, no clock, no async, and nothing held back for the next batch.
///
/// A worker owns its transforms, so they may keep caches and scratch space; what they remember must not change what they
/// give out for a batch.
pub trait Transform: Send {
    /// Changes the batch in place.
    fn apply(&mut self, batch: &mut Batch, report: &mut Report);
}

/// What transforms count, gathered by the worker and added to the totals now and then. Never content.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Records that a filter dropped on purpose.
    pub filtered: u64,
    /// Lines that should have been JSON and stayed text.
    pub not_json: u64,
    redactions: Vec<(Arc<str>, u64)>,
}

impl Report {
    /// Counts `count` values that `rule` took out.
    pub fn redacted(&mut self, rule: &Arc<str>, count: u64) {
        match self.redactions.iter_mut().find(|(name, _)| name == rule) {
            Some((_, total)) => *total += count,
            None => self.redactions.push((rule.clone(), count)),
        }
    }

    /// The number of values that each rule took out.
    pub fn redactions(&self) -> &[(Arc<str>, u64)] {
        &self.redactions
    }

    /// Adds the counts of `other`.
    pub fn merge(&mut self, other: &Report) {
        self.filtered += other.filtered;
        self.not_json += other.not_json;
        for (rule, count) in &other.redactions {
            self.redacted(rule, *count);
        }
    }
}
