//! `skidder redact` as a person would try it, and its score on labelled lines with a fresh seed.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use skidder_tests::{agent, chance, redaction};

#[test]
fn the_score_on_fresh_lines_reaches_the_marks() {
    let seed = chance::seed() % 1_000_000;
    let score = redaction::score(agent::binary().expect("skidder"), seed, 20_000).expect("the scorer");
    let at = format!("SKIDDER_SEED={seed}: {score:?}; see redaction/last.txt below the target directory");
    assert!(score.lines == 20_000 && score.gold > 5_000, "{at}");
    assert!(score.recall_full >= 0.995, "recall below 99.5 %: {at}");
    assert!(score.recall_strict >= 0.99, "strict recall below 99 %: {at}");
    assert_eq!(score.broken_json, 0, "{at}");
    assert!(score.fp_per_mb <= 10.0, "more than 10 false positives in a MB: {at}");
}

/// A line comes out when it went in, so that the filter can stand in a pipe.
#[test]
fn lines_come_out_one_for_one_while_more_are_awaited() {
    let mut filter = Command::new(agent::binary().expect("skidder"));
    let mut filter = filter.arg("redact").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = filter.stdin.take().unwrap();
    let mut output = BufReader::new(filter.stdout.take().unwrap());
    for (line, expected) in [("mail a@b.cc", "mail [EMAIL]"), ("", ""), ("{\"n\":4111111111111111}", "{\"n\":\"[CREDIT_CARD]\"}")] {
        writeln!(input, "{line}").unwrap();
        input.flush().unwrap();
        let mut out = String::new();
        output.read_line(&mut out).unwrap();
        assert_eq!(out.trim_end_matches('\n'), expected);
    }
    // Bytes that are no UTF-8 stay as they are, beside what is found.
    input.write_all(b"\xff a@b.cc \xc3\n\xfe\r\nlast a@b.cc").unwrap();
    drop(input);
    let mut rest = Vec::new();
    std::io::Read::read_to_end(&mut output, &mut rest).unwrap();
    assert_eq!(rest, b"\xff [EMAIL] \xc3\n\xfe\r\nlast [EMAIL]");
    assert!(filter.wait().unwrap().success());
}

#[test]
fn a_dry_run_says_what_and_where_and_never_the_value() {
    let run = |args: &[&str]| {
        let mut command = Command::new(agent::binary().expect("skidder"));
        let mut child = command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(b"pay 4111111111111111\nnothing\npassword=Hunter2!x by jane@example.com\n").unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (output, notes) = run(&["redact", "--explain", "--dry-run"]);
    assert!(output.contains("4111111111111111") && output.contains("Hunter2!x"), "{output}");
    assert_eq!(notes, "1:4-20 credit_card\n3:9-18 password\n3:22-38 email\n3 lines; email 1, credit_card 1, password 1\n");
    let (output, notes) = run(&["redact", "--except", "secrets"]);
    assert_eq!(output, "pay [CREDIT_CARD]\nnothing\npassword=Hunter2!x by [EMAIL]\n");
    assert_eq!(notes, "");
}
