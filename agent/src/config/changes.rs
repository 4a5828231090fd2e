//! What is different between two configurations, in a few words.

use std::fmt;

use super::pipeline::{Named, Pipeline};
use super::registry::{Component, Registry};

/// What one configuration has that another had not, and the other way round: names of components, nothing of their options.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Changes {
    /// Such as ``sink `es` ``, and so below.
    pub added: Vec<String>,
    /// Those that are not there any more.
    pub removed: Vec<String>,
    /// Those with other options, or with files behind these that have another content.
    pub changed: Vec<String>,
    /// Whether options at the top changed, or the order of components.
    pub other: bool,
}

impl Changes {
    /// What is different in `new`.
    pub fn between<R: Registry>(old: &Pipeline<R>, new: &Pipeline<R>) -> Changes {
        let mut changes = Changes { other: old.global != new.global, ..Changes::default() };
        changes.of("source", &old.sources, &new.sources);
        changes.of("transform", &old.transforms, &new.transforms);
        changes.of("sink", &old.sinks, &new.sinks);
        changes
    }

    /// Whether nothing is different.
    pub fn is_none(&self) -> bool {
        *self == Changes::default()
    }

    fn of<C: Component>(&mut self, kind: &str, old: &[Named<C>], new: &[Named<C>]) {
        let find = |list: &[Named<C>], name: &str| list.iter().position(|named| named.name == name);
        let shown = |named: &Named<C>| format!("{kind} `{}`", named.name);
        self.removed.extend(old.iter().filter(|named| find(new, &named.name).is_none()).map(shown));
        for named in new {
            match find(old, &named.name) {
                None => self.added.push(shown(named)),
                Some(at) if old[at].given != named.given => self.changed.push(shown(named)),
                Some(_) => {}
            }
        }
        self.other |= old.len() == new.len() && old.iter().zip(new).any(|(old, new)| old.name != new.name);
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lists = [("added", &self.added), ("removed", &self.removed), ("changed", &self.changed)];
        let mut parts: Vec<String> =
            lists.iter().filter(|(_, names)| !names.is_empty()).map(|(what, names)| format!("{what} {}", names.join(", "))).collect();
        if self.other {
            parts.push("options of the agent as a whole, or the order of components".to_owned());
        }
        f.write_str(&if parts.is_empty() { "nothing".to_owned() } else { parts.join("; ") })
    }
}
