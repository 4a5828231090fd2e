//! Docker's own directory of logs, into which the links of a node with docker lead.
//!
//! `<pods>/<pod>/<container>/0.log` is a symbolic link to `<docker root>/<id>/<id>-json.log`. It is read, never followed: what
//! it says must lie below the configured root, and is opened from there under the same rules as any log, so that a link
//! planted by a pod leads to nothing but another container's log.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::super::framing::Format;
use super::super::tail::open::{Owners, Refusal, Root};
use super::super::tail::{Age, Entry, Listing, Place, Watch};

/// How many logs that docker rotated are looked for: `max-file` is 5 where it is set at all.
const MAX_ROTATED: u32 = 99;

/// Where docker keeps its logs.
pub(super) struct DockerRoot {
    /// Opened when a link leads there first.
    pub(super) root: Option<Root>,
    path: PathBuf,
    /// The containers' directories below the root of pods, by docker's.
    pub(super) containers: HashMap<Arc<Path>, Arc<Path>>,
}

impl DockerRoot {
    pub(super) fn new(path: PathBuf) -> DockerRoot {
        DockerRoot { root: None, path, containers: HashMap::new() }
    }

    pub(super) fn fork(&self) -> DockerRoot {
        DockerRoot::new(self.path.clone())
    }

    /// What the link `below` the root of pods leads to, relative to docker's root.
    pub(super) fn resolve(&mut self, pods: &Root, below: &Path, owners: &Owners) -> Result<PathBuf, Refusal> {
        let target = pods.read_link(below)?;
        let target = target.strip_prefix(&self.path).map_err(|_| Refusal::LinkAway)?;
        if !target.components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(Refusal::LinkAway);
        }
        if self.root.take_if(|root| !root.is_at(&self.path)).is_some() || self.root.is_none() {
            self.root = Some(Root::open(&self.path, owners.clone()).map_err(Refusal::Io)?);
        }
        Ok(target.to_owned())
    }

    /// Adds the log at `target`, and `target.1` and so on, the older the higher.
    pub(super) fn find(
        &mut self,
        target: &Path,
        container: &Arc<Path>,
        link: &Path,
        place: &Place,
        entries: &mut Vec<Entry>,
        (watch, listing): (&mut Watch, &mut Listing),
    ) {
        let Some(root) = &self.root else { return };
        if let Some(dir) = target.parent() {
            let dir: Arc<Path> = self.path.join(dir).into();
            watch.add(&dir);
            self.containers.insert(dir, container.clone());
        }
        let mut add = |target: PathBuf, place: Place| match root.metadata(&target) {
            Ok(metadata) => {
                entries.push(Entry { target: Some(target), format: Some(Format::Docker), ..Entry::new(link.to_owned(), place, &metadata) });
                true
            }
            Err(Refusal::Gone) => false,
            Err(refusal) => {
                listing.refused.push((self.path.join(target), refusal));
                false
            }
        };
        add(target.to_owned(), place.clone());
        for number in 1..=MAX_ROTATED {
            let mut rotated = target.as_os_str().to_owned();
            rotated.push(format!(".{number}"));
            let age = Age::Rotated(format!("{:03}", MAX_ROTATED - number).into());
            if !add(rotated.into(), Place { restart: place.restart, age }) {
                return;
            }
        }
    }
}
