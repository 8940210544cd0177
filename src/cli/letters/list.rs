//! `roomcast letters list`: letters as they are found, as a table or for machines.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value as Json;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;

use super::progress::Progress;
use super::table::{Column, Table};
use super::{Meant, now};
use crate::cli::{Cli, Error, output};
use crate::core::replay::State;
use crate::core::time::Wall;
use crate::letters::query::{Query, short};
use crate::letters::{Found, Look, tell};

/// What `list` takes.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(after_help = "\
Examples:
  roomcast letters list -c roomcast.toml
  roomcast letters list -c roomcast.toml --class rejected,room_gone --since 2h
  roomcast letters list -c roomcast.toml --room 185145305923585 --text 'gift.sent'
  roomcast letters list -c roomcast.toml --state parked --format csv > parked.csv
  roomcast letters list -c roomcast.toml --format json | jq -r .error | sort | uniq -c

Letters come oldest first within a partition of their topic. A letter that a
Kafka topic holds twice is listed once.")]
pub struct Args {
    /// Which letters.
    #[command(flatten)]
    pub meant: Meant,
    /// How they are printed; json has one object a line.
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub format: Format,
    /// At most so many.
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
}

/// How letters are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// One JSON object a line.
    Json,
    /// Comma-separated values, with a line of titles.
    Csv,
}

/// Letters that wait to be printed.
const AHEAD: usize = 16;
/// What is written at once.
const CHUNK: usize = 32 << 10;
/// After so long without another letter, the ones that came are printed.
const QUIET: Duration = Duration::from_millis(300);

/// Runs the command.
///
/// # Errors
/// As [`super::run`].
pub fn run(cli: &Cli, args: &Args) -> Result<ExitCode, Error> {
    let opened = super::open(cli, &args.meant.source, super::NOT_TO_LOOK)?;
    let query = args.meant.query(&[State::Open])?;
    let several = opened.app.sources.len() > 1;
    let mut printer = Printer::new(args.format, &query, several, output::width());
    let progress = Progress::new("letters looked at");
    let limit = args.limit.unwrap_or(u64::MAX);
    let listed = super::super::runtime()?.block_on(async {
        let (into, letters) = mpsc::channel(AHEAD);
        let look = Look { places: &opened.places, query: &query, passed: &progress.count };
        let print = print(letters, &mut printer, limit, &progress);
        let (looked, listed) = progress.during(async { tokio::join!(look.send(into), print) }).await;
        let listed = listed?;
        looked.map_err(anyhow::Error::msg).map(|_| listed)
    })?;
    if listed == 0 && args.format == Format::Table {
        output::complain("No letters.\n");
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints letters as they come, until there are enough or nobody reads; how many.
async fn print(
    mut letters: mpsc::Receiver<(usize, Found)>,
    printer: &mut Printer,
    limit: u64,
    progress: &Progress,
) -> anyhow::Result<u64> {
    let mut text = printer.head()?;
    let mut listed = 0;
    let write = |text: &mut String| {
        if text.is_empty() {
            return Ok(true);
        }
        progress.clear();
        let is_read = output::print_more(text);
        text.clear();
        is_read
    };
    while listed < limit {
        let next = match letters.try_recv() {
            Ok(next) => Some(next),
            Err(TryRecvError::Disconnected) => None,
            Err(TryRecvError::Empty) => {
                if !write(&mut text)? {
                    return Ok(listed);
                }
                match tokio::time::timeout(QUIET, letters.recv()).await {
                    Ok(next) => next,
                    Err(_) => {
                        text += &printer.settle();
                        continue;
                    }
                }
            }
        };
        let Some((_, found)) = next else { break };
        text += &printer.letter(&found, now())?;
        listed += 1;
        if text.len() >= CHUNK && !write(&mut text)? {
            return Ok(listed);
        }
    }
    text += &printer.settle();
    write(&mut text)?;
    Ok(listed)
}

/// Makes text of letters.
enum Printer {
    Table { table: Table, has_state: bool, has_source: bool },
    Json,
    Csv,
}

impl Printer {
    fn new(format: Format, query: &Query, has_source: bool, width: Option<usize>) -> Self {
        match format {
            Format::Json => Self::Json,
            Format::Csv => Self::Csv,
            Format::Table => {
                let has_state = query.states.len() != 1;
                Self::Table {
                    table: Table::new(columns(has_state, has_source), width),
                    has_state,
                    has_source,
                }
            }
        }
    }

    fn head(&self) -> anyhow::Result<String> {
        match self {
            Self::Csv => line_of_csv(tell::COLUMNS),
            Self::Table { .. } | Self::Json => Ok(String::new()),
        }
    }

    fn letter(&mut self, found: &Found, now: Wall) -> anyhow::Result<String> {
        Ok(match self {
            Self::Json => format!("{}\n", Json::Object(tell::fields(found))),
            Self::Csv => csv(found)?,
            Self::Table { table, has_state, has_source } => {
                let mut row = vec![short(found.told.letter), found.header("class").unwrap_or_default()];
                row.push(found.written().map(|at| age(at, now)).unwrap_or_default());
                if *has_state {
                    row.push(found.state.word().to_owned());
                }
                if *has_source {
                    row.push(found.told.source.clone());
                }
                row.push(found.told.route.clone().unwrap_or_default());
                row.push(rooms(found));
                row.push(found.attempts().to_string());
                row.push(found.header("error").unwrap_or_default());
                table.row(&row)
            }
        })
    }

    /// What was held back to see how wide it is.
    fn settle(&mut self) -> String {
        match self {
            Self::Table { table, .. } => table.settle(),
            Self::Json | Self::Csv => String::new(),
        }
    }
}

fn columns(has_state: bool, has_source: bool) -> Vec<Column> {
    let text = |title, most| Column { title, most, is_number: false };
    let mut columns = vec![text("LETTER", 13), text("CLASS", 9)];
    columns.push(Column { title: "AGE", most: 4, is_number: true });
    if has_state {
        columns.push(text("STATE", 9));
    }
    if has_source {
        columns.push(text("SOURCE", 14));
    }
    columns.extend([text("ROUTE", 16), text("ROOM", 24)]);
    columns.push(Column { title: "TRIES", most: 5, is_number: true });
    columns.push(text("ERROR", usize::MAX));
    columns
}

/// The first room that is owed, and how many more are.
fn rooms(found: &Found) -> String {
    match found.told.rooms.as_slice() {
        [] => String::new(),
        [room] => room.to_string(),
        [room, more @ ..] => format!("{room} +{}", more.len()),
    }
}

/// `12s`, `5m`, `3h`, `2d`.
pub fn age(at: Wall, now: Wall) -> String {
    let seconds = now.seconds().saturating_sub(at.seconds());
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

fn csv(found: &Found) -> anyhow::Result<String> {
    let fields = tell::fields(found);
    let cell = |column: &&str| match fields.get(*column) {
        None => String::new(),
        Some(Json::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    line_of_csv(tell::COLUMNS.iter().map(cell))
}

fn line_of_csv(cells: impl IntoIterator<Item = impl AsRef<[u8]>>) -> anyhow::Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(cells)?;
    let bytes = writer.into_inner().map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok(String::from_utf8(bytes)?)
}

#[cfg(test)]
#[path = "list_tests.rs"]
mod tests;
