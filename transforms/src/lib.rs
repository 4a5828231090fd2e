//! The meaning of records: pure functions on batches, one file each, with no I/O and no clock.
//!
//! A new transform is one file, one variant of [`TransformConfig`] and one line of [`TransformConfig::build`].

pub mod condition;
pub mod enrich;
mod fields;
pub mod filter;
pub mod json;
mod object;
pub mod redact;
pub mod remove;
pub mod rename;
#[cfg(test)]
mod test_support;

use skidder_pipeline::problem::Problem;
use skidder_pipeline::transform::Transform;

/// The transforms that there are, by their `type`.
#[derive(Clone, Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum TransformConfig {
    /// Adds fields: fixed values, and values made of other fields.
    Enrich(enrich::EnrichConfig),
    /// Keeps or drops records by a condition on their fields.
    Filter(filter::FilterConfig),
    /// Makes the members of a JSON line the record's fields.
    Json(json::JsonConfig),
    /// Takes personal data and secrets out.
    Redact(redact::RedactConfig),
    /// Removes fields.
    Remove(remove::RemoveConfig),
    /// Gives fields other names.
    Rename(rename::RenameConfig),
}

impl TransformConfig {
    /// A transform for one worker to own, or all mistakes in its configuration.
    pub fn build(&self) -> Result<Box<dyn Transform>, Vec<Problem>> {
        Ok(match self {
            TransformConfig::Enrich(config) => Box::new(enrich::Enrich::new(config)?),
            TransformConfig::Filter(config) => Box::new(filter::Filter::new(config)?),
            TransformConfig::Json(config) => Box::new(json::Json::new(config)?),
            TransformConfig::Redact(config) => Box::new(redact::Redact::new(config)?),
            TransformConfig::Remove(config) => Box::new(remove::Remove::new(config)?),
            TransformConfig::Rename(config) => Box::new(rename::Rename::new(config)?),
        })
    }
}
