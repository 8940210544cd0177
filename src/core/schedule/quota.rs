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
        self.next_where(|slots| !slots.is_ample(now))
    }

    /// When the last of those slots that are short of some gets one back.
    fn next_where(&mut self, is_short: impl Fn(&mut Slots) -> bool) -> Option<Mono> {
        let mut next = None;
        for slots in self.second_and_minute() {
            if is_short(slots) {
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
        self.next_where(|slots| slots.free(now) == 0)
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
mod tests;
