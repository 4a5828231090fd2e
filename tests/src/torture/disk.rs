//! A disk of a few MiB.

use std::path::PathBuf;
use std::process::Command;

/// The size of the small disk, in MiB: less than the buffers may take.
const SMALL_DISK_MIB: u32 = 2;

/// A small file system in memory, mounted while this lives.
pub(super) struct Mounted(PathBuf);

impl Mounted {
    /// Mounts it at `path`, which is made where it is not there.
    pub(super) fn small(path: PathBuf) -> Result<Mounted, String> {
        std::fs::create_dir_all(&path).map_err(|error| error.to_string())?;
        let size = format!("size={SMALL_DISK_MIB}m,mode=0700");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "skidder-test"]).arg(&path).output();
        match mounted {
            Ok(output) if output.status.success() => Ok(Mounted(path)),
            Ok(output) => Err(format!("{NOT_MOUNTABLE}: {}", String::from_utf8_lossy(&output.stderr))),
            Err(error) => Err(format!("{NOT_MOUNTABLE}: {error}")),
        }
    }
}

/// How the error begins where this machine lets us mount nothing.
pub const NOT_MOUNTABLE: &str = "a small disk cannot be mounted";

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).output();
    }
}
