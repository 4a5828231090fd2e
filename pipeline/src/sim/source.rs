//! Logs in memory, and a source that reads them as a tailing one does: from the low mark of what is held, gaps first.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::batch::Field;
use crate::edge::Nanos;
use crate::position::{FileKey, Range, RangeSet};
use crate::queue::Queue;
use crate::shared::Shared;
use crate::source::{Chunk, Read, SinkSet, Source};
use crate::value::Kind;

/// A record: its file and its number there.
pub type Name = (u32, u32);

/// The files of the node. They outlive the agent, and a power loss.
#[derive(Clone)]
pub struct Logs(Arc<Mutex<Vec<File>>>);

/// A file, as the text of its records one after the other.
#[derive(Default)]
pub struct File {
    texts: Vec<String>,
    /// Where each record begins, and where the next will.
    starts: Vec<u64>,
}

impl Logs {
    /// So many empty files.
    pub fn new(count: u32) -> Logs {
        Logs(Arc::new(Mutex::new((0..count).map(|_| File { texts: Vec::new(), starts: vec![0] }).collect())))
    }

    /// Appends a record that is `padding` bytes longer than its name.
    pub fn append(&self, file: u32, padding: usize) -> Name {
        let mut files = self.lock();
        let log = &mut files[file as usize];
        let number = log.texts.len() as u32;
        let text = format!("{file} {number} {}", "x".repeat(padding));
        log.starts.push(log.starts.last().unwrap() + text.len() as u64 + 1);
        log.texts.push(text);
        (file, number)
    }

    /// Every record there is.
    pub fn names(&self) -> Vec<Name> {
        self.lock().iter().enumerate().flat_map(|(file, log)| (0..log.texts.len() as u32).map(move |n| (file as u32, n))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<File>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The name of the record whose text this is.
pub fn name_of(text: &[u8]) -> Name {
    let mut words = std::str::from_utf8(text).unwrap().split(' ');
    let mut number = || words.next().unwrap().parse().unwrap();
    (number(), number())
}

/// Whether the pipeline filters this record out.
pub fn is_filtered(name: Name) -> bool {
    name.1 % 11 == 3
}

/// A reader of all files.
pub struct Tail {
    logs: Logs,
    queues: Vec<Arc<Queue>>,
    sinks: SinkSet,
    /// For each file, which record comes next, and what each sink held of it at the start.
    files: Vec<(usize, Vec<RangeSet>)>,
    turn: usize,
    chunk_records: usize,
}

impl Tail {
    /// A reader for `sinks` that takes up where their queues are.
    pub fn new(logs: &Logs, queues: &[Arc<Queue>], sinks: SinkSet, chunk_records: usize) -> Tail {
        let held = |file| queues.iter().map(|queue| queue.held(&key(file)).unwrap_or_default()).collect();
        let files = (0..logs.lock().len()).map(|file| (0, held(file))).collect();
        Tail { logs: logs.clone(), queues: queues.to_vec(), sinks, files, turn: 0, chunk_records }
    }
}

/// The key of file number `file`.
fn key(file: usize) -> FileKey {
    FileKey([file as u8 + 1; 16])
}

impl Source for Tail {
    fn read(&mut self, chunk: &mut Chunk, now: Nanos) -> Read {
        let (logs, sinks) = (self.logs.lock(), self.sinks);
        for _ in 0..self.files.len() {
            self.turn = (self.turn + 1) % self.files.len();
            let (next, held) = &mut self.files[self.turn];
            let log = &logs[self.turn];
            let needs = |record: usize| {
                let holds = |set: &RangeSet| set.contains(log.starts[record]);
                let holders = held.iter().enumerate().filter(|(_, set)| holds(set)).map(|(sink, _)| SinkSet::only(sink));
                sinks.without(holders.fold(SinkSet::default(), SinkSet::or))
            };
            while *next < log.texts.len() && needs(*next).is_empty() {
                *next += 1;
            }
            if *next == log.texts.len() {
                continue;
            }
            let (first, for_sinks) = (*next, needs(*next));
            chunk.batch.reset(Shared::empty(), key(self.turn));
            chunk.covers.clear();
            chunk.needs = for_sinks;
            let name = chunk.batch.append(b"message");
            while *next < log.texts.len() && *next - first < self.chunk_records && needs(*next) == for_sinks {
                let value = chunk.batch.append(log.texts[*next].as_bytes());
                chunk.batch.push(log.starts[*next], &[Field { key: name, value, kind: Kind::Text }]);
                *next += 1;
            }
            let (start, end) = (log.starts[first], log.starts[*next]);
            chunk.bytes_read = end - start;
            chunk.covers.push(Range { file: key(self.turn), start, end, marker: end });
            return Read::Chunk;
        }
        Read::Idle { until: now }
    }

    fn fork(&self, sinks: SinkSet) -> Option<Box<dyn Source>> {
        Some(Box::new(Tail::new(&self.logs, &self.queues, sinks, self.chunk_records)))
    }

    fn restrict(&mut self, sinks: SinkSet) {
        self.sinks = sinks;
    }

    fn stop(&mut self) {}
}
