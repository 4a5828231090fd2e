//! How much lies unread in the logs of each namespace.
//!
//! A series is there as long as some log of its namespace is open, and there are few at the most: a cluster may have as many
//! namespaces as it likes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// How many namespaces are counted apart; what is beyond is counted together.
const MAX_NAMESPACES: usize = 200;
/// What those beyond are called: no name of a namespace, which has no `_`.
const OTHERS: &str = "_others";

/// Unread bytes by namespace.
#[derive(Debug, Default)]
pub struct Backlog(Mutex<BTreeMap<Box<str>, Arc<AtomicU64>>>);

/// What one log adds to its namespace; nothing any more when dropped.
#[derive(Debug)]
pub(super) struct Part {
    sum: Arc<AtomicU64>,
    bytes: u64,
}

impl Backlog {
    /// A part for a log of `namespace`.
    pub(super) fn part(&self, namespace: &str) -> Part {
        let mut sums = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !sums.contains_key(namespace) {
            sums.retain(|_, sum| Arc::strong_count(sum) > 1);
        }
        let known = sums.contains_key(namespace) || sums.len() < MAX_NAMESPACES;
        let sum = sums.entry(if known { namespace.into() } else { OTHERS.into() }).or_default().clone();
        Part { sum, bytes: 0 }
    }

    /// Each namespace with an open log, and how many bytes are unread in all of them.
    pub fn by_namespace(&self) -> Vec<(Box<str>, u64)> {
        let mut sums = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sums.retain(|_, sum| Arc::strong_count(sum) > 1);
        sums.iter().map(|(namespace, sum)| (namespace.clone(), sum.load(Ordering::Relaxed))).collect()
    }
}

impl Part {
    /// Says that it has so many bytes unread by now.
    pub(super) fn set(&mut self, bytes: u64) {
        // The sum wraps where this is less than before, and comes out right.
        self.sum.fetch_add(bytes.wrapping_sub(self.bytes), Ordering::Relaxed);
        self.bytes = bytes;
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_come_and_go_with_logs_and_are_few() {
        let backlog = Backlog::default();
        let (mut a, mut b) = (backlog.part("shop"), backlog.part("shop"));
        a.set(10);
        b.set(5);
        a.set(3);
        assert_eq!(backlog.by_namespace(), [("shop".into(), 8)]);
        drop(b);
        assert_eq!(backlog.by_namespace(), [("shop".into(), 3)]);
        let mut many: Vec<Part> = (0..1000).map(|number| backlog.part(&format!("n{number}"))).collect();
        many.iter_mut().for_each(|part| part.set(1));
        let all = backlog.by_namespace();
        assert_eq!(all.len(), MAX_NAMESPACES + 1);
        assert_eq!(all.iter().map(|(_, bytes)| bytes).sum::<u64>(), 1003);
        drop((a, many));
        assert_eq!(backlog.by_namespace(), []);
    }
}
