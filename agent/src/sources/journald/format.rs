//! A journal file, as systemd-journald writes it, read with plain reads.
//!
//! The format is systemd's (docs/JOURNAL_FILE_FORMAT.md there, and src/libsystemd/sd-journal/journal-def.h). All numbers are
//! little-endian; objects start at multiples of eight bytes. What is used of it:
//!
//! ```text
//! header   0 signature "LPKSHHRH" · 12 incompatible flags (4) · 16 state (1) · 24 file id (16) · 72 seqnum id (16)
//!          · 88 header size (8) · 136 offset of the last object (8) · 152 entries (8) · 160 last seqnum (8)
//!          · 168 first seqnum (8) · 176 first entry array (8) · 184 time of the first entry (8)
//! object   0 type (1) · 1 flags (1) · 8 size with this head (8)
//! array    object, 16 next array (8) · 24 offsets of entries (8 each; 4 in the compact form)
//! entry    object, 16 seqnum (8) · 24 realtime µs (8) · 32 monotonic µs (8) · 40 boot id (16) · 56 hash (8)
//!          · 64 offsets of data (8 and a hash of 8 each; 4 in the compact form)
//! data     object, 16 links of the hash table (48) · 64 (72 in the compact form) `NAME=value`, perhaps compressed
//! ```
//!
//! journald writes by way of a shared mapping, which plain reads see at once. It appends an entry's objects first, then puts
//! the entry into the array and then counts it, so all that the count covers is there. A file of a machine that lost its
//! power may hold anything: whatever is out of bounds or of another type is a fault of that entry, never of the agent.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::super::identity::read_full;

/// `HEADER_INCOMPATIBLE_*`: the three compressions, keyed hashes, the compact form.
const KNOWN_FLAGS: u32 = 0b1_1111;
const COMPACT: u32 = 1 << 4;
/// The state of a file that nothing is added to any more.
const ARCHIVED: u8 = 2;

const DATA: u8 = 1;
const ENTRY: u8 = 3;
const ENTRY_ARRAY: u8 = 6;

const XZ: u8 = 1;
const LZ4: u8 = 2;
const ZSTD: u8 = 4;

/// What an entry takes of a file at least: its own object, and its place in an array.
const MIN_ENTRY_BYTES: u64 = 68;
/// journald takes 1,024 fields in an entry.
const MAX_ITEMS: usize = 4096;
/// How many offsets of entries are read at once.
const BLOCK_ITEMS: u64 = 512;
/// One read gets most objects whole.
const FIRST_READ_BYTES: usize = 512;
/// Fields that recur (names of hosts, units, programs) stand once in a file, and are short.
const MAX_CACHED_BYTES: usize = 256;
const MAX_CACHED: usize = 4096;
/// The largest window that a compressed field may ask for: journald's is 2 MiB.
const MAX_WINDOW_LOG: u32 = 23;
/// LZ4 blocks cannot be decompressed piecewise; a longer field is left out.
const MAX_LZ4_BYTES: u64 = 4 << 20;
/// How much of a compressed field is decompressed just to say how long it is.
const MAX_COUNTED_BYTES: u64 = 16 << 20;

/// Why something of a journal cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// The system said no.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// There are fewer entries than the header counts: none from this one on.
    #[error("it has fewer entries than it says")]
    Short,
    /// It is not what the format says.
    #[error("{0}")]
    Damaged(&'static str),
}

/// What the header says, at the moment of reading.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    /// Random, kept when the file is renamed.
    pub file_id: [u8; 16],
    /// Whose sequence numbers the entries have: shared by the files that one journald writes.
    pub seqnum_id: [u8; 16],
    pub archived: bool,
    pub entries: u64,
    pub first_seqnum: u64,
    pub last_seqnum: u64,
    /// When its first entry was written, in microseconds since 1970.
    pub first_realtime: u64,
    compact: bool,
    first_array: u64,
}

impl Header {
    /// Reads it.
    pub(super) fn read(file: &File) -> Result<Header, Fault> {
        let mut bytes = [0; 192];
        file.read_exact_at(&mut bytes, 0)?;
        if &bytes[..8] != b"LPKSHHRH" {
            return Err(Fault::Damaged("it does not begin as a journal does"));
        }
        let flags = u32::from_le_bytes(array(&bytes, 12));
        if flags & !KNOWN_FLAGS != 0 {
            return Err(Fault::Damaged("it is of a newer form than this version knows"));
        }
        Ok(Header {
            file_id: array(&bytes, 24),
            seqnum_id: array(&bytes, 72),
            archived: bytes[16] == ARCHIVED,
            // A damaged header may count anything.
            entries: number(&bytes, 152).min(file.metadata()?.len() / MIN_ENTRY_BYTES),
            first_seqnum: number(&bytes, 168),
            last_seqnum: number(&bytes, 160),
            first_realtime: number(&bytes, 184),
            compact: flags & COMPACT != 0,
            first_array: number(&bytes, 176),
        })
    }
}

/// An entry, without its fields.
#[derive(Clone, Debug, Default)]
pub(super) struct Entry {
    /// Microseconds since 1970.
    pub realtime: u64,
    pub boot_id: [u8; 16],
    /// Where its fields are.
    items: Vec<u64>,
}

/// A field of an entry: `NAME=value`, or as much of its beginning as was asked for.
#[derive(Clone, Debug)]
pub(super) struct Field {
    text: Arc<[u8]>,
    name_len: usize,
    /// The length of the whole value.
    pub value_bytes: u64,
}

impl Field {
    #[cfg(test)]
    pub(super) fn of(name: &str, value: &str) -> Field {
        Field { text: format!("{name}={value}").into_bytes().into(), name_len: name.len(), value_bytes: value.len() as u64 }
    }

    pub(super) fn name(&self) -> &[u8] {
        &self.text[..self.name_len]
    }

    pub(super) fn value(&self) -> &[u8] {
        self.text.get(self.name_len + 1..).unwrap_or_default()
    }
}

/// A run of a file's entries in one array.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    /// Number of its first entry.
    first: u64,
    /// Where the offsets are.
    at: u64,
    count: u64,
    /// The array after it; it may come later.
    object: u64,
}

/// Reads entries of one file by their numbers, the first being 0.
#[derive(Debug)]
pub(super) struct Reader {
    file: Arc<File>,
    compact: bool,
    first_array: u64,
    arrays: Vec<Stretch>,
    /// Offsets of entries that follow one another, and the number of the first.
    block: (u64, Vec<u64>),
    cache: HashMap<u64, Field>,
}

impl Reader {
    pub(super) fn new(file: Arc<File>, header: &Header) -> Reader {
        let (compact, first_array) = (header.compact, header.first_array);
        Reader { file, compact, first_array, arrays: Vec::new(), block: (0, Vec::new()), cache: HashMap::new() }
    }

    /// Another reader of the same open file.
    pub(super) fn fork(&self) -> Reader {
        let (file, compact, first_array) = (self.file.clone(), self.compact, self.first_array);
        Reader { file, compact, first_array, arrays: Vec::new(), block: (0, Vec::new()), cache: HashMap::new() }
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// What the header says now.
    pub(super) fn header(&mut self) -> Result<Header, Fault> {
        let header = Header::read(&self.file)?;
        // A journal begins without an array.
        self.first_array = header.first_array;
        Ok(header)
    }

    /// Entry `number` of `entries`.
    pub(super) fn entry(&mut self, number: u64, entries: u64) -> Result<Entry, Fault> {
        let at = self.offset_of(number, entries)?;
        if at == 0 {
            return Err(Fault::Damaged("an entry is missing"));
        }
        let (object, size) = self.object(at, ENTRY, FIRST_READ_BYTES)?;
        let item = if self.compact { 4 } else { 16 };
        let count = (size as usize).saturating_sub(64) / item;
        if count > MAX_ITEMS {
            return Err(Fault::Damaged("an entry has too many fields"));
        }
        let wanted = 64 + count * item;
        let object = if object.len() < wanted { self.object(at, ENTRY, wanted)?.0 } else { object };
        if object.len() < wanted {
            return Err(Fault::Damaged("an entry is cut off"));
        }
        let offset = |item: &[u8]| if item.len() == 4 { u64::from(u32::from_le_bytes(array(item, 0))) } else { number_at(item) };
        let items = object[64..wanted].chunks_exact(item).map(offset).collect();
        Ok(Entry { realtime: self::number(&object, 24), boot_id: array(&object, 40), items })
    }

    /// Calls `visit` with each field of `entry`, of which no more than `most` bytes are read. Says how many could not be read.
    pub(super) fn fields(&mut self, entry: &Entry, most: usize, mut visit: impl FnMut(Field)) -> Result<usize, Fault> {
        let mut unread = 0;
        for &at in &entry.items {
            match self.cache.get(&at) {
                Some(field) => visit(field.clone()),
                None => match self.field(at, most) {
                    Ok(field) => visit(field),
                    Err(Fault::Damaged(_)) => unread += 1,
                    Err(error) => return Err(error),
                },
            }
        }
        Ok(unread)
    }

    fn field(&mut self, at: u64, most: usize) -> Result<Field, Fault> {
        let head = if self.compact { 72 } else { 64 };
        let (object, size) = self.object(at, DATA, FIRST_READ_BYTES)?;
        let compression = object[1] & 0b111;
        let payload_bytes = size.checked_sub(head).ok_or(Fault::Damaged("a field is too short"))?;
        let (text, full) = if compression == 0 {
            let wanted = (payload_bytes as usize).min(most) + head as usize;
            let object = if object.len() < wanted { self.object(at, DATA, wanted)?.0 } else { object };
            let text = object.get(head as usize..wanted).ok_or(Fault::Damaged("a field is cut off"))?;
            (text.to_vec(), payload_bytes)
        } else {
            decompress(compression, Section { file: &self.file, at: at + head, left: payload_bytes }, most)?
        };
        let name_len = memchr::memchr(b'=', &text).ok_or(Fault::Damaged("a field has no name"))?;
        let field = Field { value_bytes: full - name_len as u64 - 1, name_len, text: text.into() };
        if field.text.len() <= MAX_CACHED_BYTES && field.text.len() as u64 == full {
            if self.cache.len() >= MAX_CACHED {
                self.cache.clear();
            }
            self.cache.insert(at, field.clone());
        }
        Ok(field)
    }

    /// The beginning of the object at `at`, no more than `most` bytes (but all of its head), and its size.
    fn object(&self, at: u64, kind: u8, most: usize) -> Result<(Vec<u8>, u64), Fault> {
        if !at.is_multiple_of(8) || at == 0 {
            return Err(Fault::Damaged("an offset leads nowhere"));
        }
        let mut bytes = vec![0; most.max(72)];
        let have = read_full(&self.file, &mut bytes, at)?;
        bytes.truncate(have);
        if have < 16 || bytes[0] != kind {
            return Err(Fault::Damaged("an object is not what it should be"));
        }
        let size = number(&bytes, 8);
        if size < 24 {
            return Err(Fault::Damaged("an object is too short"));
        }
        bytes.truncate(usize::try_from(size).unwrap_or(usize::MAX));
        if bytes.len() < 24 || kind != ENTRY_ARRAY && bytes.len() < 64 {
            return Err(Fault::Damaged("an object is cut off"));
        }
        Ok((bytes, size))
    }

    /// Where entry `number` of `entries` is.
    fn offset_of(&mut self, number: u64, entries: u64) -> Result<u64, Fault> {
        let (first, block) = &self.block;
        if let Some(offset) = number.checked_sub(*first).and_then(|index| block.get(usize::try_from(index).ok()?)) {
            return Ok(*offset);
        }
        let stretch = self.stretch_of(number)?;
        let width: u64 = if self.compact { 4 } else { 8 };
        let end = (stretch.first + stretch.count).min(entries).min(number + BLOCK_ITEMS);
        let mut bytes = vec![0; usize::try_from((end - number) * width).unwrap_or(0)];
        if read_full(&self.file, &mut bytes, stretch.at + (number - stretch.first) * width)? < bytes.len() {
            return Err(Fault::Short);
        }
        let offset = |item: &[u8]| if item.len() == 4 { u64::from(u32::from_le_bytes(array(item, 0))) } else { number_at(item) };
        let block: Vec<u64> = bytes.chunks_exact(width as usize).map(offset).collect();
        let found = block.first().copied().ok_or(Fault::Damaged("an entry is in no array"))?;
        self.block = (number, block);
        Ok(found)
    }

    /// The array that holds entry `number`. Arrays double in size, so there are few.
    fn stretch_of(&mut self, number: u64) -> Result<Stretch, Fault> {
        let width = if self.compact { 4 } else { 8 };
        loop {
            if let Some(found) = self.arrays.iter().find(|one| (one.first..one.first + one.count).contains(&number)) {
                return Ok(*found);
            }
            let last = self.arrays.last().copied();
            let next = match last {
                None => self.first_array,
                Some(last) => self::number(&self.object(last.object, ENTRY_ARRAY, 24)?.0, 16),
            };
            // New objects are appended: what leads back leads in a circle.
            if next <= last.map_or(0, |last| last.object) {
                return Err(Fault::Short);
            }
            let (_, size) = self.object(next, ENTRY_ARRAY, 24)?;
            let first = last.map_or(0, |last| last.first + last.count);
            self.arrays.push(Stretch { first, at: next + 24, count: (size - 24) / width, object: next });
        }
    }
}

/// A part of a file, to be read in order.
struct Section<'a> {
    file: &'a File,
    at: u64,
    left: u64,
}

impl Read for Section<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let read = self.file.read_at(&mut buffer[..wanted], self.at)?;
        (self.at, self.left) = (self.at + read as u64, self.left - read as u64);
        Ok(read)
    }
}

/// The beginning of a compressed field, and the length of all of it as far as it was looked at.
fn decompress(compression: u8, mut section: Section<'_>, most: usize) -> Result<(Vec<u8>, u64), Fault> {
    let bad = |_| Fault::Damaged("a compressed field cannot be read");
    match compression {
        ZSTD => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(BufReader::new(section)).map_err(bad)?;
            decoder.window_log_max(MAX_WINDOW_LOG).map_err(bad)?;
            let mut text = Vec::new();
            decoder.by_ref().take(most as u64).read_to_end(&mut text).map_err(bad)?;
            let rest = io::copy(&mut decoder.take(MAX_COUNTED_BYTES), &mut io::sink()).map_err(bad)?;
            let full = text.len() as u64 + rest;
            Ok((text, full))
        }
        LZ4 => {
            let mut size = [0; 8];
            section.read_exact(&mut size).map_err(bad)?;
            let full = u64::from_le_bytes(size);
            if full > MAX_LZ4_BYTES || section.left > MAX_LZ4_BYTES {
                return Err(Fault::Damaged("a compressed field is too long"));
            }
            let mut packed = Vec::new();
            section.read_to_end(&mut packed).map_err(bad)?;
            let mut text =
                lz4_flex::block::decompress(&packed, full as usize).map_err(|_| Fault::Damaged("a compressed field cannot be read"))?;
            text.truncate(most);
            Ok((text, full))
        }
        XZ => Err(Fault::Damaged("a field is compressed with XZ, as systemd before 246 could be told to")),
        _ => Err(Fault::Damaged("a field is compressed in an unknown way")),
    }
}

fn number(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(bytes, at))
}

fn number_at(bytes: &[u8]) -> u64 {
    number(bytes, 0)
}

/// The `N` bytes at `at`; zeros where there are fewer.
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    if let Some(found) = bytes.get(at..at + N) {
        out.copy_from_slice(found);
    }
    out
}
