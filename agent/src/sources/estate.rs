//! What sources leave to those that take their places at a reload: the files that they hold open.
//!
//! A log that was deleted or rotated away is read to its end because it is held open, and nobody could open it again. So an open
//! file passes from a source to the one of the same name; where that one's options have changed, only if it would read a file
//! of that path itself. All else begins as at a start: where the buffers of the sinks stand.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::journald::journal::Journal;
use super::tail::LeftLog;

/// What the sources of one configuration leave to those of the next, by the name of the source. One for the whole process.
#[derive(Default)]
pub struct Estate {
    left: Mutex<HashMap<String, Left>>,
}

/// What one source left.
#[derive(Default)]
pub(crate) struct Left {
    pub logs: Vec<LeftLog>,
    pub journals: Vec<Journal>,
}

impl Estate {
    /// Leaves something to the next source of this name. A source may have several readers; the first that comes read for the
    /// sinks that kept up, the others for those that fell behind.
    pub(crate) fn leave(&self, source: &str, left: Left) {
        let mut all = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let own = all.entry(source.to_owned()).or_default();
        for log in left.logs {
            match own.logs.iter_mut().find(|known| known.unit == log.unit) {
                Some(known) => known.join(log),
                None => own.logs.push(log),
            }
        }
        for journal in left.journals {
            if own.journals.iter().all(|known| known.inode != journal.inode) {
                own.journals.push(journal);
            }
        }
    }

    /// Takes what was left to the source of this name.
    pub(crate) fn take(&self, source: &str) -> Left {
        self.left.lock().unwrap_or_else(PoisonError::into_inner).remove(source).unwrap_or_default()
    }

    /// Lets go of what nobody took.
    pub fn clear(&self) {
        self.left.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl std::fmt::Debug for Estate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Estate").finish_non_exhaustive()
    }
}
