//! The log of positions, `positions.wal`: which frames are settled, what is held because of it, and the notes of transports.
//!
//! It is appended to without a sync, synced at most every `sync_after`, and written anew (beside it, synced, renamed into
//! place) when it has grown. What it says is the union of its records, so that a lost record only means to send or read
//! again. (A lost *forgotten* means to know more than needed.) What could not be written is kept in memory and tried again.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::ops::Range as Indices;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::format::{FILE_HEADER_BYTES, FileHeader, Kind, MAJOR, Salt};
use super::log::{self, Record};
use super::quarantine;
use super::seqs::SeqSet;
use crate::edge::Nanos;
use crate::fail;
use crate::frame::{BatchId, Cut};
use crate::fs::{File, Fs, read_exact_at};
use crate::position::{FileKey, Range, RangeSet};
use crate::sink::Note;

/// The name of the log in the sink's directory.
pub(super) const NAME: &str = "positions.wal";
const NEW_NAME: &str = "positions.wal.new";

/// What is held, by file.
pub type Held = BTreeMap<FileKey, RangeSet>;

/// Adds a range of a group that waits to `held`, where all that is held of its file is gathered.
pub(super) fn hold(held: &mut Held, positions: &Positions, range: &Range) {
    let all = held.entry(range.file).or_insert_with(|| positions.held.get(&range.file).cloned().unwrap_or_default());
    all.insert(range.start, range.end, range.marker);
}

/// How much the log grows, beyond twice its state, before it is written anew: rarely enough that its syncs do not matter,
/// and little to read at a start. This much space is set aside for it, so that positions can move on a full disk.
const GROWTH_BYTES: u64 = 1 << 20;

/// How much is kept in memory of what could not be written; with more, all of the state is written anew instead.
const MAX_UNWRITTEN_BYTES: usize = 256 * 1024;

/// How many keys have a note; those written longest ago go first. At 1 KiB a note this bounds the state to a few MiB.
const MAX_NOTES: usize = 4096;

/// How much of a log is read: far more than it grows to; a file that is larger is not ours.
const MAX_LOG_BYTES: u64 = 256 << 20;

/// Ranges or notes that go into one record of a state written anew.
const PER_RECORD: usize = 1024;

/// How long after a failure the disk is tried again.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The log and the state that it holds.
pub(super) struct Positions {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    sink: u64,
    epoch: [u8; 16],
    /// Of the file that is appended to; that of `epoch` once it was written anew.
    salt: Salt,
    /// `None`: nothing can be appended before the state has been written anew.
    file: Option<Box<dyn File>>,
    len: u64,
    /// Its length when it was last written anew.
    base: u64,
    name_synced: bool,
    rewrite: bool,
    unwritten: Vec<u8>,
    unsynced_since: Option<Nanos>,
    retry_at: Option<Nanos>,
    /// The first number that could be given since the last start: segments that begin below it were closed by then.
    pub floor: u64,
    /// Frames that are settled. May hold numbers of segments long gone; those below all segments as one stretch.
    pub settled: SeqSet,
    /// Frames that were synced, so that no crash can have torn them. May hold numbers of segments long gone too.
    pub synced: SeqSet,
    /// What is held because of that.
    pub held: Held,
    /// How frames that are not settled are sent in parts, by their numbers.
    cuts: BTreeMap<u64, Vec<Cut>>,
    notes: BTreeMap<String, (u64, Vec<u8>)>,
    notes_written: u64,
}

/// What was found of the log at the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Condition {
    /// All of it, or all but a torn end.
    Whole,
    /// There was none, or it was damaged: frames may be settled without being known as that.
    Lacking,
}

impl Positions {
    /// An empty log that nothing was read of or written yet.
    pub fn new(fs: Arc<dyn Fs>, dir: &Path, sink: u64, epoch: [u8; 16]) -> Positions {
        Positions {
            fs,
            dir: dir.to_owned(),
            sink,
            epoch,
            salt: Salt::of(&epoch),
            file: None,
            len: 0,
            base: 0,
            name_synced: true,
            rewrite: true,
            unwritten: Vec::new(),
            unsynced_since: None,
            retry_at: None,
            floor: 1,
            settled: SeqSet::default(),
            synced: SeqSet::default(),
            held: Held::new(),
            cuts: BTreeMap::new(),
            notes: BTreeMap::new(),
            notes_written: 0,
        }
    }

    /// Reads the log in `dir`. Damage is skipped, copied to quarantine, and healed by writing the state anew.
    /// Fails only for want of memory or descriptors: then it is better to wait than to send again.
    pub fn load(fs: Arc<dyn Fs>, dir: &Path, sink: u64, epoch: [u8; 16], now: Nanos) -> io::Result<(Positions, Condition)> {
        let mut positions = Positions::new(fs, dir, sink, epoch);
        let condition = match retried(|| positions.read(now)) {
            Ok(condition) => condition,
            Err(error) if is_shortage(&error) => return Err(error),
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::error!(path = %dir.join(NAME).display(), %error, "positions cannot be read: frames will be sent again");
                }
                Condition::Lacking
            }
        };
        positions.keep_up(now);
        Ok((positions, condition))
    }

    fn read(&mut self, now: Nanos) -> io::Result<Condition> {
        let path = self.dir.join(NAME);
        let file = self.fs.open(&path)?;
        let mut bytes = vec![0; file.size()?.min(MAX_LOG_BYTES) as usize];
        read_exact_at(&*file, &mut bytes, 0)?;
        let header = FileHeader::decode(Kind::Positions, &bytes);
        let mut start = FILE_HEADER_BYTES as usize;
        if let Some(header) = &header {
            (self.salt, self.floor, start) = (Salt::of(&header.epoch), header.first_seq, header.len as usize);
        }
        let salt = self.salt;
        let flaws = log::decode(&bytes, start, salt, |record| self.apply(record));
        if header.is_none() || flaws.damaged {
            tracing::warn!(path = %path.display(), "positions are damaged: some frames may be sent again");
            quarantine::keep(&*self.fs, &self.dir, self.settled.end(), &*file, 0..bytes.len() as u64);
            return Ok(Condition::Lacking);
        }
        // Synced, so that no power loss brings the torn end back, completed by the zero bytes of a length that was written alone.
        if flaws.end < bytes.len() && file.truncate(flaws.end as u64).and_then(|()| file.sync_data()).is_err() {
            return Ok(Condition::Whole); // and is written anew
        }
        (self.file, self.len, self.base, self.rewrite) = (Some(file), flaws.end as u64, start as u64, false);
        // It may have been written shortly before the process died.
        self.unsynced_since = Some(now);
        Ok(Condition::Whole)
    }

    /// Says that frames `seqs` are settled, that `ranges` are held because of it, and keeps `notes`, all as one record.
    pub fn settle(&mut self, seqs: Indices<u64>, ranges: Vec<Range>, notes: Vec<Note>, now: Nanos) {
        log::encode_settled(seqs.clone(), &ranges, &notes, self.salt, &mut self.unwritten);
        self.apply(Record::Settled { seqs, ranges, notes });
        self.write(now);
    }

    /// Says that frames `seqs` are on the disk for good.
    pub fn mark_synced(&mut self, seqs: Indices<u64>, now: Nanos) {
        if !self.synced.missing(seqs.clone()).is_empty() {
            log::encode_synced(&seqs, self.salt, &mut self.unwritten);
            self.apply(Record::Synced(seqs));
            self.write(now);
        }
    }

    /// Says that a piece of frame `seq` is sent as parts.
    pub fn cut(&mut self, seq: u64, cut: Cut, now: Nanos) {
        log::encode_cut(seq, &cut, self.salt, &mut self.unwritten);
        self.apply(Record::Cut { seq, cut });
        self.write(now);
    }

    /// How frame `seq` was cut, in order.
    pub fn cuts(&self, seq: u64, frame: BatchId) -> Vec<Cut> {
        self.cuts.get(&seq).into_iter().flatten().filter(|cut| cut.frame == frame).cloned().collect()
    }

    /// One past the largest number of a frame that was cut.
    pub fn cuts_end(&self) -> u64 {
        self.cuts.last_key_value().map_or(0, |(seq, _)| seq + 1)
    }

    /// Says that from now on new frames have numbers from `seq`.
    pub fn set_floor(&mut self, seq: u64, now: Nanos) {
        if seq > self.floor {
            self.settle(seq..seq, Vec::new(), Vec::new(), now);
        }
    }

    /// Says that `file` is gone for good.
    pub fn forget(&mut self, file: &FileKey, now: Nanos) {
        if self.held.contains_key(file) {
            log::encode_forgotten(file, self.salt, &mut self.unwritten);
            self.apply(Record::Forgotten(*file));
            self.write(now);
        }
    }

    /// Writes the state anew.
    #[cfg(test)]
    pub fn rewrite_now(&mut self, now: Nanos) {
        self.rewrite = true;
        self.keep_up(now);
    }

    /// Says that all frames below `seq` are settled; for the memory and the next state, no record.
    pub fn settled_below(&mut self, seq: u64) {
        self.settled.insert(0..seq);
        self.cuts = self.cuts.split_off(&seq);
        // No longer of interest, and so one stretch of many.
        if self.synced.end() > 0 {
            self.synced.insert(0..seq);
        }
    }

    /// The notes, by key.
    pub fn notes(&self) -> Vec<Note> {
        self.notes.iter().map(|(key, (_, value))| Note { key: key.clone(), value: value.clone() }).collect()
    }

    /// Does what is due; says when to call again.
    pub fn tick(&mut self, now: Nanos, sync_after: Duration) -> Option<Nanos> {
        if self.retry_at.is_none_or(|at| at <= now) {
            self.retry_at = None;
            self.keep_up(now);
            if self.unsynced_since.is_some_and(|since| since.after(sync_after) <= now) {
                self.sync_file(now);
            }
        }
        let behind = self.rewrite || self.file.is_none() || !self.unwritten.is_empty();
        let sync_at = self.unsynced_since.map(|since| since.after(sync_after));
        match self.retry_at {
            Some(at) => Some(at),
            None if behind => Some(now.after(RETRY_AFTER)),
            None => sync_at,
        }
    }

    /// Puts all of it on the disk for good.
    pub fn sync(&mut self, now: Nanos) {
        self.keep_up(now);
        if self.unsynced_since.is_some() {
            self.sync_file(now);
        }
        if self.rewrite {
            self.keep_up(now);
        }
    }

    /// Whether the disk has all of it for good.
    pub fn is_synced(&self) -> bool {
        self.file.is_some() && self.unwritten.is_empty() && !self.rewrite && self.unsynced_since.is_none()
    }

    fn apply(&mut self, record: Record) {
        match record {
            Record::Settled { seqs, ranges, notes } => {
                if seqs.is_empty() {
                    self.floor = self.floor.max(seqs.end);
                }
                let over: Vec<u64> = self.cuts.range(seqs.clone()).map(|(seq, _)| *seq).collect();
                over.iter().for_each(|seq| drop(self.cuts.remove(seq)));
                self.settled.insert(seqs);
                for range in ranges {
                    self.held.entry(range.file).or_default().insert(range.start, range.end, range.marker);
                }
                notes.into_iter().for_each(|note| self.note(note));
            }
            Record::Forgotten(file) => {
                self.held.remove(&file);
            }
            Record::Synced(seqs) => self.synced.insert(seqs),
            Record::Cut { seq, cut } if !self.settled.contains(seq) => self.cuts.entry(seq).or_default().push(cut),
            Record::Cut { .. } => {}
        }
    }

    fn note(&mut self, note: Note) {
        self.notes_written += 1;
        if note.value.is_empty() {
            self.notes.remove(&note.key);
            return;
        }
        self.notes.insert(note.key, (self.notes_written, note.value));
        if self.notes.len() > MAX_NOTES {
            let oldest = self.notes.iter().min_by_key(|(_, (written, _))| *written).map(|(key, _)| key.clone());
            oldest.and_then(|key| self.notes.remove(&key));
        }
    }

    /// Writes the state anew if that is called for, or else what is not written yet.
    fn keep_up(&mut self, now: Nanos) {
        let is_due = self.file.is_none() || self.rewrite || self.len > 2 * self.base + GROWTH_BYTES;
        if is_due && let Err(error) = self.write_anew(now) {
            self.failed("written anew", &error, now);
        }
        self.write(now);
    }

    /// Appends what is not written yet. If that cannot be, it waits for [`Positions::tick`].
    fn write(&mut self, now: Nanos) {
        let outcome = match &self.file {
            _ if self.unwritten.is_empty() => return,
            Some(file) => file.append(&mut [IoSlice::new(&self.unwritten)]),
            None => Err(io::ErrorKind::NotConnected.into()),
        };
        match outcome {
            Ok(()) => {
                self.len += self.unwritten.len() as u64;
                self.unwritten.clear();
                self.unsynced_since.get_or_insert(now);
            }
            Err(error) => {
                if let Some(file) = &self.file {
                    if file.truncate(self.len).is_err() {
                        self.file = None;
                    }
                    self.failed("appended to", &error, now);
                }
                if self.unwritten.len() > MAX_UNWRITTEN_BYTES {
                    self.unwritten = Vec::new();
                    self.rewrite = true;
                }
            }
        }
    }

    fn write_anew(&mut self, now: Nanos) -> io::Result<()> {
        let (path, new_path) = (self.dir.join(NAME), self.dir.join(NEW_NAME));
        let salt = Salt::of(&self.epoch);
        let bytes = self.encode(salt);
        match self.fs.unlink(&new_path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = self.fs.create(&new_path)?;
        // Best effort: not all file systems can.
        let _ = file.reserve(3 * bytes.len() as u64 + GROWTH_BYTES);
        file.append(&mut [IoSlice::new(&bytes)])?;
        file.sync_data()?;
        fail::point(fail::LOG_WRITTEN);
        self.fs.rename(&new_path, &path)?;
        fail::point(fail::LOG_RENAMED);
        (self.salt, self.file, self.len, self.base, self.rewrite) = (salt, Some(file), bytes.len() as u64, bytes.len() as u64, false);
        self.unwritten.clear();
        self.name_synced = self.fs.sync_dir(&self.dir).is_ok();
        self.unsynced_since = (!self.name_synced).then_some(now);
        Ok(())
    }

    fn encode(&self, salt: Salt) -> Vec<u8> {
        let mut out = FileHeader::new(Kind::Positions, self.sink, self.epoch, self.floor).encode().to_vec();
        for seqs in self.settled.stretches() {
            log::encode_settled(seqs, &[], &[], salt, &mut out);
        }
        self.synced.stretches().for_each(|seqs| log::encode_synced(&seqs, salt, &mut out));
        for (seq, cuts) in &self.cuts {
            cuts.iter().for_each(|cut| log::encode_cut(*seq, cut, salt, &mut out));
        }
        let stretches = self.held.iter().flat_map(|(file, set)| set.stretches().iter().map(|held| (*file, *held)));
        let ranges: Vec<Range> =
            stretches.map(|(file, held)| Range { file, start: held.start, end: held.end, marker: held.marker }).collect();
        for some in ranges.chunks(PER_RECORD) {
            log::encode_settled(0..0, some, &[], salt, &mut out);
        }
        // In the order of their writing, so that the oldest stay the oldest.
        let mut notes: Vec<_> = self.notes.iter().collect();
        notes.sort_by_key(|(_, (written, _))| *written);
        let notes: Vec<Note> = notes.into_iter().map(|(key, (_, value))| Note { key: key.clone(), value: value.clone() }).collect();
        for some in notes.chunks(PER_RECORD) {
            log::encode_settled(0..0, &[], some, salt, &mut out);
        }
        out
    }

    fn sync_file(&mut self, now: Nanos) {
        let Some(file) = &self.file else { return };
        let outcome = file.sync_data().and_then(|()| if self.name_synced { Ok(()) } else { self.fs.sync_dir(&self.dir) });
        match outcome {
            Ok(()) => (self.unsynced_since, self.name_synced) = (None, true),
            Err(error) => {
                // What such a file holds on the disk is unknown, and another sync might hide it: a new one is written.
                self.rewrite = true;
                self.unsynced_since = None;
                self.failed("synced", &error, now);
            }
        }
    }

    fn failed(&mut self, what: &str, error: &io::Error, now: Nanos) {
        if self.retry_at.is_none() {
            let path = self.dir.join(NAME);
            tracing::error!(path = %path.display(), %error, "positions cannot be {what}: free the disk or mend it; trying again");
        }
        self.retry_at = Some(now.after(RETRY_AFTER));
    }
}

/// How often a file is read before what cannot be read is taken for damaged.
pub(super) const READ_TRIES: u32 = 3;

/// Tries again what fails for no reason that will pass or is known.
pub(super) fn retried<T>(mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for _ in 1..READ_TRIES {
        match attempt() {
            Err(error) if !is_shortage(&error) && error.kind() != io::ErrorKind::NotFound => {}
            outcome => return outcome,
        }
    }
    attempt()
}

/// Whether `error` is a want of memory or descriptors, which passes and says nothing about the file.
pub(super) fn is_shortage(error: &io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::MFILE, Errno::NFILE, Errno::NOMEM].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// The major version of the file at `path`, if it is newer than ours.
pub(super) fn newer_version(fs: &dyn Fs, path: &Path, kind: Kind) -> Option<u16> {
    let file = fs.open(path).ok()?;
    FileHeader::read(kind, &*file, file.size().ok()?).map(|header| header.major).filter(|major| *major > MAJOR)
}
