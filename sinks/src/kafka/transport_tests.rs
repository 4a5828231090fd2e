//! Tests of the way to the brokers, with a broker of our own that answers as it is told.
#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;
use std::sync::Mutex as Lock;

use serde_json::json;
use skidder_pipeline::body::{Bodies, BodyLimits};
use skidder_pipeline::frame::{FrameScope, freeze};
use skidder_pipeline::sink::{Sink, Verdict};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::super::KafkaConfig;
use super::wire::Writer;
use super::*;
use crate::SinkContext;
use crate::testing::batch;

/// A batch that came: partition, producer, first number, count.
type Came = (i32, i64, i32, i32);

/// What is to be answered to a batch: an error, or nothing at all.
type Answer = Option<i16>;

#[derive(Default)]
struct Broker {
    port: u16,
    answers: Lock<VecDeque<Answer>>,
    came: Lock<Vec<Came>>,
    producers: Lock<i64>,
    asked: Lock<usize>,
    /// The newest version of `Produce`.
    newest: i16,
    throttle_ms: i32,
}

impl Broker {
    async fn start(answers: &[Answer], newest: i16, throttle_ms: i32) -> Arc<Broker> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let broker = Broker { port, answers: Lock::new(answers.iter().copied().collect()), newest, throttle_ms, ..Broker::default() };
        let broker = Arc::new(broker);
        let served = broker.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(served.clone().serve(stream));
            }
        });
        broker
    }

    async fn serve(self: Arc<Broker>, mut stream: TcpStream) -> Option<()> {
        loop {
            let len = stream.read_i32().await.ok()?;
            let mut request = vec![0; len as usize];
            stream.read_exact(&mut request).await.ok()?;
            let mut reader = wire::Reader::new(&request);
            let (key, version, number) = (reader.i16().ok()?, reader.i16().ok()?, reader.i32().ok()?);
            assert_eq!(reader.text().unwrap().unwrap(), "skidder");
            let body = self.answer(key, version, reader)?;
            let answer = Writer::default().i32(4 + body.0.len() as i32).i32(number);
            stream.write_all(&[answer.0, body.0].concat()).await.ok()?;
        }
    }

    fn answer(&self, key: i16, version: i16, mut reader: wire::Reader<'_>) -> Option<Writer> {
        let answer = Writer::default();
        Some(match key {
            18 => answer.i16(0).i32(3).i16(0).i16(3).i16(self.newest).i16(3).i16(0).i16(12).i16(22).i16(0).i16(4),
            3 => {
                *self.asked.lock().unwrap() += 1;
                let answer = answer.i32(0).i32(1).i32(1).text("127.0.0.1").i32(self.port.into()).i16(-1).i16(-1).i32(1);
                let answer = answer.i32(1).i16(0).text("logs").bool(false).i32(2);
                (0..2).fold(answer, |answer, partition| answer.i16(0).i32(partition).i32(1).i32(0).i32(0).i32(0).i32(0))
            }
            22 => {
                let mut producers = self.producers.lock().unwrap();
                *producers += 1;
                answer.i32(0).i16(0).i64(1000 + *producers).i16(0)
            }
            0 => {
                let (partition, batch) = {
                    assert_eq!((reader.text().ok()?, reader.i16().ok()?), (None, -1), "no transaction, all replicas");
                    for _ in 0..2 {
                        reader.i32().ok()?;
                    }
                    assert_eq!((reader.text().ok()?.as_deref(), reader.i32().ok()?), (Some("logs"), 1));
                    (reader.i32().ok()?, reader.bytes().ok()?)
                };
                let number = |range: std::ops::Range<usize>| batch[range].iter().fold(0i64, |sum, byte| sum << 8 | i64::from(*byte));
                assert_eq!(number(17..21), i64::from(crc32c::crc32c(&batch[21..])), "the checksum");
                self.came.lock().unwrap().push((partition, number(43..51), number(53..57) as i32, number(57..61) as i32));
                let error = self.answers.lock().unwrap().pop_front().unwrap_or(Some(0))?;
                let answer = answer.i32(1).text("logs").i32(1).i32(partition).i16(error).i64(0).i64(-1).i64(-1);
                let answer = if version >= 8 { answer.i32(0).i16(-1) } else { answer };
                answer.i32(self.throttle_ms)
            }
            _ => return None,
        })
    }

    fn sink(&self, more: serde_json::Value) -> (Arc<dyn Sink>, Arc<dyn Transport>) {
        let mut config = json!({"bootstrap_servers": [format!("127.0.0.1:{}", self.port)], "topic": "logs"});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let config: KafkaConfig = serde_json::from_value(config).unwrap();
        let parts = config.build(&SinkContext::default()).unwrap();
        (parts.sink, parts.transport)
    }
}

/// Batches of so many records each, uncompressed, each with an identity of its own.
fn batches(sink: &dyn Sink, counts: &[usize]) -> Vec<Frame> {
    let mut scope = FrameScope::new([0; 16], "test".into(), [0; 16]);
    let limits = BodyLimits { max_bytes: 1 << 20, max_records: 1000, linger: Duration::from_secs(1), max_open: 8 };
    let mut bodies = Bodies::new(Compression::None, limits);
    let make = |count: &usize| {
        sink.encoder().encode(&batch("{}", &vec!["{}"; *count]), 0, &mut bodies);
        freeze(&mut bodies, Vec::new(), &mut scope).remove(0)
    };
    counts.iter().map(make).collect()
}

const KEYLESS: &str = r#"{"key":""}"#;

async fn sent(answers: &[Answer], counts: &[usize]) -> (Arc<Broker>, Vec<Option<Verdict>>) {
    let broker = Broker::start(answers, 9, 0).await;
    let (sink, transport) = broker.sink(serde_json::from_str(KEYLESS).unwrap());
    let mut verdicts = Vec::new();
    for frame in batches(sink.as_ref(), counts) {
        // As the delivery does: until it is stored, or cut.
        loop {
            let verdict = transport.send(&frame).await.ok().map(|response| sink.judge(&frame, &response));
            let again = matches!(verdict, None | Some(Verdict::Retry { .. }));
            verdicts.push(verdict);
            if !again {
                break;
            }
        }
    }
    (broker, verdicts)
}

fn stored() -> Option<Verdict> {
    Some(Verdict::Delivered { duplicates: 0 })
}

#[tokio::test]
async fn a_batch_is_numbered_after_the_one_before_and_comes_again_as_the_same() {
    // An answer is lost, another broker leads, then the replicas are too few.
    let (broker, verdicts) = sent(&[None, Some(6), Some(20), Some(0), Some(0), Some(46)], &[3, 2, 4]).await;
    let came = broker.came.lock().unwrap().clone();
    assert_eq!(came, [(0, 1001, 0, 3), (0, 1001, 0, 3), (0, 1001, 0, 3), (0, 1001, 0, 3), (0, 1001, 3, 2), (0, 1001, 5, 4)]);
    assert!(verdicts[0].is_none() && matches!(&verdicts[1], Some(Verdict::Retry { reason }) if reason.starts_with("NOT_LEADER")));
    assert_eq!(verdicts[3..], [stored(), stored(), Some(Verdict::Delivered { duplicates: 4 })]);
    // Asked at the start, and after each of the three that went wrong; not for what went well.
    assert_eq!(*broker.asked.lock().unwrap(), 4);
}

#[tokio::test]
async fn where_the_broker_does_not_know_the_numbers_a_new_producer_begins() {
    let (broker, verdicts) = sent(&[Some(0), Some(45), Some(0), Some(59), Some(0)], &[3, 2, 4]).await;
    assert_eq!(*broker.came.lock().unwrap(), [(0, 1001, 0, 3), (0, 1001, 3, 2), (0, 1002, 0, 2), (0, 1002, 2, 4), (0, 1003, 0, 4)]);
    assert_eq!(verdicts.iter().filter(|verdict| **verdict == stored()).count(), 3);
}

#[tokio::test]
async fn what_is_too_large_leaves_its_number_to_its_halves() {
    let (broker, verdicts) = sent(&[Some(0), Some(10), Some(0)], &[3, 2, 1]).await;
    assert_eq!(*broker.came.lock().unwrap(), [(0, 1001, 0, 3), (0, 1001, 3, 2), (0, 1001, 3, 1)]);
    assert_eq!(verdicts, [stored(), Some(Verdict::Split), stored()]);
}

#[tokio::test]
async fn versions_and_throttling() {
    let broker = Broker::start(&[], 5, 300).await;
    let (sink, transport) = broker.sink(json!({"compression": "none"}));
    let frame = batches(sink.as_ref(), &[1]).remove(0);
    let begin = tokio::time::Instant::now();
    for _ in 0..2 {
        let response = transport.send(&frame).await.unwrap();
        assert_eq!((response.status, response.retry_after), (0, Some(Duration::from_millis(300))));
    }
    assert!(begin.elapsed() >= Duration::from_millis(290), "the second waited for as long as the broker wanted");
    let old = Broker::start(&[], 2, 0).await;
    let (sink, transport) = old.sink(json!({}));
    let answer = transport.send(&batches(sink.as_ref(), &[1]).remove(0)).await.unwrap();
    assert!(matches!(sink.judge(&batches(sink.as_ref(), &[1]).remove(0), &answer), Verdict::Pause { .. }), "too old a broker");
}
