//! The values of keys that say something, within a text: `client_secret=…`, `"cardNumber": …`, `Cookie: …`.

use super::catalog::Detector;
use super::given_names;
use super::names::{self, Says};
use super::text::{Text, is_tag, is_token, is_word, tag_end};

/// The most spaces on either side of `:` or `=`.
const MAX_SPACES: usize = 3;

/// Up to where values were read, so that what is long is not read again for each word in it that could be a key.
#[derive(Default)]
pub(super) struct Done {
    /// Where the last value without quotes was read: one that starts in there has the same end.
    pub(super) run: (usize, usize),
    /// Up to where the last list of cookies was read: there is no list in a list.
    pub(super) cookie: usize,
    /// The end of the line that it stands in.
    pub(super) cookie_line: usize,
}

impl Done {
    /// `value` was read up to `read`.
    pub(super) fn passed(&mut self, value: &KeyValue, read: usize) {
        self.run = value.run;
        if value.says.detector == Detector::Cookie {
            self.cookie = read;
            if !value.quoted {
                self.cookie_line = value.end;
            }
        }
    }
}

/// The value of a key within a text.
pub(super) struct KeyValue {
    pub(super) says: Says,
    /// The value, without quotes. What is to be taken out of it is said by [`judge`].
    pub(super) start: usize,
    pub(super) end: usize,
    /// Whether it stands in quotes, or its quotes were not closed.
    pub(super) quoted: bool,
    /// What was read for it without quotes.
    pub(super) run: (usize, usize),
}

/// What the key says whose last byte stands at `at`, or before the spaces that end there.
pub(super) fn named(text: &Text<'_>, at: usize) -> Option<(Says, usize)> {
    let spaces = text.bytes[..=at].iter().rev().take(MAX_SPACES).take_while(|byte| **byte == b' ').count();
    let last = at.checked_sub(spaces)?;
    // `address1"`, where the scan points at the letter.
    let last = last + usize::from(spaces == 0 && text.get(at + 1).is_some_and(|byte| byte.is_ascii_digit()));
    names::says(&text.bytes[..=last], text.raw).map(|says| (says, last))
}

/// Whether in written bytes what follows a key that ends at `last` may be a value for a [strict](Says::strict) name, judged by how
/// it starts.
pub(super) fn may_be_personal(bytes: &[u8], last: usize, detector: Detector) -> bool {
    /// Quotes with their backslashes, the sign, and spaces.
    const MAX_BETWEEN_BYTES: usize = 24;
    const MAX_WORD_BYTES: usize = 100;
    let rest = &bytes[last + 1..];
    let between = |byte: &u8| matches!(byte, b'"' | b'\'' | b'`' | b'\\' | b':' | b'=' | b'>' | b']') || byte.is_ascii_whitespace();
    let Some(start) = rest.iter().take(MAX_BETWEEN_BYTES).position(|byte| !between(byte)) else { return rest.len() > MAX_BETWEEN_BYTES };
    let word = &rest[start..];
    if matches!(detector, Detector::Password | Detector::CardCode) {
        return true;
    }
    let escaped = |byte: &u8| matches!(byte, b'%' | b'\\');
    // An escape is looked at anyway, unless it is that of a space.
    let space = word.iter().take(MAX_WORD_BYTES).position(|byte| escaped(byte) || matches!(byte, b' ' | b'"' | b'\'' | b'\n'));
    let words = space.is_none_or(|at| word[at] == b' ' || escaped(&word[at]));
    words && (detector != Detector::Name || word[0].is_ascii_uppercase() || word[0] >= 0x80 || escaped(&word[0]))
}

/// The key whose last byte stands at `at` (or before a space there), if it says something, and its value.
pub(super) fn value(text: &Text<'_>, at: usize, done: &Done) -> Option<KeyValue> {
    let (says, last) = named(text, at)?;
    let detector = says.detector;
    let spaces = |at: usize| at + text.bytes[at..].iter().take(MAX_SPACES).take_while(|byte| **byte == b' ').count();
    let mut at = last + 1;
    let key_quote = text.get(at).filter(|byte| matches!(byte, b'"' | b'\'' | b']'));
    at += usize::from(key_quote.is_some());
    if text.get(at) == Some(b'>') {
        return element(text, says, at, key_quote, done);
    }
    // `<add key="Password" value="x"/>`, `{"name":"DB_PASSWORD","value":"x"}`
    const PAIRS: [&[u8]; 3] = [b" value", b",\"value\"", b", \"value\""];
    if key_quote == Some(b'"')
        && let Some(pair) = PAIRS.iter().find(|pair| text.bytes[at..].starts_with(pair))
    {
        at += pair.len();
    }
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
        // The end of a string of JSON within the text, and no start of a value: `"note":"the token=","next":…`.
        let goes_on = matches!(text.get(start), None | Some(b',' | b'}' | b']' | b':'));
        if quote == b'"' && width > 1 && goes_on {
            return None;
        }
        let closes = |at: usize| text.bytes[at] == quote && text.width(at) <= width;
        let end = memchr::memchr_iter(quote, &text.bytes[start..]).map(|found| start + found).find(|at| closes(*at));
        // A value whose end was cut off is one to the end of its line.
        let end = end.unwrap_or_else(|| text.run(start, |byte| byte != b'\n'));
        // An apostrophe may be closed in another string of the JSON that this is, or not at all.
        let ends_string = |at: &usize| text.get(at + 1).is_none_or(|byte| matches!(byte, b',' | b'}' | b']' | b':'));
        let string =
            memchr::memchr_iter(b'"', &text.bytes[start..end]).map(|found| start + found).filter(|_| quote != b'"').find(ends_string);
        let end = string.unwrap_or(end);
        return Some(KeyValue { says, start, end, quoted: true, run: done.run });
    }
    if detector == Detector::Cookie && at < done.cookie {
        return None;
    }
    let run = if done.run.0 <= at && at < done.run.1 && text.get(at) != Some(b'[') { done.run } else { unquoted(text, at) };
    let mut end = run.1;
    if detector == Detector::Credentials && is_scheme(&text.bytes[at..end]) {
        at = spaces(end).max(end + usize::from(text.get(end) == Some(b'+')));
        end = unquoted(text, at).1;
    }
    if detector == Detector::Cookie {
        // A list that was not read to its end may hold the next one.
        end = if at < done.cookie_line { done.cookie_line } else { text.run(at, |byte| !matches!(byte, b'\n' | b'"')) };
    }
    if detector == Detector::Name {
        end = names_end(text, at, end, MAX_NAME_WORDS, |byte| byte.is_ascii_uppercase() || byte >= 0x80);
    }
    // `15 August 1990`, and not what follows `15.08.1990`.
    let whole_date = detector == Detector::BirthDate && end > at + 2 && text.bytes[at].is_ascii_digit();
    if matches!(detector, Detector::Address | Detector::BirthDate) && !whole_date {
        let starts = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte >= 0x80;
        end = names_end(text, at, end, if detector == Detector::Address { MAX_ADDRESS_WORDS } else { 3 }, starts);
    }
    if detector == Detector::SeedPhrase {
        end = words_end(text, at)?;
    }
    // `password: must be set` is a sentence, and so is `password: required`.
    let sentence = detector != Detector::SeedPhrase
        && sign == b':'
        && at > spaced
        && key_quote.is_none()
        && text.bytes[at..end].iter().all(u8::is_ascii_lowercase);
    let alone = detector == Detector::Password && end >= at + 4 && text.get(end) != Some(b' ') && !STATES.contains(&&text.bytes[at..end]);
    let sentence = sentence && !alone;
    (!sentence || detector == Detector::Cookie).then_some(KeyValue { says, start: at, end, quoted: false, run })
}

/// The text of an element of XML with the name of a key, whose `>` stands at `at`: `<password>x</password>`; or with a key that
/// stands in `quote` as an attribute: `<property name="password">x</property>`.
fn element(text: &Text<'_>, says: Says, at: usize, quote: Option<u8>, done: &Done) -> Option<KeyValue> {
    const MAX_NAME_BYTES: usize = 64;
    let name_end = at - usize::from(quote.is_some());
    let part = |byte: &u8| is_word(*byte) || matches!(byte, b'-' | b'.' | b':');
    let name = text.bytes[..name_end].iter().rev().take(MAX_NAME_BYTES).take_while(|byte| part(byte)).count();
    let before = &text.bytes[..name_end - name];
    let named = match quote {
        None => before.ends_with(b"<"),
        Some(b'"') => before.ends_with(b" name=\"") || before.ends_with(b" key=\""),
        Some(_) => false,
    };
    if !named || says.detector == Detector::Cookie {
        return None;
    }
    let end = text.run(at + 1, |byte| byte != b'<' && byte != b'\n');
    text.bytes[end..].starts_with(b"</").then_some(KeyValue { says, start: at + 1, end, quoted: true, run: done.run })
}

/// What is said of passwords, and is none.
const STATES: [&[u8]; 36] = [
    b"accepted",
    b"changed",
    b"correct",
    b"deleted",
    b"denied",
    b"disabled",
    b"empty",
    b"enabled",
    b"encrypted",
    b"error",
    b"expired",
    b"failed",
    b"given",
    b"hidden",
    b"incorrect",
    b"invalid",
    b"missing",
    b"mismatch",
    b"needed",
    b"none",
    b"null",
    b"optional",
    b"prompt",
    b"provided",
    b"rejected",
    b"removed",
    b"required",
    b"reset",
    b"sent",
    b"string",
    b"success",
    b"unknown",
    b"unset",
    b"updated",
    b"valid",
    b"wrong",
];

/// Where a value without quotes ends, and from where on any other would end there, too: a tag at its start is passed as a whole.
fn unquoted(text: &Text<'_>, start: usize) -> (usize, usize) {
    let after_tag = start + tag_end(text.bytes.get(start..).unwrap_or_default()).unwrap_or(0);
    let end = text.run(after_tag, |byte| {
        !byte.is_ascii_whitespace() && !matches!(byte, b',' | b';' | b'&' | b')' | b']' | b'}' | b'"' | b'\'' | b'<' | b'>' | b'|')
    });
    (after_tag, end)
}

/// The most words of a name, and of an address.
const MAX_NAME_WORDS: usize = 4;
const MAX_ADDRESS_WORDS: usize = 12;

/// Where the words end that follow the one at `start..end` and start with what `starts` says: `Name: John Smith, 30`.
fn names_end(text: &Text<'_>, start: usize, end: usize, most: usize, starts: impl Fn(u8) -> bool) -> usize {
    let mut end = end;
    for _ in 1..most {
        let word = end + 1;
        let first = text.get(word).filter(|byte| starts(*byte));
        let digits = first.is_some_and(|byte| byte.is_ascii_digit());
        let part = |byte: u8| {
            byte.is_ascii_alphabetic()
                || byte >= 0x80
                || matches!(byte, b'\'' | b'-' | b'.')
                || digits && (byte.is_ascii_digit() || byte == b'/')
        };
        let next = text.run(word, part);
        if end == start || text.get(end) != Some(b' ') || first.is_none() || matches!(text.get(next), Some(b':' | b'=' | b'_')) {
            break;
        }
        end = next;
    }
    end
}

/// Where twelve to twenty-four words end that start at `start`; where there are fewer, the first of them.
fn words_end(text: &Text<'_>, start: usize) -> Option<usize> {
    let (mut end, mut count) = (text.run(start, |byte| byte.is_ascii_lowercase()), 0);
    let first = end;
    while count < 24 && end > start {
        count += 1;
        let next = text.run(end + 1, |byte| byte.is_ascii_lowercase());
        if text.get(end) != Some(b' ') || next < end + 4 {
            break;
        }
        end = next;
    }
    Some(if count >= 12 { end } else { first })
}

fn is_scheme(word: &[u8]) -> bool {
    [
        &b"bearer"[..],
        b"basic",
        b"negotiate",
        b"apikey",
        b"token",
        b"digest",
        b"splunk",
        b"aws4-hmac-sha256",
        b"ntlm",
        b"hawk",
        b"bot",
        b"geniekey",
    ]
    .iter()
    .any(|scheme| word.eq_ignore_ascii_case(scheme))
}

/// Calls `found` with what is to be taken out of the value of a key. Gives where the reading of the value ended.
pub(super) fn judge(text: &Text<'_>, value: &KeyValue, mut found: impl FnMut(Detector, usize, usize)) -> usize {
    let KeyValue { says, mut start, mut end, quoted, .. } = *value;
    let detector = says.detector;
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
    if value.len() > MAX_JUDGED_BYTES && !quoted && !says.strict || !is_placeholder(value) && fits(says, value, quoted) {
        found(detector, start, end);
    }
    end
}

/// Values that hide nothing, or stand for what was hidden.
fn is_placeholder(value: &[u8]) -> bool {
    const WORDS: [&str; 14] =
        ["true", "false", "null", "none", "nil", "undefined", "(null)", "n/a", "redacted", "hidden", "masked", "omitted", "yes", "no"];
    // `[hidden]`, of which the last bracket is not read where there are no quotes.
    let bare = value.strip_prefix(b"[").unwrap_or(value);
    let bare = bare.strip_suffix(b"]").unwrap_or(bare);
    value.len() < 2 && !value.first().is_some_and(u8::is_ascii_alphanumeric)
        || WORDS.iter().any(|word| bare.eq_ignore_ascii_case(word.as_bytes()))
        || value.windows(3).any(|three| three == b"***")
        || value.starts_with(b"[REDACTED")
        || value.starts_with(b"<") && value.ends_with(b">")
        || value.starts_with(b"${")
        || value.starts_with(b"{")
        || value.starts_with(b"[") && (is_tag(value) || memchr::memchr2(b'"', b'{', value).is_some() || value.len() < 3)
}

/// Whether a value is of the kind that its key says.
fn fits(says: Says, value: &[u8], quoted: bool) -> bool {
    let Says { detector, strict, known } = says;
    let digits = value.iter().filter(|byte| byte.is_ascii_digit()).count();
    let letters = value.iter().filter(|byte| byte.is_ascii_alphabetic()).count();
    let others = |fine: &[u8]| value.iter().all(|byte| byte.is_ascii_digit() || fine.contains(byte));
    match detector {
        Detector::CardCode if strict => is_month(value),
        Detector::CardCode => (3..=8).contains(&digits) && digits == value.len() || is_month(value),
        Detector::Inn => matches!(digits, 10 | 12) && others(b" "),
        Detector::CreditCard => (12..=19).contains(&digits) && others(b" -."),
        Detector::Email => value.contains(&b'@') && value.len() > 2,
        Detector::Phone => (7..=15).contains(&digits) && others(b" +-.()/"),
        Detector::Passport | Detector::NationalId | Detector::Cccd | Detector::Snils | Detector::UsSsn | Detector::Iban => {
            digits >= 6 && value.len() <= 48 && !value.contains(&b'/') && !is_decimal(value, digits)
        }
        Detector::BirthDate => digits >= 4 && value.len() <= 40,
        Detector::Session if strict => value.len() >= 20 && is_mixed(value),
        Detector::Session => {
            !value.starts_with(b"0x") && value.len() >= 16 && letters > 0 && digits > 0 && value.iter().all(|byte| byte.is_ascii_graphic())
        }
        Detector::Name if strict => is_full_name(value) && (!known || given_names::starts(value)),
        Detector::Address if strict => quoted && digits > 0 && letters > 3 && value.len() <= 200 && is_house(value),
        Detector::Name => digits < value.len() && value.len() <= 200,
        // A postal code alone has no letters; a word alone is often something else.
        Detector::Address if value.is_ascii() && !value.contains(&b' ') => {
            (4..=10).contains(&digits) && digits == value.len()
                || letters > 0
                    && (digits > 0 || value[0].is_ascii_uppercase())
                    && !value.iter().any(|byte| matches!(byte, b'.' | b'_' | b'/'))
        }
        Detector::Address => (letters > 0 || !value.is_ascii()) && value.len() <= 400,
        Detector::Account => digits >= 6 && value.len() <= 40 && others(b" -") || is_bank(value),
        Detector::SeedPhrase => letters >= 12,
        Detector::Password if strict => {
            value.len() >= 6 && letters > 0 && letters < value.len() && !is_path(value) && !value.contains(&b'(')
        }
        Detector::Password => !is_path(value),
        Detector::Secret if strict => value.len() >= 20 && is_mixed(value),
        Detector::Credentials | Detector::Secret => is_secret(value, digits, quoted),
        _ => true,
    }
}

/// Letters of both cases and digits, in one piece.
fn is_mixed(value: &[u8]) -> bool {
    let any = |test: fn(&u8) -> bool| value.iter().any(test);
    any(u8::is_ascii_uppercase) && any(u8::is_ascii_lowercase) && any(u8::is_ascii_digit) && value.iter().all(|byte| is_token(*byte))
}

/// A number with a point and nothing else.
fn is_decimal(value: &[u8], digits: usize) -> bool {
    digits + 1 == value.len() && memchr::memchr(b'.', value).is_some()
}

/// A month and a year: `09/27`, `09-2027`.
fn is_month(value: &[u8]) -> bool {
    let digits = |part: &[u8]| part.iter().all(u8::is_ascii_digit);
    matches!(value, [a, b, b'/' | b'-', year @ ..] if matches!(year.len(), 2 | 4) && digits(&[*a, *b]) && digits(year) && matches!((a, b), (b'0', b'1'..=b'9') | (b'1', b'0'..=b'2')))
}

/// The code of a bank (ISO 9362): six letters, then two or five letters and digits; or an IBAN.
fn is_bank(value: &[u8]) -> bool {
    let capitals = value.iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
    let code = matches!(value.len(), 8 | 11) && value[..6].iter().all(u8::is_ascii_uppercase);
    let iban = value.len() >= 15 && value[..2].iter().all(u8::is_ascii_uppercase) && value[2..4].iter().all(u8::is_ascii_digit);
    let grouped = value.iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b' ');
    capitals && code || iban && grouped && value.len() <= 42
}

/// Two to four words, each with a capital and small letters after it: `John O'Brien-Smith`.
fn is_full_name(value: &[u8]) -> bool {
    const MAX_WORDS: usize = 4;
    let name = |word: &[u8]| {
        let letters = word.iter().all(|byte| byte.is_ascii_alphabetic() || *byte >= 0x80 || matches!(byte, b'\'' | b'-' | b'.'));
        letters
            && word.first().is_some_and(|byte| byte.is_ascii_uppercase() || *byte >= 0x80)
            && word.len() > 1
            && !word.iter().all(u8::is_ascii_uppercase)
    };
    let words = value.split(|byte| *byte == b' ').count();
    (2..=MAX_WORDS).contains(&words) && value.split(|byte| *byte == b' ').all(name)
}

/// A house number and words, and nothing that an address of machines is made of.
fn is_house(value: &[u8]) -> bool {
    let words = value.split(|byte| *byte == b' ').filter(|word| word.len() > 1).count();
    let machine = |byte: &u8| matches!(byte, b':' | b'=' | b'@' | b'{' | b'(' | b'[' | b'<' | b'_');
    // `99/1` is a house number, all else with a slash is a path.
    let path = |at: usize| !(at > 0 && value[at - 1].is_ascii_digit() && value.get(at + 1).is_some_and(u8::is_ascii_digit));
    let starts = value[0].is_ascii_digit() || value.contains(&b',');
    let capital = value.iter().any(|byte| byte.is_ascii_uppercase() || *byte >= 0x80);
    words >= 2 && starts && capital && !value.iter().any(machine) && !memchr::memchr_iter(b'/', value).any(path)
}

/// Whether a value could be a secret, and is not the name of one: `kube-system/token-abc`, `my-secret`, `/etc/key.pem`.
fn is_secret(value: &[u8], digits: usize, quoted: bool) -> bool {
    let upper = value.iter().any(u8::is_ascii_uppercase);
    let plain = value.iter().all(|byte| is_word(*byte) || matches!(byte, b'-' | b'.' | b'/' | b'+' | b'=' | b'~' | b':'));
    let parts = value.iter().any(|byte| !byte.is_ascii_alphanumeric());
    let short = value.len() < 16 && (parts || digits < 2 || value.len() < 8);
    let name = !upper && plain && (digits == 0 || short || value.contains(&b'/'));
    // `apiKey=API_VERSIONS` is Kafka's.
    let constant = value.iter().all(|byte| byte.is_ascii_uppercase() || *byte == b'_');
    let code = value.iter().any(|byte| matches!(byte, b'{' | b'(')) && !quoted;
    value.len() >= 6 && digits < value.len().max(8) && !name && !constant && !code && !is_path(value)
}

fn is_path(value: &[u8]) -> bool {
    let folder = |byte: &u8| byte.is_ascii_lowercase() || matches!(byte, b'/' | b'.' | b'-' | b'_');
    value.starts_with(b"/") && (value.iter().filter(|byte| **byte == b'/').count() > 1 || value.iter().all(folder))
        || [&b".pem"[..], b".key", b".crt", b".txt", b".json"].iter().any(|end| value.ends_with(end))
}

/// Each value of `a=b; c=d`, except attributes and short ones, which hold no secret. Gives where the list ended.
fn cookies(text: &Text<'_>, start: usize, end: usize, mut found: impl FnMut(Detector, usize, usize)) -> usize {
    const MIN_COOKIE_BYTES: usize = 6;
    const ATTRIBUTES: [&str; 8] = ["path", "domain", "expires", "max-age", "samesite", "secure", "httponly", "priority"];
    let mut at = start;
    while at < end {
        at += text.bytes[at..end].iter().take_while(|byte| matches!(byte, b' ' | b';' | b'[')).count();
        let name = at;
        at = text.run(at, |byte| byte.is_ascii_graphic() && !matches!(byte, b'=' | b';' | b'"')).min(end);
        if at >= end || text.bytes[at] != b'=' {
            return at;
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
            return at;
        }
    }
    at
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
    let one_time = length == 8 && [&b"time "[..], b"temporary "].iter().any(|before| text.bytes[..at].ends_with(before));
    let mut at = at + length;
    let after = at;
    // `the password for admin is …`
    if let Some(whose) = [&b" for "[..], b" of "].into_iter().find(|with| starts(&text.bytes[at..], with)) {
        const MAX_NAME_BYTES: usize = 32;
        let name = text.bytes[at + whose.len()..].iter().take(MAX_NAME_BYTES).take_while(|byte| byte.is_ascii_graphic()).count();
        at += whose.len() + name;
    }
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
    let quote = text.get(start).filter(|byte| matches!(byte, b'"' | b'\''));
    let start = start + usize::from(quote.is_some());
    const MAX_BYTES: usize = 64;
    let rest = text.bytes.get(start..).unwrap_or_default();
    let ends = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'"' | b'\'' | b'<' | b'>');
    let end = start + rest.iter().take(MAX_BYTES + 1).position(ends).unwrap_or(rest.len().min(MAX_BYTES + 1));
    let end = end - text.bytes[start..end].iter().rev().take_while(|byte| matches!(byte, b'.' | b',' | b';' | b')')).count();
    let value = &text.bytes[start..end];
    let any = |test: fn(&u8) -> bool| value.iter().any(test);
    let strong =
        any(u8::is_ascii_alphabetic) && any(u8::is_ascii_digit) && any(|byte| byte.is_ascii_uppercase() || byte.is_ascii_punctuation());
    // `ALTER ROLE app PASSWORD 'x1'`
    let in_quotes = quote.is_some() && text.get(end) == quote && value.len() >= 4;
    let digits = value.iter().all(u8::is_ascii_digit) && (4..=8).contains(&value.len());
    let named =
        text.get(after) == Some(b' ') && text.bytes[after..].iter().take(5).ne(b" for ") && text.bytes[after..].iter().take(4).ne(b" of ");
    let weak = named && quote.is_none() && weak_password(text, start) == Some((start, end));
    let fine = in_quotes || one_time && digits || weak || (6..=MAX_BYTES).contains(&value.len()) && strong;
    (fine && !value.starts_with(b"[") && !is_placeholder(value)).then_some((start, end))
}

/// Letters and digits after them, six and more, at `start`: what people take for a password, and what is seldom a word.
pub(super) fn weak_password(text: &Text<'_>, start: usize) -> Option<(usize, usize)> {
    const MAX_BYTES: usize = 32;
    /// Names of ways to hide one.
    const METHODS: [&[u8]; 9] = [b"sha256", b"sha384", b"sha512", b"sha224", b"base64", b"pbkdf2", b"argon2", b"ntlmv2", b"oauth2"];
    let letters = text.run(start, |byte| byte.is_ascii_alphabetic());
    let end = text.run(letters, |byte| byte.is_ascii_digit());
    let after =
        text.get(end).is_none_or(|byte| byte.is_ascii_whitespace() || matches!(byte, b'.' | b',' | b';' | b'"' | b'\'' | b'!' | b')'));
    let fine = letters >= start + 3 && end > letters && end <= letters + 6 && (6..=MAX_BYTES).contains(&(end - start));
    let value = &text.bytes[start..end];
    (fine && after && !METHODS.iter().any(|method| value.eq_ignore_ascii_case(method))).then_some((start, end))
}
