//! The trait of sinks: a few pure functions over the shared delivery.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;

use crate::batch::Batch;
use crate::body::Bodies;
use crate::frame::Frame;

/// What a store wants and says. Pure: transports are handed in beside it, retrying and the rest is the delivery's.
pub trait Sink: Send + Sync {
    /// A new encoder for a worker to own.
    fn encoder(&self) -> Box<dyn Encode>;

    /// What the store's answer means for the frame.
    fn judge(&self, frame: &Frame, response: &Response) -> Verdict;

    /// How many records the store has taken so far and keeps apart, since they did not fit (Elasticsearch's failure store): for the
    /// metrics.
    fn diverted(&self) -> u64 {
        0
    }

    /// A body of the records of `body` (uncompressed) that `records` lists, counted from 0 and in order.
    fn cut(&self, body: &[u8], records: &[u32]) -> Vec<u8>;

    /// Record `index` of `body` (uncompressed) as a person would want to see it in a dead letter: one JSON value.
    fn show(&self, body: &[u8], index: u32) -> Vec<u8>;
}

/// Writes batches in a store's format.
pub trait Encode: Send {
    /// Writes the records of `batch` into the open bodies of their destinations. `route` tells apart the ways on which a
    /// record can reach this sink (see [`crate::id::RecordIds`]).
    fn encode(&mut self, batch: &Batch, route: u8, out: &mut Bodies);
}

/// What a store answered, as far as judging needs it.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status of HTTP, or what the transport documents in its place.
    pub status: u16,
    /// What the store asked to wait before the next try.
    pub retry_after: Option<Duration>,
    /// The body, cut at the transport's limit.
    pub body: Bytes,
    /// For transports that write files: what the delivery should keep beside the acknowledgement and hand back at the next
    /// start (see [`Transport::recover`]).
    pub note: Option<Note>,
}

impl Response {
    /// A plain success.
    pub fn ok() -> Response {
        Response { status: 200, retry_after: None, body: Bytes::new(), note: None }
    }
}

/// A small fact that a transport wants back after a restart, by key. The last one of a key is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note {
    /// What it is about: the path of a file.
    pub key: String,
    /// The fact; at most 1 KiB.
    pub value: Vec<u8>,
}

/// What an answer means.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// All records are in the store.
    Delivered {
        /// How many of them it had already.
        duplicates: u32,
    },
    /// Some are; some are refused for good; some should be sent again, alone.
    Partly {
        /// How many records the store had already.
        duplicates: u32,
        /// Those refused, each with why.
        rejected: Vec<Rejection>,
        /// Those to send again.
        retry: Vec<u32>,
    },
    /// Nothing is known to be stored; send the same again, after the given time where the store named one.
    Retry {
        /// Why, for the log: never content of events.
        reason: String,
    },
    /// Too large: halve it and send the halves.
    Split,
    /// The store will never take it: every record is refused.
    Reject {
        /// Status for the dead letters.
        status: u16,
        /// Why, as the store said it.
        reason: String,
    },
    /// Not the fault of the data (credentials, a missing index): stop sending, say so, try again slowly.
    Pause {
        /// Why.
        reason: String,
    },
}

/// A record that the store refused for good.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rejection {
    /// Which record of the body, counted from 0.
    pub record: u32,
    /// The store's status for it.
    pub status: u16,
    /// The store's reason. May quote the event: for dead letters only, never for the agent's log.
    pub reason: String,
}

/// A send that failed without an answer.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct TransportError(pub String);

/// A boxed future of a send.
pub type Sending<'a> = Pin<Box<dyn Future<Output = Result<Response, TransportError>> + Send + 'a>>;

/// Carries frames: HTTP, a file, a terminal. Handed to the delivery beside the [`Sink`].
pub trait Transport: Send + Sync {
    /// Sends the frame and waits for the answer. A dropped future is a send whose outcome is unknown.
    fn send<'a>(&'a self, frame: &'a Frame) -> Sending<'a>;

    /// Called once at the start, before anything is sent, with the notes of acknowledged frames. A file transport cuts its
    /// files back to what was acknowledged.
    fn recover(&self, notes: &[Note]) -> Result<(), TransportError> {
        let _ = notes;
        Ok(())
    }

    /// How many sends may be under way at once: `None` leaves it to the delivery; files want 1.
    fn concurrency(&self) -> Option<usize> {
        None
    }
}
