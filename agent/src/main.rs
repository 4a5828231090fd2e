//! The `skidder` binary: see [`skidder::cli`].

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use skidder::cli::Cli;

fn main() -> ExitCode {
    Cli::parse().execute().unwrap_or_else(|error| {
        // Nothing is left to do when not even this can be said.
        let _ = writeln!(std::io::stderr(), "error: {error:#}");
        ExitCode::FAILURE
    })
}
