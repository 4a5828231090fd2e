//! Clusters of digits: groups with separators between them, of which some make a number that means someone.
//!
//! One recogniser finds clusters; each group of one is then asked what could start with it, by the lengths of the groups
//! that follow and what stands between them. Times, ids and amounts fall through because no form, check digit or word
//! beside them fits.

use std::cell::Cell;

use super::card;
use super::catalog::Detector;
use super::checks;
use super::context;
use super::text::{Text, is_word};

/// The fewest digits that make anything.
const MIN_DIGITS: usize = 9;

/// The most groups that are looked at from one on.
const MAX_GROUPS: usize = 8;

/// What may stand in a cluster beside digits.
pub(super) fn is_separator(byte: u8) -> bool {
    matches!(byte, b' ' | b'-' | b'.' | b'(' | b')')
}

/// Where the next group starts, if the separator at `at` is one between two groups: one character, or one with a bracket.
fn after_separator(text: &[u8], at: usize) -> Option<usize> {
    let digit = |at: usize| text.get(at).is_some_and(u8::is_ascii_digit);
    let first = *text.get(at)?;
    if !is_separator(first) {
        return None;
    }
    if digit(at + 1) {
        return Some(at + 1);
    }
    let second = *text.get(at + 1)?;
    let pair = (second == b'(' && matches!(first, b' ' | b'-' | b'.')) || (first == b')' && matches!(second, b' ' | b'-' | b'.'));
    (pair && digit(at + 2)).then_some(at + 2)
}

/// Where the cluster around the digit at `at` starts, not before `from`.
pub(super) fn cluster_start(text: &[u8], at: usize, from: usize) -> usize {
    let digit = |at: usize| at >= from && text[at].is_ascii_digit();
    let mut start = at;
    while start > from {
        if text[start - 1].is_ascii_digit() {
            start -= 1;
        } else if start >= from + 2 && digit(start - 2) && after_separator(text, start - 1) == Some(start) {
            start -= 2;
        } else if start >= from + 3 && digit(start - 3) && after_separator(text, start - 2) == Some(start) {
            start -= 3;
        } else {
            break;
        }
    }
    start
}

/// Calls `found` with each number in the cluster that starts at `start`; gives the end of the cluster. `groups` is scratch.
pub(super) fn in_cluster(
    text: &Text<'_>,
    start: usize,
    groups: &mut Vec<(usize, usize)>,
    mut found: impl FnMut(Detector, usize, usize),
) -> usize {
    groups.clear();
    let mut at = start;
    loop {
        let end = text.run(at, |byte| byte.is_ascii_digit());
        groups.push((at, end));
        match after_separator(text.bytes, end) {
            Some(next) => at = next,
            None => {
                at = end;
                break;
            }
        }
    }
    // The scan stops at the ninth byte of a cluster: no number is shorter.
    if at - start < MIN_DIGITS {
        return at;
    }
    // A group that is a part of a word belongs to no number: the digits of a hash, the fraction of `56.123456789Z`.
    let mut index = usize::from(groups.first().is_some_and(|(start, _)| text.word_before(*start)));
    if groups.last().is_some_and(|(_, end)| text.word_at(*end) && extension(text, *end).is_none()) {
        groups.pop();
    }
    while index < groups.len() {
        let number = Number { text, groups, index, beside: Cell::new(None) };
        match number.what() {
            Some((detector, start, count)) => {
                let end = groups[index + count - 1].1;
                found(detector, start, if detector == Detector::Phone { extension(text, end).unwrap_or(end) } else { end });
                index += count;
            }
            None => index += 1,
        }
    }
    at
}

/// The end of the extension that a telephone number ending at `end` has: `x123`, ` ext. 12`.
fn extension(text: &Text<'_>, end: usize) -> Option<usize> {
    const MAX_DIGITS: usize = 6;
    let rest = text.bytes.get(end..)?;
    let word = [&b"x"[..], b" x", b" ext. ", b" ext ", b" ext.", b",ext"].into_iter().find(|word| rest.starts_with(word))?;
    let digits = rest[word.len()..].iter().take(MAX_DIGITS + 1).take_while(|byte| byte.is_ascii_digit()).count();
    let after = end + word.len() + digits;
    ((2..=MAX_DIGITS).contains(&digits) && !text.word_at(after)).then_some(after)
}

/// A number that may start with one of the groups of a cluster.
struct Number<'a> {
    text: &'a Text<'a>,
    groups: &'a [(usize, usize)],
    index: usize,
    /// What the words beside it say, once that was asked.
    beside: Cell<Option<u16>>,
}

impl Number<'_> {
    /// What starts here, where exactly, and how many groups it takes.
    fn what(&self) -> Option<(Detector, usize, usize)> {
        let start = self.start();
        let within = self.groups[self.index..].iter().take(MAX_GROUPS).map(|(start, end)| end - start).sum::<usize>();
        if within < MIN_DIGITS - 1 {
            return None;
        }
        if let Some(count) = self.international() {
            return Some((Detector::Phone, start - 1, count));
        }
        if self.text.word_before(start) {
            return None;
        }
        let lengths = self.lengths();
        if matches!(lengths[0], 4 | 13..=19)
            && let Some(count) = card::number_at(self.text.bytes, &self.groups[self.index..])
        {
            // In written bytes, what stands before may belong to another value.
            let thing = if count == 1 { context::MACHINE | context::THING } else { context::MACHINE };
            if self.text.raw || self.beside(thing) == 0 {
                return Some((Detector::CreditCard, start, count));
            }
            return None;
        }
        let first = self.text.bytes[start];
        match lengths {
            [3, 3, 3, 2, ..] => self.fits(4, Detector::Snils, checks::snils),
            [3, 2, 4, ..] if self.uniform(3, b"-") => self.fits(3, Detector::UsSsn, is_ssn),
            [1, 4, 5, 2, 1, ..] if self.uniform(5, b"- ") => self.fits(5, Detector::ThaiId, checks::thai_id),
            _ => None,
        }
        .or_else(|| self.local_phone(lengths, first))
        .or_else(|| self.beside_words(lengths))
    }

    fn start(&self) -> usize {
        self.groups[self.index].0
    }

    /// The lengths of the groups from here on, as many as a form has at most; 0 where there is none.
    fn lengths(&self) -> [u8; 5] {
        let mut lengths = [0; 5];
        for (length, (start, end)) in lengths.iter_mut().zip(&self.groups[self.index..]) {
            *length = u8::try_from(end - start).unwrap_or(u8::MAX);
        }
        lengths
    }

    /// Which of some kinds the last words before the number, or its key, name.
    fn beside(&self, what: u16) -> u16 {
        let says = self.beside.get().unwrap_or_else(|| context::beside(self.text, self.start()));
        self.beside.set(Some(says));
        says & what
    }

    /// What stands after the group `at` from here on, before the next.
    fn separator(&self, at: usize) -> &[u8] {
        let groups = &self.groups[self.index + at..];
        match groups {
            [(_, end), (next, _), ..] => &self.text.bytes[*end..*next],
            _ => b"",
        }
    }

    /// Whether there is one and the same separator between `count` groups, one of `separators`.
    fn uniform(&self, count: usize, separators: &[u8]) -> bool {
        let first = self.separator(0);
        matches!(first, [byte] if separators.contains(byte)) && (1..count - 1).all(|at| self.separator(at) == first)
    }

    /// Whether `count` groups stand by themselves and are no part of a longer number or word.
    fn alone(&self, count: usize) -> bool {
        let (start, end) = (self.start(), self.groups[self.index + count - 1].1);
        let before = match self.text.before(start) {
            Some(b'-') => self.index == 0 && !self.text.before(start - 1).is_some_and(is_word),
            Some(b'.') => self.index == 0 && !self.text.before(start - 1).is_some_and(|byte| byte.is_ascii_digit()),
            Some(b')') => false,
            _ => true,
        };
        let after = match self.text.get(end) {
            Some(b'-' | b'.') => !self.text.get(end + 1).is_some_and(|byte| byte.is_ascii_digit()),
            Some(byte) => !is_word(byte) || extension(self.text, end).is_some(),
            None => true,
        };
        before && after
    }

    /// The digits of `count` groups, at most 24.
    fn digits(&self, count: usize) -> Option<([u8; 24], usize)> {
        checks::digits(&self.text.bytes[self.start()..self.groups[self.index + count - 1].1])
    }

    fn fits(&self, count: usize, detector: Detector, check: impl Fn(&[u8]) -> bool) -> Option<(Detector, usize, usize)> {
        let (digits, length) = self.digits(count)?;
        (self.alone(count) && check(&digits[..length])).then_some((detector, self.start(), count))
    }

    /// `+` and a number as long as those of its country are: how many groups it takes.
    fn international(&self) -> Option<usize> {
        let start = self.start();
        if self.text.before(start) != Some(b'+') || self.text.word_before(start - 1) {
            return None;
        }
        // A number with a fraction, as in `m=+3.664183935` of Go's clock; `+1.2025550123` is one of a telephone, as registrars write it.
        let fraction = self.separator(0) == b"." && (self.groups.len() == self.index + 2 || self.separator(1) != b".");
        let dialled = matches!(self.lengths(), [1, 10, ..]) && matches!(self.text.bytes[start], b'1' | b'7') || self.lengths()[0] > 1;
        if fraction && (!dialled || self.text.bytes[..start].ends_with(b"m=+")) {
            return None;
        }
        let mut taken = [0u8; 3];
        let (mut total, mut skipped, mut best) = (0, 0, None);
        let mut limits = (8, 15);
        for (count, (start, end)) in self.groups[self.index..].iter().take(MAX_GROUPS).enumerate() {
            // `+44 (0)20`: dialled at home only.
            if end - start == 1 && count > 0 && self.text.bytes[*start] == b'0' && self.text.before(*start) == Some(b'(') {
                skipped += 1;
                continue;
            }
            for byte in &self.text.bytes[*start..(*end).min(start + 3)] {
                if total < 3 {
                    taken[total] = *byte;
                    total += 1;
                }
            }
            total = total.max(self.groups[self.index..=self.index + count].iter().map(|(start, end)| end - start).sum::<usize>() - skipped);
            if total >= 3 {
                limits = country(&taken);
            }
            if total > limits.1 {
                break;
            }
            if total >= limits.0 && (!self.text.word_at(*end) || extension(self.text, *end).is_some()) {
                best = Some(count + 1);
            }
        }
        best
    }

    /// Telephone numbers without a country's code, by their form.
    fn local_phone(&self, lengths: [u8; 5], first: u8) -> Option<(Detector, usize, usize)> {
        let second = self.text.get(self.start() + 1);
        let bracket = self.text.before(self.start()) == Some(b'(');
        let count = match (lengths, first) {
            ([11, ..], b'7' | b'8') if second == Some(b'9') => 1,
            ([11, ..], b'0') if second == Some(b'7') => 1,
            ([10, ..], b'0') if matches!(second, Some(b'3' | b'5'..=b'9')) => 1,
            ([1, 3, 3, 2, 2, ..], b'7' | b'8') => 5,
            ([1, 3, 3, 4, ..], b'1' | b'7' | b'8') => 4,
            ([1, 3, 7, ..], b'7' | b'8') => 3,
            ([1, 10, ..], b'7' | b'8') if self.separator(0) != b"." => 2,
            // `001-415-555-0134`
            ([3, 3, 3, 4, ..], b'0')
                if second == Some(b'0') && self.uniform(4, b"-. ") && self.text.get(self.start() + 2) == Some(b'1') =>
            {
                4
            }
            ([2, 2, 3, 4, ..], b'6') if second == Some(b'6') && self.uniform(4, b"-") => 4,
            ([3, 7, ..], b'0') if self.uniform(2, b"-") && self.is_mobile() => 2,
            ([3, 3, 4, ..], b'0') if bracket && matches!(self.separator(0), [b')', ..]) && self.is_mobile() => 3,
            ([3, 3, 4, ..] | [4, 3, 3, ..] | [2, 4, 4, ..] | [3, 4, 3, ..], b'0') if self.uniform(3, b"- .") && self.is_mobile() => 3,
            ([5, 6, ..], b'0') if self.uniform(2, b"- ") && self.is_british() => 2,
            ([3, 4, 4, ..] | [4, 3, 4, ..], b'0') if self.uniform(3, b"- ") && self.is_british() => 3,
            ([3, 3, 4, ..], b'1'..=b'9') if self.is_american(bracket) => 3,
            _ => return None,
        };
        let start = self.start() - usize::from(bracket && matches!(self.separator(0), [b')', ..]));
        (self.alone(count)).then_some((Detector::Phone, start, count))
    }

    fn is_mobile(&self) -> bool {
        matches!(self.text.get(self.start() + 1), Some(b'3' | b'5'..=b'9'))
    }

    fn is_british(&self) -> bool {
        self.digits(2).is_some_and(|(digits, _)| matches!(digits[1], 1 | 2 | 3 | 7 | 8))
    }

    /// `(415) 555-1234`, `415-555-1234`, `415.555.1234`. Area and exchange start with 2 to 9, but those that people make up are
    /// written with dashes too; with dots, a number is often something else.
    fn is_american(&self, bracket: bool) -> bool {
        let bracket = bracket && matches!(self.separator(0), [b')', ..]) && matches!(self.separator(1), b"-" | b" " | b".");
        let dashes = self.uniform(3, b"-");
        let given_out = |digits: &[u8]| digits[0] >= 2 && digits[3] >= 2;
        (bracket || dashes || self.uniform(3, b"."))
            && self.digits(3).is_some_and(|(digits, _)| given_out(&digits) || (bracket || dashes) && digits[3] >= 1)
    }

    /// Numbers that are what a word beside them says. Forms and check digits come first, for they cost less than words.
    fn beside_words(&self, lengths: [u8; 5]) -> Option<(Detector, usize, usize)> {
        if self.index > 0 && !matches!(self.text.before(self.start()), Some(b' ' | b'(')) {
            return None;
        }
        let near = |what: u16| context::near(self.text, self.start()) & what != 0;
        let beside = |what: u16| self.beside(what) != 0;
        let thai = |digits: &[u8]| {
            checks::thai_id(digits)
                && (self.text.raw
                    || near(context::CITIZEN)
                    || !is_epoch_millis(digits) && (beside(context::HOLDER) || context::is_thai(self.text, self.start())))
        };
        let mistyped = |digits: &[u8]| {
            (1..=8).contains(&digits[0]) && beside(context::CITIZEN) && (self.text.raw || context::is_thai(self.text, self.start()))
        };
        match lengths {
            [11, ..] => self
                .fits(1, Detector::Snils, |digits| checks::snils(digits) && near(context::SNILS))
                .or_else(|| self.fits(1, Detector::Phone, |digits| self.is_thai_abroad(digits))),
            [9, ..] => self.fits(1, Detector::UsSsn, |digits| is_ssn(digits) && beside(context::SSN)),
            // Right beside the word it is what the word says, mistyped or not.
            [13, ..] => self.fits(1, Detector::ThaiId, |digits| thai(digits) || mistyped(digits)),
            [1, 4, 5, 2, 1, ..] if self.uniform(5, b"- ") => self.fits(5, Detector::ThaiId, mistyped),
            [10 | 12, ..] => self.fits(1, Detector::Inn, |digits| checks::inn(digits) && near(context::INN)),
            _ => None,
        }
        .or_else(|| match lengths {
            [4, 6, ..] => self.fits(2, Detector::Passport, |_| beside(context::PASSPORT)),
            [2, 2, 6, ..] => self.fits(3, Detector::Passport, |_| beside(context::PASSPORT)),
            [10, ..] => self
                .fits(1, Detector::Passport, |_| beside(context::PASSPORT))
                .or_else(|| self.fits(1, Detector::Nhs, |digits| checks::nhs(digits) && near(context::NHS))),
            [12, ..] => self.fits(1, Detector::Cccd, |digits| is_cccd(digits) && near(context::CCCD)),
            [3, 3, 4, ..] => self.fits(3, Detector::Nhs, |digits| checks::nhs(digits) && near(context::NHS)),
            _ => None,
        })
        .or_else(|| match lengths {
            // Thai numbers of a place, where what stands around is Thai.
            [2, 3, 4, ..] | [3, 3, 3, ..] | [1, 4, 4, ..] if self.uniform(3, b"- ") && self.text.bytes[self.start()] == b'0' => {
                let place = |digits: &[u8]| (2..=7).contains(&digits[1]) && digits.len() == 9;
                let thai = self.text.raw || beside(context::PHONE) || context::is_thai(self.text, self.start());
                self.fits(3, Detector::Phone, |digits| place(digits) && thai)
            }
            [3, 1, 5, 1, ..] if self.uniform(4, b"- ") => {
                let thai = self.text.raw || context::is_thai(self.text, self.start());
                self.fits(4, Detector::Account, |_| thai || near(context::ACCOUNT))
            }
            [10, ..] => self
                .fits(1, Detector::Account, |_| beside(context::ACCOUNT) && (self.text.raw || context::is_thai(self.text, self.start()))),
            _ => None,
        })
        .or_else(|| self.any_phone().filter(|_| beside(context::PHONE)))
    }

    /// `66812345678` in a Thai text: a mobile number with its country's code.
    fn is_thai_abroad(&self, digits: &[u8]) -> bool {
        matches!(digits, [6, 6, 6 | 8 | 9, ..]) && (self.text.raw || context::is_thai(self.text, self.start()))
    }

    /// Nine to twelve digits right after a word for telephones.
    fn any_phone(&self) -> Option<(Detector, usize, usize)> {
        let lengths = |count: usize| self.groups.iter().take(count).map(|(start, end)| end - start);
        if self.index > 0 || lengths(3).eq([4, 2, 2]) {
            return None; // a date
        }
        let (mut total, mut best) = (0, None);
        // `00` and the country's code.
        let most = if self.text.bytes[self.start()..].starts_with(b"00") { 15 } else { 12 };
        for (count, (start, end)) in self.groups.iter().take(MAX_GROUPS).enumerate() {
            total += end - start;
            if total > most {
                break;
            }
            if total >= MIN_DIGITS && !self.text.word_at(*end) {
                best = Some(count + 1);
            }
        }
        best.map(|count| (Detector::Phone, self.start(), count))
    }
}

/// How many digits telephone numbers have after `+`, the country's code included: the fewest and the most.
fn country(code: &[u8; 3]) -> (usize, usize) {
    match code {
        [b'1' | b'7', ..] => (11, 11),
        b"855" => (11, 12),
        b"856" => (10, 13),
        b"375" | b"380" | b"994" | b"995" | b"996" | b"998" => (12, 12),
        [b'6', b'6', _] => (10, 11),
        [b'8', b'4', _] => (11, 12),
        [b'6', b'2', _] => (10, 14),
        [b'6', b'0', _] => (10, 12),
        [b'6', b'5', _] => (10, 10),
        [b'6', b'3', _] => (11, 12),
        [b'9', b'5', _] => (9, 12),
        [b'4', b'4', _] => (11, 13),
        [b'0', ..] => (usize::MAX, 0),
        _ => (8, 15),
    }
}

/// Whether a number of three, two and four digits is given out.
fn is_ssn(digits: &[u8]) -> bool {
    let number = |part: &[u8]| part.iter().fold(0u32, |number, digit| number * 10 + u32::from(*digit));
    let (area, group, serial) = (number(&digits[..3]), number(&digits[3..5]), number(&digits[5..]));
    digits.len() == 9 && !matches!(area, 0 | 666 | 900..) && group != 0 && serial != 0
}

/// Whether thirteen digits are a time in milliseconds between 2011 and 2036.
fn is_epoch_millis(digits: &[u8]) -> bool {
    digits[0] == 1 && (3..=9).contains(&digits[1]) || digits[0] == 2 && digits[1] == 0
}

/// Whether twelve digits start with a province, 001 to 096.
fn is_cccd(digits: &[u8]) -> bool {
    digits.len() == 12 && digits[0] == 0 && digits[1] <= 9 && (1..=96).contains(&(digits[1] * 10 + digits[2]))
}

/// A passport of two capitals and seven digits, as Thai ones have, at `start` beside the word.
pub(super) fn lettered_passport(text: &Text<'_>, start: usize) -> Option<(usize, usize)> {
    let end = text.run(start + 2, |byte| byte.is_ascii_digit());
    let fine = end - start == 9 && !text.word_before(start) && !text.word_at(end);
    (fine && context::beside(text, start) & context::PASSPORT != 0).then_some((start, end))
}

/// A Russian passport around the `№` at `at`: `4510 № 123456` beside the word.
pub(super) fn passport(text: &Text<'_>, at: usize) -> Option<(usize, usize)> {
    const SIGN: usize = "№".len();
    let space = |at: usize| text.get(at) == Some(b' ');
    let end_of_series = if text.before(at) == Some(b' ') { at - 1 } else { at };
    let digits = |from: usize, to: usize| text.bytes.get(from..to).is_some_and(|part| part.iter().all(u8::is_ascii_digit));
    let start = [(4, true), (5, false)].into_iter().find_map(|(length, whole)| {
        let start = end_of_series.checked_sub(length)?;
        let fine =
            if whole { digits(start, end_of_series) } else { digits(start, start + 2) && space(start + 2) && digits(start + 3, start + 5) };
        fine.then_some(start)
    })?;
    let number = at + SIGN + usize::from(space(at + SIGN));
    let fine = digits(number, number + 6) && !text.word_at(number + 6) && !text.word_before(start);
    (fine && context::beside(text, start) & context::PASSPORT != 0).then_some((start, number + 6))
}
