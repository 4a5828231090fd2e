//! `producer.log`: what the last batch of each partition was sent as. See [`super::sequences`].

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use skidder_pipeline::frame::BatchId;

use super::records::Producer;
use super::sequences::{Key, Sent};

/// Beyond this the log is written anew, with one line a partition: some thousand batches.
const LONG_BYTES: u64 = 256 << 10;

/// What [`Journal::open`] reads back: the last line of each partition.
pub type Known = Vec<(Key, Producer, Sent)>;

/// The log, open. Of this process alone.
pub struct Journal {
    path: PathBuf,
    boot: String,
    file: File,
    bytes: u64,
    /// Held for as long as this is: another process gets none.
    _lock: File,
}

impl Journal {
    /// The log in `directory`, and what it said; `boot` names the boot of the machine. A log that is of another boot, or not whole,
    /// says nothing.
    pub fn open(directory: &Path, boot: &str) -> io::Result<(Journal, Known)> {
        fs::create_dir_all(directory)?;
        let lock = File::create(directory.join("producer.lock"))?;
        lock.try_lock()?;
        let path = directory.join("producer.log");
        let known = fs::read_to_string(&path).ok().and_then(|text| read(&text, boot)).unwrap_or_default();
        let (file, bytes) = make(&path, boot, known.iter().map(|(key, producer, sent)| (key, *producer, *sent)))?;
        Ok((Journal { path, boot: boot.to_owned(), file, bytes, _lock: lock }, known))
    }

    /// Adds what a batch is about to be sent as. After an error the log is gone, so that it says nothing wrong.
    pub fn append(&mut self, key: &Key, producer: Producer, sent: Sent) -> io::Result<()> {
        let line = line(key, producer, sent);
        self.bytes += line.len() as u64;
        self.file.write_all(line.as_bytes()).inspect_err(|_| drop(fs::remove_file(&self.path)))
    }

    /// Whether the log should be written anew.
    pub fn is_long(&self) -> bool {
        self.bytes > LONG_BYTES
    }

    /// Writes the log anew with these lines.
    pub fn write_anew<'a>(&mut self, known: impl Iterator<Item = (&'a Key, Producer, Sent)>) -> io::Result<()> {
        let made = make(&self.path, &self.boot, known).inspect_err(|_| drop(fs::remove_file(&self.path)));
        (self.file, self.bytes) = made?;
        Ok(())
    }
}

/// A new log in place of what is there; with its length. What it holds may be more than `LONG_BYTES`, so that counts from here.
fn make<'a>(path: &Path, boot: &str, known: impl Iterator<Item = (&'a Key, Producer, Sent)>) -> io::Result<(File, u64)> {
    let mut text = format!("boot {boot}\n");
    known.for_each(|(key, producer, sent)| text.push_str(&line(key, producer, sent)));
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(text.as_bytes())?;
    fs::rename(&new, path)?;
    Ok((file, 0))
}

fn line((topic, partition): &Key, producer: Producer, sent: Sent) -> String {
    let Producer { id, epoch } = producer;
    let mut line = format!("{topic} {partition} {id} {epoch} {} {} ", sent.first, sent.count);
    for byte in sent.batch.0 {
        let _ = write!(line, "{byte:02x}");
    }
    format!("{:08x} {line}\n", crc32c::crc32c(line.as_bytes()))
}

fn read(text: &str, boot: &str) -> Option<Known> {
    let rest = text.strip_prefix("boot ")?.strip_prefix(boot)?.strip_prefix('\n')?;
    if boot.is_empty() || !(rest.is_empty() || rest.ends_with('\n')) {
        return None;
    }
    let mut known = HashMap::new();
    for line in rest.lines() {
        let (key, producer, sent) = read_line(line)?;
        known.insert(key, (producer, sent));
    }
    Some(known.into_iter().map(|(key, (producer, sent))| (key, producer, sent)).collect())
}

fn read_line(line: &str) -> Option<(Key, Producer, Sent)> {
    let (sum, rest) = line.split_once(' ')?;
    if u32::from_str_radix(sum, 16).ok()? != crc32c::crc32c(rest.as_bytes()) {
        return None;
    }
    let mut words = rest.split(' ');
    let key = (words.next()?.to_owned(), words.next()?.parse().ok()?);
    let producer = Producer { id: words.next()?.parse().ok()?, epoch: words.next()?.parse().ok()? };
    let (first, count) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let mut batch = [0; 16];
    let text = words.next()?;
    for (at, byte) in batch.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some((key, producer, Sent { batch: BatchId(batch), first, count }))
}

/// What names the boot of the machine; empty where it cannot be read, so that nothing is taken over.
pub fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|text| text.trim().to_owned()).unwrap_or_default()
}
