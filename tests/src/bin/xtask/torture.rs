//! The long form of the torture test.

use clap::{Args, ValueEnum};
use skidder_tests::torture::target::Kind as Target;
use skidder_tests::torture::{self, Profile};
use skidder_tests::{agent, chance, workspace};

use crate::{print, say};

/// Options of `torture`.
#[derive(Args)]
pub struct Options {
    /// How often the agent is killed.
    #[arg(long, default_value_t = 1000)]
    kills: u32,
    /// How many records are written in all.
    #[arg(long, default_value_t = 20_000_000)]
    records: u64,
    /// What is done beside killing it.
    #[arg(long, value_enum, default_value_t = Kind::Kills)]
    profile: Kind,
    /// Where the records go, separated by commas; all where nothing is given, and Elasticsearch alone beside damage and a small disk.
    #[arg(long, value_enum, value_delimiter = ',')]
    targets: Vec<Target>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    /// Nothing.
    Kills,
    /// Bits of its state are flipped and tails are cut between two lives.
    Damage,
    /// Its state lies on a disk of a few MiB (has to be mounted, so by root).
    SmallDisk,
}

/// Runs the rig over an optimised build that has the named points, and prints its figures.
pub fn run(options: &Options) -> anyhow::Result<()> {
    if std::env::var_os("SKIDDER_BIN").is_none() {
        say("building the optimised agent …");
        agent::use_binary(agent::build(&workspace::target().join("torture")).map_err(anyhow::Error::msg)?);
    }
    let profile = match options.profile {
        Kind::Kills => Profile::Kills,
        Kind::Damage => Profile::Damage,
        Kind::SmallDisk => Profile::SmallDisk,
    };
    let targets = match (options.targets.is_empty(), options.profile) {
        (false, _) => options.targets.clone(),
        (true, Kind::Kills) => Target::ALL.to_vec(),
        // The others cannot tell what is read anew from what they have.
        (true, Kind::Damage | Kind::SmallDisk) => vec![Target::Elasticsearch],
    };
    let seed = chance::seed();
    say(&format!("seed {seed}: repeat with SKIDDER_SEED={seed}"));
    let figures = torture::run(torture::Options { seed, kills: options.kills, records: options.records, profile, targets });
    print(&figures.map_err(anyhow::Error::msg)?.to_string());
    Ok(())
}
