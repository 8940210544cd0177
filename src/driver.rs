//! The one loop: what arrives, what was answered and what is due go into the scheduler, and what it
//! decides is done.
//!
//! The loop owns the scheduler and never waits for anything but its channels: calls, logins, letters
//! and counts run in tasks of their own and answer over one unbounded channel, which can never hold
//! more than what is under way. Only the inbox is bounded; commands to a source are at most one for
//! each record held, so no ring of full channels can lock up. What a record means is the routes'
//! business, when and how often a message is sent the scheduler's; this file decides neither.

mod counts;
mod directories;
mod ending;
mod handle;
mod letters;
mod reload;
mod replays;
mod report;
mod shares;
mod sources;
mod stats;
mod tasks;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tracing::{debug, error, info, warn};

pub use self::directories::{DirectoryParts, DirectoryReport, Lookups};
pub use self::handle::{Detail, FloodReport, Handle, Paused, Report, SourceReport, SourceState};
pub use self::reload::{AccountReload, ConfigReport, MakePlanner, Reload, ReloadResult, Reread};
pub use self::replays::{ReplayParts, Replays};
pub use self::shares::Leases;
pub use self::stats::{AccountStats, BOUNDS_MS, Histogram, OUTCOMES};

use self::counts::Counts;
use self::directories::Shelf;
use self::handle::{Pulse, Request};
use self::letters::Desk;
use self::replays::ReplayDesk;
use self::report::{ConflationLog, Filled, PauseLog};
use self::shares::Shares;
use self::stats::GateLog;
use self::tasks::Reply;
use crate::broker::{Arrival, Command, Followed, Started};
use crate::clock::Clock;
use crate::core::letter::Names;
use crate::core::model::{Epoch, PartitionId, Plan, Record, SourceId};
use crate::core::provider::{LoginFault, Outcome, Provider};
use crate::core::route::directory::Directories;
use crate::core::schedule::{Effect, IntakeReason, Scheduler, Woken};
use crate::core::share::Quotas;
use crate::core::share::settings::Sharing;
use crate::core::time::{Mono, Now};
use crate::http;

/// Arrivals and replies taken in one turn. Enough to make the cost of a turn vanish; at 10 µs for
/// planning a record a turn stays under a millisecond.
const BATCH: usize = 64;
/// The longest time between two turns: what [`Handle::is_live`] rests on.
const TICK: Duration = Duration::from_secs(1);
/// A loop that has not turned for so long was frozen. No broker gives what it holds to others sooner.
const FROZEN: Duration = Duration::from_secs(3);
/// How long after that what a source hands on may have been handed to others: until it has learned.
const DOUBT: Duration = Duration::from_secs(30);
/// After the drain: how long sources may take to commit, give back and end.
const STOP_WITHIN: Duration = Duration::from_secs(4);
/// The least time between two log lines about the same trouble.
pub(crate) const LOG_EVERY: Duration = Duration::from_secs(10);

/// What a record becomes: the routes, as the loop sees them.
pub type Planner = Box<dyn Fn(&Record, &Directories) -> Plan + Send>;

/// What a driver is made of.
pub struct Parts {
    /// The clock whose readings the scheduler was made with.
    pub clock: Clock,
    /// The scheduler, new.
    pub scheduler: Scheduler,
    /// The routes.
    pub planner: Planner,
    /// Accounts, by `AccountId`.
    pub accounts: Vec<AccountParts>,
    /// Started sources, by `SourceId`.
    pub sources: Vec<Started>,
    /// The other end of the sources' inbox.
    pub inbox: mpsc::Receiver<Arrival>,
    /// Names for letters and logs.
    pub names: Arc<Names>,
    /// How long calls and letters may take to land once a stop was asked for.
    pub drain_timeout: Duration,
    /// Those who keep leases of quotas.
    pub leases: Leases,
    /// The directories, and those who keep them.
    pub lookups: Lookups,
    /// The sources that are requests for replays.
    pub replays: Replays,
}

/// What the driver needs of one account.
pub struct AccountParts {
    /// What its calls look like.
    pub provider: Arc<dyn Provider>,
    /// What makes them.
    pub client: Arc<http::Client>,
    /// The source beside whose letters the account's calls of the day are counted: the first, by
    /// name, that feeds it. `None`: nothing is written, and the counts do not outlive the process.
    pub counted_by: Option<SourceId>,
    /// How replicas share its quotas.
    pub sharing: Sharing,
    /// What is shared.
    pub quotas: Quotas,
}

/// How a driver ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Every call away was answered, every letter confirmed, every source has ended.
    Drained,
    /// Time ran out, or a source could not say its last word. Nothing is lost: what is not settled
    /// comes again.
    TimedOut,
}

/// One account, shared by the tasks that call for it.
struct Account {
    name: Arc<str>,
    provider: Arc<dyn Provider>,
    client: Arc<http::Client>,
}

/// One source at work.
struct Source {
    name: Arc<str>,
    commands: mpsc::UnboundedSender<Command>,
    desk: Desk,
    /// What is known of its requests, where its records are requests for replays.
    replays: Option<ReplayDesk>,
    /// What is assigned, with the names that people know partitions by.
    partitions: BTreeMap<PartitionId, (Epoch, Arc<str>)>,
    /// Of those, what is known of their commits' metadata.
    filled: BTreeMap<PartitionId, Filled>,
    report: SourceReport,
}

/// Where the loop stands on its way to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    /// Nothing new is sent; what is away may land until then.
    Draining(Mono),
    /// Sources were told to end, and have until then.
    Stopping {
        until: Mono,
        drained: bool,
    },
}

/// The loop and all it owns.
pub struct Driver {
    clock: Clock,
    scheduler: Scheduler,
    planner: Planner,
    accounts: Vec<Arc<Account>>,
    sources: Vec<Source>,
    inbox: mpsc::Receiver<Arrival>,
    replies: mpsc::UnboundedReceiver<Reply>,
    answer_to: mpsc::UnboundedSender<Reply>,
    requests: mpsc::UnboundedReceiver<Request>,
    pulse: Arc<Pulse>,
    names: Arc<Names>,
    counts: Counts,
    /// Rows of the tables beside the letters, as they change.
    rows: Option<mpsc::Receiver<(SourceId, Followed)>>,
    shares: Shares,
    shelf: Shelf,
    stats: Vec<AccountStats>,
    gates: GateLog,
    pauses: PauseLog,
    conflation: ConflationLog,
    config: ConfigReport,
    drain_timeout: Duration,
    phase: Phase,
    next_tick: Mono,
    /// Records that come before count as maybe tried: others may have had them.
    doubtful_until: Mono,
}

impl Driver {
    /// A driver over these parts, and the handle that asks it things. Called within a tokio runtime:
    /// it begins to read the counts of the day and to watch for the end of sources.
    pub fn new(parts: Parts) -> (Self, Handle) {
        let (answer_to, replies) = mpsc::unbounded_channel();
        let (ask, requests) = mpsc::unbounded_channel();
        let pulse = Arc::new(Pulse::default());
        let handle = Handle::new(ask, pulse.clone(), parts.clock);
        let names = parts.names;
        let name_of = |list: &[Arc<str>], n: usize| list.get(n).cloned().unwrap_or_else(|| Arc::from("?"));
        let tables: Vec<_> = parts.sources.iter().map(|source| source.table.clone()).collect();
        let mut sources = Vec::new();
        for (n, started) in parts.sources.into_iter().enumerate() {
            let id = SourceId(u16::try_from(n).expect("a config has fewer than 65,536 sources"));
            tasks::watch_end(id, started.ended, answer_to.clone());
            sources.push(Source {
                name: name_of(&names.sources, n),
                commands: started.commands,
                desk: Desk::new(started.letters),
                replays: None,
                partitions: BTreeMap::new(),
                filled: BTreeMap::new(),
                report: SourceReport::default(),
            });
        }
        for ReplayParts { source, of, book } in parts.replays.of {
            let n = usize::from(source.0);
            let (table, reads) = (tables[n].clone(), of.is_empty());
            sources[n].replays = Some(ReplayDesk { book, table, of, reads, is_current: false });
        }
        let counts = Counts::new(&parts.accounts, &names, &tables, answer_to.clone());
        let shares = Shares::new(&parts.accounts, parts.leases);
        let config = ConfigReport { loaded_at: parts.clock.wall(), generation: 1, ..ConfigReport::default() };
        let accounts: Vec<_> = parts
            .accounts
            .into_iter()
            .enumerate()
            .map(|(n, account)| {
                let name = name_of(&names.accounts, n);
                Arc::new(Account { name, provider: account.provider, client: account.client })
            })
            .collect();
        let mut driver = Self {
            clock: parts.clock,
            scheduler: parts.scheduler,
            planner: parts.planner,
            stats: vec![AccountStats::default(); accounts.len()],
            gates: GateLog::new(accounts.iter().map(|account| account.name.clone()).collect()),
            pauses: PauseLog::default(),
            conflation: ConflationLog::default(),
            config,
            accounts,
            sources,
            inbox: parts.inbox,
            replies,
            answer_to,
            requests,
            pulse,
            names,
            counts,
            rows: parts.replays.rows,
            shares,
            shelf: Shelf::new(parts.lookups),
            drain_timeout: parts.drain_timeout,
            phase: Phase::Running,
            next_tick: Mono(0),
            doubtful_until: Mono(0),
        };
        driver.await_directories();
        (driver, handle)
    }

    /// Turns until a stop was asked for and has come to its end, or every source has ended.
    pub async fn run(mut self) -> Ended {
        let mut arrivals = Vec::with_capacity(BATCH);
        let mut replies = Vec::with_capacity(BATCH);
        let mut timer = std::pin::pin!(tokio::time::sleep(Duration::ZERO));
        let mut timer_at = Mono(0);
        let mut inbox_open = true;
        let (mut updated, mut changed) = (None, None);
        let mut now = self.clock.now();
        let uncounted = self.counts.without_table(now.wall);
        self.restore(&uncounted);
        self.begin_shares(now);
        loop {
            let wake = self.wake(now);
            if wake != timer_at {
                timer_at = wake;
                if let Some(at) = self.clock.instant(wake) {
                    timer.as_mut().reset(at.into());
                }
            }
            tokio::select! {
                biased;
                _ = self.replies.recv_many(&mut replies, BATCH) => {}
                taken = self.inbox.recv_many(&mut arrivals, BATCH), if inbox_open && self.shelf.woken.is_empty() => {
                    inbox_open = taken > 0;
                }
                Some(request) = self.requests.recv() => self.handle_request(request),
                Some((account, told)) = Shares::told(&mut self.shares.leases) => {
                    self.handle_told(account, told, self.clock.now());
                }
                update = Shelf::told(&mut self.shelf.updates), if self.shelf.woken.is_empty() => updated = update,
                rows = replays::told(&mut self.rows) => changed = rows,
                () = &mut timer => timer_at = Mono(u64::MAX),
                () = std::future::ready(()), if !self.shelf.woken.is_empty() => {}
            }
            // Whatever ended the wait, what else is there joins this turn, so that none starves.
            while self.shelf.woken.is_empty()
                && arrivals.len() < BATCH
                && let Ok(arrival) = self.inbox.try_recv()
            {
                arrivals.push(arrival);
            }
            while let Ok(request) = self.requests.try_recv() {
                self.handle_request(request);
            }
            let before = std::mem::replace(&mut now, self.clock.now());
            if now.mono.since(before.mono) >= FROZEN {
                self.thaw(now);
            }
            for reply in replies.drain(..) {
                self.handle_reply(reply, now);
                self.do_effects(now);
            }
            for arrival in arrivals.drain(..) {
                self.handle_arrival(arrival, now);
                self.do_effects(now);
            }
            self.note_rows(changed.take());
            self.turn_directories(updated.take(), now);
            self.do_effects(now);
            if now.mono >= self.next_tick {
                self.tick(now);
            }
            if let Some(ended) = self.step(now) {
                return ended;
            }
        }
    }

    /// The process stood still: others may have sent what waits here, and what comes from sources
    /// that do not know it yet (P3).
    fn thaw(&mut self, now: Now) {
        warn!("the process was frozen: what waits may have been sent by others, and says so");
        self.scheduler.handle_frozen();
        self.shelf.woken.iter_mut().for_each(Woken::mark_maybe_sent);
        self.doubt_shares(now);
        self.doubtful_until = now.mono + DOUBT;
    }

    /// When the loop turns at the latest.
    fn wake(&mut self, now: Now) -> Mono {
        let end = match self.phase {
            Phase::Running => self.next_tick,
            Phase::Draining(until) | Phase::Stopping { until, .. } => self.next_tick.min(until),
        };
        self.scheduler.poll_wake(now).map_or(end, |wake| wake.min(end))
    }

    /// What is done once a second: the pulse that liveness rests on, and a look at the gates.
    fn tick(&mut self, now: Now) {
        self.next_tick = now.mono + TICK;
        self.pulse.beat(now.mono);
        self.tick_shares(now);
        let snapshot = self.scheduler.snapshot(now);
        self.gates.look(&snapshot, now.mono);
        self.conflation.look(&snapshot, now.mono);
        self.tell_pauses(&snapshot, now);
    }

    fn handle_request(&mut self, request: Request) {
        let now = self.clock.now();
        match request {
            Request::Report { answer, detail } => {
                // Whoever asked may have gone away meanwhile.
                let _ = answer.send(self.report(now, detail));
            }
            Request::Reread { reread, answer } => {
                let taken = self.handle_reread(reread, now);
                let _ = answer.send(taken);
            }
            Request::LettersSeen => {
                self.scheduler.handle_looked_at(now.mono);
                self.do_effects(now);
            }
            Request::Stop if self.phase == Phase::Running => {
                info!(within = ?self.drain_timeout, "stopping: nothing new is sent, calls and letters may land");
                self.scheduler.stop();
                self.tell_all(&Command::Intake(false));
                self.phase = Phase::Draining(now.mono + self.drain_timeout);
            }
            Request::Stop => {}
        }
    }

    fn handle_reply(&mut self, reply: Reply, now: Now) {
        match reply {
            Reply::Called { attempt, account, path, outcomes, took } => {
                let name = &self.accounts[usize::from(account.0)].name;
                for outcome in &outcomes {
                    tasks::log_outcome(name, path, outcome, took);
                }
                // A gate may have closed on it: look now rather than at the next tick.
                if outcomes.iter().any(|outcome| !matches!(outcome, Outcome::Accepted(_))) {
                    self.next_tick = self.next_tick.min(self.gates.next_look(now.mono));
                }
                self.share_ban(account, path, &outcomes, now);
                self.stats[usize::from(account.0)].called(path, &outcomes, took);
                self.scheduler.handle_outcome(attempt, &outcomes, now);
            }
            Reply::LoggedIn { account, result } => {
                let name = &self.accounts[usize::from(account.0)].name;
                match &result {
                    Ok(session) => debug!(account = %name, lifetime = ?session.lifetime, "logged in"),
                    Err(LoginFault::Refused(trouble)) => {
                        error!(account = %name, status = trouble.status, code = trouble.code, text = trouble.text, "the provider refuses the login: look at the account's credentials");
                    }
                    Err(LoginFault::Failed(trouble)) => {
                        warn!(account = %name, status = trouble.status, code = trouble.code, text = trouble.text, "the login failed");
                    }
                }
                self.stats[usize::from(account.0)].logged_in(result.is_ok());
                self.scheduler.handle_login(account, result, now);
            }
            Reply::Written { source, burial } => {
                let of = self.source(source);
                of.desk.written(&of.name);
                self.scheduler.handle_buried(burial, now);
            }
            Reply::NotWritten { source, error } => {
                let of = self.source(source);
                of.desk.not_written(&of.name, &error, now.mono);
            }
            Reply::Answered { record } => self.scheduler.handle_answered(record, now),
            Reply::Loaded { source, rows } => {
                let used = self.counts.loaded(source, &rows, now.wall);
                self.restore(&used);
            }
            Reply::Counted { account, path } => self.scheduler.handle_counted(account, path, now),
            Reply::SourceEnded { source, result } => self.handle_source_end(source, result, now),
        }
    }

    /// Does everything that the scheduler wants done by now.
    fn do_effects(&mut self, now: Now) {
        while let Some(effect) = self.scheduler.poll_effect(now) {
            match effect {
                Effect::Send(attempt) => {
                    let account = self.accounts[usize::from(attempt.account.0)].clone();
                    tasks::call(account, attempt, self.clock, self.answer_to.clone());
                }
                Effect::Login(id) => {
                    let account = self.accounts[usize::from(id.0)].clone();
                    tasks::login(account, id, self.answer_to.clone());
                }
                Effect::Bury(burial, letter) => {
                    self.note_failure(&letter);
                    let (names, clock, answer_to) = (self.names.clone(), self.clock, self.answer_to.clone());
                    self.source(letter.record.id.source).desk.write(burial, *letter, names, clock, answer_to);
                }
                Effect::Count { account, path, utc_day, calls } => {
                    self.counts.write(account, path, utc_day, calls, now.wall);
                }
                Effect::Answer(record) => self.answer(record, now),
                Effect::Settle(record) => self.tell(record.source, Command::Settle(record)),
                Effect::Released(source, partition, epoch) => {
                    self.forget_requests(source, &[(partition, epoch)]);
                    self.tell(source, Command::Released(partition, epoch));
                }
                Effect::Intake { source, open, why } => {
                    let of = self.source(source);
                    debug!(source = %of.name, open, ?why, "intake");
                    of.report.paused_by = (!open).then_some(why);
                    if why == IntakeReason::FloodGuard {
                        self.tell_flood(source, open, now);
                    }
                    // While draining every intake stays closed, whatever room there is.
                    if self.phase == Phase::Running || !open {
                        self.tell(source, Command::Intake(open));
                    }
                }
                Effect::PartitionIntake { source, partition, epoch, open } => {
                    debug!(source = %self.source(source).name, partition = partition.0, open, "intake of a partition");
                    self.tell(source, Command::PartitionIntake(partition, epoch, open));
                }
            }
        }
    }

    fn source(&mut self, id: SourceId) -> &mut Source {
        &mut self.sources[usize::from(id.0)]
    }

    /// Tells a source something; one that has ended does not hear it, and needs not.
    fn tell(&mut self, source: SourceId, command: Command) {
        let _ = self.source(source).commands.send(command);
    }

    fn tell_all(&mut self, command: &Command) {
        for source in &self.sources {
            let _ = source.commands.send(command.clone());
        }
    }
}
