//! A file system in memory that knows what a crash would leave: for tests and for the simulation.
//!
//! Each file has two contents: what a reader sees (the page cache) and what is on the disk, and each name likewise. A write
//! goes to the cache and is remembered as not written back; a sync writes back. [`SimFs::lose_power`] leaves what was
//! written back and, by chance, any of the sectors and names that were not, in any order. A `kill -9` leaves the cache: drop
//! what used the file system and go on. [`SimFs::fault`] makes calls fail; [`Fault::killed`] makes all calls do nothing from
//! the n-th on, with any beginning of the write that was under way: a process that dies there.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use super::{File, Fs, Space};

/// What a disk writes at once.
const SECTOR_BYTES: usize = 512;

/// The simulated file system. Clones are the same one.
#[derive(Clone, Default)]
pub struct SimFs {
    state: Arc<Mutex<State>>,
}

/// Which calls fail, and how.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// How many calls go well first.
    pub after: u64,
    /// How many fail then.
    pub count: u64,
    /// With what.
    pub errno: Errno,
    /// Whether reads fail too; else only calls that change something or sync.
    pub reads: bool,
}

impl Fault {
    /// One call fails: the one after `after` that go well.
    pub fn once(after: u64, errno: Errno) -> Fault {
        Fault { after, count: 1, errno, reads: false }
    }

    /// The process dies in the call after `after` that go well.
    pub fn killed(after: u64) -> Fault {
        Fault { after, count: u64::MAX, errno: Errno::IO, reads: true }
    }
}

#[derive(Default)]
struct State {
    dirs: BTreeSet<PathBuf>,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    unsynced_names: Vec<Naming>,
    inodes: HashMap<u64, Inode>,
    next_inode: u64,
    fault: Option<Fault>,
    capacity_bytes: Option<u64>,
    chance: u64,
    syncs: u64,
    read_bytes: u64,
}

/// A change of names that is not on the disk yet. It is in the directories of all paths that it names.
#[derive(Clone)]
enum Naming {
    Linked(PathBuf, u64),
    Unlinked(PathBuf, u64),
    Renamed(PathBuf, PathBuf, u64),
}

#[derive(Clone, Default)]
struct Inode {
    cache: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
    /// Bytes that reading fails at.
    unreadable: Option<Range<usize>>,
}

#[derive(Clone)]
enum Change {
    Wrote { at: usize, bytes: Vec<u8> },
    Cut(usize),
}

impl SimFs {
    /// An empty one.
    pub fn new() -> SimFs {
        SimFs::default()
    }

    /// Makes calls fail from now on; `None` makes all go well again.
    pub fn fault(&self, fault: Option<Fault>) {
        self.lock().fault = fault;
    }

    /// Bounds the bytes of all files; beyond, appends fail with ENOSPC after what still fits.
    pub fn set_capacity_bytes(&self, capacity: Option<u64>) {
        self.lock().capacity_bytes = capacity;
    }

    /// What is left when the power goes: what was synced, and by chance (from `seed`) parts of what was not.
    pub fn lose_power(&self, seed: u64) {
        let mut state = self.lock();
        let state = &mut *state;
        state.chance = seed;
        // How much of what is in the cache happens to be on the disk: none, all, or some.
        let odds = [0, 1, 4, 8, 15, 16][roll(&mut state.chance, 6) as usize];
        for naming in std::mem::take(&mut state.unsynced_names) {
            if roll(&mut state.chance, 16) < odds {
                naming.apply(&mut state.durable_names);
            }
        }
        state.names = state.durable_names.clone();
        let mut inodes: Vec<u64> = state.inodes.keys().copied().collect();
        inodes.sort_unstable();
        for number in inodes {
            if let Some(inode) = state.inodes.get_mut(&number) {
                inode.lose_power(odds, &mut state.chance);
            }
        }
        state.fault = None;
    }

    /// An independent copy, as it is now.
    pub fn fork(&self) -> SimFs {
        let state = self.lock();
        SimFs {
            state: Arc::new(Mutex::new(State {
                dirs: state.dirs.clone(),
                names: state.names.clone(),
                durable_names: state.durable_names.clone(),
                unsynced_names: state.unsynced_names.clone(),
                inodes: state.inodes.clone(),
                ..State { next_inode: state.next_inode, chance: state.chance, ..State::default() }
            })),
        }
    }

    /// All files by path with what a reader sees in them.
    pub fn contents(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let state = self.lock();
        let content = |inode| state.inodes.get(inode).map(|i| i.cache.clone()).unwrap_or_default();
        state.names.iter().map(|(path, inode)| (path.clone(), content(inode))).collect()
    }

    /// Puts `bytes` in place of a file's content, on the disk too: damage, or a file from elsewhere.
    pub fn replace(&self, path: &Path, bytes: &[u8]) {
        let mut state = self.lock();
        let number = match state.names.get(path) {
            Some(&number) => number,
            None => state.new_inode(path),
        };
        state.durable_names.insert(path.to_owned(), number);
        state.inodes.insert(number, Inode { cache: bytes.to_vec(), durable: bytes.to_vec(), ..Inode::default() });
    }

    /// Whether a fault is still to come.
    pub fn is_faulty(&self) -> bool {
        self.lock().fault.is_some_and(|fault| fault.count > 0)
    }

    /// Makes reading fail wherever it meets these bytes of a file, for good.
    pub fn make_unreadable(&self, path: &Path, bytes: Range<usize>) {
        let mut state = self.lock();
        if let Some(inode) = state.names.get(path).copied().and_then(|number| state.inodes.get_mut(&number)) {
            inode.unreadable = Some(bytes);
        }
    }

    /// How often a file or directory was synced so far.
    pub fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    /// Whether the process died: see [`Fault::killed`].
    pub fn is_dead(&self) -> bool {
        self.lock().fault.is_some_and(|fault| (u64::MAX / 2..u64::MAX).contains(&fault.count))
    }

    /// How many bytes of files were read so far.
    pub fn read_bytes(&self) -> u64 {
        self.lock().read_bytes
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Counts a call down to the fault, and fails where it has come.
    fn call(&mut self, reads: bool) -> io::Result<()> {
        let Some(fault) = &mut self.fault else { return Ok(()) };
        if reads && !fault.reads {
            return Ok(());
        }
        if fault.after > 0 {
            fault.after -= 1;
            return Ok(());
        }
        if fault.count == 0 {
            self.fault = None;
            return Ok(());
        }
        fault.count -= 1;
        Err(fault.errno.into())
    }

    /// Whether the call that just failed was the first of its fault: a killed process does nothing in the ones after.
    fn first_failure(&self) -> bool {
        self.fault.as_ref().is_some_and(|fault| fault.count == 0 || fault.count == u64::MAX - 1)
    }

    fn new_inode(&mut self, path: &Path) -> u64 {
        self.next_inode += 1;
        self.names.insert(path.to_owned(), self.next_inode);
        self.inodes.insert(self.next_inode, Inode::default());
        self.next_inode
    }

    fn used_bytes(&self) -> u64 {
        self.names.values().filter_map(|number| self.inodes.get(number)).map(|inode| inode.cache.len() as u64).sum()
    }
}

impl Naming {
    fn apply(self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            Naming::Linked(path, inode) => {
                names.insert(path, inode);
            }
            Naming::Unlinked(path, inode) => {
                if names.get(&path) == Some(&inode) {
                    names.remove(&path);
                }
            }
            Naming::Renamed(from, to, inode) => {
                if names.get(&from) == Some(&inode) {
                    names.remove(&from);
                }
                names.insert(to, inode);
            }
        }
    }

    fn is_in(&self, dir: &Path) -> bool {
        match self {
            Naming::Linked(path, _) | Naming::Unlinked(path, _) => path.parent() == Some(dir),
            Naming::Renamed(from, to, _) => from.parent() == Some(dir) || to.parent() == Some(dir),
        }
    }
}

impl Inode {
    fn lose_power(&mut self, odds: u64, chance: &mut u64) {
        let size = self.cache.len();
        for change in std::mem::take(&mut self.unsynced) {
            match change {
                Change::Cut(to) if roll(chance, 16) < odds => self.durable.truncate(to),
                Change::Cut(_) => {}
                Change::Wrote { at, bytes } => {
                    let mut from = 0;
                    while from < bytes.len() {
                        // To the end of the sector that this byte of the file is in.
                        let to = (from + SECTOR_BYTES - (at + from) % SECTOR_BYTES).min(bytes.len());
                        if roll(chance, 16) < odds {
                            let end = at + to;
                            if self.durable.len() < end {
                                self.durable.resize(end, 0);
                            }
                            self.durable[at + from..end].copy_from_slice(&bytes[from..to]);
                        }
                        from = to;
                    }
                }
            }
        }
        // The length may have been written without what it covers.
        if self.durable.len() < size && roll(chance, 4) == 0 {
            self.durable.resize(size, 0);
        }
        self.cache = self.durable.clone();
    }
}

/// A number below `bound`, from a SplitMix64 whose state is `chance`.
fn roll(chance: &mut u64, bound: u64) -> u64 {
    *chance = chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *chance;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) % bound
}

fn absent<T>() -> io::Result<T> {
    Err(Errno::NOENT.into())
}

impl Fs for SimFs {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.call(false)?;
        if dir.ancestors().any(|above| state.names.contains_key(above)) {
            return Err(Errno::NOTDIR.into());
        }
        state.dirs.extend(dir.ancestors().map(Path::to_owned));
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut state = self.lock();
        state.call(true)?;
        if !state.dirs.contains(dir) {
            return if state.names.contains_key(dir) { Err(Errno::NOTDIR.into()) } else { absent() };
        }
        let children = state.names.keys().chain(state.dirs.iter()).filter(|path| path.parent() == Some(dir));
        Ok(children.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let mut state = self.lock();
        state.call(false)?;
        if state.names.contains_key(path) || state.dirs.contains(path) {
            return Err(Errno::EXIST.into());
        }
        if !path.parent().is_some_and(|dir| state.dirs.contains(dir)) {
            return absent();
        }
        let inode = state.new_inode(path);
        state.unsynced_names.push(Naming::Linked(path.to_owned(), inode));
        Ok(Box::new(SimFile { fs: self.clone(), inode }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let mut state = self.lock();
        state.call(true)?;
        match state.names.get(path) {
            Some(&inode) => Ok(Box::new(SimFile { fs: self.clone(), inode })),
            None => absent(),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.call(false)?;
        if state.dirs.contains(from) {
            return state.rename_dir(from, to);
        }
        let Some(inode) = state.names.remove(from) else { return absent() };
        state.names.insert(to.to_owned(), inode);
        state.unsynced_names.push(Naming::Renamed(from.to_owned(), to.to_owned(), inode));
        Ok(())
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.call(false)?;
        let Some(inode) = state.names.remove(path) else { return absent() };
        state.unsynced_names.push(Naming::Unlinked(path.to_owned(), inode));
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.call(false)?;
        state.syncs += 1;
        let (due, later) = std::mem::take(&mut state.unsynced_names).into_iter().partition(|naming| naming.is_in(dir));
        state.unsynced_names = later;
        let due: Vec<Naming> = due;
        for naming in due {
            naming.apply(&mut state.durable_names);
        }
        Ok(())
    }

    fn space(&self, _: &Path) -> io::Result<Space> {
        let state = self.lock();
        let total = state.capacity_bytes.unwrap_or(u64::MAX);
        Ok(Space { free: total.saturating_sub(state.used_bytes()), total })
    }
}

impl State {
    /// Directories are on the disk at once here: nothing of interest hangs on their being lost.
    fn rename_dir(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        if self.dirs.contains(to) {
            return Err(Errno::NOTEMPTY.into());
        }
        let moved = |path: &Path| path.strip_prefix(from).map(|rest| to.join(rest)).unwrap_or_else(|_| path.to_owned());
        self.dirs = self.dirs.iter().map(|path| moved(path)).collect();
        self.names = self.names.iter().map(|(path, inode)| (moved(path), *inode)).collect();
        self.durable_names = self.names.clone();
        self.unsynced_names.clear();
        Ok(())
    }
}

struct SimFile {
    fs: SimFs,
    inode: u64,
}

impl SimFile {
    fn with<T>(&self, reads: bool, work: impl FnOnce(&mut Inode) -> T) -> io::Result<T> {
        let mut state = self.fs.lock();
        state.call(reads)?;
        match state.inodes.get_mut(&self.inode) {
            Some(inode) => Ok(work(inode)),
            None => absent(),
        }
    }
}

impl File for SimFile {
    fn size(&self) -> io::Result<u64> {
        self.with(true, |inode| inode.cache.len() as u64)
    }

    fn append(&self, parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        let mut state = self.fs.lock();
        let mut bytes = Vec::new();
        parts.iter().for_each(|part| bytes.extend_from_slice(part));
        let mut outcome = state.call(false);
        if outcome.is_err() {
            let kept = if state.first_failure() { roll(&mut state.chance, bytes.len().max(1) as u64) } else { 0 };
            bytes.truncate(kept as usize);
        } else if let Some(capacity) = state.capacity_bytes {
            let left = capacity.saturating_sub(state.used_bytes());
            if (bytes.len() as u64) > left {
                bytes.truncate(left as usize);
                outcome = Err(Errno::NOSPC.into());
            }
        }
        if let Some(inode) = state.inodes.get_mut(&self.inode)
            && !bytes.is_empty()
        {
            let at = inode.cache.len();
            inode.cache.extend_from_slice(&bytes);
            inode.unsynced.push(Change::Wrote { at, bytes });
        }
        outcome
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.fs.lock().read_bytes += buffer.len() as u64;
        self.with(true, |inode| {
            let from = inode.cache.get(offset as usize..).unwrap_or_default();
            let count = from.len().min(buffer.len());
            let (start, end) = (offset as usize, offset as usize + count);
            if inode.unreadable.as_ref().is_some_and(|bad| bad.start < end && start < bad.end) {
                return Err(Errno::IO.into());
            }
            buffer[..count].copy_from_slice(&from[..count]);
            Ok(count)
        })?
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.with(false, |inode| {
            inode.cache.resize(size as usize, 0);
            inode.unsynced.push(Change::Cut(size as usize));
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.fs.lock().syncs += 1;
        self.with(false, |inode| {
            inode.durable = inode.cache.clone();
            inode.unsynced.clear();
        })
    }

    fn reserve(&self, _size: u64) -> io::Result<()> {
        self.with(false, |_| ())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn write(file: &dyn File, bytes: &[u8]) {
        file.append(&mut [IoSlice::new(bytes)]).unwrap();
    }

    #[test]
    fn power_loss_keeps_what_was_synced_and_some_of_the_rest() {
        let (mut lost, mut kept, mut torn) = (0, 0, 0);
        for seed in 0..200 {
            let fs = SimFs::new();
            fs.create_dir_all(Path::new("/d")).unwrap();
            let file = fs.create(Path::new("/d/f")).unwrap();
            write(&*file, &[1; 1000]);
            file.sync_data().unwrap();
            fs.sync_dir(Path::new("/d")).unwrap();
            write(&*file, &[2; 3000]);
            fs.lose_power(seed);
            let bytes = fs.contents().remove(Path::new("/d/f")).unwrap();
            assert_eq!(bytes[..1000], [1; 1000]);
            match bytes[1000..].iter().filter(|b| **b == 2).count() {
                0 => lost += 1,
                3000 => kept += 1,
                _ => torn += 1,
            }
        }
        assert!(lost > 20 && kept > 20 && torn > 20, "{lost} {kept} {torn}");
    }

    #[test]
    fn names_are_lost_unless_their_directory_was_synced() {
        let mut lost = 0;
        for seed in 0..50 {
            let fs = SimFs::new();
            fs.create_dir_all(Path::new("/d")).unwrap();
            fs.create(Path::new("/d/a")).unwrap();
            fs.sync_dir(Path::new("/d")).unwrap();
            fs.create(Path::new("/d/b")).unwrap();
            fs.lose_power(seed);
            let names = fs.list(Path::new("/d")).unwrap();
            assert!(names.contains(&"a".to_owned()));
            lost += u32::from(!names.contains(&"b".to_owned()));
        }
        assert!(lost > 5 && lost < 50, "{lost}");
    }

    #[test]
    fn faults_hit_the_call_they_name_and_leave_part_of_a_write() {
        let fs = SimFs::new();
        fs.create_dir_all(Path::new("/d")).unwrap();
        let file = fs.create(Path::new("/d/f")).unwrap();
        fs.fault(Some(Fault::once(1, Errno::IO)));
        write(&*file, &[1; 10]);
        assert_eq!(file.append(&mut [IoSlice::new(&[2; 10])]).unwrap_err().raw_os_error(), Some(5));
        assert!((10..20).contains(&file.size().unwrap()));
        write(&*file, &[3; 10]);
        fs.set_capacity_bytes(Some(file.size().unwrap() + 4));
        let error = file.append(&mut [IoSlice::new(&[4; 10])]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        fs.set_capacity_bytes(None);
        fs.fault(Some(Fault::killed(0)));
        let size = file.append(&mut [IoSlice::new(&[5; 10])]).err().and_then(|_| file.size().ok());
        assert_eq!(size, None);
    }
}
