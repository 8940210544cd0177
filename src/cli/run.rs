//! `roomcast run`: the daemon.
//!
//! [`main`] reads the config and begins to log; `run` starts the sources, the loop and the admin port, and waits for the end: SIGTERM or SIGINT drain,
//! a second one ends the process at once; SIGHUP reads the config again (`reload`). What it is made of was built and checked by `app`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::{error, info, warn};
use uuid::Uuid;

use super::reload::{self, Reloader};
use super::{Cli, Error, output};
use crate::admin::{self, letters::Desk, token::MadeToken};
use crate::app::{self, Account, App, Reads, ReplayConfig, Shares, SourceConfig};
use crate::broker::{Inbox, Reading, Started};
use crate::clock::Clock;
use crate::core::letter::Names;
use crate::core::model::{AccountId, SourceId};
use crate::core::replay;
use crate::core::schedule::Scheduler;
use crate::core::share::lease::Book;
use crate::core::share::settings::Sharing;
use crate::directory::{Directory, Keepers, Opened};
use crate::driver::{AccountParts, Driver, Ended, Handle, Leases, Lookups, Parts, ReplayParts, Replays};
use crate::letters::place::{self, Place};
use crate::letters::today::Today;
use crate::{config, http, letters, replica, telemetry};

/// Arrivals that wait for the loop: one batch of a source. More would only hide records from the
/// bound on what is held.
const INBOX: usize = 256;
/// How long the process waits for threads that are in a system call when everything has ended.
pub(super) const LINGER: Duration = Duration::from_millis(500);

/// Runs the command: secrets are opened, warnings told, and the loop turns until its end.
///
/// # Errors
/// [`Error::Config`] when the config or a secret file is wrong, [`Error::Usage`] for a log filter
/// that is none, [`Error::Failed`] as `run`.
pub fn main(cli: &Cli) -> Result<ExitCode, Error> {
    let filter = telemetry::init(cli.log_level.as_deref(), cli.log_format);
    filter.map_err(|error| Error::Usage(format!("{error:#}")))?;
    telemetry::log_panics();
    let loaded = super::load(cli)?;
    let (app, running) = reload::begin(&loaded)?;
    let opened = super::open_directories(&app, &loaded)?;
    output::complain(&config::render::problems(&app.warnings, &loaded.texts, super::look()));
    let runtime = super::runtime()?;
    let reloader = Reloader { files: cli.config.clone(), running, watch: app.admin.watch };
    let code = runtime.block_on(run(app, opened, reloader));
    // A name that is being looked up would keep the process for as long as the resolver likes.
    runtime.shutdown_timeout(LINGER);
    Ok(code?)
}

/// Runs, with the files of its directories as they were `opened`, until a signal has drained it (exit
/// code 0), or the drain ran out of time or nothing is left to run (1).
///
/// # Errors
/// What cannot be started: an account's address, the admin port, the file of its token.
pub(super) async fn run(
    app: App,
    opened: Vec<Option<Opened>>,
    reloader: Reloader,
) -> anyhow::Result<ExitCode> {
    let (signals, hangups) = (Signals::listen()?, listen(SignalKind::hangup())?);
    let daemon = assemble(app, opened).await?;
    let signals =
        tokio::spawn(signals.obey(daemon.handle.clone(), daemon.letters.clone(), daemon.token_file()));
    let reloads =
        tokio::spawn(reloader.keep(hangups, daemon.handle.clone(), daemon.directories, daemon.today));
    let ended = tokio::spawn(daemon.driver.run()).await.context("the loop failed; the log says how")?;
    daemon.letters.ended().await;
    // Shares are given back when the last call has landed.
    daemon.keepers.join_all().await;
    signals.abort();
    reloads.abort();
    Ok(match ended {
        Ended::Drained => {
            info!("drained");
            ExitCode::SUCCESS
        }
        Ended::TimedOut => {
            warn!("ended with work left; nothing is lost, it comes again");
            ExitCode::FAILURE
        }
    })
}

/// A daemon at work but for its loop, which has yet to turn.
pub(super) struct Daemon {
    /// The loop.
    pub driver: Driver,
    /// Asks the loop.
    pub handle: Handle,
    /// The open admin port; it closes when this is dropped.
    pub serving: admin::Serving,
    /// The token made for this run, where the config has none.
    pub made: Option<MadeToken>,
    /// Those who keep leases of quotas; they end after the loop.
    pub keepers: JoinSet<()>,
    /// Those who keep directories.
    pub directories: Keepers,
    /// The API's replays: they end after the loop.
    pub letters: Desk,
    /// Takes what letters are measured by, when that changes.
    pub today: watch::Sender<Arc<Today>>,
}

impl Daemon {
    /// Where the token made for this run can be read.
    pub fn token_file(&self) -> Option<PathBuf> {
        self.made.as_ref().map(|made| made.path().to_owned())
    }
}

/// Starts the sources and opens the admin port.
///
/// # Errors
/// As [`run`].
pub(super) async fn assemble(app: App, opened: Vec<Option<Opened>>) -> anyhow::Result<Daemon> {
    let (today, is) = watch::channel(Arc::new(app.today()));
    let made = match &app.admin.token {
        Some(_) => None,
        None => Some(MadeToken::make()?),
    };
    let token = app.admin.token.clone().or_else(|| made.as_ref().map(|made| made.token.clone()));
    let port = admin::listen(admin::Settings {
        listen: app.admin.listen,
        probes: app.admin.probes,
        token: token.expect("a token is made where the config has none"),
    })
    .await?;
    let Pipeline { driver, handle, names, letters, keepers, directories } = compose(app, opened)?;
    let letters = Desk::new(letters, is);
    let serving = port.serve(admin::View { handle: handle.clone(), names, letters: letters.clone() });
    let token_file = made.as_ref().map(|made| made.path().to_owned());
    info!(listen = %serving.listen, probes = ?serving.probes, ?token_file, "admin port open");
    Ok(Daemon { driver, handle, serving, made, keepers, directories, letters, today })
}

/// A daemon without its admin port: what leads from brokers to providers, but for its loop, which has yet
/// to turn.
pub(super) struct Pipeline {
    /// The loop.
    pub driver: Driver,
    /// Asks the loop.
    pub handle: Handle,
    /// Names of sources, accounts and routes.
    pub names: Arc<Names>,
    /// The dead-letter topics, each once.
    pub letters: Vec<Place>,
    /// Those who keep leases of quotas; they end after the loop.
    pub keepers: JoinSet<()>,
    /// Those who keep directories.
    pub directories: Keepers,
}

/// Starts what the config reads.
///
/// # Errors
/// An account's address.
pub(super) fn compose(app: App, opened: Vec<Option<Opened>>) -> anyhow::Result<Pipeline> {
    let accounts = app
        .accounts
        .iter()
        .zip(0..)
        .map(|(account, id)| account_parts(account, app.rules.first_source_of(AccountId(id))));
    let accounts = accounts.collect::<anyhow::Result<Vec<_>>>()?;
    let clock = Clock::start();
    let (seed, _) = Uuid::new_v4().as_u64_pair();
    let scheduler = Scheduler::new(app.settings(seed), clock.now());
    let mut names = app.names;
    names.sources.extend(app.replays.iter().map(|replay| replay.name.clone()));
    let names = Arc::new(names);
    let (lookups, directories) = keep_directories(&app.directories, opened, &app.sources);
    let (sender, inbox) = mpsc::channel(INBOX);
    let (replays, requests) = start_replays(&app.replays, &app.sources, app.letters.max_replays, &sender);
    let letters = place::places(app.sources.iter().map(|source| (&source.name, &*source.broker)));
    let start = |source| start_source(source, app.reads, &sender);
    let sources: Vec<Started> = app.sources.into_iter().map(start).chain(requests).collect();
    drop(sender);
    let (leases, keepers) = keep_leases(&app.accounts, &sources, clock);
    let routing = app::Routing::new(app.rules, &app.replays);
    let (driver, handle) = Driver::new(Parts {
        clock,
        scheduler,
        planner: Box::new(move |record, directories| routing.plan(record, directories)),
        accounts,
        sources,
        inbox,
        names: names.clone(),
        drain_timeout: app.limits.drain_timeout,
        leases,
        lookups,
        replays,
    });
    Ok(Pipeline { driver, handle, names, letters, keepers, directories })
}

/// Starts a source of the config, or leaves it at rest.
fn start_source(source: SourceConfig, reads: Reads, inbox: &Inbox) -> Started {
    let SourceConfig { name, broker, limits } = source;
    match reads {
        Reads::Everything => {
            info!(source = %name, kind = broker.kind(), dead_letter = broker.dead_letter(), "starting source");
            broker.start(limits, inbox.clone())
        }
        Reads::Requests => broker.rest(),
    }
}

/// What the loop needs of an account. Its calls of the day are counted beside the letters of the
/// first source: `[[routes]]` may leave the source open, so each may feed each account.
fn account_parts(account: &Account, counted_by: Option<SourceId>) -> anyhow::Result<AccountParts> {
    let provider = account.provider.clone();
    let client = http::Client::new(provider.base_urls(), provider.timeout())
        .with_context(|| format!("account {:?}", account.name))?;
    let Shares { sharing, quotas } = account.shares.clone();
    Ok(AccountParts { provider, client: Arc::new(client), counted_by, sharing, quotas })
}

/// Starts the sources of replay requests, and follows the tables beside the letters.
fn start_replays(
    replays: &[ReplayConfig],
    sources: &[SourceConfig],
    max_replays: u32,
    inbox: &Inbox,
) -> (Replays, Vec<Started>) {
    let beside = |replay: &ReplayConfig| &*sources[usize::from(replay.beside.0)].broker;
    let rows = letters::source::follow(replays.iter().map(|replay| (replay.id, beside(replay))));
    let start = |replay: &ReplayConfig| {
        let reading = if replay.of.is_empty() { Reading::AtOnce } else { Reading::WhenTold };
        letters::source::start(beside(replay), replay.id, reading, replay.limits, inbox.clone())
    };
    let started = replays.iter().map(start).collect();
    let book = |replay: &ReplayConfig| ReplayParts {
        source: replay.id,
        of: replay.of.clone(),
        book: replay::Book::new(max_replays),
    };
    (Replays { of: replays.iter().map(book).collect(), rows: Some(rows) }, started)
}

/// Begins to keep the directories; their files are loaded already.
fn keep_directories(
    directories: &[Directory],
    mut opened: Vec<Option<Opened>>,
    sources: &[SourceConfig],
) -> (Lookups, Keepers) {
    let (mut keepers, updates) = Keepers::new();
    let ids = keepers.ids(directories);
    let parts = reload::directory_parts(directories, &ids, &mut opened);
    reload::tell_loaded(&reload::loaded(&parts));
    keepers.keep(directories, &ids, opened, |source, table, told| {
        sources[usize::from(source.0)].broker.follow(table, told);
    });
    (Lookups { directories: parts, updates: Some(updates) }, keepers)
}

/// Begins to keep the leases of those accounts that share their quotas by a bucket.
fn keep_leases(accounts: &[Account], sources: &[Started], clock: Clock) -> (Leases, JoinSet<()>) {
    let (told, hears) = mpsc::unbounded_channel();
    let (mut keepers, mut keep) = (JoinSet::new(), Vec::new());
    for (account, id) in accounts.iter().zip(0..) {
        let Sharing::Leased { source, bucket, max_replicas } = &account.shares.sharing else { continue };
        let buckets = sources[usize::from(source.0)].buckets.clone();
        let buckets = buckets.expect("the config takes no source without buckets for leases");
        let (tell, news) = mpsc::unbounded_channel();
        keep.push((AccountId(id), tell));
        let (me, quotas) = (Uuid::new_v4().simple().to_string(), account.shares.quotas.clone());
        let keeper = replica::Leases {
            account: AccountId(id),
            name: account.name.clone(),
            bucket: bucket.clone(),
            book: Book::new(me, quotas, *max_replicas, account.provider.timeout(), clock.mono()),
            buckets,
            told: told.clone(),
            news,
        };
        keepers.spawn(keeper.keep(move || clock.mono()));
    }
    let told = (!keep.is_empty()).then_some(hears);
    (Leases { told, keepers: keep }, keepers)
}

/// From here on a signal of that kind does not end the process by itself.
fn listen(kind: SignalKind) -> anyhow::Result<Signal> {
    signal(kind).context("signals cannot be listened to")
}

/// The signals that end the process.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From here on the signals no longer end the process by themselves.
    fn listen() -> anyhow::Result<Self> {
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }

    /// The first one drains. The second ends the process at once, whatever the loop is doing.
    async fn obey(mut self, handle: Handle, letters: Desk, token_file: Option<PathBuf>) {
        let signal = self.next().await;
        info!(signal, "asked to stop; a second signal ends at once");
        letters.stop();
        handle.stop();
        let signal = self.next().await;
        error!(signal, "ended at once; nothing is lost, what was not settled comes again");
        if let Some(file) = token_file {
            // The process ends without running destructors; the file would stay.
            let _ = std::fs::remove_file(file);
        }
        std::process::exit(1);
    }
}
