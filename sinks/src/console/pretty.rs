//! Records laid out for people.

use skidder_pipeline::batch::RecordView;
use skidder_pipeline::value::{Kind, Value};

/// ```text
/// 2026-10-02T08:15:30.123Z prod/booking-7d9f ERROR payment refused  order=8812 region=eu-west-1
/// ```
///
/// Whatever could steer a terminal is shown as an escape: content of logs is not to be trusted.
pub struct Pretty {
    colours: bool,
}

/// Shown at the start of the line, not among the fields.
const PLACED: [&[u8]; 4] = [b"timestamp", b"message", b"env", b"pod_name"];
const LEVELS: [&[u8]; 4] = [b"level", b"severity", b"lvl", b"log_level"];
/// Where a record comes from at length; its pod is shown.
const HIDDEN: [&[u8]; 3] = [b"kubernetes", b"file", b"source_type"];

const DIM: &str = "\x1b[2m";
const CYAN: &str = "\x1b[36m";
const RESET: &str = "\x1b[0m";

impl Pretty {
    pub fn new(colours: bool) -> Pretty {
        Pretty { colours }
    }

    /// Appends the record and a line feed.
    pub fn write(&self, record: &RecordView<'_>, out: &mut Vec<u8>) {
        let find = |key: &[u8]| all(record).find(|(name, _)| *name == key).map(|(_, value)| value);
        let start = out.len();
        let gap = |out: &mut Vec<u8>| {
            if out.len() > start {
                out.push(b' ');
            }
        };
        if let Some(time) = find(b"timestamp") {
            self.coloured(DIM, out, |out| show(time, false, out));
        }
        let place = [find(b"env"), find(b"pod_name")];
        if place.iter().any(Option::is_some) {
            gap(out);
            self.coloured(CYAN, out, |out| {
                for (i, value) in place.into_iter().flatten().enumerate() {
                    if i > 0 {
                        out.push(b'/');
                    }
                    show(value, false, out);
                }
            });
        }
        let level = LEVELS.iter().find_map(|key| Some((*key, find(key).filter(|value| value.kind.is_text())?)));
        if let Some((_, value)) = level {
            gap(out);
            self.coloured(colour_of(&value.plain()), out, |out| show(value, false, out));
        }
        if let Some(message) = find(b"message") {
            gap(out);
            show(message, false, out);
        }
        let level = level.map_or(&b""[..], |(key, _)| key);
        let others = all(record).filter(|(key, _)| !PLACED.contains(key) && !HIDDEN.contains(key) && *key != level);
        for (i, (key, value)) in others.enumerate() {
            out.extend_from_slice(if i == 0 { b"  " } else { b" " });
            self.coloured(DIM, out, |out| {
                show(Value { kind: Kind::String, raw: key }, false, out);
                out.push(b'=');
            });
            show(value, true, out);
        }
        out.push(b'\n');
    }

    fn coloured(&self, colour: &str, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
        let colour = if self.colours { colour } else { "" };
        out.extend_from_slice(colour.as_bytes());
        write(out);
        if !colour.is_empty() {
            out.extend_from_slice(RESET.as_bytes());
        }
    }
}

fn all<'a>(record: &'a RecordView<'a>) -> impl Iterator<Item = (&'a [u8], Value<'a>)> {
    record.iter().chain(record.shared().iter())
}

fn colour_of(level: &[u8]) -> &'static str {
    match level.first().map(u8::to_ascii_lowercase) {
        Some(b'e' | b'f' | b'c' | b'p') => "\x1b[1;31m", // error, fatal, critical, panic
        Some(b'w') => "\x1b[33m",
        Some(b'i' | b'n') => "\x1b[32m", // info, notice
        _ => DIM,
    }
}

/// Appends the value as it reads, without anything that steers a terminal; quoted where it must be and `quote` says so.
fn show(value: Value<'_>, quote: bool, out: &mut Vec<u8>) {
    let text = value.plain_str();
    let quote = quote && value.kind.is_text() && (text.is_empty() || text.contains([' ', '=', '"']));
    if quote {
        out.push(b'"');
    }
    for c in text.chars() {
        match c {
            // Records of several lines (stack traces) stay so, unless they stand among the fields.
            '\n' if !quote => out.extend_from_slice(b"\n    "),
            '\t' => out.push(b'\t'),
            c if c.is_control() => out.extend(c.escape_default().map(|c| c as u8)),
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    if quote {
        out.push(b'"');
    }
}
