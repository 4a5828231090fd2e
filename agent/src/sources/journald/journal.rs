//! One journal file that is open: where reading stands, for whom, and what is left.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use skidder_pipeline::position::{FileKey, Range, RangeSet};
use skidder_pipeline::source::{Chunk, Held, SinkSet};
use skidder_pipeline::stats::SourceStats;

use super::super::SourceContext;
use super::super::claims::Claim;
use super::super::tail::open::{Refusal, open_file};
use super::format::{Fault, Field, Header, Reader};
use super::{Inode, Settings};

/// How deep journals lie below the directory that is given: in one named after the machine's id, or in itself.
const MAX_DEPTH: usize = 1;

/// The most of an entry's fields beside its message: a program may give it a thousand.
const MAX_ENTRY_BYTES: usize = 1 << 20;

/// A journal.
pub(crate) struct Journal {
    pub path: PathBuf,
    pub inode: Inode,
    pub key: FileKey,
    /// The number of the entry to be read next.
    pub next: u64,
    /// The number of the first entry that is read at all.
    pub from: u64,
    /// Whether it has no name any more.
    pub gone: bool,
    /// What sinks are to be told that they hold, though they never got it.
    pub announcements: Vec<(SinkSet, Vec<Range>)>,
    pub(super) header: Header,
    reader: Reader,
    held: Vec<(SinkSet, RangeSet)>,
    claim: Claim,
    warned: bool,
    /// Where its entries end, if that is before what its header says; and what that was then.
    short: Option<(u64, u64)>,
}

/// In which order journals are read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Order {
    /// Those that nothing is added to.
    Archived,
    /// Those that may grow.
    Growing,
}

/// Why a journal is not read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreadable {
    #[error("{0}")]
    Refused(#[from] Refusal),
    #[error("{0}")]
    Fault(#[from] Fault),
    #[error("the source `{0}` reads it already")]
    Taken(String),
}

impl Journal {
    /// Opens the journal at `path`, to be read for `sinks` from where they stand; entries before the one that `from` gives are
    /// nobody's.
    pub(super) fn open(
        path: PathBuf,
        inode: Inode,
        context: &SourceContext,
        sinks: SinkSet,
        from: impl Fn(&Header) -> u64,
    ) -> Result<Journal, Unreadable> {
        let (file, facts) = open_file(&path, false)?;
        let claim = context.claims.claim(&context.name, inode).map_err(Unreadable::Taken)?;
        let header = Header::read(&file)?;
        let reader = Reader::new(Arc::new(file), &header);
        let mut journal = Journal {
            inode: (facts.dev, facts.ino),
            key: key(&context.epoch, &header.file_id),
            path,
            next: 0,
            from: from(&header),
            gone: facts.deleted,
            announcements: Vec::new(),
            header,
            reader,
            held: Vec::new(),
            claim,
            warned: false,
            short: None,
        };
        journal.begin(context, sinks);
        Ok(journal)
    }

    /// The same file held open once more, to be read for `sinks` from where they stand.
    pub(super) fn fork(&self, context: &SourceContext, sinks: SinkSet) -> Journal {
        self.pass_to(context, sinks, self.claim.clone())
    }

    /// The same with another claim.
    pub(super) fn pass_to(&self, context: &SourceContext, sinks: SinkSet, claim: Claim) -> Journal {
        let mut fork = Journal {
            path: self.path.clone(),
            inode: self.inode,
            key: self.key,
            next: 0,
            from: self.from,
            gone: self.gone,
            announcements: Vec::new(),
            header: self.header,
            reader: self.reader.fork(),
            held: Vec::new(),
            claim,
            warned: self.warned,
            short: self.short,
        };
        fork.begin(context, sinks);
        fork
    }

    /// Finds out what `sinks` hold. A sink that is new starts where the others are.
    fn begin(&mut self, context: &SourceContext, sinks: SinkSet) {
        let mut held = context.held.held(&self.key);
        held.retain(|(sink, set)| sinks.contains(*sink) && !set.is_empty());
        let holding = held.iter().fold(SinkSet::default(), |all, (sink, _)| all.or(SinkSet::only(*sink)));
        let new = context.new_sinks.and(sinks).without(holding);
        let mut told: Vec<(SinkSet, u64)> = Vec::new();
        if !held.is_empty() && !new.is_empty() {
            told.push((new, held.iter().map(|(_, set)| set.low_mark()).min().unwrap_or(0)));
        }
        let begun = held.iter().filter(|(_, set)| set.contains(0)).fold(new, |all, (sink, _)| all.or(SinkSet::only(*sink)));
        told.push((sinks.without(if holding.is_empty() { SinkSet::default() } else { begun }), self.from));
        self.held = held.into_iter().map(|(sink, set)| (SinkSet::only(sink), set)).collect();
        for (sinks, end) in told.into_iter().filter(|(sinks, end)| !sinks.is_empty() && *end > 0) {
            let mut set = RangeSet::default();
            set.insert(0, end, 0);
            self.announcements.push((sinks, vec![Range { file: self.key, start: 0, end, marker: 0 }]));
            self.held.push((sinks, set));
        }
    }

    /// Who needs what comes next, and up to which entry that is so; `None` where there is nothing to read now.
    pub(super) fn next_stretch(&mut self, sinks: SinkSet) -> Option<(SinkSet, u64)> {
        loop {
            if self.next >= self.header.entries {
                match self.reader.header() {
                    Ok(header) if header.file_id == self.header.file_id => self.header = header,
                    _ => return None,
                }
                if let Some((end, said)) = self.short
                    && self.header.entries == said
                {
                    self.header.entries = end;
                }
                if self.next >= self.header.entries {
                    return None;
                }
            }
            let (mut needs, mut end) = (sinks, self.header.entries);
            for (holders, set) in &self.held {
                if set.contains(self.next) {
                    needs = needs.without(*holders);
                }
                end = set.next_edge(self.next).map_or(end, |edge| edge.min(end));
            }
            if !needs.is_empty() {
                return Some((needs, end));
            }
            self.next = end;
        }
    }

    /// Makes a record of the next entry, where it is wanted.
    pub(super) fn take_entry(
        &mut self,
        settings: &Settings,
        stats: &SourceStats,
        fields: &mut Vec<Field>,
        chunk: &mut Chunk,
    ) -> Result<(), Fault> {
        let entry = self.reader.entry(self.next, self.header.entries)?;
        if !settings.wanted.takes_boot(&entry.boot_id) {
            return Ok(());
        }
        fields.clear();
        let (mut bytes, mut left_out) = (0, 0);
        let unread = self.reader.fields(&entry, settings.shape.most_bytes(), |field| {
            let len = field.name().len() + field.value().len();
            let is_message = field.name() == b"MESSAGE";
            if is_message || bytes + len <= MAX_ENTRY_BYTES {
                bytes += if is_message { 0 } else { len };
                fields.push(field);
            } else {
                left_out += 1;
            }
        })?;
        let unread = unread + left_out;
        if unread > 0 {
            stats.malformed.add(1);
        }
        fields.sort_by(|a, b| a.name().cmp(b.name()));
        if settings.wanted.takes(fields) {
            settings.shape.push(&mut chunk.batch, self.next, (entry.realtime, &entry.boot_id), fields, stats);
        }
        Ok(())
    }

    /// For sorting: archived ones first, and by their age.
    pub(super) fn order(&self) -> (Order, u64) {
        let order = if self.header.archived || self.gone || is_archived(&self.path) { Order::Archived } else { Order::Growing };
        (order, self.header.first_realtime)
    }

    /// Whether it is read, and will not grow.
    pub(super) fn is_done(&self) -> bool {
        self.next >= self.header.entries && self.announcements.is_empty() && self.order().0 == Order::Archived
    }

    /// How many entries are known to be there and not read.
    pub(super) fn unread(&self) -> u64 {
        self.header.entries.saturating_sub(self.next)
    }

    /// How much that is, by the size of the file.
    pub(super) fn unread_bytes(&self) -> u64 {
        if self.unread() == 0 { 0 } else { self.disk_bytes() / self.header.entries.max(1) * self.unread() }
    }

    /// Whether it was removed.
    pub(super) fn has_no_name(&self) -> bool {
        self.reader.file().metadata().is_ok_and(|metadata| metadata.nlink() == 0)
    }

    /// What it takes of the disk.
    pub(super) fn disk_bytes(&self) -> u64 {
        self.reader.file().metadata().map_or(0, |metadata| metadata.blocks() * 512)
    }

    /// Its entries end here, whatever its header says: that of a damaged journal may say anything.
    pub(super) fn ends_here(&mut self) {
        self.short = Some((self.next, self.header.entries));
        self.header.entries = self.next;
    }

    /// The disk does not give what it should: it is tried again.
    pub(super) fn failed(&mut self, error: &io::Error, context: &SourceContext) {
        if !std::mem::replace(&mut self.warned, true) {
            context.stats.failed_files.add(1);
            tracing::warn!(source = %context.name, path = %self.path.display(), %error, "cannot read a journal; it is tried again");
        }
    }

    /// An entry is passed over.
    pub(super) fn warn_of_damage(&mut self, fault: &Fault, context: &SourceContext) {
        if !std::mem::replace(&mut self.warned, true) {
            tracing::warn!(
                source = %context.name,
                path = %self.path.display(),
                entry = self.next,
                %fault,
                "a journal is damaged: what cannot be read of it is passed over and counted (`journalctl --verify` tells more)"
            );
        }
    }
}

/// The key of a journal. Machines that were made of one image have the same ids in files that they then write on differently,
/// so the id of the file alone would not do.
pub(super) fn key(epoch: &[u8; 16], file_id: &[u8; 16]) -> FileKey {
    FileKey::of(&[b"journald", epoch, file_id])
}

/// The number of the first entry that some of `sinks` does not hold.
pub(super) fn held_by_all(held: &dyn Held, sinks: SinkSet, key: &FileKey) -> u64 {
    if sinks.is_empty() {
        return u64::MAX;
    }
    let held = held.held(key);
    let low_mark = |sink| held.iter().find(|(index, _)| *index == sink).map_or(0, |(_, set)| set.low_mark());
    (0..SinkSet::CAPACITY).filter(|sink| sinks.contains(*sink)).map(low_mark).min().unwrap_or(0)
}

/// Whether a path is that of a journal: `system.journal`, `system@….journal`, and `….journal~` for one that was not closed.
pub(super) fn is_journal(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy());
    name.is_some_and(|name| name.trim_end_matches('~').ends_with(".journal"))
}

/// Whether its name says that journald is done with it.
fn is_archived(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().contains('@') || name.to_string_lossy().ends_with('~'))
}

pub(super) fn inode(path: &Path) -> Option<Inode> {
    let metadata = std::fs::symlink_metadata(path).ok()?;
    metadata.is_file().then(|| (metadata.dev(), metadata.ino()))
}

/// The journals below `roots`: in them, and in directories that are named after a machine's id.
pub(super) fn list(roots: &[PathBuf]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    roots.iter().for_each(|root| list_below(root, MAX_DEPTH, &mut found));
    found
}

fn list_below(dir: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        let path = entry.path();
        if kind.is_file() && is_journal(&path) {
            found.push(path);
        } else if kind.is_dir() && depth > 0 && is_machine(&entry.file_name().to_string_lossy()) {
            list_below(&path, depth - 1, found);
        }
    }
}

/// `<machine id>`, or `<machine id>.<namespace>`.
fn is_machine(name: &str) -> bool {
    name.len() >= 32 && name.bytes().take(32).all(|byte| byte.is_ascii_hexdigit()) && matches!(name.as_bytes().get(32), None | Some(b'.'))
}
