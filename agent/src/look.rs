//! The look at the stores that `validate` takes: whether they answer and have what the sinks need. It changes nothing there.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use skidder_sinks::SinkContext;
use skidder_sinks::probe::Finding;

use crate::cli::print;
use crate::config::{Builtin, Pipeline};

/// How long a store may take for all that it is asked.
const PATIENCE: Duration = Duration::from_secs(15);

/// Looks at the store of each sink that has one, and prints what is found after `before`. The exit code is 1 where something
/// will not work.
///
/// # Errors
/// Where it cannot be looked at all.
pub fn stores(pipeline: &Pipeline<Builtin>, mut before: String) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    let mut works = true;
    for named in &pipeline.sinks {
        let context = SinkContext { name: named.name.clone(), base_dir: Some(pipeline.base_dir.clone()), ..SinkContext::default() };
        // What keeps it from being built is among the mistakes that were shown.
        let Some(Ok(probe)) = named.config.probe(&context) else { continue };
        let findings = runtime.block_on(async { tokio::time::timeout(PATIENCE, probe.probe()).await });
        let findings = findings.unwrap_or_else(|_| vec![Finding::Error("the store does not answer in time".to_owned())]);
        for finding in findings {
            let (word, text) = match finding {
                Finding::Fine(text) => ("ok", text),
                Finding::Warning(text) => ("warning", text),
                Finding::Error(text) => ("error", text),
            };
            works &= word != "error";
            writeln!(before, "{word}: sink `{}`: {text}", named.name)?;
        }
    }
    if !works {
        before += "The configuration is as it should be, and a store is not (`--offline` leaves the stores out).\n";
    }
    print(&before)?;
    Ok(if works { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
