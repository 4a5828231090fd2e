//! Sets of frame numbers.

use std::collections::BTreeMap;
use std::ops::Range;

/// A set of frame numbers as stretches that neither touch nor overlap: frames are dealt with nearly in order, so that
/// however many there were, the stretches are few.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SeqSet(BTreeMap<u64, u64>);

impl SeqSet {
    /// Adds all of `seqs`.
    pub fn insert(&mut self, seqs: Range<u64>) {
        if seqs.is_empty() {
            return;
        }
        let Range { mut start, mut end } = seqs;
        while let Some((&from, &to)) = self.0.range(..=end).next_back() {
            if to < start {
                break;
            }
            self.0.remove(&from);
            (start, end) = (start.min(from), end.max(to));
        }
        self.0.insert(start, end);
    }

    /// Whether `seq` is in it.
    pub fn contains(&self, seq: u64) -> bool {
        self.0.range(..=seq).next_back().is_some_and(|(_, &to)| seq < to)
    }

    /// One past the largest number in it.
    pub fn end(&self) -> u64 {
        self.0.last_key_value().map_or(0, |(_, &to)| to)
    }

    /// Those of `seqs` that are not in it, as stretches.
    pub fn missing(&self, seqs: Range<u64>) -> Vec<Range<u64>> {
        let mut gaps = Vec::new();
        let mut at = seqs.start;
        let first = self.0.range(..=seqs.start).next_back().map_or(seqs.start, |(&from, _)| from);
        for (&from, &to) in self.0.range(first..).take_while(|(from, _)| **from < seqs.end) {
            if from > at {
                gaps.push(at..from);
            }
            at = at.max(to);
        }
        if at < seqs.end {
            gaps.push(at..seqs.end);
        }
        gaps
    }

    /// Its stretches, in order.
    pub fn stretches(&self) -> impl Iterator<Item = Range<u64>> {
        self.0.iter().map(|(&from, &to)| from..to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_a_list_of_numbers() {
        let mut chance = 1u64;
        for _ in 0..200 {
            let (mut set, mut list) = (SeqSet::default(), [false; 64]);
            for _ in 0..8 {
                chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let (start, len) = ((chance >> 33) % 60, (chance >> 50) % 5);
                set.insert(start..start + len);
                list[start as usize..(start + len) as usize].fill(true);
                for seq in 0..64 {
                    assert_eq!(set.contains(seq), list[seq as usize]);
                }
                let absent: Vec<u64> = (3..61).filter(|&seq| !list[seq as usize]).collect();
                assert_eq!(set.missing(3..61).into_iter().flatten().collect::<Vec<_>>(), absent);
                assert_eq!(set.end(), list.iter().rposition(|&is| is).map_or(0, |at| at as u64 + 1));
                let stretches: Vec<_> = set.stretches().collect();
                assert!(stretches.windows(2).all(|pair| pair[0].end < pair[1].start), "{stretches:?}");
            }
        }
    }
}
