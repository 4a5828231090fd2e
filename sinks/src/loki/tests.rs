//! Tests of the entries that are written, and of what answers mean.
#![allow(clippy::unwrap_used)]

use skidder_pipeline::delivery::driver::single_out;
use skidder_pipeline::edge::{Clock, Nanos};
use skidder_pipeline::sink::Rejection;

use super::*;
use crate::testing::{batch, frames_with};

struct Seen {
    destination: String,
    entries: Vec<(i64, String, BTreeMap<String, String>)>,
}

struct Stopped;

impl Clock for Stopped {
    fn now(&self) -> Nanos {
        Nanos(0)
    }
    fn unix_nanos(&self) -> i64 {
        NANOS + 100_000_000_000
    }
}

fn config(extra: &str) -> LokiConfig {
    let mut config = serde_json::json!({ "endpoint": "http://127.0.0.1:3100" });
    let extra: serde_json::Map<String, serde_json::Value> = serde_json::from_str(extra).unwrap();
    config.as_object_mut().unwrap().extend(extra);
    serde_json::from_value(config).unwrap()
}

fn parts(extra: &str) -> SinkParts {
    config(extra).build(&SinkContext { clock: Some(Arc::new(Stopped)), ..SinkContext::default() }).unwrap()
}

fn problems(extra: &str) -> Vec<String> {
    let problems = config(extra).build(&SinkContext::default()).unwrap_err();
    problems.into_iter().map(|p| format!("{}: {}", p.path.join("."), p.message)).collect()
}

fn encode_all(extra: &str, shared: &str, batches: &[&[&str]]) -> Vec<Frame> {
    let sink = parts(extra).sink;
    let mut encoder = sink.encoder();
    frames_with(Compression::Snappy, |out| {
        for records in batches {
            encoder.encode(&batch(shared, records), 0, out);
        }
    })
}

fn read(frame: &Frame) -> Seen {
    let header = frame.header();
    let body = decompress(header.compression, frame.body(), header.raw_bytes).unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let entries = entries(&body)
        .map(|e| (e.unix_nanos, text(e.line), e.metadata.iter().map(|(name, value)| (text(name), text(value))).collect()))
        .collect::<Vec<_>>();
    assert_eq!(entries.len(), header.records as usize);
    Seen { destination: header.destination.to_string(), entries }
}

fn encode(extra: &str, shared: &str, records: &[&str]) -> Vec<Seen> {
    encode_all(extra, shared, &[records]).iter().map(read).collect()
}

const POD: &str = r#"{"file":"/var/log/pods/x","source_type":"kubernetes_logs","kubernetes":{"pod_name":"web-7c9d6f5b8c-x2x4z","pod_namespace":"shop","container_name":"c","pod_uid":"u","pod_node_name":"n\"1","pod_labels":{"app.kubernetes.io/name":"web"}},"env":"prod"}"#;
const NANOS: i64 = 1_790_928_930_000_000_000;

#[test]
fn the_line_is_what_the_application_wrote_and_the_rest_is_labels_and_metadata() {
    let records = [
        r#"{"message":"a \"b\"","timestamp":"2026-10-02T08:15:30.000000007Z","stream":"stderr","not_json":true}"#,
        r#"{"message":"x","level":"warn","trace_id":"0af7651916cd43dd8448eb211c80319c","n":1.50,"timestamp":"2026-10-02T08:15:30Z"}"#,
    ];
    let seen = encode("{}", POD, &records);
    assert_eq!(seen.len(), 1);
    let labels = r#"{container="c", env="prod", namespace="shop", node="n\"1", service_name="web"}"#;
    assert_eq!(seen[0].destination, labels);
    let [(time, line, metadata), (second, json, with_level)] = &seen[0].entries[..] else { panic!() };
    assert_eq!((*time, line.as_str(), *second), (NANOS + 7, "a \"b\"", NANOS));
    let expected = [("pod", "web-7c9d6f5b8c-x2x4z"), ("pod_uid", "u"), ("pod_labels_app_kubernetes_io_name", "web")];
    let own = [("stream", "stderr"), ("not_json", "true")];
    let expected: BTreeMap<String, String> = expected.iter().chain(&own).map(|(k, v)| (k.to_string(), v.to_string())).collect();
    assert_eq!(metadata, &expected);
    assert_eq!(json, r#"{"message":"x","level":"warn","trace_id":"0af7651916cd43dd8448eb211c80319c","n":1.50}"#);
    assert_eq!((with_level["level"].as_str(), with_level["trace_id"].len()), ("warn", 32));
    // As JSON where that is asked for, and without labels of its own a file has one.
    let seen = encode(r#"{"line":"json"}"#, r#"{"file":"/a"}"#, &[r#"{"message":"m","timestamp":"2026-10-02T08:15:30Z"}"#]);
    assert_eq!(
        (seen[0].destination.as_str(), seen[0].entries[0].1.as_str()),
        (r#"{service_name="unknown_service"}"#, r#"{"message":"m"}"#)
    );
    assert_eq!(seen[0].entries[0].2["file"], "/a");
}

#[test]
fn streams_and_tenants_by_template() {
    let extra = r#"{"labels":{"app":"{{ app }}","ns":"{{ kubernetes.pod_namespace }}"},"tenant_id":"t-{{ team }}"}"#;
    let records =
        [r#"{"message":"1","app":"a","team":"x/y"}"#, r#"{"message":"2","app":"b\\{\n"}"#, r#"{"message":"3","app":"a","team":"x/y"}"#];
    let seen = encode(extra, POD, &records);
    let all: Vec<(&str, usize)> = seen.iter().map(|s| (s.destination.as_str(), s.entries.len())).collect();
    assert_eq!(all, [(r#"t-x_y{app="a", ns="shop"}"#, 2), (r#"missing{app="b\\{_", ns="shop"}"#, 1)]);
    assert_eq!(labels::split(all[1].0), ("missing", r#"{app="b\\{_", ns="shop"}"#));
    // A label that records choose has so many values and no more.
    let many: Vec<String> = (0..150).map(|i| format!(r#"{{"message":"m","app":"app-{i}"}}"#)).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let seen = encode(r#"{"labels":{"app":"{{ app }}"}}"#, "{}", &many);
    assert_eq!(seen.len(), 101);
    assert_eq!(seen.iter().find(|s| s.destination == r#"{app="other"}"#).unwrap().entries.len(), 50);
    // Shards are by container.
    let shards = |uid: &str| {
        let shared = format!(r#"{{"kubernetes":{{"pod_uid":"{uid}","container_name":"c"}}}}"#);
        encode(r#"{"stream_shard":4}"#, &shared, &["{}", "{}"]).iter().map(|s| s.destination.clone()).collect::<Vec<_>>()
    };
    let all: std::collections::BTreeSet<String> = (0..40).flat_map(|uid| shards(&uid.to_string())).collect();
    assert_eq!(all.len(), 4, "{all:?}");
}

#[test]
fn repeats_are_told_apart_and_rereads_are_alike() {
    let same = r#"{"message":"m","timestamp":"2026-10-02T08:15:30Z"}"#;
    let other = r#"{"message":"o","timestamp":"2026-10-02T08:15:30Z"}"#;
    let times = |batches: &[&[&str]]| -> Vec<i64> {
        let seen: Vec<Seen> = encode_all("{}", "{}", batches).iter().map(read).collect();
        seen[0].entries.iter().map(|entry| entry.0 - NANOS).collect()
    };
    assert_eq!(times(&[&[same, other, same, same]]), [0, 0, 1, 2]);
    assert_eq!(times(&[&[same, other], &[same, same]]), [0, 0, 1, 2], "however the chunks are cut");
}

#[test]
fn long_lines_are_cut_and_say_so() {
    let long = format!(r#"{{"message":"{}","timestamp":"2026-10-02T08:15:30Z"}}"#, "é".repeat(1000));
    let seen = encode(r#"{"max_line_bytes":1024}"#, "{}", &[&long]);
    let (_, line, metadata) = &seen[0].entries[0];
    assert!(line.len() <= 1024 && line.len() > 1000 && line.ends_with("… [truncated, 2000 bytes]"), "{}", line.len());
    assert_eq!(metadata["truncated"], "true");
}

#[test]
fn old_times_are_rewritten_where_that_is_asked_for() {
    let now = Stopped.unix_nanos();
    let at = |secs_ago: i64| {
        let time = jiff::Timestamp::from_nanosecond((now - secs_ago * 1_000_000_000).into()).unwrap();
        format!(r#"{{"message":"m{secs_ago}","timestamp":"{time}"}}"#)
    };
    let (fresh, behind, ancient) = (at(10), at(8000), at(30 * 86_400));
    let seen = encode(r#"{"on_too_old":"rewrite_timestamp"}"#, "{}", &[&ancient, &fresh, &behind, &fresh]);
    let ages: Vec<i64> = seen[0].entries.iter().map(|(time, ..)| (now - time) / 1_000_000_000).collect();
    assert_eq!(ages, [7 * 86_400 - 300, 10, 3310, 9]);
    assert!(seen[0].entries[0].2["original_timestamp"].starts_with("20") && !seen[0].entries[1].2.contains_key("original_timestamp"));
    let kept = encode("{}", "{}", &[&ancient]);
    assert_eq!((now - kept[0].entries[0].0) / 1_000_000_000, 30 * 86_400);
}

#[test]
fn the_envelope_is_a_push_request_with_one_stream() {
    let long = format!(r#"{{"message":"{}"}}"#, "text and ".repeat(30_000));
    for frame in encode_all(r#"{"tenant_id":"t"}"#, POD, &[&[&long, r#"{"message":"b"}"#], &[r#"{"message":"c"}"#]]) {
        let raw = snap::raw::Decoder::new().decompress_vec(&envelope::wrap(&frame)).unwrap();
        let streams: Vec<_> = proto::fields(&raw).collect();
        assert_eq!((streams.len(), streams[0].number), (1, 1));
        let fields: Vec<_> = proto::fields(streams[0].value.bytes()).collect();
        assert_eq!(fields.iter().map(|field| field.number).collect::<Vec<_>>(), [1, 2, 2, 2]);
        assert_eq!(fields[0].value.bytes(), labels::split(&frame.header().destination).1.as_bytes());
        let body = decompress(Compression::Snappy, frame.body(), frame.header().raw_bytes).unwrap();
        assert!(streams[0].value.bytes().ends_with(&body));
    }
}

#[test]
fn as_json_a_request_says_the_same() {
    let line = r#"{"message":"a \"b\" é","level":"warn","timestamp":"2026-10-02T08:15:30.000000007Z"}"#;
    let extra = r#"{"tenant_id":"t","labels":{"node":"{{ kubernetes.pod_node_name }}","odd":"a\\{{ env }}\",=x"}}"#;
    let frame = &encode_all(extra, POD, &[&[line], &[r#"{"message":"c","timestamp":"2026-10-02T08:15:30Z"}"#]])[0];
    let body = envelope::wrap_json(frame);
    let mut text = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&body[..]), &mut text).unwrap();
    let request: serde_json::Value = serde_json::from_str(&text).unwrap();
    let stream = &request["streams"][0];
    assert_eq!(request["streams"].as_array().unwrap().len(), 1);
    assert_eq!(stream["stream"], serde_json::json!({"node": "n\"1", "odd": "a\\prod\",=x"}));
    let Seen { entries, .. } = read(frame);
    let values: Vec<_> = entries.iter().map(|(time, line, metadata)| serde_json::json!([time.to_string(), line, metadata])).collect();
    assert_eq!(stream["values"], serde_json::Value::from(values));
    assert_eq!(envelope::wrap_json(frame), body, "a repeat is the same to the byte");
}

#[test]
fn parts_and_dead_letters() {
    let frame = &encode_all(
        "{}",
        "{}",
        &[&[r#"{"message":"a"}"#, r#"{"message":"b","n":1}"#, r#"{"message":"c","timestamp":"2026-10-02T08:15:30Z"}"#]],
    )[0];
    let body = decompress(Compression::Snappy, frame.body(), frame.header().raw_bytes).unwrap();
    let sink = parts("{}").sink;
    assert_eq!(sink.cut(&body, &[0, 1, 2]), body);
    let mut each = Vec::new();
    single_out(&*sink, &body, &[0, 2], &mut each);
    assert_eq!(each.concat(), sink.cut(&body, &[0, 2]));
    let shown: serde_json::Value = serde_json::from_slice(&sink.show(&each[1], 0)).unwrap();
    assert_eq!(shown, serde_json::json!({"timestamp":"2026-10-02T08:15:30Z","line":"c","structured_metadata":{}}));
    assert_eq!(sink.show(&body, 9), b"null");
}

fn judged(status: u16, text: &str, times: &[i64]) -> Verdict {
    let records: Vec<String> = times
        .iter()
        .map(|secs| {
            let time = jiff::Timestamp::from_nanosecond((NANOS + secs * 1_000_000_000).into()).unwrap();
            format!(r#"{{"message":"{}","timestamp":"{time}"}}"#, "x".repeat(*secs as usize))
        })
        .collect();
    let records: Vec<&str> = records.iter().map(String::as_str).collect();
    let frame = &encode_all("{}", "{}", &[&records])[0];
    let response = Response { status, retry_after: None, body: text.to_owned().into(), note: None };
    parts("{}").sink.judge(frame, &response)
}

fn turned_away(text: &str, times: &[i64]) -> Vec<u32> {
    match judged(400, text, times) {
        Verdict::Partly { duplicates: 0, rejected, retry } if retry.is_empty() => {
            assert!(rejected.iter().all(|r: &Rejection| r.status == 400 && !r.reason.is_empty()));
            rejected.iter().map(|r| r.record).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn answers_mean_what_loki_means() {
    let seconds = [10, 20, 30];
    assert_eq!(judged(204, "", &seconds), Verdict::Delivered { duplicates: 0 });
    for status in [200, 260, 401, 403, 404] {
        assert!(matches!(judged(status, "", &seconds), Verdict::Pause { .. }), "{status}");
    }
    for (status, text) in [(429, "Per stream rate limit exceeded (limit: 3MB/sec)"), (500, "empty ring"), (503, ""), (408, "")] {
        assert!(matches!(judged(status, text, &seconds), Verdict::Retry { .. }), "{status}");
    }
    assert_eq!(judged(413, "", &seconds), Verdict::Split);
    // What is larger than the rate may be larger than the burst, and would never pass.
    let rate =
        |limit| format!("ingestion rate limit exceeded for user fake (limit: {limit} bytes/sec) while attempting to ingest '3' lines");
    assert_eq!(judged(429, &rate(10), &seconds), Verdict::Split);
    assert!(matches!(judged(429, &rate(4_194_304), &seconds), Verdict::Retry { .. }));
    assert!(matches!(judged(429, &rate(10), &[10]), Verdict::Retry { .. }), "one record alone");
    assert_eq!(judged(429, "Per stream rate limit exceeded (limit: 0.01KB/sec) while attempting", &seconds), Verdict::Split);
    assert!(matches!(judged(400, "error parsing labels '{' with error: x", &seconds), Verdict::Reject { status: 400, .. }));
    assert!(matches!(judged(400, "entry for stream '{}' has 20 label names; limit 15", &seconds), Verdict::Pause { .. }));
    assert!(matches!(judged(400, "<html>Bad Request</html>", &seconds), Verdict::Pause { .. }));
}

#[test]
fn a_400_names_those_that_were_turned_away() {
    let seconds = [10, 20, 30];
    let too_old =
        "entry for stream '{a=\"b\"}' has timestamp too old: 2026-10-02T08:15:40Z, oldest acceptable timestamp is: 2026-10-02T08:15:45Z";
    assert_eq!(turned_away(too_old, &seconds), [0]);
    let grouped = format!("2 errors like: {too_old}; 1 errors like: entry for stream '{{}}' has timestamp too new: 2026-10-02T08:16:00Z");
    assert_eq!(turned_away(&grouped, &seconds), [0, 2]);
    let line = "max entry size '15' bytes exceeded for stream '{}' while adding an entry with length '20' bytes";
    assert_eq!(turned_away(line, &seconds), [1, 2]);
    let behind = "entry with timestamp 2026-10-02 08:15:40 +0000 UTC ignored, reason: 'entry too far behind, entry timestamp is: 2026-10-02T08:15:40Z, oldest acceptable timestamp is: 2026-10-02T08:15:41Z',\nuser 'fake', total ignored: 1 out of 3 for stream: {}";
    assert_eq!(turned_away(behind, &seconds), [0]);
    // More than are listed: the oldest. And those that never arrived at the ingester.
    assert_eq!(turned_away(&behind.replace("1 out of 3", "2 out of 3"), &seconds), [0, 1]);
    assert_eq!(turned_away(&behind.replace("1 out of 3", "1 out of 2"), &seconds), [0, 1]);
}

#[test]
fn mistakes_are_found() {
    assert_eq!(
        problems(r#"{"labels":{"1a":"x","pod":"{{ kubernetes.pod_name }}"},"tenant_id":"{{ team }}","path":"push","time_field":"a b"}"#),
        [
            "path: a path starts with `/`",
            "time_field: `a b` is not a field path: a key holds a character that needs quotes; write keys with dots between them, and quote a key that holds dots: `labels.\"app.kubernetes.io/name\"`",
            "labels.1a: `1a` is no name that Loki takes",
            "labels.pod: `kubernetes.pod_name` makes a stream for each of its values, which Loki does not bear",
            "tenant_id: a record could choose a tenant that is not its own",
        ]
    );
    let many = (0..16).map(|i| format!("\"l{i}\":\"x\"")).collect::<Vec<_>>().join(",");
    assert_eq!(problems(&format!(r#"{{"labels":{{{many}}}}}"#)), ["labels: 16 labels; Loki takes 15"]);
    assert_eq!(problems(r#"{"endpoint":"x"}"#).len(), 1);
    assert!(problems(r#"{"endpoint":"x"}"#)[0].starts_with("endpoint: not a URL"));
}
