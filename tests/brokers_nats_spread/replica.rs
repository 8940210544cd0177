//! One of several sources that share a stream, with the driver's part played by a task: it takes
//! records, calls (answers come out of order, some of them late, into a log that all share, where the
//! order of acceptances is seen), settles, and lets calls away end before a partition goes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use roomcast::broker::{Arrival, Command, SourceLimits, Status};
use roomcast::core::model::{Epoch, PartitionId, Record, RecordId};
use roomcast::core::section::Node;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::nats_bed::{LONG, Server, broker};

/// How long a call is away at most; and one in forty. Less than the tests' `ack_wait`.
const CALLS: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(600)];
/// Calls away at once.
const AWAY: usize = 64;

/// One message as the provider accepted it.
#[derive(Clone, Debug)]
pub struct Sent {
    pub replica: &'static str,
    pub key: String,
    pub number: u64,
    pub partition: PartitionId,
    pub origin: i64,
    pub maybe_tried: bool,
}

/// What all replicas of a test share.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<Sent>>>);

impl Log {
    pub fn all(&self) -> MutexGuard<'_, Vec<Sent>> {
        self.0.lock().unwrap()
    }

    /// Waits until so many different messages are in it.
    pub async fn until(&self, count: u64) {
        let all = || self.all().iter().map(|sent| sent.number).collect::<BTreeSet<_>>().len() as u64;
        let end = Instant::now() + LONG;
        while all() < count {
            assert!(Instant::now() < end, "{} of {count} messages were sent", all());
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Each number up to `count` once or, marked, again; first acceptances of a key in their order.
    /// Answers with how often something was sent again.
    #[track_caller]
    pub fn assert_kept(&self, count: u64) -> usize {
        let mut seen = BTreeSet::new();
        let mut newest: BTreeMap<String, u64> = BTreeMap::new();
        let mut repeats = 0;
        for sent in self.all().iter() {
            if !seen.insert(sent.number) {
                repeats += 1;
                assert!(sent.maybe_tried, "sent again without saying so: {sent:?}");
                continue;
            }
            let before = newest.insert(sent.key.clone(), sent.number);
            assert!(
                before.is_none_or(|before| before < sent.number),
                "out of order after {before:?}: {sent:?}"
            );
        }
        let lost: Vec<u64> = (0..count).filter(|number| !seen.contains(number)).collect();
        assert!(lost.is_empty(), "{} lost: {lost:?}", lost.len());
        repeats
    }
}

/// What a test sees of a replica.
#[derive(Default)]
pub struct Seen {
    pub assigned: BTreeMap<PartitionId, Epoch>,
    pub statuses: Vec<Status>,
    pub revoked: usize,
    pub lost: usize,
    pub lag: Option<u64>,
}

/// A source at work, and its driver.
pub struct Replica {
    seen: Arc<Mutex<Seen>>,
    pub commands: mpsc::UnboundedSender<Command>,
    stop: mpsc::UnboundedSender<()>,
    task: JoinHandle<()>,
}

impl Replica {
    /// Starts one; it is ready some time later.
    pub fn start(name: &'static str, server: &Server, log: &Log, more: &[(&str, Node)]) -> Self {
        let (inbox, arrivals) = mpsc::channel(64);
        let limits = SourceLimits { held_records: 800, held_bytes: 64 << 20 };
        let started = broker(server, more).start(limits, inbox);
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (stop, stopped) = mpsc::unbounded_channel();
        let commands = started.commands.clone();
        let driver = Driver {
            name,
            log: log.clone(),
            seen: seen.clone(),
            commands: started.commands,
            waiting: BTreeMap::new(),
            away: Vec::new(),
            leaving: BTreeMap::new(),
            closed: false,
        };
        let task = tokio::spawn(driver.run(arrivals, stopped, started.ended));
        Self { seen, commands, stop, task }
    }

    pub async fn ready(name: &'static str, server: &Server, log: &Log, more: &[(&str, Node)]) -> Self {
        let replica = Self::start(name, server, log, more);
        replica.until("to be ready", |seen| seen.statuses.last() == Some(&Status::Ready)).await;
        replica
    }

    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }

    pub fn assigned(&self) -> usize {
        self.seen().assigned.len()
    }

    /// How many partitions it gave up, and how many it lost.
    pub fn moved(&self) -> (usize, usize) {
        let seen = self.seen();
        (seen.revoked, seen.lost)
    }

    /// Waits until what is seen fits.
    pub async fn until(&self, what: &str, fits: impl Fn(&Seen) -> bool) {
        let end = Instant::now() + LONG;
        while !fits(&self.seen()) {
            assert!(Instant::now() < end, "waited for it {what}; statuses: {:?}", self.seen().statuses);
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Why it waits, once it does.
    pub async fn waits_because(&self) -> String {
        self.until("to wait", |seen| matches!(seen.statuses.last(), Some(Status::Waiting(_)))).await;
        match self.seen().statuses.last() {
            Some(Status::Waiting(why)) => why.clone(),
            other => panic!("{other:?}"),
        }
    }

    /// Stops it in an orderly way: calls away end first.
    pub async fn stop(mut self) {
        self.stop.send(()).unwrap();
        timeout(LONG, &mut self.task).await.expect("the source ends in time").unwrap();
    }

    /// As kill -9 would: no ack, nothing given back.
    pub fn crash(self) {
        self.task.abort();
    }
}

struct Driver {
    name: &'static str,
    log: Log,
    seen: Arc<Mutex<Seen>>,
    commands: mpsc::UnboundedSender<Command>,
    /// By key, in their order.
    waiting: BTreeMap<String, Vec<Record>>,
    /// What is away, and when the answer comes.
    away: Vec<(Sent, RecordId, Instant)>,
    leaving: BTreeMap<PartitionId, Epoch>,
    closed: bool,
}

impl Driver {
    async fn run(
        mut self,
        mut arrivals: mpsc::Receiver<Arrival>,
        mut stopped: mpsc::UnboundedReceiver<()>,
        ended: roomcast::broker::Boxed<'static, Result<(), String>>,
    ) {
        let mut turn = tokio::time::interval(Duration::from_millis(5));
        while !(self.closed && self.away.is_empty()) {
            tokio::select! {
                Some(arrival) = arrivals.recv() => self.take(arrival),
                _ = turn.tick() => self.turn(),
                Some(()) = stopped.recv(), if !self.closed => {
                    self.closed = true;
                    self.waiting.clear();
                    self.tell(Command::Intake(false));
                }
            }
        }
        self.tell(Command::Stop);
        let all = async {
            while arrivals.recv().await.is_some() {}
            ended.await
        };
        assert_eq!(all.await, Ok(()));
    }

    fn tell(&self, command: Command) {
        self.commands.send(command).expect("the source is at work");
    }

    fn take(&mut self, arrival: Arrival) {
        let seen = Arc::clone(&self.seen);
        let mut seen = seen.lock().unwrap();
        match arrival {
            Arrival::Record(record) => {
                assert_eq!(seen.assigned.get(&record.id.partition), Some(&record.id.epoch), "{record:?}");
                let key = String::from_utf8(record.key.clone().expect("a key").to_vec()).unwrap();
                if !self.closed {
                    self.waiting.entry(key).or_default().push(record);
                }
            }
            Arrival::Assigned { partitions, .. } => {
                for (partition, epoch, _) in partitions {
                    let before = seen.assigned.insert(partition, epoch);
                    assert!(before.is_none(), "{partition:?} was assigned twice");
                }
            }
            Arrival::Revoking { partitions, .. } => {
                for (partition, epoch) in partitions {
                    assert_eq!(seen.assigned.remove(&partition), Some(epoch));
                    seen.revoked += 1;
                    self.leaving.insert(partition, epoch);
                    self.forget(partition);
                }
            }
            Arrival::Lost { partitions, .. } => {
                for (partition, epoch) in partitions {
                    seen.assigned.remove(&partition);
                    seen.lost += 1;
                    if self.leaving.get(&partition) == Some(&epoch) {
                        self.leaving.remove(&partition);
                    }
                    self.forget(partition);
                }
            }
            Arrival::Status { status, .. } => seen.statuses.push(status),
            Arrival::Lag { records, .. } => seen.lag = Some(records),
            Arrival::CommitMetadata { .. } => panic!("acks have no metadata"),
        }
    }

    fn forget(&mut self, partition: PartitionId) {
        self.waiting
            .values_mut()
            .for_each(|records| records.retain(|record| record.id.partition != partition));
    }

    fn turn(&mut self) {
        let now = Instant::now();
        let (landed, away) = std::mem::take(&mut self.away).into_iter().partition(|(_, _, at)| *at <= now);
        self.away = away;
        for (sent, id, _) in landed {
            self.log.all().push(sent);
            self.tell(Command::Settle(id));
        }
        let away = &self.away;
        let done: Vec<PartitionId> = self
            .leaving
            .extract_if(.., |partition, _| !away.iter().any(|(_, id, _)| id.partition == *partition))
            .map(|(partition, epoch)| {
                self.commands.send(Command::Released(partition, epoch)).expect("the source is at work");
                partition
            })
            .collect();
        drop(done);
        for (key, records) in &mut self.waiting {
            // One away per room.
            if records.is_empty()
                || self.away.len() >= AWAY
                || self.away.iter().any(|(other, ..)| other.key == *key)
            {
                continue;
            }
            let record = records.remove(0);
            let value = std::str::from_utf8(record.value.as_ref().unwrap()).unwrap();
            let sent = Sent {
                replica: self.name,
                key: key.clone(),
                number: value.parse().unwrap(),
                partition: record.id.partition,
                origin: record.origin.offset,
                maybe_tried: record.maybe_tried,
            };
            let takes = CALLS[usize::from(fastrand::u8(0..40) == 0)].mul_f64(fastrand::f64());
            self.away.push((sent, record.id, now + takes));
        }
        self.waiting.retain(|_, records| !records.is_empty());
    }
}
