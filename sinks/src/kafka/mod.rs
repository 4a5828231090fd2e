//! `kafka`: records to Kafka, or what speaks its protocol.
//!
//! **What is frozen is what is stored.** A frame's body is the compressed part of one batch of records, for one partition
//! ([`records`]). Only the batch's head is made when it is sent, so a repeat is the same to the byte.
//!
//! **Once.** Brokers tell a batch that they have by the numbers of its producer ([`sequences`]), within a life of the agent and across
//! a kill of it.
//!
//! **In order.** The records of one key go to one partition, by the hash that Kafka's own clients have, and the batches of one
//! partition are sent one after the other.
//!
//! The client is our own: see decision 19.

mod answer;
mod cluster;
mod connection;
mod encode;
mod errors;
mod journal;
mod partitions;
mod records;
mod sasl;
mod sequences;
mod setup;
mod tls;
mod topic;
mod transport;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use skidder_pipeline::body::Compression;
use skidder_pipeline::frame::Frame;
use skidder_pipeline::path::Path;
use skidder_pipeline::problem::Problem;
use skidder_pipeline::sink::{Encode, Response, Sink, Verdict};
use skidder_pipeline::template::Template;

use crate::common::schema::Schema;
use crate::common::{BatchConfig, BatchDefaults, BufferConfig, BufferType, ByteSize, RequestConfig, TlsConfig};
use crate::{SinkContext, SinkParts, unless};
use cluster::{Address, Cluster};
use connection::Connector;
use encode::{RecordEncoder, Settings};
use partitions::Partitions;
pub use sasl::{Mechanism, SaslConfig};
use tls::Tls;
use topic::Topic;
use transport::KafkaTransport;

/// Sends records to Kafka.
///
/// The value of a record is the record as a JSON object; its id is in the header `log.record.uid`. The records of one pod, or one file,
/// go to one partition in their order. Brokers store nothing twice: not what is sent again after a lost answer, nor after a kill of the
/// agent. Its buffer is on disk.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KafkaConfig {
    /// Brokers to ask for the others: `host:port`. Two or three, so that one may be away.
    pub bootstrap_servers: Vec<String>,
    /// The topic: a template. It starts with a text of its own or is made of `kubernetes.…` fields, so that no record can choose a topic
    /// that is not its own. What a field says is cut to 63 characters, and `_` stands for those that no topic may have, and for dots.
    pub topic: String,
    /// The key: a template. Records of one key go to one partition in their order. Where it is not given: the uid of the pod, or the
    /// file. Where a part has no value, and for `""`, there is no key, and batches go to the partitions in turn.
    #[serde(default = "key")]
    pub key: String,
    /// Whether brokers may make a topic that is not there, with their own settings (`auto.create.topics.enable`). Without it the sink
    /// waits until there is one.
    #[serde(default)]
    pub create_topic: bool,
    /// How batches are compressed: `zstd` (brokers from 2.1 on), `gzip`, `snappy`, `lz4` or `none`.
    #[serde(default)]
    pub compression: KafkaCompression,
    /// What fields are called: `vector`, `otel` or `ecs`. Topic and key go by Vector's names.
    #[serde(default)]
    pub schema: Schema,
    /// The field that the time of a record is read from, where it is a time of RFC 3339 or a number of seconds to nanoseconds
    /// since 1970. Without it, `timestamp`; the time of the agent where it is no time.
    #[serde(default = "timestamp")]
    pub time_field: String,
    /// Where records wait until the brokers have them.
    #[serde(default)]
    pub buffer: BufferConfig,
    /// When records are sent. Where nothing is given: 1 MiB of one partition before compression, any number of records, one second.
    /// After compression a batch has to stay below the topic's `max.message.bytes` (1 MiB); a larger one is halved.
    #[serde(default)]
    pub batch: BatchConfig,
    /// How requests are made.
    #[serde(default)]
    pub request: RequestConfig,
    /// Credentials by SASL.
    pub sasl: Option<SaslConfig>,
    /// TLS. Without this table there is none; an empty one (`tls = {}`) trusts the system's authorities.
    pub tls: Option<TlsConfig>,
}

fn key() -> String {
    "{{ kubernetes.pod_uid ?? file }}".to_owned()
}

fn timestamp() -> String {
    "timestamp".to_owned()
}

/// How batches are compressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum KafkaCompression {
    /// Zstandard, level 1.
    #[default]
    Zstd,
    /// gzip, level 1.
    Gzip,
    /// Snappy.
    Snappy,
    /// LZ4.
    Lz4,
    /// Not at all.
    None,
}

impl From<KafkaCompression> for Compression {
    fn from(compression: KafkaCompression) -> Compression {
        match compression {
            KafkaCompression::Zstd => Compression::Zstd,
            KafkaCompression::Gzip => Compression::Gzip,
            KafkaCompression::Snappy => Compression::Snappy,
            KafkaCompression::Lz4 => Compression::Lz4,
            KafkaCompression::None => Compression::None,
        }
    }
}

impl KafkaConfig {
    /// What brokers take by default (`message.max.bytes`): with any compression at all, far below it.
    const BATCH: BatchDefaults = BatchDefaults { max_bytes: ByteSize::mib(1), max_events: u32::MAX, linger: Duration::from_secs(1) };

    /// Of the time that a send has, the part that the leader may wait for its replicas: the rest is for the way.
    const ACK_SHARE: f64 = 0.5;
    const MAX_ACK_TIMEOUT: Duration = Duration::from_secs(30);

    pub(crate) fn build(&self, context: &SinkContext) -> Result<SinkParts, Vec<Problem>> {
        let mut problems = Vec::new();
        let topic = Topic::parse(&self.topic, &mut problems);
        let key = match Template::parse(&self.key) {
            Ok(key) => Some(key),
            Err(error) => {
                problems.push(Problem::at("key", error));
                None
            }
        };
        let time = Path::parse(&self.time_field).map_err(|error| problems.push(Problem::at("time_field", error))).ok();
        let buffer = self.buffer.resolve(BufferType::Disk, &mut problems);
        let limits = self.batch.resolve(Self::BATCH, &mut problems);
        let mut delivery = self.request.resolve(&mut problems);
        delivery.ordered = true;
        let cluster = self.cluster(context, &mut problems);
        let (Some(topic), Some(key), Some(time), Some(cluster)) = (topic, key, time, cluster) else { return Err(problems) };
        let partitions = Arc::new(Partitions::new(context.state_dir.as_ref().map(|directory| directory.join("partitions.json"))));
        let ack_timeout = delivery.timeout.map_or(Self::MAX_ACK_TIMEOUT, |timeout| timeout.mul_f64(Self::ACK_SHARE));
        let transport = KafkaTransport::new(transport::Options {
            cluster,
            partitions: partitions.clone(),
            state_dir: context.state_dir.clone(),
            ack_timeout: ack_timeout.min(Self::MAX_ACK_TIMEOUT),
            literal: topic.as_literal().map(str::to_owned),
            sink: context.name.clone(),
        });
        let key = (!self.key.is_empty()).then_some(key);
        let settings = Settings { topic, key, schema: self.schema, time, partitions, clock: context.clock() };
        unless(problems, || SinkParts {
            sink: Arc::new(Kafka { settings: Arc::new(settings) }),
            transport: Arc::new(transport),
            compression: self.compression.into(),
            limits,
            buffer,
            delivery,
        })
    }

    /// The way to the brokers.
    fn cluster(&self, context: &SinkContext, problems: &mut Vec<Problem>) -> Option<Cluster> {
        let before = problems.len();
        if self.bootstrap_servers.is_empty() {
            problems.push(Problem::at("bootstrap_servers", "at least one is needed").help("write `bootstrap_servers = [\"host:9092\"]`"));
        }
        let mut servers = Vec::new();
        for (index, text) in self.bootstrap_servers.iter().enumerate() {
            match address(text) {
                Some(address) => servers.push(address),
                None => {
                    let problem = Problem::at(&format!("bootstrap_servers.{index}"), "not a host and a port");
                    problems.push(problem.help("write `\"host:9092\"`; TLS is what the table `tls` says"));
                }
            }
        }
        let sasl = match &self.sasl {
            Some(sasl) => Some(sasl.resolve(context, problems)?),
            None => None,
        };
        let open = self.sasl.as_ref().is_some_and(|sasl| sasl.mechanism == Mechanism::Plain && !sasl.allow_plaintext);
        if open && self.tls.is_none() && servers.iter().any(|(host, _)| !is_this_machine(host)) {
            let problem =
                Problem::at("sasl.mechanism", "`plain` would send the password to another machine where everyone on the way can read it");
            problems.push(problem.help("add `tls = {}`, or `sasl.allow_plaintext = true` where the network is yours alone"));
        }
        let tls = match &self.tls {
            Some(tls) => Some(Tls::new(tls, context, problems)?),
            None => None,
        };
        (problems.len() == before).then(|| Cluster::new(Connector { tls, sasl }, servers, self.create_topic))
    }
}

/// `host:port`, where the host may be an address of IPv6 in brackets.
fn address(text: &str) -> Option<Address> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port > 0)?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
    match bare {
        Some(bare) => bare.parse::<std::net::Ipv6Addr>().is_ok().then(|| (bare.to_owned(), port)),
        None => is_host.then(|| (host.to_owned(), port)),
    }
}

fn is_this_machine(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The sink. A body is the records of one batch: see [`records`].
struct Kafka {
    settings: Arc<Settings>,
}

impl Sink for Kafka {
    fn encoder(&self) -> Box<dyn Encode> {
        Box::new(RecordEncoder::new(self.settings.clone()))
    }

    fn judge(&self, frame: &Frame, response: &Response) -> Verdict {
        answer::judge(response, frame.header().records, self.settings.topic.as_literal())
    }

    fn cut(&self, body: &[u8], records: &[u32]) -> Vec<u8> {
        records::cut(body, records)
    }

    fn show(&self, body: &[u8], index: u32) -> Vec<u8> {
        let record = records::read(body).nth(index as usize);
        record.map_or_else(|| b"null".to_vec(), |record| record.value.to_vec())
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
