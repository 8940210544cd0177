//! What a replay would do and the time that it takes: `replay --dry-run`, and `dry_run` of the API.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use super::plan::{Load, Plan};
use super::rate::Rate;
use super::today::Today;
use crate::core::model::{AccountId, Path};
use crate::core::schedule::spare::Spare;

/// Rooms that are shown.
const ROOMS: usize = 10;

/// The part (0 to 1) of its quota that a daemon gives to replays now, by account and path.
pub type Parts = BTreeMap<(AccountId, Path), f64>;

/// A plan with what it takes.
pub struct Forecast<'a> {
    /// The accounts.
    pub today: &'a Today,
    /// What would be done.
    pub plan: &'a Plan,
    /// What live traffic leaves, or why that is not known.
    pub parts: &'a Result<Parts, String>,
    /// How fast it would be asked for.
    pub rate: Option<Rate>,
    /// Whether the time-to-live is to count.
    pub keep_ttl: bool,
}

/// The rooms with the most letters, and how many letters of how many other rooms there are.
pub fn top(plan: &Plan) -> (Vec<(&str, u64)>, (u64, u64)) {
    let mut rooms: Vec<(&str, u64)> = plan.rooms.iter().map(|(room, count)| (&**room, *count)).collect();
    rooms.sort_by(|(one, most), (other, more)| more.cmp(most).then(one.cmp(other)));
    let rest = rooms.split_off(rooms.len().min(ROOMS));
    (rooms, (rest.iter().map(|(_, count)| count).sum(), rest.len() as u64))
}

impl Forecast<'_> {
    /// Seconds that sending takes: alone, beside live traffic that wants all of the quota, and beside that of now
    /// if it is known.
    pub fn times(&self, account: AccountId, path: Path, load: &Load) -> (f64, f64, Option<f64>) {
        let limits = self.today.account(account).1.limits();
        let time = |part: f64| load.time(limits, path, part).as_secs_f64();
        let now = self.parts.as_ref().ok().and_then(|parts| parts.get(&(account, path)));
        (time(Spare::part(0.0)), time(Spare::part(1.0)), now.map(|part| time(*part)))
    }

    /// Seconds that asking takes, where a rate is given.
    pub fn to_ask(&self) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        self.rate.map(|rate| rate.pause().as_secs_f64() * self.plan.asked.saturating_sub(1) as f64)
    }

    /// For machines.
    pub fn json(&self) -> Json {
        let plan = self.plan;
        let (rooms, (rest, others)) = top(plan);
        let states: BTreeMap<&str, u64> =
            plan.states.iter().map(|(state, count)| (state.word(), *count)).collect();
        let rooms: Vec<Json> =
            rooms.into_iter().map(|(room, count)| json!({ "room": room, "letters": count })).collect();
        let sent = plan.sent.iter().map(|(&(account, path), load)| {
            let (least, most, now) = self.times(account, path, load);
            json!({
                "account": self.today.account(account).0,
                "path": path.word(),
                "messages": load.messages,
                "calls": load.calls,
                "seconds_now": now,
                "seconds_alone": least,
                "seconds_beside_full_traffic": most,
            })
        });
        json!({
            "meant": plan.meant,
            "states": states,
            "would_ask": plan.asked,
            "classes": plan.classes,
            "rooms": rooms,
            "other_rooms": { "rooms": others, "letters": rest },
            "expired": plan.expired,
            "rooms_gone": plan.rooms_gone.len(),
            "truncated": { "value_there": plan.truncated, "value_gone": plan.gone },
            "older_than_a_finished_record": { "letters": plan.older, "at_least": plan.older_is_cut },
            "patch_failed": plan.unpatched,
            "fail_again": plan.failing,
            "dropped_by_routes": plan.dropped,
            "rooms_unknown": plan.unknown,
            "limited": plan.is_limited,
            "seconds_to_ask": self.to_ask(),
            "sent": sent.collect::<Vec<_>>(),
            "traffic_unknown": self.parts.as_ref().err(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_top_rooms_are_told_and_the_others_summed() {
        let rooms = (0..25_u64).map(|number| (format!("r{number:02}").into(), number)).collect();
        let plan = Plan { rooms, ..Plan::default() };
        let (shown, rest) = top(&plan);
        assert_eq!((shown.len(), shown[0], shown[9]), (10, ("r24", 24), ("r15", 15)));
        assert_eq!(rest, ((0..15).sum(), 15));
        let two = [("b".into(), 1), ("a".into(), 1)].into();
        assert_eq!(top(&Plan { rooms: two, ..Plan::default() }), (vec![("a", 1), ("b", 1)], (0, 0)));
    }
}
