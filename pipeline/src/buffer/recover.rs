//! What a directory says when a buffer is opened: which frames wait, and what is held.
//!
//! The listing is the truth: a segment that is there is read, one that is not is not waited for. See the essay in
//! [`super`] for why each of the decisions here loses nothing.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::ops::Range as Indices;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::format::{FILE_HEADER_BYTES, FILE_HEADER_READ_BYTES, FileHeader, Kind, Salt};
use super::positions::{self, Condition, Held, Positions, is_shortage};
use super::quarantine;
use super::segment::{self, Placed, Reader, Segment, Tally};
use super::seqs::SeqSet;
use super::{Group, Recovered};
use crate::edge::Nanos;
use crate::fs::{Fs, read_exact_at};
use crate::position::Range;

/// How many numbers are left free behind a segment that cannot be read, so that none of its frames' is given again. More
/// than a segment has; a gap of half as many is no sign of missing frames.
const SKIPPED: u64 = 1 << 24;

/// How often a file is read before what cannot be read is taken for damaged.
pub(super) const READ_TRIES: u32 = 3;

/// What a buffer starts from.
pub(super) struct Found {
    pub positions: Positions,
    pub segments: VecDeque<Segment>,
    /// Groups of which some frames are settled or lost and some wait.
    pub groups: BTreeMap<u64, Group>,
    /// Frames that were lost to damage, as far as their segments are still there.
    pub lost: SeqSet,
    pub held: Held,
    pub next_seq: u64,
    pub recovered: Recovered,
}

/// Reads what is in `dir`. Fails only where the directory itself cannot be used.
pub(super) fn recover(fs: &Arc<dyn Fs>, dir: &Path, sink: u64, epoch: [u8; 16], now: Nanos) -> io::Result<Found> {
    let mut names = match fs.list(dir) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => create(&**fs, dir)?,
        Err(error) => return Err(error),
    };
    if let Some(version) = newer_version(&**fs, dir, &names) {
        set_aside(&**fs, dir, version)?;
        names = create(&**fs, dir)?;
    }
    let (positions, condition) = Positions::load(fs.clone(), dir, sink, epoch, now)?;
    let mut recovery = Recovery {
        fs: &**fs,
        dir,
        epoch,
        now,
        found: Found {
            held: positions.held.clone(),
            next_seq: 0,
            positions,
            segments: VecDeque::new(),
            groups: BTreeMap::new(),
            lost: SeqSet::default(),
            recovered: Recovered::default(),
        },
    };
    recovery.segments(&names, condition)?;
    let mut found = recovery.found;
    found.recovered.notes = found.positions.notes();
    Ok(found)
}

fn create(fs: &dyn Fs, dir: &Path) -> io::Result<Vec<String>> {
    fs.create_dir_all(dir)?;
    // Best effort: without it the directory may be missing after a power loss, and with it all that was in it.
    if let Some(above) = dir.parent() {
        let _ = fs.sync_dir(above);
    }
    fs.list(dir)
}

fn newer_version(fs: &dyn Fs, dir: &Path, names: &[String]) -> Option<u16> {
    let log = positions::newer_version(fs, &dir.join(positions::NAME), Kind::Positions);
    let segments = names.iter().filter(|name| segment::parse_name(name).is_some());
    segments.filter_map(|name| positions::newer_version(fs, &dir.join(name), Kind::Segment)).chain(log).max()
}

/// Renames the directory of a newer version, so that a return to that version can find it.
fn set_aside(fs: &dyn Fs, dir: &Path, version: u16) -> io::Result<()> {
    let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let names = (0..100).map(|n| if n == 0 { format!("{name}.v{version}.kept") } else { format!("{name}.v{version}.{n}.kept") });
    let mut outcome = Err(io::ErrorKind::AlreadyExists.into());
    for kept in names.map(|name| dir.with_file_name(name)) {
        outcome = fs.rename(dir, &kept);
        if outcome.is_ok() {
            tracing::error!(
                path = %kept.display(),
                version,
                "this buffer was written by a newer version of Skidder: it is kept there and a new one begun; run the newer version to deliver it"
            );
            break;
        }
    }
    outcome
}

struct Recovery<'a> {
    fs: &'a dyn Fs,
    dir: &'a Path,
    epoch: [u8; 16],
    now: Nanos,
    found: Found,
}

/// A frame whose fixed part is undamaged.
struct Seen {
    placed: Placed,
    /// Of the group, where this is its last frame.
    ranges: Vec<Range>,
    whole: bool,
}

/// What one segment holds.
#[derive(Default)]
struct Scan {
    frames: Vec<Seen>,
    /// Stretches of bytes that are no frame, each with the number that the frame at its beginning had.
    bad: Vec<(Indices<u64>, u64)>,
    /// Where the frames end.
    end: u64,
    /// Why what follows could not be read.
    unreadable: Option<io::Error>,
}

impl Recovery<'_> {
    fn segments(&mut self, names: &[String], condition: Condition) -> io::Result<()> {
        let mut files: Vec<(u64, PathBuf)> =
            names.iter().filter_map(|name| Some((segment::parse_name(name)?, self.dir.join(name)))).collect();
        files.sort_unstable();
        let floor = self.found.positions.floor;
        // Frames below this are accounted for.
        let mut at = 1;
        for (index, (first, path)) in files.iter().enumerate() {
            // The last segment ends where it ends, unless it was the last at an earlier start already and was closed then.
            let limit = files.get(index + 1).map(|(next, _)| *next).or_else(|| (*first < floor).then_some(floor));
            if condition == Condition::Whole {
                self.note_missing(at..*first);
            }
            // It fails before it has done anything.
            let tries = (1..READ_TRIES)
                .map(|_| self.segment(*first, path, limit))
                .find(|outcome| !outcome.as_ref().is_err_and(|e| !is_shortage(e)));
            match tries.unwrap_or_else(|| self.segment(*first, path, limit)) {
                Ok(end) => at = end,
                Err(error) if is_shortage(&error) => return Err(error),
                Err(error) => {
                    tracing::error!(path = %path.display(), %error, "a segment of a buffer cannot be read and is left where it is");
                    at = limit.unwrap_or(first + SKIPPED);
                }
            }
        }
        if condition == Condition::Whole {
            self.note_missing(at..floor);
        }
        // Numbers that settled frames had which are gone are not given again, and never missed.
        let next = floor.max(at).max(self.found.positions.settled.end());
        if at < next && !self.found.positions.settled.missing(at..next).is_empty() {
            self.found.positions.settle(at..next, Vec::new(), Vec::new(), self.now);
        }
        self.found.next_seq = next;
        self.found.positions.set_floor(next, self.now);
        let low = self.found.segments.front().map_or(next, |segment| segment.seqs.start);
        self.found.positions.settled_below(low);
        Ok(())
    }

    /// Counts the frames of `seqs` that no segment has though they were not settled.
    fn note_missing(&mut self, seqs: Indices<u64>) {
        let gaps = self.found.positions.settled.missing(seqs).into_iter().map(|gap| (gap.end - gap.start, gap));
        let gaps: Vec<_> = gaps.filter(|(count, _)| *count < SKIPPED / 2).collect();
        let missing: u64 = gaps.iter().map(|(count, _)| count).sum();
        if missing > 0 {
            tracing::warn!(
                dir = %self.dir.display(),
                frames = missing,
                "frames are missing from a buffer: a segment was removed, or the power failed before positions were synced"
            );
            self.found.recovered.missing_frames += missing;
        }
        for (_, gap) in gaps {
            self.found.positions.settle(gap, Vec::new(), Vec::new(), self.now);
        }
    }

    /// Takes one segment in; says which number follows its frames.
    fn segment(&mut self, first: u64, path: &Path, limit: Option<u64>) -> io::Result<u64> {
        let file = self.fs.open(path)?;
        let size = file.size()?;
        let mut head = vec![0; FILE_HEADER_READ_BYTES.min(size as usize)];
        read_exact_at(&*file, &mut head, 0)?;
        let header = FileHeader::decode(Kind::Segment, &head);
        let (start, salt) = match &header {
            Some(header) => (header.len, Salt::of(&header.epoch)),
            None => (FILE_HEADER_BYTES, Salt::of(&self.epoch)),
        };
        let mut segment = Segment {
            seqs: first..first,
            path: path.to_owned(),
            file: Some(file),
            start,
            len: size,
            salt,
            created: self.now,
            sealed: true,
            poisoned: false,
            name_synced: false,
            synced: first,
            waiting: Tally::default(),
        };
        let mut scan = scan(&mut segment, self.fs, limit)?;
        let is_cut = limit.is_none() && scan.unreadable.is_none();
        let cut_damaged = scan.cut_uncommitted(if is_cut { None } else { limit.or(Some(u64::MAX)) });
        if is_cut && segment.len > scan.end {
            self.cut_tail(&mut segment, scan.end, cut_damaged || header.is_none());
        }
        segment.seqs.end = scan.frames.last().map_or(first, |seen| seen.placed.fixed.seq + 1);
        if let Some(limit) = limit
            && segment.len > scan.end
        {
            scan.bad.push((scan.end..segment.len, segment.seqs.end));
            segment.seqs.end = limit;
        }
        self.account(&mut segment, &scan);
        let mut end = segment.seqs.end;
        if let Some(error) = &scan.unreadable {
            tracing::error!(path = %path.display(), %error, "a segment of a buffer can be read in part only; the disk may be failing");
            if limit.is_none() {
                self.found.recovered.damaged_frames += 1; // at least
                end += SKIPPED;
            }
        }
        segment.file = None;
        if segment.waiting.frames > 0 {
            self.found.segments.push_back(segment);
            return Ok(end);
        }
        // Damaged frames were counted here and now; without this they would be missed at every start.
        if !self.found.positions.settled.missing(segment.seqs.clone()).is_empty() {
            self.found.positions.settle(segment.seqs.clone(), Vec::new(), Vec::new(), self.now);
        }
        if let Err(error) = self.fs.unlink(path) {
            tracing::warn!(path = %path.display(), %error, "a finished segment of a buffer could not be removed");
        }
        Ok(end)
    }

    /// Cuts what is behind the last frame of the last segment: it never got further, and is read again from its source. What
    /// may be damage all the same is put aside first.
    fn cut_tail(&mut self, segment: &mut Segment, end: u64, is_suspect: bool) {
        if is_suspect {
            put_aside(self.fs, self.dir, segment, end..segment.len);
        }
        self.found.recovered.torn_bytes += segment.len - end;
        // If it cannot be cut, it is found again and counted again at the next start, and no more.
        let _ = segment.file(self.fs).and_then(|file| file.truncate(end));
        segment.len = end;
    }

    /// Counts a segment's frames, puts damage aside, and takes in what its groups hold.
    fn account(&mut self, segment: &mut Segment, scan: &Scan) {
        let found = &mut self.found;
        let mut lost = SeqSet::default();
        for seen in &scan.frames {
            let fixed = &seen.placed.fixed;
            if found.positions.settled.contains(fixed.seq) {
                continue;
            }
            if seen.whole {
                segment.waiting.add(seen.placed.tally());
            } else {
                lost.insert(fixed.seq..fixed.seq + 1);
                found.recovered.damaged_frames += 1;
                found.recovered.damaged_records += u64::from(fixed.records);
                put_aside(self.fs, self.dir, segment, seen.placed.at..seen.placed.end());
            }
        }
        let found = &mut self.found;
        for (span, seq) in &scan.bad {
            let next = scan.frames.iter().map(|seen| seen.placed.fixed.seq).find(|next| next >= seq).unwrap_or(segment.seqs.end);
            let gone = found.positions.settled.missing(*seq..next);
            found.recovered.damaged_frames += gone.iter().map(|gap| gap.end - gap.start).sum::<u64>();
            if !gone.is_empty() {
                gone.into_iter().for_each(|gap| lost.insert(gap));
                put_aside(self.fs, self.dir, segment, span.clone());
            }
        }
        self.found.recovered.frames += segment.waiting.frames;
        self.found.recovered.records += segment.waiting.records;
        self.groups(scan, &lost);
        lost.stretches().for_each(|seqs| self.found.lost.insert(seqs));
    }

    fn groups(&mut self, scan: &Scan, lost: &SeqSet) {
        let found = &mut self.found;
        for group in scan.frames.chunk_by(|a, b| a.placed.fixed.group() == b.placed.fixed.group()) {
            let Some(last) = group.last() else { continue };
            let seqs = last.placed.fixed.group();
            let settled = |seq| found.positions.settled.contains(seq);
            let remaining = group.iter().filter(|seen| seen.whole && !settled(seen.placed.fixed.seq)).count() as u64;
            if remaining == 0 {
                continue; // what it holds is in the log, by the record that settled its last frame
            }
            // The ranges of a group that lost a frame do not count: they are read again.
            let spoiled = seqs.clone().any(|seq| lost.contains(seq));
            if !spoiled {
                for range in &last.ranges {
                    found.held.entry(range.file).or_default().insert(range.start, range.end, range.marker);
                }
            }
            if remaining < seqs.end - seqs.start {
                let first = seqs.start;
                found.groups.insert(first, Group { seqs, remaining, ranges: last.ranges.clone(), notes: Vec::new(), spoiled });
            }
        }
    }
}

/// Copies a damaged part of a segment to the quarantine.
pub(super) fn put_aside(fs: &dyn Fs, dir: &Path, segment: &mut Segment, span: Indices<u64>) {
    let first = segment.seqs.start;
    if let Ok(file) = segment.file(fs) {
        quarantine::keep(fs, dir, first, file, span);
    }
}

/// Reads all of a segment's frames. Those from `limit` on, which the next segment has, are what a failed write left.
///
/// Where reading fails it is tried again from the beginning; and then what cannot be read is taken for damaged.
fn scan(segment: &mut Segment, fs: &dyn Fs, limit: Option<u64>) -> io::Result<Scan> {
    let (start, first) = (segment.start, segment.seqs.start);
    let reader = segment.reader(fs)?;
    for _ in 1..READ_TRIES {
        match scan_once(&reader, start, first, limit, false) {
            Err(error) if !is_shortage(&error) => {}
            outcome => return outcome,
        }
    }
    scan_once(&reader, start, first, limit, true)
}

fn scan_once(reader: &Reader<'_>, start: u64, first: u64, limit: Option<u64>, is_last_try: bool) -> io::Result<Scan> {
    let (mut at, mut seq) = (start, first);
    let mut scan = Scan::default();
    loop {
        let found = match reader.find(at, seq) {
            Err(error) if is_last_try => {
                scan.unreadable = Some(error);
                None
            }
            outcome => outcome?,
        };
        let Some(placed) = found.filter(|p| p.end() <= reader.len && limit.is_none_or(|limit| p.fixed.seq < limit)) else { break };
        if placed.at > at {
            scan.bad.push((at..placed.at, seq));
        }
        let (ranges, whole) = match ranges_and_wholeness(reader, &placed) {
            Err(_) if is_last_try => (Vec::new(), false),
            outcome => outcome?,
        };
        scan.frames.push(Seen { placed, ranges, whole });
        (at, seq) = (placed.end(), placed.fixed.seq + 1);
    }
    // A file that is shorter than its header has no frames, and ends where it ends.
    scan.end = at.min(reader.len);
    Ok(scan)
}

fn ranges_and_wholeness(reader: &Reader<'_>, placed: &Placed) -> io::Result<(Vec<Range>, bool)> {
    let Some(header) = reader.header(placed)? else { return Ok((Vec::new(), false)) };
    Ok((header.ranges, reader.check_body(placed)?))
}

impl Scan {
    /// Leaves out frames at the end that were never committed: of a group that is not whole, and without a `limit` those that
    /// are damaged; says whether there were such. A group whose numbers all lie below the limit was
    /// committed, whatever became of it.
    fn cut_uncommitted(&mut self, limit: Option<u64>) -> bool {
        let mut is_damaged = false;
        loop {
            while let Some(last) = self.frames.last() {
                let committed = match limit {
                    Some(limit) => last.placed.fixed.group().end <= limit,
                    None => last.whole && last.placed.fixed.ends_group(),
                };
                if committed {
                    break;
                }
                self.end = last.placed.at;
                is_damaged |= !last.whole;
                self.frames.pop();
            }
            self.bad.retain(|(span, _)| span.start < self.end);
            // What is bad right before the cut goes with it.
            match self.bad.pop_if(|(span, _)| span.end >= self.end) {
                Some((span, _)) => (self.end, is_damaged) = (span.start, true),
                None => return is_damaged,
            }
        }
    }
}
