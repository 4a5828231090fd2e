#![allow(clippy::unwrap_used, clippy::expect_used)]

use proptest::prelude::*;

use super::*;

const RECORD: &str = r#"{
    "level":"error","status":503,"numeric":"503","ok":true,"off":false,"none":null,"empty":"","path":"/api/v1/book\u0069ngs",
    "tags":["a","b",3],"user":{"id":"u-1","e.mail":"x"},"5xx":1,"time":"2026-10-11T12:00:00Z","name":"Ада","in":"inside","neg":-2.5
}"#;

fn holds(source: &str) -> bool {
    let condition = Condition::parse(source).unwrap_or_else(|error| panic!("{source}: {error}"));
    let record = skidder_pipeline::json::value(RECORD.as_bytes()).unwrap();
    condition.holds(|path| record.at(path))
}

#[test]
fn conditions_that_hold() {
    for source in [
        r#"level == "error""#,
        "level == 'error'",
        ".level == 'error'",
        "level != 'info'",
        "status == 503",
        "status == 503.0",
        "status >= 500 and status < 600",
        "status > 5e2 && status <= 503",
        "neg == -2.5 and neg < -2",
        "ok == true and off == false",
        "ok",
        "not off",
        "!off",
        "none == null",
        "exists(none) and exists(user.id)",
        "not exists(gone)",
        "gone != 'x' and gone != null",
        "empty == ''",
        "path contains 'bookings'",
        "path starts_with \"/api/\" and path ends_with 'ings'",
        "path =~ /^\\/api\\/v\\d+\\//",
        "path =~ '^/api/'",
        "path matches \"(?i)BOOKINGS$\"",
        "path !~ /health/",
        "gone !~ /x/",
        "level in ['warn', 'error', null, 3]",
        "status in [502, 503]",
        "level not in ['info']",
        "path not contains 'health'",
        "tags contains 'b' and tags contains 3",
        "user.\"e.mail\" == 'x'",
        ".\"5xx\" == 1",
        ".5xx == 1",
        "time >= '2026-10-11' and time < '2026-10-12'",
        "name == 'Ада' and name =~ /^.{3}$/",
        ".in == 'inside'",
        "(level == 'info' or level == 'error') and (ok or off)",
        "level == 'info' or level == 'error' and ok",
        "not (level == 'info' and ok)",
        "not level == 'info'",
        "user != 'x'",
    ] {
        assert!(holds(source), "{source}");
    }
}

#[test]
fn conditions_that_do_not_hold() {
    for source in [
        "level == 'Error'",
        "status == '503'",
        "numeric == 503",
        "numeric > 500",
        "gone == null",
        "gone == 'x'",
        "gone < 5",
        "gone",
        "level",
        "ok == 'true'",
        "none == false",
        "user == 'x'",
        "user contains 'u-1'",
        "status contains '50'",
        "tags contains 'c'",
        "gone contains 'x'",
        "gone in [null]",
        "in_ == 1",
        "level in []",
        "level < 5",
        "status < 'a'",
        "off or level == 'info' and ok",
    ] {
        assert!(!holds(source), "{source}");
    }
}

#[test]
fn mistakes_have_a_column_and_advice() {
    for (source, column, part) in [
        ("", 1, "empty"),
        ("   ", 4, "empty"),
        ("level = 'x'", 7, "`==`"),
        ("level == error", 10, "\"error\""),
        ("level == ", 10, "ends"),
        ("имя == error", 8, "quotes"),
        ("'level' == 'x'", 1, ".\"level\""),
        ("level == 'x", 10, "closed"),
        ("level == 'x' level", 14, "`and`"),
        ("(level == 'x'", 14, "`)`"),
        ("level == 'x')", 13, "never opened"),
        ("level startswith 'x'", 7, "`starts_with`"),
        ("level like 'x'", 7, "=~"),
        ("level in 'x'", 10, "`[`"),
        ("level in ['x' 'y']", 15, "`,`"),
        ("level =~ /(/", 10, "unclosed group"),
        ("level =~ /x", 10, "closed"),
        ("level =~ 5", 10, "slashes"),
        ("level matches /\\pL{1000}{1000}/", 15, "bytes"),
        ("a < null", 5, "order"),
        ("a starts_with 5", 15, "quotes"),
        ("a == 1 and", 11, "ends"),
        ("and == 1", 1, "`.and`"),
        ("5xx == 1", 1, "`.5xx`"),
        ("a..b == 1", 1, "empty"),
        ("a == 1 ; b", 8, "`;`"),
        ("a not == 1", 7, "before the field"),
        ("a == 'x\\d'", 8, "slashes"),
        ("exists(5)", 8, "field"),
        ("a == (", 6, "value"),
    ] {
        let error = Condition::parse(source).expect_err(source);
        let text = format!("{} {}", error.message, error.help.clone().unwrap_or_default());
        assert_eq!(error.column, column, "{source}: {error:?}");
        assert!(text.contains(part), "{source}: {error:?}");
    }
}

#[test]
fn nesting_is_bounded() {
    let nested = |depth: usize| format!("{}a{}", "(".repeat(depth), ")".repeat(depth));
    assert!(Condition::parse(&nested(MAX_DEPTH - 1)).is_ok());
    assert!(Condition::parse(&nested(MAX_DEPTH)).unwrap_err().message.contains("deeper"));
    assert!(Condition::parse(&nested(1_000_000)).is_err());
    assert!(Condition::parse(&"not ".repeat(1_000_000)).is_err());
    assert!(Condition::parse(&vec!["a"; MAX_DEPTH + 1].join(" or ")).is_ok());
    assert!(Condition::parse(&vec!["a"; 1_000_000].join(" and ")).is_err());
}

#[test]
fn knows_whether_shared_fields_decide() {
    let shared = crate::test_support::kubernetes();
    let is_shared = |source: &str| Condition::parse(source).unwrap().is_shared(&shared);
    assert!(is_shared("kubernetes.pod_namespace == 'prod' and not exists(kubernetes.gone)"));
    assert!(!is_shared("kubernetes.pod_namespace == 'prod' or level == 'x'"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_text_is_a_condition_or_an_error(source in "[a-z. \"'()!=<>~/0-9\\\\\\[\\],&|-]{0,40}|\\PC{0,20}") {
        if let Err(error) = Condition::parse(&source) {
            prop_assert!(error.column <= source.chars().count() + 1);
            prop_assert!(!error.message.is_empty());
        }
    }
}
