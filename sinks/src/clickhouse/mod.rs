//! `clickhouse`: records as rows of a table, by HTTP.
//!
//! A frame is one synchronous INSERT with a token made of the frame's id, so that a table which remembers tokens (see
//! [`window`]) refuses a second copy. Values are coerced here to the types that the columns have, so that the server has rows to
//! take and no texts to guess about; what has no column goes to the one that takes the rest.
//!
//! ```text
//! Tables ◀──asks the server── ClickHouseTransport        frame for columns as they are: sent as it is
//!   │                              ▲                     for others, or for none yet: `convert`, then sent
//!   └─▶ RowEncoder ──▶ frames ─────┘
//! ```

mod answer;
mod coerce;
mod convert;
mod encode;
mod layout;
mod map;
mod rows;
mod setup;
mod tables;
mod transport;
mod types;
mod window;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use skidder_pipeline::body::Compression;
use skidder_pipeline::frame::Frame;
use skidder_pipeline::path::Path;
use skidder_pipeline::problem::Problem;
use skidder_pipeline::sink::{Encode, Response, Sink, Verdict};

use self::layout::Mapping;
use self::tables::Tables;
use self::transport::ClickHouseTransport;
use crate::common::{AuthConfig, BatchConfig, BatchDefaults, BufferConfig, BufferType, ByteSize, RequestConfig, TlsConfig};
use crate::destination::{Destination, MISSING, Router};
use crate::http::{HttpClient, HttpOptions};
use crate::{SinkContext, SinkParts, lines, unless};

/// Sends records to ClickHouse, as rows of a table.
///
/// What the columns are it asks the server, and coerces values to their types. Each insert carries a token, by which a table
/// with a window of de-duplication refuses what is sent again. A record that the server refuses goes to the dead letters with
/// its reason, alone. Its buffer is on disk. `skidder init clickhouse` prints a table for it.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClickHouseConfig {
    /// The store's addresses, `https://host:8443`, used in turn.
    pub endpoints: Vec<String>,
    /// The database: letters, digits and `_`, with `{{ field }}` for a field of the record.
    #[serde(default = "default_database")]
    pub database: String,
    /// The table: letters, digits and `_`, with `{{ field }}` for a field of the record and `%Y`, `%m` and `%d` for the date of its
    /// `timestamp`. It must exist; none is made.
    #[serde(default = "default_table")]
    pub table: String,
    /// What columns take, where it is not the field that is called as they are: `{ pod = "kubernetes.pod_name", text = "message" }`.
    #[serde(default)]
    pub columns: BTreeMap<String, String>,
    /// The column that takes what no other takes: of the type `Map(String, String)`, `JSON` or `String`. `LogAttributes` or `attributes`
    /// where it is not given, if there is one.
    pub catch_all: Option<String>,
    /// The field that a record's time is read from, before `timestamp`.
    pub time_field: Option<String>,
    /// How bodies are compressed: `zstd`, `gzip`, or `none`.
    #[serde(default = "zstd")]
    pub compression: Compression,
    /// How many agents insert into this table. ClickHouse wants about one insert a second and table, so this many seconds (30 at the
    /// most) are the default of `batch.timeout_secs`; and a warning says so where the table's window of de-duplication is too small.
    #[serde(default = "one")]
    pub nodes: u32,
    /// Further settings of each insert, before ours: `{ max_partitions_per_insert_block = "500" }`.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    /// Where records wait until the store has them.
    #[serde(default)]
    pub buffer: BufferConfig,
    /// When records are sent. Where nothing is given: 8 MiB, a million records, or as `nodes` says.
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

fn default_database() -> String {
    "default".to_owned()
}

fn default_table() -> String {
    "otel_logs".to_owned()
}

fn zstd() -> Compression {
    Compression::Zstd
}

fn one() -> u32 {
    1
}

impl ClickHouseConfig {
    /// The longest that records wait for others where nothing is given.
    const MAX_LINGER: Duration = Duration::from_secs(30);

    pub(crate) fn build(&self, context: &SinkContext) -> Result<SinkParts, Vec<Problem>> {
        let mut problems = Vec::new();
        let destination = self.destination(&mut problems);
        let buffer = self.buffer.resolve(BufferType::Disk, &mut problems);
        let linger = Duration::from_secs(self.nodes.into()).min(Self::MAX_LINGER).max(Duration::from_secs(1));
        let defaults = BatchDefaults { max_bytes: ByteSize::mib(8), max_events: 1_000_000, linger };
        let limits = self.batch.resolve(defaults, &mut problems);
        let delivery = self.request.resolve(&mut problems);
        let mapping = self.mapping(&mut problems);
        let time = self.time_field.as_deref().and_then(|text| path("time_field", text, &mut problems));
        self.check_settings(&mut problems);
        let options = HttpOptions { endpoints: &self.endpoints, auth: self.auth.as_ref(), tls: &self.tls, context };
        let client = HttpClient::new(&options, &mut problems);
        let (Some(destination), Some(client)) = (destination, client) else { return Err(problems) };
        let tables = Arc::new(Tables::new(mapping, context.state_dir.as_ref().map(|dir| dir.join("columns.json"))));
        let transport = ClickHouseTransport::new(transport::Options {
            client,
            tables: tables.clone(),
            literal: destination.as_literal().map(str::to_owned),
            settings: self.settings.clone(),
            time: time.clone(),
            needed_window: window::needed(self.nodes, limits.linger),
            sink: context.name.clone(),
        });
        unless(problems, || SinkParts {
            sink: Arc::new(ClickHouse { destination: Arc::new(destination), tables, time }),
            transport: Arc::new(transport),
            compression: self.compression,
            limits,
            buffer,
            delivery,
        })
    }

    fn destination(&self, problems: &mut Vec<Problem>) -> Option<Destination> {
        let before = problems.len();
        for (at, source) in [("database", &self.database), ("table", &self.table)] {
            match Destination::parse(source, confine) {
                Err(message) => problems.push(Problem::at(at, message)),
                Ok(part) => {
                    let sample = part.sample("x");
                    if let Some(c) = sample.chars().find(|c| !is_allowed(*c)) {
                        problems.push(Problem::at(at, format!("`{c}` cannot be in the name")).help("use letters, digits and `_`"));
                    } else if !part.literal_prefix().starts_with(is_allowed) {
                        let help = "start it with a text, as `logs_{{ env }}`, so that no record can choose a table that is not yours";
                        problems.push(Problem::at(at, "the name starts with a field").help(help));
                    }
                }
            }
        }
        let whole = format!("{}.{}", self.database, self.table);
        (problems.len() == before).then(|| Destination::parse(&whole, confine).ok()).flatten()
    }

    fn mapping(&self, problems: &mut Vec<Problem>) -> Mapping {
        let mut columns = Vec::new();
        for (column, field) in &self.columns {
            columns.extend(path(&format!("columns.{column}"), field, problems).map(|field| (column.clone(), field)));
        }
        Mapping { columns, catch_all: self.catch_all.clone() }
    }

    fn check_settings(&self, problems: &mut Vec<Problem>) {
        if self.nodes == 0 {
            problems.push(Problem::at("nodes", "at least 1"));
        }
        for (name, value) in &self.settings {
            let at = format!("settings.{name}");
            if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
                problems.push(Problem::at(&at, "no name of a setting"));
            }
            if name == "insert_deduplication_token" || (name == "async_insert" && value != "0") {
                let help = "an asynchronous insert with a token can lose rows; make fewer inserts by `nodes` or `batch.timeout_secs`";
                problems.push(Problem::at(&at, "this setting is the sink's own").help(help));
            }
        }
    }
}

fn path(at: &str, text: &str, problems: &mut Vec<Problem>) -> Option<Path> {
    Path::parse(text).inspect_err(|error| problems.push(Problem::at(at, error))).ok()
}

/// The most of a field's value that becomes part of a name.
const MAX_VALUE_CHARS: usize = 63;

fn is_allowed(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// What a field may say in the name of a table.
fn confine(value: Option<&str>, out: &mut String) {
    let value = value.filter(|value| !value.is_empty()).unwrap_or(MISSING);
    out.extend(value.chars().take(MAX_VALUE_CHARS).map(|c| if is_allowed(c) { c } else { '_' }));
}

/// The sink. The destination of a frame is `database.table` and, after a space, the tag of the layout that it was written for.
/// A body is one of `RowBinaryWithNamesAndTypes` (see [`rows`]), or lines: of JSONEachRow, or of records that become rows when
/// they are sent (see [`convert`]).
struct ClickHouse {
    destination: Arc<Destination>,
    tables: Arc<Tables>,
    time: Option<Path>,
}

impl Sink for ClickHouse {
    fn encoder(&self) -> Box<dyn Encode> {
        let mapper = convert::mapper(self.time.as_ref(), &self.tables);
        Box::new(encode::RowEncoder::new(Router::new(self.destination.clone()), self.tables.clone(), mapper))
    }

    fn judge(&self, frame: &Frame, response: &Response) -> Verdict {
        answer::judge(response, frame.header().records)
    }

    fn cut(&self, body: &[u8], records: &[u32]) -> Vec<u8> {
        if rows::Rows::read(body).is_some() { rows::cut(body, records) } else { lines::cut(body, records, 1) }
    }

    fn show(&self, body: &[u8], index: u32) -> Vec<u8> {
        rows::show(body, index).unwrap_or_else(|| {
            let line = lines::nth(body, index, 1).unwrap_or_default().trim_ascii_end();
            if line.is_empty() { b"null".to_vec() } else { convert::record(line).unwrap_or_else(|| line.to_vec()) }
        })
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
