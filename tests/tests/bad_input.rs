//! Bad input never stops the agent: each case is a file in `cases/bad_input` with the outcome that a user would expect.
//!
//! A case says why it exists, what lies in the logs (some of it made by code: a FIFO, a line of 10 MiB), the configuration
//! where the default one will not do, and what must come out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};
use skidder_tests::records::{missing, parse_lines};
use skidder_tests::site::Site;
use skidder_tests::workspace;

/// What a case has unless it says otherwise: every log file, as text, to the console.
const DEFAULT_CONFIG: &str = r#"
[sources.app]
type = "file"
include = ["logs/*.log"]

[sinks.out]
type = "console"
inputs = ["app"]
"#;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// Why the case exists: read by people, and printed where it fails.
    why: String,
    /// The configuration; `\xNN` stands for a byte.
    config: Option<String>,
    #[serde(default)]
    inputs: Vec<Input>,
    expect: Expect,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    path: String,
    #[serde(flatten)]
    content: Content,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Content {
    /// A file with this text; `\xNN` stands for a byte.
    Text(String),
    /// A file of texts, each so often.
    Repeat(Vec<(String, usize)>),
    /// A file with this text that its reader may not open. Root may open everything: where the tests run as root there is
    /// no such file.
    Forbidden(String),
    /// A directory.
    Directory(bool),
    /// A named pipe that nobody writes to.
    Fifo(bool),
    /// A symbolic link to this path, as it stands.
    Link(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expect {
    #[serde(default)]
    exit: i32,
    /// The number of records on the standard output.
    records: usize,
    /// Records, each as the part of its JSON that matters; `…` at an end of a text stands for any text.
    #[serde(default)]
    has: Vec<String>,
    /// No record may be longer, as a line of JSON.
    max_line_bytes: Option<usize>,
    /// What the standard error must hold.
    #[serde(default)]
    says: Vec<String>,
    /// What it must not hold.
    #[serde(default)]
    keeps_quiet_about: Vec<String>,
}

#[test]
fn every_case_ends_as_a_user_would_expect() {
    let mut cases: Vec<_> = fs::read_dir(workspace::root().join("tests/cases/bad_input")).unwrap().map(|e| e.unwrap().path()).collect();
    cases.sort();
    assert!(cases.len() >= 15, "only {} cases: is the directory whole?", cases.len());
    let failed: Vec<String> = cases.iter().filter_map(|path| run(path).err()).collect();
    assert!(failed.is_empty(), "{} of {} cases:\n\n{}", failed.len(), cases.len(), failed.join("\n\n"));
}

fn run(path: &Path) -> Result<(), String> {
    let name = path.file_stem().unwrap().to_string_lossy();
    let text = fs::read_to_string(path).unwrap();
    let case: Case = toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    eprintln!("{name}: {}", case.why);
    let site = Site::new(unescape(case.config.as_deref().unwrap_or(DEFAULT_CONFIG))).unwrap();
    case.inputs.iter().for_each(|input| input.make(&site));
    let outcome = site.once_with(&["--timeout", "60"]).and_then(|ended| {
        let problems = case.expect.problems(&ended);
        if problems.is_empty() { Ok(()) } else { Err(format!("  {}\n  {ended}", problems.join("\n  "))) }
    });
    outcome.map_err(|problem| format!("{name}: {}\n{problem}", case.why))
}

impl Input {
    fn make(&self, site: &Site) {
        let path = site.path(&self.path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match &self.content {
            Content::Text(text) => fs::write(&path, unescape(text)).unwrap(),
            Content::Repeat(parts) => {
                let bytes: Vec<u8> = parts.iter().flat_map(|(text, times)| unescape(text).repeat(*times)).collect();
                fs::write(&path, bytes).unwrap();
            }
            Content::Forbidden(_) if rustix::process::geteuid().is_root() => {}
            Content::Forbidden(text) => {
                fs::write(&path, text).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
            }
            Content::Directory(false) | Content::Fifo(false) => {}
            Content::Directory(true) => fs::create_dir(&path).unwrap(),
            Content::Fifo(true) => rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap(),
            Content::Link(to) => symlink(to, &path).unwrap(),
        }
    }
}

impl Expect {
    fn problems(&self, ended: &skidder_tests::agent::Ended) -> Vec<String> {
        let mut problems = Vec::new();
        if ended.code() != Some(self.exit) || ended.crashed() {
            problems.push(format!("exit code {:?}, expected {}", ended.code(), self.exit));
        }
        let records = parse_lines(&ended.stdout).unwrap_or_else(|error| {
            problems.push(format!("the output is no JSON lines: {error}"));
            Vec::new()
        });
        if records.len() != self.records {
            let shown: Vec<String> = records.iter().take(5).map(|record| shorten(&Value::Object(record.clone()).to_string())).collect();
            problems.push(format!("{} records, expected {}: {}", records.len(), self.records, shown.join(" ")));
        }
        let has: Vec<Map<String, Value>> = self.has.iter().map(|text| serde_json::from_str(text).expect("`has` is JSON")).collect();
        for wanted in missing(&records, &has) {
            problems.push(format!("no record with {}", shorten(&Value::Object(wanted.clone()).to_string())));
        }
        let longest = ended.stdout.split(|byte| *byte == b'\n').map(<[u8]>::len).max().unwrap_or(0);
        if self.max_line_bytes.is_some_and(|limit| longest > limit) {
            problems.push(format!("a line of {longest} bytes"));
        }
        problems.extend(self.says.iter().filter(|text| !ended.stderr.contains(*text)).map(|text| format!("does not say {text:?}")));
        let quiet = self.keeps_quiet_about.iter().filter(|text| ended.stderr.contains(*text));
        problems.extend(quiet.map(|text| format!("says {text:?}")));
        problems
    }
}

/// Bytes of a text in which `\xNN` stands for one.
fn unescape(text: &str) -> Vec<u8> {
    let mut parts = text.split("\\x");
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).expect("two hexadecimal digits after \\x"));
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    bytes
}

fn shorten(text: &str) -> String {
    if text.len() > 300 { text.chars().take(300).chain(['…']).collect() } else { text.to_owned() }
}
