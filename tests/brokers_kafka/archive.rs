//! Letters seen from outside, where that is a matter of Kafka: several partitions, letters that retention
//! took away, groups of the next generation, the embedded broker, and the topics that are made.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rdkafka::Offset;
use rdkafka::TopicPartitionList;
use rdkafka::admin::{AdminOptions, AlterConfig, ResourceSpecifier};
use roomcast::broker::{Archive, Broker, Placed, Reading};
use roomcast::core::letter::Sealed;
use roomcast::core::model::{Origin, Record, SourceId};
use roomcast::core::section::{Table, Value};
use roomcast::simulator::kafka::EmbeddedKafka;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::bed::{Bed, Running, node, unique};

const REPLAYS: SourceId = SourceId(5);

async fn collect(archive: &dyn Archive) -> Vec<Record> {
    let (into, mut letters) = mpsc::channel(4);
    let all = async {
        let mut all = Vec::new();
        while let Some(letter) = letters.recv().await {
            all.push(letter);
        }
        all
    };
    let (read, all) = tokio::join!(archive.read(into), all);
    assert_eq!(read, Ok(()));
    all
}

fn letter(number: u128) -> Sealed {
    let header = |(name, value): (&str, String)| (Arc::from(format!("roomcast-{name}")), Bytes::from(value));
    let headers = [
        ("letter", Uuid::from_u128(number).to_string()),
        ("id", Uuid::from_u128(1).to_string()),
        ("class", "rejected".to_owned()),
        ("replays", "0".to_owned()),
        ("source", "live".to_owned()),
        ("topic", "events".to_owned()),
        ("partition", "0".to_owned()),
        ("offset", number.to_string()),
        ("timestamp", "2026-01-31T00:00:00.000Z".to_owned()),
    ];
    Sealed {
        id: roomcast::core::letter::LetterId(Uuid::from_u128(number)),
        key: Some(Bytes::from("k")),
        value: Some(Bytes::from("v")),
        headers: headers.map(header).to_vec(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn archive_reads_every_partition_and_what_retention_left() {
    let mut bed = Bed::with_partitions("archive", 3).await;
    // What is in its topic are the letters of another source.
    let other = Bed {
        dead_letter: bed.topic.clone(),
        topic: unique("none"),
        group: unique("g"),
        brokers: bed.brokers.clone(),
    };
    bed.produce((0..90).map(|number| (number % 3, number.to_string()))).await;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&bed.topic, 1, Offset::Offset(10)).unwrap();
    list.add_partition_offset(&bed.topic, 2, Offset::Offset(30)).unwrap();
    bed.admin().delete_records(&list, &AdminOptions::new()).await.unwrap();
    let archive = other.source().archive();
    let found = collect(&*archive).await;
    let numbers = |partition| -> Vec<i64> {
        found.iter().filter(|r| r.origin.partition == partition).map(|r| r.origin.offset).collect()
    };
    assert_eq!([numbers(0), numbers(1), numbers(2)], [(0..30).collect(), (10..30).collect(), vec![]]);
    bed.dead_letter.clone_from(&other.topic);
    let at = |partition, offset| Origin {
        stream: bed.topic.as_str().into(),
        topic: bed.topic.as_str().into(),
        partition,
        offset,
    };
    let archive = bed.source().archive();
    assert_eq!(archive.value_at(at(1, 10)).await, Ok(Some(Bytes::from("31"))));
    assert_eq!(archive.value_at(at(1, 9)).await, Ok(None), "deleted");
    assert_eq!(archive.value_at(at(2, 29)).await, Ok(None), "deleted, and nothing is left");
    assert_eq!(archive.value_at(at(3, 0)).await, Ok(None), "no such partition");
    assert_eq!(archive.value_at(at(0, 29)).await, Ok(Some(Bytes::from("87"))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn archive_counts_members_of_a_group_of_the_next_generation() {
    let bed = Bed::with_partitions("nextgen", 2).await;
    let next = Table::from([("group.protocol".to_owned(), node(Value::Text("consumer".to_owned())))]);
    let settings = [("properties", Value::Table(next))];
    let archive = bed.source_with(&settings).archive();
    assert_eq!(archive.readers().await, Ok(0));
    let mut source = Running::start(bed.source_with(&settings));
    source.until("its partitions", |source| source.assigned.len() == 2).await;
    assert_eq!(archive.readers().await, Ok(1));
    source.stop().await;
}

/// The demo's broker: topics are made when they are written to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn archive_and_replays_work_on_the_embedded_broker() {
    let kafka = EmbeddedKafka::start(&[("events", 1)]).unwrap();
    let bed = Bed {
        brokers: kafka.address().to_owned(),
        topic: "events".to_owned(),
        group: unique("embedded"),
        dead_letter: "events.dlq".to_owned(),
    };
    let live: Box<dyn Broker> = bed.source();
    let (archive, replays) = (live.archive(), live.replays(REPLAYS, Reading::AtOnce));
    let source = Running::start(live);
    let mut replays = Running::start(replays);
    source.started.letters.write(letter(1)).await.unwrap();
    let found = collect(&*archive).await;
    assert_eq!(found.len(), 1);
    assert_eq!(archive.request(found[0].clone(), Vec::new()).await, Ok(Placed::Now));
    let record = replays.record().await;
    assert_eq!((&record.key, &record.value), (&found[0].key, &found[0].value));
    assert_eq!((record.id.source, &*record.origin.topic), (REPLAYS, "events.dlq.replay"));
    replays.settle(&record);
    replays.stop().await;
    source.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_beside_a_source_take_what_the_largest_of_its_topics_takes() {
    let bed = Bed::with_partitions("wide", 1).await;
    let other = format!("{}-more", bed.topic);
    bed.make_topic(&other, 1).await;
    let wide = AlterConfig::new(ResourceSpecifier::Topic(&other)).set("max.message.bytes", "5000000");
    bed.admin().alter_configs([&wide], &AdminOptions::new()).await.unwrap()[0].as_ref().unwrap();
    let topics = vec![node(Value::Text(format!("^{}.*", bed.topic)))];
    let source = Running::start(bed.source_with(&[("topics", Value::List(topics))]));
    source.started.letters.write(letter(1)).await.unwrap();
    let names = [bed.dead_letter.clone(), format!("{}.replay", bed.dead_letter)];
    let asked: Vec<ResourceSpecifier<'_>> = names.iter().map(|name| ResourceSpecifier::Topic(name)).collect();
    let told = bed.admin().describe_configs(&asked, &AdminOptions::new()).await.unwrap();
    let widths: BTreeSet<i64> = told
        .into_iter()
        .map(|config| {
            config.unwrap().get("max.message.bytes").unwrap().value.as_ref().unwrap().parse().unwrap()
        })
        .collect();
    assert_eq!(widths, [5_000_000 + 65_536, 5_000_000 + 2 * 65_536].into());
    source.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn archive_says_what_is_wrong_when_no_broker_answers_and_where_no_request_can_be_written() {
    let bed = Bed {
        brokers: "127.0.0.1:9".to_owned(),
        topic: unique("away"),
        group: unique("g"),
        dead_letter: unique("dlq"),
    };
    let (into, _letters) = mpsc::channel(1);
    let why = bed.source().archive().read(into).await.unwrap_err();
    assert!(why.contains("127.0.0.1:9"), "{why}");

    let bed = Bed::with_partitions("norequests", 1).await;
    bed.make_topic(&bed.dead_letter, 1).await;
    let short = Table::from([("delivery.timeout.ms".to_owned(), node(Value::Integer(3_000)))]);
    let settings: BTreeMap<&str, Value> =
        [("create_dead_letter", Value::Boolean(false)), ("properties", Value::Table(short))].into();
    let settings: Vec<(&str, Value)> = settings.into_iter().collect();
    let source = Running::start(bed.source_with(&settings));
    source.started.letters.write(letter(1)).await.unwrap();
    source.stop().await;
    let archive = bed.source_with(&settings).archive();
    let found = collect(&*archive).await.remove(0);
    let refused = tokio::time::timeout(Duration::from_secs(60), archive.request(found, Vec::new()));
    let why = refused.await.expect("it is told in time").unwrap_err();
    assert!(why.contains(&format!("{}.replay", bed.dead_letter)), "{why}");
}
