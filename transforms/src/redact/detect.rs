//! The built-in detectors: given a place that the scan points at, where a value starts and ends.
//!
//! Each is a small hand-written reader, linear in the text. What it finds is by definition what its pattern and validator
//! in the plain reference find (see the tests); there every one of them is one regular expression.

use super::catalog::Detector;
use super::checks;
use super::text::{Text, is_tag, is_word};

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
        // O'Brien; a quotation mark has no letter before it.
        let apostrophe =
            byte == b'\'' && start >= from + 2 && start < at && text[start - 2].is_ascii_alphanumeric() && is_local(text[start]);
        if is_local(byte) || (wide && byte >= 0x80) || apostrophe {
            start -= 1;
        } else if start >= from + 2 && matches!(byte, 0x80..=0xbf) && matches!(text[start - 2], 0xc3..=0xc5) {
            start -= 2; // a Latin letter with a mark, U+00C0 to U+017F
        } else {
            break;
        }
    }
    let trimmed = text[start..at].iter().position(|byte| !matches!(byte, b'.' | b'%' | b'+' | b'-'))?;
    Some(start + trimmed)
}

/// What the part before the `@` is made of; an apostrophe too, which [`local_start`] looks at.
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
const NO_TOP_LEVEL: [&[u8]; 26] = [
    b"png", b"jpg", b"jpeg", b"gif", b"svg", b"webp", b"ico", b"css", b"js", b"mjs", b"map", b"json", b"html", b"go", b"service", b"slice",
    b"socket", b"svc", b"timer", b"target", b"mount", b"scope", b"rs", b"local", b"device", b"path",
];

/// Whether what looks like a mail address may be one.
pub(super) fn is_email(address: &[u8]) -> bool {
    let dot = memchr::memrchr(b'.', address).unwrap_or(0);
    !NO_TOP_LEVEL.iter().any(|no| address[dot + 1..].eq_ignore_ascii_case(no))
}

/// An IPv4 address with its third dot at `third`.
pub(super) fn ipv4(text: &Text<'_>, third: usize) -> Option<(usize, usize)> {
    let free = |start: usize| !text.word_before(start) && !matches!(text.before(start), Some(b'.' | b'~'));
    let text = text.bytes;
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
    ((1..=3).contains(&digits) && free(start) && is_free_after_address(text, end)).then_some((start, end))
}

/// Whether an IPv4 address may end at `end`: no letter, no fifth number, no revision of a package (`1.2.5.1-2`, `1.2.5.1+dfsg`).
pub(super) fn is_free_after_address(text: &[u8], end: usize) -> bool {
    match text.get(end) {
        Some(b'.') => !text.get(end + 1).is_some_and(u8::is_ascii_digit),
        Some(b'+' | b'~') => !text.get(end + 1).is_some_and(u8::is_ascii_alphanumeric),
        Some(b'-') => {
            let digits = text[end + 1..].iter().take(4).take_while(|byte| byte.is_ascii_digit()).count();
            digits == 0 || text.get(end + 1 + digits) == Some(&b'.')
        }
        Some(byte) => !is_word(*byte),
        None => true,
    }
}

/// Whether a word like `version` stands right before `start`, or is the key of the text. In written bytes that is not asked: what
/// stands before may be no part of the text.
pub(super) fn is_version(text: &Text<'_>, start: usize) -> bool {
    const WORDS: [&[u8]; 4] = [b"version", b"release", b"build", b"ver"];
    let is = |before: &[u8]| {
        WORDS.iter().any(|word| before.len() >= word.len() && before[before.len() - word.len()..].eq_ignore_ascii_case(word))
    };
    let joins = |byte: &u8| matches!(byte, b' ' | b':' | b'=' | b'"' | b'\'' | b'(' | b'v');
    let end = start - text.bytes[..start].iter().rev().take(4).take_while(|byte| joins(byte)).count();
    !text.raw && (end < start && is(&text.bytes[end.saturating_sub(7)..end]) || end == 0 && is(text.key))
}

/// Whether four numbers with dots are the address of a host other than this one.
///
/// What ends with three zeros is a version (`Chrome/120.0.0.0`) or a network, what starts with 255 a mask, and no one's address;
/// private ones (RFC 1918,
/// RFC 6598, RFC 3927) are those of machines.
pub(super) fn is_ipv4(address: &[u8], keep_private: bool) -> bool {
    let mut octets = [0; 4];
    for (octet, digits) in octets.iter_mut().zip(address.split(|byte| *byte == b'.')) {
        *octet = digits.iter().fold(0u32, |number, digit| number * 10 + u32::from(digit - b'0'));
    }
    let private = match octets {
        [10, ..] | [192, 168, ..] | [169, 254, ..] => true,
        [172, second, ..] => (16..32).contains(&second),
        [100, second, ..] => (64..128).contains(&second),
        _ => false,
    };
    let host = octets.iter().all(|octet| *octet <= 255) && !matches!(octets[0], 0 | 127 | 255) && octets[1..] != [0, 0, 0];
    host && !(private && keep_private)
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

/// The credential after the word for a scheme at `start`: which detector it belongs to, and where it is.
pub(super) fn credential(text: &Text<'_>, start: usize) -> Option<(Detector, usize, usize)> {
    const SCHEMES: [&[u8]; 5] = [b"bearer", b"basic", b"negotiate", b"apikey", b"token"];
    let rest = text.bytes.get(start..)?;
    let scheme = SCHEMES.iter().position(|word| rest.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word)))?;
    // `secret_token 9b74…`
    let joined = scheme == 4 && text.before(start) == Some(b'_');
    if text.word_before(start) && !joined {
        return None;
    }
    let mut word = start + SCHEMES[scheme].len();
    if text.raw {
        // What follows may be escaped.
        return Some((Detector::BearerToken, start, word));
    }
    // `the token is 9b74…`
    if scheme == 4 && text.bytes[word..].starts_with(b" is ") {
        word += 3;
    }
    let token = text.run(word, |byte| matches!(byte, b' ' | b'\t' | b'+') || (scheme == 0 && matches!(byte, b':' | b'=')));
    let end = text.run(token, |byte| is_word(byte) || matches!(byte, b'-' | b'.' | b'~' | b'+' | b'/'));
    if token == word || (scheme > 0 && token > word + 2) || end - token < if scheme == 1 { 8 } else { 12 } {
        return None;
    }
    let end = end + text.bytes[end..].iter().take(2).take_while(|byte| **byte == b'=').count();
    let detector = if scheme == 0 { Detector::BearerToken } else { Detector::Credentials };
    let value = &text.bytes[token..end];
    let fine = match scheme {
        0 => is_credential(value),
        1 => is_credential(value) || is_user_and_password(value),
        _ => is_mixed(value),
    };
    fine.then_some((detector, token, end))
}

/// Whether what follows the word `bearer` is a credential and not a sentence.
pub(super) fn is_credential(token: &[u8]) -> bool {
    token.len() >= 20 && !is_slug(token) || token.iter().any(|byte| byte.is_ascii_digit() || *byte == b'=')
}

/// Whether Base64 is that of `name:password`.
fn is_user_and_password(token: &[u8]) -> bool {
    let (mut word, mut bits, mut colon) = (0u32, 0, false);
    for byte in token.iter().filter(|byte| **byte != b'=') {
        let Some(value) = checks::sextet(*byte) else { return false };
        (word, bits) = ((word << 6 | u32::from(value)) & 0xffff, bits + 6);
        if bits >= 8 {
            bits -= 8;
            let decoded = (word >> bits) as u8;
            if !(b' '..=b'~').contains(&decoded) {
                return false;
            }
            colon |= decoded == b':';
        }
    }
    colon
}

/// Words with dashes, slashes or dots between them: `authentication-failed`.
fn is_slug(token: &[u8]) -> bool {
    token.iter().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'-' | b'/' | b'.' | b'_'))
        && token.iter().any(|byte| !byte.is_ascii_lowercase())
}

/// Whether a token has letters and digits, and is long.
fn is_mixed(token: &[u8]) -> bool {
    token.len() >= 16 && token.iter().any(u8::is_ascii_digit) && token.iter().any(u8::is_ascii_alphabetic) && !token.contains(&b'/')
}

/// The password of an address with its `@` at `at`: `scheme://user:password@host`. `last` is the one found before: a password
/// with an `@` in it goes on.
pub(super) fn url_password(text: &Text<'_>, at: usize, last: (usize, usize)) -> Option<(usize, usize)> {
    const MAX_BYTES: usize = 256;
    let from = at.saturating_sub(MAX_BYTES);
    let stops = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'/' | b'"' | b'\'' | b'<' | b'>' | b'?' | b'@');
    let authority = from + text.bytes[from..at].iter().rposition(stops)? + 1;
    if last.1 + 1 == authority && text.get(last.1) == Some(b'@') {
        return Some((last.0, at));
    }
    // Go's driver of MySQL, and Oracle's of Java: `user:password@tcp(host)`, `user/password@//host`.
    let rest = &text.bytes[at + 1..];
    let driver = rest.starts_with(b"tcp(") || rest.starts_with(b"unix(");
    const ORACLE: &[u8] = b"oracle:thin:";
    if rest.starts_with(b"//")
        && text.bytes[from..authority].ends_with(b"/")
        && memchr::memmem::find(&text.bytes[from..authority], ORACLE).is_some()
    {
        return (authority < at && !is_tag(&text.bytes[authority..at])).then_some((authority, at));
    }
    let scheme = driver || text.bytes[..authority].ends_with(b"://");
    let Some(colon) = memchr::memchr(b':', &text.bytes[authority..at]).map(|found| authority + found) else {
        // Sentry's addresses have a key alone.
        let key = at - authority == 32 && text.bytes[authority..at].iter().all(u8::is_ascii_hexdigit);
        return (scheme && key).then_some((authority, at));
    };
    let password = &text.bytes[colon + 1..at];
    (scheme && !password.is_empty() && !is_tag(password) && password.iter().any(|byte| *byte != b'*')).then_some((colon + 1, at))
}

/// A private key whose `BEG` stands at `at`: from its first dash to its last, or to the quote that ends what it stands in, or to
/// the end of the text. No key has a quote in it.
pub(super) fn private_key(text: &Text<'_>, at: usize) -> Option<(usize, usize)> {
    const MAX_KIND_BYTES: usize = 40;
    let start = at.checked_sub(5).filter(|start| text.bytes[*start..].starts_with(b"-----BEGIN "))?;
    let kind = at + 6;
    let end = text.run(kind, |byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b' ');
    let kind = &text.bytes[kind..end];
    let private = kind.ends_with(b"PRIVATE KEY") || kind.ends_with(b"PRIVATE KEY BLOCK");
    if !private || kind.len() > MAX_KIND_BYTES + 17 || !text.bytes[end..].starts_with(b"-----") {
        return None;
    }
    let quote = memchr::memchr(b'"', &text.bytes[end..]).map_or(text.bytes.len(), |found| end + found);
    let last = memchr::memmem::find(&text.bytes[end..quote], b"-----END ").map(|found| {
        let label = text.run(end + found + 9, |byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b' ');
        text.run(label, |byte| byte == b'-').min(label + 5)
    });
    Some((start, last.unwrap_or(quote)))
}

/// A hardware address with its fifth separator at `fifth`.
pub(super) fn mac(text: &Text<'_>, fifth: usize) -> Option<(usize, usize)> {
    let start = fifth.checked_sub(14)?;
    let address: &[u8; 17] = text.bytes.get(start..)?.first_chunk()?;
    let separator = address[14];
    let fine = address.iter().enumerate().all(|(at, byte)| if at % 3 == 2 { *byte == separator } else { byte.is_ascii_hexdigit() });
    let digits = || address.iter().enumerate().filter(|(at, _)| at % 3 != 2).map(|(_, byte)| *byte);
    let joined = |at: usize| {
        text.get(at)
            .is_some_and(|byte| is_word(byte) || (byte == separator && text.get(at + 1).is_some_and(|byte| byte.is_ascii_hexdigit())))
    };
    let joined_before =
        text.word_before(start) || (text.before(start) == Some(separator) && start >= 2 && text.bytes[start - 2].is_ascii_hexdigit());
    (fine && !joined_before && !joined(start + 17) && digits().any(|byte| byte != b'0') && digits().any(|byte| byte | 0x20 != b'f'))
        .then_some((start, start + 17))
}

/// The longest text of an IPv6 address: with an IPv4 address at its end.
const MAX_IPV6_BYTES: usize = 45;

/// Whether the hexadecimal digits before the colon at `at` start with the letter of an escape: `\f`, `\b`.
pub(super) fn after_escape(text: &[u8], at: usize) -> bool {
    let digits = text[..at].iter().rev().take(MAX_IPV6_BYTES).take_while(|byte| byte.is_ascii_hexdigit() || **byte == b':').count();
    at > digits && text[at - digits - 1] == b'\\'
}

/// An IPv6 address around the colon at `at`; or where its run of digits and colons ends, as an error.
pub(super) fn ipv6(text: &Text<'_>, at: usize) -> Result<(usize, usize), usize> {
    let part = |byte: &u8| byte.is_ascii_hexdigit() || *byte == b':';
    let before = text.bytes[..at].iter().rev().take(MAX_IPV6_BYTES + 1).take_while(|byte| part(byte)).count();
    let mut start = at - before;
    let run = at + text.bytes[at..].iter().take(MAX_IPV6_BYTES + 1).take_while(|byte| part(byte)).count();
    if run - start > MAX_IPV6_BYTES {
        return Err(text.run(at, |byte| part(&byte)));
    }
    let mut end = text.run(run, |byte| byte == b'.' || byte.is_ascii_digit()).min(start + MAX_IPV6_BYTES);
    while end > run && text.bytes[end - 1] == b'.' {
        end -= 1;
    }
    if end > run && memchr::memchr_iter(b'.', &text.bytes[run..end]).count() != 3 {
        end = run;
    }
    let single = |first: Option<u8>, second: Option<u8>| first == Some(b':') && second != Some(b':');
    if single(text.get(start), text.get(start + 1)) {
        start += 1;
    }
    if end > start && single(text.before(end), text.before(end - 1)) {
        end -= 1;
    }
    let address = text.bytes.get(start..end).unwrap_or_default();
    let parsed = std::str::from_utf8(address).ok().and_then(|address| address.parse::<std::net::Ipv6Addr>().ok());
    let joined = text.word_before(start) || text.word_at(end);
    match parsed {
        Some(parsed) if !joined && is_ipv6(address, parsed) => Ok((start, end)),
        _ => Err(run.max(at + 1)),
    }
}

/// Whether what parses as an address is one of a host, and not a path of code (`dead::beef`).
fn is_ipv6(text: &[u8], address: std::net::Ipv6Addr) -> bool {
    let first = address.segments()[0];
    let known = matches!(first, 0x2000..=0x3fff | 0xfe80..=0xfebf | 0xff00..) || address.to_ipv4_mapped().is_some() || first == 0x64;
    known && text.iter().any(u8::is_ascii_digit) && text.len() >= 6 && text.iter().filter(|byte| **byte == b':').count() >= 2
}

/// A line of a machine-readable passport around the `<` at `at`, or anywhere in the run there.
pub(super) fn mrz(text: &Text<'_>, at: usize) -> Result<(usize, usize), usize> {
    const LINE: usize = 44;
    let part = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'<';
    let before = text.bytes[..at].iter().rev().take(LINE * 2 + 1).take_while(|byte| part(**byte)).count();
    let start = at - before;
    let end = start + text.bytes[start..].iter().take(LINE * 2 + 1).take_while(|byte| part(**byte)).count();
    if end - start > LINE * 2 {
        return Err(text.run(at, part));
    }
    if text.word_before(start) || text.word_at(end) {
        return Err(end.max(at + 1));
    }
    let is_line = |line: &[u8]| is_mrz_line_1(line) || checks::mrz_line_2(line);
    let run = &text.bytes[start..end];
    let fine = match run.len() {
        LINE => is_line(run),
        88 => is_mrz_line_1(&run[..LINE]) && checks::mrz_line_2(&run[LINE..]),
        _ => false,
    };
    if fine { Ok((start, end)) } else { Err(end.max(at + 1)) }
}

/// The first line: a document, a country and the names of its holder.
fn is_mrz_line_1(line: &[u8]) -> bool {
    line.len() == 44
        && line[0] == b'P'
        && line[2..5].iter().all(|byte| byte.is_ascii_uppercase() || *byte == b'<')
        && line[5..].iter().all(|byte| byte.is_ascii_uppercase() || *byte == b'<')
        && memchr::memmem::find(&line[5..], b"<<").is_some()
}
