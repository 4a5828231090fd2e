//! A journal of the files that were begun: what [`super::recover`] needs for those of which nothing was acknowledged yet.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::beneath::Id;

/// A file at a moment: who it was and how long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mark {
    pub id: Id,
    pub len: u64,
}

/// A file that was begun.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Birth {
    /// Its number. Numbers grow over all files and starts; a note carries the one that was the last when it was made.
    pub number: u64,
    /// The file, and what was in it before (0 for one that we made).
    pub mark: Mark,
}

/// Which files were begun under which key, in order: one line of JSON each, written before the first byte goes into the
/// file.
///
/// ```json
/// {"n":7,"path":"prod/web.json","dev":2049,"ino":131,"len":0}
/// ```
///
/// A line that a kill left torn belongs to a file that nothing was written to.
#[derive(Default)]
pub struct Births {
    path: Option<PathBuf>,
    of: BTreeMap<String, Vec<Birth>>,
    last: u64,
    file: Option<File>,
    lines: usize,
}

#[derive(Serialize, Deserialize)]
struct Line {
    n: u64,
    path: String,
    dev: u64,
    ino: u64,
    len: u64,
}

impl Births {
    /// The last births of a key that are kept: acknowledgements are far less than so many rotations behind.
    const KEPT: usize = 16;

    /// Lines beyond those that are needed at which the journal is written anew.
    const SLACK_LINES: usize = 4096;

    /// The journal at `path`, with what stands there; without a path it keeps nothing.
    pub fn open(path: Option<PathBuf>) -> io::Result<Births> {
        let mut births = Births { path, ..Births::default() };
        let text = match births.path.as_deref().map(fs::read) {
            None => return Ok(births),
            Some(Err(e)) if e.kind() == io::ErrorKind::NotFound => return Ok(births),
            Some(text) => text?,
        };
        for line in text.split(|byte| *byte == b'\n') {
            if let Ok(Line { n, path, dev, ino, len }) = serde_json::from_slice(line) {
                births.push(&path, Birth { number: n, mark: Mark { id: Id { dev, ino }, len } });
            }
        }
        Ok(births)
    }

    /// The keys that have births.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.of.keys().map(String::as_str)
    }

    /// The births under `key` after the one with this number, the oldest first.
    pub fn after(&self, key: &str, number: u64) -> impl Iterator<Item = Birth> {
        self.of.get(key).into_iter().flatten().copied().filter(move |birth| birth.number > number)
    }

    /// The number of the last birth.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Says that numbers up to this one were given out, in a journal that is gone.
    pub fn were(&mut self, number: u64) {
        self.last = self.last.max(number);
    }

    /// Writes down that a file is begun.
    pub fn record(&mut self, key: &str, mark: Mark) -> io::Result<()> {
        let birth = Birth { number: self.last + 1, mark };
        self.push(key, birth);
        let Some(path) = &self.path else { return Ok(()) };
        let needed: usize = self.of.values().map(Vec::len).sum();
        if self.lines > needed + Self::SLACK_LINES {
            return self.rewrite();
        }
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(open(path, false)?),
        };
        // The first line feed ends a line that a kill left torn.
        let written = file.write_all(&[b"\n", &*line(key, birth)].concat());
        if written.is_err() {
            self.file = None;
        }
        self.lines += 1;
        written
    }

    /// Keeps under each key what `keep` says, and writes the journal anew.
    pub fn retain(&mut self, keep: BTreeMap<String, Vec<Birth>>) -> io::Result<()> {
        self.of = keep;
        self.of.retain(|_, births| !births.is_empty());
        self.rewrite()
    }

    fn push(&mut self, key: &str, birth: Birth) {
        self.last = self.last.max(birth.number);
        let births = self.of.entry(key.to_owned()).or_default();
        births.push(birth);
        if births.len() > Self::KEPT {
            births.remove(0);
        }
    }

    fn rewrite(&mut self) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        self.file = None;
        self.lines = 0;
        if self.of.is_empty() {
            return match fs::remove_file(path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
                _ => Ok(()),
            };
        }
        let mut text = Vec::new();
        for (key, births) in &self.of {
            births.iter().for_each(|birth| text.extend_from_slice(&line(key, *birth)));
            self.lines += births.len();
        }
        let new = path.with_extension("new");
        let mut file = open(&new, true)?;
        file.write_all(&text)?;
        file.sync_data()?;
        fs::rename(&new, path)
    }
}

fn line(key: &str, Birth { number, mark }: Birth) -> Vec<u8> {
    let line = Line { n: number, path: key.to_owned(), dev: mark.id.dev, ino: mark.id.ino, len: mark.len };
    let mut text = serde_json::to_vec(&line).unwrap_or_default();
    text.push(b'\n');
    text
}

fn open(path: &Path, truncate: bool) -> io::Result<File> {
    if let Some(dir) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    }
    let mut options = OpenOptions::new();
    if truncate {
        options.write(true).truncate(true)
    } else {
        options.append(true)
    };
    options.create(true).mode(0o600).open(path)
}
