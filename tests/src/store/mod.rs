//! A store that speaks Elasticsearch's `_bulk`, for tests and the benchmark: on loopback, in its own thread.
//!
//! It is strict where Elasticsearch is strict (content type, the last newline, index names, JSON), so that a sink which it
//! takes would be taken by the real one; it refuses a second document with an id (409), as `create` does; and it misbehaves
//! on request: see [`Faults`].
//!
//! Formats: the bulk API of Elasticsearch 8 and 9, and its `filter_path`, as their reference describes them.

mod bulk;
pub mod clickhouse;
mod documents;
mod door;
mod faults;
mod kept;
pub mod loki;
pub mod otlp;
mod proto;
mod running;

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};

use documents::Documents;
pub use documents::for_each_line;
pub use door::Behind;
pub(crate) use door::Door;
pub use door::Seen;
use faults::Mood;
pub use faults::{Fault, Faults};
pub use kept::Tally;
pub use running::{Holds, Running};

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
    door: Door,
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
    state: Mutex<State>,
}

/// What the store holds.
#[derive(Default)]
struct State {
    counts: Counts,
    /// For what is done to single documents; the door has the rest.
    mood: Mood,
    /// By index and id; documents without an id get one.
    documents: Documents,
}

impl Store {
    /// Starts a store on a free port.
    pub fn start(keep: Keep) -> io::Result<Store> {
        let documents = if keep == Keep::Spool { Documents::spooled()? } else { Documents::default() };
        let shared = Arc::new(Shared { keep, state: Mutex::new(State { documents, ..State::default() }) });
        Ok(Store { door: Door::open(shared.clone())?, shared })
    }

    /// Where it listens: `http://127.0.0.1:<port>`.
    pub fn url(&self) -> String {
        self.door.url()
    }

    /// Takes the store down, or brings it back: while it is down every connection is closed at once.
    pub fn set_down(&self, down: bool) {
        self.door.set_down(down);
    }

    /// Makes it misbehave from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.shared.state().mood = Mood::new(faults.clone());
        self.door.set_faults(faults);
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
        door::lock(&self.state)
    }

    fn reply(&self, head: &Parts, body: &[u8]) -> Response<Vec<u8>> {
        let path = head.uri.path().trim_matches('/');
        match (&head.method, path) {
            (&Method::POST | &Method::PUT, "_bulk") => self.reply_to_bulk(head, None, body),
            (&Method::POST | &Method::PUT, path) if path.ends_with("/_bulk") => {
                self.reply_to_bulk(head, Some(path.trim_end_matches("/_bulk")), body)
            }
            (&Method::GET | &Method::HEAD, "") => json(StatusCode::OK, br#"{"name":"test","version":{"number":"9.1.0"}}"#.to_vec()),
            _ => json(StatusCode::NOT_FOUND, br#"{"error":"no such thing in the test store","status":404}"#.to_vec()),
        }
    }

    fn reply_to_bulk(&self, head: &Parts, index: Option<&str>, body: &[u8]) -> Response<Vec<u8>> {
        let filter = bulk::Filter::from_query(head.uri.query().unwrap_or_default());
        let header = |name| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let (content_type, encoding) = (header(CONTENT_TYPE), header(CONTENT_ENCODING));
        if !content_type.starts_with("application/x-ndjson") && !content_type.starts_with("application/json") {
            let text = format!(r#"{{"error":"Content-Type [{content_type}] is not supported","status":406}}"#);
            return json(StatusCode::NOT_ACCEPTABLE, text.into());
        }
        match bulk::take(body, encoding, index, self.keep, &mut self.state()) {
            Ok(taken) => json(StatusCode::OK, taken.render(&filter)),
            Err(refused) => json(refused.status, refused.body()),
        }
    }
}

impl Behind for Shared {
    fn is_faulty(&self, head: &Parts) -> bool {
        head.uri.path().ends_with("_bulk")
    }

    fn answer(&self, head: &Parts, body: &[u8]) -> Option<Response<Vec<u8>>> {
        Some(self.reply(head, body))
    }
}

fn json(status: StatusCode, body: Vec<u8>) -> Response<Vec<u8>> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert("x-elastic-product", HeaderValue::from_static("Elasticsearch"));
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
    let mut connection = std::net::TcpStream::connect(store.door.address())?;
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
