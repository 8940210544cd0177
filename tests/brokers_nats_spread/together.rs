//! Several sources at once: who reads what, and what everybody sees of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use roomcast::broker::Command;
use roomcast::core::model::PartitionId;

use super::nats_bed::{LONG, Server};
use super::replica::{Log, Replica};
use super::{
    PARTITIONS, PARTS, Publisher, create_stream, publish_all, publish_one, publish_under, seconds, spread,
};

/// Waits until these have all partitions, in parts within one of even; how long it took.
async fn until_even(what: &str, replicas: &[&Replica]) -> Duration {
    let began = Instant::now();
    loop {
        let parts: Vec<usize> = replicas.iter().map(|replica| replica.assigned()).collect();
        let (least, most) = (parts.iter().min().unwrap(), parts.iter().max().unwrap());
        if parts.iter().sum::<usize>() == PARTITIONS as usize && most - least <= 1 {
            break;
        }
        assert!(began.elapsed() < LONG, "{what}: {parts:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tell(what, began.elapsed());
    began.elapsed()
}

#[expect(clippy::print_stderr, reason = "how long it takes is a figure worth seeing")]
fn tell(what: &str, took: Duration) {
    eprintln!("{what}: even after {took:.1?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p1_p2_p3_three_sources_share_a_stream_while_they_come_and_go() {
    let server = Server::start("");
    create_stream(&server.jetstream().await).await;
    let (log, settings) = (Log::default(), spread(PARTITIONS));
    let one = Replica::ready("one", &server, &log, &settings).await;
    let publisher = Publisher::start(&server, 0, Duration::from_millis(2)).await;
    until_even("one alone", &[&one]).await;
    let two = Replica::ready("two", &server, &log, &settings).await;
    until_even("two joins", &[&one, &two]).await;
    let three = Replica::ready("three", &server, &log, &settings).await;
    until_even("three joins", &[&one, &two, &three]).await;
    publisher.more(300).await;
    assert_eq!((one.moved().1, two.moved().1), (0, 0), "what moved was given up in an orderly way");

    two.crash();
    let took = until_even("two crashes", &[&one, &three]).await;
    assert!(took < seconds(25), "the pins of a dead reader last 11 s: {took:?}");
    publisher.more(300).await;

    let two = Replica::ready("two", &server, &log, &settings).await;
    until_even("two comes back", &[&one, &two, &three]).await;
    publisher.more(300).await;
    one.stop().await;
    let took = until_even("one stops", &[&two, &three]).await;
    assert!(took < seconds(8), "what is given back is taken at once: {took:?}");
    publisher.more(300).await;

    // Nothing moves while nobody comes or goes.
    let before = (two.moved(), three.moved());
    publisher.more(2_000).await;
    assert_eq!((two.moved(), three.moved()), before);
    let count = publisher.finish().await;
    log.until(count).await;
    let repeats = log.assert_kept(count);
    // Only the crash makes anything go out again: what was away, and what was not acked yet.
    assert!(repeats <= 200, "{repeats} were sent again");
    let readers: BTreeSet<&str> = log.all().iter().map(|sent| sent.replica).collect();
    assert_eq!(readers.len(), 3);
    two.stop().await;
    three.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p1_p2_p3_a_killed_server_loses_nothing_and_order_holds() {
    let mut server = Server::start("");
    create_stream(&server.jetstream().await).await;
    let (log, settings) = (Log::default(), spread(PARTITIONS));
    let one = Replica::ready("one", &server, &log, &settings).await;
    let two = Replica::ready("two", &server, &log, &settings).await;
    let publisher = Publisher::start(&server, 0, Duration::from_millis(2)).await;
    until_even("before", &[&one, &two]).await;
    for round in 0..3 {
        publisher.more(300).await;
        server.kill();
        tokio::time::sleep(seconds(round)).await;
        server.run();
        publisher.more(300).await;
    }
    let count = publisher.finish().await;
    log.until(count).await;
    log.assert_kept(count);
    until_even("after", &[&one, &two]).await;
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p1_p2_p3_a_parts_stream_that_is_deleted_is_made_again_where_reading_stood() {
    let server = Server::start("");
    let jetstream = server.jetstream().await;
    create_stream(&jetstream).await;
    let (log, settings) = (Log::default(), spread(PARTITIONS));
    let one = Replica::ready("one", &server, &log, &settings).await;
    let two = Replica::ready("two", &server, &log, &settings).await;
    let publisher = Publisher::start(&server, 0, Duration::from_millis(2)).await;
    until_even("before", &[&one, &two]).await;
    // Long enough for progress to be noted.
    publisher.more(4_000).await;
    jetstream.delete_stream(PARTS).await.unwrap();
    publisher.more(1_000).await;
    let count = publisher.finish().await;
    log.until(count).await;
    let repeats = log.assert_kept(count);
    assert!(repeats < 4_000, "{repeats}: only what was not noted yet is sent again");
    one.stop().await;
    two.stop().await;
    // In between nobody runs, and all that was finished is noted.
    jetstream.delete_stream(PARTS).await.unwrap();
    publish_all(&jetstream, count..count + 50).await;
    let before = log.all().len();
    let one = Replica::ready("one", &server, &log, &settings).await;
    log.until(count + 50).await;
    tokio::time::sleep(seconds(2)).await;
    assert_eq!(log.all().len() - before, 50, "nothing else is sent");
    log.assert_kept(count + 50);
    one.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_without_messages_are_finished_as_far_as_the_others() {
    let server = Server::start("");
    let jetstream = server.jetstream().await;
    create_stream(&jetstream).await;
    let (log, settings) = (Log::default(), spread(PARTITIONS));
    let one = Replica::ready("one", &server, &log, &settings).await;
    // All of one key, and so of one partition.
    for number in 0..300 {
        publish_under(&jetstream, 7, number, "").await;
    }
    log.until(300).await;
    // Progress is noted while it runs, and the copy is made again meanwhile.
    tokio::time::sleep(seconds(9)).await;
    jetstream.delete_stream(PARTS).await.unwrap();
    for number in 300..400 {
        publish_under(&jetstream, 7, number, "").await;
    }
    log.until(400).await;
    assert_eq!(log.assert_kept(400), 0);
    let two = Replica::ready("two", &server, &log, &settings).await;
    publish_all(&jetstream, 400..500).await;
    log.until(500).await;
    assert_eq!(log.assert_kept(500), 0);
    one.stop().await;
    two.stop().await;
    jetstream.delete_stream(PARTS).await.unwrap();
    let one = Replica::ready("one", &server, &log, &settings).await;
    publish_one(&jetstream, 500, "").await;
    log.until(501).await;
    tokio::time::sleep(seconds(2)).await;
    assert_eq!(log.assert_kept(501), 0);
    one.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purged_stream_goes_on_with_what_comes_later() {
    let server = Server::start("");
    let jetstream = server.jetstream().await;
    create_stream(&jetstream).await;
    let log = Log::default();
    let one = Replica::ready("one", &server, &log, &spread(2)).await;
    publish_all(&jetstream, 0..100).await;
    log.until(100).await;
    jetstream.get_stream("MATCH").await.unwrap().purge().await.unwrap();
    publish_all(&jetstream, 100..200).await;
    log.until(200).await;
    assert_eq!(log.assert_kept(200), 0);
    one.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn identity_is_the_origins_and_the_partition_is_the_keys() {
    let server = Server::start("");
    let jetstream = server.jetstream().await;
    create_stream(&jetstream).await;
    // Moved along by half, so that sequences of the two streams differ.
    publish_all(&jetstream, 0..40).await;
    jetstream.get_stream("MATCH").await.unwrap().delete_message(3).await.unwrap();
    let log = Log::default();
    let one = Replica::ready("one", &server, &log, &spread(4)).await;
    publish_all(&jetstream, 40..200).await;
    log.until(199).await;
    let mut partitions: BTreeMap<String, PartitionId> = BTreeMap::new();
    for sent in log.all().iter() {
        assert_eq!(sent.origin, i64::try_from(sent.number).unwrap() + 1, "{sent:?}");
        assert!(!sent.maybe_tried, "{sent:?}");
        let partition = *partitions.entry(sent.key.clone()).or_insert(sent.partition);
        assert_eq!(partition, sent.partition, "a key has one partition");
    }
    assert_eq!(partitions.values().collect::<BTreeSet<_>>().len(), 4);
    one.until("to have no lag", |seen| seen.lag == Some(0)).await;
    one.stop().await;
    // What is finished is deleted from the copy, and does not come again.
    let before = log.all().len();
    let one = Replica::ready("one", &server, &log, &spread(4)).await;
    publish_one(&jetstream, 200, "").await;
    log.until(200).await;
    tokio::time::sleep(seconds(3)).await;
    assert_eq!(log.all().len(), before + 1);
    assert!(!log.all().last().unwrap().maybe_tried);
    one.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_finished_is_deleted_from_the_copy_but_never_its_last_message() {
    let mut server = Server::start("");
    let jetstream = server.jetstream().await;
    create_stream(&jetstream).await;
    let log = Log::default();
    let one = Replica::ready("one", &server, &log, &spread(2)).await;
    publish_all(&jetstream, 0..500).await;
    log.until(500).await;
    let messages = async || jetstream.get_stream(PARTS).await.unwrap().cached_info().state.messages;
    let end = Instant::now() + LONG;
    while messages().await > 2 {
        assert!(Instant::now() < end, "{} are still there", messages().await);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(messages().await > 0);
    // The server reads there where its copying stands.
    server.kill();
    server.run();
    one.until("to be ready again", |seen| seen.statuses.len() >= 3).await;
    let jetstream = server.jetstream().await;
    publish_one(&jetstream, 500, "").await;
    log.until(501).await;
    tokio::time::sleep(seconds(3)).await;
    assert_eq!(log.assert_kept(501), 0, "nothing is copied a second time");
    one.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_partition_is_stopped_and_goes_on_alone() {
    let server = Server::start("");
    let jetstream = server.jetstream().await;
    create_stream(&jetstream).await;
    let log = Log::default();
    let one = Replica::ready("one", &server, &log, &spread(2)).await;
    publish_all(&jetstream, 0..40).await;
    log.until(40).await;
    let closed = PartitionId(0);
    let epoch = one.seen().assigned[&closed];
    one.commands.send(Command::PartitionIntake(closed, epoch, false)).unwrap();
    let stream = jetstream.get_stream(PARTS).await.unwrap();
    let end = Instant::now() + LONG;
    while stream.consumer_info("roomcast_0").await.unwrap().config.max_ack_pending != 1 {
        assert!(Instant::now() < end, "it is never parked");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    publish_all(&jetstream, 40..240).await;
    tokio::time::sleep(seconds(13)).await;
    let since: Vec<PartitionId> = log.all()[40..].iter().map(|sent| sent.partition).collect();
    assert!(!since.is_empty() && !since.contains(&closed), "only the other one goes on: {since:?}");
    assert_eq!((one.moved(), one.assigned()), ((0, 0), 2), "the pin is kept");
    one.commands.send(Command::PartitionIntake(closed, epoch, true)).unwrap();
    log.until(240).await;
    assert_eq!(log.assert_kept(240), 0);
    one.stop().await;
}
