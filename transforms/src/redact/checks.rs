//! Check digits and checksums of numbers and addresses.

use sha2::{Digest, Sha256};

/// The digits of `text`, of which there may be at most `N`, without what stands between them.
pub(super) fn digits<const N: usize>(text: &[u8]) -> Option<([u8; N], usize)> {
    let mut digits = [0; N];
    let mut count = 0;
    for byte in text.iter().filter(|byte| byte.is_ascii_digit()) {
        *digits.get_mut(count)? = byte - b'0';
        count += 1;
    }
    Some((digits, count))
}

fn weighted(digits: &[u8], weights: &[u32]) -> u32 {
    digits.iter().zip(weights).map(|(digit, weight)| u32::from(*digit) * weight).sum()
}

/// Luhn's check (ISO/IEC 7812-1, annex B).
pub(super) fn luhn(digits: &[u8]) -> bool {
    let doubled = |(index, digit): (usize, &u8)| {
        let doubled = u32::from(*digit) << (index % 2);
        if doubled > 9 { doubled - 9 } else { doubled }
    };
    digits.iter().rev().enumerate().map(doubled).sum::<u32>().is_multiple_of(10)
}

/// The two check digits of a SNILS (resolution 192p of the Pension Fund of Russia): numbers up to 001-001-998 have none.
pub(super) fn snils(digits: &[u8]) -> bool {
    if digits.len() != 11 {
        return false;
    }
    let number = digits[..9].iter().fold(0u32, |number, digit| number * 10 + u32::from(*digit));
    let sum = weighted(digits, &[9, 8, 7, 6, 5, 4, 3, 2, 1]) % 101 % 100;
    number > 1_001_998 && sum == u32::from(digits[9]) * 10 + u32::from(digits[10])
}

/// The check digits of an INN of ten (companies) or twelve (people) digits.
pub(super) fn inn(digits: &[u8]) -> bool {
    const WEIGHTS: [u32; 11] = [3, 7, 2, 4, 10, 3, 5, 9, 4, 6, 8];
    let check = |weights: &[u32]| weighted(digits, weights) % 11 % 10 == u32::from(digits[weights.len()]);
    match digits.len() {
        10 => check(&WEIGHTS[2..]),
        12 => check(&WEIGHTS[1..]) && check(&WEIGHTS),
        _ => false,
    }
}

/// The check digit of a Thai national number; the first digit is a kind of person, 1 to 8.
pub(super) fn thai_id(digits: &[u8]) -> bool {
    digits.len() == 13
        && (1..=8).contains(&digits[0])
        && (11 - weighted(digits, &[13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2]) % 11) % 10 == u32::from(digits[12])
}

/// The check digit of an NHS number.
pub(super) fn nhs(digits: &[u8]) -> bool {
    digits.len() == 10
        && 11 - weighted(digits, &[10, 9, 8, 7, 6, 5, 4, 3, 2]) % 11 == if digits[9] == 0 { 11 } else { u32::from(digits[9]) }
}

/// Whether an IBAN without spaces leaves 1 modulo 97 (ISO 13616, ISO 7064).
pub(super) fn iban(compact: &[u8]) -> bool {
    let (country, account) = compact.split_at(compact.len().min(4));
    account.iter().chain(country).fold(0u32, |rest, byte| match byte {
        b'0'..=b'9' => (rest * 10 + u32::from(byte - b'0')) % 97,
        _ => (rest * 100 + u32::from(byte.to_ascii_uppercase().saturating_sub(b'A')) + 10) % 97,
    }) == 1
}

/// The check digit of a part of a machine-readable line (ICAO 9303-3, 4.9): weights 7, 3, 1.
fn mrz_digit(part: &[u8], digit: u8) -> bool {
    let value = |byte: &u8| match byte {
        b'0'..=b'9' => u32::from(byte - b'0'),
        b'A'..=b'Z' => u32::from(byte - b'A') + 10,
        _ => 0,
    };
    let sum: u32 = part.iter().zip([7, 3, 1].into_iter().cycle()).map(|(byte, weight)| value(byte) * weight).sum();
    sum % 10 == value(&digit)
}

/// Whether 44 characters are the second line of a passport: four check digits and the one of all; the personal number's may
/// be a filler where there is none.
pub(super) fn mrz_line_2(line: &[u8]) -> bool {
    if line.len() != 44 || !line[9].is_ascii_digit() {
        return false;
    }
    let all: Vec<u8> = [&line[..10], &line[13..20], &line[21..43]].concat();
    mrz_digit(&line[..9], line[9])
        && mrz_digit(&line[13..19], line[19])
        && mrz_digit(&line[21..27], line[27])
        && mrz_digit(&line[28..42], line[42])
        && mrz_digit(&all, line[43])
}

/// Whether Base58Check decodes to 25 bytes of version 0 or 5 with the right checksum: a Bitcoin address.
pub(super) fn base58_bitcoin(text: &[u8]) -> bool {
    const ALPHABET: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
    let mut number = [0u8; 25];
    for byte in text {
        let Some(mut carry) = ALPHABET.iter().position(|c| c == byte).map(|at| at as u32) else { return false };
        for place in number.iter_mut().rev() {
            carry += u32::from(*place) * 58;
            *place = carry as u8;
            carry >>= 8;
        }
        if carry != 0 {
            return false;
        }
    }
    let ones = text.iter().take_while(|byte| **byte == b'1').count();
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    let hash = Sha256::digest(Sha256::digest(&number[..21]));
    matches!(number[0], 0 | 5) && ones == zeros && hash[..4] == number[21..]
}

/// Whether the checksum of a segwit address is right: Bech32 (BIP 173) or Bech32m (BIP 350).
pub(super) fn bech32(text: &[u8]) -> bool {
    const ALPHABET: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
    const GENERATOR: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
    let Some(one) = memchr::memrchr(b'1', text) else { return false };
    let mut check = 1u32;
    let mut step = |value: u32| {
        let top = check >> 25;
        check = (check & 0x1ff_ffff) << 5 ^ value;
        for (bit, generator) in GENERATOR.iter().enumerate() {
            check ^= if top >> bit & 1 == 1 { *generator } else { 0 };
        }
    };
    let prefix = text[..one].iter().map(u8::to_ascii_lowercase);
    prefix.clone().for_each(|byte| step(u32::from(byte >> 5)));
    step(0);
    prefix.for_each(|byte| step(u32::from(byte & 31)));
    for byte in &text[one + 1..] {
        let Some(value) = ALPHABET.iter().position(|c| *c == byte.to_ascii_lowercase()) else { return false };
        step(value as u32);
    }
    let lower = text.iter().any(u8::is_ascii_lowercase);
    let upper = text.iter().any(u8::is_ascii_uppercase);
    matches!(check, 1 | 0x2bc8_30a3) && lower != upper
}

/// The six bits that a character of Base64 stands for (RFC 4648, table 1).
pub(super) fn sextet(byte: u8) -> Option<u8> {
    Some(match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    })
}

/// Whether 48 characters of Base64 are an address of TON (TEP-2): a flag, a workchain, a hash and its CRC16-XMODEM.
pub(super) fn ton(text: &[u8]) -> bool {
    let mut bytes = [0u8; 36];
    if text.len() != 48 {
        return false;
    }
    for (four, three) in text.as_chunks::<4>().0.iter().zip(bytes.as_chunks_mut::<3>().0) {
        let mut word = 0u32;
        for byte in four {
            // In either alphabet.
            let value = match byte {
                b'-' => Some(62),
                b'_' => Some(63),
                byte => sextet(*byte),
            };
            let Some(value) = value else { return false };
            word = word << 6 | u32::from(value);
        }
        *three = [(word >> 16) as u8, (word >> 8) as u8, word as u8];
    }
    let mut crc = 0u16;
    for byte in &bytes[..34] {
        crc ^= u16::from(*byte) << 8;
        for _ in 0..8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 };
        }
    }
    matches!(bytes[0] & 0x7f, 0x11 | 0x51) && bytes[34..] == crc.to_be_bytes()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn of(check: fn(&[u8]) -> bool, text: &str) -> bool {
        let (digits, count) = digits::<24>(text.as_bytes()).unwrap();
        check(&digits[..count])
    }

    #[test]
    fn published_numbers_pass_and_their_neighbours_do_not() {
        for (check, right, wrong) in [
            (snils as fn(&[u8]) -> bool, "112-233-445 95", "112-233-445 96"),
            (inn, "7707083893", "7707083894"),
            (inn, "500100732259", "500100732258"),
            (thai_id, "3100600445635", "3100600445636"),
            (nhs, "943 476 5919", "943 476 5918"),
            (luhn, "378282246310005", "378282246310006"),
        ] {
            assert!(of(check, right) && !of(check, wrong), "{right}");
        }
        for (check, right, wrong) in [
            (iban as fn(&[u8]) -> bool, "GB82WEST12345698765432", "GB82WEST12345698765433"),
            (iban, "DE89370400440532013000", "DE89370400440532013001"),
            (base58_bitcoin, "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNb"),
            (base58_bitcoin, "3J98t1WpEZ73CNmQviecrnyiWrnqRhWNLy", "3J98t1WpEZ73CNmQviecrnyiWrnqRhWNLz"),
            (bech32, "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t5"),
            (bech32, "BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4", "Bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"),
            (ton, "EQCD39VS5jcptHL8vMjEXrzGaRcCVYto7HUn4bpAOg8xqB2N", "EQCD39VS5jcptHL8vMjEXrzGaRcCVYto7HUn4bpAOg8xqB2M"),
            (mrz_line_2, "L898902C36UTO7408122F1204159ZE184226B<<<<<10", "L898902C36UTO7408122F1204159ZE184226B<<<<<11"),
        ] {
            assert!(check(right.as_bytes()) && !check(wrong.as_bytes()), "{right}");
        }
    }
}
