//! The verdict on one try: what an outcome makes of a message. Pure; the table is in the tests.

use std::time::Duration;

use super::backoff::{OnUncertain, Retry};
use crate::core::model::Class;
use crate::core::provider::{Acceptance, Outcome, Throttle};

/// What is known of a message when its outcome comes in.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Failed tries that counted against the message, before this one.
    pub counted: u32,
    /// Of those, maybe-delivered ones.
    pub uncertain: u32,
    /// Another call of this account and path was accepted since the message's previous try: a
    /// failure is its own.
    pub own_fault: bool,
    /// The call carried other messages too.
    pub in_company: bool,
    /// The provider drops repeats by our id.
    pub drops_repeats: bool,
    /// Refusals in a row speak against the account.
    pub refusals_blame_account: bool,
}

/// What becomes of the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Finished: the provider has it.
    Accepted(Acceptance),
    /// It goes out again, in its place in the lane.
    Again {
        /// When.
        when: When,
        /// Whether the try counts against the message.
        counts: bool,
        /// Whether it must go alone.
        alone: bool,
    },
    /// Finished: it becomes a letter.
    Bury(Class),
}

/// When a message goes out again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// As soon as gate and quota allow.
    Now,
    /// After so long.
    After(Duration),
    /// After the route's backoff.
    Backoff,
}

impl Verdict {
    const HELD: Self = Self::Again { when: When::Now, counts: false, alone: false };
}

/// The verdict on one try.
pub fn verdict(retry: &Retry, case: Case, outcome: &Outcome) -> Verdict {
    match outcome {
        Outcome::Accepted(how) => Verdict::Accepted(*how),
        Outcome::Throttled { scope: Throttle::Room(wait), .. } => {
            Verdict::Again { when: When::After(*wait), counts: false, alone: false }
        }
        Outcome::Throttled { .. } | Outcome::Unauthorized(_) | Outcome::Closed(_) => Verdict::HELD,
        Outcome::Refused { .. } if case.in_company => {
            Verdict::Again { when: When::Now, counts: false, alone: true }
        }
        Outcome::Refused { .. } if case.refusals_blame_account => Verdict::HELD,
        Outcome::Refused { class, .. } => Verdict::Bury(*class),
        Outcome::Failed(_) => failed(retry, case),
        Outcome::Uncertain(_) if retry.uncertain == OnUncertain::DeadLetter => {
            Verdict::Bury(Class::Uncertain)
        }
        Outcome::Uncertain(_) => {
            let last = !case.drops_repeats && case.uncertain + 1 >= retry.max_uncertain;
            if case.own_fault && last { Verdict::Bury(Class::Uncertain) } else { failed(retry, case) }
        }
    }
}

fn failed(retry: &Retry, case: Case) -> Verdict {
    match case.own_fault {
        false => Verdict::HELD,
        true if case.counted + 1 >= retry.max_attempts => Verdict::Bury(Class::Exhausted),
        true => Verdict::Again { when: When::Backoff, counts: true, alone: false },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::provider::Trouble;

    const CASE: Case = Case {
        counted: 0,
        uncertain: 0,
        own_fault: true,
        in_company: false,
        drops_repeats: true,
        refusals_blame_account: false,
    };

    fn trouble() -> Trouble {
        Trouble { status: Some(500), code: None, text: "no".to_owned() }
    }

    fn judge(case: Case, outcome: &Outcome) -> Verdict {
        verdict(&Retry::default(), case, outcome)
    }

    #[test]
    fn what_is_the_accounts_fault_never_counts() {
        let again = Verdict::Again { when: When::Now, counts: false, alone: false };
        let other = Case { own_fault: false, counted: 7, uncertain: 2, drops_repeats: false, ..CASE };
        for outcome in [
            Outcome::Failed(trouble()),
            Outcome::Uncertain(trouble()),
            Outcome::Closed(trouble()),
            Outcome::Unauthorized(trouble()),
            Outcome::Throttled { scope: Throttle::Path(Duration::from_secs(10)), trouble: trouble() },
            Outcome::Throttled { scope: Throttle::PathUntilMidnight, trouble: trouble() },
        ] {
            assert_eq!(judge(other, &outcome), again, "{outcome:?}");
        }
    }

    #[test]
    fn own_failures_count_up_to_the_last() {
        let again = Verdict::Again { when: When::Backoff, counts: true, alone: false };
        assert_eq!(judge(CASE, &Outcome::Failed(trouble())), again);
        assert_eq!(judge(Case { counted: 6, ..CASE }, &Outcome::Failed(trouble())), again);
        let last = Case { counted: 7, ..CASE };
        assert_eq!(judge(last, &Outcome::Failed(trouble())), Verdict::Bury(Class::Exhausted));
        assert_eq!(judge(last, &Outcome::Uncertain(trouble())), Verdict::Bury(Class::Exhausted));
    }

    #[test]
    fn maybe_delivered_tries_are_few_where_repeats_are_seen() {
        let seen = Case { drops_repeats: false, uncertain: 2, counted: 2, ..CASE };
        assert_eq!(judge(seen, &Outcome::Uncertain(trouble())), Verdict::Bury(Class::Uncertain));
        let dropped = Case { drops_repeats: true, ..seen };
        assert!(matches!(
            judge(dropped, &Outcome::Uncertain(trouble())),
            Verdict::Again { counts: true, .. }
        ));
        let never = Retry { uncertain: OnUncertain::DeadLetter, ..Retry::default() };
        let account = Case { own_fault: false, ..CASE };
        assert_eq!(verdict(&never, account, &Outcome::Uncertain(trouble())), Verdict::Bury(Class::Uncertain));
    }

    #[test]
    fn a_refusal_in_company_is_repeated_alone_and_blames_nobody() {
        let refused = Outcome::Refused { class: Class::RoomGone, trouble: trouble() };
        assert_eq!(judge(CASE, &refused), Verdict::Bury(Class::RoomGone));
        assert_eq!(
            judge(Case { in_company: true, ..CASE }, &refused),
            Verdict::Again { when: When::Now, counts: false, alone: true }
        );
        assert_eq!(
            judge(Case { refusals_blame_account: true, ..CASE }, &refused),
            Verdict::Again { when: When::Now, counts: false, alone: false }
        );
    }
}
