//! The token call of Easemob and what its answer means (`reference/providers.md` A1).
//!
//! It never decides when to log in: the scheduler does, at half the lifetime and after a 401. No
//! part of an answer that holds a token is ever quoted.

use std::time::Duration;

use bytes::Bytes;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::super::trouble::Cleaner;
use super::super::{Answer, Call, Fault, LoginFault, MASK, Reply, Session, shell_word};
use super::{bearer, json_headers, outcome::ErrorBody};

/// A lifetime beyond this is none: either the token never expires, or the cluster counts in
/// milliseconds; a 401 tells when it has ended after all.
const LIFETIME_MAX: Duration = Duration::from_secs(10 * 365 * 86_400);
/// A lifetime below this would make a login every few seconds, for which Easemob bans accounts.
const LIFETIME_MIN: Duration = Duration::from_secs(20);

/// The login call; made once, when the account is built.
pub(super) fn call(
    path: &str,
    id: &str,
    secret: &SecretString,
    ttl: Option<Duration>,
    unit: Duration,
) -> Call {
    let mut body = json!({
        "grant_type": "client_credentials",
        "client_id": id,
        "client_secret": secret.expose_secret(),
    });
    if let Some(ttl) = ttl {
        let units = u64::try_from(ttl.as_nanos().div_ceil(unit.as_nanos())).unwrap_or(u64::MAX);
        body["ttl"] = Value::from(units);
    }
    Call { path: path.to_owned(), headers: json_headers(), body: Bytes::from(body.to_string()) }
}

/// The login as lines of a shell that leave the token in `TOKEN`, with a place for the secret.
pub(super) fn by_hand(base_url: &str, call: &Call) -> String {
    let mut body: Value = serde_json::from_slice(&call.body).unwrap_or_default();
    body["client_secret"] = Value::from(MASK);
    let body = shell_word(&body.to_string()).replace(MASK, "'\"$CLIENT_SECRET\"'");
    let url = shell_word(&format!("{base_url}{}", call.path));
    format!(
        "CLIENT_SECRET='{MASK}'\n\
         TOKEN=$(curl -sS -X POST {url} \\\n  -H 'content-type: application/json' \\\n  --data-raw {body} | \\\n  \
         sed 's/.*\"access_token\" *: *\"\\([^\"]*\\)\".*/\\1/')\n"
    )
}

/// What the answer means. `unit` is the unit of `expires_in`.
pub(super) fn session(cleaner: &Cleaner, unit: Duration, answer: &Answer) -> Result<Session, LoginFault> {
    let reply = match answer {
        Ok(reply) => reply,
        Err(fault @ (Fault::NotSent(_) | Fault::Unknown(_))) => {
            return Err(LoginFault::Failed(cleaner.unanswered(fault)));
        }
    };
    if !(200..300).contains(&reply.status) {
        return Err(refusal(cleaner, reply));
    }
    let body: Option<Value> = serde_json::from_slice(&reply.body).ok();
    let token = body.as_ref().and_then(|body| body.get("access_token")).and_then(Value::as_str);
    let token = token.filter(|token| !token.is_empty()).map(SecretString::from);
    match token.filter(|token| bearer(token).is_some()) {
        Some(token) => {
            let lifetime = body.as_ref().and_then(|body| lifetime(body.get("expires_in")?, unit));
            Ok(Session { token, lifetime })
        }
        None => {
            let text = "the login was answered without an access_token that can be used";
            Err(LoginFault::Failed(cleaner.answered(reply, None, text)))
        }
    }
}

fn refusal(cleaner: &Cleaner, reply: &Reply) -> LoginFault {
    let body = ErrorBody::read(reply);
    let text = body.description.clone().unwrap_or_else(|| cleaner.raw(reply));
    let trouble = cleaner.answered(reply, body.error.as_deref(), &text);
    let limited = body.says("reach limit") || body.says("reach_limit") || body.says("reached api limit");
    match reply.status {
        // Only what Easemob itself says is final: a proxy's page is gone when its host is back.
        400 | 402 | 403 | 404 | 405 | 415 if body.error.is_some() && !limited => LoginFault::Refused(trouble),
        401 => LoginFault::Refused(trouble),
        429 if body.says("resource_limited") => LoginFault::Refused(trouble),
        _ => LoginFault::Failed(trouble),
    }
}

/// The lifetime in `expires_in`: a number, or a text that is one; `None` is for ever.
fn lifetime(expires_in: &Value, unit: Duration) -> Option<Duration> {
    let units = match expires_in {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }?;
    let lifetime = Duration::try_from_secs_f64(units * unit.as_secs_f64()).ok()?;
    (lifetime > Duration::ZERO && lifetime <= LIFETIME_MAX).then(|| lifetime.max(LIFETIME_MIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const MILLI: Duration = Duration::from_millis(1);

    #[test]
    fn expiry_arithmetic() {
        let days = |n: u64| Some(Duration::from_secs(n * 86_400));
        for (expires_in, unit, expected) in [
            (json!(5_184_000), SECOND, days(60)),
            (json!("5184000"), SECOND, days(60)),
            (json!(5_184_000_000_u64), MILLI, days(60)),
            // Milliseconds read as seconds are 164 years: for ever.
            (json!(5_184_000_000_u64), SECOND, None),
            (json!(0), SECOND, None),
            (json!(-1), SECOND, None),
            (json!(1e300), SECOND, None),
            (json!(1), SECOND, Some(LIFETIME_MIN)),
            (json!(null), SECOND, None),
            (json!("soon"), SECOND, None),
            (json!("NaN"), SECOND, None),
        ] {
            assert_eq!(lifetime(&expires_in, unit), expected, "{expires_in}");
        }
    }

    #[test]
    fn the_lifetime_asked_for_is_in_the_clusters_unit() {
        let secret = SecretString::from("s");
        let ask = |ttl, unit| {
            let call = call("/o/a/token", "id", &secret, ttl, unit);
            serde_json::from_slice::<Value>(&call.body).unwrap()["ttl"].clone()
        };
        assert_eq!(ask(None, SECOND), Value::Null);
        assert_eq!(ask(Some(Duration::from_secs(86_400)), SECOND), 86_400);
        assert_eq!(ask(Some(Duration::from_millis(1_500)), SECOND), 2);
        assert_eq!(ask(Some(Duration::from_millis(1_500)), MILLI), 1_500);
    }
}
