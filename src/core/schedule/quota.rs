//! Quota slots: how many calls or messages may go out now so that no window, as the provider counts
//! it, ever carries more than the account may send.
//!
//! The provider counts a call somewhere between our sending and its answer. A slot is therefore
//! taken when the call leaves and given back one period after its *answer*: whatever the network
//! does, two calls in one slot are counted more than a period apart.

use std::collections::VecDeque;
use std::time::Duration;

use crate::core::model::Path;
use crate::core::share::{Growth, Share};
use crate::core::time::{Mono, Wall};

/// Added to every period: the provider's clock may tick in other places than ours.
const MARGIN: Duration = Duration::from_millis(5);

/// How long a new process leaves every slot of a second taken: what a process killed just before
/// may have sent is counted within a second, and a quarter more is for the network to lose it in.
pub const START_HOLD: Duration = Duration::from_millis(1_250);

/// The slots of one quota.
#[derive(Debug)]
pub struct Slots {
    limit: u32,
    /// How many of them are ours to use.
    share: u32,
    /// When the share grows, and to how many; both grow from front to back.
    growths: VecDeque<(Mono, u32)>,
    period: Duration,
    away: u32,
    cooling: u32,
    /// When cooling slots are free again, and how many; in order, because answers are.
    releases: VecDeque<(Mono, u32)>,
}

impl Slots {
    /// `limit` slots in any `period`, all of them taken until `free_at`.
    pub fn new(limit: u32, period: Duration, free_at: Mono) -> Self {
        Self {
            limit,
            share: limit,
            growths: VecDeque::new(),
            period,
            away: 0,
            cooling: limit,
            releases: VecDeque::from([(free_at, limit)]),
        }
    }

    /// So many slots are ours: fewer at once (what is away beyond them is not followed by more),
    /// more when whoever had them before is counted no longer.
    pub fn set_share(&mut self, slots: u32, growth: Growth, timeout: Duration, now: Mono) {
        let slots = slots.min(self.limit);
        self.grow(now);
        self.share = self.share.min(slots);
        for (_, to) in &mut self.growths {
            *to = (*to).min(slots);
        }
        // One that adds nothing any more is no growth.
        while let Some(&(_, to)) = self.growths.back()
            && to <= self.growths.iter().rev().nth(1).map_or(self.share, |&(_, before)| before)
        {
            self.growths.pop_back();
        }
        let (after, last) = self.growths.back().copied().unwrap_or((Mono(0), self.share));
        if slots > last {
            let at = now + growth.wait(self.period, timeout);
            self.growths.push_back((at.max(after), slots));
        }
    }

    /// What is gained counts from now on, as far as its time has come.
    fn grow(&mut self, now: Mono) {
        while let Some(&(at, slots)) = self.growths.front()
            && at <= now
        {
            self.growths.pop_front();
            self.share = slots;
        }
    }

    /// What is gained counts at once (the table shows that nobody sent anything).
    pub fn hasten(&mut self) {
        if let Some((_, slots)) = self.growths.pop_back() {
            self.growths.clear();
            self.share = slots;
        }
    }

    /// How many of the slots are ours to use.
    pub fn share(&self) -> u32 {
        self.share
    }

    /// Whether nothing may go out because nothing is ours, however few are taken.
    pub fn is_shut(&self) -> bool {
        self.share == 0
    }

    /// Slots that are free at `now`.
    pub fn free(&mut self, now: Mono) -> u32 {
        while let Some(&(at, count)) = self.releases.front()
            && at <= now
        {
            self.releases.pop_front();
            self.cooling -= count;
        }
        if !self.growths.is_empty() {
            self.grow(now);
        }
        self.share.saturating_sub(self.away + self.cooling)
    }

    /// Takes `count` slots; the caller has seen that they are free.
    pub fn take(&mut self, count: u32) {
        self.away += count;
    }

    /// The call that took `count` slots has answered, or its time limit has passed.
    pub fn give_back(&mut self, count: u32, now: Mono) {
        debug_assert!(self.away >= count, "slots given back that were never taken");
        self.away = self.away.saturating_sub(count);
        self.cool(count, now + self.period + MARGIN);
    }

    /// Everything that cools is free at `now` (the table shows that nothing was sent).
    pub fn forget(&mut self) {
        self.releases.clear();
        self.cooling = 0;
    }

    fn cool(&mut self, count: u32, until: Mono) {
        self.cooling += count;
        match self.releases.back_mut() {
            Some((at, more)) if *at == until => *more += count,
            _ => self.releases.push_back((until, count)),
        }
    }

    /// When the next cooling slot is free, or ours; `None` while all that is taken waits for answers,
    /// and while nothing is ours.
    pub fn next_free(&self) -> Option<Mono> {
        let cooled = self.releases.front().filter(|_| self.share > 0).map(|&(at, _)| at);
        let grown = self.growths.front().map(|&(at, _)| at);
        cooled.into_iter().chain(grown).min()
    }

    /// How many there are.
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// How many wait for an answer.
    pub fn away(&self) -> u32 {
        self.away
    }

    /// How many were answered less than a period ago.
    pub fn cooling(&self) -> u32 {
        self.cooling
    }
}

/// Calls of a UTC day. Each is written to the table before it is made, so a restart forgets none.
///
/// With a share, what all replicas may still call and what all have called stay within the limit
/// together: `left` never passes the share, and it grows only by what the table leaves of the share
/// once the slots' former holder has stopped. A replica that gains slots late in the day therefore
/// gets what the whole account has not used, at most.
#[derive(Debug)]
pub struct Day {
    limit: u32,
    /// Of the limit, this process's part.
    share: u32,
    /// The part that `left` was counted from: what is gained since waits for the table.
    basis: u32,
    state: DayState,
    /// Whether the table is to be read (again).
    recount: Recount,
    utc_day: i64,
    /// Calls known of: those of others when the table was read, and our own.
    calls: u32,
    /// Calls that we may still make.
    left: u32,
    /// Of `calls`, calls so near the end of the day that the provider may count them for the next.
    late: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DayState {
    /// The table has not been read.
    Unknown,
    /// Nothing is on its way.
    Idle,
    /// A count is being written; `false`: its slot went to another meanwhile.
    Writing(bool),
    /// A count is written, and its call not yet made.
    Granted(Wall),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Recount {
    None,
    /// The share has grown; whoever had it has stopped by then.
    At(Mono),
    /// The table is being read for a share of so many.
    Reading(u32),
}

/// A call made this shortly before midnight counts for both days: time limits and clocks differ by less.
pub const LATE: Duration = Duration::from_secs(60);
/// A call that was granted and not made for so long is counted anew: its row says when it was made.
const STALE: Duration = Duration::from_secs(5);

impl Day {
    /// At most `limit` calls a UTC day, none before the table was read.
    pub fn new(limit: u32) -> Self {
        Self {
            limit,
            share: limit,
            basis: limit,
            state: DayState::Unknown,
            recount: Recount::None,
            utc_day: i64::MIN,
            calls: 0,
            left: 0,
            late: 0,
        }
    }

    /// So many of the calls are ours: fewer at once, more when the table was read anew.
    pub fn set_share(&mut self, slots: u32, recount_at: Mono) {
        let slots = slots.min(self.limit);
        if slots > self.share {
            self.recount = Recount::At(recount_at);
        }
        if slots < self.share {
            self.left = self.left.min(slots);
            self.basis = self.basis.min(slots);
            match &mut self.state {
                DayState::Writing(ours) => *ours = false,
                state @ DayState::Granted(_) => *state = DayState::Idle,
                DayState::Unknown | DayState::Idle => {}
            }
            if let Recount::Reading(of) = &mut self.recount {
                *of = (*of).min(slots);
            }
        }
        self.share = slots;
    }

    /// Whether the table is to be read now; says so once.
    pub fn begin_recount(&mut self, now: Mono) -> bool {
        let begins = matches!(self.recount, Recount::At(at) if at <= now);
        if begins {
            self.recount = Recount::Reading(self.share);
        }
        begins
    }

    /// The table was read: `calls` were made on `utc_day`, the last one at `last`. True when it was
    /// read because the share has grown.
    pub fn restore(&mut self, utc_day: i64, calls: u32, last: Option<Wall>) -> bool {
        if self.state == DayState::Unknown {
            self.state = DayState::Idle;
        }
        let is_recount = matches!(self.recount, Recount::Reading(_));
        if let Recount::Reading(share) = self.recount {
            self.basis = self.basis.max(share.min(self.share));
            self.recount = Recount::None;
        }
        if utc_day >= self.utc_day {
            let is_same = utc_day == self.utc_day;
            self.calls = if is_same { self.calls.max(calls) } else { calls };
            self.utc_day = utc_day;
            // How many of them were late is not known: all of them, to be sure.
            self.late =
                if last.is_some_and(|last| last.until_next_utc_day() <= LATE) { self.calls } else { 0 };
            let left = self.basis.saturating_sub(self.calls);
            self.left = if is_same { self.left.max(left) } else { left };
        }
        is_recount
    }

    /// Whether a call may be made now. One that was granted yesterday must be counted anew, and one
    /// that has waited since must be written anew.
    pub fn granted(&mut self, now: Wall) -> bool {
        let DayState::Granted(at) = self.state else { return false };
        if now.utc_day() > self.utc_day {
            self.state = DayState::Idle;
        } else if at + STALE < now {
            self.state = DayState::Idle;
            (self.calls, self.left) = (self.calls.saturating_sub(1), self.left.saturating_add(1));
        }
        self.state != DayState::Idle
    }

    /// Whether the day's calls are used up. A clock that goes back does not start an older day.
    pub fn is_used_up(&self, now: Wall) -> bool {
        let left =
            if now.utc_day() > self.utc_day { self.basis.saturating_sub(self.late) } else { self.left };
        !matches!(self.state, DayState::Granted(_)) && left == 0
    }

    /// Whether nothing may go out because nothing is ours.
    pub fn is_shut(&self) -> bool {
        self.share == 0
    }

    /// The count to write before the next call, if one may be written: the day and its calls.
    pub fn ask(&mut self, now: Wall) -> Option<(i64, u32)> {
        if self.state != DayState::Idle || self.is_used_up(now) {
            return None;
        }
        if now.utc_day() > self.utc_day {
            self.left = self.basis.saturating_sub(self.late);
            (self.utc_day, self.calls, self.late) = (now.utc_day(), self.late, 0);
        }
        self.state = DayState::Writing(true);
        self.calls += 1;
        self.left -= 1;
        self.late += u32::from(now.until_next_utc_day() <= LATE);
        Some((self.utc_day, self.calls))
    }

    /// The count is written.
    pub fn written(&mut self, now: Wall) {
        match self.state {
            DayState::Writing(true) => self.state = DayState::Granted(now),
            DayState::Writing(false) => self.state = DayState::Idle,
            DayState::Unknown | DayState::Idle | DayState::Granted(_) => {}
        }
    }

    /// The call that was granted is made.
    pub fn spend(&mut self) {
        debug_assert!(matches!(self.state, DayState::Granted(_)), "a call of the day without its count");
        self.state = DayState::Idle;
    }
}

/// All quotas of one path.
#[derive(Debug)]
pub struct Quota {
    /// Calls in any second.
    pub calls: Slots,
    /// Messages in any second, where counted apart.
    pub messages: Option<Slots>,
    /// Calls in any minute.
    pub minute: Option<Slots>,
    /// Calls in a UTC day.
    pub day: Option<Day>,
}

/// A second and a minute, the periods that providers count in.
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

impl Quota {
    /// The quotas of a path, all slots taken as long as an earlier process may be counted.
    pub fn new(of: &crate::core::provider::PathQuota, now: Mono) -> Self {
        let second = |limit| Slots::new(limit, SECOND, now + START_HOLD);
        Self {
            calls: second(of.calls_per_second),
            messages: of.messages_per_second.map(second),
            minute: of.calls_per_minute.map(|limit| Slots::new(limit, MINUTE, now + MINUTE + START_HOLD)),
            day: of.calls_per_day.map(Day::new),
        }
    }

    /// What is ours of each quota of this path.
    pub fn set_share(&mut self, share: &Share, path: Path, growth: Growth, timeout: Duration, now: Mono) {
        self.calls.set_share(share.calls(path), growth, timeout, now);
        if let Some(slots) = &mut self.messages {
            slots.set_share(share.messages(path), growth, timeout, now);
        }
        if let Some(slots) = &mut self.minute {
            slots.set_share(share.minute(path), growth, timeout, now);
        }
        if let Some(day) = &mut self.day {
            day.set_share(share.day(path), now + growth.wait(SECOND, timeout));
        }
    }

    /// Whether no call may be made because nothing of some quota is ours.
    pub fn is_shut(&self) -> bool {
        [Some(&self.calls), self.messages.as_ref(), self.minute.as_ref()]
            .into_iter()
            .flatten()
            .any(Slots::is_shut)
            || self.day.as_ref().is_some_and(Day::is_shut)
    }

    /// How many messages one call may carry now; 0: no call may be made.
    pub fn room_for(&mut self, now: Mono) -> u32 {
        if self.calls.free(now) == 0 || self.minute.as_mut().is_some_and(|slots| slots.free(now) == 0) {
            return 0;
        }
        self.messages.as_mut().map_or(u32::MAX, |slots| slots.free(now))
    }

    /// A call with so many messages leaves.
    pub fn take(&mut self, messages: u32) {
        self.calls.take(1);
        if let Some(slots) = &mut self.minute {
            slots.take(1);
        }
        if let Some(slots) = &mut self.messages {
            slots.take(messages);
        }
        if let Some(day) = &mut self.day {
            day.spend();
        }
    }

    /// A call with so many messages has answered.
    pub fn give_back(&mut self, messages: u32, now: Mono) {
        self.calls.give_back(1, now);
        if let Some(slots) = &mut self.minute {
            slots.give_back(1, now);
        }
        if let Some(slots) = &mut self.messages {
            slots.give_back(messages, now);
        }
    }

    /// When [`Quota::room_for`] may say more than it does at `now`, if time alone can bring that.
    pub fn next_free(&mut self, now: Mono) -> Option<Mono> {
        let mut next = None;
        for slots in
            [Some(&mut self.calls), self.messages.as_mut(), self.minute.as_mut()].into_iter().flatten()
        {
            if slots.free(now) == 0 {
                next = next.max(slots.next_free());
            }
        }
        next
    }

    /// The table was read: `calls` were made on `utc_day`, the last one at `last`.
    pub fn restore(&mut self, utc_day: i64, calls: u32, last: Option<Wall>) {
        let is_recount = self.day.as_mut().is_some_and(|day| day.restore(utc_day, calls, last));
        // A row says that there were calls, and a wall clock that may have jumped since cannot say that they
        // are a minute old.
        if last.is_none()
            && let Some(slots) = self.minute.as_mut()
        {
            slots.forget();
            if is_recount {
                slots.hasten();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Mono {
        Mono(ms * 1_000_000)
    }

    #[test]
    fn a_slot_comes_back_one_period_after_the_answer() {
        let mut slots = Slots::new(2, SECOND, at(1_250));
        assert_eq!(slots.free(at(1_249)), 0, "a new process starts with all slots taken");
        assert_eq!(slots.free(at(1_250)), 2);
        slots.take(2);
        assert_eq!((slots.free(at(5_000)), slots.next_free()), (0, None), "no answer, no slot");
        slots.give_back(1, at(5_000));
        assert_eq!(slots.next_free(), Some(at(6_005)));
        assert_eq!(slots.free(at(6_004)), 0);
        assert_eq!(slots.free(at(6_005)), 1);
        assert_eq!((slots.away(), slots.cooling()), (1, 0));
    }

    const MIDNIGHT: Wall = Wall(86_400_000 * 5);

    #[test]
    fn a_call_of_the_day_waits_for_its_count() {
        let mut day = Day::new(2);
        assert_eq!(day.ask(MIDNIGHT), None, "the table was not read");
        day.restore(5, 1, None);
        assert_eq!(day.ask(MIDNIGHT), Some((5, 2)));
        assert_eq!(day.ask(MIDNIGHT), None, "one count at a time");
        assert!(!day.granted(MIDNIGHT));
        day.written(MIDNIGHT);
        assert!(day.granted(MIDNIGHT));
        day.spend();
        assert!(day.is_used_up(MIDNIGHT));
        assert!(day.is_used_up(Wall(MIDNIGHT.0 - 1)), "a clock that goes back brings no new day");
        assert_eq!(day.ask(MIDNIGHT + Duration::from_secs(86_400)), Some((6, 1)));
    }

    #[test]
    fn a_call_just_before_midnight_counts_for_both_days() {
        let mut day = Day::new(2);
        day.restore(4, 0, None);
        assert_eq!(day.ask(Wall(MIDNIGHT.0 - 30_000)), Some((4, 1)));
        day.written(MIDNIGHT);
        assert!(!day.granted(MIDNIGHT), "granted yesterday, not made: to be counted anew");
        assert_eq!(day.ask(MIDNIGHT), Some((5, 2)));
        day.written(MIDNIGHT);
        day.spend();
        assert!(day.is_used_up(MIDNIGHT));
    }

    #[test]
    fn a_minute_without_calls_in_the_table_is_free_at_once() {
        let of = crate::core::provider::PathQuota {
            calls_per_second: 1,
            messages_per_second: None,
            calls_per_minute: Some(10),
            calls_per_day: Some(100),
        };
        let now = at(2_000);
        let mut quota = Quota::new(&of, at(0));
        assert_eq!(quota.room_for(now), 0);
        assert_eq!(quota.next_free(now), Some(at(61_250)));
        quota.restore(0, 3, Some(Wall(900_000)));
        assert_eq!(quota.room_for(now), 0, "the clock that says how old they are may have jumped");
        quota.restore(0, 0, None);
        assert_eq!(quota.room_for(now), u32::MAX);
    }
}
