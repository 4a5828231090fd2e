//! `http`: records as lines of JSON to any endpoint that takes them by POST.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use serde::Deserialize;
use skidder_pipeline::batch::Batch;
use skidder_pipeline::body::{Bodies, Compression};
use skidder_pipeline::frame::Frame;
use skidder_pipeline::id::RecordIds;
use skidder_pipeline::json;
use skidder_pipeline::problem::Problem;
use skidder_pipeline::shared::PerShared;
use skidder_pipeline::sink::{Encode, Response, Sink, Verdict};

use crate::common::schema::Schema;
use crate::common::{
    AuthConfig, BatchConfig, BatchDefaults, BufferConfig, BufferType, ByteSize, RequestConfig, Secret, TlsConfig, headers,
};
use crate::http::{HttpOptions, HttpRequest, HttpTransport};
use crate::{SinkContext, SinkParts, lines, unless};

/// Sends records as lines of JSON, for VictoriaLogs, Vector, Fluent Bit, or a program of your own.
///
/// What such an endpoint does with a request that comes twice is its affair: `id_field` gives each record an id by which it can
/// tell. Its buffer is on disk.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpLinesConfig {
    /// The endpoints' addresses, with path and query: `http://host:9428/insert/jsonline?_msg_field=message`. Used in turn.
    pub endpoints: Vec<String>,
    /// How bodies are compressed: `gzip` (level 1), `zstd`, or `none`.
    #[serde(default = "gzip")]
    pub compression: Compression,
    /// The type of the bodies.
    #[serde(default = "content_type")]
    pub content_type: String,
    /// Headers of each request. Write secrets as `${VARIABLE}`.
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
    /// The key under which each record has its id, a text of 24 characters that is the same whenever it is sent. Without it there is
    /// none.
    pub id_field: Option<String>,
    /// What fields are called: `vector`, `otel` or `ecs`.
    #[serde(default)]
    pub schema: Schema,
    /// Where records wait until the store has them.
    #[serde(default)]
    pub buffer: BufferConfig,
    /// When records are sent. Where nothing is given: 2 MiB, any number of records, one second.
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

fn content_type() -> String {
    "application/x-ndjson".to_owned()
}

impl HttpLinesConfig {
    const BATCH: BatchDefaults = BatchDefaults { max_bytes: ByteSize::mib(2), max_events: u32::MAX, linger: Duration::from_secs(1) };

    pub(crate) fn build(&self, context: &SinkContext) -> Result<SinkParts, Vec<Problem>> {
        let mut problems = Vec::new();
        let headers = self.headers(&mut problems);
        let buffer = self.buffer.resolve(BufferType::Disk, &mut problems);
        let limits = self.batch.resolve(Self::BATCH, &mut problems);
        let delivery = self.request.resolve(&mut problems);
        if self.id_field.as_ref().is_some_and(String::is_empty) {
            problems.push(Problem::at("id_field", "an empty key").help("leave it out for no id"));
        }
        // All have one path and query: they are one service.
        let split: Vec<(String, String)> = self.endpoints.iter().map(|endpoint| split(endpoint)).collect();
        let path_and_query = split.first().map(|(_, path)| path.clone()).unwrap_or_default();
        if let Some(index) = split.iter().position(|(_, path)| *path != path_and_query) {
            let problem = Problem::at(&format!("endpoints.{index}"), "another path or query than the first endpoint's");
            problems.push(problem.help("endpoints that differ in more than the host are sinks of their own"));
        }
        let endpoints: Vec<String> = split.into_iter().map(|(base, _)| base).collect();
        let options = HttpOptions { endpoints: &endpoints, auth: self.auth.as_ref(), tls: &self.tls, context };
        let request = move |_: &Frame| HttpRequest { path_and_query: path_and_query.clone(), headers: headers.clone() };
        let transport = HttpTransport::new(&options, request, &mut problems);
        let Some(transport) = transport else { return Err(problems) };
        let mut id_key = Vec::new();
        json::escape(self.id_field.as_deref().unwrap_or_default().as_bytes(), &mut id_key);
        unless(problems, || SinkParts {
            sink: Arc::new(HttpLines { schema: self.schema, id_key: id_key.into() }),
            transport: Arc::new(transport),
            compression: self.compression,
            limits,
            buffer,
            delivery,
        })
    }

    fn headers(&self, problems: &mut Vec<Problem>) -> HeaderMap {
        let mut headers = headers(&self.headers, problems);
        // One that is given in `headers` holds.
        if !headers.contains_key(CONTENT_TYPE) {
            match HeaderValue::from_str(&self.content_type) {
                Ok(value) => drop(headers.insert(CONTENT_TYPE, value)),
                Err(_) => problems.push(Problem::at("content_type", "holds characters that no header may hold")),
            }
        }
        headers
    }
}

/// An address without path and query, and these.
fn split(endpoint: &str) -> (String, String) {
    let after_scheme = endpoint.find("://").map_or(0, |at| at + 3);
    let end = endpoint[after_scheme..].find(['/', '?']).map_or(endpoint.len(), |at| after_scheme + at);
    let (base, path) = endpoint.split_at(end);
    (base.to_owned(), if path.starts_with('?') { format!("/{path}") } else { path.to_owned() })
}

/// The sink. A body is a line of JSON a record.
struct HttpLines {
    schema: Schema,
    /// Escaped; empty for none.
    id_key: Arc<[u8]>,
}

impl Sink for HttpLines {
    fn encoder(&self) -> Box<dyn Encode> {
        self.schema.wrap(Box::new(LineEncoder { id_key: self.id_key.clone(), ready: PerShared::new(), scratch: Vec::new() }))
    }

    fn judge(&self, frame: &Frame, response: &Response) -> Verdict {
        let status = response.status;
        let reason = format!("HTTP {status}");
        match status {
            200..=299 => Verdict::Delivered { duplicates: 0 },
            413 => Verdict::Split,
            408 | 425 | 429 | 500..=599 => Verdict::Retry { reason },
            400 | 422 if frame.header().records > 1 => Verdict::Split,
            400 | 422 => Verdict::Reject { status, reason: String::from_utf8_lossy(&response.body).trim().to_owned() },
            _ => Verdict::Pause { reason },
        }
    }

    fn cut(&self, body: &[u8], records: &[u32]) -> Vec<u8> {
        lines::cut(body, records, 1)
    }

    fn show(&self, body: &[u8], index: u32) -> Vec<u8> {
        let line = lines::nth(body, index, 1).unwrap_or_default().trim_ascii_end();
        if line.is_empty() { b"null".to_vec() } else { line.to_vec() }
    }
}

struct LineEncoder {
    id_key: Arc<[u8]>,
    ready: PerShared<Vec<u8>>,
    scratch: Vec<u8>,
}

impl Encode for LineEncoder {
    fn encode(&mut self, batch: &Batch, route: u8, out: &mut Bodies) {
        let LineEncoder { id_key, ready, scratch } = self;
        let shared = ready.get_or_make(batch.shared(), |shared| lines::shared_members(shared));
        let ids = RecordIds::new(batch.file(), route);
        scratch.clear();
        for record in batch.records() {
            let start = scratch.len();
            lines::write_line(&record, shared, scratch);
            if !id_key.is_empty() {
                let is_empty = scratch[start..] == *b"{}\n";
                scratch.truncate(scratch.len() - 2);
                scratch.extend_from_slice(if is_empty { b"\"" } else { b",\"" });
                scratch.extend_from_slice(id_key);
                scratch.extend_from_slice(b"\":\"");
                scratch.extend_from_slice(&ids.text(record.offset));
                scratch.extend_from_slice(b"\"}\n");
            }
        }
        out.write("", scratch, batch.len() as u32);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{batch, encoded, frame};

    fn build(config: Value) -> Result<SinkParts, Vec<String>> {
        let config: HttpLinesConfig = serde_json::from_value(config).unwrap();
        let problems = |problems: Vec<Problem>| problems.into_iter().map(|p| format!("{}: {}", p.path.join("."), p.message)).collect();
        config.build(&SinkContext::default()).map_err(problems)
    }

    #[test]
    fn a_line_a_record_with_its_id_and_the_names_of_the_schema() {
        let config = json!({"endpoints": ["http://127.0.0.1/a?b"], "id_field": "_\"id", "schema": "ecs"});
        let bodies =
            encoded(build(config).unwrap().sink.encoder(), &batch(r#"{"region":"eu"}"#, &[r#"{"message":"a","level":"info"}"#, "{}"]));
        let lines: Vec<Value> = bodies[0].1.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let id = |line: &Value| line["_\"id"].as_str().unwrap().to_owned();
        assert_eq!(lines[0], json!({"cloud.region": "eu", "message": "a", "log.level": "info", "_\"id": id(&lines[0])}));
        assert_ne!(id(&lines[0]), id(&lines[1]));
        let plain =
            encoded(build(json!({"endpoints": ["http://127.0.0.1"], "id_field": "i"})).unwrap().sink.encoder(), &batch("{}", &["{}"]));
        assert!(plain[0].1.starts_with("{\"i\":\""));
    }

    #[test]
    fn answers_and_mistakes() {
        let sink = build(json!({"endpoints": ["http://127.0.0.1"]})).unwrap().sink;
        let judge = |status, records: u32| {
            let response = Response { status, retry_after: None, body: "why".into(), note: None };
            sink.judge(&frame("", &"{}\n".repeat(records as usize), records), &response)
        };
        assert_eq!((judge(204, 2), judge(413, 1), judge(400, 2)), (Verdict::Delivered { duplicates: 0 }, Verdict::Split, Verdict::Split));
        assert_eq!(judge(422, 1), Verdict::Reject { status: 422, reason: "why".to_owned() });
        assert!([408, 429, 500, 503].iter().all(|status| matches!(judge(*status, 2), Verdict::Retry { .. })));
        assert!([301, 401, 404, 415].iter().all(|status| matches!(judge(*status, 2), Verdict::Pause { .. })));
        let problems = build(json!({"endpoints": ["http://a/x", "http://b/y"], "headers": {"a b": "x"}, "id_field": ""})).unwrap_err();
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert_eq!(split("https://h:1?q=1"), ("https://h:1".to_owned(), "/?q=1".to_owned()));
        assert_eq!(split("h"), ("h".to_owned(), String::new()));
    }
}
