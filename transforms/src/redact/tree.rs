//! Every leaf of a JSON text: strings, numbers and keys at any depth, in one pass over its bytes.

use std::borrow::Cow;

use skidder_pipeline::json;
use skidder_pipeline::value::{Kind, Value};

use super::engine::{Engine, Form};
use super::names;

/// Writes the JSON text `raw` (checked before, as [`json::walk`] does) to `out` without what the rules take out of its leaves.
/// Says whether anything was. `below` is what the whole stands below, and `looks` says of a stretch whether there is anything in
/// it to look at.
///
/// A number that loses a part of itself becomes a string. Keys that become equal are told apart by `_2`, `_3`, ….
pub(super) fn redact(engine: &mut Engine, raw: &[u8], below: Below<'_>, looks: impl Fn(usize, usize) -> bool, out: &mut Vec<u8>) -> bool {
    level(engine, raw, below, &looks, MAX_NESTED, out)
}

/// Redacts the inside of a string of JSON that stands below `key`; `None` where there is nothing in it. A string that is itself
/// JSON is a tree of its own, so that it stays JSON.
pub(super) fn string<'e>(engine: &'e mut Engine, text: &[u8], key: &[u8]) -> Option<Cow<'e, [u8]>> {
    string_at(engine, text, key, MAX_NESTED)
}

fn string_at<'e>(engine: &'e mut Engine, text: &[u8], key: &[u8], nested: u32) -> Option<Cow<'e, [u8]>> {
    if nested > 0
        && let Some(inner) = nested_json(text)
    {
        let outer = engine.trace_within(&inner);
        let below = Below { key: key.into(), looks: true };
        let mut redacted = Vec::new();
        let changed = level(engine, &inner, below, &|_, _| true, nested - 1, &mut redacted);
        engine.trace_again(outer, text);
        return changed.then(|| {
            let mut escaped = Vec::with_capacity(redacted.len() + redacted.len() / 8);
            json::escape(&redacted, &mut escaped);
            Cow::Owned(escaped)
        });
    }
    engine.redact(text, Form::Escaped, key).map(Cow::Borrowed)
}

/// How deep JSON in strings of JSON is read as such: each level doubles the backslashes of the next.
const MAX_NESTED: u32 = 6;

/// What the inside of a string says, where that is an object or an array as a whole.
fn nested_json(text: &[u8]) -> Option<Cow<'_, [u8]>> {
    let mut start = text.trim_ascii_start();
    while let [b'\\', b'n' | b'r' | b't', rest @ ..] = start {
        start = rest.trim_ascii_start();
    }
    if !matches!(start.first(), Some(b'{' | b'[')) {
        return None;
    }
    let inner = json::unescape(text);
    json::value(&inner).is_ok().then_some(inner)
}

fn level(engine: &mut Engine, raw: &[u8], below: Below<'_>, looks: &dyn Fn(usize, usize) -> bool, nested: u32, out: &mut Vec<u8>) -> bool {
    out.clear();
    let (mut done, mut at) = (0, 0);
    let mut keys_changed = false;
    // The key that the next value stands below, and those of the objects and arrays around it.
    let mut below = below;
    let mut outer: Vec<(Below<'_>, bool)> = Vec::new();
    // `{"name":"DB_PASSWORD","value":"x"}`: the name is the key of what stands below `value`.
    let mut named: Option<Cow<'_, [u8]>> = None;
    while at < raw.len() {
        let byte = raw[at];
        let start = at;
        if byte == b'"' {
            at = string_end(raw, at + 1);
            let text = &raw[start + 1..at];
            let is_key = raw[at + 1..].iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b':');
            let here = looks(start + 1, at);
            let key = if is_key { &[] } else { &*below.key };
            let look = here || below.looks && !is_key;
            let levels = if is_key { 0 } else { nested };
            let redacted = if look { string_at(engine, text, key, levels) } else { None };
            if let Some(redacted) = &redacted {
                out.extend_from_slice(&raw[done..start + 1]);
                out.extend_from_slice(redacted);
                done = at;
                keys_changed |= is_key;
            }
            if is_key {
                // Values stand below the key as it is now, so that redacting again sees the same.
                let key = redacted.map_or(Cow::Borrowed(text), |redacted| Cow::Owned(redacted.into_owned()));
                below = match named.take_if(|_| matches!(text, b"value" | b"Value")) {
                    Some(name) => Below { key: name, looks: true },
                    None => Below { key, looks: here },
                };
            } else if matches!(&*below.key, b"name" | b"Name" | b"key" | b"Key") {
                named = names::says(text, false).filter(|says| !says.strict).map(|_| Cow::Borrowed(text));
            }
            at += 1;
        } else if byte == b'-' || byte.is_ascii_digit() {
            at += raw[at..].iter().take_while(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')).count();
            if (below.looks || looks(start, at))
                && let Some(redacted) = engine.redact(&raw[start..at], Form::Escaped, &below.key)
            {
                out.extend_from_slice(&raw[done..start]);
                out.push(b'"');
                out.extend_from_slice(redacted);
                out.push(b'"');
                done = at;
            }
        } else {
            match byte {
                b'{' => {
                    named = None;
                    outer.push((std::mem::take(&mut below), false));
                }
                b'[' => {
                    let elements = below.of_elements();
                    outer.push((std::mem::replace(&mut below, elements), true));
                }
                b'}' | b']' => {
                    named = None;
                    below = outer.pop().map_or(Below::default(), |(below, _)| below);
                }
                b',' => below = if let Some((below, true)) = outer.last() { below.of_elements() } else { Below::default() },
                _ => {}
            }
            at += 1;
        }
    }
    if done == 0 {
        return false;
    }
    out.extend_from_slice(&raw[done..]);
    if keys_changed && let Ok(value) = json::value(out) {
        let mut unique = Vec::with_capacity(out.len());
        write_unique(value, &mut unique);
        *out = unique;
    }
    true
}

/// The key that a value stands below, and whether there is something in it to look at.
#[derive(Clone, Default)]
pub(super) struct Below<'a> {
    pub(super) key: Cow<'a, [u8]>,
    pub(super) looks: bool,
}

impl Below<'_> {
    /// The same for the elements of an array: its key is theirs where it says what they are. Else it may stand far away, and is
    /// no word beside them.
    fn of_elements(&self) -> Self {
        let says = self.key.contains(&b'\\') || names::says(&self.key, false).is_some_and(|says| !says.strict);
        if says { self.clone() } else { Below::default() }
    }
}

/// The end of the string whose inside starts at `at`: its closing quote, or the end of the text should there be none.
fn string_end(raw: &[u8], mut at: usize) -> usize {
    loop {
        match memchr::memchr2(b'"', b'\\', &raw[at.min(raw.len())..]) {
            None => return raw.len().saturating_sub(1),
            Some(found) if raw[at + found] == b'"' => return at + found,
            Some(found) => at += found + 2,
        }
    }
}

/// Writes `value` with each key of an object that stands before told apart. The depth is bounded by the walk's.
fn write_unique(value: Value<'_>, out: &mut Vec<u8>) {
    match value.kind {
        Kind::Object => {
            let mut keys: Vec<Vec<u8>> = Vec::new();
            out.push(b'{');
            json::members(value, |key, member| {
                let key = free_key(key, |key| keys.iter().any(|known| known == key));
                if !keys.is_empty() {
                    out.push(b',');
                }
                out.push(b'"');
                out.extend_from_slice(&key);
                out.extend_from_slice(b"\":");
                keys.push(key);
                write_unique(member, out);
            });
            out.push(b'}');
        }
        Kind::Array => {
            let before = out.len();
            json::elements(value, |element| {
                out.push(if out.len() == before { b'[' } else { b',' });
                write_unique(element, out);
            });
            if out.len() == before {
                out.push(b'[');
            }
            out.push(b']');
        }
        _ => value.write_json(out),
    }
}

/// `key`, or the first of `key_2`, `key_3`, … that is not `taken`.
pub(super) fn free_key(key: &[u8], taken: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut free = key.to_vec();
    let mut number = 2;
    while taken(&free) {
        free.truncate(key.len());
        free.extend_from_slice(format!("_{number}").as_bytes());
        number += 1;
    }
    free
}
