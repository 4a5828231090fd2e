//! Tests of the sink: configuration, encoding, cutting.
