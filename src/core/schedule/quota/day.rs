//! Calls of a UTC day.

use std::time::Duration;

use crate::core::time::{Mono, Wall};

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
            self.shrink(slots);
        }
        self.share = slots;
    }

    /// The day has so many calls from now on. Fewer hold at once: what is left is what the smaller part
    /// leaves beside all calls known of. More are ours when [`Day::set_share`] says so.
    pub fn set_limit(&mut self, limit: u32) {
        let before = u64::from(std::mem::replace(&mut self.limit, limit).max(1));
        if u64::from(limit) < before {
            let part = u64::from(self.share) * u64::from(limit) / before;
            let part = u32::try_from(part).expect("less than the share before");
            self.shrink(part);
            (self.share, self.left) = (part, self.left.min(part.saturating_sub(self.calls)));
        }
    }

    fn shrink(&mut self, slots: u32) {
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

#[cfg(test)]
mod tests {
    use super::*;

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

    const NOON: Wall = Wall(MIDNIGHT.0 + 43_200_000);

    /// One more call, counted and made.
    fn call(day: &mut Day, now: Wall) -> bool {
        if day.ask(now).is_none() {
            return false;
        }
        day.written(now);
        assert!(day.granted(now));
        day.spend();
        true
    }

    #[test]
    fn a_share_of_the_day_grows_by_what_the_table_leaves_of_it() {
        let mut day = Day::new(10);
        day.set_share(0, Mono(0));
        day.set_share(5, Mono(7));
        day.restore(5, 1, None);
        assert!(day.is_used_up(NOON), "what is gained waits for a look at the table");
        assert!(!day.begin_recount(Mono(6)) && day.begin_recount(Mono(7)) && !day.begin_recount(Mono(8)));
        assert!(day.restore(5, 3, None));
        assert!(call(&mut day, NOON) && call(&mut day, NOON) && !call(&mut day, NOON), "five without three");
        day.set_share(10, Mono(9));
        assert!(!call(&mut day, NOON) && day.begin_recount(Mono(9)));
        day.set_share(7, Mono(9));
        assert!(day.restore(5, 6, None));
        assert!(call(&mut day, NOON) && !call(&mut day, NOON), "it shrank while the table was read");
        assert_eq!(day.ask(NOON + Duration::from_secs(86_400)), Some((6, 1)), "the next day has its share");
    }

    #[test]
    fn a_smaller_day_holds_at_once_and_a_larger_one_after_a_look_at_the_table() {
        let mut day = Day::new(100);
        day.restore(5, 0, None);
        (0..20).for_each(|_| assert!(call(&mut day, NOON)));
        day.set_limit(21);
        assert!(call(&mut day, NOON) && !call(&mut day, NOON), "twenty were made before");
        day.set_limit(40);
        assert!(!call(&mut day, NOON), "nobody said whose they are");
        day.set_share(40, Mono(3));
        assert!(!call(&mut day, NOON) && day.begin_recount(Mono(3)));
        assert!(day.restore(5, 21, None));
        (0..19).for_each(|_| assert!(call(&mut day, NOON)));
        assert!(!call(&mut day, NOON), "forty in all");
    }

    #[test]
    fn replicas_of_a_smaller_day_stay_within_it_together() {
        let mut replicas = [Day::new(100), Day::new(100)];
        let mut made = 0;
        for day in &mut replicas {
            day.set_share(50, Mono(0));
            day.restore(5, 0, None);
            (0..20).for_each(|_| made += u32::from(call(day, NOON)));
            day.set_limit(60);
            day.set_share(30, Mono(0));
        }
        for day in &mut replicas {
            while call(day, NOON) {
                made += 1;
            }
        }
        assert_eq!(made, 60);
    }

    #[test]
    fn a_call_whose_slot_was_taken_is_not_made() {
        let mut day = Day::new(10);
        day.restore(5, 0, None);
        assert!(day.ask(NOON).is_some());
        day.set_share(1, Mono(0));
        day.written(NOON);
        assert!(!day.granted(NOON), "its count was being written");
        assert!(day.ask(NOON).is_some());
        day.written(NOON);
        day.set_share(0, Mono(0));
        assert!(!day.granted(NOON) && day.is_used_up(NOON) && day.is_shut());
    }

    #[test]
    fn a_call_that_waited_is_written_anew_and_not_counted_twice() {
        let mut day = Day::new(2);
        day.restore(5, 0, None);
        assert_eq!(day.ask(NOON), Some((5, 1)));
        day.written(NOON);
        let later = NOON + STALE + Duration::from_millis(1);
        assert!(!day.granted(later));
        assert_eq!(day.ask(later), Some((5, 1)));
    }

    #[test]
    fn a_share_that_stays_as_it_was_changes_nothing() {
        let mut day = Day::new(10);
        day.restore(5, 0, None);
        assert!(day.ask(NOON).is_some());
        day.written(NOON);
        day.set_share(10, Mono(1));
        day.set_limit(10);
        assert!(day.granted(NOON), "the call that was counted is still to be made");
        assert!(!day.begin_recount(Mono(1)), "nothing was gained");
    }

    #[test]
    fn calls_that_others_made_late_may_all_count_for_the_next_day() {
        for (last, left) in [(30, false), (60, false), (61, true), (43_200, true)] {
            let mut day = Day::new(2);
            day.restore(4, 2, Some(Wall(MIDNIGHT.0 - last * 1_000)));
            assert_eq!(day.ask(MIDNIGHT).is_some(), left, "the last one {last} s before midnight");
        }
    }

    #[test]
    fn a_table_that_was_read_before_our_last_calls_forgets_none_of_them() {
        let mut day = Day::new(2);
        day.restore(5, 0, None);
        assert!(call(&mut day, NOON) && call(&mut day, NOON));
        day.restore(5, 0, None);
        assert!(day.is_used_up(NOON));
    }

    #[test]
    fn a_granted_call_may_wait_for_as_long_as_its_row_is_right() {
        let mut day = Day::new(2);
        day.restore(5, 0, None);
        assert!(day.ask(NOON).is_some());
        day.written(NOON);
        assert!(day.granted(NOON + STALE));
    }
}
