//! From the text of one leaf to the text without what the rules take out.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use skidder_pipeline::json;

use super::action::{Action, Writer};
use super::catalog::{COUNT, Detector};
use super::pattern::Pattern;
use super::readers::{self, Wanted};
use super::scan::Hits;
use super::text::Text;
use super::view::View;
use super::{keys, names, reference};

/// How often a leaf is looked at again after something was taken out. Taking a value out can uncover another one beside it;
/// two rounds are the most that the built-in rules need. Own rules that feed each other for ever are stopped here.
const MAX_ROUNDS: usize = 8;

/// What stands in the place of a value that could not be checked.
pub(super) const WITHHELD: &[u8] = b"[REDACTED:error]";

/// What withheld values are counted under. No rule may have this name.
pub(super) const WITHHELD_NAME: &str = "error";

/// How the text of a leaf is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Form {
    /// As it is.
    Plain,
    /// Escaped, as between the quotes of JSON.
    Escaped,
}

/// A rule: its name, what it is counted under, what it puts in the place of values, and how it finds them.
pub(super) struct Rule {
    pub(super) name: Arc<str>,
    /// The name and the action: `email.mask`; the name alone for `replace`.
    pub(super) counted: Arc<str>,
    pub(super) writer: Writer,
    pub(super) finder: Finder,
}

/// How a rule finds values.
#[derive(Clone, Debug)]
pub(super) enum Finder {
    /// By one of the hand-written detectors.
    Detector(Detector),
    /// By a regular expression of the configuration.
    Pattern(Pattern),
}

/// A value that a rule found: where, and the rule's index.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Hit {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) rule: usize,
}

/// The rules, ready to be applied, and the space that this takes.
pub(super) struct Engine {
    rules: Vec<Rule>,
    /// The rule of each detector that is on.
    detectors: [Option<usize>; COUNT],
    wanted: Wanted,
    patterns: Vec<usize>,
    view: View,
    /// For one value alone.
    value: View,
    groups: Vec<(usize, usize)>,
    hits: Vec<Hit>,
    /// The leaf as the last round left it, and as the next one makes it.
    current: Vec<u8>,
    next: Vec<u8>,
    /// Where a part of the leaf lies that alone will be shown, as it moves from round to round.
    part: (usize, usize),
    /// How many values each rule took out since the counts were taken.
    counts: Vec<u64>,
    /// How many leaves were withheld since then.
    withheld: u64,
    /// What is to become of the field and the record that the last leaves stand in.
    pub(super) drops: Drops,
    paranoid: bool,
    /// Where a text starts in memory of which leaves are slices, and what was found in them as they were written; kept only where
    /// someone wants to know.
    pub(super) trace: Option<(usize, Vec<Hit>)>,
}

/// What is to be dropped because of what was found in it.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Drops {
    pub(super) field: bool,
    pub(super) event: bool,
}

impl Engine {
    pub(super) fn new(rules: Vec<Rule>, keep_private: bool, paranoid: bool) -> Engine {
        let mut detectors = [None; COUNT];
        let mut patterns = Vec::new();
        for (index, rule) in rules.iter().enumerate() {
            match rule.finder {
                Finder::Detector(detector) => detectors[detector as usize] = Some(index),
                Finder::Pattern(_) => patterns.push(index),
            }
        }
        let counts = vec![0; rules.len()];
        Engine {
            rules,
            wanted: Wanted::new(detectors.map(|rule| rule.is_some()), keep_private),
            detectors,
            patterns,
            view: View::default(),
            value: View::default(),
            groups: Vec::new(),
            hits: Vec::new(),
            current: Vec::new(),
            next: Vec::new(),
            part: (0, 0),
            counts,
            withheld: 0,
            drops: Drops::default(),
            paranoid,
            trace: None,
        }
    }

    /// The rules.
    pub(super) fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Marks the blocks of a batch's bytes in which the rules could find something; says whether that can be told, so that
    /// not every leaf must be looked at.
    pub(super) fn mark(&mut self, bytes: &[u8], hits: &mut Hits) -> bool {
        hits.clear(bytes.len());
        if self.paranoid {
            return false;
        }
        let text = Text { bytes, starts: &[], key: &[], raw: true };
        readers::read(text, &self.wanted, &mut self.groups, |_, start, end| hits.mark(start, end));
        if self.patterns.is_empty() {
            return true;
        }
        // What a leaf with escapes holds is seen in its decoded view alone.
        memchr::memchr_iter(b'\\', bytes).for_each(|at| hits.mark(at, at + 1));
        self.patterns.iter().all(|rule| match &self.rules[*rule].finder {
            Finder::Pattern(pattern) => pattern.mark(bytes, hits),
            Finder::Detector(_) => true,
        })
    }

    /// Takes values out of a leaf that stands below `key` (escaped form; empty where it stands below none); `None` where
    /// there is none.
    ///
    /// Should this go wrong, the whole leaf is withheld: nothing that was not checked gets out.
    pub(super) fn redact(&mut self, raw: &[u8], form: Form, key: &[u8]) -> Option<&[u8]> {
        match catch_unwind(AssertUnwindSafe(|| self.rounds(raw, form, key))) {
            Ok(Ok(false)) => None,
            Ok(Ok(true)) => Some(&self.current),
            Ok(Err(Endless)) | Err(_) => {
                self.withheld += 1;
                Some(WITHHELD)
            }
        }
    }

    /// Takes values out of a leaf of which only `part` will be shown, and says where that is then. A value that the edge of
    /// the part goes through belongs to what is before the edge, as a whole.
    pub(super) fn redact_part(&mut self, raw: &[u8], form: Form, key: &[u8], part: (usize, usize)) -> Option<(&[u8], (usize, usize))> {
        self.part = part;
        let withheld = self.withheld;
        self.redact(raw, form, key)?;
        if self.withheld > withheld { Some((WITHHELD, (0, WITHHELD.len()))) } else { Some((&self.current, self.part)) }
    }

    /// Where someone wants to know what is found, begins to keep it for `inner`, what a string says; gives what was kept so far.
    pub(super) fn trace_within(&mut self, inner: &[u8]) -> Option<(usize, Vec<Hit>)> {
        let outer = self.trace.take()?;
        self.trace = Some((inner.as_ptr() as usize, Vec::new()));
        Some(outer)
    }

    /// Adds what was found in the inside of the string `text` to what was kept before.
    pub(super) fn trace_again(&mut self, outer: Option<(usize, Vec<Hit>)>, text: &[u8]) {
        let (Some((base, mut found)), Some((_, inner))) = (outer, self.trace.take()) else { return };
        let at = (text.as_ptr() as usize).saturating_sub(base);
        let starts = json::starts(text);
        let written = |end: usize| at + starts.get(end).copied().unwrap_or(text.len());
        found.extend(inner.into_iter().map(|hit| Hit { start: written(hit.start), end: written(hit.end), ..hit }));
        self.trace = Some((base, found));
    }

    /// The counts of each rule that took something out since the last call, and of what was withheld.
    pub(super) fn take_counts(&mut self, mut each: impl FnMut(&Arc<str>, u64)) {
        if self.withheld > 0 {
            each(&WITHHELD_NAME.into(), std::mem::take(&mut self.withheld));
        }
        for (rule, count) in self.rules.iter().zip(&mut self.counts) {
            if *count > 0 {
                each(&rule.counted, std::mem::take(count));
            }
        }
    }

    fn rounds(&mut self, raw: &[u8], form: Form, key: &[u8]) -> Result<bool, Endless> {
        for round in 0..MAX_ROUNDS {
            let current = std::mem::take(&mut self.current);
            let text = if round == 0 { raw } else { &current };
            self.find(text, key);
            if round == 0
                && let Some((base, found)) = &mut self.trace
            {
                let at = (raw.as_ptr() as usize).saturating_sub(*base);
                found.extend(self.hits.iter().map(|hit| Hit { start: hit.start + at, end: hit.end + at, ..*hit }));
            }
            self.leave_audited(round == 0);
            let found = !self.hits.is_empty();
            if found {
                self.splice(text, form);
            }
            self.current = current;
            if !found {
                return Ok(round > 0);
            }
            std::mem::swap(&mut self.current, &mut self.next);
        }
        Err(Endless)
    }

    /// What is to be taken out of `raw`: in order, and none overlapping another.
    pub(super) fn find(&mut self, raw: &[u8], key: &[u8]) -> &[Hit] {
        self.hits.clear();
        let decoded = View::differs(raw);
        if decoded {
            self.view.decode(raw);
        }
        let (bytes, starts) = if decoded { (self.view.text(), self.view.starts.as_slice()) } else { (raw, &[][..]) };
        let key = if key.contains(&b'\\') { json::unescape(key) } else { key.into() };
        let text = Text { bytes, starts, key: &key, raw: false };
        let (detectors, hits) = (&self.detectors, &mut self.hits);
        let mut found = |detector: Detector, start, end| {
            if let Some(rule) = detectors[detector as usize] {
                hits.push(Hit { start, end, rule });
            }
        };
        if self.paranoid {
            reference::read(text, &self.wanted, &mut found);
        } else {
            readers::read(text, &self.wanted, &mut self.groups, &mut found);
        }
        if let Some(says) = names::says(&key, false) {
            let value = keys::KeyValue { says, start: 0, end: bytes.len(), quoted: true, run: (0, 0) };
            keys::judge(&text, &value, &mut found);
        }
        for &rule in &self.patterns {
            if let Finder::Pattern(pattern) = &self.rules[rule].finder {
                pattern.find(bytes, &key, |start, end| self.hits.push(Hit { start, end, rule }));
            }
        }
        if decoded {
            for hit in &mut self.hits {
                (hit.start, hit.end) = self.view.written(hit.start, hit.end);
            }
        }
        widen(raw, &mut self.hits);
        merge(&mut self.hits);
        &self.hits
    }

    /// Leaves what is only to be counted out of the hits.
    fn leave_audited(&mut self, first_round: bool) {
        let (rules, counts) = (&self.rules, &mut self.counts);
        self.hits.retain(|hit| {
            let audited = rules[hit.rule].writer.action == Action::Audit;
            counts[hit.rule] += u64::from(audited && first_round);
            !audited
        });
    }

    /// Writes `raw` with each hit replaced to `next`, and moves the part along.
    fn splice(&mut self, raw: &[u8], form: Form) {
        self.next.clear();
        let mut done = 0;
        // The quotes of the number before, which are those of the others in its array.
        let mut last_quote = None;
        let edges = [self.part.0, self.part.1];
        let mut moved = edges;
        for hit in &self.hits {
            let rule = &self.rules[hit.rule];
            if hit.start < done {
                continue; // a number that was taken out as a whole
            }
            let number = number(raw, hit, done, form, last_quote);
            last_quote = number.as_ref().map(|number| number.slashes);
            let (start, end) = number.as_ref().map_or((hit.start, hit.end), |number| (number.start, number.end));
            let quote = number.map_or(0, |number| number.slashes + 1);
            let quote =
                |out: &mut Vec<u8>| out.extend(std::iter::repeat_n(b'\\', quote.saturating_sub(1)).chain((quote > 0).then_some(b'"')));
            for (edge, moved) in edges.iter().zip(&mut moved).filter(|(edge, _)| (done..=start).contains(*edge)) {
                *moved = self.next.len() + edge - done;
            }
            self.next.extend_from_slice(&raw[done..start]);
            quote(&mut self.next);
            let value = &raw[hit.start..hit.end];
            if rule.writer.needs_value() {
                self.value.decode(value);
                rule.writer.write(self.value.text(), form == Form::Escaped, &mut self.next);
            } else {
                rule.writer.write(value, form == Form::Escaped, &mut self.next);
            }
            quote(&mut self.next);
            for (_, moved) in edges.iter().zip(&mut moved).filter(|(edge, _)| (start + 1..end).contains(*edge)) {
                *moved = self.next.len();
            }
            self.drops.field |= rule.writer.action == Action::DropField;
            self.drops.event |= rule.writer.action == Action::DropEvent;
            self.counts[hit.rule] += 1;
            done = end;
        }
        for (edge, moved) in edges.iter().zip(&mut moved).filter(|(edge, _)| **edge >= done) {
            *moved = self.next.len() + edge - done;
        }
        self.next.extend_from_slice(&raw[done..]);
        self.part = (moved[0], moved[1]);
    }
}

/// Own rules that would go on for ever.
struct Endless;

/// The most backslashes before a quote: those of JSON six levels deep.
const MAX_SLASHES: usize = 63;

/// A number of JSON within a text, and how many backslashes the quotes there have.
struct Number {
    start: usize,
    end: usize,
    slashes: usize,
}

/// The number that a hit is (a part of), if it stands in the place of a value of JSON within the text: what takes its place
/// must have quotes, at the same depth of escapes as those around it. Before `done` the text was read already.
fn number(raw: &[u8], hit: &Hit, done: usize, form: Form, last_quote: Option<usize>) -> Option<Number> {
    let numeric = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E');
    if !raw[hit.start..hit.end].iter().all(numeric) {
        return None;
    }
    let start = hit.start - raw[done..hit.start].iter().rev().take_while(|byte| numeric(byte)).count();
    let end = hit.end + raw[hit.end..].iter().take_while(|byte| numeric(byte)).count();
    let after = raw[end..].trim_ascii_start().first();
    let between = &raw[done..start];
    let slashes = match between.trim_ascii_end().last() {
        Some(b':') if matches!(after, Some(b',' | b'}' | b'\\') | None) => quote_before(raw, start),
        // An element of an array: the nearest quotes before it, or those of its key.
        Some(b',' | b'[') if matches!(after, Some(b',' | b']')) => {
            let plain =
                |byte: &u8| numeric(byte) || byte.is_ascii_whitespace() || byte.is_ascii_lowercase() || matches!(byte, b',' | b'[' | b']');
            let before = start - between.iter().rev().take_while(|byte| plain(byte)).count();
            let first = raw[before..start].trim_ascii_start().first();
            match (before.checked_sub(1).map(|at| raw[at]), first) {
                _ if before == done && done > 0 => last_quote,
                (None, Some(b'[')) => Some(usize::from(form == Form::Escaped)),
                // The array stands at the start of a string, so its own are a level deeper; or after another element.
                (Some(b'"'), Some(b'[')) => Some(2 * quote_before(raw, before)? + 1),
                (Some(b'"'), Some(b',')) | (Some(b':'), Some(b'[')) => quote_before(raw, before),
                _ => None,
            }
        }
        _ => None,
    };
    // In a string, a quote without a backslash, or with one that is itself escaped, would be its end.
    let fits = |slashes: &usize| *slashes <= MAX_SLASHES && (form == Form::Plain || slashes % 2 == 1);
    slashes.filter(fits).map(|slashes| Number { start, end, slashes })
}

/// How many backslashes the quote has that stands before `at`, with a `:` between or none.
fn quote_before(raw: &[u8], at: usize) -> Option<usize> {
    let before = raw[..at].trim_ascii_end();
    let before = before.strip_suffix(b":").map_or(before, <[u8]>::trim_ascii_end);
    Some(before.strip_suffix(b"\"")?.iter().rev().take(MAX_SLASHES + 1).take_while(|byte| **byte == b'\\').count())
}

/// Moves the ends of hits outwards to whole characters: a pattern of the configuration may match bytes.
fn widen(raw: &[u8], hits: &mut [Hit]) {
    let inside = |at: usize| raw.get(at).is_some_and(|byte| byte & 0xc0 == 0x80);
    for hit in hits {
        while hit.start > 0 && inside(hit.start) {
            hit.start -= 1;
        }
        while inside(hit.end) {
            hit.end += 1;
        }
    }
}

/// Makes one of hits that overlap, so that no half of a value is left: all of their bytes, under the rule of the first (of
/// the longest, where they start together).
pub(super) fn merge(hits: &mut Vec<Hit>) {
    hits.sort_unstable_by_key(|hit| (hit.start, usize::MAX - hit.end, hit.rule));
    hits.dedup_by(|hit, first| {
        let overlaps = hit.start < first.end;
        if overlaps {
            first.end = first.end.max(hit.end);
        }
        overlaps
    });
}
