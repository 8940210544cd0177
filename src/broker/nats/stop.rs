//! The end of a source that is told to stop: last acks, and giving back what is not settled.
//!
//! Giving back is a nak of every message still held, and the pin. That is safe for order only
//! here: nobody works on them any more, and whoever reads next gathers all that is pending before it
//! hands anything on ([`super::ledger`]). Who reads gives back a second after its last call: the next reader
//! does not know what a room had of its pace.

use std::time::{Duration, Instant};

use async_nats::jetstream::AckKind;
use async_nats::jetstream::stream::Stream;
use async_nats::{Client, Subject};
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::parts;
use super::setup::Prepared;
use super::source::{Consumer, Loop};
use super::words::News;
use crate::broker::rested_at;

/// How long the last acks may take.
const LAST_ACKS: Duration = Duration::from_secs(5);
/// How long a last look at how far a partition is finished may take.
const LAST_LOOK: Duration = Duration::from_millis(500);
/// How long giving back may take. What is not given back returns after `ack_wait`.
const GIVE_BACK: Duration = Duration::from_secs(2);

impl Loop {
    /// Ends it.
    pub(super) async fn stop(mut self, heard: &mut mpsc::UnboundedReceiver<News>) -> Result<(), String> {
        // Nothing may be redelivered to this inbox again: the naks below would come straight back.
        self.pulls.inbox = None;
        let mut acking = self.acking;
        let acks = async {
            while acking > 0 {
                match heard.recv().await {
                    Some(News::Acked) => acking -= 1,
                    Some(_) => {}
                    None => break,
                }
            }
        };
        if self.link_is_up() && timeout(LAST_ACKS, acks).await.is_err() {
            tracing::warn!("some acks are not confirmed: their messages come again");
        }
        let is_holder = self.is_assigned && self.is_pinned();
        let Some(consumer) = self.consumer.take().filter(|_| self.link_is_up()) else { return Ok(()) };
        let finished = timeout(LAST_LOOK, self.last_look(&consumer)).await;
        if finished.is_err() {
            tracing::debug!("the last look at the consumer takes too long");
        }
        let held: Vec<Subject> = self.ledger.replies().rev().cloned().collect();
        tracing::info!(given_back = held.len(), "the source stops");
        if is_holder {
            tokio::time::sleep_until(self.rested_at().into()).await;
        }
        let Prepared { client, stream, info, group, .. } = &consumer.prepared;
        let pin = group.as_deref().filter(|_| is_holder);
        if timeout(GIVE_BACK, give_back(client, stream, &info.name, held, pin)).await.is_err() {
            tracing::warn!("not all was given back in time: the rest comes again after ack_wait");
        }
        Ok(())
    }

    /// Says how far a partition is finished: whoever makes the parts stream anew begins there.
    async fn last_look(&mut self, consumer: &Consumer) {
        let Some(parts) = consumer.prepared.parts.as_ref().filter(|_| self.asks()) else { return };
        let Prepared { jetstream, stream, info, .. } = &consumer.prepared;
        let head = parts::head(jetstream, &self.source.settings).await;
        let Ok(info) = stream.consumer_info(&info.name).await else { return };
        let nothing_waits = info.num_pending == 0 && info.num_ack_pending == 0;
        let is_whole = self.ledger.gathers_until().is_none() && info.num_ack_pending <= self.ledger.held();
        if nothing_waits || (is_whole && self.is_assigned) {
            self.say_finished(&parts.generation, head.filter(|_| nothing_waits));
        }
    }

    /// When the rooms of what is read have rested since their last call.
    pub(super) fn rested_at(&self) -> Instant {
        rested_at(self.ledger.held() == 0, self.last_settled)
    }

    pub(super) fn link_is_up(&self) -> bool {
        self.source.link.client_if_connected().is_some()
    }
}

/// Gives messages back in this order, and then the pin of that group, if it is ours.
pub(super) async fn give_back(
    client: &Client,
    stream: &Stream,
    name: &str,
    held: Vec<Subject>,
    pin: Option<&str>,
) {
    for reply in held {
        if client.publish(reply, Bytes::from(AckKind::Nak(None))).await.is_err() {
            return;
        }
    }
    if client.flush().await.is_err() {
        return;
    }
    if let Some(group) = pin
        && let Err(error) = stream.unpin_consumer(name, group).await
    {
        tracing::debug!("the pin is left to its time: {error}");
    }
}
