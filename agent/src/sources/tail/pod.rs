//! What is known of the pod that writes a log, and what that means for its reading.

use skidder_pipeline::edge::Nanos;

use crate::metadata::{Hold, Verdict};

use super::generation::Generation;
use super::stream::Stream;
use super::{Env, Tailer};
use crate::sources::join::Joiner;

impl Stream {
    /// What is to be done with it now, as far as its pod has a say in that. Records get other fields from here on where
    /// something is known that was not.
    pub(super) fn verdict(&mut self, env: &Env, now: Nanos) -> Verdict {
        let Some(hold) = &mut self.hold else { return Verdict::Read };
        if hold.changed() {
            self.chain.iter_mut().for_each(Generation::rest);
        }
        match hold.verdict(now) {
            // What is read now could not be read later.
            Verdict::Wait(_) if env.stopping => Verdict::Read,
            verdict => verdict,
        }
    }

    /// How fast it may be read: as the source says, or slower where its pod wants that.
    pub(super) fn rate(&self, of_source: Option<u64>) -> Option<u64> {
        let of_pod = self.hold.as_deref().and_then(Hold::rate_limit);
        [of_source, of_pod].into_iter().flatten().min()
    }
}

impl Tailer {
    /// Lets go of a log that its pod does not want to be read. Each full scan asks again whether that is still so.
    pub(super) fn leave_unread(&mut self, stream: &mut Stream) {
        if stream.watched {
            self.ask(stream);
        }
        for generation in stream.chain.drain(..) {
            self.inodes.remove(&(generation.facts.dev, generation.facts.ino));
        }
        stream.joiner = Joiner::default();
        self.discover.look_again(&stream.unit);
    }
}
