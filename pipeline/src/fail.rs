//! Named points at which a test can let the process die, and a wall clock that it can shift: in builds with debug assertions
//! only. In all others there is nothing here.
//!
//! `SKIDDER_FAILPOINT=<point>:<n>` kills the process, as `kill -9` does, when it comes to the point for the *n*-th time;
//! `SKIDDER_CLOCK_OFFSET_SECS` is added to the wall clock.

/// The points there are, each with what was just done.
pub const POINTS: [&str; 12] =
    [APPENDED, SYNCED, ANSWERED, BURIED, CUT, CUT_JOURNALED, BEFORE_SETTLING, SETTLED, BEFORE_REMOVAL, LOG_WRITTEN, LOG_RENAMED, RECOVERED];

/// A group was written, and nothing else knows of it.
pub const APPENDED: &str = "appended";
/// A segment was synced, and not marked as that.
pub const SYNCED: &str = "synced";
/// A store answered, and nothing was done about it.
pub const ANSWERED: &str = "answered";
/// Dead letters were written, and their frame is not acknowledged.
pub const BURIED: &str = "buried";
/// A piece is to be sent as parts, and that is not on record.
pub const CUT: &str = "cut";
/// It is on record, and no part was sent.
pub const CUT_JOURNALED: &str = "cut-journaled";
/// A frame is dealt with, and that is not on record.
pub const BEFORE_SETTLING: &str = "before-settling";
/// It is on record, and its segment is there.
pub const SETTLED: &str = "settled";
/// A segment is about to be removed.
pub const BEFORE_REMOVAL: &str = "before-removal";
/// The log of positions was written anew, and not put in the place of the old one.
pub const LOG_WRITTEN: &str = "log-written";
/// It is in its place.
pub const LOG_RENAMED: &str = "log-renamed";
/// A buffer was read, and nothing was taken out of it.
pub const RECOVERED: &str = "recovered";

/// The process comes to `point`.
#[cfg(debug_assertions)]
pub(crate) fn point(point: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static FATAL: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let parse = || {
        let text = std::env::var("SKIDDER_FAILPOINT").ok()?;
        let (point, count) = text.split_once(':')?;
        Some((point.to_owned(), count.parse().ok()?))
    };
    if let Some((fatal, at)) = FATAL.get_or_init(parse)
        && fatal == point
        && COUNT.fetch_add(1, Ordering::Relaxed) + 1 == *at
    {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        std::thread::park(); // the signal is on its way
    }
}

#[cfg(not(debug_assertions))]
pub(crate) fn point(_: &str) {}

/// By how much the wall clock is shifted, in nanoseconds.
#[cfg(debug_assertions)]
pub(crate) fn clock_offset_nanos() -> i64 {
    static OFFSET: std::sync::OnceLock<i64> = std::sync::OnceLock::new();
    let parse = || std::env::var("SKIDDER_CLOCK_OFFSET_SECS").ok().and_then(|secs| secs.parse::<i64>().ok()).unwrap_or(0);
    OFFSET.get_or_init(parse).saturating_mul(1_000_000_000)
}

#[cfg(not(debug_assertions))]
pub(crate) fn clock_offset_nanos() -> i64 {
    0
}
