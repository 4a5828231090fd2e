//! A journal of the files that were begun: what [`super::recover`] needs for those of which nothing was acknowledged yet.

use std::borrow::Cow;
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
/// file. As soon as the group of frames that it was begun for is acknowledged, its note does the same and a second line
/// takes the birth back: a file must never be emptied because its note was lost.
///
/// ```json
/// {"n":7,"path":"prod/web.json","dev":2049,"ino":131,"len":0}
/// {"settled":7}
/// ```
///
/// A line that a kill left torn belongs to a file that nothing was written to, or takes back a birth that a note goes
/// before.
#[derive(Default)]
pub struct Births {
    path: Option<PathBuf>,
    of: BTreeMap<String, Vec<Birth>>,
    last: u64,
    file: Option<File>,
    lines: usize,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Line<'a> {
    Birth { n: u64, path: Cow<'a, str>, dev: u64, ino: u64, len: u64 },
    Settled { settled: u64 },
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
            match serde_json::from_slice(line) {
                Ok(Line::Birth { n, path, dev, ino, len }) => {
                    births.push(&path, Birth { number: n, mark: Mark { id: Id { dev, ino }, len } });
                }
                Ok(Line::Settled { settled }) => births.remove(settled),
                Err(_) => {}
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

    /// Writes down that a file is begun; gives the number of the birth.
    pub fn record(&mut self, key: &str, mark: Mark) -> io::Result<u64> {
        let birth = Birth { number: self.last + 1, mark };
        self.push(key, birth);
        self.append(&birth_line(key, birth))?;
        Ok(birth.number)
    }

    /// Takes back these births: notes stand for them now.
    pub fn settle(&mut self, numbers: &[u64]) -> io::Result<()> {
        let mut lines = Vec::new();
        for number in numbers {
            self.remove(*number);
            lines.extend_from_slice(&line(&Line::Settled { settled: *number }));
        }
        self.append(&lines)
    }

    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
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
        let written = file.write_all(&[b"\n", lines].concat());
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

    /// Removes the birth with this number, and those before it under the same key.
    fn remove(&mut self, number: u64) {
        self.last = self.last.max(number);
        for births in self.of.values_mut().filter(|births| births.iter().any(|birth| birth.number == number)) {
            births.retain(|birth| birth.number > number);
        }
        self.of.retain(|_, births| !births.is_empty());
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
            births.iter().for_each(|birth| text.extend_from_slice(&birth_line(key, *birth)));
            self.lines += births.len();
        }
        let new = path.with_extension("new");
        let mut file = open(&new, true)?;
        file.write_all(&text)?;
        file.sync_data()?;
        fs::rename(&new, path)
    }
}

fn birth_line(key: &str, Birth { number, mark }: Birth) -> Vec<u8> {
    line(&Line::Birth { n: number, path: key.into(), dev: mark.id.dev, ino: mark.id.ino, len: mark.len })
}

fn line(line: &Line<'_>) -> Vec<u8> {
    let mut text = serde_json::to_vec(line).unwrap_or_default();
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn births_are_kept_until_they_are_settled() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state/files.births");
        let mark = |ino| Mark { id: Id { dev: 1, ino }, len: ino * 10 };
        let open = || Births::open(Some(path.clone())).unwrap();
        let inos = |births: &Births, key, after| births.after(key, after).map(|b| b.mark.id.ino).collect::<Vec<_>>();
        let mut births = open();
        let numbers: Vec<u64> = [("a", 1), ("b", 2), ("a", 3)].map(|(key, ino)| births.record(key, mark(ino)).unwrap()).into();
        assert_eq!(numbers, [1, 2, 3]);
        for births in [&births, &open()] {
            assert_eq!((inos(births, "a", 0), inos(births, "a", 1), inos(births, "b", 0)), (vec![1, 3], vec![3], vec![2]));
        }
        births.settle(&[2]).unwrap();
        for births in [&births, &open()] {
            assert_eq!((inos(births, "a", 0), births.keys().collect::<Vec<_>>()), (vec![1, 3], vec!["a"]));
        }
        births.settle(&[3]).unwrap();
        for births in [&births, &open()] {
            assert_eq!(births.keys().count(), 0, "what came before is settled with it");
        }
        births.retain(BTreeMap::new()).unwrap();
        assert!(!path.exists());
        assert_eq!(births.record("c", mark(4)).unwrap(), 4, "numbers are not used again");
    }

    #[test]
    fn the_journal_does_not_grow_with_what_is_settled() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("files.births");
        let mut births = Births::open(Some(path.clone())).unwrap();
        let mut most = 0;
        for ino in 0..20_000 {
            let number = births.record("a", Mark { id: Id { dev: 1, ino }, len: 0 }).unwrap();
            births.settle(&[number]).unwrap();
            most = most.max(fs::metadata(&path).map_or(0, |meta| meta.len()));
        }
        assert!(most < 400_000, "{most}");
        assert_eq!(Births::open(Some(path)).unwrap().keys().count(), 0);
    }
}
