use std::collections::BTreeSet;
use std::fs;

use skidder_pipeline::delivery::dead_letters::{self, Letter as Buried};
use skidder_pipeline::delivery::{Bury, DeadLetterFile};
use skidder_pipeline::frame::BatchId;

use super::*;

fn bury(data_dir: &Path, indices: std::ops::Range<u32>) {
    let letter = |index: u32| Buried {
        unix_nanos: 1_790_928_930_123_456_789,
        batch: BatchId([0xab; 16]),
        index,
        destination: "logs".into(),
        status: 400,
        reason: "no".to_owned(),
        record: format!("{{\"n\":{index}}}").into(),
        body: format!("{{\"n\":{index}}}\n").into(),
    };
    let letters: Vec<Buried> = indices.map(letter).collect();
    DeadLetterFile::new(data_dir, "es", 64 << 20, std::sync::Arc::default()).bury(&letters).unwrap();
}

fn indices(letters: &Shelved) -> Vec<u64> {
    let index = |line| serde_json::from_slice::<serde_json::Value>(&letters.read(line).unwrap()).unwrap()["index"].as_u64().unwrap();
    letters.lines().iter().map(index).collect()
}

#[test]
fn what_a_replay_took_stays_in_order_beside_what_comes_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(files::sinks(dir.path()).unwrap(), [""; 0]);
    bury(dir.path(), 0..3);
    files::take(dir.path(), "es").unwrap();
    bury(dir.path(), 3..5);
    files::take(dir.path(), "es").unwrap();
    bury(dir.path(), 5..6);
    assert_eq!(files::sinks(dir.path()).unwrap(), ["es"]);
    assert_eq!(indices(&Shelved::open(dir.path(), "es").unwrap()), [0, 1, 2, 3, 4, 5]);

    let taken = Shelved::open_taken(dir.path(), "es").unwrap();
    assert_eq!(indices(&taken), [0, 1, 2, 3, 4]);
    taken.remove(&BTreeSet::from([0, 2, 3, 4])).unwrap();
    assert_eq!(indices(&Shelved::open(dir.path(), "es").unwrap()), [1, 5]);
    assert_eq!(files::purge(dir.path(), "es").unwrap(), 2);
    assert_eq!(files::sinks(dir.path()).unwrap(), [""; 0]);
}

#[test]
fn an_unfinished_line_is_no_letter() {
    let dir = tempfile::tempdir().unwrap();
    bury(dir.path(), 0..2);
    let path = &dead_letters::files(dir.path(), "es")[1];
    let whole = fs::read(path).unwrap();
    fs::write(path, [&whole[..], b"{\"time\":\"2"].concat()).unwrap();
    assert_eq!(indices(&Shelved::open(dir.path(), "es").unwrap()), [0, 1]);
}

#[test]
fn what_replays_leave_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..4 {
        bury(dir.path(), round * 10..round * 10 + 10);
        files::take(dir.path(), "es").unwrap();
    }
    let all = Shelved::open_taken(dir.path(), "es").unwrap().bytes();
    assert_eq!(files::bound(dir.path(), "es", all).unwrap(), 0);
    assert_eq!(files::bound(dir.path(), "es", all / 2 + 100).unwrap(), 20);
    assert_eq!(indices(&Shelved::open_taken(dir.path(), "es").unwrap()), (20..40).collect::<Vec<_>>());
}

#[test]
fn one_replay_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    bury(dir.path(), 0..1);
    let held = files::lock_replays(dir.path()).unwrap();
    assert!(files::purge(dir.path(), "es").unwrap_err().to_string().contains("under way"));
    drop(held);
    assert_eq!(files::purge(dir.path(), "es").unwrap(), 1);
}
