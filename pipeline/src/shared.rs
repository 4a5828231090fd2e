//! Fields that are the same for every record of a batch, kept as ready bytes.

use std::sync::Arc;

use crate::value::{Kind, Value};

/// The fields that all records of a batch have in common: where they come from, above all.
///
/// Made once for each container (and again when its metadata changes), so that what depends on it alone is computed once:
/// transforms and encoders keep what they derive from it in a [`PerShared`]. Never changed in place.
#[derive(Debug)]
pub struct Shared {
    fields: SharedFields,
    json: Box<[u8]>,
}

impl Shared {
    /// Shared fields as `fields` lists them.
    pub fn new(fields: SharedFields) -> Arc<Shared> {
        let mut json = Vec::new();
        for (key, value) in fields.iter() {
            if !json.is_empty() {
                json.push(b',');
            }
            json.push(b'"');
            json.extend_from_slice(key);
            json.extend_from_slice(b"\":");
            value.write_json(&mut json);
        }
        Arc::new(Shared { fields, json: json.into() })
    }

    /// No shared fields.
    pub fn empty() -> Arc<Shared> {
        Shared::new(SharedFields::default())
    }

    /// The fields as members of a JSON object, without braces: `"file":"…","env":"prod"`. Empty where there is none.
    pub fn json(&self) -> &[u8] {
        &self.json
    }

    /// The value of the top-level field `key` (escaped form).
    pub fn get(&self, key: &[u8]) -> Option<Value<'_>> {
        self.fields.get(key)
    }

    /// Key (escaped form) and value of each field, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Value<'_>)> {
        self.fields.iter()
    }

    /// A copy with the changes that `change` makes.
    pub fn edit(&self, change: impl FnOnce(&mut SharedFields)) -> Arc<Shared> {
        let mut fields = self.fields.clone();
        change(&mut fields);
        Shared::new(fields)
    }
}

/// A list of fields being put together for [`Shared::new`].
#[derive(Clone, Debug, Default)]
pub struct SharedFields(Vec<SharedField>);

#[derive(Clone, Debug)]
struct SharedField {
    /// In escaped form.
    key: Box<[u8]>,
    kind: Kind,
    raw: Box<[u8]>,
}

impl SharedFields {
    /// Sets the field `key` (escaped form), in its old place where it is there already, else at the end.
    pub fn set(&mut self, key: &[u8], value: Value<'_>) {
        let field = SharedField { key: key.into(), kind: value.kind, raw: value.raw.into() };
        match self.0.iter_mut().find(|known| known.key == field.key) {
            Some(known) => *known = field,
            None => self.0.push(field),
        }
    }

    /// Removes the field `key` (escaped form) if it is there.
    pub fn remove(&mut self, key: &[u8]) {
        self.0.retain(|field| *field.key != *key);
    }

    /// The value of the field `key` (escaped form).
    pub fn get(&self, key: &[u8]) -> Option<Value<'_>> {
        self.iter().find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    /// Key (escaped form) and value of each field, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Value<'_>)> {
        self.0.iter().map(|field| (&*field.key, Value { kind: field.kind, raw: &field.raw }))
    }
}

/// What a transform or an encoder derived from [`Shared`] fields, kept for as long as they are likely to come again.
///
/// Bounded: a node has some hundred containers, of which few are busy; beyond [`PerShared::CAPACITY`] the entry that was
/// made first goes, and is made anew when asked for.
pub struct PerShared<T> {
    entries: Vec<(Arc<Shared>, T)>,
    next: usize,
}

impl<T> PerShared<T> {
    /// How many are kept at the most: some 2 KiB each, so half a MiB.
    pub const CAPACITY: usize = 256;

    /// An empty store.
    pub fn new() -> PerShared<T> {
        PerShared { entries: Vec::new(), next: 0 }
    }

    /// What `make` derives from `shared`, made now or before.
    pub fn get_or_make(&mut self, shared: &Arc<Shared>, make: impl FnOnce(&Arc<Shared>) -> T) -> &mut T {
        // The entry holds its `Arc`, so equal pointers are the same fields and not others at a reused address.
        let index = match self.entries.iter().position(|(known, _)| Arc::ptr_eq(known, shared)) {
            Some(index) => index,
            None => self.insert(shared.clone(), make(shared)),
        };
        &mut self.entries[index].1
    }

    fn insert(&mut self, shared: Arc<Shared>, made: T) -> usize {
        if self.entries.len() < Self::CAPACITY {
            self.entries.push((shared, made));
            return self.entries.len() - 1;
        }
        let index = self.next;
        self.entries[index] = (shared, made);
        self.next = (index + 1) % Self::CAPACITY;
        index
    }
}

impl<T> Default for PerShared<T> {
    fn default() -> Self {
        PerShared::new()
    }
}

impl<T> Clone for PerShared<T> {
    /// A store of the same kind, empty: what it held can be derived again.
    fn clone(&self) -> Self {
        PerShared::new()
    }
}
