#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::super::multiline::MultilineConfig;
use super::super::testing::show;
use super::*;
use skidder_pipeline::shared::Shared;

/// What comes of `text` at once: the records given out, then those left open, as they would be at its end.
fn records(framing: Framing, text: &str, max_record_bytes: usize, multiline: Option<&str>) -> Vec<String> {
    records_with(MaxRecordAction::Truncate, framing, text, max_record_bytes, multiline)
}

fn records_with(action: MaxRecordAction, framing: Framing, text: &str, max_record_bytes: usize, multiline: Option<&str>) -> Vec<String> {
    let multiline = multiline.map(|config| toml::from_str::<MultilineConfig>(config).unwrap().build().unwrap());
    let rules = Rules { max_record_bytes, max_record_action: action, multiline };
    let file = FileKey([1; 16]);
    let mut batch = Batch::new(Shared::empty(), file);
    constants::prepare(batch.bytes_mut(), 0, 0);
    batch.bytes_mut().extend_from_slice(text.as_bytes());
    let (start, end) = (c::HEAD, c::HEAD + text.len());
    let (mut joiner, mut covers, stats) = (Joiner::default(), Vec::new(), SourceStats::default());
    let block = Block { file, needs: SinkSet::first(1), start, end, offset: 0, beyond: Beyond::default(), now: Nanos(0) };
    assert_eq!(assemble(&rules, framing, &mut joiner, &mut batch, &mut covers, &stats, block), text.len());
    joiner.give_up(false, |_| true);
    let mut rest = Batch::new(Shared::empty(), file);
    constants::prepare(rest.bytes_mut(), 0, 0);
    assemble_ready(&rules, &mut joiner, &mut rest, &mut covers, &stats);
    for cut in batch.cuts().iter().chain(&*rest.cuts()) {
        assert!(cut.around.start <= cut.value.start && cut.value.end <= cut.around.end && cut.around != cut.value);
    }
    show(&batch).into_iter().chain(show(&rest)).collect()
}

#[test]
fn parts_of_two_streams_are_told_apart() {
    let cri = "2026-03-10T15:48:15Z stdout P a\n2026-03-10T15:48:15Z stderr P x\n2026-03-10T15:48:15Z stdout P b\n\
               2026-03-10T15:48:15Z stderr F y\n2026-03-10T15:48:15Z stdout F c\n";
    assert_eq!(records(Framing::Cri, cri, 100, None), ["stderr:xy", "stdout:abc"]);
    let docker = r#"{"log":"a \"","stream":"stdout","time":"t"}
{"log":"x","stream":"stderr","time":"t"}
{"log":"b\"\n","stream":"stdout","time":"t"}
{"log":"y\n","stream":"stderr","time":"t"}
"#;
    assert_eq!(records(Framing::Docker, docker, 100, None), ["stdout:a \"b\"", "stderr:xy"]);
}

#[test]
fn joined_records_are_cut_at_the_limit_and_counted_to_their_end() {
    let cri = "2026-03-10T15:48:15Z stdout P aaaa\n2026-03-10T15:48:15Z stdout P bbbb\n2026-03-10T15:48:15Z stdout F cccc\n";
    assert_eq!(records(Framing::Cri, cri, 6, None), ["stdout:aaaabb truncated of 12"]);
    assert_eq!(records(Framing::Cri, cri, 12, None), ["stdout:aaaabbbbcccc"]);
    let docker = "{\"log\":\"aaaa\\\\nb\\n\",\"stream\":\"stdout\",\"time\":\"t\"}\n";
    assert_eq!(records(Framing::Docker, docker, 5, None), ["stdout:aaaa truncated of 8"], "no escape is cut in two");
}

#[test]
fn lines_are_joined_by_stream_and_in_the_form_that_they_have() {
    let indent = Some("mode = \"indent\"");
    let docker = r#"{"log":"E: \"x\"\n","stream":"stderr","time":"t"}
{"log":"other\n","stream":"stdout","time":"t"}
{"log":"\tat y\n","stream":"stderr","time":"t"}
{"log":"next\n","stream":"stderr","time":"t"}
"#;
    assert_eq!(records(Framing::Docker, docker, 100, indent), ["stderr:E: \"x\"\n\tat y", "stdout:other", "stderr:next"]);
    let cri = "2026-03-10T15:48:15Z stdout F a\n2026-03-10T15:48:15Z stdout P  b\n2026-03-10T15:48:15Z stdout F b\nbroken\n";
    assert_eq!(records(Framing::Cri, cri, 100, indent), ["broken parse_error=cri", "stdout:a\n bb"]);
    assert_eq!(records(Framing::Raw, "a\n bbbbb\n cc\n", 8, indent), ["a\n bbbbb", " cc"], "beyond the limit another begins");
}

#[test]
fn records_that_are_too_long_are_cut_split_or_left_out() {
    let cri = "2026-03-10T15:48:15Z stdout P aaaa\n2026-03-10T15:48:15Z stdout P bbbb\n2026-03-10T15:48:15Z stdout F ccc\n";
    let docker = "{\"log\":\"aaa\\nbb\\n\",\"stream\":\"stdout\",\"time\":\"t\"}\n";
    let with = |action, framing, text, max| records_with(action, framing, text, max, None);
    let split = |framing, text, max| with(MaxRecordAction::Split, framing, text, max);
    assert_eq!(split(Framing::Raw, "one two\nx\n", 4), ["one  part 1 of 2", "two part 2 of 2", "x"]);
    assert_eq!(split(Framing::Raw, "aäöü\n", 3), ["aä part 1 of 3", "ö part 2 of 3", "ü part 3 of 3"]);
    assert_eq!(split(Framing::Cri, cri, 5), ["stdout:aaaab part 1 of 3", "stdout:bbbcc part 2 of 3", "stdout:c part 3 of 3"]);
    assert_eq!(split(Framing::Docker, docker, 4), ["stdout:aaa part 1 of 2", "stdout:\nbb part 2 of 2"]);
    let long = format!("{}\n", "x".repeat(40));
    let pieces = split(Framing::Raw, &long, 2);
    assert_eq!((pieces.len(), &*pieces[15]), (16, "xx part 16 of 16 truncated of 40"));
    assert_eq!(with(MaxRecordAction::Drop, Framing::Cri, cri, 5), Vec::<String>::new());
    assert_eq!(with(MaxRecordAction::Drop, Framing::Raw, "long\nx\n", 3), ["x"]);
}
