//! From the `inputs` that the file names to the graph, with all that is wrong with them.

use std::collections::HashMap;
use std::ops::Range;

use skidder_pipeline::source::SinkSet;

use super::diagnostic::{Diagnostic, Diagnostics, join};
use super::graph::{Graph, MAX_ROUTES, NodeId};
use super::registry::Kind;
use super::suggest::{closest, did_you_mean, list};

/// More than this no pipeline has; the walks over the graph go as deep as its longest way.
const MAX_COMPONENTS: usize = 1024;

/// A component as far as the graph is concerned.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Where the name stands.
    pub span: Range<usize>,
    /// What it takes; `None` where the file does not say it in a way that can be understood, which was reported.
    pub inputs: Option<Vec<Input>>,
    /// Where the value of `inputs` stands, or else the component.
    pub inputs_span: Range<usize>,
}

/// One element of `inputs`.
#[derive(Clone, Debug)]
pub struct Input {
    /// A name, perhaps with `*` at its end.
    pub name: String,
    /// Where it stands.
    pub span: Range<usize>,
}

impl Node {
    fn key(&self) -> String {
        join(self.kind.section(), &self.name)
    }
}

/// Reports the sinks that records can reach without passing one of the transforms that `redacts` marks: an error where it is
/// `required`, else a warning where there is such a transform.
pub fn check_redaction(graph: &Graph, redacts: &[bool], sinks: &[&Node], required: bool, found: &mut Diagnostics) {
    if !required && !redacts.contains(&true) {
        return;
    }
    let mut open = vec![false; graph.order().len()];
    for node in graph.order() {
        let is_open = match graph.kind(*node) {
            (Kind::Source, _) => true,
            (Kind::Transform, index) if redacts.get(index) == Some(&true) => false,
            _ => graph.inputs(*node).iter().any(|input| open.get(input.0) == Some(&true)),
        };
        if let Some(place) = open.get_mut(node.0) {
            *place = is_open;
        }
        let (Kind::Sink, index) = graph.kind(*node) else { continue };
        let Some(sink) = sinks.get(index).filter(|_| is_open) else { continue };
        let message = format!("records can reach `{}` without passing a `redact` transform", sink.name);
        let report = if required { Diagnostic::error } else { Diagnostic::warning };
        found.push(
            report(sink.key(), Some(sink.span.clone()), message)
                .help("let its `inputs` name a transform of the type `redact`, or one behind it"),
        );
    }
}

/// Finds the node that every input means. The graph is `None` where one could not be made; why is in `found`.
///
/// `nodes` has the sources first, then the transforms, then the sinks.
pub fn resolve(nodes: &[Node], found: &mut Diagnostics) -> Option<Graph> {
    let mut wiring = Wiring { nodes, inputs: Vec::new(), edge_spans: HashMap::new(), unresolved: false, found };
    wiring.names();
    wiring.sections();
    if let Some(node) = nodes.get(MAX_COMPONENTS) {
        let message = format!("there are more than {MAX_COMPONENTS} components");
        found.push(Diagnostic::error(node.key(), node.span.clone(), message));
        return None;
    }
    wiring.inputs();
    wiring.cycles();
    let graph = Graph::new(Kind::ALL.map(|kind| nodes.iter().filter(|n| n.kind == kind).count()), wiring.inputs.clone())?;
    wiring.unused(&graph);
    wiring.routes(&graph);
    Some(graph)
}

struct Wiring<'a> {
    nodes: &'a [Node],
    inputs: Vec<Vec<NodeId>>,
    /// Where in the file the second of two nodes names the first.
    edge_spans: HashMap<(usize, usize), Range<usize>>,
    /// Whether some input is not known, so that what seems unused may only be misspelt.
    unresolved: bool,
    found: &'a mut Diagnostics,
}

impl Wiring<'_> {
    /// One name, one component: names stand in `inputs`, in metrics and in the data directory without their kind.
    fn names(&mut self) {
        let mut by_position: Vec<&Node> = self.nodes.iter().collect();
        by_position.sort_by_key(|node| node.span.start);
        let mut first: HashMap<&str, &Node> = HashMap::new();
        for node in by_position {
            if let Some(other) = first.get(node.name.as_str()) {
                self.unresolved = true;
                let message = format!("the name `{}` is taken by a {}", node.name, other.kind.singular());
                self.found.push(
                    Diagnostic::error(node.key(), node.span.clone(), message)
                        .also(other.span.clone(), "first used here")
                        .help("sources, transforms and sinks share one set of names: give this one another"),
                );
            } else {
                first.insert(&node.name, node);
            }
        }
    }

    fn sections(&mut self) {
        for (kind, help) in [
            (Kind::Source, "add where records come from: `[sources.my_source]` with a `type`"),
            (Kind::Sink, "add where records go: `[sinks.my_sink]` with a `type` and `inputs`"),
        ] {
            // A section of which nothing could be read has an error already.
            let below = format!("{}.", kind.section());
            let is_broken = self.found.iter().any(|d| d.key == kind.section() || d.key.starts_with(&below));
            if !is_broken && !self.nodes.iter().any(|node| node.kind == kind) {
                self.found.push(Diagnostic::error(kind.section(), None, format!("there are no {}", kind.section())).help(help).absence());
            }
        }
        if let Some(node) = self.nodes.iter().filter(|node| node.kind == Kind::Sink).nth(SinkSet::CAPACITY) {
            let message = format!("there are more than {} sinks", SinkSet::CAPACITY);
            self.found.push(Diagnostic::error(node.key(), node.span.clone(), message));
        }
    }

    fn inputs(&mut self) {
        let nodes = self.nodes;
        for (to, node) in nodes.iter().enumerate() {
            let key = format!("{}.inputs", node.key());
            let mut resolved: Vec<NodeId> = Vec::new();
            for (index, input) in node.inputs.iter().flatten().enumerate() {
                let matching = self.matching(input, &format!("{key}.{index}"));
                let is_glob = input.name.ends_with('*');
                for from in matching {
                    if is_glob && (from.0 == to || resolved.contains(&from)) {
                        continue;
                    }
                    if resolved.contains(&from) {
                        let message = format!("`{}` is listed twice", input.name);
                        self.found.push(Diagnostic::error(format!("{key}.{index}"), input.span.clone(), message).help("remove it"));
                        continue;
                    }
                    self.edge_spans.insert((from.0, to), input.span.clone());
                    resolved.push(from);
                }
            }
            self.unresolved |= node.inputs.is_none();
            if node.kind != Kind::Source && node.inputs.as_ref().is_some_and(Vec::is_empty) {
                let message = format!("nothing feeds this {}", node.kind.singular());
                self.found
                    .push(Diagnostic::error(key, node.inputs_span.clone(), message).help(format!("one or more of {}", self.feeders(to))));
            }
            self.inputs.push(resolved);
        }
    }

    /// The sources and transforms that an input means.
    fn matching(&mut self, input: &Input, key: &str) -> Vec<NodeId> {
        let named = |node: &&(usize, &Node)| match input.name.strip_suffix('*') {
            Some(prefix) => node.1.name.starts_with(prefix),
            None => node.1.name == input.name,
        };
        let nodes = self.nodes;
        let feeders: Vec<(usize, &Node)> = nodes.iter().enumerate().filter(|(_, node)| node.kind != Kind::Sink).collect();
        let matching: Vec<NodeId> = feeders.iter().filter(named).map(|(id, _)| NodeId(*id)).collect();
        if input.name.ends_with('*') && !matching.is_empty() {
            return matching;
        }
        // Of two components with one name, which is an error already, the first is meant.
        if let Some(first) = matching.first() {
            return vec![*first];
        }
        self.unresolved = true;
        let known = feeders.iter().map(|(_, node)| node.name.as_str());
        let error = if nodes.iter().any(|node| node.name == input.name) {
            Diagnostic::error(key, input.span.clone(), format!("`{}` is a sink, and a sink feeds nothing", input.name))
                .help(format!("one of {}", list(known)))
        } else if input.name.ends_with('*') {
            Diagnostic::error(key, input.span.clone(), format!("no source or transform has a name like `{}`", input.name))
                .help(format!("there are {}", list(known)))
                .absence()
        } else {
            let suggestion = closest(&input.name, known.clone());
            let message = format!("there is no source or transform `{}`{}", input.name, did_you_mean(suggestion));
            let error = Diagnostic::error(key, input.span.clone(), message).absence();
            if suggestion.is_none() && !feeders.is_empty() { error.help(format!("there are {}", list(known))) } else { error }
        };
        self.found.push(error);
        Vec::new()
    }

    fn feeders(&self, except: usize) -> String {
        let others = self.nodes.iter().enumerate().filter(|(id, node)| node.kind != Kind::Sink && *id != except);
        list(others.map(|(_, node)| node.name.as_str()))
    }

    /// Reports each cycle once, from the node that stands first in the file.
    fn cycles(&mut self) {
        let mut search =
            CycleSearch { inputs: &self.inputs, state: vec![State::New; self.nodes.len()], path: Vec::new(), cycles: Vec::new() };
        (0..self.nodes.len()).for_each(|node| search.visit(node));
        for mut cycle in search.cycles {
            // Found against the stream; shown along it.
            cycle.reverse();
            let first = (0..cycle.len()).min_by_key(|at| self.nodes[cycle[*at]].span.start).unwrap_or(0);
            cycle.rotate_left(first);
            let (Some(to), Some(from)) = (cycle.first().copied(), cycle.last().copied()) else { continue };
            let names: Vec<&str> = cycle.iter().chain([&to]).map(|node| self.nodes[*node].name.as_str()).collect();
            let message = match cycle.len() {
                1 => format!("`{}` feeds itself", names[0]),
                _ => format!("the inputs form a cycle: {}", names.join(" → ")),
            };
            let node = &self.nodes[to];
            let span = self.edge_spans.get(&(from, to)).unwrap_or(&node.span).clone();
            self.found.push(
                Diagnostic::error(format!("{}.inputs", node.key()), span, message)
                    .help("records flow one way: take one of these inputs out"),
            );
        }
    }

    fn unused(&mut self, graph: &Graph) {
        if self.unresolved {
            return;
        }
        for (id, node) in self.nodes.iter().enumerate() {
            if node.kind != Kind::Sink && graph.outputs(NodeId(id)).is_empty() {
                let message = format!("this {} feeds nothing", node.kind.singular());
                self.found.push(
                    Diagnostic::warning(node.key(), node.span.clone(), message)
                        .help(format!("add `\"{}\"` to the `inputs` of a transform or sink, or remove it", node.name))
                        .absence(),
                );
            }
        }
    }

    fn routes(&mut self, graph: &Graph) {
        for source in graph.nodes(Kind::Source) {
            for (sink, ways) in graph.nodes(Kind::Sink).zip(graph.route_counts(source)).filter(|(_, ways)| *ways > MAX_ROUTES) {
                let (source, sink) = (&self.nodes[source.0], &self.nodes[sink.0]);
                let message = format!("there are {ways} ways from `{}` to this sink, more than {MAX_ROUTES}", source.name);
                self.found.push(Diagnostic::error(sink.key(), sink.span.clone(), message).help("every way delivers each record once more"));
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    New,
    OnPath,
    Done,
}

struct CycleSearch<'a> {
    inputs: &'a [Vec<NodeId>],
    state: Vec<State>,
    path: Vec<usize>,
    cycles: Vec<Vec<usize>>,
}

impl CycleSearch<'_> {
    fn visit(&mut self, node: usize) {
        match self.state[node] {
            State::Done => {}
            State::OnPath => {
                let start = self.path.iter().position(|on| *on == node).unwrap_or(0);
                self.cycles.push(self.path[start..].to_vec());
            }
            State::New => {
                self.state[node] = State::OnPath;
                self.path.push(node);
                let inputs = self.inputs;
                inputs[node].iter().for_each(|input| self.visit(input.0));
                self.path.pop();
                self.state[node] = State::Done;
            }
        }
    }
}
