//! What pods ask for that is done with records, not with files: that those of one stream are left out, a parser from a fixed list. It is counted here, too, which
//! records go out without all that should be known of their pods.

use std::sync::Arc;

use jiff::Timestamp;
use skidder_pipeline::batch::Batch;
use skidder_pipeline::edge::Nanos;
use skidder_pipeline::path::Path;
use skidder_pipeline::shared::{PerShared, Shared};
use skidder_pipeline::source::{Chunk, Read, SinkSet, Source};
use skidder_pipeline::transform::{Report, Transform};
use skidder_pipeline::value::Value;
use skidder_transforms::json::{Json, JsonConfig};

use crate::metadata::counts::Counts;
use crate::metadata::{Parser, Stream};

/// A source that heeds what the fields of its records say of them: `kubernetes.excluded_stream`, `kubernetes.parser` and
/// `kubernetes.metadata`.
pub(super) struct Heeding {
    source: Box<dyn Source>,
    counts: Arc<Counts>,
    /// Whether records are counted here; what a fork reads has been.
    is_first: bool,
    wishes: PerShared<Wish>,
    json: Option<Json>,
}

/// What is to be done with all records of a batch.
struct Wish {
    namespace: Box<str>,
    excluded_stream: Option<Stream>,
    parser: Option<Parser>,
    partial: bool,
}

impl Heeding {
    pub(super) fn new(source: Box<dyn Source>, counts: Arc<Counts>) -> Heeding {
        Heeding { source, counts, is_first: true, wishes: PerShared::new(), json: Json::new(&JsonConfig::default()).ok() }
    }

    fn heed(&mut self, chunk: &mut Chunk, now: Nanos) {
        if chunk.batch.is_empty() {
            return;
        }
        let wish = self.wishes.get_or_make(chunk.batch.shared(), |shared| wish(shared));
        let (excluded_stream, parser, partial) = (wish.excluded_stream, wish.parser, wish.partial);
        if let Some(time) = first_time(&chunk.batch) {
            self.counts.backlog.read(&wish.namespace, now, time);
        }
        if let Some(excluded) = excluded_stream {
            chunk.batch.retain(|record| !record.iter().any(|(key, value)| key == b"stream" && value.raw == excluded.name().as_bytes()));
        }
        if partial && self.is_first {
            self.counts.partial_records.add(chunk.batch.len() as u64);
        }
        if let (Some(Parser::Json), Some(json)) = (parser, &mut self.json) {
            json.apply(&mut chunk.batch, &mut Report::default());
        }
    }
}

/// When the first record was written, in nanoseconds since 1970.
fn first_time(batch: &Batch) -> Option<i64> {
    let (_, time) = batch.record(0).iter().find(|(key, _)| *key == b"timestamp")?;
    let time: Timestamp = std::str::from_utf8(time.raw).ok()?.parse().ok()?;
    i64::try_from(time.as_nanosecond()).ok()
}

fn wish(shared: &Shared) -> Wish {
    let value = |path: &str| -> Option<Value<'_>> {
        let path = Path::parse(path).ok()?;
        shared.get(path.first())?.descend(path.rest())
    };
    let excluded_stream = value("kubernetes.excluded_stream").and_then(|name| Stream::from_name(&name.plain_str()));
    let namespace = value("kubernetes.pod_namespace").map(|name| name.plain_str().into()).unwrap_or_default();
    let parser = value("kubernetes.parser").and_then(|name| Parser::from_name(&name.plain_str()));
    Wish { namespace, excluded_stream, parser, partial: value("kubernetes.metadata").is_some() }
}

impl Source for Heeding {
    fn read(&mut self, chunk: &mut Chunk, now: Nanos) -> Read {
        let read = self.source.read(chunk, now);
        if read == Read::Chunk {
            self.heed(chunk, now);
        }
        read
    }

    fn fork(&self, sinks: SinkSet) -> Option<Box<dyn Source>> {
        let fork = Heeding::new(self.source.fork(sinks)?, self.counts.clone());
        Some(Box::new(Heeding { is_first: false, ..fork }))
    }

    fn restrict(&mut self, sinks: SinkSet) {
        self.source.restrict(sinks);
    }

    fn leave(&mut self) {
        self.source.leave();
    }

    fn stop(&mut self) {
        self.source.stop();
    }
}
