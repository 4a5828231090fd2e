//! Credentials.

use std::fmt;

use serde::Deserialize;
use skidder_pipeline::problem::Problem;

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
    /// The token, for `bearer` and `api_key`. Write it as `${VARIABLE}`.
    pub token: Option<Secret>,
    /// Allows to send credentials over `http://` to another machine, where everyone on the way can read them.
    #[serde(default)]
    pub allow_plain_http: bool,
}

/// Credentials that are whole.
#[derive(Clone, Debug)]
pub(crate) enum Auth {
    Basic { user: String, password: Secret },
    Bearer(Secret),
    ApiKey(Secret),
}

impl AuthConfig {
    /// The credentials, or what is missing or too much. Paths are below the sink's table.
    pub(crate) fn resolve(&self, problems: &mut Vec<Problem>) -> Option<Auth> {
        let mut missing = |key: &str| {
            let strategy = match self.strategy {
                AuthStrategy::Basic => "basic",
                AuthStrategy::Bearer => "bearer",
                AuthStrategy::ApiKey => "api_key",
            };
            problems.push(Problem::at("auth.strategy", format!("`{strategy}` needs `{key}`")).help(format!("add `{key} = \"${{…}}\"`")));
        };
        match self.strategy {
            AuthStrategy::Basic => {
                if self.user.is_none() {
                    missing("user");
                }
                if self.password.is_none() {
                    missing("password");
                }
                if self.token.is_some() {
                    problems.push(Problem::at("auth.token", "`basic` takes no token").help("use `strategy = \"bearer\"` or \"api_key\""));
                }
                Some(Auth::Basic { user: self.user.clone()?, password: self.password.clone()? })
            }
            AuthStrategy::Bearer | AuthStrategy::ApiKey => {
                if self.token.is_none() {
                    missing("token");
                }
                for (key, given) in [("user", self.user.is_some()), ("password", self.password.is_some())] {
                    if given {
                        problems.push(Problem::at(&format!("auth.{key}"), format!("only `basic` takes a {key}")));
                    }
                }
                let token = self.token.clone()?;
                Some(if self.strategy == AuthStrategy::Bearer { Auth::Bearer(token) } else { Auth::ApiKey(token) })
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn resolve(json: &str) -> (bool, Vec<String>) {
        let config: AuthConfig = serde_json::from_str(json).unwrap();
        let mut problems = Vec::new();
        let whole = config.resolve(&mut problems).is_some();
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
                    "auth.strategy: `basic` needs `user`".to_owned(),
                    "auth.strategy: `basic` needs `password`".to_owned(),
                    "auth.token: `basic` takes no token".to_owned()
                ]
            )
        );
        assert_eq!(
            resolve(r#"{"strategy":"bearer","user":"u"}"#),
            (false, vec!["auth.strategy: `bearer` needs `token`".to_owned(), "auth.user: only `basic` takes a user".to_owned()])
        );
    }

    #[test]
    fn secrets_do_not_show() {
        let config: AuthConfig = serde_json::from_str(r#"{"strategy":"basic","user":"u","password":"hunter2"}"#).unwrap();
        let auth = config.resolve(&mut Vec::new());
        assert!(!format!("{config:?} {auth:?}").contains("hunter2"));
    }
}
