//! How much lies unread in the logs of each namespace, and how old the oldest record is that its stores do not have.
//!
//! A series is there as long as some log of its namespace is open or something of it is under way, and there are few at the
//! most: a cluster may have as many namespaces as it likes.
//!
//! How old: a record that is read goes into frames, which are settled nearly in the order in which they came. So what was read
//! before the oldest waiting frame came is delivered, and of what was read later the oldest counts, by its own time. What is
//! not read counts from when it was seen. Neither needs to know which frame holds what.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use skidder_pipeline::edge::Nanos;

/// How many namespaces are counted apart; what is beyond is counted together.
const MAX_NAMESPACES: usize = 200;
/// What those beyond are called: no name of a namespace, which has no `_`.
const OTHERS: &str = "_others";
/// How many moments of reading are kept apart for each; beyond, neighbours are taken together.
const MAX_MARKS: usize = 128;
/// How long before a frame what it holds may have been read: the longest that a batch waits to be full.
const MAX_FILLING: Duration = Duration::from_secs(10);

/// Namespaces by name.
#[derive(Debug, Default)]
pub struct Backlog(Mutex<BTreeMap<Box<str>, Arc<Namespace>>>);

/// What is counted of a namespace.
#[derive(Debug, Default)]
struct Namespace {
    unread_bytes: AtomicU64,
    /// For each log with something unread since when, and a number that is its own.
    waiting: Mutex<BTreeSet<(Nanos, u64)>>,
    marks: Mutex<VecDeque<Mark>>,
}

/// Records that were read about the same time.
#[derive(Clone, Copy, Debug)]
struct Mark {
    from: Nanos,
    to: Nanos,
    /// The time of the oldest of them, in nanoseconds since 1970.
    oldest: i64,
}

/// What one log adds to its namespace; nothing any more when dropped.
#[derive(Debug)]
pub(super) struct Part {
    of: Arc<Namespace>,
    number: u64,
    bytes: u64,
    since: Nanos,
}

/// A namespace as `/metrics` shows it.
#[derive(Clone, PartialEq, Debug)]
pub struct Behind {
    /// Its name.
    pub namespace: Box<str>,
    /// Bytes in its logs that are known to be there and not read.
    pub unread_bytes: u64,
    /// How old the oldest record is that is not delivered.
    pub lag: Duration,
}

impl Backlog {
    /// A part for a log of `namespace`.
    pub(super) fn part(&self, namespace: &str) -> Part {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Part { of: self.namespace(namespace), number: NEXT.fetch_add(1, Ordering::Relaxed), bytes: 0, since: Nanos(0) }
    }

    /// Says that records of `namespace` were read at `now`, the oldest of which is of `oldest` (nanoseconds since 1970).
    pub fn read(&self, namespace: &str, now: Nanos, oldest: i64) {
        let namespace = self.namespace(namespace);
        let mut marks = locked(&namespace.marks);
        // Within a hundredth of the longest wait they are about the same.
        let apart = marks.front().map_or(Duration::ZERO, |first| now.since(first.from) / MAX_MARKS as u32);
        match marks.back_mut() {
            Some(last) if now.since(last.from) <= apart => (last.to, last.oldest) = (now, last.oldest.min(oldest)),
            _ => marks.push_back(Mark { from: now, to: now, oldest }),
        }
        if marks.len() > 2 * MAX_MARKS {
            let pairs = marks.make_contiguous().chunks(2);
            let join = |pair: &[Mark]| {
                let (first, last) = (pair.first()?, pair.last()?);
                Some(Mark { from: first.from, to: last.to, oldest: first.oldest.min(last.oldest) })
            };
            *marks = pairs.filter_map(join).collect();
        }
    }

    /// All namespaces, where the oldest frame that waits for any store has been waiting since `waiting`; `now` by both clocks.
    pub fn by_namespace(&self, waiting: Option<Nanos>, now: Nanos, unix_now: i64) -> Vec<Behind> {
        let mut namespaces = locked(&self.0);
        let delivered = delivered_before(waiting, now);
        namespaces.values().for_each(|one| one.forget(delivered));
        namespaces.retain(|_, one| Arc::strong_count(one) > 1 || !locked(&one.marks).is_empty());
        let all = namespaces.iter().map(|(name, one)| Behind {
            namespace: name.clone(),
            unread_bytes: one.unread_bytes.load(Ordering::Relaxed),
            lag: one.lag(now, unix_now),
        });
        all.collect()
    }

    fn namespace(&self, name: &str) -> Arc<Namespace> {
        let mut namespaces = locked(&self.0);
        if !namespaces.contains_key(name) {
            namespaces.retain(|_, one| Arc::strong_count(one) > 1 || !locked(&one.marks).is_empty());
        }
        let known = namespaces.contains_key(name) || namespaces.len() < MAX_NAMESPACES;
        namespaces.entry(if known { name.into() } else { OTHERS.into() }).or_default().clone()
    }
}

/// What was read before this is delivered. While stores keep up that is nearly now; where one does not, what its oldest frame
/// holds was read in the seconds before it.
fn delivered_before(waiting: Option<Nanos>, now: Nanos) -> Nanos {
    let Some(waiting) = waiting else { return Nanos(now.0.saturating_add(1)) };
    let filling = MAX_FILLING.min(now.since(waiting) / 2);
    Nanos(waiting.0.saturating_sub(u64::try_from(filling.as_nanos()).unwrap_or(u64::MAX)))
}

impl Namespace {
    fn forget(&self, delivered: Nanos) {
        let mut marks = locked(&self.marks);
        while marks.pop_front_if(|mark| mark.to < delivered).is_some() {}
    }

    fn lag(&self, now: Nanos, unix_now: i64) -> Duration {
        let unread = locked(&self.waiting).first().map_or(Duration::ZERO, |(since, _)| now.since(*since));
        let oldest = locked(&self.marks).iter().map(|mark| mark.oldest).min();
        let undelivered = oldest.map_or(0, |oldest| u64::try_from(unix_now.saturating_sub(oldest)).unwrap_or(0));
        unread.max(Duration::from_nanos(undelivered))
    }
}

impl Part {
    /// Says that it has so many bytes unread by now.
    pub(super) fn set(&mut self, bytes: u64, now: Nanos) {
        // The sum wraps where this is less than before, and comes out right.
        self.of.unread_bytes.fetch_add(bytes.wrapping_sub(self.bytes), Ordering::Relaxed);
        if bytes > 0 && self.bytes == 0 {
            self.since = now;
            locked(&self.of.waiting).insert((now, self.number));
        } else if bytes == 0 && self.bytes > 0 {
            locked(&self.of.waiting).remove(&(self.since, self.number));
        }
        self.bytes = bytes;
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.set(0, Nanos(0));
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn at(seconds: u64) -> Nanos {
        Nanos(seconds * SECOND)
    }

    fn seen(backlog: &Backlog, waiting: Option<Nanos>, now: u64) -> Vec<(String, u64, u64)> {
        let all = backlog.by_namespace(waiting, at(now), (now * SECOND) as i64);
        all.into_iter().map(|one| (one.namespace.into(), one.unread_bytes, one.lag.as_secs())).collect()
    }

    #[test]
    fn series_come_and_go_with_logs_and_are_few() {
        let backlog = Backlog::default();
        let (mut a, mut b) = (backlog.part("shop"), backlog.part("shop"));
        a.set(10, at(1));
        b.set(5, at(2));
        a.set(3, at(3));
        assert_eq!(seen(&backlog, None, 11), [("shop".into(), 8, 10)]);
        a.set(0, at(4));
        assert_eq!(seen(&backlog, None, 11), [("shop".into(), 5, 9)], "the other one waits for less long");
        a.set(1, at(10));
        drop(b);
        assert_eq!(seen(&backlog, None, 11), [("shop".into(), 1, 1)]);
        let mut many: Vec<Part> = (0..1000).map(|number| backlog.part(&format!("n{number}"))).collect();
        many.iter_mut().for_each(|part| part.set(1, at(11)));
        let all = seen(&backlog, None, 11);
        assert_eq!(all.len(), MAX_NAMESPACES + 1);
        assert_eq!(all.iter().map(|(_, bytes, _)| bytes).sum::<u64>(), 1001);
        drop((a, many));
        assert_eq!(seen(&backlog, None, 11), []);
    }

    #[test]
    fn what_is_read_counts_until_the_frames_of_its_time_are_settled() {
        let backlog = Backlog::default();
        let part = backlog.part("shop");
        backlog.read("shop", at(100), 90 * SECOND as i64);
        backlog.read("quiet", at(100), 99 * SECOND as i64);
        backlog.read("shop", at(200), 190 * SECOND as i64);
        // A store is down since about then: the first frame came some seconds after its records were read.
        let waiting = Some(at(103));
        assert_eq!(seen(&backlog, waiting, 300), [("quiet".into(), 0, 201), ("shop".into(), 0, 210)]);
        // It takes the first frame: one namespace has nothing more under way, and no log that is open.
        assert_eq!(seen(&backlog, Some(at(205)), 300), [("shop".into(), 0, 110)]);
        assert_eq!(seen(&backlog, None, 300), [("shop".into(), 0, 0)]);
        // While stores keep up the age is that of the last moments.
        backlog.read("shop", at(299), 299 * SECOND as i64);
        assert_eq!(seen(&backlog, Some(at(299)), 300), [("shop".into(), 0, 1)]);
        drop(part);
        assert_eq!(seen(&backlog, None, 301), []);
    }

    #[test]
    fn long_outages_take_no_more_room_and_the_oldest_stays() {
        let backlog = Backlog::default();
        for second in 1..=100_000 {
            backlog.read("shop", at(second), (second * SECOND) as i64);
        }
        let marks = backlog.namespace("shop").marks.lock().map(|marks| marks.len()).unwrap_or(usize::MAX);
        assert!(marks <= 2 * MAX_MARKS, "{marks}");
        assert_eq!(seen(&backlog, Some(at(1)), 100_000), [("shop".into(), 0, 99_999)]);
        let half = seen(&backlog, Some(at(50_000)), 100_000)[0].2;
        assert!((50_000..=51_600).contains(&half), "{half}");
    }
}
