//! `skidder init`, which prints what a store needs, and the part of `skidder validate` that looks at the stores.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use skidder_sinks::setup::{Finding, Needs, Setup, Weight, sample};
use skidder_sinks::{SinkConfig, SinkContext};

use crate::config::{Builtin, Named, Pipeline};

/// How long a store may take for all that it is asked.
const LOOK_WAIT: Duration = Duration::from_secs(20);

/// What the store of type `store` needs: for the sink of that type in `pipeline` (for the one called `sink` where there are
/// several), or for a sink with little beside its defaults.
///
/// # Errors
/// Where the configuration has no such sink, or several.
pub fn needs(store: &str, pipeline: Option<&Pipeline<Builtin>>, sink: Option<&str>) -> anyhow::Result<Needs> {
    let unknown = || format!("nothing is known of `{store}`");
    let Some(pipeline) = pipeline else {
        let config = sample(store).with_context(unknown)?;
        return of(&config, "", Path::new(""))?.with_context(unknown);
    };
    // Both are served by one sink.
    let type_name = if store == "opensearch" { "elasticsearch" } else { store };
    let fits = |named: &&Named<SinkConfig>| named.type_name == type_name && sink.is_none_or(|sink| sink == named.name);
    let mut sinks = pipeline.sinks.iter().filter(fits);
    match (sinks.next(), sinks.next()) {
        (Some(named), None) => of(&named.config, &named.name, &pipeline.base_dir)?.with_context(unknown),
        (Some(one), Some(two)) => bail!("`{}` and `{}` are both of this type: say which with `--sink NAME`", one.name, two.name),
        (None, _) => match sink {
            Some(sink) => bail!("the configuration has no sink `{sink}` of type `{type_name}`"),
            None => bail!("the configuration has no sink of type `{type_name}`"),
        },
    }
}

fn of(config: &SinkConfig, name: &str, base_dir: &Path) -> anyhow::Result<Option<Needs>> {
    Ok(setup(config, name, base_dir)?.map(|setup| setup.needs()))
}

fn setup(config: &SinkConfig, name: &str, base_dir: &Path) -> anyhow::Result<Option<Box<dyn Setup>>> {
    let context = SinkContext { name: name.to_owned(), base_dir: Some(base_dir.to_owned()), ..SinkContext::default() };
    config.setup(&context).map_err(|problems| {
        let all: Vec<String> = problems.into_iter().map(|problem| format!("{}: {}", problem.path.join("."), problem.message)).collect();
        anyhow::anyhow!("{}", all.join("; "))
    })
}

/// What a look at all stores showed.
#[derive(Debug, Default)]
pub struct Seen {
    /// What is as it should be, a line each.
    pub fine: String,
    /// What is not, with advice.
    pub wrong: String,
    /// Whether there is a store that will not take records.
    pub faulty: bool,
}

/// Looks at the store of each sink that has something to look at.
///
/// # Errors
/// Where the look cannot begin.
pub fn look(pipeline: &Pipeline<Builtin>) -> anyhow::Result<Seen> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    let mut seen = Seen::default();
    for named in &pipeline.sinks {
        let Some(setup) = setup(&named.config, &named.name, &pipeline.base_dir)? else { continue };
        let found = runtime.block_on(async { tokio::time::timeout(LOOK_WAIT, setup.check()).await });
        let late = || vec![Finding::fault(format!("the store does not answer within {} seconds", LOOK_WAIT.as_secs()))];
        for finding in found.unwrap_or_else(|_| late()) {
            seen.note(&named.name, &finding)?;
        }
    }
    Ok(seen)
}

impl Seen {
    fn note(&mut self, sink: &str, finding: &Finding) -> std::fmt::Result {
        let Finding { weight, message, help } = finding;
        let word = match weight {
            Weight::Fine => return writeln!(self.fine, "  sink `{sink}`: {message}"),
            Weight::Doubtful => "warning",
            Weight::Fault => "error",
        };
        self.faulty |= *weight == Weight::Fault;
        writeln!(self.wrong, "{word}: sink `{sink}`: {message}")?;
        help.as_ref().map_or(Ok(()), |help| writeln!(self.wrong, "  help: {help}"))
    }
}
