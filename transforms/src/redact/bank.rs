//! International bank account numbers (ISO 13616): a country, two check digits, and as many characters as that country has.

use super::checks;
use super::text::Text;

/// The longest number there is.
const MAX_CHARACTERS: usize = 34;

/// The countries of the registry and the lengths of their numbers.
const LENGTHS: &[u8] = b"AD24AE23AL28AT20AZ28BA20BE16BG22BH22BI27BR29BY28CH21CR22CY28CZ24DE22DJ27DK18DO28EE20EG29ES24FI18FK18FO18FR27GB22GE22GI23GL18GR27GT28HN28HR21HU28IE22IL23IQ23IS26IT27JO30KW30KZ20LB28LC32LI21LT20LU20LV21LY25MC27MD24ME22MK19MN20MR27MT31MU30NI28NL18NO15OM23PK24PL28PS29PT25QA29RO24RS22RU33SA24SC31SD18SE24SI19SK24SM27SO23ST25SV28TL23TN24TR26UA29VA22VG24XK20YE30";

/// The number at `start`, where two capitals and two digits stand: in one piece, or in groups of four with spaces.
pub(super) fn iban(text: &Text<'_>, start: usize) -> Option<(usize, usize)> {
    let [a, b, c, d] = *text.bytes.get(start..)?.first_chunk()?;
    if text.word_before(start) || !(a.is_ascii_uppercase() && b.is_ascii_uppercase() && c.is_ascii_digit() && d.is_ascii_digit()) {
        return None;
    }
    let length = LENGTHS
        .as_chunks::<4>()
        .0
        .iter()
        .find(|row| row[..2] == [a, b])
        .map(|row| usize::from(row[2] - b'0') * 10 + usize::from(row[3] - b'0'))?;
    let mut compact = [0; MAX_CHARACTERS];
    let (mut count, mut at) = (0, start);
    let grouped = matches!(text.get(start + 4), Some(b' ' | b'-'));
    while count < length {
        let byte = text.get(at)?;
        if grouped
            && count > 0
            && count.is_multiple_of(4)
            && at > start + count - 1
            && matches!(byte, b' ' | b'-')
            && !matches!(text.before(at), Some(b' ' | b'-'))
        {
            at += 1;
            continue;
        }
        if !(byte.is_ascii_uppercase() || byte.is_ascii_digit()) {
            return None;
        }
        compact[count] = byte;
        count += 1;
        at += 1;
    }
    (!text.word_at(at) && checks::iban(&compact[..length])).then_some((start, at))
}
