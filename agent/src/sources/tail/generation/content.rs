//! The text of a generation, as it lies on the disk or compressed by kubelet.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use flate2::read::MultiGzDecoder;

use super::super::super::identity::{Text, read_full};

/// How much is decompressed at a time.
const STEP_BYTES: usize = 64 * 1024;
/// The most text that is read out of one compressed file. Kubelet compresses logs of `containerLogMaxSize`, 10 MiB by
/// default; the length that a gzip file states ends here. A file that was made to explode costs time up to here and no memory.
const MAX_TEXT_BYTES: u64 = u32::MAX as u64;

/// The text of an open file.
#[derive(Debug)]
pub(in super::super) enum Content {
    Plain(File),
    /// In a box, since most logs are plain and there are thousands.
    Compressed(Box<Compressed>),
}

impl Content {
    /// The file itself.
    pub(in super::super) fn file(&self) -> &File {
        match self {
            Content::Plain(file) => file,
            Content::Compressed(compressed) => &compressed.file,
        }
    }

    /// The same file held open once more.
    pub(super) fn try_clone(&self) -> io::Result<Content> {
        Ok(match self {
            Content::Plain(file) => Content::Plain(file.try_clone()?),
            Content::Compressed(compressed) => Content::Compressed(Box::new(Compressed::new(compressed.file.clone()))),
        })
    }
}

impl Text for Content {
    fn read_text(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match self {
            Content::Plain(file) => read_full(file, buffer, offset),
            Content::Compressed(compressed) => Ok(compressed.read(buffer, offset)),
        }
    }
}

/// A file in the gzip format (RFC 1952), read at offsets of its text.
///
/// Text is decompressed in order, and what was read last is kept until something behind it is asked for; asking for what lies
/// before it begins anew.
#[derive(Debug)]
pub(in super::super) struct Compressed {
    file: Arc<File>,
    /// How much of its text is read at the most.
    most: u64,
    state: RefCell<State>,
}

#[derive(Debug, Default)]
struct State {
    reader: Option<Reader>,
    /// Whether the end of the text was reached: there is no more than what is known.
    ended: bool,
    /// What is wrong with the file, from where its text ends on.
    fault: Option<io::Error>,
}

#[derive(Debug)]
struct Reader {
    decoder: MultiGzDecoder<Bytes>,
    /// Text from `start` on.
    window: Vec<u8>,
    start: u64,
}

impl Compressed {
    pub(in super::super) fn new(file: Arc<File>) -> Compressed {
        Compressed { file, most: MAX_TEXT_BYTES, state: RefCell::default() }
    }

    /// The length of the text as the file states it: in its last four bytes. It is believed until the text ends.
    pub(in super::super) fn stated_size(&self) -> io::Result<u64> {
        let len = self.file.metadata()?.len();
        let mut last = [0; 4];
        // Header and trailer alone are 18 bytes.
        if len < 18 || read_full(&self.file, &mut last, len - 4)? < last.len() {
            return Ok(0);
        }
        Ok(u64::from(u32::from_le_bytes(last)))
    }

    /// Whether there is text at `offset`, where the text that was stated ends.
    pub(super) fn goes_on_at(&self, offset: u64) -> bool {
        !self.state.borrow().ended && self.read(&mut [0], offset) == 1
    }

    /// Says, once, why the text ended before it should.
    pub(super) fn take_fault(&self) -> Option<io::Error> {
        self.state.borrow_mut().fault.take()
    }

    /// Lets go of what decompressing needs.
    pub(in super::super) fn release(&self) {
        self.state.borrow_mut().reader = None;
    }

    fn read(&self, buffer: &mut [u8], offset: u64) -> usize {
        let state = &mut *self.state.borrow_mut();
        if state.reader.as_ref().is_none_or(|reader| offset < reader.start) {
            let bytes = Bytes { file: self.file.clone(), offset: 0 };
            state.reader = Some(Reader { decoder: MultiGzDecoder::new(bytes), window: Vec::new(), start: 0 });
        }
        let Some(reader) = &mut state.reader else { return 0 };
        let end = offset.saturating_add(buffer.len() as u64).min(self.most);
        while reader.end() < end {
            reader.forget_before(offset);
            match reader.step() {
                Ok(0) => {
                    state.ended = true;
                    break;
                }
                Ok(_) => {}
                Err(error) => {
                    if !state.ended {
                        state.fault = Some(error);
                    }
                    state.ended = true;
                    break;
                }
            }
        }
        state.ended |= end == self.most;
        reader.forget_before(offset);
        let wanted = usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX);
        let got = if reader.start == offset { reader.window.len().min(wanted) } else { 0 };
        buffer[..got].copy_from_slice(&reader.window[..got]);
        got
    }
}

impl Reader {
    fn end(&self) -> u64 {
        self.start + self.window.len() as u64
    }

    fn forget_before(&mut self, offset: u64) {
        let len = usize::try_from(offset.saturating_sub(self.start)).unwrap_or(usize::MAX).min(self.window.len());
        self.window.drain(..len);
        self.start += len as u64;
    }

    /// Decompresses a little more; 0 at the end.
    fn step(&mut self) -> io::Result<usize> {
        let len = self.window.len();
        self.window.resize(len + STEP_BYTES, 0);
        let read = loop {
            match self.decoder.read(&mut self.window[len..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        self.window.truncate(len + *read.as_ref().unwrap_or(&0));
        read
    }
}

/// The bytes of a file in order, whoever else reads it.
#[derive(Debug)]
struct Bytes {
    file: Arc<File>,
    offset: u64,
}

impl Read for Bytes {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn compress(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn open(bytes: &[u8]) -> Compressed {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        Compressed::new(Arc::new(file))
    }

    fn at(compressed: &Compressed, offset: u64, len: usize) -> Vec<u8> {
        let mut buffer = vec![0; len];
        let read = compressed.read(&mut buffer, offset);
        buffer.truncate(read);
        buffer
    }

    #[test]
    fn text_is_read_at_any_offset() {
        let text: Vec<u8> = (0..300_000_u32).flat_map(|n| n.to_string().into_bytes()).collect();
        let compressed = open(&compress(&text));
        assert_eq!(compressed.stated_size().unwrap(), text.len() as u64);
        for (offset, len) in [(0, 100), (50, 100), (700_000, 300_000), (10, 5), (text.len() - 7, 7), (text.len() - 7, 100), (text.len(), 1)]
        {
            let expected = &text[offset..text.len().min(offset + len)];
            assert!(at(&compressed, offset as u64, len) == expected, "{len} bytes at {offset}");
        }
        assert_eq!(at(&compressed, text.len() as u64 + 99, 10), b"");
        compressed.release();
        assert_eq!(at(&compressed, 4, 4), text[4..8]);
        assert!(!compressed.goes_on_at(text.len() as u64) && compressed.take_fault().is_none());
    }

    #[test]
    fn several_members_are_one_text_and_the_stated_length_is_the_last_ones() {
        let compressed = open(&[compress(b"one\n"), compress(b"two\n2\n")].concat());
        assert_eq!(compressed.stated_size().unwrap(), 6);
        assert!(compressed.goes_on_at(6));
        assert_eq!(at(&compressed, 0, 100), b"one\ntwo\n2\n");
        assert!(!compressed.goes_on_at(10));
    }

    #[test]
    fn a_file_that_was_made_to_explode_ends_at_the_limit() {
        let mut compressed = open(&compress(&vec![b'0'; 10_000_000]));
        compressed.most = 300_000;
        assert_eq!(at(&compressed, 0, 200_000).len(), 200_000);
        assert!(compressed.goes_on_at(200_000));
        assert_eq!(at(&compressed, 200_000, 200_000).len(), 100_000);
        assert!(!compressed.goes_on_at(300_000) && compressed.take_fault().is_none());
        let window = compressed.state.borrow().reader.as_ref().map_or(0, |reader| reader.window.len());
        assert!(window <= 200_000 + STEP_BYTES, "and no more of it is in memory than was asked for: {window}");
    }

    #[test]
    fn a_broken_file_gives_what_it_holds_and_one_fault() {
        let whole = compress(&b"a line\n".repeat(100_000));
        for bytes in [&whole[..whole.len() / 2], &[&whole[..whole.len() / 2], &[0; 5000]].concat(), b"no gzip at all, whatever it is", b""]
        {
            let compressed = open(bytes);
            let got = at(&compressed, 0, 1 << 20);
            assert!(got.len() < 700_000 && got.starts_with(&b"a line\n"[..got.len().min(7)]));
            assert_eq!(at(&compressed, got.len() as u64, 10), b"");
            assert!(compressed.take_fault().is_some());
            assert!(compressed.take_fault().is_none() && !compressed.goes_on_at(0));
        }
    }
}
