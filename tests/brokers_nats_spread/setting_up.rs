//! What is made, what is refused, and what is said of it.

use async_nats::jetstream::stream;
use roomcast::broker::Status;
use roomcast::core::section::{Table, Value};

use super::nats_bed::{Running, Server, broker, text};
use super::replica::{Log, Replica};
use super::{PARTS, create_stream, node, publish_all, publish_one, seconds, spread};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_missing_is_told_with_the_command_that_makes_it() {
    let server = Server::start("");
    let jetstream = server.jetstream().await;
    create_stream(&jetstream).await;
    let letters = stream::Config {
        name: "MATCH_DLQ".to_owned(),
        subjects: vec!["MATCH_DLQ.>".to_owned()],
        ..stream::Config::default()
    };
    jetstream.create_stream(letters).await.unwrap();
    publish_one(&jetstream, 0, "").await;
    let mut settings = spread(2);
    settings.push(("create", node(Value::Boolean(false))));
    let log = Log::default();
    let one = Replica::start("one", &server, &log, &settings);
    let client = async_nats::connect(server.url()).await.unwrap();
    let mut made = Vec::new();
    while one.seen().statuses.last() != Some(&Status::Ready) {
        let why = one.waits_because().await;
        // What people are told to type, typed.
        if let Some((_, command)) = why.split_once("nats request '")
            && !made.contains(&why)
        {
            let (subject, body) = command.split_once("' '").unwrap();
            let body = body.strip_suffix('\'').unwrap().to_owned();
            let answer = client.request(subject.to_owned(), body.into()).await.unwrap();
            let answer: serde_json::Value = serde_json::from_slice(&answer.payload).unwrap();
            assert_eq!(answer.get("error"), None, "{why}: {answer}");
            made.push(why);
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(made.len(), 3, "a stream and two durables: {made:#?}");
    assert!(made[0].contains(PARTS) && made[0].contains("create = true"), "{}", made[0]);
    log.until(1).await;
    one.stop().await;
    let lines = broker(&server, &settings).probe().await.unwrap();
    assert_eq!(lines.len(), 6, "{lines:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_number_of_partitions_is_refused_until_the_copy_is_deleted() {
    let server = Server::start("");
    let jetstream = server.jetstream().await;
    create_stream(&jetstream).await;
    let log = Log::default();
    let one = Replica::ready("one", &server, &log, &spread(2)).await;
    publish_all(&jetstream, 0..100).await;
    log.until(100).await;
    one.stop().await;
    publish_all(&jetstream, 100..200).await;
    let one = Replica::start("one", &server, &log, &spread(4));
    let why = one.waits_because().await;
    assert!(why.contains("over 2 partitions, the config says 4") && why.contains("nats stream rm"), "{why}");
    let probed = broker(&server, &spread(4)).probe().await.unwrap_err();
    assert!(probed.contains("over 2 partitions"), "{probed}");
    assert_eq!(log.all().len(), 100);
    jetstream.delete_stream(PARTS).await.unwrap();
    log.until(200).await;
    assert_eq!(log.assert_kept(200), 0, "all that was finished was noted when the first stopped");
    one.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_goes_over_to_partitions_where_its_one_reader_stood() {
    let server = Server::start("");
    let jetstream = server.jetstream().await;
    create_stream(&jetstream).await;
    let log = Log::default();
    let alone = [("ack_wait", text("1s")), ("start_from", text("earliest"))];
    let one = Replica::ready("one", &server, &log, &alone).await;
    publish_all(&jetstream, 0..100).await;
    log.until(100).await;
    // `latest`: with a place to go on from, nothing is skipped all the same.
    let mut settings = spread(2);
    settings[2].1 = text("latest");
    let two = Replica::start("two", &server, &log, &settings);
    let why = two.waits_because().await;
    assert!(why.contains("being read") && why.contains("stop all replicas"), "{why}");
    one.stop().await;
    publish_all(&jetstream, 100..150).await;
    log.until(150).await;
    assert_eq!(log.assert_kept(150), 0);
    two.stop().await;
    let back = Replica::start("back", &server, &log, &alone);
    let why = back.waits_because().await;
    assert!(why.contains(PARTS) && why.contains("name another `durable`"), "{why}");
    back.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn start_from_says_where_the_first_copy_begins() {
    let server = Server::start("");
    let jetstream = server.jetstream().await;
    create_stream(&jetstream).await;
    publish_all(&jetstream, 0..50).await;
    let log = Log::default();
    let mut settings = spread(2);
    settings[2].1 = text("latest");
    let one = Replica::ready("one", &server, &log, &settings).await;
    publish_all(&jetstream, 50..60).await;
    log.until(10).await;
    assert!(log.all().iter().all(|sent| sent.number >= 50), "{:?}", log.all());
    one.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_has_one_partition_whatever_subject_it_stands_in() {
    let server = Server::start("");
    let mut settings = spread(4);
    let subjects = vec![text("deep.>"), text("fixed.z.k1"), text("other.here.*")];
    settings.push(("subjects", node(Value::List(subjects))));
    let token = Table::from([("token".to_owned(), node(Value::Integer(2)))]);
    settings.push(("key", node(Value::Table(token))));
    let mut source = Running::ready(&server, 100, &settings).await;
    let jetstream = server.jetstream().await;
    let published =
        ["deep.a", "deep.a.k1", "deep.b.k1.x.y", "fixed.z.k1", "other.here.k1", "deep.a.k2", "deep.b.k2.x"];
    for subject in published {
        jetstream.publish(subject, "{}".into()).await.unwrap().await.unwrap();
    }
    let mut records = source.records(published.len()).await;
    records.sort_by_key(|record| record.origin.offset);
    let topics: Vec<&str> = records.iter().map(|record| &*record.origin.topic).collect();
    assert_eq!(topics, published);
    let keys: Vec<Option<&[u8]>> = records.iter().map(|record| record.key.as_deref()).collect();
    let (k1, k2) = (Some(&b"k1"[..]), Some(&b"k2"[..]));
    assert_eq!(keys, [None, k1, k1, k1, k1, k2, k2]);
    let partitions: Vec<u32> = records.iter().map(|record| record.id.partition.0).collect();
    assert_eq!(partitions[0], 0, "without a key");
    assert!(partitions[1..5].iter().all(|partition| *partition == partitions[1]), "{partitions:?}");
    assert_eq!(partitions[5], partitions[6]);
    let told: Vec<i32> = records.iter().map(|record| record.origin.partition).collect();
    assert_eq!(
        told,
        partitions.iter().map(|partition| i32::try_from(*partition).unwrap()).collect::<Vec<_>>()
    );
    source.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_deletes_what_is_read_is_refused() {
    let server = Server::start("");
    let config = stream::Config {
        name: "MATCH".to_owned(),
        subjects: vec!["match.*.events".to_owned()],
        retention: stream::RetentionPolicy::WorkQueue,
        ..stream::Config::default()
    };
    server.jetstream().await.create_stream(config).await.unwrap();
    let one = Replica::start("one", &server, &Log::default(), &spread(2));
    let why = one.waits_because().await;
    assert!(why.contains("retention `limits`"), "{why}");
    one.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p5_headers_that_break_the_client_stop_no_partition() {
    let server = Server::start("");
    let jetstream = server.jetstream().await;
    create_stream(&jetstream).await;
    let log = Log::default();
    let one = Replica::ready("one", &server, &log, &spread(2)).await;
    publish_all(&jetstream, 0..40).await;
    server.publish_raw("match.0.events", b"Room: \xff", "40");
    server.publish_raw("match.1.events", b"Ro om: a", "41");
    publish_all(&jetstream, 42..120).await;
    log.until(120).await;
    assert_eq!(log.assert_kept(120), 0);
    assert!(log.all().iter().all(|sent| sent.origin == i64::try_from(sent.number).unwrap() + 1));
    tokio::time::sleep(seconds(2)).await;
    assert_eq!(log.all().len(), 120);
    one.stop().await;
}
