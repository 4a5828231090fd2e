//! The register of files: which generation of an inode's content is the present one.
//!
//! `files.wal` in the state directory: a header of 16 bytes, then entries of 64 bytes, appended as files are met and never
//! changed in place. Numbers are little-endian.
//!
//! | header | bytes |
//! |---|---|
//! | `SKDFILE1` | 8 |
//! | the generation that inodes without an entry begin with | 4 |
//! | zero | 4 |
//!
//! | entry | bytes |
//! |---|---|
//! | device | 8 |
//! | inode | 8 |
//! | time of birth, ns since 1970, 0 for unknown | 8 |
//! | generation | 4 |
//! | length of the head, at most 1,024 | 2 |
//! | zero | 2 |
//! | first 16 bytes of the SHA-256 of the head | 16 |
//! | first 8 bytes of the SHA-256 of the path it was met under | 8 |
//! | first 8 bytes of the SHA-256 of the 56 bytes before | 8 |
//!
//! The last entry of an inode counts. An entry is written before any record of its file is given out. It is not synced: where
//! a power failure takes the last ones, the same numbers are found again, from the last known one on, by the heads and
//! markers that do not fit.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use anyhow::Context;
use sha2::{Digest, Sha256};
use skidder_pipeline::edge::Nanos;
use skidder_pipeline::position::{FileKey, marker};

use super::Facts;

const MAGIC: &[u8; 8] = b"SKDFILE1";
const HEADER_BYTES: usize = 16;
const ENTRY_BYTES: usize = 64;
/// How much of a file's beginning is compared: enough to tell logs apart that begin with a banner.
const HEAD_BYTES: usize = 1_024;
/// The most inodes that are remembered over a start: 6 MiB of disk, 10 MiB of memory. Only on file systems that reuse inodes
/// and keep no time of birth does forgetting matter, and there the header's generation is raised beyond what is forgotten.
const MAX_ENTRIES: usize = 100_000;
/// After this a device of which nothing is met is away. Sources say what they meet once an hour.
const AWAY_AFTER: Duration = Duration::from_secs(3 * 3_600);
/// A bound for the search of a generation that fits; each step means a content that came and went.
const MAX_GENERATIONS_TRIED: u32 = 10_000;

/// The register of one state directory, shared by the sources that use it.
#[derive(Debug)]
pub(crate) struct Registry {
    file: File,
    epoch: [u8; 16],
    entries: HashMap<(u64, u64), Entry>,
    paths: HashSet<u64>,
    first_generation: u32,
    /// Devices, by the numbers that they have now, whose files are known by the number that they had.
    renumbered: HashMap<u64, u64>,
    /// When something on a device was last met.
    seen: HashMap<u64, Nanos>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Entry {
    born: i64,
    generation: u32,
    head_len: u16,
    head: [u8; 16],
    path: u64,
}

impl Entry {
    /// Whether a content with this head begins as it did.
    fn begins(&self, head: &[u8]) -> bool {
        let len = usize::from(self.head_len);
        len <= head.len() && hash16(&head[..len]) == self.head
    }
}

impl Registry {
    /// The register of `state_dir`, opened, or the one that is open.
    ///
    /// One for all, since an inode may go from a file of one source to a file of another.
    pub(crate) fn shared(state_dir: &Path, epoch: [u8; 16]) -> anyhow::Result<Arc<Mutex<Registry>>> {
        static OPEN: Mutex<Vec<(PathBuf, Weak<Mutex<Registry>>)>> = Mutex::new(Vec::new());
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|(_, registry)| registry.strong_count() > 0);
        if let Some(registry) = open.iter().find(|(path, _)| path == state_dir).and_then(|(_, registry)| registry.upgrade()) {
            return Ok(registry);
        }
        let registry = Arc::new(Mutex::new(Registry::open(state_dir, epoch)?));
        open.push((state_dir.to_owned(), Arc::downgrade(&registry)));
        Ok(registry)
    }

    fn open(state_dir: &Path, epoch: [u8; 16]) -> anyhow::Result<Registry> {
        let path = state_dir.join("files.wal");
        let context = || format!("cannot use the register of files {}", path.display());
        fs::create_dir_all(state_dir).with_context(context)?;
        let mut bytes = Vec::new();
        match File::open(&path) {
            Ok(mut file) => _ = file.read_to_end(&mut bytes).with_context(context)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(context),
        }
        let mut log = Log::parse(&bytes, &path);
        let whole = bytes.len() == HEADER_BYTES + log.entries.len() * ENTRY_BYTES;
        if !whole || log.entries.len() > MAX_ENTRIES {
            log.compact();
            log.rewrite(&path).with_context(context)?;
        }
        let file = OpenOptions::new().append(true).open(&path).with_context(context)?;
        let paths = log.entries.iter().map(|(_, entry)| entry.path).collect();
        Ok(Registry {
            file,
            epoch,
            entries: log.entries.into_iter().collect(),
            paths,
            first_generation: log.first_generation,
            renumbered: HashMap::new(),
            seen: HashMap::new(),
        })
    }

    /// Says that something on these devices was met.
    pub(crate) fn see(&mut self, devices: &[u64], now: Nanos) {
        for device in devices {
            self.seen.insert(self.renumbered.get(device).copied().unwrap_or(*device), now);
        }
    }

    /// The present contents of all files on devices of which nothing was met lately: what is not mounted is not gone.
    pub(crate) fn away(&self, now: Nanos) -> Vec<FileKey> {
        let is_away = |device: &u64| self.seen.get(device).is_none_or(|seen| now.since(*seen) > AWAY_AFTER);
        let away = self.entries.iter().filter(|((device, _), _)| is_away(device));
        away.map(|(inode, entry)| self.key(*inode, entry.born, entry.generation)).collect()
    }

    /// Whether a file was ever met under `path`.
    pub(crate) fn knows_path(&self, path: &Path) -> bool {
        self.paths.contains(&hash_of_path(path))
    }

    /// The key of the content that begins with `head` in the file that `facts` describe, met under `path`. `fits` says of a
    /// key whether what is known of its content agrees with the file.
    pub(crate) fn identify(
        &mut self,
        facts: &Facts,
        path: &Path,
        head: &[u8],
        mut fits: impl FnMut(&FileKey) -> io::Result<bool>,
    ) -> io::Result<FileKey> {
        let head = &head[..head.len().min(HEAD_BYTES)];
        let inode = self.known_inode(facts, path, head);
        let known = self.entries.get(&inode).copied();
        let same = known.is_some_and(|known| (known.born == facts.born || known.born == 0 || facts.born == 0) && known.begins(head));
        let mut generation = match known {
            Some(known) if same => known.generation,
            Some(known) => known.generation + 1,
            None => self.first_generation,
        };
        let most = generation.saturating_add(MAX_GENERATIONS_TRIED);
        while !fits(&self.key(inode, facts.born, generation))? && generation < most {
            generation += 1;
        }
        if !same || known.is_none_or(|known| known.generation != generation) {
            let entry = Entry { born: facts.born, generation, head_len: head.len() as u16, head: hash16(head), path: hash_of_path(path) };
            self.file.write_all(&encode(inode, &entry))?;
            self.entries.insert(inode, entry);
            self.paths.insert(entry.path);
        }
        Ok(self.key(inode, facts.born, generation))
    }

    /// Device and inode that a file is known by. A file system may be mounted under another device number than before: then the
    /// file is the one that had the same path, inode, time of birth and beginning.
    fn known_inode(&mut self, facts: &Facts, path: &Path, head: &[u8]) -> (u64, u64) {
        let own = (facts.dev, facts.ino);
        let path = hash_of_path(path);
        let is_it = |entry: &Entry| entry.born == facts.born && entry.path == path && entry.head_len > 0 && entry.begins(head);
        if facts.born == 0 || !self.paths.contains(&path) || self.entries.get(&own).is_some_and(is_it) {
            return own;
        }
        let moved = self.renumbered.get(&facts.dev).map(|device| (*device, facts.ino));
        if let Some(moved) = moved.filter(|moved| self.entries.get(moved).is_some_and(is_it)) {
            return moved;
        }
        let found = self.entries.iter().find(|((_, ino), entry)| *ino == facts.ino && is_it(entry)).map(|(inode, _)| *inode);
        if let Some((device, _)) = found {
            self.renumbered.insert(facts.dev, device);
        }
        found.unwrap_or(own)
    }

    fn key(&self, (dev, ino): (u64, u64), born: i64, generation: u32) -> FileKey {
        FileKey::of(&[b"file", &self.epoch, &dev.to_le_bytes(), &ino.to_le_bytes(), &born.to_le_bytes(), &generation.to_le_bytes()])
    }
}

/// The register as read from disk.
struct Log {
    first_generation: u32,
    entries: Vec<((u64, u64), Entry)>,
}

impl Log {
    /// Takes what can be read; a torn or damaged entry is left out.
    fn parse(bytes: &[u8], path: &Path) -> Log {
        let mut log = Log { first_generation: 0, entries: Vec::new() };
        let Some((header, rest)) = bytes.split_at_checked(HEADER_BYTES).filter(|(header, _)| header.starts_with(MAGIC)) else {
            if !bytes.is_empty() {
                tracing::warn!(path = %path.display(), "the register of files cannot be read and is begun anew");
            }
            return log;
        };
        log.first_generation = u32::from_le_bytes(array(&header[8..]));
        let mut damaged = rest.len() % ENTRY_BYTES != 0;
        for entry in rest.chunks_exact(ENTRY_BYTES) {
            match decode(entry) {
                Some(entry) => log.entries.push(entry),
                None => damaged = true,
            }
        }
        if damaged {
            tracing::warn!(path = %path.display(), "damaged entries of the register of files are left out");
        }
        log
    }

    /// Keeps the last entry of each inode, and of these the newest [`MAX_ENTRIES`] / 2.
    fn compact(&mut self) {
        let mut seen = HashSet::new();
        let mut kept = 0;
        for (inode, entry) in std::mem::take(&mut self.entries).into_iter().rev() {
            if !seen.insert(inode) {
                continue;
            }
            if kept < MAX_ENTRIES / 2 {
                kept += 1;
                self.entries.push((inode, entry));
            } else if entry.born == 0 {
                self.first_generation = self.first_generation.max(entry.generation + 1);
            }
        }
        self.entries.reverse();
    }

    fn rewrite(&self, path: &Path) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + self.entries.len() * ENTRY_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.first_generation.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        for (inode, entry) in &self.entries {
            bytes.extend_from_slice(&encode(*inode, entry));
        }
        let new = path.with_extension("tmp");
        let mut file = File::create(&new)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)
    }
}

fn encode(inode: (u64, u64), entry: &Entry) -> [u8; ENTRY_BYTES] {
    let mut bytes = [0; ENTRY_BYTES];
    bytes[..8].copy_from_slice(&inode.0.to_le_bytes());
    bytes[8..16].copy_from_slice(&inode.1.to_le_bytes());
    bytes[16..24].copy_from_slice(&entry.born.to_le_bytes());
    bytes[24..28].copy_from_slice(&entry.generation.to_le_bytes());
    bytes[28..30].copy_from_slice(&entry.head_len.to_le_bytes());
    bytes[32..48].copy_from_slice(&entry.head);
    bytes[48..56].copy_from_slice(&entry.path.to_le_bytes());
    let check = marker(&bytes[..56]);
    bytes[56..].copy_from_slice(&check.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<((u64, u64), Entry)> {
    if marker(&bytes[..56]) != u64::from_le_bytes(array(&bytes[56..])) {
        return None;
    }
    let entry = Entry {
        born: i64::from_le_bytes(array(&bytes[16..])),
        generation: u32::from_le_bytes(array(&bytes[24..])),
        head_len: u16::from_le_bytes(array(&bytes[28..])),
        head: array(&bytes[32..]),
        path: u64::from_le_bytes(array(&bytes[48..])),
    };
    Some(((u64::from_le_bytes(array(bytes)), u64::from_le_bytes(array(&bytes[8..]))), entry))
}

/// The first `N` bytes; zeros where there are fewer, which no caller lets happen.
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    if let Some(first) = bytes.get(..N) {
        array.copy_from_slice(first);
    }
    array
}

fn hash16(bytes: &[u8]) -> [u8; 16] {
    array(&Sha256::digest(bytes))
}

fn hash_of_path(path: &Path) -> u64 {
    u64::from_le_bytes(array(&Sha256::digest(path.as_os_str().as_encoded_bytes())))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn facts(ino: u64, born: i64) -> Facts {
        Facts { dev: 7, ino, size: 100, modified: 0, born, deleted: false, regular: true }
    }

    fn key(registry: &mut Registry, facts: &Facts, head: &[u8]) -> FileKey {
        registry.identify(facts, Path::new("/x"), head, |_| Ok(true)).unwrap()
    }

    #[test]
    fn a_file_keeps_its_key_over_a_start_and_loses_it_with_its_content() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Registry::open(dir.path(), [1; 16]).unwrap();
        let mut registry = open();
        assert!(!registry.knows_path(Path::new("/x")));
        let first = key(&mut registry, &facts(1, 0), b"head");
        assert_eq!(first, key(&mut registry, &facts(1, 0), b"head and more"));
        drop(registry);

        let mut registry = open();
        assert!(registry.knows_path(Path::new("/x")));
        assert_eq!(first, key(&mut registry, &facts(1, 0), b"head and more"));
        let second = key(&mut registry, &facts(1, 0), b"another");
        assert_ne!(first, second);
        assert_ne!(second, key(&mut registry, &facts(1, 5), b"another"), "born at another time");
        assert_ne!(first, key(&mut registry, &facts(2, 0), b"head"));
        let third = registry.identify(&facts(1, 5), Path::new("/x"), b"another", |k| Ok(*k != second)).unwrap();
        drop(registry);
        assert_eq!(third, key(&mut open(), &facts(1, 5), b"another"));
    }

    #[test]
    fn a_file_system_under_another_device_number_has_the_same_files() {
        let dir = tempfile::tempdir().unwrap();
        let at = |dev: u64, ino: u64, born: i64| Facts { dev, ..facts(ino, born) };
        let identify = |registry: &mut Registry, facts: &Facts, path: &str, head: &[u8]| {
            registry.identify(facts, Path::new(path), head, |_| Ok(true)).unwrap()
        };
        let mut registry = Registry::open(dir.path(), [1; 16]).unwrap();
        let a = identify(&mut registry, &at(7, 1, 50), "/a", b"head a");
        let b = identify(&mut registry, &at(7, 2, 60), "/b", b"head b");
        // What had the numbers 8 and 1 before.
        let other = identify(&mut registry, &at(8, 1, 55), "/c", b"head c");
        drop(registry);
        let mut registry = Registry::open(dir.path(), [1; 16]).unwrap();
        assert_eq!(identify(&mut registry, &at(8, 1, 50), "/a", b"head a and more"), a);
        assert_eq!(identify(&mut registry, &at(8, 2, 60), "/b", b"head b"), b);
        assert_eq!(identify(&mut registry, &at(7, 1, 55), "/c", b"head c"), other, "they changed places");
        // What is not the same in all is another file.
        for (facts, path, head) in [(at(9, 1, 51), "/a", "head a"), (at(9, 1, 50), "/b", "head a"), (at(9, 1, 50), "/a", "another")] {
            let key = identify(&mut registry, &facts, path, head.as_bytes());
            assert!(![a, b, other].contains(&key), "{path} {head}");
        }
    }

    #[test]
    fn what_is_on_a_device_that_nobody_sees_is_away() {
        let dir = tempfile::tempdir().unwrap();
        let mut registry = Registry::open(dir.path(), [1; 16]).unwrap();
        let here = key(&mut registry, &facts(1, 50), b"head");
        let there = key(&mut registry, &Facts { dev: 8, ..facts(2, 60) }, b"head");
        registry.see(&[7, 8], Nanos(0));
        assert_eq!(registry.away(Nanos(0)), []);
        let later = Nanos(0).after(AWAY_AFTER + Duration::from_secs(1));
        registry.see(&[7], later);
        assert_eq!(registry.away(later), [there]);
        assert_eq!(registry.away(later.after(AWAY_AFTER * 2)).len(), 2);
        assert_ne!(here, there);
    }

    #[test]
    fn torn_and_damaged_entries_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("files.wal");
        let mut registry = Registry::open(dir.path(), [1; 16]).unwrap();
        let keys = [1, 2, 3].map(|ino| key(&mut registry, &facts(ino, 0), b"head"));
        let changed = key(&mut registry, &facts(2, 0), b"new");
        drop(registry);
        let mut bytes = fs::read(&path).unwrap();
        bytes.truncate(bytes.len() - 1);
        bytes[HEADER_BYTES + 3] ^= 1;
        fs::write(&path, &bytes).unwrap();

        let mut registry = Registry::open(dir.path(), [1; 16]).unwrap();
        assert_eq!(registry.entries.len(), 2);
        assert_eq!(keys[0], key(&mut registry, &facts(1, 0), b"head"), "found again");
        assert_eq!(changed, key(&mut registry, &facts(2, 0), b"new"), "found again");
        fs::write(&path, b"not a register").unwrap();
        assert_eq!(Registry::open(dir.path(), [1; 16]).unwrap().entries.len(), 0);
    }

    #[test]
    fn what_is_forgotten_raises_the_first_generation() {
        let entry = Entry { born: 0, generation: 4, head_len: 0, head: [0; 16], path: 0 };
        let entries = (0..MAX_ENTRIES as u64).map(|ino| ((1, ino), entry)).collect();
        let mut log = Log { first_generation: 0, entries };
        log.compact();
        assert_eq!((log.entries.len(), log.first_generation), (MAX_ENTRIES / 2, 5));
        assert_eq!(log.entries.last().unwrap().0, (1, MAX_ENTRIES as u64 - 1));
    }
}
