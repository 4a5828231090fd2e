//! The records of the log of positions, `positions.wal`: their bytes.
//!
//! The file is a header ([`super::format::FileHeader`]) and records, each beginning at a multiple of 8:
//!
//! | offset | bytes | |
//! |---|---|---|
//! | 0 | 4 | `SKPR` |
//! | 4 | 4 | length *p* of the payload, a multiple of 8 |
//! | 8 | 1 | what it is: 1 settled, 2 forgotten, 3 synced, 4 cut; others are skipped |
//! | 9 | 3 | 0 |
//! | 12 | 4 | salted checksum of the 12 bytes before and the payload |
//! | 16 | *p* | payload |
//!
//! *Settled*: frames that are dealt with, what is held because of that, and what a transport wants to know about it. One
//! record, so that all of it counts or nothing.
//!
//! | offset | bytes | |
//! |---|---|---|
//! | 0 | 8 | number of the first frame |
//! | 8 | 8 | one past the number of the last frame; the same as the first where it is about no frame on disk |
//! | 16 | 4 | number *r* of ranges |
//! | 20 | 4 | number *n* of notes |
//! | 24 | 40 *r* | ranges: file key 16, start 8, end 8, marker 8 |
//! | … | | *n* notes: lengths *k* and *v* 4 each, key *k* (UTF-8), value *v*, zero bytes to a multiple of 8 |
//!
//! A record about no frame whose two numbers are not 0 says that the buffer was opened, and gives numbers from that one on.
//!
//! *Forgotten*: the key, 16 bytes, of a file that is gone; what was held of it by earlier records no longer counts.
//!
//! *Synced*: number of the first frame 8, one past the number of the last 8. These frames were on the disk for good when
//! this was written, so that no crash can have torn them, and opening need not read their bodies.
//!
//! *Cut*: a piece of a frame is sent as parts ([`crate::frame::Cut`]).
//!
//! | offset | bytes | |
//! |---|---|---|
//! | 0 | 8 | number of the frame |
//! | 8 | 16 | its batch id |
//! | 24 | 4 | which piece of it: 0 is all of it |
//! | 28 | 4 | number of the first part |
//! | 32 | 4 | how many parts, *n* |
//! | 36 | 4 | 0 |
//! | 40 | | *n* parts: path 4, number *k* of stretches 4, *k* stretches: first record 4, one past the last 4 |

use std::ops::Range as Indices;

use super::format::{ALIGN, Salt, decode_range, encode_range, pad, u32_at, u64_at};
use crate::frame::{BatchId, Cut, Part};
use crate::position::{FileKey, Range};
use crate::sink::Note;

const MAGIC: [u8; 4] = *b"SKPR";
const HEAD_BYTES: usize = 16;
const SETTLED: u8 = 1;
const FORGOTTEN: u8 = 2;
const SYNCED: u8 = 3;
const CUT: u8 = 4;
const RANGE_BYTES: usize = 40;

/// One record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Record {
    Settled { seqs: Indices<u64>, ranges: Vec<Range>, notes: Vec<Note> },
    Forgotten(FileKey),
    Synced(Indices<u64>),
    Cut { seq: u64, cut: Cut },
}

/// What was found wrong in reading.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Flaws {
    /// Whether records followed on bytes that are none.
    pub damaged: bool,
    /// Where the last record ends.
    pub end: usize,
}

/// Appends a record of what is settled.
pub(super) fn encode_settled(seqs: Indices<u64>, ranges: &[Range], notes: &[Note], salt: Salt, out: &mut Vec<u8>) {
    encode(SETTLED, salt, out, |out| {
        out.extend_from_slice(&seqs.start.to_le_bytes());
        out.extend_from_slice(&seqs.end.to_le_bytes());
        out.extend_from_slice(&(ranges.len() as u32).to_le_bytes());
        out.extend_from_slice(&(notes.len() as u32).to_le_bytes());
        ranges.iter().for_each(|range| encode_range(range, out));
        for note in notes {
            let start = out.len();
            out.extend_from_slice(&(note.key.len() as u32).to_le_bytes());
            out.extend_from_slice(&(note.value.len() as u32).to_le_bytes());
            out.extend_from_slice(note.key.as_bytes());
            out.extend_from_slice(&note.value);
            pad(start, out);
        }
    });
}

/// Appends a record of what is forgotten.
pub(super) fn encode_forgotten(file: &FileKey, salt: Salt, out: &mut Vec<u8>) {
    encode(FORGOTTEN, salt, out, |out| out.extend_from_slice(&file.0));
}

/// Appends a record of frames that are on the disk for good.
pub(super) fn encode_synced(seqs: &Indices<u64>, salt: Salt, out: &mut Vec<u8>) {
    encode(SYNCED, salt, out, |out| {
        out.extend_from_slice(&seqs.start.to_le_bytes());
        out.extend_from_slice(&seqs.end.to_le_bytes());
    });
}

/// Appends a record of a frame that is sent in parts.
pub(super) fn encode_cut(seq: u64, cut: &Cut, salt: Salt, out: &mut Vec<u8>) {
    encode(CUT, salt, out, |out| {
        out.extend_from_slice(&seq.to_le_bytes());
        out.extend_from_slice(&cut.frame.0);
        for number in [cut.from, cut.first, cut.parts.len() as u32, 0] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for part in &cut.parts {
            let stretches = part.records.iter().flat_map(|run| [run.start, run.end]);
            let numbers = [part.path, part.records.len() as u32].into_iter().chain(stretches);
            numbers.for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
        }
    });
}

fn encode(kind: u8, salt: Salt, out: &mut Vec<u8>, payload: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[0, 0, 0, 0, kind, 0, 0, 0, 0, 0, 0, 0]);
    payload(out);
    let len = (out.len() - start - HEAD_BYTES) as u32;
    out[start + 4..start + 8].copy_from_slice(&len.to_le_bytes());
    let crc = checksum(&out[start..], salt);
    out[start + 12..start + 16].copy_from_slice(&crc.to_le_bytes());
}

fn checksum(record: &[u8], salt: Salt) -> u32 {
    crc32c::crc32c_append(salt.crc(&record[..12]), &record[HEAD_BYTES..])
}

/// Reads all records from `bytes[from..]`, those behind damage too.
pub(super) fn decode(bytes: &[u8], from: usize, salt: Salt, mut each: impl FnMut(Record)) -> Flaws {
    let mut flaws = Flaws { damaged: false, end: from };
    let mut at = from;
    while at + HEAD_BYTES <= bytes.len() {
        let Some(record) = record_at(&bytes[at..], salt) else {
            at += ALIGN as usize;
            continue;
        };
        flaws.damaged |= at != flaws.end;
        if let Some(decoded) = payload(record[8], &record[HEAD_BYTES..]) {
            each(decoded);
        }
        at += record.len();
        flaws.end = at;
    }
    flaws
}

fn record_at(bytes: &[u8], salt: Salt) -> Option<&[u8]> {
    if bytes[..4] != MAGIC {
        return None;
    }
    let record = bytes.get(..HEAD_BYTES + u32_at(bytes, 4) as usize)?;
    (record.len().is_multiple_of(ALIGN as usize) && checksum(record, salt) == u32_at(bytes, 12)).then_some(record)
}

fn payload(kind: u8, bytes: &[u8]) -> Option<Record> {
    match kind {
        SETTLED => settled(bytes),
        FORGOTTEN => Some(Record::Forgotten(FileKey(*bytes.first_chunk()?))),
        SYNCED => {
            let seqs = bytes.get(..16)?;
            Some(Record::Synced(u64_at(seqs, 0)..u64_at(seqs, 8)))
        }
        CUT => cut(bytes),
        _ => None,
    }
}

fn settled(bytes: &[u8]) -> Option<Record> {
    let (head, mut rest) = bytes.split_at_checked(24)?;
    let (ranges, notes) = (u32_at(head, 16) as usize, u32_at(head, 20));
    let encoded = rest.split_off(..ranges * RANGE_BYTES)?;
    let ranges = encoded.chunks_exact(RANGE_BYTES).map(decode_range).collect();
    let notes = (0..notes).map(|_| note(&mut rest)).collect::<Option<_>>()?;
    Some(Record::Settled { seqs: u64_at(head, 0)..u64_at(head, 8), ranges, notes })
}

fn cut(bytes: &[u8]) -> Option<Record> {
    let (head, mut rest) = bytes.split_at_checked(40)?;
    let mut part = || {
        let head = rest.split_off(..8)?;
        let stretches = rest.split_off(..(u32_at(head, 4) as usize).checked_mul(8)?)?;
        let records = stretches.chunks_exact(8).map(|run| u32_at(run, 0)..u32_at(run, 4)).collect();
        Some(Part { path: u32_at(head, 0), records })
    };
    let parts = (0..u32_at(head, 32)).map(|_| part()).collect::<Option<_>>()?;
    let frame = BatchId(*head[8..].first_chunk()?);
    Some(Record::Cut { seq: u64_at(head, 0), cut: Cut { frame, from: u32_at(head, 24), first: u32_at(head, 28), parts } })
}

fn note(rest: &mut &[u8]) -> Option<Note> {
    let lengths = rest.get(..8)?;
    let (key_end, value_end) = (8 + u32_at(lengths, 0) as usize, 8 + u32_at(lengths, 0) as usize + u32_at(lengths, 4) as usize);
    let bytes = rest.split_off(..value_end.next_multiple_of(ALIGN as usize))?;
    Some(Note { key: std::str::from_utf8(&bytes[8..key_end]).ok()?.to_owned(), value: bytes[key_end..value_end].to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> Vec<Record> {
        let part = Part::new;
        let note = |key: &str, value: &[u8]| Note { key: key.to_owned(), value: value.to_vec() };
        let range = Range { file: FileKey([1; 16]), start: 2, end: 3, marker: 4 };
        vec![
            Record::Settled { seqs: 4..5, ranges: vec![], notes: vec![] },
            Record::Settled { seqs: 0..0, ranges: vec![range, range], notes: vec![note("a/b.log", b"123456789"), note("", b"")] },
            Record::Forgotten(FileKey([7; 16])),
            Record::Settled { seqs: 9..12, ranges: vec![range], notes: vec![note("k", b"")] },
            Record::Synced(3..12),
            Record::Cut { seq: 7, cut: Cut { frame: BatchId([9; 16]), from: 0, first: 1, parts: vec![part(0, &[0, 1]), part(1, &[2])] } },
            Record::Cut { seq: 7, cut: Cut { frame: BatchId([9; 16]), from: 2, first: 3, parts: vec![part(77, &[])] } },
        ]
    }

    fn encoded(salt: Salt) -> (Vec<u8>, Vec<usize>) {
        let (mut bytes, mut ends) = (vec![0; 64], vec![64]);
        for record in records() {
            match record {
                Record::Settled { seqs, ranges, notes } => encode_settled(seqs, &ranges, &notes, salt, &mut bytes),
                Record::Forgotten(file) => encode_forgotten(&file, salt, &mut bytes),
                Record::Synced(seqs) => encode_synced(&seqs, salt, &mut bytes),
                Record::Cut { seq, cut } => encode_cut(seq, &cut, salt, &mut bytes),
            }
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    fn decoded(bytes: &[u8], salt: Salt) -> (Vec<Record>, Flaws) {
        let mut found = Vec::new();
        let flaws = decode(bytes, 64, salt, |record| found.push(record));
        (found, flaws)
    }

    #[test]
    fn records_read_back_and_a_torn_end_is_left_out() {
        let salt = Salt::of(&[1; 16]);
        let (bytes, ends) = encoded(salt);
        for len in 64..=bytes.len() {
            let whole = ends.iter().filter(|end| **end <= len).count() - 1;
            assert_eq!(decoded(&bytes[..len], salt), (records()[..whole].to_vec(), Flaws { damaged: false, end: ends[whole] }));
        }
        assert_eq!(decoded(&bytes, Salt::of(&[2; 16])).0, []);
    }

    #[test]
    fn a_flipped_bit_costs_the_record_that_it_is_in_and_no_other() {
        let salt = Salt::of(&[1; 16]);
        let (mut bytes, ends) = encoded(salt);
        for bit in 64 * 8..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            let hit = ends.iter().filter(|end| **end <= bit / 8).count() - 1;
            let mut left = records();
            left.remove(hit);
            let (found, flaws) = decoded(&bytes, salt);
            assert_eq!(found, left, "bit {bit}");
            assert_eq!(flaws.damaged, hit + 1 < records().len());
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
