//! The command line: arguments → a command → an exit code.
//!
//! One file a command. Results go to stdout, logs and problems to stderr. A new command is a file, a
//! variant of [`Command`] and its line in `dispatch`.

pub mod cases;
pub mod check;
pub mod demo;
pub mod explain;
pub mod letters;
pub mod live;
pub mod output;
pub mod record;
mod reload;
pub mod run;
pub mod schema;
pub mod send;
pub mod shells;
pub mod simulate;

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::app::{self, App};
use crate::config::{self, Broken, Loaded, Texts, render};
use crate::core::provider::Stamp;
use crate::core::section::{OpenSecret, Problem};
use crate::directory::Opened;
use crate::telemetry;

/// Brings events from Kafka and NATS JetStream into the chatrooms of Easemob and NetEase Yunxin.
#[derive(Debug, Parser)]
#[command(name = "roomcast", version, max_term_width = 100, after_help = EXAMPLES)]
pub struct Cli {
    /// A config file in TOML. Given several times, later files go over earlier ones; a later list
    /// replaces an earlier one. Variables such as ROOMCAST__ADMIN__LISTEN go over all files.
    #[arg(short, long, value_name = "FILE", value_hint = clap::ValueHint::FilePath, global = true)]
    pub config: Vec<PathBuf>,

    /// What is logged: error, warn, info, debug, trace, or a filter such as roomcast=debug,info.
    #[arg(long, value_name = "FILTER", env = "RUST_LOG", hide_env_values = true, global = true)]
    pub log_level: Option<String>,

    /// How it is logged; human on a terminal, else json.
    #[arg(long, value_name = "FORMAT", global = true)]
    pub log_format: Option<telemetry::Format>,

    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  roomcast demo                                see it work, with nothing installed
  roomcast run -c roomcast.toml                the daemon
  roomcast check -c roomcast.toml              is the config right?
  roomcast check -c roomcast.toml --live       and do the brokers and accounts let us in?
  echo '{\"type\":\"gift.sent\"}' | roomcast explain -c roomcast.toml --key 42
  roomcast test -c roomcast.toml               do the cases in *.test.toml beside it still hold?
  roomcast send -c roomcast.toml --account live --room 42 --text 'hello'
  roomcast letters list -c roomcast.toml       what could not be delivered, and why?

Exit codes: 0 done, 1 failed, 2 wrong usage, 78 the config is wrong.";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// See it all at once, with nothing to install: a broker, both providers and a live stream with
    /// everything that goes wrong, in one process, in less than a minute.
    Demo(demo::Args),
    /// Bring events into chatrooms until a signal ends it: the daemon. SIGHUP reads the config again.
    Run,
    /// Read and compile all of the config, and say what it amounts to.
    Check(check::Args),
    /// Show what would become of one event, read from stdin: routes tried, exact HTTP requests.
    Explain(explain::Args),
    /// Run config tests: events in, messages expected; shows what differs. Nothing is sent.
    Test(cases::Args),
    /// Send one text to one room now, and show the provider's answer.
    Send(send::Args),
    /// Work the dead letters: list them, look at one, count, replay or discard them.
    #[command(subcommand)]
    Letters(letters::Command),
    /// Stand in for a provider (logins, limits, bans, silent drops, repeats and faults as it has them)
    /// or for a Kafka broker.
    #[command(subcommand)]
    Simulate(simulate::Target),
    /// Print the JSON Schema of the config: editors with Taplo complete and check by it.
    Schema,
    /// Print completions for a shell.
    Completions(shells::Completions),
    /// Print the manual page, or write those of all commands.
    Man(shells::Man),
}

/// Why a command ended without its result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The config is wrong; the text tells all of it.
    #[error("{0}")]
    Config(String),
    /// The arguments do not go together, or name what is not there.
    #[error("error: {0}\n")]
    Usage(String),
    /// Anything else.
    #[error("error: {0:#}\n")]
    Failed(#[from] anyhow::Error),
}

/// `EX_CONFIG` of sysexits.h.
const EX_CONFIG: u8 = 78;

impl Error {
    /// The process's exit code.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Config(_) => ExitCode::from(EX_CONFIG),
            Self::Usage(_) => ExitCode::from(2),
            Self::Failed(_) => ExitCode::FAILURE,
        }
    }
}

/// Runs a command to its end.
pub fn main(cli: &Cli) -> ExitCode {
    crate::broker::kafka::begin();
    match dispatch(cli) {
        Ok(code) => code,
        Err(error) => {
            output::complain(&error.to_string());
            error.exit_code()
        }
    }
}

fn dispatch(cli: &Cli) -> Result<ExitCode, Error> {
    match &cli.command {
        Command::Run => run::main(cli),
        Command::Demo(args) => demo::main(cli, args),
        Command::Check(args) => check::run(cli, args),
        Command::Explain(args) => explain::run(cli, args),
        Command::Test(args) => cases::run(cli, args),
        Command::Send(args) => send::run(cli, args),
        Command::Letters(command) => letters::run(cli, command),
        Command::Simulate(target) => {
            runtime()?.block_on(simulate::run(target.clone()))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Schema => schema::run(),
        Command::Completions(args) => shells::completions(args),
        Command::Man(args) => shells::man(args),
    }
}

/// Reads the config's files and the environment.
///
/// # Errors
/// [`Error::Config`] with everything that keeps them from being read.
pub fn load(cli: &Cli) -> Result<Loaded, Error> {
    read(cli).map_err(|(problems, texts)| refused(&problems, &texts))
}

/// Reads the config's files and the environment, or tells what keeps them from being read.
fn read(cli: &Cli) -> Result<Loaded, (Vec<Problem>, Texts)> {
    config::load(&cli.config, environment()).map_err(|broken| (all_problems(&broken), broken.texts))
}

/// The whole environment, as `config::load` wants it.
fn environment() -> impl Iterator<Item = (String, String)> {
    let env = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
    // A variable of ours that is not UTF-8 keeps its name, so that its key is not silently absent.
    env.map(|(name, value)| (name, value.to_string_lossy().into_owned()))
}

/// What is wrong with a config that cannot be read, and with what could be read of it.
pub fn all_problems(broken: &Broken) -> Vec<Problem> {
    let mut problems = app::problems_of_rest(&broken.rest(), &app::leave_secret_closed);
    problems.retain(|problem| broken.reads_up_to(&problem.place));
    problems.extend(broken.problems.iter().cloned());
    problems
}

/// Time and nonce of this moment.
pub fn stamp_now() -> Stamp {
    Stamp { at: crate::letters::now(), nonce: uuid::Uuid::new_v4().as_u128() }
}

/// Builds everything the config describes.
///
/// # Errors
/// [`Error::Config`] with all problems.
pub fn build(loaded: &Loaded, open_secret: OpenSecret<'_>) -> Result<App, Error> {
    app::build(loaded, open_secret).map_err(|problems| refused(&problems, &loaded.texts))
}

/// Reads the files of directories.
///
/// # Errors
/// [`Error::Config`] with every file that cannot be read or is broken.
pub fn open_directories(app: &App, loaded: &Loaded) -> Result<Vec<Option<Opened>>, Error> {
    app.open_directories().map_err(|problems| refused(&problems, &loaded.texts))
}

fn refused(problems: &[Problem], texts: &Texts) -> Error {
    Error::Config(render::problems(problems, texts, look()))
}

/// How problems look on this process's stderr.
pub fn look() -> render::Look {
    const WIDTH: usize = 100;
    match std::io::stderr().is_terminal() {
        true => render::Look::Picture { width: WIDTH, colour: std::env::var_os("NO_COLOR").is_none() },
        false => render::Look::Plain,
    }
}

/// A runtime for the commands that speak to the network: one thread, beside those of the Kafka
/// client. The loop, the calls and their connections wake each other all the time; on two threads
/// every other wake goes through the kernel, which cost a quarter of the processor time of a record
/// and brought no more records a second (`benches/end_to_end.sh kafka-20ms-1000`).
///
/// # Errors
/// When the system gives no timer or poll.
pub fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}
