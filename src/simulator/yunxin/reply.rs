//! Yunxin's answers: HTTP 200, with `code` and `desc` in the body.
//!
//! Pure: told what happened, it writes bytes, keys in the page's order. `desc` is an object on
//! success and text on failure, as the page has it.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde_json::Value;

use super::Yunxin;
use super::form::{Form, Message};
use crate::core::time::Now;
use crate::simulator::floor::Answer;
use crate::simulator::rule::Canned;

const JSON: &str = "application/json; charset=utf-8";

fn answer(status: u16, code: i32, reason: &'static str, body: String) -> Answer {
    Answer { status, code, reason, media: JSON, retry_after: None, body: body.into() }
}

/// One message was taken.
pub(super) fn success(desc: &str) -> Answer {
    answer(200, 200, "accepted", format!(r#"{{"code":200,"desc":{desc}}}"#))
}

/// The request, or its only message, was refused.
pub(super) fn refused(code: i32, reason: &'static str, desc: &str) -> Answer {
    answer(200, code, reason, format!(r#"{{"code":{code},"desc":{}}}"#, text(desc)))
}

/// What became of each message of a batch.
pub(super) fn batch(success: &[(&str, String)], fail: &[(&str, String)]) -> Answer {
    let list = |entries: &mut dyn Iterator<Item = String>| entries.collect::<Vec<_>>().join(",");
    let success = list(&mut success.iter().map(|(id, desc)| format!("{{{}:{desc}}}", text(id))));
    let fail = list(&mut fail.iter().map(|(id, why)| format!("{{{}:{}}}", text(id), text(why))));
    answer(200, 200, "accepted", format!(r#"{{"code":200,"success":[{success}],"fail":[{fail}]}}"#))
}

/// The gateway knows no such path.
pub(super) fn no_such_path() -> Answer {
    answer(404, 404, "no_such_path", r#"{"code":404,"desc":"no such path"}"#.into())
}

/// Every endpoint wants POST.
pub(super) fn method() -> Answer {
    answer(405, 405, "method", r#"{"code":405,"desc":"method not allowed"}"#.into())
}

/// The `desc` of a message that was taken.
pub(super) fn desc(
    knobs: &Yunxin,
    form: &Form,
    message: &Message,
    now: Now,
    high: bool,
    abandoned: bool,
) -> String {
    let quote = if knobs.numbers_as_text { "\"" } else { "" };
    let attach: Cow<'_, str> = if knobs.echo_encoded {
        form_urlencoded::byte_serialize(message.attach.as_bytes()).collect::<String>().into()
    } else {
        message.attach.as_str().into()
    };
    let mut desc = format!(
        r#"{{"time":{quote}{}{quote},"fromAvator":"","msgid_client":{},"fromClientType":"REST","attach":{}"#,
        now.wall.0,
        text(&message.id),
        text(&attach),
    );
    if let Some(room) = &form.room {
        write!(desc, r#","roomId":{quote}{room}{quote}"#).expect("a String takes every write");
    }
    write!(
        desc,
        r#","fromAccount":{},"fromNick":{},"type":{quote}{}{quote},"ext":{}"#,
        text(&form.from),
        text(&form.from),
        message.kind,
        text(&message.ext),
    )
    .expect("a String takes every write");
    if high {
        desc.push_str(r#","highPriorityFlag":1"#);
    }
    if abandoned {
        write!(desc, r#","msgAbandonFlag":{quote}1{quote}"#).expect("a String takes every write");
    }
    desc.push('}');
    desc
}

/// A fault's answer. Without words of its own, it takes those usual for its code.
pub(super) fn canned(canned: &Canned) -> Answer {
    let code = canned.code.unwrap_or(i32::from(canned.status));
    let desc = canned.description.as_deref().unwrap_or(match code {
        200 => "success",
        403 => "forbidden",
        404 => "chatroom not exist",
        414 => "parameter error",
        416 => "query too fast",
        423 | 13_003 => "muted",
        431 => "http request repeated",
        500 => "server error",
        503 => "server busy",
        _ => "failed",
    });
    Answer { status: canned.status, retry_after: canned.retry_after, ..refused(code, "fault", desc) }
}

/// A JSON string.
fn text(text: &str) -> String {
    Value::from(text).to_string()
}
