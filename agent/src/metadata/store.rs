//! What is known of pods, for the worker to look at and for the tasks that ask Kubernetes to write.
//!
//! A pod's slot is kept as long as anyone holds it (each log that is there or not read to its end does) and for some minutes
//! after the pod is gone from the node, so that the last line of a deleted pod has its labels. Which pods are gone is known from
//! answers alone: while nobody answers, over restarts too, none is forgotten.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use skidder_pipeline::edge::{Clock, Nanos};
use tokio::sync::Notify;

use super::config::KubernetesConfig;
use super::counts::Counts;
use super::facts::{Facts, Pairs};

/// How long a pod that is gone is remembered though nobody holds it: a log that is found late, after a restart above all.
const KEEP_GONE: Duration = Duration::from_secs(600);
/// How many pods are remembered that are gone and nobody holds: some MiB.
const MAX_GONE: usize = 2_000;
/// How long the labels of a namespace are taken to be the same.
pub(super) const NAMESPACE_AGE: Duration = Duration::from_secs(600);

/// What is known of pods, of the node, of namespaces.
pub(super) struct Store {
    pub config: KubernetesConfig,
    pub node_name: Box<str>,
    pub counts: Arc<Counts>,
    pub clock: Arc<dyn Clock>,
    /// Set when a log waits for its pod, for whoever has to ask to learn of it.
    pub unknown_pod: Notify,
    /// Set when the labels of a namespace should be asked for.
    pub unknown_namespace: Notify,
    /// Set when the cache on disk is out of date.
    pub changed: Notify,
    pods: Mutex<HashMap<Box<str>, Arc<Slot>>>,
    common: Mutex<Common>,
    /// Grows with every change of what pods have in common.
    version: AtomicU64,
    /// Grows with every change: whether the cache on disk is out of date.
    changes: AtomicU64,
}

#[derive(Default)]
struct Common {
    node: Option<Arc<Pairs>>,
    namespaces: BTreeMap<Box<str>, Namespace>,
}

/// What is known of a namespace.
struct Namespace {
    labels: Arc<Pairs>,
    /// Whether its labels say that logs of its pods are not to be read.
    excluded: bool,
    since: Nanos,
}

/// The place of a pod: there before anything is known of it.
#[derive(Default)]
pub(super) struct Slot {
    state: Mutex<SlotState>,
    version: AtomicU64,
}

#[derive(Default)]
struct SlotState {
    facts: Option<Arc<Facts>>,
    /// When it was found to be gone.
    gone: Option<Nanos>,
    /// Until when its lines wait for its metadata; set when the first is there.
    waits_until: Option<Nanos>,
}

/// What is known of a pod now.
#[derive(Clone, Default)]
pub(super) struct View {
    pub facts: Option<Arc<Facts>>,
    pub node: Option<Arc<Pairs>>,
    pub namespace: Option<Arc<Pairs>>,
    /// Whether its namespace says that its logs are not to be read.
    pub excluded: bool,
    /// Whether all is known that the configuration asks for.
    pub complete: bool,
}

/// What is kept on disk.
pub(super) struct Snapshot {
    pub node: Option<Arc<Pairs>>,
    pub namespaces: BTreeMap<Box<str>, Arc<Pairs>>,
    /// Those of them whose pods' logs are not to be read.
    pub excluded: BTreeSet<Box<str>>,
    pub pods: BTreeMap<Box<str>, Arc<Facts>>,
    /// Those of them that are not on the node any more.
    pub gone: BTreeSet<Box<str>>,
}

impl Store {
    pub(super) fn new(config: KubernetesConfig, node_name: Box<str>, clock: Arc<dyn Clock>) -> Store {
        Store {
            config,
            node_name,
            counts: Arc::default(),
            clock,
            unknown_pod: Notify::new(),
            unknown_namespace: Notify::new(),
            changed: Notify::new(),
            pods: Mutex::default(),
            common: Mutex::default(),
            version: AtomicU64::new(0),
            changes: AtomicU64::new(0),
        }
    }

    /// The slot of the pod whose logs are in a directory of this uid.
    pub(super) fn slot(&self, uid: &str) -> Arc<Slot> {
        let mut pods = self.pods();
        if let Some(slot) = pods.get(uid) {
            return slot.clone();
        }
        let slot = Arc::new(Slot::default());
        pods.insert(uid.into(), slot.clone());
        slot
    }

    /// What is known of a pod of `namespace`.
    pub(super) fn view(&self, slot: &Slot, namespace: &str) -> View {
        let facts = slot.state().facts.clone();
        let common = self.common();
        let node = common.node.clone();
        let namespace = common.namespaces.get(namespace);
        let excluded = namespace.is_some_and(|known| known.excluded);
        let namespace = namespace.map(|known| known.labels.clone());
        let complete = facts.is_some()
            && (node.is_some() || self.config.node_labels.is_none())
            && (namespace.is_some() || self.config.namespace_labels.is_none());
        View { facts, node, namespace, excluded, complete }
    }

    /// A number that changes when what [`Store::view`] gives does.
    pub(super) fn version(&self, slot: &Slot) -> u64 {
        self.version.load(Ordering::Acquire) + slot.version.load(Ordering::Acquire)
    }

    /// Until when lines of the pod wait for its metadata; from now on where nobody asked before.
    pub(super) fn waits_until(&self, slot: &Slot, now: Nanos) -> Nanos {
        let wait = Duration::from_secs(self.config.metadata_wait_secs);
        let mut state = slot.state();
        if state.waits_until.is_none() {
            self.unknown_pod.notify_one();
        }
        *state.waits_until.get_or_insert_with(|| now.after(wait))
    }

    /// Takes over what was learned of a pod.
    pub(super) fn put(&self, uid: &str, facts: Facts) {
        let facts = Arc::new(facts);
        if let Some(hash) = &facts.config_hash {
            self.put_one(hash, &facts);
        }
        self.put_one(uid, &facts);
        if !self.config.namespace_labels.is_none() && !self.common().namespaces.contains_key(&facts.namespace) {
            self.unknown_namespace.notify_one();
        }
    }

    fn put_one(&self, uid: &str, facts: &Arc<Facts>) {
        let slot = self.slot(uid);
        let mut state = slot.state();
        let is_back = state.gone.take().is_some();
        if state.facts.as_ref() != Some(facts) {
            state.facts = Some(facts.clone());
            slot.version.fetch_add(1, Ordering::Release);
            self.change();
        } else if is_back {
            self.change();
        }
    }

    /// Takes note that a pod is gone from the API server. Its logs may not be read to their end yet.
    pub(super) fn gone(&self, uid: &str, config_hash: Option<&str>) {
        let now = self.clock.now();
        for uid in [Some(uid), config_hash].into_iter().flatten() {
            let slot = self.pods().get(uid).cloned();
            slot.into_iter().for_each(|slot| self.mark_gone(&mut slot.state(), now));
        }
    }

    fn mark_gone(&self, state: &mut SlotState, now: Nanos) {
        if state.gone.is_none() {
            state.gone = Some(now);
            self.change();
        }
    }

    /// Takes note that no pod but those with these uids (or hashes) is on the node.
    pub(super) fn only(&self, there: &HashSet<Box<str>>) {
        let now = self.clock.now();
        for (uid, slot) in self.pods().iter() {
            let mut state = slot.state();
            if state.facts.is_some() && !there.contains(uid) {
                self.mark_gone(&mut state, now);
            }
        }
    }

    pub(super) fn put_node(&self, labels: Pairs) {
        let mut common = self.common();
        if common.node.as_deref() != Some(&labels) {
            common.node = Some(Arc::new(labels));
            self.common_changed();
        }
    }

    /// Takes over the labels of a namespace, and whether they say that logs of its pods are not to be read.
    pub(super) fn put_namespace(&self, name: &str, labels: Pairs, excluded: bool) {
        let since = self.clock.now();
        let mut common = self.common();
        match common.namespaces.get_mut(name) {
            Some(known) if *known.labels == labels && known.excluded == excluded => known.since = since,
            _ => {
                common.namespaces.insert(name.into(), Namespace { labels: Arc::new(labels), excluded, since });
                self.common_changed();
            }
        }
    }

    /// Takes note that there is no such namespace any more. Its pods went before it, and their last lines may not be read yet: they
    /// keep the labels that it had.
    pub(super) fn namespace_gone(&self, name: &str) {
        let now = self.clock.now();
        let mut common = self.common();
        match common.namespaces.get_mut(name) {
            Some(known) => known.since = now,
            None => {
                common.namespaces.insert(name.into(), Namespace { labels: Arc::default(), excluded: false, since: now });
                self.common_changed();
            }
        }
    }

    fn common_changed(&self) {
        self.version.fetch_add(1, Ordering::Release);
        self.change();
    }

    fn change(&self) {
        self.changes.fetch_add(1, Ordering::Release);
        self.changed.notify_one();
    }

    /// The namespaces that have a pod here and of which the labels are not known, or were for too long; the others are
    /// forgotten.
    pub(super) fn stale_namespaces(&self) -> Vec<Box<str>> {
        let facts = |slot: &Arc<Slot>| Some(slot.state().facts.as_ref()?.namespace.clone());
        let there: HashSet<Box<str>> = self.pods().values().filter_map(facts).collect();
        let now = self.clock.now();
        let mut common = self.common();
        common.namespaces.retain(|name, _| there.contains(name));
        let is_fresh = |name: &str| common.namespaces.get(name).is_some_and(|known| now.since(known.since) < NAMESPACE_AGE);
        there.into_iter().filter(|name| !is_fresh(name)).collect()
    }

    /// Whether a log waits for a pod that is not known.
    pub(super) fn has_unknown(&self) -> bool {
        let is_unknown = |slot: &Arc<Slot>| {
            let state = slot.state();
            state.facts.is_none() && state.waits_until.is_some()
        };
        self.pods().values().any(is_unknown)
    }

    /// Forgets pods that are gone, that nobody holds and that were remembered long enough.
    pub(super) fn clean(&self) {
        let now = self.clock.now();
        let mut pods = self.pods();
        let before = pods.len();
        let mut gone = Vec::new();
        pods.retain(|uid, slot| {
            let state = slot.state();
            let held = Arc::strong_count(slot) > 1;
            match (state.gone, &state.facts) {
                _ if held => true,
                (None, None) => false,
                (None, Some(_)) => true,
                (Some(since), _) => {
                    let keep = now.since(since) < KEEP_GONE;
                    if keep {
                        gone.push((since, uid.clone()));
                    }
                    keep
                }
            }
        });
        gone.sort();
        let beyond = gone.len().saturating_sub(MAX_GONE);
        gone.drain(..beyond).for_each(|(_, uid)| drop(pods.remove(&uid)));
        if pods.len() != before {
            self.change();
        }
        let known = pods.values().filter(|slot| slot.state().facts.is_some()).count();
        self.counts.pods.set(known as u64);
    }

    /// Grows with every change of what [`Store::snapshot`] gives.
    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let (mut pods, mut gone) = (BTreeMap::new(), BTreeSet::new());
        for (uid, slot) in self.pods().iter() {
            let state = slot.state();
            let Some(facts) = &state.facts else { continue };
            pods.insert(uid.clone(), facts.clone());
            gone.extend(state.gone.map(|_| uid.clone()));
        }
        let common = self.common();
        let namespaces = common.namespaces.iter().map(|(name, known)| (name.clone(), known.labels.clone())).collect();
        let excluded = common.namespaces.iter().filter(|(_, known)| known.excluded).map(|(name, _)| name.clone()).collect();
        Snapshot { node: common.node.clone(), namespaces, excluded, pods, gone }
    }

    /// Takes over what an earlier run knew. All of it may be out of date: the first list says which pods are gone by now, and
    /// namespaces are asked for again.
    pub(super) fn restore(&self, snapshot: Snapshot) {
        let now = self.clock.now();
        for (uid, facts) in snapshot.pods {
            let slot = self.slot(&uid);
            let mut state = slot.state();
            (state.facts, state.gone) = (Some(facts), snapshot.gone.contains(&uid).then_some(now));
        }
        let mut common = self.common();
        common.node = snapshot.node;
        for (name, labels) in snapshot.namespaces {
            let excluded = snapshot.excluded.contains(&name);
            common.namespaces.insert(name, Namespace { labels, excluded, since: Nanos(0) });
        }
    }

    fn pods(&self) -> MutexGuard<'_, HashMap<Box<str>, Arc<Slot>>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn common(&self) -> MutexGuard<'_, Common> {
        self.common.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    fn state(&self) -> MutexGuard<'_, SlotState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests;
