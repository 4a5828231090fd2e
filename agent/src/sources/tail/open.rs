//! Opening logs without being led astray.
//!
//! A pod that can write into its log directory may plant a link to a file that it must not read, or a FIFO to hang the
//! reader (CVE-2026-53489 was one way). Below a root every open is relative to the root's own descriptor and refuses links
//! in every component; whatever was opened must then be a regular file, of a user who may write logs, with one name.

use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use skidder_pipeline::stats::SourceStats;

use super::super::identity::{Facts, Owner};

/// Why a file was not opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// A link, or a way out of the root.
    #[error("it is, or is reached through, a symbolic link; only real files below the root are read")]
    Link,
    /// Docker's link to somewhere else than docker's root.
    #[error("it is a symbolic link that does not lead below `docker_root`")]
    LinkAway,
    /// A link where links are not followed at all.
    #[error("it is a symbolic link, and `follow_symlinks` is off")]
    LinkOff,
    /// A directory, FIFO, socket or device.
    #[error("it is not a regular file")]
    NotRegular,
    /// A file that a runtime did not write.
    #[error("it belongs to user {0}, who is neither root nor the agent's own (`allowed_owners` names others)")]
    Owner(u32),
    /// A file with more than one name; one of them may be that of a file that must not be read.
    #[error("it has {0} names (hard links), and a log has one")]
    HardLink(u64),
    /// A file of another source.
    #[error("the source `{0}` reads it already, and a file belongs to one source; make the globs of one of them narrower")]
    Taken(String),
    /// What a glob matches and is not meant to be read.
    #[error("{0}")]
    Unfit(&'static str),
    /// What a glob is too wide for.
    #[error("more than 200,000 entries are below it; not all are looked at")]
    TooMany,
    /// It is gone: no fault.
    #[error("it is gone")]
    Gone,
    /// The root cannot be opened.
    #[error("{0} (is the node's /var/log mounted? `root` names the directory)")]
    Root(io::Error),
    /// The system said no.
    #[error("{0}")]
    Io(io::Error),
}

impl From<Errno> for Refusal {
    fn from(error: Errno) -> Self {
        match error {
            Errno::NOENT => Refusal::Gone,
            Errno::LOOP | Errno::XDEV | Errno::NOTDIR => Refusal::Link,
            Errno::NXIO | Errno::ISDIR => Refusal::NotRegular,
            error => Refusal::Io(error.into()),
        }
    }
}

impl Refusal {
    /// Counts it.
    pub(crate) fn count(&self, stats: &SourceStats) {
        let refused = &stats.refused_files;
        let counter = match self {
            Refusal::Link | Refusal::LinkAway | Refusal::LinkOff => &refused.link,
            Refusal::NotRegular => &refused.not_regular,
            Refusal::Owner(_) => &refused.owner,
            Refusal::HardLink(_) => &refused.hard_link,
            Refusal::Taken(_) => &refused.overlap,
            Refusal::Unfit(_) | Refusal::TooMany | Refusal::Gone | Refusal::Root(_) | Refusal::Io(_) => &stats.failed_files,
        };
        counter.add(1);
    }
}

/// Without waiting (a FIFO would have us wait for a writer), without becoming our terminal, not left to children.
const FLAGS: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::CLOEXEC).union(OFlags::NOCTTY);

/// The users whose files are logs: root, as whom runtimes write, the agent's own, and those that the operator names.
#[derive(Clone, Debug)]
pub(crate) struct Owners(Vec<u32>);

impl Owners {
    pub(crate) fn new(allowed: &[u32]) -> Owners {
        let own = rustix::process::geteuid().as_raw();
        Owners([0, own].iter().chain(allowed).copied().collect())
    }

    fn trusts(&self, user: u32) -> bool {
        self.0.contains(&user)
    }
}

/// A directory that nothing is opened outside of.
#[derive(Debug)]
pub(crate) struct Root {
    dir: OwnedFd,
    owners: Owners,
}

impl Root {
    /// Opens the root itself, through links if need be: its path is the operator's.
    pub(crate) fn open(path: &Path, owners: Owners) -> io::Result<Root> {
        Ok(Root { dir: rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?, owners })
    }

    /// Whether `path` still leads to it.
    pub(crate) fn is_at(&self, path: &Path) -> bool {
        match (rustix::fs::fstat(&self.dir), rustix::fs::stat(path)) {
            (Ok(own), Ok(there)) => (own.st_dev, own.st_ino) == (there.st_dev, there.st_ino),
            _ => false,
        }
    }

    /// When the directory `below` (relative) last changed, in nanoseconds since 1970, and its inode.
    pub(crate) fn state_of(&self, below: &Path) -> Option<(i64, u64)> {
        let below = if below.as_os_str().is_empty() { Path::new(".") } else { below };
        let stat = rustix::fs::statat(&self.dir, below, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        Some((super::nanos(stat.st_mtime, i64::try_from(stat.st_mtime_nsec).unwrap_or(0)), stat.st_ino))
    }

    /// Opens the regular file `below` (relative) without following any link, unless it may be somebody else's: a pod that can
    /// write into its log directory can give it a name of any file on the same file system.
    pub(crate) fn open_file(&self, below: &Path) -> Result<(File, Facts), Refusal> {
        let (file, facts, owner) = regular(File::from(self.open_beneath(below, FLAGS)?))?;
        self.trust(owner)?;
        Ok((file, facts))
    }

    /// What the symbolic link `below` (relative) says. Neither it nor anything on the way to it is followed.
    pub(crate) fn read_link(&self, below: &Path) -> Result<PathBuf, Refusal> {
        let (Some(parent), Some(name)) = (below.parent(), below.file_name()) else { return Err(Refusal::Link) };
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        let dir = self.open_beneath(parent, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC)?;
        let stat = rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if !self.owners.trusts(stat.st_uid) {
            return Err(Refusal::Owner(stat.st_uid));
        }
        let target = rustix::fs::readlinkat(&dir, name, Vec::new())?;
        Ok(OsString::from_vec(target.into_bytes()).into())
    }

    /// What the file system says of `below` (relative), opened without following any link and without reading.
    pub(crate) fn metadata(&self, below: &Path) -> Result<Metadata, Refusal> {
        File::from(self.open_beneath(below, OFlags::PATH | OFlags::CLOEXEC)?).metadata().map_err(Refusal::Io)
    }

    /// Refuses what a runtime does not write. A file that has lost its name since (no links) is still a log.
    fn trust(&self, owner: Owner) -> Result<(), Refusal> {
        if !self.owners.trusts(owner.user) {
            return Err(Refusal::Owner(owner.user));
        }
        if owner.names > 1 { Err(Refusal::HardLink(owner.names)) } else { Ok(()) }
    }

    fn open_beneath(&self, below: &Path, flags: OFlags) -> Result<OwnedFd, Refusal> {
        let strict = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(&self.dir, below, flags, Mode::empty(), strict) {
            // Kernels before 5.6, and sandboxes that do not know the call.
            Err(Errno::NOSYS | Errno::PERM | Errno::INVAL) => self.open_by_component(below, flags),
            result => Ok(result?),
        }
    }

    fn open_by_component(&self, below: &Path, flags: OFlags) -> Result<OwnedFd, Refusal> {
        let names: Vec<_> = below.components().collect();
        let Some((last, dirs)) = names.split_last() else { return Err(Refusal::NotRegular) };
        if names.iter().any(|name| !matches!(name, Component::Normal(_))) {
            return Err(Refusal::Link);
        }
        let mut dir = self.dir.try_clone().map_err(Refusal::Io)?;
        for name in dirs {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            dir = rustix::fs::openat(&dir, name.as_os_str(), flags, Mode::empty())?;
        }
        Ok(rustix::fs::openat(&dir, last.as_os_str(), flags | OFlags::NOFOLLOW, Mode::empty())?)
    }
}

/// Opens a regular file by its path: what the agent's user may read, through links where `follow_symlinks` says so.
pub(crate) fn open_file(path: &Path, follow_symlinks: bool) -> Result<(File, Facts), Refusal> {
    let flags = if follow_symlinks { FLAGS } else { FLAGS | OFlags::NOFOLLOW };
    let (file, facts, _) = regular(File::from(rustix::fs::open(path, flags, Mode::empty())?))?;
    Ok((file, facts))
}

fn regular(file: File) -> Result<(File, Facts, Owner), Refusal> {
    let (facts, owner) = Facts::of(&file).map_err(Refusal::Io)?;
    if facts.regular { Ok((file, facts, owner)) } else { Err(Refusal::NotRegular) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn only_real_files_below_the_root_are_opened() {
        let dir = tempfile::tempdir().unwrap();
        let root_path = dir.path().join("root");
        fs::create_dir_all(root_path.join("pod/c")).unwrap();
        fs::write(dir.path().join("canary"), "secret").unwrap();
        fs::write(root_path.join("pod/c/0.log"), "line\n").unwrap();
        symlink(dir.path().join("canary"), root_path.join("pod/c/link")).unwrap();
        symlink("0.log", root_path.join("pod/c/near")).unwrap();
        symlink(root_path.join("pod"), root_path.join("pod2")).unwrap();
        symlink("/proc/self/environ", root_path.join("pod/c/magic")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, root_path.join("pod/c/fifo"), rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
        let root = Root::open(&root_path, Owners::new(&[])).unwrap();
        assert!(root.open_file(Path::new("pod/c/0.log")).is_ok());
        assert!(root.open_by_component(Path::new("pod/c/0.log"), FLAGS).is_ok());
        for name in ["pod/c/link", "pod/c/near", "pod2/c/0.log", "pod/c/magic", "pod/c/fifo", "pod/c", "../canary", "pod/../../canary"] {
            let strict = root.open_file(Path::new(name));
            assert!(matches!(strict, Err(Refusal::Link | Refusal::NotRegular)), "{name}: {strict:?}");
            let stepwise = root.open_by_component(Path::new(name), FLAGS).and_then(|fd| regular(File::from(fd)));
            assert!(matches!(stepwise, Err(Refusal::Link | Refusal::NotRegular)), "{name}: {stepwise:?}");
        }
        assert!(matches!(root.open_file(Path::new("pod/c/1.log")), Err(Refusal::Gone)));
        fs::hard_link(dir.path().join("canary"), root_path.join("pod/c/2.log")).unwrap();
        assert!(matches!(root.open_file(Path::new("pod/c/2.log")), Err(Refusal::HardLink(2))));
        assert_eq!(root.read_link(Path::new("pod/c/near")).unwrap(), Path::new("0.log"));
        assert!(matches!(root.read_link(Path::new("pod2/c/near")), Err(Refusal::Link)));
        assert!(matches!(root.metadata(Path::new("pod/c/link")), Err(Refusal::Link)));
        assert_eq!(root.metadata(Path::new("pod/c/0.log")).unwrap().len(), 5);
        let strict = Root { dir: root.dir.try_clone().unwrap(), owners: Owners(vec![]) };
        assert!(matches!(strict.open_file(Path::new("pod/c/0.log")), Err(Refusal::Owner(_))));
        assert!(open_file(&root_path.join("pod/c/near"), true).is_ok());
        assert!(matches!(open_file(&root_path.join("pod/c/near"), false), Err(Refusal::Link)));
        assert!(matches!(open_file(&root_path.join("pod/c/fifo"), true), Err(Refusal::NotRegular)));
    }
}
