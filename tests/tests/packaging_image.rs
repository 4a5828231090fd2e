//! The image: small, with one program and no shell, and that program runs where there is nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use skidder_tests::agent::{Agent, DEADLINE, command_of};
use skidder_tests::image::{self, Image, MAX_BYTES, PROGRAM};
use skidder_tests::store::{Keep, Store};
use skidder_tests::workspace;

/// Nearly as fast as the release build and larger, so what holds for it holds for that one; built in a third of the time.
/// `SKIDDER_IMAGE_PROFILE=release` looks at that one itself.
const PROFILE: &str = "quick";

fn profile() -> String {
    std::env::var("SKIDDER_IMAGE_PROFILE").unwrap_or_else(|_| PROFILE.to_owned())
}

fn built() -> Image {
    image::build("localhost/skidder:test", &profile(), None).unwrap()
}

/// The program of an image, in that image: `chroot`, which wants root, or a user namespace.
fn inside(root: &Path, arguments: &[&str]) -> Command {
    let mut command = if rustix::process::geteuid().is_root() {
        command_of(Path::new("chroot"), root)
    } else {
        let mut command = command_of(Path::new("unshare"), root);
        command.args(["--map-root-user", "--root"]);
        command
    };
    command.arg(root).arg(PROGRAM).args(arguments);
    command
}

#[test]
fn the_image_is_small_and_has_one_program() {
    let image = built();
    let mut bytes = 0;
    let mut programs = Vec::new();
    for path in image::files(&image.rootfs).unwrap() {
        let at = image.rootfs.join(&path);
        let metadata = fs::symlink_metadata(&at).unwrap();
        assert!(!metadata.is_symlink(), "{} is a link", path.display());
        if !metadata.is_file() {
            continue;
        }
        bytes += metadata.len();
        let content = fs::read(&at).unwrap();
        let can_run = metadata.permissions().mode() & 0o111 != 0 || content.starts_with(b"\x7fELF") || content.starts_with(b"#!");
        if can_run {
            programs.push(format!("/{}", path.display()));
        }
    }
    assert_eq!(programs, [PROGRAM], "what can be run");
    // What is quickly built is larger by a fifth or more than the release build that users get.
    let most = if profile() == "release" { MAX_BYTES } else { MAX_BYTES / 4 * 5 };
    assert!(bytes < most, "{bytes} bytes");
    let archive = fs::metadata(&image.archive).unwrap().len();
    println!("image ({}): {:.1} MB, {:.1} MB as an archive", profile(), bytes as f64 / 1e6, archive as f64 / 1e6);
    let roots = fs::read_to_string(image.rootfs.join("etc/ssl/certs/ca-certificates.crt")).unwrap();
    assert!(roots.matches("BEGIN CERTIFICATE").count() > 100, "the authorities that the web trusts");
}

/// The program is one static file without a package manager's lists: it says itself what a scanner would look for.
#[test]
fn scanners_can_tell_what_is_in_it() {
    let image = built();
    let root = workspace::root();
    let toml = |path: &str| fs::read_to_string(root.join(path)).unwrap().parse::<toml::Table>().unwrap();
    let locked: BTreeSet<(String, String)> = toml("Cargo.lock")["package"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| ["name", "version"].map(|key| package[key].as_str().unwrap().to_owned()).into())
        .collect();
    let listed: BTreeSet<(String, String)> = image::crates(&image.rootfs).unwrap().into_iter().collect();
    let unknown: Vec<_> = listed.difference(&locked).collect();
    assert!(unknown.is_empty(), "in the program and not in Cargo.lock: {unknown:?}");
    let has = |name: &str| listed.iter().any(|(listed, _)| listed == name);
    for manifest in ["agent", "pipeline", "sinks", "transforms"] {
        let manifest = toml(&format!("{manifest}/Cargo.toml"));
        let missing: Vec<_> = manifest["dependencies"].as_table().unwrap().keys().filter(|name| !has(name)).collect();
        assert!(missing.is_empty(), "not in the list: {missing:?}");
    }
    assert!(has("zlib-rs") && has("rustls-webpki"), "those that others bring along");
    assert!(!has("proptest") && !has("skidder-tests"), "what only tests need");

    // And what is Debian's in it.
    let text = |path: &str| fs::read_to_string(image.rootfs.join(path)).unwrap();
    assert_eq!(text("etc/os-release"), fs::read_to_string("/etc/os-release").unwrap());
    for (package, of) in [("libc6", "libc6-dev"), ("ca-certificates", "ca-certificates")] {
        let output = Command::new("dpkg-query").args(["--showformat=${Version}", "--show", of]).output().unwrap();
        let version = String::from_utf8(output.stdout).unwrap();
        let said = text(&format!("var/lib/dpkg/status.d/{package}"));
        assert!(said.starts_with(&format!("Package: {package}\n")) && said.contains(&format!("\nVersion: {version}\n")), "{said}");
    }
}

#[test]
fn the_archive_is_whole() {
    let image = built();
    let text = |name: &str| {
        let mut archive = tar::Archive::new(fs::File::open(&image.archive).unwrap());
        let mut entry = archive.entries().unwrap().map(Result::unwrap).find(|entry| entry.path().unwrap() == Path::new(name)).expect(name);
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
        bytes
    };
    let json = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).unwrap();
    let blob = |descriptor: &serde_json::Value| text(&format!("blobs/{}", descriptor["digest"].as_str().unwrap().replace(':', "/")));
    let index = json(&text("index.json"));
    assert_eq!(index["manifests"][0]["annotations"]["io.containerd.image.name"], "localhost/skidder:test");
    let manifest = json(&blob(&index["manifests"][0]));
    let config = json(&blob(&manifest["config"]));
    assert_eq!(config["config"]["Entrypoint"][0], PROGRAM);
    let layer = blob(&manifest["layers"][0]);
    let mut unpacked = tar::Archive::new(flate2::read::GzDecoder::new(&layer[..]));
    let names: Vec<_> = unpacked.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().into_owned()).collect();
    assert_eq!(names, image::files(&image.rootfs).unwrap());
    assert_eq!(json(&text("manifest.json"))[0]["RepoTags"][0], "localhost/skidder:test");
}

#[test]
fn the_program_runs_alone_and_finds_hosts_by_name() {
    let image = built();
    let version = Agent::spawn(inside(&image.rootfs, &["--version"])).unwrap().wait(DEADLINE).unwrap().expect_success().unwrap();
    assert_eq!(String::from_utf8_lossy(&version.stdout), format!("skidder {}\n", env!("CARGO_PKG_VERSION")));

    // As a container would be: the image's files, with the resolver's configuration and ours put in by whoever runs it.
    let container = tempfile::tempdir().unwrap();
    let root = container.path();
    workspace::copy(&image.rootfs, root).unwrap();
    let store = Store::start(Keep::Documents).unwrap();
    // glibc asks on port 53 and no other.
    let names = UdpSocket::bind("127.0.0.153:53").expect("port 53 of 127.0.0.153: this test wants to be root");
    names.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    std::thread::spawn(move || answer(&names));
    fs::write(root.join("etc/resolv.conf"), "nameserver 127.0.0.153\n").unwrap();
    let port = store.url().rsplit_once(':').unwrap().1.to_owned();
    let config = format!(
        "data_dir = \"/var/lib/skidder\"\n[sources.app]\ntype = \"file\"\ninclude = [\"/var/log/app.log\"]\n\
         [sinks.store]\ntype = \"elasticsearch\"\ninputs = [\"app\"]\nendpoints = [\"http://store.example:{port}\"]\nindex = \"logs\"\n"
    );
    fs::write(root.join("etc/skidder/skidder.toml"), config).unwrap();
    fs::write(root.join("var/log/app.log"), "one\ntwo\n").unwrap();
    let run = inside(root, &["run", "--once", "--timeout", "60", "-c", "/etc/skidder/skidder.toml"]);
    let ended = Agent::spawn(run).unwrap().wait(DEADLINE).unwrap().expect_success().unwrap();
    assert_eq!(store.counts().stored, 2, "{ended}");
}

/// Answers every question for an IPv4 address with 127.0.0.1, every other one with nothing (RFC 1035, 4.1).
fn answer(socket: &UdpSocket) {
    let mut question = [0; 512];
    while let Ok((length, from)) = socket.recv_from(&mut question) {
        let mut message = question[..length].to_vec();
        // One question: its name, then type and class; what may follow (EDNS) is left out of the answer.
        let name = message[12..].iter().position(|byte| *byte == 0).unwrap();
        let end = 12 + name + 1 + 4;
        message.truncate(end);
        let wants_address = message[end - 4..end - 2] == [0, 1];
        message[2..4].copy_from_slice(&[0x81, 0x80]);
        message[6..12].copy_from_slice(&[0, u8::from(wants_address), 0, 0, 0, 0]);
        if wants_address {
            message.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
        }
        socket.send_to(&message, from).unwrap();
    }
}
