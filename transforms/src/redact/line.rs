//! Redacting line by line, for trying it on a file.

use std::sync::Arc;

use skidder_pipeline::problem::Problem;
use skidder_pipeline::value::{Kind, Value};

use super::config::{self, RedactConfig};
use super::engine::Engine;
use super::redact_value;
use super::scan::Hits;
use super::tree::Below;

/// What was taken out of a line, without the value itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// The detector or rule.
    pub rule: Arc<str>,
    /// Where the value starts in the line, in bytes.
    pub start: usize,
    /// Where it ends.
    pub end: usize,
}

/// Redacts lines as the transform does with messages: one that is JSON stays JSON, one that is text is a text.
pub struct LineRedactor {
    engine: Engine,
    hits: Hits,
    out: Vec<u8>,
}

impl LineRedactor {
    /// A redactor that does what `config` says.
    ///
    /// # Errors
    /// All mistakes in the configuration.
    pub fn new(config: &RedactConfig) -> Result<LineRedactor, Vec<Problem>> {
        Ok(LineRedactor { engine: config::engine(config)?, hits: Hits::default(), out: Vec::new() })
    }

    /// The line without what was found; `None` where nothing was. The line is UTF-8, and has no new line at its end.
    pub fn redact(&mut self, line: &[u8]) -> Option<&[u8]> {
        if let Some((base, found)) = &mut self.engine.trace {
            *base = line.as_ptr() as usize;
            found.clear();
        }
        let everything = !self.engine.mark(line, &mut self.hits);
        if !everything && !self.hits.any() {
            return None;
        }
        let value = Value { kind: Kind::Text, raw: line };
        let hits = &self.hits;
        redact_value(&mut self.engine, value, Below::default(), |start, end| everything || hits.within(start, end), &mut self.out)?;
        Some(&self.out)
    }

    /// Whether a record of this line would be dropped; asked after [`LineRedactor::redact`].
    pub fn take_dropped(&mut self) -> bool {
        std::mem::take(&mut self.engine.drops).event
    }

    /// Calls `each` with the count of each rule since the last call.
    pub fn take_counts(&mut self, each: impl FnMut(&Arc<str>, u64)) {
        self.engine.take_counts(each);
    }

    /// Keeps what is found in each line from now on, for [`LineRedactor::found`].
    pub fn explain(&mut self) {
        self.engine.trace = Some((0, Vec::new()));
    }

    /// What was found in the last line, in its order.
    pub fn found(&self) -> Vec<Found> {
        let hits = self.engine.trace.as_ref().map_or(&[][..], |(_, hits)| hits);
        hits.iter().map(|hit| Found { rule: self.engine.rules()[hit.rule].name.clone(), start: hit.start, end: hit.end }).collect()
    }
}
