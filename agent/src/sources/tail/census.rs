//! Saying which files are there: a source's part in [`Leftovers`](super::super::leftovers::Leftovers).

use std::path::Path;
use std::sync::{Arc, PoisonError};

use skidder_pipeline::edge::Nanos;
use skidder_pipeline::position::FileKey;

use super::discover::Entry;
use super::generation::Generation;
use super::open::Refusal;
use super::{Inode, Tailer};

/// What a look at all comes to, where it is counted.
#[derive(Default)]
pub(super) struct Census {
    there: Vec<FileKey>,
    /// Of the directories and files that were met.
    devices: Vec<u64>,
    /// Whether there may be files that it does not know of.
    is_unsure: bool,
}

impl Census {
    /// Takes note of why something is not read.
    pub(super) fn refused(&mut self, why: &Refusal) {
        self.is_unsure |= matches!(why, Refusal::Io(_) | Refusal::Root(_) | Refusal::TooMany);
    }

    /// Takes note that some files changed their names all the time.
    pub(super) fn is_incomplete(&mut self) {
        self.is_unsure = true;
    }

    pub(super) fn devices(&mut self, devices: Vec<u64>) {
        self.devices.extend(devices);
    }
}

impl Tailer {
    /// Counts with the look that begins now, where that is due.
    pub(super) fn begin_census(&mut self, now: Nanos) {
        self.census = self.witness.as_ref().filter(|witness| witness.is_due(now)).map(|_| Census::default());
    }

    /// Counts a file that was closed and did not change since.
    pub(super) fn count_closed(&mut self, inode: Inode) {
        if let (Some(census), Some(memory)) = (&mut self.census, self.closed.get(&inode)) {
            census.there.push(memory.key());
        }
    }

    /// Counts a file that is not read, for its age or because its pod says so. Of such a one no more than the first line is.
    pub(super) fn count_unopened(&mut self, unit: &Arc<Path>, entry: &Entry, now: Nanos) {
        if self.census.is_none() {
            return;
        }
        let inode = (entry.dev, entry.ino);
        if self.closed.get(&inode).is_some_and(|memory| (memory.size, memory.modified) == (entry.size, entry.modified)) {
            return self.count_closed(inode);
        }
        let mut key = None;
        let is_known = match self.open(unit, entry, now) {
            Ok(mut generation) => {
                let identified = generation.identify(&self.env, entry.compressed);
                key = generation.key();
                entry.size == 0 || matches!(identified, Ok(true))
            }
            Err(refusal) => !matches!(refusal, Refusal::Io(_) | Refusal::Gone),
        };
        if let Some(census) = &mut self.census {
            census.there.extend(key);
            census.is_unsure |= !is_known;
        }
    }

    /// Says what the look found, now that it is over.
    pub(super) fn end_census(&mut self, now: Nanos) {
        let (Some(census), Some(witness)) = (self.census.take(), &mut self.witness) else { return };
        let Census { mut there, devices, mut is_unsure } = census;
        // What is empty may be a file system that is not mounted.
        is_unsure |= self.units.is_empty();
        for generation in self.streams.iter().flatten().flat_map(|stream| stream.chain.iter()) {
            there.extend(generation.keys());
            is_unsure |= generation.key().is_none() && !generation.is_without_line();
        }
        there.extend(self.past.values().flatten().map(|(_, key)| *key));
        if let Some(registry) = &self.env.registry {
            let mut registry = registry.lock().unwrap_or_else(PoisonError::into_inner);
            registry.see(&devices, now);
            there.extend(registry.away(now));
        }
        witness.say((!is_unsure).then_some(there), &*self.env.held, now);
    }
}

impl Generation {
    /// Its key, and those of what it held before.
    fn keys(&self) -> impl Iterator<Item = FileKey> + '_ {
        self.key().into_iter().chain(self.former().iter().copied())
    }
}
