//! What the pods of this node are: their labels, owners, addresses, images; the node's region; the labels of namespaces.
//!
//! One for the whole process. Tasks on the runtime ask Kubernetes and write into a store; the worker, which reads logs, only
//! ever looks into that. It never waits for an answer: a log whose pod is not known yet is not read for `metadata_wait_secs`,
//! then its records go out marked as partial.

mod api;
mod backlog;
mod cache;
mod config;
pub mod counts;
mod facts;
mod items;
mod kubelet;
mod marks;
mod objects;
mod store;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use skidder_pipeline::edge::{Clock, Nanos, SplitMix};
use tokio::task::JoinSet;

use crate::state::random_bytes;
use api::Api;
use backlog::Part;
pub use backlog::{Backlog, Behind};
pub use config::{KubeletConfig, KubernetesConfig, MetadataFrom, Select, SelectWord};
use counts::Counts;
use facts::Known;
pub use facts::Origin;
pub use marks::{Parser, Stream};
use store::{Slot, Store};
use watch::Asker;

/// The variable with the name of this node, which the chart sets.
const NODE_NAME: &str = "SKIDDER_SELF_NODE_NAME";
/// How soon what changed is written to the disk, so that an agent that is killed knows it again: what comes at once is written
/// at once.
const SAVE_AFTER: Duration = Duration::from_millis(100);
/// The time between two times that it is written.
const SAVE_INTERVAL: Duration = Duration::from_secs(1);
/// How often pods that are gone are looked for.
const CLEAN_INTERVAL: Duration = Duration::from_secs(30);

/// What is known of the pods of this node. Asks as long as it lives.
pub struct Metadata {
    store: Arc<Store>,
    cache: PathBuf,
    saved: Mutex<u64>,
    tasks: Mutex<JoinSet<()>>,
}

impl Metadata {
    /// Starts to ask, as `config` says, with what an earlier run left in `state_dir`; `None` where nothing is to be asked. Has
    /// to run inside a tokio runtime.
    ///
    /// # Errors
    /// Where it is to be asked and the name of this node is not known.
    pub fn start(config: &KubernetesConfig, state_dir: &Path, clock: Arc<dyn Clock>) -> anyhow::Result<Option<Arc<Metadata>>> {
        let in_pod = std::env::var_os("KUBERNETES_SERVICE_HOST").is_some();
        let asks = match config.metadata {
            MetadataFrom::None => false,
            MetadataFrom::Auto => in_pod || config.kube_config_file.is_some(),
            MetadataFrom::Api | MetadataFrom::Kubelet => true,
        };
        if !asks {
            return Ok(None);
        }
        let node_name = config.self_node_name.clone().or_else(|| std::env::var(NODE_NAME).ok()).filter(|name| !name.is_empty());
        let Some(node_name) = node_name else {
            if config.metadata == MetadataFrom::Auto {
                tracing::warn!(
                    "records of pods get only what the paths of their logs say, since the name of this node is not known: set \
                     {NODE_NAME} from `spec.nodeName`, or `self_node_name` below `[kubernetes]`"
                );
                return Ok(None);
            }
            anyhow::bail!(
                "metadata of pods is to be asked for, and the name of this node is not known: set `self_node_name` below \
                 `[kubernetes]`, or the environment variable {NODE_NAME} from `spec.nodeName`; or `metadata = \"none\"`"
            );
        };
        let store = Arc::new(Store::new(config.clone(), node_name.into(), clock));
        let cache = state_dir.join("metadata.json");
        if let Some(snapshot) = cache::load(&cache, &store.node_name) {
            store.restore(snapshot);
        }
        let saved = Mutex::new(store.changes());
        let metadata = Arc::new(Metadata { store, cache, saved, tasks: Mutex::default() });
        metadata.spawn()?;
        Ok(Some(metadata))
    }

    fn spawn(self: &Arc<Metadata>) -> anyhow::Result<()> {
        let store = &self.store;
        let asker = |what| {
            let seed = random_bytes()?.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
            anyhow::Ok(Asker { store: store.clone(), chance: SplitMix(seed), failures: 0, expired: 0, what })
        };
        let (mut connecting, pods, node, namespaces) = (asker("credentials")?, asker("pods")?, asker("its node")?, asker("namespaces")?);
        let config = store.config.clone();
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.spawn(async move {
            let (api, kubelet) = loop {
                match connect(&config).await {
                    Ok(connected) => break connected,
                    Err(failure) => connecting.failed(&failure).await,
                }
            };
            let watch = async {
                match kubelet {
                    Some(kubelet) => pods.kubelet_pods(kubelet).await,
                    None => pods.pods(api.clone()).await,
                }
            };
            let node = async {
                if !config.node_labels.is_none() {
                    node.node(api.clone()).await;
                }
            };
            let namespaces = async {
                if !config.namespace_labels.is_none() {
                    namespaces.namespaces(api.clone()).await;
                }
            };
            tokio::join!(watch, node, namespaces);
        });
        let (kept, store) = (Arc::downgrade(self), store.clone());
        tasks.spawn(async move {
            keep(&store, || kept.upgrade().map(|metadata| metadata.save())).await;
        });
        Ok(())
    }

    /// Writes what is known to the disk, if it changed.
    pub fn save(&self) {
        let mut saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        let changes = self.store.changes();
        if *saved == changes {
            return;
        }
        match cache::save(&self.cache, &self.store.node_name, &self.store.snapshot()) {
            Ok(()) => *saved = changes,
            Err(error) => tracing::debug!(file = %self.cache.display(), %error, "cannot write the cache of metadata; it is tried again"),
        }
    }

    /// What is counted.
    pub fn counts(&self) -> Arc<Counts> {
        self.store.counts.clone()
    }

    /// What is known of the pod that wrote a log, as the value of `kubernetes`: a JSON object.
    pub fn kubernetes(&self, origin: &Origin<'_>) -> Vec<u8> {
        let slot = self.store.slot(origin.uid);
        let view = self.store.view(&slot, origin.namespace);
        let known = Known {
            facts: view.facts.as_deref(),
            node_name: Some(&self.store.node_name),
            node: view.node.as_deref(),
            namespace: view.namespace.as_deref(),
            partial: !view.complete,
        };
        facts::kubernetes(origin, known)
    }

    /// A hold on the pod of a container, for as long as its logs are read.
    pub fn hold(self: &Arc<Metadata>, origin: &Origin<'_>) -> Hold {
        Hold {
            slot: self.store.slot(origin.uid),
            metadata: self.clone(),
            namespace: origin.namespace.into(),
            container: origin.container.into(),
            seen: None,
            standing: Standing { excluded: false, rate_limit: None, complete: false },
            backlog: self.store.counts.backlog.part(origin.namespace),
        }
    }
}

impl Drop for Metadata {
    fn drop(&mut self) {
        self.save();
    }
}

/// Forgets what is not needed any more, and calls `save` soon after something changed, until that gives `None`.
async fn keep(store: &Store, mut save: impl FnMut() -> Option<()>) {
    let mut cleaned = None;
    loop {
        if tokio::time::timeout(CLEAN_INTERVAL, store.changed.notified()).await.is_ok() {
            tokio::time::sleep(SAVE_AFTER).await;
        }
        let now = store.clock.now();
        if cleaned.is_none_or(|then| now.since(then) >= CLEAN_INTERVAL) {
            cleaned = Some(now);
            store.clean();
        }
        if save().is_none() {
            return;
        }
        tokio::time::sleep(SAVE_INTERVAL).await;
    }
}

async fn connect(config: &KubernetesConfig) -> Result<(Api, Option<Api>), api::Failure> {
    let api = Api::connect(config.kube_config_file.as_deref()).await?;
    let kubelet = if config.metadata == MetadataFrom::Kubelet { Some(kubelet::connect(config).await?) } else { None };
    Ok((api, kubelet))
}

/// The value of `kubernetes` where nothing is asked: what the path of a log says.
pub fn from_path(origin: &Origin<'_>) -> Vec<u8> {
    facts::kubernetes(origin, Known::default())
}

/// A container whose logs are read: while it lives, its pod is not forgotten.
pub struct Hold {
    metadata: Arc<Metadata>,
    slot: Arc<Slot>,
    namespace: Box<str>,
    container: Box<str>,
    /// The version that `standing` is of.
    seen: Option<u64>,
    standing: Standing,
    backlog: Part,
}

/// How a container stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Standing {
    excluded: bool,
    rate_limit: Option<u64>,
    complete: bool,
}

/// What is to be done with a log now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Read it.
    Read,
    /// Do not read it before then: what its pod is may be known by then.
    Wait(Nanos),
    /// Do not read it: its pod says so.
    Leave,
}

impl Hold {
    /// Whether what is known changed since this was asked last, so that records get other fields from now on.
    pub fn changed(&mut self) -> bool {
        let store = &self.metadata.store;
        let version = store.version(&self.slot);
        if self.seen == Some(version) {
            return false;
        }
        let view = store.view(&self.slot, &self.namespace);
        let marks = view.facts.as_ref().map(|facts| facts.marks_of(&self.container));
        self.standing = Standing {
            excluded: marks.is_some_and(|marks| marks.exclude || view.excluded && !marks.include),
            rate_limit: marks.and_then(|marks| marks.rate_limit),
            complete: view.complete,
        };
        self.seen.replace(version).is_some()
    }

    /// What is to be done with the log; up to date after [`Hold::changed`].
    pub fn verdict(&self, now: Nanos) -> Verdict {
        /// How often a log that waits is looked at.
        const LOOK: Duration = Duration::from_millis(50);
        if self.standing.excluded {
            return Verdict::Leave;
        }
        if self.standing.complete {
            return Verdict::Read;
        }
        let until = self.metadata.store.waits_until(&self.slot, now);
        if now < until { Verdict::Wait(until.min(now.after(LOOK))) } else { Verdict::Read }
    }

    /// Says how much of its logs is known to be there and not read.
    pub fn set_unread(&mut self, bytes: u64) {
        self.backlog.set(bytes, self.metadata.store.clock.now());
    }

    /// How fast the pod wants to be read at the most, in bytes per second.
    pub fn rate_limit(&self) -> Option<u64> {
        self.standing.rate_limit
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests;
