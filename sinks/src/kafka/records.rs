//! Records as a partition holds them, and the head of a batch of them: Kafka's format of version 2
//! (<https://kafka.apache.org/documentation/#recordbatch>).
//!
//! A body is what a batch has after its head:
//!
//! ```text
//! record:     length varint, attributes u8 (0), time varint, place varint, key, value, count varint, headers
//! key, value: length varint (-1 for none), bytes
//! header:     key, value
//! ```
//!
//! all numbers zigzag. `time` is in milliseconds after the batch's own, which is 0 here, and `place` counts from 0. So a body is
//! whole as soon as it is frozen, and compressed once: the head, which has the partition's matters (who produces, and the number of
//! the batch in the order of that producer), stands before the compressed part and is put there when the batch is sent.

use skidder_pipeline::body::Compression;

/// The length of a batch's head.
pub const BATCH_HEAD_BYTES: usize = 61;

/// What of the head its own length does not count.
const UNCOUNTED_BYTES: usize = 12;

/// Who produces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Producer {
    /// Given by the cluster.
    pub id: i64,
    /// Given with it.
    pub epoch: i16,
}

/// A record to write.
pub struct Record<'a> {
    /// Milliseconds since 1970.
    pub millis: i64,
    /// What decides on the partition, for everyone.
    pub key: Option<&'a [u8]>,
    /// The record itself.
    pub value: &'a [u8],
    /// Its headers.
    pub headers: &'a [(&'a [u8], &'a [u8])],
}

impl Record<'_> {
    /// Appends the record, which is number `place` of its batch.
    pub fn write(&self, place: u32, out: &mut Vec<u8>) {
        let field = |bytes: &[u8]| varint_len(bytes.len() as i64) + bytes.len();
        let headers: usize = self.headers.iter().map(|(name, value)| field(name) + field(value)).sum();
        let len = 1
            + varint_len(self.millis)
            + varint_len(i64::from(place))
            + self.key.map_or(1, field)
            + field(self.value)
            + varint_len(self.headers.len() as i64)
            + headers;
        out.reserve(len + 5);
        varint(len as i64, out);
        out.push(0);
        varint(self.millis, out);
        varint(i64::from(place), out);
        match self.key {
            Some(key) => write_field(key, out),
            None => varint(-1, out),
        }
        write_field(self.value, out);
        varint(self.headers.len() as i64, out);
        for (name, value) in self.headers {
            write_field(name, out);
            write_field(value, out);
        }
    }
}

fn write_field(bytes: &[u8], out: &mut Vec<u8>) {
    varint(bytes.len() as i64, out);
    out.extend_from_slice(bytes);
}

/// A record of a body, read back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Read<'a> {
    /// Milliseconds since 1970.
    pub millis: i64,
    /// Its value.
    pub value: &'a [u8],
    /// All after its place.
    rest: &'a [u8],
}

/// The records of a body; it ends where one is no record.
pub fn read(mut body: &[u8]) -> impl Iterator<Item = Read<'_>> {
    std::iter::from_fn(move || {
        let mut record = field(&mut body)??;
        let (_, after) = record.split_first()?;
        record = after;
        let millis = unvarint(&mut record)?;
        unvarint(&mut record)?;
        let rest = record;
        field(&mut record)?;
        let value = field(&mut record)?.unwrap_or_default();
        Some(Read { millis, value, rest })
    })
}

/// A body of the records that `wanted` lists, in order.
pub fn cut(body: &[u8], wanted: &[u32]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut wanted = wanted.iter().copied().peekable();
    let mut place = 0;
    for (index, record) in (0u32..).zip(read(body)) {
        if wanted.next_if_eq(&index).is_some() {
            let len = 1 + varint_len(record.millis) + varint_len(place) + record.rest.len();
            varint(len as i64, &mut out);
            out.push(0);
            varint(record.millis, &mut out);
            varint(place, &mut out);
            out.extend_from_slice(record.rest);
            place += 1;
        }
    }
    out
}

/// What the head of a batch says of it.
pub struct BatchHead {
    /// How the records are compressed.
    pub compression: Compression,
    /// How many there are.
    pub count: u32,
    /// The latest time of one, in milliseconds since 1970.
    pub max_millis: i64,
    /// Who produces.
    pub producer: Producer,
    /// The number of the first record in the order of the producer, for this partition.
    pub sequence: i32,
}

impl BatchHead {
    /// The head for these records, compressed as they are sent.
    pub fn write(&self, records: &[u8]) -> [u8; BATCH_HEAD_BYTES] {
        let attributes: i16 = match self.compression {
            Compression::None => 0,
            Compression::Gzip => 1,
            Compression::Snappy => 2,
            Compression::Lz4 => 3,
            Compression::Zstd => 4,
        };
        let len = (BATCH_HEAD_BYTES - UNCOUNTED_BYTES + records.len()) as i32;
        let mut out = [0; BATCH_HEAD_BYTES];
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        // The offset of the first record, at 0, is the broker's to give.
        put(8, &len.to_be_bytes());
        put(12, &(-1i32).to_be_bytes());
        put(16, &[2]);
        put(21, &attributes.to_be_bytes());
        put(23, &(self.count as i32 - 1).to_be_bytes());
        // The time at 27, which those of the records count from, is 0.
        put(35, &self.max_millis.to_be_bytes());
        put(43, &self.producer.id.to_be_bytes());
        put(51, &self.producer.epoch.to_be_bytes());
        put(53, &self.sequence.to_be_bytes());
        put(57, &(self.count as i32).to_be_bytes());
        let sum = crc32c::crc32c_append(crc32c::crc32c(&out[21..]), records);
        out[17..21].copy_from_slice(&sum.to_be_bytes());
        out
    }
}

/// The number that comes `count` after `sequence`: beyond the largest it goes on with 0.
pub fn after(sequence: i32, count: u32) -> i32 {
    ((i64::from(sequence) + i64::from(count)) & i64::from(i32::MAX)) as i32
}

/// Kafka's hash of a key, as a number that is not negative: the partition is what is left of it by the count of partitions. The
/// same as its own clients have (`org.apache.kafka.common.utils.Utils.murmur2`), so that records of one key meet whoever sends them.
pub fn hash(key: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut h = 0x9747_b28c_u32 ^ key.len() as u32;
    let (words, rest) = key.as_chunks::<4>();
    for word in words {
        let k = u32::from_le_bytes(*word).wrapping_mul(M);
        h = h.wrapping_mul(M) ^ (k ^ k >> 24).wrapping_mul(M);
    }
    for (index, byte) in rest.iter().enumerate() {
        h ^= u32::from(*byte) << (8 * index);
    }
    if !rest.is_empty() {
        h = h.wrapping_mul(M);
    }
    h = (h ^ h >> 13).wrapping_mul(M);
    (h ^ h >> 15) & 0x7fff_ffff
}

fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63) as u64
}

fn varint_len(value: i64) -> usize {
    let bits = 64 - (zigzag(value) | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

fn varint(value: i64, out: &mut Vec<u8>) {
    let mut rest = zigzag(value);
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn unvarint(bytes: &mut &[u8]) -> Option<i64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    None
}

/// Bytes with their length before them; none where that is -1.
fn field<'a>(bytes: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let len = unvarint(bytes)?;
    if len == -1 {
        return Some(None);
    }
    let (taken, rest) = bytes.split_at_checked(usize::try_from(len).ok()?)?;
    *bytes = rest;
    Some(Some(taken))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_kafkas_own_clients() {
        // Of Kafka's `UtilsTest.testMurmur2`.
        let known: [(&str, i32); 6] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ];
        for (key, expected) in known {
            assert_eq!(hash(key.as_bytes()), expected as u32 & 0x7fff_ffff, "{key}");
        }
    }

    #[test]
    fn numbers_of_all_sizes() {
        let numbers = [0, -1, 1, 63, 64, -64, -65, 8191, 8192, 1_790_928_930_123, i64::MAX, i64::MIN];
        for number in numbers {
            let mut bytes = Vec::new();
            varint(number, &mut bytes);
            assert_eq!(bytes.len(), varint_len(number), "{number}");
            assert_eq!(unvarint(&mut &bytes[..]), Some(number));
            assert_eq!(unvarint(&mut &bytes[..bytes.len() - 1]), None);
        }
        assert_eq!(unvarint(&mut &[0xff; 11][..]), None, "longer than any number");
    }

    fn body(values: &[&str]) -> Vec<u8> {
        let mut out = Vec::new();
        for (place, value) in (0..).zip(values) {
            let headers: [(&[u8], &[u8]); 1] = [(b"id", b"x")];
            let key = (!value.is_empty()).then_some(&b"key"[..]);
            Record { millis: 1_790_928_930_123 + i64::from(place), key, value: value.as_bytes(), headers: &headers }.write(place, &mut out);
        }
        out
    }

    #[test]
    fn a_cut_body_is_one_that_was_written_so() {
        let long = "long ".repeat(100);
        let values = ["a", "", &long, "d"];
        let whole = body(&values);
        assert_eq!(read(&whole).map(|record| record.value.to_vec()).collect::<Vec<_>>(), values.map(|value| value.as_bytes().to_vec()));
        assert_eq!(cut(&whole, &[0, 1, 2, 3]), whole);
        let part = cut(&whole, &[1, 3]);
        let (first, second) = (read(&part).next(), read(&part).nth(1));
        assert_eq!((first, second), (read(&whole).nth(1), read(&whole).nth(3)));
        assert_eq!(cut(&whole, &[]), b"");
        assert_eq!(read(&whole[..whole.len() - 1]).count(), 3, "what is cut off is no record");
    }

    #[test]
    fn the_head_of_a_batch_and_its_checksum() {
        let records = body(&["a", "b"]);
        let producer = Producer { id: 4711, epoch: 3 };
        let head = BatchHead { compression: Compression::Zstd, count: 2, max_millis: 5, producer, sequence: 9 }.write(&records);
        let number = |range: std::ops::Range<usize>| head[range].iter().fold(0i64, |sum, byte| sum << 8 | i64::from(*byte));
        assert_eq!((number(8..12), head[16], number(21..23)), (49 + records.len() as i64, 2, 4));
        assert_eq!((number(23..27), number(35..43), number(43..51), number(51..53), number(53..57), number(57..61)), (1, 5, 4711, 3, 9, 2));
        let all = [&head[21..], &records].concat();
        assert_eq!(number(17..21), i64::from(crc32c::crc32c(&all)));
    }

    #[test]
    fn sequences_begin_again_after_the_largest() {
        assert_eq!((after(5, 3), after(i32::MAX, 1), after(i32::MAX - 1, 3)), (8, 0, 1));
    }
}
