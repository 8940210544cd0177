//! The source's thread: polls one consumer, sends records to the driver, obeys its commands.
//!
//! One `BaseConsumer` on one OS thread, polled at least every tenth of a second for as long as the
//! source lives, paused or not: that keeps the group membership (P6). Commands are taken up between
//! polls. What the group does is in `rebalance`, what is committed in `commit`. The thread ends by
//! [`Command::Stop`], by an error that librdkafka calls fatal, or when the driver is gone.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use tokio::sync::{mpsc, oneshot};

use super::context::{GroupContext, News, Quiet, Statistics};
use super::offsets::{self, Beginning, list_of};
use super::rebalance::{Assigning, Revoking};
use super::record::{self, HeaderNames};
use super::settings::Settings;
use super::{Arrival, Command, Inbox, Reading, SourceLimits, Status};
use crate::core::model::RecordId;
use crate::core::partitions::Partitions;
use crate::core::watermark::Received;

/// The longest wait of one poll: how late a command may be taken up while nothing arrives.
const POLL: Duration = Duration::from_millis(50);

/// Messages taken between two looks at the commands.
const BATCH: usize = 128;

/// How often the lag is told.
const LAG_EVERY: Duration = Duration::from_secs(5);

/// How long records may lie in the broker without one arriving before the consumer is made anew.
const STALLED_AFTER: Duration = Duration::from_secs(60);

/// How long a text of waiting stands before another text replaces it.
const SAME_TROUBLE: Duration = Duration::from_secs(30);

/// Why the loop around one consumer ended.
pub(super) enum End {
    /// [`Command::Stop`], or the driver is gone.
    Stopped,
    /// librdkafka will not go on.
    Fatal(String),
    /// Records lie in the broker and none arrives: a new consumer is needed.
    Stalled,
}

/// The driver does not listen any more.
#[derive(Debug)]
pub(super) struct Gone;

/// All that the thread knows.
pub(super) struct Source {
    pub(super) settings: Settings,
    pub(super) consumer: Arc<BaseConsumer<GroupContext>>,
    pub(super) partitions: Partitions,
    /// Rebalances that want an answer, oldest first.
    pub(super) assigning: VecDeque<Assigning>,
    pub(super) revoking: VecDeque<Revoking>,
    pub(super) beginning: Option<Beginning>,
    /// The topics that are read, with the number of their partitions, as last looked at.
    pub(super) topics: BTreeMap<String, i32>,
    pub(super) quiet: Quiet,
    pub(super) commits: super::commit::Commits,
    inbox: Inbox,
    commands: mpsc::UnboundedReceiver<Command>,
    limits: SourceLimits,
    /// Whether it is in the group, or wants to be.
    is_member: bool,
    intake: bool,
    stopping: bool,
    names: HeaderNames,
    status: Option<(Status, Instant)>,
    /// Whether the group has answered since the consumer was made.
    pub(super) joined: bool,
    /// Whether the last that was heard of the topics is that there are none.
    pub(super) lacks_topics: bool,
    /// The last transport error: the reason that belongs to "all brokers are down".
    reason: String,
    last_message: Instant,
    /// When a record was last finished.
    pub(super) last_settled: Option<Instant>,
    lag_told: Instant,
    pub(super) stalled: bool,
}

/// What the thread is started with.
pub(super) struct Start {
    pub(super) settings: Settings,
    pub(super) reading: Reading,
    pub(super) limits: SourceLimits,
    pub(super) inbox: Inbox,
    pub(super) commands: mpsc::UnboundedReceiver<Command>,
    /// Told when the source begins to close.
    pub(super) closing: oneshot::Sender<()>,
}

/// The whole life of the thread.
pub(super) fn run(start: Start) -> Result<(), String> {
    let Start { settings, reading, limits, inbox, commands, closing } = start;
    let is_member = reading == Reading::AtOnce;
    let consumer = Arc::new(connect(&settings, is_member, limits)?);
    let now = Instant::now();
    let mut source = Source {
        settings,
        consumer,
        partitions: Partitions::default(),
        assigning: VecDeque::new(),
        revoking: VecDeque::new(),
        beginning: None,
        topics: BTreeMap::new(),
        quiet: Quiet::default(),
        commits: super::commit::Commits::new(now),
        inbox,
        commands,
        limits,
        is_member,
        intake: true,
        stopping: false,
        names: HeaderNames::default(),
        status: None,
        joined: false,
        lacks_topics: false,
        reason: String::new(),
        last_message: now,
        last_settled: None,
        lag_told: now,
        stalled: false,
    };
    loop {
        match source.turn_until_end() {
            End::Stalled => source.start_anew()?,
            End::Stopped => {
                let _ = closing.send(());
                source.close();
                return Ok(());
            }
            End::Fatal(why) => {
                let _ = closing.send(());
                source.consumer.context().close();
                return Err(why);
            }
        }
    }
}

fn connect(
    settings: &Settings,
    is_member: bool,
    limits: SourceLimits,
) -> Result<BaseConsumer<GroupContext>, String> {
    let context = GroupContext::new(&settings.name);
    let consumer = BaseConsumer::from_config_and_context(&settings.consumer(limits), context)
        .map_err(|error| format!("the Kafka client cannot be made: {error}"))?;
    if is_member {
        join(&consumer, settings)?;
    }
    Ok(consumer)
}

fn join(consumer: &BaseConsumer<GroupContext>, settings: &Settings) -> Result<(), String> {
    let topics: Vec<&str> = settings.topics.iter().map(String::as_str).collect();
    consumer.subscribe(&topics).map_err(|error| format!("cannot subscribe to {topics:?}: {error}"))
}

impl Source {
    /// Polls and obeys until something ends it.
    fn turn_until_end(&mut self) -> End {
        loop {
            match self.turn() {
                Ok(None) => {}
                Ok(Some(end)) => return end,
                Err(Gone) => return End::Stopped,
            }
        }
    }

    fn turn(&mut self) -> Result<Option<End>, Gone> {
        if let Some(end) = self.poll()? {
            return Ok(Some(end));
        }
        self.obey();
        if self.stopping {
            return Ok(Some(End::Stopped));
        }
        self.answer_rebalances()?;
        self.hand_over_progress()?;
        self.apply_pauses();
        Ok(self.stalled.then_some(End::Stalled))
    }

    /// One wait for something to happen, then what is there already. Rebalances are answered
    /// before anything more is polled.
    fn poll(&mut self) -> Result<Option<End>, Gone> {
        // A message borrows the consumer while the rest of the source takes it in.
        let consumer = Arc::clone(&self.consumer);
        let mut wait = POLL;
        for _ in 0..BATCH {
            let polled = consumer.poll(wait);
            let is_quiet = polled.is_none();
            match polled {
                Some(Ok(message)) => self.take_in(&message)?,
                Some(Err(KafkaError::MessageConsumptionFatal(code))) => {
                    let told = consumer.client().fatal_error().map_or_else(String::new, |(_, text)| text);
                    return Ok(Some(End::Fatal(format!("the Kafka client gave up: {code}: {told}"))));
                }
                // Anything else is news, and was told to the context with its reason.
                Some(Err(_)) | None => {}
            }
            self.take_up_news()?;
            if is_quiet || !self.assigning.is_empty() || !self.revoking.is_empty() {
                break;
            }
            wait = Duration::ZERO;
        }
        Ok(None)
    }

    /// Takes in a message: skipped when it is finished already or its partition is being given up.
    fn take_in(&mut self, message: &BorrowedMessage<'_>) -> Result<(), Gone> {
        self.last_message = Instant::now();
        let offset = message.offset();
        let Some(id) = self.partitions.find(message.topic(), message.partition()) else { return Ok(()) };
        let slot = self.partitions.slot_mut(id).expect("a partition that was found has a slot");
        let Some(held) = slot.held.as_mut().filter(|held| !held.revoking) else { return Ok(()) };
        match held.mark.receive(offset) {
            Received::New => {}
            Received::Finished => return Ok(()),
            Received::Backwards => {
                let is_first = self.begin_again(id, offset)?;
                return if is_first { self.take_in(message) } else { Ok(()) };
            }
        }
        let record_id = RecordId { source: self.settings.source, partition: id, epoch: held.epoch, offset };
        let maybe_tried = offset < held.end_at_start;
        let topic = Arc::clone(&slot.topic);
        let record = record::record(message, record_id, &topic, maybe_tried, &mut self.names);
        self.send(Arrival::Record(record))
    }

    /// Sends to the driver, waiting for a place in its inbox when it has none.
    pub(super) fn send(&self, arrival: Arrival) -> Result<(), Gone> {
        match self.inbox.try_send(arrival) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Full(arrival)) => {
                self.inbox.blocking_send(arrival).map_err(|_| Gone)
            }
            Err(mpsc::error::TrySendError::Closed(_)) => Err(Gone),
        }
    }

    /// Takes up the commands that are there.
    fn obey(&mut self) {
        loop {
            match self.commands.try_recv() {
                Ok(Command::Settle(record)) => {
                    self.last_settled = Some(Instant::now());
                    self.partitions.settle(record);
                }
                Ok(Command::Released(partition, epoch)) => self.released(partition, epoch),
                Ok(Command::Intake(open)) => self.intake = open,
                Ok(Command::PartitionIntake(partition, epoch, open)) => {
                    self.partitions.set_open(partition, epoch, open);
                }
                Ok(Command::Read(reads)) => self.set_member(reads),
                Ok(Command::Stop) | Err(mpsc::error::TryRecvError::Disconnected) => {
                    self.stopping = true;
                    return;
                }
                Err(mpsc::error::TryRecvError::Empty) => return,
            }
        }
    }

    /// Joins the group, or leaves it: what is held is revoked first, like in any rebalance.
    fn set_member(&mut self, is_member: bool) {
        if std::mem::replace(&mut self.is_member, is_member) == is_member {
            return;
        }
        if !is_member {
            self.consumer.unsubscribe();
            (self.joined, self.status) = (false, None);
        } else if let Err(error) = join(&self.consumer, &self.settings) {
            tracing::error!(source = &*self.settings.name, error, "connecting anew");
            self.stalled = true;
        }
    }

    fn take_up_news(&mut self) -> Result<(), Gone> {
        for news in self.consumer.context().take_news() {
            match news {
                News::Assign(list) => self.assigning.push_back(Assigning::new(list)),
                News::Revoke(list) => self.revoke(list)?,
                News::Committed(result) => self.committed(result)?,
                News::Trouble(code, reason) => self.trouble(code, reason)?,
                News::Statistics(statistics) => self.look_at(&statistics)?,
            }
        }
        Ok(())
    }

    /// Pauses and resumes what stands otherwise than it should. Done between polls, so that several
    /// commands cost one change: a pause throws away what was fetched ahead.
    fn apply_pauses(&mut self) {
        let intake = self.intake;
        let change = |pause: bool, partitions: &mut Partitions| {
            let changed = partitions.held_mut().filter_map(|(topic, number, held)| {
                let wanted = held.wants_pause(intake);
                (!held.revoking && held.paused != wanted && wanted == pause).then(|| {
                    held.paused = wanted;
                    (topic, number)
                })
            });
            list_of(changed)
        };
        let (pause, resume) = (change(true, &mut self.partitions), change(false, &mut self.partitions));
        let results = [
            (pause.count() > 0).then(|| self.consumer.pause(&pause)),
            (resume.count() > 0).then(|| self.consumer.resume(&resume)),
        ];
        for error in results.into_iter().flatten().filter_map(Result::err) {
            tracing::warn!(source = &*self.settings.name, %error, "a partition could not be paused or resumed");
        }
    }

    /// Tells the driver how the connection is, when that is something new.
    pub(super) fn set_status(&mut self, status: Status) -> Result<(), Gone> {
        let source = &*self.settings.name;
        match (&self.status, &status) {
            (Some((told, _)), _) if *told == status => return Ok(()),
            (Some((Status::Waiting(_), since)), Status::Waiting(_)) if since.elapsed() < SAME_TROUBLE => {
                return Ok(());
            }
            (_, Status::Waiting(why)) => tracing::warn!(source, why, "waiting for Kafka"),
            (_, Status::Ready) => tracing::info!(source, brokers = self.settings.brokers, "Kafka is there"),
        }
        self.status = Some((status.clone(), Instant::now()));
        self.send(Arrival::Status { source: self.settings.source, status })
    }

    fn is_ready(&self) -> bool {
        matches!(self.status, Some((Status::Ready, _)))
    }

    /// Something came back from the broker: it is there.
    pub(super) fn sign_of_life(&mut self) -> Result<(), Gone> {
        if self.joined && !self.lacks_topics { self.set_status(Status::Ready) } else { Ok(()) }
    }

    /// An error of the client: news, never an end.
    fn trouble(&mut self, code: RDKafkaErrorCode, reason: String) -> Result<(), Gone> {
        use RDKafkaErrorCode as Code;
        match code {
            Code::BrokerTransportFailure | Code::Resolve | Code::OperationTimedOut => {
                self.reason = reason;
                Ok(())
            }
            Code::AllBrokersDown => {
                let detail = if self.reason.is_empty() { &reason } else { &self.reason };
                self.set_status(Status::Waiting(format!(
                    "no broker of {} answers: {detail}",
                    self.settings.brokers
                )))
            }
            Code::Authentication | Code::SaslAuthenticationFailed | Code::SSL => self.set_status(
                Status::Waiting(format!("the broker refuses the login or the connection: {reason}")),
            ),
            Code::GroupAuthorizationFailed => {
                self.joined = false;
                self.set_status(Status::Waiting(reason))
            }
            Code::TopicAuthorizationFailed
            | Code::UnknownTopic
            | Code::UnknownTopicOrPartition
            | Code::InvalidTopic
                if self.partitions.held().next().is_none() =>
            {
                self.lacks_topics = true;
                self.set_status(Status::Waiting(reason))
            }
            _ => {
                if let Some(left_out) = self.quiet.pass(&code.to_string()) {
                    tracing::warn!(source = &*self.settings.name, %code, left_out, "{reason}");
                }
                Ok(())
            }
        }
    }

    /// Lag, connection and stalls, from the statistics.
    fn look_at(&mut self, statistics: &Statistics) -> Result<(), Gone> {
        if statistics.is_connected() {
            self.sign_of_life()?;
        }
        self.watch_for_stalls(statistics);
        self.look_at_topics(statistics)?;
        if self.lag_told.elapsed() < LAG_EVERY || !self.is_ready() {
            return Ok(());
        }
        self.lag_told = Instant::now();
        // Nothing is fetched for a paused partition, so its end is asked for.
        let paused = list_of(
            self.partitions
                .held()
                .filter(|(_, _, held)| held.paused)
                .map(|(_, slot, _)| (&slot.topic, slot.number)),
        );
        let asked = match paused.count() {
            0 => None,
            _ => offsets::bounds(&self.consumer, &paused, Offset::End, Duration::from_secs(1)).ok(),
        };
        let lag = |(_, slot, held): (_, &crate::core::partitions::Slot, &crate::core::partitions::Held)| {
            let place = (slot.topic.to_string(), slot.number);
            let told = statistics.partition(&slot.topic, slot.number).map(|partition| partition.ls_offset);
            let end = asked.as_ref().and_then(|ends| ends.get(&place).copied()).or(told).unwrap_or(0);
            u64::try_from(end.max(held.end_at_start) - held.mark.offset()).unwrap_or(0)
        };
        let records = self.partitions.held().map(lag).sum();
        self.send(Arrival::Lag { source: self.settings.source, records })
    }

    /// librdkafka has had bugs after which a partition is ours and nothing arrives of it: if that
    /// lasts, only a new consumer helps.
    fn watch_for_stalls(&mut self, statistics: &Statistics) {
        let is_stuck = |topic: &str, number: i32| {
            let told = statistics.partition(topic, number);
            told.is_some_and(|p| p.fetchq_cnt > 0 || (p.next_offset >= 0 && p.next_offset < p.ls_offset))
        };
        let unread =
            self.partitions.held().any(|(_, slot, held)| !held.paused && is_stuck(&slot.topic, slot.number));
        let may_judge = self.is_ready()
            && self.assigning.is_empty()
            && self.revoking.is_empty()
            && statistics.is_connected();
        if !unread || !may_judge {
            self.last_message = Instant::now();
        } else if self.last_message.elapsed() >= STALLED_AFTER {
            self.stalled = true;
        }
    }

    /// A new consumer in place of one that stalled.
    fn start_anew(&mut self) -> Result<(), String> {
        tracing::error!(
            source = &*self.settings.name,
            "records lie in the broker and none arrived for {STALLED_AFTER:?}: connecting anew"
        );
        let consumer = Arc::new(connect(&self.settings, self.is_member, self.limits)?);
        let old = std::mem::replace(&mut self.consumer, consumer);
        self.commit_everything(&old);
        old.context().close();
        // Closing may hang on the very bug that made it necessary.
        std::thread::spawn(move || drop(old));
        let lost = self.partitions.release_all();
        (self.joined, self.stalled, self.last_message) = (false, false, Instant::now());
        self.assigning.clear();
        self.revoking.clear();
        // When the driver is gone, the next turn notices.
        let _ = self.send(Arrival::Lost { source: self.settings.source, partitions: lost });
        Ok(())
    }

    /// Commits what is settled and leaves the group, whose next reader may send to the same rooms at once:
    /// they rest before.
    fn close(&mut self) {
        let consumer = Arc::clone(&self.consumer);
        self.commit_everything(&consumer);
        std::thread::sleep(self.rested_at().saturating_duration_since(Instant::now()));
        consumer.context().close();
        self.answer_all();
    }
}
