#![allow(clippy::unwrap_used, clippy::panic)]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::testing::{frame, frames_with};

type Answer = hyper::Response<Full<Bytes>>;
type Seen = Arc<Mutex<Vec<(http::request::Parts, Bytes)>>>;

/// A server that keeps what it is asked and answers with what `answer` gives for the number of the request.
async fn server(answer: impl Fn(usize) -> Answer + Send + Sync + 'static) -> (SocketAddr, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Seen::default();
    let (kept, answer) = (seen.clone(), Arc::new(answer));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (kept, answer) = (kept.clone(), answer.clone());
            let service = service_fn(move |request: hyper::Request<Incoming>| {
                let (kept, answer) = (kept.clone(), answer.clone());
                async move {
                    let (head, body) = request.into_parts();
                    let body = body.collect().await?.to_bytes();
                    let mut kept = kept.lock().unwrap();
                    kept.push((head, body));
                    Ok::<_, hyper::Error>(answer(kept.len()))
                }
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    (address, seen)
}

fn answer(status: u16, body: impl Into<Bytes>) -> Answer {
    hyper::Response::builder().status(status).body(Full::new(body.into())).unwrap()
}

fn to_index(frame: &Frame) -> HttpRequest {
    let mut headers = HeaderMap::new();
    headers.insert("x-test", HeaderValue::from_static("yes"));
    HttpRequest { path_and_query: format!("/{}/_bulk?x=1", frame.header().destination), headers }
}

type ToIndex = fn(&Frame) -> HttpRequest;

fn transport(endpoints: &[String], auth: &str) -> Result<HttpTransport<ToIndex>, Vec<Problem>> {
    let auth: Option<AuthConfig> = serde_json::from_str(auth).unwrap();
    let options = HttpOptions { endpoints, auth: auth.as_ref(), tls: &TlsConfig::default(), context: &SinkContext::default() };
    let mut problems = Vec::new();
    HttpTransport::new(&options, to_index as ToIndex, &mut problems).ok_or(problems)
}

#[tokio::test]
async fn a_frame_is_one_post_over_one_connection() {
    let (address, seen) = server(|_| answer(201, "stored")).await;
    let transport = transport(&[format!("http://{address}/prefix/")], "null").unwrap();
    let gzip = frames_with(Compression::Gzip, |out| out.write("logs", b"body\n", 1)).remove(0);
    for _ in 0..2 {
        let response = transport.send(&gzip).await.unwrap();
        assert_eq!((response.status, &response.body[..], response.retry_after), (201, &b"stored"[..], None));
    }
    transport.send(&frame("plain", "body\n", 1)).await.unwrap();
    let seen = seen.lock().unwrap();
    let (head, body) = &seen[0];
    assert_eq!((head.method.as_str(), head.uri.to_string().as_str()), ("POST", "/prefix/logs/_bulk?x=1"));
    assert_eq!([&head.headers["x-test"], &head.headers["content-encoding"]], ["yes", "gzip"]);
    assert_eq!(body, gzip.body(), "as it is stored");
    assert!(!head.headers.contains_key("authorization"));
    assert!(!seen[2].0.headers.contains_key("content-encoding"));
}

#[tokio::test]
async fn credentials_go_in_the_header_and_nowhere_else() {
    for (auth, endpoint_user, expected) in [
        (r#"{"strategy":"basic","user":"u","password":"p"}"#, "", "Basic dTpw"),
        (r#"{"strategy":"bearer","token":"t"}"#, "", "Bearer t"),
        (r#"{"strategy":"api_key","token":"k"}"#, "", "ApiKey k"),
        ("null", "u:p%40@", "Basic dTpwQA=="),
        (r#"{"strategy":"bearer","token":"t"}"#, "u:p@", "Bearer t"),
    ] {
        let (address, seen) = server(|_| answer(200, "")).await;
        let transport = transport(&[format!("http://{endpoint_user}{address}")], auth).unwrap();
        transport.send(&frame("i", "b\n", 1)).await.unwrap();
        assert_eq!(seen.lock().unwrap()[0].0.headers["authorization"], expected);
        assert!(!transport.client.endpoints.next(Instant::now()).endpoint.url.contains('@'));
    }
}

#[tokio::test]
async fn what_the_store_asks_to_wait_is_read_in_both_forms() {
    let table = [
        ("7", "", Some(7)),
        ("Fri, 02 Oct 2026 08:15:45 GMT", "Fri, 02 Oct 2026 08:15:30 GMT", Some(15)),
        ("Fri, 02 Oct 2026 08:15:30 GMT", "Fri, 02 Oct 2026 08:15:45 GMT", Some(0)),
        ("Fri, 02 Oct 2026 08:15:30 GMT", "", None),
        ("soon", "Fri, 02 Oct 2026 08:15:45 GMT", None),
        ("-1", "", None),
    ];
    for (after, date, expected) in table {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_static(after));
        if !date.is_empty() {
            headers.insert(DATE, HeaderValue::from_static(date));
        }
        assert_eq!(retry_after(&headers).map(|wait| wait.as_secs()), expected, "{after}");
    }
    let busy = |_| hyper::Response::builder().status(429).header("retry-after", "3").body(Full::default()).unwrap();
    let (address, _) = server(busy).await;
    let response = transport(&[format!("http://{address}")], "null").unwrap().send(&frame("i", "b\n", 1)).await.unwrap();
    assert_eq!((response.status, response.retry_after), (429, Some(Duration::from_secs(3))));
}

#[tokio::test]
async fn a_long_answer_is_cut() {
    let (address, _) = server(|_| answer(200, vec![b'x'; MAX_RESPONSE_BYTES + 100_000])).await;
    let response = transport(&[format!("http://{address}")], "null").unwrap().send(&frame("i", "b\n", 1)).await.unwrap();
    assert_eq!(response.body.len(), MAX_RESPONSE_BYTES);
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let to = |_| hyper::Response::builder().status(307).header("location", "http://127.0.0.1:1/").body(Full::default()).unwrap();
    let (address, seen) = server(to).await;
    let response = transport(&[format!("http://{address}")], "null").unwrap().send(&frame("i", "b\n", 1)).await.unwrap();
    assert_eq!((response.status, seen.lock().unwrap().len()), (307, 1));
}

/// An address where a connection is taken and closed after `say`.
async fn rude(say: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(say).await;
        }
    });
    address
}

#[tokio::test]
async fn no_answer_or_half_of_one_is_an_error_that_does_not_say_where() {
    let refused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let half = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{\"errors\":false";
    for address in [refused, rude(b"").await, rude(b"HTTP/1.1 20").await, rude(half).await, rude(b"nonsense\r\n\r\n").await] {
        let transport = transport(&[format!("http://user:secret@{address}/path")], "null").unwrap();
        let error = transport.send(&frame("i", "b\n", 1)).await.unwrap_err().to_string();
        for hidden in ["secret", "user", "127.0.0.1", "path"] {
            assert!(!error.contains(hidden), "{error}");
        }
    }
}

#[tokio::test]
async fn an_endpoint_that_fails_is_left_alone_and_the_others_are_asked() {
    let (good, seen_good) = server(|_| answer(200, "")).await;
    let (bad, seen_bad) = server(|_| answer(503, "")).await;
    let transport = transport(&[format!("http://{bad}"), format!("http://{good}")], "null").unwrap();
    for _ in 0..40 {
        transport.send(&frame("i", "b\n", 1)).await.unwrap();
    }
    let (bad, good) = (seen_bad.lock().unwrap().len(), seen_good.lock().unwrap().len());
    assert!(bad + good == 40 && (1..4).contains(&bad), "{bad} of 40 went to one that fails");
}

#[test]
fn every_mistake_is_found_and_no_password_shown() {
    let problems = |endpoints: &[&str], auth: &str| {
        let endpoints: Vec<String> = endpoints.iter().map(|e| (*e).to_owned()).collect();
        let problems = transport(&endpoints, auth).err().unwrap_or_default();
        assert!(!format!("{problems:?}").contains("secret"), "{problems:?}");
        problems.iter().map(|p| p.path.join(".")).collect::<Vec<_>>()
    };
    assert_eq!(problems(&[], "null"), ["endpoints"]);
    assert_eq!(
        problems(&["es:9200", "ftp://user:secret@es", "https://es:99999", "https://es?x=secret", "http://es"], "null"),
        ["endpoints.0", "endpoints.1", "endpoints.2", "endpoints.3"]
    );
    assert_eq!(problems(&["http://user:secret@es:9200"], "null"), ["endpoints.0"], "in the open");
    assert_eq!(problems(&["http://localhost:9200", "http://[::1]:1"], r#"{"strategy":"bearer","token":"t"}"#), [""; 0]);
    assert_eq!(problems(&["http://es"], r#"{"strategy":"bearer","token":"t","allow_plain_http":true}"#), [""; 0]);
    assert_eq!(problems(&["http://es"], r#"{"strategy":"bearer"}"#), ["auth.strategy"]);
}

#[test]
fn tls_files_are_read_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let junk = "junk.pem";
    std::fs::write(dir.path().join(junk), "no certificate").unwrap();
    let problems = |json: &str| {
        let tls: TlsConfig = serde_json::from_str(json).unwrap();
        let options = HttpOptions {
            endpoints: &["https://es".to_owned()],
            auth: None,
            tls: &tls,
            context: &SinkContext { base_dir: Some(dir.path().to_owned()), ..SinkContext::default() },
        };
        let mut problems = Vec::new();
        drop(HttpTransport::new(&options, to_index as ToIndex, &mut problems));
        problems.iter().map(|p| p.path.join(".")).collect::<Vec<_>>()
    };
    assert_eq!(problems(r#"{"ca_file":"/gone.pem","crt_file":"/gone.crt"}"#), ["tls.ca_file", "tls.crt_file", "tls.crt_file"]);
    assert_eq!(problems(&format!(r#"{{"ca_file":{junk:?}}}"#)), ["tls.ca_file"]);
    assert_eq!(problems(&format!(r#"{{"crt_file":{junk:?},"key_file":{junk:?}}}"#)), ["tls.crt_file"]);
}
