//! The account: a bit for each record of the journal, set when it arrives whole, so that a copy cannot stand for a loss.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

use serde::Deserialize;

use super::container::hash;
use super::journal::{Book, Excuse};
use super::lives::Life;
use super::text::Text;

/// The most examples of each fault that are shown.
const EXAMPLES: usize = 6;

/// A record as it arrives.
#[derive(Deserialize)]
struct Arrived<'a> {
    #[serde(borrow)]
    message: Cow<'a, str>,
    #[serde(borrow)]
    stream: Cow<'a, str>,
    #[serde(borrow)]
    kubernetes: Kubernetes<'a>,
    #[serde(default)]
    unterminated: bool,
}

#[derive(Deserialize)]
struct Kubernetes<'a> {
    #[serde(borrow)]
    pod_uid: Cow<'a, str>,
}

/// What became of the records at one sink.
pub struct Verdict<'a> {
    book: &'a Book,
    text: &'a Text,
    lives: &'a [Life],
    start: Instant,
    /// Whether the order of arrival is that of delivery.
    ordered: bool,
    streams: Vec<Stream>,
    pub counts: Counts,
    examples: BTreeMap<&'static str, Vec<String>>,
}

#[derive(Default)]
struct Stream {
    seen: Vec<u64>,
    last: Option<u32>,
}

/// Counted records.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Written whole.
    pub written: u64,
    /// Arrived whole, each counted once.
    pub whole: u64,
    /// Of those written, how many lay in files that were removed while the agent was down, or just before it was killed…
    pub excused: u64,
    /// … and how many of these did not arrive: what they lay in had no name any more when the agent was killed …
    pub lost_before_kill: u64,
    /// … or lost it while no agent ran …
    pub lost_while_down: u64,
    /// … or was gone before any agent could open it.
    pub lost_unseen: u64,
    /// Written in part, by containers that died…
    pub begun: u64,
    /// … and arrived so.
    pub parts: u64,
    /// Ends of records whose beginnings were excused.
    pub ends: u64,
    pub lost: u64,
    pub twice: u64,
    pub cut: u64,
    pub disorder: u64,
    pub foreign: u64,
}

impl Counts {
    /// Whether nothing is wrong.
    pub fn is_good(&self) -> bool {
        (self.lost, self.twice, self.cut, self.disorder, self.foreign) == (0, 0, 0, 0, 0)
    }
}

impl<'a> Verdict<'a> {
    /// An account of all that is in the book.
    pub fn new(book: &'a Book, text: &'a Text, lives: &'a [Life], start: Instant, ordered: bool) -> Verdict<'a> {
        let stream = |entries: usize| Stream { seen: vec![0; entries.div_ceil(64)], last: None };
        let streams = book.streams.iter().map(|log| stream(log.entries.len())).collect();
        Verdict { book, text, lives, start, ordered, streams, counts: Counts::default(), examples: BTreeMap::new() }
    }

    /// Enters a record.
    pub fn enter(&mut self, record: &[u8]) {
        match serde_json::from_slice::<Arrived>(record) {
            Ok(arrived) => self.arrived(&arrived),
            Err(error) => {
                self.counts.foreign += 1;
                self.example("foreign", || format!("{error}: {}", shorten(&String::from_utf8_lossy(record))));
            }
        }
    }

    fn arrived(&mut self, arrived: &Arrived) {
        let message = &*arrived.message;
        let Some((stream, seq)) = Text::claim(message) else { return self.headless(arrived) };
        let known = self.book.streams.get(stream as usize);
        let entry = known.and_then(|log| log.entries.get(seq as usize)).copied();
        let same = known.is_some_and(|log| log.pod_uid == arrived.kubernetes.pod_uid && log.output == arrived.stream);
        let Some(entry) = entry.filter(|_| same) else {
            self.counts.foreign += 1;
            return self.example("foreign", || format!("{} {}: {}", arrived.kubernetes.pod_uid, arrived.stream, shorten(message)));
        };
        let mut bytes = Vec::new();
        self.text.message(stream, seq, &mut bytes);
        let written = String::from_utf8_lossy(&bytes);
        let whole = *written == *message;
        // Where a character was torn in two, the part ends with a replacement.
        let begun = message.trim_end_matches('\u{fffd}');
        if !whole && (entry.whole || !arrived.unterminated || !written.starts_with(begun)) {
            self.counts.cut += 1;
            let (len, expected) = (message.len(), written.len());
            let common = message.bytes().zip(written.bytes()).take_while(|(a, b)| a == b).count();
            let mark = if arrived.unterminated { ", unterminated" } else { "" };
            return self.example_of("cut", stream, seq, || format!("{len} bytes of {expected}, alike to {common}{mark}"));
        }
        self.count(stream, seq, entry.whole);
    }

    fn count(&mut self, stream: u32, seq: u32, whole: bool) {
        let state = &mut self.streams[stream as usize];
        let (word, bit) = (seq as usize / 64, 1 << (seq % 64));
        let twice = state.seen[word] & bit != 0;
        state.seen[word] |= bit;
        let before = state.last.filter(|last| *last >= seq);
        state.last = Some(seq);
        if twice {
            self.counts.twice += 1;
            self.example_of("twice", stream, seq, String::new);
        } else if let Some(before) = before.filter(|_| self.ordered) {
            self.counts.disorder += 1;
            self.example_of("disorder", stream, seq, || format!("after {before}"));
        }
        match (twice, whole) {
            (true, _) => {}
            (false, true) => self.counts.whole += 1,
            (false, false) => self.counts.parts += 1,
        }
    }

    /// What does not begin like a record: the end of one whose beginning was in a file that is excused.
    fn headless(&mut self, arrived: &Arrived) {
        let of = self.book.ends.get(&hash(&arrived.message)).copied();
        let excused = of.is_some_and(|(stream, seq)| {
            let entry = &self.book.streams[stream as usize].entries[seq as usize];
            self.book.excuse(entry, self.lives).is_some()
        });
        if excused {
            self.counts.ends += 1;
            return;
        }
        self.counts.cut += 1;
        match of {
            Some((stream, seq)) => self.example_of("cut", stream, seq, || "its end arrived without its beginning".into()),
            None => {
                let what = || {
                    format!(
                        "{} {}, unterminated {}: {}",
                        arrived.kubernetes.pod_uid,
                        arrived.stream,
                        arrived.unterminated,
                        shorten(&arrived.message)
                    )
                };
                self.example("cut", what);
            }
        }
    }

    /// Counts what did not arrive.
    pub fn close(&mut self) {
        let book = self.book;
        for (number, log) in book.streams.iter().enumerate() {
            for (seq, entry) in log.entries.iter().enumerate() {
                if !entry.whole {
                    self.counts.begun += 1;
                    continue;
                }
                let seen = self.streams[number].seen[seq / 64] >> (seq % 64) & 1 == 1;
                let excuse = book.excuse(entry, self.lives);
                self.counts.written += 1;
                self.counts.excused += u64::from(excuse.is_some());
                match excuse.filter(|_| !seen) {
                    Some(Excuse::UnlinkedBeforeKill) => self.counts.lost_before_kill += 1,
                    Some(Excuse::UnlinkedWhileDown) => self.counts.lost_while_down += 1,
                    Some(Excuse::NeverOpen) => self.counts.lost_unseen += 1,
                    None if seen => {}
                    None => {
                        self.counts.lost += 1;
                        self.example_of("lost", number as u32, seq as u32, String::new);
                    }
                }
            }
        }
    }

    fn example(&mut self, kind: &'static str, what: impl FnOnce() -> String) {
        let list = self.examples.entry(kind).or_default();
        if list.len() < EXAMPLES {
            list.push(what());
        }
    }

    fn example_of(&mut self, kind: &'static str, stream: u32, seq: u32, what: impl FnOnce() -> String) {
        let (book, start) = (self.book, self.start);
        self.example(kind, || {
            let log = &book.streams[stream as usize];
            let entry = log.entries[seq as usize];
            let mut text = format!(
                "{} {} {seq} of {}: {}\n      in {}",
                log.pod_uid,
                log.output,
                log.entries.len(),
                what(),
                book.story(entry.first, start)
            );
            if entry.last != entry.first {
                text += &format!("\n      to {}", book.story(entry.last, start));
            }
            text
        });
    }
}

impl fmt::Display for Verdict<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { written, whole, excused, begun, parts, ends, lost, twice, cut, disorder, foreign, .. } = self.counts;
        let Counts { lost_before_kill, lost_while_down, lost_unseen, .. } = self.counts;
        write!(
            f,
            "{written} written, {whole} arrived whole; {lost} lost, {cut} cut, {disorder} out of order, {twice} twice, {foreign} foreign"
        )?;
        write!(
            f,
            "; excused {excused}, of which lost {lost_before_kill} in files that were unlinked before the kill, {lost_while_down} in such \
             that were while the agent was down, {lost_unseen} in such that no agent could open, and {ends} ends; begun {begun}, of which \
             {parts} arrived"
        )?;
        for (kind, list) in &self.examples {
            for what in list {
                write!(f, "\n    {kind}: {what}")?;
            }
        }
        Ok(())
    }
}

fn shorten(text: &str) -> String {
    let short: String = text.chars().take(80).collect();
    format!("{} bytes, {short:?}", text.len())
}
