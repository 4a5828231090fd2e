//! What the asking for metadata counts.

use skidder_pipeline::stats::Counter;

use super::Backlog;

/// Counts and gauges of metadata, readable from any thread.
#[derive(Debug, Default)]
pub struct Counts {
    /// Whether the watch of pods stands (1), or the kubelet answered last time; a gauge.
    pub connected: Counter,
    /// Pods of which metadata is known; a gauge.
    pub pods: Counter,
    /// Lists of pods.
    pub lists: Counter,
    /// Watches of pods that were begun.
    pub watches: Counter,
    /// Changes of pods that watches told.
    pub events: Counter,
    /// Requests that failed.
    pub failures: Counter,
    /// Watches that could not go on where they had been, since the API server had forgotten what came after.
    pub expired: Counter,
    /// When Kubernetes last answered, as [`skidder_pipeline::edge::Nanos`]; 0 before; a gauge.
    pub last_answer: Counter,
    /// What is not read or not delivered yet, by namespace.
    pub backlog: Backlog,
    /// Records that went out without all of the metadata that they should have.
    pub partial_records: Counter,
}
