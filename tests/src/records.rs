//! Records as they come out: JSON lines, and what a test expects of them.

use serde_json::{Map, Value};

/// The records of a JSON lines text; an error names the line.
pub fn parse_lines(text: &[u8]) -> Result<Vec<Map<String, Value>>, String> {
    let lines = text.split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty());
    let parse = |(index, line): (usize, &[u8])| match serde_json::from_slice(line) {
        Ok(record) => Ok(record),
        Err(error) => Err(format!("line {}: {error}: {}", index + 1, String::from_utf8_lossy(line))),
    };
    lines.map(parse).collect()
}

/// Whether `record` has all that `expected` has: objects may have more members, everything else is equal. A text that
/// begins or ends with `…` in what is expected stands for any text there.
pub fn matches(record: &Value, expected: &Value) -> bool {
    match (record, expected) {
        (Value::Object(record), Value::Object(expected)) => {
            expected.iter().all(|(key, value)| record.get(key).is_some_and(|found| matches(found, value)))
        }
        (Value::String(record), Value::String(expected)) => match (expected.strip_prefix('…'), expected.strip_suffix('…')) {
            (Some(_), Some(_)) if expected.chars().count() > 1 => record.contains(expected.trim_matches('…')),
            (Some(tail), None) => record.ends_with(tail),
            (_, Some(head)) => record.starts_with(head),
            _ => record == expected,
        },
        _ => record == expected,
    }
}

/// Those of `expected` that no record matches. Each record counts for one of them.
pub fn missing<'a>(records: &[Map<String, Value>], expected: &'a [Map<String, Value>]) -> Vec<&'a Map<String, Value>> {
    let mut free: Vec<Value> = records.iter().cloned().map(Value::Object).collect();
    let mut missing = Vec::new();
    for wanted in expected {
        match free.iter().position(|record| matches(record, &Value::Object(wanted.clone()))) {
            Some(index) => {
                free.swap_remove(index);
            }
            None => missing.push(wanted),
        }
    }
    missing
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn more_than_expected_is_no_fault_and_less_is() {
        let records = parse_lines(b"{\"a\":1,\"k\":{\"x\":1,\"y\":[1,2]}}\n\n{\"a\":1}\n").unwrap();
        let expect = |text: &str| parse_lines(text.as_bytes()).unwrap();
        assert!(missing(&records, &expect("{\"a\":1}\n{\"a\":1}")).is_empty());
        assert_eq!(missing(&records, &expect("{\"a\":1}\n{\"a\":1}\n{\"a\":1}")).len(), 1);
        assert!(missing(&records, &expect("{\"k\":{\"y\":[1,2]}}")).is_empty());
        assert_eq!(missing(&records, &expect("{\"k\":{\"y\":[1]}}")).len(), 1);
        assert!(parse_lines(b"{}\n{").unwrap_err().starts_with("line 2"));
    }

    #[test]
    fn an_ellipsis_stands_for_any_text() {
        let text = |text: &str| Value::from(text);
        assert!(matches(&text("abc"), &text("ab…")) && !matches(&text("abc"), &text("bc…")));
        assert!(matches(&text("abc"), &text("…bc")) && !matches(&text("abc"), &text("…ab")));
        assert!(matches(&text("abc"), &text("…b…")) && matches(&text("abc"), &text("…")));
        assert!(!matches(&text("abc"), &text("b")) && !matches(&text("abc"), &Value::from(1)));
    }
}
