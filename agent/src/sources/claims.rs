//! Which source of the process reads which file, so that no two read the same one.
//!
//! Links, and globs whose overlap the check of the configuration cannot see, may lead two sources to one file. The first to
//! meet it reads it; the other refuses it, with an error that names the first.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The files of all sources of a process.
#[derive(Debug, Default)]
pub struct Claims {
    files: Mutex<Files>,
    /// There is one source that reads files, and nothing to be noted down.
    alone: bool,
}

#[derive(Debug, Default)]
struct Files {
    /// The names of the sources that ever claimed a file.
    sources: Vec<String>,
    by_inode: HashMap<(u64, u64), Holder>,
}

#[derive(Debug)]
struct Holder {
    /// Its place in the list.
    source: u32,
    /// The readers of that source that hold the file, and what is remembered of it.
    count: u32,
}

impl Claims {
    /// For as many sources that read files.
    pub fn of(sources: usize) -> Claims {
        Claims { files: Mutex::default(), alone: sources <= 1 }
    }

    /// Claims the file `inode` for `source`.
    ///
    /// # Errors
    /// The name of the source that has it.
    pub(crate) fn claim(self: &Arc<Claims>, source: &str, inode: (u64, u64)) -> Result<Claim, String> {
        if self.alone {
            return Ok(Claim { _claimed: None });
        }
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let Files { sources, by_inode } = &mut *files;
        let index = sources.iter().position(|known| known == source).unwrap_or_else(|| {
            sources.push(source.to_owned());
            sources.len() - 1
        }) as u32;
        let holder = by_inode.entry(inode).or_insert(Holder { source: index, count: 0 });
        if holder.source != index {
            return Err(sources[holder.source as usize].clone());
        }
        holder.count += 1;
        Ok(Claim { _claimed: Some(Box::new(Claimed { claims: self.clone(), inode })) })
    }
}

/// A file that a source reads, for as long as this lives.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    _claimed: Option<Box<Claimed>>,
}

#[derive(Debug)]
struct Claimed {
    claims: Arc<Claims>,
    inode: (u64, u64),
}

impl Clone for Claimed {
    fn clone(&self) -> Claimed {
        let mut files = self.claims.files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(holder) = files.by_inode.get_mut(&self.inode) {
            holder.count += 1;
        }
        Claimed { claims: self.claims.clone(), inode: self.inode }
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        let mut files = self.claims.files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(holder) = files.by_inode.get_mut(&self.inode) {
            holder.count -= 1;
            if holder.count == 0 {
                files.by_inode.remove(&self.inode);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_one_sources_until_the_last_of_its_readers_lets_go() {
        let claims = Arc::new(Claims::default());
        let first = claims.claim("a", (1, 2)).unwrap();
        let second = claims.claim("a", (1, 2)).unwrap();
        assert_eq!(claims.claim("b", (1, 2)).unwrap_err(), "a");
        assert!(claims.claim("b", (1, 3)).is_ok());
        let third = second.clone();
        drop((first, second));
        assert!(claims.claim("b", (1, 2)).is_err());
        drop(third);
        assert!(claims.claim("b", (1, 2)).is_ok());
        let claims = Arc::new(Claims::of(1));
        let _first = claims.claim("a", (1, 2)).unwrap();
        assert!(claims.files.lock().unwrap().by_inode.is_empty(), "one source alone costs nothing");
    }
}
