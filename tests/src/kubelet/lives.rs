//! The lives of the agent: started, stopped or killed, and started again.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::agent::{Agent, DEADLINE, Ended};
use crate::chance::Chance;
use crate::site::Site;

/// A life that got as far as looking at what there was.
#[derive(Clone, Copy, Debug)]
pub struct Life {
    /// When it had looked.
    pub looked: Instant,
    pub end: Instant,
    pub killed: bool,
}

/// The lives so far.
pub struct Lives<'a> {
    site: &'a Site,
    chance: Chance,
    start: Instant,
    pub lives: Vec<Life>,
    pub kills: u32,
    pub stops: u32,
    /// What all of them said, each line with the life that said it.
    pub said: String,
}

impl<'a> Lives<'a> {
    /// None yet: whoever writes meanwhile began at `start`.
    pub fn new(site: &'a Site, chance: Chance, start: Instant) -> Lives<'a> {
        Lives { site, chance, start, lives: Vec::new(), kills: 0, stops: 0, said: String::new() }
    }

    /// One life of some time, ended by SIGKILL or SIGTERM, and the pause after it.
    ///
    /// # Errors
    /// Where it could not be started, ended by itself, or did not end when told to.
    pub fn live_once(&mut self) -> Result<(), String> {
        // Most lives are long enough to get somewhere, some end while it starts.
        let age = if self.chance.per_mille(200) { self.chance.below(200) } else { 300 + self.chance.below(4_000) };
        let (age, killed) = (Duration::from_millis(age), self.chance.per_mille(500));
        let begin = Instant::now();
        self.live(killed, || begin.elapsed() < age)?;
        // A log that fills in every period is gone after five.
        let pause = if self.chance.per_mille(300) { 0 } else { self.chance.below(900) };
        std::thread::sleep(Duration::from_millis(pause));
        Ok(())
    }

    /// One life, which is stopped when it is not `busy` any more.
    ///
    /// # Errors
    /// As [`Lives::live_once`].
    pub fn live_until_done(&mut self, mut busy: impl FnMut() -> bool) -> Result<(), String> {
        let begin = Instant::now();
        self.live(false, || busy() && begin.elapsed() < DEADLINE)
    }

    fn live(&mut self, killed: bool, mut goes_on: impl FnMut() -> bool) -> Result<(), String> {
        let begin = Instant::now();
        let mut agent = Agent::start(self.site.root(), &["run", "-c", "pipeline.toml"])?;
        let pods = self.site.path("pods");
        let mut looked = None;
        // One that is told to stop while it starts may end before it has looked at all: then it is down as before.
        while agent.is_running() && goes_on() {
            if looked.is_none() && holds_a_log(&agent, &pods) {
                // All are opened at once, one after the other.
                std::thread::sleep(Duration::from_millis(100));
                looked = Some(Instant::now());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let (running, now) = (agent.is_running(), Instant::now());
        let ended = if killed {
            agent.kill()?
        } else {
            agent.signal(Signal::TERM).map_err(|error| format!("cannot stop the agent: {error}"))?;
            agent.wait(DEADLINE)?
        };
        // In the first milliseconds of a process nobody listens to signals yet: then it is a kill, of one that had done nothing.
        let unheard = !killed && looked.is_none() && ended.status.signal() == Some(Signal::TERM.as_raw());
        let killed = killed || unheard;
        self.note(begin, looked, now, killed, &ended);
        if !running || ended.crashed() && !unheard || (!killed && !ended.status.success()) {
            return Err(format!("the agent ended by itself or badly: {ended}"));
        }
        Ok(())
    }

    fn note(&mut self, begin: Instant, looked: Option<Instant>, end: Instant, killed: bool, ended: &Ended) {
        let at = |instant: Instant| instant.duration_since(self.start).as_secs_f64();
        let verb = if killed { "killed" } else { "stopped" };
        let took = ended.took.as_secs_f64();
        self.said += &format!("begun {:.3}, {verb} at {:.3}, which took {took:.3}:\n{}", at(begin), at(end), ended.stderr);
        self.lives.extend(looked.map(|looked| Life { looked, end, killed }));
        if killed {
            self.kills += 1;
        } else {
            self.stops += 1;
        }
    }
}

/// Whether the agent has a file below `root` open.
fn holds_a_log(agent: &Agent, root: &Path) -> bool {
    let Some(pid) = agent.pid() else { return false };
    let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let log = |link: &Path| link.starts_with(root) && link.parent() != Some(root) && link.to_string_lossy().contains(".log");
    open.filter_map(|entry| fs::read_link(entry.path()).ok()).any(|link| log(&link))
}
