//! The rules of the house that a program can keep: what may depend on what, how long files are, what must not be written.
//!
//! Each rule is a function from the repository to what breaks it; the test below runs them all and shows everything at once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use skidder_tests::workspace;

/// A file of more lines, tests apart, is uncomfortable: shown, and nothing more.
const UNEASY_LINES: usize = 400;
/// A file of more lines, tests apart, is two files.
const MAX_LINES: usize = 600;

/// What each crate may depend on, of ours (ARCHITECTURE.md): the flow goes one way. The tests run the agent as a program.
const DIRECTIONS: [(&str, &[&str]); 5] = [
    ("pipeline", &[]),
    ("transforms", &["skidder-pipeline"]),
    ("sinks", &["skidder-pipeline"]),
    ("agent", &["skidder-pipeline", "skidder-sinks", "skidder-transforms"]),
    ("tests", &[]),
];

/// Crates that only some of ours may use, and why.
const CONFINED: [(&str, &[&str], &str); 9] = [
    ("regex", &["agent", "transforms"], "expressions are for what records mean and for multi-line records"),
    ("aho-corasick", &["transforms"], "searching for words is what redaction does"),
    ("reqwest", &["sinks"], "clients of stores live in sinks"),
    ("rustls", &["sinks"], "clients of stores live in sinks"),
    ("inotify", &["agent"], "the quirks of the file system stay in the agent"),
    ("notify", &["agent"], "the quirks of the file system stay in the agent"),
    ("kube", &["agent"], "only the agent knows Kubernetes"),
    ("anyhow", &["agent", "tests"], "libraries have errors that can be matched"),
    ("clap", &["agent", "tests"], "only programs have arguments"),
];

/// Gives what breaks it.
type Rule = fn(&House) -> Vec<String>;

#[test]
fn the_house_is_tidy() {
    let house = House::read();
    let rules: [(&str, Rule); 10] = [
        ("crates depend on each other in one direction", directions),
        ("some libraries stay in some crates", confined),
        ("every crate takes the workspace's lints", lints),
        ("every dependency is explained in decisions/", dependencies),
        ("files are short", lengths),
        ("every source file says what it is", documented),
        ("nothing is left undone", undone),
        ("nothing knows the machine it was written on", machine_paths),
        ("text files end with one newline and have no blanks at line ends", whitespace),
        ("links in documents lead somewhere", links),
    ];
    let mut broken = Vec::new();
    for (rule, check) in rules {
        let found = check(&house);
        if !found.is_empty() {
            broken.push(format!("{rule}:\n  {}", found.join("\n  ")));
        }
    }
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

#[test]
fn each_rule_finds_what_breaks_it() {
    let manifest = |dependencies: &str| format!("[lints]\nworkspace = true\n[dependencies]\n{dependencies}\n");
    let file = |path: &str, text: String| (PathBuf::from(path), text);
    let good = [
        file("Cargo.toml", "[workspace]\nmembers = [\"pipeline\", \"agent\"]\n[workspace.dependencies]\nbytes = \"1\"\n".into()),
        file("pipeline/Cargo.toml", manifest("bytes.workspace = true")),
        file("agent/Cargo.toml", manifest("skidder-pipeline.workspace = true\nregex.workspace = true")),
        file("pipeline/src/lib.rs", "//! The movement of records.\n".into()),
        file("decisions/0001.md", "`bytes`, `regex`\n".into()),
    ];
    let with = |path: &str, text: String| House { files: good.iter().cloned().chain([file(path, text)]).collect() };
    let long = "//! A file that is long.\n".to_owned() + &"fn f() {}\n".repeat(MAX_LINES);
    let tested = "//! A file with long tests.\n#[cfg(test)]\n".to_owned() + &"fn f() {}\n".repeat(MAX_LINES);
    let bad: [(Rule, &str, String); 12] = [
        (directions, "pipeline/Cargo.toml", manifest("skidder-sinks.workspace = true")),
        (confined, "pipeline/Cargo.toml", manifest("regex.workspace = true")),
        (lints, "agent/Cargo.toml", "[dependencies]\n".into()),
        (dependencies, "pipeline/Cargo.toml", manifest("libfoo = \"1\"")),
        (lengths, "agent/src/long.rs", long.clone()),
        (documented, "agent/src/silent.rs", "fn f() {}\n".into()),
        (undone, "agent/src/later.rs", ["//! Not done yet at all.\nfn f() { to", "do!() }\n"].concat()),
        (machine_paths, "docs/a.md", ["see /wo", "rk/x\n"].concat()),
        (whitespace, "docs/a.md", "text \n".into()),
        (whitespace, "docs/a.md", "text".into()),
        (links, "docs/a.md", "[there](nowhere.md)\n".into()),
        (links, "docs/a.md", "[part](gone.md#x)\n".into()),
    ];
    for (number, (rule, path, text)) in bad.into_iter().enumerate() {
        assert_eq!(rule(&with("docs/none.md", "nothing\n".into())), [""; 0], "case {number} without its fault");
        assert_eq!(rule(&with(path, text)).len(), 1, "case {number}, in {path}");
    }
    assert_eq!(lengths(&with("agent/src/tested.rs", tested)), [""; 0]);
    assert_eq!(lengths(&with("agent/tests/long.rs", long)), [""; 0]);
    assert_eq!(links(&with("docs/a.md", "[a](../Cargo.toml) [b](https://example.com) [c](#d)\n".into())), [""; 0]);
}

/// The repository, read once.
struct House {
    /// Text files by path; what is no UTF-8 is not among them.
    files: BTreeMap<PathBuf, String>,
}

impl House {
    fn read() -> House {
        let paths = workspace::files().expect("the files of the repository");
        assert!(paths.len() > 20, "only {} files: is this the repository?", paths.len());
        let read = |path: PathBuf| fs::read_to_string(workspace::root().join(&path)).ok().map(|text| (path, text));
        House { files: paths.into_iter().filter_map(read).collect() }
    }

    fn manifest(&self, krate: &str) -> toml::Table {
        let path = if krate.is_empty() { PathBuf::from("Cargo.toml") } else { Path::new(krate).join("Cargo.toml") };
        self.files[&path].parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// The crates of the workspace, by directory.
    fn crates(&self) -> Vec<String> {
        let members = &self.manifest("")["workspace"]["members"];
        members.as_array().unwrap().iter().map(|member| member.as_str().unwrap().to_owned()).collect()
    }

    /// The files of a kind.
    fn with_extension(&self, extension: &'static str) -> impl Iterator<Item = (&Path, &str)> {
        let wanted = move |path: &&PathBuf| path.extension().is_some_and(|found| found == extension);
        self.files.iter().filter(move |(path, _)| wanted(path)).map(|(path, text)| (path.as_path(), text.as_str()))
    }
}

/// The names in a crate's table of dependencies.
fn table(manifest: &toml::Table, name: &str) -> BTreeSet<String> {
    manifest.get(name).and_then(toml::Value::as_table).map(|table| table.keys().cloned().collect()).unwrap_or_default()
}

fn directions(house: &House) -> Vec<String> {
    let mut found = Vec::new();
    for krate in house.crates() {
        let Some((_, allowed)) = DIRECTIONS.iter().find(|(name, _)| *name == krate) else {
            found.push(format!("{krate} is new: say in DIRECTIONS what it may depend on"));
            continue;
        };
        let ours = table(&house.manifest(&krate), "dependencies").into_iter().filter(|name| name.starts_with("skidder"));
        found.extend(ours.filter(|name| !allowed.contains(&name.as_str())).map(|name| format!("{krate} depends on {name}")));
    }
    found
}

fn confined(house: &House) -> Vec<String> {
    let mut found = Vec::new();
    for krate in house.crates() {
        let used = table(&house.manifest(&krate), "dependencies");
        for (library, allowed, why) in CONFINED {
            if used.contains(library) && !allowed.contains(&krate.as_str()) {
                found.push(format!("{krate} depends on {library}, and {why}"));
            }
        }
    }
    found
}

fn lints(house: &House) -> Vec<String> {
    let takes = |krate: &String| {
        let manifest = house.manifest(krate);
        manifest.get("lints").and_then(|lints| lints.get("workspace")).and_then(toml::Value::as_bool) == Some(true)
    };
    house.crates().into_iter().filter(|krate| !takes(krate)).map(|krate| format!("{krate}: [lints] workspace = true")).collect()
}

fn dependencies(house: &House) -> Vec<String> {
    let decisions: String = house.with_extension("md").filter(|(path, _)| path.starts_with("decisions")).map(|(_, text)| text).collect();
    let workspace = house.manifest("")["workspace"].as_table().unwrap().clone();
    let mut used = table(&workspace, "dependencies");
    for krate in house.crates() {
        let manifest = house.manifest(&krate);
        used.extend(table(&manifest, "dependencies").into_iter().chain(table(&manifest, "dev-dependencies")));
    }
    used.retain(|name| !name.starts_with("skidder"));
    used.into_iter().filter(|name| !decisions.contains(&format!("`{name}`"))).map(|name| format!("`{name}`")).collect()
}

/// The lines of a source file before its tests.
fn own_lines(text: &str) -> usize {
    text.lines().take_while(|line| line.trim() != "#[cfg(test)]").count()
}

/// Whether all of the file is tests.
fn is_test(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "tests") && !path.starts_with("tests/src")
        || path.file_stem().is_some_and(|stem| stem == "tests" || stem.to_string_lossy().ends_with("_tests"))
}

fn lengths(house: &House) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in house.with_extension("rs").filter(|(path, _)| !is_test(path)) {
        let lines = own_lines(text);
        if lines > MAX_LINES {
            found.push(format!("{}: {lines} lines, and {MAX_LINES} are the most", path.display()));
        } else if lines > UNEASY_LINES {
            eprintln!("{}: {lines} lines are more than is comfortable", path.display());
        }
    }
    found
}

fn documented(house: &House) -> Vec<String> {
    let silent = |(path, text): &(&Path, &str)| {
        let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
        // `//!` and more than a placeholder. What a file of tests is, its neighbour says.
        !is_test(path) && first.strip_prefix("//! ").is_none_or(|text| text.len() < 8)
    };
    house.with_extension("rs").filter(silent).map(|(path, _)| format!("{} should begin with a `//!` sentence", path.display())).collect()
}

fn undone(house: &House) -> Vec<String> {
    // Put together here, so that this file does not break its own rule.
    let marks = [
        ["to", "do!("].concat(),
        ["unimple", "mented!("].concat(),
        ["#[ig", "nore"].concat(),
        ["FIX", "ME"].concat(),
        ["TO", "DO"].concat(),
    ];
    places(house.with_extension("rs"), &marks)
}

fn machine_paths(house: &House) -> Vec<String> {
    let marks = [["/wo", "rk/"].concat(), ["/tmp/", "wt"].concat(), ["/ho", "me/"].concat(), ["/ro", "ot/"].concat()];
    places(house.files.iter().map(|(path, text)| (path.as_path(), text.as_str())), &marks)
}

/// Each line that holds one of `marks`.
fn places<'a>(files: impl Iterator<Item = (&'a Path, &'a str)>, marks: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in files {
        for (number, line) in text.lines().enumerate() {
            if let Some(mark) = marks.iter().find(|mark| line.contains(mark.as_str())) {
                found.push(format!("{}:{}: {mark}", path.display(), number + 1));
            }
        }
    }
    found
}

fn whitespace(house: &House) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in house.files.iter().filter(|(path, _)| !is_sample(path)) {
        if !text.is_empty() && (!text.ends_with('\n') || text.ends_with("\n\n")) {
            found.push(format!("{}: ends with not just one newline", path.display()));
        }
        let blank = text.lines().enumerate().filter(|(_, line)| line.ends_with([' ', '\t', '\r']));
        found.extend(blank.map(|(number, _)| format!("{}:{}: blanks at the end", path.display(), number + 1)));
    }
    found
}

/// Whether the file is input of a test or an example, as whoever wrote it wanted it.
fn is_sample(path: &Path) -> bool {
    let sample = ["log", "jsonl", "txt", "snap"];
    path.extension().is_some_and(|extension| sample.iter().any(|known| extension == *known)) || path.ends_with("LICENSE")
}

fn links(house: &House) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in house.with_extension("md") {
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or_default();
            let outside = target.contains("://") || file.is_empty() || file.contains(char::is_whitespace);
            let there = workspace::root().join(path).parent().is_some_and(|directory| directory.join(file).exists());
            if !outside && !there {
                found.push(format!("{}: {target}", path.display()));
            }
        }
    }
    found
}
