#![allow(clippy::unwrap_used, clippy::expect_used)]

use serde_json::json;

use super::*;
use crate::test_support::{apply, batch_of, batch_with, kubernetes, lines, problems, shared, transform, trees};

mod actions;
mod examples;
mod fuzz;
mod labelled;
mod properties;

const JWT: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U";

/// A message line through `json` and `redact`, without what the agent adds.
fn redacted(line: &str) -> String {
    let mut batch = batch_with(Shared::empty(), &[line]);
    let mut redact = transform(json!({"type": "redact"}));
    apply(&mut *redact, &mut batch);
    let view = batch.record(0);
    let message = view.get(&skidder_pipeline::path::Path::parse("message").unwrap()).unwrap();
    message.plain_str().into_owned()
}

/// A record of own fields through `redact`.
fn redacted_record(object: &str) -> String {
    let mut batch = batch_of(Shared::empty(), &[object]);
    apply(&mut *transform(json!({"type": "redact"})), &mut batch);
    lines(&batch).remove(0)
}

#[test]
fn takes_values_out_of_text() {
    for (line, expected) in [
        ("mail to a+b@x.co.th, please", "mail to [EMAIL], please"),
        ("<jane.doe@example.com>;joe@example.org.", "<[EMAIL]>;[EMAIL]."),
        ("почта@пример.рф и ivan@xn--e1afmkfd.xn--p1ai!", "[EMAIL] и [EMAIL]!"),
        ("José.garcía@example.com", "[EMAIL]"),
        ("อีเมลfoo@bar.comครับ", "อีเมล[EMAIL]ครับ"),
        ("user=foo@bar.com&x=1 --to=...foo@bar.com", "user=[EMAIL]&x=1 --to=...[EMAIL]"),
        ("a@b.co@c.com", "[EMAIL]@c.com"),
        ("paid with 4111 1111 1111 1111 today", "paid with [CREDIT_CARD] today"),
        ("4111111111111111,378282246310005", "[CREDIT_CARD],[CREDIT_CARD]"),
        ("from 185.3.2.1:8080 and (11.0.0.7). 8.8.8.8", "from [IPV4]:8080 and ([IPV4]). [IPV4]"),
        ("1.2.3.4.in-addr.arpa /1.2.3.4 a-1.2.3.4-b 1.2.3.4.", "[IPV4].in-addr.arpa /[IPV4] a-[IPV4]-b [IPV4]."),
        ("Authorization: Bearer abcdefghijkl1234567890", "Authorization: Bearer [BEARER_TOKEN]"),
        ("authorization=bearer%20abcDEF123456-._~+/x==;", "authorization=bearer%20[BEARER_TOKEN];"),
        ("BEARER: 0123456789abcdef\"", "BEARER: [BEARER_TOKEN]\""),
        ("Bearer:    +abcdefghijklm1234567890", "Bearer:    +[BEARER_TOKEN]"),
        ("GET /u?mail=a%2Bb%40x.co.th&card=4111%201111%201111%201111", "GET /u?mail=[EMAIL]&card=[CREDIT_CARD]"),
        ("to%3Afoo%2540bar.com%0Ax", "to%3A[EMAIL]%0Ax"),
        ("4111111111111111foo@bar.com4111111111111111", "[EMAIL][CREDIT_CARD]"),
    ] {
        assert_eq!(redacted(line), expected, "{line}");
        assert_eq!(redacted(expected), expected, "{expected}");
    }
    assert_eq!(redacted(&format!("token {JWT}; Bearer {JWT}")), "token [JWT]; Bearer [JWT]");
    assert_eq!(redacted("eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0. x"), "[JWT] x");
}

#[test]
fn leaves_the_rest_alone() {
    for line in [
        "logo@2x.png @scope/pkg@1.2.3 Booking@1a2b3c app@sha256:aabbcc user@1000.service @ a@b foo@bar",
        "1748503543012 1748503543012345678 12345678-1234-1234-1234-123456789012 4111111111111112 x4111111111111111",
        "2026-10-11 12:34:56.123456789Z 2026-10-11T12:34:56.123+02:00 00:15:04 123456789012",
        "127.0.0.1 0.0.0.0 255.255.255.255 1.2.3 1.2.3.4.5 v1.2.3.4 256.1.1.1 Chrome/120.0.0.0 1.2.3.4a 1.2.3.4567",
        "trace_id=0af7651916cd43dd8448eb211c80319c span=b7ad6b7169203331 0.4111111111111111",
        "the bearer of bad news, Bearer: none, bearer x, forbearer abcdefghijkl1234567890",
        "eyJ eyJhbGci.x eyJhbGciOiJIUzI1NiJ9 {\"key\":\"eyes\"}",
        "[EMAIL] [CREDIT_CARD] [IPV4] [JWT] [BEARER_TOKEN] [REDACTED:error] Bearer [BEARER_TOKEN]",
    ] {
        assert_eq!(redacted(line), line);
    }
}

#[test]
fn sees_through_escapes_and_breaks_none() {
    for (record, expected) in [
        (r#"{"m":"a\nfoo@bar.com\tx"}"#, r#"{"m":"a\n[EMAIL]\tx"}"#),
        (r#"{"m":"foo\u0040bar.com, b\u0061r@x.org"}"#, r#"{"m":"[EMAIL], [EMAIL]"}"#),
        (r#"{"m":"{\"to\":\"foo@bar.com\",\"t\":\"\\nx@y.zz\\u0040\"}"}"#, r#"{"m":"{\"to\":\"[EMAIL]\",\"t\":\"\\n[EMAIL]\\u0040\"}"}"#),
        (r#"{"m":"\\\\u0040 a\\\\u0040b.com"}"#, r#"{"m":"\\\\u0040 [EMAIL]"}"#),
        (r#"{"m":"Bearer abc\/def\/0123456789 x"}"#, r#"{"m":"Bearer [BEARER_TOKEN] x"}"#),
        (r#"{"m":"\u0e014111111111111111"}"#, r#"{"m":"\u0e01[CREDIT_CARD]"}"#),
        (r#"{"m":"4111\u00201111\u00201111\u00201111"}"#, r#"{"m":"[CREDIT_CARD]"}"#),
        (r#"{"m":"1.2.3\u002e4 \n8.8.8.8"}"#, r#"{"m":"[IPV4] \n[IPV4]"}"#),
        (r#"{"m":"CORP\\nick@corp.com"}"#, r#"{"m":"CORP\\n[EMAIL]"}"#),
    ] {
        assert_eq!(redacted_record(record), expected);
        assert_eq!(redacted_record(expected), expected);
    }
}

#[test]
fn reaches_every_leaf() {
    let record = r#"{"n":4111111111111111,"neg":-4111111111111111,"float":4111111111111111.5,"a":[1,"x@y.zz",[{"k":4111111111111111}],true,null],"o":{"k@l.mn":{"p":"8.8.8.8"},"q":1.5},"t@u.vw":"","b":true}"#;
    let expected = r#"{"n":"[CREDIT_CARD]","neg":"-[CREDIT_CARD]","float":"[CREDIT_CARD].5","a":[1,"[EMAIL]",[{"k":"[CREDIT_CARD]"}],true,null],"o":{"[EMAIL]":{"p":"[IPV4]"},"q":1.5},"[EMAIL]":"","b":true}"#;
    assert_eq!(redacted_record(record), expected);
    assert_eq!(redacted_record(expected), expected);
}

#[test]
fn keys_that_become_equal_are_told_apart() {
    assert_eq!(
        redacted_record(r#"{"a@b.cc":1,"d@e.ff":2,"[EMAIL]":3,"o":{"a@b.cc":1,"d@e.ff":[{"x@y.zz":1,"[EMAIL]":2}]}}"#),
        r#"{"[EMAIL]":1,"[EMAIL]_2":2,"[EMAIL]_3":3,"o":{"[EMAIL]":1,"[EMAIL]_2":[{"[EMAIL]":1,"[EMAIL]_2":2}]}}"#
    );
    let mut batch = batch_of(shared(&[("a@b.cc", "1"), ("x", "2")]), &[r#"{"d@e.ff":1,"[EMAIL]":2}"#, r#"{"y":1}"#]);
    apply(&mut *transform(json!({"type": "redact"})), &mut batch);
    assert_eq!(trees(&batch), [json!({"[EMAIL]": 1, "x": 2, "[EMAIL]_2": 1, "[EMAIL]_3": 2}), json!({"[EMAIL]": 1, "x": 2, "y": 1})]);
}

#[test]
fn redacts_shared_fields_once_and_counts_them_in_each_record() {
    let mut redact = transform(json!({"type": "redact"}));
    let shared = kubernetes();
    let [mut first, mut second] = [batch_with(shared.clone(), &["a", "b"]), batch_with(shared, &["x@y.zz"])];
    let report = apply(&mut *redact, &mut first);
    assert_eq!(report.redactions(), [("email".into(), 2)]);
    let report = apply(&mut *redact, &mut second);
    assert_eq!(report.redactions(), [("email".into(), 2)]);
    assert!(Arc::ptr_eq(first.shared(), second.shared()));
    assert_eq!(trees(&first)[0]["kubernetes"]["pod_labels"]["owner"], "[EMAIL]");
    assert_eq!(trees(&first)[0]["kubernetes"]["pod_ip"], "10.2.3.4");
}

#[test]
fn counts_by_rule() {
    let mut batch = batch_with(Shared::empty(), &["a@b.cc 8.8.8.8 c@d.ee", r#"{"x":"f@g.hh"}"#]);
    let report = apply(&mut *transform(json!({"type": "redact"})), &mut batch);
    assert_eq!(report.redactions(), [("email".into(), 3), ("ipv4".into(), 1)]);
}

#[test]
fn rules_of_the_configuration() {
    let table = json!({"type": "redact", "detectors": ["email"], "rules": [
        {"name": "booking_id", "pattern": "BK-[0-9]{6}"},
        {"name": "path", "pattern": "key/[a-z]+"},
        {"name": "phone", "pattern": r"\+?[0-9]{9,}", "replacement": "<\"tel\">"},
    ]});
    let mut batch = batch_of(
        shared(&[("note", "\"BK-123456\"")]),
        &[
            r#"{"m":"BK-123456\nBK-654321 +66812345678","n":66812345678,"bk":{"BK-000000":["BK-1"]},"ip":"8.8.8.8 x@y.zz"}"#,
            r#"{"m":"key\/abc"}"#,
        ],
    );
    let report = apply(&mut *transform(table), &mut batch);
    assert_eq!(
        lines(&batch),
        [
            r#"{"note":"[BOOKING_ID]","m":"[BOOKING_ID]\n[BOOKING_ID] <\"tel\">","n":"<\"tel\">","bk":{"[BOOKING_ID]":["BK-1"]},"ip":"8.8.8.8 [EMAIL]"}"#,
            r#"{"note":"[BOOKING_ID]","m":"[PATH]"}"#
        ]
    );
    assert_eq!(report.redactions().iter().map(|(_, count)| count).sum::<u64>(), 9);
}

#[test]
fn overlapping_values_go_together_under_the_first_rule() {
    let table = json!({"type": "redact", "detectors": ["email"], "rules": [{"name": "id", "pattern": "id-[a-z]+"}]});
    let mut batch = batch_with(Shared::empty(), &["id-jane.doe@example.com x.id-jane@example.com"]);
    apply(&mut *transform(table), &mut batch);
    assert_eq!(trees(&batch)[0]["message"], "[EMAIL] [EMAIL]");
}

#[test]
fn a_pattern_that_matches_bytes_takes_whole_characters() {
    let table = json!({"type": "redact", "detectors": [], "rules": [{"name": "b", "pattern": r"(?-u)\xC3"}]});
    let mut batch = batch_with(Shared::empty(), &["José"]);
    apply(&mut *transform(table), &mut batch);
    assert_eq!(trees(&batch)[0]["message"], "Jos[B]");
}

#[test]
fn reports_every_mistake() {
    let table = json!({"type": "redact", "rules": [
        {"name": "a", "pattern": "x*"},
        {"name": "b", "pattern": "("},
        {"name": "c", "pattern": r"\pL{500}{500}"},
        {"name": "email", "pattern": "x"},
        {"name": "d", "pattern": r"\b"},
        {"name": "error", "pattern": "x"},
    ]});
    let found = problems(table);
    for (problem, (place, part)) in found.iter().zip([
        ("rules.0.pattern", "empty string"),
        ("rules.1.pattern", "unclosed group"),
        ("rules.2.pattern", "KiB"),
        ("rules.3.name", "of its own"),
        ("rules.4.pattern", "empty string"),
        ("rules.5.name", "of its own"),
    ]) {
        assert!(problem.starts_with(place) && problem.contains(part), "{problem}");
    }
    assert_eq!(found.len(), 6, "{found:?}");
    assert_eq!(problems(json!({"type": "redact", "detectors": []})).len(), 1);
    for (pattern, replacement, place) in
        [("x", "someone@example.zz", "rules.0.replacement: "), ("x", "xx", "rules.0.replacement: "), ("M[A-Z]+", "-", "rules.0.pattern: ")]
    {
        let table = json!({"type": "redact", "rules": [{"name": "a", "pattern": pattern, "replacement": replacement}]});
        let found = problems(table);
        assert!(found.len() == 1 && found[0].starts_with(place), "{found:?}");
    }
}

#[test]
fn rules_that_feed_each_other_for_ever_withhold_the_value() {
    let table = json!({"type": "redact", "detectors": [], "rules": [{"name": "a", "pattern": "ab", "replacement": "a"}]});
    let mut batch = batch_with(Shared::empty(), &[&format!("a{}", "b".repeat(20)), "abb"]);
    let report = apply(&mut *transform(table), &mut batch);
    assert_eq!(trees(&batch)[0]["message"], "[REDACTED:error]");
    assert_eq!(trees(&batch)[1]["message"], "a");
    assert!(report.redactions().contains(&("error".into(), 1)));
}

#[test]
fn is_linear_on_floods() {
    for piece in [
        "@",
        "a@",
        "1",
        "1 ",
        "1.",
        "eyJ",
        "eyJaaaaaaa.",
        "bearer ",
        "bearer+",
        "\\",
        "\\u0040",
        "\"",
        "4111 ",
        "a.",
        "é@",
        "1.2.3.4.",
        "\\n",
        "1-.",
        "(1) ",
        "+1 ",
        ":",
        "::a",
        "<",
        "<<A",
        "-",
        "a-",
        "password=",
        "password=\"",
        "token=",
        "cookie=",
        "cookie: a=b;",
        "Cookie",
        "pas",
        "password is ",
        "-----BEGIN PRIVATE KEY-----",
        "sk-",
        "xoxb-",
        "AB12 ",
        "№1234",
        "phone 1",
        "a://b:c@",
        "GB82 ",
        "'",
        "A",
        "\u{a0}",
        "🦀",
        "3100600445635 ",
        "๑",
        "--token ",
        "--password x",
        " -p",
        "curl -u a:bcd ",
        "[\"",
        "{\"a\":",
        "Name: A ",
        "password>",
        "<password>",
        "LS0tLS1CRUdJTiBSU0Eg+",
    ] {
        let line = piece.repeat(1_000_000 / piece.len());
        let start = std::time::Instant::now();
        redacted(&line);
        // Quadratic time would take minutes; the bound is far from both so that a busy machine does not matter.
        assert!(start.elapsed().as_secs() < 20, "{piece}");
    }
}

fn engine(config: &RedactConfig) -> Engine {
    config::engine(config).unwrap()
}
