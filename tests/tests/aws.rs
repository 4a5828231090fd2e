//! Amazon OpenSearch Service takes what the agent signs: a service of our own checks each request's signature by its own
//! computation, as it came over the wire, and hands on what is right.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt, Full};
use hyper::StatusCode;
use skidder_tests::client::request;
use skidder_tests::real::{fails, file_site};
use skidder_tests::serve::{Closed, Serving, refuse};
use skidder_tests::sigv4::{Scope, Signed};
use skidder_tests::site::Site;
use skidder_tests::store::{Keep, Store};

const SCOPE: Scope<'_> =
    Scope { id: "AKIDEXAMPLE", secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", region: "eu-central-1", service: "es" };

/// What the service said of each request.
type Verdicts = Arc<Mutex<Vec<Result<String, String>>>>;

/// A service before `store` that wants signatures; below a path, as behind a gateway.
fn service(store: &Store, verdicts: Verdicts) -> Serving {
    let url = store.url();
    Serving::start("service", move |arrived| {
        let (url, verdicts) = (url.clone(), verdicts.clone());
        async move {
            let (head, body) = arrived.into_parts();
            let body = body.collect().await.map_err(|_| Closed)?.to_bytes();
            let target = head.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
            let text = |value: &hyper::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
            let headers: Vec<(String, String)> = head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
            let signed = Signed { method: head.method.as_str(), target: &target, headers: &headers, body: &body };
            let verdict = signed.verify(&SCOPE);
            verdicts.lock().unwrap().push(verdict.clone().map(|()| target.clone()));
            if let Err(why) = verdict {
                let body = format!(r#"{{"message":{:?}}}"#, why.lines().next().unwrap_or_default());
                return Ok(refuse(StatusCode::FORBIDDEN, None, body));
            }
            let inner = target.strip_prefix("/a%20gateway").unwrap_or(&target).to_owned();
            let answer = tokio::task::spawn_blocking(move || {
                let kept = headers.iter().filter(|(name, _)| name.starts_with("content-") && name != "content-length");
                let headers: Vec<(&str, &str)> = kept.map(|(name, value)| (name.as_str(), value.as_str())).collect();
                request(head.method.as_str(), &url, &inner, &headers, &body).unwrap()
            });
            let answer = answer.await.map_err(|_| Closed)?;
            Ok(hyper::Response::builder().status(answer.status).body(Full::new(answer.body.into())).unwrap())
        }
    })
    .unwrap()
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
        let (store, verdicts) = (Store::start(Keep::Documents).unwrap(), Verdicts::default());
        let service = service(&store, verdicts.clone());
        let site = site(&format!("{}{path}", service.url()), &format!("{keys}{more}"));
        site.once().unwrap();
        let verdicts = verdicts.lock().unwrap();
        assert!(verdicts.iter().all(Result::is_ok), "{verdicts:?}");
        let bulk = verdicts.iter().flatten().find(|target| target.contains("_bulk?")).unwrap();
        assert!(bulk.starts_with(path) && bulk.contains("filter_path="), "a query with corners to sign: {bulk}");
        assert_eq!(store.counts().stored, 2);
    }
}

#[test]
fn a_wrong_key_pauses_and_a_renewed_file_goes_on() {
    let (store, verdicts) = (Store::start(Keep::Documents).unwrap(), Verdicts::default());
    let service = service(&store, verdicts.clone());
    let file = tempfile::NamedTempFile::new().unwrap();
    let write = |secret: &str| {
        std::fs::write(file.path(), format!("[default]\naws_access_key_id = {}\naws_secret_access_key = {secret}\n", SCOPE.id)).unwrap();
    };
    write("not the key");
    let site = site(&service.url(), &format!("credentials_file = {:?}", file.path()));
    let ended = fails(&site).unwrap();
    assert!(ended.stderr.contains("HTTP 403") && !ended.stderr.contains("not the key"), "{ended}");
    assert!(verdicts.lock().unwrap().iter().all(|verdict| verdict.as_ref().is_err_and(|why| why.starts_with("the signature is"))));
    write(SCOPE.secret);
    site.once().unwrap();
    assert_eq!((store.counts().stored, site.letters().unwrap().len()), (2, 0));
}
