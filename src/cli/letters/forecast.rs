//! What a replay would do, for people and for machines: `replay --dry-run`.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use super::lines::span;
use super::traffic::Used;
use crate::app::App;
use crate::cli::output;
use crate::core::model::{AccountId, Path};
use crate::letters::plan::{Load, Plan};

/// Rooms that are shown.
const ROOMS: usize = 10;

/// A plan with what it takes.
pub struct Forecast<'a> {
    /// The accounts.
    pub app: &'a App,
    /// What would be done.
    pub plan: &'a Plan,
    /// What live traffic uses, or why that is not known.
    pub used: &'a Result<Used, String>,
    /// Whether the time-to-live is to count.
    pub keep_ttl: bool,
}

/// The rooms with the most letters, and how many letters of how many other rooms there are.
fn top(plan: &Plan) -> (Vec<(&str, u64)>, (u64, u64)) {
    let mut rooms: Vec<(&str, u64)> = plan.rooms.iter().map(|(room, count)| (&**room, *count)).collect();
    rooms.sort_by(|(one, most), (other, more)| more.cmp(most).then(one.cmp(other)));
    let rest = rooms.split_off(rooms.len().min(ROOMS));
    (rooms, (rest.iter().map(|(_, count)| count).sum(), rest.len() as u64))
}

impl Forecast<'_> {
    /// For people.
    pub fn text(&self) -> String {
        let plan = self.plan;
        let states = plan.states.iter().map(|(state, count)| format!("{count} {}", state.word()));
        let mut text = format!("{} letters are meant: {}.\n", plan.meant, list(states));
        text += &format!("{} would be asked for.\n", plan.asked);
        let row = |(what, count): (&str, u64)| vec![format!("{count:>10}"), what.to_owned()];
        if !plan.classes.is_empty() {
            text += "By class\n";
            text +=
                &output::columns(&plan.classes.iter().map(|(class, n)| row((class, *n))).collect::<Vec<_>>());
        }
        let (rooms, (rest, others)) = top(plan);
        if !rooms.is_empty() {
            let mut rows: Vec<Vec<String>> = rooms.into_iter().map(row).collect();
            if others > 0 {
                rows.push(row((&format!("{others} other rooms"), rest)));
            }
            text = text + "By room\n" + &output::columns(&rows);
        }
        for line in self.findings() {
            text += &format!("{line}\n");
        }
        for (&(account, path), load) in &plan.sent {
            text += &self.time(account, path, load);
        }
        if let (false, Err(why)) = (plan.sent.is_empty(), self.used) {
            text += &format!("What live traffic uses is not known: {why}.\n");
        }
        text + "Nothing was asked for.\n"
    }

    fn findings(&self) -> Vec<String> {
        let plan = self.plan;
        let at_least = if plan.older_is_cut { "At least " } else { "" };
        let expired =
            if self.keep_ttl { "they would not be sent" } else { "they would be sent all the same" };
        let findings = [
            (
                plan.expired,
                format!("{} are older than the time-to-live of their routes: {expired}.", plan.expired),
            ),
            (
                plan.older,
                format!(
                    "{at_least}{} are older than a record with the same key that was finished since: \
                     they would be sent after it.",
                    plan.older
                ),
            ),
            (
                plan.rooms_gone.len() as u64,
                format!("{} of the rooms are known to be gone.", plan.rooms_gone.len()),
            ),
            (
                plan.truncated + plan.gone,
                format!(
                    "{} could not keep their value: of {} it still stands where it stood, {} would stay open.",
                    plan.truncated + plan.gone,
                    plan.truncated,
                    plan.gone
                ),
            ),
            (plan.unpatched, format!("{} would stay open because the patch fails.", plan.unpatched)),
            (
                plan.failing,
                format!("{} would fail again before any call, by the routes as they are.", plan.failing),
            ),
            (plan.dropped, format!("{} are dropped by the routes as they are.", plan.dropped)),
            (
                plan.unknown,
                format!(
                    "{} take their rooms from a directory that only a daemon reads: they are not counted below.",
                    plan.unknown
                ),
            ),
            (u64::from(plan.is_limited), "There are more than --limit says.".to_owned()),
        ];
        let mut told: Vec<String> =
            findings.into_iter().filter(|(count, _)| *count > 0).map(|(_, line)| line).collect();
        if plan.older == 0 && plan.older_is_cut {
            told.push("Whether later records were finished since is not known of all letters.".to_owned());
        }
        told
    }

    /// The least and the most time, and the time now if that is known.
    fn times(&self, account: AccountId, path: Path, load: &Load) -> (f64, f64, Option<f64>) {
        let limits = self.app.accounts[usize::from(account.0)].provider.limits();
        let time = |used: f64| load.time(limits, path, used).as_secs_f64();
        let now = self.used.as_ref().ok().and_then(|used| used.get(&(account, path)));
        (time(0.0), time(1.0), now.map(|used| time(*used)))
    }

    fn time(&self, account: AccountId, path: Path, load: &Load) -> String {
        let name = &self.app.accounts[usize::from(account.0)].name;
        let (least, most, now) = self.times(account, path, load);
        let what =
            format!("Account {name} ({}): {} messages in {} calls", path.word(), load.messages, load.calls);
        match now {
            Some(now) => format!("{what}, about {} with what live traffic leaves now.\n", span(now)),
            None => format!(
                "{what}: about {} if nothing else is sent, {} if live traffic wants all of the quota.\n",
                span(least),
                span(most)
            ),
        }
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
                "account": &*self.app.accounts[usize::from(account.0)].name,
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
            "sent": sent.collect::<Vec<_>>(),
            "traffic_unknown": self.used.as_ref().err(),
        })
    }
}

fn list(parts: impl Iterator<Item = String>) -> String {
    let parts: Vec<String> = parts.collect();
    if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }
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
