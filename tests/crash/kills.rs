//! One daemon under load, killed with -9 again and again at random moments, and started again.

use std::time::Duration;

use super::bed::{self, Feed, Providers, Topic};
use super::judge::{self, Moment};
use super::load::{Producer, Script};
use super::support::daemon::Daemon;
use super::support::kafka::Kafka;
use super::support::nats::Nats;
use super::{number, seed};

/// Between the start of a daemon and its first acceptance: a dead member's session or pin, the hold
/// of the quotas, on a busy machine.
const COMEBACK: Duration = Duration::from_secs(60);
/// The most messages that a daemon gets to send before it is killed.
const LIFE: u64 = 1_200;

/// Kills the daemon `CRASH_KILLS` times, after a random number of acceptances each, and tells what
/// `look` saw each time while none ran.
fn kill_again_and_again<T>(
    daemon: &mut Daemon,
    providers: &Providers,
    rng: &mut fastrand::Rng,
    look: impl Fn() -> T,
) -> Vec<(Moment, T)> {
    let kills = number("CRASH_KILLS", 10);
    let kill = |_| {
        // Now and then before it has sent anything.
        let life = if rng.u8(0..8) == 0 { 0 } else { rng.u64(1..=LIFE) };
        daemon.await_ready();
        if life > 0 {
            providers.counters().await_more(life, COMEBACK);
        }
        daemon.kill();
        let end = (Moment::now(providers), look());
        daemon.restart();
        end
    };
    (0..kills).map(kill).collect()
}

fn moments<T>(ends: &[(Moment, T)]) -> Vec<Moment> {
    ends.iter().map(|(moment, _)| *moment).collect()
}

#[test]
fn p9_a_daemon_on_kafka_is_killed_again_and_again() {
    let seed = seed("kills on Kafka", 11);
    let kafka = Kafka::shared();
    let providers = Providers::start(1);
    let topic = Topic::create(&kafka, 4);
    let mut daemon = Daemon::start(&topic.config(&kafka, &providers));
    let producer = Producer::start(topic.feed(&kafka), Script::new(4, 20, seed), &providers);
    let mut rng = fastrand::Rng::with_seed(seed);
    let committed = || kafka.committed(&topic.group, &topic.name);
    let ends = kill_again_and_again(&mut daemon, &providers, &mut rng, committed);
    let events = producer.finish();
    topic.await_finished(&kafka, COMEBACK);
    let logs = judge::assert_promises(&events, &providers);
    judge::assert_few("kills on Kafka", &judge::repeats(&logs, &moments(&ends)));
    judge::assert_commits_hold(&events, &logs, &ends);
    assert_eq!(daemon.stop().code(), Some(0));
}

#[test]
fn p9_a_daemon_on_nats_is_killed_again_and_again() {
    let seed = seed("kills on NATS", 12);
    let nats = Nats::start();
    bed::create_stream(&nats);
    let providers = Providers::start(1);
    let mut daemon = Daemon::start(&bed::nats_config(&nats, &providers));
    let feed = Feed::Nats { jetstream: nats.jetstream() };
    let producer = Producer::start(feed, Script::new(1, 40, seed), &providers);
    let mut rng = fastrand::Rng::with_seed(seed);
    let ends = kill_again_and_again(&mut daemon, &providers, &mut rng, || ());
    let events = producer.finish();
    bed::await_acked(&nats, COMEBACK);
    let logs = judge::assert_promises(&events, &providers);
    judge::assert_few("kills on NATS", &judge::repeats(&logs, &moments(&ends)));
    assert_eq!(daemon.stop().code(), Some(0));
}
