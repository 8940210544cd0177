//! The reading loop of one NATS source: the only place where its parts meet.
//!
//! It never waits for anything but its one `select!`: the connection, the set-up, consumer info and
//! acks are tasks that send [`News`] back. So commands are obeyed and progress is told whatever the
//! broker does. Started by [`super::Nats`].

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::jetstream::consumer;
use async_nats::{Subject, Subscriber};
use futures_util::{FutureExt, StreamExt};
use tokio::sync::mpsc;

use super::acks::{self, Finish};
use super::intake::{Intake, Reader};
use super::link::{Link, Patience};
use super::pull::{self, SILENCE};
use super::record::{Maker, PARTITION};
use super::rescue::{BREAKS, Rescued};
use super::settings::Settings;
use super::setup::{self, Prepared, Resume};
use crate::broker::{Arrival, Command, Inbox, SourceLimits, Status};
use crate::core::ledger::Ledger;
use crate::core::model::{Epoch, RecordId, SourceId};
use crate::core::time::Mono;

/// How often the consumer is looked at while something is awaited of it.
pub(super) const LOOK_CLOSELY: Duration = Duration::from_millis(200);

/// A source ready to run.
pub struct Source {
    pub id: SourceId,
    pub settings: Arc<Settings>,
    pub limits: SourceLimits,
    pub inbox: Inbox,
    pub link: Arc<Link>,
}

/// What the tasks around the loop tell it. At most a few of each are under way.
pub(super) enum News {
    /// Not connected, or not set up: why.
    Waiting(String),
    /// The consumer can be pulled from.
    Prepared(Box<Prepared>),
    /// The inbox of pulls is subscribed to.
    Subscribed(Subject, Subscriber),
    /// The connection was lost (`false`) or is back.
    Connection(bool),
    /// The consumer as the server sees it; the number is the gathering it was asked for.
    Looked(u64, Box<consumer::Info>),
    /// It could not be looked at.
    LookFailed,
    /// The consumer is gone.
    Gone,
    /// The client has ended: only a new one can go on.
    Dead,
    /// Messages that the client cannot read.
    Rescued(Vec<Rescued>),
    /// An ack is confirmed or given up.
    Acked,
}

/// The consumer being read.
pub(super) struct Consumer {
    pub(super) prepared: Prepared,
    /// Where pulls are sent to.
    pub(super) subject: Subject,
}

/// Pulls under way.
#[derive(Default)]
pub(super) struct Pulls {
    pub(super) inbox: Option<(Subject, Subscriber)>,
    pub(super) outstanding: usize,
    pub(super) pin: Option<String>,
    /// Since when another has the pin.
    pub(super) doubt: Option<Instant>,
    pub(super) last_item: Option<Instant>,
    pub(super) not_before: Option<Instant>,
    /// Breaks of the connection since the last message.
    pub(super) breaks: u32,
    /// The connection broke, and what was on its way was not looked at yet.
    pub(super) is_broken: bool,
}

pub(super) struct Loop {
    pub(super) source: Source,
    pub(super) maker: Maker,
    pub(super) news: mpsc::UnboundedSender<News>,
    pub(super) finish: mpsc::UnboundedSender<Finish>,
    pub(super) progress: mpsc::Sender<Vec<Subject>>,
    pub(super) progress_at: Instant,
    /// What goes to the driver before any record.
    pub(super) outbox: VecDeque<Arrival>,
    /// When this loop began: the zero of the ledger's time.
    began: Instant,
    pub(super) ledger: Ledger<Subject>,
    pub(super) intake: Intake,
    pub(super) consumer: Option<Consumer>,
    pub(super) pulls: Pulls,
    pub(super) epoch: Epoch,
    pub(super) is_assigned: bool,
    pub(super) is_up: bool,
    pub(super) acking: usize,
    pub(super) look_at: Instant,
    pub(super) looking: bool,
    /// Which gathering it is: an answer asked for before it says nothing about it.
    pub(super) gathering: u64,
    pub(super) floor: u64,
    /// Which stream it is, as [`Prepared::created`].
    pub(super) created: Option<i128>,
}

impl Source {
    /// Reads until it is told to stop, or until the driver is gone.
    pub async fn run(self, mut commands: mpsc::UnboundedReceiver<Command>) -> Result<(), String> {
        let (news, mut heard) = mpsc::unbounded_channel();
        let (finish, finished) = mpsc::unbounded_channel();
        let (progress, lists) = mpsc::channel(1);
        let acked = news.clone();
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(acks::confirm(self.link.clone(), finished, move |_| drop(acked.send(News::Acked))));
        tasks.spawn(acks::progress(self.link.clone(), lists));
        let mut this = Loop::new(self, news, finish, progress);
        tasks.spawn(this.preparing(None));
        let inbox = this.source.inbox.clone();
        loop {
            let wake = tokio::time::Instant::from_std(this.turn(Instant::now()));
            tokio::select! {
                biased;
                command = commands.recv() => match command {
                    Some(Command::Stop) => return this.stop(&mut heard).await,
                    Some(command) => this.obey(&command),
                    // The driver is gone: nothing may be acked or given back in its name.
                    None => return Ok(()),
                },
                Some(news) = heard.recv() => if let Some(task) = this.hear(news) {
                    tasks.spawn(task);
                },
                Some(Err(error)) = tasks.join_next(), if !tasks.is_empty() => {
                    return Err(format!("a task of the source has ended: {error}"));
                }
                () = tokio::time::sleep_until(wake) => {}
                place = inbox.reserve(), if this.has_outgoing() => match place {
                    Ok(place) => if let Some(arrival) = this.outgoing() {
                        place.send(arrival);
                    },
                    Err(_) => return Ok(()),
                },
                item = next(&mut this.pulls.inbox) => this.take(item),
            }
        }
    }
}

/// The next message in the pulls' inbox; never, while there is none.
async fn next(inbox: &mut Option<(Subject, Subscriber)>) -> Option<async_nats::Message> {
    match inbox {
        Some((_, subscriber)) => subscriber.next().await,
        None => std::future::pending().await,
    }
}

impl Loop {
    fn new(
        source: Source,
        news: mpsc::UnboundedSender<News>,
        finish: mpsc::UnboundedSender<Finish>,
        progress: mpsc::Sender<Vec<Subject>>,
    ) -> Self {
        let now = Instant::now();
        let stream = Arc::from(source.settings.stream.as_str());
        let maker = Maker { source: source.id, stream, key: source.settings.key.clone() };
        let intake = Intake::new(source.limits.held_bytes);
        Self {
            maker,
            news,
            finish,
            progress,
            progress_at: now,
            outbox: VecDeque::new(),
            began: now,
            ledger: Ledger::default(),
            intake,
            consumer: None,
            pulls: Pulls::default(),
            epoch: Epoch(0),
            is_assigned: false,
            is_up: false,
            acking: 0,
            look_at: now,
            looking: false,
            gathering: 0,
            floor: 0,
            created: None,
            source,
        }
    }

    /// An instant in the ledger's time.
    pub(super) fn mono(&self, at: Instant) -> Mono {
        Mono(0) + at.saturating_duration_since(self.began)
    }

    /// Connects if there is no connection yet, and sets up; tries for as long as it takes.
    fn preparing(&self, resume: Option<Resume>) -> impl Future<Output = ()> + Send + 'static {
        let (settings, link) = (self.source.settings.clone(), self.source.link.clone());
        let (held, news) = (self.source.limits.held_records, self.news.clone());
        async move {
            let told = |why: String| drop(news.send(News::Waiting(why)));
            let client = match link.client_if_any() {
                Some(client) => client,
                None => {
                    let changed = news.clone();
                    let changed = move |up| drop(changed.send(News::Connection(up)));
                    link.connect(&settings, told, changed).await
                }
            };
            let mut patience = Patience::default();
            loop {
                link.connected().await;
                match setup::prepare(client.clone(), &settings, held, resume).await {
                    Ok(prepared) => break drop(news.send(News::Prepared(Box::new(prepared)))),
                    Err(why) => {
                        patience.tell(&why, told);
                        patience.wait().await;
                    }
                }
            }
        }
    }

    /// Does all that is due, and says when to come again.
    fn turn(&mut self, now: Instant) -> Instant {
        self.intake.weigh(self.ledger.bytes(), now);
        if now >= self.progress_at {
            self.progress_at = now + self.source.settings.ack_wait / 3;
            let replies: Vec<Subject> = self.ledger.replies().cloned().collect();
            // A full channel means that the last list is still being told: its messages are these.
            let _ = if replies.is_empty() { Ok(()) } else { self.progress.try_send(replies) };
        }
        let mut wake = self.progress_at;
        if let Some(ended) = self.ledger.end_gathering(self.mono(now)) {
            self.told_gathered(ended);
        }
        if self.consumer.is_some() && !self.is_up && self.source.link.is_back() {
            // The client drops events that nobody takes in time: its state is the truth.
            self.connection(true, now);
        }
        if self.consumer.is_none() || !self.is_up {
            return wake;
        }
        if now >= self.look_at && !self.looking {
            self.look(now);
        }
        wake = wake.min(if self.looking { wake } else { self.look_at });
        wake = wake.min(self.ledger.gathers_until().map_or(wake, |at| self.began + at.since(Mono(0))));
        if let Some(at) = self.intake.park_at().filter(|_| self.is_active() && self.is_pinned()) {
            if now >= at {
                self.intake.parked = true;
                self.limit(self.ledger.held().max(1));
            } else {
                wake = wake.min(at);
            }
        }
        wake = wake.min(self.pull(now).unwrap_or(wake));
        let silent_at = self.pulls.last_item.filter(|_| self.pulls.outstanding > 0).map(|at| at + SILENCE);
        if silent_at.is_some_and(|at| now >= at) {
            tracing::warn!(
                stream = self.source.settings.stream,
                "the server answers no pull any more: pulling anew"
            );
            self.subscribe();
        }
        wake.min(silent_at.filter(|at| now < *at).unwrap_or(wake))
    }

    /// Pulls if less is under way than wanted; when to try again if it could not.
    fn pull(&mut self, now: Instant) -> Option<Instant> {
        if let Some(at) = self.pulls.not_before.filter(|at| now < *at) {
            return Some(at);
        }
        self.pulls.not_before = None;
        if self.pulls.is_broken && self.pulls.breaks >= BREAKS {
            // What breaks the connection is looked for first.
            return None;
        }
        let reader = if self.is_active() { Reader::Active } else { Reader::Standby };
        let want = self.intake.want(reader, &self.ledger);
        let consumer = self.consumer.as_ref()?;
        let (inbox, _) = self.pulls.inbox.as_ref()?;
        if want == 0 || self.pulls.outstanding > want / 2 {
            return None;
        }
        let batch = want - self.pulls.outstanding;
        let pin = self.pulls.pin.as_deref();
        let body = pull::request(batch, consumer.prepared.group.as_deref(), pin);
        let client = &consumer.prepared.client;
        // Sent at once, or not at all when the client's queue is full: the loop must not wait.
        match client.publish_with_reply(consumer.subject.clone(), inbox.clone(), body).now_or_never() {
            Some(Ok(())) => {
                self.pulls.outstanding += batch;
                self.pulls.last_item.get_or_insert(now);
                None
            }
            Some(Err(_)) | None => {
                self.pulls.not_before = Some(now + LOOK_CLOSELY);
                self.pulls.not_before
            }
        }
    }

    fn obey(&mut self, command: &Command) {
        let now = Instant::now();
        match command {
            Command::Settle(id) => self.settle(*id, now),
            Command::Intake(wanted) => self.intake.set(*wanted, now),
            Command::PartitionIntake(PARTITION, epoch, wanted) if *epoch == self.epoch => {
                self.intake.set_partition(*wanted, now);
            }
            // Nothing is ever revoked here, there is one partition, and a stop is seen to elsewhere.
            Command::PartitionIntake(..) | Command::Released(..) | Command::Stop => {}
        }
        self.unpark();
    }

    fn unpark(&mut self) {
        if self.intake.parked && !self.intake.is_stopped() {
            self.intake.parked = false;
            self.limit(self.source.limits.held_records);
        }
    }

    fn settle(&mut self, id: RecordId, now: Instant) {
        if id.epoch != self.epoch || !self.is_assigned {
            return;
        }
        let sequence = id.offset.cast_unsigned();
        if let Some(reply) = self.ledger.settle(sequence, self.mono(now)) {
            self.ack(sequence, reply);
            self.intake.weigh(self.ledger.bytes(), now);
        }
    }

    pub(super) fn ack(&mut self, sequence: u64, reply: Subject) {
        if self.finish.send(Finish { sequence, reply }).is_ok() {
            self.acking += 1;
        }
    }

    /// Takes note of news; gives a task to run when one is called for.
    fn hear(&mut self, news: News) -> Option<impl Future<Output = ()> + Send + 'static> {
        let now = Instant::now();
        match news {
            News::Waiting(why) => self.tell(Status::Waiting(why)),
            News::Prepared(prepared) => self.prepared(*prepared, now),
            News::Subscribed(inbox, subscriber) => {
                self.pulls.inbox = Some((inbox, subscriber));
                self.pulls.outstanding = 0;
                self.pulls.last_item = None;
            }
            News::Connection(up) => self.connection(up, now),
            News::Looked(gathering, info) => self.looked(gathering, &info, now),
            News::LookFailed => self.looking = false,
            News::Gone => {
                self.ledger.consumer_gone();
                return self.gone("the durable is gone");
            }
            News::Dead => {
                self.source.link.forget();
                self.connection(false, now);
                return self.gone("the connection ended");
            }
            News::Rescued(rescued) => self.rescued(rescued, now),
            News::Acked => self.acking = self.acking.saturating_sub(1),
        }
        None
    }

    fn prepared(&mut self, prepared: Prepared, now: Instant) {
        self.is_up = true;
        if self.created.replace(prepared.created).is_some_and(|created| created != prepared.created) {
            self.lose("the stream was deleted and made anew");
            self.ledger.forget();
        }
        let info = &prepared.info;
        let pending = info.num_ack_pending;
        self.ledger.begin(info.delivered.consumer_sequence, info.delivered.stream_sequence, pending);
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{}.{}", self.source.settings.stream, info.name);
        let is_pinned = prepared.group.is_some();
        self.floor = info.ack_floor.stream_sequence;
        self.consumer = Some(Consumer { prepared, subject: Subject::from(subject) });
        if !is_pinned && !self.is_assigned {
            self.assign();
        }
        if self.is_assigned || (!is_pinned && pending > 0) {
            self.gather(now);
        }
        self.look_anew(now);
        self.subscribe();
        self.tell(Status::Ready);
    }

    fn connection(&mut self, up: bool, now: Instant) {
        self.is_up = up;
        self.pulls.outstanding = 0;
        self.pulls.last_item = None;
        self.pulls.not_before = None;
        if self.consumer.is_none() {
            return;
        }
        if !up {
            self.pulls.breaks += 1;
            self.pulls.is_broken = true;
            let addresses = self.source.settings.addresses();
            tracing::warn!("the connection to {addresses} is lost: reconnecting");
            return self.tell(Status::Waiting(format!("not connected to {addresses}")));
        }
        tracing::info!("connected to NATS again");
        self.look_anew(now);
        self.tell(Status::Ready);
        // What was on its way when the connection broke comes back late, after what is newer.
        if self.is_assigned {
            self.gather(now);
        }
    }

    /// The consumer, or the client, is gone: it is made again where it was, or waited for.
    fn gone(&mut self, why: &str) -> Option<impl Future<Output = ()> + Send + 'static> {
        self.looking = false;
        let consumer = self.consumer.take()?;
        let settings = &self.source.settings;
        tracing::error!(stream = settings.stream, durable = settings.durable, "{why}: setting up anew");
        let why = format!("consumer {}: {why}", settings.durable);
        self.tell(Status::Waiting(why));
        let Pulls { breaks, is_broken, .. } = self.pulls;
        self.pulls = Pulls { breaks, is_broken, pin: self.pulls.pin.take(), ..Pulls::default() };
        let sequence = self.floor.saturating_add(1);
        let sequence = self.ledger.lowest().map_or(sequence, |lowest| lowest.min(sequence));
        Some(self.preparing(Some(Resume { created: consumer.prepared.created, sequence })))
    }

    pub(super) fn subscribe(&mut self) {
        self.pulls.inbox = None;
        self.pulls.outstanding = 0;
        self.pulls.last_item = None;
        let Some(consumer) = &self.consumer else { return };
        let client = consumer.prepared.client.clone();
        let news = self.news.clone();
        tokio::spawn(async move {
            let inbox = Subject::from(client.new_inbox());
            let _ = news.send(match client.subscribe(inbox.clone()).await {
                Ok(subscriber) => News::Subscribed(inbox, subscriber),
                Err(_) => News::Dead,
            });
        });
    }
}
