//! What the rig ships to. A new store is one more of these.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::chance::Chance;
use crate::site::files_below;
use crate::store::{Fault, Faults, Keep, Store, for_each_line};

/// A place that records arrive at.
pub trait Target: Send + Sync {
    /// Its name in the configuration and in the figures.
    fn name(&self) -> &'static str;

    /// The sink's table: everything but `inputs`.
    fn config(&self) -> String;

    /// How much has arrived: a number that grows.
    fn arrived(&self) -> u64;

    /// Makes it misbehave from now on, or behave well again.
    fn misbehave(&self, seed: Option<u64>);

    /// Takes it away for a while, where that is possible.
    fn set_down(&self, down: bool);

    /// Gives every record that is there, and how it is there.
    fn records(&self, each: &mut dyn FnMut(&[u8])) -> Result<(), String>;

    /// What it found wrong by itself.
    fn complaints(&self) -> Option<String> {
        None
    }
}

/// Elasticsearch: refuses a second document with an id.
pub struct Elasticsearch {
    store: Store,
}

impl Elasticsearch {
    /// A store on a free port.
    ///
    /// # Errors
    /// Where there is none.
    pub fn start() -> Result<Elasticsearch, String> {
        Ok(Elasticsearch { store: Store::start(Keep::Spool).map_err(|error| error.to_string())? })
    }
}

impl Target for Elasticsearch {
    fn name(&self) -> &'static str {
        "elasticsearch"
    }

    fn config(&self) -> String {
        format!(
            r#"type = "elasticsearch"
endpoints = ["{}"]
mode = "bulk"
index = "logs"
batch.max_bytes = 262144
batch.timeout_secs = 0.05
request.timeout_secs = 1
request.retry_initial_backoff_ms = 10
request.retry_max_duration_secs = 1
buffer.type = "disk"
buffer.max_size = 16777216
"#,
            self.store.url()
        )
    }

    fn arrived(&self) -> u64 {
        self.store.counts().stored
    }

    fn misbehave(&self, seed: Option<u64>) {
        let by_chance = vec![
            (30, Fault::TooMany { retry_after_s: Some(1) }),
            (30, Fault::TooMany { retry_after_s: None }),
            (50, Fault::Unavailable),
            (50, Fault::CloseAfter),
            (20, Fault::CloseBefore),
            (30, Fault::HalfRead),
            (30, Fault::TruncatedAnswer),
            (10, Fault::Stall(Duration::from_secs(3))),
            (10, Fault::TooLarge),
        ];
        self.store.set_faults(match seed {
            Some(seed) => Faults { by_chance, busy_per_mille: 1, seed, ..Faults::default() },
            None => Faults::default(),
        });
    }

    fn set_down(&self, down: bool) {
        self.store.set_down(down);
    }

    fn records(&self, each: &mut dyn FnMut(&[u8])) -> Result<(), String> {
        self.store.each_document(each).map_err(|error| error.to_string())
    }

    fn complaints(&self) -> Option<String> {
        let counts = self.store.counts();
        // A repeat is recognised by its id; had it another text, the id would not be that record's alone.
        (counts.changed + counts.refused > 0).then(|| format!("{} changed, {} refused", counts.changed, counts.refused))
    }
}

/// Files of the `file` sink, one a pod, a gzip member a frame.
pub struct Files {
    directory: PathBuf,
}

impl Files {
    /// Files below `directory`.
    pub fn below(directory: PathBuf) -> Files {
        Files { directory }
    }
}

impl Target for Files {
    fn name(&self) -> &'static str {
        "file"
    }

    fn config(&self) -> String {
        "type = \"file\"\npath = \"out/{{ pod_name }}.jsonl.gz\"\ncompression = \"gzip\"\nbatch.max_bytes = 262144\nbatch.timeout_secs = 0.05\n".to_owned()
    }

    fn arrived(&self) -> u64 {
        bytes_in(&self.directory)
    }

    fn misbehave(&self, _seed: Option<u64>) {}

    fn set_down(&self, _down: bool) {}

    fn records(&self, each: &mut dyn FnMut(&[u8])) -> Result<(), String> {
        for path in files_below(&self.directory).map_err(|error| error.to_string())? {
            let text = fs::File::open(&path).map(std::io::BufReader::new).map(flate2::bufread::MultiGzDecoder::new);
            text.and_then(|text| for_each_line(text, &mut *each)).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        Ok(())
    }
}

/// The bytes in the files of a directory.
fn bytes_in(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum()
}

/// Takes targets down and brings them back, by chance, until it is told to end.
pub(super) struct Outages {
    chance: Chance,
    down_until: Option<std::time::Instant>,
    next: std::time::Instant,
}

impl Outages {
    pub(super) fn new(chance: Chance) -> Outages {
        Outages { chance, down_until: None, next: std::time::Instant::now() + Duration::from_secs(5) }
    }

    /// To be called often.
    pub(super) fn step(&mut self, targets: &[Box<dyn Target>]) {
        let now = std::time::Instant::now();
        match self.down_until {
            Some(until) if until <= now => {
                targets.iter().for_each(|target| target.set_down(false));
                self.down_until = None;
                self.next = now + Duration::from_millis(2_000 + self.chance.below(20_000));
            }
            None if self.next <= now => {
                targets.iter().for_each(|target| target.set_down(true));
                self.down_until = Some(now + Duration::from_millis(200 + self.chance.below(4_000)));
            }
            _ => {}
        }
    }
}
