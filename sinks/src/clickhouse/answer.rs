//! What ClickHouse's answers mean: its error codes (`src/Common/ErrorCodes.cpp`), which the HTTP status only hints at.

use skidder_pipeline::sink::{Rejection, Response, Verdict};

/// An exception, as an answer says it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exception<'a> {
    /// Its number.
    pub code: u32,
    /// All that was said. May quote records.
    pub text: &'a str,
}

/// The exception in an answer, if it says one: in whatever status it comes, since it can happen after the headers were sent.
pub fn exception(body: &[u8]) -> Option<Exception<'_>> {
    let text = match std::str::from_utf8(body) {
        Ok(text) => text,
        // A reason may quote bytes that are no text; what comes before them tells enough.
        Err(error) => std::str::from_utf8(&body[..error.valid_up_to()]).unwrap_or_default(),
    };
    let at = text.find("Code: ")?;
    let digits = &text[at + 6..];
    let end = digits.find(|c: char| !c.is_ascii_digit())?;
    let code = digits[..end].parse().ok()?;
    // `Code: 27. DB::Exception: …`, and in old versions `Code: 27, e.displayText() = DB::Exception: …`.
    digits[end..].starts_with(['.', ',']).then_some(())?;
    Some(Exception { code, text: text[at..].trim_end() })
}

/// What an error means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Class {
    /// It passes.
    Passing,
    /// A record cannot be stored.
    Record,
    /// Less at once could be.
    TooMuch,
    /// The table has other columns than those that were asked for.
    Stale,
    /// Someone must see to it.
    Lasting,
}

impl Exception<'_> {
    fn class(&self) -> Class {
        match self.code {
            252 if self.text.contains("partitions for single INSERT block") => Class::TooMuch,
            // NO_SUCH_COLUMN_IN_TABLE; and the head of a body that names a column, or a type of one, that is not there.
            16 => Class::Stale,
            117 | 53 if self.text.contains("while reading header") => Class::Stale,
            // Texts that are no numbers, dates, addresses, …; values that do not fit; constraints of the table.
            6 | 25 | 26 | 27 | 32 | 33 | 38 | 41 | 43 | 53 | 69 | 70 | 72 | 117 | 130 | 131 | 190 | 321 | 349 | 376 | 395 | 407 | 441
            | 469 | 675 | 676 | 691 => Class::Record,
            // No such table, database, function or setting; no right or no credentials; a format or codec that it does not know.
            36 | 46 | 47 | 48 | 60 | 62 | 73 | 81 | 115 | 164 | 192..=195 | 201 | 291 | 432 | 452 | 456 | 457 | 492 | 497 | 516 => {
                Class::Lasting
            }
            // Time-outs, limits, the network, replicas and their keeper, a full disk (243), too many parts (252); and what is not
            // known: to keep a record that cannot be stored is better than to give up one that can.
            _ => Class::Passing,
        }
    }

    /// The name, from the end of the text: `(TOO_MANY_PARTS)`.
    fn name(&self) -> &str {
        let is_name =
            |text: &&str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
        let mut groups = self.text.rsplit('(').filter_map(|rest| rest.split_once(')')).map(|(name, _)| name);
        groups.find(is_name).unwrap_or("unnamed")
    }

    /// For the log: never content.
    fn said(&self) -> String {
        format!("code {} ({})", self.code, self.name())
    }

    /// Which record it is about, counted from 0.
    fn row(&self) -> Option<u32> {
        let (_, after) = self.text.rsplit_once("at row ")?;
        let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
        after[..digits].parse::<u32>().ok()?.checked_sub(1)
    }

    /// Whether the columns should be asked for again.
    pub fn is_stale(&self) -> bool {
        self.class() == Class::Stale
    }
}

/// Judges an answer to an INSERT of `records` records.
pub fn judge(response: &Response, records: u32) -> Verdict {
    let Some(exception) = exception(&response.body) else {
        return match response.status {
            200..=299 => Verdict::Delivered { duplicates: 0 },
            413 => Verdict::Split,
            // A proxy's word, or that of a server that is starting or stopping.
            408 | 429 | 500..=599 => Verdict::Retry { reason: format!("HTTP {}", response.status) },
            status => Verdict::Pause { reason: format!("HTTP {status}") },
        };
    };
    let said = exception.said();
    match exception.class() {
        Class::Passing => Verdict::Retry { reason: said },
        Class::Stale => Verdict::Retry { reason: format!("the table has other columns by now: {said}") },
        Class::Lasting => Verdict::Pause { reason: said },
        Class::TooMuch if records > 1 => Verdict::Split,
        Class::TooMuch => Verdict::Retry { reason: said },
        Class::Record if records <= 1 => Verdict::Reject { status: response.status, reason: exception.text.to_owned() },
        Class::Record => single_out(&exception, response.status, records),
    }
}

/// One record spoils the insert. Where the server says which, only that one is taken out; but where it comes early, many may
/// be like it, and halving finds many in fewer requests.
fn single_out(exception: &Exception<'_>, status: u16, records: u32) -> Verdict {
    const EARLY: u32 = 16;
    match exception.row() {
        Some(row) if row < records && (row >= EARLY || records <= 4 * EARLY) => Verdict::Partly {
            duplicates: 0,
            rejected: vec![Rejection { record: row, status, reason: exception.text.to_owned() }],
            retry: (0..records).filter(|record| *record != row).collect(),
        },
        _ => Verdict::Split,
    }
}
