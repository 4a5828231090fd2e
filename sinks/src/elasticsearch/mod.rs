//! `elasticsearch`: records to Elasticsearch, OpenSearch, or another store that speaks `_bulk`.
//!
//! Each record is created under its id (see [`skidder_pipeline::id`]). A record that comes again, because an answer was lost
//! or the agent was killed, is answered with 409 and is a success: so nothing is lost and nothing stored twice, for as long
//! as the records of a day go to the same index. Only a data stream that rolls over between two tries can store one twice.
//! With `id = "auto"` the store gives the ids, and tells no repeat.

mod answer;
mod conflict;
mod encode;
mod setup;
mod transport;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use skidder_pipeline::body::Compression;
use skidder_pipeline::frame::Frame;
use skidder_pipeline::problem::Problem;
use skidder_pipeline::sink::{Encode, Response, Sink, Verdict};

use crate::common::schema::Schema;
use crate::common::{AuthConfig, BatchConfig, BatchDefaults, BufferConfig, BufferType, ByteSize, RequestConfig, TlsConfig};
use crate::destination::{Destination, MISSING, Router};
use crate::http::{HttpClient, HttpOptions};
use crate::{SinkContext, SinkParts, lines, unless};
use transport::BulkTransport;

/// Sends records to Elasticsearch, OpenSearch or another store that speaks `_bulk`.
///
/// Each record is created under an id made of where it was read, so a record that is sent again is not stored again (see `id`). Records
/// that the store refuses go to the dead letters with its reason; what it cannot take now is sent again, alone. Its buffer is
/// on disk.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ElasticsearchConfig {
    /// The store's addresses, `https://host:9200`, used in turn.
    pub endpoints: Vec<String>,
    /// Whether records go to an index (`bulk`) or to a data stream (`data_stream`).
    #[serde(default)]
    pub mode: Mode,
    /// Which of the two the store is, for what `skidder init` prints; records are sent to both alike.
    #[serde(default)]
    pub distribution: Distribution,
    /// The index, in mode `bulk`: a template that starts with a text of its own; `{{ field }}` stands for a field of the record,
    /// `%Y`, `%m` and `%d` for the date of its `timestamp`. What a field says is put in lower case, and what no index may be
    /// called becomes `_`. Records without a date go to 1970.01.01. Where it is not given: `skidder-%Y.%m.%d`.
    pub index: Option<String>,
    /// The data stream, in mode `data_stream`.
    pub data_stream: Option<DataStreamConfig>,
    /// What records are called in the store: `deterministic`, an id made of where a record was read, so that one which is sent again
    /// is not stored again; or `auto`, a name that the store gives, which is less work for it and lets it store twice what is sent
    /// again after a lost answer or a kill.
    #[serde(default)]
    pub id: IdStrategy,
    /// How bodies are compressed: `gzip` (level 1), `none`, or `zstd` where the store takes it (Elasticsearch does not).
    #[serde(default = "gzip")]
    pub compression: Compression,
    /// What becomes of the keys of `pod_labels`, `pod_annotations` and the like: `dedot` puts `_` in place of the dots (so that `app`
    /// and `app.kubernetes.io/name` fit into one mapping), `keep` leaves them (for mappings of the type `flattened`).
    #[serde(default)]
    pub labels: Labels,
    /// What becomes of records with a field that does not fit the mapping of the index: `reject` has the store refuse them (they are dead
    /// letters then, or in the failure store of the data stream), `stringify` moves the field to `_conflict`, as text, and sends the
    /// record once more; not for data streams with a failure store, which takes such records itself.
    #[serde(default)]
    pub on_conflict: OnConflict,
    /// What fields are called: `vector` leaves the names as they are (`kubernetes.pod_name`), `ecs` has those of the Elastic Common Schema
    /// (`kubernetes.pod.name`), `otel` those of OpenTelemetry's conventions (`k8s.pod.name`).
    #[serde(default)]
    pub schema: Schema,
    /// Where records wait until the store has them.
    #[serde(default)]
    pub buffer: BufferConfig,
    /// When records are sent. Where nothing is given: 4 MiB, any number of records, one second.
    #[serde(default)]
    pub batch: BatchConfig,
    /// How requests are made.
    #[serde(default)]
    pub request: RequestConfig,
    /// Credentials.
    pub auth: Option<AuthConfig>,
    /// TLS.
    #[serde(default)]
    pub tls: TlsConfig,
}

fn gzip() -> Compression {
    Compression::Gzip
}

/// Where records go.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// An index.
    #[default]
    Bulk,
    /// A data stream.
    DataStream,
}

/// Which store it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Distribution {
    /// Elasticsearch.
    #[default]
    Elasticsearch,
    /// OpenSearch.
    Opensearch,
}

/// The parts of a data stream's name, `<type>-<dataset>-<namespace>`.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataStreamConfig {
    /// The first part.
    #[serde(default = "logs")]
    pub r#type: String,
    /// The second part; a template, as for `index`.
    #[serde(default = "generic")]
    pub dataset: String,
    /// The third part; a template, as for `index`.
    #[serde(default = "default")]
    pub namespace: String,
}

fn logs() -> String {
    "logs".to_owned()
}

fn generic() -> String {
    "generic".to_owned()
}

fn default() -> String {
    "default".to_owned()
}

impl Default for DataStreamConfig {
    fn default() -> Self {
        DataStreamConfig { r#type: logs(), dataset: generic(), namespace: default() }
    }
}

/// Where the `_id` of a record comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IdStrategy {
    /// From where the record was read: nothing is stored twice.
    #[default]
    Deterministic,
    /// From the store: at least once.
    Auto,
}

/// What becomes of the keys of labels and annotations.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Labels {
    /// `_` in place of dots.
    #[default]
    Dedot,
    /// As they are.
    Keep,
}

/// What becomes of records with a field that does not fit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnConflict {
    /// The store refuses them.
    #[default]
    Reject,
    /// They are stored with the field as text below `_conflict`.
    Stringify,
}

impl ElasticsearchConfig {
    /// 4 MiB compress to well under one: a request is short enough to lose little by being repeated, long enough for the store
    /// to work in bulk, and eight of them under way are little memory.
    const BATCH: BatchDefaults = BatchDefaults { max_bytes: ByteSize::mib(4), max_events: u32::MAX, linger: Duration::from_secs(1) };

    pub(crate) fn build(&self, context: &SinkContext) -> Result<SinkParts, Vec<Problem>> {
        let mut problems = Vec::new();
        let destination = self.destination(&mut problems);
        let buffer = self.buffer.resolve(BufferType::Disk, &mut problems);
        let limits = self.batch.resolve(Self::BATCH, &mut problems);
        let delivery = self.request.resolve(&mut problems);
        let options = HttpOptions { endpoints: &self.endpoints, auth: self.auth.as_ref(), tls: &self.tls, context };
        let client = HttpClient::new(&options, &mut problems);
        let transport =
            client.map(|client| BulkTransport::new(client, self.mode == Mode::DataStream, self.on_conflict == OnConflict::Stringify));
        let (Some(destination), Some(transport)) = (destination, transport) else { return Err(problems) };
        unless(problems, || SinkParts {
            sink: Arc::new(Elasticsearch {
                destination: Arc::new(destination),
                ids: self.id,
                labels: self.labels,
                schema: self.schema,
                diverted: AtomicU64::new(0),
            }),
            transport: Arc::new(transport),
            compression: self.compression,
            limits,
            buffer,
            delivery,
        })
    }

    fn destination(&self, problems: &mut Vec<Problem>) -> Option<Destination> {
        let before = problems.len();
        let (at, source) = match self.mode {
            Mode::Bulk => {
                if self.data_stream.is_some() {
                    problems.push(Problem::at("data_stream", "only for `mode = \"data_stream\"`"));
                }
                ("index", self.index.clone().unwrap_or_else(|| "skidder-%Y.%m.%d".to_owned()))
            }
            Mode::DataStream => {
                if self.index.is_some() {
                    problems.push(
                        Problem::at("index", "only for `mode = \"bulk\"`").help("give `data_stream.dataset` and `data_stream.namespace`"),
                    );
                }
                let parts = self.data_stream.clone().unwrap_or_default();
                for (key, part) in [("type", &parts.r#type), ("dataset", &parts.dataset), ("namespace", &parts.namespace)] {
                    let literal = Destination::parse(part, confine).map(|part| part.sample("x"));
                    if literal.as_ref().is_ok_and(|literal| literal.is_empty() || literal.contains('-')) {
                        let path = format!("data_stream.{key}");
                        problems.push(Problem::at(&path, "a part of a data stream's name is not empty and has no `-`"));
                    }
                }
                ("data_stream", format!("{}-{}-{}", parts.r#type, parts.dataset, parts.namespace))
            }
        };
        let confine = if self.mode == Mode::Bulk { confine } else { confine_part };
        let destination = match Destination::parse(&source, confine) {
            Ok(destination) => destination,
            Err(message) => {
                problems.push(Problem::at(at, message));
                return None;
            }
        };
        let sample = destination.sample("x");
        let (fields, literal_bytes) = destination.fields_and_literal_bytes();
        if !destination.literal_prefix().starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()) {
            let help = "start it with a text, as `logs-{{ env }}`, so that no record can choose an index that is not yours";
            problems.push(Problem::at(at, "the name starts with a field, or with what no index may start with").help(help));
        }
        if let Some(c) = sample.chars().find(|c| !is_allowed(*c)) {
            problems.push(Problem::at(at, format!("`{c}` cannot be in the name")).help("use a to z, 0 to 9, `.`, `_` and `-`"));
        }
        if literal_bytes + fields * MAX_VALUE_BYTES > MAX_NAME_BYTES {
            let fits = MAX_NAME_BYTES.saturating_sub(literal_bytes) / MAX_VALUE_BYTES;
            problems.push(Problem::at(
                at,
                format!("names could be longer than {MAX_NAME_BYTES} bytes; beside this text is room for {fits} fields"),
            ));
        }
        (problems.len() == before).then_some(destination)
    }
}

/// Elasticsearch's bound on a name.
const MAX_NAME_BYTES: usize = 255;

/// The most of a field's value that becomes part of a name: the longest label value of Kubernetes.
const MAX_VALUE_BYTES: usize = 63;

fn is_allowed(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-')
}

/// What a field may say in the name of an index.
fn confine(value: Option<&str>, out: &mut String) {
    let value = value.filter(|value| !value.is_empty()).unwrap_or(MISSING);
    let allowed = |c: char| if is_allowed(c) { c } else { '_' };
    out.extend(value.chars().take(MAX_VALUE_BYTES).map(|c| allowed(c.to_ascii_lowercase())));
}

/// The same for a part of a data stream's name, where a `-` would begin the next part.
fn confine_part(value: Option<&str>, out: &mut String) {
    let start = out.len();
    confine(value, out);
    if out[start..].contains('-') {
        let part = out.split_off(start).replace('-', "_");
        out.push_str(&part);
    }
}

/// The sink. A body is two lines a record, as `_bulk` has it:
///
/// ```text
/// {"create":{"_id":"…"}}      or, with `id = "auto"`, {"create":{}}
/// {"@timestamp":"…","message":"…",…}
/// ```
struct Elasticsearch {
    destination: Arc<Destination>,
    ids: IdStrategy,
    labels: Labels,
    schema: Schema,
    /// Records that went to the failure store.
    diverted: AtomicU64,
}

impl Sink for Elasticsearch {
    fn encoder(&self) -> Box<dyn Encode> {
        Box::new(encode::BulkEncoder::new(Router::new(self.destination.clone()), self.ids, self.labels, self.schema))
    }

    fn judge(&self, frame: &Frame, response: &Response) -> Verdict {
        self.diverted.fetch_add(answer::diverted(&response.body), Ordering::Relaxed);
        answer::judge(response.status, &response.body, frame.header().records)
    }

    fn diverted(&self) -> u64 {
        self.diverted.load(Ordering::Relaxed)
    }

    fn cut(&self, body: &[u8], records: &[u32]) -> Vec<u8> {
        lines::cut(body, records, 2)
    }

    fn show(&self, body: &[u8], index: u32) -> Vec<u8> {
        let both = lines::nth(body, index, 2).unwrap_or_default().trim_ascii_end();
        let document = memchr::memchr(b'\n', both).map_or(both, |at| &both[at + 1..]);
        if document.is_empty() { b"null".to_vec() } else { document.to_vec() }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
