//! Which values a schema takes at first sight, and how to say so.

use serde_json::Value;
use toml::de::DeValue;

use super::schema::{Definitions, Object, choices};

/// The types of JSON schema that TOML has too.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wanted {
    /// `string`
    String,
    /// `integer`
    Integer,
    /// `number`, which integers are too.
    Number,
    /// `boolean`
    Boolean,
    /// `array`
    Array,
    /// `object`
    Table,
}

const TYPES: [(&str, Wanted); 6] = [
    ("string", Wanted::String),
    ("integer", Wanted::Integer),
    ("number", Wanted::Number),
    ("boolean", Wanted::Boolean),
    ("array", Wanted::Array),
    ("object", Wanted::Table),
];

/// Whether the schema is of this type.
pub fn of_type(schema: &Object, wanted: Wanted) -> bool {
    types(schema).contains(&wanted)
}

/// Whether the value is of a type that the schema (one without choices at its top) takes.
pub fn accepts(schema: &Object, value: &DeValue<'_>) -> bool {
    let types = types(schema);
    types.is_empty()
        || types.iter().any(|wanted| match wanted {
            Wanted::String => value.is_str(),
            Wanted::Integer => value.is_integer(),
            Wanted::Number => value.is_integer() || value.is_float(),
            Wanted::Boolean => value.is_bool(),
            Wanted::Array => value.is_array(),
            Wanted::Table => value.is_table(),
        })
}

/// What any of the alternatives takes, as words: "a string", "an integer or an array of strings".
pub fn wanted(alternatives: &[Object], definitions: &Definitions) -> String {
    let mut words: Vec<String> = Vec::new();
    for word in alternatives.iter().flat_map(|alternative| describe(alternative, definitions)) {
        if !words.contains(&word) {
            words.push(word);
        }
    }
    match words.as_slice() {
        [] => "a value".to_owned(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

/// "a string", "an integer".
pub fn with_article(noun: &str) -> String {
    let article = if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {noun}")
}

fn types(schema: &Object) -> Vec<Wanted> {
    let of = |name: &Value| TYPES.iter().find(|(known, _)| Some(*known) == name.as_str()).map(|(_, wanted)| *wanted);
    match schema.get("type") {
        Some(Value::Array(names)) => names.iter().filter_map(of).collect(),
        Some(name) => of(name).into_iter().collect(),
        None if choices(schema).is_some() => vec![Wanted::String],
        None if schema.contains_key("properties") => vec![Wanted::Table],
        None => Vec::new(),
    }
}

fn describe(schema: &Object, definitions: &Definitions) -> Vec<String> {
    if let Some(choices) = choices(schema) {
        return choices.iter().map(|choice| format!("`\"{choice}\"`")).collect();
    }
    types(schema).into_iter().map(|wanted| describe_type(wanted, schema, definitions)).collect()
}

fn describe_type(wanted: Wanted, schema: &Object, definitions: &Definitions) -> String {
    match wanted {
        Wanted::String => "a string".to_owned(),
        Wanted::Integer => "an integer".to_owned(),
        Wanted::Number => "a number".to_owned(),
        Wanted::Boolean => "`true` or `false`".to_owned(),
        Wanted::Table => match schema.get("additionalProperties").filter(|values| values.is_object()) {
            Some(values) => plural(&definitions.alternatives(values)).map_or("a table".to_owned(), |plural| format!("a table of {plural}")),
            None => "a table".to_owned(),
        },
        Wanted::Array => match schema.get("items").map(|items| plural(&definitions.alternatives(items))) {
            Some(Some(plural)) => format!("an array of {plural}"),
            _ => "an array".to_owned(),
        },
    }
}

fn plural(alternatives: &[Object]) -> Option<&'static str> {
    let types: Vec<Wanted> = alternatives.iter().flat_map(types).collect();
    let first = types.first().filter(|first| types.iter().all(|other| other == *first))?;
    Some(match first {
        Wanted::String => "strings",
        Wanted::Integer => "integers",
        Wanted::Number => "numbers",
        Wanted::Boolean => "booleans",
        Wanted::Array => "arrays",
        Wanted::Table => "tables",
    })
}
