//! `redact`: takes personal data and secrets out of every leaf of a record.
//!
//! A quick [scan] over the batch's bytes says which blocks could hold something; only the fields that lie in one are looked
//! at. A field that is one text is a leaf; of a nested value [tree] visits each string, number and key. The [engine] looks at
//! a leaf, by way of a decoded [view] where it holds escapes, until nothing is found any more, and so what comes out once
//! comes out the same again.
//!
//! Invariants: valid JSON in, valid JSON out; tags are never taken for values; what cannot be checked is withheld.

mod card;
mod detect;
mod engine;
mod masks;
mod pattern;
mod scan;
mod tree;
mod view;

use std::sync::Arc;

use skidder_pipeline::batch::{Batch, Cut, Field};
use skidder_pipeline::problem::Problem;
use skidder_pipeline::shared::{PerShared, Shared, SharedFields};
use skidder_pipeline::transform::{Report, Transform};
use skidder_pipeline::value::{Kind, Span, Value};

use crate::fields::append;
use engine::{Engine, Finder, Form, Rule, WITHHELD_NAME};
use pattern::Pattern;
use scan::Hits;

/// Takes personal data and secrets out of every string, number and key of a record, at any depth, and puts a tag in their
/// place: `[EMAIL]`.
///
/// What overlaps is taken out together. A number that loses a part of itself becomes a string, so that JSON stays JSON.
#[derive(Clone, Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RedactConfig {
    /// The built-in rules to apply; all of them by default.
    #[serde(default = "Builtin::all")]
    pub builtins: Vec<Builtin>,
    /// Rules of your own. Each costs a search of everything; one that looks around (`^`, `$`, `\b`) costs more, because it
    /// must be asked about every leaf by itself.
    #[serde(default)]
    pub rules: Vec<RuleConfig>,
}

/// The built-in rules.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Builtin {
    /// Mail addresses: `[EMAIL]`.
    Email,
    /// Payment card numbers of known issuers with a right check digit: `[CREDIT_CARD]`.
    CreditCard,
    /// IPv4 addresses, except those of the host itself: `[IPV4]`.
    Ipv4,
    /// JSON Web Tokens: `[JWT]`.
    Jwt,
    /// What follows the word `Bearer`: `[BEARER_TOKEN]`.
    BearerToken,
}

/// A rule of the configuration.
#[derive(Clone, Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleConfig {
    /// The name, for the counts and the tag.
    pub name: String,
    /// The regular expression (Rust's syntax, linear in time) of what to take out. It may not match the empty string.
    pub pattern: String,
    /// What is put in its place, as it is written; by default the name in capitals and brackets: `[BOOKING_ID]`.
    pub replacement: Option<String>,
}

/// The most rules of the configuration: each is a search of everything, and takes up to half a MiB of memory.
const MAX_RULES: usize = 50;

impl Builtin {
    /// How many there are.
    const COUNT: usize = 5;

    fn all() -> Vec<Builtin> {
        vec![Builtin::Email, Builtin::CreditCard, Builtin::Ipv4, Builtin::Jwt, Builtin::BearerToken]
    }

    fn name(self) -> &'static str {
        match self {
            Builtin::Email => "email",
            Builtin::CreditCard => "credit_card",
            Builtin::Ipv4 => "ipv4",
            Builtin::Jwt => "jwt",
            Builtin::BearerToken => "bearer_token",
        }
    }
}

impl Default for RedactConfig {
    fn default() -> Self {
        RedactConfig { builtins: Builtin::all(), rules: Vec::new() }
    }
}

/// The transform.
pub struct Redact {
    engine: Engine,
    hits: Hits,
    shared: PerShared<Option<RedactedShared>>,
    scratch: Vec<u8>,
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
        let rules = rules(config)?;
        Ok(Redact { engine: Engine::new(rules), hits: Hits::default(), shared: PerShared::new(), scratch: Vec::new() })
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
        if let Some(kind) = redact_value(&mut self.engine, value, &mut self.scratch) {
            *field = Field { kind, value: append(bytes, &self.scratch), ..*field };
        }
    }

    /// Redacts the value of a field that is a part of a longer text, and what is cut off beside it with it.
    fn part(&mut self, bytes: &mut Vec<u8>, field: &mut Field, cut: &mut Cut) {
        let form = if field.kind == Kind::Text { Form::Plain } else { Form::Escaped };
        let (base, end) = (cut.around.start as usize, cut.around.end as usize);
        let part = (field.value.start as usize - base, field.value.end as usize - base);
        let Some((text, (start, end))) = self.engine.redact_part(&bytes[base..end], form, part) else { return };
        cut.around = append(bytes, text);
        let base = cut.around.start as usize;
        cut.value = Span::new(base + start, base + end);
        field.value = cut.value;
    }

    /// Redacts the key of one field; says whether it changed.
    fn key(&mut self, bytes: &mut Vec<u8>, field: &mut Field) -> bool {
        let Some(key) = self.engine.redact(field.key.of(bytes), Form::Escaped) else { return false };
        field.key = append(bytes, key);
        true
    }
}

impl Transform for Redact {
    fn apply(&mut self, batch: &mut Batch, report: &mut Report) {
        let shared_keys_changed = self.redact_shared(batch, report);
        let mut hits = std::mem::take(&mut self.hits);
        hits.find(batch.bytes());
        let everything = !self.engine.mark_patterns(batch.bytes(), &mut hits);
        if everything || shared_keys_changed || hits.any() {
            let shared = batch.shared().clone();
            let looks = |span: Span| everything || hits.within(span.start as usize, span.end as usize);
            let mut cuts = std::mem::take(batch.cuts());
            batch.edit_values(|bytes, _, fields| {
                let mut keys_changed = shared_keys_changed;
                for field in &mut *fields {
                    let of_field = |cut: &&mut Cut| cut.value == field.value && matches!(field.kind, Kind::Text | Kind::String);
                    if let Some(cut) = cuts.iter_mut().find(of_field) {
                        if looks(cut.around) {
                            self.part(bytes, field, cut);
                        }
                    } else if looks(field.value) {
                        self.value(bytes, field);
                    }
                    if looks(field.key) {
                        keys_changed |= self.key(bytes, field);
                    }
                }
                if keys_changed {
                    tell_keys_apart(bytes, fields, &shared);
                }
            });
            *batch.cuts() = cuts;
            self.engine.take_counts(|rule, count| report.redacted(rule, count));
        }
        self.hits = hits;
    }
}

impl RedactedShared {
    fn of(shared: &Arc<Shared>, engine: &mut Engine, scratch: &mut Vec<u8>) -> Option<RedactedShared> {
        let mut fields = SharedFields::default();
        let (mut changed, mut keys_changed) = (false, false);
        for (key, value) in shared.iter() {
            let key = match engine.redact(key, Form::Escaped) {
                Some(key) => {
                    keys_changed = true;
                    tree::free_key(key, |key| fields.get(key).is_some() || shared.get(key).is_some())
                }
                None => key.to_vec(),
            };
            match redact_value(engine, value, scratch) {
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

/// Writes the value without what the rules take out to `out` and gives its new kind; `None` where nothing was found.
fn redact_value(engine: &mut Engine, value: Value<'_>, out: &mut Vec<u8>) -> Option<Kind> {
    let (form, kind) = match value.kind {
        Kind::Text => (Form::Plain, Kind::Text),
        Kind::String | Kind::Number => (Form::Escaped, Kind::String),
        Kind::Object | Kind::Array => return tree::redact(engine, value.raw, out).then_some(value.kind),
        Kind::Bool | Kind::Null => return None,
    };
    let redacted = engine.redact(value.raw, form)?;
    out.clear();
    out.extend_from_slice(redacted);
    Some(kind)
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

fn rules(config: &RedactConfig) -> Result<Vec<Rule>, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut rules: Vec<Rule> = Vec::new();
    for builtin in Builtin::all().into_iter().filter(|builtin| config.builtins.contains(builtin)) {
        rules.push(Rule::new(builtin.name(), &tag(builtin.name()), Finder::Builtin(builtin)));
    }
    if config.rules.len() > MAX_RULES {
        problems.push(Problem::at("rules", format!("there are more than {MAX_RULES} rules")).help("join patterns with `|`"));
    }
    for (index, rule) in config.rules.iter().enumerate() {
        let problem = |option: &str, message: String| Problem::at(&format!("rules.{index}.{option}"), message);
        if rule.name.is_empty() || rule.name == WITHHELD_NAME || rules.iter().any(|other| *other.name == *rule.name) {
            problems.push(problem("name", format!("a rule needs a name of its own, and `{}` is none", rule.name)));
        }
        let replacement = rule.replacement.clone().unwrap_or_else(|| tag(&rule.name));
        match Pattern::new(&rule.pattern) {
            Ok(pattern) => rules.push(Rule::new(&rule.name, &replacement, Finder::Pattern(pattern))),
            Err(message) => problems.push(problem("pattern", message)),
        }
    }
    if rules.is_empty() && problems.is_empty() {
        problems.push(Problem::at("", "there is no rule, so nothing would be redacted").help("leave `builtins` out to have all of them"));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    check_replacements(config, rules)
}

/// The tag that stands in the place of what the rule `name` takes out.
fn tag(name: &str) -> String {
    format!("[{}]", name.to_uppercase())
}

/// Refuses rules that find something in a replacement: redacting twice would not be redacting once.
fn check_replacements(config: &RedactConfig, rules: Vec<Rule>) -> Result<Vec<Rule>, Vec<Problem>> {
    let first = rules.len() - config.rules.len();
    let known: Vec<_> = rules.iter().map(|rule| (rule.name.clone(), rule.replacement.clone())).collect();
    let mut engine = Engine::new(rules);
    let mut problems = Vec::new();
    for (index, (name, replacement)) in known.iter().enumerate() {
        let Some(finder) = engine.find(replacement).first().map(|hit| hit.rule) else { continue };
        let message = format!(
            "`{}` finds something in `{}`, which stands for what `{name}` takes out",
            known[finder].0,
            String::from_utf8_lossy(replacement)
        );
        problems.push(match (index.checked_sub(first), finder.checked_sub(first)) {
            (None, Some(own)) => Problem::at(&format!("rules.{own}.pattern"), message).help("make the pattern narrower"),
            (own, _) => Problem::at(&format!("rules.{}.replacement", own.unwrap_or_default()), message)
                .help("choose a replacement that no pattern matches"),
        });
    }
    problems.dedup_by(|one, other| one.path == other.path);
    if problems.is_empty() { Ok(engine.into_rules()) } else { Err(problems) }
}

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;
