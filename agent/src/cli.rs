//! The command line.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use tracing_subscriber::EnvFilter;

use crate::buffer_cmd;
use crate::config::{self, Builtin, FileSchema, Pipeline};
use crate::dlq;
use crate::memory;
use crate::output::print;
use crate::redact_filter::{self, PseudonymArgs, RedactArgs};
use crate::run::{self, RunOptions};
use crate::setup;

/// The exit code for a configuration that cannot be used: `EX_CONFIG` of sysexits.h.
pub const EXIT_CONFIG: u8 = 78;

/// A log agent for Kubernetes nodes that loses nothing, repeats nothing and redacts personal data.
#[derive(Debug, Parser)]
#[command(name = "skidder", version, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    log: LogArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Read, change and deliver logs until a signal comes.
    ///
    /// SIGTERM and Ctrl-C stop the reading, deliver what can be delivered and keep the rest on disk. SIGHUP reads the
    /// configuration anew. Exit code 78 says that
    /// the configuration cannot be used, 1 that something else failed.
    Run(RunArgs),
    /// Check a configuration, and the stores that it names, and show all that is wrong.
    ///
    /// Exit code 78 says that the configuration has errors; 1 that it has none, and that a store cannot be reached, refuses the
    /// credentials or lacks what the sink needs (`skidder init` prints it). Warnings alone do not change the exit code.
    Validate(ValidateArgs),
    /// Print what a store needs before the first record comes: an index template, tables, limits.
    ///
    /// It goes to the standard output, for the store's own client to take; how is said on the standard error.
    Init(InitArgs),
    /// Look at what waits in the buffers, check it, bring it out, or give it to another sink.
    #[command(subcommand)]
    Buffer(BufferCommand),
    /// Look at records that stores refused for good, send them again, or throw them away. The agent may run meanwhile.
    #[command(subcommand)]
    Dlq(DlqCommand),
    /// Print the JSON schema of the configuration file, for editors.
    Schema(SchemaArgs),
    /// Redact lines from the standard input to the standard output, to try it on a file.
    ///
    /// There are as many lines after as before; JSON stays JSON. Nothing of the values goes to the standard error.
    Redact(RedactArgs),
    /// Print the pseudonym of a value, to find it in redacted logs.
    Pseudonym(PseudonymArgs),
}

#[derive(Debug, Args)]
struct ConfigArgs {
    /// The configuration file. Relative paths in it start from its directory.
    #[arg(short, long, value_name = "FILE", env = "SKIDDER_CONFIG")]
    config: PathBuf,
}

#[derive(Debug, Args)]
struct ValidateArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Look at the file alone and leave the network out.
    #[arg(long)]
    offline: bool,
}

#[derive(Debug, Args)]
struct InitArgs {
    /// The store.
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(skidder_sinks::setup::STORES.iter().map(|(name, _)| *name)))]
    store: String,
    /// The configuration whose sink of this type it is for; without, it is for a sink with the usual names.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The name of the sink, where the configuration has several of this type.
    #[arg(long, value_name = "NAME", requires = "config")]
    sink: Option<String>,
}

#[derive(Debug, Args)]
struct RunArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Read to the end of what is there, deliver it, and stop with a summary.
    ///
    /// Where the file names no `data_dir`, every such run starts from the beginning.
    #[arg(long)]
    once: bool,
    /// With `--once`, give up after so many seconds; the exit code is 1 when something could not be delivered.
    #[arg(long, value_name = "SECS", requires = "once", value_parser = seconds)]
    timeout: Option<Duration>,
}

#[derive(Debug, Subcommand)]
enum BufferCommand {
    /// List the buffers and what waits in them. The agent may run meanwhile.
    Ls(ConfigArgs),
    /// Read all of every buffer, or of one, and say what is damaged; exit code 1 where something is. The agent may run meanwhile.
    Verify {
        #[command(flatten)]
        config: ConfigArgs,
        /// Only the buffer of this sink.
        #[arg(long, value_name = "NAME")]
        sink: Option<String>,
    },
    /// Write the records that wait in a buffer to the standard output, one JSON value a line. They stay in the buffer.
    Export {
        #[command(flatten)]
        config: ConfigArgs,
        /// The sink.
        name: String,
        /// As they would be sent, before compression.
        #[arg(long)]
        raw: bool,
    },
    /// Give the buffer of a sink that was renamed or removed to a sink of the configuration, with its positions. The agent
    /// must not run.
    Adopt {
        #[command(flatten)]
        config: ConfigArgs,
        /// The sink that had it.
        old: String,
        /// The sink that gets it: one of the same type.
        new: String,
    },
    /// Throw away the buffer of a sink that is not in the configuration any more. The agent must not run.
    Drop {
        #[command(flatten)]
        config: ConfigArgs,
        /// The sink that had it.
        name: String,
    },
}

impl BufferCommand {
    fn split(self) -> (ConfigArgs, buffer_cmd::Task) {
        match self {
            BufferCommand::Ls(config) => (config, buffer_cmd::Task::List),
            BufferCommand::Verify { config, sink } => (config, buffer_cmd::Task::Verify { sink }),
            BufferCommand::Export { config, name, raw } => (config, buffer_cmd::Task::Export { name, raw }),
            BufferCommand::Adopt { config, old, new } => (config, buffer_cmd::Task::Adopt { old, new }),
            BufferCommand::Drop { config, name } => (config, buffer_cmd::Task::Drop { name }),
        }
    }
}

#[derive(Debug, Subcommand)]
enum DlqCommand {
    /// List the sinks that have dead letters, with how many and from when.
    Ls(DlqArgs),
    /// Show dead letters: when, where to, the store's reason, the record.
    Show {
        #[command(flatten)]
        of: DlqArgs,
        /// Only the newest so many of each sink.
        #[arg(long, value_name = "COUNT", default_value_t = 20)]
        limit: usize,
        /// As they are on disk: one JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Send dead letters again, and remove those that are delivered; exit code 1 where some are not.
    Replay {
        #[command(flatten)]
        of: DlqArgs,
        /// Give up after so many seconds for each sink; without, it goes on trying until a signal comes.
        #[arg(long, value_name = "SECS", value_parser = seconds)]
        timeout: Option<Duration>,
    },
    /// Throw dead letters away.
    Purge {
        #[command(flatten)]
        of: DlqArgs,
        /// Those of all sinks.
        #[arg(long, required_unless_present = "sink", conflicts_with = "sink")]
        all: bool,
    },
}

#[derive(Debug, Args)]
struct DlqArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Only those of this sink.
    #[arg(long, value_name = "NAME")]
    sink: Option<String>,
}

impl DlqCommand {
    fn split(self) -> (DlqArgs, dlq::Task) {
        match self {
            DlqCommand::Ls(of) => (of, dlq::Task::List),
            DlqCommand::Show { of, limit, json } => (of, dlq::Task::Show { limit, json }),
            DlqCommand::Replay { of, timeout } => (of, dlq::Task::Replay { timeout }),
            DlqCommand::Purge { of, .. } => (of, dlq::Task::Purge),
        }
    }
}

#[derive(Debug, Args)]
struct SchemaArgs {
    /// Print a TOML file instead that has every option with its documentation, type and default.
    #[arg(long)]
    reference: bool,
}

/// The agent's own log, which goes to the standard error. It never holds the content of records.
#[derive(Debug, Args)]
struct LogArgs {
    /// Log more: `-v` for debug, `-vv` for trace.
    #[arg(short, long, action = ArgAction::Count, global = true, conflicts_with = "quiet")]
    verbose: u8,
    /// Log less: `-q` for warnings and errors, `-qq` for errors alone.
    #[arg(short, long, action = ArgAction::Count, global = true)]
    quiet: u8,
    /// What to log, by module: `debug` or `info,skidder_pipeline=trace`. Overrides `-v` and `-q`.
    #[arg(long, value_name = "FILTER", env = "SKIDDER_LOG", global = true)]
    log: Option<String>,
    /// How the log looks.
    #[arg(long, value_name = "FORMAT", default_value = "text", env = "SKIDDER_LOG_FORMAT", global = true)]
    log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Cli {
    /// Does what the command line says.
    ///
    /// # Errors
    /// What made it fail, for the last line on the standard error; the exit code is then 1.
    pub fn execute(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Run(args) => {
                self.log.start()?;
                match load(&args.config)? {
                    Ok(pipeline) => run::run(pipeline, RunOptions { config: args.config.config, once: args.once, timeout: args.timeout }),
                    Err(code) => Ok(code),
                }
            }
            Command::Validate(args) => match load(&args.config)? {
                Ok(pipeline) => validate(&pipeline, args.offline),
                Err(code) => Ok(code),
            },
            Command::Init(args) => {
                let pipeline = match args.config.map(|config| load(&ConfigArgs { config })).transpose()? {
                    Some(Err(code)) => return Ok(code),
                    Some(Ok(pipeline)) => Some(pipeline),
                    None => None,
                };
                let needs = setup::needs(&args.store, pipeline.as_ref(), args.sink.as_deref())?;
                complain(&needs.apply)?;
                print(&needs.text)
            }
            Command::Buffer(command) => {
                let (config, task) = command.split();
                self.log.start()?;
                match load(&config)? {
                    Ok(pipeline) => buffer_cmd::execute(&pipeline, &task),
                    Err(code) => Ok(code),
                }
            }
            Command::Dlq(command) => {
                let (args, task) = command.split();
                self.log.start()?;
                match load(&args.config)? {
                    Ok(pipeline) => dlq::execute(&pipeline, args.sink.as_deref(), &task),
                    Err(code) => Ok(code),
                }
            }
            Command::Schema(args) => {
                let schema = FileSchema::of::<Builtin>();
                print(&if args.reference { schema.reference() } else { schema.to_text() })
            }
            Command::Redact(args) => {
                let pipeline = match &args.config {
                    Some(config) => match load(&ConfigArgs { config: config.clone() })? {
                        Ok(pipeline) => Some(pipeline),
                        Err(code) => return Ok(code),
                    },
                    None => None,
                };
                let (input, output) = (std::io::stdin().lock(), std::io::stdout().lock());
                redact_filter::redact(&args, pipeline.as_ref(), input, output, std::io::stderr().lock())
            }
            Command::Pseudonym(args) => redact_filter::pseudonyms(&args, std::io::stdin().lock(), std::io::stdout().lock()),
        }
    }
}

fn validate(pipeline: &Pipeline<Builtin>, offline: bool) -> anyhow::Result<ExitCode> {
    print(&format!("Configuration is valid.\n{}", pipeline.summary()))?;
    let seen = if offline { setup::Seen::default() } else { setup::look(pipeline)? };
    complain(&seen.wrong)?;
    print(&seen.fine)?;
    Ok(if seen.faulty { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

impl LogArgs {
    /// Starts the agent's own log.
    fn start(&self) -> anyhow::Result<()> {
        // The libraries below say much that helps nobody; `skidder` stands for all crates whose names begin so.
        let level = match i16::from(self.verbose) - i16::from(self.quiet) {
            ..=-2 => "error",
            -1 => "warn",
            0 => "info",
            1 => "info,skidder=debug",
            2.. => "info,skidder=trace",
        };
        let filter = self.log.as_deref().filter(|filter| !filter.is_empty()).unwrap_or(level);
        let filter = EnvFilter::try_new(filter).map_err(|error| anyhow::anyhow!("`{filter}` is no filter for the log: {error}"))?;
        let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
        match self.log_format {
            LogFormat::Text => log.with_ansi(colour()).init(),
            LogFormat::Json => log.json().flatten_event(true).init(),
        }
        Ok(())
    }
}

/// The configuration, or the exit code after its mistakes were shown.
fn load(args: &ConfigArgs) -> anyhow::Result<Result<Pipeline<Builtin>, ExitCode>> {
    let config_error = ExitCode::from(EXIT_CONFIG);
    let checked = match config::load::<Builtin>(&args.config) {
        Ok(checked) => checked,
        Err(error) => {
            complain(&format!("error: {error:#}\n"))?;
            return Ok(Err(config_error));
        }
    };
    complain(&checked.report(colour()))?;
    let Some(pipeline) = checked.pipeline else { return Ok(Err(config_error)) };
    if let Err(problem) = memory::check(&pipeline) {
        complain(&format!("error: {problem}\n"))?;
        return Ok(Err(config_error));
    }
    Ok(Ok(pipeline))
}

fn complain(text: &str) -> anyhow::Result<()> {
    Ok(std::io::stderr().lock().write_all(text.as_bytes())?)
}

/// Whether the standard error takes colours: a terminal does, unless `NO_COLOR` (no-color.org) is set.
fn colour() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_holds_together() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn reads_seconds() {
        assert_eq!(seconds("1.5"), Ok(Duration::from_millis(1500)));
        assert!(["", "x", "-1", "1e99", "NaN"].iter().all(|text| seconds(text).is_err()));
    }
}
