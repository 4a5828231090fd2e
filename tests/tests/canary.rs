//! A pod that can write into its log directory must not make the agent read anything else: a canary outside the root, pointed
//! at by every trick, is never read; each trick is counted and reported once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use skidder_tests::agent::until;
use skidder_tests::site::{Site, files_below};

const CANARY: &str = "canary-7d2c41";
const CONFIG: &str = r#"
data_dir = "state"
[sources.pods]
type = "kubernetes_logs"
root = "pods"
rescan_interval_ms = 200
[sinks.out]
type = "file"
inputs = ["pods"]
path = "out/all.jsonl"
[sinks.out.batch]
timeout_secs = 0.05
"#;

/// A log line as a runtime writes it.
fn line(text: &str) -> String {
    format!("2026-09-14T08:31:07.123456789Z stdout F {text}\n")
}

/// Plants every trick; the names of those that are to be reported, below `pods`.
fn plant(site: &Site) -> Vec<String> {
    let outside = site.path("outside");
    fs::create_dir_all(outside.join("main")).unwrap();
    let secret = outside.join("main/0.log");
    fs::write(&secret, line(CANARY).repeat(3)).unwrap();
    let dir = site.path("pods/shop_evil_1f2e/main");
    fs::create_dir_all(&dir).unwrap();
    let mut planted = Vec::new();
    let mut file = |name: &str, plant: &dyn Fn(&Path)| {
        plant(&dir.join(name));
        planted.push(format!("shop_evil_1f2e/main/{name}"));
    };
    file("1.log", &|at| symlink(&secret, at).unwrap());
    file("2.log", &|at| symlink("../../../outside/main/0.log", at).unwrap());
    file("3.log", &|at| fs::hard_link(&secret, at).unwrap());
    file("4.log", &|at| assert!(Command::new("mkfifo").arg(at).status().unwrap().success()));
    file("5.log", &|at| symlink("/dev/zero", at).unwrap());
    file("6.log", &|at| symlink("/proc/self/environ", at).unwrap());
    file("7.log", &|at| symlink("0.log", at).unwrap());
    file("8.log", &|at| fs::create_dir(at).unwrap());
    file("0.log.20260914-083107", &|at| symlink(&secret, at).unwrap());
    file("0.log.20260914-083108.gz", &|at| symlink(&secret, at).unwrap());
    // Only root can make a device, or give a file away. That of a character device never ends: it is /dev/zero by another name.
    for (name, kind, numbers) in [("9.log", "c", ["1", "5"]), ("12.log", "b", ["7", "250"])] {
        let made = Command::new("mknod").arg(dir.join(name)).arg(kind).args(numbers).output();
        match made {
            Ok(output) if output.status.success() => planted.push(format!("shop_evil_1f2e/main/{name}")),
            Ok(output) => eprintln!("left out: a device among the tricks: {}", String::from_utf8_lossy(&output.stderr)),
            Err(error) => eprintln!("left out: a device among the tricks: mknod: {error}"),
        }
    }
    let foreign = dir.join("10.log");
    fs::write(&foreign, line(CANARY)).unwrap();
    match std::os::unix::fs::chown(&foreign, Some(54_321), None) {
        Ok(()) => planted.push("shop_evil_1f2e/main/10.log".into()),
        Err(error) => {
            eprintln!("left out: a file of another user among the tricks: {error}");
            fs::remove_file(foreign).unwrap();
        }
    }
    // Directories that are links are no directories: nothing below them is a log.
    symlink(outside.join("main"), site.path("pods/shop_evil_1f2e/linked")).unwrap();
    symlink(&outside, site.path("pods/shop_linked_3a4b")).unwrap();
    symlink("../outside", site.path("pods/shop_.._5c6d")).unwrap();
    planted
}

#[test]
fn a_canary_outside_the_root_is_never_read() {
    let site = Site::new(CONFIG).unwrap();
    site.append("pods/shop_good_9f8e/main/0.log", line("good")).unwrap();
    site.append("pods/shop_.._7e8f/main/0.log", line("odd name")).unwrap();
    site.append("pods/shop_evil_1f2e/main/0.log", line("own")).unwrap();
    let planted = plant(&site);

    let agent = site.start().unwrap();
    until(|| (site.records("out/all.jsonl").is_ok_and(|records| records.len() == 3)).then_some(())).expect("the good logs are read");
    // One that is a log at first, and what it should not be once it was read; and one that changes again and again.
    let (log, link) = (site.path("pods/shop_evil_1f2e/main/11.log"), site.path("link"));
    for _ in 0..50 {
        let _ = fs::remove_file(&log);
        fs::write(&log, line("flips")).unwrap();
        symlink(site.path("outside/main/0.log"), &link).unwrap();
        thread::sleep(Duration::from_millis(7));
        fs::rename(&link, &log).unwrap();
        thread::sleep(Duration::from_millis(7));
    }
    // Several full looks go by.
    thread::sleep(Duration::from_millis(1_000));
    agent.signal(Signal::TERM).unwrap();
    let ended = agent.wait(Duration::from_secs(30)).unwrap().expect_success().unwrap();

    for file in files_below(&site.path("out")).unwrap().into_iter().chain(files_below(&site.path("state")).unwrap()) {
        let text = fs::read(&file).unwrap();
        assert!(memchr::memmem::find(&text, CANARY.as_bytes()).is_none(), "the canary is in {}", file.display());
    }
    assert!(!ended.stderr.contains(CANARY), "the agent tells of it: {}", ended.stderr);
    for name in &planted {
        let reported = ended.stderr.lines().filter(|line| line.contains("a log is not read") && line.ends_with(name));
        assert_eq!(reported.count(), 1, "{name}: {}", ended.stderr);
    }
    let summary = site.once().unwrap().stderr;
    // Each is counted: this run meets them anew, and the last link of the one that flipped.
    assert!(summary.contains(&format!("{:>12} files that were refused", planted.len() + 1)), "{} planted: {summary}", planted.len());
    assert!(summary.contains("read            0 records"), "{summary}");
}
