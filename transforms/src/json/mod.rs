//! `json`: the members of a JSON line become the record's fields.
//!
//! The line is walked once and shallowly; the fields point into it, nested values stay as they were written. What the
//! agent knows of a record is never overwritten by what its application says: such a member is kept under another key.

mod shapes;

use skidder_pipeline::batch::{Batch, Field, Rewrite};
use skidder_pipeline::json::{self, Malformed};
use skidder_pipeline::path::Path;
use skidder_pipeline::problem::Problem;
use skidder_pipeline::transform::{Report, Transform};
use skidder_pipeline::value::{Kind, Span};

use crate::fields::{Appended, position, single_key};
use shapes::Shapes;

/// Makes the members of a JSON line the record's own fields.
///
/// A line that is no JSON object, or nests deeper than 64, stays as it is and is marked. Of a key that stands twice the last value counts. A member
/// whose key the record has already, from the agent (`timestamp`, `kubernetes`, …), is kept with `conflict_prefix` before
/// its key, so that no pod can forge where its records come from.
#[derive(Clone, Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JsonConfig {
    /// The field that holds the JSON. It is removed where it was read.
    #[serde(default = "default_field")]
    pub field: String,
    /// The key below which the object goes as a whole. Without it, its members become fields of the record itself.
    pub target: Option<String>,
    /// The field that is set to `true` where `field` is not a JSON object. Empty: no mark.
    #[serde(default = "default_mark")]
    pub mark: String,
    /// What is put before the key of a member, repeatedly, until it is no key that the agent set.
    #[serde(default = "default_conflict_prefix")]
    pub conflict_prefix: String,
}

fn default_field() -> String {
    "message".to_owned()
}

fn default_mark() -> String {
    "not_json".to_owned()
}

fn default_conflict_prefix() -> String {
    "app_".to_owned()
}

impl Default for JsonConfig {
    fn default() -> Self {
        JsonConfig { field: default_field(), target: None, mark: default_mark(), conflict_prefix: default_conflict_prefix() }
    }
}

/// The transform.
pub struct Json {
    field: Path,
    target: Option<Path>,
    mark: Option<Path>,
    shapes: Shapes,
}

impl Json {
    /// The transform that `config` describes.
    pub fn new(config: &JsonConfig) -> Result<Json, Vec<Problem>> {
        let mut problems = Vec::new();
        let field = single_key("field", &config.field, &mut problems);
        let target = config.target.as_ref().and_then(|target| single_key("target", target, &mut problems));
        let mark = if config.mark.is_empty() { None } else { single_key("mark", &config.mark, &mut problems) };
        if config.conflict_prefix.is_empty() {
            problems.push(Problem::at("conflict_prefix", "the prefix is empty").help("write some letters, for example `app_`"));
        }
        let Some(field) = field.filter(|_| problems.is_empty()) else { return Err(problems) };
        Ok(Json { field, target, mark, shapes: Shapes::new(&config.conflict_prefix) })
    }

    /// Writes the record's new list of fields. Says whether the field was there and was no JSON object.
    fn read(&mut self, record: &mut Rewrite<'_>, old: &[Field]) -> Result<(), NotJson> {
        let Some(at) = position(record.bytes(), old, self.field.first()) else {
            record.keep(old);
            return Ok(());
        };
        record.keep(&old[..at]);
        record.keep(&old[at + 1..]);
        let kept = old.len() - 1;
        let read = object_in(record, old[at]).and_then(|span| {
            let walk = record.walk_json(span)?;
            if walk.escaped_keys {
                canonicalise(record, kept);
            }
            Ok(span)
        });
        let Ok(span) = read else {
            record.truncate(0);
            record.keep(old);
            return Err(NotJson);
        };
        if let Some(target) = &self.target {
            record.truncate(kept);
            let key = record.append(target.first());
            record.push(Field { key, value: trimmed(record.bytes(), span), kind: Kind::Object });
        }
        self.shapes.settle(record, kept);
        Ok(())
    }
}

struct NotJson;

impl Transform for Json {
    fn apply(&mut self, batch: &mut Batch, report: &mut Report) {
        self.shapes.start_batch(batch.shared());
        let mark = self.mark.clone().filter(|mark| batch.shared().get(mark.first()).is_none());
        let mut marking = Appended::default();
        batch.rewrite(|record, old| {
            if self.read(record, old).is_ok() {
                return;
            }
            report.not_json += 1;
            if let Some(mark) = &mark {
                let key = marking.key(record.bytes_mut(), mark.first());
                let value = marking.value(record.bytes_mut(), b"true");
                let (written, bytes) = record.written_and_bytes();
                match position(bytes, written, mark.first()) {
                    Some(at) => (written[at].value, written[at].kind) = (value, Kind::Bool),
                    None => record.push(Field { key, value, kind: Kind::Bool }),
                }
            }
        });
    }
}

/// Where the text of the object is: the value itself or, for the inside of a JSON string, its text without escapes, which
/// is appended.
fn object_in(record: &mut Rewrite<'_>, field: Field) -> Result<Span, Malformed> {
    match field.kind {
        Kind::Text | Kind::Object => Ok(field.value),
        Kind::String => {
            let text = json::unescape(field.value.of(record.bytes())).into_owned();
            if text.first().is_none_or(|first| !matches!(first, b'{' | b' ' | b'\t' | b'\n' | b'\r')) {
                return Err(Malformed::NotAnObject);
            }
            Ok(record.append(&text))
        }
        Kind::Number | Kind::Bool | Kind::Null | Kind::Array => Err(Malformed::NotAnObject),
    }
}

/// Gives the members their keys' canonical form, so that equal keys are equal bytes.
fn canonicalise(record: &mut Rewrite<'_>, kept: usize) {
    let (written, bytes) = record.written_and_bytes();
    for field in &mut written[kept..] {
        let key = field.key.of(bytes);
        if key.contains(&b'\\') {
            let canonical = json::canonical_key(key).into_owned();
            let start = bytes.len();
            bytes.extend_from_slice(&canonical);
            field.key = Span::new(start, bytes.len());
        }
    }
}

fn trimmed(bytes: &[u8], span: Span) -> Span {
    let text = span.of(bytes);
    let start = text.len() - text.trim_ascii_start().len();
    Span::new(span.start as usize + start, span.start as usize + start + text.trim_ascii().len())
}

#[cfg(test)]
mod tests;
