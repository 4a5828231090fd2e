//! The quick scan: which stretches of a text could hold something that a detector finds.
//!
//! It reads 64 bytes at a time into bit masks (one bit a byte: digit, dot, separator, start of a literal) and derives from
//! them by shifts where a detector should look. It may point at a place where nothing is; it never passes by a place where
//! something is, which the tests check against the plain reference.

use super::masks::{Masks, WINDOW, masks};

/// How many bytes a step takes.
pub(super) const BLOCK: usize = 64;

/// Places of one block at which detectors should look, one bit a byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Places {
    /// An `@`, or the first byte of `eyJ`, of `bea` in any case, of `\u`, or of `%` with a digit from 0 to 7.
    pub(super) marks: u64,
    /// The third dot of what could be an IPv4 address.
    pub(super) addresses: u64,
    /// The end of digits, as many as the shortest payment card has, with single separators between them or without.
    pub(super) cards: u64,
}

impl Places {
    pub(super) fn any(self) -> bool {
        self.marks | self.addresses | self.cards != 0
    }
}

/// Calls `visit` with the offset of each block of `text` and the places in it.
#[inline]
pub(super) fn scan(text: &[u8], mut visit: impl FnMut(usize, Places)) {
    let mut history = History::default();
    let mut at = 0;
    while let Some(window) = text[at..].first_chunk::<WINDOW>() {
        visit(at, history.step(masks(window)));
        at += BLOCK;
    }
    while at < text.len() {
        let mut window = [0; WINDOW];
        let rest = &text[at..text.len().min(at + WINDOW)];
        window[..rest.len()].copy_from_slice(rest);
        visit(at, history.step(masks(&window)));
        at += BLOCK;
    }
}

/// What the masks of the block before were, for runs that cross from one to the next.
#[derive(Default)]
struct History {
    digits: [u64; 4],
    closed: [u64; 4],
    dots: u64,
    pairs: u64,
}

impl History {
    #[inline(always)]
    fn step(&mut self, masks: Masks) -> Places {
        let after_digit = back(masks.digit, self.digits[0], 1);
        // Digits, and the single separators that follow one.
        let closed = masks.digit | masks.separator & after_digit;
        let digits8 = runs_of_8(masks.digit, &mut self.digits);
        let closed8 = runs_of_8(closed, &mut self.closed);
        // 13 digits in a row, or 16 characters: 14 digits in three groups, the shortest form with separators.
        let cards = digits8.0 & back(digits8.0, digits8.1, 5) | closed8.0 & back(closed8.0, closed8.1, 8);

        let near = |dots: u64, before: u64| dots & (back(dots, before, 2) | back(dots, before, 3) | back(dots, before, 4));
        let dots = masks.dot & after_digit;
        let pairs = near(dots, self.dots);
        let addresses = near(pairs, self.pairs);
        (self.dots, self.pairs) = (dots, pairs);
        Places { marks: masks.mark, addresses, cards }
    }
}

/// The bits of `bits`, `by` places later; `before` are the bits of the block before.
#[inline(always)]
fn back(bits: u64, before: u64, by: u32) -> u64 {
    bits << by | before >> (64 - by)
}

/// Where runs of at least eight set bits are at their eighth or a later bit: in this block, and in the one before.
#[inline(always)]
fn runs_of_8(bits: u64, history: &mut [u64; 4]) -> (u64, u64) {
    let twos = bits & back(bits, history[0], 1);
    let fours = twos & back(twos, history[1], 2);
    let eights = fours & back(fours, history[2], 4);
    let before = history[3];
    *history = [bits, twos, fours, eights];
    (eights, before)
}

/// One bit for each block of a text: whether there is a place in it to look at.
#[derive(Default)]
pub(super) struct Hits {
    words: Vec<u64>,
    any: bool,
}

impl Hits {
    /// Scans `text` anew.
    pub(super) fn find(&mut self, text: &[u8]) {
        self.words.clear();
        self.words.resize(text.len().div_ceil(BLOCK * 64), 0);
        let mut word = 0;
        let mut index = 0;
        scan(text, |at, places| {
            let block = at / BLOCK;
            if block / 64 != index {
                self.words[index] = word;
                (word, index) = (0, block / 64);
            }
            word |= u64::from(places.any()) << (block % 64);
        });
        if let Some(last) = self.words.get_mut(index) {
            *last = word;
        }
        self.any = self.words.iter().any(|word| *word != 0);
    }

    /// Adds the blocks that `start..end` lies in.
    pub(super) fn mark(&mut self, start: usize, end: usize) {
        for block in start / BLOCK..end.div_ceil(BLOCK) {
            self.words[block / 64] |= 1 << (block % 64);
        }
        self.any = true;
    }

    /// Whether there is any place to look at.
    pub(super) fn any(&self) -> bool {
        self.any
    }

    /// Whether there is one in the blocks that `start..end` lies in.
    #[inline]
    pub(super) fn within(&self, start: usize, end: usize) -> bool {
        if start >= end {
            return false;
        }
        let (first, last) = (start / BLOCK, (end - 1) / BLOCK);
        let from = u64::MAX << (first % 64);
        let to = u64::MAX >> (63 - last % 64);
        if first / 64 == last / 64 {
            return self.words[first / 64] & from & to != 0;
        }
        self.words[first / 64] & from != 0
            || self.words[last / 64] & to != 0
            || self.words[first / 64 + 1..last / 64].iter().any(|word| *word != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(text: &str, pick: impl Fn(Places) -> u64) -> Vec<usize> {
        let mut found = Vec::new();
        scan(text.as_bytes(), |at, places| {
            let mut bits = pick(places);
            while bits != 0 {
                found.push(at + bits.trailing_zeros() as usize);
                bits &= bits - 1;
            }
        });
        found
    }

    #[test]
    fn finds_places_wherever_blocks_begin() {
        for shift in 0..200 {
            let pad = "x".repeat(shift);
            assert_eq!(places(&format!("{pad}@ \\u0040 %40"), |p| p.marks), [shift, shift + 2, shift + 9]);
            assert_eq!(places(&format!("{pad} eyJ BeArer ey"), |p| p.marks), [shift + 1, shift + 5]);
            assert_eq!(places(&format!("{pad} 10.20.255.1"), |p| p.addresses), [shift + 10]);
            assert_eq!(places(&format!("{pad} 4111111111111"), |p| p.cards), [shift + 13]);
            assert_eq!(places(&format!("{pad} 3787-822463-1000 x"), |p| p.cards), [shift + 16, shift + 17]);
        }
    }

    #[test]
    fn passes_times_versions_and_short_numbers_by() {
        for text in ["2026-10-11 12:34:56.123456789Z", "2026-10-11T12:34:56.123456789+02:00", "v1.2.3", "12.5 13.25 1.", "123456789012"] {
            assert_eq!(places(text, |p| p.addresses | p.cards), [0usize; 0], "{text}");
        }
    }

    #[test]
    fn hits_are_kept_by_block() {
        let mut text = vec![b'x'; 20_000];
        text[70] = b'@';
        text[15_000] = b'@';
        let mut hits = Hits::default();
        hits.find(&text);
        assert!(hits.any());
        for (start, end, expected) in [
            (0, 64, false),
            (0, 65, true),
            (64, 128, true),
            (128, 14_900, false),
            (128, 20_000, true),
            (15_100, 20_000, false),
            (70, 70, false),
        ] {
            assert_eq!(hits.within(start, end), expected, "{start}..{end}");
        }
        hits.mark(63, 65);
        hits.mark(14_900, 14_901);
        assert!(hits.within(0, 1) && hits.within(14_890, 14_900) && !hits.within(14_912, 14_976));
        hits.find(b"");
        assert!(!hits.any());
    }
}
