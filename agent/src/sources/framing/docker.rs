//! Docker's `json-file` (moby `daemon/logger/jsonfilelog/jsonlog`): one JSON object a line, `log` with the text and its
//! newline, `stream`, `time`. The daemon cuts what a container writes without a newline at 16 KiB; a piece that does not
//! end with a newline goes on in the next object of the same stream.

use skidder_pipeline::batch::Field;
use skidder_pipeline::json;
use skidder_pipeline::value::{Kind, Span};

use super::{Framing, Line, Output, Split, Text};

/// Splits Docker's lines. The text stays escaped as it is: nothing is decoded.
#[derive(Default)]
pub(crate) struct Docker {
    fields: Vec<Field>,
}

impl Split for Docker {
    fn split(&mut self, bytes: &[u8], start: usize, end: usize) -> Line {
        self.members(bytes, start, end).unwrap_or_else(|| Line::bare(start, end, Some(Framing::Docker)))
    }
}

impl Docker {
    fn members(&mut self, bytes: &[u8], start: usize, end: usize) -> Option<Line> {
        self.fields.clear();
        json::walk(bytes, Span::new(start, end), &mut self.fields).ok()?;
        let string = |key: &[u8]| self.fields.iter().find(|f| f.key.of(bytes) == key && f.kind == Kind::String).map(|f| f.value);
        let log = string(b"log")?;
        let mut line = Line::bare(start, end, None);
        if let Some(time) = string(b"time") {
            line.timestamp = Text { span: time, kind: Kind::String };
        }
        line.output = match string(b"stream").map(|stream| stream.of(bytes)) {
            Some(b"stdout") => Output::Stdout,
            Some(b"stderr") => Output::Stderr,
            _ => Output::Single,
        };
        let text = log.of(bytes);
        let (len, whole) = match strip_escape(text, b'n') {
            Some(len) => (strip_escape(&text[..len], b'r').unwrap_or(len), true),
            None => (text.len(), false),
        };
        line.partial = !whole;
        line.message = Text { span: Span::new(log.start as usize, log.start as usize + len), kind: Kind::String };
        Some(line)
    }
}

/// The length of `text` without the escape `\<letter>` at its end, if it ends so.
fn strip_escape(text: &[u8], letter: u8) -> Option<usize> {
    let before = text.strip_suffix(&[letter])?;
    let backslashes = before.iter().rev().take_while(|b| **b == b'\\').count();
    (backslashes % 2 == 1).then(|| before.len() - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Line, then stream, partial and message; `None` where the line is not of the form.
    type Case = (&'static str, Option<(Output, bool, &'static str)>);

    #[test]
    fn lines_as_docker_writes_them_and_as_it_should_not() {
        let cases: &[Case] = &[
            (r#"{"log":"hello\n","stream":"stdout","time":"2026-03-10T15:48:15.2Z"}"#, Some((Output::Stdout, false, "hello"))),
            (r#"{"log":"half","stream":"stderr","time":"2026-03-10T15:48:15.2Z"}"#, Some((Output::Stderr, true, "half"))),
            (r#"{"log":"a \"b\"\t\r\n","stream":"stdout","time":"t"}"#, Some((Output::Stdout, false, r#"a \"b\"\t"#))),
            (r#"{"log":"backslash n \\n","stream":"stdout","time":"t"}"#, Some((Output::Stdout, true, r"backslash n \\n"))),
            (r#"{"log":"both \\\n","stream":"stdout","time":"t"}"#, Some((Output::Stdout, false, r"both \\"))),
            (r#"{"log":"\n","stream":"stdout","time":"t"}"#, Some((Output::Stdout, false, ""))),
            (r#"{"time":"t","attrs":{"log":"no"},"stream":"stdout","log":"order\n"}"#, Some((Output::Stdout, false, "order"))),
            (r#"{"log":"no stream\n"}"#, Some((Output::Single, false, "no stream"))),
            (r#"{"log":7,"stream":"stdout","time":"t"}"#, None),
            (r#"{"log":"cut off"#, None),
            (r#"{"stream":"stdout"}"#, None),
            ("words", None),
            ("", None),
        ];
        for (line, expected) in cases {
            let split = Docker::default().split(line.as_bytes(), 0, line.len());
            match expected {
                Some((output, partial, message)) => {
                    assert_eq!((split.output, split.partial, split.malformed), (*output, *partial, None), "{line}");
                    assert_eq!(split.message.span.of(line.as_bytes()), message.as_bytes(), "{line}");
                    assert_eq!(split.message.kind, Kind::String);
                }
                None => assert_eq!(split.malformed, Some(Framing::Docker), "{line}"),
            }
        }
    }
}
