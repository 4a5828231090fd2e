//! The way out: one file a store (config, encode, judge, cut, show, tests) over the pipeline's delivery.
//!
//! Nothing here retries, splits, waits or counts: a sink says what to write and what an answer means, and the delivery in
//! `skidder_pipeline` does the rest. Transports ([`http`], the terminal, files) stand beside the sinks.

pub mod blackhole;
pub mod clickhouse;
pub mod common;
pub mod console;
pub mod destination;
pub mod elasticsearch;
pub mod file;
pub mod grpc;
pub mod http;
pub mod http_lines;
pub mod kafka;
pub mod lines;
pub mod loki;
pub mod otlp;
pub mod setup;
#[cfg(test)]
mod testing;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use skidder_pipeline::body::{BodyLimits, Compression};
use skidder_pipeline::delivery::Options;
use skidder_pipeline::edge::{Clock, SystemClock};
use skidder_pipeline::problem::Problem;
use skidder_pipeline::sink::{Sink, Transport};

use crate::common::BufferSettings;

/// The sinks there are: the one list.
#[derive(Clone, Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum SinkConfig {
    /// Counts records and throws them away: for measuring.
    Blackhole(blackhole::BlackholeConfig),
    /// Sends records to ClickHouse, as rows of a table.
    #[serde(rename = "clickhouse")]
    ClickHouse(Box<clickhouse::ClickHouseConfig>),
    /// Writes records to the terminal or a pipe.
    Console(console::ConsoleConfig),
    /// Sends records to Elasticsearch, OpenSearch or another store that speaks `_bulk`.
    Elasticsearch(Box<elasticsearch::ElasticsearchConfig>),
    /// Writes records as lines of JSON into files.
    File(file::FileConfig),
    /// Sends records as lines of JSON to any endpoint that takes them.
    Http(Box<http_lines::HttpLinesConfig>),
    /// Sends records to Kafka.
    Kafka(Box<kafka::KafkaConfig>),
    /// Sends records to Grafana Loki.
    Loki(Box<loki::LokiConfig>),
    /// Sends records to an OpenTelemetry Collector or any store that takes OTLP.
    Otlp(Box<otlp::OtlpConfig>),
}

impl SinkConfig {
    /// Makes the sink, or says everything that is wrong with its table. Reads what the table names (certificates) and changes
    /// nothing: a check of the configuration calls it too.
    pub fn build(&self, context: &SinkContext) -> Result<SinkParts, Vec<Problem>> {
        match self {
            SinkConfig::Blackhole(config) => config.build(),
            SinkConfig::ClickHouse(config) => config.build(context),
            SinkConfig::Console(config) => config.build(context),
            SinkConfig::Elasticsearch(config) => config.build(context),
            SinkConfig::File(config) => config.build(context),
            SinkConfig::Http(config) => config.build(context),
            SinkConfig::Kafka(config) => config.build(context),
            SinkConfig::Loki(config) => config.build(context),
            SinkConfig::Otlp(config) => config.build(context),
        }
    }
}

/// What sinks are told of the world they are made in.
#[derive(Clone, Default)]
pub struct SinkContext {
    /// The sink's name in the configuration.
    pub name: String,
    /// The directory that relative paths start from; the current one where it is not given.
    pub base_dir: Option<PathBuf>,
    /// Where this sink's state is kept, beside its buffer's (`<data_dir>/sink-<name>`). `None` where each run starts from the
    /// beginning.
    pub state_dir: Option<PathBuf>,
    /// Whether the standard output is a terminal.
    pub stdout_is_terminal: bool,
    /// Whether the standard error is a terminal.
    pub stderr_is_terminal: bool,
    /// Called once when the reader of the standard output has gone (`skidder run | head`).
    pub output_closed: Option<Arc<dyn Fn() + Send + Sync>>,
    /// The time, for stamping what has none; the machine's where it is not given.
    pub clock: Option<Arc<dyn Clock>>,
}

impl SinkContext {
    /// The time.
    fn clock(&self) -> Arc<dyn Clock> {
        self.clock.clone().unwrap_or_else(|| Arc::new(SystemClock::new()))
    }

    /// `path` from where relative paths start.
    fn resolve(&self, path: &Path) -> PathBuf {
        self.base_dir.as_ref().map_or_else(|| path.to_owned(), |base| base.join(path))
    }
}

/// A sink, ready to be wired.
pub struct SinkParts {
    /// What the store wants and says.
    pub sink: Arc<dyn Sink>,
    /// The way there.
    pub transport: Arc<dyn Transport>,
    /// How bodies are compressed.
    pub compression: Compression,
    /// When bodies are frozen.
    pub limits: BodyLimits,
    /// Where frames wait.
    pub buffer: BufferSettings,
    /// How frames are delivered.
    pub delivery: Options,
}

impl std::fmt::Debug for SinkParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let SinkParts { compression, limits, buffer, delivery, .. } = self;
        f.debug_struct("SinkParts")
            .field("compression", compression)
            .field("limits", limits)
            .field("buffer", buffer)
            .field("delivery", delivery)
            .finish()
    }
}

/// `parts` where nothing is wrong.
fn unless(problems: Vec<Problem>, parts: impl FnOnce() -> SinkParts) -> Result<SinkParts, Vec<Problem>> {
    if problems.is_empty() { Ok(parts()) } else { Err(problems) }
}
