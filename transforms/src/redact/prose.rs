//! Values in sentences, after a word that says what they are: `OTP is 482913`, `your code: 482913`, `password hunter22`,
//! `пароль qwerty123`, `รหัส OTP 482913`, `mã xác thực là 482913`.
//!
//! There is no sign as between a key and its value, so the value must be of a form that the rest of a sentence seldom has: four
//! to eight digits alone, or letters with digits after them; and only a few words may stand between.

use super::catalog::Detector;
use super::keys;
use super::text::{Text, is_word};

/// How far after its word a value may start, in bytes.
const MAX_BETWEEN_BYTES: usize = 64;

/// Words before `code` that make it one of those that are sent to people.
const CODES: [&str; 15] = [
    "your",
    "verification",
    "confirmation",
    "security",
    "authentication",
    "auth",
    "authorization",
    "login",
    "access",
    "time",
    "sms",
    "pin",
    "activation",
    "2fa",
    "mfa",
];

/// What may stand between a word and its value, beside spaces and signs.
const BETWEEN: [&str; 17] =
    ["is", "was", "code", "number", "for", "login", "your", "now", "là", "của", "bạn", "คือ", "ของคุณ", "ของคุณคือ", "ของท่านคือ", "ยืนยัน", "ว่า"];

/// Words of other scripts, what may follow them as a part of the same name, and whose value it is. Where something must follow,
/// no part is empty.
const WORDS: [(&str, &[&str], Detector); 9] = [
    ("пароль", &[""], Detector::Password),
    ("Пароль", &[""], Detector::Password),
    ("код", &[" подтверждения", " доступа", " безопасности", " активации", " из СМС", " из смс", " из SMS"], Detector::CardCode),
    ("Код", &[" подтверждения", " доступа", " безопасности", " активации", " из СМС", " из смс", " из SMS"], Detector::CardCode),
    ("รหัส", &["ผ่าน"], Detector::Password),
    ("รหัส", &["ยืนยันตัวตน", "ยืนยัน", "ลับ", "พิน", "เข้าใช้งาน", ""], Detector::CardCode),
    ("mật khẩu", &[""], Detector::Password),
    ("Mật khẩu", &[""], Detector::Password),
    ("mã", &[" xác thực", " xác nhận", " bảo mật", " PIN"], Detector::CardCode),
];

/// The value after the word that starts at `at`.
pub(super) fn value(text: &Text<'_>, at: usize) -> Option<(Detector, usize, usize)> {
    let word = text.bytes.get(at..)?;
    let starts = |name: &str| word.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name.as_bytes()));
    let end = match word.first()? | 0x20 {
        b'o' if starts("otp") => at + 3,
        b'c' if starts("cvv") || starts("cvc") => at + 3,
        b'c' if starts("code") && is_sent(text, at) => at + 4,
        b'o' | b'c' => return None,
        _ => return foreign(text, at),
    };
    if text.word_before(at) || text.word_at(end) {
        return None;
    }
    if text.raw {
        // What follows may be escaped.
        return Some((Detector::CardCode, at, end));
    }
    let least = if word[0] | 0x20 == b'c' { 3 } else { 4 };
    code(text, between(text, end)?, least).map(|(start, end)| (Detector::CardCode, start, end))
}

/// Whether the `code` at `at` is one of those that are sent.
fn is_sent(text: &Text<'_>, at: usize) -> bool {
    let Some(before) = text.bytes[..at].strip_suffix(b" ") else { return false };
    let length = before.iter().rev().take(16).take_while(|byte| is_word(**byte)).count();
    let word = &before[before.len() - length..];
    // An escape may stand before it.
    let word = if text.raw && before[..before.len() - length].ends_with(b"\\") { word.get(1..).unwrap_or_default() } else { word };
    CODES.iter().any(|code| word.eq_ignore_ascii_case(code.as_bytes())) || text.bytes[..at].ends_with("аш ".as_bytes())
}

fn foreign(text: &Text<'_>, at: usize) -> Option<(Detector, usize, usize)> {
    let word = &text.bytes[at..];
    // Thai has no spaces between words.
    let thai = word[0] == 0xe0;
    let letter = |byte: u8| byte >= 0x80 || byte.is_ascii_alphabetic();
    let free = thai || !text.before(at).is_some_and(letter) || text.raw;
    let yours = text.bytes[..at].ends_with("аш ".as_bytes());
    WORDS.iter().filter(|(name, ..)| free && word.starts_with(name.as_bytes())).find_map(|(name, parts, detector)| {
        if text.raw {
            return Some((*detector, at, at + name.len()));
        }
        let rest = at + name.len();
        let follows = parts.iter().find(|part| text.bytes[rest..].starts_with(part.as_bytes()));
        let end = match follows {
            Some(part) => rest + part.len(),
            None if yours => rest,
            None => return None,
        };
        let start = between(text, end)?;
        let found = match detector {
            Detector::Password => keys::weak_password(text, start).or_else(|| code(text, start, 4)),
            _ => code(text, start, 4),
        };
        found.map(|(start, end)| (*detector, start, end))
    })
}

/// Where a value may start after a word that ends at `end`: after spaces, signs, and some words that may stand there.
fn between(text: &Text<'_>, end: usize) -> Option<usize> {
    let mut at = end;
    loop {
        let next = text.run(at, |byte| matches!(byte, b' ' | b':' | b'=' | b'-' | b'"' | b'\'' | b'('));
        let next = if text.bytes[next..].starts_with("—".as_bytes()) { next + "—".len() } else { next };
        let word = BETWEEN.iter().find(|word| {
            let after = next + word.len();
            let starts = text.bytes.get(next..after).is_some_and(|start| start.eq_ignore_ascii_case(word.as_bytes()));
            starts && !text.word_at(after)
        });
        let moved = word.map_or(next, |word| next + word.len());
        if moved == at || moved > end + MAX_BETWEEN_BYTES {
            return (at > end && at <= end + MAX_BETWEEN_BYTES).then_some(at);
        }
        at = moved;
    }
}

/// Digits alone at `start`, as many as codes have that are sent: `482913`, `482-913`.
fn code(text: &Text<'_>, start: usize, least: usize) -> Option<(usize, usize)> {
    const MOST: usize = 8;
    let digits = |from: usize| text.run(from, |byte| byte.is_ascii_digit());
    let first = digits(start);
    let end = match text.get(first) {
        Some(b'-' | b' ') if first - start == 3 && digits(first + 1) == first + 4 => first + 4,
        _ => first,
    };
    let after = |at: usize| text.get(at);
    let goes_on = match after(end) {
        Some(b'.' | b',' | b':' | b'-' | b'/') => after(end + 1).is_some_and(|byte| byte.is_ascii_digit()),
        Some(b'%') => true,
        Some(byte) => is_word(byte),
        None => false,
    };
    ((least..=MOST).contains(&(first - start)) || end > first).then_some((start, end)).filter(|_| !goes_on)
}
