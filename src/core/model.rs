//! The things that travel: record, message, letter class, and the ids that tell them apart.
//!
//! Words are those of the design: record → event → route → message → lane → call → outcome →
//! verdict → settled. Ids are newtypes, so that one cannot stand in for another. Nothing here
//! decides; every part of the crate speaks in these types.

use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use super::time::Wall;

/// A source by its place in the config's list of sources (sorted by name).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(pub u16);

/// An account by its place in the config's list of accounts (sorted by name).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId(pub u16);

/// A directory by its place in the config's list of directories (sorted by name).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DirectoryId(pub u16);

/// A route by its place in the config; the routes' order is their precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteId(pub u16);

/// A partition of a source, numbered by the source itself: one per Kafka topic and partition,
/// one per JetStream consumer. The number stays the same for the life of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId(pub u32);

/// Which assignment of a partition a record came with. A result for an older epoch settles nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u32);

/// One record as the broker gave it to this process. Unique within a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId {
    /// Where it came from.
    pub source: SourceId,
    /// Its partition of that source.
    pub partition: PartitionId,
    /// The assignment under which it was read.
    pub epoch: Epoch,
    /// Kafka offset or JetStream stream sequence.
    pub offset: i64,
}

/// Where a record stands in its broker: what letters and ids name it by, for ever.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// Kafka: the topic. JetStream: the stream the record was first stored in.
    pub stream: Arc<str>,
    /// Kafka: the topic. JetStream: the subject it was published to.
    pub topic: Arc<str>,
    /// Kafka partition. JetStream: the partition of a source that is spread over several, else 0.
    pub partition: i32,
    /// Kafka offset or JetStream stream sequence, of the stream named above.
    pub offset: i64,
}

impl Origin {
    /// The partition as far as it names the record for ever. On JetStream stream and sequence do that
    /// alone: the partition is ours, and another tomorrow. A Kafka record is known by the topic that
    /// is its stream.
    pub fn lasting_partition(&self) -> i32 {
        if self.stream == self.topic { self.partition } else { 0 }
    }
}

/// What the broker holds: bytes, not yet understood.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its identity in this process.
    pub id: RecordId,
    /// Its identity in the broker.
    pub origin: Origin,
    /// The key: Kafka's record key; on JetStream the subject token or header that `key` names.
    pub key: Option<Bytes>,
    /// The value; `None` is a Kafka tombstone.
    pub value: Option<Bytes>,
    /// Headers in the broker's order. Names may repeat.
    pub headers: Vec<(Arc<str>, Bytes)>,
    /// The broker's timestamp of the record.
    pub timestamp: Wall,
    /// True when an earlier process, or an earlier assignment, may have sent its messages (P3).
    pub maybe_tried: bool,
}

impl Record {
    /// Bytes this record keeps in memory, for the bound of `max_held_bytes`: contents plus a flat
    /// 256 for the structures around them.
    pub fn weight(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len() + 48).sum();
        self.key.as_ref().map_or(0, Bytes::len) + self.value.as_ref().map_or(0, Bytes::len) + headers + 256
    }

    /// The value of the first header of that name (names compare as ASCII without case).
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_ref())
    }
}

/// A room id as the provider writes it. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Room(pub Arc<str>);

impl fmt::Display for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An endpoint of an account, with a quota and a gate of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Path {
    /// To everybody in a room.
    Room,
    /// To named members of one room (directed).
    Users,
    /// To every room of the app.
    Broadcast,
}

impl Path {
    /// All paths, in the order of their discriminants.
    pub const ALL: [Self; 3] = [Self::Room, Self::Users, Self::Broadcast];

    /// The word for logs and metrics: `room`, `users`, `broadcast`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Room => "room",
            Self::Users => "users",
            Self::Broadcast => "broadcast",
        }
    }
}

/// How urgent a message is, most urgent first. Never strict: see the weights of the scheduler.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Weight 8.
    High,
    /// Weight 3; the default.
    #[default]
    Normal,
    /// Weight 1.
    Low,
    /// Replays: what live traffic leaves, and at least 5 %.
    Background,
}

impl Priority {
    /// All priorities, most urgent first, in the order of their discriminants.
    pub const ALL: [Self; 4] = [Self::High, Self::Normal, Self::Low, Self::Background];

    /// The word of config, logs and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
            Self::Background => "background",
        }
    }
}

/// The id an event's messages are derived from: UUIDv5 over the event's identity, the route's name
/// and the message's index in the route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BaseId(pub Uuid);

impl BaseId {
    /// The id of the message for one room: UUIDv5 with the base id as the namespace and the room
    /// id's text as the name (RFC 9562, section 5.5).
    pub fn message(self, room: &Room) -> MessageId {
        MessageId(Uuid::new_v5(&self.0, room.0.as_bytes()))
    }
}

impl fmt::Display for BaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The id of one message: a pure function of event, route, index and room, so every try in every
/// process carries the same one (P3). On a broadcast it is the base id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub Uuid);

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a provider made of a message's content, checked and serialised once. Only the provider
/// module that rendered it knows what is inside; siblings share one.
#[derive(Debug, PartialEq, Eq)]
pub struct Content {
    /// The part of a call's body that is the same for every room and try.
    pub single: Bytes,
    /// The same for a call that carries several messages; empty where there is no such call.
    pub batched: Bytes,
}

impl Content {
    /// Bytes kept in memory.
    pub fn weight(&self) -> usize {
        self.single.len() + self.batched.len() + 96
    }

    /// Whether both may be carried by one call to one room: messages of a call share a sender and
    /// some options, which stand at the head of `batched` behind their length (32 bits, big
    /// endian). False where the provider has no such call.
    pub fn joins(&self, other: &Self) -> bool {
        match (self.shared_part(), other.shared_part()) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => false,
        }
    }

    fn shared_part(&self) -> Option<&[u8]> {
        let (length, rest) = self.batched.split_first_chunk::<4>()?;
        rest.get(..usize::try_from(u32::from_be_bytes(*length)).ok()?)
    }
}

/// One kind of content for one room, ready to be called out: what a lane queues.
#[derive(Clone, Debug)]
pub struct Message {
    /// The account that sends it.
    pub account: AccountId,
    /// The endpoint of that account.
    pub path: Path,
    /// The room; an empty text for a broadcast.
    pub room: Room,
    /// Its priority.
    pub priority: Priority,
    /// Its id.
    pub id: MessageId,
    /// The id of the event and route it came from; siblings share it.
    pub base: BaseId,
    /// The route that made it.
    pub route: RouteId,
    /// What is sent.
    pub content: Arc<Content>,
    /// When it is too late to send it, by the wall clock; `None`: never.
    pub expires: Option<Wall>,
    /// What it is the newest of: it takes the place of an older message of its route and lane with
    /// the same key. `None`: it stands for itself.
    pub conflate: Option<ConflateKey>,
}

/// The value of a route's `conflate`, in 16 bytes whatever its length: a UUIDv5 of its text, so
/// that two values never meet by chance. It lives in this process alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConflateKey(NonZeroU64, u64);

impl ConflateKey {
    /// The key of a value as compact JSON (or any other text that tells values apart).
    pub fn new(value: &str) -> Self {
        let (high, low) = Uuid::new_v5(&Uuid::NAMESPACE_OID, value.as_bytes()).as_u64_pair();
        Self(NonZeroU64::new(high).expect("a UUID has its version in the first half"), low)
    }
}

/// Why something was dropped by a rule that the config states. Each is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DropReason {
    /// `on_expiry = "drop"`.
    Expired,
    /// The route's `rooms` gave none.
    NoRoom,
    /// `on_full = "drop_oldest"`.
    Overflow,
    /// A route with `drop = true`.
    Rule,
    /// A replay request that leads to nothing: it is none, its letter is answered already, or the letter's
    /// value is gone. The log and the letter's row say which.
    Replay,
    /// A record without a value.
    Tombstone,
    /// A directory does not hold the record's key, and says `unknown = "drop"`.
    UnknownKey,
    /// No route took the event and the source says `unmatched = "drop"`.
    Unmatched,
}

impl DropReason {
    /// All reasons.
    pub const ALL: [Self; 8] = [
        Self::Expired,
        Self::NoRoom,
        Self::Overflow,
        Self::Replay,
        Self::Rule,
        Self::Tombstone,
        Self::UnknownKey,
        Self::Unmatched,
    ];

    /// The word for metrics and logs.
    pub fn word(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::NoRoom => "no_room",
            Self::Overflow => "overflow",
            Self::Replay => "replay",
            Self::Rule => "rule",
            Self::Tombstone => "tombstone",
            Self::UnknownKey => "unknown_key",
            Self::Unmatched => "unmatched",
        }
    }
}

/// The class of a letter: `roomcast-class`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// The record is not an event.
    Garbled,
    /// A filter failed, or ran out of its budget.
    Mapping,
    /// No route took it, or a directory does not know its key.
    NoRoute,
    /// The provider would refuse it, so it was not called.
    Invalid,
    /// The provider refused it for good.
    Rejected,
    /// The provider says the room does not exist.
    RoomGone,
    /// Its time-to-live ended.
    Expired,
    /// Its room's queue was full.
    Overflow,
    /// It may have been delivered, and may not be tried again.
    Uncertain,
    /// Tried as often as allowed.
    Exhausted,
}

impl Class {
    /// All classes, in the design's order.
    pub const ALL: [Self; 10] = [
        Self::Garbled,
        Self::Mapping,
        Self::NoRoute,
        Self::Invalid,
        Self::Rejected,
        Self::RoomGone,
        Self::Expired,
        Self::Overflow,
        Self::Uncertain,
        Self::Exhausted,
    ];

    /// The word of the header, of metrics and of `--class`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Garbled => "garbled",
            Self::Mapping => "mapping",
            Self::NoRoute => "no_route",
            Self::Invalid => "invalid",
            Self::Rejected => "rejected",
            Self::RoomGone => "room_gone",
            Self::Expired => "expired",
            Self::Overflow => "overflow",
            Self::Uncertain => "uncertain",
            Self::Exhausted => "exhausted",
        }
    }
}

/// Rooms that an event owes but that cannot be called at all: they go into a letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The base id of the message that is owed; the plan's where no message could be made.
    pub base: BaseId,
    /// The letter's class.
    pub class: Class,
    /// One line: what was found and what would be right.
    pub error: String,
    /// The rooms concerned; empty when no room is known.
    pub rooms: Vec<Room>,
}

/// What the routes make of one record: messages, failures, or both; a plan with neither is a drop
/// and says why.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The route that took the event, if one did.
    pub route: Option<RouteId>,
    /// The account of that route.
    pub account: Option<AccountId>,
    /// The base id of the record's first message; of the record itself when it has no route.
    pub base: BaseId,
    /// What to send. Messages that share `content` by pointer are siblings.
    pub messages: Vec<Message>,
    /// What cannot be sent.
    pub failures: Vec<Failure>,
    /// Why nothing is to be done, when nothing is.
    pub dropped: Option<DropReason>,
    /// How many routes' `when` failed on the event and counted as false.
    pub when_errors: u32,
    /// The directory that was asked for the rooms and does not hold the key.
    pub unknown: Option<DirectoryId>,
    /// That the record is to wait for its key; then there is nothing else in the plan.
    pub waits: Option<Box<Wait>>,
}

/// For what a record waits that has no rooms yet, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// The directory that says `unknown = "wait"`.
    pub directory: DirectoryId,
    /// The key that it does not hold.
    pub key: Arc<str>,
    /// Since the record's arrival; then it becomes a letter. `None`: until the directory is loaded.
    pub at_most: Option<Duration>,
    /// What that letter says.
    pub error: String,
}

/// What is known about the tries of the messages in a letter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tries {
    /// How many calls carried it, whoever's fault; 0 when it was never sent.
    pub attempts: u32,
    /// When the first call was made.
    pub first: Option<Wall>,
    /// When the last call was made.
    pub last: Option<Wall>,
    /// HTTP status of the last answer.
    pub http_status: Option<u16>,
    /// The provider's own code or error word of the last answer.
    pub provider_code: Option<String>,
}

/// An id of a call, unique within a process and never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptId(pub u64);

/// An id of a letter on its way to the dead-letter topic, unique within a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BurialId(pub u64);
