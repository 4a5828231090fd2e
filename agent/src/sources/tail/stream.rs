//! A stream: the generations of one log, read as one text, oldest first.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use skidder_pipeline::edge::Nanos;
use skidder_pipeline::source::Chunk;

use crate::metadata::Hold;

use super::super::assemble::{assemble_ready, constants};
use super::super::join::Joiner;
use super::chain::Chain;
use super::generation::{Generation, Step, recycle};
use super::limits::{Allowance, Share};
use super::{Env, MAX_POLL, MIN_POLL, WATCHED_POLL};

/// How long a last line without its newline may still be completed once a newer generation has bytes.
const OPEN_LINE_GRACE: Duration = Duration::from_secs(1);
/// How long a generation that was read to its end is kept open for what a slow writer may still add: logrotate's way is to
/// rename, then to tell the writer.
const LINGER: Duration = Duration::from_secs(60);

/// A log that grows twice within this is asked rather than watched.
const BUSY_WITHIN: Duration = Duration::from_millis(500);

/// What a turn came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Turn {
    /// The chunk is filled.
    Chunk,
    /// Nothing given out, but there may be more.
    Moved,
    /// Nothing to do before the given time.
    Idle(Nanos),
    /// All that was there is read (`once`, or stopping).
    Finished,
}

/// The chain of one log's generations.
pub(super) struct Stream {
    pub unit: Arc<Path>,
    pub chain: Chain,
    pub joiner: Joiner,
    /// When to look for growth.
    pub due: Nanos,
    /// Whether it stands in the queue of those that have something to read.
    pub active: bool,
    /// Bytes that it may still read in its turn.
    pub deficit: i64,
    /// How much may be read of it now, where that is limited.
    pub allowance: Option<Box<Allowance>>,
    /// What it last added to the sums of its source.
    pub share: Option<Box<Share>>,
    /// What is known of the pod that writes it.
    pub hold: Option<Box<Hold>>,
    /// Whether no listing knows it any more.
    pub gone: bool,
    /// Whether the watch of its directory would tell of writes to it.
    pub tells_writes: bool,
    /// Whether it does: then it is hardly asked.
    pub watched: bool,
    /// Whether it was lately seen to grow: what reading needs is kept.
    warm: bool,
    interval: Duration,
    /// When it was last seen to grow, and whether that was soon after the time before.
    grown: Nanos,
    busy: bool,
}

impl Stream {
    pub(super) fn new(unit: Arc<Path>, hold: Option<Box<Hold>>) -> Stream {
        Stream {
            unit,
            chain: Chain::new(),
            joiner: Joiner::default(),
            due: Nanos(0),
            active: false,
            deficit: 0,
            allowance: None,
            share: None,
            hold,
            gone: false,
            tells_writes: false,
            watched: false,
            warm: false,
            interval: MIN_POLL,
            grown: Nanos(0),
            busy: false,
        }
    }

    /// Takes a turn: fills the chunk with what is next, if there is anything.
    pub(super) fn turn(&mut self, env: &Env, chunk: &mut Chunk, now: Nanos) -> Turn {
        if self.deliver_ready(env, chunk) {
            return Turn::Chunk;
        }
        for index in 0..self.chain.len() {
            self.tell_apart(index);
            let take_open = env.once || self.ends_open(index, now) || env.stopping && self.chain[index].facts.deleted;
            let generation = &mut self.chain[index];
            let step = generation.step(env, &mut self.joiner, chunk, now, take_open);
            // Before the others had their turn: at a start there are thousands.
            if !self.warm && generation.unread() == 0 {
                generation.rest();
            }
            match step {
                Step::Chunk => return Turn::Chunk,
                Step::Moved => return Turn::Moved,
                Step::Truncated => {
                    self.truncated(env, index, now);
                    return Turn::Moved;
                }
                Step::Waiting => {}
            }
            if !self.joiner.ready.is_empty() {
                return Turn::Moved;
            }
            if index + 1 < self.chain.len() && !env.once {
                let waits = self.chain[index].unread() > 0 && !self.chain[index].is_failing();
                if waits || !self.has_newer(index) {
                    return Turn::Idle(self.next_look(env, now));
                }
            }
            if self.crosses_restart(env, index) {
                return Turn::Moved;
            }
        }
        if env.once {
            self.joiner.give_up(env.has_last_line(), |_| true);
            return if self.joiner.ready.is_empty() { Turn::Finished } else { Turn::Moved };
        }
        if let Some(timeout) = env.line_timeout() {
            self.joiner.expire(now, timeout);
        }
        if self.joiner.ready.is_empty() { Turn::Idle(self.next_look(env, now)) } else { Turn::Moved }
    }

    /// Sees to it that a generation that is not known yet does not get the key of another one that is there: two may begin with
    /// the same line. One that no listing has any more may be the same, on a file system that was mounted anew.
    pub(super) fn tell_apart(&mut self, index: usize) {
        if self.chain.len() == 1 || self.chain[index].key().is_some() {
            return;
        }
        let others = self.chain.iter().filter(|other| !other.unlisted).filter_map(Generation::key).collect();
        self.chain[index].is_none_of(others);
    }

    /// Looks for growth. Says whether there is something to do.
    pub(super) fn poll(&mut self, env: &Env, now: Nanos) -> bool {
        let mut changed = false;
        for generation in self.chain.iter_mut() {
            changed |= generation.refresh(now);
        }
        if changed {
            self.busy = now.since(std::mem::replace(&mut self.grown, now)) < BUSY_WITHIN;
        }
        if !self.watched {
            self.interval = if changed { MIN_POLL } else { (self.interval * 2).min(MAX_POLL) };
        }
        self.warm = changed || self.warm && self.interval < MAX_POLL;
        self.rest();
        // Nobody will end what a container that is gone left open.
        let is_over = |generation: &Generation| generation.unread() == 0 && now.since(generation.grown) >= LINGER;
        if self.gone && self.chain.iter().all(is_over) {
            self.joiner.give_up(env.has_last_line(), |_| true);
        }
        let expired = !self.joiner.ready.is_empty()
            || env.line_timeout().and_then(|timeout| self.joiner.next_expiry(timeout)).is_some_and(|at| at <= now);
        let closes = (0..self.chain.len()).any(|index| self.chain[index].unread() > 0 && self.is_final(index, now));
        expired || closes || self.chain.iter().any(Generation::is_worth_reading)
    }

    /// Takes note how long it had not been written when it was opened, so that one that rests is not asked as a busy one is: at a
    /// start there are thousands.
    pub(super) fn has_rested(&mut self, nanos: i64) {
        let rested = Duration::from_nanos(u64::try_from(nanos).unwrap_or(0));
        self.interval = rested.clamp(MIN_POLL, MAX_POLL);
    }

    /// Whether inotify would have more to tell of it than is worth it.
    pub(super) fn is_busy(&self, now: Nanos) -> bool {
        self.busy && now.since(self.grown) < BUSY_WITHIN
    }

    /// Whether it has not grown for as long as the times between two looks can be.
    pub(super) fn rests_long(&self) -> bool {
        self.interval >= MAX_POLL
    }

    /// Whether nothing about it is due before it is written again.
    pub(super) fn is_still(&self) -> bool {
        let still = |generation: &Generation| generation.unread() == 0 && !generation.facts.deleted && !generation.unlisted;
        self.tells_writes && !self.gone && self.joiner.is_empty() && self.chain.len() == 1 && self.chain.iter().all(still)
    }

    /// Is hardly asked.
    pub(super) fn be_watched(&mut self) {
        (self.watched, self.interval, self.busy) = (true, WATCHED_POLL, false);
    }

    /// Is asked at short intervals again.
    pub(super) fn be_asked(&mut self) {
        (self.watched, self.interval) = (false, MIN_POLL);
    }

    /// Lets go of what is only needed while there is something to read, where that seems to be over.
    pub(super) fn rest(&mut self) {
        if !self.warm {
            self.chain.iter_mut().for_each(Generation::rest);
            self.joiner.rest();
            self.share.take_if(|share| **share == Share::default());
        }
    }

    /// Whether there is something that no later start could read: what a file without a name still holds, and, where it ends
    /// within a record, what comes next.
    pub(super) fn has_urgent(&mut self, env: &Env) -> bool {
        let vanishes = |generation: &&Generation| generation.facts.deleted && generation.compressed.is_none();
        let is_unread = |generation: &Generation| generation.unread() > 0 && !generation.is_failing();
        if self.chain.iter().filter(vanishes).any(is_unread) {
            return true;
        }
        let keys: Vec<_> = self.chain.iter().filter(vanishes).filter_map(Generation::key).collect();
        let is_open = keys.iter().any(|key| self.joiner.waits_for(key));
        if is_open && self.chain.iter().any(|generation| is_unread(generation) && generation.is_worth_reading()) {
            return true;
        }
        self.joiner.give_up(env.has_last_line(), |file| keys.contains(file));
        !self.joiner.ready.is_empty()
    }

    pub(super) fn share(&self) -> Share {
        self.share.as_deref().copied().unwrap_or_default()
    }

    /// The number of bytes known to be there and not read.
    pub(super) fn count_unread(&self) -> u64 {
        self.chain.iter().map(Generation::unread).sum()
    }

    /// Takes the generations out that were read to their end and to which nothing more is expected to be added.
    pub(super) fn take_finished(&mut self, now: Nanos) -> Vec<Generation> {
        let mut finished = Vec::new();
        let mut index = 0;
        while index < self.chain.len() {
            let last = index + 1 == self.chain.len();
            let generation = &self.chain[index];
            // A vanished log of no size was never identified; all else must be read.
            let grows = !generation.is_compressed() && now.since(generation.grown) < LINGER;
            let done = generation.unread() == 0
                && !grows
                && (generation.unlisted || !generation.key().is_some_and(|key| self.joiner.waits_for(&key)));
            let over = generation.unlisted || generation.is_compressed() || (!last && self.has_newer(index));
            if done && over {
                finished.push(self.chain.remove(index));
            } else {
                index += 1;
            }
        }
        finished
    }

    fn deliver_ready(&mut self, env: &Env, chunk: &mut Chunk) -> bool {
        let Some((file, shared)) = self.joiner.ready.front().map(|first| (first.file, first.shared.clone())) else { return false };
        recycle(&mut chunk.batch, shared, file);
        constants::prepare(chunk.batch.bytes_mut(), 0, env.clock.unix_nanos());
        let Some((_, needs)) = assemble_ready(&env.rules, &mut self.joiner, &mut chunk.batch, &mut chunk.covers, &env.stats) else {
            return false;
        };
        env.stats.records.add(chunk.batch.len() as u64);
        (chunk.needs, chunk.bytes_read) = (needs, 0);
        true
    }

    /// Whether a generation after `index` has bytes, so that its writer has moved on.
    fn has_newer(&self, index: usize) -> bool {
        self.chain.iter().skip(index + 1).any(|newer| newer.facts.size > 0)
    }

    /// Whether the last line of `index` is to be taken as it is, having asked once more whether it grew.
    fn ends_open(&mut self, index: usize, now: Nanos) -> bool {
        self.is_final(index, now) && (self.chain[index].unread() == 0 || !self.chain[index].refresh(now))
    }

    /// Whether nothing will be added to the last line of `index`.
    fn is_final(&self, index: usize, now: Nanos) -> bool {
        let generation = &self.chain[index];
        let quiet = now.since(generation.grown);
        (self.has_newer(index) && quiet >= OPEN_LINE_GRACE) || ((generation.facts.deleted || generation.unlisted) && quiet >= LINGER)
    }

    /// Gives up what a container's run left unfinished when its next run begins. Says whether there was anything.
    fn crosses_restart(&mut self, env: &Env, index: usize) -> bool {
        let Some(next) = self.chain.get(index + 1) else { return false };
        if next.place.restart == self.chain[index].place.restart || self.joiner.is_idle() {
            return false;
        }
        let restart = next.place.restart;
        let ended: Vec<_> = self.chain.iter().filter(|g| g.place.restart < restart).filter_map(Generation::key).collect();
        self.joiner.give_up(env.has_last_line(), |file| ended.contains(file));
        !self.joiner.ready.is_empty()
    }

    fn truncated(&mut self, env: &Env, index: usize, now: Nanos) {
        let generation = &mut self.chain[index];
        let old = generation.key();
        let lost = generation.restart(now);
        env.count_lost(&env.stats, &self.unit, lost);
        tracing::info!(source = %env.name, path = %generation.path.to_path().display(), lost_bytes = lost, "a log was cut or written anew; it is read from its start");
        self.joiner.give_up(env.has_last_line(), |file| Some(*file) == old);
    }

    /// When to look for growth again.
    pub(super) fn next_look(&self, env: &Env, now: Nanos) -> Nanos {
        let poll = now.after(self.interval);
        let expiry = env.line_timeout().and_then(|timeout| self.joiner.next_expiry(timeout));
        expiry.map_or(poll, |expiry| poll.min(expiry))
    }
}
