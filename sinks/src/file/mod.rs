//! x
use crate::*;
/// x
#[derive(Clone, Debug, serde::Deserialize, schemars::JsonSchema)]
pub struct FileConfig {}
impl FileConfig {
    pub(crate) fn build(&self, _: &SinkContext) -> Result<SinkParts, Vec<Problem>> {
        Err(vec![])
    }
}
