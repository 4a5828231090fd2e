//! A node's kubelet rotates logs away while the agent is stopped, killed and started again: no record that was on the disk
//! while it ran, or is there when it returns, is lost, cut or out of order, and none is there twice.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

use std::time::Duration;

use skidder_tests::chance::seed;
use skidder_tests::kubelet::trial;

/// The time in which logs are written; the rest of the half minute is for what remains to be read, and for the account.
const TIME: Duration = Duration::from_secs(20);

#[test]
fn no_record_is_lost_to_rotation() {
    let seed = seed();
    eprintln!("seed {seed}: repeat with SKIDDER_SEED={seed}");
    match trial::run(seed, TIME) {
        Ok(figures) => eprintln!("{figures}"),
        Err(faults) => panic!("{faults}"),
    }
}
