//! Handing frames out: from memory, or back from disk, and what happens when one cannot be read.

use std::io;
use std::ops::Range as Indices;

use super::positions::{RETRY_AFTER, hold, is_shortage};
use super::recover::put_aside;
use super::segment::{Placed, Segment, Tally};
use super::{Cursor, Group, Out, Place, SinkBuffer};
use crate::frame::{Frame, Header};
use crate::position::Range;

/// How often reading a frame is tried, a second apart at least, before it is taken for lost.
const READ_TRIES: u32 = 3;

/// What came of reading at the cursor.
enum Read {
    Frame(Frame),
    /// The cursor has moved on past something that is not to be sent.
    Skipped,
    /// There is nothing, or it cannot be read now.
    Nothing,
}

impl SinkBuffer {
    pub(super) fn next_frame(&mut self) -> Option<Frame> {
        // What could not be read may be there a second later, and what comes after it is not sent before it.
        if self.read_failures > 0 && self.now < self.read_again_at {
            return None;
        }
        loop {
            let frame = match self.next_returned() {
                Some(frame) => frame,
                None => self.next_new()?,
            };
            if frame.header().records > 0 {
                return Some(frame);
            }
            // Nothing to send: it only moved positions.
            self.acknowledge(frame.header().seq, None, self.now);
        }
    }

    fn next_returned(&mut self) -> Option<Frame> {
        while let Some(seq) = self.returned.pop_first() {
            let Some(out) = self.out.get(&seq) else { continue };
            if let Some(frame) = &out.frame {
                return Some(frame.clone());
            }
            let (place, tally) = (out.place?, out.tally);
            match self.read_again(seq, place) {
                Ok(Some(frame)) => return Some(frame),
                Err(error) if self.is_worth_another_try(&error) => {
                    self.returned.insert(seq);
                    return None;
                }
                Ok(None) | Err(_) => {
                    self.out.remove(&seq);
                    self.lose(seq..seq + 1, Some(tally), place.at..place.at + tally.bytes);
                }
            }
        }
        None
    }

    fn read_again(&mut self, seq: u64, place: Place) -> io::Result<Option<Frame>> {
        let fs = self.fs.clone();
        let Some(segment) = self.segment_of(seq) else { return Ok(None) };
        let reader = segment.reader(&*fs)?;
        let frame = match reader.find(place.at, seq)?.filter(|placed| placed.fixed.seq == seq) {
            Some(placed) => reader.frame(&placed)?,
            None => None,
        };
        self.read_failures = 0;
        Ok(frame)
    }

    fn next_new(&mut self) -> Option<Frame> {
        loop {
            let index = self.segments.partition_point(|segment| segment.seqs.end <= self.cursor.seq);
            let on_disk = self.segments.get(index).map(|segment| segment.seqs.start.max(self.cursor.seq));
            if let Some(hot) = self.hot.front()
                && on_disk.is_none_or(|seq| hot.frame.header().seq <= seq)
            {
                return self.take_hot();
            }
            match self.read_on(index) {
                Read::Frame(frame) => return Some(frame),
                Read::Skipped => {}
                Read::Nothing => return None,
            }
        }
    }

    fn take_hot(&mut self) -> Option<Frame> {
        let hot = self.hot.pop_front()?;
        self.hot_bytes -= hot.bytes;
        let seq = hot.frame.header().seq;
        let (segment, at) = hot.place.map_or((self.cursor.segment, self.cursor.at), |place| (place.segment, place.at + hot.bytes));
        self.cursor = Cursor { seq: seq + 1, segment, at };
        let tally = Tally { frames: 1, records: hot.frame.header().records.into(), bytes: hot.bytes };
        Some(self.hand_out(hot.frame, hot.place, tally))
    }

    /// Reads the frame at the cursor, which is in segment `index` or before it.
    fn read_on(&mut self, index: usize) -> Read {
        let fs = self.fs.clone();
        let Some(segment) = self.segments.get_mut(index) else { return Read::Nothing };
        if self.cursor.segment != segment.seqs.start {
            let left = self.cursor.segment;
            self.cursor = Cursor { seq: segment.seqs.start, segment: segment.seqs.start, at: segment.start };
            self.close(left);
        }
        let Some(segment) = self.segments.get_mut(index) else { return Read::Nothing };
        let Cursor { seq, segment: first, at } = self.cursor;
        let (settled, lost) = (&self.positions.settled, &self.lost);
        let read = read_at(segment, &*fs, at, seq, |seq| !settled.contains(seq) && !lost.contains(seq));
        let end = segment.seqs.end;
        let (placed, frame) = match read {
            Ok(Some((placed, Ok(frame)))) => (placed, frame),
            // What cannot be read is this frame alone.
            Ok(Some((placed, Err(error)))) => match self.is_worth_another_try(&error) {
                true => return Read::Nothing,
                false => (placed, Wanted::Damaged),
            },
            Err(error) if self.is_worth_another_try(&error) => return Read::Nothing,
            Ok(None) | Err(_) => {
                let is_unreadable = read.is_err();
                let len = self.segments.get_mut(index).map_or(0, |segment| {
                    segment.is_kept |= is_unreadable;
                    segment.len
                });
                self.cursor = Cursor { seq: end, segment: first, at: len };
                self.lose(seq..end, None, at..len);
                return Read::Skipped;
            }
        };
        self.read_failures = 0;
        self.cursor = Cursor { seq: placed.fixed.seq + 1, segment: first, at: placed.end() };
        if placed.at > at {
            self.lose(seq..placed.fixed.seq, None, at..placed.at);
        }
        match frame {
            Wanted::No => Read::Skipped,
            Wanted::Damaged => {
                self.lose(placed.fixed.seq..placed.fixed.seq + 1, Some(placed.tally()), placed.at..placed.end());
                Read::Skipped
            }
            Wanted::Whole(frame) => Read::Frame(self.hand_out(frame, Some(Place { segment: first, at: placed.at }), placed.tally())),
        }
    }

    fn hand_out(&mut self, frame: Frame, place: Option<Place>, tally: Tally) -> Frame {
        let group = self.join_group(frame.header());
        let kept = place.is_none().then(|| frame.clone());
        self.out.insert(frame.header().seq, Out { group, tally, place, frame: kept });
        frame
    }

    /// Notes a frame's group, whose frames are settled one by one; says its key.
    pub(super) fn join_group(&mut self, header: &Header) -> u64 {
        let first = header.seq - u64::from(header.group_index);
        let seqs = first..first + u64::from(header.group_len);
        let (settled, lost) = (&self.positions.settled, &self.lost);
        let group = self.groups.entry(first).or_insert_with(|| Group {
            remaining: seqs.clone().filter(|&seq| !settled.contains(seq) && !lost.contains(seq)).count() as u64,
            spoiled: seqs.clone().any(|seq| lost.contains(seq)),
            seqs,
            ranges: Vec::new(),
            notes: Vec::new(),
        });
        if !header.ranges.is_empty() {
            group.ranges.clone_from(&header.ranges);
        }
        first
    }

    /// Gives up frames that are damaged, for good: those of `seqs` that were not settled or lost before. Their number of
    /// records is in `tally`, or shows when the rest of the segment is settled.
    fn lose(&mut self, seqs: Indices<u64>, tally: Option<Tally>, span: Indices<u64>) {
        self.read_failures = 0;
        let fs = self.fs.clone();
        let gaps: Vec<_> = self.positions.settled.missing(seqs).into_iter().flat_map(|gap| self.lost.missing(gap)).collect();
        let Some(first) = gaps.first().map(|gap| gap.start) else { return };
        let count: u64 = gaps.iter().map(|gap| gap.end - gap.start).sum();
        tracing::error!(dir = %self.options.dir.display(), frames = count, "damaged frames in a buffer are skipped; see its quarantine");
        let tally = tally.unwrap_or(Tally { frames: count, ..Tally::default() });
        self.lost_records += tally.records;
        self.damaged_frames += count;
        self.waiting.subtract(tally);
        let dir = self.options.dir.clone();
        if let Some(segment) = self.segment_of(first) {
            segment.waiting.subtract(tally);
            put_aside(&*fs, &dir, segment, span);
        }
        for gap in gaps {
            self.spoil(gap.clone());
            self.lost.insert(gap);
        }
        self.rebuild_held();
        self.retire_if_done(first, self.now);
    }

    /// Marks the groups that lost `seqs`. Those of which no frame was seen are marked when one is.
    fn spoil(&mut self, seqs: Indices<u64>) {
        let from = self.groups.range(..=seqs.start).next_back().map_or(seqs.start, |(first, _)| *first);
        let mut done = Vec::new();
        for (first, group) in self.groups.range_mut(from..seqs.end) {
            let overlap = group.seqs.end.min(seqs.end).saturating_sub(seqs.start.max(*first));
            group.spoiled |= overlap > 0;
            group.remaining = group.remaining.saturating_sub(overlap);
            if group.remaining == 0 {
                done.push(*first);
            }
        }
        done.iter().for_each(|first| drop(self.groups.remove(first)));
    }

    /// Works out anew what is held, after a loss: sets of ranges can only grow.
    fn rebuild_held(&mut self) {
        let fs = self.fs.clone();
        let mut ranges: Vec<Range> = Vec::new();
        ranges.extend(self.groups.values().filter(|group| !group.spoiled).flat_map(|group| group.ranges.iter().copied()));
        ranges.extend(self.hot.iter().filter(|hot| hot.place.is_none()).flat_map(|hot| hot.frame.header().ranges.iter().copied()));
        for segment in &mut self.segments {
            let path = segment.path.clone();
            match unsettled_ranges(segment, &*fs, |seq| self.positions.settled.contains(seq), |seq| self.lost.contains(seq)) {
                Ok(found) => ranges.extend(found),
                Err(error) => tracing::warn!(path = %path.display(), %error, "a segment's positions cannot be read"),
            }
        }
        let ranges = self.still_held(ranges);
        self.held.clear();
        ranges.iter().for_each(|range| hold(&mut self.held, &self.positions, range));
    }

    /// Those of `ranges` whose file was not forgotten.
    pub(super) fn still_held(&self, mut ranges: Vec<Range>) -> Vec<Range> {
        ranges.retain(|range| self.held(&range.file).is_some());
        ranges
    }

    pub(super) fn segment_of(&mut self, seq: u64) -> Option<&mut Segment> {
        let index = self.segments.partition_point(|segment| segment.seqs.end <= seq);
        self.segments.get_mut(index).filter(|segment| segment.seqs.contains(&seq))
    }

    /// Closes the file of segment `first` unless it is appended to.
    fn close(&mut self, first: u64) {
        if let Some(segment) = self.segment_of(first).filter(|segment| segment.sealed) {
            segment.file = None;
        }
    }

    fn is_worth_another_try(&mut self, error: &io::Error) -> bool {
        self.read_failures += 1;
        self.read_again_at = self.now.after(RETRY_AFTER);
        is_shortage(error) || self.read_failures < READ_TRIES
    }
}

/// A frame that was found, as far as it is wanted.
enum Wanted {
    No,
    Damaged,
    Whole(Frame),
}

fn read_at(
    segment: &mut Segment,
    fs: &dyn crate::fs::Fs,
    at: u64,
    seq: u64,
    is_wanted: impl Fn(u64) -> bool,
) -> io::Result<Option<(Placed, io::Result<Wanted>)>> {
    let end = segment.seqs.end;
    let reader = segment.reader(fs)?;
    let Some(placed) = reader.find(at, seq)?.filter(|placed| placed.fixed.seq < end) else { return Ok(None) };
    let wanted = match is_wanted(placed.fixed.seq) {
        false => Ok(Wanted::No),
        true => reader.frame(&placed).map(|frame| frame.map_or(Wanted::Damaged, Wanted::Whole)),
    };
    Ok(Some((placed, wanted)))
}

/// The ranges of a segment's groups of which some frame is not settled and none is lost.
pub(super) fn unsettled_ranges(
    segment: &mut Segment,
    fs: &dyn crate::fs::Fs,
    is_settled: impl Fn(u64) -> bool,
    is_lost: impl Fn(u64) -> bool,
) -> io::Result<Vec<Range>> {
    let (mut at, mut seq, end) = (segment.start, segment.seqs.start, segment.seqs.end);
    let reader = segment.reader(fs)?;
    let mut ranges = Vec::new();
    while let Some(placed) = reader.find(at, seq)?.filter(|placed| placed.fixed.seq < end) {
        let group = placed.fixed.group();
        if placed.fixed.ranges > 0
            && !group.clone().any(&is_lost)
            && !group.clone().all(&is_settled)
            && let Some(header) = reader.header(&placed)?
        {
            ranges.extend(header.ranges);
        }
        (at, seq) = (placed.end(), placed.fixed.seq + 1);
    }
    Ok(ranges)
}
