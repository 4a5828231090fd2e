//! A node with its kubelet, scaled down: containers that log, rotations that take the logs away, pods that come and go.
//!
//! The agent runs over it, is stopped and killed and started again, and every record is accounted for in the end
//! ([`trial`]). Against a real node everything is forty times as fast and as small: logs of 256 KiB, looked at every 250 ms,
//! so that what happens in a day there happens here in half an hour.
//!
//! ```text
//! writers (a thread a pod) ──lines──▶ logs ◀──removes, compresses, renames, reopens── kubelet (a thread)
//!    └─ journal: every record, the generations it lies in, when these were removed       agent ◀── lives
//! ```

mod container;
mod journal;
mod lives;
mod rotate;
mod text;
pub mod trial;
mod verdict;

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::chance::Chance;
use container::{Container, Process};
pub use journal::Journal;
use text::Text;

/// `containerLogMaxSize`: 10 MiB on a node.
const MAX_LOG_BYTES: u64 = 256 * 1024;
/// `containerLogMonitorInterval`: 10 s on a node.
const PERIOD: Duration = Duration::from_millis(250);
/// How long a log is there at least before its pod's directory is removed. An agent sees a new directory when inotify tells
/// it to look, which it asks ten times a second; nobody can read what was removed before it looked.
const MIN_LOG_AGE: Duration = Duration::from_millis(700);

/// What a node's pods are like.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Logs this many bytes a second, day and night.
    Steady(u64),
    /// Is silent most of the time and then says this many bytes as fast as it can.
    Bursts(u64),
    /// Logs this many bytes a second and dies every few seconds.
    Crashing(u64),
    /// Lives for a second, logs this many bytes a second, and leaves nothing behind; then comes the next.
    Short(u64),
}

/// Eight pods at a time, of two outputs each. The first two fill a log in every period.
const PODS: [Kind; 8] = [
    Kind::Steady(1_300_000),
    Kind::Steady(900_000),
    Kind::Steady(30_000),
    Kind::Bursts(700_000),
    Kind::Crashing(400_000),
    Kind::Crashing(20_000),
    Kind::Short(500_000),
    Kind::Short(50_000),
];

type Worker = thread::JoinHandle<io::Result<()>>;

/// The running node.
pub struct Node {
    shared: Arc<Shared>,
    writers: Vec<Worker>,
    kubelet: Option<Worker>,
}

struct Shared {
    seed: u64,
    root: PathBuf,
    text: Text,
    journal: Journal,
    containers: Mutex<Vec<Arc<Container>>>,
    writers_end: AtomicBool,
    kubelet_ends: AtomicBool,
    clock: AtomicU64,
}

impl Node {
    /// Starts a node whose pods log below `root`.
    pub fn start(root: PathBuf, seed: u64) -> io::Result<Node> {
        std::fs::create_dir_all(&root)?;
        let shared = Arc::new(Shared {
            seed,
            root,
            text: Text::new(seed),
            journal: Journal::default(),
            containers: Mutex::default(),
            writers_end: AtomicBool::new(false),
            kubelet_ends: AtomicBool::new(false),
            clock: AtomicU64::new(0),
        });
        let mut writers = Vec::new();
        for (slot, kind) in PODS.into_iter().enumerate() {
            let shared = shared.clone();
            let thread = thread::Builder::new().name(format!("pod {slot}"));
            writers.push(thread.spawn(move || shared.run_pods(slot as u64, kind))?);
        }
        let kubelet = {
            let shared = shared.clone();
            thread::Builder::new().name("kubelet".into()).spawn(move || shared.run_kubelet())?
        };
        Ok(Node { shared, writers, kubelet: Some(kubelet) })
    }

    /// The text of its records.
    fn text(&self) -> &Text {
        &self.shared.text
    }

    /// What was written.
    fn journal(&self) -> &Journal {
        &self.shared.journal
    }

    /// Lets the pods finish what they are saying, then stops kubelet.
    ///
    /// # Errors
    /// Where the simulation itself failed.
    pub fn stop(&mut self) -> io::Result<()> {
        self.shared.writers_end.store(true, Ordering::Relaxed);
        let join = |worker: Worker| worker.join().unwrap_or_else(|_| Err(io::Error::other("a thread of the node panicked")));
        let writers: Vec<_> = self.writers.drain(..).map(join).collect();
        self.shared.kubelet_ends.store(true, Ordering::Relaxed);
        let kubelet = self.kubelet.take().map_or(Ok(()), join);
        writers.into_iter().chain([kubelet]).collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

impl Shared {
    fn writers_end(&self) -> bool {
        self.writers_end.load(Ordering::Relaxed)
    }

    fn run_kubelet(&self) -> io::Result<()> {
        let mut chance = Chance::of(self.seed, 21, 0);
        let mut tick = 0;
        let mut next = Instant::now();
        while !self.kubelet_ends.load(Ordering::Relaxed) {
            next = (next + PERIOD).max(Instant::now());
            thread::sleep(next.duration_since(Instant::now()));
            tick += 10;
            let containers = self.containers.lock().unwrap_or_else(PoisonError::into_inner).clone();
            for container in containers {
                if container.log().bytes >= MAX_LOG_BYTES {
                    rotate::rotate(&container, tick, &mut chance)?;
                }
            }
        }
        Ok(())
    }

    /// The pods of one slot, one after the other.
    fn run_pods(&self, slot: u64, kind: Kind) -> io::Result<()> {
        let mut number = 0;
        while !self.writers_end() {
            self.run_pod(Chance::of(self.seed, 31 + slot, number), slot, number, kind)?;
            number += 1;
        }
        Ok(())
    }

    fn run_pod(&self, mut chance: Chance, slot: u64, number: u64, kind: Kind) -> io::Result<()> {
        let uid = format!("{slot:08x}-0000-4000-a000-{number:012x}");
        let directory = self.root.join(format!("shop_pod-{slot}-{number}_{uid}")).join("main");
        let container = Arc::new(Container::create(directory, &uid, &self.text, &self.journal)?);
        self.journal.book().pods += 1;
        self.containers.lock().unwrap_or_else(PoisonError::into_inner).push(container.clone());
        let begin = Instant::now();
        let life = match kind {
            Kind::Short(_) => Duration::from_millis(300 + chance.below(1_400)),
            _ => Duration::MAX,
        };
        // All containers' times are different, as on a node.
        let clock = self.clock.fetch_add(3_600_000_000_000, Ordering::Relaxed);
        let mut process = Process::new(chance, clock);
        let mut written = 0_usize;
        while !self.writers_end() && begin.elapsed() < life {
            let lines = 1 + process.chance().below(12) as usize;
            written += container.write(&mut process, lines)?;
            self.pace(kind, &mut process, begin, written);
            if matches!(kind, Kind::Crashing(_)) && process.chance().per_mille(15) {
                container.restart(&mut process)?;
            }
        }
        container.finish(&mut process)?;
        if matches!(kind, Kind::Short(_)) && !self.writers_end() {
            self.containers.lock().unwrap_or_else(PoisonError::into_inner).retain(|other| !Arc::ptr_eq(other, &container));
            let age = container.log_age();
            thread::sleep(MIN_LOG_AGE.saturating_sub(age) + Duration::from_millis(process.chance().below(300)));
            container.remove_all()?;
        }
        Ok(())
    }

    /// Waits until it is time for the next lines.
    fn pace(&self, kind: Kind, process: &mut Process, begin: Instant, written: usize) {
        let wait = match kind {
            Kind::Bursts(bytes) => match written as u64 % bytes {
                0..40_000 => Duration::from_millis(100 + process.chance().below(2_500)),
                _ => Duration::from_micros(200),
            },
            Kind::Steady(rate) | Kind::Crashing(rate) | Kind::Short(rate) => {
                // Unevenly, and on the whole at the rate.
                let due = Duration::from_secs_f64(written as f64 / rate as f64).saturating_sub(begin.elapsed());
                due.min(Duration::from_millis(process.chance().below(400)))
            }
        };
        thread::sleep(wait);
    }
}
