//! App tokens: given for the client's secret, checked on every call, expired and revoked.
//!
//! Life is counted on the monotonic clock. Expired tokens are kept as long as it takes to say that
//! they are expired rather than unknown.

use std::collections::HashMap;
use std::time::Duration;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use uuid::Uuid;

use super::Easemob;
use super::form::{Form, Login};
use super::reply::{self, Refusal};
use crate::core::time::{Mono, Now};
use crate::simulator::floor::Answer;

/// Every token of the service begins so.
const PREFIX: &str = "YWMt";

/// Tokens that are remembered, good or not; a daemon that works well makes a handful.
const MAX_TOKENS: usize = 10_000;

#[derive(Debug)]
pub(super) struct Tokens {
    given: HashMap<String, Token>,
    rng: fastrand::Rng,
}

#[derive(Debug)]
struct Token {
    ends: Option<Mono>,
    revoked: bool,
}

impl Tokens {
    pub(super) fn new(knobs: &Easemob, seed: u64) -> Self {
        let fixed = knobs.app_token.iter().map(|token| (token.clone(), Token { ends: None, revoked: false }));
        Self { given: fixed.collect(), rng: fastrand::Rng::with_seed(seed) }
    }

    /// The login's credentials.
    pub(super) fn check_secret(&self, form: &Form, knobs: &Easemob) -> Result<(), Refusal> {
        let Some(login) = &form.login else { return Err(reply::BAD_GRANT) };
        if login.client_id == knobs.client_id && login.client_secret == knobs.client_secret {
            Ok(())
        } else {
            Err(reply::BAD_SECRET)
        }
    }

    /// A new token, for a login that was admitted.
    pub(super) fn give(&mut self, form: &Form, knobs: &Easemob, application: Uuid, now: Now) -> Answer {
        let unit = if knobs.token_in_ms { 1 } else { 1_000 };
        let life = match form.login {
            Some(Login { ttl: Some(0), .. }) => None,
            Some(Login { ttl: Some(ttl), .. }) => Some(Duration::from_millis(ttl.saturating_mul(unit))),
            _ => Some(knobs.token_life),
        };
        if knobs.one_token {
            self.revoke();
        }
        if self.given.len() >= MAX_TOKENS {
            self.given.retain(|_, token| !token.revoked && token.ends.is_none_or(|ends| now.mono < ends));
        }
        let token: String = (0..44).map(|_| self.rng.alphanumeric()).collect();
        let token = format!("{PREFIX}{token}");
        self.given.insert(token.clone(), Token { ends: life.map(|life| now.mono + life), revoked: false });
        // A token without an end says 0, as its `ttl` did.
        let expires_in = life.map_or(0, |life| life.as_millis() / u128::from(unit));
        let body = format!(
            r#"{{"access_token":"{token}","expires_in":{expires_in},"application":"{application}"}}"#
        );
        Answer {
            status: 200,
            code: 200,
            reason: "accepted",
            media: reply::JSON,
            retry_after: None,
            body: body.into(),
        }
    }

    /// The `Authorization` header of a call.
    pub(super) fn check(&self, headers: &HeaderMap, now: Now) -> Result<(), Refusal> {
        let Some(header) = headers.get(AUTHORIZATION) else { return Err(reply::NO_TOKEN) };
        let Some(token) = header.to_str().ok().and_then(|header| header.strip_prefix("Bearer ")) else {
            return Err(reply::BAD_TOKEN);
        };
        match self.given.get(token) {
            Some(Token { revoked: true, .. }) => Err(reply::REVOKED_TOKEN),
            Some(Token { ends: Some(ends), .. }) if now.mono >= *ends => Err(reply::NO_TOKEN),
            Some(_) => Ok(()),
            None if token.starts_with(PREFIX) => Err(reply::FOREIGN_TOKEN),
            None => Err(reply::BAD_TOKEN),
        }
    }

    /// Every token so far is no longer good.
    pub(super) fn revoke(&mut self) {
        self.given.values_mut().for_each(|token| token.revoked = true);
    }
}
