//! JSON objects as bytes: taking members out of them and putting members into them.

use skidder_pipeline::json;
use skidder_pipeline::value::{Kind, Value};

/// What [`take`] took, and what it left.
pub(crate) struct Taken {
    /// The object without the member.
    pub(crate) object: Vec<u8>,
    /// What the member's value is.
    pub(crate) kind: Kind,
    /// The member's value; for strings the inside, without quotes.
    pub(crate) value: Vec<u8>,
}

/// Takes the member at `path` (one escaped key a level, at least one) out of `object`; `None` where there is none.
pub(crate) fn take(object: Value<'_>, path: &[Box<[u8]>]) -> Option<Taken> {
    let (first, rest) = path.split_first()?;
    let found = json::member(object, first)?;
    if rest.is_empty() {
        let object = rebuilt(object, first, None);
        return Some(Taken { object, kind: found.kind, value: found.raw.into() });
    }
    let inner = take(found, rest)?;
    let object = rebuilt(object, first, Some(Value { kind: Kind::Object, raw: &inner.object }));
    Some(Taken { object, ..inner })
}

/// `object` with the member at `path` (at least one key) set to `value`. What stands in the way and is no object gives way.
pub(crate) fn put(object: Option<Value<'_>>, path: &[Box<[u8]>], value: Value<'_>) -> Vec<u8> {
    let Some((first, rest)) = path.split_first() else { return Vec::new() };
    let object = object.filter(|object| object.kind == Kind::Object).unwrap_or(Value { kind: Kind::Object, raw: b"{}" });
    if rest.is_empty() {
        return rebuilt(object, first, Some(value));
    }
    let inner = put(json::member(object, first), rest, value);
    rebuilt(object, first, Some(Value { kind: Kind::Object, raw: &inner }))
}

/// `object` with the member `key` replaced by `value`, or added at the end, or left out.
fn rebuilt(object: Value<'_>, key: &[u8], value: Option<Value<'_>>) -> Vec<u8> {
    let mut out = Vec::with_capacity(object.raw.len() + value.map_or(0, |v| v.raw.len() + key.len() + 8));
    let mut pending = value;
    let write = |name: &[u8], value: Value<'_>, out: &mut Vec<u8>| {
        out.extend_from_slice(if out.is_empty() { b"{\"" } else { b",\"" });
        out.extend_from_slice(name);
        out.extend_from_slice(b"\":");
        value.write_json(out);
    };
    json::members(object, |name, old| {
        if *json::canonical_key(name) != *key {
            write(name, old, &mut out);
        } else if let Some(value) = pending.take() {
            write(name, value, &mut out);
        }
    });
    if let Some(value) = pending {
        write(key, value, &mut out);
    }
    if out.is_empty() {
        out.push(b'{');
    }
    out.push(b'}');
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use skidder_pipeline::path::Path;

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn takes_members_at_any_depth() {
        let object = json::value(br#"{ "a" : 1, "b":{"c":"x","d":[1, 2]}, "b\u0031":null}"#).unwrap();
        let take = |path: &str| take(object, Path::parse(path).unwrap().segments()).map(|t| (text(t.object), t.kind, text(t.value)));
        assert_eq!(take("a"), Some((r#"{"b":{"c":"x","d":[1, 2]},"b\u0031":null}"#.into(), Kind::Number, "1".into())));
        assert_eq!(take("b.c"), Some((r#"{"a":1,"b":{"d":[1, 2]},"b\u0031":null}"#.into(), Kind::String, "x".into())));
        assert_eq!(take("b1"), Some((r#"{"a":1,"b":{"c":"x","d":[1, 2]}}"#.into(), Kind::Null, "null".into())));
        assert_eq!(take("b.x"), None);
        assert_eq!(take("a.x"), None);
    }

    #[test]
    fn taking_the_only_member_leaves_an_object() {
        let taken = take(json::value(br#"{"a":1}"#).unwrap(), Path::parse("a").unwrap().segments()).unwrap();
        assert_eq!(text(taken.object), "{}");
    }

    #[test]
    fn takes_every_copy_of_a_key_that_stands_twice() {
        let taken = take(json::value(br#"{"a":1,"a":2}"#).unwrap(), Path::parse("a").unwrap().segments()).unwrap();
        assert_eq!((text(taken.object).as_str(), text(taken.value).as_str()), ("{}", "2"));
    }

    #[test]
    fn puts_members_at_any_depth() {
        let object = json::value(br#"{"a":1,"b":{"c":"x"}}"#).unwrap();
        let put = |path: &str| text(put(Some(object), Path::parse(path).unwrap().segments(), Value::text(b"\"")));
        assert_eq!(put("a"), r#"{"a":"\"","b":{"c":"x"}}"#);
        assert_eq!(put("b.d"), r#"{"a":1,"b":{"c":"x","d":"\""}}"#);
        assert_eq!(put("a.b.c"), r#"{"a":{"b":{"c":"\""}},"b":{"c":"x"}}"#);
    }
}
