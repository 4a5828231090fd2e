//! Damage to the state between two lives: what a failing disk does.

use std::fs;
use std::io;
use std::path::Path;

use crate::chance::Chance;
use crate::site::files_below;

/// Flips one byte, or cuts the tail, of one of the buffers' files below `state`. Says what it did.
pub(super) fn damage(state: &Path, chance: &mut Chance) -> io::Result<Option<String>> {
    let is_buffer = |path: &std::path::PathBuf| path.extension().is_some_and(|end| end == "seg" || end == "wal");
    let files: Vec<_> = files_below(state)?.into_iter().filter(is_buffer).collect();
    if files.is_empty() {
        return Ok(None);
    }
    let path = chance.pick(&files);
    let mut bytes = fs::read(path)?;
    if bytes.is_empty() {
        return Ok(None);
    }
    let at = chance.below(bytes.len() as u64) as usize;
    let what = if chance.below(3) == 0 {
        bytes.truncate(at);
        "cut to"
    } else {
        bytes[at] ^= 1 << chance.below(8);
        "flipped a bit at"
    };
    fs::write(path, bytes)?;
    Ok(Some(format!("{}: {what} {at}", path.display())))
}
