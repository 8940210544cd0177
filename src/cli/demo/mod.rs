//! `roomcast demo`: the whole way of a record in one process, with everything that goes wrong.
//!
//! An embedded Kafka broker, both provider simulators with the pages' own limits, and the daemon as
//! `run` has it, built from a config that `check` accepts. `script` says what happens, `play` makes
//! it happen and tells it, `ledger` keeps what is due, and `account` compares at the end what was
//! produced with what the simulators and the dead-letter topic hold. Nothing leaves this machine.

mod account;
mod ledger;
mod letters;
mod play;
mod screen;
mod script;
mod stage;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use self::account::Account;
use self::play::Play;
use self::screen::Screen;
use self::stage::Stage;
use super::{Cli, Error, output, run, simulate};
use crate::telemetry;

/// What `demo` takes.
#[derive(Clone, Copy, Debug, clap::Args)]
#[command(after_help = "\
It ends by itself in less than a minute; the exit code is 0 when its account adds up.
The daemon inside logs nothing unless --log-level is given.

Examples:
  roomcast demo
  roomcast demo --keep                    then look around: broker, simulators, metrics
  roomcast demo --show-config             the config it runs with
  roomcast demo --format json 2>/dev/null | jq .adds_up")]
pub struct Args {
    /// Print the config that the demo runs with, and end.
    #[arg(long)]
    pub show_config: bool,
    /// Leave everything running at the end, until Ctrl-C, and print the addresses.
    #[arg(long)]
    pub keep: bool,
    /// How the account at the end is printed; with json the story goes to stderr.
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub format: Format,
}

/// How the account is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// One JSON object.
    Json,
}

/// Runs the command: 0 when the account adds up, else 1.
///
/// # Errors
/// What cannot be started, or written to.
pub fn main(cli: &Cli, args: &Args) -> Result<ExitCode, Error> {
    if args.show_config {
        output::print(stage::CONFIG)?;
        return Ok(ExitCode::SUCCESS);
    }
    if !cli.config.is_empty() {
        return Err(Error::Usage("demo has a config of its own (--show-config); -c goes with run".into()));
    }
    if cli.log_level.is_some() {
        let begun = telemetry::init(cli.log_level.as_deref(), cli.log_format);
        begun.map_err(|error| Error::Usage(format!("{error:#}")))?;
    }
    let runtime = super::runtime()?;
    let code = runtime.block_on(perform(args));
    runtime.shutdown_timeout(run::LINGER);
    Ok(code?)
}

async fn perform(args: &Args) -> anyhow::Result<ExitCode> {
    let aside = args.format == Format::Json;
    let terminal = match aside {
        true => std::io::stderr().is_terminal(),
        false => std::io::stdout().is_terminal(),
    };
    let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let stage = Stage::build().await?;
    let mut play = Play::new(stage, Screen::new(aside, terminal, colour));
    let told = tokio::select! {
        account = tell(&mut play) => Some(account?),
        stop = simulate::stop_signal() => {
            stop?;
            None
        }
    };
    let Some(account) = told else {
        play.break_off()?;
        play.end().await;
        return Ok(ExitCode::FAILURE);
    };
    match args.format {
        Format::Table => output::print(&account.text())?,
        Format::Json => output::print(&format!("{:#}\n", account.json()))?,
    }
    if args.keep {
        play.keep().await?;
    }
    play.end().await;
    Ok(if account.wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The story, and its account.
async fn tell(play: &mut Play) -> anyhow::Result<Account> {
    script::perform(play).await?;
    play.account().await
}
