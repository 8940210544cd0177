//! The scheduler: which message is called out when, and what becomes of it.
//!
//! It is handed plans, outcomes and times, and returns [`Effect`]s. One `handle_*`, then
//! [`Scheduler::poll_effect`] until it returns none, then nothing until the next `handle_*` or the
//! time of [`Scheduler::poll_wake`]. It never waits, and what it holds is bounded by the limits it
//! was given: it asks sources to pause before it is full.

mod ahead;
#[cfg(test)]
mod answer_tests;
pub mod backoff;
#[cfg(test)]
mod company_tests;
mod conflate;
#[cfg(test)]
mod conflate_tests;
#[cfg(test)]
mod detail_tests;
mod finish;
pub mod flood;
#[cfg(test)]
mod flood_tests;
mod gate;
mod holdup;
#[cfg(test)]
mod holdup_tests;
pub(in crate::core) mod index;
mod intake;
mod job;
mod lane;
mod login;
mod outcome;
pub(in crate::core) mod pace;
mod pick;
mod pool;
pub(in crate::core) mod quota;
mod reload;
#[cfg(test)]
mod reload_tests;
mod ring;
mod room;
#[cfg(test)]
mod several_tests;
mod shares;
pub mod spare;
#[cfg(test)]
mod spare_tests;
pub mod status;
#[cfg(test)]
mod status_tests;
#[cfg(test)]
mod test_bed;
mod ticket;
mod unrouted;
#[cfg(test)]
mod unrouted_tests;
mod verdict;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use slab::Slab;
use smallvec::SmallVec;

use self::backoff::Retry;
use self::conflate::Newest;
use self::flood::Guard;
use self::gate::Gate;
use self::lane::Lanes;
use self::login::Login;
use self::pick::Turn;
pub use self::quota::LATE;
use self::quota::Quota;
pub use self::reload::Renewal;
use self::shares::Shared;
use self::spare::Spare;
use self::status::{Fate, GateState, PathSnapshot, Snapshot, SourceSnapshot};
use self::ticket::Held;
use self::unrouted::Unrouted;
pub use self::unrouted::Woken;
use super::letter::Letter;
use super::model::{AccountId, AttemptId, BurialId, Epoch, PartitionId, Path, RecordId, RouteId, SourceId};
use super::provider::{Item, Limits, Session};
use super::time::{Mono, Now};

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
    /// Letters of one class and route in a second above which their source pauses; `None`: it never does.
    pub flood_guard: Option<u32>,
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
    /// Whether somebody waits for what becomes of each record: replay requests, whose letters have rows.
    /// Then each is answered for before it is settled.
    pub is_answered: bool,
}

/// What a route says about waiting, failing and giving up.
#[derive(Clone, Debug, PartialEq)]
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
    /// The last message of a record is finished, and somebody waits to hear of it: write it down, for as
    /// long as it takes, and answer with `handle_answered`. The record is held until then.
    Answer(RecordId),
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
        /// The assignment that is meant: a later one begins open.
        epoch: Epoch,
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
    /// `flood_guard`: letters of one class and route come too fast.
    FloodGuard,
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

/// Decides which message is called out when, and what becomes of it.
#[derive(Debug)]
pub struct Scheduler {
    settings: Settings,
    rng: fastrand::Rng,
    held: Held,
    /// Records whose key a directory does not hold yet.
    unrouted: Unrouted,
    lanes: Lanes,
    accounts: Vec<Account>,
    attempts: Slab<Away>,
    made: u64,
    burials: BTreeMap<BurialId, Burial>,
    buried: u64,
    /// Jobs by the time at which they are too late.
    expiries: BTreeSet<(Mono, u32)>,
    /// Full rooms and the partitions they hold back.
    full_rooms: BTreeMap<u32, SmallVec<[u32; 2]>>,
    /// The newest message of each key that conflates.
    newest: Newest,
    flood: Guard,
    effects: VecDeque<Effect>,
    fates: BTreeMap<(Option<AccountId>, Fate), u64>,
    /// Messages that gave way to newer ones, by `RouteId`.
    conflated: Vec<u64>,
    /// The routes that take events, in their order; and those that a reload took away or changed, as
    /// long as something refers to them.
    routes: Vec<RouteId>,
    former: BTreeSet<RouteId>,
    /// When a share ends or grows next of itself.
    shares_due: Mono,
    stopped: bool,
}

#[derive(Debug)]
struct Account {
    login: Login,
    login_failures: u32,
    paths: [PathState; 3],
    shared: Shared,
}

#[derive(Debug)]
struct PathState {
    gate: Gate,
    quota: Quota,
    turn: Turn,
    spare: Spare,
    /// Calls of which at least one message was accepted.
    accepted: u64,
    calls: u64,
}

/// A call that has not answered.
#[derive(Debug)]
struct Away {
    id: AttemptId,
    account: AccountId,
    path: Path,
    jobs: SmallVec<[u32; 2]>,
    session: Option<Arc<Session>>,
}

/// A letter that is not confirmed.
#[derive(Debug)]
struct Burial {
    record: u32,
    id: RecordId,
    account: Option<AccountId>,
    route: Option<RouteId>,
    class: super::model::Class,
    messages: u64,
}

impl Scheduler {
    /// A scheduler that has sent nothing. Every quota slot is taken at first, as long as an earlier
    /// process may still be counted by the provider.
    pub fn new(settings: Settings, now: Now) -> Self {
        let accounts = settings.accounts.iter().map(|account| Account {
            login: Login::new(account.needs_login, now.mono),
            login_failures: 0,
            paths: account.limits.paths.each_ref().map(|quota| PathState {
                gate: Gate::new(quota.calls_per_day),
                quota: Quota::new(quota, now.mono),
                turn: Turn::default(),
                spare: Spare::default(),
                accepted: 0,
                calls: 0,
            }),
            shared: Shared::default(),
        });
        Self {
            accounts: accounts.collect(),
            rng: fastrand::Rng::with_seed(settings.seed),
            held: Held::new(&settings.sources),
            unrouted: Unrouted::default(),
            lanes: Lanes::new(settings.accounts.iter().map(|account| &account.limits)),
            attempts: Slab::new(),
            made: 0,
            burials: BTreeMap::new(),
            buried: 0,
            expiries: BTreeSet::new(),
            full_rooms: BTreeMap::new(),
            newest: Newest::default(),
            flood: Guard::new(settings.flood_guard),
            effects: VecDeque::new(),
            fates: BTreeMap::new(),
            conflated: vec![0; settings.routes.len()],
            routes: (0..).take(settings.routes.len()).map(RouteId).collect(),
            former: BTreeSet::new(),
            shares_due: Mono(u64::MAX),
            stopped: false,
            settings,
        }
    }

    /// Sends nothing new from now on; calls away and letters still land.
    pub fn stop(&mut self) {
        self.stopped = true;
    }

    /// The process stood still for longer than others wait for it: whatever is held may have been
    /// sent by them, and its next try says so. Walks all messages.
    pub fn handle_frozen(&mut self) {
        self.lanes.mark_all_maybe_sent();
        self.unrouted.mark_all_maybe_sent();
    }

    /// After [`Scheduler::stop`]: whether nothing is on its way any more.
    pub fn is_idle(&self) -> bool {
        self.attempts.is_empty()
            && self.burials.is_empty()
            && self.held.all_are_answered()
            && self.effects.is_empty()
    }

    /// Calls that have not answered.
    pub fn calls_away(&self) -> usize {
        self.attempts.len()
    }

    /// How many sources there are.
    pub fn sources(&self) -> u16 {
        self.held.sources()
    }

    /// Everything at one moment, for metrics and status. Walks accounts and partitions, not rooms.
    pub fn snapshot(&self, now: Now) -> Snapshot {
        let ids = (0..self.held.sources()).map(SourceId);
        Snapshot {
            fates: self.fates.clone(),
            conflated: self.conflated_by_name(),
            sources: ids
                .map(|id| SourceSnapshot { floods: self.flood.times(id), ..self.held.snapshot(id) })
                .collect(),
            accounts: self
                .accounts
                .iter()
                .enumerate()
                .map(|(index, account)| {
                    Path::ALL.map(|path| self.path_snapshot(index, account, path, now.mono))
                })
                .collect(),
            waiting_for_keys: self.unrouted.counts(),
            rooms: self.lanes.rooms(),
            calls_away: self.attempts.len(),
            letters_waiting: self.burials.len(),
        }
    }

    fn path_snapshot(&self, index: usize, account: &Account, path: Path, now: Mono) -> PathSnapshot {
        let state = &account.paths[path as usize];
        let mut gate = state.gate.state(now);
        if account.login.is_held() && gate == GateState::Open {
            gate = GateState::LoggingIn;
        }
        let mut waiting = self.lanes.waiting(index * Path::ALL.len() + path as usize);
        if gate != GateState::Open {
            waiting.gate = std::mem::take(&mut waiting.quota);
        } else if state.quota.is_shut() {
            waiting.share = std::mem::take(&mut waiting.quota);
        }
        PathSnapshot {
            gate,
            calls: state.calls,
            slots: state.quota.calls.limit(),
            share: state.quota.calls.share(),
            slots_waiting_for_answer: state.quota.calls.away(),
            slots_cooling: state.quota.calls.cooling(),
            background: state.spare.left(state.quota.allowed(), now),
            waiting,
        }
    }

    fn count(&mut self, account: Option<AccountId>, fate: Fate, messages: u64) {
        *self.fates.entry((account, fate)).or_default() += messages;
    }
}
