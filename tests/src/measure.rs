//! What a run cost: processor time, memory, and on which core.

use std::fs;
use std::io;
use std::time::{Duration, Instant};

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::agent::{Agent, Ended};

/// How often the peak of the memory is read. It only grows, so only what is new since the last look can be missed.
const LOOK: Duration = Duration::from_millis(2);

/// The cost of a process, from its start to its end.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Processor time of all its threads, in the program and in the kernel. The kernel reports it in ticks of 10 ms.
    pub cpu: Duration,
    /// From start to end.
    pub wall: Duration,
    /// The most memory that was resident at once (`VmHWM`), in bytes.
    pub peak_rss_bytes: u64,
}

/// Waits for the end of a run and says what it cost.
pub fn cost(agent: Agent, limit: Duration) -> Result<(Cost, Ended), String> {
    let begin = Instant::now();
    let pid = agent.pid().ok_or("the agent has no process")?;
    let mut peak_rss_bytes = 0;
    // NOWAIT leaves the process unreaped, so that its times can be read once all of them are known.
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    while waitid(WaitId::Pid(pid), options).map_err(|error| error.to_string())?.is_none() {
        if begin.elapsed() > limit {
            return Err(format!("the agent still runs after {limit:?}"));
        }
        peak_rss_bytes = peak_rss_bytes.max(peak_rss(pid).unwrap_or(0));
        std::thread::sleep(LOOK);
    }
    let wall = begin.elapsed();
    let cpu = cpu_time(pid).map_err(|error| format!("cannot read the processor time: {error}"))?;
    let ended = agent.wait(limit)?;
    Ok((Cost { cpu, wall, peak_rss_bytes }, ended))
}

/// The processor time of a process so far (`/proc/<pid>/stat`, fields 14 and 15), also when it has ended and was not
/// reaped.
pub fn cpu_time(pid: Pid) -> io::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is the program's name in parentheses and may hold anything; the third follows the last one.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 = fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

/// The most memory that a running process has had resident, in bytes.
pub fn peak_rss(pid: Pid) -> io::Result<u64> {
    status_bytes(pid, "VmHWM:")
}

/// The memory that a running process has resident, in bytes.
pub fn rss(pid: Pid) -> io::Result<u64> {
    status_bytes(pid, "VmRSS:")
}

/// The memory that a running process has resident and shares with no file, in bytes: its heap and stacks. Pages of its program come and
/// go as the system likes.
pub fn own_memory(pid: Pid) -> io::Result<u64> {
    status_bytes(pid, "RssAnon:")
}

fn status_bytes(pid: Pid, name: &str) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    let kib: u64 = line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0);
    Ok(kib << 10)
}

/// The processor time of the calling thread so far.
pub fn thread_cpu_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// Keeps the calling thread, and every process and thread that it starts, on some cores; all that was allowed before is
/// allowed again when this is dropped.
pub struct Pinned {
    before: CpuSet,
}

impl Pinned {
    /// Keeps to core `core`.
    pub fn to(core: usize) -> io::Result<Pinned> {
        let before = sched_getaffinity(None)?;
        let mut set = CpuSet::new();
        set.set(core);
        sched_setaffinity(None, &set)?;
        Ok(Pinned { before })
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let _ = sched_setaffinity(None, &self.before);
    }
}

/// The cores that the calling thread may run on, in order.
pub fn cores() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_busy_process_is_charged_for() {
        let mut command = Command::new("sh");
        command.args(["-c", "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"]);
        let (cost, ended) = cost(Agent::spawn(command).unwrap(), Duration::from_secs(60)).unwrap();
        assert!(ended.status.success());
        assert!(cost.cpu >= Duration::from_millis(10) && cost.cpu <= cost.wall + Duration::from_millis(20), "{cost:?}");
        assert!(cost.peak_rss_bytes > 100 << 10, "{cost:?}");
    }

    #[test]
    fn pinning_ends_with_the_guard() {
        let before = cores().unwrap();
        let pinned = Pinned::to(before[0]).unwrap();
        assert_eq!(cores().unwrap(), [before[0]]);
        drop(pinned);
        assert_eq!(cores().unwrap(), before);
    }
}
