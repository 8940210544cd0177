//! What passes between a reading loop, the tasks around it, and the front of a source with partitions.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use async_nats::jetstream::consumer;
use async_nats::{Subject, Subscriber};
use tokio::sync::mpsc;

use super::marks::Generation;
use super::rescue::Rescued;
use super::setup::Prepared;
use crate::broker::Status;

/// What ties the loop of a partition to its source's front.
pub struct Tie {
    /// Says what front and driver must know.
    pub words: mpsc::UnboundedSender<(u32, Word)>,
    /// Where the end of the parts stream stands, in the origin's sequences.
    pub head: Arc<AtomicU64>,
    /// Held while streams and durables are seen to, one loop after the other: what people were told to
    /// make, so that they are told the same again.
    pub setup: Arc<tokio::sync::Mutex<Option<Generation>>>,
}

/// What the loop of a partition says.
#[derive(Debug)]
pub enum Word {
    /// How its connection is.
    Status(Status),
    /// How many of its records wait.
    Lag(u64),
    /// It reads, or reads no more.
    Reads(bool),
    /// Of which parts stream, and up to which of the origin's sequences it is finished.
    Finished(String, u64),
}

/// What the loop of a partition is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Ask for messages.
    Take,
    /// Ask for no more.
    Leave,
    /// Give up what is read, in an orderly way.
    GiveUp,
}

/// What the tasks around the loop tell it. At most a few of each are under way.
pub enum News {
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
    /// What is known of streams and consumer may be old: they are to be seen to anew.
    Stale,
    /// The client has ended: only a new one can go on.
    Dead,
    /// Messages that the client cannot read.
    Rescued(Vec<Rescued>),
    /// An ack is confirmed or given up.
    Acked,
}
