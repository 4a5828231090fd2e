//! The files of dead letters, as the commands see them.
//!
//! The agent appends to `<sink>.ndjson` and moves it to `<sink>.ndjson.1`
//! ([`skidder_pipeline::delivery::DeadLetterFile`]). A replay takes both away first, by renaming them to
//! `<sink>.replay.<number>.ndjson` under the agent's lock, so that from then on they are its own; what is not delivered
//! stays in there, and the next replay begins with it. `REPLAY` is locked for as long as one is under way.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use skidder_pipeline::delivery::dead_letters;

/// The longest line that is looked at; a frame has at most 64 MiB, and a letter of it has the record twice.
const MAX_LINE_BYTES: usize = 256 << 20;

/// One letter of [`Shelved`].
#[derive(Clone, Copy, Debug)]
pub struct Line {
    file: usize,
    at: u64,
    len: usize,
}

/// All letters of a sink, oldest first.
pub struct Shelved {
    files: Vec<(PathBuf, File)>,
    lines: Vec<Line>,
    bytes: u64,
}

impl Shelved {
    /// Everything that `sink` has, to be looked at.
    pub fn open(data_dir: &Path, sink: &str) -> anyhow::Result<Shelved> {
        let _locked = dead_letters::lock(data_dir).context("cannot lock the dead letters")?;
        let mut paths = taken(data_dir, sink)?;
        paths.extend(dead_letters::files(data_dir, sink));
        Shelved::of(paths)
    }

    /// What a replay has taken.
    pub fn open_taken(data_dir: &Path, sink: &str) -> anyhow::Result<Shelved> {
        Shelved::of(taken(data_dir, sink)?)
    }

    fn of(paths: Vec<PathBuf>) -> anyhow::Result<Shelved> {
        let mut shelved = Shelved { files: Vec::new(), lines: Vec::new(), bytes: 0 };
        for path in paths {
            match File::open(&path) {
                Ok(file) => shelved.add(path, file)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
            }
        }
        Ok(shelved)
    }

    fn add(&mut self, path: PathBuf, file: File) -> anyhow::Result<()> {
        let (index, mut at) = (self.files.len(), 0);
        let mut reader = BufReader::with_capacity(256 << 10, &file);
        loop {
            // The length of a line is enough, so it is never in memory as a whole.
            let (len, ended) = line_len(&mut reader).with_context(|| format!("cannot read {}", path.display()))?;
            if !ended {
                break; // a letter that a crash left unfinished: its record comes again
            }
            self.lines.push(Line { file: index, at, len });
            at += len as u64;
        }
        self.bytes += file.metadata().map_or(at, |metadata| metadata.len());
        self.files.push((path, file));
        Ok(())
    }

    /// The letters.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// The bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// One letter with the line feed at its end.
    pub fn read(&self, line: &Line) -> io::Result<Vec<u8>> {
        if line.len > MAX_LINE_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a letter that is longer than any can be"));
        }
        let mut text = vec![0; line.len];
        let (_, file) = self.files.get(line.file).ok_or(io::ErrorKind::NotFound)?;
        file.read_exact_at(&mut text, line.at)?;
        Ok(text)
    }

    /// Takes the letters at `places` out of their files.
    pub fn remove(self, places: &BTreeSet<usize>) -> anyhow::Result<()> {
        for (index, (path, _)) in self.files.iter().enumerate() {
            let stays: Vec<&Line> = (self.lines.iter().enumerate())
                .filter(|(place, line)| line.file == index && !places.contains(place))
                .map(|(_, line)| line)
                .collect();
            if stays.is_empty() {
                fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))?;
            } else {
                self.rewrite(path, &stays).with_context(|| format!("cannot rewrite {}", path.display()))?;
            }
        }
        Ok(())
    }

    fn rewrite(&self, path: &Path, lines: &[&Line]) -> io::Result<()> {
        let new = path.with_extension("tmp");
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        let mut writer = io::BufWriter::new(file);
        for line in lines {
            writer.write_all(&self.read(line)?)?;
        }
        writer.into_inner()?.sync_all()?;
        fs::rename(&new, path)
    }
}

/// The length of the next line, and whether it has an end.
fn line_len(reader: &mut impl BufRead) -> io::Result<(usize, bool)> {
    let mut len = 0;
    loop {
        let block = reader.fill_buf()?;
        if block.is_empty() {
            return Ok((len, false));
        }
        let (used, ended) = memchr::memchr(b'\n', block).map_or((block.len(), false), |at| (at + 1, true));
        len += used;
        reader.consume(used);
        if ended {
            return Ok((len, true));
        }
    }
}

/// The sinks that have dead letters.
pub fn sinks(data_dir: &Path) -> anyhow::Result<Vec<String>> {
    let dir = dead_letters::dir(data_dir);
    let entries = match fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", dir.display())),
    };
    let mut sinks = BTreeSet::new();
    for entry in entries {
        if let Ok(name) = entry?.file_name().into_string()
            && let Some((sink, end)) = name.split_once('.')
            && (end == "ndjson" || end == "ndjson.1" || number(end).is_some())
        {
            sinks.insert(sink.to_owned());
        }
    }
    Ok(sinks.into_iter().collect())
}

/// The number in `replay.<number>.ndjson`.
fn number(end: &str) -> Option<u64> {
    end.strip_prefix("replay.")?.strip_suffix(".ndjson")?.parse().ok()
}

/// The files that replays have taken, oldest first.
fn taken(data_dir: &Path, sink: &str) -> anyhow::Result<Vec<PathBuf>> {
    let dir = dead_letters::dir(data_dir);
    let mut found = Vec::new();
    for entry in fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let entry = entry?;
        let name = entry.file_name();
        let end = name.to_str().and_then(|name| name.strip_prefix(sink)?.strip_prefix('.'));
        found.extend(end.and_then(number).map(|number| (number, entry.path())));
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// Locks out other replays and purges until the file is dropped.
pub fn lock_replays(data_dir: &Path) -> anyhow::Result<File> {
    let path = dead_letters::dir(data_dir).join("REPLAY");
    let open = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = open.with_context(|| format!("cannot open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => bail!("another replay is under way; wait for its end"),
        Err(fs::TryLockError::Error(error)) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
    }
}

/// Takes what the agent has written so far; it goes on with new files.
pub fn take(data_dir: &Path, sink: &str) -> anyhow::Result<()> {
    let _locked = dead_letters::lock(data_dir).context("cannot lock the dead letters")?;
    let last = taken(data_dir, sink)?.pop();
    let last = last.as_deref().and_then(Path::file_name).and_then(|name| number(name.to_str()?.split_once('.')?.1));
    let mut next = last.unwrap_or(0) + 1;
    for file in dead_letters::files(data_dir, sink) {
        let to = dead_letters::dir(data_dir).join(format!("{sink}.replay.{next}.ndjson"));
        match fs::rename(&file, &to) {
            Ok(()) => next += 1,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("cannot rename {}", file.display())),
        }
    }
    Ok(())
}

/// Removes the oldest of the taken files until they have `max_bytes` at the most; says how many letters went.
pub fn bound(data_dir: &Path, sink: &str, max_bytes: u64) -> anyhow::Result<usize> {
    let mut removed = 0;
    let mut files = taken(data_dir, sink)?;
    loop {
        let shelved = Shelved::of(files.clone())?;
        if shelved.bytes() <= max_bytes || files.is_empty() {
            return Ok(removed);
        }
        let oldest = files.remove(0);
        removed += shelved.lines().iter().filter(|line| line.file == 0).count();
        fs::remove_file(&oldest).with_context(|| format!("cannot remove {}", oldest.display()))?;
    }
}

/// Throws all letters of `sink` away; says how many.
pub fn purge(data_dir: &Path, sink: &str) -> anyhow::Result<usize> {
    let _alone = lock_replays(data_dir)?;
    take(data_dir, sink)?;
    let letters = Shelved::open_taken(data_dir, sink)?;
    let count = letters.lines().len();
    letters.remove(&(0..count).collect())?;
    Ok(count)
}
