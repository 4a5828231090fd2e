//! `buffer`, `batch` and `request`.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use skidder_pipeline::body::BodyLimits;
use skidder_pipeline::buffer::WhenFull;
use skidder_pipeline::delivery::Options;
use skidder_pipeline::delivery::backoff::Backoff;
use skidder_pipeline::delivery::decide::Concurrency;
use skidder_pipeline::problem::Problem;

use super::ByteSize;

/// Where a sink's frames wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BufferType {
    /// On disk: what was read survives the process, and an outage of the store up to `max_size`.
    Disk,
    /// In memory: what was not delivered is read again from its file after a restart.
    Memory,
}

/// When what waits is put on the disk for good.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// When it is `sync_after_ms` old and not delivered. A kill of the process costs nothing; a power failure may make what was
    /// sent in that time be sent again in other batches.
    #[default]
    Lazy,
    /// Before it is first sent: a power failure repeats nothing where the store tells a batch that it has. Costs a sync (5 to
    /// 20 ms on an ordinary disk) for each group of batches.
    Strict,
}

/// Where a sink's frames wait until the store has them.
#[derive(Clone, Debug, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BufferConfig {
    /// `disk` or `memory`. Each sink says which is its default.
    pub r#type: Option<BufferType>,
    /// The most bytes of frames (compressed) that wait: 1 GiB on disk, 8 MiB in memory where it is not given. A disk buffer
    /// may exceed it by one segment.
    pub max_size: Option<ByteSize>,
    /// What happens when it is full: `block` (reading for this sink stops, the files wait), `drop_oldest` or `drop_newest`
    /// (given up, and counted).
    #[serde(default)]
    pub when_full: WhenFull,
    /// The age in milliseconds at which a frame that is not delivered yet is synced to the disk: what a power failure can
    /// cost. A kill of the process costs nothing.
    pub sync_after_ms: Option<u64>,
    /// `lazy` or `strict`: whether a batch is synced to the disk before it is first sent.
    #[serde(default)]
    pub durability: Durability,
    /// How much has to stay free on the file system of `data_dir`. With less the buffer counts as full as soon as it has a
    /// segment (1 to 16 MiB): `when_full` says what then. Where it is not given: a tenth of the file system, at most 5 GiB.
    pub min_free: Option<ByteSize>,
}

/// A buffer's settings as they hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BufferSettings {
    /// Whether frames wait on disk.
    pub disk: bool,
    /// The most bytes of frames that wait.
    pub max_bytes: u64,
    /// What happens beyond.
    pub when_full: WhenFull,
    /// The age at which a waiting frame is synced.
    pub sync_after: Duration,
    /// Whether frames are synced before they are first sent.
    pub strict: bool,
    /// What has to stay free on the file system; `None`: the buffer's default.
    pub min_free_bytes: Option<u64>,
}

impl BufferConfig {
    /// Below this a buffer holds no two ordinary frames.
    const MIN_SIZE: ByteSize = ByteSize::mib(1);
    /// Beyond this a frame would not be safe for an hour, which nobody means.
    const MAX_SYNC_AFTER_MS: u64 = 3_600_000;

    /// The settings, with `default` where no type is given.
    pub(crate) fn resolve(&self, default: BufferType, problems: &mut Vec<Problem>) -> BufferSettings {
        let disk = self.r#type.unwrap_or(default) == BufferType::Disk;
        let max_size = self.max_size.unwrap_or(if disk { ByteSize::mib(1024) } else { ByteSize::mib(8) });
        if max_size < Self::MIN_SIZE {
            problems.push(Problem::at("buffer.max_size", "a buffer needs at least 1 MiB").help("write `max_size = \"256MiB\"`"));
        }
        let sync_after_ms = self.sync_after_ms.unwrap_or(1000);
        if sync_after_ms > Self::MAX_SYNC_AFTER_MS {
            problems.push(Problem::at("buffer.sync_after_ms", "at most an hour (3600000)"));
        }
        let strict = self.durability == Durability::Strict;
        if strict && !disk {
            problems.push(Problem::at("buffer.durability", "a buffer in memory has nothing to sync").help("write `type = \"disk\"`"));
        }
        BufferSettings {
            disk,
            max_bytes: max_size.0,
            when_full: self.when_full,
            sync_after: Duration::from_millis(sync_after_ms),
            strict,
            min_free_bytes: self.min_free.map(|size| size.0),
        }
    }
}

/// When what was written is frozen and sent: at whichever limit is met first.
#[derive(Clone, Debug, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchConfig {
    /// A request is sent when it holds this many bytes before compression. It may hold up to one chunk (256 KiB as read) more:
    /// chunks are not cut.
    pub max_bytes: Option<ByteSize>,
    /// A request is sent when it holds this many records, or with its last chunk more.
    pub max_events: Option<u32>,
    /// How long the first record waits for others, in seconds.
    pub timeout_secs: Option<f64>,
    /// The same in milliseconds.
    pub linger_ms: Option<u64>,
}

/// What a sink's batches are where its table says nothing.
#[derive(Clone, Copy, Debug)]
pub struct BatchDefaults {
    /// Bytes before compression.
    pub max_bytes: ByteSize,
    /// Records.
    pub max_events: u32,
    /// How long the first record waits.
    pub linger: Duration,
}

impl BatchConfig {
    /// Open bodies that one sink may have at once. Each holds a compressor (some 300 KiB), so 64 are 20 MiB at the worst.
    const MAX_OPEN: usize = 64;
    /// What stores take at most, and what memory bears: Elasticsearch refuses 100 MB.
    const MAX_BYTES: ByteSize = ByteSize::mib(64);

    pub(crate) fn resolve(&self, defaults: BatchDefaults, problems: &mut Vec<Problem>) -> BodyLimits {
        let max_bytes = self.max_bytes.unwrap_or(defaults.max_bytes);
        if max_bytes.0 == 0 || max_bytes > Self::MAX_BYTES {
            problems.push(Problem::at("batch.max_bytes", "between 1 byte and 64 MiB"));
        }
        let max_records = self.max_events.unwrap_or(defaults.max_events);
        if max_records == 0 {
            problems.push(Problem::at("batch.max_events", "at least 1"));
        }
        if self.timeout_secs.is_some() && self.linger_ms.is_some() {
            problems.push(Problem::at("batch.linger_ms", "`timeout_secs` says the same").help("keep one of the two"));
        }
        let linger = match (self.timeout_secs, self.linger_ms) {
            (Some(secs), _) => seconds("batch.timeout_secs", secs, 0.0, problems).unwrap_or(defaults.linger),
            (None, Some(ms)) => Duration::from_millis(ms),
            (None, None) => defaults.linger,
        };
        if linger > Duration::from_secs(600) {
            problems.push(Problem::at("batch", "records may wait for others ten minutes at the most"));
        }
        BodyLimits { max_bytes: max_bytes.as_usize(), max_records, linger, max_open: Self::MAX_OPEN }
    }
}

/// How many requests may be under way at once: `"adaptive"` or a number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ConcurrencyConfig {
    /// As many as the store bears, up to 8.
    #[default]
    Adaptive,
    /// Always this many.
    Fixed(u16),
}

impl<'de> Deserialize<'de> for ConcurrencyConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Clone, Copy)]
        struct Either;
        impl Visitor<'_> for Either {
            type Value = ConcurrencyConfig;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"adaptive\" or a number from 1 to 64")
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<ConcurrencyConfig, E> {
                match u16::try_from(value) {
                    Ok(count @ 1..=64) => Ok(ConcurrencyConfig::Fixed(count)),
                    _ => Err(E::invalid_value(de::Unexpected::Unsigned(value), &self)),
                }
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<ConcurrencyConfig, E> {
                self.visit_u64(u64::try_from(value).map_err(|_| E::invalid_value(de::Unexpected::Signed(value), &self))?)
            }
            fn visit_str<E: de::Error>(self, value: &str) -> Result<ConcurrencyConfig, E> {
                match value {
                    "adaptive" => Ok(ConcurrencyConfig::Adaptive),
                    _ => Err(E::invalid_value(de::Unexpected::Str(value), &self)),
                }
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl serde::Serialize for ConcurrencyConfig {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            ConcurrencyConfig::Adaptive => serializer.serialize_str("adaptive"),
            ConcurrencyConfig::Fixed(count) => serializer.serialize_u16(*count),
        }
    }
}

impl schemars::JsonSchema for ConcurrencyConfig {
    fn schema_name() -> Cow<'static, str> {
        "Concurrency".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "\"adaptive\" (as many as the store bears, up to 8) or a number.",
            "anyOf": [{ "const": "adaptive" }, { "type": "integer", "minimum": 1, "maximum": 64 }]
        })
    }
}

/// How requests are made. Tries have no end; these are the waits between.
#[derive(Clone, Debug, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RequestConfig {
    /// How many requests may be under way at once: `"adaptive"` (as many as the store bears, up to 8) or a number.
    #[serde(default)]
    pub concurrency: ConcurrencyConfig,
    /// How long to wait for an answer, in seconds, before the request is made again; 60 where it is not given.
    pub timeout_secs: Option<f64>,
    /// The longest wait before the second try, in milliseconds; it doubles with each further one. 250 where it is not given.
    pub retry_initial_backoff_ms: Option<u64>,
    /// What the waits between tries never exceed, in seconds; 30 where it is not given.
    pub retry_max_duration_secs: Option<f64>,
}

impl RequestConfig {
    pub(crate) fn resolve(&self, problems: &mut Vec<Problem>) -> Options {
        let mut options = Options::default();
        if let ConcurrencyConfig::Fixed(count) = self.concurrency {
            options.concurrency = Concurrency::Fixed(count.into());
        }
        if let Some(secs) = self.timeout_secs {
            options.timeout = seconds("request.timeout_secs", secs, 0.001, problems);
        }
        let initial = self.retry_initial_backoff_ms.map_or(Backoff::RETRY.initial, Duration::from_millis);
        let max = self.retry_max_duration_secs.and_then(|secs| seconds("request.retry_max_duration_secs", secs, 0.001, problems));
        options.retry = Backoff { initial, max: max.unwrap_or(Backoff::RETRY.max) };
        if initial.is_zero() {
            problems.push(Problem::at("request.retry_initial_backoff_ms", "at least 1: a store that is down is not helped by haste"));
        } else if options.retry.max < initial {
            problems.push(Problem::at("request.retry_initial_backoff_ms", "longer than the longest wait (`retry_max_duration_secs`)"));
        }
        options
    }
}

/// A duration of so many seconds, at least `min` and at most a day.
fn seconds(at: &str, secs: f64, min: f64, problems: &mut Vec<Problem>) -> Option<Duration> {
    if (min..=86_400.0).contains(&secs) {
        return Duration::try_from_secs_f64(secs).ok();
    }
    problems.push(Problem::at(at, format!("a number of seconds from {min} to 86400")));
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn problems(resolve: impl FnOnce(&mut Vec<Problem>)) -> Vec<String> {
        let mut problems = Vec::new();
        resolve(&mut problems);
        problems.into_iter().map(|p| p.path.join(".")).collect()
    }

    #[test]
    fn tables_resolve_with_defaults() {
        let buffer: BufferConfig =
            serde_json::from_str(r#"{"type":"disk","max_size":"2MiB","when_full":"drop_oldest","durability":"strict","min_free":"1GiB"}"#)
                .unwrap();
        let settings = buffer.resolve(BufferType::Memory, &mut Vec::new());
        let expected = BufferSettings {
            disk: true,
            max_bytes: 2 << 20,
            when_full: WhenFull::DropOldest,
            sync_after: Duration::from_secs(1),
            strict: true,
            min_free_bytes: Some(1 << 30),
        };
        assert_eq!(settings, expected);
        assert!(!BufferConfig::default().resolve(BufferType::Memory, &mut Vec::new()).disk);
        assert_eq!(RequestConfig::default().resolve(&mut Vec::new()), Options::default());
        let request: RequestConfig = serde_json::from_str(r#"{"concurrency":3,"timeout_secs":2.5}"#).unwrap();
        let options = request.resolve(&mut Vec::new());
        assert_eq!((options.concurrency, options.timeout), (Concurrency::Fixed(3), Some(Duration::from_millis(2500))));
    }

    #[test]
    fn every_mistake_is_found() {
        let defaults = BatchDefaults { max_bytes: ByteSize::mib(1), max_events: 10, linger: Duration::from_secs(1) };
        let batch = |json: &str| {
            let table: BatchConfig = serde_json::from_str(json).unwrap();
            problems(|p| _ = table.resolve(defaults, p))
        };
        assert_eq!(batch("{}"), [""; 0]);
        assert_eq!(
            batch(r#"{"max_bytes":0,"max_events":0,"timeout_secs":-1,"linger_ms":5}"#),
            ["batch.max_bytes", "batch.max_events", "batch.linger_ms", "batch.timeout_secs"]
        );
        assert_eq!(batch(r#"{"linger_ms":99999999}"#), ["batch"]);
        let request = |json: &str| {
            let table: RequestConfig = serde_json::from_str(json).unwrap();
            problems(|p| _ = table.resolve(p))
        };
        assert_eq!(
            request(r#"{"timeout_secs":0,"retry_initial_backoff_ms":0,"retry_max_duration_secs":1e99}"#),
            ["request.timeout_secs", "request.retry_max_duration_secs", "request.retry_initial_backoff_ms"]
        );
        assert_eq!(request(r#"{"retry_initial_backoff_ms":5000,"retry_max_duration_secs":1}"#), ["request.retry_initial_backoff_ms"]);
        for json in ["0", "65", "\"lots\"", "-1"] {
            assert!(serde_json::from_str::<ConcurrencyConfig>(json).is_err(), "{json}");
        }
        let buffer: BufferConfig = serde_json::from_str(r#"{"max_size":5,"sync_after_ms":99999999}"#).unwrap();
        assert_eq!(problems(|p| _ = buffer.resolve(BufferType::Disk, p)), ["buffer.max_size", "buffer.sync_after_ms"]);
        let buffer: BufferConfig = serde_json::from_str(r#"{"durability":"strict"}"#).unwrap();
        assert_eq!(problems(|p| _ = buffer.resolve(BufferType::Memory, p)), ["buffer.durability"]);
    }
}
