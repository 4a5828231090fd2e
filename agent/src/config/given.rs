//! What a component was configured with, to tell at a reload whether that changed.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::named_files;

/// The option that says where a component stands in the graph, not what it is.
const INPUTS: &str = "inputs";

/// The options of a component as the file had them, variables put in, and digests of the files that they name. Secrets are among
/// them, so it is never shown.
#[derive(Clone, PartialEq)]
pub struct Given {
    inputs: Option<serde_json::Value>,
    options: serde_json::Value,
    files: Vec<(PathBuf, Option<[u8; 32]>)>,
}

impl Given {
    /// Of the table of a component; `None` where it is no such thing.
    pub(super) fn of(table: &Spanned<DeValue<'_>>, base_dir: &Path) -> Option<Given> {
        let mut options = serde_json::Value::deserialize(ValueDeserializer::from(table.clone())).ok()?;
        let inputs = options.as_object_mut().and_then(|options| options.remove(INPUTS));
        let named: &DeTable<'_> = table.get_ref().as_table()?;
        let with_digest = |path: PathBuf| {
            let digest = digest(&path);
            (path, digest)
        };
        Some(Given { inputs, options, files: named_files(named, base_dir).into_iter().map(with_digest).collect() })
    }

    /// Whether it is the same but for where its records come from.
    pub fn is_alike(&self, other: &Given) -> bool {
        (&self.options, &self.files) == (&other.options, &other.files)
    }
}

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Given").finish_non_exhaustive()
    }
}

fn digest(path: &Path) -> Option<[u8; 32]> {
    Some(Sha256::digest(std::fs::read(path).ok()?).into())
}
