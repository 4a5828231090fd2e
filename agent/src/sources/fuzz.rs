//! Reading, framing and joining, fuzzed from the corpora in `tests/corpus/cri` and `tests/corpus/docker`: whatever a file
//! holds, each of its bytes is accounted for once, all that comes out is UTF-8, and it is the same however the file was cut
//! into reads.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use skidder_pipeline::batch::Batch;
use skidder_pipeline::edge::Nanos;
use skidder_pipeline::position::{FileKey, MARKER_BYTES, Range, RangeSet, marker};
use skidder_pipeline::shared::Shared;
use skidder_pipeline::source::SinkSet;
use skidder_pipeline::stats::SourceStats;

use super::assemble::constants::{self, HEAD};
use super::assemble::{Beyond, Block, MaxRecordAction, Rules, assemble, assemble_ready};
use super::framing::Framing;
use super::join::Joiner;
use super::multiline::MultilineConfig;
use super::testing::show;

const FILE: FileKey = FileKey([1; 16]);

/// What one file gave out: offset and text of each record.
type Records = Vec<(u64, String)>;

struct Reader<'a> {
    rules: &'a Rules,
    framing: Framing,
    text: &'a [u8],
    joiner: Joiner,
    stats: SourceStats,
    covered: RangeSet,
    records: Records,
}

impl Reader<'_> {
    /// Reads the text in blocks of about `block_bytes`, as the tailing does: whole lines, and the last one as it is.
    fn read(mut self, block_bytes: usize) -> Records {
        let mut cursor = 0;
        while cursor < self.text.len() {
            let rest = &self.text[cursor..];
            let newline = |text: &[u8]| text.iter().rposition(|byte| *byte == b'\n').map(|at| at + 1);
            let first = || rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |at| at + 1);
            let len = newline(&rest[..block_bytes.min(rest.len())]).unwrap_or_else(first);
            cursor += self.block(cursor, len);
            self.deliver();
        }
        self.joiner.give_up(false, |_| true);
        self.deliver();
        let all: Vec<(u64, u64)> = self.covered.stretches().iter().map(|held| (held.start, held.end)).collect();
        let expected = if self.text.is_empty() { vec![] } else { vec![(0, self.text.len() as u64)] };
        assert_eq!(all, expected, "each byte is accounted for");
        self.records
    }

    fn block(&mut self, cursor: usize, len: usize) -> usize {
        let lead = MARKER_BYTES.min(cursor);
        let mut batch = Batch::new(Shared::empty(), FILE);
        constants::prepare(batch.bytes_mut(), 0, 0);
        batch.bytes_mut().extend_from_slice(&self.text[cursor - lead..cursor + len]);
        let start = HEAD + lead;
        let block = Block {
            file: FILE,
            needs: SinkSet::first(1),
            start,
            end: start + len,
            offset: cursor as u64,
            beyond: Beyond::default(),
            now: Nanos(0),
        };
        let mut covers = Vec::new();
        let taken = assemble(self.rules, self.framing, &mut self.joiner, &mut batch, &mut covers, &self.stats, block);
        assert!(taken > 0 || !self.joiner.ready.is_empty(), "it gets on");
        if taken > 0 {
            let last = marker(&batch.bytes()[HEAD..start + taken]);
            let text = batch.bytes()[HEAD..start + taken].to_vec();
            self.joiner.settle(FILE, (cursor as u64, (cursor + taken) as u64), &text, last, &mut covers);
        }
        self.take(&batch, &covers);
        taken
    }

    fn deliver(&mut self) {
        loop {
            let mut batch = Batch::new(Shared::empty(), FILE);
            constants::prepare(batch.bytes_mut(), 0, 0);
            let mut covers = Vec::new();
            if assemble_ready(self.rules, &mut self.joiner, &mut batch, &mut covers, &self.stats).is_none() {
                return;
            }
            self.take(&batch, &covers);
        }
    }

    fn take(&mut self, batch: &Batch, covers: &[Range]) {
        for range in covers {
            let twice = self.covered.stretches().iter().any(|held| held.start < range.end && range.start < held.end);
            assert!(!twice, "{range:?} was accounted for before");
            let before = &self.text[..range.end as usize];
            assert_eq!(range.marker, marker(before), "the marker of {range:?} is that of the bytes before its end");
            self.covered.insert(range.start, range.end, range.marker);
        }
        for record in batch.records() {
            for (key, value) in record.iter() {
                assert!(std::str::from_utf8(key).is_ok() && std::str::from_utf8(value.raw).is_ok(), "a field is no UTF-8");
            }
        }
        self.records.extend(batch.records().zip(show(batch)).map(|(record, text)| (record.offset, text)));
    }
}

fn check(framing: Framing, input: &[u8]) {
    let indent = || toml::from_str::<MultilineConfig>("mode = \"indent\"").unwrap().build().unwrap();
    let rules = |max_record_bytes, max_record_action, multiline| Rules { max_record_bytes, max_record_action, multiline };
    let all = [
        rules(1 << 20, MaxRecordAction::Truncate, None),
        rules(100, MaxRecordAction::Truncate, None),
        rules(40, MaxRecordAction::Split, None),
        rules(200, MaxRecordAction::Truncate, Some(indent())),
    ];
    for rules in &all {
        let read = |block_bytes| {
            let (joiner, stats) = (Joiner::default(), SourceStats::default());
            Reader { rules, framing, text: input, joiner, stats, covered: RangeSet::default(), records: Vec::new() }.read(block_bytes)
        };
        let whole = read(usize::MAX);
        for block_bytes in [1, 150] {
            assert_eq!(read(block_bytes), whole, "in blocks of {block_bytes} bytes, {rules:?}");
        }
    }
}

#[test]
fn cri_logs_of_any_content() {
    let tokens: &[&[u8]] = &[
        b"\n",
        b"2026-03-10T15:48:15Z stdout P ",
        b"2026-03-10T15:48:15.217676062Z stderr F ",
        b" F\n",
        b"\0",
        b"\r\n",
        b"\xf0\x9f",
        b"\t",
    ];
    skidder_tests::fuzz::run("cri", "tests/corpus/cri", tokens, |input| check(Framing::Cri, input));
}

#[test]
fn docker_logs_of_any_content() {
    let tokens: &[&[u8]] =
        &[b"\n", br#"{"log":""#, br#"\n","stream":"stdout","time":"t"}"#, br#"\ud83d"#, b"\\", b"\"", b"\0", b"\xc3", b"[["];
    skidder_tests::fuzz::run("docker", "tests/corpus/docker", tokens, |input| check(Framing::Docker, input));
}
