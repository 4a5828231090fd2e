//! `filter`: keeps or drops records by a condition.

use skidder_pipeline::batch::Batch;
use skidder_pipeline::problem::Problem;
use skidder_pipeline::shared::PerShared;
use skidder_pipeline::transform::{Report, Transform};

use crate::condition::Condition;

/// Keeps the records that meet a condition on their fields, or drops them. What is dropped is counted and on no disk.
#[derive(Clone, Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FilterConfig {
    /// The condition: `level != "debug" and not exists(probe)`. See docs/conditions.md.
    pub condition: String,
    /// What happens to the records that meet it.
    #[serde(default)]
    pub action: Action,
}

/// What happens to records that meet a condition.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// They go on, and the others are dropped.
    #[default]
    Keep,
    /// They are dropped, and the others go on.
    Drop,
}

/// The transform.
pub struct Filter {
    condition: Condition,
    action: Action,
    /// Whether to keep all records of a container, where that depends on its shared fields alone.
    verdicts: PerShared<Option<bool>>,
}

impl Filter {
    /// The transform that `config` describes.
    pub fn new(config: &FilterConfig) -> Result<Filter, Vec<Problem>> {
        let condition = Condition::parse(&config.condition).map_err(|error| {
            let problem = Problem::at("condition", format!("column {}: {}", error.column, error.message));
            vec![match &error.help {
                Some(help) => problem.help(help),
                None => problem,
            }]
        })?;
        Ok(Filter { condition, action: config.action, verdicts: PerShared::new() })
    }
}

impl Transform for Filter {
    fn apply(&mut self, batch: &mut Batch, report: &mut Report) {
        let before = batch.len();
        let (condition, wanted) = (&self.condition, self.action == Action::Keep);
        let verdict = self.verdicts.get_or_make(batch.shared(), |shared| {
            let decided = condition.is_shared(shared);
            decided.then(|| condition.holds(|path| shared.get(path.first())?.descend(path.rest())) == wanted)
        });
        match verdict {
            Some(true) => {}
            Some(false) => batch.retain(|_| false),
            None => batch.retain(|record| condition.holds(|path| record.get(path)) == wanted),
        }
        report.filtered += (before - batch.len()) as u64;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use serde_json::json;

    use crate::test_support::{apply, batch_of, problems, shared, transform, trees};

    #[test]
    fn keeps_or_drops_what_matches() {
        let records = [r#"{"level":"debug"}"#, r#"{"level":"error"}"#, "{}"];
        for (action, kept) in [("keep", vec![json!({"level": "error"})]), ("drop", vec![json!({"level": "debug"}), json!({})])] {
            let mut batch = batch_of(shared(&[]), &records);
            let mut filter = transform(json!({"type": "filter", "condition": "level == 'error'", "action": action}));
            let report = apply(&mut *filter, &mut batch);
            assert_eq!(trees(&batch), kept);
            assert_eq!(report.filtered, 3 - kept.len() as u64);
        }
    }

    #[test]
    fn decides_by_shared_fields_for_the_whole_batch() {
        let shared = shared(&[("kubernetes", r#"{"pod_namespace":"kube-system"}"#)]);
        for (condition, kept) in [("kubernetes.pod_namespace == 'kube-system'", 2), ("kubernetes.pod_namespace != 'kube-system'", 0)] {
            let mut batch = batch_of(shared.clone(), &["{}", r#"{"a":1}"#]);
            let report = apply(&mut *transform(json!({"type": "filter", "condition": condition})), &mut batch);
            assert_eq!((batch.len(), report.filtered), (kept, 2 - kept as u64));
        }
    }

    #[test]
    fn a_mistake_has_a_column_and_advice() {
        let problems = problems(json!({"type": "filter", "condition": "level == error"}));
        assert_eq!(problems, ["condition: column 10: `error` is a field, and a value is needed here; write a text in quotes: \"error\""]);
    }
}
