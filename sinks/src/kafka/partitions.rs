//! How many partitions topics have: told by the transport, which asks the brokers, to the encoders, which ask nobody.
//!
//! Kept in the sink's state directory too (`partitions.json`), so that an agent that starts while the brokers are away fills bodies
//! as before. Where nothing is known a body holds the records of one hash, and the transport finds its partition when it sends it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{PoisonError, RwLock};

/// The most topics that are remembered: beyond, bodies for others hold one hash each.
const MAX_TOPICS: usize = 1000;

/// The topics of one sink.
pub struct Partitions {
    cache: Option<PathBuf>,
    known: RwLock<BTreeMap<String, u32>>,
}

/// Where the records of a body go within their topic.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Place {
    /// To this partition.
    Partition(u32),
    /// To the partition of this hash.
    Hash(u32),
    /// To any: they have no key.
    Any,
}

impl Place {
    /// As the second part of a destination; the first is the topic, which has no space in it.
    pub fn tag(self) -> String {
        match self {
            Place::Partition(partition) => format!(" p{partition}"),
            Place::Hash(hash) => format!(" h{hash}"),
            Place::Any => " any".to_owned(),
        }
    }

    /// The topic and the place of a destination.
    pub fn read(destination: &str) -> (&str, Place) {
        let (topic, tag) = destination.split_once(' ').unwrap_or((destination, "any"));
        let number = |tag: &str| tag.get(1..).and_then(|number| number.parse().ok());
        let place = match (tag.as_bytes().first(), number(tag)) {
            (Some(b'p'), Some(partition)) => Place::Partition(partition),
            (Some(b'h'), Some(hash)) => Place::Hash(hash),
            _ => Place::Any,
        };
        (topic, place)
    }
}

impl Partitions {
    /// What an earlier run wrote to `cache`, if there is something.
    pub fn new(cache: Option<PathBuf>) -> Partitions {
        let text = cache.as_ref().and_then(|path| std::fs::read(path).ok()).unwrap_or_default();
        // What cannot be read is as good as not there: the brokers are asked.
        let known: BTreeMap<String, u32> = serde_json::from_slice(&text).unwrap_or_default();
        Partitions { cache, known: RwLock::new(known.into_iter().filter(|(_, count)| *count > 0).take(MAX_TOPICS).collect()) }
    }

    /// How many partitions `topic` has, if it is known.
    pub fn count(&self, topic: &str) -> Option<u32> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(topic).copied()
    }

    /// Notes what the brokers say.
    pub fn learn(&self, topic: &str, count: u32) {
        if self.count(topic) == Some(count) || count == 0 {
            return;
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() < MAX_TOPICS || known.contains_key(topic) {
            known.insert(topic.to_owned(), count);
            self.save(&known);
        }
    }

    /// A cache: that it cannot be written is no fault of the delivery.
    fn save(&self, known: &BTreeMap<String, u32>) {
        let Some(path) = &self.cache else { return };
        let Ok(text) = serde_json::to_vec(known) else { return };
        let new = path.with_extension("new");
        if let Err(error) = std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, path)) {
            tracing::debug!(%error, "what is known of the topics is not kept");
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_they_are_written() {
        for place in [Place::Partition(0), Place::Partition(4711), Place::Hash(0x7fff_ffff), Place::Any] {
            let destination = format!("logs{}", place.tag());
            assert_eq!(Place::read(&destination), ("logs", place));
        }
    }

    #[test]
    fn what_is_known_survives_the_process() {
        let directory = tempfile::tempdir().unwrap();
        let cache = || Some(directory.path().join("partitions.json"));
        let partitions = Partitions::new(cache());
        assert_eq!(partitions.count("logs"), None);
        partitions.learn("logs", 12);
        assert_eq!(Partitions::new(cache()).count("logs"), Some(12));
        std::fs::write(cache().unwrap(), "no JSON").unwrap();
        assert_eq!(Partitions::new(cache()).count("logs"), None);
    }
}
