//! The node: command line, configuration, sources, state, and the wiring of them.

pub mod buffer_cmd;
pub mod cli;
pub mod config;
pub mod dlq;
pub mod lockdown;
pub mod memory;
pub mod metadata;
pub mod operator;
pub mod orphans;
mod output;
pub mod redact_filter;
pub mod run;
pub mod setup;
pub mod sources;
pub mod state;
pub mod topology;
