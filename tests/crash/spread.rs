//! Three daemons share one stream with `spread = { partitions = 8 }`: they join one after another, one
//! is killed and comes back, one is told to stop and comes back, all under load. And one that is frozen
//! beyond its pins.

use std::time::{Duration, Instant};

use super::bed::{self, Feed, Providers};
use super::judge::{self, Moment};
use super::load::{Producer, Script};
use super::seed;
use super::support::ask_until;
use super::support::daemon::Daemon;
use super::support::nats::Nats;

const PARTITIONS: u32 = 8;
/// Several of them send at once: each has a third of the quotas.
const SHARING: &str = "share = \"static\", max_replicas = 3";
/// A takeover that waits for a dead reader's pins (11 s with an `ack_wait` of one), on a busy machine.
const REBALANCE: Duration = Duration::from_secs(60);
/// Messages between two changes.
const MEANWHILE: u64 = 300;

fn assigned(daemon: &Daemon) -> u32 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a handful of partitions")]
    daemon.metric("roomcast_assigned_partitions", "source=\"live\"").map_or(0, |count| count as u32)
}

/// Waits until these daemons have all partitions, in parts within one of even, and tells how long
/// that took.
#[expect(clippy::print_stderr, reason = "how long it takes is a figure worth seeing")]
#[track_caller]
fn await_shared(what: &str, daemons: &[&Daemon]) {
    let began = Instant::now();
    ask_until(&format!("even parts: {what}"), REBALANCE, || {
        let parts: Vec<u32> = daemons.iter().map(|daemon| assigned(daemon)).collect();
        let spread = parts.iter().max()? - parts.iter().min()?;
        (parts.iter().sum::<u32>() == PARTITIONS && spread <= 1).then_some(())
    });
    eprintln!("partitions on NATS, {what}: even after {:.1?}", began.elapsed());
}

#[test]
fn p1_p2_p3_daemons_share_the_partitions_of_a_stream_on_nats() {
    let seed = seed("partitions on NATS", 18);
    let nats = Nats::start();
    bed::create_stream(&nats);
    let providers = Providers::start_shared(SHARING);
    let counters = providers.counters();
    let config = bed::spread_config(&nats, &providers, PARTITIONS);
    let mut one = Daemon::start_ready(&config);
    let feed = Feed::Nats { jetstream: nats.jetstream() };
    let producer = Producer::start(feed, Script::new(1, 40, seed), &providers);
    await_shared("one alone", &[&one]);
    counters.await_more(MEANWHILE, REBALANCE);
    let mut two = Daemon::start_ready(&config);
    await_shared("a second joins", &[&one, &two]);
    let mut three = Daemon::start_ready(&config);
    await_shared("a third joins", &[&one, &two, &three]);
    counters.await_more(MEANWHILE, REBALANCE);

    three.kill();
    let end = Moment::now(&providers);
    await_shared("the third is killed", &[&one, &two]);
    counters.await_more(MEANWHILE, REBALANCE);
    three.restart();
    await_shared("it comes back", &[&one, &two, &three]);
    counters.await_more(MEANWHILE, REBALANCE);

    assert_eq!(one.stop().code(), Some(0));
    await_shared("the first stops", &[&two, &three]);
    counters.await_more(MEANWHILE, REBALANCE);
    one.restart();
    await_shared("it comes back", &[&one, &two, &three]);
    counters.await_more(MEANWHILE, REBALANCE);

    let events = producer.finish();
    bed::await_all_acked(&nats, PARTITIONS, REBALANCE);
    let logs = judge::assert_promises(&events, &providers);
    // Nothing but the kill makes anything go out twice: joining and leaving do not.
    judge::assert_few("partitions on NATS", &judge::repeats(&logs, &[end]));
    assert_eq!((one.stop().code(), two.stop().code(), three.stop().code()), (Some(0), Some(0), Some(0)));
}

/// One that is frozen for longer than its pins last does not know that others read: what it held goes out
/// a second time until it learns, which is at once (the stated exception of P2). It is given partitions
/// again, and nothing else is lost, out of order or unmarked.
#[test]
fn p2_a_frozen_daemon_is_given_partitions_again_when_it_wakes_on_nats() {
    let seed = seed("a frozen reader of partitions on NATS", 19);
    let nats = Nats::start();
    bed::create_stream(&nats);
    // What it sends before it learns is in its own quota, beside the others'.
    let providers = Providers { sharing: format!(", {SHARING}"), ..Providers::start(2) };
    let counters = providers.counters();
    let config = bed::spread_config(&nats, &providers, PARTITIONS);
    let mut one = Daemon::start_ready(&config);
    let mut two = Daemon::start_ready(&config);
    let feed = Feed::Nats { jetstream: nats.jetstream() };
    let producer = Producer::start(feed, Script::new(1, 40, seed), &providers);
    await_shared("two", &[&one, &two]);
    counters.await_more(MEANWHILE, REBALANCE);

    one.process().signal(libc::SIGSTOP);
    await_shared("one is frozen", &[&two]);
    counters.await_more(MEANWHILE, REBALANCE);
    one.process().signal(libc::SIGCONT);
    await_shared("it wakes", &[&one, &two]);
    counters.await_more(MEANWHILE, REBALANCE);

    let events = producer.finish();
    bed::await_all_acked(&nats, PARTITIONS, REBALANCE);
    let (_, unmarked) = judge::assert_all_but_marks(&events, &providers);
    // A call for each room of Yunxin and each of two priorities.
    assert!(unmarked <= 40, "{unmarked} repeats on Yunxin without a mark");
    assert_eq!((one.stop().code(), two.stop().code()), (Some(0), Some(0)));
}
