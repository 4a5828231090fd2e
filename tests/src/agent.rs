//! The agent as a process: started, watched, stopped or killed.

use std::ffi::OsStr;
use std::fmt;
use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::workspace;

/// How often a process that is waited for is looked at.
const LOOK: Duration = Duration::from_millis(3);

/// The longest that any run in the tests may take before it counts as hung: far above what each needs on a slow machine,
/// far below the patience of a CI.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// The path of the `skidder` program, built before the first use.
///
/// `SKIDDER_BIN` names one that is built already. Otherwise cargo builds it for the profile of the running test, with the
/// features of the whole workspace, so that what `cargo test --workspace` compiled is used and nothing is compiled twice.
pub fn binary() -> Result<&'static Path, String> {
    let built = BINARY.get_or_init(|| match std::env::var_os("SKIDDER_BIN") {
        Some(path) => Ok(PathBuf::from(path)),
        None => build(&workspace::profile_directory()),
    });
    built.as_deref().map_err(Clone::clone)
}

/// Names the program to use; without effect once one was used.
pub fn use_binary(path: PathBuf) {
    let _ = BINARY.set(Ok(path));
}

static BINARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();

/// Builds the program for the profile whose output goes to `directory`, and gives its path.
pub fn build(directory: &Path) -> Result<PathBuf, String> {
    let profile = directory.file_name().and_then(OsStr::to_str).unwrap_or("debug");
    let profile = if profile == "debug" { "dev" } else { profile };
    let target = directory.parent().ok_or("the test runs from an unknown place")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = workspace::cargo_environment(&mut Command::new(cargo))
        .args(["build", "--quiet", "--locked", "--workspace", "--bin", "skidder", "--profile", profile, "--target-dir"])
        .arg(target)
        .output()
        .map_err(|error| format!("cannot run cargo: {error}"))?;
    if built.status.success() {
        Ok(directory.join("skidder"))
    } else {
        Err(format!("cannot build skidder:\n{}", String::from_utf8_lossy(&built.stderr)))
    }
}

/// A command that runs the agent in `directory` with an environment of its own: nothing that would change its log, its
/// colours or the way to a store on loopback.
pub fn command(directory: &Path) -> Result<Command, String> {
    Ok(command_of(binary()?, directory))
}

/// The same for a program that is given.
pub fn command_of(binary: &Path, directory: &Path) -> Command {
    let mut command = Command::new(binary);
    command.current_dir(directory).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy().to_ascii_lowercase();
        let ours = text.starts_with("skidder") && text != "skidder_bin";
        if ours || text.ends_with("_proxy") || ["rust_log", "no_color", "clicolor_force", "elasticsearch_url"].contains(&text.as_str()) {
            command.env_remove(name);
        }
    }
    command
}

/// A run of the agent. Killed when dropped.
pub struct Agent {
    child: Child,
    stdout: Capture,
    stderr: Capture,
}

/// A run that has ended.
pub struct Ended {
    /// How it ended.
    pub status: ExitStatus,
    /// All that it wrote to its standard output.
    pub stdout: Vec<u8>,
    /// All that it wrote to its standard error, with characters for what is no UTF-8.
    pub stderr: String,
    /// How long it ran, as far as it was waited for.
    pub took: Duration,
}

impl Agent {
    /// Starts the agent in `directory` with `args`.
    pub fn start(directory: &Path, args: &[&str]) -> Result<Agent, String> {
        let mut command = command(directory)?;
        command.args(args);
        Agent::spawn(command)
    }

    /// Starts `command`, as [`command`] makes it.
    pub fn spawn(mut command: Command) -> Result<Agent, String> {
        let spawned = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = spawned.map_err(|error| format!("cannot start {command:?}: {error}"))?;
        let (stdout, stderr) = (Capture::new(child.stdout.take()), Capture::new(child.stderr.take()));
        Ok(Agent { child, stdout, stderr })
    }

    /// Starts `command` and feeds `input` to its standard input, which must be a pipe, from a thread of its own.
    pub fn spawn_with_input(mut command: Command, input: &'static [u8]) -> Result<Agent, String> {
        command.stdin(Stdio::piped());
        let mut agent = Agent::spawn(command)?;
        let mut pipe = agent.child.stdin.take().ok_or("no pipe to the agent")?;
        // A reader that ends early breaks the pipe; its own end is what the test looks at.
        std::thread::spawn(move || pipe.write_all(input));
        Ok(agent)
    }

    /// Runs the agent to its end, which must come before [`DEADLINE`].
    pub fn run(directory: &Path, args: &[&str]) -> Result<Ended, String> {
        Agent::start(directory, args)?.wait(DEADLINE)
    }

    /// The id of the process.
    pub fn pid(&self) -> Option<Pid> {
        i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// What it has written to its standard output so far.
    pub fn stdout(&self) -> Vec<u8> {
        self.stdout.so_far()
    }

    /// What it has written to its standard error so far.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&self.stderr.so_far()).into_owned()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let pid = self.pid().ok_or(io::ErrorKind::NotFound)?;
        Ok(kill_process(pid, signal)?)
    }

    /// Ends it as a crash would: `kill -9`.
    pub fn kill(mut self) -> Result<Ended, String> {
        self.child.kill().map_err(|error| format!("cannot kill the agent: {error}"))?;
        self.wait(DEADLINE)
    }

    /// Waits until it has ended; an error, with what it said, where it has not after `limit`.
    pub fn wait(mut self, limit: Duration) -> Result<Ended, String> {
        let begin = Instant::now();
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => {
                    let stderr = String::from_utf8_lossy(&self.stderr.finish()).into_owned();
                    return Ok(Ended { status, stdout: self.stdout.finish(), stderr, took: begin.elapsed() });
                }
                Ok(None) if begin.elapsed() < limit => std::thread::sleep(LOOK),
                Ok(None) => {
                    let said = String::from_utf8_lossy(&self.stderr.so_far()).into_owned();
                    return Err(format!("the agent still runs after {limit:?}; it said:\n{said}"));
                }
                Err(error) => return Err(format!("cannot wait for the agent: {error}")),
            }
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    /// Itself where it ended with exit code 0; otherwise an error with what it said.
    pub fn expect_success(self) -> Result<Ended, String> {
        if self.status.success() { Ok(self) } else { Err(self.to_string()) }
    }

    /// The exit code; none where a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Whether SIGKILL ended it.
    pub fn was_killed(&self) -> bool {
        self.status.signal() == Some(Signal::KILL.as_raw())
    }

    /// Whether a fault of the program itself ended it: a panic or a signal that nobody sent.
    pub fn crashed(&self) -> bool {
        let by_signal = self.status.signal().is_some_and(|signal| signal != Signal::KILL.as_raw());
        by_signal || self.code() == Some(101) || self.stderr.contains("panicked at")
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} after {:?}; it said:\n{}", self.status, self.took, self.stderr)
    }
}

/// Waits until `ready` gives something; none where it has not within [`DEADLINE`].
pub fn until<T>(mut ready: impl FnMut() -> Option<T>) -> Option<T> {
    let begin = Instant::now();
    while begin.elapsed() < DEADLINE {
        if let Some(value) = ready() {
            return Some(value);
        }
        std::thread::sleep(LOOK);
    }
    None
}

/// What a process writes to a pipe, read as it comes so that the pipe never fills.
struct Capture {
    text: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Capture {
    fn new(pipe: Option<impl Read + Send + 'static>) -> Capture {
        let text = Arc::new(Mutex::new(Vec::new()));
        let shared = text.clone();
        let reader = pipe.map(|mut pipe| {
            std::thread::spawn(move || {
                let mut block = vec![0; 64 << 10];
                while let Ok(length @ 1..) = pipe.read(&mut block) {
                    shared.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&block[..length]);
                }
            })
        });
        Capture { text, reader }
    }

    fn so_far(&self) -> Vec<u8> {
        self.text.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn finish(&mut self) -> Vec<u8> {
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        self.so_far()
    }
}
