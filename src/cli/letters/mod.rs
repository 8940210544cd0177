//! `roomcast letters`: dead letters found, looked at, counted, discarded, asked for.
//!
//! One file a command. What a letter is and which are meant stands in `crate::letters`; here are
//! arguments, tables and questions. Nothing is sent from here, but by the daemon's own pipeline with
//! `replay --standalone` (`alone`). A new command is a file, a variant of
//! [`Command`] and its line in [`run`].

mod alone;
mod asking;
pub mod discard;
mod forecast;
mod lines;
pub mod list;
mod progress;
pub mod replay;
pub mod show;
mod stalled;
pub mod stats;
mod summary;
pub mod table;
mod traffic;

use std::process::ExitCode;

use clap::builder::PossibleValuesParser;

use super::{Cli, Error};
use crate::app::{self, App};
use crate::config::Loaded;
use crate::core::model::Class;
use crate::core::replay::State;
use crate::letters::filters::Filters;
use crate::letters::now;
use crate::letters::place::{self, Place};
use crate::letters::query::Query;

/// The commands.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List letters: the open ones, unless a state or a letter is named.
    List(list::Args),
    /// Show one letter: the record, the provider's answer, what became of it, and what would today.
    Show(show::Args),
    /// Discard letters: nobody wants them any more. They stay in their topic, and are listed no more.
    Discard(discard::Args),
    /// Ask for letters to be sent again, and wait for what becomes of them.
    Replay(replay::Args),
    /// Count letters by class, route, account, room, state and age.
    Stats(stats::Args),
}

/// How the help groups filters.
const WHICH: &str = "Which letters (all that is given must fit; what is given several times fits any)";

/// Which letters are meant.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Meant {
    /// Letters by their ids, or by the beginnings that tables show.
    #[arg(value_name = "LETTER")]
    pub letters: Vec<String>,
    /// Of this class.
    #[arg(long, help_heading = WHICH, value_name = "CLASS", value_delimiter = ',',
          value_parser = PossibleValuesParser::new(Class::ALL.map(Class::word)))]
    pub class: Vec<String>,
    /// Owed to this room.
    #[arg(long, help_heading = WHICH, value_name = "ROOM")]
    pub room: Vec<String>,
    /// Of this route.
    #[arg(long, help_heading = WHICH, value_name = "NAME")]
    pub route: Vec<String>,
    /// Of this account.
    #[arg(long, help_heading = WHICH, value_name = "NAME")]
    pub account: Vec<String>,
    /// In this state.
    #[arg(long, help_heading = WHICH, value_name = "STATE", value_delimiter = ',',
          value_parser = PossibleValuesParser::new(State::ALL.map(State::word)))]
    pub state: Vec<String>,
    /// Written then or later: a time such as 2026-01-31T08:00:00Z, or an age such as 2h.
    #[arg(long, help_heading = WHICH, value_name = "TIME")]
    pub since: Option<String>,
    /// Written before then, as a time or an age.
    #[arg(long, help_heading = WHICH, value_name = "TIME")]
    pub until: Option<String>,
    /// Sent at least so often.
    #[arg(long, help_heading = WHICH, value_name = "N")]
    pub min_attempts: Option<u64>,
    /// With this text in the key, the value, the error or a header, whatever its case.
    #[arg(long, help_heading = WHICH, value_name = "TEXT")]
    pub text: Option<String>,
    /// In the dead-letter topic of this source; all topics when left out.
    #[arg(long, help_heading = WHICH, value_name = "NAME")]
    pub source: Vec<String>,
}

impl Meant {
    /// The same for the library.
    pub fn filters(&self) -> Filters {
        Filters {
            letter: self.letters.clone(),
            class: self.class.clone(),
            room: self.room.clone(),
            route: self.route.clone(),
            account: self.account.clone(),
            state: self.state.clone(),
            since: self.since.clone(),
            until: self.until.clone(),
            min_attempts: self.min_attempts,
            text: self.text.clone(),
            source: self.source.clone(),
        }
    }

    /// What it means now; see [`Filters::query`].
    ///
    /// # Errors
    /// [`Error::Usage`] with what is wrong.
    pub fn query(&self, unless_named: &[State]) -> Result<Query, Error> {
        self.filters().query(now(), unless_named).map_err(Error::Usage)
    }
}

/// Runs the command.
///
/// # Errors
/// A config that is wrong, arguments that do not go together, or what the broker says.
pub fn run(cli: &Cli, command: &Command) -> Result<ExitCode, Error> {
    match command {
        Command::List(args) => list::run(cli, args),
        Command::Show(args) => show::run(cli, args),
        Command::Discard(args) => discard::run(cli, args),
        Command::Replay(args) => replay::run(cli, args),
        Command::Stats(args) => stats::run(cli, args),
    }
}

/// A config with its dead-letter topics.
pub struct Opened {
    /// What was read.
    pub loaded: Loaded,
    /// What was made of it.
    pub app: App,
    /// The topics of the sources that are meant, each once.
    pub places: Vec<Place>,
}

/// Sections whose secrets nobody needs who only looks at letters, or discards them.
const NOT_TO_LOOK: &[&str] = &["accounts", "admin"];
/// The same for whoever asks the daemons for replays, and them for how they are.
const NOT_TO_ASK: &[&str] = &["accounts"];

/// Reads the config, without the secrets of these sections. Nothing connects yet.
///
/// # Errors
/// [`Error::Config`], or [`Error::Usage`] for a source that is not there.
pub fn open(cli: &Cli, sources: &[String], without: &[&str]) -> Result<Opened, Error> {
    let loaded = super::load(cli)?;
    let app = super::build(&loaded, &app::open_secrets_but_of(&loaded, without))?;
    let all = place::places(app.sources.iter().map(|source| (&source.name, &*source.broker)));
    let places = place::of_sources(&all, sources).map_err(Error::Usage)?;
    Ok(Opened { loaded, app, places })
}

/// Who works here, as rows tell it: a user and a machine.
pub fn who() -> String {
    let user = ["USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok());
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").or_else(|_| std::env::var("HOSTNAME"));
    let user = user.unwrap_or_else(|| "somebody".to_owned());
    match host {
        Ok(host) => format!("{}@{}", user.trim(), host.trim()),
        Err(_) => user,
    }
}

/// `1 letter`, `12 letters`.
fn letters(count: u64) -> String {
    counted(count, "letter", "letters")
}

/// A count with the word for one or for several.
fn counted(count: u64, one: &str, several: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { several })
}

fn are(count: u64) -> &'static str {
    if count == 1 { "is" } else { "are" }
}
