//! A real Kubernetes for tests: API server and etcd alone (4 to 6 s), or a whole node (some 12 s), by the scripts in
//! `tests/kube`.
//!
//! Objects are written into etcd as JSON, which the API server takes as its own: thousands in a second, and changes of them
//! reach watches like any other. What clients asked for is counted in the API server's audit log, its own account.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::tools::tool;
use crate::workspace;

/// How many objects go into etcd in one transaction: its limit is 128.
const OBJECTS_AT_A_TIME: usize = 100;

/// How often a start is tried: between being found free and being used, a port may be taken by another process.
const STARTS: u32 = 3;

/// A running API server with its etcd. Ended when dropped.
pub struct Api {
    run: TempDir,
    env: BTreeMap<String, String>,
}

/// A request as the API server's audit log tells it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Asked {
    /// `list`, `watch`, `get` …
    pub verb: String,
    /// Path and query.
    pub uri: String,
    /// The status of the answer.
    pub code: u64,
}

impl Api {
    /// Starts one, and builds what is needed where it is not there (minutes, once on a machine).
    ///
    /// # Errors
    /// With what the scripts said: a test that needs Kubernetes fails where it cannot be had.
    pub fn start() -> Result<Api, String> {
        provision("api")?;
        let run = tempfile::Builder::new().prefix("skidder-kube-").tempdir().map_err(|error| error.to_string())?;
        // The scripts make it.
        let state = run.path().join("run");
        let mut said = String::new();
        for _ in 0..STARTS {
            match script("start.sh", &["api"], &state).and_then(|()| environment(&state)) {
                Ok(env) => return Ok(Api { run, env }),
                Err(error) => said = error,
            }
            let _ = script("stop.sh", &[], &state);
        }
        Err(format!("the API server did not start in {STARTS} tries; the last one: {said}"))
    }

    /// Where it listens: `https://127.0.0.1:<port>`.
    pub fn url(&self) -> &str {
        &self.env["KUBE_API"]
    }

    /// A kubeconfig for the agent's own user, `system:serviceaccount:logs:skidder`, its token in a file, by way of `url`.
    pub fn kubeconfig(&self, url: &str) -> Result<PathBuf, String> {
        fs::write(self.run.path().join("token"), "agent-token").map_err(|error| error.to_string())?;
        let path = self.run.path().join("agent.kubeconfig");
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": url, "certificate-authority": self.env["KUBE_CA"]}}],
            "users": [{"name": "u", "user": {"tokenFile": self.run.path().join("token")}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        });
        fs::write(&path, config.to_string()).map_err(|error| error.to_string())?;
        Ok(path)
    }

    /// Writes another token into the file that [`Api::kubeconfig`] names, as the kubelet does in pods.
    pub fn rotate_token(&self, token: &str) -> Result<(), String> {
        let (new, path) = (self.run.path().join("token.new"), self.run.path().join("token"));
        fs::write(&new, token).and_then(|()| fs::rename(&new, &path)).map_err(|error| error.to_string())
    }

    /// Starts `kubectl proxy`, by which clients without any credentials are administrators; its address and port. Ended when
    /// what this gives is dropped.
    pub fn open_door(&self) -> Result<Door, String> {
        let mut command = Command::new(bin_directory()?.join("kubectl"));
        command.args(["proxy", "--port=0", "--address=127.0.0.1"]).env("KUBECONFIG", &self.env["KUBECONFIG"]);
        let mut child = command.stdout(Stdio::piped()).spawn().map_err(|error| error.to_string())?;
        let mut said = String::new();
        // "Starting to serve on 127.0.0.1:41234"
        let read = child.stdout.take().map(|out| io::BufReader::new(out).read_line(&mut said));
        let address = said.trim().rsplit(' ').next().and_then(|address| address.parse().ok());
        match address {
            Some(address) => Ok(Door { child, address }),
            None => {
                let _ = child.kill().and_then(|()| child.wait());
                Err(format!("kubectl proxy did not start: {said} {read:?}"))
            }
        }
    }

    /// Runs `kubectl` as an administrator, `input` on its standard input; what it printed.
    pub fn kubectl(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        let mut command = Command::new(bin_directory()?.join("kubectl"));
        command.args(arguments).env("KUBECONFIG", &self.env["KUBECONFIG"]);
        run(command, input)
    }

    /// Lets the agent's user read what the chart lets it read: pods, and its node.
    pub fn allow(&self) -> Result<(), String> {
        let manifest = fs::read_to_string(workspace::root().join("tests/kube/rbac.yaml")).map_err(|error| error.to_string())?;
        self.kubectl(&["apply", "-f", "-"], &manifest).map(drop)
    }

    /// Creates or replaces objects; pods have the key `pods/<namespace>/<name>`, nodes `minions/<name>`, namespaces
    /// `namespaces/<name>`.
    pub fn put(&self, objects: impl IntoIterator<Item = (String, Value)>) -> Result<(), String> {
        let operations: Vec<Value> = objects
            .into_iter()
            .map(|(key, object)| {
                let (key, value) = (base64(format!("/registry/{key}").as_bytes()), base64(object.to_string().as_bytes()));
                json!({"requestPut": {"key": key, "value": value}})
            })
            .collect();
        operations.chunks(OBJECTS_AT_A_TIME).try_for_each(|some| self.etcd("txn", &json!({"success": some})).map(drop))
    }

    /// Removes an object.
    pub fn delete(&self, key: &str) -> Result<(), String> {
        self.etcd("deleterange", &json!({"key": base64(format!("/registry/{key}").as_bytes())})).map(drop)
    }

    fn etcd(&self, call: &str, body: &Value) -> Result<Vec<u8>, String> {
        let address = self.env["ETCD_URL"].trim_start_matches("http://");
        let talk = || {
            let mut connection = TcpStream::connect(address)?;
            let body = body.to_string();
            let length = body.len();
            write!(connection, "POST /v3/kv/{call} HTTP/1.1\r\nhost: etcd\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")?;
            let mut answer = Vec::new();
            connection.read_to_end(&mut answer)?;
            Ok::<_, std::io::Error>(answer)
        };
        let answer = talk().map_err(|error| format!("etcd: {error}"))?;
        if answer.starts_with(b"HTTP/1.1 200") { Ok(answer) } else { Err(format!("etcd: {}", String::from_utf8_lossy(&answer))) }
    }

    /// Ends the API server, at once. What it holds is in etcd.
    pub fn stop_server(&self) -> Result<(), String> {
        script("ctl.sh", &["kill", "kube-apiserver"], &self.state())
    }

    /// Starts it again where it was, and waits until it answers.
    pub fn start_server(&self) -> Result<(), String> {
        script("ctl.sh", &["start", "kube-apiserver"], &self.state())?;
        script("ctl.sh", &["wait"], &self.state())
    }

    /// Lets etcd forget all history: a server that starts after it cannot take up a watch from before.
    pub fn forget_history(&self) -> Result<(), String> {
        script("ctl.sh", &["compact"], &self.state())
    }

    /// What the agent's user asked so far, watches as soon as they are answered.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked_by("system:serviceaccount:logs:skidder")
    }

    /// What `user` asked so far.
    pub fn asked_by(&self, user: &str) -> Vec<Asked> {
        let text = fs::read_to_string(self.state().join("audit.log")).unwrap_or_default();
        let asked = |line: &str| {
            let event: Value = serde_json::from_str(line).ok()?;
            let (verb, stage) = (event["verb"].as_str()?, event["stage"].as_str()?);
            let begins = if verb == "watch" { "ResponseStarted" } else { "ResponseComplete" };
            let refused = event["responseStatus"]["code"].as_u64() >= Some(300);
            if event["user"]["username"] != user || stage != begins && !(refused && stage == "ResponseComplete") {
                return None;
            }
            let (uri, code) = (event["requestURI"].as_str()?.to_owned(), event["responseStatus"]["code"].as_u64()?);
            Some(Asked { verb: verb.to_owned(), uri, code })
        };
        text.lines().filter_map(asked).collect()
    }

    fn state(&self) -> PathBuf {
        self.run.path().join("run")
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        let _ = script("stop.sh", &[], &self.state());
    }
}

/// A way to the API server without TLS: see [`Api::open_door`].
pub struct Door {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Drop for Door {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server before another one that turns clients away, as an API server does that has too much to do: 429, with the seconds after
/// which they may come again. Then it lets them through.
pub struct Turnstile {
    address: SocketAddr,
    turned_away: Arc<Mutex<Vec<(Instant, String)>>>,
}

impl Turnstile {
    /// One before `server` that turns the first `count` requests for pods away, for `seconds` each. Its threads end with the process.
    pub fn before(server: SocketAddr, count: usize, seconds: u32) -> io::Result<Turnstile> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let (address, turned_away) = (listener.local_addr()?, Arc::<Mutex<Vec<(Instant, String)>>>::default());
        let list = turned_away.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let list = list.clone();
                std::thread::spawn(move || Turnstile::one(client, server, &list, count, seconds));
            }
        });
        Ok(Turnstile { address, turned_away })
    }

    fn one(mut client: TcpStream, server: SocketAddr, list: &Mutex<Vec<(Instant, String)>>, count: usize, seconds: u32) -> io::Result<()> {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && client.read(&mut byte)? == 1 {
            head.push(byte[0]);
        }
        let line = String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned();
        let mut list = list.lock().unwrap_or_else(PoisonError::into_inner);
        if line.contains("/pods?") && list.len() < count {
            list.push((Instant::now(), line));
            let answer =
                format!("HTTP/1.1 429 Too Many Requests\r\nretry-after: {seconds}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
            return client.write_all(answer.as_bytes());
        }
        drop(list);
        // One request a connection, so that each is seen here.
        let mut server = TcpStream::connect(server)?;
        server.write_all(&head[..head.len().saturating_sub(2)])?;
        server.write_all(b"connection: close\r\n\r\n")?;
        pass(&client, &server).and(pass(&server, &client))
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// When it turned which requests away.
    pub fn turned_away(&self) -> Vec<(Instant, String)> {
        self.turned_away.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A running node: kubelet, containerd, scheduler and controllers beside the API server. Ended when dropped; one at a time on
/// a machine.
pub struct Cluster {
    api: Api,
    _one: File,
}

impl Cluster {
    /// The address of the host as pods see it.
    pub const HOST: Ipv4Addr = Ipv4Addr::new(10, 123, 0, 1);

    /// Starts a node with the archives in `images` beside busybox, and waits until it is ready.
    ///
    /// # Errors
    /// With what the scripts said: a test that needs a node fails where it cannot be had.
    pub fn start(images: &[&Path]) -> Result<Cluster, String> {
        provision("node")?;
        let one = locked("node.lock")?;
        let run = tempfile::Builder::new().prefix("skidder-kube-").tempdir().map_err(|error| error.to_string())?;
        let own = run.path().join("images");
        let copied = fs::create_dir(&own).and_then(|()| {
            let basic = cache_directory().map_err(io::Error::other)?.join("images");
            fs::copy(basic.join("pause.tar"), own.join("pause.tar"))?;
            fs::copy(basic.join("busybox.tar"), own.join("busybox.tar"))?;
            images.iter().enumerate().try_for_each(|(number, image)| fs::copy(image, own.join(format!("{number}.tar"))).map(drop))
        });
        copied.map_err(|error| format!("cannot copy images: {error}"))?;
        let state = run.path().join("run");
        let started = script("start.sh", &["node"], &state).and_then(|()| environment(&state));
        let env = match started {
            Ok(env) => env,
            Err(error) => {
                let _ = script("stop.sh", &[], &state);
                return Err(error);
            }
        };
        let cluster = Cluster { api: Api { run, env }, _one: one };
        let ready = || cluster.api.kubectl(&["wait", "--for=condition=Ready", "node/node-a", "--timeout=5s"], "").ok();
        eventually("a node that is ready", Duration::from_secs(300), ready)?;
        Ok(cluster)
    }

    /// Its API server.
    pub fn api(&self) -> &Api {
        &self.api
    }
}

/// A way to a server that a test can cut: what comes to it goes on to the server, byte by byte.
pub struct Way {
    address: SocketAddr,
    state: Arc<Mutex<WayState>>,
}

#[derive(Default)]
struct WayState {
    is_cut: bool,
    open: Vec<TcpStream>,
}

impl Way {
    /// A way to the server at `url`, on a port of its own. Its threads end with the process.
    pub fn to(url: &str) -> io::Result<Way> {
        Way::from(Ipv4Addr::LOCALHOST, url)
    }

    /// The same from another address of this machine.
    pub fn from(address: Ipv4Addr, url: &str) -> io::Result<Way> {
        let server = url.rsplit('/').next().unwrap_or_default().to_owned();
        let listener = TcpListener::bind((address, 0))?;
        let way = Way { address: listener.local_addr()?, state: Arc::default() };
        let state = way.state.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
                let Ok(server) = TcpStream::connect(&server) else { continue };
                // Dropped at once where the way is cut.
                if !state.is_cut && pass(&client, &server).and(pass(&server, &client)).is_ok() {
                    state.open.extend([client, server]);
                }
            }
        });
        Ok(way)
    }

    /// Its address, for what it leads to by `https`.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Its address and port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Breaks all connections, and lets none through from now on.
    pub fn cut(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.is_cut = true;
        state.open.drain(..).for_each(|connection| _ = connection.shutdown(Shutdown::Both));
    }

    /// Lets connections through again.
    pub fn mend(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).is_cut = false;
    }
}

/// Passes on what comes, in a thread of its own, until either end is closed.
fn pass(from: &TcpStream, to: &TcpStream) -> io::Result<()> {
    let (mut from, mut to) = (from.try_clone()?, to.try_clone()?);
    std::thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Both);
    });
    Ok(())
}

/// The chart with these values, rendered for `namespace`.
pub fn chart(values: &Value, namespace: &str) -> Result<String, String> {
    let place = tempfile::tempdir().map_err(|error| error.to_string())?;
    let file = place.path().join("values.json");
    fs::write(&file, values.to_string()).map_err(|error| error.to_string())?;
    let mut command = Command::new(tool("helm")?);
    for variable in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
        command.env(variable, place.path());
    }
    command.args(["template", "skidder", "packaging/helm/skidder", "--namespace", namespace, "--values"]).arg(file);
    command.current_dir(workspace::root()).env_remove("KUBECONFIG");
    run(command, "")
}

/// A pod as kubelet would leave it in the API server, with its key.
pub fn pod(namespace: &str, name: &str, uid: &str, node: &str, labels: &[(&str, &str)]) -> (String, Value) {
    let labels: BTreeMap<_, _> = labels.iter().copied().collect();
    let object = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "uid": uid, "creationTimestamp": "2026-01-01T00:00:00Z", "labels": labels},
        "spec": {"nodeName": node, "containers": [{"name": "main", "image": "registry.example/app:1"}]},
        "status": {"phase": "Running", "podIP": "10.0.0.7", "containerStatuses": [{
            "name": "main", "ready": true, "restartCount": 0, "image": "registry.example/app:1",
            "imageID": "registry.example/app@sha256:aa", "containerID": format!("containerd://c-{uid}"),
        }]},
    });
    (format!("pods/{namespace}/{name}"), object)
}

/// A node with labels, with its key.
pub fn node(name: &str, labels: &[(&str, &str)]) -> (String, Value) {
    let labels: BTreeMap<_, _> = labels.iter().copied().collect();
    let metadata = json!({"name": name, "uid": name, "creationTimestamp": "2026-01-01T00:00:00Z", "labels": labels});
    (format!("minions/{name}"), json!({"apiVersion": "v1", "kind": "Node", "metadata": metadata}))
}

/// Asks every few milliseconds until there is an answer, for `limit` at the most.
///
/// # Errors
/// Where there was none by then, with `what`.
pub fn eventually<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> Result<T, String> {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return Ok(answer);
        }
        if start.elapsed() > limit {
            return Err(format!("not within {} s: {what}", limit.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Builds and installs what `mode` needs, one process at a time; does nothing where it is there.
pub fn provision(mode: &str) -> Result<(), String> {
    let lock = locked("provision.lock")?;
    let provisioned = script("provision.sh", &[mode], &cache_directory()?.join("run"));
    drop(lock);
    provisioned
}

/// A file beside the programs that only one process has at a time.
fn locked(name: &str) -> Result<File, String> {
    let directory = cache_directory()?;
    let file = fs::create_dir_all(&directory).and_then(|()| File::create(directory.join(name))).map_err(|error| error.to_string())?;
    flock(&file, FlockOperation::LockExclusive).map_err(|error| error.to_string())?;
    Ok(file)
}

/// What lies beside the programs: archives of images, locks.
fn cache_directory() -> Result<PathBuf, String> {
    bin_directory().map(|mut bin| {
        bin.pop();
        bin
    })
}

/// Runs one of the scripts with its state in `state`.
pub fn script(name: &str, arguments: &[&str], state: &Path) -> Result<(), String> {
    let mut command = Command::new(workspace::root().join("tests/kube").join(name));
    command.args(arguments).env("KRUN", state);
    let images = state.with_file_name("images");
    if images.is_dir() {
        command.env("KIMAGES", images);
    }
    // Rotated logs stay for as long as an agent that is replaced needs to come back.
    command.env("LOG_MAX_FILES", "10");
    command.env("EXTRA_TOKENS", r#"agent-token,system:serviceaccount:logs:skidder,6,"system:serviceaccounts""#);
    run(command, "").map(drop)
}

fn run(mut command: Command, input: &str) -> Result<String, String> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("{command:?}: {error}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    Err(format!("{command:?}: {}\n{text}{}", output.status, String::from_utf8_lossy(&output.stderr)))
}

/// What `start.sh` wrote for a shell: `export NAME=VALUE …`.
fn environment(state: &Path) -> Result<BTreeMap<String, String>, String> {
    let text = fs::read_to_string(state.join("env")).map_err(|error| format!("no environment of the API server: {error}"))?;
    let pairs = text.split_whitespace().filter_map(|word| word.split_once('='));
    Ok(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

/// Where the scripts keep the programs.
pub fn bin_directory() -> Result<PathBuf, String> {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let cache = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")));
    variable("KBIN").or_else(|| Some(cache?.join("kubetest/bin"))).ok_or_else(|| "neither HOME nor KBIN is set".to_owned())
}

/// Base64 (RFC 4648) with padding, as etcd's gateway wants keys and values.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0_u32, |group, byte| group << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            let index = group >> (18 - 6 * digit) & 63;
            text.push(if digit <= chunk.len() { char::from(DIGITS[index as usize]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn base64_as_in_the_rfc() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")] {
            assert_eq!(super::base64(bytes.as_bytes()), text);
        }
    }
}
