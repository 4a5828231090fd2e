//! A look at a store, for `skidder validate`: whether it answers, and whether what the sink needs is there. It changes nothing.

use std::future::Future;
use std::pin::Pin;

/// One thing that was found. For the person who wrote the configuration; never about records.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Finding {
    /// It is as it should be.
    Fine(String),
    /// It works, and not as well as it could.
    Warning(String),
    /// It will not work.
    Error(String),
}

/// A look that is being taken.
pub type Probing<'a> = Pin<Box<dyn Future<Output = Vec<Finding>> + Send + 'a>>;

/// Looks at the store of a sink.
pub trait Probe: Send + Sync {
    /// What is found there; never nothing.
    fn probe(&self) -> Probing<'_>;
}

/// The stores for which `skidder init` has something to print, and what.
pub const INIT: [(&str, &str); 2] =
    [("clickhouse", crate::clickhouse::init::TABLE), ("elasticsearch", crate::elasticsearch::init::TEMPLATE)];
