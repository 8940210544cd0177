//! Two daemons in one Kafka group: one joins, one is killed, joins again, the other is told to stop
//! and joins again, all under load.

use std::time::Duration;

use super::bed::{Providers, Topic};
use super::judge::{self, Moment};
use super::load::{Producer, Script};
use super::seed;
use super::support::ask_until;
use super::support::daemon::Daemon;
use super::support::kafka::Kafka;

const PARTITIONS: i32 = 6;
/// A rebalance that waits for a dead member's session, on a busy machine.
const REBALANCE: Duration = Duration::from_secs(60);
/// Messages between two changes of the group.
const MEANWHILE: u64 = 300;

fn assigned(daemon: &Daemon) -> i32 {
    #[expect(clippy::cast_possible_truncation, reason = "a handful of partitions")]
    daemon.metric("roomcast_assigned_partitions", "source=\"live\"").map_or(0, |count| count as i32)
}

/// Waits until these daemons have all partitions, in equal parts.
#[track_caller]
fn await_shared(daemons: &[&Daemon]) {
    let each = PARTITIONS / i32::try_from(daemons.len()).expect("two");
    ask_until(&format!("{each} partitions each"), REBALANCE, || {
        daemons.iter().all(|daemon| assigned(daemon) == each).then_some(())
    });
}

#[test]
fn p2_daemons_join_and_leave_a_group_under_load() {
    let seed = seed("a group on Kafka", 13);
    let kafka = Kafka::shared();
    let providers = Providers::start(2);
    let counters = providers.counters();
    let topic = Topic::create(&kafka, PARTITIONS);
    let config = topic.config(&kafka, &providers);
    let mut one = Daemon::start_ready(&config);
    let script = Script::new(usize::try_from(PARTITIONS).expect("six"), 20, seed);
    let producer = Producer::start(topic.feed(&kafka), script, &providers);
    counters.await_more(MEANWHILE, REBALANCE);

    let mut two = Daemon::start_ready(&config);
    await_shared(&[&one, &two]);
    counters.await_more(MEANWHILE, REBALANCE);

    one.kill();
    let end = Moment::now(&providers);
    await_shared(&[&two]);
    counters.await_more(MEANWHILE, REBALANCE);

    one.restart();
    await_shared(&[&one, &two]);
    counters.await_more(MEANWHILE, REBALANCE);

    assert_eq!(two.stop().code(), Some(0));
    await_shared(&[&one]);
    counters.await_more(MEANWHILE, REBALANCE);

    two.restart();
    await_shared(&[&one, &two]);
    counters.await_more(MEANWHILE, REBALANCE);

    let events = producer.finish();
    topic.await_finished(&kafka, REBALANCE);
    let logs = judge::assert_promises(&events, &providers);
    // Nothing but the kill makes anything go out twice: joining and leaving do not.
    judge::assert_few("a group on Kafka", &judge::repeats(&logs, &[end]));
    assert_eq!((one.stop().code(), two.stop().code()), (Some(0), Some(0)));
}
