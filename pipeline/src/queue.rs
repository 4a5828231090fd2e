//! The meeting point of a sink's two halves: the worker that fills its buffer and the delivery that empties it.

mod ages;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::buffer::{Appended, Held, Losses, SinkBuffer};
use crate::edge::{Clock, Nanos};
use crate::frame::{BatchId, Cut, Frame};
use crate::position::{FileKey, Range, RangeSet};
use crate::run::Intake;
use crate::sink::Note;
use crate::stats::SinkStats;

use ages::Ages;

/// Called when there is room again after a worker met a full buffer: unparks it.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// What a [`Queue`] needs of a buffer. [`SinkBuffer`] is the one there is; tests put a simple one in its place.
pub trait Buffer: Send {
    /// See [`SinkBuffer::has_room`].
    fn has_room(&self) -> bool;
    /// See [`SinkBuffer::append`].
    fn append(&mut self, group: Vec<Frame>, now: Nanos) -> Appended;
    /// See [`SinkBuffer::next`].
    fn next(&mut self) -> Option<Frame>;
    /// See [`SinkBuffer::acknowledge`].
    fn acknowledge(&mut self, seq: u64, note: Option<Note>, now: Nanos);
    /// See [`SinkBuffer::cut`]; nothing where frames do not outlive the process.
    fn cut(&mut self, seq: u64, cut: Cut, now: Nanos) {
        let _ = (seq, cut, now);
    }
    /// See [`SinkBuffer::cuts`].
    fn cuts(&self, seq: u64, frame: BatchId) -> Vec<Cut> {
        let _ = (seq, frame);
        Vec::new()
    }
    /// See [`SinkBuffer::put_back`].
    fn put_back(&mut self, seq: u64);
    /// See [`SinkBuffer::tick`].
    fn tick(&mut self, now: Nanos) -> Option<Nanos>;
    /// See [`SinkBuffer::sync`].
    fn sync(&mut self, now: Nanos);
    /// See [`SinkBuffer::is_empty`].
    fn is_empty(&self) -> bool;
    /// See [`SinkBuffer::waiting`].
    fn waiting(&self) -> (u64, u64, u64);
    /// See [`SinkBuffer::losses`].
    fn losses(&self) -> Losses;
    /// See [`SinkBuffer::max_bytes`].
    fn max_bytes(&self) -> u64;
    /// See [`SinkBuffer::is_degraded`].
    fn is_degraded(&self) -> bool;
    /// See [`SinkBuffer::held`].
    fn held(&self, file: &FileKey) -> Option<&RangeSet>;
    /// See [`SinkBuffer::files`].
    fn files(&self) -> Vec<FileKey>;
    /// See [`SinkBuffer::is_delivered`].
    fn is_delivered(&self, file: &FileKey) -> bool;
    /// See [`SinkBuffer::forget`].
    fn forget(&mut self, file: &FileKey);
}

/// The buffer of one sink, shared by its worker (a thread that never waits here longer than the lock is held) and its
/// delivery (a task that waits for frames).
///
/// The lock is held for one call of the buffer at a time; what may take long in there is a write or a sync of the disk,
/// which both halves depend on anyway.
pub struct Queue<B: Buffer = SinkBuffer> {
    inner: Mutex<Inner<B>>,
    frames: Notify,
    /// Something was appended or acknowledged, so that there may be something to sync.
    changed: Notify,
    wake_worker: Waker,
    /// A worker was told that there is no room and waits to be woken.
    worker_waits: AtomicBool,
    /// The upkeep is to end.
    retired: AtomicBool,
    stats: Arc<SinkStats>,
}

struct Inner<B> {
    buffer: B,
    ages: Ages,
    /// What the worker has and will append.
    promised: BTreeMap<FileKey, RangeSet>,
}

impl<B: Buffer> Queue<B> {
    /// A queue over `buffer`. `wake_worker` is called when there is room again after [`Queue::has_room`] said no or
    /// [`Queue::append`] gave a group back.
    pub fn new(buffer: B, wake_worker: Waker, stats: Arc<SinkStats>, now: Nanos) -> Queue<B> {
        let mut ages = Ages::default();
        // When frames of an earlier run came is not known.
        ages.came(buffer.waiting().0, now);
        let queue = Queue {
            inner: Mutex::new(Inner { buffer, ages, promised: BTreeMap::new() }),
            frames: Notify::new(),
            changed: Notify::new(),
            wake_worker,
            worker_waits: AtomicBool::new(false),
            retired: AtomicBool::new(false),
            stats,
        };
        queue.update_stats(&mut queue.lock());
        queue
    }

    /// What the sink counts.
    pub fn stats(&self) -> &Arc<SinkStats> {
        &self.stats
    }

    /// Appends a frozen group: see [`SinkBuffer::append`].
    pub fn append(&self, group: Vec<Frame>, now: Nanos) -> Appended {
        let mut inner = self.lock();
        let frames = if group.iter().any(|frame| frame.header().records > 0) { group.len() as u64 } else { 0 };
        let appended = inner.buffer.append(group, now);
        match appended {
            Appended::Kept => inner.ages.came(frames, now),
            Appended::Dropped { .. } => {}
            Appended::Full(_) => self.worker_waits.store(true, Ordering::Relaxed),
        }
        self.update_stats(&mut inner);
        drop(inner);
        self.frames.notify_one();
        self.changed.notify_one();
        appended
    }

    /// Whether a group may be appended now. Where not, the worker is woken as soon as it may.
    pub fn has_room(&self) -> bool {
        let room = self.lock().buffer.has_room();
        if !room {
            self.worker_waits.store(true, Ordering::Relaxed);
        }
        room
    }

    /// Whether every frame is dealt with.
    pub fn is_empty(&self) -> bool {
        self.lock().buffer.is_empty()
    }

    /// The oldest frame that was not handed out yet; waits for one. Dropping the future loses nothing. For one delivery:
    /// with two, only one would be woken.
    pub async fn next(&self) -> Frame {
        loop {
            // A frame that comes between the look and the wait leaves its permit, so no wake-up is missed.
            if let Some(frame) = self.try_next() {
                return frame;
            }
            self.frames.notified().await;
        }
    }

    /// The oldest frame that was not handed out yet, if there is one now.
    pub fn try_next(&self) -> Option<Frame> {
        self.lock().buffer.next()
    }

    /// Says that frame `seq` is dealt with: see [`SinkBuffer::acknowledge`].
    pub fn acknowledge(&self, seq: u64, note: Option<Note>, now: Nanos) {
        let mut inner = self.lock();
        inner.buffer.acknowledge(seq, note, now);
        self.update_stats(&mut inner);
        self.wake_for_room(inner);
        self.changed.notify_one();
    }

    /// Puts on record that a piece of frame `seq` is sent as parts: see [`SinkBuffer::cut`].
    pub fn cut(&self, seq: u64, cut: Cut, now: Nanos) {
        self.lock().buffer.cut(seq, cut, now);
        self.changed.notify_one();
    }

    /// How a frame was cut before: see [`SinkBuffer::cuts`].
    pub fn cuts(&self, frame: &Frame) -> Vec<Cut> {
        self.lock().buffer.cuts(frame.header().seq, frame.header().id)
    }

    /// Hands out frame `seq` again later, before newer ones.
    pub fn put_back(&self, seq: u64) {
        self.lock().buffer.put_back(seq);
        self.frames.notify_one();
    }

    /// Syncs what is due; says when to call again.
    pub fn tick(&self, now: Nanos) -> Option<Nanos> {
        let mut inner = self.lock();
        let next = inner.buffer.tick(now);
        self.update_stats(&mut inner);
        // A disk that refused may have come back: room is not made by acknowledgements alone, nor frames by appends.
        self.wake_for_room(inner);
        self.frames.notify_one();
        next
    }

    /// Lets [`Queue::upkeep`] end soon, but not in the middle of a tick: for a buffer that another is to be opened in place of.
    pub fn retire(&self) {
        self.retired.store(true, Ordering::Release);
        self.changed.notify_one();
    }

    /// Takes [`Queue::retire`] back; an upkeep that has ended has to be started anew.
    pub fn go_on(&self) {
        self.retired.store(false, Ordering::Release);
    }

    /// Calls [`Queue::tick`] whenever it is due, until [`Queue::retire`]: a task beside the delivery. Syncs run on the blocking
    /// threads.
    pub async fn upkeep(self: Arc<Self>, clock: Arc<dyn Clock>)
    where
        B: 'static,
    {
        /// How soon after a change the buffer is asked what is due: far below any `sync_after`, and few calls a second.
        const AFTER_CHANGE: Duration = Duration::from_millis(100);
        let mut due: Option<Nanos> = None;
        while !self.retired.load(Ordering::Acquire) {
            match due {
                None => {
                    self.changed.notified().await;
                    tokio::time::sleep(AFTER_CHANGE).await;
                }
                Some(due) => {
                    let soon = async {
                        self.changed.notified().await;
                        tokio::time::sleep(AFTER_CHANGE).await;
                    };
                    // Dropped at its time: what changed meanwhile is looked at by the tick.
                    let _ = tokio::time::timeout(due.since(clock.now()), soon).await;
                }
            }
            let (queue, clock) = (self.clone(), clock.clone());
            due = tokio::task::spawn_blocking(move || queue.tick(clock.now())).await.unwrap_or_default();
        }
    }

    /// Syncs everything: before a stop.
    pub fn sync(&self, now: Nanos) {
        self.lock().buffer.sync(now);
    }

    /// What the sink holds of `file`: in frames or delivered, or promised by its worker.
    pub fn held(&self, file: &FileKey) -> Option<RangeSet> {
        let inner = self.lock();
        let (held, promised) = (inner.buffer.held(file).cloned(), inner.promised.get(file));
        let Some(promised) = promised else { return held };
        let mut all = held.unwrap_or_default();
        promised.stretches().iter().for_each(|held| all.insert(held.start, held.end, held.marker));
        Some(all)
    }

    /// Every file that something is held of.
    pub fn files(&self) -> Vec<FileKey> {
        self.lock().buffer.files()
    }

    /// Whether the store has all that is held of `file`: nothing of it waits or is promised by the worker.
    pub fn is_delivered(&self, file: &FileKey) -> bool {
        let inner = self.lock();
        inner.buffer.is_delivered(file) && !inner.promised.contains_key(file)
    }

    /// Says that `file` is gone for good.
    pub fn forget(&self, file: &FileKey) {
        self.lock().buffer.forget(file);
    }

    fn lock(&self) -> MutexGuard<'_, Inner<B>> {
        // A buffer keeps itself consistent call by call: a panic elsewhere while it was locked is no reason to stop.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake_for_room(&self, inner: MutexGuard<'_, Inner<B>>) {
        let wake = self.worker_waits.load(Ordering::Relaxed) && inner.buffer.has_room();
        if wake {
            self.worker_waits.store(false, Ordering::Relaxed);
        }
        drop(inner);
        if wake {
            (self.wake_worker)();
        }
    }

    fn update_stats(&self, inner: &mut Inner<B>) {
        let (buffer, stats) = (&inner.buffer, &self.stats);
        let (frames, records, bytes) = buffer.waiting();
        stats.buffered_records.set(records);
        stats.buffered_bytes.set(bytes);
        stats.buffer_max_bytes.set(buffer.max_bytes());
        stats.buffer_degraded.set(buffer.is_degraded().into());
        let losses = buffer.losses();
        stats.lost.set(losses.dropped_records + losses.damaged_records);
        stats.dropped.set(losses.dropped_records);
        stats.damaged_frames.set(losses.damaged_frames);
        stats.torn_bytes.set(losses.torn_bytes);
        stats.oldest_waiting.set(inner.ages.oldest(frames).map_or(0, |at| at.0));
    }
}

impl Queue<SinkBuffer> {
    /// See [`SinkBuffer::begin_at`]; before its worker has begun.
    pub fn begin_at(&self, held: &Held, now: Nanos) {
        self.lock().buffer.begin_at(held, now);
    }
}

impl<B: Buffer> Intake for Queue<B> {
    fn has_room(&self) -> bool {
        Queue::has_room(self)
    }

    fn append(&self, group: Vec<Frame>, now: Nanos) -> Appended {
        Queue::append(self, group, now)
    }

    fn promise(&self, ranges: Vec<Range>) {
        let mut inner = self.lock();
        inner.promised.clear();
        for range in ranges {
            inner.promised.entry(range.file).or_default().insert(range.start, range.end, range.marker);
        }
    }
}

impl Buffer for SinkBuffer {
    fn has_room(&self) -> bool {
        SinkBuffer::has_room(self)
    }
    fn append(&mut self, group: Vec<Frame>, now: Nanos) -> Appended {
        SinkBuffer::append(self, group, now)
    }
    fn next(&mut self) -> Option<Frame> {
        SinkBuffer::next(self)
    }
    fn acknowledge(&mut self, seq: u64, note: Option<Note>, now: Nanos) {
        SinkBuffer::acknowledge(self, seq, note, now);
    }
    fn cut(&mut self, seq: u64, cut: Cut, now: Nanos) {
        SinkBuffer::cut(self, seq, cut, now);
    }
    fn cuts(&self, seq: u64, frame: BatchId) -> Vec<Cut> {
        SinkBuffer::cuts(self, seq, frame)
    }
    fn put_back(&mut self, seq: u64) {
        SinkBuffer::put_back(self, seq);
    }
    fn tick(&mut self, now: Nanos) -> Option<Nanos> {
        SinkBuffer::tick(self, now)
    }
    fn sync(&mut self, now: Nanos) {
        SinkBuffer::sync(self, now);
    }
    fn is_empty(&self) -> bool {
        SinkBuffer::is_empty(self)
    }
    fn waiting(&self) -> (u64, u64, u64) {
        SinkBuffer::waiting(self)
    }
    fn losses(&self) -> Losses {
        SinkBuffer::losses(self)
    }
    fn max_bytes(&self) -> u64 {
        SinkBuffer::max_bytes(self)
    }
    fn is_degraded(&self) -> bool {
        SinkBuffer::is_degraded(self)
    }
    fn held(&self, file: &FileKey) -> Option<&RangeSet> {
        SinkBuffer::held(self, file)
    }
    fn files(&self) -> Vec<FileKey> {
        SinkBuffer::files(self)
    }
    fn is_delivered(&self, file: &FileKey) -> bool {
        SinkBuffer::is_delivered(self, file)
    }
    fn forget(&mut self, file: &FileKey) {
        SinkBuffer::forget(self, file);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
pub(crate) mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::atomic::AtomicUsize;
    use std::task::Poll;

    use super::*;
    use crate::body::{Bodies, BodyLimits, Compression};
    use crate::frame::{FrameScope, freeze};

    /// Frames in memory, at most `max` of them, with an account of what was done to them.
    #[derive(Default)]
    pub(crate) struct Plain {
        pub max: usize,
        pub frames: BTreeMap<u64, Frame>,
        pub taken: BTreeSet<u64>,
        pub acknowledged: Vec<(u64, Option<Note>)>,
        pub ticks: Vec<Nanos>,
        pub cuts: BTreeMap<u64, Vec<Cut>>,
        next_seq: u64,
    }

    impl Plain {
        pub(crate) fn of(max: usize) -> Plain {
            Plain { max, next_seq: 1, ..Plain::default() }
        }
    }

    impl Buffer for Plain {
        fn has_room(&self) -> bool {
            self.frames.len() < self.max
        }
        fn append(&mut self, group: Vec<Frame>, _: Nanos) -> Appended {
            if !self.has_room() {
                return Appended::Full(group);
            }
            for mut frame in group {
                frame.set_seq(self.next_seq);
                self.frames.insert(self.next_seq, frame);
                self.next_seq += 1;
            }
            Appended::Kept
        }
        fn next(&mut self) -> Option<Frame> {
            let (seq, frame) = self.frames.iter().find(|(seq, _)| !self.taken.contains(seq))?;
            self.taken.insert(*seq);
            Some(frame.clone())
        }
        fn acknowledge(&mut self, seq: u64, note: Option<Note>, _: Nanos) {
            assert!(self.taken.contains(&seq), "acknowledged what was not handed out");
            self.frames.remove(&seq).expect("acknowledged twice");
            self.acknowledged.push((seq, note));
        }
        fn cut(&mut self, seq: u64, cut: Cut, _: Nanos) {
            self.cuts.entry(seq).or_default().push(cut);
        }
        fn cuts(&self, seq: u64, _: BatchId) -> Vec<Cut> {
            self.cuts.get(&seq).cloned().unwrap_or_default()
        }
        fn put_back(&mut self, seq: u64) {
            assert!(self.taken.remove(&seq), "put back what was not handed out");
        }
        /// Something is due five seconds after the first tick after a change, then nothing.
        fn tick(&mut self, now: Nanos) -> Option<Nanos> {
            self.ticks.push(now);
            (self.ticks.len() % 2 == 1).then(|| now.after(Duration::from_secs(5)))
        }
        fn sync(&mut self, _: Nanos) {}
        fn is_empty(&self) -> bool {
            self.frames.is_empty()
        }
        fn waiting(&self) -> (u64, u64, u64) {
            let records = self.frames.values().map(|f| u64::from(f.header().records)).sum();
            (self.frames.len() as u64, records, self.frames.values().map(|f| f.body().len() as u64).sum())
        }
        fn losses(&self) -> Losses {
            Losses::default()
        }
        fn max_bytes(&self) -> u64 {
            self.max as u64
        }
        fn is_degraded(&self) -> bool {
            false
        }
        fn held(&self, _: &FileKey) -> Option<&RangeSet> {
            None
        }
        fn files(&self) -> Vec<FileKey> {
            Vec::new()
        }
        fn is_delivered(&self, _: &FileKey) -> bool {
            true
        }
        fn forget(&mut self, _: &FileKey) {}
    }

    impl Queue<Plain> {
        pub(crate) fn plain(max: usize, wake: Waker) -> Arc<Queue<Plain>> {
            Arc::new(Queue::new(Plain::of(max), wake, Arc::default(), Nanos(0)))
        }

        pub(crate) fn inspect<T>(&self, look: impl FnOnce(&Plain) -> T) -> T {
            look(&self.lock().buffer)
        }
    }

    /// A group of one frame whose records are the lines of `body`.
    pub(crate) fn group(body: &str) -> Vec<Frame> {
        let limits = BodyLimits { max_bytes: 1 << 20, max_records: 1000, linger: std::time::Duration::from_secs(1), max_open: 8 };
        let mut bodies = Bodies::new(Compression::Gzip, limits);
        bodies.write("", body.as_bytes(), body.lines().count() as u32);
        freeze(&mut bodies, Vec::new(), &mut FrameScope::new([0; 16], "test".into(), [0; 16]))
    }

    #[tokio::test]
    async fn a_frame_wakes_the_delivery_that_waits() {
        let queue = Queue::plain(9, Arc::new(|| ()));
        let mut next = Box::pin(queue.next());
        assert!(std::future::poll_fn(|cx| Poll::Ready(next.as_mut().poll(cx).is_pending())).await);
        assert!(matches!(queue.append(group("a\nb\n"), Nanos(0)), Appended::Kept));
        assert_eq!(next.await.header().seq, 1);
        assert_eq!(queue.stats().buffered_records.get(), 2);
        queue.acknowledge(1, None, Nanos(0));
        assert!(queue.is_empty());
        assert_eq!(queue.stats().buffered_records.get(), 0);
        assert_eq!(queue.stats().buffered_bytes.get(), 0);
    }

    #[tokio::test]
    async fn what_is_put_back_comes_again_before_newer_frames() {
        let queue = Queue::plain(9, Arc::new(|| ()));
        queue.append(group("a\n"), Nanos(0));
        queue.append(group("b\n"), Nanos(0));
        assert_eq!(queue.next().await.header().seq, 1);
        queue.put_back(1);
        assert_eq!(queue.next().await.header().seq, 1);
        assert_eq!(queue.next().await.header().seq, 2);
    }

    struct Paused(tokio::time::Instant);

    impl Clock for Paused {
        fn now(&self) -> Nanos {
            Nanos(self.0.elapsed().as_nanos() as u64)
        }
        fn unix_nanos(&self) -> i64 {
            0
        }
    }

    #[tokio::test(start_paused = true)]
    async fn upkeep_ticks_after_changes_and_when_it_was_told() {
        let queue = Queue::plain(9, Arc::new(|| ()));
        let upkeep = tokio::spawn(queue.clone().upkeep(Arc::new(Paused(tokio::time::Instant::now()))));
        let ticks = || queue.inspect(|b| b.ticks.iter().map(|at| at.0 / 100_000_000).collect::<Vec<_>>());
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(ticks(), [0; 0], "nothing changed");
        queue.append(group("a\n"), Nanos(0));
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(ticks(), [601, 651]);
        queue.append(group("a\n"), Nanos(0));
        tokio::time::sleep(Duration::from_secs(1)).await;
        queue.try_next().unwrap();
        queue.acknowledge(1, None, Nanos(0));
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(ticks(), [601, 651, 1201, 1211]);
        upkeep.abort();
    }

    #[test]
    fn the_worker_is_woken_once_for_the_room_it_asked_for() {
        let woken = Arc::new(AtomicUsize::new(0));
        let count = woken.clone();
        let wake = move || {
            count.fetch_add(1, Ordering::Relaxed);
        };
        let queue = Queue::plain(1, Arc::new(wake));
        queue.append(group("a\n"), Nanos(0));
        queue.try_next().unwrap();
        queue.acknowledge(1, None, Nanos(0));
        assert_eq!(woken.load(Ordering::Relaxed), 0, "nobody waits");

        queue.append(group("b\n"), Nanos(0));
        let Appended::Full(back) = queue.append(group("c\n"), Nanos(0)) else { panic!("there should be no room") };
        assert!(!queue.has_room());
        queue.try_next().unwrap();
        assert_eq!(woken.load(Ordering::Relaxed), 0);
        queue.acknowledge(2, None, Nanos(0));
        assert_eq!(woken.load(Ordering::Relaxed), 1);
        assert!(matches!(queue.append(back, Nanos(0)), Appended::Kept));
    }
}
