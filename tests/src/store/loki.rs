//! A store that takes Loki's pushes, and ignores repeats as far as Loki does.
//!
//! A stream's head block takes entries until it has [`BLOCK_BYTES`] and is cut (`chunk_block_size`). An entry whose time, line and
//! structured metadata are in the head block already is ignored (`pkg/chunkenc/unordered.go`, `Append`). An entry that is older than
//! the newest of its stream by more than an hour is turned away (`max_chunk_age` / 2), as are lines over 256 KiB.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Mutex;

use hyper::http::request::Parts;
use hyper::{Response, StatusCode};

use super::door::{Behind, lock};
use super::kept::{Kept, Tally, sum};
use super::proto;
use super::running::{Holds, Running};

/// What a head block takes.
const BLOCK_BYTES: usize = 256 << 10;

/// How far behind the newest of its stream an entry may be.
const BEHIND_NANOS: u64 = 3_600_000_000_000;

/// The store. It knows a record by its line and its pod, and its form by stream, time and metadata.
pub type Loki = Running<Streams>;

/// What it holds.
pub struct Streams(Mutex<State>);

struct State {
    heads: HashMap<Vec<u8>, Head>,
    kept: Kept,
}

#[derive(Default)]
struct Head {
    entries: HashSet<u64>,
    bytes: usize,
    newest_nanos: u64,
}

struct Entry<'a> {
    unix_nanos: u64,
    line: &'a [u8],
    metadata: Vec<(&'a [u8], &'a [u8])>,
}

impl Holds for Streams {
    fn new() -> io::Result<Streams> {
        Ok(Streams(Mutex::new(State { heads: HashMap::new(), kept: Kept::new()? })))
    }

    fn tally(&self) -> Tally {
        lock(&self.0).kept.tally
    }

    fn each(&self, each: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        lock(&self.0).kept.each(each)
    }
}

impl Behind for Streams {
    fn answer(&self, _: &Parts, body: &[u8]) -> Option<Response<Vec<u8>>> {
        let Some(message) = uncompress(body) else { return Some(answer(StatusCode::BAD_REQUEST, "snappy: corrupt input")) };
        let Some(streams) = streams(&message) else { return Some(answer(StatusCode::BAD_REQUEST, "unexpected EOF")) };
        let mut state = lock(&self.0);
        for (labels, entries) in streams {
            match state.push(labels, &entries) {
                Ok(0) => {}
                Ok(count) => return Some(answer(StatusCode::BAD_REQUEST, &format!("{count} entries: entry too far behind or too long"))),
                Err(_) => return Some(answer(StatusCode::INTERNAL_SERVER_ERROR, "no room")),
            }
        }
        Some(answer(StatusCode::NO_CONTENT, ""))
    }
}

impl State {
    /// Takes the entries of a stream; how many it turned away.
    fn push(&mut self, labels: &[u8], entries: &[Entry<'_>]) -> io::Result<u64> {
        let State { heads, kept } = self;
        let head = heads.entry(labels.to_vec()).or_default();
        let mut turned_away = 0;
        for entry in entries {
            let time = entry.unix_nanos.to_le_bytes();
            let metadata: Vec<&[u8]> = entry.metadata.iter().flat_map(|(name, value)| [*name, *value]).collect();
            let form = sum(&[&[labels, &time], &metadata[..]].concat());
            let in_head = sum(&[&form.to_le_bytes(), entry.line]);
            if entry.unix_nanos + BEHIND_NANOS < head.newest_nanos || entry.line.len() > BLOCK_BYTES {
                turned_away += 1;
                continue;
            }
            if head.entries.contains(&in_head) {
                kept.tally.refused += 1;
                continue;
            }
            kept.take(record_sum(entry), form, || record(entry))?;
            head.newest_nanos = head.newest_nanos.max(entry.unix_nanos);
            head.entries.insert(in_head);
            // Of structured metadata it counts two numbers a pair, which stand for name and value.
            head.bytes += entry.line.len() + 4 * metadata.len();
            if head.bytes >= BLOCK_BYTES {
                head.entries.clear();
                head.bytes = 0;
            }
        }
        kept.tally.turned_away += turned_away;
        Ok(turned_away)
    }
}

/// The metadata that says of which pod an entry is.
fn pod<'a>(entry: &Entry<'a>) -> &'a [u8] {
    entry.metadata.iter().find(|(name, _)| *name == b"pod").map_or(b"", |(_, value)| value)
}

/// What tells a record apart, whatever stream and time it came with.
fn record_sum(entry: &Entry<'_>) -> u64 {
    sum(&[pod(entry), entry.line])
}

/// An entry as the record that it was: its line, a JSON object, with the name of the pod.
fn record(entry: &Entry<'_>) -> Vec<u8> {
    match entry.line.strip_prefix(b"{") {
        Some(inside) => [b"{\"pod_name\":\"", pod(entry), b"\",", inside].concat(),
        None => entry.line.to_vec(),
    }
}

/// `PushRequest { repeated StreamAdapter streams = 1; }`, `StreamAdapter { string labels = 1; repeated EntryAdapter entries = 2; }`
fn streams(message: &[u8]) -> Option<Vec<(&[u8], Vec<Entry<'_>>)>> {
    let streams = proto::fields(message)?.into_iter().filter(|field| field.number == 1);
    streams.map(|field| stream(field.value.bytes())).collect()
}

fn stream(message: &[u8]) -> Option<(&[u8], Vec<Entry<'_>>)> {
    let fields = proto::fields(message)?;
    let labels = fields.iter().find(|field| field.number == 1).map_or(&b""[..], |field| field.value.bytes());
    let entries = fields.iter().filter(|field| field.number == 2).map(|field| entry(field.value.bytes()));
    Some((labels, entries.collect::<Option<Vec<_>>>()?))
}

/// `EntryAdapter { Timestamp timestamp = 1; string line = 2; repeated LabelPairAdapter structuredMetadata = 3; }`
fn entry(message: &[u8]) -> Option<Entry<'_>> {
    let mut entry = Entry { unix_nanos: 0, line: b"", metadata: Vec::new() };
    for field in proto::fields(message)? {
        let inside = || proto::fields(field.value.bytes());
        match field.number {
            1 => {
                let of = |part: &proto::Field<'_>| part.value.number() * if part.number == 1 { 1_000_000_000 } else { 1 };
                entry.unix_nanos = inside()?.iter().map(of).sum();
            }
            2 => entry.line = field.value.bytes(),
            3 => {
                let pair = inside()?;
                let text = |number| pair.iter().find(|part| part.number == number).map_or(&b""[..], |part| part.value.bytes());
                entry.metadata.push((text(1), text(2)));
            }
            _ => {}
        }
    }
    Some(entry)
}

/// Snappy's block format.
fn uncompress(block: &[u8]) -> Option<Vec<u8>> {
    snap::raw::Decoder::new().decompress_vec(block).ok()
}

fn answer(status: StatusCode, body: &str) -> Response<Vec<u8>> {
    let mut response = Response::new(body.as_bytes().to_vec());
    *response.status_mut() = status;
    response
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_block_of_snappy_is_read() {
        // From snappy's own description: a literal, and a copy that overlaps what it makes.
        assert_eq!(uncompress(&[6, 1 << 2, b'a', b'b', 1, 2]).unwrap(), b"ababab");
        assert_eq!(uncompress(&[3, 2 << 2, b'x', b'y', b'z']).unwrap(), b"xyz");
        assert!(uncompress(&[3, 2 << 2, b'x', b'y']).is_none() && uncompress(&[4, 1 << 2, b'a', b'b', 1, 9]).is_none());
    }

    #[test]
    fn a_repeat_is_ignored_as_long_as_it_is_in_the_head_block() {
        let mut state = State { heads: HashMap::new(), kept: Kept::new().unwrap() };
        let entry = |unix_nanos, line| Entry { unix_nanos, line, metadata: vec![(b"pod", b"p")] };
        let (large, other) = (vec![b'x'; BLOCK_BYTES / 2], vec![b'y'; BLOCK_BYTES / 2]);
        assert_eq!(state.push(b"{}", &[entry(1, b"{a}"), entry(2, b"{b}"), entry(1, b"{a}")]).unwrap(), 0);
        assert_eq!(state.kept.tally, Tally { stored: 2, refused: 1, ..Tally::default() });
        state.push(b"{}", &[entry(3, &large), entry(4, &other)]).unwrap();
        state.push(b"{}", &[entry(1, b"{a}"), entry(5, b"{b}")]).unwrap();
        assert_eq!(state.kept.tally, Tally { stored: 4, refused: 1, again: 1, changed: 1, ..Tally::default() });
        assert_eq!(state.push(b"{}", &[entry(BEHIND_NANOS + 9, b"{c}"), entry(5, b"{d}")]).unwrap(), 1);
        let mut lines = Vec::new();
        state.kept.each(|line| lines.push(line.to_vec())).unwrap();
        assert_eq!(lines[0], b"{\"pod_name\":\"p\",a}");
    }
}
