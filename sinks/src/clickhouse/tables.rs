//! What is known of the tables: told by the transport, which asks the server, to the encoders, which ask nobody.
//!
//! Kept in the sink's state directory too (`columns.json`), so that an agent that starts while the server is away writes rows
//! as before. Where nothing is known, bodies hold records, and the transport makes rows of them when it sends them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, PoisonError, RwLock};

use serde::{Deserialize, Serialize};

use super::layout::{ColumnInfo, Layout, Mapping};

/// The most tables that are remembered: beyond, what is written to others waits as records. A template whose values are
/// without bound makes no table for each anyway.
const MAX_TABLES: usize = 256;

/// The tables of one sink.
pub struct Tables {
    mapping: Mapping,
    cache: Option<PathBuf>,
    known: RwLock<BTreeMap<String, (Described, Arc<Layout>)>>,
    /// Fields that no column takes, in tables where none takes the rest.
    pub left_out: Arc<AtomicU64>,
}

/// A table as the server describes it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Described {
    /// Its columns.
    pub columns: Vec<ColumnInfo>,
    /// Whether the server knows `RowBinaryWithNamesAndTypes`.
    pub binary: bool,
}

impl Tables {
    /// What an earlier run wrote to `cache`, if there is something.
    pub fn new(mapping: Mapping, cache: Option<PathBuf>) -> Tables {
        let text = cache.as_ref().and_then(|path| std::fs::read(path).ok()).unwrap_or_default();
        // What cannot be read is as good as not there: the server is asked.
        let described: BTreeMap<String, Described> = serde_json::from_slice(&text).unwrap_or_default();
        let with_layout = |(name, table): (String, Described)| {
            let layout = Arc::new(Layout::new(&table.columns, &mapping, table.binary));
            (name, (table, layout))
        };
        let known = RwLock::new(described.into_iter().take(MAX_TABLES).map(with_layout).collect());
        Tables { mapping, cache, known, left_out: Arc::default() }
    }

    /// The layout of `table` (`database.table`), if it is known.
    pub fn layout(&self, table: &str) -> Option<Arc<Layout>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(table).map(|(_, layout)| layout.clone())
    }

    /// What columns take where the configuration says so.
    pub fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    /// Notes what the server says of `table`; gives the layout.
    pub fn describe(&self, table: &str, described: Described) -> Arc<Layout> {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, layout)) = known.get(table).filter(|(before, _)| *before == described) {
            return layout.clone();
        }
        let layout = Arc::new(Layout::new(&described.columns, &self.mapping, described.binary));
        if known.len() < MAX_TABLES || known.contains_key(table) {
            known.insert(table.to_owned(), (described, layout.clone()));
            self.save(&known);
        }
        layout
    }

    /// Writes all of it beside the buffer. A cache: that it cannot be written is no fault of the delivery.
    fn save(&self, known: &BTreeMap<String, (Described, Arc<Layout>)>) {
        let Some(path) = &self.cache else { return };
        let described: BTreeMap<&String, &Described> = known.iter().map(|(name, (described, _))| (name, described)).collect();
        let Ok(text) = serde_json::to_vec(&described) else { return };
        let new = path.with_extension("new");
        if let Err(error) = std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, path)) {
            tracing::debug!(%error, "what is known of the columns is not kept");
        }
    }
}
