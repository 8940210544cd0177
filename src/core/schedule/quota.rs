//! Quota slots: how many calls or messages may go out now so that no window, as the provider counts
//! it, ever carries more than the account may send.
//!
//! The provider counts a call somewhere between our sending and its answer. A slot is therefore
//! taken when the call leaves and given back one period after its *answer*: whatever the network
//! does, two calls in one slot are counted more than a period apart.

mod day;

use std::collections::VecDeque;
use std::time::Duration;

use super::spare::Allowed;
use crate::core::model::Path;
use crate::core::share::{Growth, Share};
use crate::core::time::{Mono, Wall};

pub use self::day::{Day, LATE};

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
        self.shrink(slots);
        let (after, last) = self.growths.back().copied().unwrap_or((Mono(0), self.share));
        if slots > last {
            let at = now + growth.wait(self.period, timeout);
            self.growths.push_back((at.max(after), slots));
        }
    }

    /// There are so many slots from now on. Fewer hold at once; more are ours when
    /// [`Slots::set_share`] says so.
    pub fn set_limit(&mut self, limit: u32) {
        self.limit = limit;
        self.shrink(limit);
    }

    /// At most so many are ours, now and later.
    fn shrink(&mut self, slots: u32) {
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

    /// Whether more than the part that the background leaves are free at `now`.
    fn is_ample(&mut self, now: Mono) -> bool {
        self.free(now) > self.share / KEPT_FREE
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

/// Of the slots of each quota that are ours, the background leaves this part free: live traffic comes in
/// bursts, and finds them at once. Free slots count, not calls: while the provider takes its time, each
/// call holds its slot for longer, and fewer calls use them all.
const KEPT_FREE: u32 = 10;

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

    /// The quotas of this path are these from now on: smaller ones at once, of larger ones what is
    /// gained waits for [`Quota::set_share`]. Which ones there are does not change.
    pub fn set_limits(&mut self, of: &crate::core::provider::PathQuota) {
        self.calls.set_limit(of.calls_per_second);
        if let (Some(slots), Some(limit)) = (&mut self.messages, of.messages_per_second) {
            slots.set_limit(limit);
        }
        if let (Some(slots), Some(limit)) = (&mut self.minute, of.calls_per_minute) {
            slots.set_limit(limit);
        }
        if let (Some(day), Some(limit)) = (&mut self.day, of.calls_per_day) {
            day.set_limit(limit);
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

    /// Whether a call of the background may take a slot: a part stays free for live messages.
    pub fn is_ample(&mut self, now: Mono) -> bool {
        self.second_and_minute().all(|slots| slots.is_ample(now))
    }

    /// When [`Quota::is_ample`] may say so, if time alone can bring that.
    pub fn next_ample(&mut self, now: Mono) -> Option<Mono> {
        let mut next = None;
        for slots in self.second_and_minute() {
            if !slots.is_ample(now) {
                next = next.max(slots.next_free());
            }
        }
        next
    }

    fn second_and_minute(&mut self) -> impl Iterator<Item = &mut Slots> {
        [Some(&mut self.calls), self.messages.as_mut(), self.minute.as_mut()].into_iter().flatten()
    }

    /// What of it is ours.
    pub fn allowed(&self) -> Allowed {
        Allowed {
            calls: self.calls.share(),
            messages: self.messages.as_ref().map(Slots::share),
            minute: self.minute.as_ref().map(Slots::share),
        }
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
        for slots in self.second_and_minute() {
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
            // Before the first look nothing was sent from here; before a later one it may have been, since
            // the table was read.
            if is_recount { slots.hasten() } else { slots.forget() }
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

    #[test]
    fn a_look_at_an_empty_table_forgets_no_call_of_our_own() {
        let of = crate::core::provider::PathQuota {
            calls_per_second: 10,
            messages_per_second: None,
            calls_per_minute: Some(10),
            calls_per_day: Some(100),
        };
        let limits = crate::core::provider::Limits {
            rooms_per_call: 1,
            messages_per_call: 1,
            drops_repeats: true,
            paths: [of; 3],
            room_messages_per_second: 1,
            room_high_per_second: None,
        };
        let quotas = crate::core::share::Quotas::new(&limits, false);
        let mut quota = Quota::new(&of, at(0));
        let share = |quota: &mut Quota, share: &Share, ms| {
            quota.set_share(share, Path::Broadcast, Growth::Fresh, TIMEOUT, at(ms));
        };
        share(&mut quota, &quotas.fixed(2), 0);
        quota.restore(0, 0, None);
        share(&mut quota, &quotas.whole(), 2_000);
        assert!(quota.day.as_mut().is_some_and(|day| day.begin_recount(at(4_000))));
        let day = quota.day.as_mut().expect("it has one");
        assert_eq!(day.ask(Wall(4_000)), Some((0, 1)));
        day.written(Wall(4_000));
        quota.take(1);
        quota.give_back(1, at(4_100));
        quota.restore(0, 1, None);
        let minute = quota.minute.as_mut().expect("it has one");
        assert_eq!((minute.share(), minute.free(at(10_000))), (10, 9), "all are ours, and one is taken");
    }

    const TIMEOUT: Duration = Duration::from_secs(2);

    fn shared(slots: u32) -> Slots {
        let mut of = Slots::new(10, SECOND, at(0));
        of.set_share(slots, Growth::Fresh, TIMEOUT, at(0));
        of
    }

    #[test]
    fn a_share_shrinks_at_once_and_what_is_away_beyond_it_is_not_followed() {
        let mut slots = shared(10);
        slots.take(6);
        slots.set_share(4, Growth::Handed, TIMEOUT, at(100));
        assert_eq!((slots.free(at(100)), slots.share()), (0, 4));
        slots.give_back(3, at(200));
        assert_eq!(slots.free(at(1_205)), 1, "three are away still");
        slots.give_back(3, at(1_300));
        assert_eq!(slots.free(at(2_305)), 4);
    }

    #[test]
    fn a_share_grows_when_its_former_holder_is_counted_no_longer() {
        let mut slots = shared(0);
        assert_eq!((slots.free(at(9)), slots.next_free(), slots.is_shut()), (0, None, true));
        slots.set_share(3, Growth::Handed, TIMEOUT, at(0));
        slots.set_share(8, Growth::Handed, TIMEOUT, at(1_000));
        slots.set_share(5, Growth::Handed, TIMEOUT, at(1_500));
        assert_eq!(slots.next_free(), Some(at(3_250)), "a period, the time limit and a quarter of a second");
        assert_eq!((slots.free(at(3_249)), slots.free(at(3_250))), (0, 3));
        assert_eq!((slots.free(at(4_249)), slots.free(at(4_250))), (3, 5), "not what was taken back");
        slots.set_share(5, Growth::Handed, TIMEOUT, at(5_000));
        assert_eq!(slots.free(at(5_000)), 5, "what is told again is no growth");
        slots.set_share(99, Growth::Fresh, TIMEOUT, at(5_000));
        assert_eq!((slots.free(at(6_249)), slots.free(at(6_250))), (5, 10), "never more than the quota");
    }

    #[test]
    fn growth_that_is_taken_back_and_given_again_waits_again() {
        let mut slots = shared(2);
        slots.set_share(6, Growth::Handed, TIMEOUT, at(0));
        slots.set_share(2, Growth::Handed, TIMEOUT, at(1_000));
        slots.set_share(6, Growth::Handed, TIMEOUT, at(2_000));
        assert_eq!((slots.free(at(5_249)), slots.free(at(5_250))), (2, 6));
        slots.set_share(8, Growth::Handed, TIMEOUT, at(6_000));
        slots.set_share(10, Growth::Fresh, TIMEOUT, at(6_000));
        assert_eq!(
            (slots.free(at(9_249)), slots.free(at(9_250))),
            (6, 10),
            "the longer wait counts for both"
        );
    }

    #[test]
    fn what_is_nobodys_brings_no_time() {
        let mut slots = Slots::new(2, SECOND, at(1_250));
        slots.set_share(0, Growth::Fresh, SECOND, at(0));
        assert!(slots.is_shut());
        assert_eq!(slots.next_free(), None, "time alone brings none");
        slots.take(1);
        assert_eq!((slots.away(), slots.limit(), slots.share()), (1, 2, 0));
    }

    #[test]
    fn a_path_is_shut_when_one_of_its_quotas_is_nobodys() {
        let of = crate::core::provider::PathQuota {
            calls_per_second: 10,
            messages_per_second: Some(10),
            calls_per_minute: Some(10),
            calls_per_day: Some(100),
        };
        let open = || Quota::new(&of, at(0));
        assert!(!open().is_shut());
        let none = |slots: &mut Slots| slots.set_share(0, Growth::Fresh, SECOND, at(0));
        let (mut calls, mut messages, mut minute, mut day) = (open(), open(), open(), open());
        none(&mut calls.calls);
        none(messages.messages.as_mut().unwrap());
        none(minute.minute.as_mut().unwrap());
        day.day.as_mut().unwrap().set_share(0, at(0));
        assert!(calls.is_shut() && messages.is_shut() && minute.is_shut() && day.is_shut());
    }
}
