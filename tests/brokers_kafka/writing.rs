//! Letters and the table beside them, and what a source's section may say.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rdkafka::Message;
use roomcast::core::letter::{LetterId, Sealed};
use roomcast::core::section::Value;
use roomcast::simulator::kafka::EmbeddedKafka;
use uuid::Uuid;

use crate::bed::{Bed, Running, build, header, node, unique};

fn letter(key: &str, value: &[u8]) -> Sealed {
    let header = |name: &str, value: &str| (Arc::from(name), Bytes::copy_from_slice(value.as_bytes()));
    Sealed {
        id: LetterId(Uuid::from_u128(7)),
        key: Some(Bytes::copy_from_slice(key.as_bytes())),
        value: Some(Bytes::copy_from_slice(value)),
        headers: vec![
            header("trace", "abc"),
            header("trace", "def"),
            header("roomcast-class", "rejected"),
            header("roomcast-topic", "events"),
            header("roomcast-partition", "3"),
            header("roomcast-offset", "42"),
        ],
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_are_confirmed_with_their_headers_and_cut_when_too_large() {
    let bed = Bed::with_partitions("letters", 1).await;
    let source = Running::start(bed.source());
    let letters = &source.started.letters;
    letters.write(letter("small", b"value")).await.unwrap();
    letters.write(letter("large", &vec![b'x'; 3_000_000])).await.unwrap();
    letters.write(letter(&"k".repeat(1_200_000), b"value")).await.unwrap();
    let mut written = bed.read_all(&bed.dead_letter);
    written.sort_by_key(|message| message.timestamp().to_millis());
    assert_eq!(written.len(), 3);
    let (small, large, bare) = (&written[0], &written[1], &written[2]);
    assert_eq!((small.key(), small.payload()), (Some(&b"small"[..]), Some(&b"value"[..])));
    assert_eq!(header(small, "trace").as_deref(), Some("abc"));
    assert_eq!(header(small, "roomcast-class").as_deref(), Some("rejected"));
    assert_eq!(header(small, "roomcast-truncated"), None);
    assert_eq!((large.key(), large.payload()), (Some(&b"large"[..]), None));
    assert_eq!(header(large, "roomcast-truncated").as_deref(), Some("events/3/42"));
    assert_eq!(header(large, "trace").as_deref(), Some("abc"));
    assert_eq!((bare.key(), bare.payload()), (None, None), "a key that is too large is not kept either");
    assert_eq!(header(bare, "roomcast-truncated").as_deref(), Some("events/3/42"));
    source.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_letters_at_once_are_all_written() {
    let bed = Bed::with_partitions("many", 1).await;
    let source = Running::start(bed.source());
    let writes = (0..100).map(|n| source.started.letters.write(letter(&n.to_string(), b"value")));
    for result in futures_util::future::join_all(writes).await {
        result.unwrap();
    }
    assert_eq!(bed.read_all(&bed.dead_letter).len(), 100);
    source.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_broker_takes_letters_and_rows_at_once() {
    let kafka = EmbeddedKafka::start(&[("events", 1)]).unwrap();
    let bed = Bed {
        brokers: kafka.address().to_owned(),
        topic: "events".to_owned(),
        group: unique("embedded"),
        dead_letter: "events.dlq".to_owned(),
    };
    let source = Running::start(bed.source());
    let row = source.started.table.put("key".to_owned(), Bytes::from_static(b"row"));
    let (letter, row) = tokio::time::timeout(Duration::from_secs(5), async {
        futures_util::future::join(source.started.letters.write(letter("k", b"v")), row).await
    })
    .await
    .expect("it makes topics by itself, and nobody waits for that");
    letter.unwrap();
    row.unwrap();
    assert_eq!(
        source.started.table.load(|_| true).await.unwrap(),
        [("key".to_owned(), Bytes::from_static(b"row"))]
    );
    assert_eq!(bed.read_all("events.dlq")[0].payload(), Some(&b"v"[..]));
    source.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_topic_that_may_not_be_made_is_an_error_to_the_writer() {
    let bed = Bed::with_partitions("nodlq", 1).await;
    let short = BTreeMap::from([("delivery.timeout.ms".to_owned(), node(Value::Integer(3_000)))]);
    let broker = bed
        .source_with(&[("create_dead_letter", Value::Boolean(false)), ("properties", Value::Table(short))]);
    let source = Running::start(broker);
    let error = source.started.letters.write(letter("k", b"v")).await.unwrap_err();
    assert!(error.contains(&bed.dead_letter), "{error}");
    source.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_table_gives_back_the_last_value_of_every_key() {
    let bed = Bed::with_partitions("table", 1).await;
    let source = Running::start(bed.source());
    let table = &source.started.table;
    assert_eq!(table.load(|_| true).await.unwrap(), Vec::new(), "it is made, and empty");
    for (key, value) in [("a", "1"), ("b", "2"), ("a", "3")] {
        table.put(key.to_owned(), Bytes::from_static(value.as_bytes())).await.unwrap();
    }
    let row = |key: &str, value: &'static str| (key.to_owned(), Bytes::from_static(value.as_bytes()));
    assert_eq!(table.load(|_| true).await.unwrap(), [row("a", "3"), row("b", "2")]);
    source.stop().await;
}

#[test]
fn a_section_is_read_or_says_what_is_wrong() {
    let text = |text: &str| Value::Text(text.to_owned());
    let good = || {
        BTreeMap::from([
            ("brokers", text("a:9092, b:9092")),
            ("group", text("roomcast")),
            ("topics", text("live.events")),
            ("dead_letter", text("live.events.dlq")),
        ])
    };
    assert_eq!(build(good()).map(|broker| broker.dead_letter().to_owned()), Ok("live.events.dlq".to_owned()));
    let property = |key: &str, value: Value| Value::Table([(key.to_owned(), node(value))].into());
    let table: &[(&str, Value, &str)] = &[
        ("brokers", text("localhost"), "host:port"),
        ("brokers", text("localhost:0"), "host:port"),
        ("group", text(""), "not empty"),
        ("topics", Value::List(vec![]), "empty list"),
        ("topics", text("a b"), "249 letters"),
        ("topics", text("^live\\.(events"), "regular expression"),
        ("topics", text("live.events.dlq"), "without the dead-letter topic"),
        ("topics", text("live.events.dlq.replay"), "without the dead-letter topic"),
        ("dead_letter", text("a/b"), "a topic's name"),
        ("start_from", text("now"), "\"latest\", \"earliest\""),
        ("password", text("p"), "the user's name"),
        ("username", text("u"), "a secret"),
        ("mechanism", text("GSSAPI"), "SCRAM-SHA-256"),
        ("tls", property("cert_file", text("c.pem")), "belongs to cert_file"),
        ("tls", property("ca_fil", text("c.pem")), "did you mean \"ca_file\"?"),
        ("properties", property("enable.auto.commit", Value::Boolean(false)), "never before"),
        ("properties", property("acks", text("1")), "idempotently"),
        ("properties", property("group.id", text("x")), "`group`"),
        ("properties", property("partition.assignment.strategy", text("range")), "cooperative"),
        ("properties", property("partitioner", text("random")), "murmur2_random"),
        ("properties", property("no.such.property", text("x")), "property of librdkafka"),
        ("properties", property("session.timeout.ms", text("soon")), "property of librdkafka"),
        ("properties", property("client", property("rack", text("a"))), "quote a name with dots"),
    ];
    for (key, value, wanted) in table {
        let mut settings = good();
        settings.insert(key, value.clone());
        let problems = build(settings).map(drop).expect_err(key).join("\n");
        assert!(problems.contains(wanted), "{key} = {value:?} says {problems:?}, not {wanted:?}");
        assert!(problems.starts_with("sources.live."), "{problems}");
    }
    let fine: &[(&str, Value)] = &[
        ("topics", text("^live\\..*")),
        ("properties", property("client.rack", text("a"))),
        ("properties", property("session.timeout.ms", Value::Integer(10_000))),
        ("properties", property("group.protocol", text("consumer"))),
        ("tls", Value::Table(BTreeMap::new())),
    ];
    for (key, value) in fine {
        let mut settings = good();
        settings.insert(key, value.clone());
        build(settings).map(drop).unwrap_or_else(|problems| panic!("{key}: {problems:?}"));
    }
}
