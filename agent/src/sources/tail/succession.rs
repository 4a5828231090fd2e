//! Open logs that pass to another tailer at a reload.

use std::path::Path;
use std::sync::Arc;

use super::super::estate::Left;
use super::Tailer;
use super::chain::Chain;
use super::generation::Generation;

/// The open generations of one log, without a reader.
pub(crate) struct LeftLog {
    pub unit: Arc<Path>,
    gone: bool,
    chain: Chain,
}

impl LeftLog {
    /// Adds those that another reader of the same log held: one for sinks that fell behind, which begins with older ones.
    pub(crate) fn join(&mut self, other: LeftLog) {
        let inode = |generation: &Generation| (generation.facts.dev, generation.facts.ino);
        let known: Vec<_> = self.chain.iter().map(inode).collect();
        let mut rest = std::mem::take(&mut self.chain).into_iter();
        let mut joined = Chain::new();
        for older in other.chain {
            if known.contains(&inode(&older)) {
                for own in rest.by_ref() {
                    let is_it = inode(&own) == inode(&older);
                    joined.push(own);
                    if is_it {
                        break;
                    }
                }
            } else {
                joined.push(older);
            }
        }
        joined.extend(rest);
        self.chain = joined;
        self.gone &= other.gone;
    }
}

impl Tailer {
    /// Leaves its open logs to the next of its name.
    pub(super) fn leave_logs(&mut self) {
        let streams = std::mem::take(&mut self.streams).into_iter().flatten();
        let logs = streams.map(|stream| LeftLog { unit: stream.unit.clone(), gone: stream.gone, chain: stream.chain }).collect();
        self.env.estate.leave(&self.env.name, Left { logs, ..Left::default() });
    }

    /// Takes over what another left: all of it where it is the same source as before, else the files that it would find itself. They
    /// are read from where the buffers stand.
    pub(crate) fn take_over(&mut self, logs: Vec<LeftLog>, is_same: bool, reads: impl Fn(&Path) -> bool) {
        for LeftLog { unit, gone, mut chain } in logs {
            chain.retain(|generation| is_same || reads(&generation.path.to_path()));
            if chain.is_empty() {
                continue;
            }
            let index = self.insert(unit);
            for left in chain {
                let inode = (left.facts.dev, left.facts.ino);
                match self.env.claims.claim(&self.env.name, inode).map(|claim| left.pass_to(&self.env, claim)) {
                    Ok(Ok(generation)) => {
                        self.inodes.insert(inode);
                        if let Some(own) = &mut self.streams[index] {
                            own.chain.push(generation);
                        }
                    }
                    // What still has a name is found by it.
                    Ok(Err(error)) => {
                        let path = left.path.to_path();
                        tracing::warn!(source = %self.env.name, path = %path.display(), %error, "cannot hold a log open over a reload");
                    }
                    Err(_) => {}
                }
            }
            self.begin_to_read(index, gone);
        }
        // What comes from now on is new, and not something to be left out.
        self.scanned |= is_same;
    }
}
