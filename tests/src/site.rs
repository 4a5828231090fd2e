//! A directory as a user would have it: a configuration, logs, what comes out, the state.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use tempfile::TempDir;

use crate::agent::{Agent, Ended, command};
use crate::records;

/// The name of the configuration in a site.
const CONFIG: &str = "pipeline.toml";

/// A directory of its own for one test; removed when dropped.
pub struct Site {
    directory: TempDir,
}

impl Site {
    /// An empty site with this configuration.
    pub fn new(config: impl AsRef<[u8]>) -> io::Result<Site> {
        let directory = tempfile::Builder::new().prefix("skidder-site-").tempdir()?;
        fs::write(directory.path().join(CONFIG), config)?;
        Ok(Site { directory })
    }

    /// The path of something in it.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.directory.path().join(relative)
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        self.directory.path()
    }

    /// Puts another configuration in the place of the one there, by a rename, as editors do.
    pub fn configure(&self, config: impl AsRef<[u8]>) -> io::Result<()> {
        let new = self.path("pipeline.new");
        fs::write(&new, config)?;
        fs::rename(new, self.path(CONFIG))
    }

    /// Leaves it where it is, for a person to look at; its path.
    pub fn keep(self) -> String {
        self.directory.keep().display().to_string()
    }

    /// Appends to a file in it, which is made with the directories above it where it is not there.
    pub fn append(&self, relative: &str, text: impl AsRef<[u8]>) -> io::Result<()> {
        let path = self.path(relative);
        if let Some(above) = path.parent() {
            fs::create_dir_all(above)?;
        }
        OpenOptions::new().append(true).create(true).open(path)?.write_all(text.as_ref())
    }

    /// Starts `skidder run`, which follows.
    pub fn start(&self) -> Result<Agent, String> {
        Agent::start(self.root(), &["run", "-c", CONFIG])
    }

    /// The same with variables of the environment.
    pub fn start_with(&self, variables: &[(&str, String)]) -> Result<Agent, String> {
        let mut command = command(self.root())?;
        command.args(["run", "-c", CONFIG]);
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        Agent::spawn(command)
    }

    /// Runs `skidder run --once` with further arguments to its end.
    pub fn once_with(&self, more: &[&str]) -> Result<Ended, String> {
        Agent::run(self.root(), &[&["run", "--once", "-c", CONFIG], more].concat())
    }

    /// Runs `skidder run --once` to its end, which must be a good one.
    pub fn once(&self) -> Result<Ended, String> {
        self.once_with(&[])?.expect_success()
    }

    /// The dead letters that its sinks have, as `skidder dlq show` gives them.
    pub fn letters(&self) -> Result<Vec<Value>, String> {
        let shown = Agent::run(self.root(), &["dlq", "show", "--json", "-c", CONFIG])?.expect_success()?;
        let text = String::from_utf8_lossy(&shown.stdout);
        text.lines().map(|line| serde_json::from_str(line).map_err(|error| format!("{error}: {line}"))).collect()
    }

    /// The bytes of a file in it; none where it is not there.
    pub fn read(&self, relative: &str) -> Vec<u8> {
        fs::read(self.path(relative)).unwrap_or_default()
    }

    /// The records of a JSON lines file in it; none where it is not there.
    pub fn records(&self, relative: &str) -> Result<Vec<Map<String, Value>>, String> {
        records::parse_lines(&self.read(relative))
    }
}

/// Every regular file below a directory.
pub fn files_below(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_path_buf()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                open.push(entry.path());
            } else if kind.is_file() {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}
