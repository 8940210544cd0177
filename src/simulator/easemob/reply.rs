//! Easemob's answers, shaped as on its page (success) and as captured in the field (errors).
//!
//! Pure: told what happened, it writes bytes. Bodies are written by hand because the order of
//! their keys, and of the rooms in `data`, is part of what clients meet.

use std::fmt::Write as _;

use bytes::Bytes;
use uuid::Uuid;

use super::Easemob;
use super::form::Form;
use crate::core::time::Now;
use crate::simulator::floor::Answer;
use crate::simulator::rule::{Canned, Endpoint};

pub(super) const JSON: &str = "application/json";

/// An error as the provider words it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::simulator) struct Refusal {
    pub status: u16,
    /// The kind, for log and stats.
    pub reason: &'static str,
    pub error: &'static str,
    pub exception: &'static str,
    pub error_code: Option<i32>,
    pub description: std::borrow::Cow<'static, str>,
}

const fn refusal(
    status: u16,
    reason: &'static str,
    error: &'static str,
    exception: &'static str,
    description: &'static str,
) -> Refusal {
    Refusal {
        status,
        reason,
        error,
        exception,
        error_code: None,
        description: std::borrow::Cow::Borrowed(description),
    }
}

const SECURITY: &str = "EasemobSecurityException";

pub(super) const CALL_LIMIT: Refusal =
    refusal(429, "call_limit", "reach_limit", "ReachLimitException", "This request has reached api limit");
pub(super) const MESSAGE_LIMIT: Refusal =
    refusal(403, "message_limit", "message_send_error", "MessageSendException", "message send reach limit");
pub(super) const BROADCAST_DAY: Refusal = refusal(
    403,
    "broadcast_day_limit",
    "forbidden_op",
    "com.easemob.group.exception.ForbiddenOpException",
    "chatroom broadcast limit exceeded",
);
pub(super) const NO_TOKEN: Refusal = refusal(
    401,
    "unauthorized",
    "auth_bad_access_token",
    SECURITY,
    "Unable to authenticate due to expired access token",
);
pub(super) const BAD_TOKEN: Refusal = refusal(
    401,
    "unauthorized",
    "auth_bad_access_token",
    SECURITY,
    "Unable to authenticate due to corrupt access token",
);
pub(super) const FOREIGN_TOKEN: Refusal =
    refusal(401, "unauthorized", "auth_bad_access_token", SECURITY, "Unable to authenticate");
pub(super) const REVOKED_TOKEN: Refusal =
    refusal(401, "unauthorized", "unauthorized", SECURITY, "Unable to authenticate (OAuth)");
pub(super) const BAD_SECRET: Refusal = refusal(
    400,
    "bad_credentials",
    "invalid_grant",
    "org.apache.usergrid.rest.exceptions.AuthErrorException",
    "client_id or client_secret does not match",
);
pub(super) const BAD_GRANT: Refusal = refusal(
    400,
    "bad_credentials",
    "unsupported_grant_type",
    "org.apache.usergrid.rest.exceptions.AuthErrorException",
    "grant_type must be client_credentials",
);
pub(super) const NO_SUCH_RESOURCE: Refusal = refusal(
    404,
    "no_such_path",
    "service_resource_not_found",
    "org.apache.usergrid.services.exceptions.ServiceResourceNotFoundException",
    "Service resource not found",
);
pub(super) const METHOD: Refusal =
    refusal(405, "method", "method_not_allowed", "MethodNotAllowedException", "Method Not Allowed");
pub(super) const MEDIA_TYPE: Refusal = refusal(
    415,
    "media_type",
    "unsupported_media_type",
    "UnsupportedMediaTypeException",
    "Unsupported Media Type",
);
pub(super) const NOT_JSON: Refusal =
    refusal(400, "invalid", "json_parse", "JsonParseException", "the request body is not valid JSON");

/// Body and `ext` are more than the page's 5 KB.
pub(super) fn too_large() -> Refusal {
    Refusal {
        error_code: Some(14_007),
        ..refusal(400, "invalid", "message_send_error", "MessageSendException", "message is too large")
    }
}

pub(super) fn no_such_app(org: &str, app: &str) -> Refusal {
    Refusal {
        description: format!("Could not find application for {org}/{app}").into(),
        ..refusal(
            404,
            "no_such_app",
            "organization_application_not_found",
            "org.apache.usergrid.rest.exceptions.OrganizationApplicationNotFoundException",
            "",
        )
    }
}

/// A field is missing or wrong.
pub(super) fn invalid(description: String) -> Refusal {
    Refusal {
        description: description.into(),
        ..refusal(400, "invalid", "invalid_request_body", "InvalidRequestBodyException", "")
    }
}

impl Refusal {
    /// The answer at that moment.
    pub(in crate::simulator) fn render(&self, now: Now) -> Answer {
        let mut body = format!(
            r#"{{"error":"{}","exception":"{}","timestamp":{},"duration":0"#,
            self.error, self.exception, now.wall.0
        );
        if let Some(code) = self.error_code {
            write!(body, r#","error_code":{code}"#).expect("a String takes every write");
        }
        write!(body, r#","error_description":{}}}"#, text(&self.description))
            .expect("a String takes every write");
        Answer {
            status: self.status,
            code: i32::from(self.status),
            reason: self.reason,
            media: JSON,
            retry_after: None,
            body: body.into(),
        }
    }
}

/// The answer to a request that was accepted: an id for each room, rooms in no order; or the
/// broadcast's, a bare integer.
pub(super) fn sent(
    knobs: &Easemob,
    host: &str,
    application: Uuid,
    form: &Form,
    ids: &[u64],
    now: Now,
    rng: &mut fastrand::Rng,
) -> Answer {
    let (org, app) = (&knobs.org, &knobs.app);
    // For directed messages as well, the page answers with the plain path.
    let path = if form.endpoint == Endpoint::Broadcast {
        "/messages/chatrooms/broadcast"
    } else {
        "/messages/chatrooms"
    };
    let mut body = format!(
        r#"{{"path":"{path}","uri":{},"timestamp":{},"organization":{},"application":"{application}","action":"post","data":{{"#,
        text(&format!("http://{host}/{org}/{app}{path}")),
        now.wall.0,
        text(org),
    );
    if form.endpoint == Endpoint::Broadcast {
        write!(body, r#""id":{}"#, ids[0]).expect("a String takes every write");
    } else {
        let mut order: Vec<usize> = (0..ids.len()).collect();
        rng.shuffle(&mut order);
        for (nth, &at) in order.iter().enumerate() {
            let room = form.notes[at].room.as_deref().unwrap_or_default();
            let comma = if nth == 0 { "" } else { "," };
            write!(body, r#"{comma}{}:"{}""#, text(room), ids[at]).expect("a String takes every write");
        }
    }
    write!(body, r#"}},"duration":0,"applicationName":{}}}"#, text(app)).expect("a String takes every write");
    Answer { status: 200, code: 200, reason: "accepted", media: JSON, retry_after: None, body: body.into() }
}

/// A fault's answer. Without words of its own, it takes those usual for its status.
pub(super) fn canned(canned: &Canned, now: Now) -> Answer {
    let mut refusal = match canned.status {
        401 => REVOKED_TOKEN,
        403 => MESSAGE_LIMIT,
        404 => no_such_app("", ""),
        429 => CALL_LIMIT,
        400 => invalid("illegal argument".into()),
        status => refusal(
            status,
            "fault",
            "internal_server_error",
            "InternalServerErrorException",
            "internal error",
        ),
    };
    refusal.status = canned.status;
    refusal.reason = "fault";
    refusal.error_code = canned.code;
    if let Some(description) = &canned.description {
        refusal.description = description.clone().into();
    }
    let mut answer = refusal.render(now);
    if let Some(error) = &canned.error {
        let body = String::from_utf8_lossy(&answer.body).replacen(
            &format!("\"error\":\"{}\"", refusal.error),
            &format!("\"error\":{}", text(error)),
            1,
        );
        answer.body = Bytes::from(body);
    }
    answer.retry_after = canned.retry_after;
    answer
}

/// A JSON string.
pub(super) fn text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
