//! A container as its runtime sees it: two outputs, written to one log in the CRI format.
//!
//! A line is the time, the output, `P` for a record that goes on in the output's next line or `F` for its end, and the text,
//! with one blank between each. containerd and CRI-O cut a record after 16 KiB, at any byte. A line is written at once, or, now
//! and then, in two halves: the log is never changed within a line, but may be within a record.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::journal::{Entry, Journal};
use super::text::{HEAD_BYTES, Text};
use crate::chance::Chance;

/// Where a runtime cuts a record.
pub const PART_BYTES: usize = 16 * 1024;
/// What stands before a line's text.
const LINE_HEAD_BYTES: usize = "2026-09-10T00:00:00.000000000Z stdout F ".len();
const OUTPUTS: [&str; 2] = ["stdout", "stderr"];

/// One container and its log directory.
pub struct Container {
    pub directory: PathBuf,
    pub journal: Journal,
    /// Held by who changes the directory: kubelet and the runtime agree on each step.
    pub turn: Mutex<()>,
    text: Text,
    streams: [u32; 2],
    log: Mutex<Log>,
}

/// The log directory: what kubelet and the runtime share.
pub struct Log {
    /// The file that the runtime writes to.
    file: File,
    generation: usize,
    pub restart: u32,
    pub bytes: u64,
    /// Which generation each name in the directory leads to.
    pub names: BTreeMap<String, usize>,
}

/// What a container's process says next, one record of each output under way.
pub struct Process {
    chance: Chance,
    seq: [u32; 2],
    under_way: [Option<Record>; 2],
    /// Nanoseconds of an imagined clock.
    clock: u64,
}

/// A record under way.
struct Record {
    text: Vec<u8>,
    written: usize,
    first: Option<usize>,
}

impl Container {
    /// A container whose log directory is made, with an empty log in it.
    pub fn create(directory: PathBuf, pod_uid: &str, text: &Text, journal: &Journal) -> io::Result<Container> {
        fs::create_dir_all(&directory)?;
        let streams = OUTPUTS.map(|output| journal.stream(pod_uid, output));
        let (file, generation) = open(&directory, 0, journal)?;
        let names = BTreeMap::from([("0.log".to_owned(), generation)]);
        let log = Mutex::new(Log { file, generation, restart: 0, bytes: 0, names });
        Ok(Container { directory, journal: journal.clone(), turn: Mutex::new(()), text: text.clone(), streams, log })
    }

    /// The log, which nobody else touches meanwhile.
    pub fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long the live log has been there.
    pub fn log_age(&self) -> Duration {
        let generation = self.log().generation;
        self.journal.book().generations[generation].born.elapsed()
    }

    /// Opens the live log anew, as a runtime does when kubelet asks for it (ReopenContainerLog).
    pub fn reopen(&self) -> io::Result<()> {
        let mut log = self.log();
        let (file, generation) = open(&self.directory, log.restart, &self.journal)?;
        let name = format!("{}.log", log.restart);
        log.names.insert(name, generation);
        (log.file, log.generation, log.bytes) = (file, generation, 0);
        Ok(())
    }

    /// Writes some lines at once, of both outputs in turn; says how many bytes.
    pub fn write(&self, process: &mut Process, lines: usize) -> io::Result<usize> {
        let mut log = self.log();
        let mut out = Vec::new();
        let mut ended = Vec::new();
        process.clock += 1_000 + process.chance.below(50_000_000);
        for _ in 0..lines {
            let output = usize::from(process.chance.per_mille(300));
            self.line(process, output, log.generation, &mut out, &mut ended);
        }
        if process.chance.per_mille(30) {
            // In two halves. The last line is the one that is torn, or one before it.
            let at = 1 + process.chance.below(out.len() as u64 - 1) as usize;
            log.file.write_all(&out[..at])?;
            thread::sleep(Duration::from_micros(process.chance.below(8_000)));
            log.file.write_all(&out[at..])?;
        } else {
            log.file.write_all(&out)?;
        }
        log.bytes += out.len() as u64;
        self.enter(&ended, out.len());
        Ok(out.len())
    }

    /// Writes what completes the records under way.
    pub fn finish(&self, process: &mut Process) -> io::Result<()> {
        for output in 0..OUTPUTS.len() {
            while process.under_way[output].is_some() {
                let mut log = self.log();
                let (mut out, mut ended) = (Vec::new(), Vec::new());
                self.line(process, output, log.generation, &mut out, &mut ended);
                log.file.write_all(&out)?;
                log.bytes += out.len() as u64;
                self.enter(&ended, out.len());
            }
        }
        Ok(())
    }

    /// The container dies, in the midst of a record or even of a line, and is started again with a log of its own. The one
    /// of the run before the last is removed.
    pub fn restart(&self, process: &mut Process) -> io::Result<()> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut log = self.log();
        let generation = log.generation;
        if process.chance.per_mille(400) {
            let (mut out, mut ended) = (Vec::new(), Vec::new());
            self.line(process, 0, generation, &mut out, &mut ended);
            if process.under_way[0].is_none() {
                // Cut within the text, behind what the record begins with.
                let from = LINE_HEAD_BYTES + HEAD_BYTES;
                if out.len() > from {
                    out.truncate(from + process.chance.below((out.len() - from) as u64) as usize);
                    ended.iter_mut().for_each(|(_, _, entry, _)| entry.whole = false);
                }
            }
            log.file.write_all(&out)?;
            self.enter(&ended, out.len());
        }
        let mut given_up = Vec::new();
        for output in 0..OUTPUTS.len() {
            if let Some(record) = process.under_way[output].take() {
                let entry = Entry { first: record.first.unwrap_or(generation), last: generation, whole: false, written: Instant::now() };
                given_up.push((self.streams[output], process.seq[output], entry, Vec::new()));
                process.seq[output] += 1;
            }
        }
        self.enter(&given_up, 0);
        let old = log.restart.checked_sub(1);
        log.restart += 1;
        let (file, generation) = open(&self.directory, log.restart, &self.journal)?;
        let name = format!("{}.log", log.restart);
        log.names.insert(name, generation);
        (log.file, log.generation, log.bytes) = (file, generation, 0);
        if let Some(old) = old {
            let prefix = format!("{old}.log");
            let names: Vec<String> = log.names.keys().filter(|name| name.starts_with(&prefix)).cloned().collect();
            names.iter().try_for_each(|name| self.remove(&mut log, name))?;
        }
        self.journal.book().restarts += 1;
        Ok(())
    }

    /// Removes a file of the log directory.
    pub fn remove(&self, log: &mut Log, name: &str) -> io::Result<()> {
        fs::remove_file(self.directory.join(name))?;
        if let Some(generation) = log.names.remove(name) {
            if log.names.values().any(|other| *other == generation) {
                self.journal.note(generation, format!("{name} removed"));
            } else {
                self.journal.gone(generation);
            }
        }
        Ok(())
    }

    /// Removes the log directory with all that is in it, and the pod's directory above it.
    pub fn remove_all(&self) -> io::Result<()> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut log = self.log();
        let names: Vec<String> = log.names.keys().cloned().collect();
        names.iter().try_for_each(|name| self.remove(&mut log, name))?;
        // What a kubelet that died left behind is in no book.
        fs::remove_dir_all(&self.directory)?;
        self.directory.parent().map_or(Ok(()), fs::remove_dir)
    }

    /// Appends the next line of an output, and what it ends.
    fn line(&self, process: &mut Process, output: usize, generation: usize, out: &mut Vec<u8>, ended: &mut Vec<Ended>) {
        let (stream, seq) = (self.streams[output], process.seq[output]);
        let slot = &mut process.under_way[output];
        let record = slot.get_or_insert_with(|| {
            let mut text = Vec::new();
            self.text.message(stream, seq, &mut text);
            Record { text, written: 0, first: None }
        });
        let end = record.text.len().min(record.written + PART_BYTES);
        let last = end == record.text.len();
        // Writing to a vector does not fail.
        let _ = write!(out, "{} {} {} ", Time(process.clock), OUTPUTS[output], if last { 'F' } else { 'P' });
        out.extend_from_slice(&record.text[record.written..end]);
        out.push(b'\n');
        record.written = end;
        let first = *record.first.get_or_insert(generation);
        if last {
            let ends = (PART_BYTES..record.text.len()).step_by(PART_BYTES).map(|at| hash(&String::from_utf8_lossy(&record.text[at..])));
            ended.push((stream, seq, Entry { first, last: generation, whole: true, written: Instant::now() }, ends.collect()));
            *slot = None;
            process.seq[output] += 1;
        }
    }

    fn enter(&self, ended: &[Ended], bytes: usize) {
        let mut book = self.journal.book();
        book.bytes += bytes as u64;
        for (stream, seq, entry, ends) in ended {
            book.ends.extend(ends.iter().map(|end| (*end, (*stream, *seq))));
            let entries = &mut book.streams[*stream as usize].entries;
            debug_assert_eq!(entries.len(), *seq as usize);
            entries.push(*entry);
        }
    }
}

/// A record that ended: its stream, its number, where it lies, and the hashes of its text from each later line on.
type Ended = (u32, u32, Entry, Vec<u64>);

impl Process {
    /// A process that says what belongs to `chance`.
    pub fn new(chance: Chance, clock: u64) -> Process {
        Process { chance, seq: [0; 2], under_way: [None, None], clock }
    }

    /// What it decides by.
    pub fn chance(&mut self) -> &mut Chance {
        &mut self.chance
    }
}

/// The hash that ends of records are known by.
pub fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

fn open(directory: &std::path::Path, restart: u32, journal: &Journal) -> io::Result<(File, usize)> {
    let path = directory.join(format!("{restart}.log"));
    let file = OpenOptions::new().append(true).create_new(true).open(&path)?;
    Ok((file, journal.born(path.display().to_string())))
}

/// A time as the CRI writes it, in nanoseconds since a certain midnight; always of 30 bytes.
struct Time(u64);

impl std::fmt::Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (seconds, nanos) = (self.0 / 1_000_000_000, self.0 % 1_000_000_000);
        let (day, hour) = (10 + seconds / 86_400 % 20, seconds / 3_600 % 24);
        write!(f, "2026-09-{day:02}T{hour:02}:{:02}:{:02}.{nanos:09}Z", seconds / 60 % 60, seconds % 60)
    }
}
