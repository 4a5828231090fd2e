//! HTTP: carries frames to stores that are spoken to with one request a frame.

mod clients;
mod endpoints;

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, DATE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::Url;
use skidder_pipeline::body::Compression;
use skidder_pipeline::frame::Frame;
use skidder_pipeline::problem::Problem;
use skidder_pipeline::sink::{Response, Sending, Transport, TransportError};
use tokio::time::Instant;

use crate::SinkContext;
use crate::common::{Auth, AuthConfig, Secret, TlsConfig};
use clients::Clients;
use endpoints::Endpoints;

/// What of an answer is read; the rest is left and the connection closed. A store's answer to a request of `batch.max_bytes`
/// stays far below; it bounds the memory that a broken one can take.
pub const MAX_RESPONSE_BYTES: usize = 8 << 20;

/// How long to wait for a connection. Beside the time for the whole request, so that an endpoint that does not exist is
/// left for the next one soon.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What a sink's request for a frame is, beside body and credentials. The method is POST.
pub struct HttpRequest {
    /// Path and query, below the endpoint's own path: `/index/_bulk?pretty=false`.
    pub path_and_query: String,
    /// Headers; `Content-Encoding` is set from the frame.
    pub headers: HeaderMap,
}

/// The settings of a transport, from the sink's table.
pub struct HttpOptions<'a> {
    /// `endpoints`: `https://host:port`, a path may follow. Each is used in turn.
    pub endpoints: &'a [String],
    /// `auth`.
    pub auth: Option<&'a AuthConfig>,
    /// `tls`.
    pub tls: &'a TlsConfig,
    /// What the sink is told of the world.
    pub context: &'a SinkContext,
}

/// Sends each frame as the body of one POST. The status of a [`Response`] is HTTP's.
pub struct HttpTransport<F> {
    clients: Clients,
    endpoints: Endpoints,
    auth: Option<Auth>,
    request: F,
}

impl<F: Fn(&Frame) -> HttpRequest + Send + Sync> HttpTransport<F> {
    /// A transport to `options.endpoints`; `request` gives path and headers for a frame. What is wrong is added to
    /// `problems`, with paths below the sink's table.
    pub fn new(options: &HttpOptions<'_>, request: F, problems: &mut Vec<Problem>) -> Option<HttpTransport<F>> {
        let before = problems.len();
        let mut auth = options.auth.and_then(|auth| auth.resolve(problems));
        let mut urls = Vec::new();
        if options.endpoints.is_empty() {
            problems.push(Problem::at("endpoints", "at least one is needed").help("write `endpoints = [\"https://host:port\"]`"));
        }
        for (index, text) in options.endpoints.iter().enumerate() {
            match endpoint(text) {
                Ok((url, user)) => {
                    if user.is_some() && auth.is_none() {
                        auth = user;
                    }
                    urls.push(url);
                }
                Err(message) => problems.push(Problem::at(&format!("endpoints.{index}"), message)),
            }
        }
        let open = options.auth.is_some_and(|auth| auth.allow_plain_http);
        if auth.is_some()
            && !open
            && let Some(index) = urls.iter().position(|url| url.scheme() == "http" && !is_this_machine(url))
        {
            let problem = Problem::at(&format!("endpoints.{index}"), "credentials would go over plain HTTP to another machine");
            problems.push(problem.help("use `https://`, or `auth.allow_plain_http = true` where the network is yours alone"));
        }
        let plain = urls.iter().all(|url| url.scheme() == "http");
        let clients = Clients::new(options.tls, options.context, plain, problems)?;
        (problems.len() == before).then(|| HttpTransport { clients, endpoints: Endpoints::new(urls), auth, request })
    }

    async fn post(&self, frame: &Frame) -> Result<Response, TransportError> {
        let attempt = self.endpoints.next(Instant::now());
        let result = self.post_to(&attempt.endpoint.url, frame).await;
        let works = result.as_ref().is_ok_and(|response| !matches!(response.status, 502..=504));
        attempt.end(works, Instant::now());
        result
    }

    async fn post_to(&self, endpoint: &str, frame: &Frame) -> Result<Response, TransportError> {
        let HttpRequest { path_and_query, mut headers } = (self.request)(frame);
        match frame.header().compression {
            Compression::None => {}
            Compression::Gzip => drop(headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"))),
            Compression::Zstd => drop(headers.insert(CONTENT_ENCODING, HeaderValue::from_static("zstd"))),
        }
        let mut request = self.clients.current().post(format!("{endpoint}{path_and_query}")).headers(headers).body(frame.body().clone());
        request = match &self.auth {
            None => request,
            Some(Auth::Basic { user, password }) => request.basic_auth(user, Some(password.reveal())),
            Some(Auth::Bearer(token)) => request.bearer_auth(token.reveal()),
            Some(Auth::ApiKey(token)) => request.header(http::header::AUTHORIZATION, api_key(token)?),
        };
        let response = request.send().await.map_err(|e| failed(&e))?;
        let status = response.status().as_u16();
        let retry_after = retry_after(response.headers());
        let body = read(response).await.map_err(|e| failed(&e))?;
        Ok(Response { status, retry_after, body, note: None })
    }
}

impl<F: Fn(&Frame) -> HttpRequest + Send + Sync> Transport for HttpTransport<F> {
    fn send<'a>(&'a self, frame: &'a Frame) -> Sending<'a> {
        Box::pin(self.post(frame))
    }
}

/// An endpoint as it may be shown, and the user that stood in it.
fn endpoint(text: &str) -> Result<(Url, Option<Auth>), String> {
    // The text may hold a password: errors do not show it.
    let mut url = Url::parse(text).map_err(|e| format!("not a URL: {e}"))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err("not an `http://` or `https://` URL".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("an endpoint has no query (`?…`) and no fragment (`#…`)".to_owned());
    }
    let auth = url.password().map(|password| {
        let decode = |text: &str| percent_decode(text);
        Auth::Basic { user: decode(url.username()), password: Secret::from(decode(password)) }
    });
    let stripped = url.set_username("").and_then(|()| url.set_password(None));
    stripped.map_err(|()| "not a URL with a host".to_owned())?;
    Ok((url, auth))
}

fn percent_decode(text: &str) -> String {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let code = after.get(..2).filter(|_| byte == b'%').and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        out.push(code.unwrap_or(byte));
        rest = if code.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn is_this_machine(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn api_key(token: &Secret) -> Result<HeaderValue, TransportError> {
    let mut value = HeaderValue::from_str(&format!("ApiKey {}", token.reveal()))
        .map_err(|_| TransportError("the API key holds characters that no header may hold".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

async fn read(mut response: reqwest::Response) -> Result<Bytes, reqwest::Error> {
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await? {
        let room = MAX_RESPONSE_BYTES - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if body.len() == MAX_RESPONSE_BYTES {
            break;
        }
    }
    Ok(body.freeze())
}

/// `Retry-After` (RFC 9110, section 10.2.3): seconds, or a date, which counts from the answer's own `Date` so that our
/// clock does not matter.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = http_date(text)?;
    let now = http_date(headers.get(DATE)?.to_str().ok()?)?;
    Some(Duration::try_from(at.duration_since(now)).unwrap_or_default())
}

fn http_date(text: &str) -> Option<jiff::Timestamp> {
    jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()
}

/// Why there was no answer, without the URL.
fn failed(error: &reqwest::Error) -> TransportError {
    let what = if error.is_connect() {
        "no connection"
    } else if error.is_timeout() {
        "time-out"
    } else {
        "the connection broke off"
    };
    TransportError(format!("{what}: {}", innermost(error)))
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
#[cfg(test)]
mod tls_tests;
