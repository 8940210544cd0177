//! roomcast brings events from Kafka and NATS JetStream into the chatrooms of IM providers.

pub mod broker;
pub mod core;
pub mod simulator;
