//! The id of a record: who it is, wherever and however often it is sent.

use sha2::{Digest, Sha256};

use crate::position::FileKey;

/// The length of a [`RecordId`] as text.
pub const ID_TEXT_BYTES: usize = 24;

/// Makes the ids of one file's records on one route.
///
/// An id is 18 bytes: the first 12 bytes of the file's key (of a hash of key and route, for every route but the first) and
/// the record's offset as 48 bits, big-endian. Two different records have one id only where two files' keys agree in 96
/// bits: among a million files that one index has seen, one chance in 10^17. The offset is where the record's first byte
/// stands in the uncompressed text, so it is the same after a crash, a rename and a compression; content takes no part,
/// since runtimes stamp equal times on equal lines.
///
/// As text it is 24 characters of base 64 with the alphabet `-0-9A-Z_a-z`, whose order is that of the bytes: ids of one
/// file sort by offset and share their first 16 characters, which is what Lucene's term dictionary likes best.
#[derive(Clone, Copy)]
pub struct RecordIds {
    prefix: [u8; 16],
}

impl RecordIds {
    /// Ids for `file`; `route` tells apart the ways on which one record can reach one sink, and is 0 where there is one.
    pub fn new(file: &FileKey, route: u8) -> RecordIds {
        let mut head = [0; 12];
        if route == 0 {
            head.copy_from_slice(&file.0[..12]);
        } else {
            head.copy_from_slice(&Sha256::new().chain_update(file.0).chain_update([route]).finalize()[..12]);
        }
        let mut prefix = [0; 16];
        encode(&head, &mut prefix);
        RecordIds { prefix }
    }

    /// The id of the record that starts at `offset` (below 2^48), as text.
    pub fn text(&self, offset: u64) -> [u8; ID_TEXT_BYTES] {
        let mut text = [0; ID_TEXT_BYTES];
        text[..16].copy_from_slice(&self.prefix);
        encode(&offset.to_be_bytes()[2..], &mut text[16..]);
        text
    }
}

/// Base 64, three bytes to four characters, in an alphabet that sorts as the bytes do.
fn encode(bytes: &[u8], out: &mut [u8]) {
    const ALPHABET: &[u8; 64] = b"-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz";
    for (three, four) in bytes.chunks_exact(3).zip(out.chunks_exact_mut(4)) {
        let bits = u32::from(three[0]) << 16 | u32::from(three[1]) << 8 | u32::from(three[2]);
        for (i, c) in four.iter_mut().enumerate() {
            *c = ALPHABET[(bits >> (18 - 6 * i) & 63) as usize];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_a_file_sort_by_offset_and_share_a_prefix() {
        let ids = RecordIds::new(&FileKey([0xf7; 16]), 0);
        let texts: Vec<_> = [0, 1, 63, 64, 4095, 1 << 20, (1 << 48) - 1].map(|at| ids.text(at)).into();
        assert!(texts.is_sorted());
        assert!(texts.iter().all(|t| t[..16] == texts[0][..16]));
        assert_eq!(texts.iter().collect::<std::collections::HashSet<_>>().len(), texts.len());
    }

    #[test]
    fn routes_and_files_differ() {
        let (a, b) = (FileKey([1; 16]), FileKey([2; 16]));
        assert_ne!(RecordIds::new(&a, 0).text(7), RecordIds::new(&b, 0).text(7));
        assert_ne!(RecordIds::new(&a, 0).text(7), RecordIds::new(&a, 1).text(7));
    }
}
