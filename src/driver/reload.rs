//! Another config while the loop runs. It was checked and constructed before; here it is taken up in
//! one turn, between two things that happen: no record sees half of it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{Account, DirectoryParts, Driver, Phase, Planner};
use crate::core::letter::Names;
use crate::core::model::RouteId;
use crate::core::provider::Provider;
use crate::core::schedule::{Renewal, Settings};
use crate::core::share::Quotas;
use crate::core::share::settings::Sharing;
use crate::core::time::{Now, Wall};
use crate::http;

/// What the loop goes on with. The accounts and sources are those it began with.
pub struct Reload {
    /// Accounts, by `AccountId`.
    pub accounts: Vec<AccountReload>,
    /// What the scheduler is told.
    pub settings: Settings,
    /// Makes the routes, which are told their ids in their order.
    pub planner: MakePlanner,
    /// The directories that the routes ask, by their `DirectoryId`s.
    pub directories: Vec<DirectoryParts>,
    /// `drain_timeout`.
    pub drain_timeout: Duration,
    /// `max_replays`.
    pub max_replays: u32,
}

/// Makes the routes, which are told their ids in their order.
pub type MakePlanner = Box<dyn FnOnce(Vec<RouteId>) -> Planner + Send>;

/// What an account goes on with.
pub struct AccountReload {
    /// What its calls look like.
    pub provider: Arc<dyn Provider>,
    /// What makes them; `None`: what made them before, with its connections.
    pub client: Option<Arc<http::Client>>,
    /// What of its calls has changed.
    pub renewal: Renewal,
    /// How replicas share its quotas.
    pub sharing: Sharing,
    /// What is shared.
    pub quotas: Quotas,
}

/// What became of the config's files when they were read again.
pub enum Reread {
    /// They say what runs already, but for what needs a restart.
    Same {
        /// Keys that differ and need a restart.
        needs_restart: Vec<String>,
        /// The directories as before, their files read again.
        directories: Vec<DirectoryParts>,
    },
    /// They say something else.
    Takes {
        /// What the loop goes on with.
        reload: Box<Reload>,
        /// Keys that differ beside that, and need a restart.
        needs_restart: Vec<String>,
    },
    /// They are wrong: nothing changes.
    Refused {
        /// What is wrong, a line each, without secrets.
        problems: Vec<String>,
    },
}

impl fmt::Debug for Reread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.result().word())
    }
}

impl Reread {
    fn result(&self) -> ReloadResult {
        match self {
            Self::Same { .. } => ReloadResult::Unchanged,
            Self::Takes { .. } => ReloadResult::Took,
            Self::Refused { .. } => ReloadResult::Refused,
        }
    }
}

/// How a reload ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReloadResult {
    /// Something changed and is in force.
    Took,
    /// Nothing changed, or only what needs a restart.
    Unchanged,
    /// The config is wrong, and nothing changed.
    Refused,
}

impl ReloadResult {
    /// All, in the order of their discriminants.
    pub const ALL: [Self; 3] = [Self::Took, Self::Unchanged, Self::Refused];

    /// The word for metrics and status.
    pub fn word(self) -> &'static str {
        match self {
            Self::Took => "took",
            Self::Unchanged => "unchanged",
            Self::Refused => "refused",
        }
    }
}

/// The config that runs, and what became of reloads.
#[derive(Clone, Debug, Default)]
pub struct ConfigReport {
    /// When what runs was taken up.
    pub loaded_at: Wall,
    /// 1 at the start, one more with each reload that took.
    pub generation: u64,
    /// When and how the last reload ended.
    pub last: Option<(Wall, ReloadResult)>,
    /// Reloads by how they ended, by `ReloadResult as usize`.
    pub results: [u64; 3],
    /// Keys that the files say otherwise since the start, and that need a restart.
    pub needs_restart: Vec<String>,
    /// What was wrong, when the last reload was refused.
    pub problems: Vec<String>,
}

impl Driver {
    /// Takes up what was read, and says which generation runs; `Err`: why nothing was taken.
    pub(super) fn handle_reread(&mut self, reread: Reread, now: Now) -> Result<u64, String> {
        if self.phase != Phase::Running {
            return Err("the process is about to end".to_owned());
        }
        let mut result = reread.result();
        self.config.problems.clear();
        let mut error = None;
        match reread {
            Reread::Same { needs_restart, directories } => {
                self.config.needs_restart = needs_restart;
                self.renew_directories(directories, now);
            }
            Reread::Refused { problems } => self.config.problems = problems,
            Reread::Takes { reload, needs_restart } => match self.take_up(*reload, now) {
                true => {
                    self.config.generation += 1;
                    self.config.loaded_at = now.wall;
                    self.config.needs_restart = needs_restart;
                }
                false => {
                    let why = "too many routes: those that are new and those whose messages still wait \
                               are more than 65,536"
                        .to_owned();
                    result = ReloadResult::Refused;
                    self.config.problems.push(why.clone());
                    error = Some(why);
                }
            },
        }
        self.config.last = Some((now.wall, result));
        self.config.results[result as usize] += 1;
        error.map_or(Ok(self.config.generation), Err)
    }

    /// All of it, or nothing.
    fn take_up(&mut self, reload: Reload, now: Now) -> bool {
        let Reload { accounts, settings, planner, directories, drain_timeout, max_replays } = reload;
        let renewals: Vec<Renewal> = accounts.iter().map(|account| account.renewal).collect();
        let Some(routes) = self.scheduler.handle_reload(settings, &renewals, now) else { return false };
        self.planner = planner(routes);
        self.names = Arc::new(Names { routes: self.scheduler.route_names(), ..(*self.names).clone() });
        self.drain_timeout = drain_timeout;
        for desk in self.sources.iter_mut().filter_map(|source| source.replays.as_mut()) {
            desk.book.set_max_replays(max_replays);
        }
        let mut shared = Vec::with_capacity(accounts.len());
        for (place, new) in self.accounts.iter_mut().zip(accounts) {
            shared.push((new.sharing, new.quotas, new.provider.timeout()));
            let client = new.client.unwrap_or_else(|| place.client.clone());
            // Calls away keep the account that they were made with.
            *place = Arc::new(Account { name: place.name.clone(), provider: new.provider, client });
        }
        self.reload_shares(shared, now);
        // Last: records are planned for it.
        self.renew_directories(directories, now);
        true
    }
}
