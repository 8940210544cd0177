//! Letters seen from outside, and replays, where that is a matter of JetStream: what may not be made, a
//! dead-letter stream that does not take requests, a server that is killed, a source with partitions.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_nats::HeaderMap;
use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::stream;
use bytes::Bytes;
use roomcast::broker::{Archive, Placed, Reading, Status};
use roomcast::core::model::{Origin, Record, SourceId};
use roomcast::core::section::{Node, Place, Table, Value};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::nats_bed::{Running, Server, broker, letter, publish, text};

const REPLAYS: SourceId = SourceId(5);

fn node(value: Value) -> Node {
    Node { value, place: Place::Nowhere, key_place: Place::Nowhere }
}

fn never_made() -> Vec<(&'static str, Node)> {
    vec![("create", node(Value::Boolean(false)))]
}

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

/// A letter that can be asked for.
fn whole(number: u128) -> roomcast::core::letter::Sealed {
    let mut letter = letter(number, Bytes::from("{}"));
    for (name, value) in [
        ("letter", Uuid::from_u128(number).to_string()),
        ("id", Uuid::from_u128(1).to_string()),
        ("class", "rejected".to_owned()),
        ("replays", "0".to_owned()),
        ("source", "match".to_owned()),
        ("timestamp", "2026-01-31T00:00:00.000Z".to_owned()),
    ] {
        letter.headers.push((Arc::from(format!("roomcast-{name}")), Bytes::from(value)));
    }
    letter
}

/// Waits until the source says why it waits.
async fn why_it_waits(source: &mut Running) -> String {
    loop {
        if let Some(Status::Waiting(why)) = source.statuses.last() {
            return why.clone();
        }
        source.news().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn archive_replays_wait_for_a_durable_that_may_not_be_made_while_the_source_goes_on() {
    let server = Server::start("");
    Running::ready(&server, 10, &[]).await.stop().await;
    let mut live = Running::ready(&server, 10, &never_made()).await;
    let mut replays = Running::of(broker(&server, &never_made()).replays(REPLAYS, Reading::AtOnce), 10);
    let why = why_it_waits(&mut replays).await;
    let command = "nats consumer add MATCH_DLQ roomcast_replay --pull --filter 'MATCH_DLQ.replay.>' --deliver all \
                   --ack explicit --wait 2s --max-deliver=-1 --max-pending 10 --pinned-groups roomcast \
                   --pinned-ttl 12s --replay instant --defaults";
    assert!(why.contains(command) && why.contains("create = true"), "{why}");
    let jetstream = server.jetstream().await;
    publish(&jetstream, 0..3).await;
    for record in live.records(3).await {
        live.settle(&record);
    }

    let config = pull::Config {
        durable_name: Some("roomcast_replay".to_owned()),
        filter_subject: "MATCH_DLQ.replay.>".to_owned(),
        ..pull::Config::default()
    };
    let stream = jetstream.get_stream("MATCH_DLQ").await.unwrap();
    stream.create_consumer(config).await.unwrap();
    replays.until_ready().await;
    live.started.letters.write(whole(1)).await.unwrap();
    let archive = broker(&server, &never_made()).archive();
    let found = collect(&*archive).await.remove(0);
    assert_eq!(found.key.as_deref(), Some(&b"1"[..]), "the key of the record");
    assert_eq!(archive.request(found, Vec::new()).await, Ok(Placed::Now));
    let record = replays.record().await;
    assert_eq!(record.id.source, REPLAYS);
    assert_eq!(&*record.origin.topic, &format!("MATCH_DLQ.replay.{}", Uuid::from_u128(1)));
    replays.stop().await;
    live.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn archive_replays_wait_for_a_stream_that_takes_requests_while_letters_are_written() {
    let server = Server::start("");
    let jetstream = server.jetstream().await;
    let config = |subjects: &[&str]| stream::Config {
        name: "MATCH_DLQ".to_owned(),
        subjects: subjects.iter().map(|subject| (*subject).to_owned()).collect(),
        ..stream::Config::default()
    };
    jetstream.create_stream(config(&["MATCH_DLQ.letter.>"])).await.unwrap();
    let live = Running::ready(&server, 10, &[]).await;
    let mut replays = Running::of(broker(&server, &[]).replays(REPLAYS, Reading::AtOnce), 10);
    let why = why_it_waits(&mut replays).await;
    assert!(why.contains("MATCH_DLQ does not take MATCH_DLQ.replay.>"), "{why}");
    live.started.letters.write(whole(1)).await.unwrap();
    jetstream.update_stream(config(&["MATCH_DLQ.letter.>", "MATCH_DLQ.replay.>"])).await.unwrap();
    replays.until_ready().await;
    replays.stop().await;
    live.stop().await;
}

/// What retention takes away can be asked for again; what is still there cannot.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn archive_asks_again_only_when_the_stream_has_forgotten_the_request() {
    let server = Server::start("");
    let live = Running::ready(&server, 10, &[]).await;
    live.started.letters.write(whole(1)).await.unwrap();
    live.stop().await;
    let archive = broker(&server, &[]).archive();
    let found = collect(&*archive).await.remove(0);
    let ask = || archive.request(found.clone(), Vec::new());
    assert_eq!(ask().await, Ok(Placed::Now));
    let mut replays = Running::of(broker(&server, &[]).replays(REPLAYS, Reading::AtOnce), 10);
    let record = replays.record().await;
    replays.settle(&record);
    replays.stop().await;
    assert_eq!(ask().await, Ok(Placed::Before), "finished, and there");
    let stream = server.jetstream().await.get_stream("MATCH_DLQ").await.unwrap();
    stream.purge().filter("MATCH_DLQ.replay.>").await.unwrap();
    assert_eq!(ask().await, Ok(Placed::Now), "gone, and asked for anew");
    assert_eq!(collect(&*archive).await.len(), 1, "requests are no letters");
}

/// Only what is finished is followed by another request: not one that is under way, nor the own one, whose
/// confirmation may have been lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn archive_asks_again_where_the_request_that_stands_there_is_not_under_way() {
    let server = Server::start("");
    let live = Running::ready(&server, 10, &[]).await;
    live.started.letters.write(whole(1)).await.unwrap();
    live.stop().await;
    let archive = broker(&server, &[]).archive();
    let found = collect(&*archive).await.remove(0);
    let ask = |asking: u128, under_way: Option<u128>| {
        let id = Bytes::from(Uuid::from_u128(asking).to_string());
        archive.request_unless(
            under_way.map(Uuid::from_u128),
            found.clone(),
            vec![("roomcast-request".into(), id)],
        )
    };
    assert_eq!(ask(1, None).await, Ok(Placed::Now));
    assert_eq!(ask(1, None).await, Ok(Placed::Before), "it is there");
    assert_eq!(ask(2, Some(1)).await, Ok(Placed::Before), "it is under way");
    assert_eq!(ask(2, Some(3)).await, Ok(Placed::Now), "3 was never written");
    let stream = server.jetstream().await.get_stream("MATCH_DLQ").await.unwrap();
    let of = |asking: u128| ask(asking, None);
    let many = futures_util::future::join_all((4..20).map(of)).await;
    let written = many.iter().filter(|placed| **placed == Ok(Placed::Now)).count();
    assert!(written >= 1 && many.iter().all(Result::is_ok), "{many:?}");
    let state = stream.get_info().await.unwrap().state;
    assert_eq!(state.messages, 1 + 2 + written as u64, "what was not written is told as such");
    stream.purge().filter("MATCH_DLQ.replay.>").await.unwrap();
    assert_eq!(ask(2, None).await, Ok(Placed::Now), "gone meanwhile");
    assert_eq!(collect(&*archive).await.len(), 1, "requests are no letters");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn archive_reads_on_when_the_server_is_killed_and_started_again() {
    let mut server = Server::start("");
    let jetstream = server.jetstream().await;
    let config = stream::Config {
        name: "MATCH_DLQ".to_owned(),
        subjects: vec!["MATCH_DLQ.>".to_owned()],
        ..stream::Config::default()
    };
    jetstream.create_stream(config).await.unwrap();
    const LETTERS: usize = 1_500;
    for number in 0..LETTERS {
        // Between letters stands what is none.
        for subject in [format!("MATCH_DLQ.letter.{number}"), format!("MATCH_DLQ.other.{number}")] {
            let sent = jetstream.publish(subject, number.to_string().into()).await.unwrap();
            if number == LETTERS - 1 {
                sent.await.unwrap();
            }
        }
    }
    let archive = broker(&server, &[]).archive();
    let (into, mut letters) = mpsc::channel::<Record>(1);
    let take = async {
        let mut taken = Vec::new();
        while let Some(letter) = letters.recv().await {
            taken.push(letter.value.unwrap());
            if taken.len() == 100 {
                server.kill();
                server.run();
            }
        }
        taken
    };
    let (read, taken) = tokio::join!(archive.read(into), take);
    assert_eq!(read, Ok(()));
    let wanted: Vec<Bytes> = (0..LETTERS).map(|number| Bytes::from(number.to_string())).collect();
    assert_eq!(taken, wanted, "each once, in order");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn archive_of_a_source_with_partitions_has_one_reader_of_replays() {
    let server = Server::start("");
    let partitions = BTreeMap::from([("partitions".to_owned(), node(Value::Integer(2)))]);
    let spread = [("spread", node(Value::Table(Table::from(partitions))))];
    let live = broker(&server, &spread);
    let archive = live.archive();
    assert_eq!(archive.readers().await, Ok(0));
    let mut live = Running::of(live, 10);
    live.until_ready().await;
    let jetstream = server.jetstream().await;
    let mut headers = HeaderMap::new();
    headers.insert("Room", "a");
    jetstream.publish_with_headers("match.1.events", headers, "value".into()).await.unwrap().await.unwrap();
    let record = live.record().await;
    assert_eq!((&*record.origin.stream, record.origin.offset), ("MATCH", 1));
    assert_eq!(archive.value_at(record.origin.clone()).await, Ok(Some(Bytes::from("value"))));
    // As a letter that names no stream tells of it, and one that tells of another message.
    let told = |topic: &str| Origin { stream: topic.into(), topic: topic.into(), ..record.origin.clone() };
    assert_eq!(archive.value_at(told("match.1.events")).await, Ok(Some(Bytes::from("value"))));
    assert_eq!(archive.value_at(told("match.2.events")).await, Ok(None));
    assert!(archive.readers().await.unwrap() >= 1);

    live.started.letters.write(whole(1)).await.unwrap();
    let found = collect(&*archive).await.remove(0);
    assert_eq!(archive.request(found, Vec::new()).await, Ok(Placed::Now));
    let mut replays = Running::of(broker(&server, &spread).replays(REPLAYS, Reading::AtOnce), 10);
    let request = replays.record().await;
    assert_eq!((request.origin.partition, request.key.as_deref()), (0, Some(&b"1"[..])));
    let stream = jetstream.get_stream("MATCH_DLQ").await.unwrap();
    let info = stream.consumer_info("roomcast_replay").await.unwrap();
    assert!(info.priority_groups[0].pinned_client_id.is_some(), "{info:#?}");
    replays.stop().await;
    live.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn archive_says_what_is_wrong_when_no_server_answers() {
    let server = Server::later();
    let archive = broker(&server, &[]).archive();
    let (into, _letters) = mpsc::channel(1);
    for why in [
        archive.read(into).await.unwrap_err(),
        archive.readers().await.unwrap_err(),
        archive.table().load(|_| true).await.unwrap_err(),
    ] {
        assert!(why.starts_with(&format!("cannot connect to {}", server.url())), "{why}");
    }
}

/// The permissions that the README names are enough.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn archive_and_replays_work_with_the_permissions_that_the_readme_names() {
    let server = Server::start(
        "authorization { users: [{ user: a, password: b, permissions: {
           publish: [\"MATCH_DLQ.>\", \"$KV.MATCH_DLQ_state.>\", \"$JS.API.>\", \"$JS.ACK.>\"]
           subscribe: [\"_INBOX.>\"] } }] }",
    );
    let login = [("username", text("a")), ("password", text("b"))];
    let live = Running::ready(&server, 10, &login).await;
    live.started.letters.write(whole(1)).await.unwrap();
    let archive = broker(&server, &login).archive();
    let found = collect(&*archive).await.remove(0);
    assert_eq!(archive.request(found, Vec::new()).await, Ok(Placed::Now));
    let row = ("a".to_owned(), Bytes::from("1"));
    archive.table().put(row.0.clone(), row.1.clone()).await.unwrap();
    assert_eq!(archive.table().load(|_| true).await, Ok(vec![row]));
    let mut replays = Running::of(broker(&server, &login).replays(REPLAYS, Reading::AtOnce), 10);
    let record = replays.record().await;
    replays.settle(&record);
    replays.stop().await;
    let mut replays = Running::of(broker(&server, &login).replays(REPLAYS, Reading::AtOnce), 10);
    assert!(replays.records_within(std::time::Duration::from_secs(4)).await.is_empty(), "it was acked");
    assert_eq!(archive.value_at(record.origin).await, Ok(None));
    replays.stop().await;
    live.stop().await;
}
