//! What a buffer promises, tried out on a file system in memory.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{Appended, BufferOptions, Recovered, SinkBuffer, WhenFull};
use crate::body::Compression;
use crate::edge::Nanos;
use crate::frame::{BatchId, Frame, Header};
use crate::fs::Fs;
use crate::fs::sim::SimFs;
use crate::position::{FileKey, Range};
use crate::sink::Note;

mod adopt;
mod behaviour;
mod damage;
mod faults;
mod look;
mod model;
mod overflow;
mod strict;

const DIR: &str = "/data/sink-es";
const EPOCH: [u8; 16] = [0xe9; 16];

fn options() -> BufferOptions {
    BufferOptions {
        disk: true,
        dir: PathBuf::from(DIR),
        max_bytes: 64 << 20,
        when_full: WhenFull::Block,
        sync_after: Duration::from_secs(1),
        strict: false,
        min_free_bytes: Some(0),
        memory_bytes: 1 << 20,
    }
}

fn memory() -> BufferOptions {
    BufferOptions { disk: false, ..options() }
}

fn open(fs: &SimFs, options: BufferOptions) -> (SinkBuffer, Recovered) {
    SinkBuffer::open(Arc::new(fs.clone()), options, EPOCH, seconds(0))
}

fn seconds(count: u64) -> Nanos {
    Nanos(count * 1_000_000_000)
}

fn file(number: u64) -> FileKey {
    FileKey([number as u8 + 1; 16])
}

/// What group `number` accounts for: ten bytes of one of three files, next to those of the group three before it.
fn range(number: u64) -> Range {
    let start = number / 3 * 10;
    Range { file: file(number % 3), start, end: start + 10, marker: number }
}

/// Group `number`, of `frames` frames of about `bytes` bytes; each with one record more than the one before.
fn group_of(number: u64, frames: u16, bytes: usize) -> Vec<Frame> {
    let make = |index: u16| {
        let mut body = format!("group {number} frame {index} ").into_bytes();
        body.extend((0..bytes).map(|i| (i as u64 * 31 + number * 7 + u64::from(index)) as u8));
        let mut id = [0xa5; 16];
        id[..8].copy_from_slice(&number.to_le_bytes());
        id[8..10].copy_from_slice(&index.to_le_bytes());
        let header = Header {
            seq: 0,
            id: BatchId(id),
            group_index: index,
            group_len: frames,
            records: u32::from(index) + 1,
            raw_bytes: 3 * body.len() as u64,
            compression: Compression::Zstd,
            destination: if index == 0 { "".into() } else { format!("index-{index}").into() },
            ranges: if index + 1 == frames { vec![range(number)] } else { vec![] },
        };
        Frame::from_parts(header, Bytes::from(body))
    };
    (0..frames).map(make).collect()
}

fn group(number: u64) -> Vec<Frame> {
    group_of(number, 1, 40)
}

fn append(buffer: &mut SinkBuffer, group: Vec<Frame>) {
    assert!(matches!(buffer.append(group, seconds(0)), Appended::Kept));
}

fn drain(buffer: &mut SinkBuffer) -> Vec<Frame> {
    std::iter::from_fn(|| buffer.next()).collect()
}

/// What a frame is, without the number that the buffer gave it.
fn content(frame: &Frame) -> (BatchId, Bytes, Header) {
    (frame.header().id, frame.body().clone(), Header { seq: 0, ..frame.header().clone() })
}

fn contents(frames: &[Frame]) -> Vec<(BatchId, Bytes, Header)> {
    frames.iter().map(content).collect()
}

fn group_number(frame: &Frame) -> u64 {
    u64::from_le_bytes(*frame.header().id.0.first_chunk().unwrap())
}

fn holds(buffer: &SinkBuffer, number: u64) -> bool {
    let range = range(number);
    let held = |at| buffer.held(&range.file).is_some_and(|set| set.contains(at));
    let all = (range.start..range.end).all(held);
    assert_eq!(all, (range.start..range.end).any(held), "part of the range of group {number} is held");
    all
}

fn files_named(fs: &SimFs, end: &str) -> Vec<PathBuf> {
    fs.contents().into_keys().filter(|path| path.to_str().unwrap().ends_with(end)).collect()
}

fn segments(fs: &SimFs) -> Vec<PathBuf> {
    files_named(fs, ".seg")
}

fn note(key: &str, value: &str) -> Note {
    Note { key: key.to_owned(), value: value.as_bytes().to_vec() }
}
