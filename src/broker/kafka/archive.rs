//! The letters of a dead-letter topic for those who look at them from outside: the command line, the API.
//!
//! It joins no group and commits nothing. Nothing connects before it is asked, and what is asked is
//! answered within a minute or so, or it is told why not. What waits for librdkafka does so on a thread of
//! its own, which ends with the process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::admin::AdminClient;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tokio::sync::{mpsc, oneshot};

use super::context::PlainContext;
use super::letters::Writer;
use super::sweep::{self, Reader};
use super::table::StateTable;
use super::{Archive, Boxed, Followed, Later, Part, Placed, Stands, Table, follow, later, raw};
use crate::core::letter::Sealed;
use crate::core::model::{Origin, Record};
use crate::core::replay::Told;

/// How long the group's coordinator may take to tell its members; a cluster that never had a group makes
/// the topic for them first.
const MEMBERS: Duration = Duration::from_secs(30);

/// How long after a coordinator that is not there yet the next question is asked.
const ASK_AGAIN: Duration = Duration::from_millis(250);

/// The archive of one source.
pub(super) struct Holdings {
    writer: Arc<Writer>,
    /// Whose members read the source.
    group: Arc<str>,
    /// The reader of single records, kept from one to the next.
    looking: Arc<Mutex<Option<Reader>>>,
    /// Who asks for members, kept likewise: a new one would log in each time.
    asking: Arc<Mutex<Option<AdminClient<PlainContext>>>>,
}

impl Holdings {
    /// One that writes with this writer; the source is read by this group.
    pub(super) fn new(writer: Writer, group: &str) -> Self {
        Self {
            writer: Arc::new(writer),
            group: group.into(),
            looking: Arc::default(),
            asking: Arc::default(),
        }
    }

    async fn place(&self, letter: Record, more: Vec<(Arc<str>, Bytes)>) -> Result<Placed, String> {
        let Origin { topic, partition, offset, .. } = &letter.origin;
        let told = Told::read(&letter)
            .map_err(|why| format!("the record at {topic}/{partition}/{offset} is no letter: {why}"))?;
        self.writer.prepare().await?;
        let mut headers = letter.headers;
        headers.extend(more);
        let request = Sealed { id: told.letter, key: letter.key, value: letter.value, headers };
        let topic = self.writer.settings.replay_topic();
        match self.writer.place(&topic, request).await {
            Ok(()) => Ok(Placed::Now),
            Err(error) => Err(refused(&topic, &error)),
        }
    }
}

impl Archive for Holdings {
    fn read(&self, into: mpsc::Sender<Record>) -> Boxed<'_, Result<(), String>> {
        let settings = Arc::clone(&self.writer.settings);
        Box::pin(aside(move || sweep::letters(&settings, &into)))
    }

    fn request(&self, letter: Record, headers: Vec<(Arc<str>, Bytes)>) -> Boxed<'_, Result<Placed, String>> {
        Box::pin(self.place(letter, headers))
    }

    fn value_at(&self, origin: Origin) -> Boxed<'_, Result<Option<Bytes>, String>> {
        let settings = Arc::clone(&self.writer.settings);
        let looking = Arc::clone(&self.looking);
        Box::pin(aside(move || {
            let mut place = looking.lock().unwrap_or_else(PoisonError::into_inner);
            let reader = match place.take() {
                Some(reader) => reader,
                None => Reader::new(&settings)?,
            };
            let value = reader.value_at(&origin)?;
            // One that met an error is not kept.
            *place = Some(reader);
            Ok(value)
        }))
    }

    fn readers(&self) -> Boxed<'_, Result<usize, String>> {
        let (settings, group) = (Arc::clone(&self.writer.settings), Arc::clone(&self.group));
        let asking = Arc::clone(&self.asking);
        Box::pin(aside(move || {
            let mut place = asking.lock().unwrap_or_else(PoisonError::into_inner);
            let admin = match place.take() {
                Some(admin) => admin,
                None => AdminClient::from_config_and_context(
                    &settings.client(),
                    PlainContext::new(&settings.name),
                )
                .map_err(|error| format!("the Kafka client cannot be made: {error}"))?,
            };
            let members = members(&admin, &group).map_err(|why| {
                format!("{}: the members of group {group} are not told: {why}", settings.brokers)
            })?;
            // One that met an error is not kept.
            *place = Some(admin);
            Ok(members)
        }))
    }

    fn later(&self, of: BTreeMap<Part, Stands>) -> Boxed<'_, Result<Later, String>> {
        let settings = Arc::clone(&self.writer.settings);
        Box::pin(aside(move || later::later(&settings, &of)))
    }

    fn table(&self) -> Arc<dyn Table> {
        Arc::new(StateTable::new(Arc::clone(&self.writer)))
    }

    fn follow(&self, told: mpsc::Sender<Followed>) {
        let settings = &self.writer.settings;
        follow::start(settings, &settings.state_topic(), told);
    }
}

/// The members of a group. A coordinator that moves, or is being found, is asked again.
fn members(admin: &AdminClient<PlainContext>, group: &str) -> Result<usize, RDKafkaErrorCode> {
    use RDKafkaErrorCode as Code;
    let began = Instant::now();
    loop {
        let left = MEMBERS.saturating_sub(began.elapsed());
        match raw::members(admin.inner(), group, left) {
            Err(Code::NotCoordinator | Code::CoordinatorNotAvailable | Code::CoordinatorLoadInProgress)
                if left > ASK_AGAIN =>
            {
                std::thread::sleep(ASK_AGAIN);
            }
            told => return told,
        }
    }
}

fn refused(topic: &str, error: &KafkaError) -> String {
    use RDKafkaErrorCode::{UnknownTopic, UnknownTopicOrPartition};
    match error.rdkafka_error_code() {
        Some(UnknownTopic | UnknownTopicOrPartition) => {
            format!("topic {topic} does not exist: make it, or set `create_dead_letter = true`")
        }
        _ => format!("topic {topic}: {error}"),
    }
}

/// Does on a thread of its own what waits for librdkafka.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let (done, told) = oneshot::channel();
    let thread = std::thread::Builder::new().name("kafka-archive".to_owned());
    // Nobody waits any more: then nobody is told.
    let started = thread.spawn(move || drop(done.send(work())));
    started.map_err(|error| format!("the system has no room for one more thread: {error}"))?;
    told.await.unwrap_or_else(|_| Err("the thread that asks Kafka has panicked".to_owned()))
}
