//! A reload: the file is read anew, and whatever is wrong with it is found out before anything changes.

use std::path::Path;
use std::sync::Arc;

use crate::config::{self, Builtin, Changes, Named, Pipeline};
use crate::lockdown::Bounds;
use crate::memory;
use crate::sources::SourceConfig;

/// A configuration that can take the place of the one at work.
pub struct Next {
    pub pipeline: Pipeline<Builtin>,
    pub changes: Changes,
}

/// Reads the file at `path`. `None` where it says what is at work already.
///
/// # Errors
/// All that is wrong with it, and what it would need a new process for, each as a text of one or several lines; never what is
/// in a log.
pub fn read(path: &Path, now: &Pipeline<Builtin>, bounds: &Bounds, state_dir: &Path) -> Result<Option<Next>, Vec<String>> {
    let checked = config::load::<Builtin>(path).map_err(|error| vec![format!("error: {error:#}")])?;
    let report = checked.report(false);
    let Some(pipeline) = checked.pipeline else { return Err(vec![report]) };
    let changes = Changes::between(now, &pipeline);
    if changes.is_none() {
        return Ok(None);
    }
    if !report.is_empty() {
        tracing::warn!("{report}");
    }
    memory::check(&pipeline).map_err(|problem| vec![format!("error: {problem}")])?;
    let mut refused = needs_a_restart(now, &pipeline);
    refused.extend(bounds.refuse(&pipeline, state_dir));
    if refused.is_empty() {
        return Ok(Some(Next { pipeline, changes }));
    }
    Err(refused.into_iter().map(|why| format!("error: this needs a restart of the agent: {why}")).collect())
}

/// What is bound to the process.
fn needs_a_restart(now: &Pipeline<Builtin>, new: &Pipeline<Builtin>) -> Vec<String> {
    let mut refused = Vec::new();
    if now.data_dir() != new.data_dir() {
        refused.push("`data_dir` is another, and the state stays where it is while the agent runs".to_owned());
    }
    if now.global.api != new.global.api {
        refused.push("the table `[api]` changed, and the endpoint stays open while the agent runs".to_owned());
    }
    if now.global.lockdown != new.global.lockdown {
        refused.push("`lockdown` is another, and what the agent gave up at its start it cannot have back".to_owned());
    }
    if reads_stdin(new) {
        refused.push("a source of the type `stdin` was added, and the standard input is opened at the start alone".to_owned());
    }
    refused
}

/// Whether it reads what nobody could read again.
pub fn reads_stdin(pipeline: &Pipeline<Builtin>) -> bool {
    pipeline.sources.iter().any(|Named { config, .. }| matches!(config, SourceConfig::Stdin(_)))
}

/// [`read`] on a thread for what takes long: patterns are compiled, and the deliveries go on meanwhile.
pub async fn read_aside(
    path: Arc<Path>,
    now: Arc<Pipeline<Builtin>>,
    bounds: Arc<Bounds>,
    state_dir: Arc<Path>,
) -> Result<Option<Next>, Vec<String>> {
    let reading = tokio::task::spawn_blocking(move || read(&path, &now, &bounds, &state_dir));
    reading.await.unwrap_or_else(|_| Err(vec!["error: the check of the configuration broke off".to_owned()]))
}
