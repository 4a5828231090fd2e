//! The memory budget: how much the agent may use, and what of it each sink may hold.
//!
//! What is held is counted in bytes where it can grow: frames that wait, frames that are being sent, and bodies that are
//! being filled. Each sink gets an equal share of what is left beside the agent itself, and its bounds are derived from the
//! share. So the sum stays below the limit whatever the stores do; what does not fit waits on disk or in the files.

use std::path::{Path, PathBuf};

use skidder_pipeline::body::{Bodies, Compression};
use skidder_pipeline::delivery::decide::Concurrency;
use skidder_sinks::{SinkContext, SinkParts};

use crate::config::{Builtin, Pipeline};

/// The default limit: little beside what runs on a node, and room for some sinks.
const DEFAULT_LIMIT_BYTES: u64 = 64 << 20;

/// What the agent needs without its sinks: itself, its runtime, TLS, chunks and what transforms remember. Measured are 8 to
/// 14 MiB.
const BASE_BYTES: u64 = 16 << 20;

/// The most of one sink's frames that are kept in memory beside the disk; older ones are read back when their turn comes.
/// A few frames, so that a store that keeps up never causes a read.
const MAX_FRAMES_BYTES: u64 = 8 << 20;

/// The least: a frame or two.
const MIN_FRAMES_BYTES: u64 = 1 << 20;

/// What one sink may hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Share {
    /// Bytes of frames in memory beside the disk.
    pub frames_bytes: u64,
    /// Sends under way at once.
    pub sends: usize,
    /// Bytes of all bodies that are being filled, before compression.
    pub open_bytes: u64,
}

/// What a sink holds at least, and would like to.
#[derive(Clone, Copy, Debug)]
struct Need {
    /// A body that is being filled, and a frame.
    body: u64,
    /// The same before compression.
    raw: u64,
    /// Bodies that are being filled at once: one a destination.
    max_open: u64,
    /// Of a buffer in memory: its bound.
    memory_buffer: Option<u64>,
    /// Sends that it has whatever its share is.
    fixed_sends: Option<usize>,
    max_sends: usize,
}

impl Need {
    fn of(parts: &SinkParts) -> Need {
        let raw = parts.limits.max_bytes as u64;
        // Logs compress to a quarter or less; half leaves room for the compressor.
        let body = if parts.compression == Compression::None { raw } else { raw / 2 };
        let (fixed_sends, max_sends) = match (parts.transport.concurrency(), parts.delivery.concurrency) {
            (Some(count), _) | (None, Concurrency::Fixed(count)) => (Some(count), count),
            (None, Concurrency::Adaptive { max }) => (None, max),
        };
        let memory_buffer = (!parts.buffer.disk).then_some(parts.buffer.max_bytes);
        Need { body, raw, max_open: parts.limits.max_open as u64, memory_buffer, fixed_sends, max_sends }
    }

    fn floor(&self) -> u64 {
        match self.memory_buffer {
            // What is being sent is among what waits.
            Some(bytes) => self.body + bytes,
            None => self.body + self.body * self.fixed_sends.unwrap_or(1) as u64 + MIN_FRAMES_BYTES,
        }
    }

    /// What comes of `extra` bytes beyond the floor: more sends first, since they are what makes a sink fast.
    fn share(&self, extra: u64) -> Share {
        let sends = match self.fixed_sends {
            Some(count) => count,
            None => (1 + usize::try_from(extra / 2 / self.body.max(1)).unwrap_or(usize::MAX)).min(self.max_sends),
        };
        // A sink with one destination leaves this part of its share alone.
        let more_open = extra / 4 * (self.raw / self.body.max(1)).max(1);
        let open_bytes = (self.raw + more_open).min(self.raw * self.max_open.min(Bodies::MOST_FULL));
        Share { frames_bytes: (MIN_FRAMES_BYTES + extra / 4).min(MAX_FRAMES_BYTES), sends, open_bytes }
    }
}

/// How much the agent of this configuration may use.
pub fn limit(pipeline: &Pipeline<Builtin>) -> u64 {
    match pipeline.global.memory_limit {
        Some(limit) => limit.0,
        None => default_limit(cgroup_limit(Path::new("/"))),
    }
}

/// 64 MiB, or 60 % of what the cgroup grants where that is less: the rest is for what is not counted.
fn default_limit(cgroup: Option<u64>) -> u64 {
    cgroup.map_or(DEFAULT_LIMIT_BYTES, |bytes| (bytes / 5 * 3).min(DEFAULT_LIMIT_BYTES))
}

/// The shares of `sinks`, in their order, within `limit`.
///
/// # Errors
/// Where what they need at least is more: what to do about it.
pub fn shares(limit: u64, sinks: &[(&str, &SinkParts)]) -> Result<Vec<Share>, String> {
    let needs: Vec<(&str, Need)> = sinks.iter().map(|(name, parts)| (*name, Need::of(parts))).collect();
    divide(limit, &needs)
}

/// Whether the sinks of a configuration fit into its limit. Sinks that cannot be built are passed over: others say so.
///
/// # Errors
/// See [`shares`].
pub fn check(pipeline: &Pipeline<Builtin>) -> Result<(), String> {
    let build = |name: &str, config: &skidder_sinks::SinkConfig| {
        let context = SinkContext { name: name.to_owned(), base_dir: Some(pipeline.base_dir.clone()), ..SinkContext::default() };
        config.build(&context).ok()
    };
    let parts: Vec<_> = pipeline.sinks.iter().filter_map(|named| Some((named.name.as_str(), build(&named.name, &named.config)?))).collect();
    let parts: Vec<_> = parts.iter().map(|(name, parts)| (*name, parts)).collect();
    shares(limit(pipeline), &parts).map(drop)
}

fn divide(limit: u64, needs: &[(&str, Need)]) -> Result<Vec<Share>, String> {
    let floor: u64 = BASE_BYTES + needs.iter().map(|(_, need)| need.floor()).sum::<u64>();
    let Some(left) = limit.checked_sub(floor) else {
        let mib = |bytes: u64| format!("{} MiB", bytes.div_ceil(1 << 20));
        let each: Vec<String> = needs.iter().map(|(name, need)| format!("`{name}` {}", mib(need.floor()))).collect();
        return Err(format!(
            "the memory limit is {}, and the agent and its sinks need {} at least ({} for the agent, {}): raise `memory_limit`, or lower \
             `batch.max_bytes`, `request.concurrency`, or the `buffer.max_size` of buffers in memory",
            mib(limit),
            mib(floor),
            mib(BASE_BYTES),
            each.join(", ")
        ));
    };
    let extra = left / needs.len().max(1) as u64;
    Ok(needs.iter().map(|(_, need)| need.share(extra)).collect())
}

/// The least memory limit of the process's cgroup and those above it; `root` is `/`, but in tests. cgroup v2: `memory.max`
/// (Documentation/admin-guide/cgroup-v2.rst); v1: `memory.limit_in_bytes` (cgroup-v1/memory.rst).
fn cgroup_limit(root: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let limits = text.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (number, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let (mount, file) = match controllers {
            "" if number == "0" => (root.join("sys/fs/cgroup"), "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => (root.join("sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
            _ => return None,
        };
        least_above(&mount, path, file)
    });
    limits.min()
}

fn least_above(mount: &Path, path: &str, file: &str) -> Option<u64> {
    // Within a container the path may be that of the host and not be there; the mount's own file is then the container's.
    let path = PathBuf::from(path.trim_start_matches('/'));
    let read = |dir: &Path| std::fs::read_to_string(mount.join(dir).join(file)).ok()?.trim().parse::<u64>().ok();
    path.ancestors().filter_map(read).min()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn disk() -> Need {
        Need { body: 2 * MIB, raw: 4 * MIB, max_open: 64, memory_buffer: None, fixed_sends: None, max_sends: 8 }
    }

    #[test]
    fn shares_stay_below_the_limit() {
        for count in 1..=8 {
            for limit in [40 * MIB, 64 * MIB, 100 * MIB, 400 * MIB] {
                let needs: Vec<(&str, Need)> = (0..count).map(|_| ("es", disk())).collect();
                let Ok(shares) = divide(limit, &needs) else { continue };
                // Open bodies take half of what they hold.
                let held = |share: &Share| share.open_bytes / 2 + 2 * MIB * share.sends as u64 + share.frames_bytes;
                let sum: u64 = BASE_BYTES + shares.iter().map(held).sum::<u64>();
                assert!(sum <= limit, "{count} sinks in {limit}: {sum}");
                assert!(shares.iter().all(|share| (1..=8).contains(&share.sends) && (4 * MIB..=32 * MIB).contains(&share.open_bytes)));
            }
        }
        assert_eq!(divide(400 * MIB, &[("es", disk())]).unwrap(), [Share { frames_bytes: 8 * MIB, sends: 8, open_bytes: 32 * MIB }]);
        let one = divide(400 * MIB, &[("out", Need { max_open: 1, ..disk() })]).unwrap();
        assert_eq!(one[0].open_bytes, 4 * MIB, "one destination has one body");
    }

    #[test]
    fn what_does_not_fit_is_refused_with_what_to_do() {
        let needs = [("es", disk()), ("out", Need { memory_buffer: Some(32 * MIB), ..disk() })];
        let error = divide(48 * MIB, &needs).unwrap_err();
        assert!(error.contains("48 MiB") && error.contains("`out` 34 MiB") && error.contains("memory_limit"), "{error}");
    }

    #[test]
    fn the_default_is_64_mib_or_a_part_of_the_cgroup() {
        assert_eq!(default_limit(None), 64 * MIB);
        assert_eq!(default_limit(Some(1 << 40)), 64 * MIB);
        assert_eq!(default_limit(Some(50 * MIB)), 30 * MIB);
    }

    #[test]
    fn the_least_limit_above_counts() {
        let write = |root: &Path, path: &str, text: &str| {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let root = tempfile::tempdir().unwrap();
        assert_eq!(cgroup_limit(root.path()), None);
        write(root.path(), "proc/self/cgroup", "0::/pods/a\n");
        write(root.path(), "sys/fs/cgroup/pods/a/memory.max", "max\n");
        assert_eq!(cgroup_limit(root.path()), None);
        write(root.path(), "sys/fs/cgroup/pods/memory.max", "104857600\n");
        assert_eq!(cgroup_limit(root.path()), Some(104_857_600));

        let root = tempfile::tempdir().unwrap();
        write(root.path(), "proc/self/cgroup", "3:cpu:/x\n2:memory,hugetlb:/gone\n");
        write(root.path(), "sys/fs/cgroup/memory/memory.limit_in_bytes", "52428800\n");
        assert_eq!(cgroup_limit(root.path()), Some(52_428_800));
    }
}
