//! What a directory says when a buffer is opened: which frames wait, and what is held.
//!
//! The listing is the truth: a segment that is there is read, one that is not is not waited for. See the essay in
//! [`super`] for why each of the decisions here loses nothing.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::ops::Range as Indices;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::format::{FILE_HEADER_BYTES, FileHeader, Kind, Salt};
use super::positions::{self, Condition, Held, Positions, hold, is_shortage, retried};
use super::quarantine;
use super::scan::{Scan, scan};
use super::segment::{self, Segment};
use super::seqs::SeqSet;
use super::{Group, Recovered};
use crate::edge::Nanos;
use crate::fail;
use crate::fs::Fs;

/// How many numbers are left free behind a segment that cannot be read, so that none of its frames' is given again. More
/// than a segment has; a gap of half as many is no sign of missing frames.
const SKIPPED: u64 = 1 << 24;

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
pub(super) fn recover(fs: &Arc<dyn Fs>, dir: &Path, sink: u64, epoch: [u8; 16], strict: bool, now: Nanos) -> io::Result<Found> {
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
        strict,
        now,
        found: Found {
            held: Held::new(),
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
    /// See [`super::BufferOptions::strict`].
    strict: bool,
    now: Nanos,
    found: Found,
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
            match retried(|| self.read_segment(*first, path, limit)) {
                Ok((segment, scan)) => at = self.take_in(segment, &scan, limit),
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
        let next = floor
            .max(at)
            .max(self.found.positions.settled.end())
            .max(self.found.positions.synced.end())
            .max(self.found.positions.cuts_end());
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

    /// Reads one segment, and changes nothing yet.
    fn read_segment(&self, first: u64, path: &Path, limit: Option<u64>) -> io::Result<(Segment, Scan)> {
        let file = self.fs.open(path)?;
        let size = file.size()?;
        let header = FileHeader::read(Kind::Segment, &*file, size);
        let mut segment = Segment {
            path: path.to_owned(),
            file: Some(file),
            start: header.map_or(FILE_HEADER_BYTES, |header| header.len),
            len: size,
            salt: header.map_or(Salt::of(&self.epoch), |header| Salt::of(&header.epoch)),
            sealed: true,
            ..Segment::new(first, self.now)
        };
        let synced = &self.found.positions.synced;
        let mut scan = scan(&mut segment, self.fs, limit, self.strict, |seq| synced.contains(seq))?;
        scan.is_suspect |= header.is_none();
        Ok((segment, scan))
    }

    /// Takes one segment in; says which number follows its frames.
    fn take_in(&mut self, mut segment: Segment, scan: &Scan, limit: Option<u64>) -> u64 {
        fail::point(fail::RECOVERED);
        segment.seqs.end = scan.frames.last().map_or(segment.seqs.start, |seen| seen.placed.fixed.seq + 1);
        let tail = scan.end..segment.len;
        match limit {
            _ if tail.is_empty() || (scan.unreadable.is_some() && limit.is_none()) => self.account(&mut segment, scan, None),
            None => {
                self.cut_tail(&mut segment, scan);
                self.account(&mut segment, scan, None);
            }
            Some(limit) => {
                let seq = segment.seqs.end;
                segment.seqs.end = limit.max(seq);
                self.account(&mut segment, scan, Some((tail, seq)));
            }
        }
        if self.found.positions.synced.missing(segment.seqs.clone()).is_empty() {
            (segment.synced, segment.name_synced) = (segment.seqs.end, true);
        }
        let mut end = segment.seqs.end;
        if let Some(error) = &scan.unreadable {
            let path = segment.path.display();
            tracing::error!(%path, %error, "a segment of a buffer can be read in part only: the disk may be failing");
            segment.is_kept = true;
            if limit.is_none() {
                self.found.recovered.damaged_frames += 1; // at least
                end += SKIPPED;
            }
        }
        segment.file = None;
        if segment.waiting.frames > 0 {
            self.found.segments.push_back(segment);
            return end;
        }
        // Damaged frames were counted here and now; without this they would be missed at every start.
        if !self.found.positions.settled.missing(segment.seqs.clone()).is_empty() {
            self.found.positions.settle(segment.seqs.clone(), Vec::new(), Vec::new(), self.now);
        }
        if self.strict {
            self.found.positions.sync(self.now);
        }
        if !self.strict || self.found.positions.is_synced() {
            segment.remove(self.fs, self.dir);
        }
        end
    }

    /// Cuts what is behind the last frame of the last segment: it never got further, and is read again from its source. What
    /// may be damage all the same is put aside first.
    fn cut_tail(&mut self, segment: &mut Segment, scan: &Scan) {
        if scan.is_suspect {
            put_aside(self.fs, self.dir, segment, scan.end..segment.len);
        }
        self.found.recovered.torn_bytes += segment.len - scan.end;
        // Synced, so that no power loss brings it back, completed by the zero bytes of a length that was written alone. If it
        // cannot be cut, it is found again and counted again at the next start, and no more.
        let _ = segment.file(self.fs).and_then(|file| file.truncate(scan.end).and_then(|()| file.sync_data()));
        segment.len = scan.end;
    }

    /// Counts a segment's frames, puts damage aside (`tail`: at its end), and takes in what its groups hold.
    fn account(&mut self, segment: &mut Segment, scan: &Scan, tail: Option<(Indices<u64>, u64)>) {
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
        for (span, seq) in scan.bad.iter().chain(&tail) {
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
                    hold(&mut found.held, &found.positions, range);
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
