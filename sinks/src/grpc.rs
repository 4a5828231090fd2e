//! gRPC: carries frames as unary calls over the HTTP client that all sinks have.
//!
//! A unary call is a POST over HTTP/2 whose body is the message with five bytes before it (a flag for compression and the length),
//! and whose outcome stands in the trailers: `grpc-status`, `grpc-message`, `grpc-status-details-bin` ("gRPC over HTTP2",
//! `PROTOCOL-HTTP2.md`). More of gRPC is not needed, so no other library is: TLS, proxies and credentials are those of HTTP.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, TE};
use skidder_pipeline::body::Compression;
use skidder_pipeline::frame::Frame;
use skidder_pipeline::problem::Problem;
use skidder_pipeline::sink::{Response, Sending, Transport, TransportError};

use crate::common::proto;
use crate::http::{Answer, HttpClient, HttpOptions, HttpRequest};

const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");

/// Sends each frame as the message of one call. The status of a [`Response`] is gRPC's, 0 to 16; its body is the message of the
/// answer, or of an error the `google.rpc.Status`, or where there is none the text.
pub struct GrpcTransport {
    client: HttpClient,
    method: &'static str,
    headers: HeaderMap,
}

impl GrpcTransport {
    /// Calls `method` (`/package.Service/Method`) at `options.endpoints`, with `headers` as metadata. What is wrong is added to
    /// `problems`, with paths below the sink's table.
    pub fn new(options: &HttpOptions<'_>, method: &'static str, headers: HeaderMap, problems: &mut Vec<Problem>) -> Option<GrpcTransport> {
        Some(GrpcTransport { client: HttpClient::over_http2(options, problems)?, method, headers })
    }

    async fn call(&self, frame: &Frame) -> Result<Response, TransportError> {
        let mut headers = self.headers.clone();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
        let encoding = match frame.header().compression {
            Compression::None => None,
            Compression::Gzip => Some("gzip"),
            Compression::Zstd => Some("zstd"),
            Compression::Snappy => Some("snappy"),
            Compression::Lz4 => Some("lz4"),
        };
        if let Some(encoding) = encoding {
            headers.insert(ENCODING, HeaderValue::from_static(encoding));
        }
        let request = HttpRequest { path_and_query: self.method.to_owned(), headers };
        let body = message(frame.body(), encoding.is_some())?;
        let answer = self.client.send(Method::POST, request, body, Compression::None).await?;
        outcome(&answer)
    }
}

impl Transport for GrpcTransport {
    fn send<'a>(&'a self, frame: &'a Frame) -> Sending<'a> {
        Box::pin(self.call(frame))
    }
}

/// The message with its five bytes before it.
fn message(body: &[u8], compressed: bool) -> Result<Bytes, TransportError> {
    let len = u32::try_from(body.len()).map_err(|_| TransportError("the message is longer than gRPC can say".to_owned()))?;
    let mut out = Vec::with_capacity(body.len() + 5);
    out.push(compressed.into());
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(body);
    Ok(out.into())
}

fn outcome(answer: &Answer) -> Result<Response, TransportError> {
    let header = |name: &str| answer.headers.get(name).and_then(|value| value.to_str().ok());
    let status = match header("grpc-status").and_then(|text| text.trim().parse::<u16>().ok()) {
        Some(status) => status,
        None if answer.response.status == 200 => {
            return Err(TransportError("the answer has no gRPC status: it broke off, or this is no gRPC server".to_owned()));
        }
        None => of_http(answer.response.status),
    };
    if status == 0 {
        // A message that is not whole says nothing that matters: the status says that the records are stored.
        let body = answer.response.body.get(5..).map_or_else(Bytes::new, |_| answer.response.body.slice(5..));
        return Ok(Response { status, retry_after: None, body, note: None });
    }
    let details = header("grpc-status-details-bin").and_then(base64);
    let retry_after = details.as_deref().and_then(retry_info).or(answer.response.retry_after);
    let body = match details {
        Some(details) => details.into(),
        None => percent_encoding::percent_decode_str(header("grpc-message").unwrap_or_default()).collect(),
    };
    Ok(Response { status, retry_after, body, note: None })
}

/// What an answer of HTTP means that is none of gRPC ("HTTP to gRPC Status Code Mapping", `http-grpc-status-mapping.md`).
fn of_http(status: u16) -> u16 {
    match status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => 14,
        // Not in that list: too large, for a proxy.
        413 => 8,
        _ => 2,
    }
}

/// The delay of a `google.rpc.RetryInfo` among the details of a `google.rpc.Status`:
///
/// ```text
/// message Status { int32 code = 1; string message = 2; repeated google.protobuf.Any details = 3; }
/// message Any { string type_url = 1; bytes value = 2; }
/// message RetryInfo { google.protobuf.Duration retry_delay = 1; }    message Duration { int64 seconds = 1; int32 nanos = 2; }
/// ```
fn retry_info(status: &[u8]) -> Option<Duration> {
    let part = |message, number| proto::fields(message).find(move |field| field.number == number).map(|field| field.value);
    let details = proto::fields(status).filter(|field| field.number == 3).map(|field| field.value.bytes());
    let info = details.filter(|any| part(any, 1).is_some_and(|url| url.bytes().ends_with(b"/google.rpc.RetryInfo"))).last()?;
    let delay = part(part(info, 2)?.bytes(), 1).map_or(&b""[..], proto::Wire::bytes);
    let number = |number| part(delay, number).map_or(0, proto::Wire::number);
    let nanos = u32::try_from(number(2)).ok().filter(|nanos| *nanos < 1_000_000_000).unwrap_or(0);
    Some(Duration::new(number(1).min(86_400), nanos))
}

/// Base 64 (RFC 4648), with or without padding.
fn base64(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0_u32, 0);
    for byte in text.trim().trim_end_matches('=').bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    Some(out)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn answer(status: u16, headers: &[(&'static str, &str)], body: &'static [u8]) -> Answer {
        let headers = headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())).collect();
        Answer { response: Response { status, retry_after: None, body: Bytes::from_static(body), note: None }, headers }
    }

    #[test]
    fn outcomes_stand_in_the_trailers() {
        let of = |status, headers: &[(&'static str, &str)], body| {
            outcome(&answer(status, headers, body)).map(|r| (r.status, r.body.to_vec(), r.retry_after))
        };
        assert_eq!(of(200, &[("grpc-status", "0")], b"\0\0\0\0\x02ab").unwrap(), (0, b"ab".to_vec(), None));
        assert_eq!(of(200, &[("grpc-status", "14"), ("grpc-message", "not%20now")], b"").unwrap(), (14, b"not now".to_vec(), None));
        assert!(of(200, &[], b"\0\0\0\0\x02ab").unwrap_err().to_string().contains("no gRPC status"));
        for (http, grpc) in [(400, 13), (401, 16), (403, 7), (404, 12), (413, 8), (429, 14), (503, 14), (500, 2)] {
            assert_eq!(of(http, &[], b"").unwrap().0, grpc, "{http}");
        }
        // Status { code: 8, message: "slow", details: [RetryInfo { retry_delay: 2.5 s }] }
        let mut any = Vec::new();
        proto::bytes(1, b"type.googleapis.com/google.rpc.RetryInfo", &mut any);
        proto::message(2, &mut any, |out| {
            proto::message(1, out, |out| {
                proto::uint(1, 2, out);
                proto::uint(2, 500_000_000, out);
            });
        });
        let mut status = Vec::new();
        proto::uint(1, 8, &mut status);
        proto::bytes(2, b"slow", &mut status);
        proto::bytes(3, &any, &mut status);
        let text = encode(&status);
        let (code, body, wait) = of(200, &[("grpc-status", "8"), ("grpc-status-details-bin", &text)], b"").unwrap();
        assert_eq!((code, body, wait), (8, status, Some(Duration::from_millis(2500))));
    }

    fn encode(bytes: &[u8]) -> String {
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let sextets = (bytes.len() * 8).div_ceil(6);
        let bit = |at: usize| bytes.get(at / 8).map_or(0, |byte| usize::from(byte >> (7 - at % 8) & 1));
        (0..sextets).map(|i| char::from(ALPHABET[(0..6).fold(0, |sum, j| sum << 1 | bit(i * 6 + j))])).collect()
    }

    #[test]
    fn base64_of_all_lengths() {
        for len in 0..9 {
            let bytes: Vec<u8> = (0..len).map(|i: u8| i.wrapping_mul(37).wrapping_add(250)).collect();
            assert_eq!(base64(&encode(&bytes)).unwrap(), bytes);
            assert_eq!(base64(&format!("{}==", encode(&bytes))).unwrap(), bytes);
        }
        assert_eq!(base64("a b"), None);
    }
}
