//! The way to Kafka: finds the partition, its leader and the batch's numbers, and sends each frame as one batch.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use skidder_pipeline::body::{Compression, decompress};
use skidder_pipeline::frame::Frame;
use skidder_pipeline::sink::{Note, Response, Sending, Transport, TransportError};
use tokio::sync::Mutex;

use super::cluster::Cluster;
use super::connection::Refused;
use super::errors::{Class, error};
use super::journal::{self, Journal};
use super::partitions::{Partitions, Place};
use super::records::{self, BatchHead, Producer};
use super::sequences::{Sequences, Turn};
use super::wire::{self, Produced};

/// `LEADER_NOT_AVAILABLE`.
const NO_LEADER: i16 = 5;
/// `UNSUPPORTED_COMPRESSION_TYPE`.
const NO_COMPRESSION: i16 = 76;
/// `INVALID_RECORD`.
const INVALID: i16 = 87;

/// From this version of `Produce` on brokers know zstd.
const ZSTD_SINCE: i16 = 7;

/// What a transport is made of.
pub struct Options {
    pub cluster: Cluster,
    pub partitions: Arc<Partitions>,
    /// The sink's state directory, where it has one.
    pub state_dir: Option<PathBuf>,
    /// For how long the leader may wait for its replicas: within the time that a send has.
    pub ack_timeout: Duration,
    /// The topic that is known by name: asked for at the start.
    pub literal: Option<String>,
    pub sink: String,
}

/// Sends frames. The status of a [`Response`] is Kafka's error as an unsigned number; its body is the error as JSON: see [`fault`].
#[derive(Clone)]
pub struct KafkaTransport(Arc<Inner>);

struct Inner {
    options: Options,
    sequences: Sequences,
    /// Who begins partitions.
    producer: Mutex<Option<Producer>>,
}

impl KafkaTransport {
    pub fn new(options: Options) -> KafkaTransport {
        KafkaTransport(Arc::new(Inner { options, sequences: Sequences::default(), producer: Mutex::default() }))
    }
}

impl Transport for KafkaTransport {
    fn send<'a>(&'a self, frame: &'a Frame) -> Sending<'a> {
        Box::pin(async move {
            match self.0.send(frame).await {
                Ok(produced) => Ok(response(&produced)),
                Err(Refused::Code(code)) => Ok(response(&Produced { error: code, ..Produced::default() })),
                Err(Refused::Unanswered(why)) => Err(TransportError(why)),
            }
        })
    }

    /// Takes over the numbers of an earlier life, and begins to ask for the topic, so that bodies are filled by partition from the
    /// first on. Nothing waits for the answer.
    fn recover(&self, _: &[Note]) -> Result<(), TransportError> {
        let Options { state_dir, sink, literal, .. } = &self.0.options;
        if let Some(directory) = state_dir {
            match Journal::open(directory, &journal::boot()) {
                Ok((journal, known)) => self.0.sequences.resume(journal, known),
                Err(error) => {
                    tracing::warn!(sink, %error, "the numbers of batches cannot be kept: batches under way at a kill may be stored twice");
                }
            }
        }
        if let (Some(topic), Ok(runtime)) = (literal.clone(), tokio::runtime::Handle::try_current()) {
            let inner = self.0.clone();
            runtime.spawn(async move {
                let _ = tokio::time::timeout(Duration::from_secs(30), inner.leaders(&topic)).await;
            });
        }
        Ok(())
    }
}

impl Inner {
    async fn leaders(&self, topic: &str) -> Result<Arc<[i32]>, Refused> {
        let leaders = self.options.cluster.leaders(topic).await?;
        self.options.partitions.learn(topic, leaders.len() as u32);
        Ok(leaders)
    }

    async fn send(&self, frame: &Frame) -> Result<Produced, Refused> {
        let header = frame.header();
        let (topic, place) = Place::read(&header.destination);
        let Some(max_millis) = max_millis(frame) else {
            let message = Some("the stored body cannot be read back".to_owned());
            return Ok(Produced { error: INVALID, message, ..Produced::default() });
        };
        let leaders = self.leaders(topic).await?;
        let partition = match self.sequences.partition(topic, header.id) {
            Some(partition) => partition,
            None => partition(place, header.seq, &leaders),
        };
        let turn = self.sequences.turn((topic.to_owned(), partition), (header.seq, header.id)).await;
        // What was waited for may have taken its time.
        let produced = self.produce(frame, &turn, topic, partition, max_millis).await;
        if !matches!(&produced, Ok(produced) if matches!(produced.error, 0 | 46)) {
            self.options.cluster.forget(topic);
        }
        produced
    }

    /// Sends the batch to the partition whose turn this is.
    async fn produce(&self, frame: &Frame, turn: &Turn<'_>, topic: &str, partition: u32, max_millis: i64) -> Result<Produced, Refused> {
        let cluster = &self.options.cluster;
        let leaders = self.leaders(topic).await?;
        let leader = leaders.get(partition as usize).copied().filter(|leader| *leader >= 0).ok_or(Refused::Code(NO_LEADER))?;
        let address = cluster.address(leader)?;
        let producer = self.producer(turn).await?;
        cluster.wait(&address).await;
        let mut connection = cluster.to(&address).await?;
        if frame.header().compression == Compression::Zstd && connection.version(wire::PRODUCE).is_some_and(|version| version < ZSTD_SINCE)
        {
            return Err(Refused::Code(NO_COMPRESSION));
        }
        let (records, count) = (frame.body(), frame.header().records);
        let (producer, sequence) = turn.begin(producer, count);
        let head = BatchHead { compression: frame.header().compression, count, max_millis, producer, sequence }.write(records);
        let timeout_ms = i32::try_from(self.options.ack_timeout.as_millis()).unwrap_or(i32::MAX);
        let request = wire::produce_head(topic, partition as i32, timeout_ms, &head, records.len());
        let answer = connection.call(wire::PRODUCE, &[&request, records]).await;
        let (answer, version) = answer.inspect_err(|_| cluster.close(&address))?;
        let produced = wire::produced(&answer, version)?;
        cluster.throttle(&address, produced.throttle_ms);
        cluster.give_back(address, connection);
        match error(produced.error).class {
            _ if produced.error == 0 => turn.stored(),
            Class::Duplicate => turn.stored(),
            Class::TooLarge | Class::BadRecords => turn.refused(),
            Class::NewProducer => {
                if turn.is_repeat() {
                    let sink = &self.options.sink;
                    tracing::warn!(
                        sink,
                        topic,
                        partition,
                        "the broker has forgotten what it was sent: the records of one batch may be stored twice"
                    );
                }
                turn.lost();
            }
            Class::Retry | Class::Moved | Class::Pause | Class::NoTopic => {}
        }
        Ok(produced)
    }

    /// Who produces for the partition: as before, or who begins partitions now.
    async fn producer(&self, turn: &Turn<'_>) -> Result<Producer, Refused> {
        if let Some(producer) = turn.producer() {
            return Ok(producer);
        }
        let mut known = self.producer.lock().await;
        if turn.needs_new_producer() {
            *known = None;
        }
        match *known {
            Some(producer) => Ok(producer),
            None => {
                let producer = self.options.cluster.new_producer().await?;
                *known = Some(producer);
                Ok(producer)
            }
        }
    }
}

/// The partition of a frame that was not sent yet. What has no key goes to one after the other of those that have a leader.
fn partition(place: Place, seq: u64, leaders: &[i32]) -> u32 {
    let count = leaders.len() as u32;
    match place {
        // Where a topic was made anew with fewer partitions, others stand for those that are gone.
        Place::Partition(partition) => partition % count,
        Place::Hash(hash) => hash % count,
        Place::Any => {
            let led: Vec<u32> = (0..count).zip(leaders).filter(|(_, leader)| **leader >= 0).map(|(partition, _)| partition).collect();
            if led.is_empty() { (seq % u64::from(count)) as u32 } else { led[(seq % led.len() as u64) as usize] }
        }
    }
}

/// The latest time of a record, which the head of a batch says; none where the body is not what it was.
fn max_millis(frame: &Frame) -> Option<i64> {
    let header = frame.header();
    let body = decompress(header.compression, frame.body(), header.raw_bytes).ok()?;
    let (mut count, mut max) = (0, None);
    for record in records::read(&body) {
        count += 1;
        max = max.max(Some(record.millis));
    }
    max.filter(|_| count == header.records)
}

/// A fault of a batch, as the body of a [`Response`] has it.
#[derive(Default, serde::Serialize, serde::Deserialize)]
pub struct Fault {
    /// Which records, and why.
    pub records: Vec<(u32, String)>,
    /// What the broker says of all.
    pub message: String,
}

fn response(produced: &Produced) -> Response {
    let retry_after = u64::try_from(produced.throttle_ms).ok().filter(|wait| *wait > 0).map(Duration::from_millis);
    if produced.error == 0 {
        return Response { status: 0, retry_after, ..Response::ok() };
    }
    let each = produced.records.iter();
    let records = each.filter_map(|(index, why)| Some((u32::try_from(*index).ok()?, why.clone().unwrap_or_default()))).collect();
    let fault = Fault { records, message: produced.message.clone().unwrap_or_default() };
    let body: Bytes = serde_json::to_vec(&fault).unwrap_or_default().into();
    Response { status: produced.error as u16, retry_after, body, note: None }
}

#[cfg(test)]
#[path = "transport_tests.rs"]
mod tests;
