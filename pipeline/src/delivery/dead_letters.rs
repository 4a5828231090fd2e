//! Dead letters: records that a store refused for good, kept on disk with its reason.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::frame::BatchId;
use crate::json;
use crate::stats::SinkStats;

/// One record that a store refused for good.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Letter {
    /// When it was refused, nanoseconds since 1970-01-01T00:00:00Z.
    pub unix_nanos: i64,
    /// The frame that it was sent in. With `index` the key of a letter: after a crash a letter may be written again, and
    /// then has the same key.
    pub batch: BatchId,
    /// Which record of the frame, counted from 0.
    pub index: u32,
    /// The frame's destination.
    pub destination: Arc<str>,
    /// The store's status.
    pub status: u16,
    /// The store's reason.
    pub reason: String,
    /// The record as JSON, as the sink shows it; empty where the frame's body could not be read back.
    pub record: Vec<u8>,
    /// The record as it was sent, before compression, to send it again; empty where the frame's body could not be read back.
    pub body: Vec<u8>,
}

/// Writes dead letters. What was written when `Ok` comes is kept over a crash of the process.
pub trait Bury: Send {
    /// Writes `letters`, all or an error. After an error they are written again.
    fn bury(&mut self, letters: &[Letter]) -> io::Result<()>;
}

/// The dead letters of one sink in `<data_dir>/dead-letters/<sink>.ndjson`, one JSON object a line:
///
/// ```json
/// {"time":"2026-10-02T08:15:30.123456789Z","sink":"es","destination":"logs-web","batch":"00112233445566778899aabbccddeeff",
///  "index":3,"status":400,"reason":"document_parsing_exception: …","record":{"@timestamp":"…","message":"…"},
///  "body":"{\"create\":{\"_id\":\"…\"}}\n{\"@timestamp\":\"…\",\"message\":\"…\"}\n"}
/// ```
///
/// (on one line). `record` is for people, `body` for sending again; a body that is no UTF-8 is `body_hex`, in hexadecimal.
/// Half of `max_bytes` fills the file, then it becomes `<sink>.ndjson.1` and the one that was there before is removed: the
/// oldest letters go first, are counted, and warned of once. (A letter that is larger than the half is kept all the same.)
///
/// Others may take the files away at any time (`skidder dlq`), with `LOCK` in their directory locked; it is locked here for
/// each write, and nothing is kept open between.
pub struct DeadLetterFile {
    path: PathBuf,
    sink: Arc<str>,
    max_bytes: u64,
    stats: Arc<SinkStats>,
    warned: bool,
}

/// The directory of all dead letters.
pub fn dir(data_dir: &Path) -> PathBuf {
    data_dir.join("dead-letters")
}

/// The files that may have dead letters of `sink`, the oldest first.
pub fn files(data_dir: &Path, sink: &str) -> [PathBuf; 2] {
    [".ndjson.1", ".ndjson"].map(|end| dir(data_dir).join(format!("{sink}{end}")))
}

/// Locks the dead letters below `data_dir` until the file is dropped.
pub fn lock(data_dir: &Path) -> io::Result<File> {
    let dir = dir(data_dir);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
    let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(dir.join("LOCK"))?;
    lock.lock()?;
    Ok(lock)
}

/// Counts refused records and throws them away: for a sink with `on_reject = "drop"`.
pub struct Discard(pub Arc<SinkStats>);

impl Bury for Discard {
    fn bury(&mut self, letters: &[Letter]) -> io::Result<()> {
        self.0.discarded.add(letters.len() as u64);
        Ok(())
    }
}

impl DeadLetterFile {
    /// The default bound: some hundred thousand ordinary records, which is enough to see what is wrong and to send them
    /// again, and little beside the buffer.
    pub const DEFAULT_MAX_BYTES: u64 = 64 << 20;

    /// The longest reason that is kept; Elasticsearch's may quote the document.
    const MAX_REASON_BYTES: usize = 1024;

    /// The dead letters of `sink` below `data_dir`. Nothing is made on disk before the first letter.
    pub fn new(data_dir: &Path, sink: &str, max_bytes: u64, stats: Arc<SinkStats>) -> DeadLetterFile {
        let [old, path] = files(data_dir, sink);
        stats.dead_letter_bytes.set(size(&old) + size(&path));
        DeadLetterFile { path, sink: sink.into(), max_bytes, stats, warned: false }
    }

    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let data_dir = self.path.parent().and_then(Path::parent).unwrap_or(Path::new("."));
        let _locked = lock(data_dir)?;
        let (mut file, len) = open(&self.path)?;
        if len > 0 && len + lines.len() as u64 > self.max_bytes / 2 {
            self.rotate()?;
            (file, _) = open(&self.path)?;
        }
        // A write that fails half-way leaves a torn line: the next opening cuts it off.
        file.write_all(lines)?;
        file.sync_data()?;
        self.stats.dead_letter_bytes.set(size(&old_of(&self.path)) + size(&self.path));
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let old = old_of(&self.path);
        let discarded = count_lines(&old)?;
        fs::rename(&self.path, &old)?;
        self.stats.discarded_letters.add(discarded);
        if discarded > 0 && !std::mem::replace(&mut self.warned, true) {
            tracing::warn!(
                sink = &*self.sink,
                discarded,
                max_bytes = self.max_bytes,
                "the dead letters are full and the oldest were removed; see to why the store refuses records (`skidder dlq show`)"
            );
        }
        Ok(())
    }
}

impl Bury for DeadLetterFile {
    fn bury(&mut self, letters: &[Letter]) -> io::Result<()> {
        let mut lines = Vec::new();
        for letter in letters {
            let start = lines.len();
            self.write_line(letter, &mut lines);
            // A frame may have more letters than a file.
            if start > 0 && lines.len() as u64 > self.max_bytes / 2 {
                self.append(&lines[..start])?;
                lines.drain(..start);
            }
        }
        self.append(&lines)
    }
}

impl DeadLetterFile {
    fn write_line(&self, letter: &Letter, out: &mut Vec<u8>) {
        let time = jiff::Timestamp::from_nanosecond(letter.unix_nanos.into()).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        out.extend_from_slice(format!("{{\"time\":\"{time}\"").as_bytes());
        for (key, text) in [("sink", &*self.sink), ("destination", &*letter.destination)] {
            member(key, text, out);
        }
        let batch = u128::from_be_bytes(letter.batch.0);
        out.extend_from_slice(format!(",\"batch\":\"{batch:032x}\",\"index\":{},\"status\":{}", letter.index, letter.status).as_bytes());
        member("reason", &letter.reason[..letter.reason.floor_char_boundary(Self::MAX_REASON_BYTES)], out);
        out.extend_from_slice(b",\"record\":");
        let start = out.len();
        out.extend_from_slice(if letter.record.is_empty() { b"null" } else { &letter.record });
        // A line feed in JSON can only be white space between its parts.
        out[start..].iter_mut().filter(|byte| **byte == b'\n').for_each(|byte| *byte = b' ');
        match std::str::from_utf8(&letter.body) {
            Ok("") => {}
            Ok(text) => member("body", text, out),
            Err(_) => {
                let hex: String = letter.body.iter().map(|byte| format!("{byte:02x}")).collect();
                member("body_hex", &hex, out);
            }
        }
        out.extend_from_slice(b"}\n");
    }
}

fn old_of(path: &Path) -> PathBuf {
    let mut old = path.to_owned().into_os_string();
    old.push(".1");
    old.into()
}

/// The size of a file; 0 where it is not there.
fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

fn member(key: &str, text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(format!(",\"{key}\":\"").as_bytes());
    json::escape(text.as_bytes(), out);
    out.push(b'"');
}

/// Opens the file at its end, makes it where there is none, and cuts off a line that a crash left unfinished: its frame
/// was not acknowledged, so it comes again.
fn open(path: &Path) -> io::Result<(File, u64)> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    let len = file.metadata()?.len();
    let whole = end_of_last_line(&mut file, len)?;
    if whole < len {
        file.set_len(whole)?;
    }
    Ok((file, whole))
}

fn end_of_last_line(file: &mut File, len: u64) -> io::Result<u64> {
    let mut block = [0; 4096];
    let mut end = len;
    while end > 0 {
        let start = end.saturating_sub(block.len() as u64);
        let piece = &mut block[..(end - start) as usize];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(piece)?;
        if let Some(at) = memchr::memrchr(b'\n', piece) {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

fn count_lines(path: &Path) -> io::Result<u64> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(e) => return Err(e),
    };
    let mut block = vec![0; 64 << 10];
    let mut lines = 0;
    loop {
        match file.read(&mut block)? {
            0 => return Ok(lines),
            n => lines += memchr::memchr_iter(b'\n', &block[..n]).count() as u64,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use serde_json::{Value, json};

    use super::*;

    fn letter(index: u32, record: &str) -> Letter {
        Letter {
            unix_nanos: 1_790_928_930_123_456_789,
            batch: BatchId([0xab; 16]),
            index,
            destination: "logs-web".into(),
            status: 400,
            reason: "bad \"field\"\nof it".into(),
            record: record.into(),
            body: format!("{record}\n").into(),
        }
    }

    fn lines(path: &Path) -> Vec<Value> {
        fs::read_to_string(path).unwrap_or_default().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn a_letter_is_a_line_of_json() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = DeadLetterFile::new(dir.path(), "es", 1 << 20, Arc::default());
        let path = dir.path().join("dead-letters/es.ndjson");
        file.bury(&[letter(3, "{\"a\":\n1}"), letter(4, "")]).unwrap();
        file.bury(&[Letter { reason: "é".repeat(2000), body: vec![0xff, 1], ..letter(5, "{}") }]).unwrap();
        let lines = lines(&path);
        assert_eq!(
            lines[0],
            json!({"time": "2026-10-02T08:15:30.123456789Z", "sink": "es", "destination": "logs-web",
                   "batch": "abababababababababababababababab", "index": 3, "status": 400,
                   "reason": "bad \"field\"\nof it", "record": {"a": 1}, "body": "{\"a\":\n1}\n"})
        );
        assert_eq!(lines[1]["record"], Value::Null);
        assert_eq!(lines[2]["reason"].as_str().unwrap().len(), 1024);
        assert_eq!(lines[2]["body_hex"], "ff01");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_torn_line_is_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dead-letters/es.ndjson");
        DeadLetterFile::new(dir.path(), "es", 1 << 20, Arc::default()).bury(&[letter(1, "{}")]).unwrap();
        let torn = format!("{{\"time\":\"{}", "x".repeat(10_000));
        OpenOptions::new().append(true).open(&path).unwrap().write_all(torn.as_bytes()).unwrap();
        DeadLetterFile::new(dir.path(), "es", 1 << 20, Arc::default()).bury(&[letter(2, "{}")]).unwrap();
        assert_eq!(lines(&path).iter().map(|l| l["index"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2]);

        fs::write(&path, "no line at all").unwrap();
        DeadLetterFile::new(dir.path(), "es", 1 << 20, Arc::default()).bury(&[letter(3, "{}")]).unwrap();
        assert_eq!(lines(&path).len(), 1);
    }

    #[test]
    fn the_oldest_go_first_and_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = DeadLetterFile::new(dir.path(), "es", 2000, Arc::default());
        let path = dir.path().join("dead-letters/es.ndjson");
        let old = dir.path().join("dead-letters/es.ndjson.1");
        for index in 0..40 {
            file.bury(&[letter(index, "{}")]).unwrap();
            let bytes = fs::metadata(&path).unwrap().len() + fs::metadata(&old).map_or(0, |m| m.len());
            assert!(bytes <= 2000, "{bytes}");
        }
        let kept: Vec<u64> = [lines(&old), lines(&path)].concat().iter().map(|l| l["index"].as_u64().unwrap()).collect();
        assert_eq!(kept, (file.stats.discarded_letters.get()..40).collect::<Vec<_>>(), "the newest, in order, the rest counted");
        assert!(kept.len() > 4);
    }

    /// All letters of a frame once went into one file, however many: a refused batch of 10 MB took 20 MB of the 1 MiB it had.
    #[test]
    fn a_frame_with_more_letters_than_there_is_room_for_leaves_the_last_of_them() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = DeadLetterFile::new(dir.path(), "es", 2000, Arc::default());
        let letters: Vec<Letter> = (0..40).map(|index| letter(index, "{}")).collect();
        file.bury(&letters[..1]).unwrap();
        file.bury(&letters[1..]).unwrap();
        let files = files(dir.path(), "es");
        assert!(files.iter().map(|path| size(path)).sum::<u64>() <= 2000);
        assert_eq!(file.stats.dead_letter_bytes.get(), files.iter().map(|path| size(path)).sum::<u64>());
        let kept: Vec<u64> = files.iter().flat_map(|path| lines(path)).map(|l| l["index"].as_u64().unwrap()).collect();
        assert_eq!(kept, (file.stats.discarded_letters.get()..40).collect::<Vec<_>>(), "the newest, in order, the rest counted");
        assert!(kept.len() > 4);
    }

    #[test]
    fn what_cannot_be_written_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("dead-letters"), "in the way").unwrap();
        let mut file = DeadLetterFile::new(dir.path(), "es", 2000, Arc::default());
        assert!(file.bury(&[letter(0, "{}")]).is_err());
        fs::remove_file(dir.path().join("dead-letters")).unwrap();
        file.bury(&[letter(0, "{}")]).unwrap();
    }
}
