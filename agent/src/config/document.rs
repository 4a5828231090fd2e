//! From the bytes of a file to its spanned tree, with all mistakes of syntax.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::{Diagnostic, Diagnostics, SourceText};

/// More than this is no configuration but a mistake in a path.
pub const MAX_FILE_BYTES: usize = 16 << 20;

/// Reads bytes as text. What is no UTF-8 is reported, and replaced so that the line can be shown.
pub fn decode(name: &str, bytes: &[u8], found: &mut Diagnostics) -> SourceText {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if let Err(error) = std::str::from_utf8(bytes) {
        let offset = error.valid_up_to();
        let line = bytes.iter().take(offset).filter(|byte| **byte == b'\n').count() + 1;
        let byte = bytes.get(offset).copied().unwrap_or_default();
        let message = format!("the file is not UTF-8: byte {byte:#04x} at offset {offset}, on line {line}");
        let span = offset..offset + char::REPLACEMENT_CHARACTER.len_utf8();
        found.push(Diagnostic::error("", span, message).help("save it as UTF-8; the rest was not checked"));
    }
    SourceText { name: name.to_owned(), text: String::from_utf8_lossy(bytes).into_owned() }
}

/// What could be read of a file with mistakes of syntax.
pub struct Document<'i> {
    /// The tree; of a file with mistakes, what the parser made of it.
    pub root: DeTable<'i>,
    /// Whether the tree is all that stands in the file.
    pub whole: bool,
    /// Places that the parser guessed at: whole lines, and all that an unclosed bracket swallowed. What is found there
    /// follows from a mistake that was reported already.
    guessed: Vec<Range<usize>>,
}

impl Document<'_> {
    /// Drops from `found` what may only follow from the mistakes of syntax: `Document::parse` has reported those itself.
    pub fn forget_consequences(&self, found: &mut Diagnostics) {
        if !self.whole {
            found.retain(|d| !d.absence && d.span.as_ref().is_some_and(|s| !self.guessed.iter().any(|g| g.contains(&s.start))));
        }
    }
}

/// Reads the tree, and reports every mistake of syntax into `found`.
pub fn parse<'i>(text: &'i str, found: &mut Diagnostics) -> Document<'i> {
    let (root, mut errors) = DeTable::parse_recoverable(text);
    let root = root.into_inner();
    let mut document = Document { whole: errors.is_empty(), guessed: Vec::new(), root };
    errors.sort_by_key(|error| error.span().map_or(0, |span| span.start));
    let unclosed = errors.iter().any(|e| e.message().starts_with("unclosed")).then(|| unclosed_start(&document.root, text)).flatten();
    if let Some((start, what)) = unclosed {
        document.guessed.push(start..usize::MAX);
        found.push(Diagnostic::error("", start..start + 1, format!("this {what} is not closed")).help(format!(
            "add the closing `{}`; what comes after it was not checked",
            if what == "array" { ']' } else { '}' }
        )));
    }
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        if document.guessed.iter().any(|guessed| guessed.contains(&span.start)) {
            continue;
        }
        if error.message() == "duplicate key" {
            found.push(duplicate(text, span));
        } else {
            // The first mistake of a line; the others there are mostly its echoes.
            document.guessed.push(line_around(text, span.start));
            found.push(Diagnostic::error("", span, error.message()));
        }
    }
    document
}

/// The outermost bracket that runs to the end of the file.
fn unclosed_start(root: &DeTable<'_>, text: &str) -> Option<(usize, &'static str)> {
    let end = text.trim_end().len();
    let starts = root.values().filter_map(|value| unclosed_in(value, text, end));
    starts.min()
}

fn unclosed_in(value: &Spanned<DeValue<'_>>, text: &str, end: usize) -> Option<(usize, &'static str)> {
    let span = value.span();
    let opens = |bracket| text.get(span.start..).is_some_and(|rest| rest.starts_with(bracket));
    let inside = |values: &mut dyn Iterator<Item = &Spanned<DeValue<'_>>>| values.filter_map(|v| unclosed_in(v, text, end)).min();
    match value.get_ref() {
        DeValue::Array(_) if span.end >= end && opens('[') => Some((span.start, "array")),
        DeValue::Table(_) if span.end >= end && opens('{') => Some((span.start, "inline table")),
        DeValue::Array(array) => inside(&mut array.iter()),
        DeValue::Table(table) => inside(&mut table.values()),
        _ => None,
    }
}

/// The error for a key or table that is defined twice, with where it was defined first, as far as the text tells.
fn duplicate(text: &str, span: Range<usize>) -> Diagnostic {
    let line = line_around(text, span.start);
    let this = header_or_key(&text[line.clone()]);
    let mut first = None;
    let mut at = 0;
    for earlier in text[..line.start].split_inclusive('\n') {
        let is_header = earlier.trim_start().starts_with('[');
        if this.is_some() && header_or_key(earlier) == this {
            first = Some(at + (earlier.len() - earlier.trim_start().len())..at + earlier.trim_end().len());
        } else if is_header && this.as_ref().is_some_and(|this| !this.starts_with('[')) {
            // A key belongs to its table: what stands above the table's header is another key.
            first = None;
        }
        at += earlier.len();
    }
    let name = this.unwrap_or_else(|| text.get(span.clone()).unwrap_or_default().to_owned());
    let is_table = name.starts_with('[');
    let key = name.trim_matches(['[', ']']).to_owned();
    let error = Diagnostic::error(&key, span, format!("`{key}` is defined twice")).help(match is_table {
        true => "every name stands once in a file: give this one another name, or put both together",
        false => "remove one of them",
    });
    match first {
        Some(first) => error.also(first, "first defined here"),
        None => error,
    }
}

/// `[a.b]` of a header's line, `a.b` of a key's line; without the blanks inside.
fn header_or_key(line: &str) -> Option<String> {
    let line = line.trim();
    let end = match line.starts_with('[') {
        true => line.find(']').map(|end| end + 1),
        false => line.find('='),
    };
    end.map(|end| line[..end].split_whitespace().collect())
}

fn line_around(text: &str, at: usize) -> Range<usize> {
    let at = at.min(text.len());
    let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let end = text[at..].find('\n').map_or(text.len(), |newline| at + newline + 1);
    start..end.max(start + 1)
}
