//! The frame: a body frozen for good, with its identity and the bytes of the sources that it carries.

use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::body::{Bodies, Compression};
use crate::position::Range;

/// The identity of a frame, the same on every try: what a store that can tell uses to refuse a second copy of a batch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BatchId(pub [u8; 16]);

/// That a piece of a frame (all of it, or a part) is sent as parts in its place. Journaled before a part is sent, so that the
/// next life of the agent sends the same parts: a store that tells repeats by batches knows them again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cut {
    /// The frame's identity.
    pub frame: BatchId,
    /// Which piece: 0 is the whole frame, and parts count from 1 in the order in which they were cut.
    pub from: u32,
    /// The number of the first of the parts. A power loss may take the record of an earlier cut and leave this one.
    pub first: u32,
    /// The parts.
    pub parts: Vec<Part>,
}

impl Cut {
    /// The number that comes after those of its parts.
    pub fn next(&self) -> u32 {
        self.first.saturating_add(self.parts.len() as u32)
    }
}

/// A part of a piece.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part {
    /// What makes its identity, with that of the piece: see [`Frame::part`].
    pub path: u32,
    /// The records of the piece that it has, as stretches, in order.
    pub records: Vec<std::ops::Range<u32>>,
}

impl Part {
    /// The part of `records`, which are in order.
    pub fn new(path: u32, records: &[u32]) -> Part {
        let stretches = records.chunk_by(|a, b| a + 1 == *b).filter_map(|run| Some(*run.first()?..run.last()? + 1));
        Part { path, records: stretches.collect() }
    }

    /// Its records, one by one; `None` where the piece, which has `of` records, has not all of them.
    pub fn list(&self, of: u32) -> Option<Vec<u32>> {
        let rises = self.records.windows(2).all(|pair| pair[0].end <= pair[1].start) && self.records.iter().all(|run| run.start < run.end);
        let fits = rises && self.records.last().is_some_and(|run| run.end <= of);
        fits.then(|| self.records.iter().cloned().flatten().collect())
    }
}

/// What a frame is, beside its body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    /// Its number in the sink's buffer, given at the append; 0 before.
    pub seq: u64,
    /// Its identity.
    pub id: BatchId,
    /// Its place in the group that was frozen together, from 0.
    pub group_index: u16,
    /// The number of frames in that group. A group that is not whole on disk counts as not written.
    pub group_len: u16,
    /// The number of records in the body; 0 for a frame that only moves positions.
    pub records: u32,
    /// The length of the body before compression, in bytes.
    pub raw_bytes: u64,
    /// How the body is compressed.
    pub compression: Compression,
    /// Where it goes, for sinks with several destinations (an index, a path, a tenant); empty else.
    pub destination: Arc<str>,
    /// The bytes of the sources that the group accounts for; in its last frame only.
    pub ranges: Vec<Range>,
}

/// A body that will not change any more: sent as it is, as often as it takes, and stored as it is sent.
///
/// Only [`freeze`], which runs after all transforms, makes one (and the buffer, which reads back what was frozen, and the
/// delivery, which cuts parts out of one). So no bytes reach a disk or a socket before redaction by mistake.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    header: Header,
    body: Bytes,
}

impl Frame {
    /// What it is.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The bytes to send, compressed as [`Header::compression`] says.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// A frame read back from where it was stored.
    pub(crate) fn from_parts(header: Header, body: Bytes) -> Frame {
        Frame { header, body }
    }

    /// Gives the frame its number.
    pub(crate) fn set_seq(&mut self, seq: u64) {
        self.header.seq = seq;
    }

    /// Part of this frame as a frame of its own, to be sent in its place: the `path`-th part, so that it has the same
    /// identity whenever it is cut again. `body` is not compressed yet.
    pub(crate) fn part(&self, path: u32, records: u32, body: &[u8]) -> Frame {
        let mut id = [0; 16];
        id.copy_from_slice(&Sha256::new().chain_update(self.header.id.0).chain_update(path.to_le_bytes()).finalize()[..16]);
        let header = Header { id: BatchId(id), records, raw_bytes: body.len() as u64, ranges: Vec::new(), ..self.header.clone() };
        Frame { body: crate::body::compress(header.compression, body).into(), header }
    }
}

/// What makes the ids of a sink's frames its own.
#[derive(Clone, Debug)]
pub struct FrameScope {
    /// The epoch of the state directory: a random number made with it.
    pub epoch: [u8; 16],
    /// The sink's name in the configuration.
    pub sink: Arc<str>,
    /// A random number of this run, for frames that carry no ranges.
    pub run: [u8; 16],
    frozen: u64,
}

impl FrameScope {
    /// The scope of `sink` in the state directory of `epoch`, for the run `run`.
    pub fn new(epoch: [u8; 16], sink: Arc<str>, run: [u8; 16]) -> FrameScope {
        FrameScope { epoch, sink, run, frozen: 0 }
    }

    /// The id of the frame for `destination`, number `index` of its group, whose group accounts for `ranges`.
    ///
    /// Made of the ranges and not of the frame's number, so that a frame lost before it reached the disk and cut again
    /// alike is the same frame to the store. Without ranges (a source that cannot be read again) it is of this run alone.
    fn id(&self, ranges: &[Range], destination: &str, index: usize) -> BatchId {
        let mut hash = Sha256::new();
        hash.update(self.epoch);
        hash.update((self.sink.len() as u64).to_le_bytes());
        hash.update(self.sink.as_bytes());
        hash.update((index as u64).to_le_bytes());
        hash.update((destination.len() as u64).to_le_bytes());
        hash.update(destination.as_bytes());
        for range in ranges {
            hash.update(range.file.0);
            hash.update(range.start.to_le_bytes());
            hash.update(range.end.to_le_bytes());
        }
        if ranges.is_empty() {
            hash.update(self.run);
            hash.update(self.frozen.to_le_bytes());
        }
        let mut id = [0; 16];
        id.copy_from_slice(&hash.finalize()[..16]);
        BatchId(id)
    }
}

/// Freezes all open bodies as one group that accounts for `ranges`.
///
/// Without any body the group is one frame of 0 records that only moves positions; without ranges either it is empty.
pub fn freeze(bodies: &mut Bodies, ranges: Vec<Range>, scope: &mut FrameScope) -> Vec<Frame> {
    let finished = bodies.take();
    scope.frozen += 1;
    if finished.is_empty() {
        if ranges.is_empty() {
            return Vec::new();
        }
        let header = Header {
            seq: 0,
            id: scope.id(&ranges, "", 0),
            group_index: 0,
            group_len: 1,
            records: 0,
            raw_bytes: 0,
            compression: Compression::None,
            destination: "".into(),
            ranges,
        };
        return vec![Frame { header, body: Bytes::new() }];
    }
    // `Bodies` keeps the number of destinations below its cap plus those of one chunk; a chunk has fewer records than this.
    let count = u16::try_from(finished.len()).unwrap_or(u16::MAX);
    let mut frames: Vec<Frame> = Vec::with_capacity(finished.len());
    for (index, body) in finished.into_iter().enumerate() {
        let header = Header {
            seq: 0,
            id: scope.id(&ranges, &body.destination, index),
            group_index: index as u16,
            group_len: count,
            records: body.records,
            raw_bytes: body.raw_bytes,
            compression: body.compression,
            destination: body.destination,
            ranges: Vec::new(),
        };
        frames.push(Frame { header, body: body.bytes.into() });
    }
    if let Some(last) = frames.last_mut() {
        last.header.ranges = ranges;
    }
    frames
}
