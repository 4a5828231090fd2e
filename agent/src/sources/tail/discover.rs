//! What there is to read: found by a source's own rules, handed to the tailing.

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use skidder_pipeline::shared::Shared;

use crate::metadata::Hold;

use super::super::framing::Format;
use super::super::identity::{ContainerRun, Facts};
use super::nanos;
use super::open::Refusal;
use super::watch::Watch;

/// What a source's own rules find.
pub(crate) trait Discover: Send {
    /// Another with the same rules, that has found nothing yet.
    fn fork(&self) -> Box<dyn Discover>;

    /// Lists all units, or, where `changed` names directories, those that may be affected; notes in `listing` what it finds.
    /// What it lists it watches first.
    fn scan(&mut self, changed: Option<&HashSet<Arc<Path>>>, watch: &mut Watch, listing: &mut Listing);

    /// Goes on with a scan that listed a part of what there is ([`Listing::more`]).
    fn scan_more(&mut self, watch: &mut Watch, listing: &mut Listing) {
        let _ = (watch, listing);
    }

    /// Opens a file that a scan found.
    fn open(&self, entry: &Entry) -> Result<(File, Facts), Refusal>;

    /// Says that a file of `unit` could not be opened, so that the next scan must list it whatever its state.
    fn look_again(&mut self, unit: &Path) {
        let _ = unit;
    }
}

/// Says where the records of logs come from.
pub(crate) trait Describe: Send + Sync {
    /// Of the file met at a path, in its place. Asked when there is something to read, again after a pause (so that a log that
    /// nobody writes costs next to nothing), and when what is known of its pod changed.
    fn describe(&self, path: &Path, place: &Place) -> Origin;

    /// The namespace and the name of the pod that a unit's logs are of.
    fn pod_of<'a>(&self, unit: &'a Path) -> Option<(&'a str, &'a str)> {
        let _ = unit;
        None
    }

    /// A hold on what is known of the pod that a unit's logs are of, for as long as they are read.
    fn hold(&self, unit: &Path) -> Option<Hold> {
        let _ = unit;
        None
    }
}

impl<F: Fn(&Path, &Place) -> Origin + Send + Sync> Describe for F {
    fn describe(&self, path: &Path, place: &Place) -> Origin {
        self(path, place)
    }
}

/// A log's path: that of its unit, and what is below it. The texts of both are shared: there are thousands of `0.log`.
#[derive(Clone, Debug)]
pub(crate) struct LogPath {
    unit: Arc<Path>,
    below: Option<Arc<Path>>,
}

impl LogPath {
    /// `last` is what is below the unit of the log before.
    pub(crate) fn new(unit: &Arc<Path>, path: &Path, last: &mut Option<Arc<Path>>) -> LogPath {
        let Ok(below) = path.strip_prefix(unit) else { return LogPath { unit: path.into(), below: None } };
        if below.as_os_str().is_empty() {
            return LogPath { unit: unit.clone(), below: None };
        }
        if last.as_deref() != Some(below) {
            *last = Some(below.into());
        }
        LogPath { unit: unit.clone(), below: last.clone() }
    }

    pub(crate) fn unit(&self) -> &Path {
        &self.unit
    }

    pub(crate) fn to_path(&self) -> PathBuf {
        self.below.as_ref().map_or_else(|| self.unit.to_path_buf(), |below| self.unit.join(below))
    }
}

/// Where a file's records come from.
pub(crate) struct Origin {
    /// The fields that they share.
    pub shared: Arc<Shared>,
    /// The container's run that wrote it, where that is known.
    pub run: Option<ContainerRun>,
}

/// What a scan found.
#[derive(Default, Debug)]
pub(crate) struct Listing {
    /// The units that were looked at, with their files, oldest first.
    pub units: Vec<(Arc<Path>, Vec<Entry>)>,
    /// Units that are there no more.
    pub gone: Vec<Arc<Path>>,
    /// The devices of what was met, where that is of interest.
    pub devices: Vec<u64>,
    /// Whether there is more to list, so that reading can begin meanwhile.
    pub more: bool,
    /// Paths that are not read, with why, to be reported once each.
    pub refused: Vec<(PathBuf, Refusal)>,
}

/// One file of a unit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    pub path: PathBuf,
    /// Where it lies, relative to the other root that `path` is a link into.
    pub target: Option<PathBuf>,
    /// How its lines are framed, where the place where it lies says so.
    pub format: Option<Format>,
    pub place: Place,
    pub dev: u64,
    pub ino: u64,
    pub size: u64,
    /// When it was last written, in nanoseconds since 1970.
    pub modified: i64,
    /// Whether it is the compressed form of the log.
    pub compressed: bool,
}

impl Entry {
    /// The entry of a file that a listing found.
    pub(crate) fn new(path: PathBuf, place: Place, metadata: &std::fs::Metadata) -> Entry {
        let modified = nanos(metadata.mtime(), metadata.mtime_nsec());
        let (dev, ino, size) = (metadata.dev(), metadata.ino(), metadata.size());
        Entry { path, target: None, format: None, place, dev, ino, size, modified, compressed: false }
    }
}

/// Where a generation stands in its chain: by restart, then rotated ones by the time in their name, the live one last.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Place {
    pub restart: u32,
    pub age: Age,
}

/// Whether a log has been rotated away.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Age {
    /// Rotated, with the suffix that tells when.
    Rotated(Box<str>),
    /// Being written.
    Live,
}
