//! The bytes that every batch of a source begins with, so that keys and fixed values cost a record nothing.

use jiff::Timestamp;
use skidder_pipeline::value::Span;

/// Keys and fixed values, and room for the time of reading.
const TEXT: &[u8] = b"timestampstreammessageparse_errorinvalid_utf8truncatedoriginal_bytesunterminatedpartparts\
truecridockerstdoutstderr----------T--:--:--.---------Z";

/// The length of the text that a batch begins with.
pub(crate) const HEAD: usize = TEXT.len();

pub(crate) const TIMESTAMP: Span = Span { start: 0, end: 9 };
pub(crate) const STREAM: Span = after(TIMESTAMP, 6);
pub(crate) const MESSAGE: Span = after(STREAM, 7);
pub(crate) const PARSE_ERROR: Span = after(MESSAGE, 11);
pub(crate) const INVALID_UTF8: Span = after(PARSE_ERROR, 12);
pub(crate) const TRUNCATED: Span = after(INVALID_UTF8, 9);
pub(crate) const ORIGINAL_BYTES: Span = after(TRUNCATED, 14);
pub(crate) const UNTERMINATED: Span = after(ORIGINAL_BYTES, 12);
pub(crate) const PART: Span = after(UNTERMINATED, 4);
pub(crate) const PARTS: Span = after(PART, 5);
pub(crate) const TRUE: Span = after(PARTS, 4);
pub(crate) const CRI: Span = after(TRUE, 3);
pub(crate) const DOCKER: Span = after(CRI, 6);
pub(crate) const STDOUT: Span = after(DOCKER, 6);
pub(crate) const STDERR: Span = after(STDOUT, 6);
/// The time of reading, for lines that have none of their own: one for the whole batch.
pub(crate) const READ_TIME: Span = after(STDERR, 30);

const fn after(span: Span, len: u32) -> Span {
    Span { start: span.end, end: span.end + len }
}

/// Makes `bytes` begin with the head and be `len` bytes long beyond it. What it held there before may still be there: the
/// allocation of the last chunk is read into again without being wiped.
pub(crate) fn prepare(bytes: &mut Vec<u8>, len: usize, unix_nanos: i64) {
    bytes.resize(HEAD + len, 0);
    bytes[..HEAD].copy_from_slice(TEXT);
    let time = Timestamp::from_nanosecond(i128::from(unix_nanos)).unwrap_or(Timestamp::UNIX_EPOCH);
    let text = format!("{time:.9}");
    let room = &mut bytes[READ_TIME.start as usize..READ_TIME.end as usize];
    // Years of more than four digits, which no `i64` of nanoseconds reaches, would not fit.
    if text.len() == room.len() {
        room.copy_from_slice(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_what_their_names_say() {
        let mut bytes = Vec::new();
        prepare(&mut bytes, 0, 1_773_157_695_217_676_062);
        let words = [
            (TIMESTAMP, "timestamp"),
            (STREAM, "stream"),
            (MESSAGE, "message"),
            (PARSE_ERROR, "parse_error"),
            (INVALID_UTF8, "invalid_utf8"),
            (TRUNCATED, "truncated"),
            (ORIGINAL_BYTES, "original_bytes"),
            (UNTERMINATED, "unterminated"),
            (PART, "part"),
            (PARTS, "parts"),
            (TRUE, "true"),
            (CRI, "cri"),
            (DOCKER, "docker"),
            (STDOUT, "stdout"),
            (STDERR, "stderr"),
            (READ_TIME, "2026-03-10T15:48:15.217676062Z"),
        ];
        for (span, word) in words {
            assert_eq!(String::from_utf8_lossy(span.of(&bytes)), word);
        }
        assert_eq!(bytes.len(), HEAD);
    }
}
