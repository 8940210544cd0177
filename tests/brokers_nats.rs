//! The NATS source on a real nats-server (2.15.1): order and no loss through everything that goes
//! wrong between them, letters once, the table, and the ways to log in.
//!
//! `ROOMCAST_TEST_NATS_SERVER` names the server's binary; without it every test here fails.

#[path = "nats_bed/archive.rs"]
mod archive;
#[path = "nats_bed/buckets.rs"]
mod buckets;
mod nats_bed;
#[path = "nats_bed/standby.rs"]
mod standby;

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use nats_bed::{
    LONG, Running, Server, broker, consumer_info, consumer_until, letter, numbers, publish, text,
};
use roomcast::broker::{Command, Status};
use roomcast::core::model::{Epoch, PartitionId};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p1_p2_five_thousand_messages_arrive_in_order_and_once() {
    let server = Server::start("");
    let mut source = Running::ready(&server, 1_000, &[]).await;
    let jetstream = server.jetstream().await;
    let publisher = tokio::spawn({
        let jetstream = jetstream.clone();
        async move { publish(&jetstream, 0..5_000).await }
    });
    let mut arrived = Vec::new();
    while arrived.len() < 5_000 {
        let record = source.record().await;
        source.settle(&record);
        arrived.push(record);
    }
    publisher.await.unwrap();
    assert_eq!(numbers(&arrived), (0..5_000).collect::<Vec<_>>());
    assert!(arrived.iter().all(|record| !record.maybe_tried), "nobody tried any of them");
    let third = &arrived[2];
    assert_eq!(
        (&*third.origin.stream, &*third.origin.topic, third.origin.offset, third.key.as_deref()),
        ("MATCH", "match.2.events", 3, Some(&b"2"[..]))
    );
    consumer_until(&jetstream, |info| info.num_ack_pending == 0 && info.num_pending == 0).await;
    assert_eq!(consumer_info(&jetstream).await.num_redelivered, 0);
    assert_eq!(source.epochs, [1]);
    source.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn held_messages_are_not_redelivered_while_progress_is_told() {
    let server = Server::start("");
    let mut source = Running::ready(&server, 100, &[]).await;
    let jetstream = server.jetstream().await;
    publish(&jetstream, 0..10).await;
    let held = source.records(10).await;
    assert!(source.records_within(seconds(6)).await.is_empty(), "three times ack_wait");
    let info = consumer_info(&jetstream).await;
    assert_eq!((info.num_redelivered, info.num_ack_pending), (0, 10));
    assert_eq!(source.lags.last(), Some(&10), "lag counts what is held");
    held.iter().for_each(|record| source.settle(record));
    consumer_until(&jetstream, |info| info.ack_floor.stream_sequence == 10).await;
    source.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p1_p2_a_killed_server_loses_nothing_and_repeats_nothing() {
    let mut server = Server::start("");
    let mut source = Running::ready(&server, 1_000, &[]).await;
    let mut expected = 0;
    for round in 0..3 {
        let jetstream = server.jetstream().await;
        publish(&jetstream, expected..expected + 300).await;
        let arrived = source.records(300).await;
        assert_eq!(numbers(&arrived), (expected..expected + 300).collect::<Vec<_>>(), "round {round}");
        // Some are finished just before the kill, some while the server is away, some after.
        arrived[..200].iter().for_each(|record| source.settle(record));
        publish(&jetstream, expected + 300..expected + 350).await;
        server.kill();
        arrived[200..250].iter().for_each(|record| source.settle(record));
        server.run();
        let jetstream = server.jetstream().await;
        publish(&jetstream, expected + 350..expected + 400).await;
        let rest = source.records(100).await;
        assert_eq!(
            numbers(&rest),
            (expected + 300..expected + 400).collect::<Vec<_>>(),
            "what was on its way when the server died comes before what is newer, round {round}"
        );
        arrived[250..].iter().chain(&rest).for_each(|record| source.settle(record));
        consumer_until(&jetstream, |info| info.num_ack_pending == 0 && info.num_pending == 0).await;
        expected += 400;
    }
    assert!(source.records_within(seconds(3)).await.is_empty(), "nothing arrives twice");
    assert!(source.statuses.iter().any(|status| matches!(status, Status::Waiting(_))));
    assert_eq!(source.statuses.last(), Some(&Status::Ready));
    source.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p2_p3_after_a_crash_all_that_was_pending_comes_first_in_order_and_marked() {
    let server = Server::start("");
    let mut first = Running::ready(&server, 1_000, &[]).await;
    let jetstream = server.jetstream().await;
    publish(&jetstream, 0..100).await;
    let arrived = first.records(100).await;
    // Every third is finished: what is left has holes.
    arrived.iter().step_by(3).for_each(|record| first.settle(record));
    consumer_until(&jetstream, |info| info.num_ack_pending == 66).await;
    drop(first);
    // Its last pull would still take some of what comes next, which then counts as tried.
    consumer_until(&jetstream, |info| info.num_waiting == 0).await;
    publish(&jetstream, 100..150).await;
    let mut second = Running::ready(&server, 1_000, &[]).await;
    let again = second.records(66 + 50).await;
    let expected: Vec<u64> = (0..100).filter(|number| number % 3 != 0).chain(100..150).collect();
    assert_eq!(numbers(&again), expected);
    assert!(again[..66].iter().all(|record| record.maybe_tried));
    assert!(again[66..].iter().all(|record| !record.maybe_tried));
    again.iter().for_each(|record| second.settle(record));
    consumer_until(&jetstream, |info| info.num_ack_pending == 0 && info.num_pending == 0).await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p2_what_a_stop_gives_back_comes_at_once_and_in_order() {
    let server = Server::start("");
    // With the default ack_wait nothing would come back within this test but what is given back.
    let slow = [("ack_wait", text("5m"))];
    let mut first = Running::ready(&server, 1_000, &slow).await;
    let jetstream = server.jetstream().await;
    publish(&jetstream, 0..200).await;
    let arrived = first.records(200).await;
    arrived[..50].iter().for_each(|record| first.settle(record));
    first.stop().await;
    assert_eq!(consumer_info(&jetstream).await.num_ack_pending, 150, "a stop waits for its acks");
    publish(&jetstream, 200..250).await;
    let mut second = Running::ready(&server, 1_000, &slow).await;
    let again = second.records(200).await;
    assert_eq!(numbers(&again), (50..250).collect::<Vec<_>>());
    let unmarked: Vec<i64> =
        again[..150].iter().filter(|r| !r.maybe_tried).map(|r| r.origin.offset).collect();
    assert_eq!(unmarked, [0; 0]);
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_finished_message_that_is_redelivered_is_acked_again_and_does_not_arrive() {
    let mut server = Server::start("");
    let mut source = Running::ready(&server, 1_000, &[]).await;
    let jetstream = server.jetstream().await;
    publish(&jetstream, 0..20).await;
    let arrived = source.records(20).await;
    // Acked while the server is away: each is settled, and each comes back.
    server.kill();
    arrived.iter().for_each(|record| source.settle(record));
    server.run();
    let jetstream = server.jetstream().await;
    consumer_until(&jetstream, |info| info.num_ack_pending == 0 && info.ack_floor.stream_sequence == 20)
        .await;
    assert!(source.records_within(seconds(4)).await.is_empty());
    source.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn intake_that_is_stopped_keeps_the_pin_and_goes_on() {
    let server = Server::start("");
    let mut source = Running::ready(&server, 100, &[]).await;
    let jetstream = server.jetstream().await;
    publish(&jetstream, 0..5).await;
    let held = source.records(5).await;
    source.command(Command::Intake(false));
    // Longer than the silence that a short stop is: the consumer is parked.
    consumer_until(&jetstream, |info| info.config.max_ack_pending == 5).await;
    publish(&jetstream, 5..300).await;
    assert!(source.records_within(seconds(12)).await.is_empty(), "longer than the pin lasts unpolled");
    let pinned = consumer_info(&jetstream).await.priority_groups;
    assert!(pinned[0].pinned_client_id.is_some(), "{pinned:?}");
    source.command(Command::Intake(true));
    held.iter().for_each(|record| source.settle(record));
    let mut arrived = Vec::new();
    while arrived.len() < 295 {
        let record = source.record().await;
        source.settle(&record);
        arrived.push(record);
    }
    assert_eq!(numbers(&arrived), (5..300).collect::<Vec<_>>());
    assert_eq!((source.epochs.as_slice(), source.lost.as_slice()), (&[1][..], &[][..]));
    source.command(Command::PartitionIntake(PartitionId(0), Epoch(1), false));
    source.command(Command::PartitionIntake(PartitionId(0), Epoch(1), true));
    publish(&jetstream, 300..301).await;
    assert_eq!(numbers(&source.records(1).await), [300]);
    source.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn held_records_are_bounded() {
    let server = Server::start("");
    let mut source = Running::ready(&server, 20, &[]).await;
    let jetstream = server.jetstream().await;
    publish(&jetstream, 0..100).await;
    let held = source.records(20).await;
    assert!(source.records_within(seconds(1)).await.is_empty());
    held.iter().for_each(|record| source.settle(record));
    assert_eq!(numbers(&source.records(20).await), (20..40).collect::<Vec<_>>());
    source.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_away_at_the_start_is_waited_for() {
    let mut server = Server::later();
    let mut source = Running::start(&server, 100, &[]);
    assert!(source.records_within(seconds(2)).await.is_empty());
    match &source.statuses[..] {
        [Status::Waiting(why)] => assert!(why.contains(&server.port.to_string()), "{why}"),
        other => panic!("told once, not at every try: {other:?}"),
    }
    let refused = source.started.letters.write(letter(1, Bytes::new())).await.unwrap_err();
    assert!(refused.contains("not connected"), "{refused}");
    server.run();
    source.until_ready().await;
    publish(&server.jetstream().await, 0..3).await;
    assert_eq!(numbers(&source.records(3).await), [0, 1, 2]);
    source.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_can_be_stopped_while_its_broker_is_away() {
    let server = Server::later();
    let source = Running::start(&server, 100, &[]);
    source.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_missing_is_told_of_and_waited_for() {
    let server = Server::start("");
    let no = roomcast::core::section::Value::Boolean(false);
    let place = roomcast::core::section::Place::Nowhere;
    let no = roomcast::core::section::Node { value: no, place: place.clone(), key_place: place };
    let mut source = Running::start(&server, 100, &[("create", no.clone())]);
    assert!(source.records_within(seconds(1)).await.is_empty());
    match source.statuses.last() {
        Some(Status::Waiting(why)) => assert!(why.contains("MATCH") && why.contains("create"), "{why}"),
        other => panic!("{other:?}"),
    }
    let probed = broker(&server, &[("create", no)]).probe().await.unwrap_err();
    assert!(probed.contains("MATCH does not exist"), "{probed}");
    // Somebody makes all three.
    Running::ready(&server, 100, &[]).await.stop().await;
    source.until_ready().await;
    source.stop().await;
    let lines = broker(&server, &[]).probe().await.unwrap();
    assert_eq!(lines.len(), 4, "{lines:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_durable_that_is_deleted_is_made_again_where_it_was() {
    let server = Server::start("");
    let mut source = Running::ready(&server, 100, &[]).await;
    let jetstream = server.jetstream().await;
    publish(&jetstream, 0..10).await;
    let arrived = source.records(10).await;
    arrived[..6].iter().for_each(|record| source.settle(record));
    consumer_until(&jetstream, |info| info.ack_floor.stream_sequence == 6).await;
    let stream = jetstream.get_stream("MATCH").await.unwrap();
    stream.delete_consumer("roomcast").await.unwrap();
    publish(&jetstream, 10..20).await;
    assert_eq!(numbers(&source.records(10).await), (10..20).collect::<Vec<_>>());
    arrived[6..].iter().for_each(|record| source.settle(record));
    consumer_until(&jetstream, |info| info.num_ack_pending == 10).await;
    source.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p5_headers_that_break_the_client_do_not_stop_the_source() {
    let server = Server::start("");
    let mut source = Running::ready(&server, 100, &[]).await;
    let jetstream = server.jetstream().await;
    publish(&jetstream, 0..5).await;
    server.publish_raw("match.1.events", b"Room: \xff", "5");
    publish(&jetstream, 6..9).await;
    server.publish_raw("match.1.events", b"Room: a\rb", "9");
    server.publish_raw("match.1.events", b"Ro om: a", "10");
    publish(&jetstream, 11..15).await;
    let arrived = source.records(15).await;
    assert_eq!(numbers(&arrived), (0..15).collect::<Vec<_>>());
    assert_eq!(arrived[5].header("Room"), Some(&b"\xff"[..]));
    assert_eq!((arrived[5].key.as_deref(), arrived[5].origin.offset), (Some(&b"1"[..]), 6));
    assert_eq!(arrived[9].header("Room"), Some(&b"a\rb"[..]));
    arrived.iter().for_each(|record| source.settle(record));
    consumer_until(&jetstream, |info| info.num_ack_pending == 0).await;
    publish(&jetstream, 15..20).await;
    assert_eq!(numbers(&source.records(5).await), (15..20).collect::<Vec<_>>());
    assert!(source.lost.is_empty());
    source.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p5_nor_when_the_very_first_message_has_them() {
    let server = Server::start("");
    let mut source = Running::ready(&server, 100, &[]).await;
    server.publish_raw("match.1.events", b"Room: \xff", "0");
    let jetstream = server.jetstream().await;
    publish(&jetstream, 1..5).await;
    assert_eq!(numbers(&source.records(5).await), (0..5).collect::<Vec<_>>());
    source.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_durable_made_by_hand_is_given_what_the_promises_need() {
    let server = Server::start("");
    Running::ready(&server, 100, &[]).await.stop().await;
    let jetstream = server.jetstream().await;
    let stream = jetstream.get_stream("MATCH").await.unwrap();
    let by_hand = async_nats::jetstream::consumer::pull::Config {
        durable_name: Some("by_hand".to_owned()),
        ack_policy: async_nats::jetstream::consumer::AckPolicy::Explicit,
        max_deliver: 3,
        max_batch: 10,
        filter_subject: "match.1.events".to_owned(),
        ..Default::default()
    };
    stream.create_consumer(by_hand).await.unwrap();
    let mut source = Running::ready(&server, 100, &[("durable", text("by_hand"))]).await;
    publish(&jetstream, 0..20).await;
    assert_eq!(numbers(&source.records(20).await), (0..20).collect::<Vec<_>>());
    let config = stream.consumer_info("by_hand").await.unwrap().config;
    assert_eq!((config.max_deliver, config.max_ack_pending), (-1, 100));
    assert_eq!((config.ack_wait, config.priority_timeout), (seconds(2), seconds(12)));
    source.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn start_from_says_where_a_new_durable_begins() {
    let server = Server::start("");
    Running::ready(&server, 100, &[]).await.stop().await;
    let jetstream = server.jetstream().await;
    publish(&jetstream, 0..5).await;
    let earliest = [("durable", text("other")), ("start_from", text("earliest"))];
    let mut source = Running::ready(&server, 100, &earliest).await;
    assert_eq!(numbers(&source.records(5).await), [0, 1, 2, 3, 4]);
    source.stop().await;
    let mut source = Running::ready(&server, 100, &[("durable", text("third"))]).await;
    publish(&jetstream, 5..6).await;
    assert_eq!(numbers(&source.records(1).await), [5], "latest skips what was there");
    source.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p1_a_letter_exists_exactly_once() {
    let server = Server::start("");
    let source = Running::ready(&server, 100, &[]).await;
    let letters = &source.started.letters;
    for _ in 0..3 {
        letters.write(letter(1, Bytes::from_static(b"one"))).await.unwrap();
    }
    let many = (2..300).map(|number| letters.write(letter(number, Bytes::from_static(b"x"))));
    for written in futures_util::future::join_all(many).await {
        written.unwrap();
    }
    letters.write(letter(300, Bytes::from(vec![b'x'; 2 << 20]))).await.unwrap();
    let stream = server.jetstream().await.get_stream("MATCH_DLQ").await.unwrap();
    assert_eq!(stream.cached_info().state.messages, 300);
    let first = stream.get_raw_message(1).await.unwrap();
    assert_eq!(first.subject.as_str(), "MATCH_DLQ.letter.00000000-0000-0000-0000-000000000001");
    assert_eq!(first.payload, Bytes::from_static(b"one"));
    // Read as a consumer reads: the client's reading of raw messages keeps one header of a name.
    let config = async_nats::jetstream::consumer::pull::Config::default();
    let mut batch =
        stream.create_consumer(config).await.unwrap().fetch().max_messages(1).messages().await.unwrap();
    let read = batch.next().await.unwrap().unwrap();
    let headers = read.headers.clone().unwrap();
    let rooms: Vec<&str> = headers.get_all("Room").map(async_nats::HeaderValue::as_str).collect();
    assert_eq!(rooms, ["a", "b"]);
    assert!(headers.get("Nats-Msg-Id").is_none());
    let large = stream.get_raw_message(300).await.unwrap();
    assert!(large.payload.is_empty());
    assert_eq!(large.headers.get("roomcast-truncated").unwrap().as_str(), "match.1.events/0/7");
    source.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_letter_is_not_written_to_a_server_that_is_away() {
    let mut server = Server::start("");
    let source = Running::ready(&server, 100, &[]).await;
    server.kill();
    let letters = source.started.letters.clone();
    assert!(letters.write(letter(1, Bytes::new())).await.is_err());
    server.run();
    let written = async {
        while letters.write(letter(1, Bytes::new())).await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(LONG, written).await.unwrap();
    let stream = server.jetstream().await.get_stream("MATCH_DLQ").await.unwrap();
    assert_eq!(stream.cached_info().state.messages, 1);
    source.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_table_keeps_the_last_value_of_each_row() {
    let server = Server::start("");
    let source = Running::ready(&server, 100, &[]).await;
    let table = &source.started.table;
    assert_eq!(table.load(|_| true).await.unwrap(), []);
    for (key, value) in [("a", "1"), ("broadcast live.2026 房", "2"), ("a", "3"), ("", "4")] {
        table.put(key.to_owned(), Bytes::from(value)).await.unwrap();
    }
    let mut rows = table.load(|_| true).await.unwrap();
    rows.sort();
    let expected = [("", "4"), ("a", "3"), ("broadcast live.2026 房", "2")];
    assert_eq!(rows, expected.map(|(key, value)| (key.to_owned(), Bytes::from(value))));
    source.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_way_to_log_in_works_and_a_wrong_one_is_told() {
    // A pair made for this test with `nk -gen user`; it opens nothing else.
    let pair = nkeys::KeyPair::new_user();
    let nkey = pair.public_key();
    let seed = pair.seed().unwrap();
    let user = "authorization { user: ann, password: \"hunter2\" }".to_owned();
    let token = "authorization { token: \"hunter2\" }".to_owned();
    let users = format!("authorization {{ users: [ {{ nkey: {nkey} }} ] }}");
    let ways = [
        (user, vec![("username", text("ann")), ("password", text("hunter2"))]),
        (token, vec![("token", text("hunter2"))]),
        (users, vec![("nkey_seed", text(&seed))]),
    ];
    for (config, settings) in ways {
        let server = Server::start(&config);
        let lines = broker(&server, &settings).probe().await.unwrap();
        assert!(lines[0].starts_with("connected to NATS 2."), "{lines:?}");
        Running::ready(&server, 100, &settings).await.stop().await;
        let mut refused = Running::start(&server, 100, &[("token", text("wrong-secret"))]);
        assert!(refused.records_within(seconds(1)).await.is_empty());
        match refused.statuses.last() {
            Some(Status::Waiting(why)) => {
                assert!(why.contains("authorization") && !why.contains("wrong-secret"), "{why}");
            }
            other => panic!("{other:?}"),
        }
        refused.stop().await;
    }
}
