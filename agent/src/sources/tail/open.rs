//! Opening logs without being led astray.
//!
//! A pod that can write into its log directory may plant a link to a file that it must not read, or a FIFO to hang the
//! reader (CVE-2026-53489 was one way). Below a root every open is relative to the root's own descriptor and refuses links
//! in every component; whatever was opened must then be a regular file.

use std::fs::File;
use std::io;
use std::path::{Component, Path};

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::super::identity::Facts;

/// Why a file was not opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// A link, or a way out of the root.
    #[error("it is, or is reached through, a symbolic link; only real files below the root are read")]
    Link,
    /// A directory, FIFO, socket or device.
    #[error("it is not a regular file")]
    NotRegular,
    /// A file that has another name too, which may be anywhere on the file system.
    #[error("it has several names (hard links), so it may be a file of somebody else; only files with one name are read")]
    Linked,
    /// A file of a user that no container runtime runs as.
    #[error("it belongs to user {0}, not to root or the agent's own user; `trusted_uids` lists others whose files are read")]
    Owner(u32),
    /// It is gone: no fault.
    #[error("it is gone")]
    Gone,
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

/// Without waiting (a FIFO would have us wait for a writer), without becoming our terminal, not left to children.
const FLAGS: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::CLOEXEC).union(OFlags::NOCTTY);

/// A directory that nothing is opened outside of.
#[derive(Debug)]
pub(crate) struct Root {
    fd: OwnedFd,
    /// The users whose files are read besides root's and our own.
    trusted_uids: Vec<u32>,
}

impl Root {
    /// Opens the root itself, through links if need be: its path is the operator's.
    pub(crate) fn open(path: &Path, trusted_uids: &[u32]) -> io::Result<Root> {
        let fd = rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Root { fd, trusted_uids: trusted_uids.to_vec() })
    }

    /// Whether `path` still leads to it.
    pub(crate) fn is_at(&self, path: &Path) -> bool {
        match (rustix::fs::fstat(&self.fd), rustix::fs::stat(path)) {
            (Ok(own), Ok(there)) => (own.st_dev, own.st_ino) == (there.st_dev, there.st_ino),
            _ => false,
        }
    }

    /// When the directory `below` (relative) last changed, in nanoseconds since 1970, and its inode.
    pub(crate) fn state_of(&self, below: &Path) -> Option<(i64, u64)> {
        let below = if below.as_os_str().is_empty() { Path::new(".") } else { below };
        let stat = rustix::fs::statat(&self.fd, below, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        Some((super::nanos(stat.st_mtime, i64::try_from(stat.st_mtime_nsec).unwrap_or(0)), stat.st_ino))
    }

    /// Opens the regular file `below` (relative) without following any link, unless it may be somebody else's: a pod that can
    /// write into its log directory can give it a name of any file on the same file system.
    pub(crate) fn open_file(&self, below: &Path) -> Result<(File, Facts), Refusal> {
        let strict = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let fd = match rustix::fs::openat2(&self.fd, below, FLAGS, Mode::empty(), strict) {
            // Kernels before 5.6, and sandboxes that do not know the call.
            Err(Errno::NOSYS | Errno::PERM | Errno::INVAL) => self.open_by_component(below)?,
            result => result?,
        };
        let (file, facts) = regular(File::from(fd))?;
        let stat = rustix::fs::fstat(&file)?;
        let ours = [0, rustix::process::geteuid().as_raw()].contains(&stat.st_uid) || self.trusted_uids.contains(&stat.st_uid);
        match stat.st_nlink {
            2.. => Err(Refusal::Linked),
            _ if !ours => Err(Refusal::Owner(stat.st_uid)),
            _ => Ok((file, facts)),
        }
    }

    fn open_by_component(&self, below: &Path) -> Result<OwnedFd, Refusal> {
        let names: Vec<_> = below.components().collect();
        let Some((last, dirs)) = names.split_last() else { return Err(Refusal::NotRegular) };
        if names.iter().any(|name| !matches!(name, Component::Normal(_))) {
            return Err(Refusal::Link);
        }
        let mut dir = self.fd.try_clone().map_err(Refusal::Io)?;
        for name in dirs {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            dir = rustix::fs::openat(&dir, name.as_os_str(), flags, Mode::empty())?;
        }
        Ok(rustix::fs::openat(&dir, last.as_os_str(), FLAGS | OFlags::NOFOLLOW, Mode::empty())?)
    }
}

/// Opens a regular file by its path: what the agent's user may read, through links where `follow_symlinks` says so.
pub(crate) fn open_file(path: &Path, follow_symlinks: bool) -> Result<(File, Facts), Refusal> {
    let flags = if follow_symlinks { FLAGS } else { FLAGS | OFlags::NOFOLLOW };
    regular(File::from(rustix::fs::open(path, flags, Mode::empty())?))
}

fn regular(file: File) -> Result<(File, Facts), Refusal> {
    let facts = Facts::of(&file).map_err(Refusal::Io)?;
    if facts.regular { Ok((file, facts)) } else { Err(Refusal::NotRegular) }
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
        fs::hard_link(dir.path().join("canary"), root_path.join("pod/c/1.log")).unwrap();
        let root = Root::open(&root_path, &[]).unwrap();
        assert!(matches!(root.open_file(Path::new("pod/c/1.log")), Err(Refusal::Linked)));
        assert!(root.open_file(Path::new("pod/c/0.log")).is_ok());
        assert!(root.open_by_component(Path::new("pod/c/0.log")).is_ok());
        for name in ["pod/c/link", "pod/c/near", "pod2/c/0.log", "pod/c/magic", "pod/c/fifo", "pod/c", "../canary", "pod/../../canary"] {
            let strict = root.open_file(Path::new(name));
            assert!(matches!(strict, Err(Refusal::Link | Refusal::NotRegular)), "{name}: {strict:?}");
            let stepwise = root.open_by_component(Path::new(name)).and_then(|fd| regular(File::from(fd)));
            assert!(matches!(stepwise, Err(Refusal::Link | Refusal::NotRegular)), "{name}: {stepwise:?}");
        }
        assert!(matches!(root.open_file(Path::new("pod/c/2.log")), Err(Refusal::Gone)));
        // Only root can give a file away.
        if std::os::unix::fs::chown(root_path.join("pod/c/0.log"), Some(1234), None).is_ok() {
            assert!(matches!(root.open_file(Path::new("pod/c/0.log")), Err(Refusal::Owner(1234))));
            assert!(Root::open(&root_path, &[1234]).unwrap().open_file(Path::new("pod/c/0.log")).is_ok());
        }
        assert!(open_file(&root_path.join("pod/c/near"), true).is_ok());
        assert!(matches!(open_file(&root_path.join("pod/c/near"), false), Err(Refusal::Link)));
        assert!(matches!(open_file(&root_path.join("pod/c/fifo"), true), Err(Refusal::NotRegular)));
    }
}
