//! The topic of a record: a template that data cannot escape from.

use skidder_pipeline::batch::RecordView;
use skidder_pipeline::problem::Problem;
use skidder_pipeline::shared::Shared;
use skidder_pipeline::template::Template;

use crate::destination::MISSING;

/// Kafka's bound on a name.
const MAX_NAME_BYTES: usize = 249;

/// The most of a field's value that becomes part of a name: the longest label value of Kubernetes.
const MAX_VALUE_BYTES: usize = 63;

/// A topic, or one for each value of some fields.
pub struct Topic(Template);

impl Topic {
    /// Reads the template; what is wrong is added to `problems`.
    pub fn parse(source: &str, problems: &mut Vec<Problem>) -> Option<Topic> {
        let before = problems.len();
        let template = match Template::parse(source) {
            Ok(template) => template,
            Err(error) => {
                problems.push(Problem::at("topic", error));
                return None;
            }
        };
        let (mut fields, mut literal) = (0, String::new());
        template.render_confined(|_| None, |_, _| fields += 1, &mut literal);
        let is_of_kubernetes = template.paths().next().is_some() && template.paths().all(|path| path.first() == b"kubernetes");
        if source.is_empty() {
            problems.push(Problem::at("topic", "an empty name"));
        } else if template.literal_prefix().is_empty() && !is_of_kubernetes {
            let help = "start it with a text, as `logs-{{ env }}`, so that no record can choose a topic that is not its own";
            problems.push(Problem::at("topic", "the name starts with a field of the record").help(help));
        }
        if let Some(c) = literal.chars().find(|c| !is_allowed(*c)) {
            problems.push(Problem::at("topic", format!("`{c}` cannot be in a topic's name")).help("letters, digits, `.`, `_` and `-`"));
        }
        if matches!(&*literal, "." | "..") && fields == 0 {
            problems.push(Problem::at("topic", "no topic may be called that"));
        }
        if literal.len() + fields * MAX_VALUE_BYTES > MAX_NAME_BYTES {
            let fits = MAX_NAME_BYTES.saturating_sub(literal.len()) / MAX_VALUE_BYTES;
            problems.push(Problem::at(
                "topic",
                format!("names could be longer than {MAX_NAME_BYTES} bytes; beside this text is room for {fits} fields"),
            ));
        }
        (problems.len() == before).then_some(Topic(template))
    }

    /// The name where no field takes part.
    pub fn as_literal(&self) -> Option<&str> {
        self.0.as_literal()
    }

    /// Whether the name is the same for all records of a batch with these shared fields.
    pub fn is_shared(&self, shared: &Shared) -> bool {
        self.0.is_shared(shared)
    }

    /// Appends the name for a record.
    pub fn render(&self, record: &RecordView<'_>, out: &mut String) {
        self.0.render_confined(|path| record.get(path), confine, out);
    }
}

fn is_allowed(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

/// What a field may say in a name. A name of dots alone is none, and dots and underscores collide in the names of metrics, so a
/// field says no dots.
fn confine(value: Option<&str>, out: &mut String) {
    let value = value.filter(|value| !value.is_empty()).unwrap_or(MISSING);
    out.extend(value.chars().take(MAX_VALUE_BYTES).map(|c| if is_allowed(c) && c != '.' { c } else { '_' }));
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::testing::batch;

    #[test]
    fn a_field_says_what_is_allowed_and_nothing_else() {
        let topic = Topic::parse("logs-{{ env }}.{{ kubernetes.pod_namespace }}", &mut Vec::new()).unwrap();
        let batch = batch(r#"{"env":"../p é"}"#, &["{}"]);
        let mut out = String::new();
        topic.render(&batch.record(0), &mut out);
        assert_eq!(out, "logs-___p__.missing");
        assert!(!topic.is_shared(batch.shared()) && topic.as_literal().is_none());
    }

    #[test]
    fn says_what_is_no_topic() {
        let wrong = |source: &str| {
            let mut problems = Vec::new();
            let topic = Topic::parse(source, &mut problems);
            assert_eq!(topic.is_none(), !problems.is_empty(), "{source}");
            topic.is_none()
        };
        let long = "a".repeat(250);
        for source in ["", "{{ env }}", "a b", "..", "a{{ b }}{{ c }}{{ d }}{{ e }}", &long, "{{ a"] {
            assert!(wrong(source), "{source}");
        }
        for source in ["logs", "logs.a_B-9", "l{{ env }}", "{{ kubernetes.pod_namespace }}"] {
            assert!(!wrong(source), "{source}");
        }
    }
}
