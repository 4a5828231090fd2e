//! The text that readers look at, and the questions that all of them ask of it.

/// A text to find values in.
#[derive(Clone, Copy)]
pub(super) struct Text<'a> {
    /// The bytes: decoded (see [`View`](super::view::View)), or as they were written where `raw` says so.
    pub(super) bytes: &'a [u8],
    /// Where each byte of a decoded text starts among those that were written; empty where both are the same.
    pub(super) starts: &'a [u32],
    /// The key that the text stands below, as context.
    pub(super) key: &'a [u8],
    /// Whether these are the bytes of a whole batch as they were written. Readers then find all that they would find in the
    /// decoded leaves, and possibly more: what they find is where to look.
    pub(super) raw: bool,
}

impl<'a> Text<'a> {
    /// A text without context.
    #[cfg(test)]
    pub(super) fn plain(bytes: &'a [u8]) -> Text<'a> {
        Text { bytes, starts: &[], key: &[], raw: false }
    }

    /// The byte at `at`.
    pub(super) fn get(&self, at: usize) -> Option<u8> {
        self.bytes.get(at).copied()
    }

    /// The byte before `at`.
    pub(super) fn before(&self, at: usize) -> Option<u8> {
        at.checked_sub(1).map(|at| self.bytes[at])
    }

    /// Whether a word goes on before `at`. In written bytes, the letter of an escape (`\n`) is none of a word.
    pub(super) fn word_before(&self, at: usize) -> bool {
        self.before(at).is_some_and(is_word) && !(self.raw && at >= 2 && self.bytes[at - 2] == b'\\')
    }

    /// Whether a word goes on at `at`.
    pub(super) fn word_at(&self, at: usize) -> bool {
        self.get(at).is_some_and(is_word)
    }

    /// How many bytes were written for the byte at `at`: more than one for an escaped quote.
    pub(super) fn width(&self, at: usize) -> u32 {
        match self.starts.get(at..) {
            Some([start, next, ..]) => next.saturating_sub(*start).max(1),
            _ => 1,
        }
    }

    /// The end of the bytes from `at` on that `test` holds for.
    pub(super) fn run(&self, at: usize, test: impl Fn(u8) -> bool) -> usize {
        let rest = self.bytes.get(at..).unwrap_or_default();
        at + rest.iter().take_while(|byte| test(**byte)).count()
    }
}

/// Letters, digits and `_`.
pub(super) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// What tokens are made of: letters, digits, `_` and `-`.
pub(super) fn is_token(byte: u8) -> bool {
    is_word(byte) || byte == b'-'
}

/// Whether the text is a tag that stands for a value: `[EMAIL]`, `[EMAIL:k3:0123456789abcdef]`.
pub(super) fn is_tag(text: &[u8]) -> bool {
    tag_end(text) == Some(text.len())
}

/// The end of the tag that the text starts with.
pub(super) fn tag_end(text: &[u8]) -> Option<usize> {
    const MAX_TAG_BYTES: usize = 120;
    if text.first() != Some(&b'[') || !text.get(1).is_some_and(u8::is_ascii_uppercase) {
        return None;
    }
    let end = text.iter().take(MAX_TAG_BYTES).position(|byte| *byte == b']')?;
    let fine = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':' | b'|' | b'-');
    text[1..end].iter().all(fine).then_some(end + 1)
}
