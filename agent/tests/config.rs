//! Cases as data: every `config/*.toml` is checked, and the report must be the `*.txt` beside it. `UPDATE=1` writes it.
//!
//! The components are small ones of this test, so that the cases stay the same while Skidder's own grow.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use skidder::config::{self, Component, FileSchema, Place, Registry, SinkCommon, SourceCommon, TransformCommon};
use skidder_pipeline::problem::Problem;

struct Sample;

impl Registry for Sample {
    type Source = Source;
    type Transform = Transform;
    type Sink = Sink;
}

/// Where records come from.
#[allow(dead_code)]
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Source {
    File(FileSource),
    Stdin(StdinSource),
    KubernetesLogs(StdinSource),
}

/// Reads files.
#[allow(dead_code)]
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FileSource {
    /// Globs of the files to read.
    #[schemars(length(min = 1))]
    include: Vec<String>,
    /// How the lines are framed.
    #[serde(default)]
    format: Format,
    /// The longest record in bytes; what is longer is cut.
    #[serde(default = "max_record_bytes")]
    max_record_bytes: u32,
    /// Whether to follow symbolic links.
    #[serde(default)]
    follow: bool,
    /// Lines that belong together.
    multiline: Option<Multiline>,
}

fn max_record_bytes() -> u32 {
    1 << 20
}

#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Format {
    /// By the first line.
    #[default]
    Auto,
    Cri,
    Docker,
    Raw,
}

/// Several ways to say where a record begins.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(tag = "mode", rename_all = "snake_case", deny_unknown_fields)]
#[allow(dead_code)]
enum Multiline {
    /// A line that matches begins a record.
    StartsWith {
        /// The expression.
        pattern: String,
        /// The most of it.
        max: Option<ByteSize>,
    },
    /// Indented lines belong to the one before.
    Indent {},
}

/// Reads the standard input.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct StdinSource {}

impl Component for Source {
    type Common = SourceCommon;
    fn check(&self, _: &SourceCommon, _: &Place<'_>) -> Vec<Problem> {
        match self {
            Source::File(file) if file.format.is_raw() && file.follow => {
                vec![Problem::at("follow", "`follow` does not go with `format = \"raw\"`")]
            }
            _ => Vec::new(),
        }
    }
}

impl Format {
    fn is_raw(&self) -> bool {
        matches!(self, Format::Raw)
    }
}

/// What changes records.
#[allow(dead_code)]
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Transform {
    Json(Json),
    Redact(Redact),
}

/// Reads the message as JSON.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Json {
    /// The key below which the fields go.
    below: Option<String>,
}

/// Takes personal data out.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Redact {
    /// The rules, in order.
    #[serde(default)]
    rules: Vec<Rule>,
}

/// One rule.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Rule {
    /// What to find: a regular expression.
    pattern: String,
    /// What stands in its place.
    replacement: Option<String>,
}

impl Component for Transform {
    type Common = TransformCommon;
    fn check(&self, _: &TransformCommon, _: &Place<'_>) -> Vec<Problem> {
        let Transform::Redact(redact) = self else { return Vec::new() };
        let bad = |(index, rule): (usize, &Rule)| {
            let error = regex::Regex::new(&rule.pattern).err()?;
            let message = error.to_string().lines().last().unwrap_or_default().replace("error: ", "the regular expression has an ");
            Some(Problem::at(&format!("rules.{index}.pattern"), message).help("the syntax is that of Rust's regex"))
        };
        redact.rules.iter().enumerate().filter_map(bad).collect()
    }
}

/// Where records go.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Sink {
    Console(Console),
    Elasticsearch(Box<Elasticsearch>),
}

/// Writes JSON lines to the standard output.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Console {}

/// Writes to Elasticsearch.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Elasticsearch {
    /// Base URLs of the nodes. One that does not answer is left out for a while,
    /// and asked again later.
    ///
    /// Credentials belong into `auth`.
    #[schemars(length(min = 1))]
    endpoints: OneOrMany,
    /// How bodies are compressed.
    #[serde(default)]
    compression: Compression,
    /// How large bodies become.
    #[serde(default)]
    batch: Batch,
    /// Fixed headers of every request.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// The part of requests that is traced.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1))]
    trace_ratio: f64,
    /// The most that waits.
    max_size: Option<ByteSize>,
    /// The answers that are successes.
    #[serde(default)]
    success: Vec<Answer>,
    /// How long to wait for an answer.
    #[serde(default)]
    timeout: ByteSize,
    /// The port to use where the URL names none.
    port: Option<std::num::NonZeroU16>,
}

/// A type with a reader of its own, whose schema says less than it.
#[derive(Clone, Debug, Default)]
struct ByteSize;

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<ByteSize, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.strip_suffix("MiB").is_some_and(|number| number.parse::<u64>().is_ok()) {
            true => Ok(ByteSize),
            false => Err(serde::de::Error::custom(format!("`{text}` is no size; write it as `256MiB`"))),
        }
    }
}

impl JsonSchema for ByteSize {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ByteSize".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string" })
    }
}

#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Answer {
    /// The record is new.
    Created,
    /// It was there.
    Conflict,
}

/// One or several.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    fn all(&self) -> Vec<(String, &str)> {
        match self {
            OneOrMany::One(url) => vec![("endpoints".to_owned(), url)],
            OneOrMany::Many(urls) => urls.iter().enumerate().map(|(i, url)| (format!("endpoints.{i}"), url.as_str())).collect(),
        }
    }
}

#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Compression {
    #[default]
    Gzip,
    Zstd,
    None,
}

/// How large bodies become.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Batch {
    /// The size at which a body is sent, in bytes.
    #[schemars(range(min = 1024, max = 104857600))]
    max_bytes: u64,
    /// The age at which it is sent, in milliseconds.
    linger_ms: u64,
}

impl Default for Batch {
    fn default() -> Self {
        Batch { max_bytes: 8 << 20, linger_ms: 1000 }
    }
}

impl Component for Sink {
    type Common = SinkCommon;
    fn check(&self, _: &SinkCommon, _: &Place<'_>) -> Vec<Problem> {
        let Sink::Elasticsearch(elasticsearch) = self else { return Vec::new() };
        let bad = |(path, url): (String, &str)| {
            (!url.starts_with("http://") && !url.starts_with("https://"))
                .then(|| Problem::at(&path, "the URL has no scheme").help("it begins with `http://` or `https://`"))
        };
        elasticsearch.endpoints.all().into_iter().filter_map(bad).collect()
    }
}

/// The environment of the cases.
fn environment(name: &str) -> Option<String> {
    let value = match name {
        "ENV" => "prod",
        "PORT" => "9200",
        "FOLLOW" => "true",
        "PASSWORD" => "hunter2",
        "EMPTY" => "",
        "INJECTION" => "\"]\ntype = \"console",
        _ => return None,
    };
    Some(value.to_owned())
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config")
}

fn check(path: &Path) -> config::Checked<Sample> {
    let name = path.file_name().unwrap().to_str().unwrap();
    config::check(name, &std::fs::read(path).unwrap(), PathBuf::from("/etc/skidder"), &environment)
}

/// What a user of `validate` would see.
fn report(path: &Path) -> String {
    let checked = check(path);
    let mut report = checked.report(false);
    if let Some(pipeline) = &checked.pipeline {
        report.push_str("Configuration is valid.\n");
        report.push_str(&pipeline.summary());
    }
    assert_eq!(checked.pipeline.is_none(), checked.diagnostics.errors() > 0, "{}: a pipeline without errors", path.display());
    report
}

#[test]
fn every_case_gives_its_report() {
    let update = std::env::var_os("UPDATE").is_some();
    let mut cases: Vec<PathBuf> = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    cases.sort();
    assert!(cases.len() >= 25, "only {} cases", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        let text = std::fs::read(case).unwrap();
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&text);
        assert!(text.starts_with(b"# "), "{}: the first line says why the case exists", case.display());
        let report = report(case);
        let expected = case.with_extension("txt");
        if update {
            std::fs::write(&expected, &report).unwrap();
        } else if std::fs::read_to_string(&expected).ok().as_deref() != Some(&report) {
            wrong.push(format!("--- {} gives\n{report}", case.display()));
        }
    }
    assert!(wrong.is_empty(), "{}\n(UPDATE=1 takes these as expected)", wrong.join("\n"));
}

#[test]
fn a_valid_file_becomes_a_pipeline() {
    let pipeline = check(&folder().join("valid.toml")).pipeline.expect("a pipeline");
    assert_eq!(pipeline.data_dir(), Some(PathBuf::from("/etc/skidder/state")));
    assert_eq!(pipeline.resolve("/var/log"), PathBuf::from("/var/log"));
    let Sink::Elasticsearch(elasticsearch) = &pipeline.sinks[1].config else { panic!("the second sink of the file") };
    assert_eq!(elasticsearch.port.map(u16::from), Some(9200), "a number from a variable");
    assert_eq!(elasticsearch.headers["x-env"], "prod");
    assert_eq!(elasticsearch.headers["x-literal"], "${ENV}");
    let Source::File(file) = &pipeline.sources[0].config else { panic!("the first source of the file") };
    assert!(file.follow, "a boolean from a variable");
    assert_eq!(pipeline.sinks[1].common.inputs, ["clean"]);
}

#[test]
fn a_variable_cannot_change_the_structure() {
    let text = "[sources.a]\ntype = 'stdin'\n[sinks.es]\ntype = 'elasticsearch'\ninputs = ['a']\nendpoints = 'http://${INJECTION}'";
    let checked = config::check::<Sample>("x.toml", text.as_bytes(), PathBuf::new(), &environment);
    let pipeline = checked.pipeline.expect("a pipeline");
    let Sink::Elasticsearch(elasticsearch) = &pipeline.sinks[0].config else { panic!("still Elasticsearch") };
    assert_eq!(elasticsearch.endpoints.all(), [("endpoints".to_owned(), "http://\"]\ntype = \"console")]);
}

/// A file in the middle of being written, or spoilt by a slip, gives a report and never a panic.
#[test]
fn spoilt_files_give_reports() {
    let stride = std::env::var("STRIDE").ok().and_then(|stride| stride.parse().ok()).unwrap_or(23);
    for name in ["valid.toml", "several.toml", "inline.toml", "thai.toml", "crlf.toml", "arrays.toml", "duplicate_tables.toml"] {
        let bytes = std::fs::read(folder().join(name)).unwrap();
        for at in (0..bytes.len()).step_by(stride) {
            let mut without = bytes.clone();
            without.remove(at);
            let replaced = b"\"'[]{}=.\n#\\$*\xff".iter().map(|byte| [&bytes[..at], &[*byte], &bytes[at + 1..]].concat());
            for spoilt in replaced.chain([without, bytes[..at].to_vec()]) {
                let checked = config::check::<Sample>("spoilt.toml", &spoilt, PathBuf::new(), &environment);
                assert_eq!(checked.pipeline.is_none(), checked.diagnostics.errors() > 0);
                assert_eq!(checked.report(true).is_empty(), checked.diagnostics.iter().next().is_none());
            }
        }
    }
}

#[test]
fn more_components_than_any_pipeline_has_are_refused() {
    let transforms: String = (0..5000).map(|n| format!("[transforms.t{n}]\ntype = 'json'\ninputs = ['t{}']\n", n + 1)).collect();
    let checked = config::check::<Sample>("x.toml", transforms.as_bytes(), PathBuf::new(), &environment);
    assert!(checked.report(false).contains("there are more than 1024 components"), "{}", checked.report(false));
}

#[test]
fn a_report_never_shows_what_a_variable_holds() {
    let report = report(&folder().join("secret.toml"));
    assert!(!report.contains("hunter2"), "{report}");
}

#[test]
fn the_reference_is_a_file_without_unknown_options_and_wrong_types() {
    let reference = FileSchema::of::<Sample>().reference();
    let path = folder().join("sample_reference.txt");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &reference).unwrap();
    }
    assert_eq!(reference, std::fs::read_to_string(&path).unwrap_or_default(), "(UPDATE=1 takes this as expected)");
    // Once as it is, once with every option that is commented out.
    let uncommented: String =
        reference.lines().map(|l| format!("{}\n", l.strip_prefix('#').filter(|l| !l.starts_with(' ')).unwrap_or(l))).collect();
    for text in [&reference, &uncommented] {
        let checked = config::check::<Sample>("reference.toml", text.as_bytes(), PathBuf::new(), &environment);
        let wrong = |message: &str| message.contains("unknown option") || message.contains("expected") || message.contains("missing");
        let wrong: Vec<_> = checked.diagnostics.iter().filter(|d| wrong(&d.message)).collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}

#[test]
fn the_schema_knows_every_type_and_shared_option() {
    let schema = FileSchema::of::<Sample>().to_json();
    let types = schema.pointer("/properties/sinks/additionalProperties/oneOf").unwrap().as_array().unwrap();
    let names: Vec<_> = types.iter().map(|t| t.pointer("/properties/type/const").unwrap()).collect();
    assert_eq!(names, ["console", "elasticsearch"]);
    assert!(types.iter().all(|t| t.pointer("/properties/inputs/description").is_some()));
    assert!(schema.pointer("/properties/data_dir").is_some() && schema.pointer("/$defs/Batch").is_some());
}
