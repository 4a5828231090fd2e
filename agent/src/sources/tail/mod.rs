//! Tailing: following logs that grow, are rotated, cut, renamed and removed.
//!
//! The unit is a [`Stream`]: a chain of generations of one log, which are opened on sight, held until they are read to their
//! end, and read oldest first. Discovery (what there is, by a source's own rules) is handed in. Streams with something to
//! read take turns by bytes; the others are asked for growth at intervals that double from 50 ms to 2 s.

mod chain;
mod discover;
mod env;
mod generation;
mod held;
mod limits;
pub(crate) mod open;
mod pod;
mod stream;
mod watch;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use skidder_pipeline::edge::Nanos;
use skidder_pipeline::position::FileKey;
use skidder_pipeline::shared::Shared;
use skidder_pipeline::source::{Chunk, Read, SinkSet, Source};

use crate::metadata::Verdict;

use super::identity::Facts;
use chain::{Found, merge};
use discover::LogPath;
pub(crate) use discover::{Age, Describe, Discover, Entry, Listing, Origin, Place};
pub(crate) use env::{Env, Settings};
use generation::{Compressed, Content, Generation, Memory};
use limits::Share;
use open::Refusal;
use stream::{Stream, Turn};
use watch::Watch;

/// How much is read at a time: large enough that a system call costs nothing, small enough to stay in the cache.
pub(crate) const BLOCK_BYTES: usize = 256 * 1024;
/// The shortest and longest time between two looks at a log that is read to its end.
const MIN_POLL: Duration = Duration::from_millis(50);
const MAX_POLL: Duration = Duration::from_secs(2);
/// Looks are bundled: a node with 10,000 idle logs wakes twenty times a second, not thousands.
const TICK_NANOS: u64 = 50_000_000;
/// How often inotify is asked. Pods that live for a second are seen in time.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);
/// The time between rescans where inotify cannot watch everything.
const RESCAN_UNWATCHED: Duration = Duration::from_secs(2);
/// How many closed files are remembered, so that one that is met again is read on: 100 bytes each.
const MAX_MEMORIES: usize = 50_000;
/// How many turns without a result are taken before the worker is asked whether it has something else to do.
const MAX_TURNS: usize = 256;
/// How often a unit is listed again at once, because a file of it was gone when it was to be opened.
const MAX_LOOKS: usize = 3;
/// How many paths are remembered as warned of.
const MAX_WARNED: usize = 10_000;

/// A source that tails what its discovery finds.
pub(crate) struct Tailer {
    env: Env,
    discover: Box<dyn Discover>,
    settings: Settings,
    streams: Vec<Option<Box<Stream>>>,
    free: Vec<usize>,
    units: HashMap<Arc<Path>, usize>,
    /// Open files and their streams.
    inodes: HashMap<(u64, u64), usize>,
    closed: HashMap<(u64, u64), Memory>,
    active: VecDeque<usize>,
    timers: BinaryHeap<Reverse<(Nanos, usize)>>,
    watch: Watch,
    changed: HashSet<Arc<Path>>,
    /// Units with a file that was gone when it was to be opened.
    incomplete: HashSet<Arc<Path>>,
    /// Whether the scan under way has not come to its end.
    more: bool,
    next_scan: Nanos,
    next_watch: Nanos,
    scanned: bool,
    sums: Share,
    warned: HashSet<PathBuf>,
}

impl Tailer {
    pub(crate) fn new(env: Env, discover: Box<dyn Discover>, settings: Settings) -> Tailer {
        Tailer {
            env,
            discover,
            settings,
            streams: Vec::new(),
            free: Vec::new(),
            units: HashMap::new(),
            inodes: HashMap::new(),
            closed: HashMap::new(),
            active: VecDeque::new(),
            timers: BinaryHeap::new(),
            watch: Watch::new(),
            changed: HashSet::new(),
            incomplete: HashSet::new(),
            more: false,
            next_scan: Nanos(0),
            next_watch: Nanos(0),
            scanned: false,
            sums: Share::default(),
            warned: HashSet::new(),
        }
    }

    /// Takes a fork of another tailer's stream over: its files, to be read from where the buffers stand.
    fn adopt(&mut self, stream: &Stream) {
        let index = self.insert(stream.unit.clone());
        for generation in &stream.chain {
            match generation.fork(&self.env) {
                Ok(fork) => {
                    self.inodes.insert((fork.facts.dev, fork.facts.ino), index);
                    if let Some(own) = &mut self.streams[index] {
                        own.chain.push_back(fork);
                    }
                }
                // What still has a name is found by it.
                Err(error) => {
                    tracing::warn!(source = %self.env.name, path = %generation.path.to_path().display(), %error, "cannot hold a log open for a sink that fell behind")
                }
            }
        }
        if let Some(mut own) = self.streams[index].take() {
            own.gone = stream.gone;
            own.active = true;
            self.active.push_back(index);
            self.recount(&mut own);
            self.streams[index] = Some(own);
        }
    }

    /// Looks for new files where it is time to.
    fn discover(&mut self, now: Nanos) {
        if self.env.stopping || self.env.once && self.scanned {
            return;
        }
        let mut full = now >= self.next_scan;
        if now >= self.next_watch {
            self.next_watch = now.after(WATCH_INTERVAL);
            full |= self.watch.changed(&mut self.changed);
        }
        if !full && self.changed.is_empty() && !self.more {
            return;
        }
        let started = self.env.clock.now();
        let mut listing = Listing::default();
        if self.more {
            full = false;
            self.discover.scan_more(&mut listing);
            self.more = listing.more;
        } else {
            self.discover.scan(if full { None } else { Some(&self.changed) }, &mut listing);
            self.changed.clear();
            self.more = full && listing.more;
        }
        // A large tree that changes all the time must not keep the worker busy with listing it. A look at all of it is rare; what
        // lives for a second should not fall into a pause after one.
        if !full {
            self.next_watch = self.next_watch.max(now.after(self.env.clock.now().since(started) * 20));
        }
        // What came into a directory between its listing and its watch is seen by listing it again.
        for dir in std::mem::take(&mut listing.dirs) {
            if self.watch.add(&dir) {
                self.changed.insert(dir);
            }
        }
        if full {
            let rescan = if self.watch.is_complete() { self.settings.rescan } else { self.settings.rescan.min(RESCAN_UNWATCHED) };
            self.next_scan = now.after(rescan);
        }
        if !self.scanned && !self.more && self.streams.is_empty() && listing.units.is_empty() {
            tracing::warn!(source = %self.env.name, "there is no log to read yet");
        }
        self.apply(listing, now);
        // A log that was renamed between its listing and its opening is older than those that were not: it is looked for
        // before anything is read.
        for _ in 0..MAX_LOOKS {
            if self.incomplete.is_empty() {
                break;
            }
            let mut listing = Listing::default();
            self.discover.scan(Some(&std::mem::take(&mut self.incomplete)), &mut listing);
            self.apply(listing, now);
        }
        if !std::mem::take(&mut self.incomplete).is_empty() {
            self.next_scan = self.next_scan.min(now.after(WATCH_INTERVAL));
        }
        self.scanned |= !self.more;
    }

    fn apply(&mut self, listing: Listing, now: Nanos) {
        for (path, why) in listing.refused {
            self.warn(path, &why);
        }
        for (unit, entries) in listing.units {
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

    fn insert(&mut self, unit: Arc<Path>) -> usize {
        let stream = Some(Box::new(Stream::new(unit.clone(), self.env.describe.hold(&unit))));
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
        let left = stream.verdict(&self.env, now) == Verdict::Leave;
        if left {
            self.leave(&mut stream);
        }
        let entries = if left { &[] } else { entries };
        let mut chain: Vec<Generation> = std::mem::take(&mut stream.chain).into();
        for generation in &mut chain {
            generation.unlisted = true;
        }
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
            } else if !self.inodes.contains_key(&inode)
                && self.closed.get(&inode).is_none_or(|memory| (memory.size, memory.modified) != (entry.size, entry.modified))
            {
                match self.open(&stream.unit, entry, now) {
                    Ok(generation) if entry.compressed => match self.compressed(generation, entry, &mut chain, now) {
                        Found::Open(at) => places.push((number, at)),
                        Found::Unread(generation) => {
                            self.inodes.insert(inode, index);
                            new.push((number, *generation));
                        }
                        Found::Nothing => {}
                    },
                    Ok(generation) => {
                        self.inodes.insert(inode, index);
                        new.push((number, generation));
                    }
                    Err(refusal) => {
                        self.discover.look_again(&stream.unit);
                        if matches!(refusal, Refusal::Gone) {
                            self.incomplete.insert(stream.unit.clone());
                        }
                    }
                }
            }
        }
        for generation in chain.iter_mut().filter(|generation| generation.unlisted) {
            generation.compressed = None;
        }
        stream.chain = merge(chain, new, &places);
        // Most chains have one link, and there are thousands of chains.
        stream.chain.shrink_to_fit();
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

    /// Whether a file that is not open was not written for too long.
    fn is_ignored(&self, entry: &Entry) -> bool {
        let age = self.env.clock.unix_nanos().saturating_sub(entry.modified);
        self.settings.ignore_older.is_some_and(|oldest| i128::from(age) > oldest.as_nanos() as i128)
    }

    /// Opens what a listing found. Where the path leads nowhere by now, or to another file, it is gone: the next listing will
    /// say where to.
    fn open(&mut self, unit: &Arc<Path>, entry: &Entry, now: Nanos) -> Result<Generation, Refusal> {
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
        let mut generation = Generation::new(content, facts, LogPath::new(unit, &entry.path), entry.place.clone(), claim, now);
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
    fn compressed(&mut self, mut generation: Generation, entry: &Entry, chain: &mut [Generation], now: Nanos) -> Found {
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
        if let Some(memory) = generation.memory() {
            self.remember((entry.dev, entry.ino), memory);
        }
        Found::Nothing
    }

    fn remember(&mut self, inode: (u64, u64), memory: Memory) {
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

    fn schedule(&mut self, stream: &mut Stream, index: usize, at: Nanos) {
        let due = Nanos(at.0.next_multiple_of(TICK_NANOS));
        stream.due = due;
        self.timers.push(Reverse((due, index)));
    }

    /// Looks at the streams whose time has come.
    fn poll_due(&mut self, now: Nanos) {
        while let Some(Reverse((due, index))) = self.timers.peek().copied() {
            if due > now {
                return;
            }
            self.timers.pop();
            let Some(mut stream) = self.streams[index].take_if(|stream| !stream.active && stream.due == due) else { continue };
            if stream.poll(&self.env, now) {
                stream.active = true;
                self.active.push_back(index);
            } else {
                self.close_finished(&mut stream, now);
                if stream.gone && stream.chain.is_empty() && stream.joiner.is_empty() {
                    self.recount(&mut stream);
                    self.units.remove(&stream.unit);
                    self.free.push(index);
                    continue;
                }
                let next = stream.next_look(&self.env, now);
                self.schedule(&mut stream, index, next);
            }
            self.recount(&mut stream);
            self.streams[index] = Some(stream);
        }
    }

    fn close_finished(&mut self, stream: &mut Stream, now: Nanos) {
        for generation in stream.take_finished(now) {
            let inode = (generation.facts.dev, generation.facts.ino);
            self.inodes.remove(&inode);
            let named = match &generation.compressed {
                Some(entry) => Some((entry.dev, entry.ino)),
                None => Some(inode).filter(|_| !generation.facts.deleted),
            };
            match (named, generation.key(), generation.memory()) {
                (Some(inode), _, Some(memory)) => self.remember(inode, memory),
                (None, Some(key), _) => self.env.held.forget(&key),
                _ => {}
            }
        }
    }

    /// Lets the stream at the head of the queue take its turn. `None` where that came to nothing to hand over.
    fn take_turn(&mut self, index: usize, chunk: &mut Chunk, now: Nanos) -> Option<Read> {
        let mut stream = self.streams[index].take()?;
        // Deficit round robin: who had a line of a megabyte passes the next turns.
        stream.deficit = (stream.deficit + BLOCK_BYTES as i64).min(BLOCK_BYTES as i64);
        let verdict = stream.verdict(&self.env, now);
        let rate = stream.rate(self.settings.rate).filter(|_| !self.env.once && !self.env.stopping);
        let waits = rate.and_then(|rate| stream.allowance.wait(rate, now));
        let turn = if verdict == Verdict::Leave {
            self.leave(&mut stream);
            Turn::Idle(now.after(MAX_POLL))
        } else if let Verdict::Wait(until) = verdict {
            if self.env.once {
                self.active.push_back(index);
                self.streams[index] = Some(stream);
                return Some(Read::Idle { until });
            }
            Turn::Idle(until)
        } else if let Some(until) = waits {
            // It is looked at meanwhile: it may be rotated, or deleted.
            Turn::Idle(until.min(now.after(MAX_POLL)))
        } else if stream.deficit <= 0 {
            Turn::Moved
        } else if self.env.stopping && !stream.has_urgent(&self.env) {
            Turn::Finished
        } else {
            stream.turn(&self.env, chunk, now)
        };
        self.recount(&mut stream);
        match turn {
            Turn::Chunk | Turn::Moved => self.active.push_back(index),
            Turn::Idle(next) => {
                (stream.active, stream.deficit) = (false, 0);
                stream.rest();
                self.schedule(&mut stream, index, next);
            }
            Turn::Finished => stream.active = false,
        }
        let read = (turn == Turn::Chunk).then(|| {
            stream.deficit -= i64::try_from(chunk.bytes_read).unwrap_or(i64::MAX);
            stream.allowance.spend(chunk.bytes_read);
            Read::Chunk
        });
        self.streams[index] = Some(stream);
        read
    }
}

impl Source for Tailer {
    fn read(&mut self, chunk: &mut Chunk, now: Nanos) -> Read {
        (chunk.bytes_read, chunk.needs) = (0, self.env.sinks);
        chunk.covers.clear();
        self.discover(now);
        if !self.env.stopping {
            self.poll_due(now);
        }
        for _ in 0..MAX_TURNS {
            self.keep_limits();
            let Some(index) = self.active.pop_front() else {
                chunk.batch.reset(Shared::empty(), FileKey([0; 16]));
                if self.more && !self.env.stopping {
                    return Read::Idle { until: now };
                }
                if self.env.once || self.env.stopping {
                    return Read::End;
                }
                let look = self.timers.peek().map_or(self.next_scan, |Reverse((due, _))| (*due).min(self.next_scan));
                return Read::Idle { until: look.min(self.next_watch) };
            };
            if let Some(read) = self.take_turn(index, chunk, now) {
                return read;
            }
        }
        chunk.batch.reset(Shared::empty(), FileKey([0; 16]));
        Read::Idle { until: now }
    }

    fn fork(&self, sinks: SinkSet) -> Option<Box<dyn Source>> {
        let mut fork = Tailer::new(self.env.fork(sinks), self.discover.fork(), self.settings);
        self.streams.iter().flatten().for_each(|stream| fork.adopt(stream));
        fork.scanned = true;
        Some(Box::new(fork))
    }

    fn restrict(&mut self, sinks: SinkSet) {
        self.env.sinks = sinks;
        for stream in self.streams.iter_mut().flatten() {
            stream.joiner.restrict(sinks);
        }
    }

    /// What is unread is left for the next start, but for files that nobody could open then.
    fn stop(&mut self) {
        let now = self.env.clock.now();
        let mut vanished = HashSet::new();
        for stream in self.streams.iter_mut().flatten() {
            let refresh = |generation: &mut Generation| {
                generation.refresh(now);
                generation.facts.deleted && generation.compressed.is_none()
            };
            if stream.chain.iter_mut().map(refresh).fold(false, |any, one| any | one) {
                vanished.insert(stream.unit.clone());
            }
        }
        // It may have been compressed since the last look.
        if !vanished.is_empty() && !self.env.stopping {
            let mut listing = Listing::default();
            self.discover.scan(Some(&vanished), &mut listing);
            self.apply(listing, now);
        }
        self.env.stopping = true;
        self.active.clear();
        for (index, slot) in self.streams.iter_mut().enumerate() {
            let Some(stream) = slot else { continue };
            stream.active = true;
            self.active.push_back(index);
        }
    }
}

/// Nanoseconds since 1970 of a time that the system gave in two parts.
fn nanos(seconds: i64, nanoseconds: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
}

#[cfg(test)]
mod tests;
