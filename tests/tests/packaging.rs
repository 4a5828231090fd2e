//! What is packaged agrees with the agent and with itself. What needs Helm, an API server or an image is in `packaging_*.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use skidder_tests::agent::{Agent, until};
use skidder_tests::site::Site;
use skidder_tests::store::dead_url;
use skidder_tests::workspace;

fn text(path: &str) -> String {
    fs::read_to_string(workspace::root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn toml(path: &str) -> toml::Table {
    text(path).parse().unwrap()
}

/// The value of a line `name…value` in a file of such lines.
fn after<'a>(text: &'a str, name: &str) -> &'a str {
    text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("no {name}"))
}

/// Names of our metrics in a text.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("skidder_")).map(str::to_owned).collect()
}

/// What `/metrics` of a running agent tells of itself: the names as Prometheus knows them, also those without a value yet.
fn metrics_there() -> BTreeSet<String> {
    let address = dead_url().unwrap().trim_start_matches("http://").to_owned();
    let config = format!(
        "data_dir = \"state\"\n[api]\naddress = \"{address}\"\n\
         [kubernetes]\nself_node_name = \"node-a\"\nkube_config_file = \"kubeconfig\"\n[sources.pods]\ntype = \"kubernetes_logs\"\nroot = \"pods\"\n\
         [transforms.clean]\ntype = \"redact\"\ninputs = [\"pods\"]\n\
         [sinks.store]\ntype = \"elasticsearch\"\ninputs = [\"clean\"]\nendpoints = [\"{}\"]\nindex = \"logs\"\n",
        dead_url().unwrap()
    );
    let site = Site::new(config).unwrap();
    // An API server that is not there: counts of metadata are shown where it is asked for.
    let kubeconfig = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": dead_url().unwrap()}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    });
    site.append("kubeconfig", kubeconfig.to_string()).unwrap();
    let _agent = site.start().unwrap();
    let get = || {
        let mut connection = TcpStream::connect(&address).ok()?;
        connection.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").ok()?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).ok()?;
        answer.ends_with("# EOF\n").then_some(answer)
    };
    let answer = until(get).expect("an answer");
    let families = answer.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let names = families.map(|(name, kind)| match kind {
        "counter" => format!("{name}_total"),
        "info" => format!("{name}_info"),
        _ => name.to_owned(),
    });
    names.collect()
}

#[test]
fn alerts_and_dashboard_know_no_metric_that_is_not_there() {
    let there = metrics_there();
    for path in ["packaging/helm/skidder/files/alerts.yaml", "packaging/helm/skidder/files/dashboard.json", "tests/cases/alerts.yaml"] {
        let used = metrics_in(&text(path));
        assert!(used.len() > 3, "{path}: {used:?}");
        let gone: Vec<_> = used.difference(&there).collect();
        assert!(gone.is_empty(), "{path} uses what /metrics does not show: {gone:?}\nthere are {there:#?}");
    }
    let dashboard: serde_json::Value = serde_json::from_str(&text("packaging/helm/skidder/files/dashboard.json")).unwrap();
    let ids: Vec<_> = dashboard["panels"].as_array().unwrap().iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "panels with the same id");
}

#[test]
fn the_configurations_that_come_with_it_are_valid() {
    let manifests = text("packaging/kubernetes/skidder.yaml");
    let (_, rest) = manifests.split_once("  skidder.toml: |\n").unwrap();
    let lines = rest.lines().take_while(|line| line.is_empty() || line.starts_with("    "));
    let of_the_manifests: String = lines.map(|line| line.strip_prefix("    ").unwrap_or_default().to_owned() + "\n").collect();
    for (name, config) in [("packaging/kubernetes/skidder.yaml", of_the_manifests), ("debian", text("packaging/debian/skidder.toml"))] {
        assert!(config.contains("require_redaction = true"), "{name}:\n{config}");
        let site = Site::new(&config).unwrap();
        let ended = Agent::run(site.root(), &["validate", "--offline", "-c", "pipeline.toml"]).unwrap();
        assert!(ended.status.success() && ended.stderr.is_empty(), "{name}: {ended}");
    }
}

#[test]
fn versions_are_the_same_everywhere() {
    let version = toml("Cargo.toml")["workspace"]["package"]["version"].as_str().unwrap().to_owned();
    let chart = text("packaging/helm/skidder/Chart.yaml");
    assert_eq!(after(&chart, "appVersion: "), version);
    let toolchain = toml("rust-toolchain.toml")["toolchain"]["channel"].as_str().unwrap().to_owned();
    let dockerfile = text("packaging/docker/Dockerfile");
    assert!(
        dockerfile.contains(&format!("ARG RUST_IMAGE=docker.io/library/rust:{toolchain}-slim-")),
        "rust-toolchain.toml says {toolchain}"
    );
    assert!(dockerfile.contains(&format!("RUSTUP_TOOLCHAIN={toolchain}\n")), "rust-toolchain.toml says {toolchain}");
}

/// The Dockerfile makes of the same files what `cargo xtask image` makes of them.
#[test]
fn the_dockerfile_and_the_archive_are_the_same_image() {
    let dockerfile = text("packaging/docker/Dockerfile");
    let last = dockerfile.rsplit_once("\nFROM ").unwrap().1;
    assert!(last.starts_with("scratch\n"), "{last}");
    let copied: Vec<_> = last.lines().filter(|line| line.starts_with("COPY") || line.starts_with("ADD")).collect();
    assert_eq!(copied, ["COPY --from=build /rootfs/ /"]);
    assert!(dockerfile.contains("packaging/docker/build.sh /rootfs release \"$TARGETARCH\""));
    let packer = text("tests/src/image.rs");
    for (in_the_dockerfile, in_the_packer) in [
        ("ENTRYPOINT [\"/usr/bin/skidder\"]", "pub const PROGRAM: &str = \"/usr/bin/skidder\""),
        ("CMD [\"run\"]", "\"Cmd\": [\"run\"]"),
        ("USER 0:0", "\"User\": \"0:0\""),
        ("ENV SKIDDER_CONFIG=/etc/skidder/skidder.toml", "\"SKIDDER_CONFIG=/etc/skidder/skidder.toml\""),
        ("EXPOSE 8686", "\"8686/tcp\""),
    ] {
        assert!(last.contains(in_the_dockerfile), "the Dockerfile has no {in_the_dockerfile}");
        assert!(packer.contains(in_the_packer), "image.rs has no {in_the_packer}");
    }
}

#[test]
fn the_debian_package_has_what_it_names() {
    let manifest = toml("agent/Cargo.toml");
    let deb = &manifest["package"]["metadata"]["deb"];
    let agent = workspace::root().join("agent");
    let string = |value: &toml::Value| value.as_str().unwrap().to_owned();
    let assets: Vec<[String; 3]> =
        deb["assets"].as_array().unwrap().iter().map(|asset| [0, 1, 2].map(|part| string(&asset[part]))).collect();
    for [source, ..] in assets.iter().filter(|[source, ..]| !source.starts_with("target/")) {
        assert!(agent.join(source).is_file(), "there is no {source}");
    }
    let installed: Vec<String> = assets
        .iter()
        .map(|[source, target, _]| {
            let name = if target.ends_with('/') { Path::new(source).file_name().unwrap().to_str().unwrap() } else { "" };
            format!("/{target}{name}")
        })
        .collect();
    for file in deb["conf-files"].as_array().unwrap() {
        assert!(installed.contains(&string(file)), "{file} is not among {installed:?}");
    }
    assert!(agent.join(string(&deb["license-file"][0])).is_file());
    let script = agent.join(string(&deb["maintainer-scripts"])).join("postrm");
    assert!(fs::read_to_string(&script).unwrap().contains("#DEBHELPER#"), "{}", script.display());
    // cargo-deb writes a postinst of its own, which makes the user by the file's name in the repository: the names are one.
    let [source, target, _] = assets.iter().find(|[_, target, _]| target.contains("sysusers.d")).unwrap();
    assert!(source.ends_with("/skidder.conf") && target == "usr/lib/sysusers.d/", "{source} {target}");

    // What the unit names is where the package puts it.
    let units = agent.join(string(&deb["systemd-units"]["unit-scripts"]));
    let unit = fs::read_to_string(units.join("skidder.service")).unwrap();
    let command: Vec<&str> = after(&unit, "ExecStart=").split(' ').collect();
    for path in [command[0], command[3], after(&unit, "EnvironmentFile=-"), after(&unit, "Documentation=file://")] {
        assert!(installed.iter().any(|file| file == path), "{path} is not among {installed:?}");
    }
    let user = after(&unit, "User=");
    assert!(text("packaging/systemd/sysusers.d/skidder.conf").contains(&format!("u {user} ")));
    assert_eq!(toml("packaging/debian/skidder.toml")["data_dir"].as_str(), Some("/var/lib/skidder"));
    assert_eq!(after(&unit, "StateDirectory="), "skidder");
}
