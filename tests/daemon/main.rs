//! The real binary on real Kafka and real NATS, against the provider simulators: what a person who
//! runs roomcast relies on, scenario by scenario, most of them on both brokers.
//!
//! Judged by the oracle from the simulators' logs and by what the brokers hold, never by what
//! roomcast says of itself, except where what it says is the promise (metrics, status, log). Every
//! test has topics, streams, ports and simulators of its own, so all run at once. Run with
//! `.ci/test --test daemon`.

#[path = "../support/mod.rs"]
mod support;

mod bed;
mod cloud;
mod conflation;
mod directories;
mod ends;
mod flood;
mod headline;
mod kinds;
mod live;
mod poison;
mod reload;
mod renewed;
mod replay;
mod replay_readers;
mod secrets;
mod secure;
mod several;
mod tap;
mod throttle;
mod trouble;
mod unwritable;
mod waiting;
