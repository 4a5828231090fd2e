//! The log format of the container runtime interface, as kubelet reads it (`pkg/kubelet/cri/remote` and
//! `kubernetes/design-proposals-archive: node/kubelet-cri-logging.md`): `<RFC 3339 time> <stdout|stderr> <tags> <content>`,
//! tags separated by colons, the first of them `P` for a partial line and `F` for a full one.

use memchr::memchr;
use skidder_pipeline::value::{Kind, Span};

use super::{Framing, Line, Output, Split, Text};

/// The length of a time with nanoseconds in UTC, as all runtimes write it where the node's zone is UTC.
const USUAL_TIME_BYTES: usize = 30;
/// The longest RFC 3339 time with nanoseconds: `2026-03-10T15:48:15.217676062+08:00`.
const MAX_TIME_BYTES: usize = 35;

/// Splits CRI lines.
pub(crate) struct Cri;

impl Split for Cri {
    #[inline]
    fn split(&mut self, bytes: &[u8], start: usize, end: usize) -> Line {
        header(&bytes[start..end], start).unwrap_or_else(|| Line::bare(start, end, Some(Framing::Cri)))
    }
}

#[inline]
fn header(line: &[u8], start: usize) -> Option<Line> {
    let time_len = match line.get(USUAL_TIME_BYTES - 1..=USUAL_TIME_BYTES) {
        Some(b"Z ") => USUAL_TIME_BYTES,
        _ => memchr(b' ', &line[..line.len().min(MAX_TIME_BYTES + 1)])?,
    };
    if !is_time(&line[..time_len]) {
        return None;
    }
    let rest = &line[time_len + 1..];
    let output = match rest.get(..7)? {
        b"stdout " => Output::Stdout,
        b"stderr " => Output::Stderr,
        _ => return None,
    };
    let partial = match rest.get(7)? {
        b'F' => false,
        b'P' => true,
        _ => return None,
    };
    let message = match rest.get(8) {
        Some(b' ') => time_len + 10,
        None => line.len(),
        Some(b':') => time_len + 10 + memchr(b' ', &rest[8..]).unwrap_or(rest.len() - 9),
        Some(_) => return None,
    };
    Some(Line {
        timestamp: Text { span: Span::new(start, start + time_len), kind: Kind::Text },
        output,
        message: Text { span: Span::new(start + message, start + line.len()), kind: Kind::Text },
        partial,
        malformed: None,
    })
}

/// Whether `text` has the shape of an RFC 3339 time. Its digits are not weighed: what uses the time parses it.
#[inline]
fn is_time(text: &[u8]) -> bool {
    if text.len() < 20 {
        return false;
    }
    let digits = |range: std::ops::Range<usize>| text[range].iter().all(u8::is_ascii_digit);
    let shaped = text[4] == b'-' && text[7] == b'-' && text[10] == b'T' && text[13] == b':' && text[16] == b':';
    shaped && digits(0..4) && digits(5..7) && digits(8..10) && digits(11..13) && digits(14..16) && digits(17..19) && is_tail(&text[19..])
}

/// Whether `text` is a fraction, if any, and a zone.
#[inline]
fn is_tail(text: &[u8]) -> bool {
    let (fraction, zone) = match text {
        [fraction @ .., b'Z'] => (fraction, true),
        [fraction @ .., b'+' | b'-', a, b, b':', c, d] => (fraction, [a, b, c, d].iter().all(|x| x.is_ascii_digit())),
        _ => return false,
    };
    zone && match fraction {
        [] => true,
        [b'.', digits @ ..] => !digits.is_empty() && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Line, then stream, partial and message; `None` where the line is not of the form.
    type Case = (&'static str, Option<(Output, bool, &'static str)>);

    #[test]
    fn lines_as_runtimes_write_them_and_as_they_should_not() {
        let cases: &[Case] = &[
            ("2026-03-10T15:48:15.217676062Z stdout F hello", Some((Output::Stdout, false, "hello"))),
            ("2026-03-10T15:48:15.217676062Z stderr P half", Some((Output::Stderr, true, "half"))),
            ("2026-03-10T15:48:15.217676062+08:00 stdout F off", Some((Output::Stdout, false, "off"))),
            ("2026-03-10T15:48:15.21-03:30 stdout F short", Some((Output::Stdout, false, "short"))),
            ("2026-03-10T15:48:15Z stdout F no fraction", Some((Output::Stdout, false, "no fraction"))),
            ("2026-03-10T15:48:15Z stdout F  indented", Some((Output::Stdout, false, " indented"))),
            ("2026-03-10T15:48:15.217676062Z stdout F ", Some((Output::Stdout, false, ""))),
            ("2026-03-10T15:48:15.217676062Z stdout F", Some((Output::Stdout, false, ""))),
            ("2026-03-10T15:48:15.217676062Z stdout F  two", Some((Output::Stdout, false, " two"))),
            ("2026-03-10T15:48:15.217676062Z stdout P:tag:x a", Some((Output::Stdout, true, "a"))),
            ("2026-03-10T15:48:15.217676062Z stdout F:tag", Some((Output::Stdout, false, ""))),
            ("2026-03-10T15:48:15.217676062Z stdout F: a", Some((Output::Stdout, false, "a"))),
            // VictoriaLogs#1217: containerd merged two writes.
            ("2026-03-10T15:48:15.217676062+08:00 stdout 2026-03-10T16:03:15.223186693+08:00 stdout F + true", None),
            ("2026-03-10T15:48:15.217676062Z stdin F x", None),
            ("2026-03-10T15:48:15.217676062Z stdout X x", None),
            ("2026-03-10T15:48:15.217676062Z stdout Fx", None),
            ("2026-03-10 15:48:15.217676062Z stdout F x", None),
            ("2026-03-10T15:48:15.2176a6062Z stdout F x", None),
            ("2026-03-10T15:48:15.Z stdout F x", None),
            ("15.217676062Z stdout F starts in the middle", None),
            ("2026-03-10T15:48:15.217676062Z stdout", None),
            ("2026-03-10T15:48:15.217676062Z", None),
            ("just words", None),
            ("", None),
        ];
        for (line, expected) in cases {
            let text = format!("xx{line}");
            let split = Cri.split(text.as_bytes(), 2, text.len());
            match expected {
                Some((output, partial, message)) => {
                    assert_eq!((split.output, split.partial, split.malformed), (*output, *partial, None), "{line}");
                    assert_eq!(split.message.span.of(text.as_bytes()), message.as_bytes(), "{line}");
                    assert_eq!(split.timestamp.span.of(text.as_bytes()), line.split(' ').next().unwrap_or("").as_bytes());
                }
                None => {
                    assert_eq!(split.malformed, Some(Framing::Cri), "{line}");
                    assert_eq!(split.message.span.of(text.as_bytes()), line.as_bytes(), "{line}");
                }
            }
        }
    }
}
