//! What stores want to know of a record: its time, severity, trace, span and correlation, and the service it comes from.
//!
//! Found where the conventions of the field put them (OpenTelemetry, ECS, and the loggers in wide use), by one pass over the
//! keys of the record's own fields. Nothing is built: what is found is a value in the batch, and the place of its field, so
//! that an encoder that has a place of its own for it can leave it out of the rest.
//!
//! What is the same for all records of a container is found once for each, see [`Finder::begin`].

mod service;
mod severity;
mod time;

use skidder_pipeline::batch::{Batch, RecordView};
use skidder_pipeline::json;
use skidder_pipeline::path::Path;
use skidder_pipeline::shared::PerShared;
use skidder_pipeline::value::{Kind, Value};

pub(crate) use service::deployment;
pub use service::service_name;
pub use severity::Severity;
pub use time::{parse_rfc3339, unix_nanos};

/// Where sources put what the container runtime wrote, or when a line was read.
const TIMESTAMP: &[u8] = b"timestamp";

/// Something that was found, and the place among the record's own fields where it stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found<T> {
    /// What it is.
    pub what: T,
    /// The field's index in [`RecordView::fields`].
    pub field: usize,
    /// Whether the field is that and nothing else: `trace_id`, and not `trace` with an `id` in it.
    pub whole: bool,
}

/// What was found of one record.
#[derive(Clone, Copy, Debug, Default)]
pub struct Meaning<'a> {
    /// When it happened, in nanoseconds since 1970-01-01T00:00:00Z: by the field that the configuration names, else by
    /// `timestamp`, which sources set to what the container runtime wrote. `None` where neither is a time.
    pub time: Option<i64>,
    /// The field that the time stands in; `None` where there is none.
    pub time_field: Option<usize>,
    /// What the record calls its level.
    pub level: Option<Found<Value<'a>>>,
    /// What that means; `None` where there is no level, or none that is known.
    pub severity: Option<Severity>,
    /// The trace, 16 bytes that are not all zero. Ids of 8 bytes, as some tracers write them, stand in the last eight.
    pub trace_id: Option<Found<[u8; 16]>>,
    /// The span, 8 bytes that are not all zero.
    pub span_id: Option<Found<[u8; 8]>>,
    /// What ties together the records of one request where there is no trace: `correlation_id`, `request_id` and the like.
    pub correlation_id: Option<Found<Value<'a>>>,
    /// The service, if the record names it itself; else it is the container's ([`Finder::service`]).
    pub service: Option<Found<Value<'a>>>,
}

/// Finds what records mean. One for each encoder.
pub struct Finder {
    time: Option<Path>,
    services: PerShared<Box<str>>,
    service: Box<str>,
}

impl Finder {
    /// A finder; `time` names the field that the time is read from before `timestamp` (`time_field` of sinks).
    pub fn new(time: Option<Path>) -> Finder {
        Finder { time, services: PerShared::new(), service: Box::default() }
    }

    /// Begins a batch: finds, once for each container, what its records have in common.
    pub fn begin(&mut self, batch: &Batch) {
        self.service.clone_from(self.services.get_or_make(batch.shared(), |shared| service_name(shared).into()));
    }

    /// The service that the records of the batch come from: see [`service_name`]. Empty where nothing names one.
    pub fn service(&self) -> &str {
        &self.service
    }

    /// What can be found of `record`.
    pub fn find<'a>(&self, record: &RecordView<'a>) -> Meaning<'a> {
        let mut meaning = Meaning::default();
        let bytes = record.bytes();
        for (field, entry) in record.fields().iter().enumerate() {
            let value = Value { kind: entry.kind, raw: entry.value.of(bytes) };
            meaning.look_at(field, entry.key.of(bytes), value);
        }
        self.find_time(record, &mut meaning);
        meaning.severity = meaning.level.and_then(|level| Severity::of(level.what));
        meaning
    }

    fn find_time(&self, record: &RecordView<'_>, meaning: &mut Meaning<'_>) {
        let own = |key: &[u8]| record.fields().iter().position(|field| field.key.of(record.bytes()) == key);
        if let Some(path) = &self.time {
            meaning.time = record.get(path).and_then(unix_nanos);
            if meaning.time.is_some() {
                meaning.time_field = if path.rest().is_empty() { own(path.first()) } else { None };
                return;
            }
        }
        meaning.time_field = own(TIMESTAMP);
        let value = match meaning.time_field.map(|at| record.fields()[at]) {
            Some(field) => Some(Value { kind: field.kind, raw: field.value.of(record.bytes()) }),
            None => record.shared().get(TIMESTAMP),
        };
        meaning.time = value.and_then(unix_nanos);
        meaning.time_field = meaning.time_field.filter(|_| meaning.time.is_some());
    }
}

impl<'a> Meaning<'a> {
    #[inline]
    fn look_at(&mut self, field: usize, key: &[u8], value: Value<'a>) {
        // The length alone rules out most keys.
        if key.len() < 2 || key.len() > 16 {
            return;
        }
        let found = |what| Some(Found { what, field, whole: true });
        match key {
            b"level" | b"severity" | b"severity_text" | b"SeverityText" | b"log.level" | b"loglevel" | b"log_level" | b"lvl"
            | b"levelname" | b"@l" => keep(&mut self.level, found(value).filter(|found| is_scalar(found.what))),
            b"trace_id" | b"traceId" | b"traceID" | b"TraceId" | b"traceid" | b"trace.id" | b"otelTraceID" | b"otel.trace_id" | b"@tr" => {
                keep(&mut self.trace_id, hex(value).and_then(found_id(field, true)));
            }
            b"span_id" | b"spanId" | b"spanID" | b"SpanId" | b"spanid" | b"span.id" | b"otelSpanID" | b"otel.span_id" | b"@sp" => {
                keep(&mut self.span_id, span(value).map(|what| Found { what, field, whole: true }));
            }
            b"traceparent" => self.look_at_traceparent(field, value),
            b"correlation_id" | b"correlationId" | b"correlationID" | b"CorrelationId" | b"correlation-id" | b"x-correlation-id"
            | b"x_correlation_id" | b"request_id" | b"requestId" | b"requestID" | b"RequestId" | b"x-request-id" | b"x_request_id"
            | b"http.request.id" => keep(&mut self.correlation_id, found(value).filter(|found| is_scalar(found.what))),
            b"service.name" | b"service_name" => keep(&mut self.service, found(value).filter(|found| is_name(found.what))),
            // The names of ECS, where they are nested.
            b"log" => keep(&mut self.level, member(field, value, b"level").filter(|found| is_scalar(found.what))),
            b"service" if value.kind == Kind::Object => {
                keep(&mut self.service, member(field, value, b"name").filter(|found| is_name(found.what)));
            }
            b"trace" => {
                let id = member(field, value, b"id").and_then(|found| hex(found.what));
                keep(&mut self.trace_id, id.and_then(found_id(field, false)));
            }
            b"span" => {
                let id = member(field, value, b"id").and_then(|found| span(found.what));
                keep(&mut self.span_id, id.map(|what| Found { what, field, whole: false }));
            }
            _ => {}
        }
    }

    /// W3C Trace Context: `00-<trace, 32 digits>-<span, 16 digits>-01`. Holds more than the ids, so it stays.
    fn look_at_traceparent(&mut self, field: usize, value: Value<'a>) {
        let mut parts = value.raw.split(|byte| *byte == b'-').skip(1);
        let (Some(trace), Some(parent)) = (parts.next(), parts.next()) else { return };
        let whole = false;
        keep(&mut self.trace_id, digits(trace).filter(is_set).map(|what| Found { what, field, whole }));
        keep(&mut self.span_id, digits(parent).filter(is_set).map(|what| Found { what, field, whole }));
    }
}

/// The first that is found counts.
fn keep<T>(place: &mut Option<T>, found: Option<T>) {
    if place.is_none() {
        *place = found;
    }
}

fn is_scalar(value: Value<'_>) -> bool {
    !value.raw.is_empty() && (value.kind.is_text() || value.kind == Kind::Number)
}

fn is_name(value: Value<'_>) -> bool {
    value.kind.is_text() && !value.raw.is_empty()
}

fn member<'a>(field: usize, object: Value<'a>, key: &[u8]) -> Option<Found<Value<'a>>> {
    (object.kind == Kind::Object).then(|| json::member(object, key)).flatten().map(|what| Found { what, field, whole: false })
}

/// An id as hexadecimal digits, with or without the dashes of a UUID: 16 bytes, or 8 and zeros before them.
fn hex(value: Value<'_>) -> Option<([u8; 16], bool)> {
    if !value.kind.is_text() {
        return None;
    }
    match value.raw.len() {
        32 => digits(value.raw).map(|id| (id, true)),
        16 => digits::<8>(value.raw).map(|short| {
            let mut id = [0; 16];
            id[8..].copy_from_slice(&short);
            // Written with other digits than it came with: the field stays.
            (id, false)
        }),
        36 => {
            let plain: Vec<u8> = value.raw.iter().copied().filter(|byte| *byte != b'-').collect();
            digits(&plain).map(|id| (id, false))
        }
        _ => None,
    }
}

fn found_id(field: usize, whole: bool) -> impl Fn(([u8; 16], bool)) -> Option<Found<[u8; 16]>> {
    move |(what, plain)| is_set(&what).then_some(Found { what, field, whole: whole && plain })
}

fn span(value: Value<'_>) -> Option<[u8; 8]> {
    value.kind.is_text().then(|| digits(value.raw)).flatten().filter(is_set)
}

fn is_set<const N: usize>(id: &[u8; N]) -> bool {
    id.iter().any(|byte| *byte != 0)
}

/// `2 * N` hexadecimal digits.
fn digits<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let mut out = [0; N];
    if text.len() != 2 * N {
        return None;
    }
    for (byte, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(out)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
