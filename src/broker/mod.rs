//! Brokers: where records come from and where letters go.
//!
//! A [`Broker`] is a source as the config describes it, not yet connected. Started, it sends
//! [`Arrival`]s into the driver's inbox and obeys [`Command`]s; it owns positions, commits and acks,
//! and it waits for a broker that is away, for ever and without a busy loop. It knows nothing of
//! routes, providers or quotas. [`BROKERS`] lists them: another one is one file and one line there.

pub mod kafka;
pub mod nats;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::core::letter::Sealed;
use crate::core::model::{Epoch, Origin, PartitionId, Record, RecordId, SourceId};
use crate::core::partitions::{Fill, REST};
use crate::core::section::Section;
use crate::core::share::lease::Written;

/// Makes a broker from its source's section, which it reads but does not finish; `None` when the
/// section had problems (they are told there).
pub type Build = fn(&Section<'_>, SourceId) -> Option<Box<dyn Broker>>;

/// Every broker, by the word that `kind = "…"` takes.
pub const BROKERS: &[(&str, Build)] = &[("kafka", kafka::build), ("nats", nats::build)];

/// A future that can be kept in a box.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The driver's inbox. Bounded: a source that is ahead waits for a place.
pub type Inbox = mpsc::Sender<Arrival>;

/// A source before it is connected.
pub trait Broker: Send + Sync {
    /// The word of [`BROKERS`].
    fn kind(&self) -> &'static str;

    /// The name of the dead-letter topic or stream.
    fn dead_letter(&self) -> &str;

    /// Names the dead-letter topics of all sources, before [`Broker::start`]: a source whose topics
    /// are a pattern never takes one of them, nor its `.replay` and `.state`.
    fn avoid(&mut self, dead_letters: &[String]) {
        let _ = dead_letters;
    }

    /// Names the place of the dead letters among those of all sources: two with the same one share their
    /// letters.
    fn letters_at(&self) -> String;

    /// The most records this source may hold, whatever `max_held_records` says (JetStream: 5,000).
    fn max_held_records(&self) -> usize;

    /// The letters of this source's dead-letter topic, for those who look at them and ask for replays.
    /// Connects when it is first used; works beside a daemon, and without one.
    fn archive(&self) -> Arc<dyn Archive>;

    /// The source of replay requests beside the dead letters, under that id and with a position of its
    /// own (Kafka: the topic `<dead_letter>.replay`, group `<group>.replay`; JetStream: the subjects
    /// `<dead_letter>.replay.>`, durable `<durable>_replay`, read by one replica at a time), always from
    /// the earliest. It reads when `reading` says. Its letters go to the same dead-letter topic. On JetStream
    /// its records have the key of the record that the letter was written for.
    fn replays(&self, id: SourceId, reading: Reading) -> Box<dyn Broker>;

    /// Logs in and looks at topics or streams without joining, for `check --live`: lines of what
    /// was found, or what is wrong.
    fn probe(&self) -> Boxed<'_, Result<Vec<String>, String>>;

    /// Reads a table that others write (a compacted topic, a KV bucket), as this source's user, and
    /// follows it until nobody listens. Called within a tokio runtime; never fails: what is wrong is
    /// told and waited for. A broker without such tables drops `told`.
    fn follow(&self, table: &str, told: mpsc::Sender<Followed>) {
        let _ = (table, told);
    }

    /// Begins to read. Called within a tokio runtime; never fails: what is wrong with the broker
    /// is told as [`Status`] and waited for.
    fn start(self: Box<Self>, limits: SourceLimits, inbox: Inbox) -> Started;

    /// What there is beside the source, without reading it: letters and the table can be written, buckets
    /// can be used, and nothing of what is read is joined, made or committed. It tells nothing and ends with
    /// [`Command::Stop`]. Called within a tokio runtime.
    fn rest(&self) -> Started;
}

/// The end of a source at rest.
async fn rested(mut commands: mpsc::UnboundedReceiver<Command>) -> Result<(), String> {
    while let Some(command) = commands.recv().await {
        if command == Command::Stop {
            break;
        }
    }
    Ok(())
}

/// What is told of a table that is followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Followed {
    /// It is read from its beginning: once `Current` comes, what was told before this is void.
    Begun,
    /// Rows in their order: key and value; `None`: the row is taken away.
    Rows(Vec<(Bytes, Option<Bytes>)>),
    /// What there was when reading began has been told; what follows are changes.
    Current,
    /// It cannot be read now, and why; tries go on.
    Waiting(String),
}

/// When a source of replay requests reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// From the start.
    AtOnce,
    /// While it is told to ([`Command::Read`]).
    WhenTold,
}

/// The part of `[limits]` that concerns one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceLimits {
    /// Records that may be held.
    pub held_records: usize,
    /// Bytes that may be held.
    pub held_bytes: usize,
}

/// A source at work.
pub struct Started {
    /// Where commands go. Unbounded, because it carries at most one command for each held record.
    pub commands: mpsc::UnboundedSender<Command>,
    /// Writes letters.
    pub letters: Arc<dyn Letters>,
    /// The small table beside the dead letters.
    pub table: Arc<dyn Table>,
    /// Rows that processes change by compare and set, where the broker has such.
    pub buckets: Option<Arc<dyn Buckets>>,
    /// Ends when the source has ended, after [`Command::Stop`] or for good: `Err` says why.
    pub ended: Boxed<'static, Result<(), String>>,
}

/// What a source tells.
#[derive(Debug)]
pub enum Arrival {
    /// A record, in the order of its partition.
    Record(Record),
    /// Partitions are now ours, under a new epoch.
    Assigned {
        /// The source.
        source: SourceId,
        /// What was assigned.
        partitions: Vec<(PartitionId, Epoch, Arc<str>)>,
        /// All partitions there are now, in the order that every replica has them in; `None` where
        /// that is not known, or has not changed.
        order: Option<Vec<PartitionId>>,
    },
    /// Partitions will be given up: their waiting messages are to be forgotten, the calls away are
    /// waited for, and then each is answered by [`Command::Released`].
    Revoking {
        /// The source.
        source: SourceId,
        /// What is revoked.
        partitions: Vec<(PartitionId, Epoch)>,
    },
    /// Partitions are gone already: nothing of theirs may be sent any more, nothing is answered.
    Lost {
        /// The source.
        source: SourceId,
        /// What is lost.
        partitions: Vec<(PartitionId, Epoch)>,
    },
    /// The connection changed.
    Status {
        /// The source.
        source: SourceId,
        /// How it is.
        status: Status,
    },
    /// How full the metadata of commits is, where that is news. A partition whose metadata is full
    /// pauses by itself.
    CommitMetadata {
        /// The source.
        source: SourceId,
        /// The partitions, under their epochs.
        partitions: Vec<(PartitionId, Epoch, Fill)>,
    },
    /// How many records wait in the broker, told every few seconds.
    Lag {
        /// The source.
        source: SourceId,
        /// Records between the committed position and the end.
        records: u64,
    },
}

/// How a source is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// Connected and, where there is a group, joined.
    Ready,
    /// Not connected, or refused: it goes on trying.
    Waiting(String),
}

/// What the driver tells a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A record is finished: it may be committed or acked. Ignored when its epoch is old.
    Settle(RecordId),
    /// Every call away of a partition under revocation has answered.
    Released(PartitionId, Epoch),
    /// Take nothing more from any partition (`false`), or go on (`true`).
    Intake(bool),
    /// Take nothing more from one partition (`false`), or go on (`true`).
    PartitionIntake(PartitionId, Epoch, bool),
    /// Read (`true`), or give up what is read, in good order, and stand by (`false`). Only a source of
    /// replay requests is told so.
    Read(bool),
    /// Commit what is settled, give the rest back, and end.
    Stop,
}

/// Writes letters to the dead-letter topic.
pub trait Letters: Send + Sync {
    /// Writes one; done when the broker has confirmed it. A letter that is there already is done.
    /// One that is too large is written again without its value. `Err` says what is wrong; the
    /// caller tries again for as long as it takes.
    fn write(&self, letter: Sealed) -> Boxed<'_, Result<(), String>>;
}

/// The letters of one dead-letter topic, seen from outside of the daemon. What is wrong is told within
/// a minute or so: nothing is waited for here.
pub trait Archive: Send + Sync {
    /// Hands over every letter that stands there when it begins, oldest first within a partition, at the
    /// receiver's pace; done when all were handed over, or when the receiver is gone. A record that is no
    /// letter is handed over as well: who reads it says so. A topic that is not there has no letters. The
    /// origin of what is handed over is where the letter itself stands; the key is that of its record.
    fn read(&self, into: mpsc::Sender<Record>) -> Boxed<'_, Result<(), String>>;

    /// Writes a replay request: the letter's record with these headers beside its own; done when the
    /// broker has confirmed it. On JetStream one that is there already is [`Placed::Before`]. One that is
    /// too large with these headers is written as a letter would be: without its value, with
    /// `roomcast-truncated`. A record that is no letter is an error.
    fn request(&self, letter: Record, headers: Vec<(Arc<str>, Bytes)>) -> Boxed<'_, Result<Placed, String>>;

    /// Writes a replay request as [`Archive::request`] does, also over one that is there already, unless
    /// that is of this very asking or of the asking `under_way`: what is finished and left the letter open
    /// is no reason not to ask again. Of several who do so at the same time one writes. On Kafka nothing
    /// is found to be there.
    fn request_unless(
        &self,
        under_way: Option<Uuid>,
        letter: Record,
        headers: Vec<(Arc<str>, Bytes)>,
    ) -> Boxed<'_, Result<Placed, String>> {
        let _ = under_way;
        self.request(letter, headers)
    }

    /// The value of the record that stands there, for a letter that could not keep it; `None` when the
    /// broker has it no more. On JetStream only of the source's own stream: a message that another stream
    /// held first is not found.
    fn value_at(&self, origin: Origin) -> Boxed<'_, Result<Option<Bytes>, String>>;

    /// How many read the source now (that of requests: [`Broker::replays`]): 0 when nobody does. Kafka:
    /// members of the group. JetStream does not tell clients apart: the pulls that wait on the durable, and at
    /// least one while a reader is pinned to it. One that was killed counts for as long as the broker waits for
    /// it.
    fn readers(&self) -> Boxed<'_, Result<usize, String>>;

    /// Which records that were finished came after others with the same key: of every key that is asked
    /// about, the last one up to where the source has committed (JetStream: up to the ack floor of its
    /// durable), keys alone being read. At most a million records of each partition are looked at; of a
    /// stream that is not the source's own, or is spread over partitions, nothing is known.
    fn later(&self, of: BTreeMap<Part, Stands>) -> Boxed<'_, Result<Later, String>>;

    /// The small table beside the letters.
    fn table(&self) -> Arc<dyn Table>;

    /// Reads and follows that table, as [`Broker::follow`] does.
    fn follow(&self, told: mpsc::Sender<Followed>);
}

/// A stream (Kafka: a topic) and the partition of it that names records for ever
/// ([`Origin::lasting_partition`]).
pub type Part = (Arc<str>, i32);

/// Records of one [`Part`] that others may have come after.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stands {
    /// Keys, each with the offset of the oldest record that is asked about.
    pub oldest: BTreeMap<Bytes, i64>,
    /// Offsets of records that do not count as later ones.
    pub except: BTreeSet<i64>,
}

/// What came later.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Later {
    /// By part and key, the offset of the last finished record that came after the oldest one asked about.
    pub last: BTreeMap<Part, BTreeMap<Bytes, i64>>,
    /// Whether there may be more than these: not all could be looked at.
    pub is_cut: bool,
}

impl Later {
    /// Whether a finished record with that key is known to have come after that offset.
    pub fn is_after(&self, part: &Part, key: &[u8], offset: i64) -> bool {
        self.last.get(part).and_then(|keys| keys.get(key)).is_some_and(|last| *last > offset)
    }
}

/// The most records of a partition that [`Archive::later`] looks at.
const LATER_MOST: i64 = 1_000_000;

/// What became of a request that was to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placed {
    /// It is written.
    Now,
    /// A request of the same letter is there, and stays: the daemons have done what it asks for, or will.
    Before,
}

/// Takes a row of a table: its key, and its value unless it is taken away.
pub type EachRow = Box<dyn FnMut(&str, Option<&[u8]>) + Send>;

/// A small table of texts beside the dead letters (`<dead_letter>.state`, or a KV bucket).
pub trait Table: Send + Sync {
    /// Hands over all rows as they are read, without keeping them: a key comes as often as the broker still
    /// has values of it, the newest last; `None` takes the row away. Makes the table when it is missing.
    fn each(&self, row: EachRow) -> Boxed<'_, Result<(), String>>;

    /// The rows whose key is wanted. Makes the table when it is missing.
    fn load(&self, wanted: fn(&str) -> bool) -> Boxed<'_, Result<Vec<(String, Bytes)>, String>> {
        Box::pin(async move {
            let rows = Arc::new(Mutex::new(BTreeMap::new()));
            let kept = Arc::clone(&rows);
            let keep = move |key: &str, value: Option<&[u8]>| {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                match value {
                    Some(value) if wanted(key) => {
                        kept.insert(key.to_owned(), Bytes::copy_from_slice(value));
                    }
                    _ => drop(kept.remove(key)),
                }
            };
            self.each(Box::new(keep)).await?;
            let rows = std::mem::take(&mut *rows.lock().unwrap_or_else(PoisonError::into_inner));
            Ok(rows.into_iter().collect())
        })
    }

    /// Sets a row; done when the broker has confirmed it.
    fn put(&self, key: String, value: Bytes) -> Boxed<'_, Result<(), String>>;

    /// Sets a row unless `stays` says of the one that is there that it is to stay; then that one is given
    /// back. Kafka compares nothing: there the row is set, and what it was before is the caller's to know.
    fn put_unless<'a>(
        &'a self,
        key: String,
        value: Bytes,
        stays: &'a (dyn Fn(&[u8]) -> bool + Sync),
    ) -> Boxed<'a, Result<Option<Bytes>, String>> {
        let _ = stays;
        Box::pin(async move { self.put(key, value).await.map(|()| None) })
    }
}

/// A row with its revision.
pub type Row = (u64, Bytes);

/// Rows that several processes change by compare and set (KV buckets). An answer takes a few seconds
/// at most; `Err` says why there is none, and a write without an answer may have been done.
pub trait Buckets: Send + Sync {
    /// A row, if it is there. Makes the bucket when it is missing and may be made.
    fn read<'a>(&'a self, bucket: &'a str, key: &'a str) -> Boxed<'a, Result<Option<Row>, String>>;

    /// Sets a row if its revision is the expected one (0: if there is none).
    fn write<'a>(
        &'a self,
        bucket: &'a str,
        key: &'a str,
        value: Bytes,
        expected: u64,
    ) -> Boxed<'a, Result<Written, String>>;
}

/// When the last call that a source caused, as far as it can tell, was a [`REST`] ago: its next reader may
/// send to the same rooms at once. A record that is not finished may have been sent just now; those that are
/// finished were so at the latest when the last of them was.
fn rested_at(is_finished: bool, last_settled: Option<Instant>) -> Instant {
    let last = if is_finished { last_settled } else { Some(Instant::now()) };
    last.map_or_else(Instant::now, |last| last + REST)
}
