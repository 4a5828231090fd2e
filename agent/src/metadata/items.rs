//! The items of a list, one after the other as they come: a list of 500 pods is 5 MB of JSON and more, and needs not be in
//! memory as a whole.

/// The longest object that is taken: etcd holds none above 1.5 MiB by default.
pub(super) const MAX_OBJECT_BYTES: usize = 8 << 20;

/// A part of a list.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    /// The list's own `metadata`.
    Metadata(&'a [u8]),
    /// An element of its `items`.
    Item(&'a [u8]),
}

/// Takes a list apart while it comes: `{"kind":"PodList","metadata":{…},"items":[{…},{…}]}`.
///
/// It walks over brackets and strings only. What it gives out is parsed by serde_json, which finds what is no JSON.
#[derive(Debug, Default)]
pub(super) struct Items {
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// The key at the top that was read last, and whether one is being read.
    key: Vec<u8>,
    in_items: bool,
    /// The object that is being gathered, and the depth that it began in.
    object: Vec<u8>,
    gathering: Option<usize>,
    ended: bool,
}

/// An object was longer than [`MAX_OBJECT_BYTES`].
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

impl Items {
    /// Takes the next bytes; `give` gets each part that ends in them.
    pub(super) fn feed(&mut self, bytes: &[u8], mut give: impl FnMut(Part<'_>)) -> Result<(), TooLong> {
        for &byte in bytes {
            if self.gathering.is_some() {
                self.object.push(byte);
                if self.object.len() > MAX_OBJECT_BYTES {
                    return Err(TooLong);
                }
            }
            if self.in_string {
                self.string(byte);
                continue;
            }
            match byte {
                b'"' => {
                    self.in_string = true;
                    if self.depth == 1 {
                        self.key.clear();
                    }
                }
                b'{' | b'[' => self.open(byte),
                b'}' | b']' => self.close(&mut give),
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether the whole list came.
    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    fn string(&mut self, byte: u8) {
        if self.escaped {
            self.escaped = false;
        } else if byte == b'\\' {
            self.escaped = true;
        } else if byte == b'"' {
            self.in_string = false;
            return;
        }
        // Only `items` and `metadata` matter.
        if self.depth == 1 && self.key.len() < 16 {
            self.key.push(byte);
        }
    }

    fn open(&mut self, byte: u8) {
        let begins = self.depth == 1 && self.key == b"metadata" || self.depth == 2 && self.in_items;
        if byte == b'[' {
            self.in_items |= self.depth == 1 && self.key == b"items";
        } else if begins && self.gathering.is_none() {
            self.object.clear();
            self.object.push(byte);
            self.gathering = Some(self.depth);
        }
        self.depth += 1;
    }

    fn close(&mut self, give: &mut impl FnMut(Part<'_>)) {
        self.depth = self.depth.saturating_sub(1);
        if self.gathering == Some(self.depth) {
            self.gathering = None;
            give(if self.depth == 1 { Part::Metadata(&self.object) } else { Part::Item(&self.object) });
            // A pod of a megabyte is rare.
            self.object.shrink_to(64 << 10);
        }
        if self.depth == 1 {
            self.in_items = false;
        }
        self.ended |= self.depth == 0;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn parts(text: &str, step: usize) -> (Vec<String>, bool) {
        let mut items = Items::default();
        let mut found = Vec::new();
        for chunk in text.as_bytes().chunks(step) {
            let give = |part: Part<'_>| {
                found.push(match part {
                    Part::Metadata(text) => format!("m {}", String::from_utf8_lossy(text)),
                    Part::Item(text) => format!("i {}", String::from_utf8_lossy(text)),
                });
            };
            items.feed(chunk, give).unwrap();
        }
        (found, items.ended())
    }

    #[test]
    fn gives_the_items_however_the_bytes_come() {
        let list = r#" {"kind":"PodList","metadata":{"resourceVersion":"7"},"items": [ {"metadata":{"name":"a"},"x":"}]\"{\\"} ,{"items":[{}]}] } "#;
        let expected = [r#"m {"resourceVersion":"7"}"#, r#"i {"metadata":{"name":"a"},"x":"}]\"{\\"}"#, r#"i {"items":[{}]}"#];
        for step in 1..=list.len() {
            assert_eq!(parts(list, step), (expected.map(str::to_owned).to_vec(), true), "in steps of {step}");
        }
        assert_eq!(parts(r#"{"items":null,"metadata":{}}"#, 5), (vec!["m {}".to_owned()], true));
        assert!(!parts(&list[..list.len() - 3], 9).1, "cut off");
    }

    #[test]
    fn an_object_without_end_is_refused() {
        let mut items = Items::default();
        items.feed(br#"{"items":[{"x":""#, |_| ()).unwrap();
        assert_eq!(items.feed(&vec![b'y'; MAX_OBJECT_BYTES + 1], |_| ()), Err(TooLong));
    }
}
