//! `enrich`: adds fields, with fixed values or values made of other fields.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::de;
use skidder_pipeline::batch::{Batch, Field};
use skidder_pipeline::path::Path;
use skidder_pipeline::problem::Problem;
use skidder_pipeline::shared::{PerShared, Shared, SharedFields};
use skidder_pipeline::template::Template;
use skidder_pipeline::transform::{Report, Transform};
use skidder_pipeline::value::Kind;

use crate::fields::{Keys, OwnedValue, append, position, put_own, put_shared};

/// Adds fields. What depends on the shared fields alone (the container's metadata) is computed once for each container.
///
/// Templates see the record as it came in, not what other entries of the same table add. A template of which a part has no
/// value adds nothing, unless it names a value to fall back on: `env = "{{ kubernetes.pod_labels.env ?? \"prod\" }}"`.
#[derive(Clone, Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnrichConfig {
    /// The fields: a path, and a string, a number, a boolean, a `{{ template }}`, or a table of fields below. What the record
    /// has at that path already is replaced.
    pub fields: BTreeMap<String, FieldValue>,
}

/// The value of a field to add.
#[derive(Clone, Debug, PartialEq, schemars::JsonSchema)]
#[schemars(untagged)]
pub enum FieldValue {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// A number.
    Float(f64),
    /// A text, with places for fields: `"{{ kubernetes.pod_name }}"`.
    Text(String),
    /// Fields below this one.
    Table(BTreeMap<String, FieldValue>),
}

/// The transform.
pub struct Enrich {
    entries: Vec<Entry>,
    keys: Keys,
    owned: Vec<bool>,
    plans: PerShared<Vec<Arc<Plan>>>,
}

struct Entry {
    path: Path,
    value: Source,
}

enum Source {
    Fixed(OwnedValue),
    Template(Template),
}

/// What is to do for batches with the same shared fields, of which the records have the same of the keys in question.
struct Plan {
    /// For each of the keys in question, whether some record has it.
    owned: Box<[bool]>,
    shared: Arc<Shared>,
    /// Keys that the records lose to a shared field.
    drop: Vec<Box<[u8]>>,
    /// Shared fields that become the records' own, because they will differ between them.
    unshare: Vec<(Box<[u8]>, OwnedValue)>,
    /// What each record gets on its own.
    own: Vec<OwnEntry>,
}

/// An entry by its index, and its value where that is the same for all records.
struct OwnEntry {
    entry: usize,
    value: Option<OwnedValue>,
}

impl Enrich {
    /// The transform that `config` describes.
    pub fn new(config: &EnrichConfig) -> Result<Enrich, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut entries = Vec::new();
        gather(&config.fields, "", &["fields".to_owned()], &mut entries, &mut problems);
        if config.fields.is_empty() {
            problems.push(Problem::at("fields", "the table is empty, so nothing would be added").help("write `env = \"prod\"`"));
        }
        for (index, entry) in entries.iter().enumerate() {
            if let Some(above) = entries[..index].iter().find(|other| covers(&other.path, &entry.path)) {
                let message = format!("`{}` and `{}` cannot both be set: one lies below the other", above.path, entry.path);
                problems.push(Problem::at("fields", message));
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let keys = Keys::new(entries.iter().flat_map(|entry| entry.reads().chain([&entry.path]).map(Path::first)));
        Ok(Enrich { entries, keys, owned: Vec::new(), plans: PerShared::new() })
    }

    fn plan(&mut self, batch: &Batch) -> Arc<Plan> {
        let plans = self.plans.get_or_make(batch.shared(), |_| Vec::new());
        if let Some(plan) = plans.iter().find(|plan| *plan.owned == *self.owned) {
            return plan.clone();
        }
        let plan = Arc::new(Plan::new(&self.entries, batch.shared(), &self.keys, &self.owned));
        // Which keys the records of a container have hardly ever changes; should it, the plans stay few.
        if plans.len() == 8 {
            plans.clear();
        }
        plans.push(plan.clone());
        plan
    }
}

impl Entry {
    /// The fields that the value is made of.
    fn reads(&self) -> impl Iterator<Item = &Path> {
        match &self.value {
            Source::Template(template) => Some(template.paths()),
            Source::Fixed(_) => None,
        }
        .into_iter()
        .flatten()
    }
}

impl Plan {
    fn new(entries: &[Entry], shared: &Arc<Shared>, keys: &Keys, owned: &[bool]) -> Plan {
        let owns = |path: &Path| keys.index(path.first()).is_some_and(|index| owned[index]);
        let mut fields = SharedFields::default();
        shared.iter().for_each(|(key, value)| fields.set(key, value));
        let mut plan = Plan { owned: owned.into(), shared: shared.clone(), drop: Vec::new(), unshare: Vec::new(), own: Vec::new() };
        for (index, entry) in entries.iter().enumerate() {
            let first = entry.path.first();
            let value = match &entry.value {
                Source::Template(_) if entry.reads().any(owns) => {
                    if let Some(value) = fields.get(first) {
                        plan.unshare.push((first.into(), value.into()));
                        fields.remove(first);
                    }
                    plan.own.push(OwnEntry { entry: index, value: None });
                    continue;
                }
                Source::Template(template) => match template.render_shared(shared) {
                    Some(text) => OwnedValue::new(Kind::Text, text.into_bytes()),
                    None => continue,
                },
                Source::Fixed(value) => value.clone(),
            };
            let is_own = plan.own.iter().any(|own| entries[own.entry].path.first() == first);
            if is_own || (owns(&entry.path) && !entry.path.rest().is_empty()) {
                plan.own.push(OwnEntry { entry: index, value: Some(value) });
            } else {
                put_shared(&mut fields, &entry.path, value.as_value());
                if owns(&entry.path) {
                    plan.drop.push(first.into());
                }
            }
        }
        plan.shared = Shared::new(fields);
        plan
    }
}

impl Transform for Enrich {
    fn apply(&mut self, batch: &mut Batch, _: &mut Report) {
        self.keys.owned(batch, &mut self.owned);
        let plan = self.plan(batch);
        if !plan.own.is_empty() {
            write_own(&self.entries, &plan, batch);
        }
        for key in &plan.drop {
            batch.drop_own(key);
        }
        batch.set_shared(plan.shared.clone());
    }
}

/// Gives each record its fields, while the shared fields are those that it came with.
fn write_own(entries: &[Entry], plan: &Plan, batch: &mut Batch) {
    let unshared: Vec<Field> = plan
        .unshare
        .iter()
        .map(|(key, value)| Field { key: batch.append(key), value: batch.append(&value.raw), kind: value.kind })
        .collect();
    let fixed: Vec<_> =
        plan.own.iter().map(|own| (&entries[own.entry], own.value.as_ref().map(|value| (value.kind, batch.append(&value.raw))))).collect();
    let keys: Vec<_> = fixed.iter().map(|(entry, _)| batch.append(entry.path.first())).collect();
    let mut list = Vec::new();
    batch.rewrite(|record, old| {
        list.clear();
        list.extend_from_slice(old);
        list.extend_from_slice(&unshared);
        for ((entry, value), key) in fixed.iter().zip(&keys) {
            let value = match (value, &entry.value) {
                (Some(value), _) => Some(*value),
                (None, Source::Template(template)) => {
                    let text = template.render_with(|path| record.view(old).get(path));
                    text.map(|text| (Kind::Text, append(record.bytes_mut(), text.as_bytes())))
                }
                (None, Source::Fixed(_)) => None,
            };
            let Some((kind, value)) = value else { continue };
            if entry.path.rest().is_empty() && position(record.bytes(), &list, entry.path.first()).is_none() {
                list.push(Field { key: *key, value, kind });
            } else {
                put_own(record.bytes_mut(), &mut list, &entry.path, kind, value);
            }
        }
        record.keep(&list);
    });
}

fn gather(table: &BTreeMap<String, FieldValue>, above: &str, place: &[String], entries: &mut Vec<Entry>, problems: &mut Vec<Problem>) {
    for (key, value) in table {
        let source = format!("{above}{key}");
        let place = [place, std::slice::from_ref(key)].concat();
        let mut problem = |message: String| problems.push(Problem { path: place.clone(), message, help: None });
        let value = match value {
            FieldValue::Table(table) => {
                gather(table, &format!("{source}."), &place, entries, problems);
                continue;
            }
            FieldValue::Bool(value) => fixed(Kind::Bool, value.to_string()),
            FieldValue::Integer(value) => fixed(Kind::Number, value.to_string()),
            // Rust writes a finite number without an exponent, as JSON reads it.
            FieldValue::Float(value) if value.is_finite() => fixed(Kind::Number, value.to_string()),
            FieldValue::Float(value) => {
                problem(format!("`{value}` cannot be written as JSON"));
                continue;
            }
            FieldValue::Text(text) => match Template::parse(text) {
                Ok(template) => match template.as_literal() {
                    Some(text) => fixed(Kind::Text, text.to_owned()),
                    None => Source::Template(template),
                },
                Err(error) => {
                    problem(error.to_string());
                    continue;
                }
            },
        };
        match Path::parse(&source) {
            Ok(path) => entries.push(Entry { path, value }),
            Err(error) => problem(error.to_string()),
        }
    }
}

/// Whether one of two paths is the other, or lies below it.
fn covers(one: &Path, other: &Path) -> bool {
    one.segments().iter().zip(other.segments()).all(|(a, b)| a == b)
}

fn fixed(kind: Kind, raw: String) -> Source {
    Source::Fixed(OwnedValue::new(kind, raw.into_bytes()))
}

impl<'de> de::Deserialize<'de> for FieldValue {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = FieldValue;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, a number, a boolean or a table of these")
            }

            fn visit_bool<E>(self, value: bool) -> Result<FieldValue, E> {
                Ok(FieldValue::Bool(value))
            }

            fn visit_i64<E>(self, value: i64) -> Result<FieldValue, E> {
                Ok(FieldValue::Integer(value))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<FieldValue, E> {
                i64::try_from(value).map(FieldValue::Integer).map_err(|_| E::custom("the number is too large"))
            }

            fn visit_f64<E>(self, value: f64) -> Result<FieldValue, E> {
                Ok(FieldValue::Float(value))
            }

            fn visit_str<E>(self, value: &str) -> Result<FieldValue, E> {
                Ok(FieldValue::Text(value.to_owned()))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<FieldValue, A::Error> {
                let mut table = BTreeMap::new();
                while let Some((key, value)) = map.next_entry()? {
                    table.insert(key, value);
                }
                Ok(FieldValue::Table(table))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use crate::test_support::{apply, batch_of, problems, shared, transform, trees};

    fn enriched(fields: Value, own: &[&str]) -> Vec<Value> {
        let shared = shared(&[("file", "\"f\""), ("k", r#"{"pod":"p","labels":{"env":"test"}}"#)]);
        let mut batch = batch_of(shared, own);
        apply(&mut *transform(json!({"type": "enrich", "fields": fields})), &mut batch);
        trees(&batch)
    }

    fn with(extra: Value) -> Value {
        let mut all = json!({"file": "f", "k": {"pod": "p", "labels": {"env": "test"}}});
        all.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        all
    }

    #[test]
    fn adds_fixed_values_of_every_kind() {
        let fields = json!({"s": "a \"q\" {}", "i": -3, "f": 2.5, "b": true, "n": {"x": {"y": 1}}, "dotted.key": "z", "e": 1e300});
        let expected =
            with(json!({"s": "a \"q\" {}", "i": -3, "f": 2.5, "b": true, "n": {"x": {"y": 1}}, "dotted": {"key": "z"}, "e": 1e300}));
        assert_eq!(enriched(fields, &["{}"]), [expected]);
    }

    #[test]
    fn makes_the_flat_fields_of_metadata() {
        let fields = json!({
            "env": "{{ k.labels.env ?? \"prod\" }}", "pod_name": "{{ k.pod }}", "region": "{{ k.region ?? \"eu-1\" }}",
            "zone": "{{ k.zone }}", "host": "{{ nothing ?? \"none\" }}"
        });
        let expected = with(json!({"env": "test", "pod_name": "p", "region": "eu-1", "host": "none"}));
        assert_eq!(enriched(fields, &["{}", "{}"]), [expected.clone(), expected]);
    }

    #[test]
    fn renders_templates_of_own_fields_for_each_record() {
        let fields = json!({"key": "{{ k.pod }}/{{ user }}", "file": "{{ user }}", "a": {"b": "{{ user }}"}});
        let expected = [
            json!({"k": {"pod": "p", "labels": {"env": "test"}}, "user": "u", "key": "p/u", "file": "u", "a": {"b": "u", "c": 1}}),
            with(json!({})),
        ];
        assert_eq!(enriched(fields, &[r#"{"user":"u","a":{"c":1}}"#, "{}"])[0], {
            let mut first = expected[0].clone();
            first["a"] = json!({"c": 1, "b": "u"});
            first
        });
        let fields = json!({"file": "{{ user }}"});
        assert_eq!(enriched(fields, &[r#"{"user":"u"}"#, "{}"]), [with(json!({"user": "u", "file": "u"})), with(json!({}))]);
    }

    #[test]
    fn a_template_sees_the_record_as_it_came() {
        let fields = json!({"a": "{{ b }}", "b": "new"});
        assert_eq!(enriched(fields, &[r#"{"b":"old"}"#]), [with(json!({"a": "old", "b": "new"}))]);
        let fields = json!({"file": "new", "was": "{{ file }}"});
        assert_eq!(enriched(fields, &["{}"]), [with(json!({"file": "new", "was": "f"}))]);
    }

    #[test]
    fn replaces_own_and_shared_fields_and_joins_objects() {
        let fields = json!({"file": "g", "user": "x", "k": {"region": "r"}, "o": {"b": 2}});
        let expected =
            json!({"file": "g", "k": {"pod": "p", "labels": {"env": "test"}, "region": "r"}, "user": "x", "o": {"a": 1, "b": 2}});
        assert_eq!(enriched(fields, &[r#"{"user":"u","o":{"a":1}}"#]), [expected]);
    }

    #[test]
    fn derives_the_shared_fields_once() {
        let shared = shared(&[("a", "1")]);
        let mut enrich = transform(json!({"type": "enrich", "fields": {"x": "y"}}));
        let [mut first, mut second] = [batch_of(shared.clone(), &["{}"]), batch_of(shared, &["{}"])];
        apply(&mut *enrich, &mut first);
        apply(&mut *enrich, &mut second);
        assert!(Arc::ptr_eq(first.shared(), second.shared()));
    }

    #[test]
    fn reports_every_mistake() {
        let problems = problems(json!({"type": "enrich", "fields": {"a": "{{ x", "b": {"c": "{{ a b }}"}, "d e": 1}}));
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert!(problems[1].starts_with("fields.b.c: "), "{problems:?}");
    }

    #[test]
    fn says_what_a_value_may_be() {
        let error = serde_json::from_value::<crate::TransformConfig>(json!({"type": "enrich", "fields": {"a": [1]}})).unwrap_err();
        assert!(error.to_string().contains("a string, a number, a boolean or a table"), "{error}");
    }
}
