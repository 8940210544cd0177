//! Replicas of a source with partitions tell each other what they read.
//!
//! By plain messages on one subject, which nothing stores: a beat that is lost is followed by another, a
//! replica that is not heard is dead. Where the server's permissions forbid the subject nobody is heard,
//! and each replica asks for every partition: whoever comes first reads it. Used by [`super::front`].

use std::sync::Arc;
use std::time::Duration;

use async_nats::Subject;
use bytes::Bytes;
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::link::Link;
use super::settings::Settings;
use crate::core::balance::Beat;

/// The wait before the subject is subscribed to again, and the longest that one beat may take.
const AGAIN: Duration = Duration::from_secs(1);

/// What one replica says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// Who: random, new for each process.
    pub replica: String,
    /// How many partitions it knows of: with another number nothing of it counts.
    pub partitions: u32,
    /// What it reads.
    pub held: Vec<u32>,
    /// What it asks for without having been given anything.
    pub waiting: Vec<u32>,
    /// It leaves, and reads nothing any more.
    pub leaves: bool,
}

impl Said {
    /// A beat.
    pub fn beat(replica: &str, partitions: u32, beat: &Beat) -> Self {
        Self {
            replica: replica.to_owned(),
            partitions,
            held: beat.held.iter().copied().collect(),
            waiting: beat.waiting.iter().copied().collect(),
            leaves: false,
        }
    }

    /// The same for the core.
    pub fn as_beat(&self) -> Beat {
        Beat { held: self.held.iter().copied().collect(), waiting: self.waiting.iter().copied().collect() }
    }
}

/// The subject on which replicas of one durable speak.
pub fn subject(settings: &Settings) -> String {
    format!("_ROOMCAST.{}.{}", settings.stream, settings.durable)
}

/// Says what comes from `say` and tells `heard` what replicas say, this one too, until `say` is closed.
pub async fn run(
    link: Arc<Link>,
    subject: String,
    mut say: mpsc::UnboundedReceiver<Said>,
    heard: mpsc::UnboundedSender<Said>,
) {
    let subject = Subject::from(subject);
    loop {
        let client = link.connected().await;
        let Ok(mut subscriber) = client.subscribe(subject.clone()).await else {
            tokio::time::sleep(AGAIN).await;
            continue;
        };
        loop {
            tokio::select! {
                said = say.recv() => {
                    let Some(said) = said else { return };
                    let body = serde_json::to_vec(&said).expect("texts and numbers are JSON");
                    // Blocked means that the connection is away: a later beat will do.
                    let published = timeout(AGAIN, client.publish(subject.clone(), Bytes::from(body))).await;
                    if said.leaves && matches!(published, Ok(Ok(()))) {
                        let _ = timeout(AGAIN, client.flush()).await;
                    }
                    if matches!(published, Ok(Err(_))) {
                        break;
                    }
                }
                message = subscriber.next() => match message {
                    Some(message) => {
                        if let Ok(said) = serde_json::from_slice(&message.payload) {
                            let _ = heard.send(said);
                        }
                    }
                    None => break,
                },
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}
