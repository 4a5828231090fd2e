//! The way of one source's records through the transforms to the sinks.

use crate::batch::Batch;
use crate::run::outlet::Outlet;
use crate::source::SinkSet;
use crate::transform::{Report, Transform};

/// A tree: the configuration's graph as one source's records see it. Where two ways meet again the rest stands twice, so
/// that each way has a route number of its own.
pub struct Program {
    edges: Vec<Edge>,
    sinks: SinkSet,
}

/// What comes next.
pub enum Edge {
    /// A transform.
    Node(Box<Node>),
    /// A sink.
    Sink {
        /// Its place among the outlets.
        index: usize,
        /// Which of the ways to this sink it is, from 0: see [`crate::id::RecordIds`].
        route: u8,
    },
}

/// A transform, and what comes after it.
pub struct Node {
    transform: Box<dyn Transform>,
    next: Program,
    /// Where a batch is copied to that goes another way too; kept for its allocations.
    copy: Option<Batch>,
}

impl Node {
    /// `transform`, then `next`.
    pub fn new(transform: Box<dyn Transform>, next: Program) -> Node {
        Node { transform, next, copy: None }
    }
}

impl Edge {
    fn sinks(&self) -> SinkSet {
        match self {
            Edge::Node(node) => node.next.sinks,
            Edge::Sink { index, .. } => SinkSet::only(*index),
        }
    }
}

impl Program {
    /// The ways that lead on from here.
    pub fn new(mut edges: Vec<Edge>) -> Program {
        // Sinks first: they only read, so that the last transform can have the batch itself.
        edges.sort_by_key(|edge| matches!(edge, Edge::Node(_)));
        let sinks = edges.iter().fold(SinkSet::default(), |all, edge| all.or(edge.sinks()));
        Program { edges, sinks }
    }

    /// The sinks that can be reached.
    pub fn sinks(&self) -> SinkSet {
        self.sinks
    }

    /// Takes a batch all the way, to those of its sinks that are in `needs`.
    pub(super) fn run(&mut self, batch: &mut Batch, needs: SinkSet, outlets: &mut [Outlet], report: &mut Report) {
        if batch.is_empty() {
            return;
        }
        let last = self.edges.iter().rposition(|edge| !edge.sinks().and(needs).is_empty());
        for (place, edge) in self.edges.iter_mut().enumerate() {
            if edge.sinks().and(needs).is_empty() {
                continue;
            }
            match edge {
                Edge::Sink { index, route } => outlets[*index].encode(batch, *route),
                Edge::Node(node) if Some(place) == last => node.run(batch, needs, outlets, report),
                Edge::Node(node) => {
                    let mut copy = node.copy.take().unwrap_or_else(|| batch.clone());
                    copy.clone_from(batch);
                    node.run(&mut copy, needs, outlets, report);
                    node.copy = Some(copy);
                }
            }
        }
    }
}

impl Node {
    fn run(&mut self, batch: &mut Batch, needs: SinkSet, outlets: &mut [Outlet], report: &mut Report) {
        self.transform.apply(batch, report);
        self.next.run(batch, needs, outlets, report);
    }
}
