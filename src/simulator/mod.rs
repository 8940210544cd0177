//! Servers to try roomcast against: the embedded Kafka broker.

pub mod kafka;
