//! A second reader of one durable: it stands by, takes over, and rests between two readers.

use std::time::Instant;

use roomcast::core::partitions::REST;

use super::nats_bed::{Running, Server, consumer_until, numbers, publish, text};
use super::seconds;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_gets_nothing_until_the_first_goes_and_then_all_in_order() {
    let server = Server::start("");
    let mut first = Running::ready(&server, 1_000, &[]).await;
    let jetstream = server.jetstream().await;
    publish(&jetstream, 0..10).await;
    let mut arrived = first.records(10).await;
    let mut second = Running::ready(&server, 1_000, &[]).await;
    publish(&jetstream, 10..60).await;
    arrived.extend(first.records(50).await);
    assert_eq!(numbers(&arrived), (0..60).collect::<Vec<_>>());
    assert!(second.records_within(seconds(6)).await.is_empty(), "the pin outlives a pull");
    assert_eq!(second.epochs, [0; 0], "nothing is assigned to one that stands by");
    arrived[..30].iter().for_each(|record| first.settle(record));
    consumer_until(&jetstream, |info| info.num_ack_pending == 30).await;
    // It crashes: nothing is given back, the pin runs out.
    drop(first);
    publish(&jetstream, 60..80).await;
    let taken_over = second.records(50).await;
    assert_eq!(numbers(&taken_over), (30..80).collect::<Vec<_>>());
    assert!(taken_over[..30].iter().all(|record| record.maybe_tried));
    assert_eq!(second.epochs, [1]);
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_takes_over_at_once_when_the_first_stops() {
    let server = Server::start("");
    let slow = [("ack_wait", text("30s"))];
    let mut first = Running::ready(&server, 1_000, &slow).await;
    let jetstream = server.jetstream().await;
    publish(&jetstream, 0..100).await;
    first.records(100).await;
    let mut second = Running::ready(&server, 1_000, &slow).await;
    assert!(second.records_within(seconds(1)).await.is_empty());
    let begun = Instant::now();
    first.stop().await;
    publish(&jetstream, 100..110).await;
    assert_eq!(numbers(&second.records(110).await), (0..110).collect::<Vec<_>>());
    assert!(begun.elapsed() < seconds(15), "well before ack_wait: {:?}", begun.elapsed());
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p4_what_a_reader_gives_back_at_a_stop_rests_a_second_after_its_last_call() {
    for is_finished in [true, false] {
        let server = Server::start("");
        let mut first = Running::ready(&server, 1_000, &[]).await;
        let jetstream = server.jetstream().await;
        publish(&jetstream, 0..1).await;
        let record = first.record().await;
        let mut second = Running::ready(&server, 1_000, &[]).await;
        publish(&jetstream, 1..2).await;
        let last = first.record().await;
        let called = Instant::now();
        first.settle(&record);
        if is_finished {
            first.settle(&last);
        }
        first.stop().await;
        publish(&jetstream, 2..3).await;
        let next = second.record().await;
        assert!(called.elapsed() >= REST, "the next reader sends after {:?}", called.elapsed());
        assert_eq!(numbers(&[next]), [if is_finished { 2 } else { 1 }]);
        second.stop().await;
    }
}
