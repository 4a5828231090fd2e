//! True repeats: the same line at the same time, written twice.
//!
//! Loki takes an entry whose stream, time, line and structured metadata it has already for one that was sent again, and ignores it.
//! That is what makes it safe to send again, and what would lose a line that an application wrote twice within one tick of its
//! runtime's clock. So the second of two equals is given a time one nanosecond later, the third two, and so on: by their order
//! in the file, so that a re-read numbers them alike.
//!
//! A re-read may begin in the midst of equals: the frame before the seam holds the first of them, and is not read again. What was
//! sent was in a frame, so the records behind the seam are new to the store; but how many equals stand before the seam is not
//! known. So as long as their time does not move on they are told apart in another way: by their id, as structured metadata.

use std::collections::HashMap;

use skidder_pipeline::position::FileKey;

/// What is remembered of the last entries, over all streams.
pub struct Repeats {
    /// For a stream, a time and a line: the time to try for the next equal one, as nanoseconds on top.
    seen: HashMap<u64, u32>,
    /// The same of those before. What is asked for again moves to the front, so a long run is not forgotten within itself.
    before: HashMap<u64, u32>,
    /// For each file: the time that its first record had, until the time moves on.
    files: HashMap<FileKey, Option<i64>>,
}

impl Repeats {
    /// Entries of each of the two halves: those of some chunks, since equal times are next to each other in a file. About half a
    /// MiB in all.
    const HALF: usize = 1 << 14;

    /// Files that are remembered. One that is forgotten is met as if it were new, which costs its next records an id.
    const FILES: usize = 1 << 12;

    /// Nothing seen.
    pub fn new() -> Repeats {
        Repeats { seen: HashMap::new(), before: HashMap::new(), files: HashMap::new() }
    }

    /// Whether the record of `file` at `offset` and `time` may have equals before it that are not known.
    pub fn is_at_seam(&mut self, file: &FileKey, offset: u64, time: i64) -> bool {
        if self.files.len() >= Self::FILES && !self.files.contains_key(file) {
            self.files.clear();
        }
        let seam = self.files.entry(*file).or_insert((offset > 0).then_some(time));
        if *seam != Some(time) {
            *seam = None;
        }
        seam.is_some()
    }

    /// The time for an entry: `time`, or the next one that no equal entry of the stream has.
    pub fn time_for(&mut self, stream: u64, time: i64, line: &[u8]) -> i64 {
        let line = u64::from(crc32c::crc32c(line)) << 32 | line.len() as u64 & 0xffff_ffff;
        let key = |time: i64| mix(stream ^ mix(line ^ mix(time as u64)));
        let first = key(time);
        let Some(next) = self.next(first) else {
            self.remember(first, 1);
            return time;
        };
        let mut ordinal = i64::from(next);
        while self.next(key(time.saturating_add(ordinal))).is_some() {
            ordinal += 1;
        }
        self.remember(key(time.saturating_add(ordinal)), 1);
        self.remember(first, u32::try_from(ordinal + 1).unwrap_or(u32::MAX));
        time.saturating_add(ordinal)
    }

    fn next(&self, key: u64) -> Option<u32> {
        self.seen.get(&key).or_else(|| self.before.get(&key)).copied()
    }

    fn remember(&mut self, key: u64, next: u32) {
        if self.seen.len() >= Self::HALF {
            self.before = std::mem::take(&mut self.seen);
        }
        self.seen.insert(key, next);
    }
}

/// The finalizer of SplitMix64: spreads every bit over all. Two entries with one key would only cost the later a nanosecond.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_are_numbered_and_others_are_not() {
        let mut repeats = Repeats::new();
        let times: Vec<i64> = [(1, 7, "a"), (1, 7, "a"), (1, 7, "b"), (2, 7, "a"), (1, 7, "a"), (1, 8, "a"), (1, 8, "b"), (1, 7, "a")]
            .into_iter()
            .map(|(stream, time, line)| repeats.time_for(stream, time, line.as_bytes()))
            .collect();
        // The one at 8 finds its place taken by the second at 7.
        assert_eq!(times, [7, 8, 7, 7, 9, 10, 8, 11]);
    }

    #[test]
    fn a_long_run_is_numbered_in_one_pass_and_memory_is_bounded() {
        let mut repeats = Repeats::new();
        let times: std::collections::BTreeSet<i64> = (0..100_000).map(|_| repeats.time_for(1, 0, b"same")).collect();
        assert_eq!(times.len(), 100_000);
        assert!(repeats.seen.len() <= Repeats::HALF && repeats.before.len() <= Repeats::HALF);
    }

    #[test]
    fn a_seam_lasts_as_long_as_its_time() {
        let mut repeats = Repeats::new();
        let (begun, resumed) = (FileKey([1; 16]), FileKey([2; 16]));
        assert!(!repeats.is_at_seam(&begun, 0, 5) && !repeats.is_at_seam(&begun, 10, 5));
        assert!(repeats.is_at_seam(&resumed, 10, 5) && repeats.is_at_seam(&resumed, 20, 5));
        assert!(!repeats.is_at_seam(&resumed, 30, 6) && !repeats.is_at_seam(&resumed, 40, 5));
    }
}
