//! Two sources of one group: who has what, who waits for whom.

use std::collections::BTreeSet;
use std::time::Duration;

use roomcast::broker::Command;
use roomcast::core::section::{Table, Value};
use roomcast::simulator::kafka::EmbeddedKafka;

use crate::bed::{Bed, Running, node, produce, text, unique};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_moves_only_when_its_calls_have_answered() {
    const PARTITIONS: i32 = 6;
    let bed = Bed::with_partitions("handshake", PARTITIONS).await;
    bed.produce((0..60).map(|n| (n % PARTITIONS, n.to_string()))).await;
    let mut old = Running::start(bed.source());
    let records = old.records(60).await;
    // Every record but the first of each partition is finished: the metadata tells of it.
    for record in records.iter().filter(|record| record.origin.offset > 0) {
        old.settle(record);
    }
    let mut new = Running::start(bed.source());
    old.until("the revocation", |source| !source.revoking.is_empty()).await;
    let moving: BTreeSet<_> = old.revoking.iter().map(|(partition, _)| *partition).collect();
    assert_eq!(moving.len(), 3, "half of the partitions move");
    new.silence(Duration::from_secs(3)).await;
    assert_eq!(new.names(), Vec::<String>::new(), "nothing is handed over while calls are away");
    // One of the calls away answers during the revocation and still counts.
    let settled_late =
        records.iter().find(|r| r.origin.offset == 0 && moving.contains(&r.id.partition)).unwrap();
    old.settle(settled_late);
    old.release();
    let again = new.records(2).await;
    for record in &again {
        assert_eq!(record.origin.offset, 0, "only the unfinished ones come again");
        assert!(record.maybe_tried);
        assert_ne!(text(record), text(settled_late));
    }
    new.silence(Duration::from_secs(1)).await;
    let mut all = [old.names(), new.names()].concat();
    all.sort();
    all.dedup();
    assert_eq!((old.names().len(), new.names().len(), all.len()), (3, 3, 6), "each has its half");
    // What stayed goes on flowing under its old epoch.
    bed.produce((0..PARTITIONS).map(|n| (n, "after".to_owned()))).await;
    assert!(old.records(3).await.iter().chain(&new.records(3).await).all(|record| text(record) == "after"));
    new.stop().await;
    old.until("the return", |source| source.assigned.len() == 6).await;
    old.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_left_while_paused_flows_when_it_comes_back() {
    let bed = Bed::with_partitions("boomerang", 2).await;
    let mut old = Running::start(bed.source());
    old.until("the assignment", |source| source.assigned.len() == 2).await;
    old.tell(Command::Intake(false));
    old.silence(Duration::from_millis(300)).await;
    let mut new = Running::start(bed.source());
    old.until("the revocation", |source| !source.revoking.is_empty()).await;
    old.release();
    new.until("its half", |source| source.assigned.len() == 1).await;
    // Intake opens while one of the paused partitions is elsewhere.
    old.tell(Command::Intake(true));
    new.stop().await;
    old.until("the return", |source| source.assigned.len() == 2).await;
    bed.produce((0..20).map(|n| (n % 2, n.to_string()))).await;
    let partitions: BTreeSet<i32> =
        old.records(20).await.iter().map(|record| record.origin.partition).collect();
    assert_eq!(partitions, BTreeSet::from([0, 1]));
    old.silence(Duration::from_millis(500)).await;
    old.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_lost_is_told_at_once_and_comes_again_under_another_epoch() {
    let kafka = EmbeddedKafka::start(&[("events", 2)]).unwrap();
    let bed = Bed {
        brokers: kafka.address().to_owned(),
        topic: "events".to_owned(),
        group: unique("expelled"),
        dead_letter: "events.dlq".to_owned(),
    };
    produce(kafka.address(), "events", (0..10).map(|n| (n % 2, n.to_string()))).await;
    // The broker waits for the member it knew, for as long as its session may last.
    let session = Table::from([("session.timeout.ms".to_owned(), node(Value::Integer(4_000)))]);
    let mut source = Running::start(bed.source_with(&[("properties", Value::Table(session))]));
    let records = source.records(10).await;
    let old: Vec<_> = source.assigned.iter().map(|(id, (epoch, _))| (*id, *epoch)).collect();
    kafka.expel_next_member();
    source.until("the loss", |source| !source.lost.is_empty()).await;
    source.lost.sort();
    assert_eq!(source.lost, old, "both, under the epochs they had");
    assert_eq!(source.revoking, [], "nothing is asked: they are gone already");
    // Calls that were away answer now: they settle nothing, because somebody else may do it again.
    records.iter().for_each(|record| source.settle(record));
    let again = source.records(10).await;
    for record in &again {
        assert!(record.maybe_tried && old.iter().all(|(_, epoch)| *epoch < record.id.epoch));
        source.settle(record);
    }
    source.stop().await;
    assert!(bed.committed(2).iter().all(|(offset, _)| *offset == rdkafka::Offset::Offset(5)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_member_knows_all_partitions_in_one_order_and_sees_them_grow() {
    let bed = Bed::with_partitions("growth", 3).await;
    let mut one = Running::start(bed.source());
    one.until("the assignment", |source| source.assigned.len() == 3).await;
    let mut two = Running::start(bed.source());
    one.until("the revocation", |source| !source.revoking.is_empty()).await;
    one.release();
    tokio::join!(
        one.silence(Duration::from_secs(2)),
        two.until("its part", |source| !source.assigned.is_empty())
    );
    // Which of all partitions, by their place in the order, a member holds.
    let places = |source: &Running| {
        let order = source.order.clone().expect("it was told");
        let place = |id| order.iter().position(|other| other == id).expect("it is in the order");
        (order.len(), source.assigned.keys().map(place).collect::<BTreeSet<_>>())
    };
    let ((all, ours), (same, theirs)) = (places(&one), places(&two));
    assert_eq!((all, same), (3, 3));
    assert!(ours.is_disjoint(&theirs) && ours.union(&theirs).count() == 3, "{ours:?} {theirs:?}");
    bed.grow_topic(5).await;
    for source in [&mut one, &mut two] {
        source.until("the new number", |source| source.order.as_ref().is_some_and(|o| o.len() == 5)).await;
    }
    two.stop().await;
    one.stop().await;
}
