//! The node: configuration, sources, pod metadata, the wiring.

pub mod state;
