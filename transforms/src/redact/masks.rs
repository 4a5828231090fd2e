//! Which of 64 bytes are of which class, as bit masks: bit *n* stands for byte *n*.
//!
//! Written so that the compiler makes vector instructions of it: one loop without branches gives each byte a byte of class
//! bits, 16 at a time with SSE2 or NEON; then a multiplication gathers eight of these into eight bits of a mask.

/// How many bytes a window has: 64, and the two after them for literals that start at the last.
pub(super) const WINDOW: usize = 66;

/// The classes of the first 64 bytes of a window.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Masks {
    /// `0` to `9`.
    pub(super) digit: u64,
    /// `.`
    pub(super) dot: u64,
    /// Space, `-`, `.` and brackets: what may stand between groups of digits.
    pub(super) separator: u64,
    /// The first byte of a literal: see [`is_mark`].
    pub(super) mark: u64,
    /// `:`
    pub(super) colon: u64,
    /// `:` and `-`.
    pub(super) joint: u64,
    /// Letters, digits, `_` and `-`.
    pub(super) token: u64,
    /// The last byte of what may be a key: a letter before a quote, `=`, `:`, a backslash, `%`, `]` or a new line; or a space before `=` or `:`.
    pub(super) key_end: u64,
}

/// The masks of a window.
#[inline(always)]
pub(super) fn masks(window: &[u8; WINDOW]) -> Masks {
    let mut classes = [0; 64];
    for (at, class) in classes.iter_mut().enumerate() {
        *class = class_bits(window[at], window[at + 1], window[at + 2]);
    }
    let mut masks = Masks::default();
    for (part, classes) in classes.as_chunks::<8>().0.iter().enumerate() {
        let word = u64::from_le_bytes(*classes);
        masks.digit |= gather(word) << (part * 8);
        masks.dot |= gather(word >> 1) << (part * 8);
        masks.separator |= gather(word >> 2) << (part * 8);
        masks.mark |= gather(word >> 3) << (part * 8);
        masks.colon |= gather(word >> 4) << (part * 8);
        masks.joint |= gather(word >> 5) << (part * 8);
        masks.token |= gather(word >> 6) << (part * 8);
        masks.key_end |= gather(word >> 7) << (part * 8);
    }
    masks
}

/// One bit for each class that a byte is of, seen with the two after it. No branches, or the loop above is no longer made
/// of vector instructions.
#[inline(always)]
fn class_bits(byte: u8, next: u8, third: u8) -> u8 {
    let digit = byte.wrapping_sub(b'0') < 10;
    let dot = byte == b'.';
    let dash = byte == b'-';
    let colon = byte == b':';
    let space = byte == b' ';
    let separator = dot | space | dash | (byte.wrapping_sub(b'(') < 2);
    let letter = (byte | 0x20).wrapping_sub(b'a') < 26;
    let token = letter | digit | dash | (byte == b'_');
    let assigns = (next == b'=') | (next == b':');
    let ends = assigns | (next == b'"') | (next == b'\\') | (next == b'%') | (next == b'\n') | (next == b'\'') | (next == b']');
    let key_end = ((letter | (byte >= 0x80)) & ends) | (space & assigns);
    u8::from(digit)
        | u8::from(dot) << 1
        | u8::from(separator) << 2
        | u8::from(is_mark(byte, next, third)) << 3
        | u8::from(colon) << 4
        | u8::from(colon | dash) << 5
        | u8::from(token) << 6
        | u8::from(key_end) << 7
}

/// Whether a byte is `@`, or the first one of `eyJ`, of `\u`, of `%0` to `%7`, of `bea`, `bas`, `tok`, `pas`, `pik`, `neg`, `BEG`
/// in some or any case, of two capitals and a digit, of `<<` and `<` with a digit, or of characters that the decoded view writes otherwise.
#[inline(always)]
pub(super) fn is_mark(byte: u8, next: u8, third: u8) -> bool {
    // Letters in lower case; other bytes become others, none of which a comparison here is for.
    let [lower, lower_next, lower_third] = [byte | 0x20, next | 0x20, third | 0x20];
    let eyj = (lower == b'e') & (next == b'y') & (third == b'J');
    let b_words = (lower == b'b')
        & (((lower_next == b'e') & (lower_third == b'a'))
            | ((lower_next == b'a') & (lower_third == b's'))
            | ((next == b'E') & (third == b'G')));
    let p_words = (lower == b'p') & (((lower_next == b'a') & (lower_third == b's')) | ((lower_next == b'i') & (lower_third == b'k')));
    let words =
        ((lower == b't') & (lower_next == b'o') & (lower_third == b'k')) | ((lower == b'n') & (lower_next == b'e') & (lower_third == b'g'));
    let escape = ((byte == b'\\') & (next == b'u')) | ((byte == b'%') & (next.wrapping_sub(b'0') < 8));
    let account = (byte.wrapping_sub(b'A') < 26) & (next.wrapping_sub(b'A') < 26) & (third.wrapping_sub(b'0') < 10);
    let filler = (byte == b'<') & ((next == b'<') | (next.wrapping_sub(b'0') < 10));
    let wide = ((byte == 0xef) & (next == 0xbc)) | ((byte == 0xc2) & (next == 0xa0)) | ((byte == 0xe2) & ((next == 0x84) | (next == 0x80)));
    (byte == b'@') | escape | eyj | b_words | p_words | words | account | filler | wide
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
            separator: mask(&|b| matches!(b[0], b' ' | b'-' | b'.' | b'(' | b')')),
            mark: mask(&|b| {
                let literals = ["bea", "bas", "tok", "pas", "pik", "neg"];
                b[0] == b'@'
                    || b.starts_with(b"\\u")
                    || (b[0] == b'%' && (b'0'..=b'7').contains(&b[1]))
                    || literals.iter().any(|literal| b.eq_ignore_ascii_case(literal.as_bytes()))
                    || b == b"eyJ"
                    || b == b"EyJ"
                    || b == b"BEG"
                    || b == b"bEG"
                    || (b[0].is_ascii_uppercase() && b[1].is_ascii_uppercase() && b[2].is_ascii_digit())
                    || (b[0] == b'<' && (b[1] == b'<' || b[1].is_ascii_digit()))
                    || matches!(b, [0xef, 0xbc, _] | [0xc2, 0xa0, _] | [0xe2, 0x80 | 0x84, _])
            }),
            colon: mask(&|b| b[0] == b':'),
            joint: mask(&|b| matches!(b[0], b':' | b'-')),
            token: mask(&|b| b[0].is_ascii_alphanumeric() || matches!(b[0], b'_' | b'-')),
            key_end: mask(&|b| {
                let letter = b[0].is_ascii_alphabetic() || b[0] >= 0x80;
                letter && matches!(b[1], b'=' | b':' | b'"' | b'\'' | b'\\' | b'%' | b'\n' | b']')
                    || b[0] == b' ' && matches!(b[1], b'=' | b':')
            }),
        }
    }

    proptest! {
        #[test]
        fn masks_say_what_each_byte_is(
            text in proptest::collection::vec(prop_oneof![
                any::<u8>(), proptest::sample::select(b"eyJEbBGAastTokKpPiINng@\\u%.- 0123456789:=\"'_()<]\n\xef\xbc\xc2\xa0\xe2\x84\x80".to_vec())
            ], WINDOW)
        ) {
            let window: [u8; WINDOW] = text.try_into().unwrap_or([0; WINDOW]);
            prop_assert_eq!(masks(&window), plain(&window));
        }
    }
}
