//! The index template that records need, and a look at the store whether it has one.

use http::Method;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use skidder_pipeline::body::Compression;
use skidder_pipeline::problem::Problem;

use super::{Distribution, ElasticsearchConfig, Mode};
use crate::SinkContext;
use crate::http::{HttpClient, HttpOptions, HttpRequest};
use crate::setup::{Checking, Finding, Needs, Setup};

/// Above the templates that come with Elasticsearch (100 to 200) and those that its agents install.
const PRIORITY: u32 = 500;

impl ElasticsearchConfig {
    pub(crate) fn setup(&self, context: &SinkContext) -> Result<Box<dyn Setup>, Vec<Problem>> {
        let mut problems = Vec::new();
        let destination = self.destination(&mut problems);
        let options = HttpOptions { endpoints: &self.endpoints, auth: self.auth.as_ref(), tls: &self.tls, context };
        let client = HttpClient::new(&options, &mut problems);
        let (Some(destination), Some(client)) = (destination, client) else { return Err(problems) };
        Ok(Box::new(Template {
            client,
            pattern: destination.pattern(),
            sample: destination.sample("x"),
            mode: self.mode,
            distribution: self.distribution,
            sink: context.name.clone(),
        }))
    }
}

struct Template {
    client: HttpClient,
    /// What all names of the sink match: `logs-*-default`.
    pattern: String,
    /// One of the names.
    sample: String,
    mode: Mode,
    distribution: Distribution,
    /// The sink's name; empty where there is no configuration.
    sink: String,
}

impl Setup for Template {
    fn needs(&self) -> Needs {
        let name = self.name();
        let mut text = serde_json::to_string_pretty(&self.template()).unwrap_or_default();
        text.push('\n');
        let again = if self.sink.is_empty() {
            let store = if self.distribution == Distribution::Opensearch { "opensearch" } else { "elasticsearch" };
            format!("skidder init {store}")
        } else {
            format!("skidder init elasticsearch -c FILE --sink {}", self.sink)
        };
        let apply = format!(
            "An index template for `{}`. Give it to the store before the first record comes:\n  {again} | curl -sS --fail-with-body -X PUT \
             -H 'Content-Type: application/json' --data-binary @- \"$STORE_URL/_index_template/{name}\"\n",
            self.pattern
        );
        Needs { text, apply }
    }

    fn check(&self) -> Checking<'_> {
        Box::pin(self.look())
    }
}

impl Template {
    fn name(&self) -> String {
        if self.sink.is_empty() { "skidder".to_owned() } else { format!("skidder-{}", self.sink.to_ascii_lowercase()) }
    }

    /// The template. What no field of which is known has dynamic mappings, with bounds; labels and annotations, whose keys
    /// anyone may choose, are one field each.
    fn template(&self) -> Value {
        let flat = match self.distribution {
            Distribution::Elasticsearch => json!({ "type": "flattened" }),
            Distribution::Opensearch => json!({ "type": "flat_object" }),
        };
        let mut settings = json!({ "mapping": { "total_fields": { "limit": 2000 }, "ignore_malformed": true } });
        let labels = ["pod_labels", "pod_annotations", "namespace_labels", "namespace_annotations", "node_labels", "node_annotations"];
        let labels: Map<String, Value> = labels.into_iter().map(|key| (key.to_owned(), flat.clone())).collect();
        let mappings = json!({
            // A text that looks like a date makes no field of dates, which the next text would not fit.
            "date_detection": false,
            "dynamic_templates": [
                { "texts": { "match_mapping_type": "string", "mapping": { "type": "keyword", "ignore_above": 1024 } } }
            ],
            "properties": {
                "@timestamp": { "type": "date_nanos" },
                "message": { "type": "text", "norms": false },
                "_conflict": flat,
                "kubernetes": { "properties": labels }
            }
        });
        if self.distribution == Distribution::Elasticsearch {
            // Beyond the limit fields are kept and not indexed (from 8.14 on); without, their records are refused.
            settings["mapping"]["total_fields"]["ignore_dynamic_beyond_limit"] = json!(true);
        }
        let mut template = json!({ "settings": { "index": settings }, "mappings": mappings });
        let mut whole = json!({ "index_patterns": [self.pattern], "priority": PRIORITY });
        if self.mode == Mode::DataStream {
            whole["data_stream"] = json!({});
            if self.distribution == Distribution::Elasticsearch {
                // What the mappings refuse is kept in the store itself (from 8.19 and 9.1 on).
                template["data_stream_options"] = json!({ "failure_store": { "enabled": true } });
            }
        }
        whole["template"] = template;
        whole["_meta"] = json!({ "description": "Logs that Skidder sends" });
        whole
    }

    async fn look(&self) -> Vec<Finding> {
        let mut found = Vec::new();
        match self.ask(Method::GET, "/", None).await {
            Err(reason) => return vec![Finding::fault(format!("the store cannot be reached: {reason}"))],
            Ok((status @ (401 | 403), _)) => {
                return vec![Finding::fault(format!("the store refuses the credentials (HTTP {status})")).help("see `auth` of the sink")];
            }
            Ok((status @ 500..=599, _)) => return vec![Finding::fault(format!("the store answers HTTP {status}"))],
            Ok((_, body)) => found.push(greeting(&body)),
        }
        self.look_for_template(&mut found).await;
        if self.mode == Mode::DataStream {
            self.look_for_plain_indices(&mut found).await;
        }
        self.look_at_rights(&mut found).await;
        found
    }

    async fn look_for_template(&self, found: &mut Vec<Finding>) {
        let fields = "name,index_templates.index_template.index_patterns,index_templates.index_template.priority";
        let path = format!("/_index_template?filter_path=index_templates.{fields},index_templates.index_template.data_stream");
        let templates = match self.ask(Method::GET, &path, None).await {
            Ok((200, body)) => match serde_json::from_slice::<Templates>(&body) {
                Ok(Templates { index_templates }) => index_templates,
                Err(_) => return found.push(Finding::doubt("the store's list of index templates cannot be read")),
            },
            Ok((status, _)) => {
                return found.push(Finding::doubt(format!("the store does not say which index templates it has (HTTP {status})")));
            }
            Err(reason) => return found.push(Finding::fault(format!("the store does not say which index templates it has: {reason}"))),
        };
        let covers = |template: &&Named| template.index_template.index_patterns.iter().any(|pattern| fits(pattern, &self.sample));
        let best = templates.iter().filter(covers).max_by_key(|template| template.index_template.priority.unwrap_or(0));
        let help = "`skidder init elasticsearch -c FILE` prints one";
        let streams = self.mode == Mode::DataStream;
        found.push(match best {
            None if streams => {
                Finding::fault(format!("no index template covers `{}`, so no data stream will be made", self.pattern)).help(help)
            }
            None => {
                Finding::doubt(format!("no index template covers `{}`: the first record of each field decides on its type", self.pattern))
                    .help(help)
            }
            Some(Named { name, index_template: Body { data_stream: None, .. } }) if streams => {
                Finding::fault(format!("the index template `{name}`, which covers `{}`, makes no data streams", self.pattern)).help(help)
            }
            Some(Named { name, .. }) => Finding::fine(format!("the index template `{name}` covers `{}`", self.pattern)),
        });
    }

    /// An index where a data stream should be: made by a store that was asked before it had a template.
    async fn look_for_plain_indices(&self, found: &mut Vec<Finding>) {
        let path = format!("/_resolve/index/{}", self.pattern);
        let Ok((200, body)) = self.ask(Method::GET, &path, None).await else { return };
        let Ok(Resolved { indices }) = serde_json::from_slice(&body) else { return };
        if let Some(index) = indices.iter().find(|index| index.data_stream.is_none()) {
            let message = format!("`{}` is an index, and a data stream is meant", index.name);
            found.push(Finding::fault(message).help("keep what it holds under another name and delete it"));
        }
    }

    /// Elasticsearch says which rights there are; others do not, and nothing is found.
    async fn look_at_rights(&self, found: &mut Vec<Finding>) {
        let wanted = json!({ "index": [{ "names": [self.pattern], "privileges": ["create_doc", "auto_configure"] }] });
        let Ok((200, body)) = self.ask(Method::POST, "/_security/user/_has_privileges", Some(wanted)).await else { return };
        let Ok(Rights { index }) = serde_json::from_slice::<Rights>(&body) else { return };
        let missing: Vec<&str> = index
            .values()
            .filter_map(Value::as_object)
            .flatten()
            .filter(|(_, has)| **has == Value::Bool(false))
            .map(|(right, _)| &**right)
            .collect();
        found.push(match &missing[..] {
            [] => Finding::fine("the credentials may create documents"),
            // An index that is there already needs no more than this.
            ["auto_configure"] => Finding::doubt(format!("the credentials lack the privilege `auto_configure` on `{}`", self.pattern))
                .help("without it only indices and data streams that exist can be written to"),
            missing => Finding::fault(format!("the credentials lack {} on `{}`", missing.join(" and "), self.pattern)),
        });
    }

    async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Result<(u16, bytes::Bytes), String> {
        let mut headers = HeaderMap::new();
        if body.is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let request = HttpRequest { path_and_query: path.to_owned(), headers };
        let body = body.map(|body| body.to_string()).unwrap_or_default().into();
        let answer = self.client.send(method, request, body, Compression::None).await.map_err(|error| error.to_string())?;
        Ok((answer.response.status, answer.response.body))
    }
}

#[derive(Deserialize)]
struct Greeting {
    version: Version,
}

#[derive(Deserialize)]
struct Version {
    number: String,
    distribution: Option<String>,
}

/// What answered. Not every store that speaks `_bulk` says.
fn greeting(body: &[u8]) -> Finding {
    match serde_json::from_slice(body) {
        Ok(Greeting { version: Version { number, distribution } }) if number.len() < 40 => {
            let name = if distribution.as_deref() == Some("opensearch") { "OpenSearch" } else { "Elasticsearch" };
            Finding::fine(format!("{name} {number} answers"))
        }
        _ => Finding::fine("the store answers"),
    }
}

#[derive(Deserialize)]
struct Templates {
    #[serde(default)]
    index_templates: Vec<Named>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
    index_template: Body,
}

#[derive(Deserialize)]
struct Body {
    index_patterns: Vec<String>,
    priority: Option<u64>,
    data_stream: Option<Value>,
}

#[derive(Deserialize)]
struct Resolved {
    indices: Vec<Index>,
}

#[derive(Deserialize)]
struct Index {
    name: String,
    data_stream: Option<String>,
}

#[derive(Deserialize)]
struct Rights {
    index: Map<String, Value>,
}

/// Whether `name` is one that `pattern`, with `*` for any text, stands for.
fn fits(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((before, after)) => name
            .strip_prefix(before)
            .is_some_and(|rest| (0..=rest.len()).filter(|at| rest.is_char_boundary(*at)).any(|at| fits(after, &rest[at..]))),
    }
}

#[cfg(test)]
#[path = "setup_tests.rs"]
mod tests;
