//! What receivers' answers mean: OTLP specification 1.9, "OTLP/gRPC Response" and "OTLP/HTTP Response".

use skidder_pipeline::sink::{Response, Verdict};

use crate::common::proto;

/// What an answer means.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// That.
    Verdict(Verdict),
    /// So many records were refused, and it is not said which; or none, and there is a warning. The request must not be made again.
    Partial {
        /// How many.
        refused: u64,
        /// The receiver's words. May quote records.
        message: String,
    },
}

/// An answer by HTTP.
pub fn of_http(response: &Response, records: u32) -> Answer {
    let status = response.status;
    let reason = || format!("HTTP {status}");
    Answer::Verdict(match status {
        200..=299 => return of_success(&response.body),
        // Not in the specification; receivers and proxies use it for bodies that are too large.
        413 => Verdict::Split,
        // 408 says that the request did not arrive whole.
        408 | 429 | 502..=504 => Verdict::Retry { reason: reason() },
        400 if records > 1 => Verdict::Split,
        // Credentials, the path, the protocol: other data would not change it.
        401 | 403 | 404 | 405 | 407 | 415 => Verdict::Pause { reason: reason() },
        300..=399 => Verdict::Pause { reason: reason() },
        _ => Verdict::Reject { status, reason: said(&status_message(&response.body), &reason()) },
    })
}

/// An answer by gRPC, whose status is gRPC's.
pub fn of_grpc(response: &Response, records: u32) -> Answer {
    let name = code_name(response.status);
    let reason = || name.to_owned();
    Answer::Verdict(match response.status {
        0 => return of_success(&response.body),
        // CANCELLED, DEADLINE_EXCEEDED, ABORTED, OUT_OF_RANGE, UNAVAILABLE, DATA_LOSS
        1 | 4 | 10 | 11 | 14 | 15 => Verdict::Retry { reason: reason() },
        // RESOURCE_EXHAUSTED: only with a time to wait does it say that the receiver is busy. Without, it is mostly that the
        // message is larger than it takes.
        8 if response.retry_after.is_some() => Verdict::Retry { reason: reason() },
        8 => Verdict::Split,
        // INVALID_ARGUMENT
        3 if records > 1 => Verdict::Split,
        // NOT_FOUND, PERMISSION_DENIED, UNIMPLEMENTED, UNAUTHENTICATED
        5 | 7 | 12 | 16 => Verdict::Pause { reason: reason() },
        status => Verdict::Reject { status, reason: said(&status_message(&response.body), name) },
    })
}

fn said(message: &str, otherwise: &str) -> String {
    if message.is_empty() { otherwise.to_owned() } else { format!("{otherwise}: {message}") }
}

/// `ExportLogsServiceResponse { ExportLogsPartialSuccess partial_success = 1; }` with `{ int64 rejected_log_records = 1; string
/// error_message = 2; }`. An answer in another form is a success all the same.
fn of_success(body: &[u8]) -> Answer {
    let Some(partial) = proto::fields(body).find(|field| field.number == 1) else {
        return Answer::Verdict(Verdict::Delivered { duplicates: 0 });
    };
    let part = |number| proto::fields(partial.value.bytes()).find(|field| field.number == number).map(|field| field.value);
    let refused = part(1).map_or(0, proto::Wire::number);
    let message = part(2).map_or_else(String::new, |text| String::from_utf8_lossy(text.bytes()).into_owned());
    if refused == 0 && message.is_empty() {
        return Answer::Verdict(Verdict::Delivered { duplicates: 0 });
    }
    Answer::Partial { refused, message }
}

/// The message of a `google.rpc.Status { int32 code = 1; string message = 2; }`, or the text that stands there instead.
fn status_message(body: &[u8]) -> String {
    let mut fields = proto::fields(body);
    let message = fields.by_ref().filter(|field| field.number == 2).last().map(|field| field.value.bytes());
    match message {
        Some(message) if fields.is_whole() => String::from_utf8_lossy(message).into_owned(),
        _ => String::from_utf8_lossy(body).trim().to_owned(),
    }
}

/// The name of a status (gRPC, "Status codes and their use in gRPC").
fn code_name(code: u16) -> &'static str {
    const NAMES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    NAMES.get(usize::from(code)).unwrap_or(&"an unknown status")
}
