//! `file`: records as lines of JSON in files.
//!
//! Nothing is written twice and nothing lost over a kill at any moment, though a file cannot refuse a second copy: after each
//! frame its file's identity and length are kept beside the acknowledgement ([`Note`](skidder_pipeline::sink::Note)), and at
//! the next start each file is cut back to them ([`recover`]). What was written and not acknowledged is then written again.

mod beneath;
mod births;
mod recover;
mod transport;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use skidder_pipeline::batch::Batch;
use skidder_pipeline::body::{Bodies, Compression};
use skidder_pipeline::delivery::Options;
use skidder_pipeline::frame::Frame;
use skidder_pipeline::problem::Problem;
use skidder_pipeline::shared::PerShared;
use skidder_pipeline::sink::{Encode, Response, Sink, Verdict};

use crate::common::schema::{Renamer, Schema};
use crate::common::{BatchConfig, BatchDefaults, BufferConfig, BufferType, ByteSize};
use crate::destination::{Destination, MISSING, Router};
use crate::{SinkContext, SinkParts, lines, unless};
use transport::{FileTransport, Settings};

/// Writes records as lines of JSON into files, whose path may be made of fields.
///
/// Over a kill and a restart each record is in its file once. Its buffer is in memory: the files are the store.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileConfig {
    /// The path: a template, `/var/log/all/{{ kubernetes.pod_namespace }}/%Y-%m-%d.json`. `{{ field }}` stands for a field of the
    /// record, `%Y`, `%m` and `%d` for the date of its `timestamp`. It begins with a directory of its own, which no record's
    /// file is outside of: a field is one part of a name, in which anything but letters, digits, `.`, `_` and `-` becomes `_`.
    pub path: String,
    /// How files are compressed: `none`, `gzip` or `zstd`, one member (frame) a batch, which all tools read as one stream.
    #[serde(default)]
    pub compression: Compression,
    /// What fields are called: `vector` leaves the names as they are (`kubernetes.pod_name`), `otel` has those of OpenTelemetry's
    /// conventions (`k8s.pod.name`), `ecs` those of the Elastic Common Schema (`kubernetes.pod.name`). The path goes by the names as
    /// they are.
    #[serde(default)]
    pub schema: Schema,
    /// The size at which a file is renamed to `path.1` (and `path.1` to `path.2`, …) and a new one begun. Where it is not given,
    /// files grow.
    pub max_bytes: Option<ByteSize>,
    /// How many renamed files are kept.
    #[serde(default = "five")]
    pub max_files: u32,
    /// Whether each batch is synced to the disk before it counts as written: what a power failure could take is then nothing
    /// instead of some seconds. A kill takes nothing either way.
    #[serde(default)]
    pub sync: bool,
    /// Where records wait until they are written.
    #[serde(default)]
    pub buffer: BufferConfig,
    /// When records are written. Where nothing is given: 1 MiB, any number of records, one second.
    #[serde(default)]
    pub batch: BatchConfig,
}

fn five() -> u32 {
    5
}

impl FileConfig {
    const BATCH: BatchDefaults = BatchDefaults { max_bytes: ByteSize::mib(1), max_events: u32::MAX, linger: Duration::from_secs(1) };

    /// Renamed files are found and renamed one by one, so there are few.
    const MAX_FILES: u32 = 100;

    pub(crate) fn build(&self, context: &SinkContext) -> Result<SinkParts, Vec<Problem>> {
        let mut problems = Vec::new();
        let path = self.split_path(&mut problems);
        let buffer = self.buffer.resolve(BufferType::Memory, &mut problems);
        let limits = self.batch.resolve(Self::BATCH, &mut problems);
        if self.max_bytes == Some(ByteSize(0)) {
            problems.push(Problem::at("max_bytes", "at least 1"));
        }
        if !(1..=Self::MAX_FILES).contains(&self.max_files) {
            problems.push(Problem::at("max_files", format!("between 1 and {}", Self::MAX_FILES)));
        }
        let Some((base, destination)) = path else { return Err(problems) };
        unless(problems, || {
            let settings = Settings {
                base: context.resolve(&base),
                max_bytes: self.max_bytes.map(|size| size.0),
                max_files: self.max_files,
                sync: self.sync,
                births: context.state_dir.as_ref().map(|dir| dir.join("files.births")),
            };
            SinkParts {
                sink: Arc::new(FileSink { destination: Arc::new(destination), schema: self.schema }),
                transport: Arc::new(FileTransport::new(settings)),
                compression: self.compression,
                limits,
                buffer,
                // There is nobody to wait for, and a write given up would be one whose outcome is unknown.
                delivery: Options { timeout: None, ..Options::default() },
            }
        })
    }

    /// The directory that everything is below, and the template of the path below it.
    fn split_path(&self, problems: &mut Vec<Problem>) -> Option<(PathBuf, Destination)> {
        let source = &*self.path;
        let literal = ["{{", "%"].iter().filter_map(|open| source.find(open)).min();
        let slash = source[..literal.unwrap_or(source.len())].rfind('/');
        let (base, below) = match (slash, literal) {
            (Some(0), _) => ("/", &source[1..]),
            (Some(at), _) => (&source[..at], &source[at + 1..]),
            (None, None) => (".", source),
            (None, Some(_)) => {
                let help = "write it as `./…`, or give the directory that records may make files in";
                problems.push(Problem::at("path", "the path does not begin with a directory of its own").help(help));
                return None;
            }
        };
        let destination = match Destination::parse(below, confine) {
            Ok(destination) => destination,
            Err(message) => {
                problems.push(Problem::at("path", message));
                return None;
            }
        };
        let sample = destination.sample("x");
        if sample.is_empty() || sample.ends_with('/') {
            problems.push(Problem::at("path", "the path ends with a directory").help("add the name of the file"));
        } else if sample.split('/').any(|name| name == "..") {
            problems.push(Problem::at("path", "no `..` can come after the first field").help("write where the files are to be"));
        } else if source.contains(char::is_control) {
            problems.push(Problem::at("path", "a path has no control characters"));
        } else {
            return Some((base.into(), destination));
        }
        None
    }
}

/// What a field may say in a path: a part of one name, never one that leads elsewhere or hides.
fn confine(value: Option<&str>, out: &mut String) {
    /// Two values and some text fit into a name of 255 bytes.
    const MAX_VALUE_BYTES: usize = 100;
    let value = value.filter(|value| !value.is_empty()).unwrap_or(MISSING);
    for (index, c) in value.chars().take(MAX_VALUE_BYTES).enumerate() {
        let allowed = c.is_ascii_alphanumeric() || matches!(c, '_' | '-') || (c == '.' && index > 0);
        out.push(if allowed { c } else { '_' });
    }
}

/// The sink. A body is one line of JSON a record.
struct FileSink {
    destination: Arc<Destination>,
    schema: Schema,
}

impl Sink for FileSink {
    fn encoder(&self) -> Box<dyn Encode> {
        let router = Router::new(self.destination.clone());
        Box::new(LineEncoder { router, renamer: self.schema.renamer(), shared: PerShared::new() })
    }

    fn judge(&self, _: &Frame, _: &Response) -> Verdict {
        Verdict::Delivered { duplicates: 0 }
    }

    // Neither is asked for: a file takes a frame or fails as a whole.
    fn cut(&self, body: &[u8], records: &[u32]) -> Vec<u8> {
        lines::cut(body, records, 1)
    }

    fn show(&self, body: &[u8], index: u32) -> Vec<u8> {
        lines::nth(body, index, 1).unwrap_or(b"null").trim_ascii_end().to_vec()
    }
}

struct LineEncoder {
    router: Router,
    /// Where fields have other names; the path goes by those that they had.
    renamer: Option<Renamer>,
    shared: PerShared<Vec<u8>>,
}

impl Encode for LineEncoder {
    fn encode(&mut self, batch: &Batch, _: u8, out: &mut Bodies) {
        let LineEncoder { router, renamer, shared } = self;
        router.begin(batch.shared());
        let original = batch;
        let batch = match renamer {
            None => batch,
            Some(renamer) => renamer.rename(batch),
        };
        let shared = shared.get_or_make(batch.shared(), |shared| lines::shared_members(shared));
        for (record, original) in batch.records().zip(original.records()) {
            lines::write_line(&record, shared, router.scratch(&original));
        }
        router.end(out);
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
