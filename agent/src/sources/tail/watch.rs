//! Seeing new files at once, and writes to files that nobody wrote for a while: one inotify instance, one watch a directory.
//!
//! Busy files are not watched: they would flood the queue of 16,384 events, and their growth is cheaper to ask for. Where all
//! files of a directory rest, its watch tells of writes too, so that they need not be asked ([`Watch::tell_writes`]). What
//! inotify says is only ever a hint to look; rescans are the truth.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::Path;
use std::sync::{Arc, Once};

use inotify::{EventMask, Inotify, WatchMask};

/// Room for some hundred events a read.
const BUFFER_BYTES: usize = 16 * 1024;
/// What tells of new names.
const NAMES: WatchMask = WatchMask::CREATE.union(WatchMask::MOVED_TO).union(WatchMask::ONLYDIR);

/// The watched directories.
pub(crate) struct Watch {
    inotify: Option<Inotify>,
    by_descriptor: HashMap<i32, Arc<Path>>,
    /// Watched directories that are not named themselves, but by one that is in them: there are thousands.
    parents: HashMap<i32, Arc<Path>>,
    buffer: Vec<u8>,
    complete: bool,
    /// Whether something may have happened that was not told since the last look at all.
    doubt: bool,
}

/// The watch of one directory.
#[derive(Clone, Copy)]
pub(crate) struct Watched(i32);

/// What was seen since the last look.
#[derive(Default)]
pub(super) struct Seen {
    /// Directories in which something appeared.
    pub changed: HashSet<Arc<Path>>,
    /// Directories in which a file was written to.
    pub written: HashSet<Arc<Path>>,
    /// Whether events were lost, so that all must be looked at.
    pub lost: bool,
}

impl Watch {
    /// Without inotify, where the system has none to give, everything still works by rescans.
    pub(crate) fn new() -> Watch {
        Watch::of(Inotify::init())
    }

    fn of(inotify: io::Result<Inotify>) -> Watch {
        let inotify = inotify.inspect_err(warn_exhausted).ok();
        let complete = inotify.is_some();
        Watch { inotify, by_descriptor: HashMap::new(), parents: HashMap::new(), buffer: vec![0; BUFFER_BYTES], complete, doubt: true }
    }

    /// One that sees nothing, as where the system has no instance left.
    #[cfg(test)]
    pub(crate) fn exhausted() -> Watch {
        Watch::of(Err(rustix::io::Errno::MFILE.into()))
    }

    /// Whether all directories are watched; where not, rescans must come more often.
    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    /// Whether a look at all must ask about every directory: not all are watched, or events were lost since the last one.
    pub(crate) fn take_doubt(&mut self) -> bool {
        std::mem::take(&mut self.doubt) || !self.complete
    }

    /// Watches `dir` for new names. To be called before it is listed, so that nothing can come between. Gives the watch, if there
    /// is one.
    pub(crate) fn add(&mut self, dir: &Arc<Path>) -> Option<Watched> {
        let id = self.set(dir, NAMES | WatchMask::MASK_ADD)?;
        self.by_descriptor.insert(id, dir.clone());
        self.parents.remove(&id);
        Some(Watched(id))
    }

    /// Says that the directory of this watch, in which `dir` lies, is known by that from now on.
    pub(crate) fn know_by(&mut self, parent: Watched, dir: &Arc<Path>) {
        self.by_descriptor.remove(&parent.0);
        self.parents.insert(parent.0, dir.clone());
    }

    /// Watches the files of `dir` for writes too, or no longer. Says whether it is watched.
    pub(super) fn tell_writes(&mut self, dir: &Arc<Path>, tell: bool) -> bool {
        let id = self.set(dir, if tell { NAMES | WatchMask::MODIFY } else { NAMES });
        if let Some(id) = id {
            self.by_descriptor.insert(id, dir.clone());
        }
        id.is_some()
    }

    /// Of a directory that is watched already the system gives the same descriptor.
    fn set(&mut self, dir: &Path, mask: WatchMask) -> Option<i32> {
        let inotify = self.inotify.as_ref()?;
        match inotify.watches().add(dir, mask) {
            Ok(descriptor) => return Some(descriptor.get_watch_descriptor_id()),
            Err(error) if matches!(error.raw_os_error(), Some(code) if code == rustix::io::Errno::NOSPC.raw_os_error()) => {
                warn_exhausted(&error);
                self.complete = false;
            }
            // Gone again, or not ours to read: the rescan says which.
            Err(_) => {}
        }
        None
    }

    /// Adds to `seen` what happened since the last call.
    pub(super) fn look(&mut self, seen: &mut Seen) {
        let Some(inotify) = &mut self.inotify else { return };
        loop {
            let events = match inotify.read_events(&mut self.buffer) {
                Ok(events) => events,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    tracing::warn!(%error, "inotify cannot be read any more; new files are found by rescans");
                    self.inotify = None;
                    self.complete = false;
                    seen.lost = true;
                    return;
                }
            };
            for event in events {
                let id = event.wd.get_watch_descriptor_id();
                if event.mask.contains(EventMask::Q_OVERFLOW) {
                    (seen.lost, self.doubt) = (true, true);
                } else if event.mask.contains(EventMask::IGNORED) {
                    self.by_descriptor.remove(&id);
                    self.parents.remove(&id);
                } else if let Some(dir) = self.by_descriptor.get(&id) {
                    let which = if event.mask.contains(EventMask::MODIFY) { &mut seen.written } else { &mut seen.changed };
                    // Events of one directory come in runs.
                    if !which.contains(dir) {
                        which.insert(dir.clone());
                    }
                } else if let Some(dir) = self.parents.get(&id).and_then(|dir| dir.parent())
                    && !seen.changed.contains(dir)
                {
                    seen.changed.insert(dir.into());
                }
            }
        }
    }
}

/// Says so once, whatever else is exhausted by it: every source has an instance, and every reader of a sink that fell behind.
fn warn_exhausted(error: &io::Error) {
    static SAID: Once = Once::new();
    SAID.call_once(|| {
        tracing::warn!(
            %error,
            "inotify is exhausted; new files are found by rescans every 2 s (raise fs.inotify.max_user_watches or fs.inotify.max_user_instances)"
        );
    });
}
