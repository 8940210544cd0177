//! What the scheduler tells of itself: counters and the causes of waiting. Plain data, for metrics
//! and the admin API; nothing decides by it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::core::model::{AccountId, Class, DropReason};
use crate::core::provider::Acceptance;

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
    /// Messages that gave way to newer ones since the start, by `RouteId`.
    pub conflated: Vec<u64>,
    /// By `SourceId`.
    pub sources: Vec<SourceSnapshot>,
    /// By `AccountId`, then by `Path as usize`.
    pub accounts: Vec<[PathSnapshot; 3]>,
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
    /// Whether it is asked to read.
    pub intake_open: bool,
    /// Partitions that are asked to pause because a room of theirs is full.
    pub paused_partitions: usize,
}

/// One path of an account at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PathSnapshot {
    /// Whether calls may be made, and if not, why.
    pub gate: GateState,
    /// Calls made since the start.
    pub calls: u64,
    /// Slots for calls in a second: how many there are.
    pub slots: u32,
    /// Of those, how many are taken by calls that have not answered yet.
    pub slots_waiting_for_answer: u32,
    /// Of those, how many are taken by calls that answered less than a second ago.
    pub slots_cooling: u32,
    /// Messages by what they wait for.
    pub waiting: Waiting,
}

/// Messages that wait, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Ready: only a quota slot or their turn is missing.
    pub quota: usize,
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
