//! Delivery: from a sink's buffer to its store, written once for all sinks.
