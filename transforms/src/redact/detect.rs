//! The built-in detectors: given a place that the scan points at, where a value starts and ends.
//!
//! Each is a small hand-written reader, linear in the text. What it finds is by definition what its pattern and validator
//! in the plain reference find (see the tests); there every one of them is one regular expression.

use super::card;

/// A mail address around the `@` at `at`; it starts at `from` at the earliest.
///
/// Letters of any script count on both sides. Before the `@`, a script without spaces between words would make a whole
/// sentence the address, so characters beyond Latin count only where one of them stands next to the `@`.
pub(super) fn email(text: &[u8], at: usize, from: usize) -> Option<(usize, usize)> {
    let start = local_start(text, at, from)?;
    let end = domain_end(text, at + 1)?;
    Some((start, end))
}

fn local_start(text: &[u8], at: usize, from: usize) -> Option<usize> {
    let wide = at > from && text[at - 1] >= 0x80;
    let mut start = at;
    while start > from {
        let byte = text[start - 1];
        if is_local(byte) || (wide && byte >= 0x80) {
            start -= 1;
        } else if start >= from + 2 && matches!(byte, 0x80..=0xbf) && matches!(text[start - 2], 0xc3..=0xc5) {
            start -= 2; // a Latin letter with a mark, U+00C0 to U+017F
        } else if byte == b'\'' && start >= from + 2 && text[start - 2].is_ascii_alphanumeric() && start < at && is_local(text[start]) {
            start -= 1; // O'Brien; a quotation mark has no letter before it
        } else {
            break;
        }
    }
    let trimmed = text[start..at].iter().position(|byte| !matches!(byte, b'.' | b'%' | b'+' | b'-'))?;
    Some(start + trimmed)
}

fn is_local(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'%' | b'+' | b'-')
}

/// The end of the domain at `start`: as many labels as there are, of which the last looks like a top-level domain.
fn domain_end(text: &[u8], start: usize) -> Option<usize> {
    let mut end = None;
    let mut at = start;
    loop {
        if at > start {
            end = top_level_end(text, at).or(end);
        }
        if !text.get(at).is_some_and(|byte| is_label(*byte) && *byte != b'-') {
            return end;
        }
        while text.get(at).is_some_and(|byte| is_label(*byte)) {
            at += 1;
        }
        if text.get(at) != Some(&b'.') {
            return end;
        }
        at += 1;
    }
}

fn is_label(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') || byte >= 0x80
}

/// The end of a top-level domain at `start`: two letters or more, Punycode, or some characters of another script.
fn top_level_end(text: &[u8], start: usize) -> Option<usize> {
    let run = |from: usize, test: fn(u8) -> bool| from + text[from..].iter().take_while(|byte| test(**byte)).count();
    if text[start..].starts_with(b"xn--") {
        let end = run(start + 4, |byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if end >= start + 6 {
            return Some(end);
        }
    }
    let letters = run(start, |byte| byte.is_ascii_alphabetic());
    if letters >= start + 2 {
        return Some(letters);
    }
    let wide = run(start, |byte| byte >= 0x80);
    (wide >= start + 4).then_some(wide)
}

/// Endings of file and unit names (`logo@2x.png`, `user@1000.service`) that no mail address has.
const NO_TOP_LEVEL: [&[u8]; 22] = [
    b"png", b"jpg", b"jpeg", b"gif", b"svg", b"webp", b"ico", b"css", b"js", b"mjs", b"map", b"json", b"html", b"go", b"service", b"slice",
    b"socket", b"svc", b"timer", b"target", b"mount", b"scope",
];

/// Whether what looks like a mail address may be one.
pub(super) fn is_email(address: &[u8]) -> bool {
    let dot = memchr::memrchr(b'.', address).unwrap_or(0);
    !NO_TOP_LEVEL.iter().any(|no| address[dot + 1..].eq_ignore_ascii_case(no))
}

/// An IPv4 address with its third dot at `third`.
pub(super) fn ipv4(text: &[u8], third: usize) -> Option<(usize, usize)> {
    let back = |from: usize| from - text[..from].iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let mut start = third;
    for remaining in (0..3).rev() {
        let octet = back(start);
        if !(1..=3).contains(&(start - octet)) {
            return None;
        }
        start = octet;
        if remaining > 0 {
            start = start.checked_sub(1).filter(|dot| text[*dot] == b'.')?;
        }
    }
    let digits = text[third + 1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let end = third + 1 + digits;
    let free_before = start == 0 || !(is_word(text[start - 1]) || text[start - 1] == b'.');
    ((1..=3).contains(&digits) && free_before && is_free_after_address(text, end)).then_some((start, end))
}

/// Whether an IPv4 address may end at `end`: no letter, no fifth number.
pub(super) fn is_free_after_address(text: &[u8], end: usize) -> bool {
    match text.get(end) {
        Some(b'.') => !text.get(end + 1).is_some_and(u8::is_ascii_digit),
        Some(byte) => !is_word(*byte),
        None => true,
    }
}

/// Whether four numbers with dots are the address of a host other than this one.
///
/// What ends with three zeros is a version (`Chrome/120.0.0.0`) or a network, and no one's address.
pub(super) fn is_ipv4(address: &[u8]) -> bool {
    let mut octets = [0; 4];
    for (octet, digits) in octets.iter_mut().zip(address.split(|byte| *byte == b'.')) {
        *octet = digits.iter().fold(0u32, |number, digit| number * 10 + u32::from(digit - b'0'));
    }
    octets.iter().all(|octet| *octet <= 255) && octets[0] != 127 && octets[1..] != [0, 0, 0] && octets != [255; 4]
}

/// The end of a JSON Web Token (RFC 7519) at `start`, where `eyJ` stands; or where to look on, as an error.
pub(super) fn jwt(text: &[u8], start: usize) -> Result<usize, usize> {
    let header = base64url_end(text, start + 3);
    let payload = base64url_end(text, header + 1);
    if header < start + 9 || text.get(header) != Some(&b'.') || payload < header + 7 {
        return Err(header);
    }
    let mut end = payload;
    for _ in 0..3 {
        if text.get(end) == Some(&b'.') {
            end = base64url_end(text, end + 1);
        }
    }
    Ok(end)
}

fn base64url_end(text: &[u8], start: usize) -> usize {
    let rest = text.get(start..).unwrap_or_default();
    start + rest.iter().take_while(|byte| is_word(**byte) || **byte == b'-').count()
}

/// The credential after the word `bearer` at `start`.
pub(super) fn bearer(text: &[u8], start: usize) -> Option<(usize, usize)> {
    let word = text.get(start..start + 6)?;
    if !word.eq_ignore_ascii_case(b"bearer") || (start > 0 && is_word(text[start - 1])) {
        return None;
    }
    let mut at = start + 6;
    at += text[at..].iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'+' | b':' | b'=')).count();
    let token = at;
    let class = |byte: &u8| is_word(*byte) || matches!(byte, b'-' | b'.' | b'~' | b'+' | b'/');
    at += text[at..].iter().take_while(|byte| class(byte)).count();
    if token == start + 6 || at - token < 12 {
        return None;
    }
    at += text[at..].iter().take(2).take_while(|byte| **byte == b'=').count();
    Some((token, at))
}

/// Whether what follows the word `bearer` is a credential and not a sentence.
pub(super) fn is_token(token: &[u8]) -> bool {
    token.len() >= 20 || token.iter().any(|byte| byte.is_ascii_digit() || *byte == b'=')
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// The cards in the cluster around `at`, which starts at `from` at the earliest; gives the end of the cluster.
pub(super) fn cards(text: &[u8], at: usize, from: usize, found: impl FnMut(usize, usize)) -> usize {
    card::in_cluster(text, card::cluster_start(text, at, from), found)
}
