//! One life of the agent, and how it ends.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{Figures, Options, Profile, damage};
use crate::agent::{Agent, DEADLINE};
use crate::chance::Chance;
use crate::measure::peak_rss;
use crate::site::{Site, files_below};

/// The mean time between a start and its kill.
const MEAN_LIFE: Duration = Duration::from_millis(1_500);
/// The shortest: the agent has hardly opened its buffers by then.
const MIN_LIFE: Duration = Duration::from_millis(20);

/// One life, ended by force or in order.
pub(super) fn live_once(site: &Site, options: &Options, round: u32, figures: &mut Figures) -> Result<(), String> {
    let mut chance = Chance::of(options.seed, 53, u64::from(round));
    let trap = chance.per_mille(150).then(|| Trap::new(&mut chance));
    let mut variables: Vec<(&str, String)> = trap.iter().map(|trap| ("SKIDDER_FAILPOINT", trap.to_string())).collect();
    if chance.per_mille(100) {
        let hours = chance.below(5) as i64 - 2;
        variables.push(("SKIDDER_CLOCK_OFFSET_SECS", (hours * 3600 + 17).to_string()));
        figures.clock_jumps += 1;
    }
    let mut agent = site.start_with(&variables)?;
    let life = exponential(&mut chance, MEAN_LIFE).max(MIN_LIFE);
    sleep_while(&mut agent, life);
    let way = chance.below(100);
    if (5..10).contains(&way) && agent.is_running() {
        figures.pauses += 1;
        pause(&agent, Duration::from_millis(chance.below(5_000)))?;
    }
    let peak = agent.pid().and_then(|pid| peak_rss(pid).ok()).unwrap_or(0);
    figures.peak_rss_bytes = figures.peak_rss_bytes.max(peak);
    let still_there = agent.is_running();
    let trapped = trap.is_some() && !still_there;
    let ended = if way < 5 && still_there {
        figures.stops += 1;
        agent.signal(Signal::TERM).map_err(|error| error.to_string())?;
        agent.wait(DEADLINE)?
    } else {
        figures.kills += 1;
        agent.kill()?
    };
    figures.traps += u32::from(trapped && ended.was_killed());
    figures.forks += ended.stderr.matches("reading goes on without this sink").count() as u64;
    figures.refusals += ended.stderr.matches("a buffer cannot be written").count() as u64;
    figures.peak_buffer_bytes = figures.peak_buffer_bytes.max(largest_buffer(&site.path("state")).map_err(|error| error.to_string())?);
    let expected = still_there || trapped && ended.was_killed();
    if !expected || ended.crashed() {
        return Err(format!("round {round}: it ended by itself: {ended}"));
    }
    if options.profile == Profile::Damage && chance.below(2) == 0 {
        let done = damage::damage(&site.path("state"), &mut chance).map_err(|error| error.to_string())?;
        figures.damages += u32::from(done.is_some());
    }
    Ok(())
}

/// What the segments of the largest buffer below `state` take, in bytes.
fn largest_buffer(state: &Path) -> io::Result<u64> {
    let mut buffers: BTreeMap<PathBuf, u64> = BTreeMap::new();
    for path in files_below(state)?.iter().filter(|path| path.extension().is_some_and(|end| end == "seg")) {
        let directory = path.parent().unwrap_or(state).to_path_buf();
        *buffers.entry(directory).or_default() += path.metadata()?.len();
    }
    Ok(buffers.into_values().max().unwrap_or(0))
}

/// Sleeps for `time`, or until the agent is gone.
fn sleep_while(agent: &mut Agent, time: Duration) {
    let begin = Instant::now();
    while begin.elapsed() < time && agent.is_running() {
        thread::sleep(Duration::from_millis(3).min(time));
    }
}

/// A point in the program at which it dies (`pipeline/src/fail.rs`): builds without debug assertions pass over it.
struct Trap {
    point: &'static str,
    count: u64,
}

impl Trap {
    /// The points, each with how often a life comes to it at the most that is worth waiting for.
    const POINTS: [(&str, u64); 12] = [
        ("appended", 40),
        ("synced", 4),
        ("answered", 40),
        ("buried", 1),
        ("cut", 2),
        ("cut-journaled", 2),
        ("before-settling", 40),
        ("settled", 40),
        ("before-removal", 2),
        ("log-written", 1),
        ("log-renamed", 1),
        ("recovered", 2),
    ];

    fn new(chance: &mut Chance) -> Trap {
        let (point, most) = *chance.pick(&Trap::POINTS);
        Trap { point, count: 1 + chance.below(most) }
    }
}

impl fmt::Display for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.point, self.count)
    }
}

fn pause(agent: &Agent, time: Duration) -> Result<(), String> {
    agent.signal(Signal::STOP).map_err(|error| error.to_string())?;
    thread::sleep(time);
    agent.signal(Signal::CONT).map_err(|error| error.to_string())?;
    thread::sleep(Duration::from_millis(100));
    Ok(())
}

/// A time that is as likely to end in any moment as in any other.
fn exponential(chance: &mut Chance, mean: Duration) -> Duration {
    let fraction = (chance.below(1 << 53) as f64 + 1.0) / (1_u64 << 53) as f64;
    mean.mul_f64(-fraction.ln())
}
