//! Metadata from a real API server: whole, at once, with the least of questions, and with the server away.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Map, Value};
use skidder_tests::agent::Agent;
use skidder_tests::chance::Chance;
use skidder_tests::kube::{self, Api, Asked, Turnstile, Way, eventually};
use skidder_tests::site::Site;
use skidder_tests::store::{Keep, Store};

/// How long anything may take that is waited for: starts of the API server among it.
const PATIENCE: Duration = Duration::from_secs(60);
const REGION: (&str, &str) = ("topology.kubernetes.io/region", "eu-1");

/// An agent's place on `node-a`, asking `api`.
struct Node {
    site: Site,
    agent: Option<Agent>,
}

impl Node {
    fn new(api: &Api, more: &str) -> Node {
        Node::by_way_of(api, api.url(), more)
    }

    /// The same by another address of the server's.
    fn by_way_of(api: &Api, url: &str, more: &str) -> Node {
        let kubeconfig = api.kubeconfig(url).unwrap();
        let config = format!(
            r#"
            data_dir = "state"
            api.enabled = false
            [kubernetes]
            self_node_name = "node-a"
            kube_config_file = "{}"
            {more}
            [sources.pods]
            type = "kubernetes_logs"
            root = "pods"
            rescan_interval_ms = 500
            [transforms.flat]
            type = "enrich"
            inputs = ["pods"]
            [transforms.flat.fields]
            env = '{{{{ kubernetes.pod_labels.env ?? kubernetes.namespace_labels.env ?? "none" }}}}'
            region = '{{{{ kubernetes.node_labels."topology.kubernetes.io/region" ?? kubernetes.node_labels."failure-domain.beta.kubernetes.io/region" }}}}'
            [sinks.out]
            type = "file"
            inputs = ["flat"]
            path = "out.jsonl"
            batch.timeout_secs = 0.1
            "#,
            kubeconfig.display(),
        );
        let site = Site::new(config).unwrap();
        std::fs::create_dir_all(site.path("pods")).unwrap();
        Node { site, agent: None }
    }

    fn start(&mut self) {
        self.agent = Some(self.site.start().unwrap());
    }

    fn stop(&mut self) {
        let agent = self.agent.take().unwrap();
        agent.signal(Signal::TERM).unwrap();
        agent.wait(PATIENCE).unwrap().expect_success().unwrap();
    }

    /// Lets a container of a pod write a line.
    fn say(&self, namespace: &str, pod: &str, uid: &str, container: &str, line: &str) {
        let text = format!("2026-01-01T00:00:00.000000000Z stdout F {line}\n");
        self.site.append(&format!("pods/{namespace}_{pod}_{uid}/{container}/0.log"), text).unwrap();
    }

    /// The records so far, by message, each of which must have come once.
    fn records(&self) -> BTreeMap<String, Map<String, Value>> {
        let mut found = BTreeMap::new();
        for record in self.site.records("out.jsonl").unwrap_or_default() {
            // One that was parsed has none.
            let Some(message) = record.get("message").and_then(Value::as_str).map(str::to_owned) else { continue };
            assert!(found.insert(message.clone(), record).is_none(), "twice: {message}");
        }
        found
    }

    /// Waits until the agent knows what this text is part of: it writes what it knows into its cache.
    fn knows(&self, text: &str) {
        let cache = || String::from_utf8_lossy(&self.site.read("state/metadata.json")).contains(text).then_some(());
        eventually(text, PATIENCE, cache).unwrap();
    }

    /// The record with this message, once it is there.
    fn record(&self, message: &str) -> Map<String, Value> {
        eventually(message, PATIENCE, || self.records().remove(message)).unwrap()
    }
}

fn server() -> Api {
    let api = Api::start().expect("a Kubernetes API server");
    api.allow().unwrap();
    api.put([kube::node("node-a", &[REGION]), kube::node("node-b", &[])]).unwrap();
    api
}

/// The requests for pods: lists and watches.
fn lists_and_watches(api: &Api) -> (Vec<Asked>, Vec<Asked>) {
    api.asked().into_iter().filter(|asked| asked.uri.contains("/pods?")).partition(|asked| asked.verb == "list")
}

fn pod(number: usize) -> (String, Value) {
    let node = if number < 500 { "node-a" } else { "node-b" };
    kube::pod(
        "shop",
        &format!("p{number}"),
        &format!("u{number}"),
        node,
        &[("env", "prod"), ("app", "shop"), ("number", &number.to_string())],
    )
}

/// 500 pods on this node among 5,000; all that the agent ever asks for is counted by the server itself.
#[test]
fn five_hundred_pods_among_five_thousand_cost_one_list() {
    let api = server();
    api.put((0..5000).map(pod)).unwrap();
    let way = Way::to(api.url()).unwrap();
    let mut node = Node::by_way_of(&api, &way.url(), "");
    for number in 0..500 {
        node.say("shop", &format!("p{number}"), &format!("u{number}"), "main", &format!("line {number}"));
    }
    node.start();
    let found = eventually("500 records", PATIENCE, || Some(node.records()).filter(|found| found.len() == 500)).unwrap();
    for (message, record) in &found {
        let number = message.strip_prefix("line ").unwrap();
        let kubernetes = &record["kubernetes"];
        assert_eq!(kubernetes["pod_labels"]["number"], *number, "{record:?}");
        assert_eq!(kubernetes["container_id"], format!("c-u{number}"));
        assert_eq!(kubernetes["pod_node_name"], "node-a");
        assert_eq!(kubernetes.get("metadata"), None);
        assert_eq!((&record["env"], &record["region"]), (&"prod".into(), &"eu-1".into()));
    }
    let (lists, _) = lists_and_watches(&api);
    assert_eq!(lists.len(), 1, "{lists:?}");
    assert!(lists[0].uri.contains("fieldSelector=spec.nodeName%3Dnode-a&resourceVersion=0"), "{lists:?}");

    // The way to the server breaks, again and again: each watch goes on where the last one was.
    for round in 1..=3 {
        way.cut();
        let (name, uid) = (format!("while-away-{round}"), format!("away-{round}"));
        api.put([kube::pod("shop", &name, &uid, "node-a", &[("env", "away")])]).unwrap();
        way.mend();
        eventually("a watch", PATIENCE, || {
            (lists_and_watches(&api).1.iter().filter(|asked| asked.code == 200).count() > round).then_some(())
        })
        .unwrap();
        node.say("shop", &name, &uid, "main", &name);
        assert_eq!(node.record(&name)["env"], "away");
    }
    let (lists, watches) = lists_and_watches(&api);
    assert_eq!(lists.len(), 1, "{lists:?}");
    let versions: Vec<u64> = watches.iter().filter(|asked| asked.code == 200).map(version).collect();
    assert!(versions.is_sorted() && versions[0] > 0, "{watches:?}");
    for asked in &watches {
        let wanted = ["spec.nodeName%3Dnode-a&", "allowWatchBookmarks=true"];
        assert!(wanted.iter().all(|part| asked.uri.contains(part)), "{asked:?}");
    }
    let others: Vec<_> = api.asked().into_iter().filter(|asked| !asked.uri.contains("/pods?")).collect();
    assert!(others.iter().all(|asked| asked.uri == "/api/v1/nodes/node-a?resourceVersion=0"), "{others:?}");
    assert!(others.len() <= 2, "{others:?}");
    node.stop();
}

fn version(asked: &Asked) -> u64 {
    let (_, rest) = asked.uri.split_once("resourceVersion=").unwrap();
    rest.split('&').next().unwrap().parse().unwrap()
}

/// The server comes back and knows nothing of what was: one more list, and the watch goes on from that.
#[test]
fn a_server_without_history_costs_one_more_list() {
    let api = server();
    api.put((0..20).map(pod)).unwrap();
    let mut node = Node::new(&api, "");
    node.start();
    node.say("shop", "p1", "u1", "main", "before");
    assert_eq!(node.record("before")["env"], "prod");
    api.stop_server().unwrap();
    api.put([kube::pod("shop", "p1", "u1", "node-a", &[("env", "new")]), kube::pod("shop", "late", "late", "node-a", &[("env", "late")])])
        .unwrap();
    api.delete("pods/shop/p2").unwrap();
    api.forget_history().unwrap();
    api.start_server().unwrap();
    eventually("a second list", PATIENCE, || (lists_and_watches(&api).0.len() > 1).then_some(())).unwrap();
    eventually("a watch after it", PATIENCE, || lists_and_watches(&api).1.last().filter(|asked| asked.code == 200).map(drop)).unwrap();
    node.say("shop", "p1", "u1", "main", "changed");
    node.say("shop", "late", "late", "main", "late");
    node.say("shop", "p2", "u2", "main", "deleted");
    assert_eq!(node.record("changed")["env"], "new");
    assert_eq!(node.record("late")["env"], "late");
    assert_eq!(node.record("deleted")["env"], "prod", "its last lines come after its end");
    assert_eq!(lists_and_watches(&api).0.len(), 2);
    node.stop();
}

/// Nothing waits for a server that is away for longer than `metadata_wait_secs`, and a restart of the agent loses nothing that
/// was known.
#[test]
fn without_a_server_known_pods_stay_known_and_unknown_ones_go_out_as_partial() {
    let api = server();
    api.put((0..3).map(pod)).unwrap();
    let mut node = Node::new(&api, "metadata_wait_secs = 1");
    node.start();
    // Agents come to the server spread over two seconds, for pods and for the node, which is longer than this one waits.
    node.knows("\"u1\"");
    node.knows("eu-1");
    node.say("shop", "p1", "u1", "main", "known");
    assert_eq!(node.record("known")["env"], "prod");
    api.stop_server().unwrap();
    drop(node.agent.take());
    node.say("shop", "p2", "u2", "main", "after the restart");
    node.say("shop", "new", "new", "main", "unknown");
    node.start();
    let record = node.record("after the restart");
    assert_eq!((&record["env"], &record["region"], record["kubernetes"].get("metadata")), (&"prod".into(), &"eu-1".into(), None));
    let record = node.record("unknown");
    assert_eq!((&record["env"], &record["kubernetes"]["metadata"]), (&"none".into(), &"partial".into()));
    assert_eq!(record["kubernetes"]["pod_name"], "new");
    // Once it is there again, what it says counts from then on.
    api.put([kube::pod("shop", "new", "new", "node-a", &[("env", "late")])]).unwrap();
    api.start_server().unwrap();
    eventually("a list", PATIENCE, || lists_and_watches(&api).0.iter().filter(|asked| asked.code == 200).nth(1).map(drop)).unwrap();
    node.knows("\"env\":\"late\"");
    node.say("shop", "new", "new", "main", "known by now");
    let record = node.record("known by now");
    assert_eq!((&record["env"], record["kubernetes"].get("metadata")), (&"late".into(), None));
    node.stop();
}

/// A pod is deleted while a store is down and most of its logs wait on the disk: neither kills of the agent nor an API server that is
/// gone by then make it forget whose they are, down to lines that nobody had read.
#[test]
fn a_deleted_pod_is_known_until_its_last_line_is_delivered() {
    const LINES: u64 = 4_000;
    let api = server();
    api.put((0..3).map(pod)).unwrap();
    let store = Store::start(Keep::Documents).unwrap();
    store.set_down(true);
    // The store's buffer holds a part of it.
    let sink = format!(
        r#"metadata_wait_secs = 60
        [sinks.store]
        type = "elasticsearch"
        inputs = ["flat"]
        endpoints = ["{}"]
        mode = "bulk"
        index = "logs"
        batch.max_bytes = 65536
        buffer.type = "disk"
        buffer.max_size = "1MiB"
        request.retry_max_duration_secs = 1
        "#,
        store.url()
    );
    let mut node = Node::new(&api, &sink);
    node.start();
    let mut chance = Chance::of(7, 7, 7);
    for number in 0..LINES {
        let noise: String = (0..60).map(|_| format!("{:016x}", chance.next())).collect();
        node.say("shop", "p1", "u1", "main", &format!("line {number} {noise}"));
    }
    eventually("all lines in the file", PATIENCE, || (node.records().len() as u64 == LINES).then_some(())).unwrap();
    node.knows("eu-1");
    api.delete("pods/shop/p1").unwrap();
    node.knows("\"gone\":[\"u1\"]");
    // Killed, twice, with nobody to ask.
    api.stop_server().unwrap();
    drop(node.agent.take());
    node.say("shop", "p1", "u1", "main", "written while it was away");
    node.start();
    assert_eq!(node.record("written while it was away")["env"], "prod");
    drop(node.agent.take());
    node.say("shop", "p1", "u1", "main", "last words");
    node.start();
    assert_eq!(node.record("last words")["env"], "prod");
    assert!(store.counts().stored == 0 && node.site.read("state/metadata.json").len() > 100);
    store.set_down(false);
    eventually("all lines in the store", PATIENCE, || (store.counts().stored == LINES + 2).then_some(())).unwrap_or_else(|error| {
        panic!("{error}: {:?}", store.counts());
    });
    for document in store.documents() {
        let document: Value = serde_json::from_slice(&document).unwrap();
        let kubernetes = &document["kubernetes"];
        let found = (&document["env"], &document["region"], &kubernetes["pod_labels"]["number"], kubernetes.get("metadata"));
        assert_eq!(found, (&"prod".into(), &"eu-1".into(), &"1".into(), None), "{document}");
    }
    node.stop();
}

/// A pod that is younger than its first line: the line waits.
#[test]
fn lines_wait_for_a_pod_that_is_told_of_later() {
    let api = server();
    let mut node = Node::new(&api, "metadata_wait_secs = 60");
    node.start();
    node.say("shop", "p1", "u1", "main", "early");
    node.say("shop", "p2", "u2", "main", "other");
    api.put([pod(2)]).unwrap();
    assert_eq!(node.record("other")["env"], "prod");
    assert!(!node.records().contains_key("early"), "it goes out without its labels");
    api.put([pod(1)]).unwrap();
    assert_eq!(node.record("early")["env"], "prod");
    // Labels that change count from then on.
    api.put([kube::pod("shop", "p1", "u1", "node-a", &[("env", "changed")])]).unwrap();
    node.knows("\"env\":\"changed\"");
    node.say("shop", "p1", "u1", "main", "later");
    assert_eq!(node.record("later")["env"], "changed");
    // Another pod of the same name is another pod.
    api.delete("pods/shop/p1").unwrap();
    api.put([kube::pod("shop", "p1", "other", "node-a", &[("env", "second")])]).unwrap();
    node.knows("\"env\":\"second\"");
    node.say("shop", "p1", "u1", "main", "last of the first");
    node.say("shop", "p1", "other", "main", "first of the second");
    assert_eq!(node.record("last of the first")["env"], "changed");
    assert_eq!(node.record("first of the second")["env"], "second");
    node.stop();
}

/// Static pods lie under a hash; namespaces are asked for by name, and only where there is a pod of theirs.
#[test]
fn static_pods_and_namespaces() {
    let api = server();
    let (key, mut mirror) = kube::pod("kube-system", "etcd-node-a", "api-uid", "node-a", &[("tier", "control-plane")]);
    mirror["metadata"]["annotations"] = serde_json::json!({"kubernetes.io/config.hash": "abc", "kubernetes.io/config.mirror": "abc"});
    let namespace = serde_json::json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {
        "name": "shop", "uid": "ns-1", "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {"env": "of-namespace", "other": "x"}}});
    let plain = kube::pod("shop", "plain", "plain", "node-a", &[]);
    api.put([(key, mirror), ("namespaces/shop".to_owned(), namespace), plain]).unwrap();
    let mut node = Node::new(&api, "namespace_labels = [\"env\"]");
    node.start();
    node.say("kube-system", "etcd-node-a", "abc", "main", "static");
    node.say("shop", "plain", "plain", "main", "plain");
    let record = node.record("static");
    assert_eq!((&record["kubernetes"]["pod_labels"]["tier"], record["kubernetes"].get("metadata")), (&"control-plane".into(), None));
    let record = node.record("plain");
    assert_eq!(
        (&record["env"], &record["kubernetes"]["namespace_labels"]),
        (&"of-namespace".into(), &serde_json::json!({"env": "of-namespace"}))
    );
    let asked: Vec<_> = api.asked().into_iter().filter(|asked| asked.uri.contains("/namespaces")).map(|asked| asked.uri).collect();
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert!(asked.iter().all(|uri| uri.starts_with("/api/v1/namespaces/")), "{asked:?}");
    node.stop();
}

/// A namespace that says that its pods are not to be read, and one of them that says otherwise.
#[test]
fn marks_of_namespaces_are_heeded_where_they_are_asked_for() {
    let api = server();
    let namespace = |exclude: &str| {
        let metadata = serde_json::json!({"name": "noisy", "uid": "ns-2", "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {"team": "x", "vector.dev/exclude": exclude}});
        ("namespaces/noisy".to_owned(), serde_json::json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}))
    };
    let (key, mut spared) = kube::pod("noisy", "spared", "spared", "node-a", &[]);
    spared["metadata"]["annotations"] = serde_json::json!({"skidder.io/exclude": "false"});
    api.put([namespace("true"), kube::pod("noisy", "out", "out", "node-a", &[]), (key, spared)]).unwrap();
    let mut node = Node::new(&api, "metadata_wait_secs = 60\nnamespace_labels = [\"team\"]");
    node.start();
    node.say("noisy", "out", "out", "main", "excluded");
    node.say("noisy", "spared", "spared", "main", "spared");
    assert_eq!(node.record("spared")["kubernetes"]["namespace_labels"], serde_json::json!({"team": "x"}));
    // Nor after a restart that finds nobody to ask.
    node.knows("\"excluded\":[\"noisy\"]");
    api.stop_server().unwrap();
    drop(node.agent.take());
    node.start();
    node.say("noisy", "spared", "spared", "main", "spared again");
    node.record("spared again");
    assert!(!node.records().contains_key("excluded"));
    node.stop();
}

/// What pods say of their own logs.
#[test]
fn marks_of_pods_are_heeded() {
    let api = server();
    let marked = |name: &str, annotations: Value| {
        let (key, mut object) = kube::pod("shop", name, name, "node-a", &[]);
        object["metadata"]["annotations"] = annotations;
        object["spec"]["containers"].as_array_mut().unwrap().push(serde_json::json!({"name": "side", "image": "i"}));
        (key, object)
    };
    let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    api.put([
        marked("out", json(r#"{"skidder.io/exclude": "true"}"#)),
        marked("half", json(r#"{"vector.dev/exclude-containers": "side"}"#)),
        marked("parsed", json(r#"{"skidder.io/parser.main": "json"}"#)),
        marked("slow", json(r#"{"skidder.io/rate-limit": "2000"}"#)),
    ])
    .unwrap();
    let mut node = Node::new(&api, "metadata_wait_secs = 60");
    node.start();
    // What was read at once counts against what comes after.
    let filler = "x".repeat(100_000);
    node.say("shop", "slow", "slow", "main", &format!("{{{filler}"));
    eventually("a long line", PATIENCE, || (node.site.read("out.jsonl").len() > filler.len()).then_some(())).unwrap();
    node.say("shop", "slow", "slow", "main", "slow");
    for pod in ["out", "half", "parsed"] {
        node.say("shop", pod, pod, "main", &format!(r#"{{"level":"warn","of":"{pod}"}}"#));
        node.say("shop", pod, pod, "side", &format!("{pod} side"));
    }
    node.say("shop", "parsed", "parsed", "main", "not parsed");
    node.say("shop", "half", "half", "main", "half main");
    node.record("not parsed");
    node.record("half main");
    node.record("parsed side");
    let all = node.site.records("out.jsonl").unwrap();
    let of = |pod: &str| all.iter().filter(|record| record["kubernetes"]["pod_name"] == pod).collect::<Vec<_>>();
    let parsed = of("parsed");
    let parsed = parsed.iter().find(|record| record.get("level").is_some()).expect("a parsed record");
    assert_eq!((&parsed["level"], &parsed["of"], parsed.get("message")), (&"warn".into(), &"parsed".into(), None));
    assert!(of("half").iter().all(|record| record["message"] != "half side"), "{:?}", of("half"));
    assert!(of("out").is_empty(), "{:?}", of("out"));
    assert!(of("slow").iter().all(|record| record["message"] != "slow"), "read faster than it asked for");
    // Taken in again, it is read from then on, with what is there by then.
    api.put([marked("out", json("{}"))]).unwrap();
    node.record("out side");
    node.stop();
}

/// Who may not ask is told so, and ships what paths say.
#[test]
fn without_permission_records_are_partial_and_the_log_says_what_to_do() {
    let api = Api::start().expect("a Kubernetes API server");
    api.put([pod(1)]).unwrap();
    let mut node = Node::new(&api, "metadata_wait_secs = 1");
    node.start();
    node.say("shop", "p1", "u1", "main", "forbidden");
    assert_eq!(node.record("forbidden")["kubernetes"]["metadata"], "partial");
    // It may not have asked by then. Who asks again has been refused, and said so.
    eventually("a second refusal", PATIENCE, || (lists_and_watches(&api).0.len() > 1).then_some(())).unwrap();
    let agent = node.agent.take().unwrap();
    agent.signal(Signal::TERM).unwrap();
    let ended = agent.wait(PATIENCE).unwrap();
    assert!(ended.stderr.contains("ClusterRole is missing or not bound"), "{}", ended.stderr);
    let (lists, watches) = lists_and_watches(&api);
    assert!(lists.iter().all(|asked| asked.code == 403) && watches.is_empty(), "{lists:?} {watches:?}");
}

/// The kubelet puts another token into the file, and the old one is not accepted any more: a watch that has to be begun anew is.
#[test]
fn a_token_that_rotates_is_read_again() {
    let api = server();
    let token = |secret: &str| {
        let bound = ["--bound-object-kind=Secret", &format!("--bound-object-name={secret}")].map(str::to_owned);
        let arguments = ["create", "token", "skidder", "--namespace=logs", &bound[0], &bound[1]];
        api.kubectl(&arguments, "").unwrap().trim().to_owned()
    };
    // Nothing makes namespaces and accounts here: there are no controllers.
    api.kubectl(&["create", "namespace", "logs"], "").unwrap();
    api.kubectl(&["create", "serviceaccount", "skidder", "--namespace=logs"], "").unwrap();
    for secret in ["first", "second"] {
        api.kubectl(&["create", "secret", "generic", secret, "--namespace=logs"], "").unwrap();
    }
    api.put((0..3).map(pod)).unwrap();
    let way = Way::to(api.url()).unwrap();
    let mut node = Node::by_way_of(&api, &way.url(), "");
    api.rotate_token(&token("first")).unwrap();
    node.start();
    node.knows("\"u1\"");
    api.rotate_token(&token("second")).unwrap();
    api.kubectl(&["delete", "secret", "first", "--namespace=logs"], "").unwrap();
    // The API server remembers for some seconds that it accepted a token.
    std::thread::sleep(Duration::from_secs(12));
    let begun = Instant::now();
    way.cut();
    api.put([kube::pod("shop", "p1", "u1", "node-a", &[("env", "with the second token")])]).unwrap();
    way.mend();
    // The client reads the file once a minute, and is turned away with what it read before.
    let watches = || lists_and_watches(&api).1.into_iter().filter(|asked| asked.code == 200).count();
    eventually("a watch with the new token", Duration::from_secs(180), || (watches() >= 2).then_some(())).unwrap();
    node.knows("with the second token");
    node.say("shop", "p1", "u1", "main", "after the rotation");
    assert_eq!(node.record("after the rotation")["env"], "with the second token");
    let (lists, watches) = lists_and_watches(&api);
    assert_eq!(lists.len(), 1, "{lists:?}");
    // How often it was turned away: with waits that double, and are spread from nothing up.
    let refused = watches.iter().filter(|asked| asked.code == 401).count();
    assert!(refused < 30, "{refused} within {:?}", begun.elapsed());
    node.stop();
}

/// An API server that has too much to do is left alone for as long as it asks, and nothing of what it knows is lost.
#[test]
fn who_is_turned_away_comes_again_when_told_to() {
    const SECONDS: u32 = 3;
    let api = server();
    api.put((0..3).map(pod)).unwrap();
    let door = api.open_door().unwrap();
    let turnstile = Turnstile::before(door.address, 3, SECONDS).unwrap();
    let mut node = Node::by_way_of(&api, &turnstile.url(), "metadata_wait_secs = 60");
    node.start();
    node.say("shop", "p1", "u1", "main", "waited for");
    assert_eq!(node.record("waited for")["env"], "prod");
    let known = Instant::now();
    let times: Vec<Instant> = turnstile.turned_away().into_iter().map(|(time, _)| time).collect();
    assert_eq!(times.len(), 3);
    let until = times.iter().copied().skip(1).chain([known]);
    for (turned_away, next) in times.iter().zip(until) {
        assert!(next.duration_since(*turned_away) >= Duration::from_secs(SECONDS.into()), "{times:?} {known:?}");
    }
    node.stop();
}

/// What pods say of one stream counts for that stream. Nodes of old clusters have their region under its former key.
#[test]
fn one_stream_of_a_pod_is_left_out_and_regions_may_have_their_old_label() {
    let api = server();
    api.put([kube::node("node-a", &[("failure-domain.beta.kubernetes.io/region", "old-1")])]).unwrap();
    let (key, mut half) = kube::pod("shop", "half", "half", "node-a", &[]);
    half["metadata"]["annotations"] = serde_json::json!({"fluentbit.io/exclude_stderr-main": "true"});
    api.put([(key, half)]).unwrap();
    let mut node = Node::new(&api, "metadata_wait_secs = 60");
    node.start();
    let say = |container: &str, stream: &str, line: &str| {
        let text = format!("2026-01-01T00:00:00.000000000Z {stream} F {line}\n");
        node.site.append(&format!("pods/shop_half_half/{container}/0.log"), text).unwrap();
    };
    say("main", "stderr", "main stderr");
    say("main", "stdout", "main stdout");
    say("side", "stderr", "side stderr");
    node.record("main stdout");
    node.record("side stderr");
    assert!(!node.records().contains_key("main stderr"));
    let record = node.record("main stdout");
    assert_eq!((&record["kubernetes"]["excluded_stream"], &record["region"]), (&"stderr".into(), &"old-1".into()));
    node.stop();
}
