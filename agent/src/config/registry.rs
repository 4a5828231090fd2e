//! The kinds of components that a file can hold, and the one list of those that Skidder has.

use std::path::Path;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use skidder_pipeline::delivery::DeadLetterFile;
use skidder_pipeline::problem::Problem;
use skidder_sinks::common::ByteSize;
use skidder_sinks::{SinkConfig, SinkContext};
use skidder_transforms::TransformConfig;

use crate::sources::{SourceConfig, check_overlaps};

/// The three kinds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Kind {
    /// Where records come from.
    Source,
    /// What changes them.
    Transform,
    /// Where they go.
    Sink,
}

impl Kind {
    /// All, in the order in which data passes them.
    pub const ALL: [Kind; 3] = [Kind::Source, Kind::Transform, Kind::Sink];

    /// The word for one.
    pub fn singular(self) -> &'static str {
        match self {
            Kind::Source => "source",
            Kind::Transform => "transform",
            Kind::Sink => "sink",
        }
    }

    /// The table of the file that holds them.
    pub fn section(self) -> &'static str {
        match self {
            Kind::Source => "sources",
            Kind::Transform => "transforms",
            Kind::Sink => "sinks",
        }
    }
}

/// The options of all types of one kind: an enum with `#[serde(tag = "type")]`, one variant a type.
pub trait Component: DeserializeOwned + JsonSchema {
    /// The options that stand beside those of the type and are the same for each: `inputs` above all.
    type Common: DeserializeOwned + JsonSchema;

    /// All that is wrong with the options and that their types do not say: expressions, URLs, contradictions.
    fn check(&self, common: &Self::Common, place: &Place<'_>) -> Vec<Problem>;
}

/// Where a component stands.
pub struct Place<'a> {
    /// Its name.
    pub name: &'a str,
    /// The directory against which relative paths are resolved.
    pub base_dir: &'a Path,
    /// The directory of the state, if the file names one, and its name has no mistake.
    pub data_dir: Option<&'a Path>,
}

/// A list of components: one type for each kind. Tests have their own.
pub trait Registry {
    /// The sources.
    type Source: Component;
    /// The transforms.
    type Transform: Component;
    /// The sinks.
    type Sink: Component;

    /// All that is wrong between two sources: their places, and what is wrong with the second. `None` stands for one whose
    /// options have mistakes.
    fn check_sources(sources: &[Option<&Self::Source>], base_dir: &Path) -> Vec<(usize, usize, Problem)> {
        let _ = (sources, base_dir);
        Vec::new()
    }
}

/// What all sources have in common: nothing yet.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
pub struct SourceCommon {}

/// What all transforms have in common.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct TransformCommon {
    /// The names of the sources and transforms whose records it takes. `*` at the end of a name stands for any ending.
    pub inputs: Vec<String>,
}

/// What all sinks have in common.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct SinkCommon {
    /// The names of the sources and transforms whose records it takes. `*` at the end of a name stands for any ending.
    pub inputs: Vec<String>,
    /// What becomes of records that the store refuses for good: they are kept as dead letters (`dead_letter`), or counted and
    /// thrown away (`drop`).
    #[serde(default)]
    pub on_reject: OnReject,
    /// The dead letters, for `skidder dlq`.
    #[serde(default)]
    pub dead_letters: DeadLettersConfig,
    /// Where a sink begins that was not in the configuration before: where the other sinks are (`others`; those that were removed,
    /// where none that is there has read anything), or with the oldest that the sources have (`beginning`).
    #[serde(default)]
    pub start_from: StartFrom,
}

/// Where a sink begins that was not in the configuration before.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StartFrom {
    /// Where the other sinks are.
    #[default]
    Others,
    /// With the oldest that the sources have.
    Beginning,
}

/// What becomes of records that a store refuses for good.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnReject {
    /// They are kept as dead letters.
    #[default]
    DeadLetter,
    /// They are counted and thrown away.
    Drop,
}

/// Records that the store refused for good, kept on disk with its reason.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DeadLettersConfig {
    /// The most bytes of dead letters; beyond, the oldest are removed and counted. 64 MiB where it is not given.
    #[schemars(example = "64MiB")]
    pub max_size: ByteSize,
}

impl Default for DeadLettersConfig {
    fn default() -> Self {
        DeadLettersConfig { max_size: ByteSize(DeadLetterFile::DEFAULT_MAX_BYTES) }
    }
}

impl SinkCommon {
    /// Below this there is room for hardly more than one large record.
    const MIN_DEAD_LETTERS: ByteSize = ByteSize::mib(1);

    fn check(&self) -> Option<Problem> {
        let too_small = self.on_reject == OnReject::DeadLetter && self.dead_letters.max_size < Self::MIN_DEAD_LETTERS;
        too_small.then(|| {
            Problem::at("dead_letters.max_size", "records that the store refuses would be dropped without a word: less than 1 MiB for them")
                .help("write `on_reject = \"drop\"` in the table of the sink if that is what you want")
        })
    }
}

/// The components of Skidder.
pub struct Builtin;

impl Registry for Builtin {
    type Source = SourceConfig;
    type Transform = TransformConfig;
    type Sink = SinkConfig;

    fn check_sources(sources: &[Option<&SourceConfig>], base_dir: &Path) -> Vec<(usize, usize, Problem)> {
        check_overlaps(sources, base_dir)
    }
}

impl Component for SourceConfig {
    type Common = SourceCommon;

    fn check(&self, _: &SourceCommon, _: &Place<'_>) -> Vec<Problem> {
        SourceConfig::check(self)
    }
}

impl Component for TransformConfig {
    type Common = TransformCommon;

    fn check(&self, _: &TransformCommon, _: &Place<'_>) -> Vec<Problem> {
        self.build().err().unwrap_or_default()
    }
}

impl Component for SinkConfig {
    type Common = SinkCommon;

    fn check(&self, common: &SinkCommon, place: &Place<'_>) -> Vec<Problem> {
        let context = SinkContext { name: place.name.to_owned(), base_dir: Some(place.base_dir.to_owned()), ..SinkContext::default() };
        let mut problems = self.build(&context).err().unwrap_or_default();
        problems.extend(common.check());
        problems
    }
}
