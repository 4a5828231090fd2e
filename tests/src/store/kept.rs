//! What a store holds of a run of many millions: the texts in a file, and of each a hash of what tells it apart.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, BufReader, BufWriter, Seek, Write};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

use super::documents::for_each_line;

/// What a store counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Records stored, each counted once.
    pub stored: u64,
    /// Records that came again and that the store did not take a second time.
    pub refused: u64,
    /// Records that it took a second time, since it could not tell.
    pub again: u64,
    /// Records that came again in another form: what a store with a longer memory could not have told either.
    pub changed: u64,
    /// Records that it turned away for good.
    pub turned_away: u64,
}

/// Lines in a file that nobody else sees, as gzip.
pub(super) struct Spool(GzEncoder<BufWriter<File>>);

impl Spool {
    pub(super) fn new() -> io::Result<Spool> {
        Ok(Spool(GzEncoder::new(BufWriter::new(tempfile::tempfile()?), Compression::fast())))
    }

    pub(super) fn push(&mut self, text: &[u8]) -> io::Result<()> {
        self.0.write_all(text)?;
        self.0.write_all(b"\n")
    }

    /// Gives each line. After this it takes none any more.
    pub(super) fn each(&mut self, each: impl FnMut(&[u8])) -> io::Result<()> {
        self.0.try_finish()?;
        self.0.get_mut().flush()?;
        let mut file = self.0.get_ref().get_ref().try_clone()?;
        file.rewind()?;
        for_each_line(GzDecoder::new(BufReader::new(file)), each)
    }
}

/// Records by name, each with the form in which it came first.
pub(super) struct Kept {
    forms: HashMap<u64, u32>,
    spool: Spool,
    pub(super) tally: Tally,
}

impl Kept {
    pub(super) fn new() -> io::Result<Kept> {
        Ok(Kept { forms: HashMap::new(), spool: Spool::new()?, tally: Tally::default() })
    }

    /// Takes a record that the store does not refuse: `text` for the ledger where it is new.
    pub(super) fn take(&mut self, name: u64, form: u64, text: impl FnOnce() -> Vec<u8>) -> io::Result<()> {
        match self.forms.entry(name) {
            Entry::Vacant(new) => {
                new.insert(form as u32);
                self.tally.stored += 1;
                return self.spool.push(&text());
            }
            Entry::Occupied(known) if *known.get() == form as u32 => self.tally.again += 1,
            Entry::Occupied(_) => self.tally.changed += 1,
        }
        Ok(())
    }

    /// Gives each record once. After this no new ones are taken.
    pub(super) fn each(&mut self, each: impl FnMut(&[u8])) -> io::Result<()> {
        self.spool.each(each)
    }
}

/// A hash of several parts.
pub(super) fn sum(parts: &[&[u8]]) -> u64 {
    let mut hasher = DefaultHasher::new();
    parts.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_again_is_told_from_what_changed() {
        let mut kept = Kept::new().unwrap();
        for (name, form) in [(1, 7), (2, 7), (1, 7), (2, 8)] {
            kept.take(name, form, || format!("{name}").into_bytes()).unwrap();
        }
        assert_eq!(kept.tally, Tally { stored: 2, again: 1, changed: 1, ..Tally::default() });
        let mut lines = Vec::new();
        kept.each(|line| lines.push(line.to_vec())).unwrap();
        assert_eq!(lines, [b"1", b"2"]);
    }
}
