//! Tests and checks: what a change must pass.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};
use clap::Args;
use skidder_tests::servers::Provisioning;
use skidder_tests::{agent, workspace};

use crate::{print, say};

/// The feature that has the tests on real servers.
const SERVERS: &str = "skidder-tests/servers";

/// Options of `test`.
#[derive(Args, Default)]
pub struct TestOptions {
    /// Tests the release build.
    #[arg(long)]
    release: bool,
    /// Further arguments for `cargo test`: a filter, `-p skidder-pipeline`, or `-- --nocapture`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    more: Vec<OsString>,
}

/// Options of `lint` and `ci`.
#[derive(Args)]
pub struct LintOptions {
    /// Fails where cargo-deny is not there, in place of saying so.
    #[arg(long)]
    require_deny: bool,
}

/// Runs the tests of all crates, those of the whole agent included.
pub fn test(options: &TestOptions) -> anyhow::Result<()> {
    let chosen = |argument: &OsString| argument.to_str().is_some_and(|text| text.starts_with("-p") || text.starts_with("--package"));
    // The real servers' programs come meanwhile: those that are built here take longer than all else.
    let with_servers = !options.more.iter().any(chosen);
    let _provisioning = if with_servers { Some(Provisioning::begin(say).map_err(anyhow::Error::msg)?) } else { None };

    // The program is built first, once: the tests of the whole agent run it, and several of them at a time would wait for
    // one another's cargo.
    say("building skidder …");
    let profile = if options.release { "release" } else { "debug" };
    let binary = agent::build(&workspace::target().join(profile)).map_err(anyhow::Error::msg)?;

    let mut command = cargo();
    command.args(["test", "--locked", "--no-fail-fast"]).env("SKIDDER_BIN", binary);
    if std::env::var_os("SKIDDER_FUZZ_SECONDS").is_none() {
        command.env("SKIDDER_FUZZ_SECONDS", "2");
    }
    if with_servers {
        command.args(["--workspace", "--features", SERVERS]);
    }
    if options.release {
        command.arg("--release");
    }
    command.args(&options.more).stdout(Stdio::piped());
    let mut running = command.spawn().context("cannot start cargo")?;
    let (mut passed, mut failed, mut failures) = (0, 0, Vec::new());
    let output = running.stdout.take().context("cargo has no output")?;
    for line in BufReader::new(output).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        passed += counted(&line, " passed").unwrap_or(0);
        failed += counted(&line, " failed").unwrap_or(0);
        failures.extend(line.strip_suffix(" ... FAILED").map(str::to_owned));
        print(&line);
    }
    let status = running.wait()?;
    failures.iter().for_each(|name| print(&format!("failed: {name}")));
    print(&format!("{passed} passed, {failed} failed"));
    ensure!(failed == 0 && status.success(), "the tests failed");
    ensure!(passed > 0, "no tests ran");
    Ok(())
}

/// Lets the image in `archive` run on a real node, and prints what came of it: the lines, the restarts, the memory.
pub fn on_node(archive: &std::path::Path) -> anyhow::Result<()> {
    say("running it on a node: some minutes …");
    let mut command = cargo();
    command.args(["test", "--locked", "-p", "skidder-tests", "--features", SERVERS, "--test", "kubernetes_node", "--", "--nocapture"]);
    let output = command.env("SKIDDER_IMAGE", archive).stdout(Stdio::piped()).output().context("cannot start cargo")?;
    let said = String::from_utf8_lossy(&output.stdout);
    said.lines().filter(|line| line.contains("memory at most") || line.contains("panicked")).for_each(print);
    ensure!(output.status.success(), "the test on the node failed:\n{said}{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// The number before `what` in a summary of the test harness (`test result: ok. 13 passed; 0 failed; …`).
fn counted(line: &str, what: &str) -> Option<u64> {
    let (before, _) = line.strip_prefix("test result: ")?.split_once(what)?;
    before.rsplit(' ').next()?.parse().ok()
}

/// Checks what is not a test's to check: all of it, so that one fault does not hide another.
pub fn lint(options: &LintOptions) -> anyhow::Result<()> {
    let checks = [
        run("format", cargo().args(["fmt", "--all", "--check"])),
        run("clippy", cargo().args(["clippy", "--locked", "--workspace", "--all-targets", "--features", SERVERS, "--", "-D", "warnings"])),
        run("tidy", cargo().args(["test", "--locked", "--quiet", "-p", "skidder-tests", "--test", "tidy"])),
        deny(options.require_deny),
    ];
    let failed: Vec<String> = checks.into_iter().filter_map(|check| Some(check.err()?.to_string())).collect();
    ensure!(failed.is_empty(), "{}", failed.join("; "));
    Ok(())
}

fn deny(required: bool) -> anyhow::Result<()> {
    let there = cargo().args(["deny", "--version"]).output().is_ok_and(|output| output.status.success());
    if !there {
        ensure!(!required, "cargo-deny is not installed: cargo install --locked cargo-deny");
        say("!! cargo-deny is not installed: licences, sources and advisories were NOT checked (cargo install --locked cargo-deny)");
        return Ok(());
    }
    run("cargo deny", cargo().args(["deny", "check", "bans", "licenses", "sources"]))?;
    // The list of advisories comes over the network, and a machine without one should still be able to check the rest.
    let fetched = cargo().args(["deny", "fetch", "db"]).status().is_ok_and(|status| status.success());
    if !fetched {
        ensure!(!required, "the list of advisories could not be fetched");
        say("!! the list of advisories could not be fetched: advisories were NOT checked");
        return Ok(());
    }
    run("cargo deny, advisories", cargo().args(["deny", "--offline", "check", "advisories"]))
}

/// Writes the generated files anew: their tests do it, where they find one stale, and then fail.
pub fn generate() -> anyhow::Result<()> {
    say("writing generated files …");
    let first = cargo().args(["test", "--locked", "--quiet", "-p", "skidder", "generated"]).output()?;
    if first.status.success() {
        print("the generated files were fresh");
        return Ok(());
    }
    run("generated files", cargo().args(["test", "--locked", "--quiet", "-p", "skidder", "generated"]))?;
    print("the generated files are fresh now");
    Ok(())
}

/// Cargo, in the repository's root.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace::root());
    command
}

fn run(what: &str, command: &mut Command) -> anyhow::Result<()> {
    say(&format!("{what} …"));
    let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
    if !status.success() {
        bail!("{what}: {status}");
    }
    Ok(())
}
