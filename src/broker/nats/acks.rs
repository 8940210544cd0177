//! Tells the server what is finished, and that what is held is still worked on.
//!
//! Two tasks, so that neither waits for the other nor for the reading loop: one confirms acks, a
//! bounded number at a time; one tells progress. Both wait while the connection is away: what is
//! published then would fill the client's queue, and is redelivered anyway.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Subject;
use async_nats::jetstream::AckKind;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::link::Link;

/// Acks away at once. 500 gave 73,000 a second on one server.
const AWAY: usize = 256;
/// How long an answer to an ack may take.
const ANSWER: Duration = Duration::from_secs(5);
/// Tries of one ack. After the last the server redelivers, and the ack is made again then.
const TRIES: u32 = 3;

/// An ack to be confirmed.
#[derive(Debug)]
pub struct Finish {
    /// The message's sequence.
    pub sequence: u64,
    /// Where its latest delivery is acked.
    pub reply: Subject,
}

/// Confirms acks until the sender is dropped; `done` is called for each, confirmed or given up.
///
/// The channel may be unbounded: it never holds more than the records that were held.
pub async fn confirm(link: Arc<Link>, mut queue: mpsc::UnboundedReceiver<Finish>, done: impl Fn(u64)) {
    let mut away = FuturesUnordered::new();
    loop {
        tokio::select! {
            next = queue.recv(), if away.len() < AWAY => match next {
                Some(finish) => away.push(ack(&link, finish)),
                None => break,
            },
            Some(sequence) = away.next(), if !away.is_empty() => done(sequence),
        }
    }
    while let Some(sequence) = away.next().await {
        done(sequence);
    }
}

async fn ack(link: &Link, finish: Finish) -> u64 {
    for attempt in 1..=TRIES {
        let client = link.connected().await;
        let request = client.request(finish.reply.clone(), Bytes::from(AckKind::Ack));
        match timeout(ANSWER, request).await {
            Ok(Ok(_)) => return finish.sequence,
            Ok(Err(error)) => {
                tracing::debug!(sequence = finish.sequence, attempt, %error, "an ack was not confirmed");
            }
            Err(_) => {
                tracing::debug!(sequence = finish.sequence, attempt, "an ack was not confirmed in time");
            }
        }
        // A server that refuses at once (it is starting) gets a breath.
        tokio::time::sleep(Duration::from_millis(200) * attempt).await;
    }
    tracing::debug!(sequence = finish.sequence, "an ack is left to the message's redelivery");
    finish.sequence
}

/// Publishes progress for each list of held messages it is given, until the sender is dropped.
pub async fn progress(link: Arc<Link>, mut lists: mpsc::Receiver<Vec<Subject>>) {
    while let Some(replies) = lists.recv().await {
        let Some(client) = link.client_if_connected() else { continue };
        for reply in replies {
            // Blocked means that the connection broke meanwhile: the rest would come too late.
            match timeout(ANSWER, client.publish(reply, Bytes::from(AckKind::Progress))).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => break,
            }
        }
    }
}
