//! Patterns of the configuration: checked when they are read, and searched for in a whole batch at once where that is safe.

use regex::bytes::{Regex, RegexBuilder};

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
}

impl Pattern {
    /// Compiles a pattern, or says what is wrong with it.
    pub(super) fn new(source: &str) -> Result<Pattern, String> {
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
        Ok(Pattern { regex, looks_around: looks_around(source) })
    }

    /// Calls `found` with each place of the pattern in one leaf.
    pub(super) fn find(&self, text: &[u8], mut found: impl FnMut(usize, usize)) {
        self.regex.find_iter(text).filter(|m| !m.is_empty()).for_each(|m| found(m.start(), m.end()));
    }

    /// Marks the blocks of a batch's bytes that hold leaves in which the pattern could be found, except leaves with escapes;
    /// says whether it can tell.
    ///
    /// A pattern that does not look around finds in the middle of other bytes what it finds in a leaf alone, or something
    /// that overlaps it: a search goes on where its last find ended, so it passes by no place where the pattern matches.
    pub(super) fn mark(&self, bytes: &[u8], hits: &mut Hits) -> bool {
        if !self.looks_around {
            self.find(bytes, |start, end| hits.mark(start, end));
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
