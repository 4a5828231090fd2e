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
use crate::probe::{Finding, Probe, Probing};

/// OpenTelemetry's table of logs (opentelemetry-collector-contrib, `exporter/clickhouseexporter`), which Grafana and HyperDX
/// read, with a window of de-duplication.
pub const TABLE: &str = "\
-- The table of OpenTelemetry's logs, as Skidder's `clickhouse` sink fills it without further options.
--
-- non_replicated_deduplication_window: how many inserts the table remembers, so that one that is sent again after a lost answer
-- is not stored twice. It counts for all agents together: agents / batch.timeout_secs * 600 s of retrying. On a replicated
-- table the setting is called replicated_deduplication_window (10000 where it is not given).
CREATE TABLE IF NOT EXISTS default.otel_logs
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
TTL TimestampTime + toIntervalDay(30)
SETTINGS index_granularity = 8192, ttl_only_drop_parts = 1, non_replicated_deduplication_window = 10000;
";

/// The look at the table.
struct TableProbe {
    transport: ClickHouseTransport,
    tables: Arc<Tables>,
    /// `database.table`; `None` where records choose it.
    table: Option<String>,
    needed_window: u64,
}

impl ClickHouseConfig {
    /// A look at the server and the table.
    pub(crate) fn probe(&self, context: &SinkContext) -> Result<Arc<dyn Probe>, Vec<Problem>> {
        let mut problems = Vec::new();
        let destination = self.destination(&mut problems);
        let mapping = self.mapping(&mut problems);
        let parts = self.build(context)?;
        let options = HttpOptions { endpoints: &self.endpoints, auth: self.auth.as_ref(), tls: &self.tls, context };
        let client = HttpClient::new(&options, &mut problems);
        let (Some(destination), Some(client)) = (destination, client) else { return Err(problems) };
        let tables = Arc::new(Tables::new(mapping, None));
        let needed_window = window::needed(self.nodes, parts.limits.linger);
        let table = destination.as_literal().map(str::to_owned);
        let transport = ClickHouseTransport::new(Options {
            client,
            tables: tables.clone(),
            literal: None,
            settings: self.settings.clone(),
            time: None,
            needed_window,
            sink: context.name.clone(),
        });
        Ok(Arc::new(TableProbe { transport, tables, table, needed_window }))
    }
}

impl Probe for TableProbe {
    fn probe(&self) -> Probing<'_> {
        Box::pin(async {
            match self.look().await {
                Ok(findings) => findings,
                Err(refused) => vec![Finding::Error(said(refused))],
            }
        })
    }
}

impl TableProbe {
    async fn look(&self) -> Result<Vec<Finding>, Refused> {
        let server = self.transport.server().await?;
        let Some(table) = &self.table else {
            return Ok(vec![Finding::Fine(format!("ClickHouse {} answers; records choose the table", server.version))]);
        };
        let columns = self.transport.columns(table).await?;
        if columns.is_empty() {
            let text = format!("the table {table} does not exist, or this user may not see it: `skidder init clickhouse` prints one");
            return Ok(vec![Finding::Error(text)]);
        }
        let mut findings = Vec::new();
        let mapping = self.tables.mapping();
        for (column, _) in &mapping.columns {
            if !columns.iter().any(|info| info.name == *column) {
                findings.push(Finding::Error(format!("the table {table} has no column {column}, which `columns` names")));
            }
        }
        match (&mapping.catch_all, catch_all(&columns, mapping)) {
            (Some(name), None) => findings.push(Finding::Error(format!(
                "`catch_all` is {name}, and {table} has no such column of the type Map(String, String), JSON or String"
            ))),
            (None, None) => findings.push(Finding::Warning(format!(
                "{table} has no column for what no other takes, so such fields are not stored: add `attributes Map(LowCardinality(String), String)`"
            ))),
            _ => {}
        }
        let layout = Layout::new(&columns, mapping, server.version >= 22);
        for column in layout.columns.iter().filter(|column| column.of.is_none()) {
            findings.push(Finding::Warning(format!(
                "column {} of {table} has a type that makes rows travel as JSON, which costs the server more",
                column.name
            )));
        }
        if let Ok(info) = self.transport.table_info(table).await {
            findings.extend(window::warning(table, &info, self.needed_window).map(Finding::Warning));
        }
        if findings.is_empty() {
            findings.push(Finding::Fine(format!(
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
