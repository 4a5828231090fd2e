//! Looking at a buffer from outside, while its agent may run: nothing is changed, and nothing is held.

use std::io;
use std::path::Path;

use super::format::{FILE_HEADER_BYTES, FileHeader, Kind, Salt};
use super::log::{self, Record};
use super::positions::{self, Held};
use super::segment::{self, Segment};
use super::seqs::SeqSet;
use crate::edge::Nanos;
use crate::frame::Frame;
use crate::fs::{Fs, read_exact_at};

/// How closely to look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Look {
    /// At the headers of frames.
    Headers,
    /// At all bytes.
    Everything,
}

/// What is in a buffer's directory.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Inspection {
    /// The segments, oldest first.
    pub segments: Vec<SegmentReport>,
    /// Whether the log of positions is there and undamaged; without it every frame counts as waiting.
    pub has_positions: bool,
}

/// What is in one segment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SegmentReport {
    /// The name of its file.
    pub name: String,
    /// The size of its file.
    pub bytes: u64,
    /// All frames in it.
    pub frames: u64,
    /// Those that are not settled.
    pub waiting_frames: u64,
    /// The records in them.
    pub waiting_records: u64,
    /// The bytes of them.
    pub waiting_bytes: u64,
    /// Frames whose header is whole and whose body is not; known from a look at everything.
    pub damaged_frames: u64,
    /// Bytes between frames that are no frame.
    pub damaged_bytes: u64,
    /// Bytes behind the last frame: of the newest segment perhaps a write that is under way.
    pub torn_bytes: u64,
}

impl Inspection {
    /// Frames, records and bytes that wait.
    pub fn waiting(&self) -> (u64, u64, u64) {
        let add = |sum: (u64, u64, u64), s: &SegmentReport| (sum.0 + s.waiting_frames, sum.1 + s.waiting_records, sum.2 + s.waiting_bytes);
        self.segments.iter().fold((0, 0, 0), add)
    }

    /// The bytes of all segments.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// Whether something in it is damaged. A torn end of the newest segment is none: it was never promised.
    pub fn is_damaged(&self) -> bool {
        let torn = self.segments.iter().rev().skip(1).any(|segment| segment.torn_bytes > 0);
        torn || self.segments.iter().any(|segment| segment.damaged_frames > 0 || segment.damaged_bytes > 0)
    }
}

/// Looks at the buffer in `dir`, and hands each waiting frame that is whole to `each` (with [`Look::Everything`] alone).
///
/// What the agent removes meanwhile has been delivered meanwhile, and is passed over.
///
/// # Errors
/// Where the directory or a file in it cannot be read, or `each` says so.
pub fn inspect(fs: &dyn Fs, dir: &Path, look: Look, each: &mut dyn FnMut(Frame) -> io::Result<()>) -> io::Result<Inspection> {
    // Before the log, so that what is settled and removed between is not missed.
    let mut names: Vec<(u64, String)> = fs.list(dir)?.into_iter().filter_map(|name| Some((segment::parse_name(&name)?, name))).collect();
    names.sort();
    let Log { settled, is_whole: has_positions, .. } = read_log(fs, dir)?;
    let mut segments = Vec::new();
    for (first, name) in names {
        match look_at(fs, &dir.join(&name), first, &settled, look, each) {
            Ok(report) => segments.push(SegmentReport { name, ..report }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Inspection { segments, has_positions })
}

/// Whether anything was ever appended to the buffer in `dir`, as far as its directory still knows.
///
/// # Errors
/// Where the directory or the log cannot be read; one that is not there has not begun.
pub fn has_begun(fs: &dyn Fs, dir: &Path) -> io::Result<bool> {
    let names = match fs.list(dir) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    Ok(names.iter().any(|name| segment::parse_name(name).is_some()) || !read_log(fs, dir)?.held.is_empty())
}

/// What the buffer in `dir` holds of each file, as [`super::SinkBuffer::held`] would say if it were opened. Reads all of it.
///
/// # Errors
/// Where the directory or a file in it cannot be read.
pub fn held(fs: &dyn Fs, dir: &Path) -> io::Result<Held> {
    // Before the segments: what is settled meanwhile is in both.
    let Log { mut held, settled: mut whole, .. } = read_log(fs, dir)?;
    let mut ends = Vec::new();
    inspect(fs, dir, Look::Everything, &mut |frame| {
        let header = frame.header();
        whole.insert(header.seq..header.seq + 1);
        if header.group_index + 1 == header.group_len {
            ends.push((header.seq + 1 - u64::from(header.group_len)..header.seq + 1, header.ranges.clone()));
        }
        Ok(())
    })?;
    // A group of which a frame is damaged or not there is read again.
    for (_, ranges) in ends.into_iter().filter(|(seqs, _)| whole.missing(seqs.clone()).is_empty()) {
        ranges.iter().for_each(|range| held.entry(range.file).or_default().insert(range.start, range.end, range.marker));
    }
    Ok(held)
}

/// What the log of positions says.
#[derive(Default)]
struct Log {
    settled: SeqSet,
    held: Held,
    /// Whether it is there and undamaged.
    is_whole: bool,
}

fn read_log(fs: &dyn Fs, dir: &Path) -> io::Result<Log> {
    let mut found = Log::default();
    let file = match fs.open(&dir.join(positions::NAME)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(error),
    };
    let mut bytes = vec![0; file.size()? as usize];
    read_exact_at(&*file, &mut bytes, 0)?;
    let Some(header) = FileHeader::decode(Kind::Positions, &bytes) else { return Ok(found) };
    let flaws = log::decode(&bytes, header.len as usize, Salt::of(&header.epoch), |record| match record {
        Record::Settled { seqs, ranges, .. } => {
            found.settled.insert(seqs);
            ranges.iter().for_each(|range| found.held.entry(range.file).or_default().insert(range.start, range.end, range.marker));
        }
        Record::Forgotten(file) => drop(found.held.remove(&file)),
        Record::Synced(_) | Record::Cut { .. } => {}
    });
    found.is_whole = !flaws.damaged;
    Ok(found)
}

fn look_at(
    fs: &dyn Fs,
    path: &Path,
    first: u64,
    settled: &SeqSet,
    look: Look,
    each: &mut dyn FnMut(Frame) -> io::Result<()>,
) -> io::Result<SegmentReport> {
    let file = fs.open(path)?;
    let size = file.size()?;
    let header = FileHeader::read(Kind::Segment, &*file, size);
    let (salt, start) = header.map_or((Salt::of(&[0; 16]), FILE_HEADER_BYTES), |header| (Salt::of(&header.epoch), header.len));
    let mut segment = Segment { path: path.to_owned(), file: Some(file), start, len: size, salt, ..Segment::new(first, Nanos(0)) };
    let reader = segment.reader(fs)?;
    let mut report = SegmentReport { bytes: size, ..SegmentReport::default() };
    let (mut at, mut seq) = (start.min(size), first);
    while let Some(placed) = reader.find(at, seq)?.filter(|placed| placed.end() <= size) {
        report.damaged_bytes += placed.at - at;
        report.frames += 1;
        (at, seq) = (placed.end(), placed.fixed.seq + 1);
        if settled.contains(placed.fixed.seq) {
            continue;
        }
        if look == Look::Everything {
            match reader.frame(&placed)? {
                Some(frame) => each(frame)?,
                None => {
                    report.damaged_frames += 1;
                    continue;
                }
            }
        }
        report.waiting_frames += 1;
        report.waiting_records += u64::from(placed.fixed.records);
        report.waiting_bytes += placed.fixed.frame_len();
    }
    report.torn_bytes = size - at;
    Ok(report)
}
