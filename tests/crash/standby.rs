//! Two daemons on one durable with `spread = "one_active"`: one reads, the other stands by and takes
//! over when the first is killed or told to stop.

use std::time::{Duration, Instant};

use super::bed::{self, Feed, Providers};
use super::judge::{self, Moment};
use super::load::{Producer, Script};
use super::seed;
use super::support::ask_until;
use super::support::daemon::Daemon;
use super::support::nats::Nats;

/// A takeover that waits for a dead holder's pin (11 s with an `ack_wait` of one), on a busy machine.
const TAKEOVER: Duration = Duration::from_secs(60);
/// A takeover from a holder that gave its pin back waits for nothing: less than the pin would last.
const QUICK: Duration = Duration::from_secs(8);
/// Calls that may be away to Yunxin: one for each of its 20 rooms and two priorities.
const LANES: usize = 40;
/// Messages between two changes.
const MEANWHILE: u64 = 300;

fn accepted(daemon: &Daemon) -> f64 {
    daemon.metric("roomcast_messages_total", "fate=\"accepted\"").unwrap_or(0.0)
}

#[track_caller]
fn assert_stands_by(daemon: &Daemon) {
    let received = daemon.metric("roomcast_records_received_total", "source=\"live\"");
    assert_eq!(received.unwrap_or(0.0), 0.0, "records that a standby was given");
    assert_eq!(daemon.get("/readyz").map(|answer| answer.status), Some(200), "a standby is ready");
}

#[track_caller]
fn await_sends(daemon: &Daemon) -> Duration {
    let began = Instant::now();
    ask_until("the standby to take over", TAKEOVER, || (accepted(daemon) > 0.0).then_some(()));
    began.elapsed()
}

#[test]
fn p2_a_standby_takes_over_on_nats() {
    let seed = seed("a standby on NATS", 14);
    let nats = Nats::start();
    bed::create_stream(&nats);
    let providers = Providers::start(2);
    let counters = providers.counters();
    let config = bed::nats_config(&nats, &providers);
    let mut one = Daemon::start_ready(&config);
    let feed = Feed::Nats { jetstream: nats.jetstream() };
    let producer = Producer::start(feed, Script::new(1, 40, seed), &providers);
    counters.await_more(MEANWHILE, TAKEOVER);

    let mut two = Daemon::start_ready(&config);
    counters.await_more(MEANWHILE, TAKEOVER);
    assert_stands_by(&two);

    one.kill();
    let end = Moment::now(&providers);
    await_sends(&two);
    one.restart();
    one.await_ready();
    counters.await_more(MEANWHILE, TAKEOVER);
    assert_stands_by(&one);

    assert_eq!(two.stop().code(), Some(0));
    let took = await_sends(&one);
    assert!(took < QUICK, "the pin was given back, and the takeover took {took:?} all the same");
    counters.await_more(MEANWHILE, TAKEOVER);

    let events = producer.finish();
    bed::await_acked(&nats, TAKEOVER);
    let logs = judge::assert_promises(&events, &providers);
    judge::assert_few("a standby on NATS", &judge::repeats(&logs, &[end]));
    assert_eq!(one.stop().code(), Some(0));
}

/// A holder that is frozen for longer than its pin lasts does not know that another reads: when it
/// goes on, what it held goes out a second time until it learns, which is at once. Nothing is lost, no
/// id changes, no first acceptance is out of order, and the repeats say so, but for the calls that were
/// away (the stated exception of P2).
#[test]
fn p2_a_frozen_holder_stands_by_when_it_wakes_on_nats() {
    let seed = seed("a frozen holder on NATS", 17);
    let nats = Nats::start();
    bed::create_stream(&nats);
    let providers = Providers::start(2);
    let counters = providers.counters();
    let config = bed::nats_config(&nats, &providers);
    let mut one = Daemon::start_ready(&config);
    let feed = Feed::Nats { jetstream: nats.jetstream() };
    let producer = Producer::start(feed, Script::new(1, 40, seed), &providers);
    counters.await_more(MEANWHILE, TAKEOVER);
    let mut two = Daemon::start_ready(&config);

    one.process().signal(libc::SIGSTOP);
    await_sends(&two);
    counters.await_more(MEANWHILE, TAKEOVER);
    let mark = one.process().mark();
    one.process().signal(libc::SIGCONT);
    one.process()
        .await_line_from(mark, "that it lost the pin", TAKEOVER, |line| line.text.contains("lost: "));
    counters.await_more(MEANWHILE, TAKEOVER);

    let events = producer.finish();
    bed::await_acked(&nats, TAKEOVER);
    let (_, unmarked) = judge::assert_all_but_marks(&events, &providers);
    tell_unmarked(unmarked);
    assert!(unmarked <= LANES, "{unmarked} repeats on Yunxin without a mark");
    assert_eq!((one.stop().code(), two.stop().code()), (Some(0), Some(0)));
}

#[expect(clippy::print_stderr, reason = "how much the stated exception costs is a figure worth seeing")]
fn tell_unmarked(count: usize) {
    eprintln!("a frozen holder on NATS: {count} posted again without a mark");
}
