//! What the sink needs of the store: the table that `skidder init clickhouse` prints, and the look at it of `skidder validate`.

use std::sync::Arc;

use skidder_pipeline::problem::Problem;

use super::answer::exception;
use super::layout::{Layout, catch_all};
use super::tables::Tables;
use super::transport::{ClickHouseTransport, Options, Refused};
use super::{ClickHouseConfig, window};
use crate::SinkContext;
use crate::http::{HttpClient, HttpOptions};
use crate::setup::{Checking, Finding, Needs, Setup};

/// OpenTelemetry's table of logs (opentelemetry-collector-contrib, `exporter/clickhouseexporter`), which Grafana and HyperDX
/// read, with a window of de-duplication. Their TTL is a comment: it goes by a record's own time, so that a backlog which is older is
/// removed as soon as it is stored; who wants one decides on it.
const COLUMNS: &str = "\
(
    `Timestamp` DateTime64(9) CODEC(Delta(8), ZSTD(1)),
    `TimestampTime` DateTime DEFAULT toDateTime(Timestamp),
    `TraceId` String CODEC(ZSTD(1)),
    `SpanId` String CODEC(ZSTD(1)),
    `TraceFlags` UInt8,
    `SeverityText` LowCardinality(String) CODEC(ZSTD(1)),
    `SeverityNumber` UInt8,
    `ServiceName` LowCardinality(String) CODEC(ZSTD(1)),
    `Body` String CODEC(ZSTD(1)),
    `ResourceSchemaUrl` LowCardinality(String) CODEC(ZSTD(1)),
    `ResourceAttributes` Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    `ScopeSchemaUrl` LowCardinality(String) CODEC(ZSTD(1)),
    `ScopeName` String CODEC(ZSTD(1)),
    `ScopeVersion` LowCardinality(String) CODEC(ZSTD(1)),
    `ScopeAttributes` Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    `LogAttributes` Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    INDEX idx_trace_id TraceId TYPE bloom_filter(0.001) GRANULARITY 1,
    INDEX idx_res_attr_key mapKeys(ResourceAttributes) TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX idx_res_attr_value mapValues(ResourceAttributes) TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX idx_log_attr_key mapKeys(LogAttributes) TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX idx_log_attr_value mapValues(LogAttributes) TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX idx_body Body TYPE tokenbf_v1(32768, 3, 0) GRANULARITY 8
)
ENGINE = MergeTree
PARTITION BY toDate(TimestampTime)
PRIMARY KEY (ServiceName, TimestampTime)
ORDER BY (ServiceName, TimestampTime, Timestamp)
-- TTL TimestampTime + toIntervalDay(30)
SETTINGS index_granularity = 8192, ttl_only_drop_parts = 1, non_replicated_deduplication_window = {window};
";

/// The least window that is printed: what the smallest fleet needs, many times.
const MIN_WINDOW: u64 = 10_000;

/// The look at the table.
struct Table {
    transport: ClickHouseTransport,
    tables: Arc<Tables>,
    /// `database.table`; `None` where records choose it.
    table: Option<String>,
    /// One that they could choose.
    sample: String,
    needed_window: u64,
    /// The sink's name; empty where there is no configuration.
    sink: String,
}

impl ClickHouseConfig {
    pub(crate) fn setup(&self, context: &SinkContext) -> Result<Box<dyn Setup>, Vec<Problem>> {
        let mut problems = Vec::new();
        let destination = self.destination(&mut problems);
        let mapping = self.mapping(&mut problems);
        let parts = self.build(context)?;
        let options = HttpOptions { endpoints: &self.endpoints, auth: self.auth.as_ref(), tls: &self.tls, context };
        let client = HttpClient::new(&options, &mut problems);
        let (Some(destination), Some(client)) = (destination, client) else { return Err(problems) };
        let tables = Arc::new(Tables::new(mapping, None));
        let needed_window = window::needed(self.nodes, parts.limits.linger);
        let transport = ClickHouseTransport::new(Options {
            client,
            tables: tables.clone(),
            literal: None,
            settings: self.settings.clone(),
            time: None,
            needed_window,
            sink: context.name.clone(),
        });
        let (table, sample) = (destination.as_literal().map(str::to_owned), destination.sample("x"));
        Ok(Box::new(Table { transport, tables, table, sample, needed_window, sink: context.name.clone() }))
    }
}

impl Setup for Table {
    fn needs(&self) -> Needs {
        let window = self.needed_window.max(MIN_WINDOW).to_string();
        let columns = COLUMNS.replace("{window}", &window);
        let text = format!("CREATE TABLE IF NOT EXISTS {}\n{columns}", self.sample);
        let again = match self.sink.as_str() {
            "" => "skidder init clickhouse".to_owned(),
            sink => format!("skidder init clickhouse -c FILE --sink {sink}"),
        };
        let apply = format!(
            "OpenTelemetry's table of logs, which the sink fills without further options; any other table will do, see docs/sinks/clickhouse.md. \
             Give it to the server before the first record comes:\n  {again} | clickhouse-client --multiquery\nThe window of de-duplication ({window} \
             inserts) counts for all agents together; on a replicated table the setting is called replicated_deduplication_window. Nothing removes rows: take the dashes \
             from the TTL where something is to.\n"
        );
        Needs { text, apply }
    }

    fn check(&self) -> Checking<'_> {
        Box::pin(async {
            match self.look().await {
                Ok(findings) => findings,
                Err(refused) => vec![Finding::fault(said(refused))],
            }
        })
    }
}

impl Table {
    async fn look(&self) -> Result<Vec<Finding>, Refused> {
        let server = self.transport.server().await?;
        let Some(table) = &self.table else {
            return Ok(vec![Finding::fine(format!("ClickHouse {} answers; records choose the table", server.version))]);
        };
        let columns = self.transport.columns(table).await?;
        if columns.is_empty() {
            let missing = Finding::fault(format!("the table {table} does not exist, or this user may not see it"));
            return Ok(vec![missing.help("`skidder init clickhouse` prints one")]);
        }
        let mut findings = Vec::new();
        let mapping = self.tables.mapping();
        for (column, _) in &mapping.columns {
            if !columns.iter().any(|info| info.name == *column) {
                findings.push(Finding::fault(format!("the table {table} has no column {column}, which `columns` names")));
            }
        }
        match (&mapping.catch_all, catch_all(&columns, mapping)) {
            (Some(name), None) => findings.push(Finding::fault(format!(
                "`catch_all` is {name}, and {table} has no such column of the type Map(String, String), JSON or String"
            ))),
            (None, None) => findings.push(
                Finding::doubt(format!("{table} has no column for what no other takes: such fields are not stored"))
                    .help(format!("ALTER TABLE {table} ADD COLUMN attributes Map(LowCardinality(String), String)")),
            ),
            _ => {}
        }
        let layout = Layout::new(&columns, mapping, server.version >= 22);
        for column in layout.columns.iter().filter(|column| column.of.is_none()) {
            findings.push(Finding::doubt(format!(
                "column {} of {table} has a type that makes rows travel as JSON, which costs the server more",
                column.name
            )));
        }
        if let Ok(info) = self.transport.table_info(table).await {
            findings.extend(window::warning(table, &info, self.needed_window).map(Finding::doubt));
        }
        if findings.is_empty() {
            findings.push(Finding::fine(format!(
                "ClickHouse {} has {table}, and {} columns are filled",
                server.version,
                layout.columns.len()
            )));
        }
        Ok(findings)
    }
}

fn said(refused: Refused) -> String {
    match refused {
        Refused::Unanswered(error) => error.to_string(),
        // It is for whoever wrote the configuration, about no record.
        Refused::Answered(response) => match exception(&response.body) {
            Some(exception) => exception.text.to_owned(),
            None => format!("HTTP {}", response.status),
        },
    }
}
