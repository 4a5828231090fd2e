//! Which files the agent can use: Landlock.

use std::path::{Path, PathBuf};

use landlock::{ABI, Access, AccessFs, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, path_beneath_rules};
use skidder_sinks::SinkConfig;

use crate::config::{Builtin, Pipeline};

/// The newest rights that are asked for; a kernel that knows fewer bounds those.
const RIGHTS: ABI = ABI::V6;

/// What the agent and its libraries read of the system: resolver, certificates, zones of time, the C library's own modules,
/// limits, credentials that are put into containers. What is not there is left out.
const SYSTEM: [&str; 21] = [
    "/etc",
    "/usr/share",
    "/usr/local/share",
    "/usr/lib",
    "/usr/lib64",
    "/lib",
    "/lib64",
    "/proc/self",
    "/proc/sys/kernel",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/cpuinfo",
    "/sys/fs/cgroup",
    "/sys/devices/system/cpu",
    "/dev/null",
    "/dev/urandom",
    "/run/secrets",
    "/var/run/secrets",
    "/run/systemd",
    "/run/resolvconf",
    "/run/NetworkManager",
];

/// Variables that name files or directories of certificates (openssl's names, which rustls heeds).
const CERTIFICATES: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// What the agent needs.
#[derive(Debug)]
pub(super) struct Allowed {
    /// What it can read; `None` where that cannot be said beforehand.
    pub reads: Option<Vec<PathBuf>>,
    /// What it can write and read.
    pub writes: Vec<PathBuf>,
    /// Directories of which it can remove empty ones: its state goes with it where the configuration names no place for it.
    pub removes: Vec<PathBuf>,
}

impl Allowed {
    pub(super) fn of(pipeline: &Pipeline<Builtin>, state_dir: &Path) -> Allowed {
        let writes = writes(pipeline, state_dir);
        let removes = if pipeline.data_dir().is_none() { state_dir.parent().map(Path::to_owned) } else { None };
        Allowed { reads: reads(pipeline), writes, removes: removes.into_iter().collect() }
    }
}

/// What the agent can use since it locked itself in. It can be narrowed and never widened, so a configuration that needs more
/// needs a new process.
#[derive(Debug)]
pub struct Bounds(Option<Given>);

#[derive(Debug)]
struct Given {
    reads: Option<Vec<PathBuf>>,
    writes: Vec<PathBuf>,
}

impl Bounds {
    /// It can use everything.
    pub(super) fn none() -> Bounds {
        Bounds(None)
    }

    pub(super) fn of(allowed: &Allowed) -> Bounds {
        let real = |paths: &[PathBuf]| paths.iter().map(|path| real(path)).collect::<Vec<_>>();
        let writes = real(&allowed.writes);
        let reads = allowed.reads.as_ref().map(|reads| [real(reads), writes.clone()].concat());
        Bounds(Some(Given { reads, writes }))
    }

    /// What `pipeline` would need and cannot have, each as a sentence.
    pub fn refuse(&self, pipeline: &Pipeline<Builtin>, state_dir: &Path) -> Vec<String> {
        let Some(given) = &self.0 else { return Vec::new() };
        let beyond = |paths: &[PathBuf], given: &[PathBuf]| {
            let is_beyond = |path: &&PathBuf| given.iter().all(|given| !real(path).starts_with(given));
            paths.iter().filter(is_beyond).map(|path| format!("`{}`", path.display())).collect::<Vec<_>>().join(", ")
        };
        let mut refused = Vec::new();
        let written = beyond(&writes(pipeline, state_dir), &given.writes);
        if !written.is_empty() {
            refused.push(format!("it would write to {written}, and has locked itself out of there"));
        }
        match (named(pipeline), &given.reads) {
            (_, None) => {}
            (None, Some(_)) => refused.push(
                "a source of the type `file` that follows links, or a `kube_config_file`, may lead it anywhere, and it has locked itself in"
                    .to_owned(),
            ),
            (Some(reads), Some(given)) => {
                let read = beyond(&reads, given);
                if !read.is_empty() {
                    refused.push(format!("it would read {read}, and has locked itself out of there"));
                }
            }
        }
        refused
    }
}

/// Where a path leads, through all links, as far as it is there.
fn real(path: &Path) -> PathBuf {
    let there = there(path);
    std::fs::canonicalize(&there).unwrap_or(there)
}

fn reads(pipeline: &Pipeline<Builtin>) -> Option<Vec<PathBuf>> {
    let named = named(pipeline)?;
    let mut paths: Vec<PathBuf> = SYSTEM.map(PathBuf::from).to_vec();
    paths.extend(CERTIFICATES.iter().filter_map(std::env::var_os).map(|path| above(Path::new(&path))));
    // The resolver's file is a link to wherever the system keeps it.
    paths.extend(std::fs::canonicalize("/etc/resolv.conf").ok().map(|path| above(&path)));
    // What the system does not have now it will not have: an image has next to nothing of it.
    paths.retain(|path| path.exists());
    Some([paths, named].concat())
}

fn writes(pipeline: &Pipeline<Builtin>, state_dir: &Path) -> Vec<PathBuf> {
    let mut writes = vec![state_dir.to_owned()];
    for sink in &pipeline.sinks {
        if let SinkConfig::File(config) = &sink.config {
            writes.push(there(&pipeline.base_dir.join(fixed(&config.path))));
        }
    }
    writes
}

/// What the configuration has it read.
fn named(pipeline: &Pipeline<Builtin>) -> Option<Vec<PathBuf>> {
    if pipeline.global.kubernetes.kube_config_file.is_some() {
        // It names further files.
        return None;
    }
    let mut paths = vec![pipeline.base_dir.clone()];
    // What is renewed is another file then.
    paths.extend(pipeline.named_files.iter().map(|path| above(path)));
    paths.retain(|path| path.exists());
    for source in &pipeline.sources {
        // A directory of logs may come later, or be removed and come again.
        paths.extend(source.config.reads(&pipeline.base_dir)?.iter().map(|path| there(&above(path))));
    }
    (!paths.iter().any(|path| path == Path::new("/"))).then_some(paths)
}

/// The directory that a path is in, or itself right below the root.
fn above(path: &Path) -> PathBuf {
    path.parent().filter(|parent| *parent != Path::new("/") && *parent != Path::new("")).unwrap_or(path).to_owned()
}

/// The nearest that is there: itself, or the directory that it will be made in.
fn there(path: &Path) -> PathBuf {
    path.ancestors().find(|path| path.exists()).unwrap_or(path).to_owned()
}

/// The directories that all files of a template are below.
fn fixed(template: &str) -> PathBuf {
    let variable = template.find(['{', '%']).unwrap_or(template.len());
    let directory = template[..variable].rfind('/').map_or(0, |slash| slash + 1);
    template[..directory].into()
}

/// Bounds the files of this thread and those that it starts. Says whether the kernel does so.
pub(super) fn restrict(allowed: &Allowed) -> Result<bool, RulesetError> {
    let all = AccessFs::from_all(RIGHTS);
    // What is read is never started.
    let read = AccessFs::from_read(RIGHTS) & !AccessFs::Execute;
    let own = all & !AccessFs::Execute;
    let handled = if allowed.reads.is_some() { all } else { all & !read };
    let own = own & handled;
    let ruleset = Ruleset::default().handle_access(handled)?.scope(Scope::from_all(RIGHTS))?.create()?;
    let ruleset = ruleset.add_rules(path_beneath_rules(&allowed.writes, own))?;
    let ruleset = ruleset.add_rules(path_beneath_rules(&allowed.removes, AccessFs::RemoveDir))?;
    let ruleset = match &allowed.reads {
        Some(paths) => ruleset.add_rules(path_beneath_rules(paths, read))?,
        None => ruleset,
    };
    let status = ruleset.restrict_self()?;
    Ok(status.ruleset != RulesetStatus::NotEnforced)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_fixed_of_a_template_is_its_directories() {
        for (template, expected) in [
            ("out.jsonl", ""),
            ("logs/%Y/x.json", "logs/"),
            ("/var/log/all/{{ kubernetes.pod_namespace }}/x.json", "/var/log/all/"),
            ("/var/log/a{{ x }}.json", "/var/log/"),
        ] {
            assert_eq!(fixed(template), Path::new(expected), "{template}");
        }
    }

    #[test]
    fn what_is_not_there_is_made_in_what_is() {
        assert_eq!(there(Path::new("/proc/self/none/at/all")), Path::new("/proc/self"));
        assert_eq!(above(Path::new("/var/log/pods")), Path::new("/var/log"));
        assert_eq!(above(Path::new("/logs")), Path::new("/logs"));
    }
}
