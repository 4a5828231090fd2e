//! The worker's beginning: the sources, and the ways from each of them to its sinks.

use std::sync::Arc;

use anyhow::Context;
use skidder_pipeline::position::{FileKey, RangeSet};
use skidder_pipeline::queue::Queue;
use skidder_pipeline::run::{Control, Edge, Feed, Node, Program};
use skidder_pipeline::source::{Held, SinkSet, Source};
use skidder_pipeline::stats::Stats;

use super::{World, not_built};
use crate::config::{Builtin, Kind, Named, NodeId, Pipeline};
use crate::metadata::Metadata;
use crate::sources::{Claims, Leftovers, SourceConfig, SourceContext};

/// What all sources are given.
pub(super) struct Around<'a> {
    pub world: &'a World<'a>,
    pub control: &'a Arc<Control>,
    pub stats: &'a Stats,
    pub new_sinks: SinkSet,
    pub metadata: Option<Arc<Metadata>>,
    /// The configuration whose sources left what is in the estate.
    pub before: Option<&'a Pipeline<Builtin>>,
}

/// What the sources share with each other.
struct Shared {
    held: Arc<dyn Held>,
    claims: Arc<Claims>,
    leftovers: Arc<Leftovers>,
}

pub(super) fn feeds(pipeline: &Pipeline<Builtin>, queues: &[Arc<Queue>], around: &Around<'_>) -> anyhow::Result<Vec<Feed>> {
    let readers = pipeline.sources.iter().filter(|named| named.config.reads_files()).count();
    let shared = Shared {
        held: Arc::new(Positions(queues.to_vec())),
        claims: Arc::new(Claims::of(readers)),
        leftovers: Arc::new(Leftovers::of(readers)),
    };
    let mut feeds = Vec::new();
    for (node, named) in pipeline.graph.nodes(Kind::Source).zip(&pipeline.sources) {
        let feed = program(pipeline, node, &mut vec![0; pipeline.sinks.len()])
            .and_then(|program| Ok((source(pipeline, named, program.sinks(), &shared, around)?, program)));
        match feed {
            Ok((source, program)) => feeds.push(Feed::new(source, program)),
            Err(error) => {
                // What they took over is for whoever comes in their place.
                feeds.iter_mut().for_each(Feed::leave);
                return Err(error);
            }
        }
    }
    Ok(feeds)
}

fn source(
    pipeline: &Pipeline<Builtin>,
    named: &Named<SourceConfig>,
    sinks: SinkSet,
    shared: &Shared,
    around: &Around<'_>,
) -> anyhow::Result<Box<dyn Source>> {
    let Around { world, control, stats, new_sinks, metadata, before } = around;
    let control = (*control).clone();
    let is_same = |before: &&Named<SourceConfig>| before.name == named.name && before.given == named.given;
    let source = named.config.build(SourceContext {
        name: named.name.clone(),
        base_dir: pipeline.base_dir.clone(),
        sinks,
        new_sinks: new_sinks.and(sinks),
        held: shared.held.clone(),
        claims: shared.claims.clone(),
        estate: world.estate.clone(),
        is_same: before.is_some_and(|before| before.sources.iter().any(|source| is_same(&source))),
        leftovers: shared.leftovers.clone(),
        stats: stats.sources.get(&named.name).cloned().unwrap_or_default(),
        clock: world.clock.clone(),
        // One for all, so that a source that is renamed goes on where it stood.
        metadata: metadata.clone(),
        state_dir: world.state.dir().join("sources"),
        epoch: world.state.epoch(),
        once: world.once,
        wake: Arc::new(move || control.wake()),
    });
    source.with_context(|| format!("source `{}` cannot start", named.name))
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
