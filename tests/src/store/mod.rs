//! A store that speaks Elasticsearch's `_bulk`, for tests and the benchmark: on loopback, in its own thread.
//!
//! It is strict where Elasticsearch is strict (content type, the last newline, index names, JSON), so that a sink which it
//! takes would be taken by the real one; it refuses a second document with an id (409), as `create` does; and it misbehaves
//! on request: see [`Faults`].
//!
//! Formats: the bulk API of Elasticsearch 8 and 9, and its `filter_path`, as their reference describes them.

mod bulk;
mod documents;
mod faults;

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE};
use hyper::{Method, Request, Response, StatusCode};

use crate::serve::{self, Closed, Outcome, Serving};
use documents::Documents;
pub use documents::for_each_line;
pub(crate) use faults::Mood;
pub use faults::{Fault, Faults};

/// The largest request that is read at all, as it comes over the wire: above what any sink may send.
const MAX_WIRE_BYTES: usize = 256 << 20;

/// What the store does with the documents that it takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keep {
    /// Looks at each, refuses repeats and keeps the rest.
    Documents,
    /// The same, with the documents in a file: for runs of many millions.
    Spool,
    /// Counts the lines, as cheaply as can be, and takes everything: for the benchmark.
    Counts,
}

/// The running store. Stops when dropped.
pub struct Store {
    serving: Serving,
    shared: Arc<Shared>,
}

/// What the store counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Bulk requests that arrived whole.
    pub requests: u64,
    /// Documents stored.
    pub stored: u64,
    /// Documents whose id was there already: refused with 409, as `create` does.
    pub repeats: u64,
    /// Among the repeats, those whose text was another one: an id that two records share, or a record that changed.
    pub changed: u64,
    /// Documents refused for good.
    pub refused: u64,
    /// Documents turned away for now.
    pub busy: u64,
    /// Bytes of bodies as they came, compressed.
    pub wire_bytes: u64,
    /// Bytes of bodies as they were meant.
    pub text_bytes: u64,
}

struct Shared {
    keep: Keep,
    down: AtomicBool,
    state: Mutex<State>,
}

/// What the store holds.
#[derive(Default)]
struct State {
    counts: Counts,
    mood: Mood,
    /// By index and id; documents without an id get one.
    documents: Documents,
}

impl Store {
    /// Starts a store on a free port.
    pub fn start(keep: Keep) -> io::Result<Store> {
        let documents = if keep == Keep::Spool { Documents::spooled()? } else { Documents::default() };
        let state = Mutex::new(State { documents, ..State::default() });
        let shared = Arc::new(Shared { keep, down: AtomicBool::new(false), state });
        let served = shared.clone();
        let serving = Serving::start("store", move |request| answer(request, served.clone()))?;
        Ok(Store { serving, shared })
    }

    /// Where it listens: `http://127.0.0.1:<port>`.
    pub fn url(&self) -> String {
        self.serving.url()
    }

    /// Takes the store down, or brings it back: while it is down every connection is closed at its first request.
    pub fn set_down(&self, down: bool) {
        self.shared.down.store(down, Ordering::Relaxed);
    }

    /// Makes it misbehave from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.shared.state().mood = Mood::new(faults);
    }

    /// What it counted so far.
    pub fn counts(&self) -> Counts {
        self.shared.state().counts
    }

    /// The documents that it holds.
    pub fn documents(&self) -> Vec<Bytes> {
        self.shared.state().documents.kept().into_iter().flat_map(|kept| kept.values().cloned()).collect()
    }

    /// Gives each document that it holds; at the end, since a spool takes none after that.
    ///
    /// # Errors
    /// Where the spool cannot be read.
    pub fn each_document(&self, each: impl FnMut(&[u8])) -> io::Result<()> {
        self.shared.state().documents.each(each)
    }

    /// The names of the indices that it holds documents of.
    pub fn indices(&self) -> Vec<String> {
        let mut names: Vec<_> =
            self.shared.state().documents.kept().into_iter().flat_map(|kept| kept.keys().map(|(index, _)| index.clone())).collect();
        names.dedup();
        names
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_down(&self) -> bool {
        self.down.load(Ordering::Relaxed)
    }
}

async fn answer(request: Request<Incoming>, shared: Arc<Shared>) -> Outcome {
    if shared.is_down() {
        return Err(Closed);
    }
    let path = request.uri().path().to_owned();
    match (request.method(), path.trim_matches('/')) {
        (&Method::POST | &Method::PUT, "_bulk") => answer_bulk(request, None, &shared).await,
        (&Method::POST | &Method::PUT, path) if path.ends_with("/_bulk") => {
            let index = path.trim_end_matches("/_bulk").to_owned();
            answer_bulk(request, Some(index), &shared).await
        }
        (&Method::GET | &Method::HEAD, "") => Ok(json(StatusCode::OK, br#"{"name":"test","version":{"number":"9.1.0"}}"#.to_vec())),
        _ => Ok(json(StatusCode::NOT_FOUND, br#"{"error":"no such thing in the test store","status":404}"#.to_vec())),
    }
}

async fn answer_bulk(request: Request<Incoming>, index: Option<String>, shared: &Shared) -> Outcome {
    let filter = bulk::Filter::from_query(request.uri().query().unwrap_or_default());
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let (content_type, encoding) = (header(CONTENT_TYPE), header(CONTENT_ENCODING));
    let fault = shared.state().mood.next_fault();
    if fault == Some(Fault::HalfRead) {
        let _ = request.into_body().frame().await;
        return Err(Closed);
    }
    let Ok(body) = Limited::new(request.into_body(), MAX_WIRE_BYTES).collect().await else { return Err(Closed) };
    let body = body.to_bytes();

    match fault {
        Some(Fault::CloseBefore) => return Err(Closed),
        Some(Fault::TooMany { retry_after_s }) => return Ok(refuse_for_now(StatusCode::TOO_MANY_REQUESTS, retry_after_s)),
        Some(Fault::Unavailable) => return Ok(refuse_for_now(StatusCode::SERVICE_UNAVAILABLE, None)),
        Some(Fault::Stall(time)) => tokio::time::sleep(time).await,
        Some(Fault::TooLarge) if body.len() > 4096 => return Ok(refuse_for_now(StatusCode::PAYLOAD_TOO_LARGE, None)),
        Some(Fault::CloseAfter | Fault::TruncatedAnswer | Fault::HalfRead | Fault::TooLarge) | None => {}
    }
    if !content_type.starts_with("application/x-ndjson") && !content_type.starts_with("application/json") {
        return Ok(json(
            StatusCode::NOT_ACCEPTABLE,
            format!(r#"{{"error":"Content-Type [{content_type}] is not supported","status":406}}"#).into(),
        ));
    }
    let taken = bulk::take(&body, &encoding, index.as_deref(), shared.keep, &mut shared.state());
    match (taken, fault) {
        (_, Some(Fault::CloseAfter)) => Err(Closed),
        (Ok(taken), Some(Fault::TruncatedAnswer)) => {
            let mut text = taken.render(&filter);
            text.truncate(text.len() / 2);
            Ok(json(StatusCode::OK, text))
        }
        (Ok(taken), _) => Ok(json(StatusCode::OK, taken.render(&filter))),
        (Err(refused), _) => Ok(json(refused.status, refused.body())),
    }
}

fn refuse_for_now(status: StatusCode, retry_after_s: Option<u32>) -> Response<Full<Bytes>> {
    serve::refuse(status, retry_after_s, format!(r#"{{"error":"by request of the test","status":{}}}"#, status.as_u16()))
}

fn json(status: StatusCode, body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
    response.headers_mut().insert("x-elastic-product", hyper::header::HeaderValue::from_static("Elasticsearch"));
    response
}

/// An address on loopback where nobody listens.
pub fn dead_url() -> io::Result<String> {
    // The port was free a moment ago and is given to others last.
    Ok(format!("http://{}", TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?))
}

/// A bulk request by hand, for the store's own tests: status and body of the answer.
pub fn post(store: &Store, path: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<(u16, Vec<u8>)> {
    use std::io::{Read, Write};
    let mut connection = std::net::TcpStream::connect(store.serving.address())?;
    let mut request = format!("POST {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
    headers.iter().for_each(|(name, value)| request.push_str(&format!("{name}: {value}\r\n")));
    connection.write_all(request.as_bytes())?;
    connection.write_all(b"\r\n")?;
    connection.write_all(body)?;
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer)?;
    let status = answer.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    let start = memchr::memmem::find(&answer, b"\r\n\r\n").map_or(answer.len(), |end| end + 4);
    let status = status.ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok((status, answer.split_off(start)))
}
