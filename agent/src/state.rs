//! The state directory: one owner at a time, and an epoch that says which life of it this is.
//!
//! Layout below `data_dir` (mode 0700):
//! - `LOCK`: locked with `flock` by the agent that owns the directory; holds its process id as text, for people.
//! - `meta`: one line of text, `skidder-state 1 <epoch>`: the format's number and the epoch as 32 hexadecimal digits.
//! - `sink-<name>/`: each sink's buffer and positions.
//! - `dead-letters/`: what stores refused.
//! - `sources/`: what sources have to remember about their files.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::fs::{FlockOperation, Mode, OFlags};

/// The number of the directory's format.
const FORMAT: u32 = 1;

/// How long a start waits for another agent to let go: the pod before a rolling update may still be stopping.
const LOCK_WAIT: Duration = Duration::from_secs(60);

/// An open state directory. Locked until it is dropped; a temporary one is removed then.
#[derive(Debug)]
pub struct State {
    dir: PathBuf,
    epoch: [u8; 16],
    _lock: File,
    temporary: Option<tempfile::TempDir>,
}

impl State {
    /// Opens `data_dir`, and makes it where it is not there yet.
    pub fn open(data_dir: &Path) -> anyhow::Result<State> {
        make_private_dir(data_dir)?;
        State::lock_and_load(data_dir.to_owned(), None)
    }

    /// Opens a `data_dir` that is there, for a command that changes something in it; an error where an agent has it.
    pub fn open_now(data_dir: &Path) -> anyhow::Result<State> {
        let lock = lock(&data_dir.join("LOCK"), Duration::ZERO)?;
        let epoch = load_or_make_epoch(&data_dir.join("meta"))?;
        Ok(State { dir: data_dir.to_owned(), epoch, _lock: lock, temporary: None })
    }

    /// A directory that is gone when the run ends, for configurations without `data_dir`.
    pub fn temporary() -> anyhow::Result<State> {
        let dir = tempfile::Builder::new().prefix("skidder-").tempdir().context("cannot make a temporary state directory")?;
        State::lock_and_load(dir.path().to_owned(), Some(dir))
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The random number that this directory was made with. Ids that are made of inode numbers contain it, since a
    /// directory that was lost may have given them to other files before.
    pub fn epoch(&self) -> [u8; 16] {
        self.epoch
    }

    /// Whether the directory will be removed at the end.
    pub fn is_temporary(&self) -> bool {
        self.temporary.is_some()
    }

    /// Keeps a temporary directory when the run ends.
    pub fn keep(&mut self) {
        if let Some(temporary) = &mut self.temporary {
            temporary.disable_cleanup(true);
        }
    }

    fn lock_and_load(dir: PathBuf, temporary: Option<tempfile::TempDir>) -> anyhow::Result<State> {
        let lock = lock(&dir.join("LOCK"), LOCK_WAIT)?;
        let epoch = load_or_make_epoch(&dir.join("meta"))?;
        Ok(State { dir, epoch, _lock: lock, temporary })
    }
}

/// Makes a directory that only its owner can enter.
pub fn make_private_dir(dir: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("cannot make the state directory {}; set `data_dir` to a place that this user may write", dir.display()))
}

/// The directory of a sink's buffer and positions.
pub fn sink_dir(data_dir: &Path, name: &str) -> PathBuf {
    data_dir.join(format!("sink-{name}"))
}

/// The sinks that have a buffer. Directories of newer versions (`sink-x.v2.kept`) are none: no name has a dot.
pub fn buffers(data_dir: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(data_dir)? {
        let entry = entry?;
        let name = entry.file_name().into_string().ok().and_then(|name| Some(name.strip_prefix("sink-")?.to_owned()));
        names.extend(name.filter(|name| !name.contains('.') && entry.path().is_dir()));
    }
    names.sort();
    Ok(names)
}

/// Sixteen random bytes from the kernel.
pub fn random_bytes() -> io::Result<[u8; 16]> {
    let mut bytes = [0; 16];
    let mut have = 0;
    while have < bytes.len() {
        have += rustix::rand::getrandom(&mut bytes[have..], rustix::rand::GetRandomFlags::empty())?;
    }
    Ok(bytes)
}

fn lock(path: &Path, wait: Duration) -> anyhow::Result<File> {
    let open = || rustix::fs::open(path, OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::RUSR | Mode::WUSR);
    let mut file = File::from(open().with_context(|| format!("cannot open {}", path.display()))?);
    let start = Instant::now();
    let mut told = false;
    loop {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => break,
            Err(rustix::io::Errno::WOULDBLOCK) => {}
            Err(error) => return Err(error).with_context(|| format!("cannot lock {}", path.display())),
        }
        let mut owner = String::new();
        let _ = File::open(path).and_then(|f| f.take(32).read_to_string(&mut owner));
        let owner = owner.trim().to_owned();
        if start.elapsed() >= wait {
            bail!("{} is held by another agent (process {owner}); stop it, or give this one another `data_dir`", path.display());
        }
        if !told {
            tracing::warn!(lock = %path.display(), owner, "another agent holds the state directory; waiting for it to stop");
            told = true;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    file.set_len(0)?;
    writeln!(file, "{}", std::process::id())?;
    Ok(file)
}

fn load_or_make_epoch(path: &Path) -> anyhow::Result<[u8; 16]> {
    match fs::read_to_string(path) {
        Ok(text) => match parse_meta(&text) {
            Some((FORMAT, epoch)) => return Ok(epoch),
            Some((format, _)) => {
                // A version that is rolled back must start all the same. What a newer one wrote is kept for it, not used.
                let kept = path.with_extension(format!("v{format}.kept"));
                tracing::error!(file = %path.display(), format, kept = %kept.display(), "the state directory was written by a newer version; its epoch is set aside and a new one made");
                fs::rename(path, &kept).with_context(|| format!("cannot rename {}", path.display()))?;
            }
            // A crash may have left it empty or half written. A new epoch is safe: other ids at the worst, never equal ones.
            None => tracing::error!(file = %path.display(), "the state directory's meta file is damaged; making a new one"),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            tracing::error!(file = %path.display(), "the state directory's meta file is damaged; making a new one")
        }
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
    let epoch = random_bytes().context("cannot get random bytes from the kernel")?;
    let hex: String = epoch.iter().map(|byte| format!("{byte:02x}")).collect();
    write_atomically(path, format!("skidder-state {FORMAT} {hex}\n").as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(epoch)
}

fn parse_meta(text: &str) -> Option<(u32, [u8; 16])> {
    let mut words = text.strip_prefix("skidder-state ")?.split_whitespace();
    let format = words.next()?.parse().ok()?;
    let hex = words.next().filter(|hex| hex.len() == 32 && hex.is_ascii())?;
    let mut epoch = [0; 16];
    for (byte, digits) in epoch.iter_mut().zip(hex.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some((format, epoch))
}

fn write_atomically(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = File::create(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    if let Some(dir) = path.parent() {
        File::open(dir)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn the_epoch_stays_and_a_damaged_one_is_made_anew() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("a/b");
        let first = State::open(&dir).unwrap().epoch();
        assert_eq!(State::open(&dir).unwrap().epoch(), first);
        fs::write(dir.join("meta"), b"skidder-st").unwrap();
        assert_ne!(State::open(&dir).unwrap().epoch(), first);
        fs::write(dir.join("meta"), format!("skidder-state 2 {}\n", "0".repeat(32))).unwrap();
        assert_ne!(State::open(&dir).unwrap().epoch(), [0; 16]);
        assert!(dir.join("meta.v2.kept").exists());
    }

    #[test]
    fn a_second_agent_is_told_who_holds_the_directory() {
        let root = tempfile::tempdir().unwrap();
        let _held = State::open(root.path()).unwrap();
        let error = lock(&root.path().join("LOCK"), Duration::ZERO).unwrap_err().to_string();
        assert!(error.contains(&std::process::id().to_string()), "{error}");
    }
}
