//! Who goes next: the turn of priorities, calls with their company, and the times to wake at.

use std::sync::Arc;

use smallvec::SmallVec;

use super::ahead;
use super::gate::Pass;
use super::lane::path_index;
use super::login::Access;
use super::outcome::SLOT_BITS;
use super::spare::Spare;
use super::{Attempt, Away, Effect, Items, PathState, Scheduler};
use crate::core::model::{AccountId, AttemptId, Path, Priority};
use crate::core::provider::{Item, Session};
use crate::core::time::{Mono, Now};

/// Turns of high, normal and low in one round. Never strict: every priority that waits gets its part.
const WEIGHTS: [u8; 3] = [8, 3, 1];
/// Whose turn it is among the priorities of one path.
#[derive(Debug)]
pub struct Turn {
    left: [u8; 3],
    /// Of the last probe.
    probed: Priority,
}

impl Default for Turn {
    fn default() -> Self {
        Self { left: WEIGHTS, probed: Priority::Background }
    }
}

impl Turn {
    /// The priority to serve, of those that have somebody ready; `None` when none has. The background
    /// is ready only when its time has come ([`super::spare`]), and then it goes first.
    fn next(&mut self, ready: impl Fn(Priority) -> bool) -> Option<Priority> {
        if ready(Priority::Background) {
            return Some(Priority::Background);
        }
        let live = [Priority::High, Priority::Normal, Priority::Low];
        if !live.iter().any(|&priority| ready(priority) && self.left[priority as usize] > 0) {
            self.left = WEIGHTS;
        }
        let next = live.into_iter().find(|&priority| ready(priority) && self.left[priority as usize] > 0)?;
        self.left[next as usize] -= 1;
        Some(next)
    }

    /// The priority to probe a gate with: each in its turn, whatever their weights, so that a message
    /// that is refused itself does not speak for all others.
    fn probe(&mut self, ready: impl Fn(Priority) -> bool) -> Option<Priority> {
        let after = Priority::ALL.into_iter().cycle().skip(self.probed as usize + 1);
        self.probed = after.take(Priority::ALL.len()).find(|&priority| ready(priority))?;
        Some(self.probed)
    }
}

impl PathState {
    /// When a call of the background may leave: with what live traffic leaves, of calls and of slots; and
    /// whatever live traffic does, with what is the background's in any case.
    fn background_due(&mut self, live_waits: bool, now: Mono) -> Mono {
        let least = self.spare.due(true);
        if live_waits {
            return least;
        }
        let even = self.spare.due(false);
        if self.quota.is_ample(now) {
            return even;
        }
        self.quota.next_ample(now).map_or(least, |ample| even.max(ample).min(least))
    }
}

impl Scheduler {
    /// What is to be done next; `None` when nothing is until the next `handle_*` or
    /// [`Scheduler::poll_wake`]. Effects come in an order that may be relied on: a record is settled
    /// after its letters were asked for, a partition is released after its records were settled.
    pub fn poll_effect(&mut self, now: Now) -> Option<Effect> {
        if let Some(effect) = self.next_effect(now.mono) {
            return Some(effect);
        }
        self.lanes.turn(now.mono);
        self.expire(now.mono);
        // What waits for its key when the process ends comes again: it is no letter.
        if !self.stopped {
            self.expire_waits(now.mono);
        }
        if self.shares_due <= now.mono {
            self.turn_shares(now.mono);
        }
        self.end_floods(now.mono);
        if let Some(effect) = self.next_effect(now.mono) {
            return Some(effect);
        }
        if self.stopped {
            return None;
        }
        for index in 0..self.accounts.len() {
            let account = AccountId(u16::try_from(index).expect("an account has a 16-bit id"));
            if self.accounts[index].login.begin(now.mono) {
                return Some(Effect::Login(account));
            }
            for path in Path::ALL {
                let effect = self.try_call(account, path, now);
                if effect.is_some() {
                    return effect;
                }
            }
        }
        None
    }

    /// When [`Scheduler::poll_effect`] is to be asked again if nothing happens before.
    pub fn poll_wake(&mut self, now: Now) -> Option<Mono> {
        let mut wake = earliest(self.lanes.wake(), self.expiries.first().map(|&(at, _)| at));
        if self.stopped {
            return wake;
        }
        wake = earliest(earliest(wake, self.unrouted.wake()), self.flood.wake());
        for (index, account) in self.accounts.iter_mut().enumerate() {
            wake = earliest(wake, account.login.wake());
            for path in Path::ALL {
                let place = index * Path::ALL.len() + path as usize;
                let ready = Priority::ALL.map(|priority| self.lanes.has_ready(place, priority));
                if account.login.is_held() || !ready.contains(&true) {
                    continue;
                }
                let state = &mut account.paths[path as usize];
                let live_waits = ready[..Priority::Background as usize].contains(&true);
                let due = (!live_waits).then(|| state.background_due(false, now.mono));
                match state.gate.pass(now.mono) {
                    Pass::Shut => wake = earliest(wake, state.gate.opens_at()),
                    Pass::Free if due.is_some_and(|due| due > now.mono) => wake = earliest(wake, due),
                    Pass::Free | Pass::Probe => {
                        wake = earliest(wake, state.quota.next_free(now.mono));
                        if state.quota.day.as_ref().is_some_and(|day| day.is_used_up(now.wall)) {
                            wake = earliest(wake, Some(now.mono + now.wall.until_next_utc_day()));
                        }
                    }
                }
            }
        }
        wake
    }

    /// What was decided already.
    fn next_effect(&mut self, now: Mono) -> Option<Effect> {
        let effect = self.effects.pop_front()?;
        if let Effect::Bury(_, letter) = &effect {
            self.guard(letter, now);
        }
        Some(effect)
    }

    /// Ends the messages whose time is over and that no call carries.
    fn expire(&mut self, now: Mono) {
        while let Some(&(at, job)) = self.expiries.first() {
            if at > now {
                return;
            }
            self.expiries.pop_first();
            // One that is away is judged by its answer first.
            if !self.lanes.job(job).away {
                self.finish_expired(job, now);
            }
        }
    }

    fn try_call(&mut self, account: AccountId, path: Path, now: Now) -> Option<Effect> {
        let place = path_index(account, path);
        let mut ready = Priority::ALL.map(|priority| self.lanes.has_ready(place, priority));
        if !ready.contains(&true) {
            return None;
        }
        let state = &mut self.accounts[usize::from(account.0)];
        let Access::Granted(session) = state.login.access() else { return None };
        let state = &mut state.paths[path as usize];
        let pass = state.gate.pass(now.mono);
        if pass == Pass::Shut {
            return None;
        }
        let live_waits = ready[..Priority::Background as usize].contains(&true);
        if ready[Priority::Background as usize]
            && pass == Pass::Free
            && state.background_due(live_waits, now.mono) > now.mono
        {
            ready[Priority::Background as usize] = false;
            if !ready.contains(&true) {
                return None;
            }
        }
        let most = state.quota.room_for(now.mono);
        if most == 0 {
            return None;
        }
        if let Some(day) = state.quota.day.as_mut()
            && !day.granted(now.wall)
        {
            let (utc_day, calls) = day.ask(now.wall)?;
            return Some(Effect::Count { account, path, utc_day, calls });
        }
        if pass == Pass::Probe
            && let Some(first) = self.probe_with(account, path, now.mono)
        {
            return Some(self.call(first, most, pass, session, now));
        }
        loop {
            let state = &mut self.accounts[usize::from(account.0)].paths[path as usize];
            let is_ready = |priority: Priority| ready[priority as usize];
            let priority = match pass {
                Pass::Probe => state.turn.probe(is_ready)?,
                Pass::Free | Pass::Shut => state.turn.next(is_ready)?,
            };
            match self.lanes.next_ready(place, priority, now.mono) {
                Some(first) => {
                    let call = self.call(first, most, pass, session, now);
                    self.look_ahead(place, priority);
                    return Some(call);
                }
                // Those that stood there wait for their rooms' pace by now.
                None => ready[priority as usize] = false,
            }
        }
    }

    /// A message that was never tried, to probe a gate with; the priorities take turns.
    fn probe_with(&mut self, account: AccountId, path: Path, now: Mono) -> Option<u32> {
        let place = path_index(account, path);
        let untried = Priority::ALL.map(|priority| self.lanes.untried(place, priority, now));
        let turn = &mut self.accounts[usize::from(account.0)].paths[path as usize].turn;
        untried[turn.probe(|priority| untried[priority as usize].is_some())? as usize]
    }

    /// Asks for the memory of what will be called out soon.
    fn look_ahead(&mut self, place: usize, priority: Priority) {
        self.lanes.look_ahead(place, priority, |job| {
            self.held.expect(job.group, job.record);
            ahead::fetch_shared(&job.message.room.0);
            ahead::fetch_shared(&job.message.content);
        });
    }

    /// Makes the call that carries `first` and whatever may go with it.
    fn call(&mut self, first: u32, most: u32, pass: Pass, session: Option<Arc<Session>>, now: Now) -> Effect {
        let message = &self.lanes.job(first).message;
        let (account, path) = (message.account, message.path);
        let background = message.priority == Priority::Background;
        let state = &mut self.accounts[usize::from(account.0)].paths[path as usize];
        let most = if background { most.min(Spare::company(state.quota.allowed())) } else { most };
        let jobs = if pass == Pass::Probe {
            SmallVec::from_slice(&[first])
        } else {
            self.company(first, most, now.mono)
        };
        self.lanes.sent(&jobs);
        let slot = self.attempts.vacant_key();
        self.made += 1;
        let id = AttemptId((self.made << SLOT_BITS) | slot as u64);
        let state = &mut self.accounts[usize::from(account.0)].paths[path as usize];
        let messages = u32::try_from(jobs.len()).expect("a call carries few messages");
        state.quota.take(messages);
        match background {
            true => state.spare.background(state.quota.allowed(), now.mono),
            false => state.spare.live(messages, now.mono),
        }
        state.calls += 1;
        if pass == Pass::Probe {
            state.gate.probing(id);
        }
        let accepted = state.accepted;
        let mut items = Items::new();
        for &key in &jobs {
            let job = self.lanes.job_mut(key);
            if job.attempts == 0 {
                job.accepted_mark = accepted;
            }
            job.leaves(now.wall);
            items.push(Item {
                room: job.message.room.clone(),
                id: job.message.id,
                content: Arc::clone(&job.message.content),
                resend: job.maybe_sent,
            });
            self.held.leaves(job.record);
        }
        self.attempts.insert(Away { id, account, path, jobs, session: session.clone() });
        Effect::Send(Attempt { id, account, path, items, session })
    }

    /// The jobs of one call: siblings that head their own ready lanes, or the next ones of the lane.
    /// Nobody waits for company.
    fn company(&mut self, first: u32, most: u32, now: Mono) -> SmallVec<[u32; 2]> {
        let mut jobs = SmallVec::from_slice(&[first]);
        let job = self.lanes.job(first);
        let limits = &self.settings.accounts[usize::from(job.message.account.0)].limits;
        if job.message.path != Path::Room || job.alone {
            return jobs;
        }
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        if limits.rooms_per_call > 1 {
            let (group, most) = (job.group, most.min(limits.rooms_per_call));
            for &other in &self.held.groups[group as usize].jobs {
                if jobs.len() >= most {
                    break;
                }
                if other != first && self.lanes.may_join(other, now) {
                    jobs.push(other);
                }
            }
        } else {
            let most = most.min(limits.messages_per_call);
            let mut last = first;
            while jobs.len() < most {
                let Some(next) = self.lanes.behind(last, jobs.len(), now) else { break };
                jobs.push(next);
                last = next;
            }
        }
        jobs
    }
}

fn earliest(one: Option<Mono>, other: Option<Mono>) -> Option<Mono> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_bed::{ACCOUNT, Bed, settings};
    use super::*;

    #[test]
    fn a_path_whose_day_is_used_up_is_woken_at_midnight_and_counts_then() {
        let mut settings = settings();
        settings.accounts[0].limits.paths[Path::Room as usize].calls_per_day = Some(2);
        let mut bed = Bed::new(settings, 1);
        let today = bed.now.wall.utc_day();
        bed.scheduler.restore_count(ACCOUNT, Path::Room, today, 2, None);
        bed.one("r", "x", None);
        let left = bed.now.wall.until_next_utc_day();
        assert_eq!(bed.scheduler.poll_wake(bed.now), Some(bed.now.mono + left));
        let midnight = Now { mono: bed.now.mono + left, wall: bed.now.wall + left };
        let effect = bed.scheduler.poll_effect(midnight);
        let Some(Effect::Count { utc_day, calls, .. }) = effect else { panic!("{effect:?}") };
        assert_eq!((utc_day, calls), (today + 1, 1));
    }

    #[test]
    fn whichever_account_waits_for_a_slot_is_woken_when_it_comes_back() {
        use crate::core::model::Message;
        let mut settings = settings();
        settings.accounts[0].limits.paths[Path::Broadcast as usize].calls_per_second = 1;
        settings.accounts = vec![settings.accounts[0].clone(); 3];
        for account in [0, 1, 2].map(AccountId) {
            let mut bed = Bed::new(settings.clone(), 1);
            for text in ["x", "y"] {
                let message = super::super::test_bed::message("", text, None);
                bed.record(0, vec![Message { account, path: Path::Broadcast, ..message }]);
            }
            bed.answer(&super::super::test_bed::ACCEPTED);
            assert_eq!(bed.away.len(), 0, "{account:?}");
            let slot = bed.now.mono + std::time::Duration::from_millis(1_005);
            assert_eq!(bed.scheduler.poll_wake(bed.now), Some(slot), "{account:?}");
        }
    }

    fn shares(ready: [bool; 4], calls: usize) -> [usize; 4] {
        let mut turn = Turn::default();
        let mut served = [0; 4];
        for _ in 0..calls {
            let next = turn.next(|priority| ready[priority as usize]).expect("somebody is ready");
            served[next as usize] += 1;
        }
        served
    }

    #[test]
    fn priorities_share_by_weight_and_the_background_goes_when_its_time_has_come() {
        assert_eq!(shares([true, true, true, false], 1_200), [800, 300, 100, 0]);
        assert_eq!(shares([false, true, true, false], 400), [0, 300, 100, 0]);
        assert_eq!(shares([true, true, true, true], 1), [0, 0, 0, 1]);
        assert_eq!(Turn::default().next(|_| false), None);
    }

    #[test]
    fn probes_go_round_the_priorities() {
        let mut turn = Turn::default();
        let mut probes = |ready: [bool; 4]| turn.probe(|priority| ready[priority as usize]);
        let low = [true, false, true, false];
        assert_eq!([probes(low), probes(low), probes(low)].map(Option::unwrap), {
            [Priority::High, Priority::Low, Priority::High]
        });
        assert_eq!(probes([true, true, true, true]), Some(Priority::Normal));
        assert_eq!(
            (probes([false; 4]), probes([false, false, false, true])),
            (None, Some(Priority::Background))
        );
    }
}
