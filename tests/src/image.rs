//! The image, built without docker: `packaging/docker/build.sh` lays out its files, as it does in the Dockerfile, and this
//! packs them into an archive that `ctr images import`, `docker load`, `podman load` and `skopeo` take.
//!
//! The same files always give the same archive: nothing in it tells when or by whom it was made.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use crate::workspace;

/// The image may have this many bytes, unpacked: what a node pulls before it ships its first line.
pub const MAX_BYTES: u64 = 25_000_000;

/// The path of the program in the image.
pub const PROGRAM: &str = "/usr/bin/skidder";

/// An image that was built.
#[derive(Debug)]
pub struct Image {
    /// The directory with its files as a container sees them.
    pub rootfs: PathBuf,
    /// The archive.
    pub archive: PathBuf,
}

/// Builds the image `name` (`skidder:0.1.0`) of `skidder` as the cargo profile `profile` makes it, for this machine or `arch`
/// (`amd64`, `arm64`), below the directory that cargo builds into. A first build compiles everything for it: minutes.
///
/// # Errors
/// With what the compiler said.
pub fn build(name: &str, profile: &str, arch: Option<&str>) -> Result<Image, String> {
    let arch = arch.unwrap_or(if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" });
    let directory = workspace::target().join("image").join(format!("{profile}-{arch}"));
    fs::create_dir_all(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let image = Image { rootfs: directory.join("rootfs"), archive: directory.join("image.tar") };
    // Tests in several processes, and a person beside them, use the same directory.
    let lock = File::create(directory.join("lock")).and_then(|file| file.lock().map(|()| file)).map_err(|error| error.to_string())?;
    let output = workspace::cargo_environment(&mut Command::new("sh"))
        .arg(workspace::root().join("packaging/docker/build.sh"))
        .arg(&image.rootfs)
        .args([profile, arch])
        .env("TARGET_DIR", workspace::target())
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot run sh: {error}"))?;
    if !output.status.success() {
        return Err(format!("the image cannot be built:\n{}", String::from_utf8_lossy(&output.stderr)));
    }
    pack(&image, name, arch).map_err(|error| format!("the image cannot be packed: {error}"))?;
    drop(lock);
    Ok(image)
}

/// The files of a directory, the paths relative to it, sorted.
pub fn files(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut rest = vec![root.to_path_buf()];
    while let Some(directory) = rest.pop() {
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            if fs::symlink_metadata(&path)?.is_dir() {
                rest.push(path.clone());
            }
            found.extend(path.strip_prefix(root).map(Path::to_path_buf));
        }
    }
    found.sort();
    Ok(found)
}

/// The bytes of all files of a directory.
pub fn bytes(root: &Path) -> io::Result<u64> {
    let size = |path: PathBuf| fs::symlink_metadata(root.join(path)).map(|metadata| if metadata.is_file() { metadata.len() } else { 0 });
    files(root)?.into_iter().map(size).sum()
}

/// The crates that the program of an image is built of, each with its version, as the program itself says it to scanners: in the
/// section `.dep-v0`, JSON that is packed with zlib (github.com/rust-secure-code/cargo-auditable, PARSING.md).
///
/// # Errors
/// Where the program does not say it, or `objcopy` of Debian's binutils is not there.
pub fn crates(rootfs: &Path) -> Result<Vec<(String, String)>, String> {
    #[derive(serde::Deserialize)]
    struct Package {
        name: String,
        version: String,
        /// `build` where it is only there to build the others.
        kind: Option<String>,
    }
    #[derive(serde::Deserialize)]
    struct Listed {
        packages: Vec<Package>,
    }
    let place = tempfile::tempdir().map_err(|error| error.to_string())?;
    let section = place.path().join("section");
    let mut command = Command::new("objcopy");
    command.arg("--dump-section").arg(format!(".dep-v0={}", section.display()));
    command.arg(rootfs.join(PROGRAM.trim_start_matches('/'))).arg("/dev/null");
    let output = command.output().map_err(|error| format!("cannot run objcopy: {error}"))?;
    let packed = fs::read(&section).map_err(|_| format!("no section .dep-v0: {}", String::from_utf8_lossy(&output.stderr)))?;
    let listed: Listed = serde_json::from_reader(ZlibDecoder::new(&packed[..])).map_err(|error| error.to_string())?;
    let runs = listed.packages.into_iter().filter(|package| package.kind.as_deref() != Some("build"));
    Ok(runs.map(|package| (package.name, package.version)).collect())
}

/// Writes the archive: an OCI image layout (image-spec v1.1) of one layer, and beside it the `manifest.json` that `docker load`
/// wanted before it knew that.
fn pack(image: &Image, name: &str, arch: &str) -> io::Result<()> {
    let layer = layer(&image.rootfs)?;
    let mut zipped = GzEncoder::new(Vec::new(), Compression::best());
    zipped.write_all(&layer)?;
    let zipped = zipped.finish()?;
    let config = json!({
        "architecture": arch, "os": "linux", "created": "1970-01-01T00:00:00Z",
        "config": {
            "User": "0:0", "WorkingDir": "/", "Entrypoint": [PROGRAM], "Cmd": ["run"],
            "Env": ["PATH=/usr/bin", "SKIDDER_CONFIG=/etc/skidder/skidder.toml"], "ExposedPorts": {"8686/tcp": {}},
        },
        "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
    })
    .to_string();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", config.as_bytes()),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar+gzip", &zipped)],
    })
    .to_string();
    let mut of_the_index = descriptor("application/vnd.oci.image.manifest.v1+json", manifest.as_bytes());
    of_the_index["platform"] = json!({"architecture": arch, "os": "linux"});
    let tag = name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
    of_the_index["annotations"] = json!({"io.containerd.image.name": name, "org.opencontainers.image.ref.name": tag});
    let index =
        json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [of_the_index]}).to_string();
    let of_docker = json!([{"Config": blob(config.as_bytes()), "RepoTags": [name], "Layers": [blob(&zipped)]}]).to_string();

    let mut archive = Builder::new(File::create(&image.archive)?);
    let files: [(&str, &[u8]); 6] = [
        ("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#),
        ("index.json", index.as_bytes()),
        ("manifest.json", of_docker.as_bytes()),
        (&blob(manifest.as_bytes()), manifest.as_bytes()),
        (&blob(config.as_bytes()), config.as_bytes()),
        (&blob(&zipped), &zipped),
    ];
    for (path, bytes) in files {
        archive.append_data(&mut header(EntryType::Regular, 0o644, bytes.len()), path, bytes)?;
    }
    archive.into_inner()?.sync_all()
}

/// The files below `root` as root's own, in the order of their names.
fn layer(root: &Path) -> io::Result<Vec<u8>> {
    let mut layer = Builder::new(Vec::new());
    for path in files(root)? {
        let from = root.join(&path);
        let metadata = fs::symlink_metadata(&from)?;
        let mode = metadata.permissions().mode() & 0o7777;
        if metadata.is_dir() {
            layer.append_data(&mut header(EntryType::Directory, mode, 0), &path, io::empty())?;
        } else if metadata.is_file() {
            let bytes = fs::read(&from)?;
            layer.append_data(&mut header(EntryType::Regular, mode, bytes.len()), &path, &bytes[..])?;
        } else {
            return Err(io::Error::other(format!("{} is neither a file nor a directory", path.display())));
        }
    }
    layer.into_inner()
}

fn header(kind: EntryType, mode: u32, bytes: usize) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(bytes as u64);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": digest(bytes), "size": bytes.len()})
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(bytes))
}

fn blob(bytes: &[u8]) -> String {
    format!("blobs/sha256/{}", hex(bytes))
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
