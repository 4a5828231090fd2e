//! What is kept of a pod, and how its records show it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use skidder_pipeline::json;

use super::config::{KubernetesConfig, Select};
use super::marks::{Marks, marks};
use super::objects::{Metadata, Pod};

/// Keys and values, in the order of the keys.
pub(super) type Pairs = BTreeMap<Box<str>, Box<str>>;

/// What is kept of a pod: some hundred bytes beside its labels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Facts {
    pub namespace: Box<str>,
    pub name: Box<str>,
    pub ips: Vec<Box<str>>,
    pub labels: Pairs,
    pub annotations: Pairs,
    /// What made it: `ReplicaSet/cart-7d9`.
    pub owner: Option<(Box<str>, Box<str>)>,
    /// What a person made: `Deployment/cart`.
    pub workload: Option<(Box<str>, Box<str>)>,
    pub containers: Vec<ContainerFacts>,
    /// For a container that is not among them.
    pub marks: Marks,
    /// The hash by which kubelet calls the directory of a static pod's logs, in place of the uid.
    pub config_hash: Option<Box<str>>,
}

/// What is kept of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct ContainerFacts {
    pub name: Box<str>,
    pub image: Box<str>,
    pub image_id: Box<str>,
    pub id: Box<str>,
    pub marks: Marks,
}

impl Facts {
    pub(super) fn new(pod: Pod, config: &KubernetesConfig) -> Facts {
        let Pod { metadata, spec, status } = pod;
        let (labels, annotations) = (metadata.labels.clone().unwrap_or_default(), metadata.annotations.clone().unwrap_or_default());
        let marks_of = |container: &str| if config.honour_marks { marks(&labels, &annotations, container) } else { Marks::default() };
        let statuses = [status.container_statuses, status.init_container_statuses, status.ephemeral_container_statuses];
        let statuses: Vec<_> = statuses.into_iter().flatten().flatten().collect();
        let specs = [spec.containers, spec.init_containers, spec.ephemeral_containers];
        let containers = specs.into_iter().flatten().flatten().map(|container| {
            let status = statuses.iter().find(|status| status.name == container.name);
            let id = status.and_then(|status| status.container_id.as_deref()).unwrap_or_default();
            ContainerFacts {
                // `containerd://<id>`
                id: id.split_once("://").map_or(id, |(_, id)| id).into(),
                image_id: status.and_then(|status| status.image_id.as_deref()).unwrap_or_default().into(),
                marks: marks_of(&container.name),
                image: container.image.into(),
                name: container.name.into(),
            }
        });
        let owner = owner(&metadata);
        let mut ips: Vec<Box<str>> = status.pod_ips.into_iter().flatten().map(|ip| ip.ip.into()).collect();
        if ips.is_empty() && !status.pod_ip.is_empty() {
            ips.push(status.pod_ip.into());
        }
        Facts {
            ips,
            containers: containers.collect(),
            marks: marks_of(""),
            workload: owner.clone().map(|owner| workload(owner, &labels)),
            owner,
            config_hash: annotations.get("kubernetes.io/config.hash").map(|hash| hash.as_str().into()),
            labels: selected(labels, &config.pod_labels),
            annotations: selected(annotations, &config.pod_annotations),
            namespace: metadata.namespace.into(),
            name: metadata.name.into(),
        }
    }

    pub(super) fn container(&self, name: &str) -> Option<&ContainerFacts> {
        self.containers.iter().find(|container| &*container.name == name)
    }

    pub(super) fn marks_of(&self, container: &str) -> &Marks {
        self.container(container).map_or(&self.marks, |container| &container.marks)
    }
}

/// The pairs with the keys that are asked for.
pub(super) fn selected(pairs: BTreeMap<String, String>, select: &Select) -> Pairs {
    pairs.into_iter().filter(|(key, _)| select.takes(key)).map(|(key, value)| (key.into(), value.into())).collect()
}

fn owner(metadata: &Metadata) -> Option<(Box<str>, Box<str>)> {
    let owners = metadata.owner_references.as_deref().unwrap_or_default();
    let owner = owners.iter().find(|owner| owner.controller == Some(true)).or_else(|| owners.first())?;
    Some((owner.kind.as_str().into(), owner.name.as_str().into()))
}

/// A ReplicaSet that a Deployment made is called `<deployment>-<hash>`, and its pods are labelled with the hash: so it needs no
/// look at ReplicaSets, which only a watch across the cluster would give.
fn workload((kind, name): (Box<str>, Box<str>), labels: &BTreeMap<String, String>) -> (Box<str>, Box<str>) {
    let hash = |key: &str| labels.get(key).and_then(|hash| name.strip_suffix(hash.as_str())?.strip_suffix('-'));
    match (&*kind, hash("pod-template-hash"), hash("rollouts-pod-template-hash")) {
        ("ReplicaSet", Some(deployment), _) => ("Deployment".into(), deployment.into()),
        ("ReplicaSet", _, Some(rollout)) => ("Rollout".into(), rollout.into()),
        _ => (kind, name),
    }
}

/// Who wrote a log, as far as its path says.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// Empty where the path has none.
    pub namespace: &'a str,
    /// The pod's name.
    pub pod: &'a str,
    /// The name of its directory: its uid, or the hash of a static pod.
    pub uid: &'a str,
    /// The container's name.
    pub container: &'a str,
    /// How often the container had been started again.
    pub restart: u32,
}

/// What is known beside the path.
#[derive(Clone, Copy, Default)]
pub(super) struct Known<'a> {
    pub facts: Option<&'a Facts>,
    pub node_name: Option<&'a str>,
    pub node: Option<&'a Pairs>,
    pub namespace: Option<&'a Pairs>,
    /// Whether something that should be known is not.
    pub partial: bool,
}

/// The value of `kubernetes`, with the names that Vector gives its parts.
pub(super) fn kubernetes(origin: &Origin<'_>, known: Known<'_>) -> Vec<u8> {
    let mut out = Object::new();
    out.text("pod_name", origin.pod);
    out.text("pod_namespace", origin.namespace);
    out.text("pod_uid", origin.uid);
    out.text("container_name", origin.container);
    out.raw("container_restart_count", origin.restart.to_string().as_bytes());
    if let Some(facts) = known.facts {
        if let Some(container) = facts.container(origin.container) {
            out.some("container_id", &container.id);
            out.some("container_image", &container.image);
            out.some("container_image_id", &container.image_id);
        }
        if let Some(first) = facts.ips.first() {
            out.text("pod_ip", first);
            out.list("pod_ips", &facts.ips);
        }
        if let Some((kind, name)) = &facts.owner {
            out.text("pod_owner", &format!("{kind}/{name}"));
        }
        if let Some((kind, name)) = &facts.workload {
            out.text("workload_kind", kind);
            out.text("workload_name", name);
        }
        out.pairs("pod_labels", &facts.labels);
        out.pairs("pod_annotations", &facts.annotations);
        let marks = facts.marks_of(origin.container);
        if let Some(parser) = marks.parser {
            out.text("parser", parser.name());
        }
        if let Some(stream) = marks.excluded_stream {
            out.text("excluded_stream", stream.name());
        }
    }
    if let Some(labels) = known.namespace {
        out.pairs("namespace_labels", labels);
    }
    out.some("pod_node_name", known.node_name.unwrap_or_default());
    if let Some(labels) = known.node {
        out.pairs("node_labels", labels);
    }
    if known.partial {
        out.text("metadata", "partial");
    }
    out.end()
}

/// A JSON object being written.
struct Object(Vec<u8>);

impl Object {
    fn new() -> Object {
        Object(b"{".to_vec())
    }

    fn raw(&mut self, key: &str, value: &[u8]) {
        if self.0.len() > 1 {
            self.0.push(b',');
        }
        self.0.push(b'"');
        json::escape(key.as_bytes(), &mut self.0);
        self.0.extend_from_slice(b"\":");
        self.0.extend_from_slice(value);
    }

    fn text(&mut self, key: &str, value: &str) {
        self.raw(key, &quoted(value));
    }

    /// A text that may not be known yet.
    fn some(&mut self, key: &str, value: &str) {
        if !value.is_empty() {
            self.text(key, value);
        }
    }

    fn list(&mut self, key: &str, values: &[Box<str>]) {
        let values: Vec<Vec<u8>> = values.iter().map(|value| quoted(value)).collect();
        self.raw(key, &[b"[", &*values.join(&b","[..]), b"]"].concat());
    }

    fn pairs(&mut self, key: &str, pairs: &Pairs) {
        if pairs.is_empty() {
            return;
        }
        let mut object = Object::new();
        pairs.iter().for_each(|(key, value)| object.text(key, value));
        self.raw(key, &object.end());
    }

    fn end(mut self) -> Vec<u8> {
        self.0.push(b'}');
        self.0
    }
}

fn quoted(text: &str) -> Vec<u8> {
    let mut out = vec![b'"'];
    json::escape(text.as_bytes(), &mut out);
    out.push(b'"');
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    const POD: &str = r#"{"metadata":{"name":"cart-7d9-x2","namespace":"shop","uid":"u1","labels":{"app":"cart","pod-template-hash":"7d9"},
        "annotations":{"a/b":"say \"hi\"","long":"x"},"ownerReferences":[{"kind":"ReplicaSet","name":"cart-7d9","controller":true}]},
        "spec":{"nodeName":"n","initContainers":null,"containers":[{"name":"app","image":"i:1","env":[{"name":"X"}]}]},
        "status":{"podIP":"10.0.0.1","podIPs":[{"ip":"10.0.0.1"},{"ip":"fd00::1"}],"containerStatuses":[
            {"name":"app","imageID":"i@sha256:1","containerID":"containerd://c1"}]}}"#;

    #[test]
    fn a_pod_becomes_the_fields_that_vector_gives() {
        let config = KubernetesConfig { pod_annotations: Select::Keys(vec!["a/b".into()]), ..KubernetesConfig::default() };
        let facts = Facts::new(serde_json::from_str(POD).unwrap(), &config);
        let node = Pairs::from([("topology.kubernetes.io/region".into(), "eu-1".into())]);
        let origin = Origin { namespace: "shop", pod: "cart-7d9-x2", uid: "u1", container: "app", restart: 2 };
        let known = Known { facts: Some(&facts), node_name: Some("n"), node: Some(&node), ..Known::default() };
        let value: serde_json::Value = serde_json::from_slice(&kubernetes(&origin, known)).unwrap();
        let expected = serde_json::json!({
            "pod_name": "cart-7d9-x2", "pod_namespace": "shop", "pod_uid": "u1", "container_name": "app", "container_restart_count": 2,
            "container_id": "c1", "container_image": "i:1", "container_image_id": "i@sha256:1",
            "pod_ip": "10.0.0.1", "pod_ips": ["10.0.0.1", "fd00::1"], "pod_owner": "ReplicaSet/cart-7d9",
            "workload_kind": "Deployment", "workload_name": "cart",
            "pod_labels": {"app": "cart", "pod-template-hash": "7d9"}, "pod_annotations": {"a/b": "say \"hi\""},
            "pod_node_name": "n", "node_labels": {"topology.kubernetes.io/region": "eu-1"},
        });
        assert_eq!(value, expected);
        let alone = kubernetes(&origin, Known { partial: true, ..Known::default() });
        let value: serde_json::Value = serde_json::from_slice(&alone).unwrap();
        assert_eq!(value["metadata"], "partial");
        assert_eq!(value.as_object().unwrap().len(), 6);
    }

    #[test]
    fn owners_are_named_without_looking_at_replica_sets() {
        let labels = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let of = |kind: &str, name: &str, pairs: &[(&str, &str)]| {
            let (kind, name) = workload((kind.into(), name.into()), &labels(pairs));
            format!("{kind}/{name}")
        };
        assert_eq!(of("ReplicaSet", "cart-7d9", &[("pod-template-hash", "7d9")]), "Deployment/cart");
        assert_eq!(of("ReplicaSet", "cart-7d9", &[("rollouts-pod-template-hash", "7d9")]), "Rollout/cart");
        assert_eq!(of("ReplicaSet", "by-hand", &[]), "ReplicaSet/by-hand");
        assert_eq!(of("ReplicaSet", "cart7d9", &[("pod-template-hash", "7d9")]), "ReplicaSet/cart7d9");
        assert_eq!(of("StatefulSet", "db", &[]), "StatefulSet/db");
    }
}
