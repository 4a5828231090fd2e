//! A faulty front: a proxy before a real server, which hands requests on and sometimes does not, or keeps the answer.
//!
//! What the server stored is the server's: a request whose answer the front lost has been done.

use std::io;
use std::sync::Arc;

use hyper::Response;
use hyper::http::request::Parts;

use crate::client::{self, Answer};
pub use crate::store::Seen;
use crate::store::{Behind, Door, Faults};

/// The running front. Stops when dropped.
pub struct Front {
    door: Door,
}

impl Front {
    /// A front on a free port before the server at this URL; it does nothing wrong yet.
    pub fn start(server: &str) -> io::Result<Front> {
        Ok(Front { door: Door::open(Arc::new(Server(server.to_owned())))? })
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        self.door.url()
    }

    /// Makes it misbehave from now on. What is about single documents has no meaning here.
    pub fn set_faults(&self, faults: Faults) {
        self.door.set_faults(faults);
    }

    /// What it counted so far.
    pub fn seen(&self) -> Seen {
        self.door.seen()
    }
}

/// The address of the server behind.
struct Server(String);

/// Headers that are about one connection, and not about the request.
const HOP: [&str; 4] = ["host", "content-length", "transfer-encoding", "connection"];

impl Behind for Server {
    fn answer(&self, head: &Parts, body: &[u8]) -> Option<Response<Vec<u8>>> {
        let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
        let headers = head.headers.iter().filter(|(name, _)| !HOP.contains(&name.as_str()));
        let headers: Vec<(&str, &str)> = headers.filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?))).collect();
        // A server that was killed closes the connection, and so does the front.
        let Answer { status, headers, body } = client::request(head.method.as_str(), &self.0, target, &headers, body).ok()?;
        let headers = headers.iter().filter(|(name, _)| !HOP.contains(&name.as_str()));
        headers.fold(Response::builder().status(status), |response, (name, value)| response.header(name, value)).body(body).ok()
    }
}
