//! What is put around a body when it is sent: the stream's labels.

use bytes::Bytes;
use serde_json::{Map, Value, json};
use skidder_pipeline::body::{Compression, compress, decompress};
use skidder_pipeline::frame::Frame;

use super::{entries, labels};
use crate::common::proto;

/// The body of the request for a frame: Loki's `PushRequest` with the one stream, in Snappy's block format.
///
/// The frame's body is a block with the stream's entries. What stands before them in the message, the lengths and the labels, is
/// put before the block's elements as a literal, and the length of the whole before that. Copies in a block refer to what lies
/// so far back, so they are right where they are: nothing is compressed again.
pub fn wrap(frame: &Frame) -> Bytes {
    let header = frame.header();
    let (_, labels) = labels::split(&header.destination);
    let stream_len = proto::bytes_len(1, labels.len()) as u64 + header.raw_bytes;
    let mut before = Vec::with_capacity(labels.len() + 16);
    // `PushRequest { repeated StreamAdapter streams = 1; }`
    proto::head(1, stream_len as usize, &mut before);
    proto::bytes(1, labels.as_bytes(), &mut before);

    // The block's own length is a varint: it ends with the first byte below 128.
    let elements = frame.body().iter().position(|byte| *byte < 0x80).map_or(&[][..], |last| &frame.body()[last + 1..]);
    let mut block = Vec::with_capacity(elements.len() + before.len() + 16);
    proto::varint(before.len() as u64 + header.raw_bytes, &mut block);
    for piece in before.chunks(1 << 16) {
        // A literal with a length of two bytes: tag 61 in the upper six bits, 00 in the lower two.
        block.push(61 << 2);
        block.extend_from_slice(&((piece.len() - 1) as u16).to_le_bytes());
        block.extend_from_slice(piece);
    }
    block.extend_from_slice(elements);
    block.into()
}

/// The same as Loki's JSON, in gzip: `{"streams":[{"stream":{"name":"value"},"values":[["nanoseconds","line",{"name":"value"}]]}]}`.
///
/// Frames are alike whatever is sent of them, so those that wait when the encoding is changed go out in the new one, and a repeat
/// is the same to the byte.
pub fn wrap_json(frame: &Frame) -> Bytes {
    let header = frame.header();
    let (_, labels) = labels::split(&header.destination);
    // A body that cannot be read back is one without entries: Loki refuses it with a reason.
    let body = decompress(header.compression, frame.body(), header.raw_bytes).unwrap_or_default();
    let text = |bytes: &[u8]| Value::from(String::from_utf8_lossy(bytes));
    let value = |entry: super::Entry<'_>| {
        let metadata: Map<String, Value> =
            entry.metadata.iter().map(|(name, value)| (String::from_utf8_lossy(name).into_owned(), text(value))).collect();
        json!([entry.unix_nanos.to_string(), text(entry.line), metadata])
    };
    let stream: Map<String, Value> = labels::pairs(labels).map(|(name, value)| (name.to_owned(), value.into())).collect();
    let values: Vec<Value> = entries(&body).map(value).collect();
    let request = json!({ "streams": [{ "stream": stream, "values": values }] });
    compress(Compression::Gzip, request.to_string().as_bytes()).into()
}
