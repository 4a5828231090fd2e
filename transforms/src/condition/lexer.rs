//! The words of a condition.

use skidder_pipeline::path::{Path, is_bare};

use super::{ConditionError, Literal};

/// A word, and the byte that it starts at.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) kind: TokenKind,
    pub(super) at: usize,
}

#[derive(Clone, Debug)]
pub(super) enum TokenKind {
    /// A field path or, where the parser expects one, an operator in letters. The text is as it was written.
    Name(String, Path),
    Literal(Literal),
    /// Punctuation and operators of signs: `==`, `(`, `&&`.
    Sign(&'static str),
    End,
}

/// Longer signs first, so that `<=` is not read as `<`.
const SIGNS: [&str; 17] = ["==", "!=", "<=", ">=", "=~", "!~", "&&", "||", "<", ">", "!", "(", ")", "[", "]", ",", "="];

/// Reads words one after the other.
pub(super) struct Lexer<'a> {
    source: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(source: &'a str) -> Lexer<'a> {
        Lexer { source, at: 0 }
    }

    /// An error at byte `at`.
    pub(super) fn error(&self, at: usize, message: impl Into<String>, help: Option<&str>) -> ConditionError {
        let column = self.source[..at].chars().count() + 1;
        ConditionError { column, message: message.into(), help: help.map(str::to_owned) }
    }

    fn rest(&self) -> &'a str {
        &self.source[self.at..]
    }

    fn white_space(&mut self) {
        self.at = self.source.len() - self.rest().trim_start().len();
    }

    pub(super) fn next(&mut self) -> Result<Token, ConditionError> {
        self.white_space();
        let at = self.at;
        let rest = self.rest();
        let Some(first) = rest.chars().next() else { return Ok(Token { kind: TokenKind::End, at }) };
        let number = first.is_ascii_digit() || (matches!(first, '-' | '+') && rest[1..].starts_with(|c: char| c.is_ascii_digit()));
        let kind = if let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            self.at += sign.len();
            TokenKind::Sign(sign)
        } else if matches!(first, '"' | '\'') {
            TokenKind::Literal(Literal::Text(self.string(first)?.into_bytes().into()))
        } else if number {
            TokenKind::Literal(Literal::Number(self.number()?))
        } else if is_bare(first) || first == '.' {
            self.name()?
        } else {
            return Err(self.error(at, format!("`{first}` has no meaning here"), None));
        };
        Ok(Token { kind, at })
    }

    /// Stands at the opening quote.
    fn string(&mut self, quote: char) -> Result<String, ConditionError> {
        let start = self.at;
        let mut out = String::new();
        let mut chars = self.rest().char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                c if c == quote => {
                    self.at += at + 1;
                    return Ok(out);
                }
                '\\' => match chars.next() {
                    Some((_, 'n')) => out.push('\n'),
                    Some((_, 't')) => out.push('\t'),
                    Some((_, 'r')) => out.push('\r'),
                    Some((_, c @ ('"' | '\'' | '\\' | '/'))) => out.push(c),
                    _ => {
                        let help = "these may follow it: n t r \" ' \\ /; a regular expression is easier to write between slashes";
                        return Err(self.error(start + at, "`\\` is followed by a character that it has no meaning with", Some(help)));
                    }
                },
                c => out.push(c),
            }
        }
        Err(self.error(start, "the quote is not closed", Some("end the text with the same quote")))
    }

    fn number(&mut self) -> Result<f64, ConditionError> {
        let start = self.at;
        let mut before = ' ';
        let length = self.rest().find(|c: char| {
            let in_number =
                c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E') || (matches!(c, '+' | '-') && matches!(before, ' ' | 'e' | 'E'));
            before = c;
            !in_number
        });
        let text = &self.rest()[..length.unwrap_or(self.rest().len())];
        self.at += text.len();
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() && !self.rest().starts_with(is_bare) => Ok(number),
            _ => Err(self.error(
                start,
                "this is no number",
                Some("a field whose name starts with a digit is written with a dot before it: `.5xx`"),
            )),
        }
    }

    /// A path: bare or quoted keys with dots between.
    fn name(&mut self) -> Result<TokenKind, ConditionError> {
        let start = self.at;
        let mut quoted = false;
        let length = self.rest().find(|c: char| {
            quoted ^= c == '"';
            !(quoted || c == '"' || c == '.' || is_bare(c))
        });
        let text = &self.rest()[..length.unwrap_or(self.rest().len())];
        self.at += text.len();
        match Path::parse(text) {
            Ok(path) => Ok(TokenKind::Name(text.to_owned(), path)),
            Err(error) => Err(self.error(start, error.to_string(), None)),
        }
    }

    /// A regular expression between slashes, in which `\/` is a slash; `None` where there is no slash.
    pub(super) fn regex(&mut self) -> Result<Option<(String, usize)>, ConditionError> {
        self.white_space();
        let start = self.at;
        if !self.rest().starts_with('/') {
            return Ok(None);
        }
        let mut out = String::new();
        let mut chars = self.rest().char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                '/' => {
                    self.at += at + 1;
                    return Ok(Some((out, start)));
                }
                '\\' => match chars.next() {
                    Some((_, '/')) => out.push('/'),
                    Some((_, c)) => out.extend(['\\', c]),
                    None => out.push('\\'),
                },
                c => out.push(c),
            }
        }
        Err(self.error(start, "the regular expression is not closed", Some("end it with a slash; write a slash within it as `\\/`")))
    }
}
