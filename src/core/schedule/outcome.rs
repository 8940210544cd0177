//! What comes back from providers: outcomes of calls, sessions, and counts that were written.

use super::gate::account_retry;
use super::status::GateCause;
use super::verdict::{Case, Verdict, When, verdict};
use super::{Away, Scheduler};
use crate::core::model::{AccountId, AttemptId, Class, Path};
use crate::core::provider::{LoginFault, Outcome, Session, Throttle, Trouble};
use crate::core::time::{Now, Wall};

impl Scheduler {
    /// The answer to a call, one outcome for each of its items. Comes exactly once for every
    /// [`super::Effect::Send`].
    pub fn handle_outcome(&mut self, attempt: AttemptId, outcomes: &[Outcome], now: Now) {
        let slot = usize::try_from(attempt.0 & SLOT_MASK).expect("a slot of 24 bits");
        if self.attempts.get(slot).is_none_or(|away| away.id != attempt) {
            debug_assert!(false, "an outcome for a call that is not away");
            return;
        }
        let away = self.attempts.remove(slot);
        debug_assert_eq!(away.jobs.len(), outcomes.len(), "one outcome for each item");
        self.land(&away, now);
        self.learn(&away, outcomes, now);
        for (&job, outcome) in away.jobs.iter().zip(outcomes) {
            self.judge(&away, job, outcome, now);
        }
        self.conflate_landed(&away.jobs, now.mono);
    }

    /// The call's slots and its messages' places are given back.
    fn land(&mut self, away: &Away, now: Now) {
        let messages = u32::try_from(away.jobs.len()).expect("a call carries few messages");
        self.accounts[usize::from(away.account.0)].paths[away.path as usize]
            .quota
            .give_back(messages, now.mono);
        for &job in &away.jobs {
            self.lanes.landed(job, now.mono);
        }
    }

    /// What the outcomes say of the account: its gate and its session.
    fn learn(&mut self, away: &Away, outcomes: &[Outcome], now: Now) {
        let seed = self.rng.u64(..);
        let base_urls = self.settings.accounts[usize::from(away.account.0)].base_urls;
        let account = &mut self.accounts[usize::from(away.account.0)];
        let path = &mut account.paths[away.path as usize];
        if outcomes.iter().any(|outcome| matches!(outcome, Outcome::Accepted(_))) {
            path.accepted += 1;
            let opens = path.gate.accepted(away.id);
            account.login.accepted();
            if opens {
                // What kept this path shut most likely kept the others shut as well.
                account.paths.iter_mut().for_each(|path| path.gate.hurry(now.mono));
            }
        }
        let path = &mut account.paths[away.path as usize];
        let own_fault = |job: &u32| path.accepted > self.lanes.job(*job).accepted_mark;
        // One answer is one piece of news, however many messages it was for: the gravest counts.
        let Some((job, news)) = away.jobs.iter().zip(outcomes).max_by_key(|(_, outcome)| gravity(outcome))
        else {
            return;
        };
        let failure_is_the_accounts = !own_fault(job);
        match news {
            Outcome::Accepted(_) => {}
            Outcome::Throttled { scope, trouble } => {
                let wait = match scope {
                    Throttle::Path(wait) => *wait,
                    Throttle::PathUntilMidnight => now.wall.until_next_utc_day(),
                    Throttle::Room(_) => {
                        path.gate.answered(away.id);
                        return;
                    }
                };
                path.gate.banned(away.id, wait, &told(trouble), now.mono, seed);
            }
            Outcome::Closed(trouble) => {
                path.gate.failed(away.id, GateCause::Refused, &told(trouble), now.mono, seed);
            }
            Outcome::Unauthorized(trouble) => {
                path.gate.unproven(away.id, now.mono);
                if account.login.unauthorized(away.session.as_ref(), now.mono) {
                    path.gate.failed(away.id, GateCause::Refused, &told(trouble), now.mono, seed);
                }
            }
            Outcome::Failed(trouble) | Outcome::Uncertain(trouble) => {
                if failure_is_the_accounts {
                    path.gate.failed(away.id, GateCause::Outage, &told(trouble), now.mono, seed);
                    if matches!(news, Outcome::Failed(_)) && (path.gate.step() as usize) < base_urls {
                        path.gate.hurry(now.mono);
                    }
                } else {
                    path.gate.unproven(away.id, now.mono);
                }
            }
            // Refusals of single messages are counted where they are judged; probes are single.
            Outcome::Refused { .. } => {}
        }
    }

    /// The verdict on one message of a call.
    fn judge(&mut self, away: &Away, key: u32, outcome: &Outcome, now: Now) {
        let in_company = away.jobs.len() > 1;
        let seed = self.rng.u64(..);
        let drops_repeats = self.settings.accounts[usize::from(away.account.0)].limits.drops_repeats;
        let path = &mut self.accounts[usize::from(away.account.0)].paths[away.path as usize];
        let refusals_blame_account = match outcome {
            Outcome::Refused { trouble, .. } if !in_company => {
                path.gate.refused(away.id, &told(trouble), now.mono, seed)
            }
            _ => false,
        };
        let accepted = path.accepted;
        let job = self.lanes.job_mut(key);
        let own_fault = accepted > job.accepted_mark;
        job.accepted_mark = accepted;
        remember(job, outcome, now.wall);
        let case = Case {
            counted: job.counted,
            uncertain: job.uncertain,
            own_fault,
            in_company,
            drops_repeats,
            refusals_blame_account,
        };
        let (room, route, record) = (job.room, job.message.route, job.record);
        let retry = &self.settings.routes[usize::from(route.0)].retry;
        let verdict = verdict(retry, case, outcome);
        let partition = self.held.partition_of(record);
        match verdict {
            Verdict::Accepted(how) => {
                self.lanes.set_there(room);
                self.finish_accepted(key, how, now.mono);
            }
            Verdict::Bury(class) => {
                self.finish_failed(key, class, error(outcome), now.mono);
                if class == Class::RoomGone && !self.settings.room_gone.is_zero() {
                    self.bury_room(away, room, now);
                }
            }
            Verdict::Again { .. } if self.held.is_revoking(partition) => self.give_back(key, now),
            Verdict::Again { when, counts, alone } => {
                let uncertain = matches!(outcome, Outcome::Uncertain(_));
                let job = self.lanes.job_mut(key);
                job.alone |= alone;
                job.counted += u32::from(counts);
                job.uncertain += u32::from(counts && uncertain);
                job.not_before = match when {
                    When::Now => now.mono,
                    When::After(wait) => now.mono + wait,
                    When::Backoff => now.mono + retry.wait(job.counted, seed),
                };
                if job.expires.is_some_and(|at| at <= now.mono) {
                    self.finish_expired(key, now.mono);
                } else {
                    self.lanes.replace(key, now.mono);
                }
            }
        }
        // Counted as away until it is judged: a partition is not let go between two messages of one call.
        self.held.returned(partition);
        self.release_if_done(partition);
    }

    /// The provider says that a room does not exist: what waits for it costs no call any more.
    fn bury_room(&mut self, away: &Away, room: u32, now: Now) {
        self.lanes.set_gone(room, now.mono + self.settings.room_gone);
        for key in self.lanes.waiting_in(room) {
            // Messages of this very call are judged by their own outcomes.
            if !away.jobs.contains(&key) {
                self.finish_failed(key, Class::RoomGone, KNOWN_GONE.to_owned(), now.mono);
            }
        }
    }

    /// A message came back to a partition that is being given up.
    fn give_back(&mut self, key: u32, now: Now) {
        let record = self.lanes.job(key).record;
        self.abandon(key, now.mono);
        if self.held.records[record as usize].groups.is_empty() {
            self.held.release(record, &mut self.effects);
        }
    }

    /// The answer to [`super::Effect::Login`].
    pub fn handle_login(&mut self, account: AccountId, result: Result<Session, LoginFault>, now: Now) {
        let seed = self.rng.u64(..);
        let account = &mut self.accounts[usize::from(account.0)];
        match result {
            Ok(session) => {
                account.login_failures = 0;
                account.login.fetched(session, now.mono);
            }
            Err(_) => {
                account.login_failures = account.login_failures.saturating_add(1);
                account.login.failed(account_retry().wait(account.login_failures, seed), now.mono);
            }
        }
    }

    /// The answer to [`super::Effect::Count`]: the count is written.
    pub fn handle_counted(&mut self, account: AccountId, path: Path, now: Now) {
        let path = &mut self.accounts[usize::from(account.0)].paths[path as usize];
        if let Some(day) = path.quota.day.as_mut() {
            day.written(now.wall);
        }
    }

    /// What the table holds of an account's calls by the day: `calls` on `utc_day`, the last at
    /// `last`. Until this was told (with zero, where the table has no row), nothing is sent on a
    /// path that has a quota by the day.
    pub fn restore_count(
        &mut self,
        account: AccountId,
        path: Path,
        utc_day: i64,
        calls: u32,
        last: Option<Wall>,
    ) {
        self.accounts[usize::from(account.0)].paths[path as usize].quota.restore(utc_day, calls, last);
    }
}

/// What a letter says whose room was found gone by another message.
pub(super) const KNOWN_GONE: &str = "the provider said a short time ago that this room does not exist";

/// An attempt's id is its number, and in the low bits its slot: 2^24 calls are never away at once.
pub(super) const SLOT_MASK: u64 = (1 << SLOT_BITS) - 1;
/// See [`SLOT_MASK`].
pub(super) const SLOT_BITS: u32 = 24;

/// Which of several outcomes of one call says most of the account.
fn gravity(outcome: &Outcome) -> u8 {
    match outcome {
        Outcome::Accepted(_) => 0,
        Outcome::Refused { .. } => 1,
        Outcome::Throttled { scope: Throttle::Room(_), .. } => 2,
        Outcome::Uncertain(_) => 3,
        Outcome::Failed(_) => 4,
        Outcome::Unauthorized(_) => 5,
        Outcome::Throttled { .. } => 6,
        Outcome::Closed(_) => 7,
    }
}

fn trouble(outcome: &Outcome) -> Option<&Trouble> {
    match outcome {
        Outcome::Accepted(_) => None,
        Outcome::Throttled { trouble, .. } | Outcome::Refused { trouble, .. } => Some(trouble),
        Outcome::Unauthorized(trouble)
        | Outcome::Closed(trouble)
        | Outcome::Failed(trouble)
        | Outcome::Uncertain(trouble) => Some(trouble),
    }
}

/// A trouble in one line: `HTTP 403, message_send_error: message send reach limit`.
fn told(trouble: &Trouble) -> String {
    match (trouble.status, &trouble.code) {
        (Some(status), Some(code)) => format!("HTTP {status}, {code}: {}", trouble.text),
        (Some(status), None) => format!("HTTP {status}: {}", trouble.text),
        (None, Some(code)) => format!("{code}: {}", trouble.text),
        (None, None) => trouble.text.clone(),
    }
}

fn error(outcome: &Outcome) -> String {
    trouble(outcome).map(told).unwrap_or_default()
}

/// Writes a try into the job's history. A try that may have been delivered marks all later ones.
fn remember(job: &mut super::job::Job, outcome: &Outcome, at: Wall) {
    job.returned(trouble(outcome), at);
    job.maybe_sent |= matches!(outcome, Outcome::Uncertain(_));
}
