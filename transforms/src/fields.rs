//! Fields of records: finding, taking and putting them, alone or below others.

use skidder_pipeline::batch::{Batch, Field};
use skidder_pipeline::path::Path;
use skidder_pipeline::problem::Problem;
use skidder_pipeline::shared::SharedFields;
use skidder_pipeline::value::{Kind, Span, Value};

use crate::object;

/// The index of the field `key` (escaped form).
#[inline]
pub(crate) fn position(bytes: &[u8], fields: &[Field], key: &[u8]) -> Option<usize> {
    fields.iter().position(|field| field.key.len() == key.len() && field.key.of(bytes) == key)
}

/// Reads the option `option` as a path, or adds to `problems`.
pub(crate) fn path(option: &str, source: &str, problems: &mut Vec<Problem>) -> Option<Path> {
    Path::parse(source).map_err(|error| problems.push(Problem::at(option, error))).ok()
}

/// Reads the option `option` as a path of one key, or adds to `problems`.
pub(crate) fn single_key(option: &str, source: &str, problems: &mut Vec<Problem>) -> Option<Path> {
    let path = path(option, source, problems)?;
    if path.rest().is_empty() {
        return Some(path);
    }
    problems.push(
        Problem::at(option, format!("`{source}` lies below another field"))
            .help("name a field of the top level; put a key that holds dots in quotes"),
    );
    None
}

/// A value that holds its bytes.
#[derive(Clone, Debug)]
pub(crate) struct OwnedValue {
    pub(crate) kind: Kind,
    pub(crate) raw: Box<[u8]>,
}

impl OwnedValue {
    pub(crate) fn new(kind: Kind, raw: impl Into<Box<[u8]>>) -> OwnedValue {
        OwnedValue { kind, raw: raw.into() }
    }

    pub(crate) fn as_value(&self) -> Value<'_> {
        Value { kind: self.kind, raw: &self.raw }
    }
}

impl From<Value<'_>> for OwnedValue {
    fn from(value: Value<'_>) -> OwnedValue {
        OwnedValue::new(value.kind, value.raw)
    }
}

/// Bytes that many records of a batch point at, appended once.
#[derive(Default)]
pub(crate) struct Appended {
    key: Option<Span>,
    value: Option<Span>,
}

impl Appended {
    pub(crate) fn key(&mut self, bytes: &mut Vec<u8>, key: &[u8]) -> Span {
        *self.key.get_or_insert_with(|| append(bytes, key))
    }

    pub(crate) fn value(&mut self, bytes: &mut Vec<u8>, value: &[u8]) -> Span {
        *self.value.get_or_insert_with(|| append(bytes, value))
    }
}

/// Appends `more` and gives its place. A new line after it keeps it apart from what is appended next, so that `redact` can tell
/// from all bytes of a batch what there is in this value.
pub(crate) fn append(bytes: &mut Vec<u8>, more: &[u8]) -> Span {
    let start = bytes.len();
    bytes.extend_from_slice(more);
    bytes.push(b'\n');
    Span::new(start, start + more.len())
}

/// Keys of the top level to look for in all records of a batch at once.
pub(crate) struct Keys {
    keys: Vec<Box<[u8]>>,
    /// Bit *n* is set where a key has *n* bytes; bit 63 stands for 63 and more. Most fields are passed by with this alone.
    lengths: u64,
}

impl Keys {
    pub(crate) fn new<'a>(keys: impl IntoIterator<Item = &'a [u8]>) -> Keys {
        let mut list: Vec<Box<[u8]>> = Vec::new();
        for key in keys {
            if !list.iter().any(|known| **known == *key) {
                list.push(key.into());
            }
        }
        let lengths = list.iter().fold(0, |bits, key| bits | length_bit(key.len()));
        Keys { keys: list, lengths }
    }

    /// Where `key` stands among the answers of [`Keys::owned`].
    pub(crate) fn index(&self, key: &[u8]) -> Option<usize> {
        self.keys.iter().position(|known| **known == *key)
    }

    /// For each key, whether some record of the batch has a field of its own with it.
    pub(crate) fn owned(&self, batch: &Batch, owned: &mut Vec<bool>) {
        owned.clear();
        owned.resize(self.keys.len(), false);
        let bytes = batch.bytes();
        for record in batch.records() {
            for field in record.fields() {
                if self.lengths & length_bit(field.key.len()) == 0 {
                    continue;
                }
                let key = field.key.of(bytes);
                for (known, owned) in self.keys.iter().zip(owned.iter_mut()) {
                    *owned |= **known == *key;
                }
            }
        }
    }
}

fn length_bit(length: usize) -> u64 {
    1 << length.min(63)
}

/// Takes the value at `path` out of a record's `fields`; `bytes` are the batch's.
pub(crate) fn take_own(bytes: &mut Vec<u8>, fields: &mut Vec<Field>, path: &Path) -> Option<(Kind, Span)> {
    let at = position(bytes, fields, path.first())?;
    let field = fields[at];
    if path.rest().is_empty() {
        fields.remove(at);
        return Some((field.kind, field.value));
    }
    let taken = object::take(Value { kind: field.kind, raw: field.value.of(bytes) }, path.rest())?;
    fields[at].value = append(bytes, &taken.object);
    Some((taken.kind, append(bytes, &taken.value)))
}

/// Puts a value at `path` into a record's `fields`, in place of what is there.
pub(crate) fn put_own(bytes: &mut Vec<u8>, fields: &mut Vec<Field>, path: &Path, kind: Kind, value: Span) {
    let at = position(bytes, fields, path.first());
    let (kind, value) = if path.rest().is_empty() {
        (kind, value)
    } else {
        let object = at.map(|at| Value { kind: fields[at].kind, raw: fields[at].value.of(bytes) });
        let object = object::put(object, path.rest(), Value { kind, raw: value.of(bytes) });
        (Kind::Object, append(bytes, &object))
    };
    match at {
        Some(at) => (fields[at].kind, fields[at].value) = (kind, value),
        None => fields.push(Field { key: append(bytes, path.first()), value, kind }),
    }
}

/// Takes the value at `path` out of shared fields.
pub(crate) fn take_shared(fields: &mut SharedFields, path: &Path) -> Option<OwnedValue> {
    let top = fields.get(path.first())?;
    if path.rest().is_empty() {
        let taken = top.into();
        fields.remove(path.first());
        return Some(taken);
    }
    let taken = object::take(top, path.rest())?;
    fields.set(path.first(), Value { kind: Kind::Object, raw: &taken.object });
    Some(OwnedValue::new(taken.kind, taken.value))
}

/// Puts a value at `path` into shared fields, in place of what is there.
pub(crate) fn put_shared(fields: &mut SharedFields, path: &Path, value: Value<'_>) {
    if path.rest().is_empty() {
        fields.set(path.first(), value);
    } else {
        let object = object::put(fields.get(path.first()), path.rest(), value);
        fields.set(path.first(), Value { kind: Kind::Object, raw: &object });
    }
}
