//! Fuzzing of the scan, the decoded view and the splice, from the corpus in `tests/corpus/redact`.

use skidder_tests::fuzz;

use std::cell::RefCell;

use super::super::view::View;
use super::*;

const CORPUS: &str = "tests/corpus/redact";

/// What readers and the view give a meaning to.
const TOKENS: &[&[u8]] = &[
    b"@",
    b"\\u0040",
    b"%40",
    b"%2540",
    b"\\n",
    b"\\\\\"",
    b"\"",
    b":",
    b"=",
    b"4111111111111111",
    b"+66 81 234 5678",
    b"password",
    b"token=",
    b"Bearer ",
    b"eyJ",
    b"-----BEGIN PRIVATE KEY-----",
    b"phone ",
    b"://",
    b"::",
    b"\xef\xbc\xa0",
    b"\xe2\x84\x96",
    b"\xc2\xa0",
    b"[EMAIL]",
    b"8.8.8.8",
    b"name",
    b"Cookie: a=bcdefg; ",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b"***",
    b"--password ",
    b" -u a:bcd",
    b"curl ",
    b"mysql -pabcd",
    b"</password>",
    b"<password>",
    b",\"value\":",
    b"\xe0\xb9\x91",
    b" x123",
    b"OTP is 482913",
    b"your code ",
    "รหัสผ่าน ".as_bytes(),
    "пароль ".as_bytes(),
    b"hunter22",
    b"sntrys_eyJ",
    b"snyk_uat.",
    b"1//0",
    b"hooks.slack.com/services/",
    b"address1\"",
    b"@tcp(",
];

fn lossy(input: &[u8]) -> String {
    String::from_utf8_lossy(input).into_owned()
}

/// The quick scan and the plain reference say the same of any lines, whichever block each stands in, and what is redacted is
/// UTF-8 and stays as it is.
#[test]
fn the_scan() {
    let plain = RefCell::new(LineRedactor::new(&RedactConfig { paranoid: true, ..RedactConfig::default() }).unwrap());
    let quick = RefCell::new(LineRedactor::new(&RedactConfig::default()).unwrap());
    fuzz::run("redact-scan", CORPUS, TOKENS, |input| {
        let text = lossy(input);
        for line in text.lines() {
            let expected = plain.borrow_mut().redact(line.as_bytes()).map(<[u8]>::to_vec);
            let found = quick.borrow_mut().redact(line.as_bytes()).map(<[u8]>::to_vec);
            assert_eq!(found.as_deref().map(String::from_utf8_lossy), expected.as_deref().map(String::from_utf8_lossy), "{line}");
            let Some(once) = found else { continue };
            assert!(std::str::from_utf8(&once).is_ok());
            assert_eq!(quick.borrow_mut().redact(&once), None, "{line} became {}", String::from_utf8_lossy(&once));
        }
    });
}

/// The view of any text is UTF-8, and each of its stretches stands for whole characters of what was written.
#[test]
fn the_view() {
    fuzz::run("redact-view", CORPUS, TOKENS, |input| {
        let text = lossy(input);
        let mut view = View::default();
        view.decode(text.as_bytes());
        let decoded = std::str::from_utf8(view.text()).unwrap();
        if !View::differs(text.as_bytes()) {
            assert_eq!(decoded, text);
        }
        let mut end = 0;
        for (at, c) in decoded.char_indices() {
            let (from, to) = view.written(at, at + c.len_utf8());
            assert!(from >= end && from < to && text.is_char_boundary(from) && text.is_char_boundary(to), "{text}");
            end = from;
        }
    });
}

/// Records of any text, whole and in JSON at four depths, are JSON after it at each depth, and say the same when they are redacted
/// again.
#[test]
fn the_splice() {
    let redact = RefCell::new(Redact::new(&RedactConfig::default()).unwrap());
    fuzz::run("redact-splice", CORPUS, TOKENS, |input| {
        let text = lossy(input);
        let inner = json!({"text": text, "card": 4111111111111111u64, text.clone(): [text, 1.5]}).to_string();
        let list = json!([inner, 4111111111111111u64, [text]]).to_string();
        let mut objects = vec![json!({"m": text, "inner": inner, "list": list, "deep": json!({"list": list}).to_string()}).to_string()];
        objects.push(inner);
        objects.extend(
            serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&text)
                .ok()
                .map(|object| serde_json::Value::Object(object).to_string()),
        );
        let objects: Vec<&str> = objects.iter().map(String::as_str).collect();
        let mut batch = batch_of(Shared::empty(), &objects);
        let mut report = Report::default();
        redact.borrow_mut().apply(&mut batch, &mut report);
        let trees = trees(&batch);
        assert_eq!(trees.len(), objects.len());
        let first = &trees[0];
        still_json(&text, &first["m"]);
        assert!(said_by(&first["inner"]).is_object() && said_by(&said_by(&first["list"])[0]).is_object());
        let deep = said_by(&said_by(&said_by(&first["deep"])["list"])[0]);
        assert!(deep.is_object());
        still_json(&text, &deep["text"]);
        let once = lines(&batch);
        redact.borrow_mut().apply(&mut batch, &mut Report::default());
        assert_eq!(lines(&batch), once);
    });
}

/// What a string that is JSON says.
fn said_by(string: &serde_json::Value) -> serde_json::Value {
    let text = string.as_str().unwrap();
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// A string that was JSON is some after it.
fn still_json(before: &str, after: &serde_json::Value) {
    let was: Result<serde_json::Value, _> = serde_json::from_str(before);
    if was.is_ok_and(|value| value.is_object() || value.is_array()) && after.is_string() {
        said_by(after);
    }
}
