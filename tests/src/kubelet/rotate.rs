//! Kubelet's rotation of one container's log, step by step as its container log manager does it
//! (kubernetes `pkg/kubelet/logs/container_log_manager.go`):
//!
//! 1. rotated files that are of no use are removed: temporary ones, and those that have a compressed form;
//! 2. of the others the oldest, by name, are removed, so that `MaxFiles - 2` are left;
//! 3. each that is not compressed is: into `<name>.tmp`, which is renamed to `<name>.gz`; then the original is removed;
//! 4. the live log is renamed to `<name>.<time>`, and the runtime told to open it anew; where that fails, it is renamed back.

use std::fs::{self, File};
use std::io;
use std::sync::PoisonError;
use std::thread;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::container::Container;
use crate::chance::Chance;

/// `containerLogMaxFiles`, at its default.
pub const MAX_FILES: usize = 5;

/// Rotates the log once. `tick` is kubelet's clock in seconds; in reality rotations of a container are ten seconds apart at
/// least, so that the second in the name tells them apart.
pub fn rotate(container: &Container, tick: u64, chance: &mut Chance) -> io::Result<()> {
    let _turn = container.turn.lock().unwrap_or_else(PoisonError::into_inner);
    if !container.directory.exists() {
        return Ok(());
    }
    let restart = container.log().restart;
    let live = format!("{restart}.log");
    let rotated = format!("{live}.");
    let names = || -> io::Result<Vec<String>> {
        let entries = fs::read_dir(&container.directory)?.flatten();
        let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.retain(|name| name.starts_with(&rotated));
        names.sort();
        Ok(names)
    };
    remove_unused(container, &names()?)?;
    let mut kept = names()?;
    let excess = kept.len().saturating_sub(MAX_FILES - 2);
    for name in kept.drain(..excess) {
        container.remove(&mut container.log(), &name)?;
    }
    for name in kept.iter().filter(|name| !name.ends_with(".gz")) {
        compress(container, name, chance)?;
    }
    rename(container, &live, tick, chance)
}

fn remove_unused(container: &Container, names: &[String]) -> io::Result<()> {
    for name in names {
        let compressed = names.contains(&format!("{name}.gz"));
        if name.ends_with(".tmp") || compressed {
            container.remove(&mut container.log(), name)?;
        }
    }
    Ok(())
}

fn compress(container: &Container, name: &str, chance: &mut Chance) -> io::Result<()> {
    let path = |suffix: &str| container.directory.join(format!("{name}{suffix}"));
    let mut encoder = GzEncoder::new(File::create(path(".tmp"))?, Compression::fast());
    io::copy(&mut File::open(path(""))?, &mut encoder)?;
    encoder.finish()?;
    // Kubelet may be killed at any step. What it leaves behind is step 1 of the next time.
    if chance.per_mille(15) {
        return Ok(());
    }
    fs::rename(path(".tmp"), path(".gz"))?;
    {
        let mut log = container.log();
        let generation = log.names.get(name).copied();
        log.names.extend(generation.map(|generation| (format!("{name}.gz"), generation)));
        if let Some(generation) = generation {
            container.journal.note(generation, "compressed");
        }
    }
    container.journal.book().compressed += 1;
    if chance.per_mille(15) {
        return Ok(());
    }
    if chance.per_mille(200) {
        thread::sleep(Duration::from_micros(chance.below(20_000)));
    }
    container.remove(&mut container.log(), name)
}

fn rename(container: &Container, live: &str, tick: u64, chance: &mut Chance) -> io::Result<()> {
    let day = 24 + tick / 86_400;
    let rotated = format!("{live}.202611{day:02}-{:02}{:02}{:02}", tick / 3_600 % 24, tick / 60 % 60, tick % 60);
    let (from, to) = (container.directory.join(live), container.directory.join(&rotated));
    let renamed = |from: &str, to: &str| {
        let mut log = container.log();
        if let Some(generation) = log.names.remove(from) {
            log.names.insert(to.to_owned(), generation);
            container.journal.note(generation, format!("named {to}"));
        }
    };
    fs::rename(&from, &to)?;
    renamed(live, &rotated);
    // The runtime writes on for a moment before it hears of it.
    thread::sleep(Duration::from_micros(chance.below(3_000)));
    if chance.per_mille(30) {
        fs::rename(&to, &from)?;
        renamed(&rotated, live);
        container.journal.book().renamed_back += 1;
        return Ok(());
    }
    container.reopen()?;
    container.journal.book().rotations += 1;
    Ok(())
}
