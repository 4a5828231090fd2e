//! `otlp`: records to whatever takes OpenTelemetry's protocol, by HTTP or gRPC.
//!
//! The records of a container go together under one resource, so that what is known of it is sent once and not with each line. OTLP
//! has no means against duplicates ("Duplicate Data", OTLP specification): a request that is made again because its answer was lost
//! is stored again, unless the store looks at `log.record.uid`, the record's id.

mod answer;
mod encode;
mod resource;
mod value;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use serde::{Deserialize, Serialize};
use skidder_pipeline::body::Compression;
use skidder_pipeline::frame::Frame;
use skidder_pipeline::path::Path;
use skidder_pipeline::problem::Problem;
use skidder_pipeline::sink::{Encode, Response, Sink, Transport, Verdict};

use crate::common::{
    AuthConfig, BatchConfig, BatchDefaults, BufferConfig, BufferType, ByteSize, RequestConfig, Secret, TlsConfig, headers,
};
use crate::grpc::GrpcTransport;
use crate::http::{HttpOptions, HttpRequest, HttpTransport, of_the_endpoint};
use crate::{SinkContext, SinkParts, unless};
use encode::{OtlpEncoder, Settings};

/// Sends records to an OpenTelemetry Collector or any store that takes OTLP.
///
/// Times, severities, traces and spans stand where OpenTelemetry has places for them, and what is known of the container has the
/// names of its semantic conventions. Each record has its id as `log.record.uid`. Its buffer is on disk.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OtlpConfig {
    /// The receiver's address: `http://host:4318` for HTTP, `http://host:4317` for gRPC, or `https://…`.
    pub endpoint: String,
    /// How it is spoken to.
    #[serde(default)]
    pub protocol: Protocol,
    /// The path, for `http`.
    #[serde(default = "logs_path")]
    pub path: String,
    /// How bodies are compressed: `gzip` (level 1), `zstd`, or `none`.
    #[serde(default = "gzip")]
    pub compression: Compression,
    /// Headers (gRPC: metadata) of each request: a tenant, a key. Write secrets as `${VARIABLE}`.
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
    /// Attributes of the resource to add, such as `service.namespace`. What is known of the container has precedence.
    #[serde(default)]
    pub resource: BTreeMap<String, String>,
    /// The field that the time of a record is read from, where it is a time of RFC 3339 or a number of seconds to nanoseconds
    /// since 1970. Without it, and for records where it is no time: `timestamp`.
    pub time_field: Option<String>,
    /// What is done where the receiver says that it refused some records of a request and not which.
    #[serde(default)]
    pub on_partial_success: OnPartialSuccess,
    /// Where records wait until the store has them.
    #[serde(default)]
    pub buffer: BufferConfig,
    /// When records are sent. Where nothing is given: 2 MiB, any number of records, one second. gRPC's receivers take 4 MiB by default.
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

fn logs_path() -> String {
    "/v1/logs".to_owned()
}

fn gzip() -> Compression {
    Compression::Gzip
}

/// How a receiver is spoken to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// HTTP, with bodies in Protocol Buffers' format.
    #[default]
    Http,
    /// gRPC.
    Grpc,
}

/// What is done where a receiver refused some records of a request and does not say which.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnPartialSuccess {
    /// All records of the request become dead letters, with how many it was and the receiver's reason: nothing is lost, and what
    /// is sent again from there may be stored twice.
    #[default]
    DeadLetter,
    /// It is warned of once, and the refused records are gone.
    Accept,
}

impl OtlpConfig {
    const BATCH: BatchDefaults = BatchDefaults { max_bytes: ByteSize::mib(2), max_events: u32::MAX, linger: Duration::from_secs(1) };

    pub(crate) fn build(&self, context: &SinkContext) -> Result<SinkParts, Vec<Problem>> {
        let mut problems = Vec::new();
        let time = self
            .time_field
            .as_ref()
            .and_then(|path| Path::parse(path).map_err(|error| problems.push(Problem::at("time_field", error.to_string()))).ok());
        if !self.path.starts_with('/') {
            problems.push(Problem::at("path", "a path starts with `/`"));
        }
        if self.protocol == Protocol::Grpc && self.path != logs_path() {
            problems.push(Problem::at("path", "only for `protocol = \"http\"`"));
        }
        let headers = headers(&self.headers, &mut problems);
        let buffer = self.buffer.resolve(BufferType::Disk, &mut problems);
        let limits = self.batch.resolve(Self::BATCH, &mut problems);
        let delivery = self.request.resolve(&mut problems);
        let transport = self.transport(context, headers, &mut problems);
        let Some(transport) = transport else { return Err(problems) };
        let settings = Settings { time, resource: self.resource.clone(), clock: context.clock() };
        unless(problems, || SinkParts {
            sink: Arc::new(Otlp {
                settings: Arc::new(settings),
                protocol: self.protocol,
                on_partial_success: self.on_partial_success,
                warned: AtomicBool::new(false),
                name: context.name.clone(),
            }),
            transport,
            compression: self.compression,
            limits,
            buffer,
            delivery,
        })
    }

    fn transport(&self, context: &SinkContext, headers: HeaderMap, problems: &mut Vec<Problem>) -> Option<Arc<dyn Transport>> {
        let endpoints = [self.endpoint.clone()];
        let options = HttpOptions { endpoints: &endpoints, auth: self.auth.as_ref(), tls: &self.tls, context };
        let mut at = Vec::new();
        let transport: Option<Arc<dyn Transport>> = match self.protocol {
            Protocol::Http => {
                let path = self.path.clone();
                let request = move |_: &Frame| {
                    let mut headers = headers.clone();
                    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
                    HttpRequest { path_and_query: path.clone(), headers }
                };
                HttpTransport::new(&options, request, &mut at).map(|transport| Arc::new(transport) as _)
            }
            Protocol::Grpc => {
                let method = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
                GrpcTransport::new(&options, method, headers, &mut at).map(|transport| Arc::new(transport) as _)
            }
        };
        problems.extend(at.into_iter().map(of_the_endpoint));
        transport
    }
}

/// The sink. A body is an `ExportLogsServiceRequest`: one `ResourceLogs` for each chunk of a container.
struct Otlp {
    settings: Arc<Settings>,
    protocol: Protocol,
    on_partial_success: OnPartialSuccess,
    warned: AtomicBool,
    name: String,
}

impl Sink for Otlp {
    fn encoder(&self) -> Box<dyn Encode> {
        Box::new(OtlpEncoder::new(self.settings.clone()))
    }

    fn judge(&self, frame: &Frame, response: &Response) -> Verdict {
        let records = frame.header().records;
        let answer = match self.protocol {
            Protocol::Http => answer::of_http(response, records),
            Protocol::Grpc => answer::of_grpc(response, records),
        };
        let refused = match answer {
            answer::Answer::Verdict(verdict) => return verdict,
            answer::Answer::Partial { refused, message } if refused > 0 && self.on_partial_success == OnPartialSuccess::DeadLetter => {
                let which = if refused >= u64::from(records) { "all".to_owned() } else { format!("{refused} of {records} with this one") };
                let status = if self.protocol == Protocol::Http { 200 } else { 0 };
                return Verdict::Reject { status, reason: format!("partial success, {which} refused: {message}") };
            }
            answer::Answer::Partial { refused, .. } => refused,
        };
        if !self.warned.swap(true, Ordering::Relaxed) {
            let sink = &*self.name;
            tracing::warn!(sink, refused, "the receiver takes records and has something to say about them; this is said once");
        }
        Verdict::Delivered { duplicates: 0 }
    }

    fn cut(&self, body: &[u8], records: &[u32]) -> Vec<u8> {
        resource::cut(body, records)
    }

    fn show(&self, body: &[u8], index: u32) -> Vec<u8> {
        resource::show(body, index)
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
