//! `headers`: further headers of each request.

use std::collections::BTreeMap;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use skidder_pipeline::problem::Problem;

use super::Secret;

/// The headers of a table, their values never shown. What is wrong is added to `problems`.
pub fn headers(table: &BTreeMap<String, Secret>, problems: &mut Vec<Problem>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in table {
        let at = |message: &str| Problem { path: vec!["headers".to_owned(), name.clone()], message: message.to_owned(), help: None };
        match (name.parse::<HeaderName>(), HeaderValue::from_str(value.reveal())) {
            (Ok(name), Ok(mut value)) => {
                value.set_sensitive(true);
                headers.insert(name, value);
            }
            (Err(_), _) => problems.push(at("no header can be called that")),
            (_, Err(_)) => problems.push(at("the value holds characters that no header may hold")),
        }
    }
    headers
}
