//! TLS against a real server: own authorities, client certificates, and both renewed while it runs.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::testing::frame;

/// An authority, a server of 127.0.0.1 and a client, all of it as PEM.
struct House {
    ca: String,
    server: (String, String),
    client: (String, String),
}

impl House {
    fn new() -> House {
        House::of("127.0.0.1")
    }

    /// One whose server has a certificate for this name.
    fn of(server: &str) -> House {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        let signed = |name: &str| {
            let key = KeyPair::generate().unwrap();
            let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
            (certificate.pem(), key.serialize_pem())
        };
        House { ca, server: signed(server), client: signed("client") }
    }

    /// How its server speaks: to clients of the house alone.
    fn config(&self) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let certificate = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate(&self.ca)).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
        let key = PrivateKeyDer::from_pem_slice(self.server.1.as_bytes()).unwrap();
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        Arc::new(config.with_client_cert_verifier(verifier).with_single_cert(vec![certificate(&self.server.0)], key).unwrap())
    }

    fn write(&self, dir: &Path) {
        std::fs::write(dir.join("ca.pem"), &self.ca).unwrap();
        std::fs::write(dir.join("client.crt"), &self.client.0).unwrap();
        std::fs::write(dir.join("client.key"), &self.client.1).unwrap();
    }
}

/// A server that takes one request a connection, and speaks as `config` says at the time.
async fn server(config: Arc<Mutex<Arc<ServerConfig>>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = TlsAcceptor::from(config.lock().unwrap().clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = service_fn(|request: hyper::Request<hyper::body::Incoming>| async move {
                    request.into_body().collect().await?;
                    Ok::<_, hyper::Error>(hyper::Response::new(Full::new(Bytes::from_static(b"stored"))))
                });
                let _ = hyper::server::conn::http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    address
}

fn transport(dir: &Path, address: SocketAddr, tls: &str) -> HttpTransport<fn(&Frame) -> HttpRequest> {
    let tls: TlsConfig = serde_json::from_str(tls).unwrap();
    let context = SinkContext { base_dir: Some(dir.to_owned()), ..SinkContext::default() };
    let endpoints = [format!("https://{address}")];
    let options = HttpOptions { endpoints: &endpoints, auth: None, tls: &tls, context: &context };
    let mut problems = Vec::new();
    let request: fn(&Frame) -> HttpRequest = |_| HttpRequest { path_and_query: "/".to_owned(), headers: HeaderMap::new() };
    let transport = HttpTransport::new(&options, request, &mut problems);
    assert_eq!(problems.iter().map(|problem| &problem.message).collect::<Vec<_>>(), Vec::<&String>::new());
    transport.unwrap()
}

const ALL: &str = r#"{"ca_file":"ca.pem","crt_file":"client.crt","key_file":"client.key"}"#;

#[tokio::test]
async fn a_client_certificate_opens_the_door_and_none_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::new();
    house.write(dir.path());
    let address = server(Arc::new(Mutex::new(house.config()))).await;
    let frame = frame("i", "b\n", 1);
    let response = transport(dir.path(), address, ALL).send(&frame).await.unwrap();
    assert_eq!((response.status, &response.body[..]), (200, &b"stored"[..]));
    assert!(transport(dir.path(), address, r#"{"ca_file":"ca.pem"}"#).send(&frame).await.is_err(), "no certificate of a client");
    std::fs::write(dir.path().join("other.pem"), House::new().ca).unwrap();
    let untrusting = transport(dir.path(), address, r#"{"ca_file":"other.pem","crt_file":"client.crt","key_file":"client.key"}"#);
    assert!(untrusting.send(&frame).await.is_err(), "another authority than that of the server");
    let careless = r#"{"crt_file":"client.crt","key_file":"client.key","verify_certificate":false}"#;
    assert!(transport(dir.path(), address, careless).send(&frame).await.is_ok());
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused_unless_names_are_not_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::of("elsewhere.example");
    house.write(dir.path());
    let address = server(Arc::new(Mutex::new(house.config()))).await;
    let frame = frame("i", "b\n", 1);
    assert!(transport(dir.path(), address, ALL).send(&frame).await.is_err());
    let any_name = ALL.replace('}', r#","verify_hostname":false}"#);
    assert!(transport(dir.path(), address, &any_name).send(&frame).await.is_ok());
    // The authority still counts.
    std::fs::write(dir.path().join("ca.pem"), House::new().ca).unwrap();
    assert!(transport(dir.path(), address, &any_name).send(&frame).await.is_err());
}

#[tokio::test]
async fn certificates_that_are_renewed_are_used_without_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (House::new(), House::new());
    old.write(dir.path());
    let config = Arc::new(Mutex::new(old.config()));
    let address = server(config.clone()).await;
    let transport = transport(dir.path(), address, ALL);
    let frame = frame("i", "b\n", 1);
    assert!(transport.send(&frame).await.is_ok());

    *config.lock().unwrap() = new.config();
    assert!(transport.send(&frame).await.is_err());
    // One of two files: nothing that could be used, so what was there stays.
    std::fs::write(dir.path().join("client.crt"), &new.client.0).unwrap();
    *config.lock().unwrap() = old.config();
    assert!(transport.send(&frame).await.is_ok(), "half of a renewal breaks nothing");
    std::fs::write(dir.path().join("ca.pem"), "not yet written").unwrap();
    assert!(transport.send(&frame).await.is_ok());

    new.write(dir.path());
    *config.lock().unwrap() = new.config();
    assert!(transport.send(&frame).await.is_ok());
}
