//! What Elasticsearch's answers mean.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;
use skidder_pipeline::sink::{Rejection, Verdict};

use crate::http::MAX_RESPONSE_BYTES;

/// Judges an answer of `_bulk` to a body of `records` records.
pub fn judge(status: u16, body: &[u8], records: u32) -> Verdict {
    match status {
        200..=299 => judge_items(body, records),
        // Too large: for Elasticsearch (http.max_content_length) or a proxy before it.
        413 => Verdict::Split,
        408 | 429 | 500..=599 => Verdict::Retry { reason: said(status, body) },
        // A full disk, and no fault of ours: indices are read-only until there is room.
        403 if is_blocked(&fault_type(body)) => Verdict::Retry { reason: said(status, body) },
        400 if is_about_content(body) => match records {
            0 | 1 => Verdict::Reject { status, reason: fault(body) },
            _ => Verdict::Split,
        },
        // Credentials, rights, a path that is not there, a parameter that this version does not know: nothing that other
        // data would change. To refuse the records would empty the buffer into the dead letters.
        _ => Verdict::Pause { reason: said(status, body) },
    }
}

#[derive(Deserialize)]
struct Summary {
    errors: bool,
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    items: Vec<Item<'a>>,
}

#[derive(Deserialize)]
struct Item<'a> {
    #[serde(borrow, alias = "index")]
    create: Outcome<'a>,
}

#[derive(Deserialize)]
struct Outcome<'a> {
    status: u16,
    #[serde(borrow)]
    error: Option<Fault<'a>>,
}

#[derive(Deserialize)]
struct Fault<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    reason: Option<String>,
    caused_by: Option<Cause>,
}

#[derive(Deserialize)]
struct Cause {
    reason: Option<String>,
}

/// What became of one record.
enum Fate {
    Stored,
    Known,
    Again,
    Refused,
    /// Not for this sender.
    Denied,
    /// No such index, and none is made.
    Homeless,
}

/// The records that did not fit the mapping, in an answer to a body of `records` records, each with the store's reason.
pub fn conflicts(body: &[u8], records: u32) -> Vec<(u32, String)> {
    if !matches!(serde_json::from_slice(body), Ok(Summary { errors: true })) {
        return Vec::new();
    }
    let Ok(Items { items }) = serde_json::from_slice(body) else { return Vec::new() };
    if items.len() as u64 == u64::from(records) { conflicts_of(&items) } else { Vec::new() }
}

/// The same of items alone.
pub fn conflicts_of(items: &[Value]) -> Vec<(u32, String)> {
    let reason = |item: &Value| {
        let outcome = item.get("create")?;
        let error = outcome.get("error")?;
        let cause = error.get("caused_by").and_then(|cause| cause.get("reason")).and_then(Value::as_str).unwrap_or_default();
        let reason = format!("{} {cause}", error.get("reason")?.as_str()?);
        (outcome.get("status")? == 400).then_some(reason)
    };
    (0..).zip(items).filter_map(|(record, item)| Some((record, reason(item)?))).collect()
}

#[derive(Deserialize)]
struct Items {
    items: Vec<Value>,
}

/// How many records the store took and keeps apart, in the failure store of their data stream, since they did not fit.
pub fn diverted(body: &[u8]) -> u64 {
    memchr::memmem::find_iter(body, b"\"failure_store\":\"used\"").count() as u64
}

fn judge_items(body: &[u8], records: u32) -> Verdict {
    let unclear = |reason: &str| {
        if body.len() >= MAX_RESPONSE_BYTES && records > 1 {
            Verdict::Split // The answer was cut; those to the halves will be shorter.
        } else {
            Verdict::Retry { reason: reason.to_owned() }
        }
    };
    // Most answers end here, without a look at their items.
    match serde_json::from_slice(body) {
        Ok(Summary { errors: false }) => return Verdict::Delivered { duplicates: 0 },
        Ok(Summary { errors: true }) => {}
        Err(_) => return unclear("the answer is not one of `_bulk`, or not the whole of it"),
    }
    let Ok(Answer { items }) = serde_json::from_slice(body) else { return unclear("the items of the answer cannot be read") };
    if items.len() as u64 != u64::from(records) {
        return unclear("the answer is not about as many records as were sent");
    }
    judge_each(&items)
}

fn judge_each(items: &[Item<'_>]) -> Verdict {
    let fates: Vec<Fate> = items.iter().map(|item| item.create.fate()).collect();
    let first = || items.first().and_then(|item| item.create.error.as_ref()).map_or_else(String::new, |fault| name(&fault.kind));
    // What all share is not the fault of a record.
    if fates.iter().all(|fate| matches!(fate, Fate::Denied)) {
        return Verdict::Pause { reason: format!("no record may be stored ({})", first()) };
    }
    if fates.iter().all(|fate| matches!(fate, Fate::Homeless)) {
        return Verdict::Pause { reason: format!("the index does not exist and is not made ({})", first()) };
    }
    let mut duplicates = 0;
    let (mut rejected, mut retry) = (Vec::new(), Vec::new());
    for ((record, item), fate) in (0u32..).zip(items).zip(fates) {
        match fate {
            Fate::Stored => {}
            Fate::Known => duplicates += 1,
            Fate::Again => retry.push(record),
            Fate::Refused | Fate::Denied | Fate::Homeless => {
                rejected.push(Rejection { record, status: item.create.status, reason: item.create.reason() });
            }
        }
    }
    if rejected.is_empty() && retry.is_empty() {
        return Verdict::Delivered { duplicates };
    }
    Verdict::Partly { duplicates, rejected, retry }
}

impl Outcome<'_> {
    fn fate(&self) -> Fate {
        let kind = self.error.as_ref().map_or("", |fault| &*fault.kind);
        match self.status {
            200..=299 => Fate::Stored,
            // For `create` it says that the id is there already: sent before, and stored.
            409 => Fate::Known,
            429 | 500..=599 => Fate::Again,
            _ if is_blocked(kind) || kind == "es_rejected_execution_exception" => Fate::Again,
            401 | 403 => Fate::Denied,
            404 if kind == "index_not_found_exception" => Fate::Homeless,
            // The cluster has as many shards as it may have (cluster.max_shards_per_node).
            400 if kind == "validation_exception" => Fate::Homeless,
            400..=499 => Fate::Refused,
            // What no version is known to answer: as if there were no answer.
            _ => Fate::Again,
        }
    }

    fn reason(&self) -> String {
        let Some(Fault { kind, reason, caused_by }) = &self.error else { return "no reason given".to_owned() };
        let cause = caused_by.as_ref().and_then(|cause| cause.reason.as_ref());
        [Some(&**kind), reason.as_deref(), cause.map(String::as_str)].into_iter().flatten().collect::<Vec<_>>().join(": ")
    }
}

fn is_blocked(kind: &str) -> bool {
    matches!(kind, "cluster_block_exception" | "index_create_block_exception")
}

/// The error of an answer to a whole request: `{"error":{"type":"…","reason":"…"},"status":400}`, or a text.
#[derive(Deserialize)]
#[serde(untagged)]
enum WholeFault {
    Object { r#type: String, reason: Option<String> },
    Text(String),
}

#[derive(Deserialize)]
struct Whole {
    error: WholeFault,
}

fn whole_fault(body: &[u8]) -> (String, String) {
    match serde_json::from_slice(body) {
        Ok(Whole { error: WholeFault::Object { r#type, reason } }) => (r#type, reason.unwrap_or_default()),
        Ok(Whole { error: WholeFault::Text(text) }) => (String::new(), text),
        Err(_) => (String::new(), String::new()),
    }
}

fn fault_type(body: &[u8]) -> String {
    whole_fault(body).0
}

fn fault(body: &[u8]) -> String {
    let (kind, reason) = whole_fault(body);
    format!("{kind}: {reason}")
}

/// Whether a 400 to a whole request is about what stands in the body, so that without the record at fault the others pass.
fn is_about_content(body: &[u8]) -> bool {
    let (kind, reason) = whole_fault(body);
    kind.contains("parse") || kind.contains("parsing") || reason.starts_with("Malformed")
}

/// Status and type of error, for the log: the reason may quote the request.
fn said(status: u16, body: &[u8]) -> String {
    match name(&fault_type(body)) {
        kind if kind.is_empty() => format!("HTTP {status}"),
        kind => format!("HTTP {status}, {kind}"),
    }
}

/// `kind` if it is what types of errors are.
fn name(kind: &str) -> String {
    let is_name = kind.len() <= 80 && kind.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    if is_name { kind.to_owned() } else { String::new() }
}
