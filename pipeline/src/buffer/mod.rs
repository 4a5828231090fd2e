//! The buffer of one sink: frames until they are delivered, and which bytes of the sources it holds.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::edge::Nanos;
use crate::frame::Frame;
use crate::fs::Fs;
use crate::position::{FileKey, RangeSet};
use crate::sink::Note;

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
    /// `None`: frames stay in memory and positions are written after the store's acknowledgement.
    /// `Some`: frames are appended to segments below the directory before they are sent.
    pub disk: bool,
    /// Where segments and positions lie: `<data_dir>/sink-<name>`. Even a memory buffer keeps its positions there.
    pub dir: PathBuf,
    /// The most bytes of frames that wait; a disk buffer may exceed it by one segment.
    pub max_bytes: u64,
    /// What happens beyond.
    pub when_full: WhenFull,
    /// The age at which a frame that is not delivered yet is synced to the disk, and positions that moved.
    pub sync_after: Duration,
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
    /// The notes of acknowledged frames: see [`crate::sink::Transport::recover`].
    pub notes: Vec<Note>,
}

/// What came of an append.
#[derive(Debug)]
pub enum Appended {
    /// The group is in the buffer.
    Kept,
    /// The group was given up by `drop_newest`: its positions are kept, its records counted.
    Dropped {
        /// How many records.
        records: u64,
    },
    /// There is no room (`block`), or the disk refused: here is the group back, to be appended again later.
    Full(Vec<Frame>),
}

/// The buffer of one sink. A state machine: time and file system are handed in.
pub struct SinkBuffer {
    _todo: (),
}

impl SinkBuffer {
    /// Opens the buffer and recovers what is there. Never refuses for what it finds in its files.
    pub fn open(_fs: Arc<dyn Fs>, _options: BufferOptions, _epoch: [u8; 16], _now: Nanos) -> (SinkBuffer, Recovered) {
        unimplemented!()
    }
    /// Whether a group may be appended now without exceeding the bound.
    pub fn has_room(&self) -> bool {
        unimplemented!()
    }
    /// Appends a frozen group.
    pub fn append(&mut self, _group: Vec<Frame>, _now: Nanos) -> Appended {
        unimplemented!()
    }
    /// The oldest frame that was not handed out yet, if any.
    pub fn next(&mut self) -> Option<Frame> {
        unimplemented!()
    }
    /// Says that frame `seq` is dealt with (stored or dead-lettered), in any order.
    pub fn acknowledge(&mut self, _seq: u64, _note: Option<Note>, _now: Nanos) {
        unimplemented!()
    }
    /// Hands out frame `seq` again later, before newer ones (a stop in the middle of a send, for instance).
    pub fn put_back(&mut self, _seq: u64) {
        unimplemented!()
    }
    /// Syncs what is due; says when to call again.
    pub fn tick(&mut self, _now: Nanos) -> Option<Nanos> {
        unimplemented!()
    }
    /// Syncs everything: before a stop.
    pub fn sync(&mut self, _now: Nanos) {
        unimplemented!()
    }
    /// Whether every frame has been acknowledged.
    pub fn is_empty(&self) -> bool {
        unimplemented!()
    }
    /// Frames, records and bytes that wait.
    pub fn waiting(&self) -> (u64, u64, u64) {
        unimplemented!()
    }
    /// Records given up so far by the overflow policy or to damage.
    pub fn lost_records(&self) -> u64 {
        unimplemented!()
    }
    /// What is held of `file`: in frames or delivered.
    pub fn held(&self, _file: &FileKey) -> Option<&RangeSet> {
        unimplemented!()
    }
    /// Every file that something is held of.
    pub fn files(&self) -> Vec<FileKey> {
        unimplemented!()
    }
    /// Says that `file` is gone for good.
    pub fn forget(&mut self, _file: &FileKey) {
        unimplemented!()
    }
}
