//! How many sends may be under way at once.

use crate::edge::Nanos;

/// A limit that finds its level by additive increase and multiplicative decrease, as TCP's window does (Chiu and Jain,
/// 1989): one more after a full round of successes at the limit, half after a sign of overload.
///
/// Starts at 2: one send hides the other's round trip, and a store that just came back is not flooded.
#[derive(Clone, Debug)]
pub struct Limit {
    current: usize,
    max: usize,
    /// Successes since the last change.
    successes: usize,
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
        Limit { current: Limit::START.min(max), max, successes: 0, reached: false, lowered_at: Nanos(0) }
    }

    /// A limit that stays at `count`.
    pub fn fixed(count: usize) -> Limit {
        // With nothing between the start and the top there is nothing to adapt; `lower` respects it too.
        Limit { current: count.max(1), max: 0, successes: 0, reached: false, lowered_at: Nanos(0) }
    }

    /// The most sends at once, at least 1.
    pub fn current(&self) -> usize {
        self.current
    }

    /// One more was sent, so that `under_way` are.
    pub fn sent(&mut self, under_way: usize) {
        self.reached |= under_way >= self.current;
    }

    /// A send succeeded.
    pub fn succeeded(&mut self) {
        self.successes += 1;
        if self.reached && self.successes >= self.current && self.current < self.max {
            self.change_to(self.current + 1);
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
        (self.current, self.successes, self.reached) = (count, 0, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(limit: &mut Limit) {
        let count = limit.current();
        (1..=count).for_each(|under_way| limit.sent(under_way));
        (1..=count).for_each(|_| limit.succeeded());
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
            limit.succeeded();
        }
        assert_eq!(limit.current(), 2);
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
