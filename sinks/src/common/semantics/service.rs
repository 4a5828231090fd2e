//! The name of the service that a container belongs to.

use skidder_pipeline::json;
use skidder_pipeline::shared::Shared;
use skidder_pipeline::value::{Kind, Value};

/// The service's name, from what is known of the container; empty where nothing names it.
///
/// In the order of OpenTelemetry's conventions for Kubernetes ("Specify resource attributes using Kubernetes annotations"): the
/// annotation `resource.opentelemetry.io/service.name`, then what owns the pod, then the container. Labels come before the owner
/// there, but only where someone asked for it; a sink's template can. Before all stands a shared `service.name`, as `enrich`
/// may set it.
///
/// Where the owner is not known the pod's name tells it: what the controllers of Kubernetes append is taken off, so that the
/// name is never that of a single pod.
pub fn service_name(shared: &Shared) -> String {
    let plain = |value: Value<'_>| value.plain_str().into_owned();
    let text = |value: &Value<'_>| value.kind.is_text() && !value.raw.is_empty();
    let named = [&b"service.name"[..], b"service_name", b"service"].into_iter().find_map(|key| {
        let value = shared.get(key)?;
        if value.kind == Kind::Object { json::member(value, b"name") } else { Some(value) }.filter(text)
    });
    if let Some(name) = named {
        return plain(name);
    }
    let Some(kubernetes) = shared.get(b"kubernetes") else { return String::new() };
    let get = |key: &[u8]| json::member(kubernetes, key);
    let annotated = get(b"pod_annotations").and_then(|all| json::member(all, b"resource.opentelemetry.io/service.name"));
    if let Some(name) = annotated.filter(text) {
        return plain(name);
    }
    if let Some(owner) = get(b"pod_owner").filter(text).map(plain)
        && let Some((kind, name)) = owner.split_once('/')
    {
        let name = match kind {
            "ReplicaSet" => deployment(name).unwrap_or(name),
            // The controller of CronJobs appends the minute.
            "Job" => without_digits(name, 8).unwrap_or(name),
            _ => name,
        };
        return name.to_owned();
    }
    if let Some(pod) = get(b"pod_name").filter(text).map(plain) {
        return of_pod(&pod).to_owned();
    }
    get(b"container_name").filter(text).map(plain).unwrap_or_default()
}

/// The deployment of a replica set.
pub fn deployment(replica_set: &str) -> Option<&str> {
    without_hash(replica_set, 6..=10)
}

/// `web-7c9d6f5b8c-x2x4z` is of `web`, `db-0` of `db`, `agent-x2x4z` of `agent`.
fn of_pod(name: &str) -> &str {
    if let Some(set) = without_hash(name, 5..=5) {
        return without_hash(set, 6..=10).or_else(|| without_digits(set, 8)).unwrap_or(set);
    }
    without_digits(name, 1).unwrap_or(name)
}

/// `name` without `-` and a suffix of so many of the characters that Kubernetes makes suffixes of (`rand.SafeEncodeString`): no
/// vowels, so hardly ever a word.
fn without_hash(name: &str, lengths: std::ops::RangeInclusive<usize>) -> Option<&str> {
    let (before, suffix) = name.rsplit_once('-')?;
    let is_hash = lengths.contains(&suffix.len()) && suffix.bytes().all(|byte| b"bcdfghjklmnpqrstvwxz2456789".contains(&byte));
    (is_hash && !before.is_empty()).then_some(before)
}

fn without_digits(name: &str, min: usize) -> Option<&str> {
    let (before, suffix) = name.rsplit_once('-')?;
    let is_number = suffix.len() >= min && suffix.bytes().all(|byte| byte.is_ascii_digit());
    (is_number && !before.is_empty()).then_some(before)
}
