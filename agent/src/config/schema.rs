//! What the types say about the file: the JSON schema of each component, and of the file as a whole.

use std::collections::HashSet;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::global::Global;
use super::registry::{Component, Kind, Registry};

/// A JSON object.
pub type Object = Map<String, Value>;

/// The schemas of everything that a file can hold.
#[derive(Clone, Debug)]
pub struct FileSchema {
    /// The options at the top.
    pub global: Object,
    /// The types of components.
    pub sections: Vec<Section>,
    /// What `$ref` refers to.
    pub definitions: Definitions,
}

/// One table of components.
#[derive(Clone, Debug)]
pub struct Section {
    /// Their kind.
    pub kind: Kind,
    /// What the kind's type says about itself.
    pub doc: String,
    /// The types, in the order of the enum.
    pub types: Vec<Type>,
    /// The options that all types share.
    pub common: Vec<String>,
}

/// One type of component.
#[derive(Clone, Debug)]
pub struct Type {
    /// The value of `type`.
    pub name: String,
    /// The schema of its table: `type`, the shared options, its own.
    pub schema: Object,
}

/// The schemas that others refer to by name.
#[derive(Clone, Debug, Default)]
pub struct Definitions(Object);

impl FileSchema {
    /// The schemas of the components of `R`.
    pub fn of<R: Registry>() -> FileSchema {
        let mut generator = SchemaSettings::draft2020_12().for_deserialize().into_generator();
        let global = object_of::<Global>(&mut generator);
        let sections = vec![
            Section::of::<R::Source>(Kind::Source, &mut generator),
            Section::of::<R::Transform>(Kind::Transform, &mut generator),
            Section::of::<R::Sink>(Kind::Sink, &mut generator),
        ];
        FileSchema { global, sections, definitions: Definitions(generator.take_definitions(true)) }
    }

    /// The schema of the whole file, for editors, as text.
    pub fn to_text(&self) -> String {
        format!("{:#}\n", self.to_json())
    }

    /// The schema of the whole file.
    pub fn to_json(&self) -> Value {
        let mut properties = self.global.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
        for section in &self.sections {
            let types: Vec<Value> = section.types.iter().map(|t| Value::Object(t.schema.clone())).collect();
            properties.insert(
                section.kind.section().to_owned(),
                json!({ "description": section.doc, "type": "object", "additionalProperties": { "oneOf": types } }),
            );
        }
        json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "Skidder's configuration file",
            "type": "object",
            "properties": properties,
            "required": [Kind::Source.section(), Kind::Sink.section()],
            "additionalProperties": false,
            "$defs": self.definitions.0,
        })
    }
}

impl FileSchema {
    /// The keys that choose between tables: `type`, and those of tagged enums further down.
    pub fn tags(&self) -> HashSet<String> {
        let mut tags = HashSet::new();
        let types = self.sections.iter().flat_map(|section| &section.types).map(|of_type| &of_type.schema);
        types.chain([&self.definitions.0]).for_each(|schema| collect_tags(schema, &mut tags));
        tags
    }
}

fn collect_tags(schema: &Object, tags: &mut HashSet<String>) {
    tags.extend(properties(schema).filter(|(_, property)| property.get("const").is_some()).map(|(name, _)| name.clone()));
    for part in schema.values() {
        match part {
            Value::Object(object) => collect_tags(object, tags),
            Value::Array(array) => array.iter().filter_map(Value::as_object).for_each(|object| collect_tags(object, tags)),
            _ => {}
        }
    }
}

impl Section {
    fn of<C: Component>(kind: Kind, generator: &mut SchemaGenerator) -> Section {
        let config = object_of::<C>(generator);
        let common = object_of::<C::Common>(generator);
        let definitions = Definitions(generator.definitions().clone());
        let alternatives = definitions.alternatives(&Value::Object(config.clone()));
        let types = alternatives.into_iter().filter_map(|schema| Type::of(schema, &common)).collect();
        Section { kind, doc: doc(&config), types, common: properties(&common).map(|(name, _)| name.clone()).collect() }
    }
}

impl Type {
    fn of(own: Object, common: &Object) -> Option<Type> {
        let name = properties(&own).find(|(name, _)| *name == "type")?.1.get("const")?.as_str()?.to_owned();
        let mut schema = own.clone();
        let (tag, rest): (Vec<_>, Vec<_>) = properties(&own).partition(|(name, _)| *name == "type");
        let all = tag.into_iter().chain(properties(common)).chain(rest);
        schema.insert("properties".to_owned(), all.map(|(name, schema)| (name.clone(), schema.clone())).collect());
        let required = required(&own).chain(required(common)).map(Value::from).collect();
        schema.insert("required".to_owned(), Value::Array(required));
        schema.insert("additionalProperties".to_owned(), json!(false));
        Some(Type { name, schema })
    }
}

impl Definitions {
    /// The ways in which a value can satisfy a schema: references resolved, choices spread out, `null` (which TOML does
    /// not have) left out. Each is an object without `$ref`, `oneOf`, `anyOf` and `allOf` at its top.
    pub fn alternatives(&self, schema: &Value) -> Vec<Object> {
        /// References that refer to each other without end are a mistake in our types, not in a user's file.
        const MAX_DEPTH: usize = 32;
        let mut out = self.spread(schema, MAX_DEPTH);
        out.retain(|alternative| alternative.get("type").and_then(Value::as_str) != Some("null"));
        out
    }

    /// What a type that a property refers to says of itself, where it takes more than one kind of value.
    pub fn doc_of_choice(&self, property: &Value) -> Option<&str> {
        let any = property.get("anyOf").and_then(Value::as_array).into_iter().flatten();
        let reference = [property].into_iter().chain(any).find_map(|schema| schema.get("$ref")?.as_str()?.strip_prefix("#/$defs/"))?;
        let definition = self.0.get(reference)?;
        let of_any = definition.get("anyOf").or(definition.get("oneOf"))?.as_array()?;
        let is_plain = of_any.iter().all(|schema| schema.get("const").is_none() && schema.get("properties").is_none());
        definition.get("description")?.as_str().filter(|_| is_plain)
    }

    fn spread(&self, schema: &Value, depth: usize) -> Vec<Object> {
        let Some(mut base) = schema.as_object().cloned() else {
            return vec![Object::new()];
        };
        if depth == 0 {
            return vec![Object::new()];
        }
        let mut parts: Vec<Value> = Vec::new();
        if let Some(Value::String(reference)) = base.remove("$ref") {
            parts.extend(reference.strip_prefix("#/$defs/").and_then(|name| self.0.get(name)).cloned());
        }
        if let Some(Value::Array(all)) = base.remove("allOf") {
            parts.extend(all);
        }
        let mut choices = Vec::new();
        for keyword in ["oneOf", "anyOf"] {
            if let Some(Value::Array(any)) = base.remove(keyword) {
                choices.push(any);
            }
        }
        // A part has one or more alternatives of its own; every combination is one of ours.
        let mut out = vec![base];
        let parts = parts.iter().map(|part| self.spread(part, depth - 1));
        let choices = choices.iter().map(|any| any.iter().flat_map(|choice| self.spread(choice, depth - 1)).collect());
        for part in parts.chain(choices) {
            if part.len() > 1 {
                // What is said about a choice as a whole is not said about each of its alternatives.
                out.iter_mut().for_each(remove_annotations);
            }
            out = out.iter().flat_map(|base| part.iter().map(|under| merge(base, under))).collect();
        }
        out
    }
}

fn remove_annotations(schema: &mut Object) {
    ["title", "description", "default", "examples"].iter().for_each(|annotation| drop(schema.remove(*annotation)));
}

/// `over` with what only `under` has; the properties of both.
fn merge(over: &Object, under: &Object) -> Object {
    let mut out = under.clone();
    for (key, value) in over {
        match (key.as_str(), out.get_mut(key), value) {
            ("properties", Some(Value::Object(mine)), Value::Object(theirs)) => {
                mine.extend(theirs.iter().map(|(k, v)| (k.clone(), v.clone())));
            }
            ("required", Some(Value::Array(mine)), Value::Array(theirs)) => mine.extend(theirs.iter().cloned()),
            _ => {
                out.insert(key.clone(), value.clone());
            }
        }
    }
    out
}

/// The properties of an object's schema, in the order of the fields.
pub fn properties(schema: &Object) -> impl Iterator<Item = (&String, &Value)> {
    schema.get("properties").and_then(Value::as_object).into_iter().flatten()
}

/// The names of the properties that must be there.
pub fn required(schema: &Object) -> impl Iterator<Item = &str> {
    schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

/// The values that a string may have, where they are listed.
pub fn choices(schema: &Object) -> Option<Vec<&str>> {
    match (schema.get("const"), schema.get("enum")) {
        (Some(Value::String(only)), _) => Some(vec![only]),
        (_, Some(Value::Array(some))) => some.iter().map(Value::as_str).collect(),
        _ => None,
    }
}

/// The doc comment.
pub fn doc(schema: &Object) -> String {
    schema.get("description").and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn object_of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Object {
    T::json_schema(generator).as_object().cloned().unwrap_or_default()
}
