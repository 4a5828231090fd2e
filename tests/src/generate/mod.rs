//! Logs of an imagined travel platform, the same for the same seed.
//!
//! A [`Fleet`] is a number of pods in the layout of `/var/log/pods`. Its records are numbered: `seq` counts from 0 in each
//! pod, and record `seq` of a pod is a pure function of the seed, the pod and `seq`, so that a ledger can make any record
//! again and compare it with what arrived.

mod message;
pub mod personal;
mod phrases;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::chance::Chance;
use personal::Planted;

/// The bytes that are written to a file at once: large enough that writing costs nothing beside making them.
const WRITE_BYTES: usize = 1 << 20;

/// A fleet of pods and what they log.
#[derive(Clone, Debug)]
pub struct Fleet {
    seed: u64,
    pods: Vec<Pod>,
    personal_per_mille: u32,
    split_per_mille: u32,
}

/// One pod of one container.
#[derive(Clone, Debug)]
pub struct Pod {
    /// The service that it is an instance of.
    pub service: &'static str,
    /// Its namespace.
    pub namespace: &'static str,
    /// Its name; no other pod of the fleet has it.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

/// What [`Fleet::write`] wrote.
#[derive(Clone, Debug)]
pub struct Written {
    /// The bytes of all files.
    pub bytes: u64,
    /// The number of records of each pod, in the fleet's order.
    pub records: Vec<u64>,
}

impl Written {
    /// The number of records of all pods.
    pub fn total(&self) -> u64 {
        self.records.iter().sum()
    }
}

impl Fleet {
    /// A fleet of `pods` pods that takes turns through the platform's services, with no personal data in its records and
    /// no record split.
    pub fn new(seed: u64, pods: usize) -> Fleet {
        let pods = (0..pods).map(|index| Pod::new(seed, index)).collect();
        Fleet { seed, pods, personal_per_mille: 0, split_per_mille: 0 }
    }

    /// The same with personal data in `share` of 1000 records.
    pub fn personal_per_mille(self, share: u32) -> Fleet {
        Fleet { personal_per_mille: share, ..self }
    }

    /// The same with `share` of 1000 records split in two by the runtime: a `P` line and an `F` line.
    pub fn split_per_mille(self, share: u32) -> Fleet {
        Fleet { split_per_mille: share, ..self }
    }

    /// The pods.
    pub fn pods(&self) -> &[Pod] {
        &self.pods
    }

    /// Appends the JSON text of record `seq` of pod `pod`, and says which personal value is in it.
    pub fn message(&self, pod: usize, seq: u64, out: &mut Vec<u8>) -> Option<Planted> {
        let mut chance = Chance::of(self.seed, pod as u64, seq);
        let planted = chance.per_mille(self.personal_per_mille).then(|| Planted::new(&mut chance));
        message::write(&mut chance, self.pods[pod].service, seq, planted.as_ref(), out);
        planted
    }

    /// Appends record `seq` of pod `pod` as the container runtime writes it (the CRI format: time, stream, `F` for the
    /// last part of a record or `P` for one that goes on, the text, each with one blank between).
    ///
    /// A split record is cut at any byte, also within a character, as runtimes do.
    pub fn line(&self, pod: usize, seq: u64, scratch: &mut Vec<u8>, out: &mut Vec<u8>) {
        scratch.clear();
        self.message(pod, seq, scratch);
        let mut chance = Chance::of(!self.seed, pod as u64, seq);
        let stream: &[u8] = if chance.per_mille(50) { b" stderr " } else { b" stdout " };
        let mut part = |tag: &[u8], text: &[u8]| {
            message::write_time(seq, out);
            out.extend_from_slice(stream);
            out.extend_from_slice(tag);
            out.push(b' ');
            out.extend_from_slice(text);
            out.push(b'\n');
        };
        if chance.per_mille(self.split_per_mille) {
            let (head, tail) = scratch.split_at(chance.below(scratch.len() as u64) as usize);
            part(b"P", head);
            part(b"F", tail);
        } else {
            part(b"F", scratch);
        }
    }

    /// The live log file of pod `pod` below `root`: `<namespace>_<pod>_<uid>/<container>/0.log`.
    pub fn log_file(&self, root: &Path, pod: usize) -> PathBuf {
        let Pod { namespace, name, uid, service } = &self.pods[pod];
        root.join(format!("{namespace}_{name}_{uid}")).join(service).join("0.log")
    }

    /// Writes about `bytes` bytes of logs below `root`, the same share for each pod, in files that did not exist.
    pub fn write(&self, root: &Path, bytes: u64) -> io::Result<Written> {
        let share = bytes / self.pods.len().max(1) as u64;
        let mut written = Written { bytes: 0, records: Vec::new() };
        for pod in 0..self.pods.len() {
            let mut log = Log::create(self, root, pod)?;
            while log.bytes < share {
                log.append(1)?;
            }
            log.flush()?;
            written.bytes += log.bytes;
            written.records.push(log.seq);
        }
        Ok(written)
    }
}

impl Pod {
    fn new(seed: u64, index: usize) -> Pod {
        let mut chance = Chance::of(seed, u64::MAX, index as u64);
        let service = phrases::SERVICES[index % phrases::SERVICES.len()];
        let (a, b) = (chance.next(), chance.next());
        Pod {
            service: service.name,
            namespace: service.namespace,
            name: format!("{}-{:08x}-{index:05}", service.name, a as u32),
            uid: format!(
                "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
                (a >> 32) as u32,
                a as u16,
                b as u16 & 0xfff,
                (b >> 16) as u16 & 0xfff,
                b >> 16
            ),
        }
    }
}

/// A pod's log file that grows, as the container runtime would make it grow.
pub struct Log<'a> {
    fleet: &'a Fleet,
    pod: usize,
    file: File,
    pending: Vec<u8>,
    scratch: Vec<u8>,
    seq: u64,
    bytes: u64,
}

impl<'a> Log<'a> {
    /// The log of pod `pod` below `root`, empty at first.
    pub fn create(fleet: &'a Fleet, root: &Path, pod: usize) -> io::Result<Log<'a>> {
        let path = fleet.log_file(root, pod);
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        let file = OpenOptions::new().append(true).create_new(true).open(path)?;
        Ok(Log { fleet, pod, file, pending: Vec::new(), scratch: Vec::new(), seq: 0, bytes: 0 })
    }

    /// Appends the next `records` records; they reach the file when enough are together, or by [`Log::flush`].
    pub fn append(&mut self, records: u64) -> io::Result<()> {
        let before = self.pending.len();
        for _ in 0..records {
            self.fleet.line(self.pod, self.seq, &mut self.scratch, &mut self.pending);
            self.seq += 1;
        }
        self.bytes += (self.pending.len() - before) as u64;
        if self.pending.len() >= WRITE_BYTES { self.flush() } else { Ok(()) }
    }

    /// Writes out all but the last `keep` bytes: a file that ends in the middle of a line.
    pub fn flush_but(&mut self, keep: usize) -> io::Result<()> {
        let ready = self.pending.len().saturating_sub(keep);
        self.file.write_all(&self.pending[..ready])?;
        self.pending.drain(..ready);
        Ok(())
    }

    /// Writes out everything.
    pub fn flush(&mut self) -> io::Result<()> {
        self.flush_but(0)
    }

    /// The number of records appended so far.
    pub fn records(&self) -> u64 {
        self.seq
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_json_of_the_size_that_benchmarks_are_about() {
        let fleet = Fleet::new(1, 12).personal_per_mille(200);
        let (mut total, mut planted, mut text) = (0, 0, Vec::new());
        for seq in 0..1200 {
            text.clear();
            let value = fleet.message((seq % 12) as usize, seq, &mut text);
            let json: serde_json::Value = serde_json::from_slice(&text).unwrap();
            assert_eq!(json["seq"], seq);
            assert_eq!(json["service"], fleet.pods()[(seq % 12) as usize].service);
            if let Some(value) = value {
                let found = memchr::memmem::find(&text, value.text.as_bytes());
                assert!(found.is_some(), "{} is not in {}", value.text, String::from_utf8_lossy(&text));
                planted += 1;
            } else {
                assert_eq!(personal::leftovers(&text), []);
            }
            total += text.len();
        }
        assert!((340..460).contains(&(total / 1200)), "{} bytes a record", total / 1200);
        assert!((180..300).contains(&planted), "{planted} of 1200 with personal data");
    }

    #[test]
    fn the_same_seed_gives_the_same_files() {
        let make = |seed| {
            let directory = tempfile::tempdir().unwrap();
            let fleet = Fleet::new(seed, 3).split_per_mille(100);
            let written = fleet.write(directory.path(), 60_000).unwrap();
            let texts: Vec<_> = (0..3).map(|pod| fs::read(fleet.log_file(directory.path(), pod)).unwrap()).collect();
            assert_eq!(written.bytes, texts.iter().map(|text| text.len() as u64).sum::<u64>());
            assert!(written.records.iter().all(|records| *records > 40), "{written:?}");
            texts
        };
        assert_eq!(make(1), make(1));
        assert_ne!(make(1), make(2));
    }

    #[test]
    fn lines_are_cri() {
        let fleet = Fleet::new(3, 1).split_per_mille(300);
        let (mut scratch, mut out, mut joined, mut whole) = (Vec::new(), Vec::new(), Vec::new(), 0);
        (0..100).for_each(|seq| fleet.line(0, seq, &mut scratch, &mut out));
        for line in out.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let mut fields = line.splitn(4, |byte| *byte == b' ');
            assert_eq!(fields.next().unwrap().len(), "2026-09-14T08:31:07.123456789Z".len());
            assert!([&b"stdout"[..], b"stderr"].contains(&fields.next().unwrap()));
            let tag = fields.next().unwrap();
            joined.extend_from_slice(fields.next().unwrap());
            if tag == b"F" {
                let json: serde_json::Value = serde_json::from_slice(&joined).unwrap();
                assert_eq!(json["seq"], whole);
                whole += 1;
                joined.clear();
            }
        }
        assert_eq!(whole, 100);
    }
}
