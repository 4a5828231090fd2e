//! What stores need before the first record comes, and whether it is there: `skidder init`, and the part of `skidder validate`
//! that goes over the network.
//!
//! A sink that has something to say here implements [`Setup`] and gets a line in [`SinkConfig::setup`] and one in [`STORES`].

use std::future::Future;
use std::pin::Pin;

use skidder_pipeline::problem::Problem;

use crate::{SinkConfig, SinkContext};

/// What a sink knows of the making of its store.
pub trait Setup: Send + Sync {
    /// What is to be made at the store before the first record comes.
    fn needs(&self) -> Needs;

    /// Looks at the store whether it is there, and whether the credentials do. Changes nothing.
    fn check(&self) -> Checking<'_>;
}

/// A look at the store that is under way. Whoever waits for it sets a time for all of it.
pub type Checking<'a> = Pin<Box<dyn Future<Output = Vec<Finding>> + Send + 'a>>;

/// What is to be made at a store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Needs {
    /// In the store's own language (JSON, SQL, YAML) and nothing else: to be read, to be kept, or for its client to take.
    pub text: String,
    /// How to give it to the store, for people: a few lines, a command among them.
    pub apply: String,
}

/// One thing that a look at a store showed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// What it means for the sink.
    pub weight: Weight,
    /// What it is, in one sentence without a full stop. Never holds credentials.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

/// What a finding means for the sink.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Weight {
    /// As it should be.
    Fine,
    /// Records will be stored, and something of them or of the promise may be lost.
    Doubtful,
    /// Records will not be stored.
    Fault,
}

impl Finding {
    /// As it should be.
    pub fn fine(message: impl ToString) -> Finding {
        Finding { weight: Weight::Fine, message: message.to_string(), help: None }
    }

    /// Records will be stored, and something of them or of the promise may be lost.
    pub fn doubt(message: impl ToString) -> Finding {
        Finding { weight: Weight::Doubtful, ..Finding::fine(message) }
    }

    /// Records will not be stored.
    pub fn fault(message: impl ToString) -> Finding {
        Finding { weight: Weight::Fault, ..Finding::fine(message) }
    }

    /// The same with advice.
    pub fn help(self, help: impl ToString) -> Finding {
        Finding { help: Some(help.to_string()), ..self }
    }
}

/// The stores that `skidder init` knows: each a name, and the table of a sink that has little beside what must be given, as
/// JSON.
pub const STORES: &[(&str, &str)] = &[
    ("elasticsearch", r#"{"type":"elasticsearch","endpoints":["http://localhost:9200"],"mode":"data_stream"}"#),
    ("opensearch", r#"{"type":"elasticsearch","endpoints":["http://localhost:9200"],"mode":"data_stream","distribution":"opensearch"}"#),
    ("clickhouse", r#"{"type":"clickhouse","endpoints":["http://localhost:8123"]}"#),
    ("loki", r#"{"type":"loki","endpoint":"http://localhost:3100"}"#),
    ("kafka", r#"{"type":"kafka","bootstrap_servers":["localhost:9092"],"topic":"logs"}"#),
];

/// What `skidder init STORE` goes by without a configuration.
pub fn sample(store: &str) -> Option<SinkConfig> {
    STORES.iter().find(|(name, _)| *name == store).and_then(|(_, table)| serde_json::from_str(table).ok())
}

impl SinkConfig {
    /// What there is to make and to look at, for sinks whose store has to be prepared; or what is wrong with the table.
    pub fn setup(&self, context: &SinkContext) -> Result<Option<Box<dyn Setup>>, Vec<Problem>> {
        match self {
            SinkConfig::ClickHouse(config) => config.setup(context).map(Some),
            SinkConfig::Elasticsearch(config) => config.setup(context).map(Some),
            SinkConfig::Kafka(config) => config.setup(context).map(Some),
            SinkConfig::Loki(config) => config.setup(context).map(Some),
            // Nothing has to be made for the others.
            _ => Ok(None),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_store_has_something_to_say() {
        for (name, _) in STORES {
            let setup = sample(name).unwrap().setup(&SinkContext::default()).unwrap().unwrap();
            let needs = setup.needs();
            assert!(needs.text.ends_with('\n') && needs.apply.contains("skidder init"), "{name}: {needs:?}");
        }
        assert!(sample("no such store").is_none());
    }
}
