//! The run loop: one worker takes one chunk at a time from its source through the transforms into the bodies of its sinks.
//!
//! Nothing waits between the stages and nothing is queued for a record: a chunk runs to completion, and only frozen
//! groups of frames leave the worker, through each sink's [`Intake`].

mod feed;
mod outlet;
mod program;

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::Thread;
use std::time::Duration;

pub use feed::Feed;
pub use outlet::{Intake, Outlet, Unsettled};
pub use program::{Edge, Node, Program};

use crate::batch::Batch;
use crate::edge::{Clock, Nanos};
use crate::position::FileKey;
use crate::shared::Shared;
use crate::source::{Chunk, SinkSet};
use crate::stats::Stats;
use crate::transform::Report;

/// The longest that a worker sleeps when nothing is due: a lost wake-up costs no more than this.
const MAX_PARK: Duration = Duration::from_millis(500);

/// How soon a worker looks again whether a full buffer has room, beside being woken when it has.
const ROOM_PARK: Duration = Duration::from_millis(100);

/// Reads, transforms, encodes and freezes, on a thread of its own.
pub struct Worker {
    feeds: Vec<Feed>,
    outlets: Vec<Outlet>,
    clock: Arc<dyn Clock>,
    stats: Arc<Stats>,
    control: Arc<Control>,
}

impl Worker {
    /// A worker over `feeds` whose programs name sinks by their place in `outlets`.
    pub fn new(feeds: Vec<Feed>, outlets: Vec<Outlet>, clock: Arc<dyn Clock>, stats: Arc<Stats>, control: Arc<Control>) -> Worker {
        Worker { feeds, outlets, clock, stats, control }
    }

    /// Works until every source has ended, or the control says to abandon; then freezes what is open. On return every
    /// record that was read is in its sinks' buffers, unless abandoned: then its position has not moved either. Where it was
    /// told to leave, what there was no room for is given back.
    pub fn run(mut self) -> Vec<Unsettled> {
        let mut chunk =
            Chunk { batch: Batch::new(Shared::empty(), FileKey([0; 16])), covers: Vec::new(), needs: SinkSet::default(), bytes_read: 0 };
        let mut report = Report::default();
        let mut stopping = false;
        loop {
            if self.control.phase() == Phase::Leave as u8 {
                return self.leave();
            }
            if !stopping && self.control.is(Phase::Stop) {
                stopping = true;
                self.feeds.iter_mut().for_each(Feed::stop);
            }
            let now = self.clock.now();
            let worked = self.turn(&mut chunk, now, &mut report);
            self.stats.add_report(&std::mem::take(&mut report));
            let ended = self.feeds.iter().all(Feed::has_ended);
            self.freeze_due(now, ended);
            if (ended && self.outlets.iter().all(Outlet::is_settled)) || self.control.is(Phase::Abandon) {
                return Vec::new();
            }
            if !worked {
                self.park(now);
            }
        }
    }

    /// Lets go of the sources and freezes what is open, for another worker to take over.
    fn leave(mut self) -> Vec<Unsettled> {
        self.feeds.iter_mut().for_each(Feed::leave);
        let now = self.clock.now();
        self.outlets.into_iter().filter_map(|outlet| outlet.leave(now)).collect()
    }

    /// Gives every feed a turn; says whether one of them had something.
    fn turn(&mut self, chunk: &mut Chunk, now: Nanos, report: &mut Report) -> bool {
        let mut worked = false;
        for feed in &mut self.feeds {
            worked |= feed.turn(chunk, &mut self.outlets, now, |program, chunk, sinks, outlets| {
                take_through(chunk, program, sinks, outlets, now, report);
            });
        }
        worked
    }

    /// One round of the loop, for a simulation that is thread and clock in one; `ending` freezes what is open. Says whether
    /// something was read.
    /// Readers of all sources: more than those where sinks were left behind.
    #[cfg(test)]
    pub(crate) fn reader_count(&self) -> usize {
        self.feeds.iter().map(Feed::reader_count).sum()
    }

    #[cfg(test)]
    pub(crate) fn round(&mut self, chunk: &mut Chunk, now: Nanos, ending: bool) -> bool {
        let worked = !ending && self.turn(chunk, now, &mut Report::default());
        self.freeze_due(now, ending);
        worked
    }

    fn freeze_due(&mut self, now: Nanos, ended: bool) {
        for outlet in &mut self.outlets {
            outlet.freeze_if_due(now, ended);
        }
    }

    fn park(&mut self, now: Nanos) {
        let feeds = self.feeds.iter().filter_map(|feed| feed.due_at(now.after(ROOM_PARK)));
        let outlets = self.outlets.iter().filter_map(|outlet| outlet.due_at(now));
        let until = feeds.chain(outlets).min().unwrap_or(now.after(MAX_PARK));
        let wait = until.since(now).clamp(Duration::from_millis(1), MAX_PARK);
        self.control.enroll();
        std::thread::park_timeout(wait);
        // A wake-up does not say for whom: whoever was idle is asked again.
        if self.clock.now() < now.after(wait) {
            self.feeds.iter_mut().for_each(Feed::wake);
        }
    }
}

/// Takes one chunk to its end for those of `sinks` that need it: transforms, encoders, and the bytes that it accounts for.
fn take_through(chunk: &mut Chunk, program: &mut Program, sinks: SinkSet, outlets: &mut [Outlet], now: Nanos, report: &mut Report) {
    let needs = chunk.needs.and(sinks);
    for outlet in outlets.iter_mut() {
        outlet.set_now(now);
    }
    program.run(&mut chunk.batch, needs, outlets, report);
    for (index, outlet) in outlets.iter_mut().enumerate() {
        if needs.contains(index) {
            outlet.cover(&chunk.covers);
            outlet.freeze_if_due(now, false);
        }
    }
}

/// How far a worker has been told to stop.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
enum Phase {
    Run,
    Leave,
    Stop,
    Abandon,
}

/// Tells a worker to stop, and wakes it.
#[derive(Debug)]
pub struct Control {
    phase: AtomicU8,
    worker: std::sync::OnceLock<Thread>,
}

impl Control {
    /// A control that lets its worker run.
    pub fn new() -> Arc<Control> {
        Arc::new(Control { phase: AtomicU8::new(Phase::Run as u8), worker: std::sync::OnceLock::new() })
    }

    /// End after the chunk under way, freezing what is open, so that another worker can go on. It waits for nothing.
    pub fn leave(&self) {
        self.phase.fetch_max(Phase::Leave as u8, Ordering::AcqRel);
        self.wake();
    }

    /// Stop reading, freeze what is open, end.
    pub fn stop(&self) {
        self.phase.fetch_max(Phase::Stop as u8, Ordering::AcqRel);
        self.wake();
    }

    /// End now, even though a buffer takes nothing any more. What is not in a buffer is read again at the next start.
    pub fn abandon(&self) {
        self.phase.fetch_max(Phase::Abandon as u8, Ordering::AcqRel);
        self.wake();
    }

    /// Wakes the worker: a source has something, or a buffer has room.
    pub fn wake(&self) {
        if let Some(worker) = self.worker.get() {
            worker.unpark();
        }
    }

    fn enroll(&self) {
        self.worker.get_or_init(std::thread::current);
    }

    fn is(&self, phase: Phase) -> bool {
        self.phase() >= phase as u8
    }

    fn phase(&self) -> u8 {
        self.phase.load(Ordering::Acquire)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests;
