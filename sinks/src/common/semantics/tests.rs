//! Tests of what is found in records.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::testing::batch;

fn find<T>(record: &str, look: impl FnOnce(&Meaning<'_>) -> T) -> T {
    let batch = batch("{}", &[record]);
    let mut finder = Finder::new(Some(Path::parse("at.time").unwrap()));
    finder.begin(&batch);
    look(&finder.find(&batch.record(0)))
}

#[test]
fn times_in_every_form() {
    let second = 1_790_928_930;
    let at = |record: &str| find(record, |meaning| meaning.time.map(|nanos| (nanos / 1_000_000_000 - second, nanos % 1_000_000_000)));
    let text = |text: &str| at(&format!(r#"{{"timestamp":"{text}"}}"#));
    assert_eq!(text("2026-10-02T08:15:30Z"), Some((0, 0)));
    assert_eq!(text("2026-10-02T08:15:30.123456789Z"), Some((0, 123_456_789)));
    assert_eq!(text("2026-10-02 10:15:30,5+02:00"), Some((0, 500_000_000)));
    assert_eq!(text("2026-10-02T02:45:30.1234567891-0530"), Some((0, 123_456_789)));
    for number in ["1790928930", "1790928930000", "1790928930000000", "1790928930000000000", "1790928930.0"] {
        assert_eq!(at(&format!(r#"{{"timestamp":{number}}}"#)), Some((0, 0)), "{number}");
    }
    assert_eq!(at(r#"{"timestamp":1790928930.25}"#), Some((0, 250_000_000)));
    assert_eq!(at(r#"{"timestamp":1790928930123.5}"#), Some((0, 123_500_000)));
    for bad in ["", "2026-10-02", "2026-13-02T08:15:30Z", "2026-02-29T08:15:30Z", "2026-10-02T08:15:30", "2026-10-02T08:15:30.Z", "now"] {
        assert_eq!(text(bad), None, "{bad}");
    }
    assert_eq!(text("2024-02-29T00:00:00Z").unwrap().0, 1_709_164_800 - second);
    assert_eq!(text("1970-01-01T00:00:00Z").unwrap().0, -second);
    for number in ["1e10", "-1790928930", "17909289301", "99999999999999999999"] {
        assert_eq!(at(&format!(r#"{{"timestamp":{number}}}"#)), None, "{number}");
    }
    // The configured field goes before, where it is a time.
    let both = |own: &str| at(&format!(r#"{{"timestamp":"2026-10-02T08:15:31Z","at":{{"time":{own}}}}}"#));
    assert_eq!((both("1790928930"), both("\"x\"")), (Some((0, 0)), Some((1, 0))));
}

#[test]
fn levels_of_all_loggers() {
    let number = |record: &str| find(record, |meaning| meaning.severity.map(|severity| severity.0));
    for (record, expected) in [
        (r#"{"level":"info"}"#, Some(9)),
        (r#"{"severity":"WARNING"}"#, Some(13)),
        (r#"{"lvl":"E"}"#, Some(17)),
        (r#"{"log.level":"Fatal"}"#, Some(21)),
        (r#"{"log":{"level":"debug","x":1}}"#, Some(5)),
        (r#"{"level":50}"#, Some(17)),
        (r#"{"level":6}"#, None),
        (r#"{"level":"a very long word for a level"}"#, None),
        (r#"{"level":{"a":1}}"#, None),
        (r#"{"level":{"a":1},"severity":"crit"}"#, Some(18)),
        (r#"{"message":"level info"}"#, None),
    ] {
        assert_eq!(number(record), expected, "{record}");
    }
    assert_eq!(find(r#"{"a":1,"level":"what"}"#, |m| m.level.map(|l| (l.field, l.whole))), Some((1, true)));
    assert_eq!([1, 5, 9, 13, 17, 21].map(|n| Severity(n).name()), ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"]);
}

#[test]
fn traces_spans_and_correlations() {
    let ids = |record: &str| {
        find(record, |m| {
            let text = |id: &[u8]| id.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            (m.trace_id.map(|id| (text(&id.what), id.whole)), m.span_id.map(|id| (text(&id.what), id.whole)))
        })
    };
    let (trace, span) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    let both = |whole| (Some((trace.to_owned(), whole)), Some((span.to_owned(), whole)));
    assert_eq!(ids(&format!(r#"{{"trace_id":"{trace}","span_id":"{span}"}}"#)), both(true));
    assert_eq!(ids(&format!(r#"{{"traceId":"{}","spanId":"{span}"}}"#, trace.to_uppercase())), both(true));
    assert_eq!(ids(&format!(r#"{{"trace":{{"id":"{trace}"}},"span":{{"id":"{span}"}}}}"#)), both(false));
    assert_eq!(ids(&format!(r#"{{"traceparent":"00-{trace}-{span}-01"}}"#)), both(false));
    assert_eq!(ids(r#"{"traceID":"0af7651916cd43dd"}"#).0, Some(("00000000000000000af7651916cd43dd".to_owned(), false)));
    assert_eq!(ids(r#"{"trace_id":"00000000000000000000000000000000","span_id":"0"}"#), (None, None));
    assert_eq!(ids(r#"{"trace_id":"hello","span_id":7,"traceparent":"00"}"#), (None, None));
    let correlation = |record: &str| find(record, |m| m.correlation_id.map(|id| id.what.plain_str().into_owned()));
    assert_eq!(correlation(r#"{"x-request-id":"a","correlationId":"b"}"#).as_deref(), Some("a"));
    assert_eq!(correlation(r#"{"requestId":17}"#).as_deref(), Some("17"));
}

#[test]
fn services_by_what_names_them() {
    let service = |shared: &str| service_name(batch(shared, &[]).shared());
    let kubernetes = |inside: &str| service(&format!(r#"{{"kubernetes":{{{inside}}}}}"#));
    assert_eq!(service("{}"), "");
    assert_eq!(service(r#"{"service":{"name":"shop"},"kubernetes":{"pod_name":"x"}}"#), "shop");
    let annotation = r#""pod_annotations":{"resource.opentelemetry.io/service.name":"a"},"pod_owner":"Deployment/b""#;
    assert_eq!(kubernetes(annotation), "a");
    for (owner, name) in [
        ("ReplicaSet/web-7c9d6f5b8c", "web"),
        ("ReplicaSet/web-frontend", "web-frontend"),
        ("StatefulSet/db", "db"),
        ("Job/backup-28823040", "backup"),
        ("Job/backup", "backup"),
    ] {
        assert_eq!(kubernetes(&format!(r#""pod_owner":"{owner}","pod_name":"p""#)), name);
    }
    for (pod, name) in [
        ("web-7c9d6f5b8c-x2x4z", "web"),
        ("agent-x2x4z", "agent"),
        ("db-0", "db"),
        ("backup-28823040-x2x4z", "backup"),
        ("kube-proxy", "kube-proxy"),
        ("plain", "plain"),
    ] {
        assert_eq!(kubernetes(&format!(r#""pod_name":"{pod}","container_name":"c""#)), name);
    }
    assert_eq!(kubernetes(r#""container_name":"c""#), "c");
    let own = |record: &str| find(record, |m| m.service.map(|s| s.what.plain_str().into_owned()));
    assert_eq!(own(r#"{"service":{"name":"a"}}"#).as_deref(), Some("a"));
    assert_eq!(own(r#"{"service.name":"b"}"#).as_deref(), Some("b"));
    assert_eq!(own(r#"{"service":"c"}"#), None);
}
