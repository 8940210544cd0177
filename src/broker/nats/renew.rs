//! How a reading loop comes by its consumer, and by it again: after a lost connection, a deleted
//! durable, a client that has ended. The part of [`super::source`] that is about the way there.

use std::future::Future;
use std::time::Instant;

use async_nats::Subject;

use super::link::Patience;
use super::setup::{self, Prepared, Resume, Site};
use super::source::{Consumer, Loop, Pulls};
use super::table::Bucket;
use super::words::News;
use crate::broker::Status;

impl Loop {
    /// Connects if there is no connection yet, and sets up; tries for as long as it takes.
    pub(super) fn preparing(&self, resume: Option<Resume>) -> impl Future<Output = ()> + Send + use<> {
        let (settings, link) = (self.source.settings.clone(), self.source.link.clone());
        let site = Site {
            settings: settings.clone(),
            lane: self.source.lane.clone(),
            held: self.source.limits.held_records,
            table: Bucket::new(link.clone(), settings.dead_letter.clone(), settings.addresses()),
        };
        let setup = self.source.front.as_ref().map(|tie| tie.setup.clone()).unwrap_or_default();
        let news = self.news.clone();
        async move {
            let told = |why: String| drop(news.send(News::Waiting(why)));
            let connected = link.connect(&settings, told).await;
            let mut patience = Patience::quiet(!site.lane.is_first());
            loop {
                link.connected().await;
                let mut told_to_make = setup.lock().await;
                let prepared = setup::prepare(connected.clone(), &site, resume, &mut told_to_make).await;
                drop(told_to_make);
                match prepared {
                    Ok(prepared) => break drop(news.send(News::Prepared(Box::new(prepared)))),
                    Err(why) => {
                        patience.tell(&why, told);
                        patience.wait().await;
                    }
                }
            }
        }
    }

    pub(super) fn prepared(&mut self, prepared: Prepared, now: Instant) {
        self.is_up = true;
        if self.created.replace(prepared.created).is_some_and(|created| created != prepared.created) {
            self.lose("the stream was deleted and made anew");
            self.ledger.forget();
            self.marks.forget();
        }
        let info = &prepared.info;
        let pending = info.num_ack_pending;
        self.ledger.begin(info.delivered.consumer_sequence, prepared.tried, pending);
        self.maker.tried = prepared.parts.as_ref().map_or(0, |parts| parts.tried);
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{}.{}", self.source.lane.stream, info.name);
        let is_pinned = prepared.group.is_some();
        self.floor = info.ack_floor.stream_sequence;
        self.trim = (now, 0);
        self.consumer = Some(Consumer { prepared, subject: Subject::from(subject) });
        if !is_pinned && !self.is_assigned && self.is_wanted {
            self.assign();
        }
        if self.is_assigned || (!is_pinned && pending > 0) {
            self.gather(now);
        }
        self.look_anew(now);
        if self.asks() {
            self.subscribe();
        }
        self.tell(Status::Ready);
    }

    pub(super) fn connection(&mut self, up: bool, now: Instant) {
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
            if self.source.lane.is_first() {
                tracing::warn!("the connection to {addresses} is lost: reconnecting");
            }
            return self.tell(Status::Waiting(format!("not connected to {addresses}")));
        }
        if self.source.lane.is_first() {
            tracing::info!("connected to NATS again");
        }
        self.look_anew(now);
        self.tell(Status::Ready);
        // What was on its way when the connection broke comes back late, after what is newer.
        if self.is_assigned {
            self.gather(now);
        }
    }

    /// The consumer, or the client, is gone: it is made again where it was, or waited for.
    pub(super) fn tell_gone(&mut self, why: &str) {
        if self.consumer.is_none() {
            return;
        }
        let lane = &self.source.lane;
        tracing::error!(stream = lane.stream, durable = lane.durable, "{why}: setting up anew");
        let why = format!("consumer {}: {why}", lane.durable);
        self.tell(Status::Waiting(why));
    }

    /// Sees to streams and consumer again; a consumer that is not there is made where it was.
    pub(super) fn set_up_anew(&mut self) -> Option<impl Future<Output = ()> + Send + use<>> {
        self.looking = false;
        let consumer = self.consumer.take()?;
        let Pulls { breaks, is_broken, .. } = self.pulls;
        self.pulls = Pulls { breaks, is_broken, pin: self.pulls.pin.take(), ..Pulls::default() };
        let sequence = self.floor.saturating_add(1);
        let sequence = self.ledger.lowest().map_or(sequence, |lowest| lowest.min(sequence));
        Some(self.preparing(Some(Resume { created: consumer.prepared.created, sequence })))
    }
}
