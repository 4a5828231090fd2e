//! Patterns of the configuration: checked when they are read, and searched for in a whole batch at once where that is safe.

use regex::bytes::{Regex, RegexBuilder};

use super::checks;
use super::scan::Hits;

/// The most bytes that a compiled pattern may take, so that all rules together stay well within the agent's memory.
const MAX_PATTERN_BYTES: usize = 256 << 10;

/// The most bytes of each table that a search builds while it runs. It starts the table anew when it is full.
const MAX_TABLE_BYTES: usize = 128 << 10;

/// A regular expression, and whether what is around a text can change what it finds there.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    regex: Regex,
    looks_around: bool,
    conditions: Conditions,
}

/// What must be so for a match to count.
#[derive(Clone, Debug, Default)]
pub(super) struct Conditions {
    /// In small letters: one of them must stand before the value, or in its key.
    pub(super) keywords: Vec<Vec<u8>>,
    /// How far before it.
    pub(super) within_bytes: usize,
    pub(super) validator: Option<Validator>,
    /// Values that stay.
    pub(super) allow: Vec<Vec<u8>>,
}

/// Checks of digits and checksums that a rule of the configuration can ask for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Validator {
    /// Luhn's check digit, of payment cards and IMEIs.
    Luhn,
    /// A remainder of 1 modulo 97, of bank accounts.
    Iban,
    /// Russian insurance numbers.
    Snils,
    /// Russian tax numbers.
    Inn,
    /// Thai national numbers.
    ThaiId,
    /// UK health service numbers.
    UkNhs,
    /// Bitcoin's Base58Check.
    Base58,
    /// Bitcoin's Bech32 and Bech32m.
    Bech32,
    /// TON's CRC.
    Ton,
}

impl Validator {
    fn passes(self, value: &[u8]) -> bool {
        let digits =
            |check: fn(&[u8]) -> bool| checks::digits::<32>(value).is_some_and(|(digits, count)| count > 0 && check(&digits[..count]));
        let compact: Vec<u8> = value.iter().copied().filter(|byte| byte.is_ascii_alphanumeric()).collect();
        match self {
            Validator::Luhn => digits(checks::luhn),
            Validator::Snils => digits(checks::snils),
            Validator::Inn => digits(checks::inn),
            Validator::ThaiId => digits(checks::thai_id),
            Validator::UkNhs => digits(checks::nhs),
            Validator::Iban => checks::iban(&compact),
            Validator::Base58 => checks::base58_bitcoin(value),
            Validator::Bech32 => checks::bech32(value),
            Validator::Ton => checks::ton(value),
        }
    }
}

impl Conditions {
    fn hold(&self, text: &[u8], key: &[u8], start: usize, end: usize) -> bool {
        let value = &text[start..end];
        let near = || {
            let before = text[start.saturating_sub(self.within_bytes)..start].to_ascii_lowercase();
            let key = key.to_ascii_lowercase();
            let has = |keyword: &Vec<u8>| [&before, &key].iter().any(|place| memchr::memmem::find(place, keyword).is_some());
            self.keywords.is_empty() || self.keywords.iter().any(has)
        };
        !self.allow.iter().any(|allowed| allowed == value) && self.validator.is_none_or(|check| check.passes(value)) && near()
    }
}

impl Pattern {
    /// Compiles a pattern, or says what is wrong with it.
    pub(super) fn new(source: &str, conditions: Conditions) -> Result<Pattern, String> {
        let regex =
            RegexBuilder::new(source).size_limit(MAX_PATTERN_BYTES).dfa_size_limit(MAX_TABLE_BYTES).build().map_err(
                |error| match error {
                    regex::Error::CompiledTooBig(_) => {
                        format!(
                            "the pattern takes more than {} KiB when it is compiled; use fewer or smaller repetitions",
                            MAX_PATTERN_BYTES >> 10
                        )
                    }
                    // The library draws the pattern with a caret over several lines; the last one says what is wrong.
                    other => {
                        let text = other.to_string();
                        format!("the pattern is wrong: {}", text.lines().last().unwrap_or_default().trim_start_matches("error: "))
                    }
                },
            )?;
        // `\b` and the like match the empty string in some texts only.
        if ["", "a", " a 1 "].iter().any(|text| regex.find_iter(text.as_bytes()).any(|found| found.is_empty())) {
            return Err("the pattern matches the empty string, so it would match everywhere; use `+` in place of `*`".to_owned());
        }
        Ok(Pattern { regex, looks_around: looks_around(source), conditions })
    }

    /// Calls `found` with each place of the pattern in one leaf that stands below `key`, where its conditions hold.
    pub(super) fn find(&self, text: &[u8], key: &[u8], mut found: impl FnMut(usize, usize)) {
        let matches = self.regex.find_iter(text).filter(|m| !m.is_empty());
        matches.filter(|m| self.conditions.hold(text, key, m.start(), m.end())).for_each(|m| found(m.start(), m.end()));
    }

    /// Marks the blocks of a batch's bytes that hold leaves in which the pattern could be found, except leaves with escapes;
    /// says whether it can tell.
    ///
    /// A pattern that does not look around finds in the middle of other bytes what it finds in a leaf alone, or something
    /// that overlaps it: a search goes on where its last find ended, so it passes by no place where the pattern matches.
    pub(super) fn mark(&self, bytes: &[u8], hits: &mut Hits) -> bool {
        if !self.looks_around {
            self.regex.find_iter(bytes).for_each(|found| hits.mark(found.start(), found.end()));
        }
        !self.looks_around
    }
}

/// Whether a pattern may hold `^`, `$`, `\b` or another assertion. Says yes too often (`\\b`), never too seldom.
fn looks_around(source: &str) -> bool {
    let anchor = source.char_indices().any(|(at, c)| c == '$' || (c == '^' && !source[..at].ends_with('[')));
    anchor || ["\\b", "\\B", "\\A", "\\z", "\\<", "\\>"].iter().any(|assertion| source.contains(assertion))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_patterns_that_look_around() {
        for source in ["^a", "a$", r"\bx", r"x\B", r"\Ax", r"x\z", r"\<x", r"x\>", "(?m)a|^b", r"\b{start}x", r"[\^^]"] {
            assert!(looks_around(source), "{source}");
        }
        for source in ["BK-[0-9]{6}", "[^a-z]+x", r"\d+\.\d+", r"\pL+@", "(?i)token=\\S+"] {
            assert!(!looks_around(source), "{source}");
        }
    }
}
