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
mod commands;
mod config;
mod context;
mod detect;
mod digits;
mod engine;
mod given_names;
mod key_words;
mod keys;
mod line;
mod masks;
mod names;
mod pattern;
mod prose;
mod pseudonym;
mod readers;
mod reference;
mod scan;
mod text;
mod token_table;
mod tokens;
mod tree;
mod view;

use std::sync::Arc;

use skidder_pipeline::batch::{Batch, Cut, Field};
use skidder_pipeline::problem::Problem;
use skidder_pipeline::shared::{PerShared, Shared, SharedFields};
use skidder_pipeline::transform::{Report, Transform};
use skidder_pipeline::value::{Kind, Span, Value};

use crate::fields::append;
pub use action::Action;
pub use config::{RedactConfig, RuleConfig};
use engine::{Engine, Form};
pub use line::{Found, LineRedactor};
pub use pattern::Validator;
pub use pseudonym::{KeyConfig, Keys, pseudonym};
use scan::Hits;
use tree::Below;

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
    keys: MovedKeys,
}

/// Keys that do not stand before their values, and whether they say something of them.
#[derive(Default)]
struct MovedKeys {
    known: Vec<(Span, bool)>,
}

impl MovedKeys {
    /// The fields of a batch share few of such keys, one of each.
    const MAX: usize = 16;

    fn clear(&mut self) {
        self.known.clear();
    }

    /// Whether there is something in a key, or it says something of its value.
    fn says(&mut self, engine: &mut Engine, bytes: &[u8], key: Span) -> bool {
        if let Some((_, says)) = self.known.iter().find(|(known, _)| *known == key) {
            return *says;
        }
        let text = key.of(bytes);
        let says =
            text.contains(&b'\\') || names::says(text, false).is_some() || context::in_key(text) || !engine.find(text, &[]).is_empty();
        if self.known.len() < Self::MAX {
            self.known.push((key, says));
        }
        says
    }
}

/// Whether what stands around a text in the batch's bytes is no part of it for any detector, so that what the scan found among
/// the bytes is what there is in the text. Else it must be looked at by itself.
fn stands_apart(bytes: &[u8], span: Span) -> bool {
    let (start, end) = (span.start as usize, span.end as usize);
    let before = match bytes[..start] {
        [] => true,
        [.., before, b' '] => !before.is_ascii_digit() && before != b' ' && before != b')',
        [.., before] => matches!(before, b'"' | b'\n' | b',' | b':' | b'[' | b'{'),
    };
    let after = bytes.get(end).is_none_or(|after| matches!(after, b'"' | b'\n' | b'\r' | b',' | b']' | b'}'));
    start >= end || before && after
}

/// Whether a key stands right before its value, as in JSON, so that the scan saw both together.
fn stands_before(key: Span, value: Span) -> bool {
    const MAX_BETWEEN_BYTES: u32 = 8;
    (2..=MAX_BETWEEN_BYTES).contains(&value.start.wrapping_sub(key.end))
}

/// Shared fields of which some held something.
#[derive(Clone)]
struct RedactedShared {
    fields: Arc<Shared>,
    /// What each rule took out of them: so much of it is in each record.
    counts: Vec<(Arc<str>, u64)>,
    keys_changed: bool,
    /// Whether what was found in them drops their records.
    drop_events: bool,
}

impl Redact {
    /// The transform that `config` describes.
    pub fn new(config: &RedactConfig) -> Result<Redact, Vec<Problem>> {
        let engine = config::engine(config)?;
        let (dropped, events) = (Vec::new(), Vec::new());
        Ok(Redact {
            engine,
            hits: Hits::default(),
            shared: PerShared::new(),
            scratch: Vec::new(),
            dropped,
            events,
            keys: MovedKeys::default(),
        })
    }

    /// Redacts the fields that all records share; says whether a key of them changed.
    fn redact_shared(&mut self, batch: &mut Batch, namespace: Option<&Arc<str>>, report: &mut Report) -> bool {
        let (engine, scratch) = (&mut self.engine, &mut self.scratch);
        let made = self.shared.get_or_make(batch.shared(), |shared| RedactedShared::of(shared, engine, scratch));
        let Some(made) = made else { return false };
        for (rule, count) in &made.counts {
            report.redacted(rule, namespace, count * batch.len() as u64);
        }
        batch.set_shared(made.fields.clone());
        if made.drop_events {
            report.filtered += batch.len() as u64;
            batch.retain(|_| false);
        }
        made.keys_changed
    }

    /// Redacts the value of one field.
    fn value(&mut self, bytes: &mut Vec<u8>, field: &mut Field, looks_at_key: bool, looks: impl Fn(Span) -> bool) {
        let value = Value { kind: field.kind, raw: field.value.of(bytes) };
        let base = field.value.start as usize;
        let looks = |start, end| looks(Span::new(base + start, base + end));
        if let Some(kind) =
            redact_value(&mut self.engine, value, Below { key: field.key.of(bytes).into(), looks: looks_at_key }, looks, &mut self.scratch)
        {
            *field = Field { kind, value: append(bytes, &self.scratch), ..*field };
        }
    }

    /// Redacts the value of a field that is a part of a longer text, and what is cut off beside it with it.
    fn part(&mut self, bytes: &mut Vec<u8>, field: &mut Field, cut: &mut Cut) {
        let form = if field.kind == Kind::Text { Form::Plain } else { Form::Escaped };
        let (base, end) = (cut.around.start as usize, cut.around.end as usize);
        let part = (field.value.start as usize - base, field.value.end as usize - base);
        let key = field.key.of(bytes);
        let Some((text, (start, end))) = self.engine.redact_part(&bytes[base..end], form, key, part) else { return };
        cut.around = append(bytes, text);
        let base = cut.around.start as usize;
        cut.value = Span::new(base + start, base + end);
        field.value = cut.value;
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
        let namespace = namespace(batch.shared());
        let shared_keys_changed = self.redact_shared(batch, namespace.as_ref(), report);
        let mut hits = std::mem::take(&mut self.hits);
        let everything = !self.engine.mark(batch.bytes(), &mut hits);
        let shared = batch.shared().clone();
        let mut keys = std::mem::take(&mut self.keys);
        keys.clear();
        let mut cuts = std::mem::take(batch.cuts());
        batch.edit_values(|bytes, record, fields| {
            let mut keys_changed = shared_keys_changed;
            for (at, field) in fields.iter_mut().enumerate() {
                let within = |span: Span| everything || hits.within(span.start as usize, span.end as usize);
                // A key may say something of a value that looks like nothing.
                let looks_at_key = everything
                    || if stands_before(field.key, field.value) {
                        within(field.key)
                    } else {
                        keys.says(&mut self.engine, bytes, field.key)
                    };
                if looks_at_key {
                    let changed = self.key(bytes, field);
                    keys_changed |= changed;
                }
                let of_field = |cut: &&mut Cut| cut.value == field.value && matches!(field.kind, Kind::Text | Kind::String);
                if let Some(cut) = cuts.iter_mut().find(of_field) {
                    if looks_at_key || within(cut.around) || !stands_apart(bytes, cut.around) {
                        self.part(bytes, field, cut);
                    }
                } else {
                    let apart = stands_apart(bytes, field.value);
                    if looks_at_key || !apart || within(field.value) {
                        self.value(bytes, field, looks_at_key, |span| !apart || within(span));
                    }
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
        *batch.cuts() = cuts;
        self.keys = keys;
        self.engine.take_counts(|rule, count| report.redacted(rule, namespace.as_ref(), count));
        self.drop_marked(batch, report);
        self.hits = hits;
    }
}

/// The namespace of the pod that all records of a batch come from.
fn namespace(shared: &Shared) -> Option<Arc<str>> {
    let pod = skidder_pipeline::json::member(shared.get(b"kubernetes")?, b"pod_namespace")?;
    (pod.kind == Kind::String).then(|| String::from_utf8_lossy(pod.raw).into())
}

impl RedactedShared {
    fn of(shared: &Arc<Shared>, engine: &mut Engine, scratch: &mut Vec<u8>) -> Option<RedactedShared> {
        let mut fields = SharedFields::default();
        let (mut changed, mut keys_changed, mut drop_events) = (false, false, false);
        for (key, value) in shared.iter() {
            let key = match engine.redact(key, Form::Escaped, &[]) {
                Some(key) => {
                    keys_changed = true;
                    tree::free_key(key, |key| fields.get(key).is_some() || shared.get(key).is_some())
                }
                None => key.to_vec(),
            };
            let redacted = redact_value(engine, value, Below { key: key.as_slice().into(), looks: true }, |_, _| true, scratch);
            let drops = std::mem::take(&mut engine.drops);
            drop_events |= drops.event;
            match redacted {
                Some(_) if drops.field => changed = true,
                Some(kind) => {
                    changed = true;
                    fields.set(&key, Value { kind, raw: scratch });
                }
                None => fields.set(&key, value),
            }
        }
        let mut counts = Vec::new();
        engine.take_counts(|rule, count| counts.push((rule.clone(), count)));
        (changed || keys_changed).then(|| RedactedShared { fields: Shared::new(fields), counts, keys_changed, drop_events })
    }
}

/// Writes the value without what the rules take out to `out` and gives its new kind; `None` where nothing was found. `below` is
/// the key that it stands below, in its escaped form, and `looks` says of a stretch of it whether there is something to look at.
fn redact_value(
    engine: &mut Engine,
    value: Value<'_>,
    below: Below<'_>,
    looks: impl Fn(usize, usize) -> bool,
    out: &mut Vec<u8>,
) -> Option<Kind> {
    let (redacted, kind) = match value.kind {
        // A text that is JSON as a whole stays so.
        Kind::Text if is_json(value.raw) => return tree::redact(engine, value.raw, below, looks, out).then_some(Kind::Text),
        Kind::Text => (engine.redact(value.raw, Form::Plain, &below.key)?.into(), Kind::Text),
        Kind::String => (tree::string(engine, value.raw, &below.key)?, Kind::String),
        Kind::Number => (engine.redact(value.raw, Form::Escaped, &below.key)?.into(), Kind::String),
        Kind::Object | Kind::Array => return tree::redact(engine, value.raw, below, looks, out).then_some(value.kind),
        Kind::Bool | Kind::Null => return None,
    };
    out.clear();
    out.extend_from_slice(&redacted);
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
