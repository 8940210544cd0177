//! Reading and committing: order, loss, restarts, pauses, beginnings, outages.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::Offset;
use rdkafka::admin::{AdminOptions, NewPartitions};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use roomcast::broker::{Command, Status};
use roomcast::core::model::Record;
use roomcast::core::section::Value;
use roomcast::simulator::kafka::EmbeddedKafka;

use crate::bed::{Bed, PATIENCE, Running, node, produce, text, unique};

fn word(word: &str) -> Value {
    Value::Text(word.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twelve_partitions_arrive_in_order_and_whole() {
    const PARTITIONS: i32 = 12;
    const RECORDS: i32 = 12_000;
    let bed = Bed::with_partitions("order", PARTITIONS).await;
    bed.produce((0..RECORDS).map(|n| (n % PARTITIONS, n.to_string()))).await;
    let mut source = Running::start(bed.source());
    let mut next: BTreeMap<i32, i64> = BTreeMap::new();
    let mut seen = vec![false; RECORDS as usize];
    for record in source.records(RECORDS as usize).await {
        let expected = next.entry(record.origin.partition).or_insert(0);
        assert_eq!(record.origin.offset, *expected, "order within {}", record.origin.partition);
        *expected += 1;
        let number: usize = text(&record).parse().unwrap();
        assert!(!std::mem::replace(&mut seen[number], true), "{number} came twice");
        assert_eq!(record.key.as_deref(), Some(format!("room-{}", record.origin.partition).as_bytes()));
        assert_eq!(record.header("kind"), Some(&b"test"[..]));
        assert_eq!(&*record.origin.topic, bed.topic);
        assert!(record.timestamp.0 > 1_600_000_000_000);
        assert!(record.maybe_tried, "it stood below the end at assignment (P3)");
        source.settle(&record);
    }
    assert!(source.statuses.contains(&Status::Ready));
    source.stop().await;
    for (partition, (offset, metadata)) in bed.committed(PARTITIONS).into_iter().enumerate() {
        assert_eq!(offset, Offset::Offset(i64::from(RECORDS / PARTITIONS)), "partition {partition}");
        assert_eq!(metadata, "", "nothing is finished above the watermark");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_settled_out_of_order_does_not_come_again() {
    let bed = Bed::with_partitions("metadata", 1).await;
    bed.produce((0..1_000).map(|n| (0, n.to_string()))).await;
    let mut source = Running::start(bed.source());
    let open = |record: &Record| record.origin.offset % 3 == 1;
    for record in source.records(1_000).await.iter().filter(|record| !open(record)) {
        source.settle(record);
    }
    source.stop().await;
    assert_eq!(bed.committed(1)[0].0, Offset::Offset(1), "the watermark is the first open record");
    let mut again = Running::start(bed.source());
    let records = again.records(333).await;
    assert!(records.iter().all(open), "only what was not settled");
    assert!(records.iter().all(|record| record.maybe_tried));
    bed.produce([(0, "new".to_owned())]).await;
    let new = again.record().await;
    assert_eq!((new.origin.offset, new.maybe_tried), (1_000, false));
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metadata_is_committed_while_the_watermark_stands_still() {
    let bed = Bed::with_partitions("still", 1).await;
    bed.produce((0..10).map(|n| (0, n.to_string()))).await;
    let mut source = Running::start(bed.source());
    let records = source.records(10).await;
    let commit_with = async |wanted: fn(&str) -> bool| {
        for _ in 0..100 {
            let (offset, metadata) = bed.committed(1).remove(0);
            if offset == Offset::Offset(0) && wanted(&metadata) {
                return metadata;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{:?}", bed.committed(1));
    };
    assert_eq!(commit_with(str::is_empty).await, "", "the beginning is committed at once");
    source.settle(&records[5]);
    let first = commit_with(|metadata| !metadata.is_empty()).await;
    source.settle(&records[7]);
    for _ in 0..100 {
        if bed.committed(1)[0].1 != first {
            return source.stop().await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the second settle was not committed: {first}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metadata_of_others_is_a_plain_start() {
    let bed = Bed::with_partitions("garbage", 1).await;
    bed.produce((0..5).map(|n| (0, n.to_string()))).await;
    let mut config = bed.client();
    let other: BaseConsumer = config.set("group.id", &bed.group).create().unwrap();
    let mut list = rdkafka::TopicPartitionList::new();
    let mut element = list.add_partition(&bed.topic, 0);
    element.set_offset(Offset::Offset(2)).unwrap();
    element.set_metadata("rc1b2:\u{e9}~ not ours");
    other.commit(&list, CommitMode::Sync).unwrap();
    drop(other);
    let mut source = Running::start(bed.source());
    let offsets: Vec<i64> = source.records(3).await.iter().map(|record| record.origin.offset).collect();
    assert_eq!(offsets, [2, 3, 4]);
    source.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_intake_takes_nothing_and_an_open_one_everything() {
    let bed = Bed::with_partitions("pause", 2).await;
    let mut source = Running::start(bed.source());
    source.until("the assignment", |source| source.assigned.len() == 2).await;
    source.tell(Command::Intake(false));
    // The command is taken up within one poll; what is produced after that must wait.
    source.silence(Duration::from_millis(300)).await;
    bed.produce((0..100).map(|n| (n % 2, n.to_string()))).await;
    source.silence(Duration::from_secs(2)).await;
    source.tell(Command::Intake(true));
    let records = source.records(100).await;
    for partition in 0..2 {
        let offsets: Vec<i64> =
            records.iter().filter(|r| r.origin.partition == partition).map(|r| r.origin.offset).collect();
        assert_eq!(offsets, (0..50).collect::<Vec<i64>>());
    }
    let id = records.iter().find(|record| record.origin.partition == 1).unwrap().id;
    source.tell(Command::PartitionIntake(id.partition, id.epoch, false));
    source.silence(Duration::from_millis(300)).await;
    bed.produce((0..20).map(|n| (n % 2, n.to_string()))).await;
    for record in source.records(10).await {
        assert_eq!(record.origin.partition, 0, "partition 1 is closed");
    }
    source.silence(Duration::from_secs(1)).await;
    source.tell(Command::PartitionIntake(id.partition, id.epoch, true));
    let rest: Vec<i64> = source.records(10).await.iter().map(|record| record.origin.offset).collect();
    assert_eq!(rest, (50..60).collect::<Vec<i64>>());
    source.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lag_is_told_while_intake_is_closed() {
    let bed = Bed::with_partitions("lag", 2).await;
    let mut source = Running::start(bed.source());
    source.until("the assignment", |source| source.assigned.len() == 2).await;
    source.tell(Command::Intake(false));
    source.silence(Duration::from_millis(300)).await;
    bed.produce((0..70).map(|n| (n % 2, n.to_string()))).await;
    source.until("the lag", |source| source.lag == Some(70)).await;
    source.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn latest_begins_once_and_skips_nothing_afterwards() {
    let bed = Bed::with_partitions("latest", 1).await;
    let source = || bed.source_with(&[("start_from", word("latest"))]);
    bed.produce((0..10).map(|n| (0, format!("old {n}")))).await;
    let mut first = Running::start(source());
    first.until("the assignment", |source| source.assigned.len() == 1).await;
    assert_eq!(
        bed.committed(1)[0].0,
        Offset::Offset(10),
        "the beginning is committed before anything arrives"
    );
    first.stop().await;
    bed.produce((0..5).map(|n| (0, format!("new {n}")))).await;
    let mut second = Running::start(source());
    let records = second.records(5).await;
    assert_eq!(records.iter().map(text).collect::<Vec<_>>(), ["new 0", "new 1", "new 2", "new 3", "new 4"]);
    // A partition that is added to a group at work is read from its first record.
    let grown = NewPartitions::new(&bed.topic, 2);
    bed.admin().create_partitions([&grown], &AdminOptions::new()).await.unwrap()[0].as_ref().unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    bed.produce((0..3).map(|n| (1, format!("grown {n}")))).await;
    let grown = second.records(3).await;
    assert_eq!(grown.iter().map(text).collect::<Vec<_>>(), ["grown 0", "grown 1", "grown 2"]);
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_the_broker_deleted_do_not_stop_the_source() {
    let bed = Bed::with_partitions("deleted", 1).await;
    bed.produce((0..10).map(|n| (0, n.to_string()))).await;
    let mut source = Running::start(bed.source());
    let records = source.records(10).await;
    source.settle(&records[0]);
    source.stop().await;
    assert_eq!(bed.committed(1)[0].0, Offset::Offset(1));
    let mut list = rdkafka::TopicPartitionList::new();
    list.add_partition_offset(&bed.topic, 0, Offset::Offset(6)).unwrap();
    bed.admin().delete_records(&list, &AdminOptions::new()).await.unwrap();
    let mut again = Running::start(bed.source());
    let offsets: Vec<i64> = again.records(4).await.iter().map(|record| record.origin.offset).collect();
    assert_eq!(offsets, [6, 7, 8, 9]);
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_regex_never_takes_a_dead_letter_topic() {
    let bed = Bed::with_partitions("regex", 1).await;
    let other_dlq = format!("{}.other", bed.topic);
    let more = format!("{}.more", bed.topic);
    let beside: Vec<String> = ["", ".replay", ".state"]
        .iter()
        .flat_map(|end| [format!("{}{end}", bed.dead_letter), format!("{other_dlq}{end}")])
        .collect();
    for topic in beside.iter().chain([&more]) {
        bed.make_topic(topic, 1).await;
        produce(&bed.brokers, topic, [(0, topic.clone())]).await;
    }
    bed.produce([(0, bed.topic.clone())]).await;
    let regex = format!("^{}.*", bed.topic);
    let mut broker = bed.source_with(&[("topics", Value::List(vec![node(word(&regex))]))]);
    broker.avoid(&[bed.dead_letter.clone(), other_dlq]);
    let mut source = Running::start(broker);
    let mut values: Vec<String> = source.records(2).await.iter().map(text).collect();
    values.sort();
    assert_eq!(values, [bed.topic.clone(), more.clone()]);
    source.silence(Duration::from_secs(1)).await;
    assert_eq!(source.names(), [format!("{more}/0"), format!("{}/0", bed.topic)]);
    source.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_away_is_waited_for() {
    let kafka = EmbeddedKafka::start(&[("events", 1)]).unwrap();
    kafka.set_reachable(false).unwrap();
    let bed = Bed {
        brokers: kafka.address().to_owned(),
        topic: "events".to_owned(),
        group: unique("away"),
        dead_letter: "events.dlq".to_owned(),
    };
    let mut source = Running::start(bed.source());
    let waiting = |source: &Running| matches!(source.statuses.last(), Some(Status::Waiting(_)));
    let ready = |source: &Running| source.statuses.last() == Some(&Status::Ready);
    source.until("waiting at the start", waiting).await;
    let Some(Status::Waiting(why)) = source.statuses.last() else { unreachable!() };
    assert!(why.contains(kafka.address()), "{why}");
    kafka.set_reachable(true).unwrap();
    source.until("the broker", ready).await;
    produce(kafka.address(), "events", [(0, "one".to_owned())]).await;
    let record = source.record().await;
    assert_eq!(text(&record), "one");
    kafka.set_reachable(false).unwrap();
    source.until("waiting later", waiting).await;
    source.settle(&record);
    kafka.set_reachable(true).unwrap();
    source.until("the broker again", ready).await;
    produce(kafka.address(), "events", [(0, "two".to_owned())]).await;
    // A settled record does not come again, whatever the group made of the outage.
    let next = source.record_within(PATIENCE).await.expect("it goes on after the outage");
    assert_eq!(text(&next), "two");
    source.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_stays_away_does_not_keep_the_source_from_ending() {
    let kafka = EmbeddedKafka::start(&[("events", 1)]).unwrap();
    kafka.set_reachable(false).unwrap();
    let bed = Bed {
        brokers: kafka.address().to_owned(),
        topic: "events".to_owned(),
        group: unique("never"),
        dead_letter: "events.dlq".to_owned(),
    };
    let mut source = Running::start(bed.source());
    source.until("waiting", |source| !source.statuses.is_empty()).await;
    source.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_probe_tells_what_it_found_or_what_is_wrong() {
    let bed = Bed::with_partitions("probe", 3).await;
    let lines = bed.source().probe().await.unwrap().join("\n");
    assert!(lines.contains(&format!("topic {}: 3 partition(s)", bed.topic)), "{lines}");
    assert!(lines.contains(&format!("topic {}: will be made", bed.dead_letter)), "{lines}");
    let missing = bed.source_with(&[("topics", Value::List(vec![node(word("no.such.topic"))]))]);
    let error = missing.probe().await.unwrap_err();
    assert!(error.contains("no.such.topic"), "{error}");
    let nobody = bed.source_with(&[("brokers", word("127.0.0.1:1"))]);
    let error = nobody.probe().await.unwrap_err();
    assert!(error.contains("127.0.0.1:1"), "{error}");
}
