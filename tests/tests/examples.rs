//! Every folder in `examples/` is run as its README says, in a copy, and looked at.
//!
//! `check.toml` of an example says how many records must come out and what each must have; `expected.jsonl` holds parts of
//! records, each of which one record must match; no text of `planted.txt` may be left anywhere, and every text of
//! `kept.txt` must still be there.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use memchr::memmem;
use serde::Deserialize;
use serde_json::{Map, Value};
use skidder_tests::agent::{self, Agent, DEADLINE, Ended};
use skidder_tests::records::{missing, parse_lines};
use skidder_tests::site::files_below;
use skidder_tests::store::{Keep, Store};
use skidder_tests::workspace;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Check {
    /// How many records come out.
    records: usize,
    /// The fields that each of them has, with something in it.
    #[serde(default)]
    every: Vec<String>,
    /// A directory in which the files must hold the same records.
    same_in: Option<String>,
    /// The records are those of a store, which the test starts.
    #[serde(default)]
    store: bool,
    /// The real server that it is for: such an example is run by that server's test.
    server: Option<String>,
    /// The indices that the store must have.
    #[serde(default)]
    indices: Vec<String>,
}

/// A copy of an example, to run in.
struct Example {
    name: String,
    check: Check,
    /// Removed when dropped.
    _directory: tempfile::TempDir,
    root: PathBuf,
    given: BTreeSet<PathBuf>,
}

#[test]
fn every_example_does_what_its_readme_says() {
    let mut folders: Vec<_> = fs::read_dir(workspace::root().join("examples")).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.retain(|path| path.is_dir());
    folders.sort();
    let names: Vec<_> = folders.iter().map(|path| path.file_name().unwrap().to_string_lossy()).collect();
    for name in ["clickhouse", "docker", "elasticsearch", "kafka", "local", "loki", "multiline", "otlp"] {
        assert!(names.contains(&name.into()), "examples/{name} is missing");
    }
    let failed: Vec<String> = folders.iter().filter_map(|folder| run(folder).err()).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

fn run(folder: &Path) -> Result<(), String> {
    let example = Example::copy(folder)?;
    if let Some(server) = &example.check.server {
        let known = ["chdb", "kafka", "loki", "otelcol"].contains(&server.as_str());
        return if known { Ok(()) } else { Err(format!("examples/{}: no test runs it with {server}", example.name)) };
    }
    let store = Store::start(Keep::Documents).map_err(|error| error.to_string())?;
    // Twice: an example can be run again, and gives the same.
    for round in ["first", "second"] {
        let ended = example.run(&store)?;
        let output = if example.check.store { store.documents().join(&b'\n') } else { ended.stdout.clone() };
        let mut problems = example.problems(&output, &ended);
        if example.check.store && store.indices() != example.check.indices {
            problems.push(format!("the store has the indices {:?}", store.indices()));
        }
        if !problems.is_empty() {
            return Err(format!("examples/{}, {round} run:\n  {}\n  {ended}", example.name, problems.join("\n  ")));
        }
    }
    Ok(())
}

impl Example {
    fn copy(folder: &Path) -> Result<Example, String> {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let read = |file: &str| fs::read_to_string(folder.join(file)).map_err(|error| format!("examples/{name}/{file}: {error}"));
        let check = toml::from_str(&read("check.toml")?).map_err(|error| format!("examples/{name}/check.toml: {error}"))?;
        if !read("README.md")?.contains(&format!("-c examples/{name}/pipeline.toml")) {
            return Err(format!("examples/{name}/README.md does not say how to run it"));
        }
        let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
        let root = directory.path().join("examples").join(&name);
        workspace::copy(folder, &root).map_err(|error| format!("examples/{name}: {error}"))?;
        // What an earlier run of a person left behind is no part of the example.
        let _ = fs::remove_dir_all(root.join("out"));
        let given = files_below(directory.path()).map_err(|error| error.to_string())?.into_iter().collect();
        Ok(Example { name, check, _directory: directory, root, given })
    }

    /// Runs it from where its README does: two directories above.
    fn run(&self, store: &Store) -> Result<Ended, String> {
        let above = self.root.parent().and_then(Path::parent).unwrap_or(&self.root);
        let mut command = agent::command(above)?;
        command.args(["run", "--once", "-c", &format!("examples/{}/pipeline.toml", self.name)]).env("ELASTICSEARCH_URL", store.url());
        Agent::spawn(command)?.wait(DEADLINE)?.expect_success()
    }

    fn problems(&self, output: &[u8], ended: &Ended) -> Vec<String> {
        let records = match parse_lines(output) {
            Ok(records) => records,
            Err(error) => return vec![format!("the output is no JSON lines: {error}")],
        };
        let mut problems = Vec::new();
        if records.len() != self.check.records {
            problems.push(format!("{} records, expected {}", records.len(), self.check.records));
        }
        for field in &self.check.every {
            let without = records.iter().filter(|record| record.get(field).is_none_or(is_empty)).count();
            if without > 0 {
                problems.push(format!("{without} records have no {field}"));
            }
        }
        let expected = parse_lines(&self.bytes("expected.jsonl")).expect("expected.jsonl");
        assert!(!expected.is_empty(), "examples/{}/expected.jsonl is empty", self.name);
        for wanted in missing(&records, &expected) {
            problems.push(format!("no record with {}", Value::Object(wanted.clone())));
        }
        let written = self.written();
        problems.extend(self.leaks(output, ended, &written));
        problems.extend(self.lines("kept.txt").iter().filter(|text| !holds(output, text)).map(|text| format!("{text} is gone")));
        if let Some(directory) = &self.check.same_in {
            problems.extend(self.same_in(directory, &records));
        }
        problems
    }

    /// Each text of `planted.txt` that is left anywhere.
    fn leaks(&self, output: &[u8], ended: &Ended, written: &[PathBuf]) -> Vec<String> {
        let mut places = vec![("the records".to_owned(), output.to_vec()), ("the log".to_owned(), ended.stderr.clone().into_bytes())];
        places.extend(written.iter().map(|path| (path.display().to_string(), fs::read(path).unwrap_or_default())));
        let planted = self.lines("planted.txt");
        assert!(!planted.is_empty(), "examples/{}/planted.txt is empty", self.name);
        let leak =
            |text: &String| places.iter().find(|(_, bytes)| holds(bytes, text)).map(|(place, _)| format!("{text} is left in {place}"));
        planted.iter().filter_map(leak).collect()
    }

    /// Whether the files below `directory` hold the same records, in whatever order.
    fn same_in(&self, directory: &str, records: &[Map<String, Value>]) -> Option<String> {
        let sorted = |records: Vec<Map<String, Value>>| {
            let mut texts: Vec<_> = records.into_iter().map(|record| Value::Object(record).to_string()).collect();
            texts.sort();
            texts
        };
        let files = files_below(&self.root.join(directory)).unwrap_or_default();
        let text: Vec<u8> = files.iter().flat_map(|file| fs::read(file).unwrap_or_default()).collect();
        match parse_lines(&text) {
            // Without a `data_dir` each run is a first one: it may write its files anew or append to them.
            Ok(found) if !found.is_empty() && found.len().is_multiple_of(records.len().max(1)) => {
                let rounds = found.len() / records.len();
                let repeated = (0..rounds).flat_map(|_| records.to_vec()).collect();
                (sorted(found) != sorted(repeated)).then(|| format!("the records in {directory} are others"))
            }
            Ok(found) => Some(format!("{} records in {directory}", found.len())),
            Err(error) => Some(format!("{directory}: {error}")),
        }
    }

    /// The files that running it made.
    fn written(&self) -> Vec<PathBuf> {
        let above = self.root.parent().and_then(Path::parent).unwrap_or(&self.root);
        files_below(above).unwrap_or_default().into_iter().filter(|path| !self.given.contains(path)).collect()
    }

    fn bytes(&self, file: &str) -> Vec<u8> {
        fs::read(self.root.join(file)).unwrap_or_default()
    }

    fn lines(&self, file: &str) -> Vec<String> {
        String::from_utf8(self.bytes(file)).expect("UTF-8").lines().map(str::to_owned).collect()
    }
}

fn is_empty(value: &Value) -> bool {
    value.is_null() || value.as_str() == Some("")
}

fn holds(bytes: &[u8], text: &str) -> bool {
    memmem::find(bytes, text.as_bytes()).is_some()
}
