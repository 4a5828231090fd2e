//! "Did you mean …?"

/// The name among `known` that `name` is most likely a slip of, if any is near enough.
///
/// Near enough is one mistake in three characters, or the beginning of one name only; letters' case and `-` for `_` are no
/// mistakes.
pub fn closest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    /// A beginning shorter than this says little.
    const MIN_PREFIX_BYTES: usize = 4;
    let known: Vec<&str> = known.into_iter().collect();
    let wanted = plain(name);
    let length = wanted.chars().count();
    let limit = (length / 3).max(1);
    let near = known
        .iter()
        .copied()
        .map(|known| (strsim::damerau_levenshtein(&wanted, &plain(known)), known))
        .filter(|(distance, _)| *distance <= limit && *distance < length)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known);
    near.or_else(|| {
        let begins = |known: &&str| wanted.len() >= MIN_PREFIX_BYTES && plain(known).starts_with(&wanted);
        let mut longer = known.iter().copied().filter(begins);
        longer.next().filter(|_| longer.next().is_none())
    })
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
            ("linger", Some("linger_ms")),
            ("lin", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(closest(name, known), expected, "{name}");
        }
    }
}
