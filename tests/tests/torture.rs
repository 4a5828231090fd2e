//! The torture rig in the measure of a test; by hand it runs for as long as one likes: `cargo xtask torture --help`.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use skidder_tests::chance::seed;
use skidder_tests::torture::target::Kind;
use skidder_tests::torture::{NOT_MOUNTABLE, Options, Profile, run};

fn torture(kills: u32, records: u64, profile: Profile, targets: &[Kind]) {
    let seed = seed();
    eprintln!("seed {seed}: repeat with SKIDDER_SEED={seed}");
    match run(Options { seed, kills, records, profile, targets: targets.to_vec() }) {
        Ok(figures) => eprintln!("{profile:?}: {figures}"),
        // Mounting is root's, and not even that of every container.
        Err(error) if error.contains(NOT_MOUNTABLE) => eprintln!("left out: {error}"),
        Err(error) => panic!("{profile:?}: {error}"),
    }
}

#[test]
fn kills_and_misbehaving_stores_lose_nothing_and_repeat_nothing() {
    torture(60, 1_000_000, Profile::Kills, &Kind::ALL);
}

#[test]
fn damage_to_the_state_between_lives_loses_nothing_whose_source_is_there() {
    torture(12, 100_000, Profile::Damage, &[Kind::Elasticsearch]);
}

#[test]
fn a_disk_that_fills_loses_nothing_and_repeats_nothing_at_the_store() {
    torture(12, 200_000, Profile::SmallDisk, &[Kind::Elasticsearch]);
}
