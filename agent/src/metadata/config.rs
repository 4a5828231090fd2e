//! The `[kubernetes]` table.

use std::collections::BTreeSet;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use skidder_pipeline::problem::Problem;

/// Where the agent learns what the pods of its node are: labels, owner, addresses, images, and the node's own labels. What
/// the path of a log says (namespace, pod, uid, container, restart) needs none of this.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KubernetesConfig {
    /// Where metadata comes from.
    pub metadata: MetadataFrom,
    /// The name of this node as the API server knows it. By default it is the value of the environment variable
    /// `SKIDDER_SELF_NODE_NAME`, which the chart sets.
    pub self_node_name: Option<String>,
    /// A kubeconfig file with the address of the API server and the credentials for it. By default those that Kubernetes
    /// puts into every pod are used; the token is read again when it rotates.
    pub kube_config_file: Option<PathBuf>,
    /// How long the first lines of a pod wait for its metadata, in seconds: they are not read yet. After that they go out
    /// with `kubernetes.metadata = "partial"`. The marks of pods (`skidder.io/exclude` and others) are known no sooner than
    /// their metadata, so one for whom an excluded line that gets out is worse than a late one sets a long time.
    pub metadata_wait_secs: u64,
    /// The labels of a pod that its records get, below `kubernetes.pod_labels`: `all`, `none`, or a list of keys.
    pub pod_labels: Select,
    /// The annotations of a pod that its records get, below `kubernetes.pod_annotations`. They can be long.
    pub pod_annotations: Select,
    /// The labels of the node that all records get, below `kubernetes.node_labels`. With `none` the node is never asked for.
    pub node_labels: Select,
    /// The labels of its namespace that a record gets, below `kubernetes.namespace_labels`. With `none` (the default)
    /// namespaces are never asked for; else each one that has a pod on this node, every ten minutes.
    pub namespace_labels: Select,
    /// Whether what pods say of their own logs is heeded: that they are not to be read, how they are parsed, how fast they
    /// are read. A namespace may say for its pods that they are not to be read, by its label `skidder.io/exclude` or
    /// `vector.dev/exclude`, where `namespace_labels` has namespaces asked for.
    pub honour_marks: bool,
    /// The kubelet of this node, for `metadata = "kubelet"`.
    pub kubelet: KubeletConfig,
}

impl Default for KubernetesConfig {
    fn default() -> Self {
        KubernetesConfig {
            metadata: MetadataFrom::Auto,
            self_node_name: None,
            kube_config_file: None,
            metadata_wait_secs: 5,
            pod_labels: Select::Word(SelectWord::All),
            pod_annotations: Select::Word(SelectWord::None),
            node_labels: Select::Keys(TOPOLOGY.map(str::to_owned).to_vec()),
            namespace_labels: Select::Word(SelectWord::None),
            honour_marks: true,
            kubelet: KubeletConfig::default(),
        }
    }
}

/// Region and zone of a node, and the keys that they had before Kubernetes 1.17.
const TOPOLOGY: [&str; 4] = [
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
];

/// Where metadata comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MetadataFrom {
    /// From the API server where the agent runs in a pod or has a `kube_config_file`, else none.
    Auto,
    /// From the API server: one list of this node's pods at the start, and a watch of them from then on.
    Api,
    /// Pods from the kubelet of this node, asked every 30 seconds and when an unknown pod writes; the node and namespaces
    /// from the API server. For clusters where the API server must be spared even a watch.
    Kubelet,
    /// None beyond what paths say.
    None,
}

/// Which keys to take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Select {
    /// `all` or `none`.
    Word(SelectWord),
    /// Those with these keys.
    Keys(Vec<String>),
}

/// All or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SelectWord {
    /// Every key.
    All,
    /// No key.
    None,
}

impl Select {
    /// Whether no key can be taken, so that there is nothing to ask for.
    pub(super) fn is_none(&self) -> bool {
        match self {
            Select::Word(word) => *word == SelectWord::None,
            Select::Keys(keys) => keys.is_empty(),
        }
    }

    pub(crate) fn takes(&self, key: &str) -> bool {
        match self {
            Select::Word(word) => *word == SelectWord::All,
            Select::Keys(keys) => keys.iter().any(|known| known == key),
        }
    }
}

/// The kubelet of this node.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KubeletConfig {
    /// Its address.
    pub endpoint: String,
    /// The certificates that its own is checked against, a PEM file. By default those of the API server.
    pub ca_file: Option<PathBuf>,
    /// Whether its certificate is checked. Kubelets that sign their own need `false`, unless `ca_file` holds it.
    pub verify_certificate: bool,
}

impl Default for KubeletConfig {
    fn default() -> Self {
        KubeletConfig { endpoint: "https://127.0.0.1:10250".to_owned(), ca_file: None, verify_certificate: true }
    }
}

impl KubernetesConfig {
    /// All that is wrong with the options and that their types do not say.
    pub fn check(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        // An hour of waiting is a stop by another name.
        if self.metadata_wait_secs > 3600 {
            problems.push(Problem::at("metadata_wait_secs", "must be at most 3600 (an hour)"));
        }
        let lists = [
            ("pod_labels", &self.pod_labels),
            ("pod_annotations", &self.pod_annotations),
            ("node_labels", &self.node_labels),
            ("namespace_labels", &self.namespace_labels),
        ];
        for (name, select) in lists {
            let Select::Keys(keys) = select else { continue };
            if keys.iter().collect::<BTreeSet<_>>().len() < keys.len() {
                problems.push(Problem::at(name, "a key stands twice"));
            }
        }
        if !self.kubelet.endpoint.starts_with("https://") {
            problems.push(Problem::at("kubelet.endpoint", "must start with `https://`: a token is sent there"));
        }
        problems
    }
}
