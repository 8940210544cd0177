//! The verdict on a run: what the simulators logged, beside what was produced and when daemons were
//! killed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::bed::{CALLS_PER_SECOND, Providers, ROOM_PER_SECOND};
use super::load::{self, Event};
use super::support::oracle::{self, Owed};
use super::support::provider::{Entry, Kind};

/// Both providers, in the order of a [`Moment`].
const BOTH: [Kind; 2] = [Kind::Yunxin, Kind::Easemob];

/// When a process ended, on each simulator's own clock (nanoseconds): its last acceptance by then.
#[derive(Clone, Copy, Debug)]
pub struct Moment([u64; 2]);

/// A call of a dead process may be read this long after its death by a simulator on a busy machine.
/// Nothing of its successor arrives so early: its quotas are held for longer.
const LATE: u64 = 500_000_000;

impl Moment {
    /// Now.
    pub fn now(providers: &Providers) -> Self {
        Self(BOTH.map(|kind| providers.of(kind).stats()["last_accepted_ns"].as_u64().unwrap_or(0)))
    }
}

/// What was finished longer ago than this when its process was killed must not be posted again (P9):
/// the commit's second, and what a busy machine adds until the broker has taken it.
const COMMITTED: Duration = Duration::from_secs(3);

/// What was posted again after one end of a process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Repeats {
    /// How many.
    pub count: usize,
    /// How long before the end the oldest of them had been accepted.
    pub oldest: Duration,
}

/// P1 to P4, and nothing else accepted or refused. Answers with both logs.
#[track_caller]
pub fn assert_promises(events: &[Event], providers: &Providers) -> [Vec<Entry>; 2] {
    let (logs, unmarked) = assert_all_but_marks(events, providers);
    assert_eq!(unmarked, 0, "messages posted again to Yunxin without resendFlag=1");
    logs
}

/// Nothing lost, nothing out of order, one id for one message (P1 to P3).
#[track_caller]
pub fn assert_delivered(events: &[Event], providers: &Providers) {
    for kind in BOTH {
        oracle::judge(&load::owed(events, kind), &providers.of(kind).log(), &[].into()).assert_kept();
    }
}

/// The same as [`assert_promises`], but that repeats say so: the other number is how many on Yunxin did not.
#[track_caller]
pub fn assert_all_but_marks(events: &[Event], providers: &Providers) -> ([Vec<Entry>; 2], usize) {
    let mut unmarked = 0;
    let logs = BOTH.map(|kind| {
        let provider = providers.of(kind);
        let entries = provider.log();
        let judgement = oracle::judge(&load::owed(events, kind), &entries, &[].into());
        judgement.assert_kept();
        assert!(judgement.refused.is_empty(), "{kind:?} refused {:?}", judgement.refused);
        if kind == Kind::Yunxin {
            unmarked += judgement.repeated_unmarked.len();
        }
        let stats = provider.stats();
        let at_most = |what: &str, limit: u32| {
            let most = stats.pointer(what).and_then(serde_json::Value::as_u64).unwrap_or(0);
            assert!(most <= u64::from(limit), "{kind:?}: {what} was {most}, the limit is {limit}");
        };
        at_most("/max_calls_per_second/room", CALLS_PER_SECOND * providers.shares);
        at_most("/max_messages_per_second", CALLS_PER_SECOND * providers.shares);
        at_most("/unseen/pace", 0);
        at_most("/downgraded", 0);
        at_most("/bans", 0);
        at_most("/max_room_messages_per_second", ROOM_PER_SECOND * providers.shares);
        assert_eq!(stats["refused"], serde_json::json!({}), "{kind:?} refused calls");
        entries
    });
    (logs, unmarked)
}

/// What a group has committed: offset and metadata, by partition.
pub type Committed = BTreeMap<i32, (i64, String)>;

/// What a group had committed when a process ended: none of it may be posted after.
#[track_caller]
pub fn assert_commits_hold(events: &[Event], logs: &[Vec<Entry>; 2], ends: &[(Moment, Committed)]) {
    let places: BTreeMap<&Owed, &Event> = events.iter().map(|event| (&event.owed, event)).collect();
    for (provider, entries) in logs.iter().enumerate() {
        for entry in entries {
            let Some(event) = Owed::find(&entry.content).and_then(|owed| places.get(&owed).copied()) else {
                continue;
            };
            for (Moment(at), committed) in
                ends.iter().take_while(|(end, _)| end.0[provider] + LATE < entry.at_ns)
            {
                let (watermark, _) = committed.get(&event.partition).cloned().unwrap_or_default();
                let token = event.owed.token();
                assert!(
                    event.offset >= watermark,
                    "{token} was posted {} ns after its commit ({watermark} in partition {})",
                    entry.at_ns - at[provider],
                    event.partition
                );
            }
        }
    }
}

/// What was posted again after each end of a process (P9). A repeat without an end of a process in
/// between fails the test.
#[track_caller]
pub fn repeats(logs: &[Vec<Entry>; 2], ends: &[Moment]) -> Vec<Repeats> {
    let mut found = vec![Repeats::default(); ends.len()];
    for (provider, entries) in logs.iter().enumerate() {
        let mut before: BTreeMap<Owed, u64> = BTreeMap::new();
        for entry in entries.iter().filter(|entry| entry.accepted) {
            let Some(event) = Owed::find(&entry.content) else { continue };
            let Some(earlier) = before.insert(event.clone(), entry.at_ns) else { continue };
            // The end of the process that had posted it: the first one after the earlier acceptance.
            let ended = |Moment(at): &Moment| earlier <= at[provider] + LATE && at[provider] < entry.at_ns;
            let end = ends.iter().position(ended);
            let end = end.unwrap_or_else(|| panic!("{} was posted twice by one process", event.token()));
            let age = Duration::from_nanos(ends[end].0[provider].saturating_sub(earlier));
            found[end].count += 1;
            found[end].oldest = found[end].oldest.max(age);
        }
    }
    found
}

/// Tells what was posted again, and that none of it had been finished for long.
#[expect(clippy::print_stderr, reason = "how much is posted again is a figure worth seeing")]
#[track_caller]
pub fn assert_few(name: &str, repeats: &[Repeats]) {
    for (end, Repeats { count, oldest }) in repeats.iter().enumerate() {
        eprintln!("{name}, end {}: {count} posted again, the oldest {oldest:?} old", end + 1);
    }
    for (end, Repeats { oldest, .. }) in repeats.iter().enumerate() {
        assert!(*oldest <= COMMITTED, "{name}, end {}: the oldest repeat was {oldest:?} old", end + 1);
    }
}

/// Tells how much was posted again where no process ended: at most the calls that were away each of
/// the `outages` times when the daemon lost what it read.
#[expect(clippy::print_stderr, reason = "how much is posted again is a figure worth seeing")]
#[track_caller]
pub fn assert_few_in_outages(name: &str, events: &[Event], logs: &[Vec<Entry>; 2], outages: usize) {
    let rooms: BTreeSet<_> = events.iter().map(|event| (event.room(), event.high)).collect();
    let accepted: usize =
        logs.iter().flatten().filter(|entry| entry.accepted && entry.room.is_some()).count();
    let repeats = accepted - events.len();
    eprintln!("{name}: {repeats} posted again of {}", events.len());
    assert!(repeats <= outages * rooms.len(), "{name}: {repeats} posted again in {outages} outages");
}
