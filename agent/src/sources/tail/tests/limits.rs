//! What sources hold at the most, and what they pass by.

use std::time::SystemTime;

use super::*;
use crate::sources::tail::limits::MAX_PENDING_BYTES;

const PODS: &str = "type = \"kubernetes_logs\"\nroot = \"pods\"\n";

fn log(pod: usize) -> String {
    format!("pods/shop_cart-{pod}_{pod}/app/0.log")
}

fn lines(number: u32, bytes: usize) -> String {
    cri_first(number, "first") + &cri("stdout", "F", "x").repeat(bytes / 42)
}

#[test]
fn a_log_that_nobody_writes_any_more_is_not_opened_until_somebody_does() {
    let mut rig = Rig::new();
    rig.append(&log(1), cri_first(1, "old"));
    rig.append(&log(2), cri_first(2, "new"));
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_773_157_695 - 61);
    fs::File::open(rig.path(&log(1))).unwrap().set_modified(old).unwrap();
    rig.start(&format!("{PODS}ignore_older_secs = 60"));
    assert_eq!(rig.pass(1), ["stdout:new"]);
    assert_eq!(rig.tailer.as_ref().unwrap().inodes.len(), 1);
    rig.append(&log(1), cri("stdout", "F", "again"));
    assert_eq!(rig.pass(25), ["stdout:old", "stdout:again"]);
}

#[test]
fn a_rate_limit_makes_a_noisy_log_wait_and_loses_nothing_of_it() {
    let mut rig = Rig::new();
    rig.block_bytes = 10_000;
    rig.append(&log(1), lines(1, 1_000_000));
    rig.append(&log(2), cri_first(2, "quiet"));
    rig.start(&format!("{PODS}rate_limit_bytes_per_sec = 100000"));
    let first = rig.pass(5);
    assert!(first.contains(&"stdout:quiet".to_owned()));
    let read = rig.stats.bytes.get();
    assert!((500_000..=620_000).contains(&read), "{read} bytes in five seconds at 100,000 a second, one second's saved up");
    assert_eq!(first.len() + rig.pass(6).len(), 1_000_000 / 42 + 2);
    // What is asked to be read once is read at once.
    rig = Rig::new();
    rig.once = true;
    rig.append(&log(1), lines(1, 1_000_000));
    rig.start(&format!("{PODS}rate_limit_bytes_per_sec = 100000"));
    assert_eq!(rig.texts().len(), 1_000_000 / 42 + 1);
}

#[test]
fn deleted_logs_beyond_the_limit_are_given_up_oldest_first_of_whoever_holds_most() {
    let mut rig = Rig::new();
    rig.block_bytes = 1_000;
    for pod in 1..=3 {
        rig.append(&log(pod), lines(pod as u32, if pod == 2 { 20_000 } else { 10_000 }));
    }
    rig.append(&log(4), cri_first(4, "x"));
    // So slow that nothing but the first block is read.
    rig.start(&format!("{PODS}rate_limit_bytes_per_sec = 1\nmax_held_bytes = 25000"));
    rig.pass(1);
    let unread = rig.stats.unread_bytes.get();
    fs::remove_dir_all(rig.path("pods")).unwrap();
    rig.pass(15);
    let lost = rig.stats.lost_bytes.get();
    assert!((18_900..=19_100).contains(&lost), "the rest of the largest: {lost}");
    assert_eq!(rig.stats.unread_bytes.get() + lost, unread);
    let by_pod = rig.stats.lost_by_pod.by_pod(Nanos(0));
    assert_eq!(by_pod, [("shop".into(), "cart-2".into(), lost)], "with the name of the pod whose they were");
    let tailer = rig.tailer.as_ref().unwrap();
    assert!(tailer.sums.held <= 25_000 && tailer.sums.held >= 20_000);
}

#[test]
fn records_that_never_end_take_no_more_than_their_share_of_memory() {
    let mut rig = Rig::new();
    let part = "y".repeat(16_000);
    for pod in 0..20 {
        rig.append(&log(pod), cri_first(pod as u32, "first") + &cri("stdout", "P", &part).repeat(64));
    }
    rig.start(&format!("{PODS}max_record_bytes = 2000000"));
    assert_eq!(rig.pass(3).len(), 20);
    let pending = rig.tailer.as_ref().unwrap().sums.pending;
    assert!((MAX_PENDING_BYTES as u64 / 2..=MAX_PENDING_BYTES as u64).contains(&pending), "{pending}");
    for pod in 0..20 {
        rig.append(&log(pod), cri("stdout", "F", "end"));
    }
    let texts = rig.pass(4);
    assert_eq!(texts.len(), 20);
    let (cut, whole): (Vec<_>, Vec<_>) = texts.iter().partition(|text| text.ends_with(" truncated of 1024003"));
    assert!(!cut.is_empty() && whole.iter().all(|text| text.len() == "stdout:".len() + 1_024_003));
    assert!(cut.iter().all(|text| text.len() > 100_000), "shown as far as it was kept");
    assert_eq!(rig.tailer.as_ref().unwrap().sums.pending, 0);
}
