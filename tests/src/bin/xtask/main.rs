//! `cargo xtask`: the verbs that a developer and the CI need beyond cargo's own.

mod backlog;
mod bench;
mod checks;
mod redaction;
mod scale;
mod torture;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

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
    /// Builds the image without docker, and packs it into an archive for `ctr images import`, `docker load` and `skopeo`.
    Image(ImageOptions),
    /// Lets a simulated kubelet rotate logs away under an agent that is killed again and again, and accounts for each record.
    Kubelet(KubeletOptions),
    /// Measures the release build on one core over generated logs, next to a plain pass over the same files.
    Bench(bench::Options),
    /// Counts what redaction finds in labelled lines, and what it takes for a find in the logs of real servers.
    Redaction(redaction::Options),
    /// Kills the agent again and again over growing logs and misbehaving stores, and accounts for every record.
    Torture(torture::Options),
}

/// Options of `image`.
#[derive(Args)]
struct ImageOptions {
    /// The image's name and tag.
    #[arg(long, default_value = concat!("skidder:", env!("CARGO_PKG_VERSION")))]
    name: String,
    /// The cargo profile to build with.
    #[arg(long, default_value = "release")]
    profile: String,
    /// The processor: amd64 or arm64; this machine's where it is not given.
    #[arg(long)]
    arch: Option<String>,
    /// Then lets it run as a DaemonSet on a real node, and prints what memory it took there. The name is the test's then.
    #[arg(long, conflicts_with = "name")]
    node: bool,
}

/// The name under which the test on a node knows the image.
const NAME_ON_NODE: &str = "localhost/skidder:test";

fn image(options: &ImageOptions) -> anyhow::Result<()> {
    let name = if options.node { NAME_ON_NODE } else { &options.name };
    say(&format!("building {name} …"));
    let image = skidder_tests::image::build(name, &options.profile, options.arch.as_deref()).map_err(anyhow::Error::msg)?;
    let bytes = std::fs::metadata(&image.archive)?.len();
    let unpacked = skidder_tests::image::bytes(&image.rootfs)?;
    let (packed, unpacked) = (bytes as f64 / 1e6, unpacked as f64 / 1e6);
    let crates = skidder_tests::image::crates(&image.rootfs).map_err(anyhow::Error::msg)?.len();
    print(&format!("{} ({packed:.1} MB; unpacked {unpacked:.1} MB; lists {crates} crates)", image.archive.display()));
    if options.node { checks::on_node(&image.archive) } else { Ok(()) }
}

/// Options of `kubelet`.
#[derive(Args)]
struct KubeletOptions {
    /// How long logs are written.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// What happens, as far as chance decides it; another each time where it is not given.
    #[arg(long)]
    seed: Option<u64>,
}

fn kubelet(options: &KubeletOptions) -> anyhow::Result<()> {
    let seed = options.seed.unwrap_or_else(skidder_tests::chance::seed);
    say(&format!("seed {seed}: {} minutes …", options.minutes));
    let time = std::time::Duration::from_secs_f64(60.0 * options.minutes);
    let figures = skidder_tests::kubelet::trial::run(seed, time).map_err(anyhow::Error::msg)?;
    print(&figures);
    Ok(())
}

fn main() -> ExitCode {
    let done = match Arguments::parse().verb {
        Verb::Test(options) => checks::test(&options),
        Verb::Lint(options) => checks::lint(&options),
        Verb::Ci(options) => checks::test(&checks::TestOptions::default()).and_then(|()| checks::lint(&options)),
        Verb::Gen => checks::generate(),
        Verb::Image(options) => image(&options),
        Verb::Kubelet(options) => kubelet(&options),
        Verb::Bench(options) => bench::run(&options),
        Verb::Redaction(options) => redaction::run(&options),
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
