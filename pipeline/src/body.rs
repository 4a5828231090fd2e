//! Bodies: what a sink will send, while records are still being written into it.

use std::io::{Read, Write};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::edge::Nanos;

/// How a body is compressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// gzip (RFC 1952), level 1.
    Gzip,
    /// Zstandard (RFC 8878), level 1.
    Zstd,
    /// Snappy's block format (google/snappy, `format_description.txt`), for stores that take nothing else: not to be chosen.
    #[serde(skip)]
    Snappy,
    /// LZ4's frame format (lz4/lz4, `lz4_Frame_format.md`) of blocks that do not refer to each other, as Kafka wants it: chosen by
    /// the sinks whose stores take it.
    #[serde(skip)]
    Lz4,
}

/// When a sink's bodies are frozen and sent.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimits {
    /// As soon as one body holds this many bytes before compression.
    pub max_bytes: usize,
    /// As soon as all bodies together hold this many records.
    pub max_records: u32,
    /// This long after the first record was written.
    pub linger: std::time::Duration,
    /// As soon as more destinations than this have an open body.
    pub max_open: usize,
}

/// The open bodies of one sink, one a destination, frozen together as a group.
pub struct Bodies {
    compression: Compression,
    limits: BodyLimits,
    /// What all bodies together hold before compression when they are frozen.
    max_all_bytes: u64,
    open: Vec<Body>,
    records: u32,
    /// When the first record of the group was written.
    opened_at: Option<Nanos>,
    now: Nanos,
}

impl Bodies {
    /// The most that all bodies together may hold, in times of what one may: what more destinations need beyond that is
    /// frozen sooner.
    pub const MOST_FULL: u64 = 8;

    /// No open bodies.
    pub fn new(compression: Compression, limits: BodyLimits) -> Bodies {
        let max_all_bytes = Bodies::MOST_FULL * limits.max_bytes as u64;
        Bodies { compression, limits, max_all_bytes, open: Vec::new(), records: 0, opened_at: None, now: Nanos(0) }
    }

    /// The same, frozen as soon as all of them together hold `bytes` bytes before compression: so the number of destinations
    /// does not decide how much memory they take.
    #[must_use]
    pub fn at_most(self, bytes: u64) -> Bodies {
        Bodies { max_all_bytes: bytes, ..self }
    }

    /// The time that bodies opened from now on are given (monotonic).
    pub fn set_now(&mut self, now: Nanos) {
        self.now = now;
    }

    pub(crate) fn now(&self) -> Nanos {
        self.now
    }

    /// Writes `records` records, encoded as `encoded`, into the body for `destination` (an index, a path, a tenant; empty
    /// for a sink that has just one).
    ///
    /// Call it once for a batch and destination: compressors like large pieces. A sink whose requests must be small calls it with
    /// pieces of a batch: what comes after a full body goes into a further one for the same destination.
    pub fn write(&mut self, destination: &str, encoded: &[u8], records: u32) {
        if records == 0 {
            return;
        }
        self.opened_at.get_or_insert(self.now);
        self.records += records;
        // The newest of a destination is the last; those before it are full.
        let newest = self.open.iter().rposition(|body| *body.destination == *destination);
        let index = match newest.filter(|index| self.open[*index].raw_bytes < self.limits.max_bytes as u64) {
            Some(index) => index,
            None => {
                self.open.push(Body::new(destination.into(), self.compression));
                self.open.len() - 1
            }
        };
        self.open[index].write(encoded, records);
    }

    /// Whether a limit is reached, so that the bodies should be frozen now.
    pub fn is_due(&self, now: Nanos) -> bool {
        self.records >= self.limits.max_records
            || self.open.len() > self.limits.max_open
            || self.open.iter().any(|body| body.raw_bytes >= self.limits.max_bytes as u64)
            || self.open.iter().map(|body| body.raw_bytes).sum::<u64>() >= self.max_all_bytes
            || self.due_at().is_some_and(|at| at <= now)
    }

    /// When the oldest record has lingered long enough; `None` where nothing is open.
    pub fn due_at(&self) -> Option<Nanos> {
        self.opened_at.map(|at| at.after(self.limits.linger))
    }

    /// Whether a body for `destination` is open: a format with a head writes it where none is.
    pub fn is_open(&self, destination: &str) -> bool {
        self.open.iter().any(|body| *body.destination == *destination)
    }

    /// How many records the open body for `destination` holds; 0 where none is open: for formats that number them.
    pub fn records_in(&self, destination: &str) -> u32 {
        self.open.iter().rfind(|body| *body.destination == *destination).map_or(0, |body| body.records)
    }

    /// Whether nothing is open.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Takes all bodies out, finished.
    pub(crate) fn take(&mut self) -> Vec<FinishedBody> {
        self.records = 0;
        self.opened_at = None;
        self.open.drain(..).map(Body::finish).collect()
    }
}

/// A body with all its records, compressed, ready to be frozen.
pub(crate) struct FinishedBody {
    pub destination: Arc<str>,
    pub compression: Compression,
    pub bytes: Vec<u8>,
    pub raw_bytes: u64,
    pub records: u32,
}

struct Body {
    destination: Arc<str>,
    writer: Writer,
    raw_bytes: u64,
    records: u32,
}

enum Writer {
    None(Vec<u8>),
    Gzip(flate2::write::GzEncoder<Vec<u8>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
    Snappy(Box<SnappyWriter>),
    Lz4(Box<lz4_flex::frame::FrameEncoder<Vec<u8>>>),
}

/// Writes Snappy's block format piece by piece. A block is the length of the whole as a varint and then elements, of which none
/// refers back further than 64 KiB; pieces that were compressed each for itself are one block when their lengths are taken off
/// and the sum put before them.
struct SnappyWriter {
    encoder: snap::raw::Encoder,
    /// Elements, without the length.
    out: Vec<u8>,
    scratch: Vec<u8>,
    raw_bytes: u64,
}

impl SnappyWriter {
    /// Pieces are compressed in parts of this size: what the format's own window is, and a bound on scratch.
    const PIECE_BYTES: usize = 64 << 10;

    fn new() -> SnappyWriter {
        SnappyWriter { encoder: snap::raw::Encoder::new(), out: Vec::new(), scratch: Vec::new(), raw_bytes: 0 }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), snap::Error> {
        for piece in bytes.chunks(SnappyWriter::PIECE_BYTES) {
            self.scratch.resize(snap::raw::max_compress_len(piece.len()), 0);
            let len = self.encoder.compress(piece, &mut self.scratch)?;
            // A varint ends with the first byte below 128.
            let start = self.scratch.iter().position(|byte| *byte < 0x80).map_or(0, |last| last + 1);
            self.out.extend_from_slice(&self.scratch[start..len]);
            self.raw_bytes += piece.len() as u64;
        }
        Ok(())
    }

    fn finish(self) -> Vec<u8> {
        let mut block = Vec::with_capacity(self.out.len() + 5);
        let mut len = self.raw_bytes;
        while len >= 0x80 {
            block.push(len as u8 | 0x80);
            len >>= 7;
        }
        block.push(len as u8);
        block.extend_from_slice(&self.out);
        block
    }
}

/// Blocks of 64 KiB, the least there are, that do not refer to each other: Kafka's own reader takes no others.
fn lz4_frame() -> lz4_flex::frame::FrameInfo {
    let independent = lz4_flex::frame::BlockMode::Independent;
    lz4_flex::frame::FrameInfo::new().block_size(lz4_flex::frame::BlockSize::Max64KB).block_mode(independent)
}

/// Snappy allocates what the block says it holds: so that is looked at first.
fn decompress_snappy(body: &[u8], raw_bytes: u64) -> std::io::Result<Vec<u8>> {
    let len = snap::raw::decompress_len(body).map_err(std::io::Error::other)?;
    if len as u64 != raw_bytes {
        return Ok(Vec::new());
    }
    snap::raw::Decoder::new().decompress_vec(body).map_err(std::io::Error::other)
}

impl Body {
    fn new(destination: Arc<str>, compression: Compression) -> Body {
        Body { destination, writer: Writer::new(compression), raw_bytes: 0, records: 0 }
    }

    fn write(&mut self, encoded: &[u8], records: u32) {
        self.writer.write(encoded);
        self.raw_bytes += encoded.len() as u64;
        self.records += records;
    }

    fn finish(self) -> FinishedBody {
        let (compression, bytes) = self.writer.finish();
        FinishedBody { destination: self.destination, compression, bytes, raw_bytes: self.raw_bytes, records: self.records }
    }
}

/// Compresses `body` as [`Bodies`] would; for the parts that a sink cuts out of a frame.
pub fn compress(compression: Compression, body: &[u8]) -> Vec<u8> {
    let mut writer = Writer::new(compression);
    writer.write(body);
    writer.finish().1
}

/// The body as it was before compression, for cutting parts out of a frame and for dead letters.
///
/// `raw_bytes` is what the frame says it holds; more than that is an error and not an allocation.
pub fn decompress(compression: Compression, body: &[u8], raw_bytes: u64) -> std::io::Result<Vec<u8>> {
    let mut raw = Vec::with_capacity(usize::try_from(raw_bytes).unwrap_or(0).min(body.len().saturating_mul(64)));
    let limit = raw_bytes.saturating_add(1);
    match compression {
        Compression::None => body.take(limit).read_to_end(&mut raw)?,
        Compression::Gzip => flate2::read::MultiGzDecoder::new(body).take(limit).read_to_end(&mut raw)?,
        Compression::Zstd => zstd::stream::read::Decoder::with_buffer(body)?.take(limit).read_to_end(&mut raw)?,
        Compression::Snappy => {
            raw = decompress_snappy(body, raw_bytes)?;
            raw.len()
        }
        Compression::Lz4 => lz4_flex::frame::FrameDecoder::new(body).take(limit).read_to_end(&mut raw)?,
    };
    if raw.len() as u64 != raw_bytes {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "a body does not have the length that its frame says"));
    }
    Ok(raw)
}

const INTO_MEMORY: &str = "compressing into memory has no I/O that could fail";

#[expect(clippy::expect_used, reason = "writes into a Vec; see INTO_MEMORY")]
impl Writer {
    fn new(compression: Compression) -> Writer {
        match compression {
            Compression::None => Writer::None(Vec::new()),
            // Level 1: level 3 costs half as much again for a few percent fewer bytes, level 6 four times as much.
            Compression::Gzip => Writer::Gzip(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(1))),
            Compression::Zstd => Writer::Zstd(zstd::stream::write::Encoder::new(Vec::new(), 1).expect(INTO_MEMORY)),
            Compression::Snappy => Writer::Snappy(Box::new(SnappyWriter::new())),
            Compression::Lz4 => Writer::Lz4(Box::new(lz4_flex::frame::FrameEncoder::with_frame_info(lz4_frame(), Vec::new()))),
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        match self {
            Writer::None(out) => out.extend_from_slice(bytes),
            Writer::Gzip(out) => out.write_all(bytes).expect(INTO_MEMORY),
            Writer::Zstd(out) => out.write_all(bytes).expect(INTO_MEMORY),
            Writer::Snappy(out) => out.write(bytes).expect(INTO_MEMORY),
            Writer::Lz4(out) => out.write_all(bytes).expect(INTO_MEMORY),
        }
    }

    fn finish(self) -> (Compression, Vec<u8>) {
        match self {
            Writer::None(out) => (Compression::None, out),
            Writer::Gzip(out) => (Compression::Gzip, out.finish().expect(INTO_MEMORY)),
            Writer::Zstd(out) => (Compression::Zstd, out.finish().expect(INTO_MEMORY)),
            Writer::Snappy(out) => (Compression::Snappy, out.finish()),
            Writer::Lz4(out) => (Compression::Lz4, out.finish().expect(INTO_MEMORY)),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_sink_of_one_destination_gathers_until_a_limit_is_reached() {
        let limits = BodyLimits { max_bytes: 10, max_records: 100, linger: std::time::Duration::from_secs(1), max_open: 1 };
        let mut bodies = Bodies::new(Compression::None, limits);
        bodies.write("", b"abcd", 1);
        bodies.write("", b"efgh", 1);
        assert!(!bodies.is_due(Nanos(0)), "neither full nor old");
        bodies.write("", b"ij", 1);
        assert!(bodies.is_due(Nanos(0)), "full");
        bodies.take();
        bodies.write("", b"abcd", 1);
        assert!(bodies.is_due(Nanos(1_000_000_000)), "old");
        bodies.write("other", b"a", 1);
        assert!(bodies.is_due(Nanos(0)), "more destinations than may be open");
    }

    #[test]
    fn decompress_gives_back_what_compress_took() {
        let body = b"{\"message\":\"a\"}\n".repeat(1000);
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd, Compression::Snappy, Compression::Lz4] {
            let small = compress(compression, &body);
            assert_eq!(decompress(compression, &small, body.len() as u64).unwrap(), body);
            assert!(decompress(compression, &small, body.len() as u64 - 1).is_err(), "{compression:?}: longer than said");
            assert!(decompress(compression, &small, body.len() as u64 + 1).is_err(), "{compression:?}: shorter than said");
        }
        assert!(decompress(Compression::Gzip, b"no gzip", 7).is_err());
        assert!(decompress(Compression::Zstd, b"no zstd", 7).is_err());
        assert!(decompress(Compression::Snappy, b"\x07no snap", 7).is_err());
        assert!(decompress(Compression::Lz4, b"no lz4", 7).is_err());
        // A block that says it holds 4 GiB.
        assert!(decompress(Compression::Snappy, b"\xff\xff\xff\xff\x0f\0a", 7).is_err());
    }

    #[test]
    fn pieces_beyond_a_full_body_go_into_a_further_one() {
        let limits = BodyLimits { max_bytes: 10, max_records: 1000, linger: std::time::Duration::from_secs(1), max_open: 100 };
        let mut bodies = Bodies::new(Compression::None, limits);
        for (destination, piece) in [("a", "aaaaaaa"), ("b", "bbb"), ("a", "aaaa"), ("a", "AAA"), ("b", "b"), ("a", "A")] {
            bodies.write(destination, piece.as_bytes(), 1);
        }
        let taken: Vec<(String, u32)> =
            bodies.take().into_iter().map(|body| (String::from_utf8(body.bytes).unwrap(), body.records)).collect();
        assert_eq!(taken, [("aaaaaaaaaaa".to_owned(), 2), ("bbbb".to_owned(), 2), ("AAAA".to_owned(), 2)]);
    }

    #[test]
    fn snappy_in_pieces_is_one_block() {
        let mut writer = Writer::new(Compression::Snappy);
        let mut all = Vec::new();
        for (i, len) in [1, 0, 5, 127, 128, 70_000, 65_536, 200_001].into_iter().enumerate() {
            let piece: Vec<u8> = (0..len).map(|at| (at % (i + 3)) as u8).collect();
            writer.write(&piece);
            all.extend_from_slice(&piece);
        }
        let (_, block) = writer.finish();
        assert!(block.len() < all.len() / 4);
        assert_eq!(snap::raw::Decoder::new().decompress_vec(&block).unwrap(), all);
        assert_eq!(compress(Compression::Snappy, b""), [0]);
    }
}
