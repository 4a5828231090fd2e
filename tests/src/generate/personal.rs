//! Personal data to plant, and to look for afterwards.
//!
//! Every value is made up of what is reserved for examples: the domain `example.com`, the addresses 203.0.113.0/24
//! (RFC 5737), the test cards that begin with 4111 11, a token prefix of our own. So [`leftovers`] can find any of them in
//! an output without knowing which were planted.

use memchr::memmem;

use crate::chance::Chance;

/// What begins every bearer token that is planted.
const TOKEN_PREFIX: &str = "tvl_";
/// What begins every JWT that is planted: the header `{"alg":"HS256"}`.
const JWT_PREFIX: &str = "eyJhbGciOiJIUzI1NiJ9.";
/// What begins every card number that is planted.
const CARD_PREFIX: &[u8; 6] = b"411111";
/// The number of digits of a card.
const CARD_DIGITS: usize = 16;

/// A kind of personal data: one for each redaction that is built in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// An e-mail address.
    Email,
    /// A payment card's number with a right check digit: plain, with blanks or with dashes.
    Card,
    /// An IPv4 address.
    Ipv4,
    /// A JSON Web Token.
    Jwt,
    /// A bearer token, after the word.
    Bearer,
}

/// Where in the record it stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// Within the text of the message.
    Message,
    /// The value of a nested field.
    Field,
}

/// A personal value that was planted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Planted {
    /// What it is.
    pub kind: Kind,
    /// Where it is.
    pub place: Place,
    /// The text.
    pub text: String,
}

impl Planted {
    /// One by chance.
    pub fn new(chance: &mut Chance) -> Planted {
        let kind = *chance.pick(&[Kind::Email, Kind::Card, Kind::Ipv4, Kind::Jwt, Kind::Bearer]);
        let place = *chance.pick(&[Place::Message, Place::Field]);
        let text = match kind {
            Kind::Email => email(chance),
            Kind::Card => card(chance),
            Kind::Ipv4 => format!("203.0.113.{}", chance.below(256)),
            Kind::Jwt => format!("{JWT_PREFIX}eyJzdWIiOi{}.{}", token(chance, 24), token(chance, 43)),
            Kind::Bearer => format!("Bearer {TOKEN_PREFIX}{}", token(chance, 32)),
        };
        Planted { kind, place, text }
    }
}

/// The planted values that are left in `text`: what, and at which byte.
pub fn leftovers(text: &[u8]) -> Vec<(Kind, usize)> {
    let literal = |kind, needle: &str| memmem::find_iter(text, needle).map(move |at| (kind, at)).collect::<Vec<_>>();
    let mut found = literal(Kind::Email, "@example.com");
    found.extend(literal(Kind::Ipv4, "203.0.113."));
    found.extend(literal(Kind::Jwt, JWT_PREFIX));
    found.extend(literal(Kind::Bearer, TOKEN_PREFIX));
    found.extend(memmem::find_iter(text, &CARD_PREFIX[..4]).filter(|at| is_card(text, *at)).map(|at| (Kind::Card, at)));
    found
}

fn email(chance: &mut Chance) -> String {
    let first = chance.pick(&["anna", "minh", "somchai", "ivan", "olga", "linh", "niran", "petr"]);
    let last = chance.pick(&["smirnova", "nguyen", "suksai", "ivanov", "tran", "pham", "petrova"]);
    format!("{first}.{last}{}@example.com", chance.below(1000))
}

fn card(chance: &mut Chance) -> String {
    let mut digits = CARD_PREFIX.to_vec();
    digits.extend((digits.len()..CARD_DIGITS - 1).map(|_| b'0' + chance.below(10) as u8));
    digits.push(b'0');
    let rest = luhn(&digits);
    digits[CARD_DIGITS - 1] = b'0' + ((10 - rest) % 10) as u8;
    let separator = *chance.pick(&["", " ", "-"]);
    let groups: Vec<_> = digits.chunks(4).map(|group| String::from_utf8_lossy(group).into_owned()).collect();
    groups.join(separator)
}

/// Letters and digits as base 64 for URLs would give them.
fn token(chance: &mut Chance, length: usize) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    (0..length).map(|_| *chance.pick(ALPHABET) as char).collect()
}

/// Whether a card that was planted begins at byte `at`: sixteen digits with the prefix and a right check digit, which no
/// letter or digit touches. (A hexadecimal id holds such a run by accident now and then, hence the last condition.)
fn is_card(text: &[u8], at: usize) -> bool {
    let mut digits = Vec::new();
    let mut rest = text[at..].iter();
    while digits.len() < CARD_DIGITS {
        match rest.next() {
            Some(digit) if digit.is_ascii_digit() => digits.push(*digit),
            Some(b' ' | b'-') => {}
            _ => return false,
        }
    }
    let before = at.checked_sub(1).map(|before| text[before]);
    let touched = [before, rest.next().copied()].into_iter().flatten().any(|byte| byte.is_ascii_alphanumeric());
    !touched && digits.starts_with(CARD_PREFIX) && luhn(&digits) == 0
}

/// The sum of Luhn (ISO/IEC 7812-1, annex B) modulo 10: 0 for a right number.
fn luhn(digits: &[u8]) -> u32 {
    let value = |(index, digit): (usize, &u8)| {
        let digit = u32::from(digit - b'0');
        match index % 2 {
            1 if digit > 4 => digit * 2 - 9,
            1 => digit * 2,
            _ => digit,
        }
    };
    digits.iter().rev().enumerate().map(value).sum::<u32>() % 10
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_planted_is_found() {
        let mut chance = Chance::new(5);
        for _ in 0..500 {
            let planted = Planted::new(&mut chance);
            let text = format!("{{\"note\":\"paid by {}, thanks\"}}", planted.text);
            let kinds: Vec<_> = leftovers(text.as_bytes()).into_iter().map(|(kind, _)| kind).collect();
            assert_eq!(kinds, [planted.kind], "{text}");
        }
    }

    #[test]
    fn what_only_looks_like_it_is_not() {
        // A wrong check digit, a digit too many, and a run of digits within a hexadecimal id.
        for text in ["4111 1111 1111 1112", "41111111111111111", "a4111111111111111f", "203.0.114.7", "a@example.org"] {
            assert_eq!(leftovers(text.as_bytes()), [], "{text}");
        }
        assert_eq!(leftovers(b"4111-1111-1111-1111"), [(Kind::Card, 0)]);
    }
}
