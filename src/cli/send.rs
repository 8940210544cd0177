//! `roomcast send`: one text to one room, now.
//!
//! It goes through the provider's own render, call and outcome, so what it says of an account and a
//! room holds for `run` as well. It takes no quota slot: `run` beside it does not know of the call.
//! Nothing is repeated.

use std::process::ExitCode;

use serde_json::{Value as Json, json};

use super::live::{self, Caller};
use super::{Cli, Error, output};
use crate::app;
use crate::core::model::Path;
use crate::core::provider::{Answer, Outcome, Provider, Reply, Throttle};

/// What `send` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  roomcast send -c roomcast.toml --account live --room 185145305923585 --text 'hello'

The exit code is 0 when the provider has accepted the message, else 1.")]
pub struct Args {
    /// The account that sends; may be left out when there is one.
    #[arg(long, value_name = "NAME")]
    pub account: Option<String>,
    /// The room's id at the provider.
    #[arg(long, value_name = "ROOM")]
    pub room: String,
    /// What it says.
    #[arg(long, value_name = "TEXT")]
    pub text: String,
    /// How the answer is printed.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: super::check::Format,
}

/// What came of it.
#[derive(Debug)]
pub struct Sent {
    /// The message's id.
    pub id: String,
    /// What the provider answered, or why there is no answer.
    pub answer: Answer,
    /// What that means.
    pub outcome: Outcome,
}

/// Runs the command.
///
/// # Errors
/// A config that is wrong, an account that is not there, a login or a message that is refused
/// before the call.
pub fn run(cli: &Cli, args: &Args) -> Result<ExitCode, Error> {
    let loaded = super::load(cli)?;
    let app = super::build(&loaded, &app::open_secret)?;
    let names: Vec<&str> = app.accounts.iter().map(|account| &*account.name).collect();
    let index = match (&args.account, names.as_slice()) {
        (Some(name), _) => names
            .iter()
            .position(|known| known == name)
            .ok_or_else(|| Error::Usage(format!("--account {name}: the config has {}", names.join(", "))))?,
        (None, [_]) => 0,
        (None, _) => return Err(Error::Usage(format!("--account is needed: one of {}", names.join(", ")))),
    };
    let provider = &*app.accounts[index].provider;
    let sent = super::runtime()?.block_on(async {
        let client = live::open(provider)?;
        send(provider, &client, &args.room, &args.text).await.map_err(anyhow::Error::msg)
    })?;
    output::print(&match args.format {
        super::check::Format::Text => text(&sent),
        super::check::Format::Json => format!("{:#}\n", json(&sent)),
    })?;
    match sent.outcome {
        Outcome::Accepted(_) => Ok(ExitCode::SUCCESS),
        _ => Ok(ExitCode::FAILURE),
    }
}

/// Logs in where needed and sends the text.
///
/// # Errors
/// What is wrong with the room, the text or the login; then nothing was sent.
pub async fn send(
    provider: &dyn Provider,
    caller: &dyn Caller,
    room: &str,
    text: &str,
) -> Result<Sent, String> {
    let items = [live::text_item(provider, room, text)?];
    let session = live::login(provider, caller).await?;
    let call = provider.call(Path::Room, &items, session.as_ref(), &super::stamp_now());
    let answer = caller.call(call).await;
    let outcome = provider.outcomes(Path::Room, &items, &answer).into_iter().next();
    let outcome = outcome.ok_or("the answer meant nothing")?;
    // An answer may repeat what it was asked with.
    let clean = |body: &[u8]| provider.clean(&String::from_utf8_lossy(body)).into();
    let answer = answer.map(|reply| Reply { body: clean(&reply.body), ..reply });
    Ok(Sent { id: items[0].id.to_string(), answer, outcome })
}

/// What came of it, for people.
pub fn text(sent: &Sent) -> String {
    let answer = match &sent.answer {
        Ok(reply) => format!("HTTP {}\n{}", reply.status, String::from_utf8_lossy(&reply.body).trim_end()),
        Err(fault) => live::fault(fault),
    };
    format!("{}\nmessage id {}\n\n{answer}\n", meaning(&sent.outcome), sent.id)
}

fn meaning(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Accepted(how) => format!("Accepted: {}.", how.word()),
        Outcome::Throttled { scope, trouble } => {
            let whom = match scope {
                Throttle::Path(_) | Throttle::PathUntilMidnight => "the account",
                Throttle::Room(_) => "the room",
            };
            format!("Not sent, {whom} is over its quota: {}", live::said(trouble))
        }
        Outcome::Unauthorized(trouble) => {
            format!("Not sent, the session is not good: {}", live::said(trouble))
        }
        Outcome::Refused { class, trouble } => {
            format!("Not sent, refused for good ({}): {}", class.word(), live::said(trouble))
        }
        Outcome::Closed(trouble) => format!("Not sent, the account is refused: {}", live::said(trouble)),
        Outcome::Failed(trouble) => format!("Not sent, but may be later: {}", live::said(trouble)),
        Outcome::Uncertain(trouble) => format!("It may have been sent: {}", live::said(trouble)),
    }
}

/// What came of it, for machines.
fn json(sent: &Sent) -> Json {
    let mut found = json!({
        "outcome": sent.outcome.word(),
        "meaning": meaning(&sent.outcome),
        "message_id": sent.id,
    });
    match &sent.answer {
        Ok(reply) => {
            found["http_status"] = json!(reply.status);
            found["body"] = json!(String::from_utf8_lossy(&reply.body));
        }
        Err(fault) => found["fault"] = json!(live::fault(fault)),
    }
    found
}
