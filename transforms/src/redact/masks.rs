//! Which of 64 bytes are of which class, as bit masks: bit *n* stands for byte *n*.
//!
//! Comparisons of 64 bytes at once, with the widest instructions that the processor has: which these are is found out when
//! the program runs, and the masks are the same whichever are used.

use fearless_simd::{Level, Simd, SimdBase, SimdMask, dispatch, mask8x64, u8x64};

/// How many bytes a mask is for.
pub(super) const BLOCK: usize = 64;

/// How many bytes after a block are looked at: literals may start at its last byte.
pub(super) const BEHIND: usize = 2;

/// The classes of 64 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Masks {
    /// `0` to `9`.
    pub(super) digit: u64,
    /// `.`
    pub(super) dot: u64,
    /// Space, `-`, `.` and brackets: what may stand between groups of digits.
    pub(super) separator: u64,
    /// `:`
    pub(super) colon: u64,
    /// `:` and `-`.
    pub(super) joint: u64,
    /// Letters, digits, `_` and `-`.
    pub(super) token: u64,
    /// `@`
    pub(super) at: u64,
    /// The first byte of what the decoded view writes otherwise: `\u`, `%0` to `%7`, and spaces, dashes, wide and Thai digits
    /// and `№` of other blocks than ASCII.
    pub(super) escape: u64,
    /// The first byte of `eyJ` and, in any case, of `bea`, `bas`, `neg`, `pas`, `beg`, `otp`, `cod`, `cvv`, `cvc`, and of the `tok`
    /// of `token` and the `pik` of `apikey`; of `п` or `к` and a Russian letter, of `ร`, of an `m` before a letter with marks; of `--` and a letter, and of ` -p` and ` -u`: options of commands.
    pub(super) word: u64,
    /// The first byte of two capitals and a digit.
    pub(super) account: u64,
    /// A `<` before another one or a digit.
    pub(super) filler: u64,
    /// The last byte of what may be a key: a letter before a quote, `=`, `:`, a backslash, `%`, `]`, `>` or a new line; or a space
    /// before `=` or `:`; or the letter of `a1"`, `a2=`.
    pub(super) key_end: u64,
}

/// Writes the masks of the blocks of `text` to `out`: `text` has so many blocks and [`BEHIND`] bytes more.
pub(super) fn classify(text: &[u8], out: &mut [Masks]) {
    let level = Level::new();
    dispatch!(level, simd => blocks(simd, text, out));
}

#[inline(always)]
fn blocks<S: Simd>(simd: S, text: &[u8], out: &mut [Masks]) {
    for (block, masks) in out.iter_mut().enumerate() {
        if let Some(window) = text.get(block * BLOCK..block * BLOCK + BLOCK + BEHIND) {
            *masks = of(simd, window);
        }
    }
}

#[inline(always)]
fn of<S: Simd>(simd: S, window: &[u8]) -> Masks {
    let byte = u8x64::from_slice(simd, &window[..BLOCK]);
    let next = u8x64::from_slice(simd, &window[1..BLOCK + 1]);
    let third = u8x64::from_slice(simd, &window[2..BLOCK + 2]);
    let is = |bytes: u8x64<S>, value: u8| -> mask8x64<S> { bytes.simd_eq(value) };
    let between = |bytes: u8x64<S>, first: u8, count: u8| -> mask8x64<S> { (bytes - first).simd_lt(count) };
    // Letters in lower case; other bytes become others, none of which a comparison with a letter is for.
    let [lower, lower_next, lower_third] = [byte | 0x20, next | 0x20, third | 0x20];

    let digit = between(byte, b'0', 10);
    let dot = is(byte, b'.');
    let dash = is(byte, b'-');
    let colon = is(byte, b':');
    let space = is(byte, b' ');
    let letter = between(lower, b'a', 26);
    let wide = !byte.simd_lt(0x80);

    let assigns = is(next, b'=') | is(next, b':');
    let ends =
        assigns | is(next, b'"') | is(next, b'\\') | is(next, b'%') | is(next, b'\n') | is(next, b'\'') | is(next, b']') | is(next, b'>');

    let literal = |one: u8, two: u8, three: u8| is(lower, one) & is(lower_next, two) & is(lower_third, three);
    let word = literal(b'e', b'y', b'j')
        | (is(lower, b'b')
            & ((is(lower_next, b'e') & (is(lower_third, b'a') | is(lower_third, b'g'))) | (is(lower_next, b'a') & is(lower_third, b's'))))
        | (is(lower, b'p') & ((is(lower_next, b'a') & is(lower_third, b's')) | (is(lower_next, b'i') & is(lower_third, b'k'))))
        | literal(b't', b'o', b'k')
        | literal(b'o', b't', b'p')
        | (is(lower, b'c')
            & ((is(lower_next, b'o') & is(lower_third, b'd')) | (is(lower_next, b'v') & (is(lower_third, b'v') | is(lower_third, b'c')))))
        | literal(b'n', b'e', b'g')
        | (is(next, b'-') & ((dash & between(lower_third, b'a', 26)) | (space & (is(third, b'p') | is(third, b'u')))));
    // Most blocks are of ASCII alone: what other letters start with is not asked there.
    let other = !(byte | next).simd_lt(0x80);
    let (spelled, said) = if other.to_bitmask() == 0 {
        (0, 0)
    } else {
        // Wide digits, `+`, `:` and `@`; Thai digits; spaces that do not break; dashes, characters without width, `№`.
        let spelled = (is(byte, 0xef) & is(next, 0xbc) & between(third, 0x8b, 0x16))
            | (is(byte, 0xe0) & is(next, 0xb9) & between(third, 0x90, 10))
            | (is(byte, 0xc2) & is(next, 0xa0))
            | (is(byte, 0xe2) & ((is(next, 0x80) & (between(third, 0x8b, 7) | is(third, 0xaf))) | (is(next, 0x84) & is(third, 0x96))));
        let said = (is(byte, 0xd0) & is(third, 0xd0) & (is(lower_next, 0xbf) | is(lower_next, 0xba)))
            | (is(byte, 0xe0) & is(next, 0xb8) & is(third, 0xa3))
            | (is(lower, b'm') & (is(next, 0xe1) | is(next, 0xc3)));
        (spelled.to_bitmask(), said.to_bitmask())
    };
    let escape = (is(byte, b'\\') & is(next, b'u')) | (is(byte, b'%') & between(next, b'0', 8));
    let account = between(byte, b'A', 26) & between(next, b'A', 26) & between(third, b'0', 10);
    let filler = is(byte, b'<') & (is(next, b'<') | between(next, b'0', 10));
    Masks {
        digit: digit.to_bitmask(),
        dot: dot.to_bitmask(),
        separator: (dot | space | dash | between(byte, b'(', 2)).to_bitmask(),
        colon: colon.to_bitmask(),
        joint: (colon | dash).to_bitmask(),
        token: (letter | digit | dash | is(byte, b'_')).to_bitmask(),
        at: is(byte, b'@').to_bitmask(),
        escape: escape.to_bitmask() | spelled,
        word: word.to_bitmask() | said,
        account: account.to_bitmask(),
        filler: filler.to_bitmask(),
        key_end: (((letter | wide) & ends)
            | (space & assigns)
            | (letter & between(next, b'1', 2) & (is(third, b'"') | is(third, b'=') | is(third, b'\\') | is(third, b'%'))))
        .to_bitmask(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plain(window: &[u8]) -> Masks {
        let mask = |test: &dyn Fn(&[u8]) -> bool| (0..64).fold(0, |bits, at| bits | u64::from(test(&window[at..at + 3])) << at);
        let literals = ["eyj", "bea", "beg", "bas", "tok", "pas", "pik", "neg", "otp", "cod", "cvv", "cvc"];
        Masks {
            digit: mask(&|b| b[0].is_ascii_digit()),
            dot: mask(&|b| b[0] == b'.'),
            separator: mask(&|b| matches!(b[0], b' ' | b'-' | b'.' | b'(' | b')')),
            colon: mask(&|b| b[0] == b':'),
            joint: mask(&|b| matches!(b[0], b':' | b'-')),
            token: mask(&|b| b[0].is_ascii_alphanumeric() || matches!(b[0], b'_' | b'-')),
            at: mask(&|b| b[0] == b'@'),
            escape: mask(&|b| {
                b.starts_with(b"\\u")
                    || (b[0] == b'%' && (b'0'..=b'7').contains(&b[1]))
                    || matches!(
                        b,
                        [0xef, 0xbc, 0x8b..=0xa0]
                            | [0xe0, 0xb9, 0x90..=0x99]
                            | [0xc2, 0xa0, _]
                            | [0xe2, 0x80, 0x8b..=0x91 | 0xaf]
                            | [0xe2, 0x84, 0x96]
                    )
            }),
            // A byte or'd with 0x20 may become a letter that it was not: `Y` is one, and so is 0x59 alone.
            word: mask(&|b| {
                literals.iter().any(|literal| b.iter().map(|byte| byte | 0x20).eq(literal.bytes()))
                    || matches!(b, [b'-', b'-', third] if (third | 0x20).is_ascii_lowercase())
                    || matches!(b, [b' ', b'-', b'p' | b'u'])
                    || matches!(b, [0xd0, 0x9f | 0xbf | 0x9a | 0xba, 0xd0] | [0xe0, 0xb8, 0xa3] | [b'm' | b'M', 0xe1 | 0xc3, _])
            }),
            account: mask(&|b| b[0].is_ascii_uppercase() && b[1].is_ascii_uppercase() && b[2].is_ascii_digit()),
            filler: mask(&|b| b[0] == b'<' && (b[1] == b'<' || b[1].is_ascii_digit())),
            key_end: mask(&|b| {
                let letter = b[0].is_ascii_alphabetic() || b[0] >= 0x80;
                letter && matches!(b[1], b'=' | b':' | b'"' | b'\'' | b'\\' | b'%' | b'\n' | b']' | b'>')
                    || b[0] == b' ' && matches!(b[1], b'=' | b':')
                    || b[0].is_ascii_alphabetic() && matches!(b[1..], [b'1' | b'2', b'"' | b'=' | b'\\' | b'%'])
            }),
        }
    }

    proptest! {
        #[test]
        fn masks_say_what_each_byte_is(
            text in proptest::collection::vec(prop_oneof![
                any::<u8>(), proptest::sample::select(b"eyJEbBGAastTokKpPiINngcCvVdDmM@\\u%.- 0123456789:=\"'_()<]\n\xef\xbc\xc2\xa0\xe0\xb9\x99\xe2\x84\x80\x8b\x96\xaf\xd0\xbf\x9f\xba\xb8\xa3\xe1\xc3".to_vec())
            ], 2 * BLOCK + BEHIND)
        ) {
            let mut masks = [Masks::default(); 2];
            classify(&text, &mut masks);
            prop_assert_eq!(masks[0], plain(&text));
            prop_assert_eq!(masks[1], plain(&text[BLOCK..]));
        }
    }
}
