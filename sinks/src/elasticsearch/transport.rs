//! The way to `_bulk`: asks for what the store at hand knows, and sends records again whose fields do not fit.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use http::Method;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use serde_json::{Value, json};
use skidder_pipeline::body::{Compression, decompress};
use skidder_pipeline::frame::Frame;
use skidder_pipeline::sink::{Response, Sending, Transport, TransportError};

use super::{answer, conflict, setup};
use crate::http::{HttpClient, HttpRequest};
use crate::lines;

/// How many fields of one record are moved aside before it is refused after all: the store names one at a time.
const MAX_CONFLICTS: usize = 16;

/// What of the answer is wanted, so that it stays small.
const WANTED: &str = "filter_path=errors,took,items.*.status,items.*.error.type,items.*.error.reason,\
                      items.*.error.caused_by.reason,items.*.failure_store";

/// Sends each frame as one request of `_bulk`.
pub struct BulkTransport {
    client: HttpClient,
    parameters: [Parameter; 2],
    stringify: bool,
    /// Whether records go to data streams.
    streams: bool,
    /// Data streams that are there, or will be made: looked for where the store cannot be told to make no index in their place.
    known: Mutex<HashSet<String>>,
}

/// How many data streams are remembered.
const MAX_KNOWN: usize = 1000;

/// A parameter that not every store knows. Those that do not refuse the request and name it; then it is left out from there on.
struct Parameter {
    name: &'static str,
    value: &'static str,
    used: AtomicBool,
}

impl Parameter {
    fn new(name: &'static str, value: &'static str, used: bool) -> Parameter {
        Parameter { name, value, used: AtomicBool::new(used) }
    }
}

impl BulkTransport {
    /// A transport over `client`; `streams` says that records go to data streams, `stringify` that fields which do not fit are moved
    /// aside.
    pub fn new(client: HttpClient, streams: bool, stringify: bool) -> BulkTransport {
        let parameters = [
            // Errors do not quote documents. Elasticsearch 8.18.
            Parameter::new("include_source_on_error", "false", true),
            // Where no template makes a data stream of the name, no index is made in its place. Elasticsearch 8.13.
            Parameter::new("require_data_stream", "true", streams),
        ];
        BulkTransport { client, parameters, stringify, streams, known: Mutex::default() }
    }

    async fn send_frame(&self, frame: &Frame) -> Result<Response, TransportError> {
        let header = frame.header();
        let mut response = self.post(&header.destination, frame.body().clone(), header.compression).await?;
        if self.stringify && response.status < 300 {
            let conflicts = answer::conflicts(&response.body, header.records);
            if !conflicts.is_empty() {
                response.body = self.mend(frame, &response.body, conflicts).await.unwrap_or(response.body);
            }
        }
        Ok(response)
    }

    async fn post(&self, destination: &str, body: Bytes, compression: Compression) -> Result<Response, TransportError> {
        loop {
            if self.streams && !self.parameters[1].used.load(Ordering::Relaxed) && !self.is_stream(destination).await {
                let body = r#"{"error":{"type":"index_not_found_exception","reason":"no template makes a data stream of this name"}}"#;
                return Ok(Response { status: 404, body: Bytes::from_static(body.as_bytes()), ..Response::ok() });
            }
            let mut path_and_query = format!("/{destination}/_bulk?{WANTED}");
            let used: Vec<&Parameter> = self.parameters.iter().filter(|parameter| parameter.used.load(Ordering::Relaxed)).collect();
            for Parameter { name, value, .. } in &used {
                path_and_query += &format!("&{name}={value}");
            }
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
            let request = HttpRequest { path_and_query, headers };
            let response = self.client.send(Method::POST, request, body.clone(), compression).await?.response;
            // Every turn leaves out one more, so this ends.
            if response.status != 400 || !leave_out_what_is_unknown(&used, &response.body) {
                return Ok(response);
            }
        }
    }

    /// Whether records for `name` go to a data stream, as far as the store says.
    async fn is_stream(&self, name: &str) -> bool {
        if self.known.lock().unwrap_or_else(PoisonError::into_inner).contains(name) {
            return true;
        }
        let get = async |path: String| {
            let request = HttpRequest { path_and_query: path, headers: HeaderMap::new() };
            self.client.send(Method::GET, request, Bytes::new(), Compression::None).await.ok().map(|answer| answer.response)
        };
        let is_there = match get(format!("/_data_stream/{name}")).await {
            Some(Response { status: 404, .. }) => false,
            Some(Response { status: 200..=299, .. }) => true,
            // Who may not ask is not held up.
            _ => return true,
        };
        let is = is_there
            || match get(setup::TEMPLATES.to_owned()).await {
                Some(Response { status: 200, body, .. }) => {
                    setup::covering(&body, name).is_none_or(|template| template.is_some_and(|template| template.streams))
                }
                _ => return true,
            };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if is && known.len() < MAX_KNOWN {
            known.insert(name.to_owned());
        }
        is
    }

    /// Sends the records that did not fit once more, changed so that they do: the answer as if all had been sent so at once. The
    /// ids stay, so that an answer that gets lost on the way costs nothing. `None` where the answer cannot be put together.
    async fn mend(&self, frame: &Frame, answer: &[u8], conflicts: Vec<(u32, String)>) -> Option<Bytes> {
        let header = frame.header();
        let plain = decompress(header.compression, frame.body(), header.raw_bytes).ok()?;
        let mut whole: Value = serde_json::from_slice(answer).ok()?;
        let items = whole.get_mut("items")?.as_array_mut()?;
        let unfit = |(record, reason)| Unfit { record, reason, lines: lines::cut(&plain, &[record], 2) };
        let mut pending: Vec<Unfit> = conflicts.into_iter().map(unfit).collect();
        for _ in 0..MAX_CONFLICTS {
            pending.retain_mut(Unfit::move_field_aside);
            if pending.is_empty() {
                break;
            }
            let body: Vec<u8> = pending.iter().flat_map(|unfit| &unfit.lines).copied().collect();
            let sent = self.post(&header.destination, body.into(), Compression::None).await;
            let said = sent.ok().filter(|response| response.status < 300).and_then(|response| fates(&response.body, pending.len()));
            // Where nothing is known of them, they are sent again, as they were at first.
            let fates = said.unwrap_or_else(|| pending.iter().map(|_| json!({ "create": { "status": 503 } })).collect());
            let again = answer::conflicts_of(&fates);
            for (unfit, fate) in pending.iter().zip(fates) {
                *items.get_mut(unfit.record as usize)? = fate;
            }
            pending = again
                .into_iter()
                .filter_map(|(at, reason)| {
                    let Unfit { record, lines, .. } = pending.get_mut(at as usize)?;
                    Some(Unfit { record: *record, reason, lines: std::mem::take(lines) })
                })
                .collect();
        }
        whole["errors"] = true.into();
        serde_json::to_vec(&whole).ok().map(Bytes::from)
    }
}

/// Whether the answer is about parameters that the request had; they are left out from now on. Of requests that were under way
/// together each finds out for itself.
fn leave_out_what_is_unknown(used: &[&Parameter], answer: &[u8]) -> bool {
    if memchr::memmem::find(answer, b"unrecognized parameter").is_none() {
        return false;
    }
    let mut some = false;
    for parameter in used {
        if memchr::memmem::find(answer, format!("[{}]", parameter.name).as_bytes()).is_some() {
            parameter.used.store(false, Ordering::Relaxed);
            some = true;
        }
    }
    some
}

/// A record that did not fit the mapping.
struct Unfit {
    /// Which record of the frame.
    record: u32,
    /// What the store said.
    reason: String,
    /// Its two lines.
    lines: Vec<u8>,
}

impl Unfit {
    /// Moves the field aside that the reason is about; whether there is one.
    fn move_field_aside(&mut self) -> bool {
        let Some(middle) = memchr::memchr(b'\n', &self.lines) else { return false };
        let (action, document) = self.lines.split_at(middle + 1);
        let moved = conflict::fields(&self.reason).iter().find_map(|path| conflict::move_aside(document.trim_ascii_end(), path));
        let Some(document) = moved else { return false };
        self.lines = [action, &document, b"\n"].concat();
        true
    }
}

/// The items of an answer to `count` records.
fn fates(body: &[u8], count: usize) -> Option<Vec<Value>> {
    let mut answer: Value = serde_json::from_slice(body).ok()?;
    let items = answer.get_mut("items").and_then(Value::as_array_mut).map(std::mem::take)?;
    (items.len() == count).then_some(items)
}

impl Transport for BulkTransport {
    fn send<'a>(&'a self, frame: &'a Frame) -> Sending<'a> {
        Box::pin(self.send_frame(frame))
    }
}

#[cfg(test)]
#[path = "transport_tests.rs"]
mod tests;
