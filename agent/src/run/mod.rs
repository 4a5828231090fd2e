//! The run of an agent: from a checked configuration to its end.
//!
//! ```text
//! running ──sources end, or a signal──▶ worker ends ──▶ deliveries drain ──▶ buffers synced ──▶ summary
//!  │  ▲   └─ a second signal, or the deadline: what is under way goes back into the buffers
//!  │  └── the worker leaves, the sinks that changed are taken out, both are built anew ◀── all is well
//!  └── SIGHUP ──▶ the file is read and checked ──────────────────────────────────────────────┘
//! ```

mod reload;
mod running;
mod signals;
mod summary;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use anyhow::Context;
use skidder_pipeline::edge::{Clock, Nanos, SystemClock};
use skidder_pipeline::stats::Stats;
use tokio::sync::Notify;

use crate::config::{Builtin, Kind, Pipeline};
use crate::lockdown::{self, Bounds, Lockdown};
use crate::operator::{self, Component, Counts};
use crate::state::State;
use crate::topology::{self, Bell, NotEnded, OnOutputClosed, World};
use running::{NotTaken, Running};
use signals::{Signals, Told};
use summary::Progress;

/// How long a stop by signal waits for the stores. Below Kubernetes' 30 s between SIGTERM and SIGKILL; what is not
/// delivered by then stays in the buffers for the next start.
const DRAIN_WAIT: Duration = Duration::from_secs(20);

/// How to run.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// The file that the configuration is of, to be read again at SIGHUP.
    pub config: PathBuf,
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
    let (locked_in, bounds) = lockdown::lock_in(&pipeline, state.dir())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    let outcome = runtime.block_on(run_to_the_end(pipeline, &state, &options, (locked_in, bounds)))?;
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

async fn run_to_the_end(
    pipeline: Pipeline<Builtin>,
    state: &State,
    options: &RunOptions,
    (locked_in, bounds): (Lockdown, Bounds),
) -> anyhow::Result<Outcome> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let mut signals = Signals::new()?;
    let output_closed = Arc::new(Notify::new());
    let on_output_closed = output_closed.clone();
    let on_output_closed: OnOutputClosed = Arc::new(move || on_output_closed.notify_one());
    let (estate, bell) = (Arc::default(), Arc::<Bell>::default());
    let world = World { state, once: options.once, clock: clock.clone(), on_output_closed, estate, bell };
    let mut running = Running::start(Arc::new(pipeline), world)?;
    let life = Arc::new(operator::Life::default());
    let first = Counts::new(running.stats.clone(), components(&running.pipeline), clock.clone(), locked_in);
    let counts = Arc::new(RwLock::new(first.with_metadata(running.metadata.as_ref().map(|metadata| metadata.counts()))));
    if !options.once {
        open_endpoint(&running.pipeline, operator::View { counts: counts.clone(), life: life.clone() }).await;
    }
    let mut end = End {
        clock: clock.clone(),
        stopping: false,
        gave_up: false,
        begun: false,
        deadline: options.timeout.map(|after| clock.now().after(after)),
    };
    let mut reloader =
        Reloader { config: options.config.as_path().into(), bounds: Arc::new(bounds), state_dir: state.dir().into(), counts };
    let progress = Progress::new();
    let mut drained = true;
    let Lockdown { writes, reads, programs, syscalls } = locked_in;
    tracing::info!(writes, reads, programs, syscalls, "locked in: what is true cannot be done any more beyond what the agent needs");
    let (sources, sinks) = (running.pipeline.sources.len(), running.pipeline.sinks.len());
    tracing::info!(sources, sinks, data_dir = %state.dir().display(), "started");
    loop {
        tokio::select! {
            () = running.work.ended(), if !running.work.has_ended() => running.sinks.drain(end.deadline),
            ended = running.sinks.ended() => match ended? {
                Some(ended) => drained &= ended.drained,
                None => break,
            },
            told = signals.next() => match told {
                Told::Reload if end.begun || running.work.has_ended() => {
                    tracing::info!("SIGHUP: the agent is coming to its end, and the configuration stays as it is");
                }
                Told::Reload => {
                    if reloader.reload(&mut running, &mut signals).await? {
                        life.stop();
                        end.signalled(&running);
                    }
                }
                Told::Stop => {
                    life.stop();
                    end.signalled(&running);
                }
            },
            () = output_closed.notified() => end.stop("the output was closed", &running),
            () = end.timed_out() => end.give_up(&running),
            () = progress.tick() => progress.update(&running.stats),
        }
    }
    running.sinks.sync();
    running.metadata.iter().for_each(|metadata| metadata.save());
    progress.finish();
    running.work.join()?;
    Ok(Outcome { stats: running.stats, drained })
}

/// Takes another configuration over when it is told to.
struct Reloader {
    config: Arc<Path>,
    bounds: Arc<Bounds>,
    state_dir: Arc<Path>,
    counts: Arc<RwLock<Counts>>,
}

impl Reloader {
    /// Reads the configuration anew and puts it to work, if there is nothing wrong with it. Says whether the agent was told to stop
    /// meanwhile.
    async fn reload(&mut self, running: &mut Running<'_>, signals: &mut Signals) -> anyhow::Result<bool> {
        if running.world.once || reload::reads_stdin(&running.pipeline) {
            tracing::warn!("SIGHUP: ignored, since a run to the end of its sources, or of the standard input, keeps its configuration");
            return Ok(false);
        }
        let began = Instant::now();
        let read = reload::read_aside(self.config.clone(), running.pipeline.clone(), self.bounds.clone(), self.state_dir.clone()).await;
        let reload::Next { pipeline, changes } = match read {
            Ok(Some(next)) => next,
            Ok(None) => {
                self.settled(|reloads| reloads.unchanged.add(1), false);
                tracing::info!(config = %self.config.display(), "SIGHUP: the configuration is the same as before, and nothing was changed");
                return Ok(false);
            }
            Err(mistakes) => {
                self.failed(&mistakes);
                return Ok(false);
            }
        };
        let planned = match topology::plan(&pipeline, running.world.state, &running.world.on_output_closed) {
            Ok(planned) => planned,
            Err(error) => {
                self.failed(&[format!("error: {error:#}")]);
                return Ok(false);
            }
        };
        let mut told_to_stop = false;
        let hurry = async {
            signals.stop().await;
            told_to_stop = true;
        };
        let taken = running.replace(Arc::new(pipeline), planned, hurry).await?;
        self.show(running);
        match taken {
            Ok(()) => {
                self.settled(|reloads| reloads.done.add(1), false);
                let took_ms = began.elapsed().as_millis() as u64;
                tracing::info!(config = %self.config.display(), %changes, took_ms, "SIGHUP: the new configuration is at work");
            }
            Err(NotTaken::Sink(NotEnded(sink))) if told_to_stop => {
                tracing::info!(%sink, "SIGHUP: told to stop while the sink was waited for; the configuration stays as it was");
            }
            Err(NotTaken::Sink(NotEnded(sink))) => self.failed(&[format!(
                "error: sink `{sink}` is other than before, and a write that it has under way does not come to an end: see to what it writes to, \
                 then send SIGHUP again"
            )]),
            Err(NotTaken::Start(error)) => self.failed(&[format!("error: {error:#}")]),
        }
        Ok(told_to_stop)
    }

    /// Logs what is wrong as `validate` shows it.
    fn failed(&self, mistakes: &[String]) {
        self.settled(|reloads| reloads.failed.add(1), true);
        mistakes.iter().for_each(|mistake| tracing::error!("{}", mistake.trim_end()));
        tracing::error!(config = %self.config.display(), "SIGHUP: the configuration was not taken over; the one before stays at work");
    }

    fn settled(&self, count: impl Fn(&operator::Reloads), failed: bool) {
        let counts = self.counts.read().unwrap_or_else(PoisonError::into_inner);
        count(counts.reloads());
        counts.reloads().last_failed.set(failed.into());
    }

    /// Lets the endpoint show what is at work now.
    fn show(&self, running: &Running<'_>) {
        let metadata = running.metadata.as_ref().map(|metadata| metadata.counts());
        let mut counts = self.counts.write().unwrap_or_else(PoisonError::into_inner);
        *counts = counts.after_reload(running.stats.clone(), components(&running.pipeline), metadata);
    }
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

/// The sources and sinks as their counts are labelled.
fn components(pipeline: &Pipeline<Builtin>) -> Vec<Component> {
    let component = |name: &str, kind: Kind, type_name: &str| Component {
        name: name.to_owned(),
        kind: kind.singular(),
        type_name: type_name.to_owned(),
    };
    let sources = pipeline.sources.iter().map(|named| component(&named.name, Kind::Source, &named.type_name));
    let sinks = pipeline.sinks.iter().map(|named| component(&named.name, Kind::Sink, &named.type_name));
    sources.chain(sinks).collect()
}

/// Brings a run to its end: the worker first, then the deliveries.
struct End {
    clock: Arc<dyn Clock>,
    /// Whether a signal told to stop: the next one does not wait.
    stopping: bool,
    gave_up: bool,
    /// Whether the end has begun, by a signal or otherwise.
    begun: bool,
    /// When what is not done is left as it is.
    deadline: Option<Nanos>,
}

impl End {
    /// A first signal brings the run to its end in order, a second one at once.
    fn signalled(&mut self, running: &Running<'_>) {
        if std::mem::replace(&mut self.stopping, true) {
            tracing::warn!("told to stop again: leaving what is not delivered in the buffers");
            return self.give_up(running);
        }
        self.stop("told to stop", running);
    }

    /// Brings the run to its end in order, within [`DRAIN_WAIT`] or what is left of the time that it was given.
    fn stop(&mut self, why: &str, running: &Running<'_>) {
        if self.gave_up {
            return;
        }
        let patient = self.clock.now().after(DRAIN_WAIT);
        let deadline = self.deadline.map_or(patient, |at| at.min(patient));
        let wait_secs = deadline.since(self.clock.now()).as_secs();
        tracing::info!(wait_secs, "{why}: no more reading; delivering what is in the buffers");
        self.deadline = Some(deadline);
        self.begun = true;
        running.work.control.stop();
        if running.work.has_ended() {
            running.sinks.drain(self.deadline);
        }
    }

    async fn timed_out(&self) {
        match self.deadline {
            Some(at) => tokio::time::sleep(at.since(self.clock.now())).await,
            None => std::future::pending().await,
        }
    }

    /// Leaves everything as it is now. What is not in a buffer is read again at the next start.
    fn give_up(&mut self, running: &Running<'_>) {
        running.work.control.abandon();
        (self.gave_up, self.begun, self.deadline) = (true, true, None);
        running.sinks.drain(Some(self.clock.now()));
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
