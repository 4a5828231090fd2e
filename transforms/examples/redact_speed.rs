//! How fast `redact` alone is, on one core, beside eight regular expressions one after another (the way of the field).
//!
//! ```text
//! cargo run --profile quick -p skidder-transforms --example redact_speed [FILE…]
//! ```
//!
//! Logs without personal data, and with it in every tenth line, are made here; files are real logs, line by line.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a program for a terminal, over its own input")]

use std::time::Duration;

use regex::bytes::Regex;
use skidder_pipeline::batch::{Batch, Field};
use skidder_pipeline::position::FileKey;
use skidder_pipeline::shared::Shared;
use skidder_pipeline::transform::{Report, Transform};
use skidder_pipeline::value::Kind;
use skidder_transforms::redact::{Redact, RedactConfig};

/// As much as a source reads at once.
const CHUNK_BYTES: usize = 256 << 10;
/// How much is made.
const MADE_BYTES: usize = 24 << 20;
const RUNS: usize = 5;

fn main() {
    if let Ok(percent) = std::env::var("REDACT_ONLY") {
        let text = made(percent.parse().unwrap());
        for json in [false, true] {
            let (time, _) = redact(&text, json);
            println!("{percent} % {json}: {:.0} MB/s", text.len() as f64 / 1e6 / time.as_secs_f64());
        }
        return;
    }
    println!("| logs | MB | redact, MB/s | … after `json` | eight regexes, MB/s | taken out |");
    println!("|---|---|---|---|---|---|");
    row("no personal data", &made(0));
    row("in 10 % of the lines", &made(10));
    for path in std::env::args().skip(1) {
        let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
        row(&path, &text);
    }
}

/// The time that this thread had a core for (proc(5), schedstat): other programs do not count.
fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

fn row(name: &str, text: &str) {
    let megabytes = text.len() as f64 / 1e6;
    let speed = |time: Duration| megabytes / time.as_secs_f64();
    let (ours, taken) = redact(text, false);
    let (parsed, _) = redact(text, true);
    let theirs = eight_regexes(text);
    println!("| {name} | {megabytes:.0} | {:.0} | {:.0} | {:.0} | {taken} |", speed(ours), speed(parsed), speed(theirs));
}

/// The best time of `redact` over the chunks of `text`, and how much it took out.
fn redact(text: &str, json: bool) -> (Duration, u64) {
    let chunks = batches(text, json);
    let mut redact = Redact::new(&RedactConfig::default()).unwrap();
    let mut best = Duration::MAX;
    let mut taken = 0;
    for _ in 0..RUNS {
        let mut report = Report::default();
        let mut time = Duration::ZERO;
        let mut batch = Batch::new(Shared::empty(), FileKey([0; 16]));
        for chunk in &chunks {
            batch.clone_from(chunk);
            let start = cpu();
            redact.apply(&mut batch, &mut report);
            time += cpu() - start;
        }
        best = best.min(time);
        taken = report.redactions().iter().map(|(_, count)| count).sum();
    }
    (best, taken)
}

/// The lines in batches; with `json`, the members of a line are the record's fields.
fn batches(text: &str, json: bool) -> Vec<Batch> {
    let mut batches = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.get(..CHUNK_BYTES.min(rest.len())).and_then(|chunk| chunk.rfind('\n')).or_else(|| rest.find('\n'));
        let (chunk, more) = rest.split_at(end.map_or(rest.len(), |at| at + 1));
        rest = more;
        let mut batch = Batch::new(Shared::empty(), FileKey([0; 16]));
        let key = batch.append(b"message");
        let whole = batch.append(chunk.as_bytes());
        let mut start = whole.start;
        let mut fields = Vec::new();
        for line in chunk.split_inclusive('\n') {
            let span = skidder_pipeline::value::Span { start, end: start + line.trim_end().len() as u32 };
            start += line.len() as u32;
            fields.clear();
            if !(json && line.starts_with('{') && skidder_pipeline::json::walk(batch.bytes(), span, &mut fields).is_ok()) {
                fields.clear();
                fields.push(Field { key, value: span, kind: Kind::Text });
            }
            batch.push(u64::from(span.start), &fields);
        }
        batches.push(batch);
    }
    batches
}

/// Eight common rules, each over each line.
fn eight_regexes(text: &str) -> Duration {
    let rules: Vec<Regex> = [
        r"(?-u)[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}",
        r"(?-u)\b\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}\b",
        r"(?-u)\b(?:\d[ -]?){13,16}\b",
        r"(?-u)\b\d{3}-\d{2}-\d{4}\b",
        r"(?-u)\+\d[\d ()-]{8,16}\d",
        r"(?-u)eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*",
        r"(?i-u)bearer [a-z0-9._~+/-]+=*",
        r"(?-u)AKIA[0-9A-Z]{16}",
    ]
    .iter()
    .map(|rule| Regex::new(rule).unwrap())
    .collect();
    let mut sample = text.len().min(16 << 20);
    while !text.is_char_boundary(sample) {
        sample -= 1;
    }
    let start = cpu();
    for line in text[..sample].lines() {
        let mut line = std::borrow::Cow::Borrowed(line.as_bytes());
        for rule in &rules {
            if let std::borrow::Cow::Owned(changed) = rule.replace_all(&line, &b"[X]"[..]) {
                line = changed.into();
            }
        }
        std::hint::black_box(&line);
    }
    (cpu() - start).mul_f64(text.len() as f64 / sample.max(1) as f64)
}

/// Lines of services in JSON, text and the form of klog, with a personal value in so many of a hundred.
fn made(percent: u64) -> String {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let mut text = String::with_capacity(MADE_BYTES + 1024);
    while text.len() < MADE_BYTES {
        let (a, b, c) = (next(u64::MAX), next(u64::MAX), next(100_000));
        let personal = match (next(100) < percent, next(4)) {
            (false, _) => String::new(),
            (true, 0) => format!(" for user{c}@example.com"),
            (true, 1) => " paid with 4111 1111 1111 1111".to_owned(),
            (true, 2) => format!(" from 203.0.113.{}", c % 250),
            _ => format!(" call +7912{:07}", c),
        };
        let (second, nanos) = (c % 60, a % 1_000_000_000);
        text += &match b % 3 {
            0 => format!(
                "{{\"ts\":\"2026-03-01T10:21:{second:02}.{nanos:09}Z\",\"level\":\"info\",\"logger\":\"svc.booking\",\"msg\":\"request completed{personal}\",\"trace_id\":\"{a:016x}{b:016x}\",\"status\":200,\"latency_us\":{c},\"path\":\"/api/v1/hotels/{}/rooms\"}}\n",
                c % 977
            ),
            1 => format!(
                "2026-03-01T10:21:{second:02}.{nanos:09}Z INFO [main] request {a:016x} completed in {c} us, cache hit, pod api-7d9f8b6c5d-x2k4p, retry 0 of 3, upstream catalog{personal}\n"
            ),
            _ => format!(
                "I0301 10:21:{second:02}.{:06} {c:7} controller.go:{}] \"Reconciled object\" kind=\"Deployment\" namespace=\"prod\" name=\"guides\" generation={} duration=\"{}.{}ms\"{personal}\n",
                nanos % 1_000_000,
                c % 900,
                c % 40,
                c % 90,
                c % 10
            ),
        };
    }
    text
}
