//! HTTP: carries frames to stores that are spoken to with one request a frame.

mod clients;
mod endpoints;

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, DATE, HeaderMap, HeaderValue, RETRY_AFTER};
use http::{Method, Version};
use http_body_util::BodyExt;
use reqwest::Url;
use skidder_pipeline::body::Compression;
use skidder_pipeline::frame::Frame;
use skidder_pipeline::problem::Problem;
use skidder_pipeline::sink::{Response, Sending, Transport, TransportError};
use tokio::time::Instant;

use crate::SinkContext;
use crate::common::{Auth, AuthConfig, Kept, Secret, TlsConfig};
use clients::{Clients, Way};
use endpoints::Endpoints;

/// What of an answer is read; the rest is left and the connection closed. A store's answer to a request of `batch.max_bytes`
/// stays far below; it bounds the memory that a broken one can take.
pub const MAX_RESPONSE_BYTES: usize = 8 << 20;

/// How long to wait for a connection. Beside the time for the whole request, so that an endpoint that does not exist is
/// left for the next one soon.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What a request is, beside method, body and credentials.
pub struct HttpRequest {
    /// Path and query, below the endpoint's own path: `/index/_bulk?pretty=false`.
    pub path_and_query: String,
    /// Headers; `Content-Encoding` is set from the body's compression.
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

/// Endpoints with the way to them and the credentials for them: for a transport, and for a look at the store.
pub struct HttpClient {
    clients: Clients,
    endpoints: Endpoints,
    auth: Option<Auth>,
}

/// An answer with what of it a [`Response`] leaves out.
pub struct Answer {
    /// What the delivery needs.
    pub response: Response,
    /// All headers, and trailers.
    pub headers: HeaderMap,
}

impl HttpClient {
    /// A client for `options.endpoints`. What is wrong is added to `problems`, with paths below the sink's table.
    pub fn new(options: &HttpOptions<'_>, problems: &mut Vec<Problem>) -> Option<HttpClient> {
        HttpClient::over(options, Version::HTTP_11, problems)
    }

    /// The same over HTTP/2 alone, as gRPC wants it: without an upgrade where there is no TLS.
    pub fn over_http2(options: &HttpOptions<'_>, problems: &mut Vec<Problem>) -> Option<HttpClient> {
        HttpClient::over(options, Version::HTTP_2, problems)
    }

    fn over(options: &HttpOptions<'_>, version: Version, problems: &mut Vec<Problem>) -> Option<HttpClient> {
        let before = problems.len();
        let mut auth = options.auth.and_then(|auth| auth.resolve(options.context, problems));
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
        let clients = Clients::new(options.tls, options.context, Way { plain, version }, problems)?;
        (problems.len() == before).then(|| HttpClient { clients, endpoints: Endpoints::new(urls), auth })
    }

    /// Makes one request, at the endpoint whose turn it is, with a body compressed as `compression` says.
    ///
    /// # Errors
    /// Where there is no answer, or not the whole of one.
    pub async fn send(
        &self,
        method: Method,
        request: HttpRequest,
        body: Bytes,
        compression: Compression,
    ) -> Result<Answer, TransportError> {
        let attempt = self.endpoints.next(Instant::now());
        let result = self.send_to(&attempt.endpoint.url, method, request, body, compression).await;
        let works = result.as_ref().is_ok_and(|answer| !matches!(answer.response.status, 502..=504));
        attempt.end(works, Instant::now());
        result
    }

    async fn send_to(
        &self,
        endpoint: &str,
        method: Method,
        request: HttpRequest,
        body: Bytes,
        compression: Compression,
    ) -> Result<Answer, TransportError> {
        let HttpRequest { path_and_query, mut headers } = request;
        match compression {
            // Where Snappy is all that a store takes, the content type says so; none is sent LZ4.
            Compression::None | Compression::Snappy | Compression::Lz4 => {}
            Compression::Gzip => drop(headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"))),
            Compression::Zstd => drop(headers.insert(CONTENT_ENCODING, HeaderValue::from_static("zstd"))),
        }
        let url = format!("{endpoint}{path_and_query}");
        if let Some(Auth::Aws(aws)) = &self.auth {
            aws.sign(method.as_str(), &url, &mut headers, &body, std::time::SystemTime::now())?;
        }
        let mut request = self.clients.current().request(method, url).headers(headers).body(body);
        request = match &self.auth {
            None | Some(Auth::Aws(_)) => request,
            Some(Auth::Basic { user, password }) => request.basic_auth(user, Some(password.secret()?.reveal())),
            Some(Auth::Bearer(token)) => request.bearer_auth(token.secret()?.reveal()),
            Some(Auth::ApiKey(token)) => request.header(http::header::AUTHORIZATION, api_key(&token.secret()?)?),
        };
        let mut response = request.send().await.map_err(|e| failed(&e))?;
        let status = response.status().as_u16();
        let retry_after = retry_after(response.headers());
        let mut headers = std::mem::take(response.headers_mut());
        let body = read(response, &mut headers).await.map_err(|e| failed(&e))?;
        Ok(Answer { response: Response { status, retry_after, body, note: None }, headers })
    }
}

/// Sends each frame as the body of one POST. The status of a [`Response`] is HTTP's.
pub struct HttpTransport<F> {
    client: Arc<HttpClient>,
    request: F,
    body: fn(&Frame) -> Bytes,
}

impl<F: Fn(&Frame) -> HttpRequest + Send + Sync> HttpTransport<F> {
    /// A transport to `options.endpoints`; `request` gives path and headers for a frame. What is wrong is added to
    /// `problems`, with paths below the sink's table.
    pub fn new(options: &HttpOptions<'_>, request: F, problems: &mut Vec<Problem>) -> Option<HttpTransport<F>> {
        let body = |frame: &Frame| frame.body().clone();
        Some(HttpTransport { client: Arc::new(HttpClient::new(options, problems)?), request, body })
    }

    /// The same, with what `body` makes of a frame's body: for stores that want something around it.
    pub fn with_body(self, body: fn(&Frame) -> Bytes) -> HttpTransport<F> {
        HttpTransport { body, ..self }
    }

    /// The way to the endpoints, for requests that carry no frame.
    pub fn client(&self) -> Arc<HttpClient> {
        self.client.clone()
    }

    async fn post(&self, frame: &Frame) -> Result<Response, TransportError> {
        let request = (self.request)(frame);
        Ok(self.client.send(Method::POST, request, (self.body)(frame), frame.header().compression).await?.response)
    }
}

impl<F: Fn(&Frame) -> HttpRequest + Send + Sync> Transport for HttpTransport<F> {
    fn send<'a>(&'a self, frame: &'a Frame) -> Sending<'a> {
        Box::pin(self.post(frame))
    }
}

/// `problem` of a sink that has one `endpoint`, in place of the list `endpoints`.
pub(crate) fn of_the_endpoint(problem: Problem) -> Problem {
    match problem.path.first().map(String::as_str) {
        Some("endpoints") => Problem { path: vec!["endpoint".to_owned()], ..problem },
        _ => problem,
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
        let decode = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
        Auth::Basic { user: decode(url.username()), password: Kept::Here(Secret::from(decode(password))) }
    });
    let stripped = url.set_username("").and_then(|()| url.set_password(None));
    stripped.map_err(|()| "not a URL with a host".to_owned())?;
    Ok((url, auth))
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

async fn read(response: reqwest::Response, trailers: &mut HeaderMap) -> Result<Bytes, reqwest::Error> {
    let mut parts = reqwest::Body::from(response);
    let mut body = BytesMut::new();
    while let Some(frame) = parts.frame().await.transpose()? {
        let chunk = match frame.into_data() {
            Ok(chunk) => chunk,
            Err(frame) => {
                trailers.extend(frame.into_trailers().unwrap_or_default());
                continue;
            }
        };
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
