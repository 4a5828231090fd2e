//! Amazon OpenSearch Service takes what the agent signs: a service of our own checks each request's signature by its own
//! computation, as it came over the wire, and hands on what is right.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::{Arc, Mutex};

use hyper::Response;
use hyper::http::request::Parts;
use skidder_tests::client::request;
use skidder_tests::real::{fails, file_site};
use skidder_tests::sigv4::{Scope, Signed};
use skidder_tests::site::Site;
use skidder_tests::store::{Behind, Door, Keep, Store};

const SCOPE: Scope<'_> =
    Scope { id: "AKIDEXAMPLE", secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", region: "eu-central-1", service: "es" };

/// A service before a store that wants signatures; below a path, as behind a gateway.
struct Service {
    store: String,
    /// What it said of each request, and where it went.
    verdicts: Mutex<Vec<Result<String, String>>>,
}

impl Behind for Service {
    fn answer(&self, head: &Parts, body: &[u8]) -> Option<Response<Vec<u8>>> {
        let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
        let text = |value: &hyper::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers: Vec<(String, String)> = head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
        let verdict = Signed { method: head.method.as_str(), target, headers: &headers, body }.verify(&SCOPE);
        self.verdicts.lock().unwrap().push(verdict.clone().map(|()| target.to_owned()));
        if verdict.is_err() {
            return Response::builder().status(403).body(br#"{"message":"the signature does not match"}"#.to_vec()).ok();
        }
        let kept = headers.iter().filter(|(name, _)| name.starts_with("content-") && name != "content-length");
        let headers: Vec<(&str, &str)> = kept.map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let target = target.strip_prefix("/a%20gateway").unwrap_or(target);
        let answer = request(head.method.as_str(), &self.store, target, &headers, body).unwrap();
        Response::builder().status(answer.status).body(answer.body).ok()
    }
}

fn service(store: &Store) -> (Door, Arc<Service>) {
    let service = Arc::new(Service { store: store.url(), verdicts: Mutex::default() });
    (Door::open(service.clone()).unwrap(), service)
}

fn site(url: &str, aws: &str) -> Site {
    let site = file_site(&format!(
        "type = \"elasticsearch\"\nendpoints = [\"{url}\"]\nindex = \"logs-%Y.%m.%d\"\ndistribution = \"opensearch\"\n\
         auth = {{ strategy = \"aws\", aws = {{ region = \"eu-central-1\", {aws} }} }}"
    ));
    let site = site.unwrap();
    site.append("app.log", "{\"message\":\"один\"}\n{\"message\":\"two\"}\n").unwrap();
    site
}

#[test]
fn what_is_signed_is_taken() {
    let keys = format!("access_key_id = \"{}\", secret_access_key = \"{}\"", SCOPE.id, SCOPE.secret);
    for (path, more) in [("", ""), ("/a%20gateway", ", session_token = \"a session's/token==\"")] {
        let store = Store::start(Keep::Documents).unwrap();
        let (door, service) = service(&store);
        let site = site(&format!("{}{path}", door.url()), &format!("{keys}{more}"));
        site.once().unwrap();
        let verdicts = service.verdicts.lock().unwrap();
        assert!(verdicts.iter().all(Result::is_ok), "{verdicts:?}");
        let bulk = verdicts.iter().flatten().find(|target| target.contains("_bulk?")).unwrap();
        assert!(bulk.starts_with(path) && bulk.contains("filter_path="), "a query with corners to sign: {bulk}");
        assert_eq!(store.counts().stored, 2);
    }
}

#[test]
fn a_wrong_key_pauses_and_a_renewed_file_goes_on() {
    let store = Store::start(Keep::Documents).unwrap();
    let (door, service) = service(&store);
    let file = tempfile::NamedTempFile::new().unwrap();
    let write = |secret: &str| {
        std::fs::write(file.path(), format!("[default]\naws_access_key_id = {}\naws_secret_access_key = {secret}\n", SCOPE.id)).unwrap();
    };
    write("not the key");
    let site = site(&door.url(), &format!("credentials_file = {:?}", file.path()));
    let ended = fails(&site).unwrap();
    assert!(ended.stderr.contains("HTTP 403") && !ended.stderr.contains("not the key"), "{ended}");
    assert!(service.verdicts.lock().unwrap().iter().all(|verdict| verdict.as_ref().is_err_and(|why| why.starts_with("the signature is"))));
    write(SCOPE.secret);
    site.once().unwrap();
    assert_eq!((store.counts().stored, site.letters().unwrap().len()), (2, 0));
}
