//! What the scheduler tells of itself: counters and the causes of waiting. Plain data, for metrics
//! and the admin API; nothing decides by it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::core::model::{
    AccountId, Class, DirectoryId, DropReason, Epoch, PartitionId, Path, Priority, Room, Tries,
};
use crate::core::provider::Acceptance;
use crate::core::time::Mono;

/// What became of a message (or of a record that made none).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fate {
    /// The provider has it.
    Accepted(Acceptance),
    /// Dropped by a rule that the config states.
    Dropped(DropReason),
    /// In a confirmed letter.
    Buried(Class),
    /// A newer message of its lane took its place while it waited.
    Conflated,
}

impl Fate {
    /// Two words for metrics: the fate (`accepted`, `dropped`, `letter`, `conflated`) and its kind.
    pub fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Accepted(how) => ("accepted", how.word()),
            Self::Dropped(why) => ("dropped", why.word()),
            Self::Buried(class) => ("letter", class.word()),
            Self::Conflated => ("conflated", "replaced"),
        }
    }
}

/// Everything at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Messages by account and fate, since the start; the account is `None` where no route was found.
    pub fates: BTreeMap<(Option<AccountId>, Fate), u64>,
    /// Messages that gave way to newer ones, by the names of the routes: those that take events in
    /// their order, then those that are no more and of which something is left.
    pub conflated: Vec<(Arc<str>, u64)>,
    /// By `SourceId`.
    pub sources: Vec<SourceSnapshot>,
    /// By `AccountId`, then by `Path as usize`.
    pub accounts: Vec<[PathSnapshot; 3]>,
    /// Records that wait until a directory holds their key.
    pub waiting_for_keys: BTreeMap<DirectoryId, usize>,
    /// Rooms in memory, over all accounts.
    pub rooms: usize,
    /// Calls away, over all accounts.
    pub calls_away: usize,
    /// Letters on their way to the dead-letter topic.
    pub letters_waiting: usize,
}

/// One source at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceSnapshot {
    /// Records received since the start.
    pub received: u64,
    /// Records settled since the start.
    pub settled: u64,
    /// Records held.
    pub held_records: usize,
    /// Bytes held.
    pub held_bytes: usize,
    /// Records it may hold.
    pub max_held_records: usize,
    /// Bytes it may hold.
    pub max_held_bytes: usize,
    /// Whether it is asked to read.
    pub intake_open: bool,
    /// Since when it is not.
    pub closed_since: Option<Mono>,
    /// Partitions that are asked to pause by themselves.
    pub paused_partitions: usize,
    /// Of those, by the bounds at which they stand, by `Bound as usize`; one may stand at two.
    pub paused_at: [usize; 5],
    /// How often its letters came so fast that it was paused.
    pub floods: u64,
}

/// What a partition can stand at when it pauses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bound {
    /// A room of it has no place left.
    WaitingPerRoom,
    /// Its part of the records that its source may hold, or all of them.
    HeldRecords,
    /// Its part of the bytes that its source may hold, or all of them.
    HeldBytes,
    /// The metadata of its commit: what is finished above a record that waits (Kafka).
    CommitMetadata,
    /// The letters of its source come too fast.
    FloodGuard,
}

impl Bound {
    /// All bounds, in the order of their discriminants.
    pub const ALL: [Self; 5] =
        [Self::WaitingPerRoom, Self::HeldRecords, Self::HeldBytes, Self::CommitMetadata, Self::FloodGuard];

    /// The key of `[limits]`, where there is one; for logs, metrics and status.
    pub fn word(self) -> &'static str {
        match self {
            Self::WaitingPerRoom => "max_waiting_per_room",
            Self::HeldRecords => "max_held_records",
            Self::HeldBytes => "max_held_bytes",
            Self::CommitMetadata => "commit_metadata",
            Self::FloodGuard => "flood_guard",
        }
    }
}

/// A partition that takes nothing more, and what it waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holdup {
    /// The partition.
    pub partition: PartitionId,
    /// Its assignment.
    pub epoch: Epoch,
    /// The bounds at which it stands, as far as the scheduler knows them.
    pub bounds: Vec<Bound>,
    /// Since when, if the scheduler asked for it.
    pub since: Option<Mono>,
    /// Records it holds.
    pub held_records: usize,
    /// Records that are its part.
    pub part_records: usize,
    /// Bytes it holds.
    pub held_bytes: usize,
    /// Bytes that are its part.
    pub part_bytes: usize,
    /// How old its oldest record is, by the broker's timestamp: what holds the commit back.
    pub oldest: Duration,
    /// Records that wait for nothing but their letters to be written.
    pub letters: usize,
    /// Records that wait until a directory holds their key.
    pub waiting_for_keys: usize,
    /// Rooms that hold messages of it, all of them.
    pub rooms_waiting: usize,
    /// Those that matter most: full ones first, then those that hold most of its messages.
    pub rooms: Vec<WaitingRoom>,
}

/// A room that holds messages of a partition, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitingRoom {
    /// The account.
    pub account: AccountId,
    /// The path of it.
    pub path: Path,
    /// The room; empty for broadcasts.
    pub room: Room,
    /// The lane whose first message is the oldest.
    pub priority: Priority,
    /// Messages of the partition in the room.
    pub of_partition: usize,
    /// All messages in the room, of whatever partition.
    pub messages: usize,
    /// What the lane's first message waits for.
    pub cause: Cause,
    /// When that may be over, where a time is known.
    pub until: Option<Duration>,
    /// How old the lane's first message is, by its record's timestamp.
    pub oldest: Duration,
    /// What was tried for the lane's first message.
    pub tries: Tries,
}

/// What a message that heads its lane waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// A quota slot, or its turn.
    Quota,
    /// The pace of its room.
    Pace,
    /// The time of its repeat.
    Backoff,
    /// The answer of its call.
    Answer,
    /// The gate of its path.
    Gate(GateCause),
    /// A login.
    Login,
}

impl Cause {
    /// The word for logs and status.
    pub fn word(self) -> &'static str {
        match self {
            Self::Quota => "quota",
            Self::Pace => "room pace",
            Self::Backoff => "backoff",
            Self::Answer => "answer",
            Self::Gate(cause) => cause.word(),
            Self::Login => "login",
        }
    }
}

/// One path of an account at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PathSnapshot {
    /// Whether calls may be made, and if not, why.
    pub gate: GateState,
    /// Calls made since the start.
    pub calls: u64,
    /// Slots for calls in a second: how many there are.
    pub slots: u32,
    /// Of those, how many this process may use.
    pub share: u32,
    /// Of those, how many are taken by calls that have not answered yet.
    pub slots_waiting_for_answer: u32,
    /// Of those, how many are taken by calls that answered less than a second ago.
    pub slots_cooling: u32,
    /// The part (0 to 1) of the quota that the background, which replays are, has now: what live traffic of the
    /// last seconds leaves.
    pub background: f64,
    /// Messages by what they wait for.
    pub waiting: Waiting,
}

/// Messages that wait, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Ready: only a quota slot or their turn is missing.
    pub quota: usize,
    /// Ready, but other replicas have all slots of some quota; these are counted here alone.
    pub share: usize,
    /// Their room's pace.
    pub pace: usize,
    /// A repeat that is not due yet.
    pub backoff: usize,
    /// Behind another message of their lane.
    pub order: usize,
    /// The gate (ban, outage) is closed or the login is under way; these are counted here alone.
    pub gate: usize,
}

/// The state of a gate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum GateState {
    /// Calls are made.
    #[default]
    Open,
    /// No call is made for the time given, then one probes.
    Closed {
        /// Why.
        cause: GateCause,
        /// How long still.
        reopens_in: Duration,
        /// What the provider said, or what went wrong.
        text: String,
    },
    /// One call is away to see whether it works again.
    Probing {
        /// Why it was closed.
        cause: GateCause,
    },
    /// No session yet: the login is under way or waits to be repeated.
    LoggingIn,
}

/// Why a gate closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GateCause {
    /// The provider said that too much was sent.
    Ban,
    /// Calls fail and no other is accepted.
    Outage,
    /// Many refusals in a row, or the account itself is refused.
    Refused,
    /// The quota of the UTC day is used up.
    DayQuota,
}

impl GateCause {
    /// The word for logs and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ban => "ban",
            Self::Outage => "outage",
            Self::Refused => "refused",
            Self::DayQuota => "day_quota",
        }
    }
}
