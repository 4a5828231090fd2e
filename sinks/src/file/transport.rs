//! Writes frames into files.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::io::Errno;
use skidder_pipeline::frame::Frame;
use skidder_pipeline::sink::{Note, Response, Sending, Transport, TransportError};

use super::beneath::{self, Id, rotated};
use super::births::{Births, Mark};
use super::recover;

/// How files are written.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What everything is below.
    pub base: PathBuf,
    /// The size at which a file is renamed.
    pub max_bytes: Option<u64>,
    /// How many renamed files are kept.
    pub max_files: u32,
    /// Whether each frame is synced.
    pub sync: bool,
    /// Where the journal of begun files is.
    pub births: Option<PathBuf>,
}

/// Files kept open: more than a node has busy containers, far fewer than a process may have.
const MAX_OPEN: usize = 64;

/// Appends each frame, as it is stored, to the file that its destination names.
pub struct FileTransport {
    files: Arc<Mutex<Files>>,
}

impl FileTransport {
    pub fn new(settings: Settings) -> FileTransport {
        let files = Files {
            settings,
            base: None,
            open: Vec::new(),
            known: HashMap::new(),
            births: Births::default(),
            begun: Vec::new(),
            group: None,
            torn: HashMap::new(),
        };
        FileTransport { files: Arc::new(Mutex::new(files)) }
    }
}

impl Transport for FileTransport {
    fn send<'a>(&'a self, frame: &'a Frame) -> Sending<'a> {
        let (files, header, body) = (self.files.clone(), frame.header(), frame.body().clone());
        let key = beneath::canonical(&header.destination);
        // The number of the group's first frame.
        let group = header.seq.saturating_sub(header.group_index.into());
        // A slow disk holds up this sink and not the tasks of the others.
        let write = move || files.lock().unwrap_or_else(PoisonError::into_inner).write(&key, group, &body);
        Box::pin(async move {
            let written = tokio::task::spawn_blocking(write).await.unwrap_or_else(|e| Err(io::Error::other(e)));
            let note = written.map_err(|e| TransportError(format!("a file cannot be written: {e}")))?;
            Ok(Response { note: Some(note), ..Response::ok() })
        })
    }

    fn recover(&self, notes: &[Note]) -> Result<(), TransportError> {
        let files = &mut *self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let journal = |e: io::Error| TransportError(format!("the journal of begun files cannot be read or written: {e}"));
        files.births = Births::open(files.settings.births.clone()).map_err(journal)?;
        files.known = recover::recover(&files.settings, notes, &mut files.births).map_err(journal)?;
        Ok(())
    }

    fn concurrency(&self) -> Option<usize> {
        Some(1)
    }
}

struct Files {
    settings: Settings,
    base: Option<OwnedFd>,
    /// The one used last stands last.
    open: Vec<(String, Open)>,
    /// The file of each key of which the journal or a note knows, and how long we left it.
    known: HashMap<String, Mark>,
    births: Births,
    /// The group being written, and the births in it.
    group: Option<u64>,
    begun: Vec<u64>,
    /// Files with part of a frame that could not be taken out again, and how long they should be.
    torn: HashMap<String, Mark>,
}

struct Open {
    dir: OwnedFd,
    file: File,
    id: Id,
}

impl Files {
    fn write(&mut self, key: &str, group: u64, body: &[u8]) -> io::Result<Note> {
        let result = self.begin(group).and_then(|()| self.append(key, body));
        if result.is_err() {
            // Perhaps a directory was moved or is gone: the next try begins at the top.
            self.open.clear();
            self.base = None;
        }
        result
    }

    /// Frames come one by one and in order, so one of another group says that the group before is acknowledged, with its
    /// notes.
    fn begin(&mut self, group: u64) -> io::Result<()> {
        if self.group.is_some_and(|before| before != group) && !self.begun.is_empty() {
            self.births.settle(&self.begun)?;
            self.begun.clear();
        }
        self.group = Some(group);
        Ok(())
    }

    fn append(&mut self, key: &str, body: &[u8]) -> io::Result<Note> {
        let mut open = self.take(key)?;
        let mut before = open.file.metadata()?.len();
        if let Some(torn) = self.torn.get(key) {
            if torn.id == open.id && torn.len < before {
                open.file.set_len(torn.len)?;
                before = torn.len;
            }
            self.torn.remove(key);
        }
        if self.settings.max_bytes.is_some_and(|max| before > 0 && before + body.len() as u64 > max) {
            self.rotate(&open.dir, key)?;
            open = self.open(key)?;
            before = open.file.metadata()?.len();
        }
        let mark = Mark { id: open.id, len: before };
        // One that is shorter than we left it is another with the same number, or was emptied: begun anew either way.
        if self.known.get(key).is_none_or(|known| known.id != open.id || before < known.len) {
            let number = self.births.record(key, mark)?;
            self.begun.push(number);
        }
        self.known.insert(key.to_owned(), mark);
        let written = open.file.write_all(body).and_then(|()| if self.settings.sync { open.file.sync_data() } else { Ok(()) });
        if let Err(e) = written {
            if open.file.set_len(before).is_err() {
                self.torn.insert(key.to_owned(), mark);
            }
            return Err(e);
        }
        let mark = Mark { len: before + body.len() as u64, ..mark };
        self.known.insert(key.to_owned(), mark);
        self.keep(key, open);
        Ok(recover::to_note(key, mark, &self.births))
    }

    /// The open file of `key`, if it still is what the path leads to; else opened anew.
    fn take(&mut self, key: &str) -> io::Result<Open> {
        if let Some(at) = self.open.iter().position(|(of, _)| of == key) {
            let (_, open) = self.open.remove(at);
            let name = key.rsplit('/').next().unwrap_or(key);
            if beneath::who(&open.dir, name).is_ok_and(|who| who == Some(open.id)) {
                return Ok(open);
            }
        }
        self.open(key)
    }

    fn open(&mut self, key: &str) -> io::Result<Open> {
        let base = match &mut self.base {
            Some(base) => base,
            None => self.base.insert(beneath::open_base(&self.settings.base)?),
        };
        let (dir, name) = beneath::parent(base, key, true)?;
        let (file, id, _) = beneath::open_file(&dir, name, true)?;
        Ok(Open { dir, file, id })
    }

    fn keep(&mut self, key: &str, open: Open) {
        if self.open.len() >= MAX_OPEN {
            self.open.remove(0);
        }
        self.open.push((key.to_owned(), open));
    }

    /// Renames `path.n` to `path.n+1`, the oldest first, and at last `path` to `path.1`. A kill in between leaves a gap in the
    /// numbers and nothing else.
    fn rotate(&self, dir: &OwnedFd, key: &str) -> io::Result<()> {
        let name = key.rsplit('/').next().unwrap_or(key);
        for count in (0..self.settings.max_files).rev() {
            match rustix::fs::renameat(dir, rotated(name, count), dir, rotated(name, count + 1)) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }
}
