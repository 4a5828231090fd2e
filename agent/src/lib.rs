//! The node: configuration, sources, pod metadata, the wiring.

pub mod config;
pub mod state;
