//! Taking groups in: numbering, writing, and what happens when there is no room.

use std::io::{self, IoSlice};

use super::format::{self, ALIGN, FileHeader, Kind};
use super::next::unsettled_ranges;
use super::positions::{RETRY_AFTER, hold};
use super::segment::{self, Segment, Tally};
use super::{Appended, Hot, Place, SinkBuffer, WhenFull};
use crate::edge::Nanos;
use crate::fail;
use crate::frame::Frame;
use crate::position::Range;

/// How many names are tried for a new segment. One that is taken is what a failed write left and could not be removed.
const NAME_TRIES: u32 = 8;

impl SinkBuffer {
    pub(super) fn append_group(&mut self, group: Vec<Frame>, now: Nanos) -> Appended {
        if self.unopened.is_some() {
            return Appended::Full(group);
        }
        if group.iter().all(|frame| frame.header().records == 0) {
            self.hold(&group);
            self.settle_in_log(0..0, ranges(&group), Vec::new(), now);
            return Appended::Kept;
        }
        self.look_at_space(now);
        if self.is_full() {
            let room = match self.options.when_full {
                WhenFull::Block => return Appended::Full(group),
                WhenFull::DropOldest => self.drop_oldest(now),
                WhenFull::DropNewest => false,
            };
            if !room {
                return self.give_up(&group, now);
            }
        }
        let places = match self.options.disk {
            true => self.write(&group, now),
            false => Ok(None),
        };
        match places {
            Ok(places) => self.take_in(group, places, now),
            Err(error) => {
                if self.refused_until.is_none() {
                    let dir = self.options.dir.display();
                    tracing::error!(%dir, %error, "a buffer cannot be written: free the disk or mend it; trying again");
                }
                self.refused_until = Some(now.after(RETRY_AFTER));
                return Appended::Full(group);
            }
        }
        Appended::Kept
    }

    /// Gives the new group up: its positions are kept, its records counted.
    fn give_up(&mut self, group: &[Frame], now: Nanos) -> Appended {
        let records = group.iter().map(|frame| u64::from(frame.header().records)).sum();
        self.hold(group);
        self.settle_in_log(0..0, ranges(group), Vec::new(), now);
        self.lost_records += records;
        self.dropped_records += records;
        Appended::Dropped { records }
    }

    fn hold(&mut self, group: &[Frame]) {
        for range in group.iter().flat_map(|frame| &frame.header().ranges) {
            hold(&mut self.held, &self.positions, range);
        }
    }

    /// Puts a group that is written (`place`: where) into the state.
    fn take_in(&mut self, group: Vec<Frame>, place: Option<Place>, now: Nanos) {
        self.hold(&group);
        let (first, count) = (self.next_seq, group.len() as u64);
        self.next_seq += count;
        let bytes: u64 = group.iter().map(|frame| format::frame_bytes(frame.header(), frame.body().len())).sum();
        let keep = !self.options.disk || self.hot_bytes + bytes <= self.options.memory_bytes;
        let mut at = place.map(|place| place.at);
        for (seq, mut frame) in (first..).zip(group) {
            frame.set_seq(seq);
            let bytes = format::frame_bytes(frame.header(), frame.body().len());
            let tally = Tally { frames: 1, records: frame.header().records.into(), bytes };
            self.waiting.add(tally);
            let place = place.zip(at).map(|(place, at)| Place { at, ..place });
            if let Some(segment) = place.and_then(|_| self.segments.back_mut()) {
                segment.waiting.add(tally);
            }
            at = at.map(|at| at + bytes);
            if keep {
                self.hot_bytes += bytes;
                self.hot.push_back(Hot { frame, place, bytes });
            }
        }
        if place.is_some() {
            self.mark(now);
        }
    }

    /// Remembers when the newest frame came, for [`SinkBuffer::tick`]: one mark for all of a quarter of `sync_after`.
    fn mark(&mut self, now: Nanos) {
        match self.marks.back_mut() {
            Some((since, seq)) if now.since(*since) < self.options.sync_after / 4 => *seq = self.next_seq,
            _ => self.marks.push_back((now, self.next_seq)),
        }
    }

    /// Appends a group to the newest segment, or to a new one; says where. After an error nothing of it counts.
    fn write(&mut self, group: &[Frame], now: Nanos) -> io::Result<Option<Place>> {
        let mut headers = std::mem::take(&mut self.scratch);
        headers.clear();
        let len: u64 = group.iter().map(|frame| format::frame_bytes(frame.header(), frame.body().len())).sum();
        if self.segments.back().is_some_and(|newest| !newest.sealed && newest.len + len > self.segment_bytes) {
            self.seal_newest(now);
        }
        let is_new = self.segments.back().is_none_or(|newest| newest.sealed);
        if is_new {
            let segment = self.new_segment(now)?;
            headers.extend_from_slice(&FileHeader::new(Kind::Segment, self.sink, self.epoch, segment.seqs.start).encode());
            self.segments.push_back(segment);
        }
        let mut cuts = vec![headers.len()];
        for (seq, frame) in (self.next_seq..).zip(group) {
            format::encode_header(frame.header(), seq, frame.body(), self.salt, &mut headers);
            cuts.push(headers.len());
        }
        let mut parts = vec![IoSlice::new(&headers[..cuts[0]])];
        for (frame, cut) in group.iter().zip(cuts.windows(2)) {
            let padding = frame.body().len().next_multiple_of(ALIGN as usize) - frame.body().len();
            parts.extend([&headers[cut[0]..cut[1]], frame.body(), &[0; ALIGN as usize][..padding]].map(IoSlice::new));
        }
        let Some(segment) = self.segments.back_mut() else { return Err(io::ErrorKind::NotFound.into()) };
        let outcome = segment.file(&*self.fs).and_then(|file| file.append(&mut parts));
        drop(parts);
        self.scratch = headers;
        match outcome {
            Ok(()) => {
                fail::point(fail::APPENDED);
                let place = Place { segment: segment.seqs.start, at: segment.len };
                segment.len += len;
                segment.seqs.end += group.len() as u64;
                self.wrote(len);
                if self.options.strict {
                    self.sync_newest(group.len() as u64, len, is_new, now)?;
                }
                Ok(Some(place))
            }
            Err(error) => {
                self.undo_write(is_new, now);
                Err(error)
            }
        }
    }

    /// Puts the group on the disk for good that was just written: `frames` frames of `len` bytes. Where that cannot be done it is
    /// taken back, as if it had not been written.
    fn sync_newest(&mut self, frames: u64, len: u64, is_new: bool, now: Nanos) -> io::Result<()> {
        let Some(segment) = self.segments.back_mut() else { return Ok(()) };
        let outcome = segment.sync(&*self.fs, &self.options.dir);
        let seqs = segment.seqs.end - frames..segment.seqs.end;
        match outcome {
            Ok(()) => self.positions.mark_synced(seqs, now),
            Err(_) => {
                segment.len -= len;
                segment.seqs.end = seqs.start;
                self.undo_write(is_new, now);
                if !is_new {
                    self.seal_newest(now); // what the disk has of it is unknown
                }
            }
        }
        outcome
    }

    fn new_segment(&mut self, now: Nanos) -> io::Result<Segment> {
        let mut tries = NAME_TRIES;
        loop {
            let path = self.options.dir.join(segment::name(self.next_seq));
            match self.fs.create(&path) {
                Ok(file) => {
                    let new = Segment::new(self.next_seq, now);
                    return Ok(Segment { path, file: Some(file), salt: self.salt, ..new });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && tries > 0 => {
                    tries -= 1;
                    self.next_seq += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes back what a failed write left: in a new segment all of it, in another what is behind its last frame. Where that
    /// fails too the segment is not appended to again, and its end is told by where the next one begins.
    fn undo_write(&mut self, is_new: bool, now: Nanos) {
        if is_new {
            if let Some(segment) = self.segments.pop_back() {
                let _ = self.fs.unlink(&segment.path);
            }
        } else if let Some(segment) = self.segments.back_mut() {
            let len = segment.len;
            if segment.file(&*self.fs).and_then(|file| file.truncate(len)).is_err() {
                self.seal_newest(now);
            }
        }
    }

    /// Gives up the oldest frames that were not handed out until there is room: whole segments of them, or single frames
    /// where they are in memory only. Says whether there is room then; if not, the new group is the oldest unsent one.
    fn drop_oldest(&mut self, now: Nanos) -> bool {
        while self.is_full() {
            let unsent = |segment: &Segment| self.out.range(segment.seqs.clone()).next().is_none();
            if let Some(index) = self.segments.iter().position(unsent) {
                self.drop_segment(index, now);
            } else if self.hot.front().is_some_and(|hot| hot.place.is_none()) {
                self.drop_hot(now);
            } else {
                return false;
            }
            self.look_at_space_now(now);
        }
        true
    }

    fn drop_segment(&mut self, index: usize, now: Nanos) {
        let Some(segment) = self.segments.get_mut(index) else { return };
        let seqs = segment.seqs.clone();
        self.lost_records += segment.waiting.records;
        self.dropped_records += segment.waiting.records;
        self.waiting.subtract(segment.waiting);
        segment.waiting = Tally::default();
        let is_settled = |seq| self.positions.settled.contains(seq);
        let ranges = unsettled_ranges(segment, &*self.fs, is_settled, |seq| self.lost.contains(seq)).unwrap_or_else(|error| {
            let path = segment.path.display();
            tracing::warn!(%path, %error, "positions of dropped frames cannot be read: after a restart they are read again");
            Vec::new()
        });
        let keys: Vec<u64> = self.groups.range(seqs.clone()).map(|(first, _)| *first).collect();
        let mut ranges = self.still_held(ranges);
        let groups: Vec<_> = keys.iter().filter_map(|first| self.groups.remove(first)).filter(|group| !group.spoiled).collect();
        for group in groups {
            ranges.extend(self.still_held(group.ranges));
        }
        self.hot.retain(|hot| !seqs.contains(&hot.frame.header().seq));
        self.hot_bytes = self.hot.iter().map(|hot| hot.bytes).sum();
        self.retire(index, ranges, now);
    }

    fn drop_hot(&mut self, now: Nanos) {
        if let Some(hot) = self.hot.pop_front() {
            self.hot_bytes -= hot.bytes;
            let (seq, records) = (hot.frame.header().seq, u64::from(hot.frame.header().records));
            self.lost_records += records;
            self.dropped_records += records;
            let group = self.join_group(hot.frame.header());
            self.settle(seq, group, None, Tally { frames: 1, records, bytes: hot.bytes }, false, now);
        }
    }
}

fn ranges(group: &[Frame]) -> Vec<Range> {
    group.iter().flat_map(|frame| frame.header().ranges.iter().copied()).collect()
}
