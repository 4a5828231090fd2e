//! Real servers: provisioned from the public registries by the scripts in `tests/servers/`, started on loopback, killed and
//! started again on the same data, gone when dropped.
//!
//! Nothing is skipped: where a server cannot be had, the test that asks for it fails with what the script said.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group, test_kill_process};
use tempfile::TempDir;

use crate::workspace;

/// The servers there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Elasticsearch 8.19.
    Elasticsearch8,
    /// Elasticsearch 9.2.
    Elasticsearch9,
    /// OpenSearch 2.19.
    OpenSearch2,
    /// OpenSearch 3.5.
    OpenSearch3,
    /// The engine of ClickHouse 26.9.
    ClickHouse,
    /// ClickHouse 18.16.
    ClickHouse18,
    /// Loki 3.7.
    Loki,
    /// An OpenTelemetry Collector.
    Collector,
    /// VictoriaLogs.
    VictoriaLogs,
    /// Kafka 4.3.
    Kafka,
}

impl Kind {
    /// All, with those first that take long to provision.
    pub const ALL: [Kind; 10] = [
        Kind::Loki,
        Kind::Collector,
        Kind::VictoriaLogs,
        Kind::ClickHouse,
        Kind::Elasticsearch8,
        Kind::OpenSearch2,
        Kind::Elasticsearch9,
        Kind::OpenSearch3,
        Kind::Kafka,
        Kind::ClickHouse18,
    ];

    /// Its folder, and the variable with the version that is meant.
    fn script(self) -> (&'static str, Option<(&'static str, &'static str)>) {
        match self {
            Kind::Elasticsearch8 => ("elasticsearch", Some(("ES_VERSION", "8.19.4"))),
            Kind::Elasticsearch9 => ("elasticsearch", Some(("ES_VERSION", "9.2.0"))),
            Kind::OpenSearch2 => ("opensearch", Some(("OPENSEARCH_VERSION", "2.19.1"))),
            Kind::OpenSearch3 => ("opensearch", Some(("OPENSEARCH_VERSION", "3.5.0"))),
            Kind::ClickHouse => ("chdb", None),
            Kind::ClickHouse18 => ("clickhouse18", None),
            Kind::Loki => ("loki", None),
            Kind::Collector => ("otelcol", None),
            Kind::VictoriaLogs => ("victorialogs", None),
            Kind::Kafka => ("kafka", None),
        }
    }

    /// Whether it runs on Java: of those only one at a time.
    fn is_heavy(self) -> bool {
        matches!(self.script().0, "elasticsearch" | "opensearch" | "kafka")
    }

    /// The script, with `arguments`.
    pub fn command(self, arguments: &[&str]) -> Command {
        let (folder, version) = self.script();
        let mut command = Command::new("bash");
        command.arg(workspace::root().join("tests/servers").join(folder).join("backend.sh")).args(arguments);
        command.envs(version).stdin(Stdio::null());
        // Our own way to the registries goes by way of proxies; the way to the servers does not.
        command.env("no_proxy", "127.0.0.1,localhost").env("NO_PROXY", "127.0.0.1,localhost");
        command
    }

    /// Gets what the server needs, unless it is there. What takes long where it is not: see `tests/servers/README.md`.
    pub fn provision(self) -> Result<(), String> {
        run(&mut self.command(&["provision"])).map(drop).map_err(|error| format!("{self:?} cannot be had: {error}"))
    }
}

/// What provisions all servers beside the build and the tests. Ended when dropped.
pub struct Provisioning {
    child: Child,
    reader: Option<JoinHandle<()>>,
}

impl Provisioning {
    /// Begins: one server after the other, at the lowest priority. `say` is told of what took a while and of what failed. A
    /// test that needs a server meanwhile waits for it, and fails where it cannot be had.
    pub fn begin(say: impl Fn(&str) + Send + 'static) -> Result<Provisioning, String> {
        let log = workspace::target().join("servers.log");
        let _ = fs::remove_file(&log);
        let mut script = String::new();
        for kind in Kind::ALL {
            let (folder, version) = kind.script();
            let version = version.map(|(name, value)| format!("{name}={value} ")).unwrap_or_default();
            script +=
                &format!("{version}nice -n 15 ./{folder}/backend.sh provision >>\"$LOG\" 2>&1 && echo {kind:?} || echo {kind:?} FAILED\n");
        }
        for tool in crate::tools::ALL {
            script += &format!("nice -n 15 ./{tool}/backend.sh provision >>\"$LOG\" 2>&1 && echo {tool} || echo {tool} FAILED\n");
        }
        let mut command = Command::new("bash");
        command.args(["-c", &script]).current_dir(workspace::root().join("tests/servers"));
        // A group of its own, so that the build which is under way ends with us.
        command.env("LOG", &log).stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0);
        let mut child = command.spawn().map_err(|error| format!("cannot provision servers: {error}"))?;
        let output = child.stdout.take();
        let reader = std::thread::spawn(move || {
            let mut begin = Instant::now();
            for line in output.into_iter().flat_map(|output| BufReader::new(output).lines()).map_while(Result::ok) {
                let seconds = begin.elapsed().as_secs();
                if let Some(kind) = line.strip_suffix(" FAILED") {
                    say(&format!("servers: {kind} cannot be had, and its tests will fail: see {}", log.display()));
                } else if seconds >= 3 {
                    say(&format!("servers: {line} is there now ({seconds} s)"));
                }
                begin = Instant::now();
            }
        });
        Ok(Provisioning { child, reader: Some(reader) })
    }
}

impl Drop for Provisioning {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(pid, Signal::TERM);
        }
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

/// A running server. Killed when dropped, and its data removed.
pub struct Server {
    kind: Kind,
    directory: TempDir,
    settings: Vec<String>,
    url: String,
    _turn: Option<File>,
}

impl Server {
    /// Provisions and starts one.
    pub fn start(kind: Kind) -> Result<Server, String> {
        Server::start_with(kind, &[])
    }

    /// The same with settings of the server (`indexing_pressure.memory.limit=1kb`), for those whose script takes some.
    pub fn start_with(kind: Kind, settings: &[&str]) -> Result<Server, String> {
        kind.provision()?;
        let turn = if kind.is_heavy() { Some(turn()?) } else { None };
        let directory = tempfile::Builder::new().prefix("skidder-server-").tempdir().map_err(|error| error.to_string())?;
        let settings = settings.iter().map(|&setting| setting.to_owned()).collect();
        let mut server = Server { kind, directory, settings, url: String::new(), _turn: turn };
        server.up()?;
        Ok(server)
    }

    /// Where it listens: a URL, or `host:port` for Kafka.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The directory with its data, its log (`log`) and what else its script keeps there.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Ends it as a crash would: `kill -9`.
    pub fn kill(&self) -> Result<(), String> {
        let pid = fs::read_to_string(self.directory().join("pid")).map_err(|error| error.to_string())?;
        let pid = pid.trim().parse().ok().and_then(Pid::from_raw).ok_or("no pid of the server")?;
        if kill_process(pid, Signal::KILL).is_err() {
            return Ok(()); // It has gone already.
        }
        let begin = Instant::now();
        while test_kill_process(pid).is_ok() && begin.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Starts it again after [`Server::kill`], with the same data, at the same URL.
    pub fn restart(&mut self) -> Result<(), String> {
        self.up()
    }

    /// Starts it again with other settings.
    pub fn restart_with(&mut self, settings: &[&str]) -> Result<(), String> {
        self.settings = settings.iter().map(|&setting| setting.to_owned()).collect();
        self.up()
    }

    /// The end of what it wrote to its log.
    pub fn log(&self) -> String {
        let text = fs::read(self.directory().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&text[text.len().saturating_sub(4000)..]).into_owned()
    }

    fn up(&mut self) -> Result<(), String> {
        let directory = self.directory().display().to_string();
        let mut arguments = vec!["start", &directory];
        arguments.extend(self.settings.iter().map(String::as_str));
        let mut command = self.kind.command(&arguments);
        command.env("OWNER_PID", std::process::id().to_string());
        run(&mut command).map_err(|error| format!("{:?} does not start: {error}", self.kind))?;
        let url = fs::read_to_string(self.directory().join("url")).map_err(|error| error.to_string())?;
        url.trim().clone_into(&mut self.url);
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// Waits until no other test of this checkout has a server on Java.
fn turn() -> Result<File, String> {
    let take = || {
        let file = File::create(workspace::target().join("java-servers.lock"))?;
        file.lock()?;
        Ok(file)
    };
    take().map_err(|error: std::io::Error| format!("cannot wait for other servers: {error}"))
}

/// Runs a script to its end; what it said where it failed.
fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("cannot run {command:?}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(said);
    }
    Err(format!("{}:\n{said}{}", output.status, String::from_utf8_lossy(&output.stderr)))
}
