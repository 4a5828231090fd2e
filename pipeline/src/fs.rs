//! The file system as the buffer sees it.

/// The file system, handed in.
pub trait Fs: Send + Sync {}
