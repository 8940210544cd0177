//! The reading loop of one durable: the only place where its parts meet. A source has one, or one
//! for each of its partitions.
//!
//! It never waits for anything but its one `select!`: the connection, the set-up, consumer info and
//! acks are tasks that send [`News`] back. So commands are obeyed and progress is told whatever the
//! broker does. Started by [`super::Nats`].

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::{Subject, Subscriber};
use futures_util::{FutureExt, StreamExt};
use tokio::sync::mpsc;

use super::acks::{self, Finish};
use super::intake::{Intake, Reader};
use super::lane::Lane;
use super::link::Link;
use super::marks::Progress;
use super::pull::{self, SILENCE};
use super::record::Maker;
use super::rescue::BREAKS;
use super::settings::Settings;
use super::setup::Prepared;
use super::words::{News, Order, Tie};
use crate::broker::{Arrival, Command, Inbox, Reading, SourceLimits, Status};
use crate::core::ledger::Ledger;
use crate::core::model::{Epoch, RecordId, SourceId};
use crate::core::time::Mono;

/// How often the consumer is looked at while something is awaited of it.
pub(super) const LOOK_CLOSELY: Duration = Duration::from_millis(200);

/// A loop ready to run.
pub struct Source {
    pub id: SourceId,
    pub settings: Arc<Settings>,
    pub lane: Lane,
    /// This loop's part of them.
    pub limits: SourceLimits,
    pub inbox: Inbox,
    pub link: Arc<Link>,
    /// Where the loop is one of several.
    pub front: Option<Tie>,
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
    /// When a record was last finished.
    pub(super) last_settled: Option<Instant>,
    pub(super) intake: Intake,
    pub(super) consumer: Option<Consumer>,
    pub(super) pulls: Pulls,
    pub(super) epoch: Epoch,
    pub(super) is_assigned: bool,
    /// Whether it asks for messages while none came: of several replicas, one should.
    pub(super) is_wanted: bool,
    /// What was read is being given up.
    pub(super) is_leaving: bool,
    /// How far the partition is finished, where it is one.
    pub(super) marks: Progress,
    /// The head as it was when the look under way was asked for.
    pub(super) head: u64,
    /// What of the parts stream is deleted next, and when.
    pub(super) trim: (Instant, u64),
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
    pub async fn run(
        self,
        mut commands: mpsc::UnboundedReceiver<Command>,
        mut orders: Option<mpsc::UnboundedReceiver<Order>>,
    ) -> Result<(), String> {
        let (news, mut heard) = mpsc::unbounded_channel();
        let (finish, finished) = mpsc::unbounded_channel();
        let (progress, lists) = mpsc::channel(1);
        let acked = news.clone();
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(acks::confirm(self.link.clone(), finished, move |_| drop(acked.send(News::Acked))));
        tasks.spawn(acks::progress(self.link.clone(), lists));
        let changed = news.clone();
        self.link.listen(move |up| drop(changed.send(News::Connection(up))));
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
                order = next_order(&mut orders) => this.follow(order),
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

/// The next order; never, where there is no front or it is gone (then commands end too).
async fn next_order(orders: &mut Option<mpsc::UnboundedReceiver<Order>>) -> Order {
    if let Some(orders) = orders
        && let Some(order) = orders.recv().await
    {
        return order;
    }
    std::future::pending().await
}

impl Loop {
    fn new(
        source: Source,
        news: mpsc::UnboundedSender<News>,
        finish: mpsc::UnboundedSender<Finish>,
        progress: mpsc::Sender<Vec<Subject>>,
    ) -> Self {
        let now = Instant::now();
        let maker = Maker {
            source: source.id,
            partition: source.lane.partition,
            stream: Arc::from(source.lane.stream.as_str()),
            key: source.settings.key.clone(),
            is_part: source.lane.is_part,
            tried: 0,
            of_letters: source.settings.replays_of.is_some(),
        };
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
            last_settled: None,
            intake,
            consumer: None,
            pulls: Pulls::default(),
            epoch: Epoch(0),
            is_assigned: false,
            is_wanted: !source.lane.is_part && source.settings.reading == Reading::AtOnce,
            is_leaving: false,
            marks: Progress::default(),
            head: 0,
            trim: (now, 0),
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
        if !self.asks() {
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
                stream = self.source.lane.stream,
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
            Command::PartitionIntake(id, epoch, wanted)
                if *id == self.source.lane.partition && *epoch == self.epoch =>
            {
                self.intake.set_partition(*wanted, now);
            }
            Command::Released(_, epoch) => self.released(*epoch),
            Command::Read(true) => self.follow(Order::Take),
            Command::Read(false) => self.follow(Order::GiveUp),
            // A stop is seen to elsewhere.
            Command::PartitionIntake(..) | Command::Stop => {}
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
            self.last_settled = Some(now);
            self.marks.finished(sequence);
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
    fn hear(&mut self, news: News) -> Option<impl Future<Output = ()> + Send + use<>> {
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
                self.tell_gone("the durable is gone");
                return self.set_up_anew();
            }
            News::Stale => {
                self.ledger.consumer_gone();
                return self.set_up_anew();
            }
            News::Dead => {
                if let Some(consumer) = &self.consumer {
                    self.source.link.forget(consumer.prepared.connection);
                }
                self.connection(false, now);
                self.tell_gone("the connection ended");
                return self.set_up_anew();
            }
            News::Rescued(rescued) => self.rescued(rescued, now),
            News::Acked => self.acking = self.acking.saturating_sub(1),
        }
        None
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
