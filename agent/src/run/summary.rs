//! What `run --once` says at its end, and the bar that it shows meanwhile.

use std::fmt::Write;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use skidder_pipeline::stats::Stats;

/// The counts of a whole run as a short table for a person.
pub fn summary(stats: &Stats) -> String {
    let mut out = String::new();
    for (name, source) in &stats.sources {
        let bytes = HumanBytes(source.bytes.get());
        line(&mut out, "read", source.records.get(), &format!("records ({bytes}) from `{name}`"));
        let faults = [
            (&source.malformed, "lines with a malformed header, sent as they were"),
            (&source.invalid_utf8, "records with bytes that are no UTF-8, replaced"),
            (&source.truncated, "records cut at the size limit"),
            (&source.dropped, "records left out for their size"),
            (&source.lost_bytes, "bytes lost before they could be read"),
            (&source.failed_files, "files that could not be read"),
        ];
        for (count, what) in faults {
            line_if_any(&mut out, "", count.get(), what);
        }
        line_if_any(&mut out, "", source.refused_files.total(), "files that were refused");
    }
    let report = stats.report();
    line_if_any(&mut out, "filtered", report.filtered, "records");
    line_if_any(&mut out, "not JSON", report.not_json, "records, kept as text");
    let mut redactions = report.redactions();
    redactions.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    for (rule, count) in &redactions {
        line(&mut out, "redacted", *count, &format!("values by `{rule}`"));
    }
    for (name, sink) in &stats.sinks {
        line(&mut out, "delivered", sink.delivered.get(), &format!("records to `{name}`"));
        line_if_any(&mut out, "", sink.duplicates.get(), "of them were there already");
        line_if_any(&mut out, "rejected", sink.rejected.get(), &format!("records by `{name}`, kept as dead letters"));
        line_if_any(&mut out, "lost", sink.lost.get(), &format!("records in the buffer of `{name}`"));
        line_if_any(&mut out, "waiting", sink.buffered_records.get(), &format!("records for `{name}`, not delivered"));
    }
    out
}

fn line(out: &mut String, verb: &str, count: u64, what: &str) {
    // Writing to a String does not fail.
    let _ = writeln!(out, "{verb:>10} {count:>12} {what}");
}

fn line_if_any(out: &mut String, verb: &str, count: u64, what: &str) {
    if count > 0 {
        line(out, verb, count, what);
    }
}

/// A bar of the bytes read out of those known to be there. Shown only where standard error is a terminal.
pub struct Progress(Option<ProgressBar>);

impl Progress {
    /// A bar, or nothing where nobody would see it.
    pub fn new() -> Progress {
        if !std::io::stderr().is_terminal() {
            return Progress(None);
        }
        let bar = ProgressBar::new(0);
        if let Ok(style) = ProgressStyle::with_template("{bar:32} {bytes}/{total_bytes} {bytes_per_sec} {msg}") {
            bar.set_style(style);
        }
        Progress(Some(bar))
    }

    /// Waits until it is time for [`Progress::update`]: for ever where there is no bar.
    pub async fn tick(&self) {
        match self.0 {
            Some(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            None => std::future::pending().await,
        }
    }

    /// Shows the counts as they are now.
    pub fn update(&self, stats: &Stats) {
        let Some(bar) = &self.0 else { return };
        let read: u64 = stats.sources.values().map(|source| source.bytes.get()).sum();
        let unread: u64 = stats.sources.values().map(|source| source.unread_bytes.get()).sum();
        let waiting: u64 = stats.sinks.values().map(|sink| sink.buffered_records.get()).sum();
        bar.set_length(read + unread);
        bar.set_position(read);
        bar.set_message(if waiting == 0 { String::new() } else { format!("{waiting} records waiting for their stores") });
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
