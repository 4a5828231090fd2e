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
    // A string without its end makes the array around it look unclosed at the same place: the string is what to mend.
    errors.sort_by_key(|error| (error.span().map_or(0, |span| span.start), error.message().starts_with("unclosed")));
    if errors.iter().any(|e| e.message().starts_with("unclosed array") || e.message().starts_with("unclosed inline table"))
        && let Some((start, bracket)) = document.root.values().filter_map(|value| unclosed(value, text)).min()
    {
        let what = if bracket == '[' { "array" } else { "inline table" };
        let help = format!("add the closing `{}`; what comes after it was not checked", if bracket == '[' { ']' } else { '}' });
        found.push(Diagnostic::error("", start..start + 1, format!("this {what} is not closed")).help(help));
        document.guessed.push(start..usize::MAX);
    }
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        if document.guessed.iter().any(|guessed| guessed.contains(&span.start)) {
            continue;
        }
        let line = line_around(text, span.start);
        if error.message() == "duplicate key" {
            if text[line.clone()].trim_start().starts_with('[') {
                // Its content was put into the first table of the name.
                document.guessed.push(line.start..next_header(text, line.end));
            }
            found.push(duplicate(text, span));
        } else {
            // The first mistake of a line; the others there are mostly its echoes.
            document.guessed.push(line);
            let message = error.message();
            found.push(Diagnostic::error("", span, message.strip_suffix(", expected literal string").unwrap_or(message)));
        }
    }
    document
}

/// Where the first bracket stands that is not closed, in a file that has one.
///
/// The parser ends a value without its bracket at some later place: where another bracket closes, or the file ends.
fn unclosed(value: &Spanned<DeValue<'_>>, text: &str) -> Option<(usize, char)> {
    let span = value.span();
    let (opening, closing, children): (_, _, Vec<&Spanned<DeValue<'_>>>) = match value.get_ref() {
        DeValue::Array(array) => ('[', ']', array.iter().collect()),
        DeValue::Table(table) => ('{', '}', table.values().collect()),
        _ => return None,
    };
    let raw = text.get(span.clone()).unwrap_or_default();
    let is_bracket = |child: &Spanned<DeValue<'_>>| child.get_ref().is_array() || child.get_ref().is_table();
    // The bracket at its end may be that of its last child. (An array of tables has the span of its first header.)
    let taken = children.iter().any(|child| is_bracket(child) && child.span().start > span.start && child.span().end == span.end);
    if raw.starts_with(opening) && (!raw.ends_with(closing) || taken) {
        return Some((span.start, opening));
    }
    children.into_iter().filter_map(|child| unclosed(child, text)).min()
}

fn next_header(text: &str, from: usize) -> usize {
    let mut at = from;
    for line in text[from..].split_inclusive('\n') {
        if line.trim_start().starts_with('[') {
            break;
        }
        at += line.len();
    }
    at
}

/// The error for a key or table that is defined twice, with where it was defined first, as far as the text tells.
fn duplicate(text: &str, span: Range<usize>) -> Diagnostic {
    let line = line_around(text, span.start);
    let own = text.get(span.clone()).unwrap_or_default().to_owned();
    if !text[line.clone()].trim_start().starts_with('[') && text[line.start..span.start].contains('=') {
        return Diagnostic::error("", span, format!("`{own}` stands twice in this inline table")).help("remove one of them");
    }
    let name = header_or_key(&text[line.clone()]).unwrap_or(own);
    let is_table = name.starts_with('[');
    let (mut first, mut table, mut at) = (None, String::new(), 0);
    for earlier in text[..line.start].split_inclusive('\n') {
        if header_or_key(earlier).as_ref() == Some(&name) {
            first = Some(at + (earlier.len() - earlier.trim_start().len())..at + earlier.trim_end().len());
        } else if earlier.trim_start().starts_with('[') && !is_table {
            // A key belongs to its table: what stands above the table's header is another key.
            first = None;
            table = header_or_key(earlier).unwrap_or_default();
        }
        at += earlier.len();
    }
    let (name, table) = (name.trim_matches(['[', ']']), table.trim_matches(['[', ']']));
    let key = if table.is_empty() { name.to_owned() } else { format!("{table}.{name}") };
    let error = Diagnostic::error(key, span, format!("`{name}` is defined twice")).help(match is_table {
        true => "every name stands once in a file: give this one another, or put both together",
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
