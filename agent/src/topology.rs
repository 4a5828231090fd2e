//! The wiring: a checked configuration becomes one worker and a delivery for each sink.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use skidder_pipeline::body::Bodies;
use skidder_pipeline::buffer::{BufferOptions, SinkBuffer};
use skidder_pipeline::delivery::decide::Concurrency;
use skidder_pipeline::delivery::{Bury, DeadLetterFile, Delivery, Discard};
use skidder_pipeline::edge::{Clock, SplitMix};
use skidder_pipeline::frame::FrameScope;
use skidder_pipeline::fs::{Fs, RealFs};
use skidder_pipeline::position::{FileKey, RangeSet};
use skidder_pipeline::problem::Problem;
use skidder_pipeline::queue::Queue;
use skidder_pipeline::run::{Control, Edge, Feed, Node, Outlet, Program, Worker};
use skidder_pipeline::source::{Held, SinkSet};
use skidder_pipeline::stats::{SinkStats, Stats};
use skidder_sinks::common::BufferSettings;
use skidder_sinks::{SinkConfig, SinkContext, SinkParts};

use crate::buffer_cmd;
use crate::config::{Builtin, Kind, Named, NodeId, OnReject, Pipeline, SinkCommon, StartFrom};
use crate::memory::{self, Share};
use crate::metadata::{KubernetesConfig, Metadata};
use crate::orphans;
use crate::sources::{Claims, Leftovers, SourceConfig, SourceContext};
use crate::state::{State, random_bytes};

/// Called when the reader of the standard output has gone.
pub type OnOutputClosed = Arc<dyn Fn() + Send + Sync>;

/// What a configuration becomes.
pub struct Topology {
    /// Reads, transforms, encodes and freezes; to be run on a thread of its own.
    pub worker: Worker,
    /// Stops and wakes the worker.
    pub control: Arc<Control>,
    /// One for each sink; to be spawned.
    pub deliveries: Vec<Delivery>,
    /// Between the worker and each delivery, in the order of the sinks.
    pub queues: Vec<Arc<Queue>>,
    /// All counts.
    pub stats: Arc<Stats>,
    /// What is known of the pods of this node, where that is asked for.
    pub metadata: Option<Arc<Metadata>>,
}

/// Builds everything and recovers what the buffers hold. Has to run inside the tokio runtime of the deliveries.
pub fn build(
    pipeline: &Pipeline<Builtin>,
    state: &State,
    once: bool,
    clock: Arc<dyn Clock>,
    on_output_closed: &OnOutputClosed,
) -> anyhow::Result<Topology> {
    let control = Control::new();
    let new_sinks = new_sinks(pipeline, state);
    orphans::warn(pipeline, state.dir());
    let stopped = orphans::where_they_stopped(pipeline, state.dir())?;
    let stats = Arc::new(new_stats(pipeline));
    let run = random_bytes().context("cannot get random bytes from the kernel")?;
    let mut outlets = Vec::new();
    let mut deliveries = Vec::new();
    let mut queues = Vec::new();
    for (named, mut parts, share) in sinks(pipeline, state, on_output_closed)? {
        let name: Arc<str> = named.name.as_str().into();
        if let Concurrency::Adaptive { max } = &mut parts.delivery.concurrency {
            *max = share.sends;
        }
        let queue = open_queue(&name, &parts, share, state, &control, &stats, &*clock)?;
        if named.common.start_from == StartFrom::Others && !stopped.is_empty() {
            queue.begin_at(&stopped, clock.now());
        }
        let scope = FrameScope::new(state.epoch(), name.clone(), run);
        let bodies = Bodies::new(parts.compression, parts.limits).at_most(share.open_bytes);
        outlets.push(Outlet::new(parts.sink.encoder(), bodies, scope, queue.clone()));
        deliveries.push(Delivery {
            dead_letters: dead_letters(&named.common, &name, state, queue.stats()),
            name,
            sink: parts.sink,
            transport: parts.transport,
            queue: queue.clone(),
            options: parts.delivery,
            clock: clock.clone(),
            chance: Box::new(SplitMix(u64::from_le_bytes(first_eight(&random_bytes()?)))),
        });
        queues.push(queue);
    }
    let reads_pods = pipeline.sources.iter().any(|named| matches!(named.config, SourceConfig::KubernetesLogs(_)));
    let kubernetes = KubernetesConfig { kube_config_file: config_file(pipeline), ..pipeline.global.kubernetes.clone() };
    let metadata = if reads_pods { Metadata::start(&kubernetes, state.dir(), clock.clone())? } else { None };
    let around = Around { state, once, clock: &clock, control: &control, stats: &stats, new_sinks, metadata: metadata.clone() };
    let feeds = feeds(pipeline, &queues, &around)?;
    let worker = Worker::new(feeds, outlets, clock, stats.clone(), control.clone());
    Ok(Topology { worker, control, deliveries, queues, stats, metadata })
}

/// The sinks with what each may hold in memory.
fn sinks<'a>(
    pipeline: &'a Pipeline<Builtin>,
    state: &State,
    on_output_closed: &OnOutputClosed,
) -> anyhow::Result<Vec<(&'a Named<SinkConfig>, SinkParts, Share)>> {
    let mut built = Vec::new();
    for named in &pipeline.sinks {
        let parts = named.config.build(&sink_context(pipeline, state, &named.name, on_output_closed));
        built.push((named, parts.map_err(|problems| not_built("sink", &named.name, &problems))?));
    }
    let limit = memory::limit(pipeline);
    let needs: Vec<_> = built.iter().map(|(named, parts)| (named.name.as_str(), parts)).collect();
    let shares = memory::shares(limit, &needs).map_err(anyhow::Error::msg)?;
    tracing::debug!(limit_bytes = limit, ?shares, "memory");
    Ok(built.into_iter().zip(shares).map(|((named, parts), share)| (named, parts, share)).collect())
}

fn dead_letters(common: &SinkCommon, name: &str, state: &State, stats: &Arc<SinkStats>) -> Box<dyn Bury> {
    match common.on_reject {
        OnReject::DeadLetter => Box::new(DeadLetterFile::new(state.dir(), name, common.dead_letters.max_size.0, stats.clone())),
        OnReject::Drop => Box::new(Discard(stats.clone())),
    }
}

fn config_file(pipeline: &Pipeline<Builtin>) -> Option<PathBuf> {
    pipeline.global.kubernetes.kube_config_file.as_ref().map(|path| pipeline.base_dir.join(path))
}

fn new_stats(pipeline: &Pipeline<Builtin>) -> Stats {
    Stats::new(pipeline.sources.iter().map(|named| named.name.clone()), pipeline.sinks.iter().map(|named| named.name.clone()))
}

fn open_queue(
    name: &str,
    parts: &SinkParts,
    share: Share,
    state: &State,
    control: &Arc<Control>,
    stats: &Stats,
    clock: &dyn Clock,
) -> anyhow::Result<Arc<Queue>> {
    let fs: Arc<dyn Fs> = Arc::new(RealFs);
    let BufferSettings { disk, max_bytes, when_full, sync_after, strict, min_free_bytes } = parts.buffer;
    let (dir, memory_bytes) = (sink_dir(state, name), share.frames_bytes);
    let options = BufferOptions { disk, dir, max_bytes, when_full, sync_after, strict, min_free_bytes, memory_bytes };
    let (buffer, recovered) = SinkBuffer::open(fs, options, state.epoch(), clock.now());
    if recovered.frames > 0 || recovered.damaged_frames > 0 || recovered.torn_bytes > 0 {
        tracing::info!(
            sink = name,
            frames = recovered.frames,
            records = recovered.records,
            torn_bytes = recovered.torn_bytes,
            damaged_frames = recovered.damaged_frames,
            damaged_records = recovered.damaged_records,
            "buffer recovered"
        );
    }
    parts.transport.recover(&recovered.notes).with_context(|| format!("sink `{name}` cannot take up where it stopped"))?;
    let control = control.clone();
    let stats = stats.sinks.get(name).cloned().unwrap_or_default();
    Ok(Arc::new(Queue::new(buffer, Arc::new(move || control.wake()), stats, clock.now())))
}

/// The directory of a sink's buffer and positions.
fn sink_dir(state: &State, name: &str) -> PathBuf {
    buffer_cmd::sink_dir(state.dir(), name)
}

/// The sinks that this state directory has never met, though it has met others: they begin where the others are, unless they
/// ask for the beginning.
fn new_sinks(pipeline: &Pipeline<Builtin>, state: &State) -> SinkSet {
    let is_known = |named: &Named<SinkConfig>| sink_dir(state, &named.name).exists();
    if !pipeline.sinks.iter().any(is_known) {
        return SinkSet::default();
    }
    let new = pipeline.sinks.iter().enumerate();
    let new = new.filter(|(_, named)| !is_known(named) && named.common.start_from == StartFrom::Others);
    new.fold(SinkSet::default(), |set, (index, _)| set.or(SinkSet::only(index)))
}

fn sink_context(pipeline: &Pipeline<Builtin>, state: &State, name: &str, on_output_closed: &OnOutputClosed) -> SinkContext {
    SinkContext {
        name: name.to_owned(),
        base_dir: Some(pipeline.base_dir.clone()),
        state_dir: (!state.is_temporary()).then(|| sink_dir(state, name)),
        stdout_is_terminal: std::io::stdout().is_terminal(),
        stderr_is_terminal: std::io::stderr().is_terminal(),
        output_closed: Some(on_output_closed.clone()),
        clock: None,
    }
}

/// What all sources are given.
struct Around<'a> {
    state: &'a State,
    once: bool,
    clock: &'a Arc<dyn Clock>,
    control: &'a Arc<Control>,
    stats: &'a Stats,
    new_sinks: SinkSet,
    metadata: Option<Arc<Metadata>>,
}

fn feeds(pipeline: &Pipeline<Builtin>, queues: &[Arc<Queue>], around: &Around<'_>) -> anyhow::Result<Vec<Feed>> {
    let held: Arc<dyn Held> = Arc::new(Positions(queues.to_vec()));
    let readers = pipeline.sources.iter().filter(|named| named.config.reads_files()).count();
    let claims = Arc::new(Claims::of(readers));
    let leftovers = Arc::new(Leftovers::of(readers));
    let mut feeds = Vec::new();
    for (node, named) in pipeline.graph.nodes(Kind::Source).zip(&pipeline.sources) {
        let program = program(pipeline, node, &mut vec![0; pipeline.sinks.len()])?;
        let stats = around.stats.sources.get(&named.name).cloned().unwrap_or_default();
        let control = around.control.clone();
        let source = named.config.build(SourceContext {
            name: named.name.clone(),
            base_dir: pipeline.base_dir.clone(),
            sinks: program.sinks(),
            new_sinks: around.new_sinks.and(program.sinks()),
            held: held.clone(),
            claims: claims.clone(),
            leftovers: leftovers.clone(),
            stats,
            clock: around.clock.clone(),
            // One for all, so that a source that is renamed goes on where it stood.
            metadata: around.metadata.clone(),
            state_dir: around.state.dir().join("sources"),
            epoch: around.state.epoch(),
            once: around.once,
            wake: Arc::new(move || control.wake()),
        });
        let source = source.with_context(|| format!("source `{}` cannot start", named.name))?;
        feeds.push(Feed::new(source, program));
    }
    Ok(feeds)
}

/// The ways on from `node`, each transform built anew for each way; `routes` counts the ways to each sink so far.
fn program(pipeline: &Pipeline<Builtin>, node: NodeId, routes: &mut [u8]) -> anyhow::Result<Program> {
    let mut edges = Vec::new();
    for &next in pipeline.graph.outputs(node) {
        match pipeline.graph.kind(next) {
            (Kind::Sink, index) => {
                edges.push(Edge::Sink { index, route: routes[index] });
                // The check of the configuration has refused more ways than fit.
                routes[index] = routes[index].wrapping_add(1);
            }
            (_, index) => {
                let named = &pipeline.transforms[index];
                let transform = named.config.build().map_err(|problems| not_built("transform", &named.name, &problems))?;
                edges.push(Edge::Node(Box::new(Node::new(transform, program(pipeline, next, routes)?))));
            }
        }
    }
    Ok(Program::new(edges))
}

/// The check of the configuration builds each component once, so this is for what changed since.
fn not_built(kind: &str, name: &str, problems: &[Problem]) -> anyhow::Error {
    let problems: Vec<&str> = problems.iter().map(|problem| problem.message.as_str()).collect();
    anyhow!("{kind} `{name}` cannot be built: {}", problems.join("; "))
}

fn first_eight(bytes: &[u8; 16]) -> [u8; 8] {
    std::array::from_fn(|i| bytes[i])
}

/// What the buffers of all sinks hold of files.
struct Positions(Vec<Arc<Queue>>);

impl Held for Positions {
    fn held(&self, file: &FileKey) -> Vec<(usize, RangeSet)> {
        self.0.iter().enumerate().filter_map(|(index, queue)| Some((index, queue.held(file)?))).collect()
    }

    fn files(&self) -> Vec<FileKey> {
        let all: std::collections::BTreeSet<FileKey> = self.0.iter().flat_map(|queue| queue.files()).collect();
        all.into_iter().collect()
    }

    fn is_delivered(&self, file: &FileKey) -> bool {
        self.0.iter().all(|queue| queue.is_delivered(file))
    }

    fn forget(&self, file: &FileKey) {
        self.0.iter().for_each(|queue| queue.forget(file));
    }
}
