//! What the tests of sources share.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex};

use skidder_pipeline::batch::{Batch, RecordView};
use skidder_pipeline::edge::{Clock, Nanos};
use skidder_pipeline::path;
use skidder_pipeline::position::{FileKey, Range, RangeSet};
use skidder_pipeline::source::{Held, SinkSet};

use super::SourceContext;

/// A clock that stands still.
pub(crate) struct Still;

impl Clock for Still {
    fn now(&self) -> Nanos {
        Nanos(0)
    }

    fn unix_nanos(&self) -> i64 {
        1_773_157_695_217_676_062
    }
}

/// Sinks whose positions are what tests say, and of which files something waits for delivery.
#[derive(Default)]
pub(crate) struct Fake(pub Mutex<HashMap<(usize, FileKey), RangeSet>>, pub Mutex<HashSet<FileKey>>);

impl Fake {
    pub(crate) fn hold(&self, sinks: SinkSet, ranges: &[Range]) {
        let mut held = self.0.lock().unwrap();
        for sink in (0..SinkSet::CAPACITY).filter(|sink| sinks.contains(*sink)) {
            for range in ranges {
                held.entry((sink, range.file)).or_default().insert(range.start, range.end, range.marker);
            }
        }
    }
}

impl Held for Fake {
    fn held(&self, file: &FileKey) -> Vec<(usize, RangeSet)> {
        let held = self.0.lock().unwrap();
        held.iter().filter(|((_, key), _)| key == file).map(|((sink, _), set)| (*sink, set.clone())).collect()
    }

    fn files(&self) -> Vec<FileKey> {
        self.0.lock().unwrap().keys().map(|(_, file)| *file).collect()
    }

    fn is_delivered(&self, file: &FileKey) -> bool {
        !self.1.lock().unwrap().contains(file)
    }

    fn forget(&self, file: &FileKey) {
        self.0.lock().unwrap().retain(|(_, key), _| key != file);
    }
}

/// A context with one sink that holds nothing.
pub(crate) fn context(dir: &Path) -> SourceContext {
    SourceContext {
        name: "test".into(),
        base_dir: dir.to_owned(),
        sinks: SinkSet::first(1),
        new_sinks: SinkSet::default(),
        held: Arc::new(Fake::default()),
        claims: Arc::default(),
        estate: Arc::default(),
        is_same: false,
        leftovers: Arc::default(),
        stats: Arc::default(),
        clock: Arc::new(Still),
        metadata: None,
        state_dir: dir.join("state"),
        epoch: [7; 16],
        once: false,
        wake: Arc::new(|| {}),
    }
}

/// Each record in short: stream, message, marks.
pub(crate) fn show(batch: &Batch) -> Vec<String> {
    batch.records().map(|record| show_record(&record)).collect()
}

fn show_record(record: &RecordView<'_>) -> String {
    let field = |name: &str| {
        let path = path::Path::parse(name).unwrap();
        record.get(&path).map(|value| value.plain_str().into_owned())
    };
    let mut text = field("stream").map(|stream| stream + ":").unwrap_or_default();
    text += &field("message").expect("each record has a message");
    assert!(field("timestamp").is_some(), "each record has a time");
    for (mark, value) in [("parse_error", true), ("invalid_utf8", false), ("unterminated", false)] {
        if let Some(found) = field(mark) {
            text += &if value { format!(" {mark}={found}") } else { format!(" {mark}") };
        }
    }
    if let Some(part) = field("part") {
        text += &format!(" part {part} of {}", field("parts").expect("with their number"));
    }
    if field("truncated").is_some() {
        text += &format!(" truncated of {}", field("original_bytes").expect("with the length before"));
    }
    text
}
