//! The agent as a user has it: the image, in the DaemonSet of the chart, on a real node with a real kubelet that rotates logs.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use skidder_tests::image;
use skidder_tests::kube::{self, Api, Cluster, Way, eventually};
use skidder_tests::site::Site;
use skidder_tests::store::{Keep, Store};

/// How long a step may take on a machine that does other things too.
const PATIENCE: Duration = Duration::from_secs(240);
/// Lines of the pod that talks all the time: 600 KB, so that kubelet, which rotates at 64 KiB, does so again and again.
const TALKS: usize = 6_000;
const SHORTS: usize = 5;
const LONGS: usize = 12;
const LONG_BYTES: usize = 40_000;
const MAX_MEMORY_BYTES: f64 = (64 << 20) as f64;

/// Pods that print, that crash, that live for a second, that write long lines.
fn workload() -> String {
    let pod = |name: &str, restart: &str, script: &str| {
        format!(
            r#"---
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: shop, labels: {{app: {name}, env: test-{name}}}}}
spec:
  restartPolicy: {restart}
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: localhost/busybox:1
    imagePullPolicy: Never
    args: ["-c", '{script}']
    volumeMounts: [{{name: scratch, mountPath: /scratch}}]
  volumes: [{{name: scratch, emptyDir: {{}}}}]
"#
        )
    };
    let mut text = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n".to_owned();
    let filler = "x".repeat(80);
    text += &pod(
        "talk",
        "Never",
        &format!(
            "i=0; while [ $i -lt {TALKS} ]; do i=$((i+1)); echo \"talk $i {filler}\"; [ $((i % 50)) = 0 ] && sleep 0.5; done; sleep 3600"
        ),
    );
    text += &pod(
        "crash",
        "Always",
        "n=$(cat /scratch/n 2>/dev/null || echo 0); n=$((n+1)); echo $n > /scratch/n; echo crash $n; sleep 1; exit 1",
    );
    for number in 1..=SHORTS {
        text += &pod(&format!("short{number}"), "Never", &format!("echo short {number}; sleep 1"));
    }
    let long = format!(
        "i=0; while [ $i -lt {LONGS} ]; do i=$((i+1)); echo \"long $i $(head -c {LONG_BYTES} /dev/zero | tr \"\\000\" y)\"; sleep 2; done; sleep 3600"
    );
    text + &pod("long", "Never", &long)
}

/// What a store got, by message; each must be there once.
fn received(store: &Store) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    for document in store.documents() {
        let document: Value = serde_json::from_slice(&document).unwrap();
        if document["kubernetes"]["pod_namespace"] != "shop" {
            continue;
        }
        let message = document["message"].as_str().unwrap_or_default().to_owned();
        let key = message.split(' ').take(2).collect::<Vec<_>>().join(" ");
        if let Some(other) = found.insert(key, document.clone()) {
            panic!("twice in the store: {other}\n{document}");
        }
    }
    found
}

/// The agent's pod, once there is one that is ready.
fn agent_pod(api: &Api) -> (String, String) {
    let ask = || {
        let text = api.kubectl(&["-n", "logs", "get", "pods", "-l", "app.kubernetes.io/name=skidder", "-o", "json"], "").ok()?;
        let pods: Value = serde_json::from_str(&text).ok()?;
        let [pod] = &pods["items"].as_array()?[..] else { return None };
        let is_ready = pod["status"]["conditions"].as_array()?.iter().any(|c| c["type"] == "Ready" && c["status"] == "True");
        let gone = !pod["metadata"]["deletionTimestamp"].is_null();
        let (name, address) = (pod["metadata"]["name"].as_str()?, pod["status"]["podIP"].as_str()?);
        (is_ready && !gone).then(|| (name.to_owned(), address.to_owned()))
    };
    eventually("an agent that is ready", PATIENCE, ask).unwrap_or_else(|error| {
        let shown = api.kubectl(&["-n", "logs", "describe", "pods"], "").unwrap_or_default();
        let log = api.kubectl(&["-n", "logs", "logs", "daemonset/skidder", "--tail=50"], "").unwrap_or_default();
        panic!("{error}\n{shown}\n{log}")
    })
}

/// A count of the agent's, from the endpoint on the pods' network.
fn metric(address: &str, name: &str) -> Option<f64> {
    let mut connection = TcpStream::connect((address, 8686)).ok()?;
    connection.write_all(b"GET /metrics HTTP/1.1\r\nhost: agent\r\n\r\n").ok()?;
    let mut text = String::new();
    connection.read_to_string(&mut text).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.rsplit(' ').next()?.parse().ok())
}

/// The archive of the image: built now, or one that `SKIDDER_IMAGE` names, built already.
fn archive() -> PathBuf {
    match std::env::var_os("SKIDDER_IMAGE") {
        Some(path) => path.into(),
        None => image::build("localhost/skidder:test", "quick", None).unwrap().archive,
    }
}

#[test]
fn a_daemonset_ships_every_line_once_whatever_happens_to_it() {
    let cluster = Cluster::start(&[&archive()]).expect("a Kubernetes node");
    let api = cluster.api();
    let store = Store::start(Keep::Documents).unwrap();
    let way = Way::from(Cluster::HOST, &store.url()).unwrap();
    let state = tempfile::tempdir().unwrap();

    api.kubectl(&["create", "namespace", "logs"], "").unwrap();
    let values = serde_json::json!({
        "image": {"repository": "localhost/skidder", "tag": "test", "pullPolicy": "Never"},
        "elasticsearch": {"endpoints": [format!("http://{}", way.address())], "index": "logs"},
        "persistence": {"hostPath": {"path": state.path().join("skidder")}},
    });
    let manifests = kube::chart(&values, "logs").unwrap();
    api.kubectl(&["-n", "logs", "apply", "-f", "-"], &manifests).unwrap();
    // A new namespace has no service account for a moment, and no pods without one.
    eventually("a namespace for pods", PATIENCE, || api.kubectl(&["apply", "-f", "-"], &workload()).ok()).unwrap();
    let (first, address) = agent_pod(api);
    let mut memory: Vec<f64> = Vec::new();
    let mut weigh = |address: &str| memory.extend(metric(address, "skidder_process_resident_memory_bytes"));
    let talks = |received: &BTreeMap<String, Value>| received.keys().filter(|key| key.starts_with("talk ")).count();

    // In the middle of it the agent's pod is deleted …
    eventually("the first lines", PATIENCE, || (talks(&received(&store)) > 500).then_some(())).unwrap();
    assert_eq!(metric(&address, "skidder_kubernetes_connected"), Some(1.0));
    // Within what the runtime leaves a container, too. Landlock is the kernel's to have: how far it goes is printed.
    let locked_in = |part: &str| metric(&address, &format!("skidder_locked_in{{part=\"{part}\"}}"));
    println!("locked in: {:?}", ["writes", "reads", "programs", "syscalls"].map(|part| (part, locked_in(part))));
    assert_eq!((locked_in("syscalls"), locked_in("programs")), (Some(1.0), Some(1.0)));
    assert_eq!(locked_in("reads"), locked_in("writes"), "the chart's configuration says what is read");
    assert!(metric(&address, "skidder_kubernetes_lag_seconds{pod_namespace=\"shop\"}").is_some());
    weigh(&address);
    api.kubectl(&["-n", "logs", "delete", "pod", &first], "").unwrap();
    let (second, address) = agent_pod(api);
    assert_ne!(first, second);
    let before = talks(&received(&store));
    eventually("lines by the second agent", PATIENCE, || (talks(&received(&store)) > before).then_some(())).unwrap();
    weigh(&address);
    // … a pod goes with all its logs …
    api.kubectl(&["-n", "shop", "delete", "pod", "short1"], "").unwrap();
    // … and the DaemonSet gets a new template.
    api.kubectl(&["-n", "logs", "rollout", "restart", "daemonset/skidder"], "").unwrap();
    api.kubectl(&["-n", "logs", "rollout", "status", "daemonset/skidder", "--timeout=180s"], "").unwrap();
    let (third, address) = agent_pod(api);
    assert_ne!(second, third);

    let restarts = |pod: &str| -> usize {
        let path = "jsonpath={.status.containerStatuses[0].restartCount}";
        api.kubectl(&["-n", "shop", "get", "pod", pod, "-o", path], "").unwrap().parse().unwrap()
    };
    eventually("three restarts", PATIENCE, || (restarts("crash") >= 3).then_some(())).unwrap();
    let crashes = restarts("crash");
    let wanted = || {
        let counted = [("talk", TALKS), ("long", LONGS), ("short", SHORTS), ("crash", crashes)];
        counted.into_iter().flat_map(|(word, count)| (1..=count).map(move |number| format!("{word} {number}")))
    };
    let missing = |received: &BTreeMap<String, Value>| wanted().filter(|key| !received.contains_key(key)).collect::<Vec<_>>();
    let all = eventually("all lines", PATIENCE, || Some(received(&store)).filter(|received| missing(received).is_empty()));
    let all = all.unwrap_or_else(|error| panic!("{error}: {:?}", missing(&received(&store))));
    weigh(&address);

    for (key, document) in &all {
        let (word, number) = key.split_once(' ').unwrap();
        let pod = if word == "short" { format!("short{number}") } else { word.to_owned() };
        let kubernetes = &document["kubernetes"];
        assert_eq!((&kubernetes["pod_name"], &document["pod_name"]), (&pod.as_str().into(), &pod.as_str().into()), "{document}");
        assert_eq!(kubernetes["pod_labels"]["app"], pod, "{document}");
        assert_eq!((&document["env"], &document["region"]), (&format!("test-{pod}").into(), &"eu-1".into()), "{document}");
        assert_eq!(kubernetes.get("metadata"), None, "{document}");
    }
    let long = |number: usize| all[&format!("long {number}")]["message"].as_str().unwrap().len();
    assert!((1..=LONGS).all(|number| long(number) == format!("long {number} ").len() + LONG_BYTES));
    let most = memory.iter().copied().fold(0.0, f64::max);
    println!("{} lines, {} restarts, memory at most {:.1} MiB", all.len(), crashes, most / f64::from(1 << 20));
    assert!(memory.len() == 3 && most < MAX_MEMORY_BYTES, "{memory:?}");
    let documents = store.documents();
    let namespace = |document: &[u8]| serde_json::from_slice::<Value>(document).unwrap()["kubernetes"]["pod_namespace"].clone();
    let own = documents.iter().filter(|document| namespace(document) == "logs");
    assert_eq!(own.count(), 0, "lines of the agent's own");
    the_kubelet_tells_as_much(api);
}

/// An agent outside of the cluster that asks the kubelet about the same pods.
fn the_kubelet_tells_as_much(api: &Api) {
    let config = format!(
        r#"
        data_dir = "state"
        [kubernetes]
        metadata = "kubelet"
        self_node_name = "node-a"
        kube_config_file = "{}"
        metadata_wait_secs = 60
        [kubernetes.kubelet]
        endpoint = "https://10.123.0.2:10250"
        verify_certificate = false
        [sources.pods]
        type = "kubernetes_logs"
        include_paths_glob_patterns = ["shop_long_*/**", "shop_crash_*/**"]
        [sinks.out]
        type = "file"
        inputs = ["pods"]
        path = "out.jsonl"
        "#,
        api.kubeconfig(api.url()).unwrap().display()
    );
    let site = Site::new(config).unwrap();
    site.once().unwrap();
    let records = site.records("out.jsonl").unwrap();
    assert!(records.len() > LONGS, "{} records", records.len());
    for record in records {
        let kubernetes = &record["kubernetes"];
        assert_eq!(kubernetes["pod_labels"]["app"], kubernetes["pod_name"], "{kubernetes}");
        assert_eq!(kubernetes["node_labels"]["topology.kubernetes.io/region"], "eu-1");
        assert!(kubernetes["container_id"].is_string(), "{kubernetes}");
    }
}
