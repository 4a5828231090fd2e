//! AWS Signature Version 4: requests to Amazon OpenSearch Service say who sends them by a signature.

use std::path::PathBuf;
use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{PayloadChecksumKind, SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use http::header::HeaderMap;
use serde::Deserialize;
use skidder_pipeline::problem::Problem;
use skidder_pipeline::sink::TransportError;

use super::auth::{self, Secret};
use crate::SinkContext;

/// The signature of AWS.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AwsConfig {
    /// The region, `eu-central-1`.
    pub region: String,
    /// The service that the signature is for: `es`, or `aoss` for OpenSearch Serverless.
    #[serde(default = "es")]
    pub service: String,
    /// The id of the access key. Write it as `${AWS_ACCESS_KEY_ID}`.
    pub access_key_id: Option<Secret>,
    /// The access key. Write it as `${AWS_SECRET_ACCESS_KEY}`.
    pub secret_access_key: Option<Secret>,
    /// The token of a session, for keys that are of one.
    pub session_token: Option<Secret>,
    /// A file with keys in AWS's format (`~/.aws/credentials`) in place of the three above. It is read for every request, so that what
    /// renews it needs no restart.
    pub credentials_file: Option<PathBuf>,
    /// The section of `credentials_file`.
    #[serde(default = "default")]
    pub profile: String,
}

fn es() -> String {
    "es".to_owned()
}

fn default() -> String {
    "default".to_owned()
}

/// What signs requests.
#[derive(Clone, Debug)]
pub(crate) struct AwsAuth {
    region: String,
    service: String,
    keys: Keys,
}

#[derive(Clone, Debug)]
enum Keys {
    Here { id: Secret, key: Secret, token: Option<Secret> },
    In { path: PathBuf, profile: String },
}

impl AwsConfig {
    pub(super) fn resolve(&self, context: &SinkContext, problems: &mut Vec<Problem>) -> Option<AwsAuth> {
        let keys = match (&self.access_key_id, &self.secret_access_key, &self.credentials_file) {
            (Some(id), Some(key), None) => Keys::Here { id: id.clone(), key: key.clone(), token: self.session_token.clone() },
            (None, None, Some(file)) => {
                let keys = Keys::In { path: context.resolve(file), profile: self.profile.clone() };
                if let Err(message) = keys.read() {
                    problems.push(Problem::at("auth.aws.credentials_file", message));
                }
                keys
            }
            _ => {
                let help = "write `access_key_id = \"${AWS_ACCESS_KEY_ID}\"` and `secret_access_key = \"${AWS_SECRET_ACCESS_KEY}\"`";
                problems.push(Problem::at("auth.aws", "it takes both halves of a key, or `credentials_file`").help(help));
                return None;
            }
        };
        Some(AwsAuth { region: self.region.clone(), service: self.service.clone(), keys })
    }
}

impl Keys {
    fn read(&self) -> Result<Credentials, String> {
        let credentials = |id: &str, key: &str, token: Option<&str>| Credentials::new(id, key, token.map(str::to_owned), None, "skidder");
        match self {
            Keys::Here { id, key, token } => Ok(credentials(id.reveal(), key.reveal(), token.as_ref().map(Secret::reveal))),
            Keys::In { path, profile } => {
                let text = auth::read(path)?;
                let mut inside = false;
                let (mut id, mut key, mut token) = (None, None, None);
                for line in text.lines().map(str::trim) {
                    if let Some(section) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                        inside = section.trim() == profile;
                    } else if let Some((name, value)) = line.split_once('=').filter(|_| inside) {
                        match name.trim() {
                            "aws_access_key_id" => id = Some(value.trim()),
                            "aws_secret_access_key" => key = Some(value.trim()),
                            "aws_session_token" => token = Some(value.trim()),
                            _ => {}
                        }
                    }
                }
                match (id, key) {
                    (Some(id), Some(key)) => Ok(credentials(id, key, token)),
                    _ => Err(format!("{} has no keys in its section `[{profile}]`", path.display())),
                }
            }
        }
    }
}

impl AwsAuth {
    /// Adds to `headers` those that sign the request as it is now.
    pub(crate) fn sign(
        &self,
        method: &str,
        url: &str,
        headers: &mut HeaderMap,
        body: &[u8],
        now: SystemTime,
    ) -> Result<(), TransportError> {
        let identity = self.keys.read().map_err(TransportError)?.into();
        let cannot = |_| TransportError("the request cannot be signed".to_owned());
        let mut settings = SigningSettings::default();
        // OpenSearch Serverless wants it, and the others do not mind.
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        let params = v4::SigningParams::builder().identity(&identity).region(&self.region).name(&self.service).time(now).settings(settings);
        let params = params.build().map_err(|_| TransportError("the request cannot be signed".to_owned()))?.into();
        let named = headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
        let request = SignableRequest::new(method, url, named, SignableBody::Bytes(body)).map_err(cannot)?;
        let (instructions, _) = sign(request, &params).map_err(cannot)?.into_parts();
        let mut signed = http::Request::new(());
        instructions.apply_to_request_http1x(&mut signed);
        headers.extend(std::mem::take(signed.headers_mut()));
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn resolve(json: &str) -> Result<AwsAuth, Vec<String>> {
        let config: AwsConfig = serde_json::from_str(json).unwrap();
        let mut problems = Vec::new();
        let auth = config.resolve(&SinkContext::default(), &mut problems);
        if problems.is_empty() { Ok(auth.unwrap()) } else { Err(problems.into_iter().map(|problem| problem.message).collect()) }
    }

    fn signed(auth: &AwsAuth) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_440_938_160);
        auth.sign("GET", "https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08", &mut headers, b"", now).unwrap();
        headers
    }

    #[test]
    fn signs_as_aws_documents_it() {
        // The scope is AWS's own example ("Create a signed AWS API request"); the key of 2015-08-30 for iam in us-east-1.
        let auth = r#"{"region":"us-east-1","service":"iam","access_key_id":"AKIDEXAMPLE","secret_access_key":"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"}"#;
        let headers = signed(&resolve(auth).unwrap());
        let authorization = headers["authorization"].to_str().unwrap();
        assert!(
            authorization.starts_with("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, SignedHeaders=host;"),
            "{authorization}"
        );
        assert_eq!(headers["x-amz-date"], "20150830T123600Z");
        assert_eq!(headers["x-amz-content-sha256"], "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }

    #[test]
    fn keys_come_from_a_file_too() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text =
            "[other]\naws_access_key_id = NO\n[default]\naws_access_key_id = YES\naws_secret_access_key=hunter2\naws_session_token = t\n";
        std::fs::write(file.path(), text).unwrap();
        let path = file.path().display().to_string();
        let auth = resolve(&format!(r#"{{"region":"r","credentials_file":{path:?}}}"#)).unwrap();
        let headers = signed(&auth);
        assert!(headers["authorization"].to_str().unwrap().contains("Credential=YES/"));
        assert_eq!(headers["x-amz-security-token"], "t");
        assert!(!format!("{auth:?}").contains("hunter2"));
        let other = resolve(&format!(r#"{{"region":"r","credentials_file":{path:?},"profile":"other"}}"#)).unwrap_err();
        assert!(other[0].ends_with("has no keys in its section `[other]`"), "{other:?}");
        assert!(resolve(r#"{"region":"r","access_key_id":"x"}"#).unwrap_err()[0].starts_with("it takes both halves"));
    }
}
