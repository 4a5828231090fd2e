#![allow(clippy::unwrap_used, clippy::expect_used)]

mod cases;
mod files;
mod limits;
mod pods;
mod properties;

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use skidder_pipeline::batch::Batch;
use skidder_pipeline::position::RangeSet;
use skidder_pipeline::source::SinkSet;
use skidder_pipeline::stats::SourceStats;

use super::*;
use crate::sources::testing::{Fake, context, show};
use crate::sources::{Claims, SourceConfig, SourceContext};

/// A record as a test sees it: where it is from, and in short what it says.
pub(super) type Seen = (FileKey, u64, String);

/// One chunk as a test sees it.
#[derive(Clone, Debug)]
pub(super) struct Got {
    pub needs: SinkSet,
    pub covers: Vec<skidder_pipeline::position::Range>,
    pub records: Vec<Seen>,
}

/// A directory, sinks, and a source that is read at times that the test says.
pub(super) struct Rig {
    pub dir: tempfile::TempDir,
    pub name: &'static str,
    pub held: Arc<Fake>,
    pub claims: Arc<Claims>,
    pub stats: Arc<SourceStats>,
    pub now: Nanos,
    pub sinks: SinkSet,
    pub new_sinks: SinkSet,
    pub once: bool,
    pub block_bytes: usize,
    tailer: Option<Tailer>,
    pub ended: bool,
}

impl Rig {
    pub fn new() -> Rig {
        Rig {
            dir: tempfile::tempdir().unwrap(),
            name: "test",
            held: Arc::default(),
            claims: Arc::default(),
            stats: Arc::default(),
            now: Nanos(0).after(Duration::from_secs(3_600)),
            sinks: SinkSet::first(1),
            new_sinks: SinkSet::default(),
            once: false,
            block_bytes: BLOCK_BYTES,
            tailer: None,
            ended: false,
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn append(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        OpenOptions::new().create(true).append(true).open(path).unwrap().write_all(text.as_ref()).unwrap();
    }

    pub fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    pub fn context(&self) -> SourceContext {
        SourceContext {
            name: self.name.into(),
            sinks: self.sinks,
            new_sinks: self.new_sinks,
            held: self.held.clone(),
            claims: self.claims.clone(),
            stats: self.stats.clone(),
            once: self.once,
            ..context(self.dir.path())
        }
    }

    /// Starts the source that `config` describes (with `once` as it stands), ending the one before without a word to it.
    pub fn start(&mut self, config: &str) {
        self.tailer = None;
        self.ended = false;
        let config: SourceConfig = toml::from_str(config).unwrap();
        assert_eq!(config.check(), []);
        let mut tailer = match &config {
            SourceConfig::File(config) => config.tailer(self.context()).unwrap(),
            SourceConfig::KubernetesLogs(config) => config.tailer(self.context()).unwrap(),
            SourceConfig::Journald(_) | SourceConfig::Stdin(_) => panic!("not a tail"),
        };
        tailer.env.block_bytes = self.block_bytes;
        self.tailer = Some(tailer);
    }

    /// Ends the source without a word to it.
    pub fn kill(&mut self) {
        self.tailer = None;
    }

    pub fn stop(&mut self) {
        self.tailer.as_mut().unwrap().stop();
    }

    /// Asks for one chunk.
    pub fn read(&mut self) -> Option<Got> {
        let mut chunk = Chunk { batch: Batch::new(Shared::empty(), FileKey([0; 16])), covers: vec![], needs: self.sinks, bytes_read: 0 };
        loop {
            match self.tailer.as_mut().unwrap().read(&mut chunk, self.now) {
                Read::Chunk => {
                    assert!(!chunk.needs.is_empty());
                    let file = *chunk.batch.file();
                    let texts = show(&chunk.batch);
                    let records = chunk.batch.records().zip(texts).map(|(record, text)| (file, record.offset, text)).collect();
                    return Some(Got { needs: chunk.needs, covers: chunk.covers.clone(), records });
                }
                Read::Idle { until } if until <= self.now => {}
                Read::Idle { .. } => return None,
                Read::End => {
                    self.ended = true;
                    return None;
                }
            }
        }
    }

    /// Reads all there is to read now.
    pub fn drain(&mut self) -> Vec<Got> {
        std::iter::from_fn(|| self.read()).collect()
    }

    /// Lets time pass, reading as a worker would, and commits what was read.
    pub fn pass(&mut self, seconds: u64) -> Vec<String> {
        let mut texts = Vec::new();
        for _ in 0..seconds * 10 + 1 {
            for got in self.drain() {
                self.held.hold(got.needs, &got.covers);
                texts.extend(got.records.into_iter().map(|(_, _, text)| text));
            }
            self.now = self.now.after(Duration::from_millis(100));
        }
        texts
    }

    /// Lets hours pass, with a look at all in each, and commits what was read.
    pub fn pass_hours(&mut self, hours: u64) -> Vec<String> {
        let mut texts = Vec::new();
        for _ in 0..hours {
            self.now = self.now.after(Duration::from_secs(3_600));
            texts.extend(self.pass(1));
        }
        texts
    }

    /// Reads all there is, and commits it.
    pub fn texts(&mut self) -> Vec<String> {
        let mut texts = Vec::new();
        for got in self.drain() {
            self.held.hold(got.needs, &got.covers);
            texts.extend(got.records.into_iter().map(|(_, _, text)| text));
        }
        texts
    }
}

/// Checks that chunks never cover a byte twice, and returns what they cover of each file.
pub(super) fn covered<'a>(chunks: impl Iterator<Item = &'a Got>) -> HashMap<FileKey, RangeSet> {
    let mut sets: HashMap<FileKey, RangeSet> = HashMap::new();
    for range in chunks.flat_map(|chunk| &chunk.covers) {
        let set = sets.entry(range.file).or_default();
        let twice = set.stretches().iter().any(|held| held.start < range.end && range.start < held.end);
        assert!(!twice, "{range:?} was covered before");
        set.insert(range.start, range.end, range.marker);
    }
    sets
}

/// A CRI line.
pub(super) fn cri(stream: &str, tag: &str, message: &str) -> String {
    format!("2026-03-10T15:48:15.217676062Z {stream} {tag} {message}\n")
}

/// The first line of a log, which makes it a generation of its own.
pub(super) fn cri_first(number: u32, message: &str) -> String {
    format!("2026-03-10T15:48:15.{number:09}Z stdout F {message}\n")
}

pub(super) fn canary(dir: &Path) -> PathBuf {
    let path = dir.join("canary");
    fs::write(&path, "2026-03-10T15:48:15.217676062Z stdout F secret\n").unwrap();
    path
}
