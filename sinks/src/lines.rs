//! Records as lines of JSON, and bodies made of lines.

use skidder_pipeline::batch::RecordView;
use skidder_pipeline::shared::Shared;
use skidder_pipeline::value::{Kind, Value};

/// Appends `value` as JSON on one line.
///
/// Objects and arrays keep the white space they were written with, line feeds included; there it can only stand between
/// their parts, so a space in its place changes nothing.
#[inline]
pub fn write_value(value: Value<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    value.write_json(out);
    if matches!(value.kind, Kind::Object | Kind::Array) && memchr::memchr2(b'\n', b'\r', value.raw).is_some() {
        out[start..].iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')).for_each(|byte| *byte = b' ');
    }
}

/// Appends a member of an object; with a comma first where `comma`.
#[inline]
pub fn write_member(key: &[u8], value: Value<'_>, comma: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(if comma { b",\"" } else { b"\"" });
    out.extend_from_slice(key);
    out.extend_from_slice(b"\":");
    write_value(value, out);
}

/// The shared fields as members of an object, without braces, on one line.
pub fn shared_members(shared: &Shared) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value) in shared.iter() {
        write_member(key, value, !out.is_empty(), &mut out);
    }
    out
}

/// Appends the record as one JSON object and a line feed; `shared` are the batch's [`shared_members`].
pub fn write_line(record: &RecordView<'_>, shared: &[u8], out: &mut Vec<u8>) {
    out.push(b'{');
    out.extend_from_slice(shared);
    let mut comma = !shared.is_empty();
    for (key, value) in record.iter() {
        write_member(key, value, comma, out);
        comma = true;
    }
    out.extend_from_slice(b"}\n");
}

/// The records that `wanted` lists (in order) of a body in which each record is `each` lines.
pub fn cut(body: &[u8], wanted: &[u32], each: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let mut wanted = wanted.iter().copied().peekable();
    for (index, record) in records(body, each).enumerate() {
        let Some(next) = wanted.peek() else { break };
        if index as u64 == u64::from(*next) {
            out.extend_from_slice(record);
            wanted.next();
        }
    }
    out
}

/// Record `index` of a body in which each record is `each` lines.
pub fn nth(body: &[u8], index: u32, each: usize) -> Option<&[u8]> {
    records(body, each).nth(index as usize)
}

fn records(body: &[u8], each: usize) -> impl Iterator<Item = &[u8]> {
    let mut ends = memchr::memchr_iter(b'\n', body).skip(each - 1).step_by(each);
    let mut start = 0;
    std::iter::from_fn(move || {
        let end = ends.next()? + 1;
        Some(&body[std::mem::replace(&mut start, end)..end])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_stays_on_its_line() {
        let raw = b"{\n \"a\\n\":\r\n[1,\n2]}";
        let mut out = Vec::new();
        write_value(Value { kind: Kind::Object, raw }, &mut out);
        assert_eq!(out, b"{  \"a\\n\":  [1, 2]}");
    }

    #[test]
    fn cuts_records_of_one_line_and_of_two() {
        assert_eq!(cut(b"a\nb\nc\n", &[0, 2], 1), b"a\nc\n");
        assert_eq!(cut(b"a\n1\nb\n2\nc\n3\n", &[1], 2), b"b\n2\n");
        assert_eq!(cut(b"a\n1\nb\n2\nc\n3\n", &[0, 1, 2, 9], 2), b"a\n1\nb\n2\nc\n3\n");
        assert_eq!(cut(b"", &[0], 2), b"");
        assert_eq!(nth(b"a\n1\nb\n2\n", 1, 2), Some(&b"b\n2\n"[..]));
        assert_eq!(nth(b"a\n1\n", 1, 2), None);
    }
}
