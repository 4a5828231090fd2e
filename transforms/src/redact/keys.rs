//! What the name of a key says of its value: `client_secret`, `X-Api-Key`, `cardNumber`, `пароль`.
//!
//! Names are compared in lower case without `_`, `-`, `.`, so all ways of writing are one; and from their end or by their
//! last word, never by a part within: `token_count`, `secretName` and `password_reset` say nothing.

use super::catalog::Detector;
use super::text::{Text, is_tag, is_word, tag_end};

/// The longest key that is looked at; a longer one counts by its end.
const MAX_KEY_BYTES: usize = 64;

/// The most spaces on either side of `:` or `=`.
const MAX_SPACES: usize = 3;

/// Keys that end so.
const ENDS: [(&str, Detector); 57] = [
    ("password", Detector::Password),
    ("passwd", Detector::Password),
    ("passphrase", Detector::Password),
    ("passcode", Detector::Password),
    ("pwd", Detector::Password),
    ("пароль", Detector::Password),
    ("secret", Detector::Secret),
    ("apikey", Detector::Secret),
    ("accesskey", Detector::Secret),
    ("secretkey", Detector::Secret),
    ("privatekey", Detector::Secret),
    ("accesstoken", Detector::Secret),
    ("refreshtoken", Detector::Secret),
    ("idtoken", Detector::Secret),
    ("authtoken", Detector::Secret),
    ("signingkey", Detector::Secret),
    ("encryptionkey", Detector::Secret),
    ("authorization", Detector::Credentials),
    ("credential", Detector::Credentials),
    ("credentials", Detector::Credentials),
    ("firstname", Detector::Name),
    ("lastname", Detector::Name),
    ("middlename", Detector::Name),
    ("fullname", Detector::Name),
    ("surname", Detector::Name),
    ("patronymic", Detector::Name),
    ("givenname", Detector::Name),
    ("familyname", Detector::Name),
    ("cardholder", Detector::Name),
    ("cardholdername", Detector::Name),
    ("birthdate", Detector::BirthDate),
    ("birthday", Detector::BirthDate),
    ("dateofbirth", Detector::BirthDate),
    ("passport", Detector::Passport),
    ("passportnumber", Detector::Passport),
    ("passportno", Detector::Passport),
    ("snils", Detector::Snils),
    ("iban", Detector::Iban),
    ("cardnumber", Detector::CreditCard),
    ("cardno", Detector::CreditCard),
    ("nationalid", Detector::NationalId),
    ("idcard", Detector::NationalId),
    ("idnumber", Detector::NationalId),
    ("taxid", Detector::NationalId),
    ("cccd", Detector::Cccd),
    ("cookie", Detector::Cookie),
    ("setcookie", Detector::Cookie),
    ("sessionid", Detector::Session),
    ("sessid", Detector::Session),
    ("mnemonic", Detector::SeedPhrase),
    ("seedphrase", Detector::SeedPhrase),
    ("recoveryphrase", Detector::SeedPhrase),
    ("phonenumber", Detector::Phone),
    ("mobilenumber", Detector::Phone),
    ("emailaddress", Detector::Email),
    ("securitycode", Detector::CardCode),
    ("socialsecuritynumber", Detector::UsSsn),
];

/// Keys whose last word is this.
const LAST_WORDS: [(&str, Detector); 17] = [
    ("token", Detector::Secret),
    ("cvv", Detector::CardCode),
    ("cvc", Detector::CardCode),
    ("otp", Detector::CardCode),
    ("pin", Detector::CardCode),
    ("inn", Detector::Inn),
    ("pan", Detector::CreditCard),
    ("card", Detector::CreditCard),
    ("dob", Detector::BirthDate),
    ("email", Detector::Email),
    ("mail", Detector::Email),
    ("phone", Detector::Phone),
    ("msisdn", Detector::Phone),
    ("mobile", Detector::Phone),
    ("ssn", Detector::UsSsn),
    ("sid", Detector::Session),
    ("telephone", Detector::Phone),
];

/// Which pairs of bytes, in lower case, a key that says something may end with; one bit each.
static TAILS: [u64; 1024] = {
    let mut tails = [0; 1024];
    let mut row = 0;
    while row < ENDS.len() {
        set(&mut tails, ENDS[row].0.as_bytes());
        row += 1;
    }
    row = 0;
    while row < LAST_WORDS.len() {
        set(&mut tails, LAST_WORDS[row].0.as_bytes());
        row += 1;
    }
    tails
};

/// The last three bytes of each name: most keys are told apart by these.
static THREES: [u32; ENDS.len() + LAST_WORDS.len()] = {
    let mut threes = [0; ENDS.len() + LAST_WORDS.len()];
    let mut row = 0;
    while row < threes.len() {
        let name = if row < ENDS.len() { ENDS[row].0.as_bytes() } else { LAST_WORDS[row - ENDS.len()].0.as_bytes() };
        threes[row] = u32::from_le_bytes([name[name.len() - 3], name[name.len() - 2], name[name.len() - 1], 0]);
        row += 1;
    }
    threes
};

const fn set(tails: &mut [u64; 1024], name: &[u8]) {
    let pair = (name[name.len() - 2] as usize) << 8 | name[name.len() - 1] as usize;
    tails[pair / 64] |= 1 << (pair % 64);
}

/// Whether a key that ends at `at`, its last byte, may say something.
#[inline]
pub(super) fn may_end_at(text: &[u8], at: usize) -> bool {
    let Some(before) = at.checked_sub(1) else { return false };
    let pair = usize::from(text[before].to_ascii_lowercase()) << 8 | usize::from(text[at].to_ascii_lowercase());
    TAILS[pair / 64] >> (pair % 64) & 1 == 1
}

/// What the key says of its value.
pub(super) fn says(key: &[u8]) -> Option<Detector> {
    let key = &key[key.len().saturating_sub(MAX_KEY_BYTES)..];
    if key.is_empty() || !may_end_at(key, key.len() - 1) {
        return None;
    }
    let mut joined = [0; MAX_KEY_BYTES];
    let (mut length, mut last_word) = (0, 0);
    for (at, byte) in key.iter().enumerate() {
        if !(byte.is_ascii_alphanumeric() || *byte >= 0x80) {
            last_word = length;
            continue;
        }
        let new_word = byte.is_ascii_uppercase() && at > 0 && key[at - 1].is_ascii_lowercase();
        if new_word {
            last_word = length;
        }
        joined[length] = byte.to_ascii_lowercase();
        length += 1;
    }
    let (joined, last_word) = (&joined[..length], &joined[last_word..length]);
    let [.., a, b, c] = joined else { return None };
    if !THREES.contains(&u32::from_le_bytes([*a, *b, *c, 0])) {
        return None;
    }
    let end = ENDS.iter().find(|(name, _)| joined.ends_with(name.as_bytes()));
    let word = || LAST_WORDS.iter().find(|(name, _)| last_word == name.as_bytes());
    end.or_else(word).map(|(_, detector)| *detector)
}

fn is_key(byte: u8) -> bool {
    is_word(byte) || matches!(byte, b'-' | b'.') || byte >= 0x80
}

/// The value of a key within a text.
pub(super) struct KeyValue {
    pub(super) detector: Detector,
    /// The value, without quotes. What is to be taken out of it is said by [`judge`].
    pub(super) start: usize,
    pub(super) end: usize,
    /// Whether it stands in quotes, or its quotes were not closed.
    pub(super) quoted: bool,
}

/// Up to where values were read, so that what is long is not read again for each word in it that could be a key.
pub(super) struct Done {
    /// The end of the last value without quotes that was taken out.
    pub(super) value: usize,
    /// The end of the last list of cookies.
    pub(super) cookie: usize,
}

/// What the key says whose last byte stands at `at`, or before a space there.
pub(super) fn named(text: &Text<'_>, at: usize) -> Option<(Detector, usize)> {
    let last = if text.bytes[at] == b' ' { at.checked_sub(1)? } else { at };
    if !may_end_at(text.bytes, last) {
        return None;
    }
    let from = last.saturating_sub(MAX_KEY_BYTES);
    let start = from + text.bytes[from..=last].iter().rposition(|byte| !is_key(*byte)).map_or(0, |at| at + 1);
    // In written bytes, the letter of an escape may stand before the key; names are compared from their end.
    says(&text.bytes[start..=last]).map(|detector| (detector, last))
}

/// The longest password that is taken out of a sentence.
const MAX_PROSE_BYTES: usize = 64;

/// The key whose last byte stands at `at` (or before a space there), if it says something, and its value.
pub(super) fn value(text: &Text<'_>, at: usize, done: &Done) -> Option<KeyValue> {
    let (detector, last) = named(text, at)?;
    let spaces = |at: usize| at + text.bytes[at..].iter().take(MAX_SPACES).take_while(|byte| **byte == b' ').count();
    let mut at = last + 1;
    let key_quote = text.get(at).filter(|byte| matches!(byte, b'"' | b'\'' | b']'));
    at += usize::from(key_quote.is_some());
    at = spaces(at);
    let sign = text.get(at).filter(|byte| matches!(byte, b':' | b'='))?;
    at += 1;
    if sign == b'=' && text.get(at) == Some(b'>') || sign == b':' && text.get(at) == Some(b'=') {
        at += 1;
    }
    let spaced = at;
    at = spaces(at);
    let quote = text.get(at).filter(|byte| matches!(byte, b'"' | b'\'' | b'`'));
    if let Some(quote) = quote {
        let width = text.width(at);
        let start = at + 1;
        let closes = |at: usize| text.bytes[at] == quote && text.width(at) <= width;
        let end = memchr::memchr_iter(quote, &text.bytes[start..]).map(|found| start + found).find(|at| closes(*at));
        // A value whose end was cut off is one to the end of its line.
        let end = end.unwrap_or_else(|| text.run(start, |byte| byte != b'\n'));
        return Some(KeyValue { detector, start, end, quoted: true });
    }
    if at < done.value || (detector == Detector::Cookie && at < done.cookie) {
        return None;
    }
    let mut end = unquoted_end(text, at);
    if detector == Detector::Credentials && is_scheme(&text.bytes[at..end]) {
        at = spaces(end).max(end + usize::from(text.get(end) == Some(b'+')));
        end = unquoted_end(text, at);
    }
    if detector == Detector::Cookie {
        end = text.run(at, |byte| !matches!(byte, b'\n' | b'"'));
    }
    // `password: must be set` is a sentence.
    let sentence = sign == b':' && at > spaced && key_quote.is_none() && text.bytes[at..end].iter().all(u8::is_ascii_lowercase);
    (!sentence || detector == Detector::Cookie).then_some(KeyValue { detector, start: at, end, quoted: false })
}

/// The end of a value without quotes; a tag in it is passed as a whole.
fn unquoted_end(text: &Text<'_>, start: usize) -> usize {
    let after_tag = start + tag_end(text.bytes.get(start..).unwrap_or_default()).unwrap_or(0);
    text.run(after_tag, |byte| {
        !byte.is_ascii_whitespace() && !matches!(byte, b',' | b';' | b'&' | b')' | b']' | b'}' | b'"' | b'\'' | b'<' | b'>' | b'|')
    })
}

fn is_scheme(word: &[u8]) -> bool {
    [&b"bearer"[..], b"basic", b"negotiate", b"apikey", b"token", b"digest"].iter().any(|scheme| word.eq_ignore_ascii_case(scheme))
}

/// Calls `found` with what is to be taken out of the value `start..end` of a key that `detector` belongs to.
pub(super) fn judge(text: &Text<'_>, value: &KeyValue, mut found: impl FnMut(Detector, usize, usize)) {
    let KeyValue { detector, mut start, mut end, quoted } = *value;
    while start < end && text.bytes[start].is_ascii_whitespace() {
        start += 1;
    }
    while end > start && text.bytes[end - 1].is_ascii_whitespace() {
        end -= 1;
    }
    let whole = &text.bytes[start..end];
    if detector == Detector::Cookie {
        return cookies(text, start, end, found);
    }
    if detector == Detector::Credentials
        && let Some(space) = whole.iter().position(|byte| matches!(byte, b' ' | b'+'))
        && is_scheme(&whole[..space])
    {
        start += space;
        start = text.run(start, |byte| matches!(byte, b' ' | b'+')).min(end);
    }
    let value = &text.bytes[start..end];
    // What is longer than any harmless value is not looked at for long.
    const MAX_JUDGED_BYTES: usize = 1024;
    if value.len() > MAX_JUDGED_BYTES && !quoted || !is_placeholder(value) && fits(detector, value, quoted) {
        found(detector, start, end);
    }
}

/// Values that hide nothing, or stand for what was hidden.
fn is_placeholder(value: &[u8]) -> bool {
    const WORDS: [&str; 14] =
        ["true", "false", "null", "none", "nil", "undefined", "(null)", "n/a", "redacted", "hidden", "masked", "omitted", "yes", "no"];
    value.len() < 2 && !value.first().is_some_and(u8::is_ascii_alphanumeric)
        || WORDS.iter().any(|word| value.eq_ignore_ascii_case(word.as_bytes()))
        || value.windows(3).any(|three| three == b"***")
        || value.starts_with(b"[REDACTED")
        || value.starts_with(b"<") && value.ends_with(b">")
        || value.starts_with(b"${")
        || value.starts_with(b"{")
        || value.starts_with(b"[") && (is_tag(value) || memchr::memchr2(b'"', b'{', value).is_some() || value.len() < 3)
}

/// Whether a value is of the kind that its key says.
fn fits(detector: Detector, value: &[u8], quoted: bool) -> bool {
    let digits = value.iter().filter(|byte| byte.is_ascii_digit()).count();
    let letters = value.iter().filter(|byte| byte.is_ascii_alphabetic()).count();
    let others = |fine: &[u8]| value.iter().all(|byte| byte.is_ascii_digit() || fine.contains(byte));
    match detector {
        Detector::CardCode => (3..=8).contains(&digits) && digits == value.len(),
        Detector::Inn => matches!(digits, 10 | 12) && others(b" "),
        Detector::CreditCard => (12..=19).contains(&digits) && others(b" -."),
        Detector::Email => value.contains(&b'@') && value.len() > 2,
        Detector::Phone => (7..=15).contains(&digits) && others(b" +-.()/"),
        Detector::Passport | Detector::NationalId | Detector::Cccd | Detector::Snils | Detector::UsSsn | Detector::Iban => {
            digits >= 6 && value.len() <= 48 && !value.contains(&b'/')
        }
        Detector::BirthDate => digits >= 4 && value.len() <= 40,
        Detector::Session => value.len() >= 16 && letters > 0 && digits > 0 && value.iter().all(|byte| byte.is_ascii_graphic()),
        Detector::Name => digits < value.len() && value.len() <= 200,
        Detector::SeedPhrase => letters >= 12,
        Detector::Password => !is_path(value),
        Detector::Credentials | Detector::Secret => is_secret(value, digits, quoted),
        _ => true,
    }
}

/// Whether a value could be a secret, and is not the name of one: `kube-system/token-abc`, `my-secret`, `/etc/key.pem`.
fn is_secret(value: &[u8], digits: usize, quoted: bool) -> bool {
    let upper = value.iter().any(u8::is_ascii_uppercase);
    let plain = value.iter().all(|byte| is_word(*byte) || matches!(byte, b'-' | b'.' | b'/' | b'+' | b'=' | b'~' | b':'));
    let name = !upper && plain && (digits == 0 || value.len() < 16 || value.contains(&b'/'));
    let code = value.iter().any(|byte| matches!(byte, b'{' | b'(')) && !quoted;
    value.len() >= 6 && digits < value.len().max(8) && !name && !code && !is_path(value)
}

fn is_path(value: &[u8]) -> bool {
    value.starts_with(b"/") && value.iter().filter(|byte| **byte == b'/').count() > 1
        || [&b".pem"[..], b".key", b".crt", b".txt", b".json"].iter().any(|end| value.ends_with(end))
}

/// Each value of `a=b; c=d`, except attributes and short ones, which hold no secret.
fn cookies(text: &Text<'_>, start: usize, end: usize, mut found: impl FnMut(Detector, usize, usize)) {
    const MIN_COOKIE_BYTES: usize = 6;
    const ATTRIBUTES: [&str; 8] = ["path", "domain", "expires", "max-age", "samesite", "secure", "httponly", "priority"];
    let mut at = start;
    while at < end {
        at += text.bytes[at..end].iter().take_while(|byte| matches!(byte, b' ' | b';' | b'[')).count();
        let name = at;
        at = text.run(at, |byte| byte.is_ascii_graphic() && !matches!(byte, b'=' | b';' | b'"')).min(end);
        if at >= end || text.bytes[at] != b'=' {
            return;
        }
        let attribute = ATTRIBUTES.iter().any(|attribute| text.bytes[name..at].eq_ignore_ascii_case(attribute.as_bytes()));
        let value = at + 1;
        at = if attribute {
            text.run(value, |byte| byte != b';')
        } else {
            text.run(value, |byte| byte.is_ascii_graphic() && !matches!(byte, b';' | b'"'))
        }
        .min(end);
        if !attribute && at - value >= MIN_COOKIE_BYTES && !is_placeholder(&text.bytes[value..at]) {
            found(Detector::Cookie, value, at);
        }
        if text.get(at) != Some(b';') {
            return;
        }
    }
}

/// `password is Hunter2!`, `passphrase value 'x1!yzw'`: the value after the word at `at`, in a sentence.
pub(super) fn prose_password(text: &Text<'_>, at: usize) -> Option<(usize, usize)> {
    let word = text.bytes.get(at..)?;
    let starts = |word: &[u8], with: &[u8]| word.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with));
    let length = [&b"password"[..], b"passphrase", b"passcode"].into_iter().find(|with| starts(word, with))?.len();
    if text.raw {
        // What follows may be escaped.
        return Some((at, at + length));
    }
    if text.word_before(at) {
        return None;
    }
    let mut at = at + length;
    for filler in [&b" value"[..], b" is", b" was"] {
        if starts(&text.bytes[at..], filler) && matches!(text.get(at + filler.len()), Some(b' ' | b':' | b'=')) {
            at += filler.len();
            break;
        }
    }
    let start = text.run(at, |byte| matches!(byte, b' ' | b':' | b'='));
    if start == at || start > at + MAX_SPACES {
        return None;
    }
    let start = start + usize::from(matches!(text.get(start), Some(b'"' | b'\'')));
    // What goes on for longer is none, and is not looked through again for each such word in it.
    let ahead = &text.bytes[start..text.bytes.len().min(start + MAX_PROSE_BYTES + 8)];
    let length = ahead.iter().take_while(|byte| !byte.is_ascii_whitespace() && !matches!(byte, b'"' | b'\'' | b'<' | b'>')).count();
    let end = start + length;
    let end = end - text.bytes[start..end].iter().rev().take_while(|byte| matches!(byte, b'.' | b',' | b';' | b')')).count();
    let value = &text.bytes[start..end];
    let any = |test: fn(&u8) -> bool| value.iter().any(test);
    let strong =
        any(u8::is_ascii_alphabetic) && any(u8::is_ascii_digit) && any(|byte| byte.is_ascii_uppercase() || byte.is_ascii_punctuation());
    ((6..=MAX_PROSE_BYTES).contains(&value.len()) && strong && !value.starts_with(b"[") && !is_placeholder(value)).then_some((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_words_at_the_end_say_something() {
        for (key, detector) in [
            ("password", Some(Detector::Password)),
            ("DB_PASSWORD", Some(Detector::Password)),
            ("clientSecret", Some(Detector::Secret)),
            ("X-Api-Key", Some(Detector::Secret)),
            ("aws.secret.access.key", Some(Detector::Secret)),
            ("cardNumber", Some(Detector::CreditCard)),
            ("user_token", Some(Detector::Secret)),
            ("userToken", Some(Detector::Secret)),
            ("пароль", Some(Detector::Password)),
            ("first-name", Some(Detector::Name)),
            ("msisdn", Some(Detector::Phone)),
            ("token_count", None),
            ("secretName", None),
            ("password_reset", None),
            ("email_sent", None),
            ("monkey", None),
            ("japan", None),
            ("spin", None),
            ("tokens", None),
        ] {
            assert_eq!(says(key.as_bytes()), detector, "{key}");
        }
    }
}
