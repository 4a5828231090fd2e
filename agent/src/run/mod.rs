//! The run of an agent: from a checked configuration to its end.
//!
//! ```text
//! running ──sources end, or a signal──▶ worker ends ──▶ deliveries drain ──▶ buffers synced ──▶ summary
//!    └─ a second signal, or the deadline: what is under way goes back into the buffers
//! ```

mod summary;

use std::process::ExitCode;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, bail};
use skidder_pipeline::edge::{Clock, Nanos, SystemClock};
use skidder_pipeline::run::Worker;
use skidder_pipeline::stats::Stats;
use skidder_pipeline::{delivery, run};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;

use crate::config::{Builtin, Kind, Pipeline};
use crate::lockdown::{self, Lockdown};
use crate::operator::{self, Component, Counts};
use crate::state::State;
use crate::topology::{self, OnOutputClosed, Topology};
use summary::Progress;

/// How long a stop by signal waits for the stores. Below Kubernetes' 30 s between SIGTERM and SIGKILL; what is not
/// delivered by then stays in the buffers for the next start.
const DRAIN_WAIT: Duration = Duration::from_secs(20);

/// How to run.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// Read to the end of what is there, deliver it, and stop with a summary.
    pub once: bool,
    /// With `once`, how long all of it may take; what is not delivered by then is a failure.
    pub timeout: Option<Duration>,
}

/// Runs until a signal, or to the end of the sources.
///
/// # Errors
/// Where the agent cannot start. What fails while it runs is retried, counted and logged.
pub fn run(pipeline: Pipeline<Builtin>, options: RunOptions) -> anyhow::Result<ExitCode> {
    raise_file_limit();
    let mut state = match pipeline.data_dir() {
        Some(dir) => State::open(&dir)?,
        None => State::temporary()?,
    };
    // From here on there may be other threads, and nothing of the configuration is left to be found out.
    let locked_in = lockdown::lock_in(&pipeline, state.dir())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    let outcome = runtime.block_on(run_to_the_end(&pipeline, &state, &options, locked_in))?;
    // A terminal that nobody reads can hold a write for ever; its records are counted as not delivered by now.
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(conclude(&mut state, &options, &outcome))
}

/// How a run ended.
struct Outcome {
    stats: Arc<Stats>,
    /// Whether every record that was read is in its stores or in the dead letters.
    drained: bool,
}

async fn run_to_the_end(pipeline: &Pipeline<Builtin>, state: &State, options: &RunOptions, locked_in: Lockdown) -> anyhow::Result<Outcome> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let mut signals = Signals::new()?;
    let output_closed = Arc::new(Notify::new());
    let on_output_closed = output_closed.clone();
    let on_output_closed: OnOutputClosed = Arc::new(move || on_output_closed.notify_one());
    let Topology { worker, control, deliveries, queues, stats, metadata } =
        topology::build(pipeline, state, options.once, clock.clone(), &on_output_closed)?;
    let (drain, drain_signal) = delivery::control();
    let mut delivering = JoinSet::new();
    for delivery in deliveries {
        delivering.spawn(delivery.run(drain_signal.clone()));
    }
    let upkeep: Vec<_> = queues.iter().map(|queue| tokio::spawn(queue.clone().upkeep(clock.clone()))).collect();
    let (worker, mut worker_end) = start(worker)?;
    let life = Arc::new(operator::Life::default());
    if !options.once {
        open_endpoint(
            pipeline,
            operator::View {
                counts: counts(pipeline, &stats, &clock, locked_in).with_metadata(metadata.as_ref().map(|metadata| metadata.counts())),
                life: life.clone(),
            },
        )
        .await;
    }
    let mut end = End {
        control,
        drain,
        clock: clock.clone(),
        worker_ended: false,
        stopping: false,
        gave_up: false,
        deadline: options.timeout.map(|after| clock.now().after(after)),
    };
    let progress = Progress::new();
    let mut drained = true;
    let Lockdown { writes, reads, programs, syscalls } = locked_in;
    tracing::info!(writes, reads, programs, syscalls, "locked in: what is true cannot be done any more beyond what the agent needs");
    tracing::info!(sources = pipeline.sources.len(), sinks = pipeline.sinks.len(), data_dir = %state.dir().display(), "started");
    loop {
        tokio::select! {
            _ = &mut worker_end, if !end.worker_ended => end.worker_ended(),
            ended = delivering.join_next() => match ended {
                Some(Ok(ended)) => drained &= ended.drained,
                Some(Err(error)) => return Err(error).context("a delivery broke off; its records are in the buffer"),
                None => break,
            },
            () = signals.next() => {
                life.stop();
                end.signalled();
            }
            () = output_closed.notified() => end.stop("the output was closed"),
            () = end.timed_out() => end.give_up(),
            () = progress.tick() => progress.update(&stats),
        }
    }
    upkeep.into_iter().for_each(|upkeep| upkeep.abort());
    queues.iter().for_each(|queue| queue.sync(clock.now()));
    metadata.iter().for_each(|metadata| metadata.save());
    progress.finish();
    // By now it has ended or was told to abandon; it looks at that between two chunks.
    if worker.join().is_err() {
        bail!("the worker broke off with a panic; what it had not finished is read again at the next start");
    }
    Ok(Outcome { stats, drained })
}

/// Starts to answer probes and Prometheus. That it cannot is no reason not to ship logs.
async fn open_endpoint(pipeline: &Pipeline<Builtin>, view: operator::View) {
    let api = &pipeline.global.api;
    let Some(address) = api.socket_address().filter(|_| api.enabled) else { return };
    match operator::listen(address).await {
        Ok(listener) => {
            tracing::info!(%address, "probes and metrics are served");
            tokio::spawn(operator::serve(listener, view));
        }
        Err(error) => tracing::warn!(
            %address,
            %error,
            "cannot listen for probes and metrics, running without: set `address` below `[api]` to a free one, or `enabled = false`"
        ),
    }
}

fn counts(pipeline: &Pipeline<Builtin>, stats: &Arc<Stats>, clock: &Arc<dyn Clock>, locked_in: Lockdown) -> Counts {
    let component = |name: &str, kind: Kind, type_name: &str| Component {
        name: name.to_owned(),
        kind: kind.singular(),
        type_name: type_name.to_owned(),
    };
    let sources = pipeline.sources.iter().map(|named| component(&named.name, Kind::Source, &named.type_name));
    let sinks = pipeline.sinks.iter().map(|named| component(&named.name, Kind::Sink, &named.type_name));
    Counts::new(stats.clone(), sources.chain(sinks).collect(), clock.clone(), locked_in)
}

/// Brings a run to its end: the worker first, then the deliveries.
struct End {
    control: Arc<run::Control>,
    drain: delivery::Control,
    clock: Arc<dyn Clock>,
    worker_ended: bool,
    /// Whether a signal told to stop: the next one does not wait.
    stopping: bool,
    gave_up: bool,
    /// When what is not done is left as it is.
    deadline: Option<Nanos>,
}

impl End {
    fn worker_ended(&mut self) {
        self.worker_ended = true;
        self.drain.drain(self.deadline);
    }

    /// A first signal brings the run to its end in order, a second one at once.
    fn signalled(&mut self) {
        if std::mem::replace(&mut self.stopping, true) {
            tracing::warn!("told to stop again: leaving what is not delivered in the buffers");
            return self.give_up();
        }
        self.stop("told to stop");
    }

    /// Brings the run to its end in order, within [`DRAIN_WAIT`] or what is left of the time that it was given.
    fn stop(&mut self, why: &str) {
        if self.gave_up {
            return;
        }
        let patient = self.clock.now().after(DRAIN_WAIT);
        let deadline = self.deadline.map_or(patient, |at| at.min(patient));
        let wait_secs = deadline.since(self.clock.now()).as_secs();
        tracing::info!(wait_secs, "{why}: no more reading; delivering what is in the buffers");
        self.deadline = Some(deadline);
        self.control.stop();
        if self.worker_ended {
            self.drain.drain(self.deadline);
        }
    }

    async fn timed_out(&self) {
        match self.deadline {
            Some(at) => tokio::time::sleep(at.since(self.clock.now())).await,
            None => std::future::pending().await,
        }
    }

    /// Leaves everything as it is now. What is not in a buffer is read again at the next start.
    fn give_up(&mut self) {
        self.control.abandon();
        (self.gave_up, self.deadline) = (true, None);
        self.drain.drain(Some(self.clock.now()));
    }
}

/// Runs the worker on its thread; the receiver hears of its end, however it comes.
fn start(worker: Worker) -> anyhow::Result<(JoinHandle<()>, oneshot::Receiver<()>)> {
    let (ended, hears) = oneshot::channel::<()>();
    let work = move || {
        let _at_the_end = ended;
        worker.run();
    };
    let thread = std::thread::Builder::new().name("worker".into()).spawn(work).context("cannot start the worker thread")?;
    Ok((thread, hears))
}

/// The signals that end a run. SIGHUP does nothing yet, rather than killing the agent.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Signals> {
        let listen = |kind| signal(kind).context("cannot listen to signals");
        Ok(Signals {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hang_up.recv() => tracing::warn!("SIGHUP: a reload is not supported yet; restart the agent for a new configuration"),
            }
        }
    }
}

/// Says how it ended, and finds the exit code: 1 where something could not be delivered that should have been.
fn conclude(state: &mut State, options: &RunOptions, outcome: &Outcome) -> ExitCode {
    let rejected: u64 = outcome.stats.sinks.values().map(|sink| sink.rejected.get()).sum();
    let lost: u64 = outcome.stats.sinks.values().map(|sink| sink.lost.get()).sum();
    if state.is_temporary() && (!outcome.drained || rejected > 0) {
        state.keep();
        tracing::warn!(dir = %state.dir().display(), "kept the state directory for the records in it that were not delivered");
    }
    if options.once {
        use std::io::Write;
        let _ = std::io::stderr().lock().write_all(summary::summary(&outcome.stats).as_bytes());
    } else {
        tracing::info!(drained = outcome.drained, "stopped");
    }
    if options.once && (!outcome.drained || rejected > 0 || lost > 0) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Raises the limit of open files as far as this user may: every file with unread bytes is held open.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
    {
        tracing::warn!(%error, current = limit.current, "cannot raise the limit of open files");
    }
}
