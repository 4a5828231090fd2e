//! From an entry of the journal to a record.

use jiff::Timestamp;
use skidder_pipeline::batch::{Batch, Cut, Field};
use skidder_pipeline::json;
use skidder_pipeline::stats::SourceStats;
use skidder_pipeline::value::{Kind, Span};

use super::super::join::cut_point;
use super::format;
use crate::metadata::Select;

/// What each batch begins with: the keys of records.
const TEXT: &[u8] = b"timestampmessagelevelhostunitidentifierpidboot_idjournaldinvalid_utf8truncatedoriginal_bytestrue";
const TIMESTAMP: Span = Span { start: 0, end: 9 };
const MESSAGE: Span = after(TIMESTAMP, 7);
const LEVEL: Span = after(MESSAGE, 5);
const HOST: Span = after(LEVEL, 4);
const UNIT: Span = after(HOST, 4);
const IDENTIFIER: Span = after(UNIT, 10);
const PID: Span = after(IDENTIFIER, 3);
const BOOT_ID: Span = after(PID, 7);
const JOURNALD: Span = after(BOOT_ID, 8);
const INVALID_UTF8: Span = after(JOURNALD, 12);
const TRUNCATED: Span = after(INVALID_UTF8, 9);
const ORIGINAL_BYTES: Span = after(TRUNCATED, 14);
const TRUE: Span = after(ORIGINAL_BYTES, 4);

const fn after(span: Span, len: u32) -> Span {
    Span { start: span.end, end: span.end + len }
}

/// syslog's severities (RFC 5424, table 2), in the words that loggers use.
const LEVELS: [&[u8]; 8] = [b"emerg", b"alert", b"crit", b"error", b"warning", b"notice", b"info", b"debug"];

/// How much is kept beyond a cut, for redaction to see.
const MARGIN_BYTES: usize = 4 * 1024;
/// The longest value of a field other than the message; a longer one is left out. `journalctl --output=json` does so from 4 KiB.
const MAX_FIELD_BYTES: usize = 64 * 1024;

/// What is asked of records.
#[derive(Debug)]
pub(super) struct Shape {
    /// The longest message.
    pub max_record_bytes: usize,
    /// The fields that stand below `journald`.
    pub fields: Select,
}

impl Shape {
    /// How much of a field is read.
    pub(super) fn most_bytes(&self) -> usize {
        self.max_record_bytes.max(MAX_FIELD_BYTES) + MARGIN_BYTES
    }

    /// Appends a record of the entry at `offset`, written at `realtime` (microseconds since 1970), with `fields` sorted by name.
    pub(super) fn push(
        &self,
        batch: &mut Batch,
        offset: u64,
        (realtime, boot_id): (u64, &[u8; 16]),
        fields: &[format::Field],
        stats: &SourceStats,
    ) {
        if batch.bytes().is_empty() {
            batch.append(TEXT);
        }
        let mut record = Record { batch, fields: Vec::with_capacity(12) };
        let first = |name: &[u8]| fields.iter().find(|field| field.name() == name).map(format::Field::value);
        // What the sender said of when it was, if it did; else when journald got it.
        let sent = first(b"_SOURCE_REALTIME_TIMESTAMP").and_then(decimal).unwrap_or(realtime);
        record.text(TIMESTAMP, time(sent).as_bytes());
        if let Some(message) = fields.iter().find(|field| field.name() == b"MESSAGE") {
            record.message(message, self.max_record_bytes, stats);
        }
        if let Some(level) = first(b"PRIORITY").and_then(decimal).and_then(|at| LEVELS.get(usize::try_from(at).ok()?)) {
            record.text(LEVEL, level);
        }
        // What systemd says of a unit is the unit's; what others say of one may be anything.
        let unit: &[u8] = if first(b"_PID") == Some(b"1") && first(b"UNIT").is_some() { b"UNIT" } else { b"_SYSTEMD_UNIT" };
        for (key, names) in [(HOST, &[&b"_HOSTNAME"[..]][..]), (UNIT, &[unit]), (IDENTIFIER, &[b"SYSLOG_IDENTIFIER", b"_COMM"])] {
            let found = names.iter().filter_map(|name| first(name)).find(|value| value.len() <= MAX_FIELD_BYTES);
            if let Some(text) = found.and_then(|value| std::str::from_utf8(value).ok()) {
                record.text(key, text.as_bytes());
            }
        }
        if let Some(pid) = first(b"_PID").or(first(b"SYSLOG_PID")).and_then(decimal) {
            record.add(PID, pid.to_string().as_bytes(), Kind::Number);
        }
        record.text(BOOT_ID, hexadecimal(boot_id).as_bytes());
        record.rest(fields, &self.fields);
        let Record { batch, fields } = record;
        batch.push(offset, &fields);
    }
}

struct Record<'a> {
    batch: &'a mut Batch,
    fields: Vec<Field>,
}

impl Record<'_> {
    fn text(&mut self, key: Span, text: &[u8]) {
        self.add(key, text, Kind::Text);
    }

    fn add(&mut self, key: Span, value: &[u8], kind: Kind) {
        let value = self.batch.append(value);
        self.fields.push(Field { key, value, kind });
    }

    fn message(&mut self, field: &format::Field, max_bytes: usize, stats: &SourceStats) {
        let is_part = (field.value().len() as u64) < field.value_bytes;
        // What was read may end within a character.
        let read = if is_part { whole_characters(field.value()) } else { field.value() };
        let text = String::from_utf8_lossy(read);
        let all = self.batch.append(text.as_bytes());
        let shown = cut_point(text.as_bytes(), Kind::Text, max_bytes);
        let value = Span::new(all.start as usize, all.start as usize + shown);
        self.fields.push(Field { key: MESSAGE, value, kind: Kind::Text });
        if matches!(text, std::borrow::Cow::Owned(_)) {
            stats.invalid_utf8.add(1);
            self.fields.push(Field { key: INVALID_UTF8, value: TRUE, kind: Kind::Bool });
        }
        if shown < text.len() || is_part {
            stats.truncated.add(1);
            self.batch.cuts().push(Cut { value, around: all });
            self.fields.push(Field { key: TRUNCATED, value: TRUE, kind: Kind::Bool });
            self.add(ORIGINAL_BYTES, field.value_bytes.to_string().as_bytes(), Kind::Number);
        }
    }

    /// All other fields as one object; a field that the entry has several times becomes an array of its values. So
    /// `journalctl --output=json` shows them, but for bytes that are no text: it makes arrays of numbers of these, in which no
    /// redaction would find anything, so here they are text as in messages, with U+FFFD for what is no UTF-8.
    fn rest(&mut self, fields: &[format::Field], select: &Select) {
        let wanted = |field: &&format::Field| {
            let name = field.name();
            !matches!(name, b"MESSAGE" | b"_BOOT_ID")
                && field.value_bytes <= MAX_FIELD_BYTES as u64
                && std::str::from_utf8(name).is_ok_and(|name| select.takes(name))
        };
        let wanted: Vec<&format::Field> = fields.iter().filter(wanted).collect();
        if wanted.is_empty() {
            return;
        }
        let out = self.batch.bytes_mut();
        let start = out.len();
        for (index, same) in wanted.chunk_by(|a, b| a.name() == b.name()).enumerate() {
            out.extend_from_slice(if index == 0 { b"{\"" } else { b",\"" });
            json::escape(same[0].name(), out);
            out.extend_from_slice(if same.len() > 1 { b"\":[" } else { b"\":" });
            for (index, field) in same.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_value(field.value(), out);
            }
            if same.len() > 1 {
                out.push(b']');
            }
        }
        out.push(b'}');
        let value = Span::new(start, out.len());
        self.fields.push(Field { key: JOURNALD, value, kind: Kind::Object });
    }
}

fn write_value(value: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    json::escape(String::from_utf8_lossy(value).as_bytes(), out);
    out.push(b'"');
}

fn whole_characters(text: &[u8]) -> &[u8] {
    match std::str::from_utf8(text) {
        Err(error) if error.error_len().is_none() => &text[..error.valid_up_to()],
        _ => text,
    }
}

fn decimal(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// 32 digits, as `journalctl` writes ids.
pub(super) fn hexadecimal(id: &[u8; 16]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn time(micros: u64) -> String {
    let time = i64::try_from(micros).ok().and_then(|micros| Timestamp::from_microsecond(micros).ok());
    format!("{:.6}", time.unwrap_or(Timestamp::UNIX_EPOCH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_what_their_names_say() {
        let words = [
            (TIMESTAMP, "timestamp"),
            (MESSAGE, "message"),
            (LEVEL, "level"),
            (HOST, "host"),
            (UNIT, "unit"),
            (IDENTIFIER, "identifier"),
            (PID, "pid"),
            (BOOT_ID, "boot_id"),
            (JOURNALD, "journald"),
            (INVALID_UTF8, "invalid_utf8"),
            (TRUNCATED, "truncated"),
            (ORIGINAL_BYTES, "original_bytes"),
            (TRUE, "true"),
        ];
        for (span, word) in words {
            assert_eq!(String::from_utf8_lossy(span.of(TEXT)), word);
        }
        assert_eq!(TRUE.end as usize, TEXT.len());
    }

    #[test]
    fn times_have_microseconds() {
        assert_eq!(time(1_773_157_695_217_676), "2026-03-10T15:48:15.217676Z");
        assert_eq!(time(u64::MAX), "1970-01-01T00:00:00.000000Z");
    }
}
