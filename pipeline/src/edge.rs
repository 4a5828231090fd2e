//! What the middle is handed: clock and chance. (The file system is [`crate::fs`], the network [`crate::sink::Transport`].)

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A monotonic time in nanoseconds since a start that only differences are taken from.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub struct Nanos(pub u64);

impl Nanos {
    /// The time `wait` later.
    pub fn after(self, wait: Duration) -> Nanos {
        Nanos(self.0.saturating_add(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// How long after `earlier` this is; zero where it is not after it.
    pub fn since(self, earlier: Nanos) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// The two clocks.
pub trait Clock: Send + Sync {
    /// The monotonic time: for waiting.
    fn now(&self) -> Nanos;

    /// Nanoseconds since 1970-01-01T00:00:00Z: for stamping what has no time of its own.
    fn unix_nanos(&self) -> i64;
}

/// Chance, for jitter.
pub trait Chance: Send {
    /// A number evenly spread over `0.0..1.0`.
    fn fraction(&mut self) -> f64;
}

/// The machine's clocks.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// Clocks whose monotonic time starts at an hour, so that earlier times can be named.
    pub fn new() -> SystemClock {
        SystemClock { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        SystemClock::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Nanos {
        Nanos(3_600_000_000_000).after(self.start.elapsed())
    }

    fn unix_nanos(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_nanos()).unwrap_or(i64::MAX).saturating_add(crate::fail::clock_offset_nanos())
    }
}

/// A small generator (SplitMix64; Steele, Lea, Flood 2014) seeded once: jitter needs no more.
#[derive(Clone, Debug)]
pub struct SplitMix(pub u64);

impl Chance for SplitMix {
    fn fraction(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}
