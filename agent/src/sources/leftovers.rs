//! What the sinks hold of files that no source meets any more. It is forgotten, so that positions do not grow for ever.
//!
//! While the agent runs, a container's log is forgotten with its last file. What went while the agent was down, and what a
//! `file` source closed after a rotation and never met again, is known by its key alone, which does not say where it was. So
//! once an hour the sources say which keys they know to be there, and what was in none of their lists [`MAX_MISSED`] times
//! running is forgotten: files that were away for a day of the agent's time. Who comes back later is read from the start: sent
//! again, not lost. Nothing is forgotten by mistake, since
//!
//! - a round counts only where each source could look everywhere: one whose root is away or empty, as that of a file system
//!   which is not mounted, or that cannot read a directory, or does not know a log's first line, has nothing to say;
//! - files on a device of which a `file` source sees nothing are away, not gone: the register of files knows where they were;
//! - what waits for its delivery to any sink is left alone.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use skidder_pipeline::edge::Nanos;
use skidder_pipeline::position::FileKey;
use skidder_pipeline::source::Held;

/// The time between two rounds.
const ROUND: Duration = Duration::from_secs(3_600);
/// In how many rounds running a file must have been missed.
const MAX_MISSED: u32 = 24;

/// The lists of all sources of a process.
#[derive(Debug, Default)]
pub struct Leftovers {
    lists: Mutex<Lists>,
    /// How many sources keep positions. Before all of these take part nothing is forgotten.
    sources: usize,
}

#[derive(Debug, Default)]
struct Lists {
    /// By source: what it said last, where that was in this round.
    there: Vec<Option<Vec<FileKey>>>,
    /// Files that were missed, with in how many rounds.
    missed: HashMap<FileKey, u32>,
}

/// One source's part in it.
#[derive(Clone, Debug)]
pub(crate) struct Witness {
    all: Arc<Leftovers>,
    source: usize,
    next: Nanos,
}

impl Leftovers {
    /// For as many sources that keep positions.
    pub fn of(sources: usize) -> Leftovers {
        Leftovers { lists: Mutex::default(), sources }
    }

    /// A part for one more source, which begins at `now`.
    pub(crate) fn join(self: &Arc<Leftovers>, now: Nanos) -> Witness {
        let mut lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        lists.there.push(None);
        Witness { all: self.clone(), source: lists.there.len() - 1, next: now.after(ROUND) }
    }
}

impl Lists {
    fn close_round(&mut self, held: &dyn Held) {
        let there: HashSet<FileKey> = self.there.iter_mut().filter_map(Option::take).flatten().collect();
        let before = std::mem::take(&mut self.missed);
        for file in held.files().into_iter().filter(|file| !there.contains(file)) {
            let missed = before.get(&file).map_or(1, |missed| missed + 1);
            if missed >= MAX_MISSED && held.is_delivered(&file) {
                held.forget(&file);
            } else {
                self.missed.insert(file, missed);
            }
        }
    }
}

impl Witness {
    /// Whether it is time to say what is there.
    pub(crate) fn is_due(&self, now: Nanos) -> bool {
        now >= self.next
    }

    /// Says what is there; `None` where that is not known for sure.
    pub(crate) fn say(&mut self, there: Option<Vec<FileKey>>, held: &dyn Held, now: Nanos) {
        self.next = now.after(ROUND);
        let mut lists = self.all.lists.lock().unwrap_or_else(PoisonError::into_inner);
        lists.there[self.source] = there;
        if lists.there.len() >= self.all.sources && lists.there.iter().all(Option::is_some) {
            lists.close_round(held);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use crate::sources::testing::Fake;
    use skidder_pipeline::position::Range;
    use skidder_pipeline::source::SinkSet;

    #[test]
    fn only_what_all_sources_miss_for_a_day_and_every_sink_delivered_is_forgotten() {
        let (held, keys) = (Fake::default(), [1, 2, 3, 4].map(|n| FileKey([n; 16])));
        keys.iter().for_each(|file| held.hold(SinkSet::first(1), &[Range { file: *file, start: 0, end: 9, marker: 0 }]));
        held.1.lock().unwrap().insert(keys[3]);
        let all = Arc::new(Leftovers::of(2));
        let (mut a, mut b, mut now) = (all.join(Nanos(0)), all.join(Nanos(0)), Nanos(0));
        assert!(!a.is_due(now));
        for round in 1..=MAX_MISSED {
            assert_eq!(held.files().len(), 4, "round {round}");
            now = now.after(ROUND);
            assert!(a.is_due(now));
            a.say(Some(vec![keys[0]]), &held, now);
            assert!(!a.is_due(now));
            // A source that does not know makes it no round at all.
            b.say(None, &held, now);
            b.say(Some(vec![keys[1]]), &held, now);
        }
        let mut left = held.files();
        left.sort();
        assert_eq!(left, [keys[0], keys[1], keys[3]], "there, there, gone, and gone but not delivered");
        held.1.lock().unwrap().clear();
        a.say(Some(vec![keys[0]]), &held, now);
        b.say(Some(vec![]), &held, now);
        assert_eq!(held.files().len(), 2, "delivered by now; what was there in the round before is not gone");
    }
}
