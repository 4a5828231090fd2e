//! Who a file is: the [`FileKey`] of one generation of a log, the same after a rename and a restart, and never given twice.
//!
//! Positions are kept, and the ids of records are made, under this key. Given to two contents it would lose the second
//! silently: its bytes would count as held, or its records be refused as copies. Why that cannot be:
//!
//! - *Containers.* The key is a SHA-256 over pod uid, container, restart count and the first line (up to 16 KiB). Uid,
//!   container and restart count name one run of one container for good. Its generations follow each other, and their
//!   first lines differ because a runtime starts each with its own time in nanoseconds. Should a file be cut or replaced in
//!   place and start with the very same line, the marker of what was read before shows it, and the key gets a further part.
//!   Kubelet compresses rotated ones into a file of another name and inode: the first line of its text is the same, so it is
//!   the same generation, read on at the same offset of its text.
//! - *Other files.* The key is a SHA-256 over the random epoch of the state directory, device, inode, time of birth and a
//!   generation number. The file system gives an inode to one file at a time; a file that gets it later has another time of
//!   birth, and where the file system keeps none, [`Registry`] has the number before and counts on. Within one inode,
//!   a head or a marker that no longer fits, or a size below what was read, begins a new generation.
//!
//! What remains are writers that undo both: a file cut in place and filled again with the same head, beyond the old
//! position, with the same 256 bytes before it. Then what lies before the position was sent before, byte for byte where it
//! was compared, and reading goes on behind it.

mod registry;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::{FileType, Stat, Statx, StatxFlags, StatxTimestamp};
use rustix::io::Errno;
use sha2::{Digest, Sha256};
use skidder_pipeline::position::{FileKey, MARKER_BYTES, RangeSet, marker};

pub(crate) use registry::Registry;

use super::framing::first_line;
use super::tail::nanos;

/// How much of a file is read to find its first line.
pub(crate) const MAX_HEAD_BYTES: usize = 16 * 1024;

/// One run of one container.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ContainerRun {
    pub pod_uid: String,
    pub container: String,
    pub restart: u32,
}

impl ContainerRun {
    /// The key of the generation that begins with `head`. `variant` counts the files before it that began alike.
    pub(crate) fn key(&self, head: &[u8], variant: u32) -> FileKey {
        let first = first_line(head).unwrap_or(head);
        let fingerprint = Sha256::digest(first);
        let restart = self.restart.to_string();
        let variant = if variant == 0 { String::new() } else { variant.to_string() };
        let parts: [&[u8]; 6] =
            [b"container", self.pod_uid.as_bytes(), self.container.as_bytes(), restart.as_bytes(), &fingerprint, variant.as_bytes()];
        FileKey::of(if variant.is_empty() { &parts[..5] } else { &parts })
    }
}

/// What the file system says of an open file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Facts {
    pub dev: u64,
    pub ino: u64,
    pub size: u64,
    /// When it was last written, in nanoseconds since 1970.
    pub modified: i64,
    /// The time of birth in nanoseconds since 1970; 0 where the file system keeps none.
    pub born: i64,
    /// Whether it has no name any more.
    pub deleted: bool,
    pub regular: bool,
}

impl Facts {
    /// Asks about `file`. A start asks about thousands: so all is asked at once.
    pub(crate) fn of(file: &File) -> io::Result<(Facts, Owner)> {
        let all = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
        match rustix::fs::statx(file, "", rustix::fs::AtFlags::EMPTY_PATH, all) {
            Ok(stat) => Ok(Facts::extended(&stat)),
            // Kernels before 4.11, and sandboxes that do not know the call.
            Err(Errno::NOSYS | Errno::PERM) => Ok(Facts::plain(&rustix::fs::fstat(file)?)),
            Err(error) => Err(error.into()),
        }
    }

    fn extended(stat: &Statx) -> (Facts, Owner) {
        let nanos = |time: StatxTimestamp| nanos(time.tv_sec, i64::from(time.tv_nsec));
        let keeps_birth = stat.stx_mask & StatxFlags::BTIME.bits() != 0;
        let facts = Facts {
            dev: rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor),
            ino: stat.stx_ino,
            size: stat.stx_size,
            modified: nanos(stat.stx_mtime),
            born: if keeps_birth { nanos(stat.stx_btime) } else { 0 },
            deleted: stat.stx_nlink == 0,
            regular: FileType::from_raw_mode(stat.stx_mode.into()) == FileType::RegularFile,
        };
        (facts, Owner { user: stat.stx_uid, names: stat.stx_nlink.into() })
    }

    #[allow(clippy::unnecessary_cast, reason = "the number of names has another width on other processors")]
    fn plain(stat: &Stat) -> (Facts, Owner) {
        let facts = Facts {
            dev: stat.st_dev,
            ino: stat.st_ino,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            modified: nanos(stat.st_mtime, i64::try_from(stat.st_mtime_nsec).unwrap_or(0)),
            born: 0,
            deleted: stat.st_nlink == 0,
            regular: FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile,
        };
        (facts, Owner { user: stat.st_uid, names: stat.st_nlink as u64 })
    }
}

/// Who a file is of, and how many names it has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Owner {
    pub user: u32,
    pub names: u64,
}

/// Text that can be read at any offset.
pub(crate) trait Text {
    /// Reads into `buffer` from `offset` on until it is full or the text ends; says how much was read.
    fn read_text(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
}

impl Text for File {
    fn read_text(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        read_full(self, buffer, offset)
    }
}

/// Reads into `buffer` from `offset` on until it is full or the file ends; says how much was read.
pub(crate) fn read_full(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(len) => filled += len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// The marker of the bytes before `offset` in `text`; `None` where it is shorter.
pub(crate) fn marker_before(text: &impl Text, offset: u64) -> io::Result<Option<u64>> {
    let mut buffer = [0; MARKER_BYTES];
    let len = MARKER_BYTES.min(usize::try_from(offset).unwrap_or(MARKER_BYTES));
    let read = text.read_text(&mut buffer[..len], offset - len as u64)?;
    Ok((read == len).then(|| marker(&buffer[..len])))
}

/// Whether `text`, of `size` bytes, still holds what `sets` say was read of it.
pub(crate) fn still_holds<'a>(text: &impl Text, size: u64, sets: impl Iterator<Item = &'a RangeSet>) -> io::Result<bool> {
    for set in sets {
        let Some(last) = set.stretches().last() else { continue };
        if last.end > size || marker_before(text, last.end)? != Some(last.marker) {
            return Ok(false);
        }
    }
    Ok(true)
}
