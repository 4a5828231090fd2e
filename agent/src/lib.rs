//! The agent: sources, and the wiring of a pipeline.

pub mod sources;
