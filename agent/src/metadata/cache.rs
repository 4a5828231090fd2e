//! Metadata on disk, for the time that the API server is away: `metadata.json` in the state directory.
//!
//! Its text is one JSON object: `version` (1), `node_name`, `node`, `namespaces` and `pods`, the last by uid, all with the
//! labels and annotations that the configuration asked for when it was written; `excluded` are the names of those namespaces
//! whose pods' logs are not to be read, `gone` are the uids of those pods that are not
//! on the node any more, and of which something may be left to read. It is replaced as a whole, by a rename. A file
//! that cannot be read is the same as none: all of it can be asked for again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::facts::{Facts, Pairs};
use super::store::Snapshot;

const VERSION: u32 = 1;
/// A larger file is not one that was written here: 10,000 pods with long labels are half of it.
const MAX_BYTES: u64 = 64 << 20;

#[derive(Serialize)]
struct Written<'a> {
    version: u32,
    node_name: &'a str,
    node: Option<&'a Pairs>,
    namespaces: BTreeMap<&'a str, &'a Pairs>,
    pods: BTreeMap<&'a str, &'a Facts>,
    gone: &'a BTreeSet<Box<str>>,
    excluded: &'a BTreeSet<Box<str>>,
}

#[derive(Deserialize)]
struct Read {
    version: u32,
    node_name: Box<str>,
    node: Option<Pairs>,
    #[serde(default)]
    namespaces: BTreeMap<Box<str>, Pairs>,
    #[serde(default)]
    pods: BTreeMap<Box<str>, Facts>,
    #[serde(default)]
    gone: BTreeSet<Box<str>>,
    #[serde(default)]
    excluded: BTreeSet<Box<str>>,
}

/// Reads what an earlier run on the same node left.
pub(super) fn load(path: &Path, node_name: &str) -> Option<Snapshot> {
    let size = fs::metadata(path).ok()?.len();
    let bytes = (size <= MAX_BYTES).then(|| fs::read(path).ok()).flatten()?;
    let read: Read = match serde_json::from_slice(&bytes) {
        Ok(read) => read,
        Err(error) => {
            tracing::warn!(file = %path.display(), line = error.line(), column = error.column(), "the cache of metadata is damaged; going without until Kubernetes answers");
            return None;
        }
    };
    // A disk that was moved to another node knows nothing of this one.
    (read.version == VERSION && &*read.node_name == node_name).then(|| Snapshot {
        node: read.node.map(Arc::new),
        namespaces: read.namespaces.into_iter().map(|(name, labels)| (name, Arc::new(labels))).collect(),
        pods: read.pods.into_iter().map(|(uid, facts)| (uid, Arc::new(facts))).collect(),
        gone: read.gone,
        excluded: read.excluded,
    })
}

/// Replaces the file. It need not survive a loss of power, when there are no pods left that it tells of.
pub(super) fn save(path: &Path, node_name: &str, snapshot: &Snapshot) -> io::Result<()> {
    let written = Written {
        version: VERSION,
        node_name,
        node: snapshot.node.as_deref(),
        namespaces: snapshot.namespaces.iter().map(|(name, labels)| (&**name, &**labels)).collect(),
        pods: snapshot.pods.iter().map(|(uid, facts)| (&**uid, &**facts)).collect(),
        gone: &snapshot.gone,
        excluded: &snapshot.excluded,
    };
    let new = path.with_extension("new");
    let file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    let mut file = io::BufWriter::new(file);
    serde_json::to_writer(&mut file, &written)?;
    file.flush()?;
    fs::rename(&new, path)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn what_was_saved_is_loaded_on_the_same_node() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metadata.json");
        assert!(load(&path, "n").is_none());
        let facts = Facts { name: "p".into(), labels: Pairs::from([("a".into(), "b".into())]), ..Facts::default() };
        let snapshot = Snapshot {
            node: Some(Arc::new(Pairs::from([("zone".into(), "z".into())]))),
            namespaces: BTreeMap::from([("ns".into(), Arc::default())]),
            pods: BTreeMap::from([("u1".into(), Arc::new(facts))]),
            gone: BTreeSet::from(["u1".into()]),
            excluded: BTreeSet::from(["ns".into()]),
        };
        save(&path, "n", &snapshot).unwrap();
        let loaded = load(&path, "n").unwrap();
        assert_eq!((loaded.node, loaded.namespaces, &loaded.pods), (snapshot.node, snapshot.namespaces, &snapshot.pods));
        assert_eq!((loaded.gone, loaded.excluded), (snapshot.gone, snapshot.excluded));
        assert!(load(&path, "other").is_none());
        let text = fs::read(&path).unwrap();
        fs::write(&path, &text[..text.len() / 2]).unwrap();
        assert!(load(&path, "n").is_none());
    }
}
