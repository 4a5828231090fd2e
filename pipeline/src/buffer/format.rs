//! The bytes on disk: the header of a file, and frames in a segment. (The records of the log of positions:
//! [`super::log`].)
//!
//! All numbers are little-endian. All checksums are CRC-32C (RFC 3720, appendix B.4); those called *salted* are taken
//! over the 16 bytes of the epoch of the state directory, as it stands in the file's header, followed by what they
//! cover. The epoch is random and known to this agent alone, so that a pod which logs bytes that look like a frame
//! cannot make them pass for one when damage lays them open.

use std::ops::Range as Indices;
use std::sync::Arc;

use crate::body::Compression;
use crate::frame::{BatchId, Header};
use crate::fs::{File, read_exact_at};
use crate::position::{FileKey, Range};

/// The layout that this code writes. A file of a larger major version is not read; of a larger minor one it is.
pub(super) const MAJOR: u16 = 1;
const MINOR: u16 = 0;

/// How long the header of a file is, in this version.
pub(super) const FILE_HEADER_BYTES: u64 = 64;

/// The longest header of a file that a later minor version may write.
const MAX_FILE_HEADER_BYTES: u64 = 4096;

/// Frames and records begin at multiples of this.
pub(super) const ALIGN: u64 = 8;

/// What a file is, by its first eight bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// `SKIDSEG` and a zero byte.
    Segment,
    /// `SKIDPOS` and a zero byte.
    Positions,
}

impl Kind {
    fn magic(self) -> &'static [u8; 8] {
        match self {
            Kind::Segment => b"SKIDSEG\0",
            Kind::Positions => b"SKIDPOS\0",
        }
    }
}

/// The header of a segment or of the log of positions.
///
/// | offset | bytes | |
/// |---|---|---|
/// | 0 | 8 | what the file is: [`Kind`] |
/// | 8 | 2 | major version, 1 |
/// | 10 | 2 | minor version, 0 |
/// | 12 | 4 | length of this header, 64; a later minor version may put more before the checksum |
/// | 16 | 8 | the first 8 bytes of the SHA-256 of the name of the sink's directory |
/// | 24 | 16 | epoch of the state directory |
/// | 40 | 8 | segment: number of its first frame; log of positions: from which number frames were given since the last opening |
/// | 48 | 4 | flags, 0 |
/// | 52 | 8 | 0 |
/// | 60 | 4 | checksum of all before (not salted); always the last 4 bytes of the header, in all versions |
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct FileHeader {
    pub kind: Kind,
    pub major: u16,
    pub len: u64,
    pub sink: u64,
    pub epoch: [u8; 16],
    pub first_seq: u64,
}

impl FileHeader {
    /// The header of a new file.
    pub fn new(kind: Kind, sink: u64, epoch: [u8; 16], first_seq: u64) -> FileHeader {
        FileHeader { kind, major: MAJOR, len: FILE_HEADER_BYTES, sink, epoch, first_seq }
    }

    /// Its bytes.
    pub fn encode(&self) -> [u8; FILE_HEADER_BYTES as usize] {
        let mut bytes = [0; FILE_HEADER_BYTES as usize];
        bytes[..8].copy_from_slice(self.kind.magic());
        bytes[8..10].copy_from_slice(&self.major.to_le_bytes());
        bytes[10..12].copy_from_slice(&MINOR.to_le_bytes());
        bytes[12..16].copy_from_slice(&(FILE_HEADER_BYTES as u32).to_le_bytes());
        bytes[16..24].copy_from_slice(&self.sink.to_le_bytes());
        bytes[24..40].copy_from_slice(&self.epoch);
        bytes[40..48].copy_from_slice(&self.first_seq.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads the header of `file`, which has `size` bytes; `None` if it is not there or damaged.
    pub fn read(kind: Kind, file: &dyn File, size: u64) -> Option<FileHeader> {
        let mut bytes = vec![0; FILE_HEADER_BYTES.min(size) as usize];
        read_exact_at(file, &mut bytes, 0).ok()?;
        let len = u64::from(u32_at(bytes.get(12..16)?, 0));
        if len > FILE_HEADER_BYTES {
            bytes.resize(len.min(MAX_FILE_HEADER_BYTES).min(size) as usize, 0);
            read_exact_at(file, &mut bytes, 0).ok()?;
        }
        FileHeader::decode(kind, &bytes)
    }

    /// Reads the header at the beginning of `bytes`; `None` if it is not there or damaged. Of a newer major version only
    /// [`FileHeader::major`] has a meaning.
    pub fn decode(kind: Kind, bytes: &[u8]) -> Option<FileHeader> {
        let fields = bytes.get(..FILE_HEADER_BYTES as usize)?;
        let len = u64::from(u32_at(fields, 12));
        if &fields[..8] != kind.magic() || !(FILE_HEADER_BYTES..=MAX_FILE_HEADER_BYTES).contains(&len) || !len.is_multiple_of(ALIGN) {
            return None;
        }
        let (covered, crc) = bytes.get(..len as usize)?.split_at(len as usize - 4);
        if crc32c::crc32c(covered) != u32_at(crc, 0) {
            return None;
        }
        let (mut epoch, major) = ([0; 16], u16_at(fields, 8));
        epoch.copy_from_slice(&fields[24..40]);
        Some(FileHeader { kind, major, len, sink: u64_at(fields, 16), epoch, first_seq: u64_at(fields, 40) })
    }
}

/// The epoch as the beginning of salted checksums.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Salt(u32);

impl Salt {
    /// The salt that `epoch` gives.
    pub fn of(epoch: &[u8; 16]) -> Salt {
        Salt(crc32c::crc32c(epoch))
    }

    /// The salted checksum of `bytes`.
    pub fn crc(self, bytes: &[u8]) -> u32 {
        crc32c::crc32c_append(self.0, bytes)
    }
}

/// How long the fixed part of a frame's header is.
pub(super) const FIXED_BYTES: usize = 80;

/// The shortest frame: it bounds how many frames a damaged stretch can have held.
pub(super) const MIN_FRAME_BYTES: u64 = FIXED_BYTES as u64 + 8;

/// How a frame begins: `SKFR`.
pub(super) const FRAME_MAGIC: [u8; 4] = *b"SKFR";

const RANGE_BYTES: usize = 40;

/// The fixed part of a frame in a segment.
///
/// A frame begins at a multiple of 8 and is
///
/// | offset | bytes | |
/// |---|---|---|
/// | 0 | 4 | `SKFR` |
/// | 4 | 4 | length *h* of the header, a multiple of 8 |
/// | 8 | 1 | version of the frame, 1 |
/// | 9 | 1 | compression of the body: 0 none, 1 gzip, 2 Zstandard, 3 Snappy, 4 LZ4 |
/// | 10 | 2 | flags, 0 |
/// | 12 | 4 | number of records |
/// | 16 | 8 | number of the frame (seq) |
/// | 24 | 16 | batch id |
/// | 40 | 2 | place in its group, from 0 |
/// | 42 | 2 | frames in its group |
/// | 44 | 4 | checksum of the body (not salted) |
/// | 48 | 8 | length of the body before compression |
/// | 56 | 8 | length *b* of the body |
/// | 64 | 4 | length *d* of the destination |
/// | 68 | 4 | number *r* of ranges |
/// | 72 | 4 | 0 |
/// | 76 | 4 | salted checksum of the 76 bytes before |
/// | 80 | *d* | destination, UTF-8, then zero bytes to a multiple of 8 |
/// | … | 40 *r* | ranges: file key 16, start 8, end 8, marker 8 |
/// | *h* − 8 | 4 | 0; a later minor version may put more before it |
/// | *h* − 4 | 4 | salted checksum of all of the header before |
/// | *h* | *b* | body, then zero bytes to a multiple of 8 |
///
/// The fixed part has a checksum of its own so that a search for the next frame decides by 80 bytes, and so that a frame
/// whose ranges are damaged can still be counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Fixed {
    pub header_len: u64,
    pub compression: Compression,
    pub records: u32,
    pub seq: u64,
    pub id: BatchId,
    pub group_index: u16,
    pub group_len: u16,
    pub body_crc: u32,
    pub raw_bytes: u64,
    pub body_len: u64,
    pub destination_len: u32,
    pub ranges: u32,
}

impl Fixed {
    /// Reads it; `None` if it is damaged or no frame at all.
    pub fn decode(bytes: &[u8; FIXED_BYTES], salt: Salt) -> Option<Fixed> {
        if bytes[..4] != FRAME_MAGIC || salt.crc(&bytes[..76]) != u32_at(bytes, 76) || bytes[8] != 1 {
            return None;
        }
        let compression = match bytes[9] {
            0 => Compression::None,
            1 => Compression::Gzip,
            2 => Compression::Zstd,
            3 => Compression::Snappy,
            4 => Compression::Lz4,
            _ => return None,
        };
        let mut id = [0; 16];
        id.copy_from_slice(&bytes[24..40]);
        let fixed = Fixed {
            header_len: u64::from(u32_at(bytes, 4)),
            compression,
            records: u32_at(bytes, 12),
            seq: u64_at(bytes, 16),
            id: BatchId(id),
            group_index: u16_at(bytes, 40),
            group_len: u16_at(bytes, 42),
            body_crc: u32_at(bytes, 44),
            raw_bytes: u64_at(bytes, 48),
            body_len: u64_at(bytes, 56),
            destination_len: u32_at(bytes, 64),
            ranges: u32_at(bytes, 68),
        };
        let fits = fixed.header_len >= header_bytes(u64::from(fixed.destination_len), u64::from(fixed.ranges))
            && fixed.header_len.is_multiple_of(ALIGN)
            && fixed.body_len < 1 << 40
            && fixed.group_index < fixed.group_len
            && fixed.seq >= u64::from(fixed.group_index);
        fits.then_some(fixed)
    }

    /// The length of the whole frame, up to where the next one begins.
    pub fn frame_len(&self) -> u64 {
        self.header_len + self.body_len.next_multiple_of(ALIGN)
    }

    /// The numbers of its group's frames.
    pub fn group(&self) -> Indices<u64> {
        let first = self.seq - u64::from(self.group_index);
        first..first + u64::from(self.group_len)
    }

    /// Whether it is the last of its group: the one with the ranges.
    pub fn ends_group(&self) -> bool {
        self.group_index + 1 == self.group_len
    }

    /// Reads the whole header, of which `bytes` are all; `None` if it is damaged.
    pub fn header(&self, bytes: &[u8], salt: Salt) -> Option<Header> {
        let (covered, crc) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
        if salt.crc(covered) != u32_at(crc, 0) {
            return None;
        }
        let mut at = FIXED_BYTES + self.destination_len as usize;
        let destination: Arc<str> = std::str::from_utf8(bytes.get(FIXED_BYTES..at)?).ok()?.into();
        at = at.next_multiple_of(ALIGN as usize);
        let ranges = bytes.get(at..at + self.ranges as usize * RANGE_BYTES)?.chunks_exact(RANGE_BYTES).map(decode_range).collect();
        Some(Header {
            seq: self.seq,
            id: self.id,
            group_index: self.group_index,
            group_len: self.group_len,
            records: self.records,
            raw_bytes: self.raw_bytes,
            compression: self.compression,
            destination,
            ranges,
        })
    }
}

/// Appends the header of the frame that is to be number `seq`; gives back the length of the whole frame.
pub(super) fn encode_header(header: &Header, seq: u64, body: &[u8], salt: Salt, out: &mut Vec<u8>) -> u64 {
    let start = out.len();
    let header_len = header_bytes(header.destination.len() as u64, header.ranges.len() as u64);
    out.reserve(header_len as usize);
    out.extend_from_slice(&FRAME_MAGIC);
    out.extend_from_slice(&(header_len as u32).to_le_bytes());
    let compression = match header.compression {
        Compression::None => 0,
        Compression::Gzip => 1,
        Compression::Zstd => 2,
        Compression::Snappy => 3,
        Compression::Lz4 => 4,
    };
    out.extend_from_slice(&[1, compression, 0, 0]);
    out.extend_from_slice(&header.records.to_le_bytes());
    out.extend_from_slice(&seq.to_le_bytes());
    out.extend_from_slice(&header.id.0);
    out.extend_from_slice(&header.group_index.to_le_bytes());
    out.extend_from_slice(&header.group_len.to_le_bytes());
    out.extend_from_slice(&crc32c::crc32c(body).to_le_bytes());
    out.extend_from_slice(&header.raw_bytes.to_le_bytes());
    out.extend_from_slice(&(body.len() as u64).to_le_bytes());
    out.extend_from_slice(&(header.destination.len() as u32).to_le_bytes());
    out.extend_from_slice(&(header.ranges.len() as u32).to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&salt.crc(&out[start..]).to_le_bytes());
    out.extend_from_slice(header.destination.as_bytes());
    pad(start, out);
    header.ranges.iter().for_each(|range| encode_range(range, out));
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&salt.crc(&out[start..]).to_le_bytes());
    header_len + (body.len() as u64).next_multiple_of(ALIGN)
}

/// The length of a frame on disk.
pub(super) fn frame_bytes(header: &Header, body_len: usize) -> u64 {
    header_bytes(header.destination.len() as u64, header.ranges.len() as u64) + (body_len as u64).next_multiple_of(ALIGN)
}

fn header_bytes(destination_len: u64, ranges: u64) -> u64 {
    FIXED_BYTES as u64 + destination_len.next_multiple_of(ALIGN) + ranges * RANGE_BYTES as u64 + 8
}

/// Appends a range: 40 bytes.
pub(super) fn encode_range(range: &Range, out: &mut Vec<u8>) {
    out.extend_from_slice(&range.file.0);
    out.extend_from_slice(&range.start.to_le_bytes());
    out.extend_from_slice(&range.end.to_le_bytes());
    out.extend_from_slice(&range.marker.to_le_bytes());
}

/// Reads a range from its 40 bytes.
pub(super) fn decode_range(bytes: &[u8]) -> Range {
    let mut file = [0; 16];
    file.copy_from_slice(&bytes[..16]);
    Range { file: FileKey(file), start: u64_at(bytes, 16), end: u64_at(bytes, 24), marker: u64_at(bytes, 32) }
}

/// Appends zero bytes until a multiple of [`ALIGN`] after `start`.
pub(super) fn pad(start: usize, out: &mut Vec<u8>) {
    let len = (out.len() - start).next_multiple_of(ALIGN as usize);
    out.resize(start + len, 0);
}

/// The number at `at`, which the caller knows to be within `bytes`.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// The number at `at`, which the caller knows to be within `bytes`.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

/// The number at `at`, which the caller knows to be within `bytes`.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn header(destination: &str, ranges: usize) -> Header {
        let range = |i: usize| Range { file: FileKey([i as u8; 16]), start: i as u64, end: i as u64 + 10, marker: 7 };
        Header {
            seq: 0,
            id: BatchId([9; 16]),
            group_index: 1,
            group_len: 3,
            records: 12,
            raw_bytes: 3456,
            compression: Compression::Zstd,
            destination: destination.into(),
            ranges: (0..ranges).map(range).collect(),
        }
    }

    #[test]
    fn a_frame_reads_back_and_no_flipped_bit_of_its_header_goes_unseen() {
        let salt = Salt::of(&[5; 16]);
        for (destination, ranges) in [("", 0), ("logs-2026", 2), ("12345678", 1)] {
            let (written, mut bytes) = (header(destination, ranges), Vec::new());
            let len = encode_header(&written, 77, b"body", salt, &mut bytes);
            assert_eq!(len, frame_bytes(&written, 4));
            let read = |bytes: &[u8]| {
                let fixed = Fixed::decode(bytes.first_chunk()?, salt)?;
                assert_eq!(fixed.group(), 76..79);
                fixed.header(bytes.get(..fixed.header_len as usize)?, salt)
            };
            assert_eq!(read(&bytes), Some(Header { seq: 77, ..written }));
            for bit in 0..bytes.len() * 8 {
                bytes[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(read(&bytes), None);
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
            assert!(Fixed::decode(bytes.first_chunk().unwrap(), Salt::of(&[6; 16])).is_none());
        }
    }

    #[test]
    fn a_file_header_reads_back_and_no_flipped_bit_goes_unseen() {
        let written = FileHeader::new(Kind::Positions, 1, [3; 16], 99);
        let mut bytes = written.encode();
        assert_eq!(FileHeader::decode(Kind::Positions, &bytes), Some(written));
        assert_eq!(FileHeader::decode(Kind::Segment, &bytes), None);
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(FileHeader::decode(Kind::Positions, &bytes), None);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
