//! Protocol Buffers' wire format, as far as sinks write and read it: no schema compiler, no objects.
//!
//! A message is a sequence of fields, each a key (`number << 3 | type`) and a value: a varint (type 0), eight bytes (1), a
//! length and so many bytes (2), or four bytes (5). Messages of the same type concatenated are one message, whose repeated fields
//! are those of both: so a body grows by one piece a batch. Source: "Encoding", protobuf.dev.

/// Appends a varint.
#[inline]
pub fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The length of a varint.
#[inline]
pub fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// Appends a varint field; nothing for 0, which is what a field is that is not there.
#[inline]
pub fn uint(field: u32, value: u64, out: &mut Vec<u8>) {
    if value != 0 {
        varint(u64::from(field << 3), out);
        varint(value, out);
    }
}

/// The number of bytes that [`uint`] appends.
#[inline]
pub fn uint_len(field: u32, value: u64) -> usize {
    if value == 0 { 0 } else { varint_len(u64::from(field << 3)) + varint_len(value) }
}

/// Appends a field of eight bytes.
#[inline]
pub fn fixed64(field: u32, value: u64, out: &mut Vec<u8>) {
    varint(u64::from(field << 3 | 1), out);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends a field of bytes, of text, or a message that is ready.
#[inline]
pub fn bytes(field: u32, value: &[u8], out: &mut Vec<u8>) {
    head(field, value.len(), out);
    out.extend_from_slice(value);
}

/// Appends key and length of a field whose bytes follow.
#[inline]
pub fn head(field: u32, len: usize, out: &mut Vec<u8>) {
    varint(u64::from(field << 3 | 2), out);
    varint(len as u64, out);
}

/// The number of bytes of a field that holds `len` bytes.
#[inline]
pub fn bytes_len(field: u32, len: usize) -> usize {
    varint_len(u64::from(field << 3)) + varint_len(len as u64) + len
}

/// Appends a message whose length is known when it is written: it is written in place, and moved up by what its length takes.
pub fn message(field: u32, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    varint(u64::from(field << 3 | 2), out);
    // Most messages are shorter than 128 bytes or than 16 KiB: one byte is reserved, more are made room for.
    let start = out.len() + 1;
    out.push(0);
    write(out);
    let len = out.len() - start;
    if len < 0x80 {
        out[start - 1] = len as u8;
        return;
    }
    let more = varint_len(len as u64) - 1;
    out.resize(out.len() + more, 0);
    out.copy_within(start..start + len, start + more);
    let mut value = len as u64;
    for byte in &mut out[start - 1..start + more] {
        *byte = value as u8 | 0x80;
        value >>= 7;
    }
    out[start + more - 1] &= 0x7f;
}

/// The fields `number` of `message` that `wanted` lists, counted from 0 and in order, as they stand there.
pub fn pick(message: &[u8], number: u32, wanted: &[u32]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut wanted = wanted.iter().copied().peekable();
    for (index, field) in (0u32..).zip(fields(message).filter(|field| field.number == number)) {
        let Some(next) = wanted.peek() else { break };
        if index == *next {
            out.extend_from_slice(field.whole);
            wanted.next();
        }
    }
    out
}

/// A field's value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wire<'a> {
    /// A varint.
    Varint(u64),
    /// Eight bytes.
    Fixed64(u64),
    /// Bytes, a text or a message.
    Bytes(&'a [u8]),
    /// Four bytes.
    Fixed32(u32),
}

impl<'a> Wire<'a> {
    /// The bytes; none for other types.
    pub fn bytes(self) -> &'a [u8] {
        match self {
            Wire::Bytes(bytes) => bytes,
            _ => &[],
        }
    }

    /// The number; 0 for bytes.
    pub fn number(self) -> u64 {
        match self {
            Wire::Varint(value) | Wire::Fixed64(value) => value,
            Wire::Fixed32(value) => value.into(),
            Wire::Bytes(_) => 0,
        }
    }
}

/// A field as it stands in a message.
#[derive(Clone, Copy, Debug)]
pub struct FieldRef<'a> {
    /// Its number.
    pub number: u32,
    /// Its value.
    pub value: Wire<'a>,
    /// All of it, key included.
    pub whole: &'a [u8],
}

/// The fields of a message. Ends early where the message is damaged, see [`Fields::is_whole`].
#[derive(Clone)]
pub struct Fields<'a> {
    rest: &'a [u8],
    damaged: bool,
}

/// The fields of `message`.
pub fn fields(message: &[u8]) -> Fields<'_> {
    Fields { rest: message, damaged: false }
}

impl<'a> Fields<'a> {
    /// Whether what was read so far was well formed.
    pub fn is_whole(&self) -> bool {
        !self.damaged
    }

    fn read(&mut self) -> Option<FieldRef<'a>> {
        let start = self.rest;
        let mut rest = self.rest;
        let key = read_varint(&mut rest)?;
        let value = match key & 7 {
            0 => Wire::Varint(read_varint(&mut rest)?),
            1 => Wire::Fixed64(u64::from_le_bytes(*take(&mut rest, 8)?.first_chunk()?)),
            2 => {
                let len = usize::try_from(read_varint(&mut rest)?).ok()?;
                Wire::Bytes(take(&mut rest, len)?)
            }
            5 => Wire::Fixed32(u32::from_le_bytes(*take(&mut rest, 4)?.first_chunk()?)),
            _ => return None,
        };
        self.rest = rest;
        Some(FieldRef { number: u32::try_from(key >> 3).ok()?, value, whole: &start[..start.len() - rest.len()] })
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = FieldRef<'a>;

    fn next(&mut self) -> Option<FieldRef<'a>> {
        if self.rest.is_empty() || self.damaged {
            return None;
        }
        let field = self.read();
        self.damaged = field.is_none();
        field
    }
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(len)?;
    *rest = after;
    Some(taken)
}

fn read_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let long = vec![b'x'; 20_000];
        for len in [0, 1, 127, 128, 16_383, 16_384, 20_000] {
            let mut out = Vec::new();
            uint(1, 300, &mut out);
            uint(9, 0, &mut out);
            fixed64(2, u64::MAX - 1, &mut out);
            message(300, &mut out, |out| bytes(3, &long[..len], out));
            assert_eq!(out[out.len() - bytes_len(3, len)..].len(), bytes_len(3, len));
            let mut read = fields(&out);
            let all: Vec<FieldRef<'_>> = read.by_ref().collect();
            assert!(read.is_whole());
            let inside: Vec<u32> = fields(all[2].value.bytes()).map(|field| field.number).collect();
            assert_eq!(inside, [3]);
            assert_eq!(fields(all[2].value.bytes()).next().unwrap().value, Wire::Bytes(&long[..len]));
            assert_eq!((all[0].number, all[0].value), (1, Wire::Varint(300)));
            assert_eq!((all[1].number, all[1].value), (2, Wire::Fixed64(u64::MAX - 1)));
            assert_eq!(all.iter().flat_map(|field| field.whole).copied().collect::<Vec<u8>>(), out);
        }
    }

    #[test]
    fn lengths_of_varints() {
        for value in [0, 1, 127, 128, 16_383, 16_384, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            varint(value, &mut out);
            assert_eq!(out.len(), varint_len(value), "{value}");
            assert_eq!(read_varint(&mut &out[..]), Some(value));
        }
    }

    #[test]
    fn what_is_damaged_ends() {
        for damaged in [&b"\x0a\x05ab"[..], b"\x08", b"\x09abc", b"\x0b", b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", b"\x0d\0"] {
            let mut read = fields(damaged);
            assert_eq!(read.by_ref().count(), 0);
            assert!(!read.is_whole(), "{damaged:?}");
        }
    }
}
