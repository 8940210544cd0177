//! One daemon under load, killed with -9 again and again at random moments, and started again.

use std::time::Duration;

use super::bed::{self, Feed, Providers, Topic};
use super::judge::{self, Moment, Repeats};
use super::load;
use super::support::daemon::Daemon;
use super::support::kafka::Kafka;
use super::support::nats::Nats;
use super::{number, seed};

/// Between the start of a daemon and its first acceptance: a dead member's session or pin, the hold
/// of the quotas, on a busy machine.
const COMEBACK: Duration = Duration::from_secs(60);
/// The most messages that a daemon gets to send before it is killed.
const LIFE: u64 = 350;
/// What was finished longer ago than this when its daemon was killed must not be posted again (P9):
/// the commit's second, and what a busy machine adds until the broker has taken it.
const COMMITTED: Duration = Duration::from_secs(3);

/// Kills the daemon `CRASH_KILLS` times, after a random number of acceptances each.
fn kill_again_and_again(daemon: &mut Daemon, providers: &Providers, rng: &mut fastrand::Rng) -> Vec<Moment> {
    let counters = providers.counters();
    let mut ends = Vec::new();
    for _ in 0..number("CRASH_KILLS", 10) {
        // Now and then before it has sent anything.
        let life = if rng.u8(0..8) == 0 { 0 } else { rng.u64(1..=LIFE) };
        daemon.await_ready();
        if life > 0 {
            counters.await_accepted(counters.accepted() + life, COMEBACK);
        }
        daemon.kill();
        ends.push(Moment::now(providers));
        daemon.restart();
    }
    ends
}

/// Events that last for all kills, and a while longer.
fn events(partitions: i32, rooms: u32, seed: u64) -> Vec<load::Event> {
    let count = number("CRASH_KILLS", 10) * LIFE + 500;
    load::events(partitions, rooms, usize::try_from(count).expect("it fits"), seed)
}

#[expect(clippy::print_stderr, reason = "how much is posted again is a figure worth seeing")]
fn tell(name: &str, seed: u64, repeats: &[Repeats]) {
    for (kill, Repeats { count, oldest }) in repeats.iter().enumerate() {
        eprintln!("{name}, seed {seed}, kill {}: {count} posted again, the oldest {oldest:?} old", kill + 1);
    }
}

#[track_caller]
fn assert_few(repeats: &[Repeats]) {
    for (kill, Repeats { count, oldest }) in repeats.iter().enumerate() {
        assert!(*oldest <= COMMITTED, "kill {}: {count} posted again, the oldest {oldest:?} old", kill + 1);
    }
}

#[test]
fn p9_a_daemon_on_kafka_is_killed_again_and_again() {
    let seed = seed(11);
    let kafka = Kafka::shared();
    let providers = Providers::start(1);
    let topic = Topic::create(&kafka, 4);
    let events = events(4, 20, seed);
    let feed = Feed::Kafka { kafka: Kafka::shared(), topic: topic.name.clone() };
    let mut daemon = Daemon::start(&topic.config(&kafka, &providers));
    let producer = load::produce(feed, events.clone(), &providers);
    let ends = kill_again_and_again(&mut daemon, &providers, &mut fastrand::Rng::with_seed(seed));
    producer.join().expect("all is produced");
    topic.await_finished(&kafka, COMEBACK);
    let logs = judge::assert_promises(&events, &providers);
    let repeats = judge::repeats(&logs, &ends);
    tell("Kafka", seed, &repeats);
    assert_few(&repeats);
    assert_eq!(daemon.stop().code(), Some(0));
}

#[test]
fn p9_a_daemon_on_nats_is_killed_again_and_again() {
    let seed = seed(12);
    let nats = Nats::start();
    bed::create_stream(&nats);
    let providers = Providers::start(1);
    let events = events(1, 40, seed);
    let mut daemon = Daemon::start(&bed::nats_config(&nats, &providers));
    let producer = load::produce(Feed::Nats { jetstream: nats.jetstream() }, events.clone(), &providers);
    let ends = kill_again_and_again(&mut daemon, &providers, &mut fastrand::Rng::with_seed(seed));
    producer.join().expect("all is produced");
    bed::await_acked(&nats, COMEBACK);
    let logs = judge::assert_promises(&events, &providers);
    let repeats = judge::repeats(&logs, &ends);
    tell("NATS", seed, &repeats);
    assert_few(&repeats);
    assert_eq!(daemon.stop().code(), Some(0));
}
