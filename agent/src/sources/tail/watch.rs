//! Seeing new files at once: one inotify instance, one watch a directory.
//!
//! Files are not watched: a busy one would flood the queue of 16,384 events, and their growth is cheaper to ask for. What
//! inotify says is only ever a hint to look at a directory; the rescan is the truth.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::Path;
use std::sync::Arc;

use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask};

/// Room for some hundred events a read.
const BUFFER_BYTES: usize = 16 * 1024;

/// The watched directories.
pub(super) struct Watch {
    inotify: Option<Inotify>,
    by_descriptor: HashMap<WatchDescriptor, Arc<Path>>,
    buffer: Vec<u8>,
    complete: bool,
}

impl Watch {
    /// Without inotify, where the system has none to give, everything still works by rescans.
    pub(super) fn new() -> Watch {
        let inotify = match Inotify::init() {
            Ok(inotify) => Some(inotify),
            Err(error) => {
                warn_exhausted(&error);
                None
            }
        };
        let complete = inotify.is_some();
        Watch { inotify, by_descriptor: HashMap::new(), buffer: vec![0; BUFFER_BYTES], complete }
    }

    /// Whether all directories are watched; where not, rescans must come more often.
    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    /// Watches `dir`, if it is not watched yet. Says whether it was not and is now.
    pub(super) fn add(&mut self, dir: &Arc<Path>) -> bool {
        let Some(inotify) = &self.inotify else { return false };
        let mask = WatchMask::CREATE | WatchMask::MOVED_TO | WatchMask::ONLYDIR;
        match inotify.watches().add(dir, mask) {
            // Of a directory that is watched already the system gives the same descriptor.
            Ok(descriptor) => return self.by_descriptor.insert(descriptor, dir.clone()).is_none(),
            Err(error) if matches!(error.raw_os_error(), Some(code) if code == rustix::io::Errno::NOSPC.raw_os_error()) => {
                if self.complete {
                    warn_exhausted(&error);
                }
                self.complete = false;
            }
            // Gone again, or not ours to read: the rescan says which.
            Err(_) => {}
        }
        false
    }

    /// Adds to `changed` the directories in which something appeared. Says whether events were lost, so that all must be
    /// looked at.
    pub(super) fn changed(&mut self, changed: &mut HashSet<Arc<Path>>) -> bool {
        let Some(inotify) = &mut self.inotify else { return false };
        let mut lost = false;
        loop {
            let events = match inotify.read_events(&mut self.buffer) {
                Ok(events) => events,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return lost,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    tracing::warn!(%error, "inotify cannot be read any more; new files are found by rescans");
                    self.inotify = None;
                    self.complete = false;
                    return true;
                }
            };
            for event in events {
                if event.mask.contains(EventMask::Q_OVERFLOW) {
                    lost = true;
                } else if event.mask.contains(EventMask::IGNORED) {
                    self.by_descriptor.remove(&event.wd);
                } else if let Some(dir) = self.by_descriptor.get(&event.wd) {
                    changed.insert(dir.clone());
                }
            }
        }
    }
}

fn warn_exhausted(error: &io::Error) {
    tracing::warn!(
        %error,
        "inotify is exhausted; new files are found by rescans every 2 s (raise fs.inotify.max_user_watches or fs.inotify.max_user_instances)"
    );
}
