//! A second reader of the same files, for sinks that fell behind.

use skidder_pipeline::source::SinkSet;

use super::Tailer;
use super::stream::Stream;

impl Tailer {
    /// Another that holds the same files open, to be read for `sinks` from where their buffers stand.
    pub(super) fn fork_for(&self, sinks: SinkSet) -> Tailer {
        let mut fork = Tailer::new(self.env.fork(sinks), self.discover.fork(), self.settings);
        self.streams.iter().flatten().for_each(|stream| fork.adopt(stream));
        fork.scanned = true;
        // One that takes this one's place.
        fork.witness = self.witness.clone().filter(|_| self.env.sinks.without(sinks).is_empty());
        fork
    }

    /// Takes a fork of another tailer's stream over: its files, to be read from where the buffers stand.
    fn adopt(&mut self, stream: &Stream) {
        let index = self.insert(stream.unit.clone());
        for generation in &stream.chain {
            match generation.fork(&self.env) {
                Ok(fork) => {
                    self.inodes.insert((fork.facts.dev, fork.facts.ino));
                    if let Some(own) = &mut self.streams[index] {
                        own.chain.push(fork);
                    }
                }
                // What still has a name is found by it.
                Err(error) => {
                    tracing::warn!(source = %self.env.name, path = %generation.path.to_path().display(), %error, "cannot hold a log open for a sink that fell behind")
                }
            }
        }
        self.begin_to_read(index, stream.gone);
    }

    /// Lets a stream whose chain was put together take its turns.
    pub(super) fn begin_to_read(&mut self, index: usize, gone: bool) {
        if let Some(mut own) = self.streams[index].take() {
            own.gone = gone;
            own.active = true;
            self.active.push_back(index);
            self.inherited.insert(own.unit.clone());
            self.recount(&mut own);
            self.streams[index] = Some(own);
        }
    }
}
