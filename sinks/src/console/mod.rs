//! `console`: records to the terminal or a pipe.

mod pretty;

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use skidder_pipeline::batch::{Batch, RecordView};
use skidder_pipeline::body::{Bodies, BodyLimits, Compression};
use skidder_pipeline::delivery::Options;
use skidder_pipeline::frame::Frame;
use skidder_pipeline::json;
use skidder_pipeline::path::Path;
use skidder_pipeline::problem::Problem;
use skidder_pipeline::sink::{Encode, Response, Sending, Sink, Transport, TransportError, Verdict};

use crate::common::schema::Schema;
use crate::common::{BufferConfig, BufferType};
use crate::{SinkContext, SinkParts, lines, unless};

/// Writes records to the standard output or the standard error: to look at them, or to pipe them on.
///
/// On a terminal they are laid out for people, elsewhere one JSON object a line. Its buffer is in memory. Where the reader
/// of a pipe has gone (`skidder run … | head`), the rest is thrown away quietly.
#[derive(Clone, Debug, Default, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConsoleConfig {
    /// Where to write.
    #[serde(default)]
    pub target: Target,
    /// How to write: `json`, `pretty` or `text`. Where it is not given, `pretty` on a terminal and `json` elsewhere, or where a schema
    /// is asked for.
    pub encoding: Option<Encoding>,
    /// What fields are called in `json`: `vector` leaves the names as they are (`kubernetes.pod_name`), `otel` has those of
    /// OpenTelemetry's conventions (`k8s.pod.name`), `ecs` those of the Elastic Common Schema (`kubernetes.pod.name`).
    #[serde(default)]
    pub schema: Schema,
    /// Where records wait.
    #[serde(default)]
    pub buffer: BufferConfig,
}

/// A standard stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The standard output.
    #[default]
    Stdout,
    /// The standard error.
    Stderr,
}

/// How the console writes records.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// One JSON object a line.
    Json,
    /// Time, where from, level, message and the other fields, for people; in colours on a terminal.
    Pretty,
    /// The message alone; the JSON of a record without one.
    Text,
}

impl ConsoleConfig {
    pub(crate) fn build(&self, context: &SinkContext) -> Result<SinkParts, Vec<Problem>> {
        let mut problems = Vec::new();
        let buffer = self.buffer.resolve(BufferType::Memory, &mut problems);
        if self.schema != Schema::Vector && matches!(self.encoding, Some(Encoding::Pretty | Encoding::Text)) {
            let help = "write `encoding = \"json\"`, or leave `schema` out";
            problems.push(Problem::at("schema", "the names of a schema are for `json`; the other encodings write none").help(help));
        }
        unless(problems, || {
            let terminal = match self.target {
                Target::Stdout => context.stdout_is_terminal,
                Target::Stderr => context.stderr_is_terminal,
            };
            // Who asks for a schema's names wants to see them.
            let people = terminal && self.schema == Schema::Vector;
            let encoding = self.encoding.unwrap_or(if people { Encoding::Pretty } else { Encoding::Json });
            let out: Box<dyn Write + Send> = match self.target {
                Target::Stdout => Box::new(io::stdout()),
                Target::Stderr => Box::new(io::stderr()),
            };
            SinkParts {
                sink: Arc::new(Console { encoding, colours: terminal, schema: self.schema }),
                transport: Arc::new(StreamTransport::new(out, context.output_closed.clone())),
                compression: Compression::None,
                // Someone may be looking: a tenth of a second is not seen, and 64 KiB is what a pipe holds.
                limits: BodyLimits { max_bytes: 64 << 10, max_records: 10_000, linger: Duration::from_millis(100), max_open: 1 },
                buffer,
                // A reader that has stopped reading is waited for; to write the same again would write it twice.
                delivery: Options { timeout: None, ..Options::default() },
            }
        })
    }
}

/// The sink. A body is the text to write.
struct Console {
    encoding: Encoding,
    colours: bool,
    schema: Schema,
}

impl Sink for Console {
    fn encoder(&self) -> Box<dyn Encode> {
        let write: Box<dyn Write1> = match self.encoding {
            Encoding::Json => Box::new(lines::write_line),
            Encoding::Pretty => {
                let pretty = pretty::Pretty::new(self.colours);
                Box::new(move |record: &RecordView<'_>, _: &[u8], out: &mut Vec<u8>| pretty.write(record, out))
            }
            Encoding::Text => {
                let message = Path::parse("message").ok();
                Box::new(move |record: &RecordView<'_>, shared: &[u8], out: &mut Vec<u8>| {
                    match message.as_ref().and_then(|path| record.get(path)) {
                        Some(value) => {
                            out.extend_from_slice(&value.plain());
                            out.push(b'\n');
                        }
                        None => lines::write_line(record, shared, out),
                    }
                })
            }
        };
        self.schema.wrap(Box::new(ConsoleEncoder { write, scratch: Vec::new() }))
    }

    fn judge(&self, _: &Frame, _: &Response) -> Verdict {
        Verdict::Delivered { duplicates: 0 }
    }

    // Neither is asked for: a stream takes a frame or fails as a whole.
    fn cut(&self, body: &[u8], records: &[u32]) -> Vec<u8> {
        lines::cut(body, records, 1)
    }

    fn show(&self, body: &[u8], index: u32) -> Vec<u8> {
        let mut shown = vec![b'"'];
        json::escape(lines::nth(body, index, 1).unwrap_or_default(), &mut shown);
        shown.push(b'"');
        shown
    }
}

/// Writes one record; the slice is the batch's [`lines::shared_members`].
trait Write1: Fn(&RecordView<'_>, &[u8], &mut Vec<u8>) + Send {}
impl<F: Fn(&RecordView<'_>, &[u8], &mut Vec<u8>) + Send> Write1 for F {}

struct ConsoleEncoder {
    write: Box<dyn Write1>,
    scratch: Vec<u8>,
}

impl Encode for ConsoleEncoder {
    fn encode(&mut self, batch: &Batch, _: u8, out: &mut Bodies) {
        let shared = lines::shared_members(batch.shared());
        self.scratch.clear();
        for record in batch.records() {
            (self.write)(&record, &shared, &mut self.scratch);
        }
        out.write("", &self.scratch, batch.len() as u32);
    }
}

/// Writes frames to a stream, one after the other.
struct StreamTransport {
    stream: Arc<Mutex<Stream>>,
}

struct Stream {
    out: Box<dyn Write + Send>,
    /// The frame that was written in part when an error came, and how much of it: the next try goes on from there.
    unfinished: Option<(u64, usize)>,
    closed: bool,
    on_closed: Option<Arc<dyn Fn() + Send + Sync>>,
}

impl StreamTransport {
    fn new(out: Box<dyn Write + Send>, on_closed: Option<Arc<dyn Fn() + Send + Sync>>) -> StreamTransport {
        StreamTransport { stream: Arc::new(Mutex::new(Stream { out, unfinished: None, closed: false, on_closed })) }
    }
}

impl Transport for StreamTransport {
    fn send<'a>(&'a self, frame: &'a Frame) -> Sending<'a> {
        let (stream, seq, body) = (self.stream.clone(), frame.header().seq, frame.body().clone());
        // A terminal may be stopped (Ctrl-S) and a pipe full for as long as they like: not on the threads of the others.
        let write = move || stream.lock().unwrap_or_else(PoisonError::into_inner).write(seq, &body);
        Box::pin(async move {
            let written = tokio::task::spawn_blocking(write).await.unwrap_or_else(|e| Err(io::Error::other(e)));
            written.map(|()| Response::ok()).map_err(|e| TransportError(format!("the output cannot be written: {e}")))
        })
    }

    fn concurrency(&self) -> Option<usize> {
        Some(1)
    }
}

impl Stream {
    fn write(&mut self, seq: u64, body: &[u8]) -> io::Result<()> {
        let mut done = match self.unfinished.take() {
            Some((of, done)) if of == seq => done.min(body.len()),
            _ => 0,
        };
        while done < body.len() && !self.closed {
            match self.out.write(&body[done..]) {
                Ok(0) => self.close(),
                Ok(count) => done += count,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::BrokenPipe => self.close(),
                Err(e) => {
                    self.unfinished = Some((seq, done));
                    return Err(e);
                }
            }
        }
        if !self.closed {
            match self.out.flush() {
                Err(e) if e.kind() == io::ErrorKind::BrokenPipe => self.close(),
                Err(e) => {
                    self.unfinished = Some((seq, done));
                    return Err(e);
                }
                Ok(()) => {}
            }
        }
        Ok(())
    }

    /// The reader has gone and wants no more.
    fn close(&mut self) {
        self.closed = true;
        if let Some(tell) = self.on_closed.take() {
            tell();
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
