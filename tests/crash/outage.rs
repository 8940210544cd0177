//! The broker itself killed with -9 under load and started again on the same folder, while the daemon
//! and the producer live on.

use std::time::Duration;

use super::bed::{self, Feed, Providers, Topic};
use super::judge;
use super::load::{Producer, Script};
use super::seed;
use super::support::daemon::Daemon;
use super::support::kafka::Kafka;
use super::support::nats::Nats;
use super::support::process::Line;

/// A broker's start, the daemon's way back, on a busy machine.
const COMEBACK: Duration = Duration::from_secs(90);
/// The most messages between two kills.
const LIFE: u64 = 800;

#[test]
fn p1_kafka_is_killed_under_a_daemon() {
    let seed = seed("Kafka killed", 15);
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut kafka = Kafka::start(&[]);
    let providers = Providers::start(1);
    let topic = Topic::create(&kafka, 4);
    let mut daemon = Daemon::start(&topic.config(&kafka, &providers));
    let producer = Producer::start(topic.feed(&kafka), Script::new(4, 20, seed), &providers);
    for is_long in [false, true] {
        providers.counters().await_more(rng.u64(1..=LIFE), COMEBACK);
        let mark = daemon.process().mark();
        kafka.kill();
        if is_long {
            // The session ends, and with it the assignment; what is held was finished and cannot be committed.
            let given_up = |line: &Line| {
                line.text.contains("partitions given up") && line.text.contains("\"source\":\"live\"")
            };
            daemon.process().await_line_from(mark, "the end of the session", COMEBACK, given_up);
        }
        kafka.restart();
    }
    providers.counters().await_more(LIFE, COMEBACK);
    let events = producer.finish();
    topic.await_finished(&kafka, COMEBACK);
    let logs = judge::assert_promises(&events, &providers);
    judge::assert_few_in_outages("Kafka killed", &events, &logs, 2);
    assert_eq!(daemon.stop().code(), Some(0));
}

#[test]
fn p1_nats_is_killed_under_a_daemon() {
    let seed = seed("NATS killed", 16);
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut nats = Nats::start();
    bed::create_stream(&nats);
    let providers = Providers::start(1);
    let mut daemon = Daemon::start(&bed::nats_config(&nats, &providers));
    let feed = Feed::Nats { jetstream: nats.jetstream() };
    let producer = Producer::start(feed, Script::new(1, 40, seed), &providers);
    for _ in 0..3 {
        providers.counters().await_more(rng.u64(1..=LIFE), COMEBACK);
        nats.kill();
        nats.restart();
    }
    providers.counters().await_more(LIFE, COMEBACK);
    let events = producer.finish();
    bed::await_acked(&nats, COMEBACK);
    let logs = judge::assert_promises(&events, &providers);
    judge::assert_few_in_outages("NATS killed", &events, &logs, 3);
    assert_eq!(daemon.stop().code(), Some(0));
}
