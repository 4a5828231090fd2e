//! The window of de-duplication: how many blocks a table remembers, and how many the agents of a fleet need it to.

use std::collections::BTreeMap;

use serde::Deserialize;

/// How long an insert whose answer was lost may be tried again before its token is forgotten.
const RETRIED_SECONDS: f64 = 600.0;

/// What the server says of a table, beside its columns.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct TableInfo {
    /// Its engine.
    pub engine: String,
    /// How it was made, with the settings that are its own.
    #[serde(default)]
    pub create_table_query: String,
    /// What its settings are where it has none of its own.
    #[serde(skip)]
    pub defaults: BTreeMap<String, String>,
}

impl TableInfo {
    /// The setting that holds the size of the window; `None` where the engine has none.
    fn setting(&self) -> Option<&'static str> {
        let replicated = self.engine.starts_with("Replicated") || self.engine.starts_with("Shared");
        match (self.engine.ends_with("MergeTree"), replicated) {
            (false, _) => None,
            (true, true) => Some("replicated_deduplication_window"),
            (true, false) => Some("non_replicated_deduplication_window"),
        }
    }

    /// The number of blocks that it remembers; `None` where the engine remembers none.
    pub fn window(&self) -> Option<u64> {
        let setting = self.setting()?;
        let own = self.create_table_query.match_indices(setting).filter(|(at, _)| {
            // Not within a longer name.
            !self.create_table_query[..*at].ends_with(|c: char| c.is_alphanumeric() || c == '_')
        });
        let value = |(at, name): (usize, &str)| {
            let after = self.create_table_query[at + name.len()..].trim_start().strip_prefix('=')?.trim_start();
            let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
            after[..digits].parse().ok()
        };
        own.filter_map(value).last().or_else(|| self.defaults.get(setting)?.parse().ok()).or(Some(0))
    }
}

/// How many blocks the window must hold: those that `nodes` agents insert in the time for which one may be trying again.
pub fn needed(nodes: u32, linger: std::time::Duration) -> u64 {
    (f64::from(nodes) * RETRIED_SECONDS / linger.as_secs_f64().max(0.1)).ceil() as u64
}

/// What to say of a table whose window is smaller than `needed`.
pub fn warning(table: &str, info: &TableInfo, needed: u64) -> Option<String> {
    let Some(setting) = info.setting() else {
        return Some(format!(
            "the engine of {table}, {}, does not refuse a block that comes again: what is sent again after a lost answer is stored twice, unless \
             the table behind it refuses it",
            info.engine
        ));
    };
    let window = info.window().unwrap_or(0);
    (window < needed).then(|| {
        format!(
            "{table} remembers {window} blocks, and the agents of this fleet may insert {needed} in the ten minutes for which one of them tries \
             again: beyond, what is sent again is stored twice; ALTER TABLE {table} MODIFY SETTING {setting} = {needed}"
        )
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn info(engine: &str, create: &str) -> TableInfo {
        let defaults = [("non_replicated_deduplication_window", "0"), ("replicated_deduplication_window", "10000")];
        TableInfo {
            engine: engine.to_owned(),
            create_table_query: create.to_owned(),
            defaults: defaults.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        }
    }

    #[test]
    fn the_window_is_that_of_the_engine() {
        let own = "… SETTINGS non_replicated_deduplication_window = 1000, index_granularity = 8192";
        assert_eq!(info("MergeTree", own).window(), Some(1000));
        assert_eq!(info("MergeTree", "").window(), Some(0));
        assert_eq!(info("ReplicatedMergeTree", own).window(), Some(10_000));
        assert_eq!(info("ReplacingMergeTree", own).window(), Some(1000));
        assert_eq!(info("Distributed", own).window(), None);
    }

    #[test]
    fn a_window_too_small_for_the_fleet_is_said_with_the_figure() {
        // reliability.md's example: 500 nodes, an insert in five seconds, ten minutes.
        let needed = needed(500, Duration::from_secs(5));
        assert_eq!(needed, 60_000);
        let own = "SETTINGS non_replicated_deduplication_window = 1000";
        let warning = |info: &TableInfo, needed| warning("logs.app", info, needed);
        assert!(warning(&info("MergeTree", own), needed).unwrap().contains("MODIFY SETTING non_replicated_deduplication_window = 60000"));
        assert_eq!(warning(&info("MergeTree", own), 1000), None);
        assert!(warning(&info("Distributed", own), 1).unwrap().contains("Distributed"));
    }
}
