//! The documents of a store: in memory, or, of long runs, in a file with their hashes in memory.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read};

use bytes::Bytes;

use super::kept::{Spool, sum};

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
    /// In a file; of each a hash of its key and one of its text are known.
    Spooled {
        sums: HashMap<u128, u64>,
        spool: Box<Spool>,
    },
}

impl Default for Documents {
    fn default() -> Documents {
        Documents::Kept(BTreeMap::new())
    }
}

impl Documents {
    /// None yet, to be kept in a file that nobody else sees.
    pub(super) fn spooled() -> io::Result<Documents> {
        Ok(Documents::Spooled { sums: HashMap::new(), spool: Box::new(Spool::new()?) })
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Documents::Kept(documents) => documents.len(),
            Documents::Spooled { sums, .. } => sums.len(),
        }
    }

    /// What is there under this id, beside `text`.
    pub(super) fn look(&self, key: &(String, String), text: &[u8]) -> Option<Known> {
        let same = match self {
            Documents::Kept(documents) => documents.get(key)? == text,
            Documents::Spooled { sums, .. } => *sums.get(&key_sum(key))? == sum(&[text]),
        };
        Some(if same { Known::Same } else { Known::Other })
    }

    /// Puts a document in.
    pub(super) fn insert(&mut self, key: (String, String), text: &[u8]) -> io::Result<()> {
        match self {
            Documents::Kept(documents) => drop(documents.insert(key, Bytes::copy_from_slice(text))),
            Documents::Spooled { sums, spool } => {
                sums.insert(key_sum(&key), sum(&[text]));
                spool.push(text)?;
            }
        }
        Ok(())
    }

    pub(super) fn kept(&self) -> Option<&BTreeMap<(String, String), Bytes>> {
        match self {
            Documents::Kept(documents) => Some(documents),
            Documents::Spooled { .. } => None,
        }
    }

    /// Gives each document. After this a spool takes none any more.
    pub(super) fn each(&mut self, mut each: impl FnMut(&[u8])) -> io::Result<()> {
        match self {
            Documents::Kept(documents) => documents.values().for_each(|text| each(text)),
            Documents::Spooled { spool, .. } => spool.each(each)?,
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
    let (index, id) = (key.0.as_bytes(), key.1.as_bytes());
    u128::from(sum(&[index, id])) << 64 | u128::from(sum(&[id, index, b"2"]))
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
