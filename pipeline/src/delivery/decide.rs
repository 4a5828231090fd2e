//! What to do next: the delivery as a state machine.
//!
//! A *frame* is taken from the buffer and acknowledged as a whole. What is sent is a *piece*: the frame itself at first, and
//! parts of it once the store took only some records, or found it too large:
//!
//! ```text
//!                      ┌───────────── wait ◀── retry, time-out, no answer, pause
//!                      ▼                │
//! frame taken ─▶ piece ready ─▶ sending ┼─▶ all stored ────────────────────────▶ settled
//!                      ▲                ├─▶ some refused ─▶ dead letters written ─▶ settled
//!                      │                ├─▶ some to send again ─▶ part cut ┐
//!                      │                └─▶ too large ─▶ halves cut        │
//!                      └────────────────────────────────────────────────────┘
//! ```
//!
//! When all pieces of a frame are settled, it is acknowledged. Actions come out in the order in which they must be done: dead
//! letters are written before the cut that leaves them out, a cut is journaled before a part is sent, and all of it comes
//! before the frame is acknowledged.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::backoff::Backoff;
use super::health::{Change, Health};
use super::limit::Limit;
use crate::edge::{Chance, Nanos};
use crate::sink::{Rejection, Verdict};

/// How a sink is delivered to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// How many sends may be under way at once.
    pub concurrency: Concurrency,
    /// After what time a send without an answer is given up, and tried again. `None` for transports that do not wait for
    /// anyone, whose outcome would only become unknown by it (a file).
    pub timeout: Option<Duration>,
    /// Waits between tries.
    pub retry: Backoff,
    /// Waits while the store needs a person.
    pub pause: Backoff,
    /// Whether the frames of one destination are sent one after the other, in their order, however many are sent at once to
    /// different ones: for stores that refuse what comes after something newer.
    pub ordered: bool,
}

/// How many sends may be under way at once. What a transport fixes ([`crate::sink::Transport::concurrency`]) goes before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Concurrency {
    /// What the store bears, up to this many.
    Adaptive {
        /// The most.
        max: usize,
    },
    /// Always this many.
    Fixed(usize),
}

impl Default for Options {
    fn default() -> Self {
        Options {
            // Eight frames of a few hundred KiB keep any store busy over any round trip, and bound the memory they take.
            concurrency: Concurrency::Adaptive { max: 8 },
            timeout: Some(Duration::from_secs(60)),
            retry: Backoff::RETRY,
            pause: Backoff::PAUSE,
            ordered: false,
        }
    }
}

/// Something to send: a frame or a part of one. Unique for the life of a [`Decide`], growing.
pub type PieceId = u64;

/// What came of a send.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The store answered.
    Answered {
        /// What its answer means.
        verdict: Verdict,
        /// How long it asked to wait before the next try.
        retry_after: Option<Duration>,
    },
    /// There was no answer, or not the whole of one: whether the records are stored is unknown.
    Failed {
        /// Why, for the log: never content of events, nor where to.
        reason: String,
    },
    /// There was no answer in time.
    TimedOut,
}

/// What to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Send the piece and report to [`Decide::answered`].
    Send {
        /// The piece.
        piece: PieceId,
        /// Whether it was sent before.
        again: bool,
    },
    /// Journal that parts take the place of a piece, and cut them out of it. What is in none of them is dealt with.
    Cut {
        /// The piece to cut from.
        from: PieceId,
        /// The parts.
        parts: Vec<NewPart>,
    },
    /// Write dead letters and report to [`Decide::buried`] or [`Decide::not_buried`].
    Bury {
        /// The piece that they are records of.
        piece: PieceId,
        /// The records and why.
        letters: Vec<Rejection>,
    },
    /// The piece is not needed any more.
    Forget(PieceId),
    /// Acknowledge the frame.
    Acknowledge {
        /// Its number.
        seq: u64,
        /// What became of its records.
        account: Account,
    },
    /// Tell the operator.
    Report(Change),
}

/// A part that is to be cut.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewPart {
    /// The part.
    pub into: PieceId,
    /// Which part it is, for its identity: see [`crate::frame::Frame`]. The halves are 0 and 1; any other set of records is
    /// made of these records, so that another set is another part.
    pub path: u32,
    /// The records of the piece that it has, counted from 0, in order.
    pub records: Vec<u32>,
}

/// What became of a frame's records.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Account {
    /// Stored.
    pub delivered: u64,
    /// Stored, and found to be there already; among the delivered.
    pub duplicates: u64,
    /// In the dead letters.
    pub rejected: u64,
}

/// The state machine. See the module's description.
pub struct Decide {
    options: Options,
    chance: Box<dyn Chance>,
    limit: Limit,
    frames: BTreeMap<u64, Taken>,
    pieces: BTreeMap<PieceId, Piece>,
    next_piece: PieceId,
    /// What is to be done before anything else, in order.
    queued: VecDeque<Action>,
    sending: usize,
    health: Health,
}

/// A frame that was taken and not acknowledged.
#[derive(Default)]
struct Taken {
    pieces: usize,
    account: Account,
}

struct Piece {
    seq: u64,
    /// Its destination, as far as order matters.
    lane: u64,
    /// What of its frame it is, for the order among the frame's pieces: its share of all numbers, which is cut as it is.
    share: (u64, u64),
    records: u32,
    /// Tries in a row that got nothing of it stored.
    failures: u32,
    state: State,
}

enum State {
    /// To be sent at `at`.
    Ready { at: Nanos },
    /// Sent at `at`.
    Sending { at: Nanos },
    /// Some records go to the dead letters at `at`; then the piece is settled as `account` says, but for `rest`.
    Burying { at: Nanos, letters: Vec<Rejection>, account: Account, rest: Rest },
}

/// Records of a piece to send again, at `at`.
#[derive(Default)]
struct Rest {
    records: Vec<u32>,
    at: Nanos,
}

impl Decide {
    /// A delivery with nothing to do. `fixed` is what the transport says of its concurrency.
    pub fn new(options: Options, fixed: Option<usize>, chance: Box<dyn Chance>) -> Decide {
        let limit = match (fixed, options.concurrency) {
            (Some(count), _) | (None, Concurrency::Fixed(count)) => Limit::fixed(count),
            (None, Concurrency::Adaptive { max }) => Limit::adaptive(max),
        };
        Decide {
            options,
            chance,
            limit,
            frames: BTreeMap::new(),
            pieces: BTreeMap::new(),
            next_piece: 0,
            queued: VecDeque::new(),
            sending: 0,
            health: Health::default(),
        }
    }

    /// Whether another frame should be taken from the buffer. A frame that waits for its next try keeps its place: with a
    /// concurrency of 1 nothing overtakes it, and while a store is down few frames are held in memory.
    pub fn wants_frame(&self) -> bool {
        self.frames.len() < self.bound()
    }

    /// Whether no frame is under way.
    pub fn is_idle(&self) -> bool {
        self.frames.is_empty() && self.queued.is_empty()
    }

    /// How many sends are under way, and how many may be.
    pub fn load(&self) -> (usize, usize) {
        (self.sending, self.bound())
    }

    /// Frame `seq` of `records` records was taken from the buffer; gives the piece that stands for all of it.
    pub fn taken(&mut self, seq: u64, records: u32, now: Nanos) -> PieceId {
        self.taken_for(seq, 0, records, now)
    }

    /// The same for a frame whose destination is `lane` ([`Options::ordered`]).
    pub fn taken_for(&mut self, seq: u64, lane: u64, records: u32, now: Nanos) -> PieceId {
        self.frames.insert(seq, Taken::default());
        let piece = self.add((seq, lane, (0, u64::MAX)), records, 0, now);
        if records == 0 {
            self.settle(piece, Account::default());
        }
        piece
    }

    /// An earlier life of the agent had cut `from` into parts of so many records: gives the pieces that stand for them.
    pub fn was_cut(&mut self, from: PieceId, parts: &[u32], now: Nanos) -> Vec<PieceId> {
        let Some(&Piece { seq, lane, share: (start, end), .. }) = self.pieces.get(&from) else { return Vec::new() };
        let step = (end - start) / (parts.len() as u64).max(1);
        // Tried before, so that the store may have them.
        let each = (0u64..).zip(parts);
        let parts = each
            .map(|(index, records)| {
                let start = start + index * step;
                self.add((seq, lane, (start, start + step)), *records, 1, now)
            })
            .collect();
        self.settle(from, Account::default());
        parts
    }

    /// What to do next, if there is anything to do now. Ask again until there is nothing.
    pub fn action(&mut self, now: Nanos) -> Option<Action> {
        if let Some(action) = self.queued.pop_front() {
            return Some(action);
        }
        let bury = self.pieces.iter_mut().find_map(|(id, piece)| match &mut piece.state {
            State::Burying { at, letters, .. } if *at <= now && !letters.is_empty() => Some((*id, std::mem::take(letters))),
            _ => None,
        });
        if let Some((piece, letters)) = bury {
            return Some(Action::Bury { piece, letters });
        }
        if self.sending >= self.bound() || now < self.health.closed_until() {
            return None;
        }
        let is_due = |piece: &Piece| matches!(piece.state, State::Ready { at } if at <= now);
        let id = *self.pieces.iter().find(|(id, piece)| is_due(piece) && self.is_first(**id, piece))?.0;
        let piece = self.pieces.get_mut(&id)?;
        piece.state = State::Sending { at: now };
        self.sending += 1;
        self.limit.sent(self.sending);
        Some(Action::Send { piece: id, again: piece.failures > 0 })
    }

    /// When to ask [`Decide::action`] again where nothing else happens before.
    pub fn wake_at(&self) -> Option<Nanos> {
        let may_send = self.sending < self.bound();
        let due = self.pieces.iter().filter_map(|(id, piece)| match &piece.state {
            State::Ready { at } if may_send && self.is_first(*id, piece) => Some((*at).max(self.health.closed_until())),
            State::Burying { at, letters, .. } if !letters.is_empty() => Some(*at),
            _ => None,
        });
        due.min()
    }

    /// Whether nothing of the piece's destination has to be settled before it.
    fn is_first(&self, id: PieceId, piece: &Piece) -> bool {
        // Parts have their parent's place, whenever they were cut: the halves of a first half go before the second.
        let place = |id: PieceId, piece: &Piece| (piece.seq, piece.share.0, id);
        let before = |(other, at): (&PieceId, &Piece)| at.lane == piece.lane && place(*other, at) < place(id, piece);
        !self.options.ordered || !self.pieces.iter().any(before)
    }

    /// What came of sending `piece`.
    pub fn answered(&mut self, piece: PieceId, outcome: Outcome, now: Nanos) {
        let Some(sent) = self.pieces.get_mut(&piece) else { return };
        let State::Sending { at: sent_at } = sent.state else { return };
        self.sending -= 1;
        match outcome {
            Outcome::Failed { reason } => self.retry(piece, sent_at, None, reason, now),
            Outcome::TimedOut => self.retry(piece, sent_at, None, "no answer in time".to_owned(), now),
            Outcome::Answered { verdict, retry_after } => {
                self.judged(piece, verdict, Sent { at: sent_at, retry_after }, now);
            }
        }
    }

    /// The dead letters of `piece` are written.
    pub fn buried(&mut self, piece: PieceId) {
        if let Some(Piece { state: State::Burying { account, rest, .. }, .. }) = self.pieces.get_mut(&piece) {
            let (account, rest) = (*account, std::mem::take(rest));
            self.settle_but(piece, account, rest);
        }
    }

    /// The dead letters of `piece` could not be written: here they are back, to be written later.
    pub fn not_buried(&mut self, piece: PieceId, back: Vec<Rejection>, now: Nanos) {
        if let Some(Piece { failures, state: State::Burying { at, letters, .. }, .. }) = self.pieces.get_mut(&piece) {
            *failures += 1;
            *at = now.after(self.options.retry.half_jitter(*failures, self.chance.as_mut()));
            *letters = back;
        }
    }

    /// Gives up all that is under way: the numbers of the frames to put back into the buffer.
    pub fn abandon(&mut self) -> Vec<u64> {
        self.pieces.clear();
        self.queued.clear();
        self.sending = 0;
        std::mem::take(&mut self.frames).into_keys().collect()
    }

    fn judged(&mut self, piece: PieceId, verdict: Verdict, sent: Sent, now: Nanos) {
        let records = self.pieces.get(&piece).map_or(0, |p| p.records);
        match verdict {
            Verdict::Delivered { duplicates } => {
                self.limit.succeeded(sent.at, now);
                self.well(now);
                self.settle(piece, Account { delivered: records.into(), duplicates: duplicates.into(), rejected: 0 });
            }
            Verdict::Partly { duplicates, rejected, mut retry } => {
                retry.sort_unstable();
                retry.dedup();
                retry.retain(|record| *record < records);
                if retry.len() as u64 == u64::from(records) {
                    return self.retry(piece, sent.at, sent.retry_after, "no record taken yet".to_owned(), now);
                }
                self.partly(piece, duplicates, rejected, retry, sent, now);
            }
            Verdict::Retry { reason } => self.retry(piece, sent.at, sent.retry_after, reason, now),
            Verdict::Split if records > 1 => {
                self.well(now);
                self.halve(piece, records, now);
            }
            Verdict::Split => {
                self.well(now);
                let reason = "the store finds this one record too large".to_owned();
                let letters = vec![Rejection { record: 0, status: 413, reason }];
                self.bury(piece, letters, Account { rejected: 1, ..Account::default() }, Rest::default(), now);
            }
            Verdict::Reject { status, reason } => {
                self.well(now);
                let letters = (0..records).map(|record| Rejection { record, status, reason: reason.clone() }).collect();
                self.bury(piece, letters, Account { rejected: records.into(), ..Account::default() }, Rest::default(), now);
            }
            Verdict::Pause { reason } => self.pause(piece, sent.retry_after, reason, now),
        }
    }

    fn partly(&mut self, piece: PieceId, duplicates: u32, mut rejected: Vec<Rejection>, retry: Vec<u32>, sent: Sent, now: Nanos) {
        let Some(&Piece { records, .. }) = self.pieces.get(&piece) else { return };
        rejected.sort_by_key(|letter| letter.record);
        rejected.dedup_by_key(|letter| letter.record);
        rejected.retain(|letter| letter.record < records && retry.binary_search(&letter.record).is_err());
        self.well(now);
        let mut wait = Duration::ZERO;
        if retry.is_empty() {
            self.limit.succeeded(sent.at, now);
        } else {
            self.limit.overloaded(sent.at, now);
            self.health.close_for(sent.retry_after, now);
            wait = self.options.retry.full_jitter(1, self.chance.as_mut());
        }
        let stored = u64::from(records) - retry.len() as u64 - rejected.len() as u64;
        let account = Account { delivered: stored, duplicates: duplicates.into(), rejected: rejected.len() as u64 };
        self.bury(piece, rejected, account, Rest { records: retry, at: now.after(wait) }, now);
    }

    fn halve(&mut self, piece: PieceId, records: u32, now: Nanos) {
        let Some(&Piece { seq, lane, share: (start, end), .. }) = self.pieces.get(&piece) else { return };
        let (middle, between) = (records / 2, start + (end - start) / 2);
        let halves = [(0, 0..middle, (start, between)), (1, middle..records, (between, end))];
        let parts = halves.map(|(path, half, share)| {
            let into = self.add((seq, lane, share), half.len() as u32, 0, now);
            NewPart { into, path, records: half.collect() }
        });
        self.queued.push_back(Action::Cut { from: piece, parts: parts.into() });
        self.settle(piece, Account::default());
    }

    /// The same piece again, later.
    fn retry(&mut self, piece: PieceId, sent_at: Nanos, retry_after: Option<Duration>, reason: String, now: Nanos) {
        self.limit.overloaded(sent_at, now);
        self.health.close_for(retry_after, now);
        self.again(piece, self.options.retry, now);
        let change = self.health.failed(reason, now);
        self.report(change);
    }

    /// The same piece again, much later, and nothing else before.
    fn pause(&mut self, piece: PieceId, retry_after: Option<Duration>, reason: String, now: Nanos) {
        let change = self.health.pause(reason, self.options.pause, self.chance.as_mut(), now);
        self.report(change);
        self.health.close_for(retry_after, now);
        self.again(piece, Backoff { initial: Duration::ZERO, max: Duration::ZERO }, now);
    }

    fn again(&mut self, piece: PieceId, backoff: Backoff, now: Nanos) {
        if let Some(piece) = self.pieces.get_mut(&piece) {
            piece.failures = piece.failures.saturating_add(1);
            piece.state = State::Ready { at: now.after(backoff.full_jitter(piece.failures, self.chance.as_mut())) };
        }
    }

    fn bury(&mut self, piece: PieceId, letters: Vec<Rejection>, account: Account, rest: Rest, now: Nanos) {
        if letters.is_empty() {
            return self.settle_but(piece, account, rest);
        }
        if let Some(piece) = self.pieces.get_mut(&piece) {
            piece.failures = 0;
            piece.state = State::Burying { at: now, letters, account, rest };
        }
    }

    /// A new piece of frame `seq`, whose destination is `lane`, with its share of the frame.
    fn add(&mut self, (seq, lane, share): (u64, u64, (u64, u64)), records: u32, failures: u32, at: Nanos) -> PieceId {
        let id = self.next_piece;
        self.next_piece += 1;
        self.pieces.insert(id, Piece { seq, lane, share, records, failures, state: State::Ready { at } });
        if let Some(frame) = self.frames.get_mut(&seq) {
            frame.pieces += 1;
        }
        id
    }

    /// Settles a piece but for the records that are to be sent again. The cut says of all others that they are dealt with, so it
    /// comes after their dead letters.
    fn settle_but(&mut self, piece: PieceId, account: Account, Rest { records, at }: Rest) {
        let of = self.pieces.get(&piece).map(|piece| (piece.seq, piece.lane, piece.share));
        if let Some(place) = of.filter(|_| !records.is_empty()) {
            let into = self.add(place, records.len() as u32, 1, at);
            let parts = vec![NewPart { into, path: path_of(&records), records }];
            self.queued.push_back(Action::Cut { from: piece, parts });
        }
        self.settle(piece, account);
    }

    fn settle(&mut self, piece: PieceId, account: Account) {
        let Some(Piece { seq, .. }) = self.pieces.remove(&piece) else { return };
        self.queued.push_back(Action::Forget(piece));
        let Some(frame) = self.frames.get_mut(&seq) else { return };
        frame.pieces -= 1;
        frame.account.delivered += account.delivered;
        frame.account.duplicates += account.duplicates;
        frame.account.rejected += account.rejected;
        if frame.pieces == 0 {
            let account = frame.account;
            self.frames.remove(&seq);
            self.queued.push_back(Action::Acknowledge { seq, account });
        }
    }

    /// The bound on sends and frames at once: one where the store is paused, to try it with.
    fn bound(&self) -> usize {
        if self.health.is_paused() { 1 } else { self.limit.current() }
    }

    /// The store answered as one that works.
    fn well(&mut self, now: Nanos) {
        let change = self.health.works(now);
        self.report(change);
    }

    fn report(&mut self, change: Option<Change>) {
        self.queued.extend(change.map(Action::Report));
    }
}

#[derive(Clone, Copy)]
struct Sent {
    at: Nanos,
    retry_after: Option<Duration>,
}

/// The number of the part that has just these records; never that of a half.
fn path_of(records: &[u32]) -> u32 {
    let sum = records.iter().fold(0, |sum, record| crc32c::crc32c_append(sum, &record.to_le_bytes()));
    sum.max(2)
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
