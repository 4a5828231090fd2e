//! The buffers of sinks that were renamed or removed: who has one, and where a sink that takes such a one's place begins.

use std::path::Path;

use anyhow::Context;
use skidder_pipeline::buffer::{self, Held};
use skidder_pipeline::fs::RealFs;
use skidder_pipeline::position::RangeSet;

use crate::config::{Builtin, Pipeline};
use crate::state::{buffers, sink_dir};

/// Says which buffers belong to no sink: they are kept, and nobody empties them.
pub fn warn(pipeline: &Pipeline<Builtin>, data_dir: &Path) {
    for name in of(pipeline, data_dir) {
        tracing::warn!(
            sink = name,
            dir = %sink_dir(data_dir, &name).display(),
            "this buffer belongs to a sink that is not in the configuration: it is kept and not delivered; \
             `skidder buffer adopt` gives it to another sink, `skidder buffer drop` removes it"
        );
    }
}

/// What sinks that are new hold from the start, where no sink of the configuration has begun and some that are gone had: all
/// that these have read, in so far as they have read of a file. It would else be sent once more. Empty in any other case.
///
/// # Errors
/// Where a buffer cannot be looked at: to begin without knowing would send all of it again.
pub fn where_they_stopped(pipeline: &Pipeline<Builtin>, data_dir: &Path) -> anyhow::Result<Held> {
    let gone = of(pipeline, data_dir);
    if gone.is_empty() {
        return Ok(Held::new());
    }
    for sink in &pipeline.sinks {
        let dir = sink_dir(data_dir, &sink.name);
        if buffer::has_begun(&RealFs, &dir).with_context(|| cannot_look_at(&dir))? {
            return Ok(Held::new());
        }
    }
    let (mut stopped, mut sinks) = (Held::new(), Vec::new());
    for name in gone {
        let dir = sink_dir(data_dir, &name);
        let held = buffer::held(&RealFs, &dir).with_context(|| cannot_look_at(&dir))?;
        if !held.is_empty() {
            sinks.push(name);
        }
        for (file, set) in held.into_iter().filter(|(_, set)| !set.is_empty()) {
            let common = stopped.get(&file).map(|other| RangeSet::intersection([other, &set].into_iter()));
            stopped.insert(file, common.unwrap_or(set));
        }
    }
    if !stopped.is_empty() {
        tracing::info!(
            sinks = sinks.join(", "),
            "no sink of this configuration has read anything before, and these, which are not in it, have: reading goes on where \
             they stopped (`start_from = \"beginning\"` reads all again); what waits in their buffers comes with `skidder buffer adopt`"
        );
    }
    Ok(stopped)
}

fn of(pipeline: &Pipeline<Builtin>, data_dir: &Path) -> Vec<String> {
    buffers(data_dir).unwrap_or_default().into_iter().filter(|name| !pipeline.has_sink(name)).collect()
}

fn cannot_look_at(dir: &Path) -> String {
    format!("cannot look at the buffer {}; mend it, or move it away", dir.display())
}
