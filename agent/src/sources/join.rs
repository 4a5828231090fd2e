//! Records that are not complete yet: partial lines, and records of several lines.
//!
//! Joining happens before positions are written. A pending record holds the ranges of its lines, and a chunk covers what
//! was read but for the ranges of the records still pending. So a crash re-reads exactly the lines of unfinished records,
//! and a finished line of another stream between them is not given out twice.
//!
//! **Lines that different sets of sinks need never join.** After a restart a sink may hold a record's first line because it
//! was once given out alone (its time was over, the agent was told to finish); joined again with what follows it would
//! reach that sink a second time in another shape. So where the set changes, the pending record is given out as it is.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use skidder_pipeline::edge::Nanos;
use skidder_pipeline::json;
use skidder_pipeline::position::{FileKey, Range, marker, push_range};
use skidder_pipeline::shared::Shared;
use skidder_pipeline::source::SinkSet;
use skidder_pipeline::value::Kind;

use super::framing::{OUTPUTS, Output};

/// The most stretches of files that one record may be scattered over. Parts of a full-sized record are 16 KiB, so 64 of
/// them would do; beyond this an endless record between other lines would grow the positions without bound.
const MAX_RANGES: usize = 1_024;

/// Below this nothing of a cut text is shown, so that it need not be kept: the margin beyond a cut.
const MIN_TEXT_BYTES: usize = 4 * 1024;

/// A record whose end has not been read.
#[derive(Debug)]
pub(crate) struct Pending {
    /// The file of the first line.
    pub file: FileKey,
    /// Where the first line starts.
    pub offset: u64,
    /// What its file's records have in common. The file may be closed before it is given out.
    pub shared: Arc<Shared>,
    pub needs: SinkSet,
    pub output: Output,
    pub timestamp: Vec<u8>,
    pub timestamp_kind: Kind,
    /// The text so far, as much of it as is kept ([`Rules::keep_bytes`](super::assemble::Rules::keep_bytes)).
    pub text: Vec<u8>,
    pub kind: Kind,
    /// How long the text would be without a limit.
    pub full_bytes: u64,
    /// Whether the limit cut it.
    pub cut: bool,
    pub lines: u32,
    pub invalid_utf8: bool,
    pub unterminated: bool,
    /// When its last line was read.
    pub touched: Nanos,
    /// The lines' stretches in blocks that are done with.
    ranges: Vec<Range>,
    /// The lines' stretches in the block at hand, as offsets of its file.
    fresh: Vec<(u64, u64)>,
}

impl Pending {
    /// A record that starts at `offset` of `file`, without lines as yet.
    pub(crate) fn new(
        (file, shared): (FileKey, Arc<Shared>),
        offset: u64,
        needs: SinkSet,
        output: Output,
        timestamp: (&[u8], Kind),
        kind: Kind,
    ) -> Pending {
        Pending {
            file,
            offset,
            shared,
            needs,
            output,
            timestamp: timestamp.0.to_vec(),
            timestamp_kind: timestamp.1,
            text: Vec::new(),
            kind,
            full_bytes: 0,
            cut: false,
            lines: 0,
            invalid_utf8: false,
            unterminated: false,
            touched: Nanos::default(),
            ranges: Vec::new(),
            fresh: Vec::new(),
        }
    }

    /// Adds text, as far as `max_bytes` allows. `beyond` is how much of it was left out already.
    pub(crate) fn append(&mut self, raw: &[u8], kind: Kind, beyond: u64, max_bytes: usize) {
        self.full_bytes += raw.len() as u64 + beyond;
        if self.cut {
            return;
        }
        let raw = if beyond > 0 { without_torn_end(raw) } else { raw };
        match (self.kind, kind) {
            (Kind::String, Kind::Text) => json::escape(raw, &mut self.text),
            (Kind::Text, Kind::String) => {
                let plain = std::mem::take(&mut self.text);
                json::escape(&plain, &mut self.text);
                self.text.extend_from_slice(raw);
                self.kind = Kind::String;
            }
            _ => self.text.extend_from_slice(raw),
        }
        if self.text.len() > max_bytes {
            let end = cut_point(&self.text, self.kind, max_bytes);
            self.text.truncate(end);
            self.cut = true;
        }
        self.cut |= beyond > 0;
    }

    /// Makes the text UTF-8, now that no further part will complete its last character.
    pub(crate) fn clean(&mut self) {
        if let Cow::Owned(replaced) = String::from_utf8_lossy(&self.text) {
            self.text = replaced.into_bytes();
            self.invalid_utf8 = true;
        }
    }

    /// Counts a line that was added.
    pub(crate) fn add_line(&mut self, invalid_utf8: bool, now: Nanos) {
        self.lines += 1;
        self.invalid_utf8 |= invalid_utf8;
        self.touched = now;
    }

    /// Adds the stretch of a line in the block at hand.
    pub(crate) fn add_stretch(&mut self, start: u64, end: u64) {
        match self.fresh.last_mut() {
            Some(last) if last.1 == start => last.1 = end,
            _ => self.fresh.push((start, end)),
        }
    }

    /// Takes over another record as the next lines of this one.
    pub(crate) fn absorb(&mut self, other: Pending, max_bytes: usize) {
        let beyond = if other.cut { other.full_bytes.saturating_sub(other.text.len() as u64) } else { 0 };
        self.append(&other.text, other.kind, beyond, max_bytes);
        self.add_line(other.invalid_utf8, other.touched);
        for range in other.ranges {
            push_range(&mut self.ranges, range);
        }
        self.fresh.extend(other.fresh);
    }

    /// Whether it is scattered over as many stretches as it may be.
    pub(crate) fn is_scattered(&self) -> bool {
        self.ranges.len() + self.fresh.len() >= MAX_RANGES
    }

    /// Hands over the ranges of the blocks before; those of the block at hand are no longer pending.
    pub(crate) fn cover(&mut self, covers: &mut Vec<Range>) {
        for range in self.ranges.drain(..) {
            push_range(covers, range);
        }
    }
}

/// `text` without the character that its end goes through, if there is one.
fn without_torn_end(text: &[u8]) -> &[u8] {
    let Some(back) = text.iter().rev().take(4).position(|byte| byte & 0xc0 != 0x80) else { return text };
    let needs = match text[text.len() - 1 - back] {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => 1,
    };
    if needs > back + 1 { &text[..text.len() - 1 - back] } else { text }
}

/// The longest length up to `max_bytes` at which `text` can be cut without cutting a character or an escape in two. Text
/// that is no UTF-8 there has no character to cut.
pub(crate) fn cut_point(text: &[u8], kind: Kind, max_bytes: usize) -> usize {
    if text.len() <= max_bytes {
        return text.len();
    }
    // A character has at most three bytes after its first.
    let character = text[..=max_bytes].iter().rev().take(4).position(|byte| byte & 0xc0 != 0x80);
    let cut = max_bytes - character.unwrap_or(0);
    if kind != Kind::String {
        return cut;
    }
    // Escapes can only be told from their start.
    let mut at = 0;
    while let Some(found) = memchr::memchr(b'\\', &text[at..cut]) {
        let escape = at + found;
        at = match &text[escape..] {
            // A surrogate of the first half stays with the second.
            [b'\\', b'u', b'd' | b'D', b'8'..=b'9' | b'a'..=b'b' | b'A'..=b'B', _, _, b'\\', b'u', ..] => escape + 12,
            [b'\\', b'u', ..] => escape + 6,
            _ => escape + 2,
        };
        if at > cut {
            return escape;
        }
    }
    cut
}

#[cfg(test)]
impl Joiner {
    /// How many bytes of files wait for the ends of their records.
    pub(crate) fn pending_bytes(&self) -> u64 {
        let open = self.partial.iter().chain(&self.lines).flatten().map(Box::as_ref).chain(&self.ready);
        open.map(|pending| {
            assert!(pending.fresh.is_empty(), "settled after each block");
            pending.ranges.iter().map(Range::len).sum::<u64>()
        })
        .sum()
    }
}

/// The pending records of one stream of files. Most have none, and cost a word.
#[derive(Debug, Default)]
pub(crate) struct Joiner(Option<Box<Open>>);

/// Records of one stream that are not given out.
#[derive(Debug)]
pub(crate) struct Open {
    /// Records of partial lines, by output.
    pub partial: [Option<Box<Pending>>; OUTPUTS],
    /// Records of several lines, by output.
    pub lines: [Option<Box<Pending>>; OUTPUTS],
    /// Records that are complete, or given up, and must go out in a chunk of their own: of another file than the one
    /// being read, or for other sinks.
    pub ready: VecDeque<Pending>,
}

impl Open {
    const NOTHING: Open = Open { partial: [const { None }; OUTPUTS], lines: [const { None }; OUTPUTS], ready: VecDeque::new() };
}

impl Default for Open {
    fn default() -> Open {
        Open::NOTHING
    }
}

impl Deref for Joiner {
    type Target = Open;

    fn deref(&self) -> &Open {
        static NOTHING: Open = Open::NOTHING;
        self.0.as_deref().unwrap_or(&NOTHING)
    }
}

impl DerefMut for Joiner {
    fn deref_mut(&mut self) -> &mut Open {
        self.0.get_or_insert_default()
    }
}

impl Joiner {
    /// Whether no record is open.
    pub(crate) fn is_idle(&self) -> bool {
        self.partial.iter().chain(&self.lines).all(Option::is_none)
    }

    /// Whether nothing is kept at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.is_idle() && self.ready.is_empty()
    }

    /// Lets go of the memory that open records needed, where there are none.
    pub(crate) fn rest(&mut self) {
        if self.is_empty() {
            self.0 = None;
        }
    }

    /// How many bytes the text of open records takes.
    pub(crate) fn text_bytes(&self) -> u64 {
        self.partial.iter().chain(&self.lines).flatten().map(|open| open.text.capacity() as u64).sum()
    }

    /// Gives up half of what the largest open record has of its text. It goes on, marked as cut, to its end.
    pub(crate) fn shrink_largest(&mut self) {
        let Some(open) = &mut self.0 else { return };
        let all = open.partial.iter_mut().chain(&mut open.lines).flatten();
        let Some(largest) = all.max_by_key(|open| open.text.capacity()) else { return };
        let half = if largest.text.len() > 2 * MIN_TEXT_BYTES { largest.text.len() / 2 } else { 0 };
        let end = cut_point(&largest.text, largest.kind, half);
        largest.text.truncate(end);
        largest.text.shrink_to_fit();
        largest.cut = true;
    }

    /// Whether a record that began in `file` has not been given out.
    pub(crate) fn waits_for(&self, file: &FileKey) -> bool {
        let open = self.partial.iter().chain(&self.lines).flatten().map(Box::as_ref);
        open.chain(&self.ready).any(|pending| pending.file == *file)
    }

    /// Gives up the open records of `output` that other sinks need than `needs`. Says whether there were any.
    pub(crate) fn give_up_others(&mut self, output: Output, needs: SinkSet) -> bool {
        if self.0.is_none() {
            return false;
        }
        let slot = output as usize;
        let mut any = false;
        if let Some(open) = self.lines[slot].take_if(|open| open.needs != needs) {
            self.ready.push_back(*open);
            any = true;
        }
        if let Some(mut open) = self.partial[slot].take_if(|open| open.needs != needs) {
            open.unterminated = true;
            self.ready.push_back(*open);
            any = true;
        }
        any
    }

    /// Goes on for `sinks` alone: what is open is not for the others any more.
    pub(crate) fn restrict(&mut self, sinks: SinkSet) {
        let Some(all) = &mut self.0 else { return };
        for open in all.partial.iter_mut().chain(&mut all.lines).flatten().map(Box::as_mut).chain(&mut all.ready) {
            open.needs = open.needs.and(sinks);
        }
    }

    /// Gives up the open records of the files that `of` names: nothing that could complete them will come. `marked` says
    /// that records of several lines, too, are known to lack their end.
    pub(crate) fn give_up(&mut self, marked: bool, of: impl Fn(&FileKey) -> bool) {
        if self.0.is_none() {
            return;
        }
        for slot in 0..OUTPUTS {
            if let Some(mut open) = self.lines[slot].take_if(|open| of(&open.file)) {
                open.unterminated |= marked;
                self.ready.push_back(*open);
            }
            if let Some(mut open) = self.partial[slot].take_if(|open| of(&open.file)) {
                open.unterminated = true;
                self.ready.push_back(*open);
            }
        }
    }

    /// Completes the records of several lines that have waited long enough.
    pub(crate) fn expire(&mut self, now: Nanos, timeout: Duration) {
        let Some(Open { lines, ready, .. }) = self.0.as_deref_mut() else { return };
        for slot in lines {
            if let Some(open) = slot.take_if(|open| now.since(open.touched) >= timeout) {
                ready.push_back(*open);
            }
        }
    }

    /// When the next record of several lines will have waited long enough.
    pub(crate) fn next_expiry(&self, timeout: Duration) -> Option<Nanos> {
        self.lines.iter().flatten().map(|open| open.touched.after(timeout)).min()
    }

    /// Forgets which stretches the records are made of: for sources without positions.
    pub(crate) fn forget_stretches(&mut self) {
        let Some(open) = &mut self.0 else { return };
        for pending in open.partial.iter_mut().chain(&mut open.lines).flatten() {
            pending.fresh.clear();
        }
    }

    /// Ends a block of `file`, of which `start..end` were taken: adds to `covers` what of it no record is waiting for, and
    /// writes the rest down in these records. `text` ends at offset `end`, whose marker is given, and reaches back as far as
    /// the markers within the block need.
    pub(crate) fn settle(&mut self, file: FileKey, (start, end): (u64, u64), text: &[u8], last: u64, covers: &mut Vec<Range>) {
        let marker_at = |at: u64| if at == end { last } else { marker(&text[..text.len() - (end - at) as usize]) };
        if self.is_empty() {
            push_range(covers, Range { file, start, end, marker: last });
            return;
        }
        let mut holes = Vec::new();
        let Open { partial, lines, ready } = &mut **self;
        for pending in partial.iter_mut().chain(lines).flatten().map(Box::as_mut).chain(ready) {
            for (start, end) in pending.fresh.drain(..) {
                holes.push((start, end));
                push_range(&mut pending.ranges, Range { file, start, end, marker: marker_at(end) });
            }
        }
        holes.sort_unstable();
        let mut from = start;
        for (hole, after) in holes {
            if hole > from {
                push_range(covers, Range { file, start: from, end: hole, marker: marker_at(hole) });
            }
            from = after;
        }
        push_range(covers, Range { file, start: from, end, marker: last });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_character_is_left_out() {
        for character in ["a", "ä", "€", "😀"] {
            let text = format!("x{character}");
            for end in 1..text.len() {
                assert_eq!(without_torn_end(&text.as_bytes()[..end]), b"x", "{character} up to {end}");
            }
            assert_eq!(without_torn_end(text.as_bytes()), text.as_bytes());
        }
        assert_eq!(without_torn_end(b""), b"");
        assert_eq!(without_torn_end(&[0x80; 9]), [0x80; 9], "no character at all");
    }

    #[test]
    fn a_cut_leaves_characters_and_escapes_whole() {
        let cases: &[(&str, Kind, usize, &str)] = &[
            ("abcdef", Kind::Text, 3, "abc"),
            ("abc", Kind::Text, 3, "abc"),
            ("aäb", Kind::Text, 2, "a"),
            ("a\\nb", Kind::Text, 2, "a\\"),
            ("a\\nb", Kind::String, 2, "a"),
            ("a\\nb", Kind::String, 3, "a\\n"),
            ("\\\\\\n", Kind::String, 3, "\\\\"),
            ("\\u0041b", Kind::String, 5, ""),
            ("\\u0041b", Kind::String, 6, "\\u0041"),
            ("x\\ud83d\\ude00y", Kind::String, 7, "x"),
            ("x\\ud83d\\ude00y", Kind::String, 13, "x\\ud83d\\ude00"),
        ];
        for (text, kind, max, expected) in cases {
            assert_eq!(&text[..cut_point(text.as_bytes(), *kind, *max)], *expected, "{text} at {max}");
        }
        assert_eq!(cut_point(&[0x80; 20], Kind::Text, 10), 10, "no character to spare");
    }
}
