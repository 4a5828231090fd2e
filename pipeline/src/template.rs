//! Templates: `logs-{{ kubernetes.pod_namespace }}-{{ env ?? "none" }}`.
//!
//! Text outside of `{{ … }}` stands for itself. Inside stands a field path, or several with `??` between them, of which
//! the first that the record has (and that is not `null`) counts; the last may be a text in double quotes. A text gives
//! its characters, any other value its JSON. A template of which a part has no value has none as a whole.

use std::borrow::Cow;

use crate::batch::RecordView;
use crate::path::Path;
use crate::shared::Shared;
use crate::value::{Kind, Value};

/// A text with places for fields of the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    source: Box<str>,
    parts: Box<[Part]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(Box<str>),
    First(Box<[Choice]>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Choice {
    Field(Path),
    Literal(Box<str>),
}

/// Why a text is no template.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TemplateError {
    /// `{{` without `}}`.
    #[error("`{{{{` is not closed by `}}}}`")]
    Unclosed,
    /// A choice is neither a path nor a quoted text.
    #[error(transparent)]
    Path(#[from] crate::path::PathError),
}

impl Template {
    /// Reads a template.
    pub fn parse(source: &str) -> Result<Template, TemplateError> {
        let mut parts = Vec::new();
        let mut rest = source;
        while let Some(start) = rest.find("{{") {
            if start > 0 {
                parts.push(Part::Literal(rest[..start].into()));
            }
            let inside = &rest[start + 2..];
            let end = inside.find("}}").ok_or(TemplateError::Unclosed)?;
            let choices: Result<Vec<Choice>, _> = inside[..end].split("??").map(|c| choice(c.trim())).collect();
            parts.push(Part::First(choices?.into()));
            rest = &inside[end + 2..];
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.into()));
        }
        Ok(Template { source: source.into(), parts: parts.into() })
    }

    /// The template as it was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The text before the first field: all of it where there is none.
    pub fn literal_prefix(&self) -> &str {
        match self.parts.first() {
            Some(Part::Literal(text)) => text,
            _ => "",
        }
    }

    /// The text where no field takes part.
    pub fn as_literal(&self) -> Option<&str> {
        match &*self.parts {
            [] => Some(""),
            [Part::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// The fields that take part.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.parts
            .iter()
            .flat_map(|part| match part {
                Part::First(choices) => &**choices,
                Part::Literal(_) => &[],
            })
            .filter_map(|choice| match choice {
                Choice::Field(path) => Some(path),
                Choice::Literal(_) => None,
            })
    }

    /// Whether the value is the same for all records of a batch with these shared fields: every field that takes part is
    /// shared, by its first key.
    ///
    /// A path whose first key is not among the shared fields may stand in any record.
    pub fn is_shared(&self, shared: &Shared) -> bool {
        self.paths().all(|path| shared.get(path.first()).is_some())
    }

    /// The value for a record; `None` where a part has none.
    pub fn render(&self, record: &RecordView<'_>) -> Option<String> {
        self.render_with(|path| record.get(path))
    }

    /// The value from shared fields alone: see [`Template::is_shared`].
    pub fn render_shared(&self, shared: &Shared) -> Option<String> {
        self.render_with(|path| shared.get(path.first())?.descend(path.rest()))
    }

    /// The value with fields as `lookup` gives them.
    pub fn render_with<'a>(&self, lookup: impl Fn(&Path) -> Option<Value<'a>>) -> Option<String> {
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(text) => out.push_str(text),
                Part::First(choices) => out.push_str(&choices.iter().find_map(|c| c.value(&lookup))?),
            }
        }
        Some(out)
    }

    /// Appends the value with everything that stands for `{{ … }}` put through `confine`, which appends what may stand there:
    /// for destinations that the data must not escape from. A part without a value is handed to it as `None`.
    pub fn render_confined<'a>(
        &self,
        lookup: impl Fn(&Path) -> Option<Value<'a>>,
        mut confine: impl FnMut(Option<&str>, &mut String),
        out: &mut String,
    ) {
        for part in &self.parts {
            match part {
                Part::Literal(text) => out.push_str(text),
                Part::First(choices) => confine(choices.iter().find_map(|c| c.value(&lookup)).as_deref(), out),
            }
        }
    }
}

impl Choice {
    fn value<'a>(&self, lookup: &impl Fn(&Path) -> Option<Value<'a>>) -> Option<Cow<'_, str>> {
        match self {
            Choice::Literal(text) => Some(Cow::Borrowed(text)),
            Choice::Field(path) => {
                let value = lookup(path).filter(|value| value.kind != Kind::Null)?;
                Some(Cow::Owned(value.plain_str().into_owned()))
            }
        }
    }
}

fn choice(source: &str) -> Result<Choice, TemplateError> {
    // A quoted text that is a key (`"a.b".c`) goes on after the quote; one that ends with it is a literal.
    match source.strip_prefix('"').and_then(|s| s.strip_suffix('"')) {
        Some(text) if !text.contains('"') => Ok(Choice::Literal(text.into())),
        _ => Ok(Choice::Field(Path::parse(source)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(source: &str) -> Option<String> {
        let template = Template::parse(source).expect("a template");
        let record = crate::json::value(br#"{"env":"prod","n":null,"count":3,"k":{"ns":"a\"b"}}"#).expect("JSON");
        template.render_with(|path| record.at(path))
    }

    #[test]
    fn renders_fields_choices_and_literals() {
        assert_eq!(render("plain").as_deref(), Some("plain"));
        assert_eq!(render("").as_deref(), Some(""));
        assert_eq!(render("{{ env }}-{{count}}").as_deref(), Some("prod-3"));
        assert_eq!(render("{{ k.ns }}").as_deref(), Some("a\"b"));
        assert_eq!(render("{{ gone }}"), None);
        assert_eq!(render("{{ n }}"), None);
        assert_eq!(render("{{ gone ?? n ?? \"none\" }}/x").as_deref(), Some("none/x"));
    }

    #[test]
    fn confines_fields_and_not_literals() {
        let template = Template::parse("/a/{{ k.ns }}/{{ gone }}/{{ gone ?? \"/\" }}").expect("a template");
        let record = crate::json::value(br#"{"k":{"ns":"../b"}}"#).expect("JSON");
        let mut out = String::new();
        let confine = |value: Option<&str>, out: &mut String| out.push_str(&value.unwrap_or("none").replace('/', "_"));
        template.render_confined(|path| record.at(path), confine, &mut out);
        assert_eq!(out, "/a/.._b/none/_");
    }

    #[test]
    fn refuses_what_is_none() {
        assert_eq!(Template::parse("a {{ b"), Err(TemplateError::Unclosed));
        assert!(matches!(Template::parse("{{ a b }}"), Err(TemplateError::Path(_))));
        assert!(matches!(Template::parse("{{ }}"), Err(TemplateError::Path(_))));
    }

    #[test]
    fn knows_its_prefix() {
        assert_eq!(Template::parse("logs-{{ env }}").expect("a template").literal_prefix(), "logs-");
        assert_eq!(Template::parse("{{ env }}").expect("a template").literal_prefix(), "");
    }
}
