//! `loki`: records to Grafana Loki.
//!
//! **One stream a request.** Loki tells of a stream that it turned away only if that is the last one in the request: the ingester
//! keeps one error and the next stream's success overwrites it (`pkg/ingester/instance.go`, `Push`, 3.7). So a request with
//! several streams can be answered with 204 though entries of all but the last were thrown away. Here a body is the entries of
//! one stream, and the transport puts the stream's labels around it when it is sent ([`envelope`]).
//!
//! **In order.** An ingester refuses what is older than the newest entry of its stream by more than half of `max_chunk_age` (one
//! hour by default). So the frames of one stream are sent one after the other, the oldest first, while different streams
//! go side by side; and the default labels hold the node, since the nodes of a cluster do not wait for each other.
//!
//! **Once, as far as Loki can tell.** An ingester ignores an entry whose stream, time, line and structured metadata are in the head
//! block of the stream's chunk: the last 256 KiB (`chunk_block_size`), not yet compressed. What is sent again after a lost answer is
//! ignored but for what a block took with it meanwhile: queries for lines show that once, those that count count it twice. So
//! requests are small: the part of one that can be stored twice is what lies before a cut within it. For the same reason true
//! repeats must differ: see [`repeats`].

mod answer;
mod encode;
mod envelope;
mod labels;
mod repeats;
mod setup;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use skidder_pipeline::body::{Compression, decompress};
use skidder_pipeline::frame::Frame;
use skidder_pipeline::path::Path;
use skidder_pipeline::problem::Problem;
use skidder_pipeline::sink::{Encode, Response, Sink, Verdict};

use crate::common::{AuthConfig, BatchConfig, BatchDefaults, BufferConfig, BufferType, ByteSize, RequestConfig, TlsConfig, proto};
use crate::http::{HttpOptions, HttpRequest, HttpTransport, of_the_endpoint};
use crate::{SinkContext, SinkParts, unless};
use encode::{LokiEncoder, Settings};
use labels::LabelSet;

/// Sends records to Grafana Loki.
///
/// Few labels name the stream; pod, level, trace and the like are structured metadata. The line is what the application wrote.
/// Its buffer is on disk.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LokiConfig {
    /// Loki's address, `https://host:3100`; a path before `path` may follow.
    pub endpoint: String,
    /// What requests are written in.
    #[serde(default)]
    pub encoding: Encoding,
    /// The path of its push API.
    #[serde(default = "push_path")]
    pub path: String,
    /// The tenant (`X-Scope-OrgID`): a template. It starts with a text of its own or is made of `kubernetes.…` fields, so that no
    /// record can choose a tenant that is not its own. Without it no tenant is sent.
    pub tenant_id: Option<String>,
    /// The labels of the streams: name and template. A label of which a part has no value is left out. Where it is not given:
    /// `service_name`, `namespace`, `container`, `node`, `cluster`, `env` and `region`, as far as they are known of the container.
    /// At most 15, and none that differs from pod to pod (see `allow_high_cardinality`).
    pub labels: Option<BTreeMap<String, String>>,
    /// Allows labels that differ from pod to pod or from record to record. Each of their values is a stream of its own, with its own
    /// chunk in Loki's memory.
    #[serde(default)]
    pub allow_high_cardinality: bool,
    /// Splits each stream into so many, by container, with the label `stream_shard`: for streams beyond Loki's
    /// `per_stream_rate_limit` (3 MB/s). 0 and 1 do not split.
    #[serde(default)]
    pub stream_shard: u16,
    /// Structured metadata to add: name and template. Pod, container, level, trace, span, correlation id and what is known of the
    /// container are there without being named, as far as they are no labels.
    #[serde(default)]
    pub structured_metadata: BTreeMap<String, String>,
    /// What the line is.
    #[serde(default)]
    pub line: Line,
    /// The field that the time of a record is read from, where it is a time of RFC 3339 or a number of seconds to nanoseconds
    /// since 1970. Without it, and for records where it is no time: `timestamp`.
    pub time_field: Option<String>,
    /// The longest line, in bytes. A longer one is cut, and says so. 256 KiB where it is not given, as Loki's `max_line_size`.
    #[serde(default = "max_line_bytes")]
    pub max_line_bytes: ByteSize,
    /// What becomes of a record that is older than Loki takes.
    #[serde(default)]
    pub on_too_old: OnTooOld,
    /// How far behind the newest record of its stream a record may be, in seconds: half of Loki's `max_chunk_age`. For
    /// `on_too_old = "rewrite_timestamp"`.
    #[serde(default = "max_behind_secs")]
    pub max_behind_secs: u32,
    /// How old a record may be, in seconds: Loki's `reject_old_samples_max_age`, a week. For `on_too_old = "rewrite_timestamp"`.
    #[serde(default = "max_age_secs")]
    pub max_age_secs: u32,
    /// Where records wait until the store has them.
    #[serde(default)]
    pub buffer: BufferConfig,
    /// When records are sent. Where nothing is given: 128 KiB of one stream, 1 MiB of all, any number of records, two seconds.
    #[serde(default)]
    pub batch: BatchConfig,
    /// How requests are made. Those of one stream are made one after the other whatever `concurrency` is.
    #[serde(default)]
    pub request: RequestConfig,
    /// Credentials.
    pub auth: Option<AuthConfig>,
    /// TLS.
    #[serde(default)]
    pub tls: TlsConfig,
}

fn push_path() -> String {
    "/loki/api/v1/push".to_owned()
}

fn max_line_bytes() -> ByteSize {
    ByteSize(256 << 10)
}

fn max_behind_secs() -> u32 {
    3600
}

fn max_age_secs() -> u32 {
    7 * 86_400
}

/// What requests to Loki are written in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// Protocol Buffers, compressed by Snappy: the least work for both sides.
    #[default]
    Protobuf,
    /// JSON, compressed by gzip: for what stands between and takes or shows nothing else. It is written anew at each send.
    Json,
}

/// What the line of an entry is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// The `message`, where the record has little else of its own; else its own fields as one JSON object.
    #[default]
    Auto,
    /// The record's own fields as one JSON object, always.
    Json,
}

/// What becomes of a record that is older than Loki takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnTooOld {
    /// It becomes a dead letter, with Loki's reason.
    #[default]
    Dlq,
    /// It gets the oldest time that Loki takes, and keeps its own in the structured metadata `original_timestamp`.
    RewriteTimestamp,
}

impl LokiConfig {
    /// Half of one of Loki's blocks, see above: of what was sent again a twentieth was stored twice, of requests of a whole block and more
    /// a tenth to a fifth; smaller ones still would be many where a node has many streams (decision 11). Two seconds, since each stream
    /// is a request of its own.
    const BATCH: BatchDefaults = BatchDefaults { max_bytes: ByteSize(128 << 10), max_events: u32::MAX, linger: Duration::from_secs(2) };

    /// Streams that are filled at once: a body here is little more than its bytes.
    const MAX_OPEN: usize = 512;

    pub(crate) fn build(&self, context: &SinkContext) -> Result<SinkParts, Vec<Problem>> {
        let mut problems = Vec::new();
        let settings = self.settings(context, &mut problems);
        let buffer = self.buffer.resolve(BufferType::Disk, &mut problems);
        let mut limits = self.batch.resolve(Self::BATCH, &mut problems);
        limits.max_open = Self::MAX_OPEN;
        let mut delivery = self.request.resolve(&mut problems);
        delivery.ordered = true;
        let endpoints = [self.endpoint.clone()];
        let options = HttpOptions { endpoints: &endpoints, auth: self.auth.as_ref(), tls: &self.tls, context };
        let (path, encoding) = (self.path.clone(), self.encoding);
        let request = move |frame: &Frame| {
            let mut headers = HeaderMap::new();
            match encoding {
                Encoding::Protobuf => drop(headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"))),
                Encoding::Json => {
                    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                    headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
                }
            }
            let (tenant, _) = labels::split(&frame.header().destination);
            if let Ok(tenant) = HeaderValue::from_str(tenant)
                && !tenant.is_empty()
            {
                headers.insert(TENANT, tenant);
            }
            HttpRequest { path_and_query: path.clone(), headers }
        };
        let mut at = Vec::new();
        let transport = HttpTransport::new(&options, request, &mut at);
        problems.extend(at.into_iter().map(of_the_endpoint));
        let (Some(settings), Some(transport)) = (settings, transport) else { return Err(problems) };
        unless(problems, || SinkParts {
            sink: Arc::new(Loki { settings: Arc::new(settings) }),
            transport: Arc::new(transport.with_body(if encoding == Encoding::Json { envelope::wrap_json } else { envelope::wrap })),
            compression: Compression::Snappy,
            limits,
            buffer,
            delivery,
        })
    }

    fn settings(&self, context: &SinkContext, problems: &mut Vec<Problem>) -> Option<Settings> {
        if !self.path.starts_with('/') {
            problems.push(Problem::at("path", "a path starts with `/`"));
        }
        let time = self.time_field.as_ref().and_then(|path| match Path::parse(path) {
            Ok(path) => Some(path),
            Err(error) => {
                problems.push(Problem::at("time_field", error.to_string()));
                None
            }
        });
        if !(1024..=64 << 20).contains(&self.max_line_bytes.0) {
            problems.push(Problem::at("max_line_bytes", "between 1 KiB and 64 MiB"));
        }
        let labels = LabelSet::new(self, problems)?;
        Some(Settings {
            labels,
            line: self.line,
            time,
            max_line_bytes: self.max_line_bytes.as_usize(),
            rewrite: self.on_too_old == OnTooOld::RewriteTimestamp,
            max_behind_nanos: i64::from(self.max_behind_secs) * 1_000_000_000,
            max_age_nanos: i64::from(self.max_age_secs) * 1_000_000_000,
            clock: context.clock(),
        })
    }
}

const TENANT: HeaderName = HeaderName::from_static("x-scope-orgid");

/// The sink. A body is the entries of one stream, each a field of Loki's `StreamAdapter` (`pkg/push/push.proto`):
///
/// ```text
/// message StreamAdapter { string labels = 1; repeated EntryAdapter entries = 2; uint64 hash = 3; }
/// message EntryAdapter { Timestamp timestamp = 1; string line = 2; repeated LabelPairAdapter structuredMetadata = 3; }
/// message LabelPairAdapter { string name = 1; string value = 2; }
/// message Timestamp { int64 seconds = 1; int32 nanos = 2; }
/// ```
struct Loki {
    settings: Arc<Settings>,
}

/// An entry of a body, read back.
struct Entry<'a> {
    unix_nanos: i64,
    line: &'a [u8],
    metadata: Vec<(&'a [u8], &'a [u8])>,
}

fn entries(body: &[u8]) -> impl Iterator<Item = Entry<'_>> {
    proto::fields(body).filter(|field| field.number == 2).map(|field| {
        let mut entry = Entry { unix_nanos: 0, line: b"", metadata: Vec::new() };
        for part in proto::fields(field.value.bytes()) {
            let inside = || proto::fields(part.value.bytes());
            match part.number {
                1 => {
                    let number = |wanted| inside().find(|field| field.number == wanted).map_or(0, |field| field.value.number() as i64);
                    entry.unix_nanos = number(1) * 1_000_000_000 + number(2);
                }
                2 => entry.line = part.value.bytes(),
                3 => {
                    let text = |wanted| inside().find(|field| field.number == wanted).map_or(&b""[..], |field| field.value.bytes());
                    entry.metadata.push((text(1), text(2)));
                }
                _ => {}
            }
        }
        entry
    })
}

impl Sink for Loki {
    fn encoder(&self) -> Box<dyn Encode> {
        Box::new(LokiEncoder::new(self.settings.clone()))
    }

    fn judge(&self, frame: &Frame, response: &Response) -> Verdict {
        let header = frame.header();
        answer::judge(response.status, &response.body, header.records, header.raw_bytes, || {
            decompress(header.compression, frame.body(), header.raw_bytes).unwrap_or_default()
        })
    }

    fn cut(&self, body: &[u8], records: &[u32]) -> Vec<u8> {
        proto::pick(body, 2, records)
    }

    fn show(&self, body: &[u8], index: u32) -> Vec<u8> {
        let Some(entry) = entries(body).nth(index as usize) else { return b"null".to_vec() };
        let text = |bytes: &[u8]| serde_json::Value::from(String::from_utf8_lossy(bytes));
        let metadata: serde_json::Map<String, serde_json::Value> =
            entry.metadata.iter().map(|(name, value)| (String::from_utf8_lossy(name).into_owned(), text(value))).collect();
        let time = jiff::Timestamp::from_nanosecond(entry.unix_nanos.into()).map(|time| time.to_string()).unwrap_or_default();
        serde_json::json!({ "timestamp": time, "line": text(entry.line), "structured_metadata": metadata }).to_string().into_bytes()
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
