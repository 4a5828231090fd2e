//! The trait of sources: chunks of whole records, each with the bytes that it accounts for.

use crate::batch::Batch;
use crate::edge::Nanos;
use crate::position::{FileKey, Range, RangeSet};

/// A set of sinks: bit *n* is sink *n* in the order of the configuration. A configuration has at most 64 sinks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SinkSet(pub u64);

impl SinkSet {
    /// The most sinks that a set can tell apart.
    pub const CAPACITY: usize = 64;

    /// The set of the first `count` sinks.
    pub fn first(count: usize) -> SinkSet {
        SinkSet(if count >= 64 { u64::MAX } else { (1 << count) - 1 })
    }

    /// The set of sink `index` alone.
    pub fn only(index: usize) -> SinkSet {
        SinkSet(1 << index)
    }

    /// Whether sink `index` is in it.
    pub fn contains(self, index: usize) -> bool {
        self.0 >> index & 1 == 1
    }

    /// Those that are in both.
    pub fn and(self, other: SinkSet) -> SinkSet {
        SinkSet(self.0 & other.0)
    }

    /// Those that are in either.
    pub fn or(self, other: SinkSet) -> SinkSet {
        SinkSet(self.0 | other.0)
    }

    /// Those of this set that are not in `other`.
    pub fn without(self, other: SinkSet) -> SinkSet {
        SinkSet(self.0 & !other.0)
    }

    /// Whether no sink is in it.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// What a source hands over at a time: a batch of one origin, and the bytes that are dealt with once it is.
pub struct Chunk {
    /// The records.
    pub batch: Batch,
    /// The bytes of the source that this chunk accounts for: those of its records, and those between that are no record.
    /// A record that is not finished yet is not in them. Empty for a source without positions.
    pub covers: Vec<Range>,
    /// The sinks that still need these records; all but after a restart, when some hold them already.
    pub needs: SinkSet,
    /// How many bytes were read for it.
    pub bytes_read: u64,
}

/// What came of asking a source for a chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Read {
    /// The chunk was filled. It may hold no records and only cover bytes.
    Chunk,
    /// Nothing to read now; ask again at `until` (monotonic), or when woken.
    Idle {
        /// When to ask again at the latest.
        until: Nanos,
    },
    /// Nothing will come any more.
    End,
}

/// Where records come from. Owned by one worker and asked in turns.
pub trait Source: Send {
    /// Fills `chunk` (which the source resets first) with the next records.
    ///
    /// Faults of single files are the source's to report and count; they never end it.
    fn read(&mut self, chunk: &mut Chunk, now: Nanos) -> Read;

    /// A second reader of the same files, for `sinks` alone, that starts where their buffers stand (see [`Held`]) as a restart
    /// would. It has its own hold on every file that this one has not read to its end. `None` for a source that cannot read
    /// anything twice.
    fn fork(&self, sinks: SinkSet) -> Option<Box<dyn Source>> {
        let _ = sinks;
        None
    }

    /// Reads for `sinks` alone from now on; the others have a fork that goes on from where their buffers stand.
    fn restrict(&mut self, sinks: SinkSet) {
        let _ = sinks;
    }

    /// Says that another source is about to take the place of this one in the same process, at a reload of the configuration:
    /// what that one could not open anew is left to it. Nothing is read after this.
    fn leave(&mut self) {}

    /// Says that the agent is stopping: what is held back for completion should be given out by the next reads, as it is
    /// where it has no positions, and left for the next start where it has; then [`Read::End`] comes.
    fn stop(&mut self);
}

/// What the sinks hold of a file already: asked by a source when it opens the file.
pub trait Held: Send + Sync {
    /// For each sink that holds something of `file`, its index and its set of ranges.
    fn held(&self, file: &FileKey) -> Vec<(usize, RangeSet)>;

    /// Every file that any sink holds something of.
    fn files(&self) -> Vec<FileKey>;

    /// Whether every sink's store has all that is held of `file`: nothing of it waits.
    fn is_delivered(&self, file: &FileKey) -> bool;

    /// Says that `file` is gone for good, so that its ranges need not be kept.
    fn forget(&self, file: &FileKey);
}
