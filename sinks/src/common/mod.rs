//! Tables that sinks have in common, with Vector's names.

mod auth;
mod aws;
mod headers;
pub(crate) mod proto;
pub mod schema;
pub mod semantics;
mod size;
mod tables;
mod tls;

pub(crate) use auth::{Auth, Kept};
pub use auth::{AuthConfig, AuthStrategy, Secret};
pub use aws::AwsConfig;
pub(crate) use headers::headers;
pub use size::ByteSize;
pub use tables::{BatchConfig, BatchDefaults, BufferConfig, BufferSettings, BufferType, ConcurrencyConfig, Durability, RequestConfig};
pub use tls::TlsConfig;
