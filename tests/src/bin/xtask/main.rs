//! `cargo xtask`: the verbs that a developer and the CI need beyond cargo's own.

mod bench;
mod checks;
mod torture;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The verbs of a developer of Skidder.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Builds everything and runs all tests; the last line counts them.
    Test(checks::TestOptions),
    /// Checks format, clippy with warnings denied, the tidy test, and licences and advisories with cargo-deny.
    Lint(checks::LintOptions),
    /// All that the CI does: `test`, then `lint`.
    Ci(checks::LintOptions),
    /// Writes the files anew that are generated from the code: the reference configuration and the schema.
    Gen,
    /// Measures the release build on one core over generated logs, next to a plain pass over the same files.
    Bench(bench::Options),
    /// Kills the agent again and again over growing logs and misbehaving stores, and accounts for every record.
    Torture(torture::Options),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().verb {
        Verb::Test(options) => checks::test(&options),
        Verb::Lint(options) => checks::lint(&options),
        Verb::Ci(options) => checks::test(&checks::TestOptions::default()).and_then(|()| checks::lint(&options)),
        Verb::Gen => checks::generate(),
        Verb::Bench(options) => bench::run(&options),
        Verb::Torture(options) => torture::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("cargo xtask: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Prints a line about what goes on: to standard error, so that a verb's result stands alone on standard output.
#[allow(clippy::print_stderr, reason = "a program for a terminal")]
fn say(line: &str) {
    eprintln!("{line}");
}

/// Prints a line of a verb's result.
#[allow(clippy::print_stdout, reason = "a program for a terminal")]
fn print(line: &str) {
    println!("{line}");
}
