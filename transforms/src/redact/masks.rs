//! Which of 64 bytes are of which class, as bit masks: bit *n* stands for byte *n*.
//!
//! Written so that the compiler makes vector instructions of it: one loop without branches gives each byte a byte of class
//! bits, 16 at a time with SSE2 or NEON; then a multiplication gathers eight of these into eight bits of a mask.

/// How many bytes a window has: 64, and the two after them for literals that start at the last.
pub(super) const WINDOW: usize = 66;

/// The classes of the first 64 bytes of a window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Masks {
    /// `0` to `9`.
    pub(super) digit: u64,
    /// `.`
    pub(super) dot: u64,
    /// Space, `-` and `.`: what may stand between the groups of a card number.
    pub(super) separator: u64,
    /// `@`, or the first byte of `eyJ` (or `EyJ`), of `bea` in any case, of `\u`, or of `%0` to `%7`.
    pub(super) mark: u64,
}

/// The masks of a window.
#[inline(always)]
pub(super) fn masks(window: &[u8; WINDOW]) -> Masks {
    let mut classes = [0; 64];
    for (at, class) in classes.iter_mut().enumerate() {
        *class = class_bits(window[at], window[at + 1], window[at + 2]);
    }
    let mut masks = Masks { digit: 0, dot: 0, separator: 0, mark: 0 };
    for (part, classes) in classes.as_chunks::<8>().0.iter().enumerate() {
        let word = u64::from_le_bytes(*classes);
        masks.digit |= gather(word) << (part * 8);
        masks.dot |= gather(word >> 1) << (part * 8);
        masks.separator |= gather(word >> 2) << (part * 8);
        masks.mark |= gather(word >> 3) << (part * 8);
    }
    masks
}

/// One bit for each class that a byte is of, seen with the two after it. No branches, or the loop above is no longer made
/// of vector instructions.
#[inline(always)]
fn class_bits(byte: u8, next: u8, third: u8) -> u8 {
    let digit = byte.wrapping_sub(b'0') < 10;
    let dot = byte == b'.';
    let separator = dot | (byte == b' ') | (byte == b'-');
    // Letters in lower case; other bytes become others, none of which a comparison here is for.
    let [lower, lower_next, lower_third] = [byte | 0x20, next | 0x20, third | 0x20];
    let eyj = (lower == b'e') & (next == b'y') & (third == b'J');
    let bea = (lower == b'b') & (lower_next == b'e') & (lower_third == b'a');
    let escape = ((byte == b'\\') & (next == b'u')) | ((byte == b'%') & (next.wrapping_sub(b'0') < 8));
    let mark = (byte == b'@') | escape | eyj | bea;
    u8::from(digit) | u8::from(dot) << 1 | u8::from(separator) << 2 | u8::from(mark) << 3
}

/// The lowest bits of eight bytes, as eight bits.
#[inline(always)]
fn gather(word: u64) -> u64 {
    (word & 0x0101_0101_0101_0101).wrapping_mul(0x0102_0408_1020_4080) >> 56
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plain(window: &[u8; WINDOW]) -> Masks {
        let mask = |test: &dyn Fn(&[u8]) -> bool| (0..64).fold(0, |bits, at| bits | u64::from(test(&window[at..at + 3])) << at);
        Masks {
            digit: mask(&|b| b[0].is_ascii_digit()),
            dot: mask(&|b| b[0] == b'.'),
            separator: mask(&|b| matches!(b[0], b' ' | b'-' | b'.')),
            mark: mask(&|b| {
                b[0] == b'@'
                    || b.starts_with(b"\\u")
                    || (b[0] == b'%' && (b'0'..=b'7').contains(&b[1]))
                    || b.eq_ignore_ascii_case(b"bea")
                    || b == b"eyJ"
                    || b == b"EyJ"
            }),
        }
    }

    proptest! {
        #[test]
        fn masks_say_what_each_byte_is(
            text in proptest::collection::vec(prop_oneof![
                any::<u8>(), proptest::sample::select(b"eyJEbBAa@\\u%.- 0123456789".to_vec())
            ], WINDOW)
        ) {
            let window: [u8; WINDOW] = text.try_into().unwrap_or([0; WINDOW]);
            prop_assert_eq!(masks(&window), plain(&window));
        }
    }
}
