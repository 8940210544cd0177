//! `roomcast letters stats`: how many letters there are, of which kinds, and how old they are.

use std::process::ExitCode;

use super::list::age;
use super::progress::Progress;
use super::{Meant, letters, now};
use crate::cli::{Cli, Error, output};
use crate::core::time::Wall;
use crate::letters::Look;
use crate::letters::stats::{KINDS, Stats};

/// What `stats` takes.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(after_help = "\
Examples:
  roomcast letters stats -c roomcast.toml
  roomcast letters stats -c roomcast.toml --state open --since 1h --format json

Letters of every state are counted, unless one is named. A letter that is owed to
two rooms counts for both.")]
pub struct Args {
    /// Which letters.
    #[command(flatten)]
    pub meant: Meant,
    /// How many rooms are shown, those with the most letters first.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub rooms: usize,
    /// How they are printed.
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub format: Format,
}

/// How counts are printed.
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
/// As [`super::run`].
pub fn run(cli: &Cli, args: &Args) -> Result<ExitCode, Error> {
    let opened = super::open(cli, &args.meant.source, super::NOT_TO_LOOK)?;
    let query = args.meant.query(&[])?;
    let progress = Progress::new("letters looked at");
    let mut stats = Stats::default();
    let look = Look { places: &opened.places, query: &query, passed: &progress.count };
    let count = look.each(|_, found| {
        stats.take(&found);
        true
    });
    super::super::runtime()?.block_on(progress.during(count)).map_err(anyhow::Error::msg)?;
    output::print(&match args.format {
        Format::Table => text(&stats, args.rooms, now()),
        Format::Json => format!("{:#}\n", stats.json(args.rooms)),
    })?;
    Ok(ExitCode::SUCCESS)
}

fn text(stats: &Stats, rooms: usize, now: Wall) -> String {
    let mut text = letters(stats.letters);
    if let (Some(oldest), Some(newest)) = (stats.oldest, stats.newest) {
        text += &format!(", written from {} to {} ago", age(oldest, now), age(newest, now));
    }
    text.push('\n');
    for (number, kind) in KINDS.iter().enumerate() {
        let kind = if *kind == "dead_letter" { "dead-letter topic" } else { kind };
        text += &table(&format!("By {kind}"), &stats.top(number));
    }
    let top = stats.top_rooms(rooms);
    let shown = if top.len() < stats.rooms() {
        format!(", the first {} of {}", top.len(), stats.rooms())
    } else {
        String::new()
    };
    text += &table(&format!("By room{shown}"), &top);
    if stats.other_rooms > 0 {
        text += &format!("  and {} to rooms that are not counted apart\n", stats.other_rooms);
    }
    text
}

/// Counts before their words, so that words of any width stand straight.
fn table(title: &str, counts: &[(&str, u64)]) -> String {
    if counts.iter().all(|(word, _)| word.is_empty()) {
        return String::new();
    }
    let width = counts.iter().map(|(_, count)| count.to_string().len()).max().unwrap_or(0);
    let line = |(word, count): &(&str, u64)| {
        let word = if word.is_empty() { "(none)".into() } else { output::plain(word) };
        format!("  {count:>width$}  {word}\n")
    };
    format!("\n{title}\n{}", counts.iter().map(line).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_stand_straight_before_their_words() {
        let told = table("By room", &[("房间一", 1_200), ("", 3)]);
        assert_eq!(told, "\nBy room\n  1200  房间一\n     3  (none)\n");
        assert_eq!(table("By route", &[("", 3)]), "", "a kind that no letter has a word for is left out");
    }
}
