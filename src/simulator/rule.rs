//! A fault rule as data: what goes wrong, and whom it meets.
//!
//! Read from JSON (`/_sim/faults`, `--fault`) or built in a test, and checked. `faults` arms rules
//! and chooses among them, `judge` and `server` carry out.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What kind of request it is; `paths` of a rule takes these words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Endpoint {
    /// Easemob `…/token`.
    Token,
    /// A message to everybody in a room.
    Room,
    /// Yunxin `batchSendMsg.action`.
    Batch,
    /// A message to some members of one room.
    Users,
    /// A message to every room.
    Broadcast,
    /// No endpoint of the provider.
    Other,
}

impl Endpoint {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Token, Self::Room, Self::Batch, Self::Users, Self::Broadcast, Self::Other];

    /// The word of rules, log and stats.
    pub fn word(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Room => "room",
            Self::Batch => "batch",
            Self::Users => "users",
            Self::Broadcast => "broadcast",
            Self::Other => "other",
        }
    }
}

/// An answer in place of the provider's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Canned {
    /// HTTP status, 200 to 599. With Yunxin the application answers 200, gateways the rest.
    pub status: u16,
    /// Yunxin: the `code` of the body. Easemob: `error_code`.
    pub code: Option<i32>,
    /// Easemob: the word in `error`. Without one, the usual word of the status.
    pub error: Option<String>,
    /// Easemob `error_description`, Yunxin `desc`.
    pub description: Option<String>,
    /// A page of a gateway in place of JSON; 502 is one unless this says `false`.
    pub html: Option<bool>,
    /// Seconds in a `Retry-After` header.
    pub retry_after: Option<u32>,
    /// The provider judges the request first and, where it accepts, does so in spite of this answer.
    pub accepted: bool,
}

impl Default for Canned {
    fn default() -> Self {
        Self {
            status: 200,
            code: None,
            error: None,
            description: None,
            html: None,
            retry_after: None,
            accepted: false,
        }
    }
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Effect {
    /// Another answer.
    Answer(Canned),
    /// The connection is closed without an answer; the provider never saw the request.
    DropBefore,
    /// The connection is closed without an answer after the provider judged: the maker of duplicates.
    DropAfter,
    /// The connection is reset (TCP RST) before the body is read. Takes no `rooms`.
    Reset,
    /// No answer, ever; the provider never saw the request.
    BlackHoleBefore,
    /// No answer, ever, though the provider judged.
    BlackHoleAfter,
    /// The answer comes later, on top of the usual latency; the request is judged on arrival.
    Delay {
        /// Milliseconds; with `tail` the least of them.
        ms: u64,
        /// Heavy tail: the delay is `ms / u^(1/tail)` for a uniform u, so 1 is very heavy, 3 mild.
        #[serde(default)]
        tail: Option<f64>,
        /// The most a heavy tail may come to, milliseconds.
        #[serde(default = "a_minute")]
        max_ms: u64,
    },
    /// The body is half of itself, with the length of the half: broken JSON in good HTTP.
    Truncate,
    /// The body breaks off half way and the connection closes: less than `Content-Length` says.
    Cut,
    /// The body is empty.
    Empty,
    /// The body dribbles in over this time.
    Slow {
        /// Milliseconds from the first byte to the last.
        ms: u64,
    },
    /// The body is gzip, asked for or not.
    Gzip,
    /// Every token given out so far is no longer good (Easemob); the request is then judged.
    RevokeTokens,
    /// The provider's wall clock is off by so many seconds, while the rule stands.
    ClockOffset {
        /// Positive: the provider is ahead.
        seconds: i64,
    },
    /// The rooms of the rule are gone, while it stands: Yunxin answers 404, Easemob accepts and nobody sees it.
    RoomsGone,
    /// Connections are refused and open ones closed, while the rule stands.
    Outage,
}

fn a_minute() -> u64 {
    60_000
}

impl Effect {
    /// The word of log and stats.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Answer(_) => "answer",
            Self::DropBefore => "drop_before",
            Self::DropAfter => "drop_after",
            Self::Reset => "reset",
            Self::BlackHoleBefore => "black_hole_before",
            Self::BlackHoleAfter => "black_hole_after",
            Self::Delay { .. } => "delay",
            Self::Truncate => "truncate",
            Self::Cut => "cut",
            Self::Empty => "empty",
            Self::Slow { .. } => "slow",
            Self::Gzip => "gzip",
            Self::RevokeTokens => "revoke_tokens",
            Self::ClockOffset { .. } => "clock_offset",
            Self::RoomsGone => "rooms_gone",
            Self::Outage => "outage",
        }
    }

    /// Whether the provider never gets to see the request.
    pub(super) fn is_before(&self) -> bool {
        match self {
            Self::Answer(canned) => !canned.accepted,
            Self::DropBefore | Self::BlackHoleBefore | Self::Reset => true,
            _ => false,
        }
    }

    /// A state of the provider rather than something that happens to single requests.
    pub(super) fn is_standing(&self) -> bool {
        matches!(self, Self::ClockOffset { .. } | Self::RoomsGone | Self::Outage)
    }
}

/// One fault and whom it meets. `{"effect": "drop_after", "rooms": ["7"], "count": 3}`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What goes wrong.
    pub effect: Effect,
    /// Only requests that name one of these rooms; empty: all.
    #[serde(default)]
    pub rooms: Vec<String>,
    /// Only these endpoints; empty: all but `token`.
    #[serde(default)]
    pub paths: Vec<Endpoint>,
    /// Chance per request, above 0 and at most 1.
    #[serde(default = "always")]
    pub probability: f64,
    /// So many matching requests pass first.
    #[serde(default)]
    pub after: u64,
    /// How often it happens; without it, for ever (`revoke_tokens`: once).
    #[serde(default)]
    pub count: Option<u64>,
    /// How long the rule stands, from when it was set, milliseconds; without it, for ever.
    #[serde(default)]
    pub for_ms: Option<u64>,
}

fn always() -> f64 {
    1.0
}

impl Rule {
    /// That fault for every request but logins, for ever.
    pub fn new(effect: Effect) -> Self {
        Self {
            effect,
            rooms: Vec::new(),
            paths: Vec::new(),
            probability: 1.0,
            after: 0,
            count: None,
            for_ms: None,
        }
    }

    /// At most so often.
    #[must_use]
    pub fn count(self, count: u64) -> Self {
        Self { count: Some(count), ..self }
    }

    /// Only for so long, from when the rule is set.
    #[must_use]
    pub fn lasting(self, span: Duration) -> Self {
        Self { for_ms: Some(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)), ..self }
    }

    /// Only with that chance, above 0 and at most 1.
    #[must_use]
    pub fn with_probability(self, probability: f64) -> Self {
        Self { probability, ..self }
    }

    /// Only requests that name one of these rooms.
    #[must_use]
    pub fn in_rooms(self, rooms: &[&str]) -> Self {
        Self { rooms: rooms.iter().map(|&room| room.to_owned()).collect(), ..self }
    }

    /// Only these endpoints.
    #[must_use]
    pub fn on(self, paths: &[Endpoint]) -> Self {
        Self { paths: paths.to_vec(), ..self }
    }

    /// Says what is wrong with the rule, and what would be right.
    pub fn check(&self) -> Result<(), BadRule> {
        let word = self.effect.word();
        let bad = |what: &str| Err(BadRule(format!("fault `{word}`: {what}")));
        if !(self.probability > 0.0 && self.probability <= 1.0) {
            return bad(&format!("probability {} is not above 0 and at most 1", self.probability));
        }
        if self.count == Some(0) {
            return bad("count 0 would never happen; leave it out for no limit");
        }
        if self.effect.is_standing() && (self.probability < 1.0 || self.count.is_some() || self.after > 0) {
            return bad("it stands or it does not: probability, count and after have no meaning; use for_ms");
        }
        match &self.effect {
            Effect::Answer(canned) if !(200..600).contains(&canned.status) => {
                bad(&format!("status {} is not from 200 to 599", canned.status))
            }
            Effect::Delay { tail: Some(tail), .. } if tail.is_nan() || *tail <= 0.0 => {
                bad("tail must be above 0")
            }
            Effect::Reset if !self.rooms.is_empty() => {
                bad("it happens before the body is read, so it cannot know the rooms; leave `rooms` out")
            }
            Effect::RoomsGone if self.rooms.is_empty() => bad("`rooms` must say which rooms are gone"),
            _ => Ok(()),
        }
    }
}

/// What is wrong with a rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadRule(String);

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(json: &str) -> Rule {
        serde_json::from_str(json).expect("a rule")
    }

    #[test]
    fn wrong_rules_are_told() {
        for (json, part) in [
            (r#"{"effect":"empty","probability":0.0}"#, "above 0"),
            (r#"{"effect":"empty","count":0}"#, "never happen"),
            (r#"{"effect":"outage","count":1}"#, "for_ms"),
            (r#"{"effect":"reset","rooms":["1"]}"#, "before the body"),
            (r#"{"effect":"rooms_gone"}"#, "which rooms"),
            (r#"{"effect":{"answer":{"status":99}}}"#, "200 to 599"),
            (r#"{"effect":{"delay":{"ms":1,"tail":0.0}}}"#, "above 0"),
        ] {
            let told = rule(json).check().expect_err(json).to_string();
            assert!(told.contains(part), "{json}: {told}");
        }
        assert!(serde_json::from_str::<Rule>(r#"{"effect":"emtpy"}"#).is_err());
        assert!(serde_json::from_str::<Rule>(r#"{"effect":"empty","romos":[]}"#).is_err());
    }
}
