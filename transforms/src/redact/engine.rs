//! From the text of one leaf to the text without what the rules take out.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use skidder_pipeline::json;

use super::pattern::Pattern;
use super::scan::{self, Hits, Places};
use super::view::View;
use super::{Builtin, detect};

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

/// A rule: its name for the counts, what it puts in the place of values, and how it finds them.
pub(super) struct Rule {
    pub(super) name: Arc<str>,
    pub(super) replacement: Box<[u8]>,
    pub(super) escaped: Box<[u8]>,
    pub(super) finder: Finder,
}

/// How a rule finds values.
#[derive(Clone, Debug)]
pub(super) enum Finder {
    /// By one of the hand-written detectors.
    Builtin(Builtin),
    /// By a regular expression of the configuration.
    Pattern(Pattern),
}

impl Rule {
    pub(super) fn new(name: &str, replacement: &str, finder: Finder) -> Rule {
        let mut escaped = Vec::new();
        json::escape(replacement.as_bytes(), &mut escaped);
        Rule { name: name.into(), replacement: replacement.as_bytes().into(), escaped: escaped.into(), finder }
    }
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
    builtins: [Option<usize>; Builtin::COUNT],
    patterns: Vec<usize>,
    view: View,
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
}

impl Engine {
    pub(super) fn new(rules: Vec<Rule>) -> Engine {
        let mut builtins = [None; Builtin::COUNT];
        let mut patterns = Vec::new();
        for (index, rule) in rules.iter().enumerate() {
            match rule.finder {
                Finder::Builtin(builtin) => builtins[builtin as usize] = Some(index),
                Finder::Pattern(_) => patterns.push(index),
            }
        }
        let counts = vec![0; rules.len()];
        let (current, next) = (Vec::new(), Vec::new());
        Engine { rules, builtins, patterns, view: View::default(), hits: Vec::new(), current, next, part: (0, 0), counts, withheld: 0 }
    }

    /// The rules.
    #[cfg(test)]
    pub(super) fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The rules, given back.
    pub(super) fn into_rules(self) -> Vec<Rule> {
        self.rules
    }

    /// Marks the blocks of a batch's bytes in which the rules of the configuration could find something; says whether that
    /// can be told, so that not every leaf must be looked at.
    pub(super) fn mark_patterns(&self, bytes: &[u8], hits: &mut Hits) -> bool {
        if self.patterns.is_empty() {
            return true;
        }
        // What a leaf with escapes holds is seen in its decoded view alone.
        memchr::memchr_iter(b'\\', bytes).for_each(|at| hits.mark(at, at + 1));
        self.patterns.iter().all(|rule| match &self.rules[*rule].finder {
            Finder::Pattern(pattern) => pattern.mark(bytes, hits),
            Finder::Builtin(_) => true,
        })
    }

    /// Takes values out of a leaf; `None` where there is none.
    ///
    /// Should this go wrong, the whole leaf is withheld: nothing that was not checked gets out.
    pub(super) fn redact(&mut self, raw: &[u8], form: Form) -> Option<&[u8]> {
        match catch_unwind(AssertUnwindSafe(|| self.rounds(raw, form))) {
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
    pub(super) fn redact_part(&mut self, raw: &[u8], form: Form, part: (usize, usize)) -> Option<(&[u8], (usize, usize))> {
        self.part = part;
        let withheld = self.withheld;
        self.redact(raw, form)?;
        if self.withheld > withheld { Some((WITHHELD, (0, WITHHELD.len()))) } else { Some((&self.current, self.part)) }
    }

    /// The counts of each rule that took something out since the last call, and of what was withheld.
    pub(super) fn take_counts(&mut self, mut each: impl FnMut(&Arc<str>, u64)) {
        if self.withheld > 0 {
            each(&WITHHELD_NAME.into(), std::mem::take(&mut self.withheld));
        }
        for (rule, count) in self.rules.iter().zip(&mut self.counts) {
            if *count > 0 {
                each(&rule.name, std::mem::take(count));
            }
        }
    }

    fn rounds(&mut self, raw: &[u8], form: Form) -> Result<bool, Endless> {
        for round in 0..MAX_ROUNDS {
            let current = std::mem::take(&mut self.current);
            let text = if round == 0 { raw } else { &current };
            let found = !self.find(text).is_empty();
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
    pub(super) fn find(&mut self, raw: &[u8]) -> &[Hit] {
        self.hits.clear();
        if View::differs(raw) {
            self.view.decode(raw);
            find_in(&self.rules, &self.builtins, &self.patterns, self.view.text(), &mut self.hits);
            for hit in &mut self.hits {
                (hit.start, hit.end) = self.view.written(hit.start, hit.end);
            }
        } else {
            find_in(&self.rules, &self.builtins, &self.patterns, raw, &mut self.hits);
        }
        widen(raw, &mut self.hits);
        merge(&mut self.hits);
        &self.hits
    }

    /// Writes `raw` with each hit replaced to `next`.
    fn splice(&mut self, raw: &[u8], form: Form) {
        self.next.clear();
        let mut done = 0;
        for hit in &self.hits {
            let rule = &self.rules[hit.rule];
            self.next.extend_from_slice(&raw[done..hit.start]);
            self.next.extend_from_slice(if form == Form::Plain { &rule.replacement } else { &rule.escaped });
            self.counts[hit.rule] += 1;
            done = hit.end;
        }
        self.next.extend_from_slice(&raw[done..]);
        self.part = (self.moved(self.part.0, form), self.moved(self.part.1, form));
    }

    /// Where `at` lies when the hits are replaced.
    fn moved(&self, at: usize, form: Form) -> usize {
        let (mut done, mut moved) = (0, 0);
        for hit in self.hits.iter().take_while(|hit| hit.start < at) {
            let rule = &self.rules[hit.rule];
            let replacement = if form == Form::Plain { &rule.replacement } else { &rule.escaped };
            moved += hit.start - done + replacement.len();
            done = hit.end;
        }
        moved + at.saturating_sub(done)
    }
}

/// Own rules that would go on for ever.
struct Endless;

/// Everything that the rules find in `text`, in no order.
fn find_in(rules: &[Rule], builtins: &[Option<usize>; Builtin::COUNT], patterns: &[usize], text: &[u8], hits: &mut Vec<Hit>) {
    let mut readers = Readers { text, builtins, hits, email: 0, jwt: 0, bearer: 0, address: 0, card: 0 };
    scan::scan(text, |at, places| {
        if places.any() {
            readers.look(at, places);
        }
    });
    for &rule in patterns {
        if let Finder::Pattern(pattern) = &rules[rule].finder {
            pattern.find(text, |start, end| hits.push(Hit { start, end, rule }));
        }
    }
}

/// The built-in detectors on their way through a text: for each, where it looks on.
struct Readers<'a> {
    text: &'a [u8],
    builtins: &'a [Option<usize>; Builtin::COUNT],
    hits: &'a mut Vec<Hit>,
    email: usize,
    jwt: usize,
    bearer: usize,
    address: usize,
    card: usize,
}

impl Readers<'_> {
    fn look(&mut self, block: usize, places: Places) {
        each_bit(places.marks, |bit| self.mark(block + bit));
        if let Some(rule) = self.builtins[Builtin::Ipv4 as usize] {
            each_bit(places.addresses, |bit| self.address(block + bit, rule));
        }
        if let Some(rule) = self.builtins[Builtin::CreditCard as usize] {
            each_bit(places.cards, |bit| self.cards(block + bit, rule));
        }
    }

    fn mark(&mut self, at: usize) {
        let rule = |builtin: Builtin| self.builtins[builtin as usize];
        match self.text.get(at) {
            Some(b'@') => rule(Builtin::Email).into_iter().for_each(|rule| self.email(at, rule)),
            Some(b'e') => rule(Builtin::Jwt).into_iter().for_each(|rule| self.jwt(at, rule)),
            Some(b'b' | b'B') => rule(Builtin::BearerToken).into_iter().for_each(|rule| self.bearer(at, rule)),
            _ => {}
        }
    }

    fn email(&mut self, at: usize, rule: usize) {
        if let Some((start, end)) = detect::email(self.text, at, self.email) {
            self.email = end;
            if detect::is_email(&self.text[start..end]) {
                self.hits.push(Hit { start, end, rule });
            }
        }
    }

    fn jwt(&mut self, start: usize, rule: usize) {
        if start < self.jwt {
            return;
        }
        match detect::jwt(self.text, start) {
            Ok(end) => {
                self.jwt = end;
                self.hits.push(Hit { start, end, rule });
            }
            Err(end) => self.jwt = end,
        }
    }

    fn bearer(&mut self, at: usize, rule: usize) {
        if at < self.bearer {
            return;
        }
        if let Some((start, end)) = detect::bearer(self.text, at) {
            self.bearer = end;
            if detect::is_token(&self.text[start..end]) {
                self.hits.push(Hit { start, end, rule });
            }
        }
    }

    fn address(&mut self, third_dot: usize, rule: usize) {
        if third_dot < self.address {
            return;
        }
        if let Some((start, end)) = detect::ipv4(self.text, third_dot) {
            self.address = end;
            if detect::is_ipv4(&self.text[start..end]) {
                self.hits.push(Hit { start, end, rule });
            }
        }
    }

    fn cards(&mut self, at: usize, rule: usize) {
        if at >= self.card {
            self.card = detect::cards(self.text, at, self.card, |start, end| self.hits.push(Hit { start, end, rule }));
        }
    }
}

fn each_bit(mut bits: u64, mut visit: impl FnMut(usize)) {
    while bits != 0 {
        visit(bits.trailing_zeros() as usize);
        bits &= bits - 1;
    }
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
