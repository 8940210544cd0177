//! Calls made by a command itself, outside of `run`: `check --live` and the login of `send`.
//!
//! Nothing is repeated and nothing is sent to a room from here: an account that logs in is logged
//! in; where each call is signed, a call without parameters is made, which the provider refuses for
//! its parameters when the signature is right, and for the signature when it is not.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use serde_json::{Map, Value as Json, json};

use super::output;
use crate::app::App;
use crate::broker::Boxed;
use crate::core::model::{BaseId, Path, Priority, Room, SourceId};
use crate::core::provider::{
    Answer, Call, Draft, Fault, Item, Kind, LoginFault, Outcome, Provider, Session, Trouble,
};
use crate::directory;

/// Makes one call at an account's base URLs.
pub trait Caller: Send + Sync {
    /// Makes the call once.
    fn call(&self, call: Call) -> Boxed<'_, Answer>;
}

impl Caller for crate::http::Client {
    fn call(&self, call: Call) -> Boxed<'_, Answer> {
        Box::pin(Self::call(self, call))
    }
}

/// The caller for a provider's own base URLs.
///
/// # Errors
/// When the HTTP client cannot be made.
pub fn open(provider: &dyn Provider) -> anyhow::Result<crate::http::Client> {
    crate::http::Client::new(provider.base_urls(), provider.timeout())
}

/// What came of trying one account or source.
#[derive(Debug)]
pub struct Trial {
    /// `account live`, `source match`.
    pub what: String,
    /// What was found, or what is wrong.
    pub result: Result<Vec<String>, String>,
}

/// Tries all accounts, sources and directories, at the same time.
pub async fn try_all(app: &App) -> Vec<Trial> {
    let accounts = app.accounts.iter().map(async |account| {
        let result = match open(&*account.provider) {
            Ok(client) => try_account(&*account.provider, &client).await,
            Err(error) => Err(format!("{error:#}")),
        };
        let result = result.map_err(|why| format!("{}: {why}", account.provider.base_urls().join(" or ")));
        Trial { what: format!("account {}", account.name), result: result.map(|found| vec![found]) }
    });
    let sources = app.sources.iter().map(async |source| {
        let result = source.broker.probe().await;
        Trial { what: format!("source {}", source.name), result }
    });
    let directories = app.directories.iter().map(async |directory| {
        let keys = |keys: usize| vec![format!("{keys} key(s)")];
        let result = match directory.table() {
            None => directory.open().expect("what is no table is a file").map(|opened| opened.map.len()),
            Some((SourceId(source), table)) => {
                let (tell, followed) = tokio::sync::mpsc::channel(1);
                app.sources[usize::from(source)].broker.follow(table, tell);
                directory::count(followed).await
            }
        };
        Trial { what: format!("directory {}", directory.view.name), result: result.map(keys) }
    });
    let (accounts, sources, directories) =
        tokio::join!(join_all(accounts), join_all(sources), join_all(directories));
    [accounts, sources, directories].into_iter().flatten().collect()
}

/// Whether the account's credentials are good: one line of what was found, or what is wrong.
///
/// # Errors
/// What the provider says against the credentials, or why it could not be asked.
pub async fn try_account(provider: &dyn Provider, caller: &dyn Caller) -> Result<String, String> {
    if let Some(session) = login(provider, caller).await? {
        return Ok(match session.lifetime {
            Some(life) => format!("logged in; the token lives for {} h", life.as_secs() / 3_600),
            None => "logged in; the token lives for ever".to_owned(),
        });
    }
    let item = probe_item(provider)?;
    let items = [item];
    let stamp = super::stamp_now();
    let mut call = provider.call(Path::Room, &items, None, &stamp);
    call.body = Bytes::new();
    let answer = caller.call(call).await;
    match provider.outcomes(Path::Room, &items, &answer).into_iter().next() {
        Some(Outcome::Refused { .. }) => Ok("the credentials are right".to_owned()),
        Some(Outcome::Throttled { trouble, .. }) => {
            Err(format!("asked too often to tell: {}", said(&trouble)))
        }
        Some(Outcome::Accepted(_)) => {
            Err("a call without parameters was accepted: is this the provider's address?".to_owned())
        }
        Some(
            Outcome::Closed(trouble)
            | Outcome::Unauthorized(trouble)
            | Outcome::Failed(trouble)
            | Outcome::Uncertain(trouble),
        ) => Err(format!("{}; {}", said(&trouble), advice(&trouble))),
        None => Err("the answer meant nothing".to_owned()),
    }
}

/// Logs in where the account works with tokens.
///
/// # Errors
/// What the provider says against it, or why it could not be asked.
pub async fn login(provider: &dyn Provider, caller: &dyn Caller) -> Result<Option<Session>, String> {
    let Some(call) = provider.login() else { return Ok(None) };
    let answer = caller.call(call).await;
    match provider.session(&answer) {
        Ok(session) => Ok(Some(session)),
        Err(LoginFault::Refused(trouble)) => {
            Err(format!("the login is refused: {}; {}", said(&trouble), advice(&trouble)))
        }
        Err(LoginFault::Failed(trouble)) => {
            Err(format!("the login failed: {}; {}", said(&trouble), advice(&trouble)))
        }
    }
}

/// An item to sign a call with; its content never leaves, since the body is emptied.
fn probe_item(provider: &dyn Provider) -> Result<Item, String> {
    let base = BaseId(uuid::Uuid::new_v4());
    let room = Room("1".into());
    let content = provider.render(&text_draft("probe", base)).map_err(|invalid| invalid.0)?;
    Ok(Item { id: base.message(&room), room, content, resend: false })
}

/// A plain text for a room.
pub fn text_draft(text: &str, base: BaseId) -> Draft<'static> {
    Draft {
        path: Path::Room,
        users: &[],
        kind: Kind::Text { text: text.to_owned() },
        sender: None,
        ext: None,
        options: Map::new(),
        priority: Priority::Normal,
        base,
    }
}

/// A trouble on one line.
pub fn said(trouble: &Trouble) -> String {
    let status = trouble.status.map(|status| format!("HTTP {status}"));
    let code = trouble.code.as_ref().map(|code| format!("code {code}"));
    let text = Some(trouble.text.clone()).filter(|text| !text.is_empty());
    [status, code, text].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// Where to look, as far as the answer, or the lack of one, tells.
fn advice(trouble: &Trouble) -> &'static str {
    match trouble.status {
        None if trouble.text.contains("InvalidContentType") => {
            "what answers there speaks no TLS: is it http:// and not https://?"
        }
        None => "look at base_url, and at the way there: name servers, proxy, firewall",
        Some(404) => "look at base_url, and at the account's app: nothing is known there by these names",
        Some(429 | 500..) => "try again later: the provider itself is in trouble, or asked too often",
        Some(_) => {
            "look at the account's id or key, its secret or token, and its app: they do not fit together"
        }
    }
}

/// A fault on one line.
pub fn fault(fault: &Fault) -> String {
    match fault {
        Fault::NotSent(why) => format!("not sent: {why}"),
        Fault::Unknown(why) => format!("no answer, and it may have arrived: {why}"),
    }
}

/// Trials for people.
pub fn text(trials: &[Trial]) -> String {
    let rows: Vec<Vec<String>> = trials
        .iter()
        .flat_map(|trial| {
            let (mark, lines) = match &trial.result {
                Ok(lines) => ("ok", lines.clone()),
                Err(wrong) => ("WRONG", vec![wrong.clone()]),
            };
            let first = [trial.what.clone(), mark.to_owned()];
            let heads = std::iter::once(first).chain(std::iter::repeat([String::new(), String::new()]));
            // A trial without a line still has one row.
            let lines = if lines.is_empty() { vec![String::new()] } else { lines };
            heads.zip(lines).map(|([what, mark], line)| vec![what, mark, line]).collect::<Vec<_>>()
        })
        .collect();
    format!("\nTried now\n{}", output::columns(&rows))
}

/// Trials for machines.
pub fn json(trials: &[Trial]) -> Json {
    let one = |trial: &Trial| match &trial.result {
        Ok(found) => json!({ "what": trial.what, "ok": true, "found": found }),
        Err(wrong) => json!({ "what": trial.what, "ok": false, "error": wrong }),
    };
    trials.iter().map(one).collect()
}

/// The item that carries a text to a room.
///
/// # Errors
/// What the provider would refuse about room or text.
pub fn text_item(provider: &dyn Provider, room: &str, text: &str) -> Result<Item, String> {
    provider.check_room(room).map_err(|invalid| invalid.0)?;
    let base = BaseId(uuid::Uuid::new_v4());
    let room = Room(Arc::from(room));
    let content = provider.render(&text_draft(text, base)).map_err(|invalid| invalid.0)?;
    Ok(Item { id: base.message(&room), room, content, resend: false })
}
