//! The `kubernetes_logs` source: the log directories that kubelet keeps, one for each container of each pod.

mod docker;
mod heeding;

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use globset::GlobSet;
use schemars::JsonSchema;
use serde::Deserialize;
use skidder_pipeline::edge::Clock;
use skidder_pipeline::problem::Problem;
use skidder_pipeline::shared::{Shared, SharedFields};
use skidder_pipeline::source::Source;
use skidder_pipeline::value::{Kind, Value};

use docker::DockerRoot;
use heeding::Heeding;

use crate::metadata::{self, Metadata};

use super::assemble::MaxRecordAction;
use super::file::{glob, glob_set};
use super::framing::Format;
use super::identity::{ContainerRun, Facts};
use super::multiline::MultilineConfig;
use super::overlap::Reach;
use super::tail::open::{Owners, Refusal, Root};
use super::tail::{Age, Describe, Discover, Entry, Listing, Origin, Place, Tailer};
use super::{SourceContext, check_common, default_max_held_bytes, default_max_record_bytes, default_rescan_interval_ms};

/// A directory that was changed this shortly before it was listed may change again without its time showing it: file systems
/// stamp with the kernel's tick, some milliseconds; network ones with seconds.
const SETTLE_NANOS: i64 = 2_000_000_000;
/// A directory in which files are renamed while it is listed may be listed without one that was there all the time. So it is
/// listed until it is still, or two listings are alike, or this often.
const MAX_LISTINGS: usize = 6;
const STILL_NANOS: i64 = 100_000_000;
/// How many pods are looked at before reading gets its turn: some milliseconds.
const PODS_AT_A_TIME: usize = 64;

/// Reads the logs of a node's containers.
///
/// They lie in `<root>/<namespace>_<pod>_<uid>/<container>/<restart>.log`; rotated ones beside them, also those that
/// kubelet has compressed, are read first.
/// Namespace, pod, uid, container and restart count come from the path alone; labels, owner, addresses, images and the node's
/// region from what the table `[kubernetes]` says. Symbolic links, all that is no regular
/// file, files of users that do not write logs, and files with a second name are refused. Fields: `message`, `timestamp`, `stream`, `file`, `source_type` and `kubernetes`, which holds
/// `pod_name`, `pod_namespace`, `pod_uid`, `container_name`, `container_restart_count` and what is known beside these.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KubernetesLogsConfig {
    /// The directory of the pods' logs. A relative path starts at the configuration file's directory.
    #[serde(default = "default_root")]
    pub root: PathBuf,
    /// Where docker keeps its containers' logs, `/var/lib/docker/containers` as a rule. Set it on nodes whose runtime is docker:
    /// there the logs below `root` are symbolic links, and those that lead below this directory are read, in docker's
    /// format, with the ones that docker rotated. Without it, and anywhere else, no link is followed.
    pub docker_root: Option<PathBuf>,
    /// Globs, relative to `root`, of the files to read, such as `payments_*/**`. Without any, all are read.
    #[serde(default)]
    pub include_paths_glob_patterns: Vec<String>,
    /// Globs, relative to `root`, of files not to read. They are not even opened.
    #[serde(default)]
    pub exclude_paths_glob_patterns: Vec<String>,
    /// Whether the agent's own logs are read too, where it runs in a pod.
    #[serde(default)]
    pub include_self: bool,
    /// Users (by number) whose files are read, beside those of root and of the agent's own user. A file of another user, or
    /// one with a second name (a hard link), may have been planted and is refused.
    #[serde(default)]
    pub allowed_owners: Vec<u32>,
    /// How lines are framed.
    #[serde(default = "default_format")]
    pub format: Format,
    /// How lines are joined to records of several lines, such as stack traces. Without it each line is a record.
    pub multiline: Option<MultilineConfig>,
    /// The longest message of a record, in bytes.
    #[serde(default = "default_max_record_bytes")]
    pub max_record_bytes: usize,
    /// What becomes of a longer one.
    #[serde(default)]
    pub max_record_action: MaxRecordAction,
    /// Files that were last written longer ago than this many seconds are not opened, until they are written again. By
    /// default all are.
    pub ignore_older_secs: Option<u64>,
    /// How much is read of each container, in bytes per second, so that a noisy one leaves room to the others. What is beyond it
    /// waits in the file. By default there is no limit.
    pub rate_limit_bytes_per_sec: Option<NonZeroU64>,
    /// How many bytes of deleted logs are kept on the disk, by being held open, until they are read. Beyond it the oldest of the
    /// container that holds most is given up, with a warning, and counted as lost.
    #[serde(default = "default_max_held_bytes")]
    pub max_held_bytes: u64,
    /// The time between full looks for new files, in milliseconds. New files are usually seen at once.
    #[serde(default = "default_rescan_interval_ms")]
    pub rescan_interval_ms: u64,
}

fn default_root() -> PathBuf {
    "/var/log/pods".into()
}

fn default_format() -> Format {
    Format::Cri
}

impl KubernetesLogsConfig {
    pub(super) fn check(&self) -> Vec<Problem> {
        let mut problems = check_common(self.max_record_bytes, self.rescan_interval_ms, self.multiline.as_ref());
        if self.root.as_os_str().is_empty() {
            problems.push(Problem::at("root", "an empty path").help("leave it out for /var/log/pods"));
        }
        if self.docker_root.as_ref().is_some_and(|root| !root.is_absolute()) {
            problems.push(Problem::at("docker_root", "must be an absolute path: docker's links are"));
        }
        let lists = [
            ("include_paths_glob_patterns", &self.include_paths_glob_patterns),
            ("exclude_paths_glob_patterns", &self.exclude_paths_glob_patterns),
        ];
        for (key, patterns) in lists {
            for (index, pattern) in patterns.iter().enumerate() {
                if let Err(error) = glob(pattern) {
                    problems.push(Problem::at(&format!("{key}.{index}"), format!("not a glob: {}", error.kind())));
                }
            }
        }
        problems
    }

    pub(super) fn reach(&self, base_dir: &Path) -> Option<Reach> {
        let root = base_dir.join(&self.root).components().collect::<PathBuf>();
        let base = globset::escape(&root.to_string_lossy());
        let shape = format!("{base}/?*_?*_?*/?*/?.log");
        let globs = match &self.include_paths_glob_patterns[..] {
            [] => vec![vec![shape]],
            some => some.iter().map(|pattern| vec![shape.clone(), format!("{base}/{pattern}")]).collect(),
        };
        let include = glob_set(self.include_paths_glob_patterns.iter().map(String::as_str)).ok()?;
        let exclude = glob_set(self.exclude_paths_glob_patterns.iter().map(String::as_str)).ok()?;
        let reads = move |path: &Path| {
            let Ok(below) = path.strip_prefix(&root) else { return false };
            let names: Vec<&str> = below.iter().filter_map(|name| name.to_str()).collect();
            let [pod, _, log] = names[..] else { return false };
            let is_log = parse_pod(pod).is_some() && matches!(parse_log(log), LogName::Plain(_));
            is_log && (include.is_empty() || include.is_match(below)) && !exclude.is_match(below)
        };
        Some(Reach { globs, reads: Box::new(reads) })
    }

    pub(super) fn build(&self, context: SourceContext) -> anyhow::Result<Box<dyn Source>> {
        let counts = context.metadata.as_ref().map(|metadata| metadata.counts());
        let tailer = Box::new(self.tailer(context)?);
        // Without metadata no pod can ask for anything.
        Ok(match counts {
            Some(counts) => Box::new(Heeding::new(tailer, counts)),
            None => tailer,
        })
    }

    pub(super) fn tailer(&self, context: SourceContext) -> anyhow::Result<Tailer> {
        let own = if self.include_self { None } else { own_logs(|name| std::env::var(name).ok()) };
        let pods = PodLogs {
            root: None,
            root_path: context.base_dir.join(&self.root),
            owners: Owners::new(&self.allowed_owners),
            docker: self.docker_root.clone().map(DockerRoot::new),
            include: glob_set(self.include_paths_glob_patterns.iter().map(String::as_str))?,
            exclude: glob_set(self.exclude_paths_glob_patterns.iter().chain(&own).map(String::as_str))?,
            clock: context.clock.clone(),
            settled: HashMap::new(),
            pods: HashMap::new(),
            rest: Vec::new(),
        };
        let rate = self.rate_limit_bytes_per_sec.map(NonZeroU64::get);
        let settings = super::settings(self.rescan_interval_ms, self.ignore_older_secs, rate, self.max_held_bytes);
        let rules = super::rules(self.max_record_bytes, self.max_record_action, self.multiline.as_ref())?;
        let describer = Arc::new(Describer(context.metadata.clone()));
        let env = context.env(self.format, rules, None, describer);
        Ok(Tailer::new(env, Box::new(pods), settings))
    }
}

/// Finds the logs below the root.
struct PodLogs {
    /// Opened when it is there first.
    root: Option<Root>,
    root_path: PathBuf,
    owners: Owners,
    docker: Option<DockerRoot>,
    include: GlobSet,
    exclude: GlobSet,
    clock: Arc<dyn Clock>,
    /// Directories that cannot have changed since they were listed as long as their time of change is this.
    settled: HashMap<Arc<Path>, (i64, u64)>,
    /// The directories of the containers met, by those of their pods.
    pods: HashMap<Arc<Path>, Vec<Arc<Path>>>,
    /// The pods that the scan under way has not come to.
    rest: Vec<Arc<Path>>,
}

/// What a pod's directory is called by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct PodName<'a> {
    namespace: &'a str,
    pod: &'a str,
    uid: &'a str,
}

/// Takes `<namespace>_<pod>_<uid>` apart; names of Kubernetes hold no `_`.
fn parse_pod(name: &str) -> Option<PodName<'_>> {
    let mut parts = name.split('_');
    let parsed = PodName { namespace: parts.next()?, pod: parts.next()?, uid: parts.next()? };
    let named = !parsed.namespace.is_empty() && !parsed.pod.is_empty() && !parsed.uid.is_empty();
    (named && parts.next().is_none()).then_some(parsed)
}

/// What a file in a container's directory is.
#[derive(Clone, PartialEq, Eq, Debug)]
enum LogName {
    Plain(Place),
    /// A rotated log that kubelet compressed.
    Compressed(Place),
    /// Not a log: kubelet's `.tmp`, or something that is not kubelet's.
    Other,
}

/// Takes `<restart>.log`, `<restart>.log.<YYYYMMDD-HHMMSS>` or the latter with `.gz` apart.
fn parse_log(name: &str) -> LogName {
    let Some((restart, rest)) = name.split_once(".log") else { return LogName::Other };
    let digits = !restart.is_empty() && restart.bytes().all(|b| b.is_ascii_digit());
    let Some(restart) = restart.parse().ok().filter(|_| digits) else { return LogName::Other };
    match rest.strip_prefix('.') {
        None if rest.is_empty() => LogName::Plain(Place { restart, age: Age::Live }),
        Some(time) if is_rotation_time(time) => LogName::Plain(Place { restart, age: Age::Rotated(time.to_owned()) }),
        Some(suffix) => match suffix.strip_suffix(".gz").filter(|time| is_rotation_time(time)) {
            Some(time) => LogName::Compressed(Place { restart, age: Age::Rotated(time.to_owned()) }),
            None => LogName::Other,
        },
        None => LogName::Other,
    }
}

fn is_rotation_time(text: &str) -> bool {
    text.len() == 15 && text.bytes().enumerate().all(|(at, b)| if at == 8 { b == b'-' } else { b.is_ascii_digit() })
}

impl PodLogs {
    fn scan_root(&mut self, new_only: bool, listing: &mut Listing) {
        // Removed and made anew, or mounted over.
        let path = &self.root_path;
        if self.root.take_if(|root| !root.is_at(path)).is_some() {
            self.settled.clear();
        }
        if self.root.is_none() {
            match Root::open(&self.root_path, self.owners.clone()) {
                Ok(root) => self.root = Some(root),
                Err(error) => {
                    return listing.refused.push((self.root_path.clone(), Refusal::Root(error)));
                }
            }
        }
        let root: Arc<Path> = self.root_path.as_path().into();
        let Some(pods) = self.subdirectories(&root, listing) else { return };
        if !new_only {
            let there: HashSet<&Path> = pods.iter().map(AsRef::as_ref).collect();
            for (_, containers) in self.pods.extract_if(|pod, _| !there.contains(&**pod)) {
                listing.gone.extend(containers);
            }
            if let Some(docker) = &mut self.docker {
                docker.containers.retain(|_, container| container.parent().is_some_and(|pod| there.contains(pod)));
            }
            self.settled.retain(|dir, _| *dir == root || dir.ancestors().take(2).any(|above| there.contains(above)));
        }
        if !new_only {
            self.rest = pods;
            return self.scan_more(listing);
        }
        for pod in &pods {
            if !self.pods.contains_key(pod) {
                self.scan_pod(pod, listing);
            }
        }
    }

    fn scan_pod(&mut self, pod: &Arc<Path>, listing: &mut Listing) {
        if parse_pod(name_of(pod)).is_none() {
            return;
        }
        let mut containers = self.pods.get(pod).cloned().unwrap_or_default();
        if !self.is_settled(pod)
            && let Some(listed) = self.subdirectories(pod, listing)
        {
            containers.retain(|container| !listed.contains(container));
            for gone in &containers {
                self.settled.remove(gone);
            }
            listing.gone.append(&mut containers);
            self.pods.insert(pod.clone(), listed.clone());
            containers = listed;
        }
        for container in containers {
            self.scan_container(&container, listing);
        }
    }

    fn scan_container(&mut self, container: &Arc<Path>, listing: &mut Listing) {
        if self.is_settled(container) {
            return;
        }
        let mut entries: Option<Vec<Entry>> = None;
        for _ in 0..MAX_LISTINGS {
            let state = self.state_of(container);
            let Some(files) = self.list(container, listing) else { return };
            let Some(found) = self.logs(container, files, listing) else { continue };
            let still = state.is_some_and(|(modified, _)| self.clock.unix_nanos().saturating_sub(modified) > STILL_NANOS);
            let names = |entries: &[Entry]| entries.iter().map(|entry| (entry.path.clone(), entry.ino)).collect::<Vec<_>>();
            let same = entries.as_deref().is_some_and(|before| names(before) == names(&found));
            entries = Some(found);
            if same || still && state == self.state_of(container) {
                break;
            }
        }
        match entries {
            Some(entries) => listing.units.push((container.clone(), entries)),
            None => _ = self.settled.remove(container),
        }
    }

    /// The logs among the files of a container's directory, oldest first. `None` where one vanished while it was looked at:
    /// it may have another name now.
    fn logs(&mut self, container: &Arc<Path>, files: Vec<fs::DirEntry>, listing: &mut Listing) -> Option<Vec<Entry>> {
        let mut entries: Vec<Entry> = Vec::new();
        for file in files {
            let path = file.path();
            let Ok(below) = path.strip_prefix(&self.root_path) else { continue };
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
                Ok(metadata) if metadata.is_symlink() => self.follow(container, path, place, &mut entries, listing),
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
    fn follow(&mut self, container: &Arc<Path>, path: PathBuf, place: Place, entries: &mut Vec<Entry>, listing: &mut Listing) {
        let (Some(docker), Some(root)) = (&mut self.docker, &self.root) else { return listing.refused.push((path, Refusal::Link)) };
        let Ok(below) = path.strip_prefix(&self.root_path) else { return };
        match docker.resolve(root, below, &self.owners) {
            Ok(target) => {
                docker.find(&target, container, &path, &place, entries, listing);
                // Rotations of docker's leave no trace in this directory.
                self.settled.remove(container);
            }
            Err(Refusal::Gone) => {}
            Err(refusal) => listing.refused.push((path, refusal)),
        }
    }

    /// Lists a directory and remembers its state of before.
    fn list(&mut self, dir: &Arc<Path>, listing: &mut Listing) -> Option<Vec<fs::DirEntry>> {
        let state = self.state_of(dir);
        let now = self.clock.unix_nanos();
        match fs::read_dir(dir) {
            Ok(entries) => {
                if let Some((modified, inode)) = state.filter(|(modified, _)| now.saturating_sub(*modified) > SETTLE_NANOS) {
                    self.settled.insert(dir.clone(), (modified, inode));
                }
                listing.dirs.push(dir.clone());
                Some(entries.flatten().collect())
            }
            Err(error) => {
                if error.kind() != std::io::ErrorKind::NotFound {
                    listing.refused.push((dir.to_path_buf(), Refusal::Io(error)));
                }
                None
            }
        }
    }

    fn subdirectories(&mut self, dir: &Arc<Path>, listing: &mut Listing) -> Option<Vec<Arc<Path>>> {
        let entries = self.list(dir, listing)?;
        let is_dir = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
        Some(entries.iter().filter(|entry| is_dir(entry)).map(|entry| entry.path().into()).collect())
    }

    fn is_settled(&self, dir: &Path) -> bool {
        self.settled.get(dir).is_some_and(|known| self.state_of(dir) == Some(*known))
    }

    /// When a directory last changed, and its inode.
    fn state_of(&self, dir: &Path) -> Option<(i64, u64)> {
        self.root.as_ref()?.state_of(dir.strip_prefix(&self.root_path).ok()?)
    }
}

/// The last part of a path; empty where it is no UTF-8, which no name of Kubernetes is.
fn name_of(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or("")
}

/// Says what the path of a log, and what is known of its pod, say of its records.
struct Describer(Option<Arc<Metadata>>);

impl Describe for Describer {
    fn describe(&self, path: &Path, place: &Place) -> Origin {
        let container_dir = path.parent().unwrap_or(Path::new(""));
        let origin = origin_of(container_dir, place.restart);
        let object = self.0.as_ref().map_or_else(|| metadata::from_path(&origin), |metadata| metadata.kubernetes(&origin));
        // The name that the log had when it was written, which is the same before and after its rotation.
        let live = container_dir.join(format!("{}.log", place.restart));
        let mut fields = SharedFields::default();
        fields.set(b"source_type", Value::text(b"kubernetes_logs"));
        fields.set(b"file", Value::text(live.to_string_lossy().as_bytes()));
        fields.set(b"kubernetes", Value { kind: Kind::Object, raw: &object });
        let run = ContainerRun { pod_uid: origin.uid.to_owned(), container: origin.container.to_owned(), restart: place.restart };
        Origin { shared: Shared::new(fields), run: Some(run) }
    }

    fn hold(&self, unit: &Path) -> Option<metadata::Hold> {
        Some(self.0.as_ref()?.hold(&origin_of(unit, 0)))
    }
}

/// Who writes the logs in a container's directory.
fn origin_of(container_dir: &Path, restart: u32) -> metadata::Origin<'_> {
    let pod_name = container_dir.parent().map_or("", name_of);
    let pod = parse_pod(pod_name).unwrap_or(PodName { namespace: "", pod: pod_name, uid: "" });
    metadata::Origin { namespace: pod.namespace, pod: pod.pod, uid: pod.uid, container: name_of(container_dir), restart }
}

/// A glob of the logs of this agent's own pod and of those that its DaemonSet had on this node before, by what the chart puts
/// into the environment. An agent that reads what it says of its reading would never come to an end.
fn own_logs(variable: impl Fn(&str) -> Option<String>) -> Option<String> {
    let (namespace, pod) = (variable("SKIDDER_SELF_POD_NAMESPACE")?, variable("SKIDDER_SELF_POD_NAME")?);
    let known = parse_pod(&format!("{namespace}_{pod}_x")).is_some();
    // `<daemonset>-<five letters>`
    let base = pod.rsplit_once('-').filter(|(base, suffix)| suffix.len() == 5 && !base.is_empty());
    let pod = base.map_or_else(|| globset::escape(&pod), |(base, _)| format!("{}-?????", globset::escape(base)));
    known.then(|| format!("{}_{pod}_*/**", globset::escape(&namespace)))
}

impl Discover for PodLogs {
    fn fork(&self) -> Box<dyn Discover> {
        Box::new(PodLogs {
            root: None,
            root_path: self.root_path.clone(),
            owners: self.owners.clone(),
            docker: self.docker.as_ref().map(DockerRoot::fork),
            include: self.include.clone(),
            exclude: self.exclude.clone(),
            clock: self.clock.clone(),
            settled: HashMap::new(),
            pods: HashMap::new(),
            rest: Vec::new(),
        })
    }

    fn scan(&mut self, changed: Option<&HashSet<Arc<Path>>>, listing: &mut Listing) {
        let Some(changed) = changed else {
            return self.scan_root(false, listing);
        };
        for dir in changed {
            self.settled.remove(dir);
            if let Some(container) = self.docker.as_ref().and_then(|docker| docker.containers.get(dir)).cloned() {
                self.scan_container(&container, listing);
            }
            let Ok(below) = dir.strip_prefix(&self.root_path) else { continue };
            match below.components().count() {
                0 => self.scan_root(true, listing),
                1 => self.scan_pod(dir, listing),
                _ => self.scan_container(dir, listing),
            }
        }
    }

    fn scan_more(&mut self, listing: &mut Listing) {
        for _ in 0..PODS_AT_A_TIME {
            let Some(pod) = self.rest.pop() else { break };
            self.scan_pod(&pod, listing);
        }
        listing.more = !self.rest.is_empty();
    }

    fn open(&self, entry: &Entry) -> Result<(File, Facts), Refusal> {
        if let Some(target) = &entry.target {
            return self.docker.as_ref().and_then(|docker| docker.root.as_ref()).ok_or(Refusal::Gone)?.open_file(target);
        }
        let root = self.root.as_ref().ok_or(Refusal::Gone)?;
        root.open_file(entry.path.strip_prefix(&self.root_path).map_err(|_| Refusal::Link)?)
    }

    fn look_again(&mut self, unit: &Path) {
        self.settled.remove(unit);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use crate::sources::testing::Still;
    use std::time::{Duration, SystemTime};

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
        let mut pods = PodLogs {
            root: None,
            root_path: dir.path().to_owned(),
            owners: Owners::new(&[]),
            docker: None,
            include: GlobSet::empty(),
            exclude: GlobSet::empty(),
            clock: Arc::new(Still),
            settled: HashMap::new(),
            pods: HashMap::new(),
            rest: Vec::new(),
        };
        let scan = |pods: &mut PodLogs| {
            let mut listing = Listing::default();
            pods.scan(None, &mut listing);
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
        fs::remove_dir_all(dir.path().join("ns_pod_uid")).unwrap();
        assert_eq!(scan(&mut pods), (0, 1));
        assert!(pods.pods.is_empty() && pods.settled.len() <= 1);
    }

    #[test]
    fn the_agent_leaves_its_own_logs_out() {
        let own = |namespace: &str, pod: &str| {
            let (namespace, pod) = (namespace.to_owned(), pod.to_owned());
            own_logs(move |name| Some(if name.ends_with("NAMESPACE") { namespace.clone() } else { pod.clone() }))
        };
        let matches = |pattern: &str, path: &str| glob(pattern).unwrap().compile_matcher().is_match(path);
        let pattern = own("logs", "skidder-x7k2p").unwrap();
        assert!(matches(&pattern, "logs_skidder-x7k2p_u1/skidder/0.log"));
        assert!(matches(&pattern, "logs_skidder-abcde_u0/skidder/0.log.20260310-154815.gz"), "the one before");
        assert!(!matches(&pattern, "logs_skidder-canary-abcde_u0/skidder/0.log"));
        assert!(!matches(&pattern, "shop_skidder-abcde_u0/skidder/0.log"));
        assert!(matches(&own("logs", "alone").unwrap(), "logs_alone_u/c/0.log"));
        assert_eq!(own("", "skidder-x7k2p"), None);
        assert_eq!(own_logs(|_| None), None);
    }

    #[test]
    fn paths_are_taken_apart_strictly() {
        let pod = PodName { namespace: "shop", pod: "cart-7d9-x2", uid: "1f2e" };
        assert_eq!(parse_pod("shop_cart-7d9-x2_1f2e"), Some(pod));
        for name in ["", "shop", "shop_cart", "shop__1f2e", "_cart_1f2e", "shop_cart_", "shop_cart_1f2e_x"] {
            assert_eq!(parse_pod(name), None, "{name}");
        }
        let live = |restart| LogName::Plain(Place { restart, age: Age::Live });
        let rotated = LogName::Plain(Place { restart: 3, age: Age::Rotated("20260310-154815".into()) });
        let cases = [
            ("0.log", live(0)),
            ("12.log", live(12)),
            ("3.log.20260310-154815", rotated),
            ("3.log.20260310-154815.gz", LogName::Compressed(Place { restart: 3, age: Age::Rotated("20260310-154815".into()) })),
            ("3.log.20260310-154815.tmp", LogName::Other),
            ("3.log.20260310-15481x", LogName::Other),
            ("+3.log", LogName::Other),
            ("a.log", LogName::Other),
            (".log", LogName::Other),
            ("0.log.", LogName::Other),
            ("0.logs", LogName::Other),
            ("99999999999.log", LogName::Other),
        ];
        for (name, expected) in cases {
            assert_eq!(parse_log(name), expected, "{name}");
        }
        assert!(Age::Rotated("2".into()) < Age::Live && Age::Rotated("1".into()) < Age::Rotated("2".into()));
    }
}
