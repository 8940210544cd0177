//! What live traffic leaves: when the next call of the background, which replays are, may leave.
//!
//! Free slots alone are a bad measure. Whoever takes every slot that is free has them all when live
//! traffic comes, and it waits up to a second for them. So the background's calls leave evenly over
//! time, at the rate that live traffic did not use within the last seconds, less a reserve; and
//! whatever live traffic does, at a twentieth of the quota. A live message then waits for one call of
//! the background at most.
//!
//! Calls are not slots: one is held until a period after its answer, so that a slow provider makes each
//! call cost more of them. That a part of the slots stays free for live messages is seen to by
//! `Quota::is_ample` in `quota`.

use std::time::Duration;

use crate::core::time::Mono;

/// The seconds that are looked back on.
const SECONDS: usize = 10;
/// Of what live traffic leaves, this part is left free for what comes all at once.
const RESERVE: f64 = 0.1;
/// The part of the quota that the background has in any case.
const LEAST: f64 = 0.05;
/// How far what is the background's in any case may lag behind.
const CATCHES_UP: Duration = Duration::from_secs(1);
/// Calls a second, however small the quota: one in ten minutes.
const SLOWEST: f64 = 1.0 / 600.0;

/// What was sent of late on one path, and when the background may go.
#[derive(Clone, Debug)]
pub struct Spare {
    /// Live calls and messages in each of the last seconds, in a circle.
    seconds: [(u32, u32); SECONDS],
    /// The second that is counted now.
    second: u64,
    /// When the next one may leave at the rate of what is left.
    even: Mono,
    /// When by the part that is the background's in any case. Live traffic that wants all takes the
    /// slots as they come back, many at once; so this one catches up for what it missed within a second.
    least: Mono,
}

/// What a path may send.
#[derive(Clone, Copy, Debug)]
pub struct Allowed {
    /// Calls in a second.
    pub calls: u32,
    /// Messages in a second, where they are counted apart.
    pub messages: Option<u32>,
    /// Calls in a minute, where they are counted too.
    pub minute: Option<u32>,
}

impl Default for Spare {
    fn default() -> Self {
        Self { seconds: [(0, 0); SECONDS], second: 0, even: Mono(0), least: Mono(0) }
    }
}

impl Spare {
    /// A live call with so many messages leaves.
    pub fn live(&mut self, messages: u32, now: Mono) {
        self.pass(now);
        let (calls, all) = &mut self.seconds[place(self.second)];
        *calls += 1;
        *all += messages;
    }

    /// When the background may go next. While a live message waits for a slot, live traffic leaves nothing,
    /// whatever it could use of late: only what is the background's in any case counts.
    pub fn due(&self, live_waits: bool) -> Mono {
        if live_waits { self.least } else { self.even.min(self.least) }
    }

    /// A call of the background leaves: the next one may after its part of a second.
    pub fn background(&mut self, allowed: Allowed, now: Mono) {
        self.pass(now);
        let by_minute = allowed.minute.map_or(f64::INFINITY, |calls| f64::from(calls) / 60.0);
        let quota = f64::from(allowed.calls).min(by_minute);
        let pause = |part: f64| Duration::from_secs_f64(1.0 / (quota * part).max(SLOWEST));
        self.even = now + pause(Self::part(self.used(allowed)));
        // What went beyond it is not held against it.
        self.least = self.least.max(now - CATCHES_UP).min(now) + pause(LEAST);
    }

    /// The part (0 to 1) of the quota that the background has now, as its next call will be paced.
    pub fn left(&self, allowed: Allowed, now: Mono) -> f64 {
        let mut at = self.clone();
        at.pass(now);
        Self::part(at.used(allowed))
    }

    /// The part of a quota that the background has while live traffic uses that part of it.
    pub fn part(used: f64) -> f64 {
        ((1.0 - used) * (1.0 - RESERVE)).max(LEAST)
    }

    /// How many messages a call of the background may carry, so that it uses messages as evenly as calls.
    pub fn company(allowed: Allowed) -> u32 {
        allowed.messages.map_or(u32::MAX, |messages| (messages / allowed.calls.max(1)).max(1))
    }

    /// The part of the quota that live traffic used: on the average of the last seconds, or in the
    /// fullest of them less one call, which says nothing where the quota has few.
    fn used(&self, allowed: Allowed) -> f64 {
        let calls = self.seconds.iter().map(|second| second.0);
        let messages = self.seconds.iter().map(|second| second.1);
        let of_messages = allowed.messages.map_or(0.0, |limit| part(messages, limit));
        part(calls, allowed.calls).max(of_messages).min(1.0)
    }

    /// Begins a new second where one is over.
    fn pass(&mut self, now: Mono) {
        let second = now.0 / 1_000_000_000;
        let passed = second.saturating_sub(self.second).min(SECONDS as u64);
        for over in 0..passed {
            self.seconds[place(second - over)] = (0, 0);
        }
        self.second = self.second.max(second);
    }
}

fn place(second: u64) -> usize {
    usize::try_from(second % SECONDS as u64).expect("fewer than the seconds kept")
}

fn part(seconds: impl Iterator<Item = u32> + Clone, limit: u32) -> f64 {
    let limit = f64::from(limit.max(1));
    let sum: u32 = seconds.clone().sum();
    let fullest = seconds.max().unwrap_or(0).saturating_sub(1);
    let average = f64::from(sum) / SECONDS as f64;
    average.max(f64::from(fullest)) / limit
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Allowed = Allowed { calls: 100, messages: None, minute: None };

    const fn at(ms: u64) -> Mono {
        Mono(ms * 1_000_000)
    }

    /// Calls of the background within ten seconds of so many live ones a second.
    fn calls(allowed: Allowed, live: u32) -> u32 {
        let mut spare = Spare::default();
        let mut calls = 0;
        for ms in 0..20_000 {
            let now = at(1_000_000 + ms);
            let nth = |ms: u64| u64::from(live) * ms / 1_000;
            (nth(ms)..nth(ms + 1)).for_each(|_| spare.live(1, now));
            if spare.due(false) <= now {
                spare.background(allowed, now);
                calls += u32::from(ms >= 10_000);
            }
        }
        calls
    }

    #[test]
    fn the_background_has_what_live_traffic_leaves_and_a_twentieth_at_least() {
        // Of 100 a second less a tenth; calls fall on whole milliseconds here.
        assert!((800..=900).contains(&calls(PLAIN, 0)), "{}", calls(PLAIN, 0));
        assert!((330..=460).contains(&calls(PLAIN, 50)), "{}", calls(PLAIN, 50));
        assert!((49..=51).contains(&calls(PLAIN, 100)), "{}", calls(PLAIN, 100));
        assert!((49..=51).contains(&calls(PLAIN, 200)), "more than its share changes nothing");
    }

    #[test]
    fn the_tightest_quota_counts() {
        let by_minute = Allowed { minute: Some(60), ..PLAIN };
        assert!((8..=9).contains(&calls(by_minute, 0)));
        let messages = Allowed { calls: 20, messages: Some(100), minute: None };
        assert_eq!(Spare::company(messages), 5);
        assert_eq!(Spare::company(PLAIN), u32::MAX);
        // Live calls of one message leave room in messages, not in calls.
        assert!((9..=11).contains(&calls(messages, 20)));
    }

    #[test]
    fn what_is_left_is_told_as_it_is_paced() {
        let mut spare = Spare::default();
        assert!((spare.left(PLAIN, at(5_000)) - 0.9).abs() < 1e-9, "less the reserve");
        (0..51).for_each(|_| spare.live(1, at(5_000)));
        assert!((spare.left(PLAIN, at(5_500)) - 0.45).abs() < 1e-9, "the fullest second counts");
        assert!((spare.left(PLAIN, at(16_000)) - 0.9).abs() < 1e-9, "until it is ten seconds ago");
    }

    #[test]
    fn one_live_call_of_a_small_quota_is_not_all_of_it() {
        let one = Allowed { calls: 1, messages: None, minute: None };
        let mut spare = Spare::default();
        spare.live(1, at(5_000));
        spare.background(one, at(6_000));
        let wait = spare.due(false).since(at(6_000));
        assert!(wait < Duration::from_secs(2), "{wait:?}");
    }

    /// How long after `now` the background goes once what it may catch up with is used up.
    fn pause(mut spare: Spare, allowed: Allowed, now: Mono) -> Duration {
        (0..7).for_each(|_| spare.background(allowed, now));
        spare.due(false).since(now)
    }

    #[test]
    fn a_second_counts_for_ten_and_no_longer_whatever_followed() {
        let mut spare = Spare::default();
        (0..100).for_each(|_| spare.live(1, at(5_500)));
        spare.live(1, at(7_000));
        assert_eq!(pause(spare, PLAIN, at(14_900)), Duration::from_millis(200), "a twentieth");
        let mut spare = Spare::default();
        (0..100).for_each(|_| spare.live(1, at(5_500)));
        spare.live(1, at(7_000));
        assert!(pause(spare, PLAIN, at(16_000)) < Duration::from_millis(12));
    }

    #[test]
    fn messages_count_as_many_as_a_call_carries() {
        let messages = Allowed { calls: 100, messages: Some(100), minute: None };
        let mut spare = Spare::default();
        (0..5).for_each(|_| spare.live(20, at(5_000)));
        assert_eq!(pause(spare, messages, at(5_500)), Duration::from_millis(200), "a twentieth");
    }

    #[test]
    fn what_is_long_over_does_not_count() {
        let mut spare = Spare::default();
        (0..100).for_each(|_| spare.live(1, at(500)));
        spare.background(PLAIN, at(1_000));
        assert_eq!(spare.due(false), at(200), "a second late, it catches up");
        (0..5).for_each(|_| spare.background(PLAIN, at(1_000)));
        assert_eq!(spare.due(false), at(1_200));
        spare.background(PLAIN, at(60_000));
        assert!(spare.due(false) <= at(60_012));
    }
}
