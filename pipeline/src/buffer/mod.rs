//! The buffer of one sink: frames until they are delivered, and which bytes of the sources it holds.
//!
//! # On disk
//!
//! ```text
//! <data_dir>/sink-<name>/       0700, files 0600
//!   0000000000000001.seg        frames in order of their numbers; the name is the number of the first (format.rs)
//!   000000000000004f.seg
//!   positions.wal               what is settled, what is held because of it, notes (log.rs, positions.rs)
//!   quarantine/                 copies of damaged parts, at most 64 MiB (quarantine.rs)
//! ```
//!
//! # The promise, and how it is kept
//!
//! **One commit point.** A frame carries the ranges of the sources that its group accounts for. So the append of a
//! group puts payload and positions on record at once, and there are no two files that could disagree. A group counts
//! when its last frame is there: it is written by one call, and one that is cut short is left out when the buffer is
//! opened, so that its bytes are read from their source again.
//!
//! **One record when it is done.** The acknowledgement of a frame appends one record to `positions.wal`: its number,
//! the note of its transport, and, with the last frame of its group, the group's ranges. From then on these ranges hang
//! on the log and no longer on the segment, so a segment whose frames are all settled can go at once, without a word
//! more. What is held is therefore the union of the ranges in the log and of the groups that still wait in segments. In
//! memory mode there are no segments, and one record, written with the last acknowledgement of a group, holds its
//! ranges and all its notes.
//!
//! **After a `kill -9`** the page cache is as the process left it, so what was written is there, in order, but for the
//! end of the call that was under way. Nothing is lost, and only what was acknowledged and not yet recorded (one call)
//! is sent again.
//!
//! **After a power loss** anything that was not synced may be there, or not, or in parts. The cases, with *F* for the
//! frame, *A* for its acknowledgement and *U* for the unlinking of its segment:
//!
//! - *F* missing, no *A*: its ranges are not held; it is read and sent again. Its number may be given again, to a
//!   segment of its own.
//! - *F* missing, *A* there (synced with other positions): settled, and its ranges are held if it was the last of its
//!   group. The number is not given again: no number below one in the log ever is. Else the old record would settle a
//!   new frame.
//! - *F* there, *A* missing: sent again under the same batch id. Positions are synced at most `sync_after` after they
//!   moved, and that bounds how much this can be.
//! - *U* there, *A* missing: the ranges are not held; read and sent again, within the same bound. A sync of the log
//!   before each unlinking would not improve on it: a healthy sink's segments are never on the disk anyway, so that a
//!   lost record means reading again whether its segment was unlinked or not. This is why removing a segment costs no
//!   sync.
//! - *A* there, *U* missing: all frames of the segment are settled, and it is removed at the start.
//!
//! Where the acknowledgement that is missing is that of a group's last frame, and its segment is gone, all of the group
//! is read and sent again, also what was settled of it long before.
//!
//! So no order of writing back can lose a frame that was synced, and `sync_after` bounds what may be sent twice. A
//! frame is synced when it is `sync_after` old and not acknowledged. Where the store keeps up this never happens, and
//! segments, which are closed after ten seconds, are unlinked before the kernel writes them back (thirty seconds by
//! default).
//!
//! With `durability = "strict"` a group is synced before any of it is handed out, the log before a segment is removed and
//! before a part is sent. So *F* is never missing where something was sent, nor *A* where *U* is there, and what is sent again
//! is the same batch.
//!
//! **Damage.** A frame that fails its checksum is copied to the quarantine, counted (to the record where its header is
//! whole) and skipped; the next is found by its aligned magic and checksum. The ranges of its group are not held, so
//! that they are read again if their source still exists; the other frames of the group are delivered. The bodies of frames
//! that the log says are synced are not read at the opening, so that a full buffer opens fast: no crash can have torn
//! them. Should the disk have damaged one, it is found when it is read to be sent, counted and put aside then, and its
//! ranges are read again at the next opening. Behind the last
//! valid frame of the last segment there is no telling damage from a write that never finished, and it is cut as that:
//! once, since every opening begins a new segment and says so in the log.
//!
//! **A disk that refuses.** A failed append is cut back, and the group returned. A segment that cannot be cut back is
//! closed; where the next one begins says which of its frames count. One whose sync failed is closed too and never
//! synced again: what the disk has of it is unknown, and a second sync could hide that. Positions that cannot be written
//! wait in memory. Segments that are finished are removed all the same: on a full disk that makes the room.
//!
//! # In memory
//!
//! Per segment a few counters, per frame that was handed out and not acknowledged a few words, and frames of up to
//! [`BufferOptions::memory_bytes`]. All other frames are on disk alone and read back, in order, when their turn comes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::edge::Nanos;
use crate::frame::{BatchId, Cut, Frame};
use crate::fs::Fs;
use crate::position::{FileKey, Range, RangeSet};
use crate::sink::Note;

mod adopt;
mod append;
mod format;
mod inspect;
mod log;
mod next;
mod positions;
mod quarantine;
mod recover;
mod room;
mod scan;
mod segment;
mod seqs;
mod settle;
#[cfg(test)]
mod tests;

use format::Salt;
pub use inspect::{Inspection, Look, SegmentReport, has_begun, held, inspect};
pub use positions::Held;
use positions::Positions;
use room::Room;
use segment::{Segment, Tally};
use seqs::SeqSet;

/// What happens to new records when a buffer is full.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenFull {
    /// Reading for this sink stops until there is room; the files wait on disk.
    #[default]
    Block,
    /// The oldest segments are given up, and counted.
    DropOldest,
    /// The new records are given up, and counted.
    DropNewest,
}

/// Settings of a buffer.
#[derive(Clone, Debug)]
pub struct BufferOptions {
    /// `false`: frames stay in memory and positions are written after the store's acknowledgement.
    /// `true`: frames are appended to segments below the directory before they are sent.
    pub disk: bool,
    /// Where segments and positions lie: `<data_dir>/sink-<name>`. Even a memory buffer keeps its positions there.
    pub dir: PathBuf,
    /// The most bytes of frames that wait; a disk buffer may exceed it by one segment.
    pub max_bytes: u64,
    /// What happens beyond.
    pub when_full: WhenFull,
    /// The age at which a frame that is not delivered yet is synced to the disk, and positions that moved.
    pub sync_after: Duration,
    /// Whether a group is synced before any of it may be sent, and what is settled before a segment is removed: then a power
    /// loss repeats nothing at a store that tells repeats by whole batches.
    pub strict: bool,
    /// How many bytes have to stay free on the file system: with less the buffer counts as full, once it has a segment. `None`:
    /// a tenth of it, at most 5 GiB.
    pub min_free_bytes: Option<u64>,
    /// The most bytes of frames kept in memory beside the disk; older ones are read back when their turn comes.
    pub memory_bytes: u64,
}

/// What a buffer found when it was opened.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// Frames that wait to be sent.
    pub frames: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes cut from torn tails: they will be read from their sources again.
    pub torn_bytes: u64,
    /// Frames that were damaged, and set aside in quarantine.
    pub damaged_frames: u64,
    /// Records in damaged frames whose header could still be read.
    pub damaged_records: u64,
    /// Frames that ought to be there and are not: their segment was removed, or the power failed before the positions of
    /// frames that had been delivered were synced.
    pub missing_frames: u64,
    /// The notes of acknowledged frames: see [`crate::sink::Transport::recover`].
    pub notes: Vec<Note>,
}

/// What a buffer gave up or met, since it was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Losses {
    /// Records given up by the overflow policy.
    pub dropped_records: u64,
    /// Records lost to damage, as far as they could be counted.
    pub damaged_records: u64,
    /// Frames lost to damage, which are in the quarantine.
    pub damaged_frames: u64,
    /// Bytes cut from torn tails; they are read from their sources again, so that nothing is lost with them.
    pub torn_bytes: u64,
}

/// What came of an append.
#[derive(Debug)]
pub enum Appended {
    /// The group is in the buffer.
    Kept,
    /// The group was given up by the overflow policy: its positions are kept, its records counted. By `drop_oldest` too,
    /// where everything older is being sent.
    Dropped {
        /// How many records.
        records: u64,
    },
    /// There is no room (`block`), or the disk refused: here is the group back, to be appended again later.
    Full(Vec<Frame>),
}

/// The buffer of one sink. A state machine: time and file system are handed in.
///
/// Frames are handed out by [`SinkBuffer::next`] in order and settled by [`SinkBuffer::acknowledge`] in any.
/// [`SinkBuffer::tick`] has to be called when it says, and after appends and acknowledgements where nothing else would
/// call it.
pub struct SinkBuffer {
    fs: Arc<dyn Fs>,
    options: BufferOptions,
    sink: u64,
    epoch: [u8; 16],
    salt: Salt,
    segment_bytes: u64,
    positions: Positions,
    /// Of the files that groups wait for: what the log holds of them, and these groups. Of all others the log knows.
    held: Held,
    segments: VecDeque<Segment>,
    /// Frames in memory that were not handed out, in order.
    hot: VecDeque<Hot>,
    hot_bytes: u64,
    cursor: Cursor,
    /// Frames that were handed out and are not settled.
    out: BTreeMap<u64, Out>,
    /// Those of them that are to be handed out again.
    returned: BTreeSet<u64>,
    /// Groups of which some frame was handed out or lost, and some frame is not settled; by the number of their first frame.
    groups: BTreeMap<u64, Group>,
    /// Frames lost to damage whose segments are still there.
    lost: SeqSet,
    lost_records: u64,
    /// Those of them that the overflow policy gave up.
    dropped_records: u64,
    damaged_frames: u64,
    torn_bytes: u64,
    next_seq: u64,
    waiting: Tally,
    /// Up to which number frames were appended by when, where they may need a sync.
    marks: VecDeque<(Nanos, u64)>,
    refused_until: Option<Nanos>,
    room: Room,
    read_failures: u32,
    /// After a read that failed: not before this.
    read_again_at: Nanos,
    /// The directory cannot be used: when to try again.
    unopened: Option<Nanos>,
    now: Nanos,
    scratch: Vec<u8>,
}

/// A frame in memory that waits to be handed out.
struct Hot {
    frame: Frame,
    place: Option<Place>,
    bytes: u64,
}

/// Where a frame is on disk.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// The segment, by its first number.
    segment: u64,
    at: u64,
}

/// The frame to hand out next: all before it were, or are settled.
#[derive(Clone, Copy, Debug, Default)]
struct Cursor {
    seq: u64,
    segment: u64,
    at: u64,
}

/// A frame that was handed out.
struct Out {
    group: u64,
    tally: Tally,
    place: Option<Place>,
    /// The frame itself, where it is not on disk.
    frame: Option<Frame>,
}

/// A group of which not all frames are settled.
struct Group {
    /// The numbers of its frames.
    seqs: std::ops::Range<u64>,
    /// Frames that are not settled.
    remaining: u64,
    /// What it accounts for; known once its last frame was seen.
    ranges: Vec<Range>,
    /// In memory mode, the notes of those that are settled.
    notes: Vec<Note>,
    /// Whether a frame of it was lost to damage, so that its ranges do not count.
    spoiled: bool,
}

impl SinkBuffer {
    /// Opens the buffer and recovers what is there. Never refuses for what it finds in its files.
    ///
    /// Where the directory cannot be used at all it takes nothing in ([`Appended::Full`]) and tries again in
    /// [`SinkBuffer::tick`]: see [`SinkBuffer::is_degraded`].
    pub fn open(fs: Arc<dyn Fs>, options: BufferOptions, epoch: [u8; 16], now: Nanos) -> (SinkBuffer, Recovered) {
        settle::open(fs, options, epoch, now)
    }

    /// Whether the directory could not be used so far, so that nothing can be taken in.
    pub fn is_degraded(&self) -> bool {
        self.unopened.is_some()
    }

    /// Whether a group may be appended now: under `block` without exceeding the bound, under the others always. Not for a
    /// second after the disk refused one.
    pub fn has_room(&self) -> bool {
        let full = self.options.when_full == WhenFull::Block && self.is_full();
        !full && self.refused_until.is_none() && self.unopened.is_none()
    }

    /// Appends a frozen group.
    pub fn append(&mut self, group: Vec<Frame>, now: Nanos) -> Appended {
        self.now = now;
        self.append_group(group, now)
    }

    /// The oldest frame that was not handed out yet, if any.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Option<Frame> {
        self.next_frame()
    }

    /// Says that frame `seq` is dealt with (stored or dead-lettered), in any order.
    pub fn acknowledge(&mut self, seq: u64, note: Option<Note>, now: Nanos) {
        self.now = now;
        if let Some(out) = self.out.remove(&seq) {
            self.returned.remove(&seq);
            self.settle(seq, out.group, note, out.tally, out.place.is_some(), now);
        }
    }

    /// Hands out frame `seq` again later, before newer ones (a stop in the middle of a send, for instance).
    pub fn put_back(&mut self, seq: u64) {
        if self.out.contains_key(&seq) {
            self.returned.insert(seq);
        }
    }

    /// Puts on record that a piece of frame `seq` is sent as parts: before one of them is. It is forgotten with the frame.
    pub fn cut(&mut self, seq: u64, cut: Cut, now: Nanos) {
        self.now = now;
        // What is in memory only is frozen anew after a restart, in other frames.
        if self.out.get(&seq).is_some_and(|out| out.place.is_some()) {
            self.positions.cut(seq, cut, now);
            if self.options.strict {
                self.positions.sync(now);
            }
        }
    }

    /// How frame `seq`, whose identity is `frame`, was cut before, in order.
    pub fn cuts(&self, seq: u64, frame: BatchId) -> Vec<Cut> {
        self.positions.cuts(seq, frame)
    }

    /// Syncs what is due; says when to call again.
    pub fn tick(&mut self, now: Nanos) -> Option<Nanos> {
        self.now = now;
        self.do_due(now)
    }

    /// Syncs everything: before a stop.
    pub fn sync(&mut self, now: Nanos) {
        self.now = now;
        self.sync_all(now);
    }

    /// Whether every frame has been acknowledged.
    pub fn is_empty(&self) -> bool {
        self.waiting.frames == 0
    }

    /// Frames, records and bytes that wait.
    pub fn waiting(&self) -> (u64, u64, u64) {
        (self.waiting.frames, self.waiting.records, self.waiting.bytes)
    }

    /// Records given up so far by the overflow policy or to damage.
    pub fn lost_records(&self) -> u64 {
        self.lost_records
    }

    /// The same, and what was met beside, by cause.
    pub fn losses(&self) -> Losses {
        Losses {
            dropped_records: self.dropped_records,
            damaged_records: self.lost_records.saturating_sub(self.dropped_records),
            damaged_frames: self.damaged_frames,
            torn_bytes: self.torn_bytes,
        }
    }

    /// The most bytes of frames that may wait.
    pub fn max_bytes(&self) -> u64 {
        self.options.max_bytes
    }

    /// What is held of `file`: in frames or delivered.
    pub fn held(&self, file: &FileKey) -> Option<&RangeSet> {
        self.held.get(file).or_else(|| self.positions.held.get(file))
    }

    /// Every file that something is held of.
    pub fn files(&self) -> Vec<FileKey> {
        let of_the_log = self.positions.held.keys();
        of_the_log.chain(self.held.keys().filter(|file| !self.positions.held.contains_key(file))).copied().collect()
    }

    /// Says that `file` is gone for good.
    pub fn forget(&mut self, file: &FileKey) {
        self.held.remove(file);
        self.positions.forget(file, self.now);
    }

    /// Whether the store has all that is held of `file`: nothing of it waits.
    pub fn is_delivered(&self, file: &FileKey) -> bool {
        !self.held.contains_key(file)
    }

    /// Small segments, so that a short history has many.
    #[cfg(test)]
    pub(crate) fn set_segment_bytes(&mut self, bytes: u64) {
        self.segment_bytes = bytes;
    }

    /// What counts towards the bound: on disk whole segments, else the frames that wait.
    fn used_bytes(&self) -> u64 {
        match self.options.disk {
            true => self.segments.iter().map(|segment| segment.len).sum(),
            false => self.waiting.bytes,
        }
    }
}
