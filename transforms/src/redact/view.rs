//! The decoded view of a text with escapes: what a reader at the end of all unpacking would see.
//!
//! Logs hold JSON inside of JSON strings, and addresses with other addresses in them, so escapes come at several levels:
//! `\n`, `\\n`, `\\\\u0040`, `%40`, `%2540`. Detectors look at the view, in which each such sequence is the character that it
//! stands for, and what they find is mapped back to the bytes that were written. A sequence is replaced as a whole or not at
//! all, so what is valid JSON stays valid, at every level.

/// A decoded text, and which written bytes each of its bytes comes from.
#[derive(Default)]
pub(super) struct View {
    text: Vec<u8>,
    /// For each byte of the text where its sequence starts, and last where the written text ends.
    pub(super) starts: Vec<u32>,
}

impl View {
    /// The text.
    pub(super) fn text(&self) -> &[u8] {
        &self.text
    }

    /// The written bytes of `start..end` of the text, sequences whole.
    pub(super) fn written(&self, start: usize, end: usize) -> (usize, usize) {
        let last = self.starts[end - 1];
        let after = self.starts[end..].iter().find(|start| **start != last);
        (self.starts[start] as usize, after.map_or(last, |start| *start) as usize)
    }

    /// Whether the view of `raw` could be another text.
    pub(super) fn differs(raw: &[u8]) -> bool {
        let thai_digit = |at: usize| matches!(raw[at..], [_, 0xb9, 0x90..=0x99, ..]);
        memchr::memchr2(b'\\', b'%', raw).is_some()
            || memchr::memchr3(0xc2, 0xe2, 0xef, raw).is_some()
            || memchr::memchr_iter(0xe0, raw).any(thai_digit)
    }

    /// Decodes `raw`.
    pub(super) fn decode(&mut self, raw: &[u8]) {
        self.text.clear();
        self.starts.clear();
        let mut at = 0;
        while at < raw.len() {
            let plain = raw[at..].iter().position(|byte| SPECIAL[usize::from(*byte)]).unwrap_or(raw.len() - at);
            self.text.extend_from_slice(&raw[at..at + plain]);
            self.starts.extend(at as u32..(at + plain) as u32);
            at += plain;
            if at < raw.len() {
                at = self.sequence(raw, at);
            }
        }
        self.starts.push(raw.len() as u32);
    }

    /// Decodes the sequence at `at`, where a backslash or `%` stands; gives where the next one starts.
    fn sequence(&mut self, raw: &[u8], at: usize) -> usize {
        let (c, end) = match raw[at] {
            b'%' => percent(raw, at),
            b'\\' => backslash(raw, at),
            _ => match other_spelling(&raw[at..]) {
                Some((Some(c), length)) => (c, at + length),
                Some((None, length)) => return at + length,
                None => {
                    self.text.push(raw[at]);
                    self.starts.push(at as u32);
                    return at + 1;
                }
            },
        };
        let before = self.text.len();
        self.text.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        self.starts.resize(self.starts.len() + self.text.len() - before, at as u32);
        end
    }
}

/// The bytes that sequences start with.
static SPECIAL: [bool; 256] = {
    let mut special = [false; 256];
    let mut at = 0;
    while at < 6 {
        special[b"\\%\xc2\xe0\xe2\xef"[at] as usize] = true;
        at += 1;
    }
    special
};

/// What a character that looks like one of ASCII, or like nothing, stands for, and its length: wide digits, `:` and `@` (U+FF10 to
/// U+FF20), Thai digits, spaces that do not break, and characters without width.
fn other_spelling(raw: &[u8]) -> Option<(Option<char>, usize)> {
    Some(match raw {
        [0xef, 0xbc, last @ 0x90..=0x99, ..] => (Some(char::from(last - 0x90 + b'0')), 3),
        [0xe0, 0xb9, last @ 0x90..=0x99, ..] => (Some(char::from(last - 0x90 + b'0')), 3),
        [0xef, 0xbc, 0x9a, ..] => (Some(':'), 3),
        [0xef, 0xbc, 0xa0, ..] => (Some('@'), 3),
        [0xef, 0xbc, 0x8b, ..] => (Some('+'), 3),
        [0xc2, 0xa0, ..] => (Some(' '), 2),
        [0xe2, 0x80, 0xaf, ..] => (Some(' '), 3),
        [0xe2, 0x80, 0x90 | 0x91, ..] => (Some('-'), 3),
        [0xe2, 0x80, 0x8b..=0x8f, ..] => (None, 3),
        _ => return None,
    })
}

/// The character of the backslashes at `at` and what follows them, and where it ends.
fn backslash(raw: &[u8], at: usize) -> (char, usize) {
    let slashes = slashes(raw, at);
    let after = at + slashes;
    match raw.get(after) {
        Some(b'n' | b'r' | b't' | b'b' | b'f') => ('\n', after + 1),
        Some(&c @ (b'"' | b'/')) => (char::from(c), after + 1),
        Some(b'u') => match unit(raw, after) {
            Some(high) => character(raw, high, after + 5, slashes),
            None => ('\\', after),
        },
        _ => ('\\', after),
    }
}

/// The character of the percent-encoding (RFC 3986, section 2.1) at `at`, and where it ends.
///
/// An encoded `%` before two digits is an encoding encoded again. Only ASCII is decoded: letters of other scripts stay as
/// they are, and what is made of `%`, digits and letters is a part of a mail address anyway.
fn percent(raw: &[u8], at: usize) -> (char, usize) {
    let mut after = at + 1;
    while raw[after..].starts_with(b"25") && byte(raw, after + 2).is_some() {
        after += 2;
    }
    match byte(raw, after) {
        Some(b'\n' | b'\r' | b'\t') => ('\n', after + 2),
        Some(c @ b' '..=b'~') => (char::from(c), after + 2),
        _ => ('%', at + 1),
    }
}

/// The number that two hexadecimal digits at `at` make.
fn byte(raw: &[u8], at: usize) -> Option<u8> {
    let digits = raw.get(at..at + 2)?;
    digits.iter().try_fold(0, |number, digit| Some(number << 4 | (*digit as char).to_digit(16)? as u8))
}

/// The number of backslashes at `at`.
fn slashes(raw: &[u8], at: usize) -> usize {
    raw[at..].iter().take_while(|b| **b == b'\\').count()
}

/// The number that four hexadecimal digits after the `u` at `at` make.
fn unit(raw: &[u8], at: usize) -> Option<u32> {
    let digits = raw.get(at + 1..at + 5)?;
    digits.iter().try_fold(0, |number, digit| Some(number << 4 | (*digit as char).to_digit(16)?))
}

/// The character of the unit `high`, with a second one at `at` where it is the first half of a pair; and where it ends.
fn character(raw: &[u8], high: u32, at: usize, slashes_before: usize) -> (char, usize) {
    let low_at = at + slashes_before;
    if (0xd800..0xdc00).contains(&high)
        && raw.get(at) == Some(&b'\\')
        && slashes(raw, at) == slashes_before
        && raw.get(low_at) == Some(&b'u')
        && let Some(low @ 0xdc00..0xe000) = unit(raw, low_at)
        && let Some(c) = char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00))
    {
        return (c, low_at + 5);
    }
    (char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER), at)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(raw: &str) -> String {
        let mut view = View::default();
        view.decode(raw.as_bytes());
        String::from_utf8(view.text().to_vec()).unwrap()
    }

    #[test]
    fn sequences_of_any_level_are_their_characters() {
        for (raw, expected) in [
            ("plain", "plain"),
            (r"a\nb\\nc\\\\td", "a\nb\nc\nd"),
            (r"a\u0040b\\u0040c", "a@b@c"),
            (r#"\"a\" \\\"b\\\""#, "\"a\" \"b\""),
            (r"\/\\/", "//"),
            (r"\ud83d\ude00 \\ud83d\\ude00", "😀 😀"),
            (r"\ud83d \ude00x", "\u{fffd} \u{fffd}x"),
            (r"\u00e9\u004", "é\\u004"),
            (r"C:\\dir \\x \", "C:\\dir \\x \\"),
            (r"\u", "\\u"),
            ("a%40b%2540c%252540d%2f%2F%0a", "a@b@c@d//\n"),
            ("100% %4 %zz %00 %e9 %25 %", "100% %4 %zz %00 %e9 % %"),
            ("เบอร์ ๐๘๑-２３＠：", "เบอร์ 081-23@:"),
        ] {
            assert_eq!(decoded(raw), expected, "{raw}");
        }
    }

    #[test]
    fn maps_back_to_whole_sequences() {
        let raw = r"x\\n\ud83d\ude00ab\u0040";
        let mut view = View::default();
        view.decode(raw.as_bytes());
        assert_eq!(view.text(), "x\n😀ab@".as_bytes());
        let written = |start, end| {
            let (start, end) = view.written(start, end);
            &raw[start..end]
        };
        assert_eq!(written(0, 1), "x");
        assert_eq!(written(1, 2), r"\\n");
        assert_eq!(written(3, 4), r"\ud83d\ude00");
        assert_eq!(written(2, 7), r"\ud83d\ude00a");
        assert_eq!(written(6, 9), r"ab\u0040");
    }

    proptest! {
        #[test]
        fn decodes_any_text_to_utf8_and_maps_all_of_it(raw in r#"([\\unt"/ad0258é%]|\\u00[0-9a-f]{2}|.){0,40}"#) {
            let mut view = View::default();
            view.decode(raw.as_bytes());
            prop_assert!(std::str::from_utf8(view.text()).is_ok());
            prop_assert_eq!(view.starts.len(), view.text.len() + 1);
            let mut end = 0;
            while end < view.text.len() {
                let (start, next) = view.written(end, end + 1);
                prop_assert!(start <= end + raw.len() && next > start && next <= raw.len());
                end += 1;
            }
            if !raw.is_empty() {
                prop_assert_eq!(view.written(0, view.text.len()), (0, raw.len()));
            }
        }
    }
}
