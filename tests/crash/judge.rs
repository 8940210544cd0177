//! The verdict on a run: what the simulators logged, beside what was produced and when daemons were
//! killed.

use std::collections::BTreeMap;
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

impl Moment {
    /// Now.
    pub fn now(providers: &Providers) -> Self {
        Self(BOTH.map(|kind| providers.of(kind).stats()["last_accepted_ns"].as_u64().unwrap_or(0)))
    }
}

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
    BOTH.map(|kind| {
        let provider = providers.of(kind);
        let entries = provider.log();
        let judgement = oracle::judge(&load::owed(events, kind), &entries, &[].into());
        judgement.assert_kept();
        assert!(judgement.refused.is_empty(), "{kind:?} refused {:?}", judgement.refused);
        if kind == Kind::Yunxin {
            let unmarked = judgement.repeated_unmarked;
            assert!(unmarked.is_empty(), "posted again without resendFlag=1: {unmarked:?}");
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
        if providers.shares == 1 {
            at_most("/max_room_messages_per_second", ROOM_PER_SECOND);
        }
        assert_eq!(stats["refused"], serde_json::json!({}), "{kind:?} refused calls");
        entries
    })
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
            let end = ends.iter().position(|Moment(at)| at[provider] >= earlier && at[provider] < entry.at_ns);
            let end = end.unwrap_or_else(|| panic!("{} was posted twice by one process", event.token()));
            let age = Duration::from_nanos(ends[end].0[provider] - earlier);
            found[end].count += 1;
            found[end].oldest = found[end].oldest.max(age);
        }
    }
    found
}
