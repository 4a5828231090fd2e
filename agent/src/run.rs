//! The run loop.

use std::process::ExitCode;
use std::time::Duration;

use crate::config::{Builtin, Pipeline};

/// How to run.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// Read to the end of what is there, deliver it, and stop with a summary.
    pub once: bool,
    /// With `once`, how long all of it may take; what is not delivered by then is a failure.
    pub timeout: Option<Duration>,
}

/// Runs until a signal, or to the end of the sources.
///
/// # Errors
/// Where the agent cannot start. What fails while it runs is retried, counted and logged.
pub fn run(pipeline: Pipeline<Builtin>, options: RunOptions) -> anyhow::Result<ExitCode> {
    let _ = (pipeline, options);
    anyhow::bail!("this build cannot run yet")
}
