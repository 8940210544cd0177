//! What goes wrong on purpose: the rules that stand, and which of them meets a request.
//!
//! Per request the rules are asked in their order: delays add up, the first other fault that
//! applies is the one that happens. Chance comes from one seeded generator. This file chooses;
//! `judge` and `server` carry out.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::rule::{BadRule, Effect, Endpoint, Rule};
use crate::core::time::Mono;

/// A rule as it stands now, as `GET /_sim/faults` shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Armed {
    /// The rule itself.
    pub rule: Rule,
    /// How often it has happened.
    pub hits: u64,
    /// Matching requests that `after` has let pass.
    passed: u64,
    /// When it ends.
    #[serde(skip)]
    until: Option<Mono>,
}

/// What happens to one request.
#[derive(Debug, Default)]
pub(super) struct Picked {
    /// On top of the usual latency.
    pub delay: Duration,
    /// Tokens die first.
    pub revoke: bool,
    /// The fault, if any.
    pub effect: Option<Effect>,
    /// The word for the log: the fault, else `delay` or `revoke_tokens`, if those happened.
    pub word: Option<&'static str>,
}

/// The rules that stand.
pub(super) struct Faults {
    rules: Vec<Armed>,
    rng: fastrand::Rng,
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.rules).finish()
    }
}

impl Faults {
    pub(super) fn new(seed: u64) -> Self {
        Self { rules: Vec::new(), rng: fastrand::Rng::with_seed(seed) }
    }

    /// Puts these rules in the place of all others, or changes nothing if one is wrong.
    pub(super) fn set(&mut self, rules: Vec<Rule>, now: Mono) -> Result<(), BadRule> {
        let armed = arm(rules, now)?;
        self.rules = armed;
        Ok(())
    }

    /// Puts these rules after the others, or changes nothing if one is wrong.
    pub(super) fn add(&mut self, rules: Vec<Rule>, now: Mono) -> Result<(), BadRule> {
        let armed = arm(rules, now)?;
        self.rules.extend(armed);
        Ok(())
    }

    pub(super) fn list(&self) -> Vec<Armed> {
        self.rules.clone()
    }

    /// Whether a reset is due, asked before the body is read.
    pub(super) fn reset(&mut self, endpoint: Endpoint, now: Mono) -> bool {
        let Self { rules, rng } = self;
        rules
            .iter_mut()
            .filter(|armed| armed.rule.effect == Effect::Reset)
            .any(|armed| armed.meets(endpoint, &[], now) && armed.strikes(rng))
    }

    /// What happens to this request.
    pub(super) fn pick(&mut self, endpoint: Endpoint, rooms: &[&str], now: Mono) -> Picked {
        let mut picked = Picked::default();
        let Self { rules, rng } = self;
        for armed in rules {
            let effect = &armed.rule.effect;
            if effect.is_standing() || *effect == Effect::Reset || !armed.meets(endpoint, rooms, now) {
                continue;
            }
            let adds = matches!(effect, Effect::Delay { .. } | Effect::RevokeTokens);
            if (!adds && picked.effect.is_some()) || !armed.strikes(rng) {
                continue;
            }
            match &armed.rule.effect {
                Effect::Delay { ms, tail, max_ms } => {
                    picked.delay += delay(*ms, *tail, *max_ms, rng);
                    picked.word.get_or_insert("delay");
                }
                Effect::RevokeTokens => {
                    picked.revoke = true;
                    picked.word.get_or_insert("revoke_tokens");
                }
                other => {
                    picked.word = Some(other.word());
                    picked.effect = Some(other.clone());
                }
            }
        }
        picked
    }

    /// How far the provider's wall clock is off, milliseconds.
    pub(super) fn clock_offset_ms(&self, now: Mono) -> i64 {
        self.standing(now)
            .map(|armed| match armed.rule.effect {
                Effect::ClockOffset { seconds } => seconds.saturating_mul(1_000),
                _ => 0,
            })
            .sum()
    }

    /// Whether the room is gone.
    pub(super) fn is_gone(&self, room: &str, now: Mono) -> bool {
        self.standing(now).any(|armed| {
            armed.rule.effect == Effect::RoomsGone && armed.rule.rooms.iter().any(|gone| gone == room)
        })
    }

    /// Whether there is an outage now: `Some(end)`, where `Some(None)` has no end.
    pub(super) fn outage(&self, now: Mono) -> Option<Option<Mono>> {
        self.standing(now)
            .filter(|armed| armed.rule.effect == Effect::Outage)
            .map(|armed| armed.until)
            .reduce(|a, b| Some(a?.max(b?)))
    }

    fn standing(&self, now: Mono) -> impl Iterator<Item = &Armed> {
        self.rules.iter().filter(move |armed| armed.until.is_none_or(|until| now < until))
    }
}

impl Armed {
    fn meets(&self, endpoint: Endpoint, rooms: &[&str], now: Mono) -> bool {
        let rule = &self.rule;
        let limit = rule.count.or((rule.effect == Effect::RevokeTokens).then_some(1));
        self.until.is_none_or(|until| now < until)
            && limit.is_none_or(|limit| self.hits < limit)
            && (rule.paths.contains(&endpoint) || (rule.paths.is_empty() && endpoint != Endpoint::Token))
            && (rule.rooms.is_empty()
                || rooms.iter().any(|&room| rule.rooms.iter().any(|named| named == room)))
    }

    /// Of a matching request: whether it is hit.
    fn strikes(&mut self, rng: &mut fastrand::Rng) -> bool {
        if self.passed < self.rule.after {
            self.passed += 1;
            return false;
        }
        let hit = self.rule.probability >= 1.0 || rng.f64() < self.rule.probability;
        self.hits += u64::from(hit);
        hit
    }
}

fn arm(rules: Vec<Rule>, now: Mono) -> Result<Vec<Armed>, BadRule> {
    rules.iter().try_for_each(Rule::check)?;
    let armed = rules.into_iter().map(|rule| Armed {
        until: rule.for_ms.map(|ms| now + Duration::from_millis(ms)),
        rule,
        hits: 0,
        passed: 0,
    });
    Ok(armed.collect())
}

fn delay(ms: u64, tail: Option<f64>, max_ms: u64, rng: &mut fastrand::Rng) -> Duration {
    let Some(tail) = tail else { return Duration::from_millis(ms) };
    // 1 - u is above 0, so the power is finite; what is too long for a Duration is cut by max_ms.
    let stretched = Duration::from_millis(ms).as_secs_f64() * (1.0 - rng.f64()).powf(-1.0 / tail);
    Duration::try_from_secs_f64(stretched).unwrap_or(Duration::MAX).min(Duration::from_millis(max_ms.max(ms)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(json: &str) -> Rule {
        serde_json::from_str(json).expect("a rule")
    }

    fn armed(rules: &[&str]) -> Faults {
        let mut faults = Faults::new(1);
        faults.set(rules.iter().map(|json| rule(json)).collect(), Mono(0)).expect("good rules");
        faults
    }

    fn word(faults: &mut Faults, endpoint: Endpoint, rooms: &[&str]) -> Option<&'static str> {
        faults.pick(endpoint, rooms, Mono(0)).word
    }

    #[test]
    fn rooms_paths_after_and_count_narrow_a_rule() {
        let mut faults =
            armed(&[r#"{"effect":"drop_after","rooms":["7"],"paths":["room"],"after":1,"count":2}"#]);
        assert_eq!(word(&mut faults, Endpoint::Room, &["8"]), None);
        assert_eq!(word(&mut faults, Endpoint::Users, &["7"]), None);
        let hits: Vec<_> = (0..4).map(|_| word(&mut faults, Endpoint::Room, &["8", "7"])).collect();
        assert_eq!(hits, [None, Some("drop_after"), Some("drop_after"), None]);
        assert_eq!(faults.list()[0].hits, 2);
    }

    #[test]
    fn logins_are_spared_unless_named() {
        let mut faults = armed(&[r#"{"effect":"empty"}"#, r#"{"effect":"gzip","paths":["token"]}"#]);
        assert_eq!(word(&mut faults, Endpoint::Token, &[]), Some("gzip"));
        assert_eq!(word(&mut faults, Endpoint::Room, &[]), Some("empty"));
    }

    #[test]
    fn a_rule_ends_with_its_time() {
        let mut faults = armed(&[r#"{"effect":"truncate","for_ms":10}"#]);
        assert!(faults.pick(Endpoint::Room, &[], Mono(9_999_999)).effect.is_some());
        assert!(faults.pick(Endpoint::Room, &[], Mono(10_000_000)).effect.is_none());
    }

    #[test]
    fn delays_add_up_and_come_with_another_fault() {
        let mut faults = armed(&[
            r#"{"effect":{"delay":{"ms":5}}}"#,
            r#"{"effect":"empty"}"#,
            r#"{"effect":{"delay":{"ms":7}}}"#,
        ]);
        let picked = faults.pick(Endpoint::Room, &[], Mono(0));
        assert_eq!(picked.delay, Duration::from_millis(12));
        assert_eq!(picked.effect, Some(Effect::Empty));
    }

    #[test]
    fn a_heavy_tail_has_a_least_a_most_and_a_spread() {
        let mut rng = fastrand::Rng::with_seed(3);
        let all: Vec<_> = (0..1_000).map(|_| delay(10, Some(1.0), 500, &mut rng)).collect();
        assert!(all.iter().all(|d| (Duration::from_millis(10)..=Duration::from_millis(500)).contains(d)));
        let long = all.iter().filter(|d| **d > Duration::from_millis(100)).count();
        assert!((60..140).contains(&long), "a tenth is ten times as long, got {long} of 1000");
    }

    #[test]
    fn chance_is_the_seed_s() {
        let run = || {
            let mut faults = armed(&[r#"{"effect":"empty","probability":0.5}"#]);
            (0..64).map(|_| faults.pick(Endpoint::Room, &[], Mono(0)).effect.is_some()).collect::<Vec<_>>()
        };
        assert_eq!(run(), run());
        assert!((16..48).contains(&run().iter().filter(|hit| **hit).count()));
    }

    #[test]
    fn an_outage_lasts_as_long_as_the_longest() {
        let none = armed(&[]);
        assert_eq!(none.outage(Mono(0)), None);
        let two = armed(&[r#"{"effect":"outage","for_ms":5}"#, r#"{"effect":"outage","for_ms":9}"#]);
        assert_eq!(two.outage(Mono(0)), Some(Some(Mono(9_000_000))));
        assert_eq!(two.outage(Mono(9_000_000)), None);
        let endless = armed(&[r#"{"effect":"outage"}"#, r#"{"effect":"outage","for_ms":9}"#]);
        assert_eq!(endless.outage(Mono(u64::MAX)), Some(None));
    }
}
