//! A faulty front: a proxy before a real server, which hands requests on and sometimes does not, or keeps the answer.
//!
//! What the server stored is the server's: a request whose answer the front lost has been done.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};

use crate::client::{self, Answer};
use crate::serve::{Closed, Outcome, Serving, refuse};
use crate::store::{Fault, Faults, Mood};

/// The running front. Stops when dropped.
pub struct Front {
    serving: Serving,
    shared: Arc<Shared>,
}

/// What the front counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Seen {
    /// Requests that came.
    pub requests: u64,
    /// Requests that something was done to.
    pub faults: u64,
    /// Among these, those that were done all the same.
    pub ambiguous: u64,
}

struct Shared {
    server: String,
    mood: Mutex<Mood>,
    seen: Mutex<Seen>,
}

impl Front {
    /// A front on a free port before the server at this URL; it does nothing wrong yet.
    pub fn start(server: &str) -> io::Result<Front> {
        let shared = Arc::new(Shared { server: server.to_owned(), mood: Mutex::default(), seen: Mutex::default() });
        let served = shared.clone();
        let serving = Serving::start("front", move |request| answer(request, served.clone()))?;
        Ok(Front { serving, shared })
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        self.serving.url()
    }

    /// Makes it misbehave from now on. What is about single documents has no meaning here.
    pub fn set_faults(&self, faults: Faults) {
        *lock(&self.shared.mood) = Mood::new(faults);
    }

    /// What it counted so far.
    pub fn seen(&self) -> Seen {
        *lock(&self.shared.seen)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What stands in answers of the front's own.
const TURNED_AWAY: &str = "by request of the test";

async fn answer(request: Request<Incoming>, shared: Arc<Shared>) -> Outcome {
    let fault = lock(&shared.mood).next_fault();
    {
        let mut seen = lock(&shared.seen);
        seen.requests += 1;
        seen.faults += u64::from(fault.is_some());
        seen.ambiguous += u64::from(matches!(fault, Some(Fault::CloseAfter | Fault::TruncatedAnswer)));
    }
    let (head, body) = request.into_parts();
    if fault == Some(Fault::HalfRead) {
        let mut body = body;
        let _ = body.frame().await;
        return Err(Closed);
    }
    let body = body.collect().await.map_err(|_| Closed)?.to_bytes();
    match fault {
        Some(Fault::CloseBefore) => return Err(Closed),
        Some(Fault::TooMany { retry_after_s }) => return Ok(refuse(StatusCode::TOO_MANY_REQUESTS, retry_after_s, TURNED_AWAY)),
        Some(Fault::Unavailable) => return Ok(refuse(StatusCode::SERVICE_UNAVAILABLE, None, TURNED_AWAY)),
        Some(Fault::TooLarge) if body.len() > 4096 => return Ok(refuse(StatusCode::PAYLOAD_TOO_LARGE, None, TURNED_AWAY)),
        Some(Fault::Stall(time)) => tokio::time::sleep(time).await,
        _ => {}
    }
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
    let hop = ["host", "content-length", "transfer-encoding", "connection"];
    let headers: Vec<(String, String)> = head
        .headers
        .iter()
        .filter(|(name, _)| !hop.contains(&name.as_str()))
        .filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())))
        .collect();
    let server = shared.server.clone();
    let method = head.method.to_string();
    // A server that was killed closes the connection, and so does the front.
    let handed_on = tokio::task::spawn_blocking(move || {
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        client::request(&method, &server, &target, &headers, &body)
    });
    let Answer { status, headers, mut body } = handed_on.await.map_err(|_| Closed)?.map_err(|_| Closed)?;
    match fault {
        Some(Fault::CloseAfter) => return Err(Closed),
        Some(Fault::TruncatedAnswer) if body.is_empty() => return Err(Closed),
        Some(Fault::TruncatedAnswer) => body.truncate(body.len() / 2),
        _ => {}
    }
    let mut response = Response::builder().status(status);
    for (name, value) in headers.iter().filter(|(name, _)| !hop.contains(&name.as_str())) {
        response = response.header(name, value);
    }
    response.body(Full::new(body.into())).map_err(|_| Closed)
}
