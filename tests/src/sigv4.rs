//! AWS Signature Version 4 from the side of the service: computes what the signature of a request must be, and compares.
//!
//! Written from the specification (AWS General Reference, "Create a signed AWS API request") over `sha2` alone, so that it shares
//! nothing with the crate by which the agent signs; and itself held against the vectors of AWS's own test suite.

use std::collections::BTreeMap;
use std::fmt::Write;

use sha2::{Digest, Sha256};

use crate::client::percent_encode_bytes as encode;

/// A request as it arrived.
pub struct Signed<'a> {
    /// `POST`
    pub method: &'a str,
    /// Path and query as they came over the wire.
    pub target: &'a str,
    /// Headers as they came, `host` among them.
    pub headers: &'a [(String, String)],
    /// The body as it came.
    pub body: &'a [u8],
}

/// The key that a request must be signed with, and for what.
#[derive(Clone, Copy)]
pub struct Scope<'a> {
    /// The id of the key.
    pub id: &'a str,
    /// The key.
    pub secret: &'a str,
    /// `eu-central-1`
    pub region: &'a str,
    /// `es`
    pub service: &'a str,
}

impl Signed<'_> {
    /// Whether the request has the signature that it must have; what is wrong with it otherwise.
    pub fn verify(&self, scope: &Scope<'_>) -> Result<(), String> {
        let authorization = self.header("authorization").ok_or("no `authorization`")?;
        let parts = authorization.strip_prefix("AWS4-HMAC-SHA256 ").ok_or("another algorithm")?;
        let part = |name: &str| {
            let value = parts.split(',').find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('=').map(str::to_owned));
            value.ok_or_else(|| format!("no {name} in {authorization}"))
        };
        let time = self.header("x-amz-date").ok_or("no `x-amz-date`")?;
        let day = time.get(..8).ok_or("a short date")?;
        let credential_scope = format!("{day}/{}/{}/aws4_request", scope.region, scope.service);
        if part("Credential")? != format!("{}/{credential_scope}", scope.id) {
            return Err(format!("signed for another scope: {authorization}"));
        }
        let names = part("SignedHeaders")?;
        // What a service insists on: that nobody can change these on the way.
        if let Some(name) = ["host", "x-amz-date"].iter().find(|name| !names.split(';').any(|signed| signed == **name)) {
            return Err(format!("`{name}` is not signed"));
        }
        let payload = hex(&Sha256::digest(self.body));
        if self.header("x-amz-content-sha256").is_some_and(|said| said != payload) {
            return Err("`x-amz-content-sha256` is of another body".to_owned());
        }
        let canonical = self.canonical(&names, &payload)?;
        let text = format!("AWS4-HMAC-SHA256\n{time}\n{credential_scope}\n{}", hex(&Sha256::digest(&canonical)));
        let mut key = format!("AWS4{}", scope.secret).into_bytes();
        for part in [day, scope.region, scope.service, "aws4_request", &text] {
            key = hmac(&key, part.as_bytes());
        }
        let (is, must) = (part("Signature")?, hex(&key));
        if is == must { Ok(()) } else { Err(format!("the signature is {is} and must be {must} for\n{canonical}")) }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The canonical request.
    fn canonical(&self, names: &str, payload: &str) -> Result<String, String> {
        let (path, query) = self.target.split_once('?').unwrap_or((self.target, ""));
        // Encoded once more than it was sent, as all services but S3 want it.
        let path: Vec<String> = path.split('/').map(|part| encode(part.as_bytes())).collect();
        let mut pairs: Vec<(String, String)> = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            pairs.push((encode(&decode(name)), encode(&decode(value))));
        }
        pairs.sort();
        let query: Vec<String> = pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut values: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in self.headers {
            let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
            values.entry(name.to_ascii_lowercase()).or_default().push(value);
        }
        let mut headers = String::new();
        for name in names.split(';') {
            let value = values.get(name).ok_or_else(|| format!("`{name}` is signed and not there"))?;
            headers += &format!("{name}:{}\n", value.join(","));
        }
        Ok(format!("{}\n{}\n{}\n{headers}\n{names}\n{payload}", self.method, path.join("/"), query.join("&")))
    }
}

/// HMAC (RFC 2104) with SHA-256.
fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    const BLOCK_BYTES: usize = 64;
    let mut block = [0; BLOCK_BYTES];
    let short = if key.len() > BLOCK_BYTES { Sha256::digest(key).to_vec() } else { key.to_vec() };
    block[..short.len()].copy_from_slice(&short);
    let pad = |with: u8| block.map(|byte| byte ^ with);
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(text).finalize();
    Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn decode(text: &str) -> Vec<u8> {
    percent_encoding::percent_decode_str(text).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Name, request line, headers beside host and date, body, signature.
    type Vector = (&'static str, &'static str, &'static [(&'static str, &'static str)], &'static str, &'static str);

    /// Vectors of AWS's Signature Version 4 test suite.
    const SUITE: [Vector; 8] = [
        ("get-vanilla", "GET /", &[], "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        (
            "get-vanilla-query-order-key-case",
            "GET /?Param2=value2&Param1=value1",
            &[],
            "",
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        ),
        (
            "get-vanilla-query-unreserved",
            "GET /?-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz=-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
            &[],
            "",
            "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197",
        ),
        ("get-vanilla-utf8-query", "GET /?ሴ=bar", &[], "", "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04"),
        ("get-utf8", "GET /ሴ", &[], "", "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"),
        (
            "get-header-value-trim",
            "GET /",
            &[("My-Header1", " value1"), ("My-Header2", " \"a   b   c\"")],
            "",
            "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
        ),
        (
            "get-header-key-duplicate",
            "GET /",
            &[("My-Header1", "value2"), ("My-Header1", "value2"), ("My-Header1", "value1")],
            "",
            "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea",
        ),
        (
            "post-x-www-form-urlencoded",
            "POST /",
            &[
                ("Content-Type", "application/x-www-form-urlencoded"),
                ("Content-Length", "13"),
                ("x-amz-content-sha256", "9095672bbd1f56dfc5b65f3e153adc8731a4a654192329106275f4c7b24d0b6e"),
            ],
            "Param1=value1",
            "d3875051da38690788ef43de4db0d8f280229d82040bfac253562e56c3f20e0b",
        ),
    ];

    #[test]
    fn agrees_with_the_vectors_of_aws() {
        let scope =
            Scope { id: "AKIDEXAMPLE", secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", region: "us-east-1", service: "service" };
        for (name, line, more, body, signature) in SUITE {
            let (method, target) = line.split_once(' ').unwrap();
            let mut headers = vec![("Host".to_owned(), "example.amazonaws.com".to_owned())];
            headers.push(("X-Amz-Date".to_owned(), "20150830T123600Z".to_owned()));
            headers.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
            let mut names: Vec<String> = headers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
            names.sort();
            names.dedup();
            let credential = "Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request";
            let authorization = format!("AWS4-HMAC-SHA256 {credential}, SignedHeaders={}, Signature={signature}", names.join(";"));
            headers.push(("Authorization".to_owned(), authorization));
            let verify = |target: &str, secret| {
                Signed { method, target, headers: &headers, body: body.as_bytes() }.verify(&Scope { secret, ..scope })
            };
            assert_eq!(verify(target, scope.secret), Ok(()), "{name}");
            assert!(verify("/other", scope.secret).is_err() && verify(target, "other").is_err(), "{name}");
        }
    }
}
