//! One generation of a log: an open file, who it is, and how far it has been read.

mod begin;
mod content;

use std::io;
use std::sync::Arc;

use memchr::{memchr, memrchr};
use skidder_pipeline::batch::Batch;
use skidder_pipeline::edge::Nanos;
use skidder_pipeline::position::{FileKey, MARKER_BYTES, Range, marker};
use skidder_pipeline::shared::Shared;
use skidder_pipeline::source::{Chunk, SinkSet};

use super::super::assemble::{Beyond, Block, assemble, constants};
use super::super::claims::Claim;
use super::super::framing::{Format, Framing};
use super::super::identity::{Facts, Text, marker_before};
use super::super::join::Joiner;
use super::Env;
use super::discover::{Entry, LogPath, Place};
use super::held::HeldBy;
use begin::Known;
pub(super) use begin::Memory;
pub(super) use content::{Compressed, Content};

/// How much is looked through for the end of a long line in one turn: some milliseconds.
const MAX_SCAN_BYTES: u64 = 4 * 1024 * 1024;
/// By how much a compressed text is taken to be longer than was stated where it is; what it lacks of that is found by reading.
const STEP_BEYOND_BYTES: u64 = 256 * 1024;
/// What a line may have beside its message and still get the whole of `max_record_bytes` for that.
const MAX_HEADER_BYTES: usize = 4 * 1024;

/// What a turn at a generation came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// The chunk is filled.
    Chunk,
    /// Something was read and nothing given out; there may be more.
    Moved,
    /// There is nothing to read now.
    Waiting,
    /// What was read is not there any more: the file was cut or written anew.
    Truncated,
}

/// One generation.
pub(super) struct Generation {
    content: Content,
    /// That it is this source's.
    claim: Claim,
    /// Where it was met, for messages.
    pub path: LogPath,
    pub place: Place,
    pub facts: Facts,
    /// The compressed form of it that is listed: the file itself, or one that kubelet made of it.
    pub compressed: Option<Box<Entry>>,
    /// What its records have in common, while they are read.
    shared: Option<Arc<Shared>>,
    /// How its lines are framed, where that is not the source's to say.
    pub format: Option<Format>,
    known: Option<Known>,
    pub cursor: u64,
    /// Up to where the file has been looked at without finding the end of the line at the cursor.
    tried: u64,
    /// The marker of the bytes before the cursor, where it is known.
    marker: Option<u64>,
    /// Whether reading begins at the end.
    pub from_end: bool,
    /// When it was last seen to grow.
    pub grown: Nanos,
    /// Whether it no longer stands in a listing.
    pub unlisted: bool,
    failing: bool,
    rare: Option<Box<Rare>>,
}

/// What few generations have, or for a short time: there are thousands of them.
#[derive(Default)]
struct Rare {
    /// What the sinks held when it was met, as long as reading has not passed all of it.
    held: HeldBy,
    /// Keys of contents that this file had before, or that begin as its own does: they are not given again.
    former: Vec<FileKey>,
    /// What is known to be dealt with from the start, to be told to sinks.
    announcements: Vec<(SinkSet, Vec<Range>)>,
    /// Up to where the long line at the cursor is known to have no end.
    scanned: u64,
    /// How many bytes were seen that were cut away before they were read.
    lost: u64,
}

impl Generation {
    pub(super) fn new(content: Content, facts: Facts, path: LogPath, place: Place, claim: Claim, now: Nanos) -> Generation {
        Generation {
            content,
            claim,
            path,
            place,
            facts,
            compressed: None,
            shared: None,
            format: None,
            known: None,
            cursor: 0,
            tried: 0,
            marker: None,
            from_end: false,
            grown: now,
            unlisted: false,
            failing: false,
            rare: None,
        }
    }

    /// What its records have in common.
    fn shared(&mut self, env: &Env) -> Arc<Shared> {
        self.shared.get_or_insert_with(|| env.describe.describe(&self.path.to_path(), &self.place).shared).clone()
    }

    /// Lets go of what is only needed while it is read.
    pub(super) fn rest(&mut self) {
        self.shared = None;
        let cursor = self.cursor;
        self.rare.take_if(|rare| {
            rare.lost == 0 && rare.scanned <= cursor && rare.announcements.is_empty() && rare.former.is_empty() && rare.held.end() <= cursor
        });
    }

    fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    fn has_announcements(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| !rare.announcements.is_empty())
    }

    /// Keys that it cannot have.
    pub(super) fn is_none_of(&mut self, mut keys: Vec<FileKey>) {
        keys.retain(|key| !self.former().contains(key));
        if !keys.is_empty() {
            self.rare().former.extend(keys);
        }
    }

    /// The keys of contents that its file held before, or that begin as it does.
    pub(super) fn former(&self) -> &[FileKey] {
        self.rare.as_ref().map_or(&[], |rare| &rare.former)
    }

    /// Whether there is nothing in it yet to know it by.
    pub(super) fn is_without_line(&self) -> bool {
        self.facts.size == 0 || !self.failing && self.tried >= self.facts.size
    }

    /// Its key, once that is known.
    pub(super) fn key(&self) -> Option<FileKey> {
        self.known.as_ref().map(|known| known.key)
    }

    /// Whether `entry` of a listing is this file, or the compressed form that was made of it. That is not held open, so a later
    /// one may have got its inode: it must be the same in everything.
    pub(super) fn is_listed_as(&self, entry: &Entry) -> bool {
        (self.facts.dev, self.facts.ino) == (entry.dev, entry.ino) || self.compressed.as_deref() == Some(entry)
    }

    /// Takes over where a listing says that it stands.
    pub(super) fn listed_as(&mut self, entry: &Entry) {
        self.unlisted = false;
        self.place = entry.place.clone();
        self.compressed = entry.compressed.then(|| Box::new(entry.clone()));
        self.retry();
    }

    /// Whether its text is read out of a compressed file, to which nothing is ever added.
    pub(super) fn is_compressed(&self) -> bool {
        matches!(self.content, Content::Compressed(_))
    }

    /// Whether every sink has all of it and was told so.
    pub(super) fn is_dealt_with(&self) -> bool {
        self.known.is_some() && self.unread() == 0 && !self.has_announcements()
    }

    /// How many bytes are known to be there and not read.
    pub(super) fn unread(&self) -> u64 {
        self.facts.size.saturating_sub(self.cursor)
    }

    /// Whether reading could have a result: it grew since the last try, or shrank.
    pub(super) fn is_worth_reading(&self) -> bool {
        self.facts.size > self.tried.max(self.cursor) || self.facts.size < self.cursor || self.has_announcements()
    }

    /// Lets a read that failed be tried again.
    pub(super) fn retry(&mut self) {
        if self.failing {
            self.tried = 0;
        }
    }

    /// Whether reads of it fail.
    pub(super) fn is_failing(&self) -> bool {
        self.failing
    }

    /// Looks at its size. Says whether it changed.
    pub(super) fn refresh(&mut self, now: Nanos) -> bool {
        let Ok(stat) = rustix::fs::fstat(self.content.file()) else { return false };
        self.facts.deleted = stat.st_nlink == 0;
        let size = match &self.content {
            Content::Plain(_) => u64::try_from(stat.st_size).unwrap_or(0),
            // What it states is not all, where it has several members.
            Content::Compressed(compressed) if self.cursor == self.facts.size && compressed.goes_on_at(self.cursor) => {
                self.facts.size + STEP_BEYOND_BYTES
            }
            Content::Compressed(_) => self.facts.size,
        };
        self.facts.modified = super::nanos(stat.st_mtime, i64::try_from(stat.st_mtime_nsec).unwrap_or(0));
        let changed = size != self.facts.size;
        if changed {
            if size < self.facts.size {
                let lost = self.facts.size.saturating_sub(self.cursor.max(size));
                if lost > 0 {
                    self.rare().lost += lost;
                }
                self.tried = 0;
            }
            self.facts.size = size;
            self.grown = now;
        }
        changed
    }

    /// Reads on: one chunk, or what is needed to get on with one. `take_open` says that a last line without its newline is a
    /// line, since nothing will be added to it.
    pub(super) fn step(&mut self, env: &Env, joiner: &mut Joiner, chunk: &mut Chunk, now: Nanos, take_open: bool) -> Step {
        match self.try_step(env, joiner, chunk, now, take_open) {
            Ok(step) => {
                self.failing = false;
                step
            }
            Err(error) => {
                if !self.failing {
                    env.stats.failed_files.add(1);
                    tracing::warn!(source = %env.name, path = %self.path.to_path().display(), %error, "cannot read a log; it is tried again");
                }
                self.failing = true;
                self.tried = self.facts.size;
                Step::Waiting
            }
        }
    }

    fn try_step(&mut self, env: &Env, joiner: &mut Joiner, chunk: &mut Chunk, now: Nanos, take_open: bool) -> io::Result<Step> {
        // One that was empty when it was opened may have been filled and rotated away since: asked once more, or its reading
        // would be passed over for a newer one.
        if self.known.is_none() && self.facts.size == 0 {
            self.refresh(now);
        }
        if self.known.is_none() && !self.identify(env, take_open)? {
            self.tried = self.facts.size;
            return Ok(Step::Waiting);
        }
        let Some(known) = &self.known else { return Ok(Step::Waiting) };
        let key = known.key;
        if let Some((needs, covers)) = self.rare.as_mut().and_then(|rare| rare.announcements.pop()) {
            chunk.batch.reset(self.shared(env), key);
            (chunk.covers, chunk.needs, chunk.bytes_read) = (covers, needs, 0);
            return Ok(Step::Chunk);
        }
        if self.facts.size < self.cursor {
            return Ok(Step::Truncated);
        }
        let (needs, edge) = self.rare.as_ref().map_or((env.sinks, None), |rare| rare.held.at(self.cursor, env.sinks));
        if let Some(edge) = edge.filter(|_| needs.is_empty() && joiner.is_empty()) {
            (self.cursor, self.marker) = (edge, None);
            return Ok(Step::Moved);
        }
        if self.cursor == self.facts.size {
            // Asked once more, now that all is read: what a caller concludes from there being nothing must be true now.
            if (!env.once || self.is_compressed()) && self.refresh(now) {
                return Ok(Step::Moved);
            }
            self.release();
            return Ok(Step::Waiting);
        }
        let framing = known.framing;
        let most = edge.map_or(u64::MAX, |edge| edge - self.cursor).min(self.facts.size - self.cursor);
        let want = usize::try_from(most).unwrap_or(usize::MAX).min(env.block_bytes);
        recycle(&mut chunk.batch, self.shared(env), key);
        let Some((start, got)) = self.fill(env, &mut chunk.batch, want)? else { return Ok(Step::Truncated) };
        if got < want {
            self.end_at(env, self.cursor + got as u64);
        }
        if got == 0 {
            return Ok(Step::Waiting);
        }
        let text = &chunk.batch.bytes()[start..start + got];
        let at_edge = edge == Some(self.cursor + got as u64);
        let at_end = self.cursor + got as u64 == self.facts.size;
        let complete = if at_edge { Some(got) } else { memrchr(b'\n', text).map(|newline| newline + 1) };
        let end = match complete {
            Some(end) => end,
            None if at_end && take_open => got,
            None if at_end => {
                self.tried = self.facts.size;
                return Ok(Step::Waiting);
            }
            // Blocks that a power failure kept from the disk.
            None if text.iter().all(|b| *b == 0) => got,
            None => return self.long_line(env, joiner, chunk, now, take_open, (needs, edge, framing)),
        };
        let block = Block { file: key, needs, start, end: start + end, offset: self.cursor, beyond: Beyond::default(), now };
        let taken = assemble(&env.rules, framing, joiner, &mut chunk.batch, &mut chunk.covers, &env.stats, block);
        let last = marker(&chunk.batch.bytes()[constants::HEAD..start + taken]);
        Ok(self.finish(env, joiner, chunk, needs, (taken as u64, last, start + taken)))
    }

    /// A line that is longer than a block: finds its end first, then reads as much of it as a record may have.
    fn long_line(
        &mut self,
        env: &Env,
        joiner: &mut Joiner,
        chunk: &mut Chunk,
        now: Nanos,
        take_open: bool,
        (needs, edge, framing): (SinkSet, Option<u64>, Framing),
    ) -> io::Result<Step> {
        let limit = edge.unwrap_or(u64::MAX).min(self.facts.size);
        let Some(line_end) = self.find_end(chunk.batch.bytes_mut(), env.block_bytes, limit)? else {
            if self.rare().scanned < limit {
                return Ok(Step::Moved);
            }
            if edge != Some(limit) && !take_open {
                self.tried = self.facts.size;
                return Ok(Step::Waiting);
            }
            return self.take_long_line(env, joiner, chunk, now, limit, (needs, framing));
        };
        self.take_long_line(env, joiner, chunk, now, line_end, (needs, framing))
    }

    /// Looks for the end of the line at the cursor, as far as a turn may: the offset behind its newline.
    fn find_end(&mut self, scratch: &mut Vec<u8>, block_bytes: usize, limit: u64) -> io::Result<Option<u64>> {
        let mut scanned = self.rare().scanned.max(self.cursor);
        let stop = limit.min(scanned + MAX_SCAN_BYTES);
        while scanned < stop {
            let len = block_bytes.min(usize::try_from(stop - scanned).unwrap_or(usize::MAX));
            scratch.resize(len, 0);
            let read = self.content.read_text(scratch, scanned)?;
            if let Some(newline) = memchr(b'\n', &scratch[..read]) {
                return Ok(Some(scanned + newline as u64 + 1));
            }
            scanned += read as u64;
            if read < len {
                break;
            }
        }
        self.rare().scanned = scanned;
        Ok(None)
    }

    fn take_long_line(
        &mut self,
        env: &Env,
        joiner: &mut Joiner,
        chunk: &mut Chunk,
        now: Nanos,
        line_end: u64,
        (needs, framing): (SinkSet, Framing),
    ) -> io::Result<Step> {
        let len = usize::try_from(line_end - self.cursor).unwrap_or(usize::MAX);
        let keep = len.min(env.rules.keep_bytes().saturating_add(MAX_HEADER_BYTES).max(env.block_bytes));
        let key = *chunk.batch.file();
        let Some((start, got)) = self.fill(env, &mut chunk.batch, keep)? else { return Ok(Step::Truncated) };
        if got < keep {
            return Ok(Step::Moved);
        }
        let mut last = [0; 2];
        let ends = self.content.read_text(&mut last, line_end.saturating_sub(2))?;
        let beyond = Beyond::of((len - keep) as u64, &last[..ends]);
        let block = Block { file: key, needs, start, end: start + keep, offset: self.cursor, beyond, now };
        let Some(last) = marker_before(&self.content, line_end)? else { return Ok(Step::Truncated) };
        let taken = assemble(&env.rules, framing, joiner, &mut chunk.batch, &mut chunk.covers, &env.stats, block);
        let taken = if taken == keep { len } else { 0 };
        Ok(self.finish(env, joiner, chunk, needs, (taken as u64, last, start)))
    }

    /// Reads `want` bytes from the cursor on into the batch, behind its head and the bytes that markers need: where they
    /// start there, and how many they are. `None` where the file is not what it was.
    fn fill(&self, env: &Env, batch: &mut Batch, want: usize) -> io::Result<Option<(usize, usize)>> {
        let lead = MARKER_BYTES.min(usize::try_from(self.cursor).unwrap_or(MARKER_BYTES));
        let bytes = batch.bytes_mut();
        constants::prepare(bytes, lead + want, env.clock.unix_nanos());
        let read = self.content.read_text(&mut bytes[constants::HEAD..], self.cursor - lead as u64)?;
        bytes.truncate(constants::HEAD + read);
        let start = constants::HEAD + lead;
        if read < lead || self.marker.is_some_and(|known| marker(&bytes[constants::HEAD..start]) != known) {
            return Ok(None);
        }
        Ok(Some((start, read - lead)))
    }

    /// Takes note that the text ends at `end`, before its known size.
    fn end_at(&mut self, env: &Env, end: u64) {
        if let Content::Compressed(compressed) = &self.content
            && let Some(error) = compressed.take_fault()
        {
            let lost_bytes = self.facts.size.saturating_sub(end);
            env.stats.failed_files.add(1);
            env.count_lost(&env.stats, self.path.unit(), lost_bytes);
            tracing::warn!(source = %env.name, path = %self.path.to_path().display(), %error, lost_bytes, "a compressed log is damaged; what lies before that was read");
        }
        self.facts.size = end;
    }

    /// Lets go of what reading a compressed file needs.
    pub(super) fn release(&self) {
        if let Content::Compressed(compressed) = &self.content {
            compressed.release();
        }
    }

    /// Ends a block of which `taken` bytes were taken. `text_end` is where the text ends in the batch.
    fn finish(
        &mut self,
        env: &Env,
        joiner: &mut Joiner,
        chunk: &mut Chunk,
        needs: SinkSet,
        (taken, last, text_end): (u64, u64, usize),
    ) -> Step {
        if taken == 0 {
            return Step::Moved;
        }
        let (start, end) = (self.cursor, self.cursor + taken);
        let text = &chunk.batch.bytes()[constants::HEAD..text_end];
        joiner.settle(*chunk.batch.file(), (start, end), text, last, &mut chunk.covers);
        (self.cursor, self.marker) = (end, Some(last));
        if needs.is_empty() {
            chunk.covers.clear();
            return Step::Moved;
        }
        env.stats.bytes.add(taken);
        env.stats.records.add(chunk.batch.len() as u64);
        (chunk.needs, chunk.bytes_read) = (needs, taken);
        if chunk.batch.is_empty() && chunk.covers.is_empty() { Step::Moved } else { Step::Chunk }
    }
}

/// Empties the batch for text of `file`, keeping the allocation and what stands in it: see [`constants::prepare`].
pub(super) fn recycle(batch: &mut Batch, shared: Arc<Shared>, file: FileKey) {
    let bytes = std::mem::take(batch.bytes_mut());
    batch.reset(shared, file);
    *batch.bytes_mut() = bytes;
}
