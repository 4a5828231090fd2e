//! The wiring: a checked configuration becomes one worker, and a delivery for each sink.
//!
//! At a reload the worker is made anew and so are the sinks that changed; the others, [`Sinks`], go on meanwhile.

mod feeds;
mod sinks;

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, anyhow};
use skidder_pipeline::body::Bodies;
use skidder_pipeline::edge::Clock;
use skidder_pipeline::frame::FrameScope;
use skidder_pipeline::problem::Problem;
use skidder_pipeline::run::{Control, Outlet, Unsettled, Worker};
use skidder_pipeline::stats::Stats;

use crate::config::{Builtin, Pipeline};
use crate::metadata::{KubernetesConfig, Metadata};
use crate::orphans;
use crate::sources::{Estate, SourceConfig};
use crate::state::{State, random_bytes};
pub use sinks::{NotEnded, Planned, Sinks, plan};

/// Called when the reader of the standard output has gone.
pub type OnOutputClosed = Arc<dyn Fn() + Send + Sync>;

/// What stays the same from one configuration to the next.
pub struct World<'a> {
    /// The state directory.
    pub state: &'a State,
    /// Whether to read what is there now and end.
    pub once: bool,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// See [`OnOutputClosed`].
    pub on_output_closed: OnOutputClosed,
    /// What sources leave to each other.
    pub estate: Arc<Estate>,
    /// Wakes the worker that there is.
    pub bell: Arc<Bell>,
}

/// What was there before a reload.
pub struct Before<'a> {
    /// The configuration that ran.
    pub pipeline: &'a Pipeline<Builtin>,
    /// What it counted.
    pub stats: &'a Stats,
    /// What there was no room for.
    pub unsettled: &'a mut Vec<Unsettled>,
}

/// What a configuration becomes, beside its sinks.
pub struct Topology {
    /// Reads, transforms, encodes and freezes; to be run on a thread of its own.
    pub worker: Worker,
    /// Stops and wakes the worker.
    pub control: Arc<Control>,
    /// All counts.
    pub stats: Arc<Stats>,
    /// What is known of the pods of this node, where that is asked for.
    pub metadata: Option<Arc<Metadata>>,
}

/// Wakes the worker that is at work now: buffers outlive workers.
#[derive(Debug, Default)]
pub struct Bell(Mutex<Option<Arc<Control>>>);

impl Bell {
    /// Wakes it.
    pub fn ring(&self) {
        if let Some(control) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            control.wake();
        }
    }

    fn hang_at(&self, control: &Arc<Control>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(control.clone());
    }
}

/// Builds everything, opens those of the `planned` sinks that do not run yet, and recovers what their buffers hold. Has to run
/// inside the tokio runtime of the deliveries. `metadata` is used again where there is some.
pub fn build(
    pipeline: &Pipeline<Builtin>,
    planned: Vec<Planned>,
    sinks: &mut Sinks,
    world: &World<'_>,
    before: Option<Before<'_>>,
    metadata: Option<Arc<Metadata>>,
) -> anyhow::Result<Topology> {
    let control = Control::new();
    world.bell.hang_at(&control);
    let new_sinks = sinks.that_are_new(pipeline, world.state);
    orphans::warn(pipeline, world.state.dir());
    let stopped = orphans::where_they_stopped(pipeline, world.state.dir())?;
    let stats = Arc::new(new_stats(pipeline, before.as_ref().map(|before| before.stats)));
    let run = random_bytes().context("cannot get random bytes from the kernel")?;
    let (mut none, mut old) = (Vec::new(), None);
    let unsettled = match before {
        Some(Before { pipeline, unsettled, .. }) => {
            old = Some(pipeline);
            unsettled
        }
        None => &mut none,
    };
    let names: Vec<Arc<str>> = planned.iter().map(|planned| planned.name.clone()).collect();
    planned.into_iter().try_for_each(|planned| sinks.open(planned, &stopped, world, &stats))?;
    let metadata = match metadata {
        None if reads_pods(pipeline) => Metadata::start(&kubernetes(pipeline), world.state.dir(), world.clock.clone())?,
        metadata => metadata,
    };
    let mut outlets = Vec::new();
    let mut queues = Vec::new();
    for name in names {
        let sink = sinks.get(&name)?;
        let scope = FrameScope::new(world.state.epoch(), name.clone(), run);
        let bodies = Bodies::new(sink.compression, sink.limits).at_most(sink.share.open_bytes);
        let mut outlet = Outlet::new(sink.sink.encoder(), bodies, scope, sink.queue.clone());
        let left = unsettled.iter().position(|left| left.sink == name).map(|at| unsettled.swap_remove(at));
        outlet.take_over(left);
        outlets.push(outlet);
        queues.push(sink.queue.clone());
    }
    let around = feeds::Around { world, control: &control, stats: &stats, new_sinks, metadata: metadata.clone(), before: old };
    let feeds = match feeds::feeds(pipeline, &queues, &around) {
        Ok(feeds) => feeds,
        Err(error) => {
            // For whoever comes in the place of this one.
            let now = world.clock.now();
            unsettled.extend(outlets.into_iter().filter_map(|outlet| outlet.leave(now)));
            return Err(error);
        }
    };
    let worker = Worker::new(feeds, outlets, world.clock.clone(), stats.clone(), control.clone());
    Ok(Topology { worker, control, stats, metadata })
}

/// Whether what is known of pods would be of use.
pub fn reads_pods(pipeline: &Pipeline<Builtin>) -> bool {
    pipeline.sources.iter().any(|named| matches!(named.config, SourceConfig::KubernetesLogs(_)))
}

fn kubernetes(pipeline: &Pipeline<Builtin>) -> KubernetesConfig {
    let kube_config_file = pipeline.global.kubernetes.kube_config_file.as_ref().map(|path| pipeline.base_dir.join(path));
    KubernetesConfig { kube_config_file, ..pipeline.global.kubernetes.clone() }
}

fn new_stats(pipeline: &Pipeline<Builtin>, before: Option<&Stats>) -> Stats {
    let sources = pipeline.sources.iter().map(|named| named.name.clone());
    let sinks = pipeline.sinks.iter().map(|named| named.name.clone());
    match before {
        Some(before) => before.go_on(sources, sinks),
        None => Stats::new(sources, sinks),
    }
}

/// The check of the configuration builds each component once, so this is for what changed since.
fn not_built(kind: &str, name: &str, problems: &[Problem]) -> anyhow::Error {
    let problems: Vec<&str> = problems.iter().map(|problem| problem.message.as_str()).collect();
    anyhow!("{kind} `{name}` cannot be built: {}", problems.join("; "))
}
