//! Kafka's protocol, as far as a producer speaks it: <https://kafka.apache.org/protocol.html>.
//!
//! A request is a length, a head (which API, which version, a number of its own, the client's name) and a body; an answer is a
//! length, the number and a body. Only versions with the plain encodings are spoken (lengths of 2 and 4 bytes, no tagged fields):
//! every broker from 1.0 to 4.x has them.

use bytes::Bytes;

use super::records::BATCH_HEAD_BYTES;

/// A request that we know: its number, and the versions of it that we speak.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Api {
    /// Its number.
    pub key: i16,
    /// The oldest version spoken here.
    pub oldest: i16,
    /// The newest version spoken here.
    pub newest: i16,
    /// Its name, for errors.
    pub name: &'static str,
}

/// Version 7 brings zstd, version 8 says which records are at fault.
pub const PRODUCE: Api = Api { key: 0, oldest: 3, newest: 8, name: "Produce" };
/// From version 4 on it can be asked not to make topics.
pub const METADATA: Api = Api { key: 3, oldest: 4, newest: 7, name: "Metadata" };
/// Version 1 wraps what follows in `SaslAuthenticate`.
pub const SASL_HANDSHAKE: Api = Api { key: 17, oldest: 1, newest: 1, name: "SaslHandshake" };
/// Asked first and in version 0, which each broker answers.
pub const API_VERSIONS: Api = Api { key: 18, oldest: 0, newest: 0, name: "ApiVersions" };
/// The identity of a producer.
pub const INIT_PRODUCER_ID: Api = Api { key: 22, oldest: 0, newest: 1, name: "InitProducerId" };
/// What brokers and topics are set to.
pub const DESCRIBE_CONFIGS: Api = Api { key: 32, oldest: 1, newest: 1, name: "DescribeConfigs" };
/// Version 1 says how long a session holds.
pub const SASL_AUTHENTICATE: Api = Api { key: 36, oldest: 0, newest: 1, name: "SaslAuthenticate" };

/// The part of an answer that is not as the protocol has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the broker's answer is not as Kafka's protocol has it")]
pub struct Malformed;

/// Writes the protocol's types.
#[derive(Default)]
pub struct Writer(pub Vec<u8>);

impl Writer {
    pub fn bool(mut self, value: bool) -> Writer {
        self.0.push(value.into());
        self
    }

    pub fn i8(mut self, value: i8) -> Writer {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub fn i16(mut self, value: i16) -> Writer {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub fn i32(mut self, value: i32) -> Writer {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    #[cfg(test)]
    pub fn i64(mut self, value: i64) -> Writer {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// A text of at most 32,767 bytes, which names are by Kafka's own rules.
    pub fn text(self, text: &str) -> Writer {
        let text = &text.as_bytes()[..text.len().min(i16::MAX as usize)];
        let mut writer = self.i16(text.len() as i16);
        writer.0.extend_from_slice(text);
        writer
    }

    /// Bytes of any length.
    pub fn bytes(self, bytes: &[u8]) -> Writer {
        let mut writer = self.i32(bytes.len() as i32);
        writer.0.extend_from_slice(bytes);
        writer
    }
}

/// Reads the protocol's types from an answer.
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader(bytes)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub fn bool(&mut self) -> Result<bool, Malformed> {
        Ok(self.array::<1>()? != [0])
    }

    pub fn i8(&mut self) -> Result<i8, Malformed> {
        self.array().map(i8::from_be_bytes)
    }

    pub fn i16(&mut self) -> Result<i16, Malformed> {
        self.array().map(i16::from_be_bytes)
    }

    pub fn i32(&mut self) -> Result<i32, Malformed> {
        self.array().map(i32::from_be_bytes)
    }

    pub fn i64(&mut self) -> Result<i64, Malformed> {
        self.array().map(i64::from_be_bytes)
    }

    /// A text, which may be none.
    pub fn text(&mut self) -> Result<Option<String>, Malformed> {
        match self.i16()? {
            -1 => Ok(None),
            len => {
                let bytes = self.take(usize::try_from(len).map_err(|_| Malformed)?)?;
                Ok(Some(String::from_utf8_lossy(bytes).into_owned()))
            }
        }
    }

    /// Bytes, which may be none.
    pub fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        match self.i32()? {
            -1 => Ok(&[]),
            len => self.take(usize::try_from(len).map_err(|_| Malformed)?),
        }
    }

    /// An array, whose elements `read` reads. Each takes a byte at least, so that a length cannot be a lie about memory.
    pub fn list<T>(&mut self, mut read: impl FnMut(&mut Reader<'a>) -> Result<T, Malformed>) -> Result<Vec<T>, Malformed> {
        let len = usize::try_from(self.i32()?.max(0)).map_err(|_| Malformed)?;
        if len > self.0.len() {
            return Err(Malformed);
        }
        (0..len).map(|_| read(self)).collect()
    }
}

/// What a request begins with: its length, of which `body_bytes` are the body's, and its head.
pub fn request_head(api: Api, version: i16, number: i32, body_bytes: usize) -> Vec<u8> {
    let head = Writer::default().i32(0).i16(api.key).i16(version).i32(number).text(CLIENT);
    let mut head = head.0;
    let len = (head.len() - 4 + body_bytes) as i32;
    head[..4].copy_from_slice(&len.to_be_bytes());
    head
}

/// What the client is called in the broker's logs and quotas.
pub const CLIENT: &str = "skidder";

/// The versions of an API that a broker speaks: its key, the oldest, the newest.
pub type Versions = (i16, i16, i16);

/// The versions of each API that a broker speaks, with the error, which is not 0 where it does not know our version of this very
/// request.
pub fn api_versions(answer: &[u8]) -> Result<(i16, Vec<Versions>), Malformed> {
    let mut reader = Reader::new(answer);
    let error = reader.i16()?;
    Ok((error, reader.list(|reader| Ok((reader.i16()?, reader.i16()?, reader.i16()?)))?))
}

/// Asks for the partitions of topics and the brokers that lead them.
pub fn metadata_request(topics: &[&str], may_create: bool) -> Vec<u8> {
    let writer = Writer::default().i32(topics.len() as i32);
    topics.iter().fold(writer, |writer, topic| writer.text(topic)).bool(may_create).0
}

/// The brokers and topics of a cluster.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Metadata {
    /// Number, host and port.
    pub brokers: Vec<(i32, String, u16)>,
    /// Name, error, and the leaders of the partitions by their number; -1 where there is none.
    pub topics: Vec<(String, i16, Vec<i32>)>,
}

/// Reads the answer to [`metadata_request`].
pub fn metadata(answer: &[u8], version: i16) -> Result<Metadata, Malformed> {
    let mut reader = Reader::new(answer);
    reader.i32()?;
    let brokers = reader.list(|reader| {
        let broker = (reader.i32()?, reader.text()?.ok_or(Malformed)?, u16::try_from(reader.i32()?).map_err(|_| Malformed)?);
        reader.text()?;
        Ok(broker)
    })?;
    reader.text()?;
    reader.i32()?;
    let topics = reader.list(|reader| {
        let (error, name) = (reader.i16()?, reader.text()?.ok_or(Malformed)?);
        reader.bool()?;
        let mut partitions = reader.list(|reader| {
            reader.i16()?;
            let partition = (reader.i32()?, reader.i32()?);
            if version >= 7 {
                reader.i32()?;
            }
            reader.list(Reader::i32)?;
            reader.list(Reader::i32)?;
            if version >= 5 {
                reader.list(Reader::i32)?;
            }
            Ok(partition)
        })?;
        partitions.sort_unstable();
        Ok((name, error, partitions.into_iter().map(|(_, leader)| leader).collect()))
    })?;
    Ok(Metadata { brokers, topics })
}

/// Asks for an identity as a producer, without transactions.
pub fn init_producer_id_request() -> Vec<u8> {
    Writer::default().i16(-1).i32(0).0
}

/// Error, identity and epoch.
pub fn init_producer_id(answer: &[u8]) -> Result<(i16, i64, i16), Malformed> {
    let mut reader = Reader::new(answer);
    reader.i32()?;
    Ok((reader.i16()?, reader.i64()?, reader.i16()?))
}

/// All of a request to store one batch but its records: the batch's head is the last of it.
///
/// The batch is stored when all replicas in sync have it (`acks=all`), or the broker says that they did not within `timeout_ms`.
pub fn produce_head(topic: &str, partition: i32, timeout_ms: i32, head: &[u8; BATCH_HEAD_BYTES], records_bytes: usize) -> Vec<u8> {
    let writer = Writer::default().i16(-1).i16(-1).i32(timeout_ms).i32(1).text(topic).i32(1).i32(partition);
    let mut writer = writer.i32((head.len() + records_bytes) as i32);
    writer.0.extend_from_slice(head);
    writer.0
}

/// What became of a batch.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Produced {
    /// 0 where it is stored.
    pub error: i16,
    /// The place of its first record in the partition.
    pub base_offset: i64,
    /// Which records are at fault, and why.
    pub records: Vec<(i32, Option<String>)>,
    /// Why.
    pub message: Option<String>,
    /// For how long the broker wants nothing more, in milliseconds.
    pub throttle_ms: i32,
}

/// Reads the answer to a request of one batch.
pub fn produced(answer: &[u8], version: i16) -> Result<Produced, Malformed> {
    let mut reader = Reader::new(answer);
    let topics = reader.list(|reader| {
        reader.text()?;
        reader.list(|reader| {
            reader.i32()?;
            let mut produced = Produced { error: reader.i16()?, base_offset: reader.i64()?, ..Produced::default() };
            reader.i64()?;
            if version >= 5 {
                reader.i64()?;
            }
            if version >= 8 {
                produced.records = reader.list(|reader| Ok((reader.i32()?, reader.text()?)))?;
                produced.message = reader.text()?;
            }
            Ok(produced)
        })
    })?;
    let throttle_ms = reader.i32()?;
    let produced = topics.into_iter().flatten().next().ok_or(Malformed)?;
    Ok(Produced { throttle_ms, ..produced })
}

/// Asks to speak by this mechanism from now on.
pub fn sasl_handshake_request(mechanism: &str) -> Vec<u8> {
    Writer::default().text(mechanism).0
}

/// The error, and the mechanisms that the broker has.
pub fn sasl_handshake(answer: &[u8]) -> Result<(i16, Vec<String>), Malformed> {
    let mut reader = Reader::new(answer);
    let error = reader.i16()?;
    Ok((error, reader.list(|reader| Ok(reader.text()?.unwrap_or_default()))?))
}

/// One message of a mechanism.
pub fn sasl_authenticate_request(message: &[u8]) -> Vec<u8> {
    Writer::default().bytes(message).0
}

/// An answer to a mechanism's message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Authenticated {
    /// 0 where all is well so far.
    pub error: i16,
    /// The mechanism's next message.
    pub message: Bytes,
    /// After so many milliseconds the broker wants to be told again who this is; 0 for never.
    pub lifetime_ms: i64,
}

/// Reads the answer to [`sasl_authenticate_request`]. The broker's sentence about an error is left out: it may quote.
pub fn sasl_authenticate(answer: &[u8], version: i16) -> Result<Authenticated, Malformed> {
    let mut reader = Reader::new(answer);
    let error = reader.i16()?;
    reader.text()?;
    let message = Bytes::copy_from_slice(reader.bytes()?);
    let lifetime_ms = if version >= 1 { reader.i64()? } else { 0 };
    Ok(Authenticated { error, message, lifetime_ms })
}

/// Asks for settings of a topic.
pub fn describe_topic_request(topic: &str, settings: &[&str]) -> Vec<u8> {
    const TOPIC: i8 = 2;
    let writer = Writer::default().i32(1).i8(TOPIC).text(topic).i32(settings.len() as i32);
    settings.iter().fold(writer, |writer, setting| writer.text(setting)).bool(false).0
}

/// The error, and settings with their values.
pub fn describe_topic(answer: &[u8]) -> Result<(i16, Vec<(String, String)>), Malformed> {
    let mut reader = Reader::new(answer);
    reader.i32()?;
    let topics = reader.list(|reader| {
        let error = reader.i16()?;
        reader.text()?;
        reader.i8()?;
        reader.text()?;
        let settings = reader.list(|reader| {
            let setting = (reader.text()?.unwrap_or_default(), reader.text()?.unwrap_or_default());
            reader.bool()?;
            reader.i8()?;
            reader.bool()?;
            reader.list(|reader| {
                reader.text()?;
                reader.text()?;
                reader.i8()
            })?;
            Ok(setting)
        })?;
        Ok((error, settings))
    })?;
    topics.into_iter().next().ok_or(Malformed)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_as_the_protocol_has_them() {
        let answer = Writer::default().i32(0).i32(2).i32(1).text("a").i32(9092).i16(-1).i32(2).text("b").i32(9093).text("rack");
        let answer = answer.text("cluster").i32(1).i32(1).i16(0).text("logs").bool(false).i32(2);
        // Partition 1 before partition 0, as brokers have it in any order.
        let answer = [(1, 2), (0, 1)].into_iter().fold(answer, |answer, (partition, leader)| {
            answer.i16(0).i32(partition).i32(leader).i32(7).i32(1).i32(leader).i32(1).i32(leader).i32(0)
        });
        let expected = Metadata {
            brokers: vec![(1, "a".to_owned(), 9092), (2, "b".to_owned(), 9093)],
            topics: vec![("logs".to_owned(), 0, vec![1, 2])],
        };
        assert_eq!(metadata(&answer.0, 7), Ok(expected));

        let answer = Writer::default().i32(1).text("logs").i32(1).i32(3).i16(87).i64(-1).i64(-1).i64(-1);
        let answer = answer.i32(1).i32(4).text("no key").text("bad").i32(250);
        let expected = Produced {
            error: 87,
            base_offset: -1,
            records: vec![(4, Some("no key".to_owned()))],
            message: Some("bad".to_owned()),
            throttle_ms: 250,
        };
        assert_eq!(produced(&answer.0, 8), Ok(expected));
    }

    #[test]
    fn what_is_cut_off_or_lies_about_its_length_is_an_error() {
        let whole = Writer::default().i32(1).text("logs").i32(1).i32(3).i16(0).i64(7).i64(-1).i64(-1).i32(0).i16(-1).i32(0).0;
        assert_eq!(produced(&whole, 8).unwrap().base_offset, 7);
        for end in 0..whole.len() {
            assert_eq!(produced(&whole[..end], 8), Err(Malformed), "{end}");
        }
        let lie = Writer::default().i16(0).i32(i32::MAX).0;
        assert_eq!(api_versions(&lie), Err(Malformed));
    }
}
