//! A compacted topic that others write, read from its first record and then followed.
//!
//! It runs on a thread of its own with a consumer that joins no group and commits nothing, and ends
//! when nobody listens. A broker that is away is waited for; what was told before stays true until
//! the whole topic has been read anew.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::Message;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::mpsc;

use super::context::PlainContext;
use super::settings::Settings;
use crate::broker::Followed;

/// How long the broker may be silent before reading to the end is given up and begun again.
const PATIENCE: Duration = Duration::from_secs(15);
/// The wait before the next try.
const AGAIN: Duration = Duration::from_secs(2);
/// How long one poll waits: within that it is noticed that nobody listens.
const POLL: Duration = Duration::from_millis(100);
/// Rows told at once.
const BATCH: usize = 512;
/// How often the topic is looked at: it may have got more partitions.
const LOOK: Duration = Duration::from_secs(60);
/// What the client may have fetched and not handed out, in KiB: by default it is 64 MiB.
const QUEUE_KIB: &str = "4096";

/// Why reading ended.
enum End {
    /// Nobody listens.
    Unheard,
    /// It has to be begun anew: why, for people.
    Broken(String),
}

/// Begins to read and to follow, on a thread that ends when nobody listens.
pub(super) fn start(settings: &Settings, topic: &str, told: mpsc::Sender<Followed>) {
    let (settings, topic) = (settings.clone(), topic.to_owned());
    std::thread::Builder::new()
        .name(format!("kafka-{topic}"))
        .spawn(move || run(&settings, &topic, &told))
        .expect("the system has room for one more thread");
}

/// Reads and follows, until nobody listens.
fn run(settings: &Settings, topic: &str, told: &mpsc::Sender<Followed>) {
    loop {
        match read(settings, topic, told) {
            End::Unheard => return,
            End::Broken(why) => {
                if told.blocking_send(Followed::Waiting(format!("topic {topic}: {why}"))).is_err() {
                    return;
                }
            }
        }
        let until = Instant::now() + AGAIN;
        while Instant::now() < until {
            if told.is_closed() {
                return;
            }
            std::thread::sleep(POLL);
        }
    }
}

fn read(settings: &Settings, topic: &str, told: &mpsc::Sender<Followed>) -> End {
    let mut config = settings.reader();
    config.set("queued.max.messages.kbytes", QUEUE_KIB);
    let consumer = match BaseConsumer::from_config_and_context(&config, PlainContext::new(&settings.name)) {
        Ok(consumer) => consumer,
        Err(error) => return End::Broken(format!("the Kafka client cannot be made: {error}")),
    };
    let partitions = match partitions(&consumer, topic) {
        Ok(partitions) => partitions,
        Err(why) => return End::Broken(why),
    };
    let mut list = TopicPartitionList::new();
    for partition in &partitions {
        // It fails for offsets that are none, and this one is one.
        let _ = list.add_partition_offset(topic, *partition, Offset::Beginning);
    }
    if let Err(error) = consumer.assign(&list) {
        return End::Broken(error.to_string());
    }
    if told.blocking_send(Followed::Begun).is_err() {
        return End::Unheard;
    }
    Reading { consumer, topic, told, rows: Vec::new(), unread: partitions.clone(), partitions }.go_on()
}

/// The numbers of the topic's partitions.
fn partitions(consumer: &BaseConsumer<PlainContext>, topic: &str) -> Result<BTreeSet<i32>, String> {
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).map_err(|error| error.to_string())?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    let partitions =
        found.filter(|found| found.error().is_none()).map(rdkafka::metadata::MetadataTopic::partitions);
    match partitions {
        None | Some([]) => Err("it does not exist, or may not be seen by this user".to_owned()),
        Some(partitions) => Ok(partitions.iter().map(rdkafka::metadata::MetadataPartition::id).collect()),
    }
}

/// A topic that is being read.
struct Reading<'r> {
    consumer: BaseConsumer<PlainContext>,
    topic: &'r str,
    told: &'r mpsc::Sender<Followed>,
    /// Rows not told yet.
    rows: Vec<(Bytes, Option<Bytes>)>,
    partitions: BTreeSet<i32>,
    /// Partitions whose end has not been reached.
    unread: BTreeSet<i32>,
}

impl Reading<'_> {
    fn go_on(mut self) -> End {
        let mut is_current = false;
        let (mut heard, mut looked) = (Instant::now(), Instant::now());
        loop {
            // What is there is gathered; once nothing is, it is told at once.
            let wait = if self.rows.is_empty() { POLL } else { Duration::ZERO };
            match self.take(wait) {
                Ok(true) => heard = Instant::now(),
                Ok(false) if self.tell().is_err() => return End::Unheard,
                Ok(false) => {}
                Err(error) if is_passing(&error) => {}
                Err(error) => return End::Broken(error.to_string()),
            }
            if self.rows.len() >= BATCH && self.tell().is_err() {
                return End::Unheard;
            }
            if !is_current && self.unread.is_empty() {
                is_current = true;
                if self.tell().is_err() || self.told.blocking_send(Followed::Current).is_err() {
                    return End::Unheard;
                }
            }
            if !is_current && heard.elapsed() >= PATIENCE {
                return End::Broken(format!("the broker has sent nothing for {PATIENCE:?}"));
            }
            if self.told.is_closed() {
                return End::Unheard;
            }
            if looked.elapsed() >= LOOK {
                looked = Instant::now();
                // A broker that does not answer now is asked again the next time.
                if partitions(&self.consumer, self.topic).is_ok_and(|now| now != self.partitions) {
                    return End::Broken("its partitions have changed, it is read anew".to_owned());
                }
            }
        }
    }

    /// Takes what comes next; whether anything came in time.
    fn take(&mut self, wait: Duration) -> Result<bool, KafkaError> {
        match self.consumer.poll(wait) {
            None => return Ok(false),
            Some(Ok(message)) => {
                let key = Bytes::copy_from_slice(message.key().unwrap_or_default());
                self.rows.push((key, message.payload().map(Bytes::copy_from_slice)));
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                self.unread.remove(&partition);
            }
            Some(Err(error)) => return Err(error),
        }
        Ok(true)
    }

    /// Tells the rows that were gathered; `Err` when nobody listens.
    fn tell(&mut self) -> Result<(), ()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        self.told.blocking_send(Followed::Rows(std::mem::take(&mut self.rows))).map_err(drop)
    }
}

/// Whether the client goes on by itself after that error.
fn is_passing(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::Resolve
                | RDKafkaErrorCode::NotLeaderForPartition
                | RDKafkaErrorCode::LeaderNotAvailable
        )
    )
}
