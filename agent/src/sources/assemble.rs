//! From a block of text to the records of a batch.
//!
//! The way of a line that is a record by itself is short: find its end, split it, push three spans. Whatever is unusual
//! about a line (a part of a record, a broken header, bytes that are no UTF-8, a missing end) leaves that way for
//! [`Assembly::unusual`]. Both leave the text where it was read.

pub(crate) mod constants;
mod joined;

use memchr::memchr;
use schemars::JsonSchema;
use serde::Deserialize;
use skidder_pipeline::batch::{Batch, Cut, Field};
use skidder_pipeline::edge::Nanos;
use skidder_pipeline::position::{FileKey, Range};
use skidder_pipeline::source::SinkSet;
use skidder_pipeline::stats::SourceStats;
use skidder_pipeline::value::{Kind, Span};

use super::framing::{Cri, Docker, Framing, Line, Output, Raw, Split, Text};
use super::join::{Joiner, Pending, cut_point};
use super::multiline::Multiline;
use constants as c;

/// How much is kept beyond a cut, for redaction to see: more than any value that is taken out has.
const MARGIN_BYTES: usize = 4 * 1024;
/// The most pieces of a record that is split. Each needs an offset of its own within the first line's header.
const MAX_PIECES: usize = 16;
/// The most of a record that is gathered to be split, where one piece may not be more than that.
const MAX_SPLIT_BYTES: usize = 4 * 1024 * 1024;

/// What becomes of a record that is longer than it may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MaxRecordAction {
    /// It is cut at the limit, and marked with `truncated` and `original_bytes`.
    #[default]
    Truncate,
    /// It becomes several records, of which each says with `part` and `parts` which one it is: at most 16, and 4 MiB; what is
    /// beyond that is cut off.
    Split,
    /// It is left out, and counted.
    Drop,
}

/// What a source asks of its records.
#[derive(Debug)]
pub(crate) struct Rules {
    /// The longest message.
    pub max_record_bytes: usize,
    pub max_record_action: MaxRecordAction,
    pub multiline: Option<Multiline>,
}

impl Rules {
    /// How much of a record's text is gathered.
    pub(crate) fn keep_bytes(&self) -> usize {
        let max = self.max_record_bytes;
        let shown = match self.max_record_action {
            MaxRecordAction::Truncate | MaxRecordAction::Drop => max,
            MaxRecordAction::Split => max.saturating_mul(MAX_PIECES).min(MAX_SPLIT_BYTES).max(max),
        };
        shown.saturating_add(MARGIN_BYTES)
    }
}

/// A run of text of one file, at hand in a batch's bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block {
    pub file: FileKey,
    /// The sinks that need it, all of it.
    pub needs: SinkSet,
    /// Where it starts in the batch's bytes.
    pub start: usize,
    /// Where it ends. The last line may lack its newline: then it is a line all the same.
    pub end: usize,
    /// The offset of its start in the file.
    pub offset: u64,
    /// What was left out of its only line, because that is too long to be read whole.
    pub beyond: Beyond,
    pub now: Nanos,
}

/// The end of a line that was not read, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Beyond {
    /// Of its text.
    pub text: u64,
    /// Of what ends it: the newline, and a carriage return before that. 0 where the line has no end.
    pub ending: u64,
}

impl Beyond {
    /// Of a line of which `bytes` were left out: what follows the text in `last`, the last bytes that it has.
    pub(crate) fn of(bytes: u64, last: &[u8]) -> Beyond {
        let ending = match last {
            [.., b'\r', b'\n'] => 2,
            [.., b'\n'] => 1,
            _ => 0,
        };
        // The carriage return may be the last byte that was read.
        let ending = bytes.min(ending);
        Beyond { text: bytes - ending, ending }
    }

    fn is_nothing(self) -> bool {
        self.bytes() == 0
    }

    /// Both.
    pub(crate) fn bytes(self) -> u64 {
        self.text + self.ending
    }
}

/// Makes records of `block`, whose text lies in the bytes of `batch` behind [`constants::HEAD`], and says how many of its
/// bytes were taken. Where these are not all, the rest must be read again, after what the joiner has ready.
pub(crate) fn assemble(
    rules: &Rules,
    framing: Framing,
    joiner: &mut Joiner,
    batch: &mut Batch,
    covers: &mut Vec<Range>,
    stats: &SourceStats,
    block: Block,
) -> usize {
    // The bytes are taken out meanwhile: lines are read from them while fields are pushed.
    let bytes = std::mem::take(batch.bytes_mut());
    let valid = std::str::from_utf8(&bytes[block.start..block.end]).is_ok();
    let mut assembly = Assembly { rules, joiner, batch, covers, stats, block, bytes, valid };
    match framing {
        Framing::Cri => assembly.lines(Cri),
        Framing::Docker => assembly.lines(Docker::default()),
        Framing::Raw => assembly.lines(Raw),
    }
}

/// Puts records that the joiner has ready into an empty batch: the first, and those that follow it as long as they are of
/// the same file and for the same sinks, which are returned.
pub(crate) fn assemble_ready(
    rules: &Rules,
    joiner: &mut Joiner,
    batch: &mut Batch,
    covers: &mut Vec<Range>,
    stats: &SourceStats,
) -> Option<(FileKey, SinkSet)> {
    let (file, needs) = joiner.ready.front().map(|first| (first.file, first.needs))?;
    let bytes = std::mem::take(batch.bytes_mut());
    let at = bytes.len();
    let block = Block { file, needs, start: at, end: at, offset: 0, beyond: Beyond::default(), now: Nanos::default() };
    let mut ready = std::mem::take(&mut joiner.ready);
    let mut assembly = Assembly { rules, joiner, batch, covers, stats, block, bytes, valid: true };
    while let Some(pending) = ready.pop_front_if(|next| next.file == file && next.needs == needs) {
        assembly.emit_pending(pending);
    }
    assembly.finish();
    joiner.ready = ready;
    Some((file, needs))
}

/// How it goes on after a line.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    /// With the next line.
    On,
    /// Not in this chunk; the line has not been taken.
    CutBefore,
    /// Not in this chunk; the line has been taken.
    CutAfter,
}

struct Assembly<'a> {
    rules: &'a Rules,
    joiner: &'a mut Joiner,
    batch: &'a mut Batch,
    covers: &'a mut Vec<Range>,
    stats: &'a SourceStats,
    block: Block,
    bytes: Vec<u8>,
    /// Whether the whole block is UTF-8.
    valid: bool,
}

/// A record about to be pushed.
#[derive(Clone, Copy)]
struct Ready {
    offset: u64,
    timestamp: Text,
    output: Output,
    message: Text,
    /// The length of the message before it was cut, if it was.
    original_bytes: Option<u64>,
    malformed: Option<Framing>,
    invalid_utf8: bool,
    unterminated: bool,
}

impl Assembly<'_> {
    fn lines<S: Split>(&mut self, mut split: S) -> usize {
        let Block { start, end, offset, .. } = self.block;
        let usual = self.valid && self.rules.multiline.is_none() && !self.block.needs.is_empty() && self.block.beyond.is_nothing();
        let mut usual_now = usual && self.joiner.is_idle();
        let mut at = start;
        while at < end {
            let (stop, next) = match memchr(b'\n', &self.bytes[at..end]) {
                Some(newline) => (at + newline, at + newline + 1),
                None => (end, end),
            };
            let from = if self.bytes[at] == 0 { self.skip_nul(at, stop) } else { at };
            if from == stop && from > at {
                at = next;
                continue;
            }
            let ends_here = self.block.beyond.text == 0;
            let text_end = if ends_here && stop > from && self.bytes[stop - 1] == b'\r' { stop - 1 } else { stop };
            let line = split.split(&self.bytes, from, text_end);
            if usual_now && next > stop && self.is_usual(&line) {
                self.push_usual(offset + (from - start) as u64, &line);
            } else {
                let step = self.unusual(line, from, stop, next);
                usual_now = usual && self.joiner.is_idle();
                if step == Step::CutBefore {
                    break;
                }
                if step == Step::CutAfter {
                    at = next;
                    break;
                }
            }
            at = next;
        }
        self.finish();
        at - start
    }

    fn finish(&mut self) {
        *self.batch.bytes_mut() = std::mem::take(&mut self.bytes);
    }

    #[inline]
    fn is_usual(&self, line: &Line) -> bool {
        !line.partial && line.malformed.is_none() && line.message.span.len() <= self.rules.max_record_bytes
    }

    /// Where the NULs end that `at..stop` begins with. They are what a file system puts in place of blocks that a power
    /// failure kept from the disk; what was written afterwards follows them without a newline.
    #[cold]
    fn skip_nul(&self, at: usize, stop: usize) -> usize {
        self.bytes[at..stop].iter().position(|b| *b != 0).map_or(stop, |len| at + len)
    }

    #[inline]
    fn push_usual(&mut self, offset: u64, line: &Line) {
        let timestamp = Field { key: c::TIMESTAMP, value: line.timestamp.span, kind: line.timestamp.kind };
        let message = Field { key: c::MESSAGE, value: line.message.span, kind: line.message.kind };
        match stream_name(line.output) {
            Some(name) => self.batch.push(offset, &[timestamp, Field { key: c::STREAM, value: name, kind: Kind::Text }, message]),
            None => self.batch.push(offset, &[timestamp, message]),
        }
    }

    /// Any line: `at..stop` without its newline, `at..next` with it.
    #[inline(never)]
    fn unusual(&mut self, line: Line, at: usize, stop: usize, next: usize) -> Step {
        let needs = self.block.needs;
        if self.joiner.give_up_others(line.output, needs) {
            return Step::CutBefore;
        }
        if needs.is_empty() {
            return Step::On;
        }
        let offset = self.block.offset + (at - self.block.start) as u64;
        let stretch = (offset, offset + (next - at) as u64 + self.block.beyond.bytes());
        let unterminated = next == stop && self.block.beyond.ending == 0;
        let slot = line.output as usize;
        let is_part = line.malformed.is_none() && (line.partial || self.joiner.partial[slot].is_some());
        let line = self.clean_time(line);
        if is_part {
            self.add_part(offset, &line, stretch);
            let whole = !line.partial;
            let open = &mut self.joiner.partial[slot];
            // The file's end, where the caller says that it is one, does not end a record that goes on; what comes next may.
            let Some(record) = open.take_if(|open| whole || open.is_scattered()) else { return Step::On };
            let mut record = *record;
            record.unterminated |= unterminated || !whole;
            return self.joined(record);
        }
        let (line, invalid_utf8) = self.clean(line);
        if line.malformed.is_some() {
            self.stats.malformed.add(1);
            return self.single(offset, &line, invalid_utf8, unterminated);
        }
        if self.rules.multiline.is_none() {
            return self.single(offset, &line, invalid_utf8, unterminated);
        }
        self.one_of_lines(offset, &line, invalid_utf8, unterminated, stretch)
    }

    /// Gives a line whose time is no UTF-8 that of its reading.
    fn clean_time(&self, mut line: Line) -> Line {
        if !self.valid && std::str::from_utf8(line.timestamp.span.of(&self.bytes)).is_err() {
            line.timestamp = Text { span: c::READ_TIME, kind: Kind::Text };
        }
        line
    }

    /// Makes the message of a line UTF-8, and says whether it was not. That of a part is left to [`Pending::clean`]: the
    /// runtimes split by bytes, and the character that they cut in two is whole again when its parts are joined.
    fn clean(&mut self, mut line: Line) -> (Line, bool) {
        if self.valid {
            return (line, false);
        }
        if self.block.beyond.text > 0
            && let Err(error) = std::str::from_utf8(line.message.span.of(&self.bytes))
            && error.error_len().is_none()
        {
            // The end of what was read of the line goes through a character.
            let end = line.message.span.start + error.valid_up_to() as u32;
            self.block.beyond.text += u64::from(line.message.span.end - end);
            line.message.span.end = end;
        }
        match String::from_utf8_lossy(line.message.span.of(&self.bytes)) {
            std::borrow::Cow::Borrowed(_) => (line, false),
            std::borrow::Cow::Owned(replaced) => {
                line.message.span = self.append(replaced.as_bytes());
                (line, true)
            }
        }
    }

    /// Gives a line out as a record.
    fn single(&mut self, offset: u64, line: &Line, invalid_utf8: bool, unterminated: bool) -> Step {
        let Line { timestamp, output, message, malformed, .. } = *line;
        let len = message.span.len() as u64;
        let beyond = self.block.beyond.text;
        let original_bytes = (beyond > 0).then(|| len + beyond);
        self.emit(Ready { offset, timestamp, output, message, original_bytes, malformed, invalid_utf8, unterminated });
        Step::On
    }

    fn emit_pending(&mut self, mut record: Pending) {
        record.clean();
        record.cover(self.covers);
        let timestamp = Text { span: self.append(&record.timestamp), kind: record.timestamp_kind };
        let message = Text { span: self.append(&record.text), kind: record.kind };
        self.emit(Ready {
            offset: record.offset,
            timestamp,
            output: record.output,
            message,
            original_bytes: record.cut.then_some(record.full_bytes),
            malformed: None,
            invalid_utf8: record.invalid_utf8,
            unterminated: record.unterminated,
        });
    }

    fn emit(&mut self, record: Ready) {
        let len = record.message.span.len();
        if len <= self.rules.max_record_bytes && record.original_bytes.is_none() {
            return self.push(&record, None);
        }
        match self.rules.max_record_action {
            MaxRecordAction::Drop => self.stats.dropped.add(1),
            MaxRecordAction::Truncate => {
                let original_bytes = record.original_bytes.or(Some(len as u64));
                self.push_pieces(&Ready { original_bytes, ..record }, 1);
            }
            MaxRecordAction::Split => self.push_pieces(&record, MAX_PIECES),
        }
    }

    /// Pushes the first pieces of a record, each with what is beside it in the text kept where redaction finds it.
    fn push_pieces(&mut self, record: &Ready, most: usize) {
        let text = record.message.span;
        let mut cuts = vec![0];
        // Where the text goes on beyond what was read, its last bytes are there to be seen, not to be shown.
        let most_bytes = self.rules.keep_bytes() - MARGIN_BYTES;
        let is_whole = record.original_bytes.is_none_or(|all| all <= text.len() as u64);
        let shown = if is_whole { text.len() } else { text.len().saturating_sub(MARGIN_BYTES) }.min(most_bytes);
        let mut at = 0;
        while at < shown && cuts.len() <= most {
            let rest = Span { start: text.start + at as u32, ..text };
            let piece = cut_point(rest.of(&self.bytes), record.message.kind, self.rules.max_record_bytes.min(shown - at));
            at += piece.max(1);
            cuts.push(at);
        }
        if cuts.len() == 1 {
            cuts.push(0);
        }
        let parts = cuts.len() - 1;
        for (index, piece) in cuts.windows(2).enumerate() {
            let value = Span::new(text.start as usize + piece[0], text.start as usize + piece[1]);
            let from = cuts.iter().rev().find(|cut| **cut + MARGIN_BYTES <= piece[0]).unwrap_or(&0);
            let to = cuts.iter().find(|cut| **cut >= piece[1] + MARGIN_BYTES).copied();
            let to = to.unwrap_or(text.len());
            let is_cut_off = index + 1 == parts && piece[1] < text.len();
            let original_bytes = if is_cut_off { record.original_bytes.or(Some(text.len() as u64)) } else { None };
            let message = Text { span: value, ..record.message };
            let piece = Ready { offset: record.offset + index as u64, message, original_bytes, ..*record };
            self.push(&piece, (parts > 1).then_some((index + 1, parts)));
            let around = Span::new(text.start as usize + from, text.start as usize + to);
            self.batch.cuts().push(Cut { value, around });
        }
    }

    fn push(&mut self, record: &Ready, part: Option<(usize, usize)>) {
        let mut fields = [Field { key: c::TIMESTAMP, value: record.timestamp.span, kind: record.timestamp.kind }; 10];
        let mut count = 1;
        let mut add = |key: Span, value: Span, kind: Kind| {
            fields[count] = Field { key, value, kind };
            count += 1;
        };
        if let Some(name) = stream_name(record.output) {
            add(c::STREAM, name, Kind::Text);
        }
        add(c::MESSAGE, record.message.span, record.message.kind);
        if let Some(framing) = record.malformed {
            add(c::PARSE_ERROR, if framing == Framing::Docker { c::DOCKER } else { c::CRI }, Kind::Text);
        }
        if record.invalid_utf8 {
            self.stats.invalid_utf8.add(1);
            add(c::INVALID_UTF8, c::TRUE, Kind::Bool);
        }
        if let Some(original) = record.original_bytes {
            self.stats.truncated.add(1);
            add(c::TRUNCATED, c::TRUE, Kind::Bool);
            add(c::ORIGINAL_BYTES, number(&mut self.bytes, original), Kind::Number);
        }
        if let Some((part, parts)) = part {
            add(c::PART, number(&mut self.bytes, part as u64), Kind::Number);
            add(c::PARTS, number(&mut self.bytes, parts as u64), Kind::Number);
        }
        if record.unterminated {
            add(c::UNTERMINATED, c::TRUE, Kind::Bool);
        }
        self.batch.push(record.offset, &fields[..count]);
    }

    fn append(&mut self, text: &[u8]) -> Span {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(text);
        Span::new(start, self.bytes.len())
    }
}

fn number(bytes: &mut Vec<u8>, number: u64) -> Span {
    let start = bytes.len();
    bytes.extend_from_slice(number.to_string().as_bytes());
    Span::new(start, bytes.len())
}

fn stream_name(output: Output) -> Option<Span> {
    match output {
        Output::Stdout => Some(c::STDOUT),
        Output::Stderr => Some(c::STDERR),
        Output::Single => None,
    }
}

#[cfg(test)]
mod tests;
