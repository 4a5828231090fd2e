//! Tables that sinks have in common, with Vector's names.

mod auth;
mod aws;
pub(crate) mod proto;
pub mod schema;
pub mod semantics;
mod size;
mod tables;
mod tls;

pub(crate) use auth::{Auth, Kept};
pub use auth::{AuthConfig, AuthStrategy, Secret};
pub use aws::AwsConfig;
pub use size::ByteSize;
pub use tables::{BatchConfig, BatchDefaults, BufferConfig, BufferSettings, BufferType, ConcurrencyConfig, Durability, RequestConfig};
pub use tls::TlsConfig;
