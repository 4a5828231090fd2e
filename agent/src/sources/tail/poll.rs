//! Streams that rest: when they are looked at again, and what becomes of those that are over.

use std::cmp::Reverse;
use std::path::Path;
use std::sync::Arc;

use skidder_pipeline::edge::Nanos;
use skidder_pipeline::position::FileKey;

use super::generation::Memory;
use super::stream::Stream;
use super::{Inode, Tailer};

/// Looks are bundled: a node with 10,000 idle logs wakes twenty times a second, not thousands.
const TICK_NANOS: u64 = 50_000_000;

impl Tailer {
    pub(super) fn schedule(&mut self, stream: &mut Stream, index: usize, at: Nanos) {
        let due = Nanos(at.0.next_multiple_of(TICK_NANOS));
        stream.due = due;
        self.timers.push(Reverse((due, index)));
    }

    /// Looks at the streams whose time has come.
    pub(super) fn poll_due(&mut self, now: Nanos) {
        while let Some(Reverse((due, index))) = self.timers.peek().copied() {
            if due > now {
                return;
            }
            self.timers.pop();
            let Some(mut stream) = self.streams[index].take_if(|stream| !stream.active && stream.due == due) else { continue };
            if stream.poll(&self.env, now) || self.hand_to_watch(&mut stream, now) {
                stream.active = true;
                self.active.push_back(index);
            } else {
                self.close_finished(&mut stream, now);
                if stream.gone && stream.chain.is_empty() && stream.joiner.is_empty() {
                    self.recount(&mut stream);
                    self.units.remove(&stream.unit);
                    self.forget_past(&stream.unit, |_| true, &[]);
                    self.free.push(index);
                    continue;
                }
                let next = stream.next_look(&self.env, now);
                self.schedule(&mut stream, index, next);
            }
            self.recount(&mut stream);
            self.streams[index] = Some(stream);
        }
    }

    /// Lets inotify tell of writes to a stream that rests, instead of asking it. Says whether there is something to do: it is
    /// asked once more when inotify is told, so that nothing can come between.
    fn hand_to_watch(&mut self, stream: &mut Stream, now: Nanos) -> bool {
        self.keep_watched(stream, now);
        if stream.watched || !stream.rests_long() || !stream.is_still() || !self.watch.tell_writes(&stream.unit, true) {
            return false;
        }
        stream.be_watched();
        stream.poll(&self.env, now)
    }

    /// Goes back to asking a stream that is written often, or about which something is due.
    pub(super) fn keep_watched(&mut self, stream: &mut Stream, now: Nanos) {
        if stream.watched && (stream.is_busy(now) || !stream.is_still()) {
            self.ask(stream);
        }
    }

    /// Goes back to asking a stream that inotify told of.
    pub(super) fn ask(&mut self, stream: &mut Stream) {
        self.watch.tell_writes(&stream.unit, false);
        stream.be_asked();
    }

    fn close_finished(&mut self, stream: &mut Stream, now: Nanos) {
        for generation in stream.take_finished(now) {
            let inode = (generation.facts.dev, generation.facts.ino);
            self.inodes.remove(&inode);
            let named = match &generation.compressed {
                Some(entry) => Some((entry.dev, entry.ino)),
                None => Some(inode).filter(|_| !generation.facts.deleted),
            };
            match (named, generation.key(), generation.memory()) {
                (Some(inode), Some(key), Some(memory)) => self.retire(&stream.unit, (inode, key), memory),
                (None, Some(key), _) => self.env.held.forget(&key),
                _ => {}
            }
        }
    }

    /// Remembers a generation that has been read and still has a name.
    pub(super) fn retire(&mut self, unit: &Arc<Path>, (inode, key): (Inode, FileKey), memory: Memory) {
        // A container's directory holds all that its run wrote. Another file may be anywhere by now.
        if self.env.registry.is_none() {
            self.past.entry(unit.clone()).or_default().push((inode, key));
        }
        self.remember(inode, memory);
    }

    /// Forgets those past generations of a unit whose files are gone, so that positions do not grow for ever; not those that
    /// are there in another form, nor the keys in `open`.
    pub(super) fn forget_past(&mut self, unit: &Arc<Path>, is_gone: impl Fn(Inode) -> bool, open: &[FileKey]) {
        let Some(past) = self.past.get_mut(unit) else { return };
        let gone: Vec<_> = past.extract_if(.., |(inode, _)| is_gone(*inode)).collect();
        let there: Vec<FileKey> = past.iter().map(|(_, key)| *key).collect();
        if past.is_empty() {
            self.past.remove(unit);
        }
        for (inode, key) in gone {
            self.closed.remove(&inode);
            if !there.contains(&key) && !open.contains(&key) {
                self.env.held.forget(&key);
            }
        }
    }
}
