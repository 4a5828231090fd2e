//! Which component feeds which: the graph that the run loop compiles.

use std::ops::Range;

use skidder_pipeline::source::SinkSet;

use super::registry::Kind;

/// The most ways on which records of one source may reach one sink: [`skidder_pipeline::id::RecordIds`] numbers them in
/// a byte.
pub const MAX_ROUTES: usize = 256;

/// A component's number: the sources come first, then the transforms, then the sinks, each in the order of the file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct NodeId(pub usize);

/// A directed graph without cycles.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Graph {
    counts: [usize; 3],
    inputs: Vec<Vec<NodeId>>,
    outputs: Vec<Vec<NodeId>>,
    order: Vec<NodeId>,
}

/// One way from a source to a sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The sink, by its place among the sinks.
    pub sink: usize,
    /// Which of the ways from this source to this sink it is: 0 for the first, and for the only one.
    pub number: u8,
    /// The transforms on the way, by their places among the transforms.
    pub transforms: Vec<usize>,
}

impl Graph {
    /// A graph of so many sources, transforms and sinks, with the inputs of each node. `None` where there is a cycle.
    pub fn new(counts: [usize; 3], inputs: Vec<Vec<NodeId>>) -> Option<Graph> {
        let mut outputs = vec![Vec::new(); inputs.len()];
        for (to, from) in inputs.iter().enumerate().flat_map(|(to, inputs)| inputs.iter().map(move |from| (to, *from))) {
            outputs.get_mut(from.0)?.push(NodeId(to));
        }
        let order = order(&inputs, &outputs);
        (order.len() == inputs.len()).then_some(Graph { counts, inputs, outputs, order })
    }

    /// What kind a node is, and its place among those of that kind.
    pub fn kind(&self, node: NodeId) -> (Kind, usize) {
        let [sources, transforms, _] = self.counts;
        match node.0 {
            n if n < sources => (Kind::Source, n),
            n if n < sources + transforms => (Kind::Transform, n - sources),
            n => (Kind::Sink, n - sources - transforms),
        }
    }

    /// The nodes of a kind, in the order of the file.
    pub fn nodes(&self, kind: Kind) -> impl Iterator<Item = NodeId> + use<> {
        let [sources, transforms, sinks] = self.counts;
        let range: Range<usize> = match kind {
            Kind::Source => 0..sources,
            Kind::Transform => sources..sources + transforms,
            Kind::Sink => sources + transforms..sources + transforms + sinks,
        };
        range.map(NodeId)
    }

    /// The nodes that feed this one, as its `inputs` name them.
    pub fn inputs(&self, node: NodeId) -> &[NodeId] {
        self.inputs.get(node.0).map_or(&[], Vec::as_slice)
    }

    /// The nodes that this one feeds, in the order of their numbers.
    pub fn outputs(&self, node: NodeId) -> &[NodeId] {
        self.outputs.get(node.0).map_or(&[], Vec::as_slice)
    }

    /// All nodes, each after those that feed it.
    pub fn order(&self) -> &[NodeId] {
        &self.order
    }

    /// The ways from a node to the sinks, in the order in which a walk takes them that goes to a node's outputs in the
    /// order of their numbers. The number of a route is part of the ids of its records.
    pub fn routes(&self, from: NodeId) -> Vec<Route> {
        // Without the nodes from which no sink is reached, so that every step of the walk is a part of some route.
        let mut useful = vec![false; self.inputs.len()];
        for node in self.order.iter().rev() {
            useful[node.0] = self.kind(*node).0 == Kind::Sink || self.outputs(*node).iter().any(|output| useful[output.0]);
        }
        let (taken, transforms, routes) = (vec![0; self.counts[2]], Vec::new(), Vec::new());
        let mut walk = RouteWalk { graph: self, useful, taken, transforms, routes };
        walk.visit(from);
        walk.routes
    }

    /// How many ways there are from a node to each sink, counted without walking them all.
    pub fn route_counts(&self, from: NodeId) -> Vec<usize> {
        let mut ways = vec![0_usize; self.inputs.len()];
        if let Some(start) = ways.get_mut(from.0) {
            *start = 1;
        }
        for node in &self.order {
            if *node != from {
                ways[node.0] = self.inputs(*node).iter().fold(0, |sum, input| sum.saturating_add(ways[input.0]));
            }
        }
        self.nodes(Kind::Sink).map(|sink| ways[sink.0]).collect()
    }

    /// The sinks that records of this node can reach.
    pub fn sinks(&self, from: NodeId) -> SinkSet {
        let reached = self.route_counts(from).into_iter().enumerate().take(SinkSet::CAPACITY).filter(|(_, ways)| *ways > 0);
        reached.fold(SinkSet::default(), |set, (sink, _)| set.or(SinkSet::only(sink)))
    }
}

struct RouteWalk<'a> {
    graph: &'a Graph,
    useful: Vec<bool>,
    taken: Vec<usize>,
    transforms: Vec<usize>,
    routes: Vec<Route>,
}

impl RouteWalk<'_> {
    fn visit(&mut self, node: NodeId) {
        if !self.useful[node.0] {
            return;
        }
        let graph = self.graph;
        let (kind, index) = graph.kind(node);
        match kind {
            Kind::Sink => {
                // More than fit are refused with the configuration.
                if let Ok(number) = u8::try_from(self.taken[index]) {
                    self.routes.push(Route { sink: index, number, transforms: self.transforms.clone() });
                }
                self.taken[index] += 1;
            }
            Kind::Transform => {
                self.transforms.push(index);
                graph.outputs(node).iter().for_each(|next| self.visit(*next));
                self.transforms.pop();
            }
            Kind::Source => graph.outputs(node).iter().for_each(|next| self.visit(*next)),
        }
    }
}

/// Kahn's order; nodes of a cycle, and those behind one, are left out.
fn order(inputs: &[Vec<NodeId>], outputs: &[Vec<NodeId>]) -> Vec<NodeId> {
    let mut waiting: Vec<usize> = inputs.iter().map(Vec::len).collect();
    let mut order: Vec<NodeId> = (0..inputs.len()).filter(|node| waiting[*node] == 0).map(NodeId).collect();
    let mut next = 0;
    while let Some(node) = order.get(next).copied() {
        next += 1;
        for output in &outputs[node.0] {
            waiting[output.0] -= 1;
            if waiting[output.0] == 0 {
                order.push(*output);
            }
        }
    }
    order
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn graph(counts: [usize; 3], edges: &[(usize, usize)]) -> Option<Graph> {
        let mut inputs = vec![Vec::new(); counts.iter().sum()];
        for (from, to) in edges {
            inputs[*to].push(NodeId(*from));
        }
        Graph::new(counts, inputs)
    }

    #[test]
    fn numbers_the_routes_of_each_sink() {
        // app → parse → out, app → out, app → parse → also
        let graph = graph([1, 1, 2], &[(0, 1), (1, 2), (0, 2), (1, 3)]).unwrap();
        let routes = graph.routes(NodeId(0));
        let route = |sink, number, transforms: &[usize]| Route { sink, number, transforms: transforms.to_vec() };
        assert_eq!(routes, [route(0, 0, &[0]), route(1, 0, &[0]), route(0, 1, &[])]);
        assert_eq!(graph.route_counts(NodeId(0)), [2, 1]);
        assert_eq!(graph.sinks(NodeId(0)), SinkSet(0b11));
        assert_eq!(graph.kind(NodeId(3)), (Kind::Sink, 1));
    }

    #[test]
    fn orders_nodes_after_their_inputs_and_refuses_cycles() {
        let fine = graph([1, 3, 1], &[(0, 3), (3, 2), (2, 1), (1, 4)]).unwrap();
        assert_eq!(fine.order(), [NodeId(0), NodeId(3), NodeId(2), NodeId(1), NodeId(4)]);
        assert_eq!(graph([1, 2, 1], &[(0, 1), (1, 2), (2, 1), (2, 3)]), None);
    }

    #[test]
    fn counts_routes_without_walking_them() {
        // Sixty diamonds in a row: 2^60 ways to the first sink, which is refused elsewhere.
        let mut edges = Vec::new();
        let mut last = 0;
        for diamond in 0..60 {
            let first = 1 + diamond * 3;
            edges.extend([(last, first), (last, first + 1), (first, first + 2), (first + 1, first + 2)]);
            last = first + 2;
        }
        let to_sink: Vec<_> = edges.iter().copied().chain([(last, 181), (1, 182)]).collect();
        assert_eq!(graph([1, 180, 2], &to_sink).unwrap().route_counts(NodeId(0)), [1 << 60, 1]);
        // As many ways to nowhere cost nothing.
        let nowhere: Vec<_> = edges.into_iter().chain([(1, 181)]).collect();
        assert_eq!(graph([1, 180, 1], &nowhere).unwrap().routes(NodeId(0)).len(), 1);
    }
}
