//! The gate of one path: whether its account takes calls at all.
//!
//! It closes for a ban, an outage or a run of refusals, and opens again after one probe was
//! accepted; each failed probe waits longer. It closes for the account's sake only: no message is
//! ever blamed for what closed a gate.

use std::time::Duration;

use super::backoff::Retry;
use super::status::{GateCause, GateState};
use crate::core::model::AttemptId;
use crate::core::time::Mono;

/// Refusals in a row, without an acceptance, that speak against the account rather than its messages.
pub const REFUSALS_IN_A_ROW: u32 = 20;

/// Most of the jitter added to a ban: probes of many processes shall not meet.
const BAN_JITTER_MS: u64 = 250;

/// The longest wait between two probes, without jitter.
const LONGEST: Duration = Duration::from_secs(10);

/// A day, of which a quota may be.
const DAY: Duration = Duration::from_secs(86_400);

/// Whether calls may be made.
#[derive(Debug)]
pub struct Gate {
    state: State,
    /// The longest wait between two probes, without jitter.
    longest: Duration,
    /// Refusals since the last acceptance.
    refusals: u32,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Open,
    Closed {
        why: Why,
        until: Mono,
    },
    Probing {
        why: Why,
        probe: AttemptId,
    },
}

/// Why it is closed, and how often it was found so.
#[derive(Clone, Debug)]
struct Why {
    cause: GateCause,
    /// Failed probes so far, plus one.
    step: u32,
    text: String,
}

/// What the gate says to a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// Any number of calls.
    Free,
    /// One call, as a probe.
    Probe,
    /// None.
    Shut,
}

/// How an account's failures are waited for, whatever its routes say: like `[retry]`, but a probe is
/// one call and the whole account waits for it, so the longest wait is 10 s (with jitter 20 s).
pub fn account_retry() -> Retry {
    Retry { max: LONGEST, ..Retry::default() }
}

impl Gate {
    /// An open gate. On a path with a quota of so many calls a day, probes of an outage that lasts come
    /// so seldom that they alone never use it up.
    pub fn new(calls_per_day: Option<u32>) -> Self {
        let mut gate = Self { state: State::Open, longest: LONGEST, refusals: 0 };
        gate.set_calls_per_day(calls_per_day);
        gate
    }

    /// The quota by the day is another from now on.
    pub fn set_calls_per_day(&mut self, calls_per_day: Option<u32>) {
        self.longest = calls_per_day.map_or(LONGEST, |calls| (DAY / calls.max(1)).max(LONGEST));
    }

    /// What may have closed it has changed (a secret, an address): the probe may go at once. A ban and
    /// a day's quota stand: they are not about that.
    pub fn renewed(&mut self, now: Mono) {
        if let State::Closed { why, until } = &mut self.state
            && matches!(why.cause, GateCause::Refused | GateCause::Outage)
        {
            *until = now.min(*until);
        }
    }

    /// Whether a call may be made at `now`.
    pub fn pass(&self, now: Mono) -> Pass {
        match &self.state {
            State::Open => Pass::Free,
            State::Closed { until, .. } if *until <= now => Pass::Probe,
            State::Closed { .. } | State::Probing { .. } => Pass::Shut,
        }
    }

    /// When it may be probed, if that is all it waits for.
    pub fn opens_at(&self) -> Option<Mono> {
        match &self.state {
            State::Closed { until, .. } => Some(*until),
            State::Open | State::Probing { .. } => None,
        }
    }

    /// A probe leaves.
    pub fn probing(&mut self, probe: AttemptId) {
        if let State::Closed { why, .. } = &mut self.state {
            let why = why.clone();
            self.state = State::Probing { why, probe };
        }
    }

    /// A call was accepted. True when that opens the gate: every acceptance ends an outage, only
    /// the probe ends a ban, because a call sent before the ban may answer after it.
    pub fn accepted(&mut self, attempt: AttemptId) -> bool {
        self.refusals = 0;
        let opens = match &self.state {
            State::Open => false,
            State::Closed { why, .. } => why.cause != GateCause::Ban,
            State::Probing { why, probe } => *probe == attempt || why.cause != GateCause::Ban,
        };
        if opens {
            self.state = State::Open;
        }
        opens
    }

    /// A call was answered by a refusal of its message. Says whether refusals now speak against
    /// the account, in which case no message is blamed.
    pub fn refused(&mut self, attempt: AttemptId, text: &str, now: Mono, seed: u64) -> bool {
        self.refusals = self.refusals.saturating_add(1);
        if self.refusals >= REFUSALS_IN_A_ROW {
            self.close(attempt, GateCause::Refused, Duration::ZERO, text, now, seed);
            return true;
        }
        self.answered(attempt);
        false
    }

    /// The provider answered the probe and spoke of its message alone: it takes calls again.
    pub fn answered(&mut self, attempt: AttemptId) {
        if matches!(&self.state, State::Probing { probe, .. } if *probe == attempt) {
            self.state = State::Open;
        }
    }

    /// The provider holds the path back for at least `wait`.
    pub fn banned(&mut self, attempt: AttemptId, wait: Duration, text: &str, now: Mono, seed: u64) {
        let jitter = Duration::from_millis(seed % (BAN_JITTER_MS + 1));
        self.close(attempt, GateCause::Ban, wait + jitter, text, now, seed);
    }

    /// Another process was told that the path is held back for so long. A probe of our own that is
    /// away decides instead: it asks the provider itself.
    pub fn banned_elsewhere(&mut self, wait: Duration, text: &str, now: Mono, seed: u64) {
        let until = now + wait + Duration::from_millis(seed % (BAN_JITTER_MS + 1));
        match &mut self.state {
            State::Open => {
                let why = Why { cause: GateCause::Ban, step: 1, text: text.to_owned() };
                self.state = State::Closed { why, until };
            }
            State::Closed { why, until: standing } => {
                why.cause = GateCause::Ban;
                *standing = until.max(*standing);
            }
            State::Probing { .. } => {}
        }
    }

    /// A call failed by the account's fault.
    pub fn failed(&mut self, attempt: AttemptId, cause: GateCause, text: &str, now: Mono, seed: u64) {
        self.close(attempt, cause, Duration::ZERO, text, now, seed);
    }

    /// The probe came back without saying anything about what closed the gate (the session was not
    /// good): another one may go at once.
    pub fn unproven(&mut self, attempt: AttemptId, now: Mono) {
        if let State::Probing { why, probe } = &self.state
            && *probe == attempt
        {
            self.state = State::Closed { why: why.clone(), until: now };
        }
    }

    /// The probe of an outage may go at once: another base URL has not been tried, or another path of the
    /// account works again. A ban stands.
    pub fn hurry(&mut self, now: Mono) {
        if let State::Closed { why, until } = &mut self.state
            && why.cause == GateCause::Outage
        {
            *until = now;
        }
    }

    /// How many probes have failed in a row, the first failure included; 0 when open.
    pub fn step(&self) -> u32 {
        match &self.state {
            State::Open => 0,
            State::Closed { why, .. } | State::Probing { why, .. } => why.step,
        }
    }

    fn close(
        &mut self,
        attempt: AttemptId,
        cause: GateCause,
        least: Duration,
        text: &str,
        now: Mono,
        seed: u64,
    ) {
        let (step, standing) = match &self.state {
            State::Open => (1, None),
            // A call sent before the gate closed: the same trouble, known already. A ban that it
            // brings counts from this answer.
            State::Closed { why, until } => (why.step, Some(*until)),
            State::Probing { why, probe } if *probe == attempt => (why.step.saturating_add(1), None),
            // Another call while one probes: what the probe says decides, except for a ban.
            State::Probing { why, .. } if cause == GateCause::Ban => (why.step, None),
            State::Probing { .. } => return,
        };
        let until = match standing {
            Some(until) if cause != GateCause::Ban => until,
            Some(until) => until.max(now + least),
            None => {
                let retry = Retry { max: self.longest, ..account_retry() };
                now + least.max(retry.wait(step, seed))
            }
        };
        let cause = match &self.state {
            State::Closed { why, .. } if cause != GateCause::Ban => why.cause,
            // A probe that found nobody says nothing about a ban.
            State::Probing { why, .. } if why.cause == GateCause::Ban => GateCause::Ban,
            _ => cause,
        };
        self.state = State::Closed { why: Why { cause, step, text: text.to_owned() }, until };
    }

    /// For status and metrics.
    pub fn state(&self, now: Mono) -> GateState {
        match &self.state {
            State::Open => GateState::Open,
            State::Closed { why, until } => {
                GateState::Closed { cause: why.cause, reopens_in: until.since(now), text: why.text.clone() }
            }
            State::Probing { why, .. } => GateState::Probing { cause: why.cause },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(ms: u64) -> Mono {
        Mono(ms * 1_000_000)
    }

    const CALL: AttemptId = AttemptId(1);
    const PROBE: AttemptId = AttemptId(2);

    #[test]
    fn a_ban_ends_with_one_accepted_probe_and_not_before_its_time() {
        let mut gate = Gate::new(None);
        gate.banned(CALL, Duration::from_secs(10), "416", at(0), 0);
        assert_eq!(gate.pass(at(9_999)), Pass::Shut);
        assert!(!gate.accepted(CALL), "a call sent before the ban says nothing about it");
        assert_eq!(gate.pass(at(10_000)), Pass::Probe);
        gate.probing(PROBE);
        assert_eq!(gate.pass(at(60_000)), Pass::Shut, "one probe at a time");
        assert!(gate.accepted(PROBE));
        assert_eq!(gate.pass(at(60_000)), Pass::Free);
    }

    #[test]
    fn another_base_url_does_not_end_a_ban() {
        let mut gate = Gate::new(None);
        gate.banned(CALL, Duration::from_secs(10), "416", at(0), 0);
        gate.failed(AttemptId(7), GateCause::Outage, "connection refused", at(1), 0);
        gate.hurry(at(1));
        assert_eq!(gate.opens_at(), Some(at(10_000)));
    }

    #[test]
    fn a_ban_counts_from_its_last_answer() {
        let mut gate = Gate::new(None);
        gate.banned(CALL, Duration::from_secs(10), "416", at(0), 0);
        gate.banned(AttemptId(7), Duration::from_secs(10), "416", at(3_000), 0);
        assert_eq!(gate.opens_at(), Some(at(13_000)));
    }

    #[test]
    fn a_ban_met_elsewhere_ends_with_a_probe_of_our_own() {
        let mut gate = Gate::new(None);
        gate.banned_elsewhere(Duration::from_secs(10), "elsewhere", at(0), 0);
        assert!(!gate.accepted(CALL), "a call sent before the ban says nothing about it");
        assert_eq!(gate.pass(at(9_999)), Pass::Shut);
        gate.banned_elsewhere(Duration::from_secs(2), "elsewhere", at(0), 0);
        assert_eq!((gate.opens_at(), gate.pass(at(10_000))), (Some(at(10_000)), Pass::Probe));
        gate.probing(PROBE);
        gate.banned_elsewhere(Duration::from_secs(10), "elsewhere", at(10_000), 0);
        assert!(gate.accepted(PROBE), "our own probe decides");
        assert_eq!(gate.pass(at(10_001)), Pass::Free);
    }

    #[test]
    fn failed_probes_wait_longer_and_late_failures_do_not() {
        let mut gate = Gate::new(None);
        gate.failed(CALL, GateCause::Outage, "connection refused", at(0), 1);
        let first = gate.opens_at().unwrap();
        gate.failed(AttemptId(7), GateCause::Outage, "connection refused", at(10), 1);
        assert_eq!(gate.opens_at(), Some(first), "a call sent before the gate closed");
        gate.probing(PROBE);
        gate.failed(PROBE, GateCause::Outage, "connection refused", first, 1);
        let second = gate.opens_at().unwrap();
        assert!(second.since(first) >= Duration::from_millis(500), "{:?}", second.since(first));
        assert!(gate.accepted(AttemptId(8)), "any acceptance ends an outage");
    }

    #[test]
    fn twenty_refusals_in_a_row_close_it_and_one_acceptance_starts_over() {
        let mut gate = Gate::new(None);
        for _ in 0..19 {
            assert!(!gate.refused(CALL, "no", at(0), 0));
        }
        gate.accepted(CALL);
        for _ in 0..19 {
            assert!(!gate.refused(CALL, "no", at(0), 0));
        }
        assert_eq!(gate.pass(at(0)), Pass::Free);
        assert!(gate.refused(CALL, "no", at(0), 0));
        assert_eq!(gate.pass(at(0)), Pass::Shut);
        gate.probing(PROBE);
        assert!(gate.refused(PROBE, "no", at(99_000), 0), "a refused probe blames nobody either");
        assert_eq!(gate.pass(at(99_000)), Pass::Shut);
    }

    #[test]
    fn a_probe_whose_message_is_refused_ends_an_outage() {
        let mut gate = Gate::new(None);
        gate.failed(CALL, GateCause::Outage, "time limit", at(0), 0);
        gate.probing(PROBE);
        assert!(!gate.refused(PROBE, "bad room", at(5_000), 0));
        assert_eq!(gate.pass(at(5_000)), Pass::Free);
    }

    #[test]
    fn p4_a_ban_whose_probe_found_nobody_is_still_a_ban() {
        let mut gate = Gate::new(None);
        gate.banned(AttemptId(1), Duration::from_secs(1), "", at(0), 0);
        gate.probing(AttemptId(2));
        gate.failed(AttemptId(2), GateCause::Outage, "refused", at(2_000), 0);
        assert!(!gate.accepted(AttemptId(0)), "a call sent before the ban proves nothing");
        gate.probing(AttemptId(3));
        assert!(gate.accepted(AttemptId(3)));
    }

    #[test]
    fn probes_do_not_use_up_the_quota_of_a_day() {
        let mut gate = Gate::new(Some(100));
        let (mut now, mut probes) = (at(0), 0);
        gate.failed(AttemptId(0), GateCause::Outage, "", now, 0);
        while now < at(86_400_000) {
            now = gate.opens_at().expect("it is closed");
            probes += 1;
            gate.probing(AttemptId(probes));
            gate.failed(AttemptId(probes), GateCause::Outage, "", now, probes);
        }
        assert!(probes < 100, "{probes} probes in a day");
    }

    #[test]
    fn while_one_probes_an_older_call_ends_an_outage_and_no_ban() {
        for (cause, ends) in [(GateCause::Outage, true), (GateCause::Ban, false)] {
            let mut gate = Gate::new(None);
            match cause {
                GateCause::Ban => gate.banned(CALL, Duration::from_secs(1), "416", at(0), 0),
                _ => gate.failed(CALL, cause, "refused", at(0), 0),
            }
            assert_eq!(gate.pass(at(60_000)), Pass::Probe);
            gate.probing(PROBE);
            assert_eq!(gate.accepted(AttemptId(7)), ends, "{cause:?}");
            assert_eq!(gate.step(), u32::from(!ends));
        }
    }

    #[test]
    fn a_ban_met_elsewhere_lasts_no_shorter_than_told_whatever_is_drawn() {
        for seed in [1, 77, BAN_JITTER_MS, u64::MAX] {
            let mut gate = Gate::new(None);
            gate.banned_elsewhere(Duration::from_secs(10), "elsewhere", at(0), seed);
            let opens = gate.opens_at().expect("closed");
            assert!((at(10_000)..=at(10_000 + BAN_JITTER_MS)).contains(&opens), "{seed}: {opens:?}");
        }
    }

    #[test]
    fn each_probe_that_fails_is_a_step_and_an_outage_is_probed_at_least_every_twenty_seconds() {
        let mut gate = Gate::new(None);
        let mut now = at(0);
        for step in 1..30 {
            gate.failed(PROBE, GateCause::Outage, "refused", now, u64::MAX);
            assert_eq!(gate.step(), step);
            let opens = gate.opens_at().expect("closed");
            assert!(opens.since(now) <= 2 * LONGEST, "step {step}");
            gate.hurry(now);
            assert_eq!(gate.opens_at(), Some(now), "at once, where another base URL is left");
            now = opens;
            gate.probing(PROBE);
        }
        assert!(gate.accepted(PROBE));
        assert_eq!(gate.step(), 0);
    }

    #[test]
    fn a_ban_that_is_met_while_closed_or_probing_is_a_ban() {
        for probing in [false, true] {
            let mut gate = Gate::new(None);
            gate.failed(CALL, GateCause::Outage, "refused", at(0), 0);
            if probing {
                gate.probing(PROBE);
            }
            gate.banned(AttemptId(7), Duration::from_secs(10), "416", at(1), 0);
            assert_eq!(gate.opens_at(), Some(at(10_001)), "{probing}");
            assert!(!gate.accepted(CALL), "{probing}: a call sent before says nothing about it");
        }
    }

    #[test]
    fn an_accounts_failures_are_waited_for_like_an_outage() {
        assert_eq!(account_retry().max, LONGEST);
    }
}
