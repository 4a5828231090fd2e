//! The `kubernetes_logs` source: the log directories that kubelet keeps, one for each container of each pod.

mod docker;
mod heeding;
mod pods;

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use skidder_pipeline::problem::Problem;
use skidder_pipeline::shared::{Shared, SharedFields};
use skidder_pipeline::source::Source;
use skidder_pipeline::value::{Kind, Value};

use docker::DockerRoot;
use heeding::Heeding;
use pods::PodLogs;

use crate::metadata::{self, Metadata};

use super::assemble::MaxRecordAction;
use super::file::{glob, glob_set};
use super::framing::Format;
use super::identity::ContainerRun;
use super::multiline::MultilineConfig;
use super::overlap::Reach;
use super::tail::open::Owners;
use super::tail::{Age, Describe, Origin, Place, Tailer};
use super::{SourceContext, check_common, default_max_held_bytes, default_max_record_bytes, default_rescan_interval_ms};

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

    /// The directories that all of its logs lie below.
    pub(super) fn roots(&self, base_dir: &Path) -> Vec<PathBuf> {
        [base_dir.join(&self.root)].into_iter().chain(self.docker_root.clone()).collect()
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
        let globs = (
            glob_set(self.include_paths_glob_patterns.iter().map(String::as_str))?,
            glob_set(self.exclude_paths_glob_patterns.iter().chain(&own).map(String::as_str))?,
        );
        let docker = self.docker_root.clone().map(DockerRoot::new);
        let owners = Owners::new(&self.allowed_owners);
        let pods = PodLogs::new(context.base_dir.join(&self.root), owners, docker, globs, context.clock.clone());
        let rate = self.rate_limit_bytes_per_sec.map(NonZeroU64::get);
        let settings = super::settings(self.rescan_interval_ms, self.ignore_older_secs, rate, self.max_held_bytes);
        let rules = super::rules(self.max_record_bytes, self.max_record_action, self.multiline.as_ref())?;
        let describer = Arc::new(Describer(context.metadata.clone()));
        let leftovers = context.leftovers.clone();
        let (left, is_same, reach) = (context.estate.take(&context.name), context.is_same, self.reach(&context.base_dir));
        let env = context.env(self.format, rules, None, describer);
        let mut tailer = Tailer::new(env, Box::new(pods), settings).with_part_in(&leftovers);
        tailer.take_over(left.logs, is_same, |path| reach.as_ref().is_some_and(|reach| (reach.reads)(path)));
        Ok(tailer)
    }
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
        Some(time) if is_rotation_time(time) => LogName::Plain(Place { restart, age: Age::Rotated(time.into()) }),
        Some(suffix) => match suffix.strip_suffix(".gz").filter(|time| is_rotation_time(time)) {
            Some(time) => LogName::Compressed(Place { restart, age: Age::Rotated(time.into()) }),
            None => LogName::Other,
        },
        None => LogName::Other,
    }
}

fn is_rotation_time(text: &str) -> bool {
    text.len() == 15 && text.bytes().enumerate().all(|(at, b)| if at == 8 { b == b'-' } else { b.is_ascii_digit() })
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

    fn pod_of<'a>(&self, unit: &'a Path) -> Option<(&'a str, &'a str)> {
        let metadata::Origin { namespace, pod, .. } = origin_of(unit, 0);
        Some((namespace, pod))
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

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

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
