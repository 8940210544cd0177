//! A source at work, with the driver's part played by hand: it takes arrivals, gives commands, and
//! checks what holds for every arrival of every broker.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use roomcast::broker::{Arrival, Broker, Build, Command, Reading, SourceLimits, Started, Status};
use roomcast::core::model::{Epoch, PartitionId, Record, SourceId};
use roomcast::core::section::{Place, Report, Section, Table};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::support::block_on;

/// Longer than anything takes on a busy machine; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(60);
/// Not the first id, so that one that is made up is found out.
const SOURCE: SourceId = SourceId(3);

/// The broker that a section makes.
pub fn broker(build: Build, settings: &Table) -> Box<dyn Broker> {
    let report = Report::new(&|_| Err("no secrets here".to_owned()));
    let section = Section::new("sources.conformance", settings, Place::Nowhere, &report);
    let broker = build(&section, SOURCE);
    section.finish();
    let problems = report.into_problems();
    assert!(problems.is_empty(), "{problems:#?}");
    broker.expect("a section without problems makes a source")
}

/// A source, and what it told so far.
pub struct Source {
    pub started: Started,
    id: SourceId,
    inbox: mpsc::Receiver<Arrival>,
    assigned: BTreeMap<PartitionId, Epoch>,
    is_ready: bool,
}

impl Source {
    /// Starts one from its settings and waits until it is ready. (A partition may come with its first
    /// record.)
    pub fn ready(build: Build, settings: &Table) -> Self {
        Self::start(broker(build, settings), SOURCE)
    }

    /// Starts the one that reads the requests for replays of its letters, and waits until it is ready.
    pub fn replays(build: Build, settings: &Table) -> Self {
        const REPLAYS: SourceId = SourceId(7);
        Self::start(broker(build, settings).replays(REPLAYS, Reading::AtOnce), REPLAYS)
    }

    fn start(broker: Box<dyn Broker>, id: SourceId) -> Self {
        let (sender, inbox) = mpsc::channel(64);
        let limits = SourceLimits { held_records: 1_000, held_bytes: 64 << 20 };
        let started = block_on(async { broker.start(limits, sender) });
        let mut source = Self { started, id, inbox, assigned: BTreeMap::new(), is_ready: false };
        while !source.is_ready {
            let arrival = source.arrival(PATIENCE).expect("the source becomes ready in time");
            let record = source.note(arrival);
            assert!(record.is_none(), "a record before the source was ready: {record:?}");
        }
        source
    }

    fn arrival(&mut self, limit: Duration) -> Option<Arrival> {
        let waited = block_on(async { timeout(limit, self.inbox.recv()).await });
        waited.ok().map(|arrival| arrival.expect("the source is at work"))
    }

    fn note(&mut self, arrival: Arrival) -> Option<Record> {
        match arrival {
            Arrival::Record(record) => {
                assert_eq!(record.id.source, self.id);
                let epoch = self.assigned.get(&record.id.partition);
                assert_eq!(epoch, Some(&record.id.epoch), "a record comes under its assignment");
                return Some(record);
            }
            Arrival::Assigned { partitions, .. } => {
                for (id, epoch, name) in partitions {
                    assert!(!name.is_empty(), "a partition has a name for people");
                    let before = self.assigned.insert(id, epoch);
                    assert!(before.is_none_or(|old| old < epoch), "epochs rise");
                }
            }
            Arrival::Status { status, .. } => self.is_ready = status == Status::Ready,
            Arrival::Lag { .. } | Arrival::CommitMetadata { .. } => {}
            Arrival::Revoking { .. } | Arrival::Lost { .. } => panic!("nobody else is there: {arrival:?}"),
        }
        None
    }

    /// The next so many records.
    pub fn records(&mut self, count: usize) -> Vec<Record> {
        let mut records = Vec::with_capacity(count);
        while records.len() < count {
            let arrival = self.arrival(PATIENCE);
            let arrival = arrival.unwrap_or_else(|| panic!("{} of {count} records came", records.len()));
            records.extend(self.note(arrival));
        }
        records
    }

    /// Nothing but news for so long.
    pub fn silence(&mut self, span: Duration) {
        let end = Instant::now() + span;
        while let Some(arrival) = self.arrival(end.saturating_duration_since(Instant::now())) {
            let record = self.note(arrival);
            assert!(record.is_none(), "nothing should arrive, and this did: {record:?}");
        }
    }

    pub fn tell(&self, command: Command) {
        self.started.commands.send(command).expect("the source is at work");
    }

    pub fn settle<'r>(&self, records: impl IntoIterator<Item = &'r Record>) {
        for record in records {
            self.tell(Command::Settle(record.id));
        }
    }

    /// Its one partition, once a record came.
    pub fn partition(&self) -> PartitionId {
        *self.assigned.keys().next().expect("a record came before")
    }

    /// Stops it: it ends without an error, and nothing is told after that.
    pub fn stop(mut self) {
        self.tell(Command::Stop);
        block_on(async {
            let all = async {
                // An inbox that nobody empties would hold the source up.
                while self.inbox.recv().await.is_some() {}
                self.started.ended.await
            };
            let ended = timeout(PATIENCE, all).await.expect("a source that is told to stop ends");
            assert_eq!(ended, Ok(()));
        });
    }
}
