//! The agent locks itself in, before it reads its first log: from then on it cannot write outside of what is its own, start a
//! program, or ask the kernel for what it never needs; and where its sources' files are known it cannot read others.
//!
//! Logs are written by whoever wants to, and the agent reads all of them, as root on most nodes. Should one of them ever
//! take control of it, what it can do then is what is left here. Landlock (landlock(7)) bounds the files, a filter of seccomp
//! (seccomp(2)) the system calls. Both need no privilege and cannot be taken back. What this kernel does not know is left
//! out, and `/metrics` says how far it went.

mod files;
mod syscalls;

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::{Builtin, Pipeline};
use files::Allowed;
pub use files::Bounds;

/// Whether the agent locks itself in once it has read its configuration: it cannot write but into `data_dir` and the files of its
/// sinks, start programs, or use system calls that it does not need; and it cannot read but its sources, the files that the
/// configuration names (options that end in `_file`), and the system's own.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LockdownMode {
    /// As far as the kernel lets it: Landlock since Linux 5.13, seccomp on x86-64 and arm64. `/metrics` says how far that is.
    /// Reading stays free where a source of the type `file` follows symbolic links, as it does by default, and with a
    /// `kube_config_file`.
    #[default]
    Auto,
    /// It refuses to start where something of it cannot be had.
    Required,
    /// Not at all. A kubeconfig whose credentials come from a program needs this.
    Off,
}

/// How far the agent is locked in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Lockdown {
    /// It cannot write outside of its own directories.
    pub writes: bool,
    /// It cannot read what it is not meant to read.
    pub reads: bool,
    /// It cannot start programs.
    pub programs: bool,
    /// It cannot use system calls that it does not need.
    pub syscalls: bool,
}

impl Lockdown {
    /// Each part, as a word for labels.
    pub fn parts(&self) -> [(&'static str, bool); 4] {
        [("writes", self.writes), ("reads", self.reads), ("programs", self.programs), ("syscalls", self.syscalls)]
    }
}

/// Locks this thread in, and those that it starts from now on, with what `pipeline` needs; `state_dir` is where it keeps its
/// state. To be called while there is no other thread.
///
/// Gives how far that went, and what it can use from now on.
///
/// # Errors
/// With `lockdown = "required"`, where something cannot be had.
pub fn lock_in(pipeline: &Pipeline<Builtin>, state_dir: &Path) -> anyhow::Result<(Lockdown, Bounds)> {
    let mode = pipeline.global.lockdown;
    if mode == LockdownMode::Off {
        return Ok((Lockdown::default(), Bounds::none()));
    }
    let allowed = Allowed::of(pipeline, state_dir);
    let bounds = Bounds::of(&allowed);
    let done = restrict(&allowed);
    let missing: Vec<&str> = done.parts().into_iter().filter(|(_, done)| !done).map(|(part, _)| part).collect();
    if mode == LockdownMode::Required && !missing.is_empty() {
        anyhow::bail!(
            "cannot lock itself in as `lockdown = \"required\"` asks: {} cannot be bounded. Landlock needs Linux 5.13, and reads stay free \
             with sources of the type `file` that follow links (`follow_symlinks = false`) and with `kube_config_file`",
            missing.join(", ")
        );
    }
    Ok((done, if done.writes { bounds } else { Bounds::none() }))
}

/// Bounds files first: the filter does not let Landlock be asked any more.
fn restrict(allowed: &Allowed) -> Lockdown {
    let files = files::restrict(allowed).unwrap_or_else(|error| {
        tracing::warn!(%error, "cannot bound the files that the agent can use");
        false
    });
    let syscalls = syscalls::restrict().unwrap_or_else(|error| {
        tracing::warn!(%error, "cannot bound the system calls that the agent can use");
        false
    });
    Lockdown { writes: files, reads: files && allowed.reads.is_some(), programs: files || syscalls, syscalls }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests;
