//! The index template that records need, and a look at the store whether it has one.

use http::Method;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use skidder_pipeline::body::Compression;
use skidder_pipeline::problem::Problem;

use super::{Distribution, ElasticsearchConfig, IdStrategy, Mode, OnConflict};
use crate::SinkContext;
use crate::common::schema::Schema;
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
            schema: self.schema,
            ids: self.id,
            on_conflict: self.on_conflict,
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
    schema: Schema,
    ids: IdStrategy,
    on_conflict: OnConflict,
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
        // Longer texts than this are kept and not indexed; Lucene itself takes no term of more than 32,766 bytes.
        let flat = match self.distribution {
            Distribution::Elasticsearch => json!({ "type": "flattened", "ignore_above": 8191 }),
            Distribution::Opensearch => json!({ "type": "flat_object" }),
        };
        let unbounded = match self.distribution {
            Distribution::Elasticsearch => flat.clone(),
            // `flat_object` has no such bound, and refuses records whose annotations are longer than a term may be.
            Distribution::Opensearch => json!({ "type": "object", "enabled": false }),
        };
        let mut settings = json!({ "mapping": { "total_fields": { "limit": 2000 }, "ignore_malformed": true } });
        let mapping = |key: &str| if key.ends_with("labels") { flat.clone() } else { unbounded.clone() };
        let object = |keys: &[&str]| -> Value {
            let properties: Map<String, Value> = keys.iter().map(|key| ((*key).to_owned(), mapping(key))).collect();
            json!({ "properties": properties })
        };
        let mut properties = json!({
            "@timestamp": { "type": "date_nanos" },
            "message": { "type": "text", "norms": false },
            "_conflict": unbounded.clone()
        });
        match self.schema {
            Schema::Vector => {
                properties["kubernetes"] = object(&[
                    "pod_labels",
                    "pod_annotations",
                    "namespace_labels",
                    "namespace_annotations",
                    "node_labels",
                    "node_annotations",
                ]);
            }
            Schema::Ecs => {
                properties["kubernetes"] = object(&["labels", "annotations", "namespace_labels"]);
                properties["kubernetes"]["properties"]["node"] = object(&["labels"]);
            }
            Schema::Otel => {
                properties["body"] = properties["message"].take();
                let pair = json!({ "properties": { "label": flat, "annotation": unbounded } });
                properties["k8s"] = json!({ "properties": { "pod": pair, "node": pair, "namespace": pair } });
                let _ = properties.as_object_mut().map(|properties| properties.remove("message"));
            }
        }
        let mappings = json!({
            // A text that looks like a date makes no field of dates, which the next text would not fit.
            "date_detection": false,
            "dynamic_templates": [
                { "texts": { "match_mapping_type": "string", "mapping": { "type": "keyword", "ignore_above": 1024 } } }
            ],
            "properties": properties
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
                // What the mappings refuse is kept in the store itself (from 8.19 and 9.1 on). Then no refusal comes back, so none of
                // its fields could be moved aside.
                let enabled = self.on_conflict == OnConflict::Reject;
                template["data_stream_options"] = json!({ "failure_store": { "enabled": enabled } });
            }
        }
        whole["template"] = template;
        whole["_meta"] = json!({ "description": "Logs that Skidder sends" });
        whole
    }

    async fn look(&self) -> Vec<Finding> {
        let mut found = Vec::new();
        if self.ids == IdStrategy::Auto {
            let message = "with `id = \"auto\"` records are stored at least once: again after a lost answer or a kill of the agent";
            found.push(Finding::doubt(message).help("leave `id` out where none may be there twice"));
        }
        match self.ask(Method::GET, "/", None).await {
            Err(reason) => {
                found.push(Finding::fault(format!("the store cannot be reached: {reason}")));
                return found;
            }
            Ok((status @ (401 | 403), _)) => {
                found.push(Finding::fault(format!("the store refuses the credentials (HTTP {status})")).help("see `auth` of the sink"));
                return found;
            }
            Ok((status @ 500..=599, _)) => {
                found.push(Finding::fault(format!("the store answers HTTP {status}")));
                return found;
            }
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
        let best = match self.ask(Method::GET, TEMPLATES, None).await {
            Ok((200, body)) => match covering(&body, &self.sample) {
                Some(best) => best,
                None => return found.push(Finding::doubt("the store's list of index templates cannot be read")),
            },
            Ok((status, _)) => {
                return found.push(Finding::doubt(format!("the store does not say which index templates it has (HTTP {status})")));
            }
            Err(reason) => return found.push(Finding::fault(format!("the store does not say which index templates it has: {reason}"))),
        };
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
            Some(Covering { name, streams: false, .. }) if streams => {
                Finding::fault(format!("the index template `{name}`, which covers `{}`, makes no data streams", self.pattern)).help(help)
            }
            Some(Covering { name, keeps_failures: true, .. }) if streams && self.on_conflict == OnConflict::Stringify => Finding::doubt(
                format!("the index template `{name}` has a failure store, which takes what does not fit before `on_conflict` can"),
            )
            .help("leave out `on_conflict`, or `data_stream_options.failure_store` of the template"),
            Some(Covering { name, .. }) => Finding::fine(format!("the index template `{name}` covers `{}`", self.pattern)),
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
    #[serde(default)]
    template: Inner,
}

#[derive(Deserialize, Default)]
struct Inner {
    #[serde(default)]
    data_stream_options: Value,
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

/// Where the index templates are, with what [`covering`] reads of them.
pub const TEMPLATES: &str = "/_index_template?filter_path=index_templates.name,index_templates.index_template.index_patterns,\
                             index_templates.index_template.priority,index_templates.index_template.data_stream,\
                             index_templates.index_template.template.data_stream_options";

/// The index template that goes for a name.
pub struct Covering {
    /// What it is called.
    pub name: String,
    /// Whether it makes data streams.
    pub streams: bool,
    /// Whether they keep what does not fit themselves.
    pub keeps_failures: bool,
}

/// The index template that goes for an index or data stream called `name`, if there is one; `None` where the list cannot be read.
pub fn covering(list: &[u8], name: &str) -> Option<Option<Covering>> {
    let Templates { index_templates } = serde_json::from_slice(list).ok()?;
    let covers = |template: &Named| template.index_template.index_patterns.iter().any(|pattern| fits(pattern, name));
    let best = index_templates.into_iter().filter(covers).max_by_key(|template| template.index_template.priority.unwrap_or(0));
    Some(best.map(|Named { name, index_template }| Covering {
        name,
        streams: index_template.data_stream.is_some(),
        keeps_failures: index_template.template.data_stream_options["failure_store"]["enabled"] == true,
    }))
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
