//! A dead-letter topic that cannot be written: the intake stops and says so, nothing is lost, and
//! all goes on when it is mended.

use std::collections::BTreeSet;
use std::time::Duration;

use async_nats::jetstream::consumer::pull;

use crate::bed::{Bed, Event, LETTERS, STREAM, await_metric, line_route, lines};
use crate::support::daemon::Daemon;
use crate::support::kafka::Kafka;
use crate::support::oracle::judge;
use crate::support::provider::{Kind, Provider};
use crate::support::{ask_until, block_on};

/// A failed letter is tried again after up to a minute; here it is mended within a few seconds.
const PATIENCE: Duration = Duration::from_secs(90);
/// Records that may be held: less than there is poison.
const HELD: usize = 40;
const POISON: usize = 100;

/// Publishes more poison than may be held, and lines behind it; `mend` makes letters possible.
fn stops_and_goes_on(bed: &Bed, source: &str, mend: impl FnOnce()) {
    let provider = Provider::start(Kind::Yunxin, &["--no-limits"]);
    let config = [
        format!("[limits]\nmax_held_records = {HELD}\n\n"),
        provider.account("match", ""),
        bed.source(source),
        line_route("match", ""),
    ];
    let mut daemon = Daemon::start_ready(&config.concat());
    let owed = lines(1, 20);
    bed.publish((0..POISON).map(|n| Event::new("1001", format!("poison {n}"))));
    bed.publish_lines(&owed);
    daemon.process().await_line("the dead-letter topic cannot be written", PATIENCE);
    ask_until("the intake to stop", PATIENCE, || {
        daemon.metric("roomcast_intake_open", "source=\"main\"").filter(|open| *open == 0.0)
    });
    await_metric(&daemon, "roomcast_letter_write_failures_total", "source=\"main\"", 1.0, PATIENCE);
    await_metric(&daemon, "roomcast_letters_waiting", "", 1.0, PATIENCE);
    let status = daemon.status().expect("it answers");
    assert_eq!(status["sources"][0]["paused_by"], "max_held_records", "{status}");
    assert_eq!(
        daemon.metric("roomcast_records_settled_total", "source=\"main\""),
        Some(0.0),
        "nothing is settled"
    );
    assert_eq!(daemon.get("/livez").map(|answer| answer.status), Some(200));
    mend();
    bed.await_finished(PATIENCE);
    daemon.process().await_line("letters can be written again", PATIENCE);
    assert_eq!(daemon.metric("roomcast_intake_open", "source=\"main\""), Some(1.0));
    let judgement = judge(&owed.into_iter().collect(), &provider.log(), &BTreeSet::new());
    judgement.assert_kept();
    provider.assert_content();
    // By where their records stand: one that was being written without its value, because the topic
    // was too small for it, may be taken in that shape when it grows.
    let letters = bed.letters();
    let places: BTreeSet<&str> = letters.iter().map(|letter| &*letter.headers["roomcast-offset"]).collect();
    assert_eq!((letters.len(), places.len()), (POISON, POISON), "one letter for each");
    assert_eq!(daemon.stop().code(), Some(0));
}

#[test]
fn kafka_missing() {
    let bed = Bed::kafka_on(Kafka::start(&["auto.create.topics.enable=false"]), &[]);
    let mend = || {
        let Bed::Kafka { kafka, .. } = &bed else { unreachable!("it was made as one") };
        kafka.create_topic(&bed.dead_letter(), 1, &[]);
    };
    stops_and_goes_on(&bed, "create_dead_letter = false", mend);
}

#[test]
fn kafka_too_small() {
    let bed = Bed::kafka();
    let Bed::Kafka { kafka, .. } = &bed else { unreachable!("it was made as one") };
    kafka.create_topic(&bed.dead_letter(), 1, &[("max.message.bytes", "100")]);
    stops_and_goes_on(&bed, "", || kafka.set_topic(&bed.dead_letter(), "max.message.bytes", "1000000"));
}

#[test]
fn nats_missing_at_the_start() {
    let bed = Bed::nats();
    let Bed::Nats(nats) = &bed else { unreachable!("it was made as one") };
    // Made by hand, as `create = false` wants it; the dead-letter stream goes once the source reads.
    let jetstream = nats.jetstream();
    let durable = pull::Config {
        durable_name: Some("roomcast".to_owned()),
        filter_subject: bed.topic().to_owned(),
        ..pull::Config::default()
    };
    nats.create_stream(LETTERS, &[&format!("{LETTERS}.>")]);
    block_on(jetstream.create_consumer_on_stream(durable, STREAM)).expect("the server makes consumers");
    let provider = Provider::start(Kind::Yunxin, &[]);
    let config = [provider.account("match", ""), bed.source("create = false"), line_route("match", "")];
    let mut first = Daemon::start_ready(&config.concat());
    bed.publish_lines(&lines(1, 1));
    bed.await_finished(PATIENCE);
    assert_eq!(first.stop().code(), Some(0));
    block_on(jetstream.delete_stream(LETTERS)).expect("the server deletes streams");
    // At the start it is waited for, with a line that says what is missing.
    let mut second = Daemon::start(&config.concat());
    second.process().await_line("dead-letter stream MATCH_DLQ does not exist", PATIENCE);
    ask_until("/livez", PATIENCE, || second.get("/livez").filter(|answer| answer.status == 200));
    assert_eq!(second.get("/readyz").map(|answer| answer.status), Some(503));
    nats.create_stream(LETTERS, &[&format!("{LETTERS}.>")]);
    second.await_ready();
    assert_eq!(second.stop().code(), Some(0));
}

#[test]
fn nats_taking_other_subjects() {
    let bed = Bed::nats();
    let Bed::Nats(nats) = &bed else { unreachable!("it was made as one") };
    // Letters go nowhere: the stream that is there takes other subjects.
    nats.create_stream(LETTERS, &["elsewhere.>"]);
    stops_and_goes_on(&bed, "create = true", || {
        let jetstream = nats.jetstream();
        block_on(jetstream.delete_stream(LETTERS)).expect("the server deletes streams");
        nats.create_stream(LETTERS, &[&format!("{LETTERS}.>")]);
    });
}
