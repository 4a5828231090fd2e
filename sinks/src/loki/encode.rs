//! Records as entries of streams.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use skidder_pipeline::batch::{Batch, Field, RecordView};
use skidder_pipeline::body::Bodies;
use skidder_pipeline::edge::Clock;
use skidder_pipeline::id::RecordIds;
use skidder_pipeline::json;
use skidder_pipeline::path::Path;
use skidder_pipeline::shared::{PerShared, Shared};
use skidder_pipeline::sink::Encode;
use skidder_pipeline::value::{Kind, Value};

use super::Line;
use super::labels::{LabelSet, SharedLabels, Values};
use super::repeats::Repeats;
use crate::common::proto;
use crate::common::semantics::{Finder, Meaning};
use crate::lines::write_some;

/// What the configuration says.
pub struct Settings {
    pub labels: LabelSet,
    pub line: Line,
    pub time: Option<Path>,
    pub max_line_bytes: usize,
    pub rewrite: bool,
    pub max_behind_nanos: i64,
    pub max_age_nanos: i64,
    pub clock: Arc<dyn Clock>,
}

/// Loki takes 128 pairs and 64 KiB of structured metadata an entry, its own `detected_level` among them. So much of it is what is
/// known of the container, the rest is the record's.
const MAX_SHARED_PAIRS: usize = 96;
const MAX_SHARED_BYTES: usize = 40 << 10;
const MAX_OWN_PAIRS: usize = 24;
const MAX_PAIR_BYTES: usize = 1 << 10;

/// How far below Loki's bounds a rewritten time stays: for clocks that differ, and for the time until it arrives.
const MARGIN_NANOS: i64 = 300_000_000_000;

/// Streams whose newest time is remembered.
const MAX_STREAMS: usize = 1 << 12;

/// In pieces of this size entries go into bodies, so that a request is not much larger than it is to be. Half of Snappy's window.
const PIECE_BYTES: usize = 32 << 10;

/// Writes entries.
pub struct LokiEncoder {
    settings: Arc<Settings>,
    finder: Finder,
    ready: PerShared<Ready>,
    values: Values,
    repeats: Repeats,
    /// The newest time of each stream, for `rewrite_timestamp`.
    newest: HashMap<u64, i64>,
    groups: Vec<Group>,
    line: Vec<u8>,
    metadata: Metadata,
}

/// What is the same for all records with the same shared fields.
struct Ready {
    labels: SharedLabels,
    /// Pairs, as fields of an entry.
    metadata: Vec<u8>,
    names: Vec<Cow<'static, str>>,
}

/// The entries of a batch for one stream.
#[derive(Default)]
struct Group {
    destination: String,
    /// A hash of the destination.
    stream: u64,
    entries: Vec<u8>,
    records: u32,
}

impl Group {
    /// Hands the entries to the body of the stream.
    fn write(&mut self, out: &mut Bodies) {
        out.write(&self.destination, &self.entries, self.records);
        self.entries.clear();
        self.records = 0;
    }
}

impl LokiEncoder {
    /// Groups that are kept between batches.
    const KEPT: usize = 4;

    pub fn new(settings: Arc<Settings>) -> LokiEncoder {
        LokiEncoder {
            finder: Finder::new(settings.time.clone()),
            settings,
            ready: PerShared::new(),
            values: Values::default(),
            repeats: Repeats::new(),
            newest: HashMap::new(),
            groups: Vec::new(),
            line: Vec::new(),
            metadata: Metadata::new(MAX_OWN_PAIRS),
        }
    }
}

impl Encode for LokiEncoder {
    fn encode(&mut self, batch: &Batch, route: u8, out: &mut Bodies) {
        let LokiEncoder { settings, finder, ready, values, repeats, newest, groups, line, metadata } = self;
        let ready = ready.get_or_make(batch.shared(), |shared| Ready::new(settings, shared));
        let ids = RecordIds::new(batch.file(), route);
        let now = settings.clock.unix_nanos();
        let mut before = now;
        let mut destination = String::new();
        finder.begin(batch);
        metadata.begin_batch(&ready.names);
        for record in batch.records() {
            let meaning = finder.find(&record);
            let read = meaning.time.unwrap_or(before).max(0);
            before = read;

            let to = match &ready.labels.whole {
                Some(whole) => whole,
                None => {
                    settings.labels.write(&ready.labels, &record, values, &mut destination);
                    &destination
                }
            };
            let group = group(groups, to);

            metadata.begin();
            let is_plain = write_line(settings, &record, &meaning, line);
            if settings.cut(line) {
                metadata.add("truncated", b"true");
            }
            write_metadata(settings, &record, &meaning, is_plain, metadata);
            let time = settings.rewritten(newest, group.stream, read, now);
            if time != read {
                metadata.add("original_timestamp", timestamp(read).as_bytes());
            }
            if repeats.is_at_seam(batch.file(), record.offset, read) {
                metadata.add("log_record_uid", &ids.text(record.offset));
            }
            let time = repeats.time_for(group.stream, time, line);
            write_entry(time, line, &[&ready.metadata, &metadata.out], &mut group.entries);
            group.records += 1;
            if group.entries.len() >= PIECE_BYTES {
                group.write(out);
            }
        }
        groups.iter_mut().for_each(|group| group.write(out));
        groups.truncate(Self::KEPT);
    }
}

fn group<'g>(groups: &'g mut Vec<Group>, destination: &str) -> &'g mut Group {
    let index = match groups.iter().position(|group| group.destination == destination) {
        Some(index) => index,
        None => {
            let crc = u64::from(crc32c::crc32c(destination.as_bytes()));
            let stream = crc << 32 | u64::from(crc32c::crc32c_append(crc as u32 ^ 1, destination.as_bytes()));
            groups.push(Group { destination: destination.to_owned(), stream, ..Group::default() });
            groups.len() - 1
        }
    };
    &mut groups[index]
}

/// Writes the record's line, and says whether it is its message alone.
fn write_line(settings: &Settings, record: &RecordView<'_>, meaning: &Meaning<'_>, line: &mut Vec<u8>) -> bool {
    line.clear();
    let bytes = record.bytes();
    let key = |field: &Field| field.key.of(bytes);
    let is_source = |field: &Field| match key(field) {
        b"timestamp" => meaning.time.is_some() && field.kind.is_text(),
        b"stream" => field.kind.is_text(),
        _ => false,
    };
    let fields = record.fields();
    let message = fields.iter().find(|field| key(field) == b"message" && field.kind.is_text());
    if let (Line::Auto, Some(message)) = (settings.line, message)
        && fields.iter().all(|field| field.kind == Kind::Bool || is_source(field) || key(field) == b"message")
        && fields.len() <= MAX_OWN_PAIRS / 2
    {
        let value = Value { kind: message.kind, raw: message.value.of(bytes) };
        line.extend_from_slice(&value.plain());
        return true;
    }
    line.push(b'{');
    let mut comma = false;
    let mut rest = fields;
    while let Some((field, after)) = rest.split_first() {
        if is_source(field) {
            rest = after;
            continue;
        }
        rest = write_some(bytes, rest, comma, |field| !is_source(field), line);
        comma = true;
    }
    line.push(b'}');
    false
}

fn write_metadata(settings: &Settings, record: &RecordView<'_>, meaning: &Meaning<'_>, is_plain: bool, metadata: &mut Metadata) {
    let bytes = record.bytes();
    for field in record.fields() {
        let value = Value { kind: field.kind, raw: field.value.of(bytes) };
        match field.key.of(bytes) {
            b"stream" if value.kind.is_text() => metadata.add("stream", &value.plain()),
            // The time is another field's: this one says when the runtime wrote the line.
            b"timestamp" if settings.time.is_some() && value.kind.is_text() => metadata.add("observed_timestamp", &value.plain()),
            key if is_plain && value.kind == Kind::Bool => metadata.add(name(key), value.raw),
            _ => {}
        }
    }
    if let Some(level) = meaning.level {
        metadata.add("level", &level.what.plain());
    }
    if let Some(trace) = meaning.trace_id {
        metadata.add("trace_id", hex(&trace.what, &mut [0; 32]));
    }
    if let Some(span) = meaning.span_id {
        metadata.add("span_id", hex(&span.what, &mut [0; 32]));
    }
    if let Some(id) = meaning.correlation_id {
        metadata.add("correlation_id", &id.what.plain());
    }
    for (name, template) in &settings.labels.metadata {
        if let Some(value) = template.render(record) {
            metadata.add(name.clone(), value.as_bytes());
        }
    }
}

impl Settings {
    /// Cuts a line that is too long, and marks it.
    fn cut(&self, line: &mut Vec<u8>) -> bool {
        if line.len() <= self.max_line_bytes {
            return false;
        }
        let mark = format!("… [truncated, {} bytes]", line.len());
        let mut end = self.max_line_bytes.saturating_sub(mark.len());
        // Not within a character: its later bytes are 10xxxxxx.
        while end > 0 && line[end] & 0xc0 == 0x80 {
            end -= 1;
        }
        line.truncate(end);
        line.extend_from_slice(mark.as_bytes());
        true
    }

    /// `time`, or with `rewrite_timestamp` the oldest that the stream still takes.
    fn rewritten(&self, newest: &mut HashMap<u64, i64>, stream: u64, time: i64, now: i64) -> i64 {
        if !self.rewrite {
            return time;
        }
        if newest.len() >= MAX_STREAMS && !newest.contains_key(&stream) {
            newest.clear();
        }
        let newest = newest.entry(stream).or_insert(time);
        let by_stream = *newest - (self.max_behind_nanos - MARGIN_NANOS).max(0);
        let by_age = now - (self.max_age_nanos - MARGIN_NANOS).max(0);
        let time = time.max(by_stream).max(by_age);
        *newest = time.max(*newest);
        time
    }
}

impl Ready {
    fn new(settings: &Settings, shared: &Shared) -> Ready {
        let mut metadata = Metadata::new(MAX_SHARED_PAIRS);
        for (key, value) in shared.iter() {
            let is_container_file = key == b"file" && shared.get(b"kubernetes").is_some();
            if !is_container_file && !matches!(key, b"source_type" | b"timestamp") {
                flatten(settings, &String::from_utf8_lossy(key), value, &mut metadata);
            }
        }
        Ready { labels: settings.labels.for_shared(shared), metadata: metadata.out, names: metadata.names }
    }
}

fn flatten(settings: &Settings, path: &str, value: Value<'_>, metadata: &mut Metadata) {
    if path.ends_with("annotations") || settings.labels.covers(path) || metadata.out.len() > MAX_SHARED_BYTES {
        return;
    }
    if value.kind == Kind::Object {
        json::members(value, |key, value| flatten(settings, &format!("{path}.{}", String::from_utf8_lossy(key)), value, metadata));
        return;
    }
    let path = path.strip_prefix("kubernetes.").unwrap_or(path);
    let name = if path == "pod_name" { "pod".to_owned() } else { name(path.as_bytes()) };
    metadata.add(name, &value.plain());
}

/// `key` as a name that Loki takes.
fn name(key: &[u8]) -> String {
    let mut name: String = key.iter().map(|byte| if byte.is_ascii_alphanumeric() { char::from(*byte) } else { '_' }).collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) || name.is_empty() {
        name.insert(0, '_');
    }
    name
}

/// Structured metadata being put together: pairs as fields of an entry, each name once.
struct Metadata {
    out: Vec<u8>,
    names: Vec<Cow<'static, str>>,
    /// Names of pairs that each record of the batch has.
    given: Vec<Cow<'static, str>>,
    max_pairs: usize,
}

impl Metadata {
    fn new(max_pairs: usize) -> Metadata {
        Metadata { out: Vec::new(), names: Vec::new(), given: Vec::new(), max_pairs }
    }

    /// Begins a batch whose records all have pairs with these names.
    fn begin_batch(&mut self, given: &[Cow<'static, str>]) {
        self.given.clear();
        self.given.extend_from_slice(given);
    }

    /// Begins a record.
    fn begin(&mut self) {
        self.out.clear();
        self.names.clear();
    }

    fn add(&mut self, name: impl Into<Cow<'static, str>>, value: &[u8]) {
        let name = name.into();
        if value.is_empty() || self.names.len() >= self.max_pairs || self.names.iter().chain(&self.given).any(|known| *known == name) {
            return;
        }
        let mut end = value.len().min(MAX_PAIR_BYTES);
        while end < value.len() && value[end] & 0xc0 == 0x80 {
            end -= 1;
        }
        let value = &value[..end];
        proto::head(3, proto::bytes_len(1, name.len()) + proto::bytes_len(2, value.len()), &mut self.out);
        proto::bytes(1, name.as_bytes(), &mut self.out);
        proto::bytes(2, value, &mut self.out);
        self.names.push(name);
    }
}

/// Appends an entry, as a field of `StreamAdapter`.
fn write_entry(unix_nanos: i64, line: &[u8], metadata: &[&[u8]], out: &mut Vec<u8>) {
    let (seconds, nanos) = (unix_nanos.div_euclid(1_000_000_000) as u64, unix_nanos.rem_euclid(1_000_000_000) as u64);
    let time_len = proto::uint_len(1, seconds) + proto::uint_len(2, nanos);
    let metadata_len: usize = metadata.iter().map(|part| part.len()).sum();
    proto::head(2, proto::bytes_len(1, time_len) + proto::bytes_len(2, line.len()) + metadata_len, out);
    proto::head(1, time_len, out);
    proto::uint(1, seconds, out);
    proto::uint(2, nanos, out);
    proto::bytes(2, line, out);
    metadata.iter().for_each(|part| out.extend_from_slice(part));
}

fn timestamp(unix_nanos: i64) -> String {
    jiff::Timestamp::from_nanosecond(unix_nanos.into()).map(|time| time.to_string()).unwrap_or_default()
}

/// An id of at most 16 bytes as hexadecimal digits, in `text`.
fn hex<'t>(id: &[u8], text: &'t mut [u8; 32]) -> &'t [u8] {
    let digits = id.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| b"0123456789abcdef"[usize::from(digit)]);
    text.iter_mut().zip(digits).for_each(|(place, digit)| *place = digit);
    &text[..2 * id.len()]
}
