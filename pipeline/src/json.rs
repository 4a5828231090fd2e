//! JSON as spans: one shallow walk over an object, nothing copied, nothing built.
//!
//! The walk checks the whole text against RFC 8259, nested values too, so that what a store receives as JSON is JSON. It
//! is iterative: depth costs one bit, not a stack frame. What it does not check is UTF-8, which a batch guarantees.

use std::borrow::Cow;

use crate::batch::Field;
use crate::value::{Kind, Span, Value};

/// How deep values may nest before a text is refused (and stays text). A bit of a `u64` a level; stores refuse far less:
/// Elasticsearch's default is 20.
pub const MAX_DEPTH: u32 = 64;

/// Why a text is not a JSON object that the walk takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Malformed {
    /// The first byte that is no white space is no `{`.
    #[error("not a JSON object")]
    NotAnObject,
    /// It breaks RFC 8259 somewhere.
    #[error("malformed JSON")]
    Syntax,
    /// It nests deeper than [`MAX_DEPTH`].
    #[error("JSON nested too deep")]
    TooDeep,
}

/// What the walk saw beside the fields.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Walk {
    /// Some key holds an escape: compare such keys only after [`canonical_key`].
    pub escaped_keys: bool,
}

/// Walks the object in `span` of `bytes` and appends a [`Field`] for each member, in order; spans point into `bytes`.
///
/// On an error `out` is left as it was.
pub fn walk(bytes: &[u8], span: Span, out: &mut Vec<Field>) -> Result<Walk, Malformed> {
    let before = out.len();
    let mut scan = Scan::new(&bytes[..span.end as usize], span.start as usize);
    let result = scan.object(out);
    if result.is_err() {
        out.truncate(before);
    }
    result
}

/// The member `key` (in its escaped form) of `object`; the last one where a key stands twice, as most parsers take it.
pub fn member<'a>(object: Value<'a>, key: &[u8]) -> Option<Value<'a>> {
    let mut found = None;
    members(object, |name, value| {
        if name == key || (name.contains(&b'\\') && *canonical_key(name) == *key) {
            found = Some(value);
        }
    });
    found
}

/// Calls `visit` with the key (as written) and the value of each member; does nothing for what is no object.
pub fn members<'a>(object: Value<'a>, mut visit: impl FnMut(&'a [u8], Value<'a>)) {
    if object.kind != Kind::Object {
        return;
    }
    let mut scan = Scan::new(object.raw, 0);
    // The walk that made the value checked it; were it malformed all the same, the members before the fault are visited.
    let _ = scan.each_member(|key, value, kind| visit(key.of(object.raw), Value { kind, raw: value.of(object.raw) }));
}

/// Calls `visit` with each element of an array; does nothing for what is no array.
pub fn elements<'a>(array: Value<'a>, mut visit: impl FnMut(Value<'a>)) {
    if array.kind != Kind::Array {
        return;
    }
    let mut scan = Scan::new(array.raw, 1);
    let _ = scan.each_element(|value, kind| visit(Value { kind, raw: value.of(array.raw) }));
}

/// Reads a whole text as one JSON value of any kind.
pub fn value(text: &[u8]) -> Result<Value<'_>, Malformed> {
    let mut scan = Scan::new(text, 0);
    scan.white_space();
    let (span, kind) = scan.value()?;
    scan.white_space();
    if scan.at != text.len() {
        return Err(Malformed::Syntax);
    }
    Ok(Value { kind, raw: span.of(text) })
}

/// The one form of a key that equal keys share: its escapes resolved, and only what must be escaped put back.
pub fn canonical_key(key: &[u8]) -> Cow<'_, [u8]> {
    if !key.contains(&b'\\') {
        return Cow::Borrowed(key);
    }
    let mut out = Vec::with_capacity(key.len());
    escape(&unescape(key), &mut out);
    Cow::Owned(out)
}

/// Appends `text` as it stands between the quotes of a JSON string: `"`, `\` and U+0000 to U+001F escaped.
pub fn escape(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    loop {
        let run = plain_run(rest);
        out.extend_from_slice(&rest[..run]);
        let Some(&byte) = rest.get(run) else { return };
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(byte >> 4)]);
                out.push(HEX[usize::from(byte & 15)]);
            }
        }
        rest = &rest[run + 1..];
    }
}

/// Resolves the escapes of a JSON string's inside. A lone surrogate becomes U+FFFD; a broken escape stays as it is.
pub fn unescape(raw: &[u8]) -> Cow<'_, [u8]> {
    let Some(first) = memchr::memchr(b'\\', raw) else { return Cow::Borrowed(raw) };
    let mut out = Vec::with_capacity(raw.len());
    out.extend_from_slice(&raw[..first]);
    let mut at = first;
    while at < raw.len() {
        if raw[at] != b'\\' {
            let run = memchr::memchr(b'\\', &raw[at..]).unwrap_or(raw.len() - at);
            out.extend_from_slice(&raw[at..at + run]);
            at += run;
            continue;
        }
        let plain = match raw.get(at + 1) {
            Some(b'n') => b'\n',
            Some(b't') => b'\t',
            Some(b'r') => b'\r',
            Some(b'b') => 8,
            Some(b'f') => 12,
            Some(&c @ (b'"' | b'\\' | b'/')) => c,
            Some(b'u') => {
                let (c, used) = unicode_escape(&raw[at..]);
                match c {
                    Some(c) => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
                    None => out.extend_from_slice(&raw[at..at + used]),
                }
                at += used;
                continue;
            }
            _ => {
                out.push(b'\\');
                at += 1;
                continue;
            }
        };
        out.push(plain);
        at += 2;
    }
    Cow::Owned(out)
}

/// For each byte of what [`unescape`] makes of `raw` where the sequence starts that it comes from, and last the length of `raw`.
pub fn starts(raw: &[u8]) -> Vec<usize> {
    let mut starts = Vec::with_capacity(raw.len() + 1);
    let mut at = 0;
    while at < raw.len() {
        let used = match raw[at..] {
            [b'\\', b'u', ..] => unicode_escape(&raw[at..]).1,
            [b'\\', b'n' | b't' | b'r' | b'b' | b'f' | b'"' | b'\\' | b'/', ..] => 2,
            _ => 1,
        };
        let made = unescape(&raw[at..at + used]).len();
        starts.resize(starts.len() + made, at);
        at += used;
    }
    starts.push(raw.len());
    starts
}

/// The character of the `\uXXXX` (or pair of them) that `raw` starts with and the number of bytes it takes. `None` where
/// the four digits are not there.
fn unicode_escape(raw: &[u8]) -> (Option<char>, usize) {
    let unit = |at: usize| raw.get(at..at + 4).filter(|_| raw[at - 2..].starts_with(b"\\u")).and_then(hex4);
    let Some(high) = unit(2) else { return (None, raw.len().min(2)) };
    if (0xd800..0xdc00).contains(&high)
        && let Some(low) = unit(8)
        && (0xdc00..0xe000).contains(&low)
    {
        let code = 0x10000 + ((u32::from(high) - 0xd800) << 10) + (u32::from(low) - 0xdc00);
        return (char::from_u32(code), 12);
    }
    (Some(char::from_u32(u32::from(high)).unwrap_or(char::REPLACEMENT_CHARACTER)), 6)
}

fn hex4(digits: &[u8]) -> Option<u16> {
    digits.iter().try_fold(0u16, |acc, &d| Some(acc << 4 | (d as char).to_digit(16)? as u16))
}

/// How many bytes of `text` come before the first `"`, `\` or control character.
///
/// Eight bytes at a time in a `u64` (the "has a byte less than n" and "has a zero byte" tests of Bit Twiddling Hacks, S. E.
/// Anderson): exact for the lowest hit, which is the only one used.
fn plain_run(text: &[u8]) -> usize {
    const LOW: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let mut at = 0;
    let (words, _) = text.as_chunks::<8>();
    for word in words {
        let x = u64::from_le_bytes(*word);
        let quote = x ^ (LOW * b'"' as u64);
        let slash = x ^ (LOW * b'\\' as u64);
        let hits = (x.wrapping_sub(LOW * 0x20) & !x | quote.wrapping_sub(LOW) & !quote | slash.wrapping_sub(LOW) & !slash) & HIGH;
        if hits != 0 {
            return at + (hits.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    at + text[at..].iter().position(|&b| b < 0x20 || b == b'"' || b == b'\\').unwrap_or(text.len() - at)
}

/// A reader over a text, and where it stands.
struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Whether a key of the object at hand (not of one below it) held an escape.
    escaped_keys: bool,
}

impl Scan<'_> {
    fn new(bytes: &[u8], at: usize) -> Scan<'_> {
        Scan { bytes, at, escaped_keys: false }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[inline]
    fn white_space(&mut self) {
        // Most often there is none, and what comes is above all four.
        if self.peek().is_some_and(|byte| byte > b' ') {
            return;
        }
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    #[inline]
    fn expect(&mut self, byte: u8) -> Result<(), Malformed> {
        if self.peek() != Some(byte) {
            return Err(Malformed::Syntax);
        }
        self.at += 1;
        Ok(())
    }

    fn object(&mut self, out: &mut Vec<Field>) -> Result<Walk, Malformed> {
        self.white_space();
        if self.peek() != Some(b'{') {
            return Err(Malformed::NotAnObject);
        }
        self.each_member(|key, value, kind| out.push(Field { key, value, kind }))?;
        self.white_space();
        if self.at == self.bytes.len() { Ok(Walk { escaped_keys: self.escaped_keys }) } else { Err(Malformed::Syntax) }
    }

    /// Stands at `{`; calls `visit` with key, value and kind of each member, and ends after `}`.
    #[inline]
    fn each_member(&mut self, mut visit: impl FnMut(Span, Span, Kind)) -> Result<(), Malformed> {
        self.at += 1;
        self.white_space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            let (key, escaped) = self.key()?;
            self.escaped_keys |= escaped;
            let (value, kind) = self.value()?;
            visit(key, value, kind);
            self.white_space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(Malformed::Syntax),
            }
            self.white_space();
        }
    }

    /// Stands after `[`.
    fn each_element(&mut self, mut visit: impl FnMut(Span, Kind)) -> Result<(), Malformed> {
        self.white_space();
        if self.peek() == Some(b']') {
            return Ok(());
        }
        loop {
            let (value, kind) = self.value()?;
            visit(value, kind);
            self.white_space();
            match self.peek() {
                Some(b',') => self.at += 1,
                _ => return Ok(()),
            }
            self.white_space();
        }
    }

    /// A key, and whether it holds an escape; its colon and the white space around. Ends at the value.
    #[inline]
    fn key(&mut self) -> Result<(Span, bool), Malformed> {
        self.expect(b'"')?;
        let key = self.string()?;
        self.white_space();
        self.expect(b':')?;
        self.white_space();
        Ok(key)
    }

    /// A value of any kind. The span of a string is its inside.
    #[inline]
    fn value(&mut self) -> Result<(Span, Kind), Malformed> {
        let start = self.at;
        let kind = match self.peek().ok_or(Malformed::Syntax)? {
            b'"' => {
                self.at += 1;
                return Ok((self.string()?.0, Kind::String));
            }
            b'{' => {
                self.nested()?;
                Kind::Object
            }
            b'[' => {
                self.nested()?;
                Kind::Array
            }
            _ => self.scalar()?,
        };
        Ok((Span::new(start, self.at), kind))
    }

    /// Stands after the opening quote; gives the span of the inside, and whether it holds an escape. Ends after the closing
    /// quote.
    #[inline]
    fn string(&mut self) -> Result<(Span, bool), Malformed> {
        let start = self.at;
        let mut escaped = false;
        loop {
            self.at += plain_run(&self.bytes[self.at..]);
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok((Span::new(start, self.at - 1), escaped));
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape_sequence()?;
                }
                _ => return Err(Malformed::Syntax), // a bare control character, or the end
            }
        }
    }

    fn escape_sequence(&mut self) -> Result<(), Malformed> {
        match self.bytes.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 2,
            Some(b'u') if self.bytes.get(self.at + 2..self.at + 6).is_some_and(|d| d.iter().all(u8::is_ascii_hexdigit)) => self.at += 6,
            _ => return Err(Malformed::Syntax),
        }
        Ok(())
    }

    /// A number, `true`, `false` or `null`.
    #[inline]
    fn scalar(&mut self) -> Result<Kind, Malformed> {
        let (word, kind): (&[u8], Kind) = match self.peek() {
            Some(b't') => (b"true", Kind::Bool),
            Some(b'f') => (b"false", Kind::Bool),
            Some(b'n') => (b"null", Kind::Null),
            _ => return self.number(),
        };
        if !self.bytes[self.at..].starts_with(word) {
            return Err(Malformed::Syntax);
        }
        self.at += word.len();
        Ok(kind)
    }

    fn number(&mut self) -> Result<Kind, Malformed> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(Kind::Number)
    }

    #[inline]
    fn digits(&mut self) -> Result<(), Malformed> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at == start { Err(Malformed::Syntax) } else { Ok(()) }
    }

    /// Stands at `{` or `[`; checks the whole value and ends after its closing bracket. Which of the open brackets are
    /// braces is one bit a level.
    fn nested(&mut self) -> Result<(), Malformed> {
        let mut braces = 0u64;
        let mut depth = 0;
        loop {
            // At the start of a value.
            match self.peek().ok_or(Malformed::Syntax)? {
                open @ (b'{' | b'[') => {
                    if depth == MAX_DEPTH - 1 {
                        return Err(Malformed::TooDeep);
                    }
                    depth += 1;
                    braces = braces << 1 | u64::from(open == b'{');
                    self.at += 1;
                    self.white_space();
                    if !matches!(self.peek(), Some(b'}' | b']')) {
                        if open == b'{' {
                            self.key()?;
                        }
                        continue;
                    }
                }
                b'"' => {
                    self.at += 1;
                    self.string()?;
                }
                _ => {
                    self.scalar()?;
                }
            }
            // After a value, or at the end of an empty object or array.
            loop {
                self.white_space();
                let in_object = braces & 1 == 1;
                match self.peek() {
                    Some(b',') => {
                        self.at += 1;
                        self.white_space();
                        if in_object {
                            self.key()?;
                        }
                        break;
                    }
                    Some(close @ (b'}' | b']')) if (close == b'}') == in_object => {
                        self.at += 1;
                        depth -= 1;
                        braces >>= 1;
                        if depth == 0 {
                            return Ok(());
                        }
                    }
                    _ => return Err(Malformed::Syntax),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
