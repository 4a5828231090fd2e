//! A store that is down stops the reading for itself alone: the other sinks get everything meanwhile, and it gets all of
//! it when it is back, even from logs that were removed in between.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use rustix::process::Signal;
use skidder_tests::agent::{Agent, until};
use skidder_tests::generate::Fleet;
use skidder_tests::ledger::{Faults, Ledger};
use skidder_tests::site::{Site, files_below};
use skidder_tests::store::{Keep, Store};

/// The buffer holds a twentieth of what is written (compressed).
fn config(url: &str) -> String {
    format!(
        r#"
data_dir = "state"
[sources.pods]
type = "kubernetes_logs"
root = "pods"
[transforms.parse]
type = "json"
inputs = ["pods"]
[sinks.store]
type = "elasticsearch"
inputs = ["parse"]
endpoints = ["{url}"]
mode = "bulk"
index = "logs"
request.retry_max_duration_secs = 1
buffer.max_size = "1MiB"
batch.max_bytes = 500000
[sinks.files]
type = "file"
inputs = ["parse"]
path = "out/{{{{ kubernetes.pod_name }}}}.jsonl"
"#
    )
}

fn in_files(site: &Site, fleet: &Fleet, records: &[u64]) -> Faults {
    let mut ledger = Ledger::new(fleet, records);
    files_below(&site.path("out")).unwrap_or_default().iter().for_each(|file| ledger.enter_lines(&std::fs::read(file).unwrap()));
    ledger.close()
}

fn stop(agent: Agent) {
    agent.signal(Signal::TERM).unwrap();
    agent.wait(Duration::from_secs(40)).unwrap().expect_success().unwrap();
}

#[test]
fn one_store_down_and_the_other_sink_sees_no_delay() {
    let store = Store::start(Keep::Documents).unwrap();
    store.set_down(true);
    let fleet = Fleet::new(77, 4);
    let site = Site::new(config(&store.url())).unwrap();
    let written = fleet.write(&site.path("pods"), 25_000_000).unwrap();
    let agent = site.start().unwrap();
    let whole = until(|| in_files(&site, &fleet, &written.records).is_none().then_some(()));
    assert!(whole.is_some(), "the files wait for the store: {}", in_files(&site, &fleet, &written.records));

    // One of the logs goes away while the store still has to get most of it.
    std::fs::remove_file(fleet.log_file(&site.path("pods"), 2)).unwrap();
    store.set_down(false);
    let total = written.records.iter().sum::<u64>();
    let arrived = until(|| (store.counts().stored >= total).then_some(()));
    stop(agent);
    let mut ledger = Ledger::new(&fleet, &written.records);
    store.documents().iter().for_each(|document| ledger.enter(document));
    let faults = ledger.close();
    assert!(faults.is_none() && arrived.is_some(), "the store: {faults}");
    // What the store lacked was read again for it alone, and nothing was sent to it twice.
    assert_eq!((store.counts().stored, store.counts().repeats), (total, 0), "{:?}", store.counts());
    assert!(in_files(&site, &fleet, &written.records).is_none(), "{}", in_files(&site, &fleet, &written.records));
}
