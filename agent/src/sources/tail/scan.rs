//! Finding the files that there are, and bringing the streams in line with that.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use skidder_pipeline::edge::Nanos;
use skidder_pipeline::position::FileKey;

use crate::metadata::Verdict;

use super::super::identity::Facts;
use super::census::Census;
use super::chain::{Chain, Found, merge};
use super::discover::{Entry, Listing, LogPath};
use super::generation::{Compressed, Content, Generation, Memory};
use super::open::Refusal;
use super::stream::Stream;
use super::{MIN_POLL, Tailer, WATCH_INTERVAL};

/// The time between rescans where inotify cannot watch everything.
const RESCAN_UNWATCHED: Duration = Duration::from_secs(2);
/// How many closed files are remembered, so that one that is met again is read on: 100 bytes each.
const MAX_MEMORIES: usize = 50_000;
/// How often a unit is listed again at once, because a file of it was gone when it was to be opened.
const MAX_LOOKS: usize = 3;
/// How many paths are remembered as warned of.
const MAX_WARNED: usize = 10_000;

impl Tailer {
    /// Looks for new files where it is time to.
    pub(super) fn discover(&mut self, now: Nanos) {
        if self.env.stopping || self.env.once && self.scanned {
            return;
        }
        let mut full = now >= self.next_scan;
        if now >= self.next_watch {
            self.next_watch = now.after(WATCH_INTERVAL);
            full |= self.look_at_watch(now);
        }
        if !full && self.seen.changed.is_empty() && !self.more {
            return;
        }
        if full && !self.more {
            self.begin_census(now);
        }
        let started = self.env.clock.now();
        let mut listing = Listing::default();
        let is_whole = full || self.more;
        if self.more {
            full = false;
            self.discover.scan_more(&mut self.watch, &mut listing);
            self.more = listing.more;
        } else {
            self.discover.scan(if full { None } else { Some(&self.seen.changed) }, &mut self.watch, &mut listing);
            self.seen.changed.clear();
            self.more = full && listing.more;
        }
        // A large tree that changes all the time must not keep the worker busy with listing it. A look at all of it is rare; what
        // lives for a second should not fall into a pause after one.
        if !full {
            self.next_watch = self.next_watch.max(now.after(self.env.clock.now().since(started) * 20));
        }
        if full {
            let rescan = if self.watch.is_complete() { self.settings.rescan } else { self.settings.rescan.min(RESCAN_UNWATCHED) };
            self.next_scan = now.after(rescan);
        }
        if !self.scanned && !self.more && self.streams.is_empty() && listing.units.is_empty() {
            tracing::warn!(source = %self.env.name, "there is no log to read yet");
        }
        self.apply(listing, now);
        if is_whole && !self.more && !self.inherited.is_empty() {
            let gone = self.inherited_and_deleted(now);
            self.apply(Listing { gone, ..Listing::default() }, now);
        }
        // A log that was renamed between its listing and its opening is older than those that were not: it is looked for
        // before anything is read.
        for _ in 0..MAX_LOOKS {
            if self.incomplete.is_empty() {
                break;
            }
            let mut listing = Listing::default();
            self.discover.scan(Some(&std::mem::take(&mut self.incomplete)), &mut self.watch, &mut listing);
            self.apply(listing, now);
        }
        if !std::mem::take(&mut self.incomplete).is_empty() {
            self.next_scan = self.next_scan.min(now.after(WATCH_INTERVAL));
            self.census.iter_mut().for_each(Census::is_incomplete);
        }
        self.scanned |= !self.more;
        if !self.more {
            self.end_census(now);
        }
    }

    /// The inherited units that no scan met, as far as no file of theirs has a name: a file system that is away keeps its own.
    fn inherited_and_deleted(&mut self, now: Nanos) -> Vec<Arc<Path>> {
        let mut gone: Vec<Arc<Path>> = std::mem::take(&mut self.inherited).into_iter().collect();
        gone.retain(|unit| {
            let stream = self.units.get(unit).and_then(|index| self.streams[*index].as_mut());
            let is_deleted = |generation: &mut Generation| {
                generation.refresh(now);
                generation.facts.deleted
            };
            stream.is_some_and(|stream| stream.chain.iter_mut().all(is_deleted))
        });
        gone
    }

    /// Takes in what inotify says. Says whether some of it was lost.
    fn look_at_watch(&mut self, now: Nanos) -> bool {
        self.watch.look(&mut self.seen);
        let lost = std::mem::take(&mut self.seen.lost);
        let written: Vec<usize> = if lost {
            self.seen.written.clear();
            (0..self.streams.len()).collect()
        } else {
            self.seen.written.drain().filter_map(|unit| self.units.get(&unit).copied()).collect()
        };
        for index in written {
            if let Some(mut stream) = self.streams[index].take_if(|stream| stream.watched && !stream.active) {
                self.schedule(&mut stream, index, now);
                self.streams[index] = Some(stream);
            }
        }
        lost
    }

    pub(super) fn apply(&mut self, mut listing: Listing, now: Nanos) {
        for (path, why) in listing.refused {
            self.census.iter_mut().for_each(|census| census.refused(&why));
            self.warn(path, &why);
        }
        self.census.iter_mut().for_each(|census| census.devices(std::mem::take(&mut listing.devices)));
        for (unit, entries) in listing.units {
            self.inherited.remove(&unit);
            let index = match self.units.get(&unit) {
                Some(index) => *index,
                None if entries.is_empty() => continue,
                None => self.insert(unit),
            };
            self.sync(index, &entries, now);
        }
        for unit in listing.gone {
            let Some(index) = self.units.get(&unit).copied() else { continue };
            self.sync(index, &[], now);
            if let Some(stream) = &mut self.streams[index] {
                stream.gone = true;
            }
        }
    }

    pub(super) fn insert(&mut self, unit: Arc<Path>) -> usize {
        let stream = Some(Box::new(Stream::new(unit.clone(), self.env.describe.hold(&unit).map(Box::new))));
        let index = match self.free.pop() {
            Some(index) => {
                self.streams[index] = stream;
                index
            }
            None => {
                self.streams.push(stream);
                self.streams.len() - 1
            }
        };
        self.units.insert(unit, index);
        index
    }

    /// Brings a stream's chain in line with a listing of its files.
    fn sync(&mut self, index: usize, entries: &[Entry], now: Nanos) {
        let Some(mut stream) = self.streams[index].take() else { return };
        stream.gone = false;
        // What was read of it before stays known: it may be read on one day.
        if stream.verdict(&self.env, now) == Verdict::Leave {
            entries.iter().for_each(|entry| self.count_unopened(&stream.unit, entry, now));
            self.leave_unread(&mut stream);
            self.recount(&mut stream);
            if !stream.active && stream.due == Nanos(0) {
                self.schedule(&mut stream, index, now.after(MIN_POLL));
            }
            self.streams[index] = Some(stream);
            return;
        }
        stream.tells_writes = entries.iter().all(|entry| entry.target.is_none() && entry.path.parent() == Some(&*stream.unit));
        if stream.watched {
            self.ask(&mut stream);
            stream.due = Nanos(0);
        }
        let mut chain = std::mem::take(&mut stream.chain);
        if chain.is_empty()
            && let Some(last) = entries.iter().map(|entry| entry.modified).max()
        {
            stream.has_rested(self.env.clock.unix_nanos().saturating_sub(last));
        }
        chain.iter_mut().for_each(|generation| generation.unlisted = true);
        let mut new: Vec<(usize, Generation)> = Vec::new();
        let mut places = Vec::new();
        for (number, entry) in entries.iter().enumerate() {
            let inode = (entry.dev, entry.ino);
            if let Some(at) = chain.iter().position(|generation| generation.is_listed_as(entry)) {
                chain[at].listed_as(entry);
                places.push((number, at));
            } else if self.is_ignored(entry) {
                // It may be written again, which does not show in its directory.
                self.discover.look_again(&stream.unit);
                self.count_unopened(&stream.unit, entry, now);
            } else if !self.inodes.contains(&inode)
                && self.closed.get(&inode).is_none_or(|memory| (memory.size, memory.modified) != (entry.size, entry.modified))
            {
                match self.open(&stream.unit, entry, now) {
                    Ok(generation) if entry.compressed => match self.compressed(&stream.unit, generation, entry, (&mut chain, now)) {
                        Found::Open(at) => places.push((number, at)),
                        Found::Unread(generation) => {
                            self.inodes.insert(inode);
                            new.push((number, *generation));
                        }
                        Found::Nothing => {}
                    },
                    Ok(generation) => {
                        self.inodes.insert(inode);
                        new.push((number, generation));
                    }
                    Err(refusal) => {
                        self.census.iter_mut().for_each(|census| census.refused(&refusal));
                        self.discover.look_again(&stream.unit);
                        if matches!(refusal, Refusal::Gone) {
                            self.incomplete.insert(stream.unit.clone());
                        }
                    }
                }
            } else {
                self.count_closed(inode);
            }
        }
        for generation in chain.iter_mut().filter(|generation| generation.unlisted) {
            generation.compressed = None;
        }
        stream.chain = merge(chain, new, &places);
        if self.past.contains_key(&stream.unit)
            && let Some(open) = self.open_keys(&mut stream)
        {
            self.forget_past(&stream.unit, |inode| entries.iter().all(|entry| (entry.dev, entry.ino) != inode), &open);
        }
        self.recount(&mut stream);
        let wake = !stream.active && stream.chain.iter().any(Generation::is_worth_reading);
        if wake || self.env.once && !stream.active {
            stream.active = true;
            self.active.push_back(index);
        } else if !stream.active && stream.due == Nanos(0) {
            self.schedule(&mut stream, index, now.after(MIN_POLL));
        }
        self.streams[index] = Some(stream);
    }

    /// The keys of all open generations; `None` where one cannot be told yet. A file that was closed may be there as another: on a
    /// file system that was mounted under another device number, or restored.
    fn open_keys(&self, stream: &mut Stream) -> Option<Vec<FileKey>> {
        let mut keys = Vec::new();
        for index in 0..stream.chain.len() {
            stream.tell_apart(index);
            let generation = &mut stream.chain[index];
            if generation.facts.size == 0 {
                continue;
            }
            if generation.key().is_none() {
                generation.identify(&self.env, false).ok();
            }
            keys.push(generation.key()?);
        }
        Some(keys)
    }

    /// Whether a file that is not open was not written for too long.
    fn is_ignored(&self, entry: &Entry) -> bool {
        let age = self.env.clock.unix_nanos().saturating_sub(entry.modified);
        self.settings.ignore_older.is_some_and(|oldest| i128::from(age) > oldest.as_nanos() as i128)
    }

    /// Opens what a listing found. Where the path leads nowhere by now, or to another file, it is gone: the next listing will
    /// say where to.
    pub(super) fn open(&mut self, unit: &Arc<Path>, entry: &Entry, now: Nanos) -> Result<Generation, Refusal> {
        let claim = match self.env.claims.claim(&self.env.name, (entry.dev, entry.ino)) {
            Ok(claim) => claim,
            Err(other) => {
                self.warn(entry.path.clone(), &Refusal::Taken(other.clone()));
                return Err(Refusal::Taken(other));
            }
        };
        let (file, facts) = match self.discover.open(entry) {
            Ok((_, facts)) if (facts.dev, facts.ino) != (entry.dev, entry.ino) => return Err(Refusal::Gone),
            Ok(opened) => opened,
            Err(refusal) => {
                if !matches!(refusal, Refusal::Gone) {
                    self.warn(entry.path.clone(), &refusal);
                }
                return Err(refusal);
            }
        };
        // Whether a compressed one is what it should be is not known yet.
        if !entry.compressed {
            self.warned.remove(&entry.path);
        }
        let (content, facts) = if entry.compressed {
            let compressed = Compressed::new(Arc::new(file));
            let size = compressed.stated_size().unwrap_or(0);
            (Content::Compressed(Box::new(compressed)), Facts { size, ..facts })
        } else {
            (Content::Plain(file), facts)
        };
        let path = LogPath::new(unit, &entry.path, &mut self.last_name);
        let mut generation = Generation::new(content, facts, path, entry.place.clone(), claim, now);
        generation.format = entry.format;
        generation.compressed = entry.compressed.then(|| Box::new(entry.clone()));
        if let Some(memory) = self.closed.remove(&(facts.dev, facts.ino)) {
            generation.resume(&memory);
        } else if self.settings.from_end && !self.scanned {
            let registry = self.env.registry.as_ref().map(|r| r.lock().unwrap_or_else(PoisonError::into_inner));
            generation.from_end = registry.is_none_or(|registry| !registry.knows_path(&entry.path));
        }
        Ok(generation)
    }

    /// Finds out of which generation `generation` is the compressed form: one of `chain` that no name leads to, which is read
    /// on as long as it is open, or none, so that it is to be read itself if not all of it was.
    fn compressed(&mut self, unit: &Arc<Path>, mut generation: Generation, entry: &Entry, (chain, now): (&mut Chain, Nanos)) -> Found {
        let identified = generation.identify(&self.env, true);
        generation.release();
        if !matches!(identified, Ok(true)) {
            let why = identified.map_or_else(Refusal::Io, |_| Refusal::Unfit("it is compressed, and no text can be got out of it"));
            self.warn(entry.path.clone(), &why);
            return Found::Nothing;
        }
        let key = generation.key();
        let is_it = |open: &mut Generation| {
            // One that nothing was read of yet does not know who it is. Where it cannot be told, it is none of ours.
            let known = open.key().is_some() || {
                open.refresh(now);
                open.identify(&self.env, false).unwrap_or(false)
            };
            known && open.key() == key
        };
        if let Some(at) = chain.iter_mut().position(is_it) {
            chain[at].listed_as(entry);
            return Found::Open(at);
        }
        if !generation.is_dealt_with() {
            return Found::Unread(Box::new(generation));
        }
        if let (Some(key), Some(memory)) = (key, generation.memory()) {
            self.retire(unit, ((entry.dev, entry.ino), key), memory);
        }
        Found::Nothing
    }

    pub(super) fn remember(&mut self, inode: (u64, u64), memory: Memory) {
        if self.closed.len() >= MAX_MEMORIES {
            let some = self.closed.keys().next().copied();
            some.map(|inode| self.closed.remove(&inode));
        }
        self.closed.insert(inode, memory);
    }

    fn warn(&mut self, path: PathBuf, why: &Refusal) {
        if self.warned.len() >= MAX_WARNED || self.warned.contains(&path) {
            return;
        }
        tracing::warn!(source = %self.env.name, path = %path.display(), "a log is not read: {why}");
        why.count(&self.env.stats);
        self.warned.insert(path);
    }
}
