//! `on_conflict = "stringify"`: a document that does not fit the mapping is sent again at once, with the field at fault moved to
//! `_conflict.<field>` as a text.
//!
//! Done beside the transport, within one send: what the delivery gets to see is the answer as if the second try had been the
//! first. Ids stay, so a frame whose second try was lost is sent again as a whole, and what is stored by then answers 409.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use serde_json::{Map, Value};
use skidder_pipeline::body::{compress, decompress};
use skidder_pipeline::frame::Frame;
use skidder_pipeline::sink::{Note, Response, Sending, Transport, TransportError};

use crate::http::{HttpClient, HttpRequest};
use crate::lines;

/// Where fields that conflict are put.
const PLACE: &str = "_conflict";

/// Sends frames, and once more those of their documents that conflict with the mapping.
pub struct Stringify<F> {
    /// The way there.
    pub client: Arc<HttpClient>,
    /// Path and headers for a frame.
    pub request: F,
    /// How many documents were changed.
    pub changed: AtomicU64,
}

impl<F: Fn(&Frame) -> HttpRequest + Send + Sync> Stringify<F> {
    async fn post(&self, frame: &Frame) -> Result<Response, TransportError> {
        let compression = frame.header().compression;
        let first = self.client.send(http::Method::POST, (self.request)(frame), frame.body().clone(), compression).await?.response;
        let Some(mut answer) = conflicts(&first) else { return Ok(first) };
        let Ok(body) = decompress(compression, frame.body(), frame.header().raw_bytes) else { return Ok(first) };
        let mut again = Vec::new();
        answer.at.retain(|(record, field)| match stringify(&body, *record, field) {
            Some(lines) => {
                again.extend_from_slice(&lines);
                true
            }
            None => false,
        });
        if answer.at.is_empty() {
            return Ok(first);
        }
        let changed = answer.at.len() as u64;
        if self.changed.fetch_add(changed, Ordering::Relaxed) == 0 {
            tracing::warn!(
                documents = changed,
                "documents conflict with the mapping of their index; the fields at fault are stored below `{PLACE}`"
            );
        }
        let body: Bytes = compress(compression, &again).into();
        let second = self.client.send(http::Method::POST, (self.request)(frame), body, compression).await?.response;
        // An answer of another kind (429, 413) is to the second request alone: the first answer stays as it was, with the
        // documents at fault to be sent again.
        Ok(answer.merged(&second, first))
    }
}

impl<F: Fn(&Frame) -> HttpRequest + Send + Sync> Transport for Stringify<F> {
    fn send<'a>(&'a self, frame: &'a Frame) -> Sending<'a> {
        Box::pin(self.post(frame))
    }

    fn recover(&self, _: &[Note]) -> Result<(), TransportError> {
        Ok(())
    }
}

/// An answer with documents that conflict.
struct Conflicts {
    items: Vec<Value>,
    /// Documents, counted from 0, and the field at fault of each.
    at: Vec<(u32, String)>,
}

/// The conflicts in an answer, if there are some.
fn conflicts(response: &Response) -> Option<Conflicts> {
    // Most answers end here.
    memchr::memmem::find(&response.body, b"parsing_exception")?;
    let mut answer: Map<String, Value> = serde_json::from_slice(&response.body).ok()?;
    let Value::Array(items) = answer.remove("items")? else { return None };
    let at = (0..).zip(&items).filter_map(|(record, item)| Some((record, field_at_fault(item)?))).collect();
    Some(Conflicts { items, at }).filter(|conflicts: &Conflicts| !conflicts.at.is_empty())
}

impl Conflicts {
    /// The first answer with the second's items in the place of those that conflicted.
    fn merged(mut self, second: &Response, first: Response) -> Response {
        let answer: Option<Map<String, Value>> = serde_json::from_slice(&second.body).ok();
        let again = answer.and_then(|mut answer| match answer.remove("items") {
            Some(Value::Array(items)) if items.len() == self.at.len() => Some(items),
            // Without a fault the filter leaves their status.
            _ => None,
        });
        let Some(again) = again else {
            let busy = serde_json::json!({ "create": { "status": 429, "error": { "type": "es_rejected_execution_exception" } } });
            self.at.iter().for_each(|(record, _)| self.items[*record as usize] = busy.clone());
            return self.response(first);
        };
        for ((record, _), item) in self.at.iter().zip(again) {
            self.items[*record as usize] = item;
        }
        self.response(first)
    }

    fn response(self, first: Response) -> Response {
        let body = serde_json::json!({ "errors": true, "items": self.items }).to_string();
        Response { body: body.into(), ..first }
    }
}

/// The field that an item's error names: one that is of another type than the mapping has it.
fn field_at_fault(item: &Value) -> Option<String> {
    let outcome = item.get("create").or_else(|| item.get("index"))?;
    let error = outcome.get("error")?;
    if outcome.get("status")?.as_u64()? != 400 || !error.get("type")?.as_str()?.ends_with("parsing_exception") {
        return None;
    }
    let reason = error.get("reason")?.as_str()?;
    // "failed to parse field [a.b] of type [long] in document with id …"; "object mapping for [a] tried to parse field [a] as
    // object, but found a concrete value"; "failed to parse: … field [a] …".
    let after =
        ["failed to parse field [", "object mapping for ["].iter().find_map(|text| reason.split_once(text)).map(|(_, after)| after)?;
    let (field, _) = after.split_once(']')?;
    (!field.is_empty() && field != PLACE && !field.starts_with("_conflict.") && field != "@timestamp").then(|| field.to_owned())
}

/// The two lines of document `record` with the field at `path` moved to [`PLACE`] as a text. `None` where it is not there.
fn stringify(body: &[u8], record: u32, path: &str) -> Option<Vec<u8>> {
    let both = lines::nth(body, record, 2)?;
    let end = memchr::memchr(b'\n', both)? + 1;
    let (action, document) = both.split_at(end);
    let mut document: Map<String, Value> = serde_json::from_slice(document).ok()?;
    let value = take(&mut document, path)?;
    let text = match value {
        Value::String(text) => text,
        value => value.to_string(),
    };
    match document.entry(PLACE).or_insert_with(|| Value::Object(Map::new())) {
        // One key of the whole path, so that no mapping of objects comes of it.
        Value::Object(place) => drop(place.insert(path.replace('.', "_"), Value::String(text))),
        _ => return None,
    }
    let mut out = action.to_vec();
    serde_json::to_writer(&mut out, &document).ok()?;
    out.push(b'\n');
    Some(out)
}

/// Takes out the value at `path`: keys may hold dots themselves, as Elasticsearch sees no difference.
fn take(object: &mut Map<String, Value>, path: &str) -> Option<Value> {
    if let Some(value) = object.shift_remove(path) {
        return Some(value);
    }
    for (at, _) in path.match_indices('.') {
        if let Some(Value::Object(inner)) = object.get_mut(&path[..at])
            && let Some(value) = take(inner, &path[at + 1..])
        {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const BODY: &[u8] = b"{\"create\":{\"_id\":\"a\"}}\n{\"n\":{\"x\":1},\"m\":2}\n{\"create\":{\"_id\":\"b\"}}\n{\"a\":{\"b.c\":true}}\n";

    fn response(body: &Value) -> Response {
        Response { body: body.to_string().into(), ..Response::ok() }
    }

    fn refused(reason: &str) -> Value {
        serde_json::json!({ "create": { "status": 400, "error": { "type": "document_parsing_exception", "reason": reason } } })
    }

    #[test]
    fn the_field_at_fault_is_moved() {
        let text = |record, path| stringify(BODY, record, path).map(|lines| String::from_utf8(lines).unwrap());
        assert_eq!(text(0, "n").unwrap(), "{\"create\":{\"_id\":\"a\"}}\n{\"m\":2,\"_conflict\":{\"n\":\"{\\\"x\\\":1}\"}}\n");
        assert_eq!(text(1, "a.b.c").unwrap(), "{\"create\":{\"_id\":\"b\"}}\n{\"a\":{},\"_conflict\":{\"a_b_c\":\"true\"}}\n");
        assert_eq!(text(0, "gone"), None);
        assert_eq!(text(7, "n"), None);
    }

    #[test]
    fn errors_name_their_fields() {
        let named = |reason: &str| field_at_fault(&refused(reason));
        assert_eq!(
            named("[1:6] failed to parse field [n.x] of type [long] in document with id 'a'. Preview of field's value: 'x'").unwrap(),
            "n.x"
        );
        assert_eq!(named("[1:6] object mapping for [a] tried to parse field [a] as object, but found a concrete value").unwrap(), "a");
        assert_eq!(named("failed to parse field [_conflict.a] of type [long]"), None);
        assert_eq!(named("failed to parse"), None);
        let ok = serde_json::json!({ "create": { "status": 201 } });
        assert_eq!(field_at_fault(&ok), None);
    }

    #[test]
    fn the_second_answer_stands_in_the_first() {
        let ok = serde_json::json!({ "create": { "status": 201 } });
        let first =
            response(&serde_json::json!({ "errors": true, "items": [ok, refused("failed to parse field [n] of type [long]"), ok] }));
        let at = || conflicts(&first).unwrap();
        assert_eq!(at().at, [(1, "n".to_owned())]);
        let merged = at().merged(&response(&serde_json::json!({ "errors": false, "items": [ok] })), first.clone());
        let merged: Value = serde_json::from_slice(&merged.body).unwrap();
        assert_eq!(merged["items"][1], ok);
        let busy = Response { status: 429, body: Bytes::new(), ..Response::ok() };
        let merged: Value = serde_json::from_slice(&at().merged(&busy, first.clone()).body).unwrap();
        assert_eq!(merged["items"][1]["create"]["status"], 429);
        assert!(conflicts(&response(&serde_json::json!({ "errors": false, "items": [ok] }))).is_none());
    }
}
