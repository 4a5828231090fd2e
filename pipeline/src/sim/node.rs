//! One life of the agent: the real worker, queues, buffers and delivery decisions, without a thread, a task or a socket.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::SYNC_AFTER;
use super::settings::{Settings, SinkSettings};
use super::source::{Logs, Name, Tail, is_filtered, name_of};
use super::store::{lines, names};
use crate::batch::Batch;
use crate::body::Bodies;
use crate::buffer::{Appended, BufferOptions, SinkBuffer};
use crate::delivery::decide::{Action, Decide, NewPart, Options, Outcome, PieceId};
use crate::edge::{Clock, Nanos, SplitMix};
use crate::frame::{BatchId, Cut, Frame, FrameScope, Part};
use crate::fs::sim::SimFs;
use crate::position::{FileKey, Range};
use crate::queue::Queue;
use crate::run::{Control, Edge, Feed, Intake, Node as Step, Outlet, Program, Worker};
use crate::shared::Shared;
use crate::sink::{Encode, Rejection};
use crate::source::{Chunk, SinkSet};
use crate::transform::{Report, Transform};

/// The agent, from a start to its end.
pub struct Node {
    worker: Worker,
    chunk: Chunk,
    clock: Arc<SimClock>,
    /// Of each sink.
    pub sinks: Vec<Life>,
}

/// The part of one sink.
pub struct Life {
    pub queue: Arc<Queue>,
    appended: Arc<Mutex<Vec<Vec<Name>>>>,
    account: Arc<Mutex<Account>>,
    decide: Decide,
    /// With the number of each in its frame, and the identity of that.
    pieces: BTreeMap<PieceId, (u32, BatchId, Arc<Frame>)>,
    /// The number that the next part of a frame gets.
    parts: BTreeMap<u64, u32>,
    /// The records of the frames under way.
    taken: BTreeMap<u64, Vec<Name>>,
    /// What is being sent.
    pub flying: Vec<(PieceId, Arc<Frame>)>,
}

/// Where the records of a buffer came from and went, counted beside it.
#[derive(Default, Debug)]
struct Account {
    /// Those that waited at the start, and those that were lost by then.
    found: u64,
    lost_before: u64,
    kept: u64,
    /// New ones that were not taken in.
    turned_away: u64,
    acknowledged: u64,
}

/// What the delivery did that the world sees.
pub enum Done {
    Sent,
    Acknowledged(Vec<Name>),
    Buried(Vec<Name>),
    Cut(Vec<Name>),
}

impl Node {
    /// Starts on what is in `fs`.
    pub fn start(fs: &SimFs, settings: &Settings, logs: &Logs, run: u64, now: Nanos) -> Node {
        let clock = Arc::new(SimClock(AtomicU64::new(now.0)));
        let sinks: Vec<Life> = (0..settings.sinks.len()).map(|index| Life::start(fs, settings, index, run, now)).collect();
        let outlet = |(index, life): (usize, &Life)| {
            let scope = FrameScope::new(EPOCH, format!("sink-{index}").into(), [run as u8; 16]);
            let intake = Arc::new(Journal { queue: life.queue.clone(), appended: life.appended.clone(), account: life.account.clone() });
            Outlet::new(Box::new(Plain), Bodies::new(settings.compression, settings.limits), scope, intake)
        };
        let outlets = sinks.iter().enumerate().map(outlet).collect();
        let queues: Vec<_> = sinks.iter().map(|life| life.queue.clone()).collect();
        let ways = (0..sinks.len()).map(|index| Edge::Sink { index, route: 0 }).collect();
        let program = Program::new(vec![Edge::Node(Box::new(Step::new(Box::new(Filter), Program::new(ways))))]);
        let feed = Feed::new(Box::new(Tail::new(logs, &queues, SinkSet::first(sinks.len()), settings.chunk_records)), program);
        let chunk =
            Chunk { batch: Batch::new(Shared::empty(), FileKey([0; 16])), covers: Vec::new(), needs: SinkSet::default(), bytes_read: 0 };
        let worker = Worker::new(vec![feed], outlets, clock.clone(), Arc::default(), Control::new());
        Node { worker, chunk, clock, sinks }
    }

    /// One round of the worker; says whether it read something.
    pub fn round(&mut self, now: Nanos, ending: bool) -> bool {
        self.clock.0.store(now.0, Ordering::Relaxed);
        self.worker.round(&mut self.chunk, now, ending)
    }

    /// How many readers there are.
    pub fn reader_count(&self) -> usize {
        self.worker.reader_count()
    }

    /// Does what is due in the buffers; says when to call again.
    pub fn tick(&self, now: Nanos) -> Option<Nanos> {
        self.sinks.iter().filter_map(|life| life.queue.tick(now)).min()
    }

    /// When a delivery has something to do.
    pub fn wake_at(&self) -> Option<Nanos> {
        self.sinks.iter().filter_map(|life| life.decide.wake_at()).min()
    }

    /// An orderly end: what is open is frozen, what is under way goes back, everything is synced.
    pub fn stop(&mut self, now: Nanos) {
        self.round(now, true);
        for life in &mut self.sinks {
            life.decide.abandon().iter().rev().for_each(|seq| life.queue.put_back(*seq));
            life.queue.sync(now);
        }
    }
}

impl Life {
    fn start(fs: &SimFs, settings: &Settings, index: usize, run: u64, now: Nanos) -> Life {
        let SinkSettings { on_disk, when_full, .. } = settings.sinks[index];
        let options = BufferOptions {
            disk: on_disk,
            dir: PathBuf::from(format!("/data/sink-{index}")),
            max_bytes: settings.max_bytes,
            when_full,
            sync_after: SYNC_AFTER,
            strict: settings.strict,
            min_free_bytes: Some(0),
            memory_bytes: settings.memory_bytes,
        };
        let (mut buffer, _) = SinkBuffer::open(Arc::new(fs.clone()), options, EPOCH, now);
        buffer.set_segment_bytes(settings.segment_bytes);
        let options = Options { timeout: Some(Duration::from_secs(60)), ..Options::default() };
        let account = Account { found: buffer.waiting().1, lost_before: buffer.lost_records(), ..Account::default() };
        Life {
            queue: Arc::new(Queue::new(buffer, Arc::new(|| ()), Arc::default(), now)),
            appended: Arc::default(),
            account: Arc::new(Mutex::new(account)),
            decide: Decide::new(options, None, Box::new(SplitMix(run ^ index as u64))),
            pieces: BTreeMap::new(),
            parts: BTreeMap::new(),
            taken: BTreeMap::new(),
            flying: Vec::new(),
        }
    }

    /// Takes a frame from the buffer, if one is wanted and there; says whether.
    pub fn take(&mut self, now: Nanos) -> bool {
        if !self.decide.wants_frame() {
            return false;
        }
        let Some(frame) = self.queue.try_next() else { return false };
        let piece = self.decide.taken(frame.header().seq, frame.header().records, now);
        self.taken.insert(frame.header().seq, names(&frame));
        let cuts = self.queue.cuts(&frame);
        self.pieces.insert(piece, (0, frame.header().id, Arc::new(frame)));
        let mut pieces = BTreeMap::from([(0, piece)]);
        for Cut { from, first, parts, .. } in &cuts {
            let Some(from) = pieces.get(from).copied() else { continue };
            let lists: Vec<_> = parts.iter().map(|part| part.list(self.pieces[&from].2.header().records).unwrap()).collect();
            let counts: Vec<u32> = lists.iter().map(|list| list.len() as u32).collect();
            let new = self.decide.was_cut(from, &counts, now);
            for (((into, part), records), number) in new.iter().zip(parts).zip(lists).zip(*first..) {
                self.cut(from, number, NewPart { into: *into, path: part.path, records });
                pieces.insert(number, *into);
            }
        }
        if let Some(next) = cuts.iter().map(Cut::next).max() {
            self.parts.insert(self.pieces[&piece].2.header().seq, next);
        }
        true
    }

    fn cut(&mut self, from: PieceId, number: u32, NewPart { into, path, records }: NewPart) {
        let (_, whole, frame) = &self.pieces[&from];
        let lines = lines(frame);
        let body: Vec<u8> = records.iter().flat_map(|record| [&lines[*record as usize][..], b"\n"].concat()).collect();
        let part = frame.part(path, records.len() as u32, &body);
        self.pieces.insert(into, (number, *whole, Arc::new(part)));
    }

    /// Does the next of what is decided; `None` where there is nothing. `buries`: whether dead letters can be written.
    pub fn act(&mut self, buries: bool, now: Nanos) -> Option<Option<Done>> {
        let done = match self.decide.action(now)? {
            Action::Send { piece, .. } => {
                self.flying.push((piece, self.pieces[&piece].2.clone()));
                Some(Done::Sent)
            }
            Action::Cut { from, parts } => {
                let (number, whole, frame) = self.pieces[&from].clone();
                let records = parts.iter().map(|part| Part::new(part.path, &part.records)).collect();
                let first = self.parts.get(&frame.header().seq).copied().unwrap_or(1);
                let cut = Cut { frame: whole, from: number, first, parts: records };
                self.parts.insert(frame.header().seq, cut.next());
                self.queue.cut(frame.header().seq, cut, now);
                parts.into_iter().zip(first..).for_each(|(part, number)| self.cut(from, number, part));
                Some(Done::Cut(names(&frame)))
            }
            Action::Bury { piece, letters } => self.bury(piece, letters, buries, now),
            Action::Forget(piece) => {
                self.pieces.remove(&piece);
                None
            }
            Action::Acknowledge { seq, .. } => {
                self.parts.remove(&seq);
                self.queue.acknowledge(seq, None, now);
                let names = self.taken.remove(&seq);
                lock(&self.account).acknowledged += names.iter().flatten().count() as u64;
                names.map(Done::Acknowledged)
            }
            Action::Report(_) => None,
        };
        Some(done)
    }

    fn bury(&mut self, piece: PieceId, letters: Vec<Rejection>, buries: bool, now: Nanos) -> Option<Done> {
        if !buries {
            self.decide.not_buried(piece, letters, now);
            return None;
        }
        let names = names(&self.pieces[&piece].2);
        self.decide.buried(piece);
        Some(Done::Buried(letters.iter().map(|letter| names[letter.record as usize]).collect()))
    }

    /// What came of a send.
    pub fn answered(&mut self, piece: PieceId, outcome: Outcome, now: Nanos) {
        self.decide.answered(piece, outcome, now);
    }

    /// The records that were appended since the last call, by group.
    pub fn appended(&self) -> Vec<Vec<Name>> {
        std::mem::take(&mut *lock(&self.appended))
    }

    /// How many records the overflow policy gave up in this life.
    pub fn dropped(&self) -> u64 {
        self.queue.stats().dropped.get()
    }

    /// Whether the buffer counts each record that went in as waiting, done with, or given up; if not, how it counts.
    pub fn is_balanced(&self) -> Result<(), String> {
        let (account, stats) = (lock(&self.account), self.queue.stats());
        let (waiting, lost) = (stats.buffered_records.get(), stats.lost.get() - account.lost_before);
        let (came, went) = (account.found + account.kept + account.turned_away, account.acknowledged + lost + waiting);
        if came == went { Ok(()) } else { Err(format!("{account:?}, {lost} lost, {waiting} waiting: {came} came and {went} are told of")) }
    }

    /// Whether nothing waits and nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.decide.is_idle()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const EPOCH: [u8; 16] = [0xe9; 16];

struct SimClock(AtomicU64);

impl Clock for SimClock {
    fn now(&self) -> Nanos {
        Nanos(self.0.load(Ordering::Relaxed))
    }

    fn unix_nanos(&self) -> i64 {
        self.0.load(Ordering::Relaxed) as i64
    }
}

/// Hands groups to the buffer and notes which records were in them.
struct Journal {
    queue: Arc<Queue>,
    appended: Arc<Mutex<Vec<Vec<Name>>>>,
    account: Arc<Mutex<Account>>,
}

impl Intake for Journal {
    fn has_room(&self) -> bool {
        self.queue.has_room()
    }

    fn append(&self, group: Vec<Frame>, now: Nanos) -> Appended {
        // Also where it is refused: the process may be dying in it, with all of it written.
        lock(&self.appended).push(group.iter().flat_map(names).collect());
        let records: u64 = group.iter().map(|frame| u64::from(frame.header().records)).sum();
        let appended = self.queue.append(group, now);
        match appended {
            Appended::Kept => lock(&self.account).kept += records,
            Appended::Dropped { .. } => lock(&self.account).turned_away += records,
            Appended::Full(_) => {}
        }
        appended
    }

    fn promise(&self, ranges: Vec<Range>) {
        Intake::promise(&*self.queue, ranges);
    }
}

/// Writes each message as a line, to one of two destinations.
struct Plain;

impl Encode for Plain {
    fn encode(&mut self, batch: &Batch, _route: u8, out: &mut Bodies) {
        let mut texts = [(Vec::new(), 0), (Vec::new(), 0)];
        for record in batch.records() {
            let (_, value) = record.iter().next().unwrap();
            let (text, count) = &mut texts[(name_of(value.raw).1 % 5 / 4) as usize];
            text.extend_from_slice(value.raw);
            text.push(b'\n');
            *count += 1;
        }
        for (destination, (text, count)) in ["a", "b"].iter().zip(texts) {
            out.write(destination, &text, count);
        }
    }
}

struct Filter;

impl Transform for Filter {
    fn apply(&mut self, batch: &mut Batch, _: &mut Report) {
        batch.retain(|record| !is_filtered(name_of(record.iter().next().unwrap().1.raw)));
    }
}
