//! Words near a number that say what it is: `phone`, `ИНН`, `บัตรประชาชน`.

use super::text::{Text, is_tag};

/// Words for telephones.
pub(super) const PHONE: u16 = 1;
/// Words for the Russian tax number.
pub(super) const INN: u16 = 1 << 1;
/// Words for passports.
pub(super) const PASSPORT: u16 = 1 << 2;
/// Words for the Russian insurance number.
pub(super) const SNILS: u16 = 1 << 3;
/// Words for the US social security number.
pub(super) const SSN: u16 = 1 << 4;
/// Words for national numbers, Thai ones among them.
pub(super) const CITIZEN: u16 = 1 << 5;
/// Words for the Vietnamese citizen number.
pub(super) const CCCD: u16 = 1 << 6;
/// Words for the British health service.
pub(super) const NHS: u16 = 1 << 7;
/// Words for what is a number and no one's: traces, spans, offsets, times.
pub(super) const MACHINE: u16 = 1 << 8;

/// Words for accounts at banks.
pub(super) const ACCOUNT: u16 = 1 << 9;

/// Words for what names a thing, where nothing stands between them and the number: `order`, `id`.
pub(super) const THING: u16 = 1 << 10;

/// Words for a person's number and for that of a process or a connection, where nothing stands between: `pid`, `cid`.
pub(super) const HOLDER: u16 = 1 << 11;

/// What is said by the nearest word alone.
const NEAREST: u16 = THING | HOLDER;

/// How far before a number a word counts.
const REACH_BYTES: usize = 44;
/// The same in a script with three bytes a letter.
const WIDE_REACH_BYTES: usize = 96;
/// The same among bytes as they were written, where a key may stand between.
const RAW_REACH_BYTES: usize = 200;
/// How many words before a number are those right beside it.
const BESIDE_WORDS: usize = 2;
/// The same among written bytes, where words of the key stand before the value.
const RAW_BESIDE_WORDS: usize = 5;

/// How much of a key is looked at, from its end, so that what is written before a number reaches over it.
const KEY_BYTES: usize = 40;

/// All that words can say for a number, where it cannot be told from what was written.
const ALL: u16 = !(MACHINE | THING);

/// What the words within reach before `at` say, and the key that the text stands below.
pub(super) fn near(text: &Text<'_>, at: usize) -> u16 {
    let Some(window) = window(text, at) else { return ALL };
    let mut bits = foreign(window);
    words(window, usize::MAX, |_, says| bits |= says & !NEAREST);
    // A key counts where there is little between it and the number.
    if at <= REACH_BYTES { bits | of_key(text) } else { bits }
}

/// What the last words before `at` say, or the key where nothing but the number stands there.
pub(super) fn beside(text: &Text<'_>, at: usize) -> u16 {
    let Some(window) = window(text, at) else { return ALL };
    let window = if text.raw { window } else { own_key(window) };
    let mut bits = foreign(window);
    // `id 7 4111111111111111`: another number is what the word names.
    let between = window.iter().rev().take_while(|byte| !byte.is_ascii_alphabetic()).any(u8::is_ascii_digit);
    words(window, if text.raw { RAW_BESIDE_WORDS } else { BESIDE_WORDS }, |index, says| {
        bits |= nearest(index + usize::from(between), says)
    });
    let alone = at <= REACH_BYTES && !window.iter().any(|byte| byte.is_ascii_alphabetic());
    if alone { bits | of_key(text) } else { bits }
}

/// Where a number has a key of its own (`id=12`, `"id":12`), this alone: what stands before it is about another value.
fn own_key(window: &[u8]) -> &[u8] {
    let quote = |byte: &u8| matches!(byte, b' ' | b'"' | b'\'' | b'[' | b'(' | b'+');
    let value = window.len() - window.iter().rev().take_while(|byte| quote(byte)).count();
    let sign = value - window[..value].iter().rev().take_while(|byte| matches!(byte, b'=' | b':')).count();
    if sign == value {
        return window;
    }
    let key = sign - window[..sign].iter().rev().take_while(|byte| quote(byte) || **byte == b')').count();
    let part = |byte: &u8| byte.is_ascii_alphanumeric() || *byte >= 0x80 || matches!(byte, b'_' | b'-' | b'.' | b' ');
    let start = key - window[..key].iter().rev().take_while(|byte| part(byte)).count();
    &window[start..]
}

/// Whether some word of a key says something.
pub(super) fn in_key(key: &[u8]) -> bool {
    let text = Text { bytes: &[], starts: &[], key, raw: false };
    of_key(&text) != 0
}

/// What stands before `at`; `None` where it was written with escapes that were not decoded.
fn window<'a>(text: &Text<'a>, at: usize) -> Option<&'a [u8]> {
    let wide = || at > 3 && text.bytes[at.saturating_sub(REACH_BYTES)..at].contains(&0xe0);
    let reach = match text.raw {
        true => RAW_REACH_BYTES,
        false if wide() => WIDE_REACH_BYTES,
        false => REACH_BYTES,
    };
    let window = &text.bytes[at.saturating_sub(reach)..at];
    (!text.raw || memchr::memchr2(b'\\', b'%', window).is_none()).then_some(window)
}

fn of_key(text: &Text<'_>) -> u16 {
    let key = &text.key[text.key.len().saturating_sub(KEY_BYTES)..];
    let mut bits = foreign(key);
    words(key, RAW_BESIDE_WORDS - 1, |index, says| bits |= nearest(index, says));
    bits
}

/// What the word at `index` before a number says.
fn nearest(index: usize, says: u16) -> u16 {
    if index == 0 { says } else { says & !NEAREST }
}

/// Calls `found` with each of the last `most` words of the window, the nearest first, and what it says.
fn words(window: &[u8], most: usize, mut found: impl FnMut(usize, u16)) {
    let mut end = window.len();
    let mut index = 0;
    while end > 0 && index < most {
        // A tag says nothing of what follows it, but stands between.
        if window[end - 1] == b']'
            && let Some(start) = memchr::memrchr(b'[', &window[..end])
            && is_tag(&window[start..end])
        {
            (index, end) = (index + 1, start);
            continue;
        }
        if !window[end - 1].is_ascii_alphabetic() {
            end -= 1;
            continue;
        }
        let mut start = end;
        while start > 0 && window[start - 1].is_ascii_alphabetic() {
            start -= 1;
            // `phoneNumber` is two words.
            if start > 0 && window[start].is_ascii_uppercase() && window[start - 1].is_ascii_lowercase() {
                break;
            }
        }
        found(index, says(&window[start..end]));
        index += 1;
        end = start;
    }
}

/// What a word of the English alphabet says.
fn says(word: &[u8]) -> u16 {
    let mut lower = [0; 10];
    let Some(lower) = lower.get_mut(..word.len()) else { return 0 };
    lower.copy_from_slice(word);
    lower.make_ascii_lowercase();
    match &*lower {
        b"phone" | b"phones" | b"tel" | b"telephone" | b"mobile" | b"mob" | b"msisdn" | b"cell" | b"cellphone" | b"whatsapp" | b"viber"
        | b"zalo" | b"fax" | b"sdt" | b"hotline" => PHONE,
        b"inn" | b"tin" => INN,
        b"passport" => PASSPORT,
        b"snils" => SNILS,
        b"ssn" => SSN,
        b"citizen" | b"national" | b"nationalid" | b"idcard" | b"thai" | b"identity" => CITIZEN,
        b"pid" | b"cid" => HOLDER,
        b"cccd" | b"cmnd" => CCCD,
        b"nhs" => NHS,
        b"trace" | b"traceid" | b"span" | b"spanid" | b"timestamp" | b"offset" | b"ts" | b"nanos" => MACHINE,
        b"id" | b"ids" | b"uid" | b"guid" | b"seq" | b"sequence" | b"order" | b"tracking" | b"ref" | b"reference" | b"block" | b"blk"
        | b"ticket" => THING,
        b"card" => CITIZEN,
        b"account" | b"acct" | b"iban" => ACCOUNT,
        _ => 0,
    }
}

/// Words of other scripts. Russian ones begin where no letter stands before, and may have endings; abbreviations have none.
/// Thai has no spaces, so its words are parts of what stands there.
fn foreign(window: &[u8]) -> u16 {
    const WORDS: &[(&str, u16)] = &[
        ("тел", PHONE),
        ("Тел", PHONE),
        ("моб", PHONE),
        ("Моб", PHONE),
        ("телефон", PHONE),
        ("Телефон", PHONE),
        ("мобильн", PHONE),
        ("Мобильн", PHONE),
        ("факс", PHONE),
        ("Факс", PHONE),
        ("โทร", PHONE),
        ("มือถือ", PHONE),
        ("เบอร์", PHONE),
        ("แฟกซ์", PHONE),
        ("sđt", PHONE),
        ("SĐT", PHONE),
        ("điện thoại", PHONE),
        ("Điện thoại", PHONE),
        ("di động", PHONE),
        ("ИНН", INN),
        ("инн", INN),
        ("паспорт", PASSPORT),
        ("Паспорт", PASSPORT),
        ("ПАСПОРТ", PASSPORT),
        ("СНИЛС", SNILS),
        ("снилс", SNILS),
        ("Снилс", SNILS),
        ("ติดต่อ", PHONE),
        ("บัญชี", ACCOUNT),
        ("หนังสือเดินทาง", PASSPORT),
        ("พาสปอร์ต", PASSPORT),
        ("hộ chiếu", PASSPORT),
        ("Hộ chiếu", PASSPORT),
        ("ประชาชน", CITIZEN),
        ("ประจำตัว", CITIZEN),
        ("บัตร", CITIZEN),
        ("căn cước", CCCD),
        ("Căn cước", CCCD),
        ("Số định danh", CCCD),
        ("số định danh", CCCD),
    ];
    if window.is_ascii() {
        return 0;
    }
    let letter = |byte: Option<&u8>| byte.is_some_and(|byte| *byte >= 0x80 || byte.is_ascii_alphabetic());
    let mut bits = 0;
    for &(word, says) in WORDS {
        let word = word.as_bytes();
        let cyrillic = matches!(word[0], 0xd0 | 0xd1);
        let fits = |at: usize| {
            let before = at.checked_sub(1).and_then(|at| window.get(at));
            !cyrillic || !letter(before) && (word.len() > 6 || !letter(window.get(at + word.len())))
        };
        if bits & says == 0 && memchr::memmem::find_iter(window, word).any(fits) {
            bits |= says;
        }
    }
    bits
}

/// Whether there are Thai letters around `at`: a number of the right form and check digit is then a Thai one.
pub(super) fn is_thai(text: &Text<'_>, at: usize) -> bool {
    const AROUND_BYTES: usize = 200;
    let window = &text.bytes[at.saturating_sub(AROUND_BYTES)..text.bytes.len().min(at + AROUND_BYTES)];
    window.windows(2).any(|pair| pair[0] == 0xe0 && matches!(pair[1], 0xb8 | 0xb9))
}
