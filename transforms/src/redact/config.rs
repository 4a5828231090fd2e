//! The options of `redact`, and the engine that they make.

use std::sync::Arc;

use skidder_pipeline::problem::Problem;

use super::action::{Action, Writer};
use super::catalog::{self, Detector};
use super::engine::{Engine, Finder, Rule, WITHHELD_NAME};
use super::pattern::{Conditions, Pattern, Validator};
use super::pseudonym::{KeyConfig, Keys};

/// The most rules of the configuration: each is a search of everything, and takes up to half a MiB of memory.
const MAX_RULES: usize = 50;

/// Takes personal data and secrets out of every string, number and key of a record, at any depth, and puts a tag in their
/// place: `[EMAIL]`.
///
/// What overlaps is taken out together. A number that loses a part of itself becomes a string, so that JSON stays JSON.
/// docs/redaction.md lists the detectors, what each finds and what none can.
#[derive(Clone, Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RedactConfig {
    /// The detectors to apply, by their names or those of groups: `"default"`, `"all"`, `"secrets"`, `"contact"`, `"payment"`,
    /// `"identity"`, `"network"`, `"crypto"`.
    #[serde(default = "default_detectors")]
    pub detectors: Vec<String>,
    /// Detectors and groups to leave out of these.
    #[serde(default)]
    pub except: Vec<String>,
    /// What is done with what the detectors find, where `actions` says nothing else.
    #[serde(default)]
    pub action: Action,
    /// What is done with what a detector finds, by its name or that of its group.
    #[serde(default)]
    pub actions: std::collections::BTreeMap<String, Action>,
    /// Leaves IPv4 addresses of private networks (RFC 1918, 6598, 3927), which are those of machines and pods.
    #[serde(default = "yes")]
    pub keep_private_addresses: bool,
    /// The keys for `pseudonym`. The first one is written first; more than one is for the time of a change of keys, when
    /// each tag carries the pseudonyms of all: `[EMAIL:k3:…|k2:…]`.
    #[serde(default)]
    pub pseudonym_keys: Vec<KeyConfig>,
    /// Rules of your own. Each costs a search of everything; one that looks around (`^`, `$`, `\b`) costs more, because it
    /// must be asked about every leaf by itself.
    #[serde(default)]
    pub rules: Vec<RuleConfig>,
    /// Looks at every leaf with plain regular expressions in place of the quick scan: many times slower, for comparing.
    #[serde(default)]
    pub paranoid: bool,
}

/// A rule of the configuration.
#[derive(Clone, Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleConfig {
    /// The name, for the counts and the tag.
    pub name: String,
    /// The regular expression (Rust's syntax, linear in time) of what to take out. It may not match the empty string.
    pub pattern: String,
    /// Words, in any case, of which one must stand before the value or in its key.
    #[serde(default)]
    pub keywords: Vec<String>,
    /// How many bytes before the value a keyword counts.
    #[serde(default = "default_within")]
    pub within_bytes: usize,
    /// A check of digits that the value must pass.
    pub validator: Option<Validator>,
    /// Values that stay, as they are written.
    #[serde(default)]
    pub allow: Vec<String>,
    /// What is put in its place, as it is written; by default the name in capitals and brackets: `[BOOKING_ID]`.
    pub replacement: Option<String>,
    /// What is done with what it finds.
    #[serde(default)]
    pub action: Action,
}

fn default_detectors() -> Vec<String> {
    vec!["default".to_owned()]
}

fn default_within() -> usize {
    40
}

fn yes() -> bool {
    true
}

impl Default for RedactConfig {
    fn default() -> Self {
        RedactConfig {
            detectors: default_detectors(),
            except: Vec::new(),
            action: Action::Replace,
            actions: Default::default(),
            keep_private_addresses: true,
            pseudonym_keys: Vec::new(),
            rules: Vec::new(),
            paranoid: false,
        }
    }
}

/// The engine for a configuration, or all that is wrong with it.
pub(super) fn engine(config: &RedactConfig) -> Result<Engine, Vec<Problem>> {
    let rules = rules(config)?;
    let own = config.rules.len();
    check_replacements(Engine::new(rules, config.keep_private_addresses, config.paranoid), own)
}

fn rules(config: &RedactConfig) -> Result<Vec<Rule>, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut on = [false; catalog::COUNT];
    for (option, names, value) in [("detectors", &config.detectors, true), ("except", &config.except, false)] {
        for (index, name) in names.iter().enumerate() {
            match catalog::named(name) {
                Some(detectors) => detectors.iter().for_each(|detector| on[*detector as usize] = value),
                None => problems.push(unknown(&format!("{option}.{index}"), name)),
            }
        }
    }
    let mut actions = [config.action; catalog::COUNT];
    // Groups first, so that a detector's own action counts more.
    for single in [false, true] {
        for (name, action) in &config.actions {
            match catalog::named(name) {
                Some(detectors) if (detectors.len() == 1) == single => {
                    detectors.iter().for_each(|detector| actions[*detector as usize] = *action);
                }
                None if single => problems.push(unknown(&format!("actions.{name}"), name)),
                _ => {}
            }
        }
    }
    let keys = keys(config, &actions, &mut problems);
    let mut rules: Vec<Rule> = Vec::new();
    for detector in Detector::all().filter(|detector| on[*detector as usize]) {
        let (action, entry) = (actions[detector as usize], detector.entry());
        let writer = Writer::new(action, Some(detector), &format!("[{}]", entry.tag), entry.tag, keys.clone());
        rules.push(Rule { name: entry.name.into(), counted: counted(entry.name, action), writer, finder: Finder::Detector(detector) });
    }
    if config.rules.len() > MAX_RULES {
        problems.push(Problem::at("rules", format!("there are more than {MAX_RULES} rules")).help("join patterns with `|`"));
    }
    for (index, rule) in config.rules.iter().enumerate() {
        let problem = |option: &str, message: String| Problem::at(&format!("rules.{index}.{option}"), message);
        if rule.name.is_empty()
            || rule.name.contains('.')
            || rule.name == WITHHELD_NAME
            || rules.iter().any(|other| *other.name == *rule.name)
        {
            problems.push(problem("name", format!("a rule needs a name of its own without dots, and `{}` is none", rule.name)));
        }
        let tag = rule.name.to_uppercase();
        let replacement = rule.replacement.clone().unwrap_or_else(|| format!("[{tag}]"));
        let conditions = Conditions {
            keywords: rule.keywords.iter().map(|word| word.to_lowercase().into_bytes()).collect(),
            within_bytes: rule.within_bytes,
            validator: rule.validator,
            allow: rule.allow.iter().map(|value| value.clone().into_bytes()).collect(),
        };
        match Pattern::new(&rule.pattern, conditions) {
            Ok(pattern) => rules.push(Rule {
                name: rule.name.as_str().into(),
                counted: counted(&rule.name, rule.action),
                writer: Writer::new(rule.action, None, &replacement, &tag, keys.clone()),
                finder: Finder::Pattern(pattern),
            }),
            Err(message) => problems.push(problem("pattern", message)),
        }
    }
    if rules.is_empty() && problems.is_empty() {
        problems
            .push(Problem::at("", "there is no rule, so nothing would be redacted").help("leave `detectors` out to have the default ones"));
    }
    if problems.is_empty() { Ok(rules) } else { Err(problems) }
}

/// What a rule's finds are counted under: what was only looked at, or masked, is told apart from what was taken out.
fn counted(name: &str, action: Action) -> Arc<str> {
    match action {
        Action::Replace => name.into(),
        _ => format!("{name}.{}", action.name()).into(),
    }
}

fn unknown(path: &str, name: &str) -> Problem {
    Problem::at(path, format!("there is no detector and no group `{name}`")).help(format!("known: {}", catalog::names().join(", ")))
}

/// The keys for pseudonyms, where some action needs them.
fn keys(config: &RedactConfig, actions: &[Action], problems: &mut Vec<Problem>) -> Option<Arc<Keys>> {
    let needed = actions.contains(&Action::Pseudonym) || config.rules.iter().any(|rule| rule.action == Action::Pseudonym);
    match Keys::read(&config.pseudonym_keys) {
        Ok(keys) if keys.is_empty() && needed => {
            problems.push(
                Problem::at("", "pseudonyms need a key")
                    .help("add `pseudonym_keys = [{ id = \"k1\", file = \"/etc/skidder/pseudonym.key\" }]`"),
            );
            None
        }
        Ok(keys) => (!keys.is_empty()).then(|| Arc::new(keys)),
        Err((index, message)) => {
            problems.push(Problem::at(&format!("pseudonym_keys.{index}"), message));
            None
        }
    }
}

/// Refuses rules that find something in a replacement: redacting twice would not be redacting once. `own` is the number of
/// rules of the configuration, which are the last ones.
fn check_replacements(mut engine: Engine, own: usize) -> Result<Engine, Vec<Problem>> {
    let first = engine.rules().len() - own;
    let known: Vec<_> = engine.rules().iter().map(|rule| (rule.name.clone(), rule.writer.replacement().to_vec())).collect();
    let mut problems = Vec::new();
    for (index, (name, replacement)) in known.iter().enumerate() {
        let Some(finder) = engine.find(replacement, &[]).first().map(|hit| hit.rule) else { continue };
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
    if problems.is_empty() { Ok(engine) } else { Err(problems) }
}
