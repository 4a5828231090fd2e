//! A configuration at work, and how another takes its place.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, bail};
use skidder_pipeline::run::{Control, Unsettled, Worker};
use skidder_pipeline::stats::Stats;
use tokio::sync::oneshot;

use crate::config::{Builtin, Pipeline};
use crate::metadata::Metadata;
use crate::topology::{self, Before, NotEnded, Planned, Sinks, Topology, World};

/// How long sinks that a reload takes out of work are waited for. Meanwhile nothing is read: the files wait.
const TAKE_OUT_WAIT: Duration = Duration::from_secs(10);

/// A configuration at work.
pub struct Running<'a> {
    pub world: World<'a>,
    pub pipeline: Arc<Pipeline<Builtin>>,
    pub sinks: Sinks,
    pub stats: Arc<Stats>,
    pub metadata: Option<Arc<Metadata>>,
    pub work: Work,
}

/// The worker's thread.
pub struct Work {
    pub control: Arc<Control>,
    thread: Option<JoinHandle<Vec<Unsettled>>>,
    end: oneshot::Receiver<()>,
    has_ended: bool,
}

/// Why the place of a configuration was not taken.
#[derive(Debug)]
pub enum NotTaken {
    /// A sink would not end in time, or the agent was told to stop.
    Sink(NotEnded),
    /// The new one could not be started.
    Start(anyhow::Error),
}

impl<'a> Running<'a> {
    /// Puts a configuration to work.
    ///
    /// # Errors
    /// Where it cannot start.
    pub fn start(pipeline: Arc<Pipeline<Builtin>>, world: World<'a>) -> anyhow::Result<Running<'a>> {
        let mut sinks = Sinks::new(world.clock.clone());
        let planned = topology::plan(&pipeline, world.state, &world.on_output_closed)?;
        let Topology { worker, control, stats, metadata } = topology::build(&pipeline, planned, &mut sinks, &world, None, None)?;
        let work = Work::start(worker, control)?;
        Ok(Running { world, pipeline, sinks, stats, metadata, work })
    }

    /// Puts `pipeline` in the place of the one at work: the worker ends after its chunk and freezes what is open, the sinks that
    /// are not as before are taken out, and all that is new is built. No record is in between: what was read is in a buffer, or
    /// was given back for the next worker, or is read again. Where that fails, what was at work before is put to work again.
    ///
    /// # Errors
    /// The outer one where the agent cannot go on at all.
    pub async fn replace(
        &mut self,
        pipeline: Arc<Pipeline<Builtin>>,
        planned: Vec<Planned>,
        hurry: impl Future<Output = ()>,
    ) -> anyhow::Result<Result<(), NotTaken>> {
        let mut unsettled = self.work.leave().await?;
        let old = self.pipeline.clone();
        let taken = self.switch(&old, pipeline, planned, &mut unsettled, hurry).await?;
        let Err(reason) = taken else { return Ok(Ok(())) };
        let planned = topology::plan(&old, self.world.state, &self.world.on_output_closed)?;
        // What was opened of the new one goes first; nobody is in a hurry any more.
        match self.switch(&old, old.clone(), planned, &mut unsettled, std::future::pending()).await? {
            Ok(()) => Ok(Err(reason)),
            Err(NotTaken::Sink(NotEnded(sink))) => {
                bail!("sink `{sink}` does not let go of its buffer, and the reload cannot be taken back")
            }
            Err(NotTaken::Start(error)) => Err(error).context("the reload failed, and the configuration before cannot be started again"),
        }
    }

    /// From one configuration, whose worker has left, to the next.
    async fn switch(
        &mut self,
        from: &Pipeline<Builtin>,
        to: Arc<Pipeline<Builtin>>,
        planned: Vec<Planned>,
        unsettled: &mut Vec<Unsettled>,
        hurry: impl Future<Output = ()>,
    ) -> anyhow::Result<Result<(), NotTaken>> {
        let deadline = self.world.clock.now().after(TAKE_OUT_WAIT);
        let other = self.sinks.other_than(&planned);
        if !other.is_empty()
            && let Err(reason) = self.sinks.take_out(&other, deadline, hurry).await?
        {
            return Ok(Err(NotTaken::Sink(reason)));
        }
        let keeps = from.global.kubernetes == to.global.kubernetes && topology::reads_pods(&to);
        let metadata = self.metadata.take().filter(|_| keeps);
        self.metadata = metadata.clone();
        let before = Before { pipeline: from, stats: &self.stats, unsettled };
        let built = match topology::build(&to, planned, &mut self.sinks, &self.world, Some(before), metadata) {
            Ok(built) => built,
            Err(error) => return Ok(Err(NotTaken::Start(error))),
        };
        self.world.estate.clear();
        let Topology { worker, control, stats, metadata } = built;
        self.work = Work::start(worker, control)?;
        (self.pipeline, self.stats, self.metadata) = (to, stats, metadata);
        Ok(Ok(()))
    }
}

impl Work {
    /// Runs the worker on its thread.
    fn start(worker: Worker, control: Arc<Control>) -> anyhow::Result<Work> {
        let (ended, end) = oneshot::channel::<()>();
        let work = move || {
            let _at_the_end = ended;
            worker.run()
        };
        let thread = std::thread::Builder::new().name("worker".into()).spawn(work).context("cannot start the worker thread")?;
        Ok(Work { control, thread: Some(thread), end, has_ended: false })
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Waits for its end, however it comes.
    pub async fn ended(&mut self) {
        if !self.has_ended {
            let _ = (&mut self.end).await;
            self.has_ended = true;
        }
    }

    /// Lets it end after the chunk under way; gives what there was no room for.
    async fn leave(&mut self) -> anyhow::Result<Vec<Unsettled>> {
        self.control.leave();
        self.ended().await;
        self.join()
    }

    /// Takes what it left. By now it has ended or was told to abandon; it looks at that between two chunks.
    pub fn join(&mut self) -> anyhow::Result<Vec<Unsettled>> {
        let Some(thread) = self.thread.take() else { return Ok(Vec::new()) };
        let Ok(left) = thread.join() else {
            bail!("the worker broke off with a panic; what it had not finished is read again at the next start");
        };
        Ok(left)
    }
}
