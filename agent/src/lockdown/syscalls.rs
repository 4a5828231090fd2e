//! Which system calls the agent can use: a filter of seccomp.
//!
//! The list is that of systemd's `@system-service` (systemd.exec(5)) without what this program, its libraries and the C library
//! never use: starting programs, changing users and owners, tracing and reading other processes, namespaces, mounts, kernel
//! keys, io_uring, System V's and POSIX's queues. A call that is not in it fails as if this kernel did not have it
//! (`ENOSYS`): then the C library falls back to an older one, where there is one, instead of giving up.

use std::collections::BTreeMap;

use seccompiler::{TargetArch, apply_filter, compile_from_json};
use serde_json::json;

/// On all processors.
const EVERYWHERE: &[&str] = &[
    "accept",
    "accept4",
    "bind",
    "brk",
    "capget",
    "chdir",
    "clock_getres",
    "clock_gettime",
    "clock_nanosleep",
    "clone",
    "clone3",
    "close",
    "close_range",
    "connect",
    "copy_file_range",
    "dup",
    "dup3",
    "epoll_create1",
    "epoll_ctl",
    "epoll_pwait",
    "epoll_pwait2",
    "eventfd2",
    "exit",
    "exit_group",
    "faccessat",
    "faccessat2",
    "fadvise64",
    "fallocate",
    "fchdir",
    "fchmod",
    "fchmodat",
    "fchmodat2",
    "fcntl",
    "fdatasync",
    "fgetxattr",
    "flock",
    "fstat",
    "fstatfs",
    "fsync",
    "ftruncate",
    "futex",
    "futex_waitv",
    "get_robust_list",
    "getcpu",
    "getcwd",
    "getdents64",
    "getegid",
    "geteuid",
    "getgid",
    "getgroups",
    "getitimer",
    "getpeername",
    "getpgid",
    "getpid",
    "getppid",
    "getpriority",
    "getrandom",
    "getresgid",
    "getresuid",
    "getrlimit",
    "getrusage",
    "getsid",
    "getsockname",
    "getsockopt",
    "gettid",
    "gettimeofday",
    "getuid",
    "getxattr",
    "inotify_add_watch",
    "inotify_init1",
    "inotify_rm_watch",
    "ioctl",
    "kill",
    "lgetxattr",
    "linkat",
    "listen",
    "lseek",
    "madvise",
    "membarrier",
    "memfd_create",
    "mincore",
    "mkdirat",
    "mlock",
    "mlock2",
    "mmap",
    "mprotect",
    "mremap",
    "msync",
    "munlock",
    "munmap",
    "nanosleep",
    "newfstatat",
    "openat",
    "openat2",
    "pipe2",
    "ppoll",
    "prctl",
    "pread64",
    "preadv",
    "preadv2",
    "prlimit64",
    "pselect6",
    "pwrite64",
    "pwritev",
    "pwritev2",
    "read",
    "readahead",
    "readlinkat",
    "readv",
    "recvfrom",
    "recvmmsg",
    "recvmsg",
    "renameat",
    "renameat2",
    "restart_syscall",
    "rseq",
    "rt_sigaction",
    "rt_sigpending",
    "rt_sigprocmask",
    "rt_sigqueueinfo",
    "rt_sigreturn",
    "rt_sigsuspend",
    "rt_sigtimedwait",
    "rt_tgsigqueueinfo",
    "sched_getaffinity",
    "sched_getparam",
    "sched_getscheduler",
    "sched_yield",
    "sendfile",
    "sendmmsg",
    "sendmsg",
    "sendto",
    "set_robust_list",
    "set_tid_address",
    "setitimer",
    "setsockopt",
    "shutdown",
    "sigaltstack",
    "signalfd4",
    "socket",
    "socketpair",
    "splice",
    "statfs",
    "statx",
    "symlinkat",
    "sync",
    "sync_file_range",
    "syncfs",
    "sysinfo",
    "tgkill",
    "timerfd_create",
    "timerfd_gettime",
    "timerfd_settime",
    "times",
    "truncate",
    "umask",
    "uname",
    "unlinkat",
    "utimensat",
    "wait4",
    "waitid",
    "write",
    "writev",
];

/// Older forms of these, which only x86-64 still has.
const X86_64: &[&str] = &[
    "access",
    "arch_prctl",
    "chmod",
    "creat",
    "dup2",
    "epoll_create",
    "epoll_wait",
    "eventfd",
    "getdents",
    "getpgrp",
    "inotify_init",
    "link",
    "lstat",
    "mkdir",
    "open",
    "pause",
    "pipe",
    "poll",
    "readlink",
    "rename",
    "rmdir",
    "select",
    "signalfd",
    "stat",
    "symlink",
    "time",
    "unlink",
    "utimes",
];

/// Puts the filter over this thread and those that it starts. Says whether this processor has one.
pub(super) fn restrict() -> Result<bool, seccompiler::Error> {
    let (arch, more) = match std::env::consts::ARCH {
        "x86_64" => (TargetArch::x86_64, X86_64),
        "aarch64" => (TargetArch::aarch64, &[][..]),
        _ => return Ok(false),
    };
    apply_filter(&filter(arch, more)?)?;
    Ok(true)
}

fn filter(arch: TargetArch, more: &[&str]) -> Result<seccompiler::BpfProgram, seccompiler::Error> {
    const NAME: &str = "agent";
    let calls: Vec<_> = EVERYWHERE.iter().chain(more).map(|name| json!({"syscall": name})).collect();
    let not_there = i32::from(rustix::io::Errno::NOSYS.raw_os_error().unsigned_abs() as u16);
    let filters = json!({NAME: {"mismatch_action": {"errno": not_there}, "match_action": "allow", "filter": calls}});
    let mut compiled: BTreeMap<_, _> = compile_from_json(filters.to_string().as_bytes(), arch)?.into_iter().collect();
    Ok(compiled.remove(NAME).unwrap_or_default())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_call_has_a_number_on_each_processor() {
        assert!(filter(TargetArch::x86_64, X86_64).unwrap().len() > EVERYWHERE.len());
        assert!(filter(TargetArch::aarch64, &[]).unwrap().len() > EVERYWHERE.len());
        assert!(filter(TargetArch::aarch64, &["open"]).is_err(), "a name that it has not is found");
    }
}
