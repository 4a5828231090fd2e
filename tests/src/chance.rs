//! Chance that can be repeated: a small generator with a seed.

use std::time::{SystemTime, UNIX_EPOCH};

/// SplitMix64 (Steele, Lea and Flood, 2014): tiny, fast, good enough to choose what a test does next.
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// The sequence that belongs to `seed`.
    pub fn new(seed: u64) -> Chance {
        Chance(seed)
    }

    /// The sequence of one thing among many: the same three numbers give the same sequence, whatever else was drawn.
    pub fn of(seed: u64, a: u64, b: u64) -> Chance {
        let mut chance = Chance(seed ^ a.wrapping_mul(0xa076_1d64_78bd_642f) ^ b.wrapping_mul(0xe703_7ed1_a0b4_28db));
        chance.next();
        chance
    }

    /// The next 64 bits.
    #[allow(clippy::should_implement_trait, reason = "a sequence without an end is no iterator that anyone should collect")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`, which is not 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        // The high half of the product: unbiased enough for limits far below 2^64, and without a division.
        ((u128::from(self.next()) * u128::from(limit)) >> 64) as u64
    }

    /// True in `share` of 1000 cases.
    pub fn per_mille(&mut self, share: u32) -> bool {
        share > 0 && self.below(1000) < u64::from(share)
    }

    /// One of `choices`, which are not none.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len() as u64) as usize]
    }
}

/// The seed of a test whose point is that each run tries something else: `SKIDDER_SEED`, or the time.
///
/// The test prints it, so that what it found can be looked for again.
pub fn seed() -> u64 {
    let given = std::env::var("SKIDDER_SEED").ok().and_then(|text| text.parse().ok());
    given.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |age| age.as_nanos() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_itself_and_nothing_else() {
        let draw = |mut chance: Chance| [chance.next(), chance.next()];
        assert_eq!(draw(Chance::of(1, 2, 3)), draw(Chance::of(1, 2, 3)));
        assert_ne!(draw(Chance::of(1, 2, 3)), draw(Chance::of(1, 3, 2)));
        assert_ne!(draw(Chance::of(1, 2, 3)), draw(Chance::of(2, 2, 3)));
    }

    #[test]
    fn keeps_to_its_limits() {
        let mut chance = Chance::new(7);
        let mut seen = [0; 5];
        for _ in 0..1000 {
            seen[chance.below(5) as usize] += 1;
        }
        assert!(seen.iter().all(|count| (140..260).contains(count)), "{seen:?}");
        assert!(!(0..100).any(|_| chance.per_mille(0)));
        assert!((0..100).all(|_| chance.per_mille(1000)));
    }
}
