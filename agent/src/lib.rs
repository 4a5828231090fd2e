//! The node: command line, configuration, sources, and the wiring of them.

pub mod cli;
pub mod config;
pub mod run;
