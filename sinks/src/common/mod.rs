//! Tables that sinks have in common, with Vector's names.

mod auth;
mod size;
mod tables;
mod tls;

pub(crate) use auth::Auth;
pub use auth::{AuthConfig, AuthStrategy, Secret};
pub use size::ByteSize;
pub use tables::{BatchConfig, BatchDefaults, BufferConfig, BufferSettings, BufferType, ConcurrencyConfig, Durability, RequestConfig};
pub use tls::TlsConfig;
