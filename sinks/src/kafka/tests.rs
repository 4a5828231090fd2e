//! Tests of the sink: configuration, encoding, cutting.
#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use super::*;
use crate::testing::{batch, frames};

fn build(config: Value) -> Result<SinkParts, Vec<String>> {
    let config: KafkaConfig = serde_json::from_value(config).unwrap();
    let problems = |problems: Vec<Problem>| problems.into_iter().map(|p| format!("{}: {}", p.path.join("."), p.message)).collect();
    config.build(&SinkContext::default()).map_err(problems)
}

fn with(more: Value) -> Value {
    let mut config = json!({"bootstrap_servers": ["127.0.0.1:9092"], "topic": "logs"});
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    config
}

/// Destination, and each record's time and value, of the bodies that are made of two batches one after the other.
fn bodies(config: Value, shared: &str, records: &[&str]) -> Vec<(String, Vec<(i64, Value)>)> {
    let sink = build(config).unwrap().sink;
    let mut encoder = sink.encoder();
    let frames = frames(|out| {
        encoder.encode(&batch(shared, records), 0, out);
        encoder.encode(&batch(shared, records), 1, out);
    });
    let read = |frame: &Frame| {
        let records: Vec<_> =
            records::read(frame.body()).map(|record| (record.millis, serde_json::from_slice(record.value).unwrap())).collect();
        assert_eq!(records.len(), frame.header().records as usize);
        // A body that is cut whole is the same: its records are numbered from 0 on, over all batches.
        let all: Vec<u32> = (0..frame.header().records).collect();
        assert_eq!(sink.cut(frame.body(), &all), frame.body()[..]);
        (frame.header().destination.to_string(), records)
    };
    frames.iter().map(read).collect()
}

#[test]
fn records_of_a_pod_go_to_one_body_under_the_pods_key() {
    let pod = r#"{"file":"/f","kubernetes":{"pod_uid":"21"}}"#;
    let records = [r#"{"timestamp":"2026-11-24T10:00:00.123456Z","message":"a"}"#, r#"{"timestamp":"1970-01-01T00:00:00Z"}"#];
    let made = bodies(with(json!({})), pod, &records);
    // The hash that Kafka's own tests have for "21".
    assert_eq!(made.len(), 1);
    assert_eq!(made[0].0, format!("logs h{}", -973_932_308_i32 as u32 & 0x7fff_ffff));
    assert_eq!(made[0].1.iter().map(|(millis, _)| *millis).collect::<Vec<_>>(), [1_795_514_400_123, 0, 1_795_514_400_123, 0]);
    assert_eq!(
        made[0].1[0].1,
        json!({"file": "/f", "kubernetes": {"pod_uid": "21"}, "timestamp": "2026-11-24T10:00:00.123456Z", "message": "a"})
    );
}

#[test]
fn keys_topics_and_names_are_what_the_configuration_says() {
    let records = [r#"{"user":"a","level":"info"}"#, r#"{"user":"b"}"#, "{}", r#"{"user":"a"}"#];
    let made = bodies(with(json!({"key": "{{ user }}", "topic": "t-{{ user }}", "schema": "ecs"})), r#"{"region":"eu"}"#, &records);
    let counts: Vec<(&str, usize)> = made.iter().map(|(name, records)| (name.split_once(' ').unwrap().0, records.len())).collect();
    assert_eq!(counts, [("t-a", 4), ("t-b", 2), ("t-missing", 2)]);
    assert!(made[2].0.ends_with(" any") && made[0].0.contains(" h"), "{}", made[2].0);
    assert_eq!(made[0].1[0].1, json!({"cloud.region": "eu", "user": "a", "log.level": "info"}));
    assert_eq!(bodies(with(json!({"key": ""})), r#"{"file":"/f"}"#, &["{}"])[0].0, "logs any");
}

#[test]
fn where_the_partitions_are_known_a_body_is_one_of_a_partition() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("partitions.json"), r#"{"logs":3}"#).unwrap();
    let config: KafkaConfig = serde_json::from_value(with(json!({"key": "{{ user }}"}))).unwrap();
    let context = SinkContext { state_dir: Some(directory.path().to_owned()), ..SinkContext::default() };
    let mut encoder = config.build(&context).unwrap().sink.encoder();
    let users: Vec<String> = (0..50).map(|user| format!("{{\"user\":\"{user}\"}}")).collect();
    let users: Vec<&str> = users.iter().map(String::as_str).collect();
    let frames = frames(|out| encoder.encode(&batch("{}", &users), 0, out));
    let mut names: Vec<&str> = frames.iter().map(|frame| &*frame.header().destination).collect();
    names.sort_unstable();
    assert_eq!(names, ["logs p0", "logs p1", "logs p2"]);
}

#[test]
fn a_record_is_shown_as_its_value() {
    let sink = build(with(json!({}))).unwrap().sink;
    let mut encoder = sink.encoder();
    let frame = frames(|out| encoder.encode(&batch("{}", &[r#"{"a":1}"#, r#"{"a":2}"#]), 0, out)).remove(0);
    assert_eq!((sink.show(frame.body(), 1), sink.show(frame.body(), 2)), (br#"{"a":2}"#.to_vec(), b"null".to_vec()));
    let one = sink.cut(frame.body(), &[1]);
    assert_eq!(sink.show(&one, 0), br#"{"a":2}"#);
}

#[test]
fn mistakes_are_found() {
    let wrong = |more: Value| build(with(more)).err().unwrap_or_default();
    assert!(build(with(json!({"tls": {}, "sasl": {"mechanism": "plain", "user": "u", "password": "p"}}))).is_ok());
    assert_eq!(wrong(json!({"bootstrap_servers": []})), ["bootstrap_servers: at least one is needed"]);
    for server in ["host", "host:0", "http://host:1", "ho st:1", ":1", "[1]:2", "host:65536"] {
        assert_eq!(wrong(json!({"bootstrap_servers": [server]})), ["bootstrap_servers.0: not a host and a port"], "{server}");
    }
    assert_eq!(address("[::1]:9092"), Some(("::1".to_owned(), 9092)));
    assert!(wrong(json!({"topic": "{{ user }}"}))[0].starts_with("topic: the name starts with a field"));
    assert_eq!(wrong(json!({"key": "{{"})).len(), 1);
    assert_eq!(wrong(json!({"time_field": ""})).len(), 1);
    let plain = json!({"bootstrap_servers": ["far:1"], "sasl": {"mechanism": "plain", "user": "u", "password": "p"}});
    assert!(wrong(plain)[0].starts_with("sasl.mechanism: `plain` would send the password"));
    assert_eq!(
        wrong(json!({"sasl": {"mechanism": "scram-sha-256", "user": ""}})),
        ["sasl.user: an empty name", "sasl: a password is needed"]
    );
    let both = json!({"sasl": {"mechanism": "plain", "user": "u", "password": "hunter2", "password_file": "/no"}});
    assert_eq!(wrong(both), ["sasl.password_file: `password` is given too"]);
    assert!(wrong(json!({"tls": {"crt_file": "/no/such/file"}})).len() == 1);
    assert!(wrong(json!({"tls": {"ca_file": "/no/such/file"}}))[0].starts_with("tls.ca_file: /no/such/file cannot be read"));
    let shown = serde_json::from_value::<KafkaConfig>(with(json!({"sasl": {"mechanism": "plain", "user": "u", "password": "hunter2"}})));
    assert!(!format!("{:?}", shown.unwrap()).contains("hunter2"));
}
