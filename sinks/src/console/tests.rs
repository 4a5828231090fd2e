#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::testing::{batch, encoded, frame};

const SHARED: &str =
    r#"{"kubernetes":{"pod_name":"web-1"},"file":"/a","source_type":"file","env":"prod","pod_name":"web-1","region":"eu"}"#;
const RECORDS: [&str; 4] = [
    r#"{"timestamp":"2026-10-02T08:15:30Z","level":"ERROR","message":"pay \"now\"\n\tat x","order":8812,"who":"a b","ok":true,"nested":{"x":[1]}}"#,
    r#"{"timestamp":"2026-10-02T08:15:31Z","message":"\u001b[2Jgone\u009b1m","k\u0007":"\u0000"}"#,
    r#"{"severity":"info"}"#,
    r#"{"level":30,"message":7}"#,
];

fn text(encoding: Encoding, colours: bool) -> String {
    encoded(Console { encoding, colours, schema: Schema::Vector }.encoder(), &batch(SHARED, &RECORDS)).remove(0).1
}

#[test]
fn json_is_a_record_a_line() {
    let text = text(Encoding::Json, false);
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (line, record) in lines.iter().zip(RECORDS) {
        let mut expected: serde_json::Map<_, _> = serde_json::from_str(SHARED).unwrap();
        expected.extend(serde_json::from_str::<serde_json::Map<_, _>>(record).unwrap());
        assert_eq!(*line, serde_json::Value::Object(expected));
    }
    assert_eq!(lines.len(), RECORDS.len());
}

#[test]
fn a_schema_gives_json_its_names_and_nothing_else() {
    let line = |schema| {
        let sink = Console { encoding: Encoding::Json, colours: false, schema };
        serde_json::from_str::<serde_json::Value>(&encoded(sink.encoder(), &batch(SHARED, &RECORDS[2..3]))[0].1).unwrap()
    };
    assert_eq!(line(Schema::Otel)["k8s.pod.name"], "web-1");
    assert_eq!(line(Schema::Otel)["severity_text"], "info");
    assert_eq!((&line(Schema::Ecs)["kubernetes.pod.name"], &line(Schema::Ecs)["log.level"]), (&"web-1".into(), &"info".into()));
    let config: ConsoleConfig = serde_json::from_str(r#"{"encoding":"text","schema":"ecs"}"#).unwrap();
    assert_eq!(config.build(&SinkContext::default()).unwrap_err()[0].path, ["schema"]);
}

#[test]
fn pretty_is_for_people_and_does_not_steer_their_terminal() {
    let expected = "\
2026-10-02T08:15:30Z prod/web-1 ERROR pay \"now\"\n    \tat x  order=8812 who=\"a b\" ok=true nested={\"x\":[1]} region=eu
2026-10-02T08:15:31Z prod/web-1 \\u{1b}[2Jgone\\u{9b}1m  k\\u{7}=\\u{0} region=eu
prod/web-1 info  region=eu
prod/web-1 7  level=30 region=eu
";
    assert_eq!(text(Encoding::Pretty, false), expected);
}

#[test]
fn pretty_has_colours_on_a_terminal() {
    let text = text(Encoding::Pretty, true);
    let first = "\u{1b}[2m2026-10-02T08:15:30Z\u{1b}[0m \u{1b}[36mprod/web-1\u{1b}[0m \u{1b}[1;31mERROR\u{1b}[0m pay \"now\"\n    \tat x  \u{1b}[2morder=\u{1b}[0m8812 ";
    assert!(text.starts_with(first), "{text:?}");
}

#[test]
fn text_is_the_message() {
    let text = text(Encoding::Text, false);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..2], ["pay \"now\"", "\tat x"]);
    assert!(lines[3].starts_with('{') && lines[3].contains("\"severity\":\"info\""));
}

#[test]
fn the_terminal_chooses_the_encoding() {
    let build = |json: &str, context: SinkContext| {
        let parts = serde_json::from_str::<ConsoleConfig>(json).unwrap().build(&context).unwrap();
        encoded(parts.sink.encoder(), &batch("{}", &["{\"message\":\"m\"}"])).remove(0).1
    };
    let terminal = SinkContext { stdout_is_terminal: true, ..SinkContext::default() };
    assert_eq!(build("{}", terminal.clone()), "m\n");
    assert_eq!(build("{}", SinkContext::default()), "{\"message\":\"m\"}\n");
    assert_eq!(build("{\"target\":\"stderr\"}", terminal.clone()), "{\"message\":\"m\"}\n");
    assert_eq!(build("{\"encoding\":\"json\"}", terminal.clone()), "{\"message\":\"m\"}\n");
    assert_eq!(build("{\"schema\":\"otel\"}", terminal), "{\"body\":\"m\"}\n");
}

/// A stream that does what a list says: so many bytes, or an error.
struct Odd {
    does: VecDeque<Result<usize, io::ErrorKind>>,
    got: Arc<Mutex<Vec<u8>>>,
}

impl Write for Odd {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.does.pop_front().unwrap_or(Ok(bytes.len())) {
            Ok(count) => {
                self.got.lock().unwrap().extend_from_slice(&bytes[..count]);
                Ok(count)
            }
            Err(kind) => Err(kind.into()),
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_retry_goes_on_where_the_error_came() {
    let got = Arc::new(Mutex::new(Vec::new()));
    let does = VecDeque::from([Ok(3), Err(io::ErrorKind::Interrupted), Ok(2), Err(io::ErrorKind::WouldBlock)]);
    let transport = StreamTransport::new(Box::new(Odd { does, got: got.clone() }), None);
    let frame = frame("", "hello world\n", 1);
    assert!(transport.send(&frame).await.is_err());
    assert_eq!(transport.send(&frame).await.unwrap().status, 200);
    assert_eq!(*got.lock().unwrap(), b"hello world\n");
    assert_eq!(transport.concurrency(), Some(1));
}

#[tokio::test]
async fn a_reader_that_has_gone_is_told_of_once() {
    let told = Arc::new(AtomicUsize::new(0));
    let count = told.clone();
    let closed = Arc::new(move || {
        count.fetch_add(1, Ordering::Relaxed);
    });
    let got = Arc::new(Mutex::new(Vec::new()));
    let does = VecDeque::from([Ok(3), Err(io::ErrorKind::BrokenPipe)]);
    let transport = StreamTransport::new(Box::new(Odd { does, got: got.clone() }), Some(closed));
    for _ in 0..3 {
        assert_eq!(transport.send(&frame("", "hello\n", 1)).await.unwrap().status, 200);
    }
    assert_eq!(told.load(Ordering::Relaxed), 1);
    assert_eq!(*got.lock().unwrap(), b"hel");
}
