//! What others may ask of the loop: how things are, whether it turns, and to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::directories::DirectoryReport;
use super::reload::{ConfigReport, Reread};
use super::stats::AccountStats;
use crate::clock::Clock;
use crate::core::model::{AccountId, Class, Path, Room};
use crate::core::replay::Counts;
use crate::core::schedule::IntakeReason;
use crate::core::schedule::status::{Holdup, Snapshot};
use crate::core::share::Standing;
use crate::core::time::{Mono, Wall};

/// A loop that has not turned for so long is not alive. It turns once a second at least.
const LIVE_WITHIN: Duration = Duration::from_secs(10);

/// What the loop lets others see without asking it.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    last: AtomicU64,
    ready: AtomicBool,
    source_dead: AtomicBool,
}

impl Pulse {
    /// The loop turned.
    pub(super) fn beat(&self, now: Mono) {
        self.last.store(now.0, Ordering::Relaxed);
    }

    /// Every source has joined once, and every directory is loaded.
    pub(super) fn set_ready(&self) {
        self.ready.store(true, Ordering::Relaxed);
    }

    /// A source has ended that should not have.
    pub(super) fn set_source_dead(&self) {
        self.source_dead.store(true, Ordering::Relaxed);
    }
}

/// What the loop is asked.
pub(super) enum Request {
    Report { answer: oneshot::Sender<Report>, detail: bool },
    LettersSeen,
    Reread { reread: Reread, answer: oneshot::Sender<Result<u64, String>> },
    Stop,
}

/// Asks the loop. Cheap to clone; outlives it harmlessly.
#[derive(Clone, Debug)]
pub struct Handle {
    ask: mpsc::UnboundedSender<Request>,
    pulse: Arc<Pulse>,
    clock: Clock,
}

impl Handle {
    pub(super) fn new(ask: mpsc::UnboundedSender<Request>, pulse: Arc<Pulse>, clock: Clock) -> Self {
        Self { ask, pulse, clock }
    }

    /// Everything at one moment; `None` when the loop has ended.
    pub async fn report(&self) -> Option<Report> {
        self.ask_for(false).await
    }

    /// The same with its [`Detail`], for which the loop looks at all that is held.
    pub async fn detailed_report(&self) -> Option<Report> {
        self.ask_for(true).await
    }

    async fn ask_for(&self, detail: bool) -> Option<Report> {
        let (answer, report) = oneshot::channel();
        self.ask.send(Request::Report { answer, detail }).ok()?;
        report.await.ok()
    }

    /// Goes on with another config, or notes that it is wrong; the generation that runs then.
    ///
    /// # Errors
    /// Why nothing was taken, where that was not said in `reread`: the process is about to end, or has
    /// more routes than ids.
    pub async fn reload(&self, reread: Reread) -> Result<u64, String> {
        let (answer, taken) = oneshot::channel();
        let ended = || "the loop has ended".to_owned();
        self.ask.send(Request::Reread { reread, answer }).map_err(|_| ended())?;
        taken.await.unwrap_or_else(|_| Err(ended()))
    }

    /// Somebody has looked at the letters: sources that the flood guard keeps back go on.
    pub fn letters_seen(&self) {
        // A loop that has ended has no sources.
        let _ = self.ask.send(Request::LettersSeen);
    }

    /// Asks for an orderly end: nothing new is sent, calls away and letters land, sources commit.
    /// Asking again changes nothing.
    pub fn stop(&self) {
        // A loop that has ended need not be told.
        let _ = self.ask.send(Request::Stop);
    }

    /// Whether the loop turns and no source has ended by itself. False before the first turn.
    pub fn is_live(&self) -> bool {
        let last = self.pulse.last.load(Ordering::Relaxed);
        last > 0
            && self.clock.mono().since(Mono(last)) < LIVE_WITHIN
            && !self.pulse.source_dead.load(Ordering::Relaxed)
    }

    /// Whether every source has joined its broker once and every directory was loaded. Never false again: a broker or provider that
    /// goes away is no reason to take the pod, and the backend beside it, out of service.
    pub fn is_ready(&self) -> bool {
        self.pulse.ready.load(Ordering::Relaxed)
    }
}

/// Everything at one moment.
#[derive(Clone, Debug)]
pub struct Report {
    /// When.
    pub at: Wall,
    /// Since the process's clock was started.
    pub uptime: Duration,
    /// A stop was asked for.
    pub draining: bool,
    /// The config that runs, and what became of reloads.
    pub config: ConfigReport,
    /// What the scheduler tells.
    pub snapshot: Snapshot,
    /// By `SourceId`.
    pub sources: Vec<SourceReport>,
    /// By `AccountId`.
    pub accounts: Vec<AccountStats>,
    /// By `AccountId`: how the account's quotas are shared.
    pub shares: Vec<Standing>,
    /// By `DirectoryId`.
    pub directories: Vec<DirectoryReport>,
    /// Who holds what back, where that was asked for.
    pub detail: Option<Detail>,
}

/// Who holds what back.
#[derive(Clone, Debug, Default)]
pub struct Detail {
    /// Partitions that take nothing more, by `SourceId`.
    pub paused: Vec<Vec<Paused>>,
    /// The room that holds the most messages, and how many.
    pub fullest_room: Option<(AccountId, Path, Room, usize)>,
    /// `max_waiting_per_room`.
    pub max_waiting_per_room: usize,
}

/// A partition that takes nothing more.
#[derive(Clone, Debug)]
pub struct Paused {
    /// Its name: the topic and the number, or the stream.
    pub name: Arc<str>,
    /// For how long by now.
    pub lasting: Duration,
    /// Bytes of its commit's metadata.
    pub commit_metadata: usize,
    /// At which bounds it stands, and what it waits for.
    pub holdup: Holdup,
}

/// What the loop knows of one source.
#[derive(Clone, Debug, Default)]
pub struct SourceReport {
    /// How it is.
    pub state: SourceState,
    /// Whether it has ever been ready.
    pub joined: bool,
    /// Records between the committed position and the end, as last told.
    pub lag: Option<u64>,
    /// Names of the partitions that are assigned.
    pub partitions: Vec<Arc<str>>,
    /// Why its intake is paused, if it is.
    pub paused_by: Option<IntakeReason>,
    /// How requests for replays ended, and how many are under way, where its records are such.
    pub replays: Option<(Counts, usize)>,
    /// What the flood guard keeps it back for, if it does.
    pub flood: Option<FloodReport>,
    /// Times that a letter of this source could not be written.
    pub letter_failures: u64,
    /// Bytes of the fullest metadata of a commit (Kafka).
    pub commit_metadata: usize,
    /// Partitions that pause because their commit's metadata is full (Kafka).
    pub commits_full: usize,
}

/// Letters that came too fast.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FloodReport {
    /// Their class.
    pub class: Class,
    /// Their route's name; `None`: no route took the events.
    pub route: Option<Arc<str>>,
    /// How long the source still pauses, unless somebody looks at them.
    pub goes_on_in: Duration,
}

/// How a source is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SourceState {
    /// It has not said anything yet.
    #[default]
    Starting,
    /// Connected and, where there is a group, joined.
    Ready,
    /// Requests whose live source is read elsewhere, or by nobody yet.
    StandsBy,
    /// Not connected, or refused: it goes on trying, and says why.
    Waiting(String),
    /// It has ended: as it was asked to (`None`), or why.
    Ended(Option<String>),
}

impl SourceState {
    /// The word for metrics and the API.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::StandsBy => "standing_by",
            Self::Waiting(_) => "waiting",
            Self::Ended(_) => "ended",
        }
    }

    /// Why, where there is a reason.
    pub fn why(&self) -> Option<&str> {
        match self {
            Self::Starting | Self::Ready => None,
            Self::StandsBy => Some(
                "nobody reads the source whose letters these requests are of here: another replica does, or no \
                 event has come yet since the start (NATS)",
            ),
            Self::Waiting(why) => Some(why),
            Self::Ended(why) => why.as_deref(),
        }
    }

    /// Whether it is over.
    pub fn is_ended(&self) -> bool {
        matches!(self, Self::Ended(_))
    }
}
