//! Payment card numbers: clusters of digits, taken apart into groups, of which some make a number that an issuer gave out.
//!
//! Luhn's check alone passes one in ten numbers; with the issuers' prefixes and lengths, one in thirty. So a number must
//! have a form that people write (in one piece, or 4-4-4-4, 4-4-4-4-3, 4-6-5, 4-6-4 with one kind of separator), a known
//! issuer and a right check digit, and must not be a part of a longer word.

/// What may stand between two groups of a cluster.
pub(super) fn is_separator(byte: u8) -> bool {
    matches!(byte, b' ' | b'-' | b'.')
}

/// The forms in groups, longer ones first.
const FORMS: [&[usize]; 4] = [&[4, 4, 4, 4, 3], &[4, 4, 4, 4], &[4, 6, 5], &[4, 6, 4]];

/// The longest number there is (ISO/IEC 7812).
const MAX_DIGITS: usize = 19;

/// Where the cluster around `at` starts: as far back as digits with single separators go, not before `from`.
pub(super) fn cluster_start(text: &[u8], at: usize, from: usize) -> usize {
    let mut start = at;
    while start > from {
        let before = text[start - 1];
        let joins = before.is_ascii_digit()
            || (is_separator(before) && text[start].is_ascii_digit() && start >= from + 2 && text[start - 2].is_ascii_digit());
        if !joins {
            break;
        }
        start -= 1;
    }
    start
}

/// Calls `found` with each card number in the cluster that starts at `start`; gives the end of the cluster.
pub(super) fn in_cluster(text: &[u8], start: usize, mut found: impl FnMut(usize, usize)) -> usize {
    // The groups seen last; five are the most that a form has.
    let mut groups: Vec<(usize, usize)> = Vec::new();
    let mut at = start;
    loop {
        let group = at;
        while text.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
        groups.push((group, at));
        if text.get(at).is_some_and(|byte| is_separator(*byte)) && text.get(at + 1).is_some_and(u8::is_ascii_digit) {
            at += 1;
        } else {
            break;
        }
    }
    let mut index = 0;
    while index < groups.len() {
        match number_at(text, &groups[index..]) {
            Some(count) => {
                found(groups[index].0, groups[index + count - 1].1);
                index += count;
            }
            None => index += 1,
        }
    }
    at
}

/// How many groups from the first one on make a card number.
fn number_at(text: &[u8], groups: &[(usize, usize)]) -> Option<usize> {
    let start = groups[0].0;
    let before = start.checked_sub(1).map(|at| text[at]);
    if before.is_some_and(is_word) {
        return None;
    }
    let counts = FORMS.iter().filter(|form| has_form(text, groups, form)).map(|form| form.len());
    for count in counts.chain([1]) {
        let end = groups[count - 1].1;
        if text.get(end).is_some_and(|byte| is_word(*byte)) || (count == 1 && before == Some(b'.') && is_fraction(text, start)) {
            continue;
        }
        if is_number(&text[start..end]) {
            return Some(count);
        }
    }
    None
}

/// Whether the digits from `start` on are those after the point of a number.
fn is_fraction(text: &[u8], start: usize) -> bool {
    start >= 2 && text[start - 2].is_ascii_digit()
}

/// Whether the first groups have the lengths of `form` and one kind of separator between them.
fn has_form(text: &[u8], groups: &[(usize, usize)], form: &[usize]) -> bool {
    groups.len() >= form.len()
        && groups.iter().zip(form).all(|((start, end), length)| end - start == *length)
        && groups[..form.len() - 1].iter().all(|(_, end)| text[*end] == text[groups[0].1])
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Whether the digits of `written` are those of a card.
fn is_number(written: &[u8]) -> bool {
    let mut digits = [0; MAX_DIGITS];
    let mut count = 0;
    for byte in written.iter().filter(|byte| byte.is_ascii_digit()) {
        let Some(digit) = digits.get_mut(count) else { return false };
        *digit = byte - b'0';
        count += 1;
    }
    let digits = &digits[..count];
    count >= 13 && has_issuer(digits) && passes_luhn(digits) && digits.iter().any(|digit| *digit != digits[0])
}

/// Whether some issuer gives out numbers with this start and length. Prefixes as the schemes publish them.
fn has_issuer(digits: &[u8]) -> bool {
    let prefix = |length: usize| digits[..length].iter().fold(0u32, |number, digit| number * 10 + u32::from(*digit));
    let (two, three, four) = (prefix(2), prefix(3), prefix(4));
    match digits.len() {
        13 => digits[0] == 4 || is_maestro(two),
        14 => matches!(two, 36 | 38 | 39) || matches!(three, 300..=305) || is_maestro(two),
        15 => matches!(two, 34 | 37) || is_maestro(two),
        16 => {
            digits[0] == 4
                || matches!(two, 51..=55 | 62 | 65 | 81)
                || matches!(three, 644..=649)
                || matches!(four, 2221..=2720 | 2200..=2205 | 3528..=3589 | 6011 | 9704 | 9860)
                || matches!(two, 36 | 38 | 39)
                || matches!(three, 300..=305)
                || is_maestro(two)
        }
        17 | 18 => matches!(four, 2200..=2205 | 3528..=3589) || matches!(two, 62 | 81) || is_maestro(two),
        19 => {
            digits[0] == 4
                || matches!(four, 2200..=2205 | 3528..=3589 | 6011 | 9704)
                || matches!(two, 62 | 65 | 81)
                || matches!(three, 644..=649)
                || is_maestro(two)
        }
        _ => false,
    }
}

fn is_maestro(two: u32) -> bool {
    matches!(two, 50 | 56..=58 | 60 | 63 | 67)
}

/// Luhn's check (ISO/IEC 7812-1, annex B).
fn passes_luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(index, digit)| {
            let doubled = u32::from(*digit) << (index % 2);
            if doubled > 9 { doubled - 9 } else { doubled }
        })
        .sum();
    sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<&str> {
        let mut all = Vec::new();
        let mut at = 0;
        while let Some(next) = text.as_bytes()[at..].iter().position(u8::is_ascii_digit) {
            at = in_cluster(text.as_bytes(), at + next, |start, end| all.push(&text[start..end]));
        }
        all
    }

    #[test]
    fn numbers_of_every_issuer_and_form() {
        for text in [
            "4111111111111111",
            "5555555555554444",
            "378282246310005",
            "30569309025904",
            "6011111111111117",
            "3566002020360505",
            "6200000000000005",
            "2223003122003222",
            "2200000000000004",
            "4222222222222",
            "4111 1111 1111 1111",
            "4111-1111-1111-1111",
            "4111.1111.1111.1111",
            "3782 822463 10005",
            "3056-930902-5904",
            "6304000000000000",
        ] {
            assert_eq!(found(text), [text]);
            assert_eq!(found(&format!("a=({text}), {text};")), [text, text]);
        }
    }

    #[test]
    fn numbers_that_are_none() {
        for text in [
            "4111111111111112",
            "1748503543012",
            "1748503543012345678",
            "0000000000000000",
            "4444444444444444",
            "x4111111111111111",
            "4111111111111111x",
            "_4111111111111111",
            "4111 1111-1111 1111",
            "4111  1111 1111 1111",
            "41 1111 1111 1111 11",
            "0.4111111111111111",
            "12345678-1234-1234-1234-123456789012",
            "9111111111111111",
            "41111111111111111111111",
        ] {
            assert_eq!(found(text), [""; 0], "{text}");
        }
    }

    #[test]
    fn numbers_among_other_groups() {
        assert_eq!(found("1234 4111 1111 1111 1111 17"), ["4111 1111 1111 1111"]);
        assert_eq!(found("id 7 4111111111111111 200"), ["4111111111111111"]);
        assert_eq!(found("4111111111111111 5555555555554444"), ["4111111111111111", "5555555555554444"]);
        assert_eq!(found("4111111111111111.50"), ["4111111111111111"]);
    }

    #[test]
    fn the_start_of_a_cluster_is_found_from_within() {
        let text = b"x 12 34-5  6789 0";
        assert_eq!(cluster_start(text, 8, 0), 2);
        assert_eq!(cluster_start(text, 13, 0), 11);
        assert_eq!(cluster_start(text, 16, 15), 16);
        assert_eq!(cluster_start(text, 16, 11), 11);
    }
}
