//! The sinks: each a buffer, its upkeep and a delivery, which run until the sink is taken out or the agent ends.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use skidder_pipeline::body::{BodyLimits, Compression};
use skidder_pipeline::buffer::{BufferOptions, Held, SinkBuffer};
use skidder_pipeline::delivery::decide::Concurrency;
use skidder_pipeline::delivery::{self, Bury, DeadLetterFile, Delivery, Discard, Ended};
use skidder_pipeline::edge::{Clock, Nanos, SplitMix};
use skidder_pipeline::fs::{Fs, RealFs};
use skidder_pipeline::queue::Queue;
use skidder_pipeline::sink::Sink;
use skidder_pipeline::source::SinkSet;
use skidder_pipeline::stats::{SinkStats, Stats};
use skidder_sinks::common::BufferSettings;
use skidder_sinks::{SinkConfig, SinkContext, SinkParts};
use tokio::task::{JoinHandle, JoinSet};

use super::{Bell, OnOutputClosed, World, not_built};
use crate::config::{Builtin, Given, Named, OnReject, Pipeline, SinkCommon, StartFrom};
use crate::memory::{self, Share};
use crate::state::{State, random_bytes, sink_dir};

/// How often a delivery and an upkeep that are to end are looked at.
const LOOK: Duration = Duration::from_millis(10);

/// A sink that is built; nothing of it runs or is opened.
pub struct Planned {
    pub(super) name: Arc<str>,
    given: Given,
    common: SinkCommon,
    parts: SinkParts,
    share: Share,
}

/// Builds the sinks of a configuration and divides the memory among them; changes nothing.
///
/// # Errors
/// Where one cannot be built, or they do not fit into the memory limit.
pub fn plan(pipeline: &Pipeline<Builtin>, state: &State, on_output_closed: &OnOutputClosed) -> anyhow::Result<Vec<Planned>> {
    let mut built = Vec::new();
    for named in &pipeline.sinks {
        let parts = named.config.build(&sink_context(pipeline, state, &named.name, on_output_closed));
        built.push((named, parts.map_err(|problems| not_built("sink", &named.name, &problems))?));
    }
    let limit = memory::limit(pipeline);
    let needs: Vec<_> = built.iter().map(|(named, parts)| (named.name.as_str(), parts)).collect();
    let shares = memory::shares(limit, &needs).map_err(anyhow::Error::msg)?;
    tracing::debug!(limit_bytes = limit, ?shares, "memory");
    let planned = built.into_iter().zip(shares).map(|((named, parts), share)| Planned {
        name: named.name.as_str().into(),
        given: named.given.clone(),
        common: named.common.clone(),
        parts,
        share,
    });
    Ok(planned.collect())
}

/// A sink at work.
pub(super) struct LiveSink {
    given: Given,
    pub share: Share,
    pub sink: Arc<dyn Sink>,
    pub compression: Compression,
    pub limits: BodyLimits,
    pub queue: Arc<Queue>,
    /// Whether what waits outlasts the sink: on disk.
    outlasts: bool,
    /// Whether its sends must come to their end: a write that is given up goes on all the same.
    is_local: bool,
    control: delivery::Control,
    delivery: tokio::task::Id,
    has_ended: bool,
    upkeep: JoinHandle<()>,
}

/// The sinks at work.
pub struct Sinks {
    live: BTreeMap<Arc<str>, LiveSink>,
    delivering: JoinSet<Ended>,
    clock: Arc<dyn Clock>,
}

/// A sink that would not end in time, and goes on as before.
#[derive(Debug)]
pub struct NotEnded(pub Arc<str>);

impl Sinks {
    /// None yet.
    pub fn new(clock: Arc<dyn Clock>) -> Sinks {
        Sinks { live: BTreeMap::new(), delivering: JoinSet::new(), clock }
    }

    /// Those of `pipeline` that the state directory has never met, though it has met others: they begin where the others are, unless
    /// they ask for the beginning.
    pub(super) fn that_are_new(&self, pipeline: &Pipeline<Builtin>, state: &State) -> SinkSet {
        let is_known = |named: &Named<SinkConfig>| self.live.contains_key(&*named.name) || sink_dir(state.dir(), &named.name).exists();
        if !pipeline.sinks.iter().any(is_known) {
            return SinkSet::default();
        }
        let new = pipeline.sinks.iter().enumerate();
        let new = new.filter(|(_, named)| !is_known(named) && named.common.start_from == StartFrom::Others);
        new.fold(SinkSet::default(), |set, (index, _)| set.or(SinkSet::only(index)))
    }

    /// Those at work that are other than `planned`, or not in it.
    pub fn other_than(&self, planned: &[Planned]) -> Vec<Arc<str>> {
        let stays = |name: &Arc<str>, live: &LiveSink| {
            let same = |planned: &Planned| live.given.is_alike(&planned.given) && live.share == planned.share;
            planned.iter().any(|planned| planned.name == *name && same(planned))
        };
        self.live.iter().filter(|(name, live)| !stays(name, live)).map(|(name, _)| name.clone()).collect()
    }

    /// Opens a sink, with what its buffer holds, where it is not at work; `stopped` is what it need not read.
    pub(super) fn open(&mut self, planned: Planned, stopped: &Held, world: &World<'_>, stats: &Stats) -> anyhow::Result<()> {
        let name = planned.name.clone();
        if !self.live.contains_key(&name) {
            let live = self.start(planned, stopped, world, stats)?;
            self.live.insert(name, live);
        }
        Ok(())
    }

    /// The sink of this name, opened before.
    pub(super) fn get(&self, name: &str) -> anyhow::Result<&LiveSink> {
        self.live.get(name).with_context(|| format!("sink `{name}` was not opened"))
    }

    fn start(&mut self, planned: Planned, stopped: &Held, world: &World<'_>, stats: &Stats) -> anyhow::Result<LiveSink> {
        let Planned { name, given, common, mut parts, share } = planned;
        if let Concurrency::Adaptive { max } = &mut parts.delivery.concurrency {
            *max = share.sends;
        }
        let stats = stats.sinks.get(&*name).cloned().unwrap_or_default();
        let queue = open_queue(&name, &parts, share, world.state, &world.bell, stats, &*self.clock)?;
        if common.start_from == StartFrom::Others && !stopped.is_empty() {
            queue.begin_at(stopped, self.clock.now());
        }
        let (control, signal) = delivery::control();
        let SinkParts { sink, transport, compression, limits, buffer, delivery: options } = parts;
        let delivery = Delivery {
            dead_letters: dead_letters(&common, &name, world.state, queue.stats()),
            name,
            sink: sink.clone(),
            transport,
            queue: queue.clone(),
            options,
            clock: self.clock.clone(),
            chance: Box::new(SplitMix(u64::from_le_bytes(first_eight(&random_bytes()?)))),
        };
        let delivery = self.delivering.spawn(delivery.run(signal)).id();
        let upkeep = tokio::spawn(queue.clone().upkeep(self.clock.clone()));
        let (outlasts, is_local) = (buffer.disk, options.timeout.is_none());
        Ok(LiveSink { given, share, sink, compression, limits, queue, outlasts, is_local, control, delivery, has_ended: false, upkeep })
    }

    /// Waits for the end of a delivery; `None` where all have ended.
    ///
    /// # Errors
    /// Where one broke off.
    pub async fn ended(&mut self) -> anyhow::Result<Option<Ended>> {
        let Some(ended) = self.delivering.join_next_with_id().await else { return Ok(None) };
        let (id, ended) = ended.context("a delivery broke off; its records are in the buffer")?;
        self.live.values_mut().filter(|live| live.delivery == id).for_each(|live| live.has_ended = true);
        Ok(Some(ended))
    }

    /// Tells all deliveries to bring what is in the buffers to the stores, then to end: see [`delivery::Control::drain`].
    pub fn drain(&self, deadline: Option<Nanos>) {
        self.live.values().for_each(|live| live.control.drain(deadline));
    }

    /// Takes the sinks called `names` out of work: what waits on disk stays there, what waits in memory is delivered first. Sends
    /// under way are waited for, until `deadline` or until `hurry` comes.
    ///
    /// # Errors
    /// The outer one where a delivery broke off. The inner one where a sink does not end in time: it goes on, as do those beside
    /// it that had not ended yet.
    pub async fn take_out(
        &mut self,
        names: &[Arc<str>],
        deadline: Nanos,
        hurry: impl Future<Output = ()>,
    ) -> anyhow::Result<Result<(), NotEnded>> {
        let mut hurry = std::pin::pin!(hurry);
        // A store that does not answer is given up by its delivery at the deadline; a file's writes have to come to an end.
        let patience = deadline.after(LOOK * 10).since(self.clock.now());
        let mut late = std::pin::pin!(tokio::time::sleep(patience));
        self.of(names).for_each(LiveSink::begin_to_end);
        let mut told = false;
        loop {
            if !told && self.of(names).all(|live| live.upkeep.is_finished()) {
                told = true;
                self.of(names).for_each(|live| live.finish(deadline));
            }
            let unended = self.live.iter().find(|(name, live)| names.contains(name) && !(told && live.has_ended));
            let Some((unended, _)) = unended else { break };
            let unended = unended.clone();
            let is_late = tokio::select! {
                ended = self.ended(), if told => ended.map(|_| false)?,
                () = &mut late => true,
                () = &mut hurry => true,
                () = tokio::time::sleep(LOOK) => false,
            };
            if is_late {
                self.go_on(names);
                return Ok(Err(NotEnded(unended)));
            }
        }
        self.forget(names).await;
        Ok(Ok(()))
    }

    fn of(&mut self, names: &[Arc<str>]) -> impl Iterator<Item = &mut LiveSink> {
        self.live.iter_mut().filter(|(name, _)| names.contains(name)).map(|(_, live)| live)
    }

    /// Lets those that have not ended go on as before.
    fn go_on(&mut self, names: &[Arc<str>]) {
        self.live.retain(|name, live| !(names.contains(name) && live.has_ended));
        let clock = self.clock.clone();
        for live in self.of(names) {
            live.control.resume();
            live.queue.go_on();
            if live.upkeep.is_finished() {
                live.upkeep = tokio::spawn(live.queue.clone().upkeep(clock.clone()));
            }
        }
    }

    async fn forget(&mut self, names: &[Arc<str>]) {
        for name in names {
            let Some(live) = self.live.remove(name) else { continue };
            let now = self.clock.now();
            // A panic in there is nothing that waiting would mend: what was written is there.
            let _ = tokio::task::spawn_blocking(move || live.queue.sync(now)).await;
        }
    }

    /// Syncs all buffers: at the end.
    pub fn sync(&self) {
        self.live.values().for_each(|live| {
            live.upkeep.abort();
            live.queue.sync(self.clock.now());
        });
    }
}

impl LiveSink {
    /// Nothing must look after the buffer any more when the next one opens it.
    fn begin_to_end(&mut self) {
        self.queue.retire();
    }

    fn finish(&mut self, deadline: Nanos) {
        let deadline = (!self.is_local).then_some(deadline);
        if self.outlasts { self.control.finish(deadline) } else { self.control.drain(deadline) }
    }
}

fn sink_context(pipeline: &Pipeline<Builtin>, state: &State, name: &str, on_output_closed: &OnOutputClosed) -> SinkContext {
    SinkContext {
        name: name.to_owned(),
        base_dir: Some(pipeline.base_dir.clone()),
        state_dir: (!state.is_temporary()).then(|| sink_dir(state.dir(), name)),
        stdout_is_terminal: std::io::stdout().is_terminal(),
        stderr_is_terminal: std::io::stderr().is_terminal(),
        output_closed: Some(on_output_closed.clone()),
        clock: None,
    }
}

fn dead_letters(common: &SinkCommon, name: &str, state: &State, stats: &Arc<SinkStats>) -> Box<dyn Bury> {
    match common.on_reject {
        OnReject::DeadLetter => Box::new(DeadLetterFile::new(state.dir(), name, common.dead_letters.max_size.0, stats.clone())),
        OnReject::Drop => Box::new(Discard(stats.clone())),
    }
}

fn open_queue(
    name: &str,
    parts: &SinkParts,
    share: Share,
    state: &State,
    bell: &Arc<Bell>,
    stats: Arc<SinkStats>,
    clock: &dyn Clock,
) -> anyhow::Result<Arc<Queue>> {
    let fs: Arc<dyn Fs> = Arc::new(RealFs);
    let BufferSettings { disk, max_bytes, when_full, sync_after, strict, min_free_bytes } = parts.buffer;
    let (dir, memory_bytes) = (sink_dir(state.dir(), name), share.frames_bytes);
    let options = BufferOptions { disk, dir, max_bytes, when_full, sync_after, strict, min_free_bytes, memory_bytes };
    let (buffer, recovered) = SinkBuffer::open(fs, options, state.epoch(), clock.now());
    if recovered.frames > 0 || recovered.damaged_frames > 0 || recovered.torn_bytes > 0 {
        tracing::info!(
            sink = name,
            frames = recovered.frames,
            records = recovered.records,
            torn_bytes = recovered.torn_bytes,
            damaged_frames = recovered.damaged_frames,
            damaged_records = recovered.damaged_records,
            "buffer recovered"
        );
    }
    parts.transport.recover(&recovered.notes).with_context(|| format!("sink `{name}` cannot take up where it stopped"))?;
    let bell = bell.clone();
    Ok(Arc::new(Queue::new(buffer, Arc::new(move || bell.ring()), stats, clock.now())))
}

fn first_eight(bytes: &[u8; 16]) -> [u8; 8] {
    std::array::from_fn(|i| bytes[i])
}
