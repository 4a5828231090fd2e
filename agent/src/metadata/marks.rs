//! What pods say of their own logs: that they are not to be read, how they are parsed, how fast they are read. Never more:
//! no mark adds a destination, an input or code.
//!
//! Our own, as labels or annotations, each also for one container with `.<container>` behind it:
//! - `skidder.io/exclude: "true"` (or `"false"`, against the marks of others);
//! - `skidder.io/exclude-containers: "a,b"`;
//! - `skidder.io/parser: "json"`, from a fixed list;
//! - `skidder.io/rate-limit: "64KiB"`, in bytes per second, heeded only where it is less than the source's own.
//!
//! Others' exclusions, for those who come from there: Vector's label `vector.dev/exclude` and annotation
//! `vector.dev/exclude-containers`, Fluent Bit's `fluentbit.io/exclude[_stdout|_stderr][-<container>]`, Elastic's
//! `co.elastic.logs[.<container>]/enabled: "false"`.
//!
//! Where the labels of namespaces are asked for (`namespace_labels`), a namespace's own labels `skidder.io/exclude` and
//! `vector.dev/exclude` count for those of its pods that do not say otherwise by `skidder.io/exclude: "false"`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use skidder_sinks::common::ByteSize;

/// What is to be done with the logs of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Marks {
    /// Not read at all.
    pub exclude: bool,
    /// Read, whatever its namespace says.
    pub include: bool,
    /// Of what is read, records of this stream are left out.
    pub excluded_stream: Option<Stream>,
    pub parser: Option<Parser>,
    /// In bytes per second.
    pub rate_limit: Option<u64>,
}

/// What a container writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// Its standard output.
    Stdout,
    /// Its standard error.
    Stderr,
}

impl Stream {
    const ALL: [Stream; 2] = [Stream::Stdout, Stream::Stderr];

    /// Its name in the field `stream`, in marks and in `kubernetes.excluded_stream`.
    pub fn name(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }

    /// The stream of that name.
    pub fn from_name(name: &str) -> Option<Stream> {
        Stream::ALL.into_iter().find(|stream| stream.name() == name)
    }
}

/// The parsers that a pod may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Parser {
    /// The transform `json` with its default options.
    Json,
}

impl Parser {
    /// Its name in an annotation and in `kubernetes.parser`.
    pub fn name(self) -> &'static str {
        match self {
            Parser::Json => "json",
        }
    }

    /// The parser of that name.
    pub fn from_name(name: &str) -> Option<Parser> {
        (name == Parser::Json.name()).then_some(Parser::Json)
    }
}

type Map = BTreeMap<String, String>;

/// What a pod's labels and annotations say of `container`.
pub(super) fn marks(labels: &Map, annotations: &Map, container: &str) -> Marks {
    let own = |name: &str| {
        let one = format!("skidder.io/{name}.{container}");
        let all = format!("skidder.io/{name}");
        [&one, &all].into_iter().find_map(|key| annotations.get(key).or_else(|| labels.get(key))).map(|value| value.trim())
    };
    let streams = Stream::ALL.map(|stream| fluent_bit_excludes(annotations, &format!("_{}", stream.name()), container).then_some(stream));
    let said = own("exclude").and_then(truth);
    let (exclude, excluded_stream) = match said {
        Some(said) => (said, None),
        None if own("exclude-containers").is_some_and(|list| names(list, container)) => (true, None),
        None if others_exclude(labels, annotations, container) => (true, None),
        None => (streams.iter().all(Option::is_some), streams.into_iter().flatten().next()),
    };
    let excluded_stream = excluded_stream.filter(|_| !exclude);
    let rate_limit = own("rate-limit").and_then(size).filter(|rate| *rate > 0);
    Marks { exclude, include: said == Some(false), excluded_stream, parser: own("parser").and_then(Parser::from_name), rate_limit }
}

/// Whether the labels of a namespace say that logs of its pods are not to be read.
pub(super) fn excludes_namespace(labels: &Map) -> bool {
    let said = ["skidder.io/exclude", "vector.dev/exclude"].into_iter().find_map(|key| truth(labels.get(key)?));
    said == Some(true)
}

fn others_exclude(labels: &Map, annotations: &Map, container: &str) -> bool {
    let says = |map: &Map, key: &str, what: bool| map.get(key).and_then(|value| truth(value)) == Some(what);
    let elastic = match annotations.get(&format!("co.elastic.logs.{container}/enabled")).and_then(|value| truth(value)) {
        Some(enabled) => !enabled,
        None => says(annotations, "co.elastic.logs/enabled", false),
    };
    elastic
        || says(labels, "vector.dev/exclude", true)
        || annotations.get("vector.dev/exclude-containers").is_some_and(|list| names(list, container))
        || fluent_bit_excludes(annotations, "", container)
}

/// Fluent Bit's mark for a pod or one of its containers; `stream` is empty or the name of one behind a `_`.
fn fluent_bit_excludes(annotations: &Map, stream: &str, container: &str) -> bool {
    let all = format!("fluentbit.io/exclude{stream}");
    let one = format!("{all}-{container}");
    [all, one].iter().any(|key| annotations.get(key).and_then(|value| truth(value)) == Some(true))
}

fn names(list: &str, container: &str) -> bool {
    list.split(',').any(|name| name.trim() == container)
}

/// As YAML's readers write it.
fn truth(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Some(true),
        "false" | "no" | "off" | "0" => Some(false),
        _ => None,
    }
}

fn size(text: &str) -> Option<u64> {
    let value = serde::de::value::StrDeserializer::<serde::de::value::Error>::new(text);
    let number = text.parse().ok();
    number.or_else(|| ByteSize::deserialize(value).ok().map(|size| size.0))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    /// Labels or annotations.
    type Pairs = &'static [(&'static str, &'static str)];

    fn of(labels: Pairs, annotations: Pairs, container: &str) -> Marks {
        let map = |pairs: Pairs| pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        marks(&map(labels), &map(annotations), container)
    }

    #[test]
    fn exclusions_of_all_kinds() {
        let excluded: [(Pairs, Pairs); 12] = [
            (&[("skidder.io/exclude", "true")], &[]),
            (&[], &[("skidder.io/exclude", "true")]),
            (&[], &[("skidder.io/exclude.app", "true")]),
            (&[], &[("skidder.io/exclude-containers", "web, app")]),
            (&[("vector.dev/exclude", "true")], &[]),
            (&[], &[("vector.dev/exclude-containers", "app")]),
            (&[], &[("fluentbit.io/exclude", "true")]),
            (&[], &[("fluentbit.io/exclude-app", "true")]),
            (&[], &[("fluentbit.io/exclude_stdout", "true"), ("fluentbit.io/exclude_stderr-app", "true")]),
            (&[], &[("fluentbit.io/exclude", "true"), ("fluentbit.io/exclude_stderr", "true")]),
            (&[], &[("co.elastic.logs/enabled", "false")]),
            (&[], &[("co.elastic.logs.app/enabled", "false")]),
        ];
        for (labels, annotations) in excluded {
            assert!(of(labels, annotations, "app").exclude, "{labels:?} {annotations:?}");
        }
        let read: [(Pairs, Pairs); 8] = [
            (&[], &[]),
            (&[("skidder.io/exclude", "false"), ("vector.dev/exclude", "true")], &[]),
            (&[], &[("skidder.io/exclude.web", "true")]),
            (&[], &[("skidder.io/exclude", "true"), ("skidder.io/exclude.app", "false")]),
            (&[], &[("skidder.io/exclude-containers", "web,apps")]),
            (&[], &[("skidder.io/exclude", "perhaps")]),
            (&[], &[("co.elastic.logs/enabled", "false"), ("co.elastic.logs.app/enabled", "true")]),
            (&[("fluentbit.io/exclude", "true")], &[("vector.dev/exclude", "true")]),
        ];
        for (labels, annotations) in read {
            assert!(!of(labels, annotations, "app").exclude, "{labels:?} {annotations:?}");
        }
    }

    #[test]
    fn namespaces_may_exclude_their_pods() {
        let cases: [(Pairs, bool); 5] = [
            (&[], false),
            (&[("vector.dev/exclude", "true")], true),
            (&[("skidder.io/exclude", "true"), ("vector.dev/exclude", "false")], true),
            (&[("skidder.io/exclude", "false"), ("vector.dev/exclude", "true")], false),
            (&[("skidder.io/exclude", "perhaps"), ("co.elastic.logs/enabled", "false")], false),
        ];
        for (labels, excludes) in cases {
            let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            assert_eq!(excludes_namespace(&labels), excludes, "{labels:?}");
        }
        assert!(of(&[], &[("skidder.io/exclude.app", "false")], "app").include);
        assert!(!of(&[], &[("skidder.io/exclude.app", "false")], "web").include);
        assert!(!of(&[], &[("co.elastic.logs/enabled", "true")], "app").include);
    }

    #[test]
    fn streams_are_excluded_one_by_one() {
        let cases: [(Pairs, Option<Stream>); 8] = [
            (&[("fluentbit.io/exclude_stdout", "true")], Some(Stream::Stdout)),
            (&[("fluentbit.io/exclude_stderr", "true")], Some(Stream::Stderr)),
            (&[("fluentbit.io/exclude_stderr-app", "true")], Some(Stream::Stderr)),
            (&[("fluentbit.io/exclude_stderr-web", "true")], None),
            (&[("fluentbit.io/exclude_stderr", "false")], None),
            (&[("fluentbit.io/exclude-app_stderr", "true")], None),
            (&[("fluentbit.io/exclude_stderr", "true"), ("skidder.io/exclude", "false")], None),
            (&[("fluentbit.io/exclude_stdout-app", "true"), ("fluentbit.io/exclude_stdout", "false")], Some(Stream::Stdout)),
        ];
        for (annotations, stream) in cases {
            let marks = of(&[], annotations, "app");
            assert_eq!((marks.exclude, marks.excluded_stream), (false, stream), "{annotations:?}");
        }
        assert_eq!(of(&[("fluentbit.io/exclude_stdout", "true")], &[], "app").excluded_stream, None, "it is an annotation");
    }

    #[test]
    fn parsers_come_from_a_list_and_rates_are_numbers() {
        let marks = of(&[], &[("skidder.io/parser", "json"), ("skidder.io/rate-limit", "64KiB")], "app");
        assert_eq!((marks.parser, marks.rate_limit), (Some(Parser::Json), Some(65536)));
        let marks = of(&[], &[("skidder.io/parser.app", "exec /bin/sh"), ("skidder.io/rate-limit.app", "1000")], "app");
        assert_eq!((marks.parser, marks.rate_limit), (None, Some(1000)));
        assert_eq!(of(&[], &[("skidder.io/rate-limit", "0")], "app").rate_limit, None);
        assert_eq!(of(&[], &[("skidder.io/rate-limit", "fast")], "app").rate_limit, None);
    }
}
