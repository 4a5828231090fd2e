//! No personal data leaves by a way that nobody looks at: the buffer of a dead store, dead letters, the files, the log.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::io::Read;

use flate2::read::MultiGzDecoder;
use memchr::memmem;
use skidder_tests::generate::{Fleet, personal::leftovers};
use skidder_tests::site::{Site, files_below};
use skidder_tests::store::{Faults, Keep, Store};

#[test]
fn nothing_planted_is_left_on_disk_or_on_the_wire() {
    let store = Store::start(Keep::Documents).unwrap();
    store.set_down(true);
    let site = Site::new(config(&store.url())).unwrap();
    let fleet = Fleet::new(31, 4).personal_per_mille(400).split_per_mille(100);
    let written = fleet.write(&site.path("pods"), 400_000).unwrap();
    assert!(leftovers(&all_below(&site, "pods")).len() > 300, "the test plants too little to see anything");

    let ended = site.once_with(&["--timeout", "2"]).unwrap();
    assert!(!ended.status.success(), "the store is down: {ended}");
    assert!(all_below(&site, "state").len() > 10_000, "the records should be in the buffer");
    let in_file = site.read("out/all.jsonl").iter().filter(|byte| **byte == b'\n').count() as u64;
    assert_eq!(in_file, written.total());
    let looked_at = |when: &str, log: &str| {
        assert_eq!(leftovers(&all_below(&site, "state")), [], "in the state, {when}");
        assert_eq!(leftovers(&all_below(&site, "out")), [], "in the files, {when}");
        assert_eq!(leftovers(log.as_bytes()), [], "in the log, {when}: {log}");
    };
    looked_at("while the store is down", &ended.stderr);

    // Some are refused now and become dead letters, with the store's own words.
    store.set_faults(Faults { refuse: Some(b"\"service\":\"places\"".to_vec()), ..Faults::default() });
    store.set_down(false);
    let ended = site.once_with(&[]).unwrap();
    assert!(!ended.crashed(), "{ended}");
    looked_at("with dead letters", &ended.stderr);
    let documents = store.documents();
    let refused = store.counts().refused;
    assert!(refused > 50 && documents.len() as u64 + refused == written.total(), "{} documents, {refused} refused", documents.len());
    assert_eq!(leftovers(&documents.join(&b'\n')), []);
}

/// All bytes of the files below `directory`, as they are and with every gzip member in them unpacked.
fn all_below(site: &Site, directory: &str) -> Vec<u8> {
    let mut all = Vec::new();
    for path in files_below(&site.path(directory)).unwrap() {
        let bytes = fs::read(path).unwrap();
        for start in memmem::find_iter(&bytes, b"\x1f\x8b\x08") {
            // Not every such place is a member; what can be unpacked of it counts.
            let _ = MultiGzDecoder::new(&bytes[start..]).read_to_end(&mut all);
            all.push(b'\n');
        }
        all.extend_from_slice(&bytes);
    }
    all
}

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

[transforms.clean]
type = "redact"
inputs = ["parse"]

[sinks.files]
type = "file"
inputs = ["clean"]
path = "out/all.jsonl"

[sinks.store]
type = "elasticsearch"
inputs = ["clean"]
endpoints = ["{url}"]
mode = "bulk"
index = "logs"
"#
    )
}
