//! The whole of the pure core under one seeded simulation.
//!
//! A history is made of its seed alone. It has logs that grow, one to three sinks, each with the store of a kind, and an
//! agent that lives and dies over them: the real worker, `Outlet`, `freeze`, `Queue`, `SinkBuffer` and `Decide`, on
//! [`SimFs`], with the clock, the chance and the network handed in. What can go wrong, and does:
//!
//! - the process dies at any call to the file system, half-way through a write, or between any two steps;
//! - the power fails: what was not synced is there, or not, or in parts, in any order;
//! - the disk is full for a while, or a call fails;
//! - stores answer 429, 503, 401, 413, take some records and not others, take all and close the connection, never answer, or
//!   take a request long after it was given up, across a death of its sender too;
//! - dead letters cannot be written for a while;
//! - a sink whose buffer is full is left behind by the reader, and caught up with later; or its policy gives records up.
//!
//! At the end everything works again. Then each record is in each store, in the dead letters, or counted by an overflow
//! policy, exactly; Elasticsearch and ClickHouse
//! have none twice, but for what the [buffer](crate::buffer) says of a power loss (`sync_after`), and of a disk that
//! refused; and a fresh record gets through at once.
//!
//! `SIM_SEED=n` runs one history again and `SIM_SEEDS=n` as many as that:
//! `SIM_SEED=17 cargo test -p skidder-pipeline sim::`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;

use crate::buffer::WhenFull;
use crate::delivery::decide::Outcome;
use crate::edge::{Chance, Nanos, SplitMix};
use crate::fs::sim::{Fault, SimFs};
use crate::sink::Verdict;
use node::{Done, Node};
use settings::{Settings, SinkSettings};
use source::{Logs, Name, is_filtered};
use store::{Kind, Store};

mod node;
mod settings;
mod source;
mod store;

/// How many histories the test runs.
const SEEDS: u64 = 20_000;

const STEPS: u64 = 160;

const SYNC_AFTER: Duration = Duration::from_secs(1);

/// How long a fresh record may take once all is well: the linger, a wait for the buffer, and room for a retry.
const FRESH: Duration = Duration::from_secs(5);

/// What outlives the agent, of one sink.
struct Outside {
    sink: SinkSettings,
    store: Store,
    /// Records that the overflow policy gave up in earlier lives.
    dropped: u64,
    letters: BTreeSet<Name>,
    /// Each record with those that were appended together with it.
    groups: BTreeMap<Name, Arc<[Name]>>,
    /// When each record was appended, or one of its group acknowledged, last: what a power loss may take with it.
    touched: BTreeMap<Name, Nanos>,
    /// Records that a power loss may have made to be sent again in another frame.
    excused: BTreeSet<Name>,
}

struct History {
    seed: u64,
    chance: SplitMix,
    settings: Settings,
    fs: SimFs,
    logs: Logs,
    outside: Vec<Outside>,
    node: Node,
    lives: u64,
    now: Nanos,
    /// Times that a sink was left behind, and deaths while one was.
    forks: u64,
    deaths_while_forked: u64,
    /// Whether stores and dead letters misbehave.
    storm: bool,
    trace: Trace,
}

impl History {
    fn new(seed: u64, traced: bool) -> History {
        let mut chance = SplitMix(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let settings = Settings::of(&mut chance);
        let (fs, logs, now) = (SimFs::new(), Logs::new(3), Nanos(3_600_000_000_000));
        let outside = settings.sinks.iter().map(|sink| Outside::new(*sink, settings.max_body_bytes)).collect();
        let node = Node::start(&fs, &settings, &logs, 0, now);
        let trace = Trace(traced.then(Vec::new));
        History { seed, chance, settings, fs, logs, outside, node, lives: 0, now, forks: 0, deaths_while_forked: 0, storm: true, trace }
    }

    fn roll(&mut self, bound: u64) -> u64 {
        roll(&mut self.chance, bound)
    }

    fn run(mut self) -> Summary {
        for _ in 0..STEPS {
            self.step();
            if self.fs.is_dead() {
                self.die();
            } else {
                self.check_balance();
            }
        }
        self.calm();
        if self.settings.disk && self.settings.dies {
            // What a disk that refused made unreadable is read again by the next life.
            self.kill(false);
            self.calm();
        }
        self.check();
        let begin = self.now;
        let fresh = self.logs.append(0, 1);
        self.calm();
        self.assert(is_filtered(fresh) || self.now.since(begin) <= FRESH, "a fresh record gets through at once");
        self.check();
        Summary {
            records: self.logs.names().len() as u64,
            lives: self.lives,
            forks: self.forks,
            deaths_while_forked: self.deaths_while_forked,
            dropped: self.outside.iter().zip(&self.node.sinks).map(|(outside, life)| outside.dropped + life.dropped()).sum(),
            repeats: self.outside.iter().map(|o| (o.sink.kind, o.store.copies.values().map(|n| u64::from(*n) - 1).sum())).collect(),
        }
    }

    fn step(&mut self) {
        let sink = self.roll(self.outside.len() as u64) as usize;
        match self.roll(64) {
            0..12 => self.write(),
            12..26 => drop(self.round()),
            26..36 => self.take(sink),
            36..48 => self.answer(sink),
            48..54 => {
                let millis = [5, 100, 400, 1000, 3000, 15_000][self.roll(6) as usize];
                self.advance(Duration::from_millis(millis));
            }
            54..56 => self.take_late(sink),
            57 => self.storm = self.roll(3) > 0,
            58 | 59 if self.settings.disk => self.refuse(),
            60..64 if !self.settings.dies => {}
            60 | 61 => {
                let after = self.roll(12);
                self.trace.note(|| format!("dies in call {after} from here"));
                self.fs.fault(Some(Fault::killed(after)));
            }
            62 => self.kill(self.settings.power),
            63 => self.stop(),
            // The store takes larger requests from now on.
            56 => self.outside[sink].store.max_body_bytes = self.outside[sink].store.max_body_bytes.saturating_mul(6),
            _ => {}
        }
    }

    fn write(&mut self) {
        for _ in 0..=self.roll(6) {
            let (file, padding) = (self.roll(3) as u32, self.roll(90) as usize);
            let name = self.logs.append(file, padding);
            self.trace.note(|| format!("logged {name:?}"));
        }
    }

    fn round(&mut self) -> bool {
        let readers = self.node.reader_count();
        let read = self.node.round(self.now, false);
        self.forks += u64::from(self.node.reader_count() > readers);
        self.note_appended();
        read
    }

    fn note_appended(&mut self) {
        for (index, (life, outside)) in self.node.sinks.iter().zip(&mut self.outside).enumerate() {
            for group in life.appended() {
                self.trace.note(|| format!("sink {index}: appended {group:?}"));
                let group: Arc<[Name]> = group.into();
                outside.groups.extend(group.iter().map(|name| (*name, group.clone())));
                outside.touch(&group, self.now);
            }
        }
    }

    fn take(&mut self, sink: usize) {
        self.node.sinks[sink].take(self.now);
        self.act(sink);
    }

    /// Does what the delivery decides, until there is nothing, or the process is dead.
    fn act(&mut self, sink: usize) {
        while !self.fs.is_dead() {
            let buries = !self.storm || self.roll(4) > 0;
            let Some(done) = self.node.sinks[sink].act(buries, self.now) else { return };
            let outside = &mut self.outside[sink];
            match done {
                Some(Done::Acknowledged(names)) => {
                    self.trace.note(|| format!("sink {sink}: acknowledged {names:?} at {}", self.now.0 / 1_000_000));
                    // The ranges of all of its group may hang on this one acknowledgement.
                    let groups: Vec<Arc<[Name]>> = names.iter().filter_map(|name| outside.groups.get(name).cloned()).collect();
                    groups.iter().for_each(|group| outside.touch(group, self.now));
                }
                Some(Done::Cut(names)) => {
                    self.trace.note(|| format!("sink {sink}: cut {names:?}"));
                    outside.touch(&names, self.now);
                }
                Some(Done::Buried(names)) => {
                    self.trace.note(|| format!("sink {sink}: buried {names:?}"));
                    outside.letters.extend(names);
                }
                Some(Done::Sent) | None => {}
            }
        }
    }

    /// One of the sends under way comes to its end.
    fn answer(&mut self, sink: usize) {
        let flying = self.node.sinks[sink].flying.len() as u64;
        if flying == 0 {
            return;
        }
        let at = self.roll(flying) as usize;
        let (piece, frame) = self.node.sinks[sink].flying.remove(at);
        let fate = if self.storm { self.roll(20) } else { 19 };
        let busy_seed = if self.storm && self.roll(3) == 0 { self.roll(1 << 30) + 1 } else { 0 };
        let store = &mut self.outside[sink].store;
        let mut take = || store.take(&frame, |record| busy_seed > 0 && (u64::from(record) + 1) * busy_seed % 4 == 0);
        let retry = |reason: &str| Verdict::Retry { reason: reason.to_owned() };
        let failed = || Outcome::Failed { reason: "closed".to_owned() };
        let answered = |verdict| Outcome::Answered { verdict, retry_after: None };
        let outcome = match fate {
            0 => Outcome::Answered { verdict: retry("429"), retry_after: Some(Duration::from_secs(2)) },
            1 => answered(retry("503")),
            2 => failed(),
            3 | 4 => {
                take();
                failed()
            }
            5 => Outcome::TimedOut,
            6 => {
                store.begin(frame.clone());
                Outcome::TimedOut
            }
            7 => answered(Verdict::Pause { reason: "401".to_owned() }),
            _ => answered(take()),
        };
        self.trace.note(|| format!("sink {sink}: frame {} {:?}: fate {fate}, {outcome:?}", frame.header().seq, store::names(&frame)));
        self.node.sinks[sink].answered(piece, outcome, self.now);
        self.act(sink);
    }

    /// A store gets round to a request that was given up.
    fn take_late(&mut self, sink: usize) {
        if let Some(frame) = self.outside[sink].store.late.pop() {
            self.trace.note(|| format!("sink {sink}: takes {:?} late", store::names(&frame)));
            self.outside[sink].store.take(&frame, |_| false);
        }
    }

    /// Time passes; what is due is done at its time.
    fn advance(&mut self, time: Duration) {
        let end = self.now.after(time);
        loop {
            let due = self.node.tick(self.now).map(|due| due.max(self.now.after(Duration::from_millis(1))));
            if self.fs.is_dead() {
                return; // at this time
            }
            match due {
                Some(due) if due <= end => self.now = due,
                _ => break,
            }
        }
        self.now = end;
        self.trace.note(|| format!("it is {}", end.0 / 1_000_000));
        self.node.tick(end);
        (0..self.outside.len()).for_each(|sink| self.act(sink));
    }

    /// The disk is full, has room again, or fails once.
    fn refuse(&mut self) {
        let used: u64 = self.fs.contents().values().map(|bytes| bytes.len() as u64).sum();
        match self.roll(5) {
            0 => {
                let room = self.roll(2000);
                self.fs.set_capacity_bytes(Some(used + room));
            }
            1 | 2 => self.fs.set_capacity_bytes(None),
            _ => {
                let errno = [Errno::NOSPC, Errno::IO][self.roll(2) as usize];
                let fault = Fault { reads: self.roll(2) == 0, ..Fault::once(self.roll(8), errno) };
                self.fs.fault(Some(fault));
            }
        }
        self.trace.note(|| "the disk refuses, or not any more".to_owned());
    }

    fn die(&mut self) {
        let power = self.settings.power && self.roll(3) == 0;
        self.kill(power);
    }

    /// The agent ends without a word, and another is started.
    fn kill(&mut self, power: bool) {
        self.fs.fault(None);
        self.note_appended();
        self.deaths_while_forked += u64::from(self.node.reader_count() > 1);
        for (outside, life) in self.outside.iter_mut().zip(&self.node.sinks) {
            outside.dropped += life.dropped();
        }
        self.trace.note(|| format!("{} at {}", if power { "the power fails" } else { "killed" }, self.now.0 / 1_000_000));
        for sink in 0..self.outside.len() {
            for (_, frame) in std::mem::take(&mut self.node.sinks[sink].flying) {
                match self.roll(4) {
                    0 => drop(self.outside[sink].store.take(&frame, |_| false)),
                    1 => self.outside[sink].store.begin(frame),
                    _ => {}
                }
            }
        }
        if power {
            let seed = self.roll(u64::MAX);
            self.fs.lose_power(seed);
        }
        self.start(power);
    }

    /// The agent ends in order.
    fn stop(&mut self) {
        self.trace.note(|| "stopped".to_owned());
        self.node.stop(self.now);
        self.note_appended();
        if self.fs.is_dead() {
            return self.die();
        }
        let power = self.settings.power && self.roll(2) == 0;
        if power && !self.settings.disk {
            // All was synced: nothing is excused.
            self.outside.iter_mut().for_each(|outside| outside.touched.clear());
        }
        self.kill(power);
    }

    fn start(&mut self, after_power_loss: bool) {
        let crash = self.now;
        self.advance_stopped();
        for outside in &mut self.outside {
            for (name, at) in &mut outside.touched {
                if at.after(SYNC_AFTER + Duration::from_millis(1)) >= crash {
                    if after_power_loss && !self.settings.strict {
                        outside.excused.insert(*name);
                    }
                    // What was found may not have been synced: it is, again `sync_after` from now.
                    *at = self.now;
                }
            }
        }
        self.lives += 1;
        self.node = Node::start(&self.fs, &self.settings, &self.logs, self.lives, self.now);
    }

    /// The time until somebody starts it again.
    fn advance_stopped(&mut self) {
        let millis = [1, 500, 20_000][self.roll(3) as usize];
        self.now = self.now.after(Duration::from_millis(millis));
    }

    /// All is well: everything gets through.
    fn calm(&mut self) {
        self.fs.fault(None);
        self.fs.set_capacity_bytes(None);
        self.storm = false;
        for _ in 0..5000 {
            let read = self.round();
            for sink in 0..self.outside.len() {
                while self.node.sinks[sink].take(self.now) {}
                self.act(sink);
                while !self.node.sinks[sink].flying.is_empty() {
                    self.answer(sink);
                }
            }
            let idle = !read && self.node.sinks.iter().all(node::Life::is_idle);
            if idle && self.unexplained().is_empty() {
                (0..self.outside.len()).for_each(|sink| {
                    while !self.outside[sink].store.late.is_empty() {
                        self.take_late(sink)
                    }
                });
                return;
            }
            // A frame that a failing disk did not give back is read again from its source by the next life.
            if idle && self.settings.disk && self.node.sinks.iter().any(|life| life.queue.stats().lost.get() > life.dropped()) {
                self.kill(false);
            }
            if !read {
                let wait = self.node.wake_at().map_or(Duration::ZERO, |at| at.since(self.now));
                self.advance(wait.clamp(Duration::from_millis(100), Duration::from_secs(600)));
            }
        }
        let missing = self.unexplained();
        self.assert(false, &format!("everything arrives; these do not, by sink: {missing:?}"));
    }

    /// The records of a sink that are neither in its store nor in its dead letters.
    fn missing(&self, sink: usize) -> Vec<Name> {
        let outside = &self.outside[sink];
        let gone = |name: &Name| !is_filtered(*name) && !outside.store.copies.contains_key(name) && !outside.letters.contains(name);
        self.logs.names().into_iter().filter(gone).collect()
    }

    /// Those that are missing, by sink, where an overflow policy does not say that it gave up as many.
    fn unexplained(&self) -> Vec<(usize, Vec<Name>)> {
        let explained = |sink: usize| self.outside[sink].dropped + self.node.sinks[sink].dropped();
        let each = (0..self.outside.len()).map(|sink| (sink, self.missing(sink)));
        each.filter(|(sink, missing)| missing.len() as u64 > explained(*sink)).collect()
    }

    fn check(&self) {
        let missing = self.unexplained();
        self.assert(missing.is_empty(), &format!("nothing is lost: {missing:?}"));
        for (sink, outside) in self.outside.iter().enumerate() {
            let SinkSettings { kind, on_disk, when_full } = outside.sink;
            let dropped = outside.dropped + self.node.sinks[sink].dropped();
            self.assert(dropped == 0 || when_full != WhenFull::Block, "a buffer that blocks gives up nothing");
            // What was sent, its answer lost with the process, and then given up may be at the store.
            let exact = self.lives > 0 || dropped == self.missing(sink).len() as u64;
            self.assert(exact, &format!("sink {sink}: {dropped} were given up, and {:?} are not there", self.missing(sink)));
            // A buffer in memory is read anew after a death, and frozen in other frames.
            let tells = kind == Kind::Elasticsearch || kind == Kind::ClickHouse && (on_disk || self.lives == 0);
            let strict = tells && !self.settings.disk;
            let twice: Vec<_> =
                outside.store.copies.iter().filter(|(name, copies)| **copies > 1 && !outside.excused.contains(name)).collect();
            self.assert(!strict || twice.is_empty(), &format!("sink {sink}, {kind:?}: none is there twice: {twice:?}"));
            let foreign = outside.store.copies.keys().any(|name| is_filtered(*name));
            self.assert(!foreign, "what is filtered stays out");
        }
        let bytes: BTreeMap<usize, u64> = self.fs.contents().iter().fold(BTreeMap::new(), |mut sums, (path, bytes)| {
            let sink = (0..self.outside.len()).find(|sink| path.starts_with(format!("/data/sink-{sink}")));
            let is_segment = path.extension().is_some_and(|end| end == "seg");
            sink.filter(|_| is_segment).into_iter().for_each(|sink| *sums.entry(sink).or_default() += bytes.len() as u64);
            sums
        });
        let most = self.settings.max_bytes + self.settings.segment_bytes;
        self.assert(bytes.values().all(|sum| *sum <= most), "a buffer keeps to its bound and one segment");
    }

    fn check_balance(&self) {
        for (sink, life) in self.node.sinks.iter().enumerate() {
            if let Err(how) = life.is_balanced() {
                self.assert(false, &format!("sink {sink} accounts for each record: {how}"));
            }
        }
    }

    fn assert(&self, holds: bool, what: &str) {
        let trace = self.trace.0.iter().flatten().map(|line| format!("{line}\n")).collect::<String>();
        assert!(holds, "{trace}not so: {what}\nonce more, told in full: SIM_SEED={} cargo test -p skidder-pipeline sim::", self.seed);
    }
}

/// What happened, told only where one history is run alone.
struct Trace(Option<Vec<String>>);

impl Trace {
    fn note(&mut self, what: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.0 {
            lines.push(what());
        }
    }
}

impl Outside {
    fn new(sink: SinkSettings, max_body_bytes: usize) -> Outside {
        Outside {
            sink,
            store: Store::new(sink.kind, max_body_bytes),
            dropped: 0,
            letters: BTreeSet::new(),
            groups: BTreeMap::new(),
            touched: BTreeMap::new(),
            excused: BTreeSet::new(),
        }
    }

    fn touch(&mut self, names: &[Name], now: Nanos) {
        self.touched.extend(names.iter().map(|name| (*name, now)));
    }
}

/// What a history came to.
struct Summary {
    records: u64,
    lives: u64,
    forks: u64,
    deaths_while_forked: u64,
    /// Records that overflow policies gave up.
    dropped: u64,
    /// Copies too many, by kind of store.
    repeats: Vec<(Kind, u64)>,
}

fn roll(chance: &mut SplitMix, bound: u64) -> u64 {
    (chance.fraction() * bound as f64) as u64
}

#[test]
fn no_history_loses_a_record_or_repeats_one_where_the_store_can_tell() {
    if let Ok(seed) = std::env::var("SIM_SEED") {
        History::new(seed.parse().expect("a number"), true).run();
        return;
    }
    let seeds = std::env::var("SIM_SEEDS").map_or(SEEDS, |count| count.parse().expect("a number"));
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    let share = |first| (first..seeds).step_by(threads as usize).map(|seed| History::new(seed, false).run()).collect::<Vec<_>>();
    let summaries: Vec<Summary> = std::thread::scope(|scope| {
        let shares: Vec<_> = (0..threads).map(|first| scope.spawn(move || share(first))).collect();
        shares.into_iter().flat_map(|share| share.join().unwrap_or_else(|failed| std::panic::resume_unwind(failed))).collect()
    });
    // A simulation in which little happens proves little.
    let records: u64 = summaries.iter().map(|summary| summary.records).sum();
    let lives: u64 = summaries.iter().map(|summary| summary.lives).sum();
    let repeats = |kind| summaries.iter().flat_map(|summary| &summary.repeats).filter(|(of, _)| *of == kind).map(|(_, n)| n).sum::<u64>();
    let sum = |of: fn(&Summary) -> u64| summaries.iter().map(of).sum::<u64>();
    let (forks, forked, dropped) = (sum(|s| s.forks), sum(|s| s.deaths_while_forked), sum(|s| s.dropped));
    let (otlp, clickhouse) = (repeats(Kind::Otlp), repeats(Kind::ClickHouse));
    let told = format!(
        "{records} records, {lives} lives, {forks} sinks left behind, {forked} deaths meanwhile, {dropped} records given up by policy, \
         repeats: {otlp} at OTLP, {clickhouse} at ClickHouse (power, disk, or in memory)"
    );
    assert!(records > 30 * seeds && lives > 2 * seeds && otlp > seeds / 10 && dropped > seeds, "{told}");
    assert!(forks > seeds / 30 && forked > seeds / 60, "{told}");
    #[allow(clippy::print_stderr)]
    let () = eprintln!("{seeds} histories: {told}");
}
