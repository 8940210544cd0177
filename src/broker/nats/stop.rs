//! The end of a source that is told to stop: last acks, and giving back what is not settled.
//!
//! Giving back is a nak of every message still held, and the pin. That is safe for order only
//! here: nobody works on them any more, and whoever reads next gathers all that is pending before it
//! hands anything on ([`super::ledger`]).

use std::time::Duration;

use async_nats::Subject;
use async_nats::jetstream::AckKind;
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::source::{Consumer, Loop, News};

/// How long the last acks may take.
const LAST_ACKS: Duration = Duration::from_secs(5);
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
        let held: Vec<Subject> = self.ledger.replies().rev().cloned().collect();
        tracing::info!(given_back = held.len(), "the source stops");
        if timeout(GIVE_BACK, give_back(&consumer, held, is_holder)).await.is_err() {
            tracing::warn!("not all was given back in time: the rest comes again after ack_wait");
        }
        Ok(())
    }

    fn link_is_up(&self) -> bool {
        self.source.link.client_if_connected().is_some()
    }
}

async fn give_back(consumer: &Consumer, held: Vec<Subject>, is_holder: bool) {
    let prepared = &consumer.prepared;
    for reply in held {
        if prepared.client.publish(reply, Bytes::from(AckKind::Nak(None))).await.is_err() {
            return;
        }
    }
    if prepared.client.flush().await.is_err() || !is_holder {
        return;
    }
    if let Some(group) = &prepared.group
        && let Err(error) = prepared.stream.unpin_consumer(&prepared.info.name, group).await
    {
        tracing::debug!("the pin is left to its time: {error}");
    }
}
