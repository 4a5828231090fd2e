//! What a source holds at the most beside what it is reading: text of records whose end has not come, and deleted files.

use skidder_pipeline::edge::Nanos;

use super::Tailer;
use super::stream::Stream;

/// The text of all records of parts and of several lines together: a quarter of the default memory limit. Each is bounded by
/// `max_record_bytes`, but there are thousands of containers, and any of them may never end its line.
pub(super) const MAX_PENDING_BYTES: usize = 16 * 1024 * 1024;

/// What a stream last added to the sums of its source.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Share {
    /// Bytes known to be there and not read.
    pub unread: u64,
    /// Bytes of files that only this process keeps on the disk.
    pub held: u64,
    /// Bytes of text that wait for the ends of their records.
    pub pending: u64,
}

impl Share {
    fn of(stream: &Stream) -> Share {
        let deleted = stream.chain.iter().filter(|generation| generation.facts.deleted);
        Share {
            unread: stream.count_unread(),
            held: deleted.map(|generation| generation.facts.size).sum(),
            pending: stream.joiner.text_bytes(),
        }
    }

    fn replace(&mut self, old: Share, new: Share) {
        self.unread = self.unread + new.unread - old.unread;
        self.held = self.held + new.held - old.held;
        self.pending = self.pending + new.pending - old.pending;
    }
}

impl Tailer {
    /// Brings the sums up to date with what changed of a stream.
    pub(super) fn recount(&mut self, stream: &mut Stream) {
        let share = Share::of(stream);
        self.sums.replace(stream.share(), share);
        match &mut stream.share {
            Some(own) => **own = share,
            None if share == Share::default() => {}
            own => *own = Some(Box::new(share)),
        }
        if let Some(hold) = &mut stream.hold {
            hold.set_unread(share.unread);
        }
        self.env.stats.unread_bytes.set(self.sums.unread);
    }

    /// Gives up what is beyond the limits, of whoever has most.
    pub(super) fn keep_limits(&mut self) {
        while self.sums.pending > MAX_PENDING_BYTES as u64 {
            let Some(mut stream) = self.take_largest(|share| share.pending) else { return };
            stream.joiner.shrink_largest();
            self.put_back(stream);
        }
        while self.sums.held > self.settings.max_held_bytes {
            let Some(mut stream) = self.take_largest(|share| share.held) else { return };
            self.give_up_oldest(&mut stream);
            self.put_back(stream);
        }
    }

    fn take_largest(&mut self, of: impl Fn(&Share) -> u64) -> Option<Box<Stream>> {
        let largest = self
            .streams
            .iter_mut()
            .filter(|slot| slot.is_some())
            .max_by_key(|slot| slot.as_ref().map_or(0, |stream| of(&stream.share())))?;
        largest.take_if(|stream| of(&stream.share()) > 0)
    }

    fn put_back(&mut self, mut stream: Box<Stream>) {
        self.recount(&mut stream);
        let Some(index) = self.units.get(&stream.unit).copied() else { return };
        if !stream.active && !stream.joiner.ready.is_empty() {
            stream.active = true;
            self.active.push_back(index);
        }
        self.streams[index] = Some(stream);
    }

    /// Closes a stream's oldest deleted file, read or not: its space is needed.
    fn give_up_oldest(&mut self, stream: &mut Stream) {
        let Some(at) = stream.chain.iter().position(|generation| generation.facts.deleted) else { return };
        let generation = stream.chain.remove(at);
        self.inodes.remove(&(generation.facts.dev, generation.facts.ino));
        let key = generation.key();
        stream.joiner.give_up(true, |file| Some(*file) == key);
        if let Some(key) = key {
            self.env.held.forget(&key);
        }
        let lost = generation.unread();
        if lost > 0 {
            self.env.count_lost(&self.env.losses, &stream.unit, lost);
            tracing::warn!(
                source = %self.env.name, log = %stream.unit.display(), lost_bytes = lost, max_held_bytes = self.settings.max_held_bytes,
                "a deleted log is given up before it is read, since deleted logs take too much of the disk; the oldest of the container that holds most"
            );
        }
    }
}

/// How much a log may be read of, by time.
#[derive(Debug, Default)]
pub(super) struct Allowance {
    bytes: i64,
    since: Option<Nanos>,
}

impl Allowance {
    /// Waits for the next byte where `rate` bytes per second are used up: until when.
    pub(super) fn wait(&mut self, rate: u64, now: Nanos) -> Option<Nanos> {
        let rate = i64::try_from(rate).unwrap_or(i64::MAX).max(1);
        // No more is saved up than for a second.
        let since = self.since.replace(now);
        let passed = since.map_or(1_000_000_000, |since| now.0.saturating_sub(since.0).min(1_000_000_000));
        let more = i128::from(rate) * i128::from(passed) / 1_000_000_000;
        self.bytes = self.bytes.saturating_add(i64::try_from(more).unwrap_or(i64::MAX)).min(rate);
        if self.bytes > 0 {
            return None;
        }
        let nanos = i128::from(1 - self.bytes) * 1_000_000_000 / i128::from(rate);
        Some(Nanos(now.0.saturating_add(u64::try_from(nanos).unwrap_or(u64::MAX))))
    }

    /// Counts what was read.
    pub(super) fn spend(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_sub(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}
