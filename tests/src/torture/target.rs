//! What the rig ships to. A new store is one more of these.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::ValueEnum;

use crate::chance::Chance;
use crate::site::{Site, files_below};
use crate::store::clickhouse::ClickHouse;
use crate::store::loki::Loki;
use crate::store::otlp::Otlp;
use crate::store::{Fault, Faults, Holds, Keep, Running, Store, Tally, for_each_line};

/// A place that records arrive at.
pub trait Target: Send + Sync {
    /// Its name in the configuration and in the figures.
    fn name(&self) -> &'static str;

    /// The sink's table: everything but `inputs` and the size of the buffer.
    fn config(&self) -> String;

    /// How many records have arrived, each counted once; `None` where that is known at the end alone.
    fn arrived(&self) -> Option<u64>;

    /// How much has arrived: a number that grows.
    fn moved(&self) -> u64 {
        self.arrived().unwrap_or(0)
    }

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

    /// Records that came again and that it did not take a second time.
    fn ignored(&self) -> u64 {
        0
    }

    /// Records that it has a second time since it cannot tell; `None` where it can, and twice is wrong.
    fn again(&self) -> Option<u64> {
        None
    }
}

/// The targets that there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Kind {
    /// Knows each record by its id.
    Elasticsearch,
    /// Knows each insert by its token, within a window.
    #[value(name = "clickhouse")]
    ClickHouse,
    /// Knows what is in the head block of a stream.
    Loki,
    /// Knows nothing.
    Otlp,
    /// A file has its journal.
    File,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 5] = [Kind::Elasticsearch, Kind::ClickHouse, Kind::Loki, Kind::Otlp, Kind::File];

    /// Starts one; the files are in `site`.
    pub(super) fn start(self, site: &Site) -> Result<Box<dyn Target>, String> {
        let failed = |error: std::io::Error| error.to_string();
        Ok(match self {
            Kind::Elasticsearch => Box::new(Elasticsearch { store: Store::start(Keep::Spool).map_err(failed)? }),
            Kind::ClickHouse => Box::new(Remote { kind: self, store: ClickHouse::start().map_err(failed)? }),
            Kind::Loki => Box::new(Remote { kind: self, store: Loki::start().map_err(failed)? }),
            Kind::Otlp => Box::new(Remote { kind: self, store: Otlp::start().map_err(failed)? }),
            Kind::File => Box::new(Files { directory: site.path("out") }),
        })
    }
}

/// How every target over the network is spoken to: small bodies, short waits.
const COMMON: &str = "batch.max_bytes = 262144
batch.timeout_secs = 0.05
request.timeout_secs = 1
request.retry_initial_backoff_ms = 10
request.retry_max_duration_secs = 1
buffer.type = \"disk\"
";

/// What all of them do wrong, each with its share of 1000 requests.
const BY_CHANCE: [(u32, Fault); 8] = [
    (30, Fault::TooMany { retry_after_s: Some(1) }),
    (30, Fault::TooMany { retry_after_s: None }),
    (50, Fault::Unavailable),
    (50, Fault::CloseAfter),
    (20, Fault::CloseBefore),
    (30, Fault::HalfRead),
    (30, Fault::TruncatedAnswer),
    (10, Fault::Stall(Duration::from_secs(3))),
];

/// The same, with requests that are found too large by chance.
fn with_too_large(seed: u64) -> Faults {
    let by_chance = BY_CHANCE.into_iter().chain([(10, Fault::TooLarge)]).collect();
    Faults { by_chance, seed, ..Faults::default() }
}

/// Elasticsearch: refuses a second document with an id.
struct Elasticsearch {
    store: Store,
}

impl Target for Elasticsearch {
    fn name(&self) -> &'static str {
        "elasticsearch"
    }

    fn config(&self) -> String {
        format!("type = \"elasticsearch\"\nendpoints = [\"{}\"]\nmode = \"bulk\"\nindex = \"logs\"\n{COMMON}", self.store.url())
    }

    fn arrived(&self) -> Option<u64> {
        Some(self.store.counts().stored)
    }

    fn misbehave(&self, seed: Option<u64>) {
        let faults = seed.map(|seed| Faults { busy_per_mille: 1, ..with_too_large(seed) });
        self.store.set_faults(faults.unwrap_or_default());
    }

    fn set_down(&self, down: bool) {
        self.store.set_down(down);
    }

    fn records(&self, each: &mut dyn FnMut(&[u8])) -> Result<(), String> {
        self.store.each_document(each).map_err(|error| error.to_string())
    }

    fn ignored(&self) -> u64 {
        self.store.counts().repeats
    }

    fn complaints(&self) -> Option<String> {
        let counts = self.store.counts();
        // A repeat is recognised by its id; had it another text, the id would not be that record's alone.
        (counts.changed + counts.refused > 0).then(|| format!("{} changed, {} refused", counts.changed, counts.refused))
    }
}

/// A store that counts records.
struct Remote<B> {
    kind: Kind,
    store: Running<B>,
}

impl<B: Holds> Target for Remote<B> {
    fn name(&self) -> &'static str {
        match self.kind {
            Kind::ClickHouse => "clickhouse",
            Kind::Loki => "loki",
            Kind::Otlp => "otlp",
            Kind::Elasticsearch | Kind::File => "other",
        }
    }

    fn config(&self) -> String {
        let url = self.store.url();
        let own = match self.kind {
            Kind::ClickHouse => {
                format!("endpoints = [\"{url}\"]\ntable = \"logs\"\ncompression = \"gzip\"\n")
            }
            Kind::Loki => format!("endpoint = \"{url}\"\nline = \"json\"\n"),
            _ => format!("endpoint = \"{url}\"\n"),
        };
        format!("type = \"{}\"\n{own}{COMMON}", self.name())
    }

    fn arrived(&self) -> Option<u64> {
        Some(self.store.tally().stored)
    }

    fn misbehave(&self, seed: Option<u64>) {
        /// What a body may have over the wire: less than the largest have.
        const MAX_WIRE_BYTES: usize = 48 << 10;
        let faults = seed.map(|seed| match self.kind {
            Kind::ClickHouse => Faults { by_chance: BY_CHANCE.to_vec(), max_wire_bytes: MAX_WIRE_BYTES, seed, ..Faults::default() },
            _ => with_too_large(seed),
        });
        self.store.set_faults(faults.unwrap_or_default());
    }

    fn set_down(&self, down: bool) {
        self.store.set_down(down);
    }

    fn records(&self, each: &mut dyn FnMut(&[u8])) -> Result<(), String> {
        self.store.each(each).map_err(|error| error.to_string())
    }

    fn complaints(&self) -> Option<String> {
        let Tally { changed, turned_away, .. } = self.store.tally();
        // What comes again comes as it was, or no store could tell.
        (changed + turned_away > 0).then(|| format!("{changed} changed, {turned_away} turned away"))
    }

    fn ignored(&self) -> u64 {
        self.store.tally().refused
    }

    fn again(&self) -> Option<u64> {
        matches!(self.kind, Kind::Loki | Kind::Otlp).then(|| self.store.tally().again)
    }
}

/// Files of the `file` sink, one a pod, a gzip member a frame.
struct Files {
    directory: PathBuf,
}

impl Target for Files {
    fn name(&self) -> &'static str {
        "file"
    }

    fn config(&self) -> String {
        "type = \"file\"\npath = \"out/{{ pod_name }}.jsonl.gz\"\ncompression = \"gzip\"\nbatch.max_bytes = 262144\nbatch.timeout_secs = 0.05\n".to_owned()
    }

    fn arrived(&self) -> Option<u64> {
        None
    }

    fn moved(&self) -> u64 {
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

/// Takes a target down and brings it back, by chance, until it is told to end: its outages are its own.
pub(super) struct Outages {
    chance: Chance,
    down_until: Option<Instant>,
    next: Instant,
}

impl Outages {
    pub(super) fn new(chance: Chance) -> Outages {
        Outages { chance, down_until: None, next: Instant::now() + Duration::from_secs(5) }
    }

    /// To be called often.
    pub(super) fn step(&mut self, target: &dyn Target) {
        let now = Instant::now();
        match self.down_until {
            Some(until) if until <= now => {
                target.set_down(false);
                self.down_until = None;
                self.next = now + Duration::from_millis(2_000 + self.chance.below(20_000));
            }
            None if self.next <= now => {
                target.set_down(true);
                self.down_until = Some(now + Duration::from_millis(200 + self.chance.below(4_000)));
            }
            _ => {}
        }
    }
}
