//! What the demo stands on: broker, simulators, daemon, and the client that produces.
//!
//! Everything is put together as users do it: the config is written to a file, read, checked and
//! built by the same code that `run` uses. Tells nothing and decides nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Header, Headers as _, Message as _, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::account::{FOREIGN_ROOM, QUOTA};
use super::ledger::{Letter, event_of};
use super::letters::Office;
use super::run;
use crate::core::provider::Provider;
use crate::driver::{Ended, Handle};
use crate::simulator::clock::{Clock, SystemClock};
use crate::simulator::kafka::EmbeddedKafka;
use crate::simulator::{self, Easemob, Options, Simulator, Yunxin};
use crate::{app, cli, config};

/// The config, with the addresses that [`Stage::build`] puts its own in place of.
pub const CONFIG: &str = include_str!("demo.toml");
const BROKER: &str = "127.0.0.1:9092";
const EASEMOB: &str = "http://127.0.0.1:8601";
const YUNXIN: &str = "http://127.0.0.1:8602/nimserver";

/// The topics that events come from.
pub const TOPICS: [&str; 2] = ["live.events", "match.events"];
/// Partitions of each.
pub const PARTITIONS: i32 = 3;
const LETTERS: &str = "events.dlq";
const GROUP: &str = "roomcast";
/// The header by which a dead letter leads back to its event, even when its value is garbage.
pub const TAG_HEADER: &str = "demo-event";

/// From a request's arrival at a provider to its answer: as over a good network.
const LATENCY: Duration = Duration::from_millis(20);
/// Bytes of each content that a log keeps: enough to hold the tag.
const CONTENT: usize = 512;
/// The longest time that the daemon may take to join its group, and a client to be answered.
const PATIENCE: Duration = Duration::from_secs(15);

/// Everything at work.
pub struct Stage {
    /// The time of both simulators and of the story.
    pub clock: Arc<dyn Clock>,
    /// The simulators, by service.
    pub simulators: [Simulator; 2],
    /// Asks the daemon how it is.
    pub handle: Handle,
    /// What the accounts call, by service: the names in the config sort that way.
    pub providers: [Arc<dyn Provider>; 2],
    /// Where the admin port is.
    pub admin: std::net::SocketAddr,
    /// Where letters are worked.
    pub office: Office,
    /// Letters, as they are written.
    pub letters: mpsc::UnboundedReceiver<Letter>,
    /// The config's file.
    pub file: ConfigFile,
    /// The admin token's file.
    pub token_file: Option<PathBuf>,
    driver: JoinHandle<Ended>,
    producer: FutureProducer,
    reading: Arc<AtomicBool>,
    broker: EmbeddedKafka,
    _admin: (crate::admin::Serving, Option<crate::admin::token::MadeToken>),
}

/// The config on disk; it goes when this does.
#[derive(Debug)]
pub struct ConfigFile(PathBuf);

impl ConfigFile {
    fn write(text: &str) -> anyhow::Result<Self> {
        let name = format!("roomcast-demo-{}.toml", uuid::Uuid::new_v4().simple());
        let file = Self(std::env::temp_dir().join(name));
        std::fs::write(&file.0, text).context("the demo's config cannot be written")?;
        Ok(file)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for ConfigFile {
    fn drop(&mut self) {
        // In a folder that is emptied by itself; failing is no harm.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Stage {
    /// Starts everything, and waits until the daemon has joined its group.
    ///
    /// # Errors
    /// What cannot be started.
    pub async fn build() -> anyhow::Result<Self> {
        let broker = EmbeddedKafka::start(&[
            (TOPICS[0], PARTITIONS),
            (TOPICS[1], PARTITIONS),
            (LETTERS, 1),
            ("events.dlq.replay", 1),
            ("events.dlq.state", 1),
        ])?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let simulators = simulators(&clock)?;
        let mut text = CONFIG.to_owned();
        let [easemob, yunxin] = [simulators[0].base_url(), simulators[1].base_url()];
        for (sample, own) in [(BROKER, broker.address()), (EASEMOB, &easemob), (YUNXIN, &yunxin)] {
            text = text.replace(sample, own);
        }
        let file = ConfigFile::write(&text)?;
        // The variables of whoever watches are not the demo's.
        let loaded = config::load(&[file.path().to_owned()], std::iter::empty())
            .map_err(|broken| anyhow::anyhow!("the demo's config: {:?}", broken.problems))?;
        let app = cli::build(&loaded, &app::open_secret)?;
        let providers = [0, 1].map(|index| app.accounts[index].provider.clone());
        let office = Office { archive: app.sources[0].broker.archive() };
        let daemon = run::assemble(app, Vec::new()).await?;
        let token_file = daemon.token_file();
        let (handle, admin) = (daemon.handle, daemon.serving.listen);
        let reading = Arc::new(AtomicBool::new(true));
        let letters = read_letters(broker.address(), reading.clone())?;
        let stage = Self {
            producer: producer(broker.address())?,
            driver: tokio::spawn(daemon.driver.run()),
            _admin: (daemon.serving, daemon.made),
            clock,
            simulators,
            handle,
            providers,
            office,
            admin,
            letters,
            file,
            token_file,
            reading,
            broker,
        };
        stage.joined().await?;
        Ok(stage)
    }

    /// Waits until the daemon reads from every partition.
    async fn joined(&self) -> anyhow::Result<()> {
        let all = TOPICS.len() * usize::try_from(PARTITIONS).unwrap_or_default();
        let mut look = tokio::time::interval(Duration::from_millis(20));
        let ready = async {
            loop {
                look.tick().await;
                let report = self.handle.report().await.context("the daemon has ended")?;
                if report.sources.iter().any(|source| source.partitions.len() == all) {
                    return Ok(());
                }
            }
        };
        tokio::time::timeout(PATIENCE, ready).await.context("the daemon did not join its group")?
    }

    /// The broker's address.
    pub fn broker(&self) -> &str {
        self.broker.address()
    }

    /// Writes records, in this order within each partition, and waits until the broker has them.
    ///
    /// # Errors
    /// When the broker does not take one.
    pub async fn produce(&self, records: &[Produced]) -> anyhow::Result<()> {
        let mut away = Vec::with_capacity(records.len());
        for record in records {
            let tag = Header { key: TAG_HEADER, value: Some(&record.tag) };
            let to = FutureRecord::to(record.topic)
                .partition(record.partition)
                .key(&record.key)
                .payload(&record.value)
                .headers(OwnedHeaders::new().insert(tag));
            match self.producer.send_result(to) {
                Ok(delivery) => away.push(delivery),
                Err((error, _)) => bail!("the embedded broker takes no record: {error}"),
            }
        }
        for delivery in away {
            if let Err((error, _)) = delivery.await.context("the producer is gone")? {
                bail!("the embedded broker lost a record: {error}");
            }
        }
        Ok(())
    }

    /// Records whose offset the group has committed.
    ///
    /// # Errors
    /// When the broker does not tell.
    pub async fn committed(&self) -> anyhow::Result<u64> {
        let mut settings = ClientConfig::new();
        settings.set("bootstrap.servers", self.broker()).set("group.id", GROUP);
        let asked = tokio::task::spawn_blocking(move || {
            let client: BaseConsumer = settings.create()?;
            let mut wanted = TopicPartitionList::new();
            for topic in TOPICS {
                wanted.add_partition_range(topic, 0, PARTITIONS - 1);
            }
            client.committed_offsets(wanted, PATIENCE)
        });
        let offsets = asked.await.context("asking for offsets failed")??;
        let offset = |offset: Offset| match offset {
            Offset::Offset(next) => u64::try_from(next).unwrap_or(0),
            _ => 0,
        };
        Ok(offsets.elements().iter().map(|element| offset(element.offset())).sum())
    }

    /// Replays the open letter of that class; the event that it is of.
    ///
    /// # Errors
    /// When there is none, the patch fails, or the broker takes no request.
    pub async fn replay(&self, class: &str, patch: Option<&str>) -> anyhow::Result<usize> {
        self.office.replay(class, patch).await
    }

    /// Discards the open letter of that class.
    ///
    /// # Errors
    /// When there is none, or the broker does not take it.
    pub async fn discard(&self, class: &str, why: &str) -> anyhow::Result<()> {
        self.office.discard(class, why).await
    }

    /// How many letters are in each state, once none is under way any more.
    ///
    /// # Errors
    /// When the broker does not tell.
    pub async fn states(&self) -> anyhow::Result<BTreeMap<&'static str, u64>> {
        self.office.states(PATIENCE).await
    }

    /// Stops the daemon as a signal would, and everything else after it.
    pub async fn stop(self) {
        self.handle.stop();
        // How it ended is in the account: what was not settled is not committed.
        let _ = self.driver.await;
        self.reading.store(false, Ordering::Relaxed);
        let [easemob, yunxin] = self.simulators;
        tokio::join!(easemob.stop(), yunxin.stop());
    }
}

/// A record to be written.
#[derive(Debug)]
pub struct Produced {
    /// The topic.
    pub topic: &'static str,
    /// The partition.
    pub partition: i32,
    /// The key: a room.
    pub key: String,
    /// The event.
    pub value: String,
    /// The event's tag, as a header.
    pub tag: String,
}

/// The partition of a key: the same for the same room.
pub fn partition(key: &str) -> i32 {
    let sum: u32 = key.bytes().map(u32::from).sum();
    i32::try_from(sum).unwrap_or(0) % PARTITIONS
}

/// Both, with the pages' own limits.
fn simulators(clock: &Arc<dyn Clock>) -> anyhow::Result<[Simulator; 2]> {
    let easemob = Easemob {
        client_id: "demo".into(),
        client_secret: "not-a-secret".into(),
        // Clients that do what the README asks of them: show an `ext.roomcast_id` once.
        clients_drop_repeats: true,
        ..Easemob::default()
    };
    let rooms = (2001..=2040).map(|room| room.to_string()).chain([FOREIGN_ROOM.to_owned()]);
    let yunxin = Yunxin {
        app_key: "demo".into(),
        app_secret: "not-a-secret".into(),
        rooms: Some(rooms.collect()),
        ..Yunxin::default()
    };
    assert_eq!([easemob.calls_per_second, yunxin.calls_per_second], QUOTA, "the pages' own limits");
    let options = |options: Options| Options {
        latency: LATENCY,
        log_content_bytes: CONTENT,
        clock: Arc::clone(clock),
        ..options
    };
    Ok([
        simulator::start(options(Options::easemob(easemob)))?,
        simulator::start(options(Options::yunxin(yunxin)))?,
    ])
}

/// One request away at a time, so that records keep the order in which they are handed over.
fn producer(broker: &str) -> anyhow::Result<FutureProducer> {
    let mut settings = ClientConfig::new();
    settings.set("bootstrap.servers", broker);
    settings.set("max.in.flight.requests.per.connection", "1").set("linger.ms", "2");
    Ok(settings.create()?)
}

/// Reads the dead-letter topic from its beginning, in a thread, until told to stop.
fn read_letters(broker: &str, reading: Arc<AtomicBool>) -> anyhow::Result<mpsc::UnboundedReceiver<Letter>> {
    let mut settings = ClientConfig::new();
    settings.set("bootstrap.servers", broker).set("group.id", "demo-letters");
    settings.set("enable.auto.commit", "false").set("fetch.wait.max.ms", "50");
    let consumer: BaseConsumer = settings.create()?;
    let mut all = TopicPartitionList::new();
    all.add_partition_offset(LETTERS, 0, Offset::Beginning)?;
    consumer.assign(&all)?;
    let (tell, letters) = mpsc::unbounded_channel();
    std::thread::Builder::new().name("demo-letters".into()).spawn(move || {
        while reading.load(Ordering::Relaxed) {
            let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) else { continue };
            let header = |name: &str| {
                let headers = message.headers()?;
                let value = headers.iter().find(|header| header.key == name)?.value?;
                Some(String::from_utf8_lossy(value).into_owned())
            };
            let text = |name| header(name).unwrap_or_default();
            let letter = Letter {
                // A letter that is nobody's must not be overlooked: it gets a number that no event has.
                event: header(TAG_HEADER).and_then(|tag| event_of(&tag)).unwrap_or(usize::MAX),
                class: text("roomcast-class"),
                error: text("roomcast-error"),
            };
            if tell.send(letter).is_err() {
                return;
            }
        }
    })?;
    Ok(letters)
}
