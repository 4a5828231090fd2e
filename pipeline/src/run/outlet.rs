//! The worker's side of a sink: its encoder, its open bodies, and the bytes that they will account for.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::batch::Batch;
use crate::body::Bodies;
use crate::buffer::Appended;
use crate::edge::Nanos;
use crate::frame::{Frame, FrameScope, freeze};
use crate::position::{Range, push_range};
use crate::sink::Encode;

/// How often positions move for records that were filtered away, with no body to carry them.
const POSITIONS_EVERY: Duration = Duration::from_secs(1);

/// How soon a group that the buffer did not take is offered again.
const OFFER_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// Where frozen groups go: a sink's buffer, seen from the worker.
pub trait Intake: Send + Sync {
    /// Whether a group may be appended now.
    fn has_room(&self) -> bool;

    /// Appends a group.
    fn append(&self, group: Vec<Frame>, now: Nanos) -> Appended;

    /// Counts `ranges` among what is held, in the place of those promised before: they will be appended as soon as there is
    /// room, so that a reader which begins now must leave them out.
    fn promise(&self, ranges: Vec<Range>);
}

/// A sink as the worker sees it.
pub struct Outlet {
    encoder: Box<dyn Encode>,
    bodies: Bodies,
    covers: Vec<Range>,
    covered_at: Option<Nanos>,
    scope: FrameScope,
    intake: Arc<dyn Intake>,
    /// Groups that the buffer gave back, the oldest first; until they are in, nothing more is read for this sink.
    refused: VecDeque<Vec<Frame>>,
    promised: bool,
}

/// Groups of frames that a sink's buffer had no room for when its worker left: for the outlet that takes its place.
#[derive(Debug)]
pub struct Unsettled {
    /// The sink's name.
    pub sink: Arc<str>,
    groups: VecDeque<Vec<Frame>>,
}

impl Outlet {
    /// An outlet that writes with `encoder` into `bodies` and hands frozen groups to `intake`.
    pub fn new(encoder: Box<dyn Encode>, bodies: Bodies, scope: FrameScope, intake: Arc<dyn Intake>) -> Outlet {
        let refused = VecDeque::new();
        Outlet { encoder, bodies, covers: Vec::new(), covered_at: None, scope, intake, refused, promised: false }
    }

    /// Takes over from an outlet that another worker left, with what that one's buffer had no room for. To be called before a
    /// source asks what the sinks hold.
    pub fn take_over(&mut self, left: Option<Unsettled>) {
        self.refused.extend(left.into_iter().flat_map(|left| left.groups));
        self.promise();
    }

    /// Freezes what is open and hands it over; gives back what there is no room for.
    pub fn leave(mut self, now: Nanos) -> Option<Unsettled> {
        self.freeze_if_due(now, true);
        self.freeze(now);
        let Outlet { scope, refused: groups, .. } = self;
        (!groups.is_empty()).then_some(Unsettled { sink: scope.sink, groups })
    }

    /// The sink's name.
    pub(super) fn name(&self) -> &str {
        &self.scope.sink
    }

    /// Says what is open or was given back, for readers that begin now. It may have come from several sources, not all of which
    /// are read anew, so it is kept and not read again.
    pub(super) fn promise(&mut self) {
        let refused = self.refused.iter().flatten().flat_map(|frame| &frame.header().ranges);
        self.intake.promise(refused.chain(&self.covers).copied().collect());
        self.promised = true;
    }

    pub(super) fn set_now(&mut self, now: Nanos) {
        self.bodies.set_now(now);
    }

    pub(super) fn encode(&mut self, batch: &Batch, route: u8) {
        self.encoder.encode(batch, route, &mut self.bodies);
    }

    /// Notes the bytes that the next group accounts for.
    pub(super) fn cover(&mut self, covers: &[Range]) {
        for range in covers {
            push_range(&mut self.covers, *range);
        }
        if !covers.is_empty() {
            self.covered_at.get_or_insert(self.bodies.now());
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.refused.is_empty() && self.intake.has_room()
    }

    /// Whether nothing is open and nothing was given back.
    pub(super) fn is_settled(&self) -> bool {
        self.refused.is_empty() && self.bodies.is_empty() && self.covers.is_empty()
    }

    /// Freezes what is open, due or not.
    pub(super) fn freeze_now(&mut self, now: Nanos) {
        self.freeze_if_due(now, true);
    }

    /// Offers refused groups again; freezes the bodies when a limit is reached, or in any case where `ending`.
    pub(super) fn freeze_if_due(&mut self, now: Nanos, ending: bool) {
        self.hand_over(now);
        let positions_due = self.bodies.is_empty() && self.covered_at.is_some_and(|at| at.after(POSITIONS_EVERY) <= now);
        if self.refused.is_empty() && (ending || positions_due || self.bodies.is_due(now)) {
            self.freeze(now);
        }
        if self.promised && self.is_settled() {
            self.intake.promise(Vec::new());
            self.promised = false;
        }
    }

    /// When [`Outlet::freeze_if_due`] will have something to do, as far as is known now.
    pub(super) fn due_at(&self, now: Nanos) -> Option<Nanos> {
        if !self.refused.is_empty() {
            return Some(now.after(OFFER_AGAIN_AFTER));
        }
        self.bodies.due_at().or_else(|| self.covered_at.map(|at| at.after(POSITIONS_EVERY)))
    }

    fn freeze(&mut self, now: Nanos) {
        let group = freeze(&mut self.bodies, std::mem::take(&mut self.covers), &mut self.scope);
        self.covered_at = None;
        if !group.is_empty() {
            self.refused.push_back(group);
            self.hand_over(now);
        }
    }

    fn hand_over(&mut self, now: Nanos) {
        while let Some(group) = self.refused.pop_front() {
            if let Appended::Full(group) = self.intake.append(group, now) {
                return self.refused.push_front(group);
            }
        }
    }
}
