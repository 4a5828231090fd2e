//! What the sink needs of the store: the template that `skidder init elasticsearch` prints, and the look at it of `skidder validate`.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method};
use serde::Deserialize;
use skidder_pipeline::body::Compression;
use skidder_pipeline::problem::Problem;

use super::{ElasticsearchConfig, Mode};
use crate::SinkContext;
use crate::http::{HttpClient, HttpOptions, HttpRequest};
use crate::probe::{Finding, Probe, Probing};

/// An index template for data streams and for indices by day.
pub const TEMPLATE: &str = r#"# Index templates for Skidder's `elasticsearch` sink. To be sent to the store as they are, one request each:
#
# 1. for data streams (mode = "data_stream"); on Elasticsearch from 9.1 on add to "data_stream_options" below "template":
#    { "failure_store": { "enabled": true } }, so that what does not fit is kept there instead of being refused.
PUT /_index_template/skidder-logs
{
  "index_patterns": ["logs-*-*"],
  "data_stream": {},
  "priority": 200,
  "template": {
    "settings": { "index.mapping.total_fields.limit": 2000, "index.mapping.ignore_malformed": true },
    "mappings": {
      "dynamic_templates": [ { "texts": { "match_mapping_type": "string", "mapping": { "type": "keyword", "ignore_above": 1024 } } } ],
      "properties": {
        "@timestamp": { "type": "date_nanos" },
        "message": { "type": "text" }
      }
    }
  }
}

# 2. for indices by day (mode = "bulk", index = "skidder-%Y.%m.%d")
PUT /_index_template/skidder-daily
{
  "index_patterns": ["skidder-*"],
  "priority": 200,
  "template": {
    "settings": { "index.mapping.total_fields.limit": 2000, "index.mapping.ignore_malformed": true },
    "mappings": {
      "dynamic_templates": [ { "texts": { "match_mapping_type": "string", "mapping": { "type": "keyword", "ignore_above": 1024 } } } ],
      "properties": {
        "@timestamp": { "type": "date_nanos" },
        "message": { "type": "text" }
      }
    }
  }
}
"#;

/// The look at the templates.
struct TemplateProbe {
    client: HttpClient,
    /// An index or a data stream that records could go to.
    sample: String,
    mode: Mode,
}

impl ElasticsearchConfig {
    /// A look at the store and its templates.
    pub(crate) fn probe(&self, context: &SinkContext) -> Result<Arc<dyn Probe>, Vec<Problem>> {
        let mut problems = Vec::new();
        let destination = self.destination(&mut problems);
        let options = HttpOptions { endpoints: &self.endpoints, auth: self.auth.as_ref(), tls: &self.tls, context };
        let client = HttpClient::new(&options, &mut problems);
        let (Some(destination), Some(client)) = (destination, client) else { return Err(problems) };
        Ok(Arc::new(TemplateProbe { client, sample: destination.sample("x"), mode: self.mode }))
    }
}

impl Probe for TemplateProbe {
    fn probe(&self) -> Probing<'_> {
        Box::pin(async { vec![self.look().await] })
    }
}

#[derive(Deserialize)]
struct Templates {
    index_templates: Vec<Named>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
    index_template: Template,
}

#[derive(Deserialize)]
struct Template {
    index_patterns: Vec<String>,
    #[serde(default)]
    priority: i64,
    data_stream: Option<serde::de::IgnoredAny>,
}

impl TemplateProbe {
    async fn look(&self) -> Finding {
        let request = HttpRequest { path_and_query: "/_index_template".to_owned(), headers: HeaderMap::new() };
        let answer = match self.client.send(Method::GET, request, Bytes::new(), Compression::None).await {
            Ok(answer) => answer.response,
            Err(error) => return Finding::Error(error.to_string()),
        };
        match (answer.status, serde_json::from_slice::<Templates>(&answer.body)) {
            (200, Ok(templates)) => self.find(&templates),
            (200, Err(_)) => Finding::Warning("the store answers, and has no templates that can be looked at".to_owned()),
            (401, _) => Finding::Error("the store does not take the credentials (HTTP 401)".to_owned()),
            (403, _) => Finding::Warning("the store answers; these credentials may not see its templates".to_owned()),
            (404 | 405, _) => Finding::Warning("the store answers, and knows no templates".to_owned()),
            (status, _) => Finding::Error(format!("the store answers HTTP {status}")),
        }
    }

    /// What the template says that counts for the sample.
    fn find(&self, templates: &Templates) -> Finding {
        let fits = |named: &&Named| named.index_template.index_patterns.iter().any(|pattern| matches(pattern, &self.sample));
        let found = templates.index_templates.iter().filter(fits).max_by_key(|named| named.index_template.priority);
        let sample = &self.sample;
        match (found, self.mode) {
            (None, Mode::DataStream) => {
                Finding::Error(format!("no template makes {sample} a data stream: `skidder init elasticsearch` prints one"))
            }
            (None, Mode::Bulk) => {
                Finding::Warning(format!("no template is for {sample}, so its mapping is guessed: `skidder init elasticsearch` prints one"))
            }
            (Some(named), Mode::DataStream) if named.index_template.data_stream.is_none() => {
                Finding::Error(format!("the template {} is for {sample}, and not for data streams", named.name))
            }
            (Some(named), Mode::Bulk) if named.index_template.data_stream.is_some() => Finding::Warning(format!(
                "the template {} makes {sample} a data stream: write `mode = \"data_stream\"`, or give it another name",
                named.name
            )),
            (Some(named), _) => Finding::Fine(format!("the template {} is for {sample}", named.name)),
        }
    }
}

/// Whether `name` is what `pattern` stands for: `*` for any text.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((before, after)) => name
            .strip_prefix(before)
            .is_some_and(|rest| (0..=rest.len()).any(|at| rest.is_char_boundary(at) && matches(after, &rest[at..]))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_the_store_has_it() {
        for (pattern, name) in [("a", "a"), ("*", ""), ("logs-*-*", "logs-a-b"), ("*-x", "a-x"), ("a*c*e", "abcde")] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("a", "ab"), ("logs-*-*", "logs-a"), ("*-x", "a-xy"), ("", "a")] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }
}
