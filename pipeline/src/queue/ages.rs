//! How long the oldest frame has been waiting.

use std::collections::VecDeque;
use std::time::Duration;

use crate::edge::Nanos;

/// When frames came, as precisely as their ages are asked for, and in a bounded space: a full buffer has millions.
///
/// Frames are settled nearly in order. So with `waiting` of all frames that ever came still there, the oldest of them is
/// about the one that came when all but `waiting` had come before.
#[derive(Debug, Default)]
pub(super) struct Ages {
    /// Moments, and how many frames had come up to the end of each.
    marks: VecDeque<(Nanos, u64)>,
    came: u64,
    /// Frames that came within this time after a mark share it, so that ages are rather too great, by so much at the most.
    apart: Duration,
}

const MIN_APART: Duration = Duration::from_millis(500);

/// Beyond so many marks every second one goes, and new ones stand twice as far apart: then an age is off by a 500th of the
/// longest wait.
const MAX_MARKS: usize = 1024;

impl Ages {
    /// `count` frames came.
    pub fn came(&mut self, count: u64, now: Nanos) {
        if count == 0 {
            return;
        }
        self.came += count;
        match self.marks.back_mut() {
            Some((since, came)) if now.since(*since) < self.apart => *came = self.came,
            _ => self.marks.push_back((now, self.came)),
        }
        if self.marks.len() > MAX_MARKS {
            self.thin_out();
        }
    }

    /// Since when the oldest of the `waiting` frames has been waiting; `None` where there is none.
    pub fn oldest(&mut self, waiting: u64) -> Option<Nanos> {
        let settled = self.came.saturating_sub(waiting);
        while self.marks.pop_front_if(|(_, came)| *came <= settled).is_some() {}
        if self.marks.is_empty() {
            self.apart = MIN_APART;
        }
        self.marks.front().map(|(since, _)| *since)
    }

    fn thin_out(&mut self) {
        self.apart = self.apart.max(MIN_APART) * 2;
        let pairs = self.marks.make_contiguous().chunks(2);
        self.marks = pairs.filter_map(|pair| Some((pair.first()?.0, pair.last()?.1))).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(count: u64) -> Nanos {
        Nanos(count * 1_000_000)
    }

    #[test]
    fn the_oldest_is_the_first_that_is_not_settled() {
        let mut ages = Ages::default();
        assert_eq!(ages.oldest(0), None);
        for second in 1..=10 {
            ages.came(2, millis(second * 1000));
            ages.came(1, millis(second * 1000 + 100));
        }
        assert_eq!(ages.oldest(30), Some(millis(1000)));
        assert_eq!(ages.oldest(28), Some(millis(1000)), "one of the first three is left");
        assert_eq!(ages.oldest(27), Some(millis(2000)));
        assert_eq!(ages.oldest(1), Some(millis(10_000)));
        assert_eq!(ages.oldest(0), None);
        ages.came(1, millis(20_000));
        assert_eq!(ages.oldest(1), Some(millis(20_000)));
    }

    #[test]
    fn long_waits_take_no_more_space_and_the_oldest_stays() {
        let mut ages = Ages::default();
        for second in 1..=20_000 {
            ages.came(1, millis(second * 1000));
        }
        assert!(ages.marks.len() <= MAX_MARKS);
        assert_eq!(ages.oldest(20_000), Some(millis(1000)));
        // Half-way through it is a little too great, and never too small.
        let oldest = ages.oldest(10_000).map_or(0, |at| at.0 / 1_000_000_000);
        assert!((9_950..=10_001).contains(&oldest), "{oldest}");
    }
}
