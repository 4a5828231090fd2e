//! Fuzzing from a committed corpus, on stable Rust and inside `cargo test`.
//!
//! Each file of the corpus is run as it is, then inputs made of the corpus by cutting, doubling, splicing and overwriting, until
//! the time is up. There is no feedback from coverage: the corpus holds what reaches each branch, and a finding becomes a file
//! of it. What failed is written below the target directory and named in the panic, with the seed that repeats the run.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::{chance, chance::Chance, workspace};

/// Inputs are not made longer than this: what a parser does with 64 KiB it does with more.
const MAX_INPUT_BYTES: usize = 64 * 1024;
/// A machine that is too busy to do more in the time tries at least these.
const MIN_ROUNDS: u64 = 2_000;

/// How long one target is tried: `SKIDDER_FUZZ_SECONDS`, or 2. `cargo xtask test` says 60.
pub fn seconds() -> Duration {
    let given = std::env::var("SKIDDER_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(given.unwrap_or(2))
}

/// Runs `target` on what is in the directory `corpus` (relative to the repository's root) and on what can be made of it.
///
/// `tokens` are put into inputs here and there: what the parser gives a meaning to. The target panics where something is wrong.
/// Gives the number of inputs that were tried.
///
/// # Panics
/// Where the corpus is empty or cannot be read, and with the target's own panic, after the input was saved.
pub fn run(name: &str, corpus: &str, tokens: &[&[u8]], target: impl Fn(&[u8])) -> u64 {
    let directory = workspace::root().join(corpus);
    let inputs = read(&directory);
    assert!(!inputs.is_empty(), "no corpus in {}", directory.display());
    let seed = chance::seed();
    let mut chance = Chance::new(seed);
    let mut rounds = 0;
    inputs.iter().for_each(|input| attempt(name, seed, input, &target));
    let end = Instant::now() + seconds();
    while rounds < MIN_ROUNDS || Instant::now() < end {
        let input = mutated(&inputs, tokens, &mut chance);
        attempt(name, seed, &input, &target);
        rounds += 1;
    }
    rounds + inputs.len() as u64
}

/// The files of a corpus in the order of their names.
fn read(directory: &Path) -> Vec<Vec<u8>> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_file()).collect();
    paths.sort();
    paths.into_iter().filter_map(|path| std::fs::read(path).ok()).collect()
}

fn attempt(name: &str, seed: u64, input: &[u8], target: &impl Fn(&[u8])) {
    let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(input))) else { return };
    let saved = workspace::target().join(format!("fuzz-{name}.txt"));
    let how = match std::fs::write(&saved, input) {
        Ok(()) => format!("the input is in {}", saved.display()),
        Err(error) => format!("the input could not be saved ({error})"),
    };
    report(&format!("fuzzing {name}, SKIDDER_SEED={seed}: {how}"));
    resume_unwind(panic);
}

#[allow(clippy::print_stderr, reason = "the harness of tests shows it with the panic")]
fn report(line: &str) {
    eprintln!("{line}");
}

/// One input of the corpus after a few changes.
fn mutated(inputs: &[Vec<u8>], tokens: &[&[u8]], chance: &mut Chance) -> Vec<u8> {
    let mut bytes = chance.pick(inputs).clone();
    for _ in 0..=chance.below(6) {
        change(&mut bytes, inputs, tokens, chance);
    }
    bytes.truncate(MAX_INPUT_BYTES);
    bytes
}

fn change(bytes: &mut Vec<u8>, inputs: &[Vec<u8>], tokens: &[&[u8]], chance: &mut Chance) {
    let at = chance.below(bytes.len() as u64 + 1) as usize;
    let length = (chance.below(32) as usize).min(bytes.len() - at);
    match chance.below(8) {
        0 if at < bytes.len() => bytes[at] ^= 1 << chance.below(8),
        1 if at < bytes.len() => bytes[at] = chance.below(256) as u8,
        2 => drop(bytes.drain(at..at + length)),
        3 => {
            let part = bytes[at..at + length].to_vec();
            let most = if chance.per_mille(20) { 500 } else { 3 };
            let times = 1 + chance.below(most);
            let repeated = part.repeat(times as usize);
            bytes.splice(at..at, repeated);
        }
        4 => {
            let other = chance.pick(inputs);
            let from = chance.below(other.len() as u64 + 1) as usize;
            let to = (from + chance.below(200) as usize).min(other.len());
            bytes.splice(at..at, other[from..to].iter().copied());
        }
        5 => bytes.truncate(at),
        _ if !tokens.is_empty() => drop(bytes.splice(at..at, chance.pick(tokens).iter().copied())),
        _ => bytes.insert(at, chance.below(256) as u8),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_is_a_few_changes_away() {
        let inputs = [b"level=info msg=hello".to_vec(), b"level=warn".to_vec()];
        let mut chance = Chance::new(3);
        let made: Vec<Vec<u8>> = (0..20_000).map(|_| mutated(&inputs, &[b"\0"], &mut chance)).collect();
        assert!(made.iter().any(|bytes| bytes.contains(&0)), "tokens are put in");
        assert!(made.iter().any(|bytes| bytes.is_empty()), "and what is there is cut away");
        assert!(made.iter().any(|bytes| bytes.len() > 1000), "and doubled");
        assert!(made.iter().all(|bytes| bytes.len() <= MAX_INPUT_BYTES));
    }
}
