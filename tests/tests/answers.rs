//! Answers that a real server gives hardly ever, or cannot be brought to here: a server of our own gives them, and what becomes of
//! the records is what each sink's page says.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hyper::Response;
use hyper::http::request::Parts;
use skidder_tests::agent::Ended;
use skidder_tests::real::file_site;
use skidder_tests::site::Site;
use skidder_tests::store::{Behind, Door};

/// A status, a header and a body.
#[derive(Clone)]
struct Answer(u16, Option<(&'static str, &'static str)>, Vec<u8>);

/// A server that gives the answers of a script, and then the last of them for ever.
struct Script {
    answers: Mutex<VecDeque<Answer>>,
    /// What came: when, and the body.
    seen: Mutex<Vec<(Instant, Vec<u8>)>>,
}

impl Behind for Script {
    fn answer(&self, _: &Parts, body: &[u8]) -> Option<Response<Vec<u8>>> {
        self.seen.lock().unwrap().push((Instant::now(), body.to_vec()));
        let mut answers = self.answers.lock().unwrap();
        let Answer(status, header, body) = if answers.len() > 1 { answers.pop_front()? } else { answers.front()?.clone() };
        let response = Response::builder().status(status);
        header.into_iter().fold(response, |response, (name, value)| response.header(name, value)).body(body).ok()
    }
}

/// What becomes of the records of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    /// They are sent again unchanged, and that is all.
    Again,
    /// They are sent again in halves, and alone in the end.
    Halves,
    /// They are dead letters, and the request is not made again.
    Letters,
    /// The sink waits, and they with it.
    Pause,
    /// They are delivered.
    Delivered,
}

const RECORDS: usize = 4;

fn site(sink: &str, url: &str) -> Site {
    let lines = sink.replace("{url}", url);
    let site = file_site(&format!("{lines}\nrequest = {{ retry_initial_backoff_ms = 10, retry_max_duration_secs = 0.5 }}")).unwrap();
    let text: String = (0..RECORDS).map(|n| format!("{{\"message\":\"record {n}\"}}\n")).collect();
    site.append("app.log", text).unwrap();
    site
}

/// What became of the records when this was the first answer and all later ones say that they are stored.
fn outcome(sink: &str, answer: Answer, success: &Answer) -> (Outcome, Ended, Vec<(Instant, Vec<u8>)>) {
    let script = Arc::new(Script { answers: Mutex::new([answer, success.clone()].into()), seen: Mutex::default() });
    let door = Door::open(script.clone()).unwrap();
    let site = site(sink, &door.url());
    let ended = site.once_with(&["--timeout", "4"]).unwrap();
    let letters = site.letters().unwrap().len();
    if letters > 0 {
        assert_eq!((letters, ended.code()), (RECORDS, Some(1)), "{ended}");
        assert_eq!(script.seen.lock().unwrap().len(), 1, "not made again: {ended}");
        return (Outcome::Letters, ended, Vec::new());
    }
    if ended.stderr.contains("delivery is paused") {
        assert_eq!((ended.code(), script.seen.lock().unwrap().len()), (Some(1), 1), "{ended}");
        // When someone has seen to it, nothing is lost.
        site.once().unwrap();
        assert_eq!(site.letters().unwrap().len(), 0);
        return (Outcome::Pause, ended, Vec::new());
    }
    assert_eq!(ended.code(), Some(0), "{ended}");
    let mut requests = script.seen.lock().unwrap().clone();
    let (first, rest) = (requests.remove(0), &requests[..]);
    let outcome = match rest {
        [] => Outcome::Delivered,
        [(_, again)] if *again == first.1 => Outcome::Again,
        [_, _, ..] if rest.iter().all(|(_, part)| part.len() < first.1.len()) => Outcome::Halves,
        _ => panic!("{} requests after the first: {ended}", rest.len()),
    };
    requests.insert(0, first);
    (outcome, ended, requests)
}

fn of(status: u16) -> Answer {
    Answer(status, None, Vec::new())
}

/// `message { field 1 = …; field 2 = …; }` of Protocol Buffers, as field 1 of another: a partial success.
fn partial(refused: u8, message: &str) -> Answer {
    let inner = [&[0x08, refused, 0x12, message.len() as u8], message.as_bytes()].concat();
    Answer(200, Some(("content-type", "application/x-protobuf")), [&[0x0a, inner.len() as u8], &inner[..]].concat())
}

fn check(sink: &str, success: &Answer, cases: &[(Answer, Outcome)]) {
    for (answer, expected) in cases {
        let (found, ended, _) = outcome(sink, answer.clone(), success);
        assert_eq!(found, *expected, "HTTP {} {:?} to\n{sink}\n{ended}", answer.0, answer.2);
    }
}

#[test]
fn of_elasticsearch() {
    let error =
        |status, kind: &str| Answer(status, None, format!(r#"{{"error":{{"type":"{kind}","reason":"r"}},"status":{status}}}"#).into());
    let items = |status: u16, kind: &str| {
        let item = format!(r#"{{"create":{{"status":{status},"error":{{"type":"{kind}","reason":"r"}}}}}}"#);
        Answer(200, None, format!(r#"{{"errors":true,"items":[{}]}}"#, vec![item; RECORDS].join(",")).into())
    };
    check(
        "type = \"elasticsearch\"\nendpoints = [\"{url}\"]\nindex = \"x\"",
        &Answer(200, None, r#"{"errors":false}"#.into()),
        &[
            (of(401), Outcome::Pause),
            (error(403, "security_exception"), Outcome::Pause),
            (of(502), Outcome::Again),
            (error(503, "master_not_discovered_exception"), Outcome::Again),
            (of(504), Outcome::Again),
            (error(429, "circuit_breaking_exception"), Outcome::Again),
            (error(403, "cluster_block_exception"), Outcome::Again),
            (of(413), Outcome::Halves),
            (items(403, "security_exception"), Outcome::Pause),
            (items(403, "cluster_block_exception"), Outcome::Again),
            (items(429, "es_rejected_execution_exception"), Outcome::Again),
            (items(503, "unavailable_shards_exception"), Outcome::Again),
            (items(409, "version_conflict_engine_exception"), Outcome::Delivered),
            (items(400, "document_parsing_exception"), Outcome::Letters),
            (items(404, "index_not_found_exception"), Outcome::Pause),
            // Success in the first line, and not what `_bulk` answers: a proxy's page.
            (Answer(200, None, "<html>".into()), Outcome::Again),
        ],
    );
}

#[test]
fn of_loki() {
    check(
        "type = \"loki\"\nendpoint = \"{url}\"",
        &of(204),
        &[
            (of(200), Outcome::Pause),
            (of(260), Outcome::Pause),
            (of(401), Outcome::Pause),
            (of(404), Outcome::Pause),
            (of(500), Outcome::Again),
            (of(503), Outcome::Again),
            (Answer(429, None, "Ingestion rate limit exceeded for user fake (limit: 4194304 bytes/sec)".into()), Outcome::Again),
        ],
    );
}

#[test]
fn of_otlp() {
    let sink = "type = \"otlp\"\nendpoint = \"{url}\"";
    check(
        sink,
        &of(200),
        &[
            (of(429), Outcome::Again),
            (of(502), Outcome::Again),
            (of(503), Outcome::Again),
            (of(504), Outcome::Again),
            (of(413), Outcome::Halves),
            (of(401), Outcome::Pause),
            (of(404), Outcome::Pause),
            // What the specification forbids to send again.
            (of(500), Outcome::Letters),
            (of(501), Outcome::Letters),
            (of(409), Outcome::Letters),
            (partial(2, "no"), Outcome::Letters),
            (partial(0, "soon gone"), Outcome::Delivered),
        ],
    );
    check(&format!("{sink}\non_partial_success = \"accept\""), &of(200), &[(partial(2, "no"), Outcome::Delivered)]);
}

#[test]
fn of_http() {
    check(
        "type = \"http\"\nendpoints = [\"{url}\"]",
        &of(204),
        &[
            (of(408), Outcome::Again),
            (of(500), Outcome::Again),
            (of(413), Outcome::Halves),
            (of(400), Outcome::Halves),
            (of(403), Outcome::Pause),
            (of(301), Outcome::Pause),
        ],
    );
}

#[test]
fn a_time_to_wait_is_waited_for() {
    for sink in ["type = \"otlp\"\nendpoint = \"{url}\"", "type = \"loki\"\nendpoint = \"{url}\""] {
        let answer = Answer(429, Some(("retry-after", "2")), "busy".into());
        let success = if sink.contains("loki") { of(204) } else { of(200) };
        let (found, ended, requests) = outcome(sink, answer, &success);
        assert_eq!(found, Outcome::Again, "{ended}");
        let waited = requests[1].0 - requests[0].0;
        assert!(waited >= Duration::from_millis(1900), "{waited:?} in place of two seconds: {ended}");
    }
}
