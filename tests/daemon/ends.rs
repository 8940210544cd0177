//! Beginnings and ends: a drain under load, a broker that is away at the start, a broker that dies
//! and comes back under load.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;

use crate::bed::{Bed, line_route, lines, lines_from, on_both};
use crate::support::daemon::Daemon;
use crate::support::kafka::Kafka;
use crate::support::oracle::judge;
use crate::support::provider::{Kind, Provider};
use crate::support::{ask_until, nats::Nats};

const PATIENCE: Duration = Duration::from_secs(90);
const ROOMS: u64 = 40;

/// Answers late enough that calls are always away.
fn slow() -> Provider {
    Provider::start(Kind::Yunxin, &["--no-limits", "--latency", "60ms"])
}

fn config(bed: &Bed, provider: &Provider) -> String {
    let quota = "quota = { calls_per_second = 200, room_messages_per_second = 100 }";
    [provider.account("match", quota), bed.source(""), line_route("match", "")].concat()
}

#[track_caller]
fn await_accepted(provider: &Provider, at_least: u64) {
    ask_until(&format!("{at_least} acceptances"), PATIENCE, || {
        provider.accepted().filter(|accepted| *accepted >= at_least)
    });
}

on_both!(a_drain_under_load_loses_and_repeats_nothing);

fn a_drain_under_load_loses_and_repeats_nothing(bed: &Bed) {
    let provider = slow();
    let owed = lines(ROOMS, 1_200);
    bed.publish_lines(&owed);
    let mut daemon = Daemon::start_ready(&config(bed, &provider));
    for share in [200, 500] {
        await_accepted(&provider, share);
        assert_eq!(daemon.stop().code(), Some(0), "drained");
        let away = provider.stats()["accepted"].as_u64();
        assert!(away < Some(1_200), "the stop came under load");
        daemon.restart();
    }
    bed.await_finished(PATIENCE);
    assert_eq!(daemon.stop().code(), Some(0));
    let entries = provider.log();
    let judgement = judge(&owed.into_iter().collect(), &entries, &BTreeSet::new());
    judgement.assert_kept();
    assert_eq!(
        (judgement.repeated_marked, judgement.repeated_unmarked),
        (0, Vec::new()),
        "a drain leaves nothing open"
    );
    provider.assert_content();
    assert_eq!(bed.letters_if_any(), []);
}

/// The broker is away at the start, comes, dies by kill -9 under load, and comes back.
fn a_broker_that_comes_and_goes(mut bed: Bed) {
    let provider = slow();
    let first = lines(ROOMS, 1_200);
    bed.publish_lines(&first);
    bed.kill();
    let mut daemon = Daemon::start(&config(&bed, &provider));
    daemon.process().await_line("source waits for its broker", PATIENCE);
    ask_until("/livez", PATIENCE, || daemon.get("/livez").filter(|answer| answer.status == 200));
    assert_eq!(daemon.get("/readyz").map(|answer| answer.status), Some(503), "not joined yet");
    assert_eq!(daemon.metric("roomcast_source_state", "state=\"ready\""), Some(0.0));
    assert_eq!(provider.stats()["accepted"], json!(0));
    bed.restart();
    daemon.await_ready();
    await_accepted(&provider, 300);
    bed.kill();
    // What is held goes on being sent; what it becomes cannot be told to anybody.
    await_accepted(&provider, 400);
    assert_eq!(daemon.get("/livez").map(|answer| answer.status), Some(200));
    bed.restart();
    let second = lines_from(1_200, ROOMS, 200);
    bed.publish_lines(&second);
    bed.await_finished(PATIENCE);
    assert_eq!(daemon.stop().code(), Some(0));
    let owed: BTreeSet<_> = first.into_iter().chain(second).collect();
    let judgement = judge(&owed, &provider.log(), &BTreeSet::new());
    judgement.assert_kept();
    assert_eq!(judgement.repeated_unmarked, Vec::<String>::new(), "repeats say so");
    assert_eq!(judgement.refused.len(), 0, "{:?}", judgement.refused);
    assert_eq!(bed.letters_if_any(), []);
}

#[test]
fn kafka_comes_and_goes() {
    a_broker_that_comes_and_goes(Bed::kafka_on(Kafka::start(&[]), &[]));
}

#[test]
fn nats_comes_and_goes() {
    a_broker_that_comes_and_goes(Bed::nats_on(Nats::start()));
}
