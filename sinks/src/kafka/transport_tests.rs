//! Tests of the way to the brokers, with a broker of our own.
