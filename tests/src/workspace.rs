//! The repository that the tests belong to.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The root of the repository.
pub fn root() -> &'static Path {
    // Cargo puts the crate's directory here when it compiles us; the root is the directory around it.
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests)
}

/// Every file that belongs to the repository, relative to its root: the tracked ones and those that are about to be.
pub fn files() -> io::Result<Vec<PathBuf>> {
    let listed = Command::new("git").args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(root()).output();
    match listed {
        Ok(output) if output.status.success() => {
            let names = output.stdout.split(|byte| *byte == 0).filter(|name| !name.is_empty());
            let paths = names.map(|name| PathBuf::from(String::from_utf8_lossy(name).into_owned()));
            // A file that was deleted and not yet committed is still listed.
            Ok(paths.filter(|path| root().join(path).is_file()).collect())
        }
        // A source archive has no git in it: then everything but the build's output belongs to it.
        _ => {
            let mut found = Vec::new();
            walk(root(), &mut found)?;
            Ok(found)
        }
    }
}

/// Lets a command that runs cargo run it in the root, as if nobody else's cargo ran us: what that puts into the environment (`CARGO_MANIFEST_DIR` above all)
/// makes build scripts run anew, and with them everything that depends on their crates.
pub fn cargo_environment(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"].iter().any(|part| text.starts_with(part)) {
            command.env_remove(&name);
        }
    }
    command.current_dir(root())
}

/// The directory that cargo builds into, as seen from the running program.
pub fn target() -> PathBuf {
    let profile = profile_directory();
    profile.parent().map_or_else(|| root().join("target"), Path::to_path_buf)
}

/// The directory of the running program's profile: `target/debug` or the like.
pub fn profile_directory() -> PathBuf {
    let exe = std::env::current_exe().unwrap_or_default();
    let mut directory = exe.parent().unwrap_or(Path::new("target/debug")).to_path_buf();
    if directory.ends_with("deps") {
        directory.pop();
    }
    directory
}

/// Copies a directory with all that is in it.
pub fn copy(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

fn walk(directory: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == "target" || name == ".git" {
            continue;
        }
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), found)?;
        } else if let Ok(path) = entry.path().strip_prefix(root()) {
            found.push(path.to_path_buf());
        }
    }
    Ok(())
}
