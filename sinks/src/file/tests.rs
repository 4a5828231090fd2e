#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::io::Read;
use std::path::Path;

use serde_json::json;
use skidder_pipeline::sink::{Note, Transport};

use super::*;
use crate::testing::{batch, encoded, frame, frames_with};

fn build(table: serde_json::Value, state_dir: Option<&Path>) -> Result<SinkParts, Vec<Problem>> {
    let context = SinkContext { state_dir: state_dir.map(Into::into), ..SinkContext::default() };
    serde_json::from_value::<FileConfig>(table).unwrap().build(&context)
}

/// A directory with `out` for files and `state` for the journal, and a run of the agent on it.
struct Run {
    transport: Arc<dyn Transport>,
    notes: Vec<Note>,
}

fn start(dir: &Path, more: serde_json::Value, notes: &[Note]) -> Run {
    let mut table = json!({"path": dir.join("out/{{ p }}.log")});
    table.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let transport = build(table, Some(&dir.join("state"))).unwrap().transport;
    transport.recover(notes).unwrap();
    Run { transport, notes: notes.to_vec() }
}

impl Run {
    /// Writes a frame and keeps its note, as the buffer does with the acknowledgement.
    async fn write(&mut self, to: &str, body: &str) {
        let note = self.write_only(to, body).await;
        self.notes.retain(|old| old.key != note.key);
        self.notes.push(note);
    }

    /// Writes a frame; the kill comes before the acknowledgement.
    async fn write_only(&self, to: &str, body: &str) -> Note {
        self.transport.send(&frame(to, body, 1)).await.unwrap().note.unwrap()
    }
}

fn text(dir: &Path, name: &str) -> String {
    fs::read_to_string(dir.join("out").join(name)).unwrap_or_else(|e| format!("{:?}", e.kind()))
}

#[test]
fn records_are_lines_of_json_in_files_of_their_own() {
    let parts = build(json!({"path": "/logs/{{ ns }}/{{ ns }}-%Y.json"}), None).unwrap();
    let records = [
        r#"{"ns":"a","x":{"y":
        1}}"#,
        r#"{"ns":"../../etc/passwd"}"#,
        r#"{"ns":".hidden","timestamp":"2026-10-02T00:00:00Z"}"#,
        r#"{"ns":""}"#,
        "{}",
    ];
    let bodies = encoded(parts.sink.encoder(), &batch(r#"{"env":"e"}"#, &records));
    let (paths, bodies): (Vec<_>, Vec<_>) = bodies.into_iter().unzip();
    assert_eq!(
        paths,
        ["a/a-1970.json", "_._.._etc_passwd/_._.._etc_passwd-1970.json", "_hidden/_hidden-2026.json", "missing/missing-1970.json"]
    );
    assert_eq!(bodies[0], "{\"env\":\"e\",\"ns\":\"a\",\"x\":{\"y\":         1}}\n");
    assert_eq!(bodies[3].lines().count(), 2);
    assert_eq!(parts.sink.show(bodies[3].as_bytes(), 1), b"{\"env\":\"e\"}");
    assert_eq!(parts.sink.cut(bodies[3].as_bytes(), &[1]), b"{\"env\":\"e\"}\n");
}

#[test]
fn a_schema_gives_lines_its_names_and_the_path_none() {
    let path = "/logs/{{ kubernetes.pod_name }}-{{ level }}.json";
    let written = |schema: &str| {
        let parts = build(json!({"path": path, "schema": schema}), None).unwrap();
        let shared = r#"{"kubernetes":{"pod_name":"web"}}"#;
        let (path, text) = encoded(parts.sink.encoder(), &batch(shared, &[r#"{"level":"info","message":"m"}"#])).remove(0);
        (path, serde_json::from_str::<serde_json::Value>(&text).unwrap())
    };
    let to = || "web-info.json".to_owned();
    assert_eq!(written("vector"), (to(), json!({"kubernetes": {"pod_name": "web"}, "level": "info", "message": "m"})));
    assert_eq!(written("otel"), (to(), json!({"k8s.pod.name": "web", "service.name": "web", "severity_text": "info", "body": "m"})));
    let (path, ecs) = written("ecs");
    assert_eq!((path, &ecs["kubernetes.pod.name"], &ecs["log.level"]), (to(), &json!("web"), &json!("info")));
}

#[test]
fn every_mistake_is_found() {
    let problems = |table| {
        let problems = build(table, None).err().unwrap_or_default();
        problems.iter().map(|p| p.path.join(".")).collect::<Vec<_>>()
    };
    for path in ["out.json", "./{{ a }}.json", "/x.json", "/x/{{ a }}{{ b }}", "a/b/c-%Y.json"] {
        assert_eq!(problems(json!({"path": path})), [""; 0], "{path}");
    }
    for path in ["{{ a }}/x.json", "%Y.json", "", "/x/", "/x/{{ a }}/", "/x/{{ a }}/../y", "/x/{{ a", "/x/\n", "x-{{ a }}/y"] {
        assert_eq!(problems(json!({"path": path})), ["path"], "{path:?}");
    }
    assert_eq!(
        problems(json!({"path": "x", "max_bytes": 0, "max_files": 0, "batch": {"max_events": 0}})),
        ["batch.max_events", "max_bytes", "max_files"]
    );
}

#[tokio::test]
async fn frames_are_appended_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let run = start(dir.path(), json!({"compression": "gzip"}), &[]);
    for body in ["{\"a\":1}\n", "{\"a\":2}\n"] {
        let frame = frames_with(Compression::Gzip, |out| out.write("x/y.log", body.as_bytes(), 1)).remove(0);
        run.transport.send(&frame).await.unwrap();
    }
    let mut text = String::new();
    let file = fs::File::open(dir.path().join("out/x/y.log")).unwrap();
    flate2::read::MultiGzDecoder::new(file).read_to_string(&mut text).unwrap();
    assert_eq!(text, "{\"a\":1}\n{\"a\":2}\n");
}

#[tokio::test]
async fn files_are_renamed_when_they_are_full() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = start(dir.path(), json!({"max_bytes": 5, "max_files": 2}), &[]);
    for body in ["1\n", "2\n", "3\n", "4\n", "5\n", "6\n", "7\n", "longer than the bound\n", "8\n"] {
        run.write("a.log", body).await;
    }
    assert_eq!(
        ["a.log", "a.log.1", "a.log.2", "a.log.3"].map(|name| text(dir.path(), name)),
        ["8\n", "longer than the bound\n", "7\n", "NotFound"]
    );
}

#[tokio::test]
async fn what_was_not_acknowledged_is_cut_off_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = start(dir.path(), json!({}), &[]);
    run.write("a.log", "1\n").await;
    run.write("b/b.log", "1\n").await;
    run.write("a.log", "2\n").await;
    run.write_only("a.log", "3\n").await;

    let mut run = start(dir.path(), json!({}), &run.notes);
    assert_eq!([text(dir.path(), "a.log"), text(dir.path(), "b/b.log")], ["1\n2\n", "1\n"]);
    run.write("a.log", "3\n").await;
    run.write("a.log", "4\n").await;
    drop(start(dir.path(), json!({}), &run.notes));
    assert_eq!(text(dir.path(), "a.log"), "1\n2\n3\n4\n");
}

#[tokio::test]
async fn a_file_of_which_nothing_was_acknowledged_is_emptied() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..3 {
        let run = start(dir.path(), json!({}), &[]);
        assert!(matches!(&*text(dir.path(), "a.log"), "" | "NotFound"));
        run.write_only("a.log", "1\n").await;
        run.write_only("a.log", "2\n").await;
    }
    let mut run = start(dir.path(), json!({}), &[]);
    run.write("a.log", "1\n").await;
    drop(start(dir.path(), json!({}), &run.notes));
    assert_eq!(text(dir.path(), "a.log"), "1\n");
}

#[tokio::test]
async fn what_others_wrote_is_appended_to_and_never_cut() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("out")).unwrap();
    fs::write(dir.path().join("out/a.log"), "theirs\n").unwrap();
    let run = start(dir.path(), json!({}), &[]);
    assert_eq!(text(dir.path(), "a.log"), "theirs\n");
    run.write_only("a.log", "1\n").await;
    assert_eq!(text(dir.path(), "a.log"), "theirs\n1\n");
    let mut run = start(dir.path(), json!({}), &[]);
    assert_eq!(text(dir.path(), "a.log"), "theirs\n");
    run.write("a.log", "1\n").await;

    // Someone puts another file in its place while the agent is down, and one while it runs.
    fs::rename(dir.path().join("out/a.log"), dir.path().join("out/mine.log")).unwrap();
    fs::write(dir.path().join("out/a.log"), "new\n").unwrap();
    let mut run = start(dir.path(), json!({}), &run.notes);
    assert_eq!(text(dir.path(), "a.log"), "new\n");
    run.write("a.log", "2\n").await;
    fs::remove_file(dir.path().join("out/a.log")).unwrap();
    run.write("a.log", "3\n").await;
    assert_eq!(["a.log", "mine.log"].map(|name| text(dir.path(), name)), ["3\n", "theirs\n1\n"]);
}

#[tokio::test]
async fn rotations_that_were_not_acknowledged_are_undone_in_their_contents() {
    let dir = tempfile::tempdir().unwrap();
    let full = json!({"max_bytes": 4});
    let mut run = start(dir.path(), full.clone(), &[]);
    run.write("a.log", "1\n").await;
    // Acknowledgements may lag: everything from here on is unacknowledged, over two rotations.
    for body in ["2\n", "3\n", "4\n", "5\n"] {
        run.write_only("a.log", body).await;
    }
    assert_eq!(["a.log", "a.log.1", "a.log.2"].map(|name| text(dir.path(), name)), ["5\n", "3\n4\n", "1\n2\n"]);
    let mut run = start(dir.path(), full.clone(), &run.notes);
    assert_eq!(["a.log", "a.log.1", "a.log.2"].map(|name| text(dir.path(), name)), ["", "", "1\n"]);
    for body in ["2\n", "3\n", "4\n"] {
        run.write("a.log", body).await;
    }
    // What was acknowledged, in whatever file, is left.
    let run = start(dir.path(), full, &run.notes);
    let all = ["a.log.3", "a.log.2", "a.log.1", "a.log"].map(|name| text(dir.path(), name)).concat().replace("NotFound", "");
    assert_eq!(all, "1\n2\n3\n4\n");
    drop(run);
}

#[tokio::test]
async fn a_file_that_was_emptied_while_it_was_written_to_is_begun_anew() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = start(dir.path(), json!({}), &[]);
    run.write("a.log", "1\n2\n").await;
    fs::OpenOptions::new().write(true).truncate(true).open(dir.path().join("out/a.log")).unwrap();
    for _ in 0..3 {
        run.write_only("a.log", "3\n").await;
    }
    let mut run = start(dir.path(), json!({}), &run.notes);
    assert_eq!(text(dir.path(), "a.log"), "", "nothing of what is in it was acknowledged");
    run.write("a.log", "3\n").await;
    drop(start(dir.path(), json!({}), &run.notes));
    assert_eq!(text(dir.path(), "a.log"), "3\n");
}

#[tokio::test]
async fn numbers_of_births_go_on_where_the_journal_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = start(dir.path(), json!({}), &[]);
    for name in ["a.log", "b.log", "c.log"] {
        run.write(name, "1\n").await;
    }
    fs::remove_dir_all(dir.path().join("state")).unwrap();
    let run = start(dir.path(), json!({"max_bytes": 1}), &run.notes);
    run.write_only("c.log", "2\n").await;
    drop(start(dir.path(), json!({}), &run.notes));
    assert_eq!(["c.log", "c.log.1"].map(|name| text(dir.path(), name)), ["", "1\n"]);
}

#[tokio::test]
async fn a_file_shorter_than_noted_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = start(dir.path(), json!({}), &[]);
    run.write("a.log", "1\n2\n").await;
    fs::OpenOptions::new().write(true).open(dir.path().join("out/a.log")).unwrap().set_len(1).unwrap();
    let mut run = start(dir.path(), json!({}), &run.notes);
    assert_eq!(text(dir.path(), "a.log"), "1");
    run.write("a.log", "\n").await;
    assert_eq!(text(dir.path(), "a.log"), "1\n");
}

#[tokio::test]
async fn notes_and_journals_that_make_no_sense_are_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = start(dir.path(), json!({}), &[]);
    run.write("a.log", "1\n").await;
    fs::write(
        dir.path().join("state/files.births"),
        b"\n{\"path\":\"a.l\xff\n{}\n{\"n\":9,\"path\":\"../../x\",\"dev\":1,\"ino\":1,\"len\":0}\n{\"path\":\"torn",
    )
    .unwrap();
    let mut notes = run.notes.clone();
    notes.push(Note { key: "b.log".into(), value: vec![1, 2, 3] });
    notes.push(Note { key: "../a.log".into(), value: vec![0; 32] });
    let run = start(dir.path(), json!({}), &notes);
    run.write_only("c.log", "1\n").await;
    drop(start(dir.path(), json!({}), &notes));
    assert_eq!(["a.log", "c.log"].map(|name| text(dir.path(), name)), ["1\n", ""], "the journal goes on after a torn line");
}

#[tokio::test]
async fn no_link_and_nothing_but_a_plain_file_is_written_through() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    fs::create_dir_all(out.join("d")).unwrap();
    fs::write(dir.path().join("secret"), "keep\n").unwrap();
    std::os::unix::fs::symlink(dir.path().join("secret"), out.join("link.log")).unwrap();
    std::os::unix::fs::symlink(dir.path(), out.join("dir")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, out.join("pipe.log"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let run = start(dir.path(), json!({}), &[]);
    for to in ["link.log", "dir/secret", "pipe.log", "d", "d/../../secret", ".."] {
        assert!(run.transport.send(&frame(to, "1\n", 1)).await.is_err(), "{to}");
    }
    assert_eq!(fs::read_to_string(dir.path().join("secret")).unwrap(), "keep\n");
    run.write_only("d/x.log", "1\n").await;
}

#[tokio::test]
async fn names_are_cut_to_what_file_systems_take_and_files_are_closed_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = start(dir.path(), json!({}), &[]);
    run.write(&format!(".//{}/./{}", "x".repeat(300), "é".repeat(200)), "1\n").await;
    assert_eq!(run.notes[0].key, format!("{}/{}", "x".repeat(240), "é".repeat(120)));
    let before = fs::read_dir("/proc/self/fd").unwrap().count();
    for round in 0..2 {
        for n in 0..100 {
            run.write(&format!("{n}.log"), &format!("{round}\n")).await;
        }
    }
    assert!(fs::read_dir("/proc/self/fd").unwrap().count() < before + 180, "a directory and a file each, of 64");
    assert_eq!(text(dir.path(), "7.log"), "0\n1\n");
}

#[tokio::test]
async fn a_write_that_failed_leaves_no_part_behind() {
    // A directory in the way of a rotation; then it is gone.
    let dir = tempfile::tempdir().unwrap();
    let mut run = start(dir.path(), json!({"max_bytes": 3, "max_files": 1}), &[]);
    run.write("a.log", "1\n").await;
    fs::create_dir_all(dir.path().join("out/a.log.1/full")).unwrap();
    assert!(run.transport.send(&frame("a.log", "2\n", 1)).await.is_err());
    fs::remove_dir_all(dir.path().join("out/a.log.1")).unwrap();
    run.write("a.log", "2\n").await;
    assert_eq!(["a.log", "a.log.1"].map(|name| text(dir.path(), name)), ["2\n", "1\n"]);
}
