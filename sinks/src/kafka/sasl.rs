//! How a client says who it is: SASL with PLAIN (RFC 4616) and SCRAM (RFC 5802, RFC 7677).
//!
//! By SCRAM the password never crosses the wire, and the broker shows that it knows it too. Names and passwords are sent as they are
//! written: SASLprep (RFC 4013) changes none that are ASCII.

use std::num::NonZeroU32;
use std::path::PathBuf;

use ring::rand::SecureRandom;
use ring::{digest, hmac, pbkdf2, rand};
use serde::Deserialize;
use skidder_pipeline::problem::Problem;

use crate::SinkContext;
use crate::common::{Kept, Secret};

/// Credentials by SASL.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SaslConfig {
    /// How the brokers are shown who this is.
    pub mechanism: Mechanism,
    /// The user's name.
    pub user: String,
    /// The user's password. Write it as `${VARIABLE}`.
    pub password: Option<Secret>,
    /// A file that holds the password and nothing else but white space around it. It is read for every connection, so that what changes
    /// it needs no restart.
    pub password_file: Option<PathBuf>,
    /// Allows to send the password of `plain` without TLS to another machine, where everyone on the way can read it.
    #[serde(default)]
    pub allow_plaintext: bool,
}

/// How brokers are shown who this is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, schemars::JsonSchema)]
pub enum Mechanism {
    /// By the password itself.
    #[serde(rename = "plain")]
    Plain,
    /// By SCRAM with SHA-256.
    #[serde(rename = "scram-sha-256")]
    ScramSha256,
    /// By SCRAM with SHA-512.
    #[serde(rename = "scram-sha-512")]
    ScramSha512,
}

impl Mechanism {
    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Mechanism::Plain => "PLAIN",
            Mechanism::ScramSha256 => "SCRAM-SHA-256",
            Mechanism::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

/// Credentials that are whole.
#[derive(Clone, Debug)]
pub(crate) struct Sasl {
    pub mechanism: Mechanism,
    pub user: String,
    pub(crate) password: Kept,
}

impl SaslConfig {
    /// The credentials, or what is missing or too much. Paths are below the sink's table.
    pub(crate) fn resolve(&self, context: &SinkContext, problems: &mut Vec<Problem>) -> Option<Sasl> {
        if self.user.is_empty() {
            problems.push(Problem::at("sasl.user", "an empty name"));
        }
        let password = match (&self.password, &self.password_file) {
            (Some(_), Some(_)) => {
                problems.push(Problem::at("sasl.password_file", "`password` is given too").help("leave one of them out"));
                return None;
            }
            (None, None) => {
                problems.push(Problem::at("sasl", "a password is needed").help("add `password = \"${…}\"` or `password_file`"));
                return None;
            }
            (Some(secret), None) => Kept::Here(secret.clone()),
            (None, Some(file)) => {
                let kept = Kept::In(context.resolve(file));
                if let Err(error) = kept.secret() {
                    problems.push(Problem::at("sasl.password_file", error.0));
                }
                kept
            }
        };
        Some(Sasl { mechanism: self.mechanism, user: self.user.clone(), password })
    }
}

/// The one message of PLAIN.
pub fn plain(user: &str, password: &str) -> Vec<u8> {
    [b"\0", user.as_bytes(), b"\0", password.as_bytes()].concat()
}

/// Why a conversation by SCRAM cannot go on. Never holds what was said in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ScramError {
    /// Not what a server says, or less secure than it has to be.
    #[error("the broker's part of SCRAM is not as the standard has it")]
    Malformed,
    /// The server does not know the password.
    #[error("the broker does not know the password that it asks for: it is not the one that this user is known at")]
    Impostor,
}

/// The client's part of a conversation by SCRAM.
pub struct Scram {
    digest: &'static digest::Algorithm,
    hmac: hmac::Algorithm,
    pbkdf2: pbkdf2::Algorithm,
    /// `n=user,r=nonce`.
    first: String,
    nonce: String,
}

/// What the client says at last, and what the server must answer.
pub struct Final {
    pub message: Vec<u8>,
    /// `v=` and this in base 64.
    signature: hmac::Tag,
}

/// The header of channel bindings, of which there are none.
const NO_BINDING: &str = "n,,";

impl Scram {
    /// Below this a password could be guessed from what is said (RFC 7677, section 4).
    const MIN_ITERATIONS: u32 = 4096;
    /// Beyond this a broker keeps us busy: some seconds of work.
    const MAX_ITERATIONS: u32 = 10_000_000;

    /// A conversation of `user`, with a nonce of chance.
    pub fn new(mechanism: Mechanism, user: &str) -> Result<Scram, ScramError> {
        let mut bytes = [0; 24];
        rand::SystemRandom::new().fill(&mut bytes).map_err(|_| ScramError::Malformed)?;
        Ok(Scram::with_nonce(mechanism, user, encode(&bytes)))
    }

    fn with_nonce(mechanism: Mechanism, user: &str, nonce: String) -> Scram {
        let user = user.replace('=', "=3D").replace(',', "=2C");
        let first = format!("n={user},r={nonce}");
        match mechanism {
            Mechanism::ScramSha512 => {
                Scram { digest: &digest::SHA512, hmac: hmac::HMAC_SHA512, pbkdf2: pbkdf2::PBKDF2_HMAC_SHA512, first, nonce }
            }
            _ => Scram { digest: &digest::SHA256, hmac: hmac::HMAC_SHA256, pbkdf2: pbkdf2::PBKDF2_HMAC_SHA256, first, nonce },
        }
    }

    /// What the client says first.
    pub fn first(&self) -> Vec<u8> {
        format!("{NO_BINDING}{}", self.first).into_bytes()
    }

    /// What the client says to what the server said: `r=nonce,s=salt,i=iterations`.
    pub fn answer(&self, server: &[u8], password: &str) -> Result<Final, ScramError> {
        let text = std::str::from_utf8(server).map_err(|_| ScramError::Malformed)?;
        let mut parts = text.split(',');
        let mut part = |name: &str| parts.next().and_then(|part| part.strip_prefix(name)).ok_or(ScramError::Malformed);
        let (nonce, salt, iterations) = (part("r=")?, part("s=")?, part("i=")?);
        let iterations: u32 = iterations.parse().map_err(|_| ScramError::Malformed)?;
        let salt = decode(salt).ok_or(ScramError::Malformed)?;
        if !nonce.starts_with(&self.nonce)
            || nonce.len() == self.nonce.len()
            || !(Self::MIN_ITERATIONS..=Self::MAX_ITERATIONS).contains(&iterations)
        {
            return Err(ScramError::Malformed);
        }
        let iterations = NonZeroU32::new(iterations).ok_or(ScramError::Malformed)?;
        let mut salted = vec![0; self.digest.output_len()];
        pbkdf2::derive(self.pbkdf2, iterations, &salt, password.as_bytes(), &mut salted);
        let salted = hmac::Key::new(self.hmac, &salted);
        let client_key = hmac::sign(&salted, b"Client Key");
        let stored_key = digest::digest(self.digest, client_key.as_ref());
        let without_proof = format!("c={},r={nonce}", encode(NO_BINDING.as_bytes()));
        let said = format!("{},{text},{without_proof}", self.first);
        let signature = hmac::sign(&hmac::Key::new(self.hmac, stored_key.as_ref()), said.as_bytes());
        let proof: Vec<u8> = client_key.as_ref().iter().zip(signature.as_ref()).map(|(key, sign)| key ^ sign).collect();
        let server_key = hmac::sign(&salted, b"Server Key");
        let signature = hmac::sign(&hmac::Key::new(self.hmac, server_key.as_ref()), said.as_bytes());
        Ok(Final { message: format!("{without_proof},p={}", encode(&proof)).into_bytes(), signature })
    }
}

impl Final {
    /// Whether the server knows the password.
    pub fn verify(&self, server: &[u8]) -> Result<(), ScramError> {
        let is_right = server == [b"v=", encode(self.signature.as_ref()).as_bytes()].concat();
        if is_right { Ok(()) } else { Err(ScramError::Impostor) }
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Base 64 (RFC 4648) with padding.
fn encode(bytes: &[u8]) -> String {
    let mut out = String::new();
    for three in bytes.chunks(3) {
        let bits = (0..3).fold(0u32, |bits, at| bits << 8 | u32::from(three.get(at).copied().unwrap_or(0)));
        for at in 0..4 {
            let is_padding = at > three.len();
            out.push(if is_padding { '=' } else { char::from(ALPHABET[(bits >> (18 - 6 * at) & 63) as usize]) });
        }
    }
    out
}

fn decode(text: &str) -> Option<Vec<u8>> {
    let (mut out, mut bits, mut count) = (Vec::new(), 0u32, 0);
    for byte in text.trim_end_matches('=').bytes() {
        bits = bits << 6 | ALPHABET.iter().position(|known| *known == byte)? as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    Some(out)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// The conversation of RFC 7677, section 3.
    #[test]
    fn scram_as_in_the_rfc() {
        let scram = Scram::with_nonce(Mechanism::ScramSha256, "user", "rOprNGfwEbeRWgbNEkqO".to_owned());
        assert_eq!(scram.first(), b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let server = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let last = scram.answer(server, "pencil").unwrap();
        let expected = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        assert_eq!(String::from_utf8(last.message.clone()).unwrap(), expected);
        assert_eq!(last.verify(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="), Ok(()));
        assert_eq!(last.verify(b"v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="), Err(ScramError::Impostor));
        assert_eq!(last.verify(b"e=invalid-proof"), Err(ScramError::Impostor));
    }

    #[test]
    fn a_server_that_is_none_gets_no_answer() {
        let scram = Scram::with_nonce(Mechanism::ScramSha512, "a,b=c", "mine".to_owned());
        assert_eq!(scram.first(), b"n,,n=a=2Cb=3Dc,r=mine");
        let bad = [
            "",
            "r=mine,s=QQ==,i=4096",
            "r=yours,s=QQ==,i=4096",
            "r=mine2,s=Q!,i=4096",
            "r=mine2,s=QQ==,i=1",
            "r=mine2,s=QQ==,i=4000000000",
            "e=unknown-user",
        ];
        for server in bad {
            assert_eq!(scram.answer(server.as_bytes(), "p").err(), Some(ScramError::Malformed), "{server}");
        }
        assert!(scram.answer(b"r=mine2,s=QQ==,i=4096", "p").is_ok());
    }

    #[test]
    fn base64_of_all_lengths() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")] {
            assert_eq!(encode(bytes.as_bytes()), text);
            assert_eq!(decode(text).unwrap(), bytes.as_bytes());
        }
    }
}
