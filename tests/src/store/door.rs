//! The door of every store of the tests: HTTP on loopback in a thread of its own, and the faults, which are the same
//! whatever stands behind it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::sync::oneshot;

use super::faults::{Fault, Faults, Mood};

/// The largest request that is read at all, as it comes over the wire: above what any sink may send.
const MAX_WIRE_BYTES: usize = 256 << 20;

/// What stands behind a door.
pub trait Behind: Send + Sync + 'static {
    /// Whether the faults are for this request too.
    fn is_faulty(&self, head: &Parts) -> bool {
        let _ = head;
        true
    }

    /// Does what the request asks for, in a thread that it may hold up; `None` closes the connection without an answer.
    fn answer(&self, head: &Parts, body: &[u8]) -> Option<Response<Vec<u8>>>;
}

/// What came to a door.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Seen {
    /// Requests.
    pub requests: u64,
    /// Requests that something was done to.
    pub faults: u64,
    /// Among these, those that were done all the same.
    pub ambiguous: u64,
}

/// An open door. Closed when dropped.
pub(crate) struct Door {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    down: AtomicBool,
    mood: Mutex<Mood>,
    seen: Mutex<Seen>,
    behind: Arc<dyn Behind>,
}

impl Door {
    /// Opens one on a free port; nothing goes wrong yet.
    pub(crate) fn open(behind: Arc<dyn Behind>) -> io::Result<Door> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared { down: AtomicBool::new(false), mood: Mutex::default(), seen: Mutex::default(), behind });
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let served = shared.clone();
        let thread = std::thread::Builder::new().name("store".into()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = accept(listener, served) => {}
                    _ = stopped => {}
                }
            });
            // What is still being done is not waited for.
            runtime.shutdown_background();
        })?;
        Ok(Door { address, shared, stop: Some(stop), thread: Some(thread) })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens: `http://127.0.0.1:<port>`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Shuts it, or opens it again: while it is shut every connection is closed at once.
    pub(crate) fn set_down(&self, down: bool) {
        self.shared.down.store(down, Ordering::Relaxed);
    }

    /// What goes wrong from now on.
    pub(crate) fn set_faults(&self, faults: Faults) {
        *lock(&self.shared.mood) = Mood::new(faults);
    }

    /// What came so far.
    pub(crate) fn seen(&self) -> Seen {
        *lock(&self.shared.seen)
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What a mutex holds: a test that panicked elsewhere is no reason to panic here.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
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
        if shared.is_down() {
            continue;
        }
        let shared = shared.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| answer(request, &shared));
            // An error is a client that went away or a fault that was asked for: neither is the store's to report.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(connection), service).await;
        });
    }
}

async fn answer(request: Request<Incoming>, shared: &Shared) -> Result<Response<Full<Bytes>>, Closed> {
    if shared.is_down() {
        return Err(Closed);
    }
    let (head, mut body) = request.into_parts();
    let fault = if shared.behind.is_faulty(&head) { shared.next_fault() } else { None };
    if fault == Some(Fault::HalfRead) {
        let _ = body.frame().await;
        return Err(Closed);
    }
    let body = Limited::new(body, MAX_WIRE_BYTES).collect().await.map_err(|_| Closed)?.to_bytes();
    match fault {
        Some(Fault::CloseBefore) => return Err(Closed),
        Some(Fault::TooMany { retry_after_s }) => return Ok(refuse(StatusCode::TOO_MANY_REQUESTS, retry_after_s)),
        Some(Fault::Unavailable) => return Ok(refuse(StatusCode::SERVICE_UNAVAILABLE, None)),
        Some(Fault::TooLarge) if body.len() > 4096 => return Ok(refuse(StatusCode::PAYLOAD_TOO_LARGE, None)),
        _ if shared.is_too_large(&body) => return Ok(refuse(StatusCode::PAYLOAD_TOO_LARGE, None)),
        _ => {}
    }
    let behind = shared.behind.clone();
    // In a thread of its own: that its client gives up does not keep a store from taking a request.
    let answering = tokio::task::spawn_blocking(move || {
        if let Some(Fault::Stall(time)) = fault {
            std::thread::sleep(time);
        }
        behind.answer(&head, &body)
    });
    let mut answer = answering.await.ok().flatten().ok_or(Closed)?;
    match fault {
        Some(Fault::CloseAfter) => return Err(Closed),
        Some(Fault::TruncatedAnswer) if answer.body().is_empty() => return Err(Closed),
        Some(Fault::TruncatedAnswer) => {
            let half = answer.body().len() / 2;
            answer.body_mut().truncate(half);
        }
        _ => {}
    }
    Ok(answer.map(|body| Full::new(Bytes::from(body))))
}

impl Shared {
    fn is_down(&self) -> bool {
        self.down.load(Ordering::Relaxed)
    }

    fn next_fault(&self) -> Option<Fault> {
        let fault = lock(&self.mood).next_fault();
        let mut seen = lock(&self.seen);
        seen.requests += 1;
        seen.faults += u64::from(fault.is_some());
        seen.ambiguous += u64::from(matches!(fault, Some(Fault::CloseAfter | Fault::TruncatedAnswer | Fault::Stall(_))));
        fault
    }

    fn is_too_large(&self, body: &[u8]) -> bool {
        let most = lock(&self.mood).faults.max_wire_bytes;
        most > 0 && body.len() > most
    }
}

fn refuse(status: StatusCode, retry_after_s: Option<u32>) -> Response<Full<Bytes>> {
    let text = format!(r#"{{"error":"by request of the test","status":{}}}"#, status.as_u16());
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(seconds) = retry_after_s {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    response
}
