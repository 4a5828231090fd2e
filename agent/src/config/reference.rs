//! The reference: a TOML file with every option of every component, made from the types and their doc comments.

use std::fmt::Write as _;

use serde_json::Value;

use super::expected::{Wanted, of_type, wanted};
use super::registry::Kind;
use super::schema::{Definitions, FileSchema, Object, Section, choices, doc, properties, required};

/// Tables within tables are shown to this depth: conditions contain conditions without end.
const MAX_DEPTH: usize = 4;

/// Comments are wrapped at this width.
const MAX_LINE_CHARS: usize = 110;

impl FileSchema {
    /// Every option with its documentation, type and default, as TOML that can be read back.
    pub fn reference(&self) -> String {
        let mut writer = Writer { definitions: &self.definitions, out: String::new(), input: String::new() };
        writer.comment(
            "Every option of Skidder, with its type and default. Made by `skidder schema --reference` from the types in the code: do not \
             edit it, and do not run it as it is. A component's name (`file_source`) is free; its `type` is not. An option that \
             begins with `#` has no default: without it, it is off or decided at run time.",
        );
        writer.table("", &self.global, &Table { live: true, default: None, depth: 0 });
        for section in &self.sections {
            writer.section(section);
        }
        format!("{}\n", writer.out.trim_end())
    }
}

struct Writer<'a> {
    definitions: &'a Definitions,
    out: String,
    /// What stands in `inputs`: the first source.
    input: String,
}

/// How a table is written.
struct Table<'a> {
    /// Whether it is part of the file or commented out.
    live: bool,
    /// The default of the whole table.
    default: Option<&'a Value>,
    depth: usize,
}

/// A table below another.
struct Block<'a> {
    name: &'a str,
    is_array: bool,
    schema: Object,
    live: bool,
    default: Option<&'a Value>,
    heading: String,
}

impl Writer<'_> {
    fn section(&mut self, section: &Section) {
        let kind = section.kind;
        let title = format!("{}{}", kind.section()[..1].to_uppercase(), &kind.section()[1..]);
        self.out.push_str(&format!("\n# {}\n", "=".repeat(MAX_LINE_CHARS - 2)));
        self.comment(&format!("{title}. {}", section.doc));
        for of_type in &section.types {
            let name = format!("{}_{}", of_type.name, kind.singular());
            self.out.push('\n');
            self.comment(&doc(&of_type.schema));
            self.out.push_str(&format!("[{}.{name}]\n", kind.section()));
            self.table(&format!("{}.{name}", kind.section()), &of_type.schema, &Table { live: true, default: None, depth: 0 });
            if kind == Kind::Source && self.input.is_empty() {
                self.input = name;
            }
        }
    }

    /// The options of a table whose header was written: first the values, then the tables below.
    fn table(&mut self, path: &str, schema: &Object, how: &Table<'_>) {
        let mut blocks = Vec::new();
        for (name, property) in properties(schema) {
            if let Some(tag) = property.get("const") {
                self.line(how.live, &format!("{name} = {}", inline(tag)));
                continue;
            }
            let property_default = property.get("default").filter(|default| !default.is_null());
            let default = how.default.and_then(|table| table.get(name)).filter(|default| !default.is_null()).or(property_default);
            let is_required = required(schema).any(|required| required == name);
            let live = how.live && (is_required || default.is_some());
            let alternatives = self.definitions.alternatives(property);
            let heading = self.heading(property, &alternatives, default, is_required);
            let below = self.blocks(name, &alternatives, live && is_required, default, &heading);
            let only_tables = !below.is_empty() && alternatives.iter().all(|a| is_table(a) || self.is_array_of_tables(a));
            if !only_tables {
                self.out.push('\n');
                self.comment(&heading);
                let value = self.value(name, property, &alternatives, default);
                self.line(live, &format!("{name} = {value}"));
            }
            blocks.extend(below);
        }
        if how.depth < MAX_DEPTH {
            blocks.iter().for_each(|block| self.block(path, block, how.depth + 1));
        }
    }

    fn block(&mut self, path: &str, block: &Block<'_>, depth: usize) {
        let path = if path.is_empty() { block.name.to_owned() } else { format!("{path}.{}", block.name) };
        self.out.push('\n');
        self.comment(&block.heading);
        self.line(block.live, &if block.is_array { format!("[[{path}]]") } else { format!("[{path}]") });
        self.table(&path, &block.schema, &Table { live: block.live, default: block.default, depth });
    }

    /// The tables that an option can hold, each a way to write it.
    fn blocks<'a>(&self, name: &'a str, alternatives: &[Object], live: bool, default: Option<&'a Value>, heading: &str) -> Vec<Block<'a>> {
        let mut blocks: Vec<Block<'a>> = Vec::new();
        let mut add = |schema: Object, is_array: bool| {
            let (is_first, doc) = (blocks.is_empty(), doc(&schema));
            let default = default.filter(|default| default.is_object() && !is_array);
            // The first stands for all: the others are other ways to write the same.
            let heading = match is_first {
                true if doc.is_empty() || heading.contains(&doc) => heading.to_owned(),
                true => format!("{heading}\n\n{doc}"),
                false => format!("Or: {doc}"),
            };
            blocks.push(Block { name, is_array, schema, live: is_first && (live || default.is_some()), default, heading });
        };
        for alternative in alternatives {
            if is_table(alternative) {
                add(alternative.clone(), false);
            } else {
                self.items(alternative).into_iter().filter(is_table).for_each(|item| add(item, true));
            }
        }
        blocks
    }

    /// The documentation, the type and the default.
    fn heading(&self, property: &Value, alternatives: &[Object], default: Option<&Value>, is_required: bool) -> String {
        let mut text = property.as_object().map(doc).filter(|doc| !doc.is_empty()).unwrap_or_else(|| match alternatives {
            [only] => doc(only),
            _ => String::new(),
        });
        if !text.is_empty() {
            text.push_str("\n\n");
        }
        let requirement = match default {
            _ if is_required => "Required.".to_owned(),
            Some(default) if !default.is_object() => format!("Default: `{}`.", inline(default)),
            _ => "Optional.".to_owned(),
        };
        let items: Vec<Object> = alternatives.iter().flat_map(|a| self.items(a)).collect();
        let (own, each) = (documented_choices(alternatives), documented_choices(&items));
        if own.is_empty() {
            let mut words = format!("{}{}", wanted(alternatives, self.definitions), bounds(alternatives));
            if let Some(doc) = self.definitions.doc_of_choice(property) {
                words = format!("{}: {words}", doc.trim_end_matches('.'));
            }
            if let Some(first) = words.get_mut(..1) {
                first.make_ascii_uppercase();
            }
            let _ = write!(text, "{words}. {requirement}");
        } else {
            let _ = write!(text, "One of the following. {requirement}");
        }
        if !each.is_empty() {
            text.push_str(" Each is one of:");
        }
        for (name, doc) in own.into_iter().chain(each) {
            let doc = doc.split_whitespace().collect::<Vec<_>>().join(" ");
            let _ = write!(text, "\n- `\"{name}\"`{}{doc}", if doc.is_empty() { "" } else { ": " });
        }
        text
    }

    /// A value to stand for an option: its default, the first example, or the plainest of its type.
    fn value(&self, name: &str, property: &Value, alternatives: &[Object], default: Option<&Value>) -> String {
        if name == "inputs" && !self.input.is_empty() {
            return format!("[\"{}\"]", self.input);
        }
        let example = || alternatives.iter().chain(property.as_object()).find_map(|a| a.get("examples")?.get(0));
        if let Some(value) = default.or_else(example) {
            return inline(value);
        }
        let Some(first) = alternatives.iter().find(|a| !is_table(a)).or(alternatives.first()) else { return "\"\"".to_owned() };
        if let Some(choices) = choices(first) {
            return format!("{:?}", choices.first().copied().unwrap_or_default());
        }
        if of_type(first, Wanted::Integer) || of_type(first, Wanted::Number) {
            return first.get("minimum").map_or_else(|| "0".to_owned(), inline);
        }
        match () {
            () if of_type(first, Wanted::Boolean) => "false",
            () if of_type(first, Wanted::Array) => "[]",
            () if of_type(first, Wanted::Table) => "{}",
            () => "\"\"",
        }
        .to_owned()
    }

    fn items(&self, array: &Object) -> Vec<Object> {
        array.get("items").map(|items| self.definitions.alternatives(items)).unwrap_or_default()
    }

    fn is_array_of_tables(&self, schema: &Object) -> bool {
        let items = self.items(schema);
        !items.is_empty() && items.iter().all(is_table)
    }

    /// An option or header; one that is not live is commented out without a blank, unlike prose.
    fn line(&mut self, live: bool, line: &str) {
        let _ = writeln!(self.out, "{}{line}", if live { "" } else { "#" });
    }

    /// Prose, wrapped; paragraphs apart, items of lists on lines of their own.
    fn comment(&mut self, text: &str) {
        for (index, paragraph) in text.trim().split("\n\n").enumerate() {
            if index > 0 {
                self.out.push_str("#\n");
            }
            let mut lines: Vec<String> = Vec::new();
            for line in paragraph.lines() {
                let is_item = line.trim_start().starts_with("- ") || line.trim_start().starts_with("* ");
                match lines.last_mut() {
                    Some(last) if !is_item => last.push_str(&format!(" {}", line.trim())),
                    _ => lines.push(line.trim().to_owned()),
                }
            }
            lines.iter().filter(|line| !line.is_empty()).for_each(|line| self.wrapped(line));
        }
    }

    fn wrapped(&mut self, text: &str) {
        let indent = if text.starts_with("- ") || text.starts_with("* ") { "  " } else { "" };
        let mut line = "#".to_owned();
        for word in text.split_whitespace() {
            if line.chars().count() + 1 + word.chars().count() > MAX_LINE_CHARS {
                let _ = writeln!(self.out, "{line}");
                line = format!("#{indent}");
            }
            line.push(' ');
            line.push_str(word);
        }
        let _ = writeln!(self.out, "{line}");
    }
}

/// Whether the schema is a table of known options; a map of free keys is a value.
fn is_table(schema: &Object) -> bool {
    properties(schema).next().is_some()
}

/// The values to choose from, with what is said about each; none where a line can name them all.
fn documented_choices(alternatives: &[Object]) -> Vec<(&str, String)> {
    // What the only alternative says of itself, the heading has said.
    let doc_of = |a: &Object| if alternatives.len() > 1 { doc(a) } else { String::new() };
    let choices = alternatives.iter().filter_map(|a| Some((choices(a)?, doc_of(a))));
    let choices: Vec<(&str, String)> = choices.flat_map(|(names, doc)| names.into_iter().map(move |n| (n, doc.clone()))).collect();
    if choices.iter().all(|(_, doc)| doc.is_empty()) { Vec::new() } else { choices }
}

fn bounds(alternatives: &[Object]) -> String {
    let bound = |keyword: &str| alternatives.iter().find_map(|a| a.get(keyword)).filter(|bound| bound.as_f64() != Some(0.0));
    match (bound("minimum"), bound("maximum")) {
        (Some(low), Some(high)) => format!(" from {low} to {high}"),
        (Some(low), None) => format!(", at least {low}"),
        (None, Some(high)) => format!(", at most {high}"),
        (None, None) => String::new(),
    }
}

/// A value as TOML on one line.
fn inline(value: &Value) -> String {
    match value {
        Value::Null => "\"\"".to_owned(),
        Value::String(text) => toml::Value::String(text.clone()).to_string(),
        Value::Array(values) => format!("[{}]", values.iter().map(inline).collect::<Vec<_>>().join(", ")),
        Value::Object(object) if object.is_empty() => "{}".to_owned(),
        Value::Object(object) => {
            let entries = object.iter().filter(|(_, value)| !value.is_null()).map(|(key, value)| format!("{key} = {}", inline(value)));
            format!("{{ {} }}", entries.collect::<Vec<_>>().join(", "))
        }
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}
