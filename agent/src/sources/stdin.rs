//! The `stdin` source: what is piped in.

use std::io::Read as Input;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread;
use std::time::Duration;

use memchr::{memchr, memrchr};
use schemars::JsonSchema;
use serde::Deserialize;
use skidder_pipeline::edge::{Clock, Nanos};
use skidder_pipeline::position::FileKey;
use skidder_pipeline::problem::Problem;
use skidder_pipeline::shared::{Shared, SharedFields};
use skidder_pipeline::source::{Chunk, Read, SinkSet, Source};
use skidder_pipeline::stats::SourceStats;
use skidder_pipeline::value::Value;

use super::assemble::{Beyond, Block, MaxRecordAction, Rules, assemble, assemble_ready, constants};
use super::framing::{Format, Framing, first_line};
use super::join::Joiner;
use super::multiline::MultilineConfig;
use super::tail::BLOCK_BYTES;
use super::{SourceContext, check_common, default_max_record_bytes};

/// How many blocks may wait to be worked on: one being filled while another is read.
const MAX_BLOCKS: usize = 2;
/// What a line may have beside its message and still get the whole of `max_record_bytes` for that.
const MAX_HEADER_BYTES: usize = 4 * 1024;
/// How long the worker may sleep; it is woken when there is something to read.
const SLEEP: Duration = Duration::from_secs(1);
/// How long to wait, when stopping, for a block that is on its way.
const HAND_OVER: Duration = Duration::from_millis(1);

/// Reads lines from the standard input until it ends.
///
/// What was read and not delivered when the agent stops is kept in the sinks' buffers; there are no positions. Fields:
/// `message`, `timestamp`, `source_type`, and `stream` where the format has one.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StdinConfig {
    /// How lines are framed.
    #[serde(default)]
    pub format: Format,
    /// How lines are joined to records of several lines, such as stack traces. Without it each line is a record.
    pub multiline: Option<MultilineConfig>,
    /// The longest message of a record, in bytes.
    #[serde(default = "default_max_record_bytes")]
    pub max_record_bytes: usize,
    /// What becomes of a longer one.
    #[serde(default)]
    pub max_record_action: MaxRecordAction,
}

impl StdinConfig {
    pub(super) fn check(&self) -> Vec<Problem> {
        check_common(self.max_record_bytes, super::default_rescan_interval_ms(), self.multiline.as_ref())
    }

    pub(super) fn build(&self, context: SourceContext) -> anyhow::Result<Box<dyn Source>> {
        let rules = super::rules(self.max_record_bytes, self.max_record_action, self.multiline.as_ref())?;
        Ok(Box::new(Stdin::start(Box::new(std::io::stdin()), rules, self.format, context)?))
    }
}

struct Stdin {
    blocks: Receiver<Vec<u8>>,
    /// Tells the reader to read no more.
    stopping: Arc<AtomicBool>,
    /// Whether the reader holds a block that is not in the channel yet.
    handing_over: Arc<AtomicBool>,
    rules: Rules,
    format: Format,
    framing: Option<Framing>,
    joiner: Joiner,
    shared: Arc<Shared>,
    file: FileKey,
    sinks: SinkSet,
    stats: Arc<SourceStats>,
    clock: Arc<dyn Clock>,
    /// The beginning of a line whose end has not come yet, as far as a record may hold it.
    carry: Vec<u8>,
    /// How much of that line was left out.
    beyond: u64,
    /// Its last two bytes so far.
    last: [u8; 2],
    /// Offset of `carry` in all that was read.
    offset: u64,
    ended: bool,
}

impl Stdin {
    fn start(input: Box<dyn Input + Send>, rules: Rules, format: Format, context: SourceContext) -> anyhow::Result<Stdin> {
        let (sender, blocks) = sync_channel(MAX_BLOCKS);
        let (stopping, handing_over) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let reader = Reader {
            input,
            sender,
            stopping: stopping.clone(),
            handing_over: handing_over.clone(),
            wake: context.wake.clone(),
            source: context.name.clone(),
        };
        thread::Builder::new().name("stdin".into()).stack_size(256 * 1024).spawn(move || reader.run())?;
        let mut fields = SharedFields::default();
        fields.set(b"source_type", Value::text(b"stdin"));
        // Each run's input is one of its own: it cannot be read again.
        let run = context.clock.unix_nanos().to_le_bytes();
        let process = std::process::id().to_le_bytes();
        Ok(Stdin {
            blocks,
            stopping,
            handing_over,
            rules,
            format,
            framing: None,
            joiner: Joiner::default(),
            shared: Shared::new(fields),
            file: FileKey::of(&[b"stdin", &context.epoch, context.name.as_bytes(), &run, &process]),
            sinks: context.sinks,
            stats: context.stats,
            clock: context.clock,
            carry: Vec::new(),
            beyond: 0,
            last: [0; 2],
            offset: 0,
            ended: false,
        })
    }

    /// Makes records of what is complete with `block`, and carries the rest.
    fn add(&mut self, chunk: &mut Chunk, block: &[u8], now: Nanos) {
        let (Some(first), Some(last)) = (memchr(b'\n', block), memrchr(b'\n', block)) else { return self.keep(block) };
        let (mut head, whole) = (0, last + 1);
        if !self.carry.is_empty() {
            head = first + 1;
            self.keep(&block[..head]);
            if self.beyond > 0 {
                self.take_carry(chunk, now);
            }
        }
        let carry = std::mem::take(&mut self.carry);
        self.take(chunk, &[&carry, &block[head..whole]], Beyond::default(), now);
        self.keep(&block[whole..]);
    }

    /// Adds to the line whose end has not come.
    fn keep(&mut self, text: &[u8]) {
        let limit = self.rules.keep_bytes().saturating_add(MAX_HEADER_BYTES);
        let kept = limit.saturating_sub(self.carry.len()).min(text.len());
        self.carry.extend_from_slice(&text[..kept]);
        self.beyond += (text.len() - kept) as u64;
        match text {
            [.., before, last] => self.last = [*before, *last],
            [last] => self.last = [self.last[1], *last],
            [] => {}
        }
    }

    /// Makes a record of the carried line as it is.
    fn take_carry(&mut self, chunk: &mut Chunk, now: Nanos) {
        let carry = std::mem::take(&mut self.carry);
        let beyond = Beyond::of(std::mem::take(&mut self.beyond), &self.last);
        self.take(chunk, &[&carry], beyond, now);
    }

    /// Makes records of whole lines. Nothing can keep one from being taken: there is but one file and one set of sinks.
    fn take(&mut self, chunk: &mut Chunk, parts: &[&[u8]], beyond: Beyond, now: Nanos) {
        let Some(first) = parts.iter().find(|part| !part.is_empty()) else { return };
        let framing = *self.framing.get_or_insert_with(|| self.format.decide(first_line(first).unwrap_or(first)));
        let bytes = chunk.batch.bytes_mut();
        if bytes.is_empty() {
            constants::prepare(bytes, 0, self.clock.unix_nanos());
        }
        let start = bytes.len();
        for part in parts {
            bytes.extend_from_slice(part);
        }
        let end = bytes.len();
        let block = Block { file: self.file, needs: self.sinks, start, end, offset: self.offset, beyond, now };
        assemble(&self.rules, framing, &mut self.joiner, &mut chunk.batch, &mut chunk.covers, &self.stats, block);
        self.joiner.forget_stretches();
        self.offset += (end - start) as u64 + beyond.bytes();
    }

    fn finish(&mut self, chunk: &mut Chunk, read: u64) -> Read {
        chunk.covers.clear();
        chunk.bytes_read = read;
        self.stats.bytes.add(read);
        self.stats.records.add(chunk.batch.len() as u64);
        Read::Chunk
    }

    /// Gives out the records that wait for further lines.
    fn give_ready(&mut self, chunk: &mut Chunk) -> Option<Read> {
        if self.joiner.ready.is_empty() {
            return None;
        }
        constants::prepare(chunk.batch.bytes_mut(), 0, self.clock.unix_nanos());
        assemble_ready(&self.rules, &mut self.joiner, &mut chunk.batch, &mut chunk.covers, &self.stats)?;
        Some(self.finish(chunk, 0))
    }

    fn end(&mut self, chunk: &mut Chunk, now: Nanos) -> Read {
        if !self.ended {
            self.ended = true;
            self.take_carry(chunk, now);
            let marked = self.rules.multiline.as_ref().is_some_and(|multiline| multiline.has_last_line());
            self.joiner.give_up(marked, |_| true);
            if !chunk.batch.is_empty() {
                return self.finish(chunk, 0);
            }
        }
        self.give_ready(chunk).unwrap_or(Read::End)
    }
}

impl Source for Stdin {
    fn read(&mut self, chunk: &mut Chunk, now: Nanos) -> Read {
        chunk.batch.reset(self.shared.clone(), self.file);
        (chunk.needs, chunk.bytes_read) = (self.sinks, 0);
        chunk.covers.clear();
        if self.ended {
            return self.end(chunk, now);
        }
        loop {
            match self.blocks.try_recv() {
                Ok(block) => {
                    self.add(chunk, &block, now);
                    if !chunk.batch.is_empty() {
                        return self.finish(chunk, block.len() as u64);
                    }
                    self.stats.bytes.add(block.len() as u64);
                }
                Err(TryRecvError::Disconnected) => return self.end(chunk, now),
                Err(TryRecvError::Empty) => break,
            }
        }
        if self.stopping.load(Ordering::Acquire) {
            // A block that was taken from the input must not be left in the reader's hands.
            let handing_over = self.handing_over.load(Ordering::Acquire);
            return if handing_over { Read::Idle { until: now.after(HAND_OVER) } } else { self.end(chunk, now) };
        }
        let timeout = self.rules.multiline.as_ref().map(|multiline| multiline.timeout);
        if let Some(timeout) = timeout {
            self.joiner.expire(now, timeout);
            if let Some(read) = self.give_ready(chunk) {
                return read;
            }
        }
        let expiry = timeout.and_then(|timeout| self.joiner.next_expiry(timeout));
        Read::Idle { until: expiry.unwrap_or(now.after(SLEEP)).min(now.after(SLEEP)) }
    }

    /// What was read is given out as it is, since it cannot be read again; what has not been read is left in the pipe.
    fn stop(&mut self) {
        self.stopping.store(true, Ordering::Release);
    }
}

/// What the reader works with.
struct Reader {
    input: Box<dyn Input + Send>,
    sender: SyncSender<Vec<u8>>,
    stopping: Arc<AtomicBool>,
    handing_over: Arc<AtomicBool>,
    wake: Arc<dyn Fn() + Send + Sync>,
    source: String,
}

impl Reader {
    /// Reads the input to its end and hands it over, block by block. Dropping the sender tells of the end.
    fn run(self) {
        let Reader { mut input, sender, stopping, handing_over, wake, source } = self;
        let mut buffer = vec![0; BLOCK_BYTES];
        while !stopping.load(Ordering::Acquire) {
            match input.read(&mut buffer) {
                Ok(0) => break,
                Ok(len) => {
                    handing_over.store(true, Ordering::Release);
                    let sent = sender.send(buffer[..len].to_vec());
                    handing_over.store(false, Ordering::Release);
                    if sent.is_err() {
                        break;
                    }
                    wake();
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => {
                    tracing::error!(%source, %error, "cannot read the standard input any more");
                    break;
                }
            }
        }
        drop(sender);
        wake();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use crate::sources::testing::{context, show};
    use skidder_pipeline::batch::Batch;

    /// The records of an input that comes in the given pieces.
    fn records(pieces: &[&[u8]], format: Format, max_record_bytes: usize, multiline: Option<&str>) -> Vec<String> {
        struct Pieces(std::vec::IntoIter<Vec<u8>>);
        impl Input for Pieces {
            fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
                let Some(piece) = self.0.next() else { return Ok(0) };
                buffer[..piece.len()].copy_from_slice(&piece);
                Ok(piece.len())
            }
        }
        let multiline = multiline.map(|config| toml::from_str::<MultilineConfig>(config).unwrap().build().unwrap());
        let rules = Rules { max_record_bytes, max_record_action: MaxRecordAction::Truncate, multiline };
        let dir = tempfile::tempdir().unwrap();
        let pieces = pieces.iter().map(|piece| piece.to_vec()).collect::<Vec<_>>().into_iter();
        let mut stdin = Stdin::start(Box::new(Pieces(pieces)), rules, format, context(dir.path())).unwrap();
        let mut chunk = Chunk { batch: Batch::new(Shared::empty(), FileKey([0; 16])), covers: vec![], needs: SinkSet(0), bytes_read: 0 };
        let mut out = Vec::new();
        loop {
            match stdin.read(&mut chunk, Nanos(0)) {
                Read::Chunk => {
                    assert!(chunk.covers.is_empty());
                    out.extend(show(&chunk.batch));
                }
                Read::Idle { .. } => thread::yield_now(),
                Read::End => return out,
            }
        }
    }

    #[test]
    fn lines_are_put_together_from_pieces() {
        let pieces: &[&[u8]] = &[b"on", b"e\ntw", b"o\n\nthree\r\nfo", b"ur"];
        assert_eq!(records(pieces, Format::Raw, 1_000, None), ["one", "two", "", "three", "four unterminated"]);
        let cri = b"2026-03-10T15:48:15.217676062Z stdout P a";
        let pieces: &[&[u8]] = &[cri, b"\n2026-03-10T15:48:16.217676062Z stdout F b\n"];
        assert_eq!(records(pieces, Format::Auto, 1_000, None), ["stdout:ab"]);
        assert_eq!(records(&[b"a\n b\n", b" c\nd\n"], Format::Raw, 1_000, Some("mode = \"indent\"")), ["a\n b\n c", "d"]);
        assert_eq!(records(&[], Format::Auto, 1_000, None), Vec::<String>::new());
    }

    #[test]
    fn a_line_without_end_is_cut_and_counted() {
        let long = vec![b'x'; 10_000];
        let expected = format!("{} truncated of 40000", "x".repeat(100));
        let pieces: &[&[u8]] = &[&long, &long, &long, &long, b"\nnext\n"];
        assert_eq!(records(pieces, Format::Raw, 100, None), [expected.clone(), "next".into()]);
        assert_eq!(records(&pieces[..4], Format::Raw, 100, None), [expected.replace(" truncated", " unterminated truncated")]);
        let pieces: &[&[u8]] = &[&long, &long, &long, &long, b"\r", b"\nnext\r\n"];
        assert_eq!(records(pieces, Format::Raw, 100, None), [expected, "next".into()], "the end of a line is none of its text");
    }
}
