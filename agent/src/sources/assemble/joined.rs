//! Lines that are parts of records: how they find to each other.

use skidder_pipeline::value::{Kind, Value};

use super::super::framing::Line;
use super::super::join::Pending;
use super::super::multiline::Decision;
use super::{Assembly, Step};

impl Assembly<'_> {
    /// Adds a line to the record of parts of its output.
    pub(super) fn add_part(&mut self, offset: u64, line: &Line, stretch: (u64, u64)) {
        let slot = line.output as usize;
        let mut open = self.joiner.partial[slot].take().unwrap_or_else(|| Box::new(self.begin(offset, line)));
        open.append(line.message.span.of(&self.bytes), line.message.kind, self.block.beyond.text, self.rules.keep_bytes());
        open.touched = self.block.now;
        open.add_stretch(stretch.0, stretch.1);
        self.joiner.partial[slot] = Some(open);
    }

    fn begin(&self, offset: u64, line: &Line) -> Pending {
        let timestamp = (line.timestamp.span.of(&self.bytes), line.timestamp.kind);
        Pending::new((self.block.file, self.batch.shared().clone()), offset, self.block.needs, line.output, timestamp, line.message.kind)
    }

    /// A whole line, of one part, where lines are joined.
    pub(super) fn one_of_lines(&mut self, offset: u64, line: &Line, invalid_utf8: bool, unterminated: bool, stretch: (u64, u64)) -> Step {
        let slot = line.output as usize;
        let text = Value { kind: line.message.kind, raw: line.message.span.of(&self.bytes) };
        let (ends_open, decision) = self.decide(slot, text);
        if ends_open
            && let Some(done) = self.joiner.lines[slot].take()
            && self.give_out(*done) == Step::CutAfter
        {
            return Step::CutBefore;
        }
        if decision == Decision::Alone {
            return self.single(offset, line, invalid_utf8, unterminated);
        }
        let mut open = match self.joiner.lines[slot].take() {
            Some(mut open) => {
                open.append(b"\n", Kind::Text, 0, self.rules.keep_bytes());
                open
            }
            None => Box::new(self.begin(offset, line)),
        };
        open.append(line.message.span.of(&self.bytes), line.message.kind, self.block.beyond.text, self.rules.keep_bytes());
        open.add_line(invalid_utf8, self.block.now);
        open.add_stretch(stretch.0, stretch.1);
        self.keep_or_give(slot, open, decision)
    }

    /// A record joined of parts: one line, as far as records of several lines are concerned. Its parts have been taken.
    pub(super) fn joined(&mut self, mut record: Pending) -> Step {
        record.lines = 1;
        if self.rules.multiline.is_none() {
            return self.give_out(record);
        }
        record.clean();
        let slot = record.output as usize;
        let (ends_open, decision) = self.decide(slot, Value { kind: record.kind, raw: &record.text });
        let mut step = Step::On;
        if ends_open && let Some(done) = self.joiner.lines[slot].take() {
            step = self.give_out(*done);
        }
        let last = if decision == Decision::Alone { self.give_out(record) } else { self.add_joined(slot, record, decision) };
        if step == Step::CutAfter { step } else { last }
    }

    /// Whether the line `text` ends the open record of `slot`, and what becomes of it then.
    fn decide(&self, slot: usize, text: Value<'_>) -> (bool, Decision) {
        let Some(multiline) = &self.rules.multiline else { return (false, Decision::Alone) };
        let plain = text.plain();
        let open = self.joiner.lines[slot].as_ref();
        if open.is_none_or(|open| self.has_room(open, text.raw.len(), multiline.max_lines)) {
            match multiline.decide(open.is_some(), &plain) {
                Decision::EndFirst => {}
                decision => return (false, decision),
            }
        }
        (true, multiline.decide(false, &plain))
    }

    fn has_room(&self, open: &Pending, more: usize, max_lines: u32) -> bool {
        open.lines < max_lines && open.text.len() + 1 + more <= self.rules.max_record_bytes && !open.is_scattered()
    }

    /// Adds a record joined of parts to the open record of several lines, or lets it be the first of one.
    fn add_joined(&mut self, slot: usize, line: Pending, decision: Decision) -> Step {
        let open = match self.joiner.lines[slot].take() {
            Some(mut open) => {
                open.append(b"\n", Kind::Text, 0, self.rules.keep_bytes());
                open.absorb(line, self.rules.keep_bytes());
                open
            }
            None => Box::new(line),
        };
        self.keep_or_give(slot, open, decision)
    }

    fn keep_or_give(&mut self, slot: usize, open: Box<Pending>, decision: Decision) -> Step {
        if decision == Decision::AppendLast {
            return self.give_out(*open);
        }
        self.joiner.lines[slot] = Some(open);
        Step::On
    }

    /// Gives a complete record out: here, if it is of this chunk's file and for its sinks and nothing is before it.
    fn give_out(&mut self, record: Pending) -> Step {
        if self.joiner.ready.is_empty() && record.file == self.block.file && record.needs == self.block.needs {
            self.emit_pending(record);
            return Step::On;
        }
        self.joiner.ready.push_back(record);
        Step::CutAfter
    }
}
