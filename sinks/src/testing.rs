//! What tests of sinks have in common.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use skidder_pipeline::batch::Batch;
use skidder_pipeline::body::{Bodies, BodyLimits, Compression};
use skidder_pipeline::frame::{Frame, FrameScope, freeze};
use skidder_pipeline::json;
use skidder_pipeline::position::FileKey;
use skidder_pipeline::shared::{Shared, SharedFields};
use skidder_pipeline::sink::Encode;
use skidder_pipeline::value::{Kind, Span, Value};

/// A batch of records with shared fields, both given as JSON objects. Record *n* stands at offset 100 *n*.
pub fn batch(shared: &str, records: &[&str]) -> Batch {
    let mut fields = SharedFields::default();
    let object = Value { kind: Kind::Object, raw: shared.as_bytes() };
    json::members(object, |key, value| fields.set(key, value));
    let mut batch = Batch::new(Shared::new(fields), FileKey([7; 16]));
    for (index, record) in records.iter().enumerate() {
        let span = batch.append(record.as_bytes());
        let mut fields = Vec::new();
        json::walk(batch.bytes(), Span { start: span.start, end: span.end }, &mut fields).unwrap();
        batch.push(index as u64 * 100, &fields);
    }
    batch
}

/// The frames of what `write` writes into bodies.
pub fn frames(write: impl FnOnce(&mut Bodies)) -> Vec<Frame> {
    frames_with(Compression::None, write)
}

/// The same, compressed.
pub fn frames_with(compression: Compression, write: impl FnOnce(&mut Bodies)) -> Vec<Frame> {
    let limits = BodyLimits { max_bytes: 1 << 20, max_records: 1000, linger: Duration::from_secs(1), max_open: 8 };
    let mut bodies = Bodies::new(compression, limits);
    write(&mut bodies);
    freeze(&mut bodies, Vec::new(), &mut FrameScope::new([0; 16], "test".into(), [0; 16]))
}

/// Destination and body of each frame that `encoder` makes of `batch`.
pub fn encoded(mut encoder: Box<dyn Encode>, batch: &Batch) -> Vec<(String, String)> {
    let frames = frames(|out| encoder.encode(batch, 0, out));
    frames.iter().map(|f| (f.header().destination.to_string(), String::from_utf8(f.body().to_vec()).unwrap())).collect()
}

/// A frame of `records` records without a compression.
pub fn frame(destination: &str, body: &str, records: u32) -> Frame {
    frames(|out| out.write(destination, body.as_bytes(), records)).remove(0)
}

/// A store of HTTP/1.1 on loopback that answers each request with the status and body that `answer` gives for its method, path
/// and query, and body. Lives as long as the runtime.
pub async fn store(answer: impl Fn(&str, &str, &[u8]) -> (u16, String) + Send + Sync + 'static) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = answer.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let answer = answer.clone();
                async move {
                    let (head, body) = request.into_parts();
                    let body = body.collect().await?.to_bytes();
                    let path = head.uri.path_and_query().map_or("", |path| path.as_str());
                    let (status, text) = answer(head.method.as_str(), path, &body);
                    Ok::<_, hyper::Error>(Response::builder().status(status).body(Full::new(Bytes::from(text))).unwrap())
                }
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    url
}
