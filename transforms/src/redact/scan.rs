//! The quick scan: which stretches of a text could hold something that a detector finds.
//!
//! It reads 64 bytes at a time into bit [masks](super::masks) (one bit a byte: digit, dot, separator, start of a literal) and derives from
//! them by shifts where a detector should look. It may point at a place where nothing is; it never passes by a place where
//! something is, which the tests check against the plain reference.

pub(super) use super::masks::BLOCK;
use super::masks::{BEHIND, Masks, classify};

/// How many blocks are classified at once.
const GROUP: usize = 8;

/// What is looked for: what is not costs nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Needs {
    pub(super) at: bool,
    pub(super) words: bool,
    pub(super) accounts: bool,
    pub(super) fillers: bool,
    pub(super) addresses: bool,
    pub(super) clusters: bool,
    pub(super) macs: bool,
    pub(super) colons: bool,
    pub(super) runs: bool,
    pub(super) keys: bool,
}

/// Places of one block at which detectors should look, one bit a byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Places {
    /// `@`
    pub(super) at: u64,
    /// What the decoded view writes otherwise: see [`Masks::escape`].
    pub(super) escapes: u64,
    /// The first bytes of words: see [`Masks::word`].
    pub(super) words: u64,
    /// Two capitals and a digit.
    pub(super) accounts: u64,
    /// A filler of machine-readable lines.
    pub(super) fillers: u64,
    /// The third dot of what could be an IPv4 address.
    pub(super) addresses: u64,
    /// The ninth byte of digits with separators between them or without.
    pub(super) clusters: u64,
    /// The fifth `:` or `-` at distances of three: of what could be a MAC address.
    pub(super) macs: u64,
    /// The second of two colons, or the fifth of some with up to four bytes between them: of what could be an IPv6 address.
    pub(super) colons: u64,
    /// The twentieth byte of a run of letters, digits, `_` and `-`.
    pub(super) runs: u64,
    /// The last byte of what could be a key.
    pub(super) keys: u64,
}

/// Calls `visit` with the offset of each block of `text` and the places in it.
#[inline]
pub(super) fn scan(text: &[u8], needs: Needs, mut visit: impl FnMut(usize, Places)) {
    let mut history = History::default();
    let mut masks = [Masks::default(); GROUP];
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let whole = (rest.len().saturating_sub(BEHIND) / BLOCK).min(GROUP);
        let blocks = if whole > 0 {
            classify(rest, &mut masks[..whole]);
            whole
        } else {
            let mut window = [0; 2 * BLOCK + BEHIND];
            window[..rest.len()].copy_from_slice(rest);
            let blocks = rest.len().div_ceil(BLOCK);
            classify(&window, &mut masks[..blocks]);
            blocks
        };
        for masks in &masks[..blocks] {
            visit(at, history.step(masks, needs));
            at += BLOCK;
        }
    }
}

/// What the masks of the block before were, for runs that cross from one to the next.
#[derive(Default)]
struct History {
    digits: u64,
    separators: u64,
    closed: [u64; 4],
    cluster: u64,
    tokens: [u64; 4],
    run: u64,
    dots: u64,
    pairs: u64,
    joints: [u64; 4],
    colons: [u64; 4],
}

impl History {
    #[inline(always)]
    fn step(&mut self, masks: &Masks, needs: Needs) -> Places {
        let on = |needed: bool, places: u64| if needed { places } else { 0 };
        let after_digit = back(masks.digit, self.digits, 1);
        self.digits = masks.digit;
        let mut places = Places {
            at: on(needs.at, masks.at),
            escapes: masks.escape,
            words: on(needs.words, masks.word),
            accounts: on(needs.accounts, masks.account),
            fillers: on(needs.fillers, masks.filler),
            keys: on(needs.keys, masks.key_end),
            ..Places::default()
        };
        if needs.clusters {
            places.clusters = self.clusters(masks, after_digit);
        }
        if needs.runs {
            let eights = runs_of_8(masks.token, &mut self.tokens);
            let twenties = eights.0 & back(eights.0, eights.1, 8) & back(eights.0, eights.1, 12);
            places.runs = twenties & !back(twenties, self.run, 1);
            self.run = twenties;
        }
        if needs.addresses {
            let near = |dots: u64, before: u64| dots & (back(dots, before, 2) | back(dots, before, 3) | back(dots, before, 4));
            let dots = masks.dot & after_digit;
            let pairs = near(dots, self.dots);
            places.addresses = near(pairs, self.pairs);
            (self.dots, self.pairs) = (dots, pairs);
        }
        if needs.macs {
            let mut macs = masks.joint;
            for before in &mut self.joints {
                let joint = macs;
                macs &= back(joint, *before, 3);
                *before = joint;
            }
            places.macs = macs;
        }
        if needs.colons {
            let mut colons = masks.colon;
            let doubled = colons & back(colons, self.colons[0], 1);
            for before in &mut self.colons {
                let colon = colons;
                colons &= back(colon, *before, 2) | back(colon, *before, 3) | back(colon, *before, 4) | back(colon, *before, 5);
                *before = colon;
            }
            places.colons = doubled | colons;
        }
        places
    }

    #[inline(always)]
    fn clusters(&mut self, masks: &Masks, after_digit: u64) -> u64 {
        let first = masks.separator & after_digit;
        // Digits, and up to two separators that follow one.
        let closed = masks.digit | first | masks.separator & back(first, self.separators, 1);
        self.separators = first;
        let eights = runs_of_8(closed, &mut self.closed);
        let nines = eights.0 & back(eights.0, eights.1, 1);
        let clusters = nines & !back(nines, self.cluster, 1);
        self.cluster = nines;
        clusters
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
    /// Starts anew for a text of `length` bytes.
    pub(super) fn clear(&mut self, length: usize) {
        self.words.clear();
        self.words.resize(length.div_ceil(BLOCK * 64), 0);
        self.any = false;
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
        let all = Needs {
            at: true,
            words: true,
            accounts: true,
            fillers: true,
            addresses: true,
            clusters: true,
            macs: true,
            colons: true,
            runs: true,
            keys: true,
        };
        scan(text.as_bytes(), all, |at, places| {
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
            let pad = " ".repeat(shift);
            assert_eq!(places(&format!("{pad}@ \\u0040 %40"), |p| p.at | p.escapes), [shift, shift + 2, shift + 9]);
            assert_eq!(places(&format!("{pad} eyJ BeArer ey"), |p| p.words), [shift + 1, shift + 5]);
            assert_eq!(places(&format!("{pad} 10.20.255.1"), |p| p.addresses), [shift + 10]);
            assert_eq!(places(&format!("{pad}x 411111111111"), |p| p.clusters), [shift + 10]);
            assert_eq!(places(&format!("{pad}x (415) 5551234"), |p| p.clusters), [shift + 11]);
            assert_eq!(places(&format!("{pad} 00:1b-00:1b:44:11:3a:b7 x"), |p| p.macs), [15, 18, 21].map(|at| shift + at));
            assert_eq!(places(&format!("{pad} fe80::1 1:22:333:4444:5 12:34:56"), |p| p.colons), [6, 22, 27, 30].map(|at| shift + at));
            assert_eq!(places(&format!("{pad} abcdefghijklmnopqrstuvwxyz abc"), |p| p.runs), [shift + 20]);
            assert_eq!(places(&format!("{pad} pwd=1 \"key\": a = b"), |p| p.keys), [shift + 3, shift + 10, shift + 15]);
        }
    }

    #[test]
    fn passes_times_versions_and_short_numbers_by() {
        for text in ["12:34:56.12345Z", "v1.2.3", "12345678"] {
            assert_eq!(places(text, |p| p.addresses | p.clusters | p.macs | p.colons | p.runs), [0usize; 0], "{text}");
        }
    }

    #[test]
    fn hits_are_kept_by_block() {
        let text = vec![b'x'; 20_000];
        let mut hits = Hits::default();
        hits.clear(text.len());
        hits.mark(70, 71);
        hits.mark(15_000, 15_001);
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
        hits.clear(0);
        assert!(!hits.any());
    }
}
