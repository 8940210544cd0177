//! Quota slots: how many calls or messages may go out now so that no window, as the provider counts
//! it, ever carries more than the account may send.
//!
//! The provider counts a call somewhere between our sending and its answer. A slot is therefore
//! taken when the call leaves and given back one period after its *answer*: whatever the network
//! does, two calls in one slot are counted more than a period apart.

use std::collections::VecDeque;
use std::time::Duration;

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
    period: Duration,
    away: u32,
    cooling: u32,
    /// When cooling slots are free again, and how many; in order, because answers are.
    releases: VecDeque<(Mono, u32)>,
}

impl Slots {
    /// `limit` slots in any `period`, all of them taken until `free_at`.
    pub fn new(limit: u32, period: Duration, free_at: Mono) -> Self {
        Self { limit, period, away: 0, cooling: limit, releases: VecDeque::from([(free_at, limit)]) }
    }

    /// Slots that are free at `now`.
    pub fn free(&mut self, now: Mono) -> u32 {
        while let Some(&(at, count)) = self.releases.front()
            && at <= now
        {
            self.releases.pop_front();
            self.cooling -= count;
        }
        self.limit.saturating_sub(self.away + self.cooling)
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

    /// When the next cooling slot is free; `None` while all that is taken waits for answers.
    pub fn next_free(&self) -> Option<Mono> {
        self.releases.front().map(|&(at, _)| at)
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
#[derive(Debug)]
pub struct Day {
    limit: u32,
    state: DayState,
    utc_day: i64,
    calls: u32,
    /// Of those, calls so near the end of the day that the provider may count them for the next.
    late: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DayState {
    /// The table has not been read.
    Unknown,
    /// Nothing is on its way.
    Idle,
    /// A count is being written.
    Writing,
    /// A count is written, and its call not yet made.
    Granted,
}

/// A call made this shortly before midnight counts for both days: time limits and clocks differ by less.
const LATE: Duration = Duration::from_secs(60);

impl Day {
    /// At most `limit` calls a UTC day, none before the table was read.
    pub fn new(limit: u32) -> Self {
        Self { limit, state: DayState::Unknown, utc_day: i64::MIN, calls: 0, late: 0 }
    }

    /// The table was read: `calls` were made on `utc_day`, the last one at `last`.
    pub fn restore(&mut self, utc_day: i64, calls: u32, last: Option<Wall>) {
        if self.state == DayState::Unknown {
            self.state = DayState::Idle;
        }
        if utc_day >= self.utc_day {
            self.calls = if utc_day == self.utc_day { self.calls.max(calls) } else { calls };
            self.utc_day = utc_day;
            // How many of them were late is not known: all of them, to be sure.
            self.late =
                if last.is_some_and(|last| last.until_next_utc_day() <= LATE) { self.calls } else { 0 };
        }
    }

    /// Whether a call may be made now. One that was granted yesterday must be counted anew.
    pub fn granted(&mut self, now: Wall) -> bool {
        if self.state == DayState::Granted && now.utc_day() > self.utc_day {
            self.state = DayState::Idle;
        }
        self.state == DayState::Granted
    }

    /// Whether the day's calls are used up. A clock that goes back does not start an older day.
    pub fn is_used_up(&self, now: Wall) -> bool {
        let calls = if now.utc_day() > self.utc_day { self.late } else { self.calls };
        self.state != DayState::Granted && calls >= self.limit
    }

    /// The count to write before the next call, if one may be written: the day and its calls.
    pub fn ask(&mut self, now: Wall) -> Option<(i64, u32)> {
        if self.state != DayState::Idle || self.is_used_up(now) {
            return None;
        }
        if now.utc_day() > self.utc_day {
            (self.utc_day, self.calls, self.late) = (now.utc_day(), self.late, 0);
        }
        self.state = DayState::Writing;
        self.calls += 1;
        self.late += u32::from(now.until_next_utc_day() <= LATE);
        Some((self.utc_day, self.calls))
    }

    /// The count is written.
    pub fn written(&mut self) {
        if self.state == DayState::Writing {
            self.state = DayState::Granted;
        }
    }

    /// The call that was granted is made.
    pub fn spend(&mut self) {
        debug_assert_eq!(self.state, DayState::Granted, "a call of the day without its count");
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
        if let Some(day) = &mut self.day {
            day.restore(utc_day, calls, last);
        }
        // A row says that there were calls, and a wall clock that may have jumped since cannot say that they
        // are a minute old.
        if last.is_none()
            && let Some(slots) = self.minute.as_mut()
        {
            slots.forget();
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
        day.written();
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
        day.written();
        assert!(!day.granted(MIDNIGHT), "granted yesterday, not made: to be counted anew");
        assert_eq!(day.ask(MIDNIGHT), Some((5, 2)));
        day.written();
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
