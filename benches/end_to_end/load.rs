//! The load: real brokers, events of a fixed size produced into them, and the config of the source
//! that reads them.

use std::collections::VecDeque;
use std::time::Duration;

use async_nats::jetstream;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};

use crate::sink::{Mark, Sink};
use crate::support::kafka::Kafka;
use crate::support::nats::Nats;
use crate::support::{block_on, unique};

/// Bytes of an event: those of the measured peers.
const EVENT_BYTES: usize = 300;
const PARTITIONS: i32 = 12;
/// Publishes that may wait for their ack.
const AWAY: usize = 1_000;
const PATIENCE: Duration = Duration::from_secs(60);

/// A broker with an empty topic or stream.
#[expect(clippy::large_enum_variant, reason = "there is one for a whole run")]
pub enum Load {
    /// A topic of Apache Kafka.
    Kafka { brokers: String, topic: String, producer: ThreadedProducer<DefaultProducerContext> },
    /// A stream of a server of its own.
    Nats { server: Nats, jetstream: jetstream::Context },
}

impl Load {
    /// A new topic on the Kafka that `.ci/brokers.sh` started.
    pub fn kafka() -> Self {
        let kafka = Kafka::shared();
        let topic = unique("bench");
        kafka.create_topic(&topic, PARTITIONS, &[]);
        let mut config = kafka.client();
        config.set("partitioner", "murmur2_random").set("linger.ms", "0").set("acks", "1");
        // In order without idempotence's cost: one request at a time.
        config.set("max.in.flight", "1").set("queue.buffering.max.messages", "1000000");
        let producer: ThreadedProducer<DefaultProducerContext> = config.create().expect("a producer");
        producer.client().fetch_metadata(Some(&topic), PATIENCE).expect("the topic is there");
        Self::Kafka { brokers: kafka.address(), topic, producer }
    }

    /// A new nats-server with one stream kept in files.
    pub fn nats() -> Self {
        let server = Nats::start();
        server.create_stream("BENCH", &["bench.*.events"]);
        let jetstream = server.jetstream();
        Self::Nats { server, jetstream }
    }

    /// `[sources.bench]`.
    pub fn source(&self) -> String {
        match self {
            Self::Kafka { brokers, topic, .. } => format!(
                "[sources.bench]\nkind = \"kafka\"\nbrokers = \"{brokers}\"\ngroup = \"{topic}\"\n\
                 topics = [\"{topic}\"]\ndead_letter = \"{topic}.dlq\"\nstart_from = \"earliest\"\n"
            ),
            Self::Nats { server, .. } => format!(
                "[sources.bench]\nkind = \"nats\"\nservers = [\"{}\"]\nstream = \"BENCH\"\n\
                 subjects = [\"bench.*.events\"]\ndurable = \"roomcast\"\nkey = {{ token = 1 }}\n\
                 dead_letter = \"BENCH_DLQ\"\nstart_from = \"earliest\"\ncreate = true\n",
                server.url()
            ),
        }
    }

    /// Produces `count` events, over `rooms` by turns, as fast as the broker takes them.
    pub fn produce(&self, sink: &Sink, rooms: u32, count: usize) {
        let marks = marks(rooms, count).map(|mark| Mark { at_ns: sink.now_ns(), ..mark });
        match self {
            Self::Kafka { producer, .. } => {
                marks.for_each(|mark| self.send_to_kafka(mark));
                producer.flush(PATIENCE).expect("the broker confirms");
            }
            Self::Nats { jetstream, .. } => block_on(async {
                let mut away = VecDeque::with_capacity(AWAY);
                for mark in marks {
                    let ack = jetstream.publish(subject(mark), event(mark).into()).await;
                    away.push_back(ack.expect("the connection stands"));
                    if away.len() == AWAY {
                        away.pop_front().expect("it is full").await.expect("the stream takes it");
                    }
                }
                for ack in away {
                    ack.await.expect("the stream takes it");
                }
            }),
        }
    }

    /// Produces `count` events, one every `pause`.
    pub fn trickle(&self, sink: &Sink, rooms: u32, count: usize, pause: Duration) {
        let mut due = std::time::Instant::now();
        for mark in marks(rooms, count) {
            std::thread::sleep(due.saturating_duration_since(std::time::Instant::now()));
            due += pause;
            let mark = Mark { at_ns: sink.now_ns(), ..mark };
            match self {
                Self::Kafka { .. } => self.send_to_kafka(mark),
                Self::Nats { jetstream, .. } => {
                    let ack = block_on(async { jetstream.publish(subject(mark), event(mark).into()).await });
                    // Whether it was stored, its arrival tells.
                    drop(ack.expect("the connection stands"));
                }
            }
        }
    }

    fn send_to_kafka(&self, mark: Mark) {
        let Self::Kafka { topic, producer, .. } = self else { return };
        let (key, value) = (mark.room.to_string(), event(mark));
        let mut record = BaseRecord::to(topic).key(&key).payload(&value);
        while let Err((error, back)) = producer.send(record) {
            let full = matches!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull));
            assert!(full, "{error}");
            std::thread::yield_now();
            record = back;
        }
    }
}

/// Rooms by turns; Yunxin's room ids begin at 1.
fn marks(rooms: u32, count: usize) -> impl Iterator<Item = Mark> {
    let turns = (0..).flat_map(move |nth| (1..=rooms).map(move |room| Mark { room, nth, at_ns: 0 }));
    turns.take(count)
}

fn subject(mark: Mark) -> String {
    format!("bench.{}.events", mark.room)
}

/// An event of [`EVENT_BYTES`], as a game's backend would write it.
fn event(mark: Mark) -> String {
    let mut text = format!(
        r#"{{"type":"gift.sent","user":"player-{}","mark":"{}","gift":{{"id":4711,"count":3}},"text":""#,
        mark.nth,
        mark.text()
    );
    const END: &str = "\"}";
    while text.len() + END.len() < EVENT_BYTES {
        text.push('x');
    }
    text + END
}
