//! The delivery of one sink at work: see the [module above](super).

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{Id, JoinSet};

use super::dead_letters::{Bury, Letter};
use super::decide::{Account, Action, Decide, NewPart, Options, Outcome, PieceId};
use super::health::Change;
use crate::body::decompress;
use crate::buffer::SinkBuffer;
use crate::edge::{Chance, Clock, Nanos};
use crate::fail;
use crate::frame::{BatchId, Cut, Frame, Part};
use crate::queue::{Buffer, Queue};
use crate::sink::{Note, Rejection, Response, Sink, Transport, TransportError, Verdict};

/// Everything that the delivery of a sink needs. [`Delivery::run`] is its task.
pub struct Delivery<B: Buffer = SinkBuffer> {
    /// The sink's name, for the log.
    pub name: Arc<str>,
    /// What the store wants and says.
    pub sink: Arc<dyn Sink>,
    /// The way there. Its `recover` has been called.
    pub transport: Arc<dyn Transport>,
    /// Where frames come from.
    pub queue: Arc<Queue<B>>,
    /// Where refused records go.
    pub dead_letters: Box<dyn Bury>,
    /// How to deliver.
    pub options: Options,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// For jitter.
    pub chance: Box<dyn Chance>,
}

/// Tells deliveries to come to an end. Dropping it leaves them running.
#[derive(Debug)]
pub struct Control(watch::Sender<Mode>);

/// What a delivery listens to.
#[derive(Clone, Debug)]
pub struct Signal(watch::Receiver<Mode>);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mode {
    Run,
    Finish { deadline: Option<Nanos> },
    Drain { deadline: Option<Nanos> },
}

/// A control and the signal to hand to any number of deliveries.
pub fn control() -> (Control, Signal) {
    let (sender, receiver) = watch::channel(Mode::Run);
    (Control(sender), Signal(receiver))
}

impl Control {
    /// Begin no more sends, and end when those under way are answered; what else there is stays in the buffer. At `deadline`
    /// (`None`: never) those that are not answered are given up, as in [`Control::drain`].
    pub fn finish(&self, deadline: Option<Nanos>) {
        self.0.send_replace(Mode::Finish { deadline });
    }

    /// Go on as before: for a delivery that was told to finish or to drain and has not ended.
    pub fn resume(&self) {
        self.0.send_replace(Mode::Run);
    }

    /// Deliver what is in the buffers, then end. To be called when nothing is appended any more.
    ///
    /// At `deadline` (of the deliveries' clock; `None`: never, however long a store is down) a delivery ends as it is: what
    /// is under way is put back and stays in the buffer. May be called again with another deadline.
    pub fn drain(&self, deadline: Option<Nanos>) {
        self.0.send_replace(Mode::Drain { deadline });
    }
}

/// How a delivery ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ended {
    /// Whether everything in the buffer was delivered or dead-lettered.
    pub drained: bool,
    /// Frames that were under way and are back in the buffer.
    pub put_back: usize,
}

impl<B: Buffer> Delivery<B> {
    /// Delivers until told to end.
    pub async fn run(self, mut signal: Signal) -> Ended {
        let mut at_work = AtWork::new(self);
        let mut controlled = true;
        loop {
            let mode = *signal.0.borrow_and_update();
            at_work.set_finishing(matches!(mode, Mode::Finish { .. }));
            at_work.act().await;
            let deadline = match mode {
                Mode::Run => None,
                Mode::Finish { deadline } | Mode::Drain { deadline } if deadline.is_some_and(|at| at <= at_work.now()) => {
                    return at_work.end();
                }
                Mode::Finish { .. } if at_work.sends.is_empty() => return at_work.end(),
                Mode::Drain { .. } if at_work.decide.is_idle() && at_work.queue.is_empty() => return at_work.end(),
                Mode::Finish { deadline } | Mode::Drain { deadline } => deadline,
            };
            let wake = [deadline, at_work.decide.wake_at()].into_iter().flatten().min();
            let wait = wake.map(|at| at.since(at_work.now()));
            let queue = at_work.queue.clone();
            tokio::select! {
                biased;
                changed = signal.0.changed(), if controlled => controlled = changed.is_ok(),
                Some(done) = at_work.sends.join_next_with_id() => at_work.answered(done),
                () = sleep(wait) => {}
                frame = queue.next(), if !at_work.finishing && at_work.decide.wants_frame() => at_work.taken(frame),
            }
        }
    }
}

/// The frame's destination as a number: equal for equal ones.
fn lane(frame: &Frame) -> u64 {
    let mut hash = DefaultHasher::new();
    frame.header().destination.hash(&mut hash);
    hash.finish()
}

async fn sleep(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}

/// What came of a send: the answer or why there is none; `None` after the time-out.
type Answer = Option<Result<Response, TransportError>>;

struct AtWork<B: Buffer> {
    name: Arc<str>,
    sink: Arc<dyn Sink>,
    transport: Arc<dyn Transport>,
    queue: Arc<Queue<B>>,
    dead_letters: Arc<Mutex<Box<dyn Bury>>>,
    buries: bool,
    timeout: Option<Duration>,
    clock: Arc<dyn Clock>,
    decide: Decide,
    pieces: HashMap<PieceId, Piece>,
    sends: JoinSet<Answer>,
    send_tasks: HashMap<Id, PieceId>,
    /// The number that the next part of a frame gets, by the frame's.
    parts: HashMap<u64, u32>,
    /// The notes of frames under way, by number.
    notes: HashMap<u64, Note>,
    /// The body of the piece judged last, before compression, while its parts and dead letters are made.
    plain: Option<(PieceId, Vec<u8>)>,
    /// No send is begun.
    finishing: bool,
    /// Those that would have been: the piece, and whether it was sent before.
    withheld: Vec<(PieceId, bool)>,
}

struct Piece {
    frame: Arc<Frame>,
    /// The identity of the whole frame.
    whole: BatchId,
    /// Which piece of the frame it is: see [`Cut::from`].
    number: u32,
    /// Which records of the whole frame these are; `None` for all of them.
    records: Option<Vec<u32>>,
}

impl Piece {
    /// The number in the whole frame of record `index` of the piece.
    fn in_frame(&self, index: u32) -> u32 {
        match &self.records {
            None => index,
            Some(records) => records.get(index as usize).copied().unwrap_or(index),
        }
    }
}

impl<B: Buffer> AtWork<B> {
    fn new(delivery: Delivery<B>) -> AtWork<B> {
        let Delivery { name, sink, transport, queue, dead_letters, options, clock, chance } = delivery;
        let decide = Decide::new(options, transport.concurrency(), chance);
        AtWork {
            name,
            sink,
            transport,
            queue,
            dead_letters: Arc::new(Mutex::new(dead_letters)),
            buries: true,
            timeout: options.timeout,
            clock,
            decide,
            pieces: HashMap::new(),
            sends: JoinSet::new(),
            send_tasks: HashMap::new(),
            parts: HashMap::new(),
            notes: HashMap::new(),
            plain: None,
            finishing: false,
            withheld: Vec::new(),
        }
    }

    fn set_finishing(&mut self, finishing: bool) {
        self.finishing = finishing;
        if !finishing {
            for (piece, again) in std::mem::take(&mut self.withheld) {
                self.send(piece, again);
            }
        }
    }

    fn now(&self) -> Nanos {
        self.clock.now()
    }

    fn taken(&mut self, frame: Frame) {
        let piece = self.decide.taken_for(frame.header().seq, lane(&frame), frame.header().records, self.now());
        let cuts = self.queue.cuts(&frame);
        self.pieces.insert(piece, Piece { whole: frame.header().id, number: 0, frame: Arc::new(frame), records: None });
        self.cut_as_before(piece, cuts);
    }

    /// Cuts a frame as an earlier life had. What cannot be done stays in larger pieces.
    fn cut_as_before(&mut self, whole: PieceId, cuts: Vec<Cut>) {
        let mut pieces = HashMap::from([(0, whole)]);
        for Cut { from, first, parts, .. } in &cuts {
            let Some(piece) = pieces.get(from).copied() else { continue };
            let Some(of) = self.pieces.get(&piece).map(|piece| piece.frame.header().records) else { continue };
            let Some(lists) = parts.iter().map(|part| part.list(of)).collect::<Option<Vec<_>>>() else { continue };
            if self.unpack(piece).is_err() {
                continue;
            }
            let counts: Vec<u32> = lists.iter().map(|list| list.len() as u32).collect();
            let new = self.decide.was_cut(piece, &counts, self.now());
            for (((into, part), records), number) in new.iter().zip(parts).zip(lists).zip(*first..) {
                self.cut(piece, number, &NewPart { into: *into, path: part.path, records });
                pieces.insert(number, *into);
            }
        }
        self.plain = None;
        if let (Some(piece), Some(next)) = (self.pieces.get(&whole), cuts.iter().map(Cut::next).max()) {
            self.parts.insert(piece.frame.header().seq, next);
        }
    }

    /// Does all that is to be done now.
    async fn act(&mut self) {
        while let Some(action) = self.decide.action(self.now()) {
            match action {
                Action::Send { piece, again } if self.finishing => self.withheld.push((piece, again)),
                Action::Send { piece, again } => self.send(piece, again),
                Action::Cut { from, parts } => {
                    let first = self.journal(from, &parts);
                    parts.iter().zip(first..).for_each(|(part, number)| self.cut(from, number, part));
                }
                Action::Bury { piece, letters } => self.bury(piece, letters).await,
                Action::Forget(piece) => drop(self.pieces.remove(&piece)),
                Action::Acknowledge { seq, account } => self.acknowledge(seq, account),
                Action::Report(change) => self.report(change),
            }
        }
        self.plain = None;
        let (sending, limit) = self.decide.load();
        self.queue.stats().sending.set(sending as u64);
        self.queue.stats().send_limit.set(limit as u64);
    }

    fn send(&mut self, piece: PieceId, again: bool) {
        let Some(Piece { frame, .. }) = self.pieces.get(&piece) else { return };
        let stats = self.queue.stats();
        stats.sent_bytes.add(frame.body().len() as u64);
        stats.retries.add(again.into());
        let (frame, transport, timeout) = (frame.clone(), self.transport.clone(), self.timeout);
        let task = self.sends.spawn(async move {
            let sending = transport.send(&frame);
            match timeout {
                Some(timeout) => tokio::time::timeout(timeout, sending).await.ok(),
                None => Some(sending.await),
            }
        });
        self.send_tasks.insert(task.id(), piece);
    }

    fn answered(&mut self, done: Result<(Id, Answer), tokio::task::JoinError>) {
        let (task, answer) = match done {
            Ok((task, answer)) => (task, answer),
            Err(e) => (e.id(), Some(Err(TransportError("the send ended without a result".to_owned())))),
        };
        let Some(piece) = self.send_tasks.remove(&task) else { return };
        fail::point(fail::ANSWERED);
        let outcome = match answer {
            None => Outcome::TimedOut,
            Some(Err(TransportError(reason))) => Outcome::Failed { reason },
            Some(Ok(response)) => Outcome::Answered { retry_after: response.retry_after, verdict: self.judge(piece, response) },
        };
        let is_failure = match &outcome {
            Outcome::Failed { .. } | Outcome::TimedOut => true,
            Outcome::Answered { verdict, .. } => matches!(verdict, Verdict::Retry { .. } | Verdict::Pause { .. }),
        };
        self.queue.stats().failures.add(is_failure.into());
        self.decide.answered(piece, outcome, self.now());
    }

    fn judge(&mut self, piece: PieceId, response: Response) -> Verdict {
        let Some(Piece { frame, .. }) = self.pieces.get(&piece) else { return Verdict::Delivered { duplicates: 0 } };
        let verdict = self.sink.judge(frame, &response);
        self.queue.stats().diverted.set(self.sink.diverted());
        match verdict {
            Verdict::Delivered { .. } => {
                if let Some(note) = response.note {
                    self.notes.insert(frame.header().seq, note);
                }
            }
            // What these need, the body, must be there before they are decided on.
            Verdict::Partly { .. } | Verdict::Split | Verdict::Reject { .. } => {
                if let Err(e) = self.unpack(piece) {
                    return Verdict::Reject { status: 0, reason: format!("the stored body cannot be read back: {e}") };
                }
            }
            Verdict::Retry { .. } | Verdict::Pause { .. } => {}
        }
        verdict
    }

    /// Puts the piece's body into `self.plain`.
    fn unpack(&mut self, piece: PieceId) -> io::Result<()> {
        if self.plain.as_ref().is_some_and(|(of, _)| *of == piece) {
            return Ok(());
        }
        self.plain = None;
        let Some(Piece { frame, .. }) = self.pieces.get(&piece) else { return Ok(()) };
        let header = frame.header();
        self.plain = Some((piece, decompress(header.compression, frame.body(), header.raw_bytes)?));
        Ok(())
    }

    /// Puts on record that a piece is sent as parts; gives the number of the first.
    fn journal(&mut self, from: PieceId, parts: &[NewPart]) -> u32 {
        let Some(Piece { frame, whole, number, .. }) = self.pieces.get(&from) else { return 0 };
        let seq = frame.header().seq;
        let first = self.parts.get(&seq).copied().unwrap_or(1);
        let parts = parts.iter().map(|part| Part::new(part.path, &part.records)).collect();
        let cut = Cut { frame: *whole, from: *number, first, parts };
        self.parts.insert(seq, cut.next());
        fail::point(fail::CUT);
        self.queue.cut(seq, cut, self.now());
        fail::point(fail::CUT_JOURNALED);
        first
    }

    fn cut(&mut self, from: PieceId, number: u32, NewPart { into, path, records }: &NewPart) {
        // Unpacked when the answer was judged, so there is no error to meet here.
        let _ = self.unpack(from);
        let (Some(parent), Some((_, body))) = (self.pieces.get(&from), &self.plain) else { return };
        let frame = parent.frame.part(*path, records.len() as u32, &self.sink.cut(body, records));
        let records = records.iter().map(|index| parent.in_frame(*index)).collect();
        let piece = Piece { whole: parent.whole, number, frame: Arc::new(frame), records: Some(records) };
        self.pieces.insert(*into, piece);
    }

    async fn bury(&mut self, piece: PieceId, rejected: Vec<Rejection>) {
        let letters = self.letters(piece, &rejected);
        let dead_letters = self.dead_letters.clone();
        let write = move || dead_letters.lock().unwrap_or_else(PoisonError::into_inner).bury(&letters);
        let written = tokio::task::spawn_blocking(write).await.unwrap_or_else(|e| Err(io::Error::other(e)));
        match written {
            Ok(()) => {
                fail::point(fail::BURIED);
                self.decide.buried(piece);
                if !std::mem::replace(&mut self.buries, true) {
                    tracing::info!(sink = &*self.name, "dead letters can be written again");
                }
            }
            Err(e) => {
                self.decide.not_buried(piece, rejected, self.now());
                if std::mem::replace(&mut self.buries, false) {
                    tracing::error!(sink = &*self.name, error = %e, "dead letters cannot be written; their frames wait until they can");
                }
            }
        }
    }

    fn letters(&mut self, piece: PieceId, rejected: &[Rejection]) -> Vec<Letter> {
        // Where the body cannot be read back (see `judge`) the letters say so without it.
        let _ = self.unpack(piece);
        let Some(of) = self.pieces.get(&piece) else { return Vec::new() };
        let records: Vec<u32> = rejected.iter().map(|rejection| rejection.record).collect();
        let mut bodies = Vec::with_capacity(records.len());
        match &self.plain {
            Some((_, body)) => single_out(&*self.sink, body, &records, &mut bodies),
            None => bodies.resize(records.len(), Vec::new()),
        }
        let letter = |(rejection, body): (&Rejection, Vec<u8>)| Letter {
            unix_nanos: self.clock.unix_nanos(),
            batch: of.whole,
            index: of.in_frame(rejection.record),
            destination: of.frame.header().destination.clone(),
            status: rejection.status,
            reason: rejection.reason.clone(),
            record: if body.is_empty() { Vec::new() } else { self.sink.show(&body, 0) },
            body,
        };
        rejected.iter().zip(bodies).map(letter).collect()
    }

    fn acknowledge(&mut self, seq: u64, account: Account) {
        let stats = self.queue.stats();
        stats.delivered.add(account.delivered);
        stats.duplicates.add(account.duplicates);
        stats.rejected.add(account.rejected);
        self.parts.remove(&seq);
        self.queue.acknowledge(seq, self.notes.remove(&seq), self.now());
    }

    fn report(&self, change: Change) {
        let sink = &*self.name;
        self.queue.stats().standing.set(match change {
            Change::Recovered { .. } => 0,
            Change::Failing { .. } => 1,
            Change::Paused { .. } => 2,
        });
        match change {
            Change::Failing { reason } => tracing::warn!(sink, reason, "delivery is failing and goes on trying"),
            Change::Paused { reason } => {
                tracing::error!(sink, reason, "delivery is paused until someone sees to it; it tries again now and then");
            }
            Change::Recovered { after } => tracing::info!(sink, after_seconds = after.as_secs(), "delivery works again"),
        }
    }

    /// Ends with what is under way put back.
    fn end(mut self) -> Ended {
        self.sends.abort_all();
        let back = self.decide.abandon();
        // The newest first: each goes before what is in the buffer.
        for seq in back.iter().rev() {
            self.queue.put_back(*seq);
        }
        Ended { drained: back.is_empty() && self.queue.is_empty(), put_back: back.len() }
    }
}

/// Each of `records` of `body` as a body of its own. By halves: a cut reads the whole body, and a body has thousands of records.
pub fn single_out(sink: &dyn Sink, body: &[u8], records: &[u32], out: &mut Vec<Vec<u8>>) {
    match records {
        [] => {}
        [one] => out.push(sink.cut(body, &[*one])),
        _ => {
            let half = sink.cut(body, records);
            let places: Vec<u32> = (0..records.len() as u32).collect();
            let (left, right) = places.split_at(places.len() / 2);
            single_out(sink, &half, left, out);
            single_out(sink, &half, right, out);
        }
    }
}

#[cfg(test)]
#[path = "driver_tests.rs"]
mod tests;
