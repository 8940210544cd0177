//! Kafka: records from a consumer group, letters to a topic.
//!
//! [`build`] reads the section; [`Broker::start`] starts one OS thread with one consumer
//! (`source`, `rebalance`, `commit`) and gives out the writer of letters and of the table. It never
//! seeks past a record, never commits what is not settled, and never ends because a broker is away.
//!
//! Read `settings` for what can be said about a source, `source` for how it lives, `archive` for those
//! who look at its letters from outside.

mod archive;
mod commit;
mod context;
mod follow;
mod later;
mod letters;
mod offsets;
mod probe;
mod raw;
mod reading;
mod rebalance;
mod record;
mod settings;
mod source;
mod sweep;
mod table;
mod topics;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use self::archive::Holdings;
use self::letters::Writer;
use self::settings::Settings;
use self::table::StateTable;
use super::{
    Archive, Arrival, Boxed, Broker, Command, Followed, Inbox, LATER_MOST, Later, Letters, Part, Placed,
    Reading, SourceLimits, Stands, Started, Status, Table, rested,
};
use crate::core::model::SourceId;
use crate::core::section::Section;

/// How long closing may take: leaving the group, and the last commit. After it the process may end
/// all the same; what was not committed is posted again.
const CLOSING: Duration = Duration::from_secs(10);

/// To be called once, before anything else is made here. By itself OpenSSL frees what it holds when the
/// process exits, while threads of librdkafka may still use it: one exit in sixty ended with a signal
/// where a broker's certificate was refused. Begun like this, it leaves that to the system.
pub fn begin() {
    openssl_sys::init();
}

/// How long after a failed look at the dead-letter topics the next one is made.
const PREPARE_AGAIN: Duration = Duration::from_secs(10);

/// Makes the broker from its source's section.
pub fn build(section: &Section<'_>, source: SourceId) -> Option<Box<dyn Broker>> {
    let settings = Settings::read(section, source)?;
    let beside = Arc::new(settings.clone());
    Some(Box::new(Kafka { settings, beside, replays: None }))
}

/// A Kafka source, not yet connected.
struct Kafka {
    /// What is read.
    settings: Settings,
    /// The source as the config has it, for what is written: topics beside it are made to suit it.
    beside: Arc<Settings>,
    /// Where what is read are requests for replays: when.
    replays: Option<Reading>,
}

impl Broker for Kafka {
    fn kind(&self) -> &'static str {
        "kafka"
    }

    fn dead_letter(&self) -> &str {
        &self.settings.dead_letter
    }

    fn letters_at(&self) -> String {
        format!("kafka {} {}", self.settings.brokers, self.settings.dead_letter)
    }

    fn avoid(&mut self, dead_letters: &[String]) {
        self.settings.avoid(dead_letters);
        Arc::make_mut(&mut self.beside).avoid(dead_letters);
    }

    fn max_held_records(&self) -> usize {
        usize::MAX
    }

    fn archive(&self) -> Arc<dyn Archive> {
        Arc::new(Holdings::new(Writer::new(Arc::clone(&self.beside), false), &self.settings.group))
    }

    fn replays(&self, id: SourceId, reading: Reading) -> Box<dyn Broker> {
        let settings = self.beside.of_replays(id);
        Box::new(Self { settings, beside: Arc::clone(&self.beside), replays: Some(reading) })
    }

    fn probe(&self) -> Boxed<'_, Result<Vec<String>, String>> {
        Box::pin(probe::probe(Arc::new(self.settings.clone())))
    }

    fn follow(&self, table: &str, told: mpsc::Sender<Followed>) {
        follow::start(&self.settings, table, told);
    }

    fn start(self: Box<Self>, limits: SourceLimits, inbox: Inbox) -> Started {
        let (commands, orders) = mpsc::unbounded_channel();
        let (closing, begins_to_close) = oneshot::channel();
        let (done, ended) = oneshot::channel();
        let name = Arc::clone(&self.settings.name);
        let writer = Arc::new(Writer::new(self.beside, self.replays.is_none()));
        tokio::spawn(prepare(Arc::downgrade(&writer)));
        let reading = self.replays.unwrap_or(Reading::AtOnce);
        let start =
            source::Start { settings: self.settings, reading, limits, inbox, commands: orders, closing };
        std::thread::Builder::new()
            .name(format!("kafka-{name}"))
            .spawn(move || {
                // Nobody listens any more only when the process ends.
                let _ = done.send(source::run(start));
            })
            .expect("the system has room for one more thread");
        Started {
            commands,
            letters: Arc::clone(&writer) as Arc<dyn Letters>,
            table: Arc::new(StateTable::new(writer)),
            buckets: None,
            ended: Box::pin(end(begins_to_close, ended)),
        }
    }

    fn rest(&self) -> Started {
        let (commands, orders) = mpsc::unbounded_channel();
        let writer = Arc::new(Writer::new(Arc::clone(&self.beside), false));
        Started {
            commands,
            letters: Arc::clone(&writer) as Arc<dyn Letters>,
            table: Arc::new(StateTable::new(writer)),
            buckets: None,
            ended: Box::pin(rested(orders)),
        }
    }
}

/// Prepares the dead-letter topics as soon as the broker can be asked, so that what is wrong with
/// them is told at the start and not with the first letter.
async fn prepare(writer: std::sync::Weak<Writer>) {
    let mut told = false;
    while let Some(writer) = writer.upgrade() {
        match writer.prepare().await {
            Ok(()) => return,
            Err(error) if !told => {
                tracing::warn!(
                    source = &*writer.settings.name,
                    "the dead-letter topics are not ready: {error}"
                );
                told = true;
            }
            Err(_) => {}
        }
        drop(writer);
        tokio::time::sleep(PREPARE_AGAIN).await;
    }
}

/// Waits for the thread: as long as it lives, and not much longer than it closes.
async fn end(
    begins_to_close: oneshot::Receiver<()>,
    mut ended: oneshot::Receiver<Result<(), String>>,
) -> Result<(), String> {
    let told = tokio::select! {
        told = &mut ended => told,
        Ok(()) = begins_to_close => match tokio::time::timeout(CLOSING, ended).await {
            Ok(told) => told,
            Err(_) => return Err(format!(
                "the Kafka consumer did not close within {CLOSING:?}; what it had not committed will be posted again"
            )),
        },
    };
    told.unwrap_or_else(|_| Err("the source's thread panicked".to_owned()))
}
