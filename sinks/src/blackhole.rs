//! `blackhole`: counts records and throws them away.

use std::sync::Arc;
use std::time::Duration;

use skidder_pipeline::batch::Batch;
use skidder_pipeline::body::{Bodies, BodyLimits, Compression};
use skidder_pipeline::delivery::Options;
use skidder_pipeline::frame::Frame;
use skidder_pipeline::problem::Problem;
use skidder_pipeline::sink::{Encode, Response, Sending, Sink, Transport, Verdict};
use skidder_pipeline::stats::Counter;

use crate::common::{BufferConfig, BufferType};
use crate::{SinkParts, unless};

/// Counts records and throws them away: to measure what comes before the sinks, or to try a pipeline without a store.
///
/// It walks over all fields, as an encoder does, and writes none of them. Its buffer is in memory.
#[derive(Clone, Debug, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BlackholeConfig {
    /// Where records wait.
    #[serde(default)]
    pub buffer: BufferConfig,
}

impl BlackholeConfig {
    pub(crate) fn build(&self) -> Result<SinkParts, Vec<Problem>> {
        let mut problems = Vec::new();
        let buffer = self.buffer.resolve(BufferType::Memory, &mut problems);
        unless(problems, || {
            let blackhole = Arc::new(Blackhole::default());
            SinkParts {
                sink: blackhole.clone(),
                transport: blackhole,
                compression: Compression::None,
                // A body is 8 bytes a batch; what counts is how seldom the worker stops to freeze one.
                limits: BodyLimits { max_bytes: 64 << 10, max_records: 50_000, linger: Duration::from_secs(1), max_open: 1 },
                buffer,
                delivery: Options { timeout: None, ..Options::default() },
            }
        })
    }
}

/// The sink and its transport. A body is, for each batch, the number of bytes of its records' keys and values, as a `u64`,
/// little-endian.
#[derive(Debug, Default)]
pub struct Blackhole {
    swallowed: Counter,
}

impl Blackhole {
    /// The bytes of keys and values that came.
    pub fn swallowed_bytes(&self) -> u64 {
        self.swallowed.get()
    }
}

impl Sink for Blackhole {
    fn encoder(&self) -> Box<dyn Encode> {
        Box::new(Weigh)
    }

    fn judge(&self, _: &Frame, _: &Response) -> Verdict {
        Verdict::Delivered { duplicates: 0 }
    }

    fn cut(&self, _: &[u8], _: &[u32]) -> Vec<u8> {
        Vec::new() // Never asked for: every frame is delivered as a whole.
    }

    fn show(&self, _: &[u8], _: u32) -> Vec<u8> {
        b"null".to_vec()
    }
}

struct Weigh;

impl Encode for Weigh {
    fn encode(&mut self, batch: &Batch, _: u8, out: &mut Bodies) {
        let shared = batch.shared().json().len() as u64;
        let own = |fields: &[skidder_pipeline::batch::Field]| fields.iter().map(|f| (f.key.len() + f.value.len()) as u64).sum::<u64>();
        let bytes: u64 = batch.records().map(|record| shared + own(record.fields())).sum();
        out.write("", &bytes.to_le_bytes(), batch.len() as u32);
    }
}

impl Transport for Blackhole {
    fn send<'a>(&'a self, frame: &'a Frame) -> Sending<'a> {
        let (counts, _) = frame.body().as_chunks::<8>();
        self.swallowed.add(counts.iter().map(|count| u64::from_le_bytes(*count)).sum());
        Box::pin(std::future::ready(Ok(Response::ok())))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::testing::{batch, frames};

    #[tokio::test]
    async fn counts_records_and_bytes() {
        let blackhole = Blackhole::default();
        let mut encoder = blackhole.encoder();
        let frames = frames(|out| {
            encoder.encode(&batch("{}", &["{\"a\":\"b\",\"cd\":12}", "{}"]), 0, out);
            encoder.encode(&batch("{\"e\":1}", &["{\"a\":\"b\"}"]), 0, out);
            encoder.encode(&batch("{}", &[]), 0, out);
        });
        assert_eq!(frames[0].header().records, 3);
        blackhole.send(&frames[0]).await.unwrap();
        assert_eq!(blackhole.swallowed_bytes(), 1 + 1 + 2 + 2 + "\"e\":1".len() as u64 + 2);
    }

    #[test]
    fn its_table_is_checked() {
        let config: BlackholeConfig = serde_json::from_str("{\"buffer\":{\"max_size\":1}}").unwrap();
        assert_eq!(config.build().unwrap_err().len(), 1);
        assert!(!BlackholeConfig::default().build().unwrap().buffer.disk);
    }
}
