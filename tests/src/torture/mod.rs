//! The torture rig: the real agent over growing logs and misbehaving stores, killed again and again, and an account of every
//! record at the end.
//!
//! Sixteen pods log numbered records, partial lines and torn writes included. The agent ships them to every [`Target`]. Its
//! lives end by SIGKILL after an exponentially distributed time (mean 1.5 s, 20 ms at least, so that many die while they
//! recover), some at a named point in the program, some by SIGTERM; in some it stands still for a while (SIGSTOP), and in some
//! its wall clock is hours off. Stores answer 429 and 503, take all and
//! close the connection, read half a request, send half an answer, stall beyond the time-out, find requests too large, and
//! are gone for seconds. Then the faults end, the agent catches up, a fresh record is timed, and the [`Ledger`] says whether
//! each record is at each target once.
//!
//! [`Profile::Damage`] also flips bits and cuts tails in the state between two lives; since every source is still there,
//! nothing may be lost by that either. [`Profile::SmallDisk`] puts the state on a file system of a few MiB that fills.

mod damage;
mod disk;
mod life;
pub mod target;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::agent::{self, Agent, DEADLINE};
use crate::chance::Chance;
use crate::generate::{Fleet, Log};
use crate::ledger::Ledger;
use crate::site::Site;
use disk::Mounted;
pub use disk::NOT_MOUNTABLE;
use life::live_once;
use target::{Kind, Outages, Target};

/// How many streams log.
const PODS: usize = 16;
/// How far the logs may be ahead of the slowest target at least, in records: something to ship at any time.
const MIN_AHEAD: u64 = 60_000;
/// How long the agent may go without bringing out anything once nothing goes wrong any more.
const DRAIN_LIMIT: Duration = Duration::from_secs(120);
/// How long a fresh record may take at the end.
const FRESH_LIMIT: Duration = Duration::from_secs(5);
/// What a buffer may take: little, so that a target which is gone for seconds falls behind, and is caught up with later.
const BUFFER_BYTES: u64 = 1 << 20;
/// What it may take beyond that: a segment, of the least size that there is.
const SEGMENT_BYTES: u64 = 1 << 20;
/// What the buffers on the small disk may take: more than it has.
const SMALL_DISK_BUFFER_BYTES: u64 = 16 << 20;

/// What is done to the agent beside killing it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Profile {
    /// Nothing.
    Kills,
    /// Its state is damaged between lives.
    Damage,
    /// Its state lies on a small disk.
    SmallDisk,
}

/// What to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// Of everything that chance decides here.
    pub seed: u64,
    /// How often it is killed.
    pub kills: u32,
    /// How many records are written in all.
    pub records: u64,
    /// What else.
    pub profile: Profile,
    /// Where they go.
    pub targets: Vec<Kind>,
}

impl Options {
    /// How far the logs may be ahead of the slowest target, in records. A tenth of a long run: a target that was away is not
    /// waited for, so that nearly all is written, and shipped, while the agent is killed.
    fn ahead(&self) -> u64 {
        MIN_AHEAD.max(self.records / 10)
    }

    /// How many records each pod writes.
    fn share(&self) -> u64 {
        self.records.div_ceil(PODS as u64)
    }

    /// How large the buffers are.
    fn buffer(&self) -> String {
        match self.profile {
            // Nothing is kept free, so that writes fail.
            Profile::SmallDisk => format!("buffer.max_size = {SMALL_DISK_BUFFER_BYTES}\nbuffer.min_free = 0\n"),
            Profile::Kills | Profile::Damage => format!("buffer.max_size = {BUFFER_BYTES}\n"),
        }
    }
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Lives that ended by SIGKILL.
    pub kills: u32,
    /// By SIGTERM.
    pub stops: u32,
    /// Times that it stood still.
    pub pauses: u32,
    /// Kills at a named point in the program.
    pub traps: u32,
    /// Lives whose wall clock was shifted by hours.
    pub clock_jumps: u32,
    /// Times that a sink fell behind and got a reader of its own.
    pub forks: u64,
    /// Times that the disk refused to take in more.
    pub refusals: u64,
    /// Damage done.
    pub damages: u32,
    /// Records written.
    pub records: u64,
    /// The most memory that a life had resident, in bytes.
    pub peak_rss_bytes: u64,
    /// Of each store: repeats that it refused, and records that it has twice since it cannot tell, where that is so.
    pub repeats: Vec<(&'static str, u64, Option<u64>)>,
    /// The most that the segments of a buffer took, in bytes.
    pub peak_buffer_bytes: u64,
    /// How long a fresh record took at the end.
    pub fresh: Duration,
    /// How long all of it took.
    pub took: Duration,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Figures { kills, traps, stops, pauses, clock_jumps, forks, refusals, damages, records, took, .. } = self;
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        write!(f, "{records} records, {kills} kills ({traps} at named points), {stops} stops, {pauses} pauses, ")?;
        write!(
            f,
            "{clock_jumps} clock jumps, {forks} sinks left behind, {refusals} times a full disk, {damages} damages in {:.0} s: 0 lost, 0 twice",
            took.as_secs_f64()
        )?;
        for (name, refused, again) in &self.repeats {
            write!(f, "; {name} refused {refused} repeats")?;
            again.map_or(Ok(()), |again| write!(f, " and took {again}, which it cannot tell"))?;
        }
        write!(f, "; a fresh record took {} ms; peak RSS {:.1} MiB", self.fresh.as_millis(), mib(self.peak_rss_bytes))?;
        write!(f, ", a buffer took {:.2} MiB", mib(self.peak_buffer_bytes))
    }
}

/// Runs the rig.
///
/// # Errors
/// What was lost, twice, changed or foreign, or did not work, with the seed.
pub fn run(options: Options) -> Result<Figures, String> {
    agent::binary()?;
    let seed = options.seed;
    Rig::new(options)?.run().map_err(|error| format!("seed {seed} (SKIDDER_SEED={seed} repeats it): {error}"))
}

struct Rig {
    options: Options,
    /// Before the site, which cannot be removed while it is mounted.
    _disk: Option<Mounted>,
    site: Site,
    targets: Vec<Box<dyn Target>>,
    figures: Figures,
}

impl Rig {
    fn new(options: Options) -> Result<Rig, String> {
        let site = Site::new("").map_err(|error| error.to_string())?;
        let targets = options.targets.iter().map(|kind| kind.start(&site)).collect::<Result<Vec<_>, _>>()?;
        std::fs::write(site.path("pipeline.toml"), config(&targets, &options.buffer())).map_err(|error| error.to_string())?;
        let disk = match options.profile {
            Profile::SmallDisk => Some(Mounted::small(site.path("state"))?),
            Profile::Kills | Profile::Damage => None,
        };
        Ok(Rig { options, _disk: disk, site, targets, figures: Figures::default() })
    }

    fn run(mut self) -> Result<Figures, String> {
        let Options { seed, kills, records, .. } = self.options;
        let begin = Instant::now();
        let fleet = Fleet::new(seed, PODS).split_per_mille(20);
        let share = self.options.share();
        let logs: Result<Vec<Log>, _> = (0..PODS).map(|pod| Log::create(&fleet, &self.site.path("pods"), pod)).collect();
        let mut logs = logs.map_err(|error| error.to_string())?;
        self.targets.iter().for_each(|target| target.misbehave(Some(seed)));
        let progress = Progress { filled: AtomicBool::new(self.options.profile != Profile::SmallDisk), ..Progress::default() };
        let Rig { site, targets, figures, options, .. } = &mut self;
        let (lived, wrote) = thread::scope(|scope| {
            let writer = scope.spawn(|| write(&mut logs, options, targets, &progress));
            let (mut lived, mut round) = (Ok(()), 0);
            while lived.is_ok() && figures.kills < kills {
                progress.allowed.store(records * (u64::from(figures.kills) + 1) / u64::from(kills), Ordering::Relaxed);
                lived = live_once(site, options, round, figures);
                progress.filled.fetch_or(figures.refusals > 0, Ordering::Relaxed);
                round += 1;
            }
            progress.done.store(true, Ordering::Relaxed);
            (lived, writer.join().unwrap_or_else(|_| Err("the writer panicked".to_owned())))
        });
        lived?;
        wrote?;
        self.targets.iter().for_each(|target| {
            target.misbehave(None);
            target.set_down(false);
        });
        self.figures.fresh = self.drain(&mut logs[0], share * PODS as u64)?;
        self.figures.records = share * PODS as u64 + 1;
        self.account(&fleet, share)?;
        if self.options.profile != Profile::SmallDisk && self.figures.peak_buffer_bytes > BUFFER_BYTES + SEGMENT_BYTES {
            return Err(format!("a buffer of {BUFFER_BYTES} bytes took {}", self.figures.peak_buffer_bytes));
        }
        if self.options.profile == Profile::SmallDisk && self.figures.refusals == 0 {
            return Err("the small disk was never full".to_owned());
        }
        self.figures.repeats = self.targets.iter().map(|target| (target.name(), target.ignored(), target.again())).collect();
        self.figures.took = begin.elapsed();
        Ok(self.figures)
    }

    /// Lets one undisturbed life bring out everything, then one more record: how long that one took.
    fn drain(&self, log: &mut Log<'_>, records: u64) -> Result<Duration, String> {
        let agent = self.site.start()?;
        let (mut last, mut since) = (0, Instant::now());
        while slowest(&self.targets) < records || since.elapsed() < Duration::from_secs(1) {
            let now = self.targets.iter().map(|target| target.moved()).sum();
            if now != last {
                (last, since) = (now, Instant::now());
            }
            // A frame that was damaged is read again by the next life.
            let gives_up = self.options.profile == Profile::Damage && since.elapsed() > Duration::from_secs(10);
            if gives_up {
                break;
            }
            if since.elapsed() > DRAIN_LIMIT {
                return Err(self.did_not_drain(agent, records)?);
            }
            thread::sleep(Duration::from_millis(5));
        }
        let (begin, before) = (Instant::now(), slowest(&self.targets));
        log.append(1).and_then(|()| log.flush()).map_err(|error| error.to_string())?;
        while slowest(&self.targets) == before && begin.elapsed() < FRESH_LIMIT {
            thread::sleep(Duration::from_millis(1));
        }
        let fresh = begin.elapsed();
        agent.signal(Signal::TERM).map_err(|error| error.to_string())?;
        let ended = agent.wait(DEADLINE)?.expect_success()?;
        if fresh >= FRESH_LIMIT {
            return Err(format!("a fresh record did not arrive within {FRESH_LIMIT:?}; {ended}"));
        }
        self.site.once()?;
        Ok(fresh)
    }

    fn did_not_drain(&self, agent: Agent, records: u64) -> Result<String, String> {
        let ended = agent.kill()?;
        let at = |target: &dyn Target| {
            let letters = self.site.read(&format!("state/dead-letters/{}.ndjson", target.name()));
            let letters = letters.iter().filter(|byte| **byte == b'\n').count();
            format!("{} {:?} and {letters} dead letters", target.name(), target.arrived())
        };
        let told: Vec<String> = self.targets.iter().map(|target| at(&**target)).collect();
        Ok(format!("of {records} records there arrived, with nothing more in {DRAIN_LIMIT:?}: {}; {ended}", told.join(", ")))
    }

    fn account(&self, fleet: &Fleet, share: u64) -> Result<(), String> {
        let mut expected = vec![share; PODS];
        expected[0] += 1;
        let mut wrong = Vec::new();
        for target in &self.targets {
            let mut ledger = Ledger::new(fleet, &expected);
            target.records(&mut |record| ledger.enter(record))?;
            let faults = ledger.close();
            let complaints = target.complaints();
            if !faults.is_none() || complaints.is_some() {
                wrong.push(format!("{}: {faults} {}", target.name(), complaints.unwrap_or_default()));
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
    }
}

/// How many records have arrived at the slowest target.
fn slowest(targets: &[Box<dyn Target>]) -> u64 {
    targets.iter().filter_map(|target| target.arrived()).min().unwrap_or(0)
}

/// What the writer may do.
#[derive(Default)]
struct Progress {
    /// Records in all so far.
    allowed: AtomicU64,
    done: AtomicBool,
    /// Whether the small disk was full, where there is one: until it was the stores are down.
    filled: AtomicBool,
}

/// Lets the logs grow as far as is allowed, and to their end when the kills are over; takes stores down in between.
fn write(logs: &mut [Log<'_>], options: &Options, targets: &[Box<dyn Target>], progress: &Progress) -> Result<(), String> {
    let (seed, share) = (options.seed, options.share());
    let mut chance = Chance::of(seed, 51, 0);
    let mut outages: Vec<Outages> = (0..targets.len() as u64).map(|n| Outages::new(Chance::of(seed, 52, n))).collect();
    let (mut written, mut filled) = (0, true);
    let failed = |error: std::io::Error| error.to_string();
    loop {
        let done = progress.done.load(Ordering::Relaxed);
        if filled != progress.filled.load(Ordering::Relaxed) {
            filled = !filled;
            targets.iter().for_each(|target| target.set_down(!filled));
        }
        if !done && filled {
            outages.iter_mut().zip(targets).for_each(|(outages, target)| outages.step(&**target));
        }
        let allowed = if done { u64::MAX } else { progress.allowed.load(Ordering::Relaxed).min(slowest(targets) + options.ahead()) };
        let open: Vec<usize> = (0..logs.len()).filter(|pod| logs[*pod].records() < share).collect();
        if open.is_empty() {
            return logs.iter_mut().try_for_each(|log| log.flush()).map_err(failed);
        }
        if written >= allowed {
            thread::sleep(Duration::from_millis(1));
            continue;
        }
        let log = &mut logs[*chance.pick(&open)];
        let count = (1 + chance.below(200)).min(share - log.records());
        log.append(count).map_err(failed)?;
        log.flush_but(chance.below(600) as usize).map_err(failed)?;
        written += count;
        if chance.per_mille(100) {
            thread::sleep(Duration::from_micros(chance.below(3_000)));
        }
    }
}

fn config(targets: &[Box<dyn Target>], buffer: &str) -> String {
    let head = r#"data_dir = "state"

[sources.pods]
type = "kubernetes_logs"
root = "pods"

[transforms.parse]
type = "json"
inputs = ["pods"]

[transforms.meta]
type = "enrich"
inputs = ["parse"]
[transforms.meta.fields]
env = "test"
pod_name = "{{ kubernetes.pod_name }}"
region = "eu-1"
"#;
    let sink = |target: &dyn Target| format!("\n[sinks.{}]\ninputs = [\"meta\"]\n{}{buffer}", target.name(), target.config());
    targets.iter().fold(head.to_owned(), |config, target| config + &sink(&**target))
}
