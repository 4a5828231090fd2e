//! The numbers by which brokers tell a batch that they have: who produces, and the place of a batch's first record in the order of
//! that producer, for each partition.
//!
//! A broker takes a batch of a producer only with the number that comes after the last one's, and answers one whose numbers it has
//! among the last five as if it stored it. So a batch keeps its numbers however often it is sent, and while it is unknown what became
//! of it no other goes to its partition.
//!
//! **Across restarts.** Before a batch is first sent its numbers are written to `producer.log` in the sink's state directory,
//! with the batch's identity, which the frame on disk keeps. An agent that was killed finds there what the batch was sent as, and
//! sends it as the same. A line:
//!
//! ```text
//! crc32c topic partition producer epoch first count identity
//! ```
//!
//! the sum in hexadecimal and of all after it, the last line of a partition counts. The first line names the boot of the machine:
//! after another one the end of the log may be missing, and a wrong number could make a broker take another batch for one that it
//! has. Then, as when a line is not whole, all is forgotten and a new producer begins.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use skidder_pipeline::frame::BatchId;
use tokio::sync::Notify;

use super::journal::Journal;
use super::records::{Producer, after};

/// A batch of which it is unknown what became comes again within the waits of the delivery, which are minutes. One that did not has
/// been given up.
const GIVEN_UP: Duration = Duration::from_secs(1800);

/// Beyond so many partitions those at rest are forgotten, and begin again with a new producer.
const MAX_LANES: usize = 4096;

/// A partition of a topic.
pub type Key = (String, u32);

/// Batches in the order in which they are to be sent: by the frame's number and the identity.
pub type Order = (u64, BatchId);

/// The numbers of a sink's batches.
#[derive(Default)]
pub struct Sequences {
    inner: Mutex<Inner>,
    changed: Notify,
}

#[derive(Default)]
struct Inner {
    lanes: HashMap<Key, Lane>,
    journal: Option<Journal>,
    /// Numbers were forgotten: a producer from before may not begin a lane.
    forgotten: bool,
}

/// One partition.
#[derive(Default)]
struct Lane {
    producer: Option<Producer>,
    /// The number that the next batch gets.
    next: i32,
    last: Option<Sent>,
    /// Since when it is unknown what became of the last batch.
    open_since: Option<Instant>,
    /// How often it was sent, an earlier life's tries counting as one.
    tries: u32,
    waiting: BTreeSet<Order>,
}

/// What a batch was sent as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sent {
    pub batch: BatchId,
    pub first: i32,
    pub count: u32,
}

impl Sequences {
    /// Takes over what an earlier life wrote.
    pub fn resume(&self, journal: Journal, known: Vec<(Key, Producer, Sent)>) {
        let mut inner = self.lock();
        for (key, producer, sent) in known {
            let lane =
                Lane { producer: Some(producer), next: after(sent.first, sent.count), last: Some(sent), tries: 1, ..Lane::default() };
            inner.lanes.insert(key, lane);
        }
        inner.journal = Some(journal);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The partition that a batch was sent to before.
    pub fn partition(&self, topic: &str, batch: BatchId) -> Option<u32> {
        let inner = self.lock();
        let mut lanes = inner.lanes.iter();
        lanes
            .find(|((name, _), lane)| name == topic && lane.last.is_some_and(|last| last.batch == batch))
            .map(|((_, partition), _)| *partition)
    }

    /// Waits until a batch may be sent to its partition: until what was sent before is known to be stored or not.
    pub async fn turn(&self, key: Key, order: Order) -> Turn<'_> {
        let turn = Turn { sequences: self, key, order };
        {
            let mut inner = self.lock();
            inner.forget_some(&turn.key);
            inner.lanes.entry(turn.key.clone()).or_default().waiting.insert(order);
        }
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if turn.has_come() {
                break;
            }
            changed.await;
        }
        turn
    }
}

/// The right to send one batch to its partition, until it is dropped.
pub struct Turn<'a> {
    sequences: &'a Sequences,
    key: Key,
    order: Order,
}

impl Turn<'_> {
    fn has_come(&self) -> bool {
        let mut inner = self.sequences.lock();
        let Some(lane) = inner.lanes.get_mut(&self.key) else { return true };
        if lane.open_since.is_some_and(|since| since.elapsed() > GIVEN_UP) && !lane.is_last(self.order.1) {
            lane.begin_anew();
            inner.forgotten = true;
        }
        inner
            .lanes
            .get(&self.key)
            .is_none_or(|lane| lane.waiting.first() == Some(&self.order) && (lane.open_since.is_none() || lane.is_last(self.order.1)))
    }

    /// Who produces for this partition, if it is decided.
    pub fn producer(&self) -> Option<Producer> {
        self.sequences.lock().lanes.get(&self.key)?.producer
    }

    /// Whether the producer that begins partitions is to be replaced, since numbers of it were forgotten. Says so once.
    pub fn needs_new_producer(&self) -> bool {
        std::mem::take(&mut self.sequences.lock().forgotten)
    }

    /// The batch of `count` records is about to be sent; gives the number of its first record, and who produces: `producer` where
    /// nobody did so far.
    pub fn begin(&self, producer: Producer, count: u32) -> (Producer, i32) {
        let mut inner = self.sequences.lock();
        let Inner { lanes, journal, .. } = &mut *inner;
        let lane = lanes.entry(self.key.clone()).or_default();
        let producer = *lane.producer.get_or_insert(producer);
        lane.open_since.get_or_insert_with(Instant::now);
        let batch = self.order.1;
        if let Some(last) = lane.last.filter(|last| last.batch == batch && last.count == count) {
            lane.tries += 1;
            return (producer, last.first);
        }
        let sent = Sent { batch, first: lane.next, count };
        lane.next = after(lane.next, count);
        lane.last = Some(sent);
        lane.tries = 1;
        if let Some(open) = journal
            && let Err(error) = open.append(&self.key, producer, sent)
        {
            tracing::warn!(%error, "the numbers of batches cannot be kept: batches under way at a kill may be stored twice");
            *journal = None;
        }
        let all = || lanes.iter().filter_map(|(key, lane)| Some((key, lane.producer?, lane.last?)));
        if let Some(open) = journal
            && open.is_long()
            && let Err(error) = open.write_anew(all())
        {
            tracing::warn!(%error, "the numbers of batches cannot be kept: batches under way at a kill may be stored twice");
            *journal = None;
        }
        (producer, sent.first)
    }

    /// The broker has the batch.
    pub fn stored(&self) {
        self.with(|lane| lane.open_since = None);
    }

    /// The broker did not take the batch, and will not: its number is the next one's. Where it was sent before, and may have been
    /// taken then, another batch of the same length would be mistaken for it, so a new producer begins.
    pub fn refused(&self) {
        if self.is_repeat() {
            return self.lost();
        }
        self.with(|lane| {
            lane.open_since = None;
            if let Some(last) = lane.last.take() {
                lane.next = last.first;
            }
        });
    }

    /// The broker does not know the producer or its numbers.
    pub fn lost(&self) {
        self.with(Lane::begin_anew);
        self.sequences.lock().forgotten = true;
    }

    /// Whether the batch, which has begun, was sent before, so that it may be there already.
    pub fn is_repeat(&self) -> bool {
        self.sequences.lock().lanes.get(&self.key).is_some_and(|lane| lane.tries > 1)
    }

    fn with(&self, change: impl FnOnce(&mut Lane)) {
        if let Some(lane) = self.sequences.lock().lanes.get_mut(&self.key) {
            change(lane);
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.with(|lane| _ = lane.waiting.remove(&self.order));
        self.sequences.changed.notify_waiters();
    }
}

impl Lane {
    fn is_last(&self, batch: BatchId) -> bool {
        self.last.is_some_and(|last| last.batch == batch)
    }

    fn begin_anew(&mut self) {
        *self = Lane { waiting: std::mem::take(&mut self.waiting), ..Lane::default() };
    }
}

impl Inner {
    /// Makes room for a further lane.
    fn forget_some(&mut self, key: &Key) {
        if self.lanes.len() >= MAX_LANES && !self.lanes.contains_key(key) {
            self.lanes.retain(|_, lane| lane.open_since.is_some() || !lane.waiting.is_empty());
            self.forgotten = true;
        }
    }
}

#[cfg(test)]
#[path = "sequences_tests.rs"]
mod tests;
