//! The scheduler: which message is called out when, and what becomes of it.
//!
//! It is handed plans, outcomes and times, and returns [`Effect`]s. One `handle_*`, then
//! [`Scheduler::poll_effect`] until it returns none, then nothing until the next `handle_*` or the
//! time of [`Scheduler::poll_wake`]. It never waits, and what it holds is bounded by the limits it
//! was given: it asks sources to pause before it is full.

pub mod backoff;
pub mod status;

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use self::backoff::Retry;
use super::letter::Letter;
use super::model::{AccountId, AttemptId, BurialId, Epoch, PartitionId, Path, RecordId, SourceId};
use super::provider::{Item, Limits, Session};

/// What the scheduler is told once, at the start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Accounts, by [`AccountId`].
    pub accounts: Vec<AccountSettings>,
    /// Routes, by `RouteId`.
    pub routes: Vec<RoutePolicy>,
    /// Sources, by [`SourceId`].
    pub sources: Vec<SourceSettings>,
    /// Messages that may wait in one room before `on_full` is asked.
    pub max_waiting_per_room: usize,
    /// How long a room that the provider calls gone gets no calls; zero: never learned.
    pub room_gone: Duration,
    /// Seed of all randomness.
    pub seed: u64,
}

/// What the scheduler knows of an account.
#[derive(Clone, Debug)]
pub struct AccountSettings {
    /// What it may send.
    pub limits: Limits,
    /// How long one call may take.
    pub timeout: Duration,
    /// Whether calls need a session that a login brings.
    pub needs_login: bool,
    /// How many base URLs there are: so many unreachable ones are tried at once before waiting.
    pub base_urls: usize,
}

/// What the scheduler knows of a source.
#[derive(Clone, Copy, Debug)]
pub struct SourceSettings {
    /// Records that may be held.
    pub held_records: usize,
    /// Bytes that may be held.
    pub held_bytes: usize,
}

/// What a route says about waiting, failing and giving up.
#[derive(Clone, Debug)]
pub struct RoutePolicy {
    /// Its name.
    pub name: Arc<str>,
    /// How failures are repeated.
    pub retry: Retry,
    /// What becomes of a message whose time is over.
    pub on_expiry: OnExpiry,
    /// What becomes of a message whose room is full.
    pub on_full: OnFull,
}

/// `on_expiry`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnExpiry {
    /// Dropped and counted.
    #[default]
    Drop,
    /// A letter of class `expired`.
    DeadLetter,
}

/// `on_full`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFull {
    /// The partition that holds it pauses until the room has a place.
    #[default]
    Wait,
    /// The oldest message of the room is dropped, and counted.
    DropOldest,
    /// The new message becomes a letter of class `overflow`.
    DeadLetter,
}

/// What the shell is to do.
#[derive(Debug)]
pub enum Effect {
    /// Make a call and answer with `handle_outcome`.
    Send(Attempt),
    /// Log the account in and answer with `handle_login`.
    Login(AccountId),
    /// Write a letter, for as long as it takes, and answer with `handle_buried`.
    Bury(BurialId, Box<Letter>),
    /// Write the day's count of calls of that account and path to the table, and answer with
    /// `handle_counted`.
    Count {
        /// The account.
        account: AccountId,
        /// The path that has a quota by the day.
        path: Path,
        /// The UTC day, counted from 1970-01-01.
        utc_day: i64,
        /// Calls of that day, with the one that is about to be made.
        calls: u32,
    },
    /// The record's last message is finished.
    Settle(RecordId),
    /// No call of that partition is away any more: it may be given up.
    Released(SourceId, PartitionId, Epoch),
    /// Take nothing more from a source, or go on.
    Intake {
        /// The source.
        source: SourceId,
        /// Whether to take more.
        open: bool,
        /// Why not; for logs and status.
        why: IntakeReason,
    },
    /// Take nothing more from one partition, or go on.
    PartitionIntake {
        /// The source.
        source: SourceId,
        /// The partition.
        partition: PartitionId,
        /// Whether to take more.
        open: bool,
    },
}

/// What stands at its bound when a source is asked to pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntakeReason {
    /// `max_held_records`.
    HeldRecords,
    /// The source's part of `max_held_bytes`.
    HeldBytes,
}

/// One call, about to be made.
#[derive(Debug)]
pub struct Attempt {
    /// Its id: the answer comes back under it.
    pub id: AttemptId,
    /// Who sends.
    pub account: AccountId,
    /// Where to.
    pub path: Path,
    /// What it carries.
    pub items: Items,
    /// The session to use, where the account has one.
    pub session: Option<Arc<Session>>,
}

/// The items of one call; one in most calls.
pub type Items = SmallVec<[Item; 1]>;
