//! Which bytes of which files: keys, ranges, and sets of ranges.

use std::fmt;

use sha2::{Digest, Sha256};

/// The name of one generation of one file, for as long as its content lives: 128 bits of a SHA-256 over what identifies
/// it (see the sources). Never its path: a rotation renames it and keeps the key.
///
/// The hash is cryptographic because parts of it (the first line) are written by the pods: with a weak one a pod could aim
/// at the key of another's file, and the stores would refuse the other's records as copies.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FileKey(pub [u8; 16]);

impl FileKey {
    /// The key made of `parts`, each preceded by its length, so that no two lists of parts read alike.
    pub fn of(parts: &[&[u8]]) -> FileKey {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        let mut key = [0; 16];
        key.copy_from_slice(&hash.finalize()[..16]);
        FileKey(key)
    }
}

/// How many bytes before a position its [`marker`] covers.
pub const MARKER_BYTES: usize = 256;

/// A short hash of the bytes before a position: the first eight bytes (little-endian) of the SHA-256 of up to
/// [`MARKER_BYTES`] bytes of uncompressed text that end there. It tells at a re-opening whether a file still is the one
/// that was read.
pub fn marker(before: &[u8]) -> u64 {
    let tail = &before[before.len().saturating_sub(MARKER_BYTES)..];
    let hash = Sha256::digest(tail);
    let mut first = [0; 8];
    first.copy_from_slice(&hash[..8]);
    u64::from_le_bytes(first)
}

/// A stretch of one file's uncompressed text that is dealt with: `start` included, `end` excluded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Range {
    /// The file.
    pub file: FileKey,
    /// First byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
    /// The [`marker`] of the bytes before `end`.
    pub marker: u64,
}

impl Range {
    /// The number of bytes.
    pub fn len(&self) -> u64 {
        self.end - self.start
    }

    /// Whether it holds no byte.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }
}

/// Adds `range` to `ranges`, growing the last one of the same file where it continues that.
pub fn push_range(ranges: &mut Vec<Range>, range: Range) {
    if range.is_empty() {
        return;
    }
    if let Some(last) = ranges.iter_mut().rev().find(|r| r.file == range.file && r.end == range.start) {
        (last.end, last.marker) = (range.end, range.marker);
    } else {
        ranges.push(range);
    }
}

/// A set of offsets of one file, as sorted stretches that neither touch nor overlap, each with the marker of its end.
#[derive(Clone, Default)]
pub struct RangeSet(Stretches);

/// There are thousands of sets, and most never have a second stretch.
#[derive(Clone, Default)]
enum Stretches {
    #[default]
    None,
    One(Held),
    Many(Vec<Held>),
}

/// One stretch of a [`RangeSet`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Held {
    /// First offset.
    pub start: u64,
    /// One past the last offset.
    pub end: u64,
    /// The [`marker`] of the bytes before `end`.
    pub marker: u64,
}

impl RangeSet {
    /// Adds `start..end`; its `marker` counts where it is the one that ends a stretch.
    pub fn insert(&mut self, start: u64, end: u64, marker: u64) {
        if start >= end {
            return;
        }
        let mut new = Held { start, end, marker };
        let stretches = self.stretches();
        let from = stretches.partition_point(|h| h.end < start);
        let to = stretches.partition_point(|h| h.start <= end);
        for old in &stretches[from..to] {
            new.start = new.start.min(old.start);
            if old.end > new.end {
                (new.end, new.marker) = (old.end, old.marker);
            }
        }
        let takes_all = to - from == stretches.len();
        match &mut self.0 {
            all if takes_all => *all = Stretches::One(new),
            Stretches::Many(many) => _ = many.splice(from..to, [new]),
            Stretches::One(old) => self.0 = Stretches::Many(if from == 0 { vec![new, *old] } else { vec![*old, new] }),
            Stretches::None => {}
        }
    }

    /// The stretches in order.
    pub fn stretches(&self) -> &[Held] {
        match &self.0 {
            Stretches::None => &[],
            Stretches::One(one) => std::slice::from_ref(one),
            Stretches::Many(many) => many,
        }
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.stretches().is_empty()
    }

    /// Whether `offset` is held.
    pub fn contains(&self, offset: u64) -> bool {
        let stretches = self.stretches();
        let next = stretches.partition_point(|h| h.end <= offset);
        stretches.get(next).is_some_and(|h| h.start <= offset)
    }

    /// The contiguous low mark: the first offset, counted from the start of the file, that is not held.
    pub fn low_mark(&self) -> u64 {
        match self.stretches().first() {
            Some(first) if first.start == 0 => first.end,
            _ => 0,
        }
    }

    /// The end of the last stretch; zero for an empty set.
    pub fn high_mark(&self) -> u64 {
        self.stretches().last().map_or(0, |h| h.end)
    }

    /// What all of `sets` hold; nothing where there are none.
    pub fn intersection<'a>(mut sets: impl Iterator<Item = &'a RangeSet>) -> RangeSet {
        let mut common = sets.next().cloned().unwrap_or_default();
        for set in sets {
            let mut both = RangeSet::default();
            for a in common.stretches() {
                for b in set.stretches() {
                    let end = if a.end <= b.end { a } else { b };
                    both.insert(a.start.max(b.start), end.end, end.marker);
                }
            }
            common = both;
        }
        common
    }

    /// The next offset after `offset` at which holding begins or ends, if there is one.
    pub fn next_edge(&self, offset: u64) -> Option<u64> {
        let stretches = self.stretches();
        let held = stretches.get(stretches.partition_point(|h| h.end <= offset))?;
        Some(if held.start > offset { held.start } else { held.end })
    }
}

impl PartialEq for RangeSet {
    fn eq(&self, other: &RangeSet) -> bool {
        self.stretches() == other.stretches()
    }
}

impl Eq for RangeSet {}

impl fmt::Debug for RangeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.stretches()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(stretches: &[(u64, u64)]) -> RangeSet {
        let mut set = RangeSet::default();
        for &(start, end) in stretches {
            set.insert(start, end, end);
        }
        set
    }

    fn flat(set: &RangeSet) -> Vec<(u64, u64)> {
        set.stretches().iter().map(|h| (h.start, h.end)).collect()
    }

    #[test]
    fn touching_and_overlapping_stretches_become_one() {
        assert_eq!(flat(&set(&[(0, 5), (10, 20), (5, 10)])), [(0, 20)]);
        assert_eq!(flat(&set(&[(10, 20), (0, 5), (7, 9)])), [(0, 5), (7, 9), (10, 20)]);
        assert_eq!(flat(&set(&[(0, 100), (10, 20)])), [(0, 100)]);
        assert_eq!(set(&[(0, 100), (10, 20)]).stretches()[0].marker, 100);
        assert_eq!(flat(&set(&[(4, 4)])), []);
    }

    #[test]
    fn low_mark_is_the_first_gap() {
        assert_eq!(set(&[]).low_mark(), 0);
        assert_eq!(set(&[(3, 9)]).low_mark(), 0);
        assert_eq!(set(&[(0, 9), (12, 14)]).low_mark(), 9);
    }

    #[test]
    fn common_stretches_keep_the_marker_of_their_end() {
        let common = RangeSet::intersection([set(&[(0, 10), (20, 30)]), set(&[(5, 25)])].iter());
        assert_eq!(common.stretches(), set(&[(5, 10), (20, 25)]).stretches());
        assert!(RangeSet::intersection([set(&[(0, 10)]), set(&[])].iter()).is_empty());
        assert!(RangeSet::intersection(std::iter::empty()).is_empty());
    }

    #[test]
    fn edges_lead_through_the_set() {
        let set = set(&[(0, 9), (12, 14)]);
        assert_eq!([0, 9, 12, 14].map(|at| set.next_edge(at)), [Some(9), Some(12), Some(14), None]);
        assert_eq!([0, 8, 9, 11, 12, 14].map(|at| set.contains(at)), [true, true, false, false, true, false]);
    }

    #[test]
    fn parts_of_a_key_do_not_run_together() {
        assert_ne!(FileKey::of(&[b"ab", b"c"]), FileKey::of(&[b"a", b"bc"]));
    }
}
