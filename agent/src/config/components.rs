//! The components of one section: names, types, options, and what they say about themselves.

use std::ops::Range;
use std::path::Path;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::{Diagnostic, Diagnostics, Severity, join};
use super::expected::with_article;
use super::given::Given;
use super::registry::{Component, Kind, Place};
use super::schema::{FileSchema, Section, Type};
use super::sound::{blame, from_table, locate, sound_part};
use super::suggest::{closest, did_you_mean, list};
use super::variables::Variables;
use super::walk::Walk;
use super::wiring::{Input, Node};

/// A name becomes a directory, a label of metrics and a part of addresses.
const MAX_NAME_BYTES: usize = 64;

/// A component as the file has it.
pub struct Entry<C: Component> {
    /// Its place in the graph.
    pub node: Node,
    /// The value of `type`; empty where there is none.
    pub type_name: String,
    /// Its options; `None` where they have mistakes.
    pub options: Option<(C::Common, C)>,
    /// The same as they stand in the file; `None` likewise.
    pub given: Option<Given>,
}

/// Reads the components of one section.
pub struct Reader<'a> {
    /// The schemas of the file.
    pub schema: &'a FileSchema,
    /// Those of its types.
    pub section: &'a Section,
    /// The variables of the file.
    pub variables: &'a Variables,
    /// The directory against which relative paths are resolved.
    pub base_dir: &'a Path,
    /// The directory of the state, where it is known.
    pub data_dir: Option<&'a Path>,
    /// What was found.
    pub found: &'a mut Diagnostics,
}

impl<'a> Reader<'a> {
    /// All components of the section, in the order of the file; those with mistakes without their options.
    pub fn read<C: Component>(&mut self, root: &mut DeTable<'_>) -> Vec<Entry<C>> {
        let kind = self.section.kind;
        let Some(section) = root.get_mut(kind.section()) else { return Vec::new() };
        let span = section.span();
        let found = with_article(section.get_ref().type_str());
        let DeValue::Table(table) = section.get_mut() else {
            let message = format!("expected tables `[{}.<name>]`, found {found}", kind.section());
            self.found.push(Diagnostic::error(kind.section(), span, message).help(self.example()));
            return Vec::new();
        };
        let mut entries: Vec<_> = table.iter_mut().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        entries.into_iter().filter_map(|(key, value)| self.entry(key.get_ref(), key.span(), value)).collect()
    }

    fn entry<C: Component>(&mut self, name: &str, name_span: Range<usize>, value: &mut Spanned<DeValue<'_>>) -> Option<Entry<C>> {
        let kind = self.section.kind;
        let path = join(kind.section(), name);
        let span = value.span();
        let found = with_article(value.get_ref().type_str());
        let DeValue::Table(table) = value.get_mut() else {
            let message = format!("expected a table with the options of a {}, found {found}", kind.singular());
            self.found.push(Diagnostic::error(path, name_span, message).help(self.example()));
            return None;
        };
        self.check_name(name, name_span.clone(), &path);
        if kind == Kind::Source
            && let Some((key, _)) = table.remove_entry("inputs")
        {
            let help = "records begin here; it is the transform or sink behind it that names it in its `inputs`";
            self.found.push(Diagnostic::error(join(&path, "inputs"), key.span(), "a source has no `inputs`").help(help));
        }
        let schema = self.type_of(table, span.clone(), &path);
        if let Some(schema) = schema {
            Walk { definitions: &self.schema.definitions, variables: self.variables, found: self.found }.table(
                table,
                span.clone(),
                &schema.schema,
                &path,
            );
        }
        let inputs = table.get("inputs");
        let node = Node {
            kind,
            name: name.to_owned(),
            span: name_span,
            inputs: if kind == Kind::Source { Some(Vec::new()) } else { inputs.and_then(|value| self.inputs(value)) },
            inputs_span: inputs.map_or(span, Spanned::span),
        };
        let options = schema.and_then(|_| self.options(value, name, &path));
        let given = options.as_ref().and_then(|_| Given::of(value, self.base_dir));
        Some(Entry { node, type_name: schema.map(|schema| schema.name.clone()).unwrap_or_default(), options, given })
    }

    fn check_name(&mut self, name: &str, span: Range<usize>, path: &str) {
        let fine = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if name.is_empty() || !name.chars().all(fine) {
            let message = format!("`{name}` is not a name for a {}", self.section.kind.singular());
            self.found.push(Diagnostic::error(path, span, message).help("a name has letters of the English alphabet, digits, `_` and `-`"));
        } else if name.len() > MAX_NAME_BYTES {
            self.found.push(Diagnostic::error(path, span, format!("the name is longer than {MAX_NAME_BYTES} bytes")));
        }
    }

    fn type_of(&mut self, table: &DeTable<'_>, span: Range<usize>, path: &str) -> Option<&'a Type> {
        let section = self.section;
        let kind = section.kind.singular();
        let names = section.types.iter().map(|t| t.name.as_str());
        let known = format!("known: {}", list(names.clone()));
        let path = join(path, "type");
        let error = match table.get("type") {
            None => Diagnostic::error(path, span, "missing `type`").help(known).absence(),
            Some(value) if self.variables.unknown(&value.span()) => return None,
            Some(value) => match value.get_ref().as_str() {
                None => {
                    let message = format!("expected a string, found {}", with_article(value.get_ref().type_str()));
                    Diagnostic::error(path, value.span(), message).help(known)
                }
                Some(name) => match section.types.iter().find(|t| t.name == name) {
                    Some(known) => return Some(known),
                    None => {
                        let message = format!("unknown {kind} type `{name}`{}", did_you_mean(closest(name, names)));
                        Diagnostic::error(path, value.span(), message).help(known)
                    }
                },
            },
        };
        self.found.push(error);
        None
    }

    fn inputs(&self, value: &Spanned<DeValue<'_>>) -> Option<Vec<Input>> {
        let input = |value: &Spanned<DeValue<'_>>| {
            let name = value.get_ref().as_str().filter(|_| !self.variables.unknown(&value.span()))?;
            Some(Input { name: name.to_owned(), span: value.span() })
        };
        value.get_ref().as_array()?.iter().map(input).collect()
    }

    /// The options as their types, if there was no mistake.
    ///
    /// Where there was one, the component is asked all the same what it thinks of the rest, so that a misspelt option does
    /// not hide a bad expression beside it.
    fn options<C: Component>(&mut self, value: &Spanned<DeValue<'_>>, name: &str, path: &str) -> Option<(C::Common, C)> {
        let below = format!("{path}.");
        let is_ours = |d: &&Diagnostic| d.severity == Severity::Error && (d.key == path || d.key.starts_with(&below));
        let mistakes: Vec<Range<usize>> = self.found.iter().filter(is_ours).filter_map(|d| d.span.clone()).collect();
        let mut whole = mistakes.is_empty();
        let sound = sound_part(value.get_ref().as_table()?, &mistakes);
        let mut own = sound.clone();
        let sound = Spanned::new(value.span(), DeValue::Table(sound));
        let mut common = DeTable::new();
        for name in &self.section.common {
            if let Some((key, value)) = own.remove_entry(name.as_str()) {
                common.insert(key, value);
            }
        }
        let common: Option<C::Common> = self.deserialize(common, value.span(), path, &mut whole);
        let own: Option<C> = self.deserialize(own, value.span(), path, &mut whole);
        let (common, own) = (common?, own?);
        let problems = own.check(&common, &Place { name, base_dir: self.base_dir, data_dir: self.data_dir });
        for problem in &problems {
            let (span, exact) = locate(&sound, &problem.path);
            if whole || (exact && !problem.path.is_empty()) {
                let key = problem.path.iter().fold(path.to_owned(), |path, key| join(&path, key));
                let mut error = Diagnostic::error(key, span, &problem.message);
                error.help.extend(problem.help.clone());
                self.found.push(self.variables.conceal(error));
            }
        }
        (whole && problems.is_empty()).then_some((common, own))
    }

    /// The table as its type. What serde refuses is reported and left out, as long as something is left that it takes;
    /// `whole` is then false. Where it is false already, an option may be missing that was left out before.
    fn deserialize<T: DeserializeOwned>(&mut self, mut table: DeTable<'_>, span: Range<usize>, path: &str, whole: &mut bool) -> Option<T> {
        loop {
            let error = match from_table::<T>(&table, &span) {
                Ok(value) => return Some(value),
                Err(error) => error,
            };
            // What is missing is nobody's fault that is there; the walk has seen it, or it was left out.
            let is_missing = error.message().starts_with("missing field");
            let blamed = (!is_missing).then(|| blame::<T>(&table, &span, path, error.message(), &self.schema.tags())).flatten();
            if blamed.is_some() || *whole {
                let (key, at) = blamed.as_ref().map_or((path, span.clone()), |entry| (&*entry.path, entry.value.clone()));
                self.found.push(self.variables.conceal(Diagnostic::error(key, at, error.message())));
            }
            *whole = false;
            table = sound_part(&table, &[blamed?.key]);
        }
    }

    fn example(&self) -> String {
        let kind = self.section.kind;
        format!("each {} has a table with a name: `[{}.my_{}]`", kind.singular(), kind.section(), kind.singular())
    }
}
