//! TLS towards brokers, as the sink's table has it.
//!
//! What it is made of is read for every new connection, so that certificates that were renewed are used without a restart.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use skidder_pipeline::problem::Problem;

use crate::SinkContext;
use crate::common::TlsConfig;

/// TLS as a table has it.
pub struct Tls {
    table: TlsConfig,
    context: SinkContext,
    /// What was made last, for when the files cannot be used since only one of two was replaced so far.
    last: Mutex<Arc<ClientConfig>>,
}

impl Tls {
    /// TLS by `table`; what is wrong with it or its files is added to `problems`.
    pub fn new(table: &TlsConfig, context: &SinkContext, problems: &mut Vec<Problem>) -> Option<Tls> {
        match (&table.crt_file, &table.key_file) {
            (Some(_), None) => problems.push(Problem::at("tls.crt_file", "a certificate needs its key").help("add `key_file`")),
            (None, Some(_)) => problems.push(Problem::at("tls.key_file", "a key needs its certificate").help("add `crt_file`")),
            _ => {}
        }
        match build(table, context) {
            Ok(config) => Some(Tls { table: table.clone(), context: context.clone(), last: Mutex::new(Arc::new(config)) }),
            Err((at, message)) => {
                problems.push(Problem::at(at, message));
                None
            }
        }
    }

    /// What to connect with now.
    pub fn current(&self) -> Arc<ClientConfig> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match build(&self.table, &self.context) {
            Ok(config) => *last = Arc::new(config),
            Err((_, problem)) => {
                let sink = &self.context.name;
                tracing::warn!(sink, problem, "certificates cannot be used; those from before stay in use");
            }
        }
        last.clone()
    }
}

/// Where in the table, and what.
type Wrong = (&'static str, String);

fn build(table: &TlsConfig, context: &SinkContext) -> Result<ClientConfig, Wrong> {
    let provider = Arc::new(ring::default_provider());
    let whole = |error: rustls::Error| ("tls", format!("TLS cannot be set up: {error}"));
    let verifier: Arc<dyn ServerCertVerifier> = if table.verify_certificate {
        let roots = Arc::new(roots(table, context)?);
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider.clone()).build();
        let verifier = verifier.map_err(|error| ("tls.ca_file", format!("no authority to trust: {error}")))?;
        if table.verify_hostname { verifier } else { Arc::new(Lenient { chain: Some(verifier), provider: provider.clone() }) }
    } else {
        Arc::new(Lenient { chain: None, provider: provider.clone() })
    };
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(whole)?;
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    match (&table.crt_file, &table.key_file) {
        (Some(crt), Some(key)) => {
            let certificates = certificates("tls.crt_file", &context.resolve(crt))?;
            let key = context.resolve(key);
            let key = PrivateKeyDer::from_pem_slice(&read("tls.key_file", &key)?)
                .map_err(|_| ("tls.key_file", format!("{} holds no key in PEM form", key.display())))?;
            builder
                .with_client_auth_cert(certificates, key)
                .map_err(|error| ("tls.crt_file", format!("certificate and key do not fit: {error}")))
        }
        _ => Ok(builder.with_no_client_auth()),
    }
}

fn roots(table: &TlsConfig, context: &SinkContext) -> Result<RootCertStore, Wrong> {
    let mut roots = RootCertStore::empty();
    match &table.ca_file {
        Some(path) => {
            for certificate in certificates("tls.ca_file", &context.resolve(path))? {
                roots.add(certificate).map_err(|error| ("tls.ca_file", format!("a certificate is no authority's: {error}")))?;
            }
        }
        None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
    }
    Ok(roots)
}

fn certificates(at: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Wrong> {
    let none = || (at, format!("{} holds no certificate in PEM form", path.display()));
    let pem = read(at, path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    certificates.ok().filter(|certificates| !certificates.is_empty()).ok_or_else(none)
}

fn read(at: &'static str, path: &Path) -> Result<Vec<u8>, Wrong> {
    std::fs::read(path).map_err(|error| (at, format!("{} cannot be read: {error}", path.display())))
}

/// Looks at less than a browser would: at the chain and not at the name, or at nothing.
#[derive(Debug)]
struct Lenient {
    /// What looks at the chain; none trusts every certificate.
    chain: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(chain) = &self.chain else { return Ok(ServerCertVerified::assertion()) };
        match chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // The name is looked at last, when all else holds.
            Err(rustls::Error::InvalidCertificate(CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. })) => {
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
