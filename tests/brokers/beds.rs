//! What the conformance suite needs of each broker: a place to publish to, a source's settings, and
//! a look at the letters. One bed for every entry of `BROKERS`, on real servers.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::{HeaderMap, header};
use roomcast::core::section::{Node, Place, Table, Value};

use crate::support::kafka::{Kafka, Record};
use crate::support::nats::Nats;
use crate::support::{ask_until, block_on, unique};

const PATIENCE: Duration = Duration::from_secs(60);

/// A record to be published: its key, value and headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    pub key: String,
    pub value: Vec<u8>,
    pub headers: Vec<(String, String)>,
}

/// A letter as the broker holds it. `key` is `None` where a letter has none or the broker keeps none.
#[derive(Clone, Debug)]
pub struct Written {
    pub key: Option<Vec<u8>>,
    pub value: Vec<u8>,
    pub headers: Vec<(String, String)>,
}

/// One broker with a stream or topic of its own, of one partition.
pub trait Bed: Send {
    /// The section of a source that reads it, from the earliest on.
    fn settings(&self) -> Table;
    /// Publishes in this order; all are confirmed when it returns.
    fn publish(&self, samples: &[Sample]);
    /// Where a record with this key stands: stream and topic of its origin.
    fn stands(&self, key: &str) -> (String, String);
    /// All letters that the dead-letter topic or stream holds.
    fn letters(&self) -> Vec<Written>;
    /// Whether letters keep the record's key as a key (else it is part of `roomcast-topic`).
    fn letters_have_keys(&self) -> bool;
    /// Where a letter of that id stands: stream and topic of its origin.
    fn letter_stands(&self, id: &str) -> (String, String);
    /// Whether there is a dead-letter topic or stream.
    fn has_letters(&self) -> bool;
    /// Makes the dead-letter topic or stream and puts records into it, each of a value of that size and
    /// with no header at all.
    fn fill(&self, count: usize, size: usize);
    /// Whether the broker keeps a request from being written twice.
    fn keeps_requests_apart(&self) -> bool;
    /// How long to listen before it is sure that nothing comes again.
    fn repeats_within(&self) -> Duration;
    /// Returns when a source that was told to take nothing takes nothing: it holds `held` records.
    fn await_closed(&self, held: usize);
}

/// Makes a bed.
pub type Make = fn() -> Box<dyn Bed>;

/// A bed for every entry of `BROKERS`, by its word.
pub const BEDS: &[(&str, Make)] = &[("kafka", KafkaBed::make), ("nats", NatsBed::make)];

fn node(value: Value) -> Node {
    Node { value, place: Place::Nowhere, key_place: Place::Nowhere }
}

fn table<const N: usize>(settings: [(&str, Value); N]) -> Table {
    settings.map(|(key, value)| (key.to_owned(), node(value))).into()
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

struct KafkaBed {
    broker: Kafka,
    topic: String,
}

impl KafkaBed {
    fn make() -> Box<dyn Bed> {
        let bed = Self { broker: Kafka::shared(), topic: unique("conformance") };
        bed.broker.create_topic(&bed.topic, 1, &[]);
        Box::new(bed)
    }

    fn dead_letter(&self) -> String {
        format!("{}.dlq", self.topic)
    }
}

impl Bed for KafkaBed {
    fn settings(&self) -> Table {
        table([
            ("brokers", text(&self.broker.address())),
            ("group", text(&format!("{}-group", self.topic))),
            ("topics", text(&self.topic)),
            ("dead_letter", text(&self.dead_letter())),
            ("start_from", text("earliest")),
        ])
    }

    fn publish(&self, samples: &[Sample]) {
        let header = |(name, value): &(String, String)| (name.clone(), value.clone().into_bytes());
        let record = |sample: &Sample| Record {
            partition: Some(0),
            key: Some(sample.key.clone().into_bytes()),
            value: Some(sample.value.clone()),
            headers: sample.headers.iter().map(header).collect(),
        };
        self.broker.produce(&self.topic, samples.iter().map(record));
    }

    fn stands(&self, _key: &str) -> (String, String) {
        (self.topic.clone(), self.topic.clone())
    }

    fn letters(&self) -> Vec<Written> {
        let header =
            |(name, value): (String, Vec<u8>)| (name, String::from_utf8(value).expect("letters are UTF-8"));
        let written = |record: Record| Written {
            key: record.key,
            value: record.value.unwrap_or_default(),
            headers: record.headers.into_iter().map(header).collect(),
        };
        self.broker.read(&self.dead_letter()).into_iter().map(|held| written(held.record)).collect()
    }

    fn letters_have_keys(&self) -> bool {
        true
    }

    fn letter_stands(&self, _id: &str) -> (String, String) {
        (self.dead_letter(), self.dead_letter())
    }

    fn has_letters(&self) -> bool {
        self.broker.has_topic(&self.dead_letter())
    }

    fn fill(&self, count: usize, size: usize) {
        self.broker.create_topic(&self.dead_letter(), 3, &[]);
        let partition = |number: usize| i32::try_from(number % 3).ok();
        let record = |number| Record {
            partition: partition(number),
            value: Some(vec![b'x'; size]),
            ..Record::default()
        };
        // In parts, because a producer takes all that it is given into memory.
        for first in (0..count).step_by(5_000) {
            let numbers = first..count.min(first + 5_000);
            self.broker.produce(&self.dead_letter(), numbers.map(record));
        }
    }

    fn keeps_requests_apart(&self) -> bool {
        false
    }

    fn repeats_within(&self) -> Duration {
        Duration::from_secs(1) // what is fetched again is fetched at once
    }

    fn await_closed(&self, _held: usize) {
        // The command is taken up within one poll of the consumer, which nothing outside can see.
        std::thread::sleep(Duration::from_millis(500));
    }
}

const STREAM: &str = "EVENTS";
const DURABLE: &str = "roomcast";
const DEAD_LETTER: &str = "EVENTS_DLQ";

struct NatsBed(Nats);

impl NatsBed {
    fn make() -> Box<dyn Bed> {
        let server = Nats::start();
        server.create_stream(STREAM, &["events.>"]);
        Box::new(Self(server))
    }
}

impl Bed for NatsBed {
    fn settings(&self) -> Table {
        let token = Table::from([("token".to_owned(), node(Value::Integer(1)))]);
        table([
            ("servers", text(&self.0.url())),
            ("stream", text(STREAM)),
            ("subjects", text("events.>")),
            ("durable", text(DURABLE)),
            ("dead_letter", text(DEAD_LETTER)),
            ("ack_wait", text("2s")),
            ("start_from", text("earliest")),
            ("key", Value::Table(token)),
            ("create", Value::Boolean(true)),
        ])
    }

    fn publish(&self, samples: &[Sample]) {
        let message = |sample: &Sample| {
            let mut headers = HeaderMap::new();
            for (name, value) in &sample.headers {
                headers.append(name.as_str(), value.as_str());
            }
            (self.stands(&sample.key).1, headers, sample.value.clone())
        };
        self.0.publish(samples.iter().map(message));
    }

    fn stands(&self, key: &str) -> (String, String) {
        (STREAM.to_owned(), format!("events.{key}"))
    }

    fn letters(&self) -> Vec<Written> {
        let headers = |map: &HeaderMap| {
            let each = map.iter().flat_map(|(name, values)| values.iter().map(move |value| (name, value)));
            // The server keeps the condition under which the letter was published; it is not the letter's.
            let own = each.filter(|(name, _)| **name != header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE);
            own.map(|(name, value)| (name.to_string(), value.to_string())).collect()
        };
        let held = self.0.read(DEAD_LETTER).into_iter();
        held.map(|held| Written { key: None, value: held.payload, headers: headers(&held.headers) }).collect()
    }

    fn letters_have_keys(&self) -> bool {
        false
    }

    fn letter_stands(&self, id: &str) -> (String, String) {
        (DEAD_LETTER.to_owned(), format!("{DEAD_LETTER}.letter.{id}"))
    }

    fn has_letters(&self) -> bool {
        block_on(self.0.jetstream().get_stream(DEAD_LETTER)).is_ok()
    }

    fn fill(&self, count: usize, size: usize) {
        self.0.create_stream(DEAD_LETTER, &[&format!("{DEAD_LETTER}.>")]);
        let message = |number| (format!("{DEAD_LETTER}.letter.{number}"), HeaderMap::new(), vec![b'x'; size]);
        self.0.publish((0..count).map(message));
    }

    fn keeps_requests_apart(&self) -> bool {
        true
    }

    fn repeats_within(&self) -> Duration {
        Duration::from_secs(4) // twice `ack_wait`
    }

    fn await_closed(&self, held: usize) {
        // A stop that lasts lowers the durable's bound to what is held.
        let jetstream = self.0.jetstream();
        ask_until("the durable to be parked", PATIENCE, || {
            let info = block_on(async {
                let stream = jetstream.get_stream(STREAM).await.expect("the stream is there");
                stream.consumer_info(DURABLE).await.expect("the durable is there")
            });
            (usize::try_from(info.config.max_ack_pending) == Ok(held)).then_some(())
        });
    }
}

/// Headers by name, values of one name in their order: NATS clients keep no order among names.
pub fn by_name<'h>(headers: impl IntoIterator<Item = (&'h str, &'h [u8])>) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in headers {
        let value = String::from_utf8(value.to_vec()).expect("headers of this suite are text");
        found.entry(name.to_owned()).or_default().push(value);
    }
    found
}
