//! Opening, settling, retiring segments, and what is due by time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::format::Salt;
use super::positions::{Held, Positions, RETRY_AFTER};
use super::recover::{Found, recover};
use super::room::Room;
use super::segment::{Segment, Tally};
use super::seqs::SeqSet;
use super::{BufferOptions, Cursor, Recovered, SinkBuffer};
use crate::edge::Nanos;
use crate::fail;
use crate::fs::Fs;
use crate::position::{FileKey, Range};
use crate::sink::Note;

/// A sixteenth of a buffer, so that giving up the oldest segment gives up little, within these bounds: a smaller segment
/// costs more calls than it is worth, a larger one holds on to much space for one frame that is not settled.
const MIN_SEGMENT_BYTES: u64 = 1 << 20;
const MAX_SEGMENT_BYTES: u64 = 16 << 20;

/// After this time nothing more is appended to a segment. The kernel writes back what is older than thirty seconds
/// (vm.dirty_expire_centisecs), and a segment that is unlinked by then is never written at all.
const MAX_SEGMENT_AGE: Duration = Duration::from_secs(10);

pub(super) fn open(fs: Arc<dyn Fs>, options: BufferOptions, epoch: [u8; 16], now: Nanos) -> (SinkBuffer, Recovered) {
    let name = options.dir.file_name().unwrap_or_default();
    let mut sink = [0; 8];
    sink.copy_from_slice(&Sha256::digest(name.as_encoded_bytes())[..8]);
    let sink = u64::from_le_bytes(sink);
    let (found, unopened) = match recover(&fs, &options.dir, sink, epoch, options.strict, now) {
        Ok(found) => (found, None),
        Err(error) => {
            let dir = options.dir.display();
            tracing::error!(%dir, %error, "the directory of a buffer cannot be used: mend it; the sink stands still until then");
            (nothing(&fs, &options, sink, epoch), Some(now.after(RETRY_AFTER)))
        }
    };
    let recovered = found.recovered;
    let mut waiting = Tally::default();
    found.segments.iter().for_each(|segment| waiting.add(segment.waiting));
    let mut buffer = SinkBuffer {
        fs,
        sink,
        epoch,
        salt: Salt::of(&epoch),
        segment_bytes: (options.max_bytes / 16).clamp(MIN_SEGMENT_BYTES, MAX_SEGMENT_BYTES),
        options,
        positions: found.positions,
        held: found.held,
        // What was recovered may have been written just before the process died.
        marks: if found.segments.is_empty() { VecDeque::new() } else { VecDeque::from([(now, found.next_seq)]) },
        segments: found.segments,
        hot: VecDeque::new(),
        hot_bytes: 0,
        cursor: Cursor::default(),
        out: BTreeMap::new(),
        returned: BTreeSet::new(),
        groups: found.groups,
        lost: found.lost,
        lost_records: recovered.damaged_records,
        dropped_records: 0,
        damaged_frames: recovered.damaged_frames,
        torn_bytes: recovered.torn_bytes,
        next_seq: found.next_seq,
        waiting,
        refused_until: None,
        room: Room::default(),
        read_failures: 0,
        read_again_at: Nanos(0),
        unopened,
        now,
        scratch: Vec::new(),
    };
    buffer.look_at_space_now(now);
    (buffer, recovered)
}

fn nothing(fs: &Arc<dyn Fs>, options: &BufferOptions, sink: u64, epoch: [u8; 16]) -> Found {
    Found {
        positions: Positions::new(fs.clone(), &options.dir, sink, epoch),
        segments: VecDeque::new(),
        groups: BTreeMap::new(),
        lost: SeqSet::default(),
        held: Held::new(),
        next_seq: 1,
        recovered: Recovered::default(),
    }
}

impl SinkBuffer {
    /// Settles a frame: one record, and with the last of a group what the group holds.
    pub(super) fn settle(&mut self, seq: u64, group: u64, note: Option<Note>, tally: Tally, on_disk: bool, now: Nanos) {
        self.waiting.subtract(tally);
        let mut notes: Vec<Note> = note.into_iter().collect();
        let mut ranges = Vec::new();
        let mut is_last = true;
        if let Some(entry) = self.groups.get_mut(&group) {
            entry.remaining = entry.remaining.saturating_sub(1);
            is_last = entry.remaining == 0;
            if !on_disk {
                entry.notes.append(&mut notes);
            }
        }
        if is_last && let Some(entry) = self.groups.remove(&group) {
            if !entry.spoiled {
                ranges = self.still_held(entry.ranges);
            }
            notes.extend(entry.notes);
        }
        fail::point(fail::BEFORE_SETTLING);
        if on_disk {
            self.settle_in_log(seq..seq + 1, ranges, notes, now);
            fail::point(fail::SETTLED);
            if let Some(segment) = self.segment_of(seq) {
                segment.waiting.subtract(tally);
            }
            self.retire_if_done(seq, now);
        } else if is_last {
            self.settle_in_log(0..0, ranges, notes, now);
        }
    }

    /// Writes into the log that frames are settled. Files for which nothing waits any more are the log's alone then: there are
    /// thousands.
    pub(super) fn settle_in_log(&mut self, seqs: std::ops::Range<u64>, ranges: Vec<Range>, notes: Vec<Note>, now: Nanos) {
        let mut files: Vec<FileKey> = ranges.iter().map(|range| range.file).collect();
        files.dedup();
        self.positions.settle(seqs, ranges, notes, now);
        for file in files {
            if self.held.get(&file) == self.positions.held.get(&file) {
                self.held.remove(&file);
            }
        }
    }

    /// Removes the segment of frame `seq` if nothing in it waits and nothing more comes into it.
    pub(super) fn retire_if_done(&mut self, seq: u64, now: Nanos) {
        let index = self.segments.partition_point(|segment| segment.seqs.end <= seq);
        let Some(segment) = self.segments.get(index).filter(|segment| segment.waiting.frames == 0) else { return };
        if segment.sealed || self.is_full() {
            self.retire(index, Vec::new(), now);
        }
    }

    /// Removes a segment, none of whose frames waits any more; `ranges` are held from now on by the log.
    pub(super) fn retire(&mut self, index: usize, ranges: Vec<Range>, now: Nanos) {
        let Some(segment) = self.segments.remove(index) else { return };
        // Frames whose headers were lost had these records.
        self.lost_records += segment.waiting.records;
        self.waiting.subtract(segment.waiting);
        if !ranges.is_empty() || !self.positions.settled.missing(segment.seqs.clone()).is_empty() {
            self.settle_in_log(segment.seqs.clone(), ranges, Vec::new(), now);
        }
        if self.options.strict {
            self.positions.sync(now);
        }
        fail::point(fail::BEFORE_REMOVAL);
        // Else it is found at the next start, and what of it is known to be settled by then decides.
        if !self.options.strict || self.positions.is_synced() {
            segment.remove(&*self.fs, &self.options.dir);
        }
        let low = self.segments.front().map_or(self.next_seq, |segment| segment.seqs.start);
        self.positions.settled_below(low);
    }

    /// Ends the newest segment: nothing more is appended to it.
    pub(super) fn seal_newest(&mut self, now: Nanos) {
        if let Some(segment) = self.segments.back_mut() {
            segment.sealed = true;
            let last = segment.seqs.end - 1;
            self.retire_if_done(last, now);
        }
    }

    pub(super) fn do_due(&mut self, now: Nanos) -> Option<Nanos> {
        if let Some(at) = self.unopened {
            if at <= now {
                *self = open(self.fs.clone(), self.options.clone(), self.epoch, now).0;
            }
            if self.unopened.is_some() {
                return self.unopened;
            }
        }
        self.refused_until = self.refused_until.filter(|at| *at > now);
        if self.age_limit().is_some_and(|at| at <= now) {
            self.seal_newest(now);
        }
        self.sync_old(now);
        self.look_at_space(now);
        let positions = self.positions.tick(now, self.options.sync_after);
        let mark = self.marks.front().map(|(since, _)| since.after(self.options.sync_after));
        let retry = (self.read_failures > 0).then_some(self.read_again_at.max(now.after(Duration::from_millis(1))));
        [positions, mark, self.age_limit(), self.refused_until, retry, self.look_again_at()].into_iter().flatten().min()
    }

    fn age_limit(&self) -> Option<Nanos> {
        self.segments.back().filter(|segment| !segment.sealed).map(|segment| segment.created.after(MAX_SEGMENT_AGE))
    }

    /// Syncs the segments of frames that are old enough and still wait.
    fn sync_old(&mut self, now: Nanos) {
        let mut due = 0;
        while let Some((_, seq)) = self.marks.pop_front_if(|(since, _)| since.after(self.options.sync_after) <= now) {
            due = seq;
        }
        for index in 0..self.segments.len() {
            let Some(segment) = self.segments.get(index) else { break };
            if self.has_unsynced_below(due, segment) {
                self.sync_segment(index);
            }
        }
    }

    fn has_unsynced_below(&self, due: u64, segment: &Segment) -> bool {
        let seqs = segment.synced.max(segment.seqs.start)..segment.seqs.end.min(due);
        if seqs.is_empty() || segment.waiting.frames == 0 {
            return false;
        }
        self.cursor.seq < seqs.end || self.out.range(seqs).next().is_some()
    }

    fn sync_segment(&mut self, index: usize) {
        let Some(segment) = self.segments.get_mut(index) else { return };
        if let Err(error) = segment.sync(&*self.fs, &self.options.dir) {
            let path = segment.path.display();
            tracing::error!(%path, %error, "a segment cannot be synced: what is in it is safe from a crash, but not from a power loss");
        }
        fail::point(fail::SYNCED);
        // Not those that are known to be damaged: at the next opening they are to be found so again.
        for seqs in self.lost.missing(segment.seqs.start..segment.synced) {
            self.positions.mark_synced(seqs, self.now);
        }
        if segment.sealed && segment.seqs.start != self.cursor.segment {
            segment.file = None;
        }
    }

    pub(super) fn sync_all(&mut self, now: Nanos) {
        if self.unopened.is_some() {
            return;
        }
        for index in 0..self.segments.len() {
            if self.segments.get(index).is_some_and(|segment| segment.waiting.frames > 0) {
                self.sync_segment(index);
            }
        }
        self.marks.clear();
        self.positions.sync(now);
    }
}
