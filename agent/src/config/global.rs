//! The options of the agent as a whole, at the top of the file.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

/// The options at the top of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Global {
    /// The directory for all that Skidder keeps across restarts: buffers, positions, dead letters. One agent at a time
    /// can use it. Without it the state is temporary: nothing survives the end of the process, and every run starts from
    /// the beginning. A relative path is resolved against the directory of the configuration file.
    #[schemars(example = "/var/lib/skidder", length(min = 1))]
    pub data_dir: Option<PathBuf>,
    /// Refuses a configuration in which records can reach a sink without passing a transform of the type `redact`. Without
    /// it, that is a warning where the file has such a transform at all.
    #[serde(default)]
    pub require_redaction: bool,
}

impl Global {
    /// The directory of the state, for a file that stands in `base_dir`.
    pub fn data_dir(&self, base_dir: &Path) -> Option<PathBuf> {
        self.data_dir.as_ref().map(|dir| base_dir.join(dir))
    }
}
