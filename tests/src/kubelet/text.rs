//! What the simulated containers say: message `seq` of a stream is a pure function of the seed, the stream and `seq`.

use std::io::Write;

use crate::chance::Chance;

/// The shortest and the longest message, in bytes.
pub const MIN_BYTES: usize = 20;
pub const MAX_BYTES: usize = 40 * 1024;
/// The length of what each message begins with: its stream, its number and its length, so that a message says who it is,
/// and a cut one shows it to a reader's eye.
pub const HEAD_BYTES: usize = MIN_BYTES;

/// Four bytes each: text that JSON must escape, and characters of two to four bytes, which a runtime cuts in two.
const PIECES: [&str; 12] = ["word", " and", " the", ", 42", "\"q\" ", "\\n\\t", "\ttab", "éß", "€.", "😀", "{\"a\"", "\u{1}\u{7f}xy"];

/// The messages of one seed.
#[derive(Clone, Debug)]
pub struct Text {
    seed: u64,
    filler: Vec<u8>,
}

impl Text {
    /// The messages that belong to `seed`.
    pub fn new(seed: u64) -> Text {
        let mut chance = Chance::of(seed, 11, 0);
        let filler = (0..MAX_BYTES).flat_map(|_| chance.pick(&PIECES).bytes()).collect();
        Text { seed, filler }
    }

    /// Appends message `seq` of `stream`: most are short, some are longer than a runtime's buffer, and one in a hundred
    /// has a byte that is no UTF-8.
    pub fn message(&self, stream: u32, seq: u32, out: &mut Vec<u8>) {
        let mut chance = Chance::of(self.seed, u64::from(stream), u64::from(seq));
        let (from, to) = match chance.below(100) {
            0..70 => (MIN_BYTES, 400),
            70..90 => (400, 4_000),
            90..97 => (4_000, 16 * 1024),
            _ => (16 * 1024, MAX_BYTES + 1),
        };
        let len = from + chance.below((to - from) as u64) as usize;
        let start = out.len();
        // Writing to a vector does not fail.
        let _ = write!(out, "{stream:05} {seq:08} {len:05}");
        let body = len - HEAD_BYTES;
        // Up to three letters before the pieces, so that they lie across every boundary at every byte.
        let lead = body.min(chance.below(4) as usize);
        out.extend(std::iter::repeat_n(b'x', lead));
        let pieces = (body - lead) / 4 * 4;
        let at = chance.below((self.filler.len() - pieces) as u64 / 4) as usize * 4;
        out.extend_from_slice(&self.filler[at..at + pieces]);
        out.extend(std::iter::repeat_n(b'y', body - lead - pieces));
        if body > 0 && chance.per_mille(10) {
            let at = start + HEAD_BYTES + chance.below(body as u64) as usize;
            out[at] = 0xff;
        }
    }

    /// Which stream and number a message claims to be of.
    pub fn claim(message: &str) -> Option<(u32, u32)> {
        let head = message.get(..HEAD_BYTES)?;
        let mut parts = head.splitn(3, ' ');
        let mut number = |digits: usize| {
            let part = parts.next().filter(|part| part.len() == digits && part.bytes().all(|byte| byte.is_ascii_digit()))?;
            part.parse::<u32>().ok()
        };
        let (stream, seq, _) = (number(5)?, number(8)?, number(5)?);
        Some((stream, seq))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_of_all_sizes_and_say_who_they_are() {
        let text = Text::new(3);
        let (mut lengths, mut broken, mut out) = (Vec::new(), 0, Vec::new());
        for seq in 0..4000 {
            out.clear();
            text.message(7, seq, &mut out);
            lengths.push(out.len());
            broken += usize::from(std::str::from_utf8(&out).is_err());
            let message = String::from_utf8_lossy(&out);
            assert_eq!(Text::claim(&message), Some((7, seq)));
            assert_eq!(message[15..20].parse::<usize>().unwrap(), out.len());
            assert!(!out.contains(&b'\n') && !out.contains(&b'\r') && !out.contains(&0));
        }
        assert!(lengths.iter().all(|len| (MIN_BYTES..=MAX_BYTES).contains(len)));
        assert!(lengths.iter().any(|len| *len < 40) && lengths.iter().any(|len| *len > 36_000));
        assert!((10..90).contains(&broken), "{broken} with a byte that is no UTF-8");
    }

    #[test]
    fn a_piece_is_four_bytes() {
        assert!(PIECES.iter().all(|piece| piece.len() == 4));
    }
}
