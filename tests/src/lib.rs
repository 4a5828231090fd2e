//! Tools for testing the whole agent from outside, as the program that a user runs.
//!
//! A test makes logs ([`generate`]), starts the program ([`agent`]), lets it ship to files or to a store that misbehaves on
//! request ([`store`]), and accounts for every single record afterwards ([`ledger`]). [`kubelet`] is a whole node whose logs are rotated away. The benchmark (`cargo xtask bench`)
//! uses the same parts and [`measure`].
//!
//! What is absent: this crate depends on none of our crates, so nothing here can agree with the agent by sharing its code.

pub mod agent;
pub mod chance;
pub mod client;
pub mod cutter;
pub mod front;
pub mod fuzz;
pub mod generate;
pub mod image;
pub mod journal;
pub mod kube;
pub mod kubelet;
pub mod ledger;
pub mod measure;
pub mod mixed;
pub mod records;
pub mod redaction;
pub mod servers;
pub mod site;
pub mod store;
pub mod tools;
pub mod torture;
pub mod workspace;
