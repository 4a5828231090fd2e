//! Values as they lie in a batch: a kind and the bytes, never a tree.

use std::borrow::Cow;

use crate::json;
use crate::path::Path;

/// A stretch of a batch's bytes, `start` included, `end` excluded.
///
/// Offsets are 32 bits wide: a batch is bounded far below 4 GiB (a chunk is at most 256 KiB, plus what edits append, plus
/// one long record), and eight bytes a span keep a record's fields in few cache lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// A span over `start..end` of a batch's bytes.
    pub fn new(start: usize, end: usize) -> Span {
        debug_assert!(start <= end && end <= u32::MAX as usize);
        Span { start: start as u32, end: end as u32 }
    }

    /// The number of bytes.
    pub fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether there is no byte in it.
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// The bytes of `bytes` that this span covers.
    pub fn of(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.start as usize..self.end as usize]
    }
}

/// What the bytes of a value are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Plain UTF-8 text that is not escaped for JSON, as a line of a log is.
    Text,
    /// The inside of a JSON string, without its quotes, still escaped (RFC 8259, section 7).
    String,
    /// A JSON number, as it was written.
    Number,
    /// `true` or `false`.
    Bool,
    /// `null`.
    Null,
    /// A whole JSON object, braces included.
    Object,
    /// A whole JSON array, brackets included.
    Array,
}

impl Kind {
    /// Whether the value is text in either form.
    pub fn is_text(self) -> bool {
        matches!(self, Kind::Text | Kind::String)
    }
}

/// A value: its kind and its bytes, wherever these lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Value<'a> {
    /// What the bytes are.
    pub kind: Kind,
    /// The bytes; UTF-8 always, see [`crate::batch::Batch`].
    pub raw: &'a [u8],
}

impl<'a> Value<'a> {
    /// A value of plain text.
    pub fn text(raw: &'a [u8]) -> Value<'a> {
        Value { kind: Kind::Text, raw }
    }

    /// What a person would read: text without escapes; for every other kind the JSON as it was written.
    pub fn plain(self) -> Cow<'a, [u8]> {
        match self.kind {
            Kind::String => json::unescape(self.raw),
            _ => Cow::Borrowed(self.raw),
        }
    }

    /// [`Value::plain`] as a `str`. What is no UTF-8 becomes U+FFFD (never for values of a batch).
    pub fn plain_str(self) -> Cow<'a, str> {
        match self.plain() {
            Cow::Borrowed(bytes) => String::from_utf8_lossy(bytes),
            Cow::Owned(bytes) => {
                Cow::Owned(String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
            }
        }
    }

    /// The value of a number; `None` for other kinds. Integers beyond 2^53 lose their last digits, as in JSON at large.
    pub fn number(self) -> Option<f64> {
        if self.kind != Kind::Number {
            return None;
        }
        std::str::from_utf8(self.raw).ok()?.parse().ok()
    }

    /// Appends the value as JSON.
    pub fn write_json(self, out: &mut Vec<u8>) {
        match self.kind {
            Kind::Text => {
                out.push(b'"');
                json::escape(self.raw, out);
                out.push(b'"');
            }
            Kind::String => {
                out.push(b'"');
                out.extend_from_slice(self.raw);
                out.push(b'"');
            }
            _ => out.extend_from_slice(self.raw),
        }
    }

    /// The value below this one at `segments` (see [`Path::segments`]); `self` for none.
    pub fn descend(self, segments: &[Box<[u8]>]) -> Option<Value<'a>> {
        segments.iter().try_fold(self, |value, segment| json::member(value, segment))
    }

    /// The value below this one at `path`.
    pub fn at(self, path: &Path) -> Option<Value<'a>> {
        self.descend(path.segments())
    }
}
