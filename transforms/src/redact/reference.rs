//! The plain way to redact: every rule is a regular expression with a validator, searched for in every leaf from its first
//! byte to its last. Slow and easy to check; what the quick way finds must be exactly this.

use std::sync::LazyLock;

use regex::bytes::Regex;

use super::engine::{Finder, Hit, Rule};
use super::view::View;
use super::{Builtin, card, detect};

/// A regular expression of which group 1 is the value, and whether a match counts, given the text and the value's place.
struct Pattern {
    regex: Regex,
    counts: fn(&[u8], usize, usize) -> bool,
}

fn pattern(source: &str, counts: fn(&[u8], usize, usize) -> bool) -> Pattern {
    #[allow(clippy::unwrap_used)]
    let regex = Regex::new(source).unwrap();
    Pattern { regex, counts }
}

static EMAIL: LazyLock<Pattern> = LazyLock::new(|| {
    const LOCAL: &str =
        r"(?:[A-Za-z0-9]'[A-Za-z0-9._%+\-]|[A-Za-z0-9_])(?:[A-Za-z0-9]'[A-Za-z0-9._%+\-]|[A-Za-z0-9._%+\-]|[\xC3-\xC5][\x80-\xBF])*";
    const LATIN: &str = r"[\xC3-\xC5][\x80-\xBF](?:[A-Za-z0-9]'[A-Za-z0-9._%+\-]|[A-Za-z0-9._%+\-]|[\xC3-\xC5][\x80-\xBF])*";
    const WIDE: &str = r"(?:[A-Za-z0-9_\x80-\xFF][A-Za-z0-9._%+\-\x80-\xFF]*)?[\x80-\xFF]";
    const LABEL: &str = r"[A-Za-z0-9_\x80-\xFF][A-Za-z0-9_\-\x80-\xFF]*";
    const TOP: &str = r"(?:xn--[A-Za-z0-9\-]{2,}|[A-Za-z]{2,}|[\x80-\xFF]{4,})";
    pattern(&format!("(?-u)((?:{LOCAL}|{LATIN}|{WIDE})@(?:{LABEL}\\.)+{TOP})"), |text, start, end| detect::is_email(&text[start..end]))
});

static IPV4: LazyLock<Pattern> = LazyLock::new(|| {
    pattern(r"(?-u)(?:^|[^0-9A-Za-z_.])([0-9]{1,3}(?:\.[0-9]{1,3}){3})", |text, start, end| {
        detect::is_free_after_address(text, end) && detect::is_ipv4(&text[start..end])
    })
});

static JWT: LazyLock<Pattern> =
    LazyLock::new(|| pattern(r"(?-u)(eyJ[A-Za-z0-9_\-]{6,}\.[A-Za-z0-9_\-]{6,}(?:\.[A-Za-z0-9_\-]*){0,3})", |_, _, _| true));

static BEARER: LazyLock<Pattern> = LazyLock::new(|| {
    pattern(r"(?-u)\b(?i:bearer)[ \t+:=]+([A-Za-z0-9._~/\-][A-Za-z0-9._~+/\-]{11,}={0,2})", |text, start, end| {
        detect::is_token(&text[start..end])
    })
});

static CLUSTER: LazyLock<Pattern> = LazyLock::new(|| pattern(r"(?-u)([0-9](?:[ .\-]?[0-9])*)", |_, _, _| true));

/// Everything that the rules find in the leaf `raw`.
pub(super) fn find(rules: &[Rule], raw: &[u8]) -> Vec<Hit> {
    let mut view = View::default();
    view.decode(raw);
    let text = view.text();
    let mut hits = Vec::new();
    for (rule, Rule { finder, .. }) in rules.iter().enumerate() {
        let pattern = match finder {
            Finder::Builtin(Builtin::Email) => &EMAIL,
            Finder::Builtin(Builtin::Ipv4) => &IPV4,
            Finder::Builtin(Builtin::Jwt) => &JWT,
            Finder::Builtin(Builtin::BearerToken) => &BEARER,
            Finder::Builtin(Builtin::CreditCard) => {
                for cluster in CLUSTER.regex.find_iter(text) {
                    card::in_cluster(text, cluster.start(), |start, end| hits.push(Hit { start, end, rule }));
                }
                continue;
            }
            Finder::Pattern(pattern) => {
                pattern.find(text, |start, end| hits.push(Hit { start, end, rule }));
                continue;
            }
        };
        for captures in pattern.regex.captures_iter(text) {
            if let Some(m) = captures.get(1).filter(|m| (pattern.counts)(text, m.start(), m.end())) {
                hits.push(Hit { start: m.start(), end: m.end(), rule });
            }
        }
    }
    for hit in &mut hits {
        (hit.start, hit.end) = view.written(hit.start, hit.end);
    }
    super::engine::merge(&mut hits);
    hits
}
