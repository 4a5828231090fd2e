//! A trial: a node, an agent with two sinks that dies again and again, and the account of every record.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader};
use std::time::{Duration, Instant};

use super::lives::{Life, Lives};
use super::verdict::Verdict;
use super::{Journal, Node};
use crate::agent;
use crate::chance::Chance;
use crate::site::Site;
use crate::store::{Keep, Store};

/// How long nothing must arrive before all has.
const QUIET: Duration = Duration::from_millis(2_500);

/// Runs one trial for about `time` and gives its figures.
///
/// # Errors
/// What was lost, cut, out of order or there twice, with the seed and the story of some of it; or that the agent could not be
/// run. The directory is kept where `SKIDDER_KEEP` is set.
pub fn run(seed: u64, time: Duration) -> Result<String, String> {
    // Built before the first record is written.
    agent::binary()?;
    let store = Store::start(Keep::Documents).map_err(|error| error.to_string())?;
    let site = Site::new(config(&store.url())).map_err(|error| error.to_string())?;
    let start = Instant::now();
    let mut node = Node::start(site.path("pods"), seed).map_err(|error| error.to_string())?;
    let mut lives = Lives::new(&site, Chance::of(seed, 41, 0), start);
    let lived = (|| {
        while start.elapsed() < time {
            lives.live_once()?;
        }
        node.stop().map_err(|error| format!("the node failed: {error}"))?;
        let (mut arrived, mut since) = (0, Instant::now());
        lives.live_until_done(|| {
            let now = store.counts().stored + out_bytes(&site);
            if now != arrived {
                (arrived, since) = (now, Instant::now());
            }
            since.elapsed() < QUIET
        })?;
        site.once().map(drop)
    })();
    let outcome = lived.and_then(|()| judge(&node, &site, &store, &lives.lives, start));
    outcome.map(|figures| format!("{} kills, {} stops; {figures}", lives.kills, lives.stops)).map_err(|error| {
        let log = site.path("agent.log");
        let _ = fs::write(&log, &lives.said);
        let kept = if std::env::var_os("SKIDDER_KEEP").is_some() { site.keep() } else { "SKIDDER_KEEP=1 keeps the directory".into() };
        let mut text = format!("seed {seed} (SKIDDER_SEED={seed} repeats it): {error}\n");
        for Life { looked, end, killed } in &lives.lives {
            let at = |instant: &Instant| instant.duration_since(start).as_secs_f64();
            let verb = if *killed { "killed" } else { "stopped" };
            let _ = write!(text, "  {:.3} to {:.3}, {verb};", at(looked), at(end));
        }
        format!("{text}\n{}\n{kept}", warnings(&lives.said))
    })
}

fn judge(node: &Node, site: &Site, store: &Store, lives: &[Life], start: Instant) -> Result<String, String> {
    let journal: &Journal = node.journal();
    let book = journal.book();
    let mut in_files = Verdict::new(&book, node.text(), lives, start, true);
    let file = fs::File::open(site.path("out/all.jsonl")).map_err(|error| format!("nothing came out: {error}"))?;
    for line in BufReader::new(file).split(b'\n') {
        in_files.enter(&line.map_err(|error| error.to_string())?);
    }
    in_files.close();
    let mut at_store = Verdict::new(&book, node.text(), lives, start, false);
    store.documents().iter().for_each(|document| at_store.enter(document));
    at_store.close();
    let counts = store.counts();
    let node = format!(
        "{:.1} MB in {} pods, {} rotations ({} renamed back), {} compressed, {} removed, {} restarts",
        book.bytes as f64 / 1e6,
        book.pods,
        book.rotations,
        book.renamed_back,
        book.compressed,
        book.removed,
        book.restarts
    );
    let text = format!(
        "{node}\n  files: {in_files}\n  store: {at_store}; {} refused as repeats, {} changed, {} refused",
        counts.repeats, counts.changed, counts.refused
    );
    let good = in_files.counts.is_good() && at_store.counts.is_good() && counts.changed == 0 && counts.refused == 0;
    if good { Ok(text) } else { Err(text) }
}

fn out_bytes(site: &Site) -> u64 {
    fs::metadata(site.path("out/all.jsonl")).map_or(0, |metadata| metadata.len())
}

/// The lines of the agent's log that are no mere information, each kind once.
fn warnings(said: &str) -> String {
    let mut seen = std::collections::BTreeSet::new();
    let kind = |line: &str| line.chars().filter(|c| !c.is_ascii_hexdigit()).take(100).collect::<String>();
    let lines = said
        .lines()
        .filter(|line| (line.contains("WARN") || line.contains("ERROR") || line.contains("panicked")) && seen.insert(kind(line)));
    lines.take(30).collect::<Vec<_>>().join("\n")
}

fn config(url: &str) -> String {
    format!(
        r#"
data_dir = "state"

[sources.pods]
type = "kubernetes_logs"
root = "pods"

[sinks.archive]
type = "file"
inputs = ["pods"]
path = "out/all.jsonl"
[sinks.archive.batch]
max_bytes = 262144
timeout_secs = 0.05

[sinks.store]
type = "elasticsearch"
inputs = ["pods"]
endpoints = ["{url}"]
mode = "bulk"
index = "logs"
[sinks.store.batch]
max_bytes = 262144
timeout_secs = 0.05
[sinks.store.request]
retry_initial_backoff_ms = 10
[sinks.store.buffer]
type = "disk"
max_size = 67108864
"#
    )
}
