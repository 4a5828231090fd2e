//! How many sends may be under way at once.

use std::time::Duration;

use crate::edge::Nanos;

/// A limit that finds its level by additive increase and multiplicative decrease, as TCP's window does (Chiu and Jain,
/// 1989): one more after a full round of successes at the limit, half after a sign of overload, a quarter less where the answers
/// of a round took far longer than those of the rounds before: then the sends only wait for each other at the store. What is
/// slow for long is that store's pace, and no longer lowers the limit.
///
/// Starts at 2: one send hides the other's round trip, and a store that just came back is not flooded.
#[derive(Clone, Debug)]
pub struct Limit {
    current: usize,
    max: usize,
    /// Successes since the last change or round.
    successes: usize,
    /// How long their answers took together.
    took: Duration,
    /// How long an answer took in the rounds before.
    pace: Pace,
    /// Whether as many sends as allowed were under way since the last change. Where there was not enough to send, success
    /// says nothing of what the store bears.
    reached: bool,
    /// When it was last lowered: what was sent before does not lower it again.
    lowered_at: Nanos,
}

impl Limit {
    const START: usize = 2;

    /// A limit that adapts between 1 and `max`.
    pub fn adaptive(max: usize) -> Limit {
        let max = max.max(1);
        Limit::new(Limit::START.min(max), max)
    }

    /// A limit that stays at `count`.
    pub fn fixed(count: usize) -> Limit {
        // With nothing between the start and the top there is nothing to adapt; `lower` respects it too.
        Limit::new(count.max(1), 0)
    }

    fn new(current: usize, max: usize) -> Limit {
        let (took, pace) = (Duration::ZERO, Pace::default());
        Limit { current, max, successes: 0, took, pace, reached: false, lowered_at: Nanos(0) }
    }

    /// The most sends at once, at least 1.
    pub fn current(&self) -> usize {
        self.current
    }

    /// One more was sent, so that `under_way` are.
    pub fn sent(&mut self, under_way: usize) {
        self.reached |= under_way >= self.current;
    }

    /// A send that started at `sent_at` succeeded.
    pub fn succeeded(&mut self, sent_at: Nanos, now: Nanos) {
        self.successes += 1;
        self.took += now.since(sent_at);
        if self.max == 0 || self.successes < self.current {
            return;
        }
        let mean = self.took / self.successes as u32;
        let is_slow = self.pace.is_far_below(mean);
        self.pace.learn(mean);
        match (is_slow, self.reached) {
            (true, _) => self.change_to((self.current * 3 / 4).max(1)),
            (false, true) => self.change_to((self.current + 1).min(self.max)),
            (false, false) => self.change_to(self.current),
        }
    }

    /// A send that started at `sent_at` met overload: 429, a server's fault, a time-out. Several that were under way
    /// together count as one sign.
    pub fn overloaded(&mut self, sent_at: Nanos, now: Nanos) {
        if self.max == 0 || sent_at < self.lowered_at {
            return;
        }
        self.change_to((self.current / 2).max(1));
        self.lowered_at = now;
    }

    fn change_to(&mut self, count: usize) {
        (self.current, self.successes, self.took, self.reached) = (count, 0, Duration::ZERO, false);
    }
}

/// A mean of what answers took, and how far they are from it in the mean, both of which forget (RFC 6298 does so for TCP).
#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    mean: Option<Duration>,
    deviation: Duration,
}

impl Pace {
    /// A store that answers within this is not slow, whatever it did before.
    const QUICK: Duration = Duration::from_millis(100);

    /// Whether `took` is much more than what is usual: twice as much, and more than chance explains.
    fn is_far_below(&self, took: Duration) -> bool {
        self.mean.is_some_and(|mean| took > Pace::QUICK && took > mean * 2 && took > mean + self.deviation * 2)
    }

    fn learn(&mut self, took: Duration) {
        match &mut self.mean {
            None => (self.mean, self.deviation) = (Some(took), took / 2),
            Some(mean) => {
                self.deviation = (self.deviation * 3 + mean.abs_diff(took)) / 4;
                *mean = (*mean * 7 + took) / 8;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(limit: &mut Limit) {
        round_of(limit, 0);
    }

    /// A round at the limit whose answers take so many milliseconds.
    fn round_of(limit: &mut Limit, millis: u64) {
        let count = limit.current();
        (1..=count).for_each(|under_way| limit.sent(under_way));
        (1..=count).for_each(|_| limit.succeeded(Nanos(0), Nanos(millis * 1_000_000)));
    }

    #[test]
    fn climbs_one_a_round_and_halves_once_a_round() {
        let mut limit = Limit::adaptive(8);
        let mut rounds = Vec::new();
        for _ in 0..8 {
            rounds.push(limit.current());
            round(&mut limit);
        }
        assert_eq!(rounds, [2, 3, 4, 5, 6, 7, 8, 8]);
        for _ in 0..8 {
            limit.overloaded(Nanos(10), Nanos(20)); // all eight were sent at 10
        }
        assert_eq!(limit.current(), 4);
        for sent in [20, 30, 40, 50] {
            limit.overloaded(Nanos(sent), Nanos(sent + 10));
        }
        assert_eq!(limit.current(), 1);
    }

    #[test]
    fn an_idle_sink_learns_nothing_from_success() {
        let mut limit = Limit::adaptive(8);
        for _ in 0..100 {
            limit.sent(1);
            limit.succeeded(Nanos(0), Nanos(0));
        }
        assert_eq!(limit.current(), 2);
    }

    #[test]
    fn answers_that_take_far_longer_than_before_lower_it_until_that_is_usual() {
        let mut limit = Limit::adaptive(8);
        // As unsteady as a store that works may be.
        for n in 0..40 {
            round_of(&mut limit, [200, 260, 150, 300][n % 4]);
        }
        assert_eq!(limit.current(), 8);
        round_of(&mut limit, 1_500);
        assert_eq!(limit.current(), 6);
        let mut least = 6;
        for _ in 0..40 {
            round_of(&mut limit, 1_500);
            least = least.min(limit.current());
        }
        assert!(least < 6 && limit.current() == 8, "{least} at the least, {} now", limit.current());
        // One that is quick is not slow.
        let mut quick = Limit::adaptive(8);
        for n in 0..40 {
            round_of(&mut quick, [1, 1, 1, 90][n % 4]);
        }
        assert_eq!(quick.current(), 8);
    }

    #[test]
    fn a_fixed_limit_stays() {
        let mut limit = Limit::fixed(4);
        for n in 0..100 {
            round(&mut limit);
            limit.overloaded(Nanos(n), Nanos(n));
        }
        assert_eq!(limit.current(), 4);
        assert_eq!(Limit::fixed(0).current(), 1);
        assert_eq!(Limit::adaptive(0).current(), 1);
    }
}
