//! Finding the logs below the root: pods, their containers, and the logs of these.
//!
//! A look at all of it is the ground truth and comes every ten seconds, so what did not change must cost little: of a
//! directory that was listed when it was still, its time of change is asked for and no more.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use globset::GlobSet;
use skidder_pipeline::edge::Clock;
use smallvec::SmallVec;

use super::super::identity::Facts;
use super::super::tail::open::{Owners, Refusal, Root};
use super::super::tail::{Discover, Entry, Listing, Place, Watch, Watched};
use super::docker::DockerRoot;
use super::{LogName, name_of, parse_log, parse_pod};

/// A directory that was changed this shortly before it was listed may change again without its time showing it: file systems
/// stamp with the kernel's tick, some milliseconds; network ones with seconds.
const SETTLE_NANOS: i64 = 2_000_000_000;
/// A directory in which files are renamed while it is listed may be listed without one that was there all the time. So it is
/// listed until it is still, or two listings are alike, or this often.
const MAX_LISTINGS: usize = 6;
const STILL_NANOS: i64 = 100_000_000;
/// A directory of which inotify would tell is asked for its time at every third look at all: that is the truth for what
/// inotify failed to tell, and asking is most of what idle logs cost.
const TURNS: usize = 3;
/// How many pods are looked at before reading gets its turn: some milliseconds.
const PODS_AT_A_TIME: usize = 64;

/// The rules of the source.
pub(super) struct PodLogs {
    place: Below,
    docker: Option<DockerRoot>,
    include: GlobSet,
    exclude: GlobSet,
    /// The state of the root itself.
    state: State,
    /// Whether the root is another directory than the one in which the pods were last seen.
    is_moved: bool,
    /// Those that are there, in the order of their paths.
    pods: Vec<Pod>,
    /// How many of them the scan under way has not come to.
    rest: usize,
    /// Which of them that scan is for: one in [`TURNS`], or all.
    turn: usize,
    all: bool,
}

/// The root, and what is asked about directories below it.
struct Below {
    /// Opened when it is there first.
    root: Option<Root>,
    path: PathBuf,
    owners: Owners,
    clock: Arc<dyn Clock>,
}

/// A directory's time of change and its inode at a listing that cannot have missed anything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct State(i64, u64);

/// No directory has the inode 0.
const UNKNOWN: State = State(0, 0);

/// A pod. Most have one container, and there are thousands.
struct Pod {
    /// Its directory, as long as there is no container whose path says it.
    own: Option<Arc<Path>>,
    state: State,
    containers: SmallVec<[Container; 1]>,
}

#[derive(Clone)]
struct Container {
    dir: Arc<Path>,
    state: State,
}

impl PodLogs {
    pub(super) fn new(
        path: PathBuf,
        owners: Owners,
        docker: Option<DockerRoot>,
        (include, exclude): (GlobSet, GlobSet),
        clock: Arc<dyn Clock>,
    ) -> PodLogs {
        let place = Below { root: None, path, owners, clock };
        PodLogs { place, docker, include, exclude, state: UNKNOWN, is_moved: false, pods: Vec::new(), rest: 0, turn: 0, all: true }
    }

    /// Looks for pods; then, unless only `new` ones matter, begins to go through all.
    fn scan_root(&mut self, new: bool, watch: &mut Watch, listing: &mut Listing) {
        // Removed and made anew, or mounted over.
        if self.place.root.take_if(|root| !root.is_at(&self.place.path)).is_some() {
            (self.state, self.is_moved) = (UNKNOWN, true);
            self.pods.iter_mut().for_each(Pod::look_again);
        }
        if self.place.root.is_none() {
            match Root::open(&self.place.path, self.place.owners.clone()) {
                Ok(root) => self.place.root = Some(root),
                Err(error) => return listing.refused.push((self.place.path.clone(), Refusal::Root(error))),
            }
        }
        let root: Arc<Path> = self.place.path.as_path().into();
        let is_settled = self.state != UNKNOWN && self.place.state_of(&root) == Some(self.state);
        if !is_settled && !self.list_root(&root, new, watch, listing) {
            return;
        }
        if !new {
            (self.rest, self.turn) = (self.pods.len(), (self.turn + 1) % TURNS);
            self.all = watch.take_doubt();
            self.scan_more(watch, listing);
        }
    }

    /// Brings the pods in line with what is there. Says whether that could be found out.
    fn list_root(&mut self, root: &Arc<Path>, new: bool, watch: &mut Watch, listing: &mut Listing) -> bool {
        let before = self.place.state_of(root);
        watch.add(root);
        let entries = match fs::read_dir(root) {
            Ok(entries) => entries,
            Err(error) => {
                refuse(root, error, listing);
                return false;
            }
        };
        // What is known already is not kept: there may be thousands.
        let mut there = vec![false; self.pods.len()];
        let mut found: Vec<Arc<Path>> = Vec::new();
        for entry in entries.flatten().filter(is_directory) {
            let dir = entry.path();
            match self.pod(&dir) {
                Some(index) => there[index] = true,
                None if parse_pod(name_of(&dir)).is_some() => found.push(dir.into()),
                None => {}
            }
        }
        // An empty directory in the place of the root is what a file system that is not mounted leaves.
        self.is_moved &= found.is_empty() && !there.contains(&true);
        let keeps_all = new || self.is_moved;
        for (pod, is_there) in std::mem::take(&mut self.pods).into_iter().zip(there) {
            // Only a look at all takes one that the listing does not have for gone.
            if is_there || keeps_all {
                self.pods.push(pod);
            } else {
                self.left_out(pod, listing);
            }
        }
        if !found.is_empty() {
            self.pods.extend(found.iter().map(|dir| Pod { own: Some(dir.clone()), state: UNKNOWN, containers: SmallVec::new() }));
            self.pods.sort_unstable_by(|a, b| text(a.dir()).cmp(text(b.dir())));
        }
        self.state = if new { UNKNOWN } else { self.place.settled(before) };
        if new {
            for index in found.iter().filter_map(|dir| self.pod(dir)).collect::<Vec<_>>() {
                self.scan_pod(index, watch, listing);
            }
        }
        true
    }

    fn left_out(&mut self, pod: Pod, listing: &mut Listing) {
        if let Some(docker) = &mut self.docker {
            docker.containers.retain(|_, container| container.parent() != Some(pod.dir()));
        }
        listing.gone.extend(pod.containers.into_iter().map(|container| container.dir));
    }

    fn scan_pod(&mut self, index: usize, watch: &mut Watch, listing: &mut Listing) {
        let Some(pod) = self.pods.get_mut(index) else { return };
        let state = self.place.state_of(pod.dir());
        if pod.state == UNKNOWN || state != Some(pod.state) {
            let dir: Arc<Path> = pod.own.clone().unwrap_or_else(|| pod.dir().into());
            let watched = watch.add(&dir);
            if let Some(entries) = self.place.list(&dir, listing) {
                pod.state = self.place.settled(state);
                let mut old = std::mem::take(&mut pod.containers);
                let there = entries.iter().filter(|entry| is_directory(entry)).map(fs::DirEntry::path);
                let containers = there.map(|dir| match old.iter().position(|container| *container.dir == *dir) {
                    Some(at) => old.swap_remove(at),
                    None => Container { dir: dir.into(), state: UNKNOWN },
                });
                pod.containers = containers.collect();
                listing.gone.extend(old.into_iter().map(|container| container.dir));
                pod.be_known_by(dir, (watch, watched));
            }
        }
        let mut containers = std::mem::take(&mut pod.containers);
        for container in &mut containers {
            self.scan_container(container, watch, listing);
        }
        self.pods[index].containers = containers;
    }

    fn scan_container(&mut self, container: &mut Container, watch: &mut Watch, listing: &mut Listing) {
        let mut state = self.place.state_of(&container.dir);
        if container.state != UNKNOWN && state == Some(container.state) {
            return;
        }
        let mut entries: Option<Vec<Entry>> = None;
        for _ in 0..MAX_LISTINGS {
            watch.add(&container.dir);
            let Some(files) = self.place.list(&container.dir, listing) else { return };
            container.state = self.place.settled(state);
            let before = state;
            state = self.place.state_of(&container.dir);
            let Some(found) = self.logs(container, files, watch, listing) else { continue };
            let is_still = before.is_some_and(|State(modified, _)| self.place.age(modified) > STILL_NANOS) && before == state;
            let names = |entries: &[Entry]| entries.iter().map(|entry| (entry.path.clone(), entry.ino)).collect::<Vec<_>>();
            let is_same = entries.as_deref().is_some_and(|before| names(before) == names(&found));
            entries = Some(found);
            if is_same || is_still {
                break;
            }
        }
        match entries {
            Some(entries) => listing.units.push((container.dir.clone(), entries)),
            None => container.state = UNKNOWN,
        }
    }

    /// The logs among the files of a container's directory, oldest first. `None` where one vanished while it was looked at:
    /// it may have another name now.
    fn logs(
        &mut self,
        container: &mut Container,
        files: Vec<fs::DirEntry>,
        watch: &mut Watch,
        listing: &mut Listing,
    ) -> Option<Vec<Entry>> {
        let mut entries: Vec<Entry> = Vec::new();
        for file in files {
            let path = file.path();
            let Some(below) = self.place.below(&path) else { continue };
            if self.exclude.is_match(below) || !(self.include.is_empty() || self.include.is_match(below)) {
                continue;
            }
            let (place, compressed) = match parse_log(name_of(&path)) {
                LogName::Plain(place) => (place, false),
                LogName::Compressed(place) => (place, true),
                LogName::Other => continue,
            };
            match file.metadata() {
                Ok(metadata) if metadata.is_file() => entries.push(Entry { compressed, ..Entry::new(path, place, &metadata) }),
                Ok(metadata) if metadata.is_symlink() => self.follow(container, path, place, &mut entries, (watch, listing)),
                Ok(_) => listing.refused.push((path, Refusal::NotRegular)),
                Err(_) => return None,
            }
        }
        entries.sort_by(|a, b| (&a.place, a.compressed, a.modified).cmp(&(&b.place, b.compressed, b.modified)));
        // For a moment, or where kubelet died in it, both forms of a log are there.
        entries.dedup_by(|later, first| later.compressed && later.place == first.place);
        Some(entries)
    }

    /// Follows a link of docker's: the log that it leads to, and those that docker rotated.
    fn follow(
        &mut self,
        container: &mut Container,
        path: PathBuf,
        place: Place,
        entries: &mut Vec<Entry>,
        (watch, listing): (&mut Watch, &mut Listing),
    ) {
        let Some(below) = self.place.below(&path) else { return };
        let (Some(docker), Some(root)) = (&mut self.docker, &self.place.root) else {
            return listing.refused.push((path, Refusal::Link));
        };
        match docker.resolve(root, below, &self.place.owners) {
            Ok(target) => {
                docker.find(&target, &container.dir, &path, &place, entries, (watch, listing));
                // Rotations of docker's leave no trace in this directory.
                container.state = UNKNOWN;
            }
            Err(Refusal::Gone) => {}
            Err(refusal) => listing.refused.push((path, refusal)),
        }
    }

    /// Scans what a directory that changed may affect.
    fn scan_changed(&mut self, dir: &Path, watch: &mut Watch, listing: &mut Listing) {
        if let Some(container) = self.docker.as_ref().and_then(|docker| docker.containers.get(dir)).cloned() {
            self.scan_changed(&container, watch, listing);
        }
        let Ok(below) = dir.strip_prefix(&self.place.path) else { return };
        if below.as_os_str().is_empty() {
            self.state = UNKNOWN;
            return self.scan_root(true, watch, listing);
        }
        if let Some((pod, at)) = self.container(dir) {
            let mut container = self.pods[pod].containers[at].clone();
            container.state = UNKNOWN;
            self.scan_container(&mut container, watch, listing);
            self.pods[pod].containers[at] = container;
        } else if let Some(pod) = self.pod(dir) {
            self.pods[pod].state = UNKNOWN;
            self.scan_pod(pod, watch, listing);
        }
    }

    fn pod(&self, dir: &Path) -> Option<usize> {
        self.pods.binary_search_by(|pod| text(pod.dir()).cmp(text(dir))).ok()
    }

    fn container(&self, dir: &Path) -> Option<(usize, usize)> {
        let pod = self.pod(dir.parent()?)?;
        Some((pod, self.pods[pod].containers.iter().position(|container| *container.dir == *dir)?))
    }
}

impl Pod {
    fn dir(&self) -> &Path {
        let of_container = || self.containers.first().and_then(|container| container.dir.parent());
        self.own.as_deref().or_else(of_container).unwrap_or(Path::new(""))
    }

    /// Leaves the text of its path to its first container, if it has one.
    fn be_known_by(&mut self, dir: Arc<Path>, (watch, watched): (&mut Watch, Option<Watched>)) {
        self.own = match self.containers.first() {
            Some(container) => {
                if let Some(watched) = watched {
                    watch.know_by(watched, &container.dir);
                }
                None
            }
            None => Some(dir),
        };
    }

    /// Whether it changes only together with the time of one of its directories.
    fn is_settled(&self) -> bool {
        self.state != UNKNOWN && self.containers.iter().all(|container| container.state != UNKNOWN)
    }

    fn look_again(&mut self) {
        self.state = UNKNOWN;
        self.containers.iter_mut().for_each(|container| container.state = UNKNOWN);
    }
}

impl Below {
    /// `path` relative to the root. All paths here are made of the root's own, so their bytes say it.
    fn below<'a>(&self, path: &'a Path) -> Option<&'a Path> {
        let mut below = path.as_os_str().as_bytes().strip_prefix(self.path.as_os_str().as_bytes())?;
        while let [b'/', rest @ ..] = below {
            below = rest;
        }
        Some(Path::new(OsStr::from_bytes(below)))
    }

    /// When a directory last changed, and its inode.
    fn state_of(&self, dir: &Path) -> Option<State> {
        self.root.as_ref()?.state_of(self.below(dir)?).map(|(modified, inode)| State(modified, inode))
    }

    /// The state that a directory has if it has not changed since it was in `state`, if that can be told.
    fn settled(&self, state: Option<State>) -> State {
        state.filter(|State(modified, _)| self.age(*modified) > SETTLE_NANOS).unwrap_or(UNKNOWN)
    }

    fn age(&self, modified: i64) -> i64 {
        self.clock.unix_nanos().saturating_sub(modified)
    }

    /// Lists a directory that is watched already.
    fn list(&self, dir: &Path, listing: &mut Listing) -> Option<Vec<fs::DirEntry>> {
        match fs::read_dir(dir) {
            Ok(entries) => Some(entries.flatten().collect()),
            Err(error) => {
                refuse(dir, error, listing);
                None
            }
        }
    }
}

fn refuse(dir: &Path, error: std::io::Error, listing: &mut Listing) {
    if error.kind() != std::io::ErrorKind::NotFound {
        listing.refused.push((dir.to_path_buf(), Refusal::Io(error)));
    }
}

fn is_directory(entry: &fs::DirEntry) -> bool {
    entry.file_type().is_ok_and(|kind| kind.is_dir())
}

/// What pods are ordered by: to compare paths part by part would cost more.
fn text(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

impl Discover for PodLogs {
    fn fork(&self) -> Box<dyn Discover> {
        let (include, exclude) = (self.include.clone(), self.exclude.clone());
        let docker = self.docker.as_ref().map(DockerRoot::fork);
        let Below { path, owners, clock, .. } = &self.place;
        Box::new(PodLogs::new(path.clone(), owners.clone(), docker, (include, exclude), clock.clone()))
    }

    fn scan(&mut self, changed: Option<&HashSet<Arc<Path>>>, watch: &mut Watch, listing: &mut Listing) {
        match changed {
            Some(changed) => changed.iter().for_each(|dir| self.scan_changed(dir, watch, listing)),
            None => self.scan_root(false, watch, listing),
        }
    }

    fn scan_more(&mut self, watch: &mut Watch, listing: &mut Listing) {
        self.rest = self.rest.min(self.pods.len());
        let end = self.rest.saturating_sub(PODS_AT_A_TIME);
        while self.rest > end {
            self.rest -= 1;
            if self.all || self.rest % TURNS == self.turn || !self.pods[self.rest].is_settled() {
                self.scan_pod(self.rest, watch, listing);
            }
        }
        listing.more = self.rest > 0;
    }

    fn open(&self, entry: &Entry) -> Result<(File, Facts), Refusal> {
        if let Some(target) = &entry.target {
            return self.docker.as_ref().and_then(|docker| docker.root.as_ref()).ok_or(Refusal::Gone)?.open_file(target);
        }
        let root = self.place.root.as_ref().ok_or(Refusal::Gone)?;
        root.open_file(self.place.below(&entry.path).ok_or(Refusal::Link)?)
    }

    fn look_again(&mut self, unit: &Path) {
        if let Some((pod, at)) = self.container(unit) {
            self.pods[pod].containers[at].state = UNKNOWN;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::sources::testing::Still;

    #[test]
    fn directories_that_did_not_change_are_not_listed_again() {
        let dir = tempfile::tempdir().unwrap();
        let container = dir.path().join("ns_pod_uid/app");
        fs::create_dir_all(&container).unwrap();
        fs::write(container.join("0.log"), "x").unwrap();
        let set_time = |path: &Path, second: u64| {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
            File::open(path).unwrap().set_modified(time).unwrap();
        };
        let globs = (GlobSet::empty(), GlobSet::empty());
        let mut pods = PodLogs::new(dir.path().to_owned(), Owners::new(&[]), None, globs, Arc::new(Still));
        let mut watch = Watch::exhausted();
        let mut scan = |pods: &mut PodLogs| {
            let mut listing = Listing::default();
            pods.scan(None, &mut watch, &mut listing);
            (listing.units.len(), listing.gone.len())
        };
        assert_eq!(scan(&mut pods), (1, 0));
        assert_eq!(scan(&mut pods), (1, 0), "changed too lately to be sure");
        set_time(&container, 1_000);
        assert_eq!(scan(&mut pods), (1, 0));
        assert_eq!(scan(&mut pods), (0, 0), "settled");
        set_time(&container, 2_000);
        assert_eq!(scan(&mut pods), (1, 0), "changed");
        assert_eq!(scan(&mut pods), (0, 0));
        pods.look_again(&container);
        assert_eq!(scan(&mut pods), (1, 0), "asked for");
        fs::create_dir(dir.path().join("ns_pod_uid/other")).unwrap();
        fs::remove_dir_all(&container).unwrap();
        assert_eq!(scan(&mut pods), (1, 1));
        set_time(dir.path(), 1_000);
        assert_eq!(scan(&mut pods), (1, 0));
        fs::remove_dir_all(dir.path().join("ns_pod_uid")).unwrap();
        assert_eq!(scan(&mut pods), (0, 1));
        assert!(pods.pods.is_empty());
    }

    #[test]
    fn pods_come_and_go_in_any_order() {
        let dir = tempfile::tempdir().unwrap();
        let make = |number: u32| {
            let container = dir.path().join(format!("ns_pod-{number}_uid/app"));
            fs::create_dir_all(&container).unwrap();
            fs::write(container.join("0.log"), "x").unwrap();
        };
        let globs = (GlobSet::empty(), GlobSet::empty());
        let mut pods = PodLogs::new(dir.path().to_owned(), Owners::new(&[]), None, globs, Arc::new(Still));
        let mut watch = Watch::exhausted();
        let root = HashSet::from([Arc::from(dir.path())]);
        [5, 1, 9].into_iter().for_each(make);
        let mut listing = Listing::default();
        pods.scan(None, &mut watch, &mut listing);
        assert_eq!(listing.units.len(), 3);
        [0, 4, 7, 99].into_iter().for_each(make);
        fs::remove_dir_all(dir.path().join("ns_pod-5_uid")).unwrap();
        let mut listing = Listing::default();
        pods.scan(Some(&root), &mut watch, &mut listing);
        assert_eq!((listing.units.len(), listing.gone.len(), pods.pods.len()), (4, 0, 7), "the new ones, and none is taken for gone");
        let mut listing = Listing::default();
        pods.scan(None, &mut watch, &mut listing);
        assert_eq!((listing.units.len(), listing.gone.len(), pods.pods.len()), (6, 1, 6));
        assert!(pods.pods.is_sorted_by(|a, b| a.dir() < b.dir()));
    }

    #[test]
    fn a_directory_that_is_watched_is_asked_in_turn() {
        let dir = tempfile::tempdir().unwrap();
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        for pod in 0..TURNS * 2 {
            let container = dir.path().join(format!("ns_pod-{pod}_uid/app"));
            fs::create_dir_all(&container).unwrap();
            fs::write(container.join("0.log"), "x").unwrap();
            for dir in [&*container, container.parent().unwrap()] {
                File::open(dir).unwrap().set_modified(time).unwrap();
            }
        }
        let globs = (GlobSet::empty(), GlobSet::empty());
        let mut pods = PodLogs::new(dir.path().to_owned(), Owners::new(&[]), None, globs, Arc::new(Still));
        let mut watch = Watch::new();
        let mut scan = |pods: &mut PodLogs| {
            let mut listing = Listing::default();
            pods.scan(None, &mut watch, &mut listing);
            listing.units.len()
        };
        assert_eq!(scan(&mut pods), TURNS * 2);
        assert_eq!(scan(&mut pods), 0, "settled");
        // As if inotify had told of none of it.
        for pod in 0..TURNS * 2 {
            let container = dir.path().join(format!("ns_pod-{pod}_uid/app"));
            File::open(container).unwrap().set_modified(time + Duration::from_secs(1)).unwrap();
        }
        assert_eq!([(); TURNS].map(|()| scan(&mut pods)), [2; TURNS], "all after as many looks as there are turns");
    }
}
