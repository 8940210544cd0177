//! What a world is made of before anything happens: accounts, routes, records and their messages.

use std::sync::Arc;

use roomcast::core::model::{BaseId, ConflateKey, Content, MessageId, Path, Priority};
use roomcast::core::time::Wall;

/// Which source: its place among a world's three.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// A topic with some partitions.
    Kafka,
    /// A stream with one consumer.
    JetStream,
    /// The log of requests for replays, where a world has one.
    Requests,
}

impl Source {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Kafka, Self::JetStream, Self::Requests];
}

/// An event by its place in [`Spec::events`]: in the order of publication within its partition.
pub type EventNo = usize;

/// A message by its place in [`Spec::messages`].
pub type MessageNo = usize;

/// One record of a source.
#[derive(Clone, Debug)]
pub struct Event {
    /// Its source.
    pub source: Source,
    /// Its partition; 0 on JetStream.
    pub partition: u32,
    /// Its messages.
    pub messages: std::ops::Range<MessageNo>,
    /// Of a request: what its letter was written for, which may be a request too.
    pub of: Option<EventNo>,
}

/// One message: what the laws speak of.
#[derive(Clone, Debug)]
pub struct Message {
    /// Its event.
    pub event: EventNo,
    /// Its account.
    pub account: usize,
    /// Its path.
    pub path: Path,
    /// Its room; empty for a broadcast.
    pub room: Arc<str>,
    /// Its priority.
    pub priority: Priority,
    /// Its id.
    pub id: MessageId,
    /// The id that siblings share.
    pub base: BaseId,
    /// What it says: the token by which the provider's log is read.
    pub content: Arc<Content>,
    /// When it is too late.
    pub expires: Option<Wall>,
    /// What it is the newest of.
    pub conflate: Option<ConflateKey>,
}

/// All of it.
#[derive(Debug, Default)]
pub struct Spec {
    /// Records.
    pub events: Vec<Event>,
    /// Their messages, an event's beside each other.
    pub messages: Vec<Message>,
}

/// What stands in every content: the event's number, to be found in the provider's log.
pub fn token(event: EventNo) -> String {
    format!("<<{event}>>")
}

/// The event whose token stands in a content.
pub fn event_in(content: &str) -> Option<EventNo> {
    let (_, rest) = content.split_once("<<")?;
    rest.split_once(">>")?.0.parse().ok()
}

impl Spec {
    /// The message of an event for a room.
    pub fn message_for(&self, event: EventNo, room: &str) -> Option<MessageNo> {
        let mut numbers = self.events.get(event)?.messages.clone();
        numbers.find(|&number| &*self.messages[number].room == room)
    }

    /// The record that an event is about: itself, or the one that a chain of letters began with.
    pub fn origin(&self, mut event: EventNo) -> EventNo {
        while let Some(of) = self.events[event].of {
            event = of;
        }
        event
    }
}
