//! The batch: whole records of one origin, as lists of fields that point into one run of bytes.

use std::ops::Range as Indices;
use std::sync::Arc;

use crate::json;
use crate::path::Path;
use crate::position::FileKey;
use crate::shared::Shared;
use crate::value::{Kind, Span, Value};

/// One field of a record: where its key and its value lie in the batch's bytes, and what the value is.
///
/// The key is in its escaped form, as between the quotes of JSON.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Field {
    /// The key.
    pub key: Span,
    /// The value; for strings the inside, without quotes.
    pub value: Span,
    /// What the value is.
    pub kind: Kind,
}

/// A record: some of the batch's fields, and where it came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record {
    first: u32,
    count: u32,
    /// Where the record's first byte stands in the uncompressed text of its file ([`Batch::file`]).
    pub offset: u64,
}

impl Record {
    fn indices(&self) -> Indices<usize> {
        self.first as usize..(self.first + self.count) as usize
    }
}

/// Whole records of one container or file, on their way from a source to the bodies of the sinks.
///
/// The bytes are those of the chunk as it was read, followed by what edits appended. Invariants:
/// - the bytes are UTF-8: a source replaces what is not before it makes records of it;
/// - a key stands at most once among a record's own fields and the shared ones together;
/// - the spans of a record's fields lie within the bytes. They need not be in order.
pub struct Batch {
    bytes: Vec<u8>,
    records: Vec<Record>,
    fields: Vec<Field>,
    spare: Vec<Field>,
    cuts: Vec<Cut>,
    shared: Arc<Shared>,
    file: FileKey,
}

/// A text value that is a part of a longer text: what a source cut off lies beside it in the batch's bytes, so that a value
/// that the cut goes through can be found and taken out whole. It is not to be shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cut {
    /// The value: a field's, or once was one.
    pub value: Span,
    /// The value with some of what was cut off before and behind it, in the same form.
    pub around: Span,
}

impl Batch {
    /// An empty batch; `shared` are the fields that are the same for all its records, `file` is where they come from.
    pub fn new(shared: Arc<Shared>, file: FileKey) -> Batch {
        Batch { bytes: Vec::new(), records: Vec::new(), fields: Vec::new(), spare: Vec::new(), cuts: Vec::new(), shared, file }
    }

    /// Empties the batch for the next chunk and keeps its allocations.
    pub fn reset(&mut self, shared: Arc<Shared>, file: FileKey) {
        self.bytes.clear();
        self.records.clear();
        self.fields.clear();
        self.cuts.clear();
        self.shared = shared;
        self.file = file;
    }

    /// All bytes: the chunk, then what was appended.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes for a source to read its chunk into. What it leaves there must be UTF-8 wherever a field points.
    pub fn bytes_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// The file (generation) that [`Record::offset`] counts in.
    pub fn file(&self) -> &FileKey {
        &self.file
    }

    /// The fields that are the same for all records.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Puts other shared fields in place. The caller keeps the invariant that no key stands twice: see
    /// [`Batch::drop_own`] and [`Batch::unshare`].
    pub fn set_shared(&mut self, shared: Arc<Shared>) {
        self.shared = shared;
    }

    /// The number of records.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The record at `index`.
    pub fn record(&self, index: usize) -> RecordView<'_> {
        let record = &self.records[index];
        RecordView { batch: self, offset: record.offset, fields: &self.fields[record.indices()] }
    }

    /// The records in order.
    pub fn records(&self) -> impl ExactSizeIterator<Item = RecordView<'_>> {
        (0..self.len()).map(|i| self.record(i))
    }

    /// Appends bytes (UTF-8) for an edit to point at.
    pub fn append(&mut self, bytes: &[u8]) -> Span {
        append(&mut self.bytes, bytes)
    }

    /// Adds a record whose fields point into the bytes already there.
    pub fn push(&mut self, offset: u64, fields: &[Field]) {
        self.records.push(Record { first: self.fields.len() as u32, count: fields.len() as u32, offset });
        self.fields.extend_from_slice(fields);
    }

    /// The values that are parts of longer texts: rarely any. What reads a value for more than its own sake, to take something
    /// out of it, reads around it.
    pub fn cuts(&mut self) -> &mut Vec<Cut> {
        &mut self.cuts
    }

    /// Keeps the records for which `keep` says so.
    pub fn retain(&mut self, mut keep: impl FnMut(RecordView<'_>) -> bool) {
        let mut records = std::mem::take(&mut self.records);
        records.retain(|record| keep(RecordView { batch: self, offset: record.offset, fields: &self.fields[record.indices()] }));
        self.records = records;
    }

    /// Writes each record's list of fields anew: `write` gets the old list and pushes the new one. For transforms that add,
    /// remove or reorder fields; those that only change values use [`Batch::edit_values`].
    pub fn rewrite(&mut self, mut write: impl FnMut(&mut Rewrite<'_>, &[Field])) {
        let old = std::mem::take(&mut self.fields);
        let mut new = std::mem::take(&mut self.spare);
        new.clear();
        for record in &mut self.records {
            let first = new.len() as u32;
            write(
                &mut Rewrite {
                    bytes: &mut self.bytes,
                    fields: &mut new,
                    first: first as usize,
                    shared: &self.shared,
                    offset: record.offset,
                },
                &old[record.indices()],
            );
            record.first = first;
            record.count = new.len() as u32 - first;
        }
        self.fields = new;
        self.spare = old;
    }

    /// Calls `edit` with the bytes (to read from and append to), the record's index and its fields, whose values and kinds
    /// it may change.
    pub fn edit_values(&mut self, mut edit: impl FnMut(&mut Vec<u8>, usize, &mut [Field])) {
        for (index, record) in self.records.iter().enumerate() {
            edit(&mut self.bytes, index, &mut self.fields[record.indices()]);
        }
    }

    /// Removes the field `key` (escaped form) from the records' own fields wherever it stands.
    pub fn drop_own(&mut self, key: &[u8]) {
        for record in &mut self.records {
            let fields = &mut self.fields[record.indices()];
            if let Some(at) = fields.iter().position(|f| f.key.of(&self.bytes) == key) {
                fields.copy_within(at + 1.., at);
                record.count -= 1;
            }
        }
    }

    /// Turns the shared field `key` (escaped form) into a field of each record's own, so that it may differ between them.
    /// Says whether there was one.
    pub fn unshare(&mut self, key: &[u8]) -> bool {
        let Some(value) = self.shared.get(key) else { return false };
        let field = Field { key: append(&mut self.bytes, key), value: append(&mut self.bytes, value.raw), kind: value.kind };
        self.shared = self.shared.edit(|fields| fields.remove(key));
        self.rewrite(|record, old| {
            record.keep(old);
            record.push(field);
        });
        true
    }
}

impl Clone for Batch {
    fn clone(&self) -> Batch {
        let mut copy = Batch::new(self.shared.clone(), self.file);
        copy.clone_from(self);
        copy
    }

    /// Copies into the allocations that are there.
    fn clone_from(&mut self, source: &Batch) {
        self.bytes.clone_from(&source.bytes);
        self.records.clone_from(&source.records);
        self.fields.clone_from(&source.fields);
        self.cuts.clone_from(&source.cuts);
        self.shared = source.shared.clone();
        self.file = source.file;
    }
}

/// What [`Batch::rewrite`] hands out for each record: the bytes, and the list being written.
pub struct Rewrite<'a> {
    bytes: &'a mut Vec<u8>,
    fields: &'a mut Vec<Field>,
    first: usize,
    shared: &'a Arc<Shared>,
    offset: u64,
}

impl Rewrite<'_> {
    /// The batch's bytes.
    pub fn bytes(&self) -> &[u8] {
        self.bytes
    }

    /// The fields that are the same for all records of the batch.
    pub fn shared(&self) -> &Shared {
        self.shared
    }

    /// A view of `fields` as a record of this batch, to look paths up in.
    pub fn view<'a>(&'a self, fields: &'a [Field]) -> Lookup<'a> {
        Lookup { bytes: self.bytes, fields, shared: self.shared }
    }

    /// Where the record's first byte stands in its file.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Appends bytes (UTF-8) for a field to point at.
    pub fn append(&mut self, bytes: &[u8]) -> Span {
        append(self.bytes, bytes)
    }

    /// The bytes, to append to directly.
    pub fn bytes_mut(&mut self) -> &mut Vec<u8> {
        self.bytes
    }

    /// Adds a field to the new list.
    pub fn push(&mut self, field: Field) {
        self.fields.push(field);
    }

    /// Takes fields over from the old list as they are.
    pub fn keep(&mut self, fields: &[Field]) {
        self.fields.extend_from_slice(fields);
    }

    /// Walks the JSON object in `span` and adds its members to the new list. See [`json::walk`].
    pub fn walk_json(&mut self, span: Span) -> Result<json::Walk, json::Malformed> {
        json::walk(self.bytes, span, self.fields)
    }

    /// What has been written of the new list so far.
    pub fn written(&mut self) -> &mut [Field] {
        &mut self.fields[self.first..]
    }

    /// What has been written of the new list so far, and the bytes that it points into.
    pub fn written_and_bytes(&mut self) -> (&mut [Field], &mut Vec<u8>) {
        (&mut self.fields[self.first..], self.bytes)
    }

    /// Cuts the new list to its first `len` fields.
    pub fn truncate(&mut self, len: usize) {
        self.fields.truncate(self.first + len);
    }
}

/// A record of a batch, to read.
#[derive(Clone, Copy)]
pub struct RecordView<'a> {
    batch: &'a Batch,
    /// Where the record's first byte stands in its file.
    pub offset: u64,
    fields: &'a [Field],
}

impl<'a> RecordView<'a> {
    /// The record's own fields.
    pub fn fields(&self) -> &'a [Field] {
        self.fields
    }

    /// The fields that are the same for all records of the batch.
    pub fn shared(&self) -> &'a Arc<Shared> {
        &self.batch.shared
    }

    /// The batch's bytes, which the fields point into.
    pub fn bytes(&self) -> &'a [u8] {
        &self.batch.bytes
    }

    /// The key (escaped form) and value of each of the record's own fields.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], Value<'a>)> + use<'a> {
        let bytes = &self.batch.bytes;
        self.fields.iter().map(move |f| (f.key.of(bytes), Value { kind: f.kind, raw: f.value.of(bytes) }))
    }

    /// The value at `path`, among the record's own fields or the shared ones.
    pub fn get(&self, path: &Path) -> Option<Value<'a>> {
        Lookup { bytes: &self.batch.bytes, fields: self.fields, shared: &self.batch.shared }.get(path)
    }

    /// Appends the record, shared fields included, as one JSON object.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        out.extend_from_slice(self.batch.shared.json());
        self.write_members(!self.batch.shared.json().is_empty(), out);
        out.push(b'}');
    }

    /// Appends the record's own fields as members of a JSON object, without braces; with a comma first where `continued`.
    pub fn write_members(&self, continued: bool, out: &mut Vec<u8>) {
        let bytes = &self.batch.bytes;
        let mut comma = continued;
        for field in self.fields {
            out.extend_from_slice(if comma { b",\"" } else { b"\"" });
            out.extend_from_slice(field.key.of(bytes));
            out.extend_from_slice(b"\":");
            Value { kind: field.kind, raw: field.value.of(bytes) }.write_json(out);
            comma = true;
        }
    }
}

/// Fields and shared fields as one record, to look paths up in.
#[derive(Clone, Copy)]
pub struct Lookup<'a> {
    bytes: &'a [u8],
    fields: &'a [Field],
    shared: &'a Shared,
}

impl<'a> Lookup<'a> {
    /// The value at `path`, among the record's own fields or the shared ones.
    pub fn get(&self, path: &Path) -> Option<Value<'a>> {
        let first = path.first();
        let top = match self.fields.iter().find(|f| f.key.of(self.bytes) == first) {
            Some(f) => Value { kind: f.kind, raw: f.value.of(self.bytes) },
            None => self.shared.get(first)?,
        };
        top.descend(path.rest())
    }
}

fn append(bytes: &mut Vec<u8>, more: &[u8]) -> Span {
    let start = bytes.len();
    bytes.extend_from_slice(more);
    Span::new(start, bytes.len())
}
