//! The limits that Loki needs, and a look whether it takes what is sent.

use bytes::Bytes;
use http::Method;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use serde_json::Value;
use skidder_pipeline::body::{Compression, compress};
use skidder_pipeline::problem::Problem;

use super::{LokiConfig, TENANT};
use crate::SinkContext;
use crate::http::{HttpClient, HttpOptions, HttpRequest};
use crate::setup::{Checking, Finding, Needs, Setup};

impl LokiConfig {
    pub(crate) fn setup(&self, context: &SinkContext) -> Result<Box<dyn Setup>, Vec<Problem>> {
        let mut problems = Vec::new();
        let endpoints = [self.endpoint.clone()];
        let options = HttpOptions { endpoints: &endpoints, auth: self.auth.as_ref(), tls: &self.tls, context };
        let client = HttpClient::new(&options, &mut problems).ok_or(problems)?;
        // A tenant that records decide on is not known here.
        let tenant = self.tenant_id.as_ref().filter(|tenant| !tenant.contains("{{")).and_then(|tenant| tenant.parse().ok());
        Ok(Box::new(Limits { client, tenant, config: self.clone() }))
    }
}

struct Limits {
    client: HttpClient,
    tenant: Option<HeaderValue>,
    config: LokiConfig,
}

impl Setup for Limits {
    fn needs(&self) -> Needs {
        let LokiConfig { max_line_bytes, max_age_secs, max_behind_secs, labels, .. } = &self.config;
        let labels = labels.as_ref().map_or(15, |labels| labels.len().max(15));
        let text = format!(
            "\
limits_config:
  # pod, level, trace_id and the like; the schema must be v13 over tsdb
  allow_structured_metadata: true
  max_structured_metadata_size: 64KB
  max_structured_metadata_entries_count: 128
  max_label_names_per_series: {labels}
  # max_line_bytes of the sink
  max_line_size: {}KB
  # how old a record may be: max_age_secs of the sink
  reject_old_samples_max_age: {}h
  # splits a request into several streams, of which errors are told of the last alone; stream_shard of the sink takes its place
  shard_streams:
    enabled: false
ingester:
  # half of it is how far behind its stream a record may be: max_behind_secs of the sink
  max_chunk_age: {}m
",
            max_line_bytes.0.div_ceil(1024),
            max_age_secs.div_ceil(3600),
            max_behind_secs.div_ceil(30)
        );
        let apply =
            "Limits for Loki's configuration file. Put them into it and start Loki anew:\n  skidder init loki > limits.yaml\n".to_owned();
        Needs { text, apply }
    }

    fn check(&self) -> Checking<'_> {
        Box::pin(self.look())
    }
}

impl Limits {
    async fn look(&self) -> Vec<Finding> {
        // A push of nothing: it goes the whole way, and stores nothing.
        let mut found = vec![match self.ask(Method::POST, &self.config.path, compress(Compression::Snappy, b"").into()).await {
            Err(reason) => return vec![Finding::fault(format!("Loki cannot be reached: {reason}"))],
            Ok((422, body)) if contains(&body, "stream is required") => Finding::fine("Loki takes pushes"),
            Ok((204, _)) => Finding::fine("Loki takes pushes"),
            Ok((401, body)) if contains(&body, "no org id") => {
                return vec![Finding::fault("Loki wants a tenant").help("give `tenant_id`")];
            }
            Ok((status @ (401 | 403), _)) => {
                return vec![Finding::fault(format!("Loki refuses the credentials (HTTP {status})")).help("see `auth` of the sink")];
            }
            Ok((404, _)) => return vec![Finding::fault("no push API stands at `path`").help("Loki's own is `/loki/api/v1/push`")],
            Ok((status, _)) => Finding::doubt(format!("a push of nothing is answered with HTTP {status}; Loki answers 422 or 204")),
        }];
        // From 3.6 on it tells of its limits.
        if let Ok((200, body)) = self.ask(Method::GET, "/loki/api/v1/drilldown-limits", Bytes::new()).await
            && let Ok(answer) = serde_json::from_slice::<Value>(&body)
        {
            self.look_at_limits(&answer["limits"], &mut found);
        }
        found
    }

    fn look_at_limits(&self, limits: &Value, found: &mut Vec<Finding>) {
        let help = "`skidder init loki` prints the limits";
        let number = |key: &str| limits[key].as_u64().filter(|limit| *limit > 0);
        if limits["allow_structured_metadata"] == false {
            found.push(Finding::fault("Loki takes no structured metadata (`allow_structured_metadata`)").help(help));
        }
        if let (Some(limit), Some(labels)) = (number("max_label_names_per_series"), &self.config.labels)
            && limit < labels.len() as u64
        {
            found.push(Finding::fault(format!("Loki takes {limit} labels, and {} are sent", labels.len())).help(help));
        }
        if let Some(limit) = number("max_line_size")
            && limit < self.config.max_line_bytes.0
        {
            let message = format!("Loki takes lines of {limit} bytes, and longer ones are sent (`max_line_bytes`)");
            found.push(Finding::doubt(message).help(help));
        }
        if limits["shard_streams"]["enabled"] == true {
            found.push(Finding::doubt("Loki splits streams itself (`shard_streams`), which hides what it turns away").help(help));
        }
    }

    async fn ask(&self, method: Method, path: &str, body: Bytes) -> Result<(u16, Bytes), String> {
        let mut headers = HeaderMap::new();
        if !body.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        }
        headers.extend(self.tenant.clone().map(|tenant| (TENANT, tenant)));
        let request = HttpRequest { path_and_query: path.to_owned(), headers };
        let answer = self.client.send(method, request, body, Compression::None).await.map_err(|error| error.to_string())?;
        Ok((answer.response.status, answer.response.body))
    }
}

fn contains(body: &[u8], words: &str) -> bool {
    memchr::memmem::find(body, words.as_bytes()).is_some()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::setup::Weight;
    use crate::testing::store;

    async fn seen(status: u16, body: &'static str, limits: &'static str) -> Vec<(Weight, String)> {
        let url = store(move |method, _, _| if method == "POST" { (status, body.to_owned()) } else { (200, limits.to_owned()) }).await;
        let config: LokiConfig = serde_json::from_value(serde_json::json!({"endpoint": url, "labels": {"a": "x", "b": "y"}})).unwrap();
        let found = config.setup(&SinkContext::default()).unwrap().check().await;
        found.into_iter().map(|finding| (finding.weight, finding.message)).collect()
    }

    #[tokio::test]
    async fn a_look_at_loki() {
        let fine = (Weight::Fine, "Loki takes pushes".to_owned());
        let missing = "error at least one valid stream is required for ingestion";
        assert_eq!(seen(422, missing, "{}").await, std::slice::from_ref(&fine));
        let low = r#"{"limits":{"allow_structured_metadata":false,"max_label_names_per_series":1,"max_line_size":1000,"shard_streams":{"enabled":true}}}"#;
        let found = seen(204, "", low).await;
        let weights: Vec<Weight> = found.iter().map(|(weight, _)| *weight).collect();
        assert_eq!(weights, [Weight::Fine, Weight::Fault, Weight::Fault, Weight::Doubtful, Weight::Doubtful], "{found:?}");
        for (status, body, words) in [(401, "no org id", "wants a tenant"), (403, "", "credentials"), (404, "", "no push API")] {
            let found = seen(status, body, "{}").await;
            assert!(found.len() == 1 && found[0].0 == Weight::Fault && found[0].1.contains(words), "{found:?}");
        }
        assert_eq!(seen(200, "", "{}").await[0].0, Weight::Doubtful);
    }
}
