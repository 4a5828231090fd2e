//! Walks a value beside its schema and reports all that does not fit.
//!
//! serde stops at the first mistake and, behind an internally tagged enum, does not know where it is. So the schemas, which
//! are made of the same types, go first; serde has the last word (see `components`).

use std::borrow::Cow;
use std::ops::Range;

use serde_json::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::{Diagnostic, Diagnostics, join};
use super::expected::{Wanted, accepts, of_type, wanted, with_article};
use super::number;
use super::schema::{Definitions, Object, choices, doc, properties, required};
use super::suggest::{closest, did_you_mean, list};
use super::variables::Variables;

/// One walk over a part of a file.
pub struct Walk<'a> {
    /// What `$ref` refers to.
    pub definitions: &'a Definitions,
    /// Which strings were made of variables.
    pub variables: &'a Variables,
    /// What was found.
    pub found: &'a mut Diagnostics,
}

impl Walk<'_> {
    /// Checks `value`, which stands at `path`. A string that was made of a variable becomes a number or a boolean where
    /// one is wanted.
    pub fn value(&mut self, value: &mut Spanned<DeValue<'_>>, schema: &Value, path: &str) {
        if self.variables.unknown(&value.span()) {
            return;
        }
        if schema == &Value::Bool(true) {
            return;
        }
        let alternatives = self.definitions.alternatives(schema);
        self.convert(value, &alternatives);
        let fitting: Vec<&Object> = alternatives.iter().filter(|a| accepts(a, value.get_ref())).collect();
        match fitting.as_slice() {
            [] => self.wrong_type(value, &alternatives, path),
            [only] => self.fit(value, only, path),
            several => match tag_of(several) {
                Some(tag) => self.tagged(value, several, tag, path),
                None if several.iter().all(|a| choices(a).is_some()) => self.choice(value, several, path),
                None => self.nearest(value, several, path),
            },
        }
    }

    /// Checks the entries of a table that stands at `path`, with its header or key at `span`.
    pub fn table(&mut self, table: &mut DeTable<'_>, span: Range<usize>, schema: &Object, path: &str) {
        let mut known = Vec::new();
        for (name, schema) in properties(schema) {
            known.push(name.as_str());
            if let Some(value) = table.get_mut(name.as_str()) {
                self.value(value, schema, &join(path, name));
            }
        }
        for name in required(schema).filter(|name| !table.contains_key(*name)) {
            self.missing(name, span.clone(), schema, path);
        }
        let others = table.iter_mut().filter(|(key, _)| !known.contains(&&**key.get_ref()));
        match schema.get("additionalProperties") {
            Some(Value::Bool(true)) => {}
            None if known.is_empty() => {}
            Some(any @ Value::Object(_)) => others.for_each(|(key, value)| self.value(value, any, &join(path, key.get_ref()))),
            _ => others.for_each(|(key, _)| self.unknown(key.get_ref(), key.span(), schema, path)),
        }
    }

    fn fit(&mut self, value: &mut Spanned<DeValue<'_>>, schema: &Object, path: &str) {
        let span = value.span();
        match value.get_mut() {
            DeValue::String(text) => {
                if let Some(choices) = choices(schema) {
                    self.one_of(text, &choices, span, path);
                } else if text.is_empty() && schema.get("minLength").and_then(Value::as_u64) > Some(0) {
                    self.found.push(Diagnostic::error(path, span, "must not be empty"));
                }
            }
            number @ (DeValue::Integer(_) | DeValue::Float(_)) => {
                if let Some(problem) = number::out_of_bounds(number, schema) {
                    self.found.push(Diagnostic::error(path, span, problem));
                }
            }
            DeValue::Array(array) => {
                let at_least = schema.get("minItems").and_then(Value::as_u64).unwrap_or(0);
                if (array.len() as u64) < at_least {
                    let noun = if at_least == 1 { "element" } else { "elements" };
                    self.found.push(Diagnostic::error(path, span, format!("must have at least {at_least} {noun}")));
                }
                let Some(items) = schema.get("items") else { return };
                for (index, element) in array.iter_mut().enumerate() {
                    self.value(element, items, &format!("{path}.{index}"));
                }
            }
            DeValue::Table(table) => self.table(table, span, schema, path),
            DeValue::Boolean(_) | DeValue::Datetime(_) => {}
        }
    }

    /// Where several alternatives take a value of this kind: the first that fits, or else the one with the fewest mistakes.
    fn nearest(&mut self, value: &mut Spanned<DeValue<'_>>, alternatives: &[&Object], path: &str) {
        let attempts = alternatives.iter().map(|alternative| {
            let mut found = Diagnostics::default();
            let mut value = value.clone();
            Walk { definitions: self.definitions, variables: self.variables, found: &mut found }.fit(&mut value, alternative, path);
            (found, value)
        });
        if let Some((found, nearest)) = attempts.min_by_key(|(found, _)| found.errors()) {
            *value = nearest;
            found.iter().for_each(|d| self.found.push(d.clone()));
        }
    }

    /// A table whose key `tag` says which of the alternatives it is.
    fn tagged(&mut self, value: &mut Spanned<DeValue<'_>>, alternatives: &[&Object], tag: &str, path: &str) {
        let span = value.span();
        let DeValue::Table(table) = value.get_mut() else { return };
        let names: Vec<&str> = alternatives.iter().filter_map(|a| tag_value(a, tag)).collect();
        match table.get(tag) {
            None => self.found.push(
                Diagnostic::error(join(path, tag), span, format!("missing `{tag}`")).help(format!("one of {}", list(names))).absence(),
            ),
            Some(value) => match value.get_ref().as_str() {
                _ if self.variables.unknown(&value.span()) => {}
                None => self.wrong_type(value, &[string_schema()], &join(path, tag)),
                Some(name) => match alternatives.iter().find(|a| tag_value(a, tag) == Some(name)) {
                    Some(alternative) => self.table(table, span, alternative, path),
                    None => self.one_of(name, &names, value.span(), &join(path, tag)),
                },
            },
        }
    }

    fn choice(&mut self, value: &mut Spanned<DeValue<'_>>, alternatives: &[&Object], path: &str) {
        let all: Vec<&str> = alternatives.iter().filter_map(|a| choices(a)).flatten().collect();
        if let Some(text) = value.get_ref().as_str() {
            self.one_of(text, &all, value.span(), path);
        }
    }

    fn one_of(&mut self, text: &str, choices: &[&str], span: Range<usize>, path: &str) {
        if choices.contains(&text) {
            return;
        }
        let suggestion = did_you_mean(closest(text, choices.iter().copied()));
        // An element of an array is called by the name of the array.
        let noun = path.rsplit('.').find(|key| key.parse::<usize>().is_err()).unwrap_or_default();
        self.found.push(
            Diagnostic::error(path, span, format!("`{text}` is no value of `{noun}`{suggestion}"))
                .help(format!("one of {}", list(choices.iter().copied()))),
        );
    }

    fn missing(&mut self, name: &str, span: Range<usize>, schema: &Object, path: &str) {
        let property = properties(schema).find(|(key, _)| *key == name).map(|(_, schema)| schema);
        let mut error = Diagnostic::error(join(path, name), span, format!("missing required option `{name}`")).absence();
        if let Some(property) = property {
            let wanted = wanted(&self.definitions.alternatives(property), self.definitions);
            let doc = property.as_object().map(doc).unwrap_or_default();
            let first = doc.split("\n\n").next().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
            error = error.help(if first.is_empty() { format!("`{name}`: {wanted}") } else { format!("`{name}`, {wanted}: {first}") });
        }
        self.found.push(error);
    }

    fn unknown(&mut self, name: &str, span: Range<usize>, schema: &Object, path: &str) {
        let known: Vec<&str> = properties(schema).filter(|(_, s)| s.get("const").is_none()).map(|(name, _)| name.as_str()).collect();
        let below = || properties(schema).find(|(_, s)| self.has_property(s, name)).map(|(parent, _)| format!("{parent}.{name}"));
        let suggestion = closest(name, known.iter().copied()).map(str::to_owned).or_else(below);
        let message = format!("unknown option `{name}`{}", did_you_mean(suggestion.as_deref()));
        let error = Diagnostic::error(join(path, name), span, message);
        self.found.push(match (suggestion, known.is_empty()) {
            (Some(_), _) => error,
            (None, false) => error.help(format!("known: {}", list(known))),
            (None, true) => error.help("it takes no other options"),
        });
    }

    fn has_property(&self, schema: &Value, name: &str) -> bool {
        self.definitions.alternatives(schema).iter().any(|a| properties(a).any(|(key, _)| key == name))
    }

    fn wrong_type(&mut self, value: &Spanned<DeValue<'_>>, alternatives: &[Object], path: &str) {
        let wanted = wanted(alternatives, self.definitions);
        if self.variables.made(&value.span()) {
            let message = format!("expected {wanted}, and the variable holds something else");
            return self.found.push(Diagnostic::error(path, value.span(), message));
        }
        let found = with_article(value.get_ref().type_str());
        let mut error = Diagnostic::error(path, value.span(), format!("expected {wanted}, found {found}"));
        if let Some(help) = mend(value.get_ref(), alternatives, self.definitions) {
            error = error.help(help);
        }
        self.found.push(error);
    }

    fn convert<'i>(&self, value: &mut Spanned<DeValue<'i>>, alternatives: &[Object]) {
        if !self.variables.made(&value.span()) || alternatives.iter().any(|a| accepts(a, value.get_ref())) {
            return;
        }
        if let DeValue::String(Cow::Borrowed(text)) = value.get_ref()
            && let Some(scalar) = scalar(text)
            && alternatives.iter().any(|a| accepts(a, &scalar))
        {
            *value.get_mut() = scalar;
        }
    }
}

/// The number or boolean that a text is.
fn scalar(text: &str) -> Option<DeValue<'_>> {
    let value = DeValue::parse(text.trim()).ok()?.into_inner();
    matches!(value, DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_)).then_some(value)
}

/// How a value of the wrong type could be written, where that can be told.
fn mend(value: &DeValue<'_>, alternatives: &[Object], definitions: &Definitions) -> Option<String> {
    let takes = |value: &DeValue<'_>| alternatives.iter().any(|a| accepts(a, value));
    match value {
        DeValue::String(text) if scalar(text).is_some_and(|scalar| takes(&scalar)) => {
            Some(format!("write it without quotes: `{}`", text.trim()))
        }
        DeValue::String(_) | DeValue::Integer(_) | DeValue::Boolean(_) | DeValue::Float(_)
            if alternatives
                .iter()
                .filter_map(|a| a.get("items"))
                .any(|items| definitions.alternatives(items).iter().any(|a| accepts(a, value))) =>
        {
            Some("put it between brackets: `[…]`".to_owned())
        }
        DeValue::Integer(_) | DeValue::Boolean(_) | DeValue::Float(_) | DeValue::Datetime(_)
            if alternatives.iter().any(|a| of_type(a, Wanted::String)) =>
        {
            Some("put it between quotes: `\"…\"`".to_owned())
        }
        _ => None,
    }
}

/// The key that tells tables apart: the one that has one fixed value in each.
fn tag_of<'a>(alternatives: &[&'a Object]) -> Option<&'a str> {
    let (first, rest) = alternatives.split_first()?;
    properties(first)
        .map(|(name, _)| name.as_str())
        .find(|name| tag_value(first, name).is_some() && rest.iter().all(|other| tag_value(other, name).is_some()))
}

fn tag_value<'a>(alternative: &'a Object, tag: &str) -> Option<&'a str> {
    properties(alternative).find(|(name, _)| *name == tag)?.1.get("const")?.as_str()
}

fn string_schema() -> Object {
    Object::from_iter([("type".to_owned(), "string".into())])
}
