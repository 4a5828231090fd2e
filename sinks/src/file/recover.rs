//! After a kill: files are cut back to what was acknowledged.
//!
//! For a key (a path below the base) there is at most one note: the file that the last acknowledged frame went to, and how
//! long it was then. What came after, in it and in files begun since, was not acknowledged and will be written again:
//!
//! - a file begun after the note (see [`Births`](super::births::Births)) is cut to what was in it when it was begun;
//! - the file with the noted identity, whatever it is called now (a rotation since may have renamed it), is cut to the
//!   noted length;
//! - any other file was not written to by us since, and is left alone.
//!
//! A file shorter than noted was cut by someone else, or by a power failure. It is left as it is and warned of.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;

use skidder_pipeline::sink::Note;

use super::beneath::{self, Id};
use super::births::{Birth, Births, Mark};
use super::transport::Settings;

/// The note of a file: device, inode, length, and the number of the last birth then, each a `u64`, little-endian.
pub fn to_note(key: &str, mark: Mark, births: &Births) -> Note {
    let value = [mark.id.dev, mark.id.ino, mark.len, births.last()].map(u64::to_le_bytes).concat();
    Note { key: key.to_owned(), value }
}

#[derive(Clone, Copy)]
struct Noted {
    mark: Mark,
    last_birth: u64,
}

fn from_note(note: &Note) -> Option<Noted> {
    let (&[dev, ino, len, last], []) = note.value.as_chunks::<8>() else { return None };
    let [dev, ino, len, last_birth] = [dev, ino, len, last].map(u64::from_le_bytes);
    Some(Noted { mark: Mark { id: Id { dev, ino }, len }, last_birth })
}

/// Cuts everything back. Gives the noted file of each key.
///
/// A file that cannot be cut is warned of and left: its records since the note will be in it twice, which is better than
/// not to start.
pub fn recover(settings: &Settings, notes: &[Note], births: &mut Births) -> io::Result<HashMap<String, Mark>> {
    let noted: BTreeMap<&str, Noted> = notes.iter().filter_map(|note| Some((&*note.key, from_note(note)?))).collect();
    let keys: BTreeSet<String> = births.keys().chain(noted.keys().copied()).map(str::to_owned).collect();
    noted.values().for_each(|note| births.were(note.last_birth));
    let mut later = BTreeMap::new();
    for key in keys {
        let note = noted.get(&*key).copied();
        let born: Vec<Birth> = births.after(&key, note.map_or(0, |note| note.last_birth)).collect();
        if let Err(e) = cut_back(settings, &key, note.map(|note| note.mark), &born) {
            tracing::warn!(path = key, error = %e, "a file could not be cut back to what was acknowledged; its last records may be in it twice");
        }
        later.insert(key, born);
    }
    births.retain(later)?;
    Ok(noted.into_iter().map(|(key, note)| (key.to_owned(), note.mark)).collect())
}

fn cut_back(settings: &Settings, key: &str, note: Option<Mark>, born: &[Birth]) -> io::Result<()> {
    let gone = |e: &io::Error| e.kind() == io::ErrorKind::NotFound;
    let base = match beneath::open_dir(&settings.base) {
        Err(e) if gone(&e) => return Ok(()),
        base => base?,
    };
    let (dir, name) = match beneath::parent(&base, key, false) {
        Err(e) if gone(&e) => return Ok(()),
        parent => parent?,
    };
    for count in 0..=settings.max_files {
        let (file, id, len) = match beneath::open_file(&dir, &beneath::rotated(name, count), false) {
            Err(e) if gone(&e) => continue,
            opened => opened?,
        };
        let born = born.iter().rfind(|birth| birth.mark.id == id).map(|birth| birth.mark);
        match born.or(note.filter(|note| note.id == id)) {
            Some(mark) if len > mark.len => {
                file.set_len(mark.len)?;
                tracing::info!(path = key, bytes = len - mark.len, "a file was cut back to what was acknowledged before the last end");
            }
            Some(mark) if len < mark.len => {
                tracing::warn!(path = key, bytes = mark.len - len, "a file is shorter than it was when its records were written");
            }
            _ => {}
        }
    }
    Ok(())
}
