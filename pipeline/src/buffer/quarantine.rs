//! Where damaged bytes are put aside, for a person to look at.

use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::Path;

use crate::fs::{File, Fs, read_exact_at};

/// The most bytes that a sink's quarantine holds; the oldest go first. Enough for several segments, and small beside the
/// buffer itself.
const MAX_QUARANTINE_BYTES: u64 = 64 << 20;

/// The most files: damage in many small pieces must not fill a directory.
const MAX_QUARANTINE_FILES: usize = 1024;

const COPY_BYTES: usize = 256 * 1024;

/// Copies `span` of `file` into `quarantine/` below `dir`, as `<number>-<offset>.bad` in hexadecimal: `number` is that of
/// the segment's first frame, so that names sort by age. Best effort: a copy that cannot be made is reported and no more.
pub(super) fn keep(fs: &dyn Fs, dir: &Path, number: u64, file: &dyn File, span: Range<u64>) {
    let span = span.start..span.end.min(span.start + MAX_QUARANTINE_BYTES);
    let dir = dir.join("quarantine");
    let path = dir.join(format!("{number:016x}-{:010x}.bad", span.start));
    let bytes = span.end.saturating_sub(span.start);
    match copy(fs, &dir, &path, file, span) {
        Ok(()) => tracing::warn!(path = %path.display(), bytes, "damaged part of a buffer put aside"),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {} // put aside at an earlier start
        Err(error) => tracing::warn!(path = %path.display(), bytes, %error, "a damaged part of a buffer could not be put aside"),
    }
}

/// Moves a whole file into `quarantine/` below `dir`.
pub(super) fn move_in(fs: &dyn Fs, dir: &Path, path: &Path) -> io::Result<()> {
    let dir = dir.join("quarantine");
    fs.create_dir_all(&dir)?;
    let to = dir.join(path.file_name().unwrap_or_default());
    make_room(fs, &dir, &to, fs.open(path)?.size()?)?;
    fs.rename(path, &to)
}

fn copy(fs: &dyn Fs, dir: &Path, path: &Path, from: &dyn File, span: Range<u64>) -> io::Result<()> {
    fs.create_dir_all(dir)?;
    let to = fs.create(path)?;
    make_room(fs, dir, path, span.end - span.start)?;
    let mut at = span.start;
    let mut buffer = vec![0; COPY_BYTES.min((span.end - span.start) as usize)];
    while at < span.end {
        let len = buffer.len().min((span.end - at) as usize);
        if !read_exact_at(from, &mut buffer[..len], at)? {
            break;
        }
        to.append(&mut [IoSlice::new(&buffer[..len])])?;
        at += len as u64;
    }
    Ok(())
}

/// Removes the oldest files until `bytes` more fit.
fn make_room(fs: &dyn Fs, dir: &Path, new: &Path, bytes: u64) -> io::Result<()> {
    let mut files = Vec::new();
    for name in fs.list(dir)? {
        let path = dir.join(name);
        if path != new {
            files.push((fs.open(&path)?.size()?, path));
        }
    }
    files.sort_by(|a, b| a.1.cmp(&b.1));
    let mut total: u64 = files.iter().map(|(size, _)| size).sum();
    let mut count = files.len() + 1;
    for (size, path) in files {
        if total + bytes <= MAX_QUARANTINE_BYTES && count <= MAX_QUARANTINE_FILES {
            break;
        }
        fs.unlink(&path)?;
        total -= size;
        count -= 1;
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use crate::fs::sim::SimFs;

    #[test]
    fn the_oldest_make_room_and_what_is_there_stays() {
        let fs = SimFs::new();
        let dir = Path::new("/d");
        fs.create_dir_all(dir).unwrap();
        let file = fs.create(&dir.join("f")).unwrap();
        let size = 24 << 20;
        file.append(&mut [IoSlice::new(&vec![7; size as usize])]).unwrap();
        for number in 0..4 {
            keep(&fs, dir, number, &*file, 0..size);
        }
        keep(&fs, dir, 3, &*file, 0..8);
        let kept: Vec<_> = fs.contents().into_iter().filter(|(path, _)| path.starts_with("/d/quarantine")).collect();
        let names: Vec<_> = kept.iter().map(|(path, bytes)| (path.file_name().unwrap().to_str().unwrap(), bytes.len() as u64)).collect();
        assert_eq!(names, [("0000000000000002-0000000000.bad", size), ("0000000000000003-0000000000.bad", size)]);
    }
}
