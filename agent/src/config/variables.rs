//! `${NAME}` and `${NAME:-default}` in the values of a file.
//!
//! Variables are put in after the TOML was read, and only into strings that are values: what a variable holds can never
//! become a key, a table or a second value. It is not looked at again, so it may itself contain `${`. The text `${` is
//! written `$${`.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::{Diagnostic, Diagnostics, join};

/// A value shorter than this is no secret, and as a part of words it would be found everywhere.
const MIN_CONCEALED_BYTES: usize = 4;

/// Looks up a variable of the environment.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What became of the strings of a file that name variables, by where each of them starts.
#[derive(Debug, Default)]
pub struct Variables {
    expanded: HashMap<usize, String>,
    broken: HashSet<usize>,
    /// Each variable that was put in, with its value.
    values: Vec<(String, String)>,
}

impl Variables {
    /// Looks up the variables of all strings of `root`, and reports those that are missing.
    pub fn find(root: &DeTable<'_>, text: &str, environment: Environment<'_>, found: &mut Diagnostics) -> Variables {
        let mut search = Search { text, environment, variables: Variables::default(), found };
        for (key, value) in root {
            search.value(value, &join("", key.get_ref()));
        }
        search.variables
    }

    /// Puts the texts into their places.
    pub fn put_into<'a>(&'a self, root: &mut DeTable<'a>) {
        root.iter_mut().for_each(|(_, value)| self.put(value));
    }

    /// The diagnostic with the names of variables in the place of their values: these may be secrets, and a mistake may put
    /// them where a message quotes them.
    pub fn conceal(&self, diagnostic: Diagnostic) -> Diagnostic {
        diagnostic
            .rewrite(|text| self.values.iter().fold(text.to_owned(), |text, (name, value)| text.replace(value, &format!("${{{name}}}"))))
    }

    /// The same for all that are about strings made of variables.
    pub fn conceal_all(&self, found: &mut Diagnostics) {
        found.replace(|d| if d.span.as_ref().is_some_and(|span| self.made(span)) { self.conceal(d) } else { d });
    }

    /// Whether the string that starts there was made of a variable, so that it may stand for a number.
    pub fn made(&self, value: &Range<usize>) -> bool {
        self.expanded.contains_key(&value.start)
    }

    /// Whether the value of the string that starts there is not known.
    pub fn unknown(&self, value: &Range<usize>) -> bool {
        self.broken.contains(&value.start)
    }

    fn put<'a>(&'a self, value: &mut Spanned<DeValue<'a>>) {
        let start = value.span().start;
        match value.get_mut() {
            DeValue::String(string) => {
                if let Some(expanded) = self.expanded.get(&start) {
                    *string = Cow::Borrowed(expanded);
                }
            }
            DeValue::Array(array) => array.iter_mut().for_each(|value| self.put(value)),
            DeValue::Table(table) => self.put_into(table),
            _ => {}
        }
    }
}

struct Search<'a> {
    text: &'a str,
    environment: Environment<'a>,
    variables: Variables,
    found: &'a mut Diagnostics,
}

impl Search<'_> {
    fn value(&mut self, value: &Spanned<DeValue<'_>>, path: &str) {
        match value.get_ref() {
            DeValue::String(string) if string.contains("${") => self.string(string, value.span(), path),
            DeValue::Array(array) => {
                for (index, element) in array.iter().enumerate() {
                    self.value(element, &format!("{path}.{index}"));
                }
            }
            DeValue::Table(table) => {
                for (key, value) in table {
                    self.value(value, &join(path, key.get_ref()));
                }
            }
            _ => {}
        }
    }

    fn string(&mut self, string: &str, span: Range<usize>, path: &str) {
        let environment = self.environment;
        let values = RefCell::new(&mut self.variables.values);
        let (expanded, faults) = interpolate(string, &|name| {
            let value = environment(name)?;
            if value.len() >= MIN_CONCEALED_BYTES && !values.borrow().iter().any(|(known, _)| known == name) {
                values.borrow_mut().push((name.to_owned(), value.clone()));
            }
            Some(value)
        });
        if !faults.is_empty() {
            self.variables.broken.insert(span.start);
        }
        for fault in faults {
            let at = self.place_of(&fault, &span);
            self.found.push(fault.describe(path, at));
        }
        self.variables.expanded.insert(span.start, expanded);
    }

    /// Where the reference stands in the file. Escapes before it can move it, so it is searched for.
    fn place_of(&self, fault: &Fault, value: &Range<usize>) -> Range<usize> {
        let raw = self.text.get(value.clone()).unwrap_or_default();
        match raw.match_indices(&*fault.reference).nth(fault.occurrence) {
            Some((at, found)) => value.start + at..value.start + at + found.len(),
            None => value.clone(),
        }
    }
}

/// A reference that gives no text.
#[derive(Debug, PartialEq)]
struct Fault {
    /// The reference as it is written, and how many equal ones stand before it in the same string.
    reference: String,
    occurrence: usize,
    why: Why,
}

#[derive(Debug, PartialEq)]
enum Why {
    Missing,
    Unclosed,
    NoName,
    Nested,
}

impl Fault {
    fn describe(&self, path: &str, at: Range<usize>) -> Diagnostic {
        let reference = &self.reference;
        let literal = "for the text `${` itself write `$${`";
        match self.why {
            Why::Missing => {
                let name = &reference[2..reference.len() - 1];
                Diagnostic::error(path, at, format!("the environment variable `{name}` is not set"))
                    .help(format!("set it, or give a default: `${{{name}:-default}}`"))
                    .help(literal)
            }
            Why::Unclosed => Diagnostic::error(path, at, "`${` is not closed by `}`").help(literal),
            Why::NoName => Diagnostic::error(path, at, format!("`{reference}` does not name a variable"))
                .help("a variable is written `${NAME}` or `${NAME:-default}`; its name has letters, digits and `_`")
                .help(literal),
            Why::Nested => Diagnostic::error(path, at, "a default cannot contain another variable"),
        }
    }
}

fn interpolate(source: &str, environment: Environment<'_>) -> (String, Vec<Fault>) {
    let mut out = String::with_capacity(source.len());
    let mut faults: Vec<Fault> = Vec::new();
    let mut rest = source;
    while let Some(start) = rest.find("${") {
        if rest[..start].ends_with('$') {
            out.push_str(&rest[..start]);
            out.push('{');
            rest = &rest[start + 2..];
            continue;
        }
        out.push_str(&rest[..start]);
        let reference = &rest[start..];
        let length = reference.find('}').map_or(reference.len(), |end| end + 1);
        let reference = &reference[..length];
        let before = &source[..source.len() - rest.len() + start];
        match resolve(reference, environment) {
            Ok(value) => out.push_str(&value),
            Err(why) => {
                faults.push(Fault { reference: reference.to_owned(), occurrence: before.matches(reference).count(), why });
            }
        }
        rest = &rest[start + length..];
    }
    out.push_str(rest);
    (out, faults)
}

fn resolve(reference: &str, environment: Environment<'_>) -> Result<String, Why> {
    let inside = reference.strip_prefix("${").and_then(|r| r.strip_suffix('}')).ok_or(Why::Unclosed)?;
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let is_name =
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !is_name {
        return Err(Why::NoName);
    }
    if default.is_some_and(|default| default.contains("${")) {
        return Err(Why::Nested);
    }
    match (environment(name), default) {
        // As in a shell, `:-` stands in for an empty variable too.
        (Some(value), Some(default)) if value.is_empty() => Ok(default.to_owned()),
        (Some(value), _) => Ok(value),
        (None, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(Why::Missing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn puts_variables_into_text() {
        let environment: Environment<'_> = &|name| match name {
            "ENV" => Some("prod".to_owned()),
            "EMPTY" => Some(String::new()),
            "TRICKY" => Some("${ENV} \" = [x]".to_owned()),
            _ => None,
        };
        for (source, expected) in [
            ("plain $ text $5 }", "plain $ text $5 }"),
            ("${ENV}", "prod"),
            ("a-${ENV}-${ENV:-x}", "a-prod-prod"),
            ("${GONE:-dev}${EMPTY:-dev}${EMPTY}", "devdev"),
            ("${GONE:-}", ""),
            ("${GONE:-a:-b}", "a:-b"),
            ("$${ENV} $$ $${1}", "${ENV} $$ ${1}"),
            ("${TRICKY}", "${ENV} \" = [x]"),
        ] {
            let (expanded, faults) = interpolate(source, environment);
            assert_eq!((&*expanded, faults), (expected, vec![]), "{source}");
        }
        for (source, why) in [
            ("${GONE}", Why::Missing),
            ("${ENV", Why::Unclosed),
            ("${1}", Why::NoName),
            ("${}", Why::NoName),
            ("${A:-${ENV}}", Why::Nested),
        ] {
            let (_, faults) = interpolate(source, environment);
            assert_eq!(faults.into_iter().map(|f| f.why).collect::<Vec<_>>(), [why], "{source}");
        }
    }
}
