//! The node: command line, configuration, sources, state, and the wiring of them.

pub mod buffer_cmd;
pub mod cli;
pub mod config;
pub mod dlq;
pub mod look;
pub mod memory;
pub mod operator;
pub mod run;
pub mod sources;
pub mod state;
pub mod topology;
