//! `roomcast letters discard`: letters that nobody wants any more.

use std::io::{BufRead, IsTerminal as _};
use std::process::ExitCode;

use super::progress::Progress;
use super::{Meant, letters, now, who};
use crate::cli::check::Format;
use crate::cli::{Cli, Error, output};
use crate::core::replay::State;
use crate::letters::discard::{self, Chosen, Decision, Discarded};

/// What `discard` takes.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  roomcast letters discard -c roomcast.toml 6f2a4c60-8b7e --why 'the match was cancelled'
  roomcast letters discard -c roomcast.toml --class expired --until 7d --yes
  roomcast letters discard -c roomcast.toml --state open,parked --route scores

Filters mean open letters, unless a state is named. A letter that was replayed or
discarded already stays as it is. The exit code is 1 when nothing was changed at
the question, or when a letter that is named is not there.")]
pub struct Args {
    /// Which letters.
    #[command(flatten)]
    pub meant: Meant,
    /// Why, for those who look at them later.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub why: String,
    /// Do not ask.
    #[arg(long)]
    pub yes: bool,
    /// How the counts are printed.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: Format,
}

/// Runs the command.
///
/// # Errors
/// As [`super::run`]; [`Error::Usage`] where nothing says which letters, or nobody can be asked.
pub fn run(cli: &Cli, args: &Args) -> Result<ExitCode, Error> {
    if args.meant.filters().mean_everything() && args.meant.state.is_empty() {
        let wanted = "discard: which letters? Name them, or give a filter; all open ones are --state open";
        return Err(Error::Usage(wanted.to_owned()));
    }
    let opened = super::open(cli, &args.meant.source, super::NOT_TO_LOOK)?;
    let query = args.meant.query(&[State::Open])?;
    if !args.yes && !std::io::stdin().is_terminal() {
        let wanted = "discard asks before it changes anything, and stdin is no terminal: give --yes";
        return Err(Error::Usage(wanted.to_owned()));
    }
    let runtime = super::super::runtime()?;
    let looking = Progress::new("letters looked at");
    let chosen = discard::choose(&opened.places, &query, &looking.count);
    let chosen = runtime.block_on(looking.during(chosen)).map_err(anyhow::Error::msg)?;
    if chosen.count() > 0 && !args.yes && !confirm(&chosen, &mut std::io::stdin().lock()) {
        output::complain("Nothing is changed.\n");
        return Ok(ExitCode::FAILURE);
    }
    let decision = Decision { by: who(), at: now(), why: args.why.clone() };
    let writing = Progress::new("letters discarded");
    let work = chosen.discard(&opened.places, &decision, &writing.count);
    let done = runtime.block_on(writing.during(work)).map_err(anyhow::Error::msg)?;
    output::print(&match args.format {
        Format::Text => text(&done),
        Format::Json => format!("{:#}\n", done.json()),
    })?;
    Ok(if done.missing == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Asks; whatever is not a yes is a no.
fn confirm(chosen: &Chosen, answers: &mut impl BufRead) -> bool {
    output::complain(&format!("Discard {}? [y/N] ", letters(chosen.count())));
    let mut answer = String::new();
    let read = answers.read_line(&mut answer);
    read.is_ok() && matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

fn text(done: &Discarded) -> String {
    let mut text = format!("{} discarded.\n", letters(done.discarded));
    if done.finals > 0 {
        text += &format!("{} replayed or discarded before: left as they are.\n", letters(done.finals));
    }
    if done.missing > 0 {
        text += &format!("{} named and not there.\n", letters(done.missing));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_yes_is_a_yes() {
        for (answer, yes) in [("y\n", true), ("YES\n", true), ("\n", false), ("", false), ("yep\n", false)] {
            assert_eq!(confirm(&Chosen::default(), &mut answer.as_bytes()), yes, "{answer:?}");
        }
    }

    #[test]
    fn what_was_done_is_told() {
        let done = Discarded { discarded: 1, finals: 2, missing: 0 };
        assert_eq!(
            text(&done),
            "1 letter discarded.\n2 letters replayed or discarded before: left as they are.\n"
        );
        let none = Discarded { missing: 1, ..Discarded::default() };
        assert_eq!(text(&none), "0 letters discarded.\n1 letter named and not there.\n");
    }
}
