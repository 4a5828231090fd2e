//! `skidder dlq replay`: the same delivery as always, over the letters in place of a buffer.

use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Deserialize;
use skidder_pipeline::delivery::replay::{Kept, Outcome, Replay, Shelf};
use skidder_pipeline::delivery::{self, Delivery};
use skidder_pipeline::edge::{Clock, SplitMix, SystemClock};
use skidder_pipeline::frame::BatchId;
use skidder_pipeline::queue::Queue;
use skidder_pipeline::stats::SinkStats;
use skidder_sinks::{SinkConfig, SinkContext};
use tokio::signal::unix::{SignalKind, signal};

use super::files::{self, Shelved};
use crate::config::{Builtin, Named, Pipeline};
use crate::output::print;
use crate::state::random_bytes;

/// Sends the letters of `sinks` again, one sink after the other, and removes those that are delivered. The exit code is 1
/// where some are not.
///
/// # Errors
/// Where the letters cannot be taken, or a sink is not in the configuration any more.
pub fn replay(pipeline: &Pipeline<Builtin>, data_dir: &Path, sinks: &[String], timeout: Option<Duration>) -> anyhow::Result<ExitCode> {
    if sinks.is_empty() {
        return print("no dead letters\n");
    }
    let _alone = files::lock_replays(data_dir)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    let (mut out, mut all) = (String::new(), true);
    for name in sinks {
        let Some(named) = pipeline.sinks.iter().find(|named| named.name == *name) else {
            bail!(
                "sink `{name}` has dead letters and is not in the configuration: add it again, or throw them away with `skidder dlq purge --sink {name}`"
            );
        };
        if matches!(named.config, SinkConfig::File(_)) {
            bail!("the dead letters of `{name}` cannot be sent again: only the agent itself may write to the files of a `file` sink");
        }
        files::take(data_dir, name)?;
        let letters = Arc::new(Shelved::open_taken(data_dir, name)?);
        let count = letters.lines().len();
        let stats = Arc::<SinkStats>::default();
        let outcome = runtime.block_on(send(pipeline, named, &letters, &stats, timeout))?;
        let Ok(letters) = Arc::try_unwrap(letters) else { bail!("the delivery of `{name}` has not ended") };
        letters.remove(&outcome.delivered)?;
        let stays = count - outcome.delivered.len();
        all &= stays == 0;
        writeln!(
            out,
            "{name}: {} delivered ({} of them were there already), {} refused again, {stays} stay",
            outcome.delivered.len(),
            stats.duplicates.get(),
            outcome.refused.len()
        )?;
        if let Some((status, reason)) = outcome.refused.values().next_back() {
            writeln!(out, "  the last refusal: {status} {reason}")?;
        }
        let removed = files::bound(data_dir, name, named.common.dead_letters.max_size.0)?;
        if removed > 0 {
            writeln!(out, "  {removed} of the oldest were removed: there is no room for them in `dead_letters.max_size`")?;
        }
    }
    print(&out)?;
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn send(
    pipeline: &Pipeline<Builtin>,
    named: &Named<SinkConfig>,
    letters: &Arc<Shelved>,
    stats: &Arc<SinkStats>,
    timeout: Option<Duration>,
) -> anyhow::Result<Outcome> {
    let context = SinkContext { name: named.name.clone(), base_dir: Some(pipeline.base_dir.clone()), ..SinkContext::default() };
    let parts = named.config.build(&context).map_err(|problems| {
        let problems: Vec<_> = problems.into_iter().map(|problem| problem.message).collect();
        anyhow::anyhow!("sink `{}` cannot be built: {}", named.name, problems.join("; "))
    })?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let (buffer, refused) = Replay::new(Box::new(Letters(letters.clone())), parts.compression);
    let outcome = buffer.outcome();
    let queue = Arc::new(Queue::new(buffer, Arc::new(|| ()), stats.clone(), clock.now()));
    let seed = u64::from_le_bytes(std::array::from_fn(|i| random_bytes().map_or(0, |bytes| bytes[i])));
    let delivery = Delivery {
        name: named.name.as_str().into(),
        sink: parts.sink,
        transport: parts.transport,
        queue,
        dead_letters: Box::new(refused),
        options: parts.delivery,
        clock: clock.clone(),
        chance: Box::new(SplitMix(seed)),
    };
    let (control, signal_to_end) = delivery::control();
    control.drain(timeout.map(|after| clock.now().after(after)));
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen to signals")?;
    let mut running = std::pin::pin!(delivery.run(signal_to_end));
    tokio::select! {
        _ = &mut running => {}
        // What is delivered by now is taken out all the same.
        _ = tokio::signal::ctrl_c() => { control.drain(Some(clock.now())); running.await; }
        _ = terminate.recv() => { control.drain(Some(clock.now())); running.await; }
    }
    Ok(take(&outcome))
}

fn take(outcome: &Mutex<Outcome>) -> Outcome {
    std::mem::take(&mut *outcome.lock().unwrap_or_else(PoisonError::into_inner))
}

struct Letters(Arc<Shelved>);

/// What of a letter is needed to send it.
#[derive(Deserialize)]
struct Wire {
    batch: String,
    index: u32,
    destination: String,
    body: Option<String>,
    body_hex: Option<String>,
}

impl Shelf for Letters {
    fn letter(&mut self, place: usize) -> io::Result<Option<Kept>> {
        let Some(line) = self.0.lines().get(place) else { return Ok(None) };
        let wire: Wire = serde_json::from_slice(&self.0.read(line)?)?;
        let wrong = |what| io::Error::new(io::ErrorKind::InvalidData, what);
        let batch = u128::from_str_radix(&wire.batch, 16).map_err(|_| wrong("its `batch` is no number"))?;
        let body = match (wire.body, wire.body_hex) {
            (Some(text), _) => text.into_bytes(),
            (None, Some(hex)) => unhex(&hex).ok_or_else(|| wrong("its `body_hex` is not hexadecimal"))?,
            (None, None) => return Err(wrong("it has no body")),
        };
        Ok(Some(Kept { batch: BatchId(batch.to_be_bytes()), index: wire.index, destination: wire.destination.into(), body }))
    }
}

fn unhex(hex: &str) -> Option<Vec<u8>> {
    let pairs = hex.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2)?, 16).ok()).collect()
}
