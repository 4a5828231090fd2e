//! Tables with and without the entries that have mistakes.

use std::collections::HashSet;
use std::ops::Range;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::diagnostic::join;

/// A table as its type.
pub fn from_table<T: DeserializeOwned>(table: &DeTable<'_>, span: &Range<usize>) -> Result<T, toml::de::Error> {
    T::deserialize(ValueDeserializer::from(Spanned::new(span.clone(), DeValue::Table(table.clone()))))
}

/// An entry of a table.
pub struct Candidate {
    name: String,
    /// The keys that lead to it.
    pub path: String,
    /// Where its key stands.
    pub key: Range<usize>,
    /// Where its value stands.
    pub value: Range<usize>,
}

/// The entry that serde means with `message`. Behind an internally tagged enum it does not say where it is, so the entries
/// are left out one by one: it is the one without which serde says something else, or nothing. The tags are left alone,
/// since without them it always says something else.
pub fn blame<T: DeserializeOwned>(
    table: &DeTable<'_>,
    span: &Range<usize>,
    path: &str,
    message: &str,
    tags: &HashSet<String>,
) -> Option<Candidate> {
    /// Each costs a deserialization; more options than this nobody writes into one table.
    const MAX_CANDIDATES: usize = 1000;
    let mut candidates = Vec::new();
    collect(table, path, &mut candidates);
    candidates.retain(|candidate| !tags.contains(&candidate.name));
    candidates.truncate(MAX_CANDIDATES);
    candidates.into_iter().find(|candidate| {
        let rest = sound_part(table, std::slice::from_ref(&candidate.key));
        from_table::<T>(&rest, span).err().is_none_or(|error| error.message() != message)
    })
}

/// All entries of a table and of those below, innermost first.
fn collect(table: &DeTable<'_>, path: &str, out: &mut Vec<Candidate>) {
    for (key, value) in table {
        let path = join(path, key.get_ref());
        match value.get_ref() {
            DeValue::Table(table) => collect(table, &path, out),
            DeValue::Array(array) => array.iter().enumerate().for_each(|(index, element)| {
                if let DeValue::Table(table) = element.get_ref() {
                    collect(table, &format!("{path}.{index}"), out);
                }
            }),
            _ => {}
        }
        out.push(Candidate { name: key.get_ref().to_string(), path, key: key.span(), value: value.span() });
    }
}

/// Where the value at `path` below `value` stands, and whether it is there; or else the nearest table or array on the way.
pub fn locate(value: &Spanned<DeValue<'_>>, path: &[String]) -> (Range<usize>, bool) {
    let Some((key, rest)) = path.split_first() else { return (value.span(), true) };
    let next = match value.get_ref() {
        DeValue::Table(table) => table.get(key.as_str()),
        DeValue::Array(array) => key.parse::<usize>().ok().and_then(|index| array.get(index)),
        _ => None,
    };
    next.map_or_else(|| (value.span(), false), |next| locate(next, rest))
}

/// The table without the entries that have a mistake. Arrays go as a whole, so that the indices of others stay right.
pub fn sound_part<'i>(table: &DeTable<'i>, mistakes: &[Range<usize>]) -> DeTable<'i> {
    let entries = table.iter().filter(|(key, _)| !mistakes.contains(&key.span()));
    entries.filter_map(|(key, value)| Some((key.clone(), sound_value(value, mistakes)?))).collect()
}

fn sound_value<'i>(value: &Spanned<DeValue<'i>>, mistakes: &[Range<usize>]) -> Option<Spanned<DeValue<'i>>> {
    let span = value.span();
    if mistakes.contains(&span) {
        return None;
    }
    let sound = match value.get_ref() {
        DeValue::Table(table) => DeValue::Table(sound_part(table, mistakes)),
        DeValue::Array(array) => DeValue::Array(array.iter().map(|element| sound_value(element, mistakes)).collect::<Option<_>>()?),
        // A mistake may be in a part of a text: a variable.
        scalar => mistakes.iter().all(|mistake| !span.contains(&mistake.start)).then(|| scalar.clone())?,
    };
    Some(Spanned::new(span, sound))
}
