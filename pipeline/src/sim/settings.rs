//! What a history is about.

use std::time::Duration;

use super::roll;
use super::store::Kind;
use crate::body::{BodyLimits, Compression};
use crate::buffer::WhenFull;
use crate::edge::SplitMix;

/// What is the same in all lives of a history.
pub struct Settings {
    pub sinks: Vec<SinkSettings>,
    pub max_body_bytes: usize,
    pub compression: Compression,
    pub limits: BodyLimits,
    pub max_bytes: u64,
    pub memory_bytes: u64,
    pub segment_bytes: u64,
    pub chunk_records: usize,
    /// Whether frames are synced before they are sent.
    pub strict: bool,
    /// Whether the power fails.
    pub power: bool,
    /// Whether the disk refuses.
    pub disk: bool,
    /// Whether the agent dies or stops at all.
    pub dies: bool,
}

/// The same of one sink.
#[derive(Clone, Copy)]
pub struct SinkSettings {
    pub kind: Kind,
    /// Whether frames are on disk; else only positions are.
    pub on_disk: bool,
    pub when_full: WhenFull,
}

impl Settings {
    /// Those of a history, by chance.
    pub fn of(chance: &mut SplitMix) -> Settings {
        let mut roll = |bound| roll(chance, bound);
        let kinds = [Kind::Elasticsearch, Kind::ClickHouse, Kind::ClickHouse, Kind::Loki, Kind::Otlp];
        let profile = roll(4);
        let policies = [WhenFull::Block, WhenFull::Block, WhenFull::DropOldest, WhenFull::DropNewest];
        let count = 1 + roll(3).min(2);
        let mut sink = || SinkSettings { kind: kinds[roll(5) as usize], on_disk: roll(6) > 0, when_full: policies[roll(4) as usize] };
        let sinks = (0..count).map(|_| sink()).collect();
        Settings {
            sinks,
            max_body_bytes: [usize::MAX, usize::MAX, 400, 75][roll(4) as usize],
            compression: if roll(8) == 0 { Compression::Gzip } else { Compression::None },
            limits: BodyLimits {
                max_bytes: 200 + roll(1500) as usize,
                max_records: 1 + roll(20) as u32,
                linger: Duration::from_millis([10, 200, 1000][roll(3) as usize]),
                max_open: 1 + roll(3) as usize,
            },
            max_bytes: [3_000, 6_000, 12_000, 1 << 20][roll(4) as usize],
            memory_bytes: [0, 1500, 1 << 20][roll(3) as usize],
            segment_bytes: 4000,
            chunk_records: 1 + roll(8) as usize,
            strict: roll(3) == 0,
            power: profile >= 2,
            disk: profile == 3,
            dies: roll(16) > 0,
        }
    }
}
