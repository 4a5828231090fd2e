//! "Did you mean …?"

/// The name among `known` that `name` is most likely a slip of, if any is near enough.
///
/// Near enough is one mistake in three characters; letters' case and `-` for `_` are no mistakes.
pub fn closest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = plain(name);
    let length = wanted.chars().count();
    let limit = (length / 3).max(1);
    known
        .into_iter()
        .map(|known| (strsim::damerau_levenshtein(&wanted, &plain(known)), known))
        .filter(|(distance, _)| *distance <= limit && *distance < length)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// `; did you mean …?`, or nothing.
pub fn did_you_mean(suggestion: Option<&str>) -> String {
    suggestion.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}

/// `a`, `b` and `c`, each between back-ticks; the rest of a long list as a number.
pub fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    /// More than this nobody reads in an error.
    const MAX_NAMES: usize = 24;
    let names: Vec<&str> = names.into_iter().collect();
    let mut text = names.iter().take(MAX_NAMES).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    if names.len() > MAX_NAMES {
        text.push_str(&format!(" and {} more", names.len() - MAX_NAMES));
    }
    text
}

fn plain(name: &str) -> String {
    name.to_lowercase().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_slips_and_nothing_else() {
        let known = ["file", "stdin", "kubernetes_logs", "linger_ms"];
        for (name, expected) in [
            ("fiel", Some("file")),
            ("File", Some("file")),
            ("lingr_ms", Some("linger_ms")),
            ("linger-ms", Some("linger_ms")),
            ("kubernets_log", Some("kubernetes_logs")),
            ("http", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(closest(name, known), expected, "{name}");
        }
    }
}
