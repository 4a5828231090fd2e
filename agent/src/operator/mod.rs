//! The operator's endpoint: `/metrics`, `/health` and `/ready` over HTTP, GET only, on loopback unless told otherwise.
//!
//! It reads counts and changes nothing, so that it needs no credentials. It runs on the runtime of the deliveries: that it
//! answers means that this runtime turns. What a client can cost is bounded: few connections, one request each, a small
//! one, in a short time. None of it holds content of records.

mod metrics;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

pub use self::metrics::{Component, Counts, Reloads};

/// The most connections at once: a Prometheus, the probes, and a person beside them.
const MAX_CONNECTIONS: usize = 16;

/// The longest request, with its headers. Probes and Prometheus need some hundred bytes.
const MAX_REQUEST_BYTES: usize = 8 << 10;

/// How long a connection may take from its beginning to its end.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);

/// Where the agent is between its start and its end.
#[derive(Debug, Default)]
pub struct Life {
    stopping: AtomicBool,
}

impl Life {
    /// The agent was told to stop: it is not ready any more.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}

/// What the endpoint shows.
#[derive(Debug)]
pub struct View {
    /// For `/metrics`; other ones after a reload.
    pub counts: Arc<RwLock<Counts>>,
    /// For `/ready`.
    pub life: Arc<Life>,
}

/// Listens on `address`.
///
/// # Errors
/// Where the address cannot be had: the agent runs on without.
pub async fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Answers, for ever: a task beside the deliveries.
pub async fn serve(listener: TcpListener, view: View) {
    /// After an error of `accept` (no more files may be opened, for instance) it would fail again at once.
    const AFTER_ERROR: Duration = Duration::from_millis(200);
    let view = Arc::new(view);
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        // Whoever comes beyond waits in the kernel's queue, and there is no end to what waits there but its own.
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let connection = match listener.accept().await {
            Ok((connection, _)) => connection,
            Err(error) => {
                tracing::debug!(%error, "the operator's endpoint cannot accept a connection");
                tokio::time::sleep(AFTER_ERROR).await;
                continue;
            }
        };
        let view = view.clone();
        tokio::spawn(async move {
            // Too slow, gone, or no HTTP: nobody is left to tell.
            let _ = tokio::time::timeout(CONNECTION_TIMEOUT, converse(connection, &view)).await;
            drop(slot);
        });
    }
}

async fn converse(connection: TcpStream, view: &View) -> hyper::Result<()> {
    let service = service_fn(|request: Request<Incoming>| {
        let answer = answer(request.method(), request.uri().path(), view);
        async move { Ok::<_, Infallible>(answer) }
    });
    http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(MAX_REQUEST_BYTES)
        .max_header_size(MAX_REQUEST_BYTES)
        .timer(TokioTimer::new())
        .header_read_timeout(CONNECTION_TIMEOUT)
        .serve_connection(TokioIo::new(connection), service)
        .await
}

fn answer(method: &Method, path: &str, view: &View) -> Response<Full<Bytes>> {
    const JSON: &str = "application/json";
    let known = ["/metrics", "/health", "/ready"].contains(&path);
    if known && method != Method::GET {
        let mut refusal = response(StatusCode::METHOD_NOT_ALLOWED, JSON, r#"{"error":"GET only"}"#);
        refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
        return refusal;
    }
    match path {
        "/metrics" => match view.counts.read().unwrap_or_else(PoisonError::into_inner).text() {
            Ok(text) => response(StatusCode::OK, metrics::CONTENT_TYPE, text),
            Err(_) => response(StatusCode::INTERNAL_SERVER_ERROR, JSON, r#"{"error":"the counts cannot be written"}"#),
        },
        "/health" => response(StatusCode::OK, JSON, r#"{"status":"ok"}"#),
        "/ready" if view.life.is_stopping() => response(StatusCode::SERVICE_UNAVAILABLE, JSON, r#"{"status":"stopping"}"#),
        "/ready" => response(StatusCode::OK, JSON, r#"{"status":"ready"}"#),
        _ => response(StatusCode::NOT_FOUND, JSON, r#"{"error":"there are /metrics, /health and /ready"}"#),
    }
}

fn response(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests;
