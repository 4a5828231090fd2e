//! The labels of streams, and tenants.

use std::collections::{BTreeMap, HashSet};

use skidder_pipeline::batch::RecordView;
use skidder_pipeline::json;
use skidder_pipeline::problem::Problem;
use skidder_pipeline::shared::Shared;
use skidder_pipeline::template::Template;
use skidder_pipeline::value::{Kind, Value};

use super::LokiConfig;
use crate::common::semantics;
use crate::destination::MISSING;

/// Loki's limit on the number of labels (`max_label_names_per_series`); `service_name` is not counted there.
const MAX_LABELS: usize = 15;

/// The longest value. Loki takes 2048 bytes; names of Kubernetes have 253 at the most, label values 63.
const MAX_VALUE_BYTES: usize = 256;

/// How many values a label may have that comes from records: beyond, it is `other`. Each is a stream.
const MAX_VALUES: usize = 100;

/// Loki's limit on a tenant's name.
const MAX_TENANT_BYTES: usize = 150;

/// Labels by default, from what is known of the container alone.
const DEFAULTS: [(&str, &str); 6] = [
    ("cluster", "{{ cluster }}"),
    ("container", "{{ kubernetes.container_name }}"),
    ("env", "{{ env }}"),
    ("namespace", "{{ kubernetes.pod_namespace }}"),
    ("node", "{{ kubernetes.pod_node_name }}"),
    ("region", "{{ region }}"),
];

/// Fields that differ from pod to pod or from record to record.
const UNBOUNDED: [&str; 19] = [
    "pod_name",
    "pod_uid",
    "pod_ip",
    "pod_ips",
    "container_id",
    "container_restart_count",
    "trace_id",
    "traceId",
    "span_id",
    "spanId",
    "correlation_id",
    "request_id",
    "timestamp",
    "message",
    "file",
    "user_id",
    "session_id",
    "ip",
    "url",
];

/// How streams are named.
pub struct LabelSet {
    /// By name.
    labels: Vec<(String, Source)>,
    tenant: Option<Template>,
    /// Structured metadata of each record.
    pub metadata: Vec<(String, Template)>,
    shards: u16,
}

enum Source {
    Service,
    /// From what is known of the container alone.
    Shared(Template),
    Record(Template),
}

/// The tenant and the labels of a frame's destination: `tenant{name="value"}`. No tenant has a `{`.
pub fn split(destination: &str) -> (&str, &str) {
    destination.split_at(destination.find('{').unwrap_or(destination.len()))
}

/// Names and values of labels that [`SharedLabels`] wrote: `{name="value", …}`.
pub fn pairs(labels: &str) -> impl Iterator<Item = (&str, String)> {
    let mut rest = labels.strip_prefix('{').unwrap_or_default();
    std::iter::from_fn(move || {
        let (name, after) = rest.split_once("=\"")?;
        let (mut value, mut end, mut escaped) = (String::new(), after.len(), false);
        for (at, c) in after.char_indices() {
            match c {
                '\\' if !escaped => escaped = true,
                '"' if !escaped => {
                    end = at + 1;
                    break;
                }
                c => {
                    value.push(c);
                    escaped = false;
                }
            }
        }
        rest = &after[end..];
        Some((name.trim_start_matches([',', ' ']), value))
    })
}

impl LabelSet {
    /// What `config` says, or what is wrong with it.
    pub fn new(config: &LokiConfig, problems: &mut Vec<Problem>) -> Option<LabelSet> {
        let before = problems.len();
        let mut labels = vec![("service_name".to_owned(), Source::Service)];
        match &config.labels {
            None => labels.extend(
                DEFAULTS.iter().filter_map(|(name, source)| Some(((*name).to_owned(), Source::Shared(Template::parse(source).ok()?)))),
            ),
            Some(given) => {
                let templates = templates("labels", given, problems);
                if templates.is_empty() && problems.len() == before {
                    problems.push(Problem::at("labels", "a stream needs a label").help("leave `labels` out for the usual ones"));
                }
                labels.clear();
                for (name, template) in templates {
                    if !config.allow_high_cardinality {
                        check_bounded(&name, &template, problems);
                    }
                    labels.push((name, Source::Record(template)));
                }
            }
        }
        labels.sort_by(|(a, _), (b, _)| a.cmp(b));
        let count = labels.iter().filter(|(name, _)| name != "service_name").count() + usize::from(config.stream_shard > 1);
        if count > MAX_LABELS {
            problems
                .push(Problem::at("labels", format!("{count} labels; Loki takes {MAX_LABELS}")).help("`structured_metadata` takes more"));
        }
        if config.stream_shard > 1000 {
            problems.push(Problem::at("stream_shard", "at most 1000: each is a stream"));
        }
        let tenant = config.tenant_id.as_ref().and_then(|source| tenant(source, problems));
        let metadata = templates("structured_metadata", &config.structured_metadata, problems);
        (problems.len() == before).then_some(LabelSet { labels, tenant, metadata, shards: config.stream_shard })
    }

    /// What is the same for all records with these shared fields.
    pub fn for_shared(&self, shared: &Shared) -> SharedLabels {
        let tenant = match &self.tenant {
            None => Some(String::new()),
            Some(template) => template.is_shared(shared).then(|| confine_tenant(template.render_shared(shared).as_deref())),
        };
        let mut values = Vec::new();
        for (name, source) in &self.labels {
            let value = match source {
                Source::Service => Some(semantics::service_name(shared)),
                Source::Shared(template) => Some(template.render_shared(shared).unwrap_or_default()),
                Source::Record(template) if template.is_shared(shared) => Some(template.render_shared(shared).unwrap_or_default()),
                Source::Record(_) => None,
            };
            values.push((name.clone(), value.map(|value| confine_value(&value))));
        }
        if self.shards > 1 {
            values.push(("stream_shard".to_owned(), Some((place(shared) % u32::from(self.shards)).to_string())));
            values.sort();
        }
        let mut ready = SharedLabels { tenant, values, whole: None };
        if ready.tenant.is_some() && ready.values.iter().all(|(_, value)| value.is_some()) {
            let mut whole = String::new();
            ready.write(|_| String::new(), &mut whole);
            ready.whole = Some(whole);
        }
        ready
    }

    /// The destination of a record, where it depends on the record.
    pub fn write(&self, ready: &SharedLabels, record: &RecordView<'_>, values: &mut Values, out: &mut String) {
        out.clear();
        let render = |name: &str| match self.labels.iter().find(|(label, _)| label == name) {
            Some((_, Source::Record(template))) => values.bound(name, confine_value(&template.render(record).unwrap_or_default())),
            _ => self.tenant.as_ref().map(|template| confine_tenant(template.render(record).as_deref())).unwrap_or_default(),
        };
        ready.write(render, out);
    }

    /// Whether the label of that name says all that the field at `path` (keys with dots) says.
    pub fn covers(&self, path: &str) -> bool {
        self.labels.iter().any(|(_, source)| match source {
            Source::Service => false,
            Source::Shared(template) | Source::Record(template) => {
                let inside = template.source().trim().strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}"));
                inside.is_some_and(|inside| inside.trim().trim_start_matches('.') == path)
            }
        })
    }
}

/// The part of a destination that shared fields decide.
pub struct SharedLabels {
    /// The tenant; `None` where it differs between records.
    tenant: Option<String>,
    /// By name; a value that differs between records is `None`, an empty one is left out.
    values: Vec<(String, Option<String>)>,
    /// The destination, where nothing differs.
    pub whole: Option<String>,
}

impl SharedLabels {
    /// Appends the destination; `render` gives what differs, by label, and the tenant for the empty name.
    fn write(&self, mut render: impl FnMut(&str) -> String, out: &mut String) {
        match &self.tenant {
            Some(tenant) => out.push_str(tenant),
            None => out.push_str(&render("")),
        }
        out.push('{');
        let start = out.len();
        for (name, value) in &self.values {
            let rendered = value.is_none().then(|| render(name));
            let value = value.as_deref().or(rendered.as_deref()).unwrap_or_default();
            if value.is_empty() {
                continue;
            }
            if out.len() > start {
                out.push_str(", ");
            }
            out.push_str(name);
            out.push_str("=\"");
            value.chars().for_each(|c| {
                if matches!(c, '"' | '\\') {
                    out.push('\\');
                }
                out.push(c);
            });
            out.push('"');
        }
        if out.len() == start {
            // Loki takes no stream without a label.
            out.push_str("service_name=\"unknown_service\"");
        }
        out.push('}');
    }
}

/// The values that labels had that come from records.
#[derive(Default)]
pub struct Values(BTreeMap<String, HashSet<String>>);

impl Values {
    /// `value`, or `other` where the label has had too many.
    fn bound(&mut self, label: &str, value: String) -> String {
        let seen = match self.0.get_mut(label) {
            Some(seen) => seen,
            None => self.0.entry(label.to_owned()).or_default(),
        };
        if value.is_empty() || seen.contains(&value) {
            return value;
        }
        if seen.len() == MAX_VALUES {
            return "other".to_owned();
        }
        seen.insert(value.clone());
        value
    }
}

fn templates(at: &str, given: &BTreeMap<String, String>, problems: &mut Vec<Problem>) -> Vec<(String, Template)> {
    let mut out = Vec::new();
    for (name, source) in given {
        let place = |message: String| Problem { path: vec![at.to_owned(), name.clone()], message, help: None };
        let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && !name.starts_with("__");
        if !starts || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') || name == "stream_shard" {
            let message = format!("`{name}` is no name that Loki takes");
            problems.push(place(message).help("letters, digits and `_`, no digit first, not `__` first, and not `stream_shard`"));
        }
        match Template::parse(source) {
            Ok(template) => out.push((name.clone(), template)),
            Err(error) => problems.push(place(error.to_string())),
        }
    }
    out
}

fn check_bounded(name: &str, template: &Template, problems: &mut Vec<Problem>) {
    let unbounded = template.paths().find(|path| {
        let last = path.segments().last().map_or(&b""[..], |key| key);
        UNBOUNDED.iter().any(|field| field.as_bytes() == last)
    });
    if let Some(path) = unbounded {
        let message = format!("`{path}` makes a stream for each of its values, which Loki does not bear");
        let help = format!("move it to `structured_metadata.{name}`, or set `allow_high_cardinality = true`");
        problems.push(Problem { path: vec!["labels".to_owned(), name.to_owned()], message, help: Some(help) });
    }
}

fn tenant(source: &str, problems: &mut Vec<Problem>) -> Option<Template> {
    let template = Template::parse(source).map_err(|error| problems.push(Problem::at("tenant_id", error.to_string()))).ok()?;
    let is_own = |c: char| is_tenant(c) || matches!(c, '{' | '}' | ' ' | '?' | '"' | '/' | '@');
    let literal = template.as_literal().is_some_and(|text| text.is_empty() || !text.chars().all(is_tenant));
    if literal || !source.chars().all(is_own) {
        problems.push(Problem::at("tenant_id", "no name that Loki takes").help("letters, digits and `!-_.*'()`"));
    }
    let trusted = template.paths().all(|path| path.first() == b"kubernetes");
    if !trusted && template.literal_prefix().is_empty() {
        let help = "start it with a text, as `team-{{ team }}`, or make it of `kubernetes.…` fields";
        problems.push(Problem::at("tenant_id", "a record could choose a tenant that is not its own").help(help));
    }
    Some(template)
}

fn is_tenant(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!-_.*'()".contains(c)
}

fn confine_tenant(value: Option<&str>) -> String {
    let value = value.filter(|value| !value.is_empty()).unwrap_or(MISSING);
    let tenant: String = value.chars().take(MAX_TENANT_BYTES).map(|c| if is_tenant(c) { c } else { '_' }).collect();
    // Loki refuses the names of directories.
    if matches!(&*tenant, "." | "..") { "_".to_owned() } else { tenant }
}

/// What may stand in a label: no control characters, and not too much.
fn confine_value(value: &str) -> String {
    let mut end = value.len().min(MAX_VALUE_BYTES);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    value[..end].chars().map(|c| if c.is_control() || c == '\u{fffd}' { '_' } else { c }).collect()
}

/// A number for the container: the same for all its files, and after a restart.
fn place(shared: &Shared) -> u32 {
    let kubernetes = shared.get(b"kubernetes").filter(|value| value.kind == Kind::Object);
    let text = |value: Option<Value<'_>>| value.map_or(0, |value| crc32c::crc32c(value.raw));
    match kubernetes {
        Some(object) => text(json::member(object, b"pod_uid")) ^ text(json::member(object, b"container_name")).rotate_left(7),
        None => text(shared.get(b"file")),
    }
}
