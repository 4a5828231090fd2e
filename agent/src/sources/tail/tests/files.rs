//! The `file` source on real files.

use skidder_pipeline::source::Held;

use super::*;

const LOGS: &str = "type = \"file\"\ninclude = [\"*.log\"]\n";

#[test]
fn growth_is_followed_and_an_open_line_is_waited_for() {
    let mut rig = Rig::new();
    rig.append("a.log", "one\ntw");
    rig.start(LOGS);
    assert_eq!(rig.pass(1), ["one"]);
    rig.append("a.log", "o\nthree\n");
    assert_eq!(rig.pass(3), ["two", "three"]);
    assert_eq!(rig.stats.records.get(), 3);
    assert_eq!(rig.stats.bytes.get(), 14);
    assert_eq!(rig.stats.unread_bytes.get(), 0);
}

#[test]
fn a_new_file_is_seen_at_once_and_read_from_its_beginning() {
    let mut rig = Rig::new();
    rig.append("a.log", "old\n");
    rig.start(&format!("{LOGS}read_from = \"end\""));
    assert_eq!(rig.pass(1), Vec::<String>::new());
    rig.append("b.log", "new\n");
    rig.append("a.log", "also new\n");
    let mut texts = rig.pass(2);
    texts.sort();
    assert_eq!(texts, ["also new", "new"]);
}

#[test]
fn read_from_end_is_remembered() {
    let mut rig = Rig::new();
    rig.append("a.log", "old\n");
    let config = format!("{LOGS}read_from = \"end\"");
    rig.start(&config);
    let chunks = rig.drain();
    assert!(chunks.iter().all(|got| got.records.is_empty()));
    assert_eq!(covered(chunks.iter()).values().map(RangeSet::high_mark).collect::<Vec<_>>(), [4]);
    rig.append("a.log", "while it was down\n");
    // Nothing was committed, so the file is known by the register alone: it is not new, and not skipped again.
    rig.start(&config);
    assert_eq!(rig.texts(), ["old", "while it was down"]);
}

#[test]
fn a_renamed_file_is_read_to_its_end_before_the_new_one() {
    let mut rig = Rig::new();
    rig.append("a.log", "1\n");
    rig.start(LOGS);
    assert_eq!(rig.pass(1), ["1"]);
    rig.append("a.log", "2\n");
    rig.rename("a.log", "a.log.1");
    rig.append("a.log", "4\n");
    rig.append("a.log.1", "3\n");
    assert_eq!(rig.pass(4), ["2", "3", "4"]);
    // A slow writer that has not been told of the rotation yet.
    rig.append("a.log.1", "late\n");
    assert_eq!(rig.pass(4), ["late"]);
    rig.pass(70);
    rig.append("a.log", "5\n");
    assert_eq!(rig.pass(4), ["5"]);
}

#[test]
fn a_file_renamed_to_a_name_that_is_read_too_is_not_read_twice() {
    let mut rig = Rig::new();
    rig.append("a.log", "1\n");
    let config = "type = \"file\"\ninclude = [\"a.log\", \"a.log*\"]\n";
    rig.start(config);
    assert_eq!(rig.pass(1), ["1"]);
    rig.rename("a.log", "a.log.1");
    rig.append("a.log", "2\n");
    assert_eq!(rig.pass(90), ["2"]);
    rig.append("a.log.1", "after it was closed\n");
    assert_eq!(rig.pass(15), ["after it was closed"]);
    rig.start(config);
    assert_eq!(rig.pass(15), Vec::<String>::new());
}

#[test]
fn a_rotated_file_with_an_open_line_gives_it_out_before_the_new_file() {
    let mut rig = Rig::new();
    rig.append("a.log", "1\nope");
    rig.start(LOGS);
    assert_eq!(rig.pass(1), ["1"]);
    rig.rename("a.log", "a.log.1");
    rig.append("a.log", "3\n");
    rig.append("a.log.1", "n");
    assert_eq!(rig.pass(5), ["open unterminated", "3"]);
}

#[test]
fn truncation_begins_anew() {
    let mut rig = Rig::new();
    rig.append("a.log", "one\ntwo\n");
    rig.start(LOGS);
    assert_eq!(rig.pass(1), ["one", "two"]);
    fs::write(rig.path("a.log"), "new\n").unwrap();
    assert_eq!(rig.pass(3), ["new"]);
    // Cut and filled again beyond the old position between two looks: told by the bytes before it.
    fs::write(rig.path("a.log"), "entirely different\nlines\n").unwrap();
    assert_eq!(rig.pass(3), ["entirely different", "lines"]);
    let held = rig.held.0.lock().unwrap().len();
    assert_eq!(held, 3, "three contents, three keys");
    // And over a start.
    rig.start(LOGS);
    assert_eq!(rig.pass(1), Vec::<String>::new());
    rig.start(LOGS);
    fs::write(rig.path("a.log"), "cut while it was down, and longer than before\n").unwrap();
    assert_eq!(rig.pass(1), ["cut while it was down, and longer than before"]);
}

#[test]
fn a_deleted_file_is_read_to_its_end_and_another_at_its_path_from_its_start() {
    let mut rig = Rig::new();
    rig.append("a.log", "1\n");
    rig.start(LOGS);
    assert_eq!(rig.pass(1), ["1"]);
    rig.append("a.log", "2\nopen");
    fs::remove_file(rig.path("a.log")).unwrap();
    assert_eq!(rig.pass(3), ["2"]);
    rig.append("a.log", "3\n");
    assert_eq!(rig.pass(80), ["open unterminated", "3"]);
    assert_eq!(rig.held.0.lock().unwrap().len(), 1, "the deleted file is forgotten");
}

#[test]
fn stopping_reads_what_no_start_could_and_leaves_the_rest() {
    let mut rig = Rig::new();
    rig.append("a.log", "1\n");
    rig.append("b.log", "1\n");
    rig.start(LOGS);
    rig.pass(1);
    rig.append("a.log", "2\nopen");
    rig.append("b.log", "left\n");
    fs::remove_file(rig.path("a.log")).unwrap();
    rig.stop();
    assert_eq!(rig.texts(), ["2", "open unterminated"]);
    assert!(rig.ended);
    rig.start(LOGS);
    assert_eq!(rig.texts(), ["left"]);
}

#[test]
fn once_reads_to_the_end_and_ends() {
    let mut rig = Rig::new();
    rig.once = true;
    rig.append("a.log", "1\n2");
    rig.append("b.log", cri("stdout", "P", "half"));
    rig.append("c.log", "");
    rig.append("d.log", "a\n b\n");
    rig.start(&format!("{LOGS}multiline = {{ mode = \"indent\" }}"));
    let mut texts = rig.texts();
    texts.sort();
    assert_eq!(texts, ["1", "2", "a\n b", "stdout:half unterminated"]);
    assert!(rig.ended);
}

#[test]
fn what_is_no_regular_file_is_refused_once() {
    let mut rig = Rig::new();
    fs::create_dir(rig.path("dir.log")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, rig.path("fifo.log"), rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
    std::os::unix::fs::symlink(rig.path("nowhere"), rig.path("dangling.log")).unwrap();
    rig.append("real", "through a link\n");
    std::os::unix::fs::symlink(rig.path("real"), rig.path("link.log")).unwrap();
    rig.start(LOGS);
    assert_eq!(rig.pass(25), ["through a link"]);
    assert_eq!(rig.stats.refused_files.not_regular.get(), 2, "a directory and a FIFO");
    assert_eq!(rig.stats.failed_files.get(), 1, "a link that leads nowhere");
    rig.start(&format!("{LOGS}follow_symlinks = false"));
    assert_eq!(rig.pass(1), Vec::<String>::new());
}

#[test]
fn a_line_of_ten_megabytes_is_cut_marked_and_counted() {
    let mut rig = Rig::new();
    let long = "x".repeat(10 * 1024 * 1024);
    rig.append("a.log", format!("before\n{long}\nafter\n"));
    rig.start(LOGS);
    let texts = rig.texts();
    assert_eq!(texts.len(), 3);
    assert_eq!((&*texts[0], &*texts[2]), ("before", "after"));
    assert_eq!(texts[1], format!("{} truncated of {}", &long[..1024 * 1024], long.len()));
    assert_eq!(rig.stats.truncated.get(), 1);
    // And where its end has not come yet.
    rig.append("a.log", &long);
    assert_eq!(rig.pass(3), Vec::<String>::new());
    rig.append("a.log", "\n");
    assert_eq!(rig.pass(3).len(), 1);
}

#[test]
fn a_line_of_ten_megabytes_is_split_as_far_as_memory_allows_or_left_out() {
    let mut rig = Rig::new();
    rig.append("a.log", format!("before\n{}\nafter\n", "ä".repeat(5 * 1024 * 1024)));
    rig.start(&format!("{LOGS}max_record_action = \"split\""));
    let texts = rig.texts();
    let shown: Vec<(usize, &str)> = texts.iter().map(|text| (text.len(), text.trim_start_matches('ä'))).collect();
    let part = |mark: &'static str| (1024 * 1024 + mark.len(), mark);
    let last = " part 4 of 4 truncated of 10485760";
    assert_eq!(shown[1..4], [part(" part 1 of 4"), part(" part 2 of 4"), part(" part 3 of 4")]);
    assert_eq!((shown[0].1, shown[4], shown[5].1), ("before", part(last), "after"));
    rig = Rig::new();
    rig.append("a.log", format!("before\n{}\nafter\n", "x".repeat(10 * 1024 * 1024)));
    rig.start(&format!("{LOGS}max_record_action = \"drop\""));
    assert_eq!((rig.texts(), rig.stats.dropped.get()), (vec!["before".to_owned(), "after".to_owned()], 1));
    assert_eq!(covered_by_sink(&rig), [(0, 10 * 1024 * 1024 + 14)], "it is dealt with");
}

#[test]
fn bytes_that_are_no_utf8_are_replaced_in_their_record_alone() {
    let mut rig = Rig::new();
    rig.append("a.log", b"good\nbad \xff\xfe!\n\0\0\0\ngood \xc3\xa4\n\0\0after the gap\n\r\n");
    rig.start(LOGS);
    assert_eq!(rig.texts(), ["good", "bad \u{fffd}\u{fffd}! invalid_utf8", "good ä", "after the gap", ""]);
    assert_eq!(rig.stats.invalid_utf8.get(), 1);
    let all = covered_by_sink(&rig);
    assert_eq!(all, [(0, 43)]);
}

/// The end of what is read of a line that is too long went through a character: the record said that it was no UTF-8.
#[test]
fn a_cut_through_a_character_is_no_invalid_utf8() {
    for lead in ["", "x", "xy", "xyz"] {
        for (more, first) in [("", ""), ("", "2026-03-10T15:48:15Z stdout P p\n"), ("multiline = { mode = \"indent\" }\n", "")] {
            let mut rig = Rig::new();
            rig.block_bytes = 512;
            let long = format!("{lead}{}", "😀".repeat(10_000));
            rig.append("a.log", format!("{first}2026-03-10T15:48:15Z stdout F {long}\n2026-03-10T15:48:15Z stdout F end\n"));
            rig.once = true;
            rig.start(&format!("{LOGS}format = \"cri\"\nmax_record_bytes = 256\n{more}"));
            let texts = rig.texts();
            assert_eq!(texts.len(), 2, "{texts:?}");
            assert!(texts[0].contains(" truncated of 4000"), "{}", texts[0]);
            assert_eq!(rig.stats.invalid_utf8.get(), 0, "{lead:?} {more:?} {first:?}: {}", texts[0]);
        }
    }
}

/// `original_bytes` was one too small where a line was taken without its newline, one too large where a carriage return was
/// before it.
#[test]
fn the_length_of_a_line_that_was_cut_is_that_of_its_text() {
    // What follows 40,000 bytes of text, what was before them, and the marks that the record then has.
    let cases = [("\nnext\n", "", ""), ("\r\nnext\n", "", ""), ("", "", " unterminated"), ("\n", "p\n", ""), ("", "p\n", " unterminated")];
    for format in ["raw", "cri"] {
        for block_bytes in [512, 39_990, 40_000, 40_041, 256 * 1024] {
            for (after, parts, marks) in cases {
                let mut rig = Rig::new();
                (rig.once, rig.block_bytes) = (true, block_bytes);
                let head =
                    |tag: &str| if format == "cri" { format!("2026-03-10T15:48:15.217676062Z stdout {tag} ") } else { String::new() };
                if format == "raw" && !parts.is_empty() {
                    continue;
                }
                let part = if parts.is_empty() { String::new() } else { head("P") + parts };
                let next = if after.ends_with("next\n") { after.replace("next", &(head("F") + "next")) } else { after.to_owned() };
                rig.append("a.log", format!("{part}{}{}{next}", head("F"), "x".repeat(40_000)));
                rig.start(&format!("{LOGS}format = \"{format}\"\nmax_record_bytes = 256\n"));
                let texts = rig.texts();
                let length = if parts.is_empty() { 40_000 } else { 40_001 };
                let marks = format!("{marks} truncated of {length}");
                assert!(texts[0].ends_with(&marks), "{format}, blocks of {block_bytes}, {after:?}: {}", &texts[0][200..]);
                assert_eq!(texts.len(), if after.ends_with("next\n") { 2 } else { 1 }, "{format}, {block_bytes}, {after:?}");
            }
        }
    }
}

/// A log that was rotated out of the globs may be anywhere, but not for ever.
#[test]
fn what_a_source_of_files_does_not_meet_for_a_day_is_forgotten_unless_its_disk_is_away() {
    let mut rig = Rig::new();
    let disk = tempfile::tempdir_in("/dev/shm").unwrap();
    let away = disk.path().join("logs");
    fs::create_dir(&away).unwrap();
    fs::write(away.join("b.log"), "on another disk\n").unwrap();
    rig.append("a.log", "one\n");
    let config = format!("type = \"file\"\ninclude = [\"*.log\", \"{}/*.log\"]\n", away.display());
    rig.start(&config);
    assert_eq!(rig.pass(2).len(), 2);
    rig.rename("a.log", "a.log.1");
    rig.append("a.log", "two\n");
    assert_eq!(rig.pass(90), ["two"]);
    let unmounted = disk.path().join("unmounted");
    fs::rename(&away, &unmounted).unwrap();
    for _ in 0..2 {
        assert_eq!((rig.pass_hours(22), rig.held.files().len()), (vec![], 3));
        rig.start(&config);
    }
    assert_eq!((rig.pass_hours(30), rig.held.files().len()), (vec![], 2), "the rotated one");
    fs::rename(&unmounted, &away).unwrap();
    assert_eq!((rig.pass(30), rig.pass_hours(30), rig.held.files().len()), (vec![], vec![], 2));
    fs::remove_file(away.join("b.log")).unwrap();
    rig.start(&config);
    assert_eq!((rig.pass_hours(30), rig.held.files().len()), (vec![], 1), "its disk is there, and it is not");
}

fn covered_by_sink(rig: &Rig) -> Vec<(u64, u64)> {
    rig.held.0.lock().unwrap().values().flat_map(|set| set.stretches().iter().map(|h| (h.start, h.end))).collect()
}

#[test]
fn the_format_is_that_of_the_first_line_for_good() {
    let mut rig = Rig::new();
    rig.append("cri.log", cri("stderr", "F", "x") + "{\"log\":\"no\\n\"}\n");
    rig.append(
        "docker.log",
        "{\"log\":\"1\",\"stream\":\"stdout\",\"time\":\"t\"}\n{\"log\":\"2\\n\",\"stream\":\"stdout\",\"time\":\"t\"}\nbad\n",
    );
    rig.append("raw.log", "raw\n".to_owned() + &cri("stderr", "F", "x"));
    rig.start(LOGS);
    let mut texts = rig.texts();
    texts.sort();
    let raw_cri = cri("stderr", "F", "x").trim_end().to_owned();
    assert_eq!(
        texts,
        [
            raw_cri,
            "bad parse_error=docker".into(),
            "raw".into(),
            "stderr:x".into(),
            "stdout:12".into(),
            "{\"log\":\"no\\n\"} parse_error=cri".into()
        ]
    );
    assert_eq!(rig.stats.malformed.get(), 2);
    // The decision is the same where reading begins in the middle.
    rig.append("raw.log", cri("stderr", "F", "x"));
    rig.start(LOGS);
    assert_eq!(rig.texts(), [cri("stderr", "F", "x").trim_end()]);
}

#[test]
fn records_of_several_lines_wait_for_their_time_and_not_longer() {
    let mut rig = Rig::new();
    rig.append("a.log", "a\n b\n");
    rig.start(&format!("{LOGS}multiline = {{ mode = \"indent\", timeout_ms = 500, max_lines = 3 }}"));
    assert_eq!(rig.texts(), Vec::<String>::new());
    rig.append("a.log", " c\nd\n");
    rig.now = rig.now.after(Duration::from_millis(100));
    assert_eq!(rig.texts(), ["a\n b\n c"]);
    assert_eq!(rig.pass(1), ["d"]);
    rig.append("a.log", " 1\n 2\n 3\n 4\n");
    assert_eq!(rig.pass(2), [" 1\n 2\n 3", " 4"]);
}

#[test]
fn a_new_sink_starts_where_the_others_are_and_one_that_holds_nothing_with_the_first_line() {
    let mut rig = Rig::new();
    rig.sinks = SinkSet::first(3);
    rig.append("a.log", "1\n2\n");
    rig.append("b.log", "nobody\n");
    rig.start(LOGS);
    let all = rig.drain();
    let of_a = all.iter().find(|got| got.records.len() == 2).unwrap();
    rig.held.hold(SinkSet::only(0), &of_a.covers);
    rig.append("a.log", "3\n");
    rig.new_sinks = SinkSet::only(2);
    rig.start(LOGS);
    let chunks = rig.drain();
    let for_sink = |sink: usize| -> Vec<&str> {
        let mut texts: Vec<&str> =
            chunks.iter().filter(|got| got.needs.contains(sink)).flat_map(|got| got.records.iter().map(|r| &*r.2)).collect();
        texts.sort_unstable();
        texts
    };
    assert_eq!(for_sink(0), ["3", "nobody"]);
    assert_eq!(for_sink(1), ["1", "2", "3", "nobody"]);
    assert_eq!(for_sink(2), ["3", "nobody"]);
    // It is told so, that it holds on to it when it is no longer new.
    let told = chunks.iter().find(|got| got.records.is_empty()).unwrap();
    assert_eq!((told.needs, told.covers[0].end), (SinkSet::only(2), 4));
    for chunk in &chunks {
        rig.held.hold(chunk.needs, &chunk.covers);
    }
    rig.new_sinks = SinkSet::default();
    rig.start(LOGS);
    assert_eq!(rig.texts(), Vec::<String>::new());
}

#[test]
fn a_busy_file_does_not_keep_the_others_waiting() {
    let mut rig = Rig::new();
    rig.block_bytes = 1024;
    rig.append("busy.log", "x\n".repeat(100_000));
    rig.append("quiet.log", "hello\n");
    rig.start(LOGS);
    let first: Vec<_> = (0..3).filter_map(|_| rig.read()).flat_map(|got| got.records).map(|(_, _, text)| text).collect();
    assert!(first.contains(&"hello".to_owned()));
}

#[test]
fn an_unreadable_file_is_reported_once_and_read_when_it_can_be() {
    use std::os::unix::fs::PermissionsExt;
    let mut rig = Rig::new();
    rig.append("a.log", "1\n");
    fs::set_permissions(rig.path("a.log"), fs::Permissions::from_mode(0o000)).unwrap();
    if fs::File::open(rig.path("a.log")).is_ok() {
        return; // Root reads everything.
    }
    rig.start(LOGS);
    assert_eq!(rig.pass(25), Vec::<String>::new());
    assert_eq!(rig.stats.failed_files.get(), 1);
    fs::set_permissions(rig.path("a.log"), fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(rig.pass(15), ["1"]);
}

#[test]
fn a_file_that_another_source_reads_is_refused() {
    let mut rig = Rig::new();
    rig.append("a.log", "1\n");
    std::os::unix::fs::symlink(rig.path("a.log"), rig.path("link.txt")).unwrap();
    rig.start(LOGS);
    assert_eq!(rig.pass(1), ["1"]);
    let mut other = Rig::new();
    (other.name, other.claims) = ("other", rig.claims.clone());
    other.start(&format!("type = \"file\"\ninclude = [{:?}]", rig.path("*.txt")));
    assert_eq!(other.pass(25), Vec::<String>::new());
    assert_eq!(other.stats.refused_files.overlap.get(), 1, "reported once");
    // Another reader of the same source is no other source, and the last one lets go.
    let fork = rig.tailer.as_ref().unwrap().fork(SinkSet::first(1));
    rig.tailer = None;
    assert_eq!(other.pass(12), Vec::<String>::new());
    drop(fork);
    assert_eq!(other.pass(12), ["1"]);
}
