//! The movement of Skidder: records, batches, frames, the disk buffer, delivery and positions.
//!
//! Data moves one way: a [`source::Source`] fills a [`source::Chunk`]; [`transform::Transform`]s change its
//! [`batch::Batch`] in place; a [`sink::Encode`]r writes it into open [`body::Bodies`]; [`frame::freeze`] makes them
//! [`frame::Frame`]s; the buffer keeps these until the delivery has brought them to the store.

pub mod batch;
pub mod body;
pub mod buffer;
pub mod delivery;
pub mod edge;
pub mod fail;
pub mod frame;
pub mod fs;
pub mod id;
pub mod json;
pub mod path;
pub mod position;
pub mod problem;
pub mod queue;
pub mod run;
pub mod shared;
#[cfg(test)]
mod sim;
pub mod sink;
pub mod source;
pub mod stats;
pub mod template;
pub mod transform;
pub mod value;
