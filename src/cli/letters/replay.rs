//! `roomcast letters replay`: asks for letters to be sent again, and waits for what becomes of them.
//!
//! Nothing is sent from here: the daemons read the requests, send with what live traffic leaves of the
//! quotas, and say in the state table what became of each letter. With `--standalone`, while there are none,
//! their pipeline runs in the command (`alone`). What asking is stands in `crate::letters::ask`.

use std::io::{BufRead, IsTerminal as _};
use std::process::ExitCode;

use uuid::Uuid;

use super::alone::{self, Alone};
use super::asking::{Run, Sends};
use super::{Meant, Opened, forecast, letters, now, summary, traffic, who};
use crate::cli::run::LINGER;
use crate::cli::{Cli, Error, output};
use crate::core::replay::{Asked, Content};
use crate::letters::ask::Wish;
use crate::letters::asking::Asking;
use crate::letters::forecast::Forecast;
use crate::letters::patch;
use crate::letters::rate::Rate;
use crate::letters::summary::Summary;

/// What `replay` takes.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  roomcast letters replay -c roomcast.toml --class exhausted,rejected --since 2h --dry-run
  roomcast letters replay -c roomcast.toml --class mapping --patch '.room = \"lobby\"' --why 'room was renamed'
  roomcast letters replay -c roomcast.toml --state parked --rate 50/s --limit 1000 --yes
  roomcast letters replay -c roomcast.toml --class exhausted --standalone    # while no daemon runs

Filters mean all letters that fit; open ones are asked for, parked ones when --state parked or an id says so,
and those that somebody else has asked for with --state requested. The others are counted and stay as they are.
Ctrl-C ends the asking after the letters that are in progress: the same command goes on with the rest.
The exit code is 1 when a letter could not be asked for, or when it was stopped with letters left.")]
pub struct Args {
    /// Which letters. (`--route` also takes `original` and `current`, see there.)
    #[command(flatten)]
    pub meant: Meant,
    /// Ask for at most so many in a time: 50/s, 300/min, 1000/h.
    #[arg(long, value_name = "RATE", value_parser = Rate::parse)]
    pub rate: Option<Rate>,
    /// Ask for at most so many.
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// Change the value first: a jq filter as in routes, whose output takes its place. A letter for which it
    /// fails stays open.
    #[arg(long, value_name = "JQ")]
    pub patch: Option<String>,
    /// Let the time-to-live of the route count; else a replay is sent however old it is.
    #[arg(long)]
    pub keep_ttl: bool,
    /// Why, for those who look at the letters later.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub why: String,
    /// Say what would be done, and how long it would take; ask for nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask whether it is meant so.
    #[arg(long)]
    pub yes: bool,
    /// Do not wait for what becomes of the letters.
    #[arg(long)]
    pub no_wait: bool,
    /// Send from here, while no daemon runs: refused while one reads. Ends when every letter that was asked
    /// for has come to its end, also those of earlier requests; and when a daemon comes.
    #[arg(long, conflicts_with = "no_wait")]
    pub standalone: bool,
    /// How the summary is printed.
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub format: Format,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// One JSON object.
    Json,
}

/// Runs the command.
///
/// # Errors
/// As [`super::run`]; [`Error::Usage`] for a patch that is no filter, or where nobody can be asked.
pub fn run(cli: &Cli, args: &Args) -> Result<ExitCode, Error> {
    let (meant, content) = content(&args.meant)?;
    let query = meant.query(&[])?;
    let patch = args.patch.as_deref().map(|text| patch::compile("--patch", text)).transpose();
    let patch = patch.map_err(Error::Usage)?;
    if !args.yes && !args.dry_run && !std::io::stdin().is_terminal() {
        let wanted = "replay asks before it begins, and stdin is no terminal: give --yes";
        return Err(Error::Usage(wanted.to_owned()));
    }
    let opened = super::open(cli, &meant.source, super::NOT_TO_ASK)?;
    let asked = Asked { id: Uuid::new_v4(), by: who(), at: now(), content, keep_ttl: args.keep_ttl };
    let change = patch.map(|patch| patch::change(patch, &opened.app.today()));
    let wish = Wish { query, asked, why: args.why.clone(), limit: args.limit, change };
    if args.dry_run {
        return foretell(args, &opened, wish);
    }
    if args.standalone {
        alone::log(cli)?;
    }
    let runtime = super::super::runtime()?;
    let summary = runtime.block_on(replay(args, &opened, wish));
    // A name that is being looked up would keep the process for as long as the resolver likes.
    runtime.shutdown_timeout(LINGER);
    let Some(summary) = summary? else {
        output::complain("Nothing is changed.\n");
        return Ok(ExitCode::FAILURE);
    };
    output::print(&match args.format {
        Format::Table => summary::text(&summary),
        Format::Json => format!("{:#}\n", summary.json()),
    })?;
    Ok(if summary.is_done() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Asks, once that is confirmed; `None` when it is not.
async fn replay(args: &Args, opened: &Opened, wish: Wish) -> Result<Option<Summary>, Error> {
    let sends = match args.standalone {
        true => Sends::Here(Box::new(Alone::prepare(opened).await?)),
        false => Sends::Daemons { waits: !args.no_wait },
    };
    let run = Run::join(opened, wish).await.map_err(anyhow::Error::msg)?;
    if !args.yes {
        let count = run.asking.count().await.map_err(anyhow::Error::msg)?;
        if !confirm(count, &mut std::io::stdin().lock()) {
            return Ok(None);
        }
    }
    Ok(Some(run.run(args.rate, sends).await.map_err(anyhow::Error::msg)?))
}

/// Says what would be done.
fn foretell(args: &Args, opened: &Opened, wish: Wish) -> Result<ExitCode, Error> {
    let today = opened.app.today();
    let (plan, parts) = super::super::runtime()?.block_on(async {
        let asking = Asking::join(&opened.places, wish).await.map_err(anyhow::Error::msg)?;
        let looked = (today.look_up)();
        let (plan, parts) = tokio::join!(asking.plan(&today, &looked, now()), traffic::parts(&opened.app));
        anyhow::Ok((plan.map_err(anyhow::Error::msg)?, parts))
    })?;
    let told =
        Forecast { today: &today, plan: &plan, parts: &parts, rate: args.rate, keep_ttl: args.keep_ttl };
    output::print(&match args.format {
        Format::Table => forecast::text(&told),
        Format::Json => format!("{:#}\n", told.json()),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// `--route` names routes, as a filter; its words `original` and `current` say which route a replay takes
/// its content from.
fn content(meant: &Meant) -> Result<(Meant, Content), Error> {
    let mut meant = meant.clone();
    let says = |word: &str| meant.route.iter().any(|route| route == word);
    let content = match (says("original"), says("current")) {
        (true, true) => return Err(Error::Usage("--route: original or current, not both".to_owned())),
        (true, false) => Content::Original,
        (false, _) => Content::Current,
    };
    meant.route.retain(|route| route != "original" && route != "current");
    Ok((meant, content))
}

/// Asks; whatever is not a yes is a no.
fn confirm(count: u64, answers: &mut impl BufRead) -> bool {
    output::complain(&format!("Ask for a replay of {}? [y/N] ", letters(count)));
    let mut answer = String::new();
    let read = answers.read_line(&mut answer);
    read.is_ok() && matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn route_is_a_filter_but_for_two_words() {
        let of = |routes: &[&str]| {
            let route = routes.iter().map(|route| (*route).to_owned()).collect();
            content(&Meant { route, ..Meant::default() }).map(|(meant, content)| (meant.route, content))
        };
        assert_eq!(of(&["gifts"]).unwrap(), (vec!["gifts".to_owned()], Content::Current));
        assert_eq!(of(&["original", "gifts"]).unwrap(), (vec!["gifts".to_owned()], Content::Original));
        assert_eq!(of(&["current"]).unwrap(), (vec![], Content::Current));
        assert!(of(&["original", "current"]).is_err());
    }

    #[test]
    fn only_a_yes_is_a_yes() {
        for (answer, yes) in [("y\n", true), ("YES\n", true), ("\n", false), ("", false), ("yep\n", false)] {
            assert_eq!(confirm(3, &mut answer.as_bytes()), yes, "{answer:?}");
        }
    }
}
