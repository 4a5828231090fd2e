//! What is done with what is found, and the conditions of own rules.

use super::*;

/// A file with a key of 32 bytes and more.
fn key_file(name: &str) -> String {
    let path = skidder_tests::workspace::target().join(format!("redact-{name}.key"));
    std::fs::write(&path, format!("{}\n", name.repeat(40))).unwrap();
    path.to_str().unwrap().to_owned()
}

fn keys(names: &[&str]) -> serde_json::Value {
    names.iter().map(|name| json!({"id": name, "file": key_file(name)})).collect()
}

/// The records of `objects` after a transform, and its report.
fn after(table: serde_json::Value, shared: Arc<Shared>, objects: &[&str]) -> (Vec<String>, Report) {
    let mut batch = batch_of(shared, objects);
    let report = apply(&mut *transform(table), &mut batch);
    trees(&batch);
    (lines(&batch), report)
}

fn one(table: serde_json::Value, object: &str) -> String {
    after(table, Shared::empty(), &[object]).0.remove(0)
}

#[test]
fn mask_keeps_what_is_harmless() {
    let table = json!({"type": "redact", "action": "mask", "keep_private_addresses": false});
    for (object, expected) in [
        (r#"{"m":"4111 1111 1111 1111"}"#, r#"{"m":"411111******1111"}"#),
        (r#"{"m":4111111111111111}"#, r#"{"m":"411111******1111"}"#),
        (r#"{"m":"+7 (912) 345-67-89!"}"#, r#"{"m":"+7*******89!"}"#),
        (r#"{"m":"jane.doe@mail.example.com"}"#, r#"{"m":"j***@***.com"}"#),
        (r#"{"m":"to \u0061b@x.org"}"#, r#"{"m":"to a***@***.org"}"#),
        (r#"{"m":"185.30.20.10 10.1.2.3"}"#, r#"{"m":"185.30.***.*** 10.1.***.***"}"#),
        (r#"{"password":"Hunter2!x","first_name":"Jane"}"#, r#"{"password":"***","first_name":"***"}"#),
        (r#"{"m":"DE89370400440532013000"}"#, r#"{"m":"********3000"}"#),
    ] {
        assert_eq!(one(table.clone(), object), expected);
        assert_eq!(one(table.clone(), expected), expected);
    }
}

#[test]
fn a_pseudonym_joins_a_person_across_fields_and_forms() {
    let table = |ids: &[&str]| json!({"type": "redact", "action": "pseudonym", "pseudonym_keys": keys(ids)});
    let object = r#"{"a":"+79123456789","b":"8 (912) 345-67-89","c":"Jane@Example.org","d":"jane\u0040example.org","n":4111111111111111,"o":{"p":["4111 1111 1111 1111"]}}"#;
    let old: serde_json::Value = serde_json::from_str(&one(table(&["k2"]), object)).unwrap();
    assert_eq!(old["a"], old["b"]);
    assert_eq!(old["c"], old["d"]);
    assert_eq!(old["n"], old["o"]["p"][0]);
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    assert!(text(&old["c"]).starts_with("[EMAIL:k2:") && text(&old["c"]).len() == "[EMAIL:k2:]".len() + 16);
    // In the time of a change each tag has the pseudonyms of both keys.
    let both: serde_json::Value = serde_json::from_str(&one(table(&["k3", "k2"]), object)).unwrap();
    let hash = text(&old["c"]).rsplit(':').next().unwrap().trim_end_matches(']').to_owned();
    assert!(text(&both["c"]).starts_with("[EMAIL:k3:") && text(&both["c"]).ends_with(&format!("|k2:{hash}]")), "{both}");
    assert_eq!(one(table(&["k3", "k2"]), &both.to_string()), both.to_string());
    // And `skidder pseudonym` finds it.
    let path = key_file("k2").into();
    let known = Keys::read(&[KeyConfig { id: "k2".into(), file: Some(path), variable: None }]).unwrap();
    assert_eq!(pseudonym(&known, "email", "JANE@example.org").unwrap(), text(&old["c"]));
}

#[test]
fn keys_that_cannot_be_used_are_refused() {
    let short = skidder_tests::workspace::target().join("redact-short.key");
    std::fs::write(&short, "short").unwrap();
    for (keys, part) in [
        (json!([]), "need a key"),
        (json!([{"id": "k1", "file": short}]), "has 5 bytes"),
        (json!([{"id": "k1", "file": "no/such/file"}]), "cannot read"),
        (json!([{"id": "K 1", "file": short}]), "no name"),
        (json!([{"id": "k1"}]), "one of both"),
        (json!([{"id": "k1", "variable": "NO_SUCH_VARIABLE_HERE"}]), "not set"),
    ] {
        let found = problems(json!({"type": "redact", "action": "pseudonym", "pseudonym_keys": keys}));
        assert!(found.len() == 1 && found[0].contains(part) && !found[0].contains("short\n"), "{part}: {found:?}");
    }
}

#[test]
fn a_field_is_dropped_wherever_the_value_stands_in_it() {
    let table = json!({"type": "redact", "actions": {"email": "drop_field"}});
    let fields = shared(&[("owner", "\"a@b.cc\""), ("app", "\"x\"")]);
    let (records, report) = after(
        table,
        fields,
        &[r#"{"m":"mail a@b.cc 8.8.8.8","n":1}"#, r#"{"o":{"p":["x","a@b.cc"]},"n":"8.8.8.8"}"#, r#"{"a@b.cc":1,"n":2}"#, r#"{"n":3}"#],
    );
    assert_eq!(records, [r#"{"app":"x","n":1}"#, r#"{"app":"x","n":"[IPV4]"}"#, r#"{"app":"x","n":2}"#, r#"{"app":"x","n":3}"#]);
    assert_eq!(report.filtered, 0);
    let email = report.redactions().iter().find(|(name, _)| **name == *"email.drop_field").unwrap().1;
    assert_eq!(email, 4 + 3, "the shared one in each record, and one in each of three");
}

#[test]
fn a_record_is_dropped_whole_and_counted() {
    let table = json!({"type": "redact", "actions": {"secrets": "drop_event", "jwt": "replace"}});
    let objects = [r#"{"m":"password=Hunter2!x","n":1}"#, r#"{"m":"fine"}"#, r#"{"o":{"api_key":"a1b2c3d4e5f6a7b8"}}"#, r#"{"t":"TOKEN"}"#];
    let objects = objects.map(|object| object.replace("TOKEN", JWT));
    let objects: Vec<&str> = objects.iter().map(String::as_str).collect();
    let (records, report) = after(table.clone(), Shared::empty(), &objects);
    assert_eq!(records, [r#"{"m":"fine"}"#, r#"{"t":"[JWT]"}"#]);
    assert_eq!(report.filtered, 2);
    let (records, report) = after(table, shared(&[("password", "\"Hunter2!x\"")]), &[r#"{"m":"a"}"#, r#"{"m":"b"}"#]);
    assert_eq!((records.len(), report.filtered), (0, 2), "what all records share drops all of them");
}

#[test]
fn audit_counts_and_changes_nothing() {
    let table = json!({"type": "redact", "actions": {"contact": "audit", "email": "replace"}});
    let object = r#"{"m":"call +66 81 234 5678 or a@b.cc","phone":"0812345678"}"#;
    let (records, report) = after(table, Shared::empty(), &[object]);
    assert_eq!(records, [r#"{"m":"call +66 81 234 5678 or [EMAIL]","phone":"0812345678"}"#]);
    let mut counts: Vec<(String, u64)> = report.redactions().iter().map(|(name, count)| (name.to_string(), *count)).collect();
    counts.sort();
    assert_eq!(counts, [("email".to_owned(), 1), ("phone.audit".to_owned(), 2)]);
}

#[test]
fn detectors_are_chosen_by_name_and_group() {
    let object = r#"{"m":"a@b.cc 8.8.8.8 4111111111111111"}"#;
    let with = |options: serde_json::Value| {
        let mut table = json!({"type": "redact"});
        table.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        one(table, object)
    };
    assert_eq!(with(json!({"detectors": ["payment"]})), r#"{"m":"a@b.cc 8.8.8.8 [CREDIT_CARD]"}"#);
    assert_eq!(with(json!({"except": ["network", "email"]})), r#"{"m":"a@b.cc 8.8.8.8 [CREDIT_CARD]"}"#);
    assert_eq!(with(json!({"detectors": ["all"], "except": ["payment"]})), r#"{"m":"[EMAIL] [IPV4] 4111111111111111"}"#);
    for option in ["detectors", "except"] {
        let found = problems(json!({"type": "redact", option: ["emial"]}));
        assert!(found[0].contains("no detector and no group `emial`"), "{found:?}");
    }
    let found = problems(json!({"type": "redact", "actions": {"emial": "mask"}}));
    assert!(found[0].contains("`emial`"), "{found:?}");
}

#[test]
fn own_rules_have_conditions() {
    let rule = |more: serde_json::Value| {
        let mut rule = json!({"name": "member", "pattern": "[0-9]{8}"});
        rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"type": "redact", "detectors": [], "rules": [rule]})
    };
    for (conditions, object, expected) in [
        (json!({}), r#"{"m":"id 12345678"}"#, r#"{"m":"id [MEMBER]"}"#),
        (json!({"keywords": ["Bonus"]}), r#"{"m":"id 12345678 BONUS: 12345678"}"#, r#"{"m":"id 12345678 BONUS: [MEMBER]"}"#),
        (
            json!({"keywords": ["bonus"]}),
            r#"{"bonusCard":"12345678","o":{"bonus":12345678},"id":12345678}"#,
            r#"{"bonusCard":"[MEMBER]","o":{"bonus":"[MEMBER]"},"id":12345678}"#,
        ),
        (
            json!({"keywords": ["bonus"], "within_bytes": 8}),
            r#"{"m":"bonus 12345678 bonus, which is 12345678"}"#,
            r#"{"m":"bonus [MEMBER] bonus, which is 12345678"}"#,
        ),
        (json!({"validator": "luhn"}), r#"{"m":"12345674 12345678"}"#, r#"{"m":"[MEMBER] 12345678"}"#),
        (json!({"allow": ["12345678"]}), r#"{"m":"12345678 87654321"}"#, r#"{"m":"12345678 [MEMBER]"}"#),
        (json!({"replacement": "<member>"}), r#"{"m":12345678}"#, r#"{"m":"<member>"}"#),
        (json!({"action": "mask"}), r#"{"m":"12345678"}"#, r#"{"m":"********"}"#),
        (json!({"action": "drop_field"}), r#"{"m":"12345678","n":1}"#, r#"{"n":1}"#),
    ] {
        assert_eq!(one(rule(conditions.clone()), object), expected, "{conditions}");
    }
    let (records, report) = after(rule(json!({"action": "audit"})), Shared::empty(), &[r#"{"m":"12345678"}"#]);
    assert_eq!(records, [r#"{"m":"12345678"}"#]);
    assert_eq!(report.redactions(), [("member.audit".into(), 1)]);
}

#[test]
fn number_in_a_text_of_json_gets_quotes_of_its_depth() {
    let table = json!({"type": "redact"});
    for (object, expected) in [
        (r#"{"m":"{\"card\":4111111111111111,\"n\":1}"}"#, r#"{"m":"{\"card\":\"[CREDIT_CARD]\",\"n\":1}"}"#),
        (r#"{"m":"{\"a\":[4111111111111111, 1,5555555555554444]}"}"#, r#"{"m":"{\"a\":[\"[CREDIT_CARD]\", 1,\"[CREDIT_CARD]\"]}"}"#),
        (r#"{"m":"{\"a\":\"{\\\"c\\\":[4111111111111111]}\"}"}"#, r#"{"m":"{\"a\":\"{\\\"c\\\":[\\\"[CREDIT_CARD]\\\"]}\"}"}"#),
        (r#"{"m":"[4111111111111111]"}"#, r#"{"m":"[\"[CREDIT_CARD]\"]"}"#),
        (r#"{"m":"{\"t\":\"[4111111111111111,1]\"}"}"#, r#"{"m":"{\"t\":\"[\\\"[CREDIT_CARD]\\\",1]\"}"}"#),
        (r#"{"m":"cards [4111111111111111]"}"#, r#"{"m":"cards [[CREDIT_CARD]]"}"#),
        // In a text that is itself no JSON there is no number of JSON.
        (r#"{"m":"{\"t\":\"pas[4111111111111111]]\",\"n\":1}"}"#, r#"{"m":"{\"t\":\"pas[[CREDIT_CARD]]]\",\"n\":1}"}"#),
        (r#"{"m":"req {\"t\":\"x[4111111111111111]\",\"n\":1} ok"}"#, r#"{"m":"req {\"t\":\"x[[CREDIT_CARD]]\",\"n\":1} ok"}"#),
        (r#"{"m":"{\"pwd\":[12345,678]}"}"#, r#"{"m":"{\"pwd\":[\"[PASSWORD]\",\"[PASSWORD]\"]}"}"#),
    ] {
        assert_eq!(one(table.clone(), object), expected);
    }
}

#[test]
fn paranoid_is_slower_and_says_the_same() {
    let object = r#"{"m":"a@b.cc 8.8.8.8 4111111111111111 password=Hunter2!x","phone":"912345678","o":{"name":"John Smith"}}"#;
    assert_eq!(one(json!({"type": "redact", "paranoid": true}), object), one(json!({"type": "redact"}), object));
}
