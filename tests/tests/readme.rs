//! What the documents tell a reader to type exists.
//!
//! Blocks marked `console` in README.md and in the examples' READMEs are commands for the repository as it was cloned:
//! `cargo run … -- …` must name a verb of the program and files that are there, `cargo xtask …` a verb of xtask, any other
//! program must be among the few that a developer has.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::process::Command;

use skidder_tests::agent;
use skidder_tests::workspace;

/// Programs that may stand in a block besides cargo, and are not run.
const KNOWN: [&str; 4] = ["git", "cd", "cat", "curl"];

#[test]
fn the_commands_in_the_readmes_exist() {
    let readmes: Vec<_> = workspace::files().unwrap().into_iter().filter(|path| path.ends_with("README.md")).collect();
    let mut problems = Vec::new();
    let mut commands = 0;
    for path in &readmes {
        let text = fs::read_to_string(workspace::root().join(path)).unwrap();
        for command in console_commands(&text) {
            commands += 1;
            problems.extend(problem(&command).map(|problem| format!("{}: `{command}`: {problem}", path.display())));
        }
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
    assert!(commands >= 4, "only {commands} commands in {readmes:?}");
}

#[test]
fn the_readme_has_its_two_commands() {
    let readme = fs::read_to_string(workspace::root().join("README.md")).expect("README.md");
    let commands = console_commands(&readme);
    let has = |all: &[&str]| commands.iter().any(|command| all.iter().all(|part| command.contains(part)));
    assert!(has(&["cargo run --release", "run --once -c examples/local/pipeline.toml"]), "{commands:?}");
    assert!(has(&["cargo xtask test"]), "{commands:?}");
}

/// The commands in the blocks marked `console`: one a line, a backslash goes on, a `$` before it and comments do not count.
fn console_commands(text: &str) -> Vec<String> {
    let mut commands = Vec::new();
    for block in text.split("```console\n").skip(1) {
        let block = block.split("```").next().unwrap_or_default().replace("\\\n", " ");
        let lines = block.lines().map(|line| line.trim().trim_start_matches("$ "));
        commands.extend(lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned));
    }
    commands
}

fn problem(command: &str) -> Option<String> {
    let words: Vec<&str> = command.split_whitespace().skip_while(|word| word.contains('=') && !word.starts_with('-')).collect();
    match words.as_slice() {
        ["cargo", "run", rest @ ..] => {
            let arguments = rest.iter().skip_while(|word| **word != "--").skip(1).copied().collect::<Vec<_>>();
            let program = agent::binary().expect("skidder");
            verb_of(Command::new(program), &arguments).or_else(|| missing_files(&arguments))
        }
        ["skidder", arguments @ ..] => verb_of(Command::new(agent::binary().expect("skidder")), arguments),
        ["cargo", "xtask", arguments @ ..] => verb_of(Command::new(env!("CARGO_BIN_EXE_xtask")), arguments),
        ["cargo", ..] => None,
        ["helm" | "kubectl", arguments @ ..] => missing_files(&without_settings(arguments)),
        [program, ..] if KNOWN.contains(program) => None,
        [script, ..] if script.contains('/') && workspace::root().join(script).is_file() => None,
        _ => Some("is no command that a reader surely has".to_owned()),
    }
}

/// Asks the program for help with the verb, which fails where it has none of that name.
fn verb_of(mut program: Command, arguments: &[&str]) -> Option<String> {
    let verb = *arguments.first()?;
    let arguments = if verb.starts_with('-') { vec![verb] } else { vec![verb, "--help"] };
    let output = program.args(arguments).output().expect("the program runs");
    (!output.status.success() || output.stdout.is_empty()).then(|| format!("there is no `{verb}`"))
}

/// The arguments without those that set a value: `--set a=https://b`.
fn without_settings<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    arguments.iter().copied().filter(|word| !word.contains('=')).collect()
}

/// The arguments that are paths, by their look, and lead nowhere.
fn missing_files(arguments: &[&str]) -> Option<String> {
    let gone = arguments.iter().find(|word| word.contains('/') && !word.contains("://") && !workspace::root().join(word).exists());
    gone.map(|word| format!("there is no {word}"))
}
