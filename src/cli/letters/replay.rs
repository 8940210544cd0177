//! `roomcast letters replay`: asks for letters to be sent again, and waits for what becomes of them.
//!
//! Nothing is sent from here: the daemons read the requests, send with what live traffic leaves of the
//! quotas, and say in the state table what became of each letter. With `--standalone`, while there are none,
//! their pipeline runs in the command (`alone`). What asking is stands in `crate::letters::ask`.

use std::io::{BufRead, IsTerminal as _};
use std::process::ExitCode;

use uuid::Uuid;

use super::alone::{self, Alone};
use super::asking::{Asking, Sends};
use super::forecast::Forecast;
use super::summary::Summary;
use super::{Meant, Opened, now, traffic, who};
use crate::cli::run::LINGER;
use crate::cli::{Cli, Error, output};
use crate::config::render::position;
use crate::core::model::SourceId;
use crate::core::replay::{Asked, Content, Patch, Told};
use crate::letters::ask::{Change, Wish};
use crate::letters::rate::Rate;

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
    let patch = args.patch.as_deref().map(patch).transpose()?;
    if !args.yes && !args.dry_run && !std::io::stdin().is_terminal() {
        let wanted = "replay asks before it begins, and stdin is no terminal: give --yes";
        return Err(Error::Usage(wanted.to_owned()));
    }
    let opened = super::open(cli, &meant.source)?;
    let asked = Asked { id: Uuid::new_v4(), by: who(), at: now(), content, keep_ttl: args.keep_ttl };
    let change = patch.map(|patch| change(patch, &opened));
    let wish = Wish { query, asked, why: args.why.clone(), limit: args.limit, change };
    if args.dry_run {
        return forecast(args, &opened, wish);
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
        Format::Table => summary.text(),
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
    let asking = Asking::join(opened, wish).await.map_err(anyhow::Error::msg)?;
    if !args.yes {
        let count = asking.count().await.map_err(anyhow::Error::msg)?;
        if !confirm(count, &mut std::io::stdin().lock()) {
            return Ok(None);
        }
    }
    Ok(Some(asking.run(args.rate, sends).await.map_err(anyhow::Error::msg)?))
}

/// Says what would be done.
fn forecast(args: &Args, opened: &Opened, wish: Wish) -> Result<ExitCode, Error> {
    let app = &opened.app;
    let (plan, used) = super::super::runtime()?.block_on(async {
        let asking = Asking::join(opened, wish).await.map_err(anyhow::Error::msg)?;
        let (plan, used) = tokio::join!(asking.plan(app, now()), traffic::used(app));
        anyhow::Ok((plan.map_err(anyhow::Error::msg)?, used))
    })?;
    let forecast = Forecast { app, plan: &plan, used: &used, keep_ttl: args.keep_ttl };
    output::print(&match args.format {
        Format::Table => forecast.text(),
        Format::Json => format!("{:#}\n", forecast.json()),
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

/// Compiles a patch, or points to what is wrong with it.
fn patch(text: &str) -> Result<Patch, Error> {
    Patch::compile(text).map_err(|refusal| {
        let (line, column) = position(text, refusal.at);
        let shown = text.lines().nth(line - 1).unwrap_or_default();
        let mark = " ".repeat(column - 1);
        let (found, wanted) = (refusal.found, refusal.wanted);
        let wanted = if wanted.starts_with("did you mean ") { wanted } else { format!("wanted {wanted}") };
        Error::Usage(format!("--patch:{line}:{column}: found {found}, {wanted}\n  {shown}\n  {mark}^"))
    })
}

/// The patch with what it needs of the sources.
fn change(patch: Patch, opened: &Opened) -> Box<Change> {
    let formats: Vec<_> = opened
        .app
        .names
        .sources
        .iter()
        .zip(0..)
        .map(|(name, id)| (name.clone(), opened.app.rules.key_format(SourceId(id))))
        .collect();
    Box::new(move |told: &Told, record| {
        let format = formats.iter().find(|(name, _)| **name == *told.source).map(|(_, format)| *format);
        patch.apply(record, format.unwrap_or_default())
    })
}

/// Asks; whatever is not a yes is a no.
fn confirm(count: u64, answers: &mut impl BufRead) -> bool {
    let letters = if count == 1 { "letter" } else { "letters" };
    output::complain(&format!("Ask for a replay of {count} {letters}? [y/N] "));
    let mut answer = String::new();
    let read = answers.read_line(&mut answer);
    read.is_ok() && matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_that_is_no_filter_is_pointed_at() {
        for (text, wanted) in [
            (".a |", "--patch:1:5: found the end"),
            (".a\n| fooo", "--patch:2:3: found `fooo`, which is not known"),
            ("input", "--patch:1:1: "),
        ] {
            let error = patch(text).expect_err(text).to_string();
            assert!(error.contains(wanted), "{error}");
            assert!(error.ends_with("^\n"), "{error:?}");
        }
        assert!(patch(".room = \"lobby\"").is_ok());
    }

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
