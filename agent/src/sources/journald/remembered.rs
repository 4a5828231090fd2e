//! What is remembered of journals across restarts, to say what journald removed before it was read.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use skidder_pipeline::edge::Nanos;

use super::format::Header;
use super::journal::Journal;
use super::record::hexadecimal;

/// How often changes are written down. What is older only makes the count of what was lost smaller.
const SAVE_INTERVAL: Duration = Duration::from_secs(10);
/// The most files that are kept in mind: journald keeps 100 by default.
const MAX_FILES: usize = 10_000;

/// The journals that were met, by the ids of their files. Below the state directory: `sources/journald.json`.
#[derive(Clone, Debug)]
pub(super) struct Remembered {
    path: PathBuf,
    files: BTreeMap<String, Known>,
    is_new: bool,
    changed: bool,
    next_save: Nanos,
}

/// What a journal was when it was last seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Known {
    pub(super) entries: u64,
    seqnum_id: String,
    last_seqnum: u64,
    /// The number of the first entry that is read at all.
    begin: u64,
    /// Where it lies.
    pub(super) dir: PathBuf,
}

impl Remembered {
    pub(super) fn load(state_dir: &Path) -> Remembered {
        let path = state_dir.join("journald.json");
        let text = std::fs::read(&path).ok();
        let is_new = text.is_none();
        let files = text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        Remembered { path, files, is_new, changed: false, next_save: Nanos(0) }
    }

    /// Whether no journal was ever met.
    pub(super) fn is_new(&self) -> bool {
        self.is_new
    }

    /// How many entries are lost: of files that are not among `present`, those that `read` (how many sinks hold of a file) does
    /// not count, and those whose numbers are missing between what was seen last and what is there.
    pub(super) fn lost(&mut self, present: &[Header], read: impl Fn(&[u8; 16]) -> u64) -> u64 {
        let is_there = |id: &str| present.iter().any(|header| hexadecimal(&header.file_id) == id);
        let mut lost = 0;
        for (id, known) in &self.files {
            if !is_there(id)
                && let Some(file_id) = parse(id)
            {
                lost += known.entries.saturating_sub(read(&file_id).max(known.begin));
            }
        }
        let mut last: BTreeMap<&str, u64> = BTreeMap::new();
        for known in self.files.values() {
            let seqnum = last.entry(&known.seqnum_id).or_default();
            *seqnum = known.last_seqnum.max(*seqnum);
        }
        for (seqnum_id, last) in last {
            // Files whose numbers are beyond; one that begins before reaches over the gap, if there is one.
            let beyond = present.iter().filter(|header| hexadecimal(&header.seqnum_id) == seqnum_id && header.last_seqnum > last);
            let next = beyond.map(|header| header.first_seqnum).min().unwrap_or(0);
            lost += next.saturating_sub(last + 1);
        }
        // Told once.
        let gone: Vec<String> = self.files.keys().filter(|id| !is_there(id)).cloned().collect();
        gone.iter().for_each(|id| drop(self.files.remove(id)));
        self.changed |= !gone.is_empty();
        lost
    }

    /// The number of the first entry of a journal that is read: all, but for those that were there before the first start where it
    /// begins `from_end`.
    pub(super) fn begin(&self, header: &Header, from_end: bool) -> u64 {
        match self.files.get(&hexadecimal(&header.file_id)) {
            Some(known) => known.begin,
            None if from_end => header.entries,
            None => 0,
        }
    }

    /// Notes what is open.
    pub(super) fn note(&mut self, open: &[Journal]) {
        for journal in open {
            let header = &journal.header;
            let known = Known {
                entries: header.entries,
                seqnum_id: hexadecimal(&header.seqnum_id),
                last_seqnum: header.last_seqnum,
                begin: journal.from,
                dir: journal.path.parent().unwrap_or(Path::new("")).to_owned(),
            };
            let id = hexadecimal(&header.file_id);
            if self.files.get(&id) != Some(&known) && (self.files.len() < MAX_FILES || self.files.contains_key(&id)) {
                self.files.insert(id, known);
                self.changed = true;
            }
        }
    }

    /// The ids of all files that are remembered.
    pub(super) fn ids(&self) -> impl Iterator<Item = [u8; 16]> + '_ {
        self.files.keys().filter_map(|id| parse(id))
    }

    /// Forgets the files of which `is_gone` says so.
    pub(super) fn drop_gone(&mut self, is_gone: impl Fn(&[u8; 16], &Known) -> bool) {
        let before = self.files.len();
        self.files.retain(|id, known| parse(id).is_some_and(|file_id| !is_gone(&file_id, known)));
        self.changed |= self.files.len() < before;
    }

    /// Writes it down where it changed, and not more often than is worth it.
    pub(super) fn save(&mut self, now: Nanos) {
        if !self.changed && !self.is_new || now < self.next_save {
            return;
        }
        match self.write() {
            Ok(()) => (self.changed, self.is_new) = (false, false),
            Err(error) => tracing::warn!(path = %self.path.display(), %error, "cannot write down which journals there are"),
        }
        self.next_save = now.after(SAVE_INTERVAL);
    }

    fn write(&self) -> std::io::Result<()> {
        let dir = self.path.parent().unwrap_or(Path::new("."));
        crate::state::make_private_dir(dir).map_err(std::io::Error::other)?;
        let new = self.path.with_extension("new");
        let file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        let mut file = std::io::BufWriter::new(file);
        serde_json::to_writer(&mut file, &self.files)?;
        file.flush()?;
        std::fs::rename(&new, &self.path)
    }
}

fn parse(id: &str) -> Option<[u8; 16]> {
    let mut out = [0; 16];
    for (index, byte) in out.iter_mut().enumerate() {
        *byte = u8::from_str_radix(id.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(out)
}
