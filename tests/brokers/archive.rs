//! Letters seen from outside, and the requests for replays that are made of them: what `roomcast letters`,
//! the API and the daemons' replays rely on, for every entry of `BROKERS`.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use roomcast::broker::{Archive, Build, Part, Placed, Stands};
use roomcast::core::letter::{Letter, Names, Sealed};
use roomcast::core::model::{BaseId, Class, Origin, Record, Room, Tries};
use roomcast::core::replay::{Asked, Content, open};
use roomcast::core::time::Wall;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::beds::{Bed, Sample};
use crate::source::{Source, broker};
use crate::support::{ask_until, block_on};
use crate::{headers_of, on_every_broker, samples, values, wall};

/// Longer than a group or a durable needs to let go of a reader that has stopped.
const PATIENCE: Duration = Duration::from_secs(60);

/// Samples with a header of the kind that a NATS server obeys.
fn obeyed(numbers: Range<usize>) -> Vec<Sample> {
    let mut samples = samples(numbers);
    for (number, sample) in samples.iter_mut().enumerate() {
        sample.headers.push(("Nats-Msg-Id".to_owned(), format!("{}-{number}", sample.key)));
    }
    samples
}

fn seal(record: &Record) -> Sealed {
    let letter = Letter {
        record: Arc::new(record.clone()),
        base: BaseId(Uuid::from_u128(u128::from(record.origin.offset.unsigned_abs()))),
        class: Class::Rejected,
        error: "no".to_owned(),
        route: None,
        account: None,
        rooms: vec![Room("r1".into())],
        tries: Tries { attempts: 1, first: None, last: None, http_status: None, provider_code: None },
    };
    let names =
        Names { sources: (0..=record.id.source.0).map(|_| Arc::from("live")).collect(), ..Names::default() };
    letter.seal(&names, wall())
}

fn asked() -> Asked {
    Asked {
        id: Uuid::from_u128(9),
        by: "ann@host".to_owned(),
        at: Wall(1_700_000_100_000),
        content: Content::Original,
        keep_ttl: true,
    }
}

/// Publishes, reads, and writes a letter for each: the records and their letters.
fn letters_of(bed: &dyn Bed, build: Build, published: &[Sample]) -> (Vec<Record>, Vec<Sealed>) {
    let mut source = Source::ready(build, &bed.settings());
    bed.publish(published);
    let records = source.records(published.len());
    let letters: Vec<Sealed> = records.iter().map(seal).collect();
    for letter in &letters {
        block_on(source.started.letters.write(letter.clone())).expect("the letter is confirmed");
    }
    source.settle(&records);
    source.stop();
    (records, letters)
}

/// All that the archive hands over.
fn read(archive: &dyn Archive) -> Vec<Record> {
    let (into, mut letters) = mpsc::channel(4);
    let collect = async {
        let mut all = Vec::new();
        while let Some(letter) = letters.recv().await {
            all.push(letter);
        }
        all
    };
    let (read, all) = block_on(async { tokio::join!(archive.read(into), collect) });
    assert_eq!(read, Ok(()));
    all
}

/// Headers of a record that roomcast did not add.
fn own_headers(record: &Record) -> BTreeMap<String, Vec<String>> {
    let mut headers = headers_of(record);
    headers.retain(|name, _| !name.starts_with("roomcast-"));
    headers
}

#[test]
fn archive_reads_letters_as_they_were_written_and_in_order() {
    on_every_broker(|bed, build| {
        let archive = broker(build, &bed.settings()).archive();
        assert!(read(&*archive).is_empty(), "without a dead-letter topic there are no letters");
        assert!(!bed.has_letters(), "looking makes nothing");
        let before = wall();
        let (records, letters) = letters_of(bed, build, &obeyed(0..20));
        let after = wall();
        // From here and from another process it is the same.
        for archive in [archive, broker(build, &bed.settings()).archive()] {
            let found = read(&*archive);
            assert_eq!(found.len(), letters.len());
            for ((found, letter), record) in found.iter().zip(&letters).zip(&records) {
                assert_eq!((&found.key, &found.value), (&record.key, &record.value));
                let sealed = letter.headers.iter().map(|(name, value)| (&**name, &**value));
                assert_eq!(headers_of(found), crate::by_name(sealed));
                let (stream, topic) = bed.letter_stands(&letter.id.to_string());
                assert_eq!((&*found.origin.stream, &*found.origin.topic), (&*stream, &*topic));
                assert!((before..=after).contains(&found.timestamp), "{found:?}");
            }
            assert!(found.is_sorted_by(|one, next| one.origin.offset < next.origin.offset));
        }
    });
}

#[test]
fn archive_ends_when_nobody_takes_its_letters_any_more() {
    on_every_broker(|bed, build| {
        bed.fill(1_000, 10);
        let archive = broker(build, &bed.settings()).archive();
        let (into, mut letters) = mpsc::channel(1);
        let take_three = async move {
            for _ in 0..3 {
                letters.recv().await.expect("there are a thousand");
            }
        };
        let (read, ()) = block_on(async { tokio::join!(archive.read(into), take_three) });
        assert_eq!(read, Ok(()));
    });
}

#[test]
fn archive_requests_open_to_the_records_that_the_letters_were_written_for() {
    on_every_broker(|bed, build| {
        let (records, sealed) = letters_of(bed, build, &obeyed(0..3));
        let archive = broker(build, &bed.settings()).archive();
        let letters = read(&*archive);
        let request = |number: usize| {
            let letter = letters[number].clone();
            block_on(archive.request(letter, asked().headers())).expect("the request is confirmed")
        };
        assert_eq!(request(0), Placed::Now);
        let again = if bed.keeps_requests_apart() { Placed::Before } else { Placed::Now };
        assert_eq!(request(0), again, "the same letter a second time");
        assert_eq!(request(1), Placed::Now);

        let mut replays = Source::replays(build, &bed.settings());
        let arrivals: &[usize] = if bed.keeps_requests_apart() { &[0, 1] } else { &[0, 0, 1] };
        let requests = replays.records(arrivals.len());
        for (request, number) in requests.iter().zip(arrivals) {
            let (opened, restored) = open(request).expect("it is a request");
            let record = &records[*number];
            assert_eq!((opened.asked, opened.told.letter), (asked(), sealed[*number].id));
            assert_eq!(opened.told.source, "live");
            assert_eq!((&restored.key, &restored.value), (&record.key, &record.value));
            assert_eq!(own_headers(&restored), own_headers(record));
            assert_eq!(restored.timestamp, record.timestamp);
            let place = |origin: &Origin| (origin.topic.clone(), origin.partition, origin.offset);
            assert_eq!(place(&restored.origin), place(&record.origin));
            assert_eq!(restored.id, request.id, "it is settled where the request stands");
        }
        // All but the last are finished: a restart goes on with that one, and what is new.
        let last = arrivals.len() - 1;
        replays.settle(&requests[..last]);
        replays.stop();
        assert_eq!(request(2), Placed::Now);
        let mut replays = Source::replays(build, &bed.settings());
        let again = replays.records(2);
        assert_eq!(values(&again), values(&[records[1].clone(), records[2].clone()]));
        assert_eq!((again[0].maybe_tried, again[1].maybe_tried), (true, !bed.keeps_requests_apart()));
        replays.settle(&again);
        replays.stop();
        let mut replays = Source::replays(build, &bed.settings());
        replays.silence(bed.repeats_within());
        // Its own letters go where the others are.
        block_on(replays.started.letters.write(seal(&open(&requests[0]).expect("it is one").1)))
            .expect("the letter is confirmed");
        assert_eq!(read(&*archive).len(), 4);
        replays.stop();
        assert!(read(&*archive).iter().all(|letter| !headers_of(letter).contains_key("roomcast-request")));
    });
}

#[test]
fn archive_takes_no_request_for_what_is_no_letter() {
    on_every_broker(|bed, build| {
        bed.fill(1, 10);
        let archive = broker(build, &bed.settings()).archive();
        let found = read(&*archive).remove(0);
        let refused = block_on(archive.request(found, asked().headers())).expect_err("it is no letter");
        assert!(refused.contains("no letter") && refused.contains("roomcast-"), "{refused}");
    });
}

#[test]
fn archive_takes_thousands_of_requests_at_once() {
    on_every_broker(|bed, build| {
        let (_, _) = letters_of(bed, build, &samples(0..1));
        let archive = broker(build, &bed.settings()).archive();
        let letter = read(&*archive).remove(0);
        // The same letter under other ids.
        let with_id = |id: u128| {
            let mut letter = letter.clone();
            let own = letter.headers.iter_mut().find(|(name, _)| &**name == "roomcast-letter");
            own.expect("a letter has an id").1 = Bytes::from(Uuid::from_u128(id).to_string());
            letter
        };
        let began = Instant::now();
        block_on(async {
            use futures_util::{StreamExt as _, TryStreamExt as _};
            let requests = (0..3_000).map(|id| archive.request(with_id(id), asked().headers()));
            let placed = futures_util::stream::iter(requests).buffer_unordered(64);
            let placed: Vec<Placed> = placed.try_collect().await.expect("all are confirmed");
            assert_eq!(placed, [Placed::Now; 3_000]);
        });
        let took = began.elapsed();
        assert!(took < Duration::from_secs(60), "3,000 requests took {took:?}");
        let mut replays = Source::replays(build, &bed.settings());
        let came = replays.records(900);
        assert!(came.iter().all(|request| open(request).is_ok()), "all are requests");
        replays.stop();
    });
}

#[test]
fn archive_finds_a_value_where_it_stands_and_none_where_it_does_not() {
    on_every_broker(|bed, build| {
        let mut source = Source::ready(build, &bed.settings());
        let published = samples(0..5);
        bed.publish(&published);
        let records = source.records(5);
        source.stop();
        let archive = broker(build, &bed.settings()).archive();
        let value_at = |origin: &Origin| block_on(archive.value_at(origin.clone()));
        for (record, sample) in records.iter().zip(&published) {
            assert_eq!(value_at(&record.origin), Ok(Some(Bytes::from(sample.value.clone()))));
        }
        let origin = &records[2].origin;
        for absent in [
            Origin { offset: origin.offset + 1_000, ..origin.clone() },
            Origin { offset: -1, ..origin.clone() },
            Origin { stream: "another".into(), topic: "another".into(), ..origin.clone() },
            Origin { stream: "another".into(), ..origin.clone() },
            Origin { partition: 9, offset: 77, ..origin.clone() },
        ] {
            let is_kafka_topic = *origin.stream == *origin.topic && absent.topic == origin.topic;
            if is_kafka_topic && absent.partition == origin.partition && absent.offset == origin.offset {
                continue; // a topic is known by its name alone
            }
            assert_eq!(value_at(&absent), Ok(None), "{absent:?}");
        }
    });
}

/// Keys of the first records, and the last record of each that was finished after them.
#[test]
fn archive_tells_which_finished_records_came_after_others_of_their_key() {
    on_every_broker(|bed, build| {
        let archive = broker(build, &bed.settings()).archive();
        let later = |of: &BTreeMap<Part, Stands>| block_on(archive.later(of.clone())).expect("it is told");
        let mut source = Source::ready(build, &bed.settings());
        bed.publish(&samples(0..30));
        let records = source.records(30);
        let key = |number: usize| Bytes::from(format!("room-{}", number % 7));
        let at = |number: usize| records[number].origin.offset;
        let part = (records[0].origin.stream.clone(), records[0].origin.lasting_partition());
        let mut stands = Stands::default();
        for number in [0, 2, 15] {
            stands.oldest.insert(key(number), at(number));
        }
        stands.oldest.insert(Bytes::from("nobody"), at(0));
        // Of those behind 2, the last finished one is itself a letter.
        stands.except.insert(at(16));
        let elsewhere = (Arc::from("another"), 0);
        let of = BTreeMap::from([(part.clone(), stands.clone()), (elsewhere, stands)]);
        assert!(later(&of).last.values().all(BTreeMap::is_empty), "nothing is finished");
        source.settle(&records[..21]);
        source.stop();
        let told = later(&of);
        let expected = BTreeMap::from([(key(0), at(14)), (key(2), at(9))]);
        assert_eq!(told.last.get(&part), Some(&expected), "{told:?}");
        assert!(told.is_after(&part, b"room-0", at(7)) && !told.is_after(&part, b"room-0", at(14)));
        assert!(!told.is_after(&part, b"room-1", at(1)), "it was not asked about");
        assert_eq!(told.last.values().map(BTreeMap::len).sum::<usize>(), 2, "{told:?}");
        // As letters tell of it that do not name the stream.
        let by_topic = (records[0].origin.topic.clone(), 0);
        let told = later(&BTreeMap::from([(by_topic.clone(), of[&part].clone())]));
        assert_eq!(told.last.get(&by_topic), Some(&expected), "{told:?}");
        let own = BTreeMap::from([(part.clone(), of[&part].clone())]);
        assert!(!later(&own).is_cut, "all of it was looked at");
    });
}

#[test]
fn archive_counts_who_reads_the_source() {
    on_every_broker(|bed, build| {
        let archive = broker(build, &bed.settings()).archive();
        let readers = || block_on(archive.readers()).expect("the broker tells");
        assert_eq!(readers(), 0);
        let source = Source::ready(build, &bed.settings());
        ask_until("the reader to be seen", PATIENCE, || (readers() == 1).then_some(()));
        source.stop();
        ask_until("nobody to read", PATIENCE, || (readers() == 0).then_some(()));
    });
}

/// JetStream compares and sets; on Kafka the row is set.
#[test]
fn archive_sets_a_row_unless_the_one_that_is_there_stays() {
    on_every_broker(|bed, build| {
        Source::ready(build, &bed.settings()).stop();
        let table = broker(build, &bed.settings()).archive().table();
        let put = |value: &'static str| {
            let stays = |there: &[u8]| there == b"final";
            block_on(table.put_unless("a".to_owned(), Bytes::from(value), &stays))
        };
        assert_eq!(put("1"), Ok(None));
        assert_eq!(put("final"), Ok(None));
        let compares = bed.keeps_requests_apart();
        assert_eq!(put("2"), Ok(compares.then(|| Bytes::from("final"))));
        let there = if compares { "final" } else { "2" };
        assert_eq!(block_on(table.load(|_| true)), Ok(vec![("a".to_owned(), Bytes::from(there))]));
        // Many at once: one of them is the last, and nothing is lost on the way.
        let all = (0..30).map(|number| {
            let (key, value) = (format!("b{}", number % 3), Bytes::from(number.to_string()));
            table.put_unless(key, value, &|there| there == b"final")
        });
        let done = block_on(futures_util::future::join_all(all));
        assert!(done.iter().all(|done| *done == Ok(None)), "{done:?}");
        assert_eq!(block_on(table.load(|key| key.starts_with('b'))).map(|rows| rows.len()), Ok(3));
    });
}

#[test]
fn archive_has_the_table_of_the_source() {
    on_every_broker(|bed, build| {
        let source = Source::ready(build, &bed.settings());
        let table = broker(build, &bed.settings()).archive().table();
        block_on(table.put("a".to_owned(), Bytes::from("1"))).expect("the row is confirmed");
        let expected = vec![("a".to_owned(), Bytes::from("1"))];
        assert_eq!(block_on(source.started.table.load(|_| true)), Ok(expected.clone()));
        source.stop();
        assert_eq!(block_on(broker(build, &bed.settings()).archive().table().load(|_| true)), Ok(expected));
    });
}

/// What this process keeps in memory now, in KiB, as the kernel has it.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("a Linux kernel tells");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it tells this, too");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// Letters of 200 MB in all are read by somebody slow: what lies between is a fraction of that.
#[test]
fn archive_reads_a_hundred_thousand_letters_in_bounded_memory() {
    const LETTERS: usize = 100_000;
    const SIZE: usize = 2_000;
    const MOST_KIB: usize = 100_000; // other tests of this process count here, too
    on_every_broker(|bed, build| {
        bed.fill(LETTERS, SIZE);
        let archive = broker(build, &bed.settings()).archive();
        let (into, mut letters) = mpsc::channel(64);
        let before = resident();
        let mut most = before;
        let look = async {
            let mut count = 0;
            while letters.recv().await.is_some() {
                count += 1;
                // Slow now and then: whoever does not wait for the reader runs ahead here.
                if count % 10_000 == 1 {
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    most = most.max(resident());
                }
            }
            count
        };
        let (read, count) = block_on(async { tokio::join!(archive.read(into), look) });
        assert_eq!((read, count), (Ok(()), LETTERS));
        let grown = most.saturating_sub(before);
        assert!(
            grown < MOST_KIB,
            "{grown} KiB more than before for letters of {} KiB",
            LETTERS * SIZE / 1_024
        );
    });
}
