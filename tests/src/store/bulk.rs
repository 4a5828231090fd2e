//! The bulk request: reading it, taking its documents, answering.

use std::borrow::Cow;
use std::io::{self, Read, Write};

use flate2::read::MultiGzDecoder;
use hyper::StatusCode;
use memchr::{memchr, memchr_iter, memmem};
use serde::Deserialize;

use super::documents::Known;
use super::{Keep, State};

/// What became of a request: an answer item for each document.
pub struct Taken {
    items: Items,
}

enum Items {
    /// So many documents, all stored.
    Stored(u64),
    Each(Vec<Item>),
}

struct Item {
    action: &'static str,
    index: String,
    id: String,
    outcome: Outcome,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Created,
    Updated,
    Exists,
    Busy,
    Refused(&'static str),
}

/// A request that is refused as a whole.
pub struct Refused {
    /// The status.
    pub status: StatusCode,
    reason: String,
}

impl Refused {
    fn bad(reason: impl Into<String>) -> Refused {
        Refused { status: StatusCode::BAD_REQUEST, reason: reason.into() }
    }

    /// The answer's body.
    pub fn body(&self) -> Vec<u8> {
        let error = serde_json::json!({ "type": "illegal_argument_exception", "reason": self.reason });
        serde_json::json!({ "error": error, "status": self.status.as_u16() }).to_string().into_bytes()
    }
}

/// Takes the documents of a request into the store.
pub fn take(body: &[u8], encoding: &str, index: Option<&str>, keep: Keep, state: &mut State) -> Result<Taken, Refused> {
    if !matches!(encoding, "" | "identity" | "gzip") {
        return Err(Refused::bad(format!("content encoding [{encoding}] is not supported")));
    }
    state.counts.requests += 1;
    state.counts.wire_bytes += body.len() as u64;
    let gzip = encoding == "gzip";
    if keep == Keep::Counts {
        let (bytes, lines) = count_lines(body, gzip).map_err(|error| Refused::bad(error.to_string()))?;
        state.counts.text_bytes += bytes;
        state.counts.stored += lines / 2;
        return Ok(Taken { items: Items::Stored(lines / 2) });
    }
    let text = if gzip { decompress(body)? } else { Cow::Borrowed(body) };
    state.counts.text_bytes += text.len() as u64;
    if state.mood.faults.max_body_bytes > 0 && text.len() > state.mood.faults.max_body_bytes {
        return Err(Refused { status: StatusCode::PAYLOAD_TOO_LARGE, reason: "too large".into() });
    }
    take_each(&text, index, state)
}

fn take_each(text: &[u8], index: Option<&str>, state: &mut State) -> Result<Taken, Refused> {
    if !text.ends_with(b"\n") {
        return Err(Refused::bad("The bulk request must be terminated by a newline [\\n]"));
    }
    let mut items = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let action = next_line(&mut rest);
        let (kind, target) = parse_action(action)?;
        if rest.is_empty() {
            return Err(Refused::bad("the last action has no document"));
        }
        let document = next_line(&mut rest);
        let index = target.index.or_else(|| index.map(str::to_owned)).ok_or_else(|| Refused::bad("index is missing"))?;
        let id = target.id.unwrap_or_else(|| format!("auto-{}", state.documents.len()));
        let outcome = store(kind, &index, &id, document, state);
        items.push(Item { action: kind, index, id, outcome });
    }
    Ok(Taken { items: Items::Each(items) })
}

fn store(kind: &str, index: &str, id: &str, document: &[u8], state: &mut State) -> Outcome {
    let marked = state.mood.faults.refuse.as_deref().is_some_and(|marker| memmem::find(document, marker).is_some());
    let outcome = if !is_index_name(index) {
        Outcome::Refused("invalid_index_name_exception")
    } else if marked || !is_object(document) {
        Outcome::Refused("document_parsing_exception")
    } else if state.mood.turns_away(id) {
        Outcome::Busy
    } else {
        let key = (index.to_owned(), id.to_owned());
        match state.documents.look(&key, document) {
            Some(held) if kind == "create" => {
                state.counts.changed += u64::from(held == Known::Other);
                Outcome::Exists
            }
            held => match state.documents.insert(key, document) {
                Ok(()) if held.is_some() => Outcome::Updated,
                Ok(()) => Outcome::Created,
                Err(_) => Outcome::Busy, // no room for the spool
            },
        }
    };
    match outcome {
        Outcome::Created => state.counts.stored += 1,
        Outcome::Updated | Outcome::Exists => state.counts.repeats += 1,
        Outcome::Busy => state.counts.busy += 1,
        Outcome::Refused(_) => state.counts.refused += 1,
    }
    outcome
}

#[derive(Deserialize)]
struct Action {
    create: Option<Target>,
    index: Option<Target>,
}

#[derive(Deserialize)]
struct Target {
    #[serde(rename = "_index")]
    index: Option<String>,
    #[serde(rename = "_id")]
    id: Option<String>,
}

fn parse_action(line: &[u8]) -> Result<(&'static str, Target), Refused> {
    let action: Action = serde_json::from_slice(line).map_err(|error| Refused::bad(format!("Malformed action/metadata line: {error}")))?;
    match (action.create, action.index) {
        (Some(target), None) => Ok(("create", target)),
        (None, Some(target)) => Ok(("index", target)),
        _ => Err(Refused::bad("Malformed action/metadata line: neither [create] nor [index]")),
    }
}

/// The rules for names of indices, as far as a template could break them.
fn is_index_name(name: &str) -> bool {
    let first = name.starts_with(['-', '_', '+']);
    let forbidden = |c: char| c.is_uppercase() || c.is_whitespace() || "\\/*?\"<>|,#:%{}".contains(c);
    !name.is_empty() && name.len() <= 255 && !first && !name.contains(forbidden)
}

fn is_object(document: &[u8]) -> bool {
    document.starts_with(b"{") && serde_json::from_slice::<serde::de::IgnoredAny>(document).is_ok()
}

fn next_line<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let end = memchr(b'\n', rest).unwrap_or(rest.len());
    let line = &rest[..end];
    *rest = rest.get(end + 1..).unwrap_or_default();
    line
}

fn decompress(body: &[u8]) -> Result<Cow<'_, [u8]>, Refused> {
    let mut text = Vec::new();
    MultiGzDecoder::new(body).read_to_end(&mut text).map_err(|error| Refused::bad(format!("gzip: {error}")))?;
    Ok(Cow::Owned(text))
}

/// The bytes and newlines of a body, without ever holding it whole.
fn count_lines(body: &[u8], gzip: bool) -> io::Result<(u64, u64)> {
    let newlines = |text: &[u8]| memchr_iter(b'\n', text).count() as u64;
    if !gzip {
        return Ok((body.len() as u64, newlines(body)));
    }
    let mut reader = MultiGzDecoder::new(body);
    let (mut block, mut bytes, mut lines) = (vec![0; 256 << 10], 0, 0);
    loop {
        match reader.read(&mut block)? {
            0 => return Ok((bytes, lines)),
            length => {
                bytes += length as u64;
                lines += newlines(&block[..length]);
            }
        }
    }
}

/// The parts of an answer that the client asked for (`filter_path`).
pub struct Filter(Option<Vec<String>>);

impl Filter {
    /// As a query has it.
    pub fn from_query(query: &str) -> Filter {
        let value = query.split('&').find_map(|pair| pair.strip_prefix("filter_path="));
        // Commas and stars may come percent-encoded.
        let decode = |value: &str| value.replace("%2C", ",").replace("%2c", ",").replace("%2A", "*").replace("%2a", "*");
        Filter(value.map(|value| decode(value).split(',').map(str::to_owned).collect()))
    }

    /// Whether the value at `path` (with `*` for the action) is wanted: named itself, or by what is around it.
    fn wants(&self, path: &str) -> bool {
        let covers = |asked: &String| path == asked || path.strip_prefix(asked.as_str()).is_some_and(|rest| rest.starts_with('.'));
        self.0.as_ref().is_none_or(|asked| asked.iter().any(covers))
    }
}

impl Taken {
    /// The answer's body.
    pub fn render(&self, filter: &Filter) -> Vec<u8> {
        let mut parts: Vec<Vec<u8>> = Vec::new();
        if filter.wants("errors") {
            parts.push(format!(r#""errors":{}"#, self.has_errors()).into_bytes());
        }
        if filter.wants("took") {
            parts.push(br#""took":1"#.to_vec());
        }
        let items = match &self.items {
            Items::Stored(count) if filter.wants("items.*.status") => vec![br#"{"create":{"status":201}}"#.to_vec(); *count as usize],
            Items::Stored(_) => Vec::new(),
            Items::Each(items) => items.iter().filter_map(|item| item.render(filter)).collect(),
        };
        if !items.is_empty() {
            parts.push([b"\"items\":[", items.join(&b',').as_slice(), b"]"].concat());
        }
        [b"{", parts.join(&b',').as_slice(), b"}"].concat()
    }

    fn has_errors(&self) -> bool {
        let failed = |item: &Item| !matches!(item.outcome, Outcome::Created | Outcome::Updated);
        matches!(&self.items, Items::Each(items) if items.iter().any(failed))
    }
}

impl Item {
    /// The item's JSON; none where nothing of it is wanted, as the filter drops what is empty.
    fn render(&self, filter: &Filter) -> Option<Vec<u8>> {
        let (status, error) = match self.outcome {
            Outcome::Created => (201, None),
            Outcome::Updated => (200, None),
            Outcome::Exists => (409, Some(("version_conflict_engine_exception", "version conflict, document already exists"))),
            Outcome::Busy => (429, Some(("es_rejected_execution_exception", "rejected execution of the test"))),
            Outcome::Refused(kind) => (400, Some((kind, "refused by request of the test, or for its form"))),
        };
        let mut fields = Vec::new();
        let mut text = |path: &str, key: &str, value: &str| {
            if filter.wants(path) {
                fields.push(format!("\"{key}\":{}", serde_json::Value::from(value)));
            }
        };
        text("items.*._index", "_index", &self.index);
        text("items.*._id", "_id", &self.id);
        if let Some((kind, reason)) = error {
            let parts = [("items.*.error.type", "type", kind), ("items.*.error.reason", "reason", reason)];
            let wanted = parts.iter().filter(|(path, ..)| filter.wants(path));
            let inside: Vec<_> = wanted.map(|(_, key, value)| format!("\"{key}\":\"{value}\"")).collect();
            if !inside.is_empty() {
                fields.push(format!("\"error\":{{{}}}", inside.join(",")));
            }
        }
        if filter.wants("items.*.status") {
            fields.push(format!("\"status\":{status}"));
        }
        let mut out = Vec::new();
        let _ = write!(out, "{{\"{}\":{{{}}}}}", self.action, fields.join(","));
        (!fields.is_empty()).then_some(out)
    }
}
