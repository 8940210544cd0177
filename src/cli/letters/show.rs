//! `roomcast letters show`: one letter, in words; and what would become of its event today.
//!
//! The record is restored as a replay would restore it and goes through the code of `explain`. Secrets
//! are not opened for that.

use std::process::ExitCode;

use bytes::Bytes;
use serde::de::IgnoredAny;
use serde_json::{Value as Json, json};

use super::list::age;
use super::now;
use super::progress::Progress;
use crate::cli::check::Format;
use crate::cli::{Cli, Error, explain, output};
use crate::core::replay::Row;
use crate::core::time::Wall;
use crate::letters::chain::{self, Part, Shown};
use crate::letters::filters::Filters;
use crate::letters::tell;
use crate::letters::today::{self, Today};

/// What `show` takes.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  roomcast letters show -c roomcast.toml 6f2a4c60-8b7e
  roomcast letters show -c roomcast.toml 6f2a4c60-8b7e --format json | jq .record.value")]
pub struct Args {
    /// The letter's id, or the beginning of it that tables show.
    #[arg(value_name = "LETTER")]
    pub letter: String,
    /// In the dead-letter topic of this source; all topics when left out.
    #[arg(long, value_name = "NAME")]
    pub source: Vec<String>,
    /// How it is printed.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: Format,
}

/// Runs the command.
///
/// # Errors
/// As [`super::run`]; a letter that is not there.
pub fn run(cli: &Cli, args: &Args) -> Result<ExitCode, Error> {
    let opened = super::open(cli, &args.source, super::NOT_TO_LOOK)?;
    let filters = Filters { letter: vec![args.letter.clone()], ..Filters::default() };
    let query = filters.query(now(), &[]).map_err(Error::Usage)?;
    let progress = Progress::new("letters looked at");
    let (shown, value) = super::super::runtime()?.block_on(progress.during(async {
        let shown = chain::show(&opened.places, &query, &progress.count).await.map_err(anyhow::Error::msg)?;
        let Some(shown) = shown else {
            let topics: Vec<&str> = opened.places.iter().map(|place| &*place.dead_letter).collect();
            return Err(anyhow::anyhow!("there is no letter {} in {}", args.letter, topics.join(", ")));
        };
        let value = today::rescued(&opened.places, &shown).await;
        Ok((shown, value))
    }))?;
    let today = explained(&opened.app.today(), &shown, value);
    output::print(&match args.format {
        Format::Text => text(&shown, &today, now()),
        Format::Json => {
            let today = today.map_or_else(|why| json!({ "error": why }), |today| today.json);
            format!("{:#}\n", shown.json(&today))
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

/// What `explain` says of the event.
struct Explained {
    text: String,
    json: Json,
}

/// What would become of the event, or why that cannot be told.
fn explained(
    today: &Today,
    shown: &Shown,
    value: Option<Result<Bytes, String>>,
) -> Result<Explained, String> {
    let record = today.record(shown, value)?;
    let stamp = crate::cli::stamp_now();
    Ok(today.explained(&record, &(today.look_up)(), &stamp, |told| {
        let is_late =
            |message: &crate::core::model::Message| message.expires.is_some_and(|at| at <= stamp.at);
        let late = match told.found.plan.messages.iter().any(is_late) {
            true => "A replay ignores the time-to-live, unless --keep-ttl is given.\n\n",
            false => "",
        };
        let text = format!("{late}{}", explain::show(told, explain::Format::Text));
        Explained { text, json: told.json() }
    }))
}

/// For people.
fn text(shown: &Shown, today: &Result<Explained, String>, now: Wall) -> String {
    let mut text = format!("Letter {}\n{}", shown.found.told.letter, output::columns(&about(shown, now)));
    text += &record(shown);
    if !shown.chain.is_empty() {
        text += "\nIts chain, the first letter first\n";
        text += &output::columns(&shown.chain.iter().map(|part| link(part, shown)).collect::<Vec<_>>());
    }
    text += "\nToday\n\n";
    match today {
        Ok(today) => text += &today.text,
        Err(why) => text += &format!("  Not known: {why}.\n"),
    }
    text
}

/// What the letter's headers and its row say.
fn about(shown: &Shown, now: Wall) -> Vec<Vec<String>> {
    let found = &shown.found;
    let told = &found.told;
    let header = |name: &str| found.header(name).map(|text| output::plain(&text).into_owned());
    let all = |parts: &[(&str, Option<String>)]| {
        let parts = parts.iter().filter_map(|(word, text)| Some(format!("{word}{}", text.as_ref()?)));
        parts.collect::<Vec<_>>().join(", ")
    };
    let rooms: Vec<&str> = told.rooms.iter().map(|room| &*room.0).collect();
    let tries = match found.attempts() {
        0 => "never sent".to_owned(),
        1 => "1".to_owned(),
        more => more.to_string(),
    };
    let replayed = (told.replays > 0).then(|| told.replays.to_string());
    let place = &found.record.origin;
    let origin = &told.origin;
    let lines = [
        ("state", state(shown.row.as_ref())),
        ("class", header("class").unwrap_or_default()),
        ("error", header("error").unwrap_or_default()),
        ("answer", all(&[("HTTP ", header("http-status")), ("code ", header("provider-code"))])),
        ("route", all(&[("", header("route")), ("account ", header("account"))])),
        ("rooms owed", output::plain(&rooms.join(", ")).into_owned()),
        (
            "attempts",
            all(&[("", Some(tries)), ("first ", header("first-attempt")), ("last ", header("last-attempt"))]),
        ),
        (
            "written",
            all(&[
                ("", header("written")),
                ("", found.written().map(|at| format!("{} ago", age(at, now)))),
                ("by roomcast ", header("version")),
            ]),
        ),
        ("event", all(&[("id ", header("id")), ("of ", Some(told.timestamp.rfc3339()))])),
        (
            "stood at",
            format!("{}/{}/{}, source {}", origin.topic, origin.partition, origin.offset, told.source),
        ),
        ("stands at", format!("{}/{}/{}", place.topic, place.partition, place.offset)),
        ("replays", all(&[("", replayed), ("first letter ", header("original"))])),
        (
            "value",
            header("truncated").map_or_else(String::new, |at| format!("too large to keep, it stood at {at}")),
        ),
    ];
    let lines = lines.into_iter().filter(|(_, text)| !text.is_empty());
    lines.map(|(name, text)| vec![name.to_owned(), text]).collect()
}

/// A row in words.
fn state(row: Option<&Row>) -> String {
    let Some(row) = row else { return "open".to_owned() };
    let why = if row.why.is_empty() { String::new() } else { format!(": {}", output::plain(&row.why)) };
    let next = match row.next.as_slice() {
        [] => String::new(),
        next => format!("; what failed again is in {}", tell::ids(next).join(", ")),
    };
    format!("{} by {} at {}{why}{next}", row.state.word(), output::plain(&row.by), row.at)
}

/// The record: key, headers, value.
fn record(shown: &Shown) -> String {
    let found = &shown.found;
    let bytes = |bytes: &[u8]| match std::str::from_utf8(bytes) {
        Ok(text) => output::plain(text).into_owned(),
        Err(_) => format!("{} bytes that are no text", bytes.len()),
    };
    let mut rows = Vec::new();
    if let Some(key) = &found.record.key {
        rows.push(vec!["key".to_owned(), bytes(key)]);
    }
    rows.extend(
        tell::own_headers(found).map(|(name, value)| vec![output::plain(&name).into_owned(), bytes(value)]),
    );
    let value = match found.record.value.as_deref() {
        None => "  no value\n".to_owned(),
        Some([]) => "  an empty value\n".to_owned(),
        Some(value) => match std::str::from_utf8(value) {
            Ok(text) if serde_json::from_str::<IgnoredAny>(text).is_ok() => indented(&pretty(text)),
            Ok(text) => indented(text),
            Err(_) => format!("  {} bytes that are no text\n", value.len()),
        },
    };
    format!("\nRecord\n{}\n{value}", output::columns(&rows))
}

/// JSON with a line for each value. Order and numbers stay as they are written.
fn pretty(json: &str) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let (mut depth, mut in_text, mut is_escaped) = (0_usize, false, false);
    let mut chars = json.chars().peekable();
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth));
    };
    while let Some(char) = chars.next() {
        if in_text {
            out.push(char);
            in_text = is_escaped || char != '"';
            is_escaped = !is_escaped && char == '\\';
            continue;
        }
        match char {
            '{' | '[' => {
                while chars.next_if(char::is_ascii_whitespace).is_some() {}
                out.push(char);
                if let Some(end) = chars.next_if(|next| matches!(next, '}' | ']')) {
                    out.push(end);
                } else {
                    depth += 1;
                    line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(char);
            }
            ',' => {
                out.push(char);
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            blank if blank.is_ascii_whitespace() => {}
            other => {
                in_text = other == '"';
                out.push(other);
            }
        }
    }
    out
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {}\n", output::plain(line))).collect()
}

/// A letter of the chain.
fn link(part: &Part, shown: &Shown) -> Vec<String> {
    let mark = if part.letter == shown.found.told.letter { "this one" } else { "" };
    let gone = || "no more in its topic".to_owned();
    vec![
        part.letter.to_string(),
        part.class.clone().unwrap_or_else(gone),
        part.state().word().to_owned(),
        part.written.clone().unwrap_or_default(),
        mark.to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_laid_out_as_it_was_written() {
        let json = r#" {"b":[1,{ },[ ]],"a":"x,{\"y\\","n":12345678901234567890123.0} "#;
        let wanted = "{\n  \"b\": [\n    1,\n    {},\n    []\n  ],\n  \"a\": \"x,{\\\"y\\\\\",\n  \"n\": 12345678901234567890123.0\n}";
        assert_eq!(pretty(json), wanted);
        assert_eq!(pretty("\"a\""), "\"a\"");
    }

    #[test]
    fn a_row_is_told_in_words() {
        assert_eq!(state(None), "open");
        let row = Row {
            why: "seen".to_owned(),
            ..Row::new(crate::core::replay::State::Discarded, "ann@host", Wall(0))
        };
        assert_eq!(state(Some(&row)), "discarded by ann@host at 1970-01-01T00:00:00.000Z: seen");
    }
}
