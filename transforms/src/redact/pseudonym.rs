//! Pseudonyms: the same value gives the same tag, and nobody without the key can find the value from it.
//!
//! `[EMAIL:k3:9f1c2ab47d0e55c1]` is the kind, the key's name and 64 bits of HMAC-SHA256 (RFC 2104) over kind, a zero byte and the
//! value in its normal form. The kind keeps an address apart from a name that reads the same. 64 bits are enough for a
//! thousand million values with one chance in forty that two of them collide.

use sha2::{Digest, Sha256};

use super::action::normal;

/// The shortest key, in bytes: as long as the hash (RFC 2104, section 3).
pub const MIN_KEY_BYTES: usize = 32;

const BLOCK: usize = 64;

/// A key of the configuration.
#[derive(Clone, Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyConfig {
    /// The key's name in tags: one to eight small letters and digits.
    pub id: String,
    /// The file that holds it: at least 32 bytes, of which a new line at the end is none. Give an absolute path.
    pub file: Option<std::path::PathBuf>,
    /// The environment variable that holds it, in place of a file.
    pub variable: Option<String>,
}

/// Keys for pseudonyms. Never shown, nor printed by `Debug`.
pub struct Keys {
    keys: Vec<Key>,
}

struct Key {
    id: String,
    inner: Sha256,
    outer: Sha256,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|key| &key.id)).finish()
    }
}

impl Keys {
    /// The keys of the configuration, read.
    ///
    /// # Errors
    /// What is wrong with the key at an index: no source or two, unreadable, too short, or a name that is none.
    pub fn read(configs: &[KeyConfig]) -> Result<Keys, (usize, String)> {
        let mut keys: Vec<Key> = Vec::new();
        for (index, config) in configs.iter().enumerate() {
            let fail = |message: String| (index, message);
            let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
            if !(1..=8).contains(&config.id.len()) || !config.id.chars().all(fine) || keys.iter().any(|key| key.id == config.id) {
                return Err(fail(format!(
                    "`{}` is no name for a key: it needs one of its own, of one to eight small letters and digits",
                    config.id
                )));
            }
            let bytes = match (&config.file, &config.variable) {
                (Some(path), None) => std::fs::read(path).map_err(|error| fail(format!("cannot read {}: {error}", path.display())))?,
                (None, Some(name)) => {
                    std::env::var(name).map_err(|_| fail(format!("the environment variable `{name}` is not set")))?.into_bytes()
                }
                _ => return Err(fail("a key comes from a `file` or from a `variable`, one of both".to_owned())),
            };
            let bytes = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
            if bytes.len() < MIN_KEY_BYTES {
                return Err(fail(format!("the key `{}` has {} bytes, which is less than {MIN_KEY_BYTES}", config.id, bytes.len())));
            }
            keys.push(Key::new(&config.id, bytes));
        }
        Ok(Keys { keys })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Appends the tag for a value: the first key's pseudonym, and those of the others after `|`, so that what was written
    /// under the old key can be joined while both are there.
    pub(super) fn write(&self, tag: &str, kind: &str, value: &[u8], out: &mut Vec<u8>) {
        let value = normal(kind, value);
        out.push(b'[');
        out.extend_from_slice(tag.as_bytes());
        for (index, key) in self.keys.iter().enumerate() {
            out.push(if index == 0 { b':' } else { b'|' });
            out.extend_from_slice(key.id.as_bytes());
            out.push(b':');
            for byte in &key.hmac(&[kind.as_bytes(), &[0], &value])[..8] {
                out.extend([byte >> 4, byte & 15].map(|half| b"0123456789abcdef"[usize::from(half)]));
            }
        }
        out.push(b']');
    }
}

impl Key {
    fn new(id: &str, secret: &[u8]) -> Key {
        let mut block = [0; BLOCK];
        if secret.len() > BLOCK {
            block[..32].copy_from_slice(&Sha256::digest(secret));
        } else {
            block[..secret.len()].copy_from_slice(secret);
        }
        let keyed = |pad: u8| Sha256::new().chain_update(block.map(|byte| byte ^ pad));
        Key { id: id.to_owned(), inner: keyed(0x36), outer: keyed(0x5c) }
    }

    fn hmac(&self, parts: &[&[u8]]) -> [u8; 32] {
        let inner = parts.iter().fold(self.inner.clone(), |hash, part| hash.chain_update(part));
        self.outer.clone().chain_update(inner.finalize()).finalize().into()
    }
}

/// The pseudonym of one value, as a detector of this name writes it: to look a person up in an incident.
///
/// # Errors
/// The name is no detector's.
pub fn pseudonym(keys: &Keys, kind: &str, value: &str) -> Result<String, String> {
    let entry = super::catalog::CATALOG.iter().find(|entry| entry.name == kind);
    let Some(entry) = entry else { return Err(format!("there is no detector `{kind}`")) };
    let mut out = Vec::new();
    keys.write(entry.tag, kind, value.as_bytes(), &mut out);
    Ok(String::from_utf8_lossy(&out).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hmac_is_that_of_rfc_4231() {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let short = Key::new("a", &[0x0b; 20]).hmac(&[b"Hi ", b"There"]);
        assert_eq!(hex(&short), "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
        let long = Key::new("a", &[0xaa; 131]).hmac(&[b"Test Using Larger Than Block-Size Key - Hash Key First"]);
        assert_eq!(hex(&long), "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    }

    #[test]
    fn one_value_has_one_pseudonym_in_all_its_forms() {
        let keys = Keys { keys: vec![Key::new("k2", &[1; 32]), Key::new("k1", &[2; 32])] };
        let of = |kind, value| pseudonym(&keys, kind, value).unwrap_or_default();
        assert_eq!(of("phone", "8 (912) 345-67-89"), of("phone", "+79123456789"));
        assert_eq!(of("email", "Jane@Example.com"), of("email", "jane@example.com"));
        assert_ne!(of("email", "a@b.cc"), of("email", "a@b.cd"));
        assert!(of("email", "a@b.cc").starts_with("[EMAIL:k2:") && of("email", "a@b.cc").contains("|k1:"));
        assert!(pseudonym(&keys, "x", "y").is_err());
    }
}
