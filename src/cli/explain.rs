//! `roomcast explain`: what would become of one event, without sending anything.
//!
//! The event goes through the same code as in `run`; only times and the nonce of a signature differ
//! from one run to the next. Secrets are not opened: what is shown where one would stand is `***`.

use std::io::{IsTerminal as _, Read as _};
use std::process::ExitCode;

use serde_json::{Value as Json, json};

use super::record::{self, Given};
use super::{Cli, Error, output, requests};
use crate::app::{self, App};
use crate::config::Loaded;
use crate::core::letter::Names;
use crate::core::model::{DropReason, Plan, Record};
use crate::core::provider::Stamp;
use crate::core::route::directory::Directories;
use crate::core::route::{Explanation, Tried};
use crate::core::schedule::{OnExpiry, RoutePolicy};
use crate::core::time::Wall;

/// What `explain` takes.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(after_help = "\
Examples:
  echo '{\"type\":\"gift.sent\"}' | roomcast explain -c roomcast.toml --key 42
  roomcast explain -c roomcast.toml --source live --header 'ce_type: gift.sent' < event.json
  roomcast explain -c roomcast.toml --key 42 --format curl < event.json     a command to try by hand

The event is read from stdin as it would stand in the record's value.")]
pub struct Args {
    /// The source it comes from; may be left out when there is one.
    #[arg(long, value_name = "NAME")]
    pub source: Option<String>,
    /// The record's key; on JetStream what the source's `key` names.
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// The topic or subject; the source's first when left out.
    #[arg(long, value_name = "TOPIC")]
    pub topic: Option<String>,
    /// A header of the record, as name: value. May be given several times.
    #[arg(long = "header", value_name = "NAME: VALUE")]
    pub headers: Vec<String>,
    /// How it is printed.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: Format,
}

/// How it is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object.
    Json,
    /// A curl command for each request.
    Curl,
}

/// Runs the command.
///
/// # Errors
/// A config that is wrong, a source that is not there, or an event that cannot be read from stdin.
pub fn run(cli: &Cli, args: &Args) -> Result<ExitCode, Error> {
    let loaded = super::load(cli)?;
    let app = super::build(&loaded, &app::leave_secret_closed)?;
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        output::complain("Type the event; end it with Ctrl-D on a line of its own.\n");
    }
    let mut event = Vec::new();
    stdin.lock().read_to_end(&mut event).map_err(anyhow::Error::from)?;
    output::print(&explain(&app, &loaded, args, event, &requests::stamp_now())?)?;
    Ok(ExitCode::SUCCESS)
}

/// What becomes of a record, and why. Directories are looked up as far as they are files that can be read.
pub fn found(app: &App, record: &Record) -> Explanation {
    let (directories, closed) = directories(app);
    let mut found = app.rules.explain_with(record, &directories);
    if let Some(wait) = found.plan.waits.as_deref().filter(|wait| wait.at_most.is_none()) {
        let name = &app.directories[usize::from(wait.directory.0)].view.name;
        let why = closed.into_iter().find(|why| why.starts_with(&format!("Directory {name:?} ")));
        found.directory = why.or(found.directory);
    }
    found
}

/// The directories as far as they are files that can be read, and of the others why they are not looked
/// up: nobody is spoken to.
pub fn directories(app: &App) -> (Directories, Vec<String>) {
    let mut directories = Directories::new(app.directories.len());
    let mut closed = Vec::new();
    for directory in &app.directories {
        let why = match directory.open() {
            Some(Ok(opened)) => {
                directories.load(directory.view.id, opened.map);
                continue;
            }
            Some(Err(why)) => format!("its file cannot be used: {why}"),
            None => "it is a topic or bucket, which `run` alone reads".to_owned(),
        };
        closed.push(format!("Directory {:?} was not asked: {why}", directory.view.name));
    }
    (directories, closed)
}

/// What would become of the event, in the format asked for.
///
/// # Errors
/// [`Error::Usage`] when the arguments name what the config does not have.
pub fn explain(
    app: &App,
    loaded: &Loaded,
    args: &Args,
    event: Vec<u8>,
    stamp: &Stamp,
) -> Result<String, Error> {
    let record = record(&app.names, loaded, args, event, stamp)?;
    let found = found(app, &record);
    let told = Told {
        source: &app.names.sources[usize::from(record.id.source.0)],
        topic: &record.origin.topic,
        requests: requests::of(&app.accounts, &found.plan.messages, record.maybe_tried, stamp),
        found: &found,
        policies: &app.rules.policies(),
        now: stamp.at,
    };
    Ok(told.show(args.format))
}

/// All that is told of an event.
pub struct Told<'a> {
    /// The source it comes from.
    pub source: &'a str,
    /// Its topic or subject.
    pub topic: &'a str,
    /// The requests that carry its messages.
    pub requests: Vec<requests::Request>,
    /// What the routes made of it, and why.
    pub found: &'a Explanation,
    /// What the routes say of waiting, by `RouteId`.
    pub policies: &'a [RoutePolicy],
    /// The time it is.
    pub now: Wall,
}

impl Told<'_> {
    /// In a format.
    pub fn show(&self, format: Format) -> String {
        match format {
            Format::Text => self.text(),
            Format::Json => format!("{:#}\n", self.json()),
            Format::Curl => self.curl(),
        }
    }

    /// A script. What is no request stands as a comment.
    fn curl(&self) -> String {
        let mut script: String = self.fates().iter().map(|line| format!("# {line}\n")).collect();
        let mut secret_of = None;
        for request in &self.requests {
            if secret_of != Some(&request.account) && !request.by_hand.once.is_empty() {
                let account = &request.account;
                script += &format!(
                    "# Put the secret of account {account} in for {}.\n{}",
                    requests::MASK,
                    request.by_hand.once
                );
            }
            secret_of = Some(&request.account);
            script += &request.curl();
        }
        script
    }

    fn text(&self) -> String {
        let routes: Vec<Vec<String>> = self
            .found
            .tried
            .iter()
            .map(|tried| vec![tried.route.to_string(), took(tried).to_owned(), tried.why.clone()])
            .collect();
        let requests: String = self.requests.iter().map(|request| format!("\n{}", request.text())).collect();
        format!(
            "Routes, the first match wins\n{}\n{}\n{requests}",
            output::columns(&routes),
            self.fates().join("\n"),
        )
    }

    /// What became of the event; the requests follow it.
    fn fates(&self) -> Vec<String> {
        let mut lines = remarks(self.found, self.policies, self.now);
        lines.extend(match self.found.plan.messages.len() {
            0 => None,
            1 => Some("1 message:".to_owned()),
            n => Some(format!("{n} messages:")),
        });
        lines
    }

    fn json(&self) -> Json {
        let plan = &self.found.plan;
        let tried = &self.found.tried;
        let one = |t: &Tried| json!({ "route": *t.route, "took": t.took, "why": t.why });
        json!({
            "source": self.source,
            "topic": self.topic,
            "event": self.found.event,
            "key": self.found.key.as_ref().ok(),
            "route": tried.iter().find(|t| t.took).map(|t| t.route.to_string()),
            "routes": tried.iter().map(one).collect::<Vec<_>>(),
            "filter_steps": self.found.steps,
            "conflate": self.found.conflate,
            "expires": plan.messages.iter().find_map(|message| message.expires).map(Wall::rfc3339),
            "directory": self.found.directory,
            "waits_seconds": plan.waits.as_deref().and_then(|wait| wait.at_most).map(|at_most| at_most.as_secs_f64()),
            "dropped": plan.dropped.map(DropReason::word),
            "letters": plan.failures.iter().map(letter).collect::<Vec<_>>(),
            "requests": self.requests.iter().map(requests::Request::json).collect::<Vec<_>>(),
        })
    }
}

fn letter(failure: &crate::core::model::Failure) -> Json {
    let rooms: Vec<String> = failure.rooms.iter().map(ToString::to_string).collect();
    json!({ "class": failure.class.word(), "error": failure.error, "rooms": rooms })
}

/// What is to be said of an event beside its requests: letters, drops, and what would become of a
/// message while it waits.
pub fn remarks(found: &Explanation, policies: &[RoutePolicy], now: Wall) -> Vec<String> {
    let plan = &found.plan;
    let mut lines: Vec<String> = found.directory.iter().cloned().collect();
    for failure in &plan.failures {
        let rooms: Vec<String> = failure.rooms.iter().map(ToString::to_string).collect();
        let of = if rooms.is_empty() { String::new() } else { format!(" (rooms {})", rooms.join(", ")) };
        lines.push(format!("A letter of class {}{of}: {}", failure.class.word(), failure.error));
    }
    if let Some(reason) = plan.dropped {
        lines.push(format!("Dropped: {}", reason.word()));
    }
    match plan.waits.as_deref().map(|wait| wait.at_most) {
        None => {}
        Some(Some(at_most)) => lines.push(format!(
            "It waits until the key is known, {at_most:?} at most, then a letter of class no_route"
        )),
        Some(None) => lines.push("What it becomes is known to `roomcast run` alone".to_owned()),
    }
    lines.extend(expiry(plan, policies, now));
    if let Some(value) = &found.conflate {
        lines.push(format!(
            "Conflated by {value}: while it waits, a newer message of its lane with the same value takes its place"
        ));
    }
    lines
}

/// Until when the messages may wait, and what becomes of them then.
fn expiry(plan: &Plan, policies: &[RoutePolicy], now: Wall) -> Option<String> {
    let (message, at) = plan.messages.iter().find_map(|message| Some((message, message.expires?)))?;
    let fate = match policies.get(usize::from(message.route.0))?.on_expiry {
        OnExpiry::Drop => "dropped (expired)",
        OnExpiry::DeadLetter => "a letter of class expired",
    };
    Some(match at <= now {
        true => format!("Too late: its time-to-live ended at {}, so that it is {fate}", at.rfc3339()),
        false => format!("It may wait until {}; then it is {fate}", at.rfc3339()),
    })
}

fn took(tried: &Tried) -> &'static str {
    if tried.took { "took it" } else { "-" }
}

/// The record that the arguments describe.
///
/// # Errors
/// [`Error::Usage`] when the arguments name what the config does not have.
pub fn record(
    config: &Names,
    loaded: &Loaded,
    args: &Args,
    event: Vec<u8>,
    stamp: &Stamp,
) -> Result<Record, Error> {
    let headers: Result<Vec<(String, String)>, Error> = args.headers.iter().map(|h| header(h)).collect();
    let given = Given {
        source: args.source.clone(),
        key: args.key.clone(),
        topic: args.topic.clone(),
        headers: headers?,
        value: Some(event),
        timestamp: stamp.at,
    };
    record::make(config, loaded, given)
        .map_err(|m| Error::Usage(format!("--{}: found {}, wanted {}", m.key, m.found, m.wanted)))
}

fn header(text: &str) -> Result<(String, String), Error> {
    let wrong = || Error::Usage(format!("--header {text:?}: wanted name: value"));
    let (name, value) = text.split_once(':').or_else(|| text.split_once('=')).ok_or_else(wrong)?;
    match name.trim() {
        "" => Err(wrong()),
        name => Ok((name.to_owned(), value.trim().to_owned())),
    }
}
