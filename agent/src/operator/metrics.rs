//! The counts as OpenMetrics text, with the names that dashboards for Vector know and the prefix `skidder_`.
//!
//! Nothing is registered while the agent runs: one list says which count has which name, and it is read when someone asks.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use skidder_pipeline::edge::{Clock, Nanos};
use skidder_pipeline::stats::{Counter, SinkStats, SourceStats, Stats};

use crate::lockdown::Lockdown;
use crate::metadata::{Behind, counts as metadata};

/// The type of [`Counts::text`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A component as its counts are labelled.
#[derive(Clone, Debug)]
pub struct Component {
    /// Its name in the configuration.
    pub name: String,
    /// `source` or `sink`.
    pub kind: &'static str,
    /// Its `type`.
    pub type_name: String,
}

/// What came of the reloads of the configuration.
#[derive(Debug, Default)]
pub struct Reloads {
    /// Those after which the new one was at work.
    pub done: Counter,
    /// Those that found nothing changed.
    pub unchanged: Counter,
    /// Those after which the old one stayed at work.
    pub failed: Counter,
    /// Whether the last one was of these (1); a gauge.
    pub last_failed: Counter,
}

/// Everything that is counted.
#[derive(Clone)]
pub struct Counts(Arc<Inner>);

struct Inner {
    stats: Arc<Stats>,
    components: Vec<Component>,
    clock: Arc<dyn Clock>,
    started: Nanos,
    lockdown: Lockdown,
    metadata: Option<Arc<metadata::Counts>>,
    reloads: Arc<Reloads>,
}

impl Counts {
    /// The counts in `stats` of `components`; the agent's age counts from now.
    pub fn new(stats: Arc<Stats>, components: Vec<Component>, clock: Arc<dyn Clock>, lockdown: Lockdown) -> Counts {
        let started = clock.now();
        Counts(Arc::new(Inner { stats, components, clock, started, lockdown, metadata: None, reloads: Arc::default() }))
    }

    /// The same of an agent that has another configuration by now.
    pub fn after_reload(&self, stats: Arc<Stats>, components: Vec<Component>, metadata: Option<Arc<metadata::Counts>>) -> Counts {
        let Inner { clock, started, lockdown, reloads, .. } = &*self.0;
        let (clock, reloads) = (clock.clone(), reloads.clone());
        Counts(Arc::new(Inner { stats, components, clock, started: *started, lockdown: *lockdown, metadata, reloads }))
    }

    /// What came of the reloads.
    pub fn reloads(&self) -> &Arc<Reloads> {
        &self.0.reloads
    }

    /// The same with what the asking for metadata of pods counts, where anything is asked.
    pub fn with_metadata(self, counts: Option<Arc<metadata::Counts>>) -> Counts {
        self.after_reload(self.0.stats.clone(), self.0.components.clone(), counts)
    }

    /// All of them as they are now.
    ///
    /// # Errors
    /// None that is known: writing into a text does not fail.
    pub fn text(&self) -> Result<String, fmt::Error> {
        let mut registry = Registry::with_prefix("skidder");
        registry.register_collector(Box::new(self.clone()));
        let mut text = String::new();
        encode(&mut text, &registry)?;
        Ok(text)
    }
}

impl fmt::Debug for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counts").field("components", &self.0.components).finish_non_exhaustive()
    }
}

/// One count of a component.
struct Metric<S> {
    /// Without the prefix, and without the `_total` that every counter has.
    name: &'static str,
    help: &'static str,
    kind: Kind,
    /// Beside those of the component.
    labels: &'static [(&'static str, &'static str)],
    read: fn(&S, Nanos) -> f64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
}

macro_rules! metric {
    ($kind:ident $name:literal $help:literal $(, $label:ident = $value:literal)*; $read:expr) => {
        Metric { name: $name, help: $help, kind: Kind::$kind, labels: &[$((stringify!($label), $value)),*], read: $read }
    };
}

/// Those with one name stand together.
const SOURCE_METRICS: &[Metric<SourceStats>] = &[
    metric!(Counter "component_received_events" "Records read"; |s, _| s.records.get() as f64),
    metric!(Counter "component_received_bytes" "Bytes read"; |s, _| s.bytes.get() as f64),
    metric!(Counter "source_lost_events" "Entries of the journal that were removed before they could be read"; |s, _| s.lost_records.get() as f64),
    metric!(Counter "source_malformed_events" "Lines whose framing (CRI, Docker) could not be read, sent as they were";
        |s, _| s.malformed.get() as f64),
    metric!(Counter "source_invalid_utf8_events" "Records with bytes that are no UTF-8, replaced"; |s, _| s.invalid_utf8.get() as f64),
    metric!(Counter "source_truncated_events" "Records cut at the size limit"; |s, _| s.truncated.get() as f64),
    metric!(Counter "source_failed_files" "Files that could not be opened or read"; |s, _| s.failed_files.get() as f64),
    metric!(Counter "source_dropped_events" "Records left out because they were longer than the size limit"; |s, _| s.dropped.get() as f64),
    metric!(Counter "source_refused_files" "Files that could have been read and were refused", reason = "link"; |s, _| s.refused_files.link.get() as f64),
    metric!(Counter "source_refused_files" "Files that could have been read and were refused", reason = "not_regular"; |s, _| s.refused_files.not_regular.get() as f64),
    metric!(Counter "source_refused_files" "Files that could have been read and were refused", reason = "owner"; |s, _| s.refused_files.owner.get() as f64),
    metric!(Counter "source_refused_files" "Files that could have been read and were refused", reason = "hard_link"; |s, _| s.refused_files.hard_link.get() as f64),
    metric!(Counter "source_refused_files" "Files that could have been read and were refused", reason = "overlap"; |s, _| s.refused_files.overlap.get() as f64),
    metric!(Counter "source_lost_bytes" "Bytes lost before they could be read"; |s, _| s.lost_bytes.get() as f64),
    metric!(Gauge "source_unread_bytes" "Bytes known to be in the files and not read yet"; |s, _| s.unread_bytes.get() as f64),
];

const SINK_METRICS: &[Metric<SinkStats>] = &[
    metric!(Counter "component_sent_events" "Records that the store has"; |s, _| s.delivered.get() as f64),
    metric!(Counter "component_sent_bytes" "Bytes sent, compressed, repeats included"; |s, _| s.sent_bytes.get() as f64),
    metric!(Counter "component_discarded_events" "Records given up; those that a store refused are dead letters and not here", intentional = "true", reason = "rejected";
        |s, _| s.discarded.get() as f64),
    metric!(Counter "component_discarded_events" "Records given up; those that a store refused are dead letters and not here", intentional = "true", reason = "buffer_full";
        |s, _| s.dropped.get() as f64),
    metric!(Counter "component_discarded_events" "Records given up; those that a store refused are dead letters and not here", intentional = "false", reason = "buffer_damaged";
        |s, _| s.lost.get().saturating_sub(s.dropped.get()) as f64),
    metric!(Counter "component_errors" "Sends that got no answer, or one that asks for another try", error_type = "request_failed", stage = "sending";
        |s, _| s.failures.get() as f64),
    metric!(Counter "sink_retries" "Sends that were tried again"; |s, _| s.retries.get() as f64),
    metric!(Counter "sink_duplicate_events" "Records that the store had already and recognised; among those it has"; |s, _| s.duplicates.get() as f64),
    metric!(Counter "sink_diverted_events" "Records that the store took and keeps apart since they did not fit (failure store); among those it has";
        |s, _| s.diverted.get() as f64),
    metric!(Counter "sink_rejected_events" "Records that the store refused for good"; |s, _| s.rejected.get() as f64),
    metric!(Counter "dead_letters_discarded_events" "Dead letters removed because there was no room for them"; |s, _| s.discarded_letters.get() as f64),
    metric!(Gauge "dead_letters_size_bytes" "Bytes of dead letters on disk"; |s, _| s.dead_letter_bytes.get() as f64),
    metric!(Gauge "sink_failing" "Whether sends fail (1) or not (0)"; |s, _| f64::from(s.standing.get() > 0)),
    metric!(Gauge "sink_paused" "Whether the store needs a person (1): credentials, a missing index"; |s, _| f64::from(s.standing.get() == 2)),
    metric!(Gauge "sink_lag_seconds" "How long the oldest record in the buffer has been waiting"; |s, now| lag(s, now)),
    metric!(Gauge "adaptive_concurrency_limit" "How many sends may be under way at once"; |s, _| s.send_limit.get() as f64),
    metric!(Gauge "adaptive_concurrency_in_flight" "How many sends are under way"; |s, _| s.sending.get() as f64),
    metric!(Gauge "buffer_size_bytes" "Bytes waiting in the buffer"; |s, _| s.buffered_bytes.get() as f64),
    metric!(Gauge "buffer_size_events" "Records waiting in the buffer"; |s, _| s.buffered_records.get() as f64),
    metric!(Gauge "buffer_max_size_bytes" "The most bytes that may wait"; |s, _| s.buffer_max_bytes.get() as f64),
    metric!(Gauge "buffer_degraded" "Whether the directory of the buffer cannot be used (1)"; |s, _| s.buffer_degraded.get() as f64),
    metric!(Counter "buffer_quarantined_frames" "Frames of the buffer that were damaged"; |s, _| s.damaged_frames.get() as f64),
    metric!(Counter "buffer_torn_bytes" "Bytes cut from torn ends of the buffer, which are read from their sources again"; |s, _| s.torn_bytes.get() as f64),
];

const METADATA_METRICS: &[Metric<metadata::Counts>] = &[
    metric!(Gauge "kubernetes_connected" "Whether the watch of this node's pods stands (1)"; |m, _| m.connected.get() as f64),
    metric!(Gauge "kubernetes_pods" "Pods whose metadata is known"; |m, _| m.pods.get() as f64),
    metric!(Gauge "kubernetes_silence_seconds" "How long ago Kubernetes last told anything of pods"; |m, now| silence(m, now)),
    metric!(Counter "kubernetes_pod_lists" "Lists of this node's pods that were asked for"; |m, _| m.lists.get() as f64),
    metric!(Counter "kubernetes_watches" "Watches of this node's pods that were begun"; |m, _| m.watches.get() as f64),
    metric!(Counter "kubernetes_watch_expired" "Watches that could not go on where the last one was"; |m, _| m.expired.get() as f64),
    metric!(Counter "kubernetes_watch_events" "Changes of pods that watches told"; |m, _| m.events.get() as f64),
    metric!(Counter "kubernetes_failed_requests" "Requests to Kubernetes that failed"; |m, _| m.failures.get() as f64),
    metric!(Counter "kubernetes_partial_events" "Records sent on without all of the metadata that they should have"; |m, _| m.partial_records.get() as f64),
];

fn silence(counts: &metadata::Counts, now: Nanos) -> f64 {
    match counts.last_answer.get() {
        0 => 0.0,
        last => now.since(Nanos(last)).as_secs_f64(),
    }
}

fn lag(sink: &SinkStats, now: Nanos) -> f64 {
    match sink.oldest_waiting.get() {
        0 => 0.0,
        since => now.since(Nanos(since)).as_secs_f64(),
    }
}

impl Collector for Counts {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Inner { stats, components, clock, started, lockdown, metadata, reloads } = &*self.0;
        let now = clock.now();
        let of_kind = |kind| components.iter().filter(move |component| component.kind == kind);
        let sources: Vec<_> = of_kind("source").filter_map(|c| Some((c, &**stats.sources.get(&c.name)?))).collect();
        let sinks: Vec<_> = of_kind("sink").filter_map(|c| Some((c, &**stats.sinks.get(&c.name)?))).collect();
        write_all(SOURCE_METRICS, &sources, now, &mut encoder)?;
        let help = "Bytes of a pod's logs lost before they could be read, for an hour after the last";
        let mut lost = encoder.encode_descriptor("kubernetes_lost_bytes", help, None, MetricType::Counter)?;
        for (component, stats) in &sources {
            for (namespace, pod, bytes) in stats.lost_by_pod.by_pod(now) {
                let labels = [("component_id", &*component.name), ("pod_namespace", &*namespace), ("pod_name", &*pod)];
                lost.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&bytes, None)?;
            }
        }
        write_all(SINK_METRICS, &sinks, now, &mut encoder)?;
        let behind = metadata.as_ref().map(|counts| {
            let waiting = sinks.iter().map(|(_, sink)| sink.oldest_waiting.get()).filter(|since| *since > 0).min();
            counts.backlog.by_namespace(waiting.map(Nanos), now, clock.unix_nanos())
        });
        if let Some(behind) = &behind {
            stats.forget_namespaces(|name| behind.iter().any(|one| *one.namespace == *name));
        }
        let report = stats.report();
        let mut single = |name: &str, help: &str, kind: Kind, value: f64| {
            write_value(kind, value, &mut encoder.encode_descriptor(name, help, None, kind.of_the_format())?)
        };
        single("filtered_events", "Records that filters dropped on purpose", Kind::Counter, report.filtered as f64)?;
        single("not_json_events", "Records that should have been JSON and stayed text", Kind::Counter, report.not_json as f64)?;
        let help = "Whether the last reload of the configuration failed (1), so that the one before is still at work";
        single("config_reload_failed", help, Kind::Gauge, reloads.last_failed.get() as f64)?;
        single("uptime_seconds", "How long the agent has been running", Kind::Gauge, now.since(*started).as_secs_f64())?;
        if let Some(bytes) = resident_bytes() {
            single("process_resident_memory_bytes", "Memory that the process has in use", Kind::Gauge, bytes as f64)?;
        }
        if let Some(counts) = metadata {
            for metric in METADATA_METRICS {
                single(metric.name, metric.help, metric.kind, (metric.read)(counts, now))?;
            }
        }
        if let Some(behind) = &behind {
            let mut by_namespace = |name: &str, help: &str, value: fn(&Behind) -> f64| -> fmt::Result {
                let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
                // `namespace` is what Prometheus calls that of the agent's own pod.
                behind.iter().try_for_each(|one| family.encode_family(&[("pod_namespace", &*one.namespace)])?.encode_gauge(&value(one)))
            };
            let unread = "Bytes known to be in the logs of a namespace and not read yet";
            by_namespace("kubernetes_unread_bytes", unread, |one| one.unread_bytes as f64)?;
            let lag = "Age of the oldest record of a namespace that a store does not have yet";
            by_namespace("kubernetes_lag_seconds", lag, |one| one.lag.as_secs_f64())?;
        }
        let mut locked = encoder.encode_descriptor(
            "locked_in",
            "What the agent cannot do any more beyond what it needs (1): see `lockdown`",
            None,
            MetricType::Gauge,
        )?;
        for (part, done) in lockdown.parts() {
            locked.encode_family(&[("part", part)])?.encode_gauge(&f64::from(u8::from(done)))?;
        }
        let mut by_result = encoder.encode_descriptor("config_reloads", "Reloads of the configuration", None, MetricType::Counter)?;
        for (result, count) in [("done", &reloads.done), ("unchanged", &reloads.unchanged), ("failed", &reloads.failed)] {
            by_result.encode_family(&[("result", result)])?.encode_counter::<NoLabelSet, _, u64>(&count.get(), None)?;
        }
        let help = "Values found, by rule, what was done with them, and the namespace of the pod";
        let mut redactions = encoder.encode_descriptor("redactions", help, None, MetricType::Counter)?;
        for found in report.redactions_by_namespace() {
            let (rule, action) = found.rule.split_once('.').unwrap_or((&found.rule, "replace"));
            let labels: Vec<_> =
                [Some(("rule", rule)), Some(("action", action)), found.namespace.as_deref().map(|name| ("pod_namespace", name))]
                    .into_iter()
                    .flatten()
                    .collect();
            redactions.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&found.count, None)?;
        }
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        encoder.encode_descriptor("build", "What runs", None, MetricType::Info)?.encode_info(&version)
    }
}

fn write_all<S>(metrics: &[Metric<S>], components: &[(&Component, &S)], now: Nanos, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    for same_name in metrics.chunk_by(|a, b| a.name == b.name) {
        let Some(first) = same_name.first() else { continue };
        let mut family = encoder.encode_descriptor(first.name, first.help, None, first.kind.of_the_format())?;
        for metric in same_name {
            for (component, stats) in components {
                let mut labels =
                    vec![("component_id", &*component.name), ("component_kind", component.kind), ("component_type", &*component.type_name)];
                labels.extend_from_slice(metric.labels);
                write_value(metric.kind, (metric.read)(stats, now), &mut family.encode_family(&labels)?)?;
            }
        }
    }
    Ok(())
}

fn write_value(kind: Kind, value: f64, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
    match kind {
        Kind::Counter => encoder.encode_counter::<NoLabelSet, _, u64>(&(value as u64), None),
        Kind::Gauge => encoder.encode_gauge(&value),
    }
}

impl Kind {
    fn of_the_format(self) -> MetricType {
        match self {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
        }
    }
}

/// The resident memory, from `/proc/self/statm` (proc(5)): its second number, in pages.
fn resident_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}
