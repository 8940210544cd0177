//! Dead letters as people work them: the real binary and the daemon's API on real Kafka and real NATS.
//! Letters are written by a daemon that met bad events, or by the brokers' own writers.
//!
//! `LETTERS_MANY=1000000` makes the test of bounded memory as large as that. Needs `.ci/brokers.sh`.

#[path = "../support/mod.rs"]
mod support;

mod api;
mod bed;
mod chains;
mod many;
mod page;
mod page_text;
mod replay_api;
mod worked;
mod wrong;
