//! Field paths: `kubernetes.pod_labels."app.kubernetes.io/name"`.

use std::fmt;

use crate::json;

/// The way to a field: one key a level.
///
/// Written with dots between the keys, as in Vector; a leading dot may stand; a key with other characters than letters,
/// digits, `_`, `-`, `@` and `/` (in any script) stands in double quotes. Array elements have no paths.
#[derive(Clone, PartialEq, Eq)]
pub struct Path {
    source: Box<str>,
    segments: Box<[Box<[u8]>]>,
}

/// Why a text is no path.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "`{path}` is not a field path: {problem}; write keys with dots between them, and quote a key that holds dots: `labels.\"app.kubernetes.io/name\"`"
)]
pub struct PathError {
    path: String,
    problem: &'static str,
}

impl Path {
    /// Reads a path.
    pub fn parse(source: &str) -> Result<Path, PathError> {
        let error = |problem| PathError { path: source.to_owned(), problem };
        let mut rest = source.strip_prefix('.').unwrap_or(source);
        let mut segments = Vec::new();
        loop {
            let (key, after) = match rest.strip_prefix('"') {
                Some(quoted) => {
                    let end = quoted.find('"').ok_or_else(|| error("a quote is not closed"))?;
                    (&quoted[..end], &quoted[end + 1..])
                }
                None => rest.split_at(rest.find(|c| !is_bare(c)).unwrap_or(rest.len())),
            };
            if key.is_empty() {
                return Err(error("a key is empty"));
            }
            segments.push(escaped(key));
            if after.is_empty() {
                return Ok(Path { source: source.into(), segments: segments.into() });
            }
            rest = after.strip_prefix('.').ok_or_else(|| error("a key holds a character that needs quotes"))?;
        }
    }

    /// The keys from the top down, each as it stands between the quotes of JSON.
    pub fn segments(&self) -> &[Box<[u8]>] {
        &self.segments
    }

    /// The key of the top level.
    pub fn first(&self) -> &[u8] {
        &self.segments[0]
    }

    /// The keys below the top level; empty for a path of one key.
    pub fn rest(&self) -> &[Box<[u8]>] {
        &self.segments[1..]
    }
}

/// Whether `c` may stand in a key without quotes.
pub fn is_bare(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '@' | '/') || (!c.is_ascii() && !c.is_whitespace())
}

fn escaped(key: &str) -> Box<[u8]> {
    let mut out = Vec::with_capacity(key.len());
    json::escape(key.as_bytes(), &mut out);
    out.into()
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Path({})", self.source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(source: &str) -> Vec<String> {
        let path = Path::parse(source).expect("a path");
        path.segments().iter().map(|s| String::from_utf8_lossy(s).into_owned()).collect()
    }

    #[test]
    fn reads_bare_and_quoted_keys() {
        assert_eq!(keys("a"), ["a"]);
        assert_eq!(keys(".a.b_c.@timestamp"), ["a", "b_c", "@timestamp"]);
        assert_eq!(keys("kubernetes.pod_labels.\"app.kubernetes.io/name\".x"), ["kubernetes", "pod_labels", "app.kubernetes.io/name", "x"]);
        assert_eq!(keys("имя.ชื่อ\u{e1}"), ["имя", "ชื่อ\u{e1}"]);
    }

    #[test]
    fn says_what_is_wrong() {
        for (source, problem) in
            [("", "empty"), ("a..b", "empty"), ("a.", "empty"), ("\"a", "closed"), ("a b", "quotes"), ("a[0]", "quotes")]
        {
            let error = Path::parse(source).expect_err(source).to_string();
            assert!(error.contains(problem), "{source}: {error}");
        }
    }
}
