//! One segment: a file of frames, their numbers without a gap.

use std::io;
use std::ops::Range as Indices;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::format::{ALIGN, FILE_HEADER_BYTES, FIXED_BYTES, FRAME_MAGIC, Fixed, MIN_FRAME_BYTES, Salt};
use super::quarantine;
use crate::edge::Nanos;
use crate::frame::{Frame, Header};
use crate::fs::{File, Fs, read_exact_at};

/// The name of the segment whose first frame is number `first`: 16 hexadecimal digits, so that names sort by number.
pub(super) fn name(first: u64) -> String {
    format!("{first:016x}.seg")
}

/// The number in a segment's name.
pub(super) fn parse_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg")?;
    (digits.len() == 16).then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

/// An amount of frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Tally {
    pub frames: u64,
    pub records: u64,
    pub bytes: u64,
}

impl Tally {
    pub fn add(&mut self, other: Tally) {
        self.frames += other.frames;
        self.records += other.records;
        self.bytes += other.bytes;
    }

    pub fn subtract(&mut self, other: Tally) {
        self.frames = self.frames.saturating_sub(other.frames);
        self.records = self.records.saturating_sub(other.records);
        self.bytes = self.bytes.saturating_sub(other.bytes);
    }
}

/// A segment as the buffer knows it. Nothing is kept here for each frame: a full buffer has millions.
pub(super) struct Segment {
    /// The numbers of its frames.
    pub seqs: Indices<u64>,
    pub path: PathBuf,
    /// Open while it is written, read, or waits to be synced.
    pub file: Option<Box<dyn File>>,
    /// Where its first frame begins.
    pub start: u64,
    /// Where its last frame ends.
    pub len: u64,
    pub salt: Salt,
    pub created: Nanos,
    /// Whether nothing will be appended any more.
    pub sealed: bool,
    /// Whether a sync failed. What that leaves on the disk is unknown, and a second sync may say that all is well (the kernel
    /// forgets the error), so it is not tried again, and nothing more is appended.
    pub poisoned: bool,
    /// Whether its name is on the disk for good.
    pub name_synced: bool,
    /// Frames below this number are on the disk for good.
    pub synced: u64,
    /// Whether a part of it could not be read, so that it is moved to the quarantine instead of removed.
    pub is_kept: bool,
    /// What of it is not settled: neither acknowledged nor lost.
    pub waiting: Tally,
}

impl Segment {
    /// An empty one without a file.
    pub fn new(first: u64, now: Nanos) -> Segment {
        Segment {
            seqs: first..first,
            path: PathBuf::new(),
            file: None,
            start: FILE_HEADER_BYTES,
            len: FILE_HEADER_BYTES,
            salt: Salt::of(&[0; 16]),
            created: now,
            sealed: false,
            poisoned: false,
            name_synced: false,
            synced: first,
            is_kept: false,
            waiting: Tally::default(),
        }
    }

    /// Removes it from the directory `dir`.
    pub fn remove(&self, fs: &dyn Fs, dir: &Path) {
        let outcome = if self.is_kept { quarantine::move_in(fs, dir, &self.path) } else { fs.unlink(&self.path) };
        if let Err(error) = outcome {
            // It is found at the next start, and settled as it is removed then.
            tracing::warn!(path = %self.path.display(), %error, "a finished segment of a buffer could not be removed");
        }
    }

    /// The open file.
    pub fn file(&mut self, fs: &dyn Fs) -> io::Result<&dyn File> {
        let file = match self.file.take() {
            Some(file) => file,
            None => fs.open(&self.path)?,
        };
        Ok(&**self.file.insert(file))
    }

    /// A reader of its frames.
    pub fn reader(&mut self, fs: &dyn Fs) -> io::Result<Reader<'_>> {
        let (salt, len) = (self.salt, self.len);
        Ok(Reader { file: self.file(fs)?, salt, len })
    }

    /// Puts its frames on the disk for good, and its name. After an error it is poisoned.
    pub fn sync(&mut self, fs: &dyn Fs, dir: &Path) -> io::Result<()> {
        if self.poisoned || self.synced >= self.seqs.end {
            return Ok(());
        }
        let named = self.name_synced;
        let outcome = self.file(fs).and_then(|file| file.sync_data()).and_then(|()| if named { Ok(()) } else { fs.sync_dir(dir) });
        match outcome {
            Ok(()) => (self.synced, self.name_synced) = (self.seqs.end, true),
            Err(_) => (self.poisoned, self.sealed) = (true, true),
        }
        outcome
    }
}

/// Where a frame is, and the fixed part of its header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed {
    pub at: u64,
    pub fixed: Fixed,
}

impl Placed {
    /// Where the next frame begins.
    pub fn end(&self) -> u64 {
        self.at + self.fixed.frame_len()
    }

    /// What it adds to the waiting.
    pub fn tally(&self) -> Tally {
        Tally { frames: 1, records: self.fixed.records.into(), bytes: self.fixed.frame_len() }
    }
}

/// Reads frames from a segment, and finds the next one behind a damaged stretch.
pub(super) struct Reader<'a> {
    pub file: &'a dyn File,
    pub salt: Salt,
    /// Where the frames end.
    pub len: u64,
}

/// How much is looked through at a time for the next frame, and checked at a time of a body.
const WINDOW_BYTES: usize = 64 * 1024;

impl Reader<'_> {
    /// The first frame at or behind `at`, where frame `seq` ought to be; `None` where there is none any more.
    ///
    /// A frame found further on must have a number that fits in there: what was lost between took room. That, and the
    /// salted checksum, keep out old frames on recycled blocks of the disk and what a pod may have written into a body.
    pub fn find(&self, at: u64, seq: u64) -> io::Result<Option<Placed>> {
        if let Some(placed) = self.frame_at(at)?
            && placed.fixed.seq == seq
        {
            return Ok(Some(placed));
        }
        let mut from = at + ALIGN;
        let mut window = vec![0; WINDOW_BYTES.min(self.len.saturating_sub(from) as usize)];
        while from + MIN_FRAME_BYTES <= self.len {
            let len = window.len().min((self.len - from) as usize);
            let bytes = &mut window[..len];
            if !read_exact_at(self.file, bytes, from)? {
                return Ok(None);
            }
            for offset in memchr::memmem::find_iter(bytes, &FRAME_MAGIC).map(|offset| offset as u64) {
                if !offset.is_multiple_of(ALIGN) {
                    continue;
                }
                let found = self.frame_at(from + offset)?;
                if let Some(placed) = found.filter(|p| p.fixed.seq >= seq && p.fixed.seq - seq <= (p.at - at) / MIN_FRAME_BYTES) {
                    return Ok(Some(placed));
                }
            }
            from += len as u64 / ALIGN * ALIGN;
        }
        Ok(None)
    }

    fn frame_at(&self, at: u64) -> io::Result<Option<Placed>> {
        let mut bytes = [0; FIXED_BYTES];
        if at + MIN_FRAME_BYTES > self.len || !read_exact_at(self.file, &mut bytes, at)? {
            return Ok(None);
        }
        Ok(Fixed::decode(&bytes, self.salt).map(|fixed| Placed { at, fixed }))
    }

    /// The whole header of a frame; `None` if it is damaged or cut off.
    pub fn header(&self, placed: &Placed) -> io::Result<Option<Header>> {
        if placed.at + placed.fixed.header_len > self.len {
            return Ok(None);
        }
        let mut bytes = vec![0; placed.fixed.header_len as usize];
        if !read_exact_at(self.file, &mut bytes, placed.at)? {
            return Ok(None);
        }
        Ok(placed.fixed.header(&bytes, self.salt))
    }

    /// Whether the body of a frame is there and undamaged.
    pub fn check_body(&self, placed: &Placed) -> io::Result<bool> {
        if placed.end() > self.len {
            return Ok(false);
        }
        let (mut at, mut left) = (placed.at + placed.fixed.header_len, placed.fixed.body_len as usize);
        let mut window = vec![0; WINDOW_BYTES.min(left)];
        let mut crc = 0;
        while left > 0 {
            let bytes = &mut window[..WINDOW_BYTES.min(left)];
            if !read_exact_at(self.file, bytes, at)? {
                return Ok(false);
            }
            crc = crc32c::crc32c_append(crc, bytes);
            (at, left) = (at + bytes.len() as u64, left - bytes.len());
        }
        Ok(crc == placed.fixed.body_crc)
    }

    /// The frame; `None` if it is damaged or cut off.
    pub fn frame(&self, placed: &Placed) -> io::Result<Option<Frame>> {
        if placed.end() > self.len {
            return Ok(None);
        }
        let Some(header) = self.header(placed)? else { return Ok(None) };
        let mut body = vec![0; placed.fixed.body_len as usize];
        if !read_exact_at(self.file, &mut body, placed.at + placed.fixed.header_len)? || crc32c::crc32c(&body) != placed.fixed.body_crc {
            return Ok(None);
        }
        Ok(Some(Frame::from_parts(header, Bytes::from(body))))
    }
}
