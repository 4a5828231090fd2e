//! Credentials.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use skidder_pipeline::problem::Problem;
use skidder_pipeline::sink::TransportError;

use super::aws::{AwsAuth, AwsConfig};
use crate::SinkContext;

/// A text that no log, no error and no dump shows.
#[derive(Clone, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The text, for the one place that sends it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Secret {
        Secret(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// How requests say who sends them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuthStrategy {
    /// `Authorization: Basic`, with `user` and `password`.
    Basic,
    /// `Authorization: Bearer`, with `token`.
    Bearer,
    /// `Authorization: ApiKey`, Elasticsearch's, with the key in its encoded form as `token`.
    ApiKey,
    /// AWS Signature Version 4, for Amazon OpenSearch Service: with the table `aws`.
    Aws,
}

/// Credentials for the store.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AuthConfig {
    /// How requests say who sends them.
    pub strategy: AuthStrategy,
    /// The user's name, for `basic`.
    pub user: Option<String>,
    /// The user's password, for `basic`. Write it as `${VARIABLE}`.
    pub password: Option<Secret>,
    /// A file that holds the password and nothing else but white space around it. It is read for every request, so that what changes it
    /// needs no restart.
    pub password_file: Option<PathBuf>,
    /// The token, for `bearer` and `api_key`. Write it as `${VARIABLE}`.
    pub token: Option<Secret>,
    /// A file that holds the token, as `password_file`: a service account's token of Kubernetes, for one.
    pub token_file: Option<PathBuf>,
    /// For `aws`: the region, the service and the keys.
    pub aws: Option<AwsConfig>,
    /// Allows to send credentials over `http://` to another machine, where everyone on the way can read them.
    #[serde(default)]
    pub allow_plain_http: bool,
}

/// Credentials that are whole.
#[derive(Clone, Debug)]
pub(crate) enum Auth {
    Basic { user: String, password: Kept },
    Bearer(Kept),
    ApiKey(Kept),
    Aws(AwsAuth),
}

/// A secret, or the file that it is in.
#[derive(Clone, Debug)]
pub(crate) enum Kept {
    Here(Secret),
    In(PathBuf),
}

/// What a file with a secret may hold: beyond this it is another file.
const MAX_SECRET_BYTES: u64 = 64 << 10;

impl Kept {
    /// The secret as it is now.
    pub(crate) fn secret(&self) -> Result<Secret, TransportError> {
        match self {
            Kept::Here(secret) => Ok(secret.clone()),
            Kept::In(path) => read(path).map(Secret).map_err(TransportError),
        }
    }
}

/// The text of a file with a secret, without white space around it. Errors do not show it.
pub(super) fn read(path: &Path) -> Result<String, String> {
    let cannot = |why: &dyn fmt::Display| format!("the credentials in {} cannot be read: {why}", path.display());
    let length = std::fs::metadata(path).map_err(|error| cannot(&error))?.len();
    if length > MAX_SECRET_BYTES {
        return Err(cannot(&"it is too long to be a secret"));
    }
    let text = std::fs::read(path).map_err(|error| cannot(&error))?;
    let text = String::from_utf8(text).map_err(|_| cannot(&"it is no text"))?;
    match text.trim() {
        "" => Err(cannot(&"it is empty")),
        text => Ok(text.to_owned()),
    }
}

impl AuthConfig {
    /// The credentials, or what is missing or too much. Paths are below the sink's table.
    pub(crate) fn resolve(&self, context: &SinkContext, problems: &mut Vec<Problem>) -> Option<Auth> {
        let strategy = match self.strategy {
            AuthStrategy::Basic => "basic",
            AuthStrategy::Bearer => "bearer",
            AuthStrategy::ApiKey => "api_key",
            AuthStrategy::Aws => "aws",
        };
        let given = [
            ("user", self.user.is_some()),
            ("password", self.password.is_some()),
            ("password_file", self.password_file.is_some()),
            ("token", self.token.is_some()),
            ("token_file", self.token_file.is_some()),
            ("aws", self.aws.is_some()),
        ];
        let takes: &[&str] = match self.strategy {
            AuthStrategy::Basic => &["user", "password", "password_file"],
            AuthStrategy::Bearer | AuthStrategy::ApiKey => &["token", "token_file"],
            AuthStrategy::Aws => &["aws"],
        };
        for (key, _) in given.iter().filter(|(key, given)| *given && !takes.contains(key)) {
            let help = format!("for `{strategy}`: {}", takes.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", "));
            problems.push(Problem::at(&format!("auth.{key}"), format!("`{strategy}` takes no {key}")).help(help));
        }
        match self.strategy {
            AuthStrategy::Basic => {
                if self.user.is_none() {
                    problems.push(missing(strategy, "user"));
                }
                let password = kept("password", strategy, self.password.as_ref(), self.password_file.as_deref(), context, problems);
                Some(Auth::Basic { user: self.user.clone()?, password: password? })
            }
            AuthStrategy::Bearer | AuthStrategy::ApiKey => {
                let token = kept("token", strategy, self.token.as_ref(), self.token_file.as_deref(), context, problems)?;
                Some(if self.strategy == AuthStrategy::Bearer { Auth::Bearer(token) } else { Auth::ApiKey(token) })
            }
            AuthStrategy::Aws => {
                if self.aws.is_none() {
                    problems.push(missing(strategy, "aws.region"));
                }
                self.aws.as_ref()?.resolve(context, problems).map(Auth::Aws)
            }
        }
    }
}

fn missing(strategy: &str, key: &str) -> Problem {
    Problem::at("auth.strategy", format!("`{strategy}` needs `{key}`")).help(format!("add `{key} = \"${{…}}\"`"))
}

fn kept(
    key: &str,
    strategy: &str,
    here: Option<&Secret>,
    file: Option<&Path>,
    context: &SinkContext,
    problems: &mut Vec<Problem>,
) -> Option<Kept> {
    match (here, file) {
        (Some(_), Some(_)) => {
            problems.push(Problem::at(&format!("auth.{key}_file"), format!("`{key}` is given too")).help("leave one of them out"));
            None
        }
        (Some(secret), None) => Some(Kept::Here(secret.clone())),
        (None, Some(file)) => {
            let path = context.resolve(file);
            if let Err(message) = read(&path) {
                problems.push(Problem::at(&format!("auth.{key}_file"), message));
            }
            Some(Kept::In(path))
        }
        (None, None) => {
            problems.push(missing(strategy, key));
            None
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    fn resolve(json: &str) -> (bool, Vec<String>) {
        let config: AuthConfig = serde_json::from_str(json).unwrap();
        let mut problems = Vec::new();
        let whole = config.resolve(&SinkContext::default(), &mut problems).is_some();
        (whole, problems.into_iter().map(|p| format!("{}: {}", p.path.join("."), p.message)).collect())
    }

    #[test]
    fn says_what_is_missing_and_what_is_too_much() {
        assert_eq!(resolve(r#"{"strategy":"basic","user":"u","password":"p"}"#), (true, vec![]));
        assert_eq!(resolve(r#"{"strategy":"api_key","token":"t"}"#), (true, vec![]));
        assert_eq!(
            resolve(r#"{"strategy":"basic","token":"t"}"#),
            (
                false,
                vec![
                    "auth.token: `basic` takes no token".to_owned(),
                    "auth.strategy: `basic` needs `user`".to_owned(),
                    "auth.strategy: `basic` needs `password`".to_owned(),
                ]
            )
        );
        assert_eq!(
            resolve(r#"{"strategy":"bearer","user":"u"}"#),
            (false, vec!["auth.user: `bearer` takes no user".to_owned(), "auth.strategy: `bearer` needs `token`".to_owned()])
        );
        assert_eq!(resolve(r#"{"strategy":"aws"}"#), (false, vec!["auth.strategy: `aws` needs `aws.region`".to_owned()]));
        assert_eq!(
            resolve(r#"{"strategy":"bearer","token":"t","token_file":"x"}"#).1,
            ["auth.token_file: `token` is given too".to_owned()]
        );
        let (_, gone) = resolve(r#"{"strategy":"bearer","token_file":"/no/such/file"}"#);
        assert!(gone[0].starts_with("auth.token_file: the credentials in /no/such/file cannot be read"), "{gone:?}");
    }

    #[test]
    fn a_secret_in_a_file_is_read_when_it_is_needed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "first\n").unwrap();
        let config: AuthConfig =
            serde_json::from_str(&format!(r#"{{"strategy":"bearer","token_file":{:?}}}"#, file.path().display().to_string())).unwrap();
        let Some(Auth::Bearer(token)) = config.resolve(&SinkContext::default(), &mut Vec::new()) else { panic!("no token") };
        assert_eq!(token.secret().unwrap().reveal(), "first");
        std::fs::write(file.path(), " second ").unwrap();
        assert_eq!(token.secret().unwrap().reveal(), "second");
        std::fs::write(file.path(), " ").unwrap();
        assert!(token.secret().unwrap_err().0.ends_with("it is empty"));
    }

    #[test]
    fn secrets_do_not_show() {
        let config: AuthConfig = serde_json::from_str(r#"{"strategy":"basic","user":"u","password":"hunter2"}"#).unwrap();
        let auth = config.resolve(&SinkContext::default(), &mut Vec::new());
        assert!(!format!("{config:?} {auth:?}").contains("hunter2"));
    }
}
