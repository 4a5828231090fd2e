#![allow(clippy::unwrap_used, clippy::expect_used)]

use proptest::prelude::*;
use serde_json::value::RawValue;

use super::*;

/// The members of an object: key, kind and value as they were written.
fn walked(text: &str) -> Result<Vec<(String, Kind, String)>, Malformed> {
    let mut fields = Vec::new();
    walk(text.as_bytes(), Span::new(0, text.len()), &mut fields)?;
    let of = |span: Span| String::from_utf8(span.of(text.as_bytes()).to_vec()).unwrap();
    Ok(fields.iter().map(|f| (of(f.key), f.kind, of(f.value))).collect())
}

#[test]
fn walks_members_shallowly() {
    let text = " { \"a\" : \"x\\\"y\" , \"b\":[1,{\"c\":2}],\"\\u0064\":{ },\"e\":-1.5E+3,\"f\":true,\"g\":null }\n";
    let member = |key: &str, kind, value: &str| (key.to_owned(), kind, value.to_owned());
    assert_eq!(
        walked(text).unwrap(),
        [
            member("a", Kind::String, "x\\\"y"),
            member("b", Kind::Array, "[1,{\"c\":2}]"),
            member("\\u0064", Kind::Object, "{ }"),
            member("e", Kind::Number, "-1.5E+3"),
            member("f", Kind::Bool, "true"),
            member("g", Kind::Null, "null"),
        ]
    );
}

#[test]
fn walks_within_its_span_only() {
    let text = b"x{\"a\":1}y";
    let mut fields = Vec::new();
    walk(text, Span::new(1, 8), &mut fields).unwrap();
    assert_eq!((fields[0].key, fields[0].value), (Span::new(3, 4), Span::new(6, 7)));
    assert_eq!(walk(text, Span::new(1, 7), &mut fields), Err(Malformed::Syntax));
    assert_eq!(fields.len(), 1, "an error leaves the list as it was");
}

#[test]
fn says_whether_a_key_holds_an_escape() {
    let walk = |text: &str| walk(text.as_bytes(), Span::new(0, text.len()), &mut Vec::new()).unwrap().escaped_keys;
    assert!(!walk(r#"{"a":"\\n","b":{"\\n":1}}"#));
    assert!(walk(r#"{"a":1,"\\n":2}"#));
}

#[test]
fn refuses_what_is_no_object() {
    for (text, expected) in [
        ("", Malformed::NotAnObject),
        ("  ", Malformed::NotAnObject),
        ("[]", Malformed::NotAnObject),
        ("text", Malformed::NotAnObject),
        ("\u{feff}{}", Malformed::NotAnObject),
        ("{", Malformed::Syntax),
        ("{}x", Malformed::Syntax),
        ("{,}", Malformed::Syntax),
        ("{\"a\":1,}", Malformed::Syntax),
        ("{\"a\" 1}", Malformed::Syntax),
        ("{\"a\":}", Malformed::Syntax),
        ("{a:1}", Malformed::Syntax),
        ("{\"a\":01}", Malformed::Syntax),
        ("{\"a\":1.}", Malformed::Syntax),
        ("{\"a\":.5}", Malformed::Syntax),
        ("{\"a\":+1}", Malformed::Syntax),
        ("{\"a\":1e}", Malformed::Syntax),
        ("{\"a\":-}", Malformed::Syntax),
        ("{\"a\":NaN}", Malformed::Syntax),
        ("{\"a\":tru}", Malformed::Syntax),
        ("{\"a\":truex}", Malformed::Syntax),
        ("{\"a\":\"\\x\"}", Malformed::Syntax),
        ("{\"a\":\"\\u12g4\"}", Malformed::Syntax),
        ("{\"a\":\"\\u12\"}", Malformed::Syntax),
        ("{\"a\":\"\n\"}", Malformed::Syntax),
        ("{\"a\":\"", Malformed::Syntax),
        ("{\"a\":[1,]}", Malformed::Syntax),
        ("{\"a\":[}", Malformed::Syntax),
        ("{\"a\":[1}]", Malformed::Syntax),
        ("{\"a\":{\"b\":1]}", Malformed::Syntax),
        ("{\"a\":{1:2}}", Malformed::Syntax),
        ("{\"a\":[1 2]}", Malformed::Syntax),
    ] {
        assert_eq!(walked(text), Err(expected), "{text}");
    }
}

#[test]
fn depth_is_bounded_and_costs_no_stack() {
    let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1));
    assert!(walked(&nested(MAX_DEPTH as usize)).is_ok());
    assert_eq!(walked(&nested(MAX_DEPTH as usize + 1)), Err(Malformed::TooDeep));
    assert_eq!(walked(&nested(1_000_000)), Err(Malformed::TooDeep));
    assert_eq!(walked(&"{\"a\":".repeat(1_000_000)), Err(Malformed::TooDeep));
}

#[test]
fn escapes_every_character_that_must_be() {
    let mut text: Vec<u8> = (0..=0x7f).collect();
    text.extend("é😀".as_bytes());
    let mut escaped = Vec::new();
    escape(&text, &mut escaped);
    let quoted = [b"\"", &*escaped, b"\""].concat();
    assert_eq!(serde_json::from_slice::<String>(&quoted).unwrap().into_bytes(), text);
}

#[test]
fn unescapes_what_is_broken_without_fault() {
    for (raw, expected) in [
        (r"\ud800", "\u{fffd}"),
        (r"\udc00x", "\u{fffd}x"),
        (r"\ud800\u0041", "\u{fffd}A"),
        (r"\ud83d\ude00", "😀"),
        (r"\u12", r"\u12"),
        (r"\x", r"\x"),
        (r"\", r"\"),
        (r"\/\b\f", "/\u{8}\u{c}"),
    ] {
        assert_eq!(String::from_utf8_lossy(&unescape(raw.as_bytes())), expected, "{raw}");
    }
}

/// Text that is JSON, nearly JSON, or neither.
fn near_json() -> impl Strategy<Value = String> {
    let piece = proptest::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "\"",
        "\"a\"",
        "\"b\":",
        "\"é\\n\":1,",
        " ",
        "\n",
        "\\",
        "\\u0041",
        "\\ud83d\\ude00",
        "1",
        "-",
        "0",
        ".5",
        "e9",
        "true",
        "false",
        "null",
        "x",
        "{}",
        "[]",
        "{\"k\":[1,2]}",
        "\u{1}",
        "12345678901234567890",
        "\\/",
        "\t",
        "\u{7f}",
    ]);
    prop_oneof![
        proptest::collection::vec(piece, 0..14).prop_map(|pieces| pieces.concat()),
        any_json().prop_map(|value| value.to_string()),
        any_json().prop_map(|value| serde_json::to_string_pretty(&value).unwrap()),
        (any_json(), any::<proptest::sample::Index>(), any::<char>()).prop_map(|(value, at, c)| {
            // One character of a good text is replaced.
            let mut chars: Vec<char> = value.to_string().chars().collect();
            let at = at.index(chars.len());
            chars[at] = c;
            chars.into_iter().collect()
        }),
        (any_json(), any::<proptest::sample::Index>()).prop_map(|(value, at)| {
            let text = value.to_string();
            let at = text.floor_char_boundary(at.index(text.len() + 1));
            text[..at].to_owned()
        }),
    ]
    .prop_flat_map(|text| prop_oneof![Just(text.clone()), Just(format!("{{\"a\":{text}}}")), Just(format!("{{{text}}}"))])
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(serde_json::Value::from),
        any::<i64>().prop_map(serde_json::Value::from),
        // Eighths, because serde_json does not read every float back to the last bit.
        any::<i32>().prop_map(|n| serde_json::Value::from(f64::from(n) / 8.0)),
        "[ -~é\n\u{1}\"\\\\😀]{0,20}".prop_map(serde_json::Value::from),
    ];
    leaf.prop_recursive(5, 30, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(serde_json::Value::from),
            proptest::collection::hash_map("[a-zé\"\\\\\n]{0,12}", inner, 0..5)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

/// What serde_json makes of a text when it only checks it: numbers and strings are not decoded, so it refuses neither huge
/// numbers nor lone surrogates, which a tree of values would.
fn is_json_object(text: &str) -> bool {
    serde_json::from_str::<&RawValue>(text).is_ok_and(|raw| raw.get().starts_with('{'))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn takes_the_objects_that_serde_json_takes(text in near_json()) {
        match walked(&text) {
            Err(Malformed::TooDeep) => {}
            result => prop_assert_eq!(result.is_ok(), is_json_object(&text), "{}", text),
        }
    }

    #[test]
    fn spans_rebuild_the_text(value in any_json(), pretty in any::<bool>()) {
        let object = serde_json::json!({"first": value, "key \" \n": value});
        let text = if pretty { serde_json::to_string_pretty(&object) } else { serde_json::to_string(&object) }.unwrap();
        let members: Vec<String> = walked(&text).unwrap().into_iter().map(|(key, kind, raw)| {
            let mut out = Vec::new();
            Value { kind, raw: raw.as_bytes() }.write_json(&mut out);
            format!("\"{key}\":{}", String::from_utf8(out).unwrap())
        }).collect();
        let rebuilt: serde_json::Value = serde_json::from_str(&format!("{{{}}}", members.join(","))).unwrap();
        prop_assert_eq!(rebuilt, object);
    }

    #[test]
    fn nested_values_are_reached(value in any_json()) {
        let text = value.to_string();
        let read = super::value(text.as_bytes()).unwrap();
        let tree = |value: Value<'_>| {
            let mut out = Vec::new();
            value.write_json(&mut out);
            serde_json::from_slice::<serde_json::Value>(&out).unwrap()
        };
        match &value {
            serde_json::Value::Object(map) => {
                for (key, expected) in map {
                    let mut escaped = Vec::new();
                    escape(key.as_bytes(), &mut escaped);
                    prop_assert_eq!(&tree(member(read, &escaped).unwrap()), expected);
                }
                let mut count = 0;
                members(read, |_, _| count += 1);
                prop_assert_eq!(count, map.len());
            }
            serde_json::Value::Array(list) => {
                let mut found = Vec::new();
                elements(read, |element| found.push(tree(element)));
                prop_assert_eq!(&found, list);
            }
            _ => prop_assert_eq!(tree(read), value),
        }
    }

    #[test]
    fn escape_and_unescape_are_inverse(text in "[ -~\u{0}-\u{1f}é😀\"\\\\]{0,40}") {
        let mut escaped = Vec::new();
        escape(text.as_bytes(), &mut escaped);
        prop_assert_eq!(unescape(&escaped), text.as_bytes());
        let quoted = format!("\"{}\"", String::from_utf8(escaped.clone()).unwrap());
        prop_assert_eq!(serde_json::from_str::<String>(&quoted).unwrap(), text);
        prop_assert_eq!(&*canonical_key(&escaped), &*escaped);
    }

    #[test]
    fn unescapes_as_serde_json_does(raw in r#"([ -!#-\[\]-~é]|\\[\\"/bfnrt]|\\u00[0-9a-f]{2}|\\ud83d\\ude0[0-9a-f]){0,20}"#) {
        let expected: String = serde_json::from_str(&format!("\"{raw}\"")).unwrap();
        prop_assert_eq!(String::from_utf8(unescape(raw.as_bytes()).into_owned()).unwrap(), expected);
    }
}

#[test]
fn starts_say_where_each_byte_was_written() {
    for raw in ["", "plain", r#"a\"b\\\\c\/\n"#, r"\u0041\ud83d\ude00x\ud83d", r"\q\u12", "é\\u00e9é\\"] {
        let (text, starts) = (unescape(raw.as_bytes()), starts(raw.as_bytes()));
        assert_eq!(starts.len(), text.len() + 1, "{raw}");
        assert_eq!(starts.last(), Some(&raw.len()));
        assert!(starts.is_sorted(), "{raw}");
        for (at, byte) in text.iter().enumerate().filter(|(_, byte)| byte.is_ascii_lowercase()) {
            assert!(raw.as_bytes()[starts[at]] == *byte || raw.as_bytes()[starts[at]] == b'\\', "{raw}: {at}");
        }
    }
}
