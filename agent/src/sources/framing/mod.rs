//! Framing: what a line of a log file is made of, before anything is known of its content.
//!
//! A splitter looks at one line and says where its time, its stream and its message lie. It decides by that line alone,
//! copies nothing, and never fails: a line that is not of its form is a message as it stands, marked.

mod cri;
mod docker;

use memchr::memchr;
use schemars::JsonSchema;
use serde::Deserialize;
use skidder_pipeline::value::{Kind, Span};

pub(crate) use cri::Cri;
pub(crate) use docker::Docker;

use super::assemble::constants;

/// How the lines of a source are framed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// The files of containerd and CRI-O: `2026-03-10T15:48:15.217676062Z stdout F message`.
    Cri,
    /// Docker's `json-file`: `{"log":"message\n","stream":"stdout","time":"…"}`.
    Docker,
    /// Each line is a message; its time is that of reading.
    Raw,
    /// Decided for each file by its first line, and by no later one.
    #[default]
    Auto,
}

impl Format {
    /// The framing of a file that starts with `first_line`.
    pub(crate) fn decide(self, first_line: &[u8]) -> Framing {
        match self {
            Format::Cri => Framing::Cri,
            Format::Docker => Framing::Docker,
            Format::Raw => Framing::Raw,
            Format::Auto => {
                let line = first_line.strip_suffix(b"\n").unwrap_or(first_line);
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                if Cri.split(line, 0, line.len()).malformed.is_none() {
                    Framing::Cri
                } else if Docker::default().split(line, 0, line.len()).malformed.is_none() {
                    Framing::Docker
                } else {
                    Framing::Raw
                }
            }
        }
    }
}

/// A decided framing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Framing {
    Cri,
    Docker,
    Raw,
}

/// Which of a container's streams a line belongs to. Lines of different outputs are never joined.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Output {
    Stdout,
    Stderr,
    /// The file is one stream.
    Single,
}

/// The number of [`Output`]s.
pub(crate) const OUTPUTS: usize = 3;

/// A stretch of text in one of its two forms.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Text {
    pub span: Span,
    /// [`Kind::Text`] or [`Kind::String`].
    pub kind: Kind,
}

/// A line taken apart; all spans are in the bytes that were split.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line {
    pub timestamp: Text,
    pub output: Output,
    pub message: Text,
    /// The record goes on in the next line of the same output.
    pub partial: bool,
    /// The framing that the line should have had and has not.
    pub malformed: Option<Framing>,
}

impl Line {
    /// The line `start..end` as a message that has nothing else.
    pub(crate) fn bare(start: usize, end: usize, malformed: Option<Framing>) -> Line {
        Line {
            timestamp: Text { span: constants::READ_TIME, kind: Kind::Text },
            output: Output::Single,
            message: Text { span: Span::new(start, end), kind: Kind::Text },
            partial: false,
            malformed,
        }
    }
}

/// Takes lines apart.
pub(crate) trait Split {
    /// Takes `bytes[start..end]` apart, a line without its newline and carriage return.
    fn split(&mut self, bytes: &[u8], start: usize, end: usize) -> Line;
}

/// Lines that are messages as they stand.
pub(crate) struct Raw;

impl Split for Raw {
    #[inline]
    fn split(&mut self, _bytes: &[u8], start: usize, end: usize) -> Line {
        Line::bare(start, end, None)
    }
}

/// The first line of `head` with its newline, if it is complete.
pub(crate) fn first_line(head: &[u8]) -> Option<&[u8]> {
    memchr(b'\n', head).map(|newline| &head[..=newline])
}
