#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]
//! Journals that a real journald wrote, against what `journalctl` shows of them.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};
use skidder_pipeline::batch::Batch;
use skidder_tests::chance::{Chance, seed};
use skidder_tests::journal::Journal as Daemon;
use skidder_tests::workspace;

use super::super::testing::{Fake, context};
use super::*;

type Record = Map<String, Value>;

fn source(context: SourceContext, options: &str, journals: &Path) -> Box<dyn Source> {
    let config: JournaldConfig = toml::from_str(&format!("journal_directory = {journals:?}\n{options}")).unwrap();
    assert!(config.check().is_empty());
    config.build(context).unwrap()
}

/// Reads until the source ends, or has given `most` chunks; `taken` is told of each.
fn read(source: &mut dyn Source, most: usize, mut taken: impl FnMut(&Chunk)) -> Vec<Record> {
    let mut chunk = Chunk { batch: Batch::new(Shared::empty(), FileKey([0; 16])), covers: vec![], needs: SinkSet(0), bytes_read: 0 };
    let mut records = Vec::new();
    for _ in 0..most {
        match source.read(&mut chunk, Nanos(0)) {
            Read::Chunk => {
                let json = chunk.batch.records().map(|record| {
                    let mut text = Vec::new();
                    record.write_json(&mut text);
                    serde_json::from_slice::<Record>(&text).unwrap()
                });
                records.extend(json);
                taken(&chunk);
            }
            Read::Idle { .. } => break,
            Read::End => break,
        }
    }
    records
}

fn all(journals: &Path, options: &str) -> Vec<Record> {
    let state = tempfile::tempdir().unwrap();
    let context = SourceContext { once: true, ..context(state.path()) };
    read(&mut *source(context, options, journals), usize::MAX, |_| {})
}

fn messages(records: &[Record]) -> Vec<&str> {
    records.iter().filter_map(|record| record.get("message")?.as_str()).collect()
}

/// What `journalctl` makes of bytes that are no text, as text.
fn as_text(value: &Value) -> Value {
    match value {
        Value::Array(items) if items.iter().all(Value::is_number) => {
            let bytes: Vec<u8> = items.iter().map(|byte| byte.as_u64().unwrap() as u8).collect();
            String::from_utf8_lossy(&bytes).into_owned().into()
        }
        Value::Array(items) => items.iter().map(as_text).collect(),
        other => other.clone(),
    }
}

/// Entries of all kinds.
fn write_all_kinds(daemon: &Daemon, round: u32) {
    let long = "long ".repeat(10_000);
    for number in 0..600 {
        let message = format!("message {round} {number}");
        let priority = (number % 9).to_string();
        daemon.send(&[("MESSAGE", message.as_bytes()), ("PRIORITY", priority.as_bytes()), ("SYSLOG_IDENTIFIER", b"test")]).unwrap();
    }
    let kinds: [&[(&str, &[u8])]; 8] = [
        &[("MESSAGE", b"several\nlines\n\tand \"quotes\"")],
        &[("MESSAGE", b"no \xff text"), ("BINARY", b"\x00\x01\xfe")],
        &[("MESSAGE", b""), ("EMPTY", b"")],
        &[("NO_MESSAGE", b"at all")],
        &[("MESSAGE", b"again"), ("TWICE", b"1"), ("TWICE", b"2"), ("TWICE", b"1")],
        &[("MESSAGE", long.as_bytes()), ("LONG", long.as_bytes())],
        &[("MESSAGE", "Снова и 再び".as_bytes()), ("PRIORITY", b"high")],
        &[("MESSAGE", b"an = in it"), ("EQUALS", b"a=b=c")],
    ];
    kinds.iter().for_each(|fields| daemon.send(fields).unwrap());
    daemon.say(&format!("last of {round}")).unwrap();
}

#[test]
fn entries_of_all_kinds_are_what_journalctl_shows() {
    // The compact form with zstd is what journald writes today; the other ones it wrote before, or where it is told so.
    let forms =
        [("yes", "COMPACT", "1"), ("yes", "COMPACT", "0"), ("yes", "KEYED_HASH", "0"), ("no", "COMPACT", "1"), ("no", "COMPACT", "0")];
    for (compress, name, value) in forms {
        let variables = [(&*format!("SYSTEMD_JOURNAL_{name}"), value)];
        let daemon = Daemon::start(&format!("Compress={compress}"), &variables).unwrap();
        write_all_kinds(&daemon, 1);
        daemon.wait_for("SYSLOG_IDENTIFIER=test", 601).unwrap();
        daemon.rotate().unwrap();
        write_all_kinds(&daemon, 2);
        daemon.wait_for("SYSLOG_IDENTIFIER=test", 1202).unwrap();
        let ours = all(&daemon.directory(), "");
        let theirs = daemon.journalctl(&["--output=json", "--all", "--quiet"]).unwrap();
        let theirs: Vec<Record> =
            theirs.split(|b| *b == b'\n').filter(|line| !line.is_empty()).map(|line| serde_json::from_slice(line).unwrap()).collect();
        assert_eq!(ours.len(), theirs.len(), "{variables:?}");
        assert!(ours.len() > 1200);
        assert_eq!(all(&daemon.directory(), "current_boot_only = true").len(), ours.len(), "all of it is of this boot");
        for (ours, theirs) in ours.iter().zip(&theirs) {
            let fields = |record: &Record| -> Record {
                let kept = record.iter().filter(|(name, _)| !name.starts_with("__") && !["MESSAGE", "_BOOT_ID"].contains(&name.as_str()));
                kept.map(|(name, value)| (name.clone(), as_text(value))).collect()
            };
            assert_eq!(Value::Object(fields(ours["journald"].as_object().unwrap())), Value::Object(fields(theirs)), "{variables:?}");
            assert_eq!(ours.get("message"), theirs.get("MESSAGE").map(as_text).as_ref());
            assert_eq!(ours["boot_id"], theirs["_BOOT_ID"]);
            assert_eq!(ours["host"], theirs["_HOSTNAME"]);
            assert_eq!(Some(ours["pid"].to_string().as_str()), theirs["_PID"].as_str());
            let sent = theirs.get("_SOURCE_REALTIME_TIMESTAMP").unwrap_or(&theirs["__REALTIME_TIMESTAMP"]).as_str().unwrap();
            let time: jiff::Timestamp = ours["timestamp"].as_str().unwrap().parse().unwrap();
            assert_eq!(time.as_microsecond().to_string(), sent);
            let level = theirs.get("PRIORITY").and_then(|priority| priority.as_str()?.parse::<usize>().ok());
            let words = ["emerg", "alert", "crit", "error", "warning", "notice", "info", "debug"];
            assert_eq!(ours.get("level").and_then(Value::as_str), level.and_then(|level| words.get(level).copied()));
        }
    }
}

/// Journals whose long fields have each compression that journald was ever built to use, and that today's does not unless it is
/// told to: tests/corpus/journal/make.sh.
#[test]
fn fields_that_are_compressed_in_older_ways_are_read_or_left_out() {
    // HEADER_INCOMPATIBLE_COMPRESSED_XZ and _LZ4 of systemd's journal-def.h.
    for (codec, flag) in [("xz", 1 << 0), ("lz4", 1 << 1)] {
        let packed = std::fs::File::open(workspace::root().join(format!("tests/corpus/journal/{codec}.journal.gz"))).unwrap();
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("system.journal");
        std::io::copy(&mut flate2::read::GzDecoder::new(packed), &mut std::fs::File::create(&path).unwrap()).unwrap();
        assert_ne!(std::fs::read(&path).unwrap()[12] & flag, 0, "{codec}: not what the test is for");
        let records = all(place.path(), "include_matches = { SYSLOG_IDENTIFIER = [\"test\"] }");
        assert_eq!(messages(&records), (0..20).map(|number| format!("message {number}")).collect::<Vec<_>>(), "{codec}");
        for (number, record) in records.iter().enumerate() {
            let long = format!("long {number} and on ").repeat(100 * (number + 1));
            assert_eq!(record["journald"].get("LONG"), (codec == "lz4").then(|| Value::from(long)).as_ref(), "{codec}");
            assert_eq!(record["host"], "node-a");
        }
    }
}

#[test]
fn a_damaged_journal_costs_entries_and_never_the_agent() {
    let daemon = Daemon::start("", &[]).unwrap();
    write_all_kinds(&daemon, 1);
    daemon.wait_for("SYSLOG_IDENTIFIER=test", 601).unwrap();
    daemon.rotate().unwrap();
    let archived = daemon.files().into_iter().find(|path| path.to_string_lossy().contains('@')).unwrap();
    let whole = std::fs::read(archived).unwrap();
    // Most of a journal is room for more: what is written is at its beginning, behind the tables of hashes.
    let used = whole.iter().rposition(|byte| *byte != 0).unwrap();
    let seed = seed();
    eprintln!("seed {seed}: repeat with SKIDDER_SEED={seed}");
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("system@0.journal");
    let (mut fewer, mut none) = (0, 0);
    for round in 0..100 {
        let mut chance = Chance::of(seed, 1, round);
        let mut bytes = whole.clone();
        for _ in 0..1 + chance.below(40) {
            let at = match chance.below(3) {
                0 => chance.below(256),
                _ => chance.below(used as u64),
            } as usize;
            bytes[at] = chance.next() as u8;
        }
        if chance.below(4) == 0 {
            bytes.truncate(chance.below(used as u64) as usize);
        }
        std::fs::write(&path, &bytes).unwrap();
        let found = all(place.path(), "").len();
        (fewer, none) = (fewer + usize::from(found < 609), none + usize::from(found == 0));
        assert!(found < 100_000, "{found}");
    }
    assert!(fewer > 10 && none < 100, "{fewer} {none}");
}

#[test]
fn every_sink_goes_on_where_it_stood() {
    let daemon = Daemon::start("", &[]).unwrap();
    for number in 0..20_000 {
        daemon.say(&format!("{number} {}", "x".repeat(40))).unwrap();
    }
    daemon.wait_for("SYSLOG_IDENTIFIER=test", 20_000).unwrap();
    let (state, held) = (tempfile::tempdir().unwrap(), Arc::new(Fake::default()));
    let sinks = SinkSet::first(2);
    let fresh = |sinks: SinkSet| SourceContext { sinks, held: held.clone(), ..context(state.path()) };
    let ours = "include_matches = { SYSLOG_IDENTIFIER = ['test'] }";
    // Both get a chunk, then one of them another.
    let mut first = source(fresh(sinks), ours, &daemon.directory());
    let both = read(&mut *first, 1, |chunk| held.hold(sinks, &chunk.covers));
    let one = read(&mut *first, 1, |chunk| held.hold(SinkSet::only(0), &chunk.covers));
    assert!(both.len() > 100 && one.len() > 100, "{} {}", both.len(), one.len());
    drop(first);
    // After a restart the other gets what it lacks, and both get the rest.
    let mut needs = Vec::new();
    let mut again = source(fresh(sinks), ours, &daemon.directory());
    let rest = read(&mut *again, usize::MAX, |chunk| {
        needs.push((chunk.needs, chunk.batch.len()));
        held.hold(chunk.needs, &chunk.covers);
    });
    let lacking: usize = needs.iter().filter(|(needs, _)| *needs == SinkSet::only(1)).map(|(_, len)| len).sum();
    assert_eq!(lacking, one.len());
    assert_eq!(both.len() + rest.len(), 20_000);
    assert_eq!(messages(&rest)[0], messages(&one)[0]);
    // Who fell behind gets a reader of its own, which has all of it.
    daemon.say("later").unwrap();
    let behind = SinkSet::only(1);
    let mut fork = again.fork(behind).unwrap();
    again.restrict(SinkSet::only(0));
    daemon.wait_for("SYSLOG_IDENTIFIER=test", 20_001).unwrap();
    for (reader, sink) in [(&mut again, SinkSet::only(0)), (&mut fork, behind)] {
        let got = read(&mut **reader, usize::MAX, |chunk| {
            assert_eq!(chunk.needs, sink);
            held.hold(chunk.needs, &chunk.covers);
        });
        assert_eq!(messages(&got), ["later"]);
    }
    // Where nothing is known of positions, all of it comes.
    held.0.lock().unwrap().clear();
    assert_eq!(read(&mut *source(fresh(sinks), ours, &daemon.directory()), usize::MAX, |_| {}).len(), 20_001);
}

#[test]
fn reading_from_the_end_leaves_out_what_was_there_at_the_first_start_only() {
    let daemon = Daemon::start("", &[]).unwrap();
    daemon.say("before").unwrap();
    daemon.wait_for("SYSLOG_IDENTIFIER=test", 1).unwrap();
    let (state, held) = (tempfile::tempdir().unwrap(), Arc::new(Fake::default()));
    let options = "read_from = 'end'\ninclude_matches = { SYSLOG_IDENTIFIER = ['test'] }";
    let start = || source(SourceContext { held: held.clone(), ..context(state.path()) }, options, &daemon.directory());
    // It dies before anything was written down but which journals there are.
    assert!(read(&mut *start(), 1, |_| {}).is_empty());
    // A journal that is begun while it does not run is read from its beginning.
    daemon.say("while away").unwrap();
    daemon.wait_for("SYSLOG_IDENTIFIER=test", 2).unwrap();
    daemon.rotate().unwrap();
    daemon.say("after the rotation").unwrap();
    daemon.wait_for("SYSLOG_IDENTIFIER=test", 3).unwrap();
    let got = read(&mut *start(), usize::MAX, |chunk| held.hold(chunk.needs, &chunk.covers));
    assert_eq!(messages(&got), ["while away", "after the rotation"]);
    assert!(read(&mut *start(), usize::MAX, |_| {}).is_empty());
}

#[test]
fn what_is_removed_before_it_is_read_is_counted() {
    let daemon = Daemon::start("", &[]).unwrap();
    let (state, held) = (tempfile::tempdir().unwrap(), Arc::new(Fake::default()));
    let ours = "include_matches = { SYSLOG_IDENTIFIER = ['test'] }";
    let stats: Arc<skidder_pipeline::stats::SourceStats> = Arc::default();
    let start = |options: &str| {
        let context = SourceContext { held: held.clone(), stats: stats.clone(), ..context(state.path()) };
        source(context, &format!("{ours}\n{options}"), &daemon.directory())
    };
    for number in 0..10 {
        daemon.say(&format!("read {number}")).unwrap();
    }
    daemon.wait_for("SYSLOG_IDENTIFIER=test", 10).unwrap();
    let got = read(&mut *start(""), usize::MAX, |chunk| held.hold(chunk.needs, &chunk.covers));
    assert_eq!(got.len(), 10);
    // Three times while it does not run a journal is begun; then all but the last are removed.
    for round in 0..3 {
        for number in 0..7 {
            daemon.say(&format!("{round} {number}")).unwrap();
        }
        daemon.wait_for("SYSLOG_IDENTIFIER=test", 10 + (round + 1) * 7).unwrap();
        daemon.rotate().unwrap();
    }
    daemon.say("last").unwrap();
    daemon.wait_for("SYSLOG_IDENTIFIER=test", 32).unwrap();
    let in_all: usize = daemon.journalctl(&["--output=json", "--quiet"]).unwrap().iter().filter(|byte| **byte == b'\n').count();
    let archived: Vec<_> = daemon.files().into_iter().filter(|path| path.to_string_lossy().contains('@')).collect();
    assert_eq!(archived.len(), 3);
    archived.iter().for_each(|path| std::fs::remove_file(path).unwrap());
    let left: usize = daemon.journalctl(&["--output=json", "--quiet"]).unwrap().iter().filter(|byte| **byte == b'\n').count();
    let read_before: u64 = held.0.lock().unwrap().values().map(|set| set.high_mark()).sum();
    let mut second = start("");
    let got = read(&mut *second, usize::MAX, |chunk| held.hold(chunk.needs, &chunk.covers));
    assert_eq!(messages(&got), ["last"]);
    assert_eq!(stats.lost_records.get(), in_all as u64 - left as u64 - read_before);
    assert!(stats.lost_records.get() >= 21);
    // What is removed while it runs is read to its end all the same, unless it may not hold it.
    daemon.say("in time").unwrap();
    daemon.wait_for("SYSLOG_IDENTIFIER=test", 2).unwrap();
    daemon.rotate().unwrap();
    let gone = daemon.files().into_iter().find(|path| path.to_string_lossy().contains('@')).unwrap();
    std::fs::remove_file(gone).unwrap();
    let before = stats.lost_records.get();
    let got = read(&mut *second, usize::MAX, |chunk| held.hold(chunk.needs, &chunk.covers));
    assert_eq!((messages(&got), stats.lost_records.get()), (vec!["in time"], before));
}

#[test]
fn units_and_fields_say_what_is_wanted() {
    let wanted = |options: &str| {
        let config: JournaldConfig = toml::from_str(options).unwrap();
        Wanted {
            boot: None,
            include_units: units(&config.include_units).unwrap(),
            exclude_units: units(&config.exclude_units).unwrap(),
            include_matches: config.include_matches,
            exclude_matches: config.exclude_matches,
            own_unit: Some("skidder.service".into()),
        }
    };
    let entry = |pairs: &[(&str, &str)]| -> Vec<Field> { pairs.iter().map(|(name, value)| Field::of(name, value)).collect() };
    let ssh = entry(&[("_SYSTEMD_UNIT", "ssh.service"), ("PRIORITY", "6"), ("_TRANSPORT", "syslog")]);
    let of_ssh = entry(&[("_PID", "1"), ("_SYSTEMD_UNIT", "init.scope"), ("UNIT", "ssh.service")]);
    let kernel = entry(&[("_TRANSPORT", "kernel"), ("PRIORITY", "3")]);
    let own = entry(&[("_SYSTEMD_UNIT", "skidder.service")]);
    let another_boot = Wanted { boot: Some([1; 16]), ..wanted("") };
    assert!(!another_boot.takes_boot(&[2; 16]) && another_boot.takes_boot(&[1; 16]) && wanted("").takes_boot(&[2; 16]));
    // A program may claim to be what it likes in fields without the underscore.
    let pretender = entry(&[("_PID", "77"), ("UNIT", "ssh.service"), ("_SYSTEMD_UNIT", "bad.service")]);
    for (options, expected) in [
        ("", [true, true, true, false, true]),
        ("include_units = ['ssh']", [true, true, false, false, false]),
        ("include_units = ['ss*.service', 'skidder']", [true, true, false, false, false]),
        ("exclude_units = ['ssh.service']", [false, false, true, false, true]),
        ("include_matches = { _TRANSPORT = ['kernel', 'audit'] }", [false, false, true, false, false]),
        ("include_matches = { PRIORITY = ['6'], _TRANSPORT = ['syslog'] }", [true, false, false, false, false]),
        ("exclude_matches = { PRIORITY = ['3'], UNIT = ['ssh.service'] }", [true, false, false, false, false]),
    ] {
        let wanted = wanted(options);
        assert_eq!([&ssh, &of_ssh, &kernel, &own, &pretender].map(|entry| wanted.takes(entry)), expected, "{options}");
    }
}

#[test]
fn a_long_message_is_cut_where_redaction_still_sees_what_the_cut_goes_through() {
    let daemon = Daemon::start("", &[]).unwrap();
    let text = format!("{} anna.lindqvist@example.org {}", "ä".repeat(200), "y".repeat(90_000));
    daemon.send(&[("MESSAGE", text.as_bytes()), ("SYSLOG_IDENTIFIER", b"test"), ("HUGE", "z".repeat(70_000).as_bytes())]).unwrap();
    daemon.wait_for("SYSLOG_IDENTIFIER=test", 1).unwrap();
    let state = tempfile::tempdir().unwrap();
    let options = "max_record_bytes = 411\ninclude_matches = { SYSLOG_IDENTIFIER = ['test'] }";
    let mut source = source(SourceContext { once: true, ..context(state.path()) }, options, &daemon.directory());
    let mut around = String::new();
    let got = read(&mut *source, usize::MAX, |chunk| {
        let mut batch = chunk.batch.clone();
        let cut = batch.cuts()[0];
        around = String::from_utf8_lossy(cut.around.of(batch.bytes())).into_owned();
    });
    let record = &got[0];
    assert_eq!(record["message"], text[..411]);
    assert_eq!((&record["truncated"], &record["original_bytes"]), (&true.into(), &text.len().into()));
    assert!(around.contains("anna.lindqvist@example.org"));
    assert_eq!(record["journald"].get("HUGE"), None);
}
