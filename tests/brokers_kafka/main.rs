//! The Kafka source on a real Apache Kafka (`ROOMCAST_TEST_KAFKA`), and on the embedded broker
//! where a broker has to be away. Every test has topics and a group of its own.

mod archive;
mod bed;
mod reading;
mod rebalance;
mod restart;
mod writing;
