//! `roomcast check`: is the config right, and what does it amount to?
//!
//! It is `app::build` without `run`: what passes here starts. It opens no secret and speaks to
//! nobody, unless `--live` is given; even then nothing is sent to any room.

use std::process::ExitCode;

use serde_json::{Value as Json, json};

use super::{Cli, Error, live, output};
use crate::app::{self, Account, App, SourceConfig};
use crate::config::{Loaded, Texts, render};
use crate::core::letter::Names;
use crate::core::model::Path;
use crate::core::provider::Provider;
use crate::core::route::directory::Unknown;
use crate::core::section::{Node, Place, Problem, Severity, Value};
use crate::core::share::settings::Sharing;
use crate::directory::{Directory, Kept};

/// What `check` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  roomcast check -c roomcast.toml
  roomcast check -c base.toml -c production.toml --live
  roomcast check -c roomcast.toml --deny-warnings --format json     for CI

Mistakes are told as file:line:column: key: found X, wanted Y; exit code 78.")]
pub struct Args {
    /// Also open secret files, log in to every account and every broker. Nothing is sent.
    #[arg(long)]
    pub live: bool,
    /// Treat warnings as mistakes.
    #[arg(long)]
    pub deny_warnings: bool,
    /// How the result is printed.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: Format,
}

/// How the result is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object.
    Json,
}

/// Runs the command.
///
/// # Errors
/// [`Error::Config`] when the config is wrong, or has warnings and they are denied.
pub fn run(cli: &Cli, args: &Args) -> Result<ExitCode, Error> {
    let open = if args.live { app::open_secret } else { app::leave_secret_closed };
    let loaded = super::read(cli).map_err(|(problems, texts)| wrong(args, &problems, &texts))?;
    let app = app::build(&loaded, &open).map_err(|problems| wrong(args, &problems, &loaded.texts))?;
    output::complain(&render::problems(&app.warnings, &loaded.texts, super::look()));
    let denied = args.deny_warnings && !app.warnings.is_empty();
    let trials = if args.live { Some(super::runtime()?.block_on(live::try_all(&app))) } else { None };
    let report = match args.format {
        Format::Text => {
            text(&Summary::of(&app, &loaded)) + &trials.as_deref().map_or_else(String::new, live::text)
        }
        Format::Json => format!("{:#}\n", json(&Summary::of(&app, &loaded), denied, trials.as_deref())),
    };
    output::print(&report)?;
    if denied {
        let count = count(app.warnings.len());
        return Err(Error::Config(format!("{count}, and --deny-warnings was given\n")));
    }
    match trials.is_some_and(|trials| trials.iter().any(|trial| trial.result.is_err())) {
        true => Ok(ExitCode::FAILURE),
        false => Ok(ExitCode::SUCCESS),
    }
}

/// The end of a check that found mistakes; with `--format json` they are the result as well.
fn wrong(args: &Args, problems: &[Problem], texts: &Texts) -> Error {
    let result = match args.format {
        Format::Text => Ok(()),
        Format::Json => {
            let found = json!({ "ok": false, "problems": problems_json(problems, texts) });
            output::print(&format!("{found:#}\n"))
        }
    };
    match result {
        Ok(()) => super::refused(problems, texts),
        Err(error) => error.into(),
    }
}

fn count(warnings: usize) -> String {
    match warnings {
        0 => "no warnings".to_owned(),
        1 => "1 warning".to_owned(),
        n => format!("{n} warnings"),
    }
}

/// What a config amounts to.
pub struct Summary<'a> {
    /// Its accounts.
    pub accounts: &'a [Account],
    /// Its sources.
    pub sources: &'a [SourceConfig],
    /// Its directories.
    pub directories: &'a [Directory],
    /// Its routes.
    pub routes: Vec<Route>,
    /// What looks wrong.
    pub warnings: &'a [Problem],
    /// The config as it was written.
    pub loaded: &'a Loaded,
}

impl<'a> Summary<'a> {
    /// Of an app and the config it was built from.
    pub fn of(app: &'a App, loaded: &'a Loaded) -> Self {
        let routes = routes(&app.names, loaded);
        Self {
            accounts: &app.accounts,
            sources: &app.sources,
            directories: &app.directories,
            routes,
            warnings: &app.warnings,
            loaded,
        }
    }
}

/// What the config amounts to, for people.
pub fn text(summary: &Summary<'_>) -> String {
    let accounts: Vec<Vec<String>> = summary
        .accounts
        .iter()
        .map(|account| {
            let provider = &*account.provider;
            vec![
                account.name.to_string(),
                provider.name().to_owned(),
                provider.base_urls().join(", "),
                quotas(provider) + shared(account),
            ]
        })
        .collect();
    let sources: Vec<Vec<String>> = summary
        .sources
        .iter()
        .map(|source| {
            vec![
                source.name.to_string(),
                source.broker.kind().to_owned(),
                topics(summary.loaded, &source.name).join(", "),
                format!(
                    "dead letters to {}, holds up to {} records and {} MiB",
                    source.broker.dead_letter(),
                    source.limits.held_records,
                    source.limits.held_bytes >> 20,
                ),
            ]
        })
        .collect();
    let routes: Vec<Vec<String>> = summary
        .routes
        .iter()
        .enumerate()
        .map(|(index, route)| {
            let from =
                route.source.as_ref().map_or("any source".to_owned(), |source| format!("from {source}"));
            let when = route.when.as_ref().map_or("every event".to_owned(), |when| format!("when {when}"));
            let to = route.account.as_ref().map_or("dropped".to_owned(), |account| format!("to {account}"));
            let to =
                to + &route.conflate.as_ref().map_or(String::new(), |by| format!(", the newest by {by}"));
            vec![(index + 1).to_string(), route.name.clone(), from, when, to]
        })
        .collect();
    format!(
        "The config is right: {}.\n\nAccounts\n{}\nSources\n{}\n{}Routes, the first match wins\n{}",
        count(summary.warnings.len()),
        output::columns(&accounts),
        output::columns(&sources),
        directories(summary),
        output::columns(&routes),
    )
}

/// The directories, if there are any.
fn directories(summary: &Summary<'_>) -> String {
    if summary.directories.is_empty() {
        return String::new();
    }
    let rows: Vec<Vec<String>> = summary
        .directories
        .iter()
        .map(|directory| {
            let unknown = match directory.view.unknown {
                Unknown::DeadLetter => "an unknown key is a dead letter".to_owned(),
                Unknown::Drop => "an unknown key is dropped".to_owned(),
                Unknown::Wait(at_most) => format!("an unknown key is waited for, {at_most:?} at most"),
            };
            let from = match &directory.kept {
                Kept::File(path) => path.display().to_string(),
                Kept::Topic { source, topic: table } | Kept::Bucket { source, bucket: table } => {
                    format!("{table} of {}", summary.sources[usize::from(source.0)].name)
                }
            };
            vec![directory.view.name.to_string(), directory.kind().to_owned(), from, unknown]
        })
        .collect();
    format!("Directories\n{}\n", output::columns(&rows))
}

/// How replicas share them.
fn shared(account: &Account) -> &'static str {
    match account.shares.sharing {
        Sharing::Whole => "",
        Sharing::Partitions(_) => ", shared by partitions",
        Sharing::Readers(_) => ", whole for the one active reader",
        Sharing::Leased { .. } => ", shared by leases",
        Sharing::Fixed { .. } => ", a fixed share each",
    }
}

/// An account's quotas in a few words.
fn quotas(provider: &dyn Provider) -> String {
    let limits = provider.limits();
    let room = limits.paths[Path::Room as usize];
    let messages = room.messages_per_second.map_or_else(String::new, |n| format!(", {n} messages/s"));
    format!(
        "{} calls/s{messages}, {} a room and second",
        room.calls_per_second, limits.room_messages_per_second
    )
}

/// A route as it was written.
pub struct Route {
    /// Its name.
    pub name: String,
    /// `source`.
    pub source: Option<String>,
    /// `when`, on one line.
    pub when: Option<String>,
    /// `account`; `None` for a route that drops.
    pub account: Option<String>,
    /// `conflate`, on one line.
    pub conflate: Option<String>,
}

/// The routes in their order. A config without any has one that takes everything.
pub fn routes(names: &Names, loaded: &Loaded) -> Vec<Route> {
    let written = match loaded.table.get("routes").map(|node| &node.value) {
        Some(Value::List(nodes)) => nodes.as_slice(),
        _ => &[],
    };
    let only = names.accounts.first();
    let routes = names.routes.iter().enumerate();
    routes
        .map(|(index, name)| {
            let table = match written.get(index).map(|node| &node.value) {
                Some(Value::Table(table)) => Some(table),
                _ => None,
            };
            let text = |key: &str| table.and_then(|table| texts(table.get(key)));
            let drops = table.is_some_and(|table| table.contains_key("drop"));
            let on_one_line =
                |key: &str| text(key).map(|text| text.split_whitespace().collect::<Vec<_>>().join(" "));
            let only = || only.filter(|_| !drops).map(ToString::to_string);
            Route {
                name: name.to_string(),
                source: text("source"),
                when: on_one_line("when"),
                conflate: on_one_line("conflate"),
                account: text("account").or_else(only),
            }
        })
        .collect()
}

/// The topics or subjects of a source, as they were written.
pub fn topics(loaded: &Loaded, source: &str) -> Vec<String> {
    let written = |key: &&str| texts(loaded.node(&["sources", source, key]));
    let list = ["topics", "subjects", "stream"].iter().find_map(written).unwrap_or_default();
    list.split(", ").filter(|topic| !topic.is_empty()).map(str::to_owned).collect()
}

/// A string, or a list of strings with commas.
fn texts(node: Option<&Node>) -> Option<String> {
    let text = |node: &Node| match &node.value {
        Value::Text(text) => Some(text.clone()),
        _ => None,
    };
    match &node?.value {
        Value::List(nodes) => Some(nodes.iter().filter_map(text).collect::<Vec<_>>().join(", ")),
        _ => text(node?),
    }
}

/// What the config amounts to, for machines.
pub fn json(summary: &Summary<'_>, denied: bool, trials: Option<&[live::Trial]>) -> Json {
    let accounts = summary.accounts.iter().map(|account| {
        json!({
            "name": *account.name,
            "provider": account.provider.name(),
            "base_urls": account.provider.base_urls(),
            "share": account.shares.sharing.word(),
        })
    });
    let sources = summary.sources.iter().map(|source| {
        json!({
            "name": *source.name,
            "kind": source.broker.kind(),
            "topics": topics(summary.loaded, &source.name),
            "dead_letter": source.broker.dead_letter(),
            "held_records": source.limits.held_records,
            "held_bytes": source.limits.held_bytes,
        })
    });
    let directories = summary
        .directories
        .iter()
        .map(|directory| json!({ "name": *directory.view.name, "kind": directory.kind() }));
    let routes = summary.routes.iter().map(|route| {
        json!({
            "name": route.name,
            "source": route.source,
            "when": route.when,
            "account": route.account,
            "conflate": route.conflate,
        })
    });
    let failed = trials.is_some_and(|trials| trials.iter().any(|trial| trial.result.is_err()));
    let mut found = json!({
        "ok": !denied && !failed,
        "problems": problems_json(summary.warnings, &summary.loaded.texts),
        "accounts": accounts.collect::<Vec<_>>(),
        "sources": sources.collect::<Vec<_>>(),
        "directories": directories.collect::<Vec<_>>(),
        "routes": routes.collect::<Vec<_>>(),
    });
    if let Some(trials) = trials {
        found["live"] = live::json(trials);
    }
    found
}

/// Problems for machines, in the order people see them.
pub(super) fn problems_json(problems: &[Problem], texts: &Texts) -> Json {
    let sorted = render::sorted(problems, texts);
    let one = |problem: &&Problem| {
        let (file, at) = render::file_and_position(&problem.place, texts);
        let (line, column) = at.unzip();
        let variable = match &problem.place {
            Place::Variable(name) => Some(name.to_string()),
            _ => None,
        };
        json!({
            "severity": match problem.severity { Severity::Error => "error", Severity::Warning => "warning" },
            "file": file, "line": line, "column": column, "variable": variable,
            "key": problem.key, "text": render::line(problem, texts),
        })
    };
    Json::Array(sorted.iter().map(one).collect())
}
