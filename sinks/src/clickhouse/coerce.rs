//! Values of records as values of columns, in RowBinary.
//!
//! Format: little-endian numbers, texts and arrays with their length as LEB128 before them
//! (<https://clickhouse.com/docs/interfaces/formats/RowBinary>).

use std::net::{Ipv4Addr, Ipv6Addr};

use skidder_pipeline::json;
use skidder_pipeline::value::{Kind, Value};

use super::types::Type;
use crate::common::semantics::{parse_rfc3339, unix_nanos};

const DAY_SECONDS: i64 = 86_400;
const SECOND_NANOS: i64 = 1_000_000_000;

/// Appends `value` as one of type `to`. Says whether it is one; where it is not, nothing is appended.
pub fn write(to: &Type, value: Value<'_>, out: &mut Vec<u8>) -> bool {
    let start = out.len();
    let done = try_write(to, value, out).is_some();
    if !done {
        out.truncate(start);
    }
    done
}

/// Appends what stands for a value that is not there: NULL where that can be, else zero, or nothing.
pub fn write_default(to: &Type, out: &mut Vec<u8>) {
    match to {
        Type::String | Type::Array(_) | Type::Map(..) => out.push(0),
        Type::Json => write_text(b"{}", out),
        Type::Nullable(_) => out.push(1),
        Type::FixedString(bytes) | Type::UInt(bytes) | Type::Int(bytes) => out.resize(out.len() + bytes, 0),
        Type::Bool => out.push(0),
        Type::Date => out.extend_from_slice(&[0; 2]),
        Type::Float32 | Type::Date32 | Type::DateTime | Type::IPv4 => out.extend_from_slice(&[0; 4]),
        Type::Float64 | Type::DateTime64(_) => out.extend_from_slice(&[0; 8]),
        Type::Uuid | Type::IPv6 => out.extend_from_slice(&[0; 16]),
        Type::Enum { bytes, names } => {
            let first = names.iter().map(|(_, number)| *number).min().unwrap_or(0);
            out.extend_from_slice(&first.to_le_bytes()[..*bytes]);
        }
    }
}

/// Appends a point in time, given in nanoseconds since 1970-01-01T00:00:00Z. Says whether it fits.
pub fn write_time(to: &Type, nanos: i64, out: &mut Vec<u8>) -> bool {
    let seconds = nanos.div_euclid(SECOND_NANOS);
    match to {
        Type::DateTime64(precision) => out.extend_from_slice(&nanos.div_euclid(10i64.pow(9 - precision)).to_le_bytes()),
        Type::DateTime => match u32::try_from(seconds) {
            Ok(seconds) => out.extend_from_slice(&seconds.to_le_bytes()),
            Err(_) => return false,
        },
        Type::Date => match u16::try_from(seconds.div_euclid(DAY_SECONDS)) {
            Ok(days) => out.extend_from_slice(&days.to_le_bytes()),
            Err(_) => return false,
        },
        Type::Date32 => out.extend_from_slice(&(seconds.div_euclid(DAY_SECONDS) as i32).to_le_bytes()),
        Type::Int(8) => out.extend_from_slice(&nanos.to_le_bytes()),
        Type::UInt(8) => match u64::try_from(nanos) {
            Ok(nanos) => out.extend_from_slice(&nanos.to_le_bytes()),
            Err(_) => return false,
        },
        Type::Nullable(within) => {
            out.push(0);
            if !write_time(within, nanos, out) {
                out.pop();
                return false;
            }
        }
        _ => return false,
    }
    true
}

/// Appends a text with its length.
pub fn write_text(text: &[u8], out: &mut Vec<u8>) {
    write_length(text.len(), out);
    out.extend_from_slice(text);
}

/// Appends a length as LEB128.
pub fn write_length(mut length: usize, out: &mut Vec<u8>) {
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
}

fn try_write(to: &Type, value: Value<'_>, out: &mut Vec<u8>) -> Option<()> {
    if value.kind == Kind::Null {
        // What is there and says nothing is as if it were not there.
        write_default(to, out);
        return Some(());
    }
    match to {
        Type::String => write_text(&value.plain(), out),
        Type::FixedString(bytes) => {
            let text = value.plain();
            let missing = bytes.checked_sub(text.len())?;
            out.extend_from_slice(&text);
            out.resize(out.len() + missing, 0);
        }
        Type::UInt(bytes) => {
            let number = integer(value)?;
            let max = u64::MAX >> (64 - 8 * bytes);
            let number = u64::try_from(number).ok().filter(|number| *number <= max)?;
            out.extend_from_slice(&number.to_le_bytes()[..*bytes]);
        }
        Type::Int(bytes) => {
            let number = integer(value)?;
            let max = i64::MAX >> (64 - 8 * bytes);
            let number = i64::try_from(number).ok().filter(|number| (-max - 1..=max).contains(number))?;
            out.extend_from_slice(&number.to_le_bytes()[..*bytes]);
        }
        Type::Float32 => {
            let number = float(value)? as f32;
            out.extend_from_slice(&Some(number).filter(|number| number.is_finite())?.to_le_bytes());
        }
        Type::Float64 => out.extend_from_slice(&float(value)?.to_le_bytes()),
        Type::Bool => out.push(u8::from(boolean(value)?)),
        Type::Date | Type::Date32 | Type::DateTime | Type::DateTime64(_) => {
            let day = || day(&value.plain());
            let nanos = unix_nanos(value).or_else(day)?;
            return write_time(to, nanos, out).then_some(());
        }
        Type::Uuid => {
            let id = uuid(&value.plain())?;
            out.extend(id[..8].iter().rev());
            out.extend(id[8..].iter().rev());
        }
        Type::IPv4 => out.extend_from_slice(&u32::from(value.plain_str().trim().parse::<Ipv4Addr>().ok()?).to_le_bytes()),
        Type::IPv6 => {
            let text = value.plain_str();
            let address = text.trim().parse::<Ipv6Addr>().or_else(|_| text.trim().parse::<Ipv4Addr>().map(|old| old.to_ipv6_mapped()));
            out.extend_from_slice(&address.ok()?.octets());
        }
        Type::Enum { bytes, names } => {
            let text = value.plain();
            let (_, number) = names.iter().find(|(name, _)| name.as_bytes() == &*text)?;
            out.extend_from_slice(&number.to_le_bytes()[..*bytes]);
        }
        Type::Json => {
            if value.kind != Kind::Object {
                return None;
            }
            write_text(value.raw, out);
        }
        Type::Nullable(within) => {
            out.push(0);
            try_write(within, value, out)?;
        }
        Type::Array(of) => {
            if value.kind != Kind::Array {
                return None;
            }
            let mut elements = Vec::new();
            json::elements(value, |element| elements.push(element));
            write_length(elements.len(), out);
            for element in elements {
                try_write(of, element, out)?;
            }
        }
        Type::Map(key, of) => {
            if value.kind != Kind::Object {
                return None;
            }
            let mut members = Vec::new();
            json::members(value, |name, member| members.push((name, member)));
            write_length(members.len(), out);
            for (name, member) in members {
                try_write(key, Value { kind: Kind::String, raw: name }, out)?;
                try_write(of, member, out)?;
            }
        }
    }
    Some(())
}

/// A whole number: as a number, as a text of one, or a truth value.
fn integer(value: Value<'_>) -> Option<i128> {
    if value.kind == Kind::Bool {
        return Some(i128::from(value.raw == b"true"));
    }
    let text = number(value)?;
    let text = std::str::from_utf8(&text).ok()?.trim();
    if let Ok(whole) = text.parse() {
        return Some(whole);
    }
    // `1e3` and `5.0` are whole, as long as no digit is lost.
    let float: f64 = text.parse().ok()?;
    (float.fract() == 0.0 && float.abs() < 9_007_199_254_740_992.0).then_some(float as i128)
}

/// A number that a float holds: `1e400` is none.
fn float(value: Value<'_>) -> Option<f64> {
    let text = number(value)?;
    let text = std::str::from_utf8(&text).ok()?.trim();
    text.parse().ok().filter(|float: &f64| float.is_finite())
}

fn number(value: Value<'_>) -> Option<std::borrow::Cow<'_, [u8]>> {
    (value.kind == Kind::Number || value.kind.is_text()).then(|| value.plain())
}

fn boolean(value: Value<'_>) -> Option<bool> {
    match &*value.plain() {
        b"true" | b"True" | b"TRUE" | b"1" => Some(true),
        b"false" | b"False" | b"FALSE" | b"0" => Some(false),
        _ => None,
    }
}

/// `2026-11-24` as its beginning.
fn day(text: &[u8]) -> Option<i64> {
    if text.len() != 10 {
        return None;
    }
    parse_rfc3339(&[text, b"T00:00:00Z"].concat())
}

fn uuid(text: &[u8]) -> Option<[u8; 16]> {
    let digits: Vec<u8> = text.trim_ascii().iter().copied().filter(|byte| *byte != b'-').collect();
    let digits = std::str::from_utf8(&digits).ok().filter(|digits| digits.len() == 32)?;
    u128::from_str_radix(digits, 16).ok().map(u128::to_be_bytes)
}
