//! The `kubernetes_logs` source on trees as kubelet makes them.

use skidder_pipeline::source::Held;

use super::*;

const PODS: &str = "type = \"kubernetes_logs\"\nroot = \"pods\"\n";
const LOG: &str = "pods/shop_cart-7d9-x2_1f2e/app/0.log";

#[test]
fn a_container_is_what_its_path_says() {
    let mut rig = Rig::new();
    rig.append(LOG, cri("stdout", "F", "hello"));
    rig.append("pods/not-a-pod/app/0.log", cri("stdout", "F", "no"));
    rig.append("pods/shop_cart-7d9-x2_1f2e/app/notes.txt", cri("stdout", "F", "no"));
    rig.start(PODS);
    let tailer = rig.tailer.as_mut().unwrap();
    let mut chunk = Chunk { batch: Batch::new(Shared::empty(), FileKey([0; 16])), covers: vec![], needs: rig.sinks, bytes_read: 0 };
    assert_eq!(tailer.read(&mut chunk, rig.now), Read::Chunk);
    assert_eq!((chunk.batch.len(), chunk.bytes_read), (1, 46));
    let mut json = Vec::new();
    chunk.batch.record(0).write_json(&mut json);
    let record: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let expected = serde_json::json!({
        "source_type": "kubernetes_logs",
        "file": rig.path(LOG),
        "kubernetes": {
            "pod_name": "cart-7d9-x2",
            "pod_namespace": "shop",
            "pod_uid": "1f2e",
            "container_name": "app",
            "container_restart_count": 0
        },
        "timestamp": "2026-03-10T15:48:15.217676062Z",
        "stream": "stdout",
        "message": "hello"
    });
    assert_eq!(record, expected);
    assert_eq!(rig.texts(), Vec::<String>::new());
}

#[test]
fn generations_are_read_oldest_first() {
    let mut rig = Rig::new();
    rig.append(LOG, cri_first(4, "d"));
    rig.append(&format!("{LOG}.20260310-154816"), cri_first(3, "c"));
    rig.append(&format!("{LOG}.20260310-154815"), cri_first(2, "b"));
    rig.append(&format!("{LOG}.20260310-154814.gz"), compress(cri_first(1, "a")));
    rig.append(&format!("{LOG}.20260310-154813.tmp"), "half compressed");
    rig.append("pods/shop_cart-7d9-x2_1f2e/app/1.log", cri_first(5, "e"));
    rig.start(PODS);
    assert_eq!(rig.texts(), ["stdout:a", "stdout:b", "stdout:c", "stdout:d", "stdout:e"]);
}

#[test]
fn a_log_that_was_empty_when_it_was_met_is_not_passed_over() {
    let mut rig = Rig::new();
    rig.append(LOG, cri_first(1, "a"));
    rig.start(PODS);
    assert_eq!(rig.pass(1), ["stdout:a"]);
    rig.rename(LOG, &format!("{LOG}.20260310-154815"));
    rig.append(LOG, "");
    assert_eq!(rig.pass(1), [""; 0]);
    // Filled and rotated away between two looks at its size.
    rig.append(LOG, cri_first(2, "b"));
    rig.rename(LOG, &format!("{LOG}.20260310-154816"));
    rig.append(LOG, cri_first(3, "c"));
    assert_eq!(rig.pass(1), ["stdout:b", "stdout:c"]);
}

#[test]
fn a_chain_keeps_its_order_when_the_newest_vanishes_first() {
    let mut rig = Rig::new();
    rig.block_bytes = 100;
    let rotated = format!("{LOG}.20260310-154815");
    rig.append(&rotated, cri_first(1, "a") + &cri("stdout", "F", "a2") + &cri("stdout", "F", "a3"));
    rig.append(LOG, cri_first(2, "b"));
    rig.start(PODS);
    assert!(rig.read().is_some(), "all are open");
    // A container that is gone loses its files in the order of their names.
    fs::remove_file(rig.path(LOG)).unwrap();
    rig.append("pods/shop_cart-7d9-x2_1f2e/app/1.log", cri_first(3, "c"));
    rig.now = rig.now.after(Duration::from_millis(200));
    assert_eq!(rig.texts(), ["stdout:a3", "stdout:b", "stdout:c"]);
}

#[test]
fn what_a_pod_that_is_gone_left_open_is_given_out() {
    let mut rig = Rig::new();
    rig.append(LOG, cri_first(1, "a") + &cri("stdout", "P", "its last wo"));
    rig.start(PODS);
    assert_eq!(rig.pass(1), ["stdout:a"]);
    fs::remove_dir_all(rig.path("pods/shop_cart-7d9-x2_1f2e")).unwrap();
    assert_eq!(rig.pass(30), [""; 0], "for a moment the name may only be missing");
    assert_eq!(rig.pass(60), ["stdout:its last wo unterminated"]);
}

/// Does what kubelet does to a rotated log.
fn compress_file(rig: &Rig, name: &str) {
    let text = fs::read(rig.path(name)).unwrap();
    rig.append(&format!("{name}.tmp"), compress(&text));
    rig.rename(&format!("{name}.tmp"), &format!("{name}.gz"));
    fs::remove_file(rig.path(name)).unwrap();
}

pub(super) fn compress(text: impl AsRef<[u8]>) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text.as_ref()).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn what_was_read_before_a_log_was_compressed_is_not_read_again() {
    let mut rig = Rig::new();
    let rotated = format!("{LOG}.20260310-154815");
    rig.append(LOG, cri_first(1, "a"));
    rig.start(PODS);
    assert_eq!(rig.pass(1), ["stdout:a"]);
    // Read, compressed, met again while the original is open; long after that; after a start.
    rig.rename(LOG, &rotated);
    rig.append(LOG, cri_first(2, "b"));
    assert_eq!(rig.pass(1), ["stdout:b"]);
    compress_file(&rig, &rotated);
    assert_eq!(rig.pass(100), [""; 0]);
    rig.append(LOG, cri_first(3, "c"));
    assert_eq!(rig.pass(12), ["stdout:c"]);
    rig.start(PODS);
    assert_eq!(rig.pass(1), [""; 0]);
    assert_eq!(rig.stats.failed_files.get(), 0);
}

#[test]
fn a_log_that_was_compressed_while_nobody_looked_is_read_on_where_its_reading_stopped() {
    let mut rig = Rig::new();
    rig.block_bytes = 100;
    let rotated = format!("{LOG}.20260310-154815");
    rig.append(LOG, cri_first(1, "a"));
    rig.start(PODS);
    assert_eq!(rig.pass(1), ["stdout:a"]);
    rig.append(LOG, (0..20).map(|n| cri("stdout", "F", &format!("more {n}"))).collect::<String>());
    rig.append(LOG, cri("stdout", "P", "be"));
    rig.rename(LOG, &rotated);
    compress_file(&rig, &rotated);
    rig.append(LOG, cri("stderr", "F", "other"));
    rig.append(LOG, cri("stdout", "F", "gun"));
    rig.start(PODS);
    let mut expected: Vec<String> = (0..20).map(|n| format!("stdout:more {n}")).collect();
    expected.extend(["stderr:other".into(), "stdout:begun".into()]);
    let mut texts = rig.pass(1);
    texts[20..].sort();
    assert_eq!(texts, expected);
    rig.start(PODS);
    assert_eq!(rig.pass(1), [""; 0]);
}

#[test]
fn a_compressed_log_that_is_damaged_gives_what_it_holds() {
    let mut rig = Rig::new();
    let lines: String = (0..20_000).map(|n| cri("stdout", "F", &format!("{n}"))).collect();
    let whole = compress(&lines);
    rig.append(&format!("{LOG}.20260310-154815.gz"), &whole[..whole.len() / 2]);
    rig.append(&format!("{LOG}.20260310-154816.gz"), "no such thing as text");
    rig.append(LOG, cri_first(1, "a"));
    rig.start(PODS);
    let texts = rig.pass(3);
    assert!(texts.len() > 1_000 && texts.last().unwrap() == "stdout:a", "{}", texts.len());
    assert_eq!(texts[..3], ["stdout:0", "stdout:1", "stdout:2"]);
    assert_eq!(rig.stats.failed_files.get(), 2);
    let lost = rig.stats.lost_bytes.get();
    assert!(lost > 0);
    assert_eq!(rig.stats.lost_by_pod.by_pod(Nanos(0)), [("shop".into(), "cart-7d9-x2".into(), lost)]);
}

/// No runtime cuts a container's log, but people do. What was seen and not read before is counted for its pod.
#[test]
fn what_is_cut_away_unread_is_counted_for_its_pod() {
    let mut rig = Rig::new();
    rig.append(LOG, cri_first(1, &"x".repeat(5_000)) + &cri("stdout", "F", &"y".repeat(5_000)));
    rig.block_bytes = 5_100;
    rig.start(&format!("{PODS}rate_limit_bytes_per_sec = 1000"));
    assert_eq!(rig.pass(1).len(), 1);
    let unread = rig.stats.unread_bytes.get();
    fs::write(rig.path(LOG), "").unwrap();
    rig.pass(8);
    assert_eq!((rig.stats.lost_bytes.get(), rig.stats.unread_bytes.get()), (unread, 0));
    assert_eq!(rig.stats.lost_by_pod.by_pod(Nanos(0)), [("shop".into(), "cart-7d9-x2".into(), unread)]);
}

/// Positions would grow for ever: one key for each rotation of each container that ever ran.
#[test]
fn what_is_gone_for_good_is_forgotten() {
    let mut rig = Rig::new();
    let rotated = format!("{LOG}.20260310-154815");
    rig.append(&rotated, cri_first(1, "one"));
    rig.append(LOG, cri_first(2, "two"));
    rig.start(PODS);
    assert_eq!(rig.pass(90), ["stdout:one", "stdout:two"]);
    assert_eq!(rig.held.files().len(), 2);
    // The same generation in another form is still there.
    compress_file(&rig, &rotated);
    assert_eq!((rig.pass(90), rig.held.files().len()), (vec![], 2));
    fs::remove_file(rig.path(&format!("{rotated}.gz"))).unwrap();
    assert_eq!((rig.pass(30), rig.held.files().len()), (vec![], 1), "that of the live log");
    // A rotated one that is closed, when the whole container goes.
    rig.rename(LOG, &format!("{LOG}.20260310-160000"));
    rig.append(LOG, cri_first(3, "three"));
    assert_eq!((rig.pass(90), rig.held.files().len()), (vec!["stdout:three".to_owned()], 2));
    fs::remove_dir_all(rig.path("pods/shop_cart-7d9-x2_1f2e")).unwrap();
    assert_eq!((rig.pass(150), rig.held.files().len()), (vec![], 0));
}

/// What went while the agent was down is known by its key alone.
#[test]
fn what_went_while_nobody_looked_is_forgotten_after_a_day() {
    let mut rig = Rig::new();
    let rotated = format!("{LOG}.20260310-154815");
    rig.append(&rotated, cri_first(1, "one"));
    rig.append(LOG, cri_first(2, "two"));
    rig.append("pods/shop_gone_1/app/0.log", cri_first(3, "three"));
    // What is not read for its age, or is closed, is there all the same.
    let (aged, old) = ("pods/shop_old_2/app/0.log", std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_773_157_695 - 3_600));
    rig.append(aged, cri_first(4, "four"));
    rig.start(PODS);
    assert_eq!(rig.pass(2).len(), 4);
    fs::File::open(rig.path(aged)).unwrap().set_modified(old).unwrap();
    fs::remove_dir_all(rig.path("pods/shop_gone_1")).unwrap();
    fs::remove_file(rig.path(&rotated)).unwrap();
    let config = format!("{PODS}ignore_older_secs = 60");
    rig.start(&config);
    assert_eq!((rig.pass_hours(23), rig.held.files().len()), (vec![], 4));
    let waiting = rig.held.files();
    rig.held.1.lock().unwrap().extend(waiting);
    assert_eq!((rig.pass_hours(3), rig.held.files().len()), (vec![], 4), "not what waits for its delivery");
    rig.held.1.lock().unwrap().clear();
    assert_eq!((rig.pass_hours(2), rig.held.files().len()), (vec![], 2));
    rig.append(aged, cri("stdout", "F", "five"));
    assert_eq!(rig.pass(25), ["stdout:five"], "what is there was not forgotten");
}

/// A file system that is not mounted leaves an empty directory.
#[test]
fn what_is_away_is_not_forgotten() {
    let mut rig = Rig::new();
    let real = rig.path("disk");
    rig.append("disk/shop_cart_1/app/0.log", cri_first(1, "one"));
    let rotated = "disk/shop_cart_1/app/0.log.20260310-154815";
    rig.append(rotated, cri_first(2, "two"));
    fs::create_dir(rig.path("empty")).unwrap();
    let mount = |rig: &Rig, what: Option<&Path>| {
        let _ = fs::remove_file(rig.path("pods"));
        what.into_iter().for_each(|what| std::os::unix::fs::symlink(what, rig.path("pods")).unwrap());
    };
    mount(&rig, Some(&real));
    rig.start(PODS);
    assert_eq!(rig.pass(90).len(), 2);
    let empty = rig.path("empty");
    for restarts in [false, true] {
        for away in [Some(&*empty), None] {
            mount(&rig, away);
            if restarts {
                rig.start(PODS);
            }
            assert_eq!((rig.pass(130), rig.pass_hours(30), rig.held.files().len()), (vec![], vec![], 2), "{restarts} {away:?}");
            // Under another device number, with other inodes.
            let other = tempfile::tempdir_in(if away.is_some() { Path::new("/dev/shm") } else { rig.dir.path() }).unwrap();
            let copied = std::process::Command::new("cp").args(["-a", "--"]).arg(&real).arg(other.path().join("disk")).status().unwrap();
            assert!(copied.success());
            mount(&rig, Some(&other.path().join("disk")));
            assert_eq!((rig.pass(90), rig.held.files().len()), (vec![], 2), "{restarts} {away:?}");
            mount(&rig, Some(&real));
            assert_eq!((rig.pass(90), rig.pass_hours(30), rig.held.files().len()), (vec![], vec![], 2), "{restarts} {away:?}");
        }
    }
    fs::remove_file(rig.path(rotated)).unwrap();
    assert_eq!((rig.pass(90), rig.held.files().len()), (vec![], 1));
}

#[test]
fn a_character_that_two_parts_share_is_whole() {
    let mut rig = Rig::new();
    let part = |kind: &str, text: &[u8]| [b"2026-03-10T15:48:15.217676062Z stdout ", kind.as_bytes(), b" ", text, b"\n"].concat();
    let guide = "гид".as_bytes();
    // By the byte, in blocks that are no UTF-8 and blocks that are; then what is broken also when it is joined.
    for at in 0..=guide.len() {
        rig.append(LOG, [part("P", &guide[..at]), part("F", &guide[at..])].concat());
    }
    rig.append(LOG, [part("P", b"\xd0"), part("P", b"\xb3\xd0"), part("F", b"\xb8!")].concat());
    rig.append(LOG, [part("P", b"caf\xe9"), part("F", b" bar")].concat());
    rig.append(LOG, part("P", &guide[..1]));
    rig.start(PODS);
    let mut texts = rig.texts();
    rig.append(LOG, part("F", &guide[1..2]));
    texts.extend(rig.pass(3));
    let mut expected = vec!["stdout:гид"; 7];
    expected.extend(["stdout:ги!", "stdout:caf\u{fffd} bar invalid_utf8", "stdout:г"]);
    assert_eq!(texts, expected);
    assert_eq!(rig.stats.invalid_utf8.get(), 1);
}

#[test]
fn parts_are_joined_over_a_rotation_with_the_other_stream_between() {
    let mut rig = Rig::new();
    rig.append(LOG, cri_first(1, "first") + &cri("stdout", "P", "be"));
    rig.start(PODS);
    let mut chunks = rig.drain();
    rig.append(LOG, cri("stderr", "F", "between") + &cri("stdout", "P", "gi"));
    rig.rename(LOG, &format!("{LOG}.20260310-154815"));
    rig.append(LOG, cri_first(2, "n").replace("stdout F", "stderr F") + &cri("stdout", "F", "n"));
    rig.append(LOG, cri("stdout", "F", "last"));
    for _ in 0..10 {
        rig.now = rig.now.after(Duration::from_millis(100));
        chunks.extend(rig.drain());
    }
    let texts: Vec<_> = chunks.iter().flat_map(|got| &got.records).map(|(_, _, text)| &**text).collect();
    assert_eq!(texts, ["stdout:first", "stderr:between", "stderr:n", "stdout:begin", "stdout:last"]);
    let begin = chunks.iter().find(|got| got.records.iter().any(|(_, _, text)| text == "stdout:begin")).unwrap();
    assert_eq!((begin.records.len(), begin.records[0].0), (1, chunks[0].records[0].0), "a record belongs to the file of its first byte");
    for set in covered(chunks.iter()).values() {
        assert_eq!(set.stretches().len(), 1);
    }
}

#[test]
fn a_part_whose_end_never_comes_is_given_out_when_the_container_starts_again() {
    let mut rig = Rig::new();
    rig.append(LOG, cri_first(1, "first") + &cri("stdout", "P", "half"));
    rig.start(PODS);
    assert_eq!(rig.pass(3), ["stdout:first"]);
    rig.append("pods/shop_cart-7d9-x2_1f2e/app/1.log", cri_first(2, "again") + &cri("stdout", "P", "new "));
    assert_eq!(rig.pass(5), ["stdout:half unterminated", "stdout:again"]);
    rig.append("pods/shop_cart-7d9-x2_1f2e/app/1.log", cri("stdout", "F", "whole"));
    assert_eq!(rig.pass(5), ["stdout:new whole"]);
}

#[test]
fn a_first_line_is_waited_for() {
    let mut rig = Rig::new();
    rig.append(LOG, "2026-03-10T15:48:15.217676062Z stdout F hel");
    rig.start(PODS);
    assert_eq!(rig.pass(3), Vec::<String>::new());
    rig.append(LOG, "lo\n");
    assert_eq!(rig.pass(3), ["stdout:hello"]);
}

#[test]
fn a_pod_that_lives_for_a_moment_is_read() {
    let mut rig = Rig::new();
    fs::create_dir(rig.path("pods")).unwrap();
    rig.start(PODS);
    rig.pass(1);
    rig.append("pods/a_b_c/app/0.log", cri_first(1, "x"));
    // As soon as the directory is seen the log is open, and may go.
    rig.now = rig.now.after(Duration::from_millis(100));
    let tailer = rig.tailer.as_mut().unwrap();
    tailer.discover(rig.now);
    fs::remove_dir_all(rig.path("pods/a_b_c")).unwrap();
    assert_eq!(rig.pass(1), ["stdout:x"]);
    rig.pass(90);
    let tailer = rig.tailer.as_ref().unwrap();
    assert!(tailer.units.is_empty() && tailer.inodes.is_empty() && tailer.streams.iter().all(Option::is_none), "nothing of it is kept");
    assert!(rig.held.0.lock().unwrap().is_empty());
}

#[test]
fn nothing_outside_the_root_is_ever_read() {
    let mut rig = Rig::new();
    let canary = canary(rig.dir.path());
    rig.append(LOG, cri_first(1, "fine"));
    let dir = rig.path("pods/shop_cart-7d9-x2_1f2e");
    std::os::unix::fs::symlink(&canary, dir.join("app/1.log")).unwrap();
    std::os::unix::fs::symlink("/proc/self/environ", dir.join("app/2.log")).unwrap();
    fs::create_dir(dir.join("app/3.log")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, dir.join("app/4.log"), rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
    fs::create_dir(rig.path("outside")).unwrap();
    fs::copy(&canary, rig.path("outside/0.log")).unwrap();
    std::os::unix::fs::symlink(rig.path("outside"), dir.join("linked")).unwrap();
    fs::create_dir(rig.path("outside/app")).unwrap();
    fs::copy(&canary, rig.path("outside/app/0.log")).unwrap();
    std::os::unix::fs::symlink(rig.path("outside"), rig.path("pods/a_b_c")).unwrap();
    // A second name for a file that only root may read would do the same.
    fs::hard_link(&canary, dir.join("app/5.log")).unwrap();
    rig.start(PODS);
    assert_eq!(rig.pass(25), ["stdout:fine"]);
    let refused: Vec<u64> = rig.stats.refused_files.by_reason().iter().map(|(_, count)| count.get()).collect();
    assert_eq!(refused, [2, 2, 0, 1, 0], "each trick with a log's name is counted once");
    // A link put in the place of a log that is read.
    fs::remove_file(rig.path(LOG)).unwrap();
    std::os::unix::fs::symlink(&canary, rig.path(LOG)).unwrap();
    assert_eq!(rig.pass(25), Vec::<String>::new());
}

#[test]
fn excluded_paths_are_not_opened() {
    let mut rig = Rig::new();
    rig.append(LOG, cri_first(1, "no"));
    rig.append("pods/pay_api_1/app/0.log", cri_first(2, "yes"));
    rig.append("pods/pay_api_1/proxy/0.log", cri_first(3, "no"));
    rig.start(&format!("{PODS}include_paths_glob_patterns = [\"pay_*/**\"]\nexclude_paths_glob_patterns = [\"*/proxy/*\"]"));
    assert_eq!(rig.pass(1), ["stdout:yes"]);
}

#[test]
fn a_root_that_comes_later_is_read() {
    let mut rig = Rig::new();
    rig.start(PODS);
    assert_eq!(rig.pass(1), Vec::<String>::new());
    assert_eq!(rig.stats.failed_files.get(), 1);
    rig.append(LOG, cri_first(1, "x"));
    assert_eq!(rig.pass(12), ["stdout:x"]);
    // And one that is put in its place.
    fs::rename(rig.path("pods"), rig.path("old")).unwrap();
    rig.append(LOG, cri_first(2, "y"));
    assert_eq!(rig.pass(12), ["stdout:y"]);
}

#[test]
fn links_of_docker_are_followed_into_its_own_root_and_nowhere_else() {
    let mut rig = Rig::new();
    let canary = canary(rig.dir.path());
    let line = |text: &str| format!("{{\"log\":\"{text}\\n\",\"stream\":\"stdout\",\"time\":\"2026-03-10T15:48:15.2Z\"}}\n");
    let link = |rig: &Rig, target: &Path, name: &str| {
        fs::create_dir_all(rig.path(name).parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(target, rig.path(name)).unwrap();
    };
    rig.append("docker/1a/1a-json.log", line("two"));
    rig.append("docker/1a/1a-json.log.1", line("one"));
    link(&rig, &rig.path("docker/1a/1a-json.log"), LOG);
    // Out of docker's root, by the root itself, by a way through it, and by a second link in it.
    link(&rig, &canary, "pods/a_b_c/app/0.log");
    link(&rig, &rig.path("docker/../canary"), "pods/a_b_c/app/1.log");
    link(&rig, Path::new("../../../canary"), "pods/a_b_c/app/2.log");
    link(&rig, &rig.path("docker/2b/2b-json.log"), "pods/a_b_c/app/3.log");
    link(&rig, &canary, "docker/2b/2b-json.log");
    rig.start(PODS);
    assert_eq!(rig.pass(1), Vec::<String>::new());
    assert_eq!(rig.stats.refused_files.link.get(), 5, "without a root of docker's no link is followed");
    let config = format!("{PODS}docker_root = {:?}", rig.path("docker"));
    rig.stats = Arc::default();
    rig.start(&config);
    assert_eq!(rig.pass(1), ["stdout:one", "stdout:two"]);
    assert_eq!(rig.stats.refused_files.link.get(), 4);
    // Docker rotates: nothing changes below the root of pods.
    rig.append("docker/1a/1a-json.log", line("three"));
    rig.rename("docker/1a/1a-json.log", "docker/1a/1a-json.log.1");
    rig.append("docker/1a/1a-json.log", line("four"));
    assert_eq!(rig.pass(4), ["stdout:three", "stdout:four"]);
    rig.start(&config);
    assert_eq!(rig.pass(4), Vec::<String>::new());
}

#[test]
fn a_held_beginning_ends_a_record_that_is_open_from_the_generation_before() {
    let mut rig = Rig::new();
    let lines = |lines: &[&str]| lines.iter().map(|line| cri("stdout", "F", line)).collect::<String>();
    rig.append(&format!("{LOG}.20260310-154815"), cri_first(1, "first"));
    rig.append(LOG, cri_first(2, "first") + &lines(&["n", "n"]));
    let config = format!("{PODS}multiline = {{ mode = \"halt_before\", condition_pattern = \"^[a-m]\", max_lines = 2, timeout_ms = 600 }}");
    rig.start(&config);
    let chunks = rig.drain();
    let held = chunks.iter().find(|got| got.records.iter().any(|(_, _, text)| text == "stdout:first\nn")).unwrap();
    rig.held.hold(held.needs, &held.covers);
    rig.start(&config);
    assert_eq!(rig.pass(4), ["stdout:first", "stdout:n"], "the last line is not joined to the first record");
}

/// Asked for growth every two seconds, 10,000 idle logs cost more than all else that a small node does.
#[test]
fn inotify_tells_of_writes_to_a_log_that_rests() {
    let mut rig = Rig::new();
    rig.append(LOG, cri_first(1, "one"));
    rig.start(PODS);
    assert_eq!(rig.pass(8), ["stdout:one"]);
    let is_watched = |rig: &Rig| rig.tailer.as_ref().unwrap().streams.iter().flatten().all(|stream| stream.watched);
    assert!(is_watched(&rig));
    rig.append(LOG, cri("stdout", "F", "two"));
    assert_eq!(rig.pass(1), ["stdout:two"], "sooner than it is asked");
    assert!(is_watched(&rig), "a line now and then is no reason to ask");
    // One that is written often is asked, and so is one about which something is due.
    let mut more = 0;
    for _ in 0..4 {
        rig.append(LOG, cri("stdout", "F", "more"));
        more += rig.pass(0).len();
    }
    assert_eq!(more + rig.pass(1).len(), 4);
    assert!(!is_watched(&rig));
    rig.pass(8);
    assert!(is_watched(&rig));
    rig.append(LOG, "2026-03-10T15:48:15Z stdout F op");
    rig.pass(1);
    assert!(!is_watched(&rig));
    rig.append(LOG, "en\n");
    assert_eq!(rig.pass(3), ["stdout:open"]);
}

/// A start opens thousands that nobody writes: asked as busy ones are, they cost as much again as the opening.
#[test]
fn a_log_that_was_not_written_for_long_rests_from_the_start() {
    let mut rig = Rig::new();
    rig.append(LOG, cri_first(1, "one"));
    // The clock of the rig stands in March 2026, and the file is of now, or of an hour before.
    let is_watched = |rig: &Rig| rig.tailer.as_ref().unwrap().streams.iter().flatten().all(|stream| stream.watched);
    let hour_before = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_773_157_695 - 3_600);
    for (set_time, rests) in [(false, false), (true, true)] {
        if set_time {
            fs::File::open(rig.path(LOG)).unwrap().set_modified(hour_before).unwrap();
        }
        rig.start(PODS);
        rig.pass(2);
        assert_eq!(is_watched(&rig), rests);
    }
    rig.append(LOG, cri("stdout", "F", "two"));
    assert_eq!(rig.pass(1), ["stdout:two"]);
}

#[test]
fn where_inotify_is_exhausted_all_is_found_by_asking() {
    let mut rig = Rig::new();
    rig.append(LOG, cri_first(1, "one"));
    rig.start(PODS);
    rig.tailer.as_mut().unwrap().watch = Watch::exhausted();
    assert_eq!(rig.pass(10), ["stdout:one"]);
    rig.append(LOG, cri("stdout", "F", "two"));
    assert_eq!(rig.pass(3), ["stdout:two"]);
    rig.append("pods/shop_new_1/app/0.log", cri("stdout", "F", "three"));
    assert_eq!(rig.pass(3), ["stdout:three"]);
}
