//! Delivery: from a sink's buffer to its store, written once for all sinks.
//!
//! Two halves. [`decide`] is a state machine that does no I/O, reads no clock and holds no bytes: it is told what happened
//! and says what to do next. [`driver`] does it: takes frames from the [`Queue`](crate::queue::Queue), sends them over the
//! sink's [`Transport`](crate::sink::Transport), lets the sink judge the answers, cuts parts, writes dead letters, and
//! acknowledges.
//!
//! What holds for every sink:
//! - a frame is acknowledged when each of its records is in the store or in the dead letters, and never before;
//! - retrying has no end: what bounds it is the buffer and its policy;
//! - a retry sends the same bytes under the same id; a part that is cut again alike has the same id again;
//! - no more sends are under way than the store bears (see [`limit`]).

pub mod backoff;
pub mod dead_letters;
pub mod decide;
pub mod driver;
pub mod health;
pub mod limit;
pub mod replay;

pub use dead_letters::{Bury, DeadLetterFile, Discard};
pub use decide::Options;
pub use driver::{Control, Delivery, Ended, Signal, control, single_out};
