//! Taking over what another buffer has, or where it stands: after a sink was renamed.

use std::io;

use super::positions::hold;
use super::{Appended, Held, SinkBuffer};
use crate::edge::Nanos;
use crate::frame::Frame;
use crate::position::{FileKey, Range, RangeSet};

impl SinkBuffer {
    /// Begins where others stand: what they `held` counts as held from now on, and is not read for this one. Synced before it
    /// returns, where the disk takes it.
    pub fn begin_at(&mut self, held: &Held, now: Nanos) {
        self.settle_in_log(0..0, ranges_of(held.iter()), Vec::new(), now);
        self.sync(now);
    }

    /// Takes over the frames that wait in `old`, behind its own and each under the identity that it has, with the cuts that were
    /// made in it; then all that `old` holds, so that what one of the two has read the other does not read again. Gives the
    /// frames and their records. All of it is synced then, and `old`, which is left as it is, may be removed.
    ///
    /// Done twice, as after a crash in the midst of it, frames are sent again as they were.
    ///
    /// # Errors
    /// Where this buffer cannot be written, or `old` not be read to its end.
    pub fn adopt(&mut self, old: &mut SinkBuffer, now: Nanos) -> io::Result<(u64, u64)> {
        let (mut frames, mut records) = (0, 0);
        while let Some(frame) = old.next() {
            let cuts = old.cuts(frame.header().seq, frame.header().id);
            frames += 1;
            records += u64::from(frame.header().records);
            // Others of its group may be settled. What the group holds is taken over at the end.
            let mut header = frame.header().clone();
            (header.group_index, header.group_len, header.ranges) = (0, 1, Vec::new());
            match self.append(vec![Frame::from_parts(header, frame.body().clone())], now) {
                Appended::Kept => {}
                Appended::Full(_) | Appended::Dropped { .. } => return Err(io::ErrorKind::StorageFull.into()),
            }
            let seq = self.next_seq - 1;
            cuts.into_iter().for_each(|cut| self.positions.cut(seq, cut, now));
        }
        if old.waiting().0 != frames {
            return Err(io::Error::other("some of it cannot be read now"));
        }
        let files = old.files();
        let ranges = ranges_of(files.iter().filter_map(|file| Some((file, old.held(file)?))));
        ranges.iter().for_each(|range| hold(&mut self.held, &self.positions, range));
        self.settle_in_log(0..0, ranges, Vec::new(), now);
        self.sync(now);
        if self.positions.is_synced() { Ok((frames, records)) } else { Err(io::Error::other("its positions cannot be synced")) }
    }
}

fn ranges_of<'a>(held: impl Iterator<Item = (&'a FileKey, &'a RangeSet)>) -> Vec<Range> {
    let ranges = |(file, set): (&FileKey, &'a RangeSet)| {
        let file = *file;
        set.stretches().iter().map(move |held| Range { file, start: held.start, end: held.end, marker: held.marker })
    };
    held.flat_map(ranges).collect()
}
