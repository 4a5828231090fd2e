//! How long to wait before the next try.

use std::time::Duration;

use crate::edge::Chance;

/// Exponential backoff with full jitter: a time evenly spread between nothing and a cap that doubles with each try.
///
/// Full jitter spreads the agents of a whole cluster, which all saw the store fail at the same moment, best of the known
/// ways ("Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Backoff {
    /// The cap before the first retry.
    pub initial: Duration,
    /// What the cap never exceeds.
    pub max: Duration,
}

impl Backoff {
    /// For retries: 250 ms is little enough that a reader of the store sees no hiccup, 30 s little enough that nobody waits
    /// long once the store is back.
    pub const RETRY: Backoff = Backoff { initial: Duration::from_millis(250), max: Duration::from_secs(30) };

    /// For a store that waits for a person (credentials, a missing index): every try is in vain until then.
    pub const PAUSE: Backoff = Backoff { initial: Duration::from_secs(30), max: Duration::from_secs(300) };

    /// The time to wait after `failures` failures in a row (at least 1), spread evenly from nothing up.
    pub fn full_jitter(&self, failures: u32, chance: &mut dyn Chance) -> Duration {
        self.cap(failures).mul_f64(chance.fraction())
    }

    /// The same, but never less than half of the cap: for waits that are meant to be long.
    pub fn half_jitter(&self, failures: u32, chance: &mut dyn Chance) -> Duration {
        self.cap(failures).mul_f64(0.5 + chance.fraction() / 2.0)
    }

    fn cap(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        self.initial.saturating_mul(1 << doublings).min(self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::SplitMix;

    #[test]
    fn doubles_up_to_the_cap_and_spreads_below_it() {
        let caps: Vec<u64> = [1, 2, 3, 7, 8, 9, 100, u32::MAX].map(|n| Backoff::RETRY.cap(n).as_millis() as u64).into();
        assert_eq!(caps, [250, 500, 1000, 16_000, 30_000, 30_000, 30_000, 30_000]);
        let mut chance = SplitMix(1);
        let waits: Vec<Duration> = (0..1000).map(|_| Backoff::RETRY.full_jitter(3, &mut chance)).collect();
        assert!(waits.iter().all(|w| *w < Duration::from_secs(1)));
        assert!(waits.iter().any(|w| *w < Duration::from_millis(50)) && waits.iter().any(|w| *w > Duration::from_millis(950)));
        assert!((0..1000).all(|_| Backoff::PAUSE.half_jitter(1, &mut chance) >= Duration::from_secs(15)));
    }
}
