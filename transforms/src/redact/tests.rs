#![allow(clippy::unwrap_used, clippy::expect_used)]

use proptest::prelude::*;
use serde_json::json;

use super::engine::Hit;
use super::*;
use crate::test_support::{apply, batch_of, batch_with, kubernetes, lines, problems, shared, transform, trees};

mod actions;
mod examples;
mod fuzz;
mod labelled;

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
    ] {
        let line = piece.repeat(1_000_000 / piece.len());
        let start = std::time::Instant::now();
        redacted(&line);
        // Quadratic time would take minutes; the bound is far from both so that a busy machine does not matter.
        assert!(start.elapsed().as_secs() < 20, "{piece}");
    }
}

/// Pieces that values of each kind and their surroundings are made of, and a mix of all.
fn pieces() -> impl Strategy<Value = String> {
    const EMAIL: &[&str] = &[
        "@",
        "a@b.cc",
        "foo",
        "bar.com",
        ".",
        "-",
        "_",
        "%",
        "+",
        " ",
        "é",
        "ő",
        "почта",
        "ไทย",
        "рф",
        "xn--p1ai",
        "@2x.png",
        ".js",
        "1",
        "A",
        ",",
    ];
    const IPV4: &[&str] =
        &["1.2.3.4", "1", "25", "999", "256", ".", ".5", "10.0.0.1", "127.0.0.1", "0.0.0", ":", "/", "v", "_", "-", " ", "é"];
    const CARD: &[&str] = &[
        "4111111111111111",
        "4111",
        "1111",
        "5555 5555 5555 4444",
        "378282246310005",
        "3782 822463 10005",
        "1748503543012",
        "6304000000000000",
        "1",
        " ",
        "-",
        ".",
        "_",
        "x",
        "0",
        "  ",
        "6011111111111117",
        "2200000000000004",
    ];
    const JWT: &[&str] = &["eyJ", "eyJhbGciOiJI", ".eyJzdWIiOiI", ".", "abcdef", "-_", "A1", "=", " ", "e", "ey"];
    const BEARER: &[&str] =
        &["bearer", "Bearer ", "BEARER:", "%20", "=", " ", "+", "\t", "abcdefghijkl", "0123456789ab", "b", "be", "x", "/", ".", "bea"];
    const DIGITS: &[&str] = &[
        "+7 (912) 345-67-89",
        "+66 81 234 5678",
        "8-912-345-67-89",
        "081-234-5678",
        "0912 345 678",
        "(415) 555-1234",
        "phone ",
        "тел. ",
        "112-233-445 95",
        "078-05-1120",
        "3100600445635",
        "3-1006-00445-63-5",
        "ИНН ",
        "inn=",
        "7707083893",
        "500100732259",
        "паспорт ",
        "4510",
        " № ",
        "123456",
        "cccd: ",
        "001203004567",
        "nhs ",
        "943 476 5919",
        "+",
        "(",
        ")",
        " ",
        "-",
        ".",
        "0",
        "12",
        "trace",
        "บัตร",
        "\u{a0}",
        "７",
        "[PHONE]",
        "1748503543012",
        "020 7946 0958",
    ];
    const RUNS: &[&str] = &[
        "AKIAIOSFODNN7EXAMPLE",
        "ghp_",
        "abcdefghijklmnopqrstuvwxyz0123456789",
        "0x",
        "5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
        "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa",
        "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4",
        "EQCD39VS5jcptHL8vMjEXrzGaRcCVYto7HUn4bpAOg8xqB2N",
        "123456789:",
        "AAhdqTcvCH1vGWJxfSeofSAs0K5PALDsaw1",
        "SG.",
        "-",
        "_",
        ".",
        "a",
        "0",
        "sk_live_",
        "xoxb-1234567890-",
        "L898902C36UTO7408122F1204159ZE184226B<<<<<10",
        "P<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<",
        "<",
        "GB82 WEST 1234 5698 7654 32",
        "DE89370400440532013000",
        "GB82",
        " ",
    ];
    const KEYS: &[&str] = &[
        "password",
        "\"password\"",
        "client_secret",
        "token",
        "Cookie",
        ": ",
        ":",
        "=",
        "\"",
        "'",
        " ",
        "Hunter2!x",
        "abcDEF123456789",
        "sid",
        "a=b; ",
        "sessionid=abc123def456; ",
        "first_name",
        "[PASSWORD]",
        "***",
        "null",
        "{",
        "}",
        ",",
        "authorization",
        "Basic ",
        "Bearer ",
        "dXNlcjpwYXNzd29yZA==",
        "password is ",
        "-----BEGIN RSA PRIVATE KEY-----",
        "-----END RSA PRIVATE KEY-----",
        "\n",
        "email",
        "pin",
        "1234",
        "postgres://app:",
        "s3cret",
        "@db.local/",
        "card",
    ];
    const NET: &[&str] = &[
        "2001:db8::1",
        "fe80::",
        "2a02:6b8:1:2:3:4:5:6",
        ":",
        "::",
        "a1",
        "00:1b:44:11:3a:b7",
        "00-1b-44-11-3a-b7",
        "-",
        "ff",
        " ",
        "g",
        ".",
        "1.2.3.4",
        "12:34:56",
    ];
    const OTHER: &[&str] = &["%40", "%25", "%2e", "%0a", "\\u0040", "\\n", "😀", "[EMAIL]", "(", "foo", "123-", "\"", "\n"];
    let all = [EMAIL, IPV4, CARD, JWT, BEARER, OTHER, DIGITS, RUNS, KEYS, NET].concat();
    let kinds = [EMAIL, IPV4, CARD, JWT, BEARER, DIGITS, RUNS, KEYS, NET].map(|kind| proptest::sample::select(kind.to_vec()).boxed());
    let of =
        |piece: proptest::strategy::BoxedStrategy<&'static str>| proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat());
    let [email, ipv4, card, jwt, bearer, digits, runs, keys, net] = kinds.map(of);
    prop_oneof![email, ipv4, card, jwt, bearer, digits, runs, keys, net, of(proptest::sample::select(all).boxed())]
}

/// What a text looks like inside of JSON, at some level, with some characters written as `\u`.
fn written(text: &str, level: usize, unicode: &[bool]) -> String {
    let mut text = text.to_owned();
    for _ in 0..level {
        let escaped = serde_json::to_string(&text).unwrap();
        text = escaped[1..escaped.len() - 1].to_owned();
    }
    let slashes = "\\".repeat(1 << level.saturating_sub(1));
    let unicode = unicode.iter().chain(std::iter::repeat(&false));
    let spelled = |(c, unicode): (char, &bool)| match c {
        c if level > 0 && *unicode && c.is_ascii() && !matches!(c, '\\' | '"') => format!("{slashes}u{:04x}", u32::from(c)),
        c => c.to_string(),
    };
    // An escape must not be torn: only texts without backslashes are spelled otherwise.
    if text.contains('\\') { text } else { text.chars().zip(unicode).map(spelled).collect() }
}

fn engine(config: &RedactConfig) -> Engine {
    config::engine(config).unwrap()
}

/// The built-in rules alone, with a rule that can be searched for in whole batches, and with one that can not.
fn configs() -> [RedactConfig; 3] {
    let own = |pattern: &str| {
        let rules = vec![serde_json::from_value(json!({"name": "own", "pattern": pattern})).unwrap()];
        RedactConfig { rules, ..RedactConfig::default() }
    };
    [RedactConfig::default(), own("foo.?|[0-9]{3}-|(?s)ey.{0,6}J|e\n"), own(r"^[a-z0-9]\b|\b[0-9]{3}-?$")]
}

/// A JSON value with `text`s in all places.
fn tree() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        pieces().prop_map(serde_json::Value::from),
        proptest::sample::select(vec![
            json!(1),
            json!(4111111111111111u64),
            json!(-5.5),
            json!(true),
            json!(null),
            json!(1748503543012u64)
        ]),
        pieces().prop_map(|text| serde_json::Value::from(serde_json::to_string(&json!({"in": text, "n": 4111111111111111u64})).unwrap())),
    ];
    leaf.prop_recursive(4, 16, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
            proptest::collection::hash_map(pieces(), inner, 0..4).prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn the_quick_way_finds_what_the_plain_way_finds(text in pieces(), shift in 0usize..70) {
        let text = format!("{}{text}", " ".repeat(shift));
        for config in configs() {
            let mut engine = engine(&config);
            let expected = self::engine(&RedactConfig { paranoid: true, ..config.clone() }).find(text.as_bytes(), &[]).to_vec();
            let found: Vec<Hit> = engine.find(text.as_bytes(), &[]).to_vec();
            let show = |hits: &[Hit]| hits.iter().map(|hit| (hit.rule, &text[hit.start..hit.end])).collect::<Vec<_>>().iter().map(|x| format!("{x:?}")).collect::<Vec<_>>();
            prop_assert_eq!(show(&found), show(&expected), "{}", text);
        }
    }

    #[test]
    fn the_batch_scan_passes_nothing_by(texts in proptest::collection::vec(pieces(), 1..6), level in 0usize..3, unicode in proptest::collection::vec(any::<bool>(), 0..60)) {
        // Leaves side by side, as appended values are.
        let mut batch = Batch::new(Shared::empty(), skidder_pipeline::position::FileKey([0; 16]));
        let key = batch.append(b"k");
        let kind = if level == 0 { Kind::Text } else { Kind::String };
        let texts: Vec<String> = texts.iter().map(|text| written(text, level, &unicode)).collect();
        for text in &texts {
            let value = batch.append(text.as_bytes());
            batch.push(0, &[Field { key, value, kind }]);
        }
        let form = if level == 0 { Form::Plain } else { Form::Escaped };
        for config in configs() {
            let mut batch = batch.clone();
            apply(&mut Redact::new(&config).unwrap(), &mut batch);
            let mut engine = engine(&config);
            for (record, text) in batch.records().zip(&texts) {
                let expected = engine.redact(text.as_bytes(), form, b"k").map_or(text.clone(), |r| String::from_utf8(r.to_vec()).unwrap());
                let (_, value) = record.iter().next().unwrap();
                prop_assert_eq!(std::str::from_utf8(value.raw).unwrap(), &expected);
            }
        }
    }

    #[test]
    fn valid_json_stays_valid_and_redacting_again_changes_nothing(
        object in proptest::collection::hash_map(pieces(), tree(), 0..5), labels in tree(), pretty in any::<bool>()
    ) {
        let object = serde_json::Value::Object(object.into_iter().collect());
        let text = if pretty { serde_json::to_string_pretty(&object) } else { serde_json::to_string(&object) }.unwrap();
        let shared = shared(&[("file", "\"f\""), ("labels@a.bc", &labels.to_string())]);
        for config in configs() {
            let mut batch = batch_of(shared.clone(), &[&text.replace("\"file\":", "\"file2\":"), "{}"]);
            let mut redact = Redact::new(&config).unwrap();
            apply(&mut redact, &mut batch);
            trees(&batch);
            let once = lines(&batch);
            let report = apply(&mut redact, &mut batch);
            prop_assert_eq!(lines(&batch), once);
            prop_assert_eq!(report.redactions(), []);
        }
    }

    #[test]
    fn no_planted_value_is_left(
        value in proptest::sample::select(vec!["jane.doe@example.com", "4111 1111 1111 1111", "5555555555554444", "185.30.20.10", JWT]),
        before in proptest::sample::select(vec!["", " ", "a: ", "\n", "\t\"", "ไทย ", "(", "mail=", "😀"]),
        after in proptest::sample::select(vec!["", " ", ", x", "\n", "\"}", "。", ")", ";"]),
        level in 0usize..4, unicode in proptest::collection::vec(any::<bool>(), 0..40)
    ) {
        let text = written(&format!("{before}{value}{after}"), level, &unicode);
        let mut batch = batch_with(Shared::empty(), &[]);
        let key = batch.append(b"k");
        let span = batch.append(text.as_bytes());
        batch.push(0, &[Field { key, value: span, kind: if level == 0 { Kind::Text } else { Kind::String } }]);
        apply(&mut *transform(json!({"type": "redact"})), &mut batch);
        let mut out = trees(&batch)[0]["k"].as_str().unwrap().to_owned();
        for _ in 0..4 {
            prop_assert!(!out.contains(value), "{} in {}", value, text);
            // Unpacks one level more where it is one.
            out = serde_json::from_str(&format!("\"{out}\"")).unwrap_or(out);
        }
        prop_assert!(out.contains('['), "{}", text);
    }

    #[test]
    fn any_text_is_redacted_without_fault(text in "\\PC{0,80}|[0-9 .@\\\\u\"a-f-]{0,80}") {
        let mut engine = engine(&RedactConfig::default());
        let once = engine.redact(text.as_bytes(), Form::Plain, &[]).map_or(text.clone().into_bytes(), <[u8]>::to_vec);
        prop_assert!(std::str::from_utf8(&once).is_ok());
        prop_assert!(once != engine::WITHHELD);
        prop_assert_eq!(engine.redact(&once, Form::Plain, &[]), None);
    }
}
