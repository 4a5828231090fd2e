//! The text of a record.

use std::io::Write;

use super::personal::{Place, Planted};
use super::phrases::{LEVELS, METHODS, PHRASES, STATUSES};
use crate::chance::Chance;

/// Appends the JSON text of record `seq` of `service`, with a personal value in it where one is given.
pub fn write(chance: &mut Chance, service: &str, seq: u64, planted: Option<&Planted>, out: &mut Vec<u8>) {
    let user = chance.below(90_000) + 10_000;
    let at = |place| planted.filter(|planted| planted.place == place);
    out.extend_from_slice(b"{\"ts\":\"");
    write_time(seq, out);
    out.extend_from_slice(b"\",\"level\":\"");
    out.extend_from_slice(chance.pick(&LEVELS).as_bytes());
    out.extend_from_slice(b"\",\"service\":\"");
    out.extend_from_slice(service.as_bytes());
    out.extend_from_slice(b"\",\"seq\":");
    write_number(seq, out);
    out.extend_from_slice(b",\"message\":\"");
    write_phrase(chance, user, at(Place::Message), out);
    out.extend_from_slice(b"\",\"correlation_id\":\"");
    write_uuid(chance, out);
    out.extend_from_slice(b"\",\"trace_id\":\"");
    write_hex(chance.next(), 16, out);
    write_hex(chance.next(), 16, out);
    out.extend_from_slice(b"\",\"span_id\":\"");
    write_hex(chance.next(), 16, out);
    out.extend_from_slice(b"\",\"user\":{\"id\":");
    write_number(user, out);
    if let Some(planted) = at(Place::Field) {
        out.extend_from_slice(b",\"contact\":\"");
        out.extend_from_slice(planted.text.as_bytes());
        out.push(b'"');
    }
    out.extend_from_slice(b"},\"request\":{\"method\":\"");
    out.extend_from_slice(chance.pick(&METHODS).as_bytes());
    out.extend_from_slice(b"\",\"path\":\"/v1/");
    out.extend_from_slice(service.as_bytes());
    out.push(b'/');
    write_number(chance.below(9_000), out);
    out.extend_from_slice(b"\",\"status\":");
    write_number(*chance.pick(&STATUSES), out);
    out.extend_from_slice(b",\"ms\":");
    write_number(chance.below(900), out);
    out.extend_from_slice(b".5}}");
}

/// Appends the time of record `seq`, one millisecond after that of the record before, within one day.
pub fn write_time(seq: u64, out: &mut Vec<u8>) {
    let (ms, seconds) = (seq % 1000, seq / 1000);
    let clock = [seconds / 3600 % 24, seconds / 60 % 60, seconds % 60];
    out.extend_from_slice(b"2026-09-14T");
    for (index, part) in clock.into_iter().enumerate() {
        if index > 0 {
            out.push(b':');
        }
        write_digits(part, 2, out);
    }
    out.push(b'.');
    write_digits(ms, 3, out);
    out.extend_from_slice(b"456789Z");
}

/// A phrase with `#` filled by a number and `~` by the personal value, or by the user's number where there is none.
fn write_phrase(chance: &mut Chance, user: u64, planted: Option<&Planted>, out: &mut Vec<u8>) {
    let mut rest = chance.pick(&PHRASES).as_bytes();
    while let Some(at) = memchr::memchr2(b'#', b'~', rest) {
        out.extend_from_slice(&rest[..at]);
        match (rest[at], planted) {
            (b'~', Some(planted)) => out.extend_from_slice(planted.text.as_bytes()),
            (b'~', None) => {
                out.extend_from_slice(b"user-");
                write_number(user, out);
            }
            _ => write_number(chance.below(90_000), out),
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

fn write_uuid(chance: &mut Chance, out: &mut Vec<u8>) {
    let (a, b) = (chance.next(), chance.next());
    write_hex(a, 8, out);
    out.push(b'-');
    write_hex(a >> 32, 4, out);
    out.extend_from_slice(b"-4");
    write_hex(a >> 48, 3, out);
    out.extend_from_slice(b"-a");
    write_hex(b, 3, out);
    out.push(b'-');
    write_hex(b >> 16, 12, out);
}

/// Appends the low `digits` hexadecimal digits of `value`.
fn write_hex(value: u64, digits: u32, out: &mut Vec<u8>) {
    out.extend((0..digits).rev().map(|digit| b"0123456789abcdef"[(value >> (4 * digit) & 15) as usize]));
}

/// Appends `value` with `digits` decimal digits.
fn write_digits(value: u64, digits: u32, out: &mut Vec<u8>) {
    out.extend((0..digits).rev().map(|digit| b'0' + (value / 10u64.pow(digit) % 10) as u8));
}

fn write_number(value: u64, out: &mut Vec<u8>) {
    // Writing to a vector cannot fail.
    let _ = write!(out, "{value}");
}
