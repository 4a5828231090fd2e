//! Stores with the de-duplication of the real ones.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::source::{Name, name_of};
use crate::body::decompress;
use crate::frame::{BatchId, Frame};
use crate::sink::{Rejection, Verdict};

/// What a store can tell of a second copy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Each record by its id; single records are turned away or refused.
    Elasticsearch,
    /// A whole insert by its token, in each table.
    ClickHouse,
    /// A line that is in the current head block already.
    Loki,
    /// Nothing.
    Otlp,
}

/// How many lines fill a head block of Loki.
const HEAD_LINES: usize = 64;

/// A store.
pub struct Store {
    kind: Kind,
    /// How often it has each record.
    pub copies: BTreeMap<Name, u32>,
    tokens: BTreeSet<(Arc<str>, BatchId)>,
    head: BTreeSet<Name>,
    /// Larger bodies get a 413.
    pub max_body_bytes: usize,
    /// Requests that were given up by their sender and are still being worked on.
    pub late: Vec<Arc<Frame>>,
}

impl Store {
    /// An empty one.
    pub fn new(kind: Kind, max_body_bytes: usize) -> Store {
        Store { kind, copies: BTreeMap::new(), tokens: BTreeSet::new(), head: BTreeSet::new(), max_body_bytes, late: Vec::new() }
    }

    /// Takes a request; `busy` are the records (counted from 0) that are turned away for now, where it treats them singly.
    pub fn take(&mut self, frame: &Frame, busy: impl Fn(u32) -> bool) -> Verdict {
        if frame.body().len() > self.max_body_bytes {
            return Verdict::Split;
        }
        let names = names(frame);
        match self.kind {
            Kind::Elasticsearch => return self.take_each(&names, busy),
            Kind::ClickHouse if !self.tokens.insert((frame.header().destination.clone(), frame.header().id)) => {
                return Verdict::Delivered { duplicates: names.len() as u32 };
            }
            Kind::Loki => {
                for name in names {
                    if self.head.insert(name) {
                        *self.copies.entry(name).or_default() += 1;
                    }
                    if self.head.len() >= HEAD_LINES {
                        self.head.clear();
                    }
                }
            }
            Kind::ClickHouse | Kind::Otlp => names.into_iter().for_each(|name| *self.copies.entry(name).or_default() += 1),
        }
        Verdict::Delivered { duplicates: 0 }
    }

    /// Begins to work on a request that its sender gives up; one that is too large is turned away as it comes.
    pub fn begin(&mut self, frame: Arc<Frame>) {
        if frame.body().len() <= self.max_body_bytes {
            self.late.push(frame);
        }
    }

    fn take_each(&mut self, names: &[Name], busy: impl Fn(u32) -> bool) -> Verdict {
        let (mut duplicates, mut rejected, mut retry) = (0, Vec::new(), Vec::new());
        for (record, name) in (0..).zip(names) {
            if name.1 % 37 == 5 {
                rejected.push(Rejection { record, status: 400, reason: "cannot be parsed".to_owned() });
            } else if busy(record) {
                retry.push(record);
            } else if self.copies.contains_key(name) {
                duplicates += 1;
            } else {
                self.copies.insert(*name, 1);
            }
        }
        match rejected.is_empty() && retry.is_empty() {
            true => Verdict::Delivered { duplicates },
            false => Verdict::Partly { duplicates, rejected, retry },
        }
    }
}

/// The lines of a frame's body.
pub fn lines(frame: &Frame) -> Vec<Vec<u8>> {
    let body = decompress(frame.header().compression, frame.body(), frame.header().raw_bytes).unwrap();
    body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect()
}

/// The records in a frame.
pub fn names(frame: &Frame) -> Vec<Name> {
    lines(frame).iter().map(|line| name_of(line)).collect()
}
