//! Tokens and addresses: long runs of letters, digits, `_` and `-`, told by how they start, how long they are, and their
//! checksums.

use std::sync::LazyLock;

use super::catalog::Detector;
use super::checks;
use super::text::{Text, is_token};
use super::token_table::{ANY, Class, DOTTED, PARTED, Start, TOKENS, starts_with};

/// The fewest bytes that a run has in which something is looked for. Nothing that is found has fewer.
pub(super) const MIN_RUN_BYTES: usize = 20;

/// Calls `found` with what stands in the run of token characters `start..end`.
pub(super) fn in_run(text: &Text<'_>, start: usize, end: usize, mut found: impl FnMut(Detector, usize, usize)) {
    let mut at = start;
    if let Some((from, to)) = dotted(text, start, end)
        .or_else(|| telegram(text, start, end))
        .or_else(|| webhook(text, start, end))
        .or_else(|| parts(text, start, end))
        .or_else(|| parted(text, start, end))
        .or_else(|| marked(text, start, end))
        .or_else(|| encoded_key(text, start))
        .or_else(|| mail_key(text, start, end))
    {
        found(Detector::ApiToken, from, to);
        at = to.min(end);
    }
    let mut fresh = true;
    while at + 4 < end {
        if fresh || at == start {
            let next = at_boundary(text, at, end);
            if let Some((detector, to)) = next {
                found(detector, at, to);
                at = to;
                fresh = true;
                continue;
            }
            // In written bytes, the letter of an escape stands before what it precedes.
            if text.raw && at == start && text.before(at) == Some(b'\\') {
                at += 1;
                fresh = true;
                continue;
            }
        }
        fresh = !text.bytes[at].is_ascii_alphanumeric();
        at += 1;
    }
}

/// What starts at `at`, where no letter or digit stands before.
fn at_boundary(text: &Text<'_>, at: usize, end: usize) -> Option<(Detector, usize)> {
    let run = &text.bytes[at..end];
    match run[0] {
        b'0' if matches!(run[1], b'x' | b'X') => hex_address(run).map(|length| (Detector::Ethereum, at + length)),
        b'1' | b'3' => bitcoin(run).map(|length| (Detector::Bitcoin, at + length)),
        b'b' | b'B' | b't' | b'T' if run[1] | 0x20 == b'c' || run[1] | 0x20 == b'b' => {
            segwit(run).map(|length| (Detector::Bitcoin, at + length))
        }
        _ => None,
    }
    .or_else(|| ton(text, at).map(|to| (Detector::Ton, to)))
    .or_else(|| token(text, at, end).map(|to| (Detector::ApiToken, to)))
}

/// Where the token ends that starts at `at` in a run up to `end`.
fn token(text: &Text<'_>, at: usize, end: usize) -> Option<usize> {
    let run = &text.bytes[at..end];
    let [first, second, ..] = *run else { return None };
    // Few of the runs that start like this go on like it: the second byte is worth a look before a call that compares.
    let may = |start: &&Start| start.prefix.as_bytes()[1] == second && run.starts_with(start.prefix.as_bytes());
    starts_with(first).iter().filter(may).find_map(|Start { prefix, row }| {
        let kind = &TOKENS[*row];
        let longer = kind.class == Class::Base64;
        let rest = if longer { &text.bytes[at + prefix.len()..] } else { &run[prefix.len()..] };
        let length = rest.iter().take(kind.most + 1).take_while(|byte| kind.class.has(**byte)).count();
        let ends = !rest.get(length).is_some_and(u8::is_ascii_alphanumeric) || length > ANY;
        // In written bytes, a slash of Base64 may have a backslash before it.
        let least = if longer && text.raw { MIN_RUN_BYTES - prefix.len().min(MIN_RUN_BYTES) } else { kind.least };
        let fits = length >= least && (length <= kind.most || kind.most == ANY);
        (fits && ends && kind.class.is_made_of(&rest[..length])).then_some(at + prefix.len() + length)
    })
}

fn dotted(text: &Text<'_>, start: usize, end: usize) -> Option<(usize, usize)> {
    if text.before(start) != Some(b'.') {
        return None;
    }
    DOTTED.iter().find_map(|(prefix, least)| {
        let from = start.checked_sub(prefix.len())?;
        if !text.bytes[from..].starts_with(prefix.as_bytes()) || end - start < *least || text.word_before(from) {
            return None;
        }
        // SendGrid's have a second part.
        let end = if text.get(end) == Some(b'.') && matches!(*prefix, "SG." | "dt0c01.") { text.run(end + 1, is_token) } else { end };
        Some((from, end))
    })
}

static HOOK: LazyLock<memchr::memmem::Finder<'static>> = LazyLock::new(|| memchr::memmem::Finder::new("hook"));

/// The path of a webhook, of which the run is the last part: who knows it may write.
fn webhook(text: &Text<'_>, start: usize, end: usize) -> Option<(usize, usize)> {
    const MAX_PATH_BYTES: usize = 80;
    const MAX_LONG_PATH_BYTES: usize = 200;
    const PLACES: [&[u8]; 4] =
        [b"hooks.slack.com/services/", b"hooks.slack.com/workflows/", b"hooks.slack.com/triggers/", b"/api/webhooks/"];
    const LONG_PLACES: [&[u8]; 1] = [b"webhook.office.com/webhookb2/"];
    if text.before(start) != Some(b'/') {
        return None;
    }
    // In written bytes, slashes may have backslashes before them.
    if text.raw && text.before(start - 1) == Some(b'\\') {
        return Some((start, end));
    }
    // Most paths have no such word, which all places have.
    HOOK.find(&text.bytes[start.saturating_sub(MAX_LONG_PATH_BYTES)..start])?;
    let from = place(text, start, MAX_PATH_BYTES, &PLACES).or_else(|| place(text, start, MAX_LONG_PATH_BYTES, &LONG_PLACES));
    from.map(|from| (from, end))
}

/// A token of [`PARTED`] of which the run is the last part.
fn parted(text: &Text<'_>, start: usize, end: usize) -> Option<(usize, usize)> {
    const MAX_BYTES: usize = 400;
    if text.before(start) != Some(b'.') {
        return None;
    }
    let before = &text.bytes[start.saturating_sub(MAX_BYTES)..start];
    let from = start - before.iter().rev().take_while(|byte| is_token(**byte) || **byte == b'.').count();
    let from = from + usize::from(text.raw && text.before(from) == Some(b'\\'));
    let whole = &text.bytes[from..end];
    let dots = || whole.iter().filter(|byte| **byte == b'.').count();
    let fits = |row: &&(&str, usize, std::ops::RangeInclusive<usize>)| whole.starts_with(row.0.as_bytes()) && row.2.contains(&whole.len());
    PARTED.iter().find(fits).filter(|row| dots() == row.1).map(|_| (from, end))
}

/// Tokens that are told by what stands in their middle or at their end: Azure's, New Relic's, MaxMind's, Firebase's, Google's.
fn marked(text: &Text<'_>, start: usize, end: usize) -> Option<(usize, usize)> {
    let run = &text.bytes[start..end];
    let before = &text.bytes[..start];
    let whole = match run.len() {
        84 => &run[76..80] == b"AZDO" || &run[52..58] == b"JQQJ99",
        40 => run.ends_with(b"NRAL") && run[..36].iter().all(|byte| Class::Hex.has(*byte)) || run.ends_with(b"_mmk") && run[6] == b'_',
        _ => false,
    };
    // Cloudflare's: `v1.0-…-…`
    if run.len() == 173
        && run.starts_with(b"0-")
        && before.ends_with(b"v1.")
        && run[2..].iter().all(|byte| *byte == b'-' || Class::Hex.has(*byte))
    {
        return Some((start - 3, end));
    }
    if whole || run.starts_with(b"0") && run.len() >= 40 && (before.ends_with(b"1//") || text.raw && before.ends_with(b"/")) {
        return Some((start - if whole { 0 } else { 3.min(start) }, end));
    }
    let name = before.strip_suffix(b":").filter(|_| run.len() >= 100 && run.starts_with(b"APA91b"))?;
    Some((name.len() - name.iter().rev().take(16).take_while(|byte| is_token(**byte)).count(), end))
}

/// Tokens of several parts of which the run is the last: `MTIz….GabcDE.…` (Discord), `….atlasv1.…` (Terraform), `abc8Q~…` (Azure).
fn parts(text: &Text<'_>, start: usize, end: usize) -> Option<(usize, usize)> {
    let before = &text.bytes[..start];
    let back = |at: usize, most: usize| at - before[..at].iter().rev().take(most).take_while(|byte| is_token(**byte)).count();
    let length = end - start;
    if before.ends_with(b"Q~") && (31..=34).contains(&length) && start >= 6 {
        return before[start - 6..start].iter().all(|byte| is_token(*byte) || matches!(byte, b'.' | b'~')).then_some((start - 6, end));
    }
    // OpenShift's.
    if before.ends_with(b"sha256~") && length == 43 {
        return Some((start - 7, end));
    }
    let dot = start.checked_sub(1).filter(|at| before[*at] == b'.')?;
    // Airtable's.
    if length == 64 && before[dot.saturating_sub(17)..].starts_with(b"pat") {
        let from = back(dot, 18);
        return (dot - from == 17).then_some((from, end));
    }
    if before.ends_with(b".atlasv1.") && length >= 60 {
        let from = back(start - 9, 15);
        return (start - 9 - from == 14).then_some((from, end));
    }
    let middle = back(dot, 8);
    let first_dot = middle.checked_sub(1).filter(|at| before[*at] == b'.')?;
    let first = back(first_dot, 32);
    let fine = (6..=7).contains(&(dot - middle)) && (23..=28).contains(&(first_dot - first)) && matches!(before[first], b'M' | b'N' | b'O');
    (fine && (27..=40).contains(&length)).then_some((first, end))
}

/// A private key in Base64, as kubeconfigs and secrets of Kubernetes have them, from its first run on.
fn encoded_key(text: &Text<'_>, start: usize) -> Option<(usize, usize)> {
    // What `-----BEGIN` becomes, and `RSA `, `PRI`, `EC `, `OPEN`, `DSA `, `ENC` after it.
    const KINDS: [&[u8]; 6] = [b"BSU0Eg", b"BQUkl", b"BFQyBQ", b"BPUEVO", b"BEU0Eg", b"BFTkNS"];
    let rest = text.bytes[start..].strip_prefix(b"LS0tLS1CRUdJTi")?;
    // What goes on from an earlier part was read with it.
    let fresh = text.raw || !matches!(text.before(start), Some(b'+' | b'/'));
    if !fresh || !KINDS.iter().any(|kind| rest.starts_with(kind)) {
        return None;
    }
    let end = if text.raw { start + MIN_RUN_BYTES } else { text.run(start, |byte| is_token(byte) || matches!(byte, b'+' | b'/')) };
    Some((start, end + text.bytes[end..].iter().take(2).take_while(|byte| **byte == b'=').count()))
}

/// 32 hexadecimal digits, `-us` and the number of a data centre (Mailchimp); or twice eight more of them (Mailgun).
fn mail_key(text: &Text<'_>, start: usize, end: usize) -> Option<(usize, usize)> {
    let hex = |part: &[u8]| part.iter().all(|byte| Class::Hex.has(*byte));
    let (key, rest) = text.bytes[start..end].split_at_checked(32)?;
    let centre = rest.strip_prefix(b"-us").is_some_and(|number| matches!(number.len(), 1 | 2) && number.iter().all(u8::is_ascii_digit));
    let parts = rest.len() == 18 && rest[0] == b'-' && rest[9] == b'-' && hex(&rest[1..9]) && hex(&rest[10..]);
    (hex(key) && (centre || parts)).then_some((start, end))
}

/// Where one of some texts ends within reach before `at`.
fn place(text: &Text<'_>, at: usize, reach: usize, places: &[&[u8]]) -> Option<usize> {
    let from = at.saturating_sub(reach);
    let window = &text.bytes[from..at];
    places.iter().find_map(|place| Some(from + memchr::memmem::rfind(window, place)? + place.len()))
}

/// A bot's token: eight to ten digits, a colon, `AA` and 33 characters.
fn telegram(text: &Text<'_>, start: usize, end: usize) -> Option<(usize, usize)> {
    let colon = start.checked_sub(1).filter(|at| text.bytes[*at] == b':')?;
    let digits = text.bytes[..colon].iter().rev().take(11).take_while(|byte| byte.is_ascii_digit()).count();
    let from = colon - digits;
    let in_address = text.bytes[..from].ends_with(b"/bot") || text.bytes[..from].ends_with(b" bot");
    (text.bytes[start..end].starts_with(b"A") && end - start == 35 && (8..=10).contains(&digits) && (in_address || !text.word_before(from)))
        .then_some((from, end))
}

/// `0x` and 40 hexadecimal digits, no more: 64 are the hash of a transaction.
fn hex_address(run: &[u8]) -> Option<usize> {
    let digits = run[2..].iter().take(41).take_while(|byte| byte.is_ascii_hexdigit()).count();
    (digits == 40 && !run.get(42).is_some_and(u8::is_ascii_alphanumeric)).then_some(42)
}

fn bitcoin(run: &[u8]) -> Option<usize> {
    let length = run.iter().take(36).take_while(|byte| byte.is_ascii_alphanumeric()).count();
    // Most are hashes in hexadecimal digits, with a `0` among them, which Base58 has not.
    let base58 = || !run[..length].iter().any(|byte| matches!(byte, b'0' | b'O' | b'I' | b'l'));
    ((26..=35).contains(&length) && base58() && checks::base58_bitcoin(&run[..length])).then_some(length)
}

fn segwit(run: &[u8]) -> Option<usize> {
    let known = [&b"bc1"[..], b"tb1"].iter().any(|prefix| run[..3].eq_ignore_ascii_case(prefix));
    let length = run.iter().take(91).take_while(|byte| byte.is_ascii_alphanumeric()).count();
    (known && (MIN_RUN_BYTES..=90).contains(&length) && checks::bech32(&run[..length])).then_some(length)
}

fn ton(text: &Text<'_>, at: usize) -> Option<usize> {
    let address = text.bytes.get(at..at + 48)?;
    let starts = matches!(address[0], b'E' | b'U' | b'k' | b'0') && address[1] == b'Q';
    let ends = !text.get(at + 48).is_some_and(|byte| byte.is_ascii_alphanumeric());
    (starts && ends && checks::ton(address)).then_some(at + 48)
}
