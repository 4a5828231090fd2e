//! Whether the store works, as far as its answers tell: when to send at all, and what to tell the operator.

use std::time::Duration;

use super::backoff::Backoff;
use crate::edge::{Chance, Nanos};

/// How many tries in a row fail before the sink is said to be failing. One or two are a store's daily life (a 429, a
/// connection that idled out) and would only fill the log.
const FAILURES_BEFORE_REPORT: u32 = 3;

/// The longest wait that a store may ask for (Retry-After). One that names more costs itself a request in this time.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(600);

/// A change of the sink's state, reported once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// Tries fail; they go on.
    Failing {
        /// Why the last one did.
        reason: String,
    },
    /// The store needs a person; tries go on slowly.
    Paused {
        /// Why.
        reason: String,
    },
    /// A send succeeded again.
    Recovered {
        /// How long there was none.
        after: Duration,
    },
}

/// The state of a store.
#[derive(Debug, Default)]
pub struct Health {
    standing: Standing,
    /// Failures in a row.
    failures: u32,
    /// Pauses in a row.
    pauses: u32,
    /// When the first of the failures in a row happened.
    since: Nanos,
    /// No send before this: the store asked, or is paused.
    closed_until: Nanos,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Standing {
    #[default]
    Fine,
    Failing,
    Paused,
}

impl Health {
    /// When sends may go out again; in the past where they may.
    pub fn closed_until(&self) -> Nanos {
        self.closed_until
    }

    /// Whether the store needs a person.
    pub fn is_paused(&self) -> bool {
        self.standing == Standing::Paused
    }

    /// Lets nothing out for as long as the store asked, if it did.
    pub fn close_for(&mut self, retry_after: Option<Duration>, now: Nanos) {
        if let Some(wait) = retry_after {
            self.closed_until = self.closed_until.max(now.after(wait.min(MAX_RETRY_AFTER)));
        }
    }

    /// The store answered as one that works.
    #[must_use]
    pub fn works(&mut self, now: Nanos) -> Option<Change> {
        let after = now.since(self.since);
        let before = std::mem::take(&mut self.standing);
        (self.failures, self.pauses) = (0, 0);
        (before != Standing::Fine).then_some(Change::Recovered { after })
    }

    /// A try failed.
    #[must_use]
    pub fn failed(&mut self, reason: String, now: Nanos) -> Option<Change> {
        self.count(now);
        if self.standing == Standing::Fine && self.failures >= FAILURES_BEFORE_REPORT {
            self.standing = Standing::Failing;
            return Some(Change::Failing { reason });
        }
        None
    }

    /// A try met a store that needs a person: lets nothing out for a while.
    #[must_use]
    pub fn pause(&mut self, reason: String, backoff: Backoff, chance: &mut dyn Chance, now: Nanos) -> Option<Change> {
        self.count(now);
        // Sends that were under way together meet the same closed door: one pause.
        if now >= self.closed_until {
            self.pauses += 1;
            self.closed_until = now.after(backoff.half_jitter(self.pauses, chance));
        }
        let before = std::mem::replace(&mut self.standing, Standing::Paused);
        (before != Standing::Paused).then_some(Change::Paused { reason })
    }

    fn count(&mut self, now: Nanos) {
        if self.failures == 0 {
            self.since = now;
        }
        self.failures = self.failures.saturating_add(1);
    }
}
