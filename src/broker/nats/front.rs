//! A source with partitions as the driver sees it: one source. It runs a reading loop for each
//! partition over one connection, passes commands on, merges what the loops say of connection and lag,
//! and carries out what [`crate::core::balance`] decides about who reads what.
//!
//! Records and assignments go from the loops straight to the driver; only what must be one of many
//! comes through here. Started by [`super::Nats`].

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_nats::jetstream::stream::Stream;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, timeout};
use uuid::Uuid;

use super::lane::{self, Lane};
use super::link::{Link, jetstream};
use super::marks;
use super::parts;
use super::presence::{self, Said};
use super::settings::Settings;
use super::source::Source;
use super::table::Bucket;
use super::words::{Order, Tie, Word};
use crate::broker::{Arrival, Command, Inbox, SourceLimits, Status, Table};
use crate::core::balance::{Balance, Beat, Change};
use crate::core::model::SourceId;
use crate::core::time::Mono;

/// How often the balance is looked at.
const TURN: Duration = Duration::from_millis(500);
/// How often a beat is told when nothing changes.
const BEAT: Duration = Duration::from_secs(1);
/// How often the lag is told, progress noted, and the parts stream looked at.
const KEEP: Duration = Duration::from_secs(4);
/// How long noting progress may take at the end.
const LAST_NOTE: Duration = Duration::from_millis(500);
/// How long nothing may be heard of this replica itself before that is told.
const DEAF: Duration = Duration::from_secs(10);
/// How long the server may say nothing of its copying before that is told: it beats every few seconds.
const COPY_SILENT: Duration = Duration::from_secs(30);
/// How often the same trouble is told again.
const TOLD_AGAIN: Duration = Duration::from_secs(60);

/// A source with partitions, ready to run.
pub struct Front {
    id: SourceId,
    settings: Arc<Settings>,
    limits: SourceLimits,
    inbox: Inbox,
    link: Arc<Link>,
}

/// The way to one loop.
struct Reader {
    commands: mpsc::UnboundedSender<Command>,
    orders: mpsc::UnboundedSender<Order>,
    status: Option<Status>,
    lag: u64,
}

struct State {
    id: SourceId,
    settings: Arc<Settings>,
    link: Arc<Link>,
    readers: Vec<Reader>,
    outbox: VecDeque<Arrival>,
    told: Option<Status>,
    is_lag_new: bool,
    balance: Balance,
    replica: String,
    say: mpsc::UnboundedSender<Said>,
    said: (Beat, Instant),
    /// When this replica's own beat was heard last.
    echo: Instant,
    deaf_told: Option<Instant>,
    /// Progress that is not noted yet, by partition: of which parts stream, and how far.
    progress: BTreeMap<u32, (String, u64)>,
    head: Arc<AtomicU64>,
    keep_at: Instant,
    keeping: Option<JoinHandle<()>>,
    copy_told: Arc<AtomicU64>,
    began: Instant,
}

impl Front {
    /// One that shares `limits` among its partitions in equal parts.
    pub fn new(
        id: SourceId,
        settings: Arc<Settings>,
        limits: SourceLimits,
        inbox: Inbox,
        link: Arc<Link>,
    ) -> Self {
        Self { id, settings, limits, inbox, link }
    }

    /// Runs until it is told to stop, or until the driver is gone.
    pub async fn run(self, mut commands: mpsc::UnboundedReceiver<Command>) -> Result<(), String> {
        let (words, mut heard) = mpsc::unbounded_channel();
        let (changed, mut connections) = mpsc::unbounded_channel();
        self.link.listen(move |up| {
            let _ = changed.send(up);
        });
        let (say, says) = mpsc::unbounded_channel();
        let (hears, mut others) = mpsc::unbounded_channel();
        let presence = presence::run(self.link.clone(), presence::subject(&self.settings), says, hears);
        let mut presence = tokio::spawn(presence);
        let inbox = self.inbox.clone();
        let (mut state, mut loops) = self.start(&words, say);
        let mut turn = tokio::time::interval(TURN);
        turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                command = commands.recv() => match command {
                    Some(Command::Stop) => {
                        let ended = state.stop(&mut loops, &mut heard).await;
                        drop(state);
                        let _ = timeout(LAST_NOTE, &mut presence).await;
                        return ended;
                    }
                    Some(command) => state.pass_on(command),
                    // The driver is gone, and the loops go with this.
                    None => return Ok(()),
                },
                Some((partition, word)) = heard.recv() => state.hear(partition, word),
                Some(said) = others.recv() => state.heard(&said),
                Some(up) = connections.recv() => if up {
                    state.balance.listen_anew(state.now());
                },
                Some(ended) = loops.join_next() => return Err(match ended {
                    Ok(Ok(())) => "the loop of a partition has ended".to_owned(),
                    Ok(Err(why)) => why,
                    Err(error) => format!("the loop of a partition has ended: {error}"),
                }),
                _ = turn.tick() => state.turn(Instant::now()),
                place = inbox.reserve(), if !state.outbox.is_empty() => match place {
                    Ok(place) => if let Some(arrival) = state.outbox.pop_front() {
                        place.send(arrival);
                    },
                    Err(_) => return Ok(()),
                },
            }
        }
    }

    fn start(
        self,
        words: &mpsc::UnboundedSender<(u32, Word)>,
        say: mpsc::UnboundedSender<Said>,
    ) -> (State, JoinSet<Result<(), String>>) {
        let lanes = Lane::all(&self.settings);
        let count = lanes.len();
        let limits = SourceLimits {
            held_records: (self.limits.held_records / count).max(1),
            held_bytes: self.limits.held_bytes / count,
        };
        let head = Arc::new(AtomicU64::new(0));
        let setup = Arc::new(tokio::sync::Mutex::new(None));
        let mut loops = JoinSet::new();
        let mut readers = Vec::new();
        for lane in lanes {
            let (commands, obeyed) = mpsc::unbounded_channel();
            let (orders, followed) = mpsc::unbounded_channel();
            let front = Some(Tie { words: words.clone(), head: head.clone(), setup: setup.clone() });
            let (settings, inbox, link) = (self.settings.clone(), self.inbox.clone(), self.link.clone());
            let source = Source { id: self.id, settings, lane, limits, inbox, link, front };
            loops.spawn(source.run(obeyed, Some(followed)));
            readers.push(Reader { commands, orders, status: None, lag: 0 });
        }
        let now = Instant::now();
        let replica = Uuid::new_v4().to_string();
        let partitions = u32::try_from(count).expect("a config has at most 64");
        let state = State {
            id: self.id,
            settings: self.settings,
            link: self.link,
            readers,
            outbox: VecDeque::new(),
            told: None,
            is_lag_new: false,
            balance: Balance::new(replica.clone(), partitions, Mono(0)),
            replica,
            say,
            said: (Beat::default(), now),
            echo: now,
            deaf_told: None,
            progress: BTreeMap::new(),
            head,
            keep_at: now + KEEP,
            keeping: None,
            copy_told: Arc::default(),
            began: now,
        };
        (state, loops)
    }
}

impl State {
    fn now(&self) -> Mono {
        Mono(0) + self.began.elapsed()
    }

    fn pass_on(&self, command: Command) {
        let to = match &command {
            Command::Settle(record) => record.partition,
            Command::Released(partition, _) | Command::PartitionIntake(partition, ..) => *partition,
            // Requests are never spread over partitions, so that nobody is told when to read here.
            Command::Intake(_) | Command::Read(_) | Command::Stop => {
                return self.readers.iter().for_each(|reader| drop(reader.commands.send(command.clone())));
            }
        };
        let reader = usize::try_from(to.0).ok().and_then(|number| self.readers.get(number));
        // A loop that has ended ends all.
        let _ = reader.map(|reader| reader.commands.send(command));
    }

    fn hear(&mut self, partition: u32, word: Word) {
        let Some(reader) = usize::try_from(partition).ok().and_then(|number| self.readers.get_mut(number))
        else {
            return;
        };
        match word {
            Word::Status(status) => {
                reader.status = Some(status);
                self.tell_status();
            }
            Word::Lag(records) => {
                reader.lag = records;
                self.is_lag_new = true;
            }
            Word::Reads(true) => self.balance.assigned(partition),
            Word::Reads(false) => self.balance.gone(partition),
            Word::Finished(parts, finished) => drop(self.progress.insert(partition, (parts, finished))),
        }
    }

    /// Ready when all loops are; else the first reason to wait.
    fn tell_status(&mut self) {
        let mut statuses = self.readers.iter().map(|reader| reader.status.as_ref());
        let waiting = statuses.clone().flatten().find(|status| **status != Status::Ready);
        let status = match waiting {
            Some(waiting) => waiting.clone(),
            None if statuses.all(|status| status.is_some()) => Status::Ready,
            None => return,
        };
        if self.told.as_ref() != Some(&status) {
            self.told = Some(status.clone());
            self.outbox.retain(|arrival| !matches!(arrival, Arrival::Status { .. }));
            self.outbox.push_back(Arrival::Status { source: self.id, status });
        }
    }

    fn heard(&mut self, said: &Said) {
        let now = self.now();
        if said.replica == self.replica {
            self.echo = Instant::now();
        } else if said.leaves {
            self.balance.left(&said.replica);
        } else if usize::try_from(said.partitions) == Ok(self.readers.len()) {
            self.balance.heard(&said.replica, said.as_beat(), now);
        }
    }

    fn turn(&mut self, now: Instant) {
        for change in self.balance.turn(self.now()) {
            let (partition, order) = match change {
                Change::Take(partition) => (partition, Order::Take),
                Change::Leave(partition) => (partition, Order::Leave),
                Change::GiveUp(partition) => (partition, Order::GiveUp),
            };
            tracing::debug!(partition, ?order, replicas = self.balance.replicas(), "balance");
            let reader = usize::try_from(partition).ok().and_then(|number| self.readers.get(number));
            let _ = reader.map(|reader| reader.orders.send(order));
        }
        let beat = self.balance.beat();
        let is_connected = self.told == Some(Status::Ready);
        if is_connected && (beat != self.said.0 || now.duration_since(self.said.1) >= BEAT) {
            let partitions = u32::try_from(self.readers.len()).expect("at most 64");
            let _ = self.say.send(Said::beat(&self.replica, partitions, &beat));
            self.said = (beat, now);
        }
        self.tell_deaf(now, is_connected);
        if now >= self.keep_at {
            self.keep_at = now + KEEP;
            if std::mem::take(&mut self.is_lag_new) {
                let records = self.readers.iter().map(|reader| reader.lag).sum();
                self.outbox.retain(|arrival| !matches!(arrival, Arrival::Lag { .. }));
                self.outbox.push_back(Arrival::Lag { source: self.id, records });
            }
            if is_connected && self.keeping.as_ref().is_none_or(JoinHandle::is_finished) {
                self.keeping = Some(tokio::spawn(self.keep()));
            }
        }
    }

    /// Beats that do not come back are not heard by others either.
    fn tell_deaf(&mut self, now: Instant, is_connected: bool) {
        if !is_connected {
            self.echo = now;
        }
        let is_due = self.deaf_told.is_none_or(|told| now.duration_since(told) >= TOLD_AGAIN);
        if now.duration_since(self.echo) >= DEAF && is_due {
            self.deaf_told = Some(now);
            tracing::warn!(
                subject = presence::subject(&self.settings),
                "replicas cannot hear each other: may this user publish and subscribe to the subject? Without it \
                 partitions go to whoever comes first"
            );
        }
    }

    /// Looks where the copying stands, and notes progress.
    fn keep(&mut self) -> impl Future<Output = ()> + Send + use<> {
        let (settings, link, head) = (self.settings.clone(), self.link.clone(), self.head.clone());
        let notes = self.notes();
        let (began, told) = (self.began, self.copy_told.clone());
        async move {
            let Some(client) = link.client_if_connected() else { return };
            if let Ok(stream) = jetstream(client).get_stream(lane::parts_stream(&settings)).await {
                look_at_copy(&settings, &stream, began, &told);
                if let Some(at) = parts::head_of(&stream).await {
                    head.store(at, Ordering::Relaxed);
                }
            }
            notes.await;
        }
    }

    /// Writes down what progress there was since the last time. What cannot be written is told of a
    /// later progress, and costs repeats only if the parts stream is deleted before.
    fn notes(&mut self) -> impl Future<Output = ()> + Send + use<> {
        let table =
            Bucket::new(self.link.clone(), self.settings.dead_letter.clone(), self.settings.addresses());
        let (settings, progress) = (self.settings.clone(), std::mem::take(&mut self.progress));
        async move {
            for (partition, (generation, finished)) in progress {
                let key = marks::part_key(&settings, partition);
                if let Err(why) = table.put(key, marks::part_row(&generation, finished)).await {
                    return tracing::warn!("progress cannot be noted: {why}");
                }
            }
        }
    }

    async fn stop(
        &mut self,
        loops: &mut JoinSet<Result<(), String>>,
        heard: &mut mpsc::UnboundedReceiver<(u32, Word)>,
    ) -> Result<(), String> {
        self.pass_on(Command::Stop);
        let mut ended = Ok(());
        while let Some(one) = loops.join_next().await {
            let one = one.unwrap_or_else(|error| Err(format!("the loop of a partition has ended: {error}")));
            ended = ended.and(one);
        }
        let _ = self.say.send(Said { replica: self.replica.clone(), leaves: true, ..Said::default() });
        while let Ok((partition, word)) = heard.try_recv() {
            self.hear(partition, word);
        }
        let notes = self.notes();
        if self.link.client_if_connected().is_some() && timeout(LAST_NOTE, notes).await.is_err() {
            tracing::warn!("the last progress is not noted: it counts only if the parts stream is deleted");
        }
        ended
    }
}

/// A server that copies nothing any more says so only in the stream's own state.
fn look_at_copy(settings: &Settings, stream: &Stream, began: Instant, told: &AtomicU64) {
    let info = stream.cached_info();
    let is_silent =
        info.sources.iter().any(|source| source.active.is_none_or(|active| active >= COPY_SILENT));
    let now = began.elapsed().as_secs();
    let before = told.load(Ordering::Relaxed);
    if is_silent && now >= COPY_SILENT.as_secs() && (before == 0 || now - before >= TOLD_AGAIN.as_secs()) {
        told.store(now, Ordering::Relaxed);
        let name = lane::parts_stream(settings);
        tracing::error!(
            stream = settings.stream,
            "the server copies nothing into {name} any more: was the stream deleted, or made anew? Let what \
             {name} holds be finished, then delete it (nats stream rm {name}): it is made again"
        );
    }
}
