//! `on_conflict = "stringify"`: a field that does not fit the mapping is moved aside, as text, and the record goes in without it.

use skidder_pipeline::json;
use skidder_pipeline::value::{Kind, Value};

use crate::lines::write_member;

/// Where fields go that do not fit: an object of texts.
const ASIDE: &[u8] = b"_conflict";

/// The fields that an error may be about, the likeliest first.
///
/// The texts are those of `DocumentParser`, `ObjectMapper`, `FieldMapper` and `StrictDynamicMappingException` of Elasticsearch 8
/// and 9 and of OpenSearch 2 and 3, which is where the names of fields are.
pub fn fields(reason: &str) -> Vec<String> {
    // What comes after this is the document's own.
    let reason = reason.split("Preview of").next().unwrap_or_default();
    let between = |before: &str| {
        let rest = &reason[reason.find(before)? + before.len()..];
        Some(rest[..rest.find(']')?].to_owned()).filter(|name| !name.is_empty())
    };
    let strict = || {
        let (name, within) = (between("dynamic introduction of [")?, between("within [")?);
        Some(if within == "_doc" { name } else { format!("{within}.{name}") })
    };
    if reason.contains("field name cannot be an empty string") {
        return vec![String::new()];
    }
    // A name of nothing but dots and spaces, in brackets with or without quotes.
    if let Some((_, name)) = reason.split_once("cannot contain only whitespace: [") {
        return vec![name.strip_suffix(']').unwrap_or(name).trim_matches('\'').to_owned()];
    }
    if let Some(name) = between("makes object resolution ambiguous: [") {
        return vec![name];
    }
    let places = ["Existing mapping for [", "object mapping for [", "failed to parse field [", "mapper [", "object mapping [", "field ["];
    let mut names: Vec<String> = strict().into_iter().chain(places.into_iter().filter_map(between)).collect();
    names.retain(|name| name.as_bytes() != ASIDE && !name.starts_with("_conflict.") && name != "@timestamp");
    names
}

/// `document`, an object, with the field at `path` (keys with dots between them) as a text below `_conflict`. Of an array on the
/// way the whole is moved, since the store does not say which of its parts it was. `None` where there is no such field.
pub fn move_aside(document: &[u8], path: &str) -> Option<Vec<u8>> {
    let object = json::value(document).ok().filter(|value| value.kind == Kind::Object)?;
    let (mut out, taken) = without(object, path.as_bytes())?;
    let mut aside = Vec::new();
    if let Some(before) = json::member(object, ASIDE) {
        if before.kind != Kind::Object {
            return None; // An application's own.
        }
        json::members(before, |key, value| write_member(key, value, !aside.is_empty(), &mut aside));
        out = without(json::value(&out).ok()?, ASIDE)?.0;
    }
    let mut key = Vec::new();
    json::escape(path.replace(['.', ' '], "_").as_bytes(), &mut key);
    if key.is_empty() {
        key.push(b'_');
    }
    let text = if taken.kind.is_text() { taken } else { Value::text(taken.raw) };
    write_member(&key, text, !aside.is_empty(), &mut aside);
    out.pop(); // The brace.
    if out.len() > 1 {
        out.push(b',');
    }
    out.extend_from_slice(b"\"_conflict\":{");
    out.extend_from_slice(&aside);
    out.extend_from_slice(b"}}");
    Some(out)
}

/// An object without the field at `path`, and what was there.
fn without<'a>(object: Value<'a>, path: &[u8]) -> Option<(Vec<u8>, Value<'a>)> {
    let mut out = vec![b'{'];
    let mut taken = None;
    json::members(object, |key, value| {
        let name = json::unescape(key);
        let deeper = path.strip_prefix(&*name).and_then(|after| after.strip_prefix(b"."));
        if taken.is_none() && (*name == *path || deeper.is_some() && value.kind != Kind::Object && value.kind != Kind::Null) {
            taken = Some(value);
            return;
        }
        let inner = deeper.filter(|_| taken.is_none() && value.kind == Kind::Object).and_then(|path| without(value, path));
        match inner {
            Some((raw, what)) => {
                taken = Some(what);
                write_member(key, Value { kind: Kind::Object, raw: &raw }, out.len() > 1, &mut out);
            }
            None => write_member(key, value, out.len() > 1, &mut out),
        }
    });
    let taken = taken?;
    out.push(b'}');
    Some((out, taken))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_the_field_that_an_error_is_about() {
        for (reason, expected) in [
            ("[1:20] failed to parse field [a.b] of type [long] in document with id 'x'. Preview of field's value: 'field [z]'", "a.b"),
            ("[1:5] object mapping for [user] tried to parse field [user] as object, but found a concrete value", "user"),
            ("Could not dynamically add mapping for field [a.b]. Existing mapping for [a] must be of type object but found [long].", "a"),
            ("mapper [n] cannot be changed from type [long] to [text]", "n"),
            // A list of numbers and objects.
            ("can't merge a non object mapping [a.x-id] with an object mapping", "a.x-id"),
            ("can't merge an object mapping [a] with a non object mapping", "a"),
            ("[1:9] mapping set to strict, dynamic introduction of [k] within [_doc] is not allowed", "k"),
            ("mapping set to strict, dynamic introduction of [k] within [http.headers] is not allowed", "http.headers.k"),
        ] {
            assert_eq!(fields(reason).first().map(String::as_str), Some(expected), "{reason}");
        }
        assert_eq!(fields("[1:2] failed to parse: field name cannot contain only whitespace: ['a..b']"), ["a..b"]);
        assert_eq!(
            fields("failed to parse object field starting or ending with a [.] makes object resolution ambiguous: [a..b]"),
            ["a..b"]
        );
        assert_eq!(fields("[1:2] Field name cannot contain only whitespace: [ ]"), [" "]);
        assert_eq!(fields("[1:2] failed to parse: field name cannot be an empty string"), [""]);
        for reason in [
            "failed to parse",
            "failed to parse field [_conflict.a] of type [x]",
            "failed to parse field [@timestamp] of type [date]",
            "field []",
        ] {
            assert!(fields(reason).is_empty(), "{reason}");
        }
    }

    #[test]
    fn moves_a_field_aside_wherever_it_stands() {
        let moved = |document: &str, path: &str| move_aside(document.as_bytes(), path).map(|out| String::from_utf8(out).unwrap());
        for (document, path, expected) in [
            (r#"{"a":{"b":"x\"y","c":1},"d":2}"#, "a.b", r#"{"a":{"c":1},"d":2,"_conflict":{"a_b":"x\"y"}}"#),
            (r#"{"a.b":{"c":[1,"z"]},"d":2}"#, "a.b", r#"{"d":2,"_conflict":{"a_b":"{\"c\":[1,\"z\"]}"}}"#),
            (r#"{"a.b":{"c.d":1.50}}"#, "a.b.c.d", r#"{"a.b":{},"_conflict":{"a_b_c_d":"1.50"}}"#),
            (r#"{"a":[{"b":1},{"b":"x"}]}"#, "a.b", r#"{"_conflict":{"a_b":"[{\"b\":1},{\"b\":\"x\"}]"}}"#),
            (r#"{"a":1,"n":2,"_conflict":{"x":"1"}}"#, "n", r#"{"a":1,"_conflict":{"x":"1","n":"2"}}"#),
            (r#"{"":1,"a":2}"#, "", r#"{"a":2,"_conflict":{"_":"1"}}"#),
            (r#"{"a..b":1,"a":{"c":1}}"#, "a..b", r#"{"a":{"c":1},"_conflict":{"a__b":"1"}}"#),
            (r#"{"a":{"x":1},"a.b":2}"#, "a.b", r#"{"a":{"x":1},"_conflict":{"a_b":"2"}}"#),
        ] {
            assert_eq!(moved(document, path).as_deref(), Some(expected), "{document} {path}");
        }
        assert_eq!(moved(r#"{"a":1}"#, "b"), None);
        assert_eq!(moved(r#"{"a":1,"_conflict":7}"#, "a"), None);
        assert_eq!(moved("no JSON", "a"), None);
    }
}
