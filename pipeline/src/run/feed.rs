//! A source and its readers: one for all sinks while they keep up, and one more for each group of sinks that fell behind.
//!
//! A sink whose buffer is full stops the reading for itself alone. The reader that served it is restricted to the others,
//! and a fork of it, which holds the same files open, waits for the sink. What the sink's open bodies hold is
//! promised to its buffer, and the fork leaves it out: it may be of other sources too, which nobody reads again. When the fork has caught up, all
//! bodies are frozen, so that the buffers say exactly where every sink stands, and one fork for all of them takes the place
//! of both readers. Either way is the restart of a reader, with the same guarantees, and needs no bookkeeping of its own.

use std::time::Duration;

use super::outlet::Outlet;
use super::program::Program;
use crate::edge::Nanos;
use crate::source::{Chunk, Read, SinkSet, Source};

/// How long a full buffer may hold up the other sinks before its sink gets a reader of its own: a store that merely
/// hiccups is not worth reading everything twice.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long a reader of its own lives at least, so that a store at the edge of its strength does not make readers come and
/// go.
const MIN_LIFE: Duration = Duration::from_secs(5);

/// A source, the way of its records, and the sinks that they reach.
pub struct Feed {
    /// The first reads for all sinks that keep up.
    lanes: Vec<Lane>,
    pub(super) program: Program,
}

/// One reader.
pub(super) struct Lane {
    source: Box<dyn Source>,
    /// The sinks that it reads for.
    pub(super) sinks: SinkSet,
    state: State,
    made: Nanos,
    /// Since when some of its sinks have no room while others have.
    held_up: Option<Nanos>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Ready,
    Idle(Nanos),
    Ended,
}

impl Feed {
    /// A feed of `source` through `program`.
    pub fn new(source: Box<dyn Source>, program: Program) -> Feed {
        let lane = Lane { source, sinks: program.sinks(), state: State::Ready, made: Nanos(0), held_up: None };
        Feed { lanes: vec![lane], program }
    }

    /// Whether nothing will come any more, for any sink.
    pub(super) fn has_ended(&self) -> bool {
        self.lanes.iter().all(|lane| lane.state == State::Ended)
    }

    #[cfg(test)]
    pub(super) fn reader_count(&self) -> usize {
        self.lanes.len()
    }

    /// Tells its readers that others take their places: see [`Source::leave`].
    pub fn leave(&mut self) {
        self.lanes.iter_mut().for_each(|lane| lane.source.leave());
    }

    pub(super) fn stop(&mut self) {
        self.lanes.iter_mut().for_each(|lane| lane.source.stop());
        self.wake();
    }

    /// Lets every reader that was idle be asked again.
    pub(super) fn wake(&mut self) {
        for lane in &mut self.lanes {
            if let State::Idle(_) = lane.state {
                lane.state = State::Ready;
            }
        }
    }

    /// When to ask its readers again, as far as is known; `room` is when to look again whether there is room.
    pub(super) fn due_at(&self, room: Nanos) -> Option<Nanos> {
        let due = |lane: &Lane| match lane.state {
            State::Idle(until) => Some(until),
            State::Ready => Some(room), // it could have been read, had there been room
            State::Ended => None,
        };
        self.lanes.iter().filter_map(due).min()
    }

    /// Gives each reader a turn: `work` takes what it filled, with the sinks that it is for. Says whether there was anything.
    pub(super) fn turn(
        &mut self,
        chunk: &mut Chunk,
        outlets: &mut [Outlet],
        now: Nanos,
        mut work: impl FnMut(&mut Program, &mut Chunk, SinkSet, &mut [Outlet]),
    ) -> bool {
        let mut worked = false;
        for index in 0..self.lanes.len() {
            self.let_go_who_is_held_up(index, outlets, now);
            let lane = &mut self.lanes[index];
            if lane.is_due(now) && without_room(outlets, lane.sinks).is_empty() && lane.read(chunk, now) {
                worked = true;
                work(&mut self.program, chunk, lane.sinks, outlets);
            }
        }
        self.take_back_who_caught_up(outlets, now);
        worked
    }

    /// Gives the sinks of a reader that have no room one of their own, where they have held up the others for long enough.
    fn let_go_who_is_held_up(&mut self, index: usize, outlets: &mut [Outlet], now: Nanos) {
        let lane = &mut self.lanes[index];
        let behind = without_room(outlets, lane.sinks);
        let rest = lane.sinks.without(behind);
        if behind.is_empty() || rest.is_empty() || lane.state == State::Ended {
            lane.held_up = None;
            return;
        }
        let since = *lane.held_up.get_or_insert(now);
        if now.since(since) < PATIENCE {
            return;
        }
        of(outlets, behind).for_each(|(_, outlet)| outlet.promise());
        let Some(source) = lane.source.fork(behind) else { return };
        lane.held_up = None;
        for (_, outlet) in of(outlets, behind) {
            tracing::warn!(sink = outlet.name(), "the buffer is full: reading goes on without this sink, which will catch up later");
        }
        lane.source.restrict(rest);
        lane.sinks = rest;
        self.lanes.push(Lane { source, sinks: behind, state: State::Ready, made: now, held_up: None });
    }

    /// Reads for all sinks together again, where a fork has nothing left to read for its own.
    fn take_back_who_caught_up(&mut self, outlets: &mut [Outlet], now: Nanos) {
        let caught_up = |lane: &Lane| matches!(lane.state, State::Idle(_)) && now.since(lane.made) >= MIN_LIFE;
        let Some(index) = (1..self.lanes.len()).find(|index| caught_up(&self.lanes[*index])) else { return };
        let sinks = self.lanes[0].sinks.or(self.lanes[index].sinks);
        if self.lanes[0].state == State::Ended || !without_room(outlets, sinks).is_empty() {
            return;
        }
        for (_, outlet) in of(outlets, sinks) {
            outlet.freeze_now(now);
        }
        // What a buffer gave back is in no buffer: it would be read again, and then be there twice.
        if of(outlets, sinks).any(|(_, outlet)| !outlet.is_settled()) {
            return;
        }
        let Some(source) = self.lanes[0].source.fork(sinks) else { return };
        for (_, outlet) in of(outlets, self.lanes[index].sinks) {
            tracing::info!(sink = outlet.name(), "the sink has caught up");
        }
        self.lanes.remove(index);
        self.lanes[0] = Lane { source, sinks, state: State::Ready, made: now, held_up: None };
    }
}

impl Lane {
    fn is_due(&self, now: Nanos) -> bool {
        match self.state {
            State::Ready => true,
            State::Idle(until) => until <= now,
            State::Ended => false,
        }
    }

    fn read(&mut self, chunk: &mut Chunk, now: Nanos) -> bool {
        match self.source.read(chunk, now) {
            Read::Chunk => self.state = State::Ready,
            Read::Idle { until } => self.state = State::Idle(until),
            Read::End => self.state = State::Ended,
        }
        self.state == State::Ready
    }
}

fn of(outlets: &mut [Outlet], sinks: SinkSet) -> impl Iterator<Item = (usize, &mut Outlet)> {
    outlets.iter_mut().enumerate().filter(move |(index, _)| sinks.contains(*index))
}

fn without_room(outlets: &[Outlet], sinks: SinkSet) -> SinkSet {
    let full = outlets.iter().enumerate().filter(|(index, outlet)| sinks.contains(*index) && !outlet.has_room());
    full.fold(SinkSet::default(), |set, (index, _)| set.or(SinkSet::only(index)))
}
