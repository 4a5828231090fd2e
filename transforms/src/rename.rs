//! `rename`: gives fields other names, and so other places.

use std::collections::BTreeMap;
use std::sync::Arc;

use skidder_pipeline::batch::{Batch, Field};
use skidder_pipeline::path::Path;
use skidder_pipeline::problem::Problem;
use skidder_pipeline::shared::{PerShared, Shared};
use skidder_pipeline::transform::{Report, Transform};

use crate::fields::{Keys, OwnedValue, put_own, put_shared, take_own, take_shared};

/// Gives fields other names. Both names are paths, so a field can move below another or up from there.
///
/// What stands at the new name already is replaced. A record without the old field stays as it is.
#[derive(Clone, Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RenameConfig {
    /// The old name, and the new one: `msg = "message"`, `kubernetes.pod_ip = "host.ip"`. They are done in the order of the
    /// old names.
    pub fields: BTreeMap<String, RenameTo>,
}

/// A new name, or a table of what lies below the old one.
#[derive(Clone, Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(untagged)]
pub enum RenameTo {
    /// The new name.
    Name(String),
    /// The new names of fields below this one.
    Below(BTreeMap<String, RenameTo>),
}

/// The transform.
pub struct Rename {
    rules: Vec<Rule>,
}

struct Rule {
    from: Path,
    to: Path,
    keys: Keys,
    owned: Vec<bool>,
    moved: PerShared<Option<Moved>>,
    /// The shared fields without the one that a new name replaces in some records.
    given_up: PerShared<Arc<Shared>>,
}

/// What becomes of shared fields that hold the old name.
struct Moved {
    /// With the value at its new name.
    renamed: Arc<Shared>,
    /// Without the value, for batches whose records have something at the first key of the new name.
    without: Arc<Shared>,
    value: OwnedValue,
}

impl Rename {
    /// The transform that `config` describes.
    pub fn new(config: &RenameConfig) -> Result<Rename, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut rules = Vec::new();
        if config.fields.is_empty() {
            problems.push(Problem::at("fields", "the table is empty, so nothing would be renamed").help("write `old = \"new\"`"));
        }
        gather(&config.fields, "", &["fields".to_owned()], &mut rules, &mut problems);
        if problems.is_empty() { Ok(Rename { rules }) } else { Err(problems) }
    }
}

fn gather(table: &BTreeMap<String, RenameTo>, above: &str, place: &[String], rules: &mut Vec<Rule>, problems: &mut Vec<Problem>) {
    for (key, to) in table {
        let from = format!("{above}{key}");
        let place = [place, std::slice::from_ref(key)].concat();
        match to {
            RenameTo::Below(table) => gather(table, &format!("{from}."), &place, rules, problems),
            RenameTo::Name(to) => match (Path::parse(&from), Path::parse(to)) {
                (Ok(from), Ok(to)) => rules.push(Rule::new(from, to)),
                (from, to) => problems.extend([from.err(), to.err()].into_iter().flatten().map(|error| Problem {
                    path: place.clone(),
                    message: error.to_string(),
                    help: None,
                })),
            },
        }
    }
}

impl Rule {
    fn new(from: Path, to: Path) -> Rule {
        let keys = Keys::new([from.first(), to.first()]);
        Rule { from, to, keys, owned: Vec::new(), moved: PerShared::new(), given_up: PerShared::new() }
    }

    fn owns(&self, path: &Path) -> bool {
        self.keys.index(path.first()).is_some_and(|index| self.owned[index])
    }

    fn apply(&mut self, batch: &mut Batch) {
        self.keys.owned(batch, &mut self.owned);
        let [own_from, own_to] = [&self.from, &self.to].map(|path| self.owns(path));
        let moved = self.moved.get_or_make(batch.shared(), |shared| Moved::of(shared, &self.from, &self.to));
        if let Some(moved) = moved {
            if own_to {
                batch.set_shared(moved.without.clone());
                let value = batch.append(&moved.value.raw);
                let mut list = Vec::new();
                batch.rewrite(|record, old| {
                    list.clear();
                    list.extend_from_slice(old);
                    put_own(record.bytes_mut(), &mut list, &self.to, moved.value.kind, value);
                    record.keep(&list);
                });
            } else {
                batch.set_shared(moved.renamed.clone());
            }
        } else if own_from {
            self.rename_own(batch);
        }
    }

    fn rename_own(&mut self, batch: &mut Batch) {
        // A shared field at the new name stays for the records that do not have the old one.
        let shared_to = batch.shared().get(self.to.first()).map(OwnedValue::from).map(|value| {
            let given_up = self.given_up.get_or_make(batch.shared(), |shared| shared.edit(|fields| fields.remove(self.to.first())));
            batch.set_shared(given_up.clone());
            Field { key: batch.append(self.to.first()), value: batch.append(&value.raw), kind: value.kind }
        });
        let mut list = Vec::new();
        batch.rewrite(|record, old| {
            list.clear();
            list.extend_from_slice(old);
            let bytes = record.bytes_mut();
            list.extend(shared_to);
            if let Some((kind, value)) = take_own(bytes, &mut list, &self.from) {
                put_own(bytes, &mut list, &self.to, kind, value);
            }
            record.keep(&list);
        });
    }
}

impl Moved {
    fn of(shared: &Arc<Shared>, from: &Path, to: &Path) -> Option<Moved> {
        let mut taken = None;
        let without = shared.edit(|fields| taken = take_shared(fields, from));
        let value = taken?;
        let renamed = without.edit(|fields| put_shared(fields, to, value.as_value()));
        Some(Moved { renamed, without, value })
    }
}

impl Transform for Rename {
    fn apply(&mut self, batch: &mut Batch, _: &mut Report) {
        for rule in &mut self.rules {
            rule.apply(batch);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use serde_json::json;

    use crate::test_support::{apply, batch_of, problems, shared, transform, trees};

    /// Applies a `fields` table to one record of shared and own fields.
    fn renamed(fields: serde_json::Value, own: &[&str]) -> Vec<serde_json::Value> {
        let shared = shared(&[("file", "\"f\""), ("k", r#"{"pod":"p","ip":"i"}"#)]);
        let mut batch = batch_of(shared, own);
        apply(&mut *transform(json!({"type": "rename", "fields": fields})), &mut batch);
        trees(&batch)
    }

    #[test]
    fn renames_own_fields() {
        let own = [r#"{"msg":"x","n":{"a":1}}"#, r#"{"message":"old"}"#];
        assert_eq!(
            renamed(json!({"msg": "message", "n": {"a": "n.b"}}), &own),
            [
                json!({"file": "f", "k": {"pod": "p", "ip": "i"}, "message": "x", "n": {"b": 1}}),
                json!({"file": "f", "k": {"pod": "p", "ip": "i"}, "message": "old"})
            ]
        );
        assert_eq!(
            renamed(json!({"msg": "message"}), &[r#"{"msg":"x","message":"replaced"}"#]),
            [json!({"file": "f", "k": {"pod": "p", "ip": "i"}, "message": "x"})]
        );
    }

    #[test]
    fn renames_shared_fields_for_all_records_at_once() {
        assert_eq!(
            renamed(json!({"k.pod": "pod_name", "file": "log.path"}), &["{}"]),
            [json!({"k": {"ip": "i"}, "pod_name": "p", "log": {"path": "f"}})]
        );
    }

    #[test]
    fn a_shared_field_replaces_an_own_one_and_joins_an_own_object() {
        assert_eq!(
            renamed(json!({"k.pod": "pod", "file": "log.path"}), &[r#"{"pod":"forged","log":{"level":"info"}}"#, "{}"]),
            [
                json!({"k": {"ip": "i"}, "pod": "p", "log": {"level": "info", "path": "f"}}),
                json!({"k": {"ip": "i"}, "pod": "p", "log": {"path": "f"}})
            ]
        );
    }

    #[test]
    fn an_own_field_replaces_a_shared_one_where_it_is() {
        assert_eq!(
            renamed(json!({"source": "file"}), &[r#"{"source":"s"}"#, "{}"]),
            [json!({"k": {"pod": "p", "ip": "i"}, "file": "s"}), json!({"k": {"pod": "p", "ip": "i"}, "file": "f"})]
        );
        assert_eq!(
            renamed(json!({"ns": "k.ns"}), &[r#"{"ns":"s"}"#, "{}"]),
            [json!({"file": "f", "k": {"pod": "p", "ip": "i", "ns": "s"}}), json!({"file": "f", "k": {"pod": "p", "ip": "i"}})]
        );
    }

    #[test]
    fn reports_every_mistake() {
        let problems = problems(json!({"type": "rename", "fields": {"a b": "c d", "x": {"y": ""}}}));
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert!(problems[0].starts_with("fields.a b: "), "{problems:?}");
        assert!(problems[2].starts_with("fields.x.y: "), "{problems:?}");
    }
}
