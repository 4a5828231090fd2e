//! How much a buffer may take in: its own bound, and what has to stay free on its file system.

use std::time::Duration;

use super::SinkBuffer;
use crate::edge::Nanos;
use crate::fs::Space;

/// How often the file system is asked. What is written in between is counted.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What stays free where nothing is set: a tenth, which is where kubelet begins to evict pods (`nodefs.available<10%`), and of
/// a large disk this much.
const MAX_DEFAULT_FREE_BYTES: u64 = 5 << 30;

/// What is known of the file system.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Room {
    looked_at: Option<Nanos>,
    free: u64,
    /// What has to stay free.
    reserve: u64,
    /// Whether it was said that there is too little.
    warned: bool,
}

impl SinkBuffer {
    /// Whether nothing more may be taken in.
    pub(super) fn is_full(&self) -> bool {
        self.used_bytes() >= self.options.max_bytes || self.lacks_space()
    }

    /// Whether the file system has less room than has to stay, and the buffer has more than a segment. That much it may always
    /// have: to stop altogether would help nobody on a disk that others fill.
    fn lacks_space(&self) -> bool {
        self.room.free < self.room.reserve && self.used_bytes() >= self.segment_bytes
    }

    /// Asks the file system how much room it has, where that was not done lately.
    pub(super) fn look_at_space(&mut self, now: Nanos) {
        if self.room.looked_at.is_none_or(|at| at.after(LOOK_EVERY) <= now) {
            self.look_at_space_now(now);
        }
    }

    pub(super) fn look_at_space_now(&mut self, now: Nanos) {
        if !self.options.disk || self.options.min_free_bytes == Some(0) {
            return;
        }
        self.room.looked_at = Some(now);
        // What cannot be told does not stop anything.
        let Space { free, total } = self.fs.space(&self.options.dir).unwrap_or(Space { free: u64::MAX, total: 0 });
        self.room.free = free;
        self.room.reserve = self.options.min_free_bytes.unwrap_or((total / 10).min(MAX_DEFAULT_FREE_BYTES));
        let lacks = self.lacks_space();
        if lacks != std::mem::replace(&mut self.room.warned, lacks) {
            let (dir, min_free) = (self.options.dir.display(), self.room.reserve);
            if lacks {
                tracing::warn!(%dir, free, min_free, "the file system of a buffer is nearly full: the buffer counts as full until there is room (`buffer.min_free`)");
            } else {
                tracing::info!(%dir, free, "the file system of a buffer has room again");
            }
        }
    }

    /// Counts what was written since the last look.
    pub(super) fn wrote(&mut self, bytes: u64) {
        self.room.free = self.room.free.saturating_sub(bytes);
    }

    /// When to look again: while there is too little room nothing else may make a difference.
    pub(super) fn look_again_at(&self) -> Option<Nanos> {
        self.room.looked_at.filter(|_| self.lacks_space()).map(|at| at.after(LOOK_EVERY))
    }
}
