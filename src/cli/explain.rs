//! `roomcast explain`: what would become of one event, without sending anything.
//!
//! The event goes through the same code as in `run`; only times and the nonce of a signature differ
//! from one run to the next. Secrets are not opened: what is shown where one would stand is `***`.

use std::io::{IsTerminal as _, Read as _};
use std::process::ExitCode;

use super::record::{self, Given};
use super::{Cli, Error, output};
use crate::app::{self, App};
use crate::config::Loaded;
use crate::core::explain::{Told, found, requests};
use crate::core::letter::Names;
use crate::core::model::Record;
use crate::core::provider::Stamp;
use crate::core::route::Tried;

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
    output::print(&explain(&app, &loaded, args, event, &super::stamp_now())?)?;
    Ok(ExitCode::SUCCESS)
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
    let found = found(&app.rules, &record, &app.look_up());
    let told = Told {
        source: &app.names.sources[usize::from(record.id.source.0)],
        topic: &record.origin.topic,
        requests: requests::of(|id| app.account(id), &found.plan.messages, record.maybe_tried, stamp),
        found: &found,
        policies: &app.rules.policies_by_id(),
        now: stamp.at,
    };
    Ok(show(&told, args.format))
}

/// In a format.
pub fn show(told: &Told<'_>, format: Format) -> String {
    match format {
        Format::Text => text(told),
        Format::Json => format!("{:#}\n", told.json()),
        Format::Curl => curl(told),
    }
}

/// A script. What is no request stands as a comment.
fn curl(told: &Told<'_>) -> String {
    let mut script: String = told.fates().iter().map(|line| format!("# {line}\n")).collect();
    let mut secret_of = None;
    for request in &told.requests {
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

fn text(told: &Told<'_>) -> String {
    let routes: Vec<Vec<String>> = told
        .found
        .tried
        .iter()
        .map(|tried| vec![tried.route.to_string(), took(tried).to_owned(), tried.why.clone()])
        .collect();
    let requests: String = told.requests.iter().map(|request| format!("\n{}", request.text())).collect();
    format!(
        "Routes, the first match wins\n{}\n{}\n{requests}",
        output::columns(&routes),
        told.fates().join("\n"),
    )
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
