//! The `file` source: files by path, with globs.

use std::collections::HashSet;
use std::fs::{self, File, Metadata};
use std::num::NonZeroU64;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};
use schemars::JsonSchema;
use serde::Deserialize;
use skidder_pipeline::problem::Problem;
use skidder_pipeline::shared::{Shared, SharedFields};
use skidder_pipeline::source::Source;
use skidder_pipeline::value::Value;

use super::assemble::MaxRecordAction;
use super::framing::Format;
use super::identity::{Facts, Registry};
use super::multiline::MultilineConfig;
use super::overlap::Reach;
use super::tail::open::{Refusal, open_file};
use super::tail::{Age, Discover, Entry, Listing, Origin, Place, Settings, Tailer, Watch};
use super::{SourceContext, check_common, default_max_held_bytes, default_max_record_bytes, default_rescan_interval_ms};

/// How deep below a glob's fixed part directories are entered.
const MAX_DEPTH: usize = 32;
/// How many entries of directories one scan looks at: beyond it the globs are wider than meant.
const MAX_ENTRIES: usize = 200_000;

/// Reads files, and follows them as they grow, are rotated, cut and removed.
///
/// A file is known by its device, inode and content, not by its path: renamed, it is read on where it stood. Fields:
/// `message`, `timestamp`, `file`, `source_type`, and `stream` where the format has one.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileConfig {
    /// The files to read: paths, with `*`, `?`, `[…]`, `{a,b}` within a name and `**` for any directories. A relative path
    /// starts at the configuration file's directory.
    pub include: Vec<String>,
    /// Files not to read although `include` names them; in the same form.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// How lines are framed.
    #[serde(default)]
    pub format: Format,
    /// Where reading begins in files that are there at the start and were never met before; files that come later are
    /// read from their beginning.
    #[serde(default)]
    pub read_from: ReadFrom,
    /// How lines are joined to records of several lines, such as stack traces. Without it each line is a record.
    pub multiline: Option<MultilineConfig>,
    /// The longest message of a record, in bytes.
    #[serde(default = "default_max_record_bytes")]
    pub max_record_bytes: usize,
    /// What becomes of a longer one.
    #[serde(default)]
    pub max_record_action: MaxRecordAction,
    /// Whether files and directories are read that symbolic links lead to.
    #[serde(default = "default_follow_symlinks")]
    pub follow_symlinks: bool,
    /// Files that were last written longer ago than this many seconds are not opened, until they are written again. By
    /// default all are.
    pub ignore_older_secs: Option<u64>,
    /// How much is read of each file, in bytes per second, so that a noisy one leaves room to the others. What is beyond it
    /// waits in the file. By default there is no limit.
    pub rate_limit_bytes_per_sec: Option<NonZeroU64>,
    /// How many bytes of deleted logs are kept on the disk, by being held open, until they are read. Beyond it the oldest of the
    /// file that holds most is given up, with a warning, and counted as lost.
    #[serde(default = "default_max_held_bytes")]
    pub max_held_bytes: u64,
    /// The time between full looks for new files, in milliseconds. New files are usually seen at once.
    #[serde(default = "default_rescan_interval_ms")]
    pub rescan_interval_ms: u64,
}

fn default_follow_symlinks() -> bool {
    true
}

/// Where reading begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReadFrom {
    /// With the first line.
    #[default]
    Beginning,
    /// With the first line that is written from now on.
    End,
}

impl FileConfig {
    pub(super) fn check(&self) -> Vec<Problem> {
        let mut problems = check_common(self.max_record_bytes, self.rescan_interval_ms, self.multiline.as_ref());
        if self.include.is_empty() {
            problems.push(Problem::at("include", "no files are named").help("for example include = [\"/var/log/app/*.log\"]"));
        }
        for (key, patterns) in [("include", &self.include), ("exclude", &self.exclude)] {
            for (index, pattern) in patterns.iter().enumerate() {
                if pattern.is_empty() {
                    problems.push(Problem::at(&format!("{key}.{index}"), "an empty path"));
                } else if let Err(error) = glob(pattern) {
                    problems.push(Problem::at(&format!("{key}.{index}"), format!("not a glob: {}", error.kind())));
                }
            }
        }
        problems
    }

    pub(super) fn reach(&self, base_dir: &Path) -> Option<Reach> {
        let files = Files::new(base_dir, &self.include, &self.exclude, true).ok()?;
        let globs = self.include.iter().map(|pattern| vec![absolute(base_dir, pattern)]).collect();
        Some(Reach { globs, reads: Box::new(move |path| files.include.is_match(path) && !files.exclude.is_match(path)) })
    }

    /// Where its globs can lead; anywhere where it follows links.
    pub(super) fn reads(&self, base_dir: &Path) -> Option<Vec<PathBuf>> {
        (!self.follow_symlinks).then(|| self.include.iter().map(|pattern| Walk::of(&absolute(base_dir, pattern)).base).collect())
    }

    pub(super) fn build(&self, context: SourceContext) -> anyhow::Result<Box<dyn Source>> {
        Ok(Box::new(self.tailer(context)?))
    }

    pub(super) fn tailer(&self, context: SourceContext) -> anyhow::Result<Tailer> {
        let files = Files::new(&context.base_dir, &self.include, &self.exclude, self.follow_symlinks)?;
        let rate = self.rate_limit_bytes_per_sec.map(NonZeroU64::get);
        let settings = super::settings(self.rescan_interval_ms, self.ignore_older_secs, rate, self.max_held_bytes);
        let settings = Settings { from_end: self.read_from == ReadFrom::End, ..settings };
        let registry = Registry::shared(&context.state_dir, context.epoch)?;
        let rules = super::rules(self.max_record_bytes, self.max_record_action, self.multiline.as_ref())?;
        let leftovers = context.leftovers.clone();
        let (left, is_same, reach) = (context.estate.take(&context.name), context.is_same, self.reach(&context.base_dir));
        let env = context.env(self.format, rules, Some(registry), Arc::new(describe));
        let mut tailer = Tailer::new(env, Box::new(files), settings).with_part_in(&leftovers);
        tailer.take_over(left.logs, is_same, |path| reach.as_ref().is_some_and(|reach| (reach.reads)(path)));
        Ok(tailer)
    }
}

/// A pattern of the configuration with the directory that it starts at.
fn absolute(base_dir: &Path, pattern: &str) -> String {
    base_dir.join(pattern).components().collect::<PathBuf>().to_string_lossy().into_owned()
}

/// A glob in which `*` stays within a name.
pub(super) fn glob(pattern: &str) -> Result<Glob, globset::Error> {
    GlobBuilder::new(pattern).literal_separator(true).build()
}

/// A set of globs.
pub(super) fn glob_set<'a>(patterns: impl Iterator<Item = &'a str>) -> anyhow::Result<GlobSet> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        set.add(glob(pattern)?);
    }
    Ok(set.build()?)
}

/// Finds the files of a `file` source.
pub(super) struct Files {
    walks: Vec<Walk>,
    include: GlobSet,
    exclude: GlobSet,
    follow_symlinks: bool,
    units: HashSet<Arc<Path>>,
}

/// Where one glob's files can be: the fixed part of it, and how many levels below.
#[derive(Clone, Debug, PartialEq)]
struct Walk {
    base: PathBuf,
    depth: usize,
}

/// What one scan gathers.
#[derive(Default)]
struct Scan {
    entries: Vec<Entry>,
    /// The directories that lead to where it is.
    above: Vec<(u64, u64)>,
    looked_at: usize,
}

impl Files {
    pub(super) fn new(base_dir: &Path, include: &[String], exclude: &[String], follow_symlinks: bool) -> anyhow::Result<Files> {
        let include: Vec<String> = include.iter().map(|pattern| absolute(base_dir, pattern)).collect();
        let exclude: Vec<String> = exclude.iter().map(|pattern| absolute(base_dir, pattern)).collect();
        Ok(Files {
            walks: include.iter().map(|pattern| Walk::of(pattern)).collect(),
            include: glob_set(include.iter().map(String::as_str))?,
            exclude: glob_set(exclude.iter().map(String::as_str))?,
            follow_symlinks,
            units: HashSet::new(),
        })
    }

    fn visit(&self, path: &Path, depth: usize, scan: &mut Scan, (watch, listing): (&mut Watch, &mut Listing)) {
        scan.looked_at += 1;
        if scan.looked_at > MAX_ENTRIES {
            return;
        }
        let Ok(metadata) = fs::symlink_metadata(or_here(path)) else { return };
        if !listing.devices.contains(&metadata.dev()) {
            listing.devices.push(metadata.dev());
        }
        let is_link = metadata.is_symlink();
        let metadata = if is_link && self.follow_symlinks { fs::metadata(path).unwrap_or(metadata) } else { metadata };
        if metadata.is_dir() {
            if depth > 0 && !self.exclude.is_match(path) {
                self.list(path, &metadata, depth - 1, scan, (watch, listing));
            } else if self.include.is_match(path) && !self.exclude.is_match(path) {
                self.refuse(path, depth, listing);
            }
            return;
        }
        if !self.include.is_match(path) || self.exclude.is_match(path) {
            return;
        }
        if metadata.is_file() {
            scan.entries.push(Entry::new(path.to_owned(), Place { restart: 0, age: Age::Live }, &metadata));
        } else if is_link {
            let why = if self.follow_symlinks { Refusal::Unfit("it is a symbolic link that leads nowhere") } else { Refusal::LinkOff };
            listing.refused.push((path.to_owned(), why));
        } else {
            self.refuse(path, 0, listing);
        }
    }

    /// A directory whose depth would allow to enter it is not meant as a file.
    fn refuse(&self, path: &Path, depth: usize, listing: &mut Listing) {
        if depth == 0 {
            listing.refused.push((path.to_owned(), Refusal::NotRegular));
        }
    }

    fn list(&self, dir: &Path, metadata: &Metadata, depth: usize, scan: &mut Scan, (watch, listing): (&mut Watch, &mut Listing)) {
        // Links may lead in circles.
        let this = (metadata.dev(), metadata.ino());
        if scan.above.contains(&this) {
            return;
        }
        scan.above.push(this);
        watch.add(&or_here(dir).into());
        match fs::read_dir(or_here(dir)) {
            Ok(entries) => {
                for entry in entries.flatten() {
                    self.visit(&dir.join(entry.file_name()), depth, scan, (watch, listing));
                }
            }
            Err(error) => listing.refused.push((dir.to_owned(), Refusal::Io(error))),
        }
        scan.above.pop();
    }
}

/// The empty path as one that the system takes.
fn or_here(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

impl Walk {
    fn of(pattern: &str) -> Walk {
        let parts: Vec<Component<'_>> = Path::new(pattern).components().collect();
        let is_fixed = |part: &&Component<'_>| !part.as_os_str().to_string_lossy().contains(['*', '?', '[', '{', '\\']);
        let fixed = parts.iter().take_while(is_fixed).count();
        let deep = parts[fixed..].iter().any(|part| part.as_os_str().to_string_lossy().contains("**"));
        // Alternatives may hold a separator: `{a/b,c}`.
        let braces = parts[fixed..].iter().any(|part| part.as_os_str().to_string_lossy().contains('{'));
        let depth = if deep || braces { MAX_DEPTH } else { parts.len() - fixed };
        Walk { base: parts[..fixed].iter().collect(), depth }
    }
}

impl Discover for Files {
    fn fork(&self) -> Box<dyn Discover> {
        let Files { walks, include, exclude, follow_symlinks, .. } = self;
        let (walks, include, exclude) = (walks.clone(), include.clone(), exclude.clone());
        Box::new(Files { walks, include, exclude, follow_symlinks: *follow_symlinks, units: HashSet::new() })
    }

    fn scan(&mut self, _changed: Option<&HashSet<Arc<Path>>>, watch: &mut Watch, listing: &mut Listing) {
        let mut entries: Vec<Entry> = Vec::new();
        for walk in &self.walks {
            let mut scan = Scan::default();
            self.visit(&walk.base, walk.depth, &mut scan, (watch, listing));
            if scan.looked_at > MAX_ENTRIES {
                listing.refused.push((walk.base.clone(), Refusal::TooMany));
            }
            entries.append(&mut scan.entries);
        }
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        entries.dedup_by(|a, b| a.path == b.path);
        let units: HashSet<Arc<Path>> = entries.iter().map(|entry| entry.path.as_path().into()).collect();
        listing.gone.extend(self.units.difference(&units).cloned());
        self.units = units;
        listing.units.extend(entries.into_iter().map(|entry| (entry.path.as_path().into(), vec![entry])));
    }

    fn open(&self, entry: &Entry) -> Result<(File, Facts), Refusal> {
        open_file(&entry.path, self.follow_symlinks)
    }
}

fn describe(path: &Path, _: &Place) -> Origin {
    let mut fields = SharedFields::default();
    fields.set(b"source_type", Value::text(b"file"));
    fields.set(b"file", Value::text(path.to_string_lossy().as_bytes()));
    Origin { shared: Shared::new(fields), run: None }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn found(dir: &Path, include: &[&str], exclude: &[&str]) -> (Vec<String>, usize) {
        let own = |list: &[&str]| list.iter().map(|s| s.to_string()).collect::<Vec<_>>();
        let mut files = Files::new(dir, &own(include), &own(exclude), true).unwrap();
        let mut listing = Listing::default();
        files.scan(None, &mut Watch::new(), &mut listing);
        let names = listing.units.iter().map(|(unit, _)| unit.strip_prefix(dir).unwrap().to_string_lossy().into_owned());
        (names.collect(), listing.refused.len())
    }

    #[test]
    fn globs_find_files_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["a.log", "b.txt", "sub/c.log", "sub/deep/d.log", "sub/deep/e.log.1"] {
            fs::create_dir_all(dir.path().join(path).parent().unwrap()).unwrap();
            fs::write(dir.path().join(path), "x\n").unwrap();
        }
        fs::create_dir(dir.path().join("dir.log")).unwrap();
        std::os::unix::fs::symlink(dir.path(), dir.path().join("sub/loop")).unwrap();
        // What is included, what excluded; what is found then, and how much refused.
        type Case = (&'static [&'static str], &'static [&'static str], &'static [&'static str], usize);
        let cases: &[Case] = &[
            (&["a.log"], &[], &["a.log"], 0),
            (&["*.log"], &[], &["a.log"], 1),
            (&["*.log", "a.*"], &["dir.log"], &["a.log"], 0),
            (&["**/*.log"], &["dir.log"], &["a.log", "sub/c.log", "sub/deep/d.log"], 0),
            (&["sub/*/*.log*"], &["**/e.*"], &["sub/deep/d.log"], 1),
            (&["{a.log,sub/c.log}"], &[], &["a.log", "sub/c.log"], 0),
            (&["./sub/../a.log", "missing/*.log"], &[], &[], 0),
            (&["sub"], &[], &[], 1),
        ];
        for (include, exclude, expected, refused) in cases {
            let (mut names, count) = found(dir.path(), include, exclude);
            names.retain(|name| !name.contains("loop") && !name.contains(".."));
            assert_eq!((&names[..], count), (&expected.iter().map(|s| s.to_string()).collect::<Vec<_>>()[..], *refused), "{include:?}");
        }
    }
}
