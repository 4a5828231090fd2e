//! What a container's records have in common, with the names that OpenTelemetry gives it.

use skidder_pipeline::json;
use skidder_pipeline::shared::Shared;
use skidder_pipeline::value::{Kind, Value};

/// Names of OpenTelemetry's semantic conventions for what stands in `kubernetes` and has one value.
const NAMES: [(&[u8], &[u8]); 9] = [
    (b"pod_name", b"k8s.pod.name"),
    (b"pod_namespace", b"k8s.namespace.name"),
    (b"pod_uid", b"k8s.pod.uid"),
    (b"pod_ip", b"k8s.pod.ip"),
    (b"pod_node_name", b"k8s.node.name"),
    (b"container_name", b"k8s.container.name"),
    (b"container_restart", b"k8s.container.restart_count"),
    (b"container_id", b"container.id"),
    (b"container_image", b"container.image.name"),
];

/// The same for what holds labels: each key follows.
const PREFIXES: [(&[u8], &[u8]); 5] = [
    (b"pod_labels", b"k8s.pod.label."),
    (b"pod_annotations", b"k8s.pod.annotation."),
    (b"node_labels", b"k8s.node.label."),
    (b"namespace_labels", b"k8s.namespace.label."),
    (b"namespace_annotations", b"k8s.namespace.annotation."),
];

/// Calls `visit` with name (escaped form) and value of each attribute. What has no name in the conventions keeps its own.
pub fn visit(shared: &Shared, mut visit: impl FnMut(&[u8], Value<'_>)) {
    for (key, value) in shared.iter() {
        if key != b"kubernetes" || value.kind != Kind::Object {
            match key {
                b"file" => visit(b"log.file.path", value),
                _ => visit(key, value),
            }
            continue;
        }
        json::members(value, |key, value| {
            let named = NAMES.iter().find(|(known, _)| *known == key);
            let prefix = PREFIXES.iter().find(|(known, _)| *known == key);
            match (named, prefix) {
                (Some((_, name)), _) => visit(name, value),
                (None, Some((_, prefix))) if value.kind == Kind::Object => {
                    json::members(value, |label, value| visit(&[prefix, label].concat(), value));
                }
                _ if key == b"pod_owner" => owner(value, &mut visit),
                _ => visit(&[b"kubernetes.", key].concat(), value),
            }
        });
    }
}

/// `ReplicaSet/web-7c9d6f5b8c` as `k8s.replicaset.name`.
fn owner(value: Value<'_>, visit: &mut impl FnMut(&[u8], Value<'_>)) {
    let text = value.plain_str();
    let Some((kind, name)) = text.split_once('/') else { return visit(b"kubernetes.pod_owner", value) };
    let key = format!("k8s.{}.name", kind.to_ascii_lowercase());
    visit(key.as_bytes(), Value::text(name.as_bytes()));
}
