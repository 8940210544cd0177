//! `/_sim`: what a running simulator tells about itself, and how faults are set.
//!
//! Never judged, never logged, never counted; an outage takes it away with the rest, so over HTTP an
//! outage must say when it ends. `server` calls it.

use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Response, StatusCode};
use serde_json::Value;

use super::log::Filter;
use super::payload::Payload;
use super::rule::{Effect, Rule};
use super::shared::Shared;

/// Log entries in one answer; the next ones begin at the last `seq` + 1.
const MAX_ENTRIES: usize = 100_000;

const HELP: &str = "\
GET    /_sim/log     JSON lines; ?from= limit= room= id= path= accepted= seen= reason=
GET    /_sim/stats   counts so far
GET    /_sim/faults  the rules that stand, with how often each has happened
PUT    /_sim/faults  a rule or a list of rules, in place of all: {\"effect\":\"drop_after\",\"rooms\":[\"7\"],\"count\":3}
POST   /_sim/faults  a rule or a list of rules, added
DELETE /_sim/faults  no more faults
";

pub(super) fn answer(
    shared: &Shared,
    method: &Method,
    path: &str,
    query: &str,
    body: &[u8],
) -> Response<Payload> {
    let answered = match (method.as_str(), path) {
        ("GET", "/_sim" | "/_sim/") => Ok(("text/plain", HELP.into())),
        ("GET", "/_sim/log") => log(shared, query),
        ("GET", "/_sim/stats") => Ok(json(&shared.stats())),
        ("GET", "/_sim/faults") => Ok(json(&shared.faults())),
        ("PUT", "/_sim/faults") => rules(body).and_then(|rules| {
            shared.set_faults(rules).map_err(|error| (422, error.to_string()))?;
            Ok(json(&shared.faults()))
        }),
        ("POST", "/_sim/faults") => rules(body).and_then(|rules| {
            shared.add_faults(rules).map_err(|error| (422, error.to_string()))?;
            Ok(json(&shared.faults()))
        }),
        ("DELETE", "/_sim/faults") => match shared.set_faults(Vec::new()) {
            Ok(()) => Ok(json(&shared.faults())),
            Err(error) => Err((422, error.to_string())),
        },
        (_, "/_sim" | "/_sim/" | "/_sim/log" | "/_sim/stats" | "/_sim/faults") => {
            Err((405, format!("{method} is not possible here\n\n{HELP}")))
        }
        _ => Err((404, format!("{path} is not there\n\n{HELP}"))),
    };
    let (status, media, body) = match answered {
        Ok((media, body)) => (200, media, body),
        Err((status, mut text)) => {
            text.push('\n');
            (status, "text/plain", text.into_bytes())
        }
    };
    let mut response = Response::new(Payload::Whole(Some(body.into())));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media));
    response
}

type Answered = Result<(&'static str, Vec<u8>), (u16, String)>;

fn log(shared: &Shared, query: &str) -> Answered {
    let mut filter = Filter::from_query(query).map_err(|wrong| (400, wrong))?;
    filter.limit = Some(filter.limit.unwrap_or(MAX_ENTRIES).min(MAX_ENTRIES));
    let mut lines = Vec::new();
    for entry in shared.log(&filter) {
        serde_json::to_writer(&mut lines, &entry).expect("an entry is JSON, and memory takes it");
        lines.push(b'\n');
    }
    Ok(("application/x-ndjson", lines))
}

fn json<T: serde::Serialize>(value: &T) -> (&'static str, Vec<u8>) {
    ("application/json", serde_json::to_vec(value).expect("its keys are text, so it is JSON"))
}

/// One rule, or a list of rules.
pub(super) fn rules(body: &[u8]) -> Result<Vec<Rule>, (u16, String)> {
    let wrong = |error: serde_json::Error| (400, format!("no rule: {error}"));
    let rules: Vec<Rule> = match serde_json::from_slice::<Value>(body).map_err(wrong)? {
        list @ Value::Array(_) => serde_json::from_value(list).map_err(wrong)?,
        one => vec![serde_json::from_value(one).map_err(wrong)?],
    };
    if rules.iter().any(|rule| rule.effect == Effect::Outage && rule.for_ms.is_none()) {
        return Err((
            422,
            "fault `outage`: over HTTP it needs for_ms, since this address is away with the rest".into(),
        ));
    }
    Ok(rules)
}
