//! Duplicate keys and conflicts, found once for each shape of records instead of once for each record.
//!
//! A service logs the same keys in the same order again and again. Whether some key stands twice, or is one that the agent
//! set, depends on the keys alone; so the answer is kept with the keys, and for the next record of that shape it costs one
//! comparison of each key with the known one: a few nanoseconds where a hash table would cost half of the whole transform.

use std::collections::HashMap;
use std::sync::Arc;

use skidder_pipeline::batch::{Field, Rewrite};
use skidder_pipeline::json;
use skidder_pipeline::shared::Shared;
use skidder_pipeline::value::Span;

/// How many shapes are remembered. A container has a handful: one for requests, one for errors, one for the rest.
const MAX_SHAPES: usize = 8;

/// The most fields of a shape that is remembered; records with more are looked at each time.
const MAX_SHAPE_FIELDS: usize = 256;

/// The most bytes of keys of a shape that is remembered, so that all of them stay below 128 KiB.
const MAX_SHAPE_BYTES: usize = 16 * 1024;

/// The shapes of the records seen last.
pub(super) struct Shapes {
    prefix: Box<[u8]>,
    known: Vec<Shape>,
    /// The shape of the last record, looked at first.
    last: usize,
    /// The one that a new shape replaces when all places are taken.
    oldest: usize,
    shared: Arc<Shared>,
}

struct Shape {
    /// The keys of all fields, those that were there before the members first.
    keys: Vec<u8>,
    ends: Vec<u32>,
    kept: usize,
    fixes: Vec<Fix>,
}

/// What must be done to a record whose fields are not all free to stay as they are.
enum Fix {
    /// The field gets another key. The span is where that key lies in the batch at hand.
    Rename(usize, Box<[u8]>, Option<Span>),
    /// The key stands again later.
    Drop(usize),
}

impl Shapes {
    pub(super) fn new(prefix: &str) -> Shapes {
        let mut escaped = Vec::new();
        json::escape(prefix.as_bytes(), &mut escaped);
        Shapes { prefix: escaped.into(), known: Vec::new(), last: 0, oldest: 0, shared: Shared::empty() }
    }

    /// What is known depends on the shared fields, and the appended keys lie in one batch.
    pub(super) fn start_batch(&mut self, shared: &Arc<Shared>) {
        if !Arc::ptr_eq(&self.shared, shared) {
            self.known.clear();
            self.last = 0;
            self.oldest = 0;
            self.shared = shared.clone();
        }
        for fix in self.known.iter_mut().flat_map(|shape| &mut shape.fixes) {
            if let Fix::Rename(_, _, appended) = fix {
                *appended = None;
            }
        }
    }

    /// Makes the keys of the record unique: the first `kept` fields of its new list stay, the members after them give way
    /// to these, to the shared fields, and to later members with the same key.
    pub(super) fn settle(&mut self, record: &mut Rewrite<'_>, kept: usize) {
        let (written, bytes) = record.written_and_bytes();
        let shape = match self.known.get(self.last) {
            Some(shape) if shape.is_of(bytes, written, kept) => self.last,
            _ => match self.known.iter().position(|shape| shape.is_of(bytes, written, kept)) {
                Some(index) => index,
                None => {
                    let fixes = find_fixes(bytes, written, kept, &self.shared, &self.prefix);
                    let shape = Shape::new(bytes, written, kept, fixes);
                    self.remember(shape)
                }
            },
        };
        self.last = shape;
        if let Some(shape) = self.known.get_mut(shape)
            && !shape.fixes.is_empty()
        {
            apply(&mut shape.fixes, record);
        }
        if self.known.get(shape).is_some_and(|shape| !shape.is_worth_keeping()) {
            self.known.remove(shape);
            (self.last, self.oldest) = (0, 0);
        }
    }

    fn remember(&mut self, shape: Shape) -> usize {
        if self.known.len() < MAX_SHAPES {
            self.known.push(shape);
            return self.known.len() - 1;
        }
        let index = self.oldest;
        self.known[index] = shape;
        self.oldest = (index + 1) % MAX_SHAPES;
        index
    }
}

impl Shape {
    fn new(bytes: &[u8], fields: &[Field], kept: usize, fixes: Vec<Fix>) -> Shape {
        let mut keys = Vec::new();
        let mut ends = Vec::with_capacity(fields.len());
        for field in fields {
            keys.extend_from_slice(field.key.of(bytes));
            ends.push(keys.len() as u32);
        }
        Shape { keys, ends, kept, fixes }
    }

    fn is_worth_keeping(&self) -> bool {
        self.ends.len() <= MAX_SHAPE_FIELDS && self.keys.len() <= MAX_SHAPE_BYTES
    }

    fn is_of(&self, bytes: &[u8], fields: &[Field], kept: usize) -> bool {
        if self.ends.len() != fields.len() || self.kept != kept {
            return false;
        }
        let mut start = 0;
        for (field, &end) in fields.iter().zip(&self.ends) {
            if !same(field.key.of(bytes), &self.keys[start..end as usize]) {
                return false;
            }
            start = end as usize;
        }
        true
    }
}

/// `a == b` for short texts, without the call that a comparison of any length costs: a third of this whole step.
#[inline]
fn same(a: &[u8], b: &[u8]) -> bool {
    fn ends<const N: usize>(a: &[u8], b: &[u8]) -> bool {
        a.first_chunk::<N>() == b.first_chunk() && a.last_chunk::<N>() == b.last_chunk()
    }
    if a.len() != b.len() {
        return false;
    }
    match a.len() {
        8..=16 => ends::<8>(a, b),
        4..8 => ends::<4>(a, b),
        2..4 => ends::<2>(a, b),
        _ => a == b,
    }
}

fn find_fixes(bytes: &[u8], fields: &[Field], kept: usize, shared: &Shared, prefix: &[u8]) -> Vec<Fix> {
    let mut fixes = Vec::new();
    // The index of the last field with each key; for those that were there before, `None`.
    let mut owners: HashMap<Box<[u8]>, Option<usize>> = shared.iter().map(|(key, _)| (key.into(), None)).collect();
    owners.extend(fields[..kept].iter().map(|field| (field.key.of(bytes).into(), None)));
    let mut conflicts: HashMap<&[u8], usize> = HashMap::new();
    for (index, field) in fields.iter().enumerate().skip(kept) {
        let key = field.key.of(bytes);
        let earlier = match owners.get_mut(key) {
            Some(None) => conflicts.insert(key, index),
            Some(Some(owner)) => Some(std::mem::replace(owner, index)),
            None => owners.insert(key.into(), Some(index)).flatten(),
        };
        fixes.extend(earlier.map(Fix::Drop));
    }
    let mut conflicts: Vec<_> = conflicts.into_iter().collect();
    conflicts.sort_unstable_by_key(|(_, index)| *index);
    for (key, index) in conflicts {
        let mut free = [prefix, key].concat();
        while owners.contains_key(&*free) {
            free.splice(..0, prefix.iter().copied());
        }
        owners.insert(free.clone().into(), Some(index));
        fixes.push(Fix::Rename(index, free.into(), None));
    }
    // Later fields first, so that dropping one does not move another that is still to come.
    fixes.sort_unstable_by_key(|fix| match fix {
        Fix::Rename(index, ..) => (0, 0, *index),
        Fix::Drop(index) => (1, usize::MAX - index, 0),
    });
    fixes
}

fn apply(fixes: &mut [Fix], record: &mut Rewrite<'_>) {
    let (written, bytes) = record.written_and_bytes();
    let mut len = written.len();
    for fix in fixes {
        match fix {
            Fix::Rename(index, key, appended) => {
                written[*index].key = *appended.get_or_insert_with(|| {
                    let start = bytes.len();
                    bytes.extend_from_slice(key);
                    Span::new(start, bytes.len())
                });
            }
            Fix::Drop(index) => {
                written.copy_within(*index + 1..len, *index);
                len -= 1;
            }
        }
    }
    record.truncate(len);
}
