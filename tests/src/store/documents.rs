//! The documents of a store: in memory, or, of long runs, in a file with their hashes in memory.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

/// What is there under an index and an id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Known {
    /// The same text.
    Same,
    /// Another one.
    Other,
}

/// The documents, by index and id.
pub(super) enum Documents {
    Kept(BTreeMap<(String, String), Bytes>),
    Spooled(Box<Spool>),
}

/// Documents in a file, as gzip; of each a hash of its key and one of its text are known.
pub(super) struct Spool {
    sums: HashMap<u128, u64>,
    out: GzEncoder<BufWriter<File>>,
}

impl Default for Documents {
    fn default() -> Documents {
        Documents::Kept(BTreeMap::new())
    }
}

impl Documents {
    /// None yet, to be kept in a file that nobody else sees.
    pub(super) fn spooled() -> io::Result<Documents> {
        let out = GzEncoder::new(BufWriter::new(tempfile::tempfile()?), Compression::fast());
        Ok(Documents::Spooled(Box::new(Spool { sums: HashMap::new(), out })))
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Documents::Kept(documents) => documents.len(),
            Documents::Spooled(spool) => spool.sums.len(),
        }
    }

    /// What is there under this id, beside `text`.
    pub(super) fn look(&self, key: &(String, String), text: &[u8]) -> Option<Known> {
        let same = match self {
            Documents::Kept(documents) => documents.get(key)? == text,
            Documents::Spooled(spool) => *spool.sums.get(&key_sum(key))? == sum(0, text),
        };
        Some(if same { Known::Same } else { Known::Other })
    }

    /// Puts a document in.
    pub(super) fn insert(&mut self, key: (String, String), text: &[u8]) -> io::Result<()> {
        match self {
            Documents::Kept(documents) => drop(documents.insert(key, Bytes::copy_from_slice(text))),
            Documents::Spooled(spool) => {
                let Spool { sums, out } = &mut **spool;
                sums.insert(key_sum(&key), sum(0, text));
                out.write_all(text)?;
                out.write_all(b"\n")?;
            }
        }
        Ok(())
    }

    pub(super) fn kept(&self) -> Option<&BTreeMap<(String, String), Bytes>> {
        match self {
            Documents::Kept(documents) => Some(documents),
            Documents::Spooled(_) => None,
        }
    }

    /// Gives each document. After this a spool takes none any more.
    pub(super) fn each(&mut self, mut each: impl FnMut(&[u8])) -> io::Result<()> {
        match self {
            Documents::Kept(documents) => documents.values().for_each(|text| each(text)),
            Documents::Spooled(spool) => {
                let out = &mut spool.out;
                out.try_finish()?;
                out.get_mut().flush()?;
                let mut file = out.get_ref().get_ref().try_clone()?;
                file.rewind()?;
                for_each_line(GzDecoder::new(BufReader::new(file)), each)?;
            }
        }
        Ok(())
    }
}

/// Gives each line of what is read, without its newline.
pub fn for_each_line(mut from: impl Read, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let (mut text, mut start) = (Vec::new(), 0);
    let mut block = vec![0; 256 << 10];
    loop {
        let count = from.read(&mut block)?;
        if count == 0 {
            break;
        }
        text.drain(..start);
        text.extend_from_slice(&block[..count]);
        start = 0;
        while let Some(end) = memchr::memchr(b'\n', &text[start..]) {
            each(&text[start..start + end]);
            start += end + 1;
        }
    }
    if start < text.len() {
        each(&text[start..]);
    }
    Ok(())
}

fn key_sum(key: &(String, String)) -> u128 {
    let bytes = [key.0.as_bytes(), b"\0", key.1.as_bytes()].concat();
    u128::from(sum(1, &bytes)) << 64 | u128::from(sum(2, &bytes))
}

fn sum(salt: u8, bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (salt, bytes).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_spool_knows_and_gives_back_what_it_was_given() {
        for mut documents in [Documents::default(), Documents::spooled().unwrap()] {
            let key = |id: &str| ("logs".to_owned(), id.to_owned());
            documents.insert(key("a"), b"{\"n\":1}").unwrap();
            documents.insert(key("b"), &[b'x'; 700_000]).unwrap();
            assert_eq!(documents.look(&key("a"), b"{\"n\":1}"), Some(Known::Same));
            assert_eq!(documents.look(&key("a"), b"{\"n\":2}"), Some(Known::Other));
            assert_eq!(documents.look(&key("c"), b"{\"n\":1}"), None);
            let mut lengths = Vec::new();
            documents.each(|text| lengths.push(text.len())).unwrap();
            assert_eq!((documents.len(), lengths), (2, vec![7, 700_000]));
        }
    }
}
