//! The chart: what Helm makes of it, what the API server says to that, and the plain manifests that are made of it.
//!
//! `packaging/kubernetes/` is generated: where it is stale the test writes it anew and fails.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

use serde_json::{Value, json};
use skidder_tests::agent::Agent;
use skidder_tests::kube::Api;
use skidder_tests::tools::tool;
use skidder_tests::workspace;

const CHART: &str = "packaging/helm/skidder";

/// The head of the plain manifests: what `--create-namespace` does, and the leave to mount the node's directories.
const NAMESPACE: &str = "\
---
apiVersion: v1
kind: Namespace
metadata:
  name: skidder
  labels:
    # Pods that mount directories of the node are `privileged` to the pod security admission, though these have no capability.
    pod-security.kubernetes.io/enforce: privileged
";

static HELM: LazyLock<std::path::PathBuf> = LazyLock::new(|| tool("helm").unwrap());

/// Runs Helm, in a place of its own; what it said, and whether it was content.
fn helm(arguments: &[&str]) -> Result<String, String> {
    let place = tempfile::tempdir().unwrap();
    let mut command = Command::new(&*HELM);
    for variable in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
        command.env(variable, place.path());
    }
    let output = command.args(arguments).env_remove("KUBECONFIG").current_dir(workspace::root()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() { Ok(said) } else { Err(said + &String::from_utf8_lossy(&output.stderr)) }
}

/// The chart with these values.
fn template(values: &Value) -> Result<String, String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), values.to_string()).unwrap();
    helm(&["template", "skidder", CHART, "--namespace", "skidder", "--values", file.path().to_str().unwrap()])
}

/// The chart with these values, as the API server takes it (without changing anything): the objects, with its defaults.
fn accepted(api: &Api, values: &Value) -> Vec<Value> {
    dry_run(api, &template(values).unwrap())
}

fn dry_run(api: &Api, manifests: &str) -> Vec<Value> {
    let said = api.kubectl(&["apply", "--dry-run=server", "--validate=strict", "-o", "json", "-f", "-"], manifests).unwrap();
    let said: Value = serde_json::from_str(&said).unwrap();
    said["items"].as_array().unwrap().clone()
}

fn of_kind<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    objects.iter().find(|object| object["kind"] == kind).unwrap_or_else(|| panic!("no {kind}"))
}

/// The configuration in the chart's ConfigMap, cut out of what Helm printed.
fn config(manifests: &str) -> String {
    let (_, rest) = manifests.split_once("  skidder.toml: |\n").expect("a ConfigMap");
    let lines = rest.lines().take_while(|line| line.is_empty() || line.starts_with("    "));
    lines.map(|line| line.strip_prefix("    ").unwrap_or_default().to_owned() + "\n").collect()
}

fn validate(config: &str) -> String {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("skidder.toml"), config).unwrap();
    let ended = Agent::run(place.path(), &["validate", "--offline", "-c", "skidder.toml"]).unwrap();
    assert!(ended.status.success(), "{ended}\n{config}");
    ended.stderr
}

#[test]
fn helm_finds_no_fault() {
    let said = helm(&["lint", "--strict", CHART]).unwrap();
    assert!(!said.contains("[WARNING]") && !said.contains("[ERROR]"), "{said}");
}

#[test]
fn the_plain_manifests_are_what_the_chart_makes() {
    let monitoring = json!({
        "podMonitor": {"enabled": true}, "prometheusRule": {"enabled": true}, "grafanaDashboard": {"enabled": true},
    });
    let whole = template(&monitoring).unwrap();
    let (monitoring, agent): (Vec<_>, Vec<_>) = documents(&whole).partition(|(source, _)| source.ends_with("monitoring.yaml"));
    let mut stale = Vec::new();
    for (name, head, parts) in [("skidder.yaml", NAMESPACE, agent), ("monitoring.yaml", "", monitoring)] {
        let mut text = format!("# Made of the chart in packaging/helm/skidder by a test, for those who use no Helm. Do not edit.\n{head}");
        for (_, document) in parts {
            write!(text, "---\n{document}").unwrap();
        }
        let path = workspace::root().join("packaging/kubernetes").join(name);
        if fs::read_to_string(&path).ok().as_deref() != Some(&text) {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            stale.push(name);
        }
    }
    assert!(stale.is_empty(), "were stale, and are written anew: {stale:?}");
}

/// The documents that Helm printed, each with the template that it comes from, without Helm's own marks.
fn documents(manifests: &str) -> impl Iterator<Item = (String, String)> {
    let parts = manifests.split("---\n# Source: ").filter(|part| !part.trim().is_empty());
    parts.map(|part| {
        let (source, document) = part.split_once('\n').unwrap();
        let lines = document.lines().map(str::trim_end);
        let own = lines.filter(|line| !line.trim_start().starts_with("helm.sh/chart:") && !line.ends_with("managed-by: Helm"));
        let text = own.fold(String::new(), |text, line| text + line + "\n");
        (source.to_owned(), text.trim().to_owned() + "\n")
    })
}

#[test]
fn the_api_server_takes_what_the_chart_makes() {
    let api = Api::start().unwrap();
    api.kubectl(&["create", "namespace", "skidder"], "").unwrap();
    let crds = HELM.parent().unwrap().join("crds");
    api.kubectl(&["create", "-f", crds.to_str().unwrap()], "").unwrap();
    api.kubectl(&["wait", "--for=condition=Established", "--timeout=30s", "crd", "--all"], "").unwrap();

    let objects = accepted(
        &api,
        &json!({
            "podMonitor": {"enabled": true, "additionalLabels": {"release": "prometheus"}}, "prometheusRule": {"enabled": true},
            "grafanaDashboard": {"enabled": true}, "secrets": {"generic": {"TOKEN": "secret", "NUMBER": 7}},
            "elasticsearch": {"endpoints": ["https://es:9200"], "existingSecret": "es"},
            "docker": {"enabled": true}, "image": {"sha": "0".repeat(64), "pullSecrets": [{"name": "registry"}]},
            "env": [{"name": "A", "value": "b"}], "envFrom": [{"secretRef": {"name": "more"}}], "podAnnotations": {"a": "b"}, "podLabels": {"c": "d"},
            "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": "x", "operator": "DoesNotExist"}]}]}}},
            "extraVolumes": [{"name": "ca", "configMap": {"name": "ca"}}], "extraVolumeMounts": [{"name": "ca", "mountPath": "/ca"}],
            "extraContainers": [{"name": "beside", "image": "beside:1"}], "initContainers": [{"name": "before", "image": "before:1"}],
            "extraObjects": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ include \"skidder.fullname\" . }}-more"}}],
        }),
    );
    let kinds: Vec<_> = objects.iter().map(|object| object["kind"].as_str().unwrap()).collect();
    for kind in ["ClusterRole", "ClusterRoleBinding", "ConfigMap", "DaemonSet", "PodMonitor", "PrometheusRule", "Secret", "ServiceAccount"]
    {
        assert!(kinds.contains(&kind), "{kinds:?} without {kind}");
    }
    assert!(objects.iter().any(|object| object["metadata"]["name"] == "skidder-more"));

    for name in ["skidder.yaml", "monitoring.yaml"] {
        let manifests = fs::read_to_string(workspace::root().join("packaging/kubernetes").join(name)).unwrap();
        dry_run(&api, &manifests);
    }
    may_do_little(&accepted(&api, &json!({})));
    asks_for_no_more_than_it_needs(&api);
}

/// What a node's administrator wants to see of something that runs everywhere.
fn may_do_little(objects: &[Value]) {
    let pod = &of_kind(objects, "DaemonSet")["spec"]["template"]["spec"];
    let [container] = &pod["containers"].as_array().unwrap()[..] else { panic!("one container: {pod}") };
    let security = &container["securityContext"];
    assert_eq!(security["capabilities"], json!({"drop": ["ALL"]}));
    assert_eq!(security["readOnlyRootFilesystem"], true);
    assert_eq!(security["allowPrivilegeEscalation"], false);
    assert_ne!(security["privileged"], true);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    assert_eq!(pod["securityContext"]["runAsUser"], 0);
    for field in ["hostNetwork", "hostPID", "hostIPC"] {
        assert!(pod[field].is_null() || pod[field] == false, "{field}");
    }
    // Of the node's directories only the state can be written.
    let volumes = pod["volumes"].as_array().unwrap();
    let of_the_node: Vec<_> = volumes.iter().filter(|volume| volume.get("hostPath").is_some()).map(|volume| &volume["name"]).collect();
    for mount in container["volumeMounts"].as_array().unwrap().iter().filter(|mount| of_the_node.contains(&&mount["name"])) {
        assert!(mount["readOnly"] == true || mount["mountPath"] == "/var/lib/skidder", "{mount}");
    }
    assert_eq!(pod["priorityClassName"], "system-node-critical");
    assert_eq!(pod["tolerations"], json!([{"operator": "Exists"}]));
    // The agent takes 20 seconds at most (DRAIN_WAIT) to deliver what it can.
    assert!(pod["terminationGracePeriodSeconds"].as_u64().unwrap() >= 30);
    for (probe, path) in [("startupProbe", "/health"), ("livenessProbe", "/health"), ("readinessProbe", "/ready")] {
        assert_eq!(container[probe]["httpGet"]["path"], path);
    }
    let fields: Vec<_> = container["env"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|env| Some((env["name"].as_str()?, env["valueFrom"]["fieldRef"]["fieldPath"].as_str()?)))
        .collect();
    let expected = [
        ("SKIDDER_SELF_NODE_NAME", "spec.nodeName"),
        ("SKIDDER_SELF_POD_NAME", "metadata.name"),
        ("SKIDDER_SELF_POD_NAMESPACE", "metadata.namespace"),
        ("NODE_IP", "status.hostIP"),
    ];
    assert_eq!(fields, expected);
}

/// The rules of the role for some tables `[kubernetes]`, and whether the pod gets a token.
fn asks_for_no_more_than_it_needs(api: &Api) {
    let rule = |resource: &str, verbs: &[&str]| json!({"apiGroups": [""], "resources": [resource], "verbs": verbs});
    let (pods, node, namespaces) = (rule("pods", &["list", "watch"]), rule("nodes", &["get"]), rule("namespaces", &["get"]));
    let kubelet = rule("nodes/pods", &["get"]);
    let pipeline = "data_dir = \"/var/lib/skidder\"\n[api]\naddress = \"0.0.0.0:8686\"\n[kubernetes]\n";
    let cases: [(&str, Vec<&Value>, bool); 6] = [
        ("", vec![&pods, &node], true),
        ("namespace_labels = \"all\"", vec![&pods, &node, &namespaces], true),
        ("namespace_labels = \"none\"\nnode_labels = [\"a\"]", vec![&pods, &node], true),
        ("node_labels = \"none\"\nnamespace_labels = [\"team\"]", vec![&pods, &namespaces], true),
        ("metadata = \"kubelet\"", vec![&kubelet, &node], true),
        ("metadata = \"none\"", vec![], false),
    ];
    for (table, rules, token) in cases {
        let objects = accepted(api, &json!({"customConfig": format!("{pipeline}{table}\n")}));
        let role = objects.iter().find(|object| object["kind"] == "ClusterRole");
        assert_eq!(role.map_or(&json!([]), |role| &role["rules"]), &json!(rules), "{table}");
        assert_eq!(of_kind(&objects, "DaemonSet")["spec"]["template"]["spec"]["automountServiceAccountToken"], token, "{table}");
    }
}

#[test]
fn the_configurations_are_valid() {
    validate(&config(&template(&json!({})).unwrap()));
    let store =
        json!({"elasticsearch": {"endpoints": ["https://a:9200", "https://b:9200"], "existingSecret": "es"}, "docker": {"enabled": true}});
    let text = config(&template(&store).unwrap());
    assert!(text.contains("require_redaction = true"), "{text}");
    validate(&text.replace("${SKIDDER_STORE_USER}", "u").replace("${SKIDDER_STORE_PASSWORD}", "p"));

    // YAML becomes TOML with whole numbers whole, keys quoted where they must be, and what the chart knows put in.
    let yaml = json!({"customConfig": {
        "sources": {"pods": {"type": "kubernetes_logs", "max_record_bytes": 262_144, "allowed_owners": [1000]}},
        "transforms": {
            "meta": {"type": "enrich", "inputs": ["pods"], "fields": {"team": "it's \"quoted\" <a>\n", "\"a.b\"": 1.5, "n": 12_345_678_901_u64}},
            "clean": {"type": "redact", "inputs": ["meta"], "rules": [{"name": "booking", "pattern": r"\bBK-\d{6}\b", "replacement": "[BOOKING]"}]},
        },
        "sinks": {"out": {"type": "blackhole", "inputs": ["clean"]}},
    }});
    let text = config(&template(&yaml).unwrap());
    validate(&text);
    let read: toml::Table = text.parse().unwrap();
    assert_eq!(read["data_dir"].as_str(), Some("/var/lib/skidder"));
    assert_eq!(read["api"]["address"].as_str(), Some("0.0.0.0:8686"));
    assert_eq!(read["sources"]["pods"]["max_record_bytes"].as_integer(), Some(262_144));
    assert_eq!(read["transforms"]["meta"]["fields"]["team"].as_str(), Some("it's \"quoted\" <a>\n"));
    assert_eq!(read["transforms"]["clean"]["rules"][0]["pattern"].as_str(), Some(r"\bBK-\d{6}\b"));
}

#[test]
fn what_could_not_work_is_refused() {
    let cases = [
        (json!({"customConfig": "data_dir = /x"}), "customConfig is no TOML"),
        (json!({"customConfig": "data_dir = \"/x\""}), "data_dir must be \"/var/lib/skidder\""),
        (json!({"customConfig": "data_dir = \"/var/lib/skidder\""}), "kubelet's probes cannot reach the endpoint"),
        (json!({"customConfig": {"api": {"enabled": false}}}), "kubelet's probes cannot reach the endpoint"),
        (json!({"haproxy": {"enabled": true}}), "'haproxy' not allowed"),
        (json!({"role": "Aggregator"}), "'/role'"),
        (json!({"updateStrategy": {"rollingUpdate": {"maxSurge": 1}}}), "maxSurge"),
        (json!({"terminationGracePeriodSeconds": 5}), "terminationGracePeriodSeconds"),
    ];
    for (values, reason) in cases {
        let said = template(&values).expect_err("is refused");
        assert!(said.contains(reason), "{values}: {said}");
    }
    // Where nobody probes, or a ConfigMap of somebody else's has the configuration, the chart does not judge.
    let unprobed =
        json!({"customConfig": {"api": {"enabled": false}}, "startupProbe": null, "livenessProbe": null, "readinessProbe": null});
    template(&unprobed).unwrap();
    let text = template(&json!({"existingConfigMaps": ["mine", "more"]})).unwrap();
    assert!(!text.contains("kind: ConfigMap") && text.contains("name: mine") && text.contains("name: more"), "{text}");
}

#[test]
fn prometheus_takes_the_rules() {
    let promtool = tool("promtool").unwrap();
    let run = |arguments: &[&str]| {
        let output = Command::new(&promtool).args(arguments).current_dir(workspace::root()).output().unwrap();
        assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    };
    run(&["check", "rules", "packaging/helm/skidder/files/alerts.yaml"]);
    let cases = "tests/cases/alerts.yaml";
    assert!(Path::new(workspace::root()).join(cases).is_file());
    run(&["test", "rules", cases]);
}
