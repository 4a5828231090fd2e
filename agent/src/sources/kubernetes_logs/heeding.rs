//! What pods ask for that is done with records, not with files: a parser from a fixed list. It is counted here, too, which
//! records go out without all that should be known of their pods.

use std::sync::Arc;

use skidder_pipeline::edge::Nanos;
use skidder_pipeline::path::Path;
use skidder_pipeline::shared::{PerShared, Shared};
use skidder_pipeline::source::{Chunk, Read, SinkSet, Source};
use skidder_pipeline::transform::{Report, Transform};
use skidder_pipeline::value::Value;
use skidder_transforms::json::{Json, JsonConfig};

use crate::metadata::Parser;
use crate::metadata::counts::Counts;

/// A source that heeds what the fields of its records say of them: `kubernetes.parser` and `kubernetes.metadata`.
pub(super) struct Heeding {
    source: Box<dyn Source>,
    counts: Arc<Counts>,
    wishes: PerShared<Wish>,
    json: Option<Json>,
}

/// What is to be done with all records of a batch.
#[derive(Clone, Copy)]
struct Wish {
    parser: Option<Parser>,
    partial: bool,
}

impl Heeding {
    pub(super) fn new(source: Box<dyn Source>, counts: Arc<Counts>) -> Heeding {
        Heeding { source, counts, wishes: PerShared::new(), json: Json::new(&JsonConfig::default()).ok() }
    }

    fn heed(&mut self, chunk: &mut Chunk) {
        if chunk.batch.is_empty() {
            return;
        }
        let Wish { parser, partial } = *self.wishes.get_or_make(chunk.batch.shared(), |shared| wish(shared));
        if partial {
            self.counts.partial_records.add(chunk.batch.len() as u64);
        }
        if let (Some(Parser::Json), Some(json)) = (parser, &mut self.json) {
            json.apply(&mut chunk.batch, &mut Report::default());
        }
    }
}

fn wish(shared: &Shared) -> Wish {
    let value = |path: &str| -> Option<Value<'_>> {
        let path = Path::parse(path).ok()?;
        shared.get(path.first())?.descend(path.rest())
    };
    let parser = value("kubernetes.parser").and_then(|name| Parser::from_name(&name.plain_str()));
    Wish { parser, partial: value("kubernetes.metadata").is_some() }
}

impl Source for Heeding {
    fn read(&mut self, chunk: &mut Chunk, now: Nanos) -> Read {
        let read = self.source.read(chunk, now);
        if read == Read::Chunk {
            self.heed(chunk);
        }
        read
    }

    fn fork(&self, sinks: SinkSet) -> Option<Box<dyn Source>> {
        // What it reads again is not counted again.
        Some(Box::new(Heeding::new(self.source.fork(sinks)?, Arc::default())))
    }

    fn restrict(&mut self, sinks: SinkSet) {
        self.source.restrict(sinks);
    }

    fn stop(&mut self) {
        self.source.stop();
    }
}
