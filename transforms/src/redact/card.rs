//! Payment card numbers: clusters of digits, taken apart into groups, of which some make a number that an issuer gave out.
//!
//! Luhn's check alone passes one in ten numbers; with the issuers' prefixes and lengths, one in thirty. So a number must
//! have a form that people write (in one piece, or 4-4-4-4, 4-4-4-4-3, 4-6-5, 4-6-4 with one kind of separator), a known
//! issuer and a right check digit, and must not be a part of a longer word.

use super::checks;
use super::text::is_word;

/// The forms in groups, longer ones first.
const FORMS: [&[usize]; 4] = [&[4, 4, 4, 4, 3], &[4, 4, 4, 4], &[4, 6, 5], &[4, 6, 4]];

/// The longest number there is (ISO/IEC 7812).
const MAX_DIGITS: usize = 19;

/// How many groups from the first one on make a card number.
pub(super) fn number_at(text: &[u8], groups: &[(usize, usize)]) -> Option<usize> {
    let start = groups[0].0;
    let before = start.checked_sub(1).map(|at| text[at]);
    let counts = FORMS.iter().filter(|form| has_form(text, groups, form)).map(|form| form.len());
    for count in counts.chain([1]) {
        let end = groups[count - 1].1;
        if text.get(end).is_some_and(|byte| is_word(*byte))
            || (count == 1 && (before == Some(b'.') && is_fraction(text, start) || ends_uuid(text, start)))
        {
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

/// Whether four hexadecimal digits between dashes stand before `start`: those of a UUID, whose last twelve may have others after.
fn ends_uuid(text: &[u8], start: usize) -> bool {
    let part = start.checked_sub(6).map_or(&b""[..], |from| &text[from..start]);
    matches!(part, [b'-', digits @ .., b'-'] if digits.iter().all(u8::is_ascii_hexdigit))
}

/// Whether the first groups have the lengths of `form` and one kind of separator between them.
fn has_form(text: &[u8], groups: &[(usize, usize)], form: &[usize]) -> bool {
    groups.len() >= form.len()
        && groups.iter().zip(form).all(|((start, end), length)| end - start == *length)
        && groups[..form.len()].windows(2).all(|pair| pair[1].0 == pair[0].1 + 1 && text[pair[0].1] == text[groups[0].1])
        && matches!(text[groups[0].1], b' ' | b'-' | b'.')
}

/// Whether the digits of `written` are those of a card.
fn is_number(written: &[u8]) -> bool {
    let Some((digits, count)) = checks::digits::<MAX_DIGITS>(written) else { return false };
    let digits = &digits[..count];
    count >= 13 && has_issuer(digits) && checks::luhn(digits) && digits.iter().any(|digit| *digit != digits[0])
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

#[cfg(test)]
mod tests {
    use super::super::catalog::Detector;
    use super::super::readers::{Wanted, read};
    use super::super::text::Text;

    fn found(text: &str) -> Vec<&str> {
        let mut all = Vec::new();
        let on = std::array::from_fn(|at| at == Detector::CreditCard as usize);
        read(Text::plain(text.as_bytes()), &Wanted::new(on, true), &mut Vec::new(), |_, start, end| all.push(&text[start..end]));
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
            "7306a3a3-5f3f-470f-9916-4755733614312",
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
}
