//! What Loki's answers mean.
//!
//! A 400 says that *some* entries were turned away: the distributor drops those, stores the rest, and answers 400 all the same
//! (`pkg/distributor/distributor.go`, `PushWithResolver`, 3.7). So a 400 is never sent again. Which entries are meant is not said in
//! a form for programs; it is read from the sentences that Loki has for it (`pkg/validation/validate.go`, `pkg/ingester/stream.go`),
//! which name bounds: what lies beyond the bound was turned away. Where that is unsure an entry counts as turned away: a dead letter
//! that Loki has as well costs a line in a file, and Loki ignores it when it is sent again.

use jiff::Timestamp;
use skidder_pipeline::sink::{Rejection, Verdict};

use super::{Entry, entries};

/// Judges an answer to a body of `records` records and `raw_bytes` bytes, which `body` gives before compression.
pub fn judge(status: u16, answer: &[u8], records: u32, raw_bytes: u64, body: impl FnOnce() -> Vec<u8>) -> Verdict {
    let text = String::from_utf8_lossy(answer);
    match status {
        204 => Verdict::Delivered { duplicates: 0 },
        // 260 is what Loki answers where ingestion is blocked. (Where it is set to say 200 it says 204, and nobody can know.)
        200..=299 => Verdict::Pause { reason: format!("HTTP {status} where 204 means stored: ingestion is blocked, or this is not Loki") },
        400 => judge_400(&text, &body()),
        413 => Verdict::Split,
        429 if records > 1 && rate_limit(&text).is_some_and(|limit| limit < raw_bytes) => Verdict::Split,
        // Also where some of it was stored: what is there already is ignored, as long as it comes unchanged.
        408 | 429 | 500..=599 => Verdict::Retry { reason: format!("HTTP {status}{}", kind(&text)) },
        _ => Verdict::Pause { reason: format!("HTTP {status}") },
    }
}

/// The rate that a 429 names, in bytes a second. What is larger than one burst never passes, however long one waits; the burst is
/// not named, and no smaller than that.
///
/// `ingestion rate limit exceeded for user x (limit: 4194304 bytes/sec) while …`, `Per stream rate limit exceeded (limit: 3MB/sec) …`
fn rate_limit(text: &str) -> Option<u64> {
    let rest = text.split_once("(limit: ")?.1;
    let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
    let factor = match rest[end..].trim_start().get(..1)? {
        "k" | "K" => 1000.0,
        "M" => 1_000_000.0,
        "G" => 1_000_000_000.0,
        _ => 1.0,
    };
    Some((rest[..end].parse::<f64>().ok()? * factor) as u64)
}

/// The sort of a 429, for the log.
fn kind(text: &str) -> &'static str {
    match text {
        _ if text.contains("er stream rate limit") => ", per-stream rate limit",
        _ if text.contains("ingestion rate limit") => ", ingestion rate limit",
        _ if text.contains("stream limit exceeded") => ", limit of active streams",
        _ => "",
    }
}

/// Sentences about the whole stream that the configuration of Loki or of this sink is to blame for, and no record.
const SETTINGS: [(&str, &str); 3] = [
    ("label names; limit", "Loki takes fewer labels"),
    ("missing required labels", "Loki wants labels that are not sent"),
    ("but this feature is disallowed", "Loki takes no structured metadata (allow_structured_metadata)"),
];

/// Sentences about the whole stream or request.
const STREAM: [&str; 9] = [
    "error parsing labels",
    "at least one label pair is required",
    "at least one valid stream is required",
    "label name too long",
    "label value too long",
    "duplicate label name",
    "snappy",
    "proto:",
    "unexpected EOF",
];

fn judge_400(text: &str, body: &[u8]) -> Verdict {
    if let Some((_, what)) = SETTINGS.iter().find(|(sentence, _)| text.contains(sentence)) {
        return Verdict::Pause { reason: (*what).to_owned() };
    }
    let entries: Vec<Entry<'_>> = entries(body).collect();
    let mut turned_away = TurnedAway { reasons: vec![None; entries.len()], entries };
    turned_away.read(text);
    let rejected = turned_away.rejections();
    if !rejected.is_empty() {
        return Verdict::Partly { duplicates: 0, rejected, retry: Vec::new() };
    }
    if STREAM.iter().any(|sentence| text.contains(sentence)) {
        return Verdict::Reject { status: 400, reason: text.trim().to_owned() };
    }
    // A proxy's, or a tenant's name that Loki does not take: other data would not change it.
    Verdict::Pause { reason: "HTTP 400 that is about no record".to_owned() }
}

struct TurnedAway<'a> {
    entries: Vec<Entry<'a>>,
    reasons: Vec<Option<String>>,
}

impl TurnedAway<'_> {
    fn read(&mut self, text: &str) {
        for sentence in sentences(text) {
            self.read_limits(sentence);
            self.read_age(sentence);
        }
        self.read_behind(text);
    }

    /// What is beyond a limit on sizes.
    fn read_limits(&mut self, text: &str) {
        if let Some(limit) = number_after(text, "max entry size '") {
            self.mark(text, |entry| entry.line.len() > limit);
        }
        let limit = number_after(text, "limit: '");
        if let Some(limit) = limit.filter(|_| text.contains("has structured metadata too large")) {
            self.mark(text, |entry| entry.metadata.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > limit);
        }
        if let Some(limit) = limit.filter(|_| text.contains("has too many structured metadata labels")) {
            self.mark(text, |entry| entry.metadata.len() > limit);
        }
    }

    /// What is older or newer than any stream takes. Times are written to the second, so the bound itself is within one.
    fn read_age(&mut self, text: &str) {
        if text.contains("has timestamp too old") {
            let oldest = text.split("oldest acceptable timestamp is: ").nth(1).and_then(time);
            if let Some(oldest) = oldest {
                self.mark(text, |entry| entry.unix_nanos < oldest + 1_000_000_000);
            }
        }
        if let Some(at) = text.split("has timestamp too new: ").nth(1).and_then(time) {
            self.mark(text, |entry| entry.unix_nanos >= at);
        }
    }

    /// What is too far behind its stream. The first ten are listed with their times, then how many of how many there were:
    ///
    /// ```text
    /// entry with timestamp 2026-10-02 08:15:30.123456789 +0000 UTC ignored, reason: 'entry too far behind, entry timestamp is:
    ///  2026-10-02T08:15:30Z, oldest acceptable timestamp is: 2026-10-02T09:00:00Z',
    /// user 'fake', total ignored: 12 out of 300 for stream: {…}
    /// ```
    ///
    /// (the first on one line). The bound moves with the entries before, so those that are not listed are the oldest.
    fn read_behind(&mut self, text: &str) {
        let Some((_, counts)) = text.split_once("total ignored: ") else { return };
        let mut numbers = counts.split_whitespace().filter_map(|word| word.parse::<usize>().ok());
        let (Some(ignored), Some(arrived)) = (numbers.next(), numbers.next()) else { return };
        let reason = text.lines().next().unwrap_or_default();
        for line in text.lines().filter_map(|line| line.split_once("entry with timestamp ")?.1.split_once(" ignored, reason: ")) {
            if let Some(at) = go_time(line.0) {
                self.mark(reason, |entry| entry.unix_nanos == at);
            }
            if let Some(oldest) = line.1.split("oldest acceptable timestamp is: ").nth(1).and_then(time) {
                self.mark(reason, |entry| entry.unix_nanos < oldest);
            }
        }
        // Those that did not arrive at the ingester were dropped before it, and the sentence about them was lost to this one.
        let missing = (ignored + self.entries.len().saturating_sub(arrived)).saturating_sub(self.reasons.iter().flatten().count());
        let mut rest: Vec<usize> = (0..self.entries.len()).filter(|index| self.reasons[*index].is_none()).collect();
        rest.sort_by_key(|index| self.entries[*index].unix_nanos);
        for index in rest.into_iter().take(missing) {
            self.reasons[index] = Some(reason.to_owned());
        }
    }

    fn mark(&mut self, reason: &str, is_meant: impl Fn(&Entry<'_>) -> bool) {
        for (entry, known) in self.entries.iter().zip(&mut self.reasons) {
            if known.is_none() && is_meant(entry) {
                *known = Some(reason.trim().to_owned());
            }
        }
    }

    fn rejections(self) -> Vec<Rejection> {
        let each = (0u32..).zip(self.reasons);
        each.filter_map(|(record, reason)| Some(Rejection { record, status: 400, reason: reason? })).collect()
    }
}

/// The errors of an answer: `2 errors like: …; 1 errors like: …`.
fn sentences(text: &str) -> impl Iterator<Item = &str> {
    text.split("; ")
}

fn number_after(text: &str, before: &str) -> Option<usize> {
    let rest = text.split_once(before)?.1;
    rest[..rest.find(|c: char| !c.is_ascii_digit())?].parse().ok()
}

/// A time of RFC 3339 at the start of `text`, in nanoseconds since 1970.
fn time(text: &str) -> Option<i64> {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | ':' | '+' | '.'))).unwrap_or(text.len());
    let time: Timestamp = text[..end].parse().ok()?;
    i64::try_from(time.as_nanosecond()).ok()
}

/// A time as Go prints it: `2026-10-02 08:15:30.123456789 +0000 UTC`.
fn go_time(text: &str) -> Option<i64> {
    let mut words = text.split(' ');
    let (day, clock) = (words.next()?, words.next()?);
    time(&format!("{day}T{clock}Z")).filter(|_| words.next() == Some("+0000"))
}
