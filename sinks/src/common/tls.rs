//! TLS towards the store.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use skidder_pipeline::problem::Problem;

use crate::SinkContext;

/// TLS towards the store.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// A PEM file with the certificates of the authorities to trust. Where it is given, the system's are not trusted.
    pub ca_file: Option<PathBuf>,
    /// A PEM file with this client's certificate, where the store wants one; with `key_file`.
    pub crt_file: Option<PathBuf>,
    /// A PEM file with the key of `crt_file`.
    pub key_file: Option<PathBuf>,
    /// Whether the store's certificate is checked. `false` lets anyone on the way read and change everything.
    #[serde(default = "yes")]
    pub verify_certificate: bool,
    /// Whether the store's certificate must be for the name in the endpoint.
    #[serde(default = "yes")]
    pub verify_hostname: bool,
}

fn yes() -> bool {
    true
}

impl Default for TlsConfig {
    fn default() -> Self {
        TlsConfig { ca_file: None, crt_file: None, key_file: None, verify_certificate: true, verify_hostname: true }
    }
}

impl TlsConfig {
    /// Applies the table to `client`, reading its files.
    pub(crate) fn apply(
        &self,
        mut client: reqwest::ClientBuilder,
        context: &SinkContext,
        problems: &mut Vec<Problem>,
    ) -> reqwest::ClientBuilder {
        let mut read = |at: &str, path: &Option<PathBuf>| read(at, &context.resolve(path.as_ref()?), problems);
        let ca = read("tls.ca_file", &self.ca_file);
        let pair = (read("tls.crt_file", &self.crt_file), read("tls.key_file", &self.key_file));
        if let Some(pem) = ca {
            match reqwest::Certificate::from_pem_bundle(&pem) {
                Ok(certificates) if !certificates.is_empty() => client = client.tls_certs_only(certificates),
                _ => problems.push(Problem::at("tls.ca_file", "the file holds no certificate in PEM form")),
            }
        }
        match (&self.crt_file, &self.key_file) {
            (Some(_), None) => problems.push(Problem::at("tls.crt_file", "a certificate needs its key").help("add `key_file`")),
            (None, Some(_)) => problems.push(Problem::at("tls.key_file", "a key needs its certificate").help("add `crt_file`")),
            _ => {}
        }
        if let (Some(mut certificate), Some(key)) = pair {
            certificate.push(b'\n');
            certificate.extend_from_slice(&key);
            match reqwest::Identity::from_pem(&certificate) {
                Ok(identity) => client = client.identity(identity),
                Err(_) => problems.push(Problem::at("tls.crt_file", "certificate and key are not both in PEM form")),
            }
        }
        if !self.verify_certificate {
            client = client.tls_danger_accept_invalid_certs(true);
        } else if !self.verify_hostname {
            client = client.tls_danger_accept_invalid_hostnames(true);
        }
        client
    }
}

fn read(at: &str, path: &Path, problems: &mut Vec<Problem>) -> Option<Vec<u8>> {
    match std::fs::read(path) {
        Ok(pem) => Some(pem),
        Err(e) => {
            problems.push(Problem::at(at, format!("{} cannot be read: {e}", path.display())));
            None
        }
    }
}
