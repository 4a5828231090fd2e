//! `redact`: takes personal data and secrets out of every leaf of a record.
//!
//! A quick [scan] over the batch's bytes says which blocks could hold something; only the fields that lie in one are looked
//! at. A field that is one text is a leaf; of a nested value [tree] visits each string, number and key. The [engine] looks at
//! a leaf, by way of a decoded [view] where it holds escapes, until nothing is found any more, and so what comes out once
//! comes out the same again.
//!
//! Invariants: valid JSON in, valid JSON out; tags are never taken for values; what cannot be checked is withheld.

mod action;
mod bank;
mod card;
mod catalog;
mod checks;
mod config;
mod context;
mod detect;
mod digits;
mod engine;
mod keys;
mod line;
mod masks;
mod pattern;
mod pseudonym;
mod readers;
mod reference;
mod scan;
mod text;
mod tokens;
mod tree;
mod view;

use std::sync::Arc;

use skidder_pipeline::batch::{Batch, Field};
use skidder_pipeline::problem::Problem;
use skidder_pipeline::shared::{PerShared, Shared, SharedFields};
use skidder_pipeline::transform::{Report, Transform};
use skidder_pipeline::value::{Kind, Span, Value};

use crate::fields::append;
pub use action::Action;
pub use config::{RedactConfig, RuleConfig};
use engine::{Drops, Engine, Form};
pub use line::{Found, LineRedactor};
pub use pattern::Validator;
pub use pseudonym::{KeyConfig, Keys, pseudonym};
use scan::Hits;

/// The detectors that there are: name, group, whether it belongs to `"default"`, and what it finds.
pub fn detectors() -> impl Iterator<Item = (&'static str, &'static str, bool, &'static str)> {
    catalog::CATALOG.iter().map(|entry| (entry.name, entry.group.name(), entry.default, entry.finds))
}

/// The transform.
pub struct Redact {
    engine: Engine,
    hits: Hits,
    shared: PerShared<Option<RedactedShared>>,
    scratch: Vec<u8>,
    /// Fields to be dropped: the record's index and the field's.
    dropped: Vec<(usize, usize)>,
    events: Vec<usize>,
}

/// Shared fields of which some held something.
#[derive(Clone)]
struct RedactedShared {
    fields: Arc<Shared>,
    /// What each rule took out of them: so much of it is in each record.
    counts: Vec<(Arc<str>, u64)>,
    keys_changed: bool,
}

impl Redact {
    /// The transform that `config` describes.
    pub fn new(config: &RedactConfig) -> Result<Redact, Vec<Problem>> {
        let engine = config::engine(config)?;
        let (dropped, events) = (Vec::new(), Vec::new());
        Ok(Redact { engine, hits: Hits::default(), shared: PerShared::new(), scratch: Vec::new(), dropped, events })
    }

    /// Redacts the fields that all records share; says whether a key of them changed.
    fn redact_shared(&mut self, batch: &mut Batch, report: &mut Report) -> bool {
        let (engine, scratch) = (&mut self.engine, &mut self.scratch);
        let made = self.shared.get_or_make(batch.shared(), |shared| RedactedShared::of(shared, engine, scratch));
        let Some(made) = made else { return false };
        for (rule, count) in &made.counts {
            report.redacted(rule, count * batch.len() as u64);
        }
        batch.set_shared(made.fields.clone());
        made.keys_changed
    }

    /// Redacts the value of one field.
    fn value(&mut self, bytes: &mut Vec<u8>, field: &mut Field) {
        let value = Value { kind: field.kind, raw: field.value.of(bytes) };
        if let Some(kind) = redact_value(&mut self.engine, value, field.key.of(bytes), &mut self.scratch) {
            *field = Field { kind, value: append(bytes, &self.scratch), ..*field };
        }
    }

    /// Redacts the key of one field; says whether it changed.
    fn key(&mut self, bytes: &mut Vec<u8>, field: &mut Field) -> bool {
        let Some(key) = self.engine.redact(field.key.of(bytes), Form::Escaped, &[]) else { return false };
        field.key = append(bytes, key);
        true
    }

    /// Removes the fields and records that are to be dropped.
    fn drop_marked(&mut self, batch: &mut Batch, report: &mut Report) {
        let mut index = 0;
        if !self.dropped.is_empty() {
            batch.rewrite(|record, old| {
                for (at, field) in old.iter().enumerate() {
                    if self.dropped.binary_search(&(index, at)).is_err() {
                        record.keep(std::slice::from_ref(field));
                    }
                }
                index += 1;
            });
            self.dropped.clear();
        }
        if !self.events.is_empty() {
            let mut index = 0;
            batch.retain(|_| {
                let kept = self.events.binary_search(&index).is_err();
                index += 1;
                kept
            });
            report.filtered += self.events.len() as u64;
            self.events.clear();
        }
    }
}

impl Transform for Redact {
    fn apply(&mut self, batch: &mut Batch, report: &mut Report) {
        let shared_keys_changed = self.redact_shared(batch, report);
        let mut hits = std::mem::take(&mut self.hits);
        let everything = !self.engine.mark(batch.bytes(), &mut hits);
        if everything || shared_keys_changed || hits.any() {
            let shared = batch.shared().clone();
            let looks = |span: Span| everything || hits.within(span.start as usize, span.end as usize);
            batch.edit_values(|bytes, record, fields| {
                let mut keys_changed = shared_keys_changed;
                for (at, field) in fields.iter_mut().enumerate() {
                    // A key may say something of a value that looks like nothing.
                    let looks_at_key = looks(field.key);
                    if looks_at_key || looks(field.value) {
                        self.value(bytes, field);
                    }
                    if looks_at_key {
                        keys_changed |= self.key(bytes, field);
                    }
                    let drops = std::mem::take(&mut self.engine.drops);
                    if drops.field {
                        self.dropped.push((record, at));
                    }
                    if drops.event && self.events.last() != Some(&record) {
                        self.events.push(record);
                    }
                }
                if keys_changed {
                    tell_keys_apart(bytes, fields, &shared);
                }
            });
            self.engine.take_counts(|rule, count| report.redacted(rule, count));
            self.drop_marked(batch, report);
        }
        self.hits = hits;
    }
}

impl RedactedShared {
    fn of(shared: &Arc<Shared>, engine: &mut Engine, scratch: &mut Vec<u8>) -> Option<RedactedShared> {
        let mut fields = SharedFields::default();
        let (mut changed, mut keys_changed) = (false, false);
        for (key, value) in shared.iter() {
            let below = key;
            let key = match engine.redact(key, Form::Escaped, &[]) {
                Some(key) => {
                    keys_changed = true;
                    tree::free_key(key, |key| fields.get(key).is_some() || shared.get(key).is_some())
                }
                None => key.to_vec(),
            };
            let redacted = redact_value(engine, value, below, scratch);
            let drops = std::mem::take(&mut engine.drops);
            match redacted {
                Some(_) if drops != Drops::default() => changed = true,
                Some(kind) => {
                    changed = true;
                    fields.set(&key, Value { kind, raw: scratch });
                }
                None => fields.set(&key, value),
            }
        }
        let mut counts = Vec::new();
        engine.take_counts(|rule, count| counts.push((rule.clone(), count)));
        (changed || keys_changed).then(|| RedactedShared { fields: Shared::new(fields), counts, keys_changed })
    }
}

/// Writes the value without what the rules take out to `out` and gives its new kind; `None` where nothing was found. `key` is
/// what it stands below, in its escaped form.
fn redact_value(engine: &mut Engine, value: Value<'_>, key: &[u8], out: &mut Vec<u8>) -> Option<Kind> {
    let (form, kind) = match value.kind {
        // A text that is JSON as a whole stays so.
        Kind::Text if is_json(value.raw) => return tree::redact(engine, value.raw, key, out).then_some(Kind::Text),
        Kind::Text => (Form::Plain, Kind::Text),
        Kind::String | Kind::Number => (Form::Escaped, Kind::String),
        Kind::Object | Kind::Array => return tree::redact(engine, value.raw, key, out).then_some(value.kind),
        Kind::Bool | Kind::Null => return None,
    };
    let redacted = engine.redact(value.raw, form, key)?;
    out.clear();
    out.extend_from_slice(redacted);
    Some(kind)
}

fn is_json(text: &[u8]) -> bool {
    matches!(text.trim_ascii_start().first(), Some(b'{' | b'[')) && skidder_pipeline::json::value(text).is_ok()
}

/// Gives fields whose keys became equal to others' new ones: `[EMAIL]`, `[EMAIL]_2`.
fn tell_keys_apart(bytes: &mut Vec<u8>, fields: &mut [Field], shared: &Shared) {
    for index in 0..fields.len() {
        let (before, rest) = fields.split_at_mut(index);
        let [field, after @ ..] = rest else { return };
        let key = field.key.of(bytes);
        if shared.get(key).is_none() && !before.iter().any(|other| other.key.of(bytes) == key) {
            continue;
        }
        let others = before.iter().chain(&*after);
        let free = tree::free_key(key, |key| shared.get(key).is_some() || others.clone().any(|other| other.key.of(bytes) == key));
        field.key = append(bytes, &free);
    }
}

#[cfg(test)]
mod tests;
