//! Config → everything checked and constructed, nothing started.
//!
//! [`build`] reads the merged table section by section: each provider and broker parses its own,
//! the routes theirs, and what concerns several of them is compared in `crosscheck`. All problems
//! of a config are gathered in one go: an account that could not be made is replaced by a stand-in,
//! so that the routes behind it are still checked. Nothing here connects, waits or sends. Called by
//! `cli`: `check` is this without `run`.

mod alone;
mod crosscheck;
mod reach;
pub mod reload;
mod replays;
mod routing;
mod secrets;
mod settings;
mod shares;
mod standin;
mod today;

use std::sync::Arc;
use std::time::Duration;

use crate::broker::{self, BROKERS, Broker, SourceLimits};
use crate::config::Loaded;
use crate::core::letter::Names;
use crate::core::model::{AccountId, DirectoryId, SourceId};
use crate::core::provider::{self, PROVIDERS, Provider};
use crate::core::route::directory::DirectoryView;
use crate::core::route::{AccountView, Rules};
use crate::core::schedule::backoff::Retry;
use crate::core::schedule::{AccountSettings, Settings, SourceSettings};
use crate::core::section::{Asked, Node, OpenSecret, Place, Problem, Report, Section, Severity, Value};
use crate::directory::{self, Directory, Opened};

pub use self::alone::Reads;
pub use self::replays::ReplayConfig;
pub use self::routing::Routing;
pub use self::secrets::open_secrets_but_of;
pub use self::settings::{Admin, Letters, Limits};
pub use self::shares::Shares;
use self::standin::Standin;

/// A whole config, ready to be run.
pub struct App {
    /// Accounts, by `AccountId`: in the order of their names.
    pub accounts: Vec<Account>,
    /// Sources, by `SourceId`: in the order of their names.
    pub sources: Vec<SourceConfig>,
    /// Directories, by `DirectoryId`: in the order of their names.
    pub directories: Vec<Directory>,
    /// The routes.
    pub rules: Arc<Rules>,
    /// `[limits]`.
    pub limits: Limits,
    /// `[admin]`.
    pub admin: Admin,
    /// `[letters]`.
    pub letters: Letters,
    /// Where letters are replayed from: one for each dead-letter topic.
    pub replays: Vec<ReplayConfig>,
    /// What of it is read: everything, unless [`App::requests_alone`] says otherwise.
    pub reads: Reads,
    /// How long a room that the provider calls gone gets no calls; zero: never learned.
    pub room_gone: Duration,
    /// The names behind the ids.
    pub names: Names,
    /// What looks wrong but does not keep `run` from starting.
    pub warnings: Vec<Problem>,
}

/// An account.
#[derive(Clone, Debug)]
pub struct Account {
    /// Its name in the config.
    pub name: Arc<str>,
    /// Its provider, with its credentials.
    pub provider: Arc<dyn Provider>,
    /// How replicas share its quotas.
    pub shares: Shares,
}

/// A source that is not connected yet.
pub struct SourceConfig {
    /// Its name in the config.
    pub name: Arc<str>,
    /// Its broker.
    pub broker: Box<dyn Broker>,
    /// Its part of `[limits]`.
    pub limits: SourceLimits,
}

/// The registries that `provider = "…"` and `kind = "…"` choose from.
#[derive(Clone, Copy)]
pub struct Parts<'a> {
    /// Providers by name.
    pub providers: &'a [(&'a str, provider::Build)],
    /// Brokers by name.
    pub brokers: &'a [(&'a str, broker::Build)],
}

impl Parts<'static> {
    /// All that are built in.
    pub const BUILT_IN: Self = Self { providers: PROVIDERS, brokers: BROKERS };
}

impl App {
    /// What the scheduler is told at the start; `seed` is that of all its randomness.
    pub fn settings(&self, seed: u64) -> Settings {
        let account = |account: &Account| AccountSettings {
            limits: account.provider.limits().clone(),
            timeout: account.provider.timeout(),
            needs_login: account.provider.login().is_some(),
            base_urls: account.provider.base_urls().len(),
        };
        let source = |limits: SourceLimits, is_answered| SourceSettings {
            held_records: limits.held_records,
            held_bytes: limits.held_bytes,
            is_answered,
        };
        let live = self.sources.iter().map(|config| source(config.limits, false));
        let replays = self.replays.iter().map(|config| source(config.limits, true));
        Settings {
            accounts: self.accounts.iter().map(account).collect(),
            routes: self.rules.policies(),
            sources: live.chain(replays).collect(),
            max_waiting_per_room: self.limits.max_waiting_per_room,
            room_gone: self.room_gone,
            flood_guard: self.letters.flood_guard,
            seed,
        }
    }
}

impl App {
    /// Reads the files of directories, for `run`, `check --live` and `explain`; `None` for those that are
    /// no files.
    ///
    /// # Errors
    /// Every file that cannot be read or is broken.
    pub fn open_directories(&self) -> Result<Vec<Option<Opened>>, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut files = Vec::new();
        for directory in &self.directories {
            match directory.open().transpose() {
                Ok(opened) => files.push(opened),
                Err(why) => problems.push(Problem {
                    severity: Severity::Error,
                    place: directory.place.clone(),
                    key: format!("directories.{}.path", directory.view.name),
                    found: why,
                    wanted: "a CSV file (key,room) or a JSON object that this process may read".to_owned(),
                }),
            }
        }
        if problems.is_empty() { Ok(files) } else { Err(problems) }
    }
}

/// Opens a secret file, for `run` and `check --live`.
///
/// # Errors
/// Why the file cannot be read, without its name.
pub fn open_secret(file: &str) -> Result<String, String> {
    std::fs::read_to_string(file).map_err(|error| match error.kind() {
        std::io::ErrorKind::InvalidData => "not a text file in UTF-8".to_owned(),
        _ => error.to_string(),
    })
}

/// Stands in for [`open_secret`] where no secret is needed: `check`, `explain`.
///
/// # Errors
/// Never.
pub fn leave_secret_closed(_file: &str) -> Result<String, String> {
    Ok("not-opened".to_owned())
}

/// Checks and constructs everything that the config describes.
///
/// # Errors
/// All problems found, warnings among them, when one of them is an error.
pub fn build(loaded: &Loaded, open_secret: OpenSecret<'_>) -> Result<App, Vec<Problem>> {
    build_with(loaded, open_secret, Parts::BUILT_IN)
}

/// [`build`] with other registries than those built in.
///
/// # Errors
/// As [`build`].
pub fn build_with(
    loaded: &Loaded,
    open_secret: OpenSecret<'_>,
    parts: Parts<'_>,
) -> Result<App, Vec<Problem>> {
    let report = Report::new(open_secret);
    let app = read(loaded, &report, parts);
    let mut problems = report.into_problems();
    match app {
        Some(mut app) if problems.iter().all(|p| p.severity == Severity::Warning) => {
            app.warnings = problems;
            Ok(app)
        }
        app => {
            if app.is_none() && problems.iter().all(|p| p.severity == Severity::Warning) {
                problems.push(Problem {
                    severity: Severity::Error,
                    place: Place::Nowhere,
                    key: String::new(),
                    found: "a part that could not be made and did not say why".to_owned(),
                    wanted: "a report of this: it is a mistake in roomcast, not in the config".to_owned(),
                });
            }
            Err(problems)
        }
    }
}

/// What is wrong for sure with a config of which a part could not be read: what is missing may stand in
/// that part, and what is named there too.
pub fn problems_of_rest(loaded: &Loaded, open_secret: OpenSecret<'_>) -> Vec<Problem> {
    let report = Report::new(open_secret);
    drop(read(loaded, &report, Parts::BUILT_IN));
    report.into_problems_alone()
}

/// Every key that readers ask for while they read a config: what its schema must have.
pub fn asked(loaded: &Loaded) -> Vec<Asked> {
    let report = Report::noting(&leave_secret_closed);
    drop(read(loaded, &report, Parts::BUILT_IN));
    report.into_asked()
}

/// Reads all sections; `None` when a part could not be made.
fn read(loaded: &Loaded, report: &Report<'_>, parts: Parts<'_>) -> Option<App> {
    let root = Section::new("", &loaded.table, Place::Nowhere, report);
    let admin = Admin::read(&root);
    let letters = Letters::read(&root);
    let account_sections = named(&root, "accounts");
    let source_sections = named(&root, "sources");
    let limits = Limits::read(&root, source_sections.len());
    if account_sections.is_empty() {
        absent(&root, "accounts", "account", "provider", "easemob", parts.providers);
    }
    if source_sections.is_empty() {
        absent(&root, "sources", "source", "kind", "kafka", parts.brokers);
    }

    let accounts: Vec<Option<Arc<dyn Provider>>> = account_sections
        .iter()
        .map(|section| Some(Arc::from(chosen(section, "provider", parts.providers)?(section)?)))
        .collect();
    let brokers: Vec<Option<Box<dyn Broker>>> = source_sections
        .iter()
        .zip(0..)
        .map(|(section, id)| chosen(section, "kind", parts.brokers)?(section, SourceId(id)))
        .collect();

    let directories = directories(&root, &source_sections);
    let views: Vec<DirectoryView> = directories.iter().flatten().map(|made| made.view.clone()).collect();
    let rules = rules(&root, &account_sections, &accounts, &source_sections, &views, &limits);
    let sections =
        shares::Sections { accounts: &account_sections, sources: &source_sections, rules: rules.as_ref() };
    let shares = shares::read(&sections, &accounts);
    let room_gone = room_gone(&root);
    crosscheck::check(&root);
    reach::check(&root);

    let account_names = finish(account_sections, "provider", parts.providers);
    let source_names = finish(source_sections, "kind", parts.brokers);
    root.finish();

    let rules = Arc::new(rules?);
    let accounts: Option<Vec<Account>> = account_names
        .iter()
        .zip(accounts)
        .zip(shares)
        .map(|((name, provider), shares)| {
            Some(Account { name: name.clone(), provider: provider?, shares: shares? })
        })
        .collect();
    let sources = sources(&source_names, brokers, &limits)?;
    let routes = rules.policies().into_iter().map(|policy| policy.name).collect();
    let accounts = accounts?;
    let readers = replays::readers(&accounts, &rules);
    Some(App {
        accounts,
        replays: replays::beside(&sources, &readers, &limits),
        reads: Reads::Everything,
        sources,
        directories: directories.into_iter().collect::<Option<_>>()?,
        rules,
        limits,
        admin,
        letters,
        room_gone,
        names: Names { sources: source_names, accounts: account_names, routes },
        warnings: Vec::new(),
    })
}

/// The routes. An account that could not be made is a stand-in to them.
fn rules(
    root: &Section<'_>,
    account_sections: &[Section<'_>],
    accounts: &[Option<Arc<dyn Provider>>],
    source_sections: &[Section<'_>],
    directories: &[DirectoryView],
    limits: &Limits,
) -> Option<Rules> {
    let views: Vec<AccountView> = account_sections
        .iter()
        .zip(accounts)
        .zip(0..)
        .map(|((section, made), id)| AccountView {
            id: AccountId(id),
            name: section.name().into(),
            provider: made.clone().unwrap_or_else(|| Arc::new(Standin::default())),
        })
        .collect();
    let sources: Vec<(SourceId, &Section<'_>)> =
        source_sections.iter().zip(0..).map(|(section, id)| (SourceId(id), section)).collect();
    Rules::build(root, &views, &sources, directories, limits.max_rooms_per_event)
}

/// The sources, each with its part of the limits; `None` when one could not be made.
fn sources(
    names: &[Arc<str>],
    brokers: Vec<Option<Box<dyn Broker>>>,
    limits: &Limits,
) -> Option<Vec<SourceConfig>> {
    // A source whose topics are a pattern must know every dead-letter topic of the config.
    let letters: Vec<String> =
        brokers.iter().flatten().map(|broker| broker.dead_letter().to_owned()).collect();
    names
        .iter()
        .zip(brokers)
        .map(|(name, broker)| {
            let mut broker = broker?;
            broker.avoid(&letters);
            let limits = limits.of_source(broker.max_held_records());
            Some(SourceConfig { name: name.clone(), broker, limits })
        })
        .collect()
}

/// The directories, in the order of their names.
fn directories(root: &Section<'_>, source_sections: &[Section<'_>]) -> Vec<Option<Directory>> {
    let sources: Vec<directory::Written<'_>> = source_sections
        .iter()
        .zip(0..)
        .map(|(section, id)| directory::Written {
            id: SourceId(id),
            name: section.name(),
            kind: crosscheck::text(section.node("kind")),
        })
        .collect();
    let read = |(section, id): (Section<'_>, u16)| {
        let made = Directory::read(&section, DirectoryId(id), &sources);
        section.finish();
        made
    };
    named(root, "directories").into_iter().zip(0..).map(read).collect()
}

/// The sections below `key`, in the order of their names, which become ids, metrics and variables.
fn named<'a>(root: &Section<'a>, key: &str) -> Vec<Section<'a>> {
    let Some(all) = root.section(key) else { return Vec::new() };
    let mut sections = Vec::new();
    for name in all.keys() {
        let Some(section) = all.section(name) else { continue };
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-');
        if name.is_empty() || !name.chars().all(plain) || name.contains("__") {
            section.wrong(
                "",
                format!("the name {name:?}"),
                "small letters, digits, - and _, never two _ together",
            );
        }
        sections.push(section);
    }
    sections
}

/// Says that there is no account or no source at all, and how the smallest one looks.
fn absent<T>(root: &Section<'_>, key: &str, what: &str, choice: &str, first: &str, known: &[(&str, T)]) {
    // One that is there and wrong has been told of already.
    let written = |node: &Node| !matches!(&node.value, Value::Table(table) if table.is_empty());
    if root.node(key).is_some_and(written) {
        return;
    }
    let words: Vec<&str> = known.iter().map(|(word, _)| *word).collect();
    let wanted = format!(
        "at least one, which begins [{key}.NAME] with {choice} = {first:?} (or {}); config/minimal.toml shows all of a small config",
        words
            .iter()
            .filter(|word| **word != first)
            .map(|word| format!("{word:?}"))
            .collect::<Vec<_>>()
            .join(", "),
    );
    root.wrong(key, format!("no {what}"), wanted);
}

/// What the word at `key` stands for in a registry.
fn chosen<T: Copy>(section: &Section<'_>, key: &str, known: &[(&str, T)]) -> Option<T> {
    let words: Vec<(&str, Option<usize>)> =
        known.iter().enumerate().map(|(index, (word, _))| (*word, Some(index))).collect();
    if section.node(key).is_none() {
        let list: Vec<String> = known.iter().map(|(word, _)| format!("{word:?}")).collect();
        section.wrong(key, "nothing", format!("one of {}", list.join(", ")));
    }
    section.word(key, None, &words).map(|index| known[index].1)
}

/// Ends the reading of sections and gives their names back. Where the word at `key` is not known
/// nobody could say which keys are right, so none is called unknown.
fn finish<T>(sections: Vec<Section<'_>>, key: &str, known: &[(&str, T)]) -> Vec<Arc<str>> {
    let mut names = Vec::with_capacity(sections.len());
    for section in sections {
        names.push(section.name().into());
        let word = crosscheck::text(section.node(key));
        if word.is_some_and(|word| known.iter().any(|(known, _)| *known == word)) {
            section.finish();
        }
    }
    names
}

/// `[retry]`: the routes read it as their base; here it is read for `room_gone`, and finished.
fn room_gone(root: &Section<'_>) -> Duration {
    const DEFAULT: Duration = Duration::from_secs(600);
    let Some(retry) = root.section("retry") else { return DEFAULT };
    // What is wrong in it is told twice, word for word, and shown once.
    Retry::read(&retry, &Retry::default());
    let room_gone = retry.duration("room_gone", DEFAULT);
    retry.finish();
    room_gone
}

/// What a config without secret files makes, for tests.
#[cfg(test)]
pub fn built(config: &str) -> App {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let file = folder.path().join("c.toml");
    std::fs::write(&file, config).expect("it can be written");
    let loaded = crate::config::load(&[file], std::iter::empty());
    let loaded = loaded.unwrap_or_else(|broken| panic!("{:#?}", broken.problems));
    build(&loaded, &leave_secret_closed).unwrap_or_else(|wrong| panic!("{wrong:#?}"))
}
