//! One source's broker in the shape that both kinds share: publish events, read letters, know what
//! is finished. A scenario written against [`Bed`] runs on Kafka and on JetStream alike.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::consumer::pull;

use crate::support::daemon::Daemon;
use crate::support::kafka::{Kafka, Record};
use crate::support::nats::Nats;
use crate::support::oracle::Owed;
use crate::support::{ask_until, block_on, unique};

/// The stream of every JetStream bed; its server is its own.
pub const STREAM: &str = "MATCH";
/// The dead-letter stream of every JetStream bed.
pub const LETTERS: &str = "MATCH_DLQ";
const DURABLE: &str = "roomcast";
const SUBJECT: &str = "match.events";
/// Where a JetStream record's key stands.
const KEY: &str = "Room";

/// Partitions of a Kafka bed's topic.
const PARTITIONS: i32 = 4;

/// A broker with an empty source.
pub enum Bed {
    /// A topic of its own, on the shared broker or a private one.
    Kafka {
        /// The broker.
        kafka: Box<Kafka>,
        /// The topic; the group has the same name.
        topic: String,
    },
    /// A stream on a server of its own.
    Nats(Box<Nats>),
}

/// An event before it is published.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value; `None` is a tombstone (Kafka only).
    pub value: Option<Vec<u8>>,
    /// Headers.
    pub headers: Vec<(&'static str, String)>,
}

/// A letter as the dead-letter topic holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// The record's key (Kafka).
    pub key: Option<Vec<u8>>,
    /// The record's value.
    pub value: Option<Vec<u8>>,
    /// Every header, the last of a name.
    pub headers: BTreeMap<String, String>,
    /// The subject (JetStream).
    pub subject: Option<String>,
}

impl Event {
    /// A JSON event.
    pub fn new(key: &str, value: impl Into<Vec<u8>>) -> Self {
        Self { key: Some(key.into()), value: Some(value.into()), headers: Vec::new() }
    }

    /// A chat line that the oracle can find again.
    pub fn line(owed: &Owed) -> Self {
        Self::new(&owed.room, format!("{{\"type\":\"line\",\"text\":\"{}\"}}", owed.token()))
    }

    /// With one more header.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// `count` lines over `rooms` rooms, numbered from 1001, in turn.
pub fn lines(rooms: u64, count: u64) -> Vec<Owed> {
    lines_from(0, rooms, count)
}

/// The same, going on after `first` earlier ones (a multiple of `rooms`).
pub fn lines_from(first: u64, rooms: u64, count: u64) -> Vec<Owed> {
    let line = |n: u64| Owed { room: (1_001 + n % rooms).to_string(), sequence: n / rooms };
    (first..first + count).map(line).collect()
}

/// The route that posts those lines.
pub fn line_route(account: &str, more: &str) -> String {
    format!(
        "[[routes]]\nname = \"lines\"\naccount = \"{account}\"\nmessage = {{ kind = \"text\", text = '.text' }}\n{more}\n\n"
    )
}

impl Bed {
    /// A new topic on the shared Kafka.
    pub fn kafka() -> Self {
        Self::kafka_on(Kafka::shared(), &[])
    }

    /// A new topic on that Kafka.
    pub fn kafka_on(kafka: Kafka, settings: &[(&str, &str)]) -> Self {
        let topic = unique("events");
        kafka.create_topic(&topic, PARTITIONS, settings);
        Self::Kafka { kafka: Box::new(kafka), topic }
    }

    /// A new stream on a new server.
    pub fn nats() -> Self {
        Self::nats_on(Nats::start())
    }

    /// A new stream on that server.
    pub fn nats_on(nats: Nats) -> Self {
        nats.create_stream(STREAM, &["match.>"]);
        Self::Nats(Box::new(nats))
    }

    /// `[sources.main]`, with more lines.
    pub fn source(&self, more: &str) -> String {
        let own = match self {
            Self::Kafka { kafka, topic } => format!(
                "kind = \"kafka\"\nbrokers = \"{}\"\ngroup = \"{topic}\"\ntopics = [\"{topic}\"]\ndead_letter = \"{}\"",
                kafka.address(),
                self.dead_letter()
            ),
            Self::Nats(nats) => format!(
                "kind = \"nats\"\nservers = [\"{}\"]\nstream = \"{STREAM}\"\nsubjects = [\"{SUBJECT}\"]\n\
                 durable = \"{DURABLE}\"\nkey = {{ header = \"{KEY}\" }}\ndead_letter = \"{LETTERS}\"{}",
                nats.url(),
                if more.contains("create") { "" } else { "\ncreate = true" }
            ),
        };
        format!("[sources.main]\n{own}\nstart_from = \"earliest\"\n{more}\n\n")
    }

    /// The name of the dead-letter topic or stream.
    pub fn dead_letter(&self) -> String {
        match self {
            Self::Kafka { topic, .. } => format!("{topic}.dlq"),
            Self::Nats(_) => LETTERS.to_owned(),
        }
    }

    /// The topic or subject that events are published to.
    pub fn topic(&self) -> &str {
        match self {
            Self::Kafka { topic, .. } => topic,
            Self::Nats(_) => SUBJECT,
        }
    }

    /// Publishes in this order; confirmed by the broker when this returns.
    #[track_caller]
    pub fn publish(&self, events: impl IntoIterator<Item = Event>) {
        match self {
            Self::Kafka { kafka, topic } => kafka.produce(topic, events.into_iter().map(kafka_record)),
            Self::Nats(nats) => nats.publish(events.into_iter().map(nats_message)),
        }
    }

    /// Publishes lines.
    #[track_caller]
    pub fn publish_lines(&self, lines: &[Owed]) {
        self.publish(lines.iter().map(Event::line));
    }

    /// All letters, in their order.
    #[track_caller]
    pub fn letters(&self) -> Vec<Letter> {
        match self {
            Self::Kafka { kafka, .. } => {
                let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("headers are UTF-8 here");
                let letter = |record: Record| Letter {
                    key: record.key,
                    value: record.value,
                    headers: record.headers.into_iter().map(|(name, value)| (name, text(value))).collect(),
                    subject: None,
                };
                kafka.read(&self.dead_letter()).into_iter().map(|held| letter(held.record)).collect()
            }
            Self::Nats(nats) => nats
                .read(LETTERS)
                .into_iter()
                .map(|held| Letter {
                    key: None,
                    value: Some(held.payload),
                    headers: texts(&held.headers),
                    subject: Some(held.subject),
                })
                .collect(),
        }
    }

    /// All letters, where the dead-letter topic was made at all: it is made with the first letter.
    #[track_caller]
    pub fn letters_if_any(&self) -> Vec<Letter> {
        match self {
            Self::Kafka { kafka, .. } if !kafka.has_topic(&self.dead_letter()) => Vec::new(),
            _ => self.letters(),
        }
    }

    /// Waits until everything published is finished: committed to the end, or acked.
    #[track_caller]
    pub fn await_finished(&self, within: Duration) {
        match self {
            Self::Kafka { kafka, topic } => kafka.await_committed_to_end(topic, topic, within),
            Self::Nats(nats) => {
                let jetstream = nats.jetstream();
                ask_until("every message to be acked", within, || {
                    let info = block_on(async {
                        let consumer =
                            jetstream.get_consumer_from_stream::<pull::Config, _, _>(DURABLE, STREAM).await;
                        consumer.ok().map(|consumer| consumer.cached_info().clone())
                    })?;
                    (info.num_pending == 0 && info.num_ack_pending == 0).then_some(())
                });
            }
        }
    }

    /// kill -9 of a broker of one's own.
    pub fn kill(&mut self) {
        match self {
            Self::Kafka { kafka, .. } => kafka.kill(),
            Self::Nats(nats) => nats.kill(),
        }
    }

    /// Starts it again.
    #[track_caller]
    pub fn restart(&mut self) {
        match self {
            Self::Kafka { kafka, .. } => kafka.restart(),
            Self::Nats(nats) => nats.restart(),
        }
    }
}

fn kafka_record(event: Event) -> Record {
    let headers = event.headers.into_iter().map(|(name, value)| (name.to_owned(), value.into_bytes()));
    Record { partition: None, key: event.key, value: event.value, headers: headers.collect() }
}

fn nats_message(event: Event) -> (String, HeaderMap, Vec<u8>) {
    let mut headers = HeaderMap::new();
    if let Some(key) = event.key {
        headers.insert(KEY, String::from_utf8(key).expect("headers of NATS are text").as_str());
    }
    for (name, value) in event.headers {
        headers.append(name, value.as_str());
    }
    (SUBJECT.to_owned(), headers, event.value.unwrap_or_default())
}

fn texts(headers: &HeaderMap) -> BTreeMap<String, String> {
    let last = |values: &Vec<async_nats::HeaderValue>| {
        values.last().map(|value| value.as_str().to_owned()).unwrap_or_default()
    };
    headers.iter().map(|(name, values)| (name.to_string(), last(values))).collect()
}

/// Waits until a metric has at least this value.
#[track_caller]
pub fn await_metric(daemon: &Daemon, name: &str, labels: &str, at_least: f64, within: Duration) {
    ask_until(&format!("{name}{{{labels}}} to reach {at_least}"), within, || {
        daemon.metric(name, labels).filter(|value| *value >= at_least)
    });
}

/// Makes tests of scenarios (`fn(&Bed)`): one of the same name in `kafka` and one in `nats`.
macro_rules! on_both {
    ($($name:ident),*) => {
        mod kafka {
            $(#[test] fn $name() { super::$name(&crate::bed::Bed::kafka()); })*
        }
        mod nats {
            $(#[test] fn $name() { super::$name(&crate::bed::Bed::nats()); })*
        }
    };
}
pub(crate) use on_both;
