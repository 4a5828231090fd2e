//! What Kafka needs before the first record comes: a topic, and whoever may write to it.

use std::collections::BTreeMap;
use std::sync::Arc;

use skidder_pipeline::problem::Problem;

use super::cluster::Cluster;
use super::connection::Refused;
use super::errors::error;
use super::topic::Topic;
use super::{KafkaCompression, KafkaConfig, wire};
use crate::SinkContext;
use crate::setup::{Checking, Finding, Needs, Setup};

/// The topic's settings, each with why.
const SETTINGS: [(&str, &str, &str); 4] = [
    ("min.insync.replicas", "2", "a record is stored when two have it, so that one may burn down"),
    ("retention.ms", "259200000", "three days: how long those who read may be away"),
    ("max.message.bytes", "1048588", "one batch, after compression; Kafka's own default"),
    ("message.timestamp.type", "CreateTime", "when the record happened, and not when it arrived"),
];

/// `UNKNOWN_TOPIC_OR_PARTITION`.
const NO_TOPIC: i16 = 3;

struct Topics {
    config: KafkaConfig,
    topic: Topic,
    cluster: Cluster,
}

impl KafkaConfig {
    pub(crate) fn setup(&self, context: &SinkContext) -> Result<Box<dyn Setup>, Vec<Problem>> {
        self.build(context)?;
        let mut problems = Vec::new();
        let (topic, cluster) = (Topic::parse(&self.topic, &mut problems), self.cluster(context, &mut problems));
        match (topic, cluster) {
            (Some(topic), Some(cluster)) => Ok(Box::new(Topics { config: self.clone(), topic, cluster })),
            _ => Err(problems),
        }
    }
}

impl Setup for Topics {
    fn needs(&self) -> Needs {
        let name = self.topic.as_literal().unwrap_or("<TOPIC>");
        let server = self.config.bootstrap_servers.first().map_or("localhost:9092", String::as_str);
        let mut text =
            String::from("# The topic, for Kafka's own tools. As many partitions as consumers shall be able to share the work.\n");
        for (setting, value, why) in SETTINGS {
            text += &format!("# {setting} = {value}: {why}\n");
        }
        text += &format!("kafka-topics.sh --bootstrap-server {server} --create --if-not-exists --topic {name} \\\n");
        text += "  --partitions 12 --replication-factor 3";
        for (setting, value, _) in SETTINGS {
            text += &format!(" \\\n  --config {setting}={value}");
        }
        text += "\n";
        if let Some(sasl) = &self.config.sasl {
            text += "\n# What the agent's user has to be allowed.\n";
            text += &format!("kafka-acls.sh --bootstrap-server {server} --add --allow-principal 'User:{}' \\\n", sasl.user);
            text += &format!("  --topic {name} --operation Write --operation Describe --operation DescribeConfigs\n");
        }
        let apply = "Look it over, then run it where Kafka's tools are:\n  skidder init kafka > topic.sh && sh topic.sh\n".to_owned();
        Needs { text, apply }
    }

    fn check(&self) -> Checking<'_> {
        Box::pin(self.look())
    }
}

impl Topics {
    async fn look(&self) -> Vec<Finding> {
        let (address, connection) = match self.cluster.any().await {
            Ok(found) => found,
            Err(Refused::Unanswered(why)) => return vec![Finding::fault(format!("Kafka cannot be reached: {why}"))],
            Err(Refused::Code(code)) => return vec![Finding::fault(format!("Kafka turns us away: {}", error(code)))],
        };
        let mut found = Vec::new();
        match connection.version(wire::PRODUCE) {
            Some(version) if version < 7 && self.config.compression == KafkaCompression::Zstd => {
                found.push(Finding::fault("the brokers are too old for zstd").help("write `compression = \"gzip\"`"));
            }
            Some(_) => {}
            None => found.push(Finding::fault("the brokers take batches in no version of the protocol that is spoken here")),
        }
        self.cluster.give_back(address, connection);
        if let Err(refused) = self.cluster.new_producer().await {
            found.push(Finding::fault(format!("no identity as a producer: {}", said(&refused))));
        }
        match self.topic.as_literal() {
            Some(topic) => self.look_at_topic(topic, &mut found).await,
            None => found.push(Finding::fine("Kafka can be reached; the topics are chosen by fields and were not looked at")),
        }
        found
    }

    async fn look_at_topic(&self, topic: &str, found: &mut Vec<Finding>) {
        let leaders: Arc<[i32]> = match self.cluster.leaders(topic).await {
            Ok(leaders) => leaders,
            Err(Refused::Code(NO_TOPIC)) if self.config.create_topic => {
                return found
                    .push(Finding::doubt(format!("the topic `{topic}` does not exist: the brokers make it with their own settings")));
            }
            Err(Refused::Code(NO_TOPIC)) => {
                let finding = Finding::fault(format!("the topic `{topic}` does not exist"));
                return found.push(finding.help("`skidder init kafka` prints the command that makes it"));
            }
            Err(refused) => return found.push(Finding::fault(format!("the topic `{topic}`: {}", said(&refused)))),
        };
        let gone = leaders.iter().filter(|leader| **leader < 0).count();
        if gone > 0 {
            found.push(Finding::doubt(format!("{gone} of the {} partitions of `{topic}` have no leader", leaders.len())));
        } else {
            found.push(Finding::fine(format!("the topic `{topic}` is there, with {} partitions", leaders.len())));
        }
        // Who may not ask for the settings may write all the same.
        if let Ok(settings) = self.settings(topic).await {
            self.look_at_settings(topic, &settings, found);
        }
    }

    async fn settings(&self, topic: &str) -> Result<BTreeMap<String, String>, Refused> {
        let (address, mut connection) = self.cluster.any().await?;
        let names = ["max.message.bytes", "cleanup.policy", "min.insync.replicas"];
        let (answer, _) = connection.call(wire::DESCRIBE_CONFIGS, &[&wire::describe_topic_request(topic, &names)]).await?;
        let (error, settings) = wire::describe_topic(&answer)?;
        self.cluster.give_back(address, connection);
        if error == 0 { Ok(settings.into_iter().collect()) } else { Err(Refused::Code(error)) }
    }

    fn look_at_settings(&self, topic: &str, settings: &BTreeMap<String, String>, found: &mut Vec<Finding>) {
        let number = |name: &str| settings.get(name).and_then(|value| value.parse::<u64>().ok());
        let batch = self.config.batch.max_bytes.unwrap_or(KafkaConfig::BATCH.max_bytes).0;
        if let Some(limit) = number("max.message.bytes").filter(|limit| *limit < batch) {
            let text = format!(
                "`{topic}` takes batches of {limit} bytes after compression, and `batch.max_bytes` is {batch} before it: some are halved"
            );
            // With compression that is the rule's exception.
            let is_likely = self.config.compression == KafkaCompression::None || limit < batch / 4;
            found.extend(is_likely.then(|| Finding::doubt(text)));
        }
        if settings.get("cleanup.policy").is_some_and(|policy| policy.contains("compact")) {
            let text = format!("`{topic}` is compacted: Kafka keeps the last record of each key, which is the last line of each pod");
            found.push(Finding::doubt(text).help("set `cleanup.policy=delete`"));
        }
        if number("min.insync.replicas") == Some(1) {
            found.push(Finding::fine(format!("`{topic}` counts a record as stored when one broker has it (`min.insync.replicas=1`)")));
        }
    }
}

fn said(refused: &Refused) -> String {
    match refused {
        Refused::Unanswered(why) => why.clone(),
        Refused::Code(code) => error(*code).to_string(),
    }
}
