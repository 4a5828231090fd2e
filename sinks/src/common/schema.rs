//! Names of fields: Vector's, which are ours inside, OpenTelemetry's and ECS's.
//!
//! What is known of a container is named once for each, when its records are encoded; the keys of a record's own fields that have
//! another name are pointed at that, and nothing is copied but the batch. Sources of the names: OpenTelemetry's semantic conventions
//! 1.38 (`k8s`, `container`, `cloud`, `log`, `service`), Elastic Common Schema 9 and Filebeat's `kubernetes.*`.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use skidder_pipeline::batch::Batch;
use skidder_pipeline::body::Bodies;
use skidder_pipeline::json;
use skidder_pipeline::shared::{PerShared, Shared, SharedFields};
use skidder_pipeline::sink::Encode;
use skidder_pipeline::value::{Kind, Span, Value};

use super::semantics::{Finder, service_name};

/// What fields are called in the store.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Schema {
    /// As Vector calls them: `kubernetes.pod_name`, `timestamp`, `message`.
    #[default]
    Vector,
    /// By OpenTelemetry's semantic conventions: `k8s.pod.name`, `timestamp`, `body`, `severity_text`.
    Otel,
    /// By the Elastic Common Schema: `kubernetes.pod.name`, `@timestamp`, `message`, `log.level`.
    Ecs,
}

/// Where OpenTelemetry has an attribute.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// It is the container's.
    Resource,
    /// It is each record's, though the same for all.
    Record,
}

/// What shared fields are in OpenTelemetry's words. What has no name there keeps its own. The name of the source's type is left out.
pub fn otel(shared: &Shared) -> Vec<(String, Value<'_>, Place)> {
    let mut out = Vec::new();
    for (key, value) in shared.iter() {
        let mut resource = |name: &str| out.push((name.to_owned(), value, Place::Resource));
        match key {
            b"source_type" | b"pod_name" if value.kind.is_text() => {}
            b"timestamp" => {}
            b"env" | b"environment" => resource("deployment.environment.name"),
            b"region" => resource("cloud.region"),
            b"zone" => resource("cloud.availability_zone"),
            b"cluster" => resource("k8s.cluster.name"),
            b"host" | b"hostname" => resource("host.name"),
            b"service" if value.kind.is_text() => resource("service.name"),
            b"service_name" => resource("service.name"),
            b"file" => out.push(("log.file.path".to_owned(), value, Place::Record)),
            b"stream" => out.push(("log.iostream".to_owned(), value, Place::Record)),
            b"kubernetes" if value.kind == Kind::Object => {
                json::members(value, |key, value| otel_kubernetes(key, value, &mut |name, value| out.push((name, value, Place::Resource))));
            }
            _ => resource(&plain_key(key)),
        }
    }
    // `enrich` may say what `kubernetes` says too.
    let mut names: Vec<String> = Vec::new();
    out.retain(|(name, ..)| {
        !names.contains(name) && {
            names.push(name.clone());
            true
        }
    });
    out
}

fn otel_kubernetes<'a>(key: &[u8], value: Value<'a>, add: &mut impl FnMut(String, Value<'a>)) {
    let name = match key {
        b"pod_name" => "k8s.pod.name",
        b"pod_namespace" => "k8s.namespace.name",
        b"pod_uid" => "k8s.pod.uid",
        b"pod_ip" => "k8s.pod.ip",
        b"pod_node_name" => "k8s.node.name",
        b"container_name" => "k8s.container.name",
        b"container_restart_count" => "k8s.container.restart_count",
        b"container_image" => "container.image.name",
        b"container_image_id" => "container.image.id",
        b"container_id" => return add("container.id".to_owned(), after_scheme(value)),
        b"pod_owner" => return otel_owner(value, add),
        b"pod_labels" => return prefixed("k8s.pod.label.", value, add),
        b"pod_annotations" => return prefixed("k8s.pod.annotation.", value, add),
        b"node_labels" => return prefixed("k8s.node.label.", value, add),
        b"namespace_labels" => return prefixed("k8s.namespace.label.", value, add),
        _ => return add(format!("k8s.{}", plain_key(key)), value),
    };
    add(name.to_owned(), value);
}

fn otel_owner<'a>(value: Value<'a>, add: &mut impl FnMut(String, Value<'a>)) {
    let Some(at) = value.raw.iter().position(|byte| *byte == b'/').filter(|_| value.kind.is_text()) else {
        return add("k8s.pod.owner".to_owned(), value);
    };
    let kind = String::from_utf8_lossy(&value.raw[..at]).to_ascii_lowercase();
    let name = &value.raw[at + 1..];
    add(format!("k8s.{kind}.name"), Value { kind: value.kind, raw: name });
    let deployment = std::str::from_utf8(name).ok().and_then(|name| super::semantics::deployment(name)).filter(|_| kind == "replicaset");
    if let Some(deployment) = deployment {
        add("k8s.deployment.name".to_owned(), Value { kind: value.kind, raw: &name[..deployment.len()] });
    }
}

/// What shared fields are in ECS's words, with the dots in the keys of labels as `_`, as Filebeat writes them.
pub fn ecs(shared: &Shared) -> Vec<(String, Value<'_>)> {
    let mut out: Vec<(String, Value<'_>)> = Vec::new();
    let mut add = |name: String, value| {
        if !out.iter().any(|(known, _)| *known == name) {
            out.push((name, value));
        }
    };
    for (key, value) in shared.iter() {
        let name = match key {
            b"source_type" => "input.type",
            b"file" => "log.file.path",
            b"timestamp" => "@timestamp",
            b"region" => "cloud.region",
            b"zone" => "cloud.availability_zone",
            b"cluster" => "orchestrator.cluster.name",
            b"env" | b"environment" => "service.environment",
            b"host" | b"hostname" if value.kind.is_text() => "host.name",
            b"service" if value.kind.is_text() => "service.name",
            b"service_name" => "service.name",
            b"pod_name" => "kubernetes.pod.name",
            b"kubernetes" if value.kind == Kind::Object => {
                json::members(value, |key, value| ecs_kubernetes(key, value, &mut add));
                continue;
            }
            _ => {
                add(plain_key(key), value);
                continue;
            }
        };
        add(name.to_owned(), value);
    }
    out
}

fn ecs_kubernetes<'a>(key: &[u8], value: Value<'a>, add: &mut impl FnMut(String, Value<'a>)) {
    let name = match key {
        b"pod_name" => "kubernetes.pod.name",
        b"pod_namespace" => "kubernetes.namespace",
        b"pod_uid" => "kubernetes.pod.uid",
        b"pod_ip" => "kubernetes.pod.ip",
        b"pod_node_name" => "kubernetes.node.name",
        b"container_name" => "kubernetes.container.name",
        b"container_image" => "container.image.name",
        b"container_id" => return add("container.id".to_owned(), after_scheme(value)),
        b"pod_labels" => return dedotted("kubernetes.labels.", value, add),
        b"pod_annotations" => return dedotted("kubernetes.annotations.", value, add),
        b"node_labels" => return dedotted("kubernetes.node.labels.", value, add),
        b"namespace_labels" => return dedotted("kubernetes.namespace_labels.", value, add),
        b"pod_owner" => {
            let Some(at) = value.raw.iter().position(|byte| *byte == b'/').filter(|_| value.kind.is_text()) else { return };
            let kind = String::from_utf8_lossy(&value.raw[..at]).to_ascii_lowercase();
            return add(format!("kubernetes.{kind}.name"), Value { kind: value.kind, raw: &value.raw[at + 1..] });
        }
        _ => return add(format!("kubernetes.{}", plain_key(key)), value),
    };
    add(name.to_owned(), value);
}

fn prefixed<'a>(prefix: &str, object: Value<'a>, add: &mut impl FnMut(String, Value<'a>)) {
    json::members(object, |key, value| add(format!("{prefix}{}", plain_key(key)), value));
}

fn dedotted<'a>(prefix: &str, object: Value<'a>, add: &mut impl FnMut(String, Value<'a>)) {
    json::members(object, |key, value| add(format!("{prefix}{}", plain_key(key).replace('.', "_")), value));
}

/// `containerd://…` without what the runtime is called.
fn after_scheme(value: Value<'_>) -> Value<'_> {
    let start = value.raw.windows(3).position(|three| three == b"://").map_or(0, |at| at + 3);
    Value { kind: value.kind, raw: &value.raw[start..] }
}

fn plain_key(key: &[u8]) -> String {
    String::from_utf8_lossy(&json::unescape(key)).into_owned()
}

impl Schema {
    /// `encoder`, which gets batches with these names.
    pub fn wrap(self, encoder: Box<dyn Encode>) -> Box<dyn Encode> {
        match self {
            Schema::Vector => encoder,
            schema => Box::new(Renamed { renamer: Renamer::new(schema), encoder }),
        }
    }

    /// What gives batches these names; `None` where they have them: for encoders whose destination goes by the names inside.
    pub fn renamer(self) -> Option<Renamer> {
        (self != Schema::Vector).then(|| Renamer::new(self))
    }

    fn shared(self, shared: &Shared) -> Arc<Shared> {
        let mut fields = SharedFields::default();
        let mut set = |name: &str, value: Value<'_>| {
            let mut key = Vec::new();
            json::escape(name.as_bytes(), &mut key);
            fields.set(&key, value);
        };
        match self {
            Schema::Ecs => ecs(shared).into_iter().for_each(|(name, value)| set(&name, value)),
            _ => otel(shared).into_iter().for_each(|(name, value, _)| set(&name, value)),
        }
        let service = service_name(shared);
        if !service.is_empty() && fields.get(b"service.name").is_none() {
            fields.set(b"service.name", Value::text(service.as_bytes()));
        }
        Shared::new(fields)
    }

    /// What a record's own field is called, by what it means.
    fn own(self, meaning: Meant) -> &'static str {
        match (self, meaning) {
            (Schema::Ecs, Meant::Time) => "@timestamp",
            (Schema::Ecs, Meant::Level) => "log.level",
            (Schema::Ecs, Meant::Trace) => "trace.id",
            (Schema::Ecs, Meant::Span) => "span.id",
            (Schema::Ecs, Meant::Message) => "message",
            (Schema::Ecs, Meant::Stream) => "stream",
            (_, Meant::Time) => "timestamp",
            (_, Meant::Level) => "severity_text",
            (_, Meant::Trace) => "trace_id",
            (_, Meant::Span) => "span_id",
            (_, Meant::Message) => "body",
            (_, Meant::Stream) => "log.iostream",
        }
    }
}

#[derive(Clone, Copy)]
enum Meant {
    Time,
    Level,
    Trace,
    Span,
    Message,
    Stream,
}

const MEANT: [Meant; 6] = [Meant::Time, Meant::Level, Meant::Trace, Meant::Span, Meant::Message, Meant::Stream];

/// Gives an encoder batches with other names.
struct Renamed {
    renamer: Renamer,
    encoder: Box<dyn Encode>,
}

impl Encode for Renamed {
    fn encode(&mut self, original: &Batch, route: u8, out: &mut Bodies) {
        self.encoder.encode(self.renamer.rename(original), route, out);
    }
}

/// Makes batches with other names.
pub struct Renamer {
    schema: Schema,
    finder: Finder,
    shared: PerShared<Arc<Shared>>,
    /// The batch with the names, kept for its allocations.
    batch: Batch,
}

impl Renamer {
    /// Makes batches with the names of `schema`.
    pub fn new(schema: Schema) -> Renamer {
        let batch = Batch::new(Shared::empty(), skidder_pipeline::position::FileKey([0; 16]));
        Renamer { schema, finder: Finder::new(None), shared: PerShared::new(), batch }
    }

    /// `original` with its records in their order, and other names.
    pub fn rename(&mut self, original: &Batch) -> &Batch {
        let Renamer { schema, finder, shared, batch } = self;
        batch.clone_from(original);
        let names: [Span; 6] = MEANT.map(|meant| batch.append(schema.own(meant).as_bytes()));
        let shared = shared.get_or_make(original.shared(), |shared| schema.shared(shared)).clone();
        batch.edit_values(|bytes, index, fields| {
            let record = original.record(index);
            let meaning = finder.find(&record);
            let whole = |found: Option<(usize, bool)>| found.filter(|(_, whole)| *whole).map(|(field, _)| field);
            let named = |key: &[u8]| fields.iter().position(|field| field.key.of(bytes) == key);
            let places = [
                meaning.time_field,
                whole(meaning.level.map(|found| (found.field, found.whole))),
                whole(meaning.trace_id.map(|found| (found.field, found.whole))),
                whole(meaning.span_id.map(|found| (found.field, found.whole))),
                named(b"message"),
                named(b"stream"),
            ];
            for (place, name) in places.into_iter().zip(names) {
                let Some(place) = place else { continue };
                let is_taken = |at: usize, key: Span| at != place && key.of(bytes) == name.of(bytes);
                if !fields.iter().enumerate().any(|(at, field)| is_taken(at, field.key)) {
                    fields[place].key = name;
                }
            }
            // What the agent knows has precedence over what an application calls by the same name.
            for field in fields {
                if shared.get(field.key.of(bytes)).is_some() {
                    let start = bytes.len();
                    bytes.extend_from_slice(b"app_");
                    bytes.extend_from_within(field.key.start as usize..field.key.end as usize);
                    field.key = Span::new(start, bytes.len());
                }
            }
        });
        batch.set_shared(shared);
        batch
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::testing::{batch, frames};

    const POD: &str = r#"{"file":"/var/log/x","kubernetes":{"pod_name":"web-7c9d6f5b8c-x2x4z","pod_namespace":"shop","container_id":"containerd://abc","pod_owner":"ReplicaSet/web-7c9d6f5b8c","pod_labels":{"app.kubernetes.io/name":"web"},"new":1},"region":"eu","team":"a"}"#;

    fn written(schema: Schema, record: &str) -> serde_json::Value {
        struct Plain;
        impl Encode for Plain {
            fn encode(&mut self, batch: &Batch, _: u8, out: &mut Bodies) {
                let mut json = Vec::new();
                batch.record(0).write_json(&mut json);
                out.write("", &json, 1);
            }
        }
        let mut encoder = schema.wrap(Box::new(Plain));
        let frame = frames(|out| encoder.encode(&batch(POD, &[record]), 0, out)).remove(0);
        serde_json::from_slice(frame.body()).unwrap()
    }

    #[test]
    fn names_of_all_schemas() {
        let record = r#"{"message":"m","timestamp":"2026-10-02T08:15:30Z","stream":"stdout","lvl":"info","trace":{"id":"x"},"k8s.pod.name":"forged","kubernetes.pod.name":"forged"}"#;
        assert_eq!(written(Schema::Vector, record)["kubernetes"]["pod_name"], "web-7c9d6f5b8c-x2x4z");
        assert_eq!(
            written(Schema::Otel, record),
            serde_json::json!({
                "log.file.path": "/var/log/x", "k8s.pod.name": "web-7c9d6f5b8c-x2x4z", "k8s.namespace.name": "shop", "container.id": "abc",
                "k8s.replicaset.name": "web-7c9d6f5b8c", "k8s.deployment.name": "web", "k8s.pod.label.app.kubernetes.io/name": "web",
                "k8s.new": 1, "cloud.region": "eu", "team": "a", "service.name": "web",
                "body": "m", "timestamp": "2026-10-02T08:15:30Z", "log.iostream": "stdout", "severity_text": "info", "trace": {"id": "x"},
                "app_k8s.pod.name": "forged", "kubernetes.pod.name": "forged"
            })
        );
        assert_eq!(
            written(Schema::Ecs, record),
            serde_json::json!({
                "log.file.path": "/var/log/x", "kubernetes.pod.name": "web-7c9d6f5b8c-x2x4z", "kubernetes.namespace": "shop", "container.id": "abc",
                "kubernetes.replicaset.name": "web-7c9d6f5b8c", "kubernetes.labels.app_kubernetes_io/name": "web", "kubernetes.new": 1,
                "cloud.region": "eu", "team": "a", "service.name": "web",
                "message": "m", "@timestamp": "2026-10-02T08:15:30Z", "stream": "stdout", "log.level": "info", "trace": {"id": "x"},
                "k8s.pod.name": "forged", "app_kubernetes.pod.name": "forged"
            })
        );
        // A name that is taken is left to whom it belongs.
        let taken = written(Schema::Otel, r#"{"message":"m","body":"b","level":"info","severity_text":"x"}"#);
        assert_eq!(
            (&taken["message"], &taken["body"], &taken["level"], &taken["severity_text"]),
            (&"m".into(), &"b".into(), &"info".into(), &"x".into())
        );
    }
}
