//! What is wrong with a configuration, and how it is shown: like rustc, with the line and a caret below it.

use std::ops::Range;

use annotate_snippets::renderer::DEFAULT_TERM_WIDTH;
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

/// One mistake, or one doubt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Whether it keeps the agent from starting.
    pub severity: Severity,
    /// The keys that lead to it, with dots between them; empty for the file as a whole.
    pub key: String,
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// The bytes of the file that it is about; `None` for the file as a whole.
    pub span: Option<Range<usize>>,
    /// What to do about it, a line each.
    pub help: Vec<String>,
    /// Another place that takes part, and what it is.
    pub also: Option<(Range<usize>, String)>,
    /// Whether it is about something that is not there. Where a part of the file could not be read, such a finding may be
    /// wrong, so it is not shown.
    pub absence: bool,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can, but it hardly does what its author wants.
    Warning,
}

impl Diagnostic {
    /// An error with the value, key or table at `span`.
    pub fn error(key: impl ToString, span: impl Into<Option<Range<usize>>>, message: impl ToString) -> Diagnostic {
        Diagnostic {
            severity: Severity::Error,
            key: key.to_string(),
            message: message.to_string(),
            span: span.into(),
            help: Vec::new(),
            also: None,
            absence: false,
        }
    }

    /// A warning about it.
    pub fn warning(key: impl ToString, span: impl Into<Option<Range<usize>>>, message: impl ToString) -> Diagnostic {
        Diagnostic { severity: Severity::Warning, ..Diagnostic::error(key, span, message) }
    }

    /// The same with one more line of advice.
    pub fn help(mut self, help: impl ToString) -> Diagnostic {
        self.help.push(help.to_string());
        self
    }

    /// The same with another place.
    pub fn also(self, span: Range<usize>, label: impl ToString) -> Diagnostic {
        Diagnostic { also: Some((span, label.to_string())), ..self }
    }

    /// The same, marked as being about something that is not there.
    pub fn absence(self) -> Diagnostic {
        Diagnostic { absence: true, ..self }
    }

    /// The same with message and advice changed.
    pub fn rewrite(mut self, change: impl Fn(&str) -> String) -> Diagnostic {
        self.message = change(&self.message);
        self.help.iter_mut().for_each(|help| *help = change(help));
        self
    }

    fn group<'a>(&'a self, file: &'a SourceText) -> Group<'a> {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut title = level.primary_title(&*self.message);
        if !self.key.is_empty() {
            title = title.id(&*self.key);
        }
        let group = match &self.span {
            None => title.element(Origin::path(&*file.name)),
            Some(span) => {
                let also = self.also.iter().map(|(span, label)| AnnotationKind::Context.span(file.first_line(span)).label(&**label));
                title.element(
                    Snippet::source(&*file.text)
                        .path(&*file.name)
                        .annotation(AnnotationKind::Primary.span(file.first_line(span)))
                        .annotations(also),
                )
            }
        };
        group.elements(self.help.iter().map(|help| Level::HELP.message(&**help)))
    }
}

/// The key `name` below the keys of `path`, as TOML would write it.
pub fn join(path: &str, name: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let is_bare = !name.is_empty() && name.chars().all(bare);
    match (path, is_bare) {
        ("", true) => name.to_owned(),
        ("", false) => format!("{name:?}"),
        (path, true) => format!("{path}.{name}"),
        (path, false) => format!("{path}.{name:?}"),
    }
}

/// The file as it is shown.
#[derive(Clone, Debug)]
pub struct SourceText {
    /// Its name as the user gave it.
    pub name: String,
    /// Its text without a byte order mark; what is no UTF-8 is replaced.
    pub text: String,
}

impl SourceText {
    /// The part of `span` that is on its first line: an underline over several lines is hard to read.
    fn first_line(&self, span: &Range<usize>) -> Range<usize> {
        let start = span.start.min(self.text.len());
        let end = span.end.clamp(start, self.text.len());
        let shown = self.text.get(start..end).unwrap_or_default();
        let line = shown.split(['\n', '\r']).next().unwrap_or_default();
        start..start + line.len()
    }
}

/// All that was found in one file.
#[derive(Clone, Debug, Default)]
pub struct Diagnostics {
    list: Vec<Diagnostic>,
}

impl Diagnostics {
    /// Adds one, unless the same is there already.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        if !self.list.contains(&diagnostic) {
            self.list.push(diagnostic);
        }
    }

    /// All of them, errors and warnings, by position.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.list.iter()
    }

    /// How many are errors.
    pub fn errors(&self) -> usize {
        self.list.iter().filter(|d| d.severity == Severity::Error).count()
    }

    /// How many are warnings.
    pub fn warnings(&self) -> usize {
        self.list.len() - self.errors()
    }

    /// Sorts by position; what concerns the file as a whole comes last, what concerns one place stays in order of finding.
    pub fn sort(&mut self) {
        self.list.sort_by_key(|d| d.span.as_ref().map_or((usize::MAX, usize::MAX), |span| (span.start, span.end)));
    }

    /// Puts what `change` makes of each in its place.
    pub fn replace(&mut self, change: impl FnMut(Diagnostic) -> Diagnostic) {
        self.list = std::mem::take(&mut self.list).into_iter().map(change).collect();
    }

    /// Drops those that `keep` refuses.
    pub fn retain(&mut self, keep: impl FnMut(&Diagnostic) -> bool) {
        self.list.retain(keep);
    }

    /// All of them as text, each with its lines, and a count at the end; nothing where there is none.
    pub fn render(&self, file: &SourceText, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() }.term_width(DEFAULT_TERM_WIDTH);
        let mut out = String::new();
        for diagnostic in &self.list {
            out.push_str(&renderer.render(&[diagnostic.group(file)]));
            out.push_str("\n\n");
        }
        if !self.list.is_empty() {
            out.push_str(&format!("{}: {}\n", file.name, self.count()));
        }
        out
    }

    fn count(&self) -> String {
        let count = |n: usize, what: &str| match n {
            0 => None,
            1 => Some(format!("1 {what}")),
            n => Some(format!("{n} {what}s")),
        };
        [count(self.errors(), "error"), count(self.warnings(), "warning")].into_iter().flatten().collect::<Vec<_>>().join(" and ")
    }
}
