//! Records as lines of JSON, and bodies made of lines.

use skidder_pipeline::batch::{Field, RecordView};
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
    let bytes = record.bytes();
    out.push(b'{');
    out.extend_from_slice(shared);
    let mut comma = !shared.is_empty();
    let mut rest = record.fields();
    while !rest.is_empty() {
        rest = write_some(bytes, rest, comma, |_| true, out);
        comma = true;
    }
    out.extend_from_slice(b"}\n");
}

/// Appends the first field or fields as members of an object, with a comma first where `comma`; gives those that are left.
///
/// Fields of a line of JSON mostly lie in the batch just as they are to be written, separators included, and are copied in
/// one piece. `ours` says of each field but the first whether it may be among them. There must be a field.
#[inline]
pub fn write_some<'f>(bytes: &[u8], fields: &'f [Field], comma: bool, ours: impl Fn(&Field) -> bool, out: &mut Vec<u8>) -> &'f [Field] {
    let Some((first, rest)) = fields.split_first() else { return fields };
    let Some(mut end) = end_as_written(bytes, first) else {
        write_member(first.key.of(bytes), Value { kind: first.kind, raw: first.value.of(bytes) }, comma, out);
        return rest;
    };
    let mut count = 1;
    for field in rest {
        let key = field.key.start as usize;
        if key != end + 2 || bytes[end..key] != *b",\"" || !ours(field) {
            break;
        }
        let Some(next) = end_as_written(bytes, field) else { break };
        end = next;
        count += 1;
    }
    out.extend_from_slice(if comma { b",\"" } else { b"\"" });
    out.extend_from_slice(&bytes[first.key.start as usize..end]);
    &fields[count..]
}

/// Where the member ends that starts with the field's key, if it lies there as it is to be written.
#[inline]
fn end_as_written(bytes: &[u8], field: &Field) -> Option<usize> {
    let (key_end, start, end) = (field.key.end as usize, field.value.start as usize, field.value.end as usize);
    let colon = || start == key_end + 2 && bytes[key_end..start] == *b"\":";
    match field.kind {
        Kind::Text => None,
        Kind::String => {
            let is = start == key_end + 3 && bytes[key_end..start] == *b"\":\"" && bytes.get(end) == Some(&b'"');
            is.then_some(end + 1)
        }
        Kind::Object | Kind::Array => (colon() && memchr::memchr2(b'\n', b'\r', field.value.of(bytes)).is_none()).then_some(end),
        Kind::Number | Kind::Bool | Kind::Null => colon().then_some(end),
    }
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
    use skidder_pipeline::value::Span;

    use super::*;
    use crate::testing::batch;

    #[test]
    fn a_value_stays_on_its_line() {
        let raw = b"{\n \"a\\n\":\r\n[1,\n2]}";
        let mut out = Vec::new();
        write_value(Value { kind: Kind::Object, raw }, &mut out);
        assert_eq!(out, b"{  \"a\\n\":  [1, 2]}");
    }

    #[test]
    fn fields_are_written_alike_wherever_they_lie() {
        // As they are to be written; with white space; and after edits that moved values and keys.
        let line = r#"{"s":"x\"y","n":-1.5,"t":true,"z":null,"o":{"a":[1, 2]},"a":[],"e":""}"#;
        let spaced = line.replace(':', " : ").replace(",\"", " , \"").replace("[1, 2]", "[1,\n2]");
        for text in [line.to_owned(), spaced] {
            let original = batch("{}", &[&text]);
            for moved in 0..1 << 7 {
                let mut edited = original.clone();
                edited.edit_values(|bytes, _, fields| {
                    for (i, field) in fields.iter_mut().enumerate().filter(|(i, _)| moved >> i & 1 == 1) {
                        let span = if i % 2 == 0 { &mut field.value } else { &mut field.key };
                        let copy = span.of(bytes).to_vec();
                        let start = bytes.len() as u32;
                        bytes.extend_from_slice(&copy);
                        *span = Span { start, end: bytes.len() as u32 };
                    }
                });
                let (mut ours, mut plain) = (Vec::new(), Vec::new());
                write_line(&edited.record(0), b"", &mut ours);
                original.record(0).write_json(&mut plain);
                plain.iter_mut().filter(|byte| **byte == b'\n').for_each(|byte| *byte = b' ');
                plain.push(b'\n');
                assert_eq!(String::from_utf8_lossy(&ours), String::from_utf8_lossy(&plain), "{moved:b}");
            }
        }
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
