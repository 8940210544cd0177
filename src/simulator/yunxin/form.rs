//! Reads a Yunxin request: which endpoint, which messages, and what the page would refuse.
//!
//! Pure and without state. A request that is refused still yields the messages it meant to carry,
//! as far as they can be read, so that the log can tell them.

use std::sync::Arc;

use http::Method;
use serde_json::{Map, Value};

use super::params::{Holds, PARAMS, Params, check, check_attach};
use crate::core::model::Priority;
use crate::simulator::floor::{Note, beginning};
use crate::simulator::judge::Request;
use crate::simulator::log::{Id, hash};
use crate::simulator::rule::Endpoint;

/// Messages in one batch.
const MAX_BATCH: usize = 10;
/// Members in one directed call.
const MAX_ACCOUNTS: usize = 100;

/// One message, as its answer needs it.
#[derive(Debug, Default)]
pub(super) struct Message {
    pub id: String,
    pub kind: String,
    pub attach: String,
    pub ext: String,
    /// In a batch: why this one fails while others may pass.
    pub bad: Option<String>,
}

/// A request, read. `messages` stand beside `notes`, one for each.
#[derive(Debug)]
pub(in crate::simulator) struct Form {
    pub endpoint: Endpoint,
    pub notes: Vec<Note>,
    pub(super) is_post: bool,
    pub(super) messages: Vec<Message>,
    pub(super) refusal: Option<String>,
    pub(super) warnings: Vec<String>,
    pub(super) room: Option<Arc<str>>,
    pub(super) from: String,
    /// Present, and above 0.
    pub(super) abandon_ratio: Option<u16>,
    pub(super) forbid_high: bool,
}

pub(super) fn endpoint(path: &str) -> Endpoint {
    match path {
        "/nimserver/chatroom/sendMsg.action" => Endpoint::Room,
        "/nimserver/chatroom/batchSendMsg.action" => Endpoint::Batch,
        "/nimserver/chatroom/sendMsgToSomeone.action" => Endpoint::Users,
        "/nimserver/chatroom/broadcast.action" => Endpoint::Broadcast,
        _ => Endpoint::Other,
    }
}

pub(super) fn read(request: &Request, content_bytes: usize) -> Form {
    let params = Params::read(&request.body);
    let endpoint = endpoint(&request.path);
    let mut form = Form {
        endpoint,
        notes: Vec::new(),
        is_post: request.method == Method::POST,
        messages: Vec::new(),
        refusal: None,
        warnings: Vec::new(),
        room: params.get("roomid").filter(|_| endpoint != Endpoint::Broadcast).map(Arc::from),
        from: params.get("fromAccid").unwrap_or_default().to_owned(),
        abandon_ratio: params
            .get("abandonRatio")
            .and_then(|ratio| ratio.parse().ok())
            .filter(|ratio| *ratio > 0),
        forbid_high: params.get("forbiddenIfHighPriorityMsgFreq") == Some("1"),
    };
    if endpoint == Endpoint::Other {
        return form;
    }
    // Directed messages have no priority.
    let high = endpoint != Endpoint::Users && matches!(params.get("highPriority"), Some("true" | "1"));
    let priority = if high { Priority::High } else { Priority::Normal };
    let mut refusal = form.check(&params).err();
    if endpoint == Endpoint::Batch {
        refusal = form.read_batch(&params, priority, content_bytes).err().or(refusal);
    } else {
        let message = Message {
            id: params.get("msgId").unwrap_or_default().to_owned(),
            kind: params.get("msgType").unwrap_or_default().to_owned(),
            attach: params.get("attach").unwrap_or_default().to_owned(),
            ext: params.get("ext").unwrap_or_default().to_owned(),
            bad: None,
        };
        form.push(message, params.get("resendFlag") == Some("1"), priority, content_bytes);
    }
    form.refusal = refusal;
    form
}

impl Form {
    fn push(&mut self, message: Message, resend: bool, priority: Priority, content_bytes: usize) {
        self.notes.push(Note {
            room: self.room.clone(),
            id: (!message.id.is_empty()).then(|| Id::from(message.id.as_str())),
            resend,
            priority,
            hash: hash(message.attach.as_bytes()),
            content: beginning(&message.attach, content_bytes),
        });
        self.messages.push(message);
    }

    fn check(&mut self, params: &Params<'_>) -> Result<(), String> {
        let required: &[&str] = match self.endpoint {
            Endpoint::Batch => &["roomid", "fromAccid", "msgList"],
            Endpoint::Users => &["roomid", "msgId", "fromAccid", "toAccids", "msgType"],
            Endpoint::Broadcast => &["msgId", "fromAccid", "msgType"],
            _ => &["roomid", "msgId", "fromAccid", "msgType"],
        };
        if let Some(lacking) = required.iter().find(|name| params.get(name).is_none()) {
            return Err(empty(lacking));
        }
        let mut seen: Vec<&str> = Vec::new();
        for (name, value) in params.iter() {
            if seen.contains(&name) {
                self.warnings.push(format!("parameter {} is given twice", beginning(name, 40)));
                continue;
            }
            seen.push(name);
            match holds(self.endpoint, name) {
                Some(holds) => check(name, holds, value)?,
                None if name == "toAccids" && self.endpoint == Endpoint::Users => check_accounts(value)?,
                None if name == "msgList" && self.endpoint == Endpoint::Batch => {}
                None => self.warnings.push(format!(
                    "unknown parameter {} on {}",
                    beginning(name, 40),
                    self.endpoint.word()
                )),
            }
        }
        if params.get("abandonRatio").is_some() && params.get("highPriority").is_some() {
            self.warnings.push("abandonRatio makes highPriority void".into());
        }
        if self.endpoint == Endpoint::Batch {
            return Ok(());
        }
        let kind = params.get("msgType").unwrap_or_default();
        check_attach(kind, params.get("attach").unwrap_or_default())
    }

    fn read_batch(
        &mut self,
        params: &Params<'_>,
        priority: Priority,
        content_bytes: usize,
    ) -> Result<(), String> {
        let list = params.get("msgList").ok_or_else(|| empty("msgList"))?;
        let illegal = || "msgList is illegal, it must be a JSON array of 1 to 10 messages".to_owned();
        let Ok(Value::Array(list)) = serde_json::from_str(list) else { return Err(illegal()) };
        if list.is_empty() || list.len() > MAX_BATCH {
            return Err(illegal());
        }
        for item in &list {
            let Value::Object(fields) = item else { return Err(illegal()) };
            let message = Message {
                id: plain(fields, "msgId"),
                kind: plain(fields, "msgType"),
                attach: plain(fields, "attach"),
                ext: plain(fields, "ext"),
                bad: check_item(fields).err(),
            };
            if message.id.is_empty() {
                return Err(empty("msgId"));
            }
            if self.messages.iter().any(|earlier| earlier.id == message.id) {
                self.warnings.push("a batch carries one msgId twice".into());
            }
            let resend = plain(fields, "resendFlag") == "1";
            self.push(message, resend, priority, content_bytes);
        }
        Ok(())
    }
}

/// Fields of one message of a batch; the rest are shared by all.
const ITEM: [&str; 9] =
    ["msgId", "msgType", "attach", "ext", "subType", "resendFlag", "locX", "locY", "locZ"];

fn check_item(fields: &Map<String, Value>) -> Result<(), String> {
    if !fields.contains_key("msgType") {
        return Err(empty("msgType"));
    }
    for (name, value) in fields {
        if !ITEM.contains(&name.as_str()) {
            return Err(format!("{name} is illegal, a message of a batch has no such field"));
        }
        if matches!(name.as_str(), "attach" | "ext" | "msgId") && !value.is_string() {
            return Err(format!("{name} is illegal, it must be a string"));
        }
        let (_, holds) = PARAMS.iter().find(|(own, _)| own == name).expect("each of ITEM is in PARAMS");
        check(name, *holds, &plain(fields, name))?;
    }
    check_attach(&plain(fields, "msgType"), &plain(fields, "attach"))
}

/// A field as the form would have it.
fn plain(fields: &Map<String, Value>, name: &str) -> String {
    match fields.get(name) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// What the endpoint's parameter of that name may hold, if it has one.
fn holds(endpoint: Endpoint, name: &str) -> Option<Holds> {
    let lacks: &[&str] = match endpoint {
        Endpoint::Batch => &ITEM,
        Endpoint::Users => {
            &["abandonRatio", "highPriority", "needHighPriorityMsgResend", "forbiddenIfHighPriorityMsgFreq"]
        }
        Endpoint::Broadcast => &["roomid", "abandonRatio", "forbiddenIfHighPriorityMsgFreq"],
        _ => &[],
    };
    if lacks.contains(&name) {
        return None;
    }
    PARAMS.iter().find(|(own, _)| *own == name).map(|(_, holds)| *holds)
}

fn check_accounts(value: &str) -> Result<(), String> {
    let accounts: Vec<String> = serde_json::from_str(value)
        .map_err(|_| "toAccids is illegal, it must be a JSON array of accounts".to_owned())?;
    if accounts.is_empty() || accounts.len() > MAX_ACCOUNTS {
        return Err(format!("toAccids is illegal, it must hold 1 to {MAX_ACCOUNTS} accounts"));
    }
    accounts.iter().try_for_each(|account| {
        if account.is_empty() { Err(empty("toAccids")) } else { check("toAccids", Holds::Account, account) }
    })
}

/// A required parameter is missing. The service calls the sender `accid`.
fn empty(name: &str) -> String {
    format!("{} is empty", if name == "fromAccid" { "accid" } else { name })
}
