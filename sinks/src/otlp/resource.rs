//! The resource that a container's records share, by OpenTelemetry's semantic conventions; and bodies taken apart.

use skidder_pipeline::shared::Shared;

use super::encode::Settings;
use super::value::{attribute, key_value, text_attribute, to_json};
use crate::common::proto::{self, FieldRef};
use crate::common::schema::{self, Place};
use crate::common::semantics::service_name;

/// What is the same for all records with the same shared fields, ready to be written.
pub struct Resource {
    /// Field `resource` of `ResourceLogs`.
    pub message: Vec<u8>,
    /// Field `scope` of `ScopeLogs`.
    pub scope: Vec<u8>,
    /// Attributes of each log record.
    pub of_records: Vec<u8>,
}

impl Resource {
    /// The resource of the container that `shared` is about.
    pub fn new(settings: &Settings, shared: &Shared) -> Resource {
        let mut names = Vec::new();
        let (mut attributes, mut of_records) = (Vec::new(), Vec::new());
        for (name, value, place) in schema::otel(shared) {
            match place {
                Place::Resource => attribute(1, name.as_bytes(), value, &mut attributes),
                Place::Record => attribute(6, name.as_bytes(), value, &mut of_records),
            }
            names.push(name);
        }
        let service = service_name(shared);
        if !service.is_empty() && !names.iter().any(|name| name == "service.name") {
            text_attribute(1, "service.name", service.as_bytes(), &mut attributes);
            names.push("service.name".to_owned());
        }
        for (name, value) in settings.resource.iter().filter(|(name, _)| !names.contains(name)) {
            text_attribute(1, name, value.as_bytes(), &mut attributes);
        }
        let (mut message, mut scope) = (Vec::new(), Vec::new());
        proto::bytes(1, &attributes, &mut message);
        proto::message(1, &mut scope, |out| {
            proto::bytes(1, b"skidder", out);
            proto::bytes(2, env!("CARGO_PKG_VERSION").as_bytes(), out);
        });
        Resource { message, scope, of_records }
    }
}

/// A body with the records that `wanted` lists, counted from 0 over all resources, and the resources that have one of them.
pub fn cut(body: &[u8], wanted: &[u32]) -> Vec<u8> {
    let mut counter = Counter { wanted, next: 0 };
    let mut out = Vec::new();
    for resource in proto::fields(body).filter(|field| field.number == 1) {
        keep(1, resource, &mut out, |scope, out| keep(2, scope, out, |record, out| counter.take(record, out)));
    }
    out
}

/// Appends field `number`, `message` without those of its fields 2 of which `take` took nothing; nothing at all where that is all of
/// them. Says whether something was taken.
fn keep(number: u32, message: FieldRef<'_>, out: &mut Vec<u8>, mut take: impl FnMut(FieldRef<'_>, &mut Vec<u8>) -> bool) -> bool {
    let start = out.len();
    let mut taken = false;
    proto::message(number, out, |out| {
        for part in proto::fields(message.value.bytes()) {
            if part.number == 2 {
                taken |= take(part, out);
            } else {
                out.extend_from_slice(part.whole);
            }
        }
    });
    if !taken {
        out.truncate(start);
    }
    taken
}

struct Counter<'a> {
    wanted: &'a [u32],
    next: u32,
}

impl Counter<'_> {
    fn take(&mut self, record: FieldRef<'_>, out: &mut Vec<u8>) -> bool {
        let wants = self.wanted.first() == Some(&self.next);
        self.next += 1;
        if wants {
            self.wanted = &self.wanted[1..];
            out.extend_from_slice(record.whole);
        }
        wants
    }
}

/// Record `index` of a body with its resource, as JSON.
pub fn show(body: &[u8], index: u32) -> Vec<u8> {
    let mut left = index;
    for resource_logs in proto::fields(body).filter(|field| field.number == 1) {
        let parts = || proto::fields(resource_logs.value.bytes());
        for record in parts().filter(|part| part.number == 2).flat_map(|scope| proto::fields(scope.value.bytes())) {
            if record.number != 2 {
                continue;
            }
            if left == 0 {
                let resource = parts().find(|part| part.number == 1).map_or(&b""[..], |part| part.value.bytes());
                return shown(resource, record.value.bytes()).to_string().into_bytes();
            }
            left -= 1;
        }
    }
    b"null".to_vec()
}

fn shown(resource: &[u8], record: &[u8]) -> serde_json::Value {
    let pairs = |message: &[u8], number: u32| -> serde_json::Map<String, serde_json::Value> {
        proto::fields(message).filter(|field| field.number == number).map(|field| key_value(field.value.bytes())).collect()
    };
    let mut out = serde_json::Map::new();
    for field in proto::fields(record) {
        let hex = || field.value.bytes().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let time = || jiff::Timestamp::from_nanosecond(field.value.number().into()).map(|time| time.to_string()).unwrap_or_default();
        let (key, value) = match field.number {
            1 => ("timestamp", time().into()),
            2 => ("severity_number", field.value.number().into()),
            3 => ("severity_text", String::from_utf8_lossy(field.value.bytes()).into()),
            5 => ("body", to_json(field.value.bytes())),
            9 => ("trace_id", hex().into()),
            10 => ("span_id", hex().into()),
            11 => ("observed_timestamp", time().into()),
            _ => continue,
        };
        out.insert(key.to_owned(), value);
    }
    out.insert("attributes".to_owned(), pairs(record, 6).into());
    out.insert("resource".to_owned(), pairs(resource, 1).into());
    out.into()
}
