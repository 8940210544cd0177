//! What the tests of the Kafka source stand on: topics of their own on a real broker, a source at
//! work, and a driver's part played by hand.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders, OwnedMessage};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{Offset, TopicPartitionList};
use roomcast::broker::{Arrival, BROKERS, Broker, Command, SourceLimits, Started, Status};
use roomcast::core::model::{Epoch, PartitionId, Record, SourceId};
use roomcast::core::section::{Node, Place, Report, Section, Table, Value};
use tokio::sync::mpsc;

/// Longer than anything on an idle machine takes; a test that waits so long has failed.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// The broker that all tests share.
pub fn broker() -> String {
    std::env::var("ROOMCAST_TEST_KAFKA").unwrap_or_else(|_| {
        panic!(
            "ROOMCAST_TEST_KAFKA is not set: these tests need a real Apache Kafka, host:port. \
             `.ci/brokers.sh cargo test` starts one and names it."
        )
    })
}

/// A name that no other test and no other run has.
pub fn unique(word: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let run = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    format!("{word}-{run}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// One test's topics and group on the shared broker.
pub struct Bed {
    pub brokers: String,
    pub topic: String,
    pub group: String,
    pub dead_letter: String,
}

impl Bed {
    /// A topic with so many partitions.
    pub async fn with_partitions(word: &str, partitions: i32) -> Self {
        Self::on(broker(), word, partitions).await
    }

    /// The same on another broker.
    pub async fn on(brokers: String, word: &str, partitions: i32) -> Self {
        let topic = unique(word);
        let bed =
            Self { brokers, group: format!("{topic}-group"), dead_letter: format!("{topic}.dlq"), topic };
        bed.make_topic(&bed.topic, partitions).await;
        bed
    }

    pub async fn make_topic(&self, name: &str, partitions: i32) {
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        let made =
            self.admin().create_topics([&topic], &AdminOptions::new()).await.expect("the broker answers");
        made[0].as_ref().expect("the topic is new");
        // A topic that was made is known to the broker a moment later.
        let reader: BaseConsumer = self.client().create().unwrap();
        for _ in 0..200 {
            let metadata = reader.fetch_metadata(Some(name), PATIENCE).unwrap();
            if metadata.topics()[0].partitions().iter().filter(|p| p.leader() >= 0).count()
                == partitions as usize
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("the broker did not make {name}");
    }

    /// Gives its topic more partitions.
    pub async fn grow_topic(&self, partitions: usize) {
        let more = NewPartitions::new(&self.topic, partitions);
        let made = self.admin().create_partitions([&more], &AdminOptions::new()).await;
        made.expect("the broker answers")[0].as_ref().expect("the topic is there");
    }

    pub fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.client().create().unwrap()
    }

    pub fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers);
        config
    }

    /// Writes values in order, each to its partition.
    pub async fn produce(&self, records: impl IntoIterator<Item = (i32, String)>) {
        produce(&self.brokers, &self.topic, records).await;
    }

    /// A source of this bed with the usual settings.
    pub fn source(&self) -> Box<dyn Broker> {
        self.source_with(&[])
    }

    /// A source of this bed; the settings given replace the usual ones.
    pub fn source_with(&self, settings: &[(&str, Value)]) -> Box<dyn Broker> {
        let text = |text: &str| Value::Text(text.to_owned());
        let mut table: BTreeMap<&str, Value> = BTreeMap::from([
            ("brokers", text(&self.brokers)),
            ("group", text(&self.group)),
            ("topics", Value::List(vec![node(text(&self.topic))])),
            ("dead_letter", text(&self.dead_letter)),
            ("start_from", text("earliest")),
        ]);
        table.extend(settings.iter().map(|(key, value)| (*key, value.clone())));
        build(table).unwrap_or_else(|problems| panic!("{problems:?}"))
    }

    /// What the group has committed: offset and metadata of each partition.
    pub fn committed(&self, partitions: i32) -> Vec<(Offset, String)> {
        let mut config = self.client();
        let reader: BaseConsumer = config.set("group.id", &self.group).create().unwrap();
        let mut list = TopicPartitionList::new();
        list.add_partition_range(&self.topic, 0, partitions - 1);
        let committed = reader.committed_offsets(list, PATIENCE).unwrap();
        committed.elements().iter().map(|e| (e.offset(), e.metadata().to_owned())).collect()
    }

    /// All records of a topic that has one partition or more, in the order of their partitions.
    pub fn read_all(&self, topic: &str) -> Vec<OwnedMessage> {
        let mut config = self.client();
        config
            .set("group.id", "reader")
            .set("enable.auto.commit", "false")
            .set("fetch.message.max.bytes", "8000000");
        let reader: BaseConsumer = config.create().unwrap();
        let metadata = reader.fetch_metadata(Some(topic), PATIENCE).unwrap();
        let (mut list, mut left) = (TopicPartitionList::new(), 0);
        for partition in metadata.topics()[0].partitions() {
            let (low, high) = reader.fetch_watermarks(topic, partition.id(), PATIENCE).unwrap();
            left += high - low;
            list.add_partition_offset(topic, partition.id(), Offset::Beginning).unwrap();
        }
        reader.assign(&list).unwrap();
        let mut records = Vec::new();
        while left > 0 {
            let record = reader.poll(PATIENCE).expect("a record").expect("no error");
            records.push(record.detach());
            left -= 1;
        }
        records
    }
}

/// A source of the config's table, or what is wrong with it.
pub fn build(settings: BTreeMap<&str, Value>) -> Result<Box<dyn Broker>, Vec<String>> {
    let table: Table = settings.into_iter().map(|(key, value)| (key.to_owned(), node(value))).collect();
    let report = Report::new(&|_| Ok("secret".to_owned()));
    let section = Section::new("sources.live", &table, Place::Nowhere, &report);
    let (_, build) = BROKERS.iter().find(|(kind, _)| *kind == "kafka").expect("kafka is built in");
    let broker = build(&section, SourceId(0));
    let problems = report.into_problems();
    match broker {
        Some(broker) if problems.is_empty() => Ok(broker),
        _ => Err(problems.into_iter().map(|p| format!("{}: {}: {}", p.key, p.found, p.wanted)).collect()),
    }
}

pub fn node(value: Value) -> Node {
    Node { value, place: Place::Nowhere, key_place: Place::Nowhere }
}

/// Writes values in order with one producer, each to its partition, with a key and a header.
pub async fn produce(brokers: &str, topic: &str, records: impl IntoIterator<Item = (i32, String)>) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("enable.idempotence", "true").set("linger.ms", "5");
    let producer: FutureProducer = config.create().unwrap();
    let mut sent = Vec::new();
    for (partition, value) in records {
        let key = format!("room-{partition}");
        let headers = OwnedHeaders::new().insert(Header { key: "kind", value: Some("test") });
        let record = FutureRecord::to(topic).partition(partition).key(&key).payload(&value).headers(headers);
        sent.push(producer.send_result(record).map_err(|(error, _)| error).expect("the queue has room"));
    }
    for delivery in sent {
        delivery.await.expect("the producer lives").map_err(|(error, _)| error).expect("written");
    }
}

/// The text of a header of a record read back.
pub fn header(message: &OwnedMessage, name: &str) -> Option<String> {
    let headers = message.headers()?;
    let found = headers.iter().find(|header| header.key == name)?;
    Some(String::from_utf8_lossy(found.value.unwrap_or_default()).into_owned())
}

/// A source at work, and what it told so far.
pub struct Running {
    pub started: Started,
    pub inbox: mpsc::Receiver<Arrival>,
    /// What is ours now.
    pub assigned: BTreeMap<PartitionId, (Epoch, String)>,
    /// Every status, in order.
    pub statuses: Vec<Status>,
    /// Revocations that want an answer.
    pub revoking: Vec<(PartitionId, Epoch)>,
    pub lag: Option<u64>,
    /// All partitions in their order, as last told.
    pub order: Option<Vec<PartitionId>>,
    /// What was lost, ever.
    pub lost: Vec<(PartitionId, Epoch)>,
}

impl Running {
    pub fn start(broker: Box<dyn Broker>) -> Self {
        // What a source logs belongs to the test that failed; RUST_LOG says how much.
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
        let (sender, inbox) = mpsc::channel(64);
        let limits = SourceLimits { held_records: 50_000, held_bytes: 64 << 20 };
        Self {
            started: broker.start(limits, sender),
            inbox,
            assigned: BTreeMap::new(),
            statuses: Vec::new(),
            revoking: Vec::new(),
            lag: None,
            order: None,
            lost: Vec::new(),
        }
    }

    /// The next record; everything else is written down on the way. `None` when `patience` is over.
    pub async fn record_within(&mut self, patience: Duration) -> Option<Record> {
        let until = tokio::time::Instant::now() + patience;
        loop {
            let arrival = tokio::time::timeout_at(until, self.inbox.recv()).await.ok()??;
            if let Some(record) = self.note(arrival) {
                return Some(record);
            }
        }
    }

    pub async fn record(&mut self) -> Record {
        self.record_within(PATIENCE).await.expect("a record arrives")
    }

    pub async fn records(&mut self, count: usize) -> Vec<Record> {
        let mut records = Vec::with_capacity(count);
        for _ in 0..count {
            records.push(self.record().await);
        }
        records
    }

    /// Takes in arrivals until `done`; records are not expected.
    pub async fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let until = tokio::time::Instant::now() + PATIENCE;
        while !done(self) {
            match tokio::time::timeout_at(until, self.inbox.recv()).await {
                Ok(Some(arrival)) => {
                    let record = self.note(arrival);
                    assert!(record.is_none(), "waiting for {what}, and a record came: {record:?}");
                }
                Ok(None) => panic!("waiting for {what}, and the source ended"),
                Err(_) => panic!("waiting for {what}: {:?} {:?}", self.statuses, self.assigned),
            }
        }
    }

    /// Nothing but news for so long.
    pub async fn silence(&mut self, span: Duration) {
        if let Some(record) = self.record_within(span).await {
            panic!("nothing should arrive, and this did: {record:?}");
        }
    }

    fn note(&mut self, arrival: Arrival) -> Option<Record> {
        match arrival {
            Arrival::Record(record) => {
                let held =
                    self.assigned.get(&record.id.partition).expect("a record of an assigned partition");
                assert_eq!(held.0, record.id.epoch, "the epoch of the assignment");
                return Some(record);
            }
            Arrival::Assigned { partitions, order, .. } => {
                self.order = order.or(self.order.take());
                for (id, epoch, name) in partitions {
                    let before = self.assigned.insert(id, (epoch, name.to_string()));
                    assert!(before.is_none_or(|(old, _)| old < epoch), "epochs rise");
                }
            }
            Arrival::Revoking { partitions, .. } => self.revoking.extend(partitions),
            Arrival::Lost { partitions, .. } => {
                for (id, _) in &partitions {
                    self.assigned.remove(id);
                }
                self.lost.extend(partitions);
            }
            Arrival::Status { status, .. } => self.statuses.push(status),
            Arrival::Lag { records, .. } => self.lag = Some(records),
            Arrival::CommitMetadata { .. } => {}
        }
        None
    }

    pub fn tell(&self, command: Command) {
        self.started.commands.send(command).expect("the source lives");
    }

    pub fn settle(&self, record: &Record) {
        self.tell(Command::Settle(record.id));
    }

    /// Lets go of everything under revocation.
    pub fn release(&mut self) {
        for (partition, epoch) in std::mem::take(&mut self.revoking) {
            self.assigned.remove(&partition);
            self.tell(Command::Released(partition, epoch));
        }
    }

    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.assigned.values().map(|(_, name)| name.clone()).collect();
        names.sort();
        names
    }

    /// Stops it as the daemon does: committed, left the group, without an error.
    pub async fn stop(mut self) {
        self.tell(Command::Stop);
        let mut ended = self.started.ended;
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            tokio::select! {
                result = &mut ended => return result.expect("ends well"),
                // An inbox that nobody empties would hold the source up.
                _ = self.inbox.recv(), if !self.inbox.is_closed() => {}
                () = tokio::time::sleep_until(until) => panic!("the source did not end"),
            }
        }
    }
}

pub fn text(record: &Record) -> String {
    String::from_utf8(record.value.as_deref().expect("a value").to_vec()).expect("text")
}
