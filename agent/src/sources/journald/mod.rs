//! The `journald` source: the journal of systemd, read from its files.
//!
//! The unit is a journal file. A position is the number of an entry in it, the first being 0, and a file is known by the
//! random id in its header, which renaming keeps. So positions are ranges per file as those of any log are, every sink has
//! its own, and a crash costs neither an entry nor a copy. Files are held open until they are read, whatever journald
//! removes meanwhile. A sink that fell behind gets a reader of its own, which holds the same files.

mod format;
pub(super) mod journal;
mod record;
mod remembered;
#[cfg(test)]
mod tests;
mod wanted;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use skidder_pipeline::edge::Nanos;
use skidder_pipeline::position::{FileKey, Range};
use skidder_pipeline::problem::Problem;
use skidder_pipeline::shared::{Shared, SharedFields};
use skidder_pipeline::source::{Chunk, Read, SinkSet, Source};
use skidder_pipeline::value::Value;

use super::estate::Left;
use super::file::{ReadFrom, glob};
use super::leftovers::Witness;
use super::overlap::Reach;
use super::{SourceContext, check_common, default_max_held_bytes, default_max_record_bytes, default_rescan_interval_ms};
use crate::metadata::{Select, SelectWord};
use format::{Fault, Field};
use journal::{Journal, Order};
use record::Shape;
use remembered::Remembered;
use wanted::{Wanted, current_boot, own_unit, units};

/// Where journald keeps journals: for good, and where it may not, until the next start.
const DIRECTORIES: [&str; 2] = ["/var/log/journal", "/run/log/journal"];
/// How much is given out at a time.
const CHUNK_BYTES: usize = 256 * 1024;
/// How many entries are looked at for it, if most are left out.
const CHUNK_ENTRIES: u64 = 4096;
/// The shortest and longest time between two looks at journals that are read to their ends.
const MIN_POLL: Duration = Duration::from_millis(50);
const MAX_POLL: Duration = Duration::from_secs(1);
/// The time between two looks for new files. A directory has a hundred at the most, and one that is rotated stays for long.
const SCAN_INTERVAL: Duration = Duration::from_secs(1);

/// Reads the journal of systemd, from its files: no `journalctl` is needed.
///
/// Entries are read in the order in which each file has them, older files first. Fields: `message`, `timestamp` (what
/// the sender gave, else when journald got it, in microseconds), `level` (of `PRIORITY`), `host`, `unit`, `identifier`, `pid`,
/// `boot_id`, `source_type`; all fields of the entry but its message, by their own names, are below `journald`. A value of more
/// than 64 KiB there is left out. The agent's user has to be in the group `systemd-journal` or `adm`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JournaldConfig {
    /// The directory of the journals, or one above it. By default `/var/log/journal` and `/run/log/journal`. Journals of other
    /// machines in `remote` are read only where this names that directory.
    pub journal_directory: Option<PathBuf>,
    /// Where reading begins at the first start; what comes later, also while the agent does not run, is read from where it
    /// stood.
    #[serde(default)]
    pub read_from: ReadFrom,
    /// Whether entries of earlier boots are left out. What the machine said last before it went down is among these.
    #[serde(default)]
    pub current_boot_only: bool,
    /// The units whose entries are read, and what systemd says of them; by default all. `*` stands for any characters; a name without a
    /// dot is that of a service.
    #[serde(default)]
    pub include_units: Vec<String>,
    /// Units whose entries are left out; in the same form.
    #[serde(default)]
    pub exclude_units: Vec<String>,
    /// Fields and values that an entry must have: of each field one of its values.
    #[serde(default)]
    #[schemars(example = BTreeMap::from([("_TRANSPORT", ["kernel"])]))]
    pub include_matches: BTreeMap<String, Vec<String>>,
    /// Fields and values of entries to leave out: any of them.
    #[serde(default)]
    pub exclude_matches: BTreeMap<String, Vec<String>>,
    /// The fields below `journald`: `all`, `none`, or a list of names.
    #[serde(default = "default_fields")]
    pub fields: Select,
    /// Whether what the agent's own unit says is read. It would tell of itself for ever where a store is down.
    #[serde(default)]
    pub include_self: bool,
    /// The longest message, in bytes; a longer one is cut, and marked with `truncated` and `original_bytes`.
    #[serde(default = "default_max_record_bytes")]
    pub max_record_bytes: usize,
    /// How many bytes of journals that journald has removed are kept on the disk, by being held open, until they are read. Beyond
    /// it the oldest is given up, with a warning, and its entries are counted as lost.
    #[serde(default = "default_max_held_bytes")]
    pub max_held_bytes: u64,
}

fn default_fields() -> Select {
    Select::Word(SelectWord::All)
}

impl JournaldConfig {
    pub(super) fn check(&self) -> Vec<Problem> {
        let mut problems = check_common(self.max_record_bytes, default_rescan_interval_ms(), None);
        for (key, units) in [("include_units", &self.include_units), ("exclude_units", &self.exclude_units)] {
            for (index, unit) in units.iter().enumerate() {
                if let Err(error) = glob(unit) {
                    problems.push(Problem::at(&format!("{key}.{index}"), format!("not a pattern: {}", error.kind())));
                }
            }
        }
        for (key, matches) in [("include_matches", &self.include_matches), ("exclude_matches", &self.exclude_matches)] {
            for (field, values) in matches {
                if values.is_empty() {
                    problems.push(Problem::at(&format!("{key}.{field}"), "no value is named").help("name one, or leave the field out"));
                }
                if field.is_empty() || !field.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_') {
                    let help = "names are of capital letters, digits and `_`, such as `_TRANSPORT`; `journalctl --fields` lists them";
                    problems.push(Problem::at(&format!("{key}.{field}"), "no field of the journal has such a name").help(help));
                }
            }
        }
        problems
    }

    pub(super) fn reach(&self, base_dir: &Path) -> Option<Reach> {
        let roots = self.roots(base_dir);
        let below = |root: &PathBuf| ["*.journal", "*/*.journal"].map(|files| vec![root.join(files).to_string_lossy().into_owned()]);
        let globs = roots.iter().flat_map(below).collect();
        Some(Reach { globs, reads: Box::new(move |path| journal::is_journal(path) && roots.iter().any(|root| path.starts_with(root))) })
    }

    pub(super) fn roots(&self, base_dir: &Path) -> Vec<PathBuf> {
        match &self.journal_directory {
            Some(dir) => vec![base_dir.join(dir)],
            None => DIRECTORIES.map(PathBuf::from).to_vec(),
        }
    }

    pub(super) fn build(&self, context: SourceContext) -> anyhow::Result<Box<dyn Source>> {
        let mut fields = SharedFields::default();
        fields.set(b"source_type", Value::text(b"journald"));
        let own_unit = if self.include_self { None } else { own_unit() };
        let wanted = Wanted {
            boot: if self.current_boot_only { current_boot() } else { None },
            include_units: units(&self.include_units)?,
            exclude_units: units(&self.exclude_units)?,
            include_matches: self.include_matches.clone(),
            exclude_matches: self.exclude_matches.clone(),
            own_unit,
        };
        let remembered = Remembered::load(&context.state_dir);
        let fresh = remembered.is_new();
        let witness = (!context.once).then(|| context.leftovers.join(context.clock.now()));
        let mut source = Journald {
            sinks: context.sinks,
            config: Arc::new(Settings {
                roots: self.roots(&context.base_dir),
                wanted,
                shape: Shape { max_record_bytes: self.max_record_bytes, fields: self.fields.clone() },
                max_held_bytes: self.max_held_bytes,
                shared: Shared::new(fields),
            }),
            context: Arc::new(context),
            journals: Vec::new(),
            done: HashMap::new(),
            refused: HashSet::new(),
            told: false,
            remembered,
            witness,
            from_end: fresh && self.read_from == ReadFrom::End,
            turn: 0,
            next_scan: Nanos(0),
            poll: MIN_POLL,
            fields: Vec::new(),
            stopping: false,
        };
        source.take_over();
        source.account_for_what_is_gone();
        Ok(Box::new(source))
    }
}

/// What is the same for all readers of a source.
#[derive(Debug)]
struct Settings {
    roots: Vec<PathBuf>,
    wanted: Wanted,
    shape: Shape,
    max_held_bytes: u64,
    shared: Arc<Shared>,
}

/// A file as the system knows it: device and inode.
type Inode = (u64, u64);

struct Journald {
    context: Arc<SourceContext>,
    config: Arc<Settings>,
    sinks: SinkSet,
    /// Those with something to read, or that may still grow.
    journals: Vec<Journal>,
    /// Those that are read to their ends and grow no more, with the ids of their files.
    done: HashMap<Inode, [u8; 16]>,
    /// Those of which was told that they cannot be read.
    refused: HashSet<PathBuf>,
    /// Whether it was said that there are no journals.
    told: bool,
    /// What outlasts the process.
    remembered: Remembered,
    /// Says which journals are not forgotten: all that are remembered.
    witness: Option<Witness>,
    /// Whether the files that are found first are skipped.
    from_end: bool,
    /// Where the next look for entries begins, so that journals that grow take turns.
    turn: usize,
    next_scan: Nanos,
    poll: Duration,
    fields: Vec<Field>,
    stopping: bool,
}

impl Journald {
    /// Looks for journals that came, went or were renamed.
    fn scan(&mut self, now: Nanos) {
        self.next_scan = now.after(SCAN_INTERVAL);
        let mut present: HashMap<Inode, PathBuf> = HashMap::new();
        for path in journal::list(&self.config.roots) {
            if let Some(inode) = journal::inode(&path) {
                present.insert(inode, path);
            }
        }
        if present.is_empty() && !std::mem::replace(&mut self.told, true) {
            tracing::warn!(
                source = %self.context.name,
                directories = ?self.config.roots,
                "there are no journals: is the node's /var/log mounted, and may this user read them (group `systemd-journal`)? It is looked again"
            );
        }
        let dirs: HashSet<PathBuf> = present.values().filter_map(|path| Some(path.parent()?.to_owned())).collect();
        self.done.retain(|inode, _| present.contains_key(inode));
        self.refused.retain(|path| path.exists());
        for journal in &mut self.journals {
            match present.remove(&journal.inode) {
                Some(path) => journal.path = path,
                None => journal.gone |= journal.has_no_name(),
            }
        }
        for (inode, path) in present {
            if !self.done.contains_key(&inode) {
                self.open(path, inode);
            }
        }
        self.from_end = false;
        self.keep_within_limit();
        // Older ones first, so that stores get entries in the order of time as far as that goes.
        self.journals.sort_by_key(Journal::order);
        self.remembered.note(&self.journals);
        // Where something cannot be opened, it may be one that is taken for gone.
        if self.refused.is_empty() {
            self.forget_what_is_gone(&dirs);
        }
        self.remembered.save(now);
        if let Some(witness) = self.witness.as_mut().filter(|witness| witness.is_due(now)) {
            let open = self.journals.iter().map(|journal| journal.header.file_id);
            let ids = self.remembered.ids().chain(self.done.values().copied()).chain(open);
            let keys = ids.map(|file_id| journal::key(&self.context.epoch, &file_id)).collect();
            witness.say(Some(keys), &*self.context.held, now);
        }
    }

    /// Goes on with the journals that a source before this one held open; one elsewhere is not this one's.
    fn take_over(&mut self) {
        let left = self.context.estate.take(&self.context.name).journals;
        let is_ours = |journal: &&Journal| self.config.roots.iter().any(|root| journal.path.starts_with(root));
        for journal in left.iter().filter(is_ours) {
            if let Ok(claim) = self.context.claims.claim(&self.context.name, journal.inode) {
                self.journals.push(journal.pass_to(&self.context, self.sinks, claim));
            }
        }
        self.journals.sort_by_key(Journal::order);
    }

    fn open(&mut self, path: PathBuf, inode: Inode) {
        let from = |header: &format::Header| self.remembered.begin(header, self.from_end);
        match Journal::open(path.clone(), inode, &self.context, self.sinks, from) {
            Ok(journal) => self.journals.push(journal),
            Err(refusal) => {
                if self.refused.insert(path.clone()) {
                    self.context.stats.failed_files.add(1);
                    tracing::warn!(source = %self.context.name, path = %path.display(), %refusal, "cannot read a journal");
                }
            }
        }
    }

    /// Drops the positions of journals that are removed and read; `dirs` are those with journals in them, so that a directory that
    /// cannot be seen for a while is not taken for an empty one.
    fn forget_what_is_gone(&mut self, dirs: &HashSet<PathBuf>) {
        let there: HashSet<[u8; 16]> =
            self.done.values().copied().chain(self.journals.iter().map(|journal| journal.header.file_id)).collect();
        let (sinks, context) = (self.sinks, &self.context);
        self.remembered.drop_gone(|file_id, known| {
            let key = journal::key(&context.epoch, file_id);
            let gone = !there.contains(file_id) && dirs.contains(&known.dir);
            let read = gone && journal::held_by_all(&*context.held, sinks, &key) >= known.entries;
            if read {
                context.held.forget(&key);
            }
            read
        });
    }

    /// Gives up the oldest of the removed journals where they take more of the disk than they may.
    fn keep_within_limit(&mut self) {
        let held_bytes = |journals: &[Journal]| journals.iter().filter(|journal| journal.gone).map(Journal::disk_bytes).sum::<u64>();
        while held_bytes(&self.journals) > self.config.max_held_bytes {
            let oldest = self.journals.iter().enumerate().filter(|(_, journal)| journal.gone).min_by_key(|(_, journal)| journal.order());
            let Some((index, _)) = oldest else { return };
            let journal = self.journals.remove(index);
            let lost_entries = journal.unread();
            self.context.stats.lost_records.add(lost_entries);
            tracing::warn!(
                source = %self.context.name,
                path = %journal.path.display(),
                lost_entries,
                "gave up a journal that journald has removed: those of its kind took more of the disk than `max_held_bytes`"
            );
        }
    }

    /// Says what journald removed while the agent did not run and nobody had read.
    fn account_for_what_is_gone(&mut self) {
        let mut headers = Vec::new();
        for path in journal::list(&self.config.roots) {
            headers.extend(std::fs::File::open(path).ok().and_then(|file| format::Header::read(&file).ok()));
        }
        // Those that are new never wanted it.
        let sinks = self.sinks.without(self.context.new_sinks);
        let (held, epoch) = (&self.context.held, &self.context.epoch);
        let read = |file_id: &[u8; 16]| journal::held_by_all(&**held, sinks, &journal::key(epoch, file_id));
        let lost_entries = self.remembered.lost(&headers, read);
        if lost_entries > 0 {
            self.context.stats.lost_records.add(lost_entries);
            tracing::warn!(
                source = %self.context.name,
                lost_entries,
                "journald removed entries before they were read: raise `SystemMaxUse` in journald.conf, or do not stop the agent for so long"
            );
        }
    }

    /// Fills `chunk` from the journal at `index`. Says whether there was anything to hand over.
    fn take(&mut self, index: usize, chunk: &mut Chunk) -> bool {
        let Some(journal) = self.journals.get_mut(index) else { return false };
        if let Some((sinks, ranges)) = journal.announcements.pop() {
            chunk.batch.reset(self.config.shared.clone(), journal.key);
            (chunk.needs, chunk.covers) = (sinks.and(self.sinks), ranges);
            return true;
        }
        let Some((needs, end)) = journal.next_stretch(self.sinks) else { return false };
        let start = journal.next;
        chunk.batch.reset(self.config.shared.clone(), journal.key);
        chunk.needs = needs;
        let end = end.min(start + CHUNK_ENTRIES);
        while journal.next < end && chunk.batch.bytes().len() < CHUNK_BYTES {
            if let Err(error) = journal.take_entry(&self.config, &self.context.stats, &mut self.fields, chunk) {
                if let Fault::Io(error) = &error {
                    journal.failed(error, &self.context);
                    break;
                }
                self.context.stats.malformed.add(1);
                journal.warn_of_damage(&error, &self.context);
                if matches!(error, Fault::Short) {
                    journal.ends_here();
                    break;
                }
            }
            journal.next += 1;
        }
        if journal.next == start {
            return false;
        }
        // The number of an entry says all: the id of the file is not given twice, and its entries do not change.
        chunk.covers.push(Range { file: journal.key, start, end: journal.next, marker: 0 });
        chunk.bytes_read = chunk.batch.bytes().len() as u64;
        self.context.stats.records.add(chunk.batch.len() as u64);
        self.context.stats.bytes.add(chunk.bytes_read);
        true
    }

    /// Closes the journals that grow no more and are read.
    fn close_what_is_done(&mut self) {
        if self.journals.iter().any(Journal::is_done) {
            self.remembered.note(&self.journals);
        }
        let done = &mut self.done;
        self.journals.retain(|journal| {
            let keep = !journal.is_done();
            if !keep && !journal.gone {
                done.insert(journal.inode, journal.header.file_id);
            }
            keep
        });
    }

    fn unread_bytes(&self) -> u64 {
        self.journals.iter().map(Journal::unread_bytes).sum()
    }
}

impl Source for Journald {
    fn read(&mut self, chunk: &mut Chunk, now: Nanos) -> Read {
        (chunk.bytes_read, chunk.needs) = (0, self.sinks);
        chunk.covers.clear();
        if now >= self.next_scan && !self.stopping {
            self.scan(now);
        }
        // Archived ones are before those that grow; among the latter each gets its turn.
        let growing = self.journals.iter().position(|journal| journal.order().0 == Order::Growing).unwrap_or(self.journals.len());
        for round in 0..self.journals.len() {
            let index = match round.checked_sub(growing) {
                Some(beyond) => growing + (self.turn + beyond) % (self.journals.len() - growing),
                None => round,
            };
            // Others can open what has a name after the next start.
            if self.stopping && !self.journals[index].gone {
                continue;
            }
            if self.take(index, chunk) {
                self.turn = self.turn.wrapping_add(usize::from(round >= growing));
                self.poll = MIN_POLL;
                return Read::Chunk;
            }
        }
        chunk.batch.reset(Shared::empty(), FileKey([0; 16]));
        self.context.stats.unread_bytes.set(self.unread_bytes());
        if self.stopping || self.context.once {
            self.remembered.note(&self.journals);
            self.remembered.save(Nanos(u64::MAX));
            return Read::End;
        }
        self.close_what_is_done();
        self.poll = (self.poll * 2).min(MAX_POLL);
        Read::Idle { until: now.after(self.poll).min(self.next_scan) }
    }

    fn fork(&self, sinks: SinkSet) -> Option<Box<dyn Source>> {
        let mut fork = Journald {
            context: self.context.clone(),
            config: self.config.clone(),
            sinks,
            journals: self.journals.iter().map(|journal| journal.fork(&self.context, sinks)).collect(),
            done: HashMap::new(),
            refused: self.refused.clone(),
            told: true,
            remembered: self.remembered.clone(),
            witness: self.witness.clone().filter(|_| self.sinks.without(sinks).is_empty()),
            from_end: false,
            turn: 0,
            next_scan: Nanos(0),
            poll: MIN_POLL,
            fields: Vec::new(),
            stopping: self.stopping,
        };
        fork.journals.sort_by_key(Journal::order);
        Some(Box::new(fork))
    }

    fn restrict(&mut self, sinks: SinkSet) {
        self.sinks = sinks;
    }

    fn leave(&mut self) {
        self.remembered.note(&self.journals);
        self.remembered.save(Nanos(u64::MAX));
        let journals = std::mem::take(&mut self.journals);
        self.context.estate.leave(&self.context.name, Left { journals, ..Left::default() });
    }

    /// What is unread is left for the next start, but for files that nobody could open then.
    fn stop(&mut self) {
        let now = self.context.clock.now();
        self.scan(now);
        self.stopping = true;
    }
}
