//! Requests to Kubernetes: one at a time, none repeated here, each answer read as it comes.

use std::path::Path;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::header::{ACCEPT, ACCEPT_ENCODING, RETRY_AFTER};
use hyper::{Request, StatusCode};
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde::de::DeserializeOwned;

use super::items::MAX_OBJECT_BYTES;
use super::objects::Status;

/// How long a connection, and an answer's head, may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// As much of an error's text as is worth reading.
const MAX_MESSAGE_BYTES: usize = 300;
/// The longest wait that is accepted from a server.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(600);

/// Why a request came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// The HTTP status, where there was an answer.
    pub status: Option<u16>,
    /// What it says, without anything of a pod's.
    pub message: String,
    /// How long the server asks to be left alone.
    pub retry_after: Option<Duration>,
}

impl Failure {
    pub(super) fn new(message: impl ToString) -> Failure {
        Failure { status: None, message: message.to_string(), retry_after: None }
    }

    /// Whether the server has forgotten what came after the version that was asked for.
    pub(super) fn is_expired(&self) -> bool {
        self.status == Some(410)
    }

    /// What a person can do about it.
    pub(super) fn remedy(&self) -> &'static str {
        match self.status {
            Some(401) => "the token is not accepted: look at the service account of the pod",
            Some(403) => "the service account may not ask for this: the chart's ClusterRole is missing or not bound",
            _ => "it is tried again; until then, records of new pods go out with what their path says",
        }
    }
}

/// A server that is asked, with credentials that are read again when they rotate.
#[derive(Clone)]
pub(super) struct Api(Client);

impl Api {
    /// The API server that `kubeconfig` names, or the one whose address and token are in every pod.
    pub(super) async fn connect(kubeconfig: Option<&Path>) -> Result<Api, Failure> {
        Api::with(Api::config(kubeconfig).await?)
    }

    pub(super) async fn config(kubeconfig: Option<&Path>) -> Result<Config, Failure> {
        match kubeconfig {
            Some(path) => {
                let file = Kubeconfig::read_from(path).map_err(Failure::new)?;
                Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.map_err(Failure::new)
            }
            None => Config::incluster().map_err(Failure::new),
        }
    }

    pub(super) fn with(mut config: Config) -> Result<Api, Failure> {
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        // Watches are told how long they live, and looked at meanwhile. Repeats are decided on where the load is known.
        config.read_timeout = None;
        config.default_retry = false;
        Client::try_from(config).map(Api).map_err(Failure::new)
    }

    /// Asks for `path` (with its query): the answer, once its head is there and is no error.
    pub(super) async fn get(&self, path: &str) -> Result<Answer, Failure> {
        let request = Request::get(path)
            .header(ACCEPT, "application/json")
            .header(ACCEPT_ENCODING, "identity")
            .body(Body::empty())
            .map_err(Failure::new)?;
        let response = match tokio::time::timeout(ANSWER_TIMEOUT, self.0.send(request)).await {
            Ok(sent) => sent.map_err(|error| Failure::new(with_causes(&error)))?,
            Err(_) => return Err(Failure::new(format!("no answer within {} s", ANSWER_TIMEOUT.as_secs()))),
        };
        let (head, body) = response.into_parts();
        let mut answer = Answer { body };
        if head.status.is_success() {
            return Ok(answer);
        }
        let seconds = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let text = answer.whole(64 << 10).await.unwrap_or_default();
        Err(refusal(head.status, seconds, &text))
    }

    /// Asks for one object.
    pub(super) async fn object<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let text = self.get(path).await?.whole(MAX_OBJECT_BYTES).await?;
        serde_json::from_slice(&text).map_err(no_json)
    }
}

/// What is wrong with an answer that cannot be read; where, and nothing of what is in it.
pub(super) fn no_json(error: serde_json::Error) -> Failure {
    Failure::new(format!("the answer cannot be read: {:?} error at column {}", error.classify(), error.column()))
}

fn refusal(status: StatusCode, seconds: Option<u64>, text: &[u8]) -> Failure {
    let said: Status = serde_json::from_slice(text).unwrap_or_default();
    let seconds = seconds.or_else(|| said.details?.retry_after_seconds);
    let mut message = said.message.unwrap_or_else(|| String::from_utf8_lossy(text).trim().to_owned());
    let end = (0..=MAX_MESSAGE_BYTES.min(message.len())).rev().find(|at| message.is_char_boundary(*at));
    message.truncate(end.unwrap_or(0));
    let retry_after = seconds.map(|seconds| Duration::from_secs(seconds).min(MAX_RETRY_AFTER));
    Failure { status: Some(status.as_u16()), message: format!("{status}: {message}"), retry_after }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

/// The body of an answer.
pub(super) struct Answer {
    body: Body,
}

impl Answer {
    /// The next bytes, `None` at the end; an error where nothing came for `silence`.
    pub(super) async fn next(&mut self, silence: Duration) -> Result<Option<bytes::Bytes>, Failure> {
        loop {
            match tokio::time::timeout(silence, self.body.frame()).await {
                Err(_) => return Err(Failure::new(format!("nothing came for {} s", silence.as_secs()))),
                Ok(None) => return Ok(None),
                Ok(Some(Err(error))) => return Err(Failure::new(with_causes(&error))),
                Ok(Some(Ok(frame))) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }

    /// All of it, up to `most` bytes.
    async fn whole(&mut self, most: usize) -> Result<Vec<u8>, Failure> {
        let mut all = Vec::new();
        while let Some(bytes) = self.next(ANSWER_TIMEOUT).await? {
            if all.len() + bytes.len() > most {
                return Err(Failure::new("the answer is too long"));
            }
            all.extend_from_slice(&bytes);
        }
        Ok(all)
    }
}

/// Lines of a text that comes in pieces.
#[derive(Default)]
pub(super) struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    /// Takes the next bytes; `give` gets each line that ends in them.
    pub(super) fn feed(&mut self, bytes: &[u8], mut give: impl FnMut(&[u8]) -> Result<(), Failure>) -> Result<(), Failure> {
        let mut bytes = bytes;
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            if self.rest.is_empty() {
                give(&bytes[..end])?;
            } else {
                self.rest.extend_from_slice(&bytes[..end]);
                give(&self.rest)?;
                self.rest.clear();
                self.rest.shrink_to(64 << 10);
            }
            bytes = &bytes[end + 1..];
        }
        self.rest.extend_from_slice(bytes);
        if self.rest.len() > MAX_OBJECT_BYTES {
            return Err(Failure::new("an object is too long"));
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn refusals_say_how_long_to_wait() {
        let busy = refusal(StatusCode::TOO_MANY_REQUESTS, Some(7), b"Too many requests, please try again later.\n");
        assert_eq!((busy.status, busy.retry_after), (Some(429), Some(Duration::from_secs(7))));
        let text = br#"{"kind":"Status","message":"slow down","details":{"retryAfterSeconds":90000},"code":429}"#;
        let busy = refusal(StatusCode::TOO_MANY_REQUESTS, None, text);
        assert_eq!(busy.retry_after, Some(MAX_RETRY_AFTER));
        assert!(busy.message.ends_with("slow down"), "{}", busy.message);
        assert!(refusal(StatusCode::BAD_GATEWAY, None, "я".repeat(1000).as_bytes()).message.len() < MAX_MESSAGE_BYTES + 30);
    }

    #[test]
    fn lines_are_put_together() {
        let mut lines = Lines::default();
        let mut found = Vec::new();
        for piece in ["a\nb", "", "c\n\n", "d"] {
            let give = |line: &[u8]| {
                found.push(String::from_utf8_lossy(line).into_owned());
                Ok(())
            };
            lines.feed(piece.as_bytes(), give).unwrap();
        }
        assert_eq!(found, ["a", "bc", ""]);
    }
}
