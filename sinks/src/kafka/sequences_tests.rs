//! Tests of the numbers of batches.
