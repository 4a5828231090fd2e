//! Programs that the tests need and that are no servers: had by the same scripts (`tests/servers/<name>/backend.sh provision`).

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::workspace;

/// All of them.
pub const ALL: [&str; 2] = ["helm", "promtool"];

/// One of [`ALL`]: its path. Built or unpacked where it is not there.
///
/// # Errors
/// With what the script said: a test that needs the program fails where it cannot be had.
pub fn tool(name: &str) -> Result<PathBuf, String> {
    let script = workspace::root().join("tests/servers").join(name).join("backend.sh");
    let output = Command::new("bash").arg(script).arg("provision").stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("cannot run bash: {error}"))?;
    let said = String::from_utf8_lossy(&output.stdout);
    match said.lines().last() {
        Some(path) if output.status.success() => Ok(path.into()),
        _ => Err(format!("{name} cannot be had:\n{said}{}", String::from_utf8_lossy(&output.stderr))),
    }
}
