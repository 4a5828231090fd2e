//! Bodies of RowBinaryWithNamesAndTypes, read back: to cut records out, to show one, and to write them as JSON where the table
//! has other columns by now.
//!
//! ```text
//! count of columns (LEB128), their names, their types (texts with their length), then row after row
//! ```

use skidder_pipeline::json;
use skidder_pipeline::value::{Kind, Value};

use super::types::Type;

/// A body, past its head.
pub struct Rows<'a> {
    /// Names and types of the columns.
    pub columns: Vec<(&'a str, Type)>,
    body: &'a [u8],
    head_bytes: usize,
}

impl<'a> Rows<'a> {
    /// Reads the head of `body`; `None` where it is none.
    pub fn read(body: &'a [u8]) -> Option<Rows<'a>> {
        let mut rest = body;
        let count = take_length(&mut rest)?;
        let mut text = || std::str::from_utf8(take_text(&mut rest)?).ok();
        let names: Vec<&str> = (0..count).map(|_| text()).collect::<Option<_>>()?;
        let types: Vec<Type> = (0..count).map(|_| Type::parse(text()?)).collect::<Option<_>>()?;
        Some(Rows { columns: names.into_iter().zip(types).collect(), body, head_bytes: body.len() - rest.len() })
    }

    /// The head, as it stands there.
    pub fn head(&self) -> &'a [u8] {
        &self.body[..self.head_bytes]
    }

    /// The rows, each as its bytes; ends at the first that is none.
    pub fn rows(&self) -> impl Iterator<Item = &'a [u8]> {
        let mut rest = &self.body[self.head_bytes..];
        std::iter::from_fn(move || {
            let start = rest;
            if rest.is_empty() {
                return None;
            }
            for (_, of) in &self.columns {
                skip(of, &mut rest)?;
            }
            Some(&start[..start.len() - rest.len()])
        })
    }

    /// Appends the columns of `row` as members of a JSON object that `member` writes: it gets the name and the value as JSON.
    pub fn members(&self, row: &[u8], mut member: impl FnMut(&str, &[u8])) {
        let (mut rest, mut text) = (row, Vec::new());
        for (name, of) in &self.columns {
            text.clear();
            if write_json(of, &mut rest, &mut text).is_none() {
                return;
            }
            member(name, &text);
        }
    }
}

/// The records of `body` that `wanted` lists, as a body.
pub fn cut(body: &[u8], wanted: &[u32]) -> Vec<u8> {
    let Some(rows) = Rows::read(body) else { return Vec::new() };
    let mut out = rows.head().to_vec();
    let mut wanted = wanted.iter().copied().peekable();
    for (index, row) in rows.rows().enumerate() {
        let Some(next) = wanted.peek() else { break };
        if index as u64 == u64::from(*next) {
            out.extend_from_slice(row);
            wanted.next();
        }
    }
    out
}

/// Record `index` of `body` as a JSON object.
pub fn show(body: &[u8], index: u32) -> Option<Vec<u8>> {
    let rows = Rows::read(body)?;
    let row = rows.rows().nth(index as usize)?;
    let mut out = vec![b'{'];
    rows.members(row, |name, value| {
        out.extend_from_slice(if out.len() > 1 { b",\"" } else { b"\"" });
        json::escape(name.as_bytes(), &mut out);
        out.extend_from_slice(b"\":");
        out.extend_from_slice(value);
    });
    out.push(b'}');
    Some(out)
}

/// Appends the value of type `of` that `rest` starts with, as JSON.
pub fn write_json(of: &Type, rest: &mut &[u8], out: &mut Vec<u8>) -> Option<()> {
    match of {
        Type::String => quote(take_text(rest)?, out),
        Type::Json => out.extend_from_slice(take_text(rest)?),
        Type::FixedString(bytes) => {
            let text = take(*bytes, rest)?;
            let end = text.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            quote(&text[..end], out);
        }
        Type::UInt(bytes) => {
            let mut wide = [0; 8];
            wide[..*bytes].copy_from_slice(take(*bytes, rest)?);
            out.extend_from_slice(u64::from_le_bytes(wide).to_string().as_bytes());
        }
        Type::Int(bytes) => out.extend_from_slice(take_int(*bytes, rest)?.to_string().as_bytes()),
        Type::Float32 => out.extend_from_slice(f32::from_le_bytes(*take_array(rest)?).to_string().as_bytes()),
        Type::Float64 => out.extend_from_slice(f64::from_le_bytes(*take_array(rest)?).to_string().as_bytes()),
        Type::Bool => out.extend_from_slice(if take(1, rest)? == [0] { b"false" } else { b"true" }),
        Type::Date => write_day(u16::from_le_bytes(*take_array(rest)?).into(), out),
        Type::Date32 => write_day(i32::from_le_bytes(*take_array(rest)?).into(), out),
        Type::DateTime => write_time(i128::from(u32::from_le_bytes(*take_array(rest)?)) * 1_000_000_000, out),
        Type::DateTime64(precision) => {
            let units = i128::from(i64::from_le_bytes(*take_array(rest)?));
            write_time(units * 10i128.pow(9 - precision), out);
        }
        Type::Uuid => {
            let halves: &[u8; 16] = take_array(rest)?;
            let digits: String = halves[..8].iter().rev().chain(halves[8..].iter().rev()).map(|byte| format!("{byte:02x}")).collect();
            let (a, b, c, d, e) = (&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]);
            quote(format!("{a}-{b}-{c}-{d}-{e}").as_bytes(), out);
        }
        Type::IPv4 => quote(std::net::Ipv4Addr::from(u32::from_le_bytes(*take_array(rest)?)).to_string().as_bytes(), out),
        Type::IPv6 => quote(std::net::Ipv6Addr::from(*take_array(rest)?).to_string().as_bytes(), out),
        Type::Enum { bytes, names } => {
            let number = take_int(*bytes, rest)?;
            match names.iter().find(|(_, known)| i64::from(*known) == number) {
                Some((name, _)) => quote(name.as_bytes(), out),
                None => out.extend_from_slice(number.to_string().as_bytes()),
            }
        }
        Type::Nullable(within) => {
            if take(1, rest)? == [0] {
                return write_json(within, rest, out);
            }
            out.extend_from_slice(b"null");
        }
        Type::Array(within) => {
            out.push(b'[');
            for index in 0..take_length(rest)? {
                if index > 0 {
                    out.push(b',');
                }
                write_json(within, rest, out)?;
            }
            out.push(b']');
        }
        Type::Map(key, value) => {
            out.push(b'{');
            for index in 0..take_length(rest)? {
                if index > 0 {
                    out.push(b',');
                }
                let start = out.len();
                write_json(key, rest, out)?;
                if out.get(start) != Some(&b'"') {
                    out.insert(start, b'"');
                    out.push(b'"');
                }
                out.push(b':');
                write_json(value, rest, out)?;
            }
            out.push(b'}');
        }
    }
    Some(())
}

/// Moves `rest` past a value of type `of`.
fn skip(of: &Type, rest: &mut &[u8]) -> Option<()> {
    match of {
        Type::String | Type::Json => drop(take_text(rest)?),
        Type::FixedString(bytes) | Type::UInt(bytes) | Type::Int(bytes) | Type::Enum { bytes, .. } => drop(take(*bytes, rest)?),
        Type::Bool => drop(take(1, rest)?),
        Type::Date => drop(take(2, rest)?),
        Type::Float32 | Type::Date32 | Type::DateTime | Type::IPv4 => drop(take(4, rest)?),
        Type::Float64 | Type::DateTime64(_) => drop(take(8, rest)?),
        Type::Uuid | Type::IPv6 => drop(take(16, rest)?),
        Type::Nullable(within) => {
            if take(1, rest)? == [0] {
                skip(within, rest)?;
            }
        }
        Type::Array(within) => {
            for _ in 0..take_length(rest)? {
                skip(within, rest)?;
            }
        }
        Type::Map(key, value) => {
            for _ in 0..take_length(rest)? {
                skip(key, rest)?;
                skip(value, rest)?;
            }
        }
    }
    Some(())
}

fn take<'a>(bytes: usize, rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (value, after) = rest.split_at_checked(bytes)?;
    *rest = after;
    Some(value)
}

fn take_array<'a, const N: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    take(N, rest)?.try_into().ok()
}

fn take_int(bytes: usize, rest: &mut &[u8]) -> Option<i64> {
    let value = take(bytes, rest)?;
    let mut wide = if value.last()? & 0x80 == 0 { [0; 8] } else { [0xff; 8] };
    wide[..bytes].copy_from_slice(value);
    Some(i64::from_le_bytes(wide))
}

fn take_text<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = take_length(rest)?;
    take(length, rest)
}

fn take_length(rest: &mut &[u8]) -> Option<usize> {
    let mut length = 0;
    for shift in (0..63).step_by(7) {
        let byte = take(1, rest)?[0];
        length |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(length);
        }
    }
    None
}

fn quote(text: &[u8], out: &mut Vec<u8>) {
    // What came from a batch is UTF-8.
    Value { kind: Kind::Text, raw: text }.write_json(out);
}

fn write_day(days: i64, out: &mut Vec<u8>) {
    let mut text = Vec::new();
    write_time(i128::from(days) * 86_400_000_000_000, &mut text);
    match text.split(|byte| *byte == b'T').next() {
        Some(day) if day.len() > 4 => {
            out.extend_from_slice(day);
            out.push(b'"');
        }
        _ => out.extend_from_slice(b"null"),
    }
}

/// Writes a point in time as RFC 3339.
pub fn write_time(nanos: i128, out: &mut Vec<u8>) {
    match jiff::Timestamp::from_nanosecond(nanos) {
        Ok(time) => quote(time.to_string().as_bytes(), out),
        Err(_) => out.extend_from_slice(b"null"),
    }
}
