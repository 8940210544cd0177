//! Apache Kafka for tests: the shared one, or a private one that can be killed and started again.
//! Topics, an idempotent producer, reading back, what a group has committed.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};
use tempfile::TempDir;

use super::process::Process;
use super::{ask_until, block_on, free_port, from_brokers_sh};

const START: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(30);

/// A broker. The shared one has no process here: it cannot be killed.
pub struct Kafka {
    port: u16,
    private: Option<Private>,
}

struct Private {
    process: Process,
    folder: TempDir,
    properties: Vec<String>,
}

/// A record to be produced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// `None`: where the key's hash puts it (as Java does), or the first when there is no key.
    pub partition: Option<i32>,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Headers in their order.
    pub headers: Vec<(String, Vec<u8>)>,
}

/// A record as the broker holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// What was produced.
    pub record: Record,
}

impl Kafka {
    /// The broker that `.ci/brokers.sh` started: use [`super::unique`] names.
    #[track_caller]
    pub fn shared() -> Self {
        let address = from_brokers_sh("ROOMCAST_TEST_KAFKA");
        let port = address.rsplit(':').next().and_then(|port| port.parse().ok());
        Self { port: port.expect("ROOMCAST_TEST_KAFKA is HOST:PORT"), private: None }
    }

    /// A broker of one's own, with more properties (`KEY=VALUE`); `listeners` adds to its own.
    #[track_caller]
    pub fn start(properties: &[&str]) -> Self {
        let properties: Vec<String> = properties.iter().map(|&property| property.to_owned()).collect();
        let folder = tempfile::tempdir().expect("a scratch folder");
        let mut port = free_port();
        let mut process = launch(&folder, port, &properties);
        while let Err(why) = process.find_line(0, START, |line| line.text.contains("Kafka Server started")) {
            let taken = process.lines().iter().any(|line| line.text.contains("ddress already in use"));
            assert!(taken, "Apache Kafka {why} before it was started:\n{}", process.tail());
            port = free_port();
            process = launch(&folder, port, &properties);
        }
        Self { port, private: Some(Private { process, folder, properties }) }
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The same broker for another thread, which cannot kill it.
    pub fn without_process(&self) -> Self {
        Self { port: self.port, private: None }
    }

    /// kill -9 of a private broker.
    pub fn kill(&mut self) {
        self.private.as_mut().expect("the shared broker stays").process.kill();
    }

    /// Starts a killed private broker again, on the same folder and port.
    #[track_caller]
    pub fn restart(&mut self) {
        let private = self.private.as_mut().expect("the shared broker stays");
        private.process = launch(&private.folder, self.port, &private.properties);
        private.process.await_line("Kafka Server started", START);
    }

    /// The config that every client here begins with.
    pub fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.address());
        config
    }

    /// Makes a topic and waits until every partition has a leader.
    #[track_caller]
    pub fn create_topic(&self, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
        let admin: AdminClient<DefaultClientContext> = self.client().create().expect("a client");
        let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        let new = settings.iter().fold(new, |new, (key, value)| new.set(key, value));
        let made =
            block_on(admin.create_topics([&new], &AdminOptions::new().request_timeout(Some(PATIENCE))));
        for result in made.expect("the broker answers") {
            result.unwrap_or_else(|(topic, code)| panic!("the topic {topic} cannot be made: {code}"));
        }
        ask_until("a leader of every partition", PATIENCE, || {
            let metadata = admin.inner().fetch_metadata(Some(topic), PATIENCE).ok()?;
            let found = metadata.topics().first()?.partitions();
            let led = found.iter().filter(|partition| partition.leader() >= 0).count();
            (i32::try_from(led) == Ok(partitions)).then_some(())
        });
    }

    /// Gives a user a password for SCRAM: the broker keeps it, and its own tool is who sets it.
    #[track_caller]
    pub fn add_scram_user(&self, mechanism: &str, name: &str, password: &str) {
        let libraries = format!("{}/libs/*", from_brokers_sh("ROOMCAST_TEST_KAFKA_HOME"));
        let credential = format!("{mechanism}=[password={password}]");
        let mut command = Command::new("java");
        command.args(["-cp", &libraries, "kafka.admin.ConfigCommand", "--bootstrap-server", &self.address()]);
        command.args([
            "--alter",
            "--add-config",
            &credential,
            "--entity-type",
            "users",
            "--entity-name",
            name,
        ]);
        let done = command.output().expect("Java is there");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    /// Whether a topic is there. Asking makes none.
    #[track_caller]
    pub fn has_topic(&self, topic: &str) -> bool {
        let metadata = self.reader(&super::unique("reader")).fetch_metadata(None, PATIENCE);
        metadata.expect("the broker answers").topics().iter().any(|found| found.name() == topic)
    }

    /// Sets one setting of a topic; its others go back to the broker's defaults.
    #[track_caller]
    pub fn set_topic(&self, topic: &str, key: &str, value: &str) {
        let admin: AdminClient<DefaultClientContext> = self.client().create().expect("a client");
        let change = AlterConfig::new(ResourceSpecifier::Topic(topic)).set(key, value);
        let options = AdminOptions::new().request_timeout(Some(PATIENCE));
        let done = block_on(admin.alter_configs([&change], &options)).expect("the broker answers");
        for result in done {
            result.unwrap_or_else(|(of, code)| panic!("{of:?} cannot be changed: {code}"));
        }
    }

    /// Produces in this order, each confirmed by the broker when this returns.
    ///
    /// Idempotent, because librdkafka otherwise reorders the records of a key right after a topic was
    /// made, and with the partitions that a Java producer would choose.
    #[track_caller]
    pub fn produce(&self, topic: &str, records: impl IntoIterator<Item = Record>) {
        let refused = Arc::new(AtomicUsize::new(0));
        let mut config = self.client();
        config.set("enable.idempotence", "true").set("partitioner", "murmur2_random").set("linger.ms", "5");
        config.set("message.max.bytes", "20000000");
        let reports = Reports { refused: Arc::clone(&refused) };
        let producer: ThreadedProducer<Reports> = config.create_with_context(reports).expect("a producer");
        producer.client().fetch_metadata(Some(topic), PATIENCE).expect("the topic is there");
        for record in records {
            let headers = record.headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
                headers.insert(Header { key, value: Some(value) })
            });
            let mut next: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic).headers(headers);
            next.key = record.key.as_deref();
            next.payload = record.value.as_deref();
            next.partition = record.partition.or_else(|| record.key.is_none().then_some(0));
            while let Err((error, back)) = producer.send(next) {
                let full = matches!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull));
                assert!(full, "{error}");
                // A flush that may end early is a wait for the queue to move.
                drop(producer.flush(Duration::from_millis(50)));
                next = back;
            }
        }
        // A test may keep the broker down for a session of 45 s, and it starts again on a busy machine.
        producer.flush(PATIENCE * 2).expect("the broker confirms");
        assert_eq!(refused.load(Ordering::Relaxed), 0, "records that the broker refused");
    }

    /// Everything that a topic holds now: each partition in its order.
    #[track_caller]
    pub fn read(&self, topic: &str) -> Vec<Held> {
        let consumer = self.reader(&super::unique("reader"));
        let mut open: BTreeSet<i32> = partitions(&consumer, topic).into_iter().collect();
        let mut wanted = TopicPartitionList::new();
        for partition in &open {
            wanted.add_partition_offset(topic, *partition, Offset::Beginning).expect("an offset");
        }
        consumer.assign(&wanted).expect("an assignment");
        let mut held = Vec::new();
        let began = Instant::now();
        while !open.is_empty() {
            assert!(began.elapsed() < PATIENCE, "{topic} cannot be read to its end: {open:?} are left");
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => held.push(keep(&message)),
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    open.remove(&partition);
                }
                _ => {}
            }
        }
        held.sort_by_key(|record| (record.partition, record.offset));
        held
    }

    /// What a group has committed, with the metadata; partitions without a commit are left out.
    #[track_caller]
    pub fn committed(&self, group: &str, topic: &str) -> BTreeMap<i32, (i64, String)> {
        let consumer = self.reader(group);
        let mut asked = TopicPartitionList::new();
        for partition in partitions(&consumer, topic) {
            asked.add_partition(topic, partition);
        }
        let answer = consumer.committed_offsets(asked, PATIENCE).expect("the coordinator answers");
        let offset = |at: Offset| if let Offset::Offset(offset) = at { Some(offset) } else { None };
        let commits = answer.elements().into_iter().filter_map(|element| {
            offset(element.offset()).map(|at| (element.partition(), (at, element.metadata().to_owned())))
        });
        commits.collect()
    }

    /// Waits until a group has committed the end of every partition of a topic.
    #[track_caller]
    pub fn await_committed_to_end(&self, group: &str, topic: &str, within: Duration) {
        let ends = self.ends(topic);
        ask_until(&format!("{group} to commit the end of {topic}"), within, || {
            let committed = self.committed(group, topic);
            let at = |partition: &i32| committed.get(partition).map_or(0, |(offset, _)| *offset);
            ends.iter().all(|(partition, end)| at(partition) >= *end).then_some(())
        });
    }

    /// The offset after the last record of each partition.
    #[track_caller]
    pub fn ends(&self, topic: &str) -> BTreeMap<i32, i64> {
        let consumer = self.reader("ends");
        let end = |partition| {
            let (_, end) = consumer.fetch_watermarks(topic, partition, PATIENCE).expect("the leader answers");
            (partition, end)
        };
        partitions(&consumer, topic).into_iter().map(end).collect()
    }

    fn reader(&self, group: &str) -> BaseConsumer {
        let mut config = self.client();
        config.set("group.id", group).set("enable.auto.commit", "false").set("enable.partition.eof", "true");
        config.create().expect("a consumer")
    }
}

fn launch(folder: &TempDir, port: u16, properties: &[String]) -> Process {
    let mut command = Command::new(format!("{}/kafka-start", from_brokers_sh("ROOMCAST_TEST_KAFKA_HOME")));
    command.arg(folder.path()).arg(port.to_string()).args(properties);
    Process::start("Apache Kafka", command)
}

#[track_caller]
fn partitions(consumer: &BaseConsumer, topic: &str) -> Vec<i32> {
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).expect("the broker answers");
    let topic = metadata.topics().first().expect("one topic was asked for");
    assert!(topic.error().is_none(), "{}: {:?}", topic.name(), topic.error());
    topic.partitions().iter().map(rdkafka::metadata::MetadataPartition::id).collect()
}

fn keep(message: &impl Message) -> Held {
    let header =
        |header: Header<'_, &[u8]>| (header.key.to_owned(), header.value.unwrap_or_default().to_vec());
    Held {
        partition: message.partition(),
        offset: message.offset(),
        record: Record {
            partition: None,
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers: message.headers().map_or_else(Vec::new, |headers| headers.iter().map(header).collect()),
        },
    }
}

/// Counts what the broker did not take.
struct Reports {
    refused: Arc<AtomicUsize>,
}

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if result.is_err() {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
    }
}
