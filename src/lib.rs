//! roomcast brings events from Kafka and NATS JetStream into the chatrooms of IM providers.

pub mod admin;
pub mod app;
pub mod broker;
pub mod cli;
pub mod clock;
pub mod config;
pub mod core;
pub mod driver;
pub mod http;
pub mod simulator;
pub mod telemetry;
