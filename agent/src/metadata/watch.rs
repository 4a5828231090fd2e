//! The watch of this node's pods, and the rare questions about the node and its namespaces.
//!
//! ```text
//! list (from the watch cache) ──version──▶ watch ──ends, or the connection breaks──▶ watch from the last version …
//!        ▲                                   │
//!        └──────────── 410: the server has forgotten what came after that version
//! ```
//!
//! What a cluster feels of a thousand agents that start, or lose the server, at the same moment: a selector that the server's
//! cache answers, a start that is spread over some seconds, waits that double up to minutes and are spread from nothing up
//! (or as long as the server asks for), bookmarks so that a watch of a quiet node is never out of date, and a life of five to
//! ten minutes for each watch, so that they end one by one.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use skidder_pipeline::delivery::backoff::Backoff;
use skidder_pipeline::edge::{Chance, SplitMix};

use super::api::{Api, Failure, Lines, no_json};
use super::facts::{Facts, selected};
use super::items::{Items, Part};
use super::marks;
use super::objects::{Labelled, Metadata, Pod, Status};
use super::store::Store;

/// After failures: at first a moment, then up to two minutes.
pub(super) const BACKOFF: Backoff = Backoff { initial: Duration::from_millis(500), max: Duration::from_secs(120) };
/// Over how long the starts of agents are spread. Less than lines wait for metadata.
const START_SPREAD: Duration = Duration::from_secs(2);
/// How long a watch lives, at least, and at most twice that.
const WATCH_SECS: f64 = 300.0;
/// A bookmark comes about once a minute. A connection on which nothing comes for longer may be dead without saying so.
const SILENCE: Duration = Duration::from_secs(200);
/// A watch that ended sooner counts as failed.
const SHORT_WATCH: Duration = Duration::from_secs(1);
/// The time between two looks at the node's labels; they hardly change.
const NODE_INTERVAL: Duration = Duration::from_secs(600);

/// Where the watch goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Next {
    /// With a list, from the server's cache; or `fresh`, from etcd, where the cache is known to be behind.
    List { fresh: bool },
    /// From this version on.
    Watch(String),
}

/// What asks Kubernetes.
pub(super) struct Asker {
    pub store: Arc<Store>,
    pub chance: SplitMix,
    /// Failures in a row.
    pub failures: u32,
    /// Watches in a row that expired before they told anything.
    pub expired: u32,
    /// What it asks for, for messages.
    pub what: &'static str,
}

impl Asker {
    /// Keeps the store in line with the pods of this node, for ever.
    pub(super) async fn pods(mut self, api: Api) {
        tokio::time::sleep(start_wait(&mut self.chance)).await;
        let mut next = Next::List { fresh: false };
        loop {
            let step = match &mut next {
                Next::List { fresh } => match self.list(&api, *fresh).await {
                    Ok(version) => {
                        next = Next::Watch(version);
                        self.failures = 0;
                        continue;
                    }
                    Err(failure) => Err(failure),
                },
                Next::Watch(version) => self.watch(&api, version).await,
            };
            let counts = self.store.counts.clone();
            match step {
                Ok(()) => self.failures = 0,
                Err(failure) => {
                    counts.connected.set(0);
                    if failure.is_expired() && matches!(next, Next::Watch(_)) {
                        counts.expired.add(1);
                        self.expired += 1;
                        // Where a list is behind what was just watched, each watch that follows it expires at once.
                        next = Next::List { fresh: self.expired > 1 };
                    }
                    self.failed(&failure).await;
                }
            }
        }
    }

    async fn list(&self, api: &Api, fresh: bool) -> Result<String, Failure> {
        let version = if fresh { "" } else { "&resourceVersion=0" };
        self.store.counts.lists.add(1);
        let mut answer = api.get(&format!("/api/v1/pods?{}{version}", self.selector())).await?;
        let (mut items, mut there, mut version, mut wrong) = (Items::default(), HashSet::new(), None, None);
        while let Some(bytes) = answer.next(SILENCE).await? {
            let give = |part: Part<'_>| match part {
                Part::Item(text) => match serde_json::from_slice(text) {
                    Ok(pod) => self.take(pod, Some(&mut there)),
                    Err(error) => wrong = Some(error),
                },
                Part::Metadata(text) => version = serde_json::from_slice::<Metadata>(text).ok().map(|list| list.resource_version),
            };
            items.feed(&bytes, give).map_err(|_| Failure::new("an object is too long"))?;
        }
        if let Some(error) = wrong {
            return Err(no_json(error));
        }
        let version = version.filter(|version| items.ended() && !version.is_empty());
        let version = version.ok_or_else(|| Failure::new("the list broke off"))?;
        self.store.only(&there);
        self.answered();
        tracing::info!(pods = there.len(), "metadata of this node's pods is known");
        Ok(version)
    }

    async fn watch(&mut self, api: &Api, version: &mut String) -> Result<(), Failure> {
        let started = self.store.clock.now();
        let life = (WATCH_SECS * (1.0 + self.chance.fraction())) as u64;
        let selector = self.selector();
        let path = format!("/api/v1/pods?{selector}&watch=1&allowWatchBookmarks=true&resourceVersion={version}&timeoutSeconds={life}");
        let mut answer = api.get(&path).await?;
        self.store.counts.watches.add(1);
        self.answered();
        let mut lines = Lines::default();
        while let Some(bytes) = answer.next(SILENCE).await? {
            lines.feed(&bytes, |line| self.event(line, version))?;
            // What comes proves that the server is well again.
            (self.failures, self.expired) = (0, 0);
        }
        self.store.counts.connected.set(0);
        if self.store.clock.now().since(started) < SHORT_WATCH {
            return Err(Failure::new("the watch ended as soon as it had begun"));
        }
        Ok(())
    }

    fn event(&self, line: &[u8], version: &mut String) -> Result<(), Failure> {
        #[derive(Deserialize)]
        struct Event<'a> {
            #[serde(rename = "type")]
            kind: &'a str,
            #[serde(borrow)]
            object: &'a RawValue,
        }
        if line.trim_ascii().is_empty() {
            return Ok(());
        }
        let event: Event<'_> = serde_json::from_slice(line).map_err(no_json)?;
        if event.kind == "ERROR" {
            let status: Status = serde_json::from_str(event.object.get()).map_err(no_json)?;
            let message = format!("the watch was ended: {}", status.message.unwrap_or_default());
            return Err(Failure { status: status.code, message, retry_after: None });
        }
        self.answered();
        // A bookmark is a pod of which only the version is set.
        let pod: Pod = serde_json::from_str(event.object.get()).map_err(no_json)?;
        let new = pod.metadata.resource_version.clone();
        match event.kind {
            "ADDED" | "MODIFIED" => self.take(pod, None),
            "DELETED" => {
                let hash = pod.metadata.annotations.as_ref().and_then(|all| all.get("kubernetes.io/config.hash")).cloned();
                self.take_last(pod, hash.as_deref());
            }
            _ => {}
        }
        if event.kind != "BOOKMARK" {
            self.store.counts.events.add(1);
        }
        if !new.is_empty() {
            *version = new;
        }
        Ok(())
    }

    /// Takes over what a list or a watch tells of a pod.
    pub(super) fn take(&self, pod: Pod, there: Option<&mut HashSet<Box<str>>>) {
        let uid = pod.metadata.uid.clone();
        let facts = Facts::new(pod, &self.store.config);
        if let Some(there) = there {
            there.insert(uid.as_str().into());
            there.extend(facts.config_hash.clone());
        }
        self.store.put(&uid, facts);
    }

    /// The last state of a pod comes with its deletion, and may be the first that is seen of it.
    fn take_last(&self, pod: Pod, hash: Option<&str>) {
        let uid = pod.metadata.uid.clone();
        self.store.put(&uid, Facts::new(pod, &self.store.config));
        self.store.gone(&uid, hash);
    }

    /// Keeps the node's labels known, for ever.
    pub(super) async fn node(mut self, api: Api) {
        let path = format!("/api/v1/nodes/{}?resourceVersion=0", escaped(&self.store.node_name));
        tokio::time::sleep(start_wait(&mut self.chance)).await;
        loop {
            match api.object::<Labelled>(&path).await {
                Ok(node) => {
                    self.failures = 0;
                    self.store.put_node(selected(node.metadata.labels.unwrap_or_default(), &self.store.config.node_labels));
                    tokio::time::sleep(NODE_INTERVAL.mul_f64(0.9 + self.chance.fraction() / 5.0)).await;
                }
                Err(failure) => self.failed(&failure).await,
            }
        }
    }

    /// Keeps the labels of the namespaces known that have pods here, for ever.
    pub(super) async fn namespaces(mut self, api: Api) {
        /// How often to look whether something is out of date; what is new is told.
        const LOOK: Duration = Duration::from_secs(30);
        loop {
            for name in self.store.stale_namespaces() {
                match api.object::<Labelled>(&format!("/api/v1/namespaces/{}", escaped(&name))).await {
                    Ok(found) => {
                        self.failures = 0;
                        let labels = found.metadata.labels.unwrap_or_default();
                        let excluded = self.store.config.honour_marks && marks::excludes_namespace(&labels);
                        self.store.put_namespace(&name, selected(labels, &self.store.config.namespace_labels), excluded);
                    }
                    // It was deleted, and its pods with it.
                    Err(failure) if failure.status == Some(404) => self.store.namespace_gone(&name),
                    Err(failure) => self.failed(&failure).await,
                }
            }
            let _ = tokio::time::timeout(LOOK, self.store.unknown_namespace.notified()).await;
        }
    }

    pub(super) fn answered(&self) {
        self.store.counts.connected.set(1);
        self.store.counts.last_answer.set(self.store.clock.now().0);
    }

    /// Counts a failure, says it where it is the first of its row or a rare one, and waits.
    pub(super) async fn failed(&mut self, failure: &Failure) {
        self.store.counts.failures.add(1);
        self.failures = self.failures.saturating_add(1);
        let wait = wait_after(self.failures, failure.retry_after, &mut self.chance);
        // The first may be the end of a connection, which is nothing; beyond, one each time that the row doubles.
        if self.failures == 2
            || self.failures > 2 && self.failures.is_power_of_two()
            || matches!(failure.status, Some(401 | 403)) && self.failures == 1
        {
            tracing::warn!(
                error = %failure.message, failures = self.failures, wait_ms = wait.as_millis() as u64,
                "asking Kubernetes for {} fails: {}", self.what, failure.remedy()
            );
        } else {
            tracing::debug!(error = %failure.message, failures = self.failures, "asking Kubernetes for {} fails", self.what);
        }
        tokio::time::sleep(wait).await;
    }

    fn selector(&self) -> String {
        format!("fieldSelector=spec.nodeName%3D{}", escaped(&self.store.node_name))
    }
}

/// How long an agent waits before it first asks: of those that start together each another time.
fn start_wait(chance: &mut dyn Chance) -> Duration {
    START_SPREAD.mul_f64(chance.fraction())
}

/// How long to wait after this many failures in a row, where the server may have `asked` for a time.
fn wait_after(failures: u32, asked: Option<Duration>, chance: &mut dyn Chance) -> Duration {
    let wait = BACKOFF.full_jitter(failures, chance);
    // All that were sent away at once would come back at once.
    asked.map_or(wait, |asked| asked + wait.min(asked))
}

/// Names of Kubernetes need no escaping; a configured one may be anything.
fn escaped(name: &str) -> String {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    name.bytes().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of `waits` are in each tenth of the time up to `most`; none is beyond.
    fn tenths(waits: impl Iterator<Item = Duration>, most: Duration) -> [u32; 10] {
        let mut counts = [0; 10];
        for wait in waits {
            assert!(wait < most, "{wait:?}");
            counts[(wait.as_secs_f64() / most.as_secs_f64() * 10.0) as usize] += 1;
        }
        counts
    }

    #[test]
    fn starts_are_spread_evenly() {
        // An agent draws once: what counts is that seeds which differ in nothing but their last bits give times far apart.
        let counts = tenths((0..10_000).map(|seed| start_wait(&mut SplitMix(seed))), START_SPREAD);
        assert!(counts.iter().all(|count| (850..1_150).contains(count)), "{counts:?}");
    }

    #[test]
    fn waits_double_up_to_minutes_and_are_spread_from_nothing_up() {
        let mut chance = SplitMix(1);
        for (failures, most) in [(1, 0.5), (2, 1.0), (3, 2.0), (8, 64.0), (9, 120.0), (1_000, 120.0), (u32::MAX, 120.0)] {
            let waits = (0..10_000).map(|_| wait_after(failures, None, &mut chance));
            let counts = tenths(waits, Duration::from_secs_f64(most));
            assert!(counts.iter().all(|count| (850..1_150).contains(count)), "{failures}: {counts:?}");
        }
    }

    #[test]
    fn who_is_told_when_to_come_comes_no_sooner_and_not_with_all_others() {
        let (mut chance, asked) = (SplitMix(1), Duration::from_secs(5));
        for (failures, most) in [(1, 0.5), (4, 4.0), (30, 5.0)] {
            let waits: Vec<Duration> = (0..10_000).map(|_| wait_after(failures, Some(asked), &mut chance)).collect();
            let beyond = waits.iter().map(|wait| wait.checked_sub(asked).map(|beyond| beyond.as_secs_f64()));
            let beyond: Vec<f64> = beyond.map(|beyond| beyond.unwrap_or(f64::NAN)).collect();
            assert!(beyond.iter().all(|beyond| (0.0..=most).contains(beyond)), "{failures}: it comes too soon or too late");
            let mean = beyond.iter().sum::<f64>() / beyond.len() as f64;
            assert!(mean > 0.4 * most, "{failures}: {mean} s");
        }
    }
}
