//! The plain way to find: for each detector one regular expression that is searched for from the first byte to the last, and
//! the same confirmation as the quick way's. Slow and easy to check; what the quick way finds must be exactly this. It stands
//! behind `paranoid`, and in the tests.

use std::sync::LazyLock;

use regex::bytes::Regex;

use super::catalog::Detector;
use super::readers::Wanted;
use super::text::Text;
use super::{bank, commands, detect, digits, keys, prose, tokens};

fn pattern(source: &str) -> Regex {
    #[allow(clippy::unwrap_used, reason = "the patterns are those of this file, and the tests compile them")]
    Regex::new(source).unwrap()
}

/// Addresses: the part before the `@` in the letters of Latin scripts, or with those of another where one stands beside it.
static EMAIL: LazyLock<Regex> = LazyLock::new(|| {
    const LOCAL: &str =
        r"(?:[A-Za-z0-9]'[A-Za-z0-9._%+\-]|[A-Za-z0-9_])(?:[A-Za-z0-9]'[A-Za-z0-9._%+\-]|[A-Za-z0-9._%+\-]|[\xC3-\xC5][\x80-\xBF])*";
    const LATIN: &str = r"[\xC3-\xC5][\x80-\xBF](?:[A-Za-z0-9]'[A-Za-z0-9._%+\-]|[A-Za-z0-9._%+\-]|[\xC3-\xC5][\x80-\xBF])*";
    const WIDE: &str = r"(?:[A-Za-z0-9_\x80-\xFF][A-Za-z0-9._%+\-\x80-\xFF]*)?[\x80-\xFF]";
    const LABEL: &str = r"[A-Za-z0-9_\x80-\xFF][A-Za-z0-9_\-\x80-\xFF]*";
    const TOP: &str = r"(?:xn--[A-Za-z0-9\-]{2,}|[A-Za-z]{2,}|[\x80-\xFF]{4,})";
    pattern(&format!("(?-u)(?:{LOCAL}|{LATIN}|{WIDE})@(?:{LABEL}\\.)+{TOP}"))
});
static AT_SIGN: LazyLock<Regex> = LazyLock::new(|| pattern("(?-u)@"));
static IPV4: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?-u)(?:^|[^0-9A-Za-z_.])([0-9]{1,3}(?:\.[0-9]{1,3}){3})"));
static JWT: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?-u)(eyJ[A-Za-z0-9_\-]{6,}\.[A-Za-z0-9_\-]{6,}(?:\.[A-Za-z0-9_\-]*){0,3})"));
static SCHEME: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?-u)(?:\b(?i:bearer|basic|negotiate|apikey|token)|_(?i:token))[ \t+:=]"));
static CLUSTER: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?-u)[0-9]+(?:(?:[ .\-]\(?|\)[ .\-]?|\()[0-9]+)*"));
static RUN: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?-u)[A-Za-z0-9_\-]{20,}"));
static COLONS: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?-u)[0-9A-Fa-f:]*:[0-9A-Fa-f:]*"));
static MAC: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?-u)[0-9A-Fa-f]{2}[:\-]"));
static NUMBER_SIGN: LazyLock<Regex> = LazyLock::new(|| pattern("№"));
static ACCOUNT: LazyLock<Regex> = LazyLock::new(|| pattern("(?-u)[A-Z]{2}[0-9]{2}"));
static PASSPORT: LazyLock<Regex> = LazyLock::new(|| pattern("(?-u)[A-Z]{2}[0-9]{7}"));
static MRZ: LazyLock<Regex> = LazyLock::new(|| pattern("(?-u)[A-Z0-9<]{44,}"));
static PEM: LazyLock<Regex> = LazyLock::new(|| pattern("(?-u)-----BEGIN "));
static PROSE: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?-u)\b(?i:password|passphrase|passcode)"));
static SAID: LazyLock<Regex> = LazyLock::new(|| pattern("(?-u)(?i:otp|code|cvv|cvc)|(?u:пароль|Пароль|код|Код|รหัส|mật khẩu|Mật khẩu|mã)"));
static OPTION: LazyLock<Regex> = LazyLock::new(|| pattern("(?-u)--[A-Za-z]"));
static SHORT_OPTION: LazyLock<Regex> = LazyLock::new(|| pattern("(?-u) -[pu]"));
static KEY_END: LazyLock<Regex> = LazyLock::new(|| pattern("(?-u)[A-Za-z\\x80-\\xFF](?:[ =:\"'\\]>]|[12][\"=])"));

/// Calls `found` with all that the detectors find in `text`, in no order; values may overlap.
pub(super) fn read(text: Text<'_>, wanted: &Wanted, mut found: impl FnMut(Detector, usize, usize)) {
    let bytes = text.bytes;
    let mut found = |detector: Detector, start: usize, end: usize| {
        if wanted.has(detector) {
            found(detector, start, end);
        }
    };
    let mut passwords = Vec::new();
    let mut last = (0, 0);
    for at in AT_SIGN.find_iter(bytes) {
        if let Some((start, end)) = detect::url_password(&text, at.start(), last) {
            last = (start, end);
            passwords.push(end);
            found(Detector::UrlPassword, start, end);
        }
    }
    emails(bytes, &passwords, |start, end| found(Detector::Email, start, end));
    for captures in IPV4.captures_iter(bytes) {
        if let Some(m) = captures.get(1)
            && detect::is_free_after_address(bytes, m.end())
            && detect::is_ipv4(m.as_bytes(), wanted.keep_private)
            && !detect::is_version(&text, m.start())
        {
            found(Detector::Ipv4, m.start(), m.end());
        }
    }
    JWT.find_iter(bytes).for_each(|m| found(Detector::Jwt, m.start(), m.end()));
    let mut done = 0;
    for scheme in SCHEME.find_iter(bytes) {
        // `_token`
        let at = scheme.start() + usize::from(bytes[scheme.start()] == b'_');
        if at >= done
            && let Some((detector, start, end)) = detect::credential(&text, at)
        {
            done = end;
            found(detector, start, end);
        }
    }
    let mut groups = Vec::new();
    for cluster in CLUSTER.find_iter(bytes) {
        digits::in_cluster(&text, cluster.start(), &mut groups, &mut found);
    }
    for run in RUN.find_iter(bytes) {
        tokens::in_run(&text, run.start(), run.end(), &mut found);
    }
    for run in COLONS.find_iter(bytes) {
        let colons =
            memchr::memmem::find(run.as_bytes(), b"::").is_some() || run.as_bytes().iter().filter(|byte| **byte == b':').count() >= 5;
        let colon = run.start() + run.as_bytes().iter().position(|byte| *byte == b':').unwrap_or(0);
        if colons && let Ok((start, end)) = detect::ipv6(&text, colon) {
            found(Detector::Ipv6, start, end);
        }
    }
    for pair in MAC.find_iter(bytes) {
        if let Some((start, end)) = detect::mac(&text, pair.end() - 1) {
            found(Detector::Mac, start, end);
        }
    }
    every(&NUMBER_SIGN, bytes, |at| digits::passport(&text, at).into_iter().for_each(|(start, end)| found(Detector::Passport, start, end)));
    every(&ACCOUNT, bytes, |at| bank::iban(&text, at).into_iter().for_each(|(start, end)| found(Detector::Iban, start, end)));
    every(&PASSPORT, bytes, |at| {
        if bank::iban(&text, at).is_none() {
            digits::lettered_passport(&text, at).into_iter().for_each(|(start, end)| found(Detector::Passport, start, end));
        }
    });
    for run in MRZ.find_iter(bytes) {
        if let Ok((start, end)) = detect::mrz(&text, run.start()) {
            found(Detector::Mrz, start, end);
        }
    }
    let mut done = 0;
    every(&PEM, bytes, |at| {
        if at + 5 >= done
            && let Some((start, end)) = detect::private_key(&text, at + 5)
        {
            done = end;
            found(Detector::PrivateKey, start, end);
        }
    });
    every(&PROSE, bytes, |at| keys::prose_password(&text, at).into_iter().for_each(|(start, end)| found(Detector::Password, start, end)));
    every(&SAID, bytes, |at| prose::value(&text, at).into_iter().for_each(|(detector, start, end)| found(detector, start, end)));
    every(&OPTION, bytes, |at| commands::option(&text, at).into_iter().for_each(|(detector, start, end)| found(detector, start, end)));
    every(&SHORT_OPTION, bytes, |at| {
        commands::short_option(&text, at).into_iter().for_each(|(detector, start, end)| found(detector, start, end))
    });
    // That there is no list of cookies in another belongs to what is found, not to how.
    let mut done = keys::Done::default();
    every(&KEY_END, bytes, |at| {
        let space = bytes[at + 1] == b' ';
        let at = if space && matches!(text.get(at + 2), Some(b'=' | b':')) { at + 1 } else { at };
        if let Some(value) = keys::value(&text, at, &done) {
            let read = keys::judge(&text, &value, &mut found);
            done.passed(&value, read);
        }
    });
}

/// Calls `found` with each place where the pattern matches, matches that overlap too.
fn every(pattern: &Regex, bytes: &[u8], mut found: impl FnMut(usize)) {
    let mut at = 0;
    while let Some(next) = pattern.find_at(bytes, at) {
        found(next.start());
        at = next.start() + 1;
    }
}

/// Mail addresses from left to right; what ends at the `@` of an address with a password is none.
fn emails(bytes: &[u8], passwords: &[usize], mut found: impl FnMut(usize, usize)) {
    let mut from = 0;
    while let Some(address) = EMAIL.find_at(bytes, from) {
        let at = address.start() + memchr::memchr(b'@', address.as_bytes()).unwrap_or(0);
        if passwords.contains(&at) {
            from = at + 1;
            continue;
        }
        from = address.end();
        if detect::is_email(address.as_bytes()) {
            found(address.start(), address.end());
        }
    }
}
