//! Tailing: following logs that grow, are rotated, cut, renamed and removed.
//!
//! The unit is a [`Stream`]: a chain of generations of one log, which are opened on sight, held until they are read to their
//! end, and read oldest first. Discovery (what there is, by a source's own rules) is handed in. Streams with something to
//! read take turns by bytes; the others are asked for growth at intervals that double from 50 ms to 2 s. One that rests longer
//! is asked at rescans alone, and meanwhile inotify tells of writes to it.

mod census;
mod chain;
mod discover;
mod env;
mod fork;
mod generation;
mod held;
mod limits;
pub(crate) mod open;
mod pod;
mod poll;
mod scan;
mod stream;
mod succession;
mod watch;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use skidder_pipeline::edge::Nanos;
use skidder_pipeline::position::FileKey;
use skidder_pipeline::shared::Shared;
use skidder_pipeline::source::{Chunk, Read, SinkSet, Source};

use crate::metadata::Verdict;

use super::leftovers::{Leftovers, Witness};
use census::Census;

pub(crate) use discover::{Age, Describe, Discover, Entry, Listing, Origin, Place};
pub(crate) use env::{Env, Settings};
use generation::{Generation, Memory};
use limits::Share;
use stream::{Stream, Turn};
pub(crate) use succession::LeftLog;
use watch::Seen;
pub(crate) use watch::{Watch, Watched};

/// How much is read at a time: large enough that a system call costs nothing, small enough to stay in the cache.
pub(crate) const BLOCK_BYTES: usize = 256 * 1024;
/// The shortest and longest time between two looks at a log that is read to its end.
const MIN_POLL: Duration = Duration::from_millis(50);
const MAX_POLL: Duration = Duration::from_secs(2);
/// The time between two looks at one of whose writes inotify tells: the ground truth there.
const WATCHED_POLL: Duration = Duration::from_secs(10);
/// How often inotify is asked. Pods that live for a second are seen in time.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);
/// How many turns without a result are taken before the worker is asked whether it has something else to do.
const MAX_TURNS: usize = 256;

/// A file as the system knows it: device and inode.
type Inode = (u64, u64);

/// A source that tails what its discovery finds.
pub(crate) struct Tailer {
    env: Env,
    discover: Box<dyn Discover>,
    settings: Settings,
    streams: Vec<Option<Box<Stream>>>,
    free: Vec<usize>,
    units: HashMap<Arc<Path>, usize>,
    /// Those that came from another tailer and that no scan has met here: the first whole one says which of them are gone.
    inherited: HashSet<Arc<Path>>,
    /// Open files.
    inodes: HashSet<Inode>,
    closed: HashMap<Inode, Memory>,
    /// Generations of containers that were closed and have a name: their inodes and keys, by unit.
    past: HashMap<Arc<Path>, Vec<(Inode, FileKey)>>,
    active: VecDeque<usize>,
    timers: BinaryHeap<Reverse<(Nanos, usize)>>,
    watch: Watch,
    seen: Seen,
    /// Units with a file that was gone when it was to be opened.
    incomplete: HashSet<Arc<Path>>,
    /// Whether the scan under way has not come to its end.
    more: bool,
    next_scan: Nanos,
    next_watch: Nanos,
    scanned: bool,
    sums: Share,
    /// Says which files are there, so that what is held of others can be forgotten.
    witness: Option<Witness>,
    /// What the scan under way found of that.
    census: Option<Census>,
    warned: HashSet<PathBuf>,
    /// The name of the log that was opened last: see [`LogPath::new`](discover::LogPath::new).
    last_name: Option<Arc<Path>>,
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
            inherited: HashSet::new(),
            inodes: HashSet::new(),
            closed: HashMap::new(),
            past: HashMap::new(),
            active: VecDeque::new(),
            timers: BinaryHeap::new(),
            watch: Watch::new(),
            seen: Seen::default(),
            incomplete: HashSet::new(),
            more: false,
            next_scan: Nanos(0),
            next_watch: Nanos(0),
            scanned: false,
            sums: Share::default(),
            witness: None,
            census: None,
            warned: HashSet::new(),
            last_name: None,
        }
    }

    /// The same, taking part in what is forgotten.
    pub(crate) fn with_part_in(mut self, leftovers: &Arc<Leftovers>) -> Tailer {
        if !self.env.once {
            self.witness = Some(leftovers.join(self.env.clock.now()));
        }
        self
    }

    /// Lets the stream at the head of the queue take its turn. `None` where that came to nothing to hand over.
    fn take_turn(&mut self, index: usize, chunk: &mut Chunk, now: Nanos) -> Option<Read> {
        let mut stream = self.streams[index].take()?;
        // Deficit round robin: who had a line of a megabyte passes the next turns.
        stream.deficit = (stream.deficit + BLOCK_BYTES as i64).min(BLOCK_BYTES as i64);
        let verdict = stream.verdict(&self.env, now);
        let rate = stream.rate(self.settings.rate).filter(|_| !self.env.once && !self.env.stopping);
        let waits = rate.and_then(|rate| stream.allowance.get_or_insert_default().wait(rate, now));
        let turn = if verdict == Verdict::Leave {
            self.leave_unread(&mut stream);
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
                let watched = stream.watched;
                self.keep_watched(&mut stream, now);
                // `next` may be when one that is watched would be asked.
                let next = if watched && !stream.watched { next.min(now.after(MIN_POLL)) } else { next };
                self.schedule(&mut stream, index, next);
            }
            Turn::Finished => stream.active = false,
        }
        let read = (turn == Turn::Chunk).then(|| {
            stream.deficit -= i64::try_from(chunk.bytes_read).unwrap_or(i64::MAX);
            if let Some(allowance) = &mut stream.allowance {
                allowance.spend(chunk.bytes_read);
            }
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
        Some(Box::new(self.fork_for(sinks)))
    }

    fn restrict(&mut self, sinks: SinkSet) {
        self.env.sinks = sinks;
        for stream in self.streams.iter_mut().flatten() {
            stream.joiner.restrict(sinks);
        }
    }

    fn leave(&mut self) {
        self.leave_logs();
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
            self.discover.scan(Some(&vanished), &mut self.watch, &mut listing);
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
pub(super) fn nanos(seconds: i64, nanoseconds: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
}

#[cfg(test)]
mod tests;
