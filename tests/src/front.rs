//! A faulty front: a proxy before a real server, which hands requests on and sometimes does not, or keeps the answer.
//!
//! What the server stored is the server's: a request whose answer the front lost has been done.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::RETRY_AFTER;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::sync::oneshot;

use crate::client::{self, Answer};
use crate::store::{Fault, Faults, Mood};

/// The running front. Stops when dropped.
pub struct Front {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
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
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared { server: server.to_owned(), mood: Mutex::default(), seen: Mutex::default() });
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let served = shared.clone();
        let thread = std::thread::Builder::new().name("front".into()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = accept(listener, served) => {}
                    _ = stopped => {}
                }
            });
            // A request that is still with the server is not waited for.
            runtime.shutdown_background();
        })?;
        Ok(Front { address, shared, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
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

impl Drop for Front {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The connection is to be closed without an answer.
#[derive(Debug)]
struct Closed;

impl std::fmt::Display for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("closed on purpose")
    }
}

impl std::error::Error for Closed {}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    loop {
        let Ok((connection, _)) = listener.accept().await else { continue };
        let shared = shared.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| answer(request, &shared));
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(connection), service).await;
        });
    }
}

async fn answer(request: Request<Incoming>, shared: &Arc<Shared>) -> Result<Response<Full<Bytes>>, Closed> {
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
        Some(Fault::TooMany { retry_after_s }) => return Ok(refuse(StatusCode::TOO_MANY_REQUESTS, retry_after_s)),
        Some(Fault::Unavailable) => return Ok(refuse(StatusCode::SERVICE_UNAVAILABLE, None)),
        Some(Fault::TooLarge) if body.len() > 4096 => return Ok(refuse(StatusCode::PAYLOAD_TOO_LARGE, None)),
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

fn refuse(status: StatusCode, retry_after_s: Option<u32>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(b"by request of the test")));
    *response.status_mut() = status;
    if let Some(seconds) = retry_after_s {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    response
}
