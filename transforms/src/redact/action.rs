//! What stands in the place of a value: a tag, what is harmless of it, or a pseudonym.

use std::sync::Arc;

use skidder_pipeline::json;

use super::catalog::Detector;
use super::checks;
use super::pseudonym::Keys;

/// What is done with what a rule finds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Puts a tag in its place: `[EMAIL]`.
    #[default]
    Replace,
    /// Keeps what is harmless: the first six and last four digits of a card, the country and last two digits of a telephone
    /// number, the first letter and top-level domain of a mail address, the network of an address; of others the last
    /// four characters where they have twelve or more and are no secret.
    Mask,
    /// Puts a tag with a keyed hash in its place, the same one for the same value: `[EMAIL:k3:9f1c2ab47d0e55c1]`. Needs
    /// `pseudonym_keys`.
    Pseudonym,
    /// Removes the field of the record's top level that it stands in.
    DropField,
    /// Drops the whole record.
    DropEvent,
    /// Leaves it and counts it, as `email.audit`.
    Audit,
}

impl Action {
    /// As the configuration writes it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Action::Replace => "replace",
            Action::Mask => "mask",
            Action::Pseudonym => "pseudonym",
            Action::DropField => "drop_field",
            Action::DropEvent => "drop_event",
            Action::Audit => "audit",
        }
    }
}

/// An action, ready to write.
#[derive(Clone)]
pub(super) struct Writer {
    pub(super) action: Action,
    detector: Option<Detector>,
    plain: Box<[u8]>,
    escaped: Box<[u8]>,
    tag: Box<str>,
    keys: Option<Arc<Keys>>,
}

impl Writer {
    /// Writes for what `detector` (or a rule of the configuration) finds; `replacement` is the text of the tag.
    pub(super) fn new(action: Action, detector: Option<Detector>, replacement: &str, tag: &str, keys: Option<Arc<Keys>>) -> Writer {
        let mut escaped = Vec::new();
        json::escape(replacement.as_bytes(), &mut escaped);
        Writer { action, detector, plain: replacement.as_bytes().into(), escaped: escaped.into(), tag: tag.into(), keys }
    }

    /// The text that is put in the place of values where it is always the same.
    pub(super) fn replacement(&self) -> &[u8] {
        &self.plain
    }

    /// Whether the value itself is needed.
    pub(super) fn needs_value(&self) -> bool {
        matches!(self.action, Action::Mask | Action::Pseudonym)
    }

    /// Appends what stands in the place of `value` (decoded); `escape` says whether it must be as within quotes of JSON.
    pub(super) fn write(&self, value: &[u8], escape: bool, out: &mut Vec<u8>) {
        match (self.action, &self.keys) {
            (Action::Mask, _) => {
                let masked = mask(self.detector, value);
                if escape { json::escape(&masked, out) } else { out.extend_from_slice(&masked) }
            }
            (Action::Pseudonym, Some(keys)) => keys.write(&self.tag, self.detector.map_or(&self.tag, |d| d.entry().name), value, out),
            _ => out.extend_from_slice(if escape { &self.escaped } else { &self.plain }),
        }
    }
}

/// The value with all but what is harmless as `*`. Three stars stand together in each, so that it is taken for no value.
fn mask(detector: Option<Detector>, value: &[u8]) -> Vec<u8> {
    let digits: Vec<u8> = value.iter().copied().filter(u8::is_ascii_digit).collect();
    match detector {
        Some(Detector::CreditCard) if digits.len() >= 13 => {
            [&digits[..6], &b"*".repeat(digits.len() - 10), &digits[digits.len() - 4..]].concat()
        }
        Some(Detector::Phone) if digits.len() >= 7 => {
            let country: &[u8] = if value.starts_with(b"+") { &value[..2] } else { b"" };
            [country, b"*******", &digits[digits.len() - 2..]].concat()
        }
        Some(Detector::Email) => {
            let first = value.first().copied().filter(u8::is_ascii_alphanumeric);
            let top = memchr::memrchr(b'.', value).map_or(&b""[..], |dot| &value[dot..]);
            [first.as_slice(), b"***@***", top].concat()
        }
        Some(Detector::Ipv4) => {
            let network = value.iter().enumerate().filter(|(_, byte)| **byte == b'.').nth(1).map_or(0, |(at, _)| at + 1);
            [&value[..network], b"***.***"].concat()
        }
        Some(detector) if matches!(detector.entry().group, super::catalog::Group::Secrets) => b"***".to_vec(),
        Some(Detector::Name | Detector::BirthDate | Detector::SeedPhrase | Detector::CardCode | Detector::Mrz) => b"***".to_vec(),
        _ => {
            let kept: Vec<u8> = value.iter().copied().filter(u8::is_ascii_alphanumeric).collect();
            let last = if kept.len() >= 12 { &kept[kept.len() - 4..] } else { &[] };
            [b"********", last].concat()
        }
    }
}

/// The value in the one form that all ways of writing it have.
pub(super) fn normal(kind: &str, value: &[u8]) -> Vec<u8> {
    match kind {
        "email" | "ethereum" | "mac" => value.to_ascii_lowercase(),
        "phone" => {
            let digits: Vec<u8> = value.iter().copied().filter(u8::is_ascii_digit).collect();
            // Russian numbers are written with 8 at home and with 7 from abroad.
            if digits.len() == 11 && digits[0] == b'8' && !value.starts_with(b"+") { [b"7", &digits[1..]].concat() } else { digits }
        }
        "ipv6" => std::str::from_utf8(value)
            .ok()
            .and_then(|text| text.parse::<std::net::Ipv6Addr>().ok())
            .map_or_else(|| value.to_vec(), |address| address.to_string().into_bytes()),
        "credit_card" | "snils" | "inn" | "thai_id" | "us_ssn" | "vn_cccd" | "uk_nhs" | "ru_passport" => {
            match checks::digits::<24>(value) {
                Some((digits, count)) if count > 0 => digits[..count].iter().map(|digit| digit + b'0').collect(),
                _ => value.to_vec(),
            }
        }
        "iban" => value.iter().filter(|byte| byte.is_ascii_alphanumeric()).map(u8::to_ascii_uppercase).collect(),
        _ => value.to_vec(),
    }
}
