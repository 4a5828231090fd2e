//! `skidder buffer`: what waits in the buffers on disk, and what becomes of the buffer of a sink that is gone.
//!
//! A buffer belongs to a sink by its name. So one that was renamed or removed leaves its buffer behind: it is kept, listed
//! and warned of, until someone gives it to another sink or throws it away.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use skidder_pipeline::body::decompress;
use skidder_pipeline::buffer::{BufferOptions, Inspection, Look, SinkBuffer, WhenFull, inspect};
use skidder_pipeline::delivery::single_out;
use skidder_pipeline::edge::{Clock, SystemClock};
use skidder_pipeline::frame::Frame;
use skidder_pipeline::fs::RealFs;
use skidder_pipeline::sink::Sink;
use skidder_sinks::{SinkContext, SinkParts};

use crate::config::{Builtin, Pipeline};
use crate::output::print;
use crate::state::{State, buffers as names, sink_dir};

/// What to do.
#[derive(Clone, Debug)]
pub enum Task {
    /// A line for each buffer.
    List,
    /// Read everything and say what is damaged.
    Verify {
        /// Of this sink alone.
        sink: Option<String>,
    },
    /// Write what waits to the standard output.
    Export {
        /// The sink.
        name: String,
        /// As it would be sent.
        raw: bool,
    },
    /// Give the buffer of one sink to another.
    Adopt {
        /// The sink that had it.
        old: String,
        /// The sink that gets it.
        new: String,
    },
    /// Throw a buffer away.
    Drop {
        /// The sink that had it.
        name: String,
    },
}

/// Does `task` with the buffers below the `data_dir` of the configuration.
///
/// # Errors
/// Where there is no such buffer, it cannot be read, or it is in use.
pub fn execute(pipeline: &Pipeline<Builtin>, task: &Task) -> anyhow::Result<ExitCode> {
    let data_dir = pipeline.kept_dir()?;
    match task {
        Task::List => list(pipeline, &data_dir),
        Task::Verify { sink } => verify(&data_dir, sink.as_deref()),
        Task::Export { name, raw } => export(pipeline, &data_dir, name, *raw),
        Task::Adopt { old, new } => adopt(pipeline, &data_dir, old, new),
        Task::Drop { name } => drop_buffer(pipeline, &data_dir, name),
    }
}

fn look_at(data_dir: &Path, name: &str, look: Look) -> anyhow::Result<Inspection> {
    let dir = sink_dir(data_dir, name);
    inspect(&RealFs, &dir, look, &mut |_| Ok(())).with_context(|| format!("cannot read the buffer {}", dir.display()))
}

fn known(data_dir: &Path) -> anyhow::Result<Vec<String>> {
    names(data_dir).with_context(|| format!("cannot read the state directory {}", data_dir.display()))
}

fn must_exist(data_dir: &Path, name: &str) -> anyhow::Result<()> {
    let known = known(data_dir)?;
    if !known.iter().any(|known| known == name) {
        bail!("there is no buffer of a sink `{name}` in {}; there are: {}", data_dir.display(), known.join(", "));
    }
    Ok(())
}

fn list(pipeline: &Pipeline<Builtin>, data_dir: &Path) -> anyhow::Result<ExitCode> {
    let mut out = String::new();
    for name in known(data_dir)? {
        let found = look_at(data_dir, &name, Look::Headers)?;
        let (frames, records, bytes) = found.waiting();
        let gone = if pipeline.has_sink(&name) { "" } else { "  (not in the configuration)" };
        let segments = found.segments.len();
        writeln!(out, "{name}: {records} records wait in {frames} frames of {bytes} bytes; {segments} segments{gone}")?;
    }
    if out.is_empty() {
        out.push_str("no buffers\n");
    }
    print(&out)
}

fn verify(data_dir: &Path, sink: Option<&str>) -> anyhow::Result<ExitCode> {
    let names = match sink {
        Some(name) => {
            must_exist(data_dir, name)?;
            vec![name.to_owned()]
        }
        None => known(data_dir)?,
    };
    let (mut out, mut damaged) = (String::new(), false);
    for name in names {
        let found = look_at(data_dir, &name, Look::Everything)?;
        damaged |= found.is_damaged();
        let (frames, records, _) = found.waiting();
        let verdict = if found.is_damaged() { "DAMAGED" } else { "ok" };
        writeln!(out, "{name}: {verdict}; {frames} frames with {records} records wait, in {} bytes", found.bytes())?;
        if !found.has_positions && !found.segments.is_empty() {
            writeln!(out, "  its log of positions is missing or damaged: everything in it will be sent again")?;
        }
        for segment in &found.segments {
            if segment.damaged_frames > 0 || segment.damaged_bytes > 0 {
                let (frames, bytes) = (segment.damaged_frames, segment.damaged_bytes);
                writeln!(out, "  {}: {frames} frames with a damaged body, {bytes} bytes that are no frame", segment.name)?;
            }
            if segment.torn_bytes > 0 {
                writeln!(out, "  {}: {} bytes at its end are no whole frame", segment.name, segment.torn_bytes)?;
            }
        }
    }
    print(&out)?;
    Ok(if damaged { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn export(pipeline: &Pipeline<Builtin>, data_dir: &Path, name: &str, raw: bool) -> anyhow::Result<ExitCode> {
    must_exist(data_dir, name)?;
    let sink = if raw { None } else { Some(sink_of(pipeline, name)?) };
    let mut out = io::BufWriter::new(io::stdout().lock());
    let exported = inspect(&RealFs, &sink_dir(data_dir, name), Look::Everything, &mut |frame| write(&frame, sink.as_deref(), &mut out));
    match exported.and_then(|found| out.flush().map(|()| found)) {
        Ok(found) if found.is_damaged() => bail!("some of it is damaged and was left out; see `skidder buffer verify`"),
        // Whoever read it has enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn sink_of(pipeline: &Pipeline<Builtin>, name: &str) -> anyhow::Result<Arc<dyn Sink>> {
    if !pipeline.has_sink(name) {
        bail!("sink `{name}` is not in the configuration, so what its records look like is not known: use `--raw`");
    }
    parts_of(pipeline, name).map(|parts| parts.sink).with_context(|| "use `--raw`".to_owned())
}

fn parts_of(pipeline: &Pipeline<Builtin>, name: &str) -> anyhow::Result<SinkParts> {
    let Some(named) = pipeline.sinks.iter().find(|sink| sink.name == name) else {
        bail!("sink `{name}` is not in the configuration");
    };
    let context = SinkContext { name: name.to_owned(), base_dir: Some(pipeline.base_dir.clone()), ..SinkContext::default() };
    named.config.build(&context).map_err(|_| anyhow!("sink `{name}` cannot be built"))
}

fn write(frame: &Frame, sink: Option<&dyn Sink>, out: &mut impl io::Write) -> io::Result<()> {
    let header = frame.header();
    let body = decompress(header.compression, frame.body(), header.raw_bytes)?;
    let Some(sink) = sink else { return out.write_all(&body) };
    let mut records = Vec::new();
    single_out(sink, &body, &(0..header.records).collect::<Vec<_>>(), &mut records);
    for record in records {
        let mut line = sink.show(&record, 0);
        // A line feed in JSON can only be white space between its parts.
        line.iter_mut().filter(|byte| **byte == b'\n').for_each(|byte| *byte = b' ');
        line.push(b'\n');
        out.write_all(&line)?;
    }
    Ok(())
}

fn adopt(pipeline: &Pipeline<Builtin>, data_dir: &Path, old: &str, new: &str) -> anyhow::Result<ExitCode> {
    must_exist(data_dir, old)?;
    if pipeline.has_sink(old) {
        bail!("sink `{old}` is in the configuration and empties its buffer itself");
    }
    if !pipeline.has_sink(new) {
        bail!("sink `{new}` is not in the configuration");
    }
    let state = State::open_now(data_dir)?;
    let (from, to) = (sink_dir(state.dir(), old), sink_dir(state.dir(), new));
    let (frames, records) = if to.exists() {
        merge(pipeline, &state, old, new)?
    } else {
        let (frames, records, _) = look_at(data_dir, old, Look::Headers)?.waiting();
        fs::rename(&from, &to).with_context(|| format!("cannot rename {}", from.display()))?;
        (frames, records)
    };
    fs::File::open(state.dir()).and_then(|dir| dir.sync_all()).context("cannot sync the state directory")?;
    print(&format!(
        "`{new}` has the buffer of `{old}` now, with {records} records in {frames} frames, and reads on where `{old}` stopped\n"
    ))
}

/// Puts what the buffer of `old` has into that of `new`, which has begun already, and removes it. Gives its frames and records.
fn merge(pipeline: &Pipeline<Builtin>, state: &State, old: &str, new: &str) -> anyhow::Result<(u64, u64)> {
    let (from, to) = (sink_dir(state.dir(), old), sink_dir(state.dir(), new));
    let parts = parts_of(pipeline, new)?;
    let waiting = look_at(state.dir(), old, Look::Headers)?.waiting().2 + look_at(state.dir(), new, Look::Headers)?.bytes();
    if !parts.buffer.disk || waiting > parts.buffer.max_bytes {
        bail!(
            "sink `{new}` has a buffer already, and what waits in both is {waiting} bytes, more than its buffer on disk may take: raise its \
             `buffer.max_size`, or let it deliver first"
        );
    }
    let clock = SystemClock::new();
    let open = |dir: &Path| {
        let options = BufferOptions {
            disk: true,
            dir: dir.to_owned(),
            max_bytes: u64::MAX,
            when_full: WhenFull::Block,
            sync_after: parts.buffer.sync_after,
            strict: false,
            min_free_bytes: Some(0),
            memory_bytes: 0,
        };
        SinkBuffer::open(Arc::new(RealFs), options, state.epoch(), clock.now())
    };
    let (mut source, found) = open(&from);
    if !found.notes.is_empty() {
        bail!(
            "sink `{new}` has begun already, and `{old}` kept a journal of its own that cannot become part of another: let the one take over \
             under a name that is new, or drop the one or the other"
        );
    }
    let (mut target, _) = open(&to);
    let adopted = target.adopt(&mut source, clock.now()).with_context(|| format!("cannot put {} into {}", from.display(), to.display()))?;
    drop(source);
    let quarantine = from.join("quarantine");
    if quarantine.exists() {
        let kept = to.join(format!("quarantine-{old}"));
        fs::rename(&quarantine, &kept).with_context(|| format!("cannot rename {}", quarantine.display()))?;
    }
    fs::remove_dir_all(&from).with_context(|| format!("cannot remove {}", from.display()))?;
    Ok(adopted)
}

fn drop_buffer(pipeline: &Pipeline<Builtin>, data_dir: &Path, name: &str) -> anyhow::Result<ExitCode> {
    must_exist(data_dir, name)?;
    if pipeline.has_sink(name) {
        bail!("sink `{name}` is in the configuration; take it out first if its records are not wanted any more");
    }
    let state = State::open_now(data_dir)?;
    let (_, records, _) = look_at(data_dir, name, Look::Headers)?.waiting();
    let dir = sink_dir(state.dir(), name);
    fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    print(&format!("the buffer of `{name}` is gone, and {records} records that waited in it\n"))
}
