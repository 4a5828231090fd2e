//! The client, made anew when the certificates that it was made of have changed.

use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::Version;
use skidder_pipeline::problem::Problem;
use tokio::time::Instant;

use super::{CONNECT_TIMEOUT, innermost};
use crate::SinkContext;
use crate::common::TlsConfig;

/// How often the files are looked at. Certificates are renewed long before they end.
const LOOK_EVERY: Duration = if cfg!(test) { Duration::ZERO } else { Duration::from_secs(10) };

/// The client of a sink, over TLS as its table says.
pub(super) struct Clients {
    tls: TlsConfig,
    context: SinkContext,
    way: Way,
    current: Mutex<Current>,
}

/// How endpoints are spoken to.
#[derive(Clone, Copy)]
pub(super) struct Way {
    /// Whether to none over TLS.
    pub plain: bool,
    /// HTTP/1.1, or HTTP/2 alone.
    pub version: Version,
}

struct Current {
    client: reqwest::Client,
    /// What the files were when it was made, or last tried to.
    files: Vec<File>,
    looked_at: Instant,
}

/// A file as it was: device, inode, size, time of change. `None` where it cannot be looked at.
type File = Option<(u64, u64, u64, i64, i64)>;

impl Clients {
    pub fn new(tls: &TlsConfig, context: &SinkContext, way: Way, problems: &mut Vec<Problem>) -> Option<Clients> {
        // Before they are read: what changes meanwhile is read again.
        let files = files(tls, context);
        let client = build(tls, context, way, problems)?;
        let current = Mutex::new(Current { client, files, looked_at: Instant::now() });
        Some(Clients { tls: tls.clone(), context: context.clone(), way, current })
    }

    /// The client to send with. Files that cannot be used, since only one of two was replaced so far, leave the one before.
    pub fn current(&self) -> reqwest::Client {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if !current.files.is_empty() && current.looked_at.elapsed() >= LOOK_EVERY {
            current.looked_at = Instant::now();
            let files = files(&self.tls, &self.context);
            if files != current.files {
                current.files = files;
                self.renew(&mut current);
            }
        }
        current.client.clone()
    }

    fn renew(&self, current: &mut Current) {
        let sink = &self.context.name;
        let mut problems = Vec::new();
        match build(&self.tls, &self.context, self.way, &mut problems).filter(|_| problems.is_empty()) {
            Some(client) => {
                current.client = client;
                tracing::info!(sink, "certificates have changed and are used from now on");
            }
            None => {
                let problem = problems.first().map_or("", |problem| problem.message.as_str());
                tracing::warn!(sink, problem, "certificates have changed and cannot be used; those from before stay in use");
            }
        }
    }
}

fn build(tls: &TlsConfig, context: &SinkContext, way: Way, problems: &mut Vec<Problem>) -> Option<reqwest::Client> {
    // An error says that there is one already: another sink's, and the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut client = reqwest::Client::builder()
        .user_agent(concat!("skidder/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        // A redirect would carry credentials and data to where the configuration does not say.
        .redirect(reqwest::redirect::Policy::none())
        // Trying again is the delivery's.
        .retry(reqwest::retry::never());
    if way.plain {
        // No certificates are needed, and an image without any must do.
        client = client.tls_certs_only([]);
    }
    client = if way.version == Version::HTTP_2 { client.http2_prior_knowledge() } else { client.http1_only() };
    client = tls.apply(client, context, problems);
    client.build().inspect_err(|e| problems.push(Problem::at("tls", format!("TLS cannot be set up: {}", innermost(e))))).ok()
}

fn files(tls: &TlsConfig, context: &SinkContext) -> Vec<File> {
    let paths = [&tls.ca_file, &tls.crt_file, &tls.key_file].into_iter().flatten();
    let look = |path| std::fs::metadata(context.resolve(path)).ok();
    paths.map(|path| look(path).map(|file| (file.dev(), file.ino(), file.size(), file.mtime(), file.mtime_nsec()))).collect()
}
