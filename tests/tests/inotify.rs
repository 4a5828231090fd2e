//! Where the system has no inotify left, every log is found and followed all the same, and one warning says so.
//!
//! The limits are those of a user namespace of the agent's own, whose root may lower them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use skidder_tests::agent::{self, Agent, until};
use skidder_tests::site::Site;

/// Two sources, which have an instance of inotify each. A full look comes so seldom that only the one in place of inotify can
/// find what is new.
const CONFIG: &str = r#"
data_dir = "state"
[api]
enabled = false
[sources.pods]
type = "kubernetes_logs"
root = "pods"
rescan_interval_ms = 60000
[sources.more]
type = "kubernetes_logs"
root = "more"
rescan_interval_ms = 60000
[sinks.out]
type = "file"
inputs = ["pods", "more"]
path = "out/all.jsonl"
batch = { timeout_secs = 0.05 }
"#;

/// What is lowered, and to what: two roots, eight pods and their containers need eighteen watches.
const LIMITS: [Option<(&str, u32)>; 4] = [None, Some(("watches", 0)), Some(("watches", 5)), Some(("instances", 1))];

/// How a message begins where this machine lets nobody have a user namespace.
const NOT_LOWERED: &str = "the limits of inotify cannot be lowered for a test";

fn log(pod: usize) -> String {
    format!("{}/shop_cart-{pod}_uid-{pod}/main/0.log", ["pods", "more"][pod % 2])
}

fn line(text: &str) -> String {
    format!("2026-09-14T08:31:07.123456789Z stdout F {text}\n")
}

/// The agent under a limit of `max_inotify_<what>`, which counts for the namespace's own use.
fn start(site: &Site, limit: Option<(&str, u32)>) -> Agent {
    let Some((what, most)) = limit else { return site.start().unwrap() };
    let mut command = agent::command_of(Path::new("unshare"), site.root());
    let lower = format!("echo {most} > /proc/sys/user/max_inotify_{what} && exec \"$0\" \"$@\"");
    command.args(["--user", "--map-root-user", "sh", "-c", &lower]).arg(agent::binary().unwrap()).args(["run", "-c", "pipeline.toml"]);
    Agent::spawn(command).unwrap()
}

/// Whether the limits can be lowered here.
fn can_be_lowered() -> Result<(), String> {
    let lower = "echo 1 > /proc/sys/user/max_inotify_watches && echo 1 > /proc/sys/user/max_inotify_instances";
    let done = Command::new("unshare").args(["--user", "--map-root-user", "sh", "-c", lower]).output();
    match done {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn all_logs_are_followed_where_inotify_is_exhausted_and_one_warning_says_so() {
    let lowered = can_be_lowered();
    for limit in LIMITS {
        if let (Some(_), Err(error)) = (limit, &lowered) {
            eprintln!("left out: {NOT_LOWERED}: {error}");
            continue;
        }
        let site = Site::new(CONFIG).unwrap();
        for pod in 0..8 {
            site.append(&log(pod), line(&format!("first of {pod}"))).unwrap();
        }
        let agent = start(&site, limit);
        let count = |expected: usize, what: &str| {
            let arrived = until(|| site.records("out/all.jsonl").is_ok_and(|records| records.len() >= expected).then_some(()));
            arrived
                .unwrap_or_else(|| panic!("{limit:?}: {what} are missing: {} of {expected}", site.records("out/all.jsonl").unwrap().len()));
        };
        count(8, "logs that were there");
        (0..8).for_each(|pod| site.append(&log(pod), line(&format!("second of {pod}"))).unwrap());
        count(16, "lines that came later");
        // New pods, and the next run of a container that is known.
        (8..12).for_each(|pod| site.append(&log(pod), line(&format!("first of {pod}"))).unwrap());
        site.append("pods/shop_cart-0_uid-0/main/1.log", line("next run of 0")).unwrap();
        count(21, "logs that came later");
        agent.signal(Signal::TERM).unwrap();
        let ended = agent.wait(Duration::from_secs(30)).unwrap().expect_success().unwrap();

        let mut texts: Vec<String> =
            site.records("out/all.jsonl").unwrap().iter().map(|record| record["message"].as_str().unwrap().to_owned()).collect();
        texts.sort();
        let firsts = (0..12).map(|pod| format!("first of {pod}"));
        let mut expected: Vec<String> =
            firsts.chain((0..8).map(|pod| format!("second of {pod}"))).chain(["next run of 0".into()]).collect();
        expected.sort();
        assert_eq!(texts, expected, "{limit:?}");
        let warnings = ended.stderr.lines().filter(|line| line.contains("inotify is exhausted")).count();
        assert_eq!(warnings, usize::from(limit.is_some()), "{limit:?}: {}", ended.stderr);
    }
}
