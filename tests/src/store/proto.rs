//! Protocol Buffers' wire format, as far as stores read it.

/// A field of a message.
pub(super) struct Field<'a> {
    pub(super) number: u64,
    pub(super) value: Value<'a>,
}

/// Its value as it is written.
#[derive(Clone, Copy)]
pub(super) enum Value<'a> {
    /// A variable-length integer.
    Number(u64),
    /// Eight bytes.
    Fixed(u64),
    /// A text, bytes, or a message.
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    pub(super) fn bytes(self) -> &'a [u8] {
        if let Value::Bytes(bytes) = self { bytes } else { b"" }
    }

    pub(super) fn text(self) -> String {
        String::from_utf8_lossy(self.bytes()).into_owned()
    }

    pub(super) fn number(self) -> u64 {
        match self {
            Value::Number(number) | Value::Fixed(number) => number,
            Value::Bytes(_) => 0,
        }
    }
}

/// The fields of a message; `None` where it is none.
pub(super) fn fields(mut message: &[u8]) -> Option<Vec<Field<'_>>> {
    let mut fields = Vec::new();
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        let value = match tag & 7 {
            0 => Value::Number(varint(&mut message)?),
            1 => Value::Fixed(u64::from_le_bytes(take(&mut message, 8)?.try_into().ok()?)),
            2 => {
                let length = varint(&mut message)?;
                Value::Bytes(take(&mut message, length as usize)?)
            }
            5 => Value::Fixed(u64::from(u32::from_le_bytes(take(&mut message, 4)?.try_into().ok()?))),
            _ => return None,
        };
        fields.push(Field { number: tag >> 3, value });
    }
    Some(fields)
}

/// An integer of seven bits a byte, the low ones first.
pub(super) fn varint(from: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(from, 1)?[0];
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

/// The next `length` bytes.
pub(super) fn take<'a>(from: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = from.split_at_checked(length)?;
    *from = rest;
    Some(taken)
}
