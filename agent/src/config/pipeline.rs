//! A configuration without mistakes.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::given::Given;
use super::global::Global;
use super::graph::Graph;
use super::registry::{Component, Kind, Registry};

/// A configuration without mistakes, ready to run. All lists are in the order of the file.
pub struct Pipeline<R: Registry> {
    /// The directory of the configuration file, against which relative paths are resolved.
    pub base_dir: PathBuf,
    /// The files that options name: the values of all whose names end in `_file`, and what they lead to.
    pub named_files: Vec<PathBuf>,
    /// The options of the agent as a whole.
    pub global: Global,
    /// Where records come from.
    pub sources: Vec<Named<R::Source>>,
    /// What changes them.
    pub transforms: Vec<Named<R::Transform>>,
    /// Where they go; sink *n* is bit *n* of a [`skidder_pipeline::source::SinkSet`].
    pub sinks: Vec<Named<R::Sink>>,
    /// Which component feeds which.
    pub graph: Graph,
}

/// A component and its options.
pub struct Named<C: Component> {
    /// Its name.
    pub name: String,
    /// The value of `type`.
    pub type_name: String,
    /// The options that all of its kind have.
    pub common: C::Common,
    /// The options of its type.
    pub config: C,
    /// All of these as they stand in the file.
    pub given: Given,
}

impl<R: Registry> Pipeline<R> {
    /// A path of the configuration: as it is where it is absolute, else below the directory of the file.
    pub fn resolve(&self, path: impl AsRef<Path>) -> PathBuf {
        self.base_dir.join(path)
    }

    /// The directory of the state, if the file names one.
    pub fn data_dir(&self) -> Option<PathBuf> {
        self.global.data_dir(&self.base_dir)
    }

    /// The same where something has to be kept.
    ///
    /// # Errors
    /// Where the file names none.
    pub fn kept_dir(&self) -> anyhow::Result<PathBuf> {
        self.data_dir().context("the configuration names no `data_dir`, so nothing is kept from one run to the next")
    }

    /// Whether a sink is called `name`.
    pub fn has_sink(&self, name: &str) -> bool {
        self.sinks.iter().any(|sink| sink.name == name)
    }

    /// The components and what feeds them, a line each.
    pub fn summary(&self) -> String {
        let names: Vec<(&str, &str)> = names(&self.sources).chain(names(&self.transforms)).chain(names(&self.sinks)).collect();
        let name_width = names.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let type_width = names.iter().map(|(_, type_name)| type_name.len()).max().unwrap_or(0);
        let mut out = String::new();
        for (node, (name, type_name)) in Kind::ALL.into_iter().flat_map(|kind| self.graph.nodes(kind)).zip(&names) {
            let kind = self.graph.kind(node).0.singular();
            let inputs = self.graph.inputs(node).iter().filter_map(|input| names.get(input.0)).map(|(name, _)| *name);
            let inputs = inputs.collect::<Vec<_>>().join(", ");
            let arrow = if inputs.is_empty() { "" } else { "  ← " };
            let line = format!("  {kind:<9}  {name:<name_width$}  {type_name:<type_width$}{arrow}{inputs}");
            let _ = writeln!(out, "{}", line.trim_end());
        }
        out
    }
}

fn names<C: Component>(list: &[Named<C>]) -> impl Iterator<Item = (&str, &str)> {
    list.iter().map(|named| (named.name.as_str(), named.type_name.as_str()))
}
