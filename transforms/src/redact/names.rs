//! What the name of a key says of its value: `client_secret`, `X-Api-Key`, `cardNumber`, `Date of birth`, `пароль`.
//!
//! Names are compared in lower case without `_`, `-`, `.` and spaces, so all ways of writing are one; and from their end, never
//! by a part within: `token_count`, `secretName` and `password_reset` say nothing. They are read backwards, one letter a step
//! through a table, so that most keys are told apart after two letters.

use std::sync::LazyLock;

use super::catalog::Detector;
use super::key_words::{ENDS, FOREIGN, KNOWN_WORDS, LAST_WORDS, STRICT_WORDS};

/// The longest key that is looked at; a longer one counts by its end.
const MAX_KEY_BYTES: usize = 64;

/// What a key says of its value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Says {
    /// Whose value it is.
    pub(super) detector: Detector,
    /// Whether the key is one of other things too (`user`, `address`), so that the value must look like a person's: two words with
    /// capitals, a house number.
    pub(super) strict: bool,
    /// Whether the key is one of so many other things (`name`) that the value must start with a given name that many have.
    pub(super) known: bool,
}

/// The names, read backwards: for each state and letter the next state, 0 where there is none.
struct Table {
    next: Vec<[u16; 32]>,
    /// For each state the name that starts there, and whether a word must start there too.
    says: Vec<Option<(Says, bool)>>,
    /// Whether three letters, or a separator and two, are the end of a name, by five bits of each.
    tails: Vec<u64>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let mut table = Table { next: vec![[0; 32]], says: vec![None], tails: vec![0; 512] };
    let lists =
        [(ENDS, false, false, false), (LAST_WORDS, true, false, false), (STRICT_WORDS, true, true, false), (KNOWN_WORDS, true, true, true)];
    for (list, whole_word, strict, known) in lists {
        for (detector, names) in list {
            names.iter().for_each(|name| table.add(name, Says { detector: *detector, strict, known }, whole_word));
        }
    }
    table
});

impl Table {
    fn add(&mut self, name: &str, says: Says, whole_word: bool) {
        let mut state = 0;
        for byte in name.bytes().rev() {
            let letter = letter(byte);
            if self.next[state][letter] == 0 {
                self.next[state][letter] = self.next.len() as u16;
                self.next.push([0; 32]);
                self.says.push(None);
            }
            state = usize::from(self.next[state][letter]);
        }
        self.says[state].get_or_insert((says, whole_word));
        let mut tail = |tail: usize| self.tails[tail / 64] |= 1 << (tail % 64);
        match name.as_bytes() {
            [.., first, second, third] => {
                tail(self::tail([*first, *second, *third]));
                tail(self::tail([b'_', *second, *third]));
            }
            [second, third] => (0..=u8::MAX).for_each(|first| tail(self::tail([first, *second, *third]))),
            _ => {}
        }
    }
}

/// The column of a byte: a letter's, in either case; one for all digits; 0, which no name has, for others.
fn letter(byte: u8) -> usize {
    usize::from(LETTERS[usize::from(byte)])
}

static LETTERS: [u8; 256] = {
    let mut letters = [0; 256];
    let mut at = 0;
    while at < 26 {
        letters[b'a' as usize + at] = at as u8 + 1;
        letters[b'A' as usize + at] = at as u8 + 1;
        at += 1;
    }
    while at < 36 {
        letters[b'0' as usize + at - 26] = 27;
        at += 1;
    }
    letters
};

/// Three bytes as a number of fifteen bits.
fn tail(bytes: [u8; 3]) -> usize {
    bytes.into_iter().fold(0, |tail, byte| tail << 5 | letter(byte))
}

/// What the key says that `text` ends with. The longest name counts. In written bytes (`raw`) a name may start at the letter of
/// an escape.
#[inline]
pub(super) fn says(text: &[u8], raw: bool) -> Option<Says> {
    let last = match *text {
        [.., first, second, third] => [first, second, third],
        [second, third] => [b'_', second, third],
        _ => return None,
    };
    // `mật khẩu`
    if last[2] >= 0x80 || last[1] >= 0x80 {
        return foreign(text);
    }
    let table = &*TABLE;
    // A separator between the last two letters is no reason to look: no one writes one.
    let tail = tail(last);
    if table.tails[tail / 64] >> (tail % 64) & 1 == 0 {
        return None;
    }
    read(table, text, raw)
}

fn read(table: &Table, text: &[u8], raw: bool) -> Option<Says> {
    let (mut state, mut found) = (0, None);
    let first = text.len().saturating_sub(MAX_KEY_BYTES);
    let mut at = text.len();
    while at > first {
        let byte = text[at - 1];
        let letter = letter(byte);
        if letter == 0 {
            let joins = matches!(byte, b'_' | b'-' | b'.' | b' ') && at > first + 1 && self::letter(text[at - 2]) != 0;
            if !joins {
                break;
            }
            at -= 1;
            continue;
        }
        state = usize::from(table.next[state][letter]);
        if state == 0 {
            break;
        }
        at -= 1;
        if let Some((says, whole_word)) = table.says[state]
            && (!whole_word || starts_word(text, at, raw))
        {
            found = Some(says);
        }
    }
    found
}

/// Whether a word starts at `at`: after no letter and no digit, or with a capital after a small letter.
fn starts_word(text: &[u8], at: usize, raw: bool) -> bool {
    let Some(before) = at.checked_sub(1).map(|before| text[before]) else { return true };
    let camel = text[at].is_ascii_uppercase() && before.is_ascii_lowercase();
    let escape = raw && at >= 2 && text[at - 2] == b'\\';
    camel || escape || !(before.is_ascii_alphanumeric() || before >= 0x80)
}

fn foreign(text: &[u8]) -> Option<Says> {
    let ends = |name: &str| {
        let start = text.len().checked_sub(name.len());
        let letter = |byte: u8| byte >= 0x80 || byte.is_ascii_alphabetic();
        // Thai has no spaces between words.
        let thai = name.as_bytes()[0] == 0xe0;
        text.ends_with(name.as_bytes())
            && start.is_some_and(|start| thai || start == 0 || !letter(text[start - 1]) || text[..start].ends_with(b"\\n"))
    };
    FOREIGN.iter().find(|(_, names)| names.iter().any(|name| ends(name))).map(|(detector, _)| Says {
        detector: *detector,
        strict: false,
        known: false,
    })
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
            assert_eq!(says(key.as_bytes(), false).filter(|says| !says.strict).map(|says| says.detector), detector, "{key}");
        }
    }
}
