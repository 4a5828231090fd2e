//! The options of the agent as a whole, at the top of the file.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;
use skidder_pipeline::problem::Problem;
use skidder_sinks::common::ByteSize;

use crate::lockdown::LockdownMode;
use crate::metadata::KubernetesConfig;

/// The options at the top of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Global {
    /// The directory for all that Skidder keeps across restarts: buffers, positions, dead letters. One agent at a time
    /// can use it. Without it the state is temporary: nothing survives the end of the process, and every run starts from
    /// the beginning. A relative path is resolved against the directory of the configuration file.
    #[schemars(example = "/var/lib/skidder", length(min = 1))]
    pub data_dir: Option<PathBuf>,
    /// The most memory to use, whatever the stores do. Bounds of the sinks are derived from it: how many requests each may have
    /// under way, how much waits in memory beside the disk. 64 MiB where it is not given, or 60 % of the cgroup's limit if
    /// that is less.
    #[schemars(example = "64MiB")]
    pub memory_limit: Option<ByteSize>,
    /// The endpoint for probes and Prometheus.
    #[serde(default)]
    pub api: ApiConfig,
    /// What the pods of this node are, for sources of the type `kubernetes_logs`.
    #[serde(default)]
    pub kubernetes: KubernetesConfig,
    /// Refuses a configuration in which records can reach a sink without passing a transform of the type `redact`. Without
    /// it, that is a warning where the file has such a transform at all.
    #[serde(default)]
    pub require_redaction: bool,
    /// Whether the agent gives up what it does not need once it has read its configuration.
    #[serde(default)]
    pub lockdown: LockdownMode,
}

/// The endpoint for probes and Prometheus: `/metrics`, `/health` and `/ready` over HTTP, GET only. Not with `run --once`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ApiConfig {
    /// Whether there is one.
    pub enabled: bool,
    /// Where it listens: an IP address and a port. It tells counts and the names of components to anyone who asks; on
    /// another address than loopback see to who that can be. Where the port is taken the agent warns and runs without.
    pub address: String,
}

impl Default for ApiConfig {
    fn default() -> Self {
        ApiConfig { enabled: true, address: "127.0.0.1:8686".to_owned() }
    }
}

impl Global {
    /// The directory of the state, for a file that stands in `base_dir`.
    pub fn data_dir(&self, base_dir: &Path) -> Option<PathBuf> {
        self.data_dir.as_ref().map(|dir| base_dir.join(dir))
    }

    /// All that is wrong with the options and that their types do not say.
    pub(super) fn check(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.api.socket_address().is_none() {
            let problem = Problem::at("api.address", format!("`{}` is no IP address with a port", self.api.address));
            problems.push(problem.help("write `address = \"127.0.0.1:8686\"`, or `[::1]:8686` for IPv6"));
        }
        problems.extend(self.kubernetes.check().into_iter().map(|problem| below("kubernetes", problem)));
        problems
    }
}

impl ApiConfig {
    /// The address, if it is one.
    pub fn socket_address(&self) -> Option<SocketAddr> {
        self.address.parse().ok()
    }
}

/// A problem of a table, as seen from around it.
fn below(table: &str, mut problem: Problem) -> Problem {
    problem.path.insert(0, table.to_owned());
    problem
}
