//! Reading a whole segment, when a buffer is opened: its frames, and what in it is none.

use std::io;
use std::ops::Range as Indices;

use super::positions::{READ_TRIES, is_shortage};
use super::segment::{Placed, Reader, Segment};
use crate::fs::Fs;
use crate::position::Range;

/// A frame whose fixed part is undamaged.
pub(super) struct Seen {
    pub placed: Placed,
    /// Of the group, where this is its last frame.
    pub ranges: Vec<Range>,
    pub whole: bool,
}

/// What one segment holds.
#[derive(Default)]
pub(super) struct Scan {
    pub frames: Vec<Seen>,
    /// Stretches of bytes that are no frame, each with the number that the frame at its beginning had.
    pub bad: Vec<(Indices<u64>, u64)>,
    /// Where the frames end.
    pub end: u64,
    /// Why what follows could not be read.
    pub unreadable: Option<io::Error>,
    /// Whether what follows is likely to be damage and no torn end.
    pub is_suspect: bool,
}

/// Reads all of a segment's frames. Those from `limit` on, which the next segment has, are what a failed write left.
///
/// The bodies of frames that are synced are not read: no crash can have torn them, and a buffer may hold GiBs. Where the disk
/// has damaged one since, that shows, and is counted and put aside, when it is read to be sent.
///
/// Where reading fails it is tried again from the beginning; and then what cannot be read is taken for damaged.
///
/// Where every group is synced before any of it is sent (`strict`), a damaged group that was not synced was not sent either. So all
/// of it counts as damaged, or is cut where it is the last: sent in part it would be read again beside that.
pub(super) fn scan(
    segment: &mut Segment,
    fs: &dyn Fs,
    limit: Option<u64>,
    strict: bool,
    is_synced: impl Fn(u64) -> bool,
) -> io::Result<Scan> {
    let (start, first) = (segment.start, segment.seqs.start);
    let reader = segment.reader(fs)?;
    let scan_once = |is_last_try| {
        let mut scan = scan_once(&reader, start, first, limit, &is_synced, is_last_try)?;
        // Behind what cannot be read there may be more, so that nothing here is the end.
        let limit = if scan.unreadable.is_some() { limit.or(Some(u64::MAX)) } else { limit };
        scan.cut_uncommitted(limit, strict);
        if strict {
            scan.give_up_unsent(&is_synced);
        }
        Ok(scan)
    };
    for _ in 1..READ_TRIES {
        match scan_once(false) {
            Err(error) if !is_shortage(&error) => {}
            outcome => return outcome,
        }
    }
    scan_once(true)
}

fn scan_once(
    reader: &Reader<'_>,
    start: u64,
    first: u64,
    limit: Option<u64>,
    is_synced: &dyn Fn(u64) -> bool,
    is_last_try: bool,
) -> io::Result<Scan> {
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
        let (ranges, whole) = match ranges_and_wholeness(reader, &placed, is_synced(placed.fixed.seq)) {
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

fn ranges_and_wholeness(reader: &Reader<'_>, placed: &Placed, is_synced: bool) -> io::Result<(Vec<Range>, bool)> {
    let Some(header) = reader.header(placed)? else { return Ok((Vec::new(), false)) };
    Ok((header.ranges, is_synced || reader.check_body(placed)?))
}

impl Scan {
    fn last_group_is_whole(&self) -> bool {
        let seqs = self.frames.last().map_or(0..0, |last| last.placed.fixed.group());
        let frames = self.frames.iter().rev().take_while(|seen| seqs.contains(&seen.placed.fixed.seq));
        frames.filter(|seen| seen.whole).count() as u64 == seqs.end - seqs.start
    }

    /// Takes all of a group for damaged where a part of it is, and none of it was synced.
    fn give_up_unsent(&mut self, is_synced: &dyn Fn(u64) -> bool) {
        for group in self.frames.chunk_by_mut(|a, b| a.placed.fixed.group() == b.placed.fixed.group()) {
            let seqs = group.first().map_or(0..0, |first| first.placed.fixed.group());
            let is_whole = group.iter().filter(|seen| seen.whole).count() as u64 == seqs.end - seqs.start;
            if !is_whole && !seqs.clone().any(is_synced) {
                group.iter_mut().for_each(|seen| seen.whole = false);
            }
        }
    }

    /// Leaves out frames at the end that were never committed: of a group that is not whole, and without a `limit` those that
    /// are damaged. A group whose numbers all lie below the limit was
    /// committed, whatever became of it.
    fn cut_uncommitted(&mut self, limit: Option<u64>, strict: bool) {
        loop {
            while let Some(last) = self.frames.last() {
                let committed = match limit {
                    Some(limit) => last.placed.fixed.group().end <= limit,
                    None => last.whole && last.placed.fixed.ends_group() && (!strict || self.last_group_is_whole()),
                };
                if committed {
                    break;
                }
                self.end = last.placed.at;
                self.is_suspect |= !last.whole;
                self.frames.pop();
            }
            self.bad.retain(|(span, _)| span.start < self.end);
            // What is bad right before the cut goes with it.
            match self.bad.pop_if(|(span, _)| span.end >= self.end) {
                Some((span, _)) => (self.end, self.is_suspect) = (span.start, true),
                None => return,
            }
        }
    }
}
