//! A store that takes OTLP over HTTP, and keeps whatever it is sent: the protocol has no means against duplicates.
//!
//! It counts what came twice by `log.record.uid`, the record's id, and looks whether it came as it did before.

use std::io::{self, Read};
use std::sync::Mutex;

use flate2::read::GzDecoder;
use hyper::header::CONTENT_ENCODING;
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};
use serde_json::{Map, Value};

use super::door::{Behind, lock};
use super::kept::{Kept, Tally, sum};
use super::proto::{self, Field};
use super::running::{Holds, Running};

/// The store. What it counts as `again` a store that looks at the id could refuse.
pub type Otlp = Running<Records>;

/// What it holds.
pub struct Records(Mutex<Kept>);

impl Holds for Records {
    fn new() -> io::Result<Records> {
        Ok(Records(Mutex::new(Kept::new()?)))
    }

    fn tally(&self) -> Tally {
        lock(&self.0).tally
    }

    fn each(&self, each: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        lock(&self.0).each(each)
    }
}

impl Behind for Records {
    fn answer(&self, head: &Parts, body: &[u8]) -> Option<Response<Vec<u8>>> {
        let is_gzip = head.headers.get(CONTENT_ENCODING).is_some_and(|coding| coding == "gzip");
        let mut plain = Vec::new();
        if is_gzip && GzDecoder::new(body).read_to_end(&mut plain).is_err() {
            return Some(answer(StatusCode::BAD_REQUEST));
        }
        let Some(records) = records(if is_gzip { &plain } else { body }) else { return Some(answer(StatusCode::BAD_REQUEST)) };
        let mut kept = lock(&self.0);
        for (uid, record) in records {
            let text = Value::Object(record).to_string().into_bytes();
            let taken = kept.take(sum(&[uid.as_bytes()]), sum(&[&text]), || text.clone());
            if taken.is_err() {
                return Some(answer(StatusCode::SERVICE_UNAVAILABLE));
            }
        }
        Some(answer(StatusCode::OK))
    }
}

/// The records of a request, each with its id:
///
/// ```text
/// ExportLogsServiceRequest { repeated ResourceLogs resource_logs = 1; }
/// ResourceLogs { Resource resource = 1 { repeated KeyValue attributes = 1; } repeated ScopeLogs scope_logs = 2; }
/// ScopeLogs { repeated LogRecord log_records = 2; }
/// ```
fn records(request: &[u8]) -> Option<Vec<(String, Map<String, Value>)>> {
    let mut out = Vec::new();
    for resource_logs in inside(request, 1)? {
        let mut shared = Map::new();
        for resource in inside(resource_logs, 1)? {
            shared.extend(attributes(resource, 1)?);
        }
        for scope_logs in inside(resource_logs, 2)? {
            for record in inside(scope_logs, 2)? {
                let mut record = log_record(record)?;
                let pod = shared.get("k8s.pod.name").cloned().unwrap_or_default();
                record.entry("pod_name").or_insert(pod);
                let uid = record.remove("log.record.uid")?.as_str()?.to_owned();
                out.push((uid, record));
            }
        }
    }
    Some(out)
}

/// `LogRecord { string severity_text = 3; AnyValue body = 5; repeated KeyValue attributes = 6; bytes trace_id = 9; bytes span_id = 10; }`,
/// under the names that the generator's records have.
fn log_record(message: &[u8]) -> Option<Map<String, Value>> {
    let mut record = attributes(message, 6)?;
    for field in proto::fields(message)? {
        let hex = |bytes: &[u8]| Value::from(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        let (name, value) = match field.number {
            3 => ("level", field.value.text().into()),
            5 => ("message", any(field.value.bytes())?),
            9 => ("trace_id", hex(field.value.bytes())),
            10 => ("span_id", hex(field.value.bytes())),
            _ => continue,
        };
        record.insert(name.to_owned(), value);
    }
    Some(record)
}

/// The fields `number` of a message, each `KeyValue { string key = 1; AnyValue value = 2; }`.
fn attributes(message: &[u8], number: u64) -> Option<Map<String, Value>> {
    let pair = |pair: &[u8]| {
        let (key, value) = (inside(pair, 1)?.pop()?, inside(pair, 2)?.pop().unwrap_or_default());
        Some((String::from_utf8_lossy(key).into_owned(), any(value)?))
    };
    inside(message, number)?.into_iter().map(pair).collect()
}

/// `AnyValue { string = 1; bool = 2; int64 = 3; double = 4; ArrayValue = 5 { repeated AnyValue = 1; } KeyValueList = 6 { repeated KeyValue = 1; } }`
fn any(message: &[u8]) -> Option<Value> {
    let fields = proto::fields(message)?;
    let Some(Field { number, value }) = fields.first() else { return Some(Value::Null) };
    Some(match number {
        1 => value.text().into(),
        2 => (value.number() != 0).into(),
        3 => (value.number() as i64).into(),
        4 => f64::from_bits(value.number()).into(),
        5 => inside(value.bytes(), 1)?.into_iter().map(any).collect::<Option<Vec<_>>>()?.into(),
        6 => attributes(value.bytes(), 1)?.into(),
        _ => return None,
    })
}

fn inside(message: &[u8], number: u64) -> Option<Vec<&[u8]>> {
    Some(proto::fields(message)?.into_iter().filter(|field| field.number == number).map(|field| field.value.bytes()).collect())
}

fn answer(status: StatusCode) -> Response<Vec<u8>> {
    let mut response = Response::new(Vec::new());
    *response.status_mut() = status;
    response
}
