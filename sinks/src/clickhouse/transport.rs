//! The way to ClickHouse: asks what the tables look like, and sends each frame as one synchronous INSERT.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use skidder_pipeline::body::{Compression, compress, decompress};
use skidder_pipeline::frame::{BatchId, Frame};
use skidder_pipeline::path::Path;
use skidder_pipeline::sink::{Note, Response, Sending, Transport, TransportError};

use super::answer::exception;
use super::convert::{convert, mapper};
use super::layout::{ColumnInfo, Form, Layout};
use super::tables::{Described, Tables};
use super::window::{self, TableInfo};
use crate::http::{HttpClient, HttpRequest};

/// How long an answer about columns holds: columns that are added are used after that time at the latest.
const FRESH: Duration = Duration::from_secs(600);

/// The settings of an INSERT, each sent because some version has another default (or the administrator has), as far as the
/// server knows them. Without the order in which ClickHouse applies them.
const SETTINGS: [(&str, &str); 15] = [
    // An answer means that it is stored. An asynchronous insert with a token can lose rows of its partitions (ClickHouse#111031).
    ("async_insert", "0"),
    ("insert_deduplicate", "1"),
    ("deduplicate_insert", "enable"),
    ("deduplicate_blocks_in_dependent_materialized_views", "1"),
    // One block of one insert, cut alike at each try.
    ("input_format_parallel_parsing", "0"),
    ("max_insert_block_size", "100000000"),
    ("min_insert_block_size_rows", "100000000"),
    ("min_insert_block_size_bytes", "1000000000"),
    // What has no column is an error that is seen, and not a value that vanishes.
    ("input_format_skip_unknown_fields", "0"),
    ("input_format_allow_errors_num", "0"),
    ("input_format_allow_errors_ratio", "0"),
    ("input_format_with_names_use_header", "1"),
    ("input_format_with_types_use_header", "1"),
    ("input_format_null_as_default", "1"),
    ("date_time_input_format", "best_effort"),
];

/// The same where a column of the type `JSON` takes the rest of a record.
const JSON_SETTINGS: [(&str, &str); 2] = [("input_format_binary_read_json_as_string", "1"), ("type_json_skip_duplicated_paths", "1")];

const TOKEN: &str = "insert_deduplication_token";

/// What a transport is made of.
pub struct Options {
    pub client: HttpClient,
    pub tables: Arc<Tables>,
    /// The tables that are known by name: asked for at the start.
    pub literal: Option<String>,
    /// Further settings, of `settings`.
    pub settings: BTreeMap<String, String>,
    pub time: Option<Path>,
    /// What the window of de-duplication must hold: see [`window`].
    pub needed_window: u64,
    pub sink: String,
}

/// Sends frames. Cheap to clone.
#[derive(Clone)]
pub struct ClickHouseTransport(Arc<Inner>);

struct Inner {
    options: Options,
    server: Mutex<Option<Arc<Server>>>,
    /// When the columns of a table were asked for.
    asked: Mutex<BTreeMap<String, Instant>>,
    left_out_said: Mutex<u64>,
}

/// What is known of the server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Server {
    /// Major version: 26 for 26.9.2.1.
    pub version: u32,
    /// Which of our settings it knows.
    pub settings: BTreeSet<String>,
}

/// Why something could not be asked.
pub enum Refused {
    /// There was no answer.
    Unanswered(TransportError),
    /// The server's answer, to be judged as that to an INSERT.
    Answered(Response),
}

impl ClickHouseTransport {
    pub fn new(options: Options) -> ClickHouseTransport {
        let inner = Inner { options, server: Mutex::default(), asked: Mutex::default(), left_out_said: Mutex::default() };
        ClickHouseTransport(Arc::new(inner))
    }

    async fn insert(&self, frame: &Frame) -> Result<Response, TransportError> {
        match self.0.try_insert(frame).await {
            Ok(response) | Err(Refused::Answered(response)) => Ok(response),
            Err(Refused::Unanswered(error)) => Err(error),
        }
    }

    /// What the server is.
    pub async fn server(&self) -> Result<Arc<Server>, Refused> {
        self.0.server().await
    }

    /// What the server says of a table, beside its columns.
    pub async fn table_info(&self, table: &str) -> Result<TableInfo, Refused> {
        self.0.table_info(table).await
    }

    /// The columns of a table, asked for now.
    pub async fn columns(&self, table: &str) -> Result<Vec<ColumnInfo>, Refused> {
        self.0.columns(table).await
    }
}

impl Transport for ClickHouseTransport {
    fn send<'a>(&'a self, frame: &'a Frame) -> Sending<'a> {
        Box::pin(self.insert(frame))
    }

    /// Begins to ask for the columns, so that the first body is one of rows already. Nothing waits for it.
    fn recover(&self, _: &[Note]) -> Result<(), TransportError> {
        if let (Some(table), Ok(runtime)) = (self.0.options.literal.clone(), tokio::runtime::Handle::try_current()) {
            let inner = self.0.clone();
            runtime.spawn(async move {
                let _ = tokio::time::timeout(Duration::from_secs(30), inner.layout(&table)).await;
            });
        }
        Ok(())
    }
}

impl Inner {
    async fn try_insert(&self, frame: &Frame) -> Result<Response, Refused> {
        let header = frame.header();
        let (table, tag) = header.destination.rsplit_once(' ').unwrap_or((&header.destination, ""));
        let server = self.server().await?;
        let layout = self.layout(table).await?;
        let (body, form) = if tag == layout.tag { (frame.body().clone(), layout.form) } else { self.converted(frame, tag, &layout)? };
        let request = self.request(table, form, header.id, &layout, &server);
        let answer = self.options.client.send(Method::POST, request, body, header.compression).await.map_err(Refused::Unanswered)?;
        let mut response = with_code(answer.response, &answer.headers);
        if let Some(exception) = exception(&response.body) {
            if exception.is_stale() {
                self.forget(table);
            }
            // Merging takes its time, and each try would make another part.
            let patience = match exception.code {
                252 => Some(Duration::from_secs(10)),
                202 | 241 => Some(Duration::from_secs(2)),
                _ => None,
            };
            response.retry_after = response.retry_after.or(patience);
        }
        self.say_what_is_left_out(table, &layout);
        Ok(response)
    }

    /// The frame's body for the columns that the table has now.
    fn converted(&self, frame: &Frame, tag: &str, layout: &Arc<Layout>) -> Result<(Bytes, Form), Refused> {
        let header = frame.header();
        let unreadable = |what: String| Refused::Unanswered(TransportError(what));
        let plain = decompress(header.compression, frame.body(), header.raw_bytes)
            .map_err(|error| unreadable(format!("the stored body cannot be read back: {error}")))?;
        let mapper = mapper(self.options.time.as_ref(), &self.options.tables);
        let Some((body, form)) = convert(&plain, tag, layout, mapper) else {
            // As for a body that the store cannot read: record by record to the dead letters.
            let text = "Code: 117. DB::Exception: the stored body cannot be read back (INCORRECT_DATA)";
            return Err(Refused::Answered(Response { status: 400, body: Bytes::from_static(text.as_bytes()), ..Response::ok() }));
        };
        Ok((compress(header.compression, &body).into(), form))
    }

    fn request(&self, table: &str, form: Form, id: BatchId, layout: &Layout, server: &Server) -> HttpRequest {
        let (database, table) = table.split_once('.').unwrap_or(("default", table));
        let format = match form {
            Form::Rows => "RowBinaryWithNamesAndTypes",
            Form::Json => "JSONEachRow",
        };
        let mut query = Query::default();
        // Identifiers are parameters where the server knows them (from 20 on); they are confined to letters, digits and `_` anyway.
        if server.version >= 21 {
            query.add("query", &format!("INSERT INTO {{database:Identifier}}.{{table:Identifier}} FORMAT {format}"));
            query.add("param_database", database);
            query.add("param_table", table);
        } else {
            query.add("query", &format!("INSERT INTO {database}.{table} FORMAT {format}"));
        }
        // So that an exception comes instead of the headers, and not after them.
        query.add("wait_end_of_query", "1");
        let json: &[_] = if layout.has_json { &JSON_SETTINGS } else { &[] };
        for (name, value) in SETTINGS.iter().chain(json) {
            if server.settings.contains(*name) && !self.options.settings.contains_key(*name) {
                query.add(name, value);
            }
        }
        if server.settings.contains(TOKEN) {
            let token: String = id.0.iter().map(|byte| format!("{byte:02x}")).collect();
            query.add(TOKEN, &token);
        }
        for (name, value) in &self.options.settings {
            query.add(name, value);
        }
        HttpRequest { path_and_query: query.0, headers: HeaderMap::new() }
    }

    async fn server(&self) -> Result<Arc<Server>, Refused> {
        let known = self.server.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(server) = known {
            return Ok(server);
        }
        #[derive(Deserialize)]
        struct Row {
            version: String,
            settings: Vec<String>,
        }
        let ours: Vec<String> =
            SETTINGS.iter().chain(&JSON_SETTINGS).map(|(name, _)| *name).chain([TOKEN]).map(|name| format!("'{name}'")).collect();
        let sql =
            format!("SELECT version() AS version, groupArray(name) AS settings FROM system.settings WHERE name IN ({})", ours.join(","));
        let row: Row = self.ask(&sql).await?.into_iter().next().ok_or_else(|| unclear("nothing about itself"))?;
        let version = row.version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(0);
        let server = Arc::new(Server { version, settings: row.settings.into_iter().collect() });
        if !server.settings.contains(TOKEN) {
            tracing::warn!(
                sink = self.options.sink,
                version = row.version,
                "this server does not know insert_deduplication_token: what is sent again after a lost answer is stored twice"
            );
        }
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = Some(server.clone());
        Ok(server)
    }

    /// The layout of a table: asked for where it is not known, or was asked for long ago.
    async fn layout(&self, table: &str) -> Result<Arc<Layout>, Refused> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner).get(table).copied();
        let known = self.options.tables.layout(table);
        if let (Some(layout), Some(at)) = (&known, asked)
            && at.elapsed() < FRESH
        {
            return Ok(layout.clone());
        }
        let server = self.server().await?;
        let columns = match self.columns(table).await {
            Ok(columns) => columns,
            // What was known yesterday is better than nothing; the INSERT will say whether it holds.
            Err(Refused::Unanswered(error)) => return known.ok_or(Refused::Unanswered(error)),
            Err(refused) => return Err(refused),
        };
        if columns.is_empty() {
            let text = "Code: 60. DB::Exception: the table does not exist, or this user may not see its columns (UNKNOWN_TABLE)";
            return Err(Refused::Answered(Response { status: 404, body: Bytes::from_static(text.as_bytes()), ..Response::ok() }));
        }
        let layout = self.options.tables.describe(table, Described { columns, binary: server.version >= 22 });
        let first = self.asked.lock().unwrap_or_else(PoisonError::into_inner).insert(table.to_owned(), Instant::now()).is_none();
        if first && server.settings.contains(TOKEN) {
            // Only for a warning: an INSERT works without.
            if let Ok(info) = self.table_info(table).await
                && let Some(warning) = window::warning(table, &info, self.options.needed_window)
            {
                tracing::warn!(sink = self.options.sink, "{warning}");
            }
        }
        Ok(layout)
    }

    fn forget(&self, table: &str) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        // Marked as old rather than as never asked for, which would repeat the first warning.
        if let (Some(at), Some(old)) = (asked.get_mut(table), Instant::now().checked_sub(FRESH)) {
            *at = old;
        } else {
            asked.remove(table);
        }
    }

    async fn columns(&self, table: &str) -> Result<Vec<ColumnInfo>, Refused> {
        let (database, table) = table.split_once('.').unwrap_or(("default", table));
        let from = format!("FROM system.columns WHERE database = '{database}' AND table = '{table}'");
        self.ask(&format!("SELECT name, type, default_kind {from}")).await
    }

    async fn table_info(&self, table: &str) -> Result<TableInfo, Refused> {
        #[derive(Deserialize)]
        struct Setting {
            name: String,
            value: String,
        }
        let (database, table) = table.split_once('.').unwrap_or(("default", table));
        let sql = format!("SELECT engine, create_table_query FROM system.tables WHERE database = '{database}' AND name = '{table}'");
        let mut info: TableInfo = self.ask(&sql).await?.into_iter().next().ok_or_else(|| unclear("nothing about the table"))?;
        let sql = "SELECT name, value FROM system.merge_tree_settings WHERE name IN ('non_replicated_deduplication_window','replicated_deduplication_window')";
        let defaults: Vec<Setting> = self.ask(sql).await?;
        info.defaults = defaults.into_iter().map(|setting| (setting.name, setting.value)).collect();
        Ok(info)
    }

    /// The rows of a query.
    async fn ask<T: DeserializeOwned>(&self, sql: &str) -> Result<Vec<T>, Refused> {
        let request = HttpRequest { path_and_query: "/".to_owned(), headers: HeaderMap::new() };
        // As the body: a POST without one is refused by old servers.
        let body = Bytes::from(format!("{sql} FORMAT JSONEachRow"));
        let answer = self.options.client.send(Method::POST, request, body, Compression::None).await;
        let answer = answer.map_err(Refused::Unanswered)?;
        let response = with_code(answer.response, &answer.headers);
        if response.status != 200 || exception(&response.body).is_some() {
            return Err(Refused::Answered(response));
        }
        let lines = response.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let rows: Result<Vec<T>, _> = lines.map(serde_json::from_slice).collect();
        rows.map_err(|_| unclear("what is no row"))
    }

    /// Once an hour's worth of it is new: fields that are stored nowhere.
    fn say_what_is_left_out(&self, table: &str, layout: &Layout) {
        let now = self.options.tables.left_out.load(Ordering::Relaxed);
        let mut said = self.left_out_said.lock().unwrap_or_else(PoisonError::into_inner);
        if !layout.has_rest && now > *said && (*said == 0 || now > 10 * *said) {
            *said = now;
            tracing::warn!(
                sink = self.options.sink,
                table,
                fields = now,
                "fields have no column and are not stored: add a column for the rest, `attributes Map(LowCardinality(String), String)`"
            );
        }
    }
}

fn unclear(what: &str) -> Refused {
    Refused::Unanswered(TransportError(format!("the server answered {what}")))
}

/// The answer with the code of its exception in the body, where only a header has it.
fn with_code(response: Response, headers: &HeaderMap) -> Response {
    let code = headers.get("x-clickhouse-exception-code").and_then(|code| code.to_str().ok()).filter(|code| *code != "0");
    match code {
        Some(code) if exception(&response.body).is_none() => {
            let body = [format!("Code: {code}. DB::Exception: ").as_bytes(), &response.body].concat();
            Response { body: body.into(), ..response }
        }
        _ => response,
    }
}

/// Path and query of a request.
struct Query(String);

impl Default for Query {
    fn default() -> Query {
        Query("/".to_owned())
    }
}

impl Query {
    fn add(&mut self, name: &str, value: &str) {
        self.0.push(if self.0.len() == 1 { '?' } else { '&' });
        self.0.push_str(name);
        self.0.push('=');
        for byte in value.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => self.0.push(char::from(byte)),
                _ => self.0.push_str(&format!("%{byte:02X}")),
            }
        }
    }
}
