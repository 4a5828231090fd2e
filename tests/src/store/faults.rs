//! How a store can misbehave.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use crate::chance::Chance;

/// One way of treating a request badly.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// 429 for the whole request, with `Retry-After` where a time is given.
    TooMany {
        /// The time to name, in seconds.
        retry_after_s: Option<u32>,
    },
    /// 503 for the whole request.
    Unavailable,
    /// The connection is closed and nothing is stored.
    CloseBefore,
    /// Everything is stored and the connection is closed without an answer.
    CloseAfter,
    /// The answer comes late.
    Stall(Duration),
    /// Everything is stored, and the answer is half of what it should be.
    TruncatedAnswer,
    /// The connection is closed after the first piece of the request's body.
    HalfRead,
    /// 413 for the whole request, where it has more than 4 KiB as it comes: no store finds a single record too large that
    /// it took among others.
    TooLarge,
}

/// What a store does wrong. The default is nothing.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// What happens to the next requests, in order.
    pub script: VecDeque<Fault>,
    /// What happens to others by chance: each with its share of 1000 requests.
    pub by_chance: Vec<(u32, Fault)>,
    /// How many of 1000 documents are turned away with 429 when they first come.
    pub busy_per_mille: u32,
    /// Documents with this in their text are refused with 400.
    pub refuse: Option<Vec<u8>>,
    /// Larger bodies (uncompressed) are refused with 413; 0 is no limit.
    pub max_body_bytes: usize,
    /// The same of bodies as they come. A store that knows a request by its token is given this and not
    /// [`Fault::TooLarge`]: what it takes once is not too large for it the next time.
    pub max_wire_bytes: usize,
    /// The seed of the chance.
    pub seed: u64,
}

impl Faults {
    /// The faults of a script, then none.
    pub fn script(faults: impl IntoIterator<Item = Fault>) -> Faults {
        Faults { script: faults.into_iter().collect(), ..Faults::default() }
    }
}

/// The faults of a running store, and what it must remember for them.
pub(crate) struct Mood {
    pub(super) faults: Faults,
    chance: Chance,
    turned_away: HashSet<String>,
}

impl Mood {
    pub(crate) fn new(faults: Faults) -> Mood {
        let chance = Chance::new(faults.seed);
        Mood { faults, chance, turned_away: HashSet::new() }
    }

    /// What happens to the request at hand.
    pub(crate) fn next_fault(&mut self) -> Option<Fault> {
        if let Some(fault) = self.faults.script.pop_front() {
            return Some(fault);
        }
        let mut draw = self.chance.below(1000) as u32;
        for (share, fault) in &self.faults.by_chance {
            if draw < *share {
                return Some(*fault);
            }
            draw -= share;
        }
        None
    }

    /// Whether the document with this id is turned away now. No document is turned away twice.
    pub(super) fn turns_away(&mut self, id: &str) -> bool {
        let chosen = !self.turned_away.contains(id) && self.chance.per_mille(self.faults.busy_per_mille);
        chosen && self.turned_away.insert(id.to_owned())
    }
}

impl Default for Mood {
    fn default() -> Mood {
        Mood::new(Faults::default())
    }
}
