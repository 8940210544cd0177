//! Reading the config again while `run` runs: on SIGHUP, and with `[admin] watch = true` when one of its
//! files, or a secret file that it names, says something else.
//!
//! What it comes to is `app::reload`'s to find out, on a thread of its own, so that the loop turns on;
//! the loop takes it up in one turn. Here it is told: in the log, and to the loop for status and
//! metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, RandomState};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tracing::{debug, error, info, warn};

use crate::app::reload::{self as again, Running};
use crate::app::{self, App, ReplayConfig, SourceConfig};
use crate::config::{self, Loaded, Texts, render};
use crate::core::model::AccountId;
use crate::core::route::Rules;
use crate::core::route::directory::KeeperId;
use crate::core::schedule::Renewal;
use crate::core::section::Problem;
use crate::directory::{Directory, Keepers, Opened};
use crate::driver::{AccountReload, DirectoryParts, Handle, MakePlanner, Reload, Reread};
use crate::http;
use crate::letters::today::Today;

/// How often files are looked at. What is found must stand for as long before it is read: editors
/// and Kubernetes write in several steps.
const LOOK: Duration = Duration::from_millis(500);

/// Keeps the process at what its config says.
pub(super) struct Reloader {
    /// The files of `-c`.
    pub files: Vec<PathBuf>,
    /// What runs.
    pub running: Running,
    /// Whether files are looked at.
    pub watch: bool,
}

/// What was read, before the loop has taken it.
struct Found {
    /// What it comes to; a line for each problem.
    what: Result<Ready, Vec<String>>,
    /// Other files than those of the config to look at from now on: what is in them decides.
    files: Vec<PathBuf>,
}

/// What may be taken up.
struct Ready {
    /// What the loop goes on with, but for the directories; `None`: with what it has.
    reload: Option<Box<Reload>>,
    directories: Vec<Directory>,
    /// Their files as they were read.
    opened: Vec<Option<Opened>>,
    /// What follows tables. They are not started: the process has its own.
    sources: Vec<SourceConfig>,
    /// What it is to be compared with when it was taken.
    running: Running,
    told: Told,
}

/// What is said when it was taken.
struct Told {
    takes: Vec<String>,
    needs_restart: Vec<String>,
    warnings: Vec<String>,
    watch: bool,
}

impl Reloader {
    /// Reads again whenever there is reason to, until it is dropped.
    /// `today` is told what letters are measured by from then on.
    pub async fn keep(
        mut self,
        mut hangups: Signal,
        handle: Handle,
        mut directories: Keepers,
        today: watch::Sender<Arc<Today>>,
    ) {
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut watched = Watched::new(self.all_files());
        watched.read = Some(look(watched.files.clone(), watched.hasher.clone()).await);
        loop {
            let why = tokio::select! {
                hangup = hangups.recv() => match hangup {
                    Some(()) => "SIGHUP",
                    None => return,
                },
                _ = looks.tick(), if self.watch => {
                    let now = look(watched.files.clone(), watched.hasher.clone()).await;
                    match watched.has_settled(now) {
                        true => "a file changed",
                        false => continue,
                    }
                }
            };
            // Looked at before: what changes while it is read is seen as a change.
            let before = look(watched.files.clone(), watched.hasher.clone()).await;
            self.reload(why, &handle, &mut directories, &today).await;
            watched.again(self.all_files(), before).await;
        }
    }

    fn all_files(&self) -> Vec<PathBuf> {
        self.files.iter().cloned().chain(self.running.files.iter().map(PathBuf::from)).collect()
    }

    async fn reload(
        &mut self,
        why: &'static str,
        handle: &Handle,
        keepers: &mut Keepers,
        today: &watch::Sender<Arc<Today>>,
    ) {
        info!(why, "reading the config again");
        let (files, running, today) = (self.files.clone(), self.running.clone(), today.clone());
        let reading = tokio::task::spawn_blocking(move || read(&files, &running, today));
        let Ok(found) = reading.await else {
            return error!("reading the config failed; the log says how, and nothing changed");
        };
        self.running.files.extend(found.files.iter().map(|file| file.display().to_string()));
        match found.what {
            Err(problems) => refuse(problems, handle).await,
            Ok(ready) => match ready.take_up(handle, keepers).await {
                Err(why) => warn!(why, "nothing of the config was taken"),
                Ok((running, watch)) => (self.running, self.watch) = (running, watch),
            },
        }
    }
}

/// Tells what is wrong.
async fn refuse(problems: Vec<String>, handle: &Handle) {
    for problem in &problems {
        error!("{problem}");
    }
    let count = problems.len();
    if let Err(why) = handle.reload(Reread::Refused { problems }).await {
        return info!(why, "the config was not read again");
    }
    error!(problems = count, "the config is wrong: nothing changed, the one before runs on");
}

impl Ready {
    /// Has the loop take it, then sees to it that somebody keeps each directory. Gives back what the next
    /// one is compared with, and whether files are looked at.
    ///
    /// # Errors
    /// Why nothing was taken: then no keeper was started or ended either.
    async fn take_up(self, handle: &Handle, keepers: &mut Keepers) -> Result<(Running, bool), String> {
        let Self { reload, directories, mut opened, sources, running, told } = self;
        let ids = keepers.ids(&directories);
        let parts = directory_parts(&directories, &ids, &mut opened);
        let loaded = loaded(&parts);
        let needs_restart = told.needs_restart.clone();
        let reread = match reload {
            None => Reread::Same { needs_restart, directories: parts },
            Some(reload) => {
                let reload = Box::new(Reload { directories: parts, ..*reload });
                Reread::Takes { reload, needs_restart }
            }
        };
        let generation = handle.reload(reread).await?;
        tell_loaded(&loaded);
        keepers.keep(&directories, &ids, opened, |source, table, told| {
            sources[usize::from(source.0)].broker.follow(table, told);
        });
        say(generation, &told);
        Ok((running, told.watch))
    }
}

/// What the loop is told of directories: what their files hold is taken out of `opened`.
pub(super) fn directory_parts(
    directories: &[Directory],
    ids: &[KeeperId],
    opened: &mut [Option<Opened>],
) -> Vec<DirectoryParts> {
    let parts = directories.iter().zip(ids).zip(opened).map(|((directory, keeper), opened)| DirectoryParts {
        name: directory.view.name.clone(),
        kind: directory.kind(),
        keeper: *keeper,
        map: opened.as_mut().map(|opened| std::mem::take(&mut opened.map)),
    });
    parts.collect()
}

/// The directories whose files were read, and how many keys each has.
pub(super) fn loaded(parts: &[DirectoryParts]) -> Vec<(Arc<str>, usize)> {
    parts.iter().filter_map(|parts| Some((parts.name.clone(), parts.map.as_ref()?.len()))).collect()
}

/// Says so.
pub(super) fn tell_loaded(loaded: &[(Arc<str>, usize)]) {
    for (directory, keys) in loaded {
        info!(%directory, keys, "directory loaded");
    }
}

/// Says what a reload came to.
fn say(generation: u64, told: &Told) {
    for warning in &told.warnings {
        warn!("{warning}");
    }
    let rest = if told.takes.is_empty() { "nothing else changed" } else { "everything else took" };
    for key in &told.needs_restart {
        warn!("{key} changed: needs a restart; {rest}");
    }
    match told.takes.as_slice() {
        [] if told.needs_restart.is_empty() => info!(generation, "the config says what it said before"),
        [] => {}
        takes => info!(generation, takes = takes.join(", "), "the config is taken up"),
    }
}

/// Reads and checks everything. Blocks.
fn read(files: &[PathBuf], running: &Running, today: watch::Sender<Arc<Today>>) -> Found {
    let env = super::environment();
    let loaded = match config::load(files, env) {
        Ok(loaded) => loaded,
        Err(broken) => {
            let what = Err(lines(&super::all_problems(&broken), &broken.texts));
            return Found { what, files: Vec::new() };
        }
    };
    let texts = loaded.texts.clone();
    let paths = |files: &BTreeSet<String>| files.iter().map(PathBuf::from).collect::<Vec<_>>();
    let reread = match again::read(running, loaded, &app::open_secret) {
        Err((problems, files)) => return Found { what: Err(lines(&problems, &texts)), files: paths(&files) },
        Ok(reread) => reread,
    };
    let mut files = paths(&reread.running.files);
    match reread.app.open_directories() {
        Ok(opened) => Found { what: prepare(running, reread, opened, &texts, today), files },
        Err(problems) => {
            // They may be put right.
            files.extend(reread.app.directories.iter().filter_map(Directory::file).map(Path::to_owned));
            Found { what: Err(lines(&problems, &texts)), files }
        }
    }
}

/// Constructs what the loop is handed.
fn prepare(
    running: &Running,
    reread: again::Reread,
    opened: Vec<Option<Opened>>,
    texts: &Texts,
    today: watch::Sender<Arc<Today>>,
) -> Result<Ready, Vec<String>> {
    let again::Reread { app, running: new, takes, needs_restart, renewals } = reread;
    let warnings = lines(&app.warnings, texts);
    let told = Told { warnings, watch: app.admin.watch, takes, needs_restart };
    let parts = match told.takes.is_empty() {
        true => None,
        // The seed stays the scheduler's own.
        false => Some((accounts(running, &app, renewals)?, app.settings(0))),
    };
    let measures = app.measures();
    let taken = move |rules| drop(today.send_replace(Arc::new(measures(rules))));
    let App { directories, sources, replays, rules, limits, letters, .. } = app;
    let reload = parts.map(|(accounts, settings)| Reload {
        accounts,
        settings,
        drain_timeout: limits.drain_timeout,
        max_replays: letters.max_replays,
        // Nobody keeps them yet.
        directories: Vec::new(),
        planner: planner(rules, replays, taken),
    });
    Ok(Ready { reload: reload.map(Box::new), directories, opened, sources, running: new, told })
}

fn accounts(running: &Running, app: &App, renewals: Vec<Renewal>) -> Result<Vec<AccountReload>, Vec<String>> {
    let mut accounts = Vec::with_capacity(app.accounts.len());
    for ((account, renewal), id) in app.accounts.iter().zip(renewals).zip(0..) {
        let provider = account.provider.clone();
        let client = match running.same_client(AccountId(id), &*provider) {
            true => None,
            false => {
                let client = http::Client::new(provider.base_urls(), provider.timeout());
                let wrong = |error| vec![format!("accounts.{}: {error:#}", account.name)];
                Some(Arc::new(client.map_err(wrong)?))
            }
        };
        let shares = account.shares.clone();
        let (sharing, quotas) = (shares.sharing, shares.quotas);
        accounts.push(AccountReload { provider, client, renewal, sharing, quotas });
    }
    Ok(accounts)
}

fn planner(
    rules: Arc<Rules>,
    replays: Vec<ReplayConfig>,
    taken: impl FnOnce(Arc<Rules>) + Send + 'static,
) -> MakePlanner {
    let mut rules = Arc::into_inner(rules).expect("nobody else has routes that were just built");
    Box::new(move |ids| {
        rules.set_ids(ids);
        let rules = Arc::new(rules);
        taken(rules.clone());
        let routing = app::Routing::new(rules, &replays);
        Box::new(move |record, directories| routing.plan(record, directories))
    })
}

fn lines(problems: &[Problem], texts: &Texts) -> Vec<String> {
    render::sorted(problems, texts).into_iter().map(|problem| render::line(problem, texts)).collect()
}

/// What was in each file: a hash of its bytes, or that it could not be read.
type Contents = BTreeMap<PathBuf, Option<u64>>;

/// Looks at files on a thread of its own: a file system may hang.
async fn look(files: Vec<PathBuf>, hasher: RandomState) -> Contents {
    let contents = move |path: &Path| std::fs::read(path).ok().map(|bytes| hasher.hash_one(bytes));
    let all = move || files.into_iter().map(|path| (path.clone(), contents(&path))).collect();
    tokio::task::spawn_blocking(all).await.unwrap_or_default()
}

/// The files, and when they have changed.
struct Watched {
    files: Vec<PathBuf>,
    hasher: RandomState,
    /// What was in them when the config was last read.
    read: Option<Contents>,
    /// What was in them at the last look, when that was something else.
    seen: Option<Contents>,
}

impl Watched {
    fn new(files: Vec<PathBuf>) -> Self {
        Self { files, hasher: RandomState::new(), read: None, seen: None }
    }

    /// Whether there is something else in them than was read, and was at the look before.
    fn has_settled(&mut self, now: Contents) -> bool {
        if self.read.as_ref() == Some(&now) {
            self.seen = None;
            return false;
        }
        let settled = self.seen.as_ref() == Some(&now);
        if !settled {
            debug!("a file of the config has changed");
        }
        self.seen = (!settled).then_some(now);
        settled
    }

    /// The config was read when that was in its files, and may name others now.
    async fn again(&mut self, files: Vec<PathBuf>, before: Contents) {
        self.files = files;
        let mut read = look(self.files.clone(), self.hasher.clone()).await;
        read.extend(before);
        (self.read, self.seen) = (Some(read), None);
    }
}

/// Checks and constructs a config, and what later ones are compared with.
///
/// # Errors
/// [`super::Error::Config`] with all problems.
pub(super) fn begin(loaded: &Loaded) -> Result<(App, Running), super::Error> {
    again::begin(loaded, &app::open_secret).map_err(|problems| super::refused(&problems, &loaded.texts))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(hash: u64) -> Contents {
        BTreeMap::from([(PathBuf::from("a.toml"), Some(hash))])
    }

    #[test]
    fn a_change_counts_when_it_stands_and_once() {
        let mut watched = Watched::new(Vec::new());
        watched.read = Some(contents(1));
        assert!(!watched.has_settled(contents(1)));
        assert!(!watched.has_settled(contents(2)), "it may be written still");
        assert!(!watched.has_settled(contents(3)), "it was");
        assert!(watched.has_settled(contents(3)));
        watched.read = Some(contents(3));
        assert!(!watched.has_settled(contents(3)));
        assert!(!watched.has_settled(contents(4)) && !watched.has_settled(contents(3)), "it was taken back");
        assert!(!watched.has_settled(contents(4)), "and begins anew");
    }
}
