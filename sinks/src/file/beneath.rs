//! Files below a directory, and nowhere else.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

/// Who a file is, for as long as it lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Id {
    pub dev: u64,
    pub ino: u64,
}

/// The longest name that is made: 255 bytes is what file systems take, less room for `.100` of rotation.
const MAX_NAME_BYTES: usize = 240;

/// The one form of a destination that all ways to write a path share: no empty names, no `.`, none too long. It is the key of
/// the file in notes.
pub fn canonical(destination: &str) -> String {
    let names = destination.split('/').filter(|name| !matches!(*name, "" | "."));
    let mut out = String::with_capacity(destination.len());
    for name in names {
        if !out.is_empty() {
            out.push('/');
        }
        out.push_str(&name[..name.floor_char_boundary(MAX_NAME_BYTES)]);
    }
    out
}

/// Opens the directory that all is below, made where it is not there. It is the operator's choice: links in it are
/// followed.
pub fn open_base(base: &Path) -> io::Result<OwnedFd> {
    fs::create_dir_all(base)?;
    open_dir(base)
}

/// The same where it must be there.
pub fn open_dir(base: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(base, DIRECTORY, Mode::empty())?)
}

/// The directory of the file `key` below `base`, and the file's name in it. Directories are made where they are not there
/// and `make` says so.
///
/// One name at a time, each opened from the directory before it and never through a link: whatever is renamed or linked
/// meanwhile, the way cannot lead out. (`openat2` with RESOLVE_BENEATH does the same in one call, but makes no directories
/// and is missing before Linux 5.6 and in some sandboxes; this way there is one way.)
pub fn parent<'k>(base: &OwnedFd, key: &'k str, make: bool) -> io::Result<(OwnedFd, &'k str)> {
    let (dirs, name) = key.rsplit_once('/').unwrap_or(("", key));
    let mut at = base.try_clone()?;
    for dir in dirs.split('/').filter(|dir| !dir.is_empty()) {
        refuse_dots(dir)?;
        at = match rustix::fs::openat(&at, dir, DIRECTORY | OFlags::NOFOLLOW, Mode::empty()) {
            Err(Errno::NOENT) if make => {
                match rustix::fs::mkdirat(&at, dir, Mode::from_raw_mode(0o750)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(e) => return Err(e.into()),
                }
                rustix::fs::openat(&at, dir, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?
            }
            opened => opened?,
        };
    }
    refuse_dots(name)?;
    Ok((at, name))
}

/// Opens the file `name` in `dir` for appending; made where it is not there and `make` says so. Nothing but a plain file is
/// opened: no link, no pipe, no device.
pub fn open_file(dir: impl AsFd, name: &str, make: bool) -> io::Result<(File, Id, u64)> {
    // NONBLOCK: to open a pipe without a reader would wait for one.
    let mut flags = OFlags::WRONLY | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    if make {
        flags |= OFlags::CREATE;
    }
    let file = rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(0o640))?;
    let stat = rustix::fs::fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(io::Error::other("not a plain file"));
    }
    Ok((File::from(file), id_of(&stat), stat.st_size as u64))
}

/// Who is called `name` in `dir` now, if anyone.
pub fn who(dir: impl AsFd, name: &str) -> io::Result<Option<Id>> {
    match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(id_of(&stat))),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// The name of the `count`-th renamed file.
pub fn rotated(name: &str, count: u32) -> String {
    if count == 0 { name.to_owned() } else { format!("{name}.{count}") }
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

// The configuration and `confine` leave no such name; this is the wall behind them.
fn refuse_dots(name: &str) -> io::Result<()> {
    if matches!(name, "" | "." | "..") { Err(io::Error::other("a path that leads elsewhere")) } else { Ok(()) }
}

#[expect(clippy::unnecessary_cast, reason = "their types differ between architectures")]
fn id_of(stat: &rustix::fs::Stat) -> Id {
    Id { dev: stat.st_dev as u64, ino: stat.st_ino as u64 }
}
