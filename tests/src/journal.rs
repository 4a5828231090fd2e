//! A real systemd-journald in a mount namespace of its own: it writes, rotates and removes journals in a directory of the
//! test, and nothing of it touches the machine's.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::kube::eventually;

/// How long journald may take for what takes it milliseconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Where Debian has it, before and since the directories were merged.
const PROGRAMS: [&str; 2] = ["/usr/lib/systemd/systemd-journald", "/lib/systemd/systemd-journald"];

/// What becomes of the process: its directories are put over those of the machine, for itself alone, and it ends with the test.
const SCRIPT: &str = r#"set -e
mount --make-rprivate /
mount --bind "$1/run" /run
mount --bind "$1/log" /var/log
if [ ! -s /etc/machine-id ]; then
  echo 0123456789abcdef0123456789abcdef >"$1/machine-id"
  [ -e /etc/machine-id ] || touch /etc/machine-id
  mount --bind "$1/machine-id" /etc/machine-id
fi
exec setpriv --pdeathsig KILL "$2"
"#;

/// A running journald. Ended when dropped.
pub struct Journal {
    place: TempDir,
    child: Child,
    socket: UnixDatagram,
}

impl Journal {
    /// Starts one with `settings` (journald.conf(5)) beside those that tests need, and `variables` in its environment.
    ///
    /// # Errors
    /// Where there is no systemd-journald, or this user may not mount anything: it takes root.
    pub fn start(settings: &str, variables: &[(&str, &str)]) -> Result<Journal, String> {
        let program = PROGRAMS.into_iter().find(|path| Path::new(path).exists());
        let program = program.ok_or("no systemd-journald here: install Debian's package systemd")?;
        let place = tempfile::Builder::new().prefix("skidder-journal-").tempdir().map_err(|error| error.to_string())?;
        let prepare = || {
            let run = place.path().join("run/systemd");
            fs::create_dir_all(place.path().join("log/journal"))?;
            fs::create_dir_all(run.join("journal"))?;
            fs::create_dir_all(run.join("journald.conf.d"))?;
            // It has been started before, and told that /var is there.
            fs::write(run.join("journal/flushed"), "")?;
            let settings = format!("[Journal]\nStorage=persistent\nRateLimitBurst=0\nReadKMsg=no\nAudit=no\n{settings}\n");
            fs::write(run.join("journald.conf.d/test.conf"), settings)
        };
        prepare().map_err(|error| format!("cannot prepare {}: {error}", place.path().display()))?;
        let mut command = Command::new("unshare");
        command.args(["--mount", "bash", "-c", SCRIPT, "bash"]).arg(place.path()).arg(program);
        command.envs(variables.iter().copied()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| format!("cannot run unshare: {error}"))?;
        let socket = UnixDatagram::unbound().map_err(|error| error.to_string())?;
        let address = place.path().join("run/systemd/journal/socket");
        let begun = eventually("a socket of systemd-journald", PATIENCE, || match child.try_wait() {
            Ok(None) => socket.connect(&address).ok().map(|()| true),
            _ => Some(false),
        });
        match begun {
            Ok(true) => Ok(Journal { place, child, socket }),
            other => {
                let _ = child.kill();
                let said = child.wait_with_output().map(|output| String::from_utf8_lossy(&output.stderr).into_owned()).unwrap_or_default();
                Err(format!("systemd-journald cannot be started in a mount namespace (it takes root): {other:?} {said}"))
            }
        }
    }

    /// The directory that holds those of machines: `/var/log/journal` on a node.
    pub fn directory(&self) -> PathBuf {
        self.place.path().join("log/journal")
    }

    /// Sends an entry by journald's own protocol, and waits while it has no room.
    pub fn send(&self, fields: &[(&str, &[u8])]) -> std::io::Result<()> {
        let mut datagram = Vec::new();
        for (name, value) in fields {
            datagram.extend_from_slice(name.as_bytes());
            datagram.push(b'\n');
            datagram.extend_from_slice(&(value.len() as u64).to_le_bytes());
            datagram.extend_from_slice(value);
            datagram.push(b'\n');
        }
        self.socket.send(&datagram).map(drop)
    }

    /// Sends a message of the program `test`.
    pub fn say(&self, message: &str) -> std::io::Result<()> {
        self.send(&[("MESSAGE", message.as_bytes()), ("PRIORITY", b"6"), ("SYSLOG_IDENTIFIER", b"test")])
    }

    /// Lets it begin a new journal, and remove what is too much.
    pub fn rotate(&self) -> Result<(), String> {
        let before = self.live_inode();
        self.signal(Signal::USR2)?;
        eventually("a rotated journal", PATIENCE, || (self.live_inode() != before).then_some(()))
    }

    /// The journals that are there.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut found = crate::site::files_below(&self.directory()).unwrap_or_default();
        found.retain(|path| path.extension().and_then(OsStr::to_str).is_some_and(|extension| extension.starts_with("journal")));
        found
    }

    /// What `journalctl` with these arguments prints of them.
    pub fn journalctl(&self, arguments: &[&str]) -> Result<Vec<u8>, String> {
        let output = Command::new("journalctl").arg("--directory").arg(self.directory()).args(arguments).output();
        let output = output.map_err(|error| format!("cannot run journalctl: {error}"))?;
        if output.status.success() { Ok(output.stdout) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    }

    /// Waits until the journals hold `count` entries for which `journalctl` with `matches` finds.
    pub fn wait_for(&self, matches: &str, count: usize) -> Result<(), String> {
        let lines = || self.journalctl(&["--output=cat", "--quiet", "--output-fields=SYSLOG_IDENTIFIER", matches]).ok();
        eventually("entries in the journal", PATIENCE, || (lines()?.iter().filter(|byte| **byte == b'\n').count() >= count).then_some(()))
    }

    fn live_inode(&self) -> Option<u64> {
        use std::os::unix::fs::MetadataExt;
        let live = self.files().into_iter().find(|path| path.ends_with("system.journal"))?;
        Some(fs::metadata(live).ok()?.ino())
    }

    fn signal(&self, signal: Signal) -> Result<(), String> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).ok_or("no process")?;
        kill_process(pid, signal).map_err(|error| error.to_string())
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
