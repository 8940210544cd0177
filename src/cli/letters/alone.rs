//! `letters replay --standalone`: the daemon's pipeline in the command, while no daemon runs.
//!
//! It reads the requests beside the letters that are meant and nothing else; the sources rest. What is
//! sent, when and how often is decided where the daemon decides it, with the quotas that daemons would have.
//! It refuses to begin while others read, and ends in order when one comes: with a daemon beside it the
//! account's quota would be used twice. Whoever comes sends nothing for the second and a quarter after it was
//! given the quota: the quarter is the time there is to see it, and to stop.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::anyhow;
use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::{Opened, counted};
use crate::app::{self, App};
use crate::broker::{Archive, Reading};
use crate::cli::run::{self, Pipeline};
use crate::cli::{self, Cli, Error};
use crate::core::model::SourceId;
use crate::directory::{self, Keepers};
use crate::driver::{Ended, Handle, Report, SourceState};
use crate::telemetry;

/// How often it is looked whether others read: brokers do not tell it by themselves. Less than a quarter of
/// a second (`core::share::Growth`), so that what was sent last counts no more when another begins.
const LOOK: Duration = Duration::from_millis(200);
/// How often it is looked how the pipeline is.
const GLANCE: Duration = Duration::from_millis(500);
/// How long it may stay unknown whether others read.
const UNKNOWN: Duration = Duration::from_secs(10);

/// Begins to log what the pipeline has to say: what somebody must know, unless more is asked for.
///
/// # Errors
/// [`Error::Usage`] for a log filter that is none.
pub fn log(cli: &Cli) -> Result<(), Error> {
    let level = cli.log_level.as_deref().unwrap_or("warn");
    let format = cli.log_format.unwrap_or(telemetry::Format::Human);
    telemetry::init(Some(level), Some(format)).map_err(|error| Error::Usage(format!("{error:#}")))?;
    telemetry::log_panics();
    Ok(())
}

/// Something that nobody else may read.
struct Read {
    what: String,
    archive: Arc<dyn Archive>,
    /// Whether the pipeline itself reads it.
    is_ours: bool,
}

/// A pipeline that is ready to begin.
pub struct Alone {
    app: App,
    directories: Vec<Option<directory::Opened>>,
    reads: Vec<Read>,
}

impl Alone {
    /// Makes one for the dead-letter topics that are meant, where nobody reads any source of the config or
    /// the requests beside its letters.
    ///
    /// # Errors
    /// What is wrong with a directory's file; who reads; or why that is not known.
    pub async fn prepare(opened: &Opened) -> Result<Self, Error> {
        let app = cli::build(&opened.loaded, &app::open_secret)?;
        let directories = cli::open_directories(&app, &opened.loaded)?;
        let meant: Vec<Arc<str>> =
            opened.places.iter().flat_map(|place| place.sources.iter().cloned()).collect();
        let reads = reads(&app, &meant);
        let found = join_all(reads.iter().map(|read| read.archive.readers())).await;
        let mut busy = Vec::new();
        for (read, readers) in reads.iter().zip(found) {
            match readers {
                Ok(0) => {}
                Ok(readers) => busy.push(format!("{} has {}", read.what, count(readers))),
                Err(why) => return Err(anyhow!("whether a daemon runs is not known: {why}").into()),
            }
        }
        if !busy.is_empty() {
            return Err(anyhow!(
                "--standalone is for when no daemon runs, and {}. Leave the option out, and daemons do what \
                 is asked for; or stop them first. A process that was killed counts until the broker has \
                 given it up: on Kafka for its session timeout (45 s unless set), on NATS for ack_wait and \
                 10 s",
                busy.join(", ")
            )
            .into());
        }
        Ok(Self { app: app.requests_alone(&meant), directories, reads })
    }

    /// Begins. When somebody else comes, or nothing can go on, it ends by itself and sets `stop`.
    ///
    /// # Errors
    /// What cannot be started.
    pub fn start(self, stop: watch::Sender<bool>) -> Result<Running, String> {
        let Self { app, directories, reads } = self;
        let first = app.sources.len();
        let pipeline = run::compose(app, directories).map_err(|error| format!("{error:#}"))?;
        let Pipeline { driver, handle, keepers, directories, .. } = pipeline;
        let mut looks = JoinSet::new();
        for read in reads.into_iter().filter(|read| !read.is_ours) {
            looks.spawn(somebody(read));
        }
        let (busy, is_busy) = watch::channel(true);
        let why = Arc::<OnceLock<String>>::default();
        let (asks, told) = (handle.clone(), Arc::clone(&why));
        let watching = tokio::spawn(async move {
            let reason = tokio::select! {
                Some(Ok(reason)) = looks.join_next() => reason,
                reason = trouble(&asks, first, &busy) => reason,
            };
            // The first reason counts, and there is one.
            let _ = told.set(reason);
            asks.stop();
            stop.send_replace(true);
        });
        let driver = tokio::spawn(driver.run());
        Ok(Running { handle, driver, keepers, _directories: directories, watching, is_busy, why })
    }
}

/// All that is read of a config: the sources, and the requests beside their letters.
fn reads(app: &App, meant: &[Arc<str>]) -> Vec<Read> {
    let source = |id: SourceId| &app.sources[usize::from(id.0)];
    let live = app.sources.iter().map(|source| Read {
        what: format!("source {}", source.name),
        archive: source.broker.archive(),
        is_ours: false,
    });
    let requests = app.replays.iter().map(|replay| {
        let beside = source(replay.beside);
        Read {
            what: format!("the topic of requests beside the letters of source {}", beside.name),
            archive: beside.broker.replays(replay.id, Reading::AtOnce).archive(),
            is_ours: meant.contains(&beside.name),
        }
    });
    live.chain(requests).collect()
}

fn count(readers: usize) -> String {
    counted(readers as u64, "reader", "readers")
}

/// Waits until somebody reads, or until that is not known for too long; says which.
async fn somebody(read: Read) -> String {
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut known = Instant::now();
    loop {
        ticks.tick().await;
        let why = match timeout(UNKNOWN, read.archive.readers()).await {
            Ok(Ok(0)) => {
                known = Instant::now();
                continue;
            }
            Ok(Ok(readers)) => {
                return format!(
                    "{} has {} now: nothing more is sent from here, and daemons do what is left.",
                    read.what,
                    count(readers)
                );
            }
            Ok(Err(why)) => why,
            Err(_) => "no answer".to_owned(),
        };
        if known.elapsed() >= UNKNOWN {
            return format!(
                "Whether a daemon runs is not known for {UNKNOWN:?} ({why}): nothing more is sent from here."
            );
        }
    }
}

/// Waits until the pipeline cannot go on, and says why; tells meanwhile whether it has something to do.
/// Its own sources begin at `first`.
async fn trouble(handle: &Handle, first: usize, busy: &watch::Sender<bool>) -> String {
    let mut ticks = interval(GLANCE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(report) = handle.report().await else {
            return "Sending has failed; the log says how.".to_owned();
        };
        if let Some(why) = dead(&report) {
            return format!("Requests cannot be read any more: {why}.");
        }
        let has_work = report.sources[first..].iter().any(|source| {
            let is_known = source.joined && source.state == SourceState::Ready;
            !is_known
                || source.lag.is_some_and(|lag| lag > 0)
                || source.replays.is_some_and(|(_, held)| held > 0)
        });
        busy.send_replace(has_work);
    }
}

/// Why a source has ended, if one has that was not told to.
fn dead(report: &Report) -> Option<&str> {
    report.sources.iter().find_map(|source| match &source.state {
        SourceState::Ended(Some(why)) => Some(why.as_str()),
        _ => None,
    })
}

/// A pipeline at work.
pub struct Running {
    handle: Handle,
    driver: JoinHandle<Ended>,
    keepers: JoinSet<()>,
    _directories: Keepers,
    watching: JoinHandle<()>,
    is_busy: watch::Receiver<bool>,
    why: Arc<OnceLock<String>>,
}

impl Running {
    /// Whether requests are known to wait or to be under way, or it is not known yet.
    pub fn is_busy(&self) -> bool {
        *self.is_busy.borrow()
    }

    /// Ends it as SIGTERM ends a daemon. What there is to be said: why it had to end by itself, and what did
    /// not come to its end.
    pub async fn end(self) -> Vec<String> {
        let Self { handle, driver, keepers, watching, why, .. } = self;
        handle.stop();
        let ended = driver.await;
        // Shares are given back when the last call has landed.
        keepers.join_all().await;
        watching.abort();
        let mut said: Vec<String> = why.get().cloned().into_iter().collect();
        match ended {
            Ok(Ended::Drained) => {}
            Ok(Ended::TimedOut) => {
                said.push("Some work was left when the time for it was over; it comes again.".to_owned());
            }
            Err(_) if said.is_empty() => said.push("Sending has failed; the log says how.".to_owned()),
            Err(_) => {}
        }
        said
    }
}
