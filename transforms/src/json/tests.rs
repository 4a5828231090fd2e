#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use skidder_pipeline::shared::Shared;

use crate::test_support::{apply, batch_of, batch_with, lines, problems, shared, transform, trees};

/// A message line through `json` with these options; `timestamp` and `stream` are left out of what comes back.
fn read_with(options: Value, line: &str) -> Value {
    let mut table = json!({"type": "json"});
    table.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    let mut batch = batch_with(shared(&[("file", "\"f\"")]), &[line]);
    apply(&mut *transform(table), &mut batch);
    let mut tree = trees(&batch).remove(0);
    for key in ["timestamp", "stream", "file"] {
        assert!(tree.as_object_mut().unwrap().remove(key).is_some(), "{key} is gone");
    }
    tree
}

fn read(line: &str) -> Value {
    read_with(json!({}), line)
}

#[test]
fn members_become_fields() {
    for (line, expected) in [
        (
            r#"{"level":"info","n":1.50,"o":{"a":[1,{"b":null}]},"ok":true}"#,
            json!({"level": "info", "n": 1.50, "o": {"a": [1, {"b": null}]}, "ok": true}),
        ),
        ("  {\t\"a\" : 1 }\r", json!({"a": 1})),
        ("{}", json!({})),
        (r#"{"message":"inner"}"#, json!({"message": "inner"})),
        (r#"{"":1," ":2}"#, json!({"": 1, " ": 2})),
    ] {
        assert_eq!(read(line), expected, "{line}");
    }
}

#[test]
fn lines_that_are_no_object_stay_and_are_marked() {
    for line in [
        "",
        "plain",
        "[1]",
        "12",
        "\"x\"",
        "null",
        "{",
        "{\"a\":1",
        "{\"a\":1} x",
        "{\"a\":01}",
        "{'a':1}",
        "\u{feff}{}",
        "{\"a\":\"\u{1}\"}",
    ] {
        assert_eq!(read(line), json!({"message": line, "not_json": true}), "{line}");
    }
    let deep = format!("{}{}", "{\"a\":".repeat(10_000), "}".repeat(10_000));
    assert_eq!(read(&deep), json!({"message": deep, "not_json": true}));
    assert_eq!(read_with(json!({"mark": ""}), "plain"), json!({"message": "plain"}));
    assert_eq!(read_with(json!({"mark": "raw"}), "plain"), json!({"message": "plain", "raw": true}));
}

#[test]
fn counts_lines_that_are_no_json() {
    let mut batch = batch_with(Shared::empty(), &["x", "{}", "y"]);
    assert_eq!(apply(&mut *transform(json!({"type": "json"})), &mut batch).not_json, 2);
}

#[test]
fn of_equal_keys_the_last_counts() {
    assert_eq!(read(r#"{"a":1,"b":2,"a":3,"c":4,"b":5}"#), json!({"a": 3, "b": 5, "c": 4}));
    assert_eq!(read(r#"{"a":1,"\u0061":2}"#), json!({"a": 2}));
    assert_eq!(read(r#"{"\u0022":1,"\"":2,"\/":3,"/":4}"#), json!({"\"": 2, "/": 4}));
}

#[test]
fn what_the_agent_set_is_not_overwritten() {
    for (line, expected) in [
        (r#"{"timestamp":"forged","file":"x"}"#, json!({"app_timestamp": "forged", "app_file": "x"})),
        (r#"{"stream":1,"app_stream":2,"app_app_stream":3}"#, json!({"app_app_app_stream": 1, "app_stream": 2, "app_app_stream": 3})),
        (r#"{"stream":1,"stream":2}"#, json!({"app_stream": 2})),
        (r#"{"\u0073tream":1}"#, json!({"app_stream": 1})),
    ] {
        assert_eq!(read(line), expected, "{line}");
    }
    assert_eq!(read_with(json!({"conflict_prefix": "x."}), r#"{"file":1}"#), json!({"x.file": 1}));
}

#[test]
fn the_object_can_go_below_a_key() {
    assert_eq!(read_with(json!({"target": "app"}), " {\"a\": 1, \"file\":2} "), json!({"app": {"a": 1, "file": 2}}));
    assert_eq!(read_with(json!({"target": "message"}), r#"{"a":1}"#), json!({"message": {"a": 1}}));
    assert_eq!(read_with(json!({"target": "file"}), r#"{"a":1}"#), json!({"app_file": {"a": 1}}));
}

#[test]
fn reads_strings_with_json_in_them_and_objects() {
    for (record, expected) in [
        (r#"{"x":1,"payload":"{\"a\":\"\\n\",\"x\":2}"}"#, json!({"x": 1, "a": "\n", "app_x": 2})),
        (r#"{"payload":{"a":{"b":1}}}"#, json!({"a": {"b": 1}})),
        (r#"{"payload":[1]}"#, json!({"payload": [1], "not_json": true})),
        (r#"{"payload":"x","not_json":"was"}"#, json!({"payload": "x", "not_json": true})),
        (r#"{"other":1}"#, json!({"other": 1})),
    ] {
        let mut batch = batch_of(Shared::empty(), &[record]);
        apply(&mut *transform(json!({"type": "json", "field": "payload"})), &mut batch);
        assert_eq!(trees(&batch), [expected], "{record}");
    }
}

#[test]
fn shapes_that_alternate_and_change_with_the_container_are_told_apart() {
    let mut json = transform(json!({"type": "json"}));
    let rows = [r#"{"a":1,"b":2}"#, r#"{"a":1,"a":2}"#, r#"{"b":1,"a":2}"#, r#"{"a":1}"#, r#"{"ab":1,"":2}"#, r#"{"a":1,"b":2}"#];
    for shared in [shared(&[("c", "0")]), shared(&[("a", "0")]), shared(&[("c", "0")])] {
        let mut batch = batch_with(shared.clone(), &rows);
        apply(&mut *json, &mut batch);
        let a = if shared.get(b"a").is_some() { "app_a" } else { "a" };
        let read: Vec<Value> = trees(&batch)
            .into_iter()
            .map(|mut tree| {
                let fields = tree.as_object_mut().unwrap();
                fields.retain(|key, _| !matches!(key.as_str(), "timestamp" | "stream"));
                shared.iter().for_each(|(key, _)| drop(fields.remove(std::str::from_utf8(key).unwrap())));
                tree
            })
            .collect();
        assert_eq!(
            read,
            [json!({a: 1, "b": 2}), json!({a: 2}), json!({"b": 1, a: 2}), json!({a: 1}), json!({"ab": 1, "": 2}), json!({a: 1, "b": 2})]
        );
    }
}

#[test]
fn objects_with_very_many_keys_are_read_in_linear_time() {
    let members: Vec<String> = (0..100_000).map(|i| format!("\"key{i}\":{i}")).collect();
    let line = format!("{{{},\"key5\":-1}}", members.join(","));
    let start = std::time::Instant::now();
    let tree = read(&line);
    assert_eq!(tree.as_object().unwrap().len(), 100_000);
    assert_eq!(tree["key5"], -1);
    assert!(start.elapsed().as_secs() < 20);
}

#[test]
fn reports_every_mistake() {
    let table = json!({"type": "json", "field": "a.b", "target": "", "mark": "x y", "conflict_prefix": ""});
    let found = problems(table);
    for (problem, place) in found.iter().zip(["field: ", "target: ", "mark: ", "conflict_prefix: "]) {
        assert!(problem.starts_with(place), "{problem}");
    }
    assert_eq!(found.len(), 4, "{found:?}");
}

/// Keys among which are those of the agent, equal ones, and ones with escapes.
fn object() -> impl Strategy<Value = String> {
    let key = proptest::sample::select(vec![
        "a",
        "b",
        "\\u0061",
        "file",
        "stream",
        "app_stream",
        "message",
        "",
        "\\\"",
        "\\u0022",
        "é",
        "not_json",
    ]);
    let value = proptest::sample::select(vec!["1", "\"x\"", "{\"a\":[1,2]}", "[]", "null", "\"\\u0041\"", "-0.5e3"]);
    proptest::collection::vec((key, value), 0..8).prop_map(|members| {
        let members: Vec<String> = members.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
        format!("{{{}}}", members.join(", "))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn nothing_of_the_object_is_lost_or_forged(objects in proptest::collection::vec(object(), 1..20)) {
        let shared: Arc<Shared> = shared(&[("file", "\"f\"")]);
        let mut batch = batch_with(shared, &objects.iter().map(String::as_str).collect::<Vec<_>>());
        apply(&mut *transform(json!({"type": "json"})), &mut batch);
        for ((tree, line), object) in trees(&batch).into_iter().zip(lines(&batch)).zip(&objects) {
            let mut tree = tree.as_object().unwrap().clone();
            prop_assert_eq!(tree.remove("file"), Some(json!("f")));
            prop_assert_eq!(tree.remove("stream"), Some(json!("stdout")));
            prop_assert!(tree.remove("timestamp").is_some());
            // `serde_json` takes the last of equal keys, too.
            let expected: serde_json::Map<String, Value> = serde_json::from_str(object).unwrap();
            prop_assert_eq!(tree.len(), expected.len(), "{}", line);
            for (key, value) in &expected {
                let agents = matches!(key.as_str(), "file" | "stream");
                let renamed = format!("app_{key}");
                let key = match (agents, expected.contains_key(&renamed)) {
                    (false, _) => key.clone(),
                    (true, false) => renamed,
                    (true, true) => format!("app_{renamed}"),
                };
                prop_assert_eq!(tree.get(&key), Some(value), "{}", line);
            }
        }
    }
}
