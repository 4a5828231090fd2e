//! The configuration: from one TOML file to a [`Pipeline`], or to all that is wrong with it.
//!
//! The types of the components say everything once: serde reads them, schemars makes of them the JSON schema, and of that
//! come the checks with line and column (`walk`), the reference (`reference`) and the schema for editors. The order is
//!
//! 1. bytes → text → spanned tree, with all mistakes of syntax (`document`);
//! 2. variables of the environment into the strings of the tree (`variables`);
//! 3. each component beside its schema, then through serde, then through its own `check` (`components`);
//! 4. `inputs` → [`Graph`] (`wiring`).
//!
//! No step stops at its first mistake, and a later one runs on what the earlier one left whole.

mod changes;
mod components;
mod diagnostic;
mod document;
mod expected;
mod given;
mod global;
mod graph;
mod number;
mod pipeline;
mod reference;
mod registry;
mod schema;
mod sound;
mod suggest;
mod variables;
mod walk;
mod wiring;

use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

pub use self::changes::Changes;
pub use self::diagnostic::{Diagnostic, Diagnostics, Severity, SourceText};
pub use self::given::Given;
pub use self::global::{ApiConfig, Global};
pub use self::graph::{Graph, MAX_ROUTES, NodeId, Route};
pub use self::pipeline::{Named, Pipeline};
pub use self::registry::{Builtin, Component, Kind, OnReject, Place, Registry, SinkCommon, SourceCommon, StartFrom, TransformCommon};
pub use self::schema::FileSchema;
pub use self::variables::Environment;

use self::components::{Entry, Reader};
use self::document::MAX_FILE_BYTES;
use self::sound::locate;
use self::variables::Variables;
use self::walk::Walk;

/// What came of reading a configuration.
pub struct Checked<R: Registry> {
    /// The configuration, if there was no error.
    pub pipeline: Option<Pipeline<R>>,
    /// Errors and warnings.
    pub diagnostics: Diagnostics,
    /// The file, to show them with.
    pub file: SourceText,
}

impl<R: Registry> Checked<R> {
    /// The errors and warnings as text.
    pub fn report(&self, colour: bool) -> String {
        self.diagnostics.render(&self.file, colour)
    }
}

/// Reads and checks the file at `path`, with the variables of the process.
///
/// # Errors
/// Where the file cannot be read. What is wrong with its content is in the [`Checked`].
pub fn load<R: Registry>(path: &Path) -> anyhow::Result<Checked<R>> {
    let bytes = read(path).map_err(|error| anyhow::anyhow!("cannot read the configuration `{}`: {error}", path.display()))?;
    let base_dir = std::path::absolute(path)?.parent().map(Path::to_owned).unwrap_or_default();
    Ok(check(&path.display().to_string(), &bytes, base_dir, &|name| std::env::var(name).ok()))
}

/// Checks the bytes of a file that is called `name` and stands in `base_dir`.
pub fn check<R: Registry>(name: &str, bytes: &[u8], base_dir: PathBuf, environment: Environment<'_>) -> Checked<R> {
    let mut diagnostics = Diagnostics::default();
    let file = document::decode(name, bytes, &mut diagnostics);
    // A file that is no text is not looked at any further.
    let pipeline = (diagnostics.errors() == 0).then(|| check_text(&file.text, base_dir, environment, &mut diagnostics)).flatten();
    diagnostics.sort();
    Checked { pipeline, diagnostics, file }
}

fn check_text<R: Registry>(
    text: &str,
    base_dir: PathBuf,
    environment: Environment<'_>,
    diagnostics: &mut Diagnostics,
) -> Option<Pipeline<R>> {
    let document = document::parse(text, diagnostics);
    let mut found = Diagnostics::default();
    let pipeline = check_tree(&document.root, text, base_dir, environment, &mut found);
    document.forget_consequences(&mut found);
    found.iter().for_each(|d| diagnostics.push(d.clone()));
    pipeline.filter(|_| diagnostics.errors() == 0)
}

fn check_tree<R: Registry>(
    root: &DeTable<'_>,
    text: &str,
    base_dir: PathBuf,
    environment: Environment<'_>,
    found: &mut Diagnostics,
) -> Option<Pipeline<R>> {
    let schema = FileSchema::of::<R>();
    let variables = Variables::find(root, text, environment, found);
    let mut root = root.clone();
    variables.put_into(&mut root);
    let named_files = named_files(&root, &base_dir);

    let global = global(&mut root, &schema, &variables, found);
    let [sources, transforms, sinks] = schema.sections.as_slice() else { return None };
    let data_dir = global.as_ref().and_then(|global| global.data_dir(&base_dir));
    let mut reader =
        Reader { schema: &schema, section: sources, variables: &variables, base_dir: &base_dir, data_dir: data_dir.as_deref(), found };
    let sources: Vec<Entry<R::Source>> = reader.read(&mut root);
    reader.section = transforms;
    let transforms: Vec<Entry<R::Transform>> = reader.read(&mut root);
    reader.section = sinks;
    let sinks: Vec<Entry<R::Sink>> = reader.read(&mut root);

    let nodes = sources.iter().map(|e| &e.node).chain(transforms.iter().map(|e| &e.node)).chain(sinks.iter().map(|e| &e.node));
    let graph = wiring::resolve(&nodes.cloned().collect::<Vec<_>>(), found);
    between_sources::<R>(&sources, &base_dir, found);
    if let Some(graph) = &graph {
        let redacts: Vec<bool> = transforms.iter().map(|entry| entry.type_name == "redact").collect();
        let required = global.as_ref().is_some_and(|global| global.require_redaction);
        let sinks: Vec<&wiring::Node> = sinks.iter().map(|entry| &entry.node).collect();
        wiring::check_redaction(graph, &redacts, &sinks, required, found);
    }
    variables.conceal_all(found);
    Some(Pipeline {
        base_dir,
        named_files,
        global: global?,
        sources: named(sources)?,
        transforms: named(transforms)?,
        sinks: named(sinks)?,
        graph: graph?,
    })
}

/// What is wrong with sources only beside one another.
fn between_sources<R: Registry>(sources: &[Entry<R::Source>], base_dir: &Path, found: &mut Diagnostics) {
    let configs: Vec<_> = sources.iter().map(|entry| entry.options.as_ref().map(|(_, own)| own)).collect();
    for (first, second, problem) in R::check_sources(&configs, base_dir) {
        let (first, second) = (&sources[first].node, &sources[second].node);
        let key = diagnostic::join(second.kind.section(), &second.name);
        let mut diagnostic = Diagnostic::error(key, second.span.clone(), problem.message).also(first.span.clone(), "this one");
        diagnostic.help.extend(problem.help);
        found.push(diagnostic);
    }
}

/// The options at the top; the sections, which stand beside them, are only known by name here.
fn global(root: &mut DeTable<'_>, schema: &FileSchema, variables: &Variables, found: &mut Diagnostics) -> Option<Global> {
    let mut top = schema.global.clone();
    if let Some(properties) = top.get_mut("properties").and_then(|p| p.as_object_mut()) {
        properties.extend(Kind::ALL.map(|kind| (kind.section().to_owned(), true.into())));
    }
    let before = found.errors();
    Walk { definitions: &schema.definitions, variables, found }.table(root, 0..0, &top, "");
    if found.errors() > before {
        return None;
    }
    let mut options = root.clone();
    Kind::ALL.iter().for_each(|kind| drop(options.remove(kind.section())));
    let options = Spanned::new(0..0, DeValue::Table(options));
    match Global::deserialize(ValueDeserializer::from(options.clone())) {
        Ok(global) => {
            let problems = global.check();
            for problem in &problems {
                let mut error = Diagnostic::error(problem.path.join("."), locate(&options, &problem.path).0, &problem.message);
                error.help.extend(problem.help.clone());
                found.push(variables.conceal(error));
            }
            problems.is_empty().then_some(global)
        }
        Err(error) => {
            found.push(Diagnostic::error("", error.span(), error.message()));
            None
        }
    }
}

/// The values of options whose names end in `_file`, in whatever table they stand, and the files of keys for pseudonyms.
fn named_files(table: &DeTable<'_>, base_dir: &Path) -> Vec<PathBuf> {
    let is_key = table.contains_key("id");
    let below = |(key, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
        let key: &std::borrow::Cow<'_, str> = key.get_ref();
        match value.get_ref() {
            DeValue::String(path) if key.ends_with("_file") => vec![base_dir.join(&**path)],
            DeValue::String(path) if key == "file" && is_key => std::path::absolute(&**path).into_iter().collect(),
            DeValue::Table(table) => named_files(table, base_dir),
            DeValue::Array(items) => {
                let tables = items.iter().filter_map(|item| item.get_ref().as_table());
                tables.flat_map(|table| named_files(table, base_dir)).collect()
            }
            _ => Vec::new(),
        }
    };
    table.iter().flat_map(below).collect()
}

fn named<C: Component>(entries: Vec<Entry<C>>) -> Option<Vec<Named<C>>> {
    let named = |entry: Entry<C>| {
        let (common, config) = entry.options?;
        Some(Named { name: entry.node.name, type_name: entry.type_name, common, config, given: entry.given? })
    };
    entries.into_iter().map(named).collect()
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > MAX_FILE_BYTES {
        return Err(std::io::Error::other(format!("it is larger than {MAX_FILE_BYTES} bytes")));
    }
    Ok(bytes)
}
