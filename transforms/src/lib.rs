//! The meaning of records: pure functions on batches, one file each, with no I/O and no clock.
//!
//! A new transform is one file, one variant of [`TransformConfig`] and one line of [`TransformConfig::build`].

pub mod condition;
pub mod enrich;
mod fields;
pub mod filter;
pub mod json;
mod object;
pub mod redact;
pub mod remove;
pub mod rename;
#[cfg(test)]
mod test_support;

use skidder_pipeline::problem::Problem;
use skidder_pipeline::transform::Transform;

/// The transforms that there are, by their `type`.
#[derive(Clone, Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum TransformConfig {
    /// Adds fields: fixed values, and values made of other fields.
    Enrich(enrich::EnrichConfig),
    /// Keeps or drops records by a condition on their fields.
    Filter(filter::FilterConfig),
    /// Makes the members of a JSON line the record's fields.
    Json(json::JsonConfig),
    /// Takes personal data and secrets out.
    Redact(redact::RedactConfig),
    /// Removes fields.
    Remove(remove::RemoveConfig),
    /// Gives fields other names.
    Rename(rename::RenameConfig),
}

impl TransformConfig {
    /// A transform for one worker to own, or all mistakes in its configuration.
    pub fn build(&self) -> Result<Box<dyn Transform>, Vec<Problem>> {
        Ok(match self {
            TransformConfig::Enrich(config) => Box::new(enrich::Enrich::new(config)?),
            TransformConfig::Filter(config) => Box::new(filter::Filter::new(config)?),
            TransformConfig::Json(config) => Box::new(json::Json::new(config)?),
            TransformConfig::Redact(config) => Box::new(redact::Redact::new(config)?),
            TransformConfig::Remove(config) => Box::new(remove::Remove::new(config)?),
            TransformConfig::Rename(config) => Box::new(rename::Rename::new(config)?),
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::test_support::{apply, batch_with, kubernetes, lines, transform, trees};

    #[test]
    fn options_that_are_none_are_refused_for_every_type() {
        for table in [
            json!({"type": "enrich", "fields": {"a": 1}}),
            json!({"type": "filter", "condition": "a"}),
            json!({"type": "json"}),
            json!({"type": "redact"}),
            json!({"type": "remove", "fields": ["a"]}),
            json!({"type": "rename", "fields": {"a": "b"}}),
        ] {
            assert!(serde_json::from_value::<TransformConfig>(table.clone()).is_ok_and(|config| config.build().is_ok()), "{table}");
            let mut wrong = table;
            wrong["feild"] = json!(1);
            let error = serde_json::from_value::<TransformConfig>(wrong).unwrap_err().to_string();
            assert!(error.contains("unknown field `feild`"), "{error}");
        }
        let error = serde_json::from_value::<TransformConfig>(json!({"type": "jsn"})).unwrap_err().to_string();
        assert!(error.contains("unknown variant `jsn`, expected one of `enrich`"), "{error}");
    }

    #[test]
    fn the_schema_describes_every_option() {
        fn check(value: &serde_json::Value, place: &str) {
            for (name, property) in value["properties"].as_object().into_iter().flatten().filter(|(name, _)| *name != "type") {
                assert!(property.get("description").is_some(), "{place}.{name} has no description");
            }
        }
        let schema = schemars::schema_for!(TransformConfig);
        let schema = schema.as_value();
        for variant in schema["oneOf"].as_array().unwrap() {
            assert!(variant.get("description").is_some());
            check(variant, "");
        }
        for (name, definition) in schema["$defs"].as_object().unwrap() {
            check(definition, name);
        }
    }

    /// The whole path of the README's first example.
    #[test]
    fn transforms_work_one_after_the_other() {
        let mut batch = batch_with(
            kubernetes(),
            &[
                r#"{"level":"info","msg":"booked for jane@example.com","card":4111111111111111,"kubernetes":"forged","debug":{"x":1}}"#,
                r#"{"level":"debug","msg":"x"}"#,
                "started from 8.8.8.8",
            ],
        );
        for table in [
            json!({"type": "json"}),
            json!({"type": "filter", "condition": "level != 'debug'"}),
            json!({"type": "enrich", "fields": {"env": "{{ kubernetes.pod_labels.env ?? \"prod\" }}", "pod_name": "{{ kubernetes.pod_name }}", "region": "eu-1"}}),
            json!({"type": "rename", "fields": {"msg": "message"}}),
            json!({"type": "remove", "fields": ["debug", "kubernetes", "file", "source_type", "timestamp", "stream"]}),
            json!({"type": "redact"}),
        ] {
            apply(&mut *transform(table), &mut batch);
        }
        let shared = json!({"env": "prod", "pod_name": "atlas-7c9d", "region": "eu-1"});
        let with = |own: serde_json::Value| {
            let mut all = shared.clone();
            all.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
            all
        };
        assert_eq!(
            trees(&batch),
            [
                with(json!({"level": "info", "message": "booked for [EMAIL]", "card": "[CREDIT_CARD]", "app_kubernetes": "forged"})),
                with(json!({"message": "started from [IPV4]", "not_json": true})),
            ]
        );
    }

    /// A line as services write them, with keys that transforms and the agent use.
    fn line() -> impl Strategy<Value = String> {
        let key = proptest::sample::select(vec![
            "a",
            "b",
            "c",
            "file",
            "stream",
            "message",
            "kubernetes",
            "env",
            "app_file",
            "\\u0061",
            "x@y.zz",
        ]);
        let value = proptest::sample::select(vec![
            "1",
            "\"x\"",
            "{\"b\":{\"c\":1,\"x@y.zz\":2},\"d\":[]}",
            "[{\"a\":\"b\"}]",
            "null",
            "\"\\u0041\\n1.2.3.4\"",
            "4111111111111111",
            "true",
        ]);
        let object = proptest::collection::vec((key, value), 0..6).prop_map(|members| {
            let members: Vec<String> = members.iter().map(|(key, value)| format!("\"{key}\": {value}")).collect();
            format!("{{{}}}", members.join(","))
        });
        prop_oneof![4 => object, 1 => "\\PC{0,20}"]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn any_chain_leaves_valid_json_and_no_key_twice(
            rows in proptest::collection::vec(line(), 1..5), order in Just((0..7usize).collect::<Vec<_>>()).prop_shuffle(), count in 1..7usize
        ) {
            let refs: Vec<&str> = rows.iter().map(String::as_str).collect();
            let mut batch = batch_with(kubernetes(), &refs);
            for index in order.into_iter().take(count) {
                let table = [
                    json!({"type": "json"}),
                    json!({"type": "enrich", "fields": {"env": "{{ a ?? file }}", "file": "{{ b }}", "k": "{{ kubernetes.pod_name }}", "b.x": 1, "c": true}}),
                    json!({"type": "rename", "fields": {"a": "file", "kubernetes.pod_name": "a", "b.d": "kubernetes.d", "c": "b.c", "source_type": "message"}}),
                    json!({"type": "remove", "fields": ["b.b", "file", "kubernetes.pod_labels.app", "env"]}),
                    json!({"type": "redact"}),
                    json!({"type": "json", "target": "b", "mark": "c"}),
                    json!({"type": "filter", "condition": "a != 1 or exists(b.c)"}),
                ][index].clone();
                apply(&mut *transform(table), &mut batch);
                trees(&batch);
            }
            apply(&mut *transform(json!({"type": "redact"})), &mut batch);
            for line in lines(&batch) {
                prop_assert!(!line.contains("x@y.zz") && !line.contains("4111111111111111") && !line.contains("1.2.3.4"), "{}", line);
            }
        }
    }
}
