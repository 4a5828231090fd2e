//! Times, as runtimes and loggers write them.

use skidder_pipeline::value::{Kind, Value};

/// The time that a value says, in nanoseconds since 1970-01-01T00:00:00Z.
///
/// A text of RFC 3339 (also with a space for the `T`, and with a comma before the fraction), or a number of seconds,
/// milliseconds, microseconds or nanoseconds since 1970, told apart by its size: what lies between the years 2001 and 2286.
pub fn unix_nanos(value: Value<'_>) -> Option<i64> {
    match value.kind {
        Kind::Text | Kind::String => parse_rfc3339(value.raw),
        Kind::Number => epoch(std::str::from_utf8(value.raw).ok()?),
        _ => None,
    }
}

fn epoch(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // The digits before the point say the unit: ten for seconds, three more for each smaller one.
    let decimals = match whole.len() {
        10 => 9,
        13 => 6,
        16 => 3,
        19 => 0,
        _ => return None,
    };
    let scale = |digits: usize| 10_i64.pow(digits as u32);
    let kept = &fraction[..fraction.len().min(decimals)];
    let fraction = if kept.is_empty() { 0 } else { kept.parse::<i64>().ok()? * scale(decimals - kept.len()) };
    whole.parse::<i64>().ok()?.checked_mul(scale(decimals))?.checked_add(fraction)
}

/// Reads a time of RFC 3339, the years 1678 to 2261; digits beyond nanoseconds are left out. A leap second is the next one.
pub fn parse_rfc3339(text: &[u8]) -> Option<i64> {
    let number = |range: std::ops::Range<usize>| {
        text.get(range)?.iter().try_fold(0_i64, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + i64::from(byte - b'0')))
    };
    let is = |at: usize, any: &[u8]| text.get(at).is_some_and(|byte| any.contains(byte));
    if !(is(4, b"-") && is(7, b"-") && is(10, b"Tt ") && is(13, b":") && is(16, b":")) {
        return None;
    }
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    if !(1..=12).contains(&month) || day < 1 || day > days_in(year, month) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let mut rest = text.get(19..)?;
    let mut nanos = 0;
    if let [b'.' | b',', after @ ..] = rest {
        let digits = after.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 {
            return None;
        }
        nanos = (0..9).fold(0, |sum, i| sum * 10 + if i < digits { i64::from(after[i] - b'0') } else { 0 });
        rest = &after[digits..];
    }
    let offset = offset(rest)?;
    let days = days_since_epoch(year, month, day);
    let seconds = days * 86_400 + hour * 3600 + minute * 60 + second - offset;
    seconds.checked_mul(1_000_000_000)?.checked_add(nanos)
}

/// `Z`, `+02:00`, `+0200` or `+02`, in seconds.
fn offset(text: &[u8]) -> Option<i64> {
    let (sign, digits) = match text {
        [b'Z' | b'z'] => return Some(0),
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return None,
    };
    let digit = |byte: &u8| byte.is_ascii_digit().then(|| i64::from(byte - b'0'));
    let (hours, minutes) = match digits {
        [a, b, b':', c, d] | [a, b, c, d] => (digit(a)? * 10 + digit(b)?, digit(c)? * 10 + digit(d)?),
        [a, b] => (digit(a)? * 10 + digit(b)?, 0),
        _ => return None,
    };
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 3600 + minutes * 60))
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 in the Gregorian calendar: "days_from_civil" of Howard Hinnant's "chrono-Compatible Low-Level Date
/// Algorithms".
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year - era * 400;
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}
