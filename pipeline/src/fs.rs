//! The file system as the buffer sees it: exactly the calls that it makes, so that a simulation can be put under it.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, IoSlice, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;

pub mod sim;

/// The file system, handed in.
pub trait Fs: Send + Sync {
    /// Creates the directory and those above it that are missing, for this user alone.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;

    /// The names in a directory, in no order. Names that are no UTF-8 are left out: none of ours is like that.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Creates a file for reading and appending, for this user alone; an error where something has that name already.
    fn create(&self, path: &Path) -> io::Result<Box<dyn File>>;

    /// Opens a file that is there, for reading and appending.
    fn open(&self, path: &Path) -> io::Result<Box<dyn File>>;

    /// Gives a file or directory another name, in place of the file that has it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file's name.
    fn unlink(&self, path: &Path) -> io::Result<()>;

    /// Puts the names in a directory on the disk for good.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// How much room the file system of a directory has.
    fn space(&self, dir: &Path) -> io::Result<Space>;
}

/// The room of a file system, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Space {
    /// What this user may still write.
    pub free: u64,
    /// All of it.
    pub total: u64,
}

/// An open file.
pub trait File: Send + Sync {
    /// Its length in bytes.
    fn size(&self) -> io::Result<u64>;

    /// Writes all of `parts` at its end, one after the other; `parts` are used up. After an error any beginning of them may
    /// be there.
    fn append(&self, parts: &mut [IoSlice<'_>]) -> io::Result<()>;

    /// Reads at `offset`; 0 bytes at the end.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Cuts it to `size` bytes.
    fn truncate(&self, size: u64) -> io::Result<()>;

    /// Puts its bytes on the disk for good.
    fn sync_data(&self) -> io::Result<()>;

    /// Sets space aside for its first `size` bytes, as far as the file system can; its length stays.
    fn reserve(&self, size: u64) -> io::Result<()>;
}

/// Fills `buffer` from `offset`; says whether there were as many bytes.
pub fn read_exact_at(file: &dyn File, buffer: &mut [u8], offset: u64) -> io::Result<bool> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => return Ok(false),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// The machine's file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealFs;

/// Links are not followed: the directory is ours alone, so that nothing in it should be one.
const NO_FOLLOW: i32 = rustix::fs::OFlags::NOFOLLOW.bits() as i32;

impl Fs for RealFs {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            names.extend(entry?.file_name().into_string().ok());
        }
        Ok(names)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let mut options = OpenOptions::new();
        let file = options.read(true).append(true).create_new(true).mode(0o600).custom_flags(NO_FOLLOW).open(path)?;
        Ok(Box::new(RealFile(file)))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let file = OpenOptions::new().read(true).append(true).custom_flags(NO_FOLLOW).open(path)?;
        Ok(Box::new(RealFile(file)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        std::fs::File::open(dir)?.sync_all()
    }

    fn space(&self, dir: &Path) -> io::Result<Space> {
        let stat = rustix::fs::statvfs(dir)?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        Ok(Space { free: bytes(stat.f_bavail), total: bytes(stat.f_blocks) })
    }
}

struct RealFile(std::fs::File);

impl File for RealFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn append(&self, mut parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        IoSlice::advance_slices(&mut parts, 0); // past the parts that are empty
        while !parts.is_empty() {
            match (&self.0).write_vectored(parts) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => IoSlice::advance_slices(&mut parts, count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.0.set_len(size)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn reserve(&self, size: u64) -> io::Result<()> {
        Ok(rustix::fs::fallocate(&self.0, rustix::fs::FallocateFlags::KEEP_SIZE, 0, size)?)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn files_and_directories_are_for_their_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("a/b");
        RealFs.create_dir_all(&inner).unwrap();
        RealFs.create(&inner.join("f")).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&inner), mode(&inner.join("f"))), (0o700, 0o600));
        assert_eq!(RealFs.create(&inner.join("f")).err().map(|e| e.kind()), Some(io::ErrorKind::AlreadyExists));
    }

    #[test]
    fn appends_reads_cuts_and_reserves() {
        let dir = tempfile::tempdir().unwrap();
        let file = RealFs.create(&dir.path().join("f")).unwrap();
        file.reserve(4096).unwrap();
        assert_eq!(file.size().unwrap(), 0);
        // More parts than one writev takes, some of them empty.
        let mut parts: Vec<IoSlice> = (0..3000).map(|i| IoSlice::new(if i % 3 == 0 { b"" } else { b"ab" })).collect();
        file.append(&mut parts).unwrap();
        assert_eq!(file.size().unwrap(), 4000);
        file.truncate(5).unwrap();
        file.append(&mut [IoSlice::new(b""), IoSlice::new(b"xyz")]).unwrap();
        let mut bytes = [0; 8];
        assert!(read_exact_at(&*file, &mut bytes, 0).unwrap());
        assert_eq!(&bytes, b"ababaxyz");
        assert!(!read_exact_at(&*file, &mut bytes, 1).unwrap());
    }

    #[test]
    fn says_how_much_room_there_is() {
        let dir = tempfile::tempdir().unwrap();
        let Space { free, total } = RealFs.space(dir.path()).unwrap();
        assert!(free <= total && total > 0, "{free} of {total}");
        assert!(RealFs.space(&dir.path().join("gone")).is_err());
    }

    #[test]
    fn a_link_in_place_of_a_file_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("secret"), "x").unwrap();
        std::os::unix::fs::symlink(dir.path().join("secret"), dir.path().join("link")).unwrap();
        assert!(RealFs.open(&dir.path().join("link")).is_err());
    }
}
