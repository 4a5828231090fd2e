//! What must be so of any text: the quick way finds what the plain way finds, JSON stays JSON, redacting again changes nothing.

use proptest::prelude::*;

use super::super::engine::{Form, Hit};
use super::*;

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
        "snyk_uat.1f1db475.",
        "XMUHy0-60Y8X2wY4By55XgEMjTdxIotovyOmEVSOU7cHZIKzK8hIDzgNG3cJ",
        "1//",
        "0gWvuzisdkuQq5PcMUIaFki8QVvRLpIP4dz6hSvAG3HqxStBlUB2F79Sp5240Z",
        "sntrys_eyJ",
        "kWaAJVoYO8wMSxnouzcp/tdZx5UYKJX+HzfyaZUEhueIab9o8GRphjFh0GB9Up0LMaR6ZE8v7xCR6QxWYk",
        "=",
        "/",
        "A3-1OOW5G-S7PNRT-DL2F3-1IUEF-IGPOI-AU5B0",
        "hooks.slack.com/services/",
        "T00000000/B00000000/",
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
        "OTP",
        " is ",
        "482913",
        "your code",
        "code",
        "รหัส",
        "ผ่าน",
        "пароль ",
        "Ваш код",
        "mật khẩu",
        "là ",
        "hunter22",
        "address1",
        "\"password2\"",
        "name=\"password\">",
        "</",
        "seed phrase: ",
        "zoo zoo zoo zoo zoo zoo ",
        "John Smith",
        "\"name\":\"",
        "root:pw1@tcp(",
        "oracle:thin:scott/",
        "@//",
        "Splunk ",
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
