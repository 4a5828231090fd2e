//! `remove`: takes fields out of records.

use std::sync::Arc;

use skidder_pipeline::batch::Batch;
use skidder_pipeline::path::Path;
use skidder_pipeline::problem::Problem;
use skidder_pipeline::shared::{PerShared, Shared};
use skidder_pipeline::transform::{Report, Transform};

use crate::fields::{self, Keys, take_own, take_shared};

/// Removes fields, at the top or below others. A field that a record does not have is no fault.
#[derive(Clone, Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RemoveConfig {
    /// The paths of the fields: `"debug"`, `"kubernetes.pod_labels"`.
    pub fields: Vec<String>,
}

/// The transform.
pub struct Remove {
    paths: Vec<Path>,
    keys: Keys,
    owned: Vec<bool>,
    /// The shared fields without those to remove; `None` where none of them is there.
    cleaned: PerShared<Option<Arc<Shared>>>,
}

impl Remove {
    /// The transform that `config` describes.
    pub fn new(config: &RemoveConfig) -> Result<Remove, Vec<Problem>> {
        let mut problems = Vec::new();
        if config.fields.is_empty() {
            problems.push(Problem::at("fields", "the list is empty, so nothing would be removed").help("name the fields to remove"));
        }
        let paths: Vec<Path> = config
            .fields
            .iter()
            .enumerate()
            .filter_map(|(index, source)| fields::path(&format!("fields.{index}"), source, &mut problems))
            .collect();
        if !problems.is_empty() {
            return Err(problems);
        }
        let keys = Keys::new(paths.iter().map(Path::first));
        Ok(Remove { paths, keys, owned: Vec::new(), cleaned: PerShared::new() })
    }
}

impl Transform for Remove {
    fn apply(&mut self, batch: &mut Batch, _: &mut Report) {
        let cleaned = self.cleaned.get_or_make(batch.shared(), |shared| {
            let mut found = false;
            let cleaned = shared.edit(|fields| {
                for path in &self.paths {
                    found |= take_shared(fields, path).is_some();
                }
            });
            found.then_some(cleaned)
        });
        if let Some(cleaned) = cleaned {
            batch.set_shared(cleaned.clone());
        }
        self.keys.owned(batch, &mut self.owned);
        if !self.owned.contains(&true) {
            return;
        }
        let mut list = Vec::new();
        batch.rewrite(|record, old| {
            list.clear();
            list.extend_from_slice(old);
            for path in &self.paths {
                take_own(record.bytes_mut(), &mut list, path);
            }
            record.keep(&list);
        });
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use serde_json::json;

    use crate::test_support::{apply, batch_of, problems, shared, transform, trees};

    #[test]
    fn removes_own_and_shared_fields_at_any_depth() {
        let shared = shared(&[("file", "\"x\""), ("kubernetes", r#"{"pod_name":"p","pod_ip":"10.0.0.1"}"#)]);
        let mut batch = batch_of(shared, &[r#"{"a":1,"b":{"c":2,"d":3}}"#, r#"{"b":5,"e":6}"#, "{}"]);
        let mut remove = transform(json!({"type": "remove", "fields": ["a", "b.c", "file", "kubernetes.pod_ip", "gone", "gone.too"]}));
        apply(&mut *remove, &mut batch);
        let kubernetes = json!({"pod_name": "p"});
        assert_eq!(
            trees(&batch),
            [
                json!({"kubernetes": kubernetes, "b": {"d": 3}}),
                json!({"kubernetes": kubernetes, "b": 5, "e": 6}),
                json!({"kubernetes": kubernetes})
            ]
        );
    }

    #[test]
    fn derives_the_shared_fields_once() {
        let shared = shared(&[("a", "1"), ("b", "2")]);
        let mut remove = transform(json!({"type": "remove", "fields": ["a"]}));
        let [mut first, mut second] = [batch_of(shared.clone(), &["{}"]), batch_of(shared, &["{}"])];
        apply(&mut *remove, &mut first);
        apply(&mut *remove, &mut second);
        assert!(std::sync::Arc::ptr_eq(first.shared(), second.shared()));
    }

    #[test]
    fn reports_every_mistake() {
        assert_eq!(problems(json!({"type": "remove", "fields": ["a..b", "ok", "x y"]})).len(), 2);
        assert_eq!(problems(json!({"type": "remove", "fields": []})).len(), 1);
    }
}
